"""Figures for Prometheus: by the gateway, and in a file for node_exporter's textfile collector; checked by Debian's promtool, and scraped by its
Prometheus, on which the rules of conf/prometheus and each query of conf/grafana are tried."""
import http.client
import json
import os
import pathlib
import re
import signal
import subprocess
import time
import urllib.parse

import pytest

from harness import BUILD, IS_ROOT, ROOT, free_port, until
from web import Site, settings

pytestmark = pytest.mark.anyone
PROMETHEUS = ROOT / "build/prometheus/usr/bin"
needs_prometheus = pytest.mark.skipif(not (PROMETHEUS / "promtool").exists(), reason="no clients of others: setup could not fetch Prometheus")
TENANT = """
database = "%s"; limits = { formats = ("csv"); };
datasets = ( { name = "data"; format = "csv"; collection = "data"; columns = ( { name = "v"; type = "int"; }, { name = "w"; } ); limits = { max_rejects = 5; }; },
  { name = "rows"; format = "json"; collection = "rows"; } );
batch = ( { app = "load"; exec = "builtin:load"; datasets = ("data"); } );
streams = ( { name = "events"; } );
stream_apps = ( { app = "store"; exec = "builtin:load"; stream = "events"; dataset = "rows"; }, { app = "own"; stream = "events"; } );
"""
# Columns of `top` that are numbers.
TOP = {"in_per_s": "in_messages_per_second", "acked_per_s": "acked_messages_per_second", "ready": "ready_messages", "leased": "leased_messages",
       "oldest_age_s": "oldest_message_age_seconds", "drain_s": "drain_seconds", "instances": "instances", "desired": "desired_instances",
       "avg_ms": "message_average_seconds", "p99_ms": "message_p99_seconds", "errors": "recent_errors", "reporting": "reporting_instances",
       "silent": "silent_instances", "report_age_s": "report_age_seconds", "restarts": "restarts_total", "dead": "dead_letters", "decision": "decided_instances"}
# Figures of `stats`: the same by a tenant's samples s(name, labels...), which adds them up.
STATS = {
    "files": lambda s: s("files"),
    "ingested": lambda s: s("files", state="ingested"),
    "rejected": lambda s: s("files", state="rejected"),
    "duplicate": lambda s: s("files", state="duplicate"),
    "quarantined": lambda s: s("files", state="quarantined"),
    "bytes": lambda s: s("ingested_bytes_total") + s("subscription_acked_bytes_total"),
    "rows": lambda s: s("loaded_rows_total") + s("subscription_rows_total"),
    "rows_rejected": lambda s: s("rejected_rows_total"),
    "rows_repaired": lambda s: s("repaired_rows_total"),
    "avg_ingestion_s": lambda s: s("file_ingestion_seconds_sum", state="ingested") / s("file_ingestion_seconds_count", state="ingested"),
    "bytes_per_s": lambda s: s("ingested_bytes_total") / s("file_ingestion_seconds_sum", state="ingested"),
    "messages": lambda s: s("stream_published_messages_total"),
    "messages_refused": lambda s: s("stream_refused_requests_total"),
    "messages_dead": lambda s: s("subscription_died_messages_total"),
    "run_s": lambda s: s("run_seconds_sum"),
}
# They go on while both are asked, or are of a histogram's shape alone.
MOVING = {"instance_s": "instance_seconds_total", "cpu_s": "run_cpu_seconds_total", "p50_s": "file_ingestion_seconds_bucket", "p95_s": "file_ingestion_seconds_bucket",
          "p99_s": "file_ingestion_seconds_bucket", "avg_message_ms": "subscription_ack_seconds_sum"}
SAMPLE = re.compile(r'([a-z_0-9]+)(?:\{(.*)\})? (\S+)')
LABEL = re.compile(r'([a-z_]+)="((?:[^"\\]|\\.)*)"')


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(), ready=False)
    for tenant in ("acme", "beta"):
        (s.home.path / f"conf/tenants/{tenant}.conf").write_text(TENANT % s.home.db_of[tenant])
    s.home.profiles(cpus=0.01, rlimits="nofile = 256;")
    s.up()
    for name, body in (("good.csv", b"v,w\n1,a\n2,b\nx,c\n"), ("bad.csv", b"v,w\n" + b"x,a\n" * 9), ("again.csv", b"v,w\n1,a\n2,b\nx,c\n")):
        s.wait(s.put(name, body).doc["file_id"])
    a = s.post("streams/events/messages", s.of(), body=b"".join(b'{"a":%d}\n' % i for i in range(20)), described=False, Content_Type="application/x-ndjson")
    assert a.status == 200, a
    until(lambda: s.get("streams/events").doc["apps"] and any(x["app"] == "store" and x["acknowledged"] == 20 for x in s.get("streams/events").doc["apps"]),
          s.home.path / "state", what="20 acknowledged")
    yield s
    s.cleanup()


