"""What tests/fault/badfs/ says of itself: what a power cut takes and leaves, and what fails."""
import contextlib
import errno
import os
import sqlite3

import pytest
from baddisk import SYNCS, WRITES, BadDisk
from harness import temp_dir

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


@pytest.fixture
def disk(badfs):
    base = temp_dir()
    over = base / "m"
    (over / "dir").mkdir(parents=True)
    (over / "old").write_text("old")
    (over / "dir/x").write_text("x")
    made = BadDisk(badfs, over)
    yield made
    made.remove()
    for p in sorted(base.rglob("*"), reverse=True):
        p.rmdir() if p.is_dir() else p.unlink()
    base.rmdir()


def sync(path):
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def do_all(m):
    (m / "a").write_text("one")
    sync(m / "a")
    (m / "a").write_text("two, longer")
    (m / "b").write_text("b")
    (m / "sub").mkdir()
    (m / "sub/c").write_text("c")
    sync(m / "sub/c")
    os.rename(m / "old", m / "new")
    os.link(m / "dir/x", m / "y")
    sync(m / "y")
    os.unlink(m / "dir/x")


def contents(m):
    return {str(p.relative_to(m)): p.read_text() for p in m.rglob("*") if p.is_file()}


def cut(disk, at, **how):
    """At the next sync, which is of `at`."""
    disk.set(cut_at=disk.get("n_syncs") + 1, **how)
    with contextlib.suppress(OSError):
        sync(at)
    disk.wait_cut()
    disk.power_back()


@pytest.mark.parametrize("journal, after, wanted", [
    (0, 0, {"dir/x": "x", "old": "old"}),  # no directory was synced: what is new has no name
    (0, 1, {"old": "old"}),  # the sync of dir has done its work
    (1, 0, {"a": "one", "b": "", "dir/x": "x", "new": "old", "sub/c": "c", "y": "x"}),
    (1, 1, {"a": "one", "b": "", "new": "old", "sub/c": "c", "y": "x"}),
])
def test_a_cut_leaves_what_was_synced(disk, journal, after, wanted):
    disk.set(journal=journal, after=after)
    do_all(disk.over)
    cut(disk, disk.over / "dir")
    assert contents(disk.over) == wanted


def test_fdatasync_writes_no_journal_for_bytes_that_had_their_place(disk):
    """As of a database's log that is used again: a rename before it is not durable by its sync."""
    disk.set(journal=1)
    os.rename(disk.over / "old", disk.over / "new")
    fd = os.open(disk.over / "dir/x", os.O_RDWR)
    os.pwrite(fd, b"y", 0)
    os.fdatasync(fd)
    disk.set(cut_at=disk.get("n_syncs") + 2)
    assert os.path.exists(disk.over / "new")
    os.fdatasync(fd)
    with pytest.raises(OSError):
        os.fsync(fd)
    disk.wait_cut()
    with contextlib.suppress(OSError):
        os.close(fd)
    disk.power_back(journal=1)
    assert contents(disk.over) == {"dir/x": "y", "old": "old"}
    os.rename(disk.over / "old", disk.over / "new")
    fd = os.open(disk.over / "dir/x", os.O_RDWR)
    os.pwrite(fd, b"longer", 0)
    os.fdatasync(fd)
    os.close(fd)
    cut(disk, disk.over)
    assert contents(disk.over) == {"dir/x": "longer", "new": "old"}


def test_inode_numbers_and_owners_outlive_a_cut(disk):
    fd = os.open(disk.over / "new", os.O_RDWR | os.O_CREAT, 0o600)
    os.link(disk.over / "new", disk.over / "again")
    os.fchown(fd, 7, 8)
    os.fsync(fd)
    os.fchmod(fd, 0o640)
    before = os.fstat(fd)
    sync(disk.over)
    os.close(fd)
    cut(disk, disk.over)
    st = (disk.over / "new").stat()
    assert (st.st_ino, st.st_uid, st.st_gid, st.st_mode & 0o777, st.st_nlink) == (before.st_ino, 7, 8, 0o600, 2)
    assert (disk.over / "again").stat().st_ino == st.st_ino


