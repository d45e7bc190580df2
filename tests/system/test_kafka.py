"""Streams that are kept in Kafka (docs/kafka.md), on three nodes of it: what publishers, apps and the operator see."""
import json
import os
import shutil
import signal
import subprocess
import threading

import pytest
from harness import until
from kafka import queue, wait_open
from kafka_load import there_and_back, take_all
from wire import Peer, Refused, bodies, peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def test_a_message_goes_there_and_comes_from_there(kafka_home, kafka):
    home = kafka_home()
    with peer(home) as p:
        assert p.publish(STREAM, bodies(3), 7, 1, traces=TRACE) == (1, 3, 0)
        assert p.publish(STREAM, bodies(1000, start=3), 7, 4) == (4, 1000, 0)
        p.subscribe(STREAM, "consume", messages=2000, wants=1)
        got = take_all(p, 1003)
        assert [(m.seq, m.body) for m in got] == list(zip(range(1, 1004), bodies(1003)))
        assert got[0].traceparent and not got[3].traceparent
        assert p.publish(STREAM, bodies(5, start=1000), 7, 1001) == (1004, 2, 3)  # three of them again
        assert [m.body for m in take_all(p, 2)] == bodies(2, start=1003)
        assert p.ack(got) == 1003
    (_, leader, replicas, isr), = kafka.topic(home.topic)
    assert sorted(replicas) == [1, 2, 3] and leader in isr and len(isr) >= 2
    until(lambda: (kafka.committed(f"{home.topic}.consume", home.topic) or (0,))[0] == 1003, home.path / "state", what="the offset")
    q = queue(home)
    assert (q["published"], q["acked"], q["lost"], q["store"], q["topic"]) == (1005, 1003, 0, "kafka", home.topic)
    listed = home.queue()
    assert (listed["store"], listed["topic"], listed["kafka"]) == ("kafka", home.topic, None)


def test_spans_are_told_of_what_was_confirmed(kafka_home, kafka):
    home = kafka_home(more='otlp = { url = "http://127.0.0.1:1"; };')
    spans = home.path / "logs/tenants/acme/spans.jsonl"
    with peer(home) as p:
        p.subscribe(STREAM, "consume", wants=1)
        way, = home.pids("simbdp-kafka")
        os.kill(way, signal.SIGSTOP)
        request = p.post(STREAM, bodies(1), 7, 1, TRACE)
        until(lambda: queue(home)["kafka"], home.path / "state", what="that it waits")
        os.kill(way, signal.SIGKILL)
        with pytest.raises(Refused, match="full"):
            p.answer(request)
        wait_open(home)
        assert p.publish(STREAM, bodies(2), 7, 1, traces=TRACE)[1:] == (2, 0)
        got = take_all(p, 2)
        p.ack(got)

        def told():
            return [s for s in (json.loads(line) for line in spans.read_text().splitlines()) if s["name"] == "publish"] if spans.exists() else []
        until(told, home.path / "logs", what="the span")
        span, = told()
        assert span["messages"] == 2 and span["stream"] == "events" and span["own"] != TRACE and span["own"][:36] == TRACE[:36], span
        assert {m.traceparent for m in got} == {span["own"]}, "an app's work belongs below it"


def test_what_is_done_is_given_up(kafka_home, kafka):
    home = kafka_home("dedup_window_s = 0;")
    with peer(home) as p:
        p.publish(STREAM, bodies(10))
        p.subscribe(STREAM, "consume")
        got = take_all(p, 10)
        assert kafka.first_offset(home.topic) == 0
        p.ack(got[:4] + got[6:])
        until(lambda: kafka.first_offset(home.topic) == 4, home.path / "state", what=lambda: f"records to go: {kafka.first_offset(home.topic)}")
        p.ack(got[4:6])
        until(lambda: kafka.first_offset(home.topic) == 10, home.path / "state", what=lambda: f"records to go: {kafka.first_offset(home.topic)}")


