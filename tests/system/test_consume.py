"""Messages into MongoDB: libsimbdp's loop in C and Python, builtin:load and the output modes on streams."""
import json
import lzma
import os
import signal
import struct
import subprocess

import pytest
from bson import ObjectId
from harness import BUILD, RELEASE, ROOT, until
from wire import Peer

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
SCHEMA = {"format": "json", "columns": [{"name": "station", "type": "string", "required": True, "regex": "^[A-Z]{3}$"},
                                        {"name": "celsius", "type": "double", "min": -90.0, "max": 60.0, "as": "temperature.celsius"}]}
LIBRARY = RELEASE / "clientlib/libsimbdp.so.1"


@pytest.fixture
def stream(home, mongo):
    mongo.client.drop_database("acme")
    home.streams(("events", "max_deliveries = 3; lease_ms = 2000; max_messages_per_s = -1; max_bytes_per_s = -1L;"))
    home.broker()
    with Peer(home.endpoint) as p:
        home.peer, home.db = p, mongo.client.acme
        home.app_env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "events", "SIMBDP_TENANT_ID": "acme", "SIMBDP_APP": "consume",
                        "MONGO_URL": mongo.url, "MONGO_DATABASE": "acme", "SIMBDP_DATASET": "data", "SIMBDP_SCHEMA": json.dumps(SCHEMA), "OUT": str(home.base / "out"),
                        "SIMBDP_LIBRARY": str(LIBRARY), "PYTHONPATH": str(ROOT / "clientlib/python"), "SIMBDP_RESULT_FILE": str(home.base / "result.json")}
        yield home


def start(home, *command, **env):
    return subprocess.Popen(command, env={**home.app_env, **env}, stderr=subprocess.PIPE, text=True)


def load(home, *args, **env):
    return start(home, BUILD / "simbdp-load", "--stream", *args, **env)


def python(home, text, **env):
    return start(home, "/usr/bin/python3", "-c", "import os, signal, sys, simbdp\n" + text, **env)


def stop(p, code=0):
    if p.poll() is None:
        p.send_signal(signal.SIGTERM)
    err = p.communicate(timeout=60)[1]
    assert p.returncode == code, err
    return err


def settled(home, dead=None):
    def test():
        q = home.queue()
        return q["ready"] + q["leased"] == 0 and (dead is None or q["dead"] == dead)
    until(test, home.base, what=lambda: f"every message acknowledged or dead: {home.queue()} {str(dead_letters(home))[:1000]}")


def id_of(epoch, seq, row=0):
    return epoch + struct.pack(">Q", seq | row << 48)


def epoch_of(home):
    return home.peer.subscribe(STREAM, "consume", messages=0)[0]


def dead_letters(home):
    return {d["message"]: d["reason"] for d in home.rows("dead", "list", STREAM)}


# ---- builtin:load

def test_messages_are_checked_and_stored_under_their_sequence(stream):
    good = [json.dumps({"station": "OSL", "celsius": i / 20, "n": i}).encode() for i in range(1000)]
    several = b'[{"station":"AAA","celsius":1},{"station":"BBB","celsius":2}]'
    lines = b'{"station":"CCC","celsius":3}\n{"station":"DDD","celsius":4}\n'
    bad = {b'{"station":"OSL","celsius":99}': "celsius", b'{"station":"osl"}': "station", b'{"celsius":1}': "station", b"no json": "JSON", b"": "no rows",
           b'{"station":"OSL"}\n{"station":"?"}': "line 2", b'{"station":"\xff\xfe\xfd"}': "UTF-8"}
    p = load(stream)
    stream.peer.publish(STREAM, good)
    stream.peer.publish(STREAM, [several, lines, *bad])
    settled(stream, dead=len(bad))
    stop(p)
    assert stream.db.data.count_documents({}) == 1004
    epoch = epoch_of(stream)
    assert stream.db.data.find_one({"_id": id_of(epoch, 1)})["n"] == 0
    assert stream.db.data.find_one({"_id": id_of(epoch, 1000)})["temperature"] == {"celsius": 49.95}
    assert stream.db.data.find_one({"_id": id_of(epoch, 1001, 1)})["station"] == "BBB"
    assert stream.db.data.find_one({"_id": id_of(epoch, 1002, 1)}) == {"_id": id_of(epoch, 1002, 1), "station": "DDD", "temperature": {"celsius": 4.0}}
    for message, reason in dead_letters(stream).items():
        word = "UTF-8" if message is None else bad[message.encode()]
        assert word in reason, (message, reason)
    result = json.loads((stream.base / "result.json").read_text())
    assert (result["rows_parsed"], result["rows_loaded"], result["rows_rejected"]) == (1000 + 2 + len(bad), 1004, len(bad))


