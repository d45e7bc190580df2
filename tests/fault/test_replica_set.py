"""Rows into replica sets and sharded clusters: elections, and each error that the drivers' specifications say to try again, once."""
import itertools
import json
import os
import subprocess
import threading

import bson
import pytest

from harness import BUILD, Home, until
from replica_set import NOT_PRIMARY, Replicas
from scripted import CLOSE, Scripted
from test_load import ROWS, load

pytestmark = pytest.mark.anyone
N = 20000
# specifications/source/retryable-writes/retryable-writes.md: "RetryableWriteError Labels"; retryable-reads adds 134.
SPECIFIED = [11600, 11602, 10107, 13435, 13436, 189, 91, 7, 6, 89, 9001, 262, 134]
ROUTERS = [63, 133, 150, 13388, 202, 50]


@pytest.fixture
def serve():
    made = []

    def make(script=None):
        made.append(Replicas(script))
        return made[-1]
    yield make
    for m in made:
        m.stop()


def all_rows(replicas):
    return [sorted(d["n"] for d in m.documents.values()) == list(range(N)) for m in replicas.members] == [True] * 3


def test_an_election_at_every_command(tmp_path, serve):
    """The old primary has stored half of what it does not acknowledge, and it is rolled back; or all of it is there, and nobody hears."""
    turn = itertools.count()

    def script(replicas, command, documents):
        kind = next(turn) % 6
        if kind == 0:
            replicas.keep(documents[::2])
            replicas.elect(replicas.next())
            return CLOSE
        if kind == 1:
            replicas.keep(documents)
            replicas.elect(replicas.next())
            return NOT_PRIMARY
        if kind == 2:
            replicas.primary.insert(documents)
            replicas.elect(replicas.next())
            return CLOSE
        if kind == 3:
            replicas.keep(documents)
            return {"ok": 1.0, "n": len(documents), "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}
    replicas = serve(script)
    code, result, rejects, err = load(tmp_path, replicas, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_rows(replicas) and replicas.term > 3


def test_an_election_that_takes_its_time(tmp_path, serve):
    """Eleven seconds without a primary, as it is where a machine fails: the driver waits five between two looks, the load for all of it."""
    def script(replicas, command, documents):
        if replicas.term == 1:
            after = replicas.next()
            replicas.elect(None)
            t = threading.Timer(11, replicas.elect, [after])
            t.daemon = True
            t.start()
            return NOT_PRIMARY
    replicas = serve(script)
    code, result, rejects, err = load(tmp_path, replicas, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_rows(replicas)


@pytest.mark.parametrize("code", SPECIFIED + ROUTERS)
def test_each_error_that_passes(tmp_path, serve, code):
    """Of the whole command; of the write concern; of some rows, as a router says it of a shard that it does not reach."""
    answers = [{"ok": 0.0, "code": code, "errmsg": "it passes"},
               {"ok": 1.0, "n": 0, "writeConcernError": {"code": code, "errmsg": "it passes"}},
               {"ok": 1.0, "n": 1, "writeErrors": [{"index": 1, "code": code, "errmsg": "it passes"}, {"index": 3, "code": code, "errmsg": "it passes"}]}]
    seen = []

    def script(replicas, command, documents):
        seen.append(len(documents))
        if len(seen) <= len(answers):
            replicas.keep(documents[:1])
            return answers[len(seen) - 1]
    replicas = serve(script)
    r = load(tmp_path, replicas, ROWS)
    assert (r[0], r[1]["rows_loaded"], r[2]) == (0, N, []), r[3]
    assert len(seen) > 3 and all_rows(replicas)


def test_an_error_that_the_server_says_to_try_again(tmp_path, serve):
    seen = []

    def script(replicas, command, documents):
        seen.append(1)
        return {"ok": 0.0, "code": 424242, "errmsg": "of a later version", "errorLabels": ["RetryableWriteError"]} if len(seen) < 3 else None
    replicas = serve(script)
    code, result, _, err = load(tmp_path, replicas, ROWS)
    assert (code, result["rows_loaded"]) == (0, N), err
    replicas = serve(lambda *_: {"ok": 0.0, "code": 424242, "errmsg": "of a later version"})
    code, result, _, err = load(tmp_path, replicas, ROWS)
    assert code == 1 and "of a later version" in result["error"]


@pytest.mark.parametrize("options", ["", "&w=majority&retryWrites=true", "&w=1", "&w=0", "&w=2&wtimeoutMS=1&journal=false", "&readPreference=secondary&readConcernLevel=local"])
def test_a_url_has_no_say_in_what_is_acknowledged(tmp_path, serve, options):
    """Every insert says majority, once: a server does not take a field twice. What is looked up is looked up at the primary."""
    concerns = []

    def script(replicas, command, documents):
        concerns.append(command["writeConcern"])
        if len(concerns) == 2:
            replicas.primary.insert(documents)
            return {"ok": 1.0, "n": len(documents) - 5, "writeErrors": [{"index": i, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: simbdp_unique_n dup key: { : 1 }"} for i in range(5)]}
    replicas = serve(script)
    replicas.url += options
    code, result, rejects, err = load(tmp_path, replicas, ROWS, '{"key":["n"]}')
    assert (code, rejects) == (0, []), err
    assert concerns and all(c == {"w": "majority", "j": True} for c in concerns)
    assert all(set(m.concerns) <= {0, 1} for m in replicas.members) and 1 in replicas.primary.concerns
    assert "find" in replicas.members[0].commands and not any("find" in m.commands for m in replicas.members[1:])


def test_a_server_that_says_less_than_it_was_sent(tmp_path, serve):
    """ok, and no error, but not all rows: they are sent again; a server that goes on so is one that does not serve us."""
    seen = []

    def script(replicas, command, documents):
        seen.append(1)
        if len(seen) < 4:
            replicas.keep(documents[1:])
            return {"ok": 1.0, "n": len(documents) - 1}
    replicas = serve(script)
    code, result, rejects, err = load(tmp_path, replicas, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, N, []), err
    assert all_rows(replicas)


def run_load(url, *args, **env):
    return subprocess.run([BUILD / "simbdp-load", *args], env={**os.environ, "MONGO_URL": url, "MONGOC_DISABLE_SHM": "1", **env}, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("options", ["", "&w=1&readPreference=secondary"])
def test_what_is_purged_is_dropped_by_a_majority(tmp_path, serve, options):
    """A secondary may not know of a collection yet, and a drop that one member did an election takes back."""
    replicas = serve()
    drops = []
    for m in replicas.members:
        m.replies["listCollections"] = {"ok": 1.0, "cursor": {"id": bson.Int64(0), "ns": "x.$cmd.listCollections", "firstBatch": [{"name": n, "type": "collection"} for n in ("a", "b")]}}
        m.answer = lambda name, command, documents, answer=m.answer: (name == "drop" and drops.append(command), answer(name, command, documents))[1]
    (tmp_path / "job.json").write_text(json.dumps({"v": 2, "tenant": "acme", "database": "x", "drop_all": True}))
    r = run_load(replicas.url + options, "--home", tmp_path, SIMBDP_LOAD_JOB=str(tmp_path / "job.json"))
    assert r.returncode == 0, r.stderr
    assert [d["drop"] for d in drops] == ["a", "b"] and all(d["writeConcern"] == {"w": "majority", "j": True} for d in drops), drops
    assert not any("listCollections" in m.commands for m in replicas.members[1:])


@pytest.mark.parametrize("create, drop, may", [(None, None, True), (51003, None, True), (None, 11, True), (51003, 11, True), (13, None, False), (None, 13, False)])
def test_doctors_probe_beside_another(create, drop, may):
    """The user that it tries with is there already: of a doctor that was killed, or of one that runs now."""
    server = Scripted()
    for verb, code in (("createUser", create), ("dropUser", drop)):
        server.replies[verb] = {"ok": 0.0, "code": code, "errmsg": "no"} if code else {"ok": 1.0}
    r = run_load(server.url, "--probe")
    server.stop()
    assert json.loads(r.stdout)["may_create_users"] is may and r.returncode == 0, r.stdout


# ---- a home that has its documents there

@pytest.fixture
def home(serve):
    replicas = serve()
    h = Home()
    h.replicas = replicas
    for m in replicas.members:
        m.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
    h.env["MONGO_URL"] = replicas.url + "&w=majority"
    h.tenant()
    yield h
    h.cleanup()


def status(home):
    return home.control({"op": "status"})["database"]


def test_a_home_over_elections(home):
    """Files that come while there is no primary wait for one, whoever it is; none is charged for it, and no row is there twice."""
    home.up()
    home.drop("a.csv", "n\n1\n2\n")
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    after = home.replicas.next()
    home.replicas.elect(None)
    until(lambda: status(home) == "down", home.path / "logs", what="a database that is down")
    for i in range(5):
        home.drop(f"b{i}.csv", f"n\n{i + 10}\n")
    until(lambda: len(home.files()) == 6, home.path / "logs", what="files that wait")
    home.replicas.elect(after)
    files = home.wait_files(6)
    assert [(f["state"], f["rows_loaded"]) for f in files if f["file_name"] != "a.csv"] == [("ingested", 1)] * 5, files
    assert all(f["attempts"] == 1 for f in files), files
    for m in home.replicas.members:
        assert sorted(d["n"] for d in m.documents.values()) == [1, 2, 10, 11, 12, 13, 14]


def test_the_primary_changes_under_running_loads(home):
    def script(replicas, command, documents):
        if len(documents) > 100 and replicas.term < 4:
            replicas.keep(documents[::3])
            replicas.elect(replicas.next())
            return CLOSE
    for m in home.replicas.members:
        m.script = lambda command, documents, m=m: script(home.replicas, command, documents) if home.replicas.primary is m else NOT_PRIMARY
    home.up()
    home.drop("a.csv", ROWS)
    f = home.wait_file(file_name="a.csv")
    assert (f["state"], f["rows_loaded"], f["attempts"]) == ("ingested", N, 1), f
    assert home.replicas.term == 4 and all_rows(home.replicas)
