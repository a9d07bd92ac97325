// @ts-check
// Tables: headers that sort, rows in pages. Only the rows of one page are in the document.

import { element } from "./dom.js";
import { byName, isNumber } from "./format.js";

export const ROWS_A_PAGE = 50;

/**
 * @typedef {object} Column
 * @property {string} title
 * @property {boolean} [text] whether it holds words and not numbers
 * @property {(row: any) => any} value what is sorted by: a number, a string or null
 * @property {(row: any) => Node} cell
 */

/**
 * Rows sorted by a value; those without one come last, whichever way.
 * @param {any[]} rows @param {(row: any) => any} value @param {boolean} down
 */
export function sortedRows(rows, value, down) {
  const keyed = rows.map((row) => ({ row, key: value(row) }));
  const sign = down ? -1 : 1;
  keyed.sort((a, b) => {
    const [gone, alsoGone] = [a, b].map(({ key }) => key === null || key === undefined || key === "");
    if (gone || alsoGone) {
      return Number(gone) - Number(alsoGone);
    }
    return sign * (isNumber(a.key) && isNumber(b.key) ? a.key - b.key : byName(String(a.key), String(b.key)));
  });
  return keyed.map(({ row }) => row);
}

/**
 * Make a header a button that sorts; a second press turns the order round.
 * @param {HTMLTableCellElement} header @param {boolean} downFirst @param {(down: boolean) => void} sort
 */
export function makeSortable(header, downFirst, sort) {
  const button = element("button", { type: "button" });
  button.append(...header.childNodes, element("span", { class: "arrow", "aria-hidden": "true" }));
  header.append(button);
  button.addEventListener("click", () => {
    const now = header.getAttribute("aria-sort");
    const down = now ? now === "ascending" : downFirst;
    for (const other of header.parentElement?.children || []) {
      other.removeAttribute("aria-sort");
    }
    header.setAttribute("aria-sort", down ? "descending" : "ascending");
    sort(down);
  });
}

/** Give every table that stands in the page as HTML its sorting headers. */
export function enhanceTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const body = table.querySelector("tbody");
    table.querySelectorAll("thead th").forEach((header, column) => {
      if (header.classList.contains("bar-head") || !body) {
        return;
      }
      const value = (/** @type {HTMLTableRowElement} */ row) => cellValue(row.cells[column]);
      const words = [...body.rows].every((row) => typeof value(row) === "string");
      header.classList.toggle("text", words);
      makeSortable(/** @type {HTMLTableCellElement} */ (header), !words, (down) => {
        body.append(...sortedRows([...body.rows], value, down));
      });
    });
  }
}

/** @param {HTMLTableCellElement | undefined} cell */
function cellValue(cell) {
  const number = cell?.querySelector("data");
  if (number) {
    return number.value === "" ? null : Number(number.value);
  }
  return cell?.textContent?.trim() || "";
}

/** A table whose rows come from data: sorted, searched, in pages. */
export class DataTable {
  /**
   * @param {HTMLTableElement} table
   * @param {{back: HTMLButtonElement, on: HTMLButtonElement, status: HTMLElement, what: string}} pager
   */
  constructor(table, pager) {
    this.table = table;
    this.pager = pager;
    /** @type {any[]} */
    this.rows = [];
    /** @type {any[]} */
    this.shown = [];
    /** @type {Column[]} */
    this.columns = [];
    this.page = 0;
    this.sorting = { column: 0, down: false };
    this.search = "";
    pager.back.addEventListener("click", () => this.turn(-1));
    pager.on.addEventListener("click", () => this.turn(1));
  }

  /** @param {Column[]} columns @param {any[]} rows @param {(row: any) => string} searched */
  fill(columns, rows, searched) {
    const headings = (/** @type {Column[]} */ some) => some.map((column) => column.title).join("\n");
    const same = headings(columns) === headings(this.columns);
    Object.assign(this, { columns, rows, searched });
    if (!same) {
      this.sorting = { column: 0, down: false };
      this.drawHeader();
    }
    this.update();
  }

  drawHeader() {
    const row = element("tr");
    this.columns.forEach((column, index) => {
      const header = element("th", { scope: "col", class: column.text ? "text" : null }, column.title);
      makeSortable(header, !column.text, (down) => {
        this.sorting = { column: index, down };
        this.update();
      });
      row.append(header);
    });
    row.children[0]?.setAttribute("aria-sort", "ascending");
    this.table.tHead?.replaceChildren(row);
  }

  /** @param {string} text */
  find(text) {
    this.search = text;
    this.update();
  }

  /** Search and sort anew, and go to the first page. */
  update() {
    const wanted = this.search.trim().toLocaleLowerCase();
    const found = wanted
      ? this.rows.filter((row) => this.searched(row).toLocaleLowerCase().includes(wanted))
      : this.rows;
    const { column, down } = this.sorting;
    this.shown = sortedRows(found, this.columns[column].value, down);
    this.page = 0;
    this.draw();
  }

  /** @param {any} row @returns {string} what a search looks at */
  searched(row) {
    return String(row);
  }

  /** @param {number} step */
  turn(step) {
    this.page += step;
    this.draw();
    this.table.closest(".scroll")?.scrollTo({ top: 0 });
  }

  draw() {
    const begin = this.page * ROWS_A_PAGE;
    const rows = this.shown.slice(begin, begin + ROWS_A_PAGE);
    const lines = rows.map((row) => element("tr", {}, ...this.columns.map((column) => column.cell(row))));
    this.table.tBodies[0].replaceChildren(...lines);
    const { back, on, status, what } = this.pager;
    back.disabled = begin === 0;
    on.disabled = begin + ROWS_A_PAGE >= this.shown.length;
    status.textContent = this.shown.length
      ? `${begin + 1} to ${begin + rows.length} of ${this.shown.length.toLocaleString("en-US")} ${what}`
      : `No ${what} found`;
  }
}
