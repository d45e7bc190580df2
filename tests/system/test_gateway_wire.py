"""The gateway and those who break HTTP, come slowly, or come too often; its certificate. By raw sockets."""
import hashlib
import json
import os
import re
import select
import shutil
import socket
import ssl
import subprocess
import sys
import threading
import time

import pytest

from harness import ROOT, free_port, until
from web import PASSWORD, Site, Wire, settings

sys.path.insert(0, str(ROOT / "clientlib/python"))
import simbdp  # noqa: E402

pytestmark = pytest.mark.anyone

ROWS = b"v,w\n1,a\n"
T = "/v1/tenants/acme"
GET = "GET /healthz HTTP/1.1\r\nHost: x\r\n"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


@pytest.fixture(scope="module")
def tight(mongo):
    """Limits that are met soon. Accounts have limits of their own, and so do the addresses 127.0.0.N: tests choose others."""
    s = Site(mongo, settings(idle_s=1, min_bytes_per_s=2000, connections=24, connections_per_address=6, uploads=2).replace("requests_per_s = -1", "requests_per_s = 1000000"))
    yield s
    s.cleanup()


# ---- what is no HTTP

PUT = f"PUT {T}/datasets/data/files/smuggled.csv HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer TOKEN\r\n"
# What follows such a request on the connection would be an answer to somebody else's, were it taken for a request.
SECOND = b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Second: 1\r\n\r\n"
HOSTILE = {
    "folded": PUT + "Content-Length: 8\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
    "two lengths": PUT + "Content-Length: 8\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "two lengths that differ": PUT + "Content-Length: 0\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "lengths in one field": PUT + "Content-Length: 8, 8\r\n\r\nv,w\n1,a\n",
    "length and chunked": PUT + "Content-Length: 8\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and length": PUT + "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "gzip": PUT + "Transfer-Encoding: gzip\r\n\r\n",
    "gzip, chunked": PUT + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked, chunked": PUT + "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": PUT + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": PUT + "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "xchunked": PUT + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked by 1.0": PUT.replace("1.1", "1.0") + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "blank before the colon": PUT + "Content-Length : 8\r\n\r\nv,w\n1,a\n",
    "blank before chunked's colon": PUT + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
    "length +8": PUT + "Content-Length: +8\r\n\r\nv,w\n1,a\n",
    "length -1": PUT + "Content-Length: -1\r\n\r\nv,w\n1,a\n",
    "length 0x8": PUT + "Content-Length: 0x8\r\n\r\nv,w\n1,a\n",
    "length 8x": PUT + "Content-Length: 8x\r\n\r\nv,w\n1,a\n",
    "length of 20 digits": PUT + "Content-Length: 18446744073709551624\r\n\r\nv,w\n1,a\n",
    "length of 40 digits": PUT + f"Content-Length: {'9' * 40}\r\n\r\nv,w\n1,a\n",
    "empty length": PUT + "Content-Length: \r\n\r\nv,w\n1,a\n",
    "no host": PUT.replace("Host: x\r\n", "") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "two hosts": PUT + "Host: y\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "two logins": PUT + "Authorization: Bearer x\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "control byte in a value": PUT + "X-A: a\x01b\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "no name": PUT + ": a\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "a line that begins with a colon": GET + ":\r\n\r\n",
    "a line that begins with a colon behind an empty field": GET + "X-A:\r\n:\r\n\r\n",
    "a line that begins with NUL": GET + "\0\r\n\r\n",
    "NUL in a value": GET + "X-A: a\0b\r\n\r\n",
    "NUL in a method": GET.replace("GET", "G\0ET") + "\r\n",
    "a line that ends with LF alone": GET + "X-A: a\n\r\n",
    "a header that ends with LF alone": GET + "X-A: a\r\n\n",
    "a first line that ends with LF alone": GET.replace("1.1\r\n", "1.1\n", 1) + "\r\n",
    "a fold": GET + "X-A: a\r\n b\r\n\r\n",
    "no colon": PUT + "X-A\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "blank in a name": PUT + "X A: b\r\nContent-Length: 8\r\n\r\nv,w\n1,a\n",
    "a chunk of xyz": PUT + "Transfer-Encoding: chunked\r\n\r\nxyz\r\nabc\r\n0\r\n\r\n",
    "a chunk of -1": PUT + "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc\r\n0\r\n\r\n",
    "a chunk of 2^64": PUT + "Transfer-Encoding: chunked\r\n\r\n10000000000000000\r\nabc\r\n0\r\n\r\n",
    "a chunk without its end": PUT + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcX0\r\n\r\n",
    "version 2.0": PUT.replace("1.1", "2.0") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "version 1.2": PUT.replace("1.1", "1.2") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "version HTTP/1.1x": PUT.replace("1.1", "1.1x") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "no version": PUT.replace(" HTTP/1.1", "") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "a blank in the target": PUT.replace("smuggled", "smug gled") + "Content-Length: 8\r\n\r\nv,w\n1,a\n",
    "the preface of HTTP/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\0" * 200,
    "noise": "\x80\xff\xfe" * 100 + "\r\n\r\n",
}


