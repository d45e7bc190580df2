"""mysimbdp tenant move: a tenant goes to another home while both work. Nothing is lost, nothing is stored twice, and at any time at most one of
the two homes has it."""
import json
import os
import sqlite3
import subprocess
import threading
import time

import pytest
from cells import Fleet
from docs_blocks import blocks_below
from harness import BUILD, FINAL, IS_ROOT, ROOT, Home, until

pytestmark = pytest.mark.once
ROWS = "v\n1\n2\n"


@pytest.fixture
def other(mongo):
    h = Home(mongo)
    yield h
    h.cleanup()


@pytest.fixture
def own():
    """Two homes with a MongoDB each."""
    pair = [Home(own_mongo=True), Home(own_mongo=True)]
    yield pair
    for h in pair:
        h.cleanup()


def records(h):
    return {p.name: json.loads(p.read_text()) for p in (h.path / "state/moves").glob("*.json")}


def state(h, tenant="acme"):
    return next((t["state"] for t in h.rows("tenant", "list") if t["tenant_id"] == tenant), None)


def uid_of(h, tenant="acme"):
    return next(t["uid"] for t in h.rows("tenant", "list") if t["tenant_id"] == tenant)


def move(h, to, *args, check=True):
    return h.cli("tenant", "move", "acme", "--to", to.path, *args, check=check)


def past(h):
    return sorted((f["file_id"], f["state"], f["file_name"], f["received_at"]) for f in h.files(tenant_id="acme"))


def test_a_tenant_moves_while_both_homes_work(home, other, mongo):
    home.tenant("acme")
    home.tenant("beta")
    other.tenant("zeta")
    home.cli("user", "add", "ann@acme", "--role", "tenant-writer", "--tenant", "acme", input="correct horse battery\n")
    home.up()
    other.up()
    (home.path / "conf/own").mkdir()
    (home.path / "conf/own/acme.conf").write_text("\n")
    (home.path / "keys/acme").mkdir()
    (home.path / "keys/acme/secret").write_text("s3")
    for i in range(5):
        home.drop(f"a{i}.csv", f"v\n{i}\n")
    home.drop("bad.csv", b"\xff\xfe\x00")
    home.wait_files(6)
    before, runs, stats = past(home), len(home.rows("runs", "--tenant", "acme")), home.rows("stats", "--tenant", "acme")
    other.db_of["acme"] = home.db_of["acme"]
    said = json.loads(move(home, other, "--json").stdout)
    assert said["ok"] and said["paused_s"] < 15
    assert past(other) == before and len(other.rows("runs", "--tenant", "acme")) == runs
    assert other.rows("stats", "--tenant", "acme") == stats
    assert (state(home), state(other)) == ("moved", "active")
    assert not home.rows("stats", "--tenant", "acme") and home.rows("stats")[-1]["files"] == 0, "it is not billed twice"
    assert home.rows("files", "--tenant", "acme")
    assert "ann@acme" in [u["name"] for u in other.rows("user", "list")]
    assert (other.path / "keys/acme/secret").read_text() == "s3" and (other.path / "conf/own/acme.conf").exists()
    done = [p.relative_to(home.path) for p in (home.path / "done/acme").rglob("*") if p.is_file()]
    assert done and all((other.path / p).read_bytes() == (home.path / p).read_bytes() for p in done)
    if IS_ROOT:
        uid = uid_of(other)
        assert uid != uid_of(home)
        assert {os.stat(other.path / p).st_gid for p in ("staging/acme/data",)} == {uid}
    # it works there, and what it had counts: the same content is a duplicate
    other.drop("again.csv", "v\n3\n")
    other.drop("new.csv", "v\n77\n")
    assert other.wait_file(file_name="again.csv")["state"] == "duplicate"
    assert other.wait_file(file_name="new.csv")["state"] == "ingested"
    assert sorted(d["v"] for d in home.docs()) == [0, 1, 2, 3, 4, 77]
    # here it is refused in words that say where it is, also after a restart and a reload
    (home.base / "late.csv").write_text("v\n9\n")
    for again in (False, True):
        r = home.cli("upload", "acme", "data", home.base / "late.csv", check=False)
        assert r.returncode == 1 and str(other.path) in r.stderr, r.stderr
        r = home.cli("tenant", "resume", "acme", check=False)
        assert r.returncode == 1 and str(other.path) in r.stderr, r.stderr
        if not again:
            home.reload()
            home.kill_batchmgr()
    if IS_ROOT:
        assert (home.path / "staging/acme/data").stat().st_mode & 0o7777 == 0o700
    # what is left of it can go, and takes nothing of the other home's with it
    home.cli("tenant", "remove", "acme", "--purge")
    assert state(home) is None and not list((home.path / "done").glob("acme/*")) and records(home) == {}
    assert sorted(d["v"] for d in home.docs()) == [0, 1, 2, 3, 4, 77], "one MongoDB: its documents are the other home's"
    # and it can come back
    assert json.loads(other.cli("tenant", "move", "acme", "--to", home.path, "--json").stdout)["ok"]
    assert len(past(home)) == len(before) + 2
    home.drop("back.csv", "v\n78\n")
    assert home.wait_file(file_name="back.csv")["state"] == "ingested"
    assert state(other) == "moved"


