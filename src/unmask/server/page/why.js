// Behind an answer: why the model gave it (words by how much they speak for it), and its attention.

import { attentionPanel } from "/page/attention.js";
import { make } from "/page/draw.js";
import { asking, choice } from "/page/panel.js";
import * as server from "/page/server.js";
import { say } from "/page/words.js";

const METHODS = ["integrated_gradients", "gradient_input", "occlusion", "shapley", "rollout"];
let made = 0; // panels so far: their ids differ

/**
 * The buttons that open an explanation and the attention behind an answer.
 *
 * `rows` are [name, input, texts] of each row that was answered: one, or those that were ranked.
 * `result` is its answer, where it is one row's.
 */
export function behind(task, rows, result = null) {
  const ways = [["why", whyPanel], ["attention", attentionPanel]];
  const parts = ways.map(([phrase, draw]) => {
    const id = `behind-${(made += 1)}`;
    // What is announced is the status line, and not a whole table.
    const panel = make("div", { id, class: "behind", "aria-live": "off", hidden: "" });
    const button = make(
      "button", { type: "button", "aria-expanded": "false", "aria-controls": id }, say(phrase),
    );
    button.addEventListener("click", () => {
      panel.hidden = !panel.hidden;
      button.setAttribute("aria-expanded", String(!panel.hidden));
      if (!panel.hidden && !panel.hasChildNodes()) draw(panel, task, rows, result);
    });
    return [button, panel];
  });
  return [make("p", { class: "row" }, ...parts.map(([button]) => button)), ...parts.map(([, panel]) => panel)];
}

/** What may be named as the answer to explain: [value, what is shown]; the first is the model's own. */
function answersOf(task, answer) {
  const own = [["", say("ownAnswer")]];
  if (!answer) return own;
  if (answer.probabilities) return [...own, ...Object.keys(answer.probabilities).map((name) => [name, name])];
  if (answer.entities) {
    const named = answer.entities.map(({ label, text }) => `${label}: ${text}`);
    return [...own, ...[...new Set(named)].map((name) => [name, name])];
  }
  if (answer.candidates && task.kind === "mlm") {
    const guesses = answer.candidates.flatMap((guesses, i) =>
      Object.keys(guesses).map((word) => [`${i + 1}:${word}`, `${i + 1}: ${word}`]),
    );
    return [...own, ...guesses];
  }
  return own;
}

function whyPanel(panel, task, rows, result) {
  const again = () => ask();
  const [row, rowLabel] = choice("ofText", rows.map(([name], i) => [i, name]), again);
  const answers = answersOf(task, result?.answer);
  const [answer, answerLabel] = choice("answer", answers, again);
  const [method, methodLabel] = choice("method", METHODS.map((name) => [name, say(name)]), again);
  const controls = [methodLabel];
  if (answers.length > 1) controls.unshift(answerLabel);
  if (rows.length > 1) controls.unshift(rowLabel);
  const ask = asking(panel, controls, async () => {
    const [, input, texts] = rows[Number(row.value)];
    const asked = { input, method: method.value, ...(answer.value ? { answer: answer.value } : {}) };
    const found = await server.explain(task.name, asked);
    return [...explained(found, texts), ...trust(task, asked)];
  });
  ask();
}

const signed = (value) => `${value < 0 ? "−" : "+"}${Math.abs(value).toPrecision(3)}`;

/** The words of each text on colours and underlines, a legend, and what is known of the scores. */
function explained(found, texts) {
  const [method] = found.methods;
  const strongest = Math.max(...method.scores.map(Math.abs)) || 1;
  const sides = [...new Set(found.parts.map((part) => part.side))].sort((a, b) => a - b);
  const shown = sides.map((side) => {
    const own = found.parts
      .map((part, i) => ({ ...part, score: method.scores[i], share: method.scores[i] / strongest }))
      .filter((part) => part.side === side);
    return paragraph(own, texts[side] ?? null);
  });
  const value = say("valueOf", say(found.measure), found.value.toPrecision(3), found.blank.toPrecision(3));
  const lines = [value, ...found.notes];
  if (method.error !== null) {
    lines.push(say("convergence", method.error.toPrecision(2), signed(method.change), method.passes));
  }
  return [
    make("h2", {}, say("whyOf", found.answer)),
    ...shown,
    legend(strongest),
    ...lines.map((line) => make("p", { class: "counts" }, line)),
    table(found, method),
  ];
}

