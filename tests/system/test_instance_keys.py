"""Instances with arguments, asked for over HTTP by an Idempotency-Key: there is one, whoever asks again, and whoever was killed before the answer."""
import contextlib
import http.client
import json
import os
import signal
import sqlite3

import pytest

from harness import change, has_ended, until
from web import Site, parallel, settings

pytestmark = pytest.mark.anyone

ECHO = "#!/bin/sh\necho \"$*\"\ncase $1 in end) exit 0;; esac\nexec tail -f /dev/null\n"
TENANT = """
database = "%s"; streams = ( { name = "quiet"; } );
stream_apps = ( { app = "echo"; exec = "echo.sh"; stream = "quiet"; max_instances = 2; }, { app = "other"; exec = "echo.sh"; stream = "quiet"; } );
"""
DAY_MS, KEPT = 24 * 3600 * 1000, 10000


def make(mongo):
    s = Site(mongo, settings(), ready=False)
    for tenant in ("acme", "beta"):
        (s.home.path / f"conf/tenants/{tenant}.conf").write_text(TENANT % s.home.db_of[tenant])
        path = s.home.path / f"apps/{tenant}/echo.sh"
        path.write_text(ECHO)
        path.chmod(0o755)
    s.home.profiles(cpus=0.01, rlimits="nofile = 256;")
    return s


@pytest.fixture(scope="module")
def site(mongo):
    s = make(mongo)
    s.up()
    yield s
    s.cleanup()


def start(site, key, *args, app="echo", **kw):
    return site.post(f"apps/{app}/instances", body=json.dumps({"args": args}).encode(), **({"Idempotency_Key": key} if key else {}), **kw)


def settled(site, call):
    """As a client does: until there is an answer that is no "later"."""
    def ask():
        with contextlib.suppress(OSError, http.client.HTTPException):
            return (a := call()).status != 503 and a
    return until(ask, site.home.path / "logs", what="an answer")


def started(site, key, *args, **kw):
    a = settled(site, lambda: start(site, key, *args, **kw))
    assert (a.status, a.doc["app"], a.doc["reason"]) == (201, "echo", None), a
    return a.doc["instance_id"]


def instances(site, tenant="acme"):
    return {i["instance_id"]: i for i in site.get("instances?app=echo", site.of("operator", None), tenant).doc["instances"]}


def wait_instances(site, test, tenant="acme"):
    return until(lambda: test(found := instances(site, tenant)) and (found or True), site.home.path / "state", what=lambda: f"instances: {instances(site, tenant)}")


def stop(site, i, tenant="acme"):
    assert site.post(f"instances/{i}:stop", site.of("operator", None), tenant).status == 200
    wait_instances(site, lambda found: i not in found, tenant)


def keys(site):
    with contextlib.closing(sqlite3.connect(site.home.path / "state/streams.db")) as db:
        return db.execute("SELECT tenant, key FROM ask_keys").fetchall()


def test_who_asks_again_is_told_the_same_instance(site):
    key = "k 1/ü".encode()
    one = started(site, key, "x", "y")
    again = start(site, key, "x", "y")
    assert (again.status, again.doc) == (201, {"instance_id": one, "app": "echo", "reason": None})
    assert start(site, key, "x", "y", token=site.of("operator", None)).doc["instance_id"] == one, "it is the tenant's"
    for args, app in ((("x",), "echo"), (("x y",), "echo"), ((), "echo"), (("y", "x"), "echo"), (("x", "y"), "other")):
        a = start(site, key, *args, app=app)
        assert (a.status, a.code) == (422, "idempotency_key") and one in a.doc["detail"], a
    assert set(instances(site)) == {one}
    theirs = started(site, key, "theirs", tenant="beta", token=site.of(tenant="beta"))
    assert theirs != one and set(instances(site, "beta")) == {theirs}
    stop(site, theirs, "beta")
    stop(site, one)
    assert start(site, key, "x", "y").doc["instance_id"] == one and instances(site) == {}, "it was; nothing is started"
    ended = started(site, "ends", "end")
    wait_instances(site, lambda found: not found)
    assert start(site, "ends", "end").doc["instance_id"] == ended and instances(site) == {}
    # who has no key asks for another each time
    a, b = started(site, None, "x"), started(site, None, "x")
    assert a != b and set(instances(site)) == {a, b}
    # what was refused leaves none behind, and who asks again is told what was, also where there is no room
    refused = start(site, "full", "z")
    assert (refused.status, refused.code) == (409, "max_instances") and start(site, "ends", "end").status == 201
    stop(site, a)
    c = started(site, "full", "z")
    assert set(instances(site)) == {b, c}
    stop(site, b)
    stop(site, c)


