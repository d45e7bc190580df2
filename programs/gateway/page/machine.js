// What tenants use and cost, what runs, disks, and how the programs are: of GET /v1/platform.
// Rows of lists (sorted.js): [what it goes by, what is shown].
import { bar, bytes, h, number, seconds, state, time } from "./dom.js";

const percent = (x) => (x === null || x === undefined ? "–" : `${number(x * 100, x < 0.1 ? 1 : 0)} %`);
const n = (v, digits) => [v, () => number(v, digits)];
const of = (used, limit, fn) => [used, () => [fn(used), limit === null || limit === undefined ? "" : [" of ", fn(limit), " ", bar(used / limit)]]];
const text = (v) => [v, () => h("span", { title: v || null }, v || "")];
export const linked = (tenant) => [tenant, () => h("a", { href: `#/t/${encodeURIComponent(tenant)}/files` }, tenant)];

export const TENANTS = ["Tenant", "State", "Waits for", "#Files waiting", "#Running", "#Held", "#Files/s", "#Rows/s", "#Messages waiting", "#Messages in/s", "#Out/s", "#Processors", "#Its share", "#Memory", "#Refused, 1 h", "#Refused, 24 h",
  "#Files, month", "#Bytes, month", "#Messages, month", "#CPU time, month", "#Alerts"];
export const RUNS = ["Run", "Tenant", "App", "Step", "#Age", "#Processors", "#Memory", "#Processes"];
export const DISKS = ["Holds", "State", "#Used", "#Free", "#Free inodes", "#Pauses below"];
export const PROGRAMS = ["Program", "State", "Since", "#Restarts", "Last end", "#Processors", "#Memory", "#Descriptors", "#Helpers", "#Theirs", "Says"];

export function tenants(p) {
  const load = new Map(), known = new Map(((p.machine && p.machine.tenants) || []).map((t) => [t.tenant_id, t]));
  for (const r of (p.monitor && p.monitor.rows) || []) {
    const t = load.get(r.tenant_id) || { in: 0, out: 0, waiting: 0, alerts: 0 };
    t.in += r.in_per_s || 0;
    t.out += r.acked_per_s || 0;
    t.waiting += (r.ready || 0) + (r.leased || 0);
    t.alerts += r.alerts.length;
    load.set(r.tenant_id, t);
  }
  return ((p.batchmgr && p.batchmgr.tenants) || []).map((t) => {
    const l = load.get(t.tenant_id) || {}, k = known.get(t.tenant_id) || {}, m = k.month || {};
    return [linked(t.tenant_id), [t.state, () => state(t.state)], text(t.waits_for), n(t.unfinished), n(t.running), n(t.held), n(t.files_per_s, 2), n(t.rows_per_s, 1), n(l.waiting), n(l.in, 1), n(l.out, 1),
      [k.cpu_share, () => [percent(k.cpu_share), " ", bar(k.cpu_share)]], [k.weight_share, percent(k.weight_share)], [k.memory_bytes, () => bytes(k.memory_bytes)], n(k.refused_hour), n(k.refused_day), n(m.files), [m.bytes, () => bytes(m.bytes)], n(m.messages),
      [m.cpu_s, () => seconds(m.cpu_s)], n(l.alerts)];
  });
}

export function runs(m) {
  return m.runs.map((r) => [[r.run_id, () => h("code", { title: r.run_id }, r.run_id)], linked(r.tenant_id), [r.app, r.app], [r.step, r.step],
    of(r.age_s, r.max_age_s, seconds), of(r.cpus, r.max_cpus, (v) => number(v, 2)), of(r.memory_bytes, r.max_memory_bytes, bytes), of(r.pids, r.max_pids, number)]);
}

export function disks(m) {
  return m.disks.map((d) => [[d.places[0], () => h("span", { title: d.places.join(", ") }, d.places.join(", "))], [d.low, () => d.low ? state("refused", "intake and dispatch pause until there is space") : state("OK")],
    of(d.used_bytes, d.size_bytes, bytes), [d.free_bytes, bytes(d.free_bytes)], n(d.free_inodes), [d.pauses_below_bytes, d.pauses_below_bytes === null ? "–" : `${bytes(d.pauses_below_bytes)}, ${number(d.pauses_below_inodes)} inodes`]]);
}

const says = {
  batchmgr: (b) => `intake ${b.intake}, database ${b.database}${b.database_error ? `: ${b.database_error}` : ""}, ${number(b.running)} running, ${number(b.queued)} queued`,
  streammgr: (s) => `${number(s.instances)} instances, ${number(s.parked)} parked`,
  broker: (b) => `publishing ${b.publishing}, ${number(b.peers)} peers, ${number(b.refused)} refused`,
  monitor: (m) => `${number(m.rows.length)} apps`,
};

// With their helpers. Without `mysimbdp up` only those that answer are known.
export function programs(p) {
  const known = new Map(((p.machine && p.machine.programs) || []).map((x) => [x.program, x])), names = [...new Set([...Object.keys(says), ...known.keys()])];
  return names.map((name) => {
    const k = known.get(name) || {}, u = k.use || {}, o = k.helpers || {}, since = k.started_at || (p[name] && p[name].started_at), up = says[name] ? p[name] : k.runs;
    return [[name, name], [Boolean(up), () => state(up ? "up" : "down")], [since, () => time(since)], n(k.restarts), [k.ended_at, () => k.ended_at ? [time(k.ended_at), `, ${k.ended}`] : "–"], n(u.cpus, 2), [u.memory_bytes, () => bytes(u.memory_bytes)],
      of(u.descriptors, u.max_descriptors, number), n(o.processes), [o.memory_bytes, o.processes ? `${number(o.cpus, 2)}, ${bytes(o.memory_bytes)}` : "–"], text(says[name] ? (p[name] ? says[name](p[name]) : "it does not answer; it is being started again") : "")];
  });
}
