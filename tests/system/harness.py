"""A home of its own for each test, and the witnesses: pymongo for the data, the command line and /proc for the rest.

Nothing here sleeps: waiting is done on the ledger's inotify events, on pipes and on process ends."""
import contextlib
import ctypes
import hashlib
import json
import os
import pathlib
import re
import select
import shutil
import signal
import socket
import sqlite3
import struct
import subprocess
import tempfile
import threading
import time
import zlib

import pymongo
import pytest

from engines import ENGINES

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("SIMBDP_BUILD", ROOT / "build"))
RELEASE = ROOT / "build"
DATA = ROOT / "build" / "data"
IS_ROOT = os.geteuid() == 0


def has_controllers():
    """Whether some hierarchy limits memory: not in containers that see a bare tree."""
    mounts = [line.split() for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()]
    return any(kind == "cgroup" and "memory" in options.split(",") or kind == "cgroup2" and "memory" in pathlib.Path(at, "cgroup.controllers").read_text().split()
               for _, at, kind, options, *_ in mounts)


HAS_CGROUPS = IS_ROOT and has_controllers()
LIBC = ctypes.CDLL(None, use_errno=True)
FINAL = {"ingested", "rejected", "duplicate", "vanished", "quarantined"}
TIMEOUT = 60.0
KEPT_HOMES, KEPT_BYTES = 10, 256 << 20  # of homes whose tests failed: how many stay, and how large one may be with its data
WAITING = threading.local()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def temp_dir():
    """Below /tmp and open to other uids, so that tenants' processes can reach it."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="simbdp-test-", dir="/tmp"))
    path.chmod(0o755)
    return path


class Watch:
    """Wakes up when something in a directory changes."""

    def __init__(self, *paths):
        self.fd = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
        for path in paths:  # IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_*, IN_CREATE, IN_DELETE
            LIBC.inotify_add_watch(self.fd, os.fsencode(path), 0x2 | 0x8 | 0xC0 | 0x100 | 0x200)

    def wait(self, seconds, gather=0.0):
        """Returns at the first change; with `gather` not before that time has passed, with all that changed meanwhile."""
        select.select([], [], [], min(gather, seconds))
        if select.select([self.fd], [], [], max(0.0, seconds - gather))[0]:
            os.read(self.fd, 65536)

    def close(self):
        os.close(self.fd)


def seal(path):
    """Gives the pages of a database the checksums of lib/db/db.h: for what a test wrote with SQLite alone."""
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[16:18], "big")
    if data[20] != 4:
        return
    for at in range(0, len(data), size):
        page = data[at:at + size - 4]
        data[at + size - 4:at + size] = zlib.crc32(page, zlib.crc32(struct.pack("<I", at // size + 1))).to_bytes(4, "little")
    path.write_bytes(data)


@contextlib.contextmanager
def change(path):
    """The database, to be written to while nobody has it open."""
    with contextlib.closing(sqlite3.connect(path)) as db:
        yield db
        db.commit()
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    seal(path)


def until(test, *paths, timeout=TIMEOUT, every=0.25, what="the condition"):
    """Waits for test() to be true, looking again whenever one of the directories changes. `what` may be called at the end.

    The first look is with the programs under test, the others with the release command line: sanitized, it would be half of all work.
    Looking takes at most a seventh of the time: a ledger that is busy changes more often than a command line can be started."""
    outer = getattr(WAITING, "again", False)
    watch = Watch(*paths)
    deadline = time.monotonic() + timeout
    try:
        while True:
            began = time.monotonic()
            value = test()
            if value:
                return value
            WAITING.again = True
            now = time.monotonic()
            left = deadline - now
            assert left > 0, f"timed out waiting for {what() if callable(what) else what}"
            watch.wait(min(every, left), gather=min(6 * (now - began), 0.1))
    finally:
        WAITING.again = outer
        watch.close()


class Mongo:
    """An embedded MongoDB of the tests' own; `mysimbdp up` is told of it with MONGO_URL."""

    SECRET = "0123456789abcdef0123456789abcdef"

    def __init__(self, directory, port=None, jvm=()):
        self.jvm = jvm
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        (self.dir / "access").write_text(f"simbdp {self.SECRET} *\n")
        self.url = self.url_of("simbdp", self.SECRET)
        self.start()

    def url_of(self, user, secret, database=""):
        return f"mongodb://{user}:{secret}@127.0.0.1:{self.port}/{database}?authSource=admin&authMechanism=SCRAM-SHA-256"

    def start(self):
        (self.dir / "data").mkdir(exist_ok=True)
        mongo = RELEASE / "embedded-mongo"
        self.process = subprocess.Popen(
            ["java", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:SharedArchiveFile=EmbeddedMongo.jsa", *self.jvm, "-cp", "EmbeddedMongo.jar", "EmbeddedMongo",
             "--home", str(self.dir), "--port", str(self.port), "--data", str(self.dir / "data"),
             "--users", str(self.dir / "access")], cwd=mongo, stderr=subprocess.PIPE, text=True)
        line = self.process.stderr.readline()
        assert "ready" in line, line
        self.client = pymongo.MongoClient(self.url)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process.stderr.close()

    def stop(self):
        self.client.close()
        if self.process.poll() is None:
            self.kill()


