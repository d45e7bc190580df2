"""What is kept, and how long: files, logs of runs, documents; and a tenant's whole life."""
import itertools
import json
import os
import sqlite3
import struct
import subprocess
import threading
import time

import pytest
from harness import IS_ROOT, RELEASE, ROOT, change, until
from scripted import Scripted

pytestmark = pytest.mark.anyone


def age(home, days, where="1"):
    """Makes what the ledger has older; the platform is down."""
    ms = days * 86400000
    with change(home.path / "state/ledger.db") as db:
        db.execute(f"UPDATE files SET received_at=received_at-{ms}, ended_at=ended_at-{ms} WHERE {where}")
        db.execute(f"UPDATE runs SET started_at=started_at-{ms}, ended_at=ended_at-{ms}")


def test_documents_days_deletes_what_was_loaded_and_nothing_else(make_home):
    home = make_home(platform="rescan_ms = 200;")
    home.tenant()
    home.up()
    home.drop("old.csv", "v\n1\n2\n")
    home.drop("both.csv", "v\n3\n")
    home.wait_files(2)
    home.mongo.client[home.db_of["acme"]]["data"].insert_one({"v": "not ours"})
    home.down()
    age(home, 31)
    home.up()
    home.drop("new.csv", "v\n4\n")
    again = home.base / "both.csv"
    again.write_text("v\n3\n")
    home.cli("upload", "acme", "data", again, "--force")
    home.wait_files(4)
    home.tenant(tenant="retention = { documents_days = 30; };")
    assert home.reload()["ok"]
    until(lambda: {d["v"] for d in home.docs()} == {3, 4, "not ours"}, home.path / "state", timeout=10, what="the old documents to go")
    home.down()
    age(home, 31)
    home.up()
    until(lambda: {d["v"] for d in home.docs()} == {"not ours"}, home.path / "state", what="all of them to go")
    assert {f["state"] for f in home.files()} == {"ingested"}
    assert not [line for line in (home.path / "logs/batchmgr.log").read_text().splitlines() if "could not be deleted" in line]
    home.drop("again.csv", "v\n1\n2\n")
    assert home.wait_file(file_name="again.csv")["state"] == "duplicate"  # the ledger remembers
    assert list((home.path / "state").glob("job-*")) == []


def test_documents_of_output_modes_and_groups_go_too(make_home):
    home = make_home(platform="rescan_ms = 200;")
    home.tenant(exec_="twice", tenant="retention = { documents_days = 30; };",
                batch='output = "dir"; group = { max_files = 2; max_wait_ms = 60000; };')
    app = home.path / "apps/acme/twice"
    app.write_text('#!/bin/sh\ncat "$SIMBDP_INPUT_DIR"/* >"$SIMBDP_OUTPUT_DIR/o.csv"\n')
    app.chmod(0o755)
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\n2\n")
    home.wait_files(2)
    assert home.count() == 3  # b's header is a row here
    home.down()
    age(home, 31)
    home.up()
    until(lambda: home.count() == 0, home.path / "state", what="the documents to go")


def test_documents_wait_for_the_database(make_home, tmp_path):
    from harness import Mongo
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo, platform="rescan_ms = 200;")
    home.tenant(tenant="retention = { documents_days = 1; };")
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_files(1)
    home.down()
    age(home, 2)
    mongo.kill()
    home.up(ready=False)
    until(lambda: (home.path / "state/endpoints.json").exists(), home.path / "state")
    mongo.start()
    until(lambda: home.count() == 0, home.path / "state", what="the documents to go")
    home.cleanup()
    mongo.stop()


