"""The heap of the embedded MongoDB against its tenants: who takes much of it is ended, before a collection of it holds anybody up."""
import contextlib
import os
import re
import subprocess
import threading
import time

import pymongo
import pytest

from harness import ROOT, Mongo
from test_mongo import SECRETS, refused

pytestmark = pytest.mark.anyone

# As `mysimbdp up` starts it.
OPTIONS = (ROOT / "programs/mongo/jvm.options").read_text().split()
RANGES = {"$range": [0, 50000]}
EVERY = [{"$addFields": {"y": RANGES}}]


class Server(Mongo):
    def __init__(self, directory):
        self.log = directory / "gc.log"
        super().__init__(directory, jvm=[*OPTIONS, "-Dsimbdp.commandMs=30000", f"-Xlog:gc:file={self.log}"])
        with open(self.dir / "access", "a") as f:
            for name, secret in SECRETS.items():
                f.write(f"simbdp_{name} {secret} {name}\n")
        self.acme, self.quiet = (pymongo.MongoClient(self.url_of("simbdp_" + n, SECRETS[n], n))[n] for n in ("acme", "quiet"))
        self.acme.rows.insert_one({"_id": 1, "s": "0123456789"})
        self.acme.small.insert_many([{"n": 1, "i": i, "t": "a" * 40} for i in range(1000)])
        for i in range(10):  # 7 MB each, of which 50 are made in the heap
            self.acme.large.insert_many([{"_id": i * 100 + j, "n": -j, "a": [{}] * 5000} for j in range(100)])
        self.quiet.rows.insert_many([{"_id": i, "t": "x" * 100} for i in range(1000)])

    def alive(self, since=0):
        """MB that were alive at the full collections, which stop everybody in proportion."""
        return [int(m) for m in re.findall(r"Pause Full.*->(\d+)M", self.log.read_text()[since:])]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    m = Server(tmp_path_factory.mktemp("memory"))
    yield m
    for db in (m.acme, m.quiet):
        db.client.close()
    m.stop()


class Others:
    """Another tenant's writes and reads meanwhile, and a program that computes: how much of a core it gets tells how busy the machine is."""

    def __init__(self, quiet):
        self.quiet, self.took, self.over = quiet, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.is_set():
            for f in (lambda: self.quiet.meanwhile.insert_one({}), lambda: self.quiet.rows.find_one({"_id": 7})):
                began = time.monotonic()
                f()
                self.took.append(time.monotonic() - began)

    def __enter__(self):
        self.began = time.monotonic()
        self.spin = subprocess.Popen(["/usr/bin/python3", "-c", "while True: pass"])
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.spin.kill()
        _, _, used = os.wait4(self.spin.pid, 0)
        self.spin.returncode = -9
        self.slower = max(1, (time.monotonic() - self.began) / max(0.01, used.ru_utime + used.ru_stime))
        self.took.sort()
        assert self.took, "another tenant's commands failed"

    def worst(self):
        """As long as it would have been with a core of its own."""
        return self.took[-1] / self.slower


def aggregate(collection, *stages):
    return lambda db: list(db[collection].aggregate(list(stages)))


def project(value):
    return aggregate("rows", {"$project": {"x": value}})


