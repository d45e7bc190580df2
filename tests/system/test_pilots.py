"""Pilots (profiles.slurm.pilot): jobs that stay, in which one run after another is started."""
import subprocess

import pytest
from harness import until
from slurm import job_of, pilots, run_of, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


def states(home):
    return {f["file_name"]: f["state"] for f in home.files()}


def test_short_files_go_through_one_pilot(pilot_home, slurm):
    """One job of Slurm's for all of them, each ingested once, on its node; then it ends by itself."""
    home = pilot_home(exec_="builtin:load", cpus=0.5, pilot="nodes = 1; cpus = 1.0; idle_s = 2;")
    for i in range(12):
        home.drop(f"f{i}.csv", f"a\n{i}\n")
    files = [home.wait_file(file_name=f"f{i}.csv") for i in range(12)]
    assert {(f["state"], f["rows_loaded"], f["attempts"]) for f in files} == {("ingested", 1, 1)}, files
    assert sorted(d["a"] for d in home.docs()) == list(range(12))
    (job, _), = pilots(slurm, home).values()
    runs = home.rows("runs")
    assert {r["outcome"] for r in runs} == {"ok"} and {r["node"] for r in runs} <= set(slurm.names), runs
    assert not any(job_of(slurm, r) for r in runs)
    until(lambda: pilots(slurm, home)[next(iter(pilots(slurm, home)))] == (job, "COMPLETED"), home.path / "state", what=lambda: f"{pilots(slurm, home)} to end by itself")
    until(lambda: sorted(p.name for p in (home.path / "state/jobs").rglob("*")) == ["keys", "launcher", "run.sh"], home.path / "state/jobs", what="its files to go")


def gated(home, names, **kw):
    """Files whose apps wait each for its gate: name -> the gate."""
    gates = {n: home.base / f"gate-{n}" for n in names}
    for n, gate in gates.items():
        home.do(f"gate,{gate}", name=f"{n}.csv", **kw)
    return gates


def until_states(home, *wanted):
    until(lambda: sorted(states(home).values()) == sorted(wanted), home.path / "state", what=lambda: f"{states(home)} to be {wanted}")


@pytest.mark.parametrize("nodes, cpus", [(1, 1.0), (2, 0.5)])
def test_as_many_runs_as_pilots_have_room_for(pilot_home, slurm, nodes, cpus):
    """cpus: so many at once in each; nodes: so many pilots, and none before runs wait for it. What is beyond waits in the fair queue."""
    home = pilot_home(cpus=0.5, pilot=f"nodes = {nodes}; cpus = {cpus};")
    gates = gated(home, ["a"])
    until_states(home, "running")
    wait_run(home, lambda r: r["state"] == "running", "the first run")
    assert len(pilots(slurm, home)) == 1
    gates |= gated(home, ["b", "c"])
    until_states(home, "running", "running", "queued")
    until(lambda: sum(r["state"] == "running" for r in home.rows("runs")) == 2, home.path / "state", what=lambda: f"{home.rows('runs')}")
    assert len(pilots(slurm, home)) == nodes and len({r["node"] for r in home.rows("runs")}) <= nodes
    for n, gate in gates.items():
        gate.touch()
    for n in gates:
        assert home.wait_file(file_name=f"{n}.csv")["state"] == "ingested"
    assert len(pilots(slurm, home)) == nodes


def test_a_flood_does_not_hold_up_the_quiet(pilot_home):
    """The slot is taken and another tenant's files wait for it: the quiet one's is the next."""
    home = pilot_home(cpus=1.0, pilot="nodes = 1; cpus = 1.0;", up=False)
    home.tenant("quiet", exec_="misbehave")
    home.up()
    gate = gated(home, ["first"])["first"]
    until_states(home, "running")
    for i in range(6):
        home.do("exit,0", *["uid"] * i, name=f"flood{i}.csv")
    home.do("exit,0", name="quiet.csv", tenant="quiet")
    until_states(home, "running", *["queued"] * 7)
    gate.touch()
    for name in [*(f"flood{i}.csv" for i in range(6)), "quiet.csv"]:
        assert home.wait_file(file_name=name)["state"] == "ingested"
    order = [r["tenant_id"] for r in sorted(home.rows("runs"), key=lambda r: r["started_at"])]
    assert order[1] == "quiet", order


