// Lists whose rows go by the column whose head was pressed last; pressed again, the other way round.
import { h } from "./dom.js";
import { line, virtual } from "./list.js";

const chosen = new Map(); // label -> [column, 1: rising, -1: falling]; as long as the page is open

// rows: lists of [what it goes by, what is shown, or a function that makes it, where it is on screen]. Nothing goes last, whichever way.
export function sorted(label, head) {
  let rows = [];
  const list = virtual(label, head, (r) => line(head, r.map(([, shown]) => (typeof shown === "function" ? shown() : shown))));
  const heads = [...list.box.querySelectorAll("th")], marks = heads.map(() => h("span", { "aria-hidden": "true" }));
  heads.forEach((th, i) => th.replaceChildren(h("button", { type: "button", class: "sort", onclick: () => {
    const [column, way] = chosen.get(label) || [0, 1];
    chosen.set(label, [i, i === column ? -way : head[i].startsWith("#") ? -1 : 1]);
    order();
  } }, th.textContent, marks[i])));
  function order() {
    const [column, way] = chosen.get(label) || [0, 1];
    const nothing = (v) => v === null || v === undefined || v === "" || Number.isNaN(v);
    const by = (a, b) => {
      const [x, y] = [a[column][0], b[column][0]];
      if (nothing(x) || nothing(y)) return nothing(x) - nothing(y);
      return way * (typeof x === "number" && typeof y === "number" ? x - y : String(x) < String(y) ? -1 : Number(String(x) > String(y)));
    };
    list.rows.splice(0, list.rows.length, ...[...rows].sort(by));
    heads.forEach((th, i) => {
      if (i === column) th.setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else th.removeAttribute("aria-sort");
      marks[i].textContent = i === column ? (way > 0 ? " ▲" : " ▼") : "";
    });
    list.draw();
  }
  return { box: list.box, fill(all) { rows = all; order(); } };
}