def together(db):
    """The reasons of all; nobody's went through."""
    reasons = []

    def one():
        with pymongo.MongoClient(*db.client.address, username="simbdp_acme", password=SECRETS["acme"], authMechanism="SCRAM-SHA-256") as c:
            try:
                HOGS["range"](c.acme)
            except pymongo.errors.OperationFailure as e:
                reasons.append(e)
    threads = [threading.Thread(target=one) for _ in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(reasons) == 8
    raise reasons[0]


HOGS = {
    "range": project({"$range": [0, 2000000000]}),
    "doubling": aggregate("rows", *[{"$addFields": {"s": {"$concat": ["$s", "$s"]}}}] * 40),
    "reduce": project({"$reduce": {"input": {"$range": [0, 40]}, "initialValue": "0123456789", "in": {"$concat": ["$$value", "$$value"]}}}),
    "range of ranges": project({"$map": {"input": {"$range": [0, 1000000]}, "as": "i", "in": {"$range": [0, 1000]}}}),
    "map of maps": project({"$map": {"input": {"$range": [0, 3000]}, "as": "i", "in": {
        "$map": {"input": {"$range": [0, 3000]}, "as": "j", "in": {"a": "$$i", "b": "$$j"}}}}}),
    "push": aggregate("small", *EVERY, {"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}),
    "addToSet": aggregate("small", {"$group": {"_id": "$i", "all": {"$addToSet": RANGES}}}),
    "facet": aggregate("small", {"$facet": {f"f{i}": [{"$addFields": {"y": {"$range": ["$i", 3000]}}}] for i in range(50)}}),
    "lookup": aggregate("small", {"$lookup": {"from": "small", "localField": "n", "foreignField": "n", "as": "x"}},
                        {"$addFields": {"x": {"$map": {"input": "$x", "as": "e", "in": {"i": "$$e.i", "t": "$$e.t", "of": "$t"}}}}}, {"$sort": {"i": -1}}),
    "sort": aggregate("small", *EVERY, {"$sort": {"t": 1, "i": -1}}),
    "sort of what is stored": lambda db: list(db.large.find(batch_size=10).sort("n")),
    "push of what is stored": aggregate("large", {"$group": {"_id": None, "all": {"$push": "$$ROOT"}}}),
    "several at once": together,
}
OFTEN = {"range", "lookup", "push of what is stored", "several at once"}  # one of each kind; the others are `soak`
MAY_FIT = {"sort of what is stored"}  # by keys alone, when nothing else is in the way
# Of what a command may keep (Worker.java), what others' are, and what comes until it is looked at.
MADE_MB, HELD_MB, BASE_MB = 128, 384, 160


@pytest.mark.timing
@pytest.mark.parametrize("hog", [pytest.param(h, marks=() if h in OFTEN else pytest.mark.soak) for h in HOGS])
def test_a_query_that_takes_all_memory_is_ended_alone(server, hog):
    pid, seen = server.process.pid, len(server.log.read_text())
    with Others(server.quiet) as others:
        for _ in range(2):
            if hog in MAY_FIT:
                with contextlib.suppress(pymongo.errors.OperationFailure):
                    HOGS[hog](server.acme)
                continue
            text = refused(lambda: HOGS[hog](server.acme))
            assert "it keeps more in memory than one may" in text or "the reply is too large" in text, text
    alive = server.alive(seen)
    stored = "stored" in hog
    assert max(alive, default=0) < (HELD_MB if stored else MADE_MB) + BASE_MB, alive
    assert others.worst() < (3 if stored else 2), (others.worst(), others.took[-1], others.slower, alive)
    assert server.process.poll() is None and server.process.pid == pid
    assert server.acme.rows.find_one()["s"] == "0123456789" and server.acme.written.insert_one({}).acknowledged


@pytest.mark.timing
@pytest.mark.soak
def test_reading_everything_takes_no_memory(server):
    """More than a command may hold: counted, gone through by an ever open cursor, changed and deleted."""
    seen, large = len(server.log.read_text()), server.acme.large
    with Others(server.quiet) as others:
        assert large.count_documents({}) == 1000 and large.count_documents({"n": {"$lt": -49}}) == 500
        cursors = [large.find({}, {"n": 1}, batch_size=1) for _ in range(150)]
        assert [next(c) for c in cursors] == [{"_id": 0, "n": 0}] * 150
        assert [d["_id"] for d in large.find({"_id": {"$gte": 500}}, {"_id": 1}, batch_size=100)] == list(range(500, 1000))
        assert len(list(cursors[-1])) == 999
        sorted_ones = [server.acme.small.find({}, {"i": 1}, batch_size=1).sort("i", -1) for _ in range(50)]
        assert [next(c)["i"] for c in sorted_ones] == [999] * 50
        for c in cursors:
            c.close()
    assert max(server.alive(seen), default=0) < MADE_MB + BASE_MB, server.alive(seen)
    assert others.worst() < 2, (others.worst(), others.took[-1], others.slower)


@pytest.mark.timing
@pytest.mark.soak
def test_a_message_that_takes_much_memory_is_refused_before_it_does(server):
    seen = len(server.log.read_text())
    with Others(server.quiet) as others:
        for _ in range(2):
            text = refused(lambda: server.acme.dump.insert_many({"a": [{}] * 1100000} for _ in range(3)), code=9)
            assert "it takes too much memory" in text
            assert server.acme.rows.find_one({"x": {"$in": list(range(900000))}}) is None
    assert max(server.alive(seen), default=0) < HELD_MB, server.alive(seen)
    assert others.worst() < 2, (others.worst(), others.took[-1], others.slower)
