"""What a hostile client, a cell that lies and whoever replaces the map can do to the front of a fleet. The cells are pretended: what
reached which of them is looked at there."""
import base64
import contextlib
import http.client
import os
import re
import select
import socket
import threading
import time

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cells import FakeCell, Fleet, Front
from harness import until

pytestmark = pytest.mark.anyone
GET = b"GET /v1/tenants/%s/files HTTP/1.1\r\nHost: data.example\r\n\r\n"


class World:
    """acme in cell a, beta in cell b."""

    def __init__(self, path, *options):
        self.a, self.b = FakeCell(), FakeCell()
        self.a.name, self.b.name = b"a", b"b"
        self.fleet = Fleet(path / "fleet")
        self.fleet.cli("init", self.fleet.path)
        self.fleet.sign(("add", "a", self.a.url), ("add", "b", self.b.url), ("assign", "acme", "a"), ("assign", "beta", "b"))
        self.front = Front(self.fleet, path / "front", "--domain", "data.example", *options).start()

    def sees_nothing_of(self, text):
        """What follows is served, and of the text nothing came to a cell."""
        for tenant, cell in [("acme", self.a), ("beta", self.b)]:
            assert self.front.raw(GET % tenant.encode()).body == cell.name
            assert text not in cell.bytes, cell.bytes

    def close(self):
        try:
            self.front.stop()
        finally:
            self.front.kill()
            self.a.close()
            self.b.close()


@pytest.fixture
def world(tmp_path):
    made = []

    def make(*options):
        made.append(World(tmp_path, *options))
        return made[0]
    yield make
    for w in made:
        w.close()


def post(*fields, target="/v1/tenants/acme/files:retry", body=b"", method="POST"):
    return f"{method} {target} HTTP/1.1\r\nHost: data.example\r\nX-Mark: evil\r\n".encode() + b"".join(f + b"\r\n" for f in fields) + b"\r\n" + body


SMUGGLED = b"GET /v1/tenants/beta/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n"
AMBIGUOUS = [
    post(b"Content-Length: 5", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding: chunked", b"Content-Length: 5", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Content-Length: 0", b"Content-Length: 5", body=SMUGGLED),
    post(b"Content-Length: 5", b"Content-Length: 5", body=b"12345"),
    post(b"Content-Length: 0, 5", body=SMUGGLED),
    *[post(b"Content-Length: " + n, body=SMUGGLED) for n in (b"+5", b"-5", b"0x5", b"5 5", b"", b"1" * 19, b"\xd9\xa5")],
    *[post(b"Transfer-Encoding: " + n, body=b"0\r\n\r\n" + SMUGGLED) for n in (b"xchunked", b"chunked, identity", b"identity", b"gzip, chunked", b"chunked;q=1", b"\x0bchunked", b"")],
    post(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"Transfer-Encoding : chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Content-Length : 5", body=SMUGGLED),
    post(b"X: y\r\n Transfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"Transfer-Encoding:\r\n chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"X: y\nTransfer-Encoding: chunked", body=b"0\r\n\r\n" + SMUGGLED),
    post(b"X: y\rTransfer-Encoding: chunked", body=b"0\r\n\r\n"),
    post(b"X: \0y"),
    post(b": y"),
    post(b"X y"),
    post(b"X\0: y"),
    post(b"Host: other"),
    post(b"Authorization: Bearer a", b"Authorization: Bearer b"),
    post(b"Connection: close, Content-Length", b"Content-Length: 5", body=b"12345"),
    post(b"Connection: Authorization"),
    post(b"Connection: Host"),
    b"GET /v1/tenants/acme/files?evil HTTP/1.1\r\n\r\n",
    b"GET  /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil HTTP/1.1 \r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil\tHTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil\r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil HTTP/1.0\r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil HTTP/2.0\r\nHost: data.example\r\n\r\n",
    b"GET http://data.example/v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"GET /v1/tenants/acme/files?evil\xff HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"G(T /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b" GET /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"\r\n\r\nGET /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n\r\n",
    b"CONNECT data.example:443 HTTP/1.1\r\nHost: data.example\r\n\r\n",
    post(b"Expect: evil"),
]


