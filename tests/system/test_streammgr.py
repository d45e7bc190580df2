"""streammgr: instances on demand and always, restarts, parking, draining, rolling restarts, orders, recovery."""
import contextlib
import datetime
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import time

import pytest
from harness import BUILD, IS_ROOT, ROOT, Mongo, allow_descriptors, change, runner_of, until
from wire import Peer

pytestmark = pytest.mark.once

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
    path.parent.mkdir(parents=True, exist_ok=True)
    temp = path.with_name(path.name + ".new")
    temp.write_text(text)
    temp.chmod(0o755)
    temp.rename(path)


def app(home, name="store"):
    return next(a for a in home.rows("app", "list") if a["app"] == name)


def wait_app(home, test, name="store", what="the app"):
    return until(lambda: (lambda a: a if test(a) else None)(app(home, name)), home.path / "logs", what=lambda: f"{what}: {app(home, name)}")


def streammgr_answers(home):
    """`app list` alone does not say so: it works without."""
    try:
        return home.control({"op": "status"}, "streammgr.sock")["ok"]
    except (OSError, AssertionError):
        return False


def age(home, run):
    return time.time() - datetime.datetime.fromisoformat(home.rows("runs", run)[0]["started_at"][:-1] + "+00:00").timestamp()


def publish(home, *bodies):
    with Peer(home.endpoint) as p:
        p.publish(STREAM, list(bodies))


LOAD = 'app = "store"; exec = "builtin:load"; dataset = "data"; max_instances = 4;'


def test_what_the_agreement_says_of_rows_holds_for_messages(platform):
    configure(platform, LOAD)
    conf = platform.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('name = "data"; format', 'name = "data"; limits = { max_rows = 2; }; format') + "limits = { max_columns = 3; max_rows = 100; };\n")
    platform.up()
    good = [b'[{"a":1},{"a":2}]', b'{"a":1,"b":2,"c":3}']
    bad = {b'[{"a":1},{"a":2},{"a":3}]': "more than 2 rows (max_rows)", b'{"a":1}\n{"a":1,"b":2,"c":3,"d":4}': "line 2: 4 columns; max_columns is 3"}
    publish(platform, *good, *bad)
    until(lambda: len(platform.rows("dead", "list", STREAM)) == len(bad) and platform.queue("store")["acked"] == 2, platform.path / "state", what="the dead letters")
    assert {d["message"].encode(): d["reason"] for d in platform.rows("dead", "list", STREAM)} == bad
    assert platform.count() == 3


@pytest.mark.timing
def test_s08_a_message_wakes_an_app_with_no_instance(platform):
    configure(platform, LOAD)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    began = time.monotonic()
    publish(platform, b'{"n":1}')
    until(lambda: platform.count() == 1, platform.path / "state", every=0.02, what="the row")
    assert time.monotonic() - began < 3
    assert app(platform)["instances"] == 1
    platform.cli("app", "scale", "acme/store", "0")
    wait_app(platform, lambda a: a["instances"] + a["draining"] == 0)
    publish(platform, b'{"n":2}')
    until(lambda: platform.count() == 2, platform.path / "state", every=0.02, what="the row of one that was woken again")
    platform.down()
    assert platform.pids("simbdp-load") == []


def said(home, name, text):
    # one that has only just been started has no log yet
    return any(text in home.cli("logs", r["run_id"], check=False).stdout for r in home.rows("runs") if r["app"] == name)