@pytest.mark.parametrize("message, rows", [
    (b"OSL,1.5", [("OSL", 1.5)]), (b"OSL,1.5\r\nTRD,2\r\n", [("OSL", 1.5), ("TRD", 2.0)]), (b"celsius,station\n3,OSL\n", [("OSL", 3.0)]),
    (b'"OSL",""', [("OSL", None)]), (b'{"station":"OSL","celsius":4}', [("OSL", 4.0)])])
def test_csv_messages(stream, message, rows):
    p = load(stream, SIMBDP_SCHEMA=json.dumps({**SCHEMA, "format": "csv"}))
    stream.peer.publish(STREAM, [message, b"OSL,hot", b"osl,1", b"OSL,1,2"])
    settled(stream, dead=3)
    stop(p)
    got = [(d["station"], d.get("temperature", {}).get("celsius")) for d in stream.db.data.find().sort("_id")]
    assert got == rows
    assert "'celsius'" in dead_letters(stream)["OSL,hot"] and "'station'" in dead_letters(stream)["osl,1"] and "cells" in dead_letters(stream)["OSL,1,2"]


def test_csv_without_columns_needs_a_header(stream):
    p = load(stream, SIMBDP_SCHEMA='{"format":"csv","csv":{"delimiter":";"}}')
    stream.peer.publish(STREAM, [b"a;b\n1;x\n", b"a;c\n2;2024-01-01T00:00:00Z\n3;\n", b"a;a\n1;2\n"])
    settled(stream, dead=1)
    assert "twice" in dead_letters(stream)["a;a\n1;2\n"]
    stop(p)
    assert [{k: v for k, v in d.items() if k != "_id"} for d in stream.db.data.find({"b": "x"})] == [{"a": 1, "b": "x"}]
    assert stream.db.data.count_documents({}) == 3


def test_keys_conflict_in_the_database(stream):
    schema = {**SCHEMA, "key": ["station"]}
    p = load(stream, SIMBDP_SCHEMA=json.dumps({**schema, "on_key_conflict": "reject"}))
    stream.peer.publish(STREAM, [b'{"station":"OSL","celsius":1}', b'{"station":"OSL","celsius":2}', b'{"station":"TRD"}'])
    settled(stream, dead=1)
    stop(p)
    assert "there already" in dead_letters(stream)['{"station":"OSL","celsius":2}']
    p = load(stream, SIMBDP_SCHEMA=json.dumps({**schema, "on_key_conflict": "keep"}))
    stream.peer.publish(STREAM, [b'{"station":"OSL","celsius":3}'])
    settled(stream, dead=1)
    stop(p)
    assert stream.db.data.count_documents({}) == 2 and stream.db.data.find_one({"station": "OSL"})["temperature"]["celsius"] == 1
    p = load(stream, SIMBDP_SCHEMA=json.dumps({**schema, "on_key_conflict": "replace"}))
    assert "not for streams" in stop_itself(p, 78)


def stop_itself(p, code):
    err = p.communicate(timeout=60)[1]
    assert p.returncode == code, err
    return err


