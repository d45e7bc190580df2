"""What the benchmarks share: where things are, and a program that is timed."""
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BUILD = ROOT / "build"
BENCH = BUILD / "tests" / "bench"
PYTHON = "/usr/bin/python3"


def run(argv, core=None, env=None, cwd=None):
    """Wall seconds and what it printed; on one core where one is named."""
    if core is not None:
        argv = ["taskset", "-c", str(core), *argv]
    start = time.monotonic()
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, env=env, cwd=cwd)
    seconds = time.monotonic() - start
    if done.returncode:
        sys.exit(f"bench: {argv}: exit {done.returncode}: {done.stderr}")
    return seconds, done.stdout
