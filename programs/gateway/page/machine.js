// What tenants use and cost, what runs, disks, and how the programs are: of GET /v1/platform. Each list is given its rows by `fill`,
// with p as its events told it.
import { act, bar, bytes, h, number, seconds, state, time } from "./dom.js";
import { api, of } from "./api.js";
import { sorted } from "./list.js";

const percent = (x) => (x === null || x === undefined ? "–" : `${number(x * 100, x < 0.1 ? 1 : 0)} %`);
const n = (head, by, digits) => [head, by, (r) => number(by(r), digits)];
const size = (head, by) => [head, by, (r) => bytes(by(r))];
const used = (head, by, limit, fn) => [head, by, (r) => [fn(by(r)), limit(r) === null || limit(r) === undefined ? "" : [" of ", fn(limit(r)), " ", bar(by(r) / limit(r))]]];
const tenant = (id) => h("a", { href: `#/t/${encodeURIComponent(id)}/files` }, id);

function suspension(t) {
  const resumes = t.state === "suspended", id = t.tenant_id, order = (verb, done) => async () => { await api("POST", `${of(id)}:${verb}`, "{}"); return done; };
  if (!resumes && t.state !== "active") return "";
  const button = resumes ? act("Resume", `Resume ${id}`, `What waits of ${id} goes on: files are run, instances started, uploads and messages taken again.`, order("resume", `${id} is resumed.`))
    : act("Suspend", `Suspend ${id}`, `Nothing of ${id} is started from now on: its files wait, uploads and messages are refused. Runs that go on end as they would; instances finish what they hold and end. Nothing is deleted, and it holds until the tenant is resumed.`, order("suspend", `${id} is suspended.`));
  button.setAttribute("aria-label", `${button.textContent} ${id}`);
  return button;
}

// Rows: of tenantRows.
export const tenants = (maySuspend) => sorted("Tenants", [["Tenant", (t) => t.tenant_id, (t) => tenant(t.tenant_id)], ["State", (t) => t.state, (t) => state(t.state)], ...(maySuspend ? [["Do", null, suspension]] : []),
  ["Waits for", (t) => t.waits_for, (t) => h("span", { title: t.waits_for || null }, t.waits_for || "")], n("#Files waiting", (t) => t.unfinished), n("#Running", (t) => t.running), n("#Held", (t) => t.held), n("#Files/s", (t) => t.files_per_s, 2), n("#Rows/s", (t) => t.rows_per_s, 1),
  n("#Messages waiting", (t) => t.load.waiting), n("#Messages in/s", (t) => t.load.in, 1), n("#Out/s", (t) => t.load.out, 1), ["#Processors", (t) => t.use.cpu_share, (t) => [percent(t.use.cpu_share), " ", bar(t.use.cpu_share)]], ["#Its share", (t) => t.use.weight_share, (t) => percent(t.use.weight_share)],
  size("#Memory", (t) => t.use.memory_bytes), n("#Refused, 1 h", (t) => t.use.refused_hour), n("#Refused, 24 h", (t) => t.use.refused_day), n("#Files, month", (t) => t.month.files), size("#Bytes, month", (t) => t.month.bytes), n("#Messages, month", (t) => t.month.messages),
  ["#CPU time, month", (t) => t.month.cpu_s, (t) => seconds(t.month.cpu_s)], n("#Alerts", (t) => t.load.alerts)]);

// Each tenant with what batchmgr, the monitor and the machine say of it.
export function tenantRows(p) {
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
    const use = known.get(t.tenant_id) || {};
    return { ...t, load: load.get(t.tenant_id) || {}, use, month: use.month || {} };
  });
}

export const apps = (open) => sorted("Stream apps", [["App", (r) => `${r.tenant_id}/${r.app}`, (r) => h("button", { type: "button", onclick: () => open(r) }, `${r.tenant_id}/${r.app}`)], ["State", (r) => r.state, (r) => state(r.state, r.why)],
  n("#In/s", (r) => r.in_per_s, 1), n("#Out/s", (r) => r.acked_per_s, 1), n("#Waiting", (r) => r.ready), n("#In flight", (r) => r.leased), ["#Oldest", (r) => r.oldest_age_s, (r) => seconds(r.oldest_age_s)], ["#Empty in", (r) => r.drain_s, (r) => seconds(r.drain_s)],
  n("#Instances", (r) => r.instances), n("#Wanted", (r) => r.desired), ["#p99", (r) => r.p99_ms, (r) => (r.p99_ms === null ? "–" : `${number(r.p99_ms, 1)} ms`)], n("#Errors", (r) => r.errors), n("#Dead", (r) => r.dead),
  ["Decision", (r) => r.reason, (r) => (r.reason ? h("span", { class: "said", title: `${r.reason} (${r.decided_at})` }, `${number(r.decision)}: ${r.reason}`) : "")], ["Alerts", (r) => r.alerts.join(", ")]]);

