// @ts-check
// Labels around a circle, a colour a part, and the strongest links between them.

import { byId, drawAtWidth, drawn, element } from "./dom.js";
import { choiceOf, choose, onChoice } from "./chosen.js";
import { byName } from "./format.js";

const LINE_HEIGHT = 12;
const MANY_LABELS = 40;
const LETTER_WIDTH = 7;
const ROOM_FOR_PART = 38;

/** The label whose links are picked out; none until somebody chooses one. @type {string | null} */
let picked = null;
/** @type {(() => void)[]} */
const graphs = [];

/** @param {string | null} label */
function pick(label) {
  picked = label;
  if (label) {
    choose("label", label);
  }
  graphs.forEach((redraw) => redraw());
}

/** @param {any} data what the page has under "graph-data" */
export function showPartitionGraphs(data) {
  const control = byId("graph-label");
  if (!data || !control) {
    return;
  }
  const ordered = [...data.labels].sort(byName);
  control.append(...ordered.map((label) => element("option", { value: label }, label)));
  control.addEventListener("change", () => pick(control.value || null));
  onChoice((choice) => {
    if (choice === "label") {
      control.value = choiceOf("label");
      pick(choiceOf("label"));
    }
  });
  for (const view of data.views) {
    const figure = [...document.querySelectorAll("figure.graph")]
      .find((one) => one.getAttribute("data-strategy") === view.strategy);
    const holder = figure?.querySelector(".drawing");
    if (holder) {
      showGraph(holder, data, view);
    }
  }
}

/** @param {Element} holder @param {any} data @param {any} view */
function showGraph(holder, data, view) {
  /** @type {SVGElement | null} */
  let svg = null;
  drawAtWidth(holder, (width) => {
    svg = drawGraph(data, view, width);
    pickOut(svg, data, picked);
    holder.replaceChildren(svg);
  });
  holder.addEventListener("click", (event) => {
    const node = event.target instanceof Element ? event.target.closest("[data-label]") : null;
    if (node) {
      pick(data.labels[Number(node.getAttribute("data-label"))]);
    }
  });
  graphs.push(() => svg && pickOut(svg, data, picked));
}

/** @param {any} data @param {any} view @param {number} width @returns {SVGElement} */
function drawGraph(data, view, width) {
  const side = Math.min(width, data.labels.length > MANY_LABELS ? 820 : 600);
  const letters = Math.max(...data.labels.map((/** @type {string} */ label) => [...label].length));
  const margin = Math.min(letters * LETTER_WIDTH + ROOM_FOR_PART, side * 0.33);
  const mostLetters = Math.floor((margin - ROOM_FOR_PART) / LETTER_WIDTH);
  const radius = side / 2 - margin;
  const places = placesOf(view, radius);
  const hues = view.sizes.map((/** @type {number} */ _, /** @type {number} */ part) =>
    Math.round(25 + (360 * part) / view.sizes.length) % 360);
  const svg = drawn("svg", {
    viewBox: `${-side / 2} ${-side / 2} ${side} ${side}`, width: side, height: side, role: "img",
    "aria-label": `Labels of the ${view.strategy} partition around a circle, with their strongest links; the parts are listed below`,
  });
  const links = drawn("g", { class: "links" });
  const heaviest = data.links.length ? data.links[0][2] : 1;
  const lightest = data.links.length ? data.links[data.links.length - 1][2] : 0;
  // Of many lines each is thinner, or the strong ones could not be told from the rest.
  const thickest = Math.max(1, Math.min(3, 240 / (data.links.length || 1)));
  for (const [i, j, weight] of [...data.links].reverse()) {
    const share = heaviest > lightest ? (weight - lightest) / (heaviest - lightest) : 1;
    links.append(linkMark(places.get(i), places.get(j), i, j, 0.4 + thickest * share ** 2, hues));
  }
  svg.append(links);
  const named = namedLabels(data, places, radius);
  for (const [column, place] of places) {
    svg.append(labelMark(data, column, place, hues[place.part], named.has(column), mostLetters));
  }
  svg.append(...partMarks(view, radius + margin - 8, hues, places));
  return svg;
}

/** Where each label stands: parts one after another, a gap between them. @param {any} view @param {number} radius */
function placesOf(view, radius) {
  const gap = view.sizes.length > 1 ? Math.min(0.08, 1.2 / view.sizes.length) : 0;
  const step = (2 * Math.PI - gap * view.sizes.length) / view.order.length;
  const places = new Map();
  let angle = -Math.PI / 2 + gap / 2;
  let next = 0;
  view.sizes.forEach((/** @type {number} */ size, /** @type {number} */ part) => {
    for (let count = 0; count < size; count += 1, next += 1) {
      const middle = angle + step / 2;
      places.set(view.order[next], {
        angle: middle, part, radius, step, x: radius * Math.cos(middle), y: radius * Math.sin(middle),
      });
      angle += step;
    }
    angle += gap;
  });
  return places;
}

/**
 * The labels whose names have room: those in most pictures first, none upon another.
 * @param {any} data @param {Map<number, any>} places @param {number} radius
 */
