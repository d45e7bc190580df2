// The platform as its provider sees it: programs, tenants and what they wait for, apps with load and decisions.
import { api, follow, of } from "./api.js";
import { act, h, number, seconds, show, state } from "./dom.js";
import { curves, remember } from "./history.js";
import { DISKS, PROGRAMS, RUNS, TENANTS, disks, programs, runs, tenants } from "./machine.js";
import { sorted } from "./sorted.js";

const MANY = 200;

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

const APPS = ["App", "State", "#In/s", "#Out/s", "#Waiting", "#In flight", "#Oldest", "#Empty in", "#Instances", "#Wanted", "#p99", "#Errors", "#Dead", "Decision", "Alerts"];

const app = (r, open) => [[`${r.tenant_id}/${r.app}`, () => h("button", { type: "button", onclick: () => open(r) }, `${r.tenant_id}/${r.app}`)], [r.state, () => state(r.state, r.why)], [r.in_per_s, () => number(r.in_per_s, 1)], [r.acked_per_s, () => number(r.acked_per_s, 1)], [r.ready, () => number(r.ready)], [r.leased, () => number(r.leased)],
  [r.oldest_age_s, () => seconds(r.oldest_age_s)], [r.drain_s, () => seconds(r.drain_s)], [r.instances, () => number(r.instances)], [r.desired, () => number(r.desired)], [r.p99_ms, () => (r.p99_ms === null ? "–" : `${number(r.p99_ms, 1)} ms`)], [r.errors, () => number(r.errors)], [r.dead, () => number(r.dead)],
  [r.reason, () => (r.reason ? h("span", { class: "said", title: `${r.reason} (${r.decided_at})` }, `${number(r.decision)}: ${r.reason}`) : "")], [r.alerts.length || null, r.alerts.join(", ")]];

export async function platform(c) {
  const { p, tell } = told(), curve = h("div", { class: "card", hidden: true }), going = h("div", { hidden: true });
  const find = h("input", { type: "search", placeholder: "tenant or app", oninput: () => draw() });
  const withOrders = (cells, order) => (c.may("admin") ? [...cells.slice(0, 2), order, ...cells.slice(2)] : cells); // beside the state
  const ofTenants = sorted("Tenants", withOrders(TENANTS, "Do")), ofApps = sorted("Stream apps", APPS), ofRuns = sorted("Runs and instances", RUNS), ofDisks = sorted("Disks", DISKS), ofPrograms = sorted("Programs", PROGRAMS);
  let chosen = null;
  const open = (r) => { chosen = r; curve.hidden = false; curves(curve, r.tenant_id, r.app); };
  function draw() {
    const rows = (p.monitor && p.monitor.rows) || [], part = find.value.trim(), wanted = (list) => (part ? list.filter((r) => r[0][0].includes(part)) : list);
    const states = new Map(((p.batchmgr && p.batchmgr.tenants) || []).map((t) => [t.tenant_id, t]));
    ofTenants.fill(wanted(tenants(p).map((r) => withOrders(r, ["", () => suspension(states.get(r[0][0]))]))));
    ofApps.fill(wanted(rows.map((r) => app(r, open))));
    going.hidden = !p.machine;
    if (p.machine) { ofRuns.fill(runs(p.machine)); ofDisks.fill(disks(p.machine)); }
    ofPrograms.fill(programs(p));
    return rows;
  }
  // Of many apps what is heard of the one that is looked at is remembered.
  function onEvent(type, data) {
    if (type !== "platform" && type !== "change") return;
    tell(type, data);
    const rows = draw();
    remember(rows.length <= MANY ? rows : rows.filter((r) => chosen && r.tenant_id === chosen.tenant_id && r.app === chosen.app));
    if (chosen) curves(curve, chosen.tenant_id, chosen.app);
  }
  c.onLeave(follow("/v1/platform/events", (type, data) => { if (c.isShown()) onEvent(type, data); }, (s) => { if (c.isShown()) c.live(s); }));
  show(going, h("h2", null, "Runs and instances"), ofRuns.box, h("h2", null, "Disks"), ofDisks.box);
  show(c.main, h("h1", null, "Platform"), h("div", { class: "row" }, h("label", null, "Find", find)), h("h2", null, "Tenants"), ofTenants.box, h("h2", null, "Stream apps"), ofApps.box, curve, going, h("h2", null, "Programs"), ofPrograms.box);
}
