// A list that has only the rows on screen, however many there are.
import { h, show } from "./dom.js";

const ROW = 37;

// A table whose rows exist only where they are seen. head: "#Name" is of numbers; row: an element of `rows` as a <tr>; `more` (may be
// left out) is called when the end comes near.
export function virtual(label, head, row, more) {
  const rows = [], body = h("tbody"), table = h("table", { class: "virtual", "aria-rowcount": -1 },
    h("thead", null, h("tr", null, head.map((t) => h("th", { scope: "col", class: t.startsWith("#") ? "n" : null }, t.replace(/^#/, ""))))), body);
  const box = h("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": label }, table);
  const space = (n) => { const td = h("td", { colspan: head.length }); td.style.height = `${n * ROW}px`; return h("tr", { class: "space", "aria-hidden": "true" }, td); };
  function draw() {
    const from = Math.max(0, Math.min(rows.length - 1, Math.floor(box.scrollTop / ROW) - 10)), to = Math.min(rows.length, from + Math.ceil((box.clientHeight || 600) / ROW) + 20);
    const shown = rows.slice(from, to).map((r, i) => { const tr = row(r); tr.setAttribute("aria-rowindex", from + i + 2); return tr; });
    show(body, from ? space(from) : null, shown, to < rows.length ? space(rows.length - to) : null, rows.length ? null : h("tr", null, h("td", { colspan: head.length, class: "quiet" }, `no ${label.toLowerCase()}`)));
    if (more && to > rows.length - 50) more();
  }
  let due = false;
  const later = () => { if (!due) { due = true; requestAnimationFrame(() => { due = false; draw(); }); } };
  box.addEventListener("scroll", later);
  return { box, rows, draw: later };
}

// Cells of a row; those of "#Name" are numbers.
export const line = (head, cells) => h("tr", null, cells.map((c, i) => h("td", { class: head[i].startsWith("#") ? "n" : null }, c)));
