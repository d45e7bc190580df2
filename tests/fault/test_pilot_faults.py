"""What can happen to pilots and to the runs in them: it costs a run a `lost` at the most, and each file is stored once."""
import os
import pathlib
import signal

import pytest
from harness import runner_of, until
from slurm import file_with_a_kill, pilots, steps_of, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


def pid_of_pilot(home, slurm):
    (node,) = {r["node"] for r in home.rows("runs") if r["state"] == "running"}
    found = [int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*") if f"simbdp-slurm\0--pilot\0{home.path}/state/jobs/".encode() in read(p / "cmdline")]
    assert len(found) == 1 and node in slurm.names, found
    return found[0]


def read(path):
    try:
        return path.read_bytes()
    except OSError:
        return b""


@pytest.fixture
def two(pilot_home):
    """A home with two files whose apps wait for one gate in one pilot and then print a row each, and their runs."""
    def make(**kw):
        home = pilot_home(**kw)
        gate = home.base / "gate"
        home.do(f"gate,{gate}", name="x.csv")
        home.do(f"gate,{gate}", "uid", name="y.csv")
        until(lambda: sum(r["state"] == "running" and bool(home.marked(r["run_id"])) for r in home.rows("runs")) == 2, home.path / "state", what=lambda: f"{home.rows('runs')}")
        return home, {f["file_name"]: f["run_id"] for f in home.files()}, gate.touch
    return make


def wait_ended(home, runs, outcomes=("lost", "killed")):
    def ended():
        rows = {r["run_id"]: r for r in home.rows("runs")}
        return all(rows[r]["state"] == "ended" for r in runs.values()) and rows
    rows = until(ended, home.path / "state", what=lambda: f"the end of {home.rows('runs')}")
    assert {rows[r]["outcome"] for r in runs.values()} <= set(outcomes), rows
    assert {f["attempts"] for f in home.files()} == {0}, home.files()
    return rows


def wait_ingested(home, runs, again):
    for name, run_id in runs.items():
        f = home.wait_file(file_name=name)
        assert (f["state"], f["attempts"], f["run_id"] != run_id) == ("ingested", 1, again), f
    assert sum(r["outcome"] == "ok" for r in home.rows("runs")) == len(runs)


def test_a_pilot_that_is_killed(two, slurm):
    """With all that is in it. Both are told of as lost once their node says that nothing of them is left, and run again in another."""
    home, runs, gate = two()
    pids = [p for r in runs.values() for p in home.marked(r)]
    os.kill(pid_of_pilot(home, slurm), signal.SIGKILL)
    rows = wait_ended(home, runs)
    assert not any(pathlib.Path(f"/proc/{p}").exists() for p in pids)
    assert any("its node says that nothing of it is left" in (rows[r]["error"] or "") for r in runs.values()) or {rows[r]["outcome"] for r in runs.values()} == {"killed"}, rows
    gate()
    wait_ingested(home, runs, again=True)
    assert len(pilots(slurm, home)) == 2


def test_a_runner_that_is_killed_in_a_pilot(two, slurm):
    """The pilot goes on, and the other run in it; what is left of that one is ended there."""
    home, runs, gate = two()
    pids = home.marked(runs["x.csv"])
    os.kill(runner_of(pids[0]), signal.SIGKILL)
    rows = wait_ended(home, {"x.csv": runs["x.csv"]}, ("lost",))
    assert "its node says that nothing of it is left" in rows[runs["x.csv"]]["error"] and not any(pathlib.Path(f"/proc/{p}").exists() for p in pids), rows
    assert home.marked(runs["y.csv"]) and rows[runs["y.csv"]]["state"] == "running"
    gate()
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["run_id"]) == ("ingested", runs["y.csv"]) and len(pilots(slurm, home)) == 1, f


def test_a_pilot_that_is_cancelled_by_an_admin(two, slurm):
    home, runs, gate = two()
    (first, _), = pilots(slurm, home).values()
    slurm.run("scancel", first)
    rows = wait_ended(home, runs)
    assert all("CANCELLED" in rows[r]["error"] for r in runs.values()), rows
    gate()
    wait_ingested(home, runs, again=True)


