"""A sharded cluster behind a router (mongos), as its wire shows it: shards, chunks that are split by size, a balancer, and a router that knows where a row
belongs by the shard key alone.

What is MongoDB's here: how values are ordered and hashed; that a row goes to one shard, an upsert only where its filter has the shard key, and that an
_id or a unique index is unique on its shard and nowhere else; which unique indexes are refused; one chunk of an empty collection, or one a shard
where its key begins with a hashed field; the balancer's threshold of three chunks' bytes. What is made up: the balancer moves as many bytes as are
written, and takes any chunk of the shard that has most.

mongodb.com/docs/manual: core/sharding-shard-key, core/sharding-balancer-administration, core/sharding-shard-key-indexes; mongo's hasher.cpp."""
import bisect
import datetime
import hashlib
import random
import struct

import bson

from scripted import Scripted

RANKS = {type(None): 1, int: 2, float: 2, bson.Int64: 2, str: 3, dict: 4, bytes: 6, bson.ObjectId: 7, bool: 8, datetime.datetime: 9}
CANONICAL = {1: 5, 2: 10, 3: 15, 4: 20, 6: 30, 7: 35, 8: 40, 9: 45}
SHARD_KEY_NOT_FOUND = 61
NO_PRIMARY = 133


class NoKey(Exception):
    pass


def at_path(document, path):
    for name in path.split("."):
        if isinstance(document, list):
            raise NoKey("shard key cannot contain array values or array descendants")
        document = document.get(name) if isinstance(document, dict) else None
    if isinstance(document, list):
        raise NoKey("shard key cannot contain array values or array descendants")
    return document


def ordered(value):
    """What compares as MongoDB compares values."""
    rank = RANKS[type(value)]
    return rank, (len(value), value) if rank == 6 else 0 if value is None else str(value) if rank == 4 else value


def hashed(value):
    rank = RANKS[type(value)]
    body = struct.pack("<q", int(value)) if rank == 2 else bson.encode({"": value})[6:-1] if value is not None else b""
    return struct.unpack("<q", hashlib.md5(struct.pack("<ii", 0, CANONICAL[rank]) + body).digest()[:8])[0]


class Chunk:
    def __init__(self, low, shard):
        self.low, self.shard, self.bytes, self.keys = low, shard, 0, []


