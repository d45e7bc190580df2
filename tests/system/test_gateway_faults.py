"""The gateway, its keepers and batchmgr killed at any point of an upload: what was answered is there, once; what was not can be sent
again; nothing that is half there is seen by anybody."""
import os
import signal
import sys

import pytest

from harness import ROOT, has_ended, until
from web import Site, settings

sys.path.insert(0, str(ROOT / "clientlib/python"))
import simbdp  # noqa: E402

pytestmark = pytest.mark.anyone
ROWS = b"v,w\n1,a\n2,b\n"
T = "/v1/tenants/acme"


@pytest.fixture
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


def kill(site, *pids):
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        until(lambda: has_ended(pid), site.home.path / "state", what="its end")


def kill_gateway(site):
    kill(site, site.pid())
    site.wait_well()


def begin(site, name, sent=5, **headers):
    w = site.wire()
    w.send(site.head_of(name, len(ROWS), **headers))
    w.send(ROWS[:sent])
    site.wait_spool(1)
    return w


def test_the_gateway_is_killed_during_an_upload(site):
    with begin(site, "killed.csv", Idempotency_Key="one") as w:
        kill_gateway(site)
        assert w.rest() == b""
    assert site.rows("killed.csv") == []
    a = site.put("killed.csv", ROWS, Idempotency_Key="one")
    assert a.status == 201 and site.wait(a.doc["file_id"])["state"] == "ingested"
    (left,) = site.spooled()
    old = site.home.path / "staging/.gateway" / left
    os.utime(old, (1, 1))
    site.wait_spool()  # batchmgr removes what is older than an hour
    assert len(site.rows("killed.csv")) == 1


def test_the_gateway_is_killed_behind_an_answer(site):
    ids = {}
    for i in range(5):
        a = site.put(f"answered{i}.csv", b"v,w\n%d,x\n" % i)
        ids[a.doc["file_id"]] = i
        kill_gateway(site)
    for i in ids:
        assert site.wait(i)["state"] == "ingested"
    assert site.spooled() == []


def test_the_gateway_is_killed_again_and_again(site):
    """A client that tries again brings each file in once."""
    c = simbdp.Client(site.url, site.of(), tries=200, patience=120, sleep=lambda s: until(site.is_well, every=0.1, what="the gateway"))
    files = [(f"kills{i}.csv", b"v,w\n" + b"".join(b"%d,%d\n" % (i, k) for k in range(20000))) for i in range(6)]
    import io
    import threading
    stop = threading.Event()

    def killer():
        while not stop.is_set():
            for pid in site.home.pids("/gateway"):
                os.kill(pid, signal.SIGKILL)
            stop.wait(1.5)
    t = threading.Thread(target=killer)
    t.start()
    try:
        ids = [c.upload(io.BytesIO(data), "data", name)["file_id"] for name, data in files]
    finally:
        stop.set()
        t.join()
    for i, (name, _) in zip(ids, files):
        assert site.wait(i)["rows_loaded"] == 20000
        assert len(site.rows(name)) == 1
    site.wait_well()


def test_batchmgr_is_killed_while_a_file_is_handed_in(mongo):
    """Behind its commit, before its answer: the client is told to ask again, and then told that it is there."""
    s = Site(mongo, settings(), ready=False)
    try:
        once = s.home.base / "once"
        once.mkdir()
        once.chmod(0o777)
        s.up(SIMBDP_CRASH_AT="hand_in_commit", SIMBDP_CRASH_ONCE=str(once / "crashed"))
        a = s.put("handed.csv", ROWS, Idempotency_Key="one")
        assert (once / "crashed").exists()
        assert (a.status, a.code) == (503, "unavailable") and int(a.headers["Retry-After"]) >= 1, a
        again = until(lambda: (b := s.put("handed.csv", ROWS, Idempotency_Key="one")).status != 503 and b, s.home.path / "logs", what="batchmgr")
        assert again.status == 200, again
        assert s.wait(again.doc["file_id"])["rows_loaded"] == 2 and len(s.rows("handed.csv")) == 1
        s.wait_spool()
    finally:
        s.cleanup()


