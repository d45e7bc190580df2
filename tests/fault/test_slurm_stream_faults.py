"""What can happen to instances of stream apps that are jobs of a Slurm cluster: each has its row in the table of docs/cluster.md. Every message that was
confirmed is stored once."""
import json
import os
import signal
import threading
import time

import pytest
from harness import until
from instances import LOAD, STREAM, instances, live, one_a_node, publish, wait_instances, wait_stored
from slurm import job_of, read, wait_for
from wire import Peer

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


class Publisher:
    """Publishes number after number until it is told to stop; `sent` are those that were confirmed."""

    def __init__(self, home):
        self.sent, self.over = [], threading.Event()
        self.home, self.thread = home, threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        with Peer(self.home.endpoint) as p:
            while not self.over.wait(0.02):
                numbers = range(len(self.sent), len(self.sent) + 5)
                p.publish(STREAM, [json.dumps({"n": n}).encode() for n in numbers])
                self.sent.extend(numbers)

    def stop(self):
        self.over.set()
        self.thread.join()
        return self.sent


@pytest.mark.parametrize("is_off", [pytest.param(False, marks=pytest.mark.soak), True])
def test_a_node_that_is_killed(instances_home, slurm, is_off):
    """Another instance takes the place of the one there; that ends when the node is back, or is said to be off."""
    home = instances_home(LOAD, stream="lease_ms = 120000;")  # else what is missed first may be its connection
    first, second = one_a_node(home, slurm)
    publisher = Publisher(home)
    slurm.kill_node(first["node"])
    after = wait_instances(home, 2, test=lambda v: first["run_id"] not in {r["run_id"] for r in v})
    assert {r["node"] for r in after} == {second["node"]} and second["run_id"] in {r["run_id"] for r in after}, after
    wait_stored(home, publisher.stop())
    (gone,) = instances(home, run_id=first["run_id"])
    assert (gone["state"], gone["error"]) == ("running", "its node is not heard"), gone
    if is_off:
        home.cli("stop", first["run_id"], "--node-is-off")
    else:
        slurm.mend()
    gone = until(lambda: next(iter(instances(home, run_id=first["run_id"], state="ended")), None), home.path / "state", what=lambda: f"its end: {instances(home)}")
    assert (gone["outcome"], gone["node"]) == ("lost", first["node"]), gone
    assert home.rows("app", "list")[0]["desired"] == 2 and len(wait_instances(home, 2)) == 2


@pytest.mark.soak
def test_down_does_not_wait_for_a_node_that_is_off(instances_home, slurm):
    home = instances_home(LOAD, stream="lease_ms = 120000;")
    first, _ = one_a_node(home, slurm)
    slurm.kill_node(first["node"])
    wait_instances(home, 2, test=lambda v: first["run_id"] not in {r["run_id"] for r in v})
    home.down()
    assert {r["run_id"] for r in instances(home) if r["state"] != "ended"} == {first["run_id"]}
    slurm.mend()
    home.up()
    until(lambda: not [r for r in instances(home, run_id=first["run_id"]) if r["state"] != "ended"], home.path / "state", what="the end of the one that was left")


def test_slurmctld_killed_and_back(instances_home, slurm):
    """Instances go on; one that is to begin does when Slurm answers again."""
    home = instances_home(LOAD)
    home.cli("app", "scale", "acme/store", "1")
    (first,) = wait_instances(home, 1)
    state, began = slurm.dir / "state/job_state", time.time()
    until(lambda: state.exists() and state.stat().st_mtime > began, slurm.dir / "state", what="slurmctld to have it on its disk: what it forgets is given up")
    slurm.kill("slurmctld")
    publish(home, *range(100))
    wait_stored(home, range(100))
    home.cli("app", "scale", "acme/store", "2")
    until(lambda: "Slurm does not answer" in (home.rows("app", "list")[0]["reason"] or "") + read(home.path / "logs/streammgr.log"), home.path / "logs", what="the reason")
    slurm.start("slurmctld")
    assert first["run_id"] in {r["run_id"] for r in wait_instances(home, 2)}
    publish(home, *range(100, 200))
    wait_stored(home, range(200))


