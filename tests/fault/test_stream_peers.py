"""s06 and s07 of docs/scenarios.md: what publishers and strangers may do, with pyzmq as an independent client."""
import os
import random
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest
import zmq
from engines import IN_KAFKA
from harness import BUILD, ROOT, free_port, until
from wire import ACK, REFUSED, SUBSCRIBE, Peer, Refused, bodies, header, peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"


# ---- s06: limits

@pytest.mark.own_log("its rates are to be met one message at a time, which Kafka does not take as fast")
def test_s06_limits_are_refused_by_name_and_recorded(home):
    home.streams(("events", "max_message_bytes = 1000; max_messages_per_s = 500; max_bytes_per_s = 20000L; max_messages_per_request = 100;"))
    home.broker()
    with peer(home) as p:
        for messages, code, text in (([b"x" * 1001], "size", "max_message_bytes is 1000"),
                                     (bodies(101), "quota", "max_messages_per_request is 100")):
            with pytest.raises(Refused) as e:
                p.publish(STREAM, messages)
            assert e.value.code == code and text in e.value.text
        assert p.publish(STREAM, [b"x" * 1000])[1] == 1
        with pytest.raises(Refused) as e:
            for _ in range(30):
                p.publish(STREAM, [b"x" * 1000])
        assert e.value.code == "rate" and "max_bytes_per_s is 20000" in e.value.text and 0 < e.value.retry_after_ms <= 1100

        def works():
            try:
                return p.publish(STREAM, [b""] * 100)
            except Refused as e:
                assert e.code == "rate"
        until(works, home.path / "state", every=0.05, what="the end of the rate limit")
        with pytest.raises(Refused) as e:
            for _ in range(20):
                p.publish(STREAM, [b""] * 100)
        assert e.value.code == "rate" and "max_messages_per_s is 500" in e.value.text
    until(lambda: any(e["event"] == "interval" and e["app"] is None and e["refused"] >= 4 for e in home.stream_journal()), home.path / "logs",
          what="the interval")
    assert {e["reason"] for e in home.stream_journal() if e["event"] == "breach"} >= {"size"}


def test_burst_ms_is_what_may_come_at_once(home):
    home.streams(("events", "max_messages_per_s = 100;"), ("longer", "max_messages_per_s = 100; burst_ms = 4000;"),
                 ("heavy", "max_bytes_per_s = 1000L; burst_ms = 500; max_message_bytes = 2000;"), tenant="")
    home.broker()
    with peer(home) as p:
        def refused(stream, messages):
            with pytest.raises(Refused) as e:
                for _ in range(2):  # where the machine is slow, the first one is paid for by then
                    p.publish(stream, messages)
            return e.value
        e = refused(STREAM, bodies(400))
        assert e.code == "quota" and e.retry_after_ms == 0 and "max_messages_per_s = 100, 100 may come at once (burst_ms)" in e.text
        e = refused(STREAM, bodies(100))
        assert e.code == "rate" and 0 < e.retry_after_ms <= 1001 and home.queue()["published"] == 100
        e = refused("acme/longer", bodies(400))
        assert e.code == "rate" and 0 < e.retry_after_ms <= 4001 and home.queue(None, stream="longer")["published"] == 400
        e = refused("acme/heavy", [b"x" * 1001] * 2)
        assert e.code == "size" and "max_bytes_per_s = 1000, 2000 may come at once" in e.text
        e = refused("acme/heavy", [b"x" * 2000])  # one message passes, and is paid for afterwards
        assert e.code == "rate" and 1000 < e.retry_after_ms <= 2001 and home.queue(None, stream="heavy")["published"] == 1
    path = home.base / "lines"
    path.write_text("".join(f"{i}\n" for i in range(250)))  # our own publisher sends no more at once
    assert "250 messages confirmed" in home.cli("publish", STREAM, str(path)).stdout


