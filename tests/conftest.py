import os
import pathlib
import shutil
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "system"))
import harness  # noqa: E402


@pytest.fixture(scope="session")
def mongo():
    directory = harness.temp_dir()
    m = harness.Mongo(directory)
    yield m
    m.stop()
    shutil.rmtree(directory, ignore_errors=True)


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
def home(make_home):
    return make_home()


def pytest_configure(config):
    config.addinivalue_line("markers", "needs_root: identities and namespaces of the host are only there for root")
    config.addinivalue_line("markers", "needs_cgroups: limits of whole runs are only there with controllers")


def pytest_collection_modifyitems(items):
    for item in items:
        if "needs_root" in item.keywords and not harness.IS_ROOT:
            item.add_marker(pytest.mark.skip(reason="needs uids of its own"))
        if "needs_cgroups" in item.keywords and not harness.HAS_CGROUPS:
            item.add_marker(pytest.mark.skip(reason="needs cgroup controllers"))


def pytest_runtest_logreport(report):
    """What failed, for scripts/test, which tries it once more."""
    if report.failed and "SIMBDP_FAILED" in os.environ:
        with open(os.environ["SIMBDP_FAILED"], "a", encoding="utf-8") as f:
            f.write(report.nodeid + "\n")
