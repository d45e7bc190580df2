"""Reads, writes or syncs of a disk fail (EIO), below each program in turn (tests/fault/badfs/). Nothing is acknowledged that was not stored: what a
failed sync was for is never written, however often it is synced again. Who gets the error says where, and goes on when the disk is well again."""
import base64
import contextlib
import json
import os
import re
import shutil
import struct

import pymongo
import pytest
from baddisk import READS, SYNCS, WRITES, BadDisk, power_off
from harness import RELEASE, Mongo, temp_dir, until
from web import Site
from wire import SUBSCRIBE, bodies, header, peer

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]

STREAM = "acme/events"
KINDS = {"reads": READS, "writes": WRITES, "syncs": SYNCS}


def cut(home, disk):
    """The power goes now."""
    disk.cut_now()
    power_off(home)
    disk.power_back()


# ---- the broker

def ended(home):
    return until(lambda: home.broker_process.poll() is not None, home.base, every=0.05, what="the broker's end") and (home.base / "broker.err").read_text()


def numbered(p, first, n=10):
    return p.publish(STREAM, bodies(n, first), 7, first + 1)


def take_all(home, n):
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=1000)
        return sorted(m.body for m in p.take(n, timeout=5))


@pytest.mark.parametrize("what", ["writes", "syncs"])
def test_what_the_broker_cannot_store_it_does_not_confirm(home, on_disk, what):
    """Nor when it comes again: the first try's bytes may be in the kernel's memory alone."""
    home.streams("events")
    disk = on_disk(home, evict=1)
    home.broker()
    with peer(home) as p:
        numbered(p, 0)
        (segment,) = (home.path / "state/broker").glob("*.seg")
        with disk.failing(KINDS[what], f"/state/broker/{segment.name}", times=1):
            p.post(STREAM, bodies(10, 10), 7, 11)
            assert "cannot" in ended(home) and "Input/output error" in ended(home)
            assert p.receive(timeout=0.2) is None
    home.broker()
    with peer(home) as p:
        assert numbered(p, 10)[1:] == (10, 0), "it is stored now, and was not known"
    cut(home, disk)
    home.broker()
    assert take_all(home, 20) == sorted(bodies(20))


def test_what_a_killed_broker_had_not_synced_is_not_confirmed_to_who_asks_again(home, on_disk):
    """The next one finds it in the kernel's memory, and may not say that it is stored before it is."""
    home.streams("events")
    disk = on_disk(home)
    home.broker(SIMBDP_CRASH_AT="store_sync", SIMBDP_CRASH_ONCE=str(home.base / "no"))
    once = home.crash_file()
    home.stop_broker()
    home.broker(SIMBDP_CRASH_AT="store_write", SIMBDP_CRASH_ONCE=str(once))
    with peer(home) as p:
        p.post(STREAM, bodies(10), 7, 1)
        ended(home)
    home.broker()
    with peer(home) as p:
        numbered(p, 0)
    cut(home, disk)
    home.broker()
    assert take_all(home, 10) == sorted(bodies(10))


def test_a_message_that_cannot_be_read_for_a_while_is_not_lost(home, on_disk):
    home.streams("events")
    disk = on_disk(home)
    home.broker()
    with peer(home) as p:
        numbered(p, 0, 100)
    home.stop_broker()
    (segment,) = (home.path / "state/broker").glob("*.seg")
    with disk.failing(READS, f"/state/broker/{segment.name}"):
        with pytest.raises(AssertionError, match="cannot read segment.*ddrescue.*Input/output error"):
            home.broker()
    with disk.failing(READS, "/state/broker"):  # of the directory: what is not seen is not gone
        with pytest.raises(AssertionError, match="cannot list the broker's store: Input/output error"):
            home.broker()
    home.broker()
    fd = os.open(segment, os.O_RDONLY)
    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(fd)
    with disk.failing(READS, "/state/broker"):
        with peer(home) as p:
            p.send(header(SUBSCRIBE, 1, 1), STREAM.encode(), b"consume", struct.pack("<IQ", 1000, 1 << 20))
            assert re.search("cannot read segment .*Input/output error", ended(home))
    home.broker()
    assert take_all(home, 100) == sorted(bodies(100))
    assert home.queue()["lost"] == 0


# ---- the embedded MongoDB