def test_limits_are_those_of_every_stream(kafka_home):
    home = kafka_home("max_message_bytes = 2000000; max_messages_per_request = 10; max_stored_bytes = 6000000L;")
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=0)
        with pytest.raises(Refused, match="size"):
            p.publish(STREAM, [b"x" * 2000001])
        with pytest.raises(Refused, match="quota"):
            p.publish(STREAM, bodies(11))
        for i in range(3):
            p.publish(STREAM, [bytes([i]) * 1999000], 7, i + 1)
        until(lambda: queue(home)["ready"] == 3, home.path / "state", what="the messages")
        with pytest.raises(Refused, match="full.*max_stored_bytes"):
            p.publish(STREAM, [b"x" * 1000000])
        assert queue(home)["refused"] == 3
        p.subscribe(STREAM, "consume", messages=10, size=10 << 20)
        got = take_all(p, 3)
        assert [m.body for m in got] == [bytes([i]) * 1999000 for i in range(3)] and p.ack(got) == 3
        until(lambda: queue(home)["stored_bytes"] == 0, home.path / "state", what="the room")
        assert p.publish(STREAM, [b""] * 3, 7, 4)[1:] == (3, 0)


def test_dead_letters_are_listed_and_replayed(kafka_home, kafka):
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(3))
        p.subscribe(STREAM, "consume")
        got = take_all(p, 3)
        assert p.nack(got[1:2], 0xffffffff, "no good") == 1 and p.ack(got[::2]) == 2
        dead, = home.rows("dead", "list", "acme/events")
        assert (dead["seq"], dead["reason"]) == (2, "no good")
        # Whoever has to begin there finds it, and not its neighbours.
        until(lambda: kafka.committed(f"{home.topic}.consume", home.topic) == (1, "2-2,"), home.path / "state", what="the offset")
        home.cli("dead", "replay", "acme/events", "--all")
        again, = take_all(p, 1)
        assert (again.seq, again.body) == (2, b"m1") and p.ack([again]) == 1


def test_another_machine_takes_up_what_is_there(kafka_home, kafka):
    """Our store is gone. What was acknowledged does not come again, beyond the first that was not, too; the rest has the same _id."""
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(20), 7, 1)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 20)
        assert p.ack(got[:5] + got[10:15]) == 10
    until(lambda: kafka.committed(f"{home.topic}.consume", home.topic) == (5, "10-14,"), home.path / "state", what="the offset")
    home.stop_broker(kill=True)
    shutil.rmtree(home.path / "state/broker")
    (home.path / "state/broker.mark").unlink()
    home.broker()
    wait_open(home)
    with peer(home) as p:
        p.subscribe(STREAM, "consume")
        again = take_all(p, 10)
        assert [(m.epoch, m.seq, m.body) for m in again] == [(m.epoch, m.seq, m.body) for m in got[5:10] + got[15:]]
        assert p.publish(STREAM, bodies(21), 7, 1) == (21, 1, 20)  # its numbers are known, of acknowledged messages, too
        assert p.ack(again + take_all(p, 1)) == 11
    assert (queue(home)["ready"], queue(home)["lost"]) == (0, 0)


def test_a_topic_that_keeps_no_promise_is_refused(kafka_home, kafka):
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(1), 7, 1)
        assert "ok" in [line for line in home.cli("doctor", check=False).stdout.splitlines() if "acme/events" in line][0]
        kafka.alter_topic(home.topic, "min.insync.replicas", "1")

        def noticed():  # every 30 s, and with each reload
            home.control({"op": "reload"}, "broker.sock")
            return "min.insync.replicas = 1" in (queue(home)["kafka"] or "")
        until(noticed, home.path / "state", what=lambda: f"the refusal: {queue(home)}")
        with pytest.raises(Refused, match="full.*min.insync.replicas = 1"):
            p.publish(STREAM, bodies(1), 7, 2)
        said = home.cli("doctor", check=False).stdout
        assert "min.insync.replicas = 1" in said and "kafka-configs" in said
        kafka.alter_topic(home.topic, "min.insync.replicas", "2")
        wait_open(home)
        assert p.publish(STREAM, bodies(2), 7, 1) == (2, 1, 1)


