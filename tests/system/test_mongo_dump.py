"""mysimbdp mongo dump and restore: documents out of one MongoDB into another, with nothing lost, whatever ends or fills meanwhile; and a home
that moves from the embedded one."""
import base64
import datetime
import gzip
import hashlib
import json
import os
import pathlib
import re
import shlex
import shutil
import signal
import subprocess
import threading
import urllib.parse

import bson
import pymongo
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.raw_bson import RawBSONDocument
from docs_blocks import blocks_below
from harness import BUILD, ROOT, Mongo, temp_dir, until

pytestmark = pytest.mark.once
POINTS = re.findall(r"^\s+X\((\w+)\)", (ROOT / "lib/base/crash.h").read_text(), re.M)
DUMP_POINTS = [p for p in POINTS if p.startswith("mongo_dump_")]
RESTORE_POINTS = [p for p in POINTS if p.startswith("mongo_restore_")]
RAW = bson.CodecOptions(document_class=RawBSONDocument)
AT = datetime.datetime(2026, 1, 2, 3, 4, 5, 678000)
# Every type that BSON has and a server takes; the embedded one takes neither code with a scope, symbols, DBPointers nor binaries of subtypes 2 and 5.
TYPES = {"_id": 1, "double": 1.5, "nan": float("nan"), "minus0": -0.0, "text": "a\0é\U0001f600", "empty": "", "document": {"a": {"b": [1, {"c": []}]}},
         "array": [1, "x", None, [[]]], "binary": Binary(b"\0\xff", 0), "uuid": Binary(b"u" * 16, 4),
         "user": Binary(b"", 0x80), "oid": ObjectId("0123456789ab0123456789ab"), "yes": True, "no": False, "date": AT, "null": None,
         "regex": Regex("^a/b", "im"), "code": Code("f()"), "int": -2 ** 31, "long": Int64(-2 ** 63), "ts": Timestamp(7, 8),
         "ts0": Timestamp(0, 0), "decimal": Decimal128("-1.10E+3"), "min": MinKey(), "max": MaxKey(), "": "no name", "dollar": {"in": 1}}
IDS = ["text", 2.5, Int64(3), ObjectId(), Binary(b"k" * 24), Binary(b"u" * 16, 4), Decimal128("7.1"), {"a": 1, "b": 2}, {"b": 2, "a": 1}, AT, True, None,
       Timestamp(5, 6), ""]


@pytest.fixture(scope="module")
def servers():
    """Two MongoDBs."""
    directory = temp_dir()
    two = []
    try:
        two += [Mongo(directory / "a"), Mongo(directory / "b")]
        yield two
    finally:
        for m in two:
            m.stop()
        shutil.rmtree(directory, ignore_errors=True)


class Place:
    """Two MongoDBs without documents of earlier tests, and a directory."""

    def __init__(self, servers, base):
        self.a, self.b = servers
        self.base = base
        self.dir = base / "dump"
        self.asan = base / "asan"
        self.asan.mkdir()
        self.env = {**os.environ, "ASAN_OPTIONS": f"log_path={self.asan}/report:detect_leaks=1", "TSAN_OPTIONS": f"log_path={self.asan}/report",
                    "LSAN_OPTIONS": f"suppressions={ROOT / 'tests/lsan.supp'}:print_suppressions=0"}
        self.env.pop("MONGO_URL", None)

    def run(self, server, *args, **env):
        return subprocess.run([BUILD / "simbdp-mongodump", *map(str, args)], env={**self.env, "MONGO_URL": server.url, **env}, capture_output=True, text=True,
                              timeout=120)

    def dump(self, *args, server=None, where=None):
        r = self.run(server or self.a, "dump", where or self.dir, "--json", *args)
        assert r.returncode == 0, r.stderr
        return json.loads(r.stdout)

    def restore(self, *args, server=None, where=None):
        r = self.run(server or self.b, "restore", where or self.dir, "--json", *args)
        assert r.returncode == 0, r.stdout + r.stderr
        return json.loads(r.stdout)

    def problems(self, *args, where=None):
        """Of a restore that could not do all."""
        r = self.run(self.b, "restore", where or self.dir, "--json", *args)
        assert r.returncode == 1, r.stdout + r.stderr
        return json.loads(r.stdout), r.stderr

    def refused(self, *args, where=None):
        """Of a restore that does nothing."""
        r = self.run(self.b, "restore", where or self.dir, *args)
        assert r.returncode == 1 and not r.stdout, r.stdout + r.stderr
        assert names(self.b) == [], r.stderr
        return r.stderr


@pytest.fixture
def place(servers, tmp_path):
    for m in servers:
        if m.process.poll() is not None:
            m.start()
        for name in names(m):
            m.client.drop_database(name)
    p = Place(servers, tmp_path)
    yield p
    assert not list(p.asan.iterdir()), [f.read_text() for f in p.asan.iterdir()]


