"""Drives tests/fault/badfs.c: a file system under a home that fails on order, and whose power is cut at a sync that is chosen."""
import mmap
import os
import pathlib
import shlex
import struct
import subprocess

import pytest
from harness import LIBC, ROOT, temp_dir, until

LAYOUT = "<qqqiiiiq256s"  # struct control
READS, WRITES, SYNCS = 1, 2, 4
FIELDS = ("n_syncs", "cut_at", "keep_seed", "after", "ordered", "fails", "is_cut", "n_failed")


def build(directory):
    """badfs, or a skip where it cannot be."""
    flags = subprocess.run(["pkg-config", "--cflags", "--libs", "fuse3"], capture_output=True, text=True, check=False)
    if flags.returncode:
        pytest.skip("this host does not let us: there is no libfuse3-dev")
    if not os.path.exists("/dev/fuse"):
        pytest.skip("this host does not let us: there is no /dev/fuse")
    program = pathlib.Path(directory) / "badfs"
    subprocess.run(["cc", "-O1", "-g", "-Wall", "-D_GNU_SOURCE", "-o", program, ROOT / "tests/fault/badfs.c", *shlex.split(flags.stdout)], check=True)
    return program


class BadDisk:
    """Mounted over a directory, with what was in it."""

    def __init__(self, program, over, **how):
        self.over = pathlib.Path(over)
        self.dir = temp_dir()
        self.file = self.dir / "control"
        self.file.write_bytes(bytes(struct.calcsize(LAYOUT)))
        with self.file.open("r+b") as f:
            self.control = mmap.mmap(f.fileno(), 0)
        self.set(**how)
        self.live, durable = self.dir / "live", self.dir / "durable"
        durable.mkdir()
        subprocess.run(["cp", "-a", str(self.over), str(self.live)], check=True)
        self.log = open(self.dir / "badfs.err", "w", encoding="utf-8")
        self.process = subprocess.Popen([program, self.file, self.live, durable, self.over, "-f", "-o", "allow_other,default_permissions,suid,dev"], stderr=self.log)
        until(lambda: self.process.poll() is not None or os.path.ismount(self.over), every=0.02, what="the mount")
        if self.process.poll() is not None:
            pytest.skip(f"this host does not let us mount: {(self.dir / 'badfs.err').read_text()}")

    def get(self, field):
        values = dict(zip(FIELDS, struct.unpack_from(LAYOUT, self.control)))
        return values[field]

    def set(self, under=None, **fields):
        for field, value in fields.items():
            i = FIELDS.index(field)
            struct.pack_into("<" + LAYOUT[1 + i], self.control, struct.calcsize("<" + LAYOUT[1:1 + i]), value)
        if under is not None:
            struct.pack_into("256s", self.control, struct.calcsize(LAYOUT[:-4]), under.encode())

    def is_cut(self):
        return self.process.poll() is not None

    def unmount(self):
        """What it was mounted over is as it was before; `self.live` has what programs saw."""
        LIBC.umount2(os.fsencode(self.over), 2)  # MNT_DETACH
        self.process.kill()
        self.process.wait()
        self.log.close()

    def power_back(self):
        """After a cut, and nothing of the home runs any more: what is durable is in the place of what there was."""
        assert self.is_cut() and self.get("is_cut"), (self.dir / "badfs.err").read_text()
        self.unmount()
        subprocess.run(["rm", "-rf", *map(str, self.over.iterdir())], check=True)
        subprocess.run(["cp", "-a", f"{self.dir}/durable/after/.", str(self.over)], check=True)

    def remove(self):
        if self.process.poll() is None or os.path.ismount(self.over):
            self.unmount()
        self.control.close()
        subprocess.run(["rm", "-rf", str(self.dir)], check=True)
