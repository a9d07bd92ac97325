// @ts-check
// The threshold of each label, and what it gave on the pictures it was chosen on.

import { byId, element } from "./dom.js";
import { count, decimal, percent, pointerToken } from "./format.js";
import { labelCell, numberCell } from "./label_table.js";
import { DataTable } from "./tables.js";

/** @param {any[] | null} sets what the page has under "threshold-data" */
export function showThresholds(sets) {
  const table = byId("threshold-table");
  if (!table || !sets?.length) {
    return;
  }
  const shown = new DataTable(table, {
    back: byId("threshold-back"),
    on: byId("threshold-on"),
    status: byId("threshold-status"),
    what: "labels",
  });
  // Thresholds belong to a predictor: the files of several splits repeat them.
  const byPredictor = new Map(sets.map((set) => [set.predictor, set]));
  const control = byId("threshold-of");
  control.append(...[...byPredictor.keys()].map((predictor) => element("option", { value: predictor }, predictor)));
  const refill = () => {
    const set = byPredictor.get(control.value);
    const rows = Object.entries(set.labels).map(([label, content]) => ({ label, content: content || {} }));
    shown.fill(thresholdColumns(set.source), rows, (row) => row.label);
  };
  control.addEventListener("change", refill);
  const search = byId("threshold-search");
  search.addEventListener("input", () => shown.find(search.value));
  search.form.addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  refill();
}

/** @param {string} source @returns {import("./tables.js").Column[]} */
function thresholdColumns(source) {
  const column = (/** @type {string} */ key, /** @type {string} */ title, /** @type {(value: any) => string} */ text, /** @type {string} */ shownAs) => ({
    title,
    value: (/** @type {any} */ row) => row.content[key],
    cell: (/** @type {any} */ row) => numberCell(text(row.content[key]), row.content[key], `${source}/${pointerToken(row.label)}/${key}`, shownAs),
  });
  return [
    { title: "label", text: true, value: (row) => row.label, cell: (row) => labelCell(row.label, "thresholds") },
    column("threshold", "threshold", decimal, "decimal"),
    column("positives", "pictures", count, "count"),
    column("precision", "precision", percent, "percent"),
    column("recall", "recall", percent, "percent"),
    column("f1", "F₁", percent, "percent"),
  ];
}
