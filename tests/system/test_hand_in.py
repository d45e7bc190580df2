"""What the gateway may ask of the other programs: files handed in, and the rest for one tenant at a time."""
import contextlib
import json
import os
import pathlib
import sqlite3
import stat
import subprocess
import time

import pytest
from gateway import Gateway, connect, new_id
from harness import FINAL, IS_ROOT, change, until
from wire import Peer

pytestmark = pytest.mark.once

ROW = "a,b\n1,2\n"
DAY_MS = 86400000


@pytest.fixture
def home(make_home):
    return make_home(platform="rescan_ms = 200;")


@pytest.fixture
def gateway(home):
    """Of a home that is up, with a tenant acme and one called other."""
    home.tenant()
    home.tenant("other")
    home.up()
    with Gateway(home) as g:
        yield g


def keys(home):
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db")) as db:
        return db.execute("SELECT tenant, key, file_id FROM hand_ins ORDER BY tenant, key").fetchall()


def log(home, event):
    return [e for line in (home.path / "logs/batchmgr.log").read_text().splitlines() if (e := json.loads(line))["event"] == event]


# ---- files

def test_a_file_is_handed_in_and_is_the_platforms_from_the_answer_on(home, gateway):
    assert gateway.check(size=8) == {"ok": True, "max_bytes": None}
    spool = gateway.put(ROW)
    answer = gateway.ask(gateway.request(spool, ROW, "été.csv"))
    assert answer == {"ok": True, "file_id": answer["file_id"], "again": False}
    f = home.wait_file(file_id=answer["file_id"])
    assert (f["state"], f["file_name"], f["rows_loaded"], f["size_bytes"]) == ("ingested", "été.csv", 1, 8)
    assert gateway.spooled() == [] and home.count() == 1
    (e,) = log(home, "handed_in")
    assert e["tenant"] == "acme" and e["msg"].endswith("8 bytes, by ann") and f["file_id"] in e["msg"]
    s = gateway.spool.stat()
    assert (s.st_uid, stat.S_IMODE(s.st_mode)) == (gateway.uid, 0o700)
    if IS_ROOT:
        (kept,) = (home.path / "done/acme/data" / f["file_id"]).iterdir()
        assert kept.stat().st_uid != gateway.uid and stat.S_IMODE(kept.stat().st_mode) == 0o440


def test_app_and_force_come_along(home):
    home.tenant(apps='{ app = "one"; exec = "builtin:load"; pattern = "one*"; }, { app = "two"; exec = "builtin:load"; pattern = "two*"; }')
    home.up()
    with Gateway(home) as g:
        first = g.hand_in(ROW, "one.csv")["file_id"]
        home.wait_file(file_id=first)
        assert home.wait_file(file_id=g.hand_in(ROW, "x.csv", app="two")["file_id"])["state"] == "duplicate"
        forced = home.wait_file(file_id=g.hand_in(ROW, "x.csv", app="two", force=True)["file_id"])
        assert forced["state"] == "ingested" and home.count() == 1
        assert [r["app"] for r in home.rows("runs") if r["run_id"] == forced["run_id"]] == ["two"]


REFUSED = [
    ("not_found", {"tenant_id": "nobody"}, {}),
    ("not_found", {"tenant_id": "acme/../other"}, {}),
    ("no_dataset", {"dataset": "none"}, {}),
    ("no_app", {"app": "none"}, {}),
    ("name", {"name": ""}, {}),
    ("name", {"name": ".."}, {}),
    ("name", {"name": "a/b.csv"}, {}),
    ("name", {"name": "n" * 252 + ".csv"}, {}),
    ("name", {"name": "a\nb.csv"}, {}),
    ("name", {"name": "a\x7fb.csv"}, {}),
    ("format", {"name": "a.txt"}, {}),
    ("format", {"name": "a.json"}, {}),
    ("formats", {"name": "a.csv"}, {"dataset_limits": 'formats = ("json");'}),
    ("no_app", {"name": "a.csv"}, {"batch": 'pattern = "b*";'}),
    ("max_file_bytes", {"size": 8}, {"limits": "max_file_bytes = 7;"}),
    ("max_bytes_per_day", {"size": 8}, {"dataset_limits": "max_bytes_per_day = 7;"}),
    ("max_files_per_day", {}, {"limits": "max_files_per_day = 0;"}),
    ("max_files_in_staging", {}, {"limits": "max_files_in_staging = 0;"}),
]


