"""mysimbdp --url …: messages, logs, dead letters, the own configuration, events and apps."""
import hashlib
import io
import json
import os
import re
import select
import tarfile

import pytest

from fake_server import answer, cut, events, problem
from harness import until
from remote import Machine, busy, site, machine, open_site, proxy, cut_off, server, at_server  # noqa: F401 (fixtures)

pytestmark = pytest.mark.anyone


# ---- messages

def test_publish(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    text = "".join(f'{{"n":{i}}}\n' for i in range(12_000))
    assert m.rows("publish", "events", m.file("a.ndjson", text)) == [{"confirmed": 12_000, "unconfirmed": 0, "refused": 0, "deferred": 0}]
    assert m.run("publish", "events", input='{"n":1}\r\n\n{"n":2}').stdout == "2 messages confirmed\n"
    r = m.run("publish", "events", m.file("b.ndjson", '{"n":1}\n' + "x" * (2 << 20) + '\n{"n":2}\n'), code=1)
    assert re.search(r"b.ndjson:2: (refused: )?.*size", r.stderr) and "2 messages confirmed" in r.stdout
    assert "(not_found" in m.run("publish", "nothing", input="x\n", code=1).stderr


def test_publish_over_a_line_that_is_cut(open_site, proxy, cut_off):
    """Each is there once."""
    def one():
        return json.loads(open_site.post("streams/events/messages", body=b"x", described=False).body)["seq"]
    before = one()
    path = cut_off.file("c.ndjson", "".join(f'{{"n":{i},"pad":"{"x" * 200}"}}\n' for i in range(8000)))
    proxy.cuts = [100_000, 700_000, 1_100_000]
    assert cut_off.rows("publish", "events", path)[0]["confirmed"] == 8000 and proxy.n_cut >= 2
    assert one() - before == 8001


def test_publish_what_is_refused_for_a_while(server, at_server):
    lines = ['{"seq":1}', '{"seq":null,"error":"rate","retry_after_ms":50}', '{"seq":null,"error":"rate","retry_after_ms":50}', '{"seq":4}']
    server.script = [answer(None, text="\n".join(lines) + "\n", kind="application/x-ndjson"), answer(None, text='{"seq":5}\n{"seq":null,"known":true}\n', kind="application/x-ndjson")]
    (told,) = at_server.rows("publish", "events", input="a\nb\nc\nd\n")
    assert told == {"confirmed": 4, "unconfirmed": 0, "refused": 0, "deferred": 2}
    first, second = server.asked
    assert second.body == b"b\nc\n" and second.path == first.path.replace("number=1", "number=2")


# ---- logs

def test_logs_are_followed(server, at_server):
    def log(text, position, ended=False):
        return answer(None, text=text, kind="text/plain", X_Position=position, X_Ended=str(ended).lower())
    def piece(text, position, cut=False):
        return f"event: log\nid: {position}\ndata: {json.dumps({'text': text, 'cut': cut})}\n\n"
    run = "0" * 26
    # as the gateway tells it, over a connection that is lost, until it says that the run ended
    server.script = [log("one\n\x1b[31m", "5-a"), events("retry: 1000\n\n", piece("two\n\u00e4\u0000", "5-e"), end=b""),
                     events(piece("\x1b]52;c;x\x07three\n", "6-2", True), 'event: end\nid: 6-2\ndata: {"reason":"ended"}\n\n')]
    r = at_server.run("logs", run, "-f")
    assert r.stdout == "one\n\\x1b[31mtwo\n\u00e4\\x00\\x1b]52;c;x\\x07three\n"
    assert "trying again" in r.stderr and "connected again" in r.stderr and "some of it is gone" in r.stderr
    assert [(h.path.rpartition("/")[2], h.headers["Last-Event-ID"]) for h in server.asked] == [("log?tail=262144", None), ("log", "5-a"), ("log", "5-e")]
    # who comes again after the end has all of it
    server.script = [log("one\n", "5-4"), answer(None, 204, text="")]
    assert at_server.run("logs", run, "-f").stdout == "one\n"
    # asked again and again: where there may be no more streams, and for bytes as they are
    server.asked.clear()
    server.script = [log("one\n\x1b[31m", "5-a"), problem(429, "event_streams", "many", Retry_After="1"), log("", "5-a"), log("two\n", "5-e"), log("", "5-e", True)]
    assert at_server.run("logs", run, "-f").stdout == "one\n\\x1b[31mtwo\n"
    assert [h.path.rpartition("/")[2] for h in server.asked] == ["log?tail=262144", "log", "log?from=5-a", "log?from=5-a", "log?from=5-e"]
    server.script = [log("one\n\x1b[31m", "5-a"), log("two\n", "5-e", True)]
    assert at_server.run("logs", run, "-f", "--raw").stdout == "one\n\x1b[31mtwo\n"
    server.script = [log("\x1b[31m", "5-a", True)]
    assert at_server.run("logs", run, "--raw").stdout == "\x1b[31m"


# ---- streams, dead letters, the own configuration

def test_queue(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    (stream,) = [s for s in m.rows("queue", "list") if s["stream"] == "events"]
    assert "last_sequence" in stream and m.rows("queue", "show", "events")[0]["limits"] == stream["limits"]
    text = m.run("queue", "list").stdout
    assert re.search("^STREAM ", text, re.I) and "events" in text
    assert re.search(r"last_sequence +\d", m.run("queue", "show", "events").stdout)
    assert "(not_found" in m.run("queue", "show", "nothing", code=1).stderr
    assert "show takes a STREAM" in m.run("queue", "show", code=2).stderr
    assert m.rows("dead", "list", "events") == []
    assert m.run("configuration").stdout == "" and m.rows("configuration") == [{"text": ""}]


def letter(seq, app="store"):
    return {"id": f"{seq}.{app}", "app": app, "sequence": seq, "deliveries": 5, "reason": "no number", "published_at": None, "died_at": None,
            "bytes": 1, "text": f"text{seq}", "base64": None}


def test_dead_letters(server, at_server):
    def asked():
        return [(h.command, h.path.partition("/streams/")[2], h.body) for h in server.asked]
    server.script = [answer({"dead_letters": [letter(1)], "next": "c/1"}), answer({"dead_letters": [letter(2)], "next": None})]
    text = at_server.run("dead", "list", "events", "--app", "store").stdout
    assert "text1" in text and "text2" in text
    assert [a[1] for a in asked()] == ["events/dead-letters?limit=100&app=store", "events/dead-letters?limit=100&app=store&cursor=c%2F1"]
    server.asked.clear()
    server.script = [answer({"dead_letters": [letter(1), letter(2), letter(2, "other")], "next": None}), answer({"n": 2, "more": False})]
    assert at_server.run("dead", "drop", "events", "--seq", "2").stdout == "2 dead letters\n"
    command, path, body = asked()[1]
    assert (command, path, json.loads(body)) == ("DELETE", "events/dead-letters", {"ids": ["2.store", "2.other"]})
    server.asked.clear()
    server.script = [answer({"stream": "events", "dead_letters": 10_001}), *[answer({"n": 10_000, "more": True})] * 3]
    assert at_server.rows("dead", "replay", "events", "--all") == [{"n": 20_000}]  # not for ever, when all die again
    assert [a[:2] for a in asked()[1:]] == [("POST", "events/dead-letters:replay")] * 2
    server.script = [answer({"dead_letters": [], "next": None})]
    assert "no dead letter 7" in at_server.run("dead", "drop", "events", "--seq", "7", code=1).stderr
    for args in (["drop", "events"], ["drop", "events", "--all", "--seq", "1"], ["list", "events", "--all"], ["eat", "events"]):
        at_server.run("dead", *args, code=2)


def test_configure(server, at_server):
    tag = "ab" * 32
    server.script = [answer(None, text="a\n", kind="text/plain", ETag=f'"{tag}"')]
    assert at_server.rows("configuration") == [{"text": "a\n", "sha256": tag}]
    server.asked.clear()
    server.script = [answer({}, ETag=f'"{tag}"'), cut, answer({}, ETag=f'"{tag}"'), problem(412, "precondition"), cut]
    assert at_server.rows("configure", at_server.file("own.conf", "datasets = ();\n")) == [{"ok": True, "sha256": tag}]
    assert (server.asked[0].command, server.asked[0].body) == ("PUT", b"datasets = ();\n")
    assert "removed" in at_server.run("configure", "-", input="").stdout and len(server.asked) == 3
    assert "(precondition" in at_server.run("configure", "own.conf", "--if-match", tag, code=1).stderr
    assert server.asked[3].headers["If-Match"] == f'"{tag}"'
    at_server.run("configure", "own.conf", "--if-match", tag, code=1)  # it may have been taken: not sent twice
    assert len(server.asked) == 5
    assert "more than 65536 bytes" in at_server.run("configure", at_server.file("large.conf", "x" * 70_000), code=1).stderr


# ---- events

def test_events_go_on_after_a_cut(server, at_server):
    def event(n, name="file.queued"):
        return f'event: {name}\nid: i{n}\ndata: {{"ts":"2026-01-01T00:00:00.000Z","event":"{name}","tenant_id":"acme","file_id":"f{n}"}}\n\n'
    one, two = event(1), event(2)
    server.script = [events("retry: 2000\nid: i0\n\n", one[:20], one[20:], two[:-1], end=b""), problem(503, "draining"),
                     events(": quiet\n\n", two, end=b""), events('event: end\ndata: {"reason":"unauthorized"}\n\n')]
    r = at_server.run("events", "-f", "--types", "file", code=1)
    assert [line.split() for line in r.stdout.splitlines()] == [["2026-01-01T00:00:00", "file.queued", f"file_id=f{n}"] for n in (1, 2)]
    assert [h.headers["Last-Event-ID"] for h in server.asked] == [None, "i1", "i1", "i2"]
    assert {h.path.partition("/events")[2] for h in server.asked} == {"?types=file"} and server.asked[0].headers["Accept"] == "text/event-stream"
    assert r.stderr.count("trying again") == 2 and r.stderr.count("connected again") == 2 and "may not read" in r.stderr
    server.script = [problem(400, "parameter", detail="types: there is none")]
    assert "(parameter" in at_server.run("events", "-f", code=1).stderr
    assert "give -f" in at_server.run("events", code=2).stderr


def test_events_of_a_file(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    p = m.start("events", "-f", "--types", "file", "--json")
    try:
        n = 0

        def is_told():
            nonlocal n
            n += 1
            m.run("upload", m.file(f"e{n}.csv", f"v,w\n{n},e\n"), "--dataset", "data")
            return select.select([p.stdout], [], [], 1)[0]
        until(is_told, open_site.home.path / "state", what="an event")
        assert json.loads(p.stdout.readline())["event"].startswith("file.")
    finally:
        p.kill()
        p.communicate()


# ---- apps

def sent(record):
    return {m.name: m for m in tarfile.open(fileobj=io.BytesIO(record.body), mode="r:gz")}


VERSION = {"app": "load", "version": "1a2b", "state": "ready", "active": False, "bytes": 3, "files": 1}


def test_push_a_directory(server, at_server):
    at_server.file("app/run.sh", "#!/bin/sh\n").chmod(0o755)
    at_server.file("app/lib/data.txt", "x")
    at_server.file("app/.git/HEAD", "x")
    (at_server.dir / "app/link").symlink_to("run.sh")
    server.script = [answer({**VERSION, "active": True}, 201), answer(VERSION, 201)]
    assert at_server.run("app", "push", "load", "app", "--activate").stdout == "load 1a2b ready, active\n"
    (record,) = server.asked
    assert (record.command, record.path) == ("PUT", "/v1/tenants/acme/apps/load/versions?activate=true")
    assert record.headers["Content-Type"] == "application/gzip" and record.headers["Content-Digest"].startswith("sha-256=:")
    members = sent(record)
    assert sorted(members) == ["lib", "lib/data.txt", "link", "run.sh"]
    assert members["run.sh"].mode == members["link"].mode == 0o755 and members["link"].isreg() and {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
    at_server.run("app", "push", "load", "app")
    assert server.asked[1].body == record.body, "the same files are the same bytes"
    for to, why in (("/etc/passwd", "leads out of it"), ("lib", "no file"), ("nowhere", "No such file")):
        (at_server.dir / "app/link").unlink()
        (at_server.dir / "app/link").symlink_to(to)
        assert why in at_server.run("app", "push", "load", "app", code=1).stderr
    assert len(server.asked) == 2


def test_push_a_file_and_wait_until_it_is_built(server, at_server):
    body = b"\x28\xb5\x2f\xfd"
    version = {**VERSION, "sha256": hashlib.sha256(body).hexdigest()}
    listed = {"app": "load", "active": None, "versions": [{**VERSION, "sha256": "0"}, {**version, "state": "building", "reason": None}]}
    failed = {"app": "load", "active": None, "versions": [{**version, "state": "failed", "reason": "no such package"}]}
    server.script = [busy(503, "busy"), answer({"app": "load", "state": "building"}, 202), answer(listed), answer(failed)]
    r = at_server.run("app", "push", "load", at_server.file("app.tar.zst", body), code=1)
    assert r.stdout == "load 1a2b failed: no such package\n"
    assert [h.command for h in server.asked] == ["PUT", "PUT", "GET", "GET"] and server.asked[0].headers["Content-Type"] == "application/zstd"
    server.script = [answer({"app": "load", "state": "building"}, 202)]
    assert "load building" in at_server.run("app", "push", "load", "app.tar.zst", "--no-wait").stdout
    assert "gone: No such file" in at_server.run("app", "push", "load", "gone", code=1).stderr
    os.mkfifo(at_server.file("dir/x").parent / "pipe")
    assert "dir/pipe is neither file" in at_server.run("app", "push", "load", "dir", code=1).stderr


def test_orders_about_apps(server, at_server):
    active = {"app": "load", "version": "2", "previous": "1"}
    for args, doc, target, out in (
            (("activate", "load", "2"), active, "POST apps/load/versions/2:activate", "load 2 is active; before it: 1\n"),
            (("remove", "load", "1"), active, "DELETE apps/load/versions/1", "it is removed\n"),
            (("rollback", "load"), active, "POST apps/load:rollback", "load 2 is active; before it: 1\n"),
            (("start", "load", "-x", "--", "b"), {"instance_id": "I"}, "POST apps/load/instances", "I\n"),
            (("start", "load"), {"instance_id": None, "reason": "later"}, "POST apps/load:start", ""),
            (("stop", "0" * 26), {"desired": 1}, f"POST instances/{'0' * 26}:stop", "it is being stopped\n"),
            (("stop", "load"), {"app": "load"}, "POST apps/load:stop", "it is being stopped\n"),
            (("scale", "load", "3"), {"app": "load"}, "POST apps/load:scale", "it is being scaled\n"),
            (("scale", "load", "auto"), {"app": "load"}, "POST apps/load:scale", "it is being scaled\n"),
            (("run", "load"), {"n": 3}, "POST apps/load:run", "3 files go\n")):
        server.asked.clear()
        server.script = [answer(doc)]
        assert at_server.run("app", *args).stdout == out
        assert f"{server.asked[0].command} {server.asked[0].path}" == target.replace(" ", " /v1/tenants/acme/")
        if args[0] == "scale":
            assert json.loads(server.asked[0].body) == {"count": {"3": 3, "auto": None}[args[2]]}
        if args[0] == "start" and len(args) > 2:
            assert json.loads(server.asked[0].body) == {"args": ["-x", "--", "b"]}
    # a start whose answer was lost is asked for again, by its key; what starts no other instance is not
    server.asked.clear()
    server.script = [cut, problem(503, "unavailable", Retry_After="0"), answer({"instance_id": "I"}, 201), answer({"instance_id": "J"}, 201)]
    assert [at_server.run("app", "start", "load", "-x").stdout for _ in range(2)] == ["I\n", "J\n"]
    key, again, third, other = server.keys()
    assert key == again == third != other and len(key) == len(other) == 32
    server.asked.clear()
    server.script = [cut]
    at_server.run("app", "start", "load", code=1)
    assert server.keys() == [None]
    server.script = [answer({"app": "load", "active": "2", "versions": [VERSION | {"created_at": "2026-01-31T12:00:00.000Z", "reason": None}]})]
    assert "1a2b" in at_server.run("app", "versions", "load").stdout
    server.script = [answer({"apps": [], "instances": [{"instance_id": "I", "app": "load", "state": "running", "args": ["-x"]}]})]
    assert re.search(r'I +load +running .*"-x"', at_server.run("app", "instances").stdout)
    for args in (("scale", "load", "many"), ("push", "load"), ("list", "x"), ("paint", "load"), (), ("stop", "I", "--activate")):
        assert at_server.run("app", *args, code=2)


def test_versions_of_a_real_app(site, machine):
    machine.token_file.write_text(site.of("tenant-deployer"))
    assert "(not_allowed, " in machine.run("app", "push", "slow", machine.file("one.sh", "#!/bin/sh\n"), code=1).stderr
    conf = site.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + 'allow = ("apps");\n')
    site.home.cli("reload")
    for i in (1, 2):
        script = machine.file("v/misbehave", f"#!/bin/sh\n# {i}\ncat > /dev/null\n")
        script.chmod(0o755)
        (pushed,) = machine.rows("app", "push", "slow", "v", "--activate")
        assert pushed["state"] == "ready" and pushed["active"]
    versions = machine.rows("app", "versions", "slow")
    assert len(versions) == 2 and [v["active"] for v in versions].count(True) == 1
    (old,) = [v["version"] for v in versions if not v["active"]]
    assert f"slow {old} is active" in machine.run("app", "rollback", "slow").stdout
    assert f"slow {pushed['version']} is active; before it: {old}" in machine.run("app", "activate", "slow", pushed["version"]).stdout
    machine.run("app", "remove", "slow", old)
    assert "(state, " in machine.run("app", "remove", "slow", pushed["version"], code=1).stderr
    assert "error: " in machine.run("app", "push", "nothing", "v", code=1).stderr
