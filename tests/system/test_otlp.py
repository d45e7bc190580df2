"""Traces of files, sent to a collector that is a scripted HTTP server."""
import re

import pytest
from harness import until
from test_alerts import Receiver

pytestmark = pytest.mark.anyone


def spans(r):
    with r.lock:
        found = []
        for _, _, doc in r.calls[1:]:  # the first one was refused
            (resource,) = doc["resourceSpans"]
            assert {"key": "service.name", "value": {"stringValue": "mysimbdp"}} in resource["resource"]["attributes"]
            (scope,) = resource["scopeSpans"]
            found += scope["spans"]
        return found


def attributes(span):
    return {a["key"]: a["value"].get("stringValue", a["value"].get("intValue")) for a in span["attributes"]}


@pytest.fixture
def platform(home):
    home.plain = (home.path / "conf/mysimbdp.conf").read_text()
    return home


def settings(home, **otlp):
    text = " ".join(f'{key} = "{value}";' for key, value in otlp.items())
    (home.path / "conf/mysimbdp.conf").write_text(home.plain.replace("platform = {", f"platform = {{ otlp = {{ {text} }};", 1))


def test_a_file_is_a_trace(platform):
    with Receiver(503, 200) as r:
        settings(platform, url=r.url.split("/hooks")[0] + "/")
        platform.tenant("acme")
        platform.up()
        platform.drop("x.csv", "a,b\n1,2\n3,4\n")
        file = platform.wait_file()
        of_file = until(lambda: (lambda v: v if {"file", "inspect", "queue", "run"} <= {s["name"] for s in v} else None)(spans(r)), platform.path / "logs",
                        what=lambda: f"its spans: {[s['name'] for s in spans(r)]}")
        assert all(h["Content-Type"] == "application/json" for h, _, _ in r.calls) and r.calls[0][1] == r.calls[1][1], "what it was away for is sent again"
        by_name = {s["name"]: s for s in of_file}
        root = by_name["file"]
        assert len({s["traceId"] for s in of_file}) == 1 and re.fullmatch("[0-9a-f]{32}", root["traceId"]) and "parentSpanId" not in root
        for name, s in by_name.items():
            begin, end = int(s["startTimeUnixNano"]), int(s["endTimeUnixNano"])
            assert begin <= end and re.fullmatch("[0-9a-f]{16}", s["spanId"]) and s["kind"] == 1 and s["status"] == {"code": 1}, s
            assert name == "file" or s["parentSpanId"] == root["spanId"]
            assert int(root["startTimeUnixNano"]) - 10**9 <= begin and end <= int(root["endTimeUnixNano"]) + 10**9, "within the file's"
            assert attributes(s)["tenant_id"] == "acme" and attributes(s)["file_id"] == file["file_id"]
        assert attributes(root)["state"] == "ingested" and attributes(root)["rows_loaded"] == "2" and attributes(by_name["run"])["run_id"]
        assert int(by_name["inspect"]["endTimeUnixNano"]) <= int(by_name["queue"]["endTimeUnixNano"])
        # Another file is another trace; one that is refused says so. The journal is begun anew meanwhile.
        journal = platform.path / "logs/tenants/acme/events.batch.jsonl"
        journal.rename(journal.with_name(journal.name + ".1"))
        platform.drop("y.json", "[1,")
        (bad,) = until(lambda: [s for s in spans(r) if s["name"] == "file" and s["traceId"] != root["traceId"]], platform.path / "logs", what="another trace")
        assert bad["status"]["code"] == 2 and bad["status"]["message"] and attributes(bad)["reason"]
        assert sum(s["name"] == "file" for s in spans(r)) == 2, "each once"
        # Without a collector there is no program for it.
        settings(platform, url="")
        platform.cli("reload")
        n = len(r.calls)
        platform.drop("z.csv", "a,b\n5,6\n")
        until(lambda: len(platform.rows("files")) == 3 and all(f["state"] in ("ingested", "rejected", "quarantined") for f in platform.rows("files")), platform.path / "logs", what="a file")
        assert len(r.calls) == n
    for bad, key in (({"url": "collector:4318"}, "otlp.url"), ({"url": "http://a/", "ca_file": "x"}, "otlp.ca_file")):
        settings(platform, **bad)
        res = platform.cli("check", check=False)
        assert res.returncode == 1 and f"key '{key}'" in res.stderr, res.stderr