@pytest.mark.parametrize("code, request_, tenant", REFUSED, ids=[f"{c}-{i}" for i, (c, *_) in enumerate(REFUSED)])
def test_what_would_be_refused_is_refused_before_the_first_byte_and_when_it_is_handed_in(home, code, request_, tenant):
    home.tenant(**tenant)
    home.up()
    with Gateway(home) as g:
        checked = g.check(**request_)
        spool = g.put(ROW)
        handed_in = g.ask({**g.request(spool, ROW), **request_})
        for answer in (checked, handed_in):
            assert (answer["ok"], answer["code"]) == (False, code) and answer["error"], answer
            assert answer.get("retry_after_s", 0) == (5 if code == "max_files_in_staging" else 0)
        assert g.spooled() == [spool], "it is the gateway's still"
    assert home.files() == [], "nothing is kept of it"


def test_how_much_may_come_and_when_again(home):
    home.tenant(limits="max_file_bytes = 100; max_bytes_per_day = 108;", dataset_limits="max_files_per_day = 2;")
    home.up()
    with Gateway(home) as g:
        assert g.check()["max_bytes"] == 100
        home.wait_file(file_id=g.hand_in(ROW, "one.csv")["file_id"])
        assert g.check()["max_bytes"] == 100
        home.wait_file(file_id=g.hand_in("a,b\n3,4\n", "two.csv")["file_id"])
        files = g.check()
        assert files["code"] == "max_files_per_day" and 0 < files["retry_after_s"] <= 86401
    home.tenant(limits="max_file_bytes = 100; max_bytes_per_day = 108;")
    assert home.reload()["ok"]
    with Gateway(home) as g:
        assert g.check()["max_bytes"] == 92
        late = g.check(size=93)
        assert late["code"] == "max_bytes_per_day" and 0 < late["retry_after_s"] <= 86401
        assert g.check(size=92)["ok"]


def test_suspended_and_draining(home):
    home.tenant(exec_="misbehave")
    home.profiles(grace_s=3)
    home.up()
    with Gateway(home) as g:
        home.cli("tenant", "suspend", "acme")
        assert (g.check()["code"], g.hand_in(ROW)["code"]) == ("suspended", "suspended")
        home.cli("tenant", "resume", "acme")
        assert g.check()["ok"]
        g.hand_in("do,arg\ndeaf,\n", "slow.csv")
        home.wait_running()
        with connect(home, "batchmgr.sock") as s:
            s.sendall(b'{"op":"drain"}\n')
            answer = until(lambda: (lambda a: a if not a["ok"] else None)(g.check()), home.path / "logs", every=0.01, what="the drain")
            assert answer["code"] == "draining" and answer["retry_after_s"] > 0


@pytest.mark.needs_root
def test_a_low_disk(home):
    staging = home.mount_tmpfs("staging", "24m")
    (staging / ".incoming").mkdir(mode=0o700)
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("min_free_bytes = 0L", "min_free_bytes = 16777216L"))
    home.tenant()
    home.up()
    with Gateway(home) as g:
        (staging / "filler").write_bytes(b"x" * (12 << 20))
        answer = until(lambda: (lambda a: a if not a["ok"] else None)(g.check()), staging, what="the pause")
        assert answer["code"] == "disk_low" and answer["retry_after_s"] > 0
        (staging / "filler").unlink()
        until(lambda: g.check()["ok"], staging, what="room again")
        f = home.wait_file(file_id=g.hand_in(ROW)["file_id"])  # from another file system: it was copied
        assert f["state"] == "ingested" and g.spooled() == []


# ---- the spool

