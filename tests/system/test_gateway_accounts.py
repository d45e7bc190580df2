"""Who may do what over HTTP, what is refused to whom, and what of it is in the audit log."""
import base64
import fcntl
import hashlib
import json
import re

import pytest

from harness import json_lines, until
from web import PASSWORD, Site, each_route, settings

pytestmark = pytest.mark.anyone
ROWS = b"v,w\n1,a\n2,b\n"
T = "/v1/tenants/acme"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


def test_who_one_is(site):
    a = site.ask("GET", "/v1/whoami")
    assert a.status == 200 and (a.doc["account"], a.doc["role"], a.doc["tenant_id"]) == ("tenant-writer.acme", "tenant-writer", "acme")
    assert a.doc["verbs"] == ["read", "upload", "retry", "delete", "publish", "run"] and re.fullmatch("[0-9a-z]{12}", a.doc["token_id"])
    a = site.ask("GET", "/v1/whoami", ("tenant-writer.acme", PASSWORD))
    assert a.status == 200 and a.doc["token_id"] is None
    a = site.ask("GET", "/v1/whoami", site.of("operator", None))
    assert (a.doc["role"], a.doc["tenant_id"]) == ("operator", None)


def test_nobody_sees_anything(site):
    for token in (None, "sbt_wrong", "", "sbt_aaaaaaaaaaaa_" + "A" * 43, site.of() + "x", site.of()[:-1]):
        for method, target, body in each_route(site, "acme"):
            path = site.patterns[[bool(p.match(target)) for p, _ in site.patterns].index(True)][1]
            open_ = site.document["paths"][path].get(method.lower(), {}).get("security") == []
            a = site.ask(method, target, token or None, body, **({} if token is None else site.login(token)), **TUS)
            if not open_:
                assert a.status in (401, 429), (method, target, a)  # an address that failed often is slowed
                assert a.status == 429 or {h.split()[0] for h in a.headers.get_all("WWW-Authenticate")} == {"Basic", "Bearer"}


TUS = {"Tus_Resumable": "1.0.0", "Upload_Length": "1", "Upload_Offset": "0", "Upload_Metadata": "filename YS5jc3Y=,dataset ZGF0YQ==",
       "Content_Type": "application/offset+octet-stream"}


def comparable(site, method, target, body, token):
    """An answer's bytes, but for what has to be another one."""
    with site.wire() as w:
        fields = {"Host": site.host, **site.login(token), "Connection": "close", **{k.replace("_", "-"): v for k, v in TUS.items()}, **({"Content-Length": len(body)} if body else {})}
        w.send(f"{method} {target} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n")
        if body:
            w.try_send(body)
        text = w.rest()
    (request,) = re.findall(rb"^X-Request-Id: (\w{26})\r$", text, re.M)
    return re.sub(rb"^Date: .*\r$", b"", text.replace(request, b"ID"), flags=re.M)


@pytest.mark.parametrize("role", ["tenant-reader", "tenant-deployer"])
def test_other_tenants_are_as_if_they_were_not_there(site, role):
    """Byte for byte, but for the request's id."""
    there = site.wait(site.put("theirs.csv", b"v\n50\n", site.of(tenant="beta"), "beta").doc["file_id"])["file_id"]
    nowhere = "01kdv6y6q3p8sxkq2n4ft5w7za"
    for (method, theirs, body), (_, unknown, _) in zip(each_route(site, "beta", there), each_route(site, "nobody", nowhere)):
        if "/tenants/" in theirs and method != "OPTIONS":
            a, b = comparable(site, method, theirs, body, site.of(role)), comparable(site, method, unknown, body, site.of(role))
            assert a == b and a.startswith(b"HTTP/1.1 404 "), (method, theirs, a, b)
    for method, path in (("GET", "files/%s"), ("GET", "files/%s/rejects"), ("DELETE", "files/%s"), ("POST", "files/%s:retry"), ("GET", "runs/%s"), ("POST", "runs/%s:stop")):
        a, b = (comparable(site, method, f"{T}/{path % i}", None, site.of("tenant-deployer")) for i in (there, nowhere))
        assert a.replace(there.encode(), b"X") == b.replace(nowhere.encode(), b"X") and a.startswith(b"HTTP/1.1 404 "), (path, a, b)


