"""The gateway as tenants meet it, against the whole platform: delivering and following. Each answer is also compared with docs/openapi.yaml
(web.py). Who may do what is in test_gateway_accounts.py, what breaks HTTP, limits and kills in test_gateway_wire.py and test_gateway_faults.py."""
import base64
import csv
import gzip
import hashlib
import io
import json
import subprocess
import sys

import pytest

from harness import FINAL, ROOT, until
from web import Site, each_route, parallel, settings

sys.path.insert(0, str(ROOT / "clientlib/python"))
import simbdp  # noqa: E402

pytestmark = pytest.mark.anyone
ROWS = b"v,w\n1,a\n2,b\n"
T = "/v1/tenants/acme"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


def digest(data, algorithm="sha256"):
    return f"sha-{algorithm[3:]}=:{base64.b64encode(hashlib.new(algorithm, data).digest()).decode()}:"


def left_nothing(site, name):
    """Neither bytes nor a row."""
    site.wait_spool()
    assert site.rows(name) == []


def chunks(data, n=7):
    for i in range(0, len(data), n):
        yield data[i:i + n]


# ---- delivering

def test_a_file(site):
    a = site.put("plain.csv", ROWS)
    assert (a.status, a.doc["file_name"], a.doc["size_bytes"], a.doc["state"]) == (201, "plain.csv", len(ROWS), "received"), a
    assert a.headers["Location"] == f"{T}/files/{a.doc['file_id']}"
    f = site.wait(a.doc["file_id"])
    assert (f["state"], f["rows_loaded"], f["dataset"], f["tenant_id"], f["size_bytes"]) == ("ingested", 2, "data", "acme", len(ROWS)), f
    assert site.home.mongo.client[site.home.db_of["acme"]]["data"].count_documents({"w": "a"}) == 1
    assert site.spooled() == []
    told = site.ask("GET", a.headers["Location"])
    assert told.status == 200 and {k: told.doc[k] for k in f} == f, "as `mysimbdp files --json` has it"
    assert [e["event"] for e in told.doc["story"]][:1] == ["received"] and [r["run_id"] for r in told.doc["runs"]] == [f["run_id"]]


def test_a_file_in_chunks(site):
    body = b"v,w\n3,c\n"
    a = site.put("chunked.csv", chunks(body), Content_Digest=digest(body))
    assert a.status == 201 and a.doc["size_bytes"] == len(body), a
    assert site.wait(a.doc["file_id"])["state"] == "ingested"


def test_a_file_of_many_pieces(site):
    body = b"v,w\n" + b"".join(b"%d,large\n" % i for i in range(200000))
    a = site.put("large.csv", body, Content_Digest=digest(body) + ", " + digest(body, "sha512"))
    f = site.wait(a.doc["file_id"])
    assert (f["state"], f["rows_loaded"], f["size_bytes"]) == ("ingested", 200000, len(body)), f


def test_an_empty_file(site):
    a = site.put("empty.csv", b"", Content_Length="0")
    assert a.status == 201 and site.wait(a.doc["file_id"])["reason"] == "empty"


def test_a_compressed_file_is_sent_as_it_is(site):
    a = site.put("packed.csv.gz", gzip.compress(b"v,w\n4,d\n"))
    f = site.wait(a.doc["file_id"])
    assert (f["state"], f["rows_loaded"]) == ("ingested", 1), f
    a = site.put("packed.csv", gzip.compress(b"v,w\n5,e\n"), Content_Encoding="gzip")
    assert (a.status, a.code) == (415, "unsupported_media_type"), a
    left_nothing(site, "packed.csv")


def test_a_file_again(site):
    body = b"v,w\n6,f\n"
    first = site.wait(site.put("again.csv", body).doc["file_id"])
    second = site.wait(site.put("again.csv", body).doc["file_id"])
    assert (first["state"], second["state"]) == ("ingested", "duplicate")
    third = site.wait(site.put("again.csv?force=1", body).doc["file_id"])
    assert third["state"] == "ingested" and first["file_id"] != third["file_id"]
    assert site.wait(site.put("again.csv?force=0", body).doc["file_id"])["state"] == "duplicate"


