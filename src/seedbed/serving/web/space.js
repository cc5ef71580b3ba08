// Space: the passages' vectors on a plane, neighbours, and the way of a search through the index.
import { breakable, button, count, css, failed, fixed, h, latest, opening, sharp, unpacked, waiting } from "./dom.js";
import { ask } from "./net.js";

const REACH = 16000; // of the coordinates that the server sends
const WALK = 1400; // milliseconds that the way of a search is drawn in

export function mount(panel, overview) {
  if (!overview.modes.includes("dense")) {
    panel.append(opening("The space of meanings", "This run has no vectors yet. Go on growing it: seedbed grow."));
    return {};
  }
  return new Space(panel, overview);
}

class Space {
  constructor(panel, overview) {
    this.once = latest();
    this.view = null;
    this.chosen = null; // a passage and its neighbours
    this.walk = null; // a query and what the index looked at
    this.frame = 0;
    this.query = h("input", { type: "search", placeholder: "Place a query among them", "aria-label": "Query", "data-main": "", enterkeyhint: "search" });
    this.canvas = h("canvas", { tabindex: "0", role: "img", "aria-label": "Map of the passages’ vectors. Arrow keys move it, plus and minus zoom." });
    this.tip = h("p", { class: "tip", hidden: true });
    this.legend = h("div", { class: "legend" });
    this.side = h("div", { class: "side", "aria-live": "polite" });
    this.lead = opening("The space of meanings", "Every passage is a vector; passages of like meaning lie close together.");
    this.stage = h(
      "div", { class: "plot" }, this.canvas, this.tip,
      h("div", { class: "zoom" }, button("Closer", () => this.zoom(1.5), { symbol: "plus", quiet: true }), button("Farther", () => this.zoom(1 / 1.5), { symbol: "minus", quiet: true }), button("All of it", () => this.home(), { symbol: "home", quiet: true })),
      this.legend,
    );
    this.state = h("div", {}, waiting("Laying out the vectors …"));
    const examples = overview.queries.slice(0, 3).map((one) => h("button", { type: "button", class: "example", onclick: () => { this.query.value = one; this.place(); } }, one));
    this.body = h(
      "div", { hidden: true },
      h("form", { class: "bar", role: "search", onsubmit: (event) => { event.preventDefault(); this.place(); } }, this.query, h("button", { type: "submit", class: "primary" }, "Place it")),
      h("div", { class: "examples" }, examples), h("div", { class: "map-and-side" }, this.stage, this.side),
    );
    panel.append(this.lead, this.state, this.body);
    this.listen();
    this.load();
  }

  async load() {
    try {
      const found = await ask("/view/space");
      this.points = unpacked(found.points, Int16Array);
      Object.assign(this, { numbers: found.numbers, titles: found.titles, codes: found.codes, groups: found.groups, count: found.count });
      const some = found.shown < found.count ? ` ${count(found.shown)} of ${count(found.count)} are drawn.` : "";
      this.lead.querySelector(".lead").textContent = `Every passage is a vector of ${count(found.dimensions)} numbers; passages of like meaning lie close together. `
        + `These are the two directions in which they differ most. They hold ${fixed(100 * found.variance, 0)}% of the differences, so what lies side by side here may be far apart: neighbours are always those of all ${count(found.dimensions)} dimensions.${some}`;
      this.state.replaceChildren();
      this.body.hidden = false;
      this.legend.replaceChildren(...this.groups.map((name, place) => h("span", {}, h("i", { class: `dot group-${place}` }), name)));
      this.hint();
      this.redraw();
    } catch (error) {
      this.state.replaceChildren(failed(error, () => this.load()));
    }
  }

  hint() {
    this.side.replaceChildren(h("p", { class: "soft" }, "Point at the map to see what lies there; choose a point to see its nearest neighbours. Place a query to watch the index look for it."));
  }

  colours() {
    return this.groups.map((_, place) => css(place === this.groups.length - 1 ? "--series-6" : `--series-${place + 1}`));
  }

  /** Where coordinates of the server lie on the canvas. */
  screen(x, y) {
    const { width, height } = this.size, half = Math.min(width, height) / 2 - 12;
    return [width / 2 + ((x / REACH - this.view.x) * half) * this.view.zoom, height / 2 - ((y / REACH - this.view.y) * half) * this.view.zoom];
  }

  /** The view in which all points are seen. */
  whole() {
    const ends = [0, 1].map((axis) => {
      let least = Infinity, most = -Infinity;
      for (let at = axis; at < this.points.length; at += 2) [least, most] = [Math.min(least, this.points[at]), Math.max(most, this.points[at])];
      return [least / REACH, most / REACH];
    });
    const [[left, right], [low, high]] = ends, half = Math.min(this.size.width, this.size.height) / 2 - 12;
    const room = Math.min((this.size.width - 32) / (right - left || 1), (this.size.height - 32) / (high - low || 1));
    return { x: (left + right) / 2, y: (low + high) / 2, zoom: room / half };
  }

