"""What is kept, and how long: files, logs of runs, documents; and a tenant's whole life."""
import json
import os
import sqlite3

import pytest
from harness import IS_ROOT, until


def age(home, days, where="1"):
    """Makes what the ledger has older; the platform is down."""
    db = sqlite3.connect(home.path / "state/ledger.db")
    ms = days * 86400000
    db.execute(f"UPDATE files SET received_at=received_at-{ms}, ended_at=ended_at-{ms} WHERE {where}")
    db.execute(f"UPDATE runs SET started_at=started_at-{ms}, ended_at=ended_at-{ms}")
    db.commit()
    db.close()


def test_documents_days_deletes_what_was_loaded_and_nothing_else(make_home):
    home = make_home(platform="rescan_ms = 200;")
    home.tenant(tenant="retention = { documents_days = 30; };")
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
    until(lambda: {d["v"] for d in home.docs()} == {3, 4, "not ours"}, home.path / "state", timeout=10, what="the old documents to go")
    home.down()
    age(home, 31)
    home.up()
    until(lambda: {d["v"] for d in home.docs()} == {"not ours"}, home.path / "state", what="all of them to go")
    assert {f["state"] for f in home.files()} == {"ingested"}
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
    until(lambda: [p.name for p in (home.path / "runs").iterdir()] == [young], home.path / "runs", what="the old logs to go")
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