def test_curl_delivers(site):
    """As docs/openapi.yaml says it."""
    source = site.home.base / "by curl.csv"
    source.write_bytes(b"v,w\n7,g\n")
    auth = ["-H", f"Authorization: Bearer {site.of()}"]
    target = f"{site.url}{T}/datasets/data/files/"
    r = subprocess.run(["curl", "-sS", "-f", *auth, "-T", source, target], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0 and json.loads(r.stdout)["file_name"] == "by curl.csv", r
    r = subprocess.run(["curl", "-sS", "-f", *auth, "-T", "-", target + "piped.csv"], input="v,w\n8,h\n", capture_output=True, text=True, timeout=60)
    assert site.wait(json.loads(r.stdout)["file_id"])["state"] == "ingested", r
    r = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-u", "nobody:wrong", "-T", source, target], capture_output=True, text=True, timeout=60)
    assert r.stdout == "401"


# ---- digests

def test_a_digest_that_fits(site):
    for n, (field, body) in enumerate(((digest, b"v\n10\n"), (lambda b: digest(b, "sha512"), b"v\n11\n"), (lambda b: "md5=:AAAA:, " + digest(b), b"v\n12\n"))):
        assert site.put(f"digest{n}.csv", body, Content_Digest=field(body)).status == 201
    body = b"v\n13\n"
    assert site.put("digest4.csv", body, Content_Digest=f"  {digest(body)}\t,{digest(body, 'sha512')} ").status == 201


@pytest.mark.parametrize("field", [digest(b"other"), digest(b"other", "sha512"), digest(ROWS) + ", " + digest(b"other", "sha512"), digest(b"other") + ", " + digest(ROWS, "sha512")])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_digest_that_does_not_fit(site, field, chunked):
    a = site.put("damaged.csv", chunks(ROWS) if chunked else ROWS, Content_Digest=field)
    assert (a.status, a.code) == (422, "digest"), a
    left_nothing(site, "damaged.csv")


@pytest.mark.parametrize("field", ["", "sha-256", "sha-256=", "sha-256=abc", "sha-256=:abc", "sha-256=::", "sha-256=:YWJj:", digest(ROWS)[:-2] + ":", "md5=:YWJj:",
                                   digest(ROWS) + ",", digest(ROWS) + " x", "sha-256=:" + "A" * 43 + "*:", "=" + digest(ROWS)[8:], digest(ROWS).replace("256", "512")])
def test_a_digest_that_is_none(site, field):
    a = site.put("digest.csv", ROWS, Content_Digest=field)
    assert (a.status, a.code) == (400, "bad_request"), a
    left_nothing(site, "digest.csv")


# ---- once

def test_an_upload_is_there_once(site):
    body = b"v,w\n20,x\n"
    first = site.put("once.csv", body, Idempotency_Key="k 1/ü".encode())
    again = site.put("once.csv", body, Idempotency_Key="k 1/ü".encode())
    assert (first.status, again.status) == (201, 200) and first.doc == again.doc and again.headers["Location"] == first.headers["Location"]
    assert len(site.rows("once.csv")) == 1
    site.wait_spool()
    other = site.put("once.csv", body, Idempotency_Key="k 2")
    assert other.status == 201 and other.doc["file_id"] != first.doc["file_id"]
    for name, data in (("twice.csv", body), ("once.csv", body + b"21,y\n")):
        a = site.put(name, data, Idempotency_Key="k 2")
        assert 400 <= a.status < 500, f"a key of another file: {a}"
        site.wait_spool()
    assert len(site.rows("once.csv")) == 2 and site.rows("twice.csv") == []


def test_uploads_under_one_key_at_once(site):
    body = b"v,w\n22,x\n"
    answers = parallel([lambda: site.put("race.csv", body, Idempotency_Key="race")] * 8)
    assert {a.status for a in answers} <= {200, 201} and len({a.doc["file_id"] for a in answers}) == 1, answers
    assert len(site.rows("race.csv")) == 1
    site.wait_spool()


def test_a_key_is_the_tenants(site):
    body = b"v,w\n23,x\n"
    mine = site.put("mine.csv", body, Idempotency_Key="shared")
    theirs = site.put("mine.csv", body, site.of(tenant="beta"), "beta", Idempotency_Key="shared")
    assert mine.status == theirs.status == 201 and mine.doc["file_id"] != theirs.doc["file_id"]
    colleague = site.put("mine.csv", body, site.of("tenant-deployer"), Idempotency_Key="shared")
    assert colleague.doc["file_id"] == mine.doc["file_id"]


@pytest.mark.parametrize("key, status", [("k" * 255, 201), ("k" * 256, 400), ("", 400)])
def test_keys_have_a_length(site, key, status):
    assert site.put(f"key{len(key)}.csv", b"v\n%d\n" % len(key), Idempotency_Key=key).status == status


# ---- what is refused before it comes

@pytest.mark.parametrize("dataset, name, body, status, code", [
    ("small", "a.csv", b"v\n" + b"1\n" * 500, 413, "max_file_bytes"), ("data", "a.xls", ROWS, 422, "format"), ("data", "noending", ROWS, 422, "format"),
    ("none", "a.csv", ROWS, 404, "no_dataset"), ("data", "a.csv?app=none", ROWS, 422, "no_app"), ("nobodys", "a.csv", ROWS, 422, "no_app"),
    ("data", "a.csv?app=held", ROWS, 422, "no_app")])
def test_what_the_agreement_does_not_have(site, dataset, name, body, status, code):
    for data in (body, chunks(body)):
        a = site.put(name, data, dataset=dataset)
        assert (a.status, a.code) == (status, code), a
        left_nothing(site, name.partition("?")[0])


def test_exactly_as_large_as_agreed(site):
    body = (b"v\n" + b"1\n" * 499)
    assert len(body) == 1000
    assert site.put("fits.csv", body, dataset="small").status == 201
    assert site.put("fits2.csv", chunks(body[:-2] + b"2\n"), dataset="small").status == 201
    a = site.put("more.csv", chunks(body + b"1"), dataset="small")
    assert (a.status, a.code) == (413, "max_file_bytes"), a
    left_nothing(site, "more.csv")


def test_files_of_a_day(site):
    assert site.put("one.csv", b"v\n30\n", dataset="few").status == 201
    a = site.put("two.csv", b"v\n31\n", dataset="few")
    assert (a.status, a.code) == (429, "max_files_per_day") and 0 < int(a.headers["Retry-After"]) <= 86401, a
    left_nothing(site, "two.csv")
    used = {d["dataset"]: d["files_today"] for d in site.get("usage").doc["datasets"]}["few"]
    assert used == {"used": 1, "limit": 1, "left": 0}


def test_a_large_one_is_refused_before_it_is_sent(site):
    """The client waits for the word, and what it gets instead of that is the reason."""
    for dataset, length, expected in (("small", 1 << 40, 413), ("none", 10, 404), ("data", 1 << 40, None)):
        with site.wire() as w:
            w.send(site.head_of("expect.csv", length, dataset=dataset, Expect="100-continue"))
            if expected:
                a = w.answer()
                assert a.status == expected, a
                assert w.rest() == b"", "and the connection is closed, since no body will come"
            else:
                assert w.line() == b"HTTP/1.1 100 Continue\r\n"
    with site.wire() as w:
        w.send(site.head_of("expect.csv", 10, token="sbt_wrong", Expect="100-continue"))
        assert w.answer().status == 401
    left_nothing(site, "expect.csv")


# ---- names

@pytest.mark.parametrize("escaped, name", [
    ("%C3%A4%20b.csv", "ä b.csv"), ("a%3Ab.csv", "a:b.csv"), ("a:retry.csv", "a:retry.csv"), ("a%22b%27.csv", "a\"b'.csv"), ("a%5Cb.csv", "a\\b.csv"), ("%25.csv", "%.csv"),
    ("%252F.csv", "%2F.csv"), ("a%3Fb%23c.csv", "a?b#c.csv"), ("a+b.csv", "a+b.csv"), ("...csv", "...csv"), ("%F0%9F%90%98.csv", "🐘.csv"),
    ("x" * 251 + ".csv", "x" * 251 + ".csv"), ("%CC%88.csv", "\u0308.csv"), ("%D0%B0.csv", "\u0430.csv")])
def test_names_are_kept(site, escaped, name):
    body = f"v\n\"{name.encode().hex()}\"\n".encode()
    a = site.put(escaped, body)
    assert a.status == 201 and a.doc["file_name"] == name, a
    f = site.wait(a.doc["file_id"])
    assert (f["state"], f["file_name"]) == ("ingested", name), f


@pytest.mark.parametrize("escaped", ["..", ".", "%2E%2E", "%2e", "..%2F..%2Fetc%2Fpasswd", "a%2Fb.csv", "%2Fa.csv", "a%00.csv", "%00", "a%0A.csv", "a%0D%0AX-Y%3A%20z.csv",
                                     "a%7F.csv", "%1B%5B31m.csv", "a%C2%85b.csv", "%FF.csv", "%C3.csv", "%ED%A0%80.csv", "%C0%AF.csv", "a%.csv", "a%2.csv", "a%zz.csv",
                                     "x" * 252 + ".csv", "x" * 300, "%C3%A4" * 126 + ".csv", ""])
def test_names_that_are_none(site, escaped):
    before = site.home.files()
    a = site.put(escaped, ROWS)
    assert a.status in (400, 404, 422) and a.code in ("bad_request", "name", "not_found"), a
    site.wait_spool()
    assert len(site.home.files()) == len(before) and not list(site.home.path.glob("staging/acme/*/*.csv"))


def test_paths_that_lead_elsewhere(site):
    for path in ("/v1/tenants/acme/../beta/files", "/v1/tenants/acme%2F..%2Fbeta/files", "/v1/tenants/%2e%2e/files", "//v1/whoami", "/v1//whoami", "/v1/whoami/", "/v1/whoami;x",
                 "/v1/tenants/acme/datasets/data/files", "/v1/tenants/acme/datasets/data%00/files/a.csv", "/v1/whoami%20", "/V1/whoami", "*", "/v1/whoami?%00=1"):
        a = site.ask("GET", path)
        assert a.status in (400, 404, 405) and a.code, (path, a)


# ---- following

def test_the_list_of_files(site):
    token = site.token(site.user("lister", tenant="beta"))[0]
    ids = [site.put(f"list{i}.csv", b"v\n%d\n" % (100 + i), token, "beta").doc["file_id"] for i in range(7)]
    for i in ids:
        site.wait(i)
    all_ = site.get("files", token, "beta").doc
    assert [f["file_id"] for f in all_["files"]][:7] == ids[::-1]
    cli = {f["file_id"]: f for f in site.home.files(tenant_id="beta")}
    assert all(f == cli[f["file_id"]] for f in all_["files"])
    got, cursor, pages = [], "", 0
    while cursor is not None:
        page = site.get(f"files?limit=3{cursor and '&cursor=' + cursor}", token, "beta").doc
        assert len(page["files"]) <= 3
        got += [f["file_id"] for f in page["files"]]
        cursor, pages = page["next"], pages + 1
    assert got == [f["file_id"] for f in all_["files"]] and pages >= 3
    since = cli[ids[4]]["received_at"]
    assert [f["file_id"] for f in site.get(f"files?since={since}", token, "beta").doc["files"]] == ids[:3:-1]
    assert site.get("files?state=quarantined", token, "beta").doc["files"] == []
    assert site.get("files?dataset=other", token, "beta").doc["files"] == []


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=-1", "limit=x", "limit=", "limit=1&limit=2", "limit=99999999999999999999", "unknown=1", "state=none", "since=yesterday-ish",
                                   "cursor=nonsense", "limit=%00", "=1", "limit=1%zz", "&".join(f"a{i}=1" for i in range(50))])
