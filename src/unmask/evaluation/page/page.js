"use strict";
// The filter over the worst errors. Without a script the table is there whole.
const form = document.getElementById("filter");
if (form) {
  const rows = [...document.querySelectorAll("#errors tbody tr")];
  const texts = rows.map((row) => row.textContent.toLowerCase());
  const value = (id) => document.getElementById(id)?.value ?? "";
  const shown = document.getElementById("shown");
  const filter = () => {
    const words = value("find").toLowerCase().trim();
    const [task, truth] = [value("task"), value("truth")];
    let count = 0;
    rows.forEach((row, i) => {
      row.hidden =
        !texts[i].includes(words) ||
        (task !== "" && row.dataset.task !== task) ||
        (truth !== "" && row.dataset.truth !== truth);
      count += !row.hidden;
    });
    shown.textContent = shown.dataset.words
      .replace("{shown}", count)
      .replace("{listed}", rows.length);
  };
  form.addEventListener("input", filter);
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  filter();
}
