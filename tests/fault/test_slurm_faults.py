"""What can happen to a run that is a job of a Slurm cluster: each has its row in the table of docs/cluster.md. None is charged to the app that is not the app's,
and no file's app runs twice at once."""
import os
import pathlib
import signal

import pytest
from harness import runner_of, until
from slurm import diagnosis, file_with_a_kill, job_of, run_of, running, steps_of, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


@pytest.fixture
def gated(cluster_home):
    """A home with a file whose app waits until gate() is called, and the run of it."""
    def make(**kw):
        home = cluster_home(**kw)
        gate = home.base / "gate"
        home.do(f"gate,{gate}", name="x.csv")
        return home, running(home), gate.touch
    return make


def wait_again(home, run, reason):
    """The file waits for that reason, uncharged, or is running again already."""
    def told():
        rows = {r["run_id"]: r for r in home.rows("runs")}
        return rows[run["run_id"]]["state"] == "ended" and rows
    rows = until(told, home.path / "state", what=lambda: f"the end of {home.rows('runs')}")
    f = home.files()[0]
    assert f["attempts"] == 0 and f["state"] in ("waiting", "queued", "running"), f
    assert f["reason"] in (reason, None) if f["state"] != "waiting" else f["reason"] == reason, f
    return rows[run["run_id"]]


def test_cancelled_by_an_admin(gated, slurm):
    home, run, gate = gated()
    slurm.run("scancel", job_of(slurm, run)[0])
    first = wait_again(home, run, "cancelled")
    assert "Slurm says CANCELLED" in first["error"], first
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"], f["run_id"] != run["run_id"]) == ("ingested", 1, True), f


def test_a_runner_that_is_killed(gated, slurm):
    """There is no result. Its node says that nothing is left before the file runs again."""
    home, run, gate = gated()
    pids = home.marked(run["run_id"])
    os.kill(runner_of(pids[0]), signal.SIGKILL)
    first = wait_again(home, run, "lost")
    assert "its node says that nothing of it is left" in first["error"], first
    assert not any(pathlib.Path(f"/proc/{p}").exists() for p in pids)
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), f


def test_preempted(gated, slurm):
    home, run, gate = gated(more='slurm = { partition = "low"; };')
    job, node = job_of(slurm, run)[0], run["node"]
    slurm.run("sbatch", "--partition=high", f"--nodelist={node}", "--exclusive", "--output=/dev/null", "--job-name=other", "--chdir=/", home.path / "state/jobs/run.sh", "/bin/true")
    first = wait_again(home, run, "preempted")
    assert "PREEMPTED" in first["error"] and job in first["error"], first
    gate()
    assert home.wait_file(file_name="x.csv")["attempts"] == 1


def test_what_slurm_forgot_its_accounting_knows(cluster_home, slurm):
    """A squeue that tells of no job that ended, as after MinJobAge, and a sacct in sacct's format: the real one wants a slurmdbd, and that a MySQL."""
    home = cluster_home(up=False)
    tools, gate = home.base / "tools", home.base / "gate"
    tools.mkdir()
    (tools / "squeue").write_text("#!/bin/sh\n/usr/bin/squeue \"$@\" >$0.out || exit 1\ngrep -E '[|](RUNNING|PENDING|COMPLETING)[|]' $0.out\nexit 0\n")
    (tools / "sacct").write_text("#!/bin/sh\necho \"$@\" >$0.args\nfor id; do :; done\n/usr/bin/squeue --noheader --states=all -O 'Name:|' \"$id\" | sed 's/|$/|PREEMPTED/'\n")
    for tool in list(tools.iterdir()):
        tool.chmod(0o755)
    home.env["PATH"] = f"{tools}:{home.env['PATH']}"
    home.up()
    home.do(f"gate,{gate}", name="x.csv")
    run = running(home)
    job = job_of(slurm, run)[0]
    slurm.run("scancel", job)
    first = wait_again(home, run, "preempted")
    assert "Slurm's accounting says PREEMPTED" in first["error"], first
    assert f"--jobs={job}" in (tools / "sacct.args").read_text()
    gate.touch()
    assert home.wait_file(file_name="x.csv")["attempts"] == 1


