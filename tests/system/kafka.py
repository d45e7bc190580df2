"""A Kafka cluster on loopback: nodes that are broker and controller at once (KRaft), all of them in one directory and ended with it. For
tests, and for scripts/kafka.

Kafka comes from Maven Central: programs/kafka/pom.xml names it, programs/kafka/jars.sha256 says what has to have come. It is fetched once,
into build/kafka/."""
import base64
import fcntl
import hashlib
import json
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess
import time
import uuid

from harness import until

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CACHE = ROOT / "build/kafka"
JAVA = ["-Xms64m", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-Djava.awt.headless=true"]

CONF = """\
process.roles=broker,controller
node.id={id}
controller.quorum.voters={voters}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller}
advertised.listeners=PLAINTEXT://{host}:{port}
controller.listener.names=CONTROLLER
log.dirs={dir}
num.network.threads=1
num.io.threads=2
background.threads=1
num.partitions=1
auto.create.topics.enable=false
offsets.topic.num.partitions=1
offsets.topic.replication.factor={replicas}
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor={replicas}
log.cleaner.dedupe.buffer.size=8388608
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=1000
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=1000
replica.lag.time.max.ms=3000
unclean.leader.election.enable=false
controlled.shutdown.enable=false
"""


def missing():
    """Why Kafka cannot run here; None: it can."""
    for program in ("java", "mvn"):
        if not shutil.which(program):
            return f"{program} is not installed (scripts/setup installs it)"
    try:
        jars()
    except (OSError, subprocess.SubprocessError, ValueError) as e:
        return f"Kafka cannot be fetched from Maven Central: {e}"
    return None


def check(lib, pins):
    """Raises where the jars are not the pinned ones."""
    want = dict(reversed(line.split()) for line in pins.splitlines())
    have = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in lib.glob("*.jar")}
    if want != have:
        odd = sorted(name for name in {*want, *have} if want.get(name) != have.get(name))
        raise ValueError(f"not what programs/kafka/jars.sha256 says: {' '.join(odd)}")


def jars():
    """The directory with Kafka's jars, which are fetched where they are not there."""
    pins = (ROOT / "programs/kafka/jars.sha256").read_text()
    lib, done = CACHE / "lib", CACHE / "complete"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists() or done.read_text() != pins:
            shutil.rmtree(lib, ignore_errors=True)
            subprocess.run(["nice", "mvn", "-q", "-B", "-Dstyle.color=never", "-f", str(ROOT / "programs/kafka/pom.xml"), "dependency:copy-dependencies",
                            f"-DoutputDirectory={lib}", "-DincludeScope=runtime"], check=True, timeout=500, stdout=subprocess.DEVNULL)
            check(lib, pins)
            done.write_text(pins)
    return lib


def free_ports(n):
    sockets = [socket.socket() for _ in range(n)]
    for s in sockets:
        s.bind(("127.0.0.1", 0))
    ports = [s.getsockname()[1] for s in sockets]
    for s in sockets:
        s.close()
    return ports


def queue(home):
    return home.control({"op": "queues"}, "broker.sock")["queues"][0]


def wait_open(home, timeout=60):
    until(lambda: queue(home)["kafka"] is None, home.path / "state", timeout=timeout, what=lambda: f"Kafka: {queue(home)['kafka']}")


