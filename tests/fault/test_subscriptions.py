"""Several subscriptions of a stream, numbered publishers, retention, reload and watchers."""
import json
import pathlib
import socket

import pytest
from harness import until
from test_streams import STREAM
from wire import Refused, bodies, peer

pytestmark = pytest.mark.anyone


# ---- several subscriptions, retention, reload, watching

def test_each_app_has_its_own_copy_and_instances_compete(home):
    home.streams("events", apps=("one", "two"))
    home.broker()
    with peer(home) as p, peer(home) as a, peer(home) as b, peer(home) as c:
        a.subscribe(STREAM, "one", messages=5)
        b.subscribe(STREAM, "one", messages=5)
        c.subscribe(STREAM, "two")
        p.publish(STREAM, bodies(10))
        got = [a.take(5), b.take(5), c.take(10)]
        assert sorted(m.seq for m in got[0] + got[1]) == sorted(m.seq for m in got[2]) == list(range(1, 11))
        assert len(got[0]) == len(got[1]) == 5
        assert len({m.body for m in got[2]}) == 10


def test_publishers_numbers_are_remembered_for_the_window_and_over_kills(home):
    home.streams(("events", "dedup_window_s = 2;"))
    home.broker()
    with peer(home) as p:
        assert p.publish(STREAM, bodies(10), 5, 1) == (1, 10, 0)
        assert p.publish(STREAM, bodies(10), 5, 1) == (0, 0, 10)
        assert p.publish(STREAM, bodies(10, 5), 5, 6) == (11, 5, 5)
        home.stop_broker(kill=True)
        home.broker()
        assert p.publish(STREAM, bodies(15), 5, 1) == (0, 0, 15)
        assert p.publish(STREAM, bodies(1), 6, 1) == (16, 1, 0)
        until(lambda: p.publish(STREAM, bodies(1), 7, 1) and p.publish(STREAM, bodies(1), 6, 1)[1] == 1, home.path / "state",
              every=3, what="the window's end")


def test_retention(home):
    home.streams(("events", "retention_s = 1; dead_retention_s = 6; max_deliveries = 1;"))
    home.broker()
    with peer(home) as p:
        p.publish(STREAM, bodies(10))
        p.subscribe(STREAM, "consume", messages=1)
        p.nack(p.take(1), reason="no")
        until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state", what="the messages' end")
        q = home.queue()
        assert q["dead"] == 1 and q["acked"] == 0 and q["expired"] >= 8
        until(lambda: home.queue()["dead"] == 0 and home.queue()["stored_bytes"] == 0, home.path / "state", what="the dead letter's end")


def test_reload_adds_and_takes_away(home):
    home.streams("events")
    home.broker()
    conf = home.path / "conf/tenants/acme.conf"
    with peer(home) as p:
        p.publish(STREAM, bodies(3))
        conf.write_text(conf.read_text().replace("stream_apps", "nonsense"))
        assert not home.control({"op": "reload"}, "broker.sock")["ok"]
        p.publish(STREAM, bodies(3))
        home.streams("events", "more", apps=("consume", "late"))
        assert home.control({"op": "reload"}, "broker.sock")["ok"]
        p.publish("acme/more", [b"x"])
        assert home.queue("late")["ready"] == 6, "a new app sees what is kept"
        home.streams("more", apps=())
        assert home.control({"op": "reload"}, "broker.sock")["ok"]
        with pytest.raises(Refused) as e:
            p.publish(STREAM, [b"x"])
        assert e.value.code == "unknown"
        assert home.queue()["state"] == "unconfigured" and home.queue()["ready"] == 6, "nothing is deleted"


def test_watchers_learn_of_messages_nobody_consumes(home):
    home.streams("events")
    home.broker()
    with socket.socket(socket.AF_UNIX) as s, peer(home) as p:
        s.settimeout(20)
        s.connect(str(pathlib.Path(home.endpoint[len("ipc://"):]).with_name("broker.sock")))
        f = s.makefile("rw")
        f.write('{"op":"watch"}\n')
        f.flush()
        assert json.loads(f.readline())["ok"]
        p.publish(STREAM, [b"x"])
        assert json.loads(f.readline()) == {"activate": {"tenant_id": "acme", "stream": "events", "app": "consume"}}
        with peer(home) as c:
            c.subscribe(STREAM, "consume")
            c.take(1)
        assert json.loads(f.readline())["activate"]["app"] == "consume", "its consumer went without an ack"