def test_batchmgr_is_killed_during_an_upload(site):
    """It is only asked before, and behind it."""
    with begin(site, "between.csv", Idempotency_Key="one") as w:
        site.home.kill_batchmgr()
        w.send(ROWS[5:])
        a = w.answer()
    if a.status == 503:
        a = until(lambda: (b := site.put("between.csv", ROWS, Idempotency_Key="one")).status != 503 and b, site.home.path / "logs", what="batchmgr")
    assert a.status in (200, 201), a
    assert site.wait(a.doc["file_id"])["state"] == "ingested" and len(site.rows("between.csv")) == 1
    site.wait_spool()


def test_without_batchmgr(site):
    """What needs it says so; what is read from the ledger goes on."""
    f = site.wait(site.put("before.csv", ROWS).doc["file_id"])
    pid = site.home.batchmgr_pid()
    os.kill(pid, signal.SIGSTOP)  # `up` would start another one
    try:
        assert site.get(f"files/{f['file_id']}").status == 200
        assert site.is_well()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert site.put("behind.csv", b"v,w\n3,c\n").status == 201


def test_a_keeper_is_killed(site):
    """The gateway cannot do without, and is started again."""
    for pid in site.home.pids("simbdp-keeper", "gateway"):
        if not has_ended(pid):
            gateway = site.pid()
            kill(site, pid)
            until(lambda: has_ended(gateway), site.home.path / "logs", what="the gateway's end")
            site.wait_well()
    assert site.put("kept.csv", ROWS).status == 201 and site.get("files").status == 200


def test_the_home_goes_down_during_an_upload(site):
    """The sanitizers look whether all is freed."""
    with begin(site, "down.csv") as w, site.wire() as idle, site.wire() as half:
        idle.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert idle.answer().status == 200
        half.send("GET /healthz HTTP/1.1\r\n")
        site.home.down()
        assert w.rest() == b"" == idle.rest()
    assert site.spooled() == []
    site.up()
    assert site.rows("down.csv") == [] and site.put("up.csv", ROWS).status == 201


def test_the_gateway_alone_is_ended_while_it_asks(site):
    """SIGTERM while questions and orders are under way."""
    head = f"Host: x\r\nAuthorization: Bearer {site.of()}\r\n"
    pid = site.home.batchmgr_pid()
    os.kill(pid, signal.SIGSTOP)
    try:
        wires = [site.wire() for _ in range(4)]
        for w, line in zip(wires, ("POST " + T + "/files:retry", "GET " + T + "/files", "GET /readyz", "POST " + T + "/apps/held:run")):
            w.send(f"{line} HTTP/1.1\r\n{head}Content-Length: 0\r\n\r\n")
        wires[0].sock.setblocking(True)
        gateway = site.pid()
        os.kill(gateway, signal.SIGTERM)
        until(lambda: has_ended(gateway), site.home.path / "logs", what="its end")
        for w in wires:
            w.close()
    finally:
        os.kill(pid, signal.SIGCONT)
    site.wait_well()


def test_a_disk_that_is_full(mongo):
    """A file that finds no room is refused, and leaves nothing; then there is room."""
    s = Site(mongo, settings(), ready=False)
    try:
        if os.geteuid():
            pytest.skip("needs a file system of its own")
        spool = s.home.path / "staging/.gateway"
        s.up()
        s.home.down()
        s.home.mount_tmpfs("staging/.gateway", "1m")
        s.up()
        body = b"v\n" + b"1\n" * (1 << 20)
        a = s.put("full.csv", body)
        assert (a.status, a.code) == (507, "disk_low") and int(a.headers["Retry-After"]) >= 1, a
        s.wait_spool()
        assert s.rows("full.csv") == [] and list(spool.iterdir()) in ([], [spool / "resumable"])
        assert s.put("fits.csv", ROWS).status == 201
    finally:
        s.cleanup()
