"""A hostile tenant by app, checker and file, with a shell account of its own, and a stranger on the machine: one home, in which a victim's
run goes on all the while, and is looked at from outside after each attack."""
import json
import os
import pathlib
import re
import subprocess
import time

import harness
import pytest
from harness import FINAL, until
from test_paths import as_tenant, facts, uid_of
from test_walls import PRELUDE

pytestmark = pytest.mark.needs_root
MB = 1 << 20
STRANGER = 54321
SECRET = "the victim's s3cret"

PROFILES = '''profiles = (
  { name = "small"; wall_s = 60; grace_s = 1; output_bytes = 1048576L; requests = { cpus = 0.1; memory_bytes = 16777216L; };
    rlimits = { nofile = 256; }; cgroup = { memory_bytes = 100663296L; pids = 64; }; mounts = ( "GATE:rw" );
    scratch_bytes = 50331648L; scratch_inodes = 20000; },
  { name = "basic"; isolation = "basic"; wall_s = 60; grace_s = 1; output_bytes = 1048576L; requests = { cpus = 0.1; memory_bytes = 16777216L; };
    rlimits = { nofile = 256; }; cgroup = { memory_bytes = 100663296L; pids = 64; };
    scratch_bytes = 50331648L; scratch_inodes = 20000; },
  { name = "victim"; wall_s = 3600; grace_s = 1; requests = { cpus = 0.1; memory_bytes = 16777216L; }; cgroup = { memory_bytes = 100663296L; pids = 64; }; }
);
'''
RETRY = "retry = { attempts = 1; backoff_ms = 20; };"
EVIL = f'''concurrency = 4; datasets = ( {{ name = "data"; }}, {{ name = "basic"; }}, {{ name = "out"; }}, {{ name = "checked"; }}, {{ name = "load"; }} );
batch = ( {{ app = "full"; datasets = ("data"); exec = "attack"; {RETRY} }},
          {{ app = "basic"; datasets = ("basic"); exec = "attack"; profile = "basic"; {RETRY} }},
          {{ app = "out"; datasets = ("out"); exec = "attack"; output = "dir"; {RETRY} }},
          {{ app = "checked"; datasets = ("checked"); exec = "builtin:load"; checker = "attack"; {RETRY} }},
          {{ app = "load"; datasets = ("load"); exec = "builtin:load"; {RETRY} }} );
'''
VICTIM = f'''datasets = ( {{ name = "data"; }}, {{ name = "long"; }} );
batch = ( {{ app = "long"; datasets = ("long"); exec = "wait"; profile = "victim"; secrets = ( {{ name = "key"; file = "key"; }} ); {RETRY} }},
          {{ app = "load"; datasets = ("data"); exec = "builtin:load"; {RETRY} }} );
'''


TIDY = f'''datasets = ( {{ name = "data"; }} ); retention = {{ on_failure = "delete"; }};
batch = ( {{ app = "load"; exec = "builtin:load"; {RETRY} }} );
'''


