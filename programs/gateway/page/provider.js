// The platform as its provider sees it: programs, tenants and what they wait for, apps with load and decisions.
import { api, follow, of } from "./api.js";
import { act, h, number, seconds, show, state, table, time } from "./dom.js";
import { line, virtual } from "./list.js";
import { plot } from "./plot.js";

const KEPT = 600, MANY = 200;
const history = new Map(); // tenant/app -> [times, in, out, instances, desired, oldest]; as long as the page is open

function remember(rows) {
  const now = Date.now() / 1000;
  for (const r of rows) {
    const key = `${r.tenant_id}/${r.app}`, v = history.get(key) || [[], [], [], [], [], []];
    [now, r.in_per_s, r.acked_per_s, r.instances, r.desired, r.oldest_age_s].forEach((x, i) => { v[i].push(x ?? null); if (v[i].length > KEPT) v[i].shift(); });
    history.set(key, v);
  }
}

// What the events tell of, in the form of GET /v1/platform: `platform` is all of it, `change` what changed (docs/openapi.yaml,
// /v1/platform/events). Lists of what tenants have are in the order of their keys.
export function told() {
  const p = {}, lists = new Map(); // program, member -> key -> row
  const isList = (v) => Array.isArray(v) && v.every((r) => r && r.tenant_id);
  const key = (r) => [r.tenant_id, r.app, r.run_id].filter((x) => x !== undefined && x !== null).join("/");
  const forget = (name) => { for (const at of [...lists.keys()]) if (at.startsWith(`${name} `)) lists.delete(at); };
  function tell(type, data) {
    const changed = new Map();
    if (type === "platform") for (const name of Object.keys(p)) { delete p[name]; forget(name); }
    for (const [name, members] of Object.entries(data)) {
      if (name === "gone") continue;
      if (!members) { p[name] = null; forget(name); continue; }
      p[name] = p[name] || {};
      for (const [member, v] of Object.entries(members)) {
        const at = `${name} ${member}`;
        if (!isList(v)) { p[name][member] = v; lists.delete(at); continue; }
        if (!lists.has(at)) lists.set(at, new Map());
        for (const r of v) lists.get(at).set(key(r), r);
        changed.set(at, [name, member]);
      }
    }
    for (const [name, member, row] of data.gone || []) {
      const at = `${name} ${member}`;
      if (row !== undefined && lists.has(at)) { lists.get(at).delete(row); changed.set(at, [name, member]); }
      if (row === undefined && p[name]) { delete p[name][member]; lists.delete(at); changed.delete(at); }
    }
    for (const [at, [name, member]] of changed) if (lists.has(at) && p[name]) p[name][member] = [...lists.get(at)].sort(([a], [b]) => (a < b ? -1 : 1)).map(([, r]) => r);
  }
  return { p, tell };
}

function suspension(t) {
  const resumes = t.state === "suspended", id = t.tenant_id, order = (verb, done) => async () => { await api("POST", `${of(id)}:${verb}`, "{}"); return done; };
  if (!resumes && t.state !== "active") return "";
  const button = resumes ? act("Resume", `Resume ${id}`, `What waits of ${id} goes on: files are run, instances started, uploads and messages taken again.`, order("resume", `${id} is resumed.`))
    : act("Suspend", `Suspend ${id}`, `Nothing of ${id} is started from now on: its files wait, uploads and messages are refused. Runs that go on end as they would; instances finish what they hold and end. Nothing is deleted, and it holds until the tenant is resumed.`, order("suspend", `${id} is suspended.`));
  button.setAttribute("aria-label", `${button.textContent} ${id}`);
  return button;
}

const TENANTS = ["Tenant", "State", "#Queued", "#Running", "#Held", "Waits for", "#Messages in/s", "#Out/s", "#Waiting", "#Alerts", "Do"];
const APPS = ["App", "State", "#In/s", "#Out/s", "#Waiting", "#In flight", "#Oldest", "#Empty in", "#Instances", "#Wanted", "#p99", "#Errors", "#Dead", "Decision", "Alerts"];

