"""Done means of streams: messages through three consumers while the broker or one of them is killed every second; each confirmed message is in
MongoDB exactly once. SIMBDP_SOAK_MESSAGES=1000000 for the whole of it."""
import os
import random
import signal
import subprocess
import time

import pytest
from harness import BUILD, RELEASE, ROOT, until

MESSAGES = int(os.environ.get("SIMBDP_SOAK_MESSAGES", 60_000))
PUBLISHER = """
import sys, simbdp
with simbdp.Publisher("events") as p:
    for i in range(int(sys.argv[1])):
        p.publish('{"n":%d}' % i)
print(p.confirmed if p._p else "all")
"""


@pytest.mark.parametrize("seed", [1])
def test_every_message_once_while_programs_are_killed(home, mongo, seed):
    rng = random.Random(seed)
    mongo.client.drop_database("soak")
    home.streams(("events", "max_messages_per_s = -1; max_bytes_per_s = -1L;"))
    home.broker()
    env = {**home.env, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "events", "SIMBDP_TENANT_ID": "acme", "SIMBDP_APP": "consume", "MONGO_URL": mongo.url,
           "MONGO_DATABASE": "soak", "SIMBDP_DATASET": "data", "SIMBDP_LIBRARY": str(RELEASE / "clientlib/libsimbdp.so.1"),
           "PYTHONPATH": str(ROOT / "clientlib/python")}
    rows = mongo.client.soak.data

    def consumer():
        return subprocess.Popen([BUILD / "simbdp-load", "--stream"], env=env, stderr=open(home.base / "loader.err", "a"))

    publisher = subprocess.Popen(["/usr/bin/python3", "-c", PUBLISHER, str(MESSAGES)], env=env, stdout=subprocess.PIPE, text=True)
    consumers = [consumer() for _ in range(3)]
    kills, began = {"broker": 0, "consumer": 0}, time.monotonic()
    try:
        while publisher.poll() is None or rows.estimated_document_count() < MESSAGES:
            assert time.monotonic() - began < 120 + MESSAGES / 1000, (home.queue(), rows.estimated_document_count())
            at = time.monotonic()
            if rng.random() < 0.4:
                home.stop_broker(kill=True)
                home.broker()
                kills["broker"] += 1
            else:
                i = rng.randrange(3)
                consumers[i].send_signal(signal.SIGKILL)
                consumers[i].wait()
                consumers[i] = consumer()
                kills["consumer"] += 1
            try:
                publisher.wait(max(0, 1 - (time.monotonic() - at)))
                until(lambda: time.monotonic() - at >= 1 or rows.estimated_document_count() >= MESSAGES, home.base, what="the next second", every=0.2)
            except subprocess.TimeoutExpired:
                pass
        assert publisher.communicate()[0].strip() == "all"
        until(lambda: home.queue()["ready"] + home.queue()["leased"] == 0, home.path / "state", what="an empty queue")
        q = home.queue()
        assert q["dead"] == 0, home.rows("dead", "list")
    finally:
        publisher.kill()
        for p in consumers:
            p.terminate()
            p.wait()
    assert kills["broker"] and kills["consumer"], kills
    seen = bytearray(MESSAGES)
    for d in rows.find({}, {"_id": 0, "n": 1}):
        seen[d["n"]] += 1
    assert rows.count_documents({}) == MESSAGES and seen.count(1) == MESSAGES
    print(f"{MESSAGES} messages, {time.monotonic() - began:.0f} s, {kills}")
