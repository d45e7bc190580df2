"""What a manager could do that somebody got hold of: it tells its warden what to start. Specs of runs are recorded on their way from a
real manager to its warden, changed in one thing each, and handed to a warden by hands that it was not made for."""
import contextlib
import copy
import json
import os
import pathlib
import shutil
import socket
import sqlite3
import struct
import subprocess

import pytest

from harness import BUILD, IS_ROOT, Home, seal, until
from wire import Peer

RUN, RELOAD, END, WHOSE, INSPECT, DELETE, IMAGE, SWEEP = range(8)
RECORDER = """#!/usr/bin/python3
import os, socket, subprocess, sys
here = os.path.dirname(sys.argv[0])
manager, (ours, theirs) = socket.socket(fileno=0), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
warden = subprocess.Popen([os.path.join(here, "simbdp-warden.real"), *sys.argv[1:]], stdin=theirs)
theirs.close()
while True:
    data, fds, _, _ = socket.recv_fds(manager, 70000, 2)
    if not data:
        break
    if data[:4] == bytes(4):
        at = os.path.join(here, "specs", f"{sys.argv[1]}-{len(os.listdir(os.path.join(here, 'specs')))}")
        with open(at + ".part", "wb") as f:
            f.write(os.pread(fds[0], 1 << 20, 0))
        os.rename(at + ".part", at)
    socket.send_fds(ours, [data], fds)
    for fd in fds:
        os.close(fd)
ours.close()
warden.wait()
"""


@pytest.fixture
def programs(tmp_path_factory):
    """All programs in a directory of their own, with a recorder as the warden."""
    at = tmp_path_factory.mktemp("bin")
    for p in (at, at.parent, at.parent.parent):
        p.chmod(0o755)
    for entry in BUILD.iterdir():
        if entry.is_file() and os.access(entry, os.X_OK) and (entry.name.startswith("simbdp-") or entry.name in ("mysimbdp", "batchmgr", "streammgr", "broker", "monitor", "desk")):
            shutil.copy2(entry, at / (entry.name + (".real" if entry.name == "simbdp-warden" else "")))
    (at / "simbdp-warden").write_text(RECORDER)
    (at / "simbdp-warden").chmod(0o755)
    (at / "specs").mkdir()
    yield at
    shutil.rmtree(at)


