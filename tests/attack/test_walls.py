"""What an app can do that wants to reach beyond its run: everything is tried by an app of a tenant's, and looked at from outside."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

import pytest
from harness import runner_of, until

pytestmark = pytest.mark.needs_root

# Runs in the app: `tried` is what became of each attempt, as JSON on stdout.
PRELUDE = r'''#!/usr/bin/python3
import ctypes, errno, json, os, pathlib, signal, socket, subprocess, sys
libc = ctypes.CDLL(None, use_errno=True)
tried = {}
def attempt(name, f, *a):
    try:
        v = f(*a)
        tried[name] = v if isinstance(v, (int, str, list)) else "done"
    except OSError as e:
        tried[name] = errno.errorcode.get(e.errno, str(e.errno))
def call(number, *a):
    r = libc.syscall(number, *a)
    if r < 0:
        raise OSError(ctypes.get_errno(), "")
    return r
def tell():
    print("TRIED " + json.dumps(tried), flush=True)
'''


def platform(make_home, isolation="full", mounts="", network="", more="", pids=64):
    home = make_home()
    home.profiles(isolation=isolation, mounts=mounts, rlimits="", more=f"{network} {more}",
                  cgroup=f"memory_bytes = 268435456L; pids = {pids};")
    return home


def app(home, script, tenant="acme", name="attack"):
    path = home.path / f"apps/{tenant}" / name
    path.write_text(PRELUDE + script)
    path.chmod(0o755)
    return path


def run(home, script=None, tenant="acme", file="x.csv"):
    """The file, its run, and what the app says it tried."""
    if script is not None:
        app(home, script, tenant)
    home.drop(file, f"a,b\n{file},1\n", tenant)
    f = home.wait_file(file_name=file, tenant_id=tenant)
    r = home.rows("runs", f["run_id"])[0]
    said = [line[6:] for line in home.log_of(r["run_id"]).splitlines() if line.startswith("TRIED ")]
    return f, r, json.loads(said[-1]) if said else {}


@pytest.fixture
def walled(make_home):
    home = platform(make_home)
    for name in ("acme", "other"):
        home.tenant(name, exec_="attack", retry="attempts = 1;")
    home.up()
    return home


@pytest.mark.bare_v2
def test_a_run_sees_its_own_room_and_nothing_else(walled):
    run(walled, "sys.exit(0)\n", tenant="other", file="theirs.csv")
    canary = walled.base / "canary"
    canary.write_text("x")
    canary.chmod(0o666)
    f, r, tried = run(walled, f'''
home = pathlib.Path({str(walled.path)!r})
attempt("home", lambda: sorted(os.listdir(home)))
attempt("tenants", lambda: sorted(os.listdir(home / "apps")))
attempt("runs", lambda: os.listdir(home / "runs") == [os.environ["SIMBDP_RUN_ID"]])
attempt("tmp", lambda: sorted(os.listdir("/tmp")))
attempt("canary", lambda: open({str(canary)!r}).read())
for path in ("/etc/x", "/usr/x", "/var/lib/x", "/run/x", "/dev/x", "/sys/x", "/x", str(home / "x"), os.environ["SIMBDP_INPUT_DIR"] + "/x", str(home / "apps/acme/x"), "../x"):
    attempt("write " + path, lambda: open(path, "w"))
attempt("scratch", lambda: open("mine", "w"))
attempt("processes", lambda: len([p for p in os.listdir("/proc") if p.isdigit()]))
attempt("init", lambda: open("/proc/1/cmdline").read().split("\\0")[1].strip())
attempt("init's memory", lambda: open("/proc/1/mem"))
attempt("init's files", lambda: os.listdir("/proc/1/fd"))
attempt("init's root", lambda: os.listdir("/proc/1/root/"))
attempt("devices", lambda: sorted(os.listdir("/dev")))
attempt("groups", lambda: sorted(os.listdir("/sys/fs/cgroup/memory"))[0][:6] if os.path.exists("/sys/fs/cgroup/memory") else "v2")
attempt("other groups", lambda: [d for d in os.listdir("/sys/fs/cgroup/memory") if os.path.isdir("/sys/fs/cgroup/memory/" + d)] if os.path.exists("/sys/fs/cgroup/memory") else [])
status = dict(line.split(":\\t") for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
for key in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"):
    tried[key] = int(status[key], 16)
tried["host"] = os.uname().nodename
tell()
''')
    assert f["state"] == "ingested", f
    assert tried["home"] == ["apps", "bin", "runs", "work"] and tried["tenants"] == ["acme"] and tried["runs"] is True
    own = (walled.base, pathlib.Path(walled.socket_path()).parent)
    assert tried["tmp"] == sorted(p.name for p in own if p.parent == pathlib.Path("/tmp")) and tried["canary"] == "ENOENT"
    refused = {k: v for k, v in tried.items() if k.startswith("write ")}
    assert len(refused) == 11 and set(refused.values()) <= {"EROFS", "EACCES"}, refused
    assert tried["scratch"] == "done" and tried["processes"] == 2 and tried["init"] == "init"
    assert tried["init's memory"] == tried["init's files"] == tried["init's root"] == "EACCES"
    assert tried["devices"] == ["fd", "full", "null", "random", "shm", "stderr", "stdin", "stdout", "urandom", "zero"]
    assert tried["other groups"] == []
    assert [tried[k] for k in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp")] == [0, 0, 0, 0, 0, 1, 2]
    assert tried["host"] == "acme"
    assert not any((walled.path / d / "x").exists() for d in ("", "apps/acme"))


def test_namespaces_mounts_keys_and_rare_calls_are_refused(walled):
    f, _, tried = run(walled, '''
NEW = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000}
for name, flag in NEW.items():
    attempt("unshare " + name, call, 272, flag)
    attempt("clone " + name, call, 56, flag | 17, 0, 0, 0, 0)
attempt("clone3", call, 435, ctypes.create_string_buffer(88), 88)
attempt("mount", call, 165, b"none", b"/tmp", b"tmpfs", 0, 0)
attempt("umount", call, 166, b"/tmp", 2)
attempt("open_tree", call, 428, -100, b"/tmp", 1)
attempt("setns", lambda: call(308, os.open("/proc/self/ns/net", 0), 0))
attempt("pivot_root", call, 155, b"/tmp", b"/tmp")
attempt("chroot", os.chroot, "/tmp")
attempt("keyctl", call, 250, 0, -3, 1)
attempt("add_key", call, 248, b"user", b"x", b"y", 1, -3)
attempt("bpf", call, 321, 0, 0, 0)
attempt("perf", call, 298, 0, 0, -1, -1, 0)
attempt("io_uring", call, 425, 1, ctypes.create_string_buffer(120))
attempt("userfaultfd", call, 323, 0)
attempt("open_by_handle", call, 304, 0, 0, 0)
attempt("settime", call, 227, 0, ctypes.create_string_buffer(16))
attempt("unknown", call, 1000)
for name, family in (("vsock", 40), ("packet", 17), ("alg", 38), ("xdp", 44)):
    attempt(name, lambda: socket.socket(family, socket.SOCK_DGRAM))
attempt("raw", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
attempt("mknod", os.mknod, "disk", 0o60600, os.makedev(8, 0))
attempt("core", lambda: open("/proc/sys/kernel/core_pattern", "w"))
attempt("oom", lambda: os.write(os.open("/proc/self/oom_score_adj", os.O_WRONLY), b"-1000"))
assert int(open("/proc/self/oom_score_adj").read()) == 500, "killed before the platform is"
attempt("nice", os.nice, -5)
attempt("kill all", os.kill, -1, 0)
attempt("kill init", os.kill, 1, 9)
attempt("trace init", call, 101, 16, 1, 0, 0)
attempt("setuid", os.setuid, 0)
subprocess.run(["cp", "/usr/bin/id", "id"]); attempt("chmod", os.chmod, "id", 0o6755)
attempt("su", lambda: subprocess.run(["/bin/su", "-c", "id -u"], stdin=subprocess.DEVNULL, capture_output=True, text=True).stdout)
tell()
''')
    assert f["state"] == "ingested", f
    known = {k: tried.pop(k) for k in ("chmod", "kill all", "unknown", "clone3", "io_uring")}
    assert known == {"chmod": "done", "kill all": "ESRCH", "unknown": "ENOSYS", "clone3": "ENOSYS", "io_uring": "ENOSYS"}
    assert {tried.pop(k) for k in ("vsock", "packet", "alg", "xdp")} == {"EAFNOSUPPORT"}
    assert tried.pop("su") == ""
    assert tried.pop("core") in ("EACCES", "EROFS") and tried.pop("oom") == "EACCES"
    assert set(tried.values()) == {"EPERM"}, tried


def in_shared_tables(home):
    """What there is of the home's uids there, and of the names that the app takes: others' things come and go."""
    base = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    uids = range(base, base + 65536)
    found = []
    for kind in ("sem", "msg", "shm"):
        head, *lines = (line.split() for line in pathlib.Path(f"/proc/sysvipc/{kind}").read_text().splitlines())
        found += [line for line in lines if int(line[head.index("uid")]) in uids]
    made = [pathlib.Path(place) / name for place in ("/tmp", "/var/tmp", "/dev/shm") for name in ("big", "0", "1")]
    found += [path for path in made if path.exists()]
    return found


@pytest.mark.bare_v2
def test_what_a_run_makes_in_shared_tables_is_its_own_and_goes_with_it(make_home):
    home = platform(make_home, more="tmp_bytes = 4194304L; tmp_inodes = 500;")
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, r, tried = run(home, '''
n = 0
try:
    while n < 40000:
        call(64, 0, 1, 0o1600); n += 1
except OSError:
    pass
tried["semaphores"] = n
attempt("queue", call, 68, 0, 0o1600)
def fill(path):
    with open(path, "wb", buffering=0) as out:
        while True:
            out.write(b"x" * 65536)
for path in ("/tmp/big", "/var/tmp/big", "/dev/shm/big"):
    attempt(path, fill, path)
tried["bytes"] = sum(os.stat(p).st_size for p in ("/tmp/big", "/var/tmp/big", "/dev/shm/big"))
os.unlink("/tmp/big"); os.unlink("/dev/shm/big"); os.unlink("/var/tmp/big")
def many():
    for i in range(100000):
        open(f"/dev/shm/{i}", "w")
attempt("inodes", many)
tried["files"] = len(os.listdir("/dev/shm"))
tell()
''')
    assert f["state"] == "ingested", f
    assert tried["semaphores"] > 30000, "its own namespace has its own table"
    assert {tried[p] for p in ("/tmp/big", "/var/tmp/big", "/dev/shm/big")} == {"ENOSPC"} and tried["bytes"] <= 4194304
    assert tried["inodes"] == "ENOSPC" and 300 < tried["files"] < 1000
    until(lambda: not in_shared_tables(home), home.path / "state", what=lambda: f"nothing to be left: {in_shared_tables(home)}")


class Echo:
    """A server on loopback that sends back what it gets and half-closes when the peer does."""

    def __init__(self):
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.n = 0
        threading.Thread(target=self.serve, daemon=True).start()

    def serve(self):
        while True:
            try:
                peer, _ = self.server.accept()
            except OSError:
                return
            self.n += 1
            threading.Thread(target=self.talk, args=(peer,), daemon=True).start()

    @staticmethod
    def talk(peer):
        with peer:
            try:
                while data := peer.recv(1 << 16):
                    peer.sendall(data)
            except OSError:
                pass


@pytest.fixture
def echo():
    e = Echo()
    yield e
    e.server.close()


CONNECT = '''
import threading
def connect(host, port):
    with socket.create_connection((host, port), 5) as s:
        s.sendall(b"hello"); s.shutdown(socket.SHUT_WR)
        got = b""
        while data := s.recv(100):
            got += data
        return got.decode()
'''


def own_address():
    """An address of this machine that is not loopback's, so that nothing leaves it even where a wall is missing."""
    r = subprocess.run(["hostname", "-I"], capture_output=True, text=True)
    return next((a for a in r.stdout.split() if ":" not in a), None)