def test_roles(site):
    reader, writer = site.of("tenant-reader"), site.of("tenant-writer")
    for method, target, body in each_route(site, "acme"):
        a = site.ask(method, target, reader, body, **TUS)
        looks = method == "GET" or method == "OPTIONS"
        if target in ("/metrics", "/v1/platform", "/v1/platform/events", "/v1/audit", "/v1/audit/verification"):
            assert a.status in (403, 404), a
        elif target == "/v1/session":
            assert (method, a.status) in (("POST", 400), ("DELETE", 409)), a
        elif not looks:
            assert a.status == 403 and (method == "HEAD" or a.code == "forbidden"), (method, target, a)
        else:
            assert a.status in (200, 204, 404), (method, target, a)
    assert site.ask("GET", "/metrics", writer).status in (403, 404)
    metrics = site.ask("GET", "/metrics", site.of("operator", None))
    assert metrics.status == 200 and b"mysimbdp_http_requests_total" in metrics.body
    assert site.get("files", site.of("operator", None), "beta").status == 200
    assert site.get("files", site.of("operator", None), "nobody").status == 404


def test_a_role_that_is_changed_holds_at_once(site):
    token = site.token(site.user("changing", "tenant-writer"))[0]
    assert site.post("files:retry", token).status == 200
    site.home.cli("user", "role", "changing", "--role", "tenant-reader")
    assert site.post("files:retry", token).code == "forbidden" and site.get("files", token).status == 200
    site.home.cli("user", "role", "changing", "--role", "tenant-deployer")
    assert site.post("files:retry", token).status == 200


def test_scopes_of_tokens(site):
    user = site.user("scoped")
    token = {scope: site.token(user, *scope.split())[0] for scope in ("--verbs read", "--verbs upload", "--datasets small", "--verbs upload --datasets small")}
    assert site.get("files", token["--verbs read"]).status == 200
    a = site.put("scope.csv", ROWS, token["--verbs read"])
    assert (a.status, a.code) == (403, "forbidden"), a
    assert site.get("files", token["--verbs upload"]).status in (403, 404)
    assert site.put("scope.csv", b"v\n60\n", token["--verbs upload"]).status == 201
    small = token["--datasets small"]
    a = site.put("scope.csv", b"v\n61\n", small)
    assert (a.status, a.code) == (403, "forbidden"), a
    f = site.put("scope.csv", b"v\n62\n", small, dataset="small")
    assert f.status == 201
    assert {x["dataset"] for x in site.get("files", small).doc["files"]} == {"small"}
    other = site.wait(site.put("other.csv", b"v\n63\n").doc["file_id"])
    assert site.get(f"files/{other['file_id']}", small).status == 404
    assert site.get(f"runs/{other['run_id']}", small).status == 404
    assert site.get(f"files/{f.doc['file_id']}", small).status == 200


def test_a_token_that_is_revoked_is_refused_at_once(site):
    user = site.user("leaver")
    token, ident = site.token(user)
    assert site.get("files", token).status == 200
    with site.wire() as w:
        ask = f"GET {T}/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n"
        w.send(ask)
        assert w.answer().status == 200
        site.home.cli("token", "revoke", ident)
        w.send(ask)
        assert w.answer().status == 401, "also on a connection that is open"
    second, _ = site.token(user)
    assert site.get("files", second).status == 200
    site.home.cli("user", "disable", user)
    assert site.get("files", second).status == 401 and site.get("files", (user, PASSWORD)).status == 401
    site.home.cli("user", "enable", user)
    assert site.get("files", second).status == 200
    site.home.cli("user", "remove", user)
    assert site.get("files", second).status == 401


def test_a_token_that_is_revoked_during_an_upload(site):
    token, ident = site.token(site.user("quitter"))
    with site.wire() as w:
        w.send(site.head_of("quit.csv", len(ROWS), token))
        w.send(ROWS[:5])
        site.wait_spool(1)
        site.home.cli("token", "revoke", ident)
        w.send(ROWS[5:])
        a = w.answer()
    assert a.status in (201, 401), a
    assert bool(site.rows("quit.csv")) == (a.status == 201)


def test_wrong_passwords_are_slowed_down(site):
    """Who guesses; not the owner elsewhere, and nobody who has a token."""
    user, guesser = site.user("guessed"), "127.0.0.9"
    answers = [site.get("files", (user, f"wrong password {i}"), source=guesser) for i in range(8)]
    slowed = [a for a in answers if a.status == 429]
    assert [a.status for a in answers[:5]] == [401] * 5 and slowed, answers
    assert {a.code for a in slowed} == {"slow_down"} and all(0 < int(a.headers["Retry-After"]) <= 300 for a in slowed)
    assert site.get("files", (user, PASSWORD), source="127.0.0.10").status == 200, "a stranger locks nobody out"
    assert site.get("files", site.token(user)[0], source=guesser).status == 200
    nobody = [site.get("files", (f"nobody{i}", "wrong"), source="127.0.0.11").body for i in range(2)]
    somebody = [site.get("files", (user, "wrong"), source="127.0.0.12").body]
    assert len({re.sub(rb'"request_id":"\w+"', b"", b) for b in nobody + somebody}) == 1, "nobody learns who there is"


