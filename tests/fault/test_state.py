"""State that was deleted, emptied, restored from an older copy or damaged: what is said, what is kept, what is lost."""
import contextlib
import json
import random
import shutil
import signal
import sqlite3
import subprocess

import pytest
from harness import IS_ROOT, change, json_lines, until

pytestmark = pytest.mark.once


def ledger(home):
    return home.path / "state/ledger.db"


def gone(home):
    for path in home.path.glob("state/ledger.db*"):
        path.unlink()


def emptied(home):
    gone(home)
    ledger(home).touch()


def another(home):
    gone(home)
    with contextlib.closing(sqlite3.connect(ledger(home))) as db:
        db.executescript("CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT); INSERT INTO meta VALUES('schema_version','7');")


def older(home):
    gone(home)
    shutil.copy(home.base / "older.db", ledger(home))


@pytest.mark.parametrize("damage, why", [(gone, "the ledger this home had is gone"), (emptied, "the ledger this home had is gone"), (another, "gone"), (older, "commits are missing")])
def test_a_ledger_that_lacks_what_the_home_had_starts_nothing(home, damage, why):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.down()
    shutil.copy(ledger(home), home.base / "older.db")
    home.up()
    home.drop("b.csv", "v\n2\n")
    b = home.wait_file(file_name="b.csv")
    home.down()
    kept = {p.name: p.read_bytes() for p in home.path.glob("state/ledger.db*")}
    damage(home)
    r = home.cli("up", check=False)
    assert r.returncode == 1 and why in r.stderr and "verify --accept" in r.stderr and "ledger.db" in r.stderr, r.stderr
    assert home.count() == 2 and home.pids("batchmgr") == []
    r = home.cli("verify", check=False)
    assert r.returncode == 1 and ("ledger changed" in r.stdout or damage is emptied)
    if damage is older:
        assert r.returncode == 1 and f"not in ledger    {b['file_id']}" in r.stdout
    gone(home)
    for name, text in kept.items():  # put back: as if nothing had been
        (home.path / "state" / name).write_bytes(text)
    home.up()
    home.drop("b.csv", "v\n2\n")
    assert [f["state"] for f in home.wait_files(3)] == ["ingested", "ingested", "duplicate"]
    home.down()
    damage(home)
    r = home.cli("verify", "--accept", check=False)
    assert "takes the ledger as it is" in r.stdout
    home.up()
    home.drop("c.csv", "v\n3\n")
    assert home.wait_file(file_name="c.csv")["state"] == "ingested"


