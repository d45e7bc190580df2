// The platform as its provider sees it: tenants with what they wait for, use and cost, apps with load and decisions, runs, disks, programs.
import { follow } from "./api.js";
import { h, show } from "./dom.js";
import { curves, remember } from "./history.js";
import { apps, disks, programRows, programs, runRows, runs, tenantRows, tenants } from "./machine.js";
// What the events tell of, in the form of GET /v1/platform: `platform` is all of it, `change` what changed (docs/openapi.yaml,
// /v1/platform/events). Lists are in the order of their keys.
export function told() {
  const p = {}, lists = new Map(); // program, member -> key -> row
  const key = (r) => (r.tenant_id ? [r.tenant_id, r.app, r.run_id].filter((x) => x !== undefined && x !== null).join("/") : r.place || r.program);
  const isList = (v) => Array.isArray(v) && v.every((r) => r && key(r));
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

export async function platform(c) {
  const { p, tell } = told(), curve = h("div", { class: "card", hidden: true });
  const find = h("input", { type: "search", "aria-label": "Find", placeholder: "tenant or app", oninput: () => draw() });
  const going = h("div", { hidden: true }), more = h("p", { class: "quiet", hidden: true }, "There are more than are listed.");
  let chosen = null;
  const open = (r) => { chosen = r; curve.hidden = false; curves(curve, r.tenant_id, r.app); };
  // Each with its rows, and what of a row is looked for.
  const ofApp = (r) => `${r.tenant_id}/${r.app}`, lists = [
    [tenants(c.may("admin")), tenantRows, (t) => t.tenant_id], [apps(open), () => (p.monitor && p.monitor.rows) || [], ofApp], [runs(), runRows, ofApp],
    [disks(), () => (p.machine && p.machine.disks) || []], [programs(), programRows]];
  function draw() {
    const part = find.value.trim();
    going.hidden = !p.machine;
    more.hidden = !(p.machine && p.machine.more_runs);
    for (const [list, rows, name] of lists) list.fill(part && name ? rows(p).filter((r) => name(r).includes(part)) : rows(p));
  }
  function onEvent(type, data) {
    if (type !== "platform" && type !== "change") return;
    tell(type, data);
    draw();
    const row = chosen && p.monitor && p.monitor.rows && p.monitor.rows.find((r) => ofApp(r) === ofApp(chosen));
    if (row) remember(row);
    if (chosen) curves(curve, chosen.tenant_id, chosen.app);
  }
  c.onLeave(follow("/v1/platform/events", (type, data) => { if (c.isShown()) onEvent(type, data); }, (s) => { if (c.isShown()) c.live(s); }));
  const [ofTenants, ofApps, ofRuns, ofDisks, ofPrograms] = lists.map(([list]) => list.box);
  show(going, h("h2", null, "Runs and instances"), ofRuns, more, h("h2", null, "Disks"), ofDisks);
  show(c.main, h("h1", null, "Platform"), h("div", { class: "row" }, h("label", null, "Find", find)), h("h2", null, "Tenants"), ofTenants, h("h2", null, "Stream apps"), ofApps, curve, going, h("h2", null, "Programs"), ofPrograms);
}
