"""Part of scripts/bench load: rows with a key, loaded into the embedded MongoDB with on_key_conflict = "replace", and again."""
import json
import os
import pathlib
import random
import resource
import shutil
import socket
import subprocess
import tempfile
import time

from common import BUILD

SECRET = "0123456789abcdef0123456789abcdef"
NAMES = {"order_id": "string", "customer": "string", "country": "string", "city": "string", "ordered_at": "datetime", "amount": "double",
         "quantity": "int", "latitude": "double", "status": "string", "comment": "string"}


def make_orders(path, rows, seed):
    """10 columns, about 108 bytes a row; the same keys in the same random order for every seed."""
    keys = list(range(rows))
    random.Random(5).shuffle(keys)
    r = random.Random(seed)
    with open(path, "w") as f:
        f.write(",".join(NAMES) + "\n")
        for k in keys:
            n = r.randrange(10**9)
            f.write(f"{k:09d}A,customer{n % 10**7:07d},{'AT DE FR IT'.split()[n % 4]},{'Wien Berlin Paris Roma'.split()[n % 4]},"
                    f"2025-{n % 12 + 1:02d}-{n % 28 + 1:02d}T{n % 24:02d}:{n % 60:02d}:07Z,{r.random() * 1000:.2f},{n % 100},{r.random() * 90:.6f},"
                    f"{'new paid sent back'.split()[n % 4]},some words about it {n % 10**6}\n")


class Embedded:
    """As `mysimbdp up` starts it, without its walls."""

    def __init__(self, directory):
        self.dir = pathlib.Path(directory) / "mongo"
        (self.dir / "data").mkdir(parents=True)
        (self.dir / "access").write_text(f"bench {SECRET} bench\n")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        mongo = BUILD / "embedded-mongo"
        self.process = subprocess.Popen(
            ["java", "-XX:VMOptionsFile=jvm.options", "-cp", "EmbeddedMongo.jar", "EmbeddedMongo", "--home", str(self.dir),
             "--port", str(port), "--data", str(self.dir / "data"), "--users", str(self.dir / "access")], cwd=mongo, stderr=subprocess.PIPE, text=True)
        assert "ready" in self.process.stderr.readline()
        self.url = f"mongodb://bench:{SECRET}@127.0.0.1:{port}/bench?authSource=admin&authMechanism=SCRAM-SHA-256"

    def cpu_s(self):
        f = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(f[11]) + int(f[12])) / os.sysconf("SC_CLK_TCK")

    def file_bytes(self):
        return sum(f.stat().st_size for f in (self.dir / "data").iterdir())

    def stop(self):
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()
        shutil.rmtree(self.dir)


def load(directory, server, path, **spec):
    """Rows a second, the server's and the loader's CPU seconds for a million rows."""
    d = pathlib.Path(directory) / "run"
    shutil.rmtree(d, ignore_errors=True)
    d.mkdir()
    spec["columns"] = [{"name": n, "type": t} for n, t in NAMES.items()]
    job = {"v": 2, "tenant": "bench", "dataset": "orders", "database": "bench", "collection": "orders", "prefix": os.urandom(16).hex(),
           "delete_prefixes": [], "checkpoint": 0, "max_rejects": -1, "check_first": False, "spec": json.dumps(spec),
           "inputs": [{"path": str(path), "name": "orders.csv"}]}
    (d / "job.json").write_text(json.dumps(job))
    env = {"MONGO_URL": server.url, "SIMBDP_LOAD_JOB": str(d / "job.json"), "SIMBDP_RESULT_FILE": str(d / "result.json"), "MONGOC_DISABLE_SHM": "1"}
    cpu, own, start = server.cpu_s(), resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run([BUILD / "simbdp-load", "--home", directory], env=env, cwd=d, check=True)
    seconds, now = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    result = json.loads((d / "result.json").read_text())
    assert result["rows_rejected"] == 0, result
    rows = result["rows_loaded"] / 1e6
    return 1e6 * rows / seconds, (server.cpu_s() - cpu) / rows, (now.ru_utime + now.ru_stime - own.ru_utime - own.ru_stime) / rows


def bench_keyed(quick, report):
    """Once: it takes minutes, and what it gives in CPU does not depend on what else runs."""
    rows, found = (300000 if quick else 1200000), {}
    replace = {"key": ["order_id"], "on_key_conflict": "replace"}
    with tempfile.TemporaryDirectory(prefix="simbdp-bench-") as d:
        first, second = (pathlib.Path(d) / n for n in ("first.csv", "second.csv"))
        make_orders(first, rows, 1)
        make_orders(second, rows, 2)
        data = first.stat().st_size
        for name, steps in {"plain": [(first, {})], "keyed": [(first, replace), (second, replace)]}.items():
            server = Embedded(d)
            try:
                found[name] = [{"rows_per_s": r, "server_cpu_s": s, "loader_cpu_s": own, "file_bytes": server.file_bytes()}
                               for r, s, own in (load(d, server, path, **spec) for path, spec in steps)]
            finally:
                server.stop()
    (plain,), (new, again) = found["plain"], found["keyed"]
    said = [f"{n} {f['rows_per_s']:,.0f} rows/s, {f['server_cpu_s']:.0f} + {f['loader_cpu_s']:.1f} CPU s a million rows, file {f['file_bytes'] / 1e6:.0f} MB"
            for n, f in (("new", new), ("replaced", again), ("without a key", plain))]
    report("keyed", "CSV with a key and replace into the embedded MongoDB, rows/s", new["rows_per_s"], 25000, "; ".join(said))
    report("keyed_file", "its file, against the CSV", new["file_bytes"] / data, 3, f"{data / 1e6:.0f} MB of CSV; all replaced {again['file_bytes'] / data:.2f}", at_most=True)
    return found
