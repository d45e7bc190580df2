"""Streams with several partitions, on this machine and in Kafka: one stream to publishers and apps, each partition in its own order."""
import shutil
import subprocess
import threading

import pytest
from harness import RELEASE, ROOT, until
from kafka import queue, wait_open
from kafka_load import there_and_back, take_all
from wire import Peer, Refused, bodies, peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
PUBLISHERS = range(101, 113)


def part(m):
    return m.seq >> 40


def of(publisher, first, n):
    return [f"{publisher}:{i}".encode() for i in range(first, first + n)]


def publish_all(p, first, n):
    for publisher in PUBLISHERS:
        assert p.publish(STREAM, of(publisher, first, n), publisher, first)[1:] == (n, 0)


def assert_each_in_order(got, n):
    for publisher in PUBLISHERS:
        mine = [m for m in got if m.body.startswith(b"%d:" % publisher)]
        assert [m.body for m in mine] == of(publisher, 1, n) and len({part(m) for m in mine}) == 1
    assert len(got) == n * len(PUBLISHERS) and len({(m.epoch, m.seq) for m in got}) == len(got)


@pytest.fixture(params=["local", "kafka"])
def home(request, make_home):
    if request.param == "kafka":
        return request.getfixturevalue("kafka_home")("partitions = 4;")
    h = make_home()
    h.streams(("events", "partitions = 4;"))
    h.broker()
    return h


def test_a_publisher_stays_in_one_and_in_order(home):
    with peer(home) as p:
        publish_all(p, 1, 20)
        assert p.publish(STREAM, of(101, 15, 10), 101, 15)[1:] == (4, 6)  # six of them again
        p.subscribe(STREAM, "consume", messages=10)
        got = []
        while len(got) < 240 + 4:
            more = p.take(1)
            assert 0 < len(more) <= 10, "what it may hold is for all partitions together"
            assert p.ack(more) == len(more)
            got += more
        assert [m.body for m in got if m.body.startswith(b"101:")] == of(101, 1, 24)
        assert_each_in_order([m for m in got if m.body not in of(101, 21, 4)], 20)
        assert len({part(m) for m in got}) == 4
    q = queue(home)
    assert (q["published"], q["acked"], q["ready"], q["leased"], q["partitions"], q["last_seq"]) == (244, 244, 0, 0, 4, 244)
    assert home.queue()["partitions"] == 4


def test_one_window_and_one_ack_over_all(home):
    """A range may reach over partitions; what nobody acknowledged comes again, one by one where its consumer died."""
    with peer(home) as p:
        publish_all(p, 1, 5)
        with peer(home) as dies:
            dies.subscribe(STREAM, "consume", messages=1000)
            held = take_all(dies, 60)
        p.subscribe(STREAM, "consume", messages=1000)
        got, largest = [], 0
        while len(got) < 60:
            more = p.take(1)
            largest = max(largest, len(more))
            assert p.ack(more) == len(more)
            got += more
        assert largest <= 32 and {m.seq for m in got} == {m.seq for m in held} and all(m.deliveries == 2 for m in got)
        publish_all(p, 6, 1)
        got = take_all(p, 12)
        request = p.next_request()
        p.send(b"\x01\x05" + (1).to_bytes(2, "little") + request.to_bytes(4, "little"), (1).to_bytes(8, "little") + (2**64 - 1).to_bytes(8, "little"))
        assert int.from_bytes(p.answer(request)[1][0], "little") == 12
    assert queue(home)["ready"] + queue(home)["leased"] == 0


