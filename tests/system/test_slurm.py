"""Batch runs as jobs of a Slurm cluster (platform.launcher = "slurm"), on Debian's slurm-wlm: several nodes on loopback."""
import pytest
from harness import until
from slurm import job_of, run_of, running, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


def test_a_file_is_ingested_by_a_job(cluster_home, slurm):
    home = cluster_home(exec_="builtin:load")
    home.drop("a.csv", "a,b\n1,2\n3,4\n")
    f = home.wait_file(file_name="a.csv")
    run = run_of(home, f)
    assert (f["state"], f["rows_loaded"], run["outcome"], run["node"] in slurm.names) == ("ingested", 2, "ok", True), (f, run)
    assert sorted(d["a"] for d in home.docs()) == [1, 3]
    until(lambda: not list((home.path / "state/jobs").glob(f"{f['run_id']}*")), home.path / "state/jobs", what="the job's files to go")


def test_stop_ends_it_with_proof(cluster_home, slurm):
    home = cluster_home()
    home.do("hang", name="x.csv")
    run = running(home)
    home.cli("stop", run["run_id"])
    f = home.wait_file(file_name="x.csv")
    run = run_of(home, f)
    assert (f["state"], f["reason"], run["outcome"]) == ("quarantined", "stopped", "killed") and not home.marked(run["run_id"]), (f, run)


def test_what_slurm_does_not_take_is_not_charged(cluster_home, slurm):
    home = cluster_home(more='slurm = { constraint = "nowhere"; };')
    home.do("exit,0", name="x.csv")
    f = until(lambda: home.files(reason="not_started", state="waiting"), home.path / "state", what="the refusal")[0]
    assert "Slurm does not take the job" in f["detail"] and "feature" in f["detail"] and f["attempts"] == 0, f


def test_a_run_that_waits_for_a_node(cluster_home, slurm):
    home = cluster_home()
    for n in slurm.names:
        slurm.run("scontrol", "update", f"NodeName={n}", "State=DRAIN", "Reason=test")
    try:
        home.do("exit,0", name="x.csv")
        run = wait_run(home, lambda r: "waits in Slurm's queue" in (r["error"] or ""), "the reason")
        assert run["state"] == "starting"
        home.cli("stop", run["run_id"])
        f = home.wait_file(file_name="x.csv")
        assert (f["state"], f["reason"]) == ("quarantined", "stopped")
        until(lambda: job_of(slurm, run)[1] == "CANCELLED", home.path / "state/jobs", what="the job to be cancelled")
    finally:
        for n in slurm.names:
            slurm.run("scontrol", "update", f"NodeName={n}", "State=RESUME")


def test_a_killed_batchmgr_finds_its_jobs(cluster_home, slurm):
    home = cluster_home(exec_="misbehave")
    home.do("hang", name="x.csv")
    run = running(home)
    home.kill_batchmgr()
    home.cli("stop", run["run_id"])
    f = home.wait_file(file_name="x.csv")
    assert (f["reason"], f["run_id"], len(home.rows("runs"))) == ("stopped", run["run_id"], 1)


def test_down_leaves_runs(cluster_home, slurm):
    home = cluster_home()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    run = running(home)
    home.down("--leave-runs")
    assert home.marked(run["run_id"]) and job_of(slurm, run)[1] == "RUNNING"
    home.up()
    gate.touch()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1)
