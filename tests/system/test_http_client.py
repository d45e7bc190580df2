"""simbdp.Client against a server that does as a test says, mostly badly. Time is the test's: nothing here waits for a clock."""
import base64
import datetime
import hashlib
import io
import os
import pickle
import re
import socket
import ssl
import subprocess
import sys
import threading

import pytest
import yaml

from fake_server import Server, answer, cut, cut_after, events, garbage, problem, read_body, short
from harness import ROOT

sys.path.insert(0, str(ROOT / "clientlib/python"))
import simbdp  # noqa: E402
import simbdp_http  # noqa: E402

pytestmark = pytest.mark.anyone

TOKEN = "sbt_4q1z0v7m2k9d_" + "A" * 43
TAKEN = {"file_id": "01kdv6y6q3p8sxkq2n4ft5w7za", "tenant_id": "acme", "dataset": "data", "file_name": "a.csv", "size_bytes": 4, "state": "received"}
PIECE = 1 << 16


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()


class Time:
    def __init__(self):
        self.now, self.slept = 1000.0, []

    def pass_by(self, s):
        self.slept.append(s)
        self.now += s

    def clock(self):
        return self.now


def client_of(server, token=TOKEN, **kw):
    time = Time()
    c = simbdp.Client(server.url, token, **{"tenant": "acme", "timeout": 30, "sleep": time.pass_by, "clock": time.clock, **kw})
    c.time = time
    return c


@pytest.fixture
def client(server):
    with client_of(server) as c:
        yield c


def refused(status, code, call, *args, **kw):
    with pytest.raises(simbdp.ApiError) as e:
        call(*args, **kw)
    assert (e.value.status, e.value.code) == (status, code), e.value
    return e.value


def is_file(tmp_path, data=b"v\n1\n", name="a.csv"):
    (tmp_path / name).write_bytes(data)
    return tmp_path / name


# ---- what is asked

def test_who_asks(server):
    with client_of(server, tenant=None) as c:
        server.script = [answer({"account": "ann", "tenant_id": "acme"}), answer({"file_id": "x"}), answer({"file_id": "x"})]
        assert c.tenant == "acme"
        assert c.file("x") == {"file_id": "x"} == c.file("x")
    assert [h.path for h in server.asked] == ["/v1/whoami", "/v1/tenants/acme/files/x", "/v1/tenants/acme/files/x"]
    assert {h.headers["Authorization"] for h in server.asked} == {f"Bearer {TOKEN}"}
    assert server.connections == 1
    assert TOKEN not in repr(c)


def test_user_and_password_and_a_path_before_it(server):
    c = simbdp.Client(server.url + "/simbdp/", user="ann", password="pä:ss", tenant="acme")
    c.usage()
    assert server.asked[0].path == "/simbdp/v1/tenants/acme/usage"
    assert server.asked[0].headers["Authorization"] == "Basic " + base64.b64encode("ann:pä:ss".encode()).decode()


def test_an_operator_has_to_say_which_tenant(server):
    server.script = [answer({"account": "root", "tenant_id": None})]
    with pytest.raises(ValueError, match="tenant="):
        client_of(server, tenant=None).usage()


@pytest.mark.parametrize("arguments, why", [
    ({"url": "ftp://h", "token": "t"}, "https://"), ({"url": "h:80", "token": "t"}, "https://"), ({"url": "https://h/?x", "token": "t"}, "https://"),
    ({"url": "https://u:p@h", "token": "t"}, "https://"), ({"url": "http://example.com", "token": "t"}, "in the open"),
    ({"url": "https://h"}, "a token"), ({"url": "https://h", "token": "t", "user": "u", "password": "p"}, "a token"),
    ({"url": "https://h", "user": "u"}, "a token"), ({"url": "https://h", "user": "u:v", "password": "p"}, "colon"),
    ({"url": "https://h", "token": " "}, "no token"), ({"url": "https://h", "token": "a\r\nX: y"}, "no token"), ({"url": "https://h", "token": "ä"}, "no token"),
    ({"url": "https://h", "token": "t", "fingerprint": "AB:CD"}, "32 bytes"), ({"url": "https://h", "token": "t", "fingerprint": "x" * 64}, "32 bytes"),
    ({"url": "http://[::1]:80", "token": "t", "fingerprint": "00" * 32}, "no certificate"), ({"url": "https://h", "token": "t", "tries": 0}, "at least 1")])
def test_arguments_that_make_no_sense(arguments, why):
    with pytest.raises(ValueError, match=why):
        simbdp.Client(**arguments)


