"""What is exported to a collector of OpenTelemetry's: traces of files, figures, the log; and what becomes of it when the collector, or who
exports, is away."""
import json
import os
import re
import signal
import sqlite3
import ssl
import subprocess

import pytest

from collector import DEFINITIONS, Collector, attributes
from harness import IS_ROOT, until

pytestmark = pytest.mark.anyone

TRACE_ID, SPAN_ID = re.compile("[0-9a-f]{32}"), re.compile("[0-9a-f]{16}")


@pytest.fixture
def platform(home):
    home.plain = (home.path / "conf/mysimbdp.conf").read_text()
    home.tenant("acme")
    return home


def settings(home, url, **otlp):
    text = f'url = "{url}"; ' + " ".join(f"{key} = {json.dumps(value)};" for key, value in otlp.items())
    (home.path / "conf/mysimbdp.conf").write_text(home.plain.replace("platform = {", f"platform = {{ otlp = {{ {text} }};", 1))


def of_file(c, home, file_id, *names):
    """Its spans by name, once those are there."""
    def look():
        spans = {s["name"]: s for s in c.spans() if attributes(s).get("file_id") == file_id}
        return spans if set(names) <= set(spans) else None
    return until(look, home.path / "logs", what=lambda: f"spans of {file_id}: {[s['name'] for s in c.spans()]}")


def exported(home):
    """What `status` tells, by signal."""
    return {s["signal"]: s for s in home.control({"op": "status"}, "monitor.sock").get("otlp", [])}


def wait_exported(home, which, test, what):
    def look():
        s = exported(home).get(which)
        return s if s and test(s) else None
    return until(look, home.path / "logs", what=lambda: f"{what}: {exported(home)}")


def kept(home):
    """How far journals were told."""
    try:
        return json.loads((home.path / "state/otlp.json").read_text())
    except FileNotFoundError:
        return {}


def settled(home, signal_="traces"):
    """All that happened is told, and that is kept."""
    def look():
        journal = home.path / "logs/tenants/acme/events.batch.jsonl"
        at = kept(home).get(signal_, {}).get("logs/tenants/acme/events.batch.jsonl", {})
        return at.get("ino") == journal.stat().st_ino and at.get("at") == journal.stat().st_size
    until(look, home.path / "state", what=lambda: f"places: {kept(home)}")


def test_the_definitions_are_there():
    if not DEFINITIONS:
        pytest.skip("no clients of others: build/otlp is not there (scripts/setup --asan)")
    with pytest.raises(AssertionError, match="official definitions"), Collector() as c:
        c.wrong.append(("x", {}))


# ---- traces

def test_a_file_is_a_trace(platform):
    with Collector(503, 200) as c:
        settings(platform, c.url + "/")
        platform.up()
        platform.drop("x.csv", "a,b\n1,2\n3,4\n")
        file = platform.wait_file()
        by_name = of_file(c, platform, file["file_id"], "file", "inspect", "queue", "run")
        assert c.calls[0][2] == c.calls[1][2], "what it was away for is sent again"
        root = by_name["file"]
        assert len({s["traceId"] for s in by_name.values()}) == 1 and TRACE_ID.fullmatch(root["traceId"]) and "parentSpanId" not in root
        for name, s in by_name.items():
            begin, end = int(s["startTimeUnixNano"]), int(s["endTimeUnixNano"])
            assert begin <= end and SPAN_ID.fullmatch(s["spanId"]) and s["kind"] == 1 and s["status"] == {"code": 1}, s
            assert name == "file" or s["parentSpanId"] == root["spanId"]
            assert int(root["startTimeUnixNano"]) - 10**9 <= begin and end <= int(root["endTimeUnixNano"]) + 10**9, "within the file's"
            assert attributes(s)["tenant_id"] == "acme" and attributes(s)["file_id"] == file["file_id"]
        assert attributes(root)["state"] == "ingested" and attributes(root)["rows_loaded"] == 2 and attributes(by_name["run"])["run_id"]
        assert attributes(root)["file.name"] == "x.csv" and attributes(root)["file.size"] == 12 and attributes(by_name["run"])["process.exit.code"] == 0
        assert int(by_name["inspect"]["endTimeUnixNano"]) <= int(by_name["queue"]["endTimeUnixNano"])
        # Another file is another trace; one that is refused says so. The journal is begun anew meanwhile.
        journal = platform.path / "logs/tenants/acme/events.batch.jsonl"
        journal.rename(journal.with_name(journal.name + ".1"))
        platform.drop("y.json", "[1,")
        (bad,) = until(lambda: [s for s in c.spans(name="file") if s["traceId"] != root["traceId"]], platform.path / "logs", what="another trace")
        assert bad["status"]["code"] == 2 and bad["status"]["message"] and attributes(bad)["reason"] == attributes(bad)["error.type"]
        assert len(c.spans(name="file")) == 2, "each once"
        # Without a collector there is no program for it.
        settings(platform, "")
        platform.cli("reload")
        n = len(c.calls)
        platform.drop("z.csv", "a,b\n5,6\n")
        platform.wait_files(3)
        assert len(c.calls) == n and exported(platform) == {} and not (platform.path / "state/otlp.json").exists() or kept(platform) == {"v": 1}
    for bad, key in (({"url": "collector:4318"}, "otlp.url"), ({"url": "http://a/", "ca_file": "x"}, "otlp.ca_file"), ({"url": "http://a/", "headers_file": "x"}, "otlp.headers_file")):
        settings(platform, **bad)
        res = platform.cli("check", check=False)
        assert res.returncode == 1 and f"key '{key}'" in res.stderr, res.stderr


