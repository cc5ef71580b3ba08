// Tokens: how text is cut, by every tokenizer, while it is typed.
import { count, debounce, failed, fixed, h, latest, opening, waiting } from "./dom.js";
import { ask } from "./net.js";

export function mount(panel, overview) {
  const once = latest();
  const input = h("textarea", { rows: "3", "aria-label": "Text", "data-main": "", spellcheck: "false", maxlength: "20000" });
  const sizes = h("p", { class: "soft sizes" });
  const about = h("p", { class: "about", "aria-live": "polite" });
  const rows = h("div", { class: "cuts" });
  const languages = h("section", { class: "block" });
  const glitches = h("section", { class: "block" });

  const cut = () => once(
    (signal) => ask("/view/tokens", { text: input.value }, signal),
    (found) => {
      sizes.textContent = `${count(found.words)} words · ${count(found.characters)} characters · ${count(found.bytes)} bytes`;
      const most = Math.max(1, ...found.tokenizers.map((one) => one.count));
      rows.replaceChildren(...found.tokenizers.map((one) => row(one, most, tell)));
      if (found.learning) {
        rows.children[0].after(waiting("WordPiece and Unigram are being learnt from the run’s text, for comparison …"));
        setTimeout(() => { if (rows.querySelector(".waiting")) cut(); }, 700);
      }
      tell(null);
    },
    (error) => rows.replaceChildren(failed(error, cut)),
  );
  const take = (text) => { input.value = text; cut(); };

  function tell(piece) {
    if (!piece) return about.replaceChildren(h("span", { class: "soft" }, "Point at a piece, or step through one row with the arrow keys, to see what it is."));
    const parts = [h("strong", { class: "mono" }, visible(piece.text))];
    if (piece.id !== undefined) parts.push(` id ${count(piece.id)}`, h("span", { class: "mono soft" }, ` ${piece.bytes}`));
    if (piece.unknown) parts.push(h("span", { class: "bad" }, " · unknown: this vocabulary cannot write it"));
    if (piece.count !== null && piece.count !== undefined) {
      parts.push(piece.count ? ` · met ${count(piece.count)} times in training` : h("span", { class: "bad" }, " · never met in training: the model knows nothing of it"));
    }
    return about.replaceChildren(...parts);
  }

  panel.append(
    opening("What the model reads", "A model sees numbers, not letters. Here is how your text becomes tokens by this run’s own tokenizer, by two others learnt from the same text, and by characters and bytes."),
    h("div", { class: "editor" }, input, sizes), about, rows, h("div", { class: "blocks" }, languages, glitches),
  );
  input.addEventListener("input", debounce(60, cut));
  rows.append(waiting("Cutting …"));
  take(overview.openings[0] ?? "The quick brown fox jumps over the lazy dog.");
  showLanguages(languages, take);
  showGlitches(glitches, (text) => take(`${input.value.trimEnd()}${text}`));
  return {};
}

function row(found, most, tell) {
  const drawn = found.pieces;
  const spans = drawn.map((piece, place) => h(
    "span", { class: `piece piece-${place % 4}${piece.count === 0 ? " unmet" : ""}${piece.part ? " part" : ""}${piece.unknown ? " unknown" : ""}`, dataset: { place: String(place) } },
    piece.part ? "·" : visible(piece.text),
  ));
  let at = -1;
  const mark = (place) => {
    spans[at]?.classList.remove("at");
    at = place;
    spans[at]?.classList.add("at");
    tell(drawn[at] ?? null);
  };
  const pieces = h("p", {
    class: "pieces", tabindex: spans.length ? "0" : null, role: "group", "aria-label": `Pieces by ${found.title}`,
    onpointerover: (event) => { const place = event.target.dataset?.place; if (place !== undefined) mark(Number(place)); },
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      mark(Math.min(spans.length - 1, Math.max(0, at + step)));
    },
    onblur: () => mark(-1),
  }, spans.flatMap((span, place) => [drawn[place].before, span]), found.count > drawn.length ? h("span", { class: "soft" }, ` and ${count(found.count - drawn.length)} more`) : null);
  const bar = h("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(found.count / most));
  return h(
    "section", { class: "cut" },
    h("header", {}, h("h3", {}, found.title), h("p", { class: "soft" }, found.note)),
    h("dl", { class: "costs" }, [
      [count(found.count), "tokens"], [fixed(found.fertility), "to a word"], [fixed(found.bytes_per_token), "bytes each"],
    ].map(([value, name]) => h("div", {}, h("dd", {}, value), h("dt", {}, name)))),
    bar, pieces,
  );
}

function visible(text) {
  return text.replaceAll("\n", "⏎\n").replaceAll("\t", "⇥");
}

function showLanguages(place, take) {
  place.replaceChildren(h("h3", {}, "One sentence in several languages"), waiting("Measuring …"));
  ask("/view/tokens/languages").then((found) => {
    if (found.learning) return void setTimeout(() => showLanguages(place, take), 700);
    const names = Object.keys(found.tokens);
    const cells = found.sentences.map(({ language, text }, at) => h(
      "tr", {}, h("td", {}, h("button", { type: "button", class: "link", title: text, onclick: () => take(text) }, language)),
      names.map((name) => {
        const tokens = found.tokens[name][at], premium = tokens / found.tokens[name][0];
        if (tokens === null) return h("td", { class: "number soft", title: "More than a tenth of it would be unknown tokens" }, "cannot");
        return h("td", { class: "number" }, count(tokens), h("span", { class: premium > 2 ? "times dear" : "times" }, `×${fixed(premium, 1)}`));
      }),
    ));
    place.replaceChildren(
      h("h3", {}, "One sentence in several languages"),
      h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Tokens by language" }, h("table", {}, h("thead", {}, h("tr", {}, h("th", {}, "Language"), names.map((one) => h("th", { class: "number" }, one)))), h("tbody", {}, cells))),
      h("p", { class: "caption" }, `Tokens, and how many times those of English. A tokenizer learnt from one language falls back on bytes in others, whose readers pay in time and in context, or cannot write them at all. ${found.source}.`),
    );
  }, (error) => place.replaceChildren(failed(error)));
}

function showGlitches(place, add) {
  ask("/view/tokens/glitches").then(({ tokens }) => {
    place.replaceChildren(
      h("h3", {}, "Tokens that training never met"),
      tokens.length
        ? h("div", { class: "examples" }, tokens.map((one) => h("button", { type: "button", class: "example mono", title: `id ${one.id}: add it to the text`, onclick: () => add(one.text) }, visible(one.text).replace(/^ /, "␣"))))
        : h("p", { class: "soft" }, "None, or this run does not keep its training tokens."),
      h("p", { class: "caption" }, "Ids of the vocabulary without a single use in the training tokens. Their vectors are as random as on the first day; where such a token comes up, a model says strange things (“glitch tokens”)."),
    );
  }, (error) => place.replaceChildren(failed(error)));
}