def test_the_database_is_away_and_nothing_is_charged(stream, mongo):
    stream.peer.publish(STREAM, [b'{"station":"OSL"}'] * 50)
    p = load(stream, MONGO_URL="mongodb://127.0.0.1:1/")
    assert "simbdp-load:" in stop_itself(p, 75)
    assert stream.queue()["dead"] == 0
    p = load(stream)
    settled(stream, dead=0)
    stop(p)
    assert stream.db.data.count_documents({}) == 50


def test_a_loader_that_is_misconfigured_says_so(stream):
    for env, code, word in [({"SIMBDP_SCHEMA": "{"}, 78, "SIMBDP_SCHEMA"), ({"SIMBDP_APP": "nobody"}, 77, "nobody"), ({"SIMBDP_STREAM": "other"}, 77, "other"),
                            ({"MONGO_URL": "what"}, 78, "MONGO_URL"), ({"MONGO_DATABASE": ""}, 78, "MONGO_DATABASE"),
                            ({"ZMQ_STREAM_ENDPOINT": "nowhere"}, 78, "nowhere")]:
        assert word in stop_itself(load(stream, **env), code)


@pytest.mark.parametrize("point", ["drain_stored", "drain_acked", "load_insert"])
def test_killed_between_storing_and_acknowledging(stream, point):
    stream.peer.publish(STREAM, [json.dumps({"station": "OSL", "n": i}).encode() for i in range(3000)][:1000])
    p = load(stream, SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(stream.base / "once"))
    assert p.wait(60) == -signal.SIGKILL
    p = load(stream)
    settled(stream, dead=0)
    stop(p)
    assert sorted(d["n"] for d in stream.db.data.find()) == list(range(1000))


# ---- delivery

DELIVERIES = ("exactly_once", "at_least_once", "at_most_once")


def ids(*numbers):
    return [json.dumps({"station": "OSL", "n": i}).encode() for i in numbers]


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_delivery_and_a_loader_killed_after_it_stored(stream, delivery):
    stream.peer.publish(STREAM, ids(*range(100)))
    p = load(stream, SIMBDP_DELIVERY=delivery, SIMBDP_CRASH_AT="load_insert", SIMBDP_CRASH_ONCE=str(stream.base / "once"))
    assert p.wait(60) == -signal.SIGKILL
    p = load(stream, SIMBDP_DELIVERY=delivery)
    settled(stream, dead=0)
    stop(p)
    docs = list(stream.db.data.find())
    found = sorted(d["n"] for d in docs)
    if delivery == "exactly_once":
        assert found == list(range(100))
    elif delivery == "at_least_once":
        assert set(found) == set(range(100)) and len(found) > 100, "what was stored and not acknowledged is there twice"
    else:
        assert len(found) == len(set(found)) and found
    assert {type(d["_id"]) for d in docs} == {bytes if delivery == "exactly_once" else ObjectId}


KILLED = """
with simbdp.open() as run:
    for message in run.messages():
        if os.environ.get("DIE"):
            os.kill(os.getpid(), signal.SIGKILL)
        run.store({"n": message.json()["n"], "deliveries": message.deliveries})
        message.done()
"""


@pytest.mark.parametrize("delivery", DELIVERIES)
def test_delivery_and_an_app_killed_before_it_stored(stream, delivery):
    stream.peer.publish(STREAM, ids(0))
    assert python(stream, KILLED, DIE="1", SIMBDP_DELIVERY=delivery).wait(60) == -signal.SIGKILL
    stream.peer.publish(STREAM, ids(1, 2))
    p = python(stream, KILLED, SIMBDP_DELIVERY=delivery)
    settled(stream, dead=0)
    found = {d["n"]: d["deliveries"] for d in until(lambda: (lambda d: d if {1, 2} <= {x["n"] for x in d} else None)(list(stream.db.data.find())), stream.base, what="the rows")}
    assert found == ({1: 1, 2: 1} if delivery == "at_most_once" else {0: 2, 1: 1, 2: 1})
    p.kill()
    p.communicate()