export async function platform(c) {
  const { p, tell } = told(), health = h("div"), curve = h("div", { class: "plot card", hidden: true });
  const find = h("input", { type: "search", "aria-label": "Find", placeholder: "tenant or app", oninput: () => draw() });
  let chosen = null, load = new Map();
  const tenants = virtual("Tenants", TENANTS, (t) => {
    const l = load.get(t.tenant_id) || {};
    return line(TENANTS, [h("a", { href: `#/t/${encodeURIComponent(t.tenant_id)}/files` }, t.tenant_id), state(t.state), number(t.queued), number(t.running), number(t.held), h("span", { title: t.waits_for || null }, t.waits_for || ""),
      number(l.in, 1), number(l.out, 1), number(l.ready), number(l.alerts), c.may("admin") ? suspension(t) : ""]);
  });
  const apps = virtual("Stream apps", APPS, (r) => line(APPS, [h("button", { type: "button", onclick: () => open(r) }, `${r.tenant_id}/${r.app}`), state(r.state, r.why), number(r.in_per_s, 1), number(r.acked_per_s, 1), number(r.ready), number(r.leased),
    seconds(r.oldest_age_s), seconds(r.drain_s), number(r.instances), number(r.desired), r.p99_ms === null ? "–" : `${number(r.p99_ms, 1)} ms`, number(r.errors), number(r.dead),
    r.reason ? h("span", { class: "said", title: `${r.reason} (${r.decided_at})` }, `${number(r.decision)}: ${r.reason}`) : "", r.alerts.join(", ")]));
  const open = (r) => { chosen = `${r.tenant_id}/${r.app}`; curve.hidden = false; curve.curve = null; show(curve); drawCurve(); };
  function drawCurve() {
    if (chosen && history.has(chosen)) plot(curve, `${chosen}: messages a second, instances, age of the oldest`, ["arrived/s", "settled/s", "instances", "desired", "oldest s"], ["instances", "desired"], history.get(chosen));
  }
  function fill(list, rows, name) {
    const part = find.value.trim();
    list.rows.splice(0, list.rows.length, ...(part ? rows.filter((r) => name(r).includes(part)) : rows));
    list.draw();
  }
  function draw() {
    const rows = (p.monitor && p.monitor.rows) || [];
    load = new Map();
    for (const r of rows) { const t = load.get(r.tenant_id) || { in: 0, out: 0, ready: 0, alerts: 0 }; t.in += r.in_per_s || 0; t.out += r.acked_per_s || 0; t.ready += r.ready || 0; t.alerts += r.alerts.length; load.set(r.tenant_id, t); }
    show(health, table(["Program", "State", "Since", "Says"], [["batchmgr", p.batchmgr && `intake ${p.batchmgr.intake}, database ${p.batchmgr.database}${p.batchmgr.database_error ? `: ${p.batchmgr.database_error}` : ""}, ${number(p.batchmgr.running)} running, ${number(p.batchmgr.queued)} queued`],
      ["streammgr", p.streammgr && `${number(p.streammgr.instances)} instances, ${number(p.streammgr.parked)} parked`], ["broker", p.broker && `publishing ${p.broker.publishing}, ${number(p.broker.peers)} peers, ${number(p.broker.refused)} refused`], ["monitor", p.monitor && `${number(rows.length)} apps`]]
      .map(([name, text]) => [name, state(text ? "up" : "down"), time(p[name] && (p[name].started_at || p[name].at)), text || "it does not answer; it is being started again"]), "Programs"));
    fill(tenants, (p.batchmgr && p.batchmgr.tenants) || [], (t) => t.tenant_id);
    fill(apps, rows, (r) => `${r.tenant_id}/${r.app}`);
    return rows;
  }
  // Of many apps the curve of the one that is looked at is remembered.
  function onEvent(type, data) {
    if (type !== "platform" && type !== "change") return;
    tell(type, data);
    const rows = draw();
    remember(rows.length > MANY ? rows.filter((r) => `${r.tenant_id}/${r.app}` === chosen) : rows);
    drawCurve();
  }
  c.onLeave(follow("/v1/platform/events", (type, data) => { if (c.isShown()) onEvent(type, data); }, (s) => { if (c.isShown()) c.live(s); }));
  show(c.main, h("h1", null, "Platform"), h("div", { class: "row" }, h("label", null, "Find", find)), h("h2", null, "Tenants"), tenants.box, h("h2", null, "Stream apps"), apps.box, curve, h("h2", null, "Programs"), health);
}
