"""Part of scripts/bench: which shard takes the writes, by shard key and by how rows come.

A home loads real files and messages over a router that notes each row as it comes, with its real _id. Then each row goes, in that order, to clusters
that differ in the shard key alone (tests/system/router.py: chunks that split, a balancer that moves as many bytes as are written). A window is a
hundredth of the rows; its busiest shard is the one that took most of them."""
import os
import random
import sys

from common import BUILD, ROOT

SHARDS, WINDOWS, CHUNKS = 4, 100, 240  # as many chunks as 30 GB have, of 128 MB each
KEYS = [("_id", {"_id": 1}), ("_id, hashed", {"_id": "hashed"}), ("station", {"station": 1}), ("station, then _id", {"station": 1, "_id": 1}), ("at (rises)", {"at": 1})]
CONF = """database = "{db}"; concurrency = 4;
datasets = ( {{ name = "large"; format = "csv"; }}, {{ name = "small"; format = "csv"; }}, {{ name = "events"; format = "json"; }} );
batch = ( {{ app = "app"; exec = "builtin:load"; datasets = ("large", "small"); }} );
streams = ( {{ name = "events"; }} );
stream_apps = ( {{ app = "store"; stream = "events"; exec = "builtin:load"; dataset = "events"; min_instances = 2; max_instances = 2; }} );
"""


def make_rows(n, rand):
    """Stations send in no order: 500 of them, some ten times as much as others."""
    weights = [10 if i % 10 == 0 else 1 for i in range(500)]
    for i, s in enumerate(rand.choices(range(500), weights, k=n)):
        yield i, f"station-{s:03d}", f"2026-01-{i * 28 // n + 1:02d}T{i % 24:02d}:{i // 24 % 60:02d}:{i % 60:02d}Z", round(rand.random() * 60 - 20, 2)


def csv_of(rows):
    return "n,station,at,celsius\n" + "".join(f"{i},{s},{at},{c}\n" for i, s, at, c in rows)


def record(total):
    """Rows in the order in which a home stored them: {how they came: [document]}."""
    os.environ["SIMBDP_BUILD"] = str(BUILD)
    sys.path.insert(0, str(ROOT / "tests/system"))
    from harness import Home, until
    from router import Router

    class Recorder(Router):
        def put(self, ns, s, key, shard, store, row):
            super().put(ns, s, key, shard, store, row)
            self.rows.setdefault(ns.split(".")[1], []).append({k: v for k, v in row.items() if k in ("_id", "station", "at")})

    router = Recorder(keep=False)
    router.rows = {}
    router.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
    home = Home()
    try:
        home.env["MONGO_URL"] = router.url
        (home.path / "conf/tenants/acme.conf").write_text(CONF.format(db="acme_bench"))
        home.up()
        rand = random.Random(3)
        for i in range(4):  # one after the other
            home.drop(f"l{i}.csv", csv_of(make_rows(total // 4, rand)), dataset="large")
            home.wait_files(i + 1, timeout=300)
        for i in range(total // 200):
            home.drop(f"s{i}.csv", csv_of(make_rows(200, rand)), dataset="small")
        home.wait_files(4 + total // 200, timeout=600)
        assert all(f["state"] == "ingested" for f in home.files())
        lines = home.base / "events.jsonl"
        lines.write_text("".join(f'{{"n":{i},"station":"{s}","at":"{at}","celsius":{c}}}\n' for i, s, at, c in make_rows(total, rand)))
        home.cli("publish", "acme/events", str(lines), timeout=600)
        until(lambda: len(router.rows.get("events", [])) == total, home.path / "logs", timeout=300, what="all messages stored")
        home.down()
    finally:
        home.cleanup()
        router.stop()
    return {"one large file at a time": router.rows["large"], "files of 200 rows, four at once": router.rows["small"], "a stream": router.rows["events"]}


def replay(rows, key):
    """Of each window the busiest shard's share; its share of all; how many of the bytes were moved."""
    import bson
    from router import Router
    size = sum(len(bson.encode(r)) for r in rows)
    cluster = Router(shards=SHARDS, chunk_bytes=size // CHUNKS, balance=True, keep=False)
    cluster.shard_collection({"shardCollection": "d.c", "key": key})
    for row in rows:
        cluster.insert_one("d.c", row)
    cluster.stop()
    went = [shard for _, shard in cluster.writes]
    step = len(went) // WINDOWS
    shares = sorted(max(went[i:i + step].count(s) for s in range(SHARDS)) / step for i in range(0, step * WINDOWS, step))
    largest = max(c.bytes for c in cluster.sharded["d.c"].chunks) / cluster.chunk_bytes
    return {"median": shares[WINDOWS // 2], "worst": shares[-1], "all": max(went.count(s) for s in range(SHARDS)) / len(went),
            "moved": cluster.moves * cluster.chunk_bytes / size, "chunks": len(cluster.sharded["d.c"].chunks), "largest": largest}


def bench_shards(quick, rounds, report, only):
    total = 24000 if quick else 120000
    found = {}
    recorded = record(total)
    print(f"{'rows come as':34}{'shard key':20}{'busiest shard of a window':>27}{'of all':>8}{'moved':>8}{'largest chunk':>15}")
    print(f"{'':54}{'median':>17}{'worst':>10}")
    for how, rows in recorded.items():
        for name, key in KEYS:
            if only and only not in how and only not in name:
                continue
            f = found[f"{how}: {name}"] = replay(rows, key)
            print(f"{how:34}{name:20}{f['median']:>17.0%}{f['worst']:>10.0%}{f['all']:>8.0%}{f['moved']:>8.0%}{f['largest']:>15.1f}", flush=True)
        if f"{how}: _id, hashed" in found:
            report("shards", f"{how}: rows that the busiest shard takes of a window, _id hashed, median", found[f"{how}: _id, hashed"]["median"], 0.32,
                   f"{SHARDS} shards, a fair share is {1 / SHARDS:.2f}", at_most=True)
    return found
