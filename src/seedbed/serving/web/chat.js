// Chat: one question to one or several stages of the run, answered side by side.
import { button, choices, count, failed, fixed, h, milliseconds, opening, prose } from "./dom.js";
import { stream } from "./net.js";

const NAMES = { base: "base", sft: "fine-tuned", policy: "aligned" };
const ABOUT = {
  base: "Pre-trained only: goes on with your text and knows nothing of questions.",
  sft: "Fine-tuned on questions and answers made from the corpus.",
  policy: "Then trained against a reward model.",
};

export function mount(panel, overview) {
  if (!overview.models.length) {
    panel.append(opening("Chat", "This run has no model that generates text yet. Go on growing it: seedbed grow."));
    return {};
  }
  return new Chat(panel, overview);
}

/** What was asked, and for each stage the answer so far. */
class Turn {
  constructor(question) {
    this.question = question;
    this.answers = new Map();
    this.element = h("article", { class: "turn" });
  }
}

class Chat {
  constructor(panel, overview) {
    this.models = overview.models;
    this.overview = overview;
    this.chats = overview.models.some((one) => one.chats);
    this.turns = [];
    this.running = null;
    this.stages = [this.models.at(-1).id];
    this.log = h("div", { class: "log", role: "log", "aria-label": "Conversation", tabindex: "0" });
    this.input = h("textarea", {
      rows: "1", placeholder: this.chats ? "Ask something that the text knows" : "Begin a text; the model goes on with it", "aria-label": "Your message", "data-main": "",
      oninput: () => this.grow(), onkeydown: (event) => this.key(event),
    });
    this.sender = button("Send", () => (this.running ? this.stop() : this.ask()), { symbol: "send", class: "primary icon" });
    this.settings = this.controls();
    panel.append(
      h("div", { class: "talk" }, this.log, h("form", { class: "composer", onsubmit: (event) => event.preventDefault() }, this.input, this.sender)),
      this.settings,
    );
    this.welcome();
    if (window.matchMedia("(min-width: 60rem)").matches) this.settings.open = true;
  }

  opened() {
    if (window.matchMedia("(pointer: fine)").matches && !this.turns.length) this.input.focus({ preventScroll: true });
  }

  controls() {
    const slider = (label, title, most, step, value) => {
      // No output element: the label would be its own, and not the slider's.
      const shown = h("span", { class: "value" }, String(value));
      const input = h("input", { type: "range", min: "0", max: String(most), step: String(step), value: String(value), oninput: () => { shown.textContent = input.value; this.summary(); } });
      return { input, row: h("label", { class: "slider", title }, h("span", {}, label), shown, input) };
    };
    const context = Math.max(...this.models.map((one) => one.context));
    this.temperature = slider("Temperature", "0: always the likeliest token. Higher: more surprising", 2, 0.05, 0.8);
    this.topP = slider("Top-p", "Draw from the likeliest tokens that together have this probability", 1, 0.01, 0.95);
    this.minP = slider("Min-p", "Leave out tokens less likely than this share of the likeliest", 1, 0.01, 0);
    this.tokens = h("input", { type: "number", min: "1", max: String(context), value: String(Math.min(64, context >> 1)), inputmode: "numeric" });
    this.seed = h("input", { type: "number", placeholder: "random", inputmode: "numeric" });
    this.system = h("textarea", { rows: "2", placeholder: "none" });
    this.short = h("span", { class: "soft" });
    const stages = choices(
      "Who answers", "checkbox", this.models.map((one) => ({ value: one.id, label: NAMES[one.id] ?? one.id, title: ABOUT[one.id] })),
      this.stages, (chosen) => { this.stages = chosen; this.summary(); },
    );
    const details = h(
      "details", { class: "settings" }, h("summary", {}, h("span", {}, "Settings"), this.short),
      h(
        "div", {}, stages, h("p", { class: "hint" }, "Choose two or three to compare their answers."),
        this.temperature.row, this.topP.row, this.minP.row,
        h("label", { class: "field" }, h("span", {}, "Most tokens"), this.tokens),
        h("label", { class: "field" }, h("span", {}, "Seed"), this.seed),
        h("label", { class: "field wide" }, h("span", {}, "System message"), this.system),
        button("New conversation", () => this.reset(), { quiet: true }),
      ),
    );
    this.summary();
    return details;
  }

