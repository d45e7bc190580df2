"""Streams in Kafka while nodes of it, our broker and what stands between are killed, stand still or are taken away: each message that was
confirmed is there once."""
import json
import os
import random
import signal
import subprocess
import time

import pymongo
import pytest
from harness import RELEASE, ROOT, Home, until
from kafka import queue, wait_open
from kafka_load import STREAM, assert_all_once
from wire import Refused, bodies, peer

pytestmark = pytest.mark.anyone


def test_a_leader_is_killed_under_load_and_comes_back(kafka_home, kafka, load):
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.kill(leader)
    p.wait(p.sent + 400)
    assert kafka.leader(home.topic) not in (None, leader)
    kafka.start(leader)
    kafka.wait_up()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_a_leader_stands_still(kafka_home, kafka, load):
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.signal(leader, signal.SIGSTOP)
    p.wait(p.sent + 400)
    kafka.signal(leader, signal.SIGCONT)
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_all_nodes_are_down(kafka_home, kafka, load):
    """Nothing is confirmed; what was is delivered; publishers and the operator are told."""
    home = kafka_home()
    with peer(home) as a:
        a.publish(STREAM, bodies(20), 77, 1)
        until(lambda: queue(home)["ready"] == 20, home.path / "state", what="the messages")
        for i in kafka.ports:
            kafka.kill(i)
        p = load(home, sent=20)
        until(lambda: any(code == "full" and "Kafka" in text for code, text in p.refusals), home.base, what="the refusal")
        assert p.sent == 20
        a.subscribe(STREAM, "consume")
        got = a.take(20)
        assert [m.body for m in got] == bodies(20) and a.ack(got[:10]) == 10
    assert "Kafka" in queue(home)["kafka"]
    said = home.cli("doctor", check=False).stdout
    assert "acme/events" in said and "look whether Kafka's nodes run" in said
    for i in kafka.ports:
        kafka.start(i)
    kafka.wait_up()
    p.wait(60)
    sent = p.stop()
    with peer(home) as a:
        a.subscribe(STREAM, "consume")
        got = []
        while len(got) < sent - 10:  # those that were held come one by one
            more = a.take(1, timeout=20)
            assert more, (len(got), sent, queue(home))
            a.ack(more)
            got += more
        assert sorted(int(m.body[1:]) for m in got)[:sent - 10] == list(range(10, sent))


@pytest.mark.soak
def test_too_few_nodes_confirm_nothing(kafka_home, kafka):
    """One of three is left: min.insync.replicas is 2."""
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(1), 7, 1)
        leader = kafka.leader(home.topic)
        others = [i for i in kafka.ports if i != leader]
        for i in others:
            kafka.kill(i)
        request = p.post(STREAM, bodies(1, start=1), 7, 2)
        until(lambda: queue(home)["kafka"], home.path / "state", what="that it is told")
        with pytest.raises(Refused, match="full"):
            for _ in range(100):
                p.publish(STREAM, bodies(1, start=1), 7, 3)
        for i in others:
            kafka.start(i)
        kafka.wait_up()
        end = time.monotonic() + 60
        while True:
            try:
                assert time.monotonic() < end
                assert sum(p.publish(STREAM, bodies(1, start=1), 7, 2)[1:]) == 1
                break
            except Refused as e:
                assert e.code == "full", e
        assert request
        p.subscribe(STREAM, "consume")
        until(lambda: queue(home)["ready"] + queue(home)["leased"] == queue(home)["published"], home.path / "state", what="the messages")
        assert [m.body for m in p.take(2)][:2] == bodies(2)


