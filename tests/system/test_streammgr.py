"""streammgr: instances on demand and always, restarts, parking, draining, rolling restarts, orders, recovery."""
import json
import os
import signal
import time

import pytest
from harness import BUILD, ROOT, until
from wire import Peer

STREAM = "acme/events"
CONSUME = """#!/usr/bin/python3
import os, signal, struct, sys
sys.path.insert(0, %r)
from wire import Peer
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
name = os.environ["SIMBDP_APP"]
with Peer(os.environ["ZMQ_STREAM_ENDPOINT"]) as p:
    p.subscribe(os.environ["SIMBDP_STREAM"], name)
    while True:
        for m in p.take(timeout=1):
            %s
            p.ack([m])
"""


@pytest.fixture
def platform(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    return home


def configure(home, *apps, stream=""):
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    (home.path / "conf/tenants/acme.conf").write_text(
        f'database = "{home.db_of["acme"]}"; datasets = ( {{ name = "data"; format = "json"; }} ); streams = ( {{ name = "events"; {stream} }} );\n'
        "stream_apps = ( " + ", ".join(f'{{ stream = "events"; {a} }}' for a in apps) + " );\n")


def script(home, name, text):
    path = home.path / "apps/acme" / name
    path.parent.mkdir(exist_ok=True)
    temp = path.with_name(name + ".new")
    temp.write_text(text)
    temp.chmod(0o755)
    temp.rename(path)


def app(home, name="store"):
    return next(a for a in home.rows("app", "list") if a["app"] == name)


def wait_app(home, test, name="store", what="the app"):
    return until(lambda: (lambda a: a if test(a) else None)(app(home, name)), home.path / "logs", what=lambda: f"{what}: {app(home, name)}")


def publish(home, *bodies):
    with Peer(home.endpoint) as p:
        p.publish(STREAM, list(bodies))


LOAD = 'app = "store"; exec = "builtin:load"; dataset = "data"; max_instances = 4;'


def test_s08_a_message_wakes_an_app_with_no_instance(platform):
    configure(platform, LOAD)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    began = time.monotonic()
    publish(platform, b'{"n":1}')
    until(lambda: platform.count() == 1, platform.path / "state", every=0.02, what="the row")
    assert time.monotonic() - began < 3
    assert app(platform)["instances"] == 1
    platform.down()
    assert platform.pids("simbdp-load") == []


def test_on_demand_off_and_min_instances(platform):
    configure(platform, LOAD + "on_demand = false;", 'app = "always"; exec = "builtin:load"; dataset = "data"; min_instances = 2; max_instances = 3;')
    platform.up()
    wait_app(platform, lambda a: a["running"] == 2, "always")
    publish(platform, b'{"n":1}')
    until(lambda: platform.queue("always")["acked"] == 1, platform.path / "state", what="the ack")
    assert app(platform)["instances"] == 0 and platform.queue("store")["ready"] == 1
    platform.cli("app", "scale", "acme/store", "2")
    wait_app(platform, lambda a: a["running"] == 2)
    for bad, word in (("5", "max_instances 4"), ("x", "number")):
        r = platform.cli("app", "scale", "acme/store", bad, check=False)
        assert r.returncode in (1, 2) and word in r.stderr
    r = platform.cli("app", "scale", "acme/always", "1", check=False)
    assert r.returncode == 1 and "min_instances 2" in r.stderr
    assert "no stream app" in platform.cli("app", "start", "acme/nobody", check=False).stderr
    platform.cli("app", "scale", "acme/store", "0")
    wait_app(platform, lambda a: a["instances"] + a["draining"] == 0)


def test_stop_start_and_restarts(platform):
    configure(platform, LOAD + "min_instances = 1;")
    platform.up()
    first, = wait_app(platform, lambda a: a["running"] == 1)["run_ids"]
    os.kill(platform.pids("simbdp-load", "--stream")[0], signal.SIGKILL)
    second, = wait_app(platform, lambda a: a["running"] == 1 and a["run_ids"] != [first])["run_ids"]
    platform.cli("app", "stop", "acme/store")
    assert wait_app(platform, lambda a: a["instances"] + a["draining"] == 0)["state"] == "stopped"
    platform.down()
    platform.up()
    assert app(platform)["state"] == "stopped"
    platform.cli("app", "start", "acme/store")
    wait_app(platform, lambda a: a["running"] == 1)


def test_r09_a_crash_loop_backs_off_and_is_parked(platform):
    configure(platform, 'app = "store"; exec = "bad.sh"; min_instances = 1;', 'app = "gone"; exec = "gone.sh"; min_instances = 1;')
    script(platform, "bad.sh", "#!/bin/sh\nexit 3\n")
    platform.up()
    parked = wait_app(platform, lambda a: a["state"] == "parked", "gone")
    assert "No such file" in parked["reason"]
    wait_app(platform, lambda a: a["restarts"] >= 4)
    script(platform, "gone.sh", CONSUME % (str(ROOT / "tests/system"), "pass"))
    wait_app(platform, lambda a: a["running"] == 1, "gone")


def test_r10_streammgr_killed_takes_its_instances_back(platform):
    configure(platform, LOAD + "min_instances = 3;")
    platform.up()
    ids = set(wait_app(platform, lambda a: a["running"] == 3)["run_ids"])
    pids = sorted(platform.pids("simbdp-load", "--stream"))
    for _ in range(3):
        old = platform.pids("streammgr")[0]
        os.kill(old, signal.SIGKILL)
        until(lambda: [p for p in platform.pids("streammgr") if p != old], platform.path / "state", what="another streammgr")
        until(lambda: platform.cli("app", "list", check=False).returncode == 0, platform.path / "state", what="its answer")
        assert set(wait_app(platform, lambda a: a["instances"] == 3)["run_ids"]) == ids
    assert sorted(platform.pids("simbdp-load", "--stream")) == pids


def test_orders_with_epoch_and_expiry(platform):
    configure(platform, LOAD)
    platform.up()
    ask = lambda **rq: platform.control(rq, "streammgr.sock")
    epoch = ask(op="apps")["epoch"]
    assert ask(op="scale", tenant="acme", app="store", count=2, epoch=epoch)["ok"]
    wait_app(platform, lambda a: a["running"] == 2)
    for _ in range(3):
        assert ask(op="scale", tenant="acme", app="store", count=2, epoch=epoch)["ok"]
    assert app(platform)["instances"] == 2
    stale = ask(op="scale", tenant="acme", app="store", count=1, epoch=epoch - 1)
    assert not stale["ok"] and "earlier streammgr" in stale["error"]
    late = ask(op="scale", tenant="acme", app="store", count=1, epoch=epoch, expires_ms=1000)
    assert not late["ok"] and "expired" in late["error"]
    for rq in ({"op": "scale"}, {"op": "scale", "tenant": "acme", "app": "store", "count": "x"}, {"op": "nonsense"}, {"op": "start", "tenant": "nobody", "app": "x"}):
        assert not platform.control(rq, "streammgr.sock")["ok"]
    assert app(platform)["instances"] == 2
    sock = json.loads((platform.path / "state/endpoints.json").read_text())["streammgr"]["ipc"]
    assert os.stat(sock).st_mode & 0o777 == 0o600


def test_a_changed_executable_is_rolled_out_and_suspended_tenants_have_none(platform):
    configure(platform, 'app = "store"; exec = "consume.py"; min_instances = 2; max_instances = 3; drain_s = 5;')
    script(platform, "consume.py", CONSUME % (str(ROOT / "tests/system"), "pass"))
    platform.up()
    ids = set(wait_app(platform, lambda a: a["running"] == 2)["run_ids"])
    script(platform, "consume.py", CONSUME % (str(ROOT / "tests/system"), "'another'"))
    wait_app(platform, lambda a: a["running"] == 2 and not ids & set(a["run_ids"]) and not a["draining"])
    platform.cli("tenant", "suspend", "acme")
    wait_app(platform, lambda a: a["instances"] + a["draining"] == 0)
    platform.cli("tenant", "resume", "acme")
    wait_app(platform, lambda a: a["running"] == 2)


def test_five_lines_of_shell_are_a_stream_app(platform):
    profiles = platform.path / "conf/profiles.conf"
    profiles.write_text(profiles.read_text().replace("} );", '}, { name = "other"; requests = { cpus = 0.01; memory_bytes = 1048576L; }; env = ( { name = "P"; value = "p"; } ); } );'))
    (platform.path / "keys/acme").mkdir()
    (platform.path / "keys/acme/token").write_text("s")
    configure(platform, 'app = "store"; exec = "five.sh"; args = ("x"); env = ( { name = "Y"; value = "y"; } ); output = "stdout"; dataset = "data"; profile = "other"; '
                        'secrets = ( { name = "t"; file = "token"; } ); max_instances = 2;')
    script(platform, "five.sh", """#!/bin/sh
while IFS= read -r line; do
    printf '{"n":%s,"all":"%s"}\\n' "$line" "$1$Y$P$(cat $SIMBDP_SECRETS_DIR/t)"
done
""")
    platform.up()
    publish(platform, *[str(i).encode() for i in range(200)])
    until(lambda: platform.queue("store")["acked"] == 200, platform.path / "state", what="the acks")
    rows = platform.docs()
    assert sorted(d["n"] for d in rows) == list(range(200)) and {d["all"] for d in rows} == {"xyps"}


def test_runs_logs_and_stop_know_instances(platform):
    configure(platform, 'app = "store"; exec = "hello.sh"; min_instances = 1;')
    script(platform, "hello.sh", "#!/bin/sh\necho hello from $SIMBDP_INSTANCE_ID on $SIMBDP_STREAM\nexec tail -f /dev/null\n")
    platform.up()
    run, = wait_app(platform, lambda a: a["running"] == 1)["run_ids"]
    row, = platform.rows("runs", "--state", "running")
    assert (row["run_id"], row["tenant_id"], row["app"], row["kind"], row["instance_id"], row["ended_at"]) == (run, "acme", "store", "stream", run, None)
    until(lambda: "hello from" in platform.cli("logs", run).stdout, platform.path / "runs", what="its log")
    assert platform.cli("logs", run).stdout == f"hello from {run} on events\n"
    platform.cli("stop", run)
    wait_app(platform, lambda a: a["running"] == 1 and a["run_ids"] != [run])
    ended, = platform.rows("runs", run)
    assert (ended["state"], ended["signal"], ended["error"]) == ("ended", 15, "stopped by command"), ended
    assert [r["kind"] for r in platform.rows("runs", "--tenant", "acme")] == ["stream", "stream"]
    assert platform.cli("stop", "0" * 26, check=False).returncode == 1
    platform.down()
    assert all(r["state"] == "ended" for r in platform.rows("runs"))


def test_a_removed_tenant_has_no_instances(platform):
    configure(platform, LOAD + "min_instances = 2;")
    platform.up()
    publish(platform, *[b'{"n":%d}' % i for i in range(100)])
    until(lambda: platform.count() == 100, platform.path / "state", what="the rows")
    platform.cli("tenant", "remove", "acme")
    until(lambda: not platform.pids("simbdp-load", "--stream"), platform.path / "state", what="the end of the instances")
    platform.cli("tenant", "remove", "acme", "--purge")
    assert platform.rows("runs") == [] and platform.rows("app", "list") == [] and platform.count() == 0


def test_s11_an_instance_that_hangs_is_replaced(platform):
    configure(platform, 'app = "store"; exec = "hangs.py"; min_instances = 1; max_instances = 2; drain_s = 1;', stream="lease_ms = 500; max_deliveries = 50;")
    text = CONSUME % (str(ROOT / "tests/system"), "signal.signal(signal.SIGTERM, signal.SIG_IGN); (m.deliveries < 3 and signal.pause())")
    script(platform, "hangs.py", text)
    platform.up()
    first = wait_app(platform, lambda a: a["running"] == 1)["run_ids"]
    publish(platform, b"x")
    until(lambda: platform.queue("store")["acked"] == 1, platform.path / "state", what=lambda: f"an instance that does not hang: {app(platform)}")
    ended = [r for r in platform.rows("runs") if r["state"] == "ended"]
    assert ended and all("hangs" in r["error"] and r["forced"] for r in ended) and first[0] in {r["run_id"] for r in ended}
    assert platform.queue("store")["dead"] == 0


def test_s12_the_idle_one_goes_first_and_no_work_is_lost(platform):
    configure(platform, 'app = "store"; exec = "slow.py"; min_instances = 1; max_instances = 3; drain_s = 20;')
    busy = "p.send_extend = None; p.extend([m]); open(os.environ['HOME'] + '/busy', 'w').close(); signal.sigtimedwait([signal.SIGUSR1], 4)"
    text = (CONSUME % (str(ROOT / "tests/system"), busy)).replace("p.subscribe(os.environ[\"SIMBDP_STREAM\"], name)",
                                                                  "p.subscribe(os.environ[\"SIMBDP_STREAM\"], name, messages=1)").replace(
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))", "stopping = []\nsignal.signal(signal.SIGTERM, lambda *_: stopping.append(1))").replace(
        "while True:", "while not stopping:")
    script(platform, "slow.py", text)
    platform.up()
    platform.cli("app", "scale", "acme/store", "3")
    wait_app(platform, lambda a: a["running"] == 3)
    until(lambda: platform.queue("store")["consumers"] == 3, platform.path / "state", what="three consumers")
    publish(platform, b"work")
    busy_one = until(lambda: [p.parts[-3] for p in (platform.path / "runs").glob("*/app/busy")], platform.path / "runs", what="the busy one")[0]
    until(lambda: platform.queue("store")["leased"] == 1, platform.path / "state", what="the lease")
    platform.cli("app", "scale", "acme/store", "1")
    left = wait_app(platform, lambda a: a["instances"] == 1 and not a["draining"])["run_ids"]
    assert left == [busy_one]
    until(lambda: platform.queue("store")["acked"] == 1, platform.path / "state", what="the ack")
    assert platform.queue("store")["redelivered"] == 0
