"""mysimbdp backup and restore: what is known at a backup's point is known to the restored home, whatever runs, dies or fills meanwhile."""
import contextlib
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import sqlite3
import struct
import subprocess
import tarfile
import threading
import time

import pytest
from harness import FINAL, IS_ROOT, ROOT, until
from wire import Peer, bodies, peer

POINTS = re.findall(r"^\s+X\((\w+)\)", (ROOT / "lib/base/crash.h").read_text(), re.M)
BACKUP_POINTS = [p for p in POINTS if p.startswith("backup_")]
RESTORE_POINTS = [p for p in POINTS if p.startswith("restore_")]


def at(home):
    """Where its backups go."""
    return home.base / "backup"


def backup(home, *args, where=None, **kw):
    r = home.cli("backup", where or at(home), "--json", *args, **kw)
    return json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else r


def points(home, where=None):
    return [p["point"] for p in home.rows("backup", where or at(home), "--list")]


def sound(home, *args, where=None):
    r = home.cli("backup", where or at(home), "--verify", *args, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "can be restored" in r.stdout


@pytest.fixture
def restore(make_home):
    """Restores a home's backup as another home, of the same MongoDB."""
    def make(home, *args, where=None, data=None):
        other = make_home()
        shutil.rmtree(other.path)
        other.db_of = home.db_of
        r = subprocess.run([*other.as_user, other.program("mysimbdp"), "restore", str(where or at(home)), str(other.path), "--json", *map(str, args)],
                           env=other.env, capture_output=True, timeout=120, input=data)
        assert r.returncode == 0, r.stderr.decode()
        other.restored = json.loads(r.stdout)
        return other
    return make


def gone(home):
    """The first one is no more: killed as by a power cut, and its place empty."""
    if home.up_process:
        os.killpg(home.up_process.pid, signal.SIGKILL)
        home.up_process.wait()
        home.up_process.stdout.close()
        home.up_process = None
        for name in ("batchmgr", "streammgr", "broker", "monitor", "desk", "simbdp-run", "simbdp-load", "simbdp-inspect", "simbdp-warden", "simbdp-keeper", "simbdp-relay"):
            for pid in home.pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        until(lambda: not home.pids("simbdp-"), home.base, what="the end of all its programs")
    home.path.rename(home.base / "was")


def both(home):
    """A tenant with files, and with a stream whose messages are rows of the same collection."""
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    (home.path / "conf/tenants/acme.conf").write_text(f'''database = "{home.db_of["acme"]}"; concurrency = 4;
datasets = ( {{ name = "data"; format = "csv"; collection = "data"; }}, {{ name = "rows"; format = "json"; collection = "rows"; }} );
batch = ( {{ app = "app"; exec = "builtin:load"; datasets = ("data"); retry = {{ attempts = 3; backoff_ms = 20; max_backoff_ms = 100; }}; }} );
streams = ( {{ name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; }} );
stream_apps = ( {{ stream = "events"; app = "store"; exec = "builtin:load"; dataset = "rows"; }} );
''')
    (home.path / "apps/acme").mkdir()


def drained(home):
    q = home.queue("store")
    return q["ready"] + q["leased"] == 0


class Flow(threading.Thread):
    """Files as fast as they are taken, and messages, until it is stopped; what was confirmed when."""

    def __init__(self, home):
        super().__init__()
        self.home, self.ended, self.files, self.messages, self.failed = home, threading.Event(), [], [], None

    def run(self):
        try:
            with Peer(self.home.endpoint) as p:
                i = 0
                while not self.ended.wait(0.1):
                    p.publish("acme/events", [json.dumps({"n": i * 20 + k}).encode() for k in range(20)])
                    self.messages.append((time.time(), [i * 20 + k for k in range(20)]))
                    if len(os.listdir(self.home.path / "work")) < 8:
                        self.home.drop(f"f{i}.csv", f"v\n{i}\n")
                        self.files.append((time.time(), f"f{i}.csv", i))
                    i += 1
        except Exception as e:  # noqa: BLE001
            self.failed = e

    def stop(self):
        self.ended.set()
        self.join()
        assert not self.failed, self.failed


def seconds(point):
    return time.mktime(time.strptime(point["at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(point["at"][19:-1])


def test_a_home_is_restored_that_ran_on_meanwhile(home, restore, mongo):
    both(home)
    home.up()
    flow = Flow(home)
    flow.start()
    until(lambda: len(home.files(state="ingested")) > 10, home.path / "state", what="ten files")
    backup(home)
    until(lambda: len(flow.files) > 30, home.path / "state", what="more of them")
    known = {f["file_id"]: f["state"] for f in home.files()}
    second = backup(home)
    since = len(flow.files)
    until(lambda: len(flow.files) > since + 10, home.path / "state", what="more of them")
    flow.stop()
    sound(home)
    gone(home)
    confirmed = {n for when, ns in flow.messages if when < seconds(second) for n in ns}
    other = restore(home)
    assert other.restored["files_later"] is None and other.restored["point"] == second["point"]
    assert other.restored["uid_base"] is None or not IS_ROOT or json.loads((home.base / "was/state/uids.json").read_text())["uid_base"] == other.restored["uid_base"]
    other.up()
    restored = {f["file_id"] for f in other.files()}
    assert set(known) <= restored, "every file that was known before the point"
    until(lambda: all(f["state"] in FINAL for f in other.files()), other.path / "state", what="the end of all files")
    assert {f["state"] for f in other.files()} == {"ingested"}
    until(lambda: drained(other), other.base, what="an empty queue")
    rows = mongo.client[home.db_of["acme"]].rows
    stored = [d["n"] for d in rows.find()]
    assert len(stored) == len(set(stored)), "no message twice"
    assert confirmed <= set(stored), "each that was confirmed before the point"
    missing = [n for _, ns in flow.messages for n in ns if n not in set(stored)]
    with peer(other) as p:
        for i in range(0, len(missing), 500):
            p.publish("acme/events", [json.dumps({"n": n}).encode() for n in missing[i:i + 500]])
        p.publish("acme/events", [b'{"n": -1}'])
    names = {f["file_name"] for f in other.files()}
    for _, name, i in flow.files:
        if name not in names:
            other.drop(name, f"v\n{i}\n")
    other.wait_files(len(flow.files))
    until(lambda: rows.count_documents({"n": -1}) == 1 and drained(other), other.base, what="the last message")
    assert sorted(d["v"] for d in other.docs()) == [i for _, _, i in flow.files], "rows of files neither lost nor doubled"
    assert sorted(d["n"] for d in rows.find()) == [-1, *sorted(n for _, ns in flow.messages for n in ns)]
    assert "store_damaged" not in (other.path / "logs/broker.log").read_text()
    assert "new_epochs" in (other.path / "logs/broker.log").read_text()
    r = other.cli("verify", check=False)
    assert r.returncode == 0 or re.findall(r"^(?!bytes missing|not comparable|\d+ files of).+", r.stdout, re.M) == [], r.stdout


def test_beside_the_original_it_has_other_uids_and_is_told_what_came_after(home, restore):
    home.tenant()
    home.tenant("beta")
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    point = backup(home, "--files")
    home.drop("b.csv", "v\n2\n")
    home.drop("c.txt", "v\n2\n")
    home.wait_files(3)
    other = restore(home)
    assert (other.restored["files_later"], other.restored["files_later_ingested"]) == (2, 1)
    assert other.restored["point"] == point["point"] and other.restored["home"] == str(home.path)
    said = json.loads((other.path / "state/restored.json").read_text())
    assert said["point"] == point["point"]
    if IS_ROOT:
        def uids(h):
            return {t["tenant_id"]: t["uid"] for t in h.rows("tenant", "list")}
        assert not set(uids(other).values()) & set(uids(home).values())
        done = next((other.path / "done/acme/data").glob("*/a.csv"))
        assert done.stat().st_gid == uids(other)["acme"] and done.stat().st_mode & 0o7777 == 0o440
    home.down()
    other.up()
    assert [f["file_name"] for f in other.files()] == ["a.csv"]
    found = [json.loads(line) for line in other.cli("verify", "--json").stdout.splitlines()]
    assert [(f["found"], f["path"].split(" are ")[0]) for f in found] == [("not comparable", f"1 documents in {home.db_of['acme']}.data")], found
    assert point["at"] in found[0]["path"]
    said = f"was restored at {time.strftime('%Y-')}"
    assert point["at"] in other.cli("status").stdout and said in other.cli("status").stdout and str(home.path) in other.cli("status").stdout
    assert json.loads(other.cli("status", "--json").stdout)["restored"]["point"] == point["point"]
    assert said in other.up_process.stdout.readline(), "`up` says so behind its first line"
    other.cli("restored", "--seen")
    assert "was restored" not in other.cli("status").stdout and "restored" not in json.loads(other.cli("status", "--json").stdout)
    assert "nothing is to be said" in other.cli("restored", "--seen").stdout
    assert json.loads(other.cli("verify", "--json").stdout.splitlines()[0])["found"] == "not comparable", "`verify` knows it all the same"
    other.drop("a.csv", "v\n1\n")
    other.drop("b.csv", "v\n2\n")
    assert [f["state"] for f in other.wait_files(3)] == ["ingested", "duplicate", "ingested"]
    assert sorted(d["v"] for d in other.docs()) == [1, 2]


def test_what_is_under_way_goes_on_where_it_was_restored(home, restore):
    """Files that wait, run, or are held; their bytes are in it, and nothing is stored twice."""
    home.tenant(apps='{ app = "held"; exec = "builtin:load"; pattern = "held*"; trigger = "manual"; }, { app = "slow"; exec = "misbehave"; pattern = "slow*"; }, '
                     '{ app = "cat"; exec = "/bin/cat"; pattern = "*"; output = "stdout"; }')
    home.up()
    home.drop("held.csv", "v\n1\n2\n")
    home.drop("slow.csv", "do,arg\nhang,\n")
    home.drop("cat.csv", "v\n3\n")
    home.wait_file(file_name="cat.csv")
    home.wait_running()
    until(lambda: home.files(file_name="held.csv")[0]["reason"] == "trigger", home.path / "state", what="held.csv")
    backup(home)
    gone(home)
    other = restore(home)
    other.up()
    assert {f["file_name"] for f in other.files()} == {"held.csv", "slow.csv", "cat.csv"}
    other.cli("run", "acme/held")
    assert other.wait_file(file_name="held.csv")["rows_loaded"] == 2
    other.wait_running()
    run = other.files(file_name="slow.csv")[0]
    assert run["state"] == "running" and run["attempts"] <= 1
    other.cli("stop", run["run_id"])
    assert sorted(d["v"] for d in other.docs()) == [1, 2, 3]
    other.wait_file(file_name="slow.csv")
    assert sorted(r["outcome"] for r in other.rows("runs", "--file", run["file_id"])) == ["killed", "lost"]


def test_files_that_are_deleted_once_they_are_ingested(home, restore):
    """Their bytes are gone by the time they are looked for: the ledger is copied again, and says that they are done."""
    home.tenant(tenant='retention = { on_success = "delete"; };')
    home.up()
    stop, dropped = threading.Event(), []

    def flood():  # as fast as they are ingested
        while not stop.wait(0.02):
            if len(os.listdir(home.path / "work")) < 6:
                dropped.append(home.drop(f"{len(dropped)}.csv", f"v\n{len(dropped)}\n"))
    t = threading.Thread(target=flood)
    t.start()
    try:
        until(lambda: len(home.files(state="ingested")) > 10, home.path / "state", what="ten files")
        taken = [backup(home) for _ in range(3)]
    finally:
        stop.set()
        t.join()
    home.wait_files(len(dropped))
    gone(home)
    for point in taken:
        assert point["notes"] == []
    other = restore(home)
    other.up()
    until(lambda: all(f["state"] in FINAL for f in other.files()), other.path / "state", what="the end of all files")
    assert {f["state"] for f in other.files()} == {"ingested"}
    assert sorted(d["v"] for d in other.docs()) == list(range(len(dropped)))


def test_the_log_of_a_broker_whose_segments_come_and_go(home, restore):
    """Each backup's log is whole, whatever was given back, used again or written to while it was read, and has all that was confirmed."""
    home.streams(("events", "max_messages_per_s = -1; max_bytes_per_s = -1L; max_stored_bytes = 1000000000L;"))
    home.broker()
    stop, numbers = threading.Event(), []

    def flow():
        with peer(home) as p:
            p.subscribe("acme/events", "consume", messages=200, size=1 << 24)
            while not stop.is_set():
                p.publish("acme/events", [b"%08d" % (len(numbers) * 50 + i) + os.urandom(4000) for i in range(50)])
                numbers.append(len(numbers))
                if len(numbers) > 10:
                    p.ack(p.take(50))
    t = threading.Thread(target=flow)
    t.start()
    try:
        taken = []
        while len(taken) < 12:
            until(lambda n=len(numbers): len(numbers) > n + 3, home.path / "state/broker", what="messages")
            n = len(numbers)
            taken.append((n, backup(home)))
    finally:
        stop.set()
        t.join()
    home.stop_broker()
    first = min(int(p.stem, 16) for p in (home.path / "state/broker").glob("*.seg"))
    assert first > 3, "segments were given back meanwhile"
    for n, point in (taken[0], taken[5], taken[-1]):
        assert point["notes"] == []
        sound(home, "--point", point["point"])
        other = restore(home, "--point", point["point"])
        other.broker()
        log = (other.base / "broker.err").read_text()
        assert "store_damaged" not in log and "messages_lost" not in log, log
        q = other.queue()
        with peer(other) as p:
            p.subscribe("acme/events", "consume", messages=100000, size=1 << 28)
            got = {int(m.body[:8]) for m in p.take(q["ready"])}
        assert max(got) >= n * 50 - 1, "all that was confirmed"
        assert got == set(range(min(got), max(got) + 1)), "without a gap"
        other.stop_broker()


# ---- killed

@pytest.mark.parametrize("point", BACKUP_POINTS)
def test_a_backup_that_is_killed_is_none(home, restore, point):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    once = home.base / "once"
    # The last piece, too: the second time, what is new is one of few.
    env = {"SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(once)}
    first = backup(home)["point"]
    assert points(home) == [first]
    home.drop("b.csv", "v\n2\n")
    home.wait_file(file_name="b.csv")
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "backup", at(home), "--keep", "1"], env={**home.env, **env}, capture_output=True, timeout=120)
    assert r.returncode == -signal.SIGKILL and once.exists(), f"{point} was never reached"
    left = points(home)
    assert left and all((p == first) or point in ("backup_done", "backup_drop", "backup_sweep") for p in left)
    for p in left:
        sound(home, "--point", p)
    r = backup(home, "--keep", "1")
    assert points(home) == [r["point"]] and not (at(home) / "unfinished").exists()
    sound(home)
    used = {p.relative_to(at(home) / "objects") for p in (at(home) / "objects").glob("*/*")}
    fresh = home.base / "other"
    backup(home, where=fresh)
    assert len(used) <= len(list((fresh / "objects").glob("*/*"))) + 8, "nothing is left that no point needs"
    home.down()
    assert [f["file_name"] for f in restore(home).files()] == ["a.csv", "b.csv"]


def test_pieces_that_a_power_cut_took_are_written_again(home):
    home.tenant()
    home.up()
    once = home.base / "once"
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "backup", at(home)], capture_output=True,
                       env={**home.env, "SIMBDP_CRASH_AT": "backup_point", "SIMBDP_CRASH_ONCE": str(once)}, timeout=120)
    assert r.returncode == -signal.SIGKILL and (at(home) / "unfinished").exists()
    for i, path in enumerate(sorted((at(home) / "objects").glob("*/*"))):
        data = path.read_bytes()
        path.write_bytes([b"", data[:-1], bytes(len(data)), data][i % 4])
    backup(home)
    sound(home)


@pytest.mark.parametrize("point", RESTORE_POINTS)
def test_a_restore_that_is_killed_is_no_home_and_is_repeated(home, make_home, point):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    backup(home, "--files")
    home.down()
    home.path.rename(home.base / "was")
    other = make_home()
    shutil.rmtree(other.path)
    other.db_of = home.db_of
    once = home.base / "once"
    env = {**other.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(once)}
    r = subprocess.run([*other.as_user, other.program("mysimbdp"), "restore", at(home), other.path], env=env, capture_output=True, timeout=120)
    assert r.returncode == -signal.SIGKILL and once.exists()
    r = other.cli("up", check=False)
    assert r.returncode == 1 and "is not a home" in r.stderr, r.stderr
    assert other.cli("restore", at(home), other.path).stdout
    other.up()
    assert [f["file_name"] for f in other.files()] == ["a.csv"]
    assert other.cli("verify", check=False).returncode == 0
    assert not (other.path / ".restoring").exists() and not (other.path / ".restore").exists()
    r = other.cli("restore", at(home), other.path, check=False)
    assert r.returncode == 1 and "is not empty" in r.stderr


# ---- as a stream

def stream(home, *args):
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "backup", "-", *args], env=home.env, capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout, r.stderr.decode()