def test_each_question_and_order_is_described(server, client, tmp_path):
    """What each method asks is in docs/openapi.yaml, and what that has of a tenant's is asked by some method."""
    document = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
    page = {"files": [], "runs": [], "apps": [], "rejects": [], "records": [], "next": None}
    when = datetime.datetime(2026, 1, 31, 13, 0, 0, 5000, datetime.timezone(datetime.timedelta(hours=1)))
    for call, args, kw, doc in (
            (client.whoami, (), {}, {}), (client.upload, (is_file(tmp_path), "data"), {"app": "load", "force": True}, TAKEN),
            (client.files, (), {"dataset": "data", "state": "waiting", "since": when}, page), (client.file, ("F",), {}, {}),
            (client.wait, ("F",), {}, {"state": "ingested"}), (client.rejects, ("F",), {}, page), (client.retry, (), {}, {"n": 3}), (client.retry, ("F",), {}, {"n": 1}),
            (client.delete, ("F",), {}, {"n": 1}), (client.runs, (), {"file_id": "F", "state": "ended", "since": "2026-01-31T12:00:00Z"}, page),
            (client.run, ("R",), {}, {}), (client.log, ("R",), {"tail": 100}, {}), (client.events, (), {"types": ["file"], "last_event_id": "0"}, None),
            (client.follow_log, ("R",), {}, None), (client.stop, ("R",), {}, {"n": 1}), (client.apps, (), {}, page),
            (client.run_app, ("load",), {}, {"n": 2}), (client.agreement, (), {}, {}), (client.usage, (), {}, {}), (client.bill, (when,), {}, {}),
            (client.push, ("load", is_file(tmp_path)), {"activate": True}, {}), (client.versions, ("load",), {}, {}), (client.version, ("load", "V"), {}, {}),
            (client.activate, ("load", "V"), {}, {}), (client.roll_back, ("load",), {}, {}), (client.remove_version, ("load", "V"), {}, {}),
            (client.configuration, (), {}, {}), (client.configure, ("datasets = ();",), {}, {}), (client.instances, ("tell",), {}, {"instances": []}),
            (client.history, ("tell",), {"since": "6h"}, {}),
            (client.start_instance, ("tell", ["--fast"]), {}, {}), (client.stop_instance, ("I",), {}, {}), (client.start_app, ("tell",), {}, {}),
            (client.stop_app, ("tell",), {}, {}), (client.scale, ("tell", 3), {}, {}), (client.suspend, (), {}, {}), (client.resume, (), {}, {}),
            (client.audit, (), {"who": "ann", "what": "upload", "tenant": "acme"}, page), (client.verify_audit, (), {}, {}), (client.platform, (), {}, {}), (client.platform_events, (), {}, None)):
        server.script = [answer(doc) if doc is not None else events('event: end\ndata: {"reason":"ended"}\n\n')]
        result = call(*args, **kw)
        if not isinstance(result, (dict, list, int, str, type(None))):
            assert list(result) == []
    asked = [(h.command, h.path) for h in server.asked]
    assert ("GET", "/v1/tenants/acme/files?dataset=data&state=waiting&since=2026-01-31T12%3A00%3A00.005Z&limit=1000") in asked
    assert ("GET", "/v1/tenants/acme/bills/2026-01") in asked and ("POST", "/v1/tenants/acme/files/F:retry") in asked
    described = {}
    for path, item in document["paths"].items():
        pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+?", re.escape(path)) + "$")
        for method in {"get", "put", "post", "delete"} & set(item):
            named = [(document["components"]["parameters"][p["$ref"].rpartition("/")[2]] if "$ref" in p else p)["name"] for p in item[method].get("parameters", [])]
            described[method.upper(), path] = pattern, {n.lower() for n in named}
    met = set()
    for method, target in asked:
        path, _, query = target.partition("?")
        fitting = [k for k, (pattern, _) in described.items() if k[0] == method and pattern.match(path)]
        fitting = [k for k in fitting if ":" not in path or k[1].endswith(":" + path.rpartition(":")[2])]
        assert len(fitting) == 1, (method, target, fitting)
        met.add(fitting[0])
        assert {f.partition("=")[0] for f in query.split("&") if f} <= described[fitting[0]][1], target
    others = {"resumable uploads", "streams"}  # for which there are other clients
    wanted = {(method, path) for method, path in described if path.startswith("/v1/tenants/") and not others & set(document["paths"][path][method.lower()]["tags"])}
    forms = {("POST", "/v1/tenants/{tenant}/datasets/{dataset}/files")}  # browsers'
    assert wanted - forms <= met, wanted - forms - met


