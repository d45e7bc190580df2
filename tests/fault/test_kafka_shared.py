"""Streams that several homes share (docs/kafka.md): who serves which partition while brokers of ours are killed, stand still, come back or
are copied. What an app would store under an _id is there once, whoever delivered it."""
import json
import os
import shutil
import signal
import threading
import time

import pymongo
import pytest
from harness import until
from kafka import queue
from wire import CONFIRM, REFUSED, Peer, bodies, peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
KEYS = 'store = "kafka"; shared = true; partitions = 6; lease_ms = 3000;'


@pytest.fixture
def group(make_home, kafka):
    """Homes of one prefix, as many as names are given; their brokers run."""
    def make(*members, keys=KEYS, start=True):
        prefix, homes = kafka.next_prefix(), []
        for name in members:
            home = make_home(platform=f'kafka = {{ brokers = "{kafka.brokers}"; prefix = "{prefix}"; member = "{name}"; session_s = 3; }};')
            home.topic, home.keys = f"{prefix}.acme.events", keys
            home.streams(("events", keys))
            homes.append(home)
            if start:
                home.broker()
        if start:
            wait_divided(homes)
        return homes
    yield make
    kafka.mend()


def here(home):
    q = queue(home)
    return q["partitions_here"] if q["kafka"] is None else -1


def wait_divided(homes, n=6):
    """Each partition is one's, and each of these has some."""
    until(lambda: min(map(here, homes)) > 0 and sum(map(here, homes)) == n, homes[0].base, timeout=60,
          what=lambda: f"{n} partitions: {[(queue(h)['partitions_here'], queue(h)['kafka']) for h in homes]}")


class Database:
    """What apps stored, by _id: one that is stored again is the same."""

    def __init__(self):
        self.rows, self.lock = {}, threading.Lock()

    def store(self, m):
        with self.lock:
            assert self.rows.setdefault((m.epoch, m.seq), m.body) == m.body


class Worker(threading.Thread):
    """A publisher (its own number) or an app's instance at one home, until it is told to end."""

    def __init__(self, home, **kw):
        super().__init__()
        self.home, self.ends, self.error = home, threading.Event(), None
        self.__dict__.update(kw)
        self.start()

    def run(self):
        try:
            while not self.ends.is_set():
                with Peer(self.home.endpoint) as p:
                    self.one(p)
        except Exception as e:
            self.error = e

    def stop(self):
        self.ends.set()
        self.join()
        assert not self.error, self.error


class Publisher(Worker):
    sent, form = 0, b"%d:%d"

    def one(self, p):
        while not self.ends.is_set():
            request = p.post(STREAM, [self.form % (self.id, self.sent + 1 + i) for i in range(10)], self.id, self.sent + 1)
            got = p.receive(timeout=1)
            if got is None:
                return  # another connection, to the broker that is there now
            if got[0] == CONFIRM and got[2] == request:
                self.sent += 10
            elif got[0] == REFUSED:
                self.ends.wait(0.05)


class App(Worker):
    def one(self, p):
        r = p.next_request()
        p.send(b"\x01\x03" + (1).to_bytes(2, "little") + r.to_bytes(4, "little"), STREAM.encode(), b"consume", (200).to_bytes(4, "little") + (1 << 20).to_bytes(8, "little"))
        while not self.ends.is_set():
            got = p.receive(timeout=1)
            if got is None or got[0] == REFUSED:
                self.ends.wait(0.05)
                return
            if got[0] == 68:
                messages = p.messages(got[3], p.epochs[got[1]])
                for m in messages:
                    self.database.store(m)
                r = p.next_request()
                p.send(b"\x01\x05" + (1).to_bytes(2, "little") + (0).to_bytes(4, "little"), b"".join(m.seq.to_bytes(8, "little") * 2 for m in messages))


@pytest.fixture
def load():
    """Two publishers at each home, and an instance."""
    workers = []

    def start(homes, apps=None):
        db = Database()
        publishers = [Publisher(h, id=1000 + 10 * i + k) for i, h in enumerate(homes) for k in range(2)]
        instances = [App(h, database=db) for h in (apps if apps is not None else homes)]
        workers.extend(publishers + instances)
        return db, publishers, instances
    yield start
    for w in workers:
        w.ends.set()
    for w in workers:
        w.join()


