"""A disk that fails, or has no inode left, below each directory of a home and below all of it: nothing is lost, nothing is charged to
a file, and everything goes on by itself when the disk is well again."""
import errno
import json
import os
import shutil
import subprocess

import pytest
from harness import RELEASE, ROOT, until

N = 12
PLACES = ["work", "runs", ""]  # "": all of it


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    path = tmp_path_factory.mktemp("eio") / "eio.so"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", path, ROOT / "tests/fault/eio.c", "-ldl"], check=True)
    return path


class BadDisk:
    """Of a home below one directory (all of it: ""), for programs that are started with `env`."""

    def __init__(self, home, library, place, **more):
        self.switch = home.base / "eio"
        self.switch.write_text("0")
        self.switch.chmod(0o644)
        shutil.copy(library, home.base / "eio.so")
        home.programs = RELEASE  # sanitizers want to be loaded first
        self.env = {"LD_PRELOAD": str(home.base / "eio.so"), "EIO_WHEN": str(self.switch), "EIO_UNDER": f"{home.path / place}/".replace("//", "/"), **more}

    def fail(self, fails=True):
        with open(self.switch, "r+") as f:
            f.write("1" if fails else "0")


def deliver(home, n=N):
    """Files that need no inode any more to arrive: all but their names is there."""
    d = home.path / "staging/acme/data"
    for i in range(n):
        (d / f".w{i}").write_text(f"a,b\n{i},1\n")

    def arrive():
        for i in range(n):
            os.rename(d / f".w{i}", d / f"w{i}.csv")
    return arrive


def check_all(home, n=N):
    files = home.wait_files(n)
    assert {(f["state"], f["attempts"]) for f in files} == {("ingested", 1)} and len(files) == n, files
    assert home.count() == n


def put_on_tmpfs(home, place):
    kept = home.base / "kept"
    shutil.copytree(home.path / place, kept, symlinks=True)
    disk = home.mount_tmpfs(place, "256m")
    subprocess.run(["cp", "-a", f"{kept}/.", str(disk)], check=True)
    return disk


def exhaust_inodes(disk, leave=0):
    def full():
        st = os.statvfs(disk)
        return subprocess.run(["mount", "-o", f"remount,nr_inodes={st.f_files - st.f_ffree + leave}", str(disk)], stderr=subprocess.DEVNULL).returncode == 0
    until(full, disk, what="no inode to be left")


def give_inodes(disk):
    subprocess.run(["mount", "-o", "remount,nr_inodes=100000", str(disk)], check=True)


@pytest.mark.needs_root
@pytest.mark.parametrize("place", PLACES)
def test_no_inode_left(home, place):
    """Without a floor: what is tried fails, and is tried again."""
    disk = put_on_tmpfs(home, place)
    home.tenant()
    home.up()
    arrive = deliver(home)
    exhaust_inodes(disk)
    arrive()
    until(lambda: "No space left on device" in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="a word about it")
    give_inodes(disk)
    check_all(home)


@pytest.mark.needs_root
def test_intake_pauses_before_the_last_inode(home):
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("min_free_inodes = 0L", "min_free_inodes = 50L"))
    disk = put_on_tmpfs(home, "work")
    home.tenant()
    home.up()
    exhaust_inodes(disk, leave=49)
    until(lambda: home.control({"op": "status"})["intake"] == "paused: disk low", home.path / "logs", what="the pause")
    assert "49 inodes are free" in (home.path / "logs/batchmgr.log").read_text()
    doctor = {f["subject"]: f for f in [json.loads(line) for line in home.cli("doctor", "--json", check=False).stdout.splitlines()] if f["area"] == "files"}
    assert doctor["work"]["status"] == "failed" and "min_free_inodes is 50" in doctor["work"]["reason"]
    deliver(home)()
    up = home.base / "up.csv"
    up.write_text("a,b\n1,2\n")
    r = home.cli("upload", "acme", "data", up, check=False)
    assert r.returncode == 1 and "min_free_inodes" in r.stderr
    assert not home.files() and not list(disk.iterdir())
    give_inodes(disk)
    check_all(home)


