"""What all tests share: their MongoDB, their homes, what the markers mean, and what becomes of a home when a test fails.

scripts/test says with SIMBDP_STRICT=1 that a skip which is not on the list below is a failure: a missing dependency drops no test unseen."""
import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "system"))
import engines  # noqa: E402
import harness  # noqa: E402
import kafka as kafka_nodes  # noqa: E402
import kafka_load  # noqa: E402
import slurm as cluster  # noqa: E402

MARKERS = (
    "needs_root: identities and namespaces of the host are only there for root",
    "needs_cgroups: limits of whole runs are only there with controllers",
    "anyone: does not depend on who runs it, and is not repeated as an unprivileged user",
    "once: is repeated as an unprivileged user by scripts/test --all only",
    "bare_v2: is repeated where there is a cgroup v2 tree and no v1 hierarchy",
    "large: numbers so large that the release programs have to do",
    "slow: left out by scripts/test --quick",
    "soak: only scripts/test --all has the time",
    "own_runs(why): is about runs on this machine, and is not repeated on a cluster",
    "own_log(why): is about the broker's own log, and is not repeated with streams in Kafka",
    "timing: says how long something may take, or loads the machine: runs when nothing else does",
)
# What a host or a user cannot have. Anything else that is missing is for scripts/setup to install.
MAY_SKIP = ("needs uids of its own", "needs cgroup controllers", "needs a file system of its own", "this host does not let us", "no loop device",
            "no clients of others", "nothing to install from: ", "without root, runs have the home's uid", "no walls here", "no sshd here", "no browser here", "no TLC here", "no Slurm here", "no Kafka here")


@pytest.fixture(scope="session", autouse=True)
def other_engines():
    """What SIMBDP_ENGINES asks for: tests/system/engines.py."""
    if not engines.NAMES:
        yield
        return
    if engines.ON_NODES and (why := cluster.missing()):
        pytest.skip(f"no Slurm here: {why}")
    if engines.IN_KAFKA and (why := kafka_nodes.missing()):
        pytest.skip(f"no Kafka here: {why}")
    directory = harness.temp_dir()
    try:
        engines.ENGINES.up(directory)
        yield
        assert engines.ENGINES.seen > 0, "nothing ran on a node, nor was in Kafka"
    finally:
        engines.ENGINES.down()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="session")
def mongo():
    directory = harness.temp_dir()
    m = harness.Mongo(directory)
    yield m
    m.stop()
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def slurm(request):
    """A Slurm cluster of two nodes on loopback; of a module that says WIRE = True, the first node is behind a cable, and of one that says ACCOUNTING = True it has a
    slurmdbd."""
    accounting = getattr(request.module, "ACCOUNTING", False)
    why = cluster.missing(accounting)
    if why:
        pytest.skip(f"no Slurm here: {why}")
    directory = harness.temp_dir()
    c = cluster.Cluster(directory / "slurm", wire=getattr(request.module, "WIRE", False), accounting=accounting)
    try:
        yield c.up()
    finally:
        c.down()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(scope="module")
def kafka(request):
    """A Kafka cluster of three nodes, on loopback where a module does not say another class (KAFKA)."""
    why = kafka_nodes.missing()
    if why:
        pytest.skip(f"no Kafka here: {why}")
    directory = harness.temp_dir()
    c = getattr(request.module, "KAFKA", kafka_nodes.Cluster)(directory / "kafka")
    try:
        c.up()
        yield c
    finally:
        c.down()
        shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def kafka_home(make_home, kafka):
    """A home whose stream `events` is in Kafka, under names of its own; its broker runs. Afterwards all nodes do."""
    def make(keys="", broker=True, more="", **kw):
        home = make_home(platform=f'kafka = {{ brokers = "{kafka.brokers}"; prefix = "{kafka.next_prefix()}"; }}; {more}', **kw)
        home.topic = f"{kafka.prefix}.acme.events"
        home.streams(("events", f'store = "kafka"; {keys}'))
        if broker:
            home.broker()
            kafka_nodes.wait_open(home)
        return home
    yield make
    kafka.mend()


@pytest.fixture
def load():
    """Starts publishers, which end with the test."""
    started = []

    def start(home, sent=0):
        p = kafka_load.Publisher(home, sent)
        started.append(p)
        p.start()
        return p
    yield start
    for p in started:
        p.ends.set()
        p.join()


@pytest.fixture
def make_home(mongo):
    homes = []

    def make(**kw):
        h = harness.Home(kw.pop("mongo", mongo), **kw)
        homes.append(h)
        return h
    yield make
    for h in homes:
        h.cleanup()