  summary() {
    const names = this.stages.map((one) => NAMES[one] ?? one).join(", ") || "nobody";
    this.short.textContent = `${names} · ${this.temperature.input.value}`;
  }

  welcome() {
    const { models, sources, questions, openings } = this.overview;
    const parameters = Math.max(...models.map((one) => one.parameters));
    const from = sources.length ? ` from ${sources.slice(0, 2).join(" and ")}` : "";
    const text = `A language model of ${count(parameters)} parameters, grown${from}. `
      + (parameters < 5e7 ? "It is small: expect sentences in the style of its text, often wrong. " : "")
      + `It reads ${count(models[0].context)} tokens at a time.`;
    const examples = this.chats ? questions : openings;
    this.log.replaceChildren(h(
      "div", { class: "welcome" }, opening("Talk to your model", text),
      examples.length ? h("p", { class: "soft" }, this.chats ? "Questions that it was not trained on:" : "Beginnings from text that it was not trained on:") : null,
      h("div", { class: "examples" }, examples.map((one) => h("button", { type: "button", class: "example", onclick: () => this.ask(one) }, prose(one)))),
    ));
  }

  reset() {
    this.stop();
    this.turns = [];
    this.welcome();
    this.input.focus();
  }

  grow() {
    this.input.style.height = "auto";
    this.input.style.height = `${Math.min(this.input.scrollHeight, 180)}px`;
  }

  key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!this.running) this.ask();
  }

  ask(question = this.input.value) {
    if (this.running || !question.trim() || !this.stages.length) {
      if (!this.stages.length) this.settings.open = true;
      return;
    }
    if (!this.turns.length) this.log.replaceChildren();
    if (question === this.input.value) {
      this.input.value = "";
      this.grow();
    }
    const turn = new Turn(question);
    this.turns.push(turn);
    this.log.append(turn.element);
    this.answer(turn);
  }

  /** Draw `turn` anew and let every chosen stage answer it. */
  async answer(turn) {
    turn.answers = new Map(this.stages.map((stage) => [stage, new Answer(stage, this.goesOn(stage) ? turn.question : "")]));
    this.draw(turn);
    this.log.scrollTop = this.log.scrollHeight;
    const controller = (this.running = new AbortController());
    this.running.turn = turn;
    this.state();
    await Promise.all([...turn.answers.values()].map((answer) => answer.run(this.request(turn, answer.stage), controller.signal, () => this.follow())));
    if (this.running === controller) this.running = null;
    this.state();
  }

  draw(turn) {
    const question = h("div", { class: "question" }, h("p", {}, prose(turn.question)));
    const tools = h(
      "div", { class: "tools" },
      button("Edit and ask again", () => this.edit(turn, question), { symbol: "edit", quiet: true }),
      button("Answer anew", () => this.again(turn), { symbol: "again", quiet: true }),
    );
    const answers = [...turn.answers.values()].map((one) => one.element);
    turn.element.replaceChildren(h("div", { class: "asked" }, tools, question), h("div", { class: "answers" }, answers));
  }

  /** Everything from `turn` on is forgotten, and it is answered anew. */
  again(turn) {
    this.stop();
    for (const later of this.turns.splice(this.turns.indexOf(turn) + 1)) later.element.remove();
    if (this.stages.length) this.answer(turn);
  }

  edit(turn, place) {
    const input = h("textarea", { value: turn.question, "aria-label": "Your message", rows: "2" });
    const done = (changed) => {
      if (changed && input.value.trim()) {
        turn.question = input.value;
        this.again(turn);
      } else place.replaceChildren(h("p", {}, prose(turn.question)));
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Escape") done(false);
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        done(true);
      }
    });
    place.replaceChildren(input, h("div", { class: "actions" }, button("Cancel", () => done(false), { quiet: true }), button("Ask", () => done(true))));
    input.focus();
  }

  stop() {
    this.running?.abort();
    this.running = null;
    this.state();
  }

  state() {
    const [label, symbol] = this.running ? ["Stop", "stop"] : ["Send", "send"];
    const fresh = button(label, this.sender.onclick, { symbol });
    this.sender.replaceChildren(...fresh.childNodes);
    this.sender.title = label;
    this.sender.setAttribute("aria-label", label);
  }

  /** Stay at the end while it grows, unless the reader has scrolled up. */
  follow() {
    const { scrollTop, scrollHeight, clientHeight } = this.log;
    if (scrollHeight - scrollTop - clientHeight < 120) this.log.scrollTop = scrollHeight;
  }

  /** Whether a stage goes on with texts, and does not answer. */
  goesOn(stage) {
    return !this.models.find((one) => one.id === stage).chats;
  }

  request(turn, stage) {
    const seed = this.seed.value.trim();
    const body = {
      model: stage, stream: true, stream_options: { include_usage: true }, truncation: "auto",
      temperature: Number(this.temperature.input.value), top_p: Math.max(0.01, Number(this.topP.input.value)),
      min_p: Number(this.minP.input.value), max_tokens: Math.min(Number(this.tokens.max), Math.max(1, Math.round(Number(this.tokens.value)) || 64)),
      ...(seed ? { seed: Math.round(Number(seed)) } : {}),
    };
    if (this.goesOn(stage)) return { path: "/v1/completions", body: { ...body, prompt: turn.question } };
    return { path: "/v1/chat/completions", body: { ...body, messages: this.messages(turn, stage) } };
  }

  /** The conversation as `stage` has known it: turns that it did not answer are left out. */
  messages(turn, stage) {
    const messages = this.system.value.trim() ? [{ role: "system", content: this.system.value }] : [];
    for (const earlier of this.turns.slice(0, this.turns.indexOf(turn))) {
      const text = earlier.answers.get(stage)?.text;
      if (text) messages.push({ role: "user", content: earlier.question }, { role: "assistant", content: text });
    }
    return [...messages, { role: "user", content: turn.question }];
  }
}

