"""Instances of stream apps as jobs of a Slurm cluster: broker and monitor over tcp, by keys of their own; and batch runs there that publish."""
import pathlib
import re
import subprocess

import pytest
import zmq
from harness import ROOT, until
from instances import LOAD, STREAM, instances, keys_of, live, publish, script, wait_instances, wait_stored
from slurm import diagnosis, job_of, read
from wire import PING, Peer, Refused, header

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]

PYTHON = """#!/usr/bin/python3
import sys
sys.path.insert(0, %r)
import simbdp
with simbdp.open() as run:
    for message in run.messages():
        run.store({"n": message.json()["n"], "by": "python"})
        message.done()
""" % str(ROOT / "clientlib/python")


@pytest.mark.parametrize("by, isolation", [pytest.param("c", "basic", marks=pytest.mark.soak), ("c", "full"), ("python", "full")])
def test_messages_are_stored_once_by_instances_on_nodes(instances_home, slurm, by, isolation):
    """The client libraries find their way in C and in Python; out of the network namespace of a run, too. Figures reach the monitor."""
    home = instances_home(LOAD if by == "c" else 'app = "store"; exec = "store.py"; dataset = "data"; max_instances = 4;', up=False, isolation=isolation)
    script(home, "store.py", PYTHON)
    home.up()
    home.cli("app", "scale", "acme/store", "2")
    runs = wait_instances(home, 2)
    assert {r["node"] for r in runs} <= set(slurm.names) and all(job_of(slurm, r)[1] == "RUNNING" for r in runs), runs
    for at in range(0, 400, 50):
        publish(home, *range(at, at + 50))
    wait_stored(home, range(400))
    until(lambda: home.queue("store")["ready"] + home.queue("store")["leased"] == 0, home.path / "state", what="all to be acknowledged")
    def reporting():
        return {i["run_id"] for i in home.control({"op": "app", "tenant_id": "acme", "app": "store"}, "monitor.sock")["instances"] if i["messages"]}
    until(lambda: reporting() and reporting() <= {r["run_id"] for r in runs}, home.path / "logs", what=lambda: f"reports: {reporting()}")
    env, _ = keys_of(home, runs[0])
    assert env["ZMQ_STREAM_ENDPOINT"].startswith("tcp://127.0.0.1:") and env["ZMQ_MONITOR_ENDPOINT"].startswith("tcp://127.0.0.1:")
    home.cli("app", "scale", "acme/store", "0")
    until(lambda: not instances(home, state="running"), home.path / "state", what=lambda: f"{instances(home)} to end")
    assert {r["outcome"] for r in instances(home)} == {"ok"}, instances(home)
    until(lambda: sorted(p.name for p in (home.path / "state/jobs").rglob("*")) == ["keys", "run.sh"], home.path / "state/jobs", what="their files and keys to go")


def test_in_and_out(instances_home, slurm):
    """Scaled out and in, over what the cluster has for this home and back; what is told to go finishes what it holds."""
    home = instances_home(LOAD, capacity="cpus = 4.0; memory_bytes = 8000000000L;", platform="stream_pct = 75;")
    sent = 0
    for n in (1, 3, 2, 3):
        home.cli("app", "scale", "acme/store", n)
        wait_instances(home, n)
        publish(home, *range(sent, sent + 100))
        sent += 100
    home.cli("app", "scale", "acme/store", "4")
    until(lambda: "capacity" in (home.rows("app", "list")[0]["reason"] or ""), home.path / "state", what="what the fourth waits for")
    wait_stored(home, range(sent))
    assert len(wait_instances(home, 3)) == 3