def is_document(said):
    """One answer, whose length is what it says, and whose body says what the head does."""
    head, body = said.split(b"\r\n\r\n", maxsplit=1)
    fields = dict(line.split(b": ", maxsplit=1) for line in head.split(b"\r\n")[1:])
    doc = json.loads(body)
    return (fields[b"Content-Type"], fields[b"Connection"], fields[b"X-Request-Id"].decode()) == (b"application/problem+json", b"close", doc["request_id"]) and \
        int(fields[b"Content-Length"]) == len(body) and head.startswith(b"HTTP/1.1 %d " % doc["status"]) and doc["code"] and doc["detail"]


@pytest.mark.parametrize("name", HOSTILE)
def test_a_request_that_means_two_things_means_nothing(site, name):
    """At most one answer, which is a refusal; then the connection is over, and what lay behind it was never a request."""
    text = HOSTILE[name].replace("TOKEN", site.of()).encode("latin-1")
    with site.wire() as w:
        w.try_send(text)
        w.try_send(SECOND)
        said = w.rest()
    statuses = re.findall(rb"(?:^|\r\n)HTTP/1\.1 (\d{3}) ", said)
    assert len(statuses) <= 1 and all(s[:1] == b"4" or s == b"505" for s in statuses), said
    assert b'"healthy"' not in said, said
    assert not statuses or is_document(said), said
    site.wait_spool()
    assert site.rows("smuggled.csv") == [] and site.is_well()


def test_what_is_refused_has_a_document(site):
    """Of those above; what libmicrohttpd refuses itself, too."""
    for name in ("no host", "length 8x", "length of 40 digits", "no colon", "a chunk of xyz", "two lengths", "two lengths that differ", "length and chunked", "gzip", "gzip, chunked", "two hosts", "two logins"):
        with site.wire() as w:
            w.try_send(HOSTILE[name].replace("TOKEN", site.of()))
            a = w.answer()
        assert a.status == 400 and a.code == "bad_request" and a.headers["Connection"] == "close", (name, a)
        site.fits("PUT", "/nothing", a)


