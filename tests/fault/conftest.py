"""Disks that fail, and lose power (badfs/, baddisk.py)."""
import subprocess

import pytest
from baddisk import BadDisk, build, power_off


@pytest.fixture(scope="module")
def badfs(tmp_path_factory):
    return build(tmp_path_factory.mktemp("badfs"))


@pytest.fixture
def on_disk(make_home, badfs):
    """A home on a disk of its own, which is made when its configuration is there."""
    made = []

    def put(home, **how):
        disk = BadDisk(badfs, home.path, **{"journal": 1, **how})
        home.as_user = disk.as_another_boot()
        made.append((home, disk))
        return disk
    yield put
    for home, disk in made:
        power_off(home)
        disk.remove()


@pytest.fixture(scope="module")
def syncfs(tmp_path_factory):
    """For programs that call syncfs, which does not come to a FUSE file system by itself."""
    library = tmp_path_factory.mktemp("syncfs") / "syncfs.so"
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-x", "c", "-o", library, "-"], check=True, text=True, input="""
#include <sys/xattr.h>
int syncfs(int fd);
int syncfs(int fd)
{
    return fsetxattr(fd, "user.syncfs", "1", 1, 0);
}
""")
    return {"LD_PRELOAD": str(library)}
