// Elements and texts. What anybody wrote becomes text nodes, never markup.

export function h(tag, props, ...children) {
  const e = document.createElement(tag);
  for (const [k, v] of Object.entries(props || {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith("on")) e.addEventListener(k.slice(2), v);
    else if (k === "class" || k === "for" || k.includes("-") || k === "role" || k === "colspan" || k === "scope") e.setAttribute(k === "for" ? "for" : k, v === true ? "" : v);
    else e[k] = v;
  }
  e.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false).map((c) => (c instanceof Node ? c : String(c))));
  return e;
}

// What is drawn anew keeps the focus where it was, for who works with the keyboard while figures change and rows move.
const reachable = (at) => [...at.querySelectorAll("a, button, input, select, [tabindex]")];
export function show(at, ...children) {
  const name = (e) => e && `${e.tagName} ${e.getAttribute("aria-label") || e.textContent}`, had = at.contains(document.activeElement) ? name(document.activeElement) : null;
  const i = had ? reachable(at).indexOf(document.activeElement) : -1, scrolled = [...at.querySelectorAll(".wide")].map((e) => e.scrollLeft);
  at.replaceChildren(...children.flat(Infinity).filter(Boolean));
  at.querySelectorAll(".wide").forEach((e, k) => { e.scrollLeft = scrolled[k] || 0; });
  if (i < 0) return;
  const now = reachable(at), to = name(now[i]) === had ? now[i] : now.find((e) => name(e) === had) || now[i];
  if (to) to.focus({ preventScroll: true });
}

const units = ["B", "kB", "MB", "GB", "TB"];
export function bytes(n) {
  if (n === null || n === undefined) return "–";
  let i = 0;
  while (n >= 1000 && i < units.length - 1) { n /= 1000; i++; }
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}
export const number = (n, digits = 0) => (n === null || n === undefined ? "–" : n.toLocaleString("en", { maximumFractionDigits: digits }));
export function seconds(s) {
  if (s === null || s === undefined) return "–";
  if (s < 90) return `${s < 10 ? s.toFixed(1) : Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  return s < 172800 ? `${Math.round(s / 3600)} h` : `${Math.round(s / 86400)} days`;
}
export const time = (at) => (at ? h("time", { dateTime: at, title: at }, new Date(at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "medium", hourCycle: "h23" })) : "–");

const moods = {
  good: ["ingested", "ok", "OK", "active", "running", "ready", "live", "up", "open", "whole"],
  bad: ["rejected", "quarantined", "failed", "STALLED", "parked", "refused", "down", "crashed", "lost", "suspended", "damaged"],
  warn: ["duplicate", "held", "WARN", "draining", "stopped", "STOPPED", "delayed", "building", "lost connection"],
};
export function state(text, why) {
  const mood = Object.keys(moods).find((m) => moods[m].includes(text)) || "quiet";
  return h("span", { class: `state ${mood}`, title: why || null }, text || "–");
}

export function table(head, rows, caption) {
  const numeric = head.map((t) => t.startsWith("#"));
  return h("div", { class: "wide", tabIndex: 0, role: "region", "aria-label": caption }, h("table", null,
    h("thead", null, h("tr", null, head.map((t, i) => h("th", { scope: "col", class: numeric[i] ? "n" : null }, t.replace(/^#/, ""))))),
    h("tbody", null, rows.length ? rows.map((r) => h("tr", null, r.map((c, i) => h("td", { class: numeric[i] ? "n" : null }, c))))
      : h("tr", null, h("td", { colspan: head.length, class: "quiet" }, "nothing")))));
}

export const bar = (share) => {
  const i = h("i");
  i.style.width = `${Math.max(0, Math.min(1, share || 0)) * 100}%`;
  return h("span", { class: "bar", "aria-hidden": "true" }, i);
};

let quiet;
export function say(text, bad) {
  const at = document.getElementById("said");
  at.textContent = text;
  at.className = bad ? "bad" : "";
  at.hidden = false;
  clearTimeout(quiet);
  quiet = setTimeout(() => { at.hidden = true; }, bad ? 12000 : 5000);
}

// What will happen is said before; resolves to whether it is wanted. One question at a time: that the one before it was closed is only
// told later, and would count as the answer to this one.
let asked = Promise.resolve();
export function ask(title, text, yes) {
  asked = asked.then(() => new Promise((done) => {
    const d = document.getElementById("ask");
    document.getElementById("ask-title").textContent = title;
    document.getElementById("ask-text").textContent = text;
    document.getElementById("ask-yes").textContent = yes;
    d.returnValue = "no";
    d.addEventListener("close", () => done(d.returnValue === "yes"), { once: true });
    d.showModal();
  }));
  return asked;
}

// Does what a button says: consequence before, outcome after.
export function act(label, title, consequence, fn, then) {
  return h("button", { type: "button", onclick: async (ev) => {
    if (!(await ask(title, consequence, label))) return;
    ev.target.disabled = true;
    try {
      say(await fn());
      if (then) await then();
    } catch (e) {
      say(e.message, true);
    } finally {
      ev.target.disabled = false;
    }
  } }, label);
}
