"""Documents that the embedded MongoDB stores and returns as their bytes, without decoding them: the same as if it had."""
import contextlib
import datetime
import os
import pathlib
import random
import struct
import threading
import uuid

import bson
import pymongo
import pytest
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from bson.regex import Regex

from harness import Mongo, until

pytestmark = pytest.mark.anyone

RAW = CodecOptions(document_class=RawBSONDocument)
VALUES = [
    None, True, False, 0, -7, 2**40, -(2**62), bson.Int64(5), 1.5, -0.0, float("nan"), float("-inf"), "", "text", "zwölf 𝄞\n\0x", b"", b"\0\xff" * 12, bson.ObjectId("5" * 24),
    datetime.datetime(1969, 7, 20, 20, 17, 40, 123000), datetime.datetime(9999, 1, 1), uuid.UUID("00112233-4455-6677-8899-aabbccddeeff"),
    bson.Binary(bytes(range(16)), 4), bson.Decimal128("12.50"), bson.Decimal128("NaN"), bson.Decimal128("1E+6000"), bson.Timestamp(5, 6), bson.MinKey(), bson.MaxKey(),
    Regex("^a", "im"), bson.Code("x"), {"a": 1, "b": {"c": None}}, {"b": 1, "a": 1}, {}, [], [1, "two", [3.5, None, {}]], [{"deep": [b"x"]}] * 12, {"": {"": ""}}, "x" * 5000,
]


@pytest.fixture
def server(tmp_path):
    m = Mongo(tmp_path / "mongo")
    yield m
    m.stop()


def element(kind, name, value):
    return bytes([kind]) + name + b"\0" + value


def document(*elements):
    body = b"".join(elements) + b"\0"
    return struct.pack("<i", len(body) + 4) + body


def number(i):
    return struct.pack("<i", i)


def text(t):
    return number(len(t) + 1) + t + b"\0"


def restart(server):
    server.client.close()
    server.kill()
    server.start()
    return server.client.db


def stored(collection):
    return [d.raw for d in collection.with_options(codec_options=RAW).find()]


def section(c, docs):
    c.insert_many([RawBSONDocument(d) for d in docs], ordered=False)


def array(c, docs):
    assert c.database.command("insert", c.name, documents=[RawBSONDocument(d) for d in docs], ordered=False)["n"] == len(docs)


def one_by_one(c, docs):
    for d in docs:
        c.insert_one(RawBSONDocument(d))


def by_update(c, docs):
    """No insert: these are decoded and encoded."""
    c.bulk_write([pymongo.ReplaceOne({"_id": RawBSONDocument(d)["_id"]}, RawBSONDocument(d), upsert=True) for d in docs])


@pytest.mark.parametrize("way", [section, array, one_by_one, by_update])
def test_documents_come_back_as_the_bytes_that_were_sent(server, way):
    """Types, order of fields, and names of all kinds; many at once and one at a time, small and large, over a kill and after a merge."""
    rng = random.Random(5)
    docs = [bson.encode({"_id": i, "v": v}) for i, v in enumerate(VALUES)]
    for i in range(len(docs), len(docs) + 60):
        names = rng.sample(["a", "b", "größe", "with space", "x" * 300, "0", "1", "_", "ab", "ba", ""], 7)
        docs.append(bson.encode({"_id": i, **{n: rng.choice(VALUES) for n in names}}))
    docs.append(document(element(0x10, b"z", number(1)), element(0x02, b"_id", text(b"last"))))
    way(server.client.db.rows, docs)
    expected = [document(element(0x02, b"_id", text(b"last")), element(0x10, b"z", number(1))) if way == by_update and d is docs[-1] else d for d in docs]
    assert stored(server.client.db.rows) == expected
    db = restart(server)
    assert stored(db.rows) == expected
    for i, d in enumerate(docs[:-1]):
        assert db.rows.with_options(codec_options=RAW).find_one({"_id": i}).raw == d
    assert db.rows.delete_many({}).deleted_count == len(docs)