@pytest.mark.parametrize("login", ["Bearer", "Bearer ", "Basic", "Basic !!!", "Basic YQ==", "Basic " + base64.b64encode(b"a\0b:c").decode(), "Digest x", "bearer",
                                   "Bearer " + "x" * 5000, "Basic " + "QUFB" * 2000, "Negotiate", "Bearer \xff\xfe", "Basic " + base64.b64encode(b"\xff\xfe:x").decode()])
def test_logins_that_are_none(site, login):
    a = site.ask("GET", "/v1/whoami", None, Authorization=login.encode("latin-1"))
    assert (a.status, a.code) in ((401, "unauthorized"), (429, "slow_down")), a


def test_schemes_are_known_in_any_case(site):
    assert site.ask("GET", "/v1/whoami", None, Authorization=f"bEARER  {site.of()}").status == 200


def test_a_suspended_tenant(site):
    token = site.of(tenant="beta")
    site.home.cli("tenant", "suspend", "beta")
    try:
        a = site.put("suspended.csv", ROWS, token, "beta")
        assert (a.status, a.code) == (403, "suspended"), a
        site.wait_spool()
        assert site.get("agreement", token, "beta").doc["suspended"]
    finally:
        site.home.cli("tenant", "resume", "beta")
    assert site.put("resumed.csv", b"v\n70\n", token, "beta").status == 201


def test_what_was_changed_is_in_the_audit_log(site):
    user = site.user("audited")
    token, _ = site.token(user)
    f = site.put("audited.csv", b"v,w\n71,x\n", token).doc["file_id"]
    site.put("audited.xls", ROWS, token)
    site.post("files:retry", token)
    records = until(lambda: len(r := [r for r in site.home.rows("audit", "--tenant", "acme") if r["who"] == user and r["what"] not in ("user_add", "token_add")]) >= 2 and r,
                    site.home.path / "logs", what="the records")
    by = {r["what"]: r for r in records}
    assert (by["upload"]["subject"], by["upload"]["outcome"], by["upload"]["from"]) == (f, "ok", "127.0.0.1") and by["retry"]["outcome"] == "ok"
    site.home.cli("audit", "--verify")


def fill_audit_log(home):
    """Records of others, so many that the next one is put in a new file."""
    log = home.path / "logs/audit.jsonl"
    with open(log, "a+b") as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        f.seek(0)
        last = json.loads(f.read().splitlines()[-1])
        seq, prev = last["seq"], last["hash"]
        while f.tell() < 64 << 20:
            seq += 1
            text = json.dumps({"seq": seq, "ts": last["ts"], "who": "x" * 8000, "prev": prev}, separators=(",", ":"))[:-1]
            prev = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
            f.write(f'{text},"hash":"{prev}"}}\n'.encode())
        (home.path / "state/audit.head").write_text(f"{seq:020} {prev} {f.tell():020}\n")
    return seq


def test_an_audit_log_that_is_long_is_put_aside_by_who_may_do_little_else(site):
    token = site.of()
    seq = fill_audit_log(site.home)
    f = site.put("audited-2.csv", b"v,w\n72,x\n", token).doc["file_id"]
    until(lambda: (site.home.path / f"logs/audit.{seq:020}.jsonl").exists() and f in (site.home.path / "logs/audit.jsonl").read_text(), site.home.path / "logs", what="a new log")
    assert (site.home.path / "logs/audit.jsonl").stat().st_size < 1 << 20
    assert site.home.rows("audit", "--verify")[0]["first"] == 1
    assert [r["what"] for r in site.home.rows("audit", "--limit", "2")] == ["audit_begin", "upload"]


# -- sessions of browsers

def session(site, user, password=PASSWORD, **headers):
    """The cookie, and its attributes."""
    a = site.ask("POST", "/v1/session", None, json.dumps({"user": user, "password": password}), Content_Type="application/json", **headers)
    assert a.status == 200, a
    cookie, *attributes = a.headers["Set-Cookie"].split("; ")
    return cookie, attributes, a


def by(site, method, target, cookie, body=None, **headers):
    return site.ask(method, target, None, body, Cookie=cookie, **headers)


