"""What happens to a platform in a soak, chosen by a seed: programs are killed, configurations changed, versions taken up, the calendar leaps."""
import contextlib
import os
import random
import shutil
import signal
import struct
import subprocess
import time

from harness import RELEASE, ROOT, until
from sample import look

DAY = 86400
LEAPS = [60, -60, 900, -900, 3 * 3600, -3 * 3600, 40 * DAY, -40 * DAY]
# What a person or a host does while the platform's own programs live on; and what is added when they do not.
STEADY = {"kill_run": 6, "kill_app": 4, "reload": 3, "reload_refused": 1, "clock": 2}
KILLS = {**STEADY, "kill_program": 12, "upgrade": 1.5, "kill_up": 0.7, "restart": 0.7}


class Chaos:
    def __init__(self, home, fleet, seed, copies):
        self.home, self.fleet, self.copies = home, fleet, copies
        self.rng = random.Random(f"{seed}/chaos")
        self.done, self.broken, self.counts = [], [], {}
        self.shift = home.base / "shift"
        self.shift.write_bytes(bytes(8))
        library = home.base / "leap.so"
        subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", library, ROOT / "tests/fault/leap.c", "-ldl"], check=True)
        for p in (self.shift, library):
            p.chmod(0o755)
        self.env = {"LD_PRELOAD": str(library), "SIMBDP_TEST_LEAP": str(self.shift)}
        self.build, self.began = 0, time.monotonic()

    def leap(self, seconds):
        with self.shift.open("r+b") as f:
            f.write(struct.pack("<q", seconds))

    def note(self, what, detail=""):
        self.counts[what] = self.counts.get(what, 0) + 1
        self.done.append((round(time.monotonic() - self.began, 1), what, detail))

    def act(self, part):
        """One thing."""
        weights = KILLS if part == "kills" else STEADY
        what = self.rng.choices(list(weights), list(weights.values()))[0]
        try:
            detail = getattr(self, what)()
        except (OSError, AssertionError, subprocess.SubprocessError) as e:
            self.broken.append(f"{what}: {e}"[:2000])
            detail = "failed"
        self.note(what, detail)
        if self.home.up_process.poll() is not None:
            self.broken.append(f"`up` ended by itself with {self.home.up_process.returncode} after {what} {detail}")
            self.home.up_process.stdout.close()
            self.home.up(**self.env)

    def kill_one(self, pids):
        if not pids:
            return "nobody"
        pid = self.rng.choice(sorted(pids))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        return str(pid)

    def kill_run(self):
        """Of the platform's own children: a runner, a loader, an inspector."""
        kind = self.rng.choice(["simbdp-run", "simbdp-run", "simbdp-load", "simbdp-inspect"])
        spawners = set(self.home.pids("simbdp-run", "--spawn"))
        return f"{kind} {self.kill_one(set(self.home.pids(kind)) - spawners)}"

    def kill_app(self):
        """A tenant's process: one below a runner that is none of ours."""
        runs = [r["run_id"] for r in self.rows("runs", "--state", "running")]
        return self.kill_one(self.home.marked(self.rng.choice(sorted(runs)))) if runs else "nobody"

    def rows(self, *args):
        """Nothing where nobody answers just now."""
        try:
            return self.home.rows(*args)
        except AssertionError:
            return []

    def kill_program(self):
        programs = {}
        for program, pid, *_ in look(self.home):
            if not program.startswith(("simbdp-run", "simbdp-load", "simbdp-inspect", "simbdp-pipe", "mysimbdp")) or program == "simbdp-run --spawn":
                programs.setdefault("simbdp-keeper" if program.startswith("simbdp-keeper") else program, []).append(pid)
        program = self.rng.choice(sorted(programs))
        return f"{program} {self.kill_one(programs[program])}"

    def kill_up(self):
        """And somebody starts it again."""
        self.home.up_process.kill()
        self.home.up_process.wait()
        self.home.up_process.stdout.close()
        self.home.up(**self.env)
        return ""

    def restart(self):
        """Down and up, with the runs going."""
        self.insist("down", "--leave-runs")
        self.home.up_process.wait(timeout=120)
        self.home.up_process.stdout.close()
        self.home.up(**self.env)
        return ""

    def upgrade(self):
        """To the other of two copies of the programs, which are put in the place of those that run as a package does it."""
        self.build = 1 - self.build
        for source in self.copies[self.build].iterdir():
            new = self.home.programs / f".{source.name}.new"
            shutil.copy2(source, new)
            new.rename(self.home.programs / source.name)
        self.insist("upgrade")
        return "AB"[self.build]

    def insist(self, *args, words=()):
        """Said again while somebody who was killed is not back. A repeated order whose first answer was lost may say (`words`) that it is so already."""
        said = []

        def done():
            r = self.home.cli(*args, check=False, timeout=300)
            again = bool(said)
            said.append(f"{r.returncode} {r.stdout}{r.stderr}")
            return r.returncode == 0 or (again and any(w in said[-1] for w in words))
        until(done, self.home.base, timeout=120, every=1, what=lambda: f"{args}: {said[-1]}")

    def reload(self):
        t = self.rng.choice(self.fleet.tenants)
        t.concurrency, t.weight, t.lease_ms = self.rng.randint(1, 4), self.rng.randint(1, 5), self.rng.choice([5000, 10000, 20000])
        self.fleet.write(t)
        self.insist("reload")
        return t.name

    def reload_refused(self):
        t = self.rng.choice(self.fleet.tenants)
        path = self.home.path / f"conf/tenants/{t.name}.conf"
        kept = path.read_text()
        path.write_text(kept + "\nconcurency = 3;\n")
        try:
            r = self.home.cli("reload", check=False)
            assert r.returncode == 1 and "concurency" in r.stdout + r.stderr, f"a wrong configuration was not refused: {r}"
        finally:
            self.fleet.write(t)
        return t.name

    def clock(self):
        """There, or back."""
        seconds = self.rng.choice([0, *LEAPS])
        self.leap(seconds)
        return f"{seconds:+d}"


