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

/** How far ahead of the screen drawings are made, in heights of the screen. */
const AHEAD = "100%";

/**
 * Call `draw` with the width of `holder` when it comes near the screen or the page is printed, and
 * whenever the width has changed, once a frame at most. So that a page opens as fast, whatever it holds.
 * @param {Element} holder
 * @param {(width: number) => void} draw
 */
export function drawAtWidth(holder, draw) {
  let [near, width, drawnAt] = [false, 0, 0];
  const update = () => {
    if (near && width > 0 && width !== drawnAt) {
      drawnAt = width;
      draw(width);
    }
  };
  new ResizeObserver(([entry]) => {
    width = Math.round(entry.contentRect.width);
    requestAnimationFrame(update);
  }).observe(holder);
  new IntersectionObserver((entries) => {
    near = entries[entries.length - 1].isIntersecting;
    requestAnimationFrame(update);
  }, { rootMargin: `${AHEAD} 0px` }).observe(holder);
  addEventListener("beforeprint", () => {
    near = true;
    update();
  });
}
