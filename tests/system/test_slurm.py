"""Batch runs as jobs of a Slurm cluster (platform.launcher = "slurm"), on Debian's slurm-wlm: several nodes on loopback."""
import json
import os
import signal

import pytest
from harness import until

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


@pytest.fixture
def cluster_home(make_home, slurm):
    """A running home whose batch runs are jobs; the misbehaving app does what its files say."""
    def make(exec_="misbehave", retry="attempts = 2; backoff_ms = 20; max_backoff_ms = 100;", batch="", up=True, platform="", **profile):
        home = make_home(platform=f'launcher = "slurm"; {platform}')
        home.env.update(slurm.env)
        home.profiles(**profile)
        home.tenant(exec_=exec_, retry=retry, batch=batch)
        return home.up() if up else home
    return make


def run_of(home, f):
    return next(r for r in home.rows("runs") if r["run_id"] == f["run_id"])


def test_a_file_is_ingested_by_a_job(cluster_home, slurm):
    home = cluster_home(exec_="builtin:load")
    home.drop("a.csv", "a,b\n1,2\n3,4\n")
    f = home.wait_file(file_name="a.csv")
    run = run_of(home, f)
    assert (f["state"], f["rows_loaded"], run["outcome"], run["node"] in slurm.names) == ("ingested", 2, "ok", True), (f, run)
    assert sorted(d["a"] for d in home.docs()) == [1, 3]
    until(lambda: not list((home.path / "state/jobs").glob(f"{f['run_id']}*")), home.path / "state/jobs", what="the job's files to go")
