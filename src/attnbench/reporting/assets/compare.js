// What is ticked, named by what tells it apart; its configs and its results side by side.

class Comparison {
  constructor(content, fields, ticked, changed) {
    Object.assign(this, { content, fields, ticked, changed, focus: null });
    this.config = [...fields.values()].filter((field) => field.kind === "config");
    const differing = new Set(content.runs.differing);
    this.naming = this.config.filter((field) => differing.has(field.key));
    this.seed = fields.get("config.seed");
    this.results = [...fields.values()].filter((field) => field.kind === "result" && field.numeric);
    const rate = this.results.find((field) => field.key.endsWith("_per_sec_global"));
    this.result = (rate ?? this.results[0])?.key;
    this.curves = new Curves(content, heading(rate?.name ?? "units").replace("/s", ""), () => {
      this.drawTicked();
      this.drawResults();
    });
    this.outputs = new Outputs(content);
    this.maps = new Maps(content);
    byId("all-keys").addEventListener("change", () => this.drawDifference());
    if (this.result !== undefined) {
      const options = this.results.map((field) => [field.key, heading(field.name)]);
      const choose = (key) => {
        this.result = key;
        this.drawResults();
      };
      byId("result-controls").append(choice("show", options, this.result, choose));
    }
    this.refresh = soon(() => this.draw());
  }

  /** The ticked runs: their places, names, and what their seeds have in common. */
  chosen() {
    const runs = inOrder([...this.ticked], [...this.naming, ...(this.seed ? [this.seed] : [])]);
    const telling = this.naming.filter((field) => field.differs(runs));
    const short = shortened(telling.map((field) => field.name));
    return runs.map((run) => {
      const setting = telling.map((field, place) => `${isolated(short[place])}=${isolated(field.text(run))}`).join(" ");
      const seed = this.seed?.differs(runs) ? `seed=${this.seed.text(run)}` : "";
      return { run, setting, name: [setting, seed].filter(Boolean).join(" ") || this.content.runs.ids[run] };
    });
  }

  draw() {
    this.runs = this.chosen();
    byId("none-ticked").hidden = this.runs.length > 0;
    byId("ticked").hidden = byId("compared").hidden = this.runs.length === 0;
    if (this.runs.length === 0) {
      if (this.focus !== null) byId("grid").focus();
      this.focus = null;
      return;
    }
    this.curves.show(this.runs);
    this.drawTicked();
    this.drawResults();
    this.drawDifference();
    this.outputs.show(this.runs);
    this.maps.show(this.runs);
  }

  drawTicked() {
    const looks = this.curves.looks();
    const chip = ({ run, name }, place) => {
      const drop = () => {
        this.ticked.delete(run);
        this.focus = place;
        this.changed();
      };
      const key = el("i", { class: "key", "aria-hidden": "true" });
      key.style.borderTopColor = looks[place].color;
      key.style.borderTopStyle = looks[place].dash === "solid" ? "solid" : looks[place].dash === "dot" ? "dotted" : "dashed";
      return el("span", { class: "chip" }, key, name, el("button", { type: "button", "aria-label": `Do not compare ${name}`, onclick: drop }, "×"));
    };
    const clear = () => {
      this.ticked.clear();
      byId("grid").focus();
      this.changed();
    };
    const more = this.runs.length - DRAWN;
    const chips = this.runs.slice(0, DRAWN).map(chip);
    byId("ticked").replaceChildren(
      ...chips,
      more > 0 ? `and ${more} more: charts show the first ${DRAWN}.` : "",
      el("button", { type: "button", class: "link", onclick: clear }, "Untick all"),
    );
    if (this.focus !== null) chips[Math.min(this.focus, chips.length - 1)].querySelector("button").focus();
    this.focus = null; // the button that was pressed is gone: the next one has its place
  }

  async drawResults() {
    const field = this.fields.get(this.result);
    if (field === undefined || this.runs === undefined) return;
    const looks = this.curves.looks();
    const drawn = this.runs.slice(0, DRAWN);
    const values = drawn.map(({ run }) => (typeof field.value(run) === "number" ? field.value(run) : null));
    const host = byId("result-chart");
    const height = 70 + 26 * drawn.length;
    host.style.height = `${height}px`;
    const bars = {
      type: "bar",
      orientation: "h",
      x: values,
      y: drawn.map((_, place) => place),
      text: drawn.map(({ run }) => plain(field.text(run))),
      textposition: "outside",
      cliponaxis: false,
      hovertext: drawn.map(({ run, name }) => `${plain(name)}: ${plain(field.text(run))}`),
      hoverinfo: "text",
      marker: { color: looks.map(({ color }) => color) },
    };
    await draw(host, `${field.name} of ${drawn.length} runs`, [bars], {
      height,
      margin: { l: 48, r: 48, t: 8, b: 40 },
      xaxis: { title: { text: plain(heading(field.name)), standoff: 6 }, autorangeoptions: { include: Math.max(...values) * 1.15 } },
      yaxis: { autorange: "reversed", tickvals: bars.y, ticktext: drawn.map(({ name }) => plain(cut(name, window.innerWidth < 700 ? 18 : 48))) },
      hovermode: "closest",
      bargap: 0.25,
    });
  }

  drawDifference() {
    const runs = this.runs.slice(0, DRAWN);
    const places = runs.map(({ run }) => run);
    const shown = byId("all-keys").checked ? this.config : this.config.filter((field) => field.differs(places));
    const head = el("tr", {}, el("th", { scope: "col" }, "key"), ...runs.map(({ run, name }) => el("th", { scope: "col", title: name }, this.content.runs.ids[run])));
    const rows = shown.map((field) =>
      el(
        "tr",
        { class: field.differs(places) ? "differs" : "" },
        el("th", { scope: "row" }, field.name),
        ...places.map((run) => el("td", { dir: "auto" }, field.text(run))),
      ),
    );
    const none = el("p", { class: "quiet" }, places.length < 2 ? "Select at least two runs to see differences." : "Nothing differs.");
    byId("difference-table").replaceChildren(rows.length ? el("table", {}, el("thead", {}, head), el("tbody", {}, ...rows)) : none);
  }
}

const cut = (text, length) => (text.length <= length ? text : `${text.slice(0, length - 1)}…`);
