// @ts-check
// Start: read the data of the page, offer the choices, draw.

import { byId, readData } from "./dom.js";
import { choose, offerChoices } from "./chosen.js";
import { enhanceTables } from "./tables.js";
import { showLabelTable } from "./label_table.js";
import { showLabelCurves } from "./label_curves.js";
import { showTrainingPlots } from "./training_plots.js";
import { showPartitionGraphs } from "./partition_graph.js";
import { showReliability } from "./reliability.js";
import { showThresholds } from "./threshold_table.js";

enhanceTables();
const labelData = readData("label-data");
if (labelData) {
  offerChoices("split", labelData.splits.map((/** @type {any} */ split) => split.name));
  offerChoices("label", labelData.labels);
  if (labelData.splits.length) {
    choose("split", labelData.splits[0].name);
  }
  chooseFirst(labelData);
  showPartitionGraphs(readData("graph-data"));
  showLabelTable(labelData);
  showLabelCurves(readData("curve-data"));
  showTrainingPlots(readData("training-data"));
  showThresholds(readData("threshold-data"));
  showReliability(readData("reliability-data"));
}
showPlaces();

/** Choose the label that most pictures have, so that no curve is empty. @param {any} data */
function chooseFirst(data) {
  const counts = data.splits[0]?.positives || data.trainImages || [];
  const most = counts.reduce((/** @type {number} */ best, /** @type {number} */ count, /** @type {number} */ index) =>
    (count > counts[best] ? index : best), 0);
  choose("label", data.labels[most]);
}

/** Say where a number comes from when it is pointed at. */
function showPlaces() {
  byId("main").addEventListener("mouseover", (/** @type {MouseEvent} */ event) => {
    const place = event.target instanceof Element ? event.target.closest("data[data-source]") : null;
    if (place && !place.hasAttribute("title")) {
      place.setAttribute("title", `from ${decodeURIComponent(place.getAttribute("data-source") || "")}`);
    }
  });
  // On narrow screens the contents would push the report off the first page.
  const contents = document.querySelector(".contents details");
  if (contents instanceof HTMLDetailsElement && matchMedia("(max-width: 60rem)").matches) {
    contents.open = false;
  }
}