def scrape(site, accept=None):
    a = site.ask("GET", "/metrics", site.of("operator", None), **({"Accept": accept} if accept else {}))
    assert a.status == 200, a
    return a.body.decode()


def samples(text):
    """(name without mysimbdp_, labels) -> value."""
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line.split(" # ")[0]).groups()
            key = name.removeprefix("mysimbdp_"), tuple(sorted(LABEL.findall(labels or "")))
            assert key not in found, f"{key} stands twice"
            found[key] = float(value)
    return found


def total(text, name, **labels):
    return sum(v for (n, of), v in samples(text).items() if n == name and labels.items() <= dict(of).items())


def names(text):
    return {n for n, _ in samples(text)}


def check(text):
    r = subprocess.run([PROMETHEUS / "promtool", "check", "metrics"], input=text, capture_output=True, text=True, timeout=60, check=False)
    assert (r.returncode, r.stdout + r.stderr) == (0, ""), r.stdout + r.stderr


def test_each_column_of_top(site):
    def fits():
        rows = [r for r in site.home.rows("top", "--once") if r["kind"] == "app"]
        text = scrape(site)
        known = {r["app"]: {c: v for c, v in r.items() if isinstance(v, (int, float)) and not isinstance(v, bool)} for r in rows if r["tenant_id"] == "acme"}
        assert {c for r in known.values() for c in r} <= set(TOP), "a column of top without a figure"
        return known and all(("app_" + TOP[c], (("app", app), ("tenant", "acme"))) in samples(text) or v == -1 for app, row in known.items() for c, v in row.items()) and known
    known = until(fits, site.home.path / "state", what="a scrape with what top shows")
    assert known["own"]["ready"] == 20
    text = scrape(site)
    assert total(text, "app_ready_messages", tenant="acme", app="own") == 20 and total(text, "app_state", tenant="acme", app="own") == 1
    assert total(text, "app_restarts_total", tenant="acme", app="store") == 0


def test_each_figure_of_stats(site):
    site.home.cli("reload")
    def both():
        (stats,) = [r for r in site.home.rows("stats") if r["tenant_id"] == "acme"]
        text = scrape(site)
        of = {k: f(lambda name, **labels: total(text, name, tenant="acme", **labels)) for k, f in STATS.items()}
        wrong = {k: (stats[k], v) for k, v in of.items() if abs(v - stats[k]) > 0.002 * max(1, v)}
        assert set(stats) - {"tenant_id"} <= set(STATS) | set(MOVING), "a figure of stats that has none for Prometheus"
        return not wrong and (stats, text), wrong
    seen = until(lambda: both()[0], site.home.path / "logs", site.home.path / "state", what=lambda: f"the same figures: {both()[1]}")
    stats, text = seen
    assert (stats["ingested"], stats["rejected"], stats["duplicate"], stats["rows"]) == (1, 1, 1, 22), stats
    assert set(MOVING.values()) - {"subscription_ack_seconds_sum"} <= names(text)
    assert total(text, "subscription_ack_seconds_count", tenant="acme", app="store") == 20
    assert total(text, "run_seconds_count", tenant="acme", outcome="ok") == 1
    assert total(text, "loaded_rows_total", tenant="acme", app="load") == 2 and total(text, "files", tenant="acme", app="load", state="ingested") == 1
    assert total(text, "file_ingestion_seconds_bucket", tenant="acme", state="ingested", le="+Inf") == 1


@needs_prometheus
def test_promtool_finds_nothing(site):
    check(scrape(site))


def test_openmetrics_with_exemplars(site):
    """A run of whose duration the histogram tells is named."""
    run = next(r["run_id"] for r in site.get("runs").doc["runs"] if r["outcome"] == "ok")
    text = until(lambda: (t := scrape(site, "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")) and run in t and t, site.home.path / "state", what="an exemplar")
    assert text.endswith("# EOF\n") and text.count("# EOF") == 1
    assert "# TYPE mysimbdp_http_requests counter\n" in text and "# UNIT mysimbdp_run_seconds seconds\n" in text
    (line,) = [x for x in text.splitlines() if run in x]
    assert re.fullmatch(r'mysimbdp_run_seconds_bucket\{tenant="acme",app="load",outcome="ok",le="[0-9.]+"\} 1 # \{run_id="%s"\} [0-9.e-]+ [0-9]{10}\.[0-9]{3}' % run, line), line
    assert " # {" not in scrape(site)


