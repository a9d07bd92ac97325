// @ts-check
// Training curves: validation and loss, a pair of plots for baseline and student and for each
// teacher ensemble.

import { byId, element } from "./dom.js";
import { isNumber } from "./format.js";
import { lookOf, Plot } from "./plot.js";

const PERCENT = (/** @type {number} */ value) => String(Math.round(100 * value));

/** @param {any[] | null} members what the page has under "training-data" */
export function showTrainingPlots(members) {
  const holder = byId("training-plots");
  if (!holder || !members) {
    return;
  }
  /** @type {Map<string, any[]>} */
  const groups = new Map();
  for (const member of members) {
    const group = member.group.includes("/") ? member.group : "baseline and student";
    groups.set(group, [...(groups.get(group) || []), member]);
  }
  for (const [group, some] of groups) {
    showPlot(holder, `mAP on validation: ${group}`, some, ["validation_raw", "validation_ema"]);
    showPlot(holder, `Loss: ${group}`, some, ["loss"]);
  }
}

/** @param {HTMLElement} holder @param {string} title @param {any[]} members @param {string[]} columns */
function showPlot(holder, title, members, columns) {
  const place = element("div", { class: "drawing" });
  holder.append(element("figure", { class: "plot" }, element("figcaption", {}, element("b", {}, element("span", { class: "name" }, title))), place));
  const lines = members.flatMap((member, index) => columns
    .filter((column) => (member.curves[column] || []).some(isNumber))
    .map((column) => memberLine(member, column, lookOfMember(member, index))));
  const values = lines.flatMap((line) => line.y).filter(isNumber);
  const epochs = members.flatMap((member) => member.epochs);
  if (!values.length) {
    place.append(element("p", { class: "missing" }, "No epoch has a value."));
    return;
  }
  const score = columns[0] !== "loss";
  new Plot(place, title).show(lines, {
    x: [1, Math.max(2, ...epochs)],
    y: [0, Math.max(...values) * 1.05 || 1],
    xTitle: "epoch",
    yTitle: score ? "mAP, percent" : "loss a picture",
    yText: score ? PERCENT : undefined,
    whole: true,
  });
}

/** @param {any} member @param {string} column @param {string} look @returns {import("./plot.js").Line} */
function memberLine(member, column, look) {
  const averaged = column === "validation_ema";
  const kept = column !== "loss" && (member.keptWeights === "ema") === averaged;
  const at = member.epochs.indexOf(member.keptEpoch);
  return {
    name: member.name,
    look: averaged ? `${look} lighter` : look,
    x: member.epochs,
    y: member.curves[column],
    dot: kept && at >= 0 ? at : undefined,
    unnamed: averaged,
    source: member.source,
  };
}

/** @param {any} member @param {number} index */
function lookOfMember(member, index) {
  return member.group.includes("/") ? `look-part-${index % 6}` : lookOf(member.name);
}
