"""What is exported, to a collector of OpenTelemetry's own (tests/collector, built by `scripts/setup --collector`): it takes all of it, and writes
what it understood into a file."""
import json
import subprocess

import pytest

from collector import attributes
from harness import ROOT, free_port, until

pytestmark = pytest.mark.anyone

PROGRAM = ROOT / "build/collector/collector"
SETTINGS = """
receivers: {otlp: {protocols: {http: {endpoint: "127.0.0.1:%(port)d"}}}}
exporters: {file: {path: "%(out)s", flush_interval: 200ms}}
service:
  telemetry: {metrics: {level: none}}
  pipelines:
    traces: {receivers: [otlp], exporters: [file]}
    metrics: {receivers: [otlp], exporters: [file]}
    logs: {receivers: [otlp], exporters: [file]}
"""


@pytest.fixture
def collector(tmp_path):
    """Its port, and what it took so far."""
    if not PROGRAM.exists():
        pytest.skip("no clients of others: build/collector is not there (scripts/setup --collector)")
    port, out, settings = free_port(), tmp_path / "out.jsonl", tmp_path / "collector.yaml"
    settings.write_text(SETTINGS % {"port": port, "out": out})
    with (tmp_path / "log").open("w") as log:
        p = subprocess.Popen([PROGRAM, "--config", str(settings)], stdout=log, stderr=log)

    def documents():
        lines = out.read_text().splitlines(keepends=True) if out.exists() else []
        return [json.loads(line) for line in lines if line.endswith("\n")]
    until(lambda: "Everything is ready" in (tmp_path / "log").read_text(), tmp_path, what=lambda: (tmp_path / "log").read_text())
    yield port, documents
    p.terminate()
    assert p.wait(30) == 0
    assert "error" not in (tmp_path / "log").read_text().lower(), (tmp_path / "log").read_text()


def items(documents, outer, inner, name):
    return [item for doc in documents for r in doc.get(outer, []) for s in r[inner] for item in s[name]]


def test_a_collector_takes_all(home, collector):
    port, documents = collector
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", f'platform = {{ otlp = {{ url = "http://127.0.0.1:{port}"; metrics = true; logs = true; interval_s = 1; gzip = true; }};', 1))
    home.tenant("acme")
    home.up()
    home.drop("x.csv", "v\n1\n2\n")
    home.drop("bad.json", "[1,")
    home.wait_files(2)
    file = home.files(file_name="x.csv")[0]

    def spans():
        return items(documents(), "resourceSpans", "scopeSpans", "spans")

    def metrics():
        return {m["name"]: m for m in items(documents(), "resourceMetrics", "scopeMetrics", "metrics")}

    def logs():
        return items(documents(), "resourceLogs", "scopeLogs", "logRecords")
    until(lambda: {"file", "inspect", "queue", "run"} <= {s["name"] for s in spans() if attributes(s).get("file_id") == file["file_id"]}, home.path / "logs", what=lambda: f"spans: {spans()}")
    until(lambda: "mysimbdp_file_ingestion_seconds" in metrics() and "mysimbdp_loaded_rows" in metrics(), home.path / "logs", what=lambda: f"metrics: {sorted(metrics())}")
    until(lambda: any(attributes(r).get("program") == "batchmgr" for r in logs()), home.path / "logs", what=lambda: f"logs: {logs()}")
    (root,) = [s for s in spans() if s["name"] == "file" and attributes(s)["file_id"] == file["file_id"]]
    assert len(root["traceId"]) == 32 and attributes(root)["rows_loaded"] == 2 and root["status"] == {"code": 1}
    m = metrics()["mysimbdp_file_ingestion_seconds"]["histogram"]
    assert m["aggregationTemporality"] == 2 and all(int(p["count"]) == sum(map(int, p["bucketCounts"])) for p in m["dataPoints"])
    assert metrics()["mysimbdp_loaded_rows"]["sum"]["isMonotonic"] and {r["severityText"] for r in logs()} <= {"DEBUG", "INFO", "WARN", "ERROR"}

    def told():
        return {s["signal"]: s for s in home.control({"op": "status"}, "monitor.sock")["otlp"]}
    until(lambda: all(s["sent"] > 0 for s in told().values()), home.path / "logs", what=lambda: f"what was sent: {told()}")
    assert set(told()) == {"traces", "metrics", "logs"} and all(s["rejected"] == s["dropped"] == 0 and s["error"] is None for s in told().values()), told()
