"""mysimbdp tenant move of tenants with streams: each confirmed message is stored exactly once, whichever home has the tenant; positions, dead letters,
what was sent already, counts and what was asked for of apps go along; another tenant is not held up."""
import json
import subprocess
import threading
import time

import pytest
from harness import IS_ROOT, Home, until
from web import Site, settings
from wire import Refused, bodies, peer

pytestmark = pytest.mark.once


@pytest.fixture
def other(mongo):
    h = Home(mongo)
    yield h
    h.cleanup()


def configure(h, *apps, name="acme", keys="", more=""):
    h.db_of[name] = f"{name}_{h.base.name.replace('-', '_')}"
    (h.path / f"conf/tenants/{name}.conf").write_text(
        f'database = "{h.db_of[name]}";\ndatasets = ( {{ name = "data"; format = "json"; }} );\n'
        f'streams = ( {{ name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; {keys} }} );\n'
        "stream_apps = ( " + ", ".join(f'{{ stream = "events"; {a} }}' for a in apps) + " );\n" + more)


LOADER = 'app = "load"; exec = "builtin:load"; dataset = "data"; min_instances = 1; max_instances = 1;'


def move(a, b, *args, tenant="acme", check=True):
    b.db_of.setdefault(tenant, a.db_of[tenant])
    return a.cli("tenant", "move", tenant, "--to", b.path, *args, check=check)


def state(h, tenant="acme"):
    return next((t["state"] for t in h.rows("tenant", "list") if t["tenant_id"] == tenant), None)


def purge(h, tenant="acme"):
    h.cli("tenant", "remove", tenant, "--purge")


def values(h):
    return sorted(d["v"] for d in h.docs())