def test_only_the_platform_is_reachable_and_what_is_refused_is_counted(make_home, echo):
    home = platform(make_home)
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    outside = own_address()
    f, r, tried = run(home, CONNECT + f'''
attempt("echo", connect, "127.0.0.1", {echo.port})
if {outside!r}:
    for i in range(3):
        attempt("outside", connect, {outside!r}, {echo.port})
host, port = os.environ["MONGO_URL"].split("//")[1].split("/")[0].split("@")[-1].split(":")
def ask():
    with socket.create_connection((host, int(port)), 5) as s:
        return "connected"
attempt("mongo", ask)
attempt("monitor", lambda: socket.socket(socket.AF_UNIX).connect(os.environ["ZMQ_MONITOR_ENDPOINT"][6:]))
s = socket.socket(socket.AF_UNIX); s.bind("\\0simbdp-abstract")
tell()
''')
    assert f["state"] == "ingested", f
    assert tried["echo"] == "ECONNREFUSED" and tried["mongo"] == "connected" and tried["monitor"] == "done" and echo.n == 0
    if outside:
        assert tried["outside"] == "ENETUNREACH"
        assert "3 connections" in home.log_of(r["run_id"]), "what was refused is counted and shown"
    assert r["network_refused"] == (3 if outside else 0)