def test_runs_that_are_stopped_while_sbatch_hangs_hold_nobody_up(cluster_home):
    """So many are submitted at a time, and a stop does not wait for sbatch."""
    home = cluster_home(up=False)
    tools, calls = home.base / "tools", home.base / "calls"
    tools.mkdir()
    calls.touch()
    os.mkfifo(home.base / "hold")
    (tools / "sbatch").write_text(f"#!/bin/sh\necho once >>{calls}\nread x <{home.base}/hold\n")
    (tools / "sbatch").chmod(0o755)
    home.env["PATH"] = f"{tools}:{home.env['PATH']}"
    home.up()
    for i in range(9):
        home.do("exit,0", name=f"s{i}.csv")
        run = until(lambda: next((r for r in home.rows("runs") if r["state"] != "ended"), None), home.path / "state", what="a run")
        if i < 8:
            until(lambda i=i: len(calls.read_text().split()) > i, home.base, what="sbatch")
        home.cli("stop", run["run_id"])
        f = home.wait_file(file_name=f"s{i}.csv")
        assert (f["state"], f["reason"]) == ("quarantined", "stopped"), f
    (tools / "sbatch").unlink()
    home.do("exit,0", name="x.csv")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_requeued_against_our_word(gated, slurm):
    """Jobs are submitted with --no-requeue. Where an admin changes that, the job that comes again finds the fence, and does not run."""
    home, run, gate = gated()
    job = job_of(slurm, run)[0]
    slurm.run("scontrol", "update", f"JobId={job}", "Requeue=1")
    slurm.run("scontrol", "requeue", job)
    first = wait_again(home, run, "requeued")
    assert first["outcome"] in ("killed", "lost"), first
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"], f["run_id"] != run["run_id"]) == ("ingested", 1, True), f


def test_more_memory_than_the_job_has(cluster_home, slurm):
    """By Slurm's cgroup, where the run's own has no limit: that is the app's, and charged."""
    home = cluster_home(cgroup="", retry="attempts = 1;", more="slurm = { memory_bytes = 100000000L; };")
    home.do("leak,300000000", name="x.csv")
    f = home.wait_file(file_name="x.csv")
    run = run_of(home, f)
    assert (f["state"], f["reason"], run["outcome"]) == ("quarantined", "oom", "oom"), (f, run)


@pytest.mark.soak
@pytest.mark.parametrize("whose", ["the run's", "Slurm's"])
def test_slurms_time_limit(cluster_home, slurm, whose):
    """Where the run has a limit of its own, an earlier one of Slurm's (an admin's) is not the app's; where it has none, it is the run's."""
    home = cluster_home(wall_s=3600 if whose == "Slurm's" else -1, retry="attempts = 1;", more="" if whose == "Slurm's" else "slurm = { time_s = 1; };")
    home.do("hang", name="x.csv")
    run = running(home)
    if whose == "Slurm's":
        slurm.run("scontrol", "update", f"JobId={job_of(slurm, run)[0]}", "TimeLimit=1")
    ended = until(lambda: next((r for r in home.rows("runs") if r["run_id"] == run["run_id"] and r["state"] == "ended"), None), home.path / "state", timeout=200, what="the limit")
    if whose == "Slurm's":
        f = home.files()[0]
        assert "Slurm says TIMEOUT" in ended["error"] and (f["reason"], f["attempts"]) == ("time_limit", 0), (f, ended)
    else:
        f = home.wait_file(file_name="x.csv")
        assert (f["state"], f["reason"], ended["outcome"], ended["limit"]) == ("quarantined", "timeout", "timeout", "wall_s"), (f, ended)


@pytest.mark.soak
def test_a_controller_that_is_killed_and_comes_back(gated, slurm):
    home, run, gate = gated()
    slurm.kill("slurmctld")
    try:
        gate()
        f = home.wait_file(file_name="x.csv")  # what runs goes on to its end
        assert (f["state"], f["run_id"]) == ("ingested", run["run_id"]), f
        home.do("exit,0", name="y.csv")
        waits = wait_run(home, lambda r: "Slurm does not answer" in (r["error"] or ""), "a start that waits")
        assert waits["state"] == "starting" and home.control({"op": "status"})["running"] == 1
        assert home.files(file_name="y.csv")[0]["attempts"] == 0
    finally:
        slurm.start("slurmctld")
    f = home.wait_file(file_name="y.csv")  # perhaps not by the run that waited: a slurmctld that was killed may give a job's number to another
    assert (f["state"], f["attempts"]) == ("ingested", 1), f


