"""What `mysimbdp verify` can tell of rows in MongoDB beyond files' prefixes, and what it says it cannot."""
import json

import pytest
from harness import FINAL, change, until
from wire import Peer

pytestmark = pytest.mark.anyone


def verify(home):
    """What was found, by kind: texts; and the exit code."""
    r = home.cli("verify", "--json", check=False)
    found = {}
    for f in map(json.loads, r.stdout.splitlines()):
        found.setdefault(f["found"], []).append(f["path"])
    return {k: sorted(v) for k, v in found.items()}, r.returncode


def data(home, tenant="acme"):
    return home.mongo.client[home.db_of[tenant]].data


def test_where_a_key_replaces_rows_documents_that_went_are_told(home):
    home.tenant(apps='{ app = "out"; exec = "/bin/cat"; output = "stdout"; pattern = "out*"; }, { app = "app"; exec = "builtin:load"; },'
                     '{ app = "many"; exec = "builtin:load"; pattern = "many*"; group = { max_files = 2; max_wait_ms = 60000; }; }')
    conf = home.path / "conf/tenants/acme.conf"
    text = conf.read_text().replace('collection = "data";', 'collection = "data"; key = ("k"); on_key_conflict = "replace"; columns = ( { name = "k"; type = "int"; } );')
    conf.write_text(text.replace('{ app = "app"; exec = "builtin:load"; },', '{ app = "app"; exec = "builtin:load"; pattern = "f*"; },'))
    home.up()
    files = {"f-1.csv": "k,v\n1,1\n2,1\n1,2\n", "f-2.csv": "k,v\n2,3\n3,3\n", "out.csv": "k,v\n3,4\n4,4\n", "f-3.csv": "k,v\n1,5\n"}
    for name, rows in files.items():
        home.drop(name, rows)
        assert home.wait_file(file_name=name)["state"] == "ingested"
    for name in ("many-1.csv", "many-2.csv"):
        home.drop(name, "k,v\n5,%s\n" % name[5])
    home.wait_files(6)
    assert home.count() == 5
    assert verify(home) == ({}, 0)
    data(home).delete_one({"k": 3})
    found, code = verify(home)
    assert code == 1 and list(found) == ["rows missing"]
    assert "acme/data: its 6 files have 10 rows, which made 5 documents or more (a key replaces rows); MongoDB has 4 in" in found["rows missing"][0]
    assert "the oldest first" in home.cli("verify", check=False).stdout
    data(home).delete_many({})
    found, code = verify(home)
    assert code == 1 and "MongoDB has 0 in" in found["rows missing"][0]
    for f in home.files():
        kept = home.path / "done/acme/data" / f["file_id"] / f["file_name"]
        home.cli("upload", "acme", "data", "--force", "--wait", "--app", "out" if f["file_name"] == "out.csv" else "app", kept)
    assert verify(home) == ({}, 0) and home.count() == 5


def test_what_files_of_an_earlier_version_added_is_not_known_but_an_empty_collection_is(home):
    home.tenant()
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; key = ("k"); on_key_conflict = "replace"; columns = ( { name = "k"; type = "int"; } );'))
    home.up()
    home.drop("a.csv", "k,v\n1,1\n2,1\n1,2\n")
    home.wait_files(1)
    home.down()
    with change(home.path / "state/ledger.db") as db:
        db.execute("UPDATE files SET rows_added = -1")
    home.up()
    until(lambda: json.loads((home.path / "state/databases.json").read_text())["acme"]["up"], home.path / "state", what="the database")
    found, code = verify(home)
    assert code == 0 and found == {"not comparable": [f"acme/data: a key replaces rows, and of 1 of 1 files it was not noted how many they made; 2 documents are in {home.db_of['acme']}.data"]}
    r = home.cli("verify")
    assert "not comparable   acme/data: a key replaces rows" in r.stdout and "0 things found" in r.stdout
    data(home).delete_many({})
    found, code = verify(home)
    assert code == 1 and list(found) == ["rows missing"] and "MongoDB has 0 in" in found["rows missing"][0]


STREAMS = """database = "{db}"; datasets = ( {{ name = "data"; format = "json"; collection = "data"; }},
    {{ name = "kept"; format = "json"; collection = "kept"; key = ("k"); on_key_conflict = "keep"; columns = ( {{ name = "k"; type = "int"; }} ); }},
    {{ name = "files"; format = "csv"; collection = "data"; }} );
batch = ( {{ app = "load"; exec = "builtin:load"; datasets = ("files"); }} );
streams = ( {{ name = "events"; }} );
stream_apps = ( {{ stream = "events"; app = "one"; exec = "builtin:load"; dataset = "data"; }},
    {{ stream = "events"; app = "two"; exec = "cat.sh"; output = "stdout"; dataset = "data"; }},
    {{ stream = "events"; app = "keeps"; exec = "builtin:load"; dataset = "kept"; }},
    {{ stream = "events"; app = "once"; exec = "builtin:load"; dataset = "data"; delivery = "at_most_once"; }},
    {{ stream = "events"; app = "own"; exec = "builtin:pipe"; args = ("--", "cat"); }} );
"""