def wait_sent(publishers, more=100, timeout=60):
    goal = [p.sent + more for p in publishers]
    until(lambda: any(p.error for p in publishers) or all(p.sent >= n for p, n in zip(publishers, goal)), publishers[0].home.base, timeout=timeout,
          what=lambda: f"messages {goal}, sent {[p.sent for p in publishers]}: {[queue(p.home) for p in publishers[::2]]}")
    assert not any(p.error for p in publishers), [p.error for p in publishers]


def assert_stored_once(db, publishers, instances, more=()):
    for p in publishers:
        p.stop()
    want = {b"%d:%d" % (p.id, n) for p in publishers for n in range(1, p.sent + 1)} | set(more)
    until(lambda: any(i.error for i in instances) or want <= set(db.rows.values()), publishers[0].home.base, timeout=60,
          what=lambda: f"{len(want)} messages; missing {sorted(want - set(db.rows.values()))[:5]}: {[(queue(i.home)['ready'], queue(i.home)['leased'], queue(i.home)['partitions_here']) for i in instances]}")
    for i in instances:
        i.stop()
    assert len(db.rows) == len(set(db.rows.values())), "a message has two _ids"


def test_partitions_are_divided_and_each_message_is_one_brokers(group, load):
    homes = group("west-1", "west-2")
    with peer(homes[0]) as a, peer(homes[1]) as b:  # the same numbers to both: whoever has the partition knows the second
        for publisher in range(1, 7):
            assert sum(p.publish(STREAM, [b"%d:%d" % (publisher, i) for i in (1, 2)], publisher, 1)[1] for p in (a, b)) >= 2
    db, publishers, instances = load(homes)
    wait_sent(publishers, 200)
    assert all(queue(h)["topic"] == h.topic and queue(h)["partitions"] == 6 for h in homes)
    assert_stored_once(db, publishers, instances, {b"%d:%d" % (publisher, i) for publisher in range(1, 7) for i in (1, 2)})
    until(lambda: sum(queue(h)["acked"] for h in homes) >= len(db.rows) and all(queue(h)["ready"] + queue(h)["leased"] == 0 for h in homes), homes[0].base, what="the acks")
    assert sum(queue(h)["published"] for h in homes) == len(db.rows), "counted once, by whoever has the partition"
    order = {}
    for (_, seq), body in sorted(db.rows.items(), key=lambda x: x[0][1]):
        order.setdefault((seq >> 40, body.split(b":")[0]), []).append(int(body.split(b":")[1]))
    assert len(order) == len(publishers) + 6 and all(v == list(range(1, len(v) + 1)) for v in order.values())


def test_a_broker_is_killed_and_comes_back(group, load):
    homes = group("west-1", "west-2", "west-3")
    db, publishers, instances = load(homes)
    wait_sent(publishers)
    homes[1].stop_broker(kill=True)
    rest = [homes[0], homes[2]]
    wait_divided(rest)
    wait_sent([p for p in publishers if p.home in rest])
    homes[1].broker()
    wait_divided(homes)
    wait_sent(publishers)
    assert_stored_once(db, publishers, instances)


def test_a_broker_stands_still_and_comes_back(group, load):
    """Others have its partitions meanwhile. What it gives to its apps before it knows has the same _ids, and it moves nothing."""
    homes = group("west-1", "west-2")
    db, publishers, instances = load(homes)
    wait_sent(publishers)
    os.kill(homes[0].broker_process.pid, signal.SIGSTOP)
    try:
        wait_divided(homes[1:])
        wait_sent(publishers[2:])
    finally:
        os.kill(homes[0].broker_process.pid, signal.SIGCONT)
    wait_divided(homes)
    wait_sent(publishers)
    assert_stored_once(db, publishers, instances)


