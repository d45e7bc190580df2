"""A calendar that is set back while something is waited for: the wait is no longer for it."""
import struct
import subprocess

import pytest
from harness import RELEASE, ROOT, Mongo, until
from test_bad_disk import BadDisk, check_all, deliver, library  # noqa: F401 (a fixture)

pytestmark = pytest.mark.anyone


@pytest.fixture
def ahead(tmp_path_factory):
    """For programs whose calendar is a day ahead of the kernel's, as it was for one that asked before it was set back."""
    where = tmp_path_factory.mktemp("ahead")
    subprocess.run(["cc", "-O1", "-D_GNU_SOURCE", "-shared", "-fPIC", "-o", where / "leap.so", ROOT / "tests/fault/leap.c", "-ldl"], check=True)
    (where / "shift").write_bytes(struct.pack("<q", 86400))
    for p in (where.parent, where, where / "leap.so", where / "shift"):
        p.chmod(0o755)
    return {"LD_PRELOAD": str(where / "leap.so"), "SIMBDP_TEST_LEAP": str(where / "shift")}


def test_mongodb_is_asked_again(make_home, tmp_path, ahead):
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    home.programs = RELEASE  # sanitizers want to be loaded first
    home.tenant()
    mongo.kill()
    home.up(**ahead)
    until(lambda: '"database_wait"' in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="a word about it")
    mongo.start()
    until(lambda: home.control({"op": "status"})["database"] == "up", home.path / "logs", what="MongoDB to be asked again")
    home.drop("a.csv", "v\n1\n")
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    home.cleanup()
    mongo.stop()


@pytest.mark.needs_root
def test_the_ledger_is_tried_again(home, library, ahead):  # noqa: F811
    disk = BadDisk(home, library, "")
    home.tenant()
    home.up(**{**disk.env, **ahead, "LD_PRELOAD": f"{disk.env['LD_PRELOAD']} {ahead['LD_PRELOAD']}"})
    arrive = deliver(home)
    disk.fail()
    arrive()
    until(lambda: home.control({"op": "status"})["intake"] == "paused: ledger", home.path / "state", what="the pause")
    disk.fail(False)
    check_all(home)
