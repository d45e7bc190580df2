"""s01 to s05 of docs/scenarios.md, and what streams keep: the broker, with pyzmq as an independent client."""
import json
import os
import pathlib
import random
import re
import signal
import struct
import subprocess
import threading
import time

import pytest
from engines import IN_KAFKA
from harness import BUILD, RELEASE, ROOT, TIMEOUT, until
from wire import ACK, CONFIRM, DELIVER, PONG, REFUSED, SUBSCRIBE, Refused, bodies, header, peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
POINTS = [p for p in re.findall(r"^\s+X\((\w+)\)", (ROOT / "lib/base/crash.h").read_text(), re.M) if p.startswith("store_")]


CONSUMER = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT / "tests/system")!r}]
from wire import *
p = Peer(sys.argv[1])
p.subscribe({STREAM!r}, "consume", messages=int(sys.argv[2]))
"""


def consumer(home, code, window=100):
    """A consumer in a process of its own; says "ready" first."""
    return subprocess.Popen(["/usr/bin/python3", "-c", CONSUMER + code, home.endpoint, str(window)], stdout=subprocess.PIPE, text=True)


# ---- s01: consumers die

def test_s01_a_killed_consumers_messages_are_handed_out_again(home):
    home.streams(("events", "lease_ms = 60000;"))
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, bodies(10))
        c = consumer(home, "got = p.take(10); p.ack(got[:3]); print(len(got), flush=True); signal.pause()")
        assert c.stdout.readline() == "10\n"
        p.subscribe(STREAM, "consume")
        c.kill()
        c.wait()
        found = []
        while len(found) < 7:  # long before its leases end
            got = p.take(1, timeout=10)
            assert got, found
            found += got
            p.ack(got)
        assert sorted((m.seq, m.deliveries, m.body) for m in found) == [(i + 1, 2, f"m{i}".encode()) for i in range(3, 10)]
    q = home.queue()
    assert (q["ready"], q["leased"], q["dead"], q["redelivered"]) == (0, 0, 0, 7)


def test_s01_leases_end_are_extended_and_given_back(home):
    home.streams(("events", "lease_ms = 300;"))
    home.broker()
    with peer(home) as a, peer(home) as b:
        a.publish(STREAM, [b"x"])
        assert a.subscribe(STREAM, "consume")[1:] == (300, 5)
        first = a.take()
        b.subscribe(STREAM, "consume")
        for _ in range(8):  # longer than a lease in all
            assert a.extend(first) == 1
            assert b.take(timeout=0.1) == []
        again = b.take() or a.take()
        assert [(m.seq, m.deliveries) for m in again] == [(1, 2)]
    with peer(home) as c:  # the others are gone
        c.subscribe(STREAM, "consume")
        got = c.take()
        assert got[0].seq == 1 and c.nack(got, 0, "not now") == 1
        assert c.take()[0].seq == 1


def test_s01_a_late_ack_counts(home):
    home.streams(("events", "lease_ms = 100;"))
    home.broker()
    with peer(home) as a:
        a.publish(STREAM, [b"x", b"y"])
        a.subscribe(STREAM, "consume", messages=2)
        first = a.take(2)
        until(lambda: home.queue()["leased"] == 0 or home.queue()["redelivered"] > 0, home.path / "state", what="the end of the lease")
        assert a.ack(first) == 2
        until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state")


# ---- s02: the broker dies

@pytest.mark.parametrize("point", POINTS)
def test_s02_crash_at(home, point):
    """Killed at each point where something is written: what was confirmed is there, what was sent again is there once."""
    home.streams("events")
    home.broker()
    home.stop_broker()
    once = home.crash_file()
    home.broker(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    sent = 0
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=100000, size=64 << 20)
        got = {}

        def again():
            home.broker()
            p.subscribe(STREAM, "consume", messages=100000, size=64 << 20)

        def step(batch):
            number = sent + 1
            while True:
                try:
                    r = p.post(STREAM, batch, 42, number)
                    answer, deadline = None, time.monotonic() + TIMEOUT
                    while answer is None or answer[2] != r:
                        answer = p.receive(timeout=1)
                        if answer is None and home.broker_process.poll() is None:
                            assert time.monotonic() < deadline, "no answer, and the broker is there"
                            continue
                        if answer is None:
                            again()
                            break
                        if answer[0] == DELIVER:
                            take(p.messages(answer[3]))
                    if answer:
                        return
                except AssertionError:
                    if home.broker_process.poll() is None:
                        raise
                    again()

        def take(messages):
            for m in messages:
                assert got.setdefault(m.seq, m.body) == m.body
            if messages:
                r = p.next_request()
                p.send(header(ACK, 1, r), b"".join(struct.pack("<QQ", m.seq, m.seq) for m in messages))

        for _ in range(60):
            step(bodies(100, sent, 600))
            sent += 100
        while len(got) < sent:
            more = p.receive(timeout=10)
            if not more:  # what it does between requests may come as late as this
                assert home.broker_process.poll() is not None, (len(got), sent)
                again()
            elif more[0] == DELIVER:
                take(p.messages(more[3]))
    assert once.exists(), f"{point} was never reached"
    assert sorted(got) == list(range(1, sent + 1))
    assert [got[i + 1] for i in range(sent)] == bodies(sent, 0, 600)
    until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state", what="an empty queue")


def test_s02_killed_as_a_segment_begins(home):
    """What it begins with is not there; when the segments before it are given back, it is all that tells what its messages are."""
    home.streams("events")
    home.broker()
    home.stop_broker()
    once = home.crash_file()
    home.broker(SIMBDP_CRASH_AT="store_named", SIMBDP_CRASH_ONCE=str(once))
    with peer(home) as p:
        for i in range(100):
            p.post(STREAM, bodies(100, 100 * i, 600), 42, 100 * i + 1)
            until(lambda: p.receive(timeout=0.1) or home.broker_process.poll() is not None, home.path / "state", what="an answer")
            if once.exists():
                break
        assert once.exists() and home.broker_process.wait(timeout=10) != 0
        home.broker()
        p.subscribe(STREAM, "consume", messages=100000, size=64 << 20)
        last = bodies(10, 10**6, 100)
        p.publish(STREAM, last)
        while True:
            got = p.take(1, timeout=10)
            assert got
            if old := [m for m in got if m.body not in last]:
                p.ack(old)
            if got[-1].body == last[-1]:
                break
        until(lambda: len(list((home.path / "state/broker").glob("*.seg"))) == 1, home.path / "state/broker", what="the segments before to go")
    home.stop_broker()
    home.broker()
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=100, size=1 << 20)
        assert [m.body for m in p.take(10, timeout=10)] == last


def test_s02_done_is_said_of_what_is_written(home):
    home.streams("events")
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, [b"x"])
        p.subscribe(STREAM, "consume")
        (m,) = p.take()
    home.stop_broker()
    home.broker(SIMBDP_CRASH_AT="store_write", SIMBDP_CRASH_ONCE=str(home.crash_file()))
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=0)  # takes nothing, so that the ack is what is written first
        p.send(header(ACK, 1, p.next_request()), struct.pack("<QQ", m.seq, m.seq))
        assert home.broker_process.wait(20) == -signal.SIGKILL
        assert p.receive(timeout=0.5) is None, "an answer to an ack that was lost"
    home.broker()
    assert home.queue()["ready"] == 1
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=0)
        assert p.ack([m]) == 1
        home.stop_broker(kill=True)
    home.broker()
    assert home.queue()["ready"] == 0


@pytest.fixture(scope="session")
def powerloss(tmp_path_factory):
    """A library that makes a kill lose what was not synced."""
    library = tmp_path_factory.mktemp("powerloss") / "powerloss.so"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, ROOT / "tests/fault/powerloss.c", "-ldl"], check=True)
    return {"program": RELEASE / "broker", "LD_PRELOAD": str(library)}  # sanitizers want to be loaded first


def test_s02_a_power_cut_takes_what_was_not_synced_and_nothing_else(home, powerloss):
    home.streams("events")
    home.broker(**powerloss)
    with peer(home) as p:
        p.publish(STREAM, bodies(100))
        p.subscribe(STREAM, "consume", messages=50)
        assert p.ack(p.take(50)) == 50
        home.stop_broker(kill=True)  # before the acks are synced: they are lost, as by a power cut
        home.broker(**powerloss)
        assert home.queue()["ready"] > 50, "the library does what it is for"
        p.subscribe(STREAM, "consume", messages=1000)
        assert {m.body for m in p.take(home.queue()["ready"] + home.queue()["leased"])} >= set(bodies(50, 50))


@pytest.mark.parametrize("how", ["kill", "power"])
def test_s02_kills_under_load(home, powerloss, how):
    """SIGKILL in the middle of things, ten times: every message once in effect, none invented. power: and what was not synced is lost."""
    options = powerloss if how == "power" else {}
    home.streams("events", apps=("consume", "copy"))
    home.broker(**options)
    stop, total, seen = threading.Event(), 30000, {"consume": {}, "copy": {}}
    failures = []

    def guarded(fn):
        def run():
            try:
                fn()
            except Exception as e:  # noqa: BLE001 - told at the end
                failures.append(e)
                stop.set()
        return threading.Thread(target=run)

    def publisher():
        with peer(home) as p:
            number, waiting = 1, {}
            while (number <= total or waiting) and not failures:
                while number <= total and len(waiting) < 8:
                    waiting[p.post(STREAM, bodies(100, number - 1), 7, number)] = number
                    number += 100
                answer = p.receive(timeout=0.5)
                if answer is None:  # sent again: known numbers are not stored twice
                    waiting = {p.post(STREAM, bodies(100, first - 1), 7, first): first for first in waiting.values()}
                elif answer[2] in waiting:
                    assert answer[0] != REFUSED, answer
                    del waiting[answer[2]]

    def consume(app):
        def run():
            with peer(home) as p:
                subscribed = 0.0
                while len(seen[app]) < total and not failures:
                    if time.monotonic() - subscribed > 1:  # again and again: a broker that was restarted does not know us
                        p.send(header(SUBSCRIBE, 1, p.next_request()), STREAM.encode(), app.encode(), struct.pack("<IQ", 500, 1 << 20))
                        subscribed = time.monotonic()
                    got = p.receive(timeout=0.2)
                    if got and got[0] == DELIVER:
                        messages = p.messages(got[3])
                        for m in messages:
                            assert seen[app].setdefault(m.seq, m.body) == m.body
                        p.send(header(ACK, 1, 0), b"".join(struct.pack("<QQ", m.seq, m.seq) for m in messages))
        return run

    threads = [guarded(publisher), *[guarded(consume(a)) for a in seen]]
    for t in threads:
        t.start()
    rng = random.Random(3)
    for i in range(10):
        aim = total * (i + 1) // 12
        until(lambda: len(seen["consume"]) >= aim or failures, home.path / "state", every=0.01 + rng.random() / 20, what=f"{aim} messages")
        home.stop_broker(kill=True)
        home.broker(**options)
    for t in threads:
        t.join(timeout=120)
    assert not failures, failures
    for app, got in seen.items():
        assert sorted(got.values()) == sorted(bodies(total)), app


# ---- s03: full

def test_s03_at_its_byte_cap_a_stream_refuses_and_consumers_go_on(home):
    home.streams(("events", "max_stored_bytes = 100000L;"), "other")
    home.broker()
    with peer(home) as p:
        for _ in range(200):
            try:
                p.publish(STREAM, bodies(10, size=100))
            except Refused as e:
                assert e.code == "full" and e.retry_after_ms > 0 and "max_stored_bytes is 100000" in e.text
                break
        else:
            raise AssertionError("never full")
        p.publish("acme/other", [b"not disturbed"])
        p.subscribe(STREAM, "consume", messages=100000)
        n = home.queue()["ready"] + home.queue()["leased"]
        assert 500 < n < 1000
        p.ack(p.take(n))
        p.publish(STREAM, bodies(10, size=100))  # there is room again


def test_s03_on_a_full_disk_acks_go_on_and_publishing_by_itself(home):
    (home.path / "state/broker").mkdir()
    home.mount_tmpfs("state/broker", "6m")
    home.streams(("events", "max_stored_bytes = -1L;"))
    home.broker()
    with peer(home) as p:
        sent = 0
        try:
            while sent < 20000:
                p.publish(STREAM, bodies(100, sent, 1000), 5, sent + 1)
                sent += 100
        except Refused as e:
            assert e.code == "full" and e.retry_after_ms > 0 and "disk" in e.text
        assert 1000 < sent < 20000
        p.subscribe(STREAM, "consume", messages=65536, size=64 << 20)
        got = p.take(sent)
        there = len(got)  # of what is in Kafka, the rest comes when there is room
        assert [m.body for m in got] == bodies(there, 0, 1000) and (there == sent or (IN_KAFKA and there > 1000))
        p.ack(got[:10])
        p.ack(got[10:there // 2])
        home.stop_broker(kill=True)
        home.broker()  # the acks are there, on the full disk
        q = home.queue()
        assert q["ready"] == there - there // 2 or IN_KAFKA
        assert q["lost"] == 0
        p.subscribe(STREAM, "consume", messages=65536, size=64 << 20)
        rest = []
        while len(rest) < sent - there // 2:
            came = p.take(1)
            assert came, f"{sent - there // 2 - len(rest)} did not come"
            p.ack(came)
            rest += came
        assert [m.seq for m in rest] == list(range(there // 2 + 1, sent + 1))

        def publishes():
            try:
                return p.publish(STREAM, bodies(100, sent, 1000), 5, sent + 1)
            except Refused as e:
                assert e.code == "full"
        until(publishes, home.path / "state", what="room for messages")


# ---- s04: poison

def test_s04_a_poison_message_dies_alone_and_can_be_replayed(home):
    home.streams(("events", "max_deliveries = 3; lease_ms = 60000;"))
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, [b"poison" if i == 4 else f"m{i}".encode() for i in range(10)])
        for deaths in range(10):
            c = consumer(home, "\nwhile True:\n    for m in p.take():\n"
                               "        if m.body == b'poison': os.kill(os.getpid(), signal.SIGKILL)\n        p.ack([m])\n")
            until(lambda: c.poll() is not None or home.queue()["acked"] == 9, home.path / "state", every=0.02, what="a death, or the end")
            if c.poll() is None:
                break
        c.kill()
        c.wait()
        assert deaths == 3
        q = home.queue()
        assert (q["dead"], q["acked"]) == (1, 9)
        letter, = home.rows("dead", "list", STREAM)
        assert (letter["seq"], letter["message"], letter["deliveries"]) == (5, "poison", 3)
        assert "went away" in letter["reason"]
        assert [e for e in home.stream_journal() if e["event"] == "dead"][0]["seq"] == 5
        # it survives a restart, and replayed it is an ordinary message with the same sequence
        home.stop_broker(kill=True)
        home.broker()
        assert home.rows("dead", "list", STREAM)[0]["seq"] == 5
        home.cli("dead", "replay", STREAM, "--seq", "5")
        p.subscribe(STREAM, "consume")
        m, = p.take()
        assert (m.seq, m.body) == (5, b"poison")
        for _ in range(3):
            assert p.nack([m], reason="I do not like it") == 1
            if _ < 2:
                m, = p.take()
        assert home.rows("dead", "list")[0]["reason"] == "I do not like it"
        r = home.cli("dead", "drop", STREAM, "--seq", "4", check=False)
        assert r.returncode == 1 and "no dead letter 4" in r.stderr
        home.cli("dead", "drop", STREAM, "--all")
        assert home.rows("dead", "list") == []
        # a consumer that knows that it never will need not be asked again
        p.publish(STREAM, [b"nonsense"])
        m, = p.take()
        assert p.nack([m], delay_ms=2**32 - 1, reason="no JSON") == 1
        letter, = home.rows("dead", "list")
        assert (letter["message"], letter["deliveries"], letter["reason"]) == ("nonsense", 1, "no JSON")
        home.cli("dead", "drop", STREAM, "--all")
        until(lambda: home.queue()["stored_bytes"] == 0, home.path / "state", what="the bytes to go")


# ---- s05: slow consumers

def test_s05_a_slow_consumer_gets_no_more_than_its_window_and_memory_stays_flat(home):
    home.streams(("events", "max_stored_bytes = -1L;"))
    home.broker(program=RELEASE / "broker")  # sanitizers have a memory of their own

    def rss():
        return int(pathlib.Path(f"/proc/{home.broker_process.pid}/statm").read_text().split()[1]) * 4096

    with peer(home) as p, peer(home) as slow:
        p.publish(STREAM, bodies(100, 0, 1000))
        slow.subscribe(STREAM, "consume", messages=20, size=1 << 20)
        assert len(slow.take(20)) == 20
        before, sent = rss(), 0
        while sent < 100000:
            rs = [p.post(STREAM, bodies(500, sent, 1000)) for _ in range(10)]
            for r in rs:
                p.answer(r)
            sent += 5000
        assert slow.take(1, timeout=0.2) == [], "its window is full"
        assert rss() - before < 30 << 20, f"{(rss() - before) >> 20} MB more for 100 MB that wait"
        slow.subscribe(STREAM, "consume", messages=21, size=1 << 20)
        assert len(slow.take(1)) == 1, "one more is one more"


def test_s05_a_window_in_bytes(home):
    home.streams("events")
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, bodies(10, 0, 1000))
        p.subscribe(STREAM, "consume", messages=100, size=3500)
        got = p.take(3)
        assert len(got) == 3 and p.take(1, timeout=0.2) == []
        p.ack(got[:1])
        assert len(p.take(1)) == 1


def when_not_busy(publish):
    """What is under way to Kafka is bounded."""
    def once():
        try:
            return publish()
        except Refused as e:
            assert e.code == "busy" and IN_KAFKA, e
    return until(once, every=0.05, what="room on the way to Kafka")


def test_s05_who_never_reads_its_answers_is_not_listened_to_until_it_does(home):
    home.streams("events")
    home.broker()
    with peer(home, rcvhwm=10, sndhwm=0) as deaf, peer(home) as p:
        for i in range(60000):
            deaf.post(STREAM, [b"x"], 9, i + 1)
        until(lambda: '"deaf"' in (home.base / "broker.err").read_text(), home.base, what="the broker's word")
        assert when_not_busy(lambda: p.publish(STREAM, [b"quick"]))[1] == 1, "others are served"
        confirmed, unheard, pongs = 0, 0, 0
        while pongs < 2:
            answer = deaf.receive(timeout=0.3)
            if answer is None:
                deaf.send(header(1, 0, 1))
                continue
            verb, _, request, frames = answer
            pongs += verb == PONG
            confirmed += verb == CONFIRM
            if verb == REFUSED:
                assert frames[0] == b"busy" and (request == 0 or IN_KAFKA)
                unheard += 1 if request else int(frames[2].split()[0])
        assert confirmed and unheard
        for i in range(0, 60000, 1000):  # sent again, all of it: what was stored is known
            when_not_busy(lambda first=i + 1: deaf.publish(STREAM, [b"x"] * 1000, 9, first))
    until(lambda: home.queue()["ready"] == 60001, home.path / "state", what=lambda: f"each one once: {home.queue()}")


@pytest.mark.parametrize("how", ["flipped", "cut"])
def test_a_damaged_store_costs_what_was_hit_and_says_so(home, how):
    home.streams("events", "other")
    home.broker()
    with peer(home) as p:
        for i in range(100):
            p.publish(STREAM, bodies(10, i * 10, 100))
        p.publish("acme/other", [b"safe"]) if how == "flipped" else None
    home.stop_broker()
    segment = sorted((home.path / "state/broker").glob("*.seg"))[0]
    data = bytearray(segment.read_bytes())
    at = data.index(b"m500.")
    if how == "flipped":
        data[at + 2] ^= 4
    segment.write_bytes(data if how == "flipped" else data[:at])
    home.broker()
    log = (home.base / "broker.err").read_text()
    assert "store_damaged" in log and (home.path / "state/broker/damaged").is_dir()
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=5000)
        n = 990 if how == "flipped" else 500
        got = p.take(n)
        assert [m.body for m in got] == [b for i, b in enumerate(bodies(1000, 0, 100)) if not 500 <= i < 510][:n]
        p.ack(got)
        assert p.publish(STREAM, [b"on"])[1] == 1
        assert p.take()[0].body == b"on"
    assert home.queue()["lost"] == (10 if how == "flipped" else 500)


def test_publish_by_command(home):
    home.streams(("events", "max_message_bytes = 100; max_messages_per_request = 50; max_messages_per_s = 5000;"))
    r = home.cli("publish", STREAM, check=False, input="x\n")
    assert r.returncode == 1 and "no broker is running" in r.stderr
    home.broker()
    lines = home.base / "lines"
    lines.write_text("".join(f"line {i}\n" for i in range(7000)) + "no end of line")
    r = home.cli("publish", STREAM, lines)
    assert r.stdout.startswith("7001 messages confirmed; requests were refused for a while ") and "max_messages_per_s is 5000" in r.stderr
    csv = home.base / "rows.csv"
    csv.write_text('id,name,when\n1,"a, b",2024-01-01\n2,,\n3\n')
    r = home.cli("publish", STREAM, "--csv", csv, "--json", check=False)
    figures = json.loads(r.stdout)
    assert r.returncode == 1 and "rows.csv:4:" in r.stderr and figures.pop("deferred") >= 0
    assert figures == {"confirmed": 2, "unconfirmed": 0, "refused": 1}
    r = home.cli("publish", STREAM, check=False, input="short\n" + "x" * 101 + "\nlast\n")
    assert r.returncode == 1 and "-:2:" in r.stderr and "max_message_bytes of the stream is 100" in r.stderr and "2 messages confirmed" in r.stdout
    for name, text in (("acme/nothing", "no stream"), ("nobody/events", "no stream")):
        r = home.cli("publish", name, check=False, input="x\n")
        assert r.returncode == 1 and "unknown" in r.stderr and text in r.stderr, r
    assert home.cli("publish", "events", check=False, input="x\n").returncode == 2
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=10000)
        got = [m.body.decode() for m in p.take(7005)]
        assert sorted(got[:7001]) == sorted(lines.read_text().split("\n")) and got[7003:] == ["short", "last"]
        assert [json.loads(t) for t in got[7001:7003]] == [{"id": 1, "name": "a, b", "when": "2024-01-01"},
                                                           {"id": 2, "name": None, "when": None}]
    # over kills of the broker: each line once
    more = home.base / "more"
    more.write_text("".join(f"more {i}\n" for i in range(20000)))
    p = subprocess.Popen([BUILD / "mysimbdp", "publish", STREAM, more], env=home.env, stdout=subprocess.PIPE, text=True)
    for aim in (9000, 15000, 22000):
        until(lambda: home.queue()["last_seq"] > aim, home.path / "state", every=0.02)
        home.stop_broker(kill=True)
        home.broker()
    assert p.communicate(timeout=60)[0].startswith("20000 messages confirmed") and p.returncode == 0
    assert home.queue()["last_seq"] == 27005


def test_the_programs_of_the_wire_page_as_they_stand_there(home, tmp_path):
    programs = re.findall(r"```python\n(.*?)```", (ROOT / "docs/wire.md").read_text(), re.S)
    publisher, taker = tmp_path / "publisher.py", tmp_path / "consumer.py"
    publisher.write_text(programs[0])
    taker.write_text(programs[1])
    assert len(programs) == 2 and all(len(p.splitlines()) <= 24 for p in programs)
    home.streams(("events", "max_messages_per_s = 100;"))
    home.broker()
    c = subprocess.Popen(["/usr/bin/python3", taker, home.endpoint, STREAM, "consume"], stdout=subprocess.PIPE, text=True)
    p = subprocess.Popen(["/usr/bin/python3", publisher, home.endpoint, STREAM], stdin=subprocess.PIPE, text=True)
    p.stdin.write("".join(f"line {i}\n" for i in range(150)))
    p.stdin.flush()
    got = [c.stdout.readline() for _ in range(75)]
    home.stop_broker(kill=True)
    home.broker()
    p.stdin.write("".join(f"line {i}\n" for i in range(150, 200)))
    p.stdin.close()
    assert p.wait(timeout=60) == 0
    while len(set(got)) < 200:
        got.append(c.stdout.readline())
    c.kill()
    c.wait()
    assert set(got) == {f"line {i}\n" for i in range(200)}
    r = subprocess.run(["/usr/bin/python3", publisher, home.endpoint, "acme/nothing"], input="x\n", capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and r.stderr.startswith("unknown: "), r


@pytest.mark.timing
def test_idle_streams_cost_nothing_to_speak_of(home):
    names = [f"s{i}" for i in range(100)]
    home.streams(*names)
    home.broker(program=RELEASE / "broker")
    with peer(home) as p:
        p.subscribe("acme/s0", "consume")

        def cpu():
            fields = pathlib.Path(f"/proc/{home.broker_process.pid}/stat").read_text().rsplit(")", 1)[1].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        before, began = cpu(), time.monotonic()
        assert p.take(1, timeout=5) == []
        assert (cpu() - before) / (time.monotonic() - began) < 0.01
