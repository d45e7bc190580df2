"""Streams, dead letters and instances of stream apps over HTTP, against the whole platform."""
import base64
import json
import os
import signal

import pytest

from harness import has_ended, runner_of, until
from web import Events, Site, settings

pytestmark = pytest.mark.anyone

# store refuses messages of more than two rows; echo runs until it is told to go, or ends as its arguments say.
ECHO = "#!/bin/sh\necho \"$*\"\ncase $1 in end) exit $2;; esac\nexec tail -f /dev/null\n"
TENANT = """
database = "%s"; max_streams = 2; datasets = ( { name = "data"; format = "json"; limits = { max_rows = %dL; }; } );
streams = ( { name = "events"; retention_s = 3600; max_messages_per_s = 5000; }, { name = "quiet"; } );
stream_apps = ( { app = "store"; exec = "builtin:load"; stream = "events"; dataset = "data"; max_instances = 2; },
  { app = "echo"; exec = "echo.sh"; args = ("of", "conf"); stream = "quiet"; max_instances = 4; },
  { app = "pipe"; exec = "builtin:pipe"; args = ("--", "cat"); stream = "quiet"; on_demand = false; max_instances = 2; scale = { window_s = 5; }; }, { app = "own"; stream = "quiet"; } );
"""
GOOD, BAD = b'{"a":1}', b'[{"a":1},{"a":2},{"a":3}]'
NOBODY = "01kdv6y6q3p8sxkq2n4ft5w7zc"


def configure(site, tenant, max_rows=2):
    (site.home.path / f"conf/tenants/{tenant}.conf").write_text(TENANT % (site.home.db_of[tenant], max_rows))


def kill(site, program):
    (pid,) = until(lambda: len(p := site.home.pids(f"/{program}")) == 1 and p, site.home.path / "logs", what=program)
    os.kill(pid, signal.SIGKILL)
    until(lambda: has_ended(pid), site.home.path / "state", what="its end")


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings() + ' alerts = ( { name = "letters"; when = "dead > 0"; } );', ready=False)
    for tenant in ("acme", "beta"):
        configure(s, tenant)
        path = s.home.path / f"apps/{tenant}/echo.sh"
        path.write_text(ECHO)
        path.chmod(0o755)
    s.home.profiles(cpus=0.01, rlimits="nofile = 256;")
    s.up()
    yield s
    s.cleanup()


def publish(site, *bodies, stream="events", tenant="acme"):
    lines = b"".join(b + b"\n" for b in bodies)
    a = site.post(f"streams/{stream}/messages", site.of(tenant=tenant), tenant, lines, described=False, Content_Type="application/x-ndjson")
    assert a.status == 200, a


def stream(site, name="events", tenant="acme"):
    a = site.get(f"streams/{name}", site.of("tenant-reader", tenant), tenant)
    assert a.status == 200, a
    return a.doc


def app_of(doc, name="store"):
    return next(a for a in doc["apps"] if a["app"] == name)


def letters(site, query="", tenant="acme"):
    a = site.get(f"streams/events/dead-letters{query}", site.of("tenant-reader", tenant), tenant)
    assert a.status == 200, a
    return a.doc


def wait_dead(site, n, tenant="acme"):
    return until(lambda: len(found := letters(site, tenant=tenant)["dead_letters"]) == n and found, site.home.path / "state", what=lambda: f"{n} dead: {letters(site, tenant=tenant)}")


def drop(site, query="", body=b"", token="", tenant="acme", name="events"):
    return site.ask("DELETE", f"/v1/tenants/{tenant}/streams/{name}/dead-letters{query}", token, body)


def replay(site, query="", body=b"", token="", tenant="acme", name="events"):
    return site.post(f"streams/{name}/dead-letters:replay{query}", token, tenant, body)


def instances(site, app="echo", tenant="acme"):
    a = site.get(f"instances?app={app}", site.of("tenant-reader", tenant), tenant)
    assert a.status == 200 and [x["app"] for x in a.doc["apps"]] == [app], a
    return a.doc["apps"][0], {i["instance_id"]: i for i in a.doc["instances"]}


