"""Drives tests/fault/badfs/: a file system under a home that fails on order, and whose power is cut at a sync that is chosen."""
import contextlib
import mmap
import os
import pathlib
import shlex
import shutil
import signal
import struct
import subprocess
import uuid

import pytest
from harness import LIBC, ROOT, temp_dir, until

LAYOUT = "<qqqiiiiqqqq256s"  # struct control
READS, WRITES, SYNCS = 1, 2, 4
FIELDS = ("n_syncs", "cut_at", "keep_seed", "after", "journal", "fails", "is_cut", "n_failed", "fail_times", "evict", "fail_skip")


def build(directory):
    """badfs, or a skip where it cannot be."""
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False)
    if flags.returncode:
        pytest.skip("this host does not let us: there is no libfuse3-dev")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this host does not let us: there is no /dev/fuse")
    program = pathlib.Path(directory) / "badfs"
    sources = sorted((ROOT / "tests/fault/badfs").glob("*.c"))
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-D_GNU_SOURCE", "-o", program, *sources, *shlex.split(flags.stdout)], check=True)
    return program


class BadDisk:
    """Mounted over a directory, with what was in it."""

    def __init__(self, program, over, **how):
        self.program, self.over = program, pathlib.Path(over)
        self.dir = temp_dir()
        self.file = self.dir / "control"
        self.file.write_bytes(bytes(struct.calcsize(LAYOUT)))
        with self.file.open("r+b") as f:
            self.control = mmap.mmap(f.fileno(), 0)
        self.boot = self.dir / "boot_id"
        self.log = open(self.dir / "badfs.err", "w", encoding="utf-8")
        self.generation = 0
        self.live = self.dir / "live"
        subprocess.run(["cp", "-a", str(self.over), str(self.live)], check=True)
        self.mount(**how)

    def mount(self, **how):
        self.boot.write_text(f"{uuid.uuid4()}\n")
        self.set(**{**dict.fromkeys(FIELDS, 0), "journal": self.get("journal"), "fail_times": -1, "under": "", **how})
        self.durable = self.dir / f"durable{self.generation}"
        self.durable.mkdir()
        self.generation += 1
        self.process = subprocess.Popen([self.program, self.file, self.live, self.durable, self.over, "-f", "-o", "allow_other,default_permissions,suid,dev"],
                                        stderr=self.log, start_new_session=True)
        until(lambda: self.process.poll() is not None or os.path.ismount(self.over), every=0.02, what="the mount")
        if self.process.poll() is not None:
            pytest.skip(f"this host does not let us mount: {self.said()}")

    def said(self):
        return (self.dir / "badfs.err").read_text()

    def get(self, field):
        return dict(zip(FIELDS, struct.unpack_from(LAYOUT, self.control)))[field]

    def set(self, under=None, **fields):
        for field, value in fields.items():
            i = FIELDS.index(field)
            struct.pack_into("<" + LAYOUT[1 + i], self.control, struct.calcsize("<" + LAYOUT[1:1 + i]), value)
        if under is not None:
            struct.pack_into("256s", self.control, struct.calcsize(LAYOUT[:-4]), under.encode())

    @contextlib.contextmanager
    def failing(self, what, under="", times=-1):
        self.set(under=under, fail_times=times, fails=what)
        yield
        self.set(fails=0)

    def each_failing(self, what, act, n):
        """What `act` gave each time, with another of its reads, writes or syncs failing: n of all of them, and the last two."""
        self.set(fail_skip=1 << 40)
        with self.failing(what, times=1):
            act()
        of = (1 << 40) - self.get("fail_skip")
        for skip in sorted({of * i // n for i in range(n)} | {max(0, of - 2), of - 1}):
            self.set(fail_skip=skip, n_failed=0)
            with self.failing(what, times=1):
                r = act()
            self.set(fail_skip=0)
            yield r

    def is_cut(self):
        return self.process.poll() is not None

    def wait_cut(self):
        until(self.is_cut, every=0.02, what="the cut")

    def cut_now(self):
        """At the next flush, which is ours."""
        self.set(cut_at=self.get("n_syncs") + 1)
        with contextlib.suppress(OSError):
            fd = os.open(self.over, os.O_RDONLY)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
        self.wait_cut()

    def as_another_boot(self):
        """What a command begins with whose host was started anew when the power came back."""
        return ["unshare", "--mount", "--propagation", "slave", "sh", "-c", 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"', str(self.boot)]

    def unmount(self):
        """What it was mounted over is as it was before; `self.live` has what programs saw."""
        LIBC.umount2(os.fsencode(self.over), 2)  # MNT_DETACH
        self.process.kill()
        self.process.wait()

    def power_back(self, **how):
        """After a cut, and nothing of the home runs any more: what is durable is what there is, and the host was started anew."""
        assert self.is_cut() and self.get("is_cut"), self.said()
        self.unmount()
        shutil.rmtree(self.live)
        shutil.rmtree(self.durable / "made")  # second names of what is in it
        self.live = self.durable / "after"
        self.mount(**how)

    def remove(self):
        """What programs saw last stays in the directory it was mounted over."""
        self.unmount()
        self.log.close()
        self.control.close()
        for p in self.over.iterdir():
            subprocess.run(["rm", "-rf", str(p)], check=True)
        subprocess.run(["cp", "-a", f"{self.live}/.", str(self.over)], check=False)
        subprocess.run(["rm", "-rf", str(self.dir)], check=True)


def processes_of(home):
    """All of it: by their arguments, their environment, or the cgroup they are in."""
    found = set()
    for p in pathlib.Path("/proc").iterdir():
        if not p.name.isdigit() or int(p.name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            if bytes(home.path) in (p / "cmdline").read_bytes() + (p / "environ").read_bytes() and b"badfs" not in (p / "cmdline").read_bytes():
                found.add(int(p.name))
    for group in home.cgroups():
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (group / "cgroup.procs").read_text().split()}
    return found


def power_off(home):
    """The host is off: no process of the home is left, nor what lay in its memory."""
    def none():
        found = processes_of(home)
        for pid in found:
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        return not found
    for process in (home.up_process, home.broker_process):
        if process:
            process.kill()
            process.wait()
            if process.stdout:
                process.stdout.close()
    home.up_process = home.broker_process = None
    until(none, every=0.02, what="the end of all processes")
    for group in home.cgroups():
        with contextlib.suppress(OSError):
            group.rmdir()
    if home.endpoint:
        shutil.rmtree(home.runtime(), ignore_errors=True)


# ---- cuts

FLUSHES = 20  # about as many as the longest of what is cut at each of its flushes has


def how_often(few, many):
    """Cuts: many of them where there is time."""
    return pytest.mark.parametrize("n", [few, pytest.param(many, marks=pytest.mark.soak)])


def cuts(disk, n, flushes=FLUSHES):
    """Power that goes at each of the next flushes, or at some of them, and comes back; sometimes nothing is left of what was not synced, and
    sometimes names are as ext4 keeps them, sometimes as POSIX says at least."""
    for i in range(n):
        at = 1 + (i % flushes if n >= flushes else i * flushes // n)
        disk.set(cut_at=disk.get("n_syncs") + at, after=i % 2, keep_seed=i * (i % 3 > 0), journal=i // 2 % 2)
        yield i


def until_cut(disk, act):
    """What `act` gave, each time that it was well, until the power goes."""
    done, tries = [], 0
    while not disk.is_cut():
        r = act(len(done))
        tries += 1
        if r is not None:
            done.append(r)
        assert tries < len(done) + 20, "nothing is done, and there is power"
    return done