export const runs = () => sorted("Runs and instances", [["Run", (r) => r.run_id, (r) => h("code", { title: r.run_id }, r.run_id)], ["Tenant", (r) => r.tenant_id, (r) => tenant(r.tenant_id)], ["App", (r) => r.app], ["Step", (r) => r.step],
  used("#Age", (r) => r.age_s, (r) => r.max_age_s, seconds), used("#Processors", (r) => r.cpus, (r) => r.max_cpus, (v) => number(v, 2)), used("#Memory", (r) => r.memory_bytes, (r) => r.max_memory_bytes, bytes), used("#Processes", (r) => r.pids, (r) => r.max_pids, number)]);

// Of an age only the beginning is told: it would change with every event.
export const runRows = (p) => ((p.machine && p.machine.runs) || []).map((r) => ({ ...r, age_s: r.started_at ? Math.max(0, (Date.parse(p.machine.at) - Date.parse(r.started_at)) / 1000) : null }));

export const disks = () => sorted("Disks", [["Holds", (d) => d.places.join(", ")], ["State", (d) => d.low, (d) => (d.low ? state("refused", "intake and dispatch pause until there is space") : state("OK"))],
  used("#Used", (d) => d.used_bytes, (d) => d.size_bytes, bytes), size("#Free", (d) => d.free_bytes), n("#Free inodes", (d) => d.free_inodes),
  ["#Pauses below", (d) => d.pauses_below_bytes, (d) => (d.pauses_below_bytes === null ? "–" : `${bytes(d.pauses_below_bytes)}, ${number(d.pauses_below_inodes)} inodes`)]]);

const says = {
  batchmgr: (b) => `intake ${b.intake}, database ${b.database}${b.database_error ? `: ${b.database_error}` : ""}, ${number(b.running)} running, ${number(b.queued)} queued`,
  streammgr: (s) => `${number(s.instances)} instances, ${number(s.parked)} parked`,
  broker: (b) => `publishing ${b.publishing}, ${number(b.peers)} peers, ${number(b.refused)} refused`,
  monitor: (m) => `${number(((m && m.rows) || []).length)} apps`,
};

// With their helpers.
export const programs = () => sorted("Programs", [["Program", (x) => x.program], ["State", (x) => x.up, (x) => state(x.up ? "up" : "down")], ["Since", (x) => x.since, (x) => time(x.since)], n("#Restarts", (x) => x.restarts), ["Last end", (x) => x.ended_at, (x) => (x.ended_at ? [time(x.ended_at), `, ${x.ended}`] : "–")],
  n("#Processors", (x) => x.use.cpus, 2), size("#Memory", (x) => x.use.memory_bytes), used("#Descriptors", (x) => x.use.descriptors, (x) => x.use.max_descriptors, number), n("#Helpers", (x) => x.helpers.processes),
  ["#Theirs", (x) => x.helpers.memory_bytes, (x) => (x.helpers.processes ? `${number(x.helpers.cpus, 2)}, ${bytes(x.helpers.memory_bytes)}` : "–")], ["Says", null, (x) => x.says]]);

// Without `mysimbdp up` only those that answer are known.
export function programRows(p) {
  const known = new Map(((p.machine && p.machine.programs) || []).map((x) => [x.program, x]));
  return [...new Set([...Object.keys(says), ...known.keys()])].map((program) => {
    const k = known.get(program) || {}, own = p[program];
    return { ...k, program, use: k.use || {}, helpers: k.helpers || {}, since: k.started_at || (own && own.started_at), up: Boolean(says[program] ? own : k.runs), says: says[program] ? (own ? says[program](own) : "it does not answer; it is being started again") : "" };
  });
}