@pytest.mark.parametrize("network, reached", [('network = ( "none" );', False), ('network = ( "host" );', True), ('network = "none";', False),
                                              ('network = ( "platform", "127.0.0.1:%d" );', True), ('network = ( "localhost:%d" );', True)])
def test_network_of_a_profile(make_home, echo, network, reached):
    home = platform(make_home, network=network % echo.port if "%" in network else network)
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    host = "localhost" if "localhost" in network else "127.0.0.1"
    f, r, tried = run(home, CONNECT + f'''
attempt("echo", connect, {host!r}, {echo.port})
tell()
''')
    assert f["state"] == "ingested" and tried["echo"] == ("hello" if reached else "ECONNREFUSED"), tried
    assert r["network_refused"] == (None if network == 'network = ( "host" );' else 0), "null where nobody counts"


def test_the_relay_carries_much_many_and_half_closed_connections(make_home, echo):
    home = platform(make_home, network=f'network = ( "127.0.0.1:{echo.port}" );', pids=400)
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, r, tried = run(home, CONNECT + f'''
def much(n):
    with socket.create_connection(("127.0.0.1", {echo.port}), 20) as s:
        threading.Thread(target=lambda: (s.sendall(b"x" * n), s.shutdown(socket.SHUT_WR))).start()
        got = 0
        while data := s.recv(1 << 16):
            got += len(data)
        return got
attempt("much", much, 20000000)
def many():
    held = [socket.create_connection(("127.0.0.1", {echo.port}), 20) for _ in range(200)]
    for s in held:
        s.sendall(b"y")
    return sum(len(s.recv(1)) for s in held)
attempt("many", many)
attempt("again", connect, "127.0.0.1", {echo.port})
tell()
''')
    assert f["state"] == "ingested" and (tried["much"], tried["many"], tried["again"]) == (20000000, 200, "hello"), tried
    assert home.pids("simbdp-relay") == []