def test_a_ledger_whose_wal_went_is_noticed(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.up_process.send_signal(signal.SIGSTOP)  # it is not to start another one
    home.kill("batchmgr")
    home.up_process.kill()
    home.up_process.wait()
    until(lambda: not any(home.pids(p) for p in ("broker", "streammgr", "monitor", "simbdp-run")), home.path / "logs", what="the others to end")
    assert ledger(home).with_name("ledger.db-wal").stat().st_size
    ledger(home).with_name("ledger.db-wal").unlink()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "verify --accept" in r.stderr, r.stderr


def book_gone(home):
    for path in home.path.glob("state/streams.db*"):
        path.unlink()


def book_emptied(home):
    book_gone(home)
    (home.path / "state/streams.db").touch()


def book_older(home):
    book_gone(home)
    shutil.copy(home.base / "older.db", home.path / "state/streams.db")


def book_another(home):
    book_older(home)
    with change(home.path / "state/streams.db") as db:
        db.execute("UPDATE continuity SET id=?", ["0" * 26])


@pytest.mark.parametrize("damage, why", [(book_gone, "this home had is gone"), (book_emptied, "this home had is gone"), (book_another, "is another one than this home had"), (book_older, "commits are missing")])
def test_a_book_that_lacks_what_the_home_had_starts_nothing(home, damage, why):
    def state():
        (app,) = home.rows("app", "list")
        return app["state"]
    home.streams("s")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('app = "consume"; stream = "s";', 'app = "consume"; stream = "s"; exec = "/bin/cat"; min_instances = 0;'))
    home.up()
    home.down()
    with contextlib.closing(sqlite3.connect(home.path / "state/streams.db")) as db:  # if it was not closed properly, all of it is in the log
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(home.path / "state/streams.db", home.base / "older.db")
    home.up()
    home.cli("app", "stop", "acme/consume")
    home.down()
    assert state() == "stopped" and "0 things found" in home.cli("verify").stdout
    kept = {p: p.read_bytes() for p in home.path.glob("state/streams.*")}
    damage(home)
    for _ in range(2):  # a refusal, and what lists, leave all as it is
        r = home.cli("up", check=False)
        assert r.returncode == 1 and why in r.stderr and "verify --accept" in r.stderr and "streams.db" in r.stderr, r.stderr
        assert damage in (book_another, book_older) or home.cli("app", "list", check=False).returncode == 1
    r = home.cli("verify", check=False)
    assert r.returncode == 1 and "book changed" in r.stdout and why in r.stdout, r.stdout
    book_gone(home)
    for path, text in kept.items():
        path.write_bytes(text)
    home.up()
    assert state() == "stopped"
    assert home.cli("verify", "--accept", check=False).returncode == 1, "streammgr would go on writing"
    home.down()
    damage(home)
    assert "the book of instances" in home.cli("verify", "--accept", check=False).stdout
    home.up()
    assert state() != "stopped" and "0 things found" in home.cli("verify").stdout


def test_a_book_whose_mark_went_is_taken_with_a_word(home):
    home.streams("s")
    home.up()
    home.down()
    (home.path / "state/streams.mark").unlink()
    home.up()
    assert "state/streams.mark is gone" in (home.path / "logs/streammgr.log").read_text()


