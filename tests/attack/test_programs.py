"""The platform's programs as the kernel sees them, against the table of docs/security.md; and what somebody could do who has got hold of one
that tenants reach: tried with its uid, without capabilities."""
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import tarfile

import pytest

from harness import RELEASE, ROOT, Home, json_lines, until
from keepers import ALERT, CONF, LOG, TENANTS, Keeper
from wire import Peer

STREAM = "acme/events"
RIGHTS = ("CapInh", "CapPrm", "CapEff", "CapAmb")


def table():
    """Rows of the table, by program."""
    text = (ROOT / "docs/security.md").read_text().split("## The platform's programs")[1].split("\n## ")[0]
    rows = [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| `") or line.startswith("| a run's")]
    names = ("uid", "capabilities", "files", "sockets", "filter")
    return {program: dict(zip(names, cells)) for programs, *cells in rows for program in programs.replace("`", "").split(", ")}


def status(pid):
    return dict(line.split(":\t", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line)


def uid_of(cell, base, tenant):
    if cell == "root":
        return 0
    if cell == "the tenant's":
        return tenant
    return base + int(re.fullmatch(r"`uid_base`(?: \+ (\d+))?", cell).group(1) or 0)


CAPABILITIES = [line.split()[1] for line in pathlib.Path("/usr/include/linux/capability.h").read_text().splitlines() if re.match(r"#define CAP_\w+\s+\d+$", line)]


def capabilities_of(cell):
    """The bits that a program has; a run's init has them in its own namespaces."""
    every = int(status(os.getpid())["CapBnd"], 16)
    if "host's administration" in cell:
        listed = next(line for line in re.split(r"\n\n", (ROOT / "docs/security.md").read_text()) if line.startswith("Of the host's administration"))
        return every & ~sum(1 << CAPABILITIES.index(name) for name in re.findall(r"CAP_\w+", listed))
    return every if cell.startswith("all") else sum(1 << CAPABILITIES.index(name) for name in re.findall(r"CAP_\w+", cell))


def name_of(home, pid):
    """As the table calls it; None: no process of the home's platform."""
    try:
        argv = pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        exe, comm = os.readlink(f"/proc/{pid}/exe"), pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
        of_home = str(home.path) in " ".join(argv) or f"MYSIMBDP_HOME={home.path}".encode() in pathlib.Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    if comm == "simbdp-init":
        return "a run's init" if status(pid)["PPid"] in map(str, home.pids("simbdp-run")) else None
    if not of_home or not (exe.startswith(f"{RELEASE}/") or exe.endswith("/java")):
        return None
    name = pathlib.Path(exe).name
    return {"mysimbdp": "up", "java": "EmbeddedMongo", "simbdp-keeper": f"simbdp-keeper {argv[1]}"}.get(name, name)


def uids(home):
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    return base, next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")


@pytest.fixture
def home(make_home, monkeypatch):
    """Of release programs: sanitizers cannot be under the filter."""
    monkeypatch.setattr(Home, "programs", RELEASE)
    return make_home()


def configure(home, *apps, streams='{ name = "events"; }', more=""):
    home.tenant("acme", tenant='streams = ( %s ); stream_apps = ( %s ); %s' % (streams, ", ".join("{ %s }" % a for a in apps), more))


LOAD = 'app = "store"; exec = "builtin:load"; stream = "events"; dataset = "data"; min_instances = 1;'


@pytest.mark.needs_root
def test_every_program_is_what_the_table_says(make_home, monkeypatch):
    monkeypatch.setattr(Home, "programs", RELEASE)
    home = make_home(own_mongo=True)
    configure(home, LOAD, streams='{ name = "events"; }, { name = "far"; store = "kafka"; }')
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", 'platform = { kafka = { brokers = "127.0.0.1:1"; }; http = { listen = "127.0.0.1"; }; webhooks = ( { name = "ops"; url = "http://127.0.0.1:1/"; } );', 1))
    home.up()
    base, tenant = uids(home)
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    with Peer(home.endpoint) as p:
        p.publish(STREAM, [b'{"n":1}'])
    rows, found = table(), {}
    expected = {name for name in rows if name not in ("simbdp-load --uid", "simbdp-image", "umoci", "simbdp-appstore", "simbdp-unpack", "simbdp-slurm")}

    def differences():
        """Of those that are there now; one that has just been started may be about to become what it is."""
        found.clear()
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            name = name_of(home, pid)
            if name:
                try:
                    found[name, pid] = status(pid)
                except OSError:
                    pass
        wrong = [f"{name} is not there" for name in expected - {name for name, _ in found}]
        for (name, pid), s in found.items():
            row = rows.get(name)
            if not row:
                wrong.append(f"{name} is not in the table")
                continue
            uid = str(uid_of(row["uid"], base, tenant))
            is_so = {"Uid": [uid] * 4, "Gid": [uid] * 4, "CapEff": [f"{capabilities_of(row['capabilities']):016x}"],
                     "CapPrm": [f"{capabilities_of(row['capabilities']):016x}"], "CapAmb": ["0" * 16],
                     "Seccomp": ["2" if "seccomp" in row["filter"] else "0"], "NoNewPrivs": ["1" if "no new privileges" in row["filter"] else "0"]}
            if uid != "0":
                is_so["Groups"] = []
            wrong += [f"{name}: {key} is {s[key]}" for key, value in is_so.items() if s[key].split() != value]
        return wrong
    until(lambda: not differences(), home.path / "state", what=lambda: "programs as the table has them: " + ", ".join(differences()))
    for name in ("broker", "monitor"):  # its threads are no other
        (pid,) = home.pids(name)
        assert {(s["Uid"], s["CapPrm"], s["Seccomp"]) for s in (status(f"{pid}/task/{t}") for t in os.listdir(f"/proc/{pid}/task"))} == \
            {(found[name, pid]["Uid"], "0" * 16, "2")}


@pytest.mark.needs_root
def test_who_unpacks_an_uploaded_app_is_nobody(home):
    home.tenant(apps='{ app = "say"; exec = "say"; }')
    with tarfile.open(home.path / "up", mode="w:gz", compresslevel=1) as t, open("/dev/zero", "rb") as zeros:
        for name, size in (("big", 200 << 20), ("say", 0)):
            info = tarfile.TarInfo(name)
            info.size, info.mode = size, 0o755
            t.addfile(info, zeros)
    p = subprocess.Popen([home.program("simbdp-appstore"), "--home", str(home.path), "push", "acme", "say", str(home.path / "up")], stdout=subprocess.PIPE, env=home.env)
    row = table()["simbdp-unpack"]

    def confined():
        for pid in home.pids("simbdp-unpack"):
            try:
                s = status(pid)
            except OSError:
                continue
            if s["Seccomp"] == "2":
                return s
        return None
    s = until(confined, every=0.01, what="simbdp-unpack")
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    assert (s["CapEff"], s["NoNewPrivs"], s["Uid"].split()) == ("0" * 16, "1", [str(uid_of(row["uid"], base, None))] * 4)
    assert json.loads(p.communicate(timeout=60)[0])["ok"]


@pytest.mark.needs_root
def test_what_deletes_a_tenants_documents_is_nobody(home):
    home.tenant()
    home.up()
    base, _ = uids(home)
    row = table()["simbdp-load --uid"]
    with socket.socket() as s:  # a MongoDB that never answers
        s.bind(("127.0.0.1", 0))
        s.listen()
        job = home.base / "job"
        job.write_text('{"v": 2, "tenant": "acme", "database": "x", "drop_all": true}')
        with open(job) as f:
            p = subprocess.Popen([RELEASE / "simbdp-load", "--home", home.path, "--uid", str(uid_of(row["uid"], base, 0))], stdin=f,
                                 env={"SIMBDP_LOAD_JOB": "/dev/stdin", "MONGO_URL": f"mongodb://127.0.0.1:{s.getsockname()[1]}/"}, stderr=subprocess.PIPE)
        s.settimeout(20)
        connection, _ = s.accept()
        found = status(p.pid)
        p.kill()
        p.communicate()
        connection.close()
    assert found["Uid"].split() == [str(base + 61446)] * 4 and not found["Groups"].split()
    assert all(int(found[c], 16) == 0 for c in (*RIGHTS, "CapBnd")) and found["Seccomp"] == "2" and found["NoNewPrivs"] == "1"


# ---- with the uid of one that was taken over

INSIDE = """
import ctypes, json, os, socket, sys
root, runtime, asked = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
out = {"read": [], "written": [], "answers": {}}
for at, dirs, names in os.walk(root):
    for name in names:
        path = os.path.join(at, name)
        try:
            open(path, "rb").read(1)
            out["read"].append(os.path.relpath(path, root))
        except OSError:
            pass
for path in ("", "state", "state/broker", "keys", "conf", "conf/tenants", "logs", "logs/tenants/acme", "work", "runs", "staging", "apps/acme"):
    try:
        os.close(os.open(os.path.join(root, path, "x"), os.O_CREAT | os.O_WRONLY))
        out["written"].append(path)
    except OSError:
        pass
def ask(name, request):
    try:
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(10)
            s.connect(os.path.join(runtime, name))
            s.sendall(json.dumps(request).encode() + b"\\n")
            data = b""
            while not data.endswith(b"\\n"):
                part = s.recv(65536)
                if not part:
                    return "closed"
                data += part
            return json.loads(data)
    except OSError as e:
        return type(e).__name__
out["answers"] = [ask(*a) for a in asked]
for pid in os.listdir("/proc"):
    if pid.isdigit():
        try:
            if root.encode() in open(f"/proc/{pid}/cmdline", "rb").read() and int(pid) != os.getpid():
                os.kill(int(pid), 0)
                out.setdefault("signals", []).append(open(f"/proc/{pid}/comm").read().strip())
        except OSError:
            pass
print(json.dumps(out))
"""


def inside(home, uid, asked=()):
    r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all",
                        "/usr/bin/python3", "-c", INSIDE, home.path, pathlib.Path(home.socket_path()).parent, json.dumps(asked)],
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout)