def test_what_could_be_read_in_two_ways_reaches_nobody(world):
    w = world()
    for text in AMBIGUOUS:
        with w.front.wire() as wire:
            wire.try_send(text)
            answer = wire.answer()
            assert answer.status in (400, 417, 505), (text, answer)
            assert wire.rest() == b"", (text, "the connection ends, and nothing behind it was read")
    w.sees_nothing_of(b"evil")


def test_bodies_that_are_malformed_end_the_request(world):
    w = world()
    for chunks in [b"5;evil=1\r\n12345\r\n0\r\n\r\n", b"0\r\nX-Evil: evil\r\n\r\n", b"-1\r\nevil", b"5\r\n12345evil\r\n0\r\n\r\n", b"5\n12345\r\n0\r\n\r\n", b"5\r\n12345\n0\r\n\r\n",
                   b" 5\r\n12345\r\n0\r\n\r\n", b"0x5\r\n12345\r\n0\r\n\r\n", b"ffffffffffffffffff\r\nevil", b"\r\nevil", b"0\r\nevil"]:
        answer = w.front.raw(b"POST /v1/tenants/acme/files:retry HTTP/1.1\r\nHost: data.example\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        assert answer.status == 400 and "chunk" in answer.doc["detail"], (chunks, answer)
    w.sees_nothing_of(b"evil")


def test_a_request_in_a_body_is_a_body(world):
    w = world()
    inner = GET % b"beta"
    with w.front.wire() as wire:
        wire.send(b"POST /v1/tenants/acme/x HTTP/1.1\r\nHost: data.example\r\nContent-Length: %d\r\n\r\n" % len(inner) + inner + GET % b"beta" + GET % b"acme")
        assert [wire.answer().body for _ in range(3)] == [b"a", b"b", b"a"], "each to its own cell, also where they come in one piece"
    assert w.a.requests[0][1] == inner and len(w.b.requests) == 1


def test_paths_and_hosts_that_mean_two_tenants_reach_neither(world):
    w = world()
    for target in ["/v1/tenants/acme/../beta/evil", "/v1/tenants/acme/./evil", "//v1/tenants/beta/evil", "/v1//tenants/beta/evil", "/v1/tenants//evil", "/v1/tenants/acme%2fbeta/evil",
                   "/v1/tenants/acme%2f..%2fbeta/evil", "/v1/tenants/%61cme/evil", "/v1/%74enants/beta/evil", "/v1/tenants/ACME/evil", "/v1/tenants/acme\\beta/evil",
                   "/v1/tenants/acme;beta/evil", "/v1/tenants/acme:beta/evil", "/v1/tenants/acme%00/evil", "/v1/tenants/" + "a" * 33 + "/evil", "/v1/tenants/acme/evil/",
                   "/v1/tenants/acme#/evil", "/v1/../v1/tenants/beta/evil", "/V1/tenants/beta/evil", "/v1/tenants/acme:suspend?evil", "/metrics?evil", "/v1/platform?evil", "/evil"]:
        answer = w.front.raw(f"GET {target} HTTP/1.1\r\nHost: acme.data.example\r\n\r\n".encode())
        assert answer.status in (400, 404, 421), (target, answer)
    for host in ["evil", "beta.data.example", "acme.data.example.evil", "acmedata.example", "x.acme.data.example", ".data.example", "acme.data.example:evil", "acme.data.example@evil",
                 "acme.data.example/", "data.example, beta.data.example", "[::1", "acme..data.example", "ACME/.data.example", "", "acme.data.example evil", "ACME.data.example"]:
        answer = w.front.raw(f"GET /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert answer.status in (400, 421), (host, answer)
    for fields in ["Simbdp-Tenant: beta", "Simbdp-Tenant: acme\r\nSimbdp-Tenant: beta", "Simbdp-Tenant: acme\r\nSimbdp-Tenant: acme", "Simbdp-Tenant: ../acme", "Simbdp-Tenant:"]:
        answer = w.front.raw(f"GET /v1/tenants/acme/files?evil HTTP/1.1\r\nHost: data.example\r\n{fields}\r\n\r\n".encode())
        assert answer.status in (400, 421), (fields, answer)
    w.sees_nothing_of(b"evil")
    for host in ["acme.Data.EXAMPLE", "acme.data.example:8443", "data.example"]:
        assert w.front.raw(f"GET /v1/tenants/acme/files HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).body == b"a"


def test_what_is_between_neighbours_is_not_passed_on(world):
    w = world()
    w.front.raw(b"GET /v1/tenants/acme/files HTTP/1.1\r\nHost: data.example\r\nX-Forwarded-For: 10.9.9.9\r\nForwarded: for=evil\r\nKeep-Alive: 5\r\nUpgrade: h2c\r\nTE: trailers\r\n"
                b"Proxy-Authorization: evil\r\nConnection: keep-alive, upgrade, te\r\nX-Own: kept\r\n\r\n")
    (head, _), = w.a.requests
    assert b"X-Own: kept" in head and b"X-Forwarded-For: 127.0.0.1" in head and b"Host: data.example" in head
    assert not re.search(rb"evil|10\.9|upgrade|keep-alive|trailers", head, re.I), head


# ---- too much, too slow ----

def test_heads_are_bounded(world):
    w = world("--idle-s", "2")
    answer = w.front.raw(b"GET /v1/tenants/acme/files HTTP/1.1\r\nHost: data.example\r\nX-Evil: " + b"x" * 20000 + b"\r\n\r\n")
    assert answer.status == 431
    assert w.front.raw(b"GET /v1/tenants/acme/files HTTP/1.1\r\nHost: data.example\r\n" + b"X: y\r\n" * 200 + b"\r\n").status == 400
    assert w.front.raw(b"GET /v1/tenants/acme/" + b"x" * 9000 + b" HTTP/1.1\r\nHost: data.example\r\n\r\n").status == 414
    with w.front.wire() as endless, w.front.wire() as silent:
        began = time.monotonic()
        while not endless.ended(within=0.3):  # a byte now and then does not lengthen it
            endless.try_send(b"G")
        assert silent.ended(within=10) and time.monotonic() - began < 20
    assert w.a.bytes == b""


def test_connections_are_bounded_and_given_back(world):
    w = world("--connections", "3", "--connections-per-address", "2", "--requests-per-cell", "3")
    with w.front.wire() as first, w.front.wire() as second:
        for wire in (first, second):
            wire.send(GET % b"acme")
            assert wire.answer().body == b"a"
        with w.front.wire() as third:
            assert third.ended(within=30)
        with w.front.wire(source="127.0.0.2") as other:
            other.send(GET % b"acme")
            assert other.answer().body == b"a"
            with w.front.wire(source="127.0.0.3") as fourth:
                assert fourth.ended(within=30)
        first.close()

    def comes_in():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return w.front.raw(GET % b"acme").body == b"a"
    until(comes_in, what="a connection that was given back")


def test_a_client_that_does_not_read_is_not_read_for(world):
    w = world()
    sent = []

    def endless(head):
        connection = w.a.connections[-1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        connection.setblocking(False)
        while select.select([], [connection], [], 2)[1]:
            with contextlib.suppress(BlockingIOError):
                sent.append(connection.send(b"x" * 65536))
        connection.setblocking(True)
        return b""
    w.a.says = endless
    with w.front.wire() as wire:
        wire.send(GET % b"acme")
        until(lambda: sum(sent) > 0, what="the first bytes")
        assert w.front.raw(GET % b"beta").body == b"b"
        until(lambda: not select.select([], [w.a.connections[-1]], [], 0)[1], what="that nothing more is taken")
        assert sum(sent) < 32 << 20, "what sockets hold, and two buffers"
        rss = int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{w.front.process.pid}/status").read())[1])
        assert rss < 400_000
    until(lambda: not open_to(w.a), what="the cell's connection to end with the client's")


def open_to(cell):
    """Connections of the front's that are still open."""
    alive = []
    for c in cell.connections:
        try:
            if c.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT):
                alive.append(c)
        except BlockingIOError:
            alive.append(c)
        except OSError:
            pass
    return alive


# ---- cells that hang, lie or send garbage ----

def test_a_cell_that_hangs_holds_up_nobody_else(world):
    w = world("--answer-s", "2")
    w.a.says = lambda head: None
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(w.front.wire()) for _ in range(10)]
        for wire in hanging:
            wire.send(GET % b"acme")
        w.a.wait(lambda: len(w.a.requests) == 10)
        assert w.front.raw(GET % b"beta").body == b"b"
        for wire in hanging:
            answer = wire.answer()
            assert (answer.status, answer.code) == (504, "gateway_timeout")
    w.a.close()
    answer = w.front.raw(GET % b"acme")
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (503, "unavailable", "2")


def test_a_cell_that_hangs_does_not_get_all_of_the_front(world):
    w = world("--connections", "8", "--requests-per-cell", "3")
    release = threading.Event()
    w.a.says = lambda head: release.wait(60) and b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\na"
    with contextlib.ExitStack() as stack:
        hanging = [stack.enter_context(w.front.wire()) for _ in range(3)]
        for wire in hanging:
            wire.send(GET % b"acme")
        w.a.wait(lambda: len(w.a.requests) == 3)
        for _ in range(5):
            refused = w.front.raw(GET % b"acme")
            assert (refused.status, refused.code, refused.headers["Retry-After"]) == (503, "busy", "2")
            assert w.front.raw(GET % b"beta").body == b"b"
        release.set()
        assert [wire.answer().body for wire in hanging] == [b"a"] * 3
    assert w.front.raw(GET % b"acme").body == b"a", "given back"


GARBAGE = [b"\0" * 100 + b"\r\n\r\n", b"x" * 40000, b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n12345", b"HTTP/1.1 20 OK\r\n\r\n", b"HTTP/1.0 200 OK\r\n\r\nevil",
           b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", b"HTTP/1.1 101 Switching\r\nUpgrade: evil\r\n\r\nevil", b"HTTP/1.1 200 OK\r\nX: a\nevil: 1\r\n\r\n",
           b"HTTP/1.1 200 OK\r\n evil: 1\r\n\r\n", b"HTTP/1.1 999 evil\r\n\r\n", b"220 smtp.example ESMTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: evil\r\n\r\n"]


def test_what_is_no_answer_is_not_passed_on(world):
    w = world()
    for text in GARBAGE:
        w.a.says = lambda head, text=text: text
        with w.front.wire() as wire:
            wire.send(GET % b"acme")
            answer = wire.answer()
            assert (answer.status, answer.code) == (502, "bad_gateway"), (text, answer)
            assert wire.rest() == b""
    w.a.says = lambda head: w.a.connections[-1].shutdown(socket.SHUT_RDWR)
    assert w.front.raw(GET % b"acme").status == 502
    assert w.front.raw(GET % b"beta").body == b"b"


def test_an_answer_that_breaks_off_is_seen_to(world):
    w = world()
    for start in (b"Content-Length: 100\r\n\r\n12345", b"Transfer-Encoding: chunked\r\n\r\n5\r\n12345\r\n", b"Transfer-Encoding: chunked\r\n\r\n5;x\r\n12345\r\n"):
        def broken(head, start=start):
            w.a.connections[-1].sendall(b"HTTP/1.1 200 OK\r\n" + start)
            w.a.connections[-1].shutdown(socket.SHUT_WR)
        w.a.says = broken
        with w.front.wire() as wire, pytest.raises(Exception, match="(?i)incomplete|reset|read|aborted"):
            wire.send(GET % b"acme")
            wire.answer()


def test_what_a_cell_says_too_much_reaches_nobody(world):
    """An answer behind the answer: neither the same client's next request gets it, nor another client."""
    w = world()
    w.a.says = lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\naHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
    with w.front.wire() as wire, w.front.wire() as other:
        for _ in range(5):
            for x in (wire, other):
                x.send(GET % b"acme")
                assert x.answer().body == b"a"
        w.a.says = lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nc"
        for x in (wire, other):
            x.send(GET % b"acme")
            assert x.answer().body in (b"a", b"c")


def test_each_client_has_a_connection_to_the_cell_of_his_own(world):
    w = world()
    with w.front.wire() as one, w.front.wire() as two:
        for wire in (one, two, one, two):
            wire.send(GET % b"acme")
            assert wire.answer().body == b"a"
        assert len(w.a.connections) == 2, "kept, and not shared"
    assert w.front.raw(GET % b"acme").body == b"a" and len(w.a.connections) == 3


def test_a_cell_that_ended_a_kept_connection_is_asked_again(world):
    w = world()
    with w.front.wire() as wire:
        for _ in range(3):
            wire.send(GET % b"acme")
            assert wire.answer().body == b"a"
            w.a.connections[-1].shutdown(socket.SHUT_RDWR)
    assert len(w.a.connections) == 3


# ---- the map ----

def signed(fleet, text):
    """A map as the provider would sign it, by another implementation."""
    secret = base64.b64decode((fleet.path / "map.key").read_text().split()[2])
    return text + b"signature " + base64.b64encode(Ed25519PrivateKey.from_private_bytes(secret[:32]).sign(text)) + b"\n"


def put(fleet, data):
    (fleet.path / "new").write_bytes(data)
    os.rename(fleet.path / "new", fleet.path / "map")


def test_maps_that_are_not_to_be_taken_change_nothing(world, tmp_path):
    w = world()
    first = (w.fleet.path / "map").read_bytes()
    w.fleet.sign(("assign", "beta", "a"))
    until(lambda: w.front.raw(GET % b"beta").body == b"a", what="the new map")
    second = (w.fleet.path / "map").read_bytes()
    body = second.rpartition(b"signature")[0]
    other = Fleet(tmp_path / "other")
    other.cli("init", other.path)
    other.sign(("add", "evil", w.b.url), ("assign", "beta", "evil"))
    for data, why in [(first, "an older one was put back"), (body, "is not signed"), (second.replace(b"beta a", b"beta b"), "was changed since"), (second[:100], "was cut"),
                      ((other.path / "map").read_bytes(), "not signed by this key"), (b"", "it is empty"), (os.urandom(1000), "no map"),
                      (signed(w.fleet, body.replace(b"beta a", b"beta b")), "signed in two places"),
                      (signed(w.fleet, re.sub(rb"until \d+", b"until 2000", re.sub(rb"from \d+", b"from 1000", body)).replace(b"serial 2", b"serial 3")), "has expired"),
                      (signed(w.fleet, re.sub(rb"from \d+", b"from 9000000000000", re.sub(rb"until \d+", b"until 9000000000001", body)).replace(b"serial 2", b"serial 3")), "in the future")]:
        before = len(w.front.said("map"))
        put(w.fleet, data)
        until(lambda: len(w.front.said("map")) > before, w.front.path, what=why)
        assert why in w.front.said("map")[-1]
        assert w.front.raw(GET % b"beta").body == b"a"
    (w.fleet.path / "map").unlink()
    until(lambda: "cannot" in w.front.said("map")[-1] or "No such file" in w.front.said("map")[-1], w.front.path, what="that it is gone")
    assert w.front.raw(GET % b"beta").body == b"a"
    put(w.fleet, first)
    again = Front(w.fleet, w.front.path, "--domain", "data.example")
    again.log = tmp_path / "again.log"
    again.start(ok=False)
    assert "an older one was put back" in again.said("start")[-1], "nor by starting anew"


def test_an_expired_map_sends_nobody_anywhere(world):
    w = world()
    text = (w.fleet.path / "map").read_bytes().rpartition(b"signature")[0].replace(b"serial 1", b"serial 2")
    put(w.fleet, signed(w.fleet, re.sub(rb"until \d+", b"until %d" % (time.time() * 1000 + 3000), text)))
    until(lambda: w.front.raw(GET % b"acme").status == 503, what="its end")
    assert "expired" in w.front.raw(GET % b"acme").doc["detail"]
    assert w.front.raw(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").status == 503 and w.front.raw(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").status == 200


def test_a_map_is_replaced_while_requests_run(world):
    """Each request is answered by the cell of one map or of the next, and none fails."""
    w = world()
    answers, stop = [], threading.Event()

    def ask():
        while not stop.is_set():
            with w.front.wire() as wire:
                for _ in range(20):
                    wire.send(GET % b"acme")
                    answers.append(wire.answer().body)
    threads = [threading.Thread(target=ask) for _ in range(4)]
    for t in threads:
        t.start()
    for cell in ["b", "a", "b"]:
        w.fleet.sign(("assign", "acme", cell))
        asked = len(answers)
        until(lambda: cell.encode() in answers[asked:], what="the new cell")
    stop.set()
    for t in threads:
        t.join()
    assert set(answers) == {b"a", b"b"} and w.front.raw(GET % b"acme").body == b"b"