def wait_instances(site, test, app="echo"):
    return until(lambda: test(*(found := instances(site, app))) and found, site.home.path / "state", what=lambda: f"instances: {instances(site, app)}")


def allow_rows(site, n):
    """No instance has the configuration of before. The monitor may want one anew: messages came."""
    configure(site, "acme", n)
    site.home.cli("reload")
    before = set(instances(site, "store")[1])
    assert site.post("apps/store:scale", body=b'{"count":0}').status == 200
    wait_instances(site, lambda _, i: not before & set(i), "store")


def start(site, *args, app="echo", **kw):
    return site.post(f"apps/{app}/instances", body=json.dumps({"args": args}).encode(), **kw)


def started(site, *args):
    a = until(lambda: (lambda a: a if a.status != 503 else None)(start(site, *args)), site.home.path / "state", what="a start")
    assert (a.status, a.doc["app"], a.doc["reason"]) == (201, "echo", None), a
    return a.doc["instance_id"]


# ---- streams

def test_streams_with_what_waits_and_what_is_agreed(site):
    publish(site, GOOD, GOOD)
    until(lambda: app_of(stream(site))["acknowledged"] >= 2, site.home.path / "state", what="two messages")
    a = site.get("streams", site.of("tenant-reader"))
    assert a.status == 200 and [s["stream"] for s in a.doc["streams"]] == ["events", "quiet"], a
    s, store = stream(site), app_of(stream(site))
    assert (s["stream"], s["state"], s["published"], s["last_sequence"], s["refused"], s["in_flight"], s["oldest_age_s"]) == ("events", "active", 2, 2, 0, 0, None), s
    assert [s["limits"][k] for k in ("retention_s", "max_messages_per_s", "max_rows_per_s")] == [3600, 5000, None]
    assert (store["waiting"], store["in_flight"], store["dead_letters"], store["acknowledged"], store["rows"]) == (0, 0, 0, 2, 2)
    assert [x["app"] for x in stream(site, "quiet")["apps"]] == ["echo", "pipe", "own"]
    publish(site, b"x", b"y", stream="quiet", tenant="beta")
    quiet = stream(site, "quiet", "beta")
    assert (quiet["messages"], app_of(quiet, "own")["waiting"], app_of(quiet, "own")["consumers"]) == (2, 2, 0) and quiet["oldest_age_s"] >= 0


def test_streams_of_others_and_none(site):
    for name, tenant, token in (("none", "acme", ""), ("events", "beta", ""), ("events", "nobody", site.of("operator", None)), ("..", "acme", "")):
        for path in ("", "/dead-letters"):
            a = site.get(f"streams/{name}{path}", token, tenant)
            assert a.status in ((400,) if name == ".." else (404,)) or (path and name == "none" and a.doc["dead_letters"] == []), a
        assert replay(site, token=token, tenant=tenant, name=name).status in (400, 404)
        assert drop(site, token=token, tenant=tenant, name=name).status in (400, 404)
    assert site.get("streams", site.of("operator", None), "beta").status == 200
    assert site.get("streams", None).status == 401 and site.get("streams?x=1").code == "bad_request"


# ---- dead letters

