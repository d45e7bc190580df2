"""The monitor: reports in, the board, decisions on live instances, alerts, `top`, `advise`."""
import datetime
import json
import os
import pathlib
import re
import signal
import sqlite3
import subprocess
import time

import bson
import pytest
import zmq
from harness import BUILD, ROOT, json_lines, until
from wire import Peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
# A stream app of pyzmq alone: works %(work)s on each message, and tells the monitor what it does.
WORKER = """#!/usr/bin/python3
import fcntl, json, os, signal, sys, threading, time, zmq
sys.path.insert(0, %(here)r)
from wire import Peer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
monitor = zmq.Context.instance().socket(zmq.PUSH)
monitor.linger = 0
monitor.connect(os.environ["ZMQ_MONITOR_ENDPOINT"])
began, seq, done, busy, told = time.time(), 0, 0, 0.0, 0
def tell():
    global seq, told
    seq, told = seq + 1, time.time()
    monitor.send_json({"origin": {"tenant_id": os.environ["SIMBDP_TENANT_ID"], "streaming_app_id": os.environ["SIMBDP_APP"]},
                       "instance_id": os.environ["SIMBDP_INSTANCE_ID"], "boot_id": str(os.getpid()), "seq": seq,
                       "timeframe": {"ingestion_start_time": began, "measurement_end_time": told},
                       "counters": {"messages": done, "busy_s": busy}}, zmq.NOBLOCK)
wait = threading.Event().wait
with Peer(os.environ["ZMQ_STREAM_ENDPOINT"]) as p:
    p.subscribe(os.environ["SIMBDP_STREAM"], os.environ["SIMBDP_APP"], messages=2)
    while True:
        for m in p.take(timeout=0.2):
            t = time.time()
            %(work)s
            busy += time.time() - t
            done += 1
            p.ack([m])
            if time.time() - told > 0.5:
                tell()
        if time.time() - told > 0.5:
            tell()
"""
REPORT = {"metrics": {"processing_rate": 20, "throughput": 4000, "average_ingestion_time": 0.02, "total_ingestion_data_size": 1,
                      "total_number_of_messages": 100}}