def test_max_reject_pct_cuts_a_stream_off(home):
    home.streams(("events", "max_reject_pct = 20.0;"), tenant="")
    home.up()
    never = 0xffffffff
    with peer(home) as p:
        p.subscribe(STREAM, "consume")
        p.publish(STREAM, bodies(40))
        m = p.take(40)
        assert p.nack(m[:4], never, "no good") == 4 and p.ack(m[4:20]) == 16  # 4 of 20
        line = lambda event: [e for e in home.stream_journal() if e["event"] == event]
        # what is looked at once a second was looked at: the interval is written by the same clock, later
        until(lambda: any(e["app"] == "consume" and e["dead"] == 4 for e in line("interval")), home.path / "logs", what="the interval")
        assert home.queue()["state"] == "active" and line("cut_off") == []
        assert p.nack(m[20:25], never, "no good") == 5
        until(lambda: home.queue()["state"] == "cut_off", home.path / "state", what="the stream to be cut off")
        for restart in (True, False):
            with pytest.raises(Refused) as e:
                p.publish(STREAM, [b"x"])
            assert e.value.code == "suspended" and "more than max_reject_pct = 20" in e.value.text
            if restart:
                pid = home.control({"op": "status"}, "broker.sock")["pid"]
                os.kill(pid, signal.SIGKILL)
                until(lambda: restarted(home, pid), home.path / "state", what="the next broker")
        assert [(e["app"], e["reason"]) for e in line("cut_off")] == [("consume", "max_reject_pct")]
        home.cli("tenant", "resume", "acme")
        p.publish(STREAM, [b"x"])
        assert home.queue()["state"] == "active"


def test_max_rows_per_s_is_what_an_app_gets_messages_for(home):
    home.streams(("events", "max_rows_per_s = 100;"), ("other", "max_rows_per_s = -1;"), tenant="")
    home.broker()
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=10)
        p.publish(STREAM, bodies(100))
        m = p.take(10)
        began = time.monotonic()
        assert p.settle(ACK, m, struct.pack("<10I", *[50] * 10)) == 10  # 500 rows, of which 100 may come at once
        assert len(p.take(1)) >= 1 and time.monotonic() - began > 3.5
        assert home.queue()["acked"] == 10


def test_stats_count_messages(home):
    home.streams(("events", "max_message_bytes = 10; max_deliveries = 1;"))
    home.up()
    with peer(home) as p:
        p.publish(STREAM, [b"x"] * 10)
        with pytest.raises(Refused):
            p.publish(STREAM, [b"x" * 11])
        p.subscribe(STREAM, "consume")
        m = p.take(10)
        p.ack(m[:9])
        p.nack(m[9:])
    home.down()
    acme, platform = home.rows("stats")
    for row in (acme, platform):
        assert (row["messages"], row["messages_refused"], row["messages_dead"]) == (10, 1, 1) and row["avg_message_ms"] >= 0
    assert home.rows("stats", "--since", "2100-01-01T00:00:00Z")[0]["messages"] == 0


def test_stats_count_what_stream_apps_stored_over_kills(home):
    """Rows, bytes and messages of streams: each once, whenever the broker is killed."""
    home.profiles(cpus=0.01)
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    (home.path / "conf/tenants/acme.conf").write_text(
        f'database = "{home.db_of["acme"]}"; datasets = ( {{ name = "data"; format = "json"; }} ); streams = ( {{ name = "events"; }} );\n'
        'stream_apps = ( { app = "store"; stream = "events"; exec = "builtin:load"; dataset = "data"; } );\n')
    home.up()
    sent = 0
    two, one = b'[{"v":1},{"v":2}]', b'{"v":3}'
    with peer(home) as p:
        for _ in range(4):
            p.publish(STREAM, [two, one, one])
            with pytest.raises(Refused):
                p.publish(STREAM, [b"x" * 65537])
            sent += 3
            until(lambda: home.queue("store")["acked"] == sent, home.path / "state", what=lambda: f"the acks: {home.queue('store')}")
            assert home.queue("store")["published"] == sent
            pid = home.control({"op": "status"}, "broker.sock")["pid"]
            os.kill(pid, signal.SIGKILL)
            until(lambda: restarted(home, pid), home.path / "state", what="the next broker")
    home.down()
    n_bytes = 4 * (len(two) + 2 * len(one))
    for row in home.rows("stats"):
        assert (row["messages"], row["rows"], row["bytes"], row["messages_dead"]) == (sent, 16, n_bytes, 0) and row["bytes_per_s"] is None
        assert 1 <= row["messages_refused"] <= 4  # written once a second
    assert home.count("acme") == 16