NOT_PLAIN = {
    "undefined becomes null": (document(element(0x10, b"_id", number(1)), element(0x06, b"u", b"")), document(element(0x10, b"_id", number(1)), element(0x0a, b"u", b""))),
    "an array's names are numbers": (document(element(0x10, b"_id", number(1)), element(0x04, b"a", document(element(0x10, b"7", number(5)), element(0x10, b"x", number(6))))),
                                     document(element(0x10, b"_id", number(1)), element(0x04, b"a", document(element(0x10, b"0", number(5)), element(0x10, b"1", number(6)))))),
    "a text is UTF-8": (document(element(0x10, b"_id", number(1)), element(0x02, b"t", text(b"a\xffb"))),
                        document(element(0x10, b"_id", number(1)), element(0x02, b"t", text("a\ufffdb".encode())))),
    "a replacement character is one": (document(element(0x10, b"_id", number(1)), element(0x02, b"t", text("\ufffd".encode()))),) * 2,
    "a name twice": (document(element(0x10, b"_id", number(1)), element(0x10, b"a", number(1)), element(0x10, b"a", number(2))), None),
    "a name twice, deep": (document(element(0x10, b"_id", number(1)), element(0x03, b"d", document(element(0x10, b"a", number(1)), element(0x10, b"a", number(2))))), None),
    "an _id twice": (document(element(0x10, b"_id", number(1)), element(0x10, b"_id", number(2))), None),
    "a boolean of 2": (document(element(0x10, b"_id", number(1)), element(0x08, b"b", b"\2")), None),
    "a text without end": (document(element(0x10, b"_id", number(1)), element(0x02, b"t", number(2) + b"ab")), None),
    "a UUID of 3 bytes": (document(element(0x10, b"_id", number(1)), element(0x05, b"u", number(3) + b"\4abc")), None),
}


@pytest.mark.parametrize("way", [section, array])
@pytest.mark.parametrize("what", NOT_PLAIN)
def test_documents_that_are_not_plain_are_normalised_or_refused(server, what, way):
    sent, kept = NOT_PLAIN[what]
    good = bson.encode({"_id": "good", "v": 1})
    c = server.client.db.rows
    if kept is None:
        with pytest.raises(pymongo.errors.PyMongoError):
            way(c, [good, sent, *[bson.encode({"_id": i, "t": "x" * 1000}) for i in range(100)]])
        assert stored(c) == []
    else:
        way(c, [good, sent])
        assert stored(c) == [good, kept] == stored(restart(server).rows)


def test_very_many_names_and_documents(server):
    c = server.client.db.many
    wide = document(element(0x10, b"_id", number(1)), *(element(0x10, b"%06d" % i, number(i)) for i in range(70_000)))
    twice = wide[:-1] + element(0x10, b"000007", number(7)) + b"\0"
    section(c, [wide, bson.encode({"_id": 2})])
    with pytest.raises(pymongo.errors.PyMongoError):
        c.insert_many([RawBSONDocument(struct.pack("<i", len(twice)) + twice[4:])])
    assert stored(c) == [wide, bson.encode({"_id": 2})]
    assert server.client.db.command("insert", "short", documents=[{"_id": i} for i in range(140_000)])["n"] == 140_000
    assert server.client.db.short.count_documents({"_id": {"$gte": 70_000}}) == 70_000


def test_one_as_any_number_is_one_id(server):
    c = server.client.db.ids
    ones = [1, 1.0, bson.Int64(1), bson.Decimal128("1")]
    others = [True, "1", b"1", bson.ObjectId("0" * 23 + "1"), bson.Binary(b"1" * 16, 4), [1][0] + 1, {"a": 1}]
    for docs in ([{"_id": v, "n": i} for i, v in enumerate([*ones, *others])], [{"_id": v, "n": i} for i, v in enumerate(reversed(ones))]):
        with pytest.raises(pymongo.errors.BulkWriteError) as e:
            c.insert_many(docs, ordered=False)
        refused = e.value.details["writeErrors"]
        assert all(w["code"] == 11000 and "_id_" in w["errmsg"] for w in refused)
        assert {repr(docs[w["index"]]["_id"]) for w in refused} >= {repr(v) for v in ones[1:]} - {repr(docs[0]["_id"])}
    c = restart(server).ids
    assert [d["n"] for d in c.find()] == [0, *range(4, 4 + len(others))]
    for v in ones:
        assert c.find_one({"_id": v})["n"] == 0
    with pytest.raises(pymongo.errors.BulkWriteError) as e:
        c.insert_many([{"_id": 70}, {"_id": 1.0}, {"_id": 71}])
    assert [w["index"] for w in e.value.details["writeErrors"]] == [1] and c.find_one({"_id": 70}) and not c.find_one({"_id": 71})
    with pytest.raises(pymongo.errors.BulkWriteError):
        c.insert_many([{"_id": [1]}, {"_id": 80}], ordered=False)
    assert c.find_one({"_id": 80}) and c.count_documents({"_id": [1]}) == 0
    assert isinstance(c.insert_one({"n": "none"}).inserted_id, bson.ObjectId)
    assert c.database.command("insert", "ids", documents=[{"n": "no _id"}])["n"] == 1
    assert isinstance(c.find_one({"n": "no _id"})["_id"], bson.ObjectId)


