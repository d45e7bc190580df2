"""Answers of Kafka's that are lost on their way, or say that a record is there already and not where: a proxy before each node keeps one back,
or makes another one of it."""
import socket
import threading

import pytest
from harness import until
from kafka import CONF, Cluster, free_ports, queue
from kafka_load import STREAM, assert_all_once
from wire import bodies, peer

pytestmark = pytest.mark.anyone
PRODUCE = 0
DUPLICATE_SEQUENCE_NUMBER = 46

THEIRS = CONF.replace("listeners=PLAINTEXT://{host}:{port}", "listeners=CLIENT://{host}:{behind},PLAINTEXT://{host}:{port}", 1).replace(
    "advertised.listeners=PLAINTEXT://{host}:{port}", "advertised.listeners=CLIENT://{host}:{proxy},PLAINTEXT://{host}:{port}") + """\
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,CLIENT:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
"""


class Proxies:
    """One before each node. `lose`, `change`: how many of the next answers to PRODUCE do not arrive, or say DUPLICATE_SEQUENCE_NUMBER."""

    def __init__(self, ports):
        self.lose, self.lost, self.change, self.lock = 0, 0, 0, threading.Lock()
        self.listeners = []
        for proxy, behind in ports:
            s = socket.create_server(("127.0.0.1", proxy))
            self.listeners.append(s)
            threading.Thread(target=self.accept, args=(s, behind), daemon=True).start()

    def accept(self, listener, behind):
        while True:
            try:
                client, _ = listener.accept()
                node = socket.create_connection(("127.0.0.1", behind))
            except OSError:
                if listener.fileno() < 0:
                    return
                client.close()
                continue
            produced = {}  # versions, by correlation
            for args in ((client, node, self.request, produced), (node, client, self.answer, produced)):
                threading.Thread(target=self.carry, args=args, daemon=True).start()

    @staticmethod
    def carry(source, sink, passes, produced):
        try:
            with source.makefile("rb") as f:
                while True:
                    head = f.read(4)
                    n = int.from_bytes(head, "big")
                    body = f.read(n) if len(head) == 4 else b""
                    if not head or len(body) < n:
                        break
                    sink.sendall(passes(head + body, produced))
        except OSError:
            pass
        for s in (source, sink):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def request(self, frame, produced):
        if int.from_bytes(frame[4:6], "big") == PRODUCE:
            produced[frame[8:12]] = int.from_bytes(frame[6:8], "big")
        return frame

    def answer(self, frame, produced):
        version = produced.pop(frame[4:8], None)
        if version is None:
            return frame
        assert version <= 8, "of another shape"
        at = 4 + 4 + 4 + 2 + int.from_bytes(frame[12:14], "big") + 4 + 4  # behind size, correlation, one topic's name, one partition's number
        with self.lock:
            if self.lose:
                self.lose -= 1
                self.lost += 1
                return b""
            if self.change:
                self.change -= 1
                assert not any(frame[at:at + 2]), "it was stored"
                return frame[:at] + DUPLICATE_SEQUENCE_NUMBER.to_bytes(2, "big") + (-1).to_bytes(8, "big", signed=True) + frame[at + 10:]
        return frame

    def close(self):
        for s in self.listeners:
            s.shutdown(socket.SHUT_RDWR)
            s.close()


class Behind(Cluster):
    def __init__(self, directory, nodes=3):
        super().__init__(directory, nodes)
        ports = free_ports(2 * nodes)
        self.behind, self.front = dict(enumerate(ports[:nodes], 1)), dict(enumerate(ports[nodes:], 1))
        self.proxies = Proxies([(self.front[i], self.behind[i]) for i in self.front])

    @property
    def brokers(self):
        return ",".join(f"127.0.0.1:{p}" for p in self.front.values())

    def configuration(self, i, **values):
        return THEIRS.format(behind=self.behind[i], proxy=self.front[i], **values)

    def down(self):
        super().down()
        self.proxies.close()


KAFKA = Behind

def test_kafka_has_it_already_and_does_not_say_where(kafka_home, kafka):
    """As after the loss of a node. The sequence in the CONFIRM is 0 then; nothing is taken for another topic's."""
    home = kafka_home()
    with peer(home) as p:
        p.publish(STREAM, bodies(1), 7, 1)
        kafka.proxies.change = 1
        assert p.publish(STREAM, bodies(1, start=1), 7, 2) == (0, 1, 0)
        assert kafka.proxies.change == 0
        assert p.publish(STREAM, bodies(2, start=1), 7, 2) == (3, 1, 1)
        assert p.publish(STREAM, bodies(1, start=3), 7, 4) == (4, 1, 0)
    until(lambda: queue(home)["ready"] == 4, home.path / "state", what="the messages")
    assert (queue(home)["published"], queue(home)["lost"], queue(home)["kafka"]) == (4, 0, None)
    assert "begins anew" not in (home.base / "broker.err").read_text()
    assert_all_once(home, 4)


@pytest.mark.soak
def test_answers_are_lost_all_the_while(kafka_home, kafka, load):
    """Kafka has had more since when the library sends the record again, and refuses it as out of order: simbdp-kafka begins anew."""
    home, proxies = kafka_home(), kafka.proxies
    p = load(home)
    for _ in range(4):
        p.wait(p.sent + 100)
        lost = proxies.lost
        proxies.lose = 1
        until(lambda n=lost: proxies.lost > n, home.base, every=0.05, what="the answer to be lost")
    p.wait(p.sent + 200)
    assert_all_once(home, p.stop())