def test_what_is_not_a_whole_file_of_the_gateways_is_not_taken(home, gateway):
    secret = home.base / "secret.csv"
    secret.write_text(ROW)
    secret.chmod(0o666)
    ids = {what: new_id() for what in ("missing", "link", "dangling", "hard", "directory", "fifo", "socket", "writer", "size", "foreign")}
    gateway.do(f"os.symlink({str(secret)!r}, at({ids['link']!r})); os.symlink('nowhere', at({ids['dangling']!r})); os.mkdir(at({ids['directory']!r}))")
    gateway.do(f"os.mkfifo(at({ids['fifo']!r})); put({ids['hard']!r}, {ROW!r}); os.link(at({ids['hard']!r}), at('second')); put({ids['size']!r}, 'a,b\\n1,22\\n')")
    gateway.do(f"put({ids['writer']!r}, {ROW!r}); kept.append(open(at({ids['writer']!r}), 'a'))")
    gateway.do(f"s = socket.socket(socket.AF_UNIX); os.chdir(spool); s.bind({ids['socket']!r}); os.chdir('/')")
    if IS_ROOT:
        (gateway.spool / ids["foreign"]).write_text(ROW)
    bad = [*ids.values(), "", ".", "..", "second", "../acme/data/x.csv", "A" * 26, "a" * 25, "0" * 27, f"{ids['size']}/", str(secret)]
    before = gateway.spooled()
    for name in bad:
        answer = gateway.ask(gateway.request(name, ROW))
        assert (answer["ok"], answer["code"]) == (False, "spool"), (name, answer)
    assert gateway.spooled() == before and home.files() == [] and keys(home) == []
    gateway.do("kept.pop().close()")
    assert gateway.ask(gateway.request(ids["writer"], ROW))["ok"], "nobody writes to it any more"
    for size in (-1, None):
        assert gateway.ask({**gateway.request(gateway.put(ROW), ROW), "size": size})["code"] == "usage"


def test_two_of_one_name_at_once_are_one_file(home, gateway):
    spool = gateway.put(ROW)
    request = gateway.request(spool, ROW)
    third, first, second = gateway.ask_all(request, request, {**request, "idempotency_key": "another"})  # what is refused is answered first
    assert not first["again"] and second == {**first, "again": True}
    assert third["code"] == "spool" and "already" in third["error"]
    assert home.wait_file(file_id=first["file_id"])["state"] == "ingested" and len(home.files()) == 1
    assert gateway.ask(request) == second, "once it is claimed, too"
    assert gateway.ask({**request, "name": "g.csv"})["code"] == "spool", "another file of that name is a mistake"


def test_a_name_that_one_tenant_handed_in_is_not_anothers(home, gateway):
    spool = gateway.put(ROW)
    request = gateway.request(spool, ROW)
    second, first = gateway.ask_all(request, {**request, "tenant_id": "other"})
    assert first["ok"] and second["code"] == "spool"
    assert home.wait_file(file_id=first["file_id"])["tenant_id"] == "acme" and len(home.files()) == 1


def test_old_leftovers_are_swept_and_nothing_in_the_spool_is_taken_for_dropped(home, gateway):
    ago = time.time() - 3700
    young, old, tree = gateway.put(ROW), gateway.put(ROW), new_id()
    gateway.put(ROW, "plain.csv")
    gateway.do(f"os.makedirs(at({tree!r}) + '/a/b'); open(at({tree!r}) + '/a/b/c', 'w').close(); os.symlink('/', at('link'))")
    gateway.do("".join(f"os.utime(at({name!r}), ({ago}, {ago}), follow_symlinks=False)\n" for name in (old, tree, "link")))
    until(lambda: gateway.spooled() == sorted([young, "plain.csv"]), gateway.spool, what="the sweep")
    home.drop("other.csv", ROW)
    home.wait_file(file_name="other.csv")
    gateway.do(f"os.utime(at({young!r}), ({ago}, {ago}))")
    until(lambda: gateway.spooled() == ["plain.csv"], gateway.spool, what="another sweep")
    assert [f["file_name"] for f in home.files()] == ["other.csv"]
    home.down()
    gateway.do(f"os.utime(at('plain.csv'), ({ago}, {ago}))")
    gateway.put(ROW, "new.csv")
    home.up()
    until(lambda: gateway.spooled() == ["new.csv"], gateway.spool, what="the sweep at the start")