def test_with_a_mongodb_each_the_documents_move(own):
    a, b = own
    a.tenant("acme")
    a.up()
    b.up()
    a.drop("one.csv", ROWS)
    a.wait_files(1)
    move(a, b)
    b.db_of["acme"] = a.db_of["acme"]
    b.drop("two.csv", "v\n3\n")
    b.wait_files(2)
    assert {f["state"] for f in b.files()} == {"ingested"}
    assert b.cli("verify").returncode == 0
    assert len(a.rows("files")) == 1, "what is left of it"


def test_files_that_wait_and_run_go_on_there(home, other, mongo):
    home.tenant("acme", apps='{ app = "slow"; exec = "slow.sh"; pattern = "slow*"; output = "stdout"; }, '
                             '{ app = "held"; exec = "builtin:load"; pattern = "held*"; trigger = "manual"; }, '
                             '{ app = "fast"; exec = "builtin:load"; }')
    script = home.path / "apps/acme/slow.sh"
    script.write_text(f"#!/bin/sh\nwhile [ ! -e {home.base}/go ]; do sleep 0.05; done\ntail -n +2 | sed 's/.*/{{\"v\":&}}/'\n")
    script.chmod(0o755)
    # the other home's profile lets it see this one's directory, so that the script can end there
    other.profiles(mounts=f'"{home.base}:rw", "{other.base}:rw", "{ROOT}"')
    home.up()
    other.up()
    for i in range(6):
        home.drop(f"slow{i}.csv", f"v\n{i}\n")
    home.drop("held.csv", "v\n50\n")
    home.wait_running(2)
    until(lambda: home.files(file_name="held.csv", reason="trigger"), home.path / "state", what="a held file")
    move(home, other)
    assert not [r for r in home.rows("runs") if r["state"] != "ended"], "no run is left here"
    (home.base / "go").touch()
    other.db_of["acme"] = home.db_of["acme"]
    until(lambda: len(other.files(state="ingested")) == 6, other.path / "state", what="the slow ones")
    assert other.files(file_name="held.csv")[0]["state"] == "queued"
    other.cli("run", "acme/held")
    other.wait_files(7)
    assert sorted(d["v"] for d in home.docs()) == [0, 1, 2, 3, 4, 5, 50]
    assert {f["attempts"] for f in other.files()} == {1}, "a run that was ended for the move is no attempt"
    assert not list((other.path / "work").iterdir())


def test_suspended_stays_suspended(home, other):
    home.tenant("acme")
    home.up()
    other.up()
    home.cli("tenant", "suspend", "acme")
    move(home, other)
    assert state(other) == "suspended"
    other.drop("a.csv", ROWS)
    other.cli("tenant", "resume", "acme")
    assert other.wait_file(file_name="a.csv")["state"] == "ingested"


