#!/usr/bin/python3
"""Short runs a second on a Slurm cluster on loopback: each a job, and in pilots, one after the other on the same machine."""
import argparse
import pathlib
import shutil
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.dont_write_bytecode = True
import harness  # noqa: E402
import slurm  # noqa: E402

PILOT = 'slurm = { pilot = { nodes = 2; cpus = 4.0; idle_s = 60; }; };'


def measure(mongo, cluster, n, pilots):
    """Runs of /bin/true-like loads a second, from the first file's drop to the last one's end; the first run, which starts the pilots, is left out."""
    home = harness.Home(mongo, platform='launcher = "slurm"; slurm = { listen = "127.0.0.1"; capacity = { cpus = 8.0; memory_bytes = 100000000000L; }; };')
    home.env.update(cluster.env)
    try:
        home.profiles(cpus=1.0, more=PILOT if pilots else "")
        home.tenant(concurrency=100)
        home.up()
        for i in range(8 if pilots else 1):
            home.drop(f"warm{i}.csv", f"a\nw{i}\n")
        home.wait_files(8 if pilots else 1)
        begin = time.monotonic()
        for i in range(n):
            home.drop(f"f{i}.csv", f"a\n{i}\n")
        files = home.wait_files(n + (8 if pilots else 1), timeout=600)
        took = time.monotonic() - begin
        assert {f["state"] for f in files} == {"ingested"} and {f["attempts"] for f in files} == {1}
        return n / took
    finally:
        home.cleanup()
        cluster.run("scancel", "--user=root", check=False)
        shutil.rmtree(f"/run/mysimbdp-node-{home.cgroup_tag()}", ignore_errors=True)


def main():
    p = argparse.ArgumentParser(description=__doc__)
    p.add_argument("--files", type=int, default=100)
    p.add_argument("--rounds", type=int, default=3)
    a = p.parse_args()
    why = slurm.missing()
    if why:
        sys.exit(f"bench_slurm: {why}")
    directory = harness.temp_dir()
    mongo, cluster = harness.Mongo(directory), slurm.Cluster(directory / "slurm")
    try:
        cluster.up()
        for r in range(a.rounds):
            for pilots in (False, True):
                print(f"round {r + 1} {'pilots' if pilots else 'jobs  '} {measure(mongo, cluster, a.files, pilots):6.1f} runs/s", flush=True)
    finally:
        cluster.down()
        mongo.stop()
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