class Arena:
    def __init__(self, mongo):
        self.home = home = harness.Home(mongo)
        self.gate = home.base / "gate"
        self.gate.mkdir()
        self.gate.chmod(0o777)
        self.path = home.path
        (home.path / "conf/profiles.conf").write_text(PROFILES.replace("GATE", str(self.gate)))
        for name, text in (("evil", EVIL), ("victim", VICTIM), ("tidy", TIDY)):
            home.db_of[name] = f"{name}_{home.base.name.replace('-', '_')}"
            (home.path / f"conf/tenants/{name}.conf").write_text(f'database = "{home.db_of[name]}"; {text}')
            (home.path / f"apps/{name}").mkdir()
        (home.path / "keys/victim").mkdir()
        (home.path / "keys/victim/key").write_text(SECRET)
        self.script("wait", f"os.environ['KEPT'] = {SECRET!r}\nimport time\nprint('up', flush=True)\nsignal.pause()\n", "victim")
        home.up()
        home.drop("long.csv", "a\n1\n", "victim", "long")
        self.run_id = home.wait_running()[0]["run_id"]
        self.pid = until(lambda: [p for p in home.marked(self.run_id) if "wait" in self.cmdline(p)], home.path / "state", what="the victim")[0]
        until(lambda: "up" in home.log_of(self.run_id), what="the victim's first word")
        self.uid = uid_of(home, "evil")
        self.n, self.seen = 0, set()
        self.before = self.victim()

    @staticmethod
    def cmdline(pid):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_bytes().decode()

    def script(self, name, text, tenant="evil"):
        path = self.path / f"apps/{tenant}" / name
        path.with_suffix(".new").write_text(PRELUDE + text)
        path.with_suffix(".new").chmod(0o755)
        os.rename(path.with_suffix(".new"), path)

    def victim(self):
        """All of its run that somebody could change."""
        status = dict(line.split(":\t") for line in pathlib.Path(f"/proc/{self.pid}/status").read_text().splitlines() if ":\t" in line)
        stat = pathlib.Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return {"state": stat[0], "nice": stat[16], "policy": stat[38], "affinity": sorted(os.sched_getaffinity(self.pid)), "tracer": status["TracerPid"],
                "limits": pathlib.Path(f"/proc/{self.pid}/limits").read_text(), "oom": pathlib.Path(f"/proc/{self.pid}/oom_score_adj").read_text(),
                "platform": {p: self.home.pids(p) for p in ("batchmgr", "broker", "monitor", "streammgr")},
                "files": {str(p): facts(p) for d in (f"runs/{self.run_id}", "keys", "conf", "apps/victim") for p in sorted((self.path / d).rglob("*"))}}

    def unharmed(self):
        assert self.victim() == self.before
        return True

    def targets(self):
        home = self.home
        return {"victim": self.pid, "its runner": harness.runner_of(self.pid), "batchmgr": home.batchmgr_pid(), "up": home.up_process.pid,
                "broker": home.pids("broker")[0], "monitor": home.pids("monitor")[0]}

    def attack(self, script, dataset="data", wait=True):
        """An app of the hostile tenant's; what it tried, and its file and run."""
        self.script("attack", script)
        self.n += 1
        self.home.drop(f"{self.n}.csv", f"a\n{self.n}\n", "evil", dataset)
        return self.ended(f"{self.n}.csv") if wait else f"{self.n}.csv"

    def ended(self, name):
        f = self.home.wait_file(file_name=name, tenant_id="evil")
        new = [r for r in self.home.rows("runs", "--tenant", "evil") if r["run_id"] not in self.seen]  # the checker's is another than the app's
        self.seen |= {r["run_id"] for r in new}
        said = [line[6:] for r in new for line in self.home.log_of(r["run_id"]).splitlines() if line.startswith("TRIED ")]
        return json.loads(said[-1]) if said else {}, f, next((r for r in new if r["run_id"] == f["run_id"]), None)

    def served_s(self):
        """How long the victim's next file takes, from its drop to its documents."""
        self.n += 1
        start = time.monotonic()
        self.home.drop(f"{self.n}.csv", f"a\n{self.n}\n", "victim")
        until(lambda: [f for f in self.home.files(file_name=f"{self.n}.csv") if f["state"] in FINAL], self.path / "state", every=0.05, what="the victim's file")
        assert self.home.files(file_name=f"{self.n}.csv")[0]["state"] == "ingested"
        return time.monotonic() - start


@pytest.fixture(scope="module")
def one(mongo):
    a = Arena(mongo)
    yield a
    a.home.cleanup()


@pytest.fixture
def arena(one):
    yield one
    one.unharmed()


# ---- processes ----