def test_dead_letters_are_shown_replayed_and_dropped(site):
    large, binary = b"[" + b",".join([b'{"a":"%s"}' % (b"x" * 3000)] * 3) + b"]", b"\xff\x00not json"
    a = site.post("streams/events/messages", body=binary, described=False, Content_Type="application/octet-stream")
    assert a.status == 200, a
    publish(site, BAD, large, GOOD)
    found = wait_dead(site, 3)
    assert [d["sequence"] for d in found] == sorted(d["sequence"] for d in found) and {d["app"] for d in found} == {"store"}
    bin_, bad, big = found
    assert (bin_["text"], base64.b64decode(bin_["base64"]), bin_["bytes"]) == (None, binary, len(binary))
    assert (bad["text"], bad["base64"], bad["id"]) == (BAD.decode(), None, f"{bad['sequence']}.store") and "max_rows" in bad["reason"]
    assert (big["text"], base64.b64decode(big["base64"]), big["bytes"]) == (None, large[:4096], len(large))
    s = stream(site)
    assert (s["dead_letters"], app_of(s)["dead_letters"]) == (3, 3)
    # pages
    first = letters(site, "?limit=2")
    assert [d["id"] for d in first["dead_letters"]] == [bin_["id"], bad["id"]] and first["next"]
    rest = letters(site, f"?limit=2&cursor={first['next']}")
    assert [d["id"] for d in rest["dead_letters"]] == [big["id"]] and rest["next"] is None
    assert letters(site, "?app=none")["dead_letters"] == [] and len(letters(site, "?app=store&limit=100")["dead_letters"]) == 3
    for query in ("?limit=0", "?limit=101", "?limit=x", "?cursor=x", "?cursor=0.store", "?cursor=1.", "?cursor=1.A", "?cursor=-1.store", "?after=1"):
        assert site.get(f"streams/events/dead-letters{query}").status == 400, query
    # what fails again is dead again
    assert replay(site, f"?id={bad['id']}").doc == {"n": 1, "more": False}
    again = wait_dead(site, 3)[1]
    assert again["id"] == bad["id"] and again["died_at"] > bad["died_at"]
    # and what does not is stored
    allow_rows(site, 10)
    rows = site.home.count()
    assert replay(site, body=json.dumps({"ids": [bad["id"], big["id"], "77777.store", "1.none"]}).encode()).doc == {"n": 2, "more": False}
    until(lambda: site.home.count() == rows + 6, site.home.path / "state", what=lambda: f"{site.home.count() - rows} rows")
    assert [d["id"] for d in letters(site)["dead_letters"]] == [bin_["id"]]
    allow_rows(site, 2)
    # dropping, as often as somebody likes
    assert drop(site, body=json.dumps({"ids": [bin_["id"], bad["id"]]}).encode()).doc == {"n": 1, "more": False}
    assert drop(site, f"?id={bin_['id']}").doc == {"n": 0, "more": False} and letters(site)["dead_letters"] == []
    assert drop(site).doc == {"n": 0, "more": False}


def test_all_dead_letters_and_those_of_an_app(site):
    before = len(letters(site)["dead_letters"])
    publish(site, *[BAD] * 5)
    wait_dead(site, before + 5)
    assert drop(site, "?app=own").code == "not_found" and drop(site, "?app=none").code == "not_found"
    n = replay(site, "?app=store").doc["n"]
    assert n >= 5
    wait_dead(site, before + 5)
    assert drop(site).doc == {"n": before + 5, "more": False} and stream(site)["dead_letters"] == 0


def test_dead_letters_of_no_stream(site):
    a = site.get("streams/nothing/dead-letters", site.of("tenant-reader"))
    assert (a.status, a.code) == (404, "not_found"), a
    assert site.get("streams/quiet/dead-letters", site.of("tenant-reader")).doc == {"dead_letters": [], "next": None}


def test_which_dead_letters_are_meant_is_said_clearly_or_none_is_touched(site):
    publish(site, BAD)
    (d,) = wait_dead(site, 1)
    for query, body in (("", b"x"), ("", b"[]"), ("", b"{}"), ("", b'{"ids":1}'), ("", b'{"ids":{"a":"%s"}}' % d["id"].encode()), ("", b'{"ids":[1]}'), ("", b'{"ids":["0.store"]}'),
                        ("", b'{"ids":["store"]}'), ("", b'{"ids":["%s","1.store/../x"]}' % d["id"].encode()), ("", b'{"ids":["1.store\\u0000"]}'), ("", b'{"ids":[],"all":true}'),
                        ("", json.dumps({"ids": ["1.store"] * 1001}).encode()), ("", b'{"ids":["%s"]}' % (b"1" * 200000)), ("?id=x", b""), (f"?id={d['id']}&app=store", b""),
                        (f"?id={d['id']}", b'{"ids":[]}'), ("?seq=1", b""), (f"?id={d['id']}&id={d['id']}", b""), ("?id=", b"")):
        for do in (replay, drop):
            a = do(site, query, body)
            assert a.status == 400, (query, body[:100], a)
    assert [x["died_at"] for x in letters(site)["dead_letters"]] == [d["died_at"]]
    assert drop(site, body=b'{"ids":[]}').doc["n"] == 0 and replay(site, body=json.dumps({"ids": ["1.none"] * 1000}).encode()).doc == {"n": 0, "more": False}
    assert drop(site, body=b'{"ids":["%s"]}' % (b" " * (2 << 20))).status == 413
    assert drop(site).doc["n"] == 1