def test_a_spool_of_thousands_is_swept_and_holds_nobody_up(home, gateway):
    ago = time.time() - 3700
    gateway.do(f"for i in range(5000):\n    os.close(os.open(at(str(i)), os.O_CREAT)); os.utime(at(str(i)), ({ago}, {ago}))")
    until(lambda: gateway.spooled() == [], gateway.spool, what="the sweep")
    assert home.wait_file(file_id=gateway.hand_in(ROW)["file_id"])["state"] == "ingested"


# ---- idempotency keys

def test_the_same_key_again_is_the_same_file(home, gateway):
    first = gateway.hand_in(ROW, idempotency_key="k 1")
    again = gateway.hand_in(ROW, idempotency_key="k 1")
    assert again == {**first, "again": True} and not first["again"]
    until(lambda: gateway.spooled() == [], gateway.spool, what="both to be gone")
    for more in ({"name": "g.csv"}, {"dataset": "more"}):
        assert gateway.hand_in(ROW, **{"idempotency_key": "k 1", **more})["code"] == "idempotency_key"
    assert gateway.hand_in(ROW + "3,4\n", idempotency_key="k 1")["code"] == "idempotency_key"
    assert len(gateway.spooled()) == 3, "what was refused is the gateway's"
    other = gateway.hand_in(ROW, idempotency_key="k 1", tenant_id="other")
    assert other["ok"] and not other["again"], "a key is a tenant's own"
    home.wait_file(file_id=first["file_id"])
    home.wait_file(file_id=other["file_id"])
    home.kill_batchmgr()
    assert gateway.hand_in(ROW, idempotency_key="k 1") == again, "over a restart, too"
    assert len(home.files()) == 2 and {(t, k) for t, k, _ in keys(home)} == {("acme", "kk 1"), ("other", "kk 1")}
    for bad in ("", "k" * 256):
        assert gateway.hand_in(ROW, idempotency_key=bad)["code"] == "idempotency_key"
    assert gateway.hand_in(ROW, idempotency_key="k" * 255)["ok"]


def test_a_key_that_is_being_committed_is_known_already(home, gateway):
    names = [gateway.put(ROW) for _ in range(8)]
    answers = gateway.ask_all(*[gateway.request(n, ROW, idempotency_key="k") for n in names])
    assert len({a["file_id"] for a in answers}) == 1 and [a["again"] for a in answers] == [False] + [True] * 7
    home.wait_file(file_id=answers[0]["file_id"])
    assert gateway.spooled() == [] and len(home.files()) == 1


def test_keys_are_forgotten_after_a_day_and_with_their_tenant(home, gateway):
    first = gateway.hand_in(ROW, idempotency_key="k")
    gateway.hand_in(ROW, idempotency_key="k", tenant_id="other")
    home.wait_files(2)
    home.down()
    with change(home.path / "state/ledger.db") as db:
        db.execute(f"UPDATE hand_ins SET at=at-{DAY_MS + 1000} WHERE tenant='acme'")
    home.up()
    second = gateway.hand_in(ROW, idempotency_key="k")
    assert not second["again"] and second["file_id"] != first["file_id"]
    home.wait_file(file_id=second["file_id"])
    home.down()
    with change(home.path / "state/ledger.db") as db:
        db.execute(f"UPDATE hand_ins SET at=at-{DAY_MS + 1000} WHERE tenant='acme'")
    home.up()
    until(lambda: [k[0] for k in keys(home)] == ["other"], home.path / "state", what="the rows to be pruned")
    home.cli("tenant", "remove", "other", "--purge")
    assert keys(home) == []


def test_a_ledger_of_version_5_is_brought_up_to_date(home):
    home.tenant()
    home.up()
    home.drop("old.csv", ROW)
    before = home.wait_file(file_name="old.csv")
    home.down()
    with change(home.path / "state/ledger.db") as db:
        db.execute("DROP TABLE hand_ins")
        db.execute("ALTER TABLE files DROP COLUMN trace")
        db.execute("UPDATE meta SET value='5' WHERE key='schema_version'")
    home.up()
    with Gateway(home) as g:
        f = home.wait_file(file_id=g.hand_in("a,b\n3,4\n", "new.csv")["file_id"])
        assert f["state"] == "ingested" and home.files(file_name="old.csv") == [before] and len(keys(home)) == 1


