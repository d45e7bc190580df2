"""The files of the embedded MongoDB, whose power goes at any operation and keeps any 4 KiB of it (StoreCuts.java): thousands of cuts, since
there is no server, no home and no real disk."""
import os
import pathlib
import subprocess

import pytest
from harness import RELEASE

pytestmark = pytest.mark.anyone


@pytest.mark.parametrize("n", [40, pytest.param(2000, marks=pytest.mark.soak)])
def test_what_was_committed_is_there(tmp_path, n):
    path = f"{RELEASE}/embedded-mongo/EmbeddedMongo.jar:{RELEASE}/embedded-mongo/lib/*"
    subprocess.run(["javac", "-encoding", "UTF-8", "-cp", path, "-d", tmp_path, pathlib.Path(__file__).parent / "StoreCuts.java"], check=True)
    r = subprocess.run(["java", "-Xmx512m", "-XX:TieredStopAtLevel=1", f"-Djava.io.tmpdir={tmp_path}", "-cp", f"{tmp_path}:{path}", "StoreCuts", os.environ.get("SIMBDP_SEED", "1"), str(n), "20"],
                       capture_output=True, text=True, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
