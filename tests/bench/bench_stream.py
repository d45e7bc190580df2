"""scripts/bench stream: publishing, consuming, the way from a publisher to an app, a quiet tenant under another's flood.

The peers are JetStream, Redis streams with AOF and RabbitMQ, each with a C client, where they are installed (Debian: nats-server libnats-dev,
redis-server, rabbitmq-server librabbitmq-dev); the limit is libzmq's round trip and an fdatasync. All in one run, interleaved, on one disk."""
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

from bench_run import percentile
from common import BENCH, BUILD

SIZE = 200
PATIENCE_S = 60  # with a peer
CLIENT = BENCH / "stream_client"
CONF = """
streams = ( { name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; max_stored_bytes = 17179869184L; } );
stream_apps = ( { app = "consume"; stream = "events"; } );
"""


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def number(*argv, lines=False, timeout=None):
    """What it printed; None when it is a peer's (timeout) and does not come to an end."""
    try:
        r = subprocess.run([str(a) for a in argv], capture_output=True, text=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        return None
    if r.returncode:
        sys.exit(f"bench: {argv}: exit {r.returncode}: {r.stderr}")
    values = [float(v) for v in r.stdout.split()]
    return values if lines else values[0]


def wait_port(port, process, name):
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        with socket.socket() as s:
            if s.connect_ex(("127.0.0.1", port)) == 0:
                return
        select.select([], [], [], 0.1)
    sys.exit(f"bench: {name} does not start")


class Ours:
    def __init__(self, base):
        self.path = pathlib.Path(base) / "home"
        subprocess.run([BUILD / "mysimbdp", "init", self.path], check=True, capture_output=True)
        for tenant in ("acme", "quiet"):
            (self.path / f"conf/tenants/{tenant}.conf").write_text(CONF)
        env = {**os.environ, "MYSIMBDP_HOME": str(self.path)}
        self.process = subprocess.Popen([BUILD / "broker", "--home", self.path], env=env, stderr=subprocess.PIPE, text=True)
        line = ""
        while '"ready"' not in line:
            line = self.process.stderr.readline()
            if not line:
                sys.exit("bench: the broker does not start")
        self.endpoint = next(part for part in line.replace('"', " ").replace(",", " ").split() if part.startswith("ipc://"))

    def publish(self, n):
        return number(CLIENT, "publish", self.endpoint, "acme/events", n, SIZE)

    def consume(self, n):
        return number(CLIENT, "consume", self.endpoint, "acme/events", "consume", n)

    def latency(self, n, tenant="acme"):
        return number(CLIENT, "latency", self.endpoint, f"{tenant}/events", "consume", n, lines=True)

    def flood(self):
        return subprocess.Popen([CLIENT, "flood", self.endpoint, "acme/events", str(SIZE)])

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate()


class JetStream:
    def __init__(self, base):
        self.port = free_port()
        self.process = subprocess.Popen(["nats-server", "-js", "-sd", f"{base}/nats", "-p", str(self.port), "-a", "127.0.0.1"], stderr=subprocess.DEVNULL)
        wait_port(self.port, self.process, "nats-server")

    def publish(self, n):
        return number(BENCH / "peer_nats", "publish", f"nats://127.0.0.1:{self.port}", n, SIZE, timeout=PATIENCE_S)

    def consume(self, n):
        return number(BENCH / "peer_nats", "consume", f"nats://127.0.0.1:{self.port}", n, timeout=PATIENCE_S)

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Redis:
    def __init__(self, base, fsync):
        self.port = free_port()
        directory = pathlib.Path(base) / f"redis-{fsync}"
        directory.mkdir()
        self.process = subprocess.Popen(["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", directory, "--appendonly", "yes", "--appendfsync", fsync,
                                         "--save", "", "--auto-aof-rewrite-percentage", "0"], stdout=subprocess.DEVNULL)
        wait_port(self.port, self.process, "redis-server")

    def publish(self, n):
        best = 0
        for clients, pipeline in ((1, 1000), (16, 500)):
            subprocess.run(["redis-cli", "-p", str(self.port), "flushall"], check=True, stdout=subprocess.DEVNULL)
            r = subprocess.run(["redis-benchmark", "-p", str(self.port), "-n", str(n), "-c", str(clients), "-P", str(pipeline), "--csv", "xadd", "events", "*", "m", "x" * SIZE],
                               capture_output=True, text=True, check=True)
            best = max(best, float(r.stdout.splitlines()[-1].split('","')[1]))
        return best

    def stop(self):
        self.process.terminate()
        self.process.wait()


class Rabbit:
    def __init__(self, base):
        self.port = free_port()
        directory = pathlib.Path(base) / "rabbit"
        directory.mkdir()
        (directory / "plugins").write_text("[].")
        env = {**os.environ, "HOME": str(directory), "RABBITMQ_NODENAME": f"bench{self.port}@localhost", "RABBITMQ_NODE_PORT": str(self.port),
               "RABBITMQ_MNESIA_BASE": str(directory), "RABBITMQ_LOG_BASE": str(directory), "RABBITMQ_ENABLED_PLUGINS_FILE": str(directory / "plugins"),
               "RABBITMQ_DIST_PORT": str(free_port()), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "ERL_EPMD_ADDRESS": "127.0.0.1"}
        self.process = subprocess.Popen(["/usr/lib/rabbitmq/bin/rabbitmq-server"], env=env, stdout=open(directory / "out", "w"), stderr=subprocess.STDOUT, start_new_session=True)
        wait_port(self.port, self.process, "rabbitmq-server")

    def publish(self, n):
        return number(BENCH / "peer_rabbit", "publish", self.port, n, SIZE, timeout=PATIENCE_S)

    def consume(self, n):
        return number(BENCH / "peer_rabbit", "consume", self.port, n, timeout=PATIENCE_S)

    def stop(self):
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def peers(base):
    """name -> (peer, how its share of the messages compares: slow ones get fewer)"""
    found = {}
    if shutil.which("nats-server") and (BENCH / "peer_nats").exists():
        found["JetStream"] = (JetStream(base), 2)
    if shutil.which("redis-server") and shutil.which("redis-benchmark"):
        found["Redis AOF always"] = (Redis(base, "always"), 1)
        found["Redis AOF everysec"] = (Redis(base, "everysec"), 1)
    if pathlib.Path("/usr/lib/rabbitmq/bin/rabbitmq-server").exists() and (BENCH / "peer_rabbit").exists():
        found["RabbitMQ"] = (Rabbit(base), 10)
    return found


def bench_stream(quick, rounds, report, only):
    found = {}

    def note(name, value):
        if value is None:
            print(f"        {name}: no end within {PATIENCE_S} s", file=sys.stderr)
            return
        found.setdefault(name, []).append(value)
        if os.isatty(2):
            print(f"        {name}: {value:,.0f}", file=sys.stderr)

    n = 300_000 if quick else 1_000_000
    few = 2_000 if quick else 10_000
    with tempfile.TemporaryDirectory(prefix="simbdp-bench-") as base:
        os.chmod(base, 0o755)
        others, ours = peers(base), Ours(base)
        try:
            for _ in range(rounds):
                note("ours publish", ours.publish(n))
                for name, (peer, share) in others.items():
                    note(f"{name} publish", peer.publish(n // share))
                note("ours consume", ours.consume(n))
                for name, (peer, share) in others.items():
                    if hasattr(peer, "consume"):
                        note(f"{name} consume", peer.consume(n // share))
                trip, sync = number(CLIENT, "limit", base, few, lines=True)
                note("libzmq round trip us", trip)
                note("fdatasync us", sync)
                note("latency us", statistics.median(ours.latency(few)))
                note("quiet alone p99 us", percentile(ours.latency(few, "quiet"), 0.99))
                flood = ours.flood()
                note("quiet under flood p99 us", percentile(ours.latency(few, "quiet"), 0.99))
                flood.kill()
                flood.wait()
                subprocess.run([CLIENT, "consume", ours.endpoint, "acme/events", "consume", str(backlog(ours))], stdout=subprocess.DEVNULL, check=True)
        finally:
            ours.stop()
            for peer, _ in others.values():
                peer.stop()
    m = {k: statistics.median(v) for k, v in found.items()}

    def beside(what):
        return ", ".join(f"{k[:-len(what) - 1]} {v:,.0f}" for k, v in m.items() if k.endswith(what) and not k.startswith("ours"))

    text = f"{m['ours publish']:,.0f} messages/s of {SIZE} B, each confirmed after fdatasync; {beside('publish') or 'no peers here'}"
    for peer, times in (("JetStream", 1.5), ("Redis AOF always", 1.0)):
        if f"{peer} publish" in m:
            report(f"publish_{peer.split()[0].lower()}", f"publish, against {peer}", m["ours publish"] / m[f"{peer} publish"], times, text)
    if "JetStream consume" in m:
        report("consume", "consume + ack, against JetStream", m["ours consume"] / m["JetStream consume"], 2, f"{m['ours consume']:,.0f} messages/s; {beside('consume')}")
    if "JetStream publish" not in m:
        print(f"        {text}")
        print(f"        consume + ack: {m['ours consume']:,.0f} messages/s")
    report("latency", "publish -> app has it, p50, against round trip + fdatasync", m["latency us"] / (m["libzmq round trip us"] + m["fdatasync us"]), 3,
           f"{m['latency us']:.0f} us; {m['libzmq round trip us']:.0f} + {m['fdatasync us']:.0f} us", at_most=True)
    alone, flooded = m["quiet alone p99 us"], m["quiet under flood p99 us"]
    report("quiet_stream", "a quiet tenant's p99 under a flood, against what it may be", flooded / max(2 * alone, alone + 10_000), 1,
           f"{flooded / 1000:.2f} ms; alone {alone / 1000:.2f} ms", at_most=True)
    return found


def backlog(ours):
    r = subprocess.run([BUILD / "mysimbdp", "--home", ours.path, "queue", "list", "--json"], capture_output=True, text=True)
    if r.returncode:
        r = subprocess.run([BUILD / "mysimbdp", "queue", "list", "--json", "--home", ours.path], capture_output=True, text=True, check=True)
    return next(q["ready"] for q in map(json.loads, r.stdout.splitlines()) if q["tenant_id"] == "acme")
