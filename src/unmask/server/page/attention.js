// The encoder's attention: a table of tokens by tokens for one layer and head.

import { make } from "/page/draw.js";
import { asking, choice } from "/page/panel.js";
import * as server from "/page/server.js";
import { say } from "/page/words.js";

const percent = (p) => `${Math.round(100 * p)}\u00a0%`;
const NUMBERS = 14; // tokens up to which each cell shows its number

/** Choices of layer and head above the table of their weights; a layer is fetched when it is chosen. */
export function attentionPanel(panel, task, rows) {
  const again = () => ask();
  const [row, rowLabel] = choice("ofText", rows.map(([name], i) => [i, name]), again);
  const [layer, layerLabel] = choice("layer", [["", "…"]], again);
  const [head, headLabel] = choice("head", [["", say("meanHead")]], again);
  const kept = new Map(); // what was fetched, by row and layer

  async function fetched() {
    const input = rows[Number(row.value)][1];
    const key = `${row.value} ${layer.value}`;
    if (!kept.has(key)) {
      const asked = { input, ...(layer.value ? { layer: Number(layer.value) } : {}) };
      kept.set(key, await server.attention(task.name, asked));
    }
    const found = kept.get(key);
    if (!layer.value) {
      kept.set(`${row.value} ${found.layer}`, found);
      layer.replaceChildren(...numbers(found.layers));
      layer.value = found.layer;
      head.append(...numbers(found.heads));
    }
    return found.tokens.flatMap((tokens, i) => drawn(tokens, weightsOf(found.weights[i], head.value)));
  }

  const controls = [layerLabel, headLabel];
  if (rows.length > 1) controls.unshift(rowLabel);
  const ask = asking(panel, controls, fetched);
  ask();
}

const numbers = (count) =>
  Array.from({ length: count }, (_, i) => make("option", { value: i + 1 }, String(i + 1)));

/** The weights (T, T) of one head of a layer's (H, T, T), or the mean of all. */
function weightsOf(heads, chosen) {
  if (chosen) return heads[Number(chosen) - 1];
  return heads[0].map((line, q) =>
    line.map((_, k) => heads.reduce((sum, own) => sum + own[q][k], 0) / heads.length),
  );
}

/** The heat map: a row for each token that looks, a column for each that is looked at. */
function drawn(tokens, weights) {
  const most = Math.max(...weights.flat()) || 1;
  const shown = tokens.length <= NUMBERS ? "" : "small";
  const top = tokens.map((token) => make("th", { scope: "col" }, make("span", {}, token)));
  const lines = weights.map((line, q) => {
    const cells = line.map((weight, k) => {
      const title = say("looks", tokens[q], tokens[k], percent(weight));
      const cell = make("td", { title }, make("span", {}, String(Math.round(100 * weight))));
      cell.style.setProperty("--weight", (weight / most).toFixed(3));
      return cell;
    });
    return make("tr", {}, make("th", { scope: "row" }, tokens[q]), ...cells);
  });
  const table = make(
    "table", { class: `attention ${shown}` },
    make("caption", {}, say("attentionCaption", percent(most))),
    make("thead", {}, make("tr", {}, make("td"), ...top)),
    make("tbody", {}, ...lines),
  );
  const scroll = { class: "scroll", tabindex: "0", role: "group", "aria-label": say("attention") };
  return [make("div", scroll, table), digest(tokens, weights)];
}

/** In words: where each token looks most. */
function digest(tokens, weights) {
  const lines = weights.map((line, q) => {
    const best = line.indexOf(Math.max(...line));
    return make("li", {}, say("looks", tokens[q], tokens[best], percent(line[best])));
  });
  return make("details", {}, make("summary", {}, say("looksMost")), make("ol", {}, ...lines));
}