def test_rows_of_streams_that_are_gone_are_told(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    (home.path / "conf/tenants/acme.conf").write_text(STREAMS.format(db=home.db_of["acme"]))
    cat = home.path / "apps/acme/cat.sh"
    cat.parent.mkdir(exist_ok=True)
    cat.write_text("#!/bin/sh\nexec cat\n")
    cat.chmod(0o755)
    home.up()
    with Peer(home.endpoint) as p:
        p.publish("acme/events", [b'{"k":%d}' % i for i in range(10)])
    home.drop("f.csv", "v\n1\n2\n", dataset="files")
    home.wait_file(file_name="f.csv")
    apps = ("one", "two", "keeps", "once", "own")
    until(lambda: all(home.queue(a)["acked"] == 10 for a in apps), home.path / "state", what=lambda: f"the acks: {[home.queue(a)['acked'] for a in apps]}")
    until(lambda: home.count() == 32, home.path / "state", what=lambda: f"the rows: {home.count()}")
    untold = {"keeps": "acknowledges rows that it does not store", "once": "acknowledges before it stores", "own": "it stores by itself"}
    found, code = verify(home)
    assert code == 0 and list(found) == ["not comparable"], found
    assert all(any(f"acme/{a}: " in t and why in t for t in found["not comparable"]) for a, why in untold.items()) and len(found["not comparable"]) == 3
    data(home).delete_many({"k": {"$lt": 6}})  # 18 of the 30, of which 20 are needed
    found, code = verify(home)
    assert code == 1 and set(found) == {"not comparable", "rows missing"}
    (text,) = found["rows missing"]
    assert "acme/one" in text and "acme/two" in text and "20 rows were acknowledged, MongoDB has 12 documents" in text and "no file stored" in text
    home.down()
    assert verify(home)[0]["rows missing"] == [text], "the broker's store says it, too"


def test_a_group_of_the_loaders_is_compared_as_one(home):
    home.tenant(apps='{ app = "app"; exec = "builtin:load"; pattern = "f*"; }, { app = "many"; exec = "builtin:load"; pattern = "m*"; group = { max_files = 2; max_wait_ms = 60000; }; }')
    home.up()
    for name in ("m-1.csv", "m-2.csv"):
        home.drop(name, f"v\n{name}\n{name}x\n")
    files = {f["file_name"]: f["file_id"] for f in home.wait_files(2)}
    assert home.count() == 4 and verify(home) == ({}, 0)
    data(home).delete_one({"v": "m-2.csvx"})
    found, code = verify(home)
    assert code == 1 and found == {"rows missing": [f"acme/data: the ledger says 4 rows of a group of 2 files, MongoDB has 3 of them in {home.db_of['acme']}.data"]}
    home.cli("upload", "acme", "data", "--force", "--wait", "--app", "app", home.path / "done/acme/data" / files["m-2.csv"] / "m-2.csv")
    assert home.count() == 4
    found, code = verify(home)
    assert code == 0 and found == {"not comparable": ["acme/data: some files of its group were loaded again since, and counts are of the group (1 files)"]}


def test_files_that_cannot_be_told_are_said(home):
    own = """#!/usr/bin/python3
import json, os, pymongo
pymongo.MongoClient(os.environ["MONGO_URL"])[os.environ["MONGO_DATABASE"]].data.insert_one({"own": 1})
open(os.environ["SIMBDP_RESULT_FILE"], "w").write(json.dumps({"rows_parsed": 1, "rows_loaded": 1, "rows_rejected": 0}))
"""
    home.tenant(apps='{ app = "own"; exec = "own.py"; pattern = "own*"; }, { app = "mute"; exec = "/bin/true"; pattern = "mute*"; }')
    home.install("acme", "/dev/null", "own.py").write_text(own)
    home.tenant("beta")
    home.profiles(rlimits="nofile = 256;")
    home.up()
    for name in ("own-1.csv", "own-2.csv", "mute.csv"):
        home.drop(name, f"v\n{name}\n")
    home.drop("b.csv", "v\n1\n", "beta")
    assert {f["state"] for f in home.wait_files(4)} == {"ingested"}
    (home.path / "conf/tenants/beta.conf").unlink()
    home.reload()
    found, code = verify(home)
    assert code == 0 and found == {"not comparable": ["acme/data: app own stores by itself (2 files)", "acme/data: its app did not say how many rows it stored (1 files)",
                                                      "beta/data: it is not configured any more (1 files)"]}


def test_a_ledger_that_is_written_to_is_not_older_than_its_mark(home):
    home.tenant()
    home.up()
    for i in range(150):
        home.drop(f"f{i}.csv", f"a\n{i}\n")
    looks = []
    while any(f["state"] not in FINAL for f in home.files()) or len(looks) < 3:
        looks.append(verify(home)[0].get("ledger changed"))
    assert not any(looks), looks