@pytest.mark.parametrize("what", ["syncs", *(pytest.param(what, marks=pytest.mark.soak) for what in ("writes", "reads"))])
def test_what_the_embedded_mongodb_cannot_store_it_does_not_acknowledge(badfs, what):
    base = temp_dir()
    (base / "data").mkdir()
    disk = BadDisk(badfs, base / "data", journal=1)
    server, known = Mongo(base), set(range(2000))
    try:
        data = server.client.acme.data
        data.insert_many([{"_id": i, "text": "x" * 300} for i in known])
        for times in (1, -1):
            with disk.failing(KINDS[what], times=times), contextlib.suppress(pymongo.errors.PyMongoError):
                for i in range(len(known), len(known) + 20):
                    data.insert_one({"_id": i, "text": "y"})
                    known.add(i)
                list(data.find())
        until(lambda: is_stored(data, known), every=0.1, what="it to go on")
        for i in range(3000, 3010):
            data.insert_one({"_id": i})
            known.add(i)
        assert known <= {d["_id"] for d in data.find({}, {"_id": 1})}
        server.client.close()
        disk.cut_now()
        server.kill()
        disk.power_back()
        server.start()
        found = [d["_id"] for d in server.client.acme.data.find({}, {"_id": 1})]
        assert known <= set(found) and len(found) == len(set(found))
    finally:
        server.stop()
        disk.remove()
        shutil.rmtree(base)


def is_stored(data, known):
    with contextlib.suppress(pymongo.errors.PyMongoError):
        data.update_one({"_id": 0}, {"$set": {"text": "z"}})
        known.add(0)
        return True


# ---- the gateway

@pytest.fixture
def site(mongo, on_disk):
    s = Site(mongo, ready=False)
    s.disk = on_disk(s.home)
    s.up()
    s.of()
    yield s
    power_off(s.home)
    s.cleanup()


ROWS = b"v,w\n" + b"".join(b"%d,a\n" % i for i in range(1000))


def test_an_upload_that_cannot_be_stored_is_refused(site):
    for what in (WRITES, SYNCS):
        with site.disk.failing(what, "/staging/.gateway"):
            answer = site.put("a.csv", ROWS)
            assert (answer.status, answer.code) == (507, "disk_low"), answer
    assert "Input/output error" in (site.home.path / "logs/gateway.log").read_text()
    assert not site.home.files()
    answer = site.put("a.csv", ROWS)
    assert answer.status == 201 and site.home.wait_file(file_id=answer.doc["file_id"])["rows_loaded"] == 1000


def test_a_resumable_upload_begins_again_where_the_disk_has_it(site):
    """A sync that failed is not made good by the next: what it was for has to come again."""
    metadata = ", ".join(f"{k} {base64.b64encode(v).decode()}" for k, v in (("filename", b"t.csv"), ("dataset", b"held")))
    tus = {"Tus_Resumable": "1.0.0"}
    at = site.post("uploads", Upload_Length=str(len(ROWS)), Upload_Metadata=metadata, **tus).headers["Location"]

    def patch(offset, end):
        return site.ask("PATCH", at, "", ROWS[offset:end], Upload_Offset=str(offset), Content_Type="application/offset+octet-stream", **tus)

    def offset():
        return int(site.ask("HEAD", at, **tus).headers["Upload-Offset"])
    assert patch(0, 1000).status == 204
    with site.disk.failing(SYNCS, "/staging/.gateway/resumable", times=1):
        assert (answer := patch(1000, 2000)).status == 507, answer
    assert patch(offset(), 3000).status == 204
    answer = patch(3000, len(ROWS))
    assert answer.status == 204
    file_id = answer.headers["Content-Location"].rpartition("/")[2]
    cut(site.home, site.disk)
    site.up()
    site.home.wait_files(1, lambda f: f["reason"] == "trigger")
    site.home.cli("run", "acme/held")
    assert site.home.wait_file(file_id=file_id)["rows_loaded"] == 1000 and sorted(d["v"] for d in site.home.docs(collection="held")) == list(range(1000))


# ---- batchmgr

def rows(n=3000):
    return "v\n" + "".join(f"{i}\n" for i in range(n))


def test_what_the_ledger_cannot_store_is_not_acknowledged(home, on_disk):
    home.tenant(batch='trigger = "manual";')
    disk = on_disk(home)
    home.up()
    path = home.base / "x.csv"
    path.write_text(rows())
    with disk.failing(SYNCS, "/state/ledger.db-wal", times=2):
        r = home.cli("upload", "acme", "data", path, check=False)
    assert "cannot commit to the ledger" in (home.path / "logs/batchmgr.log").read_text()
    assert r.returncode == 0, "it waits until it is stored"
    cut(home, disk)
    home.up()
    (f,) = home.wait_files(1, lambda f: f["reason"] == "trigger")
    home.cli("run", "acme/app")
    assert home.wait_file(file_id=f["file_id"])["rows_loaded"] == 3000


