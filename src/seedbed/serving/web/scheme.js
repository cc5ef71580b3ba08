// Before anything is drawn: light or dark, as the reader chose; without a choice, as the system says.
(function () {
  "use strict";
  let chosen = null;
  try {
    chosen = localStorage.getItem("seedbed.scheme");
  } catch {
    // A browser that keeps nothing follows the system.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
})();
