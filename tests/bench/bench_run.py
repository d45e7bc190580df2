"""scripts/bench run: from a closed file to a running app, short runs, restarts, memory, a quiet tenant, growth.

The limit is starting the same program with posix_spawn and nothing else; the peers are s6-supervise and supervisord, where they are
installed (Debian: s6, supervisor). All in one run, interleaved."""
import atexit
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time

from common import BENCH, BUILD, run

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "system"))
from harness import seal  # noqa: E402

S6_BEST_MS = 0.9
PLATFORM = "platform = { min_free_bytes = 0L; %s };\n"
# The stamp and its pipe lie below /tmp, of which an isolated run sees only what `mounts` names.
PROFILE = '{ name = "%s"; isolation = "%s"; mounts = ("%s:rw"); requests = { cpus = %s; memory_bytes = 16777216L; }; ' \
          'cgroup = { cpu_pct = 100; memory_bytes = 268435456L; pids = 64; }; }'


def pause(seconds):
    """Idle time is part of what is measured."""
    import select
    select.select([], [], [], seconds)


class Fifo:
    def __init__(self, path):
        os.mkfifo(path)
        os.chmod(path, 0o666)
        self.path, self.fd, self.rest = path, os.open(path, os.O_RDWR), b""

    def next(self, timeout=60):
        """(nanoseconds, pid) of the next stamp."""
        import select
        while b"\n" not in self.rest:
            if not select.select([self.fd], [], [], timeout)[0]:
                sys.exit("bench: no stamp came; look into the home's logs")
            self.rest += os.read(self.fd, 1 << 16)
        line, self.rest = self.rest.split(b"\n", 1)
        at, pid = line.split()
        return int(at), int(pid)


class Home:
    """A platform with tenants whose app is `stamp`."""

    def __init__(self, base, tenants=2, args="", cpus=0.1, more="", rows=0, concurrency=8, profile="small"):
        self.base = pathlib.Path(tempfile.mkdtemp(dir=base))
        self.base.chmod(0o755)
        self.path = self.base / "home"
        self.env = {**os.environ, "MYSIMBDP_HOME": str(self.path)}
        self.env.pop("MONGO_URL", None)
        self.cli("init", self.path)
        (self.path / "conf/mysimbdp.conf").write_text(PLATFORM % more)
        profiles = [PROFILE % (name, isolation, self.base, cpus) for name, isolation in (("small", "full"), ("basic", "basic"))]
        (self.path / "conf/profiles.conf").write_text(f"profiles = ( {', '.join(profiles)} );\n")
        self.stamp = self.base / "stamp"
        shutil.copy(BENCH / "stamp", self.stamp)
        self.stamp.chmod(0o755)
        self.fifo = Fifo(self.base / "fifo")
        for i in range(tenants):
            self.tenant(f"t{i}", f'"{self.fifo.path}"{args}', concurrency, profile=profile)
        self.up()
        if rows:
            self.down()
            fill(self.path / "state/ledger.db", rows, tenants)
            self.up()

    def tenant(self, name, args, concurrency=8, exec_=None, profile="small"):
        (self.path / f"conf/tenants/{name}.conf").write_text(
            f'concurrency = {concurrency}; datasets = ( {{ name = "data"; format = "csv"; }} );\n'
            f'batch = ( {{ app = "app"; exec = "{exec_ or self.stamp}"; args = ( {args} ); profile = "{profile}"; retry = {{ attempts = 1; }}; }} );\n')

    def cli(self, *args):
        r = subprocess.run([BUILD / "mysimbdp", *map(str, args)], env=self.env, capture_output=True, text=True)
        if r.returncode:
            sys.exit(f"bench: mysimbdp {args}: {r.stderr}")
        return r.stdout

    def up(self):
        self.process = subprocess.Popen([BUILD / "mysimbdp", "up"], env=self.env, stdout=subprocess.PIPE, text=True)
        atexit.register(self.process.terminate)  # where a line fails
        if "ready" not in self.process.stdout.readline():
            sys.exit("bench: the platform does not start")
        self.socket = json.loads((self.path / "state/endpoints.json").read_text())["batchmgr"]["ipc"]

    def down(self):
        self.cli("down")
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.down()
        shutil.rmtree(self.base, ignore_errors=True)

    def status(self):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.socket)
            s.sendall(b'{"op":"status"}\n')
            data = b""
            while not data.endswith(b"\n"):
                data += s.recv(1 << 16)
        return json.loads(data)

    def settle(self):
        while self.status()["unfinished"]:
            pause(0.01)

    def close_one(self, name, tenant="t0"):
        """Writes a file; from just before it is closed until the app's main, in microseconds."""
        with open(self.path / f"staging/{tenant}/data/{name}.csv", "w") as f:
            f.write(f"a,b\n{name},2\n")
            f.flush()
            began = time.monotonic_ns()
        return (self.fifo.next()[0] - began) / 1e3

    def burst(self, n, name, tenants=("t0", "t1")):
        """n files at once; until the last one's main, in seconds."""
        for i in range(n):
            d = self.path / f"staging/{tenants[i % len(tenants)]}/data"
            (d / f".{name}{i}").write_text(f"a,b\n{name}{i},x\n")
        began = time.monotonic()
        for i in range(n):
            d = self.path / f"staging/{tenants[i % len(tenants)]}/data"
            os.rename(d / f".{name}{i}", d / f"{name}{i}.csv")
        for _ in range(n):
            self.fifo.next()
        seconds = time.monotonic() - began
        self.settle()
        return seconds


