// What the page holds: packed lines of numbers and words, the fields of runs, and how they are written.

/** An element with attributes and children; text goes in as text, never as HTML. */
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name in made && typeof value !== "string") made[name] = value;
    else if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const byId = (id) => document.getElementById(id);

/** A labelled <select> of [value, text] pairs, or of groups { label, options }. */
function choice(label, options, value, onchange) {
  const option = ([key, text]) => el("option", { value: String(key) }, text);
  const select = el("select", { onchange: () => onchange(select.value) });
  for (const one of options) {
    select.append(Array.isArray(one) ? option(one) : el("optgroup", { label: one.label }, ...one.options.map(option)));
  }
  select.value = String(value);
  return el("label", {}, `${label} `, select);
}

/** A labelled checkbox. */
function check(label, checked, onchange) {
  const box = el("input", { type: "checkbox", checked, onchange: () => onchange(box.checked) });
  return el("label", {}, box, ` ${label}`);
}

async function inflate(text) {
  const letters = atob(text);
  const bytes = new Uint8Array(letters.length);
  for (let i = 0; i < letters.length; i += 1) bytes[i] = letters.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

const readText = (bytes) => new TextDecoder().decode(bytes);
const readJson = async (text) => JSON.parse(readText(await inflate(text)));

/** The line of JSON that describes numbers, and their bytes. */
async function readNumbers(text) {
  const bytes = await inflate(text);
  const end = bytes.indexOf(10);
  return { ...JSON.parse(readText(bytes.subarray(0, end))), bytes: bytes.subarray(end + 1) };
}

let packedLines = null;
const opened = new Map();

/** A packed line, opened once by `read`. */
function line(place, read) {
  packedLines ??= byId("lines").textContent.split("\n");
  if (!opened.has(place)) opened.set(place, read(packedLines[place]));
  return opened.get(place);
}

/** Counts from what each adds to the one before. */
function summed(numbers) {
  let sum = 0;
  return Float64Array.from(numbers, (number) => (sum += number));
}

/** A run's history: an array of numbers for each name; "flops" follows from the units. */
async function readCurves(text) {
  const found = await readNumbers(text);
  const quarter = found.bytes.length / 4;
  const whole = new Uint8Array(found.bytes.length);
  for (let plane = 0; plane < 4; plane += 1) {
    for (let i = 0; i < quarter; i += 1) whole[4 * i + plane] = found.bytes[plane * quarter + i];
  }
  const columns = {};
  found.names.forEach((name, row) => {
    const numbers = new Float32Array(whole.buffer, 4 * row * found.entries, found.entries);
    columns[name] = found.counts.includes(name) ? summed(numbers) : numbers;
  });
  if (found.flops_per_unit !== null) columns.flops = columns.units.map((units) => units * found.flops_per_unit);
  return columns;
}

/** One key of the config or of the results, over all runs. */
class Field {
  constructor({ key, values, index }) {
    Object.assign(this, { key, values, index });
    this.name = key.replace(/^parameters.total$/, "parameters").replace(/^(config|performance|parameters)\./, "").replace(/^metrics\./, "").replace(/^time\./, "");
    this.numeric = values.length > 0 && values.every((value) => typeof value === "number" || isNumberName(value));
  }

  value(run) {
    return this.index[run] < 0 ? undefined : this.values[this.index[run]];
  }

  text(run) {
    return this.index[run] < 0 ? "–" : written(this.values[this.index[run]]);
  }

  /** Whether some of `runs` have another value than others. */
  differs(runs) {
    return runs.some((run) => this.index[run] !== this.index[runs[0]]);
  }

  get kind() {
    return this.key.startsWith("config.") ? "config" : "result";
  }
}

const isNumberName = (value) => value === "nan" || value === "inf" || value === "-inf";

/** A value as a person reads it. */
function written(value) {
  if (value === null) return "null";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value)) return Math.abs(value) < 10000 ? String(value) : value.toLocaleString("en");
  const size = Math.abs(value);
  if (size >= 1e12 || size < 1e-4) return value.toExponential(2);
  return size >= 1000 ? value.toLocaleString("en", { maximumFractionDigits: 0 }) : String(Number(value.toPrecision(4)));
}

/** Text that turns the direction of a line, marked so that what stands behind it in the same line keeps its own. */
const isolated = (text) => (/[\u0590-\u08ff\u200e\u200f\u202a-\u202e\u2066-\u2069\ufb1d-\ufefc]/.test(text) ? `\u2068${text}\u2069` : text);

/** Before, same or behind: numbers by size, then words by spelling; what is not there comes last either way. */
function order(a, b, direction) {
  const rank = (value) => (value === undefined || value === null || isNumberName(value) ? 2 : typeof value === "number" ? 0 : 1);
  if (rank(a) !== rank(b)) return rank(a) === 2 || rank(b) === 2 ? rank(a) - rank(b) : direction * (rank(a) - rank(b));
  if (rank(a) === 2) return 0;
  return direction * (typeof a === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
}

/** Call `work` once before the next frame, however often it is asked for. */
function soon(work) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame(() => {
      asked = false;
      work();
    });
  };
}