def test_a_deletion_that_down_ends_has_not_failed(make_home):
    class NeverDeletes(Scripted):
        def message(self, body):
            if b"\x02delete\0" in body:
                self.never.wait()
            return super().message(body)
    server = NeverDeletes()
    server.never = threading.Event()
    server.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
    home = make_home(mongo=None, platform="rescan_ms = 200;")
    home.tenant(tenant="retention = { documents_days = 1; };")
    home.up(MONGO_URL=server.url)
    home.drop("a.csv", "v\n1\n")
    home.wait_files(1)
    home.down()
    age(home, 2)
    home.up(MONGO_URL=server.url)
    until(lambda: home.pids("simbdp-load"), home.path / "state", every=0.01, what="the deletion to begin")
    home.down()
    assert "could not be deleted" not in (home.path / "logs/batchmgr.log").read_text()
    server.never.set()
    home.up(MONGO_URL=server.url)
    until(lambda: "1 files were deleted" in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="the deletion")
    home.down()
    server.stop()


def test_replaced_rows_have_no_age(home):
    home.tenant(tenant="retention = { documents_days = 30; };")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; key = ("v"); on_key_conflict = "replace";'))
    r = home.cli("check", check=False)
    assert r.returncode == 1 and "documents_days" in r.stderr and "acme.conf:2" in r.stderr


def test_logs_days_removes_what_runs_left(make_home):
    home = make_home(platform="rescan_ms = 200;")
    home.tenant(exec_="misbehave", tenant="retention = { logs_days = 7; };")
    home.up()
    for i in range(40):
        home.do(f"print,hello {i}", name=f"x{i}.csv")
    home.wait_files(40)
    run = home.rows("runs")[0]["run_id"]
    assert home.log_of(run) != ""
    home.down()
    age(home, 8)
    home.up()
    home.do("print,young", name="young.csv")
    home.wait_files(41)
    young = home.files(file_name="young.csv")[0]["run_id"]
    until(lambda: [p.name for p in (home.path / "runs").iterdir() if p.name != ".scrap"] == [young], home.path / "runs", what="the old logs to go")
    r = home.cli("logs", run, check=False)
    assert r.returncode == 1 and "logs_days" in r.stderr
    assert len(home.rows("runs")) == 41


