// Learning curves of the compared runs: smoothed, against updates, time, tokens or pictures, or FLOPs.

const DRAWN = 60; // runs; more lines cannot be distinguished

/** Exponential moving average with bias correction. */
function smoothed(values, weight) {
  let [sum, norm] = [0, 0];
  return values.map((value) => {
    if (!Number.isFinite(value)) return value;
    sum = weight * sum + (1 - weight) * value;
    norm = weight * norm + (1 - weight);
    return sum / norm;
  });
}

/** The points of a metric in a history, against `axis`. */
function points(columns, metric, axis) {
  const [xs, ys] = [columns[axis], columns[metric]];
  const found = { x: [], y: [] };
  if (xs === undefined || ys === undefined) return found;
  for (let i = 0; i < ys.length; i += 1) {
    if (Number.isFinite(ys[i]) && Number.isFinite(xs[i])) {
      found.x.push(xs[i]);
      found.y.push(ys[i]);
    }
  }
  return found;
}

class Curves {
  /** `unit` is what a model is trained on; `recolored` is called when runs have got other colors. */
  constructor(content, unit, recolored) {
    Object.assign(this, { content, recolored, axis: "update", weight: 0, log: false, together: false, range: ["", ""] });
    this.axes = [["update", "updates"], ["seconds", "seconds of training"], ["units", `${unit} trained on`], ["flops", "FLOPs"], ["epoch", "epoch"]];
    const wanted = ["val/bleu", "val/accuracy", "val/loss"].find((name) => content.metrics.includes(name));
    this.metrics = new Set(content.metrics.filter((name) => name === "train/loss" || name === wanted));
    this.refresh = soon(() => this.draw());
    byId("curves").hidden = content.metrics.length === 0;
    this.controls();
  }

  controls() {
    const set = (key) => (value) => {
      this[key] = value;
      this.refresh();
    };
    const slider = el("input", { type: "range", min: "0", max: "0.99", step: "0.01", value: "0" });
    const said = el("output", {}, "0");
    slider.addEventListener("input", () => {
      this.weight = Number(slider.value);
      said.textContent = slider.value;
      this.refresh();
    });
    const edge = (place, name) =>
      el("input", {
        type: "number",
        step: "any",
        "aria-label": `${name} on the horizontal axis`,
        placeholder: name,
        onchange: (event) => {
          this.range[place] = event.target.value;
          this.refresh();
        },
      });
    const choose = (name) => (on) => {
      if (on) this.metrics.add(name);
      else this.metrics.delete(name);
      this.refresh();
    };
    byId("curve-controls").append(
      el("details", { class: "menu" }, el("summary", {}, "Metrics"), ...this.content.metrics.map((name) => check(name, this.metrics.has(name), choose(name)))),
      choice("against", this.axes, this.axis, (value) => {
        this.range = ["", ""];
        for (const input of byId("curve-controls").querySelectorAll("input[type=number]")) input.value = "";
        set("axis")(value);
      }),
      el("label", { title: "of what is logged in training" }, "smoothing ", slider, said),
      check("log scale", false, set("log")),
      check("one color for each setting", false, (on) => {
        set("together")(on);
        this.recolored();
      }),
      el("span", { class: "edges" }, edge(0, "from"), "–", edge(1, "to")),
    );
  }

  /** Compare other runs, [{ run, name, setting }]. */
  show(runs) {
    this.runs = runs.slice(0, DRAWN);
    this.refresh();
  }

  /** The look of each run's curve. */
  looks() {
    const settings = [...new Set(this.runs.map(({ setting }) => setting))];
    return this.runs.map(({ setting }, place) => look(this.together ? settings.indexOf(setting) : place));
  }

  async draw() {
    const host = byId("curve-charts");
    const drawn = this.runs.filter(({ run }) => this.content.curves[run] >= 0);
    const columns = await Promise.all(drawn.map(({ run }) => line(this.content.curves[run], readCurves)));
    const metrics = this.content.metrics.filter((name) => this.metrics.has(name));
    for (const figure of [...host.children]) {
      if (!metrics.includes(figure.dataset.metric) || drawn.length === 0) {
        forget(figure);
        figure.remove();
      }
    }
    if (drawn.length === 0) {
      host.replaceChildren(el("p", { class: "quiet" }, "These runs have no training history."));
      return;
    }
    const known = new Map([...host.children].map((figure) => [figure.dataset.metric, figure]));
    const made = (name) => el("figure", { "data-metric": name }, el("figcaption", {}, name), el("div", { class: "chart" }));
    const figures = metrics.map((name) => known.get(name) ?? made(name));
    host.replaceChildren(...figures);
    for (const [place, name] of metrics.entries()) await this.drawOne(figures[place], name, drawn, columns);
  }

  async drawOne(figure, name, drawn, columns) {
    const looks = this.looks();
    const traces = drawn.flatMap((one, place) => {
      const found = points(columns[place], name, this.axis);
      const style = looks[this.runs.indexOf(one)];
      const mode = found.x.length < 25 ? "lines+markers" : "lines";
      const shape = { type: "scatter", mode, name: plain(one.name), line: { ...style, width: 1.8 }, marker: { size: 5 } };
      // A validation is no noisy sample, and few of them smoothed would say what never was.
      if (this.weight === 0 || name.startsWith("val/")) return [{ ...shape, ...found }];
      const faint = { ...shape, ...found, mode: "lines", opacity: 0.25, hoverinfo: "skip", line: { color: style.color, width: 1 } };
      return [faint, { ...shape, x: found.x, y: smoothed(found.y, this.weight) }];
    });
    const title = { text: this.axes.find(([key]) => key === this.axis)[1], standoff: 6 };
    const all = traces.flatMap(({ x }) => [x[0], x.at(-1)]).filter(Number.isFinite);
    const whole = [Math.min(...all), Math.max(...all)];
    const asked = this.range.some((text) => text !== "");
    const zoom = asked ? { range: whole.map((edge, place) => (this.range[place] === "" ? edge : Number(this.range[place]))) } : { autorange: true };
    await draw(figure.querySelector(".chart"), `${name} of ${drawn.length} runs against ${title.text}`, traces, {
      uirevision: `${this.axis} ${this.log} ${this.range}`,
      xaxis: { title, ...zoom },
      yaxis: { type: this.log ? "log" : "linear" },
    });
  }
}
