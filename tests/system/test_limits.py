"""Configuration keys that no scenario shows at work: each bites here."""
import json
import os
import pathlib
import re
import shutil

import pytest
from harness import until


PRESSURE = os.path.exists("/proc/pressure/memory")


def script(home, name, text):
    path = home.path / "apps/acme" / name
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)


def ended(home):
    """What the journal says of the last run that ended."""
    lines = (home.path / "logs/tenants/acme/events.batch.jsonl").read_text().splitlines()
    return [e for e in map(json.loads, lines) if e.get("event", e.get("type")) == "run.ended"][-1]


def run(home, name, text, tenant="acme"):
    home.drop(name, text, tenant)
    f = home.wait_file(file_name=name, tenant_id=tenant)
    return f, next(r for r in home.rows("runs") if r["run_id"] == f["run_id"])


@pytest.mark.needs_cgroups
def test_cpu_pct_throttles(home):
    home.profiles(wall_s=2, grace_s=0, cgroup="cpu_pct = 10;")
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    f, r = run(home, "x.csv", "do,arg\nspin,\n")
    assert r["outcome"] == "timeout" and 0.1 < r["cpu_s"] < 0.9  # of 2 s
    waited = ended(home)
    assert 0.4 < waited["throttled_s"] < 2.2, r
    # Linux 6.18 counts a part as waiting for a CPU; which is the larger, and whether it is half of the time, is the kernel's affair.
    longest = max(waited["throttled_s"], waited["waited_cpu_s"] or 0)
    told = re.match(r"for 1\.\d of 2\.\d s (the profile's cpu_pct held it back|it waited for a CPU)", r["error"] or "")
    assert bool(told) == (longest > r["wall_s"] / 2), (r, waited)
    assert waited["throttled_s"] + (waited["waited_cpu_s"] or 0) > 1.1, waited


@pytest.mark.needs_cgroups
def test_what_a_run_waited_for_is_told(home):
    if not PRESSURE:
        pytest.skip("this kernel does not count what processes wait for: psi=1")
    home.profiles(cgroup="memory_bytes = 67108864L;")
    home.tenant(exec_="reader", retry="attempts = 1;")
    script(home, "reader", "head -c 300M /dev/zero > big; for i in 1 2 3; do cat big > /dev/null; done")
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    waited = ended(home)
    assert r["outcome"] == "ok" and waited["waited_io_s"] > 0.001 and waited["waited_io_s"] < r["wall_s"] + 0.5, waited


@pytest.fixture
def narrow(request):
    """A group with less memory than the host's, of cgroup v1."""
    own = next((line.split(":", 2)[2] for line in open("/proc/self/cgroup").read().splitlines() if "memory" in line.split(":")[1].split(",")), None)
    if own is None:
        pytest.skip("the memory controller is not of cgroup v1")
    group = pathlib.Path(f"/sys/fs/cgroup/memory{own}/narrow-{os.getpid()}")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(1 << 30))
    yield group
    until(lambda: not (group / "cgroup.procs").read_text(), group, what="its end")
    group.rmdir()


@pytest.mark.needs_root
@pytest.mark.needs_cgroups
def test_a_host_without_memory_is_not_the_apps_fault(narrow, make_home):
    """The kernel takes a process of the run, not of the platform; the file is tried again and no attempt is used."""
    home = make_home()
    home.profiles(cgroup="memory_bytes = -1;")
    home.tenant(exec_="hog", retry="attempts = 1;")
    script(home, "hog", "head -c 4G /dev/zero | tail > tail.out; cat")
    home.as_user = ["sh", "-c", f'echo 0 > {narrow}/cgroup.procs && exec "$@"', "x"]
    home.up()
    home.drop("x.csv", "a\n1\n")
    lost = until(lambda: [r for r in home.rows("runs") if r["outcome"] == "lost"], home.path / "state", what="a run that was lost")
    assert "this host ran out of memory" in lost[0]["error"] and lost[0]["limit"] is None, lost
    script(home, "hog", "cat")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    assert "program_ended" not in (home.base / "up.err").read_text()
    home.down()


