"""Kills at every named crash point, and at random on top; afterwards ledger, directories and MongoDB must equal the model."""
import os
import random
import re
import signal
import threading
import time

import pytest
from harness import DATA, FINAL, IS_ROOT, RELEASE, ROOT, Mongo, until

pytestmark = pytest.mark.once

POINTS = re.findall(r"^\s+X\((\w+)\)", (ROOT / "lib/base/crash.h").read_text(), re.M)
# Those that are not on the path of a file that was dropped: tests/system/test_retention.py, tests/fault/test_streams.py, tests/system/test_consume.py,
# tests/attack/test_image.py, tests/fault/test_spool.py, tests/fault/test_gateway_kills.py, tests/system/test_appstore.py,
# tests/system/test_instance_keys.py, tests/system/test_backup.py, tests/fault/test_slurm_faults.py, tests/attack/test_warden.py,
# tests/fault/test_move_kills.py, tests/fault/test_pilot_faults.py
POINTS = [p for p in POINTS if not p.startswith(("purge_", "move_", "moving_", "store_", "drain_", "instance_", "image_", "hand_in_", "delete_", "gateway_", "app_", "gone_", "ask_", "order_", "job_", "pilot_", "backup_", "restore_", "mongo_", "uids_"))]
# At these somebody is started, which is another thing without root: they are for both.
STARTS = re.compile("spawn_|run_fork|run_exec|run_claim|run_result|intake_own")


def prepare(home):
    home.tenant("acme", apps='{ app = "app"; exec = "builtin:load"; retry = { attempts = 4; backoff_ms = 10; max_backoff_ms = 50; }; }')
    home.tenant("out", apps='{ app = "ok"; exec = "double.sh"; pattern = "ok*"; output = "stdout"; '
                            'retry = { attempts = 4; backoff_ms = 10; max_backoff_ms = 50; }; }, '
                            '{ app = "bad"; exec = "misbehave"; pattern = "bad*"; retry = { attempts = 2; backoff_ms = 10; max_backoff_ms = 50; }; }')
    script = home.path / "apps/out/double.sh"
    script.write_text("#!/bin/sh\nawk -F, 'NR > 1 { printf \"{\\\"double\\\":%d}\\n\", $1 * 2 }'\n")
    script.chmod(0o755)
    home.tenant("grp", apps='{ app = "join"; exec = "join.sh"; output = "dir"; trigger = "manual"; checker = "check.sh"; '
                            'group = { max_files = 2; }; retry = { attempts = 4; backoff_ms = 10; max_backoff_ms = 50; }; }')
    for name, text in (("join.sh", "cat \"$SIMBDP_INPUT_DIR\"/* | awk '/^[0-9]/ { printf \"{\\\"v\\\":%d}\\n\", $1 }' >\"$SIMBDP_OUTPUT_DIR/o.json\""),
                       ("check.sh", "grep -q v")):
        script = home.path / f"apps/grp/{name}"
        script.write_text(f"#!/bin/sh\n{text}\n")
        script.chmod(0o755)
    free = home.base / "free"
    free.mkdir()
    free.chmod(0o777)
    return free


def try_upload(home, path, *args):
    """An upload is the client's to repeat when the platform went away under it."""
    for _ in range(20):
        if home.cli("upload", "acme", "data", path, *args, check=False).returncode == 0:
            return
        until(lambda: answers(home), home.path / "state", what="batchmgr")
    raise AssertionError("the upload never came through")


def answers(home):
    try:
        return home.control({"op": "status"})["ok"]
    except (OSError, AssertionError):
        return False


def release(home):
    """Both files of the group are held, then `run`; asked again when a crash took the order away. True when both have ended."""
    files = home.files(tenant_id="grp")
    if len([f for f in files if f["reason"] == "trigger"]) == 2:
        home.cli("run", "grp/join", check=False)
    return len([f for f in files if f["state"] in FINAL]) == 2


