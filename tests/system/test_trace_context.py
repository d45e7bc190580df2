"""traceparent from uploads to apps (W3C Trace Context): a file's trace is a part of its sender's, and an app's own spans are of it."""
import base64
import json

import pytest

from collector import Collector, attributes
from harness import until
from web import Site, settings

pytestmark = pytest.mark.anyone

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
# What docs/tenant-guide.md tells of: an app that makes a span of its own, below the run's, and sends it to a collector.
APP = """#!/usr/bin/python3
import json, os, secrets, sys, time, urllib.request
version, trace, parent, flags = os.environ["TRACEPARENT"].split("-")
begin = time.time_ns()
rows = len(open(os.environ["SIMBDP_INPUT_DIR"] + "/" + os.listdir(os.environ["SIMBDP_INPUT_DIR"])[0]).readlines()) - 1
span = {"traceId": trace, "spanId": secrets.token_hex(8), "parentSpanId": parent, "name": "count rows", "kind": 1, "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(time.time_ns()), "attributes": [{"key": "tracestate", "value": {"stringValue": os.environ.get("TRACESTATE", "")}}]}
resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "mysimbdp"}}, {"key": "service.version", "value": {"stringValue": "app"}}]}
doc = {"resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": {"name": "app"}, "spans": [span]}]}]}
if flags == "01":
    urllib.request.urlopen(urllib.request.Request("%s/v1/traces", json.dumps(doc).encode(), {"Content-Type": "application/json"}), timeout=20)
json.dump({"rows_parsed": rows}, open(os.environ["SIMBDP_RESULT_FILE"], "w"))
"""


@pytest.fixture(scope="module")
def collector():
    with Collector() as c:
        yield c


@pytest.fixture(scope="module")
def site(mongo, collector):
    s = Site(mongo, f'otlp = {{ url = "{collector.url}"; }}; ' + settings(), ready=False)
    s.home.profiles(rlimits="nofile = 256;", more=f'network = ( "platform", "127.0.0.1:{collector.port}" );')
    conf = s.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('batch = (', 'batch = ( { app = "traced"; exec = "traced.py"; datasets = ("traced"); }, '
                                             '{ app = "group"; exec = "builtin:load"; datasets = ("group"); group = { max_files = 10; max_wait_ms = 60000; }; }, ', 1)
                    .replace("datasets = (", 'datasets = ( { name = "traced"; format = "csv"; }, { name = "group"; format = "csv"; collection = "group"; }, ', 1))
    path = s.home.path / "apps/acme/traced.py"
    path.write_text(APP % collector.url)
    path.chmod(0o755)
    s.up()
    yield s
    s.cleanup()


def of_file(collector, site, file_id, *names):
    """Its spans by name, once those are there."""
    def look():
        spans = {s["name"]: s for s in collector.spans() if attributes(s).get("file_id") == file_id}
        return spans if set(names) <= set(spans) else None
    return until(look, site.home.path / "logs", what=lambda: f"spans of {file_id}: {[(s['name'], attributes(s)) for s in collector.spans()]}")


def put(site, name, **headers):
    a = site.put(name, f"v\n{abs(hash(name)) % 100000}\n".encode(), **headers)
    assert a.status == 201, a
    return a.doc["file_id"]


def test_an_apps_span_is_below_its_runs_and_that_below_the_senders(site, collector):
    a = site.put("a.csv", b"v\n1\n2\n", dataset="traced", traceparent=PARENT, tracestate="rojo=1 ,congo=t61rcWkgMzE")
    f = site.wait(a.doc["file_id"])
    assert f["state"] == "ingested" and f["rows_parsed"] == 2, f
    spans = of_file(collector, site, f["file_id"], "file", "inspect", "queue", "run")
    assert {s["traceId"] for s in spans.values()} == {TRACE}
    assert spans["file"]["parentSpanId"] == SPAN and spans["file"]["traceState"] == "rojo=1,congo=t61rcWkgMzE"
    assert all(spans[n]["parentSpanId"] == spans["file"]["spanId"] for n in ("inspect", "queue", "run"))
    (own,) = collector.spans(name="count rows", traceId=TRACE)
    assert own["parentSpanId"] == spans["run"]["spanId"] and attributes(own) == {"tracestate": "rojo=1,congo=t61rcWkgMzE"}
    begin, end = (int(spans["run"][k]) for k in ("startTimeUnixNano", "endTimeUnixNano"))
    assert begin <= int(own["startTimeUnixNano"]) and int(own["endTimeUnixNano"]) <= end + 10**9, "within the run"


def test_without_a_sender_it_is_a_trace_of_its_own_also_for_the_app(site, collector):
    f = site.wait(site.put("own.csv", b"v\n1\n2\n3\n", dataset="traced").doc["file_id"])
    spans = of_file(collector, site, f["file_id"], "file", "run")
    assert "parentSpanId" not in spans["file"] and "traceState" not in spans["file"] and spans["file"]["traceId"] != TRACE
    (own,) = [s for s in collector.spans(name="count rows") if s["traceId"] == spans["file"]["traceId"]]
    assert own["parentSpanId"] == spans["run"]["spanId"] and attributes(own) == {"tracestate": ""}


