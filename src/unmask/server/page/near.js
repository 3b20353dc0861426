// Texts by how near they are to the first: the vectors of the encoder, or of a task, or a task's own pairs.

import { bars, make } from "/page/draw.js";
import * as server from "/page/server.js";
import { behind } from "/page/why.js";

const cosineShown = (value) => value.toFixed(3);

/** A ranking of `others` by their nearness to `first`, and why it is so. */
export async function ranked(task, first, others) {
  if (task.kind === "vector") {
    const scores = others.length ? await server.similarity(first, others) : [];
    return [make("p", {}, first ?? ""), bars(others.map((text, i) => [text, scores[i]]), cosineShown)];
  }
  const found = await scored(task, first, others);
  const near = found.filter(({ error }) => !error).map(({ text, score }) => [text, score]);
  const wrong = found.filter(({ error }) => error).map(({ text, error }) =>
    make("p", { class: "error", role: "alert" }, `${text}: ${error.message}`),
  );
  const rows = rowsOf(task, first, near);
  const why = rows.length ? behind(task, rows) : [];
  if (task.kind === "rerank") return [bars(near), ...wrong, ...why];
  return [make("p", {}, first), bars(near, cosineShown), ...wrong, ...why];
}

/** Each text with its score, or with what is wrong with it. */
async function scored(task, first, others) {
  if (task.inputs.length > 1) {
    const found = await server.ask(task.name, others.map((text) => [first, text]));
    return found.map(({ answer, error }, i) => ({ text: others[i], error, score: answer?.relevance ?? answer?.cosine }));
  }
  const [own, ...found] = await server.ask(task.name, [first, ...others].filter(Boolean));
  if (own.error) throw new server.ServerError(422, own.error.message);
  return found.map(({ answer, error }, i) => ({ text: others[i], error, score: cosine(own.answer.vector, answer?.vector) }));
}

/** Of vectors of length 1. */
const cosine = (one, other) => other?.reduce((sum, value, i) => sum + value * one[i], 0);

/** The rows of a ranking that can be explained, the nearest first: pairs, or each text alone. */
function rowsOf(task, first, near) {
  const sorted = [...near].sort((a, b) => b[1] - a[1]).map(([text]) => text);
  if (task.inputs.length > 1) return sorted.map((text) => [text, [first, text], [first, text]]);
  return [first, ...sorted].map((text) => [text, text, [text]]);
}