def test_names_are_escaped(server, client):
    server.script = [answer(TAKEN)] * 4
    for name in ("ä %?#&.csv", "../a/b", "a:retry", os.fsdecode(b"\xff.csv")):
        client.upload(io.BytesIO(b"x"), "da ta", name)
    assert [h.path.rpartition("/files/")[2] for h in server.asked] == ["%C3%A4%20%25%3F%23%26.csv", "..%2Fa%2Fb", "a%3Aretry", "%FF.csv"]
    assert "/datasets/da%20ta/" in server.asked[0].path


# ---- uploads

def test_an_upload(server, client, tmp_path):
    data = os.urandom(3 * PIECE + 5)
    path, steps = is_file(tmp_path, data), []
    server.script = [answer(TAKEN, 201)]
    assert client.upload(path, "data", progress=lambda *step: steps.append(step)) == TAKEN
    (h,) = server.asked
    assert (h.command, h.path) == ("PUT", "/v1/tenants/acme/datasets/data/files/a.csv") and h.body == data
    assert h.headers["Content-Digest"] == f"sha-256=:{base64.b64encode(hashlib.sha256(data).digest()).decode()}:"
    assert h.headers["Content-Length"] == str(len(data)) and not h.headers["Expect"] and len(h.headers["Idempotency-Key"]) == 36
    assert steps == [(min(n * PIECE, len(data)), len(data)) for n in range(1, 5)]
    server.script = [answer(TAKEN)]
    client.upload(str(path), "data", "b.csv", app="load", force=True, digest=False, idempotency_key="mine")
    assert server.asked[1].path.endswith("/b.csv?app=load&force=1") and server.keys()[1] == "mine" and not server.asked[1].headers["Content-Digest"]


def test_an_empty_file(server, client, tmp_path):
    server.script = [answer(TAKEN, 201)]
    client.upload(is_file(tmp_path, b""), "data")
    assert server.asked[0].headers["Content-Length"] == "0" and server.asked[0].body == b""


class Endless(io.RawIOBase):
    """A large file that is nowhere; says how much was asked for at once."""
    name = "/tmp/large.csv"

    def __init__(self, size):
        self.size, self.at, self.most, self.read_bytes = size, 0, 0, 0

    def readable(self):
        return True

    def seekable(self):
        return True

    def seek(self, to, whence=0):
        self.at = to + (0, self.at, self.size)[whence]
        return self.at

    def tell(self):
        return self.at

    def read(self, n=-1):
        assert n > 0
        self.most = max(self.most, n)
        n = min(n, self.size - self.at)
        self.at += n
        self.read_bytes += n
        return b"x" * n


def test_a_large_file_is_never_in_memory(server, client):
    file = Endless(40 << 20)
    server.script = [answer(TAKEN, 201)]
    client.upload(file, "data")
    assert file.most <= PIECE and len(server.asked[0].body) == file.size and server.asked[0].path.endswith("/large.csv")


def test_a_large_file_that_is_refused_is_not_sent(server, client):
    file = Endless(1 << 40)
    server.script = [problem(413, "max_file_bytes", read=False, close=True)]
    e = refused(413, "max_file_bytes", client.upload, file, "data", digest=False)
    assert file.read_bytes == 0 and e.request_id == "rq-of-document"


def test_a_server_that_does_not_know_expect(server, client, monkeypatch):
    monkeypatch.setattr(simbdp_http, "_CONTINUE_S", 0.01)

    def ignore(h):
        del h.headers["Expect"]
        answer(TAKEN, 201)(h)
    file = Endless(1 << 20)
    server.script = [ignore]
    assert client.upload(file, "data") == TAKEN and len(server.asked[0].body) == 1 << 20


def test_a_file_object_is_sent_from_where_it_is(server, client, tmp_path):
    server.script = [cut_after(1), answer(TAKEN, 201)]
    with open(is_file(tmp_path, b"head\nrest\n"), "rb") as f:
        f.readline()
        client.upload(f, "data")
    assert server.asked[-1].body == b"rest\n" and server.asked[-1].path.endswith("/a.csv")


def test_what_is_no_file(client, tmp_path):
    with pytest.raises(ValueError, match="no name"):
        client.upload(io.BytesIO(b"x"), "data")
    with pytest.raises(TypeError, match="'rb'"):
        client.upload(open(is_file(tmp_path)), "data")
    with pytest.raises(TypeError, match="'rb'"):
        client.upload(open(is_file(tmp_path)), "data", digest=False)
    with pytest.raises(FileNotFoundError):
        client.upload(tmp_path / "b.csv", "data")
    for key in ("", "x" * 256, "ä", "a\r\nb"):
        with pytest.raises(ValueError, match="idempotency_key"):
            client.upload(is_file(tmp_path), "data", idempotency_key=key)