def test_a_backup_as_a_stream(home, restore):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    data, said = stream(home, "--files")
    assert "files and directories" in said
    names = tarfile.open(fileobj=io.BytesIO(data)).getnames()
    assert names[0] == "backup.json" and names[-1].startswith("points/") and len(set(names)) == len(names)
    home.down()
    other = restore(home, where="-", data=data)
    assert [f["file_name"] for f in other.files()] == ["a.csv"] and len(list(other.path.glob("done/acme/data/*/a.csv"))) == 1
    assert not (other.path / ".restore").exists()


@pytest.mark.parametrize("cut", ["empty", "half", "point", "noise", "other"])
def test_a_stream_that_was_cut_restores_nothing(home, cut):
    home.tenant()
    data, _ = stream(home)
    tar = tarfile.open(fileobj=io.BytesIO(data))
    end = tar.getmembers()[-1]
    bad = {"empty": b"", "half": data[:len(data) // 2], "point": data[:end.offset], "noise": os.urandom(100000),
           "other": data[:end.offset_data] + data[end.offset_data:].replace(b'"bytes":', b'"bytez":', 1)}[cut]
    to = home.base / "new"
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "restore", "-", to], env=home.env, input=bad, capture_output=True, timeout=60)
    assert r.returncode == 1 and re.search(b"no whole backup|damaged", r.stderr), r.stderr
    assert not (to / "state/home.json").exists()
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "restore", "-", to], env=home.env, input=data, capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr


# ---- refused

def test_where_a_backup_may_not_be(home, make_home):
    home.tenant()
    for name, mode in (("open", 0o755), ("group", 0o750)):
        (home.base / name).mkdir()
        (home.base / name).chmod(mode)
        r = backup(home, where=home.base / name, check=False)
        assert r.returncode == 1 and "chmod 0700" in r.stderr, r.stderr
    full = home.base / "full"
    full.mkdir(mode=0o700)
    (full / "x").touch()
    r = backup(home, where=full, check=False)
    assert r.returncode == 1 and "neither empty nor a backup" in r.stderr
    for where in (home.path / "backup", home.path / "state/x", home.path):
        r = backup(home, where=where, check=False)
        assert r.returncode == 1 and "lies in the home itself" in r.stderr, (where, r.stderr)
    backup(home)
    r = backup(make_home(), where=at(home), check=False)
    assert r.returncode == 1 and f"has backups of {home.path}" in r.stderr
    for path in [at(home), *at(home).rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    for args in (("--list", "--verify"), ("--keep", "0"), ("--keep", "x"), ("--rate", "0"), ("--list", "--files"), ("--point", "x")):
        assert home.cli("backup", at(home), *args, check=False).returncode == 2, args
    assert home.cli("backup", "-", "--keep", "1", check=False).returncode == 2
    r = home.cli("backup", at(home), "--verify", "--point", "20200101T000000.000Z", check=False)
    assert r.returncode == 1 and "has no point" in r.stderr
    r = home.cli("restore", home.base / "nothing", home.base / "new", check=False)
    assert r.returncode == 1 and not (home.base / "new").exists()


def test_two_at_once(home):
    """One works; the other says so, and changes nothing."""
    home.tenant()
    backup(home)
    (home.path / "apps/acme/large").write_bytes(os.urandom(8 << 20))
    slow = subprocess.Popen([*home.as_user, home.program("mysimbdp"), "backup", at(home), "--rate", "1M"], env=home.env, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: (at(home) / "unfinished").exists(), at(home), what="the first one")
        r = backup(home, check=False)
        assert r.returncode == 1 and "another backup" in r.stderr
        r = home.cli("restore", at(home), home.base / "new", check=False)
        assert r.returncode == 1 and "works on" in r.stderr and not (home.base / "new").exists()
        assert slow.poll() is None, "--rate holds it back"
    finally:
        slow.kill()
        slow.communicate()
    backup(home)
    sound(home)


def test_without_a_home_that_ever_ran(home, restore):
    backup(home)
    other = restore(home)
    assert (other.path / "conf/mysimbdp.conf").read_text() == (home.path / "conf/mysimbdp.conf").read_text()
    home.path.rename(home.base / "was")
    other.up()


# ---- damaged, full

def test_damage_is_found_and_not_restored(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    backup(home)
    home.down()
    by_size = sorted((at(home) / "objects").glob("*/*"), key=lambda p: p.stat().st_size)
    path = by_size[-1]
    data = path.read_bytes()
    for broken in (b"", data[:-1], data[:9] + bytes([data[9] ^ 1]) + data[10:], None):
        path.write_bytes(broken) if broken is not None else path.unlink()
        r = home.cli("backup", at(home), "--verify", "--json", check=False)
        found = [json.loads(line) for line in r.stdout.splitlines()]
        assert r.returncode == 1 and found and str(path.relative_to(at(home))) in found[0]["text"], (broken, r.stdout, r.stderr)
        r = home.cli("restore", at(home), home.base / "new", check=False)
        assert r.returncode == 1 and str(path.relative_to(at(home))) in r.stderr and not (home.base / "new/state/home.json").exists()
    path.write_bytes(data)
    point = at(home) / "points" / points(home)[0]
    text = point.read_bytes()
    for broken in (b"", text[:-10], text.replace(b"entries", b"entriez")):
        point.write_bytes(broken)
        r = home.cli("backup", at(home), "--verify", check=False)
        assert r.returncode == 1 and "damaged" in r.stderr
        assert home.cli("backup", at(home), "--list", check=False).returncode == 1
    fresh = backup(home, "--keep", "2", check=False)
    assert fresh.returncode == 1 and "nothing is removed" in fresh.stderr, "nobody knows which pieces it needs"
    assert backup(home, "--keep", "1"), "a damaged one is not needed for the next"
    assert len(points(home)) == 1
    sound(home)


def test_a_damaged_ledger_is_not_backed_up_as_a_good_one(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    good = backup(home)["point"]
    home.down()
    path = home.path / "state/ledger.db"
    data = bytearray(path.read_bytes())
    data[len(data) - 2000] ^= 1
    path.write_bytes(data)
    r = backup(home, check=False)
    assert r.returncode == 1 and "ledger.db" in r.stderr and "damaged" in r.stderr, r.stderr
    assert points(home) == [good]
    sound(home)


@pytest.mark.needs_root
def test_a_full_disk_makes_no_half_backup(home):
    home.tenant()
    at(home).mkdir(mode=0o700)
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "tmpfs", str(at(home))], capture_output=True, text=True)
    if r.returncode:
        pytest.skip(f"this host does not let us mount: {r.stderr.strip()}")
    home.mounts.append(at(home))
    good = backup(home)["point"]
    large = home.path / "apps/acme/large"
    large.write_bytes(os.urandom(8 << 20))
    r = backup(home, check=False)
    assert r.returncode == 1 and "No space left on device" in r.stderr and str(at(home)) in r.stderr, r.stderr
    assert points(home) == [good]
    sound(home)
    large.unlink()
    backup(home, "--keep", "1")
    assert len(points(home)) == 1 and points(home) != [good]
    sound(home)


@pytest.mark.needs_root
def test_a_full_disk_makes_no_home(home):
    home.tenant()
    (home.path / "apps/acme/large").write_bytes(os.urandom(8 << 20))
    backup(home)
    to = home.base / "new"
    to.mkdir()
    r = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(to)], capture_output=True, text=True)
    if r.returncode:
        pytest.skip(f"this host does not let us mount: {r.stderr.strip()}")
    home.mounts.append(to)
    r = home.cli("restore", at(home), to, check=False)
    assert r.returncode == 1 and "No space left on device" in r.stderr
    assert not (to / "state/home.json").exists()
    subprocess.run(["mount", "-o", "remount,size=64m", str(to)], check=True)
    home.cli("restore", at(home), to)
    assert (to / "state/home.json").exists() and (to / "apps/acme/large").stat().st_size == 8 << 20


