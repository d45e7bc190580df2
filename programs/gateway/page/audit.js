// The audit log: who changed what, newest first, and whether a record is missing or was changed.
import { get, query } from "./api.js";
import { h, number, show, state, time } from "./dom.js";
import { line, paged } from "./list.js";

const PAGE = 200, HEAD = ["When", "Who", "What", "Tenant", "To", "Outcome", "From", "#Number"];

export async function audit(c) {
  const who = h("input", { type: "search", size: 12 }), what = h("input", { type: "search", size: 12 }), tenant = h("input", { type: "search", size: 12 });
  const chain = h("p", { role: "status" });
  const list = paged("Records", HEAD, (r) => line(HEAD, [time(r.ts), r.who || "–", r.what || "–", r.tenant_id || "–", h("span", { title: r.subject || null }, r.subject || "–"), state(r.outcome), r.from || "–", number(r.seq)]),
    // A page may have few records, or none, where much has to be read for it.
    async (cursor) => { const page = await get("/v1/audit" + query({ who: who.value, what: what.value, tenant: tenant.value, limit: PAGE, cursor })); return { rows: page.records, next: page.next }; });
  async function verify() {
    look.disabled = true;
    show(chain, h("span", { class: "quiet" }, "The chain is being looked at …"));
    try {
      const v = await get("/v1/audit/verification");
      show(chain, state(v.whole ? "whole" : "damaged"), h("span", null, v.whole ? ` ${number(v.records)} records, none is missing or was changed${v.first > 1 ? `, from number ${number(v.first)} on` : ""}. The last: ${number(v.last)} ` : ` ${v.detail}`), v.whole ? h("code", null, v.hash) : null);
    } catch (e) {
      show(chain, h("span", { class: "bad" }, `The chain was not looked at: ${e.message}`));
    }
    look.disabled = false;
  }
  const look = h("button", { type: "button", onclick: verify }, "Verify again");
  let timer = null;
  for (const e of [who, what, tenant]) e.addEventListener("input", () => { clearTimeout(timer); timer = setTimeout(list.again, 300); });
  c.onLeave(() => clearTimeout(timer));
  show(c.main, h("h1", null, "Audit"), chain, h("div", { class: "row" }, h("label", null, "Who", who), h("label", null, "What", what), h("label", null, "Tenant", tenant), h("button", { type: "button", onclick: list.again }, "Newest"), look), list.box);
  list.again();
  await verify();
}
