"""Clients that others have written, as they come, over TLS: curl, Python's http.client, tuspy (of PyPI, pinned: tests/data/foreign.txt)."""
import hashlib
import http.client
import json
import socket
import subprocess
import sys
import threading

import pytest

from harness import ROOT, until
from web import Site, settings

pytestmark = pytest.mark.anyone

T = "/v1/tenants/acme"
ROWS = b"v,w\n1,a\n2,b\n"
LARGE = b"v,w\n" + b"".join(b"%d,some more of a row\n" % i for i in range(100000))


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(tls=True))
    yield s
    s.cleanup()


def stored(site, file_id, rows):
    f = site.wait(file_id)
    assert (f["state"], f["rows_loaded"]) == ("ingested", rows), f


# ---- curl

def curl(site, *args, body=None, token=None):
    """(status, bytes that it sent, what it was answered)"""
    r = subprocess.run(["curl", "-sS", "--cacert", site.home.path / "keys/gateway.crt", "-H", f"Authorization: Bearer {token or site.of()}",
                        "-w", "\n%{http_code} %{size_upload}", *args], input=body, capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr
    text, _, last = r.stdout.rpartition(b"\n")
    status, sent = last.split()
    return int(status), int(sent), text


def at(site, name, dataset="data"):
    return f"{site.url}{T}/datasets/{dataset}/files/{name}"


def made(answer, size):
    status, sent, text = answer
    doc = json.loads(text)
    assert (status, doc["size_bytes"]) == (201, size) and sent >= size, answer  # chunks have heads
    return doc["file_id"]


def test_curl_sends_a_file(site, tmp_path):
    source = tmp_path / "put.csv"
    source.write_bytes(LARGE)  # so large that curl says Expect: 100-continue
    stored(site, made(curl(site, "-T", source, at(site, "")), len(LARGE)), 100000)


def test_curl_sends_chunks(site):
    body = LARGE + b"0,chunked\n"
    stored(site, made(curl(site, "-T", "-", at(site, "chunked.csv"), body=body), len(body)), 100001)


@pytest.mark.parametrize("algorithm, name", [("sha256", "sha-256"), ("sha512", "sha-512")])
def test_curl_and_a_digest_of_openssl(site, algorithm, name):
    body = b"v,w\n1,%s\n" % algorithm.encode()
    digest = subprocess.run(f"openssl dgst -{algorithm} -binary | openssl base64 -A", shell=True, input=body, capture_output=True, check=True).stdout.decode()
    right = ["-H", f"Content-Digest: {name}=:{digest}:"]
    status, _, text = curl(site, *right, "-T", "-", at(site, f"{algorithm}.csv"), body=body[:-1])
    assert status == 422 and json.loads(text)["code"] == "digest" and site.rows(f"{algorithm}.csv") == [], text
    stored(site, made(curl(site, *right, "-T", "-", at(site, f"{algorithm}.csv"), body=body), len(body)), 1)


def test_curl_is_refused_before_it_sends(site, tmp_path):
    """It waits for 100 Continue, and does not get it."""
    source = tmp_path / "large.csv"
    source.write_bytes(LARGE)
    status, sent, text = curl(site, "-H", "Expect: 100-continue", "-T", source, at(site, "large.csv", "small"))
    assert (status, sent, json.loads(text)["code"]) == (413, 0, "max_file_bytes"), text


def test_curl_does_not_resume(site, tmp_path):
    """-C sends a part, which is no file; it is told what does."""
    source = tmp_path / "part.csv"
    source.write_bytes(ROWS)
    status, _, text = curl(site, "-C", "4", "-T", source, at(site, "part.csv"))
    assert status == 400 and "tus" in json.loads(text)["detail"] and site.rows("part.csv") == [], text


def test_curl_sends_several_on_one_connection(site, tmp_path):
    names = [f"several{i}.csv" for i in range(5)]
    for i, name in enumerate(names):
        (tmp_path / name).write_bytes(b"v,w\n%d,several\n" % i)
    r = subprocess.run(["curl", "-sSv", "--cacert", site.home.path / "keys/gateway.crt", "-H", f"Authorization: Bearer {site.of()}",
                        "-T", "{" + ",".join(str(tmp_path / n) for n in names) + "}", at(site, "")], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and r.stderr.count("SSL connection using") == 1, r.stderr
    for name in names:
        stored(site, site.rows(name)[0]["file_id"], 1)


# ---- http.client

def test_http_client_keeps_its_connection(site):
    """Requests of all kinds behind one another; also behind one that is refused."""
    c = http.client.HTTPSConnection(site.host, site.port, timeout=60, context=site.context)
    c.connect()
    sock, ids = c.sock, []
    for name, body, status in (("one.csv", b"v\n901\n", 201), ("bad%00name.csv", b"v\n1\n", 400), ("two.csv", iter([b"v\n", b"902\n"]), 201), ("none", None, 404)):
        c.request("GET" if body is None else "PUT", f"{T}/nothing" if body is None else f"{T}/datasets/data/files/{name}", body, site.login(site.of()))
        a = c.getresponse()
        doc = json.loads(a.read())
        assert (a.status, a.version) == (status, 11), doc
        ids += [doc["file_id"]] if status == 201 else []
    c.request("HEAD", f"{T}/files", headers=site.login(site.of()))
    a = c.getresponse()
    assert a.read() == b"" and c.sock is sock
    c.close()
    for i in ids:
        stored(site, i, 1)


# ---- tuspy

@pytest.fixture(scope="module")
def tusclient():
    """The module. It and what it needs lie apart from everything else."""
    sys.path.insert(0, str(ROOT / "build/foreign"))
    try:
        import tusclient.client
        import tusclient.exceptions
        return tusclient
    except ImportError:
        pytest.skip("no clients of others: scripts/setup could not fetch them")
    finally:
        sys.path.remove(str(ROOT / "build/foreign"))


class Cutting:
    """A port of its own before the gateway, that ends a connection once so many bytes came through."""

    def __init__(self, site, bytes_):
        self.site, self.left = site, bytes_
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"https://127.0.0.1:{self.listening.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                near, _ = self.listening.accept()
            except OSError:
                return
            far = socket.create_connection((self.site.host, self.site.port))
            for pair in ((near, far, True), (far, near, False)):
                threading.Thread(target=self.pass_on, args=pair, daemon=True).start()

    def pass_on(self, source, to, counts):
        try:
            while piece := source.recv(16384):
                self.left -= len(piece) if counts else 0
                if self.left < 0:
                    break
                to.sendall(piece)
        except OSError:
            pass
        for s in (source, to):
            try:
                s.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.listening.close()


@pytest.fixture
def upload(site, tusclient, tmp_path, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(site.home.path / "keys/gateway.crt"))  # its own setting is lost half way (verify=bool(…))

    def make(name, body, base=None, **kw):
        source = tmp_path / name
        source.write_bytes(body)
        client = tusclient.client.TusClient((base or site.url) + T + "/uploads", headers=site.login(site.of()))
        return client.uploader(str(source), metadata={"filename": name, "dataset": "data"}, **kw)
    return make


def id_of(uploader):
    return uploader.request.response_headers["content-location"].rpartition("/")[2]


@pytest.mark.parametrize("checksum", [False, True])
def test_tuspy_sends_a_file(site, upload, checksum):
    body = LARGE + b"1,tus %d\n" % checksum
    u = upload(f"tus{checksum}.csv", body, chunk_size=300000, upload_checksum=checksum)
    u.upload()
    assert u.offset == len(body)
    stored(site, id_of(u), 100001)


def test_tuspy_goes_on_behind_a_cut(site, tusclient, upload):
    body = LARGE + b"1,cut\n"
    with Cutting(site, 1000000) as line:
        u = upload("cut.csv", body, line.url, chunk_size=600000)
        with pytest.raises((tusclient.exceptions.TusCommunicationError, tusclient.exceptions.TusUploadFailed)):
            u.upload()
        where = u.url.removeprefix(line.url)
    assert site.rows("cut.csv") == []
    again = until(lambda: (a := upload("cut.csv", body, url=site.url + where, chunk_size=600000)).offset >= 600000 and a, site.home.path / "logs", what="the part that came through")
    assert again.offset < len(body)
    until(lambda: attempt(again, tusclient), site.home.path / "logs", what="its end")
    stored(site, id_of(again), 100001)
    assert len(site.rows("cut.csv")) == 1


def attempt(uploader, tusclient):
    """What is cut has not ended for the gateway before it noticed: 409 until then."""
    try:
        uploader.offset = uploader.get_offset()
        uploader.upload()
        return True
    except tusclient.exceptions.TusUploadFailed as e:
        assert e.status_code == 409, e
        return False


def test_tuspy_says_a_wrong_checksum(site, tusclient, upload):
    u = upload("wrong.csv", ROWS, upload_checksum=True)
    with pytest.MonkeyPatch.context() as m, pytest.raises(tusclient.exceptions.TusUploadFailed) as failed:
        m.setattr(type(u), "checksum_algorithm", property(lambda _: lambda data: hashlib.sha1(data + b"x")))
        u.upload()
    assert failed.value.status_code == 460 and u.get_offset() == 0
    u.upload()
    stored(site, id_of(u), 2)


def test_tuspy_sends_an_empty_file(site, upload):
    """Nothing but its creation is asked for."""
    upload("empty-tus.csv", b"").upload()
    (f,) = until(lambda: site.rows("empty-tus.csv"), site.home.path / "logs", what="its row")
    assert site.wait(f["file_id"])["reason"] == "empty"


def test_an_upload_of_tuspy_is_given_up(site, tusclient, upload):
    u = upload("given-up.csv", LARGE, chunk_size=100000)
    u.upload(stop_at=200000)
    where = u.url.removeprefix(site.url)
    assert site.ask("DELETE", where, Tus_Resumable="1.0.0").status == 204
    with pytest.raises(tusclient.exceptions.TusUploadFailed) as failed:
        u.upload()
    assert failed.value.status_code == 404 and site.rows("given-up.csv") == []
    assert not (site.home.path / "staging/.gateway/resumable" / where.rpartition("/")[2]).exists()
