// How a stream app did: the last hours as the monitor kept them, and what its events told since.
import { get, of, query } from "./api.js";
import { h, number, show, table, time } from "./dom.js";
import { plot } from "./plot.js";

const HEARD = 300, AGAIN_MS = 60000, N = 7;
const heard = new Map(); // tenant/app -> lists of times, arrived, settled, waiting, oldest, instances, desired; the last ones
const ranges = [["15m", "15 minutes"], ["1h", "hour"], ["6h", "6 hours"]];
let since = "1h";

// A row of the monitor's as it is now.
export function remember(r) {
  const key = `${r.tenant_id}/${r.app}`, v = heard.get(key) || Array.from({ length: N }, () => []);
  [Date.now() / 1000, r.in_per_s, r.acked_per_s, r.ready === null ? null : r.ready + r.leased, r.oldest_age_s, r.instances, r.desired].forEach((x, i) => { v[i].push(x ?? null); if (v[i].length > HEARD) v[i].shift(); });
  heard.set(key, v);
}

// Between points that are far apart nothing is known.
function together(past, key) {
  const data = Array.from({ length: N }, () => []), step = past.step_s, add = (p) => {
    const last = data[0].at(-1);
    if (last !== undefined && p[0] - last > 3 * step) data.forEach((list, i) => list.push(i ? null : last + step));
    p.forEach((x, i) => data[i].push(x));
  };
  past.points.forEach(add);
  const until = data[0].length ? data[0].at(-1) + step : 0;
  (heard.get(key) || [[]])[0].forEach((t, k) => { if (t > until) add(heard.get(key).map((list) => list[k])); });
  return data;
}

const names = ["arrived/s", "settled/s", "waiting", "oldest s", "instances", "desired"];

function text(past, data) {
  const most = (i) => number(Math.max(0, ...data[i].filter((x) => x !== null)), 1);
  return `Most in that time: ${most(1)} arrived a second, ${most(2)} settled, ${most(3)} waiting, ${most(4)} s old, ${most(5)} instances of ${most(6)} wanted; ${past.decisions.length} decisions.`;
}

// Draws them into `at`, or draws what was heard since it did.
export async function curves(at, tenant, app) {
  const key = `${tenant}/${app}`;
  if (at.key !== key) {
    const pick = h("select", { onchange: () => { since = pick.value; at.asked = 0; curves(at, tenant, app); } }, ranges.map(([value, label]) => h("option", { value, selected: value === since }, `the last ${label}`)));
    at.plot = h("div", { class: "plot" });
    at.text = h("p", { class: "quiet" });
    at.list = h("div");
    Object.assign(at, { key, asked: 0, past: null });
    show(at, h("div", { class: "row" }, h("h2", null, key), h("label", null, "Show ", pick)), at.plot, at.text, at.list);
  }
  if (Date.now() - at.asked > AGAIN_MS) {
    at.asked = Date.now();
    let past;
    try { past = await get(of(tenant, `/apps/${encodeURIComponent(app)}/history${query({ since })}`)); } catch (e) {
      at.asked -= AGAIN_MS - 5000;
      if (at.key === key) at.text.textContent = e.message;
      return;
    }
    if (at.key !== key) return;
    at.past = past;
    show(at.list, table(["When", "#Instances", "Why"], [...past.decisions].reverse().map((d) => [time(d.at), `${number(d.before)} → ${number(d.desired)}`, d.reason]), "Decisions"));
  }
  if (!at.past) return;
  const data = together(at.past, key), line = text(at.past, data);
  plot(at.plot, `${key}: messages a second, instances, age of the oldest`, names, ["instances", "desired"], data, at.past.decisions.map((d) => Date.parse(d.at) / 1000));
  if (at.text.textContent !== line) at.text.textContent = line;
}
