"""Files that the gateway hands in, when batchmgr is killed on the way, and when what lies in the spool is something else by then."""
import contextlib
import os
import signal
import sqlite3
import threading

import pytest
from gateway import Gateway
from harness import FINAL, IS_ROOT, until

pytestmark = pytest.mark.once

ROW = "a,b\n1,2\n"


@pytest.fixture
def gateway(make_home):
    """Of a home that is down, with a tenant."""
    home = make_home(platform="writer_wait_s = 1; rescan_ms = 200;")
    home.tenant()
    home.up()
    home.down()
    home.base.chmod(0o777)  # whoever crashes says so there
    with Gateway(home) as g:
        yield g


def starts(gateway, **env):
    """batchmgr alone; it answers when this returns."""
    process = gateway.home.batchmgr(**env)
    asked_again(gateway, {"op": "status"})
    return process


def hand_in_and_crash(gateway, spool, **more):
    """Its row is committed, and batchmgr dies; nobody is told."""
    home = gateway.home
    once = home.base / "crashed"
    process = starts(gateway, SIMBDP_CRASH_AT="hand_in_commit", SIMBDP_CRASH_ONCE=str(once))
    answer = gateway.ask(gateway.request(spool, ROW, **more))
    assert process.wait(timeout=60) == -signal.SIGKILL and once.exists()
    return answer


def asked_again(gateway, request):
    """Once there is somebody to ask. None: he went away over it."""
    def told():
        try:
            return [gateway.ask(request)]
        except RuntimeError:
            return None
    return until(told, gateway.home.runtime(), what="an answer")[0]


SWAPS = {
    "symlink": ("os.unlink(p); os.symlink('/etc/passwd', p)", "rejected", "symlink"),
    "hard link": ("os.link(p, p + '2')", "rejected", "hard_link"),
    "directory": ("os.unlink(p); os.makedirs(p + '/a/b')", "rejected", "directory"),
    "fifo": ("os.unlink(p); os.mkfifo(p)", "rejected", "not_regular"),
    "writer": ("kept.append(open(p, 'a'))", "rejected", "writer"),
    "vanished": ("os.unlink(p)", "vanished", "vanished"),
    "owner": (None, "rejected", "owner"),
}


@pytest.mark.parametrize("swap", SWAPS)
def test_what_lies_in_the_spool_by_the_time_it_is_claimed(gateway, swap):
    """The row is committed, then batchmgr is killed, then the gateway, which somebody took over, puts something else there."""
    home = gateway.home
    code, state, reason = SWAPS[swap]
    if swap == "owner" and not IS_ROOT:
        pytest.skip("needs uids of its own")
    spool = gateway.put(ROW)
    assert hand_in_and_crash(gateway, spool) is None
    if code:
        gateway.do(f"p = at({spool!r}); {code}")
    else:
        (gateway.spool / spool).unlink()
        (gateway.spool / spool).write_text(ROW)
    passwd = os.stat("/etc/passwd")
    home.up()
    f = home.wait_file(file_name="f.csv")
    assert (f["state"], f["reason"]) == (state, reason)
    assert spool not in gateway.spooled() and home.count() == 0 and len(home.files()) == 1
    assert os.stat("/etc/passwd").st_uid == passwd.st_uid and os.stat("/etc/passwd").st_mode == passwd.st_mode


@pytest.mark.needs_root
@pytest.mark.parametrize("swap", ["symlink", "hard link", "fifo", "vanished", "owner"])
def test_the_same_where_it_has_to_be_copied(make_home, swap):
    home = make_home(platform="rescan_ms = 200;")
    (home.mount_tmpfs("staging", "24m") / ".incoming").mkdir(mode=0o700)
    home.tenant()
    home.up()
    home.down()
    home.base.chmod(0o777)
    code, state, reason = SWAPS[swap]
    with Gateway(home) as gateway:
        spool = gateway.put(ROW)
        assert hand_in_and_crash(gateway, spool) is None
        if code:
            gateway.do(f"p = at({spool!r}); {code}")
        else:
            (gateway.spool / spool).unlink()
            (gateway.spool / spool).write_text(ROW)
        home.up()
        f = home.wait_file(file_name="f.csv")
        assert (f["state"], f["reason"]) == (state, reason) and home.count() == 0
        if (gateway.spool / spool).is_symlink() or (gateway.spool / spool).exists():  # what cannot be moved is swept when it is old
            gateway.do(f"os.utime(at({spool!r}), (1, 1), follow_symlinks=False)") if swap != "owner" else os.utime(gateway.spool / spool, (1, 1))
            until(lambda: spool not in gateway.spooled(), gateway.spool, what="the sweep")


