"""scripts/bench monitor: reports taken a second of the monitor's CPU time, beside the limit (libbson parsing the same text), and 10,000
instances that report each second."""
import json
import os
import pathlib
import select
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

from common import BENCH, BUILD

CLIENT = BENCH / "report_client"
APPS = 100


class Monitor:
    """The monitor alone: broker, streammgr and batchmgr are not there, and nothing waits for them."""

    def __init__(self, base):
        self.path = pathlib.Path(base) / "home"
        subprocess.run([BUILD / "mysimbdp", "init", self.path], check=True, stdout=subprocess.DEVNULL)
        (self.path / "conf/tenants/bench.conf").write_text(
            'streams = ( { name = "events"; } ); stream_apps = ( ' + ", ".join(f'{{ app = "app{i}"; stream = "events"; }}' for i in range(APPS)) + " );\n")
        self.log = open(self.path / "logs/monitor.log", "w+")
        self.process = subprocess.Popen([BUILD / "monitor", "--home", self.path], stdout=self.log, stderr=self.log)
        until = time.monotonic() + 20
        while '"ready"' not in (text := (self.path / "logs/monitor.log").read_text()):
            if time.monotonic() > until or self.process.poll() is not None:
                sys.exit(f"bench: the monitor does not start: {text}")
            select.select([], [], [], 0.05)
        line = next(json.loads(row) for row in text.splitlines() if '"ready"' in row)
        self.endpoint = line["msg"].split(", ")[1].split(",")[0]

    def cpu_s(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_kb(self):
        return int(next(row.split()[1] for row in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines() if row.startswith("VmRSS")))

    def taken(self):
        import socket
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(self.endpoint[len("ipc://"):].replace("monitor.ipc", "monitor.sock"))
            s.sendall(b'{"op":"status"}\n')
            status = json.loads(s.makefile().readline())
        return status["reports"], status["refused"]

    def settle(self, n):
        until = time.monotonic() + 60
        while self.taken()[0] < n and time.monotonic() < until:
            select.select([], [], [], 0.02)

    def end(self):
        self.process.terminate()
        self.process.wait()


def limit():
    """What libbson parses a second while the other core is as busy as it is when reports are sent."""
    both = [subprocess.Popen([CLIENT, "-", "1", "1", "0", "0"], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    return statistics.mean(float(p.communicate()[0]) for p in both)


def client(*argv):
    r = subprocess.run([CLIENT, *map(str, argv)], capture_output=True, text=True)
    if r.returncode:
        sys.exit(f"bench: report_client {argv}: exit {r.returncode} {r.stderr}")
    return float(r.stdout)


def bench_monitor(quick, rounds, report, only):
    base = tempfile.mkdtemp(prefix="simbdp-bench-")
    os.chmod(base, 0o711)
    found = {"schema": [], "full": [], "limit": []}
    try:
        m = Monitor(base)
        for _ in range(rounds):
            for kind, more in (("schema", []), ("full", ["full"])):
                before, cpu = m.taken(), m.cpu_s()
                sent = client(m.endpoint, APPS, 100, 0, 1 if quick else 3, *more)
                m.settle(before[0] + sent)
                after = m.taken()
                found[kind].append((after[0] - before[0]) / (m.cpu_s() - cpu))
                found.setdefault("refused", []).append(after[1] - before[1])
            found["limit"].append(limit())
        schema, full, parsed = (statistics.median(found[k]) for k in ("schema", "full", "limit"))
        report("monitor_reports", "monitor: reports taken a second of one core, over what libbson parses", schema / parsed, 0.57,
               f"{schema / 1000:.0f}k/s of {parsed / 1000:.0f}k/s; as libsimbdp sends them, with a histogram: {full / 1000:.0f}k/s")
        m.end()
        shutil.rmtree(m.path)
        m = Monitor(base)
        seconds = 10 if quick else 60
        client(m.endpoint, APPS, 100, 10000, 5, "full")
        began, cpu, rss = time.monotonic(), m.cpu_s(), m.rss_kb()
        client(m.endpoint, APPS, 100, 10000, seconds, "full")
        share, grown = (m.cpu_s() - cpu) / (time.monotonic() - began), m.rss_kb() - rss
        report("monitor_10k", "monitor: 10,000 instances that report each second, share of one core", share, 1,
               f"{m.rss_kb() / 1024:.0f} MB resident, {grown} kB more after {seconds} s; {m.taken()}", at_most=True)
        report("monitor_memory", "monitor: memory after the load over memory before", m.rss_kb() / rss, 1.05, f"{rss} kB, then {m.rss_kb()} kB", at_most=True)
    finally:
        if m.process.poll() is None:
            m.end()
        shutil.rmtree(base, ignore_errors=True)
    return found