class Visitor:
    """A tenant that comes, delivers, is suspended and resumed, and goes with all that it had."""

    def __init__(self, chaos, number):
        self.chaos, self.home, self.name = chaos, chaos.home, f"v{number:03d}"
        self.rng = random.Random(f"{chaos.fleet.seed}/{self.name}")
        self.trouble = []

    def files(self):
        return {f["file_name"]: f["state"] for f in self.chaos.rows("files", "--tenant", self.name, "--limit", "0")}

    def wait(self, name, state, timeout=240):
        until(lambda: self.files().get(name) == state, self.home.path / "state", timeout=timeout, every=1, what=lambda: f"{self.name}: {name} to be {state}: {self.files()}")

    def staging(self):
        until(lambda: (self.home.path / f"staging/{self.name}/rows").is_dir(), self.home.path / "staging", timeout=120, what=f"the staging directory of {self.name}")

    def visit(self):
        try:
            conf = self.home.base / f"{self.name}.conf"
            conf.write_text('datasets = ( { name = "rows"; format = "csv"; } ); streams = ( { name = "events"; } );\n'
                            'batch = ( { app = "load"; exec = "builtin:load"; profile = "small"; retry = { attempts = 1000; backoff_ms = 50; max_backoff_ms = 1000; }; } );\n'
                            'stream_apps = ( { app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "rows"; profile = "consumer"; } );\n')
            self.chaos.insist("tenant", "add", self.name, "--from", conf, words=("already",))
            self.staging()
            self.home.drop("a.csv", f"f,i\n0,{self.rng.randint(0, 9)}\n", self.name, "rows")
            self.wait("a.csv", "ingested")
            self.chaos.insist("tenant", "suspend", self.name)
            self.home.drop("b.csv", f"f,i\n1,{self.rng.randint(0, 9)}\n", self.name, "rows")
            self.chaos.insist("tenant", "resume", self.name)
            self.wait("b.csv", "ingested")
            self.chaos.insist("tenant", "remove", self.name, "--purge", "--quiet", words=("no tenant", "unknown", "is not there"))
            left = [p for p in (self.home.path / "staging", self.home.path / "done", self.home.path / "apps", self.home.path / "conf/tenants")
                    if (p / self.name).exists() or (p / f"{self.name}.conf").exists()]
            assert not left, f"{self.name} was purged and has {left}"
        except (AssertionError, OSError, subprocess.SubprocessError) as e:
            self.trouble.append(f"{self.name}: {e}"[:2000])


def two_copies(home, other=None):
    """The programs as they are installed, twice: of two builds, or of one, the second time without symbols."""
    programs = [p for p in RELEASE.iterdir() if p.is_file() and os.access(p, os.X_OK) and p.read_bytes()[:4] == b"\x7fELF"]
    copies = [home.base / "a", home.base / "b"]
    for to in copies:
        to.mkdir()
    for p in programs:
        shutil.copy2(p, copies[0])
        shutil.copy2(other / p.name if other else p, copies[1])
        if not other:
            subprocess.run(["strip", copies[1] / p.name], check=True)
    to = home.base / "installed"
    shutil.copytree(copies[0], to)
    (to / "embedded-mongo").symlink_to(RELEASE / "embedded-mongo")
    home.programs = to
    return copies