def test_limits_of_a_dataset_count_its_own_files(home):
    home.tenant(limits="max_files_per_day = 4;", dataset_limits="max_files_per_day = 1; max_bytes_per_day = 1000;")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = (", 'datasets = ( { name = "other"; format = "csv"; collection = "data"; }, '))
    home.up()
    for i, dataset in enumerate(["other", "data", "data", "other", "other", "other"]):
        home.drop(f"f{i}.csv", f"v\n{i}\n", dataset=dataset)
        home.wait_files(i + 1)
    assert [(f["state"], f["reason"]) for f in home.files()] == [
        ("ingested", None), ("ingested", None), ("rejected", "max_files_per_day"), ("ingested", None), ("ingested", None),
        ("rejected", "max_files_per_day")]
    details = [f["detail"] for f in home.files()]
    assert "1 files of the dataset" in details[2] and "4 files of the tenant" in details[5]


def traces(home, tenant):
    """Everything in the home that bears the tenant's name, and rows of the ledger."""
    found = [str(p) for place in ("staging", "done", "quarantine", "apps", "keys", "logs/tenants", "conf/tenants", "work", "state")
             for p in (home.path / place).glob("*") if tenant in p.name]
    db = sqlite3.connect(home.path / "state/ledger.db")
    for table in ("files", "runs"):
        found += db.execute(f"SELECT * FROM {table} WHERE tenant=?", (tenant,)).fetchall()
    db.close()
    return found


def test_remove_puts_aside_and_purge_deletes_everything_while_running(home):
    home.tenant("gone", exec_="misbehave", retry="attempts = 1;", concurrency=2)
    home.tenant("stays")
    home.up()
    gate = home.base / "gate"
    home.drop("kept.csv", "v\n1\n", "stays")
    home.do("print,done", name="done.csv", tenant="gone")
    home.do("exit,3", name="bad.csv", tenant="gone")
    home.wait_files(3)
    home.mongo.client[home.db_of["gone"]]["one"].insert_one({"a": 1})
    home.mongo.client[home.db_of["gone"]]["two"].insert_one({"a": 1})
    (home.path / "keys/gone").mkdir()
    (home.path / "keys/gone/token").write_text("x")
    for i in range(6):  # two run, four wait
        home.do(f"gate,{gate}", f"print,{i}", name=f"g{i}.csv", tenant="gone")
    runs = [r["run_id"] for r in home.wait_running(2)]
    uid = [t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "gone"]
    assert "suspended and nothing was deleted" in home.cli("tenant", "remove", "gone").stdout
    assert [t["state"] for t in home.rows("tenant", "list") if t["tenant_id"] == "gone"] == ["suspended"]
    assert traces(home, "gone") and len(home.marked(runs[0])) > 0
    home.cli("tenant", "remove", "gone", "--purge")
    assert traces(home, "gone") == []
    assert all(home.marked(r) == [] and not (home.path / "runs" / r).exists() for r in runs)
    assert home.mongo.client[home.db_of["gone"]].list_collection_names() == []
    assert [t["tenant_id"] for t in home.rows("tenant", "list")] == ["stays"] and home.count("stays") == 1
    assert [t["tenant_id"] for t in home.rows("stats")] == ["gone", "stays", None]  # its bill is kept
    assert [t["tenant_id"] for t in home.rows("stats", "--since", "2100-01-01T00:00:00Z")] == ["stays", None]
    assert [t["tenant_id"] for t in home.control({"op": "status"})["tenants"]] == ["stays"]
    home.drop("goes on.csv", "v\n2\n", "stays")
    assert home.wait_file(file_name="goes on.csv")["state"] == "ingested"
    r = home.cli("tenant", "remove", "gone", "--purge", check=False)
    assert r.returncode == 1 and "no tenant gone" in r.stderr
    home.tenant("other")  # never the uid of one that is gone
    assert home.reload()["ok"]
    if IS_ROOT:
        assert [t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "other"] != uid
    home.tenant("gone")
    assert home.reload()["ok"]
    home.drop("again.csv", "v\n1\n", "gone")
    assert home.wait_file(file_name="again.csv")["state"] == "ingested" and home.count("gone") == 1


def test_purge_with_the_embedded_mongodb(make_home):
    home = make_home(own_mongo=True)
    home.tenant("gone")
    home.up()
    home.drop("a.csv", "v\n1\n", "gone")
    home.wait_files(1)
    home.cli("tenant", "remove", "gone", "--purge")
    assert traces(home, "gone") == []
    home.tenant("gone")
    home.reload()
    home.drop("a.csv", "v\n1\n", "gone")
    f = home.wait_file(file_name="a.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 1)


@pytest.mark.parametrize("point", ["purge_mark", "purge_files", "purge_rows", "purge_conf"])
def test_a_purge_that_was_cut_short_goes_on(home, point):
    home.tenant("gone")
    home.tenant("stays")
    home.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(home.base / "crashed"))
    home.drop("a.csv", "v\n1\n", "gone")
    home.drop("b.csv", "v\n1\n", "stays")
    home.wait_files(2)
    day = "2026-01-%02dT12:00:00Z"
    (home.path / "logs/tenants/gone/stream.jsonl").write_text("".join(
        '{"ts":"%s","event":"interval","stream":"s","app":%s,"line":"%d","messages":%d,"bytes":10,"rows":20,"refused":1,"dead":1,"avg_ms":2.5}\n'
        % (day % (1 + i), app, i, 4 + i) for i, app in enumerate(["null", '"a"', '"a"'])))
    names = [k for k in home.rows("stats")[0] if k not in ("p50_s", "p95_s", "p99_s")]
    before = [{k: home.rows("stats", *args)[0][k] for k in names} for args in ([], ["--since", day % 3])]
    assert (before[0]["messages"], before[0]["rows"], before[0]["messages_dead"], before[1]["rows"]) == (4, 41, 2, 21)
    r = home.cli("tenant", "remove", "gone", "--purge", check=False)
    assert r.returncode == 1 and (home.base / "crashed").exists()
    until(lambda: traces(home, "gone") == [], home.path / "state", what="the rest to go")
    until(lambda: home.mongo.client[home.db_of["gone"]].list_collection_names() == [], home.path / "state")
    # what it is billed by stays, by day, and is counted once
    for args, was in zip(([], ["--since", day % 3]), before):
        now = home.rows("stats", "--tenant", "gone", *args)[0]
        assert {k: now[k] for k in names} == pytest.approx(was), args
    home.drop("c.csv", "v\n2\n", "stays")
    assert home.wait_file(file_name="c.csv")["state"] == "ingested" and home.count("stays") == 2


def test_bytes_of_a_dataset_count_its_own_files(home):
    home.tenant(dataset_limits="max_bytes_per_day = 5;")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = (", 'datasets = ( { name = "other"; format = "csv"; collection = "data"; }, '))
    home.up()
    for i, dataset in enumerate(["other", "other", "data", "data"]):
        home.drop(f"f{i}.csv", f"v\n{i}\n", dataset=dataset)
        home.wait_files(i + 1)
    assert [(f["state"], f["reason"]) for f in home.files()] == [("ingested", None)] * 3 + [("rejected", "max_bytes_per_day")]


def test_limits_of_a_dataset_count_what_is_its_own_and_unfinished(home):
    home.tenant(batch='trigger = "manual";', dataset_limits="max_files_in_staging = 1;")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = (", 'datasets = ( { name = "other"; format = "csv"; collection = "data"; }, '))
    home.up()
    for i, dataset in enumerate(["other", "other", "data", "data"]):
        home.drop(f"f{i}.csv", f"v\n{i}\n", dataset=dataset)
        until(lambda: len([f for f in home.files() if f["reason"]]) == i + 1, home.path / "state", what="the next file")
    assert [(f["state"], f["reason"]) for f in home.files()] == [("queued", "trigger")] * 3 + [("rejected", "max_files_in_staging")]


@pytest.fixture(scope="module")
def leap(tmp_path_factory):
    """A library that shifts a program's calendar, and the file that says by how many seconds."""
    where = tmp_path_factory.mktemp("leap")
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", where / "leap.so", ROOT / "tests/fault/leap.c", "-ldl"], check=True)
    shift = where / "shift"
    shift.write_bytes(bytes(8))
    for p in (where.parent, where, where / "leap.so", shift):
        p.chmod(0o755)

    def by(days):
        with shift.open("r+b") as f:
            f.write(struct.pack("<q", days * 86400))
    by.env = {"LD_PRELOAD": str(where / "leap.so"), "SIMBDP_TEST_LEAP": str(shift)}
    yield by
    by(0)


def test_nothing_goes_for_a_clock_that_leapt(make_home, leap):
    home = make_home(platform="rescan_ms = 200;")
    home.programs = RELEASE  # sanitizers want to be loaded first
    home.tenant(tenant='retention = { files_days = 30; logs_days = 30; documents_days = 30; }; streams = ( { name = "s"; retention_s = 86400; } ); '
                       'stream_apps = ( { app = "consume"; stream = "s"; } );')
    home.up(**leap.env)
    home.drop("x.csv", "v\n1\n")
    f = home.wait_file(file_name="x.csv")
    home.cli("publish", "acme/s", input="a\nb\nc\n")

    def leaps(program):
        return (home.path / f"logs/{program}.log").read_text().count('"clock_leap"')

    def ahead():
        return [json.loads(line)["clock_ahead_s"] > 300 * 86400 for line in home.cli("clock", "--json").stdout.splitlines()]

    def kept():
        home.drop(f"{kept.n}.csv", f"v\n{kept.n}\n")
        home.wait_file(file_name=f"{kept.n}.csv")
        kept.n += 1
        return (home.path / "done/acme/data" / f["file_id"] / "x.csv").exists() and (home.path / "runs" / f["run_id"]).exists() and {d["v"] for d in home.docs()} >= {1}
    kept.n = 100
    assert ahead() == [False, False]
    leap(365)
    until(lambda: leaps("broker") and leaps("batchmgr"), home.path / "logs", what="both to notice")
    assert kept() and kept() and home.queue()["ready"] == 3 and ahead() == [True, True]
    leap(0)
    until(lambda: ahead() == [False, False], home.path / "logs", what="the clock to be followed again")
    home.down()
    leap(365)  # while it was down
    home.up(**leap.env)
    until(lambda: leaps("broker") == leaps("batchmgr") == 2, home.path / "logs", what="both to notice")
    assert kept() and home.queue()["ready"] == 3
    assert "ahead" not in home.cli("clock", "trust").stdout and ahead() == [False, False]
    until(lambda: home.queue()["ready"] == 0 and not (home.path / "done/acme/data" / f["file_id"]).exists(), home.path / "state", what="what is old to go")


def test_down_does_not_wait_for_a_purge_and_says_so(make_home, tmp_path):
    """Its database is away, so it cannot end; nothing is leaked either (the home's sanitizer reports)."""
    from harness import Mongo
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    home.tenant("gone")
    home.up()
    mongo.kill()
    removal = subprocess.Popen([*home.as_user, home.program("mysimbdp"), "tenant", "remove", "gone", "--purge"], env=home.env, stderr=subprocess.PIPE, text=True)
    until(lambda: '"event":"purge"' in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="it to begin")
    home.down()
    _, said = removal.communicate(timeout=60)
    assert removal.returncode == 1 and "goes with its next start" in said, said
    mongo.start()
    home.up()
    until(lambda: traces(home, "gone") == [], home.path / "state", what="the rest to go")
    home.cleanup()
    mongo.stop()


def test_the_journal_of_streams_is_summed_by_day(home):
    """What was closed longer ago than logs_days: bills, stats by app and by day stay what they were, and years of intervals become a few lines."""
    for name in ("acme", "keeps"):
        home.tenant(name, tenant="retention = { logs_days = -1; };")
    line = '{"ts":"2026-%02d-%02dT%02d:%02d:05.000Z","event":"interval","stream":"s","app":%s,"line":"%d","messages":%d,"bytes":10,"rows":3,"refused":0,"dead":1,"avg_ms":2.5}\n'
    numbers = itertools.count(1)
    for name in ("acme", "keeps"):
        directory = home.path / f"logs/tenants/{name}"
        directory.mkdir(parents=True)
        for i, days in enumerate((range(1, 11), range(11, 21), range(21, 28))):
            closed = directory / f"stream.{i + 1:012}.jsonl"
            closed.write_text("".join(line % (1, day, hour, minute, app, next(numbers), day) for day in days for hour in range(24) for minute in range(0, 60, 10) for app in ("null", '"a"')))
            when = time.time() - (10 - i) * 86400 if i < 2 else time.time()
            os.utime(closed, (when, when))
        (directory / "stream.jsonl").write_text(line % (1, 28, 0, 0, '"a"', next(numbers), 1))

    def figures(tenant):
        return home.rows("stats", "--tenant", tenant), home.rows("stats", "--streams", "--tenant", tenant), [home.rows("stats", "--tenant", tenant, "--since", f"2026-01-{d:02}T00:00:00Z") for d in (5, 12, 27)]
    home.up()
    before = {t: figures(t) for t in ("acme", "keeps")}
    home.down()
    assert before["acme"][0][0]["messages"] == sum(d * 144 for d in range(1, 28))
    home.tenant("acme", tenant="retention = { logs_days = 3; };")
    home.up()
    days = home.path / "logs/tenants/acme/stream.days.jsonl"
    until(lambda: days.exists() and json.loads(days.read_text().splitlines()[0])["through"] == 2, home.path / "logs", what="two files that were summed")
    assert len(days.read_text().splitlines()) < 60 and not (home.path / "logs/tenants/keeps/stream.days.jsonl").exists()
    assert {t: figures(t) for t in ("acme", "keeps")} == before
    # Later they go, and a bill outlives all of it.
    when = time.time() - 700
    os.utime(days, (when, when))
    home.down()
    home.up()
    until(lambda: not (days.parent / "stream.000000000001.jsonl").exists() and (days.parent / "stream.000000000003.jsonl").exists(), home.path / "logs", what="files that are gone")
    assert figures("acme") == before["acme"]
    home.cli("tenant", "remove", "acme", "--purge")
    assert home.rows("stats", "--tenant", "acme")[0]["messages"] == before["acme"][0][0]["messages"]