def test_at_most_once_loses_nothing_when_it_is_told_to_stop(stream):
    for at in range(0, 20000, 500):
        stream.peer.publish(STREAM, ids(*range(at, at + 500)))
    while (before := stream.db.data.count_documents({})) < 12000:
        p = load(stream, SIMBDP_DELIVERY="at_most_once")
        until(lambda n=before: stream.db.data.count_documents({}) > n + 500, stream.base, every=0.01, what="some rows of its own")
        stop(p)
    p = load(stream, SIMBDP_DELIVERY="at_most_once")
    settled(stream, dead=0)
    stop(p)
    assert sorted(d["n"] for d in stream.db.data.find()) == list(range(20000))


def test_at_most_once_and_leases_that_ran_out(stream):
    """What a stopped consumer had on its way to it goes to another; it finds that out, and does not take it as well."""
    slow = """
with simbdp.open() as run:
    for message in run.messages():
        run.store({"n": message.json()["n"], "who": os.environ["WHO"]})
        message.done()
        if message.json()["n"] == 0:
            os.kill(os.getpid(), signal.SIGSTOP)
"""
    stopped = python(stream, slow, WHO="stopped", SIMBDP_DELIVERY="at_most_once")
    stream.peer.publish(STREAM, ids(0))
    until(lambda: open(f"/proc/{stopped.pid}/stat").read().rsplit(")", 1)[1].split()[0] == "T", stream.base, every=0.02, what="it stands still")
    stream.peer.publish(STREAM, ids(*range(1, 60)))
    other = python(stream, slow, WHO="other", SIMBDP_DELIVERY="at_most_once")
    settled(stream)
    stopped.send_signal(signal.SIGCONT)
    stream.peer.publish(STREAM, ids(*range(60, 100)))
    settled(stream)
    dead = {json.loads(d)["n"] for d in dead_letters(stream)}  # its lease ran out as often as max_deliveries says

    def found():
        return sorted([d["n"] for d in stream.db.data.find()] + list(dead))
    until(lambda: len(found()) >= 100, stream.base, what=lambda: f"all rows: {found()}")
    for p in (stopped, other):
        p.terminate()
        p.communicate(timeout=60)
    assert found() == list(range(100)), "nobody has what another has, or what is a dead letter"


@pytest.mark.parametrize("program", ("simbdp-load", "simbdp-pipe"))
def test_at_most_once_hands_a_command_nothing_twice(stream, program):
    out = stream.base / "seen"
    command = ["sh", "-c", f"tee -a {out} | grep -q bad && exit 3; exit 0"]
    stream.peer.publish(STREAM, [b"1", b"2", b"bad", b"4"])
    p = start(stream, BUILD / program, *(["--stream"] if program == "simbdp-load" else []), "--", *command, SIMBDP_DELIVERY="at_most_once")
    settled(stream, dead=0)
    until(lambda: out.exists() and len(out.read_text().split()) == 4, stream.base, what="all of them")
    err = stop(p)
    assert sorted(out.read_text().split()) == ["1", "2", "4", "bad"]
    assert "lost" in err and "exits with 3" in err or "ends with 3" in err, err


def test_a_delivery_that_is_none(stream):
    assert "at_most_once" in stop_itself(load(stream, SIMBDP_DELIVERY="twice"), 78)


# ---- output modes

def publish_numbers(home, n, bad=()):
    for at in range(0, n, 500):
        home.peer.publish(STREAM, [b"bad" if i in bad else str(i).encode() for i in range(at, min(at + 500, n))])


def test_a_line_for_each_message_is_its_row(stream):
    publish_numbers(stream, 2000)
    command = """echo x >>$OUT; while read -r n; do if [ $((n % 2)) = 0 ]; then echo "{\\"station\\":\\"OSL\\",\\"n\\":$n}"; else echo; fi; done"""
    p = load(stream, "--", "sh", "-c", command)
    settled(stream, dead=0)
    stop(p)
    assert {struct.unpack(">Q", d["_id"][16:])[0]: d["n"] for d in stream.db.data.find()} == {n + 1: n for n in range(0, 2000, 2)}
    assert len((stream.base / "out").read_text().split()) < 100, "it was started for many messages at once"