def test_stats_take_the_last_of_lines_of_one_number(home):
    """A broker that was killed before it remembered that a line was written writes it again, with more."""
    home.streams("events")
    home.up()
    home.down()
    log = home.path / "logs/tenants/acme/stream.jsonl"
    log.parent.mkdir(exist_ok=True)
    lines = [(None, "a1", 5, 0), ("consume", "b1", 5, 10), (None, "a1", 7, 0), ("consume", "b1", 6, 12), ("consume", "b2", 1, 1), (None, "a2", 1, 0)]
    log.write_text("".join('{"ts":"2026-01-0%dT00:00:00Z","event":"interval","tenant_id":"acme","stream":"events","app":%s,"line":"%s","messages":%d,"bytes":%d,"rows":%d}\n'
                           % (1 + i, f'"{app}"' if app else "null", number, n, n * 10, rows) for i, (app, number, n, rows) in enumerate(lines)))
    acme = home.rows("stats", "--tenant", "acme")[0]
    assert (acme["messages"], acme["rows"], acme["bytes"]) == (8, 13, 70)
    acme = home.rows("stats", "--tenant", "acme", "--since", "2026-01-04T00:00:00Z")[0]
    assert (acme["messages"], acme["rows"], acme["bytes"]) == (1, 13, 70)


def test_s06_after_too_many_breaches_a_stream_is_cut_off(home):
    home.streams(("events", 'max_message_bytes = 10; on_breach = "suspend"; breaches = 3; breach_window_s = 60;'), "other")
    home.up()
    with peer(home) as p:
        for _ in range(3):
            with pytest.raises(Refused) as e:
                p.publish(STREAM, [b"x" * 11])
            assert e.value.code == "size"
        for _ in range(2):
            with pytest.raises(Refused) as e:
                p.publish(STREAM, [b"x"])
            assert e.value.code == "suspended" and "3 breaches" in e.value.text
            if _ == 0:  # also over a restart
                pid = home.control({"op": "status"}, "broker.sock")["pid"]
                os.kill(pid, signal.SIGKILL)
                until(lambda: restarted(home, pid), home.path / "state", what="the next broker")
        p.publish("acme/other", [b"x"])
        assert home.queue()["state"] == "cut_off"
        home.cli("tenant", "resume", "acme")
        p.publish(STREAM, [b"x"])
    assert [e["event"] for e in home.stream_journal() if e["event"] in ("cut_off", "resumed")] == ["cut_off", "resumed"]


def restarted(home, pid):
    try:
        return home.control({"op": "status"}, "broker.sock")["pid"] != pid
    except (OSError, AssertionError):
        return False


# ---- s07: strangers and nonsense