def test_dead_letters_are_those_of_the_stream(home):
    with peer(home) as p:
        publish_all(p, 1, 1)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 12)
        assert p.nack(got, 0xffffffff, "no good") == 12
        dead = home.rows("dead", "list", STREAM)
        assert [d["seq"] for d in dead] == sorted(m.seq for m in got) and {d["message"].encode() for d in dead} == {m.body for m in got}
        ids = [f"{d['seq']}.consume" for d in dead]
        page = home.control({"op": "dead", "tenant_id": "acme", "stream": "events", "cursor": ids[4], "limit": 3}, "broker.sock")
        assert [d["id"] for d in page["dead"]] == ids[5:8] and page["more"]
        assert home.control({"op": "dead_replay", "tenant_id": "acme", "stream": "events", "ids": ids[3:6]}, "broker.sock")["n"] == 3
        assert {m.seq for m in take_all(p, 3)} == {d["seq"] for d in dead[3:6]}
        assert home.control({"op": "dead_drop", "tenant_id": "acme", "stream": "events", "seq": dead[9]["seq"]}, "broker.sock")["n"] == 1
        assert queue(home)["dead"] == 8
        home.cli("dead", "replay", STREAM, "--all")
        assert len(take_all(p, 8)) == 8


def test_after_a_restart_all_is_as_it_was(home):
    with peer(home) as p:
        publish_all(p, 1, 5)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 60)
        p.ack(got[::2])
    home.stop_broker(kill=True)
    home.broker()
    wait_open(home)
    with peer(home) as p:
        p.subscribe(STREAM, "consume")
        again = take_all(p, 30)
        assert {(m.epoch, m.seq, m.body) for m in again} == {(m.epoch, m.seq, m.body) for m in got[1::2]}
        assert p.publish(STREAM, of(101, 1, 6), 101, 1)[1:] == (1, 5)


def test_more_partitions_and_never_fewer(home):
    """What was published keeps its name, and publishers that are known stay where they are."""
    def partitions(n):
        home.streams(("events", ('store = "kafka"; ' if queue(home)["store"] == "kafka" else "") + f"partitions = {n};"))
        home.control({"op": "reload"}, "broker.sock")
        wait_open(home)
    with peer(home) as p:
        publish_all(p, 1, 5)
        p.subscribe(STREAM, "consume")
        first = take_all(p, 60)
        partitions(8)
        publish_all(p, 6, 5)
        for publisher in range(1000, 1100):
            p.publish(STREAM, [b"new"], publisher, 1)
        got = take_all(p, 160)
        old = [m for m in got if m.body != b"new"]
        assert_each_in_order(first + old, 10)
        assert {part(m) for m in got if m.body == b"new"} == set(range(8))
        partitions(2)
        assert queue(home)["partitions"] == 8 and "cannot have fewer" in (home.base / "broker.err").read_text()
        assert p.ack(first + got) == 220
        publish_all(p, 11, 1)
        assert len({part(m) for m in take_all(p, 12)}) > 2


def test_a_key_says_which_partition(home):
    """The same for all publishers, and the one that Kafka's clients choose; numbers are told apart there."""
    keys = {b"21": -973932308, b"foobar": -790332482, b"abc": 479470107, b"a-little-bit-long-string": -985981536}
    with peer(home) as p:
        for n, key in enumerate(keys, 1):
            for publisher in (7, 8):
                assert p.publish(STREAM, [key + b"/%d" % n], publisher, n, key=key)[1:] == (1, 0)
        assert p.publish(STREAM, [b"21/1"], 7, 1, key=b"21", traces="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")[1:] == (0, 1)
        assert p.publish(STREAM, [b"foobar/2", b"foobar/9"], 8, 2, key=b"foobar")[1:] == (1, 1)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 9)
        assert {(m.body.split(b"/")[0], part(m)) for m in got} == {(k, (h & 0x7fffffff) % 4) for k, h in keys.items()}
        assert p.ack(got) == 9
        for bad in (b"", b"x" * 1025):
            with pytest.raises(Refused, match="protocol.*key"):
                p.publish(STREAM, [b"m"], 9, 1, key=bad)
    assert queue(home)["published"] == 9


KEYED = """
import sys, simbdp
with simbdp.Publisher("events") as p:
    for i in range(300):
        p.publish(f"{i % 5}/{i}", key=f"key-{i % 5}" if i % 7 else None)
    try:
        p.publish("x", key="k" * 1025)
    except simbdp.Error as e:
        print(e)
"""


