"""What tests/fault/badfs.c says of itself: what a power cut takes and leaves, and what fails."""
import contextlib
import errno
import os

import pytest
from baddisk import SYNCS, WRITES, BadDisk, build
from harness import temp_dir

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


@pytest.fixture(scope="module")
def badfs(tmp_path_factory):
    return build(tmp_path_factory.mktemp("badfs"))


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


@pytest.mark.parametrize("ordered, after, wanted", [
    (0, 0, {"a": "one", "dir/x": "x", "old": "old", "sub/c": "c", "y": "x"}),
    (0, 1, {"a": "one", "old": "old", "sub/c": "c", "y": "x"}),  # the sync of dir has done its work
    (1, 0, {"a": "one", "b": "", "dir/x": "x", "new": "old", "sub/c": "c", "y": "x"}),
])
def test_a_cut_leaves_what_was_synced(disk, ordered, after, wanted):
    disk.set(ordered=ordered, after=after)
    do_all(disk.over)
    disk.set(cut_at=disk.get("n_syncs") + 1)
    with contextlib.suppress(OSError):
        sync(disk.over / "dir")
    disk.process.wait()
    disk.power_back()
    assert {str(p.relative_to(disk.over)): p.read_text() for p in disk.over.rglob("*") if p.is_file()} == wanted


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
