// Each block's buttons stand in a <nav>; dozens of those would drown the page's own landmarks.
new MutationObserver(() => {
  for (const nav of document.querySelectorAll("nav.md-code__nav:not([role])")) {
    nav.setAttribute("role", "group");
  }
}).observe(document.body, { childList: true, subtree: true });