def test_a_load_is_a_step_of_its_own(platform):
    platform.tenant("acme", exec_="lines.sh", batch='output = "stdout";')
    path = platform.path / "apps/acme/lines.sh"
    path.write_text('#!/bin/sh\necho "v"\necho 1\n')
    path.chmod(0o755)
    with Collector() as c:
        settings(platform, c.url)
        platform.up()
        platform.drop("x.csv", "a\n1\n")
        file = platform.wait_file()
        spans = of_file(c, platform, file["file_id"], "file", "run", "load")
        assert file["state"] == "ingested" and spans["run"]["parentSpanId"] == spans["load"]["parentSpanId"] == spans["file"]["spanId"]
        assert spans["run"]["spanId"] != spans["load"]["spanId"] and int(spans["run"]["endTimeUnixNano"]) == int(spans["load"]["startTimeUnixNano"])


def test_what_ends_while_nobody_exports_is_told_once(platform):
    with Collector() as c:
        settings(platform, c.url)
        platform.up()
        platform.drop("a.csv", "v\n1\n")
        first = platform.wait_file(file_name="a.csv")["file_id"]
        of_file(c, platform, first, "file", "run")
        settled(platform)
        # The monitor is gone, and is not started again for now.
        platform.up_process.send_signal(signal.SIGSTOP)
        platform.kill("monitor")
        until(lambda: not platform.pids("simbdp-webhook"), platform.path / "logs", what="the end of who sends")
        platform.drop("b.csv", "v\n2\n")
        second = platform.wait_file(file_name="b.csv")["file_id"]
        platform.up_process.send_signal(signal.SIGCONT)
        of_file(c, platform, second, "file", "inspect", "queue", "run")
        settled(platform)
        # Another `up`, and the journal was renamed meanwhile.
        platform.down()
        journal = platform.path / "logs/tenants/acme/events.batch.jsonl"
        journal.rename(journal.with_name(journal.name + ".1"))
        platform.up()
        platform.drop("c.csv", "v\n3\n")
        third = platform.wait_file(file_name="c.csv")["file_id"]
        of_file(c, platform, third, "file", "run")
        settled(platform)
        # The home as it was restored: the journal is another file, and what it has was told.
        platform.down()
        text = journal.read_text()
        for name in (journal, journal.with_name(journal.name + ".1")):
            copy = name.with_name("copy")
            copy.write_text(name.read_text())
            copy.chmod(0o640)
            name.unlink()
            copy.rename(name)
        platform.up()
        platform.drop("d.csv", "v\n4\n")
        of_file(c, platform, platform.wait_file(file_name="d.csv")["file_id"], "file", "run")
        assert text and sorted(attributes(s)["file.name"] for s in c.spans(name="file")) == ["a.csv", "b.csv", "c.csv", "d.csv"], "none twice"
        assert len({s["spanId"] for s in c.spans()}) == len(c.spans())