class Publisher(threading.Thread):
    """Goes on with each message until one of the homes confirms it; numbers make what is repeated one."""

    def __init__(self, *homes):
        super().__init__()
        self.homes, self.stop, self.n, self.codes, self.longest_s, self.error = homes, threading.Event(), 0, set(), 0.0, None

    def run(self):
        try:
            at = 0
            peers = [peer(h) for h in self.homes]
            while not self.stop.is_set():
                began = time.monotonic()
                while True:
                    try:
                        peers[at].publish("acme/events", [json.dumps({"v": self.n}).encode()], publisher=77 + self.n % 5, number=self.n // 5 + 1)
                        break
                    except Refused as e:
                        self.codes.add(e.code)
                        assert e.code in ("moving", "moved", "unknown"), e
                        at = (at + 1) % len(peers)
                        self.stop.wait(0.02)
                        if self.stop.is_set():
                            return
                self.longest_s = max(self.longest_s, time.monotonic() - began)
                self.n += 1
            for p in peers:
                p.close()
        except Exception as e:  # seen by whoever joins
            self.error = e


@pytest.mark.parametrize("keys", ["", "partitions = 3;"])
def test_a_publisher_and_an_app_at_work_there_and_back(home, other, keys):
    configure(home, LOADER, keys=keys, more='batch = ( { app = "batch"; exec = "builtin:load"; } );\n')
    home.up()
    other.up()
    home.drop("a.json", '{"v":-1}\n')
    home.wait_file(file_name="a.json")
    p = Publisher(home, other)
    p.start()
    until(lambda: home.count() > 50, home.path / "state", what="some messages")
    paused = json.loads(move(home, other, "--json").stdout)["paused_s"]
    there = p.n
    until(lambda: p.n > there + 50 or p.error, other.path / "state", what="some there")
    run = next(r["run_id"] for r in home.rows("runs", "--tenant", "acme") if r["kind"] == "stream")
    assert next(r for r in other.rows("runs", "--tenant", "acme") if r["run_id"] == run)["state"] == "ended", "the instance that was here"
    assert other.cli("logs", run).stdout == home.cli("logs", run).stdout
    assert not home.rows("stats", "--tenant", "acme")
    purge(home)
    home.db_of["acme"] = other.db_of["acme"]
    back = json.loads(move(other, home, "--json").stdout)["paused_s"]
    there = p.n
    until(lambda: p.n > there + 50 or p.error, home.path / "state", what="some here again")
    p.stop.set()
    p.join()
    assert not p.error, p.error
    assert {"moving"} <= p.codes
    until(lambda: len(home.docs()) >= p.n + 1, home.path / "state", what=lambda: f"{p.n} messages: {len(home.docs())} rows, {home.queue('load', 'events')}")
    assert values(home) == list(range(-1, p.n))
    assert [f["state"] for f in home.files()] == ["ingested"]
    assert (state(home), state(other)) == ("active", "moved")
    print(f"stood still for {paused:.2f} s and {back:.2f} s; the longest that a publisher waited: {p.longest_s:.2f} s")


def test_what_a_stream_is_goes_along(home, other):
    """Positions, dead letters with their reasons, what waits, traces, publishers' numbers, _ids, counts, what was asked for of apps."""
    configure(home, 'app = "one";', 'app = "two";', 'app = "idle"; exec = "builtin:load"; dataset = "data"; max_instances = 3;', keys="max_deliveries = 1; lease_ms = 600000;")
    home.up()
    other.up()
    home.cli("app", "stop", "acme/idle")
    with peer(home) as p:
        assert p.publish("acme/events", bodies(10), publisher=7, number=1) == (1, 10, 0)
        p.publish("acme/events", bodies(2, 10), traces="00-" + "ab" * 16 + "-" + "cd" * 8 + "-01")
        epoch_one = p.subscribe("acme/events", "one", 8)[0]
        epoch_two = p.subscribe("acme/events", "two", 3, consumer=2)[0]
        got = p.take(11)
        one, two = [m for m in got if m.epoch == epoch_one], [m for m in got if m.epoch == epoch_two]
        assert p.ack(one[:3] + one[5:6]) == 4
        assert p.nack(one[4:5], 0xFFFFFFFF, "no good") == 1
        assert p.ack(two[:1], consumer=2) == 1
    until(lambda: sum(q["leased"] for q in queues(home)) == 0, home.path / "state", what="leases that ended")
    home.control({"op": "account"}, program="broker.sock")
    stats, before = home.rows("stats", "--tenant", "acme"), queues(home)
    move(home, other)
    assert queues(other) == before
    assert other.rows("stats", "--tenant", "acme") == stats
    assert [(d["seq"], d["app"], d["reason"]) for d in other.rows("dead", "list")] == [(5, "one", "no good")]
    assert next(a for a in other.rows("app", "list") if a["app"] == "idle")["state"] == "stopped"
    with peer(other) as p:
        assert p.publish("acme/events", bodies(12, 8), publisher=7, number=9) == (13, 10, 2), "two of them were sent before"
        assert p.subscribe("acme/events", "one", wants=1)[0] == epoch_one
        assert p.subscribe("acme/events", "two", consumer=2)[0] == epoch_two
        got = p.take(17 + 21)
        mine = [m for m in got if m.epoch == epoch_one]
        assert sorted(m.seq for m in mine) == [4, 7, 8, *range(9, 23)]
        assert {m.seq: m.body for m in mine} == {s: f"m{s - 1}".encode() for s in (4, 7, 8, *range(9, 13))} | {s: f"m{s - 3}".encode() for s in range(13, 23)}
        assert [m.traceparent is not None for m in sorted(mine, key=lambda m: m.seq)] == [m.seq in (11, 12) for m in sorted(mine, key=lambda m: m.seq)]
        assert sorted(m.seq for m in got if m.epoch == epoch_two) == list(range(2, 23))
    other.cli("dead", "replay", "acme/events", "--seq", "5")


def queues(h):
    keys = ("stream", "app", "ready", "leased", "dead", "acked", "published", "refused", "last_seq", "state", "lost", "expired")
    return [{k: q[k] for k in keys} for q in sorted(h.rows("queue", "list", "--tenant", "acme"), key=lambda q: q["app"])]


def test_who_publishes_is_told_to_try_again(home, other):
    configure(home, 'app = "one";')
    home.up()
    other.up()
    held(home, other)
    with peer(home) as p:
        with pytest.raises(Refused) as e:
            p.publish("acme/events", [b"x"])
        assert (e.value.code, e.value.retry_after_ms) == ("moving", 5000)
        with pytest.raises(Refused) as e:
            p.subscribe("acme/events", "one")
        assert e.value.code == "moving"
    r = home.cli("dead", "drop", "acme/events", "--all", check=False)
    assert r.returncode == 1 and "is being moved" in r.stderr
    home.cli("tenant", "move", "acme", "--resume")
    with peer(home) as p:
        with pytest.raises(Refused) as e:
            p.publish("acme/events", [b"x"])
        assert (e.value.code, e.value.retry_after_ms) == ("moved", 0)


def held(a, b, at="move_copied"):
    once = a.base / f"once-{at}"
    r = subprocess.run([a.program("mysimbdp"), "tenant", "move", "acme", "--to", str(b.path)], capture_output=True, text=True,
                       env={**a.env, "SIMBDP_CRASH_AT": at, "SIMBDP_CRASH_ONCE": str(once)})
    assert once.exists(), r.stderr


def test_undone_it_goes_on_here(home, other):
    configure(home, 'app = "one";')
    home.up()
    other.up()
    with peer(home) as p:
        p.publish("acme/events", bodies(5), publisher=7, number=1)
        held(home, other)
        home.cli("tenant", "move", "acme", "--undo")
        assert (state(home), state(other)) == ("active", None)
        assert p.publish("acme/events", bodies(6), publisher=7, number=1) == (6, 1, 5)
        p.subscribe("acme/events", "one")
        assert [m.seq for m in p.take(6)] == [1, 2, 3, 4, 5, 6]
    assert not other.rows("queue", "list")
    move(home, other)
    assert queues(other)[0]["ready"] == 6


def test_a_stream_that_was_cut_off_stays_so(home, other):
    configure(home, 'app = "one";', keys='on_breach = "suspend"; breaches = 2; breach_window_s = 600; max_message_bytes = 10;')
    home.up()
    other.up()
    with peer(home) as p:
        for _ in range(2):
            with pytest.raises(Refused):
                p.publish("acme/events", [b"x" * 100])
    until(lambda: queues(home)[0]["state"] == "cut_off", home.path / "state", what="cut off")
    move(home, other)
    assert queues(other)[0]["state"] == "cut_off"
    other.cli("tenant", "resume", "acme")
    with peer(other) as p:
        p.publish("acme/events", [b"x"])


def test_what_is_kept_in_kafka_is_refused(home, other):
    configure(home, 'app = "one";', keys='store = "kafka";')
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", 'platform = { kafka = { brokers = "127.0.0.1:1"; };', 1))
    r = move(home, other, check=False)
    assert r.returncode == 1 and "is kept in Kafka" in r.stderr and "let it move back" in r.stderr, r.stderr
    assert not list((home.path / "state").glob("moves/*"))


def test_by_hand_to_another_machine(home, other):
    configure(home, 'app = "one";')
    home.up()
    other.up()
    with peer(home) as p:
        p.publish("acme/events", bodies(20), publisher=7, number=1)
    whole = export(home)
    other.db_of["acme"] = home.db_of["acme"]
    r = subprocess.run([other.program("mysimbdp"), "tenant", "import"], env=other.env, input=whole, capture_output=True)
    assert r.returncode == 0, r.stderr
    assert not [q for q in other.rows("queue", "list") if q["ready"]], "nobody's yet"
    home.cli("tenant", "move", "acme", "--given")
    move_id = json.loads((other.path / "state/moves/acme.json").read_text())["move"]
    other.cli("tenant", "move", "acme", "--arrived", move_id)
    with peer(other) as p:
        assert p.publish("acme/events", bodies(20), publisher=7, number=1)[1:] == (0, 20)
        p.subscribe("acme/events", "one")
        assert [m.body for m in p.take(20)] == bodies(20)


def test_over_http_it_is_503_then_403(mongo, other):
    site = Site(mongo, settings(), ready=False)
    try:
        configure(site.home, 'app = "one";')
        site.up()
        other.up()

        def publish():
            return site.post("streams/events/messages", site.of(), "acme", b'{"v":1}\n', described=False, Content_Type="application/x-ndjson")
        assert publish().status == 200
        other.db_of["acme"] = site.home.db_of["acme"]
        held(site.home, other)
        a = publish()
        assert (a.status, a.code) == (503, "moving") and int(a.headers["Retry-After"]) == 5
        site.home.cli("tenant", "move", "acme", "--resume")
        a = publish()
        assert (a.status, a.code) == (403, "moved")
        assert queues(other)[0]["ready"] == 1
    finally:
        site.cleanup()


def export(h, tenant="acme"):
    r = subprocess.run([h.program("mysimbdp"), "tenant", "export", tenant, "--to", "b", "--no-documents"], env=h.env, capture_output=True)
    assert r.returncode == 0, r.stderr
    return r.stdout


def test_what_is_damaged_or_foreign_is_refused_and_nothing_changes(home, other):
    """By the broker, which gets its file in another way here: the stream as a whole is hashed, and does not come so far."""
    configure(home, 'app = "one";')
    home.up()
    other.up()
    with peer(home) as p:
        p.publish("acme/events", bodies(200, size=500), publisher=7, number=1)
    export(home)
    whole = (home.path / "state/moves/acme.out/streams").read_bytes()
    home.cli("tenant", "move", "acme", "--undo")
    held(home, other)
    at = other.path / "state/moves/acme.streams"

    def load(data):
        at.write_bytes(data)
        if IS_ROOT:
            at.chmod(0o644)
        return other.control({"op": "move_import", "tenant_id": "acme"}, program="broker.sock")
    for bad, why in ((whole[:-1], "cut short"), (whole[:len(whole) // 2], "cut short"), (whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:], "damaged"),
                     (b"", "cut short"), (b"simbdpm9" + whole[8:], "newer"), (b"not a thing" * 100, "are none"), (whole + b"x", "behind their end"), (whole + whole, "behind their end")):
        r = load(bad)
        assert not r["ok"] and why in r["error"], (r, why)
        assert not [q for q in other.rows("queue", "list") if q["ready"]]
    r = other.control({"op": "move_import", "tenant_id": "zeta"}, program="broker.sock")
    assert not r["ok"] and "not on its way" in r["error"]
    assert load(whole)["ok"]
    home.cli("tenant", "move", "acme", "--resume")
    assert queues(other)[0]["ready"] == 200


@pytest.mark.parametrize("mb", [30, pytest.param(200, marks=pytest.mark.soak)])
def test_another_tenant_is_not_held_up(home, other, mb):
    """While a large backlog is exported and loaded, a quiet tenant's requests go on in both homes."""
    configure(home, 'app = "one";', keys="max_stored_bytes = 1000000000L; max_message_bytes = 100000;")
    for h in (home, other):
        configure(h, 'app = "one";', name="quiet")
        h.up()
    with peer(home) as p:
        for i in range(mb):
            p.publish("acme/events", bodies(10, i * 10, 100000))
    stop, longest, errors = threading.Event(), {}, []

    def look(h):
        try:
            with peer(h) as p:
                while not stop.is_set():
                    began = time.monotonic()
                    p.publish("quiet/events", [b"x"])
                    longest[h.path] = max(longest.get(h.path, 0), time.monotonic() - began)
        except Exception as e:
            errors.append(e)
    threads = [threading.Thread(target=look, args=(h,)) for h in (home, other)]
    for t in threads:
        t.start()
    move(home, other)
    stop.set()
    for t in threads:
        t.join()
    assert not errors
    assert queues(other)[0]["ready"] == mb * 10
    assert max(longest.values()) < 2, longest
    with peer(other) as p:
        p.subscribe("acme/events", "one", 10000, 1 << 30)
        n = 0
        while n < mb * 10:
            got = p.take()
            assert got and all(len(m.body) == 100000 for m in got)
            p.ack(got)
            n += len(got)
    print({str(k): round(v, 3) for k, v in longest.items()})