class Cluster:
    """Others (kafka_lan.py, kafka_secure.py) say where its nodes are and what more they are told."""

    def __init__(self, directory, nodes=3):
        self.dir = pathlib.Path(directory)
        self.pids = {}
        ports = free_ports(2 * nodes)
        self.ports, self.controllers = dict(enumerate(ports[:nodes], 1)), dict(enumerate(ports[nodes:], 1))
        self.id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")

    @property
    def brokers(self):
        return ",".join(f"{self.host(i)}:{p}" for i, p in self.ports.items())

    def host(self, i):
        return "127.0.0.1"

    def configuration(self, i, **values):
        return CONF.format(**values)

    def inside(self, i):
        """What a node's command begins with."""
        return []

    # ---- life ----

    def up(self):
        lib = jars()
        self.dir.mkdir(parents=True, exist_ok=True)
        voters = ",".join(f"{i}@{self.host(i)}:{p}" for i, p in self.controllers.items())
        for i, port in self.ports.items():
            data = self.dir / f"node-{i}"
            data.mkdir(exist_ok=True)
            # What `kafka-storage format` would write, in three JVMs more.
            ident = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            (data / "meta.properties").write_text(f"version=1\ncluster.id={self.id}\nnode.id={i}\ndirectory.id={ident}\n")
            conf = self.configuration(i, id=i, voters=voters, host=self.host(i), port=port, controller=self.controllers[i], dir=data,
                                      replicas=min(3, len(self.ports)), base=self.dir)
            (self.dir / f"node-{i}.properties").write_text(conf)
        self.lib = lib
        for i in self.ports:
            self.start(i)
        self.wait_up()

    def start(self, i):
        with open(self.dir / f"node-{i}.log", "ab") as log:
            p = subprocess.Popen([*self.inside(i), "nice", "java", *JAVA, "-cp", f"{self.lib}/*", "kafka.Kafka", str(self.dir / f"node-{i}.properties")],
                                 stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.dir, start_new_session=True)
        self.pids[i] = p.pid
        self.save()

    def wait_up(self, nodes=None, timeout_s=90):
        """Until each of the nodes is known as a broker to all who answer."""
        end = time.monotonic() + timeout_s
        nodes = set(nodes or self.pids)
        while time.monotonic() < end:
            if all(nodes <= self.alive(i) for i in nodes):
                return
            for i in nodes:
                assert self.running(i), (self.dir / f"node-{i}.log").read_text(errors="replace")[-4000:]
            select.select([], [], [], 0.2)
        raise TimeoutError(f"Kafka is not up: {[self.alive(i) for i in nodes]}")

    def running(self, i):
        pid = self.pids.get(i)
        if not pid:
            return False
        try:
            return os.waitpid(pid, os.WNOHANG)[0] == 0
        except ChildProcessError:
            pass  # it is ended, or not ours
        try:
            return "kafka.Kafka" in pathlib.Path(f"/proc/{pid}/cmdline").read_text()
        except OSError:
            return False

    def signal(self, i, sig):
        if self.running(i):
            os.kill(self.pids[i], sig)

    def kill(self, i):
        self.signal(i, signal.SIGKILL)
        while self.running(i):
            select.select([], [], [], 0.02)

    def down(self):
        for i in list(self.pids):
            self.kill(i)
        shutil.rmtree(self.dir, ignore_errors=True)

    def save(self):
        (self.dir / "kafka.json").write_text(json.dumps({"ports": self.ports, "controllers": self.controllers, "pids": self.pids, "id": self.id}))

    @classmethod
    def take_up(cls, directory):
        self, kept = cls(directory), json.loads((pathlib.Path(directory) / "kafka.json").read_text())
        self.ports, self.controllers, self.pids = ({int(k): v for k, v in kept[name].items()} for name in ("ports", "controllers", "pids"))
        self.id, self.lib = kept["id"], jars()
        return self

    def next_prefix(self):
        """Of topics: another one each time."""
        self.n_prefixes = getattr(self, "n_prefixes", 0) + 1
        self.prefix = f"t{self.n_prefixes}"
        return self.prefix

    def mend(self):
        for i in self.ports:
            self.signal(i, signal.SIGCONT)
            if not self.running(i):
                self.start(i)
        self.wait_up()

    # ---- Kafka's protocol, as far as tests ask ----

    def ask(self, i, api, version, body, timeout_s=5):
        """The answer's bytes behind its header (version 0 or 1 of a request's header), or None."""
        def string(s):
            return len(s).to_bytes(2, "big") + s
        request = api.to_bytes(2, "big") + version.to_bytes(2, "big") + (7).to_bytes(4, "big") + string(b"test") + body
        try:
            with socket.create_connection((self.host(i), self.ports[i]), timeout_s) as s:
                s.settimeout(timeout_s)
                s.sendall(len(request).to_bytes(4, "big") + request)
                with s.makefile("rb") as f:
                    n = int.from_bytes(f.read(4), "big")
                    answer = f.read(n) if n else b""
                    return answer[4:] if n and len(answer) == n else None
        except OSError:
            return None

    def metadata(self, i, topics=()):
        """Version 1: ({id of a live broker}, {topic: [(error, partition, leader, replicas, isr)]}); None: no answer."""
        names = b"".join(len(t).to_bytes(2, "big") + t.encode() for t in topics)
        b = self.ask(i, 3, 1, len(topics).to_bytes(4, "big") + names)
        if b is None:
            return None
        at = 0

        def num(n):
            nonlocal at
            at += n
            return int.from_bytes(b[at - n:at], "big", signed=True)

        def string():
            nonlocal at
            n = max(num(2), 0)
            at += n
            return b[at - n:at].decode()
        brokers, found = set(), {}
        for _ in range(num(4)):
            brokers.add(num(4))
            string(), num(4), string()
        num(4)
        for _ in range(num(4)):
            error, name = num(2), string()
            num(1)
            parts = [(num(2), num(4), num(4), [num(4) for _ in range(num(4))], [num(4) for _ in range(num(4))]) for _ in range(num(4))]
            found[name] = (error, parts)
        return brokers, found

    def alive(self, i):
        m = self.metadata(i)
        return m[0] if m else set()

    def any(self, fn):
        for i in self.ports:
            if self.running(i):
                r = fn(i)
                if r is not None:
                    return r
        return None

    def topic(self, name):
        """(partition, leader, replicas, isr) of each partition; None: it is not there."""
        m = self.any(lambda i: self.metadata(i, [name]))
        error, parts = m[1][name] if m else (-1, [])
        return None if error else [(p, leader, replicas, isr) for _, p, leader, replicas, isr in parts]

    def leader(self, name):
        parts = self.topic(name)
        return parts[0][1] if parts else None

    def delete_topic(self, name):
        """By an administrator, as it were: the controller is whichever node takes it."""
        body = (1).to_bytes(4, "big") + len(name).to_bytes(2, "big") + name.encode() + (5000).to_bytes(4, "big")
        for i in self.ports:
            b = self.ask(i, 20, 1, body)
            if b and int.from_bytes(b[-2:], "big", signed=True) == 0:
                return True
        return False

    def committed(self, group, topic, part=0):
        """(offset, text) of a partition; None: nothing is."""
        def string(s):
            return len(s).to_bytes(2, "big") + s.encode()
        body = string(group) + (1).to_bytes(4, "big") + string(topic) + (1).to_bytes(4, "big") + part.to_bytes(4, "big")
        for i in self.ports:
            b = self.ask(i, 9, 1, body)
            if not b or not any(b[:4]):  # not this group's coordinator
                continue
            at = 4 + 2 + len(topic) + 4 + 4
            offset, n = int.from_bytes(b[at:at + 8], "big", signed=True), int.from_bytes(b[at + 8:at + 10], "big", signed=True)
            error = int.from_bytes(b[-2:], "big", signed=True)
            if not error and offset >= 0:
                return offset, b[at + 10:at + 10 + max(n, 0)].decode()
        return None

    def alter_topic(self, name, key, value):
        def string(s):
            return len(s).to_bytes(2, "big") + s.encode()
        body = (1).to_bytes(4, "big") + b"\x02" + string(name) + (1).to_bytes(4, "big") + string(key) + b"\0" + string(value) + b"\0"
        b = self.any(lambda i: self.ask(i, 44, 0, body))
        assert b and int.from_bytes(b[8:10], "big") == 0, b

    def first_offset(self, topic):
        """Of what is there; None: nobody says so."""
        body = (-1).to_bytes(4, "big", signed=True) + (1).to_bytes(4, "big") + len(topic).to_bytes(2, "big") + topic.encode()
        body += (1).to_bytes(4, "big") + (0).to_bytes(4, "big") + (-2).to_bytes(8, "big", signed=True)
        for i in self.ports:
            b = self.ask(i, 2, 1, body)
            if b and not any(b[-18:-16]):
                return int.from_bytes(b[-8:], "big", signed=True)
        return None