class Warden:
    """A manager's warden."""

    def __init__(self, home, programs, manager="batchmgr"):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log = home.base / "warden.err"
        with open(self.log, "a") as log:
            self.process = subprocess.Popen([programs / "simbdp-warden.real", manager, "--home", home.path], stdin=theirs, stderr=log, stdout=log, env=home.env)
        theirs.close()

    def tell(self, op, number=0, tenant=b"", text=b"", fds=()):
        socket.send_fds(self.socket, [struct.pack("<I4xq64s", op, number, tenant) + text], fds)

    def ask(self, op, fd=None, **rest):
        """What comes back on the socket that goes with a request."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours, theirs:
            ours.settimeout(30)
            self.tell(op, fds=[theirs.fileno(), *([] if fd is None else [fd])], **rest)
            theirs.close()
            return ours.recv(100)

    def run(self, spec):
        """Everything that is said of a run until its end, and then that it may go."""
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.settimeout(60)
            fd = os.memfd_create("spec")
            os.write(fd, json.dumps(spec).encode() if isinstance(spec, dict) else spec)
            self.tell(RUN, fds=[fd, theirs.fileno()])
            os.close(fd)
            theirs.close()
            said = b""
            while not said.endswith((b"e", b"d", b"r")):
                part = ours.recv(1)
                if not part:
                    break
                said += part
            if said.endswith(b"e"):
                ours.sendall(b"A")
            return said

    def close(self):
        self.socket.close()
        return self.process.wait(30)


def specs_of(programs, manager):
    return [json.loads(p.read_text()) for p in sorted(programs.glob(f"specs/{manager}-?"))]


def renewed(spec, run_id):
    """The same run under another id: the old one has its directory."""
    return json.loads(json.dumps(spec).replace(spec["run_id"], run_id))


def new_ids():
    n = 0
    while True:
        n += 1
        yield f"01{n:024d}"


def put(name, value):
    def change(spec):
        spec[name] = value(spec) if callable(value) else value
    return change


def env(name, value):
    def change(spec):
        pairs = [p for p in spec["env"] if p["name"] != name]
        spec["env"] = pairs + [{"name": name, "value": value(spec) if callable(value) else value}]
    return change


def add(name, *pair):
    def change(spec):
        spec[name] = spec[name] + [{"name": pair[0], "value": pair[1]}]
    return change


def mode(index, value):
    def change(spec):
        for p in spec["paths"][index:index + 1]:  # without walls there are none
            p["value"] = value
    return change


NEEDS_WALLS = ("paths", "scratch_in_memory", "own_network", "targets", "image")
PEOPLES = put("args", ["-c", "id"])  # of an instance: what follows its program is for `app start` to give
FORGED = {
    "uid": [put("uid", 0), put("uid", -1), put("gid", 0), put("gid", lambda s: s["gid"] + 1)],
    "exec": [put("exec", "/bin/sh"), put("exec", lambda s: s["exec"] + "/../../other/x"), put("builtin", True), put("app", "none"), put("tenant", "none"),
             put("step", "check"), put("step", "load"), put("step", "x")],
    "paths": [add("paths", "/etc", "rwx"), add("paths", "/etc", "r"), mode(0, "rwx"), mode(2, "rwx"), put("paths", lambda s: [{"name": "/", "value": "prwx"}] + s["paths"]),
              put("paths", lambda s: s["paths"][1:]), add("paths", "HOME/keys", "r"), add("paths", "HOME/work/../keys", "r"), add("paths", "HOME/work/01000000000000000000000000/in/../../..", "r")],
    "secrets": [add("secrets", "x", "/etc/shadow"), add("secrets", "x", "HOME/keys/master.key")],
    "files": [add("files", "result.json", "{}"), add("files", "log", "x"), put("stdin_path", "/etc/shadow"), put("stdin_path", lambda s: s["stdin_path"] + "/../../../../keys/master.key")],
    "places": [put("dir", "/etc/x"), put("dir", lambda s: s["dir"] + "/../x"), put("home", "/"), put("runtime", "/etc"), put("claim", "x"), put("tag", "x"), put("run_id", "x")],
    "isolation": [put("full_isolation", False), put("own_network", False), put("relay", "/bin/sh"), put("relay_uid", 0), put("image", "/"), put("scratch_in_memory", True),
                  add("targets", "192.0.2.1", "22"), env("MONGO_URL", "mongodb://192.0.2.1:22/")],
    "limits": [put(k, v) for k in ("cg_memory_bytes", "cg_pids", "cg_cpu_pct", "wall_s", "cpu_s", "nofile", "output_bytes", "fsize_bytes", "stack_bytes", "scratch_bytes", "tmp_bytes", "core_bytes")
               for v in (-1, 1 << 50)],
    "env": [env("LD_PRELOAD", "/tmp/x.so"), env("PATH", "/tmp"), env("HOME", "/"), env("SIMBDP_INPUT_DIR", "/etc"), env("SIMBDP_TENANT_ID", "other"), env("SIMBDP_ATTEMPT", "x")],
}


@pytest.fixture
def recorded(make_home, programs, monkeypatch):
    """A stopped home, and the spec of a batch run and of an instance in it."""
    monkeypatch.setattr(Home, "programs", programs)
    home = make_home()
    home.tenant("acme", exec_="app.sh", tenant='streams = ( { name = "events"; } ); stream_apps = ( { app = "take"; exec = "stream.sh"; stream = "events"; min_instances = 1; } );')
    home.tenant("other")
    for name, text in (("app.sh", "#!/bin/sh\ncat >/dev/null\n"), ("stream.sh", "#!/bin/sh\nexit 0\n")):
        path = home.path / "apps/acme" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    until(lambda: specs_of(programs, "streammgr"), programs / "specs", what="an instance")
    home.tenants = {t["tenant_id"]: t["uid"] for t in home.rows("tenant", "list")}
    home.down()
    return home


def forge(home, change, spec):
    """None: it changes nothing here."""
    forged = copy.deepcopy(spec)
    change(forged)
    forged = json.loads(json.dumps(forged).replace("HOME/", f"{home.path}/"))
    return None if forged == spec else forged


@pytest.mark.parametrize("manager", ["batchmgr", "streammgr"])
def test_a_run_is_what_the_configuration_says_or_none(recorded, programs, manager):
    home, ids = recorded, new_ids()
    genuine = specs_of(programs, manager)[0]
    refused = 0
    w = Warden(home, programs, manager)
    forgeries = {**FORGED, "args": [PEOPLES] if manager == "batchmgr" else []}
    input_dir = pathlib.Path(next((p["value"] for p in genuine["env"] if p["name"] == "SIMBDP_INPUT_DIR"), home.path / "work/x"))
    (input_dir).mkdir(parents=True, exist_ok=True)  # the run's file was archived
    if genuine["stdin_path"]:
        pathlib.Path(genuine["stdin_path"]).write_text("a\n1\n")
    assert w.run(renewed(genuine, next(ids))) == b"cse", w.log.read_text()
    for kind, changes in forgeries.items():
        for i, change in enumerate(changes):
            forged = forge(home, change, renewed(genuine, next(ids)))
            if forged is None or (kind in NEEDS_WALLS + ("isolation",) and not genuine["full_isolation"] and forged.get("relay") == genuine["relay"]):
                continue
            assert w.run(forged) == b"d", (kind, i)
            assert not (home.path / "runs" / forged["run_id"]).exists()
            refused += 1
    assert refused > 40 and 10 <= w.log.read_text().count('"refused"') <= refused, "ten lines a second are written"
    for uid in {home.tenants["other"], home.tenants["acme"] + 1000} if IS_ROOT else ():
        spec = renewed(genuine, next(ids))
        spec["uid"] = spec["gid"] = uid
        assert w.run(spec).startswith(b"d" if uid == home.tenants["other"] else b"c"), "a uid that nobody had may become the tenant's"
    if IS_ROOT:  # what each has it keeps
        text = (home.path / "state/warden").glob("uids-*")
        lines = dict(line.split() for line in next(text).read_text().splitlines())
        assert lines[str(home.tenants["other"])] == "other" and lines[str(home.tenants["acme"])] == "acme"
    assert w.run(renewed(genuine, next(ids))) == b"cse", "and the genuine one goes on"
    assert "the warden refuses what" in w.log.read_text() and "'exec' is not what the configuration says" in w.log.read_text()
    for text in (b"", b"{", b'{"v": 1}', b"\0" * 100, json.dumps(genuine).encode()[:-20]):
        assert w.run(text) == b"d"
    other = Warden(home, programs, "streammgr" if manager == "batchmgr" else "batchmgr")
    assert other.run(renewed(genuine, next(ids))) == b"d", "one manager's runs are not the other's"
    assert w.close() == other.close() == 0


@pytest.mark.needs_root
def test_a_line_of_uids_that_a_crash_cut_short_spoils_no_other(recorded, programs):
    home, genuine, ids = recorded, specs_of(programs, "streammgr")[0], new_ids()
    file = next((home.path / "state/warden").glob("uids-*"))
    before, first = file.read_text(), home.tenants["acme"] + 2000
    file.write_text(before + f"{first} ac")
    for uid, expected in ((first + 1, [f"{first + 1} acme"]), (first, [f"{first + 1} acme", f"{first} acme"])):
        w = Warden(home, programs, "streammgr")
        spec = renewed(genuine, next(ids))
        spec["uid"] = spec["gid"] = uid
        assert w.run(spec).startswith(b"c"), w.log.read_text()
        assert w.close() == 0
        assert file.read_text().splitlines() == before.splitlines() + expected


@pytest.mark.needs_root
def test_uids_of_an_earlier_home_are_taken_over_at_once(recorded, programs):
    """A warden that is killed as it notes them leaves no tenant without."""
    home, genuine, ids = recorded, specs_of(programs, "streammgr")[0], new_ids()
    file = next((home.path / "state/warden").glob("uids-*"))
    file.unlink()
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db")) as ledger, ledger:
        ledger.executemany("UPDATE tenants SET uid = ? WHERE id = ?", [(60001, "acme"), (60002, "other")])
    seal(home.path / "state/ledger.db")
    home.env.update(SIMBDP_CRASH_AT="uids_begin", SIMBDP_CRASH_ONCE=str(home.base / "crashed"))
    assert Warden(home, programs, "streammgr").close() != 0 and (home.base / "crashed").exists() and not file.exists()
    w = Warden(home, programs, "streammgr")
    spec = renewed(genuine, next(ids))
    spec["uid"] = spec["gid"] = 60001
    assert w.run(spec).startswith(b"c"), w.log.read_text()
    assert file.read_text().splitlines() == ["60001 acme", "60002 other"]
    spec = renewed(genuine, next(ids))
    spec["uid"] = spec["gid"] = 60002
    assert w.run(spec) == b"d" and w.close() == 0


def test_the_spec_that_was_judged_is_the_one_that_runs(recorded, programs):
    """Its bytes are the manager's as long as the manager has the descriptor."""
    home, genuine = recorded, specs_of(programs, "streammgr")[0]
    w = Warden(home, programs, "streammgr")
    ids = new_ids()
    marks = []
    for _ in range(20):
        spec = renewed(genuine, next(ids))
        evil = copy.deepcopy(spec)
        evil["exec"] = "/bin/sh"
        evil["args"] = ["-c", "exit 65"]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            fd = os.memfd_create("spec")
            os.write(fd, json.dumps(spec).encode().ljust(20000))
            w.tell(RUN, fds=[fd, theirs.fileno()])
            os.pwrite(fd, json.dumps(evil).encode().ljust(20000), 0)
            theirs.close()
            ours.settimeout(60)
            said = b""
            while not said.endswith((b"e", b"d")):
                said += ours.recv(1)
            if said.endswith(b"e"):
                marks.append(json.loads((home.path / "runs" / spec["run_id"] / "result.json").read_text())["exit_code"])
                ours.sendall(b"A")
            os.close(fd)
    assert set(marks) <= {0}, "judged as one thing, run as another"
    assert w.close() == 0


