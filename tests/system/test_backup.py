"""mysimbdp backup and restore: what is known at a backup's point is known to the restored home, whatever runs, dies or fills meanwhile. What a
backup is made of, and where it may be, is in test_backup_form.py."""
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from backups import BACKUP_POINTS, RESTORE_POINTS, at, backup, points, sound, restore, gone, both, drained, Flow, seconds  # noqa: F401 (restore: a fixture)
from harness import FINAL, IS_ROOT, until
from wire import peer


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


def test_large_files_that_wait_are_copied_outside_of_the_ledgers_transaction(home, restore):
    """65 MiB in one file, and small ones beside: all are there again."""
    home.tenant(apps='{ app = "held"; exec = "builtin:load"; pattern = "*"; trigger = "manual"; }')
    home.up()
    large = "v\n" + f"{'7' * 4095}\n" * (65 << 8)
    home.drop("large.csv", large)
    home.drop("small.csv", "v\n1\n")
    until(lambda: [f["reason"] for f in home.files()] == ["trigger"] * 2, home.path / "state", what="both to wait")
    assert backup(home)["notes"] == []
    gone(home)
    other = restore(home)
    assert {f["file_name"] for f in other.files()} == {"large.csv", "small.csv"}
    bodies = {p.name: p.read_text() for p in (other.path / "work").glob("*/in/*")}
    assert bodies == {"large.csv": large, "small.csv": "v\n1\n"}


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


class Closing(threading.Thread):
    """Writes numbered lines to a log, and closes it behind each few of them as its writer does: by a rename, or by a second name and a rename over
    the first (the audit log). What was closed is summed now and then, and removed."""

    def __init__(self, directory, name, digits, sums):
        super().__init__()
        self.dir, self.name, self.digits, self.sums = directory, name, digits, sums
        self.ended, self.n, self.closed = threading.Event(), 0, 0

    def at(self, number):
        return self.dir / f"{self.name}.{number:0{self.digits}}.jsonl"

    def lines(self, n):
        return "".join(json.dumps({"n": k}) + "\n" for k in n)

    def run(self):
        log, new = self.dir / f"{self.name}.jsonl", self.dir / f"{self.name}.jsonl.new"
        self.dir.mkdir(parents=True, exist_ok=True)
        while not self.ended.wait(0.0005):
            with open(log, "a", encoding="utf-8") as f:
                f.write(self.lines(range(self.n, self.n + 3)))
            self.n += 3
            self.closed += 1
            if self.sums:
                log.rename(self.at(self.closed))
            else:
                os.link(log, self.at(self.closed))
                new.touch()
                new.rename(log)
            if self.sums and self.closed % 400 == 0:
                part, through = self.dir / "stream.days.jsonl.tmp", self.closed - 10
                part.write_text(json.dumps({"event": "summed", "through": through}) + "\n" + self.lines(range(through * 3)))
                part.rename(self.dir / "stream.days.jsonl")
                for path in [p for k in range(max(1, through - 400), through + 1) if (p := self.at(k)).exists()]:
                    path.unlink()

    def read(self, directory):
        """The numbers of all lines, in their order."""
        texts, through = [], 0
        days = directory / "stream.days.jsonl"
        if days.exists():
            head, _, rest = days.read_text().partition("\n")
            texts, through = [rest], json.loads(head)["through"]
        closed = {int(p.name.split(".")[1]): p for p in directory.glob(f"{self.name}.*.jsonl") if p.name != "stream.days.jsonl"}
        texts += [closed[k].read_text() for k in sorted(closed) if k > through]
        current = directory / f"{self.name}.jsonl"
        texts += [current.read_text()] if current.exists() else []
        return [line["n"] for line in map(json.loads, "".join(texts).splitlines()) if "n" in line]  # others: that it was restored


@pytest.mark.parametrize("below, name, digits, sums", [("logs/tenants/acme", "stream", 12, True), ("logs", "audit", 20, False)], ids=["stream", "audit"])
def test_logs_that_are_closed_in_the_very_moment(home, below, name, digits, sums):
    """Each line that was there before is in the backup, once: not in none of the two files, and not in both."""
    home.tenant()
    log = Closing(home.path / below, name, digits, sums)
    log.start()
    try:
        known = []
        for _ in range(4):
            until(lambda n=log.closed: log.closed > n + 50, home.path / below, what="files to be closed")
            known.append((log.n, backup(home)["point"]))
    finally:
        log.ended.set()
        log.join()
    for i, (n, point) in enumerate(known):
        home.cli("restore", at(home), home.base / f"new{i}", "--point", point)
        found = log.read(home.base / f"new{i}" / below)
        assert found == list(range(len(found))) and len(found) >= n, (n, len(found), [k for k, v in enumerate(found) if k != v][:10])


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
    assert r.returncode == 1 and "is a home already, and nothing was changed" in r.stderr


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
        path.write_bytes(broken) if broken is not None else path.unlink(missing_ok=True)
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