# ---- delete, retry, run, stop

def test_delete_takes_the_bytes_of_what_was_refused_and_leaves_the_row(home, gateway):
    home.drop("bad.txt", "x")
    home.drop("good.csv", ROW)
    bad, good = home.wait_file(file_name="bad.txt"), home.wait_file(file_name="good.csv")
    place = home.path / "quarantine/acme/data" / bad["file_id"]
    until(place.exists, home.path / "quarantine", what="the filing")
    delete = {"op": "delete", "tenant_id": "acme", "file_id": bad["file_id"]}
    assert gateway.ask({**delete, "tenant_id": "other"})["code"] == "not_found" and place.exists()
    assert gateway.ask({**delete, "file_id": new_id()})["code"] == "not_found"
    assert gateway.ask({**delete, "file_id": good["file_id"]})["code"] == "state"
    assert until(lambda: gateway.ask(delete), home.path / "state") == {"ok": True}
    assert not place.exists() and gateway.ask(delete) == {"ok": True}, "once more is no harm"
    assert home.files(file_id=bad["file_id"]) == [bad]
    assert gateway.ask({"op": "retry", "tenant_id": "acme", "file_id": bad["file_id"]})["code"] == "state"
    assert home.cli("verify").returncode == 0


def test_what_is_on_its_way_cannot_be_deleted(home):
    home.tenant(batch='trigger = "manual";')
    home.up()
    with Gateway(home) as g:
        f = g.hand_in(ROW)["file_id"]
        home.wait_files(1, lambda f: f["reason"] == "trigger")
        answer = g.ask({"op": "delete", "tenant_id": "acme", "file_id": f})
        assert answer["code"] == "state" and "queued" in answer["error"]


def test_retry_run_and_stop_are_for_ones_own(home):
    for name in ("acme", "other"):
        home.tenant(name, apps='{ app = "run"; exec = "misbehave"; pattern = "run*"; retry = { attempts = 1; }; }, '
                               '{ app = "held"; exec = "builtin:load"; pattern = "held*"; trigger = "manual"; }')
    home.up()
    with Gateway(home) as g:
        def order(op, tenant="acme", **more):
            return g.ask({"op": op, "tenant_id": tenant, **more})
        home.do("exit,5", name="run1.csv")
        home.do("exit,5", name="run2.csv")
        failed = home.wait_file(file_name="run1.csv")["file_id"]
        home.wait_file(file_name="run2.csv")
        assert order("retry", "other", file_id=failed)["code"] == "not_found"
        assert order("retry", "other") == {"ok": True, "n": 0, "more": False}
        assert order("retry", file_id=failed) == {"ok": True}
        until(lambda: len(home.rows("runs")) == 3, home.path / "state", what="the run once more")
        until(lambda: order("retry")["n"] == 2, home.path / "state", what="both to be taken up")
        home.do(f"gate,{home.base}/gate", name="run3.csv")
        (held,) = home.wait_files(1, lambda f: (f["file_name"], f["state"]) == ("run3.csv", "running")) and home.files(file_name="run3.csv")
        (run,) = [r for r in home.rows("runs") if r["run_id"] == held["run_id"]]
        assert order("stop", "other", run_id=run["run_id"])["code"] == "not_found"
        assert order("stop", run_id=new_id())["code"] == "not_found"
        assert order("stop", run_id=run["run_id"]) == {"ok": True}
        assert home.wait_file(file_name="run3.csv")["reason"] == "stopped"
        g.hand_in(ROW, "held.csv")
        home.wait_files(1, lambda f: f["reason"] == "trigger")
        assert order("run", "other", app="held") == {"ok": True, "n": 0, "more": False}
        assert order("run", app="none")["code"] == "no_app"
        assert order("run", app="held")["n"] == 1
        assert home.wait_file(file_name="held.csv")["state"] == "ingested"
        for op in ("retry", "run", "stop", "delete", "hand_in", "upload_check"):
            assert g.ask({"op": op, "file_id": failed, "run_id": run["run_id"], "app": "held"})["code"] == "usage", op
            assert order(op, "nobody", file_id=failed, run_id=run["run_id"], app="held")["code"] == "not_found", op
        assert [t["tenant_id"] for t in order("status")["tenants"]] == ["acme"] and order("status", "nobody")["code"] == "not_found"
        assert {t["tenant_id"] for t in g.ask({"op": "status"})["tenants"]} == {"acme", "other"}