def test_unique_keys_of_bytes_are_those_of_documents(server):
    """Inserted as bytes, looked up, changed and deleted as documents; and the other way round."""
    c = server.client.db.keys
    for fields, sparse in (([("k", 1)], False), ([("a", 1), ("b.c", 1)], True)):
        c.create_index(fields, unique=True, sparse=sparse)
    keys = ["x", "zwölf", "\0", b"x", b"", bson.ObjectId("5" * 24), 1, 2.5, None, {"d": 1}, True, datetime.datetime(2024, 1, 1), uuid.UUID(int=7)]
    docs = [{"_id": i, "k": k, "a": i, "b": {"c": k}} for i, k in enumerate(keys)]
    c.insert_many(docs)
    with pytest.raises(pymongo.errors.BulkWriteError) as e:
        c.insert_many([{"_id": 100 + i, "k": k} for i, k in enumerate(keys)], ordered=False)
    assert len(e.value.details["writeErrors"]) == len(keys) and "k_1" in e.value.details["writeErrors"][0]["errmsg"]
    for d in docs:
        if d["k"] is not None:
            assert c.find_one({"k": d["k"]}) == d
    c = restart(server).keys
    for i, d in enumerate(docs):
        assert c.update_one({"_id": i}, {"$set": {"k": f"new {i}"}}).modified_count == 1
    c.insert_many([{"_id": 100 + i, "k": k} for i, k in enumerate(keys)])
    assert c.delete_many({"_id": {"$lt": 100}}).deleted_count == len(keys)
    c.insert_many([{"_id": i, "k": f"new {i}"} for i in range(len(keys))])
    assert c.database.command("validate", "keys")["keysPerIndex"]["k_1"] == 2 * len(keys)


N = 3000
ROWS = [{"_id": i, "n": i % 50, "s": f"text {i % 7}", "d": {"x": i % 3, "y": [i % 5, {"z": i % 2}]}, **({"o": i} if i % 4 else {}), "fill": "f" * (i % 600)} for i in range(N)]
FILTERS = [
    ({}, lambda d: True), ({"n": 7}, lambda d: d["n"] == 7), ({"n": {"$gte": 10, "$lt": 12}, "s": "text 3"}, lambda d: 10 <= d["n"] < 12 and d["s"] == "text 3"),
    ({"d.x": 2}, lambda d: d["d"]["x"] == 2), ({"d.y.z": 1, "d.y": 3}, lambda d: d["_id"] % 2 == 1 and d["_id"] % 5 == 3), ({"o": None}, lambda d: "o" not in d),
    ({"o": {"$exists": True}, "$or": [{"n": 1}, {"d.x": 1}]}, lambda d: "o" in d and (d["n"] == 1 or d["d"]["x"] == 1)),
    ({"$and": [{"$nor": [{"n": {"$gt": 3}}]}, {"s": {"$regex": "4$"}}]}, lambda d: d["n"] <= 3 and d["s"].endswith("4")),
    ({"$expr": {"$eq": ["$n", "$d.x"]}}, lambda d: d["n"] == d["d"]["x"]), ({"d": {"x": 0, "y": [1, {"z": 0}]}}, lambda d: d["_id"] % 30 == 6),
    ({"absent": 1}, lambda d: False), ({"_id": {"$in": [5, 6.0, 9999]}}, lambda d: d["_id"] in (5, 6)), ({"_id": {"$gt": N - 3}}, lambda d: d["_id"] > N - 3),
]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    m = Mongo(tmp_path_factory.mktemp("rows") / "mongo")
    m.client.db.rows.insert_many(ROWS)
    yield m.client.db.rows
    m.stop()