  redraw() {
    if (!this.frame && this.points) this.frame = requestAnimationFrame(() => { this.frame = 0; this.draw(); });
  }

  draw() {
    const { context, width, height } = sharp(this.canvas);
    if (width < 2) return;
    this.size = { width, height };
    this.view ??= this.whole();
    const colours = this.colours(), dimmed = this.chosen || this.walk;
    const radius = Math.max(1.3, Math.min(4, 1.4 * Math.sqrt(this.view.zoom)));
    context.globalAlpha = dimmed ? 0.22 : 0.62;
    for (let group = this.groups.length - 1; group >= 0; group -= 1) {
      context.fillStyle = colours[group];
      context.beginPath();
      for (let place = 0; place < this.numbers.length; place += 1) {
        if (this.codes[place] !== group) continue;
        const [x, y] = this.screen(this.points[2 * place], this.points[2 * place + 1]);
        if (x < -4 || y < -4 || x > width + 4 || y > height + 4) continue;
        context.moveTo(x + radius, y);
        context.arc(x, y, radius, 0, 7);
      }
      context.fill();
    }
    context.globalAlpha = 1;
    if (this.walk) this.drawWalk(context);
    if (this.chosen) this.drawChosen(context);
  }

  drawChosen(context) {
    const [x, y] = this.screen(...this.chosen.of.at);
    context.strokeStyle = css("--leaf");
    context.lineWidth = 1.2;
    for (const hit of this.chosen.hits) {
      const [to, down] = this.screen(...hit.at);
      context.beginPath();
      context.moveTo(x, y);
      context.lineTo(to, down);
      context.stroke();
      this.dot(context, to, down, 4, css("--leaf"));
    }
    this.dot(context, x, y, 6, css("--series-2"));
  }

  /** What was looked at, in its order; at the end the way to each passage that was found. */
  drawWalk(context) {
    const { steps, at, hits, progress } = this.walk;
    const shown = Math.ceil(steps.numbers.length * progress);
    const where = new Map(), origin = new Map();
    context.fillStyle = css("--series-3");
    context.globalAlpha = 0.6;
    context.beginPath();
    for (let step = 0; step < shown; step += 1) {
      const number = steps.numbers[step];
      if (where.has(number)) continue;
      const [x, y] = this.screen(...steps.at[step]);
      where.set(number, [x, y]);
      origin.set(number, steps.origins[step]);
      context.moveTo(x + 1.8, y);
      context.arc(x, y, 1.8, 0, 7);
    }
    context.fill();
    context.globalAlpha = 1;
    if (progress === 1) {
      context.strokeStyle = css("--ink");
      context.lineWidth = 1.3;
      context.beginPath();
      for (let number of hits.map((hit) => hit.number)) {
        for (; where.has(origin.get(number)); number = origin.get(number)) {
          context.moveTo(...where.get(number));
          context.lineTo(...where.get(origin.get(number)));
        }
      }
      context.stroke();
      for (const hit of hits) this.dot(context, ...this.screen(...hit.at), 4.5, css("--leaf"));
    }
    if (shown) this.dot(context, ...this.screen(...steps.at[0]), 5, css("--series-5"));
    this.cross(context, ...this.screen(...at));
  }

  dot(context, x, y, radius, colour) {
    context.fillStyle = colour;
    context.strokeStyle = css("--panel");
    context.lineWidth = 1.5;
    context.beginPath();
    context.arc(x, y, radius, 0, 7);
    context.fill();
    context.stroke();
  }

  cross(context, x, y) {
    for (const [colour, width] of [[css("--panel"), 6], [css("--series-2"), 3]]) {
      context.strokeStyle = colour;
      context.lineWidth = width;
      context.beginPath();
      for (const [a, b] of [[-7, 0], [0, -7]]) {
        context.moveTo(x + a, y + b);
        context.lineTo(x - a, y - b);
      }
      context.stroke();
    }
  }

  /** The place in the lists of the point under the pointer, or null. */
  nearest(event) {
    const box = this.canvas.getBoundingClientRect();
    let best = null, least = 14 ** 2;
    for (let place = 0; place < this.numbers.length; place += 1) {
      const [x, y] = this.screen(this.points[2 * place], this.points[2 * place + 1]);
      const far = (x - event.clientX + box.left) ** 2 + (y - event.clientY + box.top) ** 2;
      if (far < least) [best, least] = [place, far];
    }
    return best;
  }