class Bad(Endless):
    def __init__(self, size, error, after):
        super().__init__(size)
        self.error, self.after = error, after

    def read(self, n=-1):
        if self.read_bytes >= self.after:
            if self.error:
                raise self.error
            return b""
        return super().read(n)


@pytest.mark.parametrize("file, error", [(Bad(4 * PIECE, OSError(5, "the disk"), PIECE), OSError), (Bad(3 * PIECE, None, PIECE), ValueError)])
def test_a_file_that_cannot_be_read_is_not_the_networks_fault(server, client, file, error):
    server.script = [read_body]
    with pytest.raises(error, match="the disk|shorter"):
        client.upload(file, "data", digest=False)
    assert client.time.slept == []


def test_a_progress_that_fails_is_the_callers(server, client, tmp_path):
    def progress(*_):
        raise BrokenPipeError("the terminal is gone")
    server.script = [read_body]
    with pytest.raises(BrokenPipeError, match="terminal"):
        client.upload(is_file(tmp_path), "data", progress=progress)
    assert client.time.slept == []


def pipe_of(data):
    r, w = os.pipe()
    with open(w, "wb") as f:
        f.write(data)
    return open(r, "rb")


def test_a_pipe_is_sent_in_chunks(server, client):
    steps = []
    server.script = [answer(TAKEN, 201)]
    with pipe_of(b"a" * 1000) as f:
        client.upload(f, "data", "p.csv", progress=lambda *s: steps.append(s))
    (h,) = server.asked
    assert h.body == b"a" * 1000 and h.headers["Transfer-Encoding"] == "chunked" and not h.headers["Content-Digest"] and steps == [(1000, None)]


def test_a_pipe_is_sent_once(server, client):
    """Unless nothing of it was read yet."""
    server.script = [problem(429, "uploads", Retry_After="1", read=False, close=True), answer(TAKEN, 201)]
    with pipe_of(b"abc") as f:
        assert client.upload(f, "data", "p.csv") == TAKEN
    assert server.asked[1].body == b"abc" and client.time.slept == [1]

    def cut_later(h):
        read_body(h)
        cut(h)
    server.script = [cut_later]
    with pipe_of(b"abc") as f:
        refused(0, "unreachable", client.upload, f, "data", "p.csv")
    assert len(server.asked) == 3


# ---- tries

@pytest.mark.parametrize("break_", [cut, cut_after(1), cut_after(PIECE), short, garbage, problem(502, "x"), problem(504, "x")])
def test_an_upload_is_tried_again_under_the_same_key(server, client, tmp_path, break_):
    data = os.urandom(2 * PIECE)
    server.script = [break_, break_, answer(TAKEN, 201)]
    assert client.upload(is_file(tmp_path, data), "data") == TAKEN
    assert len(server.asked) == 3 and len(set(server.keys())) == 1 and server.asked[2].body == data
    assert len(client.time.slept) == 2 and all(0 < s <= 0.5 for s in client.time.slept)
    client.upload(is_file(tmp_path, data), "data")
    assert len(set(server.keys())) == 2, "each call has its own"


@pytest.mark.parametrize("status, code", [(429, "rate"), (503, "unavailable"), (507, "disk_low")])
def test_what_is_busy_is_asked_again_when_it_says(server, client, tmp_path, status, code):
    server.script = [problem(status, code, Retry_After="7"), problem(status, code, Retry_After="1"), answer(TAKEN, 201)]
    client.upload(is_file(tmp_path), "data")
    assert client.time.slept == [7, 1] and len(set(server.keys())) == 1
    server.script = [problem(status, code, Retry_After="3"), answer({"n": 4})]
    assert client.retry() == 4 and client.time.slept[2:] == [3]


def test_without_retry_after(server, client):
    server.script = [problem(503, "ledger"), problem(507, "disk_low", Retry_After="Wed, 21 Oct 2026 07:28:00 GMT"), answer({"a": 1})]
    assert client.usage() == {"a": 1} and len(client.time.slept) == 2 and max(client.time.slept) <= 0.5
    server.script = [problem(429, "max_files_per_day")]
    assert refused(429, "max_files_per_day", client.usage).retry_after is None


def test_tries_are_bounded(server):
    c = client_of(server, tries=4)
    server.script = [problem(503, "unavailable", "why", Retry_After="2")] * 9
    e = refused(503, "unavailable", c.usage)
    assert (e.detail, e.retry_after, len(server.asked), c.time.slept) == ("why", 2, 4, [2, 2, 2])
    server.script = [cut] * 9
    refused(0, "unreachable", c.usage)
    assert len(server.asked) == 8


