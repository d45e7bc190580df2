"""The gateway killed at its crash points: what was answered is there; what was not can be sent again and is there once; the spool is empty
in the end. Which answer a client saw, it alone knows: it does the same again in either case."""
import base64
import http.client
import os
import re
import time

import pytest

from harness import ROOT, until
from web import Site, settings

pytestmark = pytest.mark.anyone

POINTS = re.findall(r"X\((gateway_\w+)\)", (ROOT / "lib/base/crash.h").read_text())
ROWS = b"v,w\n1,a\n2,b\n"
T = "/v1/tenants/acme"
TUS = {"Tus_Resumable": "1.0.0"}


@pytest.fixture(params=POINTS)
def killed(mongo, request):
    """(a site whose gateway dies once at the point, the file that it leaves then)"""
    s = Site(mongo, settings(), ready=False)
    once = s.home.base / "once"
    once.mkdir()
    once.chmod(0o777)
    s.up(SIMBDP_CRASH_AT=request.param, SIMBDP_CRASH_ONCE=str(once / "crashed"))
    s.point = request.param
    yield s, once / "crashed"
    s.cleanup()


def attempt(call):
    """Its answer; None: the connection ended first."""
    try:
        return call()
    except (OSError, http.client.HTTPException):
        return None


def is_swept(site):
    """What is left in the spool goes once it is old."""
    for name in site.spooled():
        os.utime(site.home.path / "staging/.gateway" / name, (1, 1))
    site.wait_spool()


def again(site, call):
    """As a client does: until there is an answer that is no "later"."""
    site.wait_well()
    return until(lambda: (a := attempt(call)) is not None and a.status != 503 and a, site.home.path / "logs", what="an answer")


def test_a_file_is_put(killed):
    site, crashed = killed

    def put():
        return site.put("killed.csv", ROWS, Idempotency_Key="one")
    first = attempt(put)
    until(crashed.exists, site.home.base, what=f"the crash at {site.point}")
    assert (first is not None and first.status == 201) == (site.point == "gateway_answered"), first
    if first:
        assert [f["file_id"] for f in site.rows("killed.csv")] == [first.doc["file_id"]]
    second = again(site, put)
    known = site.point in ("gateway_handed_in", "gateway_answered")
    assert second.status == (200 if known else 201), second
    assert not first or first.doc["file_id"] == second.doc["file_id"]
    assert site.wait(second.doc["file_id"])["rows_loaded"] == 2 and len(site.rows("killed.csv")) == 1
    is_swept(site)
    assert len(site.rows("killed.csv")) == 1


def begin(site):
    metadata = ", ".join(f"{k} {base64.b64encode(v).decode()}" for k, v in (("filename", b"parts.csv"), ("dataset", b"data")))
    return again(site, lambda: site.post("uploads", Upload_Length=str(len(ROWS)), Upload_Metadata=metadata, **TUS)).headers["Location"]


def patch(site, at, offset, data):
    return site.ask("PATCH", at, "", data, Upload_Offset=str(offset), Content_Type="application/offset+octet-stream", **TUS)


def test_a_resumable_upload_is_completed(killed):
    """Whoever did not see the answer to its last byte asks (HEAD), and learns where the file is: also when the answer was under way."""
    site, crashed = killed
    at = begin(site)
    assert patch(site, at, 0, ROWS[:5]).status == 204
    first = attempt(lambda: patch(site, at, 5, ROWS[5:]))
    until(crashed.exists, site.home.base, what=f"the crash at {site.point}")
    assert (first is not None and first.status == 204) == (site.point == "gateway_answered"), first
    asked = again(site, lambda: site.ask("HEAD", at, **TUS))
    assert (asked.status, asked.headers["Upload-Offset"]) == (200, str(len(ROWS))), asked
    where = asked.headers["Content-Location"]
    assert not first or first.headers["Content-Location"] == where
    assert site.wait(where.rpartition("/")[2])["rows_loaded"] == 2 and len(site.rows("parts.csv")) == 1
    site.wait_spool()
    until(lambda: site.ask("HEAD", at, **TUS).status == 404, site.home.path / "logs", what="the upload's end: its answer was sent")
    assert list((site.home.path / "staging/.gateway/resumable").iterdir()) == []


