// @ts-check
// Precision-recall and threshold curves of the chosen label, and its counts at a probability.

import { byId, element } from "./dom.js";
import { choiceOf, onChoice } from "./chosen.js";
import { columnSource, count, percent } from "./format.js";
import { decodeCounts, precisionOverRecall, scoresAt } from "./counts.js";
import { numberCell } from "./label_table.js";
import { lookOf, Plot } from "./plot.js";

const FRACTION = (/** @type {number} */ value) => String(Math.round(100 * value));

/** @param {any} data what the page has under "curve-data" */
export function showLabelCurves(data) {
  if (!byId("label-curves") || !data?.sets.length) {
    return;
  }
  const overRecall = new Plot(byId("precision-recall").querySelector(".drawing"), "Precision over recall of the chosen label");
  const overThresholds = new Plot(byId("over-thresholds").querySelector(".drawing"), "Scores of the chosen label over the threshold");
  const slider = byId("threshold");
  const metric = byId("threshold-metric");
  // The slider goes from low to high probabilities, the cuts the other way.
  const cut = () => data.thresholds.length - 1 - Number(slider.value);
  const draw = () => {
    const curves = curvesOf(data, choiceOf("label"), choiceOf("split"));
    const threshold = data.thresholds[cut()];
    byId("threshold-value").textContent = threshold.toFixed(2);
    overRecall.show(curves.map((curve) => recallLine(curve, cut())), {
      x: [0, 1], y: [0, 1], xTitle: "recall, percent", yTitle: "precision, percent", xText: FRACTION, yText: FRACTION,
    });
    overThresholds.show(curves.map((curve) => thresholdLine(curve, data.thresholds, metric.value)), {
      x: [0, 1], y: [0, 1], xTitle: "probability", yTitle: `${metric.selectedOptions[0].textContent}, percent`, yText: FRACTION, marker: threshold,
    });
    showCounts(curves, cut(), threshold);
  };
  slider.addEventListener("input", draw);
  metric.addEventListener("change", draw);
  onChoice(draw);
  draw();
}

/** @param {any} data @param {string | null} label @param {string | null} split */
function curvesOf(data, label, split) {
  return data.sets
    .filter((/** @type {any} */ set) => set.split === split && set.labels.includes(label))
    .map((/** @type {any} */ set) => {
      const index = set.labels.indexOf(label);
      return {
        predictor: set.predictor,
        source: columnSource(set.source, `logit:${label}`),
        images: set.images[index],
        positives: set.positives[index],
        atThresholds: decodeCounts(set.atThresholds[index]),
        atRecalls: decodeCounts(set.atRecalls[index]),
      };
    });
}

/** @param {any} curve @param {number} cut @returns {import("./plot.js").Line} */
function recallLine(curve, cut) {
  const { recall, precision } = precisionOverRecall([curve.atThresholds, curve.atRecalls], curve.positives);
  const here = scoresAt(curve.atThresholds, cut, curve.positives);
  const predicted = here.hits + here.falseAlarms;
  const dot = predicted > 0
    ? recall.findIndex((value, index) => index > 0 && value === here.recall && precision[index] === here.precision)
    : -1;
  return {
    name: curve.predictor, look: lookOf(curve.predictor), x: recall, y: precision, source: curve.source, dot: dot < 0 ? undefined : dot,
  };
}

/** @param {any} curve @param {number[]} thresholds @param {string} metric @returns {import("./plot.js").Line} */
function thresholdLine(curve, thresholds, metric) {
  const scores = thresholds.map((_, index) => scoresAt(curve.atThresholds, index, curve.positives));
  return {
    name: curve.predictor,
    look: lookOf(curve.predictor),
    x: thresholds,
    y: scores.map((score) => /** @type {any} */ (score)[metric]),
    source: curve.source,
  };
}

/** @param {any[]} curves @param {number} cut @param {number} threshold */
function showCounts(curves, cut, threshold) {
  const table = byId("counts-table");
  const [first] = curves;
  const name = element("b", { class: "name", dir: "auto" }, choiceOf("label") || "");
  const words = first ? ` is in ${count(first.positives)} of ${count(first.images)} pictures of ` : " has no curves for ";
  table.caption.replaceChildren(name, words, element("span", { class: "name" }, choiceOf("split") || ""), ". Percent, and pictures.");
  table.caption.setAttribute("data-source", first?.source || "");
  table.tBodies[0].replaceChildren(...curves.map((curve) => {
    const scores = scoresAt(curve.atThresholds, cut, curve.positives);
    const cell = (/** @type {"precision" | "recall" | "f1"} */ key) =>
      numberCell(percent(scores[key]), scores[key], curve.source, "percent", `${key}-at-${threshold}`);
    const pictures = (/** @type {"hits" | "falseAlarms" | "missed"} */ key) =>
      numberCell(count(scores[key]), scores[key], curve.source, "count", `${key}-at-${threshold}`);
    return element("tr", {}, element("th", { scope: "row" }, element("span", { class: "name" }, curve.predictor)),
      cell("precision"), cell("recall"), cell("f1"), pictures("hits"), pictures("falseAlarms"), pictures("missed"));
  }));
}