def test_patience_is_bounded(server):
    c = client_of(server, patience=100)
    server.script = [problem(503, "draining", Retry_After="60")] * 9
    refused(503, "draining", c.usage)
    assert c.time.slept == [60] and len(server.asked) == 2
    server.script = [problem(429, "max_files_per_day", Retry_After="40000")]
    assert refused(429, "max_files_per_day", c.usage).retry_after == 40000
    assert c.time.slept == [60]


def test_pauses_grow(server):
    c = client_of(server, tries=12)
    server.script = [problem(503, "unavailable")] * 12
    refused(503, "unavailable", c.usage)
    slept = c.time.slept
    assert len(slept) == 11 and slept[0] <= 0.25 and slept[-1] > slept[0] and max(slept) <= 15 and slept[7] >= 7.5


def test_other_errors_are_not_tried_again(server, client):
    for status, code in ((400, "bad_request"), (401, "unauthorized"), (404, "not_found"), (409, "conflict"), (422, "digest"), (500, "internal")):
        server.script = [problem(status, code, Retry_After="1")]
        refused(status, code, client.usage)
    assert client.time.slept == [] and len(server.asked) == 6


def test_orders_are_not_sent_twice_when_it_is_not_known_whether_they_arrived(server, client):
    for break_ in (cut, short, problem(502, "bad_gateway")):
        for call, args in ((client.retry, ()), (client.retry, ("F",)), (client.delete, ("F",)), (client.stop, ("R",)), (client.run_app, ("a",))):
            n = len(server.asked)
            server.script = [break_]
            with pytest.raises(simbdp.ApiError):
                call(*args)
            assert len(server.asked) == n + 1, call
    assert client.time.slept == []


def test_a_start_is_sent_again_by_its_key(server, client):
    for break_ in (cut, short, problem(502, "bad_gateway")):
        server.asked.clear()
        server.script = [break_, answer({"instance_id": "I"}, 201), answer({"instance_id": "J"}, 201)]
        assert client.start_instance("tell", ["-x"])["instance_id"] == "I" and client.start_instance("tell", ["-x"])["instance_id"] == "J"
        key, again, other = server.keys()
        assert key == again != other and len(key) == 36
        assert server.asked[1].body == b'{"args": ["-x"]}'
    server.script, server.asked = [answer({}, 201)], []
    client.start_instance("tell", idempotency_key="mine")
    assert server.keys() == ["mine"]
    for key in ("", "x" * 256, "ä"):
        with pytest.raises(ValueError, match="idempotency_key"):
            client.start_instance("tell", idempotency_key=key)


def test_an_order_for_nobody_is_tried_again():
    with socket.create_server(("127.0.0.1", 0)) as s:
        port = s.getsockname()[1]
    time = Time()
    c = simbdp.Client(f"http://127.0.0.1:{port}", TOKEN, tenant="acme", tries=3, sleep=time.pass_by, clock=time.clock)
    e = refused(0, "unreachable", c.stop, "R")
    assert "refused" in e.detail and isinstance(e.__cause__, ConnectionRefusedError) and len(time.slept) == 2


def test_a_connection_that_ended_meanwhile(server, client):
    """Is seen before an order goes over it."""
    done = threading.Event()

    def end(h):
        answer({"n": 1})(h)
        h.close_connection = True
        h.wfile.flush()
        h.connection.shutdown(socket.SHUT_RDWR)
        done.set()
    server.script = [end, end, end]
    for _ in range(3):
        assert client.retry() == 1
        assert done.wait(30)
        done.clear()
    assert len(server.asked) == server.connections == 3 and client.time.slept == []


def test_an_answer_that_comes_before_the_body_was_sent(server, client):
    """Its reason is what counts, not that the rest could not be sent."""
    server.script = [problem(413, "max_file_bytes", read=False, close=True)]
    data = b"x" * ((1 << 18) - 1)  # the largest that is sent unasked
    refused(413, "max_file_bytes", client.upload, io.BytesIO(data), "data", "a.csv")
    assert client.time.slept == []


def test_a_body_that_the_server_does_not_want_to_the_end(server, client, monkeypatch):
    """More than fits between the two, so that sending fails before the answer is looked at."""
    monkeypatch.setattr(simbdp_http, "_ASK_FIRST", 1 << 60)
    file = Endless(1 << 40)
    server.script = [problem(413, "max_file_bytes", read=False, close=True)]
    refused(413, "max_file_bytes", client.upload, file, "data", digest=False)
    assert client.time.slept == [] and 0 < file.read_bytes < file.size
    # one who says that it is there without having read it is not believed
    server.script, server.asked = [answer(TAKEN, 201, read=False, close=True)] * 8, []
    file.seek(0)
    refused(0, "unreachable", client.upload, file, "data", digest=False)
    assert len(server.asked) == 8


