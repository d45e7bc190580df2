"""Homes of earlier versions, which tests/data/make-home made by their programs, are started by this one's: what was known is known, and work
goes on. A home of a newer version is refused, with what to do, and nothing of it is changed. docs/compatibility.md lists the formats."""
import contextlib
import ctypes
import ctypes.util
import hashlib
import json
import re
import shutil
import sqlite3
import struct
import subprocess

import pymongo
import pytest
from docs_blocks import blocks_below
from harness import ROOT, Home, change, until

FIXTURES = sorted((ROOT / "tests/data").glob("home-*.tar.xz"))
NEWEST = "home-7.tar.xz"
COUNTED_NOW = {"home-1.tar.xz": {"messages": 0}, "home-2.tar.xz": {"bytes": 260}}  # there were none; what stream apps acknowledged was left out
FIRST = "k,v\n" + "".join(f"{i},{i * i}\n" for i in range(20))


@pytest.fixture
def old():
    """Puts a fixture's home in place of a fresh one; `facts` is what its own version said of it."""
    homes = []

    def make(name):
        home = Home(own_mongo=True)
        homes.append(home)
        shutil.rmtree(home.path)
        subprocess.run(["tar", "-C", home.base, "--no-same-owner", "-xf", ROOT / "tests/data" / name], check=True)
        home.facts = json.loads((home.base / "facts.json").read_text())
        home.db_of["acme"] = "acme"
        return home
    yield make
    for home in homes:
        home.cleanup()


def by(key, rows):
    return {r[key]: r for r in rows}


def same(rows, facts, key):
    now = by(key, rows)
    for was in facts:
        assert was[key] in now, (was, sorted(now))
        assert {k: now[was[key]][k] for k in was} == was