@pytest.fixture
def gate():
    """A directory of the test's that a run may write."""
    path = pathlib.Path(tempfile.mkdtemp(prefix="simbdp-test-gate-", dir="/tmp"))
    path.chmod(0o777)
    yield path
    shutil.rmtree(path)


def test_a_relay_is_nobody_ends_with_its_run_and_is_replaced(make_home, echo, gate):
    home = platform(make_home, network=f'network = ( "127.0.0.1:{echo.port}" );', mounts=f'"{gate}:rw"')
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    app(home, CONNECT + f'''
held = socket.create_connection(("127.0.0.1", {echo.port}), 5)
held.sendall(b"x"); held.recv(1)
open("{gate}/first", "w").close()
try:
    held.recv(1)
except OSError:
    pass
tried["after"] = connect("127.0.0.1", {echo.port})
tell()
open("{gate}/second", "w").close()
signal.pause()
''')
    home.drop("x.csv", "a\n1\n")
    until((gate / "first").exists, gate, what="the first connection")
    relay, = home.pids("simbdp-relay")
    status = pathlib.Path(f"/proc/{relay}/status").read_text()
    uid = int(status.split("Uid:")[1].split()[0])
    tenant_uid = next(t["uid"] for t in home.rows("tenant", "list"))
    assert uid not in (0, tenant_uid) and "NoNewPrivs:\t1" in status and "CapEff:\t0000000000000000" in status
    os.kill(relay, 9)
    until((gate / "second").exists, gate, what="another relay")
    other, = home.pids("simbdp-relay")
    assert other != relay
    run_id = home.rows("runs", "--state", "running")[0]["run_id"]
    home.cli("stop", run_id)
    home.wait_file(file_name="x.csv")
    assert home.pids("simbdp-relay") == [] and home.marked(run_id) == []