def names(m):
    return [n for n in m.client.list_database_names() if n not in ("admin", "config", "local")]


def raw(m, database):
    """{collection: {bytes of each document}}"""
    db = m.client[database]
    return {c: sorted(d.raw for d in db.get_collection(c, codec_options=RAW).find()) for c in db.list_collection_names()}


def indexes(m, database):
    db = m.client[database]
    return {c: db[c].index_information() for c in db.list_collection_names()}


def documents(path):
    """Of a .bson file, by a reader that is not ours."""
    return [d.raw for d in bson.decode_all(path.read_bytes(), RAW)]


def fill(m, database="shop", n=3000):
    db = m.client[database]
    db.rows.insert_many([{"_id": i, "k": i, "s": "x" * (i % 50)} for i in range(n)])
    db.rows.create_index("k", unique=True)
    db.rows.create_index([("s", 1), ("k", -1)], name="pair", sparse=True)
    db.few.insert_many([{"_id": x, "n": i} for i, x in enumerate(IDS)])
    db.types.insert_one(TYPES)
    db.none.insert_one({"_id": 1})
    db.none.delete_many({})
    return db


# -- there and back


def test_everything_is_the_same_byte_for_byte(place):
    fill(place.a)
    place.a.client.other.rows.insert_many([{"_id": "x"}, {"_id": "y", "big": "z" * (16 * 1024 * 1024 - 64)}])
    place.a.client.other.rows.create_index("t", expireAfterSeconds=3600)
    place.a.client.other.rows.create_index("p", partialFilterExpression={"p": {"$gt": 5, "$exists": True}})
    taken = place.dump()
    assert taken["databases"] == 2 and taken["documents"] == 3000 + len(IDS) + 1 + 2
    done = place.restore()
    assert done["inserted"] == taken["documents"] and not done["present"] and not done["problems"]
    for database in ("shop", "other"):
        assert raw(place.a, database) == raw(place.b, database)
        assert indexes(place.a, database) == indexes(place.b, database)
    assert "none" in place.b.client.shop.list_collection_names()
    again = place.restore()
    assert again["present"] == taken["documents"] and not again["inserted"]
    assert place.dump(server=place.b, where=place.base / "second")["bytes"] == taken["bytes"]
    for path in place.dir.glob("*/*.bson"):
        assert sorted(documents(path)) == sorted(documents(place.base / "second" / path.relative_to(place.dir)))


def test_files_are_those_of_mongodump(place):
    """Names, members and types as mongo-tools' mongodump/prepare.go and mongodump/metadata_dump.go have them."""
    long, cut = "d" * 100, "ü" * 50
    for name in ("plain", "with space", "a+b%/é.x", "~t-_", long, cut):
        place.a.client.odd[name].insert_one({"_id": 1, "of": name})
    place.a.client.odd.plain.create_index("u", unique=True)
    place.dump()
    escaped = urllib.parse.quote_plus(cut, safe="")
    sha = base64.urlsafe_b64encode(hashlib.sha1(cut.encode()).digest()).decode().rstrip("=")
    files = {"plain", "with+space", "a%2Bb%25%2F%C3%A9.x", "~t-_", long, f"{escaped[:208]}%24{sha}"}
    assert len(escaped) > 238 and {p.name for p in (place.dir / "odd").iterdir()} == {f + end for f in files for end in (".bson", ".metadata.json")}
    metadata = json.loads((place.dir / "odd/plain.metadata.json").read_text())
    assert set(metadata) == {"indexes", "collectionName", "type"} and metadata["collectionName"] == "plain" and metadata["type"] == "collection"
    assert [i["key"] for i in metadata["indexes"] if i["name"] == "_id_"] == [{"_id": {"$numberInt": "1"}}]
    assert [i for i in metadata["indexes"] if i.get("unique")][0] == {"v": {"$numberInt": "2"}, "key": {"u": {"$numberInt": "1"}}, "name": "u_1", "unique": True}
    assert {p.stat().st_mode & 0o777 for p in place.dir.rglob("*") if p.is_file()} == {0o600} and place.dir.stat().st_mode & 0o777 == 0o700
    place.restore()
    assert raw(place.a, "odd") == raw(place.b, "odd")


def element(kind, name, value):
    return bytes([kind]) + name + b"\0" + value


def document(*elements):
    body = b"".join(elements) + b"\0"
    return (len(body) + 4).to_bytes(4, "little") + body