def runner_of(app):
    """The runner of a process: the parent of the app, or of the init between them."""
    at = app
    while True:
        at = int(pathlib.Path(f"/proc/{at}/stat").read_text().rsplit(")", 1)[1].split()[1])
        if pathlib.Path(f"/proc/{at}/comm").read_text() != "simbdp-init\n":
            return at


def allow_descriptors(pid, soft):
    """Sets the program's limit, as its own user: root may lack what it takes to change others' limits. Returns what it was."""
    uid = os.stat(f"/proc/{pid}").st_uid
    as_it = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups"] if IS_ROOT else []
    before = next(line.split()[3] for line in pathlib.Path(f"/proc/{pid}/limits").read_text().splitlines() if line.startswith("Max open files"))
    subprocess.run([*as_it, "prlimit", "--pid", str(pid), f"--nofile={soft}:"], check=True)
    return before


def has_ended(pid):
    """A zombie whose other threads are gone, or gone itself: its sockets are closed. (Its command line goes before them.)"""
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX" and len(os.listdir(f"/proc/{pid}/task")) == 1
    except OSError:
        return True


def json_lines(path):
    """None of them where there is no such file."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


class Home:
    programs, as_user, all_walls = None, [], IS_ROOT  # None: BUILD's. as_user: what a command begins with to be of another user's
    alive = []  # for tests/conftest.py, which says of which ones a test failed

    def __init__(self, mongo=None, platform="", own_mongo=False):
        self.base = temp_dir()
        self.path = self.base / "home"
        self.mongo = mongo
        self.env = {**os.environ, "MYSIMBDP_HOME": str(self.path)}
        self.env.pop("MONGO_URL", None)
        self.asan = self.base / "asan"
        self.asan.mkdir()
        self.asan.chmod(0o777)
        self.env["ASAN_OPTIONS"] = f"log_path={self.asan}/report:detect_leaks=1:quarantine_size_mb=8:abort_on_error=0:halt_on_error=1:handle_sigill=1"
        self.env["LSAN_OPTIONS"] = f"suppressions={ROOT / 'tests/lsan.supp'}:print_suppressions=0"
        self.env["TSAN_OPTIONS"] = f"log_path={self.asan}/report:suppressions={ROOT / 'tests/tsan.supp'}:print_suppressions=0"
        self.env.update(ENGINES.env())
        if mongo and not own_mongo:
            self.env["MONGO_URL"] = mongo.url
        self.up_process = self.broker_process = self.endpoint = None
        self.cleaned = self.keep = False
        Home.alive.append(self)
        self.mounts = []
        self.db_of = {}
        self.cli("init", str(self.path))
        missing = "false" if HAS_CGROUPS and not self.as_user else "true"
        (self.path / "conf/mysimbdp.conf").write_text(
            f"platform = {{ min_free_bytes = 0L; min_free_inodes = 0L; allow_missing_limits = {missing}; allow_shared_credentials = true; {ENGINES.platform()}{platform} }};\n")
        self.profiles()

    # -- configuration

    def profiles(self, **values):
        v = {"wall_s": 60, "grace_s": 1, "output_bytes": "1048576L", "cpus": 0.1, "memory": "16777216L", "rlimits": "nofile = 64;",
             "mounts": f'"{self.base}:rw", "{ROOT}"', "isolation": "full" if self.all_walls else "basic", "more": "",
             "cgroup": "memory_bytes = 268435456L; pids = 64;" if IS_ROOT else ""}
        v.update(values)
        (self.path / "conf/profiles.conf").write_text(
            'profiles = ( { name = "small"; wall_s = %(wall_s)s; grace_s = %(grace_s)s; output_bytes = %(output_bytes)s; '
            'requests = { cpus = %(cpus)s; memory_bytes = %(memory)s; }; rlimits = { %(rlimits)s }; '
            'cgroup = { %(cgroup)s }; mounts = ( %(mounts)s ); isolation = "%(isolation)s"; %(more)s%(pilot)s } );\n' % {**v, "pilot": ENGINES.profile()})

    def tenant(self, name="acme", exec_="builtin:load", limits="", dataset_limits="", batch="", tenant="", fmt="csv",
               retry="attempts = 3; backoff_ms = 20; max_backoff_ms = 100;", concurrency=4, app="app", apps=None):
        self.db_of[name] = f"{name}_{self.base.name.replace('-', '_')}"
        apps = apps or f'{{ app = "{app}"; exec = "{exec_}"; retry = {{ {retry} }}; {batch} }}'
        text = (f'database = "{self.db_of[name]}"; concurrency = {concurrency}; {tenant} limits = {{ {limits} }};\n'
                f'datasets = ( {{ name = "data"; format = "{fmt}"; collection = "data"; limits = {{ {dataset_limits} }}; }} );\n'
                f'batch = ( {apps} );\n')
        (self.path / f"conf/tenants/{name}.conf").write_text(text)
        (self.path / f"apps/{name}").mkdir(exist_ok=True)
        if "misbehave" in text:
            self.install(name, RELEASE / "tenants/misbehave")
        return name

    def install(self, tenant, source, name=None):
        target = self.path / f"apps/{tenant}" / (name or pathlib.Path(source).name)
        shutil.copy(source, target)
        target.chmod(0o755)
        return target

    def mount_tmpfs(self, name, size):
        """Puts a small file system of its own under one directory of the home."""
        path = self.path / name
        mode = f"{path.stat().st_mode & 0o7777:o}"
        r = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode={mode}", "tmpfs", str(path)], capture_output=True, text=True)
        if r.returncode:
            pytest.skip(f"this host does not let us mount: {r.stderr.strip()}")
        self.mounts.append(path)
        return path

    # -- running

    def program(self, name):
        return (self.programs or BUILD) / name

    def cli(self, *args, check=True, timeout=120, **kw):
        program = RELEASE / "mysimbdp" if "--json" in args and getattr(WAITING, "again", False) and not self.programs else self.program("mysimbdp")
        r = subprocess.run([*self.as_user, program, *map(str, args)], env=self.env, capture_output=True, text=True, timeout=timeout, **kw)
        if check:
            assert r.returncode == 0, f"{args}: {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r

    def rows(self, *args):
        return [json.loads(line) for line in self.cli(*args, "--json").stdout.splitlines()]

    def up(self, ready=True, **env):
        ENGINES.configure(self)
        self.up_process = subprocess.Popen([*self.as_user, self.program("mysimbdp"), "up"], env={**self.env, **env}, stdout=subprocess.PIPE,
                                           stderr=open(self.base / "up.err", "a"), text=True, start_new_session=True)
        if ready:
            line = self.up_process.stdout.readline()
            assert "ready" in line, f"{line}\n{(self.base / 'up.err').read_text()}"
            self.endpoint = json.loads((self.path / "state/endpoints.json").read_text())["broker"]["ipc"]
            ENGINES.wait(self)
        return self

    def batchmgr(self, **env):
        """batchmgr alone, without `up`."""
        return subprocess.Popen([*self.as_user, self.program("batchmgr"), "--home", str(self.path)], env={**self.env, **env},
                                stderr=open(self.base / "batchmgr.err", "a"))

    def streams(self, *streams, name="acme", apps=("consume",), tenant=""):
        """A tenant with streams, each as NAME or (NAME, keys); every app consumes the first of them."""
        listed = [s if isinstance(s, tuple) else (s, "") for s in streams]
        self.db_of[name] = f"{name}_{self.base.name.replace('-', '_')}"
        (self.path / f"conf/tenants/{name}.conf").write_text(
            f'database = "{self.db_of[name]}"; {tenant}\n'
            "streams = ( " + ", ".join(f'{{ name = "{n}"; {keys} }}' for n, keys in listed) + " );\n"
            "stream_apps = ( " + ", ".join(f'{{ app = "{a}"; stream = "{listed[0][0]}"; }}' for a in apps) + " );\n")
        return name

    def broker(self, program=None, **env):
        """The broker alone, without `up`; ready when this returns."""
        ENGINES.configure(self)
        log = self.base / "broker.err"
        before = log.stat().st_size if log.exists() else 0
        self.broker_process = subprocess.Popen([*self.as_user, program or self.program("broker"), "--home", str(self.path)], env={**self.env, **env},
                                               stderr=open(log, "a"))
        until(lambda: '"ready"' in log.read_text()[before:] or self.broker_process.poll() is not None, self.base, what="the broker")
        assert self.broker_process.poll() is None, log.read_text()
        self.endpoint = re.findall(r"ipc://[^ ,\"]+", log.read_text())[-1]
        ENGINES.wait(self)
        return self.broker_process

    def crash_file(self):
        """Where a program is told to leave that it crashed: the broker, which has run before, may write there whoever it is."""
        path = pathlib.Path(self.endpoint.removeprefix("ipc://")).parent / "crash"
        path.mkdir(exist_ok=True)
        path.chmod(0o777)
        (path / "once").unlink(missing_ok=True)
        return path / "once"

    def stop_broker(self, kill=False):
        self.broker_process.send_signal(signal.SIGKILL if kill else signal.SIGTERM)
        code = self.broker_process.wait(timeout=60)
        assert kill or code == 0, (self.base / "broker.err").read_text()

    def stream_journal(self, tenant="acme"):
        return json_lines(self.path / f"logs/tenants/{tenant}/stream.jsonl")

    def queue(self, app="consume", stream=None, tenant="acme"):
        found = [q for q in self.rows("queue", "list") if q["tenant_id"] == tenant and q["app"] == app and stream in (None, q["stream"])]
        return found[0]

    def down(self, *args):
        self.cli("down", *args)
        assert self.up_process.wait(timeout=60) == 0
        self.up_process.stdout.close()
        self.up_process = None

    def reload(self):
        ENGINES.configure(self)
        self.cli("tenant", "list")
        return self.control({"op": "reload"})

    def control(self, request, program="batchmgr.sock"):
        with socket.socket(socket.AF_UNIX) as s:
            s.settimeout(TIMEOUT)
            s.connect(self.socket_path() if program == "batchmgr.sock" else str(pathlib.Path(self.endpoint[len("ipc://"):]).with_name(program)))
            s.sendall(json.dumps(request).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n"):
                chunk = s.recv(65536)
                assert chunk, f"{program} closed the connection"
                data += chunk
            return json.loads(data)

    def socket_path(self):
        return json.loads((self.path / "state/endpoints.json").read_text())["batchmgr"]["ipc"]

    def pids(self, program, contains=""):
        """Processes of this home by program name."""
        found = []
        for p in pathlib.Path("/proc").iterdir():
            if not p.name.isdigit():
                continue
            try:
                argv = (p / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            text = b" ".join(argv).decode(errors="replace")
            if argv[0].decode(errors="replace").endswith(program) and str(self.path) in text and contains in text:
                found.append(int(p.name))
        return sorted(found)

    def spawner_of(self, manager="batchmgr"):
        """Its process; not the runners that it made, which have its command line at first, as the warden's own children do."""
        (parent,) = until(lambda: len(found := self.pids("simbdp-warden", f"simbdp-warden {manager} ")) == 1 and found, every=0.01, what=f"one warden of {manager}")
        return until(lambda: next((p for p in self.pids("simbdp-run", "--spawn") if f"PPid:\t{parent}\n" in pathlib.Path(f"/proc/{p}/status").read_text()), None),
                     every=0.01, what=f"the spawner of {manager}")

    def batchmgr_pid(self):
        return self.control({"op": "status"})["pid"]

    def kill(self, program):
        """SIGKILL, and wait for its end, not for the next one."""
        for pid in self.pids(program):
            os.kill(pid, signal.SIGKILL)
            until(lambda: has_ended(pid), self.path / "state", what=f"the end of {program}")

    def kill_batchmgr(self):
        """SIGKILL, and wait until `up` has started the next one and that answers."""
        pid = self.batchmgr_pid()
        os.kill(pid, signal.SIGKILL)

        def answers():
            try:
                return self.control({"op": "status"})["pid"] != pid
            except (OSError, AssertionError):
                return False
        until(answers, self.path / "state", what="the next batchmgr")

    def marked(self, run_id):
        """Processes whose environment carries the run's id."""
        found = []
        for p in pathlib.Path("/proc").iterdir():
            if p.name.isdigit():
                try:
                    if f"SIMBDP_RUN_ID={run_id}".encode() in (p / "environ").read_bytes().split(b"\0"):
                        found.append(int(p.name))
                except OSError:
                    pass
        return found

    def cgroup_tag(self):
        return hashlib.blake2b(os.fsencode(self.path), digest_size=8).hexdigest()

    def cgroups(self):
        """The directories of this home's cgroups, in every hierarchy: its own, and those of its runs."""
        found = []
        tag = hashlib.blake2b(os.fsencode(self.path), digest_size=8).hexdigest()
        own = {line.split(":", 2)[2] for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines()} | {"/"}
        for kind, at in (line.split()[2:0:-1] for line in pathlib.Path("/proc/self/mounts").read_text().splitlines()):
            for parent in {pathlib.Path(at + path) / f"mysimbdp-{tag}" for path in own} if kind in ("cgroup", "cgroup2") else ():
                if parent.is_dir():
                    found += [p for p in parent.iterdir() if p.is_dir()] + [parent]
        return found

    def runtime(self):
        """Where its sockets lie, once it ran."""
        return pathlib.Path(self.endpoint.removeprefix("ipc://")).parent

    def remains(self):
        """What a home that is down should not leave."""
        return [*self.cgroups(), *(p for p in self.runtime().iterdir() if p.suffix in (".lock", ".sock")), *self.path.glob("runs/*/app"),
                *self.path.glob("runs/.scrap/*")]

    def cleanup(self):
        if self.cleaned:
            return
        self.cleaned = True
        Home.alive.remove(self)
        if self.up_process:
            for p in self.pids("misbehave"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(p, signal.SIGKILL)
            subprocess.run([*self.as_user, self.program("mysimbdp"), "down"], env=self.env, capture_output=True, timeout=60)
            try:
                self.up_process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                os.killpg(self.up_process.pid, signal.SIGKILL)
                self.up_process.wait()
            self.up_process.stdout.close()
            self.up_process = None
        if self.broker_process and self.broker_process.poll() is None:
            self.stop_broker()
        ENGINES.after(self)
        if self.mongo and self.mongo.process.poll() is None:
            for name in self.db_of.values():
                self.mongo.client.drop_database(name)
        # LeakSanitizer says so where a thread ends while it looks at all of them: that is no finding.
        no_finding = re.compile(r"==\d+==Unable to get registers from thread \d+\.\n")
        reports = [text for p in self.asan.iterdir() if (text := no_finding.sub("", p.read_text()))]
        log = self.path / "logs/batchmgr.log"
        if log.exists():
            reports += [line for line in log.read_text().splitlines() if '"event":"state"' in line and '"level":"error"' in line]
        for path in self.mounts:
            subprocess.run(["umount", "-l", str(path)], check=False)
        if reports:
            self.keep = True
        self.keep_or_remove()
        for path in self.cgroups():  # those that a killed home left; a process in one keeps it
            try:
                path.rmdir()
            except OSError:
                pass
        if self.endpoint:
            shutil.rmtree(self.runtime(), ignore_errors=True)
        assert not reports, f"sanitizer reports or impossible moves (kept: {self.path}):\n" + "\n".join(reports)

    def keep_or_remove(self):
        """A home whose test failed stays, without its bulk when that is large; so do the last ones only."""
        def remove(*paths):
            subprocess.run(["rm", "-rf", *map(str, paths)], check=False)  # which goes into trees of any depth
        if not self.keep:
            remove(self.base)
            return
        if int(subprocess.run(["du", "-sB1", str(self.base)], capture_output=True, text=True).stdout.split()[0]) > KEPT_BYTES:
            small = {"conf", "state", "logs", "runs"}
            remove(*(p for p in self.base.iterdir() if p not in (self.path, self.asan) and p.suffix != ".err"), *(p for p in self.path.iterdir() if p.name not in small))
        (self.base / "kept").touch()
        kept = sorted((p for p in pathlib.Path("/tmp").glob("simbdp-test-*/kept") if p.stat().st_uid == os.geteuid()), key=lambda p: p.stat().st_mtime)
        remove(*(p.parent for p in kept[:-KEPT_HOMES]))

    # -- files

    def drop(self, name, content, tenant="acme", dataset="data"):
        """As a careful tenant does: written under a name that is ignored, then renamed."""
        directory = self.path / "staging" / tenant / dataset
        source = directory / f".drop-{time.monotonic_ns()}"  # dotfiles are ignored
        source.write_bytes(content if isinstance(content, bytes) else content.encode())
        target = os.fsencode(directory) + b"/" + os.fsencode(name)
        os.rename(source, target)
        return target

    def do(self, *actions, name=None, tenant="acme"):
        """A file that tells the misbehaving app what to do."""
        lines = ["do,arg"] + [a if "," in a else a + "," for a in actions]
        text = "\n".join(lines) + "\n"
        return self.drop(name or f"do-{time.monotonic_ns()}.csv", text, tenant)

    def files(self, **where):
        return [f for f in self.rows("files") if all(f[k] == v for k, v in where.items())]

    def wait_files(self, n, test=lambda f: f["state"] in FINAL, timeout=TIMEOUT):
        """Until n files of the ledger pass the test; gives all files."""
        def enough():
            files = self.files()
            return files if sum(1 for f in files if test(f)) >= n else None
        try:
            return until(enough, self.path / "state", timeout=timeout, what=f"{n} files")
        except AssertionError:
            log = self.path / "logs/batchmgr.log"
            tail = log.read_text()[-3000:] if log.exists() else ""
            raise AssertionError(f"timed out waiting for {n} files; there are "
                                 f"{[(f['file_name'], f['state'], f['reason'], f['detail']) for f in self.files()][:20]}\n{tail}")

    def wait_file(self, **where):
        """Until the one file that matches is final; gives it."""
        def final():
            found = [f for f in self.files(**where) if f["state"] in FINAL]
            return found[0] if found else None
        return until(final, self.path / "state", what=lambda: f"a final state of {where}: {self.files()}")

    def wait_running(self, n=1):
        return until(lambda: (lambda r: r if len(r) >= n else None)([r for r in self.rows("runs") if r["state"] == "running"]),
                     self.path / "state", what=f"{n} running runs")

    def docs(self, tenant="acme", collection="data"):
        return list(self.mongo.client[self.db_of[tenant]][collection].find())

    def count(self, tenant="acme", collection="data"):
        return self.mongo.client[self.db_of[tenant]][collection].count_documents({})

    def log_of(self, run_id):
        return self.cli("logs", run_id).stdout