ON_PROCESSES = '''
SIGSTOP, ATTACH, SEIZE = 19, 16, 0x4206
buf = ctypes.create_string_buffer(4096)
class Vec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]
mine, theirs = Vec(ctypes.addressof(buf), 64), Vec(0x400000, 64)
def opened(pid, name, flags):
    os.close(os.open(f"/proc/{pid}/{name}", flags))
def put(pid, name, text):
    with open(f"/proc/{pid}/{name}", "w") as f: f.write(text)
OPS = {
    "kill": lambda p: os.kill(p, SIGSTOP), "kill 0": lambda p: os.kill(p, 0), "queue": lambda p: call(129, p, SIGSTOP, buf), "tgkill": lambda p: call(234, p, p, SIGSTOP),
    "pidfd": lambda p: call(424, call(434, p, 0), SIGSTOP, 0, 0), "pidfd_getfd": lambda p: call(438, call(434, p, 0), 1, 0),
    "attach": lambda p: call(101, ATTACH, p, 0, 0), "seize": lambda p: call(101, SEIZE, p, 0, 0),
    "readv": lambda p: call(310, p, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0), "writev": lambda p: call(311, p, ctypes.byref(mine), 1, ctypes.byref(theirs), 1, 0),
    "mem": lambda p: opened(p, "mem", os.O_RDWR), "environ": lambda p: open(f"/proc/{p}/environ").read(), "maps": lambda p: open(f"/proc/{p}/maps").read(),
    "fd": lambda p: os.listdir(f"/proc/{p}/fd"), "cwd": lambda p: os.listdir(f"/proc/{p}/cwd/"), "root": lambda p: os.listdir(f"/proc/{p}/root/"),
    "exe": lambda p: os.readlink(f"/proc/{p}/exe"), "stack": lambda p: open(f"/proc/{p}/stack").read(), "syscall": lambda p: open(f"/proc/{p}/syscall").read(),
    "oom": lambda p: put(p, "oom_score_adj", "1000"), "coredump": lambda p: put(p, "coredump_filter", "0x3f"), "slack": lambda p: put(p, "timerslack_ns", "99999999"),
    "clear_refs": lambda p: put(p, "clear_refs", "1"), "uid_map": lambda p: put(p, "uid_map", "0 0 1"),
    "ns": lambda p: call(308, os.open(f"/proc/{p}/ns/net", 0), 0),
    "renice": lambda p: os.setpriority(os.PRIO_PROCESS, p, 19), "affinity": lambda p: os.sched_setaffinity(p, [0]), "ioprio": lambda p: call(251, 1, p, (3 << 13)),
    "scheduler": lambda p: os.sched_setscheduler(p, os.SCHED_IDLE, os.sched_param(0)), "prlimit": lambda p: __import__("resource").prlimit(p, 7, (8, 8)),
    "migrate": lambda p: call(256, p, 64, buf, buf), "move": lambda p: call(279, p, 0, 0, 0, 0, 2), "kcmp": lambda p: call(312, p, p, 0, 0, 1),
}
for who, pid in TARGETS.items():
    for op, f in OPS.items():
        attempt(f"{op} {who}", f, pid)
attempt("renice uid", os.setpriority, os.PRIO_USER, VICTIM_UID, 19)
attempt("ioprio uid", call, 251, 3, VICTIM_UID, 3 << 13)
tell()
'''
REFUSED = {"EPERM", "EACCES", "ESRCH", "ENOENT", "ENOSYS", "EINVAL"}


def on_processes(arena):
    return f"TARGETS = {arena.targets()!r}\nVICTIM_UID = {uid_of(arena.home, 'victim')}\n" + ON_PROCESSES


def outside(arena, script, uid):
    """The same by a process that is in no run: a tenant's shell account, or a stranger's."""
    r = subprocess.run(["/usr/bin/python3", "-c", PRELUDE + script], user=uid, group=uid, extra_groups=[], cwd="/", capture_output=True, text=True, timeout=100)
    assert r.returncode == 0, r.stderr
    return json.loads(r.stdout.splitlines()[-1][6:])


@pytest.mark.timing
@pytest.mark.bare_v2
@pytest.mark.parametrize("who", ["data", "basic", "checked", "account", "stranger"])
def test_no_other_process_is_stopped_traced_read_or_slowed(arena, who):
    script = on_processes(arena)
    tried = outside(arena, script, arena.uid if who == "account" else STRANGER) if who in ("account", "stranger") else arena.attack(script, who)[0]
    assert len(tried) > 150
    assert {k: v for k, v in tried.items() if v not in REFUSED} == {}