# ---- the sockets

VERBS = {
    "batchmgr": {"status", "upload_check", "hand_in", "delete", "retry", "stop", "run"},
    "streammgr": {"status", "instances", "start", "stop", "scale"},
    "broker": {"status", "streams", "dead", "dead_replay", "dead_drop"},
    "monitor": {"status", "board", "past"},
}
OTHERS = ("reload", "drain", "suspend", "resume", "purge", "accept_database", "trust_clock", "upload_begin", "upload_commit", "upload_abort", "tenants", "forget", "account",
          "watch", "consumers", "apps", "queues", "", "STATUS", "streams ")


def test_the_gateways_sockets_have_its_verbs_whoever_comes(home, gateway):
    everything = sorted(set().union(*VERBS.values(), OTHERS))
    for program, verbs in VERBS.items():
        asked = [{"op": op, "tenant_id": "nobody"} for op in everything]
        answers = gateway.ask_all(*asked, program=program)
        with connect(home, f"{program}.gateway.sock") as s:
            s.sendall(b"".join(json.dumps(r).encode() + b"\n" for r in asked))
            lines = s.makefile()
            of_provider = [json.loads(lines.readline()) for _ in asked]
        for both in (answers, of_provider):
            assert {r["op"] for r, a in zip(asked, both) if a.get("code") != "forbidden"} == verbs, program
    path = home.runtime() / "batchmgr.gateway.sock"
    assert (path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) == ((gateway.uid, 0o660) if IS_ROOT else (os.getegid(), 0o600))
    home.down()
    assert home.remains() == []


@pytest.mark.needs_root
def test_the_providers_sockets_are_closed_to_the_gateway(home, gateway):
    for name in ("batchmgr.sock", "streammgr.sock", "broker.sock", "monitor.sock", "up.sock"):
        with pytest.raises(RuntimeError, match="PermissionError"):
            gateway.do(f"value = ask({name!r}, {{'op': 'status'}})")
    for uid in (gateway.uid - 3, gateway.uid + 1, 65534):  # and its own to anybody else
        r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c",
                            "import socket,sys; socket.socket(socket.AF_UNIX).connect(sys.argv[1])", str(home.runtime() / "batchmgr.gateway.sock")], capture_output=True, text=True)
        assert "PermissionError" in r.stderr


def test_a_guest_has_so_many_connections(home, gateway):
    gateway.do("kept += [connect('batchmgr.gateway.sock') for _ in range(256)]")
    assert gateway.do("kept[255].sendall(b'{\"op\":\"status\"}\\n'); value = answers(kept[255], 1)")[0]["ok"]
    assert gateway.do("s = connect('batchmgr.gateway.sock'); value = len(s.recv(1))") == 0, "one more is closed"
    assert home.control({"op": "status"})["ok"]
    gateway.do("for s in kept: s.close()\nkept.clear()")
    until(lambda: gateway.ask({"op": "status"}), home.path / "state", what="room")


def test_who_does_not_read_its_answers_is_not_asked_further(home, gateway):
    n = gateway.do("""
s = connect("batchmgr.gateway.sock")
s.settimeout(2)
line = b'{"op":"status"}\\n'
value = 0
try:
    while value < 64 << 20:
        value += s.send(line * 4096)
except socket.timeout:
    pass
kept.append(s)
""")
    assert n < 8 << 20, "what is not read is not answered for ever"
    assert home.control({"op": "status"})["ok"]
    whole = n // len('{"op":"status"}\n')
    assert gateway.do(f"kept[0].settimeout(60); value = sum(a['ok'] for a in answers(kept[0], {whole}))") == whole, "and all is answered once it is"


# ---- the other programs