def test_a_session_is_a_token_in_a_cookie(site):
    user = site.user("sitting", "tenant-writer")
    cookie, attributes, a = session(site, user)
    assert attributes == ["Path=/", "HttpOnly", "SameSite=Strict", "Max-Age=43200"] and a.doc["account"] == user
    assert by(site, "GET", "/v1/whoami", f"theme=dark; {cookie}; x=y").doc["token_id"] == a.doc["token_id"] == cookie.split("_")[2]
    (listed,) = [t for t in site.home.rows("token", "list", user)]
    assert (listed["token_id"], listed["state"], listed["note"]) == (a.doc["token_id"], "active", "a browser's session")
    assert by(site, "GET", "/v1/whoami", cookie, **site.login(site.of("tenant-reader"))).doc["account"] != user, "Authorization goes first"
    assert by(site, "DELETE", "/v1/session", cookie, Origin=site.url).status == 204
    gone = by(site, "GET", "/v1/whoami", cookie)
    assert gone.status == 401 and gone.headers.get_all("WWW-Authenticate") == ['Bearer realm="mysimbdp"'], "a browser would ask by itself"
    assert site.ask("GET", "/v1/whoami", None, X_Requested_With="page").headers.get_all("WWW-Authenticate") == ['Bearer realm="mysimbdp"']
    acts = [(line["what"], line["outcome"]) for line in json_lines(site.home.path / "logs/audit.jsonl") if line.get("who") == user]
    assert acts == [("session_begin", "ok"), ("session_end", "ok")]


def test_what_a_session_changes_comes_from_a_page_of_ours(site):
    cookie, _, _ = session(site, site.user("clicking", "tenant-writer"))
    target = "/v1/tenants/acme/files:retry"
    for origin in ({}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}, {"Origin": f"http://{site.host}:1"}, {"Origin": site.url + ".example"}):
        a = by(site, "POST", target, cookie, **origin)
        assert (a.status, a.code) == (403, "forbidden"), (origin, a)
    assert by(site, "POST", target, cookie, Origin=site.url).status == 200
    a = site.ask("POST", "/v1/session", None, json.dumps({"user": "clicking", "password": PASSWORD}), Origin="https://elsewhere.example")
    assert a.status == 403 and not a.headers["Set-Cookie"]


def test_sessions_end_with_the_user_and_are_bounded(site):
    user = site.user("many", "tenant-reader")
    cookies = [session(site, user)[0] for _ in range(18)]
    assert [by(site, "GET", "/v1/whoami", c).status for c in cookies] == [401, 401] + [200] * 16
    site.home.cli("user", "disable", user)
    assert {by(site, "GET", "/v1/whoami", c).status for c in cookies} == {401}


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"user": "ann"}', b'{"user": 1, "password": []}', b"\xff\xfe", b'{"user": "ann", "password": "x"' + b" " * 1000])
def test_a_login_that_is_none(site, body):
    a = site.ask("POST", "/v1/session", None, body)
    assert (a.status, a.code) == (400, "bad_request") and not a.headers["Set-Cookie"]


def test_a_session_is_not_begun_by_guessing(site):
    for password in ("wrong", "", "x" * 2000):
        a = site.ask("POST", "/v1/session", None, json.dumps({"user": "tenant-writer.acme", "password": password}), source="127.0.0.77")
        assert a.status == 401 and not a.headers["Set-Cookie"], a
    for cookie in ("simbdp_session=", "simbdp_session=x", "simbdp_session=" + "x" * 5000, "simbdp_session=sbt_aaaaaaaaaaaa_" + "A" * 43):
        assert by(site, "GET", "/v1/whoami", cookie, source="127.0.0.77").status in (401, 429)


def test_the_page_is_served_with_a_strict_policy(site):
    a = site.ask("GET", "/", None)
    assert a.kind == "text/html" and "default-src 'none'" in a.headers["Content-Security-Policy"] and "unsafe" not in a.headers["Content-Security-Policy"]
    named = re.findall(r'(?:src|href)="(/[^"]+)"', a.body.decode())
    assert len(named) >= 4 and b"style=" not in a.body and b"onclick" not in a.body
    total = len(a.body)
    for path in named:
        f = site.ask("GET", path, None)
        assert f.status == 200 and f.headers["X-Content-Type-Options"] == "nosniff", path
        total += len(f.body)
        again = site.ask("GET", path, None, If_None_Match=f.headers["ETag"])
        assert (again.status, again.body) == (304, b"")
    assert total < 250_000
    assert site.ask("GET", "/page/..%2f..%2fkeys", None).status in (400, 404) and site.ask("GET", "/page/nothing.js", None).status == 404


def test_the_provider_sees_the_platform(site):
    doc = site.ask("GET", "/v1/platform", site.of("operator", None)).doc
    assert doc["batchmgr"]["database"] == "up" and {t["tenant_id"] for t in doc["batchmgr"]["tenants"]} >= {"acme", "beta"} and "rows" in doc["monitor"]
    for role in ("tenant-reader", "tenant-deployer"):
        assert site.ask("GET", "/v1/platform", site.of(role)).status in (403, 404)