def test_a_warden_starts_its_few_kinds_of_programs(recorded, programs):
    home = recorded
    w = Warden(home, programs)
    with open(os.devnull) as null:
        assert w.ask(IMAGE, null.fileno(), tenant=b"acme", text=b"/etc") == struct.pack("<i", -1), "no app has it"
        assert w.ask(DELETE, null.fileno(), tenant=b"acme", text=b"mongodb://192.0.2.1:22/") == struct.pack("<i", -1), "not the tenant's MongoDB"
    for claim in (b"..", b"../../x", b"X" * 26, b""):
        assert w.ask(END, number=1, text=claim) == b""
    assert w.ask(END, number=1, text=b"01000000000000000000000000") == b"y"
    assert b"" == w.ask(WHOSE, number=os.getpid()), "batchmgr has no instances"
    assert w.process.wait(30) == 0, "who asks for what it cannot have is not a manager any more"
    s = Warden(home, programs, "streammgr")
    assert s.ask(WHOSE, number=os.getpid()) == b""
    child = subprocess.Popen(["/usr/bin/cat"], stdin=subprocess.PIPE, env={"SIMBDP_INSTANCE_ID": "01000000000000000000000001", "SECRET": "x"})
    # exec closes what tells Popen that it was done before the kernel knows where the environment lies
    until(lambda: pathlib.Path(f"/proc/{child.pid}/environ").read_bytes(), every=0.01, what="an environment")
    assert s.ask(WHOSE, number=child.pid) == b"01000000000000000000000001"
    child.communicate()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        s.tell(INSPECT, fds=[theirs.fileno(), theirs.fileno()])
        ours.settimeout(30)
        assert ours.recv(8) == struct.pack("<i", -1)
    for bad in (b"", b"x", struct.pack("<I4xq64s", 99, 0, b""), struct.pack("<I4xq64s", RUN, 0, b""), struct.pack("<I4xq64s", RELOAD, 0, b"x" * 64)):
        v = Warden(home, programs, "streammgr")
        v.socket.send(bad) if bad else v.socket.close()
        assert v.process.wait(30) == 0, bad
    assert s.close() == 0


