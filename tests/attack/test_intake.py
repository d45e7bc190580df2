"""One tenant's files against the others' intake: bombs, holes, floods. A quiet tenant's file is taken in as if it were alone."""
import contextlib
import gzip
import json
import os
import pathlib
import re
import sqlite3
import stat
import subprocess
import time

import pytest
from harness import IS_ROOT, json_lines, until

MB = 1 << 20
ROWS = b"a,b\n" + b"1,2\n" * 250000  # a megabyte
WIDE = b"a,b\n" + (b"x" * 996 + b",2\n") * 1000
BOUND_S = 1  # beyond twice the time alone


def zst(path, megabytes):
    """Frames follow one another: a kilobyte stands for 16 megabytes."""
    frame = subprocess.run(["zstd", "-q", "-3", "-c"], input=WIDE * 16, capture_output=True, check=True).stdout
    path.write_bytes(frame * (megabytes // 16))
    return path


def gz(path, megabytes):
    member = gzip.compress(ROWS * 16, 9)  # members follow one another
    path.write_bytes(member * (megabytes // 16))
    return path


def holes(path, size):
    with open(path, "wb") as f:
        f.write(b"a,b\n" * 1000)
        f.truncate(size)
    return path


def accepted_s(home, name):
    """From the drop of a quiet tenant's file to its acceptance (inspected, and queued or further)."""
    start = time.monotonic()
    home.drop(name, "a,b\n" + "1,2\n" * 20000, "quiet")
    until(lambda: [f for f in home.rows("files", "--tenant", "quiet") if f["file_name"] == name and f["state"] != "received"],
          home.path / "state", every=0.05, what=name)
    return time.monotonic() - start


def drop_ready(home, paths, tenant="greedy"):
    for p in paths:
        os.rename(p, home.path / "staging" / tenant / "data" / p.name)


@pytest.fixture
def tenants(make_home):
    def make(**kw):
        home = make_home()
        home.tenant("quiet", **kw)
        home.tenant("greedy")
        return home.up()
    return make


def alone_s(home):
    accepted_s(home, "warm.csv")
    return accepted_s(home, "alone.csv")


def holds_up(home, paths, what):
    """The greedy tenant's files, then three of the quiet one's, one after the other."""
    alone = alone_s(home)
    drop_ready(home, paths)
    until(lambda: home.rows("files", "--tenant", "greedy", "--limit", "1"), home.path / "state", every=0.05, what="the flood to begin")
    took = [accepted_s(home, f"{what}-{i}.csv") for i in range(3)]
    assert max(took) <= 2 * alone + BOUND_S, f"alone {alone:.2f} s, beside {what}: {took}"


@pytest.mark.timing
def test_bombs_hold_nobody_up_and_are_cut_short(tenants):
    home = tenants()
    first = gz(home.base / "bomb-0.csv.gz", 1024)
    paths = [first] + [home.base / f"bomb-{i}.csv.gz" for i in range(1, 6)]
    for p in paths[1:]:  # other contents, so that none is a duplicate
        p.write_bytes(first.read_bytes() + gzip.compress(p.name.encode()))
    packed = zst(home.base / "bomb.csv.zst", 600)
    assert packed.stat().st_size < 400000
    holds_up(home, [packed] + paths, "bombs")
    f = home.wait_file(file_name="bomb.csv.zst")
    assert (f["state"], f["reason"]) == ("rejected", "max_expansion") and "256 MiB" in f["detail"]


@pytest.mark.timing
def test_sparse_files_hold_nobody_up(tenants):
    home = tenants()
    paths = [holes(home.base / f"sparse-{i}.csv{ending}", 1 << 38) for i, ending in enumerate(("", "", ".gz", ".zst"))]
    with open(paths[3], "r+b") as f:  # skippable frames: nothing is decompressed, all of it is read
        for at in range(0, 1 << 38, 1 << 32):
            f.seek(at)
            f.write(b"\x50\x2a\x4d\x18\xf8\xff\xff\xff")
    holds_up(home, paths, "holes")
    for p in paths:
        f = home.wait_file(file_name=p.name)
        assert (f["state"], f["reason"]) == ("rejected", "max_expansion"), f


@pytest.mark.timing
@pytest.mark.large
@pytest.mark.anyone
def test_ten_thousand_files_hold_nobody_up(tenants):
    home = tenants()
    paths = [home.base / f"tiny-{i:05}.csv" for i in range(10000)]
    for i, p in enumerate(paths):
        p.write_text(f"a,b\n{i},1\n")
    holds_up(home, paths, "files")


def stalled(home, seconds, bound_s):
    """For which part of so many seconds batchmgr's answer took longer than the bound."""
    begin = time.monotonic()
    lost = 0
    while (start := time.monotonic()) < begin + seconds:
        home.control({"op": "status"})
        took = time.monotonic() - start
        lost += took if took > bound_s else 0
    return lost / seconds


@pytest.mark.timing
@pytest.mark.soak
def test_names_that_are_ignored_hold_nobody_up(make_home):
    """Dotfiles stay where they are, so each scan finds them again. What a scan of all of them takes is nobody's to wait for."""
    home = make_home(platform="rescan_ms = 100;")
    home.tenant("quiet")
    home.tenant("greedy")
    home.up()
    alone = alone_s(home)
    staging = home.path / "staging/greedy/data"
    for i in range(200000):  # mostly links, which are made and removed in a quarter of the time
        if i % 50000:
            os.link(staging / f".{i - i % 50000}", staging / f".{i}")
        else:
            os.mknod(staging / f".{i}", 0o600 | stat.S_IFREG)
    start = time.monotonic()
    assert sum(1 for _ in os.scandir(staging)) >= 200000
    scan = time.monotonic() - start
    part = stalled(home, 4, scan / 10)
    assert part < 0.2, f"a scan takes {scan:.3f} s; batchmgr did not answer for {part:.0%} of the time"
    assert max(accepted_s(home, f"dots-{i}.csv") for i in range(3)) <= 2 * alone + BOUND_S
    home.drop("own.csv", "a,b\n1,2\n", "greedy")
    assert home.wait_file(tenant_id="greedy")["state"] == "ingested"


@pytest.mark.timing
def test_refusals_are_slowed_down(tenants):
    """Each is a row of the ledger and a line of the log: there are so many at once, then so many a second."""
    home = tenants()
    alone = alone_s(home)
    staging = home.path / "staging/greedy/data"
    start = time.monotonic()
    for i in range(6000):
        os.symlink("/etc/passwd", staging / f"{i:05}.csv") if i % 2 else os.mkdir(staging / f"{i:05}.csv")

    def refused():
        with contextlib.closing(sqlite3.connect(f"file:{home.path}/state/ledger.db?mode=ro", uri=True)) as db:
            return db.execute("SELECT count(*) FROM files WHERE tenant = 'greedy' AND state = 'rejected'").fetchone()[0]
    until(lambda: refused() >= 2000, home.path / "state", what="2000 refusals")
    took = [accepted_s(home, f"links-{i}.csv") for i in range(3)]
    assert max(took) <= 2 * alone + BOUND_S, f"alone {alone:.2f} s, beside links: {took}"
    until(lambda: refused() >= 2200, home.path / "state", what="it to go on, slowly")
    assert refused() <= 2000 + 128 + 32 + 10 * (time.monotonic() - start)
    log = (home.path / "logs/batchmgr.log").read_text()
    assert log.count('"event":"slowed"') == 1
    told = [e for e in json_lines(home.path / "logs/tenants/greedy/ingest.jsonl") if "about 10 a second are taken in" in (e["detail"] or "")]
    assert told and "links are not followed" in " ".join(e["detail"] for e in told), "its tenant can see it"
    waits = {t["tenant_id"]: t["waits_for"] for t in home.control({"op": "status"})["tenants"]}
    assert "too many of its files were refused" in waits["greedy"] and not any("slowed" in (w or "") for t, w in waits.items() if t != "greedy")
    until(lambda: refused() >= log.count('"event":"rejected"'), home.path / "state", what="a row for each line of the log")


@pytest.mark.timing
def test_long_rows_and_a_wide_file_hold_nobody_up(tenants):
    home = tenants()
    row = home.base / "row.csv"
    with open(row, "wb") as f:
        f.write(b"a,b\n1,")
        for _ in range(1024):
            f.write(b"x" * MB)
    wide = home.base / "wide.csv"
    wide.write_bytes(b",".join(b"c%d" % i for i in range(500000)) + b"\n")
    quoted = home.base / "quoted.csv"
    quoted.write_bytes(b'a,b\n"' + b"1,2\n" * 5000000)  # a quote that is never closed
    holds_up(home, [row, wide, quoted], "rows")


def test_max_expansion_bites(make_home):
    """Beyond 256 MiB, what counts is the size on the disk; holes and compression alike, on both levels."""
    home = make_home()
    home.tenant(limits="max_expansion = 1000000;", dataset_limits="max_expansion = 100000;")
    home.tenant("strict", limits="max_expansion = 10;")
    home.up()
    for tenant in ("acme", "strict"):
        holes(home.base / "x.csv", 300 * MB)
        drop_ready(home, [home.base / "x.csv"], tenant)
        holes(home.base / "y.csv", 1 << 34)
        drop_ready(home, [home.base / "y.csv"], tenant)
    for tenant, name, reason in (("acme", "x.csv", "max_row_bytes"), ("strict", "x.csv", "max_expansion"),
                                 ("acme", "y.csv", "max_expansion"), ("strict", "y.csv", "max_expansion")):
        f = home.wait_file(tenant_id=tenant, file_name=name)
        assert (f["state"], f["reason"]) == ("rejected", reason), (tenant, f)


def test_max_inspect_s_bites_once(make_home):
    home = make_home()
    home.tenant(limits="max_inspect_s = 100;", dataset_limits="max_inspect_s = 0;")
    home.tenant("slow", limits="max_inspect_s = 0;")
    home.up()
    for tenant in ("acme", "slow"):
        with open(home.base / "long.csv", "wb") as f:
            for i in range(150):
                f.write(ROWS)
        start = time.monotonic()
        drop_ready(home, [home.base / "long.csv"], tenant)
        f = home.wait_file(tenant_id=tenant, file_name="long.csv")
        assert (f["state"], f["reason"]) == ("rejected", "max_inspect_s") and "max_inspect_s" in f["detail"]
        assert time.monotonic() - start < 20
    log = (home.path / "logs/batchmgr.log").read_text()
    assert log.count("took more than max_inspect_s") >= 2 and all(
        log.count(f'"inspector","tenant":"{t}"') == 1 for t in ("acme", "slow"))  # no second try


def test_inspector_memory_bytes_bites(make_home):
    """What makes an inspector grow ends in that file's verdict; the same files are taken where there is room."""
    grows = {"wide.json": b'{"a":[' + b"1," * 4 * MB + b"1]}\n",
             "nested.json": b'{"a":[' + b'{"b":[{}]},' * MB + b"{}]}\n",
             "window.json.zst": subprocess.run(["zstd", "-q", "--long=27", "-c"], input=(b'{"a":"' + b"x" * 4000 + b'"}\n') * 34000, capture_output=True,
                                               check=True).stdout}
    for room, verdict in ((16 * MB, ("rejected", "inspector_memory_bytes")), (2048 * MB, ("queued", None))):
        home = make_home(mongo=None, platform=f'inspector_memory_bytes = {room}L; mongo_url = "mongodb://127.0.0.1:1/";')
        home.tenant(fmt="json")
        home.up()
        until(lambda: (held := home.pids("simbdp-inspect")) and all(
            re.search(r"^Max data size +\d+ +\d+ +bytes", pathlib.Path(f"/proc/{p}/limits").read_text(), re.M) for p in held),
            home.path / "state", what="the inspectors to lock themselves in")
        for name, content in grows.items():
            home.drop(name, content)
        home.drop("plain.json", b'{"a":1}\n')
        files = home.wait_files(len(grows) + 1, lambda f: f["state"] != "received")
        assert {f["file_name"]: (f["state"], f["reason"]) for f in files} == {**dict.fromkeys(grows, verdict), "plain.json": ("queued", None)}
        assert all(f"{room} bytes" in f["detail"] for f in files if f["state"] == "rejected")
        log = (home.path / "logs/batchmgr.log").read_text()
        assert log.count("took more than inspector_memory_bytes, ") == 2 * len(grows) * (verdict[0] == "rejected")  # once, and the verdict


@pytest.mark.needs_root
def test_an_inspector_reads_one_tenants_bytes_only(make_home):
    """Whatever takes one over sees no other tenant's file: it ends before another tenant's is opened."""
    home = make_home()
    names = [home.tenant(f"t{i}") for i in range(len(os.sched_getaffinity(0)) + 4)]
    home.up()
    seen = set()
    for name in names:
        home.drop("x.csv", "a,b\n1,1\n", name)
        assert home.wait_file(tenant_id=name)["state"] == "ingested"
        seen |= set(home.pids("simbdp-inspect"))
    assert len(seen) >= len(names)


def test_scratch_goes_with_the_run(make_home):
    home = make_home()
    home.tenant(exec_="litter", retry="attempts = 1;")
    litter = home.path / "apps/acme/litter"
    litter.write_text("#!/usr/bin/python3\nimport os, sys\n"
                      "open('big', 'wb').write(b'x' * 5000000)\nopen('rejects.jsonl', 'w').write('{}\\n')\n"
                      "open(os.environ['SIMBDP_RESULT_FILE'], 'w').write('{\"rejects_file\":\"rejects.jsonl\"}')\n"
                      "for i in range(3000):\n    os.mkdir('d')\n    os.chdir('d')\n"
                      "os.chmod('.', 0)\nprint('done')\n")
    litter.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file()
    run = home.path / "runs" / f["run_id"]
    scrap = home.path / "runs/.scrap"
    until(lambda: not (run / "app").exists() and not os.listdir(scrap), home.path / "runs", what="the scratch to go")
    assert {"log", "rejects.jsonl", "result.json"} <= set(os.listdir(run)) and sum(p.stat().st_size for p in run.iterdir()) < 100000
    assert json.loads((run / "result.json").read_text())["outcome"] == "limit"  # nested too deep
    if IS_ROOT:
        assert scrap.stat().st_mode & 0o7777 == 0o700


def test_scratch_of_before_a_crash_goes_at_the_next_start(make_home):
    home = make_home()
    home.tenant(exec_="misbehave")
    home.up()
    home.do("print,hello", name="x.csv")
    run = home.path / "runs" / home.wait_file()["run_id"]
    until(lambda: not (run / "app").exists(), run, what="the scratch to go")
    home.down()
    (run / "app/deep/er").mkdir(parents=True)
    (run / "app/file").write_text("left by a manager that was killed")
    (home.path / "runs/.scrap/9-9/x").mkdir(parents=True)
    home.up()
    until(lambda: not (run / "app").exists() and not os.listdir(home.path / "runs/.scrap"), run, what="the scratch to go")