def test_a_change_of_launcher_moves_instances(instances_home, slurm):
    """By configuration only, there and back, without a message that is lost or stored twice."""
    home = instances_home(LOAD, platform="capacity = { cpus = 8.0; memory_bytes = 8000000000L; };", more='launcher = "local";')
    home.cli("app", "scale", "acme/store", "2")
    profiles = home.path / "conf/profiles.conf"
    sent = 0
    for launcher in ("local", "slurm", "local"):
        profiles.write_text(re.sub('launcher = "[a-z]*"', f'launcher = "{launcher}"', profiles.read_text()))
        home.cli("reload")
        publish(home, *range(sent, sent + 100))
        sent += 100
        until(lambda launcher=launcher: len(live(home)) == 2 and all((r["node"] in slurm.names) == (launcher == "slurm") and r["state"] == "running" for r in live(home)),
              home.path / "state", what=lambda launcher=launcher: f"two on {launcher}: {instances(home)}")
    wait_stored(home, range(sent))


def test_what_an_instance_waits_for(instances_home, slurm):
    """A drained node takes none, and the app says why; a stopped app's job leaves Slurm's queue."""
    home = instances_home(LOAD)
    try:
        for n in slurm.names:
            slurm.run("scontrol", "update", f"NodeName={n}", "State=DRAIN", "Reason=test")
        publish(home, 1)
        until(lambda: "waits in Slurm's queue" in (home.rows("app", "list")[0]["reason"] or ""), home.path / "state", what=lambda: f"{home.rows('app', 'list')}")
        (run,) = instances(home)
        home.cli("app", "stop", "acme/store")
        until(lambda: job_of(slurm, run)[1] == "CANCELLED", home.path / "state", what="the job to be cancelled")
    finally:
        for n in slurm.names:
            slurm.run("scontrol", "update", f"NodeName={n}", "State=RESUME")
    home.cli("app", "start", "acme/store")
    wait_stored(home, [1])


def test_stop_ends_one_with_proof(instances_home, slurm):
    home = instances_home(LOAD)
    home.cli("app", "scale", "acme/store", "2")
    first, second = wait_instances(home, 2)
    home.cli("stop", first["run_id"])
    (ended,) = until(lambda: instances(home, run_id=first["run_id"], state="ended"), home.path / "state", what=lambda: f"its end: {instances(home)}")
    assert ended["outcome"] == "ok" and not home.marked(first["run_id"]), ended
    assert [r["run_id"] for r in wait_instances(home, 1)] == [second["run_id"]]
    publish(home, 1)
    wait_stored(home, [1])


