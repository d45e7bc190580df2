"""Streams of events over HTTP: what comes, in which order, again after any break and without loss; and who gets them for how long."""
import json
import os
import signal
import sys
import threading
import time

import pytest

from harness import ROOT, has_ended, until
from web import PASSWORD, Events, Site, settings

sys.path.insert(0, str(ROOT / "clientlib/python"))
import simbdp  # noqa: E402

pytestmark = pytest.mark.anyone

T = "/v1/tenants/acme"
STREAMS = f"{T}/events"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


def deliver(site, name, body=None, dataset="data", **kw):
    a = site.put(name, body or f"v,w\n{name},x\n".encode(), dataset=dataset, **kw)
    assert a.status == 201, a
    return a.doc["file_id"]


def verdicts(reader):
    return [e[1]["file_id"] for e in reader.named("file.verdict")]


def journal(site, name="events.batch.jsonl", tenant="acme"):
    return site.home.path / "logs/tenants" / tenant / name


def add_lines(site, lines, name="events.batch.jsonl"):
    with open(journal(site, name), "ab") as f:
        f.write(b"".join(line + b"\n" for line in lines))


def made(i, event="file.queued", **more):
    return json.dumps({"ts": "2026-01-01T00:00:00.000Z", "event": event, "tenant_id": "acme", "dataset": "data", "file_id": f"made{i}", **more}).encode()


def numbers(reader):
    return [int(e[1]["file_id"][4:]) for e in reader.events if e[1].get("file_id", "").startswith("made")]


# ---- what comes

def test_the_story_of_a_file(site):
    with Events(site) as r:
        assert r.status == 200 and "content-type: text/event-stream\r\n" in r.head.lower() and "no-store" in r.head, r.head
        r.until(lambda r: r.last, what="an id")
        assert r.retry == 2000 and not r.events
        i = deliver(site, "story.csv")
        r.until(lambda r: i in verdicts(r))
        run = next(e[1]["run_id"] for e in r.named("file.verdict"))
        story = [e[0] for e in r.events if i in (e[1].get("file_id"),) or e[1].get("run_id") == run]
        assert story == ["file.received", "file.inspected", "file.queued", "run.started", "file.running", "run.ended", "file.verdict"], r.events
        v = r.named("file.verdict")[0][1]
        assert (v["state"], v["rows_loaded"], v["file_name"], v["dataset"], v["tenant_id"]) == ("ingested", 1, "story.csv", "data", "acme"), v
        assert r.named("run.ended")[0][1]["outcome"] == "ok" and len({e[2] for e in r.events}) == len(r.events)
        for name, doc, _ in r.events:
            assert doc["event"] == name
            site.schema({"$ref": "#/components/schemas/Event"}, doc)


def test_order_over_many_files(site):
    with Events(site, f"{STREAMS}?types=file") as r:
        r.until(lambda r: r.last)
        ids = [deliver(site, f"many{k}.csv") for k in range(30)]
        r.until(lambda r: set(ids) <= set(verdicts(r)))
        assert {e[0].split(".")[0] for e in r.events} == {"file"}
        for i in ids:
            names = r.of_file(i)
            assert names[0] == "file.received" and names[-1] == "file.verdict" and len(names) == len(set(names)), names


def test_filters(site):
    with Events(site, f"{STREAMS}?types=run.ended,file.verdict") as r, Events(site, f"{STREAMS}?types=instance") as none:
        r.until(lambda r: r.last)
        none.until(lambda r: r.last)
        i = deliver(site, "filtered.csv")
        r.until(lambda r: i in verdicts(r))
        assert [e[0] for e in r.events] == ["run.ended", "file.verdict"]
        none.pump(0)
        assert not none.events
    for types in ("nothing", "file.nothing", "", "file,", "fil", "gap"):
        with Events(site, f"{STREAMS}?types={types}") as r:
            assert r.status == 400, types


