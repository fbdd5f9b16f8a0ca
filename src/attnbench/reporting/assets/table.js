// The table: sorted, filtered, paged; rows are ticked to be compared.

const PAGE = 50;

class Grid {
  /** `ticked` is the set of runs that are compared; `changed` is called when it has. */
  constructor(filters, ticked, changed) {
    Object.assign(this, { filters, ticked, changed, sort: null, page: 0 });
    this.host = byId("grid");
  }

  /** Show other columns or rows. */
  show({ columns, rows }) {
    Object.assign(this, { columns, rows, page: 0 });
    if (this.sort !== null && this.sort.column >= columns.length) this.sort = null;
    this.all = el("input", { type: "checkbox", "aria-label": "Tick every row that is shown", onchange: () => this.tickAll() });
    this.heads = columns.map((column, place) =>
      el(
        "th",
        { scope: "col", class: column.numeric ? "number" : "", title: column.key ?? null },
        el("button", { type: "button", onclick: () => this.sortBy(place) }, column.title),
      ),
    );
    this.body = el("tbody", { onchange: (event) => this.tick(event.target) });
    this.host.replaceChildren(
      el("table", { class: "runs" }, el("thead", {}, el("tr", {}, el("th", { scope: "col" }, this.all), ...this.heads)), this.body),
    );
    this.refresh();
  }

  sortBy(column) {
    const before = this.sort?.column === column ? this.sort.direction : 0;
    this.sort = before === 0 ? { column, direction: 1 } : before === 1 ? { column, direction: -1 } : null;
    this.page = 0;
    this.refresh();
  }

  /** Filter, sort and draw anew. */
  refresh() {
    const { words } = this.filters;
    this.shown = this.rows.filter(
      (row) =>
        (words === "" || (row.searched ??= searched(row)).includes(words)) &&
        (!this.filters.active || row.runs.length === 0 || row.runs.some((run) => this.filters.admits(run))),
    );
    if (this.sort !== null) {
      const { column, direction } = this.sort;
      this.shown.sort((a, b) => order(a.cells[column].sort, b.cells[column].sort, direction));
    }
    this.heads.forEach((head, place) => {
      const direction = this.sort?.column === place ? this.sort.direction : 0;
      if (direction === 0) head.removeAttribute("aria-sort");
      else head.setAttribute("aria-sort", direction > 0 ? "ascending" : "descending");
    });
    this.page = Math.min(this.page, Math.max(0, Math.ceil(this.shown.length / PAGE) - 1));
    this.draw();
  }

  draw() {
    const from = this.page * PAGE;
    this.body.replaceChildren(...this.shown.slice(from, from + PAGE).map((row, place) => this.row(row, from + place)));
    const what = this.rows.length === 1 ? "row" : "rows";
    byId("count").textContent = `${this.shown.length} of ${this.rows.length} ${what}`;
    byId("clear-filters").hidden = !this.filters.active;
    this.drawPages();
    this.drawTicks();
  }

  row(row, place) {
    const box = el("input", {
      type: "checkbox",
      "data-place": String(place),
      "aria-label": `Compare ${row.name}`,
      disabled: row.runs.length === 0,
    });
    const cells = row.cells.map((cell, column) =>
      el(
        "td",
        { class: [cell.kind ?? "", this.columns[column].numeric ? "number" : ""].join(" ").trim(), title: cell.why || null },
        el("span", { dir: "auto" }, cell.text),
        cell.note ? el("small", {}, ` ${cell.note}`) : null,
      ),
    );
    return el("tr", {}, el("td", {}, box), ...cells);
  }

  drawPages() {
    const pages = Math.ceil(this.shown.length / PAGE);
    const step = (by, text) =>
      el(
        "button",
        {
          type: "button",
          disabled: this.page + by < 0 || this.page + by >= pages,
          onclick: () => {
            this.page += by;
            this.draw();
            const again = [...byId("pages").querySelectorAll("button")];
            (again.find((button) => button.textContent === text && !button.disabled) ?? again.find((one) => !one.disabled))?.focus();
          },
        },
        text,
      );
    const said = el("span", {}, `page ${this.page + 1} of ${pages}`);
    byId("pages").replaceChildren(...(pages > 1 ? [step(-1, "‹ Previous"), said, step(1, "Next ›")] : []));
  }

  /** Let boxes say what is ticked. */
  drawTicks() {
    for (const box of this.body.querySelectorAll("input")) {
      const { runs } = this.shown[Number(box.dataset.place)];
      const count = runs.filter((run) => this.ticked.has(run)).length;
      box.checked = count > 0 && count === runs.length;
      box.indeterminate = count > 0 && count < runs.length;
      box.closest("tr").classList.toggle("ticked", count > 0);
    }
    const runs = this.shown.flatMap((row) => row.runs);
    const count = runs.filter((run) => this.ticked.has(run)).length;
    this.all.checked = count > 0 && count === runs.length;
    this.all.indeterminate = count > 0 && count < runs.length;
  }

  tick(box) {
    this.set(this.shown[Number(box.dataset.place)].runs, box.checked);
  }

  tickAll() {
    this.set(this.shown.flatMap((row) => row.runs), this.all.checked);
  }

  set(runs, on) {
    for (const run of runs) {
      if (on) this.ticked.add(run);
      else this.ticked.delete(run);
    }
    this.drawTicks();
    this.changed();
  }
}