def test_a_command_that_prints_csv_with_a_header(stream):
    publish_numbers(stream, 300)
    p = load(stream, "--", "awk", 'BEGIN { print "station,n" } { print "OSL," $1 }', SIMBDP_SCHEMA="{}")
    settled(stream, dead=0)
    stop(p)
    assert sorted(d["n"] for d in stream.db.data.find()) == list(range(300))


def test_what_fails_is_tried_alone_and_dies_alone(stream):
    publish_numbers(stream, 200, bad=(50, 120))
    command = """while read -r n; do case $n in bad) exit 3;; 7) ;; 8) echo '{"station":"AAA"}'; echo '{"station":"BBB"}';; 9) echo nonsense;; 10) exit 65;;
                 *) echo '{"station":"OSL"}';; esac; done"""
    p = load(stream, "--", "sh", "-c", command)
    settled(stream, dead=4)
    stop(p)
    # 200, less two bad ones, 7 (no row), 9 (not JSON), 10 (refused); 8 has two rows
    assert stream.db.data.count_documents({}) == 200 - 5 + 1
    letters = stream.rows("dead", "list", STREAM)
    assert sorted((d["message"], d["deliveries"]) for d in letters) == [("10", 1), ("9", 1), ("bad", 3), ("bad", 3)]
    assert "exits with 3" in dead_letters(stream)["bad"] and "65" in dead_letters(stream)["10"]


def test_a_command_that_asks_for_patience_is_charged_nothing(stream):
    publish_numbers(stream, 10)
    p = load(stream, "--", "sh", "-c", "exit 75")
    stop_itself(p, 75)
    assert (stream.queue()["ready"], stream.queue()["dead"]) == (10, 0)
    assert "no-such-program" in stop_itself(load(stream, "--", "/no-such-program"), 1)
    assert (stream.queue()["ready"], stream.queue()["dead"]) == (10, 0)


def test_output_files(stream):
    publish_numbers(stream, 12)
    command = """read -r n; cd $SIMBDP_OUTPUT_DIR || exit 1; case $n in 3) exit 0;; 4) echo '{' >a.json;; *)
                 echo "{\\"station\\":\\"OSL\\",\\"n\\":$n}" >a.json; printf 'station,n\\nTRD,%s\\n' $n >b.csv; echo hidden >.c;; esac"""
    p = load(stream, "--output", "dir", "--", "sh", "-c", command, SIMBDP_SCHEMA="{}")
    settled(stream, dead=1)
    stop(p)
    assert sorted((d["n"], d["station"]) for d in stream.db.data.find()) == [(n, s) for n in range(12) if n not in (3, 4) for s in ("OSL", "TRD")]
    assert dead_letters(stream)["4"].startswith("a.json: line 1")


def test_a_slow_command_keeps_its_leases(stream):
    publish_numbers(stream, 3)
    p = load(stream, "--", "sh", "-c", "cat >/dev/null; tail -f /dev/null & sleeper=$!; (trap 'kill $sleeper' EXIT; timeout 5 tail -f /dev/null); echo; echo; echo")
    settled(stream, dead=0)
    stop(p)
    assert stream.queue()["redelivered"] == 0


# ---- libsimbdp