def test_questions_that_make_no_sense(site, query):
    a = site.get("files?" + query)
    assert a.status == 400 and a.code, a


@pytest.mark.parametrize("target", ["/v1/whoami?x=1", f"{T}/runs?unknown=1", f"{T}/files/01kdv6y6q3p8sxkq2n4ft5w7za?x=1", "/healthz?x", f"{T}/bills/2026-01?month=1",
                                    f"{T}/datasets/data/files/a.csv?forced=1", f"{T}/datasets/data/files/a.csv?app=load&app=load"])
def test_fields_that_nobody_knows(site, target):
    a = site.ask("PUT" if "datasets" in target else "GET", target, body=ROWS if "datasets" in target else None)
    assert (a.status, a.code) == (400, "bad_request"), a


def test_rejects(site):
    a = site.put("rejects.csv", b"v\n1\nx\n3\n", dataset="strict")
    f = site.wait(a.doc["file_id"])
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 2, 1), f
    path = f"files/{f['file_id']}/rejects"
    (reject,) = site.get(path).doc["rejects"]
    (cli,) = site.home.rows("rejects", f["file_id"])
    assert {k: reject[k] for k in cli} == cli and reject["line"] == 3
    table = list(csv.DictReader(io.StringIO(site.get(path, Accept="text/csv").body.decode())))
    assert [(r["line"], r["message"]) for r in table] == [("3", reject["message"])]
    assert site.get(path + "?offset=1").doc["rejects"] == []
    quarantined = site.wait(site.put("too_many.csv", b"v\nx\ny\nz\n", dataset="strict").doc["file_id"])
    assert (quarantined["state"], quarantined["reason"]) == ("rejected", "max_rejects")


