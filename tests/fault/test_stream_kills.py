"""Done means of stream apps: messages through three supervised instances while a random program of the platform, or an instance, is killed
every second; each confirmed message is in MongoDB exactly once. SIMBDP_SOAK_MESSAGES=1000000 for the whole of it."""
import collections
import json
import os
import random
import signal
import subprocess
import time

import pymongo
import pytest
from harness import RELEASE, ROOT, Home, until

pytestmark = pytest.mark.anyone

MESSAGES = int(os.environ.get("SIMBDP_SOAK_MESSAGES", 20_000))
PUBLISHER = """
import sys, simbdp
with simbdp.Publisher("events") as p:
    for i in range(int(sys.argv[1])):
        p.publish('{"n":%d}' % i)
print("all")
"""
KINDS = {"broker": ("broker", ""), "streammgr": ("streammgr", ""), "monitor": ("monitor", ""), "batchmgr": ("batchmgr", ""), "spawner": ("simbdp-run", "--spawn"),
         "runner or spawner": ("simbdp-run", ""), "instance": ("simbdp-load", "--stream"), "MongoDB": ("java", "EmbeddedMongo")}


@pytest.fixture
def platform():
    home = Home(own_mongo=True)
    try:
        yield home
    finally:
        home.cleanup()


@pytest.mark.parametrize("seed", [1])
def test_every_message_once_while_programs_are_killed(platform, seed):
    rng, home = random.Random(seed), platform
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    (home.path / "conf/tenants/acme.conf").write_text(
        'datasets = ( { name = "data"; format = "json"; } ); streams = ( { name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; } );\n'
        'stream_apps = ( { app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "data"; min_instances = 3; max_instances = 3; } );\n')
    home.up()
    url = json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"]
    rows = pymongo.MongoClient(url, retryReads=True).acme.data
    env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_TENANT_ID": "acme", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"),
           "PYTHONPATH": str(ROOT / "clientlib/python")}
    publisher = subprocess.Popen(["/usr/bin/python3", "-c", PUBLISHER, str(MESSAGES)], env=env, stdout=subprocess.PIPE, text=True)
    kills, began = collections.Counter(), time.monotonic()

    def stored():
        try:
            return rows.estimated_document_count()
        except pymongo.errors.PyMongoError:
            return 0
    try:
        while publisher.poll() is None or stored() < MESSAGES:
            assert time.monotonic() - began < 180 + MESSAGES / 1000, (home.rows("queue", "list"), home.rows("app", "list"), stored())
            at, kind = time.monotonic(), rng.choice(list(KINDS))
            pids = home.pids(*KINDS[kind])
            if pids:
                os.kill(rng.choice(pids), signal.SIGKILL)
                kills[kind] += 1
            until(lambda: time.monotonic() - at >= 1, home.base, what="the next second", every=0.2)
        assert publisher.communicate()[0].strip() == "all"
        until(lambda: home.cli("queue", "list", check=False).returncode == 0, home.path / "state", what="the broker")
        until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state", what="an empty queue")
        assert home.queue()["dead"] == 0, home.rows("dead", "list")
        until(lambda: (lambda a: a and a[0]["ready"] == a[0]["instances"] == 3 and not a[0]["draining"])(home.rows("app", "list")), home.path / "state",
              what=lambda: f"three instances: {home.rows('app', 'list')}")
        until(lambda: len(home.pids("simbdp-load", "--stream")) == 3, home.path / "state", what="three processes and no more")
    finally:
        publisher.kill()
        publisher.wait()
        publisher.stdout.close()
    seen = bytearray(MESSAGES)
    for d in rows.find({}, {"_id": 0, "n": 1}):
        seen[d["n"]] += 1
    assert rows.count_documents({}) == MESSAGES and seen.count(1) == MESSAGES
    ended = [r for r in home.rows("runs", "--limit", "0") if r["kind"] == "stream"]
    assert sum(r["state"] != "ended" for r in ended) == 3
    print(f"{MESSAGES} messages, {time.monotonic() - began:.0f} s, {dict(kills)}, {len(ended)} instances")