@pytest.mark.needs_cgroups
@pytest.mark.parametrize("rest", ["exit 0", "sleep 600"])
def test_a_run_whose_child_met_the_memory_limit_ends_as_a_whole(home, rest):
    """An app that lost a process may say that all is well, or wait for ever."""
    home.profiles(cgroup="memory_bytes = 67108864L;")
    home.tenant(exec_="hog", retry="attempts = 1;")
    script(home, "hog", f"head -c 300M /dev/zero | tail > tail.out; echo went on; {rest}")
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    assert (f["state"], r["outcome"], r["limit"]) == ("quarantined", "oom", "memory_bytes"), r
    assert r["wall_s"] < 60


@pytest.mark.needs_root
def test_nproc_bites(home):
    home.profiles(rlimits="nproc = 5;")
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    f, r = run(home, "x.csv", "do,arg\nfork,20\n")
    assert (r["outcome"], r["exit_code"]) == ("failed", 6)


def test_rlimits_are_what_the_profile_says(home):
    home.profiles(rlimits="cpu_s = 77; as_bytes = 1073741824L; nofile = 50; fsize_bytes = 1048576L; core_bytes = 0L; stack_bytes = 4194304L;")
    home.tenant(exec_="show")
    show = home.path / "apps/acme/show"
    show.write_text("#!/bin/bash\ncat >/dev/null\nfor x in t v n f c s; do ulimit -S -$x; done\n")
    show.chmod(0o755)
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    assert home.log_of(r["run_id"]).split() == ["77", str(1 << 20), "50", "1024", "0", "4096"]


def test_a_stack_over_the_limit_is_a_crash(home):
    home.profiles(rlimits="stack_bytes = 1048576L;")
    home.tenant(exec_="deep", retry="attempts = 1;")
    deep = home.path / "apps/acme/deep"
    deep.write_text("#!/bin/bash\nf() { f; }\nf\n")
    deep.chmod(0o755)
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    assert (f["state"], r["outcome"], r["signal"]) == ("quarantined", "killed", 11)


def test_env_of_profile_and_app(home):
    (home.path / "conf/profiles.conf").write_text(
        'profiles = ( { name = "small"; requests = { cpus = 0.1; }; env = ( { name = "A"; value = "profile"; }, '
        '{ name = "B"; value = "profile"; } ); } );')
    home.tenant(exec_="misbehave", batch='env = ( { name = "B"; value = "app"; }, { name = "PATH"; value = "/opt/bin:/usr/bin"; } );')
    home.up()
    f, r = run(home, "x.csv", "do,arg\nenv,\n")
    log = home.log_of(r["run_id"])
    assert "env A=profile\n" in log and "env B=app\n" in log and "env B=profile\n" not in log
    assert [line for line in log.splitlines() if line.startswith("env PATH=")] == ["env PATH=/opt/bin:/usr/bin"], "the platform's gives way"


def test_args_reach_the_app(home):
    home.tenant(exec_="args", batch='args = ("one two", "$HOME", "-x");')
    script = home.path / "apps/acme/args"
    script.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    script.chmod(0o755)
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    assert home.log_of(r["run_id"]) == "one two\n$HOME\n-x\n"


def test_mongo_url_of_platform_and_tenant(home):
    url = home.env.pop("MONGO_URL")
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", f'platform = {{ mongo_url = "{url}";'))
    home.tenant(exec_="misbehave")
    home.tenant("own", exec_="misbehave", tenant=f'mongo_url = "{url}&heartbeatFrequencyMS=5000";')
    home.up()
    for tenant, expected in (("acme", url), ("own", url + "&heartbeatFrequencyMS=5000")):
        f, r = run(home, "x.csv", "do,arg\nenv,\n", tenant)
        assert f"env MONGO_URL={expected}\n" in home.log_of(r["run_id"])


