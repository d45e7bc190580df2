"""Disks that fail, and lose power (badfs/, baddisk.py)."""
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
