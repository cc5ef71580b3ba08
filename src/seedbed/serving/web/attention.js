// Attention: what every head of the run's models looks at in a sentence, and what the cache must hold of it.
import { choices, count, css, debounce, failed, fixed, h, latest, memory, opening, sharp, unpacked, waiting } from "./dom.js";
import { ask } from "./net.js";

const NAMES = { base: "base", sft: "fine-tuned", policy: "aligned", encoder: "search encoder" };

export function mount(panel, overview) {
  return new Attention(panel, overview);
}

class Attention {
  constructor(panel, overview) {
    this.once = latest();
    this.found = null;
    this.layer = 0;
    this.head = 0;
    this.row = null; // the token that looks
    this.input = h("textarea", { rows: "2", "aria-label": "Sentence", "data-main": "", maxlength: "2000", spellcheck: "false", value: overview.openings[0] ?? "The cat sat on the mat because it was tired." });
    this.kinds = h("p", { class: "soft" });
    this.models = h("div", {}, waiting("Opening the models …"));
    this.grid = h("div", { class: "heads", role: "group", "aria-label": "Heads by layer" });
    this.line = h("p", { class: "looks", tabindex: "0", role: "group", "aria-label": "Tokens" });
    this.told = h("p", { class: "about", "aria-live": "polite" });
    this.map = h("canvas", { class: "map", role: "img" });
    this.title = h("h3", {});
    this.cache = h("section", { class: "block" });
    this.body = h("div", { class: "blocks attention-body", hidden: true },
      h("section", { class: "block" }, this.title, this.line, this.told, this.map),
      h("section", { class: "block" }, h("h3", {}, "All heads"), this.grid, h("p", { class: "caption" }, "One row a layer, the first on top. Rows of a map are the tokens that look, columns those that are looked at.")),
      this.cache,
    );
    this.state = h("div", {});
    panel.append(
      opening("What the heads look at", "Each head of each layer shares one unit of attention among the tokens that it may see. Point at a token to see whom it listens to."),
      h("div", { class: "editor" }, this.input), h("div", { class: "row" }, this.models, this.kinds), this.state, this.body,
    );
    this.input.addEventListener("input", debounce(250, () => this.look()));
    this.listen();
    this.start();
    window.addEventListener("schemechange", () => this.draw());
    new ResizeObserver(() => this.drawMap()).observe(this.map);
  }

  async start() {
    try {
      const { models } = await ask("/view/attention/models");
      if (!models.length) {
        this.models.replaceChildren();
        this.state.replaceChildren(h("p", { class: "empty" }, "This run has no transformer yet. Go on growing it: seedbed grow."));
        return;
      }
      const asDefault = models.find((one) => one.id === "policy") ?? models[0];
      this.model = asDefault.id;
      this.models.replaceChildren(choices(
        "Model", "radio", models.map((one) => ({ value: one.id, label: NAMES[one.id] ?? one.id, title: `${one.layers} layers of ${one.heads} heads` })),
        [this.model], ([model]) => { this.model = model; this.look(); },
      ));
      this.look();
    } catch (error) {
      this.models.replaceChildren(failed(error, () => this.start()));
    }
  }

  look() {
    if (!this.model) return undefined;
    if (!this.input.value.trim()) {
      this.body.hidden = true;
      this.state.replaceChildren(h("p", { class: "empty" }, "Write a sentence above."));
      return undefined;
    }
    return this.once(
      (signal) => ask("/view/attention", { model: this.model, text: this.input.value }, signal),
      (found) => this.show(found),
      (error) => { this.body.hidden = true; this.state.replaceChildren(failed(error, () => this.look())); },
    );
  }

  show(found) {
    this.found = found;
    this.weights = unpacked(found.weights, Uint8Array);
    this.layer = Math.min(this.layer, found.layers - 1);
    this.head = Math.min(this.head, found.heads - 1);
    this.row = found.tokens.length - 1;
    const direction = found.kind === "causal" ? "Causal: a token sees itself and what stands before it." : "Bidirectional: every token sees all of them.";
    this.kinds.textContent = `${direction} No model of a run attends across from one text to another: cross-attention needs an encoder–decoder.`;
    this.state.replaceChildren(found.dropped ? h("p", { class: "soft" }, `The last ${count(found.dropped)} tokens are left out: the model’s context, or this page, ends before them.`) : "");
    this.body.hidden = false;
    this.thumbnails();
    this.spans = found.tokens.map((token, place) => h("span", { class: "token", dataset: { place: String(place) } }, token.replaceAll("\n", "⏎")));
    this.line.replaceChildren(...this.spans);
    this.draw();
    this.showCache();
  }