@pytest.mark.parametrize("i", range(len(FILTERS)))
def test_what_a_filter_finds(rows, i):
    query, matches = FILTERS[i]
    expected = [d for d in ROWS if matches(d)]
    assert list(rows.find(query)) == expected
    for skip, limit, batch in ((0, 0, 7), (3, 0, 0), (0, 5, 2), (2, 40, 13), (N + 1, 0, 0), (0, N + 1, 500), (1, 1, 1)):
        assert list(rows.find(query, skip=skip, limit=limit, batch_size=batch)) == expected[skip:][:limit or None]
        assert rows.count_documents(query, skip=skip, **({"limit": limit} if limit else {})) == len(expected[skip:][:limit or None])
    assert rows.count_documents(query) == len(expected)
    assert list(rows.find(query, sort=[("_id", -1)])) == expected[::-1]
    for fields, keep in (({"n": 1}, {"_id", "n"}), ({"n": True, "s": 1, "_id": 0}, {"n", "s"}), ({"_id": 1}, {"_id"}), ({"n": 0, "fill": 0}, {"_id", "s", "d", "o"}),
                         (["o", "absent"], {"_id", "o"}), ({"_id": 0}, {"n", "s", "d", "o", "fill"})):
        assert list(rows.find(query, fields, batch_size=100)) == [{k: v for k, v in d.items() if k in keep} for d in expected], fields
    assert list(rows.find(query, {"d.x": 1}))[:5] == [{"_id": d["_id"], "d": {"x": d["d"]["x"]}} for d in expected[:5]]


def test_pipelines_that_count(rows):
    def run(*stages):
        return list(rows.aggregate(list(stages)))
    assert run({"$match": {"n": 7}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}) == [{"_id": 1, "n": 60}]
    assert run({"$match": {"n": -1}}, {"$group": {"_id": 1, "n": {"$sum": 1}}}) == []
    assert run({"$match": {"n": 7}}, {"$group": {"_id": 1, "n": {"$sum": 2}}}) == [{"_id": 1, "n": 120}]
    assert run({"$match": {"n": 7}}, {"$group": {"_id": 1, "n": {"$sum": "$n"}}}) == [{"_id": 1, "n": 420}]
    assert run({"$match": {"n": {"$lt": 2}}}, {"$group": {"_id": "$n", "c": {"$sum": 1}}}, {"$sort": {"_id": 1}}) == [{"_id": 0, "c": 60}, {"_id": 1, "c": 60}]
    assert rows.estimated_document_count() == N
    assert rows.database.empty.count_documents({}) == 0 == rows.database.empty.count_documents({"a": 1})


def test_a_batch_has_as_many_bytes_as_it_may(server):
    db = server.client.db
    docs = [{"_id": i, "s": chr(97 + i % 26) * 100_000} for i in range(400)]
    db.large.insert_many(docs)
    for options, most in (({}, 1 << 20), ({"batchSize": 5}, 5 * 100_100), ({"batchSize": 10_000}, 16 << 20)):
        reply, seen = db.command("find", "large", **options)["cursor"], []
        batch = reply["firstBatch"]
        while True:
            assert 0 < sum(len(bson.encode(d)) for d in batch) < most + 100_100
            seen += batch
            if not reply["id"]:
                break
            reply = db.command({"getMore": bson.Int64(reply["id"]), "collection": "large", **options})["cursor"]
            batch = reply["nextBatch"]
        assert seen == docs
    # What changes while a cursor is open is seen when it gets there; documents larger than a batch come one by one.
    cursor = db.large.find({}, batch_size=10)
    first = [next(cursor) for _ in range(5)]
    db.large.delete_many({"_id": {"$gte": 10, "$lt": 395}})
    db.large.insert_one({"_id": 1000, "s": "y" * 5_000_000})
    assert [d["_id"] for d in [*first, *cursor]] == [*range(10), *range(395, 400), 1000]
    assert [d["_id"] for d in db.large.find()] == [*range(10), *range(395, 400), 1000]


def test_what_was_acknowledged_outlives_a_kill(tmp_path):
    """Loads of bytes beside one another, ended by kill -9 again and again: each batch that was answered is there, whole, and none twice."""
    server, rng, acknowledged = Mongo(tmp_path / "mongo", jvm=["-Dsimbdp.recentBytes=300000"]), random.Random(9), []
    server.client.db.rows.create_index("k", unique=True)
    for life in range(6):
        stop = threading.Event()

        def load(worker, life=life, stop=stop):
            with pymongo.MongoClient(server.url, retryWrites=False) as client:
                for i in range(10_000):
                    batch = [{"_id": rng.randbytes(24), "k": f"{life}-{worker}-{i}-{j}", "t": "x" * rng.randrange(2000)} for j in range(200)]
                    try:
                        client.db.rows.insert_many(batch, ordered=False)
                    except pymongo.errors.PyMongoError:
                        return
                    acknowledged.append(batch)
                    if len(acknowledged) >= 12 * (life + 1):
                        stop.set()
        threads = [threading.Thread(target=load, args=(w,)) for w in range(2)]
        for t in threads:
            t.start()
        stop.wait()
        server.client.close()
        server.kill()
        for t in threads:
            t.join()
        server.start()
        c = server.client.db.rows
        there = {d["_id"]: d for d in c.find()}
        assert all(there.get(d["_id"]) == d for b in acknowledged for d in b)
        assert c.database.command("validate", "rows")["keysPerIndex"] == {"_id_": len(there), "k_1": len(there)} and c.count_documents({}) == len(there)
        for d in rng.sample(sorted(there.values(), key=lambda d: d["k"]), 50):
            assert c.find_one({"k": d["k"]}) == d and c.find_one({"_id": d["_id"]}) == d
            with pytest.raises(pymongo.errors.BulkWriteError):
                c.insert_many([{"_id": rng.randbytes(24), "k": d["k"]}])
    server.stop()