/** One stage's answer, or how it goes on `from` a text. Text is added once a frame, however fast it comes. */
class Answer {
  constructor(stage, from) {
    this.stage = stage;
    this.from = h("span", { class: "soft" }, from);
    this.text = "";
    this.node = document.createTextNode("");
    this.figures = h("p", { class: "figures" });
    this.body = h("div", { class: "text" }, this.from, this.node, h("span", { class: "caret", "aria-hidden": "true" }));
    this.element = h(
      "section", { class: "answer running", "aria-label": `Answer of ${NAMES[stage] ?? stage}`, dataset: { stage } },
      h("h2", {}, NAMES[stage] ?? stage), this.body, this.figures,
    );
  }

  async run({ path, body }, signal, grown) {
    const start = performance.now();
    let first = 0, last = 0, usage = null, reason = null, waiting = "", frame = 0;
    const flush = () => {
      frame = 0;
      this.node.appendData(waiting);
      waiting = "";
      grown();
    };
    try {
      await stream(path, body, signal, (event) => {
        usage = event.usage ?? usage;
        const choice = event.choices?.[0];
        reason = choice?.finish_reason ?? reason;
        const piece = choice?.delta?.content ?? choice?.text ?? "";
        if (!piece) return;
        last = performance.now();
        first ||= last;
        this.text += piece;
        waiting += piece;
        frame ||= requestAnimationFrame(flush);
      });
    } catch (error) {
      this.figures.replaceChildren(failed(error));
      reason = "failed";
    }
    cancelAnimationFrame(frame);
    flush();
    this.element.classList.remove("running");
    if (reason === "failed") return;
    this.body.replaceChildren(this.from, ...prose(this.text));
    if (!this.text) this.body.append(h("span", { class: "soft" }, signal.aborted ? "Stopped before the first token." : "It said nothing and ended."));
    this.figures.textContent = this.told(usage, first - start, last - first, signal.aborted ? "stopped" : reason);
    grown();
  }

  told(usage, before, after, reason) {
    const said = [];
    if (usage) said.push(`${count(usage.completion_tokens)} token${usage.completion_tokens === 1 ? "" : "s"}`);
    if (before > 0) said.push(`first after ${milliseconds(before)}`);
    // Pieces that came in one parcel have no speed.
    if (usage && usage.completion_tokens > 1 && after > 10) said.push(`${fixed((1000 * (usage.completion_tokens - 1)) / after, 0)} tokens/s`);
    if (reason === "length") said.push("cut at the longest answer");
    if (reason === "stopped") said.push("stopped");
    return said.join(" · ");
  }
}