def test_a_file_that_cannot_be_synced_is_copied(home, on_disk):
    """A second sync would say that it is on the disk, and it would not be."""
    home.tenant(batch='trigger = "manual";')
    disk = on_disk(home)
    home.up()
    with disk.failing(SYNCS, "/work", times=1):
        home.drop("x.csv", rows())
        home.wait_files(1, lambda f: f["reason"] in ("unreadable", "trigger"))
        assert disk.get("n_failed") == 1
    (f,) = home.wait_files(1, lambda f: f["reason"] == "trigger")
    assert "its bytes cannot be written to the disk: Input/output error" in (home.path / "logs/batchmgr.log").read_text()
    cut(home, disk)
    home.up()
    home.wait_files(1, lambda f: f["reason"] == "trigger")
    home.cli("run", "acme/app")
    assert home.wait_file(file_id=f["file_id"])["rows_loaded"] == 3000 and home.count() == 3000


@pytest.mark.parametrize("output", ["stdout", pytest.param("dir", marks=pytest.mark.soak)])
def test_an_output_that_cannot_be_kept_is_made_again(home, on_disk, output):
    home.tenant(exec_="tool", batch=f'output = "{output}";')
    tool = home.path / "apps/acme/tool"
    tool.write_text('#!/bin/sh\nif [ %s = dir ]; then cat > "$SIMBDP_OUTPUT_DIR/rows.csv"; else cat; fi\n' % output)
    tool.chmod(0o755)
    disk = on_disk(home)
    home.up()
    with disk.failing(SYNCS, "/runs", times=1):
        home.drop("x.csv", rows())
        f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"], f["attempts"]) == ("ingested", 3000, 2) and home.count() == 3000
    assert any("cannot keep the output: Input/output error" in (r["error"] or "") for r in home.rows("runs")), home.rows("runs")


# ---- command lines

def test_what_a_command_line_cannot_store_it_does_not_say_it_did(home, on_disk):
    home.tenant()
    disk = on_disk(home)
    words = "correct horse battery\n"
    for at, args in (("/state", ("user", "add", "one", "--role", "tenant-reader", "--tenant", "acme")), ("/logs", ("user", "add", "two", "--role", "tenant-reader", "--tenant", "acme")),
                     ("/conf", ("tenant", "add", "beta"))):
        with disk.failing(SYNCS, at, times=1):
            r = home.cli(*args, check=False, input=words)
            assert r.returncode == 1 and disk.get("n_failed"), (args, r.stdout, r.stderr)
            assert "Input/output error" in r.stderr or "disk I/O error" in r.stderr, r.stderr
        disk.set(n_failed=0)
        home.cli(*args, input=words)
    cut(home, disk)
    assert {u["name"] for u in home.rows("user", "list")} >= {"one", "two"} and {t["tenant_id"] for t in home.rows("tenant", "list")} == {"acme", "beta"}
    assert home.cli("audit", "--verify", check=False).returncode == 0


# ---- backups

READ_BY_A_BACKUP = ("/state/ledger.db", "/state/accounts.db", "/state/streams.db", "/state/uids.json", "/state/broker", "/state/configurations", "/conf", "/keys", "/apps", "/logs/tenants", "/logs/audit.jsonl",
                    "/work", "/done")


def not_in_memory(top):
    """So that it has to be read."""
    for p in top.rglob("*"):
        if p.is_file():
            fd = os.open(p, os.O_RDONLY)
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(fd)


def said_eio(r):
    return r.returncode == 1 and re.search("Input/output error|disk I/O error|unable to open database file", r.stderr)


@pytest.fixture
def full(home):
    """A home that has of everything what a backup reads, and does not run."""
    home.streams("events")
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + """datasets = ( { name = "data"; format = "csv"; }, { name = "held"; format = "csv"; } );
batch = ( { app = "load"; exec = "builtin:load"; datasets = ("data"); }, { app = "held"; exec = "builtin:load"; datasets = ("held"); trigger = "manual"; } );
""")
    (home.path / "apps/acme").mkdir()
    (home.path / "apps/acme/some").write_text("some\n")
    home.up()
    home.cli("user", "add", "one", "--role", "tenant-reader", "--tenant", "acme", input="correct horse battery\n")
    home.drop("a.csv", rows())
    home.drop("b.csv", rows(), dataset="held")
    home.wait_file(file_name="a.csv")
    home.wait_files(1, lambda f: f["reason"] == "trigger")
    with peer(home) as p:
        numbered(p, 0)
    home.down()
    return home


def listed(home):
    where = home.base / "backup"
    return [p["point"] for p in home.rows("backup", where, "--list")] if (where / "backup.json").exists() else []