@pytest.mark.soak
def test_munge_stops(gated, slurm):
    home, run, gate = gated()
    slurm.kill("munged")
    try:
        home.do("exit,0", name="y.csv")
        waits = wait_run(home, lambda r: "Slurm does not answer" in (r["error"] or "") and r["run_id"] != run["run_id"], "a start that waits")
        assert waits["state"] == "starting"
        found = diagnosis(home)
        assert found.get("authentication", found["slurmctld"])[0] == "failed", found
        gate()
        assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    finally:
        slurm.start("munged")
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", waits["run_id"], 1), f


def test_a_launcher_that_is_killed(gated, slurm):
    home, run, gate = gated()
    home.kill("simbdp-slurm")
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1), f


def test_a_node_that_is_not_heard_works_on(gated, slurm):
    """Its slurmd is killed: Slurm calls the node down and the job NODE_FAIL while the app runs on. The file waits for it, and is not run elsewhere meanwhile."""
    home, run, gate = gated()
    node, job = run["node"], job_of(slurm, run)[0]
    slurm.kill(node)
    try:
        waits = wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "the run that waits for its node")
        assert "NODE_FAIL" in waits["error"] and waits["state"] == "running" and home.marked(run["run_id"]), waits
        assert len(home.rows("runs")) == 1 and job_of(slurm, run) == (job, "NODE_FAIL")
        gate()  # it ends by itself, and what it did counts
        f = home.wait_file(file_name="x.csv")
        assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1), f
    finally:
        slurm.start(node)


def lose_power(slurm, node):
    """All that runs on the node is gone at once, its slurmd, the steps and what they started: frozen first, so that none sees another's end."""
    slurm.kill(node)
    group = pathlib.Path(f"/sys/fs/cgroup/freezer/slurm_{node}")
    state = group / "freezer.state"
    state.write_text("FROZEN")
    until(lambda: state.read_text() == "FROZEN\n", group, every=0.01, what="the node's processes to be frozen")
    for pid in steps_of(slurm.dir) | {int(pid) for f in group.rglob("cgroup.procs") for pid in f.read_text().split()}:
        os.kill(pid, signal.SIGKILL)
    state.write_text("THAWED")


@pytest.mark.soak
def test_a_node_that_is_lost_and_comes_back(gated, slurm):
    home, run, gate = gated()
    node = run["node"]
    lose_power(slurm, node)
    try:
        wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "the run that waits for its node")
        assert len(home.rows("runs")) == 1 and home.files()[0]["state"] == "running"
    finally:
        slurm.start(node)
    first = wait_again(home, run, "node_lost")
    assert "its node says that nothing of it is left" in first["error"], first
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"], f["run_id"] != run["run_id"]) == ("ingested", 1, True), f


@pytest.mark.soak
def test_a_person_says_that_the_node_is_off(gated, slurm):
    home, run, gate = gated()
    node = run["node"]
    r = home.cli("stop", run["run_id"], "--node-is-off", check=False)
    assert r.returncode == 1 and "does not wait for a node" in r.stderr and home.marked(run["run_id"]), r.stderr
    lose_power(slurm, node)
    try:
        wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "the run that waits for its node")
        home.cli("stop", run["run_id"], "--node-is-off")
        first = wait_again(home, run, "node_lost")
        assert "a person said" in first["error"], first
        gate()
        f = home.wait_file(file_name="x.csv")
        second = run_of(home, f)
        assert (f["state"], f["attempts"], second["node"] != node) == ("ingested", 1, True), (f, second)
    finally:
        slurm.start(node)


# Of the launcher, of batchmgr, and of the runner on its node.
POINTS = ["job_spec", "job_submitted", "job_id", "dispatch_commit", "spawn_send", "result_read", "verdict_commit", "run_ack", "run_claim_mkdir", "run_fork", "run_result_rename"]


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(cluster_home, slurm, point):
    """Whoever reaches the point is killed there: the app runs to its end once, the file is ingested, and nothing of the job stays."""
    home = cluster_home(up=False)
    file_with_a_kill(home, point)
    until(lambda: [p.name for p in (home.path / "state/jobs").iterdir()] == ["run.sh"], home.path / "state/jobs", what=lambda: f"{list((home.path / 'state/jobs').iterdir())} to go")
    until(lambda: all(state not in ("RUNNING", "PENDING", "COMPLETING") for name, (_, state) in slurm.jobs().items() if home.cgroup_tag() in name), home.path / "state", what="no job")
