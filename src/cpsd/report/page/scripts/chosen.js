// @ts-check
// What the reader has chosen, once for the whole page: a label and a split.

import { element } from "./dom.js";
import { byName } from "./format.js";

/** @typedef {"label" | "split"} Choice */

/** @type {Record<Choice, string | null>} */
const chosen = { label: null, split: null };
/** @type {((choice: Choice) => void)[]} */
const listeners = [];

/** @param {Choice} choice @returns {string | null} */
export function choiceOf(choice) {
  return chosen[choice];
}

/** @param {Choice} choice @param {string} value */
export function choose(choice, value) {
  if (chosen[choice] !== value) {
    chosen[choice] = value;
    listeners.forEach((listener) => listener(choice));
  }
}

/** @param {(choice: Choice) => void} listener */
export function onChoice(listener) {
  listeners.push(listener);
}

/**
 * Fill every control of the page for this choice, and keep them in step.
 * @param {Choice} choice
 * @param {string[]} values
 */
export function offerChoices(choice, values) {
  const ordered = choice === "label" ? [...values].sort(byName) : values;
  /** @type {NodeListOf<HTMLSelectElement>} */
  const controls = document.querySelectorAll(`select.choose-${choice}`);
  for (const control of controls) {
    control.append(...ordered.map((value) => element("option", { value }, value)));
    control.addEventListener("change", () => choose(choice, control.value));
  }
  onChoice((changed) => {
    if (changed === choice) {
      controls.forEach((control) => (control.value = chosen[choice] || ""));
    }
  });
}