def open_stores(server):
    fds = pathlib.Path(f"/proc/{server.process.pid}/fd")
    names = []
    for f in fds.iterdir():
        with contextlib.suppress(OSError):
            names.append(os.readlink(f))
    return [n for n in names if n.endswith(".mv")]


def test_a_thousand_databases_take_little_memory(tmp_path):
    """Each used once and again, by several clients: only the stores of some are open at a time, and all of it is there."""
    server = Mongo(tmp_path / "mongo", jvm=["-Xmx256m", "-Xms64m", "-XX:MaxNewSize=48m"])
    n, failed = 1000, []

    def use(worker, round_):
        with pymongo.MongoClient(server.url) as client:
            for i in range(worker, n, 4):
                c = client[f"tenant{i}"].rows
                try:
                    if round_:
                        assert [d["_id"] for d in c.find()] == list(range(20)) and c.find_one({"_id": 7})["i"] == i
                    c.insert_many([{"_id": 20 * round_ + k, "i": i, "t": "x" * 100} for k in range(20)])
                except (AssertionError, pymongo.errors.PyMongoError) as e:
                    failed.append((i, e))
    for round_ in range(2):
        threads = [threading.Thread(target=use, args=(w, round_)) for w in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed, (len(failed), failed[:3])
        until(lambda: len(open_stores(server)) <= 60, server.dir, what="stores to be closed")
    status = dict(line.split(":\t") for line in pathlib.Path(f"/proc/{server.process.pid}/status").read_text().splitlines() if ":\t" in line)
    assert int(status["VmHWM"].split()[0]) < 512 * 1024, status["VmHWM"]
    assert all(server.client[f"tenant{i}"].rows.count_documents({}) == 40 for i in range(0, n, 50))
    server.stop()


def with_element(kind, value):
    """A document with an element of that type."""
    body = b"\x02_id\x00\x02\x00\x00\x00s\x00" + bytes([kind]) + b"v\x00" + value + b"\x00"
    return RawBSONDocument(struct.pack("<i", 4 + len(body)) + body)


@pytest.mark.parametrize("kind, value, why", [
    (5, struct.pack("<iB", 3, 5) + b"abc", "binary data of subtype 5"), (5, struct.pack("<iBi", 7, 2, 3) + b"abc", "binary data of subtype 2"), (5, struct.pack("<iB", 3, 129) + b"abc", "subtype 129"),
    (5, struct.pack("<iB", 3, 4) + b"abc", "a UUID of 3 bytes"), (14, b"\x02\x00\x00\x00q\x00", "type 14"), (12, b"\x02\x00\x00\x00q\x00" + bytes(12), "type 12")])
def test_what_the_library_does_not_decode_is_refused_by_name(mongo, kind, value, why):
    """A connection that ends tells a client nothing: drivers send the same again and again."""
    c = mongo.client["refused_types"].c
    with pytest.raises(pymongo.errors.OperationFailure, match=why):
        c.insert_one(with_element(kind, value))
    c.insert_one(with_element(16, bytes(4)))
    mongo.client.drop_database("refused_types")


def test_an_index_of_the_same_name_and_another_key_is_refused_and_a_database_can_always_be_dropped(mongo):
    c = mongo.client["same_name"].c
    c.insert_one({"_id": 1, "a": 1, "b": 1})
    for unique in (False, True):
        c.create_index("a", name=f"n{unique}", unique=unique)
        c.create_index("a", name=f"n{unique}", unique=unique)
        with pytest.raises(pymongo.errors.OperationFailure, match="another key"):
            c.create_index("b", name=f"n{unique}", unique=unique)
    cursor = c.find(batch_size=1)
    mongo.client.drop_database("same_name")
    assert "same_name" not in mongo.client.list_database_names()
    assert c.count_documents({}) == 0 and list(c.index_information()) == []
    mongo.client.drop_database("same_name")
    cursor.close()