@pytest.mark.bare_v2
@pytest.mark.parametrize("limit, script", [
    ("scratch_bytes", "out = open('big', 'wb', buffering=0)\nwhile True: out.write(b'x' * 1048576)\n"),
    ("scratch_bytes", "for i in range(100000): open(f'f{i}', 'wb').write(b'x' * 65536)\n"),
    ("scratch_inodes", "for i in range(10**9): open(f'f{i}', 'w').close()\n"),
    ("scratch_inodes", "while True:\n    os.mkdir('d'); os.chdir('d')\n")])
def test_scratch_is_bounded(make_home, limit, script):
    home = platform(make_home, more="scratch_bytes = 33554432L; scratch_inodes = 2000;")
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, r, _ = run(home, script)
    assert (f["state"], r["outcome"], r["limit"]) == ("quarantined", "limit", limit)
    assert r["wall_s"] < 20


IN_MEMORY = 'scratch = "memory"; scratch_bytes = 33554432L; scratch_inodes = 500;'


@pytest.mark.bare_v2
def test_scratch_in_memory_is_full_at_once(make_home):
    """What is beyond fails in the app, to the byte and to the file; nothing of it is the disk's."""
    home = platform(make_home, more=IN_MEMORY)
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, r, tried = run(home, f"""
tried["kind"] = [line.split(" - ")[1].split()[0] for line in open("/proc/self/mountinfo") if line.split()[4] == os.getcwd()]
def fill():
    with open("big", "wb", buffering=0) as big:
        while True:
            big.write(b"x" * 65536)
attempt("bytes", fill)
tried["written"] = os.stat("big").st_size
os.unlink("big")
def many():
    for i in range(1000):
        tried["files"] = i
        open(f"f{{i}}", "w").close()
attempt("inodes", many)
tried["where"] = [os.getcwd(), os.environ["HOME"], os.environ["TMPDIR"], os.path.dirname(os.environ["SIMBDP_RESULT_FILE"])]
tell()
""")
    assert (f["state"], r["outcome"]) == ("ingested", "ok"), (f, r, tried)
    assert tried["kind"] == ["tmpfs"] and len(set(tried["where"])) == 1, tried
    assert (tried["bytes"], tried["written"], tried["inodes"]) == ("ENOSPC", 32 * 2**20, "ENOSPC") and 490 <= tried["files"] <= 500, tried
    report = [json.loads(line) for line in home.cli("doctor", "--json", check=False).stdout.splitlines()]
    assert "enforced" in json.dumps([line for line in report if "scratch_bytes" in json.dumps(line)]), report


@pytest.mark.bare_v2
@pytest.mark.needs_cgroups
def test_scratch_in_memory_is_the_runs_memory(make_home):
    home = platform(make_home, more='scratch = "memory"; scratch_bytes = 1073741824L;')
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, r, _ = run(home, 'open("big", "wb").write(b"")\nfor i in range(16384):\n    open("big", "ab").write(b"x" * 65536)\n')
    assert (f["state"], r["outcome"]) == ("quarantined", "oom"), r