def test_text_does_not_forge_an_event(site):
    """A name that ends lines and begins events; ids and times that are none."""
    name = 'evil%0A%0Aevent: file.verdict%0Adata: {"forged":1}%0A%0A.csv'.replace(" ", "%20").replace("{", "%7B").replace("}", "%7D").replace('"', "%22")
    a = site.put(name, b"v,w\n1,forged\n")
    assert a.status in (400, 422), a
    evil = 'evil\n\nevent: file.verdict\ndata: {"forged":1}\r\rid: 7\x7f.csv'
    with Events(site) as r:
        r.until(lambda r: r.last)
        with open(site.home.path / "staging/acme/data/.new", "wb") as f:
            f.write(b"v,w\n2,forged\n")
        os.rename(site.home.path / "staging/acme/data/.new", site.home.path / "staging/acme/data" / evil)
        r.until(lambda r: [e for e in r.named("file.verdict") if "evil" in e[1]["file_name"]])
        assert not [e for e in r.events if "forged" in e[1]]
        assert len(r.named("file.verdict")) == 1 and r.last != "7"
        assert r.raw.count(b"\r") == r.raw.count(b"\r\n"), "no line ends but those of chunks"


def test_lines_that_are_none(site):
    """What a crash or a stranger left in a journal."""
    other = json.dumps({"ts": "2026-01-01T00:00:00Z", "event": "file.verdict", "tenant_id": "other", "file_id": "made7"}).encode()
    with Events(site) as r:
        r.until(lambda r: r.last)
        add_lines(site, [made(1), b'{"ts":"2026', b"", b"[1]", b"\xff\xfe", made(2)[:-5] + made(3), other, made(4, "nothing.known"), b"x" * 300000,
                         made(5).replace(b"data", b"a\rb"), made(6)])
        r.until(lambda r: 6 in numbers(r))
        assert numbers(r) == [1, 6]
    with open(journal(site), "ab") as f:
        f.write(made(8)[:20])  # not written to its end
    with Events(site) as r:
        r.until(lambda r: r.last)
        add_lines(site, [made(8)[20:], made(9)])
        r.until(lambda r: 9 in numbers(r))
        assert numbers(r) == [8, 9]


# ---- again

def test_again_from_each_event(site):
    with Events(site) as r:
        r.until(lambda r: r.last)
        add_lines(site, [made(i) for i in range(100, 110)])
        add_lines(site, [made(i, "instance.started") for i in range(110, 120)], "events.instances.jsonl")
        r.until(lambda r: len(numbers(r)) == 20)
        all_of_it = r.events
    for k in range(0, 20, 3):
        with Events(site, last=all_of_it[k][2]) as r:
            r.until(lambda r: len(r.events) >= 19 - k)
            r.pump(0.3)
            assert sorted(numbers(r) + [int(e[1]["file_id"][4:]) for e in all_of_it[:k + 1]]) == list(range(100, 120))


def test_again_while_it_goes_on(site):
    """A reader that is cut at any byte, again and again, while there is more all the time."""
    stop, wrote = threading.Event(), []

    def write():
        i = 1000
        while not stop.is_set() and i < 5000:
            add_lines(site, [made(k) for k in range(i, i + 10)])
            wrote[:] = range(1000, i + 10)
            i += 10
            stop.wait(0.005)

    with Events(site) as keeps:  # the shared feed goes on meanwhile
        keeps.until(lambda r: r.last)
        last, got, writer = keeps.last, [], threading.Thread(target=write)
        writer.start()
        try:
            for n in range(25):
                with Events(site, last=last) as r:
                    for _ in range(n % 5 + 1):
                        r.pump(0.1)
                    got += numbers(r)
                    last = r.last
        finally:
            stop.set()
            writer.join()
        with Events(site, last=last) as r:
            r.until(lambda r: wrote[-1] in got + numbers(r))
            got += numbers(r)
        assert got == wrote


def test_again_while_a_keeper_is_slow(site):
    """The past is asked of one keeper, which is stopped; what is shared goes on by the others meanwhile."""
    keepers = site.home.pids("simbdp-keeper", "gateway")
    assert len(keepers) == 6
    met = 0
    with Events(site) as keeps:
        keeps.until(lambda r: r.last)
        for n in range(30):
            first, last = 100000 + 10 * n, keeps.last
            os.kill(stopped := keepers[n % 6], signal.SIGSTOP)
            try:
                with Events(site, last=last, opens=False) as r:
                    add_lines(site, [made(k) for k in range(first, first + 10)])
                    keeps.pump(0.6)
                    met += first + 9 in numbers(keeps)
                    os.kill(stopped, signal.SIGCONT)
                    r.begin()
                    for reader in (r, keeps):
                        reader.until(lambda r: first + 9 in numbers(r))
                    assert numbers(r) == list(range(first, first + 10))
            finally:
                os.kill(stopped, signal.SIGCONT)
        assert met, "the shared feed always waited for the keeper that was stopped: the test says nothing"


