// One file: all that is known of it, its story, its columns, and its rejects with the cell that was wrong.
import { api, get, of, query } from "./api.js";
import { act, bar, bytes, h, number, seconds, show, state, table, time } from "./dom.js";

// A row as the file had it, with its cell marked. Its delimiter is not told: the one that gives that many cells.
export function cells(raw, column) {
  if (!column) return [raw];
  for (const d of [",", ";", "\t", "|"]) {
    const parts = [];
    let from = 0, quoted = false;
    for (let i = 0; i <= raw.length; i++) {
      if (raw[i] === '"') quoted = !quoted;
      if (i === raw.length || (!quoted && raw[i] === d)) { parts.push([from, i]); from = i + 1; }
    }
    if (parts.length > 1 && parts.length >= column) {
      const [a, b] = parts[column - 1];
      return [raw.slice(0, a), h("mark", null, raw.slice(a, b) || " "), raw.slice(b)];
    }
  }
  return [h("mark", null, raw)];
}

const words = { received: "received", inspected: "inspected", queued: "queued", started: "run started", ended: "run ended", retried: "retried", delayed: "waits" };

function story(f) {
  return h("ol", { class: "story" }, (f.story || []).map((s) => h("li", null, h("strong", null, words[s.event] || s.event), " ", s.at ? time(s.at) : "",
    s.app ? ` ${s.app}${s.attempt ? `, attempt ${s.attempt}` : ""}` : "", s.outcome ? [" ", state(s.outcome)] : "", s.reason ? ` ${s.reason}` : "", s.until ? [" until ", time(s.until)] : "", s.detail ? h("div", { class: "quiet" }, s.detail) : null)));
}

// A column's values, as few bars; said in words for who does not see them.
function histogram(g) {
  if (!g) return "–";
  const most = Math.max(...g.counts), width = 100 / g.counts.length, ns = "http://www.w3.org/2000/svg", svg = document.createElementNS(ns, "svg");
  const mode = g.counts.indexOf(most), numeric = typeof g.from === "number", at = (k) => (numeric ? number(g.from + ((g.to - g.from) * k) / g.counts.length, 6) : new Date(Date.parse(g.from) + ((Date.parse(g.to) - Date.parse(g.from)) * k) / g.counts.length).toISOString());
  const text = `${g.counts.length} ranges from ${at(0)} to ${at(g.counts.length)}; most values, ${number(most)}, from ${at(mode)} to ${at(mode + 1)}`;
  for (const [name, value] of [["class", "histogram"], ["viewBox", "0 0 100 24"], ["preserveAspectRatio", "none"], ["role", "img"], ["aria-label", text]]) svg.setAttribute(name, value);
  const title = document.createElementNS(ns, "title");
  title.textContent = `${text}: ${g.counts.map((n) => number(n)).join(", ")}`;
  svg.append(title);
  g.counts.forEach((n, k) => {
    const bar = document.createElementNS(ns, "rect"), height = n ? Math.max(1, (n / most) * 24) : 0;
    for (const [name, value] of [["x", k * width], ["y", 24 - height], ["width", width * 0.9], ["height", height]]) bar.setAttribute(name, value);
    svg.append(bar);
  });
  return svg;
}

function quality(q) {
  const columns = q && q.by_column ? Object.entries(q.by_column) : [];
  if (!columns.length) return null;
  return [h("h2", null, "Columns"), table(["Column", "Type", "#Nulls", "Share", "#Distinct", "Least", "Most", "Values"], columns.map(([name, v]) => [name, v.type || "–", number(v.nulls),
    bar(q.rows ? v.nulls / q.rows : 0), number(v.distinct), v.min === undefined || v.min === null ? "–" : String(v.min), v.max === undefined || v.max === null ? "–" : String(v.max), histogram(v.histogram)]), "Columns")];
}

export async function file(c, id) {
  const path = of(c.tenant, `/files/${encodeURIComponent(id)}`);
  const rejects = [], under = h("div");
  let offset = 0, more = true;
  async function load() {
    const page = await get(`${path}/rejects${query({ offset, limit: 200 })}`);
    rejects.push(...page.rejects);
    more = page.next !== null && page.next !== undefined;
    offset = page.next || 0;
    show(under, h("h2", null, "Rejects"), table(["#Line", "Column", "Rule", "Why", "Row"], rejects.map((r) => [number(r.line), r.column || "–", r.type, r.message, h("span", { class: "raw" }, cells(r.raw || "", r.column))]), "Rejects"),
      more ? h("button", { type: "button", onclick: load }, "More") : null);
  }
  async function draw() {
    const f = await get(path);
    const facts = [["State", [state(f.state), f.reason ? ` ${f.reason}` : ""]], ["Why", f.detail || "–"], ["Dataset", f.dataset], ["Size", bytes(f.size_bytes)], ["Rows", `${number(f.rows_parsed)} read, ${number(f.rows_loaded)} loaded, ${number(f.rows_rejected)} rejected`],
      ["Received", time(f.received_at)], ["Took", f.ended_at && f.started_at ? seconds((Date.parse(f.ended_at) - Date.parse(f.started_at)) / 1000) : "–"], ["Run", f.run_id ? h("code", null, f.run_id) : "–"], ["Content", h("code", null, f.content_hash || "–")], ["File", h("code", null, f.file_id)]];
    const acts = [];
    if (c.may("retry") && ["rejected", "quarantined"].includes(f.state)) acts.push(act("Retry", `Retry ${f.file_name}`, "The file is inspected and run once more. Rows that it has in the database already stay as they are.", async () => { await api("POST", `${path}:retry`, "{}"); return "It is tried again."; }, draw));
    if (c.may("delete") && ["rejected", "quarantined", "duplicate"].includes(f.state)) acts.push(act("Delete", `Delete ${f.file_name}`, "The stored file is deleted. Its entry in the ledger stays.", async () => { await api("DELETE", path, "{}"); return "It is deleted."; }, draw));
    show(c.main, h("p", null, h("a", { href: `#/t/${encodeURIComponent(c.tenant)}/files` }, "← Files")), h("h1", null, f.file_name), acts.length ? h("div", { class: "row" }, acts) : null,
      h("div", { class: "card" }, h("dl", null, facts.map(([k, v]) => [h("dt", null, k), h("dd", null, v)]))), h("h2", null, "Story"), story(f), quality(f.quality), under);
    if (f.rows_rejected || (f.quality && f.quality.rejects)) { rejects.length = 0; offset = 0; try { await load(); } catch { /* they are kept for a time only */ } }
  }
  let timer = null;
  c.on((type, e) => { if (e.file_id === id && !timer) timer = setTimeout(() => { timer = null; draw(); }, 200); });
  c.onLeave(() => clearTimeout(timer));
  await draw();
}