@pytest.mark.needs_root
def test_a_disk_that_fails_on_writes(home, library):
    disk = BadDisk(home, library, "")
    home.tenant()
    home.up(**disk.env)
    arrive = deliver(home)
    disk.fail()
    arrive()
    until(lambda: home.control({"op": "status"})["intake"] == "paused: ledger", home.path / "state", what="the pause")
    assert not home.files()
    disk.fail(False)
    check_all(home)


class Loop:
    """A file system under a directory of the home, in an image whose blocks can be taken away and given back: reading is EIO then."""

    def __init__(self, home, place):
        self.image, path = home.base / "image", home.path / place
        mkfs, losetup = (shutil.which(name, path="/usr/sbin:/sbin") for name in ("mkfs.ext4", "losetup"))
        if not mkfs or not losetup:
            pytest.skip("no mkfs.ext4 or losetup")
        with open(self.image, "wb") as f:
            f.truncate(24 << 20)
        subprocess.run([mkfs, "-q", "-F", self.image], check=True)
        r = subprocess.run([losetup, "-f", "--show", self.image], capture_output=True, text=True)
        if r.returncode:
            pytest.skip(f"no loop device: {r.stderr.strip()}")
        self.device, mode = r.stdout.strip(), path.stat().st_mode & 0o7777
        try:
            subprocess.run(["mount", self.device, path], check=True)
        finally:
            subprocess.run([losetup, "-d", self.device], check=True)  # with the mount
        home.mounts.append(path)
        path.chmod(mode)
        (path / "lost+found").rmdir()

    def lose(self, path):
        """What the file has is not in memory any more, and not to be had."""
        subprocess.run(["sync", "-f", path], check=True)
        self.blocks = self.image.read_bytes()
        fd = os.open(path, os.O_RDONLY)
        os.truncate(self.image, 1 << 20)

        def lost():
            os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
            try:
                os.pread(fd, 1 << 20, 0)
            except OSError as e:
                return e.errno == errno.EIO
        until(lost, path.parent, what="a read to fail")
        os.close(fd)

    def find(self):
        with open(self.image, "r+b") as f:
            f.write(self.blocks)


BIG = "a,b\n" + "".join(f"{i},{i}\n" for i in range(100000))


@pytest.mark.needs_root
def test_bytes_that_the_disk_does_not_give_are_waited_for_when_they_are_looked_at(home):
    disk = Loop(home, "work")
    home.tenant()
    once = home.base / "crashed"
    first = home.batchmgr(SIMBDP_CRASH_AT="intake_own", SIMBDP_CRASH_ONCE=str(once))
    until(lambda: (home.path / "staging/acme/data").exists(), home.path / "staging", what="the staging directory")
    home.drop("big.csv", BIG)
    first.wait()
    (path,) = (home.path / "work").glob("*/in/big.csv")
    disk.lose(path)
    home.up()
    (f,) = home.wait_files(1, lambda f: f["reason"] == "unreadable")
    assert (f["state"], f["attempts"]) == ("received", 0) and f["detail"] == "cannot read the file: Input/output error"
    disk.find()
    assert home.wait_file(file_name="big.csv")["state"] == "ingested" and home.count() == 100000


@pytest.mark.needs_root
def test_bytes_that_the_disk_does_not_give_are_not_the_loaders_fault(home):
    disk = Loop(home, "work")
    home.tenant(batch='trigger = "manual";', retry="attempts = 1; backoff_ms = 20; max_backoff_ms = 100;")
    home.up()
    home.drop("big.csv", BIG)
    home.wait_files(1, lambda f: f["state"] == "queued")
    (path,) = (home.path / "work").glob("*/in/big.csv")
    disk.lose(path)
    home.cli("run", "acme/app")
    (f,) = home.wait_files(1, lambda f: f["reason"] == "temp_fail")
    assert f["state"] != "quarantined" and not f["attempts"] and "cannot read the file: Input/output error" in f["detail"]
    disk.find()
    assert home.wait_file(file_name="big.csv")["state"] == "ingested" and home.count() == 100000