@pytest.fixture
def platform(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    return home


def configure(home, *apps, name="acme", streams=("events",)):
    home.db_of[name] = f"{name}_{home.base.name.replace('-', '_')}"
    (home.path / f"conf/tenants/{name}.conf").write_text(
        f'database = "{home.db_of[name]}"; datasets = ( {{ name = "data"; format = "json"; }} ); streams = ( ' + ", ".join(f'{{ name = "{s}"; }}' for s in streams) + " );\n"
        "stream_apps = ( " + ", ".join(f"{{ {a} }}" for a in apps) + " );\n")
    (home.path / "apps" / name).mkdir(exist_ok=True)


def worker(home, work="wait(0.04)", name="work.py"):
    path = home.path / "apps/acme" / name
    path.write_text(WORKER % {"here": str(ROOT / "tests/system"), "work": work})
    path.chmod(0o755)


WORK = 'app = "work"; stream = "events"; exec = "work.py"; drain_s = 1; max_instances = 8; scale = { window_s = 5; };'


def top(home, app="work", kind="app", tenant="acme"):
    rows = [json.loads(line) for line in home.cli("top", "--once", "--json").stdout.splitlines()]
    return next((r for r in rows if r["kind"] == kind and r["tenant_id"] == tenant and (kind != "app" or r["app"] == app)), None)


def wait_top(home, test, what="the board", timeout=60, **which):
    def passes(r):
        try:
            return r if r and test(r) else None
        except TypeError:  # a figure that is not known yet
            return None
    return until(lambda: passes(top(home, **which)), home.path / "logs", timeout=timeout, what=lambda: f"{what}: {top(home, **which)}")


def log(home, event=None):
    lines = [line for line in (home.path / "logs/monitor.log").read_text().splitlines() if line.startswith("{")]
    return [r for r in map(json.loads, lines) if event in (None, r["event"])]


def decisions(home):
    return json_lines(home.path / "logs/decisions.jsonl")


class Load:
    """Publishes at a rate that can be changed, from a thread of its own."""

    def __init__(self, home, rate):
        import threading
        self.rate, self.sent, self.over = rate, 0, threading.Event()
        self.endpoint = home.endpoint
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with Peer(self.endpoint) as p:
            due, last = 0.0, time.monotonic()
            while not self.over.wait(0.05):
                now = time.monotonic()
                due += (now - last) * self.rate
                last = now
                n = int(due)
                if n:
                    p.publish(STREAM, [b'{"n":%d}' % (self.sent + i) for i in range(n)])
                    self.sent += n
                    due -= n

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def push(endpoint, *reports, **options):
    with zmq.Context() as ctx:
        s = ctx.socket(zmq.PUSH)
        s.linger = 20000
        for name, value in options.items():
            setattr(s, name, value)
        s.connect(endpoint)
        for r in reports:
            s.send(r if isinstance(r, bytes) else json.dumps(r).encode())
        s.close()


def endpoint(home):
    return json.loads((home.path / "state/endpoints.json").read_text())["monitor"]


def of(app="work", tenant="acme", **more):
    return {**REPORT, "origin": {"streaming_app_id": app, "tenant_id": tenant}, **more}


def test_what_is_no_report_is_refused_counted_and_named(platform):
    configure(platform, WORK)
    worker(platform)
    platform.up()
    wait_top(platform, lambda r: r["desired"] == 0)
    ipc, now = endpoint(platform)["ipc"], time.time()
    before = until(lambda: (lambda rows: rows if rows[0]["state"] == "idle" else None)(platform.rows("app", "list")), platform.path / "state", what="a database")
    bad = {"malformed": [b"", b"hello", b"\x00" * 50, b"{", b'{"metrics": [1]}', b"\xff\xfe{}"],
           "huge": [b'{"x": "' + b"y" * 70000 + b'"}', b"[" * 3_000_000, of(counters={"messages": 1e30}), of(instance_id="i" * 100)],
           "negative": [of(metrics={"processing_rate": -5})],
           "not_a_number": [bson.BSON.encode(of(metrics={"processing_rate": float("nan")})), b'{"metrics": {"throughput": {"$numberDouble": "Infinity"}}}'],
           "stale": [of(timeframe={"measurement_end_time": now - 3600})],
           "future": [of(timeframe={"measurement_end_time": now + 3600})],
           "unknown_app": [of(app="nobody"), of(app="")]}
    push(ipc, *[r for v in bad.values() for r in v])
    named = {k: len(v) for k, v in bad.items()}

    def refused():
        rows = [json.loads(line) for line in platform.cli("top", "--once", "--json").stdout.splitlines()]
        total = {}
        for r in rows:
            if r["kind"] == "reports":
                for k in r:
                    if isinstance(r[k], int):
                        total[k] = total.get(k, 0) + r[k]
        return total
    until(lambda: all(refused().get(k) == n for k, n in named.items()), platform.path / "logs", what=lambda: f"{named}: {refused()}")
    push(ipc, of(instance_id="me", seq=5, boot_id="x"), of(instance_id="me", seq=5, boot_id="x"), of(instance_id="me", seq=4, boot_id="x"), of(tenant="nobody"))
    until(lambda: refused()["stale"] == 3 and refused()["foreign"] == 1, platform.path / "logs", what=refused)
    assert any("report_refused" == r["event"] and "negative" in r["msg"] for r in log(platform))
    assert "refused of acme" in platform.cli("top", "--once").stdout and f"{sum(refused().values()) - refused()['taken']} refused" in platform.cli("status").stdout
    assert platform.rows("app", "list") == before, "garbage changes no count"
    with zmq.Context() as ctx:  # far too large: the connection ends, and the monitor lives on
        s = ctx.socket(zmq.PUSH)
        s.linger = 500
        s.connect(ipc)
        s.send(b"x" * (8 << 20))
        s.close()
    push(ipc, of(instance_id="me", seq=6, boot_id="x"))
    wait_top(platform, lambda r: r["reporting"] == 1)


@pytest.mark.needs_root
def test_who_sends_a_report_is_what_the_connection_says(platform):
    configure(platform, WORK)
    configure(platform, 'app = "other"; stream = "events";', name="beta")
    worker(platform)
    platform.up()
    wait_top(platform, lambda r: r["desired"] == 0)
    with sqlite3.connect(f"file:{platform.path}/state/ledger.db?mode=ro", uri=True) as db:
        uid = dict(db.execute("SELECT id, uid FROM tenants"))
    script = "import sys, zmq; c = zmq.Context(); s = c.socket(zmq.PUSH); s.linger = 20000; s.connect(sys.argv[1]); s.send(sys.argv[2].encode()); s.close(); c.term()"

    def send(report, uid):
        subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", script, endpoint(platform)["ipc"], json.dumps(report)], check=True)
    send(of(instance_id="a"), uid["beta"])          # says it is acme
    send(of(app="other", tenant="beta", instance_id="b"), uid["beta"])
    send({**REPORT, "origin": {"streaming_app_id": "work"}}, uid["acme"])  # need not say who it is; named by its process
    wait_top(platform, lambda r: r["reporting"] == 1)
    send(of(instance_id="c"), 65534)
    wait_top(platform, lambda r: r["foreign"] == r["taken"] == 1, tenant="beta", kind="reports")
    wait_top(platform, lambda r: r["foreign"] >= 1, tenant="", kind="reports")  # a connection that comes back
    assert top(platform, kind="reports") is None, "nothing was refused of acme"


def test_s09_tenfold_and_back_s12_nothing_is_lost(platform):
    configure(platform, WORK, 'app = "keep"; stream = "events"; exec = "builtin:load"; dataset = "data";',
              'app = "rare"; stream = "rare"; exec = "work.py"; drain_s = 1; scale = { window_s = 5; };', streams=("events", "rare"))
    worker(platform, "wait(0.1)")  # close to ten a second, wherever it runs: six take the load with some to spare
    platform.up()
    with Peer(platform.endpoint) as p:
        p.publish("acme/rare", [b"{}"])
    wait_top(platform, lambda r: r["instances"] == 1 and r["ready"] + r["leased"] == 0, "one for its message", app="rare")
    with Load(platform, 5.2) as load:
        wait_top(platform, lambda r: r["instances"] == 1 and r["acked_per_s"] > 3 and r["avg_ms"])
        one = until(lambda: top(platform)["p99_ms"] and top(platform), platform.path / "logs", what="times")
        assert 95 < one["avg_ms"] < 150 and one["p99_ms"] >= one["avg_ms"] * 0.9 and one["reporting"] == 1
        before = len(log(platform, "scale"))
        load.rate = 52
        wait_top(platform, lambda r: r["instances"] >= 5 and r["ready"] < 50 and r["oldest_age_s"] <= 1, "the load is taken")
        load.rate = 5.2
        wait_top(platform, lambda r: r["instances"] == r["desired"] == 1, "back to one")
    orders = [tuple(map(int, re.search(r"(\d+) -> (\d+)", r["msg"]).groups())) for r in log(platform, "scale")[before:] if "app work" in r["msg"]]
    ups, downs = [o for o in orders if o[1] > o[0]], [o for o in orders if o[1] < o[0]]
    assert len(ups) <= 3 and ups[-1][1] <= 8 and orders == ups + downs, f"no oscillation: {orders}"
    assert all(o[1] >= o[0] // 2 for o in downs), downs
    recorded = [d for d in decisions(platform) if d["app"] == "work"]
    assert any(d["desired"] > d["before"] and d["ingress_per_s"] > 20 and d["reason"] for d in recorded)
    wait_top(platform, lambda r: r["ready"] + r["leased"] == 0)
    until(lambda: platform.count() == load.sent, platform.path / "state", what="every message as a row")
    assert sorted(d["n"] for d in platform.docs()) == list(range(load.sent)), "scaled down under load, nothing lost, nothing twice"
    until(lambda: platform.queue("work")["acked"] == load.sent, platform.path / "state", what="every message worked at")
    assert platform.queue("work")["dead"] == 0
    wait_top(platform, lambda r: r["instances"] == r["desired"] == 0, "nothing came for long: none", app="rare")
    assert "work" in (platform.path / "logs/monitor.log").read_text() and re.search(r"\dZ OK +acme/work +in/s [\d.]+ ", (platform.path / "logs/monitor.log").read_text())


def test_s10_without_the_monitor_counts_hold(platform):
    configure(platform, WORK)
    worker(platform)
    platform.up()

    def counts():
        a = next(a for a in platform.rows("app", "list") if a["app"] == "work")
        return a["desired"], a["instances"], tuple(a["run_ids"])
    with Load(platform, 60):  # of 22 to 25 that one takes
        wait_top(platform, lambda r: r["instances"] == r["desired"] >= 3 and r["ready"] < 50)
        os.kill(platform.pids("monitor")[0], signal.SIGSTOP)  # partitioned
        held = until(lambda: (lambda c: c if c[0] == c[1] else None)(counts()), platform.path / "state", what="a count")
    # Nothing comes any more, and nobody says so.
    until(lambda: platform.queue("work")["ready"] + platform.queue("work")["leased"] == 0, platform.path / "state", what="an empty queue")
    assert counts() == held
    pid = platform.pids("monitor")[0]
    os.kill(pid, signal.SIGKILL)
    until(lambda: [p for p in platform.pids("monitor") if p != pid], platform.path / "logs", what="the next monitor")
    wait_top(platform, lambda r: r["instances"] is not None)
    assert counts() == held, "a new monitor does not begin with a step"
    push(endpoint(platform)["ipc"], *[b"garbage"] * 1000, *[of(seq=1, instance_id=f"i{k}", timeframe={"measurement_end_time": 5}) for k in range(100)])
    wait_top(platform, lambda r: r["stale"] == 100, kind="reports")
    assert counts()[2] == held[2] or counts()[0] < held[0], "if it changes then for want of messages"


def test_s11_an_instance_that_stands_still_is_silent(platform):
    configure(platform, 'app = "work"; stream = ""; exec = "work.py"; drain_s = 0; min_instances = 1; max_instances = 1;')
    (platform.path / "apps/acme/work.py").write_text("""#!/usr/bin/python3
import os, threading, time, zmq
s = zmq.Context.instance().socket(zmq.PUSH)
s.connect(os.environ["ZMQ_MONITOR_ENDPOINT"])
while True:
    s.send_json({"metrics": {"processing_rate": 30, "average_ingestion_time": 0.01}, "origin": {"streaming_app_id": os.environ["SIMBDP_APP"], "tenant_id": os.environ["SIMBDP_TENANT_ID"]}})
    threading.Event().wait(0.3)
""")
    (platform.path / "apps/acme/work.py").chmod(0o755)
    platform.up()
    r = wait_top(platform, lambda r: r["reporting"] == 1 and r["acked_per_s"] and r["acked_per_s"] > 20, "five lines of any ZeroMQ binding are enough")
    assert r["in_per_s"] is None and 9 < r["avg_ms"] < 11 and r["state"] == "OK"
    (run_id,) = next(a for a in platform.rows("app", "list") if a["app"] == "work")["run_ids"]
    for pid in platform.marked(run_id):
        if "work.py" in pathlib.Path(f"/proc/{pid}/cmdline").read_text():
            os.kill(pid, signal.SIGSTOP)
    r = wait_top(platform, lambda r: r["silent"] == 1, "it is missed")
    assert r["state"] == "WARN" and r["alerts"] == ["silence"] and r["acked_per_s"] is None, "missing is not zero"
    assert [a["runbook_url"] for a in platform.rows("alerts")] == ["file:///usr/share/doc/mysimbdp/runbook.md#silence"]
    assert any(x["event"] == "alert" and "silence" in x["msg"] for x in log(platform))
    platform.cli("stop", run_id)  # what does not run is not missed
    platform.cli("app", "start", "acme/work")
    wait_top(platform, lambda r: r["silent"] == 0 and r["reporting"] == 1 and r["state"] == "OK", "the next one")
    assert any(x["event"] == "alert_over" for x in log(platform))


def test_s13_growth_that_does_not_help_ends_and_says_so(platform):
    configure(platform, WORK)
    lock = platform.base / "one_at_a_time"
    lock.touch()
    lock.chmod(0o666)
    platform.base.chmod(0o755)
    worker(platform, f"f = open({str(lock)!r}, 'r+'); fcntl.flock(f, 2); wait(0.03); f.close()")  # as a database that takes 33 a second
    platform.up()
    with Load(platform, 20) as load:
        wait_top(platform, lambda r: r["acked_per_s"] > 15 and r["instances"] == 1)
        load.rate = 80
        wait_top(platform, lambda r: "something else is the bottleneck" in r["reason"] and r["desired"] < 8, "the bottleneck is named")
        assert any("bottleneck" in d["reason"] for d in decisions(platform))


def test_a_count_that_a_person_set_is_kept(platform):
    configure(platform, WORK)
    worker(platform)
    platform.up()
    with Load(platform, 60):
        wait_top(platform, lambda r: r["desired"] >= 3)
        platform.cli("app", "scale", "acme/work", "2")
        wait_top(platform, lambda r: r["instances"] == r["desired"] == 2 and "by command" in r["reason"])
        a = next(a for a in platform.rows("app", "list") if a["app"] == "work")
        assert a["pinned"] and a["desired"] == 2
        order = {"op": "scale", "tenant_id": "acme", "app": "work", "count": 4, "by": "monitor"}
        assert "set by command" in platform.control(order, "streammgr.sock")["error"]
        os.kill(platform.pids("streammgr")[0], signal.SIGKILL)
        until(lambda: '"pinned":true' in json.dumps(platform.rows("app", "list")).replace(" ", ""), platform.path / "state", what="it is in the book")
        platform.cli("app", "scale", "acme/work", "auto")
        wait_top(platform, lambda r: r["desired"] >= 3 and not r["reason"].startswith("set by"))


def overs(directory, name):
    return sum(json.loads(f.read_text())["state"] == "over" for f in directory.glob(f"{name}.*") if f.stat().st_size)


def test_alerts_are_logged_and_told(platform):
    out = platform.base / "told"
    out.mkdir()
    hook = platform.base / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {out}/$1.$$\n[ \"$1\" = fails ] && exit 3\nexit 0\n")
    hook.chmod(0o755)
    conf = platform.path / "conf/mysimbdp.conf"
    plain = conf.read_text()

    def alerts(*v):
        conf.write_text(plain.replace("platform = {", "platform = { alerts = ( " + ", ".join(v) + " );"))
    alerts(f'{{ name = "many"; when = "ready > 5 and app == \\"idle\\""; for_s = 1; command = "{hook} many"; runbook_url = "https://wiki.example.com/many"; }}',
           f'{{ name = "fails"; when = "ready > 5"; command = "{hook} fails"; }}', '{ name = "never"; when = "p99_ms > 5 or not p99_ms > 5"; }',
           '{ name = "gone"; when = "ready >= 0"; command = "/no/such/program"; }')
    configure(platform, 'app = "idle"; stream = "events";', 'app = "work"; stream = "events";')
    platform.up()
    wait_top(platform, lambda r: r["ready"] == 0, app="idle")
    with Peer(platform.endpoint) as p:
        p.publish(STREAM, [b"{}"] * 10)
        r = wait_top(platform, lambda r: "many" in r["alerts"], app="idle")
        assert r["state"] == "WARN" and "never" not in r["alerts"] and "silence" not in r["alerts"]
        told = until(lambda: [json.loads(f.read_text()) for f in out.glob("many.*") if f.stat().st_size], out, what="the command")
        assert told[0]["state"] == "firing" and told[0]["app"] == "idle" and told[0]["rows"][0]["ready"] == 10
        assert told[0]["runbook_url"] == "https://wiki.example.com/many"
        assert any("see https://wiki.example.com/many" in x["msg"] for x in log(platform, "alert"))
        assert {a["alert"]: a["runbook_url"] for a in platform.rows("alerts") if a["app"] == "idle"}.items() >= {"many": "https://wiki.example.com/many", "fails": None}.items()
        since = datetime.datetime.fromisoformat(told[0]["since"][:-1]), datetime.datetime.fromisoformat(told[0]["at"][:-1])
        assert 1 <= (since[1] - since[0]).total_seconds() < 5, "for_s"
        until(lambda: any("ended with exit code 3" in x["msg"] for x in log(platform)), platform.path / "logs", what="a command that fails")
        assert any("cannot run /no/such/program" in x["msg"] for x in log(platform))
        p.subscribe(STREAM, "idle")
        p.ack(p.take(10))
        until(lambda: overs(out, "many") == 1, out, what="its end")
    with Peer(platform.endpoint) as p:
        p.publish(STREAM, [b"{}"] * 10)
        wait_top(platform, lambda r: set(r["alerts"]) >= {"many", "fails"}, app="idle")
    alerts(f'{{ name = "many"; when = "ready > 5 and app == \\"idle\\""; for_s = 1; command = "{hook} many"; }}')
    fails = overs(out, "fails")
    platform.cli("reload")
    until(lambda: overs(out, "fails") > fails, out, what="the end of an alert that is not configured any more")
    assert overs(out, "many") == 1 and any("fails" in r["msg"] and "not configured" in r["msg"] for r in log(platform, "alert_over"))
    configure(platform, 'app = "work"; stream = "events";')
    platform.cli("reload")
    until(lambda: overs(out, "many") == 2, out, what="the end of what fired for an app that is gone")
    alerts('{ name = "many"; when = "ready >"; }')
    r = platform.cli("check", check=False)
    assert r.returncode == 1 and re.search(r"mysimbdp.conf:\d+: key 'alerts.when': .*missing at character", r.stderr), r.stderr
    for url in ("wiki/many", "file://host/many", "https://wiki/a b"):
        alerts(f'{{ name = "many"; when = "ready > 5"; runbook_url = "{url}"; }}')
        assert re.search(r"mysimbdp.conf:\d+: key 'alerts.runbook_url'", platform.cli("check", check=False).stderr), url
    alerts('{ name = "silence"; when = "silent > 3"; }')
    platform.cli("reload")
    wait_top(platform, lambda r: r["alerts"] == [], app="work")


def test_top_in_a_terminal(platform):
    configure(platform, WORK, 'app = "quiet"; stream = "events"; exec = "work.py"; max_instances = 1;')
    worker(platform)
    platform.up()
    platform.cli("app", "stop", "acme/quiet")
    wait_top(platform, lambda r: r["state"] == "STOPPED", app="quiet")
    socket = str(platform.base / "tmux")

    def tmux(*args):
        # Without SHELL, tmux asks the shell of the user's account to run the command, and that of nobody refuses.
        env = {**platform.env, "TERM": "xterm", "SHELL": "/bin/sh"}
        return subprocess.run(["tmux", "-S", socket, *args], env=env, capture_output=True, text=True, check=True).stdout
    tmux("-f", "/dev/null", "new-session", "-d", "-x", "200", "-y", "24", f"{BUILD}/mysimbdp top; read line")

    def screen(test, what):
        return until(lambda: (lambda s: s if test(s) else None)(tmux("capture-pane", "-p")), platform.base, what=lambda: what + ":\n" + tmux("capture-pane", "-p"))
    try:
        s = screen(lambda s: "acme/work" in s and "acme/quiet" in s and "STATE" in s, "the board")
        assert s.index("acme/work") < s.index("acme/quiet"), "what stands still comes last"
        tmux("send-keys", "i")
        screen(lambda s: "with issues" in s and "acme/work" not in s, "issues only")
        tmux("send-keys", "i", "s")
        screen(lambda s: "sorted by in_per_s" in s and "acme/work" in s, "another order")
        tmux("send-keys", "r")
        screen(lambda s: "reversed" in s, "reversed")
        tmux("resize-window", "-x", "80", "-y", "24")
        reason = next(r["reason"] for r in map(json.loads, platform.cli("top", "--once", "--json").stdout.splitlines()) if r.get("app") == "quiet")
        assert reason
        s = screen(lambda s: "acme/quiet" in s and "AVG ms" not in s and f": {reason}" in re.sub(r"\s+", " ", s), "the whole decision on 80 columns")
        assert all(len(line) <= 80 for line in s.splitlines())
        os.kill(platform.pids("monitor")[0], signal.SIGSTOP)
        tmux("send-keys", "j")
        os.kill(platform.pids("monitor")[0], signal.SIGCONT)
        tmux("send-keys", "q")
        screen(lambda s: "acme/work" not in s, "the end")
    finally:
        tmux("kill-server")
    assert platform.cli("top", check=False).returncode == 1, "no terminal"
    text = platform.cli("top", "--once", "--sort", "app").stdout
    assert text.index("acme/quiet") < text.index("acme/work") and "STOPPED" in text
    assert platform.cli("top", "--once", "--sort", "nonsense", check=False).returncode == 2
    platform.down()
    r = platform.cli("top", "--once", check=False)
    assert r.returncode == 1 and "is not running" in r.stderr


def test_advise_answers_each_line_at_once(platform):
    with subprocess.Popen([BUILD / "mysimbdp", "advise"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1) as p:
        def ask(**v):
            p.stdin.write((v.get("raw") or json.dumps({"now_s": 0, "ingress_per_s": 0, "ready": 0, "leased": 0, "acks_per_busy_s": 10, "instances": 1, "min": 1,
                                                       "max": 20, "report_age_s": 1, **v})) + "\n")
            return json.loads(p.stdout.readline())
        for t in range(30):
            last = ask(now_s=t, ingress_per_s=9, leased=1)
        assert last["desired"] == 1 and last["now_s"] == 29 and last["reason"]
        assert ask(now_s=30, ingress_per_s=90, ready=60, leased=1)["desired"] >= 9
        n = ask(now_s=31, ingress_per_s=90, ready=100, leased=1)["desired"]
        assert "no fresh" in ask(now_s=32, ingress_per_s=1, report_age_s=60)["reason"]
        assert ask(now_s=33, ingress_per_s=None)["desired"] == n
        assert (lambda bad: bad["line"] == 35 and bad["error"])(ask(raw="{nonsense"))
        assert ask(now_s=34, ingress_per_s=9000, ready=100000)["desired"] == 20
        p.stdin.close()
    assert p.returncode == 0


def test_reports_from_elsewhere_show_a_key(platform):
    public, secret = zmq.curve_keypair()
    conf = platform.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", 'platform = { listen = "127.0.0.1"; ports = { monitor = 0; };'))
    configure(platform, 'app = "work"; stream = "events";')
    tenant = platform.path / "conf/tenants/acme.conf"
    tenant.write_text(tenant.read_text() + f'curve_keys = ("{public.decode()}");\n')
    platform.up()
    e = endpoint(platform)
    assert e["tcp"].startswith("tcp://127.0.0.1:") and len(e["server_key"]) == 40
    other, hidden = zmq.curve_keypair()
    push(e["tcp"], of(instance_id="stranger"), curve_serverkey=e["server_key"].encode(), curve_publickey=other, curve_secretkey=hidden)
    push(e["tcp"], of(instance_id="far"), of(tenant="beta"), curve_serverkey=e["server_key"].encode(), curve_publickey=public, curve_secretkey=secret)
    wait_top(platform, lambda r: r["reporting"] == 1)
    wait_top(platform, lambda r: r["foreign"] == 1, kind="reports")
    platform.down()
    platform.up()
    assert endpoint(platform)["tcp"] == e["tcp"]  # what was chosen is kept
    port = e["tcp"].rsplit(":", 1)[1]
    platform.down()
    conf.write_text(conf.read_text().replace("monitor = 0;", f"monitor = {port};"))
    platform.up()
    assert endpoint(platform)["tcp"].endswith(":" + port)


def test_the_settings_of_an_app_bite(platform):
    """Two apps on the same stream, the same load: one is to be half as busy, one has a limit on time."""
    app = 'app = "%s"; stream = "events"; exec = "work.py"; drain_s = 0; max_instances = 6; scale = { %s };'
    configure(platform, app % ("usual", ""), app % ("half", "utilisation = 0.45;"), app % ("quick", "max_average_ingestion_ms = 20; drain_target_s = 77; min_processing_rate = 3.5;"))
    worker(platform)
    platform.up()
    with Load(platform, 30):
        wait_top(platform, lambda r: r["instances"] == 2 and r["ready"] < 30, app="usual")
        wait_top(platform, lambda r: r["instances"] >= 3, app="half")
        wait_top(platform, lambda r: any(d["app"] == "quick" and "max_average_ingestion_ms" in d["reason"] for d in decisions(platform)), app="quick")
    usual, quick = (next(d for d in decisions(platform) if d["app"] == name) for name in ("usual", "quick"))
    assert (usual["utilisation"], usual["drain_target_s"], usual["window_s"], usual["max_average_s"], usual["min_processing_per_s"]) == (0.95, 10, 8, None, None)
    assert (quick["drain_target_s"], quick["max_average_s"], quick["min_processing_per_s"]) == (77, 0.02, 3.5)


def test_the_window_is_how_long_a_need_is_remembered(platform):
    app = 'app = "%s"; stream = "events"; exec = "work.py"; drain_s = 0; min_instances = 1; max_instances = 6; scale = { %s };'
    configure(platform, app % ("short", "window_s = 5;"), app % ("long", "window_s = 60;"))
    worker(platform)
    platform.up()
    with Load(platform, 60) as load:
        for name in ("short", "long"):
            wait_top(platform, lambda r: r["instances"] >= 3 and r["ready"] < 50, app=name)
        load.rate = 5
        wait_top(platform, lambda r: r["desired"] == 1, app="short")
        assert top(platform, "long")["desired"] >= 3


def test_batch_who_waits_for_what(home):
    home.profiles(cpus=2)
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", "platform = { capacity = { cpus = 2.0; };"))
    home.tenant(exec_="misbehave")
    home.up()
    home.do("hang")
    home.wait_running()
    home.do("exit,0")
    r = wait_top(home, lambda r: r["queued"] == 1 and r["running"] == 1, kind="batch")
    assert r["waits_for"], r
    text = home.cli("top", "--once").stdout
    assert "WAITS FOR" in text and r["waits_for"] in text
    until(lambda: re.search(r"BATCH +acme +queued 1 .*waits for: ", (home.path / "logs/monitor.log").read_text()), home.path / "logs", what="the line")
    home.cli("stop", home.wait_running()[0]["run_id"])


BATCH = """#!/usr/bin/python3
import os, threading, time, zmq
monitor = zmq.Context.instance().socket(zmq.PUSH)
monitor.linger = 1000
monitor.connect(os.environ["ZMQ_MONITOR_ENDPOINT"])
began, done, wait = time.time(), 0, threading.Event().wait
for seq in range(1, 600):
    wait(0.1)
    done += 5
    monitor.send_json({"origin": {"streaming_app_id": os.environ["SIMBDP_APP"], "tenant_id": os.environ["SIMBDP_TENANT_ID"]}, "instance_id": os.environ["SIMBDP_INSTANCE_ID"], "seq": seq,
                       "error": "a line was odd" if seq == 3 else None, "timeframe": {"ingestion_start_time": began},
                       "counters": {"messages": done, "busy_s": done * 0.02}}, zmq.NOBLOCK)
"""


def test_what_batch_runs_report_is_shown(platform):
    home = platform
    home.tenant(exec_="job.py")
    path = home.path / "apps/acme/job.py"
    path.parent.mkdir(exist_ok=True)
    path.write_text(BATCH)
    path.chmod(0o755)
    home.up()
    home.do("anything")
    run = home.wait_running()[0]["run_id"]
    r = wait_top(home, lambda r: r["acked_per_s"] > 10 and r["errors"] == 1, kind="batch_app")
    assert r["reporting"] == 1 and 15 < r["avg_ms"] < 25 and r["error"] == "a line was odd", r
    text = home.cli("top", "--once").stdout
    assert re.search(r"acme/app +1 +[0-9.]+ +[0-9.]+ +[0-9.]+ +1  a line was odd", text), text
    until(lambda: re.search(r"BATCH +acme/app +runs that report 1  done/s", (home.path / "logs/monitor.log").read_text()), home.path / "logs", what="the line")
    home.cli("stop", run)
    until(lambda: not top(home, kind="batch_app"), home.path / "logs", timeout=30, what="forgotten")
    assert not log(home, "silent") and not log(home, "report_refused")
