// Search: one query by every way that the index knows, side by side, with reasons and times.
import { breakable, choices, failed, fixed, h, latest, milliseconds, opening, waiting } from "./dom.js";
import { ask } from "./net.js";

const NAMES = { hybrid: "Hybrid", bm25: "BM25", dense: "Dense", sparse: "Sparse", multivector: "Late interaction" };
const ABOUT = {
  hybrid: "the rankings of the others, fused",
  bm25: "by the words themselves",
  dense: "by one vector for each passage",
  sparse: "by learnt weights of tokens",
  multivector: "by one vector for each token",
};

export function mount(panel, overview) {
  if (!overview.modes.length) {
    panel.append(opening("Search", "This run has no search index yet. Go on growing it: seedbed grow."));
    return {};
  }
  const once = latest();
  const query = h("input", { type: "search", placeholder: "What are you looking for?", "aria-label": "Query", "data-main": "", enterkeyhint: "search" });
  const filter = h("input", { type: "text", placeholder: "source ~ library/*", "aria-label": "Filter", spellcheck: "false", autocapitalize: "off" });
  const amount = h("select", { "aria-label": "Passages of each" }, [5, 10, 20].map((one) => h("option", { value: String(one) }, `${one} each`)));
  const results = h("div", { class: "results", "aria-live": "polite" });
  let shownMode = overview.modes[0];

  const search = () => {
    const text = query.value.trim();
    if (!text) return examples();
    results.setAttribute("aria-busy", "true");
    if (!results.querySelector(".column")) results.replaceChildren(waiting("Searching …"));
    return once(
      (signal) => ask("/view/search", { query: text, modes: overview.modes, k: Number(amount.value), filter: filter.value }, signal),
      (found) => { results.removeAttribute("aria-busy"); draw(found.results); },
      (error) => { results.removeAttribute("aria-busy"); results.replaceChildren(failed(error)); },
    );
  };

  function draw(found) {
    const fastest = Math.max(...found.map((one) => one.milliseconds), 1e-9);
    const columns = found.map((one) => column(one, fastest, (id) => {
      for (const hit of results.querySelectorAll(".hit")) hit.classList.toggle("same", id !== null && hit.dataset.id === id);
    }));
    const pick = choices(
      "Way to search", "radio", found.map((one) => ({ value: one.mode, label: NAMES[one.mode] })), [shownMode],
      ([mode]) => { shownMode = mode; mark(); },
    );
    pick.classList.add("narrow");
    const grid = h("div", { class: "columns" }, columns);
    const mark = () => columns.forEach((one) => one.classList.toggle("shown", one.dataset.mode === shownMode));
    grid.dataset.count = String(columns.length);
    mark();
    results.replaceChildren(pick, grid);
  }

  function examples() {
    results.replaceChildren(h(
      "div", { class: "welcome" },
      overview.queries.length ? h("p", { class: "soft" }, "Try a sentence from documents that no training saw:") : null,
      h("div", { class: "examples" }, overview.queries.map((one) => h("button", { type: "button", class: "example", onclick: () => { query.value = one; search(); } }, one))),
    ));
  }

  panel.append(
    opening("Search your text", `${overview.passages.toLocaleString("en-US")} passages, asked in ${overview.modes.length === 1 ? "one way" : "several ways at once"}. Words in colour say why a passage was found; a passage that several ways found is set apart when you point at it.`),
    h(
      "form", { class: "bar", role: "search", onsubmit: (event) => { event.preventDefault(); search(); } },
      query, h("label", { class: "filter" }, h("span", {}, "Filter"), filter), amount, h("button", { type: "submit", class: "primary" }, "Search"),
    ),
    results,
  );
  amount.addEventListener("change", search);
  examples();
  return { opened: () => { if (window.matchMedia("(pointer: fine)").matches) query.focus({ preventScroll: true }); } };
}

function column(found, slowest, point) {
  const bar = h("span", { class: "took" });
  bar.style.setProperty("--share", String(found.milliseconds / slowest));
  return h(
    "section", { class: "column", dataset: { mode: found.mode }, "aria-label": NAMES[found.mode] },
    h("header", {}, h("h3", {}, NAMES[found.mode]), h("p", {}, ABOUT[found.mode]), h("p", { class: "latency", title: "Time of the search alone, without the reasons" }, bar, milliseconds(found.milliseconds))),
    found.hits.length
      ? h("ol", {}, found.hits.map((hit, place) => hitOf(hit, place, found.mode, point)))
      : h("p", { class: "empty" }, "Nothing was found."),
  );
}

function hitOf(hit, place, mode, point) {
  const ranks = hit.ranks.map((one) => `${NAMES[one.mode]} ${mode === "hybrid" ? `no. ${one.rank}` : fixed(one.score, one.mode === "bm25" ? 1 : 3)}`);
  const words = hit.words.slice(0, 6).map((one) => h("span", { class: `word by-${one.by}` }, one.query === one.text ? one.query : `${one.query} → ${one.text}`));
  return h(
    "li", { class: "hit", tabindex: "0", dataset: { id: hit.id }, onclick: (event) => open(event.currentTarget), onkeydown: (event) => { if (event.key === "Enter") open(event.currentTarget); },
      onmouseenter: () => point(hit.id), onmouseleave: () => point(null), onfocus: () => point(hit.id), onblur: () => point(null) },
    h("h4", {}, h("span", { class: "place" }, String(place + 1)), h("span", {}, breakable(hit.title || hit.source))),
    h("p", { class: "where" }, hit.source, hit.missing ? h("span", { class: "gone" }, " · no longer there") : null),
    h("p", { class: "passage" }, marked(hit)),
    h("p", { class: "why" }, ranks.length ? h("span", {}, ranks.join(" · ")) : null, words),
  );
}

/** Show all of a passage, unless something of it is being selected. */
function open(hit) {
  if (String(window.getSelection()) === "") hit.classList.toggle("open");
}

/** The text with its marks, as text nodes. */
function marked(hit) {
  const parts = [];
  let at = 0;
  // Offsets count characters of Python, which are code points.
  const points = Array.from(hit.text);
  for (const { start, end, by } of hit.marks) {
    parts.push(points.slice(at, start).join(""), h("mark", { class: `by-${by}` }, points.slice(start, end).join("")));
    at = end;
  }
  parts.push(points.slice(at).join("") + (hit.cut ? " …" : ""));
  return parts;
}