def test_the_pipe_is_built_in_and_on_the_path_of_apps(platform):
    """Also where the platform's programs lie in a directory that no tenant reaches: it is the home's copy."""
    configure(platform, 'app = "built-in"; exec = "builtin:pipe"; args = ("--batch", "2", "--", "sh", "-c", "sed s/^/got-/; echo in:$SIMBDP_APP_DIR");',
              'app = "script"; exec = "deep/consume.sh";', 'app = "store"; exec = "deep/row.sh"; output = "stdout"; dataset = "data";')
    script(platform, "deep/consume.sh", '#!/bin/sh\nexec simbdp-pipe -- "$SIMBDP_APP_DIR/lines.sh"\n')
    script(platform, "deep/lines.sh", "#!/bin/sh\nsed s/^/lines-/\n")
    script(platform, "deep/row.sh", """#!/bin/sh\nwhile read -r l; do echo "{\\"dir\\":\\"$SIMBDP_APP_DIR\\"}"; done\n""")
    (platform.path / "bin").mkdir()
    (platform.path / "bin/simbdp-pipe").write_text("an older one")
    platform.up()
    assert (platform.path / "bin/simbdp-pipe").read_bytes() == (BUILD / "simbdp-pipe").read_bytes()
    publish(platform, b"one", b"two")
    apps = platform.path / "apps/acme"
    for name, texts in (("built-in", ("got-one", "got-two", f"in:{apps}\n")), ("script", ("lines-one", "lines-two"))):
        for text in texts:
            until(lambda: said(platform, name, text), platform.path / "runs", what=text)
        until(lambda: platform.queue(name)["acked"] == 2, platform.path / "state", what="the acks")
    until(lambda: platform.count() == 2, platform.path / "state", what="the rows")
    assert {d["dir"] for d in platform.docs()} == {f"{apps}/deep"}


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
    outcomes = {r["run_id"]: r["outcome"] for r in platform.rows("runs")}
    assert (outcomes[first], outcomes[second]) == ("killed", "ok"), "what ends as it is told to was not killed"
    r = platform.cli("app", "scale", "acme/store", "2", check=False)
    assert r.returncode == 1 and "app start" in r.stderr
    r = platform.cli("app", "start", "acme/store", "--", "x", check=False)
    assert r.returncode == 1 and "no arguments" in r.stderr
    platform.down()
    platform.up()
    assert app(platform)["state"] == "stopped"
    platform.cli("app", "start", "acme/store")
    wait_app(platform, lambda a: a["running"] == 1)


@pytest.mark.timing
@pytest.mark.anyone
def test_r09_a_crash_loop_backs_off(platform):
    configure(platform, 'app = "store"; exec = "bad.sh"; min_instances = 1;')
    script(platform, "bad.sh", "#!/bin/sh\nexit 3\n")
    platform.up()
    looping = wait_app(platform, lambda a: a["restarts"] >= 6)
    assert looping["state"] == "backoff" and "exit code 3" in looping["reason"], looping
    began = sorted(datetime.datetime.fromisoformat(r["started_at"][:-1]).timestamp() for r in platform.rows("runs", "--limit", "0") if r["app"] == "store")
    waits = [b - a for a, b in zip(began, began[1:])]
    assert waits[0] < 0.1 and all(0.05 * 2 ** i <= w < 0.1 * 2 ** i + 0.2 for i, w in enumerate(waits[1:5])), waits
    script(platform, "bad.sh", CONSUME % (str(ROOT / "tests/system"), "pass"))
    platform.cli("app", "start", "acme/store")
    healthy, = wait_app(platform, lambda a: a["ready"] == 1)["run_ids"]
    until(lambda: age(platform, healthy) > 1.5, platform.path / "state", what="health")
    os.kill(platform.marked(healthy)[-1], signal.SIGKILL)
    again, = wait_app(platform, lambda a: a["ready"] == 1 and a["run_ids"] != [healthy])["run_ids"]
    end, start = platform.rows("runs", healthy)[0]["ended_at"], platform.rows("runs", again)[0]["started_at"]
    assert (datetime.datetime.fromisoformat(start[:-1]) - datetime.datetime.fromisoformat(end[:-1])).total_seconds() < 0.1, "after health the restart is at once"


