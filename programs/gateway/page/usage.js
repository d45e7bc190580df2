// What was agreed, what of it is used, and what it costs.
import { get, of } from "./api.js";
import { bar, bytes, h, number, seconds, show, state, table, time } from "./dom.js";

const gauge = (u, fn) => [fn(u.used), u.limit === null ? "no limit" : fn(u.limit), u.limit === null ? "" : bar(u.used / u.limit), u.left === null ? "–" : fn(u.left)];

export async function usage(c) {
  const [u, a] = await Promise.all([get(of(c.tenant, "/usage")), get(of(c.tenant, "/agreement"))]);
  const month = h("input", { type: "month", value: new Date().toISOString().slice(0, 7), max: new Date().toISOString().slice(0, 7), "aria-label": "Month", onchange: () => bill() }), under = h("div");
  async function bill() {
    try {
      const b = await get(of(c.tenant, `/bills/${month.value}`));
      show(under, h("dl", null, [["Until", time(b.until)], ["Whole", b.complete ? "yes" : "not yet"], ["Files", `${number(b.files)}: ${number(b.ingested)} ingested, ${number(b.rejected)} rejected, ${number(b.duplicate)} duplicate, ${number(b.quarantined)} quarantined`],
        ["Bytes", bytes(b.bytes)], ["Rows", `${number(b.rows)} loaded, ${number(b.rows_rejected)} rejected`], ["Messages", `${number(b.messages)}, ${number(b.messages_refused)} refused, ${number(b.messages_dead)} dead`],
        ["Runs", `${seconds(b.run_s)}, ${seconds(b.cpu_s)} of a processor`], ["Instances", seconds(b.instance_s)]].map(([k, v]) => [h("dt", null, k), h("dd", null, v)])));
    } catch (e) {
      show(under, h("p", { class: "bad" }, e.message));
    }
  }
  show(c.main, h("h1", null, a.display_name || a.tenant_id), a.suspended ? h("p", null, state("suspended"), " nothing is taken in or run") : null, h("h2", null, "Today"), h("p", { class: "quiet" }, "until ", time(u.until)),
    table(["What", "#Used", "#Agreed", "Share", "#Left"], [["Files", ...gauge(u.files_today, number)], ["Bytes", ...gauge(u.bytes_today, bytes)], ["Files under way", ...gauge(u.unfinished_files, number)],
      ...u.datasets.flatMap((d) => [[`Files of ${d.dataset}`, ...gauge(d.files_today, number)], [`Bytes of ${d.dataset}`, ...gauge(d.bytes_today, bytes)]])], "Usage today"),
    h("h2", null, "Limits"), table(["Limit", "#Value"], Object.entries(a.limits).map(([k, v]) => [k, v === null ? "none" : number(v)]), "Limits"), h("h2", null, "Bill"), h("div", { class: "row" }, h("label", null, "Month", month)), under);
  await bill();
}