@pytest.mark.bare_v2
def test_another_run_of_the_same_tenant_is_out_of_reach(arena):
    """Walls stand between runs, not only between tenants: the loader beside it holds more than an app was given."""
    gate = arena.gate / "same"
    name = arena.attack(f"open({str(gate)!r}, 'w').close()\nsignal.pause()\n", wait=False)
    until(gate.exists, arena.gate, what="the first run")
    run_id = next(r["run_id"] for r in arena.home.rows("runs", "--state", "running") if r["tenant_id"] == "evil")
    pid = until(lambda: [p for p in arena.home.marked(run_id) if "attack" in arena.cmdline(p)], what="its process")[0]
    tried, f, r = arena.attack(f"TARGETS = {{'own': {pid}}}\nVICTIM_UID = 1\n" + ON_PROCESSES)
    tried.pop("renice uid"), tried.pop("ioprio uid")
    assert f["state"] == "ingested" and {k: v for k, v in tried.items() if v not in REFUSED} == {}
    arena.home.cli("stop", run_id)
    arena.ended(name)


def test_nothing_is_inherited(arena):
    script = '''
tried["fds"] = sorted(int(fd) for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{fd}"))
tried["env"] = sorted(os.environ)
tell()
'''
    for dataset in ("data", "basic", "out", "checked"):
        tried, _, _ = arena.attack(script, dataset)
        assert tried["fds"] == [0, 1, 2]
        assert all(re.match(r"SIMBDP_|MONGO_|ZMQ_|(MONGOC_DISABLE_SHM|PATH|LANG|HOME|TMPDIR|LC_CTYPE|TRACEPARENT)$", e) for e in tried["env"]), tried["env"]


# ---- paths ----

SWEEP = '''
def look(path):
    found = []
    for what, f in (("read", lambda: os.close(os.open(path, os.O_RDONLY | os.O_NONBLOCK))), ("write", lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))),
                    ("make", lambda: os.mkdir(path + "/.x")), ("connect", lambda: socket.socket(socket.AF_UNIX).connect(path)),
                    ("chmod", lambda: os.chmod(path, 0o777)), ("unlink", lambda: os.rename(path, path + ".x"))):
        try:
            f()
            found.append(what)
        except OSError:
            pass
    return found
tried = {p: got for p in open(LIST).read().split("\\n") if (got := look(p))}
tell()
'''


def all_paths(arena):
    found = [str(p) for top in (arena.path, pathlib.Path(arena.home.socket_path()).parent) for p in [top, *top.rglob("*")]]
    listing = arena.gate / "paths"
    listing.write_text("\n".join(found))
    return f"LIST = {str(listing)!r}\n" + SWEEP


@pytest.mark.parametrize("who", ["data", "basic", "account", "stranger"])
def test_of_the_home_only_what_is_its_own_opens(arena, who):
    arena.attack("print('leaves something')\n")
    script = all_paths(arena)
    tried = outside(arena, script, arena.uid if who == "account" else STRANGER) if who in ("account", "stranger") else arena.attack(script, who)[0]
    run_time = str(pathlib.Path(arena.home.socket_path()).parent)
    public = {f"{run_time}/broker.ipc", f"{run_time}/monitor.ipc", f"{run_time}/desk.sock"}  # they look who it is (SO_PEERCRED)
    own = re.compile(r"(staging|apps|logs/tenants|work|done|quarantine|runs)/(evil|[0-9a-z]{26})(/|$)")
    theirs = re.compile("victim|" + "|".join({r[k] for rows, k in (("runs", "run_id"), ("files", "file_id")) for r in arena.home.rows(rows, "--tenant", "victim")}))
    for path, got in tried.items():
        rel = os.path.relpath(path, arena.path)
        allowed = {"read", "write", "connect"} if path in public else set()
        if who != "stranger" and own.match(rel) and not theirs.search(rel):
            inside = re.match(r"staging/evil/\w+/.|runs/\w+/app(/|$)", rel)
            allowed = {"read", "write", "make", "chmod", "unlink"} if inside else {"read", "make"} if rel.startswith("staging/evil/") else {"read"}
        if rel in (".", "bin/simbdp-pipe") or (who == "data" and rel in ("apps", "runs", "work")):
            allowed = {"read"}
        assert set(got) <= allowed, (path, got)
    assert who == "stranger" or any(rel.startswith(str(arena.path / "apps/evil")) for rel in tried), "it sees its own"