# ---- answers

def test_an_error_says_all_that_is_known(server, client):
    server.script = [problem(429, "max_bytes_per_day", "all is used", Retry_After="301")]
    e = refused(429, "max_bytes_per_day", client.usage)
    assert (e.detail, e.request_id, e.retry_after) == ("all is used", "rq-of-document", 301)
    assert str(e) == "429 max_bytes_per_day: all is used (request rq-of-document)"
    again = pickle.loads(pickle.dumps(e))
    assert (str(again), again.retry_after) == (str(e), 301)


@pytest.mark.parametrize("status, act, detail", [
    (500, answer(None, 500, text="<html>it broke</html>", kind="text/html"), "<html>it broke</html>"), (302, answer(None, 302, text="", Location="/x"), ""),
    (404, answer({"error": "no"}, 404), '{"error": "no"}'), (400, answer(None, 400, text='{"code": '), '{"code":'), (418, answer([], 418), "[]")])
def test_errors_of_others(server, client, status, act, detail):
    server.script = [act]
    e = refused(status, f"http_{status}", client.usage)
    assert (e.detail, e.request_id) == (detail, "rq-1")


@pytest.mark.parametrize("text", ['{"file_id": "01kd', "", "[]", "null", "<html>log in here</html>", "\ud800".encode("utf-8", "surrogatepass").decode("latin-1")])
def test_an_answer_that_is_none(server, client, text):
    server.script = [answer(None, text=text)]
    e = refused(0, "bad_answer", client.usage)
    assert e.request_id == "rq-1" and client.time.slept == []


@pytest.mark.parametrize("doc", [{}, {"files": None}, {"files": {}}, {"files": [1]}, []])
def test_a_list_that_is_none(server, client, doc):
    server.script = [answer(doc)]
    refused(0, "bad_answer", lambda: list(client.files()))


def test_a_truncated_answer_is_asked_for_again(server, client):
    server.script = [short, answer({"account": "ann"})]
    assert client.whoami() == {"account": "ann"}
    full = "line\n" * 1000

    def cut_log(h):
        h.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {len(full)}\r\n\r\n{full[:-1]}".encode())
        cut(h)

    def cut_chunks(h):
        h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nline\n\r\n5\r\nli")
        cut(h)
    server.script = [cut_log, cut_chunks, answer(None, text=full, kind="text/plain")]
    assert client.log("R") == full and len(client.time.slept) == 3


def test_an_answer_without_end(server, client, monkeypatch):
    monkeypatch.setattr(simbdp_http, "_MAX_ANSWER", 1 << 20)

    def flood(h):
        h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
        while True:
            h.wfile.write(b" " * PIECE)
    server.script = [flood]
    refused(0, "bad_answer", client.usage)


# ---- lists, and waiting

def test_pages(server, client):
    server.script = [answer({"files": [{"file_id": str(i)} for i in part], "next": next_}) for part, next_ in ((range(3), "c/1"), ((), "c2"), (range(3, 5), None))]
    files = client.files(dataset="data", limit=3)
    assert server.asked == []
    assert next(files)["file_id"] == "0" and len(server.asked) == 1
    assert [f["file_id"] for f in files] == ["1", "2", "3", "4"]
    assert [h.path.partition("?")[2] for h in server.asked] == ["dataset=data&limit=3", "dataset=data&limit=3&cursor=c%2F1", "dataset=data&limit=3&cursor=c2"]
    server.script, server.asked = [answer({"runs": [], "next": "same"})] * 10, []
    refused(0, "bad_answer", lambda: list(client.runs()))
    assert len(server.asked) == 2


def test_pages_of_rejects(server, client):
    server.script = [answer({"rejects": [{"line": i} for i in part], "next": next_}) for part, next_ in ((range(2), 7), ((), 9), (range(2, 4), None))]
    assert [r["line"] for r in client.rejects("F", limit=2)] == [0, 1, 2, 3]
    assert [h.path.partition("?")[2] for h in server.asked] == ["limit=2", "limit=2&offset=7", "limit=2&offset=9"]


