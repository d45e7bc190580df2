"""A file system under MongoDB that is full for a while: nothing is charged to files, nothing stays broken."""
import errno
import os
import shutil
import subprocess

import pymongo
import pytest
from harness import Mongo, until

MIB = 1 << 20


def rows(letter, n=20000):
    return "a,b\n" + "".join(f"{i},{letter * 50}\n" for i in range(n))


def fill(disk, leave=0):
    """The file system has `leave` bytes left, or not one."""
    with open(disk / "filler", "ab", buffering=0) as f:
        try:
            while os.statvfs(disk).f_bavail * os.statvfs(disk).f_frsize > leave:
                f.write(b"x" * 65536)
            while not leave:
                f.write(b"x" * 4096)
        except OSError as e:
            assert e.errno == errno.ENOSPC


def unfill(disk):
    (disk / "filler").unlink()


@pytest.fixture
def small(tmp_path):
    data = tmp_path / "mongo/data"
    data.mkdir(parents=True)
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=32m", "tmpfs", str(data)], capture_output=True).returncode:
        pytest.skip("this host does not let us mount")
    server = Mongo(tmp_path / "mongo")
    yield server
    server.stop()
    subprocess.run(["umount", "-l", str(data)], check=True)


@pytest.mark.needs_root
@pytest.mark.parametrize("leave", (0, 6 * MIB))
def test_mongodb_says_that_the_disk_is_full_and_goes_on_when_it_is_not(small, leave):
    c, disk = small.client.acme.data, small.dir / "data"
    c.insert_many([{"a": i, "b": "x" * 50} for i in range(20000)])
    fill(disk, leave)
    for _ in range(3):
        with pytest.raises(pymongo.errors.OperationFailure) as e:
            c.insert_many([{"a": i, "b": "y" * 50} for i in range(20000)])
        assert e.value.code == 14031, "as MongoDB says it, and not that the command took too much memory"
        assert c.count_documents({}) == 20000
    if leave:  # what makes room has room
        assert c.delete_many({"a": {"$lt": 1000}}).deleted_count == 1000
    unfill(disk)
    c.insert_one({"a": "z"})
    assert c.count_documents({}) == 20001 - (1000 if leave else 0) and small.process.poll() is None


@pytest.mark.needs_root
def test_a_full_disk_under_mongodb_is_charged_to_no_file(make_home):
    home = make_home(own_mongo=True)
    home.tenant(retry="attempts = 1; backoff_ms = 20; max_backoff_ms = 100;",
                apps='{ app = "own"; exec = "own.py"; pattern = "own*"; retry = { attempts = 1; backoff_ms = 20; max_backoff_ms = 100; }; },'
                     '{ app = "app"; exec = "builtin:load"; retry = { attempts = 1; backoff_ms = 20; max_backoff_ms = 100; }; }')
    home.install("acme", "/dev/null", "own.py").write_text("""#!/usr/bin/python3
import os, pymongo, sys
c = pymongo.MongoClient(os.environ["MONGO_URL"])[os.environ["MONGO_DATABASE"]].own
c.insert_many([{"line": line} for line in sys.stdin])
""")
    kept = home.base / "state"
    shutil.copytree(home.path / "state", kept, symlinks=True)
    state = home.mount_tmpfs("state", "64m")
    subprocess.run(["cp", "-a", f"{kept}/.", str(state)], check=True)
    home.up()
    home.drop("before.csv", rows("x"))
    assert home.wait_file(file_name="before.csv")["state"] == "ingested"
    fill(state, 6 * MIB)
    home.drop("during.csv", rows("a"))
    home.drop("own-during.csv", rows("b"))
    status = until(lambda: (s := home.control({"op": "status"}))["database"] == "down" and s, home.path / "logs", what="the state of the database")
    assert "the disk under" in status["database_error"] and "is full" in status["database_error"]
    waiting = home.wait_files(2, lambda f: "during" in f["file_name"] and f["state"] in ("waiting", "queued", "running"))
    assert not [f for f in waiting if f["attempts"] > 1 or f["state"] == "quarantined"], waiting
    unfill(state)
    assert {(f["file_name"], f["state"]) for f in home.wait_files(3)} == {(n, "ingested") for n in ("before.csv", "during.csv", "own-during.csv")}
    assert all(f["attempts"] <= 1 for f in home.files())
