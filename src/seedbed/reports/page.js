(function () {
  "use strict";
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const colours = (prefix, count) => Array.from({ length: count }, (_, i) => css(`--${prefix}-${i + 1}`));

  // Charts name no colours of their own: series take the category range, sizes the ordinal one, and single marks
  // one of the styles below.
  function theme() {
    const ink = css("--ink"), soft = css("--soft"), line = css("--line"), series = colours("series", 6);
    const color = (value) => ({ color: value });
    return {
      background: null,
      font: css("--sans"),
      padding: { left: 2, right: 6, top: 6, bottom: 2 },
      view: { stroke: null },
      range: { category: series, ordinal: { scheme: [css("--size-1"), css("--size-2")] } },
      mark: { color: series[0] },
      bar: { cornerRadiusEnd: 3 },
      line: { strokeWidth: 2 },
      text: { color: ink, fontSize: 12 },
      style: {
        first: color(series[0]), second: color(series[1]), third: color(series[2]),
        guide: color(soft), quiet: color(soft),
        inside: color(css("--panel"))
      },
      axis: {
        labelColor: soft, titleColor: soft, titleFontWeight: 500, gridColor: line, domainColor: line, tickColor: line,
        labelFontSize: 11, titleFontSize: 11.5, titlePadding: 8, labelLimit: 190
      },
      axisBand: { labelFontSize: 12, labelColor: ink, labelPadding: 7, grid: false, ticks: false },
      legend: {
        labelColor: ink, titleColor: soft, titleFontWeight: 500, orient: "top", labelFontSize: 12, titleFontSize: 11.5,
        symbolOpacity: 1, symbolStrokeWidth: 2.5, columnPadding: 14, offset: 6
      }
    };
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