def test_several_ask_at_once(site):
    answers = parallel([lambda: start(site, "race", "r")] * 40)  # of an app 30 are started in a minute
    assert {a.status for a in answers} == {201} and len({a.doc["instance_id"] for a in answers}) == 1, answers
    assert set(instances(site)) == {answers[0].doc["instance_id"]}
    stop(site, answers[0].doc["instance_id"])


@pytest.mark.parametrize("key", ["", "k" * 256, "a\tb", b"\xff", b"a\x7f"])
def test_what_is_no_key(site, key):
    a = site.post("apps/echo/instances", body=b'{"args":[]}', Idempotency_Key=key)
    assert (a.status, a.code) == (400, "bad_request") and ("Idempotency-Key" in a.doc["detail"] or "field of the header" in a.doc["detail"]), a
    assert instances(site) == {}
    r = site.home.control({"op": "start", "tenant_id": "acme", "app": "echo", "args": [], "idempotency_key": "k" * 256}, "streammgr.sock")
    assert (r["ok"], r["code"]) == (False, "idempotency_key"), r


def test_keys_are_forgotten(site):
    """After a day, when there are many, and with their tenant. In between, streammgr is another one."""
    old, kept = started(site, "old", "1"), started(site, "k" * 255, "2")
    site.home.down()
    with change(site.home.path / "state/streams.db") as db:
        db.execute("UPDATE ask_keys SET at=at-? WHERE key='old'", [DAY_MS + 1000])
        (at,) = db.execute("SELECT at FROM ask_keys WHERE key=?", ["k" * 255]).fetchone()
        db.executemany("INSERT INTO ask_keys VALUES(?, ?, 'echo', 0, 'x', ?)", [(t, f"many{n}", at - 2 * KEPT + n) for n in range(KEPT) for t in ("acme", "beta")])
    site.up()
    assert started(site, "k" * 255, "2") == kept
    wait_instances(site, lambda found: set(found) == {old, kept} and all(i["run_id"] for i in found.values()))
    stop(site, old)
    new = started(site, "old", "other")
    assert new != old
    found = keys(site)
    assert sum(t == "acme" for t, _ in found) == KEPT and {("acme", "old"), ("acme", "k" * 255), ("acme", f"many{KEPT - 1}")} <= set(found) and ("acme", "many0") not in found
    assert ("beta", "many0") in found
    stop(site, kept)
    stop(site, new)
    site.home.cli("tenant", "remove", "beta", "--purge")
    assert {t for t, _ in keys(site)} == {"acme"}


# ---- killed between what is done and its answer

def kill(site, program):
    (pid,) = site.home.pids(f"/{program}")
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid), site.home.path / "state", what="its end")


@pytest.mark.parametrize("point", ["ask_commit", "instance_begin", "order_done"])
def test_killed_before_the_answer(mongo, point):
    s = make(mongo)
    once = s.home.base / "once"
    once.mkdir()
    once.chmod(0o777)
    try:
        s.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(once / "crashed"))

        def ask(*args):
            return start(s, "one", *args)

        def first():
            """Before streammgr is ready for it, it is told to come again."""
            with contextlib.suppress(OSError, http.client.HTTPException):
                assert ask("a", "b").status == 503
            return (once / "crashed").exists()
        until(first, s.home.base, what=f"the crash at {point}")
        i = settled(s, lambda: ask("a", "b"))
        assert i.status == 201, i
        one = i.doc["instance_id"]
        found = wait_instances(s, lambda found: {x["state"] for x in found.values()} == {"running"})
        assert {k: x["args"] for k, x in found.items()} == {one: ["a", "b"]}
        assert ask("b").code == "idempotency_key"
        kill(s, "streammgr")
        assert settled(s, lambda: ask("a", "b")).doc["instance_id"] == one
        found = wait_instances(s, lambda found: {x["state"] for x in found.values()} == {"running"})
        assert set(found) == {one}
    finally:
        s.cleanup()