# ---- files and links, raced ----

def spread(arena):
    """Where the secret is to be read below the home, by who looks without following links: nowhere but at its own places."""
    found = []
    for top, dirs, names in os.walk(arena.path):
        for name in names:
            path = pathlib.Path(top, name)
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 1 << 22 and SECRET.encode() in path.read_bytes():
                found.append(str(path.relative_to(arena.path)))
    return set(found) - {"keys/victim/key", "apps/victim/wait", f"runs/{arena.run_id}/secrets/key"}


STAGED = '''
import os, socket
os.chdir(DIR)
made = 0
def make(kind, name):
    if kind == 0: os.symlink(CANARY, name)
    elif kind == 1: os.mkfifo(name)
    elif kind == 2: open(name, "w").write(f"a\\n{made}\\n")
    elif kind == 3: os.mkdir(name); os.symlink(CANARY, name + "/in"); os.mkfifo(name + "/reason.json")
    elif kind == 4: open(name, "w").write("a\\n"); os.link(name, f".other{made}")
    elif kind == 5: socket.socket(socket.AF_UNIX).bind(name)
for made in range(600):
    try:
        make(made % 6, f".t{made}")
        os.rename(f".t{made}", f"r{made % 7}.csv")
        if made % 5 == 0: os.rename(f"r{made % 7}.csv", f"reason.json")
    except OSError:
        pass
'''


def test_names_that_become_something_else_while_they_are_taken_in(arena):
    canary = arena.home.base / "canary"
    canary.write_text(f"a\n{SECRET}\n")
    canary.chmod(0o600)
    before, place = facts(canary), arena.path / "staging/evil/load"
    racer = as_tenant(arena.home, f"DIR, CANARY = {str(place)!r}, {str(canary)!r}\n" + STAGED, "evil")
    racer.communicate(timeout=60)
    until(lambda: not [n for n in os.listdir(place) if n[0] != "."] and all(f["state"] in FINAL for f in arena.home.rows("files", "--tenant", "evil", "--limit", "1000")),
          arena.path / "state", what="the end of all of them")
    reasons = {f["reason"] for f in arena.home.rows("files", "--tenant", "evil", "--limit", "1000") if f["dataset"] == "load"}
    assert {"symlink", "not_regular", "directory", "hard_link"} <= reasons
    assert facts(canary) == before and spread(arena) == set()
    assert not [d for d in arena.home.docs("evil") if SECRET in str(d)]


def test_what_was_refused_is_refused_again_when_it_is_tried_again(arena):
    """`retry` of what is no file: a FIFO is not waited for, another's file that was linked is not taken."""
    place = arena.path / "staging/evil/load"
    kinds = {"symlink": 0, "not_regular": 1, "directory": 3, "hard_link": 4}
    script = STAGED.split("for made in")[0] + "".join(f"make({kind}, '.{why}'); os.rename('.{why}', '{why}.csv')\n" for why, kind in kinds.items())
    as_tenant(arena.home, f"DIR, CANARY = {str(place)!r}, '/etc/shadow'\n" + script, "evil").communicate(timeout=60)
    for why in kinds:
        f = arena.home.wait_file(file_name=f"{why}.csv", tenant_id="evil")
        assert (f["state"], f["reason"]) == ("rejected", why)
        arena.home.cli("retry", f["file_id"])
        again = until(lambda: [g for g in arena.home.files(file_name=f"{why}.csv") if g["ended_at"] != f["ended_at"] and g["state"] in FINAL], arena.path / "state", what=why)[0]
        assert (again["state"], again["reason"]) == ("rejected", why)
    assert arena.home.control({"op": "status"})["ok"]


