"""mysimbdp --url … over lines that are cut, and with a platform that is busy."""
import json
import os
import signal

import pytest

from fake_server import answer, cut, problem, read_body
from remote import busy, wide_rows, open_site, proxy, cut_off, server, at_server  # noqa: F401 (fixtures)

pytestmark = pytest.mark.anyone


def test_a_small_upload_that_is_cut_is_one_file(open_site, proxy, cut_off):
    """Twice in the middle of its body, once after all of it: the answer is lost."""
    path = cut_off.file("cut.csv", wide_rows(300_000))
    cut_off.run("whoami")
    proxy.cuts = [2000, 2000, 2000, 100_000, 200_000]
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and proxy.n_cut >= 3
    assert len(open_site.rows("cut.csv")) == 1


def test_a_large_upload_over_a_line_that_is_cut_again_and_again(open_site, proxy, cut_off):
    """No connection lives for the first piece: pieces shrink until they get through, and nothing is there twice."""
    path = cut_off.file("large.csv", wide_rows(10 << 20))
    proxy.cuts = [3000, 900_000, 700_000, 400_000, 300_000, 300_000, 300_000, 300_000, 2_000_000, 900_000]
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and proxy.n_cut >= 6
    (f,) = open_site.rows("large.csv")
    assert f["size_bytes"] == path.stat().st_size and cut_off.state_files() == []


def test_a_kill_in_the_middle_of_a_large_upload(open_site, proxy, cut_off):
    """Another start goes on where it was: it sends the rest alone."""
    path = cut_off.file("killed.csv", wide_rows(12 << 20, seed=2))
    proxy.stall_at = 6 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    proxy.release()
    assert len(cut_off.state_files()) == 1
    proxy.stall_at, before = 11 << 20, proxy.stalled
    before.clear()
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and not before.is_set(), "all of it was sent again"
    assert len(open_site.rows("killed.csv")) == 1 and cut_off.state_files() == []


def test_two_do_not_send_one_file(proxy, cut_off):
    path = cut_off.file("twice.csv", wide_rows(9 << 20, seed=3))
    proxy.stall_at = 4 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    assert "another mysimbdp is sending this file" in cut_off.run("upload", path, "--dataset", "data", code=1).stderr
    p.kill()
    p.communicate()


def test_a_file_that_is_changed_while_it_is_sent(open_site, proxy, cut_off):
    path = cut_off.file("changed.csv", wide_rows(9 << 20, seed=4))
    proxy.stall_at = 4 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    with path.open("ab") as f:
        f.write(b"1,2\n")
    proxy.stall_at = None
    proxy.release()
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and "was changed while it was sent" in err, err
    assert open_site.rows("changed.csv") == [] and cut_off.state_files() == []


def test_a_killed_gateway_is_waited_for(open_site, cut_off, proxy):
    pid = open_site.pid()
    path = cut_off.file("over.csv", wide_rows(10 << 20, seed=5))
    proxy.stall_at = 5 << 20
    p = cut_off.start("upload", path, "--dataset", "data", "--wait", "--json")
    assert proxy.stalled.wait(60)
    os.kill(pid, signal.SIGKILL)
    proxy.stall_at = None
    proxy.release()
    out, err = p.communicate(timeout=120)
    assert p.returncode == 0 and json.loads(out)["state"] == "ingested", err
    open_site.wait_well()


def test_busy_is_tried_again(server, at_server):
    server.script = [busy(429, "rate"), busy(503, "unavailable"), answer({"files": [], "next": None})]
    r = at_server.run("files")
    assert len(server.asked) == 3 and "(rate" not in r.stdout


def test_busy_for_longer_than_anybody_waits(server, at_server):
    server.script = [busy(429, "max_files_per_day", 3600)]
    r = at_server.run("files", code=1)
    assert len(server.asked) == 1 and "not before 3600 s from now" in r.stderr and "usage" in r.stderr
    server.script = [problem(429, "max_files_per_day")]
    at_server.run("files", code=1)
    assert len(server.asked) == 2, "without Retry-After waiting does not help"


def test_an_order_that_may_have_arrived_is_not_given_twice(server, at_server):
    server.script = [lambda h: (read_body(h), cut(h))]
    r = at_server.run("retry", "--all", code=1)
    assert len(server.asked) == 1 and "cannot reach" in r.stderr
    server.script = [busy(503, "unavailable"), answer({"n": 2})]
    assert at_server.run("retry", "--all").stdout == "2 files are tried again\n"


def test_answers_that_are_none(server, at_server):
    for text in ("[1", "", "nonsense"):
        server.script = [answer(None, text=text)]
        assert "is not what a gateway says" in at_server.run("whoami", code=1).stderr
    server.script = [answer(None, 302, Location="http://127.0.0.1:1/")]
    assert "HTTP 302" in at_server.run("whoami", code=1).stderr
