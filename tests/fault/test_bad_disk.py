"""A disk that fails, or has no inode left, below each directory of a home and below all of it: nothing is lost, nothing is charged to
a file, and everything goes on by itself when the disk is well again."""
import json
import os
import shutil
import subprocess

import pytest
from harness import RELEASE, ROOT, until

N = 30
PLACES = ["state", "runs", "logs", "work", ""]  # "": all of it


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
    if place not in ("logs", "state"):  # both go on with what is open
        until(lambda: "No space left on device" in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="a word about it")
        assert not any(f["attempts"] for f in home.files())
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
@pytest.mark.parametrize("place", ["state", ""])
def test_a_disk_that_fails_on_writes(home, library, place):
    disk = BadDisk(home, library, place)
    home.tenant()
    home.up(**disk.env)
    arrive = deliver(home)
    disk.fail()
    arrive()
    until(lambda: home.control({"op": "status"})["intake"] == "paused: ledger", home.path / "state", what="the pause")
    assert not home.files()
    disk.fail(False)
    check_all(home)