RACED = '''
import ctypes, os
libc = ctypes.CDLL(None)
app = APP
def swap(a, b):
    libc.renameat2(-100, f"{app}/{a}".encode(), -100, f"{app}/{b}".encode(), 2)
os.mkdir(f"{app}/.dir"); open(f"{app}/.dir/x", "w").close(); os.symlink(CANARY, f"{app}/.link"); os.mkfifo(f"{app}/.fifo"); os.mkdir(f"{app}/.out")
print("racing", flush=True)
while os.path.lexists(f"{app}/.dir") or os.path.lexists(f"{app}/rejects.jsonl"):
    swap("rejects.jsonl", ".dir"); swap("result.json", ".link"); swap("rejects.jsonl", ".dir"); swap("out/a.json", ".fifo"); swap("result.json", ".link")
    swap("out", ".out"); swap("rejects.jsonl", ".link"); swap("out", ".out"); swap("rejects.jsonl", ".link"); swap("out/a.json", ".fifo")
'''


@pytest.mark.parametrize("dataset", ["data", "basic", "out"])
def test_what_a_run_leaves_is_exchanged_while_it_is_taken(arena, dataset):
    canary, go = arena.home.base / "canary", arena.gate / f"go-{dataset}"
    canary.write_text(f'{{"error": "{SECRET}", "line": 1, "message": "{SECRET}"}}\n')
    canary.chmod(0o600)
    before = facts(canary)
    os.mkfifo(go)
    go.chmod(0o666)
    for i in range(5):
        name = arena.attack(f"""
out = os.environ.get("SIMBDP_OUTPUT_DIR", "out")
os.makedirs(out, exist_ok=True)
open(out + "/a.json", "w").write('{{"a": 1}}\\n')
open("rejects.jsonl", "w").write('{{"line": 1, "byte_offset": 1, "message": "own"}}\\n')
os.chmod("rejects.jsonl", 0o666)
open("result.json", "w").write('{{"rejects_file": "rejects.jsonl"}}')
open({str(go)!r}).read()
""", dataset, wait=False)
        run_id = until(lambda: [r["run_id"] for r in arena.home.rows("runs", "--state", "running") if r["tenant_id"] == "evil"], arena.path / "state", what="the run")[0]
        run = arena.path / "runs" / run_id
        until((run / "app/result.json").exists, run / "app", what="what it leaves")
        racer = as_tenant(arena.home, f"APP, CANARY = {str(run / 'app')!r}, {str(canary)!r}\n" + RACED, "evil")
        assert racer.stdout.readline() == "racing\n"
        open(go, "w").close()
        arena.ended(name)
        racer.communicate(timeout=60)
        left = {str(p.relative_to(run)): facts(p) for p in run.rglob("*") if p.parent != run / "app" and p != run / "app"}
        assert {name: f for name, f in left.items() if f[0] != 0 or (f[2] & 0o170000) not in (0o100000, 0o040000) or f[2] & 0o022} == {}
    assert facts(canary) == before and spread(arena) == set()


# ---- what is to be removed ----

def test_a_deep_tree_that_is_refused_holds_nobody_up(arena):
    """It is moved aside in one step; what removes it is no part of the loop that everybody waits for."""
    home, place = arena.home, arena.path / "staging/tidy/data"

    def scrap():
        return [n for where in ("runs", "staging") if (arena.path / where / ".scrap").exists() for n in os.listdir(arena.path / where / ".scrap")]
    script = f"import os\nos.chdir({str(place)!r})\nos.mkdir('.d'); os.chdir('.d')\nfor i in range(3000):\n    os.mkdir('d'); os.chdir('d')\n"
    assert as_tenant(home, script, "tidy").wait() == 0
    until(lambda: not scrap(), arena.path, what="what others left")
    os.rename(place / ".d", place / "d.csv")
    until(scrap, arena.path, every=0.01, what="the tree to be moved aside")
    assert home.control({"op": "status"})["ok"] and scrap(), "it answers meanwhile"
    assert home.wait_file(tenant_id="tidy")["reason"] == "directory"
    until(lambda: not scrap(), arena.path, what="its end")