def test_libsimbdp_sends_keys(home):
    env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_TENANT_ID": "acme", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"),
           "PYTHONPATH": str(ROOT / "clientlib/python")}
    said = subprocess.run(["/usr/bin/python3", "-c", KEYED], env=env, check=True, capture_output=True, text=True, timeout=120).stdout
    assert "a key of 1025 bytes" in said
    with peer(home) as p:
        p.subscribe(STREAM, "consume")
        got = take_all(p, 300)
        assert {m.body for m in got} == {b"%d/%d" % (i % 5, i) for i in range(300)} and p.ack(got) == 300
    where = {}
    for m in got:
        if int(m.body.split(b"/")[1]) % 7:
            where.setdefault(m.body[:1], []).append((part(m), int(m.body.split(b"/")[1])))
    assert all(len({x for x, _ in v}) == 1 and [n for _, n in v] == sorted(n for _, n in v) for v in where.values())
    assert len({v[0][0] for v in where.values()}) > 1


def test_another_machine_takes_all_of_them_up(kafka_home, kafka):
    home = kafka_home("partitions = 4;")
    with peer(home) as p:
        publish_all(p, 1, 10)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 120)
        done, left = got[:80], got[80:]
        assert p.ack(done) == 80
    assert len(kafka.topic(home.topic)) == 4

    def committed():
        return all(kafka.committed(f"{home.topic}.consume", home.topic, i) for i in range(4)) and \
            sum(kafka.committed(f"{home.topic}.consume", home.topic, i)[0] for i in range(4)) >= 80
    until(committed, home.path / "state", what="the offsets")
    home.stop_broker(kill=True)
    shutil.rmtree(home.path / "state/broker")
    (home.path / "state/broker.mark").unlink()
    home.broker()
    wait_open(home)
    with peer(home) as p:
        p.subscribe(STREAM, "consume")
        again = take_all(p, 40)
        assert {(m.epoch, m.seq, m.body) for m in again} == {(m.epoch, m.seq, m.body) for m in left}
        assert p.publish(STREAM, of(105, 1, 11), 105, 1)[1:] == (1, 10)
    assert (queue(home)["lost"], queue(home)["kafka"]) == (0, None)


def test_a_topic_with_more_is_refused(kafka_home, kafka):
    home = kafka_home("partitions = 3;")
    home.stop_broker(kill=True)
    shutil.rmtree(home.path / "state/broker")
    (home.path / "state/broker.mark").unlink()
    home.streams(("events", 'store = "kafka"; partitions = 2;'))
    home.broker()
    until(lambda: "has 3 partitions" in (queue(home)["kafka"] or ""), home.path / "state", what=lambda: f"the refusal: {queue(home)}")
    with peer(home) as p, pytest.raises(Refused, match="full.*3 partitions"):
        p.publish(STREAM, bodies(1), 7, 1)
    home.streams(("events", 'store = "kafka"; partitions = 3;'))
    home.control({"op": "reload"}, "broker.sock")
    wait_open(home)


def test_it_moves_there_and_back_while_it_works(kafka_home):
    home = kafka_home(broker=False)
    home.streams(("events", "partitions = 3;"))
    home.broker()
    stop, sent, errors = threading.Event(), dict.fromkeys(PUBLISHERS, 0), []

    def publish():
        try:
            with Peer(home.endpoint) as p:
                while not stop.is_set():
                    for publisher in PUBLISHERS:
                        try:
                            assert sum(p.publish(STREAM, of(publisher, sent[publisher] + 1, 5), publisher, sent[publisher] + 1)[1:]) == 5
                            sent[publisher] += 5
                        except Refused as e:
                            assert e.code in ("busy", "full"), e
                            stop.wait(e.retry_after_ms / 1000)
        except AssertionError as e:
            errors.append(e)
    got = there_and_back(home, publish, stop, lambda: sum(sent.values()), "partitions = 3;")
    assert not errors
    for publisher in PUBLISHERS:
        assert [m.body for m in got if m.body.startswith(b"%d:" % publisher)] == of(publisher, 1, sent[publisher])
    assert len({(m.epoch, m.seq) for m in got}) == len(got) == sum(sent.values())