def test_runs_and_their_logs(site):
    f = site.wait(site.put("run.csv", b"v,w\n40,x\n").doc["file_id"])
    listed = site.get(f"runs?file_id={f['file_id']}").doc["runs"]
    cli = [r for r in site.home.rows("runs") if r["run_id"] == f["run_id"]]
    assert listed == cli and site.get(f"runs/{f['run_id']}").doc == cli[0]
    log = site.get(f"runs/{f['run_id']}/log")
    assert log.status == 200 and log.kind == "text/plain" and log.body.decode() == site.home.cli("logs", f["run_id"], "--raw").stdout
    assert len(site.get(f"runs/{f['run_id']}/log?tail=1").body) <= 1


def test_a_log_is_followed_by_asking_again(site):
    f = site.wait(site.put("follow.csv", b"v,w\n41,x\n").doc["file_id"])
    path = f"runs/{f['run_id']}/log"
    run = site.home.path / "runs" / f["run_id"]
    log = next((p for p in (run / "load" / "log", run / "log") if p.exists()), run / "log")  # the last of its parts

    def says(text):
        with log.open("a") as out:
            out.write(text)

    def asked(position):
        a = site.get(f"{path}?from={position}")
        assert (a.status, a.headers["X-Ended"]) == (200, "true"), a
        return a.body, a.headers["X-Cut"], a.headers["X-Position"]

    says("one\n")
    whole = site.get(path)
    assert whole.body.endswith(b"one\n") and (whole.headers["X-Cut"], whole.headers["X-Ended"]) == ("false", "true")
    at = whole.headers["X-Position"]
    assert asked(at) == (b"", "false", at)
    says("two\n")
    body, cut, after = asked(at)
    assert (body, cut) == (b"two\n", "false") and asked(after) == (b"", "false", after)
    assert asked("0-0") == (whole.body + b"two\n", "false", after)
    assert asked("1-0")[1] == "true"  # of no file that is there
    for wrong in ("1", "x-1", "1-", "-1", "1" * 60):
        a = site.get(f"{path}?from={wrong}")
        assert (a.status, a.code) == (400, "parameter"), (wrong, a)


