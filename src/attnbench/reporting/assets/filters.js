// Which runs are shown: a search in what the table shows, and conditions on any key.

const OPERATORS = {
  "=": (value, asked) => same(value, asked),
  "≠": (value, asked) => !same(value, asked),
  "<": (value, asked) => typeof value === "number" && value < Number(asked),
  "≤": (value, asked) => typeof value === "number" && value <= Number(asked),
  ">": (value, asked) => typeof value === "number" && value > Number(asked),
  "≥": (value, asked) => typeof value === "number" && value >= Number(asked),
  contains: (value, asked) => spelled(value).toLowerCase().includes(asked.toLowerCase()),
};

const spelled = (value) => (value === undefined ? "–" : value === null ? "null" : String(value));

function same(value, asked) {
  if (typeof value === "number" && asked.trim() !== "") return value === Number(asked);
  return spelled(value).toLowerCase() === asked.trim().toLowerCase();
}

class Filters {
  constructor(fields, shown, changed) {
    Object.assign(this, { fields, changed, conditions: [], words: "" });
    this.first = shown.find((key) => key.startsWith("config.")) ?? "state";
    byId("add-filter").addEventListener("click", () => this.add());
    byId("clear-filters").addEventListener("click", () => this.clear());
    byId("search").addEventListener("input", (event) => {
      this.words = event.target.value.toLowerCase().trim();
      this.changed();
    });
  }

  get active() {
    return this.words !== "" || this.conditions.some((condition) => condition.text !== "");
  }

  /** Whether a run meets every condition; a condition without a value asks nothing. */
  admits(run) {
    return this.conditions.every(
      ({ key, operator, text }) => text === "" || OPERATORS[operator](this.fields.get(key).value(run), text),
    );
  }

  add() {
    const condition = { key: this.first, operator: "=", text: "" };
    this.conditions.push(condition);
    const item = this.item(condition);
    byId("filters").append(item);
    item.querySelector("select").focus();
  }

  clear() {
    this.conditions = [];
    this.words = "";
    byId("search").value = "";
    byId("filters").replaceChildren();
    this.changed();
    byId("search").focus();
  }

  item(condition) {
    const number = (this.counted = (this.counted ?? 0) + 1);
    const list = el("datalist", { id: `values-${number}` });
    const input = el("input", {
      list: `values-${number}`,
      "aria-label": "value",
      placeholder: "value",
      autocomplete: "off",
      oninput: () => {
        condition.text = input.value;
        this.changed();
      },
    });
    const offer = () => {
      const values = this.fields.get(condition.key).values.slice(0, 200).sort((a, b) => order(a, b, 1));
      list.replaceChildren(...values.map((value) => el("option", { value: spelled(value) })));
    };
    const key = el("select", { "aria-label": "key" }, ...keyOptions(this.fields));
    key.value = condition.key;
    key.addEventListener("change", () => {
      condition.key = key.value;
      offer();
      this.changed();
    });
    const operator = el("select", { "aria-label": "comparison" }, ...Object.keys(OPERATORS).map((name) => el("option", {}, name)));
    operator.addEventListener("change", () => {
      condition.operator = operator.value;
      this.changed();
    });
    offer();
    const item = el("li", {}, key, operator, input, list);
    const remove = () => {
      this.conditions = this.conditions.filter((other) => other !== condition);
      item.remove();
      this.changed();
      byId("add-filter").focus();
    };
    item.append(el("button", { type: "button", "aria-label": "Remove this filter", onclick: remove }, "×"));
    return item;
  }
}

/** Every key as options, what differs between runs first. */
function keyOptions(fields) {
  const groups = { "differs between runs": [], results: [], "the same in every run": [] };
  for (const field of fields.values()) {
    const many = new Set(field.index).size > 1;
    const group = field.kind === "config" ? (many ? 0 : 2) : field.key === "state" ? 0 : 1;
    groups[Object.keys(groups)[group]].push(el("option", { value: field.key }, field.name));
  }
  return Object.entries(groups).map(([label, options]) => el("optgroup", { label }, ...options));
}