@pytest.mark.bare_v2
def test_what_is_kept_of_scratch_in_memory_gets_to_the_disk(make_home):
    home = platform(make_home, more=IN_MEMORY)
    home.tenant(exec_="attack", batch='output = "dir";', retry="attempts = 1;")
    home.up()
    out = 'os.chdir(os.environ["SIMBDP_OUTPUT_DIR"])\n'
    f, r, _ = run(home, """
open("rejects.jsonl", "w").write('{"line": 7}\\n')
open(os.environ["SIMBDP_RESULT_FILE"], "w").write('{"rows_parsed": 1, "rejects_file": "rejects.jsonl"}')
""" + out + """
for name in "ab":
    open(name + ".json", "w").write('{"from": "memory"}\\n' * 1000)
""")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 2000), (f, r)
    assert home.count() == 2000
    assert json.loads((home.path / "runs" / r["run_id"] / "result.json").read_text())["app_result"]
    assert '"line": 7' in (home.path / "runs" / r["run_id"] / "rejects.jsonl").read_text()
    for name, script, expected in (
            ("link.csv", 'os.symlink("/etc/passwd", "x")\n', ("quarantined", "failed", None)),
            ("hard.csv", 'open("x", "w").write("{}")\nos.link("x", "y")\n', ("quarantined", "failed", None)),
            ("fifo.csv", 'os.mkfifo("x")\n', ("quarantined", "failed", None)),
            ("holes.csv", 'open("x", "w").truncate(1 << 24)\n', ("quarantined", "limit", "output_bytes"))):
        f, r, _ = run(home, out + script, file=name)
        assert (f["state"], r["outcome"], r["limit"]) == expected, (name, r)
        assert not (home.path / "runs" / r["run_id"] / "output").exists()


@pytest.mark.bare_v2
def test_scratch_in_memory_goes_with_a_killed_runner(make_home):
    home = platform(make_home, more=IN_MEMORY)
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    app(home, 'open("held", "wb").write(b"x" * 2**24)\nprint("written", flush=True)\nsignal.pause()\n')
    home.drop("x.csv", "a,b\n1,1\n")
    (r,) = home.wait_running()
    until(lambda: "written" in home.log_of(r["run_id"]), home.path / "runs" / r["run_id"], what="the app to write")
    assert str(home.path) not in pathlib.Path("/proc/self/mountinfo").read_text(), "it is never on the host's tree"
    assert not os.listdir(home.path / "runs" / r["run_id"] / "app")
    (at,) = [p for p in home.marked(r["run_id"])]
    mounted = f" - tmpfs {r['run_id']} "
    assert mounted in pathlib.Path(f"/proc/{at}/mountinfo").read_text()
    os.kill(runner_of(at), signal.SIGKILL)
    until(lambda: home.rows("runs", r["run_id"])[0]["state"] == "ended", home.path / "state", what="the run to end")
    for p in pathlib.Path("/proc").iterdir():
        if p.name.isdigit():
            try:
                held = mounted in (p / "mountinfo").read_text()
            except OSError:
                continue
            assert not held, f"process {p.name} still has it"


def test_hidden_executables_and_mounts_of_the_profile(make_home):
    home = make_home()
    shared = home.base / "shared"
    shared.mkdir(mode=0o777)
    shared.chmod(0o777)
    (home.base / "reference").mkdir()
    (home.base / "reference/data").write_text("42")
    (home.base / "elsewhere").write_text(PRELUDE + f'''
attempt("read", lambda: open("{home.base}/reference/data").read())
attempt("write", lambda: open("{home.base}/reference/data", "w"))
attempt("shared", lambda: open("{shared}/mine", "w"))
attempt("hidden", lambda: os.listdir("{home.base}"))
tell()
''')
    (home.base / "elsewhere").chmod(0o755)
    home.profiles(mounts=f'"{home.base}/reference", "{shared}:rw"')
    home.tenant(exec_=str(home.base / "elsewhere"), retry="attempts = 1;")
    home.up()
    f, r, tried = run(home)
    assert f["state"] == "ingested" and (tried["read"], tried["write"], tried["shared"]) == ("42", "EROFS", "done"), (f, tried)
    assert sorted(tried["hidden"]) == ["elsewhere", "home", "reference", "shared"] and (shared / "mine").exists()


