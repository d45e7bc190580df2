"""Batch runs as jobs of a Slurm cluster (platform.launcher = "slurm"), on Debian's slurm-wlm: several nodes on loopback."""
import contextlib
import os
import pathlib
import shutil
import sqlite3
import subprocess

import pytest
from harness import ROOT, runner_of, until
from slurm import diagnosis, job_of, run_of, running, wait_run

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


def environ_of(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def test_a_file_is_ingested_by_a_job(cluster_home, slurm):
    home = cluster_home(exec_="builtin:load")
    home.drop("a.csv", "a,b\n1,2\n3,4\n")
    f = home.wait_file(file_name="a.csv")
    run = run_of(home, f)
    assert (f["state"], f["rows_loaded"], run["outcome"], run["node"] in slurm.names) == ("ingested", 2, "ok", True), (f, run)
    assert sorted(d["a"] for d in home.docs()) == [1, 3]
    until(lambda: not list((home.path / "state/jobs").glob(f"{f['run_id']}*")), home.path / "state/jobs", what="the job's files to go")


BOTH = """profiles = (
    {{ name = "small"; wall_s = 60; grace_s = 1; requests = {{ cpus = 1.0; memory_bytes = 16777216L; }}; mounts = ( "{base}:rw" ); {here} }},
    {{ name = "far"; wall_s = 60; grace_s = 1; requests = {{ cpus = 1.0; memory_bytes = 16777216L; }}; mounts = ( "{base}:rw" ); launcher = "{there}"; }} );
"""


@pytest.fixture
def both(make_home, slurm):
    """A home whose app `app` runs here and whose app `far` on the cluster; each place has the capacity given."""
    def make(here=1, there=1, memory=1000000000):
        home = make_home(platform=f"capacity = {{ cpus = {here}.0; }}; slurm = {{ capacity = {{ cpus = {there}.0; memory_bytes = {memory}L; }}; }};")
        homes.append(home)
        home.env.update(slurm.env)
        (home.path / "conf/profiles.conf").write_text(BOTH.format(base=home.base, here="", there="slurm"))
        home.tenant(apps='{ app = "far"; exec = "misbehave"; pattern = "far*"; profile = "far"; }, { app = "app"; exec = "misbehave"; }', concurrency=10)
        return home.up()
    homes = []
    yield make
    slurm.mend()
    for h in homes:
        shutil.rmtree(f"/run/mysimbdp-node-{h.cgroup_tag()}", ignore_errors=True)


def states(home):
    return {f["file_name"]: f["state"] for f in home.files()}


def test_profiles_with_a_launcher_each(both, slurm):
    """Side by side in one home: each place has its capacity, what waits for one does not hold up the other, and a reload is for new runs alone."""
    home = both()
    gates = {}
    for name in ("far-1", "far-2", "near-1", "near-2"):
        gates[name] = home.base / f"gate-{name}"
        home.do(f"gate,{gates[name]}", name=f"{name}.csv")
        if name.endswith("1"):
            until(lambda: sum(r["state"] == "running" for r in home.rows("runs")) == len(gates) - len(gates) // 2, home.path / "state", what=lambda: f"{home.rows('runs')}")
    until(lambda: sorted(states(home).values()) == ["queued", "queued", "running", "running"], home.path / "state", what=lambda: f"{states(home)}")
    runs = {r["app"]: r for r in home.rows("runs")}
    assert runs["far"]["node"] in slurm.names and job_of(slurm, runs["far"]) and not job_of(slurm, runs["app"]), runs
    (home.path / "conf/profiles.conf").write_text(BOTH.format(base=home.base, here="", there="local"))
    home.cli("reload")
    gates["near-1"].touch()  # the one place that is left has room for one: what waits there longest
    home.wait_file(file_name="near-1.csv")
    until(lambda: states(home)["far-2.csv"] == "running", home.path / "state", what=lambda: f"{states(home)}")
    assert states(home) == {"far-1.csv": "running", "far-2.csv": "running", "near-1.csv": "ingested", "near-2.csv": "queued"}
    home.kill_batchmgr()  # which counts what it takes back where that is
    until(lambda: home.control({"op": "status"})["running"] == 2, home.path / "state", what="both to be taken back")
    gates["far-1"].touch()
    first = run_of(home, home.wait_file(file_name="far-1.csv"))
    assert (first["run_id"], first["outcome"], first["node"]) == (runs["far"]["run_id"], "ok", runs["far"]["node"])
    assert states(home)["near-2.csv"] == "queued"  # room on the cluster is none here
    for g in gates.values():
        g.touch()
    assert run_of(home, home.wait_file(file_name="far-2.csv"))["node"] not in slurm.names
    assert home.wait_file(file_name="near-2.csv")["state"] == "ingested"


@pytest.mark.parametrize("bite", [{"there": 2}, {"there": 4, "memory": 33554432}])
def test_what_of_the_cluster_is_ours(both, bite):
    home = both(**bite)
    gate = home.base / "gate"
    for i in range(3):
        home.do(f"gate,{gate}", *["uid"] * i, name=f"far-{i}.csv")
    until(lambda: sorted(states(home).values()) == ["queued", "running", "running"] and sum(r["state"] == "running" for r in home.rows("runs")) == 2,
          home.path / "state", what=lambda: f"{states(home)}")
    gate.touch()
    for i in range(3):
        assert home.wait_file(file_name=f"far-{i}.csv")["state"] == "ingested"


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


OPTIONS = {"partition": ("high", "--partition=high"), "account": ("acct", "--account=acct"), "qos": ("quick", "--qos=quick"), "constraint": ("NODE", "--constraint=NODE"),
           "time_s": (3661, "--time=61:01"), "cpus": (2, "--cpus-per-task=2"), "memory_bytes": (400000000, "--mem=382M")}


@pytest.fixture
def asked(cluster_home, slurm):
    """What sbatch is called with for a run of a profile; the job as Slurm has it."""
    def make(**kw):
        home = cluster_home(up=False, **kw)
        tools = home.base / "tools"
        tools.mkdir()
        (tools / "sbatch").write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{home.base}/asked\nexec /usr/bin/sbatch "$@"\n')
        (tools / "sbatch").chmod(0o755)
        home.env["PATH"] = f"{tools}:{home.env['PATH']}"
        home.up()
        home.do("exit,0", name="x.csv")
        f = home.wait_file(file_name="x.csv")
        name = f"simbdp-{home.cgroup_tag()}-{f['run_id']}"
        return f, (home.base / "asked").read_text().split("\n"), dict(p.split("=", 1) for p in slurm.run("scontrol", "show", "job", "-o", slurm.jobs()[name][0]).split() if "=" in p)
    return make


def test_a_profile_says_what_slurm_is_asked_for(asked, slurm):
    node = slurm.names[1]
    values = "".join(f"{k} = {v if isinstance(v, int) else chr(34) + v.replace('NODE', node) + chr(34)}; " for k, (v, _) in OPTIONS.items())
    f, args, job = asked(more=f"slurm = {{ {values} }};")
    assert f["state"] == "ingested" and all(option.replace("NODE", node) in args for _, option in OPTIONS.values()), (f, args)
    got = {k: job[k] for k in ("Partition", "Account", "Features", "NodeList", "NumCPUs", "MinMemoryNode", "TimeLimit", "Requeue", "UserId")}
    assert got == {"Partition": "high", "Account": "acct", "Features": node, "NodeList": node, "NumCPUs": "2", "MinMemoryNode": "382M", "TimeLimit": "01:02:00",
                   "Requeue": "0", "UserId": "root(0)"}, job


def test_without_a_word_a_job_has_more_than_its_run_may_use(asked):
    f, args, job = asked(cpus=1.5, wall_s=100, grace_s=5)
    assert f["state"] == "ingested" and {"--time=3:45", "--cpus-per-task=2", "--mem=320M"} <= set(args), args  # 256 MiB of the cgroup, and 64
    assert not any(a.startswith(("--partition", "--account", "--qos", "--constraint")) for a in args)


def test_the_app_has_the_tenants_uid(cluster_home):
    """The job is root's, since who watches a run must be out of its reach; what it starts is the tenant's."""
    home = cluster_home()
    home.do("uid", "env", name="x.csv")
    f = home.wait_file(file_name="x.csv")
    said = home.log_of(f["run_id"])
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db")) as db:
        (uid,) = db.execute("SELECT uid FROM tenants WHERE id='acme'").fetchone()
    assert f"uid {uid} gid {uid}\n" in said and "SLURM" not in said, said


def test_a_cluster_to_try_it_with(tmp_path, slurm):
    """scripts/cluster: up, a job, down, and nothing of it is left."""
    script, directory = ROOT / "scripts/cluster", tmp_path / "c"
    said = subprocess.run([script, "up", directory, "1"], capture_output=True, text=True, timeout=120)
    try:
        assert said.returncode == 0 and f"export SLURM_CONF={directory}/slurm.conf" in said.stdout, said
        env = {**os.environ, "SLURM_CONF": f"{directory}/slurm.conf"}
        assert subprocess.run(["srun", "--mpi=none", "--immediate=20", "echo", "done"], env=env, capture_output=True, text=True, timeout=60, cwd="/").stdout == "done\n"
        assert " idle" in subprocess.run([script, "status", directory], capture_output=True, text=True, timeout=60).stdout
        assert subprocess.run([script, "up", directory], capture_output=True, timeout=60).returncode == 1
    finally:
        subprocess.run([script, "down", directory], check=True, timeout=120)
    left = [p for p in map(int, filter(str.isdigit, os.listdir("/proc"))) if str(directory) in environ_of(p)]
    assert not left and not directory.exists()
    assert subprocess.run([script, "down", directory], capture_output=True, timeout=60).returncode == 1


@pytest.mark.parametrize("keys, why", [
    ('slurm = { qos = "a b"; };', "profiles.slurm.qos"), ('slurm = { partition = "x\\ny"; };', "profiles.slurm.partition"), ('slurm = { account = "--wrap=x;"; };', "profiles.slurm.account"),
    ('slurm = { constraint = "a;b"; };', "profiles.slurm.constraint"), ("slurm = { time_s = 60; };", "less than wall_s and grace_s"),
    ("slurm = { memory_bytes = 268435456L; };", "less than cgroup.memory_bytes and 64 MiB"), ("slurm = { cpus = 0; };", "1 or more")])
def test_what_a_profile_may_not_ask_for(make_home, keys, why):
    home = make_home()
    home.profiles(more=keys, wall_s=60)
    home.tenant()
    r = home.cli("check", check=False)
    assert r.returncode == 1 and why in r.stderr + r.stdout, r.stderr


@pytest.fixture
def sharded(slurm):
    """Of four shards each node has two."""
    for i, name in enumerate(slurm.names):
        features = f"{name},nvme,s{i},s{i + 2}"
        slurm.run("scontrol", "update", f"NodeName={name}", f"AvailableFeatures={features}", f"ActiveFeatures={features}")
    yield "slurm = { capacity = { cpus = 4; memory_bytes = 4000000000L; }; shards = { count = 4; each = %d; feature = \"s\"; }; };"
    for name in slurm.names:
        slurm.run("scontrol", "update", f"NodeName={name}", f"AvailableFeatures={name}", f"ActiveFeatures={name}")


def test_tenants_are_on_shards_of_their_own(cluster_home, slurm, sharded):
    """Of four shards each tenant has one, so one of the two nodes; and a quarter of what is the home's."""
    home = cluster_home(platform=sharded % 1, up=False, more='slurm = { constraint = "nvme"; };', cpus=1.0)
    tenants = [home.tenant(f"t{i}", exec_="misbehave", retry="attempts = 2;") for i in range(8)]
    home.up()
    for t in tenants:
        for i in range(2):
            home.do(*["uid"] * i, name=f"{i}.csv", tenant=t)
    home.wait_files(16)
    nodes = {}
    for r in home.rows("runs"):
        assert r["outcome"] == "ok", r
        nodes.setdefault(r["tenant_id"], set()).add(r["node"])
    assert set(nodes) == set(tenants) and all(len(n) == 1 for n in nodes.values()), nodes
    assert {name for n in nodes.values() for name in n} == set(slurm.names), "not all tenants have the same"


def test_a_tenant_has_no_more_of_the_cluster_than_its_shards_are(cluster_home, slurm, sharded):
    home = cluster_home(platform=sharded % 2, cpus=1.0)
    gate = home.base / "gate"
    for i in range(4):
        home.do(f"gate,{gate}", *["uid"] * i, name=f"{i}.csv")
    running = until(lambda: (lambda r: r if len(r) == 2 else None)([r for r in home.rows("runs") if r["state"] == "running" and r["node"]]), home.path / "state", what="two of four cores")
    assert sorted(states(home).values()) == ["queued", "queued", "running", "running"] and len(running) == 2
    assert "its shards" in home.cli("status").stdout
    gate.touch()
    assert {f["state"] for f in home.wait_files(4)} == {"ingested"}


@pytest.mark.parametrize("platform, profile, why", [
    ("shards = { count = 4; each = 5; };", "", "a tenant cannot have 5 of 4"), ('shards = { count = 4; feature = "a|b"; };', "", "platform.slurm.shards.feature"),
    ("shards = { count = 4; };", 'slurm = { constraint = "a|b"; };', "names and & alone"),
    ('shards = { count = 4; }; listen = "127.0.0.1";', "slurm = { pilot = { nodes = 1; }; };", "each run is a job")])
def test_what_shards_may_not_be(make_home, platform, profile, why):
    home = make_home(platform=f'launcher = "slurm"; slurm = {{ capacity = {{ cpus = 8; memory_bytes = 8000000000L; }}; {platform} }};')
    home.profiles(more=profile)
    home.tenant()
    r = home.cli("check", check=False)
    assert r.returncode == 1 and why in r.stderr, r.stderr


def test_doctor_says_which_shards_have_no_node(cluster_home, slurm, sharded):
    home = cluster_home(platform=sharded % 2)
    assert diagnosis(home)["shards"] == ("ok", "each has a node")
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("count = 4", "count = 6"))
    status, text = diagnosis(home)["shards"]
    assert status == "failed" and text.startswith("s4, s5"), text


def test_doctor(cluster_home, slurm):
    home = cluster_home(more='slurm = { partition = "main"; };')
    found = diagnosis(home)
    assert {"slurmctld", "authentication", "ends whole process trees", "partition main", *(f"node {n}" for n in slurm.names)} == set(found), found
    assert {status for status, _ in found.values()} == {"ok"}, found
    home.profiles(more='slurm = { partition = "nowhere"; };')
    slurm.run("scontrol", "update", f"NodeName={slurm.names[0]}", "State=DRAIN", "Reason=test")
    found = diagnosis(home)
    assert found["partition nowhere"][0] == "failed" and found[f"node {slurm.names[0]}"][0] == "unlimited" and found[f"node {slurm.names[1]}"][0] == "ok", found
    slurm.kill("slurmctld")
    assert diagnosis(home)["slurmctld"][0] == "failed"


def test_its_programs_are_what_the_table_says(cluster_home):
    """docs/security.md: neither who submits jobs nor a runner on a node keeps what administers a host; batchmgr cannot change what is executed."""
    home = cluster_home()
    home.do("hang", name="x.csv")
    run = running(home)
    admin = 1 << 25 | 1 << 22 | 1 << 16  # SYS_TIME, SYS_BOOT, SYS_MODULE
    for pid in (home.pids("simbdp-slurm")[0], runner_of(home.marked(run["run_id"])[0])):
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status").read().splitlines())
        assert int(status["CapBnd"], 16) & admin == 0 and status["NoNewPrivs"] == "1" and status["Uid"].split()[0] == "0", status
    mounts = [line.split() for line in open(f"/proc/{home.batchmgr_pid()}/mountinfo") if line.split()[4] == f"{home.path}/state/jobs"]
    assert mounts and "ro" in mounts[-1][5].split(","), mounts
    assert (home.path / "state/jobs").stat().st_mode & 0o7777 == 0o700
    home.cli("stop", run["run_id"])


def test_slurm_keeps_nothing_of_our_environment(cluster_home, slurm):
    """It may have secrets, as the database's URL."""
    home = cluster_home(up=False)
    home.env["OUR_SECRET"] = "correct-horse-battery"
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    running(home)
    kept = [p.read_bytes() for p in (slurm.dir / "state").rglob("environment")]
    assert any(b"PATH=" in b for b in kept) and not any(b"correct-horse" in b for b in kept)
    gate.touch()
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