# ---- instances

def test_instances_with_arguments(site):
    app, found = wait_instances(site, lambda a, _: a["state"] == "idle")
    assert found == {} and (app["stream"], app["max_instances"], app["by_hand"]) == ("quiet", 4, 0)
    fast, slow = started(site, "--fast", "two words\n\"é\""), started(site, "--slow", "")
    app, found = wait_instances(site, lambda _, i: {x["state"] for x in i.values()} == {"running"})
    assert {k: (i["args"], i["by_hand"], i["run_id"], i["app"]) for k, i in found.items()} == \
        {fast: (["--fast", 'two words\n"é"'], True, fast, "echo"), slow: (["--slow", ""], True, slow, "echo")}
    assert (app["by_hand"], app["instances"]) == (2, 0)
    until(lambda: site.get(f"runs/{fast}/log").body == '--fast two words\n"é"\n'.encode(), site.home.path / "runs", what="its log")
    # one that ends by itself is over
    ended = started(site, "end", "3")
    wait_instances(site, lambda _, i: set(i) == {fast, slow})
    assert [site.get(f"runs/{ended}").doc[k] for k in ("outcome", "exit_code")] == ["failed", 3]
    # one whose runner dies comes again, under its id
    os.kill(runner_of(site.home.marked(slow)[-1]), signal.SIGKILL)
    _, found = wait_instances(site, lambda _, i: i.get(slow) and i[slow]["run_id"] not in (None, slow) and i[slow]["state"] == "running")
    assert found[slow]["args"] == ["--slow", ""] and (found[slow]["last_end"]["run_id"], found[slow]["last_end"]["outcome"]) == (slow, "lost")
    # a stop holds, over streammgr's end too
    for i, left in ((slow, {fast}), (fast, set())):
        a = site.post(f"instances/{i}:stop")
        assert (a.status, a.doc) == (200, {"instance_id": i, "app": "echo", "desired": 0, "app_stopped": False}), a
        wait_instances(site, lambda _, found: set(found) == left)
        assert site.post(f"instances/{i}:stop").code == "not_found"
        kill(site, "streammgr")
        until(lambda: site.get("instances").status == 200, site.home.path / "logs", what="streammgr")
        wait_instances(site, lambda _, found: set(found) == left)
    events = [e for e in site.home.rows("audit") if e["what"] in ("start", "stop")]
    assert {(e["subject"], e["outcome"], e["who"]) for e in events} >= {("echo", "ok", "tenant-writer.acme"), (fast, "ok", "tenant-writer.acme"), (fast, "not_found", "tenant-writer.acme")}


def test_what_instances_do_is_told_in_events(site):
    with Events(site) as r:
        r.until(lambda r: r.last)
        i = started(site, "--told")
        wait_instances(site, lambda _, found: found.get(i, {}).get("state") == "running")
        assert site.post(f"instances/{i}:stop").status == 200
        r.until(lambda r: [e for e in r.named("instance.ended") if e[1]["run_id"] == i])
    mine = [(e[0], e[1]) for e in r.events if e[1].get("run_id") == i]
    assert [name for name, _ in mine] in (["instance.started", "instance.draining", "instance.ended"], ["instance.started", "instance.ended"]), mine
    for _, doc in mine:
        assert (doc["tenant_id"], doc["app"]) == ("acme", "echo")
        site.schema({"$ref": "#/components/schemas/Event"}, doc)
    assert "cannot write" not in (site.home.path / "logs/streammgr.log").read_text()


