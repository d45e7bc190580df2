"""mysimbdp tenant move, killed at each of its steps, on a full disk, with the other home away. Whatever happens, at most one home has the
tenant, the words say what to do, and doing it ends with every file stored once."""
import json
import os
import signal
import subprocess

import pytest
from backups import backup, gone, restore  # noqa: F401 (restore: a fixture)
from harness import FINAL, IS_ROOT, Home, until
from wire import Refused, peer

pytestmark = pytest.mark.once
BEFORE = ["move_begin", "move_spooled", "move_entry", "move_laid", "move_configured", "move_ahead", "move_held", "move_streams", "move_copied"]
AFTER = ["move_switch", "move_gone", "move_taken_up"]


@pytest.fixture(scope="module")
def pair(mongo):
    homes = [Home(mongo), Home(mongo)]
    for i, name in enumerate(names()):
        homes[0].tenant(name)
        homes[1].db_of[name] = homes[0].db_of[name]
    for h in homes:
        h.up()
    yield homes
    for h in homes:
        h.cleanup()


def names():
    return [f"t{i}" for i in range(len(CASES))]


CASES = [(p, "--resume") for p in BEFORE + AFTER] + [(p, "--undo") for p in BEFORE]


def state(h, tenant):
    return next((t["state"] for t in h.rows("tenant", "list") if t["tenant_id"] == tenant), None)


def one_owner(a, b, tenant):
    both = (state(a, tenant), state(b, tenant))
    assert both.count("active") <= 1, both
    return both


def stored_once(home, owner, tenant, values):
    """Every file that was ever received, and one more that the owner takes."""
    owner.drop("last.csv", f"v\n{len(values)}\n", tenant)
    until(lambda: len(done := owner.files(tenant_id=tenant)) == len(values) + 1 and all(f["state"] in FINAL for f in done),
          owner.path / "state", what=lambda: f"{len(values) + 1} files: {owner.files(tenant_id=tenant)}")
    assert {f["state"] for f in owner.files(tenant_id=tenant)} == {"ingested"}
    assert sorted(d["v"] for d in home.docs(tenant)) == [*values, len(values)]


OFTEN = {("move_spooled", "--resume"), ("move_entry", "--resume"), ("move_held", "--resume"), ("move_copied", "--resume"), ("move_switch", "--resume"),
         ("move_gone", "--resume"), ("move_configured", "--undo"), ("move_copied", "--undo")}


@pytest.mark.parametrize("case", [pytest.param(i, id=p + w, marks=[] if (p, w) in OFTEN else pytest.mark.soak) for i, (p, w) in enumerate(CASES)])
def test_the_conductor_is_killed(pair, case):
    a, b = pair
    tenant = f"t{case}"
    point, then = CASES[case]
    for i in range(3):
        a.drop(f"f{i}.csv", f"v\n{i}\n", tenant)
    until(lambda: len([f for f in a.files(tenant_id=tenant) if f["state"] == "ingested"]) == 3, a.path / "state", what="three files")
    once = a.base / f"once-{tenant}"
    r = subprocess.run([a.program("mysimbdp"), "tenant", "move", tenant, "--to", str(b.path)], capture_output=True, text=True,
                       env={**a.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(once)})
    assert once.exists(), f"{point} was not reached: {r.stderr}"
    assert r.returncode != 0
    both = one_owner(a, b, tenant)
    if point in AFTER:
        assert both[0] in ("moved", "moving"), both
        r = a.cli("tenant", "move", tenant, "--undo", check=False)
        assert r.returncode == 1 and str(b.path) in r.stderr, "it is decided"
        one_owner(a, b, tenant)
    a.cli("tenant", "move", tenant, then)
    owner, left = (b, a) if then == "--resume" else (a, b)
    assert state(owner, tenant) == "active" and state(left, tenant) == ("moved" if left is a else None)
    stored_once(a, owner, tenant, [0, 1, 2])
    if left is b:
        assert not (b.path / f"conf/tenants/{tenant}.conf").exists() and not list(b.path.glob(f"*/{tenant}/*")) and not b.files(tenant_id=tenant)
    assert not [p for h in pair for p in (h.path / "state/moves").glob(f"{tenant}.*") if p.suffix != ".json"], "nothing of the copying is left"


