// @ts-check
// One kind of plot: lines over two number axes, drawn at the width there is.

import { drawAtWidth, drawn, element } from "./dom.js";

/**
 * @typedef {object} Line
 * @property {string} name
 * @property {string} look class that gives colour and dashes
 * @property {(number | null)[]} x
 * @property {(number | null)[]} y
 * @property {number} [dot] index of the point that is marked
 * @property {boolean} [unnamed] whether the legend leaves it out
 * @property {string} [source]
 */

/**
 * @typedef {object} Axes
 * @property {[number, number]} x
 * @property {[number, number]} y
 * @property {string} xTitle
 * @property {string} yTitle
 * @property {(value: number) => string} [xText]
 * @property {(value: number) => string} [yText]
 * @property {boolean} [whole] whether ticks of x are whole numbers
 * @property {boolean} [diagonal]
 * @property {number} [marker] x of an upright line
 */

const MARGIN = { left: 46, right: 12, top: 10, bottom: 40 };

/** A place for plots that is drawn anew when its width or its content changes. */
export class Plot {
  /** @param {HTMLElement} holder @param {string} label what a reader without eyes is told */
  constructor(holder, label) {
    this.holder = holder;
    this.label = label;
    this.width = 0;
    /** @type {{lines: Line[], axes: Axes} | null} */
    this.content = null;
    this.legend = element("ul", { class: "legend" });
    this.figure = element("div", { class: "canvas" });
    holder.replaceChildren(this.figure, this.legend);
    drawAtWidth(this.figure, (width) => {
      this.width = width;
      this.draw();
    });
  }

  /** @param {Line[]} lines @param {Axes} axes */
  show(lines, axes) {
    this.content = { lines, axes };
    this.legend.replaceChildren(
      ...lines.filter((line) => !line.unnamed).map((line) =>
        element("li", {}, swatch(line.look), element("span", { class: "name" }, line.name))),
    );
    this.draw();
  }

  draw() {
    if (!this.content || !this.width) {
      return;
    }
    const { lines, axes } = this.content;
    const height = Math.round(Math.max(200, Math.min(320, this.width * 0.62)));
    const scale = scales(axes, this.width, height);
    const svg = drawn("svg", {
      viewBox: `0 0 ${this.width} ${height}`, width: this.width, height, role: "img", "aria-label": this.label,
    });
    svg.append(...axisMarks(axes, scale, this.width, height));
    for (const line of lines) {
      svg.append(...lineMarks(line, scale));
    }
    this.figure.replaceChildren(svg);
  }
}

/** @param {string} look */
function swatch(look) {
  return drawn("svg", { width: 26, height: 10, "aria-hidden": "true" }, drawn("line", { x1: 1, y1: 5, x2: 25, y2: 5, class: `line ${look}` }));
}

/** @param {Axes} axes @param {number} width @param {number} height */
function scales(axes, width, height) {
  const along = (/** @type {[number, number]} */ [low, high], /** @type {number} */ begin, /** @type {number} */ end) =>
    (/** @type {number} */ value) => begin + ((value - low) / (high - low || 1)) * (end - begin);
  return {
    x: along(axes.x, MARGIN.left, width - MARGIN.right),
    y: along(axes.y, height - MARGIN.bottom, MARGIN.top),
  };
}

/** @param {Axes} axes @param {ReturnType<typeof scales>} scale @param {number} width @param {number} height */
function axisMarks(axes, scale, width, height) {
  const marks = [];
  const [left, right, bottom] = [MARGIN.left, width - MARGIN.right, height - MARGIN.bottom];
  for (const tick of ticks(axes.y, 5, false)) {
    const y = scale.y(tick);
    marks.push(drawn("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }));
    marks.push(drawn("text", { class: "tick", x: left - 6, y: y + 4, "text-anchor": "end" }, (axes.yText || String)(tick)));
  }
  for (const tick of ticks(axes.x, width < 420 ? 5 : 8, Boolean(axes.whole))) {
    const x = scale.x(tick);
    marks.push(drawn("line", { class: "axis", x1: x, x2: x, y1: bottom, y2: bottom + 4 }));
    marks.push(drawn("text", { class: "tick", x, y: bottom + 17, "text-anchor": "middle" }, (axes.xText || String)(tick)));
  }
  marks.push(drawn("line", { class: "axis", x1: left, x2: right, y1: bottom, y2: bottom }));
  if (axes.diagonal) {
    marks.push(drawn("line", { class: "grid", x1: scale.x(axes.x[0]), y1: scale.y(axes.y[0]), x2: scale.x(axes.x[1]), y2: scale.y(axes.y[1]) }));
  }
  if (axes.marker !== undefined) {
    marks.push(drawn("line", { class: "marker", x1: scale.x(axes.marker), x2: scale.x(axes.marker), y1: MARGIN.top, y2: bottom }));
  }
  marks.push(drawn("text", { class: "axis-title", x: (left + right) / 2, y: height - 5, "text-anchor": "middle" }, axes.xTitle));
  marks.push(drawn("text", { class: "axis-title", transform: `translate(12 ${(MARGIN.top + bottom) / 2}) rotate(-90)`, "text-anchor": "middle" }, axes.yTitle));
  return marks;
}

/** @param {Line} line @param {ReturnType<typeof scales>} scale */
function lineMarks(line, scale) {
  let path = "";
  let lifted = true;
  line.x.forEach((x, index) => {
    const y = line.y[index];
    if (x === null || y === null || y === undefined) {
      lifted = true;
      return;
    }
    path += `${lifted ? "M" : "L"}${scale.x(x).toFixed(1)} ${scale.y(y).toFixed(1)}`;
    lifted = false;
  });
  const marks = [drawn("path", { class: `line ${line.look}`, d: path, "data-source": line.source })];
  const at = line.dot;
  if (at !== undefined && line.y[at] !== null && line.y[at] !== undefined) {
    marks.push(drawn("circle", { class: `dot ${line.look}`, cx: scale.x(Number(line.x[at])), cy: scale.y(Number(line.y[at])), r: 4.5 }));
  }
  return marks;
}

/** Round numbers between two bounds. @param {[number, number]} bounds @param {number} most @param {boolean} whole */
export function ticks([low, high], most, whole) {
  const rough = (high - low) / most || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  let step = [1, 2, 5, 10].map((factor) => factor * power).find((one) => one >= rough * 0.999) || rough;
  step = whole ? Math.max(1, Math.round(step)) : step;
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) {
    found.push(Number((index * step).toPrecision(12)));
  }
  return found;
}

/** How a predictor's lines look. @param {string} predictor */
export function lookOf(predictor) {
  const known = ["baseline", "student", "teachers", "teachers/co-occurrence", "teachers/dis-occurrence"];
  const index = known.indexOf(predictor);
  return index < 0 ? "look-other" : `look-${["baseline", "student", "teachers", "co", "dis"][index]}`;
}