def test_wait(server, client):
    server.script = [answer({"state": s}) for s in ("received", "queued", "running", "waiting", "quarantined")]
    assert client.wait("F") == {"state": "quarantined"}
    slept = client.time.slept
    assert slept == sorted(slept) and len(slept) == 4 and slept[0] <= 0.1 and slept[3] > 2 * slept[0]
    server.script = [answer({"state": "queued"})] * 1000
    began = client.time.now
    with pytest.raises(TimeoutError, match="F is queued"):
        client.wait("F", timeout=60)
    assert client.time.now - began == pytest.approx(60) and max(client.time.slept) <= 5
    server.script = [answer({"state": "queued"}), problem(404, "not_found")]
    refused(404, "not_found", client.wait, "F", 60)


# ---- events

OVER = 'event: end\nid: 9\ndata: {"reason":"ended"}\n\n'


def test_events(server, client):
    server.script = [events("retry: 2000\nid: 1\n\n", ":\n\n", 'event: file.verdict\nid: 2\ndata: {"file_id":"F"}\n\n', 'id: 3\ndata: {"n":\ndata: 1}\n\n', OVER)]
    assert list(client.events(types=["file", "run.ended"])) == [simbdp.Event("file.verdict", {"file_id": "F"}, "2"), simbdp.Event("message", {"n": 1}, "3")]
    (asked,) = server.asked
    assert asked.path == "/v1/tenants/acme/events?types=file%2Crun.ended" and asked.headers["Accept"] == "text/event-stream" and asked.headers["Last-Event-ID"] is None
    with pytest.raises(TypeError):
        client.events(types="file")


@pytest.mark.parametrize("line", ["\n", "\r\n", "\r"])
def test_events_in_any_pieces(server, client, line):
    text = line.join([":x", "event:a", "id: 1", 'data:{"text":"\u00e9\u2028 data: x"}', "", "data", "", "id: 2", 'data: {"b": 1}', "nonsense", "", "event: end", 'data: {"reason":"ended"}', "", ""]).encode()
    for n in range(1, 12):
        server.script = [events(*(text[i:i + n] for i in range(0, len(text), n)))]
        with pytest.raises(simbdp.ApiError, match="no object"):  # "data" alone is an empty text
            got = []
            got.extend(client.events())
    text = text.replace(f"data{line}{line}".encode(), b"", 1)
    for n in range(1, 12):
        server.script = [events(*(text[i:i + n] for i in range(0, len(text), n)))]
        assert list(client.events()) == [simbdp.Event("a", {"text": "\u00e9\u2028 data: x"}, "1"), simbdp.Event("message", {"b": 1}, "2")]


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b"", b"5\r\nab", b"zz\r\n"])
def test_events_go_on_where_they_were(server, client, end):
    """Whatever breaks: what was not told to its end is told by the next stream."""
    server.script = [events("id: 1\n\n", 'id: 2\ndata: {"n":2}\n\n', 'id: 3\ndata: {"n":3}\n', end=end), cut, problem(503, "unavailable"), answer({}, 502, text="no"),
                     events("id: 4\n\n", 'event: end\nid: 4\ndata: {"reason":"draining"}\n\n'), events('id: 5\ndata: {"n":5}\n\n', OVER)]
    assert [e.data["n"] for e in client.events(last_event_id="0")] == [2, 5]
    assert [h.headers["Last-Event-ID"] for h in server.asked] == ["0", "2", "2", "2", "2", "4"] and len(client.time.slept) == 5


def test_events_end_with_the_right_to_them(server, client):
    server.script = [events('id: 1\ndata: {}\n\n', 'event: end\ndata: {"reason":"unauthorized"}\n\n')]
    got = client.events()
    assert next(got).id == "1"
    refused(401, "unauthorized", next, got)
    for status, code in ((400, "parameter"), (404, "not_found"), (401, "unauthorized")):
        server.script = [problem(status, code)]
        refused(status, code, list, client.events())
    server.script = [answer({})]
    refused(0, "bad_answer", list, client.events())


def test_events_that_never_come_end(server):
    with client_of(server, tries=3) as c:
        server.script = [events()] * 3
        refused(0, "unreachable", list, c.events())
        assert len(server.asked) == 3
        server.script = [events("id: 1\n\n")] * 4 + [events(OVER)]  # each of them brought something
        assert list(c.events()) == []


def test_a_log_is_followed(server, client):
    server.script = [events('event: log\nid: 1\ndata: {"text":"a\\nb","cut":false}\n\n', end=b""), events('event: log\nid: 2\ndata: {"text":"c"}\n\n', OVER)]
    assert list(client.follow_log("R", 100)) == ["a\nb", "c"]
    assert [h.path for h in server.asked] == ["/v1/tenants/acme/runs/R/log?tail=100"] * 2 and server.asked[1].headers["Last-Event-ID"] == "1"
    server.script = [answer({}, 204, text="")]
    assert list(client.follow_log("R")) == []