ORDERS = [("batchmgr.sock", {"op": "status"}), ("batchmgr.sock", {"op": "drain"}), ("batchmgr.sock", {"op": "suspend", "tenant_id": "acme"}),
          ("streammgr.sock", {"op": "apps"}), ("streammgr.sock", {"op": "stop", "tenant_id": "acme", "app": "store"}),
          ("streammgr.sock", {"op": "reload"}), ("broker.sock", {"op": "queues"}), ("broker.sock", {"op": "dead"}),
          ("broker.sock", {"op": "forget", "tenant_id": "acme"}), ("broker.sock", {"op": "watch"}), ("monitor.sock", {"op": "reload"}), ("up.sock", {"op": "down"})]


@pytest.mark.needs_root
def test_whoever_is_the_broker_reads_and_orders_nothing(home):
    configure(home, LOAD)
    home.up()
    got = inside(home, uids(home)[0] + 61440, ORDERS)
    assert [f for f in got["read"] if not f.startswith("apps/")] == [], "the ledger, keys, users of MongoDB, configurations, logs"
    assert got["written"] == [], "not even its store by path: the broker has a descriptor"
    assert got["answers"] == ["PermissionError"] * len(ORDERS)
    assert got["signals"] == ["broker"]


@pytest.mark.needs_root
def test_whoever_is_the_monitor_asks_and_scales_and_no_more(home):
    configure(home, LOAD + "max_instances = 2;")
    home.up()
    scale = {"op": "scale", "tenant_id": "acme", "app": "store"}
    orders = ORDERS + [("streammgr.sock", {**scale, "count": 2, "pin": True, "by": "somebody"}), ("streammgr.sock", {**scale, "count": 3})]
    got = inside(home, uids(home)[0] + 61441, orders)
    assert [f for f in got["read"] if not f.startswith("apps/")] == [] and got["written"] == [] and got["signals"] == ["monitor"]
    may = {("batchmgr.sock", "status"), ("streammgr.sock", "apps"), ("broker.sock", "queues")}
    for (program, request), answer in zip(ORDERS, got["answers"]):
        if program in ("monitor.sock", "up.sock"):
            assert answer == "PermissionError", program
        else:
            assert answer["ok"] == ((program, request["op"]) in may), (program, request, answer)
            assert answer["ok"] or answer["error"] == "only the provider may give orders here"
    assert got["answers"][-2]["ok"] and not got["answers"][-1]["ok"] and "within the agreement" in got["answers"][-1]["error"]
    app = home.rows("app", "list")[0]
    assert not app["pinned"], "its order is the monitor's, whatever it says"
    home.cli("app", "scale", "acme/store", "1")
    assert "set by command" in inside(home, uids(home)[0] + 61441, [("streammgr.sock", {**scale, "count": 2})])["answers"][0]["error"]
    assert inside(home, uids(home)[0] + 61441, [("streammgr.sock", {**scale, "pin": False})])["answers"][0]["ok"] is False, "people's orders stay"


