// @ts-check
// Curves as counts: how curves.py keeps them, and what follows from them.

/**
 * @typedef {object} Counts
 * @property {number[]} predicted pictures at or above each cut, from the highest cut
 * @property {number[]} hits those of them that have the label
 */

/** Read steps of seven bits a byte, `predicted` and `hits` in turns. @param {string} text @returns {Counts} */
export function decodeCounts(text) {
  const bytes = atob(text);
  const sums = [0, 0];
  /** @type {number[][]} */
  const lists = [[], []];
  let number = 0;
  let factor = 1;
  let turn = 0;
  for (let index = 0; index < bytes.length; index += 1) {
    const byte = bytes.charCodeAt(index);
    number += (byte & 127) * factor;
    factor *= 128;
    if (byte < 128) {
      sums[turn] += number;
      lists[turn].push(sums[turn]);
      [number, factor, turn] = [0, 1, 1 - turn];
    }
  }
  return { predicted: lists[0], hits: lists[1] };
}

/**
 * Precision, recall and F1 at one cut; a label that is never predicted has precision 0.
 * @param {Counts} counts @param {number} index @param {number} positives
 */
export function scoresAt(counts, index, positives) {
  const [predicted, hits] = [counts.predicted[index], counts.hits[index]];
  return {
    precision: positives ? hits / Math.max(predicted, 1) : null,
    recall: positives ? hits / positives : null,
    f1: positives ? (2 * hits) / (predicted + positives) : null,
    hits,
    falseAlarms: predicted - hits,
    missed: positives - hits,
  };
}

/**
 * Recall and precision over all cuts, by rising recall; cuts that predict nothing have no precision.
 * @param {Counts[]} several @param {number} positives
 */
export function precisionOverRecall(several, positives) {
  /** @type {[number, number][]} */
  const pairs = several.flatMap(({ predicted, hits }) =>
    predicted.map((number, index) => /** @type {[number, number]} */ ([number, hits[index]])));
  const cuts = pairs.filter(([predicted]) => predicted > 0).sort((a, b) => a[0] - b[0]);
  if (!positives || !cuts.length) {
    return { recall: [], precision: [] };
  }
  const first = cuts[0][1] / cuts[0][0];
  return {
    recall: [0, ...cuts.map(([, hits]) => hits / positives)],
    precision: [first, ...cuts.map(([predicted, hits]) => hits / predicted)],
  };
}
