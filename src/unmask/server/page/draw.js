// Results drawn for people, by the hint that each answer carries. Texts only ever become text nodes.

import { say } from "/page/words.js";

/** An element with attributes and children; strings become text. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

const percent = (p) => `${(100 * p).toFixed(1)} %`;

/** Names with their shares between 0 and 1, the largest first. */
export function bars(pairs, format = percent) {
  const sorted = [...pairs].sort((a, b) => b[1] - a[1]);
  const rows = sorted.flatMap(([name, value], i) => [
    make("dt", i ? {} : { class: "first" }, name),
    make("dd", {}, make("meter", { min: 0, max: 1, value, "aria-label": name })),
    make("dd", {}, format(value)),
  ]);
  return make("dl", { class: "bars" }, ...rows);
}

/** A text with stretches of it marked; each stretch has start, end, label and probability. */
function marked(text, spans) {
  const shown = make("p", { class: "text" });
  const colours = [...new Set(spans.map((span) => span.label))];
  // Characters are counted as Python counts them, by code point.
  const characters = [...text];
  let at = 0;
  for (const span of [...spans].sort((a, b) => a.start - b.start)) {
    if (span.start < at) continue;
    shown.append(characters.slice(at, span.start).join(""));
    const colour = colours.indexOf(span.label) % 6;
    const title = `${span.label} ${percent(span.probability)}`.trim();
    const label = span.label ? [make("small", {}, span.label)] : [];
    const inside = characters.slice(span.start, span.end).join("");
    shown.append(make("mark", { class: `c${colour}`, title }, inside, ...label));
    at = span.end;
  }
  shown.append(characters.slice(at).join(""));
  return shown;
}

function entities(answer, texts) {
  const found = answer.entities;
  const shown = [marked(texts[0], found)];
  if (!found.length) shown.push(make("p", {}, say("nothing")));
  return shown;
}

function span(answer, texts) {
  if (answer.start === null) return [make("p", { class: "first" }, say("noAnswer"))];
  const one = { start: answer.start, end: answer.end, label: "", probability: answer.probability };
  const said = make("p", { class: "first" }, `${answer.prediction} (${percent(answer.probability)})`);
  return [said, marked(texts.at(-1), [one])];
}

/** The text with a choice of candidates in the place of each hidden word. */
function fill(answer, texts, maskToken) {
  const parts = texts[0].split(maskToken);
  const shown = make("p", { class: "text" });
  parts.forEach((part, i) => {
    shown.append(part);
    const candidates = answer.candidates[i];
    if (i === parts.length - 1 || !candidates) return;
    const choice = make("select", { class: "fill", "aria-label": say("candidates", i + 1) });
    for (const [word, p] of Object.entries(candidates)) {
      choice.append(make("option", {}, `${word} (${percent(p)})`));
    }
    shown.append(choice);
  });
  const lists = answer.candidates.flatMap((own, i) => [
    make("h2", {}, say("candidates", i + 1)),
    bars(Object.entries(own)),
  ]);
  return [shown, ...lists];
}

function labels(answer) {
  if (answer.probabilities) return [bars(Object.entries(answer.probabilities))];
  if ("in_order" in answer) return [bars([[answer.prediction, answer.probability]])];
  if ("relevance" in answer) return [bars([["", answer.relevance]])];
  return null;
}

function heat(answer) {
  const shown = make("p", { class: "text" });
  for (const [token, p] of answer.replaced) {
    const piece = make("span", { class: "heat", title: percent(p) }, token);
    piece.style.setProperty("--heat", p.toFixed(3));
    shown.append(piece, " ");
  }
  return [shown];
}

/** The elements that show one result of a task; `texts` are what was asked. */
export function drawn(result, texts, maskToken) {
  const { draw, answer, short } = result;
  const ways = {
    bars: () => labels(answer),
    spans: () => ("entities" in answer ? entities(answer, texts) : span(answer, texts)),
    fill: () => fill(answer, texts, maskToken),
    heat: () => heat(answer),
  };
  return ways[draw]?.() ?? [make("p", { class: "text" }, short)];
}

/** How many tokens were read and cut, in a line. */
export function counts(result) {
  const parts = [say("tokens", result.tokens)];
  if (result.dropped) parts.push(say("dropped", result.dropped));
  if (result.cached) parts.push(say("cached"));
  else if (result.milliseconds) parts.push(say("computed", result.milliseconds));
  return make("p", { class: "counts" }, parts.join(" · "));
}

/** A table of scores as a bundle holds them. */
export function scoreTable(scores) {
  const columns = ["task", "split", "metric", "value", "rows"];
  const head = make("tr", {}, ...columns.map((name) => make("th", { scope: "col" }, say(name))));
  const body = scores
    .filter((one) => one.value !== null)
    .map((one) => {
      const cells = columns.map((name) => {
        const value = name === "value" ? one.value.toFixed(4) : String(one[name] ?? "");
        return make("td", typeof one[name] === "number" ? { class: "number" } : {}, value);
      });
      return make("tr", {}, ...cells);
    });
  return make("table", {}, make("thead", {}, head), make("tbody", {}, ...body));
}