# ---- what is in it

def test_only_what_changed_takes_room(home):
    home.tenant()
    (home.path / "apps/acme/large").write_bytes(os.urandom(5 << 20))
    first = backup(home)
    assert first["fresh_bytes"] > 5 << 20
    assert backup(home)["fresh_bytes"] < 100_000
    with open(home.path / "apps/acme/large", "r+b") as f:
        f.seek(3 << 20)
        f.write(b"x")
    assert backup(home)["fresh_bytes"] < (1 << 20) + 100_000
    assert len(points(home)) == 3
    (home.path / "apps/acme/large").unlink()
    backup(home, "--keep", "2")
    assert len(points(home)) == 2
    backup(home, "--keep", "1")
    assert sum(p.stat().st_size for p in (at(home) / "objects").glob("*/*")) < 100_000
    sound(home)


def test_modes_links_and_names_are_as_they_were(home, restore):
    home.tenant()
    apps = home.path / "apps/acme"
    (apps / "sub").mkdir(mode=0o750)
    (apps / "sub/app").write_text("#!/bin/sh\n")
    (apps / "sub/app").chmod(0o4755)
    (apps / "link").symlink_to("sub/app")
    (apps / "away").symlink_to("/etc/passwd")
    os.mkfifo(apps / "pipe")
    odd = os.fsencode(apps) + b"/100%\xff \n\xc3\xa9"
    pathlib.Path(os.fsdecode(odd)).write_text("odd")
    (apps / "empty").touch()
    backup(home)
    other = restore(home)
    there = other.path / "apps/acme"
    assert (there / "sub").stat().st_mode & 0o7777 == 0o750
    assert (there / "sub/app").stat().st_mode & 0o7777 == 0o755, "setuid bits are for the provider to give again"
    assert os.readlink(there / "link") == "sub/app" and os.readlink(there / "away") == "/etc/passwd"
    assert pathlib.Path(os.fsdecode(os.fsencode(there) + b"/100%\xff \n\xc3\xa9")).read_text() == "odd"
    assert not (there / "pipe").exists() and (there / "empty").stat().st_size == 0
    assert int((there / "sub/app").stat().st_mtime) == int((apps / "sub/app").stat().st_mtime)