def test_files_of_others(place):
    """What mongodump and its older versions write beside what ours does: compressed, without names of collections, with what is a server's own."""
    old = document(element(0x10, b"_id", b"\1\0\0\0"), element(0x0A, b"none", b""))
    db = place.dir / "shop"
    db.mkdir(parents=True)
    (db / "rows.bson.gz").write_bytes(gzip.compress(b"".join(document(element(0x10, b"_id", i.to_bytes(4, "little"))) for i in range(3))))
    (db / "rows.metadata.json.gz").write_bytes(gzip.compress(json.dumps(
        {"options": {"autoIndexId": True}, "indexes": [
            {"v": {"$numberInt": "1"}, "key": {"_id": {"$numberInt": "1"}}, "name": "_id_", "ns": "shop.rows"},
            {"v": 1, "sparse": True, "key": {"a": {"$numberLong": "1"}}, "name": "a_1", "ns": "shop.rows", "background": True}], "uuid": "00" * 16}).encode()))
    (db / "a+b%20c.bson").write_bytes(old)
    (db / "$admin.system.users.bson").write_bytes(b"")
    (db / "system.js.bson").write_bytes(b"")
    (db / "prelude.json").write_text("{}")
    for name in ("admin", "config"):
        (place.dir / name).mkdir()
        (place.dir / name / "system.version.bson").write_bytes(b"nothing")
    (place.dir / "prelude.json").write_text('{"ServerVersion":"7.0.1"}')
    (place.dir / "oplog.bson").write_bytes(b"")
    done = place.restore()
    assert [(c["collection"], c["inserted"], c["indexes"]) for c in done["collections"]] == [("shop.a b c", 1, 0), ("shop.rows", 3, 1)]
    assert raw(place.b, "shop")["a b c"] == [old] and place.b.client.shop.rows.index_information()["a_1"]["sparse"]
    assert names(place.b) == ["shop"]
    said = "\n".join(done["notes"])
    assert "admin" in said and "config" in said and "oplog.bson" in said and "system.js" in said and "$admin.system.users" in said
    assert place.restore("shop")["present"] == 4


def test_a_document_that_the_server_does_not_take(place):
    """Is named, and holds no other up."""
    db = place.dir / "shop"
    db.mkdir(parents=True)
    scope = document(element(0x10, b"_id", b"\1\0\0\0"), element(0x0F, b"c", (4 + 4 + 2 + 5).to_bytes(4, "little") + b"\2\0\0\0f\0" + b"\5\0\0\0\0"))
    (db / "rows.bson").write_bytes(b"".join(bson.encode({"_id": i}) for i in range(2, 500)) + scope)
    done, said = place.problems()
    assert (done["inserted"], done["refused"], done["problems"]) == (498, 1, 1) and 'shop.rows: {"_id":1}: the message is refused' in said


def test_views_are_made_last_or_said(place):
    place.dump(server=place.b)  # of nothing
    shutil.rmtree(place.dir)
    db = place.dir / "shop"
    db.mkdir(parents=True)
    (db / "a.metadata.json").write_text('{"options":{"viewOn":"rows","pipeline":[]},"indexes":[],"collectionName":"a","type":"view"}')
    (db / "rows.metadata.json").write_text('{"indexes":[],"collectionName":"rows","type":"collection"}')
    (db / "rows.bson").write_bytes(document(element(0x10, b"_id", b"\1\0\0\0")))
    done, said = place.problems()
    assert [c["collection"] for c in done["collections"]] == ["shop.rows", "shop.a"] and done["problems"] == 1
    assert "shop.a is a view in the dump, and none in the target" in said and place.b.client.shop.rows.count_documents({}) == 1
    (db / "a.metadata.json").write_text('{"options":{"timeseries":{"timeField":"t"}},"indexes":[],"collectionName":"a","type":"timeseries"}')
    (db / "system.buckets.a.bson").write_bytes(b"")
    place.b.client.drop_database("shop")
    assert "time series" in place.refused()


# -- damage


def change(path, at, byte):
    data = bytearray(path.read_bytes())
    data[at] = byte if byte is not None else data[at] ^ 1
    path.write_bytes(data)


def cut(path, n):
    path.write_bytes(path.read_bytes()[:n])