def test_who_never_exported_begins_now_and_what_is_too_old_is_counted(platform):
    with Collector() as c:
        platform.up()
        platform.drop("before.csv", "v\n1\n")
        platform.wait_file(file_name="before.csv")
        settings(platform, c.url)
        platform.cli("reload")
        wait_exported(platform, "traces", lambda s: kept(platform).get("traces"), "it begins")
        platform.drop("now.csv", "v\n2\n")
        of_file(c, platform, platform.wait_file(file_name="now.csv")["file_id"], "file")
        assert [attributes(s)["file.name"] for s in c.spans(name="file")] == ["now.csv"]
        settled(platform)
        journal = platform.path / "logs/tenants/acme/events.batch.jsonl"
        old = [line for line in journal.read_text().splitlines() if '"file.verdict"' in line][0]
        with journal.open("a") as f:
            f.write(re.sub(r'"ts":"\d{4}', '"ts":"2001', old) + "\n")
            f.write("no event\n")
        assert wait_exported(platform, "traces", lambda s: s["dropped"] == 1, "the old one is counted")["error"] is None
        assert len(c.spans(name="file")) == 1


# ---- metrics

def points(metric):
    (kind,) = {"gauge", "sum", "histogram"} & set(metric)
    return kind, metric[kind]["dataPoints"]


def test_figures_are_exported_as_metrics(make_home):
    home = make_home(platform='http = { listen = "127.0.0.1"; tls = false; };')
    home.plain = (home.path / "conf/mysimbdp.conf").read_text()
    home.tenant("acme")
    with Collector() as c:
        settings(home, c.url, metrics=True, interval_s=1)
        home.up()
        home.drop("x.csv", "v\n1\n2\n")
        home.drop("bad.json", "[1,")
        home.wait_files(2)

        def has(name, **labels):
            return [(m, kind, p) for m in c.metrics() for kind, ps in [points(m)] for p in ps if m["name"] == name and attributes(p) == labels]
        until(lambda: len(has("mysimbdp_loaded_rows", tenant="acme", app="app")) > 1 and has("mysimbdp_files", tenant="acme", app="app", state="ingested"), home.path / "logs",
              what=lambda: f"rows: {sorted({m['name'] for m in c.metrics()})}")
        m, kind, _ = has("mysimbdp_loaded_rows", tenant="acme", app="app")[-1]
        assert kind == "sum" and m["sum"]["aggregationTemporality"] == 2 and m["sum"]["isMonotonic"] and m["description"] == "Rows that were loaded of files."
        (start,) = {p["startTimeUnixNano"] for _, _, p in has("mysimbdp_loaded_rows", tenant="acme", app="app")}
        times = [int(p["timeUnixNano"]) for _, _, p in has("mysimbdp_loaded_rows", tenant="acme", app="app")]
        assert times == sorted(times) and int(start) <= times[0] and has("mysimbdp_loaded_rows", tenant="acme", app="app")[-1][2]["asDouble"] == 2
        m, kind, p = has("mysimbdp_ingested_bytes", tenant="acme", app="app")[-1]
        assert m["unit"] == "By" and p["asDouble"] == 6
        m, kind, p = has("mysimbdp_file_ingestion_seconds", tenant="acme", app="app", state="ingested")[-1]
        assert kind == "histogram" and m["unit"] == "s" and m["histogram"]["aggregationTemporality"] == 2
        assert p["count"] == "1" == str(sum(map(int, p["bucketCounts"]))) and len(p["bucketCounts"]) == len(p["explicitBounds"]) + 1
        assert p["exemplars"][0]["filteredAttributes"] == [{"key": "file_id", "value": {"stringValue": home.files(file_name="x.csv")[0]["file_id"]}}]
        m, kind, p = has("mysimbdp_up", program="broker")[-1]
        assert kind == "gauge" and p["asDouble"] == 1 and "startTimeUnixNano" not in p and "unit" not in m
        # The same that is scraped.
        home.cli("user", "add", "prometheus", "--role", "operator", input="correct horse battery\n")
        (token,) = home.rows("token", "add", "prometheus", "--verbs", "admin")
        url = json.loads((home.path / "state/endpoints.json").read_text())["gateway"]["http"]
        wanted = {"mysimbdp_files", "mysimbdp_http_requests", "mysimbdp_otlp_sent", "mysimbdp_run_seconds"}

        def scrape():
            text = subprocess.run(["curl", "-sSf", "-H", f"Authorization: Bearer {token['token']}", "-H", "Accept: application/openmetrics-text", url + "/metrics"], capture_output=True, text=True, check=True).stdout
            families = set(re.findall(r"^# TYPE (\S+) ", text, re.M))
            return (text, families) if wanted <= families else None
        text, families = until(scrape, home.path / "logs", what="all figures")
        until(lambda: families <= {m["name"] for m in c.metrics()}, home.path / "logs", what=lambda: f"{families - {m['name'] for m in c.metrics()}}")
        assert 'mysimbdp_otlp_sent_total{signal="metrics"}' in text and 'mysimbdp_otlp_up{signal="traces"} 1' in text
        assert exported(home)["metrics"]["dropped"] == 0 and set(exported(home)) == {"traces", "metrics"}
        out = home.cli("status").stdout
        assert re.search(r"^otlp: +metrics, \d+ sent, 0 rejected, 0 dropped, \d+ wait$", out, re.M), out


