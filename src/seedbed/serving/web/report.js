// Report: the run's own page, apart from this one: its scripts reach nothing here.
import { button, failed, h, opening } from "./dom.js";
import { ask } from "./net.js";

export function mount(panel, overview) {
  if (!overview.report) {
    panel.append(opening("Report", "This run has no report yet. Write it: seedbed grow."));
    return;
  }
  const frame = h("iframe", { sandbox: "allow-scripts", title: `Report of ${overview.name}` });
  const state = h("div", {});
  const address = async () => `${(await ask("/view/report", {})).path}?scheme=${document.documentElement.dataset.theme ?? "system"}`;
  const draw = async () => {
    try {
      state.replaceChildren();
      frame.src = await address();
    } catch (error) {
      state.replaceChildren(failed(error, draw));
    }
  };
  const apart = async () => {
    const page = window.open("about:blank"); // at once, while the browser knows that it was asked for
    try {
      page.location.href = await address();
    } catch (error) {
      page.close();
      state.replaceChildren(failed(error));
    }
  };
  panel.append(
    h("p", { class: "row" }, h("span", { class: "soft" }, "What every stage of the run did, with its evidence."), button("Open it by itself", apart, { class: "link" })),
    state, frame,
  );
  window.addEventListener("schemechange", draw);
  draw();
}
