// Apps: what runs, which versions there are, and what may be done.
import { api, get, of } from "./api.js";
import { act, bytes, h, number, say, show, state, table, time } from "./dom.js";

const EVERY_MS = 3000;

export async function apps(c) {
  const list = h("div"), under = h("div");
  let timer = null, chosen = null;
  const app = (name, rest = "") => of(c.tenant, `/apps/${encodeURIComponent(name)}${rest}`);
  const order = (label, title, text, path, body, done, then) => act(label, title, text, async () => { await api("POST", path, body || "{}"); return done; }, then);

  async function draw() {
    const [{ apps: all }, live] = await Promise.all([get(of(c.tenant, "/apps")), get(of(c.tenant, "/instances"))]);
    const by = Object.fromEntries(live.apps.map((a) => [a.app, a]));
    show(list, table(["App", "Kind", "Of", "State", "#Running", "#Wanted", "#Restarts", "Why", "Do"], all.map((a) => {
      const s = by[a.app] || {};
      return [h("button", { type: "button", onclick: () => { chosen = a; detail(); } }, a.app), a.kind, a.kind === "batch" ? (a.datasets || []).join(", ") : a.stream || "–", s.state ? state(s.state) : "–", number(a.kind === "batch" ? a.running : s.running), number(s.desired), number(s.restarts), s.reason || (s.last_end && s.last_end.error) || "",
        h("span", { class: "row" }, c.may("run") && a.kind === "stream" ? [order("Start", `Start an instance of ${a.app}`, `One more instance of ${a.app} is started and held until you stop it.`, app(a.app, "/instances"), "{}", "An instance is started.", draw),
          order("Stop", `Stop ${a.app}`, `All instances of ${a.app} finish what they hold and end. Messages wait until it is started again.`, app(a.app, ":stop"), "{}", `${a.app} is stopped.`, draw)] : null,
        c.may("run") && a.kind === "batch" ? order("Run", `Run ${a.app}`, `${a.app} is run for what waits, now.`, app(a.app, ":run"), "{}", "It is run.", draw) : null)];
    }), "Apps"), h("h2", null, "Instances"), table(["Instance", "App", "State", "#In flight", "Since", "Arguments", "Do"], live.instances.map((i) => [h("code", null, i.instance_id), i.app, state(i.state, i.reason), number(i.in_flight), time(i.started_at), (i.args || []).join(" "),
      c.may("run") ? order("Stop", `Stop an instance of ${i.app}`, "It finishes what it holds and ends. The app keeps one instance less.", of(c.tenant, `/instances/${i.instance_id}:stop`), "{}", "It is stopped.", draw) : ""]), "Instances"));
  }
  async function detail() {
    const a = chosen, v = await get(app(a.app, "/versions")), n = h("input", { type: "number", min: 0, max: a.max_instances || 0, value: a.min_instances || 0, "aria-label": "instances" });
    show(under, h("h2", null, a.app), c.may("run") && a.kind === "stream" ? h("div", { class: "row" }, n, act("Scale", `Scale ${a.app}`, "As many instances as you say are kept, whatever the load, until you say otherwise.", async () => { await api("POST", app(a.app, ":scale"), JSON.stringify({ count: Number(n.value) })); return `${a.app} is scaled to ${n.value}.`; }, draw),
      act("Let the platform decide", `Let the platform scale ${a.app}`, "As many instances are kept as the load needs, within what was agreed.", async () => { await api("POST", app(a.app, ":scale"), '{"count":null}'); return `The platform decides how many of ${a.app} run.`; }, draw)) : null,
      c.may("deploy") && v.versions.length > 1 ? h("div", { class: "row" }, order("Roll back", `Roll back ${a.app}`, "The version before the active one is used from the next run on; instances are replaced one by one.", app(a.app, ":rollback"), "{}", "It is rolled back.", detail)) : null,
      table(["Version", "State", "By", "Made", "#Size", "#Files", "Do"], v.versions.map((x) => [h("code", null, x.version), [state(x.state, x.reason), x.active ? " active" : ""], x.by || "–", time(x.created_at), bytes(x.bytes), number(x.files),
        c.may("deploy") && !x.active && x.state === "ready" ? order("Activate", `Activate ${x.version}`, "It is used from the next run on; instances are replaced one by one.", app(a.app, `/versions/${x.version}:activate`), "{}", "It is active.", detail) : ""]), "Versions"));
  }
  const tick = async () => { try { await draw(); } catch (e) { if (c.isShown()) say(e.message, true); } if (c.isShown()) timer = setTimeout(tick, EVERY_MS); };
  c.onLeave(() => clearTimeout(timer));
  show(c.main, h("h1", null, "Apps"), list, under);
  await tick();
}