class Sharded:
    def __init__(self, key, n_shards, primary):
        self.key = dict(key)
        self.parts = [(field, how == "hashed") for field, how in key.items()]
        first = [Chunk((), primary)]
        if self.parts[0][1]:
            first = [Chunk((((2, -(1 << 63) + (i << 64) // n_shards),) if i else ()), i) for i in range(n_shards)]
        self.chunks = first
        self.lows = [c.low for c in first]

    def key_of(self, document):
        values = [at_path(document, field) for field, _ in self.parts]
        return tuple((2, hashed(v)) if h else ordered(v) for v, (_, h) in zip(values, self.parts))

    def chunk(self, key):
        return self.chunks[bisect.bisect_right(self.lows, key) - 1]

    def split(self, chunk):
        chunk.keys.sort()
        middle = chunk.keys[len(chunk.keys) // 2]
        if middle == chunk.keys[0]:  # all rows have one value: a jumbo chunk
            return None
        at = bisect.bisect_left(chunk.keys, middle)
        new = Chunk(middle, chunk.shard)
        new.keys, chunk.keys = chunk.keys[at:], chunk.keys[:at]
        new.bytes = chunk.bytes * len(new.keys) // (len(new.keys) + len(chunk.keys))
        chunk.bytes -= new.bytes
        i = bisect.bisect_right(self.lows, middle)
        self.chunks.insert(i, new)
        self.lows.insert(i, middle)
        return new


class Store(dict):
    """A shard's part of a collection, by _id."""

    def __init__(self):
        super().__init__()
        self.taken = {}  # (unique index, values) -> _id


class Router(Scripted):
    """`script(router, command, documents)` may answer an insert or update itself, as that of Scripted does."""

    def __init__(self, script=None, shards=3, chunk_bytes=64 << 10, balance=False, keep=True):
        self.n, self.chunk_bytes, self.balance, self.keep = shards, chunk_bytes, balance, keep
        self.stores = [{} for _ in range(shards)]  # of each shard: namespace -> _id -> document
        self.sharded, self.indexes, self.refused_unique = {}, {}, []
        self.down = set()  # shards without a primary
        self.may_look = self.may_shard = True
        self.enabled = None  # databases that enableSharding was said for; None: not needed (6.0)
        self.writes = []  # (namespace, shard) of each row that was stored, in order
        self.moves, self.budget = 0, 0
        self.random = random.Random(1)
        super().__init__()
        self.script = lambda command, documents: script(self, command, documents) if script else None

    def hello(self):
        return {**super().hello(), "msg": "isdbgrid", "maxWireVersion": 17, "minWireVersion": 0}

    # ---- what a test asks

    def all(self, ns="d.c"):
        return [d for store in self.stores for d in store.get(ns, {}).values()]

    def per_shard(self, ns="d.c"):
        return [len(store.get(ns, {})) for store in self.stores]

    def move(self, ns, chunk, shard):
        with self.lock:
            self.migrate(ns, chunk, shard)

    # ---- commands

    def answer(self, name, command, documents):
        with self.lock:
            self.commands.append(name)
            db = command.get("$db", "d")
            if name in ("isMaster", "ismaster", "hello"):
                return self.hello()
            if name in ("insert", "update"):
                rows = documents + command.get("documents" if name == "insert" else "updates", [])
                answer = self.script(command, rows)
                return answer if answer is not None else self.write(name, f"{db}.{command[name]}", rows)
            if name == "find":
                return self.find(db, command)
            if name == "delete":
                return self.delete(f"{db}.{command['delete']}", documents + command.get("deletes", []))
            if name == "createIndexes":
                return self.create_indexes(f"{db}.{command[name]}", command["indexes"])
            if name == "shardCollection":
                return self.shard_collection(command)
            if name == "enableSharding" and self.may_shard and self.enabled is not None:
                self.enabled.add(command[name])
                return {"ok": 1.0}
        return self.replies.get(name, {"ok": 1.0, "version": "0.0-router"})

    def shard_collection(self, command):
        ns, key = command["shardCollection"], command["key"]
        if not self.may_shard:
            return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": f"not authorized on admin to execute command {{ shardCollection: \"{ns}\" }}"}
        if self.enabled is not None and ns.split(".")[0] not in self.enabled:
            return {"ok": 0.0, "code": 20, "codeName": "IllegalOperation", "errmsg": "sharding not enabled for db"}
        if ns in self.sharded:
            same = list(self.sharded[ns].key.items()) == list(key.items())
            return {"ok": 1.0} if same else {"ok": 0.0, "code": 23, "codeName": "AlreadyInitialized", "errmsg": f"sharding already enabled for collection {ns} with options {self.sharded[ns].key}"}
        indexes = [{"key": {"_id": 1}}, *self.indexes.get(ns, {}).values()]
        bad = [i for i in indexes[1:] if i.get("unique") and list(i["key"])[:len(key)] != list(key)]
        if bad:
            return {"ok": 0.0, "code": 72, "codeName": "InvalidOptions", "errmsg": f"can't shard collection '{ns}' with unique index on {bad[0]['key']}"}
        has = any(list(i["key"].items())[:len(key)] == list(key.items()) for i in indexes)
        rows = {i: d for store in self.stores for i, d in store.get(ns, {}).items()}
        if rows and not has:
            return {"ok": 0.0, "code": 72, "codeName": "InvalidOptions", "errmsg": "Please create an index that starts with the proposed shard key before sharding the collection"}
        one = Sharded(key, self.n, 0)
        if rows:  # they stay where they are
            one.chunks, one.lows = [Chunk((), 0)], [()]
            one.chunks[0].keys = [one.key_of(d) for d in rows.values()]
        self.sharded[ns] = one
        return {"ok": 1.0, "collectionsharded": ns}

    def create_indexes(self, ns, indexes):
        for i in indexes:
            have = self.indexes.setdefault(ns, {})
            s = self.sharded.get(ns)
            if s and i.get("unique") and list(i["key"])[:len(s.parts)] != [f for f, _ in s.parts]:
                self.refused_unique.append(i["name"])
                return {"ok": 0.0, "code": 67, "codeName": "CannotCreateIndex", "errmsg": f"cannot create unique index over {i['key']} with shard key pattern {s.key}"}
            for o in have.values():
                if list(o["key"].items()) == list(i["key"].items()) and (o["name"] != i["name"] or o.get("unique") != i.get("unique")):
                    return {"ok": 0.0, "code": 85, "codeName": "IndexOptionsConflict", "errmsg": f"Index with name: {o['name']} already exists with different options"}
            have[i["name"]] = i
        return {"ok": 1.0}

    def find(self, db, command):
        found = []
        if db == "config":
            if not self.may_look:
                return {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized on config to execute command { find: \"collections\" }"}
            s = self.sharded.get(command["filter"]["_id"])
            found = [{"_id": command["filter"]["_id"], "key": s.key, "unique": False}] if s else []
        elif command["find"] == "simbdp_home":
            found = [{"_id": "mark", "n": bson.Int64(1 << 40)}]
        else:
            if self.down:
                return {"ok": 0.0, "code": NO_PRIMARY, "codeName": "FailedToSatisfyReadPreference", "errmsg": "Could not find host matching read preference { mode: \"primary\" }"}
            wanted = command["filter"]["_id"]["$in"]
            found = [{"_id": i} for i in wanted for store in self.stores if i in store.get(f"{db}.{command['find']}", {})]
        return {"ok": 1.0, "cursor": {"id": bson.Int64(0), "ns": f"{db}.{command['find']}", "firstBatch": found}}

    def delete(self, ns, deletes):
        n = 0
        for d in deletes:
            low, high = d["q"]["_id"]["$gte"], d["q"]["_id"]["$lte"]
            for store in self.stores:
                gone = [i for i in store.get(ns, {}) if low <= i <= high]
                for i in gone:
                    del store[ns][i]
                n += len(gone)
        return {"ok": 1.0, "n": n}

    # ---- rows

    def write(self, name, ns, rows):
        errors, upserted = [], []
        for i, row in enumerate(rows):
            try:
                new = self.insert_one(ns, row) if name == "insert" else self.update_one(ns, row)
                if new and name == "update":
                    upserted.append({"index": i, "_id": row["u"]["_id"]})
            except NoKey as e:
                errors.append({"index": i, "code": SHARD_KEY_NOT_FOUND, "errmsg": str(e)})
            except KeyError as e:
                errors.append({"index": i, "code": 11000, "errmsg": f"E11000 duplicate key error collection: {ns} index: {e.args[0]} dup key: {{ : x }}"})
            except ConnectionError as e:
                errors.append({"index": i, "code": NO_PRIMARY, "errmsg": str(e)})
        answer = {"ok": 1.0, "n": len(rows) - len(errors)}
        return {**answer, **({"writeErrors": errors} if errors else {}), **({"upserted": upserted} if upserted else {})}

    def store_of(self, ns, s, key):
        shard = s.chunk(key).shard if s else 0
        if shard in self.down:
            raise ConnectionError(f"Could not find host matching read preference {{ mode: \"primary\" }} for set shard{shard}")
        return shard, self.stores[shard].setdefault(ns, Store())

    def insert_one(self, ns, row):
        s = self.sharded.get(ns)
        key = s.key_of(row) if s else None
        shard, store = self.store_of(ns, s, key)
        if row["_id"] in store:
            raise KeyError("_id_")
        self.check_unique(ns, store, row)
        self.put(ns, s, key, shard, store, row)
        return True

    def check_unique(self, ns, store, row):
        """An index of one shard knows its own rows alone."""
        for i in self.indexes.get(ns, {}).values():
            if i.get("unique") and store.taken.get((i["name"], self.values_of(i, row)), row["_id"]) != row["_id"]:
                raise KeyError(i["name"])

    @staticmethod
    def values_of(index, row):
        return tuple(ordered(at_path(row, f)) for f in index["key"])

    def note(self, ns, store, row):
        for i in self.indexes.get(ns, {}).values():
            if i.get("unique"):
                store.taken[i["name"], self.values_of(i, row)] = row["_id"]

    def update_one(self, ns, update):
        s, q, row = self.sharded.get(ns), update["q"], update["u"]
        q = {f: v["$eq"] if isinstance(v, dict) and list(v) == ["$eq"] else v for f, v in q.items()}
        lacks = [f for f, _ in s.parts if f not in q] if s else []
        if lacks:
            raise NoKey(f"Failed to target upsert by query :: could not extract exact shard key, {lacks[0]} is missing")
        nested = {}
        for f, v in q.items():
            *path, last = f.split(".")
            into = nested
            for p in path:
                into = into.setdefault(p, {})
            into[last] = v
        key = s.key_of(nested) if s else None
        shard, store = self.store_of(ns, s, key)
        old = store.get(q["_id"])
        if old is not None and any(at_path(old, f) != v for f, v in q.items()):
            raise KeyError("_id_")
        if s and s.key_of(row) != key:
            raise NoKey("a row would change its shard")
        if old is not None:
            store[q["_id"]] = row
            return False
        self.check_unique(ns, store, row)
        self.put(ns, s, key, shard, store, row)
        return True

    def put(self, ns, s, key, shard, store, row):
        store[row["_id"]] = row if self.keep else None
        self.note(ns, store, row)
        self.writes.append((ns, shard))
        if not s:
            return
        chunk = s.chunk(key)
        size = len(bson.encode(row))
        chunk.bytes += size
        chunk.keys.append(key)
        self.budget += size
        if chunk.bytes > self.chunk_bytes and len(chunk.keys) > 1:
            s.split(chunk)
        if self.balance and self.budget >= self.chunk_bytes:
            self.budget -= self.chunk_bytes
            self.balance_once(ns, s)

    # ---- the balancer

    def balance_once(self, ns, s):
        held = [0] * self.n
        for c in s.chunks:
            held[c.shard] += c.bytes
        most, least = held.index(max(held)), held.index(min(held))
        if held[most] - held[least] >= 3 * self.chunk_bytes:
            self.migrate(ns, self.random.choice([c for c in s.chunks if c.shard == most]), least)

    def migrate(self, ns, chunk, shard):
        s = self.sharded[ns]
        self.moves += 1
        source, target = [self.stores[i].setdefault(ns, Store()) for i in (chunk.shard, shard)]
        if self.keep and source is not target:
            for i in [i for i, d in source.items() if s.chunk(s.key_of(d)) is chunk]:
                target[i] = source.pop(i)
                self.note(ns, target, target[i])
            source.taken = {k: i for k, i in source.taken.items() if i in source}
        chunk.shard = shard
