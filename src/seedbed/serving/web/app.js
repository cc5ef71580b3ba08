// The frame of the page: tabs, each loaded when it is first opened; the colour scheme; shortcuts.
import { button, failed, h, icon, waiting } from "./dom.js";
import { ask } from "./net.js";

const TABS = [
  ["chat", "Chat"], ["search", "Search"], ["tokens", "Tokens"], ["attention", "Attention"], ["space", "Space"],
  ["lab", "Lab"], ["report", "Report"],
].map(([id, label], place) => ({ id, label, key: String(place + 1), shown: null }));
const SCHEMES = ["system", "light", "dark"];

const tabs = document.getElementById("tabs");
const main = document.getElementById("main");
let overview = null;

function build() {
  for (const tab of TABS) {
    tab.link = h(
      "a", { role: "tab", id: `tab-${tab.id}`, href: `#${tab.id}`, "aria-selected": "false", tabindex: "-1" },
      tab.label,
    );
    tab.panel = h("section", { role: "tabpanel", id: `panel-${tab.id}`, class: `panel ${tab.id}`, "aria-labelledby": `tab-${tab.id}`, hidden: true });
    tab.link.setAttribute("aria-controls", tab.panel.id);
    tabs.append(tab.link);
    main.append(tab.panel);
  }
  tabs.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1, Home: -TABS.length, End: TABS.length }[event.key];
    if (step === undefined || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const here = TABS.indexOf(current());
    const place = Math.abs(step) === 1 ? (here + step + TABS.length) % TABS.length : step < 0 ? 0 : TABS.length - 1;
    open(TABS[place]);
    TABS[place].link.focus();
  });
}

function current() {
  return TABS.find((one) => `#${one.id}` === location.hash) ?? TABS[0];
}

function open(tab) {
  location.hash = `#${tab.id}`;
}

async function route() {
  const tab = current();
  for (const one of TABS) {
    const here = one === tab;
    one.panel.hidden = !here;
    one.link.setAttribute("aria-selected", String(here));
    one.link.tabIndex = here ? 0 : -1;
  }
  tab.link.scrollIntoView({ block: "nearest", inline: "center" });
  document.title = `${tab.label} · ${overview ? overview.name : "Seedbed"}`;
  document.body.dataset.tab = tab.id;
  if (!tab.shown) await show(tab);
  tab.shown?.opened?.();
}

async function show(tab) {
  tab.panel.replaceChildren(waiting("Opening …"));
  try {
    overview ??= await ask("/view/overview");
    document.getElementById("run").textContent = overview.name;
    const module = await import(`/web/${tab.id}.js`);
    if (tab.shown) return;
    tab.panel.replaceChildren();
    tab.shown = (await module.mount(tab.panel, overview)) ?? {};
    document.title = `${current().label} · ${overview.name}`;
  } catch (error) {
    tab.panel.replaceChildren(failed(error, route));
  }
}

function scheme() {
  return document.documentElement.dataset.theme ?? "system";
}

function setScheme(name) {
  if (name === "system") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = name;
  try {
    localStorage.setItem("seedbed.scheme", name);
  } catch {
    // It holds for this visit, then.
  }
  drawScheme();
  window.dispatchEvent(new Event("schemechange"));
}

function drawScheme() {
  const switcher = document.getElementById("scheme"), name = scheme();
  const next = SCHEMES[(SCHEMES.indexOf(name) + 1) % SCHEMES.length];
  switcher.replaceChildren(icon(name));
  switcher.title = `Colours: ${name}. Switch to ${next} (t)`;
  switcher.setAttribute("aria-label", switcher.title);
  switcher.onclick = () => setScheme(next);
}

function shortcuts() {
  const rows = [
    ...TABS.map((tab) => [tab.key, tab.label]), ["/", "To the text field"], ["t", "Colours: system, light, dark"],
    ["Esc", "Stop an answer"], ["?", "This list"],
  ];
  const dialog = h(
    "dialog", { "aria-label": "Keyboard shortcuts", onclose: () => dialog.remove() }, h("h2", {}, "Keyboard"),
    h("dl", { class: "keys" }, rows.map(([key, what]) => [h("dt", {}, h("kbd", {}, key)), h("dd", {}, what)])),
    h("div", { class: "actions" }, button("Close", () => dialog.close(), { autofocus: true })),
  );
  document.body.append(dialog);
  dialog.showModal();
}

function pressed(event) {
  if (event.altKey || event.ctrlKey || event.metaKey || document.querySelector("dialog[open]")) return;
  if (event.key === "Escape") current().shown?.stop?.();
  if (event.target.closest("input:not([type=range],[type=checkbox],[type=radio]), textarea, select, [contenteditable]")) return;
  const tab = TABS.find((one) => one.key === event.key);
  if (tab) {
    open(tab);
    tab.link.focus();
  } else if (event.key === "/") {
    event.preventDefault();
    current().panel.querySelector("[data-main]")?.focus();
  } else if (event.key === "t") document.getElementById("scheme").click();
  else if (event.key === "?") shortcuts();
}

build();
drawScheme();
document.getElementById("keys").append(icon("keys"));
document.getElementById("keys").addEventListener("click", shortcuts);
document.addEventListener("keydown", pressed);
window.addEventListener("hashchange", route);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => window.dispatchEvent(new Event("schemechange")));
route();
