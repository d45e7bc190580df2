"""Traces of messages (W3C Trace Context): from who publishes to who consumes, over the broker's log, its restarts and dead letters; and what a
collector of OpenTelemetry's is told of it."""
import http.client
import json
import os
import re
import signal
import struct
import subprocess
import threading

import pytest
import zmq

from collector import Collector, attributes
from harness import BUILD, RELEASE, ROOT, until
from web import Site, settings
from wire import ACK, CONFIRM, DELIVER, PUBLISH, REFUSED, SUBSCRIBE, SUBSCRIBED, Peer, Refused, header

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
PARENT = f"00-{TRACE}-{SPAN}-01"
WANTS_TRACES = 1


def parent(i, flags="01"):
    return f"00-{TRACE[:-8]}{i:08x}-{SPAN}-{flags}"


@pytest.fixture
def stream(home):
    home.streams(("events", "max_deliveries = 3; lease_ms = 2000;"), apps=("consume", "other"))
    home.broker()
    with Peer(home.endpoint) as p:
        home.peer = p
        yield home


# ---- by the wire

def test_a_traceparent_reaches_who_asks_for_it(stream):
    p = stream.peer
    p.publish(STREAM, [b"plain"])
    p.publish(STREAM, [b"a", b"b"], traces=PARENT)
    p.publish(STREAM, [b"c", b"d", b"e"], traces=[parent(1), None, parent(3, "00")])
    p.subscribe(STREAM, "consume", wants=WANTS_TRACES)
    assert [(m.body, m.traceparent) for m in p.take(6)] == [(b"plain", None), (b"a", PARENT), (b"b", PARENT), (b"c", parent(1)), (b"d", None), (b"e", parent(3, "00"))]
    with Peer(stream.endpoint) as old:  # who does not ask sees nothing new
        old.subscribe(STREAM, "other")
        frames = []
        while sum(len(f[0]) // 24 for f in frames) < 6:
            verb, _, _, rest = old.receive()
            assert verb == DELIVER and len(rest) == 2
            frames.append(rest)
        old.ack([m for f in frames for m in old.messages(f)])
    with Peer(stream.endpoint) as other:  # nor who asks where there is nothing
        other.subscribe(STREAM, "other", wants=WANTS_TRACES)
        other.publish(STREAM, [b"f"])
        got = other.receive()
        assert got[0] == DELIVER and len(got[3]) == 2


def test_what_is_no_traceparent_is_passed_over_and_frames_that_do_not_fit_are_refused(stream):
    p = stream.peer
    p.subscribe(STREAM, "consume", wants=WANTS_TRACES | 1 << 31)  # bits that are not known are for later
    none = [bytes(26), b"\xff" + bytes.fromhex(TRACE + SPAN) + b"\1", b"\0" + bytes(16) + bytes.fromhex(SPAN) + b"\1", b"\0" + bytes.fromhex(TRACE) + bytes(8) + b"\1"]
    p.publish(STREAM, [b"1", b"2", b"3", b"4", b"5"], traces=b"".join(none) + b"\x07" + bytes.fromhex(TRACE + SPAN) + b"\xff")
    assert [m.traceparent for m in p.take(5)] == [None] * 4 + [PARENT], "a later version is read as 00"
    for wrong in (b"", b"\0" * 25, b"\0" * 27, b"\0" * 52, b"\0" * 26 * 4):
        with pytest.raises(Refused, match="protocol: PUBLISH: there is one traceparent of 26 bytes"):
            p.publish(STREAM, [b"1", b"2", b"3"], traces=wrong)
    with pytest.raises(Refused, match="protocol: SUBSCRIBE has four or five frames"):
        r = p.next_request()
        p.send(header(SUBSCRIBE, 2, r), STREAM.encode(), b"consume", struct.pack("<IQ", 1, 1), b"\1")
        p.answer(r)


def test_they_outlive_kills_leases_and_death(stream):
    p = stream.peer
    numbered = [f"{i}".encode() for i in range(300)]
    p.publish(STREAM, numbered, publisher=7, number=1, traces=[parent(i + 1) for i in range(300)])
    assert p.publish(STREAM, numbered, publisher=7, number=1, traces=[parent(i + 9000) for i in range(300)])[1:] == (0, 300), "what was stored first counts"
    stream.stop_broker(kill=True)
    stream.broker()
    with Peer(stream.endpoint) as q:
        q.subscribe(STREAM, "consume", wants=WANTS_TRACES)
        first = q.take(300)
        assert [(m.body, m.traceparent) for m in first] == [(n, parent(i + 1)) for i, n in enumerate(numbered)]
        q.nack(first[7:8], delay_ms=0xffffffff, reason="no")
        q.ack(first[:7] + first[8:])
    with Peer(stream.endpoint) as q:
        q.subscribe(STREAM, "other", wants=WANTS_TRACES)
        q.ack(q.take(300))
    stream.stop_broker()
    stream.broker()
    stream.cli("dead", "replay", STREAM, "--app", "consume", "--all")
    with Peer(stream.endpoint) as q:
        q.subscribe(STREAM, "consume", wants=WANTS_TRACES)
        (again,) = q.take(1)
        assert (again.body, again.traceparent) == (b"7", parent(8))


def test_they_count_against_the_streams_limits(home):
    home.streams(("events", "max_stored_bytes = 20000L; max_bytes_per_s = 2000L; burst_ms = 1000; max_message_bytes = 1000L;"))
    home.broker()
    with Peer(home.endpoint) as p:
        p.publish(STREAM, [b""] * 70, traces=[PARENT] * 70)  # 1820 bytes of the second's 2000
        with pytest.raises(Refused, match="max_bytes_per_s") as e:
            p.publish(STREAM, [b"x" * 1000])
        assert e.value.code == "rate" and 300 < e.value.retry_after_ms < 1000
    home.stop_broker()
    home.streams(("events", "max_stored_bytes = 20000L; max_bytes_per_s = -1L; max_messages_per_s = -1;"))
    home.broker()
    with Peer(home.endpoint) as p, pytest.raises(Refused, match="max_stored_bytes is 20000"):
        for _ in range(20):
            p.publish(STREAM, [b""] * 100, traces=[parent(i + 1) for i in range(100)])  # 400 bytes of lengths, 2600 of traces
    assert home.queue()["ready"] <= 700


# ---- by our clients

def env_of(home):
    return {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "events", "SIMBDP_TENANT_ID": "acme", "SIMBDP_APP": "consume", "MONGO_URL": "mongodb://127.0.0.1:1",
            "MONGO_DATABASE": "acme", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"), "PYTHONPATH": str(ROOT / "clientlib/python"), "SIMBDP_RESULT_FILE": str(home.base / "result.json"),
            "OUT": str(home.base / "out")}


PUBLISHER = """
import simbdp, sys
with simbdp.Publisher() as p:
    p.publish("a")
    p.publish("b", traceparent=sys.argv[1])
    p.publish("c", traceparent="no traceparent")
    for i in range(3):
        p.publish("d", traceparent=sys.argv[1])
    p.flush()
    assert p.confirmed == 6
    for i in range(4):
        p.publish("e", traceparent=sys.argv[1])
"""
CONSUMER = """
import json, os, simbdp, sys
run = simbdp.open()
for i in range(int(sys.argv[1])):
    m = run.next(20000)
    print(json.dumps([m.text, m.traceparent]), flush=True)
    m.done()
run.finish()
"""
WANT = [["a", None], ["b", PARENT], ["c", None]] + [["d", PARENT]] * 3 + [["e", PARENT]] * 4


def python(home, text, *args, **env):
    return subprocess.run(["/usr/bin/python3", "-c", text, *args], env={**env_of(home), **env}, check=True, capture_output=True, text=True, timeout=120).stdout


def test_libsimbdp_publishes_and_gives_them(stream):
    python(stream, PUBLISHER, PARENT)
    assert [json.loads(line) for line in python(stream, CONSUMER, "10").splitlines()] == WANT
    # At most once they are kept until it is known whose the messages are.
    assert [json.loads(line) for line in python(stream, CONSUMER, "10", SIMBDP_APP="other", SIMBDP_DELIVERY="at_most_once").splitlines()] == WANT


def test_a_program_of_before_is_given_the_struct_it_knows(stream):
    stream.peer.publish(STREAM, [b"x"], traces=PARENT)
    text = """
import ctypes, simbdp
class Old(ctypes.Structure):
    _fields_ = simbdp._Message._fields_[:-1] + [("behind", ctypes.c_uint64)]
run = simbdp.open()
raw = Old(size=Old.behind.offset, behind=0x5a5a5a5a5a5a5a5a)
assert simbdp._lib().simbdp_next(run._run, 20000, ctypes.cast(ctypes.byref(raw), ctypes.POINTER(simbdp._Message))) == 1
assert raw.behind == 0x5a5a5a5a5a5a5a5a and ctypes.string_at(raw.data, raw.bytes) == b"x"
"""
    python(stream, text)


def test_publish_and_pipe(stream):
    for trace, text in ((PARENT, "one\ntwo\n"), ("none", "three\n")):
        subprocess.run([BUILD / "simbdp-publish", stream.endpoint, STREAM], input=text, text=True, env={**stream.env, "TRACEPARENT": trace}, check=True)
    p = subprocess.Popen([BUILD / "simbdp-pipe", "--trace", "--", "sh", "-c", "cat >>$OUT"], env=env_of(stream))
    q = subprocess.Popen([BUILD / "simbdp-pipe", "--echo", "--trace", "--", "sh", "-c", "exec tee -a $OUT"], env={**env_of(stream), "SIMBDP_APP": "other", "OUT": str(stream.base / "echo")})
    until(lambda: stream.queue()["ready"] + stream.queue()["leased"] + stream.queue("other")["ready"] + stream.queue("other")["leased"] == 0, stream.base, what="empty queues")
    for x in (p, q):
        x.send_signal(signal.SIGTERM)
        assert x.wait(timeout=30) == 0
    for name in ("out", "echo"):
        assert (stream.base / name).read_text() == f"{PARENT}\tone\n{PARENT}\ttwo\n-\tthree\n"


class OldBroker(threading.Thread):
    """Takes what version 1 had before there were traceparents, refuses the rest, and echoes what was published to who subscribed."""

    def __init__(self, endpoint):
        super().__init__(daemon=True)
        self.context, self.endpoint, self.bodies, self.refused, self.seq, self.ended = zmq.Context(), endpoint, [], 0, 0, threading.Event()

    def run(self):
        s = self.context.socket(zmq.ROUTER)
        s.linger = 0
        s.bind(self.endpoint)
        while not self.ended.is_set():
            if not s.poll(50):
                continue
            who, head, *frames = s.recv_multipart()
            _, verb, consumer, request = struct.unpack("<BBHI", head)
            if (verb, len(frames)) in ((PUBLISH, 4), (SUBSCRIBE, 3), (8, 1)):
                if verb == PUBLISH:
                    lengths, at = struct.unpack(f"<{len(frames[2]) // 4}I", frames[2]), 0
                    for n in lengths:
                        self.bodies.append(frames[3][at:at + n])
                        at += n
                    s.send_multipart([who, header(CONFIRM, 0, request), struct.pack("<QII", 1, len(lengths), 0)])
                elif verb == SUBSCRIBE:
                    s.send_multipart([who, header(SUBSCRIBED, consumer, request), bytes(16), struct.pack("<II", 2000, 3)])
                    while self.bodies:
                        self.seq += 1
                        body = self.bodies.pop(0)
                        s.send_multipart([who, header(DELIVER, consumer), struct.pack("<QqII", self.seq, 0, 1, len(body)), body])
                else:
                    s.send_multipart([who, header(70, 0, request), struct.pack("<QIQ", 1000, 100, 10000)])
            elif verb in (PUBLISH, SUBSCRIBE):
                self.refused += 1
                s.send_multipart([who, header(REFUSED, consumer, request), b"protocol", struct.pack("<I", 0), b"other frames"])
            elif verb == ACK and request:
                s.send_multipart([who, header(69, consumer, request), struct.pack("<Q", 1)])
        s.close()
        self.context.term()


def test_an_older_broker_gets_messages_without(home):
    home.endpoint = f"ipc://{home.base}/old.ipc"
    old = OldBroker(home.endpoint)
    old.start()
    try:
        python(home, PUBLISHER, PARENT)
        assert sorted(old.bodies) == sorted(w[0].encode() for w in WANT) and old.refused
        before, n = old.refused, len(WANT)
        assert [json.loads(line)[1] for line in python(home, CONSUMER, str(n)).splitlines()] == [None] * n and old.refused == before + 1
    finally:
        old.ended.set()
        old.join()


# ---- what a collector is told

TENANT = """
database = "%(database)s"; datasets = ( { name = "data"; format = "json"; } );
streams = ( { name = "events"; max_deliveries = 2; }, { name = "hand"; max_messages_per_s = -1; max_bytes_per_s = -1L; },
  { name = "flood"; max_messages_per_s = -1; max_bytes_per_s = -1L; } );
stream_apps = ( { app = "store"; exec = "builtin:load"; stream = "events"; dataset = "data"; min_instances = 1; }, { app = "own"; stream = "hand"; }, { app = "all"; stream = "flood"; },
  { app = "told"; exec = "told.sh"; stream = "hand"; on_demand = false; min_instances = 1; } );
"""


@pytest.fixture(scope="module")
def collector():
    with Collector() as c:
        yield c


@pytest.fixture(scope="module")
def site(mongo, collector):
    s = Site(mongo, f'otlp = {{ url = "{collector.url}"; }}; ' + settings(), ready=False)
    (s.home.path / "conf/tenants/acme.conf").write_text(TENANT % {"database": s.home.db_of["acme"]})
    s.home.profiles(cpus=0.01, rlimits="nofile = 256;")
    path = s.home.path / "apps/acme/told.sh"
    path.write_text("#!/bin/sh\necho \"$TRACEPARENT\"\n")
    path.chmod(0o755)
    s.up()
    yield s
    s.cleanup()


def publish(site, *bodies, stream="events", **headers):
    lines = b"".join(b + b"\n" for b in bodies)
    a = site.post(f"streams/{stream}/messages", site.of(), "acme", lines, described=False, Content_Type="application/x-ndjson", **headers)
    assert a.status == 200, a


def spans_of(site, collector, name, n, test=lambda s: True):
    def look():
        found = [s for s in collector.spans(name=name) if test(s)]
        return found if len(found) >= n else None
    return until(look, site.home.path / "logs", what=lambda: f"{n} spans {name}: {[(s['name'], s['traceId']) for s in collector.spans()]}")


def links(*spans):
    return {(link["traceId"], link["spanId"]) for s in spans for link in s.get("links", [])}


def test_from_http_to_the_database(site, collector):
    publish(site, b'{"v":1}', b'{"v":2}', traceparent=PARENT, tracestate="rojo=1")
    (sent,) = spans_of(site, collector, "publish events", 1, lambda s: s["traceId"] == TRACE)
    assert sent["parentSpanId"] == SPAN and sent["kind"] == 4 and sent["status"] == {"code": 1}
    got = attributes(sent)
    assert (got["messaging.system"], got["messaging.operation.name"], got["messaging.operation.type"], got["messaging.destination.name"]) == ("mysimbdp", "publish", "publish", "events")
    assert (got["messaging.batch.message_count"], got["tenant_id"], got["stream"], got["bytes"]) == (2, "acme", "events", 14)

    def stored():
        found = [s for s in collector.spans(name="process events") if (TRACE, sent["spanId"]) in links(s)]
        return found if sum(attributes(s)["messaging.batch.message_count"] for s in found) == 2 else None
    found = until(stored, site.home.path / "logs", what="what became of both")
    assert sum(attributes(s)["rows"] for s in found) == 2 and site.home.count() == 2
    for s in found:
        assert s["traceId"] != TRACE and "parentSpanId" not in s and s["kind"] == 5 and s["status"] == {"code": 1}
        assert attributes(s)["messaging.consumer.group.name"] == attributes(s)["app"] == "store"
        assert int(sent["startTimeUnixNano"]) <= int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"])


def test_what_is_refused_says_so(site, collector):
    publish(site, b"no JSON", traceparent=parent(0xbad))
    (s,) = spans_of(site, collector, "process events", 1, lambda s: s["status"]["code"] == 2)
    assert "JSON" in s["status"]["message"] and attributes(s)["error.type"] == "_OTHER" and {t for t, _ in links(s)} == {parent(0xbad)[3:35]}


def test_an_app_is_below_the_publish_span_and_who_does_not_record_is_left_alone(site, collector):
    with Peer(site.home.endpoint) as p:
        p.subscribe("acme/hand", "own", wants=WANTS_TRACES)
        p.publish("acme/hand", [b"1", b"2", b"3", b"4", b"5"], traces=[parent(0x11), parent(0x11), parent(0x12), parent(0x13, "00"), None])
        got = p.take(5)
        by_trace = {s["traceId"]: s for s in spans_of(site, collector, "publish hand", 2)}
        of = [by_trace.get(parent(i)[3:35]) for i in (0x11, 0x12)]
        assert [attributes(s)["messaging.batch.message_count"] for s in of] == [2, 1], "neighbours share a span"
        assert [m.traceparent for m in got] == [f"00-{s['traceId']}-{s['spanId']}-01" for s in (of[0], of[0], of[1])] + [parent(0x13, "00"), None]
        p.ack(got)
        (s,) = spans_of(site, collector, "process hand", 1)
        assert links(s) == {(x["traceId"], x["spanId"]) for x in of} and attributes(s)["messaging.batch.message_count"] == 3 and "rows" not in attributes(s)
        assert not [s for s in collector.spans() if s["traceId"] == parent(0x13)[3:35]]
        # What is known already is published by nobody.
        assert p.publish("acme/hand", [b"6"], publisher=9, number=1, traces=parent(0x14))[1] == 1
        assert p.publish("acme/hand", [b"6"], publisher=9, number=1, traces=parent(0x15))[2] == 1
        p.nack(p.take(1), delay_ms=0xffffffff, reason="not mine")
        (s,) = spans_of(site, collector, "process hand", 1, lambda s: s["status"]["code"] == 2)
        assert s["status"]["message"] == "not mine" and {t for t, _ in links(s)} == {parent(0x14)[3:35]}
        assert not [s for s in collector.spans() if s["traceId"] == parent(0x15)[3:35]]
        p.publish("acme/hand", [b"7"], traces=parent(0x16))
        assert p.take(1)
    (s,) = spans_of(site, collector, "process hand", 1, lambda s: s["status"].get("message") == "its consumer is gone")
    assert {t for t, _ in links(s)} == {parent(0x16)[3:35]}


def test_an_instance_has_a_trace_of_its_life(site, collector):
    (s,) = spans_of(site, collector, "instance", 1, lambda s: attributes(s)["app"] == "told")[:1]
    run = attributes(s)["run_id"]
    assert site.home.log_of(run).strip() == f"00-{s['traceId']}-{s['spanId']}-01"
    assert "parentSpanId" not in s and int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) and s["kind"] == 1


