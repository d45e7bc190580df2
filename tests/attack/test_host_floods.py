"""What a tenant takes to its end: scratch, sockets' buffers, output, tables of its uid."""
import pytest
from harness import until
from test_host import MB, arena, one

pytestmark = pytest.mark.needs_root


# ---- floods ----

HIDDEN = {
    "unlinked": "fd = os.open(f'f{i}', os.O_CREAT | os.O_RDWR); os.unlink(f'f{i}'); held.append(fd); os.write(fd, block)",
    "nameless": "fd = os.open('.', os.O_TMPFILE | os.O_RDWR, 0o600); held.append(fd); os.write(fd, block)",
    "mapped": "fd = os.open(f'f{i}', os.O_CREAT | os.O_RDWR); os.unlink(f'f{i}'); os.write(fd, block); held.append(__import__('mmap').mmap(fd, 4096)); os.close(fd)",
}


@pytest.mark.bare_v2
@pytest.mark.parametrize("how", HIDDEN)
def test_scratch_that_has_no_name_counts(arena, how):
    _, f, r = arena.attack(f"held, block = [], b'x' * {4 * MB}\nfor i in range(30):\n    {HIDDEN[how]}\nsignal.pause()\n")
    assert (f["state"], r["outcome"], r["limit"]) == ("quarantined", "limit", "scratch_bytes") and r["wall_s"] < 30


@pytest.mark.needs_cgroups
def test_buffers_of_connections_are_the_runs_memory(arena):
    tried, f, r = arena.attack(f"""
held, total, block = [], 0, b"x" * 65536
server = socket.create_server(("127.0.0.1", 0))
while total < {256 * MB} and len(held) < 230:
    a = socket.create_connection(server.getsockname()); b, _ = server.accept(); a.setblocking(False); held += [a, b]
    b.setblocking(False)
    for s in (a, b):
        try:
            while True: total += s.send(block)
        except BlockingIOError:
            pass
tried["total"] = total
tell()
""")
    assert r["outcome"] == "oom" or tried["total"] < 128 * MB


@pytest.mark.timing
def test_a_flood_of_output_slows_nobody(arena):
    """Four runs that print as fast as they can, for as long as they may: what they print costs them, not the platform."""
    alone = arena.served_s()
    script = "block = b'x' * 1048576\nwhile True:\n    os.write(2, block)\n"
    names = [arena.attack(script, wait=False) for _ in range(4)]
    runs = until(lambda: (lambda r: r if len(r) == 4 else None)([r["run_id"] for r in arena.home.rows("runs", "--state", "running") if r["tenant_id"] == "evil"]),
                 arena.path / "state", what="the floods")
    for run_id in runs:
        until((arena.path / "runs" / run_id / "log.1").exists, arena.path / "runs" / run_id, what="its output")
    took = [arena.served_s() for _ in range(3)]
    for run_id in runs:
        arena.home.cli("stop", run_id)
    for name in names:
        arena.ended(name)
    assert max(took) <= 2 * alone + 1, (alone, took)
    for run_id in runs:
        assert sum(p.stat().st_size for p in (arena.path / "runs" / run_id).glob("log*")) <= MB


TABLES = {
    "inotify": "call(294, 0)", "epoll": "call(291, 0)", "eventfd": "call(290, 0, 0)", "timerfd": "call(283, 1, 0)", "memfd": "call(319, b'x', 0)",
    "pipe": "__import__('fcntl').fcntl(os.pipe()[1], 1031, 1 << 20)", "mqueue": "call(240, f'x{n}'.encode(), 0o102, 0o600, 0)", "timer": "call(222, 1, 0, ctypes.byref(ctypes.c_int()))",
    "signal": "call(129, os.getpid(), 34, ctypes.create_string_buffer(128))", "socketpair": "held.append(socket.socketpair())", "lock": "held.append(open(f'l{n}', 'w')) or __import__('fcntl').lockf(held[-1], 2)",
    "mlock": "call(149, buf, 1 << 20)",
    "watch": "call(254, watcher, f'/proc/{n}'.encode(), 0xfff)", "process": "os.fork() or signal.pause()",
}


@pytest.mark.needs_cgroups
@pytest.mark.parametrize("dataset", ["data", "basic"])
def test_tables_of_a_user_are_taken_to_their_end(arena, dataset):
    """Whatever is counted by user or process: somebody else's, and the platform's, is not missing."""
    gate = arena.gate / f"full-{dataset}"
    script = f"""
signal.signal(34, signal.SIG_IGN); signal.pthread_sigmask(signal.SIG_BLOCK, [34])
buf, held, watcher = ctypes.create_string_buffer(1 << 20), [], call(294, 0)
parent = os.getpid()
def most(what):
    n = 0
    try:
        while n < 20000:
            eval(what); n += 1
    except (OSError, RuntimeError):
        pass
    return n
for name, what in {TABLES!r}.items():
    pid = os.fork()
    if pid == 0:
        most(what)
        while True: os.kill(os.getpid(), signal.SIGSTOP)
    os.waitpid(pid, os.WUNTRACED)
print("full", flush=True)
signal.pause()
"""
    name = arena.attack(script, dataset, wait=False)
    run_id = until(lambda: [r["run_id"] for r in arena.home.rows("runs", "--state", "running") if r["tenant_id"] == "evil"], arena.path / "state", what="the run")[0]
    until(lambda: "full" in arena.home.log_of(run_id), arena.path / "runs" / run_id, timeout=20, what=lambda: "full tables:" + arena.home.log_of(run_id))
    arena.served_s()
    assert arena.home.reload()["ok"]
    arena.home.cli("stop", run_id)
    arena.ended(name)
    assert arena.home.marked(run_id) == []
