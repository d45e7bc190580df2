// The gateway's answers. Errors are its problem documents (RFC 9457).

export class Problem extends Error {
  constructor(status, doc) {
    super(doc.detail ? `${doc.title}: ${doc.detail}` : doc.title || `HTTP ${status}`);
    this.status = status;
    this.code = doc.code;
  }
}
const common = { "X-Requested-With": "page" };

async function refuse(r) {
  let doc = {};
  try { doc = await r.json(); } catch { /* it was no document */ }
  if (r.status === 401) document.dispatchEvent(new Event("signed-out"));
  throw new Problem(r.status, doc);
}

export async function api(method, path, body, headers) {
  const r = await fetch(path, { method, headers: { ...common, ...(body && typeof body === "string" ? { "Content-Type": "application/json" } : {}), ...headers }, body, cache: "no-store" });
  if (!r.ok) await refuse(r);
  const type = r.headers.get("Content-Type") || "";
  return r.status === 204 ? null : type.includes("json") && !type.includes("ndjson") ? r.json() : r.text();
}
export const get = (path) => api("GET", path);
export const of = (tenant, path = "") => `/v1/tenants/${encodeURIComponent(tenant)}${path}`;
export const query = (fields) => {
  const q = new URLSearchParams(Object.entries(fields).filter(([, v]) => v !== null && v !== undefined && v !== ""));
  return q.size ? `?${q}` : "";
};

// Server-sent events, read with fetch: their types need not be known before. Goes on where it was after a cut, and says how it is.
export function follow(path, onEvent, onState) {
  const stop = new AbortController();
  let last = "", wait = 500;
  (async () => {
    while (!stop.signal.aborted) {
      try {
        const r = await fetch(path, { headers: { ...common, Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) }, signal: stop.signal, cache: "no-store" });
        if (!r.ok) await refuse(r);
        onState("live");
        wait = 500;
        let rest = "";
        const reader = r.body.pipeThrough(new TextDecoderStream()).getReader();
        for (;;) {
          const { value, done } = await reader.read();
          if (done) break;
          const parts = (rest + value).split("\n\n");
          rest = parts.pop();
          for (const part of parts) {
            const field = (name) => part.split("\n").filter((l) => l.startsWith(`${name}: `)).map((l) => l.slice(name.length + 2)).join("\n");
            last = field("id") || last;
            if (field("data")) onEvent(field("event"), JSON.parse(field("data")));
          }
        }
      } catch (e) {
        if (stop.signal.aborted || e.status === 401) return;
      }
      if (stop.signal.aborted) return;
      onState("lost connection");
      await new Promise((done) => { setTimeout(done, wait); });
      wait = Math.min(wait * 2, 15000);
    }
  })();
  return () => stop.abort();
}

// One file: small ones by PUT, larger ones by tus, which goes on after a cut. onProgress(bytes sent).
const LARGE = 16 << 20, PIECE = 8 << 20;

function put(url, file, onProgress) {
  return new Promise((done, fail) => {
    const x = new XMLHttpRequest();
    x.open("PUT", url);
    x.setRequestHeader("X-Requested-With", "page");
    x.upload.onprogress = (e) => onProgress(e.loaded);
    x.onload = () => {
      let doc = {};
      try { doc = JSON.parse(x.responseText); } catch { /* no document */ }
      if (x.status < 300) done(doc);
      else fail(new Problem(x.status, doc));
    };
    x.onerror = () => fail(new Error("the connection was cut"));
    x.send(file);
  });
}

const base64 = (text) => btoa(String.fromCharCode(...new TextEncoder().encode(text)));

async function resumable(tenant, dataset, file, onProgress) {
  const tus = { ...common, "Tus-Resumable": "1.0.0" };
  const made = await fetch(of(tenant, "/uploads"), { method: "POST", headers: { ...tus, "Upload-Length": String(file.size), "Upload-Metadata": `filename ${base64(file.name)},dataset ${base64(dataset)}` } });
  if (!made.ok) await refuse(made);
  const at = made.headers.get("Location");
  let offset = 0, cuts = 0;
  while (offset < file.size) {
    try {
      const r = await fetch(at, { method: "PATCH", headers: { ...tus, "Upload-Offset": String(offset), "Content-Type": "application/offset+octet-stream" }, body: file.slice(offset, offset + PIECE) });
      if (!r.ok) await refuse(r);
      offset = Number(r.headers.get("Upload-Offset"));
      cuts = 0;
      onProgress(offset);
      if (offset === file.size) return r;
    } catch (e) {
      if (e instanceof Problem && e.status !== 409 && e.status < 500) throw e;
      if (++cuts > 8) throw e;
      await new Promise((done) => { setTimeout(done, 500 << cuts); });
      const r = await fetch(at, { method: "HEAD", headers: tus });
      if (!r.ok) await refuse(r);
      offset = Number(r.headers.get("Upload-Offset"));
    }
  }
  return null;
}

export const upload = (tenant, dataset, file, onProgress) => (file.size > LARGE ? resumable(tenant, dataset, file, onProgress)
  : put(of(tenant, `/datasets/${encodeURIComponent(dataset)}/files/${encodeURIComponent(file.name)}`), file, onProgress));