def test_what_is_odd_and_allowed(site):
    login = f"Authorization: Bearer {site.of()}\r\n"
    for n, text in enumerate((f"PUT {T}/datasets/data/files/odd%d.csv HTTP/1.1\r\nhOST: x\r\n{login}CONTENT-LENGTH:\t8\r\n\r\nv,w\n1,%d\n",
                              f"PUT {T}/datasets/data/files/odd%d.csv HTTP/1.1\r\nHost:\r\n{login}Transfer-Encoding: CHUNKED\r\n\r\n00008;ext=1\r\nv,w\n1,%d\n\r\n0\r\n\r\n",
                              f"PUT {T}/datasets/data/files/odd%d.csv HTTP/1.0\r\n{login}Content-Length: 8\r\n\r\nv,w\n1,%d\n",
                              f"PUT http://elsewhere{T}/datasets/data/files/odd%d.csv HTTP/1.1\r\nHost: x\r\n{login}Content-Length: 8\r\n\r\nv,w\n1,%d\n")):
        with site.wire() as w:
            w.send(text % (n, n))
            a = w.answer()
            assert a.status == 201, (text, a)
            assert n != 2 or w.rest() == b"", "HTTP/1.0 ends the connection"
    with site.wire() as w:
        w.send(GET.replace("Host: x", "Host: x\r\nConnection: close") + "\r\n")
        assert w.answer().status == 200 and w.rest() == b""


def test_a_length_that_is_not_said(site):
    """Else a body that ends with its connection would be an empty file."""
    for version in ("1.0", "1.1"):
        with site.wire() as w:
            w.send(PUT.replace("TOKEN", site.of()).replace("1.1", version) + "\r\nv,w\n1,a\n")
            a = w.answer()
        assert (a.status, a.code) == (411, "length_required"), a
    assert site.rows("smuggled.csv") == []


@pytest.mark.parametrize("text", [
    GET + "X-A: " + "a" * 100000 + "\r\n\r\n", GET + "".join(f"X-{i}: a\r\n" for i in range(10000)) + "\r\n", GET.replace("/healthz", "/" + "a" * 100000) + "\r\n",
    GET.replace("/healthz", "/healthz?" + "a=1&" * 30000) + "\r\n", "G" * 100000 + " / HTTP/1.1\r\n\r\n", "a" * 1000000, "\r\n" * 500000])
def test_a_header_that_is_too_large(site, text):
    with site.wire() as w:
        w.try_send(text)
        said = w.rest()
    assert not said or (re.match(rb"HTTP/1\.1 (400|413|414|431) ", said) and is_document(said)), said[:300]
    assert site.is_well()


def test_a_header_that_is_just_large(site):
    """docs/openapi.yaml says that 12 kB are taken, and a URL of 8192 bytes."""
    login = site.login(site.of())["Authorization"]
    with site.wire() as w:
        w.send(f"GET /v1/whoami HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\nX-A: {'a' * 12000}\r\n\r\n")
        assert w.answer().status == 200
    for n, status in ((8192, 404), (8193, 400)):
        a = site.ask("GET", "/" + "a" * (n - 1))
        assert a.status == status, a


# ---- connections

