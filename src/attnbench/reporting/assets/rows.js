// The two ways to see a sweep: a row a run, or a row a setting, as `make table` averages it over seeds.

/** A key as the head of a column. */
const heading = (name) => name.replace(/_per_sec_global$/, "/s").replaceAll("_", " ");

/** The last parts of dotted keys that still tell them apart. */
function shortened(keys) {
  return keys.map((key) => {
    const parts = key.split(".");
    for (let count = 1; count < parts.length; count += 1) {
      const short = parts.slice(-count).join(".");
      if (keys.filter((other) => other === short || other.endsWith(`.${short}`)).length === 1) return short;
    }
    return key;
  });
}

/** Runs by the values of some fields, the first of them first. */
const inOrder = (runs, fields) =>
  runs.sort((a, b) => fields.reduce((found, field) => found || order(field.value(a), field.value(b), 1), 0) || a - b);

/** Columns and rows of single runs; a row's `runs` are places of runs. */
function rowsOfRuns(runs, fields, keys) {
  const shown = keys.map((key) => fields.get(key)).filter(Boolean);
  const names = shortened(shown.map((field) => field.name));
  const settings = shown.filter((field) => field.kind === "config");
  const places = inOrder(runs.ids.map((_, run) => run), settings);
  return {
    columns: [
      { title: "run" },
      ...shown.map((field, place) => ({ title: heading(names[place]), key: field.name, numeric: field.numeric })),
    ],
    rows: places.map((run) => [runs.ids[run], run]).map(([id, run]) => ({
      runs: [run],
      name: id,
      cells: [
        { text: id, sort: id, kind: "id" },
        ...shown.map((field) => ({ text: field.text(run), sort: field.value(run), kind: field.key !== "state" ? "" : field.text(run) === "finished" ? "finished" : "wrong" })),
      ],
    })),
  };
}

/** Columns and rows of a table as it is printed. */
function rowsOfSettings(table) {
  const numeric = table.columns.map((_, place) => table.rows.some((row) => row.cells[place].mean !== null));
  return {
    columns: [
      ...table.keys.map((title) => ({ title })),
      ...table.columns.map((title, place) => ({ title, numeric: numeric[place] })),
    ],
    rows: table.rows.map((row) => ({
      runs: row.runs,
      name: row.labels.join(" "),
      cells: [
        ...row.labels.map((text) => ({ text, sort: Number.isNaN(Number(text)) || text === "" ? text : Number(text) })),
        ...row.cells.map((cell) => ({
          text: cell.value,
          note: [cell.spread, ...cell.published].filter(Boolean).join(" "),
          why: cell.missing,
          sort: cell.mean ?? undefined,
          kind: cell.best ? "best" : cell.mean === null ? "reason" : "",
        })),
      ],
    })),
  };
}

/** Text of a row that the search field searches. */
const searched = (row) => row.cells.map((cell) => `${cell.text} ${cell.note ?? ""}`).join(" ").toLowerCase();
