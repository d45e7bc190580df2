"""scripts/bench load: reading, inspecting and loading files, beside pymongo, a bare C probe and the server's own limit."""
import json
import os
import pathlib
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

import pymongo

from bench_embedded import bench_embedded
from bench_keyed import bench_keyed
from common import BENCH, BUILD, PYTHON, ROOT, run

TYPES = "isifssffbisifsis"
# The same types as peer_load.py's.
NAMES = ["int", "string", "int", "double", "datetime", "string", "double", "double", "bool", "int", "string", "int", "double", "string", "int", "string"]
SPEC = json.dumps({"columns": [{"name": f"col_{i:02d}", "type": t} for i, t in enumerate(NAMES)]})


def make_csv(path, rows):
    """16 columns of all kinds, about 140 bytes a row."""
    rng = random.Random(7)
    r = rng.randrange
    lines = []
    for i in range(min(rows, 20000)):
        text = f'"some text, no {r(1000)}"' if i % 10 == 0 else f"some more text {r(1000)}"
        lines.append(
            f"{r(10**9)},user{r(10**6):06d},{r(100)},{rng.uniform(0, 1000):.2f},2024-{r(1, 13):02d}-{r(1, 29):02d}T{r(24):02d}:{r(60):02d}:{r(60):02d}Z,"
            f"{rng.choice(['AT', 'DE', 'FR', 'IT'])},{rng.uniform(-90, 90):.6f},{rng.uniform(-180, 180):.6f},{rng.choice(['true', 'false'])},{r(10**6)},"
            f"{text},{r(-50, 50)},{rng.uniform(0, 50):.1f},abcdef{r(10000):04d},{r(10**5)},{rng.choice('abc')}\n")
    block = "".join(lines)
    with open(path, "w") as f:
        f.write(",".join(f"col_{i:02d}" for i in range(16)) + "\n")
        for _ in range(rows // len(lines)):
            f.write(block)


class Sink:
    def __init__(self, directory):
        port_file = pathlib.Path(directory) / "port"
        self.process = subprocess.Popen(["taskset", "-c", "1" if os.cpu_count() > 1 else "0", str(BENCH / "nullsink"), str(port_file)])
        while not port_file.exists() or not port_file.read_text().endswith("\n"):
            if self.process.poll() is not None:
                sys.exit("bench: nullsink does not start")
        self.port = int(port_file.read_text())
        self.url = f"mongodb://127.0.0.1:{self.port}/"

    def stop(self):
        self.process.kill()
        self.process.wait()


class Memory:
    def __init__(self):
        path = f"{BUILD}/embedded-mongo/bench:{BUILD}/embedded-mongo/lib/*"
        self.process = subprocess.Popen(["java", "-Xmx4g", "-cp", path, "MemoryMongo"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.url = f"mongodb://127.0.0.1:{int(self.process.stdout.readline())}/"

    def empty(self):
        pymongo.MongoClient(self.url).drop_database("bench")

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def load(directory, path, url, collection, core=None):
    """The platform's loader itself, with the job that batchmgr would write."""
    d = pathlib.Path(directory) / "run"
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir()
    job = {"v": 2, "tenant": "bench", "dataset": "rows", "database": "bench", "collection": collection, "prefix": os.urandom(16).hex(),
           "delete_prefixes": [], "checkpoint": 0, "max_rejects": -1, "check_first": False, "spec": SPEC,
           "inputs": [{"path": str(path), "name": "rows.csv"}]}
    (d / "job.json").write_text(json.dumps(job))
    env = {"MONGO_URL": url, "SIMBDP_LOAD_JOB": str(d / "job.json"), "SIMBDP_RESULT_FILE": str(d / "result.json"), "MONGOC_DISABLE_SHM": "1"}
    seconds, _ = run([BUILD / "simbdp-load", "--home", directory], core=core, env=env, cwd=d)
    result = json.loads((d / "result.json").read_text())
    assert result["rows_rejected"] == 0, result
    return result["rows_loaded"] / seconds


def peer(path, url, mode):
    _, out = run([PYTHON, ROOT / "tests/bench/peer_load.py", path, url, mode], core=0)
    result = json.loads(out)
    return result["rows"] / result["s"]


def bench_load(quick, rounds, report, only=""):
    found = {}
    if only in "keyed":
        found["keyed"] = bench_keyed(quick, report)
    if only in "embedded":
        found["embedded"] = bench_embedded(rounds, report)
    if only and found:
        return found
    subprocess.run([PYTHON, "-c", "import bson, pymongo; assert bson.has_c() and pymongo.has_c()"], check=True)  # the peer at its best
    classes = BUILD / "embedded-mongo" / "bench"
    subprocess.run(["javac", "-cp", f"{BUILD}/embedded-mongo/lib/*", "-d", str(classes), str(ROOT / "tests/bench/MemoryMongo.java")], check=True)
    n_big, n_small, n_server = (1000000, 60000, 200000) if quick else (2000000, 200000, 300000)

    def note(name, rate):
        found.setdefault(name, []).append(rate)

    with tempfile.TemporaryDirectory(prefix="simbdp-bench-") as d:
        big, small, server_file = (pathlib.Path(d) / n for n in ("big.csv", "small.csv", "server.csv"))
        make_csv(big, n_big)
        make_csv(small, n_small)
        make_csv(server_file, n_server)
        size = big.stat().st_size
        sink, memory = Sink(d), Memory()
        try:
            load(d, server_file, memory.url, "warm")  # the server's compiler warms up
            memory.empty()
            for i in range(rounds):
                note("load", load(d, big, sink.url, "rows", core=0))
                note("pymongo typed", peer(small, sink.url, "typed"))
                note("pymongo strings", peer(small, sink.url, "strings"))
                seconds, out = run([BENCH / "probe", big, sink.port, TYPES], core=0)
                note("bare probe", json.loads(out)["rows"] / seconds)
                for mode in ("structure", "structure hash", "full", "full hash"):
                    _, out = run([BENCH / "inspect_file", big, *mode.split()], core=0)
                    result = json.loads(out)
                    assert result["rows"] == n_big and result["rejects"] == 0, result
                    note("inspect " + mode, size / result["s"] / 1e9)
                # Both ways round in turn; the server is emptied after each.
                for which in ("ours", "prebuilt") if i % 2 else ("prebuilt", "ours"):
                    if which == "ours":
                        note("server load", load(d, server_file, memory.url, f"ours{i}"))
                    else:
                        _, out = run([BENCH / "insert_prebuilt", server_file, memory.url, "bench", f"prebuilt{i}"])
                        result = json.loads(out)
                        note("server prebuilt", result["rows"] / result["s"])
                    memory.empty()
        finally:
            sink.stop()
            memory.stop()
    m = {k: statistics.median(v) for k, v in found.items() if k not in ("keyed", "embedded")}
    report("load", "CSV to a sink, one core, against pymongo typed", m["load"] / m["pymongo typed"], 25,
           f"{m['load']:,.0f} rows/s; pymongo typed {m['pymongo typed']:,.0f}, strings {m['pymongo strings']:,.0f}; bare C probe {m['bare probe']:,.0f}")
    report("server", "CSV to a real server, against prebuilt BSON", m["server load"] / m["server prebuilt"], 0.95,
           f"{m['server load']:,.0f} rows/s; prebuilt {m['server prebuilt']:,.0f} (mongo-java-server in memory)")
    report("inspect", "inspecting, GB/s a core without the hash", m["inspect structure"], 1.0, f"with types, rules and figures {m['inspect full']:.2f}")
    report("inspect_hash", "inspecting, GB/s a core with the hash", m["inspect structure hash"], 0.6,
           f"with types, rules and figures {m['inspect full hash']:.2f}")
    return found