/** A text with its scored parts; where it is not known which characters they are, the parts alone. */
function paragraph(parts, text) {
  const known = text !== null && parts.every((part) => part.start !== null);
  const order = known ? "start" : "first";
  const sorted = parts
    .map((part) => ({ ...part, first: part.tokens[0] }))
    .sort((a, b) => a[order] - b[order]);
  const shown = make("p", { class: "text", dir: "auto" });
  const characters = known ? [...text] : []; // by code point, as Python counts
  let at = 0;
  for (const part of sorted) {
    if (known && part.start < at) continue;
    if (known) shown.append(characters.slice(at, part.start).join(""));
    shown.append(word(part, known ? characters.slice(part.start, part.end).join("") : part.text));
    if (known) at = part.end;
    else shown.append(" ");
  }
  shown.append(characters.slice(at).join(""));
  return shown;
}

function word(part, text) {
  const way = Math.abs(part.share) < 0.05 ? "" : part.share > 0 ? "for" : "against";
  const shown = make("span", { class: `scored ${way}`, title: signed(part.score) }, text);
  shown.style.setProperty("--share", Math.abs(part.share).toFixed(3));
  return shown;
}

function legend(strongest) {
  const sample = (way) => {
    const shown = make("span", { class: `scored ${way}` }, say(way));
    shown.style.setProperty("--share", "1");
    return shown;
  };
  return make(
    "p", { class: "counts" },
    sample("for"), " ", sample("against"), " ", say("legend", strongest.toPrecision(3)),
  );
}

/** The same in figures, the strongest first. */
function table(found, method) {
  const order = method.scores.map((_, i) => i);
  order.sort((a, b) => Math.abs(method.scores[b]) - Math.abs(method.scores[a]));
  const head = make("tr", {}, ...["part", "value"].map((name) => make("th", { scope: "col" }, say(name))));
  const rows = order.map((i) =>
    make(
      "tr", {},
      make("th", { scope: "row", dir: "auto" }, found.parts[i].text),
      make("td", { class: "number" }, signed(method.scores[i])),
    ),
  );
  return make(
    "details", {},
    make("summary", {}, say("figures")),
    make("table", {}, make("thead", {}, head), make("tbody", {}, ...rows)),
  );
}

/** A button that has it measured how faithful the scores are, which takes several times longer. */
function trust(task, asked) {
  const shown = make("div");
  const button = make("button", { type: "button" }, say("trust"));
  const ask = asking(shown, [], async () => {
    const [method] = (await server.explain(task.name, { ...asked, check: true })).methods;
    return measured(method);
  });
  button.addEventListener("click", () => {
    button.hidden = true;
    ask();
  });
  return [button, shown];
}

function measured(method) {
  const names = ["comprehensiveness", "sufficiency", "deletion_area"];
  const cells = ["measured", "these", "chance"].map((name) => make("th", { scope: "col" }, say(name)));
  const rows = names.map((name) =>
    make(
      "tr", {},
      make("th", { scope: "row" }, say(name)),
      ...[method.faithfulness, method.faithfulness.chance].map((own) =>
        make("td", { class: "number" }, own[name].toFixed(3)),
      ),
    ),
  );
  const lines = Object.entries(method.agreement)
    .filter(([, r]) => r !== null)
    .map(([name, r]) => say("agreement", say(name), r.toFixed(2)));
  if (method.random_weights !== null) lines.push(say("randomWeights", method.random_weights.toFixed(2)));
  return [
    make(
      "div", { class: "scroll", tabindex: "0", role: "group", "aria-label": say("measured") },
      make("table", {}, make("thead", {}, make("tr", {}, ...cells)), make("tbody", {}, ...rows)),
    ),
    ...lines.map((line) => make("p", { class: "counts" }, line)),
  ];
}