def test_files_arrive_all_the_time(home, other, mongo):
    """A client that hands files in goes on with each until it is taken, here or there; keys make what is repeated one."""
    home.tenant("acme")
    home.up()
    other.up()
    other.db_of["acme"] = home.db_of["acme"]
    stop, taken, longest = threading.Event(), [], [0.0]

    def deliver():
        at = home
        for i in range(100000):
            path = home.base / f"f{i}.csv"
            path.write_text(f"v\n{i}\n")
            began = time.monotonic()
            while True:
                r = subprocess.run([at.program("mysimbdp"), "upload", "acme", "data", str(path)], env=at.env, capture_output=True, text=True)
                if r.returncode == 0:
                    break
                assert "moved" in r.stderr, r.stderr
                if "was moved to" in r.stderr:
                    at = other
            longest[0] = max(longest[0], time.monotonic() - began)
            taken.append(i)
            if stop.is_set() and at is other:
                return
    t = threading.Thread(target=deliver)
    t.start()
    until(lambda: len(taken) > 5, home.base, what="some files")
    said = json.loads(move(home, other, "--json").stdout)
    stop.set()
    t.join()
    other.wait_files(len(taken))
    assert {f["state"] for f in other.files()} == {"ingested"}
    assert sorted(d["v"] for d in home.docs()) == taken
    assert not [f for f in home.files() if f["state"] not in FINAL and f["file_id"] not in {g["file_id"] for g in other.files()}]
    print(f"stood still for {said['paused_s']:.2f} s; the longest a client waited: {longest[0]:.2f} s")


def refused(home, other, why, *args):
    r = home.cli("tenant", "move", "acme", "--to", other.path, *args, check=False)
    assert r.returncode == 1 and why in r.stderr, r.stderr
    return r


def test_what_cannot_be_moved_is_said_and_nothing_changes(home, other):
    home.tenant("acme")
    home.tenant("beta")
    refused(home, other, "does not run")
    home.up()
    refused(home, other, "does not run")
    other.tenant("acme")
    other.up()
    refused(home, other, "has a tenant acme already")
    home.cli("tenant", "move", "acme", "--undo")
    assert state(home) == "active" and state(other) == "active"
    assert home.cli("tenant", "move", "beta", "--to", home.path, check=False).returncode == 1
    # a profile that is not there
    (home.path / "conf/profiles.conf").write_text((home.path / "conf/profiles.conf").read_text().replace('( {', '( { name = "big"; }, {', 1))
    home.tenant("delta", apps='{ app = "app"; exec = "builtin:load"; profile = "big"; }')
    home.reload()
    r = home.cli("tenant", "move", "delta", "--to", other.path, check=False)
    assert r.returncode == 1 and "big" in r.stderr, r.stderr
    assert home.cli("tenant", "remove", "delta", "--purge", check=False).returncode == 1, "while it is being moved"
    home.cli("tenant", "move", "delta", "--undo")
    assert state(other, "delta") is None and records(home) == {} and records(other) == {}
    home.drop("d.csv", ROWS, "delta")
    assert home.wait_file(file_name="d.csv", tenant_id="delta")["state"] == "ingested"


def test_a_user_of_the_same_name_is_in_the_way(home, other):
    for h, tenant in ((home, "acme"), (other, "beta")):
        h.tenant(tenant)
        h.cli("user", "add", "ann", "--role", "tenant-writer", "--tenant", tenant, input="correct horse battery\n")
        h.up()
    refused(home, other, "user ann")
    other.cli("user", "remove", "ann")
    home.cli("tenant", "move", "acme", "--resume")
    assert [(u["name"], u["tenant_id"]) for u in other.rows("user", "list") if u["tenant_id"]] == [("ann", "acme")]