# ---- logs

def test_the_log_is_exported_with_the_runs_trace(platform):
    platform.tenant("acme", exec_="fail.sh", retry="attempts = 1; backoff_ms = 20; max_backoff_ms = 100;")
    path = platform.path / "apps/acme/fail.sh"
    path.write_text("#!/bin/sh\nexit 3\n")
    path.chmod(0o755)
    with Collector() as c:
        settings(platform, c.url, logs=True)
        platform.up()
        (platform.path / "logs/other.log").write_text("no JSON\n")
        platform.drop("x.csv", "v\n1\n")
        file = platform.wait_file()
        spans = of_file(c, platform, file["file_id"], "file", "run")
        run = attributes(spans["run"])
        assert spans["run"]["status"] == {"code": 2, "message": spans["run"]["status"]["message"]} and run["error.type"] == "failed" and run["process.exit.code"] == 3
        lines = [json.loads(line) for line in (platform.path / "logs/batchmgr.log").read_text().splitlines()]
        told = until(lambda: (lambda v: v if len(v) >= len([e for e in lines if e["event"] != "ready"]) - 5 and any(attributes(r).get("run_id") for r in v) else None)
                     ([r for r in c.logs() if attributes(r).get("program") == "batchmgr"]), platform.path / "logs", what=lambda: f"the log: {c.logs()}")
        for r in told:
            assert r["severityNumber"] == {"DEBUG": 5, "INFO": 9, "WARN": 13, "ERROR": 17}[r["severityText"]] and int(r["timeUnixNano"]) > 10**18
            (line,) = [e for e in lines if e["msg"] == r["body"]["stringValue"] and e["event"] == r["eventName"]][:1]
            assert line["level"].upper() == r["severityText"] and attributes(r).get("tenant_id") == line.get("tenant") and attributes(r).get("run_id") == line.get("run")
        (of_run, *_) = [r for r in told if attributes(r).get("run_id") == run["run_id"]]
        assert (of_run["traceId"], of_run["spanId"]) == (spans["run"]["traceId"], spans["run"]["spanId"])
        assert all("traceId" not in r for r in c.logs() if "run_id" not in attributes(r))
        assert not [r for r in c.logs() if r["body"]["stringValue"] == "no JSON"]


# ---- when something is wrong

def test_a_collector_that_is_away_holds_nothing_up(platform):
    with Collector() as c:
        port = c.port
    settings(platform, f"http://127.0.0.1:{port}", logs=True, metrics=True, interval_s=1)
    platform.up()
    platform.drop("x.csv", "v\n1\n")
    file = platform.wait_file()
    assert file["state"] == "ingested"
    away = wait_exported(platform, "traces", lambda s: s["error"] and s["waiting"] >= 4, "it is away")
    assert away["sent"] == away["dropped"] == 0
    assert "otlp:     traces, 0 sent, 0 rejected, 0 dropped" in platform.cli("status").stdout
    with Collector(port=port) as c:
        assert of_file(c, platform, file["file_id"], "file")["file"]["status"] == {"code": 1}
        wait_exported(platform, "traces", lambda s: not s["error"] and s["waiting"] == 0 and s["sent"] >= 4, "it is back")


