// A panel behind an answer: choices above, and what the server says of them below.

import { make } from "/page/draw.js";
import { say } from "/page/words.js";

/** A select with a label; `choices` are [value, what is shown]. */
export function choice(phrase, choices, change) {
  const select = make("select", {}, ...choices.map(([value, shown]) => make("option", { value }, shown)));
  select.addEventListener("change", change);
  return [select, make("label", {}, say(phrase), " ", select)];
}

/**
 * A panel with choices above and what the server says of them below, the newest question's alone.
 *
 * `fetched` gives elements; `controls` are shown above them.
 */
export function asking(panel, controls, fetched) {
  const status = make("p", { class: "counts", role: "status" });
  const shown = make("div");
  panel.replaceChildren(make("p", { class: "row" }, ...controls), status, shown);
  let turn = 0;
  return async () => {
    const mine = (turn += 1);
    status.textContent = say("computing");
    let elements;
    try {
      elements = await fetched();
    } catch (error) {
      const said = error.status ? error.message : say("unreachable");
      elements = [make("p", { class: "error", role: "alert" }, said)];
    }
    if (mine !== turn) return;
    status.textContent = "";
    shown.replaceChildren(...elements);
  };
}
