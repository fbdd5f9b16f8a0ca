// What the compared runs say of the same sentences, word by word against the reference or another run.

const SENTENCES = 5; // at once

const words = (text) => text.split(/\s+/u).filter(Boolean);

/** Words as [mark, word]: "" in both, "extra" only in `said`, "missing" only in `asked`; by longest common subsequence. */
function wordDifference(asked, said) {
  const [a, b] = [words(asked), words(said)];
  const longest = Array.from({ length: a.length + 1 }, () => new Uint16Array(b.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = b.length - 1; j >= 0; j -= 1) {
      longest[i][j] = a[i] === b[j] ? longest[i + 1][j + 1] + 1 : Math.max(longest[i + 1][j], longest[i][j + 1]);
    }
  }
  const found = [];
  let [i, j] = [0, 0];
  while (i < a.length || j < b.length) {
    if (i < a.length && j < b.length && a[i] === b[j]) {
      found.push(["", a[i]]);
      i += 1;
      j += 1;
    } else if (j >= b.length || (i < a.length && longest[i + 1][j] >= longest[i][j + 1])) {
      found.push(["missing", a[i]]);
      i += 1;
    } else {
      found.push(["extra", b[j]]);
      j += 1;
    }
  }
  return found;
}

/** The differences as marked text: what is missing struck out, what is too much underlined. */
function marked(asked, said) {
  const tags = { missing: "del", extra: "ins" };
  const parts = wordDifference(asked, said).map(([mark, word]) => (mark === "" ? word : el(tags[mark], {}, word)));
  return el("span", { dir: "auto" }, ...parts.flatMap((part) => [part, " "]));
}

class Outputs {
  constructor(content) {
    Object.assign(this, { content, from: 0, against: "reference", differing: false });
  }

  async show(runs) {
    this.runs = runs.filter(({ run }) => this.content.outputs[run] !== null).slice(0, DRAWN);
    if (this.against !== "reference" && !this.runs.some(({ run }) => String(run) === this.against)) this.against = "reference";
    this.from = 0;
    await this.draw();
  }

  /** Sentences of the first run's corpus, and what each run that has the same corpus says of them. */
  async read() {
    const [first] = this.runs.map(({ run }) => this.content.outputs[run][0]);
    const same = this.runs.filter(({ run }) => this.content.outputs[run][0] === first);
    const [sources, references] = await line(first, readJson);
    const said = await Promise.all(same.map(({ run }) => line(this.content.outputs[run][1], readJson)));
    return sources.map((source, place) => ({
      number: place + 1,
      source,
      reference: references[place],
      said: same.map((one, column) => ({ ...one, text: said[column][place] })),
    }));
  }

  async draw() {
    byId("outputs").hidden = this.runs.length === 0;
    if (this.runs.length === 0) return;
    const all = await this.read();
    const sentences = this.differing ? all.filter(({ said }) => said.some(({ text }) => text !== said[0].text)) : all;
    this.controls(sentences.length, all.length);
    const left = this.runs.length - (all[0]?.said.length ?? 0);
    byId("output-list").replaceChildren(
      left > 0 ? el("p", { class: "quiet" }, `${left} of the ticked runs have another test set, and are not shown here.`) : "",
      ...sentences.slice(this.from, this.from + SENTENCES).map((sentence) => this.sentence(sentence)),
    );
  }

  controls(count, all) {
    const step = (by, text) =>
      el("button", {
        type: "button",
        disabled: this.from + by < 0 || this.from + by >= count,
        onclick: async () => {
          this.from += by;
          await this.draw();
          const again = [...byId("output-controls").querySelectorAll("button")];
          (again.find((one) => one.textContent === text && !one.disabled) ?? again.find((one) => !one.disabled))?.focus();
        },
      }, text);
    const against = [["reference", "the reference"], ...this.runs.map(({ run, name }) => [run, name])];
    const set = (key, id) => async (value) => {
      this[key] = value;
      this.from = 0;
      await this.draw();
      byId("output-controls").querySelector(id).focus();
    };
    byId("output-controls").replaceChildren(
      choice("marked against", against, this.against, set("against", "select")),
      check("only where runs differ", this.differing, set("differing", "input")),
      step(-SENTENCES, "‹ Previous"),
      el("span", {}, count ? `${this.from + 1}–${Math.min(count, this.from + SENTENCES)} of ${count}` : "none"),
      step(SENTENCES, "Next ›"),
      el("span", { class: "quiet" }, `The page holds the first ${all}. `, el("ins", {}, "too much"), " ", el("del", {}, "missing")),
    );
  }

  sentence({ number, source, reference, said }) {
    const other = said.find(({ run }) => String(run) === this.against);
    const asked = other === undefined ? reference : other.text;
    const row = (name, content, kind = "") => el("tr", { class: kind }, el("th", { scope: "row" }, name), el("td", {}, content));
    const text = (words_) => el("span", { dir: "auto" }, words_);
    return el(
      "table",
      { class: "sentence", "aria-label": `Sentence ${number}` },
      el(
        "tbody",
        {},
        row(`source ${number}`, text(source), "quiet"),
        row("reference", text(reference), "reference"),
        ...said.map((one) => row(one.name, one === other ? text(one.text) : marked(asked, one.text))),
      ),
    );
  }
}
