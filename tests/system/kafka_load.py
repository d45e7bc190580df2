"""A publisher that works through whatever happens to Kafka, and what has to have come of it."""
import threading

from harness import until
from kafka import queue
from wire import CONFIRM, REFUSED, Peer, bodies, peer

STREAM = "acme/events"


class Publisher(threading.Thread):
    """Sends batches with numbers, each until it is confirmed, whatever happens meanwhile."""

    def __init__(self, home, sent=0, n=20):
        super().__init__()
        self.home, self.n, self.sent, self.refusals, self.ends, self.error = home, n, sent, [], threading.Event(), None

    def run(self):
        try:
            with Peer(self.home.endpoint) as p:
                while not self.ends.is_set():
                    self.one(p)
        except Exception as e:  # told by stop()
            self.error = e

    def one(self, p):
        request = p.post(STREAM, bodies(self.n, start=self.sent), 77, self.sent + 1)
        while not self.ends.is_set():
            got = p.receive(timeout=1)
            if got is None or (got[0] == REFUSED and got[2] == request):
                if got:
                    self.refusals.append((got[3][0].decode(), got[3][2].decode()))
                    self.ends.wait(0.05)
                request = p.post(STREAM, bodies(self.n, start=self.sent), 77, self.sent + 1)
            elif got[0] == CONFIRM:  # perhaps of the same numbers, sent before
                if got[2] == request:
                    self.sent += self.n
                    return

    def wait(self, n, timeout=60):
        until(lambda: self.error or self.sent >= n, self.home.base, timeout=timeout, what=lambda: f"{n} messages, {self.sent} are there: {self.refusals[-3:]}, {queue(self.home)}")
        assert not self.error, self.error

    def stop(self):
        self.ends.set()
        self.join()
        assert not self.error, self.error
        return self.sent


def assert_all_once(home, n, start=0):
    """From `start` on, in order; what was sent and not confirmed at the end may follow."""
    with peer(home) as p:
        p.subscribe(STREAM, "consume", messages=100000, size=64 << 20)
        got = []
        while start + len(got) < n:
            more = p.take(1, timeout=20)
            assert more, f"{len(got)} of {n}: {queue(home)}"
            got += more
        found = [m.body for m in got]
        want = bodies(len(found), start=start)
        assert found == want, [b for a, b in zip(found, want) if a != b][:5]
        for i in range(0, len(got), 1000):
            p.ack(got[i:i + 1000])


def take_all(p, n):
    got = []
    while len(got) < n:
        more = p.take(1, timeout=20)
        assert more, f"{len(got)} of {n}"
        got += more
    return got


def there_and_back(home, publish, stop, n_sent, keys=""):
    """While publish() works, until `stop` is set: the stream goes to Kafka, comes back, and goes there again. All that came out of it."""
    t = threading.Thread(target=publish)
    t.start()
    got = []
    try:
        with peer(home) as p:
            p.subscribe(STREAM, "consume")

            def consume(n):
                while len(got) < n:
                    more = take_all(p, 1)
                    p.ack(more)
                    got.extend(more)
            consume(50)
            for of_store, store in (('store = "kafka";', "kafka"), ("", "local"), ('store = "kafka";', "kafka")):
                home.streams(("events", f"{of_store} {keys}"))
                home.control({"op": "reload"}, "broker.sock")
                until(lambda: queue(home)["store"] == store and queue(home)["kafka"] is None, home.path / "state", what=lambda: f"the move: {queue(home)}")
                consume(n_sent() + 50)
            stop.set()
            t.join()
            consume(n_sent())
    finally:
        stop.set()
        t.join()
    return got