@pytest.mark.bare_v2
def test_nobody_adds_to_what_is_being_removed(arena):
    """Processes of the tenant's, outside of the run, that have its scratch open go on making files there."""
    name = arena.attack(f"open({str(arena.gate / 'flood')!r}, 'w').close()\nsignal.pause()\n", wait=False)
    until((arena.gate / "flood").exists, arena.gate, what="the run")
    run_id = next(r["run_id"] for r in arena.home.rows("runs", "--state", "running") if r["tenant_id"] == "evil")
    app = arena.path / "runs" / run_id / "app"
    flood = f"import os\nos.chdir({str(app)!r})\nprint('in', flush=True)\ni = 0\nwhile True:\n    os.mkdir(f'{{os.getpid()}}-{{i}}'); open(f'{{os.getpid()}}-{{i}}/x', 'w').close(); i += 1\n"
    floods = [as_tenant(arena.home, flood, "evil", stderr=subprocess.PIPE) for _ in range(3)]
    for p in floods:
        assert p.stdout.readline() == "in\n"
    arena.home.cli("stop", run_id)
    arena.ended(name)
    scrap = arena.path / "runs/.scrap"
    try:
        until(lambda: not app.exists() and not os.listdir(scrap), scrap, timeout=60, what="the scratch to go")
        for p in floods:
            assert re.search("PermissionError|FileNotFoundError", p.communicate(timeout=20)[1]), "it goes on"
    finally:
        for p in floods:
            p.kill()
            p.communicate()


# ---- what a tenant brings along ----

CANARY_C = '''
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
unsigned la_version(unsigned v) { return v; }
__attribute__((constructor)) static void tell(void)
{
    char comm[64] = "", line[160];
    int in = open("/proc/self/comm", O_RDONLY), out = open(WHERE, O_WRONLY | O_APPEND);
    if (read(in, comm, sizeof comm - 1) < 0 || out < 0) return;
    dprintf(out, "%d %d %s", getuid(), geteuid(), comm);
    (void)line;
}
'''


def test_what_loads_a_tenants_code_is_the_tenant_and_its_own_app(arena):
    """What a linker or an interpreter takes from the environment, HOME or beside the executable: only what the tenant runs anyway obeys."""
    home, where, lib = arena.home, arena.gate / "loaded", arena.path / "apps/kin/canary.so"
    where.touch()
    where.chmod(0o666)
    lib.parent.mkdir()
    subprocess.run(["gcc", "-shared", "-fPIC", "-w", f'-DWHERE="{where}"', "-xc", "-", "-o", str(lib)], input=CANARY_C, text=True, check=True)
    for name in ("libbson-1.0.so.0", "libmongoc-1.0.so.0", "libzmq.so.5", "UTF-16.so"):
        (lib.parent / name).symlink_to(lib)
    values = {**{n: lib.parent for n in ("GCONV_PATH", "PYTHONPATH", "PERL5LIB", "LOCPATH")}, "JAVA_TOOL_OPTIONS": f"-agentpath:{lib}",
              **{n: lib.parent / "rc" for n in ("BASH_ENV", "ENV", "OPENSSL_CONF", "PYTHONSTARTUP")}}
    home.db_of["kin"] = f"kin_{home.base.name.replace('-', '_')}"
    conf = home.path / "conf/tenants/kin.conf"

    def configured(values):
        env = ", ".join(f'{{ name = "{k}"; value = "{v}"; }}' for k, v in values.items())
        conf.write_text(f'database = "{home.db_of["kin"]}"; datasets = ( {{ name = "data"; }}, {{ name = "checked"; }} );\n'
                        f'batch = ( {{ app = "out"; datasets = ("data"); exec = "app"; output = "stdout"; env = ( {env} ); {RETRY} }},\n'
                        f'          {{ app = "checked"; datasets = ("checked"); exec = "builtin:load"; checker = "app"; env = ( {env} ); {RETRY} }} );\n')
        return home.cli("check", check=False)
    for name in ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "MONGO_URL", "SIMBDP_RUN_ID"):
        assert f"{name} is reserved" in configured({name: lib}).stderr
    assert configured(values).returncode == 0
    app = lib.parent / "app"
    app.write_text(f"#!/bin/sh\nexport LD_PRELOAD={lib} LD_AUDIT={lib} LD_LIBRARY_PATH={lib.parent}\necho '{{\"n\": 1}}'\ncp {lib.parent}/* ~; exit 0\n")
    app.chmod(0o755)
    assert home.reload()["ok"]
    uid = uid_of(home, "kin")
    for dataset in ("data", "checked"):
        home.drop(f"{dataset}.csv", "a\n1\n", "kin", dataset)
        f = home.wait_file(file_name=f"{dataset}.csv", tenant_id="kin")
        assert f["state"] == "ingested", f
    home.cli("tenant", "remove", "kin", "--purge")  # by a helper of the platform's
    loaded = [line.split() for line in where.read_text().splitlines()]
    assert loaded and {tuple(x) for x in loaded} <= {(str(uid), str(uid), name) for name in ("app", "cp")}, loaded