def test_requests_follow_one_another_on_a_connection(site):
    login = site.login(site.of())["Authorization"]
    with site.wire() as w:
        for i in range(20):
            w.send(f"GET {T}/usage HTTP/1.1\r\nHost: x\r\nAuthorization: {login}\r\n\r\n")
            assert w.answer().status == 200
            w.send(site.head_of(f"kept{i}.csv", len(ROWS)).encode() + ROWS)
            assert w.answer().status == 201
            w.send(site.head_of("kept.xls", len(ROWS)).encode() + ROWS)
            assert w.answer().status == 422, "a small body that is refused is read, and the connection goes on"
            w.send("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
            assert w.answer().status == 404


def test_requests_that_come_all_at_once(site):
    """Answers come in their order."""
    put = [site.head_of(f"piped{i}.csv", 8).encode() + b"v,w\n9,%d\n" % i for i in range(10)]
    get = [b"GET /nothing%d HTTP/1.1\r\nHost: x\r\n\r\n" % i for i in range(10)]
    with site.wire() as w:
        w.send(b"".join(a + b for a, b in zip(put, get)))
        for i in range(10):
            a = w.answer()
            assert a.status == 201 and a.doc["file_name"] == f"piped{i}.csv", a
            assert w.answer().status == 404
    assert all(len(site.rows(f"piped{i}.csv")) == 1 for i in range(10))


def test_those_who_vanish(site):
    """In any state of a request, often; nothing stays behind."""
    head = site.head_of("vanished.csv", 1000).encode()
    parts = (b"", b"P", head[:40], head[:-1], head, head + b"v", head + b"v\n" * 499, GET.encode(), (GET + "\r\n").encode(), site.head_of("vanished.csv").encode() + b"5\r\nv,w",
             head[:-2] + b"Expect: 100-continue\r\n\r\n", f"GET {T}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.of()}\r\n\r\n".encode())
    for i in range(10):
        for part in parts:
            w = site.wire()
            w.send(part)
            w.reset() if i % 2 else w.close()
    site.wait_spool()
    assert site.rows("vanished.csv") == [] and site.is_well()
    assert site.put("after.csv", b"v,w\n8,a\n").status == 201


def test_a_body_that_ends_early(site):
    for head, body in ((site.head_of("early.csv", 100), b"v,w\n1,a\n"), (site.head_of("early.csv"), b"8\r\nv,w\n1,a\n\r\n"), (site.head_of("early.csv"), b"8\r\nv,w\n1"),
                       (site.head_of("early.csv", 8), b"v,w\n1,a")):
        with site.wire() as w:
            w.send(head)
            w.send(body)
            site.wait_spool(1)
            w.sock.shutdown(socket.SHUT_WR)
            said = w.rest()
            assert not said or re.match(rb"HTTP/1\.1 4\d\d ", said), said
        site.wait_spool()
    assert site.rows("early.csv") == []


def test_a_flood_behind_a_refusal(site):
    """Who sends more than he may is told so, also when it is much more."""
    with site.wire() as w:
        w.send(site.head_of("flood.csv", None, dataset="small"))
        stop = threading.Event()

        def pour():
            for _ in range(1 << 8):  # 16 MiB
                if stop.is_set():
                    return
                w.try_send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
            w.try_send(b"0\r\n\r\n")
        t = threading.Thread(target=pour)
        t.start()
        try:
            a = w.answer()
        finally:
            stop.set()
            t.join()
    assert (a.status, a.code) == (413, "max_file_bytes"), a
    site.wait_spool()


def test_memory_does_not_grow_with_a_body(site):
    def rss():
        return int(re.search(r"VmRSS:\s+(\d+)", open(f"/proc/{site.pid()}/status").read())[1]) << 10
    assert site.put("warm.csv", b"v\n" + b"1\n" * 1000000).status == 201
    before = rss()
    with site.wire() as w:
        w.send(site.head_of("bulk.csv", 2 + 64 * (1 << 20)))
        w.send(b"v\n")
        for i in range(64):
            w.send(b"%07d\n" % i * (1 << 17))
        during = rss()
        assert w.answer().status == 201
    assert during - before < 16 << 20, (before, during)


# ---- slow ones

def closed_within(w, seconds, drip=None, every=0.1):
    """How long it took until the other side ended the connection, while something is sent now and then."""
    began = time.monotonic()
    while not w.ended(every):
        assert time.monotonic() - began < seconds, "it is still open"
        if drip:
            w.try_send(drip)
    return time.monotonic() - began


@pytest.mark.timing
def test_a_header_that_does_not_end(tight):
    for first, drip in (("", None), ("GET /heal", None), (GET, None), (GET, "X: y\r\n"), ("", "\r\n"), ("GET /", "a")):
        with tight.wire(source="127.0.0.21") as w:
            w.send(first)
            assert closed_within(w, 10, drip) > 0.9
    with tight.wire(source="127.0.0.21") as w:
        w.send(GET + "\r\n")
        assert w.answer().status == 200
        assert closed_within(w, 10) > 0.9, "behind an answer, too"


@pytest.mark.timing
def test_a_body_in_drops(tight):
    """The platform's own time limit would begin anew with each byte."""
    token = tight.token(tight.user("dripper"))[0]
    for head, drip in ((tight.head_of("drops.csv", 1 << 20, token), b"x"), (tight.head_of("drops.csv", None, token), b"1\r\nx\r\n"), (tight.head_of("drops.csv", 1 << 20, token), None)):
        with tight.wire(source="127.0.0.22") as w:
            w.send(head)
            tight.wait_spool(1)
            assert 0.9 < closed_within(w, 15, drip)
        tight.wait_spool()
    assert tight.rows("drops.csv") == []


@pytest.mark.timing
def test_a_body_that_is_slow_and_fast_enough(tight):
    """Twice the rate that is asked for, for several times idle_s."""
    token = tight.token(tight.user("walker"))[0]
    with tight.wire(source="127.0.0.23") as w:
        w.send(tight.head_of("walk.csv", 2 + 40 * 400, token))
        w.send(b"v\n")
        for i in range(40):
            assert not w.ended(0.1)
            w.send(b"%09d\n" % i * 40)
        assert w.answer().status == 201


@pytest.mark.timing
def test_an_answer_that_nobody_reads(tight):
    w = Wire.__new__(Wire)
    w.sock = socket.socket()
    w.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    w.sock.bind(("127.0.0.24", 0))
    w.sock.connect((tight.host, tight.port))
    w.file = w.sock.makefile("rb")
    ask = b"GET /v1/openapi.yaml HTTP/1.1\r\nHost: x\r\n\r\n"
    began = time.monotonic()
    with w:
        w.sock.setblocking(False)
        while time.monotonic() - began < 20:  # what is read here is nothing: only whether it was ended
            poll = select.poll()
            poll.register(w.sock, select.POLLRDHUP | select.POLLHUP | select.POLLERR)
            if poll.poll(100):
                return
            try:
                w.sock.send(ask * 100)
            except BlockingIOError:
                pass
            except OSError:
                return
    raise AssertionError("it is still open")


# ---- too many

def held(n, open_one):
    """n connections that are there."""
    found = [open_one() for _ in range(n)]
    for w in found:
        w.send(GET + "\r\n")
        assert w.answer().status == 200
    return found


@pytest.mark.timing
def test_connections_of_an_address(mongo):
    s = Site(mongo, settings(connections_per_address=6))
    try:
        mine = held(6, lambda: s.wire(source="127.0.0.31"))
        with s.wire(source="127.0.0.31") as w:
            w.try_send(GET + "\r\n")
            assert w.rest() == b"", "one more is closed"
        with s.wire(source="127.0.0.32") as w:
            w.send(GET + "\r\n")
            assert w.answer().status == 200
        mine.pop().close()
        until(lambda: s.is_well(source="127.0.0.31"), what="a place")
        for w in mine:
            w.send(GET + "\r\n")
            assert w.answer().status == 200
            w.close()
    finally:
        s.cleanup()


@pytest.mark.timing
def test_connections(mongo):
    """More wait until one ends."""
    s = Site(mongo, settings(connections=5))
    try:
        mine = held(5, s.wire)
        with s.wire(timeout=30) as late:
            late.send(GET + "\r\n")
            assert not select.select([late.sock], [], [], 1)[0]
            began = time.monotonic()
            mine.pop().close()
            assert late.answer().status == 200
        for w in mine:
            w.close()
        until(s.is_well, what="the gateway")
        assert time.monotonic() - began < 15, "it listens again when there is room, not when something else happens"
    finally:
        s.cleanup()


def test_requests_of_an_account(tight):
    """Of each account for itself, whatever it asks; changed by a reload."""
    many, other = (tight.token(tight.user(name))[0] for name in ("asker", "bystander"))
    tight.setting(requests_per_s=5)
    try:
        answers = [tight.get("usage", many, source="127.0.0.41") for _ in range(30)]
        refused = [a for a in answers if a.status == 429]
        assert answers[0].status == 200 and 5 <= len(refused) < 30 and {a.code for a in refused} == {"rate"}
        assert all(int(a.headers["Retry-After"]) >= 1 for a in refused)
        assert tight.get("usage", other, source="127.0.0.41").status == 200
        missing = [tight.get("usage", many, "beta", source="127.0.0.41").status for _ in range(30)]
        assert 429 in missing, "what is refused is a request, too"
        until(lambda: tight.get("usage", many, source="127.0.0.41").status == 200, every=0.3, what="another second")
    finally:
        tight.setting(requests_per_s=1000000)
    assert {tight.get("usage", many, source="127.0.0.41").status for _ in range(30)} == {200}


def test_uploads_in_flight(tight):
    mine, other = (tight.token(tight.user(name))[0] for name in ("uploader", "neighbour"))
    body = b"v,w\n" + b"1,a\n" * 300
    held_ = []
    for i in range(2):
        w = tight.wire(source="127.0.0.51")
        w.send(tight.head_of(f"flight{i}.csv", len(body), mine))
        held_.append(w)
        tight.wait_spool(i + 1)
    a = tight.put("flight2.csv", body, mine, source="127.0.0.51")
    assert (a.status, a.code) == (429, "uploads") and int(a.headers["Retry-After"]) >= 1, a
    assert tight.put("flight3.csv", body, other, source="127.0.0.51").status == 201, "of an account"
    held_[0].send(body)
    assert held_[0].answer().status == 201
    held_[1].close()
    held_[0].close()
    tight.wait_spool()
    until(lambda: tight.put("flight4.csv", body, mine, source="127.0.0.51").status == 201, what="a place")
    tight.setting(uploads=0)
    try:
        a = tight.put("flight5.csv", body, mine, source="127.0.0.51")
        assert (a.status, a.code) == (429, "uploads")
    finally:
        tight.setting(uploads=2)


# ---- where it listens, and its certificate

@pytest.fixture(scope="module")
def tls(mongo):
    s = Site(mongo, settings(tls=True))
    yield s
    s.cleanup()


def shown(s):
    """The certificate's fingerprint."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((s.host, s.port), timeout=30) as raw, context.wrap_socket(raw) as sock:
        return ":".join(f"{b:02X}" for b in hashlib.sha256(sock.getpeercert(True)).digest()), sock.version()


def test_its_own_certificate(tls, tmp_path):
    fingerprint, version = shown(tls)
    assert fingerprint in tls.home.cli("status").stdout and version == "TLSv1.3" and tls.url.startswith("https://127.0.0.1:")
    crt = tls.home.path / "keys/gateway.crt"
    assert (tls.home.path / "keys/gateway.key").stat().st_mode & 0o777 == 0o600
    r = subprocess.run(["curl", "-sS", "--cacert", crt, "-u", f"{tls.user('curler')}:{PASSWORD}", f"{tls.url}/v1/whoami"], capture_output=True, text=True, timeout=60)
    assert '"curler"' in r.stdout, r
    assert subprocess.run(["curl", "-s", f"{tls.url}/healthz"], capture_output=True, timeout=60).returncode == 60, "nobody else vouches for it"
    for kw in ({"ca_file": str(crt)}, {"fingerprint": fingerprint}):
        with simbdp.Client(tls.url, tls.of(), **kw) as c:
            large = tmp_path / "large.csv"
            large.write_bytes(b"v\n" + b"".join(b"%d\n" % i for i in range(200000 + len(kw) + len(str(kw)))))
            assert c.wait(c.upload(large, "data")["file_id"])["state"] == "ingested"
            with pytest.raises(simbdp.ApiError, match="max_file_bytes"):
                c.upload(large, "small")
    with pytest.raises(ssl.SSLCertVerificationError):
        simbdp.Client(tls.url, tls.of(), fingerprint="00" * 32).whoami()


def test_what_tls_does_not_take(tls):
    with Wire(tls.host, tls.port) as w:
        w.send(GET + "\r\n")
        assert b"healthy" not in w.rest()
    for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_ciphers("ALL:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        with socket.create_connection((tls.host, tls.port), timeout=30) as raw, pytest.raises((ssl.SSLError, ConnectionResetError)):
            context.wrap_socket(raw)
    assert tls.is_well()
    with tls.wire() as w:
        w.send(tls.head_of("cut.csv", 1000))
        w.send(b"v\n")
        tls.wait_spool(1)
        w.sock.unwrap if False else w.reset()
    tls.wait_spool()


def test_a_certificate_of_ones_own(mongo, tmp_path):
    """Replaced, and read again by a reload: connections that are open stay."""
    tmp_path.chmod(0o755)
    where = tmp_path / "in use"
    where.mkdir()

    def make(name):
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", tmp_path / f"{name}.key", "-out", tmp_path / f"{name}.crt", "-days", "2",
                        "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        der = ssl.PEM_cert_to_DER_cert((tmp_path / f"{name}.crt").read_text())
        return ":".join(f"{b:02X}" for b in hashlib.sha256(der).digest())

    def use(crt, key):
        for source, target in ((crt, "c.pem"), (key, "k.pem")):
            shutil.copy(source, where / "new")
            os.rename(where / "new", where / target)
    first, second = make("first"), make("second")
    use(tmp_path / "first.crt", tmp_path / "first.key")
    s = Site(mongo, settings(tls=True, certificate=f'"{where}/c.pem"', key=f'"{where}/k.pem"'), ready=False)
    try:
        s.home.up()
        s.url = __import__("json").loads((s.home.path / "state/endpoints.json").read_text())["gateway"]["http"]
        s.host, s.port = "127.0.0.1", int(s.url.rpartition(":")[2])
        s.context = ssl.create_default_context(cafile=tmp_path / "first.crt")
        assert shown(s)[0] == first
        with s.wire() as w:
            use(tmp_path / "second.crt", tmp_path / "second.key")
            s.home.cli("reload")
            assert shown(s)[0] == second and second in s.home.cli("status").stdout
            w.send(GET + "\r\n")
            assert w.answer().status == 200
        use(tmp_path / "first.crt", tmp_path / "second.key")
        r = s.home.cli("reload", check=False)
        assert r.returncode == 1 and "belong together" in r.stderr and shown(s)[0] == second, r
    finally:
        s.cleanup()


def test_plain_http_is_for_this_host_alone(home):
    conf = home.path / "conf/mysimbdp.conf"
    text = conf.read_text()
    for listen, tls, words in (("0.0.0.0", "false", "http.tls"), ("192.0.2.1", "false", "http.tls"), ("localhost", "true", "http.listen"), ("127.0.0.1:80", "true", "http.listen")):
        conf.write_text(text.replace("platform = {", f'platform = {{ http = {{ listen = "{listen}"; tls = {tls}; }};'))
        r = home.cli("check", check=False)
        assert r.returncode == 1 and words in r.stderr, r
    for listen in ("127.0.0.1", "::1"):
        conf.write_text(text.replace("platform = {", f'platform = {{ http = {{ listen = "{listen}"; tls = false; }};'))
        home.cli("check")


def test_its_port(mongo):
    """The configured one; else one that stays."""
    port = free_port()
    s = Site(mongo, settings() + f" ports = {{ gateway = {port}; }};")
    try:
        assert s.port == port and s.is_well()
        s.home.down()
        assert "gateway" not in ((s.home.path / "state/endpoints.json").read_text() if (s.home.path / "state/endpoints.json").exists() else "")
    finally:
        s.cleanup()
    s = Site(mongo, settings())
    try:
        first = s.port
        s.home.down()
        s.up()
        assert s.port == first and s.is_well()
    finally:
        s.cleanup()


def test_without_an_address_there_is_no_gateway(home):
    home.tenant()
    home.up()
    assert home.pids("/gateway") == [] and "gateway" not in (home.path / "state/endpoints.json").read_text() and "gateway" not in home.cli("status").stdout
