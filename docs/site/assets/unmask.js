// Each block's buttons stand in a <nav>: with a number of its own one can be told from another.
let blocks = 0;
new MutationObserver(() => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([aria-label])")) {
    blocks += 1;
    nav.setAttribute("aria-label", `${document.documentElement.lang === "zh" ? "代码" : "Block"} ${blocks}`);
  }
}).observe(document.body, { childList: true, subtree: true });