def frame(data):
    """A frame of zstd (RFC 8878) with one raw block."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + struct.pack("<I", 1 | len(data) << 3)[:3] + data


def forged(where, entries):
    """A backup that somebody made up."""
    def put(data):
        name = hashlib.blake2b(data, digest_size=32).hexdigest()
        (where / "objects" / name[:2]).mkdir(parents=True, exist_ok=True)
        (where / "objects" / name[:2] / name[2:]).write_bytes(frame(data))
        return name
    lines = []
    for e in entries:
        e = {"mode": 0o755, "uid": os.getuid(), "gid": os.getgid(), **e}
        if "data" in e:
            data = e.pop("data")
            e |= {"size": len(data), "mtime_ns": 0, "pieces": [put(data)] if data else []}
        lines.append(json.dumps(e))
    name = "20260101T000000.000Z"
    head = {"v": 1, "point": name, "at": 1, "done": 2, "home": "/x", "host": "h", "version": "0", "uid_base": -1, "files": False, "mode": 0o755, "uid": os.getuid(),
            "gid": os.getgid(), "entries": len(lines), "bytes": 0, "notes": [], "list": [put("".join(line + "\n" for line in lines).encode())]}
    text = json.dumps(head, separators=(",", ":"))[:-1].encode()
    (where / "points").mkdir(parents=True, exist_ok=True)
    (where / "points" / name).write_bytes(text + b',"check":"' + hashlib.blake2b(text, digest_size=32).hexdigest().encode() + b'"}\n')
    (where / "backup.json").write_text('{"v":1,"home":"/x"}\n')
    where.chmod(0o700)


HOME_JSON = {"path": "state/home.json", "type": "file", "data": b'{"version": 1}\n'}
STATE = {"path": "state", "type": "dir", "mode": 0o700}


@pytest.mark.parametrize("entries", [
    [{"path": "../out", "type": "file", "data": b"x"}],
    [{"path": "/tmp/out", "type": "file", "data": b"x"}],
    [{"path": "conf/../../out", "type": "file", "data": b"x"}],
    [{"path": "apps", "type": "dir"}, {"path": "apps/up", "type": "link", "to": "../.."}, {"path": "apps/up/out", "type": "file", "data": b"x"}],
    [{"path": "apps", "type": "link", "to": ".."}, {"path": "apps/out", "type": "file", "data": b"x"}],
    [{"path": "state/x", "type": "link", "to": "../../out"}, {"path": "state/x", "type": "file", "data": b"x"}],
    [{"path": "state/x", "type": "file", "data": b"x"}, {"path": "state/x", "type": "file", "data": b"y"}],
    [{"path": "conf%2F..%2F..%2Fout", "type": "file", "data": b"x"}],
    [{"path": "bin", "type": "dir"}], [{"path": ".restoring", "type": "file", "data": b"x"}], [{"path": "", "type": "dir"}],
    [{"path": "state/%00x", "type": "file", "data": b"x"}], [{"path": "state/x", "type": "pipe"}], [{"path": "state/x", "type": "file", "uid": -1, "data": b"x"}],
    [{"path": "state/x", "type": "file", "size": 5, "mtime_ns": 0, "pieces": []}], [{"path": "state/x", "type": "file", "size": 1, "mtime_ns": 0, "pieces": ["../../../etc/passwd"]}],
], ids=range(16))
def test_a_list_that_somebody_made_up_leads_nowhere(home, entries):
    where, to = home.base / "forged", home.base / "to/new"
    to.parent.mkdir()
    forged(where, [STATE, *entries, HOME_JSON])
    r = home.cli("restore", where, to, check=False)
    assert r.returncode == 1, r.stdout
    assert not (to / "state/home.json").exists() and list(to.parent.iterdir()) == [to] and not pathlib.Path("/tmp/out").exists()
    assert not (home.base / "out").exists()


def test_what_the_forger_of_these_tests_makes_is_restored_when_it_is_right(home):
    """Or the test before would show nothing."""
    where, to = home.base / "forged", home.base / "new"
    forged(where, [STATE, {"path": "conf", "type": "dir"}, {"path": "conf/a%25b", "type": "file", "data": b"x"}, HOME_JSON])
    home.cli("restore", where, to)
    assert (to / "conf/a%b").read_bytes() == b"x"