@pytest.mark.anyone
def test_r09_a_crash_loop_is_parked_until_the_executable_changes(platform):
    configure(platform, 'app = "store"; exec = "bad.sh"; min_instances = 1;', 'app = "gone"; exec = "gone.sh"; min_instances = 1;')
    script(platform, "bad.sh", "#!/bin/sh\nexit 3\n")
    platform.up()
    assert "No such file" in wait_app(platform, lambda a: a["state"] == "parked", "gone")["reason"]
    assert "10 times in a row" in wait_app(platform, lambda a: a["state"] == "parked")["reason"]
    for name, app in (("bad.sh", "store"), ("gone.sh", "gone")):
        script(platform, name, CONSUME % (str(ROOT / "tests/system"), "pass"))
        wait_app(platform, lambda a: a["ready"] == 1, app)


def test_r10_streammgr_killed_takes_its_instances_back(platform):
    configure(platform, LOAD + "min_instances = 3;")
    platform.up()
    ids = set(wait_app(platform, lambda a: a["running"] == 3)["run_ids"])
    pids = sorted(platform.pids("simbdp-load", "--stream"))
    for _ in range(3):
        old = platform.pids("streammgr")[0]
        os.kill(old, signal.SIGKILL)
        until(lambda: [p for p in platform.pids("streammgr") if p != old], platform.path / "state", what="another streammgr")
        until(lambda: streammgr_answers(platform), platform.path / "state", what="its answer")
        assert set(wait_app(platform, lambda a: a["instances"] == 3)["run_ids"]) == ids
    assert sorted(platform.pids("simbdp-load", "--stream")) == pids


def test_orders_with_epoch_and_expiry(platform):
    configure(platform, LOAD)
    platform.up()

    def ask(**rq):
        return platform.control(rq, "streammgr.sock")
    epoch = ask(op="apps")["epoch"]
    assert ask(op="scale", tenant_id="acme", app="store", count=2, epoch=epoch, pin=True)["ok"]  # the monitor is to keep out of this
    wait_app(platform, lambda a: a["running"] == 2)
    for _ in range(3):
        assert ask(op="scale", tenant_id="acme", app="store", count=2, epoch=epoch)["ok"]
    assert app(platform)["instances"] == 2
    stale = ask(op="scale", tenant_id="acme", app="store", count=1, epoch=epoch - 1)
    assert not stale["ok"] and "earlier streammgr" in stale["error"]
    late = ask(op="scale", tenant_id="acme", app="store", count=1, epoch=epoch, expires_ms=1000)
    assert not late["ok"] and "expired" in late["error"]
    for rq in ({"op": "scale"}, {"op": "scale", "tenant_id": "acme", "app": "store", "count": "x"}, {"op": "nonsense"}, {"op": "start", "tenant_id": "nobody", "app": "x"}):
        assert not platform.control(rq, "streammgr.sock")["ok"]
    assert app(platform)["instances"] == 2
    assert ask(op="scale", tenant_id="acme", app="store", count=3, epoch=epoch, seq=7, expires_ms=int(time.time() * 1000) + 300)["ok"]
    old = ask(op="scale", tenant_id="acme", app="store", count=1, epoch=epoch, seq=6)
    assert not old["ok"] and "older" in old["error"]
    until(lambda: '"order_expired"' in (platform.path / "logs/streammgr.log").read_text(), platform.path / "logs", what="the order's end")
    assert wait_app(platform, lambda a: a["running"] == 3)["desired"] == 3, "whoever ordered is gone, the count holds"
    os.kill(platform.pids("streammgr")[0], signal.SIGKILL)
    until(lambda: streammgr_answers(platform) and ask(op="apps")["epoch"] != epoch, platform.path / "state", what="another epoch")
    assert "earlier streammgr" in ask(op="scale", tenant_id="acme", app="store", count=1, epoch=epoch)["error"]
    assert wait_app(platform, lambda a: a["running"] == 3)["desired"] == 3
    sock = json.loads((platform.path / "state/endpoints.json").read_text())["streammgr"]["ipc"]
    mode, group = os.stat(sock).st_mode & 0o777, os.stat(sock).st_gid
    if IS_ROOT:  # the provider's, and the monitor's, who has a uid of its own
        assert (mode, group) == (0o660, json.loads((platform.path / "state/uids.json").read_text())["uid_base"] + 61441)
    else:
        assert mode == 0o600