def test_from_the_oldest(site):
    i = deliver(site, "oldest.csv")
    site.wait(i)
    with Events(site, f"{STREAMS}?types=file.verdict", last="0") as r:
        r.until(lambda r: i in verdicts(r))
    assert r.named("gap") == []


@pytest.mark.parametrize("last", ["x", "1-2", "-", "0-0.0-0.0-0", "0-0.0-0.0-0.0-0.", "0-0.0-0.0-0.0-0.0-0", "0-0.0-0.0-0.0--1", "0-0.0-0.0-0.0-ffffffffffffffff",
                                  "0-0 0-0.0-0.0-0", "0-0.0-0.0-0.0-0\t", "../../x", "0" * 300, "11111111111111111-0.0-0.0-0.0-0"])
def test_ids_that_are_none(site, last):
    with Events(site, last=last) as r:
        assert r.status == 400 or (last.endswith("\t") and r.status == 200), r.head


def test_a_gap(site):
    with Events(site, last="1234-0.0-0.0-0.0-0") as r:
        r.until(lambda r: r.events)
        assert r.events[0][0] == "gap" and r.status == 200
        r.until(lambda r: len(r.events) > 1)


def rotate(site, name="events.batch.jsonl"):
    """As batchmgr does it."""
    os.rename(journal(site, name), journal(site, name + ".1"))


def test_rotation(site):
    with Events(site) as r:
        r.until(lambda r: r.last)
        first = r.last
        add_lines(site, [made(i) for i in range(6000, 6010)])
        r.until(lambda r: 6009 in numbers(r))
        middle = next(e[2] for e in r.events if e[1].get("file_id") == "made6004")
        rotate(site)
        with Events(site) as between:  # begins while there is no current one
            between.until(lambda r: r.last)
            add_lines(site, [made(i) for i in range(6010, 6020)])
            between.until(lambda r: 6019 in numbers(r))
            assert numbers(between) == list(range(6010, 6020))
        r.until(lambda r: 6019 in numbers(r))
        assert numbers(r) == list(range(6000, 6020))
    for last, begin in ((first, 6000), (middle, 6005)):
        with Events(site, last=last) as r:
            r.until(lambda r: 6019 in numbers(r))
            assert numbers(r) == list(range(begin, 6020)) and not r.named("gap")
    rotate(site)
    add_lines(site, [made(6020)])
    with Events(site, last=middle) as r:
        r.until(lambda r: 6020 in numbers(r))
        assert r.events[0][0] == "gap" and numbers(r) == list(range(6010, 6021))


def test_batchmgr_rotates(site):
    path = journal(site)
    i = deliver(site, "before.csv")
    site.wait(i)
    with Events(site) as r:
        r.until(lambda r: r.last)
        with open(path, "ab") as f:
            f.write(b" " * (9 << 20) + b"\n")
        i = deliver(site, "rotates.csv")
        r.until(lambda r: i in verdicts(r))
        assert r.of_file(i)[0] == "file.received"
    assert path.stat().st_size < 1 << 20 and path.with_name(path.name + ".1").stat().st_size > 8 << 20


# ---- kills

def test_kills(site):
    """Of the gateway, and of a keeper (which takes the gateway with it): nothing is lost, nothing comes twice."""
    with Events(site) as r:
        r.until(lambda r: r.last)
        last, got = r.last, []
    for n, program in enumerate(("/gateway", "simbdp-keeper", "/gateway", "simbdp-keeper")):
        with Events(site, last=last) as r:
            add_lines(site, [made(10000 + n)])
            r.until(lambda r: 10000 + n in numbers(r))
            gateway = site.pid()
            pid = gateway if program == "/gateway" else next(p for p in site.home.pids("simbdp-keeper") if "gateway" in str(p) or is_of_gateway(p))
            os.kill(pid, signal.SIGKILL)
            r.to_end()
            got += numbers(r)
            last = r.last
        until(lambda: has_ended(gateway), site.home.path / "state", what="the gateway's end")
        add_lines(site, [made(10100 + n)])
        site.wait_well()
    with Events(site, last=last) as r:
        r.until(lambda r: 10103 in numbers(r))
        got += numbers(r)
    assert got == [10000, 10100, 10001, 10101, 10002, 10102, 10003, 10103]