# ---- within the room of a manager: its uid, capabilities and mount namespace, but neither its Landlock nor its filter

WITHIN = """
import ctypes, json, os, sys
home, beside, warden = sys.argv[1:4]
libc = ctypes.CDLL(None, use_errno=True)
out = {"read": [], "changed": [], "made": [], "done": []}
def attempt(kind, name, f, *args):
    try:
        if f(*args) not in (-1, False):
            out[kind].append(name)
    except OSError:
        pass
def opens(path, flags):
    os.close(os.open(path, flags))
changes = ["/etc/passwd", "/etc/hosts", "/usr", "/usr/bin/env", "/dev", "/proc/sys/kernel/core_pattern", "/", beside, home + "/conf", home + "/conf/mysimbdp.conf", home + "/conf/tenants/acme.conf",
           home + "/apps", home + "/apps/acme", home + "/apps/acme/app.sh", home + "/bin", home + "/bin/simbdp-pipe", home + "/keys", home + "/keys/master.key", home + "/state/uids.json", home + "/state/home.json", home + "/state/warden",
           home + "/state/images", home + "/state/configurations", home + "/state/configurations/00000001", *(os.path.join(home, "state/warden", n) for n in os.listdir(home + "/state/warden"))]
for path in changes:
    is_dir = os.path.isdir(path)
    attempt("changed", "write " + path, opens, os.path.join(path, "x") if is_dir else path, os.O_WRONLY | (os.O_CREAT if is_dir else os.O_APPEND))
    attempt("changed", "chmod " + path, os.chmod, path, 0o777)
    attempt("changed", "chown " + path, os.chown, path, os.getuid(), os.getuid())
    attempt("changed", "rename " + path, os.rename, path, path + "-")
    attempt("changed", "remove " + path, os.rmdir if is_dir else os.unlink, path)
for name in ("state", "logs", "runs"):
    attempt("changed", "rename " + name, os.rename, os.path.join(home, name), os.path.join(home, name + "-"))
for name in ("shadow", "gshadow", "sudoers", "ssh/sshd_config"):
    attempt("read", name, opens, "/etc/" + name, os.O_RDONLY)
for at, dirs, names in os.walk(home + "/keys"):
    out["read"] += [os.path.relpath(os.path.join(at, n), home) for n in names + dirs]
for path in ("/root", "/home", "/var", beside):
    attempt("read", path, os.path.exists, path)
for path in ("broker", "mongo", "configurations"):
    attempt("read", "state/" + path, lambda: len(os.listdir(os.path.join(home, "state", path))) > 0)
for what in ("root", "cwd", "environ", "mem", "fd"):
    attempt("read", "warden's " + what, os.listdir if what in ("root", "cwd", "fd") else open, f"/proc/{warden}/{what}")
for name in ("staging", "work", "done", "quarantine", "logs", "state", "runs"):
    attempt("made", name, opens, os.path.join(home, name, "made"), os.O_WRONLY | os.O_CREAT)
    attempt("done", "removed " + name, os.unlink, os.path.join(home, name, "made"))
out["done"].clear()
attempt("done", "setuid", os.setuid, 0)
attempt("done", "setgroups", os.setgroups, [0])
attempt("done", "kill", os.kill, int(warden), 0)
attempt("done", "mknod", os.mknod, home + "/state/sda", 0o60600, os.makedev(8, 0))
attempt("done", "chroot", os.chroot, "/usr")
attempt("done", "umount", libc.umount2, (home + "/keys").encode(), 2)
attempt("done", "mount", libc.mount, b"none", b"/dev", b"tmpfs", 0, None)
attempt("done", "remount", libc.mount, None, (home + "/conf").encode(), None, 32, None)
attempt("done", "unshare", libc.unshare, 0x20000)
attempt("done", "setns", libc.setns, os.open("/proc/self/ns/mnt", os.O_RDONLY), 0)
attempt("done", "ptrace", libc.ptrace, 16, int(warden), 0, 0)
print(json.dumps(out))
"""