def database(home):
    client = pymongo.MongoClient(json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"])
    return client.acme


def versions(home):
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db")) as db:
        ledger = int(db.execute("SELECT value FROM meta WHERE key='schema_version'").fetchone()[0])
    with contextlib.closing(sqlite3.connect(home.path / "state/streams.db")) as db:
        streams = db.execute("PRAGMA user_version").fetchone()[0]
    return ledger, streams


def test_each_schema_that_differs_has_a_home():
    """One that is raised leaves a home of the one before here."""
    current = int(re.search(r"VERSION_LEDGER = (\d+)", (ROOT / "lib/db/versions.h").read_text())[1])
    assert NEWEST == f"home-{current}.tar.xz" and (ROOT / "tests/data" / NEWEST).exists()
    assert {int(re.search(r"\d+", f.name)[0]) for f in FIXTURES} == set(range(1, current + 1)) and all(f.stat().st_size < 200000 for f in FIXTURES)


def numbered():
    """Rows of docs/compatibility.md whose number is a constant: its version, the file and the name."""
    return re.findall(r"^\| [^|]+ \| (\d+) \| `([\w/.]+)` (\w+) \|", (ROOT / "docs/compatibility.md").read_text(), re.M)


def test_the_table_says_what_the_code_says():
    rows = numbered()
    assert len(rows) >= 13
    for version, path, name in rows:
        found = re.search(rf'\b{name}\b\s*=?\s*"?(?:simbdp[qm])?(\d+)', (ROOT / path).read_text())
        assert found and found[1] == version, (path, name, version)


@pytest.mark.parametrize("name", [f.name for f in FIXTURES])
def test_a_home_of_an_earlier_version_goes_on(old, name):
    home = old(name)
    facts = home.facts
    assert versions_before(home) == int(re.search(r"\d+", name)[0])
    if name == "home-1.tar.xz":
        leave_the_rows(home)
    home.up()
    same(home.rows("files"), facts["files"], "file_id")
    same(home.rows("runs"), facts["runs"], "run_id")
    same(home.rows("stats"), [s | {k: (s[k] or 0) + n for k, n in COUNTED_NOW.get(name, {}).items()} for s in facts["stats"]], "tenant_id")
    if "users" in facts:
        same(home.rows("user", "list"), facts["users"], "name")
        same(home.rows("token", "list", "ann"), facts["tokens"], "token_id")
        home.cli("audit", "--verify")
    if "history" in facts:
        assert set(facts["history"]) <= {h["number"] for h in home.rows("history", "list")}
    db = database(home)
    if name == "home-1.tar.xz":
        rows_again(home, facts)
    assert sorted(d["k"] for d in db.data.find()) == list(range(20))
    assert home.cli("verify", check=False).returncode == 0
    home.drop("second.csv", "k,v\n100,1\n")
    home.drop("first-again.csv", FIRST)  # its hash is known
    assert [home.wait_file(file_name=n)["state"] for n in ("second.csv", "first-again.csv")] == ["ingested", "duplicate"]
    if "queues" in facts:
        streams_go_on(home, db, facts)
    home.down()
    assert versions(home) == (7, 1)
    home.up()  # nothing is left to be brought up to date
    assert home.files(file_name="second.csv")[0]["state"] == "ingested"
    home.down()


def leave_the_rows(home):
    """The one MongoDB store that cannot be read any more, that of the first week: it says so, and what is to be done."""
    before = (home.path / "state/mongo.mv").read_bytes()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and re.search("its format is 0, this program's is 3.*move it away", r.stderr), r.stderr
    store = home.path / "state/mongo/all.old"
    assert r.stderr.count("mysimbdp up") == 1 and store.read_bytes() == before
    store.rename(home.base / "mongo.mv")


def rows_again(home, facts):
    """As `verify` says."""
    r = home.cli("verify", check=False)
    assert r.returncode == 1 and "first.csv: the ledger says 20 rows, MongoDB has 0" in r.stdout
    first = next(f["file_id"] for f in facts["files"] if f["state"] == "ingested")
    home.cli("upload", "acme", "data", home.path / f"done/acme/data/{first}/first.csv", "--force")
    until(lambda: {f["state"] for f in home.files(file_name="first.csv")} == {"ingested"} and database(home).data.count_documents({}) == 20, home.path / "state", what="its rows")


def versions_before(home):
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db")) as db:
        return int(db.execute("SELECT value FROM meta WHERE key='schema_version'").fetchone()[0])


def streams_go_on(home, db, facts):
    """What waited is there, what was stopped stays stopped, what was stored is not stored again."""
    waits = {q["app"]: q["ready"] + q["leased"] for q in home.rows("queue", "list")}
    assert waits == facts["queues"]
    assert {a["app"]: a["state"] for a in home.rows("app", "list")} == facts["apps"] == {"store": "stopped"}
    assert db.rows.count_documents({}) == 30
    home.cli("app", "start", "acme/store")
    until(lambda: home.queue("store")["ready"] + home.queue("store")["leased"] == 0, home.path / "state", what="what waited")
    lines = home.base / "lines"
    lines.write_text('{"n": 1000}\n')
    home.cli("publish", "acme/events", lines)
    until(lambda: db.rows.count_documents({"n": 1000}) == 1, home.base, what="another message")
    assert sorted(d["n"] for d in db.rows.find()) == sorted([*range(30), *range(30), 1000])
    assert home.queue("later")["ready"] == facts["queues"]["later"] + 1


# -- newer versions


def xxh3(data):
    library = ctypes.CDLL(ctypes.util.find_library("xxhash"))
    library.XXH3_64bits.restype, library.XXH3_64bits.argtypes = ctypes.c_uint64, (ctypes.c_char_p, ctypes.c_size_t)
    return library.XXH3_64bits(data, len(data)) & 0xFFFFFFFF


def newer_home(home):
    (home.path / "state/home.json").write_text('{"version": 2}\n')
    return "state/home.json", 2, 1


def newer_ledger(home):
    with change(home.path / "state/ledger.db") as db:
        db.execute("UPDATE meta SET value='8' WHERE key='schema_version'")
    return "state/ledger.db", 8, 7


def newer_streams(home):
    with change(home.path / "state/streams.db") as db:
        db.execute("PRAGMA user_version=2")
    return "state/streams.db", 2, 1


def newer_accounts(home):
    with change(home.path / "state/accounts.db") as db:
        db.execute("PRAGMA user_version=2")
    return "state/accounts.db", 2, 1


def newer_segment(home):
    path = home.path / "state/broker/0000000000000001.seg"
    data = bytearray(path.read_bytes())
    data[7:8] = b"2"
    data[56:60] = struct.pack("<I", xxh3(bytes(data[:56])))
    path.write_bytes(data)
    return "state/broker/0000000000000001.seg", 2, 1


NEWER = (newer_home, newer_ledger, newer_streams, newer_accounts, newer_segment)


def contents(home):
    """Of all files but locks; SQLite's own helpers are made by whoever looks."""
    return {str(p.relative_to(home.path)): hashlib.sha256(p.read_bytes()).hexdigest() for p in sorted(home.path.rglob("*"))
            if p.is_file() and not p.name.endswith((".lock", "-shm", "-wal", "runtime"))}


def names_all(text, home, newer):
    path, has, known = newer
    return f"{home.path}/{path}" in text and f"{has}" in text and f"{known}" in text and "newer" in text and "install that version again" in text


@pytest.mark.parametrize("raise_version", NEWER, ids=lambda f: f.__name__)
def test_a_newer_version_is_refused_and_nothing_is_changed(old, raise_version):
    home = old(NEWEST)
    newer = raise_version(home)
    before = contents(home)
    r = home.cli("up", check=False)
    assert r.returncode == 1 and names_all(r.stderr, home, newer), r.stderr
    assert contents(home) == before
    assert not home.pids("broker") and not home.pids("batchmgr")
    if raise_version == newer_ledger:
        (shown,) = blocks_below("docs/compatibility.md", "Going back", "console")
        command, text = shown.split("\n", 1)
        assert command == "$ mysimbdp up" and r.stderr.replace(str(home.path), "…").split() == text.split(), r.stderr


@pytest.mark.parametrize("raise_version", (newer_ledger, newer_streams, newer_accounts), ids=lambda f: f.__name__)
def test_an_upgrade_to_an_older_version_stops_nothing(old, raise_version):
    """What is installed now is older than what has run: the programs that run are left alone."""
    home = old(NEWEST)
    home.up()
    before = home.pids("broker") + home.pids("batchmgr")
    path, sql = {newer_ledger: ("ledger", "UPDATE meta SET value='8' WHERE key='schema_version'")}.get(raise_version, (raise_version.__name__[6:], "PRAGMA user_version=2"))
    with contextlib.closing(sqlite3.connect(home.path / f"state/{path}.db", timeout=20)) as db:
        db.execute(sql)
        db.commit()
        r = home.cli("upgrade", check=False)
        assert r.returncode == 1 and "nothing was stopped" in r.stderr and "newer" in r.stderr and f"state/{path}.db" in r.stderr, r.stderr
        db.execute(sql.replace("8", "7").replace("=2", "=1"))
        db.commit()
    assert home.pids("broker") + home.pids("batchmgr") == before
    home.down()


def test_the_owner_of_each_refuses_it_too(old):
    """Who starts a program by hand, or changes accounts, without `up`."""
    home = old(NEWEST)
    newer = [newer_ledger(home), newer_accounts(home), newer_streams(home), newer_segment(home)]
    before = contents(home)
    for program, what in (("batchmgr", newer[0]), ("streammgr", newer[2])):
        r = subprocess.run([home.program(program), "--home", str(home.path)], env=home.env, capture_output=True, text=True, timeout=60)
        assert r.returncode and f"{home.path}/{what[0]}" in r.stderr and "newer version" in r.stderr and "install that version again" in r.stderr, r.stderr
    r = subprocess.run([home.program("broker"), "--home", str(home.path)], env=home.env, capture_output=True, text=True, timeout=60)
    assert r.returncode and "simbdpq2" in r.stderr and "simbdpq1" in r.stderr
    r = home.cli("user", "list", check=False)
    assert r.returncode == 1 and names_all(r.stderr, home, newer[1]), r.stderr
    after = contents(home)
    assert {k: v for k, v in after.items() if "state/" in k and k.endswith((".db", ".seg", ".mv"))} == {k: v for k, v in before.items() if k.endswith((".db", ".seg", ".mv"))}


RAISE = """import org.h2.mvstore.MVStore;
public class Raise {
    public static void main(String[] a) {
        for (String file : a) try (MVStore s = MVStore.open(file)) { s.setStoreVersion(4); s.commit(); }
    }
}
"""


def test_a_newer_store_of_the_embedded_mongodb_is_left_and_files_wait_for_it(old):
    """It is found when its database is asked for the first time: all programs are there by then, and `up` is not ready."""
    home = old(NEWEST)
    (home.base / "Raise.java").write_text(RAISE)
    stores = sorted((home.path / "state/mongo").glob("*.mv"))
    subprocess.run(["java", "-cp", f"{ROOT}/build/embedded-mongo/lib/*", home.base / "Raise.java", *stores], check=True, timeout=120)
    subprocess.run(["chown", "--reference", home.path / "state/mongo", *stores], check=True)
    before = [p.read_bytes() for p in stores]
    home.up(ready=False)
    (database,) = until(lambda: re.findall(r"^database: (down: .*\.mv.*)$", home.cli("status", check=False).stdout, re.M), home.path / "logs", what="what it says")
    assert re.search(r"\b4\b.*\b3\b", database), database
    home.drop("waits.csv", "k,v\n100,1\n")
    assert until(lambda: [f["state"] for f in home.files(file_name="waits.csv") if f["content_hash"]], home.path / "state", what="it is taken in")[0] in ("queued", "waiting")
    home.down()
    assert [p.read_bytes() for p in stores] == before


def raised(point):
    """The same point as a version 2 would have written it, with the check that it ends with."""
    body, _ = point.read_bytes().rsplit(b',"check":"', 1)
    assert body.startswith(b'{"v":1,')
    body = b'{"v":2,' + body[7:]
    point.write_bytes(body + b',"check":"' + hashlib.blake2b(body, digest_size=32).hexdigest().encode() + b'"}\n')
    return point


def test_a_backup_of_a_newer_version_is_refused(old):
    home = old(NEWEST)
    at, target = home.base / "backup", home.base / "other"
    home.cli("backup", at)
    (point,) = (at / "points").iterdir()
    whole, marker = point.read_bytes(), (at / "backup.json").read_text()
    assert '"v":1' in marker
    (at / "backup.json").write_text(marker.replace('"v":1', '"v":2'))
    r = home.cli("restore", at, target, check=False)
    assert r.returncode == 1 and f"{at}/backup.json was written by a newer mysimbdp (2; this one knows up to 1); use that version" in r.stderr, r.stderr
    (at / "backup.json").write_text(marker)
    r = home.cli("restore", at, target, "--point", raised(point).name, check=False)
    assert r.returncode == 1 and f"{point} was written by a newer mysimbdp (2; this one knows up to 1); use that version" in r.stderr, r.stderr
    assert not target.exists() or not (target / "state/home.json").exists()
    point.write_bytes(whole)
    home.cli("restore", at, target)  # the rest of it was not touched