@pytest.mark.soak
def test_what_talks_to_kafka_stands_still(group, load):
    homes = group("west-1", "west-2")
    db, publishers, instances = load(homes)
    wait_sent(publishers)
    pid, = homes[0].pids("simbdp-kafka")
    os.kill(pid, signal.SIGSTOP)
    until(lambda: homes[0].pids("simbdp-kafka") not in ([], [pid]), homes[0].base, timeout=60, what="another one")
    wait_divided(homes)
    wait_sent(publishers)
    assert_stored_once(db, publishers, instances)


def test_two_with_one_name_do_not_fight(group, load, make_home):
    """A copy of a home is started: one of the two is fenced, says so and serves nobody, until an operator has it try again."""
    homes = group("west-1", "west-2")
    db, publishers, instances = load([homes[1]])
    wait_sent(publishers)
    original, (copy,) = homes[0], group("copy", start=False)
    conf = (original.path / "conf/mysimbdp.conf").read_text()
    text = (copy.path / "conf/mysimbdp.conf").read_text()
    line = next(x for x in conf.split(";") if "prefix" in x)
    (copy.path / "conf/mysimbdp.conf").write_text(text.replace(next(x for x in text.split(";") if "prefix" in x), line).replace('member = "copy"', 'member = "west-1"'))
    shutil.copytree(original.path / "state/broker", copy.path / "state/broker", dirs_exist_ok=True)
    shutil.copy(original.path / "state/broker.mark", copy.path / "state/broker.mark")
    copy.broker()
    copy.topic = original.topic
    assert [q["stream"] for q in copy.control({"op": "queues"}, "broker.sock")["queues"]] == ["events"]  # parts of the copy's store were dropped
    both = [original, copy]

    def fenced():
        return [h for h in both if "another broker is member \"west-1\"" in (queue(h)["kafka"] or "")]
    until(fenced, original.base, timeout=60, what=lambda: f"the fence: {list(map(queue, both))}")
    out, = fenced()
    serves, = [h for h in both if h is not out]
    wait_divided([serves, homes[1]])
    said = out.cli("doctor", check=False).stdout
    assert "another kafka.member" in said and "another broker is member" in out.control({"op": "status"}, "broker.sock")["kafka"]
    with peer(out) as p:
        request = p.post(STREAM, bodies(1), 5, 1)
        got = p.receive()
        assert got[0] == REFUSED and got[2] == request and got[3][0] == b"full" and b"another broker" in got[3][2]
    app = App(serves, database=db)
    instances.append(app)
    wait_sent(publishers)
    assert fenced() == [out] and queue(out)["partitions_here"] == 0
    try:
        assert_stored_once(db, publishers, instances)
    finally:
        app.ends.set()
        app.join()


def reload(home, keys):
    home.streams(("events", keys))
    home.control({"op": "reload"}, "broker.sock")


@pytest.mark.soak
def test_a_stream_becomes_shared_gets_partitions_and_is_local_again(group, load):
    """What was there keeps its _ids. While another home has partitions it cannot leave Kafka."""
    home, other = group("west-1", "west-2", keys="partitions = 2;", start=False)
    home.broker()
    db, publishers, instances = load([home])
    wait_sent(publishers)
    for keys in ('store = "kafka"; partitions = 2;', 'store = "kafka"; shared = true; partitions = 2;'):
        reload(home, keys)
        until(lambda: here(home) == 2 and queue(home)["store"] == "kafka", home.base, timeout=60, what=lambda: f"{keys} {queue(home)}")
        wait_sent(publishers)
    other.streams(("events", KEYS))
    other.broker()
    until(lambda: "has 6 partitions" in (queue(home)["kafka"] or ""), home.base, timeout=60, what=lambda: f"more partitions: {queue(home)}")
    until(lambda: here(other) == 6, home.base, timeout=60, what=lambda: f"all partitions are the other's: {queue(other)}")
    instances.append(App(other, database=db))
    reload(home, KEYS)
    wait_divided([home, other])
    wait_sent(publishers)
    reload(home, "partitions = 6;")
    until(lambda: "other brokers serve partitions of it" in (queue(home)["kafka"] or ""), home.base, timeout=60, what=lambda: f"the refusal: {queue(home)}")
    instances.pop().stop()
    other.stop_broker(kill=True)
    until(lambda: queue(home)["store"] == "local", home.base, timeout=60, what=lambda: f"the move: {queue(home)}")
    wait_sent(publishers)
    assert_stored_once(db, publishers, instances)
    assert (queue(home)["lost"], queue(home)["ready"]) == (0, 0)