def test_times_have_zones(client):
    with pytest.raises(ValueError, match="time zone"):
        client.files(since=datetime.datetime(2026, 1, 31))


def test_threads_share_a_client(server, client):
    server.script = [answer({**TAKEN, "file_id": str(i)}, 201) for i in range(80)]
    got = []

    def deliver(k):
        for i in range(10):
            got.append(client.upload(io.BytesIO(b"%d %d" % (k, i)), "data", f"{k}-{i}.csv")["file_id"])
    threads = [threading.Thread(target=deliver, args=(k,)) for k in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert sorted(map(int, got)) == list(range(80))
    assert {h.path.rpartition("/")[2]: h.body for h in server.asked} == {f"{k}-{i}.csv": b"%d %d" % (k, i) for k in range(8) for i in range(10)}
    assert server.connections <= 8


# ---- certificates

@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """Two that signed themselves, for 127.0.0.1."""
    made = []
    for name in ("one", "two"):
        at = tmp_path_factory.mktemp(name)
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", at / "key.pem", "-out", at / "crt.pem",
                        "-days", "2", "-subj", "/CN=mysimbdp", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
        made.append((at / "crt.pem", at / "key.pem", hashlib.sha256(ssl.PEM_cert_to_DER_cert((at / "crt.pem").read_text())).hexdigest()))
    return made


@pytest.fixture
def tls(certificates):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificates[0][:2])
    s = Server(context)
    yield s
    s.stop()


def test_a_certificate_that_is_trusted(tls, certificates):
    (file, _, fingerprint), _ = certificates
    colons = ":".join(fingerprint[i:i + 2].upper() for i in range(0, 64, 2))
    tls.script = [answer({"n": i}) for i in range(10)]
    for kw in ({"ca_file": str(file)}, {"fingerprint": colons}, {"fingerprint": fingerprint}, {"fingerprint": "SHA256:" + colons.lower()}):
        with client_of(tls, **kw) as c:
            c.usage()
            c.usage()
    assert len(tls.asked) == 8


def test_a_certificate_that_is_not_trusted(tls, certificates):
    """Nothing is sent to its holder, and nothing is tried again."""
    _, (other_file, _, other) = certificates
    for kw, why in (({}, "self-signed|self signed"), ({"ca_file": str(other_file)}, "self-signed|self signed"), ({"fingerprint": other}, "another one")):
        c = client_of(tls, **kw)
        with pytest.raises(ssl.SSLCertVerificationError, match=why):
            c.usage()
        assert c.time.slept == []
    assert tls.asked == []
    with pytest.raises(ValueError, match="not both"):
        client_of(tls, ca_file=str(other_file), fingerprint=other)


def test_a_name_that_the_certificate_does_not_have(tls, certificates):
    (file, _, fingerprint), _ = certificates
    elsewhere = tls.url.replace("127.0.0.1", "localhost")
    with pytest.raises(ssl.SSLCertVerificationError):
        simbdp.Client(elsewhere, TOKEN, str(file), tenant="acme").usage()
    simbdp.Client(elsewhere, TOKEN, fingerprint=fingerprint, tenant="acme").usage()
    assert len(tls.asked) == 1


def test_uploads_over_tls(tls, certificates):
    """Also a large one: what is said before the body, or instead of it, is encrypted, too."""
    file = Endless(1 << 20)
    with client_of(tls, fingerprint=certificates[0][2]) as c:
        tls.script = [answer(TAKEN, 201), problem(413, "max_file_bytes", read=False, close=True), cut, answer(TAKEN, 201)]
        assert c.upload(file, "data") == TAKEN
        before = file.read_bytes
        file.seek(0)
        refused(413, "max_file_bytes", c.upload, file, "data", digest=False)
        assert file.read_bytes == before
        assert c.upload(file, "data") == TAKEN
    assert [h.body and len(h.body) for h in tls.asked] == [1 << 20, None, None, 1 << 20]


def test_the_module_of_apps_does_not_load_the_client():
    """An app has simbdp.py alone beside it."""
    script = "import sys, simbdp; assert not {'simbdp_client', 'ssl'} & set(sys.modules); simbdp.Client; print('simbdp_client' in sys.modules, hasattr(simbdp, 'client'))"
    r = subprocess.run(["/usr/bin/python3", "-c", script], env={**os.environ, "PYTHONPATH": str(ROOT / "clientlib/python")}, capture_output=True, text=True, timeout=60)
    assert r.stdout == "True False\n", r.stderr
