// The page: a tab for each task, its fields, and what was answered.

import { counts, drawn, make, scoreTable } from "/page/draw.js";
import { fileFields, readsFiles, rowOf } from "/page/files.js";
import { ranked } from "/page/near.js";
import * as server from "/page/server.js";
import { behind } from "/page/why.js";
import { begin, choose, say, translate } from "/page/words.js";

const $ = (selector) => document.querySelector(selector);
const SIMILAR = "\u2248"; // the tab of vectors, which every model gives
const kept = {}; // what was typed, by task and field

let about = null; // what /info said
let current = ""; // the task that is shown
let turn = 0; // of the question that was asked last

/** The fields of a task: [column, phrase, whether it is several lines]. */
function fieldsOf(task) {
  if (task.kind === "vector" || task.kind === "embed") return [["texts", "texts"]];
  if (task.kind === "rerank") return [[task.inputs[0], "query"], [task.inputs[1], "documents"]];
  if (task.kind === "span") return [[task.inputs[0], "question"], [task.inputs[1], "context"]];
  return task.inputs.map((column) => [column, task.inputs.length > 1 ? column : "text"]);
}

const taskNow = () => tasksOf().find((task) => task.name === current);
const tasksOf = () => [...(about?.tasks ?? []), { name: SIMILAR, kind: "vector", inputs: ["text"] }];

function showTabs() {
  const tabs = tasksOf().map((task) => {
    const chosen = task.name === current;
    const tab = make(
      "button",
      {
        role: "tab", type: "button", id: `tab-${task.name}`, "aria-selected": chosen,
        "aria-controls": "panel", tabindex: chosen ? 0 : -1, title: task.kind,
      },
      task.name === SIMILAR ? `${SIMILAR} ${say("near")}` : task.name,
    );
    tab.addEventListener("click", () => open(task.name, true));
    return tab;
  });
  $("#tasks").replaceChildren(...tabs);
  $("#panel").setAttribute("aria-labelledby", `tab-${current}`);
}

function showFields() {
  const task = taskNow();
  const textField = (column, phrase = column) => {
    const name = `${current}/${column}`;
    const area = make("textarea", { name: column, rows: 3, spellcheck: "false" });
    area.value = kept[name] ?? "";
    area.addEventListener("input", () => (kept[name] = area.value));
    dropInto(area);
    const label = make("label", { class: "field" }, say(phrase), area);
    if (task.kind === "mlm" && about.mask_token) {
      label.append(make("span", { class: "hint" }, say("hide", about.mask_token)));
    }
    return label;
  };
  const fields = readsFiles(task)
    ? fileFields(task, kept, about.max_body_bytes, textField)
    : fieldsOf(task).map((field) => textField(...field));
  $("#fields").replaceChildren(...fields);
}

/** A text file that is dropped on a field becomes its text. */
function dropInto(area) {
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", async (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const file = event.dataTransfer.files[0];
    area.value = file ? await file.text() : event.dataTransfer.getData("text");
    area.dispatchEvent(new Event("input"));
  });
}

/** Show a task; its tab is made anew, and keeps the focus where it had it. */
function open(name, focus = false) {
  current = name;
  turn += 1;
  $("#result").replaceChildren();
  showTabs();
  showFields();
  if (focus) $('[role="tab"][aria-selected="true"]').focus();
}

const lines = (text) => text.split("\n").map((line) => line.trim()).filter(Boolean);

async function answer() {
  const mine = (turn += 1);
  const task = taskNow();
  const texts = [...$("#fields").querySelectorAll("textarea")].map((area) => area.value);
  const show = (...elements) => {
    if (mine === turn) $("#result").replaceChildren(...elements);
  };
  $("#go").disabled = true;
  try {
    if (task.kind === "generate") await written(task, texts, show);
    else show(...(await answered(task, texts)));
  } catch (error) {
    show(...wrong(error));
  } finally {
    $("#go").disabled = false;
  }
}