def test_what_a_backup_cannot_read_is_in_no_point(full, on_disk):
    home = full
    disk = on_disk(home)
    for under in READ_BY_A_BACKUP:
        known = listed(home)
        assert (home.path / under[1:]).exists(), under
        not_in_memory(home.path)
        disk.set(n_failed=0)
        with disk.failing(READS, under):
            r = home.cli("backup", home.base / "backup", "--files", check=False)
        assert disk.get("n_failed") and said_eio(r), (under, r.stdout, r.stderr)
        assert listed(home) == known, under
        home.cli("backup", home.base / "backup", "--files")
        assert "can be restored" in home.cli("backup", home.base / "backup", "--verify").stdout


@pytest.mark.parametrize("n", [6, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize("what", ["writes", "syncs"])
def test_what_a_backup_cannot_write_is_no_point(full, badfs, syncfs, what, n):
    """Nor when it is taken again: bytes that are in the kernel's memory alone are written once more. Points from before stay whole."""
    home, told, number = full, [], 0
    home.programs = RELEASE  # sanitizers want to be loaded first
    to = home.base / "backup"
    to.mkdir(mode=0o700)
    disk = BadDisk(badfs, to, journal=1, evict=1)
    home.env.update(syncfs)
    (home.path / "conf/templates").mkdir(exist_ok=True)

    def take():
        nonlocal number
        number += 1
        (home.path / "conf/templates/t.conf").write_text(f"# {number}\n" * 3000)
        r = home.cli("backup", to, "--keep", "3", "--json", check=False)
        if r.returncode == 0:
            told.append(json.loads(r.stdout)["point"])
        return r
    try:
        with disk.failing(KINDS[what], "/backup.json.tmp", times=1):
            assert said_eio(take()) and disk.get("n_failed")
        failed = 0
        for r in disk.each_failing(KINDS[what], take, n):
            assert r.returncode == 0 or said_eio(r), r.stderr
            failed += r.returncode
            assert take().returncode == 0
            disk.cut_now()
            disk.power_back(evict=1)
            assert set(told[-3:]) & set(listed(home)) and told[-1] in listed(home)
            for one in listed(home):
                assert "can be restored" in home.cli("backup", to, "--verify", "--point", one).stdout
            take()
        assert failed
    finally:
        disk.remove()


def is_restored(home, to):
    files = [f["file_name"] for f in map(json.loads, home.cli("files", "--home", to, "--json").stdout.splitlines())]
    return sorted(files) == ["a.csv", "b.csv"] and next(to.glob("work/*/in/b.csv")).read_text() == rows() and (to / "apps/acme/some").read_text() == "some\n"


def test_what_cannot_be_read_of_a_backup_makes_no_home(full, badfs):
    home, to = full, full.base / "new"
    home.cli("backup", home.base / "backup", "--files")
    disk = BadDisk(badfs, home.base / "backup", journal=1)
    try:
        for under in ("/objects", "/points", "/backup.json"):
            not_in_memory(home.base / "backup")
            disk.set(n_failed=0)
            with disk.failing(READS, under):
                r = home.cli("restore", home.base / "backup", to, check=False)
            assert disk.get("n_failed") and said_eio(r) and not (to / "state/home.json").exists(), (under, r.stdout, r.stderr)
        home.cli("restore", home.base / "backup", to)
        assert is_restored(home, to)
    finally:
        disk.remove()


@pytest.mark.parametrize("n", [8, pytest.param(100, marks=pytest.mark.soak)])
@pytest.mark.parametrize("what", ["writes", "syncs"])
def test_what_cannot_be_written_of_a_home_is_none(full, badfs, syncfs, what, n):
    """And is one when it is restored again; one that was told survives the power."""
    home, over, number = full, full.base / "disk", 0
    home.programs = RELEASE
    home.cli("backup", home.base / "backup", "--files")
    over.mkdir()
    disk = BadDisk(badfs, over, journal=1, evict=1)
    home.env.update(syncfs)

    def restore():
        nonlocal number
        number += 1
        return home.cli("restore", home.base / "backup", over / f"new{number}", check=False)
    try:
        failed = 0
        for r in disk.each_failing(KINDS[what], restore, n):
            to = over / f"new{number}"
            assert r.returncode == 0 or (said_eio(r) and not (to / "state/home.json").exists()), r.stderr
            if r.returncode:
                home.cli("restore", home.base / "backup", to)
            failed += r.returncode
            disk.cut_now()
            disk.power_back(evict=1)
            assert is_restored(home, to)
            shutil.rmtree(to)
        assert failed
    finally:
        disk.remove()