def test_a_description_and_its_file_are_kept_equally_long(mongo):
    """Gateway and batchmgr died when an upload was complete and not handed in, and its client comes after hours; so does one who is half-way."""
    s = Site(mongo, settings(), ready=False)
    try:
        s.up()
        done, half, late = (begin(s) for _ in range(3))
        for at in (done, half, late):
            assert patch(s, at, 0, ROWS[:5]).status == 204
        s.home.down()
        spool = s.home.path / "staging/.gateway"
        for at in (done, late):
            name = at.rpartition("/")[2]
            with open(spool / "resumable" / name, "ab") as f:
                f.write(ROWS[5:])
            (spool / "resumable" / name).rename(spool / name)
        (spool / "given-up").touch()
        hours = {done: 3, half: 3, late: 25}
        for at, n in hours.items():
            name, ago = at.rpartition("/")[2], time.time() - n * 3600
            for path in (spool / name, spool / "resumable" / name, spool / "resumable" / (name + ".json"), spool / "resumable", spool / "given-up"):
                if path.exists():
                    os.utime(path, (ago, ago))
        s.up()
        until(lambda: s.spooled() == [done.rpartition("/")[2]], spool, what="the sweep of what was given up, and of that alone")
        assert s.ask("HEAD", late, **TUS).status == 404
        asked = again(s, lambda: s.ask("HEAD", done, **TUS))
        assert (asked.status, asked.headers["Upload-Offset"]) == (200, str(len(ROWS))), asked
        assert s.wait(asked.headers["Content-Location"].rpartition("/")[2])["rows_loaded"] == 2
        assert patch(s, half, 5, ROWS[5:]).status == 204
    finally:
        s.cleanup()


def test_gateway_and_batchmgr_die_together(mongo):
    """Behind the commit: neither has told anybody. The next ones know it."""
    s = Site(mongo, settings(), ready=False)
    once = s.home.base / "once"
    once.mkdir()
    once.chmod(0o777)
    try:
        s.up(SIMBDP_CRASH_AT="hand_in_commit", SIMBDP_CRASH_ONCE=str(once / "crashed"))
        at = begin(s)
        gateway = s.pid()
        os.kill(gateway, 0)
        a = attempt(lambda: patch(s, at, 0, ROWS))
        assert (once / "crashed").exists() and (a is None or a.status == 503), a
        os.kill(gateway, 9)
        until(lambda: s.home.pids("/gateway") not in ([], [gateway]), s.home.path / "logs", what="the next gateway")
        asked = again(s, lambda: s.ask("HEAD", at, **TUS))
        assert asked.status == 200, asked
        assert s.wait(asked.headers["Content-Location"].rpartition("/")[2])["rows_loaded"] == 2 and len(s.rows("parts.csv")) == 1
        s.wait_spool()
    finally:
        s.cleanup()


def test_an_answer_that_was_cut(mongo):
    """The client goes away without the answer to its last byte; a day long it may ask, and one more upload finds room all the same."""
    s = Site(mongo, settings(uploads=1))
    try:
        at = begin(s)
        pid = s.home.batchmgr_pid()
        with s.wire() as w:
            fields = {"Host": s.host, **s.login(s.of()), "Tus-Resumable": "1.0.0", "Upload-Offset": 0, "Content-Length": len(ROWS),
                      "Content-Type": "application/offset+octet-stream"}
            os.kill(pid, 19)
            try:
                w.send(f"PATCH {at} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n")
                w.send(ROWS)
                until(lambda: s.spooled(), s.home.path / "staging/.gateway", what="the file, complete")
                w.reset()
            finally:
                os.kill(pid, 18)
        until(lambda: s.rows("parts.csv"), s.home.path / "logs", what="the file")
        asked = again(s, lambda: s.ask("HEAD", at, **TUS))
        assert (asked.status, asked.headers["Content-Location"]) == (200, f"{T}/files/{s.rows('parts.csv')[0]['file_id']}"), asked
        until(lambda: s.post("uploads", Upload_Length="3", Upload_Metadata="filename YS5jc3Y=, dataset ZGF0YQ==", **TUS).status == 201, s.home.path / "logs", what="room")
    finally:
        s.cleanup()