C_APP = r"""
#include "simbdp.h"
#include <signal.h>
#include <stdio.h>
#include <string.h>
static struct simbdp *run;
static void stop(int sig) { (void)sig; simbdp_stop(run); }
int main(int argc, char **argv)
{
    struct simbdp_message m = {.size = sizeof m};
    struct simbdp_result result = {.size = sizeof result};
    char error[SIMBDP_ERROR_BYTES];
    int n, r = simbdp_open(&run, error, sizeof error);
    if (r) { fprintf(stderr, "%s\n", error); return simbdp_exit_code(r); }
    signal(SIGTERM, stop);
    if (argc > 1)
        r = simbdp_ingest_stream(run, NULL, NULL);
    else
        while (r == 0 && (n = simbdp_next(run, -1, &m)) != 0) {
            if (n < 0) { r = n; break; }
            if (m.bytes == 3 && !memcmp(m.data, "bad", 3)) { simbdp_refuse(run, m.sequence, "I do not like it"); continue; }
            if (m.bytes == 5 && !memcmp(m.data, "later", 5) && m.deliveries < 3) { simbdp_retry(run, m.sequence, 50, "later"); continue; }
            for (int i = 0; r == 0 && i < 2; i++) {
                struct simbdp_row *row = simbdp_row_new(run);
                simbdp_row_set_string(row, "text", m.data, m.bytes);
                simbdp_row_set_int(row, "i", i);
                simbdp_row_set_datetime(row, "at", m.published_ms);
                r = simbdp_row_store(row);
            }
            if (r == 0)
                simbdp_done(run, m.sequence);
            if (simbdp_done(run, m.sequence) != SIMBDP_NOT_FOUND || simbdp_done(run, 1 << 30) != SIMBDP_NOT_FOUND)
                return 99;
        }
    int f = simbdp_finish(run, &result);
    if (r || f) fprintf(stderr, "%s\n", simbdp_error(run));
    else printf("%lld %lld %lld\n", (long long)result.rows_parsed, (long long)result.rows_loaded, (long long)result.rows_rejected), fflush(stdout);
    simbdp_close(run);
    return simbdp_exit_code(r ? r : f);
}
"""


@pytest.fixture(scope="module")
def c_app(tmp_path_factory):
    d = tmp_path_factory.mktemp("c_app")
    (d / "app.c").write_text(C_APP)
    subprocess.run(["cc", "-Wall", "-Werror", "-I", ROOT / "clientlib/include", "-o", d / "app", d / "app.c", LIBRARY, f"-Wl,-rpath,{LIBRARY.parent}"], check=True)
    return d / "app"


def test_the_loop_in_c(stream, c_app):
    p = start(stream, c_app)
    stream.peer.publish(STREAM, [b"bad" if i == 100 else b"later" if i == 200 else f"m{i}".encode() for i in range(500)])
    settled(stream, dead=1)
    stop(p)
    rows = list(stream.db.data.find())
    assert sorted((d["text"], d["i"]) for d in rows) == sorted((t, i) for t in ["later"] + [f"m{n}" for n in range(500) if n not in (100, 200)] for i in (0, 1))
    assert dead_letters(stream) == {"bad": "I do not like it"}
    epoch = epoch_of(stream)
    assert {d["_id"] for d in rows} == {id_of(epoch, n + 1, i) for n in range(500) if n != 100 for i in (0, 1)}


def test_one_call_in_c(stream, c_app):
    p = start(stream, c_app, "all")
    stream.peer.publish(STREAM, [b'{"station":"OSL","celsius":1}', b'{"station":"OSL","celsius":99}'])
    settled(stream, dead=1)
    stop(p)
    assert stream.db.data.count_documents({}) == 1


def test_the_loop_in_python(stream):
    p = python(stream, """
def work(run):
    held = []
    for m in run.messages():
        if m.text == "bad":
            m.refuse("no")
            continue
        run.store({"text": m.text, "deliveries": m.deliveries})
        held.append(m)
        if len(held) == 10:  # out of order, and several at once
            for x in reversed(held):
                x.done()
            held.clear()
simbdp.main(work)
""")
    stream.peer.publish(STREAM, [b"bad" if i == 5 else str(i).encode() for i in range(101)])
    settled(stream, dead=1)
    stop(p)
    assert sorted(int(d["text"]) for d in stream.db.data.find()) == [i for i in range(101) if i != 5]