def test_what_slurm_is_asked_for_a_pilot(pilot_home, slurm):
    """Its cores, memory and time; its key is in a file of root's, and neither in its arguments nor in what Slurm keeps."""
    home = pilot_home(cpus=0.5, grace_s=1, wall_s=60, pilot="nodes = 1; cpus = 1.5; memory_bytes = 700000000L; time_s = 7200;", keys='partition = "high";')
    gate = gated(home, ["x"])["x"]
    wait_run(home, lambda r: r["state"] == "running", "the run")
    (name, (number, _)), = pilots(slurm, home).items()
    job = dict(p.split("=", 1) for p in slurm.run("scontrol", "show", "job", "-o", number).split() if "=" in p)
    got = {k: job[k] for k in ("Partition", "NumCPUs", "MinMemoryNode", "TimeLimit", "Requeue", "Comment")}
    assert got == {"Partition": "high", "NumCPUs": "2", "MinMemoryNode": "668M", "TimeLimit": "02:00:00", "Requeue": "0", "Comment": "pilot/small"}, job
    file = next((home.path / "state/jobs").glob("*.pilot"))
    secret = file.read_text().split("\n")[0]
    assert file.stat().st_mode & 0o777 == 0o600 and len(secret) == 40
    shown = slurm.run("scontrol", "show", "job", "-dd", number) + subprocess.run(["ps", "-efww"], capture_output=True, text=True).stdout
    assert secret not in shown and not any(secret.encode() in p.read_bytes() for p in (slurm.dir / "state").rglob("*") if p.is_file())
    gate.touch()
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_without_a_word_a_pilot_has_what_its_runs_need(pilot_home, slurm):
    home = pilot_home(cpus=0.5, grace_s=5, wall_s=100, pilot="nodes = 1; cpus = 1.0;")
    gate = gated(home, ["x"])["x"]
    wait_run(home, lambda r: r["state"] == "running", "the run")
    (number, _), = pilots(slurm, home).values()
    job = dict(p.split("=", 1) for p in slurm.run("scontrol", "show", "job", "-o", number).split() if "=" in p)
    assert (job["MinMemoryNode"], job["TimeLimit"]) == ("704M", "01:04:00"), job  # twice 256 and 64 MiB, and 64; an hour, 105 s, two minutes
    gate.touch()
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_no_run_begins_that_a_pilot_has_no_time_for(pilot_home, slurm):
    home = pilot_home(wall_s=60, grace_s=1, pilot="nodes = 1; cpus = 1.0; time_s = 63;")
    home.do("exit,0", name="x.csv")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    (first,) = pilots(slurm, home)
    until(lambda: pilots(slurm, home)[first][1] == "COMPLETED", home.path / "state", what="the pilot to end, since its time does not suffice")
    home.do("uid", name="y.csv")
    assert home.wait_file(file_name="y.csv")["state"] == "ingested" and len(pilots(slurm, home)) == 2


@pytest.mark.soak
def test_a_drained_node_is_left(pilot_home, slurm):
    home = pilot_home()
    home.do("exit,0", name="x.csv")
    node = run_of(home, home.wait_file(file_name="x.csv"))["node"]
    (first,) = pilots(slurm, home)
    slurm.run("scontrol", "update", f"NodeName={node}", "State=DRAIN", "Reason=test")
    until(lambda: pilots(slurm, home)[first][1] == "COMPLETED", home.path / "state", what="the pilot to leave its node")
    home.do("uid", name="y.csv")
    assert run_of(home, home.wait_file(file_name="y.csv"))["node"] != node


def test_stop_and_a_run_left_alone(pilot_home, slurm):
    """A stop ends one run with proof and no other; down --leave-runs leaves pilots and what is in them."""
    home = pilot_home(cpus=1.0)
    gate = gated(home, ["x"])["x"]
    home.do("hang", name="y.csv")
    until(lambda: sum(r["state"] == "running" and bool(home.marked(r["run_id"])) for r in home.rows("runs")) == 2, home.path / "state", what=lambda: f"{home.rows('runs')}")
    by_file = {f["file_name"]: f["run_id"] for f in home.files()}
    home.cli("stop", by_file["y.csv"])
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["reason"]) == ("quarantined", "stopped") and not home.marked(f["run_id"])
    assert home.marked(by_file["x.csv"])
    home.down("--leave-runs")
    assert home.marked(by_file["x.csv"])
    home.up()
    gate.touch()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["run_id"], f["attempts"]) == ("ingested", by_file["x.csv"], 1), f
    home.do("uid", name="z.csv")
    assert home.wait_file(file_name="z.csv")["state"] == "ingested" and len(pilots(slurm, home)) == 1  # the same one


def test_where_pilots_find_the_launcher(pilot_home, slurm):
    from slurm import free_ports
    (port,) = free_ports(1)
    home = pilot_home(platform=f"port = {port};")
    home.do("exit,0", name="x.csv")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    assert (home.path / "state/jobs/launcher").read_text().startswith(f"tcp://127.0.0.1:{port}\n")


def test_a_pilot_that_slurm_does_not_take(pilot_home):
    home = pilot_home(keys='constraint = "nowhere";')
    home.do("exit,0", name="x.csv")
    f = until(lambda: home.files(reason="not_started", state="waiting"), home.path / "state", what="the refusal")[0]
    assert "Slurm does not take the job" in f["detail"] and f["attempts"] == 0, f


def test_an_address_that_cannot_be_listened_at(pilot_home):
    """The run waits and says so, and begins once it can."""
    import socket
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        home = pilot_home(platform=f"port = {other.getsockname()[1]};")
        home.do("exit,0", name="x.csv")
        wait_run(home, lambda r: "cannot listen for pilots" in (r["error"] or ""), "the reason")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), f


@pytest.mark.parametrize("keys, platform, why", [
    ("nodes = 1;", "", "platform.slurm.listen"), ("nodes = 1; cpus = 0.05;", 'listen = "127.0.0.1";', "room for no run"),
    ("nodes = 1; time_s = 60;", 'listen = "127.0.0.1";', "time for no run"), ("nodes = 1; memory_bytes = 268435456L;", 'listen = "127.0.0.1";', "64 MiB for its runner"),
    ("nodes = 3; cpus = 2.0;", 'listen = "127.0.0.1"; capacity = { cpus = 5.0; memory_bytes = 100000000000L; };', "more together than"),
    ("nodes = 1;", 'listen = "a b";', "platform.slurm.listen")])
def test_what_pilots_may_not_be(make_home, keys, platform, why):
    home = make_home(platform=f'launcher = "slurm"; slurm = {{ {platform} }};')
    home.profiles(more=f"slurm = {{ pilot = {{ {keys} }}; }};", wall_s=60)
    home.tenant()
    r = home.cli("check", check=False)
    assert r.returncode == 1 and why in r.stderr + r.stdout, r.stderr