@pytest.mark.parametrize("point", ["moving_held", pytest.param("moving_arrived", marks=pytest.mark.soak), "moving_rows",
                                   pytest.param("moving_taken_up", marks=pytest.mark.soak)])
def test_a_batchmgr_is_killed(home, mongo, point):
    other = Home(mongo)
    try:
        home.tenant("acme")
        other.db_of["acme"] = home.db_of["acme"]
        crash = {"SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(home.base / "crash/once")}
        (home.base / "crash").mkdir()
        (home.base / "crash").chmod(0o777)
        home.up(**(crash if point == "moving_held" else {}))
        other.up(**(crash if point != "moving_held" else {}))
        home.drop("a.csv", "v\n0\n")
        home.wait_files(1)
        r = home.cli("tenant", "move", "acme", "--to", other.path, check=False)
        assert (home.base / "crash/once").exists()
        assert r.returncode == 1 and "--resume" in r.stderr, r.stderr
        until(lambda: answers(home) and answers(other), home.path / "state", what="both")
        one_owner(home, other, "acme")
        home.cli("tenant", "move", "acme", "--resume")
        assert (state(home, "acme"), state(other, "acme")) == ("moved", "active")
        stored_once(home, other, "acme", [0])
    finally:
        other.cleanup()


def with_streams(mongo, n=200):
    """Two homes that work; the first has a tenant with a stream in which n messages wait, and an app that one of them was refused by."""
    homes = [Home(mongo), Home(mongo)]
    homes[0].db_of["acme"] = homes[1].db_of["acme"] = f"acme_{homes[0].base.name.replace('-', '_')}"
    (homes[0].path / "conf/tenants/acme.conf").write_text(
        f'database = "{homes[0].db_of["acme"]}"; datasets = ( {{ name = "data"; format = "json"; }} );\n'
        'streams = ( { name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; lease_ms = 600000; } );\n'
        'stream_apps = ( { stream = "events"; app = "one"; }, '
        '{ stream = "events"; app = "load"; exec = "builtin:load"; dataset = "data"; min_instances = 1; max_instances = 1; } );\n')
    return homes


def publish(h, n, first=0):
    with peer(h) as p:
        p.publish("acme/events", [json.dumps({"v": i}).encode() for i in range(first, first + n)], publisher=5, number=first + 1)


def waiting(h, app="one"):
    return next((q["ready"] + q["leased"] for q in h.rows("queue", "list") if q["app"] == app and q["tenant_id"] == "acme"), None)


def went_on(owner, left, n):
    """All that was published is there once for each app, and what comes next, too."""
    assert (state(owner, "acme"), state(left, "acme")) in (("active", "moved"), ("active", None))
    publish(owner, n + 10)
    until(lambda: waiting(owner) == n + 10 and waiting(owner, "load") == 0, owner.path / "state", what=lambda: owner.rows("queue", "list"))
    until(lambda: len(owner.docs("acme")) == n + 10, owner.path / "state", what=lambda: len(owner.docs("acme")))
    assert sorted(d["v"] for d in owner.docs("acme")) == list(range(n + 10))
    with peer(owner) as p:
        p.subscribe("acme/events", "one", 10000)
        got = p.take(n + 10)
        assert [m.seq for m in got] == list(range(1, n + 11)) and [json.loads(m.body)["v"] for m in got] == list(range(n + 10))
    for h in (owner, left):
        assert not [p for p in (h.path / "state/moves").glob("acme.*") if p.suffix != ".json"]


@pytest.mark.parametrize("program,point,there", [
    ("broker", "moving_still", False), ("broker", "moving_part", False), ("broker", "moving_loaded", True),
    pytest.param("streammgr", "moving_book", True, marks=pytest.mark.soak), ("broker", "moving_settled", True)])
def test_a_broker_or_streammgr_is_killed(mongo, program, point, there):
    """Of a tenant with streams, in either home."""
    homes = with_streams(mongo)
    a, b = homes
    try:
        for h in homes:
            h.up()
        where = b if there else a
        where.down()
        once = where.crash_file()
        where.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
        publish(a, 200)
        until(lambda: len(a.docs("acme")) == 200, a.path / "state", what="stored")
        r = a.cli("tenant", "move", "acme", "--to", b.path, check=False)
        assert once.exists(), r.stderr
        assert r.returncode == 1 and "--resume" in r.stderr, r.stderr
        one_owner(a, b, "acme")
        until(lambda: asked(a, program) and asked(b, program), a.path / "state", what="both")
        a.cli("tenant", "move", "acme", "--resume")
        went_on(b, a, 200)
    finally:
        for h in homes:
            h.cleanup()


def asked(h, program):
    try:
        return h.control({"op": "status"}, program=f"{program}.sock")["ok"]
    except (OSError, AssertionError):
        return False


@pytest.mark.parametrize("point,then", [("move_held", "--undo"), ("move_streams", "--resume"), ("move_copied", "--undo"), ("move_copied", "--resume"),
                                        ("move_switch", "--resume"), pytest.param("move_gone", "--resume", marks=pytest.mark.soak),
                                        pytest.param("move_taken_up", "--resume", marks=pytest.mark.soak)])
def test_the_conductor_of_streams_is_killed(mongo, point, then):
    """And then all programs of both homes are, before it goes on."""
    homes = with_streams(mongo)
    a, b = homes
    try:
        for h in homes:
            h.up()
        publish(a, 100)
        until(lambda: len(a.docs("acme")) == 100, a.path / "state", what="stored")
        once = a.base / "once"
        subprocess.run([a.program("mysimbdp"), "tenant", "move", "acme", "--to", str(b.path)], capture_output=True,
                       env={**a.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(once)})
        assert once.exists()
        one_owner(a, b, "acme")
        for h in homes:
            for program in ("broker", "streammgr"):
                os.kill(h.control({"op": "status"}, program=f"{program}.sock")["pid"], signal.SIGKILL)
        until(lambda: all(asked(h, p) for h in homes for p in ("broker", "streammgr")), a.path / "state", what="all of them")
        one_owner(a, b, "acme")
        a.cli("tenant", "move", "acme", then)
        went_on(*((b, a) if then == "--resume" else (a, b)), 100)
        if then == "--undo":
            assert not b.rows("queue", "list")
    finally:
        for h in homes:
            h.cleanup()


@pytest.mark.needs_root
def test_the_other_brokers_disk_is_full(mongo):
    """It says so, keeps nothing, and serves its own tenants; with room it goes on."""
    homes = with_streams(mongo)
    a, b = homes
    try:
        (b.path / "state/broker").mkdir(mode=0o700)
        b.mount_tmpfs("state/broker", "20M")
        b.streams("own", name="beta")
        for h in homes:
            h.up()
        body = json.dumps({"v": 0, "pad": "x" * 60000}).encode()
        with peer(a) as p:
            for i in range(40):
                p.publish("acme/events", [body] * 10)
        until(lambda: waiting(a, "load") == 0, a.path / "state", what="stored")
        r = a.cli("tenant", "move", "acme", "--to", b.path, check=False)
        assert r.returncode == 1 and "no room" in r.stderr and "--undo" in r.stderr, r.stderr
        assert not [q for q in b.rows("queue", "list") if q["tenant_id"] == "acme" and q["ready"]]
        with peer(b) as p:
            until(lambda: published(p, "beta/own"), b.path / "state", what="its own tenant's messages are taken")
        a.cli("tenant", "move", "acme", "--undo")
        assert (state(a, "acme"), state(b, "acme")) == ("active", None)
        assert waiting(a) == 400
    finally:
        for h in homes:
            h.cleanup()


def published(p, stream):
    try:
        return p.publish(stream, [b"x"])
    except Refused as e:
        assert e.code == "full", e
        return None


def answers(h):
    try:
        return h.control({"op": "status"})["ok"]
    except (OSError, AssertionError):
        return False


def test_the_other_home_is_away(pair_of_two):
    a, b = pair_of_two
    a.drop("a.csv", "v\n0\n")
    a.wait_files(1)
    once = a.base / "once"
    subprocess.run([a.program("mysimbdp"), "tenant", "move", "acme", "--to", str(b.path)], capture_output=True,
                   env={**a.env, "SIMBDP_CRASH_AT": "move_held", "SIMBDP_CRASH_ONCE": str(once)})
    b.down()
    r = a.cli("tenant", "move", "acme", "--resume", check=False)
    assert r.returncode == 1 and "does not run" in r.stderr and "stands still" in r.stderr, r.stderr
    # this home may have it back without asking: nobody over there takes it up by himself
    r = a.cli("tenant", "move", "acme", "--undo")
    assert "--forget" in r.stderr
    assert state(a, "acme") == "active"
    b.up()
    assert state(b, "acme") == "moving"
    forget = r.stderr[r.stderr.rindex("`mysimbdp ") + 10:].split("`")[0].split()
    b.cli(*forget)
    assert state(b, "acme") is None
    a.cli("tenant", "move", "acme", "--to", b.path)
    stored_once(a, b, "acme", [0])


@pytest.fixture
def pair_of_two(home, mongo):
    other = Home(mongo)
    home.tenant("acme")
    other.db_of["acme"] = home.db_of["acme"]
    home.up()
    other.up()
    yield home, other
    other.cleanup()


@pytest.mark.needs_root
def test_the_other_disk_is_full(home, mongo):
    other = Home(mongo)
    try:
        home.tenant("acme")
        other.db_of["acme"] = home.db_of["acme"]
        other.mount_tmpfs("done", "1M")
        home.up()
        other.up()
        home.drop("big.csv", "v\n" + "".join(f"{i}\n" for i in range(400000)))
        home.wait_files(1)
        r = home.cli("tenant", "move", "acme", "--to", other.path, check=False)
        assert r.returncode == 1 and "No space left" in r.stderr and "--undo" in r.stderr, r.stderr
        assert state(home, "acme") == "active", "it works meanwhile: only the copy ahead failed"
        home.cli("tenant", "move", "acme", "--undo")
        assert state(other, "acme") is None
        home.drop("a.csv", "v\n-1\n")
        assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    finally:
        other.cleanup()


def test_an_older_backup_of_the_source_does_not_have_it_twice(pair_of_two):
    a, b = pair_of_two
    a.drop("a.csv", "v\n0\n")
    a.wait_files(1)
    a.cli("backup", a.base / "backup")
    a.cli("tenant", "move", "acme", "--to", b.path)
    a.cli("restore", a.base / "backup", a.base / "again")
    restored = Home.__new__(Home)
    restored.__dict__.update(a.__dict__, path=a.base / "again", env={**a.env, "MYSIMBDP_HOME": str(a.base / "again")})
    assert state(restored, "acme") == "moved"
    r = restored.cli("tenant", "move", "acme", "--status")
    assert str(b.path) in r.stdout


def test_nor_when_the_source_is_gone(home, mongo, restore):
    """Nobody is left to say that it was moved but its database."""
    other = Home(mongo)
    try:
        home.tenant("acme")
        home.tenant("beta")
        other.db_of["acme"] = home.db_of["acme"]
        home.up()
        other.up()
        home.drop("a.csv", "v\n0\n")
        home.wait_files(1)
        until(lambda: mongo.client[home.db_of["acme"]].simbdp_home.count_documents({}) == 1, home.path, what="its mark")
        backup(home)
        home.cli("tenant", "move", "acme", "--to", other.path)
        until(lambda: home.path.exists() and mark(mongo, home) not in (None, "home"), other.path, what="the other one's mark alone")
        gone(home)
        again = restore(home)
        again.up()
        again.drop("b.csv", "v\n1\n")
        again.drop("c.csv", "v\n2\n", "beta")
        assert again.wait_file(tenant_id="beta")["state"] == "ingested"
        until(lambda: any("another one" in (t["waits_for"] or "") for t in again.control({"op": "status"})["tenants"] if t["tenant_id"] == "acme"),
              again.path / "state", what=lambda: again.control({"op": "status"})["tenants"])
        assert again.count("acme") == 1
        stored_once(home, other, "acme", [0])
    finally:
        other.cleanup()


def mark(mongo, home):
    found = list(mongo.client[home.db_of["acme"]].simbdp_home.find())
    known = json.loads((home.path / "state/mongo.marks").read_text())["marks"]
    mine = next(m["id"] for m in known if m["tenant"] == "acme")
    return None if len(found) != 1 else "home" if found[0]["_id"] == mine else "other"