def test_what_a_collector_refuses_or_wants_later(platform):
    partial = (200, {}, {"partialSuccess": {"rejectedSpans": "2", "errorMessage": "too much"}})
    with Collector((429, {"Retry-After": "1"}, {}), partial, (400, {}, {"code": 3, "message": "bad"}), 500, 200) as c:
        settings(platform, c.url)
        platform.up()
        platform.drop("a.csv", "v\n1\n")
        platform.wait_file(file_name="a.csv")
        s = wait_exported(platform, "traces", lambda s: s["rejected"] == 2 and s["waiting"] == 0, "two were rejected")
        assert [call[3] for call in c.calls[:2]] == [429, 200] and c.calls[0][2] == c.calls[1][2], "the same again, when it says so"
        n = s["sent"]
        while len(c.calls) < 4:  # a refusal (400) and what may not be repeated (500) lose what they had
            name = f"lost{len(c.calls)}.csv"
            platform.drop(name, f"v\n{len(c.calls)}\n")
            platform.wait_file(file_name=name)
            wait_exported(platform, "traces", lambda s: s["waiting"] == 0 and s["sent"] + s["dropped"] > n, "told or dropped")
        wait_exported(platform, "traces", lambda s: s["dropped"] > 0 and s["waiting"] == 0, "dropped")
        assert len([call for call in c.calls if call[3] in (400, 500)]) == 2 and len({json.dumps(call[2]) for call in c.calls[1:]}) == len(c.calls) - 1, "none is repeated"
        log = (platform.path / "logs/monitor.log").read_text()
        assert "did not take 2 traces, which are not repeated: too much" in log and "refuses a call" in log


def test_who_it_is_and_what_it_is_shown(platform):
    key, certificate, headers = (platform.base / n for n in ("key.pem", "cert.pem", "headers"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", certificate, "-days", "2", "-subj", "/CN=127.0.0.1",
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    headers.write_text("Authorization: Bearer s3cret\r\nX-Scope-OrgID: ops\n\n")
    headers.chmod(0o600)
    with Collector(tls=tls) as c:
        settings(platform, c.url, ca_file=str(certificate), headers_file=str(headers), gzip=True)
        platform.up()
        platform.drop("x.csv", "v\n1\n")
        file = platform.wait_file()
        of_file(c, platform, file["file_id"], "file")
        got = [h for h, _ in c.taken("traces")]
        assert all(h["Authorization"] == "Bearer s3cret" and h["X-Scope-OrgID"] == "ops" and h["Content-Type"] == "application/json" for h in got)
        assert any(h["Content-Encoding"] == "gzip" for h in got) and not any(k.startswith("Mysimbdp") for h in got for k in h)
        for text, mode, why in (("Authorization: Bearer s3cret\n", 0o604, "may be read by everybody"), ("Content-Length: 1\n", 0o600, "headers:1: it is no header field"),
                                ("A: 1\nno field\n", 0o600, "headers:2: it is no header field")):
            headers.write_text(text)
            headers.chmod(mode)
            platform.cli("reload")
            s = wait_exported(platform, "traces", lambda s, why=why: why in (s["error"] or ""), "why it is not")
            assert "s3cret" not in json.dumps(s)
        headers.chmod(0o600)
        headers.write_text("Authorization: Bearer other\n")
        platform.cli("reload")
        platform.drop("y.csv", "v\n2\n")
        of_file(c, platform, platform.wait_file(file_name="y.csv")["file_id"], "file")
        assert c.taken("traces")[-1][0]["Authorization"] == "Bearer other" and exported(platform)["traces"]["error"] is None
        # Whom nobody vouches for is told nothing.
        settings(platform, c.url)
        platform.cli("reload")
        n = len(c.calls)
        platform.drop("z.csv", "v\n3\n")
        platform.wait_file(file_name="z.csv")
        assert "certificate" in wait_exported(platform, "traces", lambda s: s["error"] and s["waiting"], "who it is")["error"].lower() and len(c.calls) == n
    for path in (platform.path / "logs").glob("*.log*"):
        assert "s3cret" not in path.read_text()


def test_who_sends_is_nobody_and_is_started_again(platform):
    with Collector() as c:
        settings(platform, c.url)
        platform.up()
        (sender,) = until(lambda: platform.pids("simbdp-webhook"), platform.path / "logs", what="who sends")
        if IS_ROOT:
            status = open(f"/proc/{sender}/status", encoding="utf-8").read()
            base = json.loads((platform.path / "state/uids.json").read_text())["uid_base"]
            assert re.search(r"^Uid:\s+(\d+)", status, re.M)[1] == str(base + 61440 + 10) and re.search(r"^CapEff:\s+0+$", status, re.M)
        os.kill(sender, signal.SIGKILL)
        platform.drop("x.csv", "v\n1\n")
        file = platform.wait_file()
        of_file(c, platform, file["file_id"], "file")
        assert platform.pids("simbdp-webhook") != [sender]
        with sqlite3.connect(platform.path / "state/ledger.db") as db:
            assert db.execute("SELECT trace FROM files").fetchall() == [(None,)]