def fill(path, n, tenants):
    """A ledger with a past: n files and runs that ended, a week of them."""
    db = sqlite3.connect(path)
    columns = {t: {name: 0 if notnull else None for _, name, _, notnull, *_ in db.execute(f"PRAGMA table_info({t})")} for t in ("files", "runs")}
    now = int(time.time() * 1000)

    def rows(table):
        for i in range(n):
            at = now - 86400000 - (n - i) * 600
            name = {"file_id": f"{0x1000000000000 + i:026x}", "run_id": f"{0x2000000000000 + i:026x}", "tenant": f"t{i % tenants}"}
            row = {**columns[table], **name, "dataset": "data", "name": f"f{i}.csv", "safe": f"f{i}.csv", "source": "staging", "state": "ingested" if table == "files" else "ended",
                   "place": "gone", "size": 1000, "rows": 10, "columns": 2, "hash": os.urandom(32).hex(), "rows_parsed": 10, "rows_loaded": 10,
                   "attempts": 1, "attempt": 1, "received_at": at, "started_at": at + 5, "ended_at": at + 10 + i % 100, "output_run": "",
                   "prefix": os.urandom(16).hex(), "group_n": 1, "app": "app", "step": "app", "outcome": "ok", "exit_code": 0, "signal": -1,
                   "node": "n", "forced": 0, "wall_s": 0.005, "cpu_s": 0.001, "max_rss": 1000000, "output_dropped": 0, "n_files": 1, "pruned": 1}
            yield [row.get(c) for c in columns[table]]
    db.execute("PRAGMA synchronous=OFF")
    for table in ("files", "runs"):
        db.executemany(f"INSERT INTO {table} VALUES({','.join('?' * len(columns[table]))})", rows(table))
    db.commit()
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    seal(pathlib.Path(path))


def spawn_alone(base, n):
    fifo = pathlib.Path(base) / f"alone{time.monotonic_ns()}"
    os.mkfifo(fifo)
    _, out = run([BENCH / "spawn", n, BENCH / "stamp", fifo])
    return json.loads(out)


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p))]


def private_kb(pid):
    text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
    return sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Private_"))