@pytest.mark.parametrize("who", ["simbdp-slurm", "batchmgr", "spawner"])
def test_who_is_killed_beside_a_pilot(two, slurm, who):
    """The launcher, its manager, or the pilot's own spawner: runs go on, and the same pilot takes the next."""
    home, runs, gate = two()
    if who == "batchmgr":
        home.kill_batchmgr()
    elif who == "simbdp-slurm":
        os.kill(launcher_of(home), signal.SIGKILL)
        until(lambda: launcher_of(home), home.path / "state", what="another launcher")
    else:
        os.kill(next(int(p.name) for p in pathlib.Path("/proc").glob("[0-9]*") if b"--spawn" in read(p / "cmdline") and str(home.path).encode() in read(p / "cmdline") and b"SLURM_JOB_ID=" in read(p / "environ")),
                signal.SIGKILL)
    gate()
    wait_ingested(home, runs, again=False)
    home.do("uid", "uid", name="z.csv")
    assert home.wait_file(file_name="z.csv")["state"] == "ingested" and len(pilots(slurm, home)) == 1


def launcher_of(home):
    return next((p for p in home.pids("simbdp-slurm") if b"--serve" in read(pathlib.Path(f"/proc/{p}/cmdline"))), None)


@pytest.mark.soak
def test_a_pilot_whose_slurmd_is_killed(two, slurm):
    """Slurm calls the node down and the job NODE_FAIL. What is in the pilot works on, and counts; nothing of it runs elsewhere meanwhile."""
    home, runs, gate = two()
    (node,) = {r["node"] for r in home.rows("runs")}
    slurm.kill(node)
    try:
        wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "a run that waits for its node")
        assert len(home.rows("runs")) == 2
        gate()
        wait_ingested(home, runs, again=False)
    finally:
        slurm.start(node)


def test_a_pilot_that_comes_back_from_the_dead(two, slurm):
    """Its node is frozen, and a person says that it is off: the files go on elsewhere. When it thaws, what it did counts nothing, and what it had not begun it does not begin."""
    home, runs, gate = two()
    (node,) = {r["node"] for r in home.rows("runs")}
    pilot = pid_of_pilot(home, slurm)
    slurm.kill(node)
    frozen = freeze(slurm, node)
    try:
        for r in runs.values():
            wait_run(home, lambda row, r=r: row["run_id"] == r and "--node-is-off" in (row["error"] or ""), "the run that waits for its node")
            home.cli("stop", r, "--node-is-off")
        wait_ended(home, runs, ("lost",))
        gate()
        wait_ingested(home, runs, again=True)
        before = home.rows("runs")
    finally:
        frozen.write_text("THAWED")
    until(lambda: not any(home.marked(r) for r in runs.values()), home.path / "state", what="its runs to end")
    assert all((home.path / "runs" / r / "result.json").exists() for r in runs.values())
    slurm.start(node)
    until(lambda: not pathlib.Path(f"/proc/{pilot}").exists(), home.path / "state", what="the pilot to be ended by its slurmd")
    assert home.rows("runs") == before and {f["state"] for f in home.files()} == {"ingested"}


def freeze(slurm, node):
    group = pathlib.Path(f"/sys/fs/cgroup/freezer/slurm_{node}")
    state = group / "freezer.state"
    state.write_text("FROZEN")
    until(lambda: state.read_text() == "FROZEN\n", group, every=0.01, what="the node's processes to be frozen")
    assert steps_of(slurm.dir)
    return state


# Of the launcher, of batchmgr, and of runners in a pilot.
POINTS = ["pilot_file", "pilot_given", "job_spec", "dispatch_commit", "spawn_send", "spawn_fork", "result_read", "verdict_commit", "run_ack", "run_claim_mkdir", "run_fork", "run_result_rename"]


@pytest.mark.soak
@pytest.mark.parametrize("point", POINTS)
def test_killed_at(pilot_home, slurm, point):
    """Whoever reaches the point is killed there: the app runs to its end once, and the file is ingested."""
    home = pilot_home(up=False)
    file_with_a_kill(home, point)
