// Attention of the same example in the compared runs, by layer and head.

const MAPPED = 8; // runs at once

/** The weights of a layer and head, or of all heads on average, as rows of a map. */
function weightsOf({ shape: [, heads, rows, columns], most, bytes }, layer, head) {
  const chosen = head === "mean" ? [...Array(heads).keys()] : [Number(head)];
  return Array.from({ length: rows }, (_, row) =>
    Array.from({ length: columns }, (__, column) => {
      const sum = chosen.reduce((so_far, one) => {
        const place = ((layer * heads + one) * rows + row) * columns + column;
        return so_far + (bytes[place] / 255) * most[layer][one];
      }, 0);
      return sum / chosen.length;
    }),
  );
}

/** The picture behind a map of patches, or null. */
function pictureOf({ picture, shape, bytes }) {
  if (picture === undefined) return null;
  const [height, width, channels] = picture;
  const start = shape.reduce((product, count) => product * count, 1);
  const canvas = el("canvas", { width, height, role: "img", "aria-label": "the picture" });
  const pixels = new ImageData(width, height);
  for (let place = 0; place < height * width; place += 1) {
    for (let color = 0; color < 3; color += 1) {
      pixels.data[4 * place + color] = bytes[start + place * channels + (channels === 1 ? 0 : color)];
    }
    pixels.data[4 * place + 3] = 255;
  }
  canvas.getContext("2d").putImageData(pixels, 0, 0);
  return canvas;
}

class Maps {
  constructor(content) {
    Object.assign(this, { content, kind: null, probe: null, layer: 0, head: "0" });
  }

  async show(runs) {
    const having = runs.filter(({ run }) => this.content.maps[run].length > 0);
    this.left = having.length - MAPPED;
    this.without = runs.length - having.length;
    this.runs = await Promise.all(
      having.slice(0, MAPPED).map(async (one) => ({
        ...one,
        maps: await Promise.all(this.content.maps[one.run].map((place) => line(place, readNumbers))),
      })),
    );
    await this.draw();
  }

  all() {
    return this.runs.flatMap(({ maps }) => maps);
  }

  async draw() {
    byId("maps").hidden = this.runs.length === 0;
    if (this.runs.length === 0) return;
    const kinds = [...new Set(this.all().map(({ kind }) => kind))];
    if (!kinds.includes(this.kind)) this.kind = kinds.includes("cross") ? "cross" : kinds[0];
    const ofKind = this.all().filter(({ kind }) => kind === this.kind);
    const probes = [...new Set(ofKind.map(({ probe }) => probe))];
    if (!probes.includes(this.probe)) [this.probe] = probes;
    const layers = Math.max(...ofKind.map(({ shape }) => shape[0]));
    const heads = Math.max(...ofKind.map(({ shape }) => shape[1]));
    this.layer = Math.min(this.layer, layers - 1);
    if (this.head !== "mean" && Number(this.head) >= heads) this.head = "0";
    this.controls(kinds, probes, layers, heads);
    await this.drawMaps();
  }

  controls(kinds, probes, layers, heads) {
    const focused = document.activeElement?.closest("#map-controls label")?.textContent.split(" ")[0];
    const set = (key, read = (value) => value) => async (value) => {
      this[key] = read(value);
      await this.draw();
    };
    const numbers = (count) => Array.from({ length: count }, (_, place) => [place, String(place + 1)]);
    byId("map-controls").replaceChildren(
      choice("attention", kinds.map((kind) => [kind, kind]), this.kind, set("kind")),
      choice("of", probes.map((probe) => [probe, probe]), this.probe, set("probe")),
      choice("layer", numbers(layers), this.layer, set("layer", Number)),
      choice("head", [...numbers(heads), ["mean", "mean of all"]], this.head, set("head")),
      el("span", { class: "quiet" }, this.said()),
    );
    for (const label of byId("map-controls").querySelectorAll("label")) {
      if (focused !== undefined && label.textContent.startsWith(`${focused} `)) label.querySelector("select").focus();
    }
  }

  said() {
    const parts = [];
    if (this.left > 0) parts.push(`The first ${MAPPED} runs are shown.`);
    if (this.without > 0) parts.push(`${this.without} of the ticked runs ${this.without === 1 ? "has" : "have"} none on this page.`);
    return parts.join(" ");
  }

  async drawMaps() {
    const host = byId("map-charts");
    forget(host);
    const found = this.runs.map((one) => ({ ...one, map: one.maps.find((map) => map.kind === this.kind && map.probe === this.probe) }));
    const figures = found.map(({ name, map }) => {
      const why = map === undefined ? "This run has no map of this example." : this.missing(map);
      const said = map?.said === undefined ? "" : ` · taken for ${map.said.replace(/^.*(?= \(\d\.\d\d\)$)/s, isolated)}`;
      const caption = el("figcaption", {}, name, el("small", { class: map?.right === false ? "wrong" : "quiet" }, said));
      const body = why === null ? el("div", { class: "chart" }) : el("p", { class: "quiet" }, why);
      return el("figure", {}, caption, why === null ? pictureOf(map) : null, body);
    });
    host.replaceChildren(...figures);
    const drawn = found.map(({ map }) => (map === undefined || this.missing(map) !== null ? null : weightsOf(map, this.layer, this.head)));
    const most = Math.max(1e-9, ...drawn.flat(2).filter((weight) => weight !== null));
    for (const [place, weights] of drawn.entries()) {
      if (weights !== null) await this.drawMap(figures[place].querySelector(".chart"), found[place], weights, most);
    }
  }

  missing({ shape: [layers, heads] }) {
    if (this.layer >= layers) return `This run has ${layers} ${layers === 1 ? "layer" : "layers"}.`;
    return this.head !== "mean" && Number(this.head) >= heads ? `This run has ${heads} heads.` : null;
  }

  async drawMap(host, { name, map }, weights, most) {
    const patches = map.picture !== undefined;
    const axis = (labels) => ({
      tickvals: labels.map((_, place) => place),
      ticktext: labels.map(plain),
      showgrid: false,
      zeroline: false,
      ticks: "",
      constrain: "domain",
      ...(patches ? { showticklabels: false } : { tickfont: { size: labels.length > 40 ? 7 : 10 } }),
    });
    const hover = map.rows.map((row) => map.columns.map((column) => `${plain(row)} → ${plain(column)}`));
    const trace = {
      type: "heatmap",
      z: weights,
      text: hover,
      hovertemplate: "%{text}<br>%{z:.3f}<extra></extra>",
      colorscale: "Viridis",
      zmin: 0,
      zmax: most,
      colorbar: { thickness: 8, len: 0.8, outlinewidth: 0, tickfont: { size: 9 } },
    };
    const height = patches ? 260 : Math.max(240, Math.min(620, 110 + 17 * map.rows.length));
    host.style.height = `${height}px`;
    await draw(host, `${this.kind} attention of ${name}, layer ${this.layer + 1}, head ${this.head}`, [trace], {
      height,
      margin: { l: 8, r: 8, t: 8, b: 8 },
      xaxis: { ...axis(map.columns), side: "top", tickangle: -90 },
      yaxis: { ...axis(map.rows), autorange: "reversed", ...(patches ? { scaleanchor: "x" } : {}) },
    });
  }
}