def test_streammgr_starts_stops_and_scales_for_the_gateway_as_for_a_person(home):
    for name in ("acme", "other"):
        home.tenant(name, tenant='streams = ( { name = "s"; } ); stream_apps = ( { app = "load"; exec = "builtin:load"; stream = "s"; dataset = "data"; max_instances = 2; }, '
                                 '{ app = "own"; stream = "s"; } );')
    home.up()
    with Gateway(home) as g:
        def order(op, tenant="acme", **more):
            return g.ask({"op": op, "tenant_id": tenant, **more}, program="streammgr")

        def app():
            return next(a for a in order("instances")["apps"] if a["app"] == "load")
        assert len(order("instances")["apps"]) == 1 and [order("instances", t, app=a)["code"] for t, a in (("nobody", "load"), ("acme", "none"))] == ["not_found"] * 2
        assert g.ask({"op": "instances"}, program="streammgr")["code"] == "usage" and g.ask({"op": "status"}, program="streammgr")["broker"] == "up"
        started = until(lambda: (lambda a: a if a["run_id"] else None)(order("start", app="load")), home.path / "state", what="an instance")
        assert started == {"ok": True, "tenant_id": "acme", "app": "load", "run_id": started["run_id"], "reason": None}
        assert order("stop", "other", run_id=started["run_id"])["code"] == "not_found"
        assert [order("start", app=a)["code"] for a in ("none", "own")] == ["not_found", "not_managed"]
        assert order("scale", app="load", count=2, pin=True) == {"ok": True, "tenant_id": "acme", "app": "load"}
        assert order("scale", app="load", count=3, pin=True)["code"] == "agreement"
        assert app()["pinned"] and order("scale", app="load", count=2, by="monitor", seq=1 << 60, epoch=5, expires_ms=1)["ok"], "only the monitor's orders have numbers"
        assert order("scale", app="load", pin=False)["ok"] and not app()["pinned"]
        assert order("stop", app="load") == {"ok": True} and order("scale", app="load", count=1)["code"] == "app_stopped"
        assert order("stop", run_id=new_id())["code"] == "not_found"
        for op in ("start", "stop", "scale"):
            assert g.ask({"op": op, "app": "load", "count": 1}, program="streammgr")["code"] == "usage"
            assert order(op, "nobody", app="load", count=1)["code"] == "not_found"


@pytest.fixture
def streams(home):
    home.streams(("events", "max_messages_per_s = 1000000; max_deliveries = 1;"))
    home.streams("events", name="other")
    home.up()
    with Gateway(home) as g:
        yield g


def test_the_broker_tells_the_gateway_of_queues_and_dead_letters(home, streams):
    def order(op, tenant="acme", **more):
        return streams.ask({"op": op, "tenant_id": tenant, **more}, program="broker")
    with Peer(home.endpoint) as p:
        p.publish("acme/events", [f"m{i}".encode() for i in range(130)])
        p.subscribe("acme/events", "consume")
        messages = []
        while len(messages) < 130:
            messages += p.take()
        p.settle(6, messages, b"\xff\xff\xff\xff", b"bad")  # NACK, never
    assert [(s["stream"], s["dead_letters"]) for s in order("streams")["streams"]] == [("events", 130)] and order("streams", "nobody")["code"] == "not_found"
    first = order("dead", stream="events", app="consume")
    assert len(first["dead"]) == 100 and first["more"] and first["dead"][0]["message"] == "m0"
    rest = order("dead", stream="events", app="consume", after=first["dead"][-1]["seq"], limit=1000)
    assert len(rest["dead"]) == 30 and not rest["more"]
    assert order("dead", "other") == {"ok": True, "dead": [], "more": False, "next": None}
    seq = rest["dead"][0]["seq"]
    assert order("dead_drop", "other", stream="events", seq=seq)["code"] == "not_found"
    assert order("dead_drop", stream="none")["code"] == "not_found"
    assert order("dead_drop", stream="events", seq=seq) == {"ok": True, "n": 1, "more": False}
    assert order("dead_replay", stream="events") == {"ok": True, "n": 129, "more": False}
    assert order("dead_replay", stream="events", seq=seq)["code"] == "not_found"
    for op in ("streams", "dead", "dead_replay", "dead_drop"):
        assert streams.ask({"op": op, "stream": "events"}, program="broker")["code"] == "usage"
        assert order(op, "nobody", stream="events")["code"] == "not_found"