def killed(home, which):
    pids = home.pids(which)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    return pids


@pytest.mark.parametrize("which", ["streammgr", "broker", "simbdp-slurm"])
def test_a_program_that_is_killed(instances_home, slurm, which):
    """The instances are those of before, and what is published before and behind the kill is stored once."""
    home = instances_home(LOAD)
    first, second = one_a_node(home, slurm)
    publish(home, *range(200))
    old = killed(home, which)

    def back():
        return set(home.pids(which)) - set(old) and home.rows("queue", "list") and home.control({"op": "status"}, "streammgr.sock")["broker"] == "up"

    def is_back():
        try:
            return back()
        except (OSError, AssertionError):
            return False
    until(is_back, home.path / "state", what=f"another {which}")
    publish(home, *range(200, 400))
    wait_stored(home, range(400))
    assert {r["run_id"] for r in wait_instances(home, 2)} == {first["run_id"], second["run_id"]}
    home.cli("app", "stop", "acme/store")
    until(lambda: not [r for r in instances(home) if r["state"] != "ended"], home.path / "state", what=lambda: f"{instances(home)} to end")
    assert {r["outcome"] for r in instances(home)} == {"ok"}


def test_down_leaves_instances(instances_home, slurm):
    home = instances_home(LOAD)
    home.cli("app", "scale", "acme/store", "1")
    (run,) = wait_instances(home, 1)
    home.down("--leave-runs")
    assert home.marked(run["run_id"]) and job_of(slurm, run)[1] == "RUNNING"
    home.up()
    publish(home, *range(50))
    wait_stored(home, range(50))
    assert [r["run_id"] for r in wait_instances(home, 1)] == [run["run_id"]]
    home.down()
    assert not home.marked(run["run_id"]) and instances(home, run_id=run["run_id"])[0]["outcome"] == "ok"
    wait_for("the job is over", lambda: job_of(slurm, run)[1] not in ("RUNNING", "COMPLETING"))


@pytest.mark.soak
def test_cancelled_by_an_admin(instances_home, slurm):
    home = instances_home(LOAD)
    home.cli("app", "scale", "acme/store", "1")
    for _ in range(3):
        (run,) = wait_instances(home, 1)
        slurm.run("scancel", job_of(slurm, run)[0])
        wait_instances(home, 1, test=lambda v, run=run: v[0]["run_id"] != run["run_id"])
        (ended,) = instances(home, run_id=run["run_id"])
        assert ended["state"] == "ended" and "Slurm says CANCELLED" in ended["error"], ended
    publish(home, 1)
    wait_stored(home, [1])


@pytest.mark.parametrize("point", ["job_spec", *(pytest.param(p, marks=pytest.mark.soak) for p in ("job_submitted", "job_id"))])
def test_a_launcher_that_is_killed_at_a_start(instances_home, slurm, point):
    """There is one instance in the end, and no key that is nobody's."""
    home = instances_home(LOAD, up=False)
    once = home.base / "once"
    home.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    publish(home, *range(20))
    until(once.exists, home.base, what=f"{point} to be reached")
    wait_stored(home, range(20))
    (run,) = wait_instances(home, 1)
    until(lambda: len(live(home)) == 1 and [f"{run['run_id']}.json"] == [p.name for p in (home.path / "state/jobs").glob("*.json")], home.path / "state/jobs", what="one job")
    for old in killed(home, "simbdp-slurm"):
        until(lambda old=old: old not in home.pids("simbdp-slurm"), home.path / "state", what="its end")
    home.cli("app", "scale", "acme/store", "2")
    wait_instances(home, 2)
    assert len(list((home.path / "state/jobs/keys").iterdir())) == 2