@pytest.fixture
def cluster_home(make_home, slurm):
    """A running home whose batch runs are jobs; the misbehaving app does what its files say."""
    def make(exec_="misbehave", retry="attempts = 2; backoff_ms = 20; max_backoff_ms = 100;", batch="", up=True, platform="", **profile):
        home = make_home(platform=f'launcher = "slurm"; {platform}')
        homes.append(home)
        home.env.update(slurm.env)
        home.profiles(**profile)
        home.tenant(exec_=exec_, retry=retry, batch=batch)
        return home.up() if up else home
    homes = []
    yield make
    slurm.mend()
    for h in homes:
        shutil.rmtree(f"/run/mysimbdp-node-{h.cgroup_tag()}", ignore_errors=True)


@pytest.fixture
def pilot_home(cluster_home, slurm):
    """Likewise, but its runs go to pilots, which are cancelled in the end: they would stay for idle_s."""
    homes = []

    def make(pilot="nodes = 1; cpus = 2.0; idle_s = 60;", keys="", platform="", cpus=1.0, **kw):
        homes.append(cluster_home(platform=f'slurm = {{ listen = "{slurm.wire.here if slurm.wire else "127.0.0.1"}"; {platform} }};', more=f"slurm = {{ pilot = {{ {pilot} }}; {keys} }};", cpus=cpus, **kw))
        return homes[-1]
    yield make
    for h in homes:
        h.cleanup()
        slurm.run("scancel", "--signal=KILL", "--full", *[job for job, state in cluster.pilots(slurm, h).values() if state == "RUNNING"], check=False)
        slurm.run("scancel", *[job for job, _ in cluster.pilots(slurm, h).values()], check=False)


@pytest.fixture
def instances_home(make_home, slurm):
    """A home whose stream apps' instances are jobs; `apps`: each in a string, of the tenant acme, which has the stream `events`."""
    def make(*apps, platform="", capacity="cpus = 16.0; memory_bytes = 8000000000L;", stream="", more="", up=True, tenant="", **profile):
        home = make_home(platform=f'launcher = "slurm"; slurm = {{ listen = "{slurm.wire.here if slurm.wire else "127.0.0.1"}"; capacity = {{ {capacity} }}; }}; {platform}')
        homes.append(home)
        home.env.update(slurm.env)
        home.profiles(**{"cpus": 1.0, **profile}, more=more)
        home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
        (home.path / "conf/tenants/acme.conf").write_text(
            f'database = "{home.db_of["acme"]}"; datasets = ( {{ name = "data"; format = "json"; }} ); streams = ( {{ name = "events"; {stream} }} );\n'
            "stream_apps = ( " + ", ".join(f'{{ stream = "events"; {a} }}' for a in apps) + f" );\n{tenant}\n")
        return home.up() if up else home
    homes = []
    yield make
    slurm.mend()
    for h in homes:
        h.cleanup()
        shutil.rmtree(f"/run/mysimbdp-node-{h.cgroup_tag()}", ignore_errors=True)


@pytest.fixture
def home(make_home):
    return make_home()


def pytest_configure(config):
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_make_parametrize_id(val, argname):
    """Contents of files are no part of a test's name: xdist wants the same names from each process, and an archive has the time in it."""
    return argname if isinstance(val, bytes) or (isinstance(val, str) and len(val) > 60) else None


def pytest_collection_modifyitems(config, items):
    if engines.NAMES:
        others = [item for item in items if not engines.is_left(item)]
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)
    for item in items:
        if "needs_root" in item.keywords and not harness.IS_ROOT:
            item.add_marker(pytest.mark.skip(reason="needs uids of its own"))
        if "needs_cgroups" in item.keywords and not harness.HAS_CGROUPS:
            item.add_marker(pytest.mark.skip(reason="needs cgroup controllers"))


@pytest.hookimpl(trylast=True)
def pytest_itemcollected(item):
    """Side by side (--dist loadgroup) a file stays together, since it may have a fixture for all of it; crash points are one another's equals."""
    if "test_crash_at" not in item.name and item.config.pluginmanager.hasplugin("xdist"):
        item.add_marker(pytest.mark.xdist_group(item.nodeid.split("::", maxsplit=1)[0]))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport():
    report = (yield).get_result()
    if report.failed:
        for h in harness.Home.alive:
            h.keep = True
            report.sections.append(("home", f"kept: {h.path}"))
    elif report.skipped and not hasattr(report, "wasxfail") and os.environ.get("SIMBDP_STRICT"):
        reason = report.longrepr[2].removeprefix("Skipped: ")
        if not reason.startswith(MAY_SKIP):
            report.outcome = "failed"
            report.longrepr = f"skipped, which tests/conftest.py does not allow here: {reason}"


def pytest_runtest_logreport(report):
    """What failed, for scripts/test, which tries it once more. Of several processes (xdist) only the first one says so."""
    if report.failed and "SIMBDP_FAILED" in os.environ and "PYTEST_XDIST_WORKER" not in os.environ:
        name = report.nodeid.rsplit("@tests/", maxsplit=1)[0]  # xdist puts the group behind it
        with open(os.environ["SIMBDP_FAILED"], "a", encoding="utf-8") as f:
            f.write(name + "\n")
