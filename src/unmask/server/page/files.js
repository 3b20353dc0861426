// Fields for pictures and recordings: chosen, dropped or pasted, looked at or listened to, and sent
// as base64.

import { make } from "/page/draw.js";
import { say } from "/page/words.js";

const FILES = ["image", "audio"];

/** What each column of a task holds that is a file: {column: "image" or "audio"}. */
function filesOf(task) {
  return Object.fromEntries(
    Object.entries(task.reads ?? {}).filter(([, modality]) => FILES.includes(modality)),
  );
}

export const readsFiles = (task) => Object.keys(filesOf(task)).length > 0;

const read = (file) =>
  new Promise((done, failed) => {
    const reader = new FileReader();
    reader.addEventListener("load", () => done(reader.result));
    reader.addEventListener("error", () => failed(reader.error));
    reader.readAsDataURL(file);
  });

const size = (bytes) => `${Math.max(1, Math.round(bytes / 1024)).toLocaleString()} KB`;

/** A picture as it is, or a player for a recording; what the browser cannot show is only named. */
function preview(modality, held) {
  const shown =
    modality === "image"
      ? make("img", { src: held.url, alt: say("file-preview", held.name) })
      : make("audio", { src: held.url, controls: "", "aria-label": say("file-preview", held.name) });
  shown.addEventListener("error", () => shown.remove());
  return [shown, make("span", { class: "hint" }, `${held.name} · ${size(held.size)}`)];
}

/**
 * The field of one column; `kept` holds the files that were chosen, by the field's name. What would
 * make a request of more than `most` bytes is not taken.
 */
function fileField(column, modality, kept, name, most) {
  const id = `file-${column}`;
  const chosen = make("input", { type: "file", id, accept: `${modality}/*` });
  const hint = make("span", { class: "hint" }, say("file-drop"));
  const shown = make("div", { class: "preview", "aria-live": "polite" });
  const clear = make("button", { type: "button", class: "clear" }, say("file-clear", column));
  const field = make(
    "div",
    { class: "field file" },
    make("label", { for: id }, say(`file-${modality}`, column)), chosen, hint, shown, clear,
  );

  const show = () => {
    const held = kept[name];
    clear.hidden = !held;
    shown.replaceChildren(...(held ? preview(modality, held) : []));
  };
  const take = async (file) => {
    if (!file) return;
    if ((file.size * 4) / 3 > most - 1024) {
      shown.replaceChildren(make("p", { class: "error" }, say("file-large", size(most))));
      return;
    }
    kept[name] = { name: file.name, size: file.size, url: await read(file) };
    show();
  };
  chosen.addEventListener("change", () => take(chosen.files[0]));
  clear.addEventListener("click", () => {
    delete kept[name];
    chosen.value = "";
    show();
    chosen.focus();
  });
  field.addEventListener("dragover", (event) => {
    event.preventDefault();
    field.classList.add("over");
  });
  field.addEventListener("dragleave", () => field.classList.remove("over"));
  field.addEventListener("drop", (event) => {
    event.preventDefault();
    field.classList.remove("over");
    take(event.dataTransfer.files[0]);
  });
  field.addEventListener("paste", (event) => take(event.clipboardData.files[0]));
  show();
  return field;
}

/** What a file is kept by: never the name of a text, which another model may have in its column. */
const nameOf = (task, column) => `file ${task.name}/${column}`;

/** All fields of a task that reads files; `textField` makes that of a text. */
export function fileFields(task, kept, most, textField) {
  const files = filesOf(task);
  return task.inputs.map((column) =>
    files[column]
      ? fileField(column, files[column], kept, nameOf(task, column), most)
      : textField(column),
  );
}

/** The row that is asked of it: what was given, without what was left out. */
export function rowOf(task, kept) {
  const files = filesOf(task);
  const cells = task.inputs.map((column) => {
    if (!files[column]) return [column, kept[`${task.name}/${column}`]];
    const held = kept[nameOf(task, column)];
    return [column, held?.url.slice(held.url.indexOf(",") + 1)];
  });
  return Object.fromEntries(cells.filter(([, value]) => value));
}
