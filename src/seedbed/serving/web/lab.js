// Lab: what the textbooks claim, measured on this run.
import { choices, count, css, failed, h, opening, waiting } from "./dom.js";
import { ask } from "./net.js";

const VERDICTS = { holds: "holds", "holds in part": "part", "does not hold": "not" };
let vega = null; // the library and the charts' theme, loaded with the first chart

export function mount(panel, overview) {
  const list = h("div", {}, waiting("Reading the findings …"));
  const filter = h("div", {});
  const charts = new Set();
  let shown = "all";
  panel.append(
    opening("The lab", "What the textbooks say of language models and search, measured on this run. A verdict is about the claim here, at this size, and no more."),
    filter, list,
  );
  window.addEventListener("schemechange", () => charts.forEach((draw) => draw()));

  async function load() {
    try {
      const { findings } = await ask("/view/lab");
      draw(findings);
    } catch (error) {
      list.replaceChildren(failed(error, load));
    }
  }

  function draw(findings) {
    const run = findings.filter((one) => one.verdict);
    if (run.length) vega ??= library(); // it is large; by the time that a chart is opened it is here
    if (!run.length) {
      filter.replaceChildren(h("p", { class: "empty" }, `None of the ${count(findings.length)} exhibits has been run on this run. To run all of them, or one:`), h("pre", { class: "command" }, `seedbed lab run all --run runs/${overview.name}\nseedbed lab run ${findings[0]?.name ?? "NAME"} --run runs/${overview.name}`));
    } else {
      const options = [["all", "All", findings.length], ...Object.keys(VERDICTS).map((one) => [one, one[0].toUpperCase() + one.slice(1), run.filter((row) => row.verdict === one).length]), ["none", "Not run", findings.length - run.length]]
        .filter(([value, , many]) => many || value === "all")
        .map(([value, label, many]) => ({ value, label: `${label} ${count(many)}` }));
      filter.replaceChildren(choices("Verdict", "radio", options, [shown], ([value]) => { shown = value; groups(findings); }));
    }
    groups(findings);
  }

  function groups(findings) {
    charts.clear();
    const kept = findings.filter((one) => shown === "all" || (one.verdict ?? "none") === shown);
    const names = [...new Set(kept.map((one) => one.group))];
    list.replaceChildren(...names.map((name) => h(
      "section", { class: "group" }, h("h3", {}, name),
      h("div", { class: "findings" }, kept.filter((one) => one.group === name).map((one) => card(one, charts))),
    )));
  }

  load();
  return { opened: () => { if (list.querySelector(".finding") && !list.querySelector("details[open]")) load(); } };
}

function card(row, charts) {
  const verdict = row.verdict
    ? h("span", { class: `verdict ${VERDICTS[row.verdict] ?? ""}` }, row.verdict)
    : h("span", { class: "verdict none" }, "not run");
  if (!row.verdict) return h("article", { class: "finding", dataset: { name: row.name } }, h("div", { class: "head-line" }, h("h4", {}, row.title), verdict), h("p", { class: "soft" }, row.question));
  const body = h("div", {});
  let loaded = false;
  return h(
    "details", {
      class: "finding", dataset: { name: row.name },
      ontoggle: (event) => {
        if (!event.target.open || loaded) return;
        loaded = true;
        body.replaceChildren(waiting("Reading …"));
        ask(`/view/lab/${encodeURIComponent(row.name)}`).then((found) => detail(body, found, charts), (error) => { loaded = false; body.replaceChildren(failed(error)); });
      },
    },
    h("summary", {}, h("div", { class: "head-line" }, h("h4", {}, row.title), verdict), h("p", { class: "soft" }, row.question), h("p", {}, row.sentences.join(" "))),
    body,
  );
}

function detail(body, found, charts) {
  const drawings = found.charts.map(({ heading, spec }) => chart(heading || found.title, heading, spec, charts));
  body.replaceChildren(
    h("dl", { class: "claim" }, h("dt", {}, "Claim"), h("dd", {}, found.claim), h("dt", {}, "Formula"), h("dd", { class: "mono" }, found.formula), h("dt", {}, "Source"), h("dd", {}, found.source), h("dt", {}, "Measured in"), h("dd", {}, found.seconds)),
    h("div", { class: "charts" }, drawings),
    h(
      "div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `Table of ${found.title}` },
      h("table", {}, h("thead", {}, h("tr", {}, found.columns.map((one, place) => h("th", { class: found.quantities[place] ? "number" : "" }, one)))), h("tbody", {}, found.rows.map((cells) => h("tr", {}, cells.map((one, place) => h("td", { class: found.quantities[place] ? "number" : "" }, one)))))),
    ),
    found.caption ? h("p", { class: "caption" }, found.caption) : "",
  );
}

function chart(label, heading, spec, charts) {
  const place = h("div", { class: "chart", role: "img", "aria-label": label }, waiting("Drawing …"));
  let drawn = null;
  const draw = async () => {
    try {
      const { embed, theme } = await (vega ??= library());
      drawn?.finalize();
      const dark = getComputedStyle(document.documentElement).colorScheme === "dark" || (!document.documentElement.dataset.theme && window.matchMedia("(prefers-color-scheme: dark)").matches);
      const { $schema, config, ...plain } = spec;
      // Expressions are interpreted, not compiled: the page's policy lets no text become code.
      drawn = await embed(place, plain, {
        mode: "vega-lite", actions: false, renderer: "svg", ast: true, defaultStyle: false, config: resolved(theme),
        tooltip: { theme: dark ? "dark" : "light", disableDefaultStyle: true },
      });
    } catch (error) {
      place.replaceChildren(failed(new Error(`This chart cannot be drawn here: ${error.message}`)));
    }
  };
  charts.add(draw);
  requestAnimationFrame(draw);
  return h("figure", {}, heading ? h("h5", {}, heading) : null, place);
}

async function library() {
  const [theme] = await Promise.all([ask("/web/theme.json"), script("/web/vega.js")]);
  return { embed: window.vegaEmbed, theme };
}

function script(source) {
  return new Promise((resolve, reject) => {
    document.head.append(h("script", { src: source, onload: resolve, onerror: () => reject(new Error("its library cannot be loaded")) }));
  });
}

/** The theme with the page's properties in place of their names. */
function resolved(theme) {
  return JSON.parse(JSON.stringify(theme), (_, value) => (typeof value === "string" && value.startsWith("--") ? css(value) : value));
}