def test_basic_is_what_it_was(make_home, echo):
    home = platform(make_home, isolation="basic")
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    f, _, tried = run(home, CONNECT + f'''
attempt("echo", connect, "127.0.0.1", {echo.port})
tried["seccomp"] = int([line for line in open("/proc/self/status") if line.startswith("Seccomp:")][0].split()[1])
tried["tmp"] = os.path.exists("{home.base}/up.err")
tell()
''')
    assert f["state"] == "ingested" and (tried["echo"], tried["seccomp"], tried["tmp"]) == ("hello", 0, True)


@pytest.mark.bare_v2
def test_instances_and_checkers_have_walls_too(make_home, echo):
    home = platform(make_home)
    (home.path / "apps/acme").mkdir(exist_ok=True)
    script = CONNECT + f'''
attempt("echo", connect, "127.0.0.1", {echo.port})
attempt("home", lambda: sorted(os.listdir({str(home.path)!r})))
tell()
'''
    app(home, script, name="check")
    app(home, script + "signal.pause()\n", name="consume")
    home.db_of["acme"] = "acme"
    (home.path / "conf/tenants/acme.conf").write_text(
        'datasets = ( { name = "data"; format = "csv"; } );\n'
        'batch = ( { app = "app"; exec = "builtin:load"; checker = "check"; retry = { attempts = 1; }; } );\n'
        'streams = ( { name = "events"; } ); stream_apps = ( { app = "consume"; stream = "events"; exec = "consume"; min_instances = 1; } );\n')
    home.up()

    def said(kind):
        for r in home.rows("runs"):
            lines = [line for line in home.log_of(r["run_id"]).splitlines() if line.startswith("TRIED ")] if r["kind"] == kind else []
            if lines:
                return json.loads(lines[0][6:])
        return None
    stream = until(lambda: said("stream_app") or said("stream") or said("instance"), home.path / "logs", home.path / "runs", what="the instance")
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file(file_name="x.csv")
    assert f["state"] == "ingested", f
    check = said("check")
    assert stream["echo"] == check["echo"] == "ECONNREFUSED"
    assert stream["home"] == ["apps", "bin", "runs"] and check["home"] == ["apps", "bin", "runs", "work"]


LOGINS = '''
import pymongo, time
took = []
for _ in range(25):
    began = time.monotonic()
    with pymongo.MongoClient(os.environ["MONGO_URL"], serverSelectionTimeoutMS=60000) as c:
        c.get_default_database().command("count", "rows")
    took.append(round(1000 * (time.monotonic() - began)))
tried["took"] = took
tell()
'''


@pytest.mark.timing
def test_a_crowd_at_mongodbs_port_does_not_hold_runs_up(make_home):
    """A stranger who connects as fast as he can fills the queue of the port; runs have a door of their own."""
    home = make_home(own_mongo=True)
    home.profiles(isolation="full", rlimits="", cgroup="memory_bytes = 268435456L; pids = 64;")
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    port = int(json.loads((home.path / "state/mongo.json").read_text())["url"].split("127.0.0.1:")[1].split("/")[0])
    crowd = [subprocess.Popen(["/usr/bin/python3", "-c", f"""
import os, socket
os.setgid(65534)
os.setuid(65534)
while True:
    s = socket.socket()
    s.setblocking(False)
    s.connect_ex(("127.0.0.1", {port}))
    s.close()
"""]) for _ in range(6)]
    try:
        f, r, tried = run(home, LOGINS)
    finally:
        for p in crowd:
            p.kill()
            p.wait()
    assert f["state"] == "ingested" and sum(t >= 900 for t in tried["took"]) <= 2, tried