def states(home):
    """A forced upload whose answer was lost is repeated by the client: two true rows, one effect."""
    rows = sorted((f["tenant_id"], f["file_name"], f["state"], f["reason"] or "") for f in home.files())
    return [r for i, r in enumerate(rows) if r[1] != "forced.csv" or r != rows[i - 1]]


def check_directories(home):
    """work/ and staging/ hold nothing; done/ and quarantine/ hold exactly what the ledger says, each once."""
    until(lambda: not list((home.path / "work").iterdir()), home.path / "work", what="an empty work/")
    for tenant in ("acme", "out", "grp"):
        assert list((home.path / f"staging/{tenant}/data").iterdir()) == []
    assert list((home.path / "staging/.incoming").iterdir()) == []
    kept = {"done": set(), "quarantine": set()}
    for place, ids in kept.items():
        for p in (home.path / place).glob("*/*/*"):
            ids.add(p.name)
            names = {x.name for x in p.iterdir()}
            assert len(names - {"reason.json"}) == 1 and ("reason.json" in names) == (place == "quarantine"), names
    files = home.files()
    assert kept["done"] == {f["file_id"] for f in files if f["state"] in ("ingested", "duplicate")}
    assert kept["quarantine"] == {f["file_id"] for f in files if f["state"] in ("rejected", "quarantined")}


@pytest.mark.slow
@pytest.mark.parametrize("point", [p if STARTS.match(p) else pytest.param(p, marks=pytest.mark.anyone) for p in POINTS])
def test_crash_at(home, point):
    free = prepare(home)
    if point in ("intake_copy", "across_copy", "across_rename") and not IS_ROOT:
        pytest.skip("needs a file system of its own")
    if point.startswith("across"):
        home.mount_tmpfs("work", "24m")
    if point == "intake_copy":
        (home.mount_tmpfs("staging", "24m") / ".incoming").mkdir(mode=0o700)
    once = free / "crashed"
    home.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    home.drop("a.csv", "a,b\n1,x\n2,y\n3,z\n")
    home.drop("ok.csv", "n\n1\n2\n3\n", "out")
    home.drop("bad.csv", f"do,arg\nonce,{free}/flag\nexit,5\n", "out")
    home.drop("refused.txt", "x")
    home.drop("g1.csv", "v\n1\n2\n", "grp")
    home.drop("g2.csv", "v\n3\n", "grp")
    home.wait_files(4)
    until(lambda: release(home), home.path / "state", what="the end of the group")
    home.drop("again.csv", "a,b\n1,x\n2,y\n3,z\n")
    home.wait_files(7)
    forced = home.base / "forced.csv"
    forced.write_text("a,b\n1,x\n2,y\n3,z\n")
    try_upload(home, forced, "--force")
    home.wait_files(8)
    bad = home.files(file_name="bad.csv")[0]
    assert (bad["state"], bad["reason"], bad["attempts"]) == ("quarantined", "failed", 2) or point.startswith("run_")
    for _ in range(20):  # a crash may take the request or its effect away; asking again is the answer
        home.cli("retry", bad["file_id"], check=False)
        until(lambda: answers(home), home.path / "state", what="batchmgr")
        home.wait_files(8)
        if home.files(file_name="bad.csv")[0]["run_id"] != bad["run_id"]:
            break
    until(lambda: all(f["state"] in FINAL for f in home.files()), home.path / "state", what="the end of all files")
    assert once.exists(), f"{point} was never reached"
    assert states(home) == [
        ("acme", "a.csv", "ingested", ""), ("acme", "again.csv", "duplicate", "duplicate"),
        ("acme", "forced.csv", "ingested", ""), ("acme", "refused.txt", "rejected", "format"),
        ("grp", "g1.csv", "ingested", ""), ("grp", "g2.csv", "ingested", ""),
        ("out", "bad.csv", "quarantined", "failed"), ("out", "ok.csv", "ingested", "")]
    until(lambda: all(r["state"] == "ended" for r in home.rows("runs")), home.path / "state", what="the end of all runs")
    assert sorted((d["a"], d["b"]) for d in home.docs("acme")) == [(1, "x"), (2, "y"), (3, "z")]
    assert sorted(d["double"] for d in home.docs("out")) == [2, 4, 6]
    assert sorted(d["v"] for d in home.docs("grp")) == [1, 2, 3]
    check_directories(home)
    for r in home.rows("runs"):
        assert home.marked(r["run_id"]) == []
    home.down()
    assert home.remains() == []