def test_a_topic_is_deleted_under_load(kafka_home, kafka, load):
    """What was here is delivered, what comes next is of another epoch, and what was confirmed and is nowhere is counted."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    assert kafka.delete_topic(home.topic)
    p.wait(p.sent + 400)
    sent = p.stop()
    with peer(home) as c:
        c.subscribe(STREAM, "consume", messages=100000, size=64 << 20)
        got = []
        until(lambda: got.extend(c.take(1, timeout=1)) or len(got) + queue(home)["lost"] >= sent, home.base, what=lambda: f"{sent} messages, {len(got)} came: {queue(home)}")
        found = {int(m.body[1:]) for m in got}
        lost = queue(home)["lost"]
        assert len(found) == len(got) and len(set(range(sent)) - found) <= lost, (sent, len(got), lost)
        assert len({m.epoch for m in got}) == 2 and len({m.seq for m in got}) == len(got)
    assert "begins anew" in (home.base / "broker.err").read_text()


@pytest.mark.parametrize("program", ["broker", pytest.param("simbdp-kafka", marks=pytest.mark.soak)])
def test_our_programs_are_killed_under_load(kafka_home, kafka, load, program):
    home = kafka_home()
    p = load(home)
    for _ in range(4):
        p.wait(p.sent + 200)
        if program == "broker":
            home.stop_broker(kill=True)
            home.broker()
        else:
            pid, = home.pids("simbdp-kafka")
            os.kill(pid, signal.SIGKILL)
            until(lambda: home.pids("simbdp-kafka") not in ([], [pid]), home.base, what="another one")
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())
    assert len(home.pids("simbdp-kafka")) == 1


PUBLISHER = """
import sys, simbdp
with simbdp.Publisher("events") as p:
    for i in range(int(sys.argv[1])):
        p.publish('{"n":%d}' % i)
print("all")
"""


@pytest.mark.parametrize("messages", [10_000, pytest.param(200_000, marks=pytest.mark.soak)])
def test_every_message_is_in_mongodb_once(kafka, messages):
    """A node of Kafka's, our broker, what is between them and an instance are killed all the while."""
    home = Home(platform=f'kafka = {{ brokers = "{kafka.brokers}"; prefix = "{kafka.next_prefix()}"; }};', own_mongo=True)
    try:
        once(home, kafka, messages)
    finally:
        kafka.mend()
        home.cleanup()


def once(home, kafka, messages):
    rng = random.Random(1)
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    (home.path / "conf/tenants/acme.conf").write_text(
        'datasets = ( { name = "data"; format = "json"; } ); streams = ( { name = "events"; store = "kafka"; lease_ms = 5000; } );\n'
        'stream_apps = ( { app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "data"; min_instances = 2; max_instances = 2; } );\n')
    home.up()
    wait_open(home)
    url = json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"]
    rows = pymongo.MongoClient(url, retryReads=True).acme.data
    env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_TENANT_ID": "acme", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"),
           "PYTHONPATH": str(ROOT / "clientlib/python")}
    publisher = subprocess.Popen(["/usr/bin/python3", "-c", PUBLISHER, str(messages)], env=env, stdout=subprocess.PIPE, text=True)
    kinds, began, kills = ["node", "broker", "simbdp-kafka", "simbdp-load"], time.monotonic(), 0
    try:
        while publisher.poll() is None or rows.estimated_document_count() < messages or kills < len(kinds):
            assert time.monotonic() - began < 240 + messages / 500, (queue(home), rows.estimated_document_count())
            at, kind = time.monotonic(), kinds[kills % len(kinds)]
            if kind == "node":
                i = rng.choice(list(kafka.ports))
                kafka.kill(i)
                kafka.start(i)
            else:
                for pid in home.pids(kind)[:1]:
                    os.kill(pid, signal.SIGKILL)
            kills += 1
            until(lambda: time.monotonic() - at >= 2, home.base, what="the next time", every=0.2)
        assert publisher.communicate()[0].strip() == "all"
        until(lambda: home.cli("queue", "list", check=False).returncode == 0, home.path / "state", what="the broker")
        until(lambda: queue(home)["ready"] + queue(home)["leased"] == 0, home.path / "state", what="an empty queue")
        assert queue(home)["dead"] == 0, home.rows("dead", "list")
    finally:
        publisher.kill()
        publisher.wait()
        publisher.stdout.close()
    seen = bytearray(messages)
    for d in rows.find({}, {"_id": 0, "n": 1}):
        seen[d["n"]] += 1
    assert seen.count(1) == messages, (seen.count(0), [i for i, n in enumerate(seen) if n != 1][:5])
    print(f"{messages} messages, {kills} kills, {time.monotonic() - began:.0f} s")