function namedLabels(data, places, radius) {
  const apart = LINE_HEIGHT / (radius + 10);
  /** @type {number[]} */
  const taken = [];
  const named = new Set();
  const order = [...places.keys()].sort((a, b) => data.images[b] - data.images[a]);
  for (const column of order) {
    const { angle } = places.get(column);
    const free = taken.every((other) => {
      const between = Math.abs(angle - other) % (2 * Math.PI);
      return Math.min(between, 2 * Math.PI - between) >= apart * 0.999;
    });
    if (free) {
      taken.push(angle);
      named.add(column);
    }
  }
  return named;
}

/** @param {any} from @param {any} to @param {number} i @param {number} j @param {number} thickness @param {number[]} hues */
function linkMark(from, to, i, j, thickness, hues) {
  const inside = from.part === to.part;
  // Bent towards the middle, more for labels that stand far apart.
  const apart = Math.hypot(from.x - to.x, from.y - to.y) / (2 * from.radius);
  const bend = (0.8 - 0.7 * apart) / 2;
  const round = (/** @type {number} */ value) => value.toFixed(1);
  const d = `M${round(from.x)} ${round(from.y)}Q${round((from.x + to.x) * bend)} ${round((from.y + to.y) * bend)} ${round(to.x)} ${round(to.y)}`;
  return drawn("path", {
    d,
    class: inside ? "link inside" : "link",
    style: `${inside ? `--hue: ${hues[from.part]};` : ""} stroke-width: ${thickness.toFixed(2)}`,
    "data-from": i,
    "data-to": j,
  });
}

/** @param {any} data @param {number} column @param {any} place @param {number} hue @param {boolean} named @param {number} mostLetters */
function labelMark(data, column, place, hue, named, mostLetters) {
  const name = data.labels[column];
  const left = Math.cos(place.angle) < 0;
  const degrees = (place.angle * 180) / Math.PI + (left ? 180 : 0);
  const out = place.radius + 9;
  const text = drawn("text", {
    transform: `translate(${(out * Math.cos(place.angle)).toFixed(1)} ${(out * Math.sin(place.angle)).toFixed(1)}) rotate(${degrees.toFixed(1)})`,
    "text-anchor": left ? "end" : "start",
    dy: "0.35em",
    class: named ? "label-name" : "label-name spare",
  }, shortened(name, mostLetters));
  const dot = drawn("circle", { cx: place.x.toFixed(1), cy: place.y.toFixed(1), r: Math.max(1.5, Math.min(5, place.step * place.radius * 0.4)).toFixed(1) });
  return drawn("g", { class: "label", style: `--hue: ${hue}`, "data-label": column }, drawn("title", {}, name), dot, text);
}

/** The number of each part, outside of its names. @param {any} view @param {number} radius @param {number[]} hues @param {Map<number, any>} places */
function partMarks(view, radius, hues, places) {
  let next = 0;
  return view.sizes.map((/** @type {number} */ size, /** @type {number} */ part) => {
    const [first, last] = [places.get(view.order[next]), places.get(view.order[next + size - 1])];
    next += size;
    const begin = first.angle - first.step / 2;
    const end = last.angle + last.step / 2;
    const at = (/** @type {number} */ angle, /** @type {number} */ r) => `${(r * Math.cos(angle)).toFixed(1)} ${(r * Math.sin(angle)).toFixed(1)}`;
    const wide = end - begin > Math.PI ? 1 : 0;
    const middle = (begin + end) / 2;
    const arc = size === view.order.length
      ? drawn("circle", { class: "arc", r: radius, fill: "none" })
      : drawn("path", { class: "arc", d: `M${at(begin, radius)}A${radius} ${radius} 0 ${wide} 1 ${at(end, radius)}` });
    const badge = drawn("g", { transform: `translate(${at(middle, radius)})` },
      drawn("circle", { class: "badge", r: 8 }), drawn("text", { class: "badge-text", dy: "0.35em", "text-anchor": "middle" }, String(part)));
    return drawn("g", { class: "part-mark", style: `--hue: ${hues[part]}` }, arc, badge);
  });
}

/** Show the links of one label alone, and name the labels at their ends. @param {SVGElement} svg @param {any} data @param {string | null} label */
function pickOut(svg, data, label) {
  const column = label === null ? -1 : data.labels.indexOf(label);
  /** @type {Set<string>} */
  const touched = new Set();
  for (const link of svg.querySelectorAll(".link")) {
    const ends = [link.getAttribute("data-from"), link.getAttribute("data-to")];
    const touches = ends.includes(String(column));
    link.classList.toggle("picked", touches);
    if (touches) {
      ends.forEach((end) => touched.add(String(end)));
    }
  }
  for (const node of svg.querySelectorAll(".label")) {
    const at = String(node.getAttribute("data-label"));
    node.classList.toggle("picked", at === String(column));
    node.classList.toggle("touched", touched.has(at));
  }
  svg.classList.toggle("picking", column >= 0);
}

/** @param {string} name @param {number} most */
function shortened(name, most) {
  const letters = [...name];
  return letters.length > most ? `${letters.slice(0, most - 1).join("")}…` : name;
}
