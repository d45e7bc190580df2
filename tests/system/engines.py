"""The scenarios of tests/fault and tests/system on other engines: runs on Slurm's nodes, as jobs or in pilots, and streams in Kafka.

SIMBDP_ENGINES says which: "slurm" or "pilots", "kafka". Then only scenarios are left (test_f01_… to test_s13_…), and of those what the engine
is there for; each home gets the few lines of configuration that a provider would write, and nothing else changes. A scenario that is about
this machine's own way of doing it says so with a marker (own_runs, own_log), and why."""
import os
import pathlib
import re

NAMES = set(filter(None, os.environ.get("SIMBDP_ENGINES", "").split(",")))
assert NAMES <= {"slurm", "pilots", "kafka"}, f"SIMBDP_ENGINES: {NAMES}"
ON_NODES, IN_KAFKA = bool(NAMES & {"slurm", "pilots"}), "kafka" in NAMES
BATCH, STREAMS = {"test_runs.py", "test_files.py", "test_load.py"}, {"test_streams.py", "test_stream_peers.py", "test_streammgr.py", "test_monitor.py"}


class Engines:
    slurm = kafka = None
    seen = 0  # runs on nodes, and streams in Kafka: for who thinks that he tested them

    def up(self, directory):
        import kafka as kafka_nodes  # which wants harness, and that this
        import slurm as cluster
        if ON_NODES:
            self.slurm = cluster.Cluster(directory / "slurm", cpus=64, memory=64000).up()
        if IN_KAFKA:
            self.kafka = kafka_nodes.Cluster(directory / "kafka")
            self.kafka.up()

    def down(self):
        for engine in filter(None, (self.slurm, self.kafka)):
            engine.down()

    def wait(self, home):
        """Behind a broker's start: its topics are open, which is when publishers can go on."""
        from harness import until
        if self.kafka:
            def closed():
                found = [q for q in home.rows("queue", "list") if q.get("store") == "kafka"]
                self.seen += len(found)
                return [q["kafka"] for q in found if q["kafka"]]
            until(lambda: not closed(), home.path / "state", what=lambda: f"topics of Kafka to be open: {closed()}")

    def after(self, home):
        """A home's pilots would stay until they were idle for long, and take what the next one wants."""
        if self.slurm:
            self.slurm.run("scancel", "--signal=KILL", "--full", *self.slurm.job_ids(), check=False) if self.slurm.job_ids() else None
            self.slurm.run("scancel", "--user=root", check=False)
            self.seen += len(list(home.path.glob("runs/*/holder")))

    # ---- what a home has of them ----

    def platform(self):
        text = ""
        if self.slurm:
            text += 'launcher = "slurm"; slurm = { listen = "127.0.0.1"; capacity = { cpus = 64; memory_bytes = 120000000000L; }; }; '
        if self.kafka:
            text += f'kafka = {{ brokers = "{self.kafka.brokers}"; prefix = "{self.kafka.next_prefix()}"; }}; '
        return text

    def profile(self):
        return " slurm = { pilot = { nodes = 2; cpus = 4.0; memory_bytes = 30000000000L; idle_s = 60; }; };" if "pilots" in NAMES else ""

    def env(self):
        return self.slurm.env if self.slurm else {}

    def configure(self, home):
        """Tenants' files as tests wrote them: their streams are in Kafka."""
        for path in (home.path / "conf/tenants").glob("*.conf") if self.kafka else ():
            text = path.read_text()
            new = re.sub(r"\bstreams = \(.*?\);\n", lambda m: re.sub(r'\{ name = "', '{ store = "kafka"; name = "', m[0]) if "store =" not in m[0] else m[0], text, flags=re.S)
            if new != text:
                path.write_text(new)


ENGINES = Engines()


def is_left(item):
    """Whether a test is one for these engines."""
    name, file = item.name, pathlib.Path(item.fspath).name
    is_scenario = re.match(r"test_[frs]\d\d_", name)
    if ON_NODES and is_scenario and file in BATCH:
        return "own_runs" not in item.keywords
    return bool(IN_KAFKA and is_scenario and file in STREAMS and "own_log" not in item.keywords)