def test_the_agreement_and_what_is_used_of_it(site):
    agreement = site.get("agreement").doc
    limits = {d["dataset"]: d["limits"] for d in agreement["datasets"]}
    assert limits["small"]["max_file_bytes"] == 1000 and limits["few"]["max_files_per_day"] == 1 and limits["data"]["max_file_bytes"] is None
    assert [s["stream"] for s in agreement["streams"]] == ["events"]
    assert site.home.path.name not in json.dumps(agreement) and "mongodb" not in json.dumps(agreement)
    usage = site.get("usage").doc
    before = usage["files_today"]["used"]
    site.wait(site.put("used.csv", b"v,w\n41,x\n").doc["file_id"])
    assert site.get("usage").doc["files_today"]["used"] == before + 1
    bill = site.get(f"bills/{usage['day'][:7]}").doc
    (stats,) = [s for s in site.home.rows("stats", "--tenant", "acme", "--since", bill["since"]) if s["tenant_id"] == "acme"]
    assert bill["files"] == stats["files"] > 0 and bill["rows"] == stats["rows"] and not bill["complete"]
    assert site.get("bills/1999-12").doc["files"] == 0
    for month in ("2026-13", "2026", "2026-1", "x", "2026-01-01"):
        assert site.get(f"bills/{month}").status in (400, 404), month