def test_limits_hold_over_all_homes(group):
    """A rate in parts, by partitions; bytes as the others said a moment ago."""
    homes = group("west-1", "west-2", keys=KEYS + " max_messages_per_s = 600; max_stored_bytes = 1000000; max_messages_per_request = 100;")
    began, confirmed, codes = time.monotonic(), [0, 0], [set(), set()]

    def publish(i):
        with Peer(homes[i].endpoint) as p:
            while "full" not in codes[i] and time.monotonic() - began < 60:
                p.post(STREAM, [b"x" * 500] * 10)
                verb, _, _, frames = p.receive()
                if verb == CONFIRM:
                    confirmed[i] += 10
                else:
                    codes[i].add(frames[0].decode())
                    if b"of which this broker has" in frames[2]:
                        codes[i].add("share")
                    threading.Event().wait(min(0.05, int.from_bytes(frames[1], "little") / 1000))
    threads = [threading.Thread(target=publish, args=(i,)) for i in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    took = time.monotonic() - began
    stored = sum(queue(h)["stored_bytes"] for h in homes)
    assert all(c >= {"rate", "share", "full"} for c in codes), codes
    assert sum(confirmed) <= 600 * (took + 1) + 20, (confirmed, took)
    assert 800_000 < stored < 1_000_000 + 3 * 600 * 600, stored
    homes[1].stop_broker(kill=True)
    wait_divided(homes[:1])
    assert queue(homes[0])["mine"] == list(range(6))


@pytest.mark.soak
def test_all_is_in_mongodb_once(group, mongo):
    """Two homes that are up, with instances of the built-in loader, into one database; one after the other is killed and comes back."""
    homes = group("west-1", "west-2", start=False)
    for home in homes:
        home.profiles(cpus=0.01, rlimits="nofile = 256;")
        (home.path / "conf/tenants/acme.conf").write_text(
            f'database = "shared_{homes[0].base.name.replace("-", "_")}"; datasets = ( {{ name = "data"; format = "json"; }} ); streams = ( {{ name = "events"; {KEYS} }} );\n'
            'stream_apps = ( { app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "data"; min_instances = 1; max_instances = 7; } );\n')
        home.up()
    wait_divided(homes)
    rows = pymongo.MongoClient(mongo.url, retryReads=True)[f'shared_{homes[0].base.name.replace("-", "_")}'].data
    publishers = [Publisher(h, id=1000 + i, form=b'{"p":%d,"n":%d}') for i, h in enumerate(homes)]
    try:
        for i in range(8):
            wait_sent(publishers, 200)
            home, at = homes[i % 2], time.monotonic()
            program = ("broker", "simbdp-load", "simbdp-kafka", "broker")[i // 2]
            for pid in home.pids(program)[:1]:
                os.kill(pid, signal.SIGSTOP if i >= 6 else signal.SIGKILL)
                if i >= 6:
                    wait_divided([h for h in homes if h is not home])
                    os.kill(pid, signal.SIGCONT)
            until(lambda: time.monotonic() - at >= 3, home.base, what="the next time", every=0.2)
        wait_divided(homes)
    finally:
        for p in publishers:
            p.ends.set()
            p.join()
    want = sum(p.stop() or p.sent for p in publishers)
    until(lambda: rows.count_documents({}) >= want, homes[0].base, timeout=120, what=lambda: f"{want} rows: {rows.count_documents({})}, {list(map(queue, homes))}")
    most = [json.loads((h.path / "logs/decisions.jsonl").read_text().splitlines()[-1])["max"] for h in homes]
    assert sum(most) == 7, most
    found = {}
    for d in rows.find({}, {"_id": 0}):
        found[d["p"], d["n"]] = found.get((d["p"], d["n"]), 0) + 1
    assert all(found.get((p.id, n)) == 1 for p in publishers for n in range(1, p.sent + 1)) and set(found.values()) == {1}