def test_what_the_monitor_and_the_broker_say_is_told_in_events(site):
    with Events(site, "/v1/tenants/acme/events?types=alert,stream", token=site.of(tenant="beta")) as others, Events(site) as r:
        r.until(lambda r: r.last)
        assert others.status == 404
        publish(site, BAD)
        told = lambda name, **fields: [e[1] for e in r.named(name) if fields.items() <= e[1].items()]  # noqa: E731
        letters_ = {"app": "store", "alert": "letters"}
        r.until(lambda _: told("stream.dead") and told("alert.firing", **letters_))
        d, = wait_dead(site, 1)
        assert drop(site, f"?id={d['id']}").doc["n"] == 1
        r.until(lambda _: told("alert.over", **letters_))
    for name, fields in (("stream.dead", {"app": "store", "stream": "events"}), ("alert.firing", letters_), ("alert.over", letters_)):
        doc = told(name, **fields)[0]
        assert doc["tenant_id"] == "acme", doc
        site.schema({"$ref": "#/components/schemas/Event"}, doc)


def test_what_the_monitor_decides_is_told_in_events(site):
    """Nothing comes for two instances of pipe: once nobody holds it at two, the monitor decides for one, since no message would wake it."""
    def told(r):
        return [e[1] for e in r.named("scale.decided") if e[1]["app"] == "pipe"]

    with Events(site) as r:
        r.until(lambda r: r.last)
        assert site.post("apps/pipe:scale", body=b'{"count":2}').status == 200
        wait_instances(site, lambda a, i: a["running"] == 2, "pipe")
        assert site.post("apps/pipe:scale", body=b'{"count":null}').status == 200
        r.until(told)
    (doc,) = told(r)
    assert (doc["tenant_id"], doc["before"], doc["desired"]) == ("acme", 2, 1) and doc["reason"], doc
    site.schema({"$ref": "#/components/schemas/Event"}, doc)
    assert site.post("apps/pipe:scale", body=b'{"count":0}').status == 200
    wait_instances(site, lambda a, i: not i, "pipe")


def test_an_app_is_started_scaled_and_stopped(site):
    a = until(lambda: (lambda a: a if a.status == 200 and a.doc["instance_id"] else None)(site.post("apps/echo:start")), site.home.path / "state", what="a start")
    one = a.doc["instance_id"]
    assert a.doc == {"instance_id": one, "app": "echo", "reason": None}
    _, found = wait_instances(site, lambda _, i: one in i and i[one]["state"] == "running")
    assert (found[one]["args"], found[one]["by_hand"]) == (None, False)
    assert site.post("apps/echo:scale", body=b'{"count":2}').doc == {"app": "echo"}
    app, found = wait_instances(site, lambda a, i: a["running"] == 2)
    assert app["pinned"] and app["desired"] == 2
    for body, status, code in ((b"", 400, "bad_request"), (b"{}", 400, "bad_request"), (b'{"count":"2"}', 400, "bad_request"), (b'{"count":-1}', 400, "bad_request"),
                               (b'{"count":1.5}', 400, "bad_request"), (b'{"count":1,"pin":false}', 400, "bad_request"), (b'{"count":5}', 422, "agreement"),
                               (b'{"count":9223372036854775807}', 422, "agreement")):
        a = site.post("apps/echo:scale", body=body)
        assert (a.status, a.code) == (status, code), (body, a)
    # one fewer from then on
    two = (set(found) - {one}).pop()
    a = site.post(f"instances/{two}:stop")
    assert (a.doc["desired"], a.doc["app_stopped"]) == (1, False), a
    wait_instances(site, lambda a, i: set(i) == {one})
    assert site.post("apps/echo:scale", body=b'{"count":null}').status == 200 and not instances(site)[0]["pinned"]
    # the last one stops the app
    assert site.post(f"instances/{one}:stop").doc["app_stopped"]
    app, _ = wait_instances(site, lambda a, i: not i)
    assert (app["state"], app["last_end"]["run_id"], app["last_end"]["outcome"]) == ("stopped", one, "ok")
    assert site.post("apps/echo:scale", body=b'{"count":1}').code == "app_stopped"
    assert site.post("apps/echo:start").status == 200
    started(site, "x")
    wait_instances(site, lambda a, i: a["running"] == 1 and len(i) == 2)
    assert site.post("apps/echo:stop").doc == {"app": "echo"}
    app, _ = wait_instances(site, lambda a, i: not i)
    assert app["state"] == "stopped"
    assert site.post("apps/echo:start").status == 200
    wait_instances(site, lambda a, i: a["running"] == 1)
    assert site.post("apps/echo:scale", body=b'{"count":0}').status == 200
    wait_instances(site, lambda a, i: a["state"] == "idle" and not i)