def flipped(path, bit):
    with open(path, "r+b") as f:
        f.seek(bit // 8)
        byte = f.read(1)[0]
        f.seek(bit // 8)
        f.write(bytes([byte ^ 1 << bit % 8]))


@pytest.mark.anyone
@pytest.mark.parametrize("name", ["ledger.db", "streams.db"])
def test_one_bit_that_flipped_is_noticed_wherever_it_is(home, name):
    home.streams("s")
    home.tenant("beta")
    home.up()
    for i in range(20):
        home.drop(f"{i}.csv", f"v\n{i}\n", "beta")
    home.wait_files(20)
    home.down()
    path = home.path / "state" / name
    assert "0 things found" in home.cli("verify").stdout
    draw, bits = random.Random(1), path.stat().st_size * 8
    # In the header: the magic, the page size, the byte that says that there are checksums, the schema's format.
    for n, bit in enumerate([3, 16 * 8 + 4, 20 * 8 + 2, 47 * 8, *(draw.randrange(bits) for _ in range(20))]):
        flipped(path, bit)
        r = home.cli("verify", check=False)
        assert r.returncode == 1 and ("damaged" in r.stdout or "cannot read" in r.stderr), (bit, r.stdout, r.stderr)
        if n % 6 == 2:
            r = home.cli("up", check=False)
            assert r.returncode == 1 and name in r.stderr and "damaged" in r.stderr and "backup" in r.stderr, (bit, r.stderr)
        flipped(path, bit)
    flipped(path, (path.stat().st_size - 2000) * 8)
    assert home.cli("up", check=False).returncode == 1
    assert f"1 damaged pages of state/{name} are taken" in home.cli("verify", "--accept", check=False).stdout
    flipped(path, (path.stat().st_size - 2000) * 8)
    home.up()
    home.drop("0.csv", "v\n0\n", "beta")
    assert len([f for f in home.wait_files(21) if f["state"] == "ingested"]) == 20


def damage(path, how):
    data = bytearray(path.read_bytes())
    if how == "deleted":
        path.unlink()
        return
    if how == "flipped":
        data[len(data) // 3] ^= 4
    path.write_bytes({"emptied": b"", "half": data[:len(data) // 2], "flipped": data, "garbage": b"\xff\0garbage\n" * 40}[how])


MADE_AGAIN = {"state/uids.json": "made again from what this host knows", "keys/master.key": "made anew", "state/continuity": "gone or damaged"}
SMALL = [*((name, how) for name in ("keys/broker.curve", "keys/monitor.curve", "keys/master.key", "state/home.json", "state/uids.json") for how in ("emptied", "half", "flipped", "garbage")),
         ("state/home.json", "deleted"), *((name, "deleted") for name in MADE_AGAIN), *(("state/continuity", how) for how in ("emptied", "half", "garbage")),
         *((name, how) for name in ("state/databases.json", "state/mongo.json") for how in ("deleted", "emptied", "half", "garbage"))]


def test_small_files_of_a_home_are_refused_by_name_or_made_again(home):
    """Whatever becomes of them, nothing stalls, and nothing is lost or made up without a word."""
    home.streams("s")
    home.tenant("beta")
    home.up()
    home.drop("0.csv", "v\n0\n", "beta")
    home.wait_files(1)
    home.down()
    kept = home.base / "kept"
    subprocess.run(["/usr/bin/cp", "-a", home.path, kept], check=True)
    for n, (name, how) in enumerate(SMALL, 1):
        if name == "state/uids.json" and (not IS_ROOT or how == "flipped"):
            continue  # what they have is one uid; a digit of its id is as good as another
        for d in ("state", "keys"):
            shutil.rmtree(home.path / d)
            subprocess.run(["/usr/bin/cp", "-a", kept / d, home.path / d], check=True)
        for d in ("done/beta/data", "runs"):
            for path in (home.path / d).iterdir():
                if not (kept / d / path.name).exists():
                    shutil.rmtree(path)
        damage(home.path / name, how)
        logs = {p: p.stat().st_size for p in (home.path / "logs").glob("*.log")}
        if how != "deleted" and name not in ("state/continuity", "state/databases.json", "state/mongo.json") or name == "state/home.json":
            r = home.cli("up", check=False)
            assert r.returncode == 1 and name in r.stderr, (name, how, r.stderr)
            continue
        home.up()
        home.drop(f"{n}.csv", f"v\n{n}\n", "beta")
        assert home.wait_file(file_name=f"{n}.csv")["state"] == "ingested", (name, how)
        said = (home.base / "up.err").read_text() + "".join(p.read_text()[logs.get(p, 0):] for p in (home.path / "logs").glob("*.log"))
        assert MADE_AGAIN.get(name, "") in said, (name, how, said)
        r = home.cli("verify", check=False)
        assert r.returncode == 0, r.stdout + r.stderr
        home.down()


def test_kills_and_restarts_are_continuous(home):
    home.tenant()
    home.up()
    for i in range(4):
        home.drop(f"{i}.csv", f"v\n{i}\n")
        until(lambda: home.files(), home.path / "state")
        home.kill("batchmgr")
    assert {f["state"] for f in home.wait_files(4)} == {"ingested"}


def test_verify_says_what_does_not_agree(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\n2\n")
    a, b = home.wait_files(2)
    assert "0 things found" in home.cli("verify").stdout
    shutil.rmtree(home.path / "done/acme/data" / a["file_id"])
    (home.path / "work" / ("0" * 26)).mkdir()
    found = [json.loads(line) for line in home.cli("verify", "--json", check=False).stdout.splitlines()]
    assert [(f["found"], f["file_id"]) for f in found] == [("bytes missing", a["file_id"]), ("not in ledger", "0" * 26)]
    assert found[0]["path"] == f"done/acme/data/{a['file_id']}" and found[0]["tenant_id"] == "acme"
    home.down()
    assert home.cli("verify", check=False).returncode == 1


BACKED_UP = ("conf", "keys", "state", "apps")  # docs/operations.md


def test_the_backup_of_the_docs_restored_as_they_say_goes_on(make_home):
    home = make_home()
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.down()
    for name in BACKED_UP:
        subprocess.run(["cp", "-a", home.path / name, home.base / f"backup-{name}"], check=True)
    for path in home.path.iterdir():
        shutil.rmtree(path)
    for name in BACKED_UP:
        subprocess.run(["cp", "-a", home.base / f"backup-{name}", home.path / name], check=True)
    home.up()
    said = (home.base / "up.err").read_text()
    assert all(f"home/{name} was gone and was made again" in said for name in ("logs", "staging", "work", "done", "quarantine", "runs"))
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\n2\n")
    assert [f["state"] for f in home.wait_files(3)] == ["ingested", "duplicate", "ingested"]
    assert home.count() == 2


@pytest.mark.parametrize("name", ["logs", "apps", "work", "done", "quarantine", "runs", "staging", "staging/acme", "staging/acme/data", "logs/tenants"])
def test_a_directory_that_is_gone_is_made_again(home, name):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.down()
    shutil.rmtree(home.path / name)
    home.up()
    if "/" not in name:
        assert f"home/{name} was gone and was made again" in (home.base / "up.err").read_text()
    home.drop("b.csv", "v\n2\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"


def found_rows(home, check=False):
    return {f["file_id"]: f["path"] for f in map(json.loads, home.cli("verify", "--json", check=check).stdout.splitlines()) if f["found"] == "rows missing"}


def test_verify_misses_rows_and_loading_again_mends(home):
    home.tenant()
    home.up()
    for name, text in (("a.csv", "v\n1\n2\n3\n"), ("b.csv", "v\n4\n5\n"), ("c.csv", "v\n6\n")):
        home.drop(name, text)
        home.wait_file(file_name=name)
    home.cli("upload", "acme", "data", "--force", "--wait", next((home.path / "done/acme/data").glob("*/c.csv")))  # replaces its own rows
    assert found_rows(home, check=True) == {}
    home.mongo.client[home.db_of["acme"]].data.delete_many({"v": {"$in": [1, 3, 4, 5]}})
    ids = {f["file_name"]: f["file_id"] for f in home.files()}
    found = found_rows(home)
    assert set(found) == {ids["a.csv"], ids["b.csv"]}
    assert "acme/data/a.csv: the ledger says 3 rows, MongoDB has 1 of them" in found[ids["a.csv"]] and "has 0 of them" in found[ids["b.csv"]]
    r = home.cli("verify", check=False)
    assert r.returncode == 1 and "upload TENANT DATASET FILE --force" in r.stdout
    for name in ("a.csv", "b.csv"):
        home.cli("upload", "acme", "data", "--force", "--wait", home.path / "done/acme/data" / ids[name] / name)
    assert found_rows(home, check=True) == {}
    assert sorted(d["v"] for d in home.docs()) == [1, 2, 3, 4, 5, 6]


@pytest.mark.anyone
def test_a_store_that_was_deleted_or_is_older_is_noticed(make_home):
    home = make_home(own_mongo=True)
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n2\n3\n")
    a = home.wait_file(file_name="a.csv")["file_id"]
    home.down()
    store = home.path / f"state/mongo/{home.db_of['acme']}.mv"
    shutil.copy(store, home.base / "older.mv")
    home.up()
    home.drop("b.csv", "v\n4\n5\n")
    b = home.wait_file(file_name="b.csv")["file_id"]
    assert found_rows(home, check=True) == {}
    home.down()
    r = home.cli("verify")
    assert "are not compared with the ledger: MongoDB" in r.stderr, "it does not run, and nothing is said of its rows"
    with open(store, "wb") as f:  # the owner stays
        f.write((home.base / "older.mv").read_bytes())
    home.up()
    assert set(found_rows(home)) == {b}
    home.down()
    store.unlink()
    home.up()
    assert set(found_rows(home)) == {a, b}
    for file_id, name in ((a, "a.csv"), (b, "b.csv")):
        home.cli("upload", "acme", "data", "--force", "--wait", home.path / "done/acme/data" / file_id / name)
    assert found_rows(home, check=True) == {}


def test_rows_that_cannot_be_told_by_prefix_are_no_false_alarm(home):
    """A driver of the app's own, a group, outputs, keys that replace, documents that were taken away for their age."""
    own = """#!/usr/bin/python3
import json, os, pymongo
n = pymongo.MongoClient(os.environ["MONGO_URL"])[os.environ["MONGO_DATABASE"]].data.insert_one({"own": 1})
open(os.environ["SIMBDP_RESULT_FILE"], "w").write(json.dumps({"rows_parsed": 1, "rows_loaded": 1, "rows_rejected": 0}))
"""
    home.tenant(apps='{ app = "own"; exec = "own.py"; pattern = "own*"; }, { app = "out"; exec = "/bin/cat"; output = "stdout"; pattern = "out*"; },'
                     '{ app = "many"; exec = "builtin:load"; pattern = "many*"; group = { max_files = 2; max_wait_ms = 60000; }; },'
                     '{ app = "catted"; exec = "cat.sh"; output = "dir"; pattern = "cat*"; group = { max_files = 2; max_wait_ms = 60000; }; },'
                     '{ app = "app"; exec = "builtin:load"; }')
    home.install("acme", "/dev/null", "own.py").write_text(own)
    home.install("acme", "/dev/null", "cat.sh").write_text("#!/bin/sh\ncat $SIMBDP_INPUT_DIR/cat-1.csv > $SIMBDP_OUTPUT_DIR/a.csv\n")
    home.profiles(rlimits="nofile = 256;")
    home.up()
    for name in ("own.csv", "out.csv", "many-1.csv", "many-2.csv", "cat-1.csv", "cat-2.csv", "x.csv"):
        home.drop(name, f"v\n{name}\n")
    assert {f["state"] for f in home.wait_files(7)} == {"ingested"}
    assert found_rows(home, check=True) == {}
    home.mongo.client[home.db_of["acme"]].data.delete_many({})
    found = found_rows(home)
    names = {f["file_id"]: f["file_name"] for f in home.files()}
    assert {"own.csv", "out.csv", "x.csv"} <= {names[i] for i in found}, "also what an app wrote by itself, once there is nothing at all"


@pytest.mark.anyone
@pytest.mark.parametrize("damage, event", (("deleted", "database_emptied"), ("another", "database_another"), ("older", "database_older")))
def test_a_mongodb_that_is_not_the_homes_is_told_of_at_the_start(make_home, damage, event):
    def told():
        return [e["event"] for e in json_lines(home.path / "logs/batchmgr.log") if e["event"].startswith("database_") and e["level"] == "error"]

    def marked():
        mark = home.path / "state/mongo.mark"
        words = mark.read_text().split() if mark.exists() else []  # it is made, and then written
        return len(words) > 1 and int(words[1])

    def up_and_marked(more=0):
        home.up()
        until(lambda: (marked() or 0) > more, home.path / "state", what="the mark")
    home = make_home(own_mongo=True)
    home.tenant()
    up_and_marked()
    home.down()
    store = home.path / "state/mongo/simbdp_platform.mv"
    older = store.read_bytes()
    up_and_marked(marked())
    home.down()
    up_and_marked(marked())
    home.down()
    assert told() == [], "restarts are none"
    mark = home.path / "state/mongo.mark"
    if damage == "deleted":
        store.unlink()
    elif damage == "older":
        with open(store, "wb") as f:
            f.write(older)
    else:
        mark.write_text("0" * 26 + mark.read_text()[26:])
    home.up()
    until(lambda: told() == [event], home.path / "logs", what=lambda: f"{event}: {told()}")
    assert "mysimbdp verify" in (home.path / "logs/batchmgr.log").read_text()
    home.down()
    home.up()
    until(lambda: home.control({"op": "status"})["database"] == "up", home.path / "logs", what="the database")
    assert told() == [event], "once"
