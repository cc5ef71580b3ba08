// Elements without markup in strings: whatever comes from models and corpora is set as text and stays text.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  send: ["M5 12h14", "M13 6l6 6-6 6"],
  stop: ["M7 7h10v10H7z"],
  again: ["M4 12a8 8 0 1 0 2.5-5.8", "M4 4v4.500h4.5"],
  edit: ["M4 20h4L19 9l-4-4L4 16z"],
  light: ["M12 8a4 4 0 1 0 0 8 4 4 0 0 0 0-8z", "M12 2v2M12 20v2M2 12h2M20 12h2M5 5l1.4 1.400M17.6 17.6 19 19M5 19l1.4-1.400M17.6 6.4 19 5"],
  dark: ["M20 14.500A8 8 0 0 1 9.5 4 8 8 0 1 0 20 14.500z"],
  system: ["M3 5h18v11H3z", "M9 20h6M12 16v4"],
  keys: ["M3 7h18v10H3z", "M7 11h.01M11 11h.01M15 11h.01M8 14h8"],
  plus: ["M12 5v14M5 12h14"],
  minus: ["M5 12h14"],
  home: ["M8 3H3v5M16 3h5v5M8 21H3v-5M16 21h5v-5"],
};

/** An element. Properties: `class`, `on…` listeners, `dataset`, the rest as attributes; `value` and booleans as properties. */
export function h(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === "class") element.className = value;
    else if (name === "dataset") Object.assign(element.dataset, value);
    else if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "value" || typeof value === "boolean") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(2).filter((one) => one !== null && one !== undefined && one !== false));
  return element;
}

export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24", fill: "none", stroke: "currentColor", "stroke-width": "1.8", "stroke-linecap": "round",
    "stroke-linejoin": "round", "aria-hidden": "true",
  })) svg.setAttribute(key, value);
  for (const line of ICONS[name]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", line);
    svg.append(path);
  }
  return svg;
}

/** A button; `symbol` names an icon, and a button of an icon alone has its label for those who hear it. */
export function button(label, onclick, { symbol = null, quiet = false, text = symbol === null, ...rest } = {}) {
  const kind = `${quiet ? "quiet" : ""} ${text ? "" : "icon"}`.trim();
  return h(
    "button", { type: "button", class: kind, onclick, ...(text ? {} : { "aria-label": label, title: label }), ...rest },
    symbol ? icon(symbol) : null, text ? h("span", {}, label) : null,
  );
}

/** A set of switches that look alike: one of them is on ("radio"), or any number ("checkbox"). */
export function choices(legend, kind, options, chosen, onchange) {
  const name = `choice-${Math.random().toString(36).slice(2)}`;
  const inputs = options.map(({ value, label, title }) => {
    const input = h("input", { type: kind, name, value, checked: chosen.includes(value), onchange: () => onchange(values()) });
    return h("label", { class: "choice", title }, input, h("span", {}, label));
  });
  const values = () => inputs.map((one) => one.firstChild).filter((one) => one.checked).map((one) => one.value);
  return h("fieldset", { class: "choices" }, h("legend", {}, legend), h("div", {}, inputs));
}

/** Text with `code` in it, as nodes. */
export function prose(text) {
  return text.split(/`([^`\n]+)`/).map((part, place) => (place % 2 ? h("code", {}, part) : part));
}

/** A name that may be broken behind its dots, slashes and underscores. */
export function breakable(name) {
  return name.split(/(?<=[._/])(?=.)/).flatMap((part, place) => (place ? [h("wbr"), part] : [part]));
}

export function waiting(text) {
  return h("p", { class: "waiting", role: "status" }, h("span", { class: "spinner", "aria-hidden": "true" }), text);
}

export function failed(error, again) {
  const text = error.message || String(error);
  return h(
    "div", { class: "failed", role: "alert" }, h("p", {}, text[0].toUpperCase() + text.slice(1)),
    again ? button("Try again", again) : null,
  );
}

export function opening(title, text) {
  return h("header", { class: "opening" }, h("h2", {}, title), h("p", { class: "lead" }, text));
}

export function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

export function debounce(milliseconds, call) {
  let timer = 0;
  return (...values) => {
    clearTimeout(timer);
    timer = setTimeout(() => call(...values), milliseconds);
  };
}

/** Only the answer to the latest question counts: earlier ones that come late are dropped, and their requests ended. */
export function latest() {
  let controller = null;
  return async (ask, then, otherwise) => {
    controller?.abort();
    const mine = (controller = new AbortController());
    try {
      const answer = await ask(mine.signal);
      if (mine === controller) then(answer);
    } catch (error) {
      if (mine === controller && error.name !== "AbortError") otherwise(error);
    }
  };
}

const COUNT = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });

export function count(number) {
  return COUNT.format(number);
}

export function fixed(number, digits = 2) {
  return number === null || number === undefined ? "–" : number.toFixed(digits);
}

export function milliseconds(value) {
  return value < 10 ? `${value.toFixed(1)} ms` : value < 10000 ? `${value.toFixed(0)} ms` : `${(value / 1000).toFixed(1)} s`;
}

export function memory(bytes) {
  let power = 0;
  for (; Math.abs(bytes) >= 1024 && power < 4; power += 1) bytes /= 1024;
  return `${power === 0 || bytes >= 100 ? bytes.toFixed(0) : bytes.toPrecision(3)} ${["bytes", "KiB", "MiB", "GiB", "TiB"][power]}`;
}

/** Numbers that came as base64, little endian. */
export function unpacked(text, Kind) {
  const bytes = Uint8Array.from(atob(text), (one) => one.charCodeAt(0));
  return new Kind(bytes.buffer);
}

/** A canvas that is as sharp as the screen: its context, scaled, and its size in CSS pixels. */
export function sharp(canvas) {
  const { width, height } = canvas.getBoundingClientRect();
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(width * ratio));
  canvas.height = Math.max(1, Math.round(height * ratio));
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}