def test_arguments_are_bounded_and_are_arguments(site):
    long = "x" * 16383
    for body in (b"", b"x", b"[]", b"{}", b'{"args":"x"}', b'{"args":{"0":"x"}}', b'{"args":[1]}', b'{"args":[["x"]]}', b'{"args":["a\\u0000b"]}', b'{"args":["x"],"exec":"/bin/sh"}',
                 json.dumps({"args": ["x"] * 257}).encode(), json.dumps({"args": [long + "x"]}).encode(), json.dumps({"args": [long, ""]}).encode(),
                 json.dumps({"args": ["\u0001" * 20000]}).encode(), b'{"args":["\xff"]}'):
        a = site.post("apps/echo/instances", body=body)
        assert (a.status, a.code) == (400, "bad_request"), (body[:80], a)
    assert site.post("apps/echo/instances", body=b'{"args":["' + b"x" * (1 << 20) + b'"]}').status == 413
    i = started(site, long)
    until(lambda: site.get(f"runs/{i}/log").body == long.encode() + b"\n", site.home.path / "runs", what="its log")
    assert site.post(f"instances/{i}:stop").status == 200
    for app, status, code in (("store", 422, "no_args"), ("pipe", 422, "no_args"), ("own", 409, "not_managed"), ("none", 404, "not_found")):
        a = start(site, "--", "sh", app=app)
        assert (a.status, a.code) == (status, code), a
        assert "mysimbdp" not in a.doc["detail"], "what a tenant cannot call"
    wait_instances(site, lambda a, i: not i)


def test_there_are_as_many_as_agreed_and_so_many_a_minute(site):
    many = [started(site, str(n)) for n in range(4)]
    a = start(site, "more")
    assert (a.status, a.code) == (409, "max_instances"), a
    for i in many:
        assert site.post(f"instances/{i}:stop").status == 200
    wait_instances(site, lambda _, i: not i)
    answers = [start(site, "more", app="echo", tenant="beta", token=site.of(tenant="beta")) for _ in range(31)]
    assert answers[0].status == 201 and {a.code for a in answers[4:30]} == {"max_instances"}, answers
    assert (answers[30].status, answers[30].code) == (429, "rate") and 0 < int(answers[30].headers["Retry-After"]) <= 60
    assert site.post("apps/echo:stop", site.of(tenant="beta"), "beta").status == 200
    until(lambda: not instances(site, tenant="beta")[1], site.home.path / "state", what="their end")


def test_instances_of_others_and_none(site):
    mine = started(site, "mine")
    beta = site.of(tenant="beta")
    assert mine not in instances(site, tenant="beta")[1]
    for tenant, token, i in (("beta", beta, mine), ("acme", beta, mine), ("acme", "", NOBODY), ("acme", "", "x"), ("beta", site.of("operator", None), mine)):
        a = site.post(f"instances/{i}:stop", token, tenant)
        assert (a.status, a.code) == (404, "not_found"), a
    assert site.get("instances?app=none").code == "not_found" and site.get("instances", beta).code == "not_found"
    assert start(site, "x", token=beta).code == "not_found" and site.post("apps/echo:stop", beta).code == "not_found"
    assert set(instances(site)[1]) == {mine}
    assert site.post(f"instances/{mine}:stop", site.of("operator", None)).status == 200
    wait_instances(site, lambda _, i: not i)


# ---- who may, and when

