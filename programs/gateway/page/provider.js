// The platform as its provider sees it: programs, tenants and what they wait for, apps with load and decisions.
import { api, get, of } from "./api.js";
import { act, h, number, seconds, show, state, table, time } from "./dom.js";
import { plot } from "./plot.js";

const EVERY_MS = 2000, KEPT = 600;
const history = new Map(); // tenant/app -> [times, in, out, instances, desired, oldest]; as long as the page is open

function remember(rows) {
  const now = Date.now() / 1000;
  for (const r of rows) {
    const key = `${r.tenant_id}/${r.app}`, v = history.get(key) || [[], [], [], [], [], []];
    [now, r.in_per_s, r.acked_per_s, r.instances, r.desired, r.oldest_age_s].forEach((x, i) => { v[i].push(x ?? null); if (v[i].length > KEPT) v[i].shift(); });
    history.set(key, v);
  }
}

function suspension(t, then) {
  const resumes = t.state === "suspended", id = t.tenant_id, order = (verb, done) => async () => { await api("POST", `${of(id)}:${verb}`, "{}"); return done; };
  if (!resumes && t.state !== "active") return "";
  const button = resumes ? act("Resume", `Resume ${id}`, `What waits of ${id} goes on: files are run, instances started, uploads and messages taken again.`, order("resume", `${id} is resumed.`), then)
    : act("Suspend", `Suspend ${id}`, `Nothing of ${id} is started from now on: its files wait, uploads and messages are refused. Runs that go on end as they would; instances finish what they hold and end. Nothing is deleted, and it holds until the tenant is resumed.`, order("suspend", `${id} is suspended.`), then);
  button.setAttribute("aria-label", `${button.textContent} ${id}`);
  return button;
}

export async function platform(c) {
  const health = h("div"), tenants = h("div"), apps = h("div"), curve = h("div", { class: "plot card", hidden: true });
  let chosen = null, timer = null;
  const open = (r) => { chosen = `${r.tenant_id}/${r.app}`; curve.hidden = false; curve.curve = null; show(curve); drawCurve(); };
  function drawCurve() {
    if (chosen && history.has(chosen)) plot(curve, `${chosen}: messages a second, instances, age of the oldest`, ["arrived/s", "settled/s", "instances", "desired", "oldest s"], ["instances", "desired"], history.get(chosen));
  }
  async function draw() {
    const p = await get("/v1/platform"), rows = (p.monitor && p.monitor.rows) || [];
    remember(rows);
    show(health, table(["Program", "State", "Since", "Says"], [["batchmgr", p.batchmgr && `intake ${p.batchmgr.intake}, database ${p.batchmgr.database}${p.batchmgr.database_error ? `: ${p.batchmgr.database_error}` : ""}, ${number(p.batchmgr.running)} running, ${number(p.batchmgr.queued)} queued`],
      ["streammgr", p.streammgr && `${number(p.streammgr.instances)} instances, ${number(p.streammgr.parked)} parked`], ["broker", p.broker && `publishing ${p.broker.publishing}, ${number(p.broker.peers)} peers, ${number(p.broker.refused)} refused`], ["monitor", p.monitor && `${number(rows.length)} apps`]]
      .map(([name, text]) => [name, state(text ? "up" : "down"), time(p[name] && (p[name].started_at || p[name].at)), text || "it does not answer; it is being started again"]), "Programs"));
    const load = new Map();
    for (const r of rows) { const t = load.get(r.tenant_id) || { in: 0, out: 0, ready: 0, alerts: 0 }; t.in += r.in_per_s || 0; t.out += r.acked_per_s || 0; t.ready += r.ready || 0; t.alerts += r.alerts.length; load.set(r.tenant_id, t); }
    show(tenants, table(["Tenant", "State", "#Queued", "#Running", "#Held", "Waits for", "#Messages in/s", "#Out/s", "#Waiting", "#Alerts", "Do"], ((p.batchmgr && p.batchmgr.tenants) || []).map((t) => {
      const l = load.get(t.tenant_id) || {};
      return [h("a", { href: `#/t/${encodeURIComponent(t.tenant_id)}/files` }, t.tenant_id), state(t.state), number(t.queued), number(t.running), number(t.held), t.waits_for || "", number(l.in, 1), number(l.out, 1), number(l.ready), number(l.alerts), c.may("admin") ? suspension(t, draw) : ""];
    }), "Tenants"));
    show(apps, table(["App", "State", "#In/s", "#Out/s", "#Waiting", "#In flight", "#Oldest", "#Empty in", "#Instances", "#Wanted", "#p99", "#Errors", "#Dead", "Decision", "Alerts"], rows.map((r) => [h("button", { type: "button", onclick: () => open(r) }, `${r.tenant_id}/${r.app}`), state(r.state, r.why), number(r.in_per_s, 1), number(r.acked_per_s, 1), number(r.ready), number(r.leased),
      seconds(r.oldest_age_s), seconds(r.drain_s), number(r.instances), number(r.desired), r.p99_ms === null ? "–" : `${number(r.p99_ms, 1)} ms`, number(r.errors), number(r.dead), r.reason ? h("span", { class: "said", title: r.decided_at }, `${number(r.decision)}: ${r.reason}`) : "", r.alerts.join(", ")]), "Stream apps"));
    drawCurve();
  }
  const tick = async () => {
    try { await draw(); if (c.isShown()) c.live("live"); } catch (e) { if (e.status === 401 || !c.isShown()) return; c.live("lost connection"); }
    if (c.isShown()) timer = setTimeout(tick, EVERY_MS);
  };
  c.onLeave(() => clearTimeout(timer));
  show(c.main, h("h1", null, "Platform"), h("h2", null, "Tenants"), tenants, h("h2", null, "Stream apps"), apps, curve, h("h2", null, "Programs"), health);
  await tick();
}
