// What is shown is in the address behind the #: /platform, /audit, /t/TENANT/files, /t/TENANT/files/FILE, /t/TENANT/streams, …
import { api, follow, get, of } from "./api.js";
import { h, say, show } from "./dom.js";
import { files } from "./files.js";
import { file } from "./file.js";
import { streams } from "./streams.js";
import { apps } from "./apps.js";
import { usage } from "./usage.js";
import { platform } from "./provider.js";
import { audit } from "./audit.js";

const at = (id) => document.getElementById(id);
const views = { files, streams, apps, usage };
const operators = { platform, audit }; // views of no tenant's
const titles = { platform: "Platform", audit: "Audit", files: "Files", streams: "Streams", apps: "Apps", usage: "Usage" };
let drawn = 0, who = null, leave = null, unfollow = null, followed = null, onEvent = () => {};

function login(why) {
  const user = h("input", { name: "user", autocomplete: "username", required: true }), password = h("input", { name: "password", type: "password", autocomplete: "current-password", required: true });
  const form = h("form", { class: "card login", onsubmit: async (e) => {
    e.preventDefault();
    try {
      who = await api("POST", "/v1/session", JSON.stringify({ user: user.value, password: password.value }));
      at("said").hidden = true;
      draw();
    } catch (err) {
      say(err.message, true);
      password.value = "";
      password.focus();
    }
  } }, h("h1", null, "Log in"), why && h("p", { class: "quiet" }, why), h("label", null, "User", user), h("label", null, "Password", password), h("button", { class: "main" }, "Log in"));
  who = null;
  stop();
  show(at("nav"));
  at("who").textContent = "";
  at("leave").hidden = true;
  show(at("main"), form);
  user.focus();
}

function stop() {
  if (leave) leave();
  leave = null;
  if (unfollow) unfollow();
  unfollow = followed = null;
  at("live").hidden = true;
}

// A tenant's events, while one of its views is shown.
function listen(tenant) {
  if (followed === tenant) return;
  if (unfollow) unfollow();
  followed = tenant;
  unfollow = !tenant ? null : follow(of(tenant, "/events"), (type, e) => onEvent(type, e), (s) => live(s));
}

function live(s) {
  const e = at("live");
  e.hidden = false;
  e.className = `state ${s === "live" ? "good" : "warn"}`;
  e.textContent = s === "live" ? "live" : "connection lost, trying again";
}

function nav(tenant, view) {
  const links = [];
  if (who.role === "operator") for (const v of Object.keys(operators)) links.push([`#/${v}`, titles[v], v === view]);
  if (tenant) for (const v of Object.keys(views)) links.push([`#/t/${encodeURIComponent(tenant)}/${v}`, titles[v], v === view]);
  show(at("nav"), links.map(([href, text, is]) => h("a", { href, "aria-current": is ? "page" : null }, text)));
}

async function draw() {
  if (!who) return;
  const plain = (part) => { try { return decodeURIComponent(part); } catch { return ""; } };
  const [first, name, view, id] = location.hash.replace(/^#\//, "").split("/").map(plain);
  const tenant = who.tenant_id || (first === "t" ? name : null);
  const shown = tenant && (first === "t" || who.role !== "operator") ? (views[view] ? view : "files") : operators[first] ? first : "platform";
  at("who").textContent = tenant && who.role === "operator" ? `${who.account}, looking at ${tenant}` : `${who.account}${tenant ? ` of ${tenant}` : ""}`;
  at("leave").hidden = false;
  nav(tenant, shown);
  if (leave) leave();
  leave = null;
  onEvent = () => {};
  document.title = `${titles[shown]}${operators[shown] ? "" : ` of ${tenant}`} – mysimbdp`;
  listen(operators[shown] ? null : tenant);
  if (operators[shown]) at("live").hidden = true;
  // A view that is left while it still asks goes on in an element that nobody sees, and ends.
  const mine = ++drawn, main = h("div"), account = who, is = () => mine === drawn && who === account;
  const context = { main, who, tenant, live, may: (verb) => account.verbs.includes(verb), isShown: is, on: (fn) => { if (is()) onEvent = fn; }, onLeave: (fn) => { if (is()) leave = fn; } };
  show(at("main"), main);
  try {
    if (operators[shown]) await operators[shown](context);
    else if (shown === "files" && id) await file(context, id);
    else await views[shown](context);
  } catch (e) {
    if (e.status !== 401) show(main, h("p", { class: "bad" }, e.message));
  }
}

at("leave").addEventListener("click", async () => {
  try { await api("DELETE", "/v1/session"); } catch (e) { say(e.message, true); return; }
  login("You are logged out.");
});
document.addEventListener("signed-out", () => { if (who) login("The session has ended."); });
window.addEventListener("hashchange", () => { draw(); at("main").focus(); });
(async () => {
  try { who = await get("/v1/whoami"); } catch { login(); return; }
  draw();
})();
