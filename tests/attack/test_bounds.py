"""Bounds of broker and monitor that nobody meets by accident."""
import collections
import json
import os
import struct
import subprocess

import pytest
from harness import until
from test_zmtp import home  # noqa: F401
from wire import DONE, NACK, UNSUBSCRIBE, Peer, Refused, header

MAX_CONSUMERS, OF_A_CONNECTION, DEAD_PER_S = 1024, 64, 50
NEVER = 2**32 - 1


def test_a_subscription_has_so_many_consumers(home):  # noqa: F811
    endpoint = home.endpoints["broker"]
    peers = [Peer(endpoint) for _ in range(MAX_CONSUMERS // OF_A_CONNECTION + 1)]
    try:
        for p in peers[:-1]:
            for k in range(OF_A_CONNECTION):
                p.subscribe("acme/events", "consume", consumer=k + 1)
        last = peers[-1]
        with pytest.raises(Refused, match="quota: a subscription may have 1024 consumers"):
            last.subscribe("acme/events", "consume")
        assert home.queue()["consumers"] == MAX_CONSUMERS
        last.subscribe("quiet/events", "consume", consumer=2)  # which is another's
        last.publish("quiet/events", [b"x"])
        assert [m.body for m in last.take()] == [b"x"]
        peers[0].send(header(UNSUBSCRIBE, 7, 4711))
        assert peers[0].answer(4711)[0] == DONE
        last.subscribe("acme/events", "consume", consumer=3)  # in its place
        assert home.queue()["consumers"] == MAX_CONSUMERS
    finally:
        for p in peers:
            p.close()


def test_dead_letters_fill_no_log(home):  # noqa: F811
    """A consumer that condemns whatever it gets: each is kept and counted, and so many a second are told of."""
    n, batch = 3000, 500
    with Peer(home.endpoints["broker"]) as p:
        p.subscribe("acme/events", "consume", messages=n)
        for _ in range(n // batch):
            p.publish("acme/events", [b"x"] * batch)
        got = p.take(n)
        assert len(got) == n
        p.send(header(NACK, 1, 4712), struct.pack("<QQ", got[0].seq, got[-1].seq), struct.pack("<I", NEVER), b"no")
        assert p.answer(4712)[0] == DONE
    assert home.queue()["dead"] == n
    assert len(home.rows("dead", "list", "acme/events")) == n
    for lines in (home.stream_journal(), [json.loads(line) for line in (home.path / "logs/broker.log").read_text().splitlines()]):
        told = collections.Counter(e["ts"][:19] for e in lines if e["event"] == "dead")
        assert sum(told.values()) < n and 0 < max(told.values()) <= 2 * DEAD_PER_S, told  # the broker's seconds are not the calendar's
    until(lambda: sum(e.get("dead") or 0 for e in home.stream_journal() if e["event"] == "interval") == n, home.path / "logs/tenants/acme",
          what=lambda: home.stream_journal()[-3:])


# Connects, says so, and floods with what cannot be parsed when it is told to.
STRAY = """
import sys, zmq
sys.path[:0] = sys.argv[3:]
from test_zmtp import frame, shake
s = shake(sys.argv[1], b"PUSH")
print("connected", flush=True)
sys.stdin.readline()
try:
    for _ in range(int(sys.argv[2]) // 100):
        s.sendall(frame(b"{" * 200) * 100)
except OSError:
    pass
print("sent", flush=True)
"""


@pytest.mark.needs_root
def test_reports_of_who_is_no_tenants_any_more_are_not_parsed(home):  # noqa: F811
    uid = next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")
    n, here = 20000, [os.path.dirname(__file__), os.path.join(os.path.dirname(__file__), "../system")]
    p = subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", STRAY, home.endpoints["monitor"], str(n), *here],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "connected\n"
    home.cli("tenant", "remove", "acme", "--purge")
    size = (home.path / "logs/monitor.log").stat().st_size
    p.stdin.write("\n")
    p.stdin.flush()

    def refused():
        rows = [json.loads(line) for line in home.cli("top", "--once", "--json").stdout.splitlines()]
        return next((r for r in rows if r["kind"] == "reports" and not r["tenant_id"]), {})
    seen = until(lambda: (r := refused()).get("foreign", 0) > 1000 and r, home.path / "logs", what=lambda: f"their refusal: {refused()}")
    assert not seen.get("malformed"), f"somebody looked into them: {seen}"
    p.stdin.close()
    assert p.stdout.readline() == "sent\n" and p.wait() == 0
    assert (home.path / "logs/monitor.log").stat().st_size - size < 20000
