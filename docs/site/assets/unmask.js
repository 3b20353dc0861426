// Each block's buttons stand in a <nav>: with a number of its own one can be told from another. A
// table that is wider than a phone is scrolled, also by those who have only a keyboard.
let blocks = 0;
new MutationObserver(() => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([aria-label])")) {
    blocks += 1;
    nav.setAttribute("aria-label", `${document.documentElement.lang === "zh" ? "代码" : "Block"} ${blocks}`);
  }
  for (const wide of document.querySelectorAll(".md-typeset__scrollwrap:not([tabindex])")) {
    wide.tabIndex = 0;
  }
}).observe(document.body, { childList: true, subtree: true });
