"""What Slurm has forgotten (MinJobAge) its accounting knows: sacct, with a slurmdbd and its database."""
import pytest
from harness import until
from instances import LOAD, instances, wait_instances
from slurm import job_of, running, wait_for

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone, pytest.mark.soak]
ACCOUNTING = True
FORGETFUL = "#!/bin/sh\n/usr/bin/squeue \"$@\" >$0.out || exit 1\ngrep -E '[|](RUNNING|PENDING|COMPLETING)[|]' $0.out\nexit 0\n"


def forget_at_once(home):
    """As when MinJobAge is over: squeue tells of no job that ended."""
    tools = home.base / "tools"
    tools.mkdir()
    (tools / "squeue").write_text(FORGETFUL)
    (tools / "squeue").chmod(0o755)
    home.env["PATH"] = f"{tools}:{home.env['PATH']}"
    return home.up()


def known(slurm, run):
    return slurm.run("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobName,State", f"--jobs={job_of(slurm, run)[0]}")


@pytest.mark.parametrize("how, reason", [("cancel", "cancelled"), ("preempt", "preempted")])
def test_why_a_run_ended(cluster_home, slurm, how, reason):
    home = forget_at_once(cluster_home(up=False, more='slurm = { partition = "low"; };'))
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    run = running(home)
    wait_for("the accounting knows the job", lambda: "RUNNING" in known(slurm, run))
    if how == "cancel":
        slurm.run("scancel", job_of(slurm, run)[0])
    else:
        slurm.run("sbatch", "--partition=high", f"--nodelist={run['node']}", "--exclusive", "--output=/dev/null", "--job-name=other", "--chdir=/", home.path / "state/jobs/run.sh",
                  "/bin/true")
    ended = until(lambda: next((r for r in home.rows("runs") if r["run_id"] == run["run_id"] and r["state"] == "ended"), None), home.path / "state", what=lambda: f"{home.rows('runs')}")
    assert f"Slurm's accounting says {reason.upper()}" in ended["error"], (ended, known(slurm, run))
    gate.touch()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), f


def test_why_an_instance_ended(instances_home, slurm):
    home = forget_at_once(instances_home(LOAD, up=False))
    home.cli("app", "scale", "acme/store", "1")
    (run,) = wait_instances(home, 1)
    wait_for("the accounting knows the job", lambda: "RUNNING" in known(slurm, run))
    slurm.run("scancel", job_of(slurm, run)[0])
    wait_instances(home, 1, test=lambda v: v[0]["run_id"] != run["run_id"])
    (ended,) = instances(home, run_id=run["run_id"])
    assert "Slurm's accounting says CANCELLED by 0" in ended["error"], ended
