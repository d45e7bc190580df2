"""What killed runners and homes leave: locks, sockets, cgroups, scratch; and who clears it."""
import os
import pathlib
import shutil
import signal
import subprocess
import time

import pytest
from harness import runner_of, until


def hold(home):
    """A run that stays: its id, its app's process and its runner's."""
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    home.do("hang")
    run_id = home.wait_running()[0]["run_id"]
    app = until(lambda: [p for p in home.marked(run_id) if "misbehave" in pathlib.Path(f"/proc/{p}/cmdline").read_text()], what="the app")[0]
    return run_id, app, runner_of(app)


def kill_all(home):
    """As a power cut for the programs would, but that the kernel keeps what it has."""
    home.up_process.kill()
    home.up_process.wait()
    while pids := [p for name in ("batchmgr", "streammgr", "monitor", "broker", "simbdp-run", "simbdp-keeper", "simbdp-inspect") for p in home.pids(name)]:
        for p in pids:
            try:
                os.kill(p, signal.SIGKILL)
            except ProcessLookupError:
                pass
    home.up_process.stdout.close()
    home.up_process = None


def test_a_home_that_is_down_leaves_nothing(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "a\n1\n")
    home.wait_files(1)
    home.down()
    assert home.remains() == []
    home.up()
    home.drop("b.csv", "a\n2\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"


def test_runs_that_go_on_keep_what_is_theirs(home):
    run_id, app, runner = hold(home)
    home.down("--leave-runs")
    kept = [p.name for p in home.remains()]
    assert f"{run_id}.lock" in kept and f"{run_id}.sock" in kept
    home.up()
    assert [r["run_id"] for r in home.wait_running()] == [run_id] and runner_of(app) == runner
    home.cli("stop", run_id)
    assert home.wait_files(1)
    home.down()
    assert home.remains() == []


def test_what_a_killed_home_left_goes_with_its_next_start(home):
    run_id, app, _ = hold(home)
    kill_all(home)
    until(lambda: not pathlib.Path(f"/proc/{app}").exists() or not home.marked(run_id), what="the tree to end") if home.all_walls else os.kill(app, signal.SIGKILL)
    (home.runtime() / f"{run_id}.sock").exists() or pytest.fail("it was not killed in the middle")
    for name in ("00000000000000000000000001", "00000000000000000000000001-load"):  # of runs that no ledger knows any more
        (home.runtime() / f"{name}.lock").touch()
        for parent in {p.parent for p in home.cgroups() if p.parent.name.startswith("mysimbdp-")} | {p for p in home.cgroups() if p.name.startswith("mysimbdp-")}:
            (parent / name).mkdir()
    home.up()
    until(lambda: [r["outcome"] for r in home.rows("runs") if r["run_id"] == run_id] == ["lost"], home.path / "state", what="its end")
    until(lambda: not [p for p in home.remains() if p.name.startswith((run_id, "0000"))], home.runtime(), what=home.remains)
    home.down()
    assert home.remains() == []


@pytest.mark.needs_cgroups
def test_parents_that_were_taken_away_are_made_again(home):
    home.tenant()
    home.up()
    home.drop("a.csv", "a\n1\n")
    home.wait_files(1)

    def take_away():
        for p in home.cgroups():
            try:
                p.rmdir()
            except OSError:
                pass
        return not home.cgroups()
    for n in range(4):  # also the one that the runner standing by was in
        os.kill(home.spawner_of(), signal.SIGKILL) if n == 2 else None
        for p in home.pids("simbdp-run", "standby") if n % 2 else ():
            os.kill(p, signal.SIGKILL)
        take_away()
        home.drop(f"{n}.csv", f"a\n{n}0\n")
        f = home.wait_file(file_name=f"{n}.csv")
        assert f["state"] == "ingested" and f["attempts"] <= 1, f
    assert home.cgroups()


@pytest.mark.needs_cgroups
@pytest.mark.needs_root
def test_doctor_finds_and_removes_those_of_homes_that_are_gone(make_home):
    gone, runs, here = make_home(), make_home(), make_home()
    run_id, app, _ = hold(gone)
    runs.tenant()
    runs.up()
    theirs = [p for p in runs.cgroups() if p.name.startswith("mysimbdp")]
    kill_all(gone)
    until(lambda: not gone.marked(run_id), what="the tree to end")
    left = gone.cgroups()
    assert [p for p in left if p.name == run_id]
    # Their cgroups have their pids, which are taken (also for doctor) until init has reaped them: has_ended() is too early.
    standing_by = [p.name.split("-")[1] for p in left if p.name.startswith("standby-")]
    until(lambda: not any(pathlib.Path("/proc", pid).exists() for pid in standing_by), what="init to reap the killed")
    shutil.rmtree(gone.path)

    def fix():
        r = here.cli("doctor", "--fix", check=False)
        assert "cgroups of other homes" in r.stdout, r.stdout
        return gone.cgroups()
    assert fix() == left, "somebody may be about to come into what is young"
    long_ago = time.time() - 3600
    for p in left:
        os.utime(p, (long_ago, long_ago))
    said = [line for line in here.cli("doctor", check=False).stdout.splitlines() if "cgroups of other homes" in line]
    assert said and "--fix" in here.cli("doctor", check=False).stdout and gone.cgroups() == left, "without --fix nothing is removed"
    assert fix() == []
    assert [p for p in runs.cgroups() if p.name.startswith("mysimbdp")] == theirs and here.cgroups() == []