def test_forms_tus_and_the_command_line_hand_it_on(site, collector):
    boundary = "b0undary"
    parts = "".join(f'--{boundary}\r\nContent-Disposition: form-data; name="f"; filename="form-{n}.csv"\r\n\r\nv\n{n}\n\r\n' for n in "12") + f"--{boundary}--\r\n"
    a = site.ask("POST", "/v1/tenants/acme/datasets/data/files", body=parts.encode(), Content_Type=f"multipart/form-data; boundary={boundary}", traceparent=PARENT)
    assert a.status == 201, a
    for f in a.doc["files"]:
        assert of_file(collector, site, f["file_id"], "file")["file"]["parentSpanId"] == SPAN
    # The creation's holds for the parts, which have spans of their own.
    name = base64.b64encode(b"tus.csv").decode()
    made = site.ask("POST", "/v1/tenants/acme/uploads", Tus_Resumable="1.0.0", Upload_Length="4", Upload_Metadata=f"filename {name},dataset ZGF0YQ==", traceparent=PARENT, tracestate="a=1")
    assert made.status == 201, made
    other = PARENT.replace("4bf", "5bf")
    location = "/v1/" + made.headers["Location"].split("/v1/")[1]
    done = site.ask("PATCH", location, body=b"v\n8\n", Tus_Resumable="1.0.0", Upload_Offset="0", Content_Type="application/offset+octet-stream", traceparent=other)
    assert done.status == 204, done
    span = of_file(collector, site, done.headers["Content-Location"].split("/")[-1], "file")["file"]
    assert (span["traceId"], span["parentSpanId"], span["traceState"]) == (TRACE, SPAN, "a=1")
    # A command line that runs within a trace of its caller's.
    path = site.home.base / "cli.csv"
    path.write_text("v\n9\n")
    site.home.env["TRACEPARENT"] = PARENT
    try:
        told = json.loads(site.home.cli("upload", "acme", "data", path, "--json").stdout.splitlines()[-1])
    finally:
        del site.home.env["TRACEPARENT"]
    assert of_file(collector, site, told["file_id"], "file")["file"]["parentSpanId"] == SPAN


@pytest.mark.parametrize("headers", [{"traceparent": "garbage"}, {"traceparent": PARENT.upper()}, {"traceparent": PARENT + "-x"}, {"traceparent": f"00-{'0' * 32}-{SPAN}-01"},
                                     {"traceparent": f"ff-{TRACE}-{SPAN}-01"}, {"traceparent": "00-" + "a" * 2000}, {"tracestate": "a=1"}])
def test_what_is_none_is_passed_over(site, collector, headers):
    spans = of_file(collector, site, put(site, f"none-{len(str(headers))}-{headers.get('traceparent', '')[:3]}.csv", **headers), "file")
    assert "parentSpanId" not in spans["file"] and spans["file"]["traceId"] != TRACE


def test_a_state_that_is_none_or_too_much_is_left_out(site, collector):
    for name, state, want in (("bad", "A=1", None), ("long", ",".join(f"k{i}={'x' * 60}" for i in range(20)), ",".join(f"k{i}={'x' * 60}" for i in range(8)))):
        span = of_file(collector, site, put(site, f"state-{name}.csv", traceparent=PARENT, tracestate=state), "file")["file"]
        assert span["parentSpanId"] == SPAN and span.get("traceState") == want


def test_what_its_sender_does_not_record_nobody_does(site, collector):
    f = site.wait(site.put("quiet.csv", b"v\n4\n5\n6\n7\n", dataset="traced", traceparent=PARENT[:-2] + "00").doc["file_id"])
    assert f["state"] == "ingested"
    of_file(collector, site, put(site, "behind.csv"), "file")  # told later, in the order of what happened
    assert not [s for s in collector.spans() if attributes(s).get("file_id") == f["file_id"]]


def test_a_run_of_several_is_a_trace_to_which_its_files_link(site, collector):
    ids = [site.put(f"g{i}.csv", f"v\n{i}\n".encode(), dataset="group", traceparent=PARENT).doc["file_id"] for i in range(3)]
    for i in ids:
        site.home.wait_files(1, lambda f, i=i: f["file_id"] == i and f["state"] == "queued")
    site.home.cli("run", "acme/group")
    files = [site.wait(i) for i in ids]
    assert {f["run_id"] for f in files} == {files[0]["run_id"]} and {f["state"] for f in files} == {"ingested"}, files
    spans = [of_file(collector, site, i, "file", "queue")["file"] for i in ids]
    (group,) = until(lambda: collector.spans(name="group"), site.home.path / "logs", what="the group's span")
    (run,) = [s for s in collector.spans(name="run") if s["traceId"] == group["traceId"]]
    assert run["parentSpanId"] == group["spanId"] and "parentSpanId" not in group and attributes(group)["n_files"] == 3
    for s in spans:
        assert s["traceId"] == TRACE and s["links"] == [{"traceId": group["traceId"], "spanId": group["spanId"]}]
