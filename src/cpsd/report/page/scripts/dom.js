// @ts-check
// Elements are made, never parsed: texts of the data become text nodes and attributes only.

const SVG = "http://www.w3.org/2000/svg";

/** @param {string} id @returns {any} the element, or null where the section is not there */
export function byId(id) {
  return document.getElementById(id);
}

/**
 * The data of the page under an id; null where the page has none.
 * @param {string} id
 * @returns {any}
 */
export function readData(id) {
  const holder = document.getElementById(id);
  return holder ? JSON.parse(holder.textContent || "null") : null;
}

/**
 * @param {string} name
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function element(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/**
 * @param {string} name
 * @param {Record<string, string | number | boolean | null | undefined>} [attributes]
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function drawn(name, attributes = {}, ...children) {
  return filled(document.createElementNS(SVG, name), attributes, children);
}

/**
 * @param {Element} made
 * @param {Record<string, string | number | boolean | null | undefined>} attributes
 * @param {(Node | string)[]} children
 */
function filled(made, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(key, value === true ? "" : String(value));
    }
  }
  made.append(...children);
  return made;
}

/**
 * Call `draw` with the width of `holder` now and whenever it changes, once a frame at most.
 * @param {Element} holder
 * @param {(width: number) => void} draw
 */
export function drawAtWidth(holder, draw) {
  let width = 0;
  new ResizeObserver(([entry]) => {
    const next = Math.round(entry.contentRect.width);
    if (next > 0 && next !== width) {
      width = next;
      requestAnimationFrame(() => draw(width));
    }
  }).observe(holder);
}
