// Streams: how much waits, how long that will take, and what could not be settled.
import { api, get, of, query } from "./api.js";
import { act, bytes, h, number, say, seconds, show, state, table, time } from "./dom.js";

const EVERY_MS = 2000;

function drain(s, a) {
  if (!a.app) return "–";
  if (!a.waiting) return seconds(0);
  const shrinks = a.acknowledged_per_s - s.published_per_s;
  return shrinks > 0 ? seconds(a.waiting / shrinks) : "it grows";
}

export async function streams(c) {
  const list = h("div"), dead = h("div");
  let shown = null, timer = null;
  async function draw() {
    const { streams: all } = await get(of(c.tenant, "/streams"));
    const rows = [];
    for (const s of all)
      for (const a of s.apps.length ? s.apps : [{}]) rows.push([s.stream, state(s.state), number(s.messages), bytes(s.stored_bytes), number(s.published_per_s, 1), a.app || "–", number(a.waiting), number(a.in_flight), number(a.acknowledged_per_s, 1),
        seconds(a.oldest_age_s), drain(s, a),
        a.dead_letters ? h("button", { type: "button", onclick: () => { shown = [s.stream, a.app]; letters(); } }, number(a.dead_letters)) : number(a.dead_letters)]);
    show(list, table(["Stream", "State", "#Kept", "#Stored", "#In/s", "App", "#Waiting", "#In flight", "#Out/s", "#Oldest", "#Empty in", "#Dead letters"], rows, "Streams"));
  }
  async function letters() {
    const [stream, app] = shown, path = of(c.tenant, `/streams/${encodeURIComponent(stream)}/dead-letters`), q = query({ app });
    const page = await get(path + query({ app, limit: 100 }));
    const settle = (label, consequence, method, suffix, done) => act(label, `${label} of ${app}`, consequence, async () => { const r = await api(method, path + suffix + q, "{}"); return `${number(r.n)} ${done}${r.more ? ", more are left" : ""}`; }, async () => { await letters(); await draw(); });
    show(dead, h("h2", null, `Dead letters of ${app} on ${stream}`), h("div", { class: "row" }, c.may("retry") ? settle("Replay all", "Each is delivered again, as if it were new to the app.", "POST", ":replay", "are delivered again") : null,
      c.may("delete") ? settle("Drop all", "They are gone for good; nothing processes them any more.", "DELETE", "", "are dropped") : null),
    table(["#Number", "#Tries", "Why", "Died", "Message"], page.dead_letters.map((m) => [number(m.sequence), m.deliveries, m.reason || "–", time(m.died_at), h("span", { class: "raw" }, m.text === null ? `${bytes(m.bytes)} of bytes` : m.text)]), "Dead letters"));
  }
  const tick = async () => { try { await draw(); } catch (e) { if (c.isShown()) say(e.message, true); } if (c.isShown()) timer = setTimeout(tick, EVERY_MS); };
  c.onLeave(() => clearTimeout(timer));
  show(c.main, h("h1", null, "Streams"), list, dead);
  await tick();
}