@pytest.mark.slow
@pytest.mark.anyone
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_random_kills_under_load(make_home, tmp_path, seed):
    """batchmgr, spawner, runners, apps, loaders and MongoDB are killed while some months of rows are loaded."""
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    rng = random.Random(seed)
    prepare(home)
    home.tenant("flights", apps='{ app = "transform"; exec = "flights_transform"; output = "stdout"; '
                'retry = { attempts = 1000; backoff_ms = 10; max_backoff_ms = 50; }; }')
    home.tenant("acme", apps='{ app = "app"; exec = "builtin:load"; retry = { attempts = 1000; backoff_ms = 10; max_backoff_ms = 50; }; }')
    home.install("flights", RELEASE / "tenants/flights_transform")
    home.profiles(output_bytes="67108864L")
    home.up()
    lines = (DATA / "flights.csv").read_text().splitlines()
    parts = [lines[1 + i * 4500:1 + (i + 1) * 4500] for i in range(8)]
    for i, part in enumerate(parts):
        text = "\n".join([lines[0], *part]) + "\n"
        home.drop(f"t{i}.csv", text, "flights")
        home.drop(f"l{i}.csv", text, "acme")
    stop = threading.Event()
    kills = []

    def victims():
        return {
            "batchmgr": home.pids("batchmgr"),
            "runner": home.pids("simbdp-run"),
            "loader": home.pids("simbdp-load"),
            "app": home.pids("flights_transform"),
            "inspector": home.pids("simbdp-inspect"),
            "mongo": [mongo.process.pid],
        }

    def kill_one(kind):
        pids = victims()[kind]
        if not pids:
            return False
        try:
            os.kill(rng.choice(pids), signal.SIGKILL)
        except ProcessLookupError:
            return False
        kills.append(kind)
        return True

    def killer():
        last_mongo = time.monotonic()
        for kind in ("loader", "runner", "batchmgr"):  # a loader lives for a moment only, and is met by who waits for it
            while not kill_one(kind) and not stop.is_set():
                pass
        while not stop.wait(0.2):
            kind = rng.choice(["batchmgr", "runner", "runner", "loader", "loader", "app", "inspector", "mongo"])
            if kind == "mongo":
                if time.monotonic() - last_mongo < 4:
                    continue
                mongo.kill()
                mongo.start()
                last_mongo = time.monotonic()
                kills.append(kind)
            else:
                kill_one(kind)

    thread = threading.Thread(target=killer)
    thread.start()
    stop.wait(12)
    until(lambda: len(kills) > 20, timeout=60, what="as many kills on a busy machine")
    stop.set()
    thread.join()
    until(lambda: answers(home), home.path / "state", what="batchmgr")
    home.wait_files(16, timeout=120)
    assert len(kills) > 20 and {"batchmgr", "runner", "loader"} <= set(kills)
    files = home.files()
    assert len(files) == 16 and {f["state"] for f in files} == {"ingested"}, states(home)
    flights = sorted((d["carrier"]["code"], d["carrier"]["flight"], str(d["scheduled_at"]), d["route"]["origin"])
                     for d in home.docs("flights"))
    assert len(flights) == 36000 and home.count("acme") == 36000
    wanted = sorted((c[9], int(c[10]), c[13 - 1]) for p in parts for c in (line.split(",") for line in p))
    assert sorted((a, b, d) for a, b, _, d in flights) == wanted
    assert sum(f["rows_loaded"] for f in files) == 72000
    until(lambda: all(r["state"] == "ended" for r in home.rows("runs")), home.path / "state", what="the end of all runs")
    until(lambda: not list((home.path / "work").iterdir()), home.path / "work", what="an empty work/")
    home.down()
    assert home.remains() == []
    home.cleanup()
    mongo.stop()