def test_rescan_finds_what_inotify_cannot_tell(make_home):
    home = make_home(platform="rescan_ms = 300;")
    home.tenant()
    home.up()
    data = home.path / "staging/acme/data"
    st = data.stat()
    shutil.rmtree(data)  # with it goes the watch
    data.mkdir(mode=0o1770)
    os.chown(data, st.st_uid, st.st_gid)
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_backoff_is_waited_for(home):
    home.tenant(exec_="misbehave", retry="attempts = 2; backoff_ms = 1500; max_backoff_ms = 1500;")
    home.up()
    home.drop("x.csv", "do,arg\nuntil,2\n")
    until(lambda: home.files(state="waiting"), home.path / "state")
    f = home.wait_file(file_name="x.csv")
    first, second = home.rows("runs")
    assert f["state"] == "ingested" and (second["attempt"], first["attempt"]) == (2, 1)
    gap = (float(second["started_at"][17:23]) - float(first["ended_at"][17:23])) % 60
    assert 0.7 <= gap < 10  # the upper half is jittered


def test_memory_of_the_capacity_is_shared_out(make_home):
    home = make_home(platform="capacity = { memory_bytes = 100000000L; };")
    home.profiles(memory="40000000L")
    home.tenant(exec_="misbehave", concurrency=9)
    home.up()
    gate = home.base / "gate"
    for i in range(4):
        home.do(f"print,{i}", f"gate,{gate}")
    home.wait_running(2)
    until(lambda: len(home.files(state="queued")) == 2, home.path / "state")
    assert len(home.files(state="running")) == 2  # a third would need 120 MB
    assert home.control({"op": "status"})["tenants"][0]["waits_for"] == "capacity"
    gate.touch()
    home.wait_files(4)


def test_stream_pct_is_kept_free(make_home):
    home = make_home(platform="capacity = { cpus = 4; }; stream_pct = 75;")
    home.profiles(cpus=0.5)
    home.tenant(exec_="misbehave", concurrency=9)
    home.up()
    gate = home.base / "gate"
    for i in range(4):
        home.do(f"print,{i}", f"gate,{gate}")
    home.wait_running(2)
    until(lambda: len(home.files(state="queued")) == 2, home.path / "state")
    assert len(home.files(state="running")) == 2  # a quarter of 4 cores
    gate.touch()
    home.wait_files(4)


@pytest.mark.needs_root
def test_uid_base_is_where_uids_begin(make_home):
    home = make_home(platform="uid_base = 71000;")
    home.tenant(exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}")
    (r,) = home.wait_running()
    assert [t["uid"] for t in home.rows("tenant", "list")] == [71001]
    assert (home.path / "staging/acme/data").stat().st_gid == 71001
    assert (home.path / "runs" / r["run_id"] / "app").stat().st_uid == 71001
    gate.touch()
    home.wait_file()


def test_an_app_runs_under_the_profile_it_names(home):
    (home.path / "conf/profiles.conf").write_text(
        'profiles = ( { name = "small"; rlimits = { nofile = 40; }; }, { name = "large"; rlimits = { nofile = 50; }; } );')
    home.tenant(exec_="show", batch='profile = "large";')
    show = home.path / "apps/acme/show"
    show.write_text("#!/bin/sh\ncat >/dev/null\nulimit -n\n")
    show.chmod(0o755)
    home.up()
    f, r = run(home, "x.csv", "a\n1\n")
    assert home.log_of(r["run_id"]) == "50\n"


def test_display_name_is_shown(home):
    home.tenant(tenant='display_name = "Acme Sensors";')
    assert home.rows("tenant", "list")[0]["display_name"] == "Acme Sensors" and "Acme Sensors" in home.cli("tenant", "list").stdout


def test_rows_go_where_collection_says(home):
    home.tenant()
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data"', 'collection = "elsewhere"'))
    home.up()
    run(home, "x.csv", "a\n1\n")
    assert home.count(collection="elsewhere") == 1 and home.count() == 0


def test_formats_of_a_dataset(home):
    home.tenant(limits='formats = ("csv", "json");', dataset_limits='formats = ("json");')
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["reason"]) == ("rejected", "formats")


def test_an_app_takes_its_datasets_only(home):
    home.tenant(batch='datasets = ("data");')
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = ( { name", 'datasets = ( { name = "other"; format = "csv"; }, { name', 1))
    home.up()
    home.drop("x.csv", "a\n1\n", dataset="other")
    home.drop("y.csv", "a\n2\n")
    assert home.wait_file(file_name="x.csv")["reason"] == "no_app" and home.wait_file(file_name="y.csv")["state"] == "ingested"