def test_there_have_to_be_as_many_nodes(kafka_home):
    home = kafka_home("replicas = 5;", broker=False)
    home.broker()
    until(lambda: "has not as many nodes as `replicas` says (5)" in (queue(home)["kafka"] or ""), home.path / "state", what=lambda: f"the refusal: {queue(home)}")
    with peer(home) as p, pytest.raises(Refused, match="full.*replicas"):
        p.publish(STREAM, bodies(1))


def test_anothers_topic_is_refused(kafka_home, make_home, kafka):
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(1), 7, 1)
    other = make_home(platform=f'kafka = {{ brokers = "{kafka.brokers}"; prefix = "{kafka.prefix}"; }};')
    other.streams("events")
    other.broker()
    with peer(other) as p:
        p.publish(STREAM, bodies(1), 7, 1)
    other.streams(("events", 'store = "kafka";'))
    other.control({"op": "reload"}, "broker.sock")
    until(lambda: "another home" in (queue(other)["kafka"] or ""), other.path / "state", what="the refusal")
    assert queue(home)["kafka"] is None


def test_another_prefix_is_not_taken_by_itself(kafka_home, kafka):
    home = kafka_home()
    before, conf = kafka.prefix, home.path / "conf/mysimbdp.conf"
    text = conf.read_text()

    def configure(prefix, more=""):
        conf.write_text(text.replace(f'prefix = "{before}";', f'prefix = "{prefix}"; {more}'))
    with peer(home) as p:
        p.publish(STREAM, bodies(5), 7, 1)
        until(lambda: queue(home)["ready"] == 5, home.path / "state", what="the messages")
        configure(kafka.next_prefix())
        home.control({"op": "reload"}, "broker.sock")
        assert p.publish(STREAM, bodies(1, start=5), 7, 6)[1:] == (1, 0)  # it is open
    home.stop_broker()
    home.broker()
    until(lambda: "kafka.prefix_before" in (queue(home)["kafka"] or ""), home.path / "state", what=lambda: f"the refusal: {queue(home)}")
    with peer(home) as p:
        def refused():
            with pytest.raises(Refused, match="full.*Kafka") as e:
                p.publish(STREAM, bodies(1, start=6), 7, 7)
            return "kafka.prefix_before" in str(e.value)
        until(refused, home.base, what="the refusal")
        until(lambda: f'set kafka.prefix_before = "{before}"' in home.cli("doctor", check=False).stdout, home.path / "state", what="what doctor says")
        configure(before)
        home.control({"op": "reload"}, "broker.sock")
        wait_open(home)
        assert p.publish(STREAM, bodies(1, start=6), 7, 7)[1:] == (1, 0)
        until(lambda: queue(home)["ready"] == 7, home.path / "state", what="the messages")
        configure(kafka.prefix, 'prefix_before = "wrong";')
        home.control({"op": "reload"}, "broker.sock")
        assert queue(home)["topic"] == home.topic
        configure(kafka.prefix, f'prefix_before = "{before}";')
        home.control({"op": "reload"}, "broker.sock")
        until(lambda: queue(home)["topic"] == f"{kafka.prefix}.acme.events" and not queue(home)["kafka"], home.path / "state", what=lambda: f"the new one: {queue(home)}")
        assert p.publish(STREAM, bodies(1, start=7), 7, 8)[1:] == (1, 0)
        p.subscribe(STREAM, "consume")
        got = take_all(p, 8)
        assert [m.body for m in got] == bodies(8) and p.ack(got) == 8 and queue(home)["lost"] == 0
        # Where nothing is in Kafka any more, any prefix is as good as another.
        home.streams("events")
        home.control({"op": "reload"}, "broker.sock")
        until(lambda: queue(home)["store"] == "local" and not (home.path / "state/broker/kafka-prefix").exists(), home.path / "state", what="the move")
        configure(kafka.next_prefix())
        home.streams(("events", 'store = "kafka";'))
        home.control({"op": "reload"}, "broker.sock")
        until(lambda: queue(home)["topic"] == f"{kafka.prefix}.acme.events" and not queue(home)["kafka"], home.path / "state", what=lambda: f"the topic: {queue(home)}")


