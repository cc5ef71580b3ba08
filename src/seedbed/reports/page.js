(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  // A page that shows this one says which colours it has.
  const scheme = new URLSearchParams(location.search).get("scheme");
  if (scheme === "light" || scheme === "dark") document.documentElement.dataset.theme = scheme;
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

  // Charts name no colours of their own: series take the category range, sizes the ordinal one, and single marks one
  // of the styles. The theme names them by their properties in the page's style, which know light from dark.
  const THEME = __THEME__;

  function theme() {
    return JSON.parse(JSON.stringify(THEME), (key, value) =>
      typeof value === "string" && value.startsWith("--") ? css(value) : value);
  }

  const charts = Array.from(document.querySelectorAll(".chart")).map((place) => {
    const spec = JSON.parse(place.querySelector("script").textContent);
    const target = document.createElement("div");
    place.appendChild(target);
    return { place, target, spec, drawn: null };
  });

  function draw() {
    const config = theme(), tooltip = { theme: dark.matches ? "dark" : "light" };
    for (const chart of charts) {
      if (chart.drawn) chart.drawn.finalize();
      vegaEmbed(chart.target, chart.spec, { mode: "vega-lite", actions: false, renderer: "svg", config, tooltip })
        .then((result) => { chart.drawn = result; })
        .catch((error) => {
          chart.place.classList.add("failed");
          chart.target.textContent = "This chart cannot be drawn here: " + error.message;
        });
    }
  }

  draw();
  dark.addEventListener("change", draw);

  // Charts follow the window; the column can also change by itself, when a scroll bar appears.
  let width = 0;
  new ResizeObserver(([entry]) => {
    const now = entry.contentRect.width;
    if (width && now !== width) window.dispatchEvent(new Event("resize"));
    width = now;
  }).observe(document.querySelector("main"));
})();