@pytest.mark.needs_root
@pytest.mark.parametrize("manager, role, parts", [("batchmgr", 61448, ["staging", "work", "done", "quarantine", "logs", "state", "runs"]), ("streammgr", 61449, ["state", "runs"])])
def test_a_manager_changes_its_parts_of_the_home_and_nothing_else(make_home, manager, role, parts):
    home = make_home()
    home.tenant("acme", exec_="app.sh")
    (home.path / "apps/acme").mkdir(exist_ok=True)
    (home.path / "apps/acme/app.sh").write_text("#!/bin/sh\ncat >/dev/null\n")
    (home.path / "apps/acme/app.sh").chmod(0o755)
    (home.path / "keys/acme").mkdir(exist_ok=True)
    (home.path / "keys/acme/secret").write_text("x")
    beside = home.base / "beside"
    beside.write_text("x")
    home.up()
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    (pid,), (warden,) = home.pids(manager), home.pids("simbdp-warden", f"simbdp-warden {manager} ")
    assert os.stat(f"/proc/{pid}").st_uid == base + role
    until(lambda: (home.path / "apps/acme").stat().st_mode & 0o777 == 0o750, home.path / "apps", what="the warden to give apps/acme to the tenant")
    assert (home.path / "state/configurations/00000001").exists()
    kept = "+chown,+dac_override,+fowner" + (",+lease" if manager == "batchmgr" else "")
    before = {str(p): (p.lstat().st_mode, p.lstat().st_uid, p.lstat().st_mtime_ns) for p in [beside, *home.path.glob("conf/**/*"), *home.path.glob("apps/**/*"), *home.path.glob("bin/*"), *home.path.glob("keys/**/*")]}
    r = subprocess.run(["nsenter", f"--mount=/proc/{pid}/ns/mnt", "setpriv", f"--reuid={base + role}", f"--regid={base + role}", "--clear-groups", "--no-new-privs",
                        f"--bounding-set=-all,{kept}", f"--inh-caps=-all,{kept}", f"--ambient-caps=-all,{kept}",
                        "/usr/bin/python3", "-c", WITHIN, home.path, beside, str(warden)], capture_output=True, text=True, timeout=120)
    assert r.returncode == 0, r.stderr
    out = json.loads(r.stdout)
    assert out["changed"] == [] and out["done"] == []
    assert out["read"] == (["keys/master.key"] if manager == "batchmgr" else []), "MongoDB's secrets are made of that; other keys, and the host's, are not there"
    assert out["made"] == parts
    assert before == {p: (os.lstat(p).st_mode, os.lstat(p).st_uid, os.lstat(p).st_mtime_ns) for p in before}
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested", "and it works on"