@pytest.mark.needs_root
def test_whoever_is_the_gateway_reads_nothing_and_orders_by_its_own_sockets_alone(home):
    """tests/system/test_hand_in.py has what it may do there."""
    configure(home, LOAD)
    home.up()
    got = inside(home, uids(home)[0] + 61444, ORDERS + [("batchmgr.gateway.sock", {"op": "status"}), ("batchmgr.gateway.sock", {"op": "drain"})])
    assert [f for f in got["read"] if not f.startswith("apps/")] == [] and got["written"] == [] and "signals" not in got
    assert got["answers"][:-2] == ["PermissionError"] * len(ORDERS)
    assert got["answers"][-2]["ok"] and got["answers"][-1]["code"] == "forbidden"


def test_a_keeper_does_what_it_is_for_and_no_more(make_home):
    home = make_home()
    hook = home.base / "hook"
    hook.write_text(f"#!/bin/sh\ncat > {home.base}/told.$$\n")
    hook.chmod(0o755)
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", 'platform = { mongo_url = "mongodb://u:SECRET@127.0.0.1:1/"; alerts = ( '
                                             f'{{ name = "a"; when = "ready > 5"; command = "{hook} SECRET"; }}, {{ name = "b"; when = "ready > 6"; }} );'))
    configure(home, 'app = "store"; exec = "x"; stream = "events"; env = ( { name = "X"; value = "SECRET"; } ); secrets = ( { name = "s"; file = "SECRET"; } ); args = ("SECRET");',
              more='mongo_url = "mongodb://u:SECRET@127.0.0.1:1/";')
    for program in ("broker", "monitor"):
        k = Keeper(home, program)
        code, text = k.ask(CONF)
        told = json.loads(text)
        assert code == 0 and "SECRET" not in text and "events" in told["tenants"][0]["conf"] and [t["id"] for t in told["tenants"]] == ["acme"]
        assert json.loads(k.ask(TENANTS)[1]) == {"tenants": []}, "batchmgr never ran"
        # A journal is a journal of a tenant, whatever its name would make of it.
        for tenant in (b"../../keys", b"..", b"a/b", b"", b"acme"):
            k.tell(LOG, tenant=tenant, text=b'{"line": 1}\n')
        assert k.ask(CONF)[0] == 0
        if program == "broker":
            k.tell(ALERT, generation=told["generation"], text=b"{}")
            assert k.ends(), "the broker's starts nothing"
        else:
            for index, generation in ((0, 0), (2, 2), (1 << 31, 2), (0, 99), (0, 1 << 63), (1, 2)):
                k.tell(ALERT, index=index, generation=generation, text=b"wrong")
            k.tell(ALERT, generation=2, text=b'{"right": 1}')
            until(lambda: [f for f in home.base.glob("told.*") if f.stat().st_size], home.base, what="the command")
            assert [f.read_text() for f in home.base.glob("told.*")] == ['{"right": 1}']
            k.close()
    assert sorted(p.name for p in (home.path / "logs/tenants").iterdir()) == ["acme"]
    assert json_lines(home.path / "logs/tenants/acme/stream.jsonl") == [{"line": 1}]
    assert json_lines(home.path / "logs/decisions.jsonl") == json_lines(home.path / "logs/tenants/acme/events.scaling.jsonl") == [{"line": 1}] and not (home.path / "keys/stream.jsonl").exists()
    for bad in (b"", b"\0" * 79, struct.pack("<IIQ64s", 77, 0, 0, b""), struct.pack("<IIQ64s", LOG, 0, 0, b"x" * 64), struct.pack("<IIQ64s", LOG, 0, 0, b"") + b"x" * 140000):
        k = Keeper(home, "monitor")
        if bad:
            k.socket.send(bad)
        else:
            k.close()
        assert k.ends(), bad


