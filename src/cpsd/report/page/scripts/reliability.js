// @ts-check
// Reliability: how often a label is there, over the probability that a predictor says.

import { byId, element } from "./dom.js";
import { choiceOf, onChoice } from "./chosen.js";
import { decimal, percent, pointerToken } from "./format.js";
import { numberCell } from "./label_table.js";
import { lookOf, Plot } from "./plot.js";

const AXES = {
  x: /** @type {[number, number]} */ ([0, 1]),
  y: /** @type {[number, number]} */ ([0, 1]),
  xTitle: "probability said",
  yTitle: "share with the label",
  diagonal: true,
};

/** @param {any[] | null} curves what the page has under "reliability-data" */
export function showReliability(curves) {
  if (!byId("reliability") || !curves?.length) {
    return;
  }
  const ofLabel = new Plot(byId("reliability-of-label").querySelector(".drawing"), "Reliability of the chosen label");
  const overall = new Plot(byId("reliability-overall").querySelector(".drawing"), "Reliability of all labels together");
  const control = byId("reliability-split");
  const splits = [...new Set(curves.map((curve) => curve.split))];
  control.append(...splits.map((split) => element("option", { value: split }, split)));
  const draw = () => {
    const label = choiceOf("label") || "";
    const here = curves.filter((curve) => curve.split === control.value);
    const own = here.filter((curve) => Object.hasOwn(curve.labels, label));
    ofLabel.show(own.map((curve) => reliabilityLine(curve, curve.labels[label])), AXES);
    overall.show(here.map((curve) => reliabilityLine(curve, curve.overall)), AXES);
    showErrors(own, label);
  };
  control.addEventListener("change", draw);
  onChoice((choice) => choice === "label" && draw());
  draw();
}

/** @param {any} curve @param {any} content @returns {import("./plot.js").Line} */
function reliabilityLine(curve, content) {
  return { name: curve.predictor, look: lookOf(curve.predictor), x: content.probability, y: content.frequency, source: curve.source };
}

/** @param {any[]} curves @param {string} label */
function showErrors(curves, label) {
  const table = byId("reliability-table");
  table.caption.replaceChildren("Calibration of ", element("b", { class: "name", dir: "auto" }, label), "; errors in percent.");
  table.tBodies[0].replaceChildren(...curves.map((curve) => {
    const content = curve.labels[label];
    const place = `${curve.source}#/predictors/${pointerToken(curve.predictor)}/labels/${pointerToken(label)}`;
    return element("tr", {}, element("th", { scope: "row" }, element("span", { class: "name" }, curve.predictor)),
      numberCell(percent(content.error), content.error, `${place}/expected_calibration_error`, "percent"),
      numberCell(percent(content.withTemperature), content.withTemperature, `${place}/expected_calibration_error_with_temperature`, "percent"),
      numberCell(decimal(content.temperature), content.temperature, `${place}/temperature`, "decimal"));
  }));
}
