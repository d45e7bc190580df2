"""Datasets with `shard`: what of them `check` refuses, and loads over a router (mongos) with shards behind it."""
import itertools
import json
import sys
import threading
import time

import pytest

from harness import BUILD, ROOT, Home, until
from router import NO_PRIMARY, Router
from scripted import CLOSE, Scripted

sys.path.insert(0, str(ROOT / "tests/fault"))
from test_load import load  # noqa: E402

pytestmark = pytest.mark.anyone
N = 20000
ROWS = "n,station,v\n" + "".join(f"{i},s{i * 7919 % 97},{i % 5}\n" for i in range(N))
DATASET = 'datasets = ( { name = "d"; format = "csv"; %s } );'
NS = "d.c"


@pytest.fixture
def serve():
    made = []

    def make(kind=Router, *args, **kw):
        made.append(kind(*args, **kw))
        return made[-1]
    yield make
    for m in made:
        m.stop()


# ---- the configuration

@pytest.mark.parametrize("text, words", [
    ('shard = { key = "_id"; };', None),
    ('shard = { key = ("_id"); hashed = "_id"; };', None),
    ('shard = { key = ("station", "_id"); hashed = "_id"; };', None),
    ('shard = { key = "station"; }; key = ("station", "time");', None),
    ('shard = { key = "station"; hashed = "station"; }; key = ("station", "time"); on_key_conflict = "keep";', None),
    ('shard = { key = "time"; }; key = ("station", "time"); on_key_conflict = "replace";', None),
    ('shard = { key = "_id"; hashed = "_id"; }; key = ("station", "time"); on_key_conflict = "replace";', None),
    ('shard = { key = "meta.station"; }; columns = ( { name = "s"; as = "meta.station"; unique = true; } );', None),
    ('shard = { key = "_id"; }; key = ("station", "time");', ["shard.key", "begins with", "replace"]),
    ('shard = { key = "time"; }; key = ("station", "time");', ["shard.key", "in that order", "put them first"]),
    ('shard = { key = ("station", "time", "x"); }; key = ("station", "time"); on_key_conflict = "keep";', ["shard.key"]),
    ('shard = { key = "v"; }; key = ("station", "time"); on_key_conflict = "replace";', ["shard.key", "'v' is not part of key", "_id"]),
    ('shard = { key = "station"; };\ncolumns = (\n { name = "station"; }, { name = "serial"; unique = true; } );', ["acme.conf:3", "unique", "'serial'"]),
    ('shard = { hashed = "_id"; };', ["shard.hashed", "no shard.key"]),
    ('shard = { key = "a"; hashed = "b"; };', ["shard.hashed", "none of shard.key"]),
    ('shard = { key = ("a", "a"); };', ["shard.key", "twice"]),
    ('shard = { key = "_id.x"; };', ["shard.key"]),
    ('shard = { key = "$a"; };', ["shard.key"]),
    ('shard = { key = ""; };', ["shard.key"]),
    ('shard = { by = "a"; };', ["'by'", "key hashed"]),
    ('shard = { key = "a"; }; }, { name = "e"; format = "csv"; collection = "d";', ["same collection", "shard"]),
])
def test_check_says_what_a_router_would(make_home, text, words):
    home = make_home()
    (home.path / "conf/tenants/acme.conf").write_text(DATASET % text)
    r = home.cli("check", check=False)
    if words is None:
        assert r.returncode == 0, r.stderr
    else:
        assert r.returncode == 1 and "acme.conf:" in r.stderr and all(w in r.stderr for w in words), r.stderr


# ---- loads, as a router answers them

def sharded(router, key, ns=NS):
    """As the platform's user did."""
    assert router.shard_collection({"shardCollection": ns, "key": key})["ok"]


def spec(**kw):
    return json.dumps(kw)


def all_there(router):
    return sorted(d["n"] for d in router.all()) == list(range(N))


