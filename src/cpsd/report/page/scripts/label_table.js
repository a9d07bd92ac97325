// @ts-check
// Average precision by label: sortable, searchable, and a way to choose a label.

import { byId, element } from "./dom.js";
import { choiceOf, choose, onChoice } from "./chosen.js";
import { columnSource, count, csvCell, isNumber, percent, pointerToken, points } from "./format.js";
import { DataTable } from "./tables.js";

/**
 * A number with its place, as a cell.
 * @param {string} text @param {number | null | undefined} value @param {string} source
 * @param {string} shownAs @param {string} [derived]
 */
export function numberCell(text, value, source, shownAs, derived = "") {
  const number = element("data", {
    value: isNumber(value) ? value : "",
    "data-source": source,
    "data-shown-as": shownAs,
    "data-derived": derived || null,
  }, text);
  return element("td", {}, number);
}

/** A name that chooses its label when pressed. @param {string} label @param {string} target */
export function labelCell(label, target) {
  const button = element("button", { type: "button", class: "label-button name", dir: "auto" }, label);
  button.addEventListener("click", () => {
    choose("label", label);
    byId(target)?.scrollIntoView({ block: "start" });
    byId(target)?.querySelector("select")?.focus({ preventScroll: true });
  });
  return element("th", { scope: "row" }, button);
}

/** @param {any} data what the page has under "label-data" */
export function showLabelTable(data) {
  const table = byId("label-table");
  if (!table || !data?.splits.length) {
    return;
  }
  const shown = new DataTable(table, {
    back: byId("label-back"),
    on: byId("label-on"),
    status: byId("label-status"),
    what: "labels",
  });
  const rows = data.labels.map((/** @type {string} */ label, /** @type {number} */ index) => ({ label, index }));
  const refill = () => {
    const split = data.splits.find((/** @type {any} */ one) => one.name === choiceOf("split"));
    shown.fill(labelColumns(data, split), rows, (row) => row.label);
  };
  onChoice((choice) => choice === "split" && refill());
  byId("label-search").addEventListener("input", (/** @type {any} */ event) => shown.find(event.target.value));
  byId("label-controls").addEventListener("submit", (/** @type {Event} */ event) => event.preventDefault());
  byId("label-save").addEventListener("click", () => saveTable(shown, `average-precision-${choiceOf("split")}.csv`));
  refill();
}

/** @param {any} data @param {any} split @returns {import("./tables.js").Column[]} */
function labelColumns(data, split) {
  const place = (/** @type {any} */ predictor, /** @type {string} */ label) => `${predictor.source}/${pointerToken(label)}`;
  const columns = [
    { title: "label", text: true, value: (/** @type {any} */ row) => row.label, cell: (/** @type {any} */ row) => labelCell(row.label, byId("curves") ? "curves" : "labels") },
  ];
  if (split.positives) {
    const file = `predictions/${split.positivesOf.replaceAll("/", ".")}/${encodeURIComponent(split.name)}.parquet`;
    columns.push(countColumn("pictures", split.positives, (row) => columnSource(file, `target:${row.label}`), "positives"));
  }
  if (data.trainImages) {
    columns.push(countColumn("in training", data.trainImages, () => data.trainSource, "images-with-label"));
  }
  for (const predictor of split.predictors) {
    columns.push({
      title: predictor.name,
      text: false,
      value: (row) => predictor.ap[row.index],
      cell: (row) => numberCell(percent(predictor.ap[row.index]), predictor.ap[row.index], place(predictor, row.label), "percent"),
    });
    const other = split.predictors.find((/** @type {any} */ one) => one.name === predictor.comparedTo);
    if (other) {
      const gain = (/** @type {any} */ row) => gap(predictor.ap[row.index], other.ap[row.index]);
      columns.push({
        title: `to ${other.name}`,
        text: false,
        value: gain,
        cell: (row) => numberCell(points(gain(row)), gain(row), `${place(predictor, row.label)} ${place(other, row.label)}`, "points", "difference"),
      });
    }
  }
  for (const partition of data.parts) {
    columns.push({
      title: `part (${partition.strategy})`,
      text: false,
      value: (row) => partition.of[row.index],
      cell: (row) => numberCell(String(partition.of[row.index] ?? ""), partition.of[row.index], partition.source, "count", "part-of-label"),
    });
  }
  return columns;
}

/**
 * @param {string} title @param {number[]} counts @param {(row: any) => string} source @param {string} derived
 */
function countColumn(title, counts, source, derived) {
  return {
    title,
    text: false,
    value: (/** @type {any} */ row) => counts[row.index],
    cell: (/** @type {any} */ row) => numberCell(count(counts[row.index]), counts[row.index], source(row), "count", derived),
  };
}

/** @param {any} first @param {any} second @returns {number | null} */
function gap(first, second) {
  return isNumber(first) && isNumber(second) ? first - second : null;
}

/** Hand the whole table over as a file, sorted and searched as it is. @param {DataTable} shown @param {string} name */
function saveTable(shown, name) {
  const header = shown.columns.map((column) => csvCell(column.title)).join(",");
  const lines = shown.shown.map((row) => shown.columns.map((column) => csvCell(column.value(row))).join(","));
  const url = URL.createObjectURL(new Blob([[header, ...lines].join("\n") + "\n"], { type: "text/csv" }));
  element("a", { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
