"""The network between Kafka's nodes, and between us and them, is cut while a publisher and instances work, silently, as by a cable behind a
switch: each message that was confirmed is there once, nothing is confirmed that is not stored, and all goes on by itself."""
import pytest
from harness import until
from kafka import queue
from kafka_lan import US, Lan
from kafka_load import STREAM, assert_all_once
from wire import bodies, peer

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]
KAFKA = Lan


def others(kafka, i):
    return [j for j in kafka.ports if j != i]


def elected(kafka, topic, old):
    """The leader that the others know."""
    def ask():
        for i in others(kafka, old):
            m = kafka.metadata(i, [topic])
            parts = m and m[1][topic][1]
            if parts and parts[0][2] not in (-1, old):
                return parts[0][2]
        return None
    return until(ask, timeout=60, what="another leader")


def told(p, home, text="Kafka"):
    """Publishers are refused, in words."""
    def look():
        assert not p.error, p.error
        return any(code == "full" and text in why for code, why in p.refusals)
    until(look, home.base, timeout=60, what=lambda: f"the refusal: {p.refusals[-3:]}, {queue(home)}")


def test_a_leader_is_cut_off_from_the_other_nodes(kafka_home, kafka, load):
    """It still hears us, and believes for a while that it leads. What it takes then has one copy, and is not confirmed."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.cut([leader], others(kafka, leader))
    assert elected(kafka, home.topic, leader)
    p.wait(p.sent + 400)
    kafka.join()
    kafka.wait_up()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


def test_we_are_cut_off_from_all_nodes(kafka_home, kafka, load):
    home = kafka_home()
    with peer(home) as a:
        a.publish(STREAM, bodies(20), 77, 1)
        until(lambda: queue(home)["ready"] == 20, home.path / "state", what="the messages")
        kafka.cut([US], kafka.ports)
        p = load(home, sent=20)
        told(p, home)
        assert p.sent == 20
        a.subscribe(STREAM, "consume")
        got = a.take(20)  # what is here is delivered, and done, meanwhile
        assert [m.body for m in got] == bodies(20) and a.ack(got) == 20
    assert "Kafka" in queue(home)["kafka"]
    kafka.join()
    p.wait(220)
    assert_all_once(home, p.stop(), start=20)


@pytest.mark.soak
def test_only_we_are_cut_off_from_the_leader(kafka_home, kafka, load):
    """For Kafka it leads, so there is no other one: publishers are refused for as long."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.cut([US], [leader])
    told(p, home)
    sent = p.sent
    assert kafka.metadata(others(kafka, leader)[0], [home.topic])[1][home.topic][1][0][2] == leader
    assert p.sent <= sent + p.n, "confirmed by whom?"
    kafka.join()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_answers_of_the_leader_do_not_reach_us(kafka_home, kafka, load):
    """One direction only: what is sent is stored, and nobody hears of it. It is sent again, and stored once."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    leader = kafka.leader(home.topic)
    kafka.cut_way(leader, US)
    told(p, home)
    kafka.join()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_every_node_is_alone(kafka_home, kafka, load):
    """No two of them hear each other: nothing can be stored twice, so nothing is confirmed."""
    home = kafka_home()
    p = load(home)
    p.wait(200)
    for i in kafka.ports:
        kafka.cut([i], others(kafka, i))
    told(p, home)
    kafka.join()
    kafka.wait_up()
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())


@pytest.mark.soak
def test_cuts_that_come_and_go(kafka_home, kafka, load):
    """The leader of the moment, again and again, and our broker is killed in one of them."""
    home = kafka_home()
    p = load(home)
    for turn in range(4):
        p.wait(p.sent + 200)
        leader = kafka.leader(home.topic)
        kafka.cut([leader], others(kafka, leader) + ([US] if turn % 2 else []))
        if turn == 2:
            home.stop_broker(kill=True)
            home.broker()
        elected(kafka, home.topic, leader)
        p.wait(p.sent + 200)
        kafka.join()
        kafka.wait_up()
    assert_all_once(home, p.stop())
