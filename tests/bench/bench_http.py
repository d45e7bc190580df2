"""scripts/bench http: uploads beside nginx's WebDAV PUT, messages published by NDJSON, event streams that are idle, and what one account's
flood does to another's requests."""
import http.client
import json
import os
import pathlib
import resource
import select
import shutil
import socket
import ssl
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from common import BUILD

NGINX = """worker_processes 2; daemon off; pid %(dir)s/nginx.pid; error_log %(dir)s/error.log; user root;
load_module /usr/lib/nginx/modules/ngx_http_dav_module.so;
events { worker_connections 1024; }
http { access_log off; client_max_body_size 0; client_body_temp_path %(dir)s/body;
  server { listen 127.0.0.1:%(port)d; location / { root %(dir)s/files; dav_methods PUT; create_full_put_path on; } } }
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(port, process):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except OSError:
            select.select([], [], [], 0.02)
    sys.exit("bench: a server does not start")


class Gateway:
    def __init__(self, base, tls=False):
        self.path, self.port = pathlib.Path(base) / "home", free_port()
        subprocess.run([BUILD / "mysimbdp", "init", self.path], check=True, stdout=subprocess.DEVNULL)
        (self.path / "conf/mysimbdp.conf").write_text(
            'platform = { http = { listen = "127.0.0.1"; tls = %s; requests_per_s = -1; uploads = -1; connections_per_address = 8000; '
            'connections = 8000; event_streams = 8000; event_streams_per_account = -1; }; ports = { gateway = %d; }; min_free_bytes = 0L; '
            'min_free_inodes = 0L; };\n' % (str(tls).lower(), self.port))
        for tenant in ("acme", "flood"):
            (self.path / f"conf/tenants/{tenant}.conf").write_text(
                'datasets = ( { name = "data"; }, { name = "held"; } );\n'
                'batch = ( { app = "load"; exec = "builtin:load"; datasets = ("data"); pattern = "*"; profile = "small"; trigger = "manual"; },\n'
                '          { app = "hold"; exec = "builtin:load"; datasets = ("held"); pattern = "*"; profile = "small"; trigger = "manual"; } );\n'
                'limits = { max_files_per_day = -1; max_bytes_per_day = -1L; max_file_bytes = -1L; };\n'
                'streams = ( { name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; max_stored_bytes = 8589934592L; } );\n')
        self.log = open(pathlib.Path(base) / "up.log", "w")
        self.process = subprocess.Popen([BUILD / "mysimbdp", "up", "--home", self.path], stdout=self.log, stderr=self.log)
        wait_for(self.port, self.process)
        until = time.monotonic() + 60
        while "ready" not in (pathlib.Path(base) / "up.log").read_text():
            if time.monotonic() > until:
                sys.exit("bench: " + (pathlib.Path(base) / "up.log").read_text())
            select.select([], [], [], 0.05)
        self.tokens = {}
        for tenant in ("acme", "flood"):
            self.cli("user", "add", tenant, "--role", "tenant-writer", "--tenant", tenant, stdin="a long password\n")
            self.tokens[tenant] = next(w for w in self.cli("token", "add", tenant).split() if w.startswith("sbt_"))

    def cli(self, *args, stdin=""):
        return subprocess.run([BUILD / "mysimbdp", *args, "--home", self.path], input=stdin, capture_output=True, text=True, check=True).stdout

    def headers(self, tenant="acme", **more):
        return {"Authorization": "Bearer " + self.tokens[tenant], **more}

    def pid(self):
        return int(json.loads(subprocess.run(["sh", "-c", f"pgrep -f 'gateway --supervised --home {self.path}$' || pgrep -f 'gateway .*{self.path}'"],
                                             capture_output=True, text=True).stdout.split()[0]))

    def memory(self):
        text = pathlib.Path(f"/proc/{self.pid()}/smaps_rollup").read_text()
        return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_")) << 10

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Nginx:
    def __init__(self, base):
        self.dir, self.port = pathlib.Path(base) / "nginx", free_port()
        (self.dir / "files").mkdir(parents=True)
        (self.dir / "body").mkdir()
        text = NGINX % {"dir": self.dir, "port": self.port}
        if not pathlib.Path("/usr/lib/nginx/modules/ngx_http_dav_module.so").exists():
            text = text.replace("load_module /usr/lib/nginx/modules/ngx_http_dav_module.so;\n", "")
        (self.dir / "nginx.conf").write_text(text)
        self.process = subprocess.Popen(["nginx", "-c", self.dir / "nginx.conf", "-p", self.dir], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(self.port, self.process)

    def stop(self):
        self.process.terminate()
        self.process.wait()


def put(port, path, headers, body, n_files, at_once, name):
    """Seconds for n_files uploads over at_once connections that stay."""
    left, lock, bad = [n_files], threading.Lock(), []

    def client(k):
        c = http.client.HTTPConnection("127.0.0.1", port)
        while True:
            with lock:
                if not left[0]:
                    return c.close()
                left[0] -= 1
                i = left[0]
            c.request("PUT", path % f"{name}-{i}.csv", body=body, headers=headers)
            r = c.getresponse()
            r.read()
            if r.status not in (201, 204):
                bad.append(r.status)
                return

    threads = [threading.Thread(target=client, args=(k,)) for k in range(at_once)]
    start = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if bad or left[0]:
        sys.exit(f"bench: PUT answered {bad[:1]}")
    return time.monotonic() - start


def bench_uploads(g, quick, rounds, report, found):
    """Large files measure bytes, small ones requests. nginx syncs nothing; its files are synced by sync(1) within its time, as ours are before
    we answer."""
    nginx = Nginx(g.path.parent)
    target = {1: 0.9, 64: 0.9}
    try:
        for size, n_files in ((64 << 20, 4), (100 << 10, 256)):
            body = (b"12345,abcdefghij,3.5\n" * (size // 21 + 1))[:size // 21 * 21]
            for at_once in (1, 64):
                n = max(1, n_files // 4) if quick else n_files
                ours, theirs = [], []
                for i in range(rounds):
                    before = g.memory()
                    ours.append(put(g.port, "/v1/tenants/acme/datasets/held/files/%s", g.headers(), body, n, at_once, f"{size}-{at_once}-{i}"))
                    grown = g.memory() - before
                    start = put(nginx.port, "/%s", {}, body, n, at_once, f"{size}-{at_once}-{i}")
                    at = time.monotonic()
                    subprocess.run(["sync", "-f", nginx.dir])
                    theirs.append(start + time.monotonic() - at)
                rate = statistics.median(t / o for o, t in zip(ours, theirs))
                found.append({"size": size, "at_once": at_once, "ours_s": ours, "nginx_s": theirs, "memory_grown": grown})
                report(f"uploads {size >> 10} kB, {at_once} at once", "uploads beside nginx's PUT", rate, target[at_once],
                       f"{n} files of {size >> 10} kB, {at_once} at once: {n * size / statistics.median(ours) / 1e6:.0f} MB/s, nginx and sync "
                       f"{n * size / statistics.median(theirs) / 1e6:.0f} MB/s; memory +{grown >> 10} kB")
    finally:
        nginx.stop()


def bench_publish(g, quick, rounds, report, found):
    n, line = (100000 if quick else 400000), json.dumps({"n": 0, "text": "x" * 178}) + "\n"
    body = (line * n).encode()
    rates = []
    for _ in range(rounds):
        c = http.client.HTTPConnection("127.0.0.1", g.port)
        start = time.monotonic()
        c.request("POST", "/v1/tenants/acme/streams/events/messages", body=body, headers=g.headers(**{"Content-Type": "application/x-ndjson"}))
        r = c.getresponse()
        lines = r.read().splitlines()
        rates.append(n / (time.monotonic() - start))
        if r.status != 200 or len(lines) != n or b"error" in b"".join(lines):
            sys.exit(f"bench: publishing: {r.status} {lines[:2]}")
        c.close()
    found.append({"publish": rates})
    report("publish NDJSON", "messages confirmed a second", statistics.median(rates), 150000, f"{n} of {len(line) - 1} bytes in a request")


def bench_latency(g, quick, rounds, report, found):
    """One account asks who it is while another floods as fast as 16 connections can."""
    def ask(n):
        c, times = http.client.HTTPConnection("127.0.0.1", g.port), []
        for _ in range(n):
            at = time.monotonic()
            c.request("GET", "/v1/whoami", headers=g.headers())
            c.getresponse().read()
            times.append(time.monotonic() - at)
        c.close()
        return sorted(times)[int(n * 0.99)] * 1000

    flood = subprocess.Popen
    alone, under = [], []
    for _ in range(rounds):
        alone.append(ask(1000))
        code = ("import http.client,sys,threading\n"
                "def f():\n"
                f"    c = http.client.HTTPConnection('127.0.0.1', {g.port})\n"
                "    while True:\n"
                f"        c.request('GET', '/v1/whoami', headers={g.headers('flood')!r}); c.getresponse().read()\n"
                "[threading.Thread(target=f).start() for _ in range(16)]\n")
        p = flood([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
        try:
            select.select([], [], [], 0.5)
            under.append(ask(1000))
        finally:
            p.kill()
            p.wait()
    found.append({"alone_p99_ms": alone, "flood_p99_ms": under})
    report("latency under a flood", "p99 under another account's flood", statistics.median(u / a for a, u in zip(alone, under)), 2,
           f"alone {statistics.median(alone):.2f} ms, under the flood {statistics.median(under):.2f} ms", at_most=True)


def cpu_s(pid):
    """Of a process and its keepers."""
    pids = [pid, *map(int, subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, text=True).stdout.split())]
    ticks = 0
    for p in pids:
        fields = pathlib.Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def open_stream(g, context):
    s = socket.create_connection(("127.0.0.1", g.port))
    if context:
        s = context.wrap_socket(s)
    s.sendall(f"GET /v1/tenants/acme/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {g.tokens['acme']}\r\n\r\n".encode())
    return s


def bench_streams(g, quick, rounds, report, found, tls=False):
    """Streams of events on which nothing comes but heartbeats: what each takes of the gateway, and how soon an event reaches the last of them."""
    n = 500 if quick else 5000
    context = None
    if tls:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    open_stream(g, context).recv(1000)
    before, streams = g.memory(), []
    for at in range(0, n, 50):
        some = [open_stream(g, context) for _ in range(min(50, n - at))]
        for s in some:
            head = s.recv(4096)
            if not head.startswith(b"HTTP/1.1 200"):
                sys.exit(f"bench: a stream of events: {head[:300]}")
        streams += some
    each = (g.memory() - before) / n
    start, used = time.monotonic(), cpu_s(g.pid())
    seconds = 5 if quick else 35
    until = start + seconds
    while time.monotonic() < until:  # heartbeats come meanwhile, and are to be read
        select.select([], [], [], 1)
    cpu = 100 * (cpu_s(g.pid()) - used) / (time.monotonic() - start)
    for s in streams:
        s.setblocking(False)
        try:
            while s.recv(65536):
                pass
        except (BlockingIOError, ssl.SSLWantReadError):
            pass
        s.settimeout(60)
    at = time.monotonic()
    with open(g.path / "logs/tenants/acme/events.batch.jsonl", "a") as f:
        f.write('{"ts":"2026-01-01T00:00:00.000Z","event":"file.queued","tenant_id":"acme"}\n')
    for s in streams:
        while b"file.queued" not in s.recv(65536):
            pass
    spread = time.monotonic() - at
    for s in streams:
        s.close()
    found.append({"streams": n, "tls": tls, "bytes_each": each, "cpu_pct": cpu, "spread_s": spread})
    report(f"event streams{' over TLS' if tls else ''}", "memory of an idle stream, kB", each / 1024, 40 if tls else 20,
           f"{n} of them: {cpu:.1f} % of a CPU with the keepers; an event reached all of them within {spread:.2f} s", at_most=True)


def bench_http(quick, rounds, report, only):
    found = []
    base = tempfile.mkdtemp(prefix="simbdp-bench-", dir="/tmp")
    os.chmod(base, 0o755)
    g = Gateway(base)
    try:
        for name, bench in (("uploads", bench_uploads), ("publish", bench_publish), ("latency", bench_latency), ("streams", bench_streams)):
            if only in name:
                bench(g, quick, rounds, report, found)
        if only in "streams":
            g.stop()
            shutil.rmtree(base, ignore_errors=True)
            os.mkdir(base, 0o755)
            g = Gateway(base, tls=True)
            bench_streams(g, quick, rounds, report, found, tls=True)
    finally:
        g.stop()
        shutil.rmtree(base, ignore_errors=True)
    return found