  /** The weight with which token `row` looks at token `column`, 0 to 1. */
  weight(row, column, layer = this.layer, head = this.head) {
    const size = this.found.tokens.length;
    return this.weights[((layer * this.found.heads + head) * size + row) * size + column] / 255;
  }

  thumbnails() {
    const { layers, heads, tokens, entropy } = this.found;
    this.grid.style.setProperty("--heads", String(heads));
    const rows = Array.from({ length: layers }, (_, layer) => Array.from({ length: heads }, (_, head) => {
      const canvas = h("canvas", { width: String(tokens.length), height: String(tokens.length), "aria-hidden": "true" });
      const spread = 2 ** entropy[layer][head];
      return h(
        "button", {
          type: "button", class: "head", dataset: { layer: String(layer), head: String(head) },
          "aria-label": `${layer + 1}.${head + 1}: layer ${layer + 1}, head ${head + 1}`, title: `Layer ${layer + 1}, head ${head + 1}: looks at about ${fixed(spread, 1)} tokens at once`,
          onclick: () => { this.layer = layer; this.head = head; this.draw(); },
        }, canvas, h("span", {}, `${layer + 1}.${head + 1}`),
      );
    }));
    this.grid.replaceChildren(...rows.flat());
  }

  draw() {
    if (!this.found) return;
    const colour = rgb(css("--leaf"));
    for (const one of this.grid.children) {
      const layer = Number(one.dataset.layer), head = Number(one.dataset.head);
      one.setAttribute("aria-pressed", String(layer === this.layer && head === this.head));
      this.paint(one.firstChild, layer, head, colour);
    }
    this.title.textContent = `Layer ${this.layer + 1}, head ${this.head + 1}`;
    this.map.setAttribute("aria-label", `Heat map of layer ${this.layer + 1}, head ${this.head + 1}: ${this.found.tokens.length} by ${this.found.tokens.length} tokens`);
    this.drawMap();
    this.point(this.row);
  }

  /** One pixel a weight; the browser enlarges it. */
  paint(canvas, layer, head, [red, green, blue]) {
    const size = this.found.tokens.length;
    const context = canvas.getContext("2d");
    const image = context.createImageData(size, size);
    for (let at = 0; at < size * size; at += 1) {
      const weight = this.weights[(layer * this.found.heads + head) * size * size + at];
      image.data.set([red, green, blue, Math.round(255 * Math.sqrt(weight / 255))], 4 * at);
    }
    context.putImageData(image, 0, 0);
  }

  drawMap() {
    if (!this.found || this.body.hidden) return;
    const { context, width, height } = sharp(this.map);
    const tokens = this.found.tokens, size = tokens.length;
    const labelled = width / size > 13;
    const edge = labelled ? Math.min(90, width * 0.24) : 0;
    const cell = (width - edge) / size;
    this.place = { edge, cell };
    context.clearRect(0, 0, width, height);
    const [red, green, blue] = rgb(css("--leaf"));
    for (let row = 0; row < size; row += 1) {
      for (let column = 0; column < size; column += 1) {
        const weight = this.weight(row, column);
        if (weight < 0.002) continue;
        context.fillStyle = `rgba(${red},${green},${blue},${Math.sqrt(weight)})`;
        context.fillRect(edge + column * cell, edge + row * cell, Math.max(1, cell - 1), Math.max(1, cell - 1));
      }
    }
    context.strokeStyle = css("--series-2");
    context.lineWidth = 1.5;
    if (this.row !== null) context.strokeRect(edge, edge + this.row * cell, cell * size - 1, cell - 1);
    if (!labelled) return;
    context.fillStyle = css("--soft");
    context.font = `${Math.min(12, cell * 0.75)}px ${css("--mono")}`;
    context.textBaseline = "middle";
    const room = Math.max(2, Math.floor((edge - 6) / context.measureText("m").width));
    const short = (token) => { const text = token.trim() || "␣"; return text.length > room ? `${text.slice(0, room - 1)}…` : text; };
    tokens.forEach((token, place) => {
      const middle = edge + (place + 0.5) * cell;
      context.textAlign = "right";
      context.fillText(short(token), edge - 5, middle);
      context.save();
      context.translate(middle, edge - 5);
      context.rotate(-Math.PI / 2);
      context.textAlign = "left";
      context.fillText(short(token), 0, 0);
      context.restore();
    });
  }