@pytest.mark.needs_root
def test_a_home_whose_managers_were_root_is_taken_over(make_home):
    home = make_home()
    home.tenant("acme")
    home.up()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    home.down()
    home.drop("y.csv", "a\n2\n")
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    theirs = [p for p in home.path.rglob("*") if p.lstat().st_uid in (base + 61448, base + 61449)]
    for p in theirs:
        os.lchown(p, 0, p.lstat().st_gid)
    shutil.rmtree(home.path / "state/warden")
    assert len(theirs) > 5
    home.up()
    assert home.wait_file(file_name="y.csv")["state"] == "ingested"
    home.drop("z.csv", "a\n3\n")
    assert home.wait_file(file_name="z.csv")["state"] == "ingested"
    assert (base + 61448) in {p.lstat().st_uid for p in (home.path / "done").rglob("*")}


@pytest.mark.needs_root
def test_places_that_a_reload_names_are_seen_from_then_on(make_home):
    """An executable's bytes are part of what its rows are called; its file may lie anywhere."""
    home = make_home()
    home.tenant("acme")
    home.up()
    (before,) = home.pids("batchmgr")
    app = home.base / "elsewhere/app.sh"
    app.parent.mkdir()
    app.write_text("#!/bin/sh\ncat >/dev/null\n")
    app.chmod(0o755)
    home.tenant("acme", exec_=str(app))
    home.reload()
    until(lambda: len(pids := home.pids("batchmgr")) == 1 and pids[0] != before, home.path / "logs", what="batchmgr again")
    assert (pathlib.Path(f"/proc/{home.pids('batchmgr')[0]}/root") / str(app).lstrip("/")).exists()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    (again,) = home.pids("batchmgr")
    app.write_text("#!/bin/sh\nexit 65\n")
    home.reload()
    home.drop("y.csv", "a\n2\n")
    assert home.wait_file(file_name="y.csv")["state"] == "quarantined" and home.pids("batchmgr") == [again], "the place is known"
