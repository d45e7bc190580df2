"""The network to a node is cut, by the cable of its namespace, and mended; a shared disk that is full."""
import os
import pathlib

import pytest
from harness import ROOT, until
from instances import instances, publish, script, wait_instances
from slurm import pilots, run_of, running, wait_for, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]
WIRE = True


@pytest.fixture
def far(slurm):
    """The node behind the cable, which is whole again in the end."""
    yield slurm.names[0]
    slurm.wire.mend()
    slurm.mend()


def on_far(make, slurm, far, **kw):
    """A home with a file whose app waits for its gate on the far node, and its run."""
    other = slurm.names[1]
    slurm.run("scontrol", "update", f"NodeName={other}", "State=DRAIN", "Reason=test")
    home = make(**kw)
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    run = running(home)
    assert run["node"] == far
    slurm.run("scontrol", "update", f"NodeName={other}", "State=RESUME")
    return home, run, gate.touch


def cut(slurm, far):
    slurm.wire.cut()
    wait_for("Slurm does not hear the node", lambda: "down" in slurm.nodes()[far])


def test_what_is_cut_off_works_on(cluster_home, slurm, far):
    """Nothing of it runs elsewhere meanwhile; what it wrote to the shared disk counts, and when the network is back nothing else comes of it."""
    home, run, gate = on_far(cluster_home, slurm, far)
    cut(slurm, far)
    waits = wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "the run that waits for its node")
    assert waits["state"] == "running" and home.marked(run["run_id"]) and len(home.rows("runs")) == 1, waits
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1), f
    slurm.wire.mend()
    slurm.mend()
    home.do("uid", name="y.csv")
    assert home.wait_file(file_name="y.csv")["state"] == "ingested" and len(home.rows("runs")) == 2


@pytest.mark.soak
def test_a_cut_that_is_mended_before_the_end(cluster_home, slurm, far):
    """Slurm ends what it had given up. The file runs again when its node says that nothing of it is left."""
    home, run, gate = on_far(cluster_home, slurm, far)
    pids = home.marked(run["run_id"])
    cut(slurm, far)
    wait_run(home, lambda r: "--node-is-off" in (r["error"] or ""), "the run that waits for its node")
    slurm.wire.mend()
    first = wait_run(home, lambda r: r["run_id"] == run["run_id"] and r["state"] == "ended", "the end of the run")
    assert first["outcome"] in ("lost", "killed") and not any(pathlib.Path(f"/proc/{p}").exists() for p in pids), first
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"], f["run_id"] != run["run_id"]) == ("ingested", 1, True), f


def test_a_pilot_that_is_cut_off(pilot_home, slurm, far):
    """What it has goes on and counts; the next run is another pilot's."""
    home, run, gate = on_far(pilot_home, slurm, far, pilot="nodes = 2; cpus = 1.0;")
    cut(slurm, far)
    home.do("uid", name="y.csv")
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], run_of(home, f)["node"]) == ("ingested", slurm.names[1]), f
    assert home.marked(run["run_id"]) and len(pilots(slurm, home)) == 2
    gate()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", run["run_id"], 1), f


APPEND = """#!/usr/bin/python3
import os, signal, sys
sys.path.insert(0, %r)
from wire import Peer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
keys = {f"curve_{n}key": os.environ[f"SIMBDP_CURVE_{n.upper()}_KEY"].encode() for n in ("server", "public", "secret")}
with Peer(os.environ["ZMQ_STREAM_ENDPOINT"], **keys) as p:
    p.subscribe(os.environ["SIMBDP_STREAM"], os.environ["SIMBDP_APP"])
    while True:
        for m in p.take(timeout=1):
            with open(%r, "a") as f:
                f.write(f"{os.environ['SIMBDP_RUN_ID']} {m.body.decode()}\\n")
            p.ack([m])
"""


@pytest.mark.soak
def test_an_instance_that_is_cut_off(instances_home, slurm, far):
    """It speaks to the broker across the cable. Another takes its place, and what it had not acknowledged is delivered to that; when the network is back it ends."""
    home = instances_home('app = "store"; exec = "append.py"; max_instances = 2;', up=False, stream="lease_ms = 2000;")
    said = home.base / "said"
    said.touch()
    said.chmod(0o666)
    script(home, "append.py", APPEND % (str(ROOT / "tests/system"), str(said)))
    slurm.run("scontrol", "update", f"NodeName={slurm.names[1]}", "State=DRAIN", "Reason=test")
    home.up()
    publish(home, 0)
    (run,) = wait_instances(home, 1)
    assert run["node"] == far
    until(lambda: said.read_text(), home.base, what="the first message")
    slurm.run("scontrol", "update", f"NodeName={slurm.names[1]}", "State=RESUME")
    slurm.wire.cut()
    publish(home, *range(1, 20))
    (after,) = wait_instances(home, 1, test=lambda v: v[0]["run_id"] != run["run_id"])
    assert after["node"] == slurm.names[1]
    until(lambda: len(set(said.read_text().split("\n"))) == 21, home.base, what=lambda: said.read_text())
    assert {line.split()[0] for line in said.read_text().splitlines()[1:]} == {after["run_id"]}
    assert home.marked(run["run_id"])
    slurm.wire.mend()
    slurm.mend()
    until(lambda: instances(home, run_id=run["run_id"], state="ended"), home.path / "state", what=lambda: f"its end: {instances(home)}")
    assert not home.marked(run["run_id"]) and [r["run_id"] for r in wait_instances(home, 1)] == [after["run_id"]]


def fill(directory):
    """Takes all that is left of a file system; gives the file that has it."""
    at, s = directory / ".fill", os.statvfs(directory)
    with open(at, "wb") as f:
        os.posix_fallocate(f.fileno(), 0, s.f_bavail * s.f_frsize)
    return at


@pytest.fixture
def small(make_home, request):
    """Homes with a directory on a file system of its own."""
    def make(of, name):
        home = request.getfixturevalue(of)(up=False)
        (home.path / name).mkdir(mode=0o700, exist_ok=True)
        home.mount_tmpfs(name, "2m")
        return home.up()
    return make


@pytest.mark.parametrize("of", ["cluster_home", "pilot_home"])
def test_a_full_disk_below_the_runs(small, of):
    """What runs ends and is filed, since its result has its room; what is to begin waits and says why, and is not charged."""
    home = small(of, "runs")
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    run = running(home)
    filled = fill(home.path / "runs")
    gate.touch()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"]) == ("ingested", run["run_id"]), f
    filled.unlink()  # its log and scratch went, and gave room
    filled = fill(home.path / "runs")
    home.do("uid", name="y.csv")
    told = wait_run(home, lambda r: "No space left" in (r["error"] or ""), "a run that waits for room")
    assert told["state"] in ("starting", "running") and home.files(file_name="y.csv")[0]["attempts"] == 0, told
    filled.unlink()
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), f


@pytest.mark.parametrize("of", ["cluster_home", "pilot_home"])
def test_a_full_disk_below_the_jobs(small, of):
    home = small(of, "state/jobs")
    home.do("uid", "uid", name="w.csv")
    assert home.wait_file(file_name="w.csv")["state"] == "ingested"
    filled = fill(home.path / "state/jobs")
    home.do("uid", name="y.csv")
    said = until(lambda: next((f["detail"] for f in home.files(file_name="y.csv") if "No space left" in (f["detail"] or "")), None)
                 or "No space left" in (home.path / "logs/batchmgr.log").read_text(), home.path / "state", what="the reason")
    assert said and home.files(file_name="y.csv")[0]["attempts"] == 0
    filled.unlink()
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), f