def test_s07_malformed_requests_are_refused_with_what_is_wrong(home):
    home.streams("events")
    home.broker()
    good = struct.pack("<BBHI", 1, 2, 0, 9)
    cases = [
        ([b""], "header"), ([b"x"], "header"), ([b"\x02" + good[1:], b"s"], "header"), ([good], "five to seven frames"),
        ([good, b"acme/events", b"", b"\1\0\0\0", b"xy"], "add up"), ([good, b"acme/events", b"", b"", b""], "five to seven frames"),
        ([good, b"acme/events", b"", b"\xff\xff\xff\xff" * 3, b"x"], "add up"), ([good, b"acme/events", b"1234", b"\1\0\0\0", b"x"], "five to seven frames"),
        ([good, b"acme/events", b"", b"\1\0\0\0", b"x", b"t" * 27], "26 bytes"), ([good, b"acme/events", b"", b"\1\0\0\0", b"x", b""], "26 bytes"),
        ([good, b"acme/events", b"", b"\1\0\0\0", b"x", b"t" * 52], "26 bytes"),
        ([header(SUBSCRIBE, 1, 9), b"acme/events", b"consume", b"s" * 12, b"abc"], "wanted (4)"),
        ([header(ACK, 1, 9), struct.pack("<QQ", 1, 1), b""], "four bytes for each range"),
        ([header(ACK, 1, 9), struct.pack("<QQ", 1, 1), struct.pack("<I", 65537)], "65536"),
        ([header(ACK, 1, 9), struct.pack("<QQQQ", 2, 2, 1, 1), struct.pack("<II", 1, 1)], "in order"),
        ([good, b"", b"", b"\1\0\0\0", b"x"], "name"), ([good, b"a" * 129, b"", b"\1\0\0\0", b"x"], "name"),
        ([good, b"acme/\xff", b"", b"\1\0\0\0", b"x"], "name"), ([good, b"acme/a\nb", b"", b"\1\0\0\0", b"x"], "name"),
        ([struct.pack("<BBHI", 1, 99, 0, 9)], "no such verb"), ([header(SUBSCRIBE, 1, 9), b"acme/events", b"consume", b"short"], "four or five frames"),
        ([header(ACK, 1, 9), b"short"], "frames"), ([header(ACK, 1, 9), struct.pack("<QQ", 5, 4)], "range"),
        ([header(ACK, 1, 9), struct.pack("<QQ", 0, 4)], "range"), ([good] + [b"x"] * 20, "too many frames"),
    ]
    with peer(home) as p:
        for frames, text in cases:
            p.send(*frames)
            verb, _, _, answer = p.receive()
            assert verb == REFUSED and answer[0] == b"protocol" and text in answer[2].decode(), (frames, answer)
        for frames, text in (([header(ACK, 1, 9), struct.pack("<QQ", 1, 2)], "no subscription"),
                             ([header(SUBSCRIBE, 1, 9), b"acme/events", b"nobody", struct.pack("<IQ", 1, 1)], "stream_apps"),
                             ([good, b"acme/nope", b"", b"\1\0\0\0", b"x"], "no stream"), ([good, b"who/events", b"", b"\1\0\0\0", b"x"], "no stream"),
                             ([good, b"events", b"", b"\1\0\0\0", b"x"], "TENANT/STREAM")):
            p.send(*frames)
            verb, _, request, answer = p.receive()
            assert verb == REFUSED and request == 9 and answer[0] == b"unknown" and text in answer[2].decode(), (frames, answer)
        p.send(b"\0" * 3000000)  # more than any message may have: the connection ends
        with peer(home) as q:
            assert q.publish(STREAM, [b"x"])[1] == 1


def test_s07_random_frames(home):
    home.streams("events")
    home.broker()
    rng = random.Random(7)
    good = [header(2, 0, 5), b"acme/events", struct.pack("<QQ", 1, 1), struct.pack("<2I", 2, 3), b"hello"]
    with peer(home) as p, peer(home) as calm:
        for i in range(2000):
            frames = [bytearray(f) for f in good]
            frames[0][1] = rng.randrange(9)
            for _ in range(rng.randrange(4)):
                f = frames[rng.randrange(len(frames))]
                if f:
                    f[rng.randrange(len(f))] = rng.randrange(256)
            if rng.random() < 0.3:
                del frames[rng.randrange(len(frames)):]
            p.send(*[bytes(f) for f in frames] or [b""])
            while p.socket.poll(0):
                p.socket.recv_multipart()
        assert calm.publish(STREAM, [b"x"])[1] == 1
    assert home.broker_process.poll() is None