def test_what_tenants_reach_forgets_the_environment(home):
    """`up` has the provider's MONGO_URL."""
    configure(home)
    home.up(SECRET_OF_THE_PROVIDERS="sesame")
    for program in ("broker", "monitor"):
        (pid,) = home.pids(program)
        assert pathlib.Path(f"/proc/{pid}/environ").read_bytes().strip(b"\0").count(b"=") == 0
        (keeper,) = home.pids("simbdp-keeper", program)
        assert b"SECRET_OF_THE_PROVIDERS=sesame" in pathlib.Path(f"/proc/{keeper}/environ").read_bytes(), "commands of alerts have it"


# ---- and it all goes on working

def test_a_tenant_more_and_one_less_on_reload(home):
    """SIGHUP: the configuration is root's, and the broker is not."""
    configure(home)
    home.up()
    home.streams("fresh", name="other")
    os.kill(home.up_process.pid, signal.SIGHUP)

    def published():
        with Peer(home.endpoint) as p:
            try:
                return p.publish("other/fresh", [b"x"])[1] == 1
            except Exception:
                return False
    until(published, home.path / "state", what="the new tenant's stream")
    assert home.queue(tenant="other")["ready"] == 1
    (home.path / "conf/tenants/other.conf").write_text("nonsense = 1;\n")
    answer = home.control({"op": "reload"}, "broker.sock")
    assert not answer["ok"] and "unknown key 'nonsense'" in answer["error"], "the keeper's words"
    assert published(), "the configuration stays as it was"