def test_as_a_stream_by_hand(home, other):
    """What goes through ssh between machines; and what came of it when it was damaged on the way."""
    home.tenant("acme")
    home.up()
    other.up()
    home.drop("a.csv", ROWS)
    home.wait_files(1)
    with open(home.base / "stream", "wb") as f:
        said = subprocess.run([home.program("mysimbdp"), "tenant", "export", "acme", "--to", "cell-b", "--no-documents"], env=home.env, stdout=f,
                              stderr=subprocess.PIPE, text=True, check=True).stderr
    assert state(home) == "moving"
    whole = (home.base / "stream").read_bytes()

    def take(data):
        return subprocess.run([other.program("mysimbdp"), "tenant", "import"], env=other.env, input=data, capture_output=True)
    for bad in (whole[:len(whole) // 2], whole[:3000] + bytes([whole[3000] ^ 1]) + whole[3001:], b"", b"no stream" * 1000):
        r = take(bad)
        assert r.returncode == 1 and r.stderr, r
        assert not (other.path / "conf/tenants/acme.conf").exists() and state(other) is None
        assert not list((other.path / "state/moves").glob("in.*"))
    r = take(whole)
    assert r.returncode == 0, r.stderr
    assert state(other) == "moving"
    ident = records(other)["acme.json"]["move"]
    assert ident in said
    home.cli("tenant", "move", "acme", "--given")
    assert "cell-b" in home.cli("tenant", "move", "acme", "--status").stdout
    assert state(home) == "moved"
    other.cli("tenant", "move", "acme", "--arrived", ident)
    other.db_of["acme"] = home.db_of["acme"]
    other.drop("b.csv", "v\n9\n")
    assert other.wait_file(file_name="b.csv")["state"] == "ingested"
    assert home.cli("tenant", "move", "acme", "--undo", check=False).returncode == 1
    assert take(whole).returncode == 1, "it is here already"


def test_a_stream_brings_nothing_but_the_tenants(home, other):
    home.tenant("acme")
    home.up()
    other.up()
    with open(home.base / "backup", "wb") as f:
        subprocess.run([home.program("mysimbdp"), "backup", "-"], env=home.env, stdout=f, stderr=subprocess.PIPE, check=True)
    r = subprocess.run([other.program("mysimbdp"), "tenant", "import"], env=other.env, input=(home.base / "backup").read_bytes(), capture_output=True)
    assert r.returncode == 1 and b"no tenant's stream" in r.stderr, r.stderr


def test_a_writer_is_waited_for(home, other):
    home.tenant("acme")
    home.up()
    other.up()
    at = home.path / "staging/acme/data/slow.csv"
    with open(at, "w") as f:
        f.write("v\n1\n")
        f.flush()
        until(lambda: True, home.base)
        r = move(home, other, check=False)
        assert r.returncode == 1 and "still being written" in r.stderr, r.stderr
        f.write("2\n")
    home.cli("tenant", "move", "acme", "--resume")
    other.db_of["acme"] = home.db_of["acme"]
    assert other.wait_file(file_name="slow.csv")["state"] == "ingested"
    assert other.files()[0]["rows_loaded"] == 2


def rows_of(h, tenant="acme"):
    """All that the ledger has of it, column by column; without what follows from the step that it is at."""
    with sqlite3.connect(f"file:{h.path}/state/ledger.db?mode=ro", uri=True) as db:
        db.row_factory = sqlite3.Row
        return {t: sorted((tuple(r) for r in db.execute(sql, (tenant,))), key=repr) for t, sql in (
            ("files", "SELECT * FROM files WHERE tenant=?"), ("runs", "SELECT * FROM runs WHERE tenant=?"),
            ("hand_ins", "SELECT * FROM hand_ins WHERE tenant=?"),
            ("quality", "SELECT q.* FROM quality q JOIN files USING(file_id) WHERE tenant=?"))}


def test_every_state_that_a_file_can_wait_in(home, other, mongo):
    """Waiting for a time, for the same content, for its group, for its trigger, quarantined: each goes on there as it would have here."""
    home.tenant("acme", apps='{ app = "later"; exec = "later.sh"; pattern = "later*"; output = "stdout"; retry = { backoff_ms = 3600000; max_backoff_ms = 3600000; }; }, '
                             '{ app = "bad"; exec = "bad.sh"; pattern = "bad*"; output = "stdout"; }, '
                             '{ app = "group"; exec = "builtin:load"; pattern = "group*"; group = { max_files = 5; max_wait_ms = 3600000; }; }, '
                             '{ app = "manual"; exec = "builtin:load"; pattern = "manual*"; trigger = "manual"; }, { app = "load"; exec = "builtin:load"; }')
    for name, code in (("later.sh", 75), ("bad.sh", 65)):
        script = home.path / "apps/acme" / name
        script.write_text(f"#!/bin/sh\nexit {code}\n")
        script.chmod(0o755)
    home.up()
    other.up()
    other.db_of["acme"] = home.db_of["acme"]
    for i, name in enumerate(("later", "bad", "group0", "group1", "manual", "load")):
        home.drop(f"{name}.csv", f"v\n{i}\n")
    until(lambda: {(f["file_name"], f["state"]) for f in home.files()} >= {("later.csv", "waiting"), ("bad.csv", "quarantined"), ("load.csv", "ingested")} and
          home.files(file_name="manual.csv", reason="trigger"), home.path / "state", what=lambda: home.files())
    home.drop("manual-again.csv", "v\n4\n")
    until(lambda: home.files(file_name="manual-again.csv", reason="same_content"), home.path / "state", what="one behind the same content")
    (home.base / "up.csv").write_text("v\n66\n")
    assert home.cli("tenant", "move", "acme", "--status", check=False).returncode == 1
    once = home.base / "once"
    subprocess.run([home.program("mysimbdp"), "tenant", "move", "acme", "--to", str(other.path)], capture_output=True,
                   env={**home.env, "SIMBDP_CRASH_AT": "move_held", "SIMBDP_CRASH_ONCE": str(once)})
    was = rows_of(home)
    bad = home.files(file_name="bad.csv")[0]["file_id"]
    for order in (("retry", bad), ("upload", "acme", "data", home.base / "up.csv"), ("retry", "--tenant", "acme"), ("tenant", "resume", "acme")):
        r = home.cli(*order, check=False)
        assert r.returncode == 1 and "moved" in r.stderr, (order, r.stderr)
    home.reload()
    home.kill_batchmgr()
    assert rows_of(home) == was, "held: nothing of it changes"
    assert home.control({"op": "status", "tenant_id": "acme"})["tenants"][0]["unfinished"] == 0, "a new batchmgr does not take it up"
    home.cli("tenant", "move", "acme", "--resume")
    assert rows_of(home) == was
    now = rows_of(other)
    for table in ("runs", "quality", "hand_ins"):
        assert now[table] == was[table], table
    other.cli("retry", bad)
    until(lambda: other.files(file_name="bad.csv", state="quarantined", attempts=1) or other.files(file_name="bad.csv", state="quarantined"), other.path / "state", what="again")
    assert other.files(file_name="later.csv")[0]["state"] == "waiting"
    other.cli("run", "acme/group")
    other.cli("run", "acme/manual")
    until(lambda: {f["file_name"]: f["state"] for f in other.files()} == {
        "later.csv": "waiting", "bad.csv": "quarantined", "group0.csv": "ingested", "group1.csv": "ingested", "manual.csv": "ingested",
        "load.csv": "ingested", "manual-again.csv": "duplicate"}, other.path / "state", what=lambda: other.files())
    assert sorted(d["v"] for d in home.docs()) == [2, 3, 4, 5]


def test_undone_it_goes_on_here(home, other):
    home.tenant("acme", apps='{ app = "manual"; exec = "builtin:load"; trigger = "manual"; }')
    home.up()
    other.up()
    home.drop("a.csv", ROWS)
    until(lambda: home.files(reason="trigger"), home.path / "state", what="a held file")
    once = home.base / "once"
    subprocess.run([home.program("mysimbdp"), "tenant", "move", "acme", "--to", str(other.path)], capture_output=True,
                   env={**home.env, "SIMBDP_CRASH_AT": "move_copied", "SIMBDP_CRASH_ONCE": str(once)})
    assert (state(home), state(other)) == ("moving", "moving")
    home.cli("tenant", "move", "acme", "--undo")
    assert (state(home), state(other)) == ("active", None)
    home.cli("run", "acme/manual")
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    home.drop("b.csv", "v\n5\n")
    until(lambda: home.files(file_name="b.csv", reason="trigger"), home.path / "state", what="taken in again")


def test_the_page_of_operations(home, other):
    home.tenant("acme")
    home.up()
    other.up()
    (text,) = blocks_below("docs/operations.md", "Moving a tenant")
    typed(home, other, text)
    assert (state(home), state(other)) == (None, "active")


def test_the_page_by_hand(home, other):
    home.tenant("acme")
    home.up()
    other.up()
    (text,) = blocks_below("docs/operations.md", "Moving a tenant to another machine")
    ssh = home.base / "ssh"
    ssh.write_text('#!/bin/sh\nshift\nexec "$@"\n')
    ssh.chmod(0o755)
    typed(home, other, text)
    assert (state(home), state(other)) == ("moved", "active")


def typed(home, other, text):
    for line in text.strip().replace("/srv/cell-b", str(other.path)).splitlines():
        env = {**home.env, "PATH": f"{BUILD}:{home.base}:/usr/bin:/bin"}
        if "$MOVE" in line:
            env["MOVE"] = records(home)["acme.json"]["move"]
        r = subprocess.run(["bash", "-eu", "-o", "pipefail", "-c", line], env=env, capture_output=True, text=True)
        assert r.returncode == 0, r.stderr


def test_the_fleets_map_follows_a_move(home, other, tmp_path):
    """It says `moving` from the pause on, then the new cell, and the old one where the move is undone. What an operator has not signed yet stays so."""
    fleet = Fleet(tmp_path / "fleet")
    fleet.cli("init", fleet.path)
    fleet.sign(("add", "one", "https://one.example"), ("add", "two", "https://two.example"), ("assign", "beta", "one"))
    home.tenant("acme")
    other.db_of["acme"] = home.db_of["acme"]
    home.up()
    other.up()
    home.drop("a.csv", ROWS)
    home.wait_file(file_name="a.csv")
    along = ("--cells", fleet.path, "--cell", "two")

    def where():
        return [(r["cell"], r["moving"]) for r in fleet.rows("show", "acme")]
    assert "has no tenant acme" in move(home, other, *along, check=False).stderr
    fleet.sign(("assign", "acme", "one"))
    assert "has no cell three" in move(home, other, *along[:3], "three", check=False).stderr
    assert "go together" in move(home, other, *along[:2], check=False).stderr
    assert state(home) == "active" and not records(home), "nothing was begun"
    fleet.cli("add", "later", "https://later.example")

    def killed(point):
        r = subprocess.run([home.program("mysimbdp"), "tenant", "move", "acme", "--to", str(other.path), *map(str, along)], capture_output=True, text=True,
                           env={**home.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(home.base / f"once-{point}")})
        assert r.returncode != 0 and (home.base / f"once-{point}").exists(), (point, r.stderr)
    killed("move_copied")
    assert where() == [("one", True)] and state(home) == "moving"
    home.cli("tenant", "move", "acme", "--undo")
    assert where() == [("one", False)] and state(home) == "active"
    killed("move_taken_up")
    assert where() == [("one", True)], "nobody is let to it before the map says where it is"
    home.cli("tenant", "move", "acme", "--resume")
    assert where() == [("two", False)] and (state(home), state(other)) == ("moved", "active")
    signed = (fleet.path / "map").read_text()
    assert "cell later" not in signed and "cell later" in (fleet.path / "draft").read_text() and "tenant acme two\n" in (fleet.path / "draft").read_text()
    assert "serial 6\n" in signed and "valid until" in fleet.cli("verify", fleet.path / "map", "--key", fleet.path / "map.pub")
