// A tenant's files: a list that has only the rows on screen, an area to drop files on, and what happens meanwhile.
import { api, get, of, query, upload } from "./api.js";
import { act, bytes, h, number, show, state, time } from "./dom.js";
import { paged } from "./list.js";

const PAGE = 200, STATES = ["received", "inspecting", "queued", "running", "held", "ingested", "rejected", "duplicate", "quarantined"];

export async function files(c) {
  const agreement = await get(of(c.tenant, "/agreement"));
  const names = agreement.datasets.map((d) => d.dataset);
  const dataset = h("select", null, h("option", { value: "" }, "all"), names.map((n) => h("option", { value: n }, n)));
  const which = h("select", null, h("option", { value: "" }, "all"), STATES.map((n) => h("option", { value: n }, n)));
  const list = paged("Files", ["File", "Dataset", "State", "Reason", "#Rows", "#Rejected", "#Size", "Received"], (f) => h("tr", null,
    h("td", null, h("a", { href: `#/t/${encodeURIComponent(c.tenant)}/files/${f.file_id}`, title: f.file_name }, f.file_name)), h("td", null, f.dataset), h("td", null, state(f.state)),
    h("td", { title: f.detail || null }, f.reason || ""), h("td", { class: "n" }, number(f.rows_loaded)), h("td", { class: "n" }, number(f.rows_rejected)), h("td", { class: "n" }, bytes(f.size_bytes)), h("td", null, time(f.received_at))), async (cursor) => {
    const page = await get(of(c.tenant, "/files") + query({ dataset: dataset.value, state: which.value, limit: PAGE, cursor }));
    const known = new Set(list.rows.map((f) => f.file_id));
    return { rows: page.files.filter((f) => !known.has(f.file_id)), next: page.next };
  });
  const wanted = (f) => (!dataset.value || f.dataset === dataset.value) && (!which.value || f.state === which.value);

  // One file changed: it alone is asked for, however many changed of it meanwhile.
  const changed = new Set();
  let timer = null;
  async function refresh() {
    timer = null;
    const ids = [...changed].slice(0, 50);
    if (changed.size > 50) { changed.clear(); list.again(); return; }
    changed.clear();
    await Promise.all(ids.map(async (id) => {
      try {
        const f = await get(of(c.tenant, `/files/${id}`)), i = list.rows.findIndex((r) => r.file_id === id);
        if (i >= 0 && wanted(f)) list.rows[i] = f;
        else if (i >= 0) list.rows.splice(i, 1);
        else if (wanted(f)) list.rows.unshift(f);
      } catch { /* it may be gone */ }
    }));
    list.draw();
  }
  c.on((type, e) => {
    if (!e.file_id) return;
    changed.add(e.file_id);
    if (!timer) timer = setTimeout(refresh, 200);
  });
  c.onLeave(() => clearTimeout(timer));
  dataset.onchange = which.onchange = list.again;
  const retry = c.may("retry") && act("Retry all refused", "Retry all refused files", "Every rejected and quarantined file of this tenant is inspected and run once more.", async () => {
    const r = await api("POST", of(c.tenant, "/files:retry"), "{}");
    return `${r.n} files are tried again`;
  }, list.again);
  show(c.main, h("h1", null, "Files"), c.may("upload") && names.length ? dropping(c, names) : null,
    h("div", { class: "row" }, h("label", null, "Dataset", dataset), h("label", null, "State", which), retry || null), list.box);
  list.again();
}

function dropping(c, names) {
  const into = h("select", { id: "into" }, names.map((n) => h("option", { value: n }, n)));
  const input = h("input", { type: "file", multiple: true, id: "choose", onchange: () => { send([...input.files]); input.value = ""; } });
  const under = h("div", { "aria-live": "polite" });
  const box = h("div", { class: "drop card" }, h("div", { class: "row" }, h("label", null, "Into dataset", into), h("label", { for: "choose" }, "drop files here, or choose"), input), under);
  box.addEventListener("dragover", (e) => { e.preventDefault(); box.classList.add("over"); });
  box.addEventListener("dragleave", () => box.classList.remove("over"));
  box.addEventListener("drop", (e) => { e.preventDefault(); box.classList.remove("over"); send([...e.dataTransfer.files]); });
  async function send(all) {
    const dataset = into.value, queue = [...all];
    await Promise.all(Array.from({ length: Math.min(3, queue.length) }, async () => {
      for (let f = queue.shift(); f; f = queue.shift()) await one(dataset, f);
    }));
  }
  async function one(dataset, f) {
    const bar = h("progress", { max: f.size || 1, value: 0, "aria-label": f.name }), text = h("span", null, bytes(f.size)), line = h("div", { class: "row" }, h("span", null, f.name), bar, text);
    under.append(line);
    try {
      await upload(c.tenant, dataset, f, (n) => { bar.value = n; });
      bar.value = bar.max;
      text.textContent = "received";
      text.className = "good";
      setTimeout(() => line.remove(), 8000);
    } catch (e) {
      text.textContent = e.message;
      text.className = "bad";
      line.append(h("button", { type: "button", onclick: () => { line.remove(); one(dataset, f); } }, "Try again"));
    }
  }
  return box;
}