def test_a_stream_moves_there_and_back_while_it_works(kafka_home, kafka):
    home = kafka_home(broker=False)
    home.streams("events")
    home.broker()
    stop, sent = threading.Event(), []

    def publish():
        with Peer(home.endpoint) as p:
            while not stop.is_set():
                try:
                    assert sum(p.publish(STREAM, bodies(10, start=len(sent)), 9, len(sent) + 1)[1:]) == 10
                    sent.extend(range(10))
                except Refused as e:
                    assert e.code in ("busy", "full"), e
                    stop.wait(e.retry_after_ms / 1000)
    got = there_and_back(home, publish, stop, lambda: len(sent))
    assert [m.body for m in got] == bodies(len(sent))
    assert len({m.epoch for m in got}) == 1 and [m.seq for m in got] == sorted({m.seq for m in got})


def test_what_check_says(make_home):
    home = make_home(platform='kafka = { brokers = "a:1"; };')
    conf = home.path / "conf/mysimbdp.conf"
    text = conf.read_text()

    def refusal():
        r = home.cli("check", check=False)
        assert r.returncode, r.stdout
        return r.stdout + r.stderr
    home.streams(("events", 'store = "kafka"; replicas = 2;'))
    assert "replicas" in refusal()
    home.streams(("events", 'store = "kafka"; max_message_bytes = 16000000;'))
    assert "streams.max_message_bytes" in refusal()
    home.streams(("events", 'store = "kafka"; shared = true;'))
    assert "kafka.member" in refusal()
    home.streams(("events", "shared = true;"))
    assert "streams.shared" in refusal()
    home.streams(("events", 'store = "kafka"; partitions = 65;'))
    assert "partitions" in refusal()
    home.streams(("events", 'store = "kafka";'))
    home.cli("check")
    for kafka, key in (('brokers = "";', "streams.store"), ('brokers = "nowhere";', "kafka.brokers"), ('brokers = "a:1,";', "kafka.brokers"),
                       ('brokers = "a:1"; prefix = "a b";', "kafka.prefix"), ('brokers = "a:1"; member = "a b";', "kafka.member"), ('brokers = "a:1"; properties_file = "x";', "kafka.properties_file")):
        conf.write_text(text.replace('brokers = "a:1";', kafka))
        assert key in refusal(), kafka


def test_settings_for_tls_and_sasl(make_home, kafka):
    """Only what says who we are; a file that others may read is not taken. What is set is used: these nodes speak no TLS."""
    home = make_home()
    settings = home.base / "kafka.properties"
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", f'platform = {{ kafka = {{ brokers = "{kafka.brokers}"; properties_file = "{settings}"; }};'))
    home.streams(("events", 'store = "kafka";'))
    settings.write_text("acks=1\n")
    settings.chmod(0o644)
    home.broker()
    log = home.base / "broker.err"

    def says(text):
        until(lambda: text in log.read_text() and text.split(" (")[0] in (queue(home)["kafka"] or ""), home.base, what=lambda: f"{text}: {queue(home)['kafka']}")
    says("may be read by others")
    settings.chmod(0o600)
    says("acks cannot be set")
    settings.write_text("# ours\nsecurity.protocol=ssl\n")
    until(lambda: "SSL" in (queue(home)["kafka"] or ""), home.base, what=lambda: f"TLS: {queue(home)['kafka']}")
    said = home.cli("doctor", check=False).stdout
    assert "kafka.properties" in said and "acme/events" in said and "SSL" in said, said
    settings.write_text("security.protocol=plaintext\n")
    home.control({"op": "reload"}, "broker.sock")
    wait_open(home)


def test_nothing_of_it_runs_where_no_stream_asks_for_it(make_home):
    home = make_home(platform='kafka = { brokers = "127.0.0.1:1"; };')
    home.streams("events")
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, bodies(1))
    assert not home.pids("simbdp-kafka")
    broker = home.broker_process.pid
    assert "rdkafka" not in subprocess.run(["cat", f"/proc/{broker}/maps"], capture_output=True, text=True, check=True).stdout