@pytest.mark.parametrize("key", [{"_id": 1}, {"_id": "hashed"}, {"station": 1}, {"station": "hashed", "_id": 1}])
def test_every_row_once_whatever_the_key(tmp_path, serve, key):
    """Half of the commands end with a lost answer, and a chunk goes to another shard in between: what is sent again finds its first copy there."""
    turn = itertools.count()

    def script(router, command, documents):
        if next(turn) % 2 == 0:
            router.write("insert", NS, documents)
            chunk = router.random.choice(router.sharded[NS].chunks)
            router.migrate(NS, chunk, (chunk.shard + 1) % router.n)
            return CLOSE
    router = serve(Router, script, balance=True)
    sharded(router, key)
    code, result, rejects, err = load(tmp_path, router, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_there(router) and router.moves > 1 and min(router.per_shard()) > 0
    assert len(router.sharded[NS].chunks) > 3
    assert sum(len(c.keys) for c in router.sharded[NS].chunks) == N


def test_a_load_that_is_run_again_over_shards(tmp_path, serve):
    router = serve()
    sharded(router, {"station": 1})
    for _ in range(2):
        code, result, rejects, err = load(tmp_path, router, ROWS, spec(key=["station", "n"], shard={"key": ["station"]}))
        assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_there(router) and router.indexes[NS]["simbdp_unique_station_n"]["unique"]


@pytest.mark.parametrize("code", [63, 13388, 150, 249, 82])
def test_a_router_that_knows_old_chunks(tmp_path, serve, code):
    """It gives up after some rounds of its own: for some rows, or for the command."""
    turn = itertools.count()

    def script(router, command, documents):
        kind = next(turn) % 3
        if kind == 0:
            return {"ok": 0.0, "code": code, "errmsg": "stale"}
        if kind == 1:
            some = [d for i, d in enumerate(documents) if i % 2]
            router.write("insert", NS, some)
            return {"ok": 1.0, "n": len(some), "writeErrors": [{"index": i, "code": code, "errmsg": "stale"} for i in range(0, len(documents), 2)]}
    router = serve(Router, script)
    sharded(router, {"_id": "hashed"})
    r = load(tmp_path, router, ROWS)
    assert (r[0], r[1]["rows_loaded"], r[2]) == (0, N, []), r[3]
    assert all_there(router)


def test_a_shard_without_a_primary(tmp_path, serve):
    """The rows of the others are stored meanwhile; its own wait."""
    seen = []

    def script(router, command, documents):
        seen.append(1)
        router.down = {1} if len(seen) < 4 else set()
    router = serve(Router, script)
    sharded(router, {"_id": "hashed"})
    code, result, rejects, err = load(tmp_path, router, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_there(router) and len(seen) > 3


REPLACE = {"key": ["station", "n"], "on_key_conflict": "replace"}


@pytest.mark.parametrize("key, shard", [
    ({"_id": 1}, {"key": ["_id"]}),
    ({"_id": "hashed"}, {"key": ["_id"], "hashed": "_id"}),
    ({"station": 1}, {"key": ["station"]}),
    ({"n": "hashed"}, {"key": ["n"], "hashed": "n"}),
    ({"n": 1, "_id": 1}, {"key": ["n", "_id"]}),
])
def test_rows_replace_their_elders_on_their_shard(tmp_path, serve, key, shard):
    router = serve(Router, balance=True)
    sharded(router, key)
    for text in (ROWS, ROWS.replace(",4\n", ",9\n")):
        code, result, rejects, err = load(tmp_path, router, text, spec(**REPLACE, shard=shard))
        assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert result["rows_added"] == 0
    assert all_there(router) and sum(d["v"] == 9 for d in router.all()) == N // 5 and not router.refused_unique
    (index,) = router.indexes[NS].values()
    assert index.get("unique", False) == (list(key) == ["station"]) and list(index["key"]) == ["station", "n"]


def test_values_that_look_like_operators_are_values(tmp_path, serve):
    """Of a tenant's JSON, in the filter that finds a row's elder: a key's value could match others' rows, or be refused by the server."""
    queries = []
    router = serve(Router, lambda router, command, rows: queries.extend(r["q"] for r in rows))
    sharded(router, {"a": 1})
    rows = [{"a": {"$gt": 0}, "b": 1}, {"a": {"$gt": 0}, "b": 2}, {"a": {"x": 1}, "b": 5}, {"a": "x", "b": 6}, {"a": 1.0, "b": 7}, {"a": False, "b": 7}]
    text = "".join(json.dumps(r) + "\n" for r in rows)
    for _ in range(2):
        code, result, rejects, err = load(tmp_path, router, text, spec(format="json", key=["a", "b"], on_key_conflict="replace", shard={"key": ["a"]}), name="x.json")
        assert (code, result["rows_loaded"]) == (0, 6) and not rejects, (err, rejects)
    assert len(router.all()) == 6
    assert all(list(q) == ["_id", "a"] and list(q["a"]) == ["$eq"] for q in queries) and queries[0]["a"] == {"$eq": {"$gt": 0}}


@pytest.mark.parametrize("replace", [False, True])
def test_an_array_is_no_shard_key(tmp_path, serve, replace):
    """That row is refused, by us or by the router, and the others are stored. With `key` a row that lacks the field was refused before."""
    router = serve()
    sharded(router, {"m.a": 1})
    text = "".join(json.dumps(r) + "\n" for r in [{"m": {"a": 1}, "b": 1}, {"m": {"a": [1, 2]}, "b": 2}, {"m": [{"a": 1}], "b": 3}, {"m": {"a": 4}, "b": 4}])
    s = {"format": "json", "shard": {"key": ["m.a"]}, **({"key": ["m.a", "b"], "on_key_conflict": "replace"} if replace else {})}
    code, result, rejects, err = load(tmp_path, router, text, spec(**s), name="x.json")
    assert (code, result["rows_loaded"], result["rows_rejected"]) == (0, 2, 2), (err, result)
    assert [r["line"] for r in rejects] == [2, 3] and "array" in rejects[0]["message"] and ("missing" if replace else "array") in rejects[1]["message"], rejects
    assert sorted(d["b"] for d in router.all()) == [1, 4]


def test_a_collection_that_others_sharded_by_another_key(tmp_path, serve):
    router = serve()
    sharded(router, {"v": 1})
    code, result, _, err = load(tmp_path, router, ROWS, spec(**REPLACE, shard={"key": ["station"]}))
    assert code == 65 and "cannot have the unique index" in result["error"], (code, result)
    code, result, rejects, err = load(tmp_path, router, ROWS, spec(**REPLACE, shard={"key": ["_id"]}))
    assert code == 65 and "sharded by another key" in result["error"] and "sh.status()" in result["error"] and rejects == [], (code, result)
    assert router.all() == []
    code, result, rejects, err = load(tmp_path, router, ROWS)  # rows that replace none need no key
    assert (code, result["rows_loaded"]) == (0, N) and all_there(router)


def test_no_router_takes_the_same_rows(tmp_path, serve):
    """There the filter is the _id alone, as ever."""
    queries = []
    server = serve(Scripted, lambda command, rows: queries.extend(r["q"] for r in rows))
    for key in (["station"], ["_id"]):
        code, result, rejects, err = load(tmp_path, server, ROWS, spec(**REPLACE, shard={"key": key}))
        assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert len(server.documents) == N and all(list(q) == ["_id"] for q in queries)


def test_the_embedded_one_takes_the_same_rows(make_home):
    home = make_home()
    home.tenant()
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; key = ("station", "n"); on_key_conflict = "replace"; shard = { key = "station"; };'))
    home.up()
    for name, text in (("a.csv", ROWS), ("b.csv", ROWS.replace(",4\n", ",9\n"))):
        home.drop(name, text)
        f = home.wait_file(file_name=name)
        assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", N, 0), f
    docs = home.docs()
    assert sorted(d["n"] for d in docs) == list(range(N)) and sum(d["v"] == 9 for d in docs) == N // 5
    (row,) = doctor(home)
    assert row["status"] == "absent" and "no mongos" in row["reason"] and "loads go on" in row["remedy"], row


def doctor(home):
    out = home.cli("doctor", "--json", check=False).stdout
    return [d for d in map(json.loads, out.splitlines()) if d["subject"].startswith("shard key of")]


# ---- a home on a router

@pytest.fixture
def on_router(serve):
    homes = []

    def make(router, dataset, tenant=""):
        router.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
        h = Home()
        homes.append(h)
        h.env["MONGO_URL"] = router.url
        h.tenant(tenant=tenant)
        h.conf_file = h.path / "conf/tenants/acme.conf"
        h.plain = h.conf_file.read_text()
        h.ns = f"{h.db_of['acme']}.data"
        rewrite(h, dataset)
        return h
    yield make
    for h in homes:
        h.cleanup()


def rewrite(home, dataset):
    home.conf_file.write_text(home.plain.replace('collection = "data";', f'collection = "data"; {dataset}'))


def log(home, event):
    return [line for line in (home.path / "logs/batchmgr.log").read_text().splitlines() if f"event={event} " in line or f'"event":"{event}"' in line]


@pytest.mark.parametrize("enable", [False, True])
def test_a_collection_is_sharded_before_its_first_row(serve, on_router, enable):
    router = serve(Router)
    router.enabled = set() if enable else None  # before 6.0 databases are enabled first
    home = on_router(router, 'key = ("station", "n"); shard = { key = "station"; };')
    home.up()
    home.drop("a.csv", ROWS)
    f = home.wait_file(file_name="a.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", N), f
    assert router.sharded[home.ns].key == {"station": 1} and sum(len(c.keys) for c in router.sharded[home.ns].chunks) == N
    assert list(router.indexes[home.ns]) == ["simbdp_unique_station_n"]  # no second index of the same fields
    assert router.commands.index("shardCollection") < router.commands.index("insert")
    assert doctor(home)[0]["status"] == "ok"
    made = router.commands.count("shardCollection")
    home.down()
    home.up()
    home.drop("b.csv", "n,station,v\n-1,x,1\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"
    assert router.commands.count("shardCollection") == made  # once


def test_rows_that_are_there_are_sharded_too(serve, on_router):
    router = serve(Router)
    home = on_router(router, "")
    home.up()
    home.drop("a.csv", ROWS)
    assert home.wait_file(file_name="a.csv")["state"] == "ingested" and not router.sharded
    rewrite(home, 'shard = { key = ("station", "_id"); hashed = "_id"; };')
    home.control({"op": "reload"})
    until(lambda: home.ns in router.sharded, home.path / "logs", what="a sharded collection")
    assert list(router.sharded[home.ns].key.items()) == [("station", 1), ("_id", "hashed")]
    assert list(router.indexes[home.ns]) == ["station_1__id_hashed"]
    home.drop("b.csv", "n,station,v\n-1,x,1\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"


@pytest.mark.parametrize("how, word", [("denied", "clusterManager"), ("blind", None), ("other", "already"), ("blind other", "another key"), ("unique", "unique index")])
def test_what_cannot_be_sharded_is_told_and_loaded(serve, on_router, how, word):
    router = serve(Router)
    home = on_router(router, 'shard = { key = "station"; };')
    router.may_shard = how != "denied"
    router.may_look = "blind" not in how
    if "other" in how:
        sharded(router, {"v": 1}, home.ns)
    if how == "unique":
        router.create_indexes(home.ns, [{"name": "theirs", "key": {"v": 1, "n": 1}, "unique": True}])
    home.up()
    home.drop("a.csv", ROWS)
    f = home.wait_file(file_name="a.csv")
    assert (f["state"], f["rows_loaded"], f["attempts"]) == ("ingested", N, 1), f
    (row,) = doctor(home)
    if word is None:
        assert row["status"] == "ok" and router.sharded[home.ns].key == {"station": 1}
        return
    assert row["status"] == "absent" and word in row["reason"], row
    assert any(home.ns in line and word in line for line in log(home, "not_sharded")), log(home, "not_sharded")
    if how == "denied":  # and mended by itself
        router.may_shard = True
        home.control({"op": "reload"})
        until(lambda: home.ns in router.sharded, home.path / "logs", what="a sharded collection")


def test_a_router_that_hangs_holds_up_nothing(serve, on_router):
    """shardCollection gets no answer: the loads go on after the first try, and the database is never down for it."""
    router = serve(Router)
    home = on_router(router, 'shard = { key = "station"; };')
    router.shard_collection = lambda command: {"ok": 0.0, "code": 117, "codeName": "ConflictingOperationInProgress", "errmsg": "another one is at it"}
    home.up()
    home.drop("a.csv", ROWS)
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    assert "another one is at it" in doctor(home)[0]["reason"] and not log(home, "database_down")
    del router.shard_collection
    until(lambda: home.ns in router.sharded, home.path / "logs", what="a sharded collection")


def test_a_router_that_never_answers_holds_up_no_end(serve, on_router):
    """shardCollection hangs: batchmgr ends all the same, and before the command would give up."""
    router = serve(Router)
    home = on_router(router, 'shard = { key = "station"; };')
    hanging, go_on = threading.Event(), threading.Event()
    answer = router.answer

    def hang(name, command, documents):
        if name == "shardCollection":
            hanging.set()
            go_on.wait(60)
        return answer(name, command, documents)
    router.answer = hang
    home.up()
    assert hanging.wait(30)
    began = time.monotonic()
    home.down()
    took = time.monotonic() - began
    go_on.set()
    assert took < 8, took  # the command itself waits for ten
    assert home.pids("batchmgr") == []


@pytest.mark.slow
def test_a_dropped_collection_is_sharded_anew(serve, on_router):
    """Somebody drops it: what is looked at again is made again, so that the next rows do not lie on one shard."""
    router = serve(Router)
    home = on_router(router, 'shard = { key = "_id"; hashed = "_id"; };')
    home.up()
    until(lambda: home.ns in router.sharded, home.path / "logs", what="a sharded collection")
    with router.lock:
        del router.sharded[home.ns]
    until(lambda: home.ns in router.sharded, home.path / "logs", timeout=90, what="a collection that is sharded again")