@pytest.mark.parametrize("program", ["broker", "monitor", "batchmgr", "streammgr"])
def test_a_program_that_hangs_has_no_part_and_holds_nobody_up(site, program):
    (pid,) = until(lambda: len(p := site.home.pids(f"/{program}")) == 1 and p, site.home.path / "logs", what=program)
    os.kill(pid, signal.SIGSTOP)
    try:
        c = http.client.HTTPConnection(site.host, site.port, timeout=60)
        c.request("GET", "/metrics", headers=site.login(site.of("operator", None)))
        asked = time.monotonic()
        assert site.ask("GET", "/healthz", None).status == 200
        assert time.monotonic() - asked < 0.9, "while the scrape waits for the program"
        text = c.getresponse().read().decode()
        c.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert total(text, "up", program=program) == 0 and total(text, "up") == 4, [x for x in text.splitlines() if "mysimbdp_up" in x]
    assert total(text, "files", tenant="acme") == 3
    gone = {"broker": "broker_peers", "monitor": "app_state", "batchmgr": "database_up", "streammgr": "parked_stream_apps"}
    assert {p for p, n in gone.items() if n not in names(text)} == {program}
    until(lambda: total(scrape(site), "up", program=program) == 1, site.home.path / "state", what="its part again")


# ---- without a gateway

@needs_prometheus
def test_a_file_for_the_textfile_collector(make_home):
    """Whole whenever it is read; made anew at the configured pace; a directory that is not there is told, and hinders nothing."""
    home = make_home()
    file = home.base / "collector/platform.prom"
    file.parent.mkdir()
    conf = home.path / "conf/mysimbdp.conf"
    text = conf.read_text()
    conf.write_text(text.replace("};\n", f'metrics = {{ textfile = "{file}"; interval_s = 1; }}; }};\n'))
    home.tenant("acme")
    home.up()
    until(file.exists, file.parent, what="the file")
    home.drop("a.csv", b"v\n1\n")
    home.wait_files(1)
    made = until(lambda: total(t := file.read_text(), "files", tenant="acme", state="ingested") == 1 and t, file.parent, what="the file that was ingested")
    check(made)
    assert total(made, "up") == 4 and "# EOF" not in made
    if IS_ROOT and pathlib.Path("/proc/pressure/memory").exists():
        assert 0 < total(made, "runs_waited_seconds_total", resource="cpu") < 60
    assert not (file.stat().st_mode & 0o022) and file.stat().st_mode & 0o004
    inode = file.stat().st_ino
    until(lambda: file.stat().st_ino != inode, file.parent, what="another one")
    conf.write_text(text.replace("};\n", 'metrics = { textfile = "/nowhere/at/all.prom"; interval_s = 1; }; };\n'))
    assert home.control({"op": "reload"}, "monitor.sock")["ok"]
    log = home.path / "logs/monitor.log"
    until(lambda: "/nowhere/at/all.prom" in log.read_text(), log.parent, what="why there is none")
    assert total(made, "up", program="monitor") == 1 and home.control({"op": "status"}, "monitor.sock")["ok"]


def test_a_textfile_that_the_collector_would_not_read(home):
    conf = home.path / "conf/mysimbdp.conf"
    text = conf.read_text()
    for path in ("relative.prom", "/var/lib/x.txt", "/var/lib/.prom"):
        conf.write_text(text.replace("};\n", f'metrics = {{ textfile = "{path}"; }}; }};\n'))
        r = home.cli("check", check=False)
        assert r.returncode and "metrics.textfile" in r.stdout + r.stderr, r


# ---- rules and the dashboard, on a Prometheus