@pytest.mark.needs_root
def test_a_control_client_without_rights_is_refused(platform):
    configure(platform, LOAD)
    platform.up()
    sock = json.loads((platform.path / "state/endpoints.json").read_text())["streammgr"]["ipc"]
    client = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect('{sock}'); s.sendall(b'{{\"op\":\"apps\"}}\\n'); print(s.recv(4096).decode())"

    def as_nobody():
        return subprocess.run(["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "/usr/bin/python3", "-c", client], capture_output=True, text=True)
    assert "PermissionError" in as_nobody().stderr
    os.chmod(os.path.dirname(sock), 0o755)
    os.chmod(sock, 0o666)
    assert "only the provider" in as_nobody().stdout


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


BROKEN = {"no format": "no program at all\n", "no interpreter": "#!/no/such/interpreter\n", "fails at once": "#!/bin/sh\nexit 3\n",
          "never consumes": "#!/bin/sh\nexec tail -f /dev/null\n"}


@pytest.mark.anyone
@pytest.mark.parametrize("how, max_instances", [(how, 2) for how in BROKEN] + [("fails at once", 3)])
def test_a_broken_executable_does_not_replace_the_old_ones(platform, how, max_instances):
    configure(platform, f'app = "store"; exec = "consume.py"; min_instances = 2; max_instances = {max_instances}; drain_s = 1;')
    script(platform, "consume.py", CONSUME % (str(ROOT / "tests/system"), "pass"))
    platform.up()
    ids = set(wait_app(platform, lambda a: a["ready"] == 2)["run_ids"])
    script(platform, "consume.py", BROKEN[how])
    new = wait_app(platform, lambda a: a["state"] == "parked" or a["restarts"] >= 3 or (how == "never consumes" and a["instances"] == 3))
    assert ids <= set(new["run_ids"]), (ids, new)
    publish(platform, b"x")
    until(lambda: platform.queue("store")["acked"] == 1, platform.path / "state", what="the ack of an old one")
    script(platform, "consume.py", CONSUME % (str(ROOT / "tests/system"), "'mended'"))
    wait_app(platform, lambda a: a["ready"] == a["instances"] == 2 and not ids & set(a["run_ids"]) and not a["draining"])


def test_configuration_reload_is_all_or_nothing(platform):
    configure(platform, LOAD + "min_instances = 2;", 'app = "other"; exec = "builtin:load"; dataset = "data"; min_instances = 1; max_instances = 1;')
    platform.up()
    ids, other = (wait_app(platform, lambda a: a["running"] == n, name)["run_ids"] for n, name in ((2, "store"), (1, "other")))
    conf = platform.path / "conf/tenants/acme.conf"
    good = conf.read_text()
    conf.write_text(good.replace("max_instances = 4;", "max_instances = 4; nonsense = 1;"))
    r = platform.cli("reload", check=False)
    assert r.returncode == 1 and "acme.conf:" in r.stderr and "nonsense" in r.stderr
    assert app(platform)["run_ids"] == ids
    conf.write_text(good.replace("min_instances = 2;", 'min_instances = 2; drain_s = 3;'))
    platform.cli("reload")
    wait_app(platform, lambda a: a["ready"] == a["instances"] == 2 and not set(ids) & set(a["run_ids"]) and not a["draining"])
    assert app(platform, "other")["run_ids"] == other, "what did not change is left alone"
    conf.write_text(good.replace('app = "other"', 'app = "third"'))
    platform.cli("reload")
    wait_app(platform, lambda a: a["running"] == 1, "third")
    until(lambda: {r["state"] for r in platform.rows("runs", other[0])} == {"ended"}, platform.path / "state", what="the end of what is no longer configured")


def test_the_count_is_exact_when_all_is_killed_at_once(platform):
    configure(platform, LOAD)
    platform.up()
    platform.cli("app", "scale", "acme/store", "4")
    wait_app(platform, lambda a: a["ready"] == 4)
    for victims in (platform.pids("simbdp-load", "--stream")[:2], platform.pids("simbdp-load", "--stream"), []):
        for pid in platform.pids("streammgr") + victims + [platform.spawner_of("streammgr")]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until(lambda: streammgr_answers(platform), platform.path / "state", what="streammgr")
        wait_app(platform, lambda a: a["ready"] == a["instances"] == 4)
        assert len(platform.pids("simbdp-load", "--stream")) == 4
    platform.down()
    rows = platform.rows("runs", "--limit", "0")
    assert rows and all(r["state"] == "ended" for r in rows) and platform.pids("simbdp-run") == []
    assert {a["state"] for a in platform.rows("app", "list")} == {"waiting"} and app(platform)["desired"] == 4, "what was asked for is known while all is down"


def test_down_ends_the_instances_of_a_streammgr_that_died(platform):
    configure(platform, LOAD + "min_instances = 2; drain_s = 1;")
    platform.up()
    wait_app(platform, lambda a: a["ready"] == 2)
    for name in ("streammgr", "batchmgr"):
        os.kill(platform.pids(name)[0], signal.SIGKILL)
    platform.down()
    assert platform.pids("simbdp-load", "--stream") == [] and platform.pids("simbdp-run") == []


POINTS = re.findall(r"X\((instance_\w+)\)", (ROOT / "lib/base/crash.h").read_text())


@pytest.mark.parametrize("point", POINTS)
def test_streammgr_dies_at_each_point(platform, point):
    configure(platform, LOAD + "drain_s = 1;")
    platform.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(platform.base / "crashed"))

    def answers():
        return streammgr_answers(platform)

    def settle(n):
        until(answers, platform.path / "state", what="streammgr")
        wait_app(platform, lambda a: a["ready"] == a["instances"] == n and not a["draining"])
        assert len(platform.pids("simbdp-load", "--stream")) == n
    for count in (3, 1):
        until(lambda: platform.cli("app", "scale", "acme/store", str(count), check=False).returncode == 0, platform.path / "state", what="the order")
        settle(count)
    os.kill(platform.pids("simbdp-load", "--stream")[0], signal.SIGKILL)
    until(lambda: app(platform)["run_ids"] and len(platform.rows("runs", "--state", "ended", "--limit", "0")) >= 3, platform.path / "state", what="the end of three")
    settle(1)
    assert (platform.base / "crashed").exists()
    publish(platform, *[b'{"n":%d}' % i for i in range(100)])
    until(lambda: platform.count() == 100, platform.path / "state", what="the rows")
    until(lambda: len(platform.pids("simbdp-run")) - len(platform.pids("simbdp-run", "simbdp-run init")) <= 2 + 1 + 2, platform.path / "state",  # spawners, a runner, those that stand by
          what=lambda: f"no runner that nobody knows: {[pathlib.Path(f'/proc/{p}/cmdline').read_text() for p in platform.pids('simbdp-run')]}, {app(platform)}")


def test_r11_r15_runners_and_spawners_are_killed(platform):
    configure(platform, LOAD + "min_instances = 2;")
    platform.up()
    first = wait_app(platform, lambda a: a["ready"] == 2)["run_ids"]
    pids = platform.pids("simbdp-load", "--stream")
    os.kill(platform.spawner_of("streammgr"), signal.SIGKILL)
    until(lambda: '"spawner_gone"' in (platform.path / "logs/streammgr.log").read_text(), platform.path / "logs", what="the notice")
    assert app(platform)["run_ids"] == first and platform.pids("simbdp-load", "--stream") == pids
    runner = runner_of(pids[0])
    os.kill(runner, signal.SIGKILL)
    wait_app(platform, lambda a: a["ready"] == a["instances"] == 2 and set(a["run_ids"]) != set(first))
    assert pids[0] not in platform.pids("simbdp-load", "--stream"), "a dead runner's tree is ended"
    lost, = platform.rows("runs", "--state", "ended")
    assert lost["outcome"] == "lost"
    platform.down("--leave-runs")
    left, ids = platform.pids("simbdp-load", "--stream"), {r["run_id"] for r in platform.rows("runs", "--state", "running")}
    assert len(left) == 2
    upgraded = platform.base / "another version"
    upgraded.mkdir()
    for program in BUILD.iterdir():
        if program.is_file() and os.access(program, os.X_OK):
            shutil.copy(program, upgraded)
    platform.up_process = subprocess.Popen([upgraded / "mysimbdp", "up"], env=platform.env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert "ready" in platform.up_process.stdout.readline()
    since = time.monotonic()
    wait_app(platform, lambda a: a["ready"] == a["instances"] == 2 and time.monotonic() - since > 3)
    assert set(app(platform)["run_ids"]) == ids and platform.pids("simbdp-load", "--stream") == left


def test_r14_descriptors_run_out(platform):
    configure(platform, LOAD + "min_instances = 1;")
    platform.up()
    wait_app(platform, lambda a: a["ready"] == 1)
    pid, = platform.pids("streammgr")
    before = allow_descriptors(pid, max(int(x) for x in os.listdir(f"/proc/{pid}/fd")) + 1)
    platform.cli("app", "scale", "acme/store", "4")
    until(lambda: "Too many open files" in (platform.path / "logs/streammgr.log").read_text(), platform.path / "logs", what="the refusal")
    allow_descriptors(pid, before)
    wait_app(platform, lambda a: a["ready"] == a["instances"] == 4)
    assert platform.pids("streammgr") == [pid]


def test_stream_pct_of_the_capacity(platform):
    platform.profiles(cpus=0.5, rlimits="nofile = 256;")
    conf = platform.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", "platform = { capacity = { cpus = 4.0; }; stream_pct = 50;"))
    configure(platform, LOAD.replace("max_instances = 4", "max_instances = 8") + "drain_s = 1;", 'app = "quiet"; exec = "builtin:load"; dataset = "data"; max_instances = 3;')
    platform.up()
    platform.cli("app", "stop", "acme/quiet")
    platform.cli("app", "scale", "acme/store", "8")
    full = wait_app(platform, lambda a: a["ready"] == 4)
    assert (full["state"], full["desired"]) == ("scaling", 8) and "stream_pct" in full["reason"]
    platform.cli("app", "start", "acme/quiet")
    wait_app(platform, lambda a: a["ready"] == 1, "quiet", "room for the first instance of another app")
    assert wait_app(platform, lambda a: a["ready"] == a["instances"] == 3 and not a["draining"])["desired"] == 8
    platform.cli("app", "scale", "acme/quiet", "3")
    assert app(platform, "quiet")["instances"] == 1 and app(platform)["instances"] == 3
    platform.cli("app", "stop", "acme/quiet")
    wait_app(platform, lambda a: a["ready"] == 4)
    conf.write_text(conf.read_text().replace("stream_pct = 50;", "stream_pct = 100;"))
    platform.cli("reload")
    wait_app(platform, lambda a: a["ready"] == 8)


def test_the_database_is_waited_for(make_home, tmp_path):
    own = Mongo(tmp_path / "mongo")
    home = make_home(mongo=own)
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    try:
        configure(home, LOAD)
        home.up()
        wait_app(home, lambda a: a["state"] == "idle")
        own.kill()
        wait_app(home, lambda a: a["reason"] == "the database is down")
        publish(home, b'{"n":1}')
        assert wait_app(home, lambda a: a["desired"] == 1)["instances"] == 0
        own.start()
        until(lambda: home.queue("store")["acked"] == 1, home.path / "state", what="the ack")
        assert home.count() == 1
    finally:
        home.cleanup()
        own.stop()


def test_logs_of_instances_are_kept_for_a_while_and_purged_with_their_tenant(platform):
    configure(platform, LOAD + "min_instances = 1;")
    platform.up()
    first, = wait_app(platform, lambda a: a["ready"] == 1)["run_ids"]
    platform.cli("stop", first)
    platform.cli("app", "start", "acme/store")
    second, = wait_app(platform, lambda a: a["ready"] == 1 and a["run_ids"] != [first])["run_ids"]
    until(lambda: {r["state"] for r in platform.rows("runs", first)} == {"ended"}, platform.path / "state", what="the end of the first")
    platform.down()
    with change(platform.path / "state/streams.db") as db:
        db.execute("UPDATE instances SET ended_at = ended_at - 31 * 86400000 WHERE run_id = ?", [first])
    platform.up()
    until(lambda: not (platform.path / "runs" / first).exists(), platform.path / "runs", what="retention.logs_days")
    assert (platform.path / "runs" / second).exists() and len(platform.rows("runs", first)) == 1
    wait_app(platform, lambda a: a["ready"] == 1)
    assert platform.rows("stats", "--tenant", "acme")[0]["instance_s"] > 0
    conf = (platform.path / "conf/tenants/acme.conf").read_text()
    billed = platform.rows("stats", "--tenant", "acme")[0]
    platform.cli("tenant", "remove", "acme", "--purge")
    bill, = [s for s in platform.rows("stats") if s["tenant_id"] == "acme"]
    assert bill["instance_s"] >= billed["instance_s"] > 0 and bill["cpu_s"] >= billed["cpu_s"] > 0
    assert platform.rows("runs") == [] and [p.name for p in (platform.path / "runs").iterdir()] == [".scrap"] and platform.pids("simbdp-load", "--stream") == []
    (platform.path / "conf/tenants/acme.conf").write_text(conf)
    platform.cli("reload")
    wait_app(platform, lambda a: a["ready"] == 1, what="another tenant of the name")


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
    assert platform.cli("logs", run).stdout == f"hello from {run} on {'events' if IS_ROOT else 'acme/events'}\n"
    platform.cli("stop", run)
    wait_app(platform, lambda a: not a["run_ids"])
    ended, = platform.rows("runs", run)
    assert (ended["state"], ended["signal"], ended["error"]) == ("ended", 15, "stopped by command"), ended
    platform.cli("app", "start", "acme/store")
    wait_app(platform, lambda a: a["running"] == 1)
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


@pytest.mark.anyone
def test_s11_an_instance_that_stands_still_and_loses_its_connection_is_replaced(platform):
    configure(platform, LOAD + "drain_s = 1;", stream="lease_ms = 8000;")  # longer than the broker waits for signs of life
    platform.up()
    publish(platform, b'{"n":1}')
    until(lambda: platform.count() == 1, platform.path / "state", what="the row")
    pid, = platform.pids("simbdp-load", "--stream")
    wait_app(platform, lambda a: a["ready"] == 1)
    os.kill(pid, signal.SIGSTOP)
    os.kill(platform.pids("streammgr")[0], signal.SIGKILL)  # the next one knows, too, that it consumed
    publish(platform, b'{"n":2}')
    until(lambda: platform.count() == 2, platform.path / "state", what="the row of another instance")
    hung = [r for r in platform.rows("runs") if r["error"] and "hangs" in r["error"]]
    assert len(hung) == 1
    until(lambda: platform.pids("simbdp-load", "--stream") != [pid] and len(platform.pids("simbdp-load", "--stream")) == 1, platform.path / "state", what="the end of the first")


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