def dropped(site):
    c = http.client.HTTPConnection(site.host, site.port, timeout=60)
    c.request("GET", "/metrics", headers=site.login(site.of("operator", None)))
    return float(re.search(r"^mysimbdp_broker_spans_dropped_total (\S+)$", c.getresponse().read().decode(), re.M)[1])


def test_a_flood_has_so_many_spans_and_the_rest_is_counted(site, collector):
    n, first = 1000, 0x1000
    before = dropped(site)
    with Peer(site.home.endpoint) as p:
        requests = {p.post("acme/flood", [b"x"], traces=parent(first + i)) for i in range(n)}
        while requests:
            verb, _, number, _ = p.receive()
            assert verb == CONFIRM
            requests.discard(number)
        not_published = dropped(site) - before
        assert 0 < not_published < n
        told = spans_of(site, collector, "publish flood", int(n - not_published), lambda s: int(s["traceId"][-8:], 16) >= first)
        assert len(told) == n - not_published
        # Of who holds more than so many, what becomes of the rest is not told.
        p.subscribe("acme/flood", "all", messages=n, wants=WANTS_TRACES)
        got = p.take(n)
        assert [m.traceparent[:36] for m in got] == [parent(first + i)[:36] for i in range(n)], "all are handed on, as they came"
        assert dropped(site) - before == not_published + n - 512
        p.ack(got)
    assert os.stat(site.home.path / "logs/tenants/acme/spans.jsonl").st_size < 1 << 20