def test_who_may_not(site):
    reader, scoped = site.of("tenant-reader"), site.token(site.user("scoped"), "--datasets", "data")[0]
    publishes = site.token("scoped", "--verbs", "publish,read")[0]
    for token in (reader, scoped, publishes):
        for do in (lambda: replay(site, token=token), lambda: drop(site, token=token), lambda: start(site, "x", token=token), lambda: site.post("apps/echo:start", token),
                   lambda: site.post("apps/echo:stop", token), lambda: site.post("apps/echo:scale", token, body=b'{"count":1}'), lambda: site.post(f"instances/{NOBODY}:stop", token)):
            a = do()
            assert (a.status, a.code) == (403, "forbidden"), a
        assert site.get("streams", token).status == site.get("instances", token).status == 200
    assert site.get("streams/events/dead-letters", scoped).code == "forbidden", "messages are of no dataset in particular"
    assert site.get("streams/events/dead-letters", publishes).status == 200
    assert replay(site, token=site.token("scoped", "--verbs", "retry")[0]).status == drop(site, token=site.token("scoped", "--verbs", "delete")[0]).status == 200


def test_a_suspended_tenant_sees_and_changes_nothing(site):
    publish(site, BAD)
    wait_dead(site, 1)
    i = started(site, "held")
    site.home.cli("tenant", "suspend", "acme")
    try:
        until(lambda: stream(site)["state"] == "suspended", site.home.path / "state", what="the broker's word")
        _, found = wait_instances(site, lambda a, found: a["state"] == "suspended" and found[i]["run_id"] is None)
        assert (found[i]["state"], found[i]["reason"]) == ("waiting", "the tenant is suspended")
        for a in (replay(site), drop(site), start(site, "x"), site.post("apps/echo:start"), site.post("apps/echo:scale", body=b'{"count":1}')):
            assert (a.status, a.code) == (403, "suspended"), a
        assert len(letters(site)["dead_letters"]) == 1
    finally:
        site.home.cli("tenant", "resume", "acme")
    _, found = wait_instances(site, lambda _, found: found[i]["state"] == "running")
    assert found[i]["args"] == ["held"] and found[i]["run_id"] != i
    assert site.post(f"instances/{i}:stop").status == 200, "by the id that it has always had"
    wait_instances(site, lambda _, i: not i)
    until(lambda: drop(site).status == 200, site.home.path / "state", what="the broker's word")


@pytest.mark.parametrize("program, asked", [("broker", (lambda s: s.get("streams"), lambda s: s.get("streams/events/dead-letters"), replay, drop)),
                                            ("streammgr", (lambda s: s.get("instances"), lambda s: start(s, "x"), lambda s: s.post("apps/echo:stop")))])
def test_a_program_that_is_not_there(site, program, asked):
    site.home.up_process.send_signal(signal.SIGSTOP)  # else it starts another at once
    try:
        kill(site, program)
        for ask in asked:
            a = ask(site)
            assert (a.status, a.code) == (503, "unavailable") and int(a.headers["Retry-After"]) > 0, a
    finally:
        site.home.up_process.send_signal(signal.SIGCONT)
    until(lambda: asked[0](site).status == 200, site.home.path / "logs", what=program)


# ---- the agreement

def test_max_streams_is_how_many_there_may_be(site):
    assert site.get("agreement").doc["max_streams"] == 2
    path = site.home.path / "conf/tenants/acme.conf"
    text = path.read_text()
    path.write_text(text.replace('{ name = "quiet"; }', '{ name = "quiet"; }, { name = "third"; }'))
    try:
        for r in (site.home.cli("check", check=False), site.home.cli("reload", check=False)):
            assert r.returncode == 1 and "acme.conf:3: key 'max_streams': there are 3 streams, and the agreement has 2" in r.stdout + r.stderr, r
        assert site.get("streams/third").status == 404
        path.write_text(path.read_text().replace("max_streams = 2", "max_streams = -1"))
        site.home.cli("reload")
        assert site.get("streams/third").status == 200 and site.get("agreement").doc["max_streams"] is None
    finally:
        path.write_text(text)
        site.home.cli("reload")