def test_a_damaged_piece_is_written_again(home):
    """By the next backup, if the home has these bytes still: all points that need it are whole again. Else it stays beside, until nothing needs it."""
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n" + "".join(f"{i}\n" for i in range(3000)))
    home.wait_file(file_name="a.csv")
    home.down()
    apps = home.path / "apps/acme"
    for name in ("stays", "goes"):
        (apps / name).write_bytes(os.urandom(200000))
    first = backup(home, "--files")["point"]
    large = [p for p in (at(home) / "objects").glob("*/*") if p.stat().st_size >= 200000]
    assert len(large) == 2
    for p in large:
        p.write_bytes(flipped(p))
    r = home.cli("backup", at(home), "--verify", check=False)
    assert r.returncode == 1 and r.stdout.count("it was set aside") == 2 and "2 things are damaged" in r.stderr, r.stdout + r.stderr
    r = home.cli("restore", at(home), home.base / "new", check=False)
    assert r.returncode == 1 and re.search("apps/acme/(stays|goes) is not whole in this point", r.stderr), r.stderr
    (apps / "goes").unlink()
    second = backup(home, "--files")["point"]
    sound(home, "--point", second)
    r = home.cli("backup", at(home), "--verify", "--point", first, check=False)
    assert r.returncode == 1 and "1 thing is damaged" in r.stderr and "apps/acme/goes" in r.stdout and "stays" not in r.stdout
    assert len(list(at(home).rglob("*.damaged"))) == 1, "what may be all that there is of it"
    r = home.cli("backup", at(home), "--verify", "--point", "all", "--json", check=False)
    found = [json.loads(line) for line in r.stdout.splitlines()]
    assert r.returncode == 1 and [f["point"] for f in found] == [first] and "apps/acme/goes" in found[0]["text"], r.stdout + r.stderr
    damage_list(home, second)
    r = home.cli("backup", at(home), "--verify", "--point", "all", check=False)
    assert r.returncode == 1 and "2 things are damaged" in r.stderr and {line.split()[1] for line in r.stdout.splitlines()} == {first, second}, r.stdout + r.stderr
    (at(home) / "points" / first).unlink()
    (at(home) / "points" / second).unlink()
    third = [backup(home, "--files")["point"] for _ in range(2)]
    r = home.cli("backup", at(home), "--verify", "--point", "all")
    assert [line.split()[0] for line in r.stdout.splitlines()] == third and r.stdout.count("can be restored") == 2
    backup(home, "--keep", "1")
    assert not list(at(home).rglob("*.damaged")) and len(points(home)) == 1
    sound(home)


def damage_list(home, point):
    path = at(home) / "points" / point
    path.write_text(path.read_text()[:-9])


def flipped(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    return bytes(data)


def test_a_piece_of_a_file_that_is_done_is_written_again(home):
    """Which is not read again while its piece is there."""
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n" + "".join(f"{os.urandom(20).hex()}\n" for _ in range(5000)))
    home.wait_files(1)
    home.down()
    backup(home, "--files")
    path = max((at(home) / "objects").glob("*/*"), key=lambda p: p.stat().st_size)
    path.write_bytes(flipped(path))
    r = home.cli("backup", at(home), "--verify", check=False)
    assert r.returncode == 1 and re.search(r"damaged  \S+  (done|quarantine)/acme/data/[^:]*/a.csv: ", r.stdout), r.stdout
    backup(home, "--files")
    for point in points(home):
        sound(home, "--point", point)


def test_what_is_there_is_told_while_another_one_is_taken(home):
    home.tenant()
    (home.path / "apps/acme/large").write_bytes(os.urandom(3 << 20))
    r = home.cli("backup", at(home), "--list", check=False)
    assert r.returncode == 1 and "cannot open the backup" in r.stderr
    first = backup(home)["point"]
    (home.path / "apps/acme/larger").write_bytes(os.urandom(3 << 20))
    p = subprocess.Popen([*home.as_user, home.program("mysimbdp"), "backup", at(home), "--rate", "3M"], env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: (at(home) / "unfinished").exists(), at(home), what="the second one")
    assert points(home) == [first] and p.poll() is None
    r = backup(home, check=False)
    assert r.returncode == 1 and "another backup" in r.stderr
    assert p.wait(60) == 0 and len(points(home)) == 2


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
