// @ts-check
// Numbers as text, and the places they come from: the same forms as in traced.py.

export const ABSENT = "–";

/** @param {number | null | undefined} value a fraction */
export function percent(value) {
  return isNumber(value) ? (100 * value).toFixed(1).replace("-", "−") : ABSENT;
}

/** @param {number | null | undefined} value a difference of fractions */
export function points(value) {
  if (!isNumber(value)) {
    return ABSENT;
  }
  const text = (100 * value).toFixed(1);
  if (Number(text) === 0) {
    return "0.0";
  }
  return value > 0 ? `+${text}` : text.replace("-", "−");
}

/** @param {number | null | undefined} value */
export function count(value) {
  return isNumber(value) ? value.toLocaleString("en-US") : ABSENT;
}

/** @param {number | null | undefined} value below ten */
export function decimal(value) {
  return isNumber(value) ? value.toFixed(3).replace("-", "−") : ABSENT;
}

/** @param {any} value @returns {value is number} */
export function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

/** A key as one token of a JSON pointer in a URI fragment. @param {string} key */
export function pointerToken(key) {
  return encodeURIComponent(wellFormed(key).replaceAll("~", "~0").replaceAll("/", "~1"));
}

/** The place of a column in a file of predictions. @param {string} file @param {string} column */
export function columnSource(file, column) {
  return `${file}#column=${encodeURIComponent(wellFormed(column))}`;
}

/** Halves of surrogate pairs cannot be encoded. @param {string} text */
function wellFormed(text) {
  return text.replace(/[\uD800-\uDFFF]/gu, "\uFFFD");
}

/** Names in the order people expect: "red 2" before "red 10". */
export const byName = new Intl.Collator("en", { numeric: true }).compare;

/** One cell for CSV. @param {unknown} value */
export function csvCell(value) {
  const text = value === null || value === undefined ? "" : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