@pytest.mark.parametrize("journal", [0, 1])
def test_of_what_was_not_synced_any_part_may_be_there(disk, journal):
    """Over many seeds each of what may be left is seen, and nothing else."""
    seen = set()
    for seed in range(1, 30):
        for p in sorted(disk.over.glob("[a-z]*"), reverse=True):
            if p.is_file():
                p.unlink()
        (disk.over / "f").write_bytes(b"0" * 8192)
        (disk.over / "old").write_text("old")
        sync(disk.over / "f")
        sync(disk.over / "old")
        sync(disk.over)
        disk.set(journal=journal)
        fd = os.open(disk.over / "f", os.O_RDWR)
        os.pwrite(fd, b"1" * 4096, 0)
        os.pwrite(fd, b"2" * 4096, 0)
        os.pwrite(fd, b"3" * 4096, 4096)
        os.close(fd)
        os.rename(disk.over / "old", disk.over / "new")
        (disk.over / "second").touch()
        cut(disk, disk.over / "dir", keep_seed=seed)
        data = (disk.over / "f").read_bytes()
        names = "".join(sorted(p.name[0] for p in disk.over.iterdir() if p.is_file()))
        seen.add((data[:1] + data[4096:4097], names))
        assert len(data) == 8192 and data[:1] in b"012" and data[4096:4097] in b"03"
        assert set(data[:4096]) in ({data[0]}, {data[0], data[4095]}), "no sector is anything else"
    blocks, names = {a for a, _ in seen}, {b for _, b in seen}
    assert blocks == {a + b for a in (b"0", b"1", b"2") for b in (b"0", b"3")}
    assert names == ({"fo", "fn", "fns"} if journal else {"fo", "fn", "fns", "fos"})


def test_what_is_to_fail_fails_and_nothing_else(disk):
    disk.set(fails=WRITES, under="/dir")
    (disk.over / "ok").write_text("1")
    with pytest.raises(OSError) as e:
        (disk.over / "dir/no").write_text("1")
    assert e.value.errno == errno.EIO and disk.get("n_failed") == 1 and (disk.over / "dir/x").read_text() == "x"
    disk.set(fails=SYNCS)
    (disk.over / "dir/yes").write_text("1")
    with pytest.raises(OSError):
        sync(disk.over / "dir/yes")
    disk.set(fails=0)
    sync(disk.over / "dir/yes")


@pytest.mark.parametrize("evict", [0, 1])
def test_what_a_failed_sync_was_for_is_never_written(disk, evict):
    disk.set(journal=1, evict=evict)
    with open(disk.over / "f", "w", encoding="utf-8") as f:
        f.write("lost")
        f.flush()
        with disk.failing(SYNCS, "/f", times=1), pytest.raises(OSError):
            os.fsync(f.fileno())
        assert (disk.over / "f").read_text() == ("\0\0\0\0" if evict else "lost")
        f.write(" and found")
        f.flush()
        os.fsync(f.fileno())
    cut(disk, disk.over)
    assert (disk.over / "f").read_text() == "\0\0\0\0 and found"


def test_a_database_lives_on_it(disk):
    """Its write-ahead log is shared by mapped memory; each commit that was told is there after any cut."""
    disk.set(journal=1)
    with contextlib.closing(sqlite3.connect(disk.over / "db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("CREATE TABLE t(n)")
    for seed in range(1, 9):
        with contextlib.closing(sqlite3.connect(disk.over / "db", isolation_level=None)) as db, contextlib.closing(sqlite3.connect(disk.over / "db")) as other:
            (before,) = db.execute("SELECT count(*) FROM t").fetchone()
            disk.set(cut_at=disk.get("n_syncs") + 3 + seed, keep_seed=seed)
            done = before
            with contextlib.suppress(sqlite3.Error):
                while True:
                    db.execute("INSERT INTO t VALUES(?)", (done,))
                    done += 1
                    assert other.execute("SELECT count(*) FROM t").fetchone() == (done,)
        disk.wait_cut()
        disk.power_back()
        with contextlib.closing(sqlite3.connect(disk.over / "db")) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
            (n,) = db.execute("SELECT count(*) FROM t").fetchone()
            assert done <= n <= done + 1


def test_what_a_failed_sync_of_all_was_for_is_never_written(disk):
    (disk.over / "a").write_text("one")
    disk.set(evict=1)
    with disk.failing(SYNCS, times=1), pytest.raises(OSError) as e:
        os.setxattr(disk.over, "user.syncfs", b"1")
    assert e.value.errno == errno.EIO and (disk.over / "a").read_bytes() == bytes(3)
    os.setxattr(disk.over, "user.syncfs", b"1")
    cut(disk, disk.over)
    assert contents(disk.over)["a"] == ""
