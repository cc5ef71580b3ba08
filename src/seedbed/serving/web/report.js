// Report: the run's own page, apart from this one: its scripts reach nothing here.
import { h, opening } from "./dom.js";

export function mount(panel, overview) {
  if (!overview.report) {
    panel.append(opening("Report", "This run has no report yet. Write it: seedbed grow."));
    return;
  }
  const frame = h("iframe", { sandbox: "allow-scripts", title: `Report of ${overview.name}` });
  const draw = () => { frame.src = `/view/report?scheme=${document.documentElement.dataset.theme ?? "system"}`; };
  panel.append(
    h("p", { class: "row" }, h("span", { class: "soft" }, "What every stage of the run did, with its evidence."), h("a", { href: "/view/report", target: "_blank", rel: "noopener" }, "Open it by itself")),
    frame,
  );
  window.addEventListener("schemechange", draw);
  draw();
}