@pytest.mark.needs_root
def test_s07_a_tenant_reaches_its_own_streams_only(home):
    home.streams("events", name="acme")
    home.streams("events", name="other")
    home.up()
    uids = {t["tenant_id"]: t["uid"] for t in home.rows("tenant", "list")}
    code = (f"import sys; sys.path[:0] = [{str(ROOT / 'tests/system')!r}]\nfrom wire import *\np = Peer(sys.argv[1])\n"
            "for name in ('events', 'acme/events', 'other/events'):\n"
            "    try:\n        print(name, p.publish(name, [b'x'])[1])\n    except Refused as e:\n        print(name, e.code)\n")
    for uid, expected in ((uids["acme"], "events 1 acme/events 1 other/events auth"), (uids["other"], "events 1 acme/events auth other/events 1"),
                          (4711, "")):  # a stranger's connection is ended before anything is read
        r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", code, home.endpoint],
                           capture_output=True, text=True, timeout=60)
        assert r.stdout.split() == expected.split() and ("no answer" in r.stderr) == (not expected), (uid, r)
    home.cli("tenant", "suspend", "acme")
    with peer(home) as p:
        with pytest.raises(Refused) as e:
            p.publish(STREAM, [b"x"])
        assert e.value.code == "suspended"
        with pytest.raises(Refused) as e:
            p.subscribe(STREAM, "consume")
        assert e.value.code == "suspended"
        home.cli("tenant", "resume", "acme")
        p.publish(STREAM, [b"x"])


def test_s07_curve_on_tcp(make_home):
    home = make_home(platform='listen = "127.0.0.1";')
    public, secret = zmq.curve_keypair()
    home.streams("events", tenant=f'curve_keys = ("{public.decode()}");')
    home.streams("events", name="other")
    home.broker()
    status = home.control({"op": "status"}, "broker.sock")
    server = status["server_key"].encode()
    assert status["tcp"].startswith("tcp://127.0.0.1:")
    with Peer(status["tcp"], curve_serverkey=server, curve_publickey=public, curve_secretkey=secret) as p:
        assert p.publish("events", [b"x"])[1] == 1
        with pytest.raises(Refused) as e:
            p.publish("other/events", [b"x"])
        assert e.value.code == "auth"
    strange_public, strange_secret = zmq.curve_keypair()
    for options in ({"curve_serverkey": server, "curve_publickey": strange_public, "curve_secretkey": strange_secret}, {}):
        with Peer(status["tcp"], **options) as p:
            p.post("acme/events", [b"x"])
            assert p.receive(timeout=1) is None, options
    assert home.queue()["last_seq"] == 1 and "no tenant has" in (home.base / "broker.err").read_text()
    home.stop_broker()
    home.broker()  # the port and the key are kept
    again = home.control({"op": "status"}, "broker.sock")
    assert (again["tcp"], again["server_key"]) == (status["tcp"], status["server_key"])


def test_a_fixed_tcp_port_that_is_taken_is_named(make_home):
    port = free_port()
    home = make_home(platform=f'listen = "127.0.0.1"; ports = {{ broker = {port}; }};')
    home.streams("events")
    home.broker()
    assert home.control({"op": "status"}, "broker.sock")["tcp"] == f"tcp://127.0.0.1:{port}"
    home.stop_broker()
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        r = subprocess.run([BUILD / "broker", "--home", str(home.path)], env=home.env, capture_output=True, text=True, timeout=60)
        assert r.returncode == 1 and f"127.0.0.1:{port}" in r.stderr, r


def test_s07_a_flood_of_connections_and_of_one_tenants_messages(home):
    home.streams(("events", "max_stored_bytes = -1L;"))
    home.streams("events", name="quiet")
    home.broker()
    path = home.endpoint[len("ipc://"):]
    mute = []
    for _ in range(500):  # they never say who they are
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(path)
        except BlockingIOError:
            pass
        mute.append(s)
    stop = threading.Event()

    def flood():
        with peer(home) as p:
            waiting = 0
            while not stop.is_set():
                while waiting < 20:
                    p.post(STREAM, bodies(1000, 0, 1000))
                    waiting += 1
                if p.receive():
                    waiting -= 1
    threads = [threading.Thread(target=flood) for _ in range(2)]
    for t in threads:
        t.start()
    worst = []
    with peer(home) as p:
        until(lambda: home.queue()["last_seq"] > 1000, home.path / "state")
        for i in range(50):
            began = time.monotonic()
            assert p.publish("quiet/events", [b"x"])[1] == 1
            worst.append(time.monotonic() - began)
    stop.set()
    for t in threads:
        t.join()
    for s in mute:
        s.close()
    assert sorted(worst)[len(worst) // 2] < (5 if IN_KAFKA else 1), worst