  listen() {
    const held = new Map();
    let moved = false, spread = 0;
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, event); moved = false; spread = 0; });
    canvas.addEventListener("pointermove", (event) => {
      if (!this.points || !this.size) return;
      const before = held.get(event.pointerId);
      if (!before) return this.showTip(event);
      held.set(event.pointerId, event);
      if (Math.abs(event.clientX - before.clientX) + Math.abs(event.clientY - before.clientY) > 1) moved = true;
      if (held.size === 2) {
        const [a, b] = [...held.values()], now = Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY);
        if (spread) this.zoom(now / spread);
        spread = now;
      } else this.pan(event.clientX - before.clientX, event.clientY - before.clientY);
      return undefined;
    });
    canvas.addEventListener("pointerup", (event) => {
      held.delete(event.pointerId);
      if (moved || !this.points) return;
      const place = this.nearest(event);
      if (place !== null) this.choose(this.numbers[place]);
    });
    canvas.addEventListener("pointercancel", (event) => held.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => { this.tip.hidden = true; });
    canvas.addEventListener("wheel", (event) => { event.preventDefault(); this.zoom(Math.exp(-event.deltaY / 400), event); }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const move = { ArrowLeft: [40, 0], ArrowRight: [-40, 0], ArrowUp: [0, 40], ArrowDown: [0, -40] }[event.key];
      if (move) this.pan(...move);
      else if (event.key === "+" || event.key === "=") this.zoom(1.3);
      else if (event.key === "-") this.zoom(1 / 1.3);
      else return;
      event.preventDefault();
    });
    new ResizeObserver(() => this.redraw()).observe(canvas);
    window.addEventListener("schemechange", () => this.redraw());
  }

  showTip(event) {
    const place = this.nearest(event);
    this.tip.hidden = place === null;
    if (place === null) return;
    const box = this.canvas.getBoundingClientRect();
    this.tip.textContent = this.titles[place] || "untitled";
    this.tip.style.left = `${Math.min(event.clientX - box.left + 14, box.width - 150)}px`;
    this.tip.style.top = `${event.clientY - box.top + 14}px`;
  }

  pan(x, y) {
    if (!this.size) return;
    const half = (Math.min(this.size.width, this.size.height) / 2 - 12) * this.view.zoom;
    this.view.x -= x / half;
    this.view.y += y / half;
    this.redraw();
  }

  /** Towards the pointer, or the middle. */
  zoom(factor, event = null) {
    if (!this.view) return;
    const zoom = Math.max(0.6, Math.min(60, this.view.zoom * factor));
    if (event && this.size) {
      const box = this.canvas.getBoundingClientRect();
      const half = Math.min(this.size.width, this.size.height) / 2 - 12;
      const x = (event.clientX - box.left - this.size.width / 2) / half, y = (this.size.height / 2 - event.clientY + box.top) / half;
      this.view.x += x * (1 / this.view.zoom - 1 / zoom);
      this.view.y += y * (1 / this.view.zoom - 1 / zoom);
    }
    this.view.zoom = zoom;
    this.redraw();
  }

  home() {
    this.view = null;
    [this.chosen, this.walk] = [null, null];
    this.hint();
    this.redraw();
  }

  choose(number) {
    this.once(
      (signal) => ask("/view/space/neighbours", { number, k: 8 }, signal),
      (found) => {
        [this.chosen, this.walk] = [found, null];
        this.side.replaceChildren(h("h3", {}, breakable(found.of.title || "untitled")), h("p", { class: "where" }, found.of.source), h("p", { class: "passage" }, found.of.text), h("h4", {}, "Nearest of all dimensions"), this.list(found.hits));
        this.redraw();
      },
      (error) => this.side.replaceChildren(failed(error)),
    );
  }

  place() {
    const query = this.query.value.trim();
    if (!query) return;
    this.side.replaceChildren(waiting("Looking …"));
    this.once(
      (signal) => ask("/view/space/walk", { query, k: 8 }, signal),
      (found) => {
        this.chosen = null;
        this.walk = { ...found, progress: 0 };
        const levels = new Set(found.steps.levels).size;
        this.side.replaceChildren(
          h("h3", {}, query),
          h("p", { class: "soft" }, `The graph looked at ${count(found.looked)} of ${count(found.count)} vectors (${fixed((100 * found.looked) / found.count, 1)}%) on ${levels} level${levels === 1 ? "" : "s"}, keeping ${count(found.ef)} candidates. Lines are its way to each passage that it found.`),
          h("p", { class: "legend" }, h("span", {}, h("i", { class: "dot query" }), "query"), h("span", {}, h("i", { class: "dot entry" }), "entry"), h("span", {}, h("i", { class: "dot looked" }), "looked at"), h("span", {}, h("i", { class: "dot found" }), "found")),
          this.list(found.hits),
        );
        this.play();
      },
      (error) => this.side.replaceChildren(failed(error)),
    );
  }

  play() {
    const walk = this.walk, start = performance.now();
    const still = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    const step = (now) => {
      if (this.walk !== walk) return;
      walk.progress = still ? 1 : Math.min(1, (now - start) / WALK);
      this.redraw();
      if (walk.progress < 1) requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  list(hits) {
    return h("ol", { class: "neighbours" }, hits.map((hit) => h("li", {}, h("button", { type: "button", class: "link", title: hit.text, onclick: () => this.choose(hit.number) }, breakable(hit.title || hit.source)), h("span", { class: "soft" }, fixed(hit.score, 3)))));
  }
}
