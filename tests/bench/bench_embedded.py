"""Part of scripts/bench load: the year of flights into the embedded MongoDB as `mysimbdp up` starts it, durable, and read again."""
import csv
import json
import os
import pathlib
import resource
import shutil
import sqlite3
import statistics
import subprocess
import tempfile
import time

from bench_keyed import Embedded
from common import BENCH, BUILD, run

FLIGHTS = BUILD / "data" / "flights.csv"


def status_mb(pid, name):
    line = next(x for x in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if x.startswith(name + ":"))
    return int(line.split()[1]) / 1024


def load(directory, server):
    """As batchmgr has a file loaded whose columns nobody declared."""
    d = pathlib.Path(directory) / "run"
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir()
    job = {"v": 2, "tenant": "bench", "dataset": "flights", "database": "bench", "collection": "flights", "prefix": os.urandom(16).hex(),
           "delete_prefixes": [], "checkpoint": 0, "max_rejects": -1, "check_first": False, "spec": "{}",
           "inputs": [{"path": str(FLIGHTS), "name": "flights.csv"}]}
    (d / "job.json").write_text(json.dumps(job))
    env = {"MONGO_URL": server.url, "SIMBDP_LOAD_JOB": str(d / "job.json"), "SIMBDP_RESULT_FILE": str(d / "result.json"), "MONGOC_DISABLE_SHM": "1"}
    own = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds, _ = run([BUILD / "simbdp-load", "--home", directory], env=env, cwd=d)
    now = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((d / "result.json").read_text())
    assert result["rows_rejected"] == 0, result
    return result["rows_loaded"], seconds, now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime


def sqlite(directory, rows_a_commit=3000):
    """The peer: a library that stores rows durably in a file; the same rows, parsed before the clock starts, as many a commit."""
    with open(FLIGHTS, newline="", encoding="utf-8") as f:
        reader = csv.reader(f)
        names, rows = next(reader), [tuple(r) for r in reader]
    path = pathlib.Path(directory) / "peer.db"
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("pragma journal_mode = wal")
    db.execute("pragma synchronous = full")
    db.execute(f"create table flights (_id integer primary key, {', '.join(n + ' numeric' for n in names)})")
    start = time.monotonic()
    for i in range(0, len(rows), rows_a_commit):
        db.execute("begin")
        db.executemany(f"insert into flights ({', '.join(names)}) values ({', '.join('?' * len(names))})", rows[i:i + rows_a_commit])
        db.execute("commit")
    loaded = time.monotonic()
    assert sum(1 for _ in db.execute("select * from flights")) == len(rows)
    read = time.monotonic() - loaded
    db.close()
    for p in path.parent.glob("peer.db*"):
        p.unlink()
    return len(rows) / (loaded - start), read


def scan(server, *more):
    _, out = run([BENCH / "scan", server.url, "bench", "flights", *more])
    return json.loads(out)


def measure(directory, server):
    cpu = server.cpu_s()
    rows, seconds, own = load(directory, server)
    m = {"rows_per_s": rows / seconds, "server_cpu_s": server.cpu_s() - cpu, "loader_cpu_s": own, "peak_mb": status_mb(server.process.pid, "VmHWM"),
         "file_mb": server.file_bytes() / 1e6}
    found = scan(server)
    assert found["rows"] == rows, found
    m["scan_s"] = found["s"]
    m["scan_peak_mb"] = status_mb(server.process.pid, "VmHWM")
    some = scan(server, '{"origin": "JFK", "dep_delay": {"$gt": 120}}')
    m["filter_s"] = some["s"]
    m["fields_s"] = scan(server, "{}", '{"projection": {"_id": 1}}')["s"]
    return m


def prebuilt(server):
    _, out = run([BENCH / "insert_prebuilt", FLIGHTS, server.url, "bench", "prebuilt"])
    result = json.loads(out)
    return result["rows"] / result["s"]


def bench_embedded(rounds, report):
    """A server each round, as it is after a start; the peers in the same minute."""
    found = []
    with tempfile.TemporaryDirectory(prefix="simbdp-bench-") as d:
        for _ in range(rounds):
            server = Embedded(d)
            try:
                m = measure(d, server)
                m["prebuilt_rows_per_s"] = prebuilt(server)
            finally:
                server.stop()
            m["sqlite_rows_per_s"], m["sqlite_scan_s"] = sqlite(d)
            found.append(m)
    m = {k: statistics.median(r[k] for r in found) for k in found[0]}
    report("embedded", "the year of flights into the embedded MongoDB, durable, rows/s", m["rows_per_s"], 100000,
           f"prebuilt BSON {m['prebuilt_rows_per_s']:,.0f}, SQLite with WAL and full sync {m['sqlite_rows_per_s']:,.0f}; "
           f"CPU s {m['server_cpu_s']:.1f} server + {m['loader_cpu_s']:.1f} loader; file {m['file_mb']:.0f} MB of {FLIGHTS.stat().st_size / 1e6:.0f} MB CSV")
    report("embedded_memory", "its largest resident size meanwhile, MB", m["peak_mb"], 512, f"after reading it all {m['scan_peak_mb']:.0f}", at_most=True)
    report("embedded_scan", "reading all 336,776 documents by a cursor, s", m["scan_s"], 1,
           f"SQLite in the process {m['sqlite_scan_s']:.2f}; what a filter finds {m['filter_s']:.2f}, _ids only {m['fields_s']:.2f}", at_most=True)
    return found