def test_the_monitor_tells_the_gateway_what_it_shows(home, streams):
    def ask(**rq):
        return streams.ask(rq, program="monitor")
    assert ask(op="status")["ok"]
    assert {r["tenant_id"] for r in ask(op="board", tenant_id="acme")["rows"]} == {"acme"}
    assert {r["tenant_id"] for r in ask(op="board")["rows"]} == {"acme", "other"}
    assert ask(op="board", tenant_id="nobody")["code"] == "not_found"
    assert ask(op="past", tenant_id="nobody", app="a")["code"] == ask(op="past", tenant_id="acme", app="nobody")["code"] == "not_found"


PUBLISH = """
from wire import Peer, Refused
import struct
def tried(f, *args):
    try:
        return f(*args)
    except Refused as e:
        return [e.code, e.retry_after_ms > 0]
with Peer({endpoint!r}) as p:
    value = [{calls}]
"""


def publish(g, *calls):
    """What each call of a Peer with the gateway's uid gave."""
    return g.do(PUBLISH.format(endpoint=g.home.endpoint, calls=", ".join(f"tried({c})" for c in calls)))


@pytest.mark.needs_root
def test_the_gateway_publishes_for_tenants_and_does_nothing_else(home, streams):
    got = publish(streams, "p.publish, 'acme/events', [b'a', b'b']", "p.publish, 'other/events', [b'c'], 7, 1", "p.publish, 'other/events', [b'c'], 7, 1",
                  "p.publish, 'events', [b'x']", "p.publish, 'nobody/events', [b'x']", "p.subscribe, 'acme/events', 'consume'")
    assert got[:3] == [[1, 2, 0], [1, 1, 0], [0, 0, 1]] and got[3:] == [["unknown", False], ["unknown", False], ["auth", False]]
    assert [home.queue(tenant=t)["ready"] for t in ("acme", "other")] == [2, 1] and [home.queue(tenant=t)["consumers"] for t in ("acme", "other")] == [0, 0]
    codes = streams.do(f"""
import struct
from wire import *
value, one = [], struct.pack("<QQ", 1, 1)
with Peer({home.endpoint!r}) as p:
    for verb, frames in ((UNSUBSCRIBE, []), (ACK, [one]), (NACK, [one, bytes(4), b""]), (EXTEND, [one])):
        p.send(header(verb, 1, 9), *frames)
        try:
            p.answer(9)
        except Refused as e:
            value.append(e.code)
    p.send(header(8, 0, 10), b"acme/events")
    value.append(p.answer(10)[0])
""")
    assert codes == ["auth"] * 4 + [70], "DESCRIBE is answered"


@pytest.mark.needs_root
def test_what_the_gateway_publishes_counts_for_the_tenant(home):
    """Rates, quotas, suspension and breaches are the tenant's, and nobody else's."""
    home.streams(("events", 'max_messages_per_s = 10; burst_ms = 1000; on_breach = "suspend"; breaches = 3; breach_window_s = 60; max_message_bytes = 8;'))
    home.streams("events", name="other")
    home.up()
    with Gateway(home) as g:
        assert publish(g, "p.publish, 'acme/events', [b'x'] * 10", "p.publish, 'acme/events', [b'x'] * 5") == [[1, 10, 0], ["rate", True]]
        with Peer(home.endpoint) as p, pytest.raises(Exception, match="rate"):
            p.publish("acme/events", [b"x"] * 10)
        assert publish(g, "p.publish, 'acme/events', [b'123456789']", "p.publish, 'acme/events', [b'x']", "p.publish, 'other/events', [b'x']") == \
            [["size", False], ["suspended", False], [1, 1, 0]], "the third breach cut it off"
        assert home.queue()["state"] == "cut_off" and home.queue()["refused"] >= 3
        home.cli("tenant", "suspend", "other")
        assert publish(g, "p.publish, 'other/events', [b'x']") == [["suspended", False]]


@pytest.mark.needs_root
def test_the_monitor_takes_no_reports_of_the_gateway(home, streams):
    """Its uid is no tenant's there."""
    assert pathlib.Path(home.runtime() / "monitor.ipc").exists()
    streams.do("s = connect('monitor.ipc'); kept.append(s)")
    assert streams.do("value = len(kept[0].recv(1))") == 0