/** The elements that show what a task answers to these texts. */
async function answered(task, texts) {
  if (readsFiles(task)) {
    const [result] = await server.ask(task.name, [rowOf(task, kept)]);
    return [...drawn(result, texts), counts(result)];
  }
  if (task.kind === "rerank") return ranked(task, texts[0], lines(texts[1]));
  if (task.kind === "vector" || task.kind === "embed") {
    const [first, ...others] = lines(texts[0]);
    return ranked(task, first, others);
  }
  const options = task.kind === "mlm" ? { jointly: true } : {};
  const input = texts.length > 1 ? [texts] : texts[0];
  const [result] = await server.ask(task.name, input, options);
  const rows = [["", texts.length > 1 ? texts : texts[0], texts]];
  return [...drawn(result, texts, about.mask_token), counts(result), ...behind(task, rows, result)];
}

async function written(task, texts, show) {
  const shown = make("p", { class: "text writing" });
  show(shown);
  const input = texts.length > 1 ? [texts] : texts[0];
  const result = await server.write(task.name, input, (part) => shown.append(part));
  shown.classList.remove("writing");
  shown.textContent = result.short;
  show(shown, counts(result), ...behind(task, [["", texts.length > 1 ? texts : texts[0], texts]]));
}

function wrong(error) {
  if (error.status === 401) $("#key-form").hidden = false;
  const said = error.status ? error.message : say("unreachable");
  return [make("p", { class: "error", role: "alert" }, said)];
}

async function showLoad() {
  if (document.hidden) return;
  let figures;
  try {
    figures = await server.figures();
  } catch {
    return; // the key is not for figures, or the server is away: the last ones stay
  }
  const shown = [
    ["waiting", figures.unmask_queue_tokens], ["running", figures.unmask_running_tokens],
    ["pace", figures.unmask_tokens_per_second], ["workers", figures.unmask_workers_ready],
    ["hits", figures.unmask_cache_total_hit], ["requests", figures.unmask_requests_total],
  ];
  $("#load").replaceChildren(
    ...shown.map(([name, value]) =>
      make("div", {}, make("dt", {}, say(name)), make("dd", {}, Math.round(value ?? 0).toLocaleString())),
    ),
  );
}

function showAll() {
  translate();
  if (!about) return;
  $("#about").textContent = say("about", about.model_id, about.form, about.dimensions);
  showTabs();
  showFields();
  $("#scores-section").hidden = !about.scores.length;
  $("#scores").replaceChildren(scoreTable(about.scores));
}

async function start() {
  try {
    about = await server.info();
  } catch (error) {
    $("#result").replaceChildren(...wrong(error));
    if (error.status === 401) $("#about").textContent = say("needKey");
    return;
  }
  if (!tasksOf().some((task) => task.name === current)) current = tasksOf()[0].name;
  $("#model-choice").hidden = about.models.length < 2;
  $("#model").replaceChildren(
    ...about.models.map((name) => make("option", name === about.model_id ? { selected: "" } : {}, name)),
  );
  $("#result").replaceChildren();
  showAll();
  await showLoad();
}

$("#form").addEventListener("submit", (event) => {
  event.preventDefault();
  answer();
});
$("#form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) answer();
});
$("#tasks").addEventListener("keydown", (event) => {
  const names = tasksOf().map((task) => task.name);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  event.preventDefault();
  open(names[(names.indexOf(current) + step + names.length) % names.length], true);
});
$("#language").addEventListener("change", (event) => {
  choose(event.target.value);
  showAll();
  showLoad();
});
$("#model").addEventListener("change", (event) => {
  server.useModel(event.target.value);
  start();
});
$("#key-form").addEventListener("submit", (event) => event.preventDefault());
$("#key").addEventListener("change", (event) => {
  server.useKey(event.target.value.trim());
  start();
});
$("#language").value = begin();
translate();
start();
setInterval(showLoad, 3000);