@needs_prometheus
def test_rules_of_conf_prometheus():
    r = subprocess.run([PROMETHEUS / "promtool", "test", "rules", "tests.yml"], cwd=ROOT / "conf/prometheus", capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    tests, rules = ((ROOT / "conf/prometheus" / f"{n}.yml").read_text() for n in ("tests", "rules"))
    for name in re.findall(r"- (?:alert|record): (\S+)", rules):
        assert name in tests, f"{name} has no test"
    r = subprocess.run([PROMETHEUS / "promtool", "check", "config", "--syntax-only", "prometheus.yml"], cwd=ROOT / "conf/prometheus", capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode == 0, r.stdout + r.stderr


class Prometheus:
    """Debian's, which scrapes the site and has the rules."""

    def __init__(self, site, path):
        self.port = free_port()
        (path / "token").write_text(site.token(site.user("prometheus", "operator", None), "--verbs", "admin")[0])
        rules = ROOT / "conf/prometheus/rules.yml"
        (path / "prometheus.yml").write_text(f"""
global: {{scrape_interval: 1s, evaluation_interval: 1s}}
rule_files: [{rules}]
scrape_configs:
  - job_name: mysimbdp
    authorization: {{credentials_file: {path}/token}}
    static_configs: [{{targets: ["{site.host}:{site.port}"]}}]
""")
        self.log = open(path / "log", "w", encoding="utf-8")
        self.process = subprocess.Popen([PROMETHEUS / "prometheus", f"--config.file={path}/prometheus.yml", f"--storage.tsdb.path={path}/data", f"--web.listen-address=127.0.0.1:{self.port}",
                                         "--enable-feature=exemplar-storage"], stdout=self.log, stderr=self.log)

    def get(self, what, **params):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            c.request("GET", f"/api/v1/{what}?" + urllib.parse.urlencode(params))
            response = c.getresponse()
            text = response.read()
        except OSError:
            return None
        finally:
            c.close()
        if response.status == 503:  # it is starting
            return None
        answer = json.loads(text)
        assert answer["status"] == "success", (params, answer)
        return answer["data"]

    def query(self, expr):
        answer = self.get("query", query=expr)
        return answer and answer["result"]

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


@pytest.fixture(scope="module")
def prometheus(site, tmp_path_factory):
    path = tmp_path_factory.mktemp("prometheus")
    p = Prometheus(site, path)
    until(lambda: p.query("count_over_time(mysimbdp_up[1m]) > 3"), path, what=lambda: "three scrapes: " + (path / "log").read_text()[-2000:])
    yield p
    p.stop()


@needs_prometheus
def test_what_a_prometheus_scraped(site, prometheus):
    """It takes OpenMetrics with nothing to complain of, exemplars too."""
    (target,) = prometheus.get("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    assert {r["metric"]["program"] for r in prometheus.query("mysimbdp_up == 1")} == {"batchmgr", "streammgr", "broker", "monitor", "gateway"}
    now = time.time()
    found = until(lambda: prometheus.get("query_exemplars", query="mysimbdp_run_seconds_bucket", start=now - 86400, end=now + 600), site.home.path / "state", what="exemplars")
    runs = {r["run_id"] for r in site.get("runs").doc["runs"]}
    assert {x["labels"]["run_id"] for f in found for x in f["exemplars"] if f["seriesLabels"]["tenant"] == "acme"} <= runs
    firing = {a["labels"]["alertname"] for a in prometheus.get("alerts")["alerts"] if a["state"] == "firing"}
    assert firing == set(), firing
    for group in prometheus.get("rules")["groups"]:
        for rule in group["rules"]:
            assert rule["health"] == "ok", rule


def of_dashboard():
    dashboard = json.loads((ROOT / "conf/grafana/mysimbdp.json").read_text())
    return [(p["title"], t["expr"]) for p in dashboard["panels"] for t in p.get("targets", [])], dashboard


def test_the_dashboard_asks_for_what_there_is():
    queries, dashboard = of_dashboard()
    assert len(queries) > 30 and len({p["id"] for p in dashboard["panels"]}) == len(dashboard["panels"])
    declared = {v["name"] for v in dashboard["templating"]["list"]}
    for title, expr in queries:
        assert set(re.findall(r"\$(\w+)", expr)) - {"__rate_interval"} <= declared, (title, expr)


# What this site has none of; each other query has to find something.
NOTHING_THERE = {"Until nothing waits"}


@needs_prometheus
def test_each_query_of_the_dashboard(site, prometheus):
    def ask(expr):
        return prometheus.query(re.sub(r"\$(tenant|app)\b", ".*", expr.replace("$__rate_interval", "1m")))
    site.wait(site.put("scraped.csv", b"v,w\n7,x\n").doc["file_id"])  # rates need something that happens meanwhile
    empty = None

    def all_answer():
        nonlocal empty
        empty = [(title, expr) for title, expr in of_dashboard()[0] if not ask(expr) and title not in NOTHING_THERE]
        return not empty
    until(all_answer, site.home.path / "state", what=lambda: f"an answer to {empty}")
    for variable in (v for v in of_dashboard()[1]["templating"]["list"] if v["type"] == "query"):
        series, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
        assert any(r["metric"].get(label) for r in ask(series)), variable