def test_apps_and_running_one(site):
    apps = {a["app"]: a for a in site.get("apps").doc["apps"]}
    assert set(apps) == {"load", "held", "slow"} and apps["held"]["trigger"] == "manual"
    f = site.put("waits.csv", b"v,w\n42,x\n", dataset="held").doc["file_id"]
    until(lambda: site.get(f"files/{f}").doc["state"] == "queued", site.home.path / "state", what="the held file")
    assert site.post("apps/held:run").doc == {"n": 1}
    assert site.wait(f)["state"] == "ingested"
    assert site.post("apps/held:run").doc == {"n": 0}
    a = site.post("apps/none:run")
    assert (a.status, a.code) == (422, "no_app")


def test_stopping_a_run(site):
    f = site.put("hang.csv", b"do,arg\nhang,\n", dataset="slow").doc["file_id"]
    run = until(lambda: site.get(f"files/{f}").doc["run_id"], site.home.path / "state", what="its run")
    until(lambda: site.get(f"runs/{run}").doc["state"] == "running", site.home.path / "state", what="the run")
    assert site.post(f"runs/{run}:stop").status == 200
    f = site.wait(f)
    assert (f["state"], f["reason"]) == ("quarantined", "stopped")
    assert site.post(f"runs/{run}:stop").status in (404, 409)


def test_retry_and_delete(site):
    bad = [site.wait(site.put(f"bad{i}.csv", b"v\n" + b"x\n" * (5 + i), dataset="strict").doc["file_id"])["file_id"] for i in range(2)]
    good = site.wait(site.put("good.csv", b"v,w\n43,x\n").doc["file_id"])["file_id"]
    assert site.post(f"files/{bad[0]}:retry").doc == {"n": 1}
    assert site.wait(bad[0])["state"] == "rejected"
    for order in (lambda: site.post(f"files/{good}:retry"), lambda: site.ask("DELETE", f"{T}/files/{good}")):
        a = order()
        assert (a.status, a.code) == (409, "state"), a
    assert site.post("files:retry").doc["n"] >= 2
    for f in bad:
        until(lambda: site.ask("DELETE", f"{T}/files/{f}").status == 200, what="it is tried again, and refused again")
        assert site.get(f"files/{f}").status == 200, "the ledger goes on knowing it"
        assert not list((site.home.path / "quarantine").glob(f"**/*{f}*/*.csv"))
    assert site.ask("DELETE", f"{T}/files/01kdv6y6q3p8sxkq2n4ft5w7za").status == 404


# ---- methods

def test_methods(site):
    for method, target, _ in {(m, t.partition("?")[0], None) for m, t, _ in each_route(site, "acme")}:
        if method == "GET":
            get, head = site.ask("GET", target), site.ask("HEAD", target, described=False)
            assert (get.status, head.body) == (head.status, b""), target
            if get.status == 200 and target not in ("/metrics", "/readyz", "/healthz"):
                assert head.headers["Content-Length"] == get.headers["Content-Length"] or "runs" in target or "usage" in target, target
    for target, allow in ((f"{T}/files/x", {"GET", "DELETE"}), ("/v1/whoami", {"GET"}), (f"{T}/files:retry", {"POST"}), (f"{T}/datasets/data/files/a.csv", {"PUT"})):
        for method in ("PATCH", "TRACE", "OPTIONS", "PROPFIND", "get"):
            if method in allow:
                continue
            a = site.ask(method, target, described=False)
            assert a.status == (204 if method == "OPTIONS" else 405), (method, target, a)
            assert allow <= set(a.headers["Allow"].split(", ")), a.headers
    assert site.ask("DELETE", "/v1/nothing", described=False).status == 404


