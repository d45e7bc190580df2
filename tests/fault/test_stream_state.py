"""state/broker damaged, deleted, or put back from a copy: what was confirmed and is gone is counted, and no message gets the _id of
another one."""
import json
import shutil
import signal
import subprocess

import pytest
from harness import BUILD, until
from wire import bodies, peer

pytestmark = pytest.mark.once

STREAM = "acme/events"
N, ACKED = 3000, 700


def segments(home):
    return sorted((home.path / "state/broker").glob("*.seg"))


def last_record(path, text):
    """Where the last record begins that has `text` in it."""
    return path.read_bytes().rindex(text)


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 4
    path.write_bytes(data)


def flip_last(home):
    flip(segments(home)[-1], last_record(segments(home)[-1], b"m2999."))


def flip_some(home):
    flip(segments(home)[1], segments(home)[1].read_bytes().index(b"m1500."))


def zero_end(home):
    """As a file system may that loses a page: no byte says that something was there."""
    path = segments(home)[-1]
    data = path.read_bytes()
    at = last_record(path, b"m2950.") & ~7
    path.write_bytes(data[:at - 65536] + bytes(len(data) - at + 65536))


def halve_last(home):
    path = segments(home)[-1]
    path.write_bytes(path.read_bytes()[:last_record(path, b"m2999.") // 2])


def empty_last(home):
    segments(home)[-1].write_bytes(b"")


def empty_some(home):
    segments(home)[1].write_bytes(b"")


def delete_last(home):
    segments(home)[-1].unlink()


def delete_some(home):
    segments(home)[1].unlink()


def delete_first(home):
    segments(home)[0].unlink()


def delete_all(home):
    for path in segments(home):
        path.unlink()


def delete_store(home):
    shutil.rmtree(home.path / "state/broker")


def lost_lines(home):
    return [e for e in home.stream_journal() if e["event"] == "lost"]


@pytest.mark.parametrize("how", ["clean", "killed"])
@pytest.mark.parametrize("damage", [flip_last, flip_some, zero_end, halve_last, empty_last, empty_some, delete_last, delete_some, delete_first, delete_all, delete_store])
def test_what_damage_took_is_counted_and_no_sequence_comes_again(home, damage, how):
    home.streams("events", "other", apps=("consume", "copy"))
    home.broker()
    with peer(home) as p:
        p.publish("acme/other", [b"x"])
        for at in range(0, N, 50):
            p.publish(STREAM, bodies(50, at, 1000), 7, at + 1)
        p.subscribe(STREAM, "consume", messages=N, size=64 << 20)
        assert p.ack(p.take(ACKED)[:ACKED]) == ACKED
    if how == "killed":
        until(lambda: home.queue()["leased"] == 0, home.path / "state", what="the consumer's end")
    home.stop_broker(kill=how == "killed")
    assert len(segments(home)) >= 3
    damage(home)
    home.broker()
    log = (home.base / "broker.err").read_text()
    assert "messages_lost" in log
    queues = {app: home.queue(app, stream="events") for app in ("consume", "copy")}
    got = {}
    with peer(home) as p:
        for app, q in queues.items():
            p.subscribe(STREAM, app, messages=N, size=64 << 20, consumer=len(got) + 1)
            got[app] = {m.seq: m for m in p.take(q["ready"] + q["leased"])}
            if got[app]:
                p.ack(list(got[app].values()), consumer=len(got))
            for seq, m in got[app].items():
                assert m.body == bodies(1, seq - 1, 1000)[0]
        # what is neither there nor was acknowledged is lost, to the message
        assert queues["copy"]["lost"] == N - len(got["copy"]) > 0
        assert queues["consume"]["lost"] == N - len(set(got["consume"]) | set(range(1, ACKED + 1)))
        assert {e["app"]: e["messages"] for e in lost_lines(home) if e["stream"] == "events" and e["app"]} == {a: q["lost"] for a, q in queues.items() if q["lost"]}
        assert p.publish(STREAM, [b"new"])[0] == N + 1
        new, = p.take(1)
        new2, = p.take(1)
        assert {new.seq, new2.seq} == {N + 1}
        before = {m.epoch for messages in got.values() for m in messages.values()}
        assert new.epoch != new2.epoch
        if damage not in (flip_some, empty_some, delete_some, delete_first):  # where the end is there, sequences go on
            assert not before & {new.epoch, new2.epoch}
    lines = len(lost_lines(home))
    home.stop_broker()
    home.broker()  # it is told once
    assert len(lost_lines(home)) == lines and home.queue(stream="events")["last_seq"] == N + 1


def test_kills_and_restarts_begin_no_epoch(home):
    home.streams("events", apps=("consume",))
    home.broker()
    epochs, sent = set(), 0
    for kill in (False, True, True, False, True):
        with peer(home) as p:
            epochs.add(p.subscribe(STREAM, "consume", messages=10)[0])
            p.publish(STREAM, bodies(1000, sent, 1000))
            sent += 1000
            p.ack(p.take(10)[:7])
        home.stop_broker(kill=kill)
        home.broker()
    assert len(epochs) == 1
    log = (home.base / "broker.err").read_text()
    assert "new_epochs" not in log and "messages_lost" not in log and lost_lines(home) == [] and home.queue()["lost"] == 0


def test_a_stream_that_was_purged_is_not_missed(home):
    home.streams("events")
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, bodies(10))
    conf = home.path / "conf/tenants/acme.conf"
    conf.rename(home.base / "acme.conf")
    assert home.control({"op": "reload"}, "broker.sock")["ok"]
    assert home.control({"op": "forget", "tenant_id": "acme"}, "broker.sock")["ok"]
    home.stop_broker(kill=True)
    home.broker()
    assert home.rows("queue", "list") == []
    shutil.copy(home.base / "acme.conf", conf)
    assert home.control({"op": "reload"}, "broker.sock")["ok"]
    with peer(home) as p:
        assert p.publish(STREAM, [b"x"])[0] == 1


# ---- put back from a copy

def set_back_broker(home, copy):
    shutil.rmtree(home.path / "state/broker")
    subprocess.run(["cp", "-a", copy / "broker", home.path / "state"], check=True)


def set_back_state(home, copy):
    """As from an archive: the files are new ones."""
    shutil.rmtree(home.path / "state")
    subprocess.run(["cp", "-a", copy, home.path / "state"], check=True)


def set_back_disk(home, copy):
    """As by a snapshot: the files are the same ones, with what was in them then."""
    set_back_broker(home, copy)
    (home.path / "state/broker.mark").write_bytes((copy / "broker.mark").read_bytes())
    r = home.cli("restored")
    assert "new epochs" in r.stdout


@pytest.mark.parametrize("before", [100, 0])
@pytest.mark.parametrize("set_back", [set_back_broker, set_back_state, set_back_disk])
def test_after_an_older_state_was_put_back_every_message_is_stored(home, mongo, set_back, before):
    rows = mongo.client[home.base.name].data
    home.streams(("events", "max_messages_per_s = -1;"))
    env = {**home.env, "SIMBDP_STREAM": STREAM, "SIMBDP_APP": "consume", "MONGO_URL": mongo.url, "MONGO_DATABASE": home.base.name, "SIMBDP_DATASET": "data"}

    def publish(first, n):
        with peer(home) as p:
            for at in range(first, first + n, 500):
                p.publish(STREAM, [json.dumps({"n": i}).encode() for i in range(at, min(at + 500, first + n))])

    def consume():
        if not home.queue()["ready"]:
            return
        loader = subprocess.Popen([BUILD / "simbdp-load", "--stream"], env={**env, "ZMQ_STREAM_ENDPOINT": home.endpoint})
        until(lambda: (q := home.queue())["ready"] + q["leased"] == 0, home.base, what=lambda: f"an empty queue: {home.queue()}")
        loader.send_signal(signal.SIGTERM)
        assert loader.wait(60) == 0

    try:
        home.broker()
        publish(0, before)
        consume()
        publish(before, before // 2)  # waits in the copy
        home.stop_broker()
        subprocess.run(["cp", "-a", home.path / "state", home.base / "copy"], check=True)
        home.broker()
        publish(before + before // 2, 1000)
        consume()
        publish(1150, 30)
        home.stop_broker()
        set_back(home, home.base / "copy")
        home.broker()
        lost = home.queue()["lost"]
        assert lost == (30 if set_back == set_back_broker else 0), "the marks know how far it was"
        consume()
        publish(2000, 1000)
        consume()
        assert sorted(d["n"] for d in rows.find()) == [*range(before + before // 2 + 1000), *range(2000, 3000)]
    finally:
        mongo.client.drop_database(home.base.name)


def test_restored_is_for_a_stopped_broker(home):
    home.streams("events")
    home.broker()
    r = home.cli("restored", check=False)
    assert r.returncode == 1 and "mysimbdp down" in r.stderr
    home.stop_broker()
    home.cli("restored")


# ---- what is no full disk

def test_nothing_is_full_on_a_home_without_streams(home):
    home.tenant()
    home.broker()
    assert home.control({"op": "status"}, "broker.sock")["publishing"] == "open"


def test_a_last_segment_that_was_cut_is_no_full_disk(home):
    home.streams("events")
    home.broker()
    for cut in (1, 8, 100, 2**19, 2**20 - 64, 2**20 - 8):
        with peer(home) as p:
            p.publish(STREAM, bodies(10, size=100))
        home.stop_broker()
        path = segments(home)[-1]
        path.write_bytes(path.read_bytes()[:-cut])
        home.broker()
        assert home.control({"op": "status"}, "broker.sock")["publishing"] == "open", cut
        with peer(home) as p:
            p.publish(STREAM, [b"x"])