def children(pid):
    return [int(p) for p in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def parent(pid):
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


# ---- the lines ----

def dispatch(base, quick, rounds, report, note):
    home = Home(base)
    n = 20 if quick else 60
    for i in range(rounds):
        alone = spawn_alone(base, 100)
        note("spawn p50 us", alone["p50_us"])
        for k in range(n):
            pause(0.05)
            note("dispatch us", home.close_one(f"d{i}-{k}"))
    home.stop()
    return n


def short_runs(base, quick, rounds, report, note):
    home = Home(base)
    n = 300 if quick else 1000
    home.burst(n, "warm")
    for i in range(rounds):
        note("spawns/s", spawn_alone(base, 300)["per_s"])
        note("runs/s", n / home.burst(n, f"s{i}-"))
    home.stop()


def walls(base, quick, rounds, report, note):
    """What isolation = "full" costs, beside "basic" in the same home at the same time."""
    home = Home(base, tenants=1)
    home.tenant("t1", f'"{home.fifo.path}"', profile="basic")
    for name in ("p0", "p1"):
        home.tenant(name, f'"{home.fifo.path}", "pause"', profile="small" if name == "p0" else "basic")
    home.cli("reload")
    kinds = (("full", "0"), ("basic", "1"))
    for i in range(rounds):
        for k in range(20 if quick else 60):
            for kind, t in kinds:
                pause(0.05)
                note(f"dispatch {kind} us", home.close_one(f"w{i}-{k}", f"t{t}"))
        for kind, t in kinds:
            n = 300 if quick else 1000
            note(f"runs/s {kind}", n / home.burst(n, f"b{i}-", (f"t{t}",)))
    for kind, t in kinds:
        for i in range(8):
            home.close_one(f"p{i}", f"p{t}")
    pause(0.3)
    apps = [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and str(home.stamp) in read_cmdline(p)]
    for app in apps:
        above = parent(app)
        isolated = pathlib.Path(f"/proc/{above}/comm").read_text() == "simbdp-init\n"
        note(f"a run's platform processes {'full' if isolated else 'basic'} kB", private_kb(above) + (private_kb(parent(above)) if isolated else 0))
    for line in home.cli("runs", "--state", "running", "--json").splitlines():
        home.cli("stop", json.loads(line)["run_id"])
    home.stop()


def restart_of(start, fifo, stop):
    """Starts a supervisor, lets its service live for longer than any of them calls a start, kills it; ms until it runs again."""
    process = start()
    _, pid = fifo.next()
    pause(1.3)
    began = time.monotonic_ns()
    os.kill(pid, signal.SIGKILL)
    ms = (fifo.next()[0] - began) / 1e6
    memory = private_kb(process.pid)
    stop(process)
    return ms, memory


def end(process):
    process.terminate()
    process.wait()


def restarts(base, quick, rounds, report, note):
    d = pathlib.Path(tempfile.mkdtemp(dir=base))
    fifo = Fifo(d / "fifo")
    env = {**os.environ, "STAMP_FIFO": str(fifo.path), "MONGO_URL": "mongodb://127.0.0.1:1/", "MYSIMBDP_HOME": str(d / "home")}
    programs = d / "bin"  # `up` with the stamp in batchmgr's place
    programs.mkdir()
    shutil.copy(BUILD / "mysimbdp", programs)
    shutil.copy(BENCH / "stamp", programs / "batchmgr")
    subprocess.run([programs / "mysimbdp", "init", d / "home"], env=env, check=True, stdout=subprocess.DEVNULL)
    service = d / "service"
    service.mkdir()
    shutil.copy(BENCH / "stamp", service / "run")
    conf = d / "supervisord.conf"
    conf.write_text(f"[supervisord]\nnodaemon=true\nlogfile={d}/log\npidfile={d}/pid\nchildlogdir={d}\n[program:x]\ncommand={service}/run\nstartsecs=1\n")

    def starter(*argv):
        return lambda: subprocess.Popen([str(a) for a in argv], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def stop_up(p):
        p.kill()
        p.wait()
        for line in subprocess.run(["pgrep", "-f", str(programs / "batchmgr")], capture_output=True, text=True).stdout.split():
            os.kill(int(line), signal.SIGKILL)
    for _ in range(rounds):
        note("up restart ms", restart_of(starter(programs / "mysimbdp", "up"), fifo, stop_up)[0])
        if shutil.which("s6-supervise"):
            ms, kb = restart_of(starter("s6-supervise", service), fifo, lambda p: (subprocess.run(["s6-svc", "-xd", service]), p.wait()))
            note("s6 restart ms", ms)
            note("s6-supervise private kB", kb)
    if shutil.which("supervisord"):
        ms, kb = restart_of(starter("supervisord", "-c", conf), fifo, end)
        note("supervisord restart ms", ms)
        note("supervisord private kB", kb)


def instances(base, quick, rounds, report, note):
    """First restarts of stream apps' instances, each of an app of its own; what 200 instances take. Not isolated: pids are the host's then."""
    n_apps, n = (5, 50) if quick else (20, 200)
    home = Home(base, tenants=1, cpus=0.001)

    def app(name, count):
        return (f'{{ app = "{name}"; stream = "e"; exec = "{home.stamp}"; args = ("{home.fifo.path}", "pause"); profile = "basic"; '
                f'min_instances = {count}; max_instances = {count}; }}')

    def configure(*apps):
        (home.path / "conf/tenants/s.conf").write_text(f'streams = ( {{ name = "e"; }} );\nstream_apps = ( {", ".join(apps)} );\n')
        home.cli("reload")
    configure(*[app(f"a{i}", 1) for i in range(n_apps)])
    pids = [home.fifo.next()[1] for _ in range(n_apps)]
    pause(1.3)
    for pid in pids:
        began = time.monotonic_ns()
        os.kill(pid, signal.SIGKILL)
        note("instance restart ms", (home.fifo.next()[0] - began) / 1e6)
        pause(0.1)
    configure(app("many", n))
    began = time.monotonic()
    pids = [home.fifo.next()[1] for _ in range(n)]
    note("instances/s started", n / (time.monotonic() - began))
    pause(0.5)  # until they have settled
    for pid in pids:
        note("instance runner private kB", private_kb(parent(pid)))
    (manager,) = [p for p in children(home.process.pid) if "streammgr" in read_cmdline(pathlib.Path(f"/proc/{p}"))]
    note("streammgr private kB", private_kb(manager))
    home.stop()
    return n


def memory(base, quick, rounds, report, note):
    home = Home(base, tenants=1, args=', "pause"', concurrency=100, cpus=0.01, profile="basic")  # what `walls` has above it
    n = 20
    for i in range(n):
        home.close_one(f"m{i}")
    pause(0.3)  # until they have settled
    runs = [json.loads(line)["run_id"] for line in home.cli("runs", "--state", "running", "--json").splitlines()]
    apps = [int(p.name) for p in pathlib.Path("/proc").iterdir() if p.name.isdigit() and str(home.stamp) in read_cmdline(p)]
    for app in apps:
        note("runner private kB", private_kb(parent(app)))
    for r in runs:
        home.cli("stop", r)
    home.stop()


def read_cmdline(p):
    try:
        return (p / "cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
    except OSError:
        return ""


def quiet(base, quick, rounds, report, note):
    """A tenant of 10,000 failing slow files beside one that delivers a file now and then."""
    home = Home(base, tenants=1, cpus=1, concurrency=4)
    other = Fifo(home.base / "other")
    home.tenant("flood", f'"{other.path}", "fail", "200"', 4)
    home.cli("reload")
    n, flood = (15, 2000) if quick else (40, 10000)

    def waits(prefix):
        found = []
        for k in range(n):
            pause(0.1)
            found.append(home.close_one(f"{prefix}{k}"))
        return found
    note_all = [note("quiet alone us", w) for w in waits("alone")]
    d = home.path / "staging/flood/data"
    for i in range(flood):
        (d / f".f{i}").write_text(f"a,b\nf{i},x\n")
    for i in range(flood):
        os.rename(d / f".f{i}", d / f"f{i}.csv")
    for w in waits("during"):  # while they are taken in
        note("quiet during intake us", w)
    while home.status()["inspecting"] > 2:
        pause(0.1)
    for w in waits("under"):
        note("quiet under flood us", w)
    home.process.kill()
    home.process.wait()
    subprocess.run(["pkill", "-9", "-f", str(home.base)])
    return note_all


def growth(base, quick, rounds, report, note):
    n = 300
    rows = 100000 if quick else 1000000
    small, many, old = Home(base, tenants=10), Home(base, tenants=1000), Home(base, tenants=10, rows=rows)
    for home in (small, many, old):
        home.burst(n, "warm")
    for i in range(rounds):
        for name, home in (("10 tenants", small), ("1,000 tenants", many), (f"{rows:,} rows", old)):
            note(f"ms a run, {name}", home.burst(n, f"g{i}-") * 1000 / n)
        for name, home in (("10 tenants", small), (f"{rows:,} rows", old)):
            began = time.monotonic()
            for _ in range(10):
                home.cli("files", "--tenant", "t0")
            note(f"ms a listing, {name}", (time.monotonic() - began) * 100)
    for name, home in (("10 tenants", small), ("1,000 tenants", many), (f"{rows:,} rows", old)):
        (pid,) = [p for p in children(home.process.pid) if "batchmgr" in read_cmdline(pathlib.Path(f"/proc/{p}"))]
        note(f"batchmgr private kB, {name}", private_kb(pid))
        home.stop()
    return rows


def bench_run(quick, rounds, report, only):
    found = {}

    def note(name, value):
        found.setdefault(name, []).append(value)
    lines = [f for f in (dispatch, short_runs, walls, restarts, instances, memory, quiet, growth) if only in f.__name__]
    rows = n_instances = 0
    with tempfile.TemporaryDirectory(prefix="simbdp-bench-") as base:
        os.chmod(base, 0o755)
        for line in lines:
            result = line(base, quick, rounds, report, note)
            rows = result if line is growth else rows
            n_instances = result if line is instances else n_instances
    m = {k: statistics.median(v) for k, v in found.items()}
    if dispatch in lines:
        report("dispatch_p50", "file closed -> app's main, p50 against posix_spawn alone", m["dispatch us"] / m["spawn p50 us"], 3,
               f"{m['dispatch us'] / 1000:.2f} ms; spawn alone {m['spawn p50 us'] / 1000:.2f} ms", at_most=True)
        report("dispatch_p99", "the same, p99 in ms when idle", percentile(found["dispatch us"], 0.99) / 1000, 10, "", at_most=True)
    if short_runs in lines:
        report("short_runs", "short runs, against spawning one after the other", m["runs/s"] / m["spawns/s"], 0.5,
               f"{m['runs/s']:,.0f} runs/s, ledger durable; {m['spawns/s']:,.0f} spawns/s")
    if walls in lines:
        full, basic = m["dispatch full us"] / 1000, m["dispatch basic us"] / 1000
        report("walls_dispatch", 'dispatch p50 with isolation = "full" above "basic", ms', full - basic, 1, f"{full:.2f} ms; {basic:.2f} ms; p99 "
               f"{percentile(found['dispatch full us'], 0.99) / 1000:.1f} and {percentile(found['dispatch basic us'], 0.99) / 1000:.1f} ms", at_most=True)
        report("walls_runs", "short isolated runs a second", m["runs/s full"], 300, f"basic {m['runs/s basic']:,.0f}")
        full, basic = (m[f"a run's platform processes {kind} kB"] for kind in ("full", "basic"))
        report("walls_memory", "private kB of a run's init above a runner alone", full - basic, 100, f"{full:.0f} kB; {basic:.0f} kB", at_most=True)
    if "s6 restart ms" in m:
        peer = f"; supervisord {m['supervisord restart ms']:.0f} ms" if "supervisord restart ms" in m else ""
        # Debian 12's s6-supervise lets a second pass after every death; the figure of docs/targets.md is from one that did not.
        report("restart", "crash -> running again, against s6-supervise at its best", m["up restart ms"] / min(m["s6 restart ms"], S6_BEST_MS), 2,
               f"{m['up restart ms']:.2f} ms; s6 {m['s6 restart ms']:.0f} ms here, {S6_BEST_MS} ms in docs/targets.md{peer}", at_most=True)
    elif restarts in lines:
        print(f"        crash -> running again: {m['up restart ms']:.2f} ms (no s6 here to compare with)")
    if instances in lines:
        s6 = m.get("s6 restart ms")
        if s6:
            report("instance_restart", "an instance killed -> running again, against s6-supervise in this run", m["instance restart ms"] / s6, 2,
                   f"{m['instance restart ms']:.2f} ms (p99 {percentile(found['instance restart ms'], 0.99):.2f}); s6 {s6:.0f} ms here, {S6_BEST_MS} ms at its best", at_most=True)
        else:
            print(f"        an instance killed -> running again: {m['instance restart ms']:.2f} ms (no s6 here to compare with)")
        report("instance_memory", f"memory of a runner with {n_instances} instances, private kB", m["instance runner private kB"], 64,
               f"streammgr {m['streammgr private kB']:,.0f} kB; {m['instances/s started']:.0f} started a second", at_most=True)
    if memory in lines:
        peers = "".join(f"; {k[:-len(' private kB')]} {m[k]:.0f} kB" for k in ("s6-supervise private kB", "supervisord private kB") if k in m)
        report("memory", "memory of a runner, private kB", m["runner private kB"], 64, peers[2:], at_most=True)
    if quiet in lines:
        report("quiet", "a quiet tenant's wait under a flood, against alone", m["quiet under flood us"] / m["quiet alone us"], 2,
               f"{m['quiet under flood us'] / 1000:.2f} ms, {m['quiet during intake us'] / 1000:.2f} ms while the flood is taken in; alone "
               f"{m['quiet alone us'] / 1000:.2f} ms", at_most=True)
    if growth in lines:
        few, many, old = (m[f"ms a run, {k}"] for k in ("10 tenants", "1,000 tenants", f"{rows:,} rows"))
        report("growth_tenants", "cost of a run with 1,000 tenants, against 10", many / few, 1.3, f"{few:.2f} -> {many:.2f} ms", at_most=True)
        report("growth_rows", f"cost of a run with {rows:,} ledger rows, against none", old / few, 1.3, f"{few:.2f} -> {old:.2f} ms", at_most=True)
        a, b = m["ms a listing, 10 tenants"], m[f"ms a listing, {rows:,} rows"]
        report("growth_listing", "cost of a listing, the same", b / a, 1.3, f"{a:.1f} -> {b:.1f} ms", at_most=True)
        a, b = m["batchmgr private kB, 10 tenants"], m[f"batchmgr private kB, {rows:,} rows"]
        report("growth_memory", "batchmgr's memory, the same", b / a, 1.3,
               f"{a:,.0f} -> {b:,.0f} kB; 1,000 tenants {m['batchmgr private kB, 1,000 tenants']:,.0f} kB", at_most=True)
    return found