def test_what_is_open(site):
    assert site.ask("GET", "/healthz", None).doc == {"healthy": True}
    ready = until(lambda: (a := site.ask("GET", "/readyz", None)).status == 200 and a, what="readiness")
    assert ready.doc["ready"] and {p["program"] for p in ready.doc["programs"]} >= {"batchmgr", "broker"}
    assert site.ask("GET", "/v1/openapi.yaml", None).body == (ROOT / "docs/openapi.yaml").read_bytes()


def test_headers_that_each_answer_has(site):
    ids = set()
    for method, target in (("GET", "/healthz"), ("GET", "/v1/whoami"), ("GET", "/nothing"), ("PUT", "/healthz"), ("GET", f"{T}/files?x=1")):
        a = site.ask(method, target, described=False)
        assert a.headers["Cache-Control"] == "no-store" and a.headers["X-Content-Type-Options"] == "nosniff", a.headers
        assert "Server" not in a.headers or "microhttpd" not in a.headers["Server"].lower()
        ids.add(a.headers["X-Request-Id"])
    assert len(ids) == 5


def test_bodies_that_nobody_asked_for(site):
    assert site.get("files", body=b"x" * 100).status in (200, 413)
    a = site.get("files", body=b"x" * (3 << 20))
    assert a.status in (200, 413), a
    assert site.post("files:retry", body=b"{}").status == 200
    a = site.post("files:retry", body=b"x" * ((1 << 20) + 1))
    assert (a.status, a.code) == (413, "too_large"), a
    a = site.post("files:retry", body=chunks(b"x" * ((1 << 20) + 1), 65536))
    assert (a.status, a.code) == (413, "too_large"), a


# ---- the Python client

def test_the_python_client(site, tmp_path):
    with simbdp.Client(site.url, site.of()) as c:
        assert c.tenant == "acme"
        source = tmp_path / "by client.csv"
        source.write_bytes(b"v\n1\n2\nbad\n")
        taken = c.upload(source, "strict")
        f = c.wait(taken["file_id"], timeout=60)
        assert (f["state"], f["rows_loaded"], f["file_name"]) == ("ingested", 2, "by client.csv") and f["state"] in FINAL
        assert [r["line"] for r in c.rejects(f["file_id"])] == [4]
        assert c.run(f["run_id"])["outcome"] == "ok" and isinstance(c.log(f["run_id"]), str)
        assert f["file_id"] in {x["file_id"] for x in c.files(dataset="strict", since=f["received_at"], limit=1)}
        assert f["run_id"] in {x["run_id"] for x in c.runs(file_id=f["file_id"])}
        assert c.usage()["tenant_id"] == c.agreement()["tenant_id"] == "acme" and c.bill(f["received_at"][:7])["files"] > 0
        assert {a["app"] for a in c.apps()} >= {"load"} and c.run_app("held") == 0
        again = [c.upload(io.BytesIO(b"v\n9\n"), "data", "key.csv", idempotency_key="of the client") for _ in range(2)]
        assert again[0]["file_id"] == again[1]["file_id"]
        large = b"v\n" + b"".join(b"%d\n" % i for i in range(300000))
        assert c.wait(c.upload(io.BytesIO(large), "data", "asked first.csv")["file_id"])["rows_loaded"] == 300000
        for code, call in (("max_file_bytes", lambda: c.upload(io.BytesIO(large), "small", "a.csv")), ("format", lambda: c.upload(io.BytesIO(b"x"), "data", "a.xls")),
                           ("no_dataset", lambda: c.upload(io.BytesIO(b"x"), "none", "a.csv")), ("not_found", lambda: c.file("01kdv6y6q3p8sxkq2n4ft5w7za")),
                           ("state", lambda: c.retry(f["file_id"]))):
            with pytest.raises(simbdp.ApiError) as e:
                call()
            assert e.value.code == code and e.value.request_id, e.value
    with pytest.raises(simbdp.ApiError) as e:
        simbdp.Client(site.url, "sbt_wrong", tenant="acme").usage()
    assert (e.value.status, e.value.code) == (401, "unauthorized")