def is_of_gateway(pid):
    return b"\0gateway\0" in open(f"/proc/{pid}/cmdline", "rb").read()


def test_a_gateway_that_goes_down_says_so(mongo):
    s = Site(mongo, settings())
    try:
        with Events(s) as r:
            r.until(lambda r: r.last)
            os.kill(s.pid(), signal.SIGTERM)
            r.to_end()
            assert r.over and r.events == [("end", {"reason": "draining"}, r.last)]
    finally:
        s.cleanup()


# ---- who

def test_foreign_tenants(site):
    other = site.of("tenant-writer", "beta")
    with Events(site, token=other) as r:
        assert r.status == 404
    with Events(site, "/v1/tenants/nobody/events", token=site.of("operator", None)) as r:
        assert r.status == 404
    with Events(site, "/v1/tenants/beta/events", token=other) as theirs, Events(site) as ours:
        theirs.until(lambda r: r.last)
        i = deliver(site, "foreign.csv")
        ours.until(lambda r: i in verdicts(r))
        theirs.pump(0.3)
        assert not theirs.events
        last = ours.last
    with Events(site, "/v1/tenants/beta/events", token=other, last=last) as theirs:
        theirs.pump(0.3)
        assert not [e for e in theirs.events if e[0] != "gap"], "another tenant's position shows nothing of it"


def test_a_token_for_a_dataset(site):
    token = site.token(site.user("scoped"), "--datasets", "held")[0]
    with Events(site, token=token) as r, Events(site) as all_of_it:
        r.until(lambda r: r.last)
        all_of_it.until(lambda r: r.last)
        i, k = deliver(site, "seen.csv", dataset="data"), deliver(site, "held.csv", dataset="held")
        add_lines(site, [made(1, "instance.started"), made(2, "alert.firing")], "events.scaling.jsonl")
        add_lines(site, [json.dumps({"ts": "2026-01-01T00:00:00Z", "event": "scale.decided", "tenant_id": "acme", "app": "x"}).encode()], "events.scaling.jsonl")
        all_of_it.until(lambda r: i in verdicts(r) and r.named("scale.decided") and r.of_file(k))
        r.until(lambda r: r.of_file(k))
        assert {e[1].get("dataset") for e in r.events if not e[1].get("file_id", "").startswith("made")} == {"held"}, r.events
        last = r.last
    with Events(site, token=token, last=last) as again:
        again.pump(0.5)
        assert not [e for e in again.events if e[1].get("dataset") != "held"]


def open_for(site, name, *scope):
    return Events(site, token=site.token(site.user(name), *scope)[0]).until(lambda r: r.last)


@pytest.mark.parametrize("end", ["revoke", "disable", "remove", "expire"])
def test_rights_end(site, end):
    name = f"ends-{end}"
    with open_for(site, name, *(("--expires", "8s") if end == "expire" else ())) as r, Events(site) as stays:
        stays.until(lambda r: r.last)
        if end == "revoke":
            (token,) = site.home.rows("token", "list", name)
            site.home.cli("token", "revoke", token["token_id"])
        elif end != "expire":
            site.home.cli("user", end, name)
        began = time.monotonic()
        r.to_end(30)
        assert r.over and r.events[-1][:2] == ("end", {"reason": "unauthorized"}), r.events
        assert time.monotonic() - began < 20
        i = deliver(site, f"{name}.csv")
        stays.until(lambda r: i in verdicts(r))


def test_a_password_that_is_changed(site):
    site.user("changes")
    with Events(site, token=("changes", PASSWORD)) as r:
        r.until(lambda r: r.last)
        site.home.cli("user", "passwd", "changes", input="another long password\n")
        with Events(site, token=("changes", "another long password")) as new:  # does not keep the old one's right alive
            new.until(lambda r: r.last)
            r.to_end(30)
            assert r.events[-1][:2] == ("end", {"reason": "unauthorized"})
            assert new.pump(0)


# ---- bounds

def test_streams_of_an_account_and_in_all(mongo):
    s = Site(mongo, settings(event_streams=4, event_streams_per_account=3))
    try:
        mine = [Events(s).until(lambda r: r.last) for _ in range(3)]
        with Events(s) as r:
            assert r.status == 429 and "retry-after" in r.head.lower()
        second = s.token(s.user("second"))[0]
        with Events(s, token=second) as one, Events(s, token=second) as two:
            assert one.status == 200 and two.status == 503
        assert s.home.control({"op": "status"}, "gateway.sock")["event_streams"] <= 4
        mine[0].wire.reset()
        until(lambda: Events(s, token=second).status == 200 and s.home.control({"op": "status"}, "gateway.sock")["event_streams"] <= 4, s.home.path / "state", what="a place")
    finally:
        s.cleanup()


