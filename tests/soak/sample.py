"""What programs take: memory, descriptors and threads, looked at while they run, and whether it grows."""
import os
import pathlib
import subprocess
import threading
import time

# Named as a person would; where several run under one name, the word after it tells them apart.
LONG = ("java", "broker", "monitor", "streammgr", "batchmgr", "gateway", "desk", "simbdp-keeper", "simbdp-warden", "simbdp-run --spawn", "mysimbdp up")
DIRECTORIES = ("logs", "runs", "work", "staging", "quarantine", "state/broker", "state/mongo", "state/ledger.db", "state/streams.db", "state/accounts.db", "state/configurations", "done")


def program_of(argv):
    name = os.path.basename(argv[0])
    if name in ("simbdp-keeper", "simbdp-warden", "mysimbdp") and len(argv) > 1:
        return f"{name} {argv[1]}"
    if name == "simbdp-run" and "--spawn" in argv:
        return "simbdp-run --spawn"
    return "MongoDB" if name == "java" else name


def look(home):
    """[(program, pid, memory in KiB, descriptors, threads)] of a home's processes."""
    found = []
    for p in pathlib.Path("/proc").iterdir():
        if not p.name.isdigit():
            continue
        try:
            argv = (p / "cmdline").read_bytes().decode(errors="replace").split("\0")
            mine = str(home.path) in argv or (argv[0].endswith("/mysimbdp") and home.up_process and int(p.name) == home.up_process.pid)
            if not mine or not argv[0].startswith(("/usr/bin/java", str(home.programs))):
                continue
            status = dict(line.split(":", 1) for line in (p / "status").read_text().splitlines())
            anon = int(status["RssAnon"].split()[0]) + int(status["RssShmem"].split()[0])
            program = program_of(argv)
            if program == "simbdp-run --spawn" and (pathlib.Path(f"/proc/{int(status['PPid'])}/comm").read_text() != "simbdp-warden\n"):
                continue  # a runner that was made just now, which has its command line at first
            found.append((program, int(p.name), anon, len(os.listdir(p / "fd")), int(status["Threads"])))
        except (OSError, KeyError, IndexError):
            continue
    return found


def disk(home):
    """Bytes by directory (of a database: with its -wal)."""
    taken = {}
    for name in DIRECTORIES:
        paths = [str(p) for p in ([home.path / name] if (home.path / name).is_dir() else (home.path / name).parent.glob(f"{(home.path / name).name}*"))]
        out = subprocess.run(["du", "-scB1", *paths], capture_output=True, text=True, check=False).stdout.split()
        taken[name] = int(out[-2]) if len(out) > 1 else 0
    return taken


class Sampler(threading.Thread):
    def __init__(self, home, every):
        super().__init__(daemon=True)
        self.home, self.every, self.began = home, every, time.monotonic()
        self.part, self.samples, self.over = "", [], threading.Event()

    def run(self):
        while not self.over.wait(self.every):
            self.take()

    def take(self):
        at = time.monotonic() - self.began
        self.samples += [(round(at, 1), self.part, *row) for row in look(self.home)]

    def stop(self):
        self.over.set()
        self.join()


def slope(points):
    """(growth of y by x, its standard error) by least squares."""
    n = len(points)
    mx, my = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    sxx = sum((x - mx) ** 2 for x, _ in points)
    if n < 3 or sxx == 0:
        return 0.0, float("inf")
    b = sum((x - mx) * (y - my) for x, y in points) / sxx
    rest = sum((y - my - b * (x - mx)) ** 2 for x, y in points)
    return b, (rest / (n - 2) / sxx) ** 0.5


def floors(points, n):
    """The least of each of n equal spans of time: what a program has when it has nothing to do."""
    first, last = points[0][0], points[-1][0]
    width = (last - first) / n or 1
    spans = {}
    for x, y in points:
        at = min(int((x - first) / width), n - 1)
        if at not in spans or y < spans[at][1]:
            spans[at] = (first + (at + 0.5) * width, y)
    return list(spans.values())


def growth(samples, part, warm_share=1 / 3, spans=10):
    """By program, of the process that was there for the whole of a part: growth an hour of each figure, after its warm-up."""
    lives = {}
    for at, where, program, pid, *figures in samples:
        if where == part:
            lives.setdefault((program, pid), []).append((at, figures))
    if not lives:
        return {}
    whole = max(v[-1][0] for v in lives.values()) - min(v[0][0] for v in lives.values())
    grown = {}
    for (program, pid), seen in sorted(lives.items()):
        if seen[-1][0] - seen[0][0] < 0.9 * whole or len(seen) < 8:
            continue
        after = [s for s in seen if s[0] >= seen[0][0] + warm_share * whole]
        row = {"pid": pid, "samples": len(after), "seconds": round(after[-1][0] - after[0][0])}
        for i, name in enumerate(("memory_kib", "descriptors", "threads")):
            points = [(at, figures[i]) for at, figures in after]
            b, se = slope(floors(points, spans))
            row[name] = {"first": seen[0][1][i], "warm": after[0][1][i], "last": seen[-1][1][i], "most": max(f[i] for _, f in seen), "per_hour": round(b * 3600, 2),
                         "error_per_hour": None if se == float("inf") else round(se * 3600, 2)}
        if program not in grown or row["memory_kib"]["per_hour"] > grown[program]["memory_kib"]["per_hour"]:
            grown[program] = row  # of several of a name: the one that grows most
    return grown