@pytest.mark.parametrize("point", ["hand_in_commit", "intake_mkdir", "intake_rename", "intake_own", "inspect_commit"])
def test_killed_at(gateway, point):
    """Whatever became of the answer: asked again, by key or by name in the spool, it is the same file, once."""
    home = gateway.home
    once = home.base / "crashed"
    home.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once))
    keyed, plain = gateway.put(ROW), gateway.put("a,b\n3,4\n")
    requests = [gateway.request(keyed, ROW, "keyed.csv", idempotency_key="k"), gateway.request(plain, ROW, "plain.csv")]
    first = [asked_again(gateway, r) for r in requests]
    until(once.exists, home.base, what="the crash")
    until(lambda: asked_again(gateway, {"op": "status"}), home.path / "state", what="the next batchmgr")
    again = [asked_again(gateway, r) for r in requests]
    for a, b in zip(first, again):
        assert b["ok"] and (a is None or (b["again"] and a["file_id"] == b["file_id"])), (a, b)
    files = home.wait_files(2)
    assert {(f["file_name"], f["file_id"], f["state"]) for f in files} == {("keyed.csv", again[0]["file_id"], "ingested"), ("plain.csv", again[1]["file_id"], "ingested")}
    assert sorted(d["a"] for d in home.docs()) == [1, 3] and gateway.spooled() == []
    until(lambda: not list((home.path / "work").iterdir()), home.path / "work", what="an empty work/")


def test_what_a_row_names_is_not_swept_nor_taken_for_a_repetition(gateway):
    """It cannot be claimed yet, since work/ is not there; an old file beside it shows that the sweep came by."""
    home = gateway.home
    work, aside = home.path / "work", home.path / "aside"
    home.up()
    work.rename(aside)
    work.touch()
    spool = gateway.put(ROW)
    first = gateway.ask(gateway.request(spool, ROW))
    gateway.do(f"os.utime(at({spool!r}), (1, 1)); put('old', ''); os.utime(at('old'), (1, 1))")
    until(lambda: gateway.spooled() == [spool], gateway.spool, what="the sweep")
    assert gateway.ask(gateway.request(spool, ROW)) == {**first, "again": True} and gateway.spooled() == [spool]
    home.kill_batchmgr()
    gateway.do("put('old', ''); os.utime(at('old'), (1, 1))")
    until(lambda: gateway.spooled() == [spool], gateway.spool, what="the next one's sweep")
    assert gateway.ask(gateway.request(spool, ROW)) == {**first, "again": True} and gateway.spooled() == [spool]
    work.unlink()
    aside.rename(work)
    home.kill_batchmgr()  # what it may change was fixed when it started
    assert home.wait_file(file_id=first["file_id"])["state"] == "ingested" and gateway.spooled() == [] and len(home.files()) == 1


def test_killed_before_the_commit_it_is_the_gateways_still(gateway):
    home = gateway.home
    process = starts(gateway)
    spool = gateway.put(ROW)
    with contextlib.closing(sqlite3.connect(home.path / "state/ledger.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")  # nobody else commits
        answers = []
        asking = threading.Thread(target=lambda: answers.append(gateway.ask(gateway.request(spool, ROW))))
        asking.start()
        until(lambda: "handed_in" in (home.base / "batchmgr.err").read_text(), home.base, what="the request")
        process.kill()
        process.wait()
        asking.join()
        db.execute("ROLLBACK")
    assert answers == [None] and gateway.spooled() == [spool]
    home.up()
    assert home.files() == []
    answer = gateway.ask(gateway.request(spool, ROW))
    assert not answer["again"] and home.wait_file(file_id=answer["file_id"])["state"] == "ingested"


def test_killed_while_a_file_is_deleted(gateway):
    home = gateway.home
    once = home.base / "crashed"
    home.up(SIMBDP_CRASH_AT="delete_files", SIMBDP_CRASH_ONCE=str(once))
    home.drop("bad.txt", "x")
    bad = home.wait_file(file_name="bad.txt")
    place = home.path / "quarantine/acme/data" / bad["file_id"]
    until(place.exists, home.path / "quarantine", what="the filing")
    request = {"op": "delete", "tenant_id": "acme", "file_id": bad["file_id"]}
    until(lambda: asked_again(gateway, request) is None, home.path / "state", what="the crash")
    assert once.exists() and not place.exists()
    assert asked_again(gateway, request) == {"ok": True}, "asked again"
    assert home.files() == [bad] and bad["state"] in FINAL
    assert asked_again(gateway, {**request, "op": "retry"})["code"] == "state", "the row knows"