def test_a_silent_stream_stays(mongo):
    """Longer than idle_s; it hears a comment meanwhile, and costs no request."""
    s = Site(mongo, settings(idle_s=2, min_bytes_per_s=100000))
    try:
        with Events(s) as r:
            r.until(lambda r: r.comments >= 2, timeout=60, what="comments")
            i = deliver(s, "late.csv")
            r.until(lambda r: i in verdicts(r))
    finally:
        s.cleanup()


def test_a_reader_that_does_not_read(site):
    """It is cut off once it is behind what is kept; others get everything; and it goes on with its last id."""
    with Events(site) as slow, Events(site) as fast:
        slow.until(lambda r: r.last)
        fast.until(lambda r: r.last)
        last = slow.last
        for k in range(40):
            add_lines(site, [made(20000 + 100 * k + i, detail="x" * 4000) for i in range(100)])
            fast.until(lambda r: numbers(r) and numbers(r)[-1] == 20000 + 100 * k + 99)
        assert numbers(fast) == list(range(20000, 24000))
        slow.to_end()
        got = numbers(slow)
        assert not slow.over and got == list(range(20000, 20000 + len(got))) and len(got) < 4000
    with Events(site, last=slow.last if got else last) as r:
        r.until(lambda r: 23999 in numbers(r))
        assert got + numbers(r) == list(range(20000, 24000))


def test_a_client_that_goes_away(site):
    before = site.home.control({"op": "status"}, "gateway.sock")["event_streams"]
    readers = [Events(site).until(lambda r: r.last) for _ in range(20)]
    for n, r in enumerate(readers):
        r.wire.reset() if n % 2 else r.wire.close()
    add_lines(site, [made(30000)])
    until(lambda: add_lines(site, [made(30001)]) or site.home.control({"op": "status"}, "gateway.sock")["event_streams"] <= before, site.home.path / "state", what="their end")


# ---- a run's log

def text_of(reader):
    return "".join(e[1]["text"] for e in reader.named("log"))


def test_a_log_is_followed(site):
    i = deliver(site, "followed.csv", b"do,arg\nhang,\n", dataset="slow")
    run = until(lambda: next((r["run_id"] for r in site.get("runs?state=running").doc["runs"] if r["app"] == "slow"), None), site.home.path / "state", what="a run")
    log = site.home.path / "runs" / run / "log"
    until(log.exists, log.parent, what="its log")
    with Events(site, f"{T}/runs/{run}/log") as r:
        assert r.status == 200 and "text/event-stream" in r.head
        with open(log, "ab") as f:
            f.write("one\n\nevent: end\ndata: {}\n\nté".encode()[:-1])
        r.until(lambda r: "data: {}" in text_of(r))
        with open(log, "ab") as f:
            f.write("é".encode()[1:] + b"\x00\xff\r\ntwo\n")
        r.until(lambda r: "two\n" in text_of(r))
        assert "one\n\nevent: end\ndata: {}\n\nté\x00\ufffd\r\ntwo\n" in text_of(r) and not r.named("end")
        last = r.last
        with open(log, "ab") as f:
            f.write(b"three\n")
        with Events(site, f"{T}/runs/{run}/log", last=last) as again:
            again.until(lambda r: "three" in text_of(r))
            assert text_of(again) == "three\n"
        assert site.post(f"runs/{run}:stop").status == 200
        r.until(lambda r: r.named("end"))
        r.to_end()
        assert r.over and r.events[-1][:2] == ("end", {"reason": "ended"})
        last = r.last
    with Events(site, f"{T}/runs/{run}/log", last=last) as r:
        assert r.status == 204, r.head
    with Events(site, f"{T}/runs/{run}/log") as r:
        r.to_end()
        assert text_of(r).endswith("three\n") and r.named("end")
    with Events(site, f"{T}/runs/{run}/log", last="nonsense") as r:
        assert r.status == 400
    with Events(site, f"{T}/runs/{'0' * 26}/log") as r:
        assert r.status == 404
    assert site.wait(i)["state"] == "quarantined"
