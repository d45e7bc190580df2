"""The embedded MongoDB by itself: what its BSON maps store, and who is answered while it works."""
import datetime
import subprocess
import threading
import uuid

import bson
import pymongo
import pytest
from bson.regex import Regex

from harness import RELEASE, Mongo

VALUES = [
    None, True, False, 0, 7, 2**40, -(2**62), 1.5, float("inf"), "", "text", "zwölf\n", b"", b"\0\xff" * 12, bson.ObjectId("5" * 24),
    datetime.datetime(1969, 7, 20, 20, 17, 40, 123000), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
    bson.Decimal128("12.50"), bson.Timestamp(5, 6), bson.MinKey(), bson.MaxKey(), Regex("^a", "i"), bson.Code("x"),
    {"a": 1, "b": {"c": None}}, {"b": 1, "a": 1}, {},
]
LISTS = [[], [1, "two", [3.5, None]], [{"deep": [b"x"]}]]


@pytest.fixture
def server(tmp_path):
    m = Mongo(tmp_path / "mongo")
    yield m
    m.stop()


def restart(server):
    server.client.close()
    server.kill()
    server.start()
    return server.client.db


def test_every_type_is_read_as_it_was_written_over_a_kill(server):
    ids = [v for v in VALUES if not isinstance(v, Regex)]  # MongoDB takes no pattern as _id
    docs = [{"_id": v, "value": w, "list": LISTS} for v, w in zip(ids, reversed(VALUES))]
    server.client.db.types.insert_many(docs)
    db = restart(server)
    for doc in docs:
        found = list(db.types.find({"_id": doc["_id"]})) if doc["_id"] is not None else [d for d in db.types.find() if d["_id"] is None]
        assert found == [doc] and list(found[0]) == list(doc), doc
    with pytest.raises(pymongo.errors.BulkWriteError) as e:
        db.types.insert_many([{"_id": d["_id"]} for d in docs], ordered=False)
    assert len(e.value.details["writeErrors"]) == len(docs), "each is in the index still"
    assert db.types.delete_many({}).deleted_count == len(docs)
    assert restart(server).types.count_documents({}) == 0


def test_unique_indexes_tell_keys_apart_as_before_a_kill(server):
    c = server.client.db.keyed
    c.create_index([("a", 1), ("b", 1)], unique=True)
    keys = [{"a": a, "b": b} for a in (1, "1", None, b"1", {"x": 1}) for b in (2, 2.5, "2", datetime.datetime(2024, 1, 1))]
    c.insert_many([dict(k) for k in keys])
    c.insert_one({"a": 9})
    c = restart(server).keyed
    for key in [*keys, {"a": 9}, {"a": 1.0, "b": 2}, {"a": 9, "b": None}]:
        with pytest.raises(pymongo.errors.DuplicateKeyError):
            c.insert_one(dict(key))
    assert c.count_documents({}) == len(keys) + 1
    c.delete_one({"a": 9})
    c.insert_one({"a": 9, "b": None})
    c.update_one({"a": 1, "b": 2}, {"$set": {"b": 3}})
    c.insert_one({"a": 1, "b": 2})


def test_a_ping_is_answered_while_a_command_runs(server):
    c = server.client.db.slow
    c.insert_many([{"n": i} for i in range(20000)])
    other = pymongo.MongoClient(server.url)
    other.admin.command("ping")
    running, over = threading.Event(), threading.Event()

    def scan():
        running.set()
        c.update_many({}, {"$inc": {"n": 1}})
        over.set()

    t = threading.Thread(target=scan)
    t.start()
    running.wait()
    other.admin.command("ping")
    answered_meanwhile = 0
    while not over.is_set():
        other.admin.command("ping")
        answered_meanwhile += not over.is_set()
    t.join()
    other.close()
    assert answered_meanwhile >= 5


def test_a_file_of_another_format_is_left_alone(server):
    lib = RELEASE / "embedded-mongo"
    (server.dir / "Old.java").write_text("""
public class Old { public static void main(String[] a) {
    var s = org.h2.mvstore.MVStore.open(a[0]); s.openMap("databases.old.data").put("k", "v"); s.close(); } }""")
    data = server.dir / "data/old.mv"
    subprocess.run(["java", "-cp", f"{lib}/lib/*", server.dir / "Old.java", data], check=True)
    before = data.read_bytes()
    with pytest.raises(pymongo.errors.OperationFailure, match="its format is 0.*move it away"):
        server.client.old.data.find_one()
    server.client.db.data.insert_one({"other": "databases go on"})
    assert data.read_bytes() == before


def test_a_home_of_one_file_becomes_one_of_many(tmp_path):
    server = Mongo(tmp_path / "mongo")
    docs = [{"_id": v, "value": w} for v, w in zip(range(len(VALUES)), VALUES)]
    server.client.acme.types.insert_many(docs)
    server.client.acme.types.create_index("value")
    server.client.acme.keyed.create_index([("k", 1)], unique=True)
    server.client.acme.keyed.insert_one({"k": 1})
    server.client.close()
    server.kill()
    # As it was: the maps of all databases in one file.
    (server.dir / "data/acme.mv").rename(server.dir / "data/all.old")
    server.start()
    db = server.client.acme
    assert list(db.types.find(sort=[("_id", 1)])) == docs and "value_1" in db.types.index_information()
    with pytest.raises(pymongo.errors.DuplicateKeyError):
        db.keyed.insert_one({"k": 1})
    assert sorted(p.name for p in (server.dir / "data").iterdir()) == ["acme.mv", "lock"]
    server.stop()
