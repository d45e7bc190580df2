"""`mysimbdp upgrade`: all programs are started again, one after the other, while a run and instances go on and messages come."""
import json
import os
import pathlib
import shutil
import subprocess

import pymongo
import pytest
from harness import BUILD, RELEASE, ROOT, Home, until
from test_stream_kills import PUBLISHER

pytestmark = pytest.mark.anyone
PROGRAMS = ("broker", "monitor", "streammgr", "batchmgr", "desk")
MESSAGES = 2000


@pytest.fixture
def platform():
    home = Home(own_mongo=True)
    try:
        yield home
    finally:
        home.cleanup()


@pytest.fixture
def installed(platform):
    """A copy of the programs, which can be replaced while they run."""
    to = platform.base / "installed"
    to.mkdir()
    for p in BUILD.iterdir():
        if p.is_file() and os.access(p, os.X_OK) and p.read_bytes()[:4] == b"\x7fELF":
            shutil.copy2(p, to)
    (to / "embedded-mongo").symlink_to(RELEASE / "embedded-mongo")
    platform.programs = to
    return to


def replace(installed, name, source):
    """As a package does it: the old file is not written to."""
    new = installed / f"{name}.new"
    shutil.copy2(source, new)
    new.rename(installed / name)


def start_of(pid):
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19]


def test_runs_instances_and_messages_go_on(platform, installed):
    home = platform
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    home.tenant("files", "misbehave")
    (home.path / "conf/tenants/acme.conf").write_text(
        'datasets = ( { name = "data"; format = "json"; } ); streams = ( { name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; } );\n'
        'stream_apps = ( { app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "data"; min_instances = 2; max_instances = 2; } );\n')
    home.up()
    home.do(f"gate,{home.base / 'go'}", tenant="files", name="long.csv")
    (run,) = home.wait_running()
    env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_TENANT_ID": "acme", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"),
           "PYTHONPATH": str(ROOT / "clientlib/python")}
    instances = until(lambda: len(home.pids("simbdp-load", "--stream")) == 2 and home.pids("simbdp-load", "--stream"), what="two instances")
    before = {name: home.pids(name) for name in PROGRAMS}
    going = [(p, start_of(p)) for p in instances]
    publisher = subprocess.Popen(["/usr/bin/python3", "-c", PUBLISHER, str(MESSAGES)], env=env, stdout=subprocess.PIPE, text=True)
    said = home.cli("upgrade", timeout=300).stdout
    assert "6 programs" in said, said  # MongoDB among them
    for name in PROGRAMS:
        now = home.pids(name)
        assert now and not set(now) & set(before[name]), (name, before[name], now)
    assert [(p, start_of(p)) for p in instances] == going
    assert publisher.communicate(timeout=300)[0].strip() == "all"
    url = json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"]
    rows = pymongo.MongoClient(url, retryReads=True).acme.data
    until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state", what="an empty queue")
    assert rows.count_documents({}) == MESSAGES and len(rows.distinct("n")) == MESSAGES
    (home.base / "go").touch()
    assert home.wait_file(tenant_id="files")["state"] == "ingested"
    assert [r["run_id"] for r in home.rows("runs", "--tenant", "files")] == [run["run_id"]]
    home.down()


def test_what_does_not_take_the_configuration_stops_nothing(platform, installed):
    home = platform
    home.tenant()
    home.up()
    before = {name: home.pids(name) for name in PROGRAMS}
    (home.path / "conf/tenants/acme.conf").write_text("concurency = 2;")
    r = home.cli("upgrade", check=False)
    assert r.returncode == 1 and "concurency" in r.stderr and "nothing was stopped" in r.stderr, r.stderr
    assert {name: home.pids(name) for name in PROGRAMS} == before
    home.tenant()
    home.down()


def test_a_program_that_does_not_come_back_ends_it_there(platform, installed):
    home = platform
    home.tenant()
    home.up()
    before = {name: home.pids(name) for name in PROGRAMS}
    replace(installed, "monitor", "/bin/false")
    r = home.cli("upgrade", check=False, timeout=300)
    assert r.returncode == 1 and "monitor does not answer" in r.stderr, r.stderr
    now = {name: home.pids(name) for name in PROGRAMS}
    assert now["broker"] != before["broker"] and all(now[n] == before[n] for n in ("streammgr", "batchmgr", "desk"))
    replace(installed, "monitor", BUILD / "monitor")
    assert "programs" in home.cli("upgrade", timeout=300).stdout
    home.drop("a.csv", "v\n1\n")
    assert home.wait_file(tenant_id="acme")["state"] == "ingested"
    home.down()


def test_two_at_once_are_one(platform, installed):
    home = platform
    home.tenant()
    home.up()
    command = [installed / "mysimbdp", "upgrade"]
    both = [subprocess.Popen(command, env=home.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    said = [p.communicate(timeout=300) for p in both]
    codes = sorted(p.returncode for p in both)
    assert codes in ([0, 1], [0, 0]), said
    assert codes == [0, 0] or any("an upgrade is going on" in err for _, err in said), said
    home.down()