  listen() {
    this.line.addEventListener("pointerover", (event) => { const place = event.target.dataset?.place; if (place !== undefined) this.point(Number(place)); });
    this.line.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step || !this.found) return;
      event.preventDefault();
      this.point(Math.min(this.found.tokens.length - 1, Math.max(0, (this.row ?? 0) + step)));
    });
    this.map.addEventListener("pointermove", (event) => {
      if (!this.place) return;
      const box = this.map.getBoundingClientRect();
      const row = Math.floor((event.clientY - box.top - this.place.edge) / this.place.cell);
      const column = Math.floor((event.clientX - box.left - this.place.edge) / this.place.cell);
      if (row >= 0 && row < this.found.tokens.length && column >= 0 && column < this.found.tokens.length) this.point(row, column);
    });
  }

  /** Show whom token `row` looks at; `column`: say of whom in particular. */
  point(row, column = null) {
    const changed = row !== this.row;
    this.row = row;
    const { tokens } = this.found;
    const shares = tokens.map((_, place) => this.weight(row, place));
    this.spans.forEach((span, place) => {
      span.style.setProperty("--weight", String(Math.round(100 * Math.sqrt(shares[place]))));
      span.classList.toggle("looking", place === row);
    });
    if (changed) this.drawMap();
    const most = column === null ? [...shares.keys()].sort((a, b) => shares[b] - shares[a]).slice(0, 3).filter((one) => shares[one] > 0) : [column];
    this.told.replaceChildren(
      h("strong", { class: "mono" }, tokens[row].trim() || "␣"), " looks at ",
      ...most.flatMap((one, place) => [place ? ", " : "", h("span", { class: "mono" }, tokens[one].trim() || "␣"), ` ${fixed(100 * shares[one], 0)}%`]),
    );
  }

  showCache() {
    const cache = this.found.cache;
    if (!cache) {
      this.cache.replaceChildren(h("h3", {}, "Key–value cache"), h("p", { class: "soft" }, "An encoder reads its text once, all at once: there is nothing to keep. Choose one of the language models to see its cache."));
      return;
    }
    const tokens = this.found.tokens.length + this.found.dropped;
    const per = cache.bytes_per_token.float32;
    const formula = `${cache.layers} layers × (${cache.parts.map((one) => `${one.heads} × ${one.width} ${one.name}`).join(" + ")}) × 4 bytes = ${count(per)} bytes a token`;
    const slider = h("input", { type: "range", min: "1", max: String(cache.context), value: String(Math.min(tokens, cache.context)), "aria-label": "Tokens" });
    const shown = h("div", {});
    const draw = () => {
      const many = Number(slider.value), largest = Math.max(...cache.variants.map((one) => one.bytes), per) * cache.context;
      const rows = [
        ["float32", per, true], ["bfloat16", cache.bytes_per_token.bfloat16, false], ["int8", cache.int8_bytes_per_token, false],
        ...cache.variants.filter((one) => !one.this).map((one) => [`${one.name}, ${one.heads} head${one.heads === 1 ? "" : "s"}`, one.bytes, false]),
      ].map(([name, bytes, own]) => {
        const bar = h("span", { class: own ? "bar own" : "bar" });
        bar.style.setProperty("--share", String((bytes * many) / largest));
        return h("tr", {}, h("td", {}, name), h("td", {}, bar), h("td", { class: "number" }, memory(bytes * many)));
      });
      shown.replaceChildren(
        h("p", {}, h("strong", {}, `${count(many)} token${many === 1 ? "" : "s"}: ${memory(per * many)}`), many === tokens ? " (your text)" : "", h("span", { class: "soft" }, ` of ${memory(per * cache.context)} at the full context of ${count(cache.context)}`)),
        h("table", { class: "sizes" }, h("tbody", {}, rows)),
      );
    };
    slider.addEventListener("input", draw);
    draw();
    this.cache.replaceChildren(
      h("h3", {}, "Key–value cache"), h("p", { class: "formula mono" }, formula), h("label", { class: "slider" }, h("span", {}, "As the text grows"), slider), shown,
      h("p", { class: "caption" }, "What generation keeps of every token so that nothing is computed twice. Numbers of half the size, or fewer key–value heads (grouped-query and multi-query attention), make it smaller."),
    );
  }
}

function rgb(colour) {
  return [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
}
