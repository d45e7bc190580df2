"""The embedded MongoDB by itself: what its BSON maps store, and who is answered while it works."""
import datetime
import lzma
import random
import subprocess
import threading
import uuid

import bson
import pymongo
import pytest
from bson.regex import Regex

from harness import RELEASE, ROOT, Mongo

pytestmark = pytest.mark.anyone

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


class Merging(Mongo):
    """Its unique indexes are merged every hundred keys or so."""

    def __init__(self, directory):
        super().__init__(directory, jvm=["-Dsimbdp.recentBytes=20000"])


def key_of(rng, n=10**9):
    return rng.randbytes(20) + rng.randrange(n).to_bytes(4, "big")


def test_replacing_by_random_keys_leaves_a_file_below_three_times_its_data(tmp_path):
    rng, data, n = random.Random(3), 0, 16000
    server = Mongo(tmp_path / "mongo", jvm=["-Dsimbdp.recentBytes=400000"])
    c = server.client.db.rows
    c.create_index([("order", 1)], unique=True)
    docs = [{"_id": key_of(rng), "order": f"{i:09d}A", "customer": f"customer{rng.randrange(10**6):07d}", "country": "AT", "city": "Wien", "at":
             datetime.datetime(2025, 1, 1), "amount": rng.random(), "quantity": i % 100, "status": "paid", "comment": f"some words {rng.randrange(10**6)}"}
            for i in range(n)]
    rng.shuffle(docs)
    for round_ in range(2):
        for i in range(0, n, 800):
            for d in docs[i:i + 800]:
                d["quantity"] += round_
            result = c.bulk_write([pymongo.ReplaceOne({"_id": d["_id"]}, d, upsert=True) for d in docs[i:i + 800]], ordered=False)
            assert (result.upserted_count, result.modified_count) == ((0, 800) if round_ else (800, 0))
            data += 0 if round_ else sum(len(bson.encode(d)) for d in docs[i:i + 800])
        assert (server.dir / "data/db.mv").stat().st_size < 3 * data
    assert restart(server).rows.count_documents({}) == n
    server.stop()


def test_what_is_unique_stays_so_over_kills_and_merges(tmp_path):
    """Rows of a model, added, replaced, given other keys and deleted in any order; killed in between."""
    rng, model, server = random.Random(11), {}, Merging(tmp_path / "mongo")
    c = server.client.db.rows
    c.create_index([("k", 1)], unique=True)
    c.create_index([("a", 1), ("b", 1)], unique=True, sparse=True)
    taken = lambda k, but: any(d["k"] == k for i, d in model.items() if i != but)  # noqa: E731
    for step in range(36):
        for _ in range(25):
            i, k = rng.choice([rng.randrange(200), f"id{rng.randrange(200)}"]), rng.choice([rng.randrange(500), f"text{rng.randrange(500)}", bytes([rng.randrange(200)])])
            what, d = rng.choice(["insert", "replace", "replace", "set", "delete"]), {"_id": i, "k": k, "a": i, "b": str(i)}
            try:
                if what == "insert":
                    c.insert_one(dict(d))
                    assert i not in model and not taken(k, i), d
                    model[i] = d
                elif what == "replace":
                    c.replace_one({"_id": i}, {"k": k, "a": i, "b": str(i)}, upsert=True)
                    assert not taken(k, i), d
                    model[i] = d
                elif what == "set":
                    n = c.update_one({"_id": i}, {"$set": {"k": k}}).matched_count
                    assert n == (i in model) and (not n or not taken(k, i)), d
                    model.update({i: {**model[i], "k": k}} if n else {})
                else:
                    assert c.delete_one({"_id": i}).deleted_count == (model.pop(i, None) is not None)
            except pymongo.errors.DuplicateKeyError:
                assert taken(k, i) or what == "insert" and i in model, d
        if step % 6 == 5:
            c = restart(server).rows
            assert {d["_id"]: d for d in c.find()} == model
            for d in model.values():
                assert c.find_one({"k": d["k"]}) == d and c.find_one({"_id": d["_id"]}) == d
            assert server.client.db.command("validate", "rows")["keysPerIndex"]["k_1"] == len(model)
    assert len(model) > 60
    server.stop()


def test_plain_ids_are_replaced_as_they_are_told_apart(tmp_path):
    server = Merging(tmp_path / "mongo")
    c = server.client.db.ids
    ids = ["", "x", "\0", b"", b"x", b"\0", bson.ObjectId("5" * 24), bytes.fromhex("5" * 24)]
    for n in range(60):
        for i in ids:
            assert (c.replace_one({"_id": i}, {"n": n}, upsert=True).upserted_id is not None) == (n == 0), (i, n)
        c.insert_many([{"_id": key_of(random.Random(n * 100 + m))} for m in range(10)])
    for db in (server.client.db, restart(server)):
        assert [db.ids.find_one({"_id": i}) for i in ids] == [{"_id": i, "n": 59} for i in ids]
        assert db.ids.count_documents({}) == 600 + len(ids)
    with pytest.raises(pymongo.errors.OperationFailure):
        server.client.db.ids.replace_one({"_id": "x"}, {"_id": "y"})
    server.stop()


def test_a_renamed_collection_takes_its_indexes_along(tmp_path):
    server = Merging(tmp_path / "mongo")
    db = server.client.db
    db.old.create_index([("k", 1)], unique=True)
    db.old.insert_many([{"_id": i, "k": i} for i in range(300)])
    db.old.rename("new")
    db.old.create_index([("k", 1)], unique=True)
    db.old.insert_many([{"_id": i, "k": i} for i in range(300)])
    db = restart(server)
    for c in (db.old, db.new):
        assert c.count_documents({}) == 300
        for d in ({"_id": 7}, {"k": 7}):
            with pytest.raises(pymongo.errors.DuplicateKeyError):
                c.insert_one(d)
    server.stop()


def test_a_file_of_documents_by_id_is_read_and_written_as_it_is(tmp_path):
    """tests/data/mongo-by-id.mv.xz is what version 1 left: two collections with _ids of all kinds, and a unique index of one."""
    server = Mongo(tmp_path / "mongo")
    (server.dir / "data/old.mv").write_bytes(lzma.decompress((ROOT / "tests/data/mongo-by-id.mv.xz").read_bytes()))
    db = server.client.old
    for again in range(2):
        assert list(db.keyed.find()) == [{"_id": bytes([i] * 24), "k": f"k{i}", "n": again * i} for i in range(200)]
        assert db.types.count_documents({}) == 6 and db.types.find_one({"_id": 7.0}) == {"_id": 7, "v": [1, {"x": None}]}
        for d in ({"_id": bytes(24)}, {"_id": b"other", "k": "k7"}):
            with pytest.raises(pymongo.errors.DuplicateKeyError):
                db.keyed.insert_one(dict(d))
        if not again:
            done = db.keyed.bulk_write([pymongo.ReplaceOne({"_id": bytes([i] * 24)}, {"k": f"k{i}", "n": i}, upsert=True) for i in range(200)])
            assert done.modified_count == 199
        db.fresh.insert_one({"_id": again})
        db = restart(server) and server.client.old
    server.stop()