@pytest.mark.needs_root
def test_a_home_of_an_earlier_version_is_taken_over(home):
    home.streams("events")
    home.broker()
    with Peer(home.endpoint) as p:
        p.publish(STREAM, [b"x"] * 10)
    home.stop_broker()
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    store = home.path / "state/broker"
    (store / "damaged").mkdir()
    (store / "damaged/some").write_text("x")
    for path in (store, *store.rglob("*")):
        os.chown(path, 0, 0)
    canary, other = home.base / "canary", home.path / "state/other"
    canary.write_text("root's")
    other.write_text("root's")
    (store / "link").symlink_to(canary)
    os.link(other, store / "hard")
    home.broker()
    assert home.queue()["ready"] == 10
    owners = {str(p.relative_to(store)): p.lstat().st_uid for p in store.rglob("*")}
    assert owners.pop("link") == owners.pop("hard") == 0 and set(owners.values()) == {base + 61440} and "damaged/some" in owners, owners
    assert store.stat().st_uid == base + 61440 and canary.stat().st_uid == other.stat().st_uid == 0
    for kill in (True, False, True):
        home.stop_broker(kill=kill)
        home.broker()
        assert home.queue()["ready"] == 10
    assert home.stream_journal()[0]["messages"] == 10


@pytest.mark.parametrize("program", ["broker", "monitor"])
def test_program_and_keeper_end_together(home, program):
    configure(home)
    home.up()
    (pid,), (keeper,) = home.pids(program), home.pids("simbdp-keeper", program)
    os.kill(keeper, signal.SIGKILL)
    until(lambda: pid not in home.pids(program) and len(home.pids(program)) == 1 and len(home.pids("simbdp-keeper", program)) == 1, home.path / "logs", what="others")
    (pid,), (keeper,) = home.pids(program), home.pids("simbdp-keeper", program)
    os.kill(pid, signal.SIGKILL)
    until(lambda: keeper not in home.pids("simbdp-keeper") and len(home.pids(program)) == 1, home.path / "logs", what="others again")

    def works():
        try:
            return home.control({"op": "status"}, f"{program}.sock")["ok"]
        except (OSError, AssertionError):
            return False
    until(works, home.path / "logs", what=f"the {program}")
    home.down()
    assert home.pids("simbdp-keeper") == []
