"""Scenarios r01 to r15 of docs/scenarios.md as far as batch goes: what an executable can do, and what can happen to it."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import engines
import pytest
from harness import BUILD, HAS_CGROUPS, RELEASE, allow_descriptors, runner_of, until


@pytest.fixture
def misbehave(make_home):
    """A running home with the misbehaving app, one attempt a file."""
    def make(batch="", retry="attempts = 1;", tenant="", concurrency=4, **profile):
        home = make_home()
        home.profiles(**profile)
        home.tenant(exec_="misbehave", batch=batch, retry=retry, tenant=tenant, concurrency=concurrency)
        return home.up()
    return make


def outcome(home, *actions, **kw):
    """Drops a file, waits for its end; gives the file and its last run."""
    name = kw.pop("name", f"f{len(home.files())}.csv")
    home.do(*actions, name=name)
    f = home.wait_file(file_name=name)
    return f, next(r for r in home.rows("runs") if r["run_id"] == f["run_id"])


@pytest.mark.parametrize("case", ["missing", "not_executable", "interpreter", "format"])
def test_r01_what_cannot_be_executed_parks_the_app(make_home, case):
    home = make_home()
    home.tenant(exec_="tool")
    tool = home.path / "apps/acme/tool"
    text = {"missing": "No such file", "not_executable": "Permission denied", "interpreter": "interpreter",
            "format": "Exec format error"}[case]
    if case != "missing":
        tool.write_text({"interpreter": "#!/no/such/thing\n"}.get(case, "true\n"))
        tool.chmod(0o644 if case == "not_executable" else 0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    home.drop("y.csv", "a\n2\n")
    until(lambda: home.files(reason="exec_error"), home.path / "state")
    f = home.files(reason="exec_error")[0]
    assert f["state"] == "waiting" and f["attempts"] == 0 and text in f["detail"]
    status = home.control({"op": "status"})
    assert status["parked_apps"] == ["acme/app"]
    n = len(home.rows("runs"))
    assert n <= 2 and {r["outcome"] for r in home.rows("runs")} <= {"exec_error", None}
    tool.write_text("#!/bin/sh\ncat >/dev/null\n")  # repaired: it goes on by itself
    tool.chmod(0o755)
    files = home.wait_files(2)
    assert [f["state"] for f in files] == ["ingested", "ingested"] and len(home.rows("runs")) <= n + 2


def test_an_executable_that_is_still_being_written_is_waited_for(make_home):
    home = make_home()
    home.tenant(exec_="tool", retry="attempts = 1; backoff_ms = 50; max_backoff_ms = 100;")
    tool = home.path / "apps/acme/tool"
    tool.write_bytes(pathlib.Path("/bin/true").read_bytes())
    tool.chmod(0o755)
    home.up()
    with tool.open("ab"):
        home.drop("x.csv", "a\n1\n")
        f = until(lambda: home.files(reason="not_started", state="waiting"), home.path / "state", what="the file to wait")[0]
        assert (f["state"], f["attempts"]) == ("waiting", 0) and "Text file busy" in f["detail"]
        until(lambda: len(home.rows("runs")) > 4, home.path / "state", what="further tries")
        assert home.control({"op": "status"})["parked_apps"] == []
    assert (lambda f: (f["state"], f["attempts"]))(home.wait_file(file_name="x.csv")) == ("ingested", 1)


def test_bytes_that_are_gone_are_nobodys_fault_but_the_files(make_home):
    home = make_home()
    home.tenant(exec_="tool", retry="attempts = 1;")
    home.up()
    for i in range(3):
        home.drop(f"x{i}.csv", f"a\n{i}\n")
    until(lambda: home.files(reason="exec_error") and all(f["state"] in ("queued", "waiting") for f in home.wait_files(3, lambda f: True)), home.path / "state", what="the app to be parked")
    gone = home.files(file_name="x1.csv")[0]
    for path in (home.path / "work" / gone["file_id"]).rglob("*.csv"):
        path.unlink()
    tool = home.path / "apps/acme/tool"
    tool.write_text("#!/bin/sh\ncat >/dev/null\n")
    tool.chmod(0o755)
    files = {f["file_name"]: f for f in home.wait_files(3)}
    assert {n: f["state"] for n, f in files.items()} == {"x0.csv": "ingested", "x1.csv": "vanished", "x2.csv": "ingested"}
    assert "gone from work/" in files["x1.csv"]["detail"]
    assert "bytes_gone" in (home.path / "logs/batchmgr.log").read_text()


@pytest.mark.bare_v2
def test_r02_ignoring_sigterm_ends_at_grace(misbehave):
    home = misbehave(wall_s=1, grace_s=1)
    f, r = outcome(home, "deaf")
    assert (r["outcome"], r["limit"], r["forced"], r["signal"]) == ("timeout", "wall_s", True, 9)
    assert (f["state"], f["reason"]) == ("quarantined", "timeout")


@pytest.mark.bare_v2
def test_r03_daemons_are_gone_after_the_run(misbehave):
    home = misbehave()
    f, r = outcome(home, "daemon", "daemon", "fork,3")
    assert f["state"] == "ingested"
    assert home.marked(r["run_id"]) == []


@pytest.mark.bare_v2
@pytest.mark.needs_cgroups
def test_r03_a_fork_bomb_is_contained(misbehave):
    home = misbehave(wall_s=2, cgroup="pids = 30; memory_bytes = 268435456L; cpu_pct = 50;")
    home.tenant("neighbour", exec_="misbehave")
    home.reload()
    home.do("bomb", name="bomb.csv")
    run = home.wait_running()[0]
    until(lambda: len(home.marked(run["run_id"])) >= 20, home.path / "state", every=0.05, what="the bomb")
    home.do("print,alive", name="n.csv", tenant="neighbour")
    assert home.wait_file(tenant_id="neighbour")["state"] == "ingested"
    f = home.wait_file(file_name="bomb.csv")
    r = home.rows("runs", run["run_id"])[0]
    assert f["state"] == "quarantined" and (r["outcome"], r["limit"]) == ("timeout", "pids"), "it waited for what it could not have"
    assert home.marked(run["run_id"]) == []


LIMITS = [
    ("cpu", ["spin"], {"rlimits": "cpu_s = 1;"}, "limit", "cpu_s"),
    ("fsize", ["file,100000"], {"rlimits": "fsize_bytes = 50000L;"}, "limit", "fsize_bytes"),
    ("wall", ["hang"], {"wall_s": 1}, "timeout", "wall_s"),
    ("as", ["leak,100000000"], {"rlimits": "as_bytes = 50000000L;"}, "failed", None),
    ("nofile", ["fds,30"], {"rlimits": "nofile = 20;"}, "failed", None),
    ("memory", ["leak,100000000"], {"cgroup": "memory_bytes = 33554432L; pids = 64;"}, "oom", "memory_bytes"),
    ("pids", ["fork,20"], {"cgroup": "pids = 10;"}, "limit", "pids"),
]


@pytest.mark.bare_v2
@pytest.mark.parametrize("name,actions,profile,expected,limit", LIMITS, ids=[x[0] for x in LIMITS])
def test_r04_each_limit_holds_and_is_named(misbehave, name, actions, profile, expected, limit):
    if "cgroup" in profile and not HAS_CGROUPS:
        pytest.skip("needs cgroup controllers")
    home = misbehave(**profile)
    f, r = outcome(home, *actions)
    assert (f["state"], r["outcome"], r["limit"]) == ("quarantined", expected, limit)
    assert f["reason"] == expected


@pytest.mark.bare_v2
def test_r04_just_inside_the_limits_is_fine(misbehave):
    home = misbehave(rlimits="fsize_bytes = 100000L; nofile = 64;")
    f, r = outcome(home, "file,100000", "fds,40")
    assert (f["state"], r["outcome"]) == ("ingested", "ok")


@pytest.mark.bare_v2
@pytest.mark.parametrize("size,code,limit", [(200000, 0, "fsize_bytes"), (200000, 3, "fsize_bytes"), (99999, 0, None)])
def test_r04_a_file_that_was_cut_off_is_named_whoever_wrote_it(home, size, code, limit):
    """The kernel tells the process alone, and its parent need not pass it on: the file tells."""
    home.profiles(rlimits="fsize_bytes = 100000L; nofile = 64;")
    home.tenant(exec_="cut", retry="attempts = 1;")
    path = home.path / "apps/acme/cut"
    path.write_text(f"#!/bin/sh\nmkdir deep\n(head -c {size} /dev/zero > deep/file)\nexit {code}\n")
    path.chmod(0o755)
    home.up()
    home.drop("x.csv", "v\n1\n")
    f = home.wait_file(file_name="x.csv")
    r = home.rows("runs", f["run_id"])[0]
    assert (r["outcome"], r["limit"]) == ("failed" if code else "ok", limit)
    assert f["state"] == ("quarantined" if code else "ingested")


@pytest.mark.bare_v2
def test_r04_a_plain_kill_is_told_apart_from_oom(misbehave):
    home = misbehave()
    f, r = outcome(home, "signal,9")
    assert (r["outcome"], r["limit"], r["signal"]) == ("killed", None, 9)


@pytest.mark.bare_v2
@pytest.mark.parametrize("mode", ["stdout", "dir"])
def test_r04_output_over_the_cap_never_passes_as_ok(misbehave, mode):
    home = misbehave(batch=f'output = "{mode}";', output_bytes="100000L")
    if mode == "stdout":
        f, r = outcome(home, "rows,100000")
    else:
        home.install("acme", RELEASE / "tenants/misbehave")
        script = home.path / "apps/acme/misbehave"
        script.unlink()
        script.write_text("#!/bin/sh\nhead -c 200000 /dev/zero | tr '\\0' x > $SIMBDP_OUTPUT_DIR/big.json\n")
        script.chmod(0o755)
        f, r = outcome(home, "x")
    assert (f["state"], r["outcome"], r["limit"]) == ("quarantined", "limit", "output_bytes")
    assert home.count() == 0


@pytest.mark.bare_v2
def test_r05_floods_are_capped_and_the_manager_stays_small(misbehave):
    home = misbehave(output_bytes="65536L")
    home.do("print,before", name="before.csv")  # a run takes what it takes
    home.wait_file(file_name="before.csv")
    before = int(pathlib.Path(f"/proc/{home.batchmgr_pid()}/statm").read_text().split()[1])
    f, r = outcome(home, "flood,300000000", "oneline,100000000", "print,the end")
    assert (f["state"], r["outcome"], r["limit"]) == ("ingested", "ok", "output_bytes"), "it did no harm, and is named"
    run_dir = home.path / "runs" / r["run_id"]
    assert sum((run_dir / n).stat().st_size for n in ("log", "log.1")) <= 65536
    result = json.loads((run_dir / "result.json").read_text())
    assert result["output_bytes"] == 400000000 + len("the end\n")
    assert result["output_bytes_dropped"] == result["output_bytes"] - sum((run_dir / n).stat().st_size for n in ("log", "log.1"))
    assert home.log_of(r["run_id"]).endswith("the end\n")
    after = int(pathlib.Path(f"/proc/{home.batchmgr_pid()}/statm").read_text().split()[1])
    assert after - before < 2048  # pages


def test_r06_what_an_app_can_see(make_home):
    home = make_home()
    home.tenant(exec_="misbehave", retry="attempts = 1;", batch='env = ( { name = "MINE"; value = "yes"; } );')
    home.tenant("other", exec_="misbehave")
    home.env["PLATFORM_SECRET"] = "do not show"
    home.up()
    home.drop("theirs.csv", "do,arg\nexit,1\n", "other")
    theirs = home.wait_file(tenant_id="other")
    paths = [home.path / "state/ledger.db", home.path / "keys/master.key", home.path / "state/endpoints.json",
             home.path / "quarantine/other/data" / theirs["file_id"] / "theirs.csv", home.path / "staging/other/data"]
    f, r = outcome(home, "env", "openfds", "uid", *[f"read,{p}" for p in paths], name="mine.csv")
    log = home.log_of(r["run_id"])
    env = {line.split("=", 1)[0][4:]: line.split("=", 1)[1] for line in log.splitlines() if line.startswith("env ")}
    assert env["MINE"] == "yes" and "PLATFORM_SECRET" not in env and "PLATFORM_SECRET" not in log
    allowed = {"PATH", "LANG", "HOME", "TMPDIR", "MONGO_URL", "MONGO_DATABASE", "MONGOC_DISABLE_SHM", "ZMQ_MONITOR_ENDPOINT", "MINE", "PWD", "TRACEPARENT"}
    assert {k for k in env if not k.startswith("SIMBDP_")} <= allowed
    assert env["PATH"] == f"/usr/local/bin:/usr/bin:/bin:{home.path}/bin" and env["SIMBDP_APP_DIR"] == str(home.path / "apps/acme") and env["LANG"] == "C.UTF-8"
    assert (env["SIMBDP_TENANT_ID"], env["SIMBDP_APP"], env["SIMBDP_RUN_ID"], env["SIMBDP_ATTEMPT"], env["SIMBDP_DATASET"]) == \
        ("acme", "app", r["run_id"], "1", "data")
    assert env["MONGO_DATABASE"] == home.db_of["acme"]
    fds = sorted(int(line.split()[1]) for line in log.splitlines() if line.startswith("fd "))
    assert fds == [0, 1, 2]
    if os.geteuid() == 0:
        uid = next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")
        assert f"uid {uid} gid {uid}" in log and uid >= 60000
        for p in paths:
            assert f"read {p} No such file or directory" in log


def test_r06_the_input_directory_holds_this_file_only(make_home):
    home = make_home()
    home.tenant(exec_="look", retry="attempts = 1;")
    look = home.path / "apps/acme/look"
    look.write_text('#!/bin/sh\nls -A "$SIMBDP_INPUT_DIR"\ncat "$SIMBDP_INPUT_FILES"\ncat\n'
                    'touch "$SIMBDP_INPUT_DIR/new" 2>/dev/null && echo WROTE\necho x >> "$SIMBDP_INPUT_DIR/"* 2>/dev/null && echo CHANGED\ntrue\n')
    look.chmod(0o755)
    home.up()
    home.drop("my file.csv", "a\n1\n")
    f = home.wait_file(file_name="my file.csv")
    lines = home.log_of(f["run_id"]).splitlines()
    assert lines[0] == "my_file.csv" and lines[2:4] == ["a", "1"]
    listed = json.loads(lines[1])
    assert listed["original_name"] == "my file.csv" and listed["name"] == "my_file.csv" and listed["size_bytes"] == 4
    if os.geteuid() == 0:
        assert "WROTE" not in lines and "CHANGED" not in lines


def test_r06_forged_results_gain_nothing(misbehave):
    home = misbehave()
    f, r = outcome(home, 'result,{"rows_parsed": 999, "rows_loaded": 999}', name="forged.csv")
    assert (f["state"], f["reason"], r["outcome"]) == ("quarantined", "result_contradicts", "failed")
    f, r = outcome(home, 'result,{"rows_loaded": -5}', name="negative.csv")
    assert f["reason"] == "result_contradicts"
    f, r = outcome(home, "result,not json", name="junk.csv")
    assert f["reason"] == "result_contradicts"
    f, r = outcome(home, f"link,{home.path}/state/home.json", name="link.csv")
    assert "version" not in (json.loads((home.path / "runs" / r["run_id"] / "result.json").read_text())["app_result"] or "")
    f, r = outcome(home, 'result,{"rows_parsed": 1, "rows_loaded": 1, "rejects_file": "../../../../state/home.json"}', name="path.csv")
    assert f["reason"] == "result_contradicts" and (home.path / "state/home.json").exists()
    f, r = outcome(home, 'result,{"rows_parsed": 1, "rows_loaded": 1, "rows_rejected": 0}', name="true.csv")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 1, 0)


def test_r07_exit_codes(misbehave):
    home = misbehave(retry="attempts = 2; backoff_ms = 10; max_backoff_ms = 20; give_up_s = 1;")
    f, r = outcome(home, "print,nothing")
    assert (f["state"], f["rows_loaded"], f["attempts"]) == ("ingested", None, 1)
    f, r = outcome(home, "exit,65")
    assert (f["state"], f["reason"], f["attempts"], r["outcome"]) == ("quarantined", "data_error", 1, "data_error")
    f, r = outcome(home, "exit,3")
    assert (f["state"], f["reason"], f["attempts"], r["exit_code"]) == ("quarantined", "failed", 2, 3)
    f, r = outcome(home, "signal,11")
    assert (f["state"], f["reason"], r["outcome"], r["signal"]) == ("quarantined", "killed", "killed", 11)
    f, r = outcome(home, "until,2")
    assert (f["state"], f["attempts"]) == ("ingested", 2)
    f, r = outcome(home, "exit,75")
    assert (f["state"], f["reason"], f["attempts"], r["outcome"]) == ("quarantined", "give_up_s", 0, "temp_fail")
    once = home.base / "open"
    once.mkdir()
    once.chmod(0o777)
    f, r = outcome(home, f"once,{once}/flag 75")
    assert (f["state"], f["attempts"]) == ("ingested", 1)


def test_r08_a_hanging_tree_is_gone_after_the_timeout(misbehave):
    home = misbehave(wall_s=1, grace_s=0)
    f, r = outcome(home, "fork,3", "daemon", "hang")
    assert (f["state"], r["outcome"]) == ("quarantined", "timeout") and home.marked(r["run_id"]) == []


@pytest.mark.anyone
def test_r09_what_crashes_again_and_again_comes_back_ever_later_until_it_is_healthy(home):
    home.tenant()
    home.up()

    def restart_after_kill():
        # Its spawner has its command line until the exec.
        (old,) = until(lambda: len(pids := home.pids("batchmgr")) == 1 and pids, every=0.01, what="one batchmgr")
        os.kill(old, signal.SIGKILL)
        began = time.monotonic()
        until(lambda: [p for p in home.pids("batchmgr") if p != old], every=0.01, what="the next batchmgr")
        return time.monotonic() - began
    delays = [restart_after_kill() for _ in range(5)]
    assert delays[0] < 2 and all(d >= least for d, least in zip(delays[1:], (0.05, 0.1, 0.2, 0.4)))  # doubles; the upper half is jittered
    assert delays[4] < 4
    healthy = time.monotonic() + 10.5
    until(lambda: time.monotonic() > healthy, what="ten seconds of health")
    assert restart_after_kill() < 0.4  # it would be 0.8 and more
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_r10_batchmgr_killed_with_50_runs_going(misbehave):
    n = 10 if "slurm" in engines.NAMES else 50  # a job takes Slurm a second to begin
    home = misbehave(concurrency=60, cpus=0.01)
    gate = home.base / "gate"
    for i in range(n):
        home.do(f"print,{i}", f"gate,{gate}", f"exit,{3 if i % 10 == 0 else 0}", name=f"g{i}.csv")
    before = home.wait_running(n)
    until(lambda: all(home.marked(r["run_id"]) for r in before), home.path / "runs", what="all apps")  # on a node, they are there a little later
    pids = {r["run_id"]: home.marked(r["run_id"]) for r in before}
    home.kill_batchmgr()
    assert home.control({"op": "status"})["running"] == n
    assert {r["run_id"]: home.marked(r["run_id"]) for r in before} == pids  # not one was started anew
    gate.touch()
    files = home.wait_files(n)
    runs = home.rows("runs")
    assert len(runs) == n and sorted({r["exit_code"] for r in runs}) == [0, 3]
    assert sum(r["exit_code"] == 3 for r in runs) == n // 10
    assert sum(f["state"] == "ingested" for f in files) == 45


def test_r10_ends_while_batchmgr_is_away_are_not_missed(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", "exit,7", name="away.csv")
    run = home.wait_running()[0]
    pid = home.batchmgr_pid()
    os.kill(pid, signal.SIGSTOP)
    gate.touch()
    result = home.path / "runs" / run["run_id"] / "result.json"
    until(result.exists, result.parent, what="the result")
    os.kill(pid, signal.SIGKILL)
    f = home.wait_file(file_name="away.csv")
    assert not os.path.exists(f"/dev/shm/mongoc-{pid}"), "libmongoc's counters outlive nobody"
    r = home.rows("runs", run["run_id"])[0]
    assert (f["state"], r["outcome"], r["exit_code"], len(home.rows("runs"))) == ("quarantined", "failed", 7, 1)


def test_r11_a_killed_runner_takes_its_tree_along_and_the_file_is_tried_again(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do("daemon", f"gate,{gate}", name="lost.csv")
    run = home.wait_running()[0]
    os.kill(runner_of(home.marked(run["run_id"])[0]), signal.SIGKILL)
    first = until(lambda: (lambda r: r if r["state"] == "ended" else None)(home.rows("runs", run["run_id"])[0]), home.path / "state")
    assert first["outcome"] == "lost" and home.marked(run["run_id"]) == []
    gate.touch()
    f = home.wait_file(file_name="lost.csv")
    assert (f["state"], f["attempts"], len(home.rows("runs"))) == ("ingested", 1, 2)


def test_r11_also_while_batchmgr_is_down(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do("daemon", f"gate,{gate}", name="lost.csv")
    run = home.wait_running()[0]
    pid = home.batchmgr_pid()
    os.kill(pid, signal.SIGSTOP)
    os.kill(runner_of(home.marked(run["run_id"])[0]), signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    gate.touch()
    f = home.wait_file(file_name="lost.csv")
    assert f["state"] == "ingested" and home.rows("runs", run["run_id"])[0]["outcome"] == "lost"
    assert home.marked(run["run_id"]) == []


def test_r13_reload_is_all_or_nothing_and_leaves_runs_alone(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="going.csv")
    run = home.wait_running()[0]
    conf = home.path / "conf/tenants/acme.conf"
    good = conf.read_text()
    conf.write_text(good + "concurency = 3;\n")
    answer = home.control({"op": "reload"})
    assert not answer["ok"] and "acme.conf:4" in answer["error"] and "concurency" in answer["error"]
    assert home.control({"op": "status"})["running"] == 1
    conf.write_text(good)
    home.tenant("late")
    assert home.reload()["ok"]
    home.drop("x.csv", "a\n1\n", "late")
    assert home.wait_file(tenant_id="late")["state"] == "ingested"
    os.unlink(home.path / "conf/tenants/late.conf")
    assert home.reload()["ok"]
    home.drop("y.csv", "a\n2\n", "late")
    gate.touch()
    assert home.wait_file(file_name="going.csv")["run_id"] == run["run_id"]
    assert not home.files(file_name="y.csv")  # suspended, nothing deleted
    assert (home.path / "staging/late/data/y.csv").exists()


@pytest.mark.needs_root
@pytest.mark.own_runs("its spawner's cgroup stands for the process table")
def test_r14_a_full_process_table_is_survived(misbehave):
    # The pids cgroup of the runs' parent stands for the process table.
    home = misbehave(retry="attempts = 1;")
    base = next(p for p in pathlib.Path("/sys/fs/cgroup").rglob("mysimbdp-*") if (p / "pids.max").exists()
                and p.name.endswith(json.loads((home.path / "state/endpoints.json").read_text())["batchmgr"]["ipc"].split("/")[2][9:]))
    home.do("print,first", name="first.csv")
    home.wait_files(1)  # so the spawner looked at its cgroups before it goes to another one
    spawner = home.spawner_of("batchmgr")
    limit = pathlib.Path("/sys/fs/cgroup/pids") / "simbdp-test-full" if (pathlib.Path("/sys/fs/cgroup/pids")).exists() else base.parent / "simbdp-test-full"
    limit.mkdir(exist_ok=True)
    (limit / "cgroup.procs").write_text(str(spawner))
    (limit / "pids.max").write_text("1")
    try:
        for i in range(3):  # a runner may stand by already; it serves one
            home.do(f"print,{i}", name=f"later{i}.csv")
        until(lambda: "process table is full" in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="the refusal")
        assert home.control({"op": "status"})["ok"]
    finally:
        (limit / "pids.max").write_text("max")
    assert {(f["state"], f["attempts"]) for f in home.wait_files(4)} == {("ingested", 1)}
    home.down()
    limit.rmdir()


def test_r14_running_out_of_descriptors_is_survived(misbehave):
    home = misbehave()
    home.do("print,before", name="before.csv")
    home.wait_file(file_name="before.csv")
    pid = home.batchmgr_pid()
    top = max(int(x) for x in os.listdir(f"/proc/{pid}/fd"))
    before = allow_descriptors(pid, top + 1)
    for i in range(20):
        home.do(f"print,{i}", name=f"{i}.csv")
    idle = [socket.socket(socket.AF_UNIX) for _ in range(3)]
    for c in idle:
        c.connect(home.socket_path())  # and says nothing, as the monitor between two questions
    assert home.control({"op": "status"})["ok"]
    assert home.control({"op": "status"})["ok"]
    for c in idle:
        c.close()
    allow_descriptors(pid, before)
    files = home.wait_files(21)
    assert {f["state"] for f in files} == {"ingested"} and {f["attempts"] for f in files} == {1}
    assert home.batchmgr_pid() == pid


def test_r15_a_killed_spawner_is_replaced_and_runs_live_on(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="one.csv")
    run = home.wait_running()[0]
    os.kill(home.spawner_of("batchmgr"), signal.SIGKILL)
    home.do("print,two", name="two.csv")
    assert home.wait_file(file_name="two.csv")["state"] == "ingested"
    gate.touch()
    f = home.wait_file(file_name="one.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1)
    assert len(home.rows("runs", "--file", f["file_id"])) == 1
    # Whether two.csv's run was handed to the spawner that was dying, or to its closed socket, is chance; it cost nothing.
    second = home.files(file_name="two.csv")[0]
    *never, last = home.rows("runs", "--file", second["file_id"])
    assert second["attempts"] == 1 and last["outcome"] == "ok"
    free = ("it was never started", "cannot hand the run to the spawner")
    assert all(r["outcome"] == "lost" and r["error"].startswith(free) for r in never), never


def test_r15_down_leave_runs_and_up_again(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", "exit,4", name="across.csv")
    run = home.wait_running()[0]
    pids = home.marked(run["run_id"])
    home.down("--leave-runs")
    assert home.marked(run["run_id"]) == pids
    home.up()
    assert home.marked(run["run_id"]) == pids
    gate.touch()
    f = home.wait_file(file_name="across.csv")
    assert (f["state"], home.rows("runs")[0]["exit_code"], len(home.rows("runs"))) == ("quarantined", 4, 1)


def test_down_ends_runs_and_costs_no_attempt(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="drained.csv")
    run = home.wait_running()[0]
    home.down()
    assert home.marked(run["run_id"]) == []
    f = home.files()[0]
    assert (f["state"], f["attempts"]) == ("queued", 0)
    gate.touch()
    home.up()
    f = home.wait_file(file_name="drained.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1)


def test_down_does_not_wait_for_good(misbehave):
    """A manager that hangs cannot end its runs: whoever is in a hurry leaves them to the next `up`. One that cannot start is given up."""
    home = misbehave()
    for i, hurry in enumerate((lambda: home.cli("down", "--leave-runs"), lambda: os.kill(home.up_process.pid, signal.SIGTERM))):
        gate = home.base / f"gate{i}"
        home.do(f"gate,{gate}", "exit,4", name=f"across{i}.csv")
        run = home.wait_running()[0]
        pids = home.marked(run["run_id"])
        os.kill(home.batchmgr_pid(), signal.SIGSTOP)
        down = subprocess.Popen([BUILD / "mysimbdp", "down"], env=home.env)
        with pytest.raises(subprocess.TimeoutExpired):
            down.wait(timeout=2)
        hurry()
        assert down.wait(timeout=60) == 0 and home.up_process.wait(timeout=60) == 0
        home.up_process.stdout.close()
        assert home.marked(run["run_id"]) == pids
        home.up()
        gate.touch()
        assert home.wait_file(file_name=f"across{i}.csv")["state"] == "quarantined"
    (home.path / "conf/mysimbdp.conf").write_text("platform = {")
    home.kill("batchmgr")
    home.down()


def test_stop_quarantines_and_retry_brings_back(misbehave):
    home = misbehave()
    gate = home.base / "gate"
    home.do("daemon", f"gate,{gate}", name="stopped.csv")
    run = home.wait_running()[0]
    home.cli("stop", run["run_id"])
    f = home.wait_file(file_name="stopped.csv")
    assert (f["state"], f["reason"]) == ("quarantined", "stopped") and home.marked(run["run_id"]) == []
    assert home.cli("stop", run["run_id"], check=False).returncode == 1
    gate.touch()
    home.cli("retry", f["file_id"])
    home.wait_files(1, lambda f: f["state"] == "ingested")
    assert not list((home.path / "quarantine/acme/data").iterdir())
