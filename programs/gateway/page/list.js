// A list that has only the rows on screen, however many there are; sorted by the column whose head was pressed last, or not.
import { h, say, show } from "./dom.js";

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

// A virtual list of what comes in pages: load(cursor) -> {rows, next}, `next` null at the end; a page may have few rows, or none. `again`
// begins anew, and what is on its way then counts no more.
export function paged(label, head, row, load) {
  let next = "", busy = false, generation = 0;
  const list = virtual(label, head, row, more);
  async function more() {
    if (busy || next === null) return;
    busy = true;
    const g = generation;
    try {
      const page = await load(next);
      if (g !== generation) return;
      list.rows.push(...page.rows);
      next = page.next;
    } catch (e) {
      if (g !== generation) return;
      next = null;
      say(e.message, true);
    } finally {
      if (g === generation) { busy = false; if (list.box.isConnected) list.draw(); } // who left the view asks for no more
    }
  }
  function again() {
    generation++;
    busy = false;
    next = "";
    list.rows.length = 0;
    list.box.scrollTop = 0;
    more();
  }
  return { ...list, again };
}

// Cells of a row; those of "#Name" are numbers.
export const line = (head, cells) => h("tr", null, cells.map((c, i) => h("td", { class: head[i].startsWith("#") ? "n" : null }, c)));

const chosen = new Map(); // label -> [column, 1: rising, -1: falling]; as long as the page is open
const nothing = (v) => v === null || v === undefined || v === "" || Number.isNaN(v);

// A virtual list whose rows go by the column whose head was pressed last; pressed again, the other way round; `fill` gives it its
// rows. columns: [head, what a row goes by, what is shown (left out: that)]; null in the middle: the rows do not go by it. Nothing
// goes last, whichever way.
export function sorted(label, columns) {
  const head = columns.map(([name]) => name), list = virtual(label, head, (r) => line(head, columns.map(([, by, shown]) => (shown ? shown(r) : by(r) ?? ""))));
  const heads = list.box.querySelectorAll("th"), mark = (i) => heads[i].querySelector("button span");
  function sort() {
    const [column, way] = chosen.get(label) || [0, 1], by = columns[column][1], keys = new Map(list.rows.map((r) => [r, by(r)]));
    list.rows.sort((a, b) => {
      const x = keys.get(a), y = keys.get(b);
      if (nothing(x) || nothing(y)) return nothing(x) - nothing(y);
      return way * (x < y ? -1 : x > y ? 1 : 0);
    });
    columns.forEach(([, sorts], i) => {
      if (!sorts) return;
      if (i === column) heads[i].setAttribute("aria-sort", way > 0 ? "ascending" : "descending");
      else heads[i].removeAttribute("aria-sort");
      mark(i).textContent = i !== column ? "" : way > 0 ? " ▲" : " ▼";
    });
    list.draw();
  }
  function press(i) {
    const [column, way] = chosen.get(label) || [0, 1];
    chosen.set(label, [i, i === column ? -way : head[i].startsWith("#") ? -1 : 1]);
    sort();
  }
  heads.forEach((th, i) => { if (columns[i][1]) th.replaceChildren(h("button", { type: "button", class: "sort", onclick: () => press(i) }, th.textContent, h("span", { "aria-hidden": "true" }))); });
  return { box: list.box, fill: (rows) => { list.rows.splice(0, list.rows.length, ...rows); sort(); } };
}