ESCAPES = "\x1b]52;c;cm0=\x07\x1b[2J\u009b31m\r"


def test_names_and_texts_do_not_reach_a_terminal_as_commands(arena):
    """Whatever a tenant may name, in every listing and in every refusal that quotes it."""
    home, nasty = arena.home, f"{arena.home.base}/n{ESCAPES}.csv"
    pathlib.Path(nasty).write_text(f'a,"{ESCAPES}"\n1,{ESCAPES}\n1,2,3\n')
    quoted = "".join("\\x%02x" % c for c in b"\x1b]52;c;cm0=\x07")
    conf = home.path / "conf/tenants/words.conf"
    (home.path / "apps/words").mkdir(exist_ok=True)
    conf.write_text(f'database = "words_{home.base.name.replace("-", "_")}"; display_name = "{quoted}{ESCAPES}";\n# {ESCAPES}\n'
                    f'datasets = ( {{ name = "data"; columns = ( {{ name = "{quoted}"; required = true; }} ); }} );\n'
                    f'batch = ( {{ app = "load"; exec = "builtin:load"; }}, {{ app = "other"; exec = "{quoted}"; args = ( "{quoted}" ); }} );\n')
    try:
        assert home.reload()["ok"]
        home.drop(f"x{ESCAPES}.csv", "a\n1\n", "words")
        f = home.wait_file(tenant_id="words")
        seen = ""
        for args in (["status"], ["files"], ["files", f["file_id"]], ["files", ESCAPES], ["runs"], ["runs", ESCAPES], ["rejects", f["file_id"]], ["rejects", ESCAPES], ["logs", ESCAPES],
                     ["logs", "-f", ESCAPES], ["top", "--once"], ["app", "list"], ["app", "scale", ESCAPES, "1"], ["app", "start", f"words/{ESCAPES}"], ["queue", "list"],
                     ["queue", "list", "--tenant", ESCAPES], ["dead", "list"], ["dead", "drop", f"words/{ESCAPES}", "--all"], ["doctor"], ["check"], ["stats"], ["stats", "--tenant", ESCAPES],
                     ["tenant", "list"], ["tenant", "show", "words"], ["tenant", "add", ESCAPES], ["tenant", "suspend", ESCAPES], ["preview", nasty], ["preview", nasty, "--tenant", "words", "--dataset", "data"],
                     ["upload", "words", "data", nasty, "--wait"], ["upload", ESCAPES, "data", nasty], ["upload", "words", ESCAPES, nasty], ["publish", f"words/{ESCAPES}", nasty], ["run", ESCAPES],
                     ["retry", ESCAPES], ["stop", ESCAPES], [ESCAPES], ["files", "--since", ESCAPES]):
            for more in ([], ["--json"]):
                r = home.cli(*args, *more, check=False, timeout=60)
                both = r.stdout + r.stderr
                bad = [c for c in both if not (c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f"))]
                assert not bad, (args, both)
                seen += both
        assert seen.count("\\x1b]52;c;cm0=") > 20, "they are shown, as numbers"
    finally:
        conf.unlink()
        home.reload()
