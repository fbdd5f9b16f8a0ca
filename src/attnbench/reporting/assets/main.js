// Opens the page: unpacks what it holds, and joins table, filters and comparison.

function drawColumns(content, fields, keys, changed) {
  const choices = byId("column-choices");
  const find = el("input", { type: "search", placeholder: "find a key", "aria-label": "Find a key" });
  const list = el("div", {});
  const all = [...fields.values()];
  const drawList = () => {
    const asked = find.value.toLowerCase();
    const found = all.filter((field) => field.name.toLowerCase().includes(asked)).sort((a, b) => keys.includes(b.key) - keys.includes(a.key));
    const toggle = (key) => (on) => changed(on ? [...keys, key] : keys.filter((other) => other !== key));
    list.replaceChildren(...found.map((field) => check(field.name, keys.includes(field.key), (on) => (keys = toggle(field.key)(on)))));
  };
  find.addEventListener("input", drawList);
  choices.append(find, list);
  byId("columns").addEventListener("toggle", drawList);
}

function drawViews(tables, show) {
  const names = [...tables.map((table, place) => [place, tables.length === 1 ? "Settings" : table.title]), ["runs", "Runs"]];
  const buttons = names.map(([key, text]) => {
    const press = () => {
      for (const [place, [other]] of names.entries()) buttons[place].setAttribute("aria-pressed", String(other === key));
      show(key);
    };
    return el("button", { type: "button", "aria-pressed": "false", onclick: press }, text);
  });
  byId("views").append(...buttons);
  buttons.at(-1).click();
}

function drawFailures(content, fields) {
  const { failures } = content;
  const naming = [...content.runs.differing, "config.seed"].map((key) => fields.get(key)).filter(Boolean);
  const short = shortened(naming.map((field) => field.name));
  byId("failures").hidden = failures.length === 0;
  const states = new Map(failures.map(({ state }) => [state, []]));
  for (const one of failures) states.get(one.state).push(one);
  const about = ({ run, type, message, traceback, log }) => {
    const said = [type, message].filter(Boolean).join(": ");
    const setting = naming.map((field, place) => `${isolated(short[place])}=${isolated(field.text(run))}`).join(" ");
    const name = [el("code", {}, content.runs.ids[run]), " ", el("small", {}, setting)];
    const heading = el("span", {}, ...name, said ? " · " : "", el("span", { dir: "auto" }, said));
    if (!traceback && !log) return el("p", {}, heading);
    const body = [traceback, log].filter(Boolean).map((text) => el("pre", { tabindex: "0" }, text));
    return el("details", {}, el("summary", {}, heading), ...body);
  };
  for (const [state, runs] of states) {
    const group = el("details", { class: "failed", open: runs.length <= 12 }, el("summary", {}, `${state} `, el("b", {}, String(runs.length))));
    const fill = () => {
      if (group.open && group.children.length === 1) group.append(...runs.map(about));
    };
    group.addEventListener("toggle", fill);
    byId("failure-list").append(group);
    fill();
  }
}

async function open() {
  const content = await readJson(byId("content").textContent);
  const fields = new Map(content.runs.fields.map((field) => [field.key, new Field(field)]));
  const ticked = new Set();
  let keys = content.runs.shown;
  let view = "runs";
  const grid = new Grid(null, ticked, () => comparison.refresh());
  grid.filters = new Filters(fields, keys, soon(() => grid.refresh()));
  const show = (chosen) => {
    view = chosen;
    byId("columns").hidden = view !== "runs";
    grid.show(view === "runs" ? rowsOfRuns(content.runs, fields, keys) : rowsOfSettings(content.tables[Number(view)]));
    const notes = view === "runs" ? content.notes : [...content.tables[Number(view)].notes, ...content.notes];
    byId("notes").replaceChildren(...notes.map((note) => el("li", {}, note)));
  };
  const comparison = new Comparison(content, fields, ticked, () => {
    grid.drawTicks();
    comparison.refresh();
  });
  drawColumns(content, fields, keys, (chosen) => {
    keys = chosen;
    show("runs");
    return keys;
  });
  drawViews(content.tables, show);
  drawFailures(content, fields);
  const finished = content.runs.ids.length - content.failures.length;
  byId("summary").textContent = `${content.runs.ids.length} runs, ${finished} finished`;
  dark.addEventListener("change", () => comparison.refresh());
  document.body.dataset.ready = "true";
}

open().catch((error) => {
  byId("summary").textContent = `This page cannot be shown: ${error.message}. It needs a browser of 2023 or newer.`;
  throw error;
});