def test_rows_in_python_and_an_exception(stream):
    p = python(stream, """
def row(doc):
    if doc["station"] == "NOT":
        raise simbdp.Reject("not this one")
    if doc["station"] == "SKP":
        return None
    if doc["station"] == "DIE" and not os.path.exists(os.environ["OUT"]):
        open(os.environ["OUT"], "w").close()
        raise RuntimeError("a mistake")
    doc["seen"] = True
    return doc
simbdp.main(lambda run: run.ingest_stream(row))
""")
    stream.peer.publish(STREAM, [b'{"station":"%s"}' % s for s in (b"OSL", b"NOT", b"SKP", b"DIE", b"TRD", b"low")])
    assert "a mistake" in stop_itself(p, 1)
    p = python(stream, "simbdp.main(lambda run: run.ingest_stream(lambda doc: {**doc, 'seen': True} if doc['station'] not in ('NOT', 'SKP') else None))")
    settled(stream)
    stop(p)
    assert {d["station"] for d in stream.db.data.find()} == {"OSL", "DIE", "TRD"} and stream.db.data.count_documents({"seen": True}) == 3


def test_publishing_from_an_app(stream):
    r = subprocess.run(["/usr/bin/python3", "-c", """
import simbdp
with simbdp.Publisher("events") as p:
    for i in range(20000):
        p.publish({"station": "OSL", "n": i} if i % 2 else '{"station":"OSL","n":%d}' % i)
    try:
        p.publish(b"x" * 100000)
    except simbdp.Error as e:
        print(e.exit_code, e)
print(p.confirmed if p._p else "closed")
try:
    with simbdp.Publisher("nothing") as p:
        p.publish("x")
except simbdp.Error as e:
    print(e.exit_code, e)
"""], env=stream.app_env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    out = r.stdout.splitlines()
    assert out[0].startswith("65") and "max_message_bytes" in out[0] and out[2].startswith("77") and "unknown" in out[2]
    p = load(stream)
    settled(stream, dead=0)
    stop(p)
    assert sorted(d["n"] for d in stream.db.data.find()) == list(range(20000))


FEED = {"pyzmq": """
from wire import Peer
with Peer(os.environ["ZMQ_STREAM_ENDPOINT"]) as p:
    for line in lines:
        p.publish(os.environ["SIMBDP_TENANT_ID"] + "/events", [line])
""", "libsimbdp": """
import simbdp
with simbdp.Publisher("events") as p:
    for line in lines:
        p.publish(line)
"""}


@pytest.mark.parametrize("network", ("platform", "none"))
@pytest.mark.parametrize("how", FEED)
def test_a_batch_app_publishes(home, how, network):
    home.profiles(rlimits="nofile = 256;", more=f'network = "{network}";')
    home.tenant(exec_="feed.py", tenant='streams = ( { name = "events"; } ); stream_apps = ( { app = "consume"; stream = "events"; } );')
    home.install("acme", "/dev/null", "feed.py").write_text(f"""#!/usr/bin/python3
import os, sys
os.environ["SIMBDP_LIBRARY"] = {str(LIBRARY)!r}
sys.path += [{str(ROOT / "tests/system")!r}, {str(ROOT / "clientlib/python")!r}]
lines = sys.stdin.buffer.read().splitlines()
{FEED[how]}""")
    home.up()
    home.drop("a.csv", "n\n1\n2\n")
    f = home.wait_file(file_name="a.csv")
    assert f["state"] == "ingested", (f, home.log_of(f["run_id"]))
    assert home.queue()["ready"] == 3


def test_a_batch_app_of_a_tenant_without_streams_has_no_endpoint(home):
    home.tenant(exec_="env.sh")
    home.install("acme", "/dev/null", "env.sh").write_text("#!/bin/sh\nenv\n")
    home.up()
    home.drop("a.csv", "n\n1\n")
    out = home.log_of(home.wait_file(file_name="a.csv")["run_id"])
    assert "ZMQ_MONITOR_ENDPOINT=" in out and "ZMQ_STREAM_ENDPOINT" not in out


def test_without_a_stream(mongo, tmp_path, home):
    env = {**os.environ, "MONGO_URL": mongo.url, "MONGO_DATABASE": "acme", "SIMBDP_LIBRARY": str(LIBRARY), "PYTHONPATH": str(ROOT / "clientlib/python")}
    for name in ("ZMQ_STREAM_ENDPOINT", "SIMBDP_STREAM"):
        env.pop(name, None)
    r = subprocess.run(["/usr/bin/python3", "-c", "import simbdp\nrun = simbdp.open()\ntry:\n    run.next(0)\nexcept simbdp.Error as e:\n    print(e.exit_code, e)"], env=env,
                       capture_output=True, text=True, timeout=60)
    assert r.stdout.startswith("78 ZMQ_STREAM_ENDPOINT is not set"), r.stdout + r.stderr


# ---- several writers of one collection

NUMBERS = [f'{{"n":{i}}}'.encode() for i in range(1, 11)]


def two_apps(home):
    home.streams("events", apps=("consume", "copy"))
    assert home.control({"op": "reload"}, "broker.sock")["ok"]


def numbers(home):
    return sorted(d["n"] for d in home.db.data.find())


@pytest.mark.parametrize("args", [(), ("--", "cat"), ("--output", "dir", "--", "sh", "-c", "cat >$SIMBDP_OUTPUT_DIR/a.json")], ids=["load", "stdout", "dir"])
def test_two_apps_store_one_stream_into_one_collection(stream, args):
    two_apps(stream)
    stream.peer.publish(STREAM, NUMBERS)
    for app in ("consume", "copy"):
        p = load(stream, *args, SIMBDP_SCHEMA="", SIMBDP_APP=app)
        until(lambda: (q := stream.queue(app))["ready"] + q["leased"] == 0, stream.base, what=f"{app} to store all")
        stop(p)
    assert numbers(stream) == sorted([*range(1, 11)] * 2)


def test_an_upgrade_stores_nothing_twice_and_parts_the_apps_from_then_on(home, mongo):
    """tests/data/broker-shared-epoch.seg.xz is of a broker whose subscriptions shared the stream's epoch: of 10 messages "consume" has
    acknowledged 4 and held 3 more, which are stored, too."""
    mongo.client.drop_database("acme")
    home.db = mongo.client.acme
    home.streams("events", apps=("consume", "copy"))
    (home.path / "state/broker").mkdir()
    (home.path / "state/broker/0000000000000001.seg").write_bytes(lzma.decompress((ROOT / "tests/data/broker-shared-epoch.seg.xz").read_bytes()))
    old = bytes.fromhex("16629ceb7a5b1581b8c35e2859865271")
    home.db.data.insert_many([{"_id": id_of(old, n), "n": n} for n in range(1, 8)])
    home.broker()
    home.app_env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "acme/events", "MONGO_URL": mongo.url, "MONGO_DATABASE": "acme", "SIMBDP_DATASET": "data"}
    with Peer(home.endpoint) as home.peer:
        p = load(home, SIMBDP_APP="consume")
        settled(home, dead=0)
        assert numbers(home) == list(range(1, 11)), "what was stored before and is delivered again is known"
        home.stop_broker(kill=True)
        home.broker()
        home.peer.publish(STREAM, NUMBERS, 5, 11)  # the loader goes on: the messages' epoch is another one
        settled(home, dead=0)
        assert numbers(home) == sorted([*range(1, 11)] * 2)
        stop(p)
        p = load(home, SIMBDP_APP="copy")
        until(lambda: (q := home.queue("copy"))["ready"] + q["leased"] == 0, home.base, what="the copy")
        stop(p)
    # what was published before had one _id for both apps, and keeps it
    assert numbers(home) == sorted([*range(1, 11)] * 3)