def every_argument():
    return "\0".join(read(p) for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"))


def test_keys_are_for_the_app_alone(instances_home, slurm):
    """In no argument, nothing that Slurm tells or keeps, no log, nothing that another uid can read; and what an instance has is not another's."""
    home = instances_home(LOAD)
    home.cli("app", "scale", "acme/store", "2")
    one, two = wait_instances(home, 2)
    envs = [keys_of(home, r)[0] for r in (one, two)]
    secrets = [e["SIMBDP_CURVE_SECRET_KEY"] for e in envs]
    assert secrets[0] != secrets[1] and envs[0]["SIMBDP_CURVE_PUBLIC_KEY"] != envs[1]["SIMBDP_CURVE_PUBLIC_KEY"]
    told = every_argument() + slurm.run("scontrol", "show", "job", "-dd") + slurm.run("squeue", "-O", "Name:.,Comment:.,Command:.,StdOut:.,AdminComment:.")
    for r in (one, two):
        told += slurm.run("scontrol", "write", "batch_script", job_of(slurm, r)[0], "-")
    assert not any(s in told for s in secrets)
    holding = subprocess.run(["grep", "-rlF", "--devices=skip", *[f"-e{s}" for s in secrets], str(home.path), str(slurm.dir)], capture_output=True, text=True).stdout.split()
    assert sorted(holding) == sorted(str(home.path / f"state/jobs/{r['run_id']}.json") for r in (one, two)), holding
    for path in map(pathlib.Path, holding):
        assert path.stat().st_mode & 0o777 == 0o600 and path.parent.stat().st_mode & 0o777 == 0o700 and path.stat().st_uid == 0


def connects(endpoint, **keys):
    """Whether anything is answered at all."""
    with Peer(endpoint, **keys) as p:
        p.send(header(PING))
        return p.socket.poll(3000) != 0


def test_a_key_opens_its_tenants_streams_until_its_instance_ends(instances_home, slurm):
    home = instances_home(LOAD, up=False)
    home.streams("events", name="other", apps=())
    home.up()
    home.cli("app", "scale", "acme/store", "2")
    one, two = wait_instances(home, 2)
    env, keys = keys_of(home, one)
    endpoint = env["ZMQ_STREAM_ENDPOINT"]
    with Peer(endpoint, **keys) as p:
        p.publish(STREAM, [b'{"n":1}'])
        for request in (lambda: p.publish("other/events", [b"{}"]), lambda: p.subscribe("other/events", "store")):
            with pytest.raises(Refused) as e:
                request()
            assert e.value.code == "auth", e.value
    wait_stored(home, [1])
    other_secret = {**keys, "curve_secretkey": zmq.curve_keypair()[1]}
    assert connects(endpoint, **keys) and not connects(endpoint, **other_secret)
    leaked = Peer(endpoint, **keys)
    leaked.publish(STREAM, [b'{"n":2}'])
    home.cli("stop", one["run_id"])
    wait_instances(home, 1)
    until(lambda: not connects(endpoint, **keys), home.path / "state", what="the key to be worth nothing")
    until(lambda: "run_over" in read(home.path / "logs/broker.log"), home.path / "logs", what="who still has it to be cut off")
    leaked.close()
    assert connects(endpoint, **keys_of(home, two)[1])
    wait_stored(home, [1, 2])


PUBLISH = """#!/usr/bin/python3
import os, sys
sys.path.insert(0, %r)
import zmq
from wire import Peer
keys = {f"curve_{n}key": os.environ[f"SIMBDP_CURVE_{n.upper()}_KEY"].encode() for n in ("server", "public", "secret")}
with Peer(os.environ["ZMQ_STREAM_ENDPOINT"], **keys) as p:
    p.publish("acme/events", [b'{"n":%%d}' %% int(line) for line in sys.stdin])
""" % str(ROOT / "tests/system")


def test_a_batch_run_on_a_node_publishes(instances_home, slurm):
    home = instances_home(LOAD, up=False, tenant='batch = ( { app = "feed"; exec = "feed.py"; datasets = ( "feed" ); } );')
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = ( ", 'datasets = ( { name = "feed"; format = "csv"; }, ', 1))
    script(home, "feed.py", PUBLISH)
    home.up()
    home.drop("a.csv", "".join(f"{n}\n" for n in range(50)), dataset="feed")
    f = home.wait_file(file_name="a.csv")
    assert f["state"] == "ingested", (f, home.log_of(f["run_id"]))
    wait_stored(home, range(50))


def test_doctor_says_whether_nodes_reach_broker_and_monitor(instances_home, slurm):
    home = instances_home(LOAD)
    subjects = [f"node {n}: broker and monitor" for n in slurm.names]
    assert {diagnosis(home)[s] for s in subjects} == {("ok", "reaches both at 127.0.0.1")}
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace('listen = "127.0.0.1"', 'listen = "127.0.0.77"'))
    for status, reason in map(diagnosis(home).get, subjects):
        assert status == "failed" and len(re.findall(r"127\.0\.0\.77 \d+ Connection refused", reason)) == 2, reason


@pytest.mark.parametrize("listen, platform, why", [("", "", "platform.slurm.listen has to say"), ("10.1.2.3", 'listen = "127.0.0.1";', "where they do not listen"),
                                                   ("0.0.0.0", "", "no address that nodes can connect to"), ("192.0.2.1", "", "'platform.slurm.listen': nothing can listen on")])
def test_check_says_what_cannot_be(home, listen, platform, why):
    (home.path / "conf/mysimbdp.conf").write_text(f'platform = {{ launcher = "slurm"; {platform} slurm = {{ listen = "{listen}"; }}; }};\n')
    (home.path / "conf/tenants/acme.conf").write_text(f'streams = ( {{ name = "events"; }} ); datasets = ( {{ name = "data"; format = "json"; }} );\nstream_apps = ( {{ stream = "events"; {LOAD} }} );\n')
    r = home.cli("check", check=False)
    assert r.returncode and why in r.stderr, r