DAMAGE = {
    "cut at a document": (lambda d: cut(d / "shop/rows.bson", len(bson.encode({"_id": 0, "k": 0, "s": ""}))), r"shop/rows.bson has \d+ bytes, and had"),
    "cut in a document": (lambda d: cut(d / "shop/rows.bson", 5000), r"shop/rows.bson ends in the middle of a document, at byte 5000"),
    "cut in a length": (lambda d: cut(d / "shop/rows.bson", len(bson.encode({"_id": 0, "k": 0, "s": ""})) + 2), r"ends in the middle of a document, at byte \d+"),
    "a length of nothing": (lambda d: change(d / "shop/types.bson", 0, 4) or change(d / "shop/types.bson", 1, 0), "shop/types.bson: at byte 0 is no document: its length would be 4"),
    "a length that is huge": (lambda d: change(d / "shop/types.bson", 3, 0x7F), "shop/types.bson: at byte 0 is no document"),
    "a type that is none": (lambda d: change(d / "shop/types.bson", 4, 0x66), "shop/types.bson: the document at byte 0 is damaged, at byte"),
    "an _id that is none": (lambda d: change(d / "shop/types.bson", 5, ord("X")), "shop/types.bson: the document at byte 0 has no _id"),
    "one bit": (lambda d: change(d / "shop/rows.bson", len((d / "shop/rows.bson").read_bytes()) - 3, None), "shop/rows.bson is not what was written: its hash differs"),
    "a file gone": (lambda d: (d / "shop/few.bson").unlink(), "shop/few.bson is missing"),
    "metadata gone": (lambda d: (d / "shop/few.metadata.json").unlink(), "shop/few.metadata.json is missing"),
    "metadata changed": (lambda d: change(d / "shop/few.metadata.json", 20, ord("x")), "shop/few.metadata.json"),
    "a file more": (lambda d: (d / "shop/more.bson").write_bytes(b""), "shop/more.bson is not of this dump"),
    "a fifo": (lambda d: ((d / "shop/few.bson").unlink(), os.mkfifo(d / "shop/few.bson")), "shop/few.bson is no regular file"),
    "a link": (lambda d: (shutil.move(d / "shop/few.bson", d / "few"), (d / "shop/few.bson").symlink_to("../few")), "cannot open shop/few.bson"),
    "a fifo for metadata": (lambda d: ((d / "shop/few.metadata.json").unlink(), os.mkfifo(d / "shop/few.metadata.json")), "few.metadata.json is no regular file"),
    "garbage for a manifest": (lambda d: (d / "mysimbdp.json").write_text("{"), "mysimbdp.json is damaged"),
    "a newer manifest": (lambda d: (d / "mysimbdp.json").write_text('{"v":2}'), "version 2"),
    "cut short": (lambda d: (d / "mysimbdp.json").write_text((d / "mysimbdp.json").read_text().replace('"complete":true', '"complete":false')), "was cut short"),
    "a name of no database": (lambda d: (d / "a b").mkdir(), "a b is no name of a database"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_damage_is_found_before_anything_is_stored(place, what):
    fill(place.a, n=300)
    place.dump()
    damage, text = DAMAGE[what]
    damage(place.dir)
    assert re.search(text, place.refused())


DAMAGE_OF_OTHERS = {
    "compressed, cut": (lambda d: (d / "rows.bson.gz").write_bytes(gzip.compress((d / "rows.bson").read_bytes())[:-20]) and (d / "rows.bson").unlink(),
                        "rows.bson.gz is damaged or cut short"),
    "compressed, damaged": (lambda d: ((d / "rows.bson.gz").write_bytes(gzip.compress((d / "rows.bson").read_bytes())), change(d / "rows.bson.gz", -6, None), (d / "rows.bson").unlink()),
                            "rows.bson.gz is damaged or cut short"),
    "twice": (lambda d: (d / "rows.bson.gz").write_bytes(gzip.compress(b"")), "is there twice"),
    "documents gone": (lambda d: (d / "rows.bson").unlink(), "shop/rows.bson is missing"),
    "another's metadata": (lambda d: shutil.copy(d / "few.metadata.json", d / "rows.metadata.json"), "of collection rows by its name, and of few"),
    "no JSON": (lambda d: (d / "rows.metadata.json").write_text("indexes"), "rows.metadata.json is damaged"),
    "an index without key": (lambda d: (d / "rows.metadata.json").write_text('{"indexes":[{"name":"x"}]}'), "an index has no key"),
    "a name that is cut": (lambda d: (d / ("a" * 208 + "%24" + "b" * 27 + ".bson")).write_bytes(b""), "of which collection it is cannot be told"),
    "a name that is none": (lambda d: (d / "a%0.bson").write_bytes(b""), "of which collection it is cannot be told"),
    "_id twice": (lambda d: (d / "few.bson").write_bytes(document(element(0x10, b"_id", b"\1\0\0\0")) + document(element(0x10, b"_id", b"\1\0\0\0"), element(0x0A, b"x", b""))), None),
}


@pytest.mark.parametrize("what", DAMAGE_OF_OTHERS)
def test_damage_without_a_manifest(place, what):
    fill(place.a, n=300)
    place.dump()
    (place.dir / "mysimbdp.json").unlink()
    damage, text = DAMAGE_OF_OTHERS[what]
    damage(place.dir / "shop")
    if text:
        assert re.search(text, place.refused())
    else:
        r = place.run(place.b, "restore", place.dir)
        assert r.returncode == 1 and "has the _id of one before it, and another content" in r.stderr


def test_where_there_is_no_dump(place):
    place.dir.mkdir()
    assert "has no dump in it" in place.refused()
    assert "cannot open" in place.refused(where=place.base / "nowhere")
    fill(place.a, n=3)
    place.dir.rmdir()
    place.dump()
    assert "has no database other" in place.refused("other")


# -- where to


def test_a_dump_is_never_written_over(place):
    fill(place.a, n=10)
    place.dump()
    before = {p: p.read_bytes() for p in place.dir.rglob("*") if p.is_file()}
    r = place.run(place.a, "dump", place.dir)
    assert r.returncode == 1 and "has a complete dump" in r.stderr
    assert {p: p.read_bytes() for p in place.dir.rglob("*") if p.is_file()} == before
    other = place.base / "other"
    (other / "shop").mkdir(parents=True)
    r = place.run(place.a, "dump", other)
    assert r.returncode == 1 and "is not empty (shop is there)" in r.stderr and list(other.iterdir()) == [other / "shop"]


def test_what_fails_leaves_nothing(place):
    fill(place.a, n=10)
    r = place.run(place.a, "dump", place.dir, MONGO_URL=place.a.url.replace(Mongo.SECRET, "0" * 32))
    assert r.returncode == 1 and "MongoDB does not answer" in r.stderr and "0" * 32 not in r.stderr
    assert list(place.dir.iterdir()) == []
    for url in ("", "mongodb://", "http://x:secret@y/", "mongodb://a:se:cret@@h/"):
        r = place.run(place.a, "dump", place.dir, MONGO_URL=url)
        assert r.returncode == 1 and "the URL of MongoDB" in r.stderr and "cret" not in r.stderr
    place.dump()


def test_a_full_disk(place, home):
    """Room is given back, the reason is named, and the next dump is as good as any."""
    fill(place.a, n=1)
    place.a.client.shop.rows.insert_many([{"_id": i, "k": i, "s": os.urandom(20000)} for i in range(2, 300)])
    small = home.mount_tmpfs("work", "2m")
    r = place.run(place.a, "dump", small / "dump")
    assert r.returncode == 1 and "cannot write shop/rows.bson: No space left on device" in r.stderr, r.stderr
    assert list((small / "dump").iterdir()) == []
    place.a.client.shop.rows.delete_many({"_id": {"$gt": 20}})
    place.dump(where=small / "dump")


# -- what is there already


def test_what_is_in_the_way_stays_and_is_told(place):
    db = fill(place.a)
    place.dump()
    place.restore()
    to = place.b.client.shop.rows
    to.update_one({"_id": 3}, {"$set": {"k": -3}})
    to.delete_many({"_id": {"$in": [4, 5]}})
    to.insert_one({"_id": "new", "k": 4})
    to.insert_one({"_id": 5.0, "k": -5})  # the same _id to a server, other bytes
    done, said = place.problems()
    rows = next(c for c in done["collections"] if c["collection"] == "shop.rows")
    assert (rows["present"], rows["inserted"], rows["conflicts"], rows["extra"], done["problems"]) == (2997, 0, 3, 2, 3)
    assert '{"_id":3}: the target has another document of this _id, which stays' in said and '{"_id":4}: E11000' in said and '{"_id":5}: E11000' in said
    assert to.find_one({"_id": 3})["k"] == -3 and to.find_one({"_id": "new"})
    done = place.restore("--exact", "--part", "700")
    rows = next(c for c in done["collections"] if c["collection"] == "shop.rows")
    assert (rows["present"], rows["inserted"], rows["deleted"]) == (2997, 3, 3)
    assert raw(place.a, "shop") == raw(place.b, "shop")
    # In parts as in one.
    to.delete_many({"_id": {"$lt": 1000}})
    done = place.restore("--part", "100")
    assert next(c["inserted"] for c in done["collections"] if c["collection"] == "shop.rows") == 1000 and raw(place.a, "shop") == raw(place.b, "shop")
    assert db.rows.count_documents({}) == 3000


def test_indexes_that_cannot_be_made(place):
    fill(place.a)
    place.dump()
    place.b.client.shop.rows.insert_many([{"_id": "a", "z": 1}, {"_id": "b"}])
    done, said = place.problems()
    assert "shop.rows: index k_1 cannot be made" in said and done["problems"] == 1
    assert next(c for c in done["collections"] if c["collection"] == "shop.rows")["inserted"] == 3000


def test_two_at_once(place):
    """Each does a part of it, and both find all of it."""
    fill(place.a, n=20000)
    place.dump()
    with_each = []
    threads = [threading.Thread(target=lambda: with_each.append(place.restore())) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(with_each) == 2 and not any(d["problems"] for d in with_each)
    assert raw(place.a, "shop") == raw(place.b, "shop") and indexes(place.a, "shop") == indexes(place.b, "shop")
    # A dump has its directory for itself.
    shutil.rmtree(place.dir)
    env = {**place.env, "ASAN_OPTIONS": "detect_leaks=0"}  # LeakSanitizer at the process' end hangs when that is stopped
    first = subprocess.Popen([BUILD / "simbdp-mongodump", "dump", place.dir], env={**env, "MONGO_URL": place.a.url}, stdout=subprocess.DEVNULL)
    until(lambda: (place.dir / "mysimbdp.json").exists(), place.base)
    first.send_signal(signal.SIGSTOP)
    if first.poll() is None and not json.loads((place.dir / "mysimbdp.json").read_text())["complete"]:
        r = place.run(place.a, "dump", place.dir)
        assert r.returncode == 1 and "is in use" in r.stderr
        assert "a dump is being written" in place.run(place.b, "restore", place.dir).stderr
    first.send_signal(signal.SIGCONT)
    assert first.wait(60) == 0


# -- what ends meanwhile


@pytest.mark.parametrize("point", DUMP_POINTS)
def test_a_dump_that_is_killed(place, point):
    fill(place.a, n=300)
    once = place.base / "once"
    r = place.run(place.a, "dump", place.dir, SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    assert r.returncode == -signal.SIGKILL and once.exists()
    if point == "mongo_dump_done":
        place.restore()
    else:
        assert "cut short" in place.refused()
        place.a.client.drop_database("shop")
        fill(place.a, "later", n=200)
        place.dump()
        assert not (place.dir / "shop").exists()
        place.restore()
        assert raw(place.a, "later") == raw(place.b, "later")


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_a_restore_that_is_killed(place, point):
    fill(place.a, n=300)
    place.dump()
    place.b.client.shop.rows.insert_one({"_id": "more"})
    once = place.base / "once"
    r = place.run(place.b, "restore", place.dir, "--exact", SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    assert r.returncode == -signal.SIGKILL and once.exists()
    assert not place.restore("--exact")["problems"]
    assert raw(place.a, "shop") == raw(place.b, "shop") and indexes(place.a, "shop") == indexes(place.b, "shop")


def test_a_target_that_goes_away(place):
    """Killed while documents come in: what it acknowledged is there, and the rest comes with the next try."""
    fill(place.a, n=20000)
    place.dump()
    r = subprocess.Popen([BUILD / "simbdp-mongodump", "restore", place.dir], env={**place.env, "MONGO_URL": place.b.url}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    until(lambda: r.poll() is not None or place.b.client.shop.rows.find_one(), every=0.01)
    place.b.kill()
    out, err = r.communicate(timeout=100)
    place.b.start()
    assert r.returncode == 1 and "not done; say it again to go on" in err and Mongo.SECRET not in err, out + err
    place.restore()
    assert raw(place.a, "shop") == raw(place.b, "shop")


def test_a_source_that_goes_away(place):
    fill(place.a, n=3000)
    place.a.client.shop.rows.insert_many([{"_id": i, "k": i, "s": "x" * 10000} for i in range(3000, 6000)])
    r = subprocess.Popen([BUILD / "simbdp-mongodump", "dump", place.dir], env={**place.env, "MONGO_URL": place.a.url}, stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True)
    until(lambda: r.poll() is not None or (place.dir / "mysimbdp.json").exists(), place.base, every=0.01)
    place.a.kill()
    _, err = r.communicate(timeout=100)
    place.a.start()
    if r.returncode:
        assert r.returncode == 1 and not list(place.dir.iterdir()), err
    else:
        assert place.restore()["inserted"] == 6000 + len(IDS) + 1


# -- of a home


def rows(n, first=0):
    return "id,name\n" + "".join(f"{i},name {i}\n" for i in range(first, first + n))


def mongo_of(home):
    """The home's own, over its state: what `up` wrote there."""
    return pymongo.MongoClient(json.loads((home.path / "state/mongo.json").read_text())["url"])


def servers_of(home):
    return home.pids("EmbeddedMongo")


@pytest.fixture
def own(make_home):
    """A home with an embedded MongoDB, on which three files were loaded; it is down."""
    home = make_home(own_mongo=True)
    home.tenant()
    home.up()
    for i in range(3):
        home.drop(f"{i}.csv", rows(100, i * 100))
    assert {f["state"] for f in home.wait_files(3)} == {"ingested"}
    home.down()
    return home


def use(home, server):
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", f'platform = {{ mongo_url = "{server.url}";', 1))


def url_file(home, server):
    path = home.base / "url"
    path.write_text(server.url + "\n")
    return path


def test_a_home_moves_from_the_embedded_mongodb(make_home, servers, place):
    """As docs/operations.md says. A file that was loaded is not loaded again, one whose run was cut short is finished, keys go on to replace,
    messages go on; nothing of the platform's own is taken along."""
    home = make_home(own_mongo=True)
    home.tenant(retry="attempts = 5; backoff_ms = 600000; max_backoff_ms = 600000;")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data"; limits', 'collection = "data"; key = ["id"]; on_key_conflict = "reject"; limits', 1))
    free = home.base / "free"
    free.mkdir()
    free.chmod(0o777)
    once = free / "once"
    home.up(SIMBDP_CRASH_AT="load_checkpoint", SIMBDP_CRASH_ONCE=str(once))
    home.drop("long.csv", rows(60000, 1000000))
    until(lambda: once.exists() and [f for f in home.files(file_name="long.csv") if f["state"] == "waiting"], home.base)
    home.drop("a.csv", rows(100))
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    database = home.db_of["acme"]
    before = mongo_of(home)[database].data.count_documents({})
    assert 100 <= before < 60100
    url = url_file(home, place.b)
    (typed,) = blocks_below("docs/operations.md", "Out of the embedded one, into another")
    down, *more = typed.replace("/var/tmp/move", str(place.dir)).replace("/root/mongo-url", str(url)).splitlines()
    assert down == "mysimbdp down"
    home.down()
    for line in more:
        home.cli(*shlex.split(line)[1:])
    assert [p.name for p in place.dir.iterdir() if p.is_dir()] == [database]  # not simbdp_platform
    use(home, place.b)
    home.up()
    there = place.b.client[database].data
    assert there.count_documents({}) == before and "simbdp_unique_id" in there.index_information()
    home.drop("again.csv", rows(100))
    assert home.wait_file(file_name="again.csv")["state"] == "duplicate"
    home.drop("more.csv", rows(10, 95))
    more = home.wait_file(file_name="more.csv")
    assert (more["rows_loaded"], more["rows_rejected"]) == (5, 5)
    home.cli("retry", home.files(file_name="long.csv")[0]["file_id"])
    long = home.wait_file(file_name="long.csv")
    assert (long["state"], long["rows_loaded"]) == ("ingested", 60000)
    assert there.count_documents({}) == 60105
    assert home.cli("verify").returncode == 0
    assert not servers_of(home)
    home.down()
    # What was in the embedded one is still there.
    assert json.loads(home.cli("mongo", "dump", home.base / "own", "--own", "--json").stdout)["documents"] == before
    place.b.client.drop_database(database)


def test_a_home_that_is_down(own, place):
    """Its MongoDB is started for as long as it takes, and nobody starts the home meanwhile."""
    r = own.cli("mongo", "dump", place.dir, "--json")
    assert json.loads(r.stdout)["documents"] == 300 and not servers_of(own)
    (own.base / "secrets").mkdir()
    shown = own.base / "secrets/cmdlines"
    stop = threading.Event()

    def look():
        with open(shown, "w") as f:
            while not stop.is_set():
                for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                    try:
                        f.write(p.read_text() + "\n")
                    except OSError:
                        pass
    watch = threading.Thread(target=look)
    watch.start()
    again = own.cli("mongo", "restore", place.dir)
    stop.set()
    watch.join()
    secret = re.search(r"://\w+:(\w+)@", json.loads((own.path / "state/mongo.json").read_text())["url"])[1]
    assert "simbdp-mongodump\0restore" in shown.read_text() and secret not in shown.read_text() and secret not in again.stdout + again.stderr
    assert "300 documents, 300 there already" in again.stdout and not servers_of(own)
    own.up()
    assert own.wait_files(3)
    own.down()


def test_a_signal_stops_all_of_it(own, place):
    """^C and SIGTERM: what works ends, the MongoDB that was started for it too; the next time does it."""
    for sig in (signal.SIGTERM, signal.SIGINT):
        process = subprocess.Popen([*own.as_user, own.program("mysimbdp"), "mongo", "dump", str(place.dir)], env=own.env, stderr=subprocess.PIPE, text=True,
                                   preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        until(lambda: own.pids("simbdp-mongodump") or process.poll() is not None, own.base, every=0.01)
        assert process.poll() is None and "has its MongoDB" in own.cli("mongo", "dump", str(place.dir) + "2", check=False).stderr
        process.send_signal(sig)
        _, err = process.communicate(timeout=60)
        assert process.returncode == 1 and f"it was stopped (signal {sig})" in err, err
        assert not servers_of(own) and not own.pids("simbdp-mongodump")
    own.cli("mongo", "dump", place.dir)


def test_a_home_that_is_up(own, place):
    """Loads go on while it is read; that is said. --exact does not work beside them."""
    own.up()
    own.tenant(exec_="misbehave", tenant="")
    own.reload()
    own.do("hang", name="slow.csv")
    own.wait_running()
    r = own.cli("mongo", "dump", place.dir)
    assert "1 runs and 0 instances of stream apps went on meanwhile" in r.stderr and "300 documents" in r.stdout
    assert "there already" in own.cli("mongo", "restore", place.dir).stdout
    r = own.cli("mongo", "restore", place.dir, "--exact", check=False)
    assert r.returncode == 1 and "`mysimbdp down` first" in r.stderr
    mongo_of(own)[own.db_of["acme"]].data.delete_many({})
    own.cli("mongo", "restore", place.dir)
    assert mongo_of(own)[own.db_of["acme"]].data.count_documents({}) == 300
    own.cli("stop", own.wait_running()[0]["run_id"])


def test_of_another_mongodb_the_tenants_databases_only(make_home, servers, place):
    """And marks of homes, which count up there, are in nobody's way."""
    home = make_home(mongo=servers[0])
    home.tenant()
    home.tenant("other")
    home.up()
    home.drop("a.csv", rows(10))
    home.drop("b.csv", rows(20), tenant="other")
    home.wait_files(2)
    place.a.client.strangers.rows.insert_one({"_id": 1})
    done = json.loads(home.cli("mongo", "dump", place.dir, "--json").stdout)
    assert done["databases"] == 2 and {p.name for p in place.dir.iterdir() if p.is_dir()} == set(home.db_of.values())
    one = json.loads(home.cli("mongo", "dump", home.base / "one", "--tenant", "other", "--json").stdout)
    assert [f["file"].split("/")[0] for f in one["files"] if f["file"].endswith("/data.bson")] == [home.db_of["other"]]
    marks = place.a.client[home.db_of["acme"]].simbdp_home
    assert marks.count_documents({}) == 1
    marks.update_one({}, {"$inc": {"n": 5}})
    r = json.loads(home.cli("mongo", "restore", place.dir, "--json", "--tenant", "acme").stdout)
    assert (r["present"], r["kept"], r["problems"]) == (10, 1, 0) and {c["collection"].split(".")[0] for c in r["collections"]} == {home.db_of["acme"]}
    home.down()
    # Nobody gives the URL any more: the home's own would be another one.
    del home.env["MONGO_URL"]
    r = home.cli("mongo", "dump", home.base / "two", check=False)
    assert r.returncode == 1 and "MONGO_URL named" in r.stderr
    r = json.loads(home.cli("mongo", "dump", home.base / "two", "--url-file", url_file(home, place.a), "--json").stdout)
    assert {f["file"].split("/")[0] for f in r["files"]} == {*home.db_of.values(), "strangers"}


def test_a_tenant_with_a_mongodb_of_its_own(home, place):
    home.tenant("acme", tenant=f'mongo_url = "{place.a.url}&w=majority&readPreference=secondary";')
    home.up()
    home.drop("a.csv", rows(10))
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    all_of_it = home.cli("mongo", "dump", home.base / "all", check=False)
    assert all_of_it.returncode == 1 and "acme has a MongoDB of its own" in all_of_it.stderr and "no tenant has a database there" in all_of_it.stderr
    home.cli("mongo", "dump", place.dir, "--tenant", "acme")
    r = home.cli("mongo", "restore", place.dir, "--tenant", "acme", "--exact", check=False)
    assert r.returncode == 1 and "the platform runs" in r.stderr
    home.cli("mongo", "restore", place.dir, "--url-file", url_file(home, place.b))
    assert place.b.client[home.db_of["acme"]].data.count_documents({}) == 10
    home.down()
    place.a.client[home.db_of["acme"]].data.insert_one({"_id": "more"})
    r = json.loads(home.cli("mongo", "restore", place.dir, "--tenant", "acme", "--exact", "--json").stdout)
    assert (r["deleted"], place.a.client[home.db_of["acme"]].data.count_documents({})) == (1, 10)


def test_usage(home, place):
    home.tenant()
    for args, code, text in [(("mongo",), 2, "usage"), (("mongo", "dump"), 2, "usage"), (("mongo", "copy", "x"), 2, "mongo copy"),
                             (("mongo", "dump", "x", "--exact"), 2, "--exact"), (("mongo", "dump", "x", "--own", "--url-file", "y"), 2, "--own"),
                             (("mongo", "dump", "x", "--tenant", "nobody"), 1, "there is no tenant nobody"),
                             (("mongo", "restore", "x", "--url-file", home.base / "nowhere"), 1, "cannot open"),
                             (("mongo", "dump", "/nowhere/x", "--url-file", url_file(home, place.a)), 1, "cannot make /nowhere/x")]:
        r = home.cli(*args, check=False)
        assert r.returncode == code and text in r.stderr, (args, r.returncode, r.stderr)
