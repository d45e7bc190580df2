"""Cells: the page about them (docs/scale-out.md), and the map that says which tenant is in which; and what stands in front of them, before two homes."""
import base64
import concurrent.futures
import hashlib
import html
import json
import os
import re
import shlex
import ssl
import stat
import subprocess
import sys
import time

import pytest

from cells import FakeCell, Fleet, Front
from docs_blocks import blocks_below
from harness import BUILD, RELEASE, ROOT, until
from web import PASSWORD, Site, Wire, settings

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from bench_fleet import PAGE, TABLE, tables  # noqa: E402

pytestmark = pytest.mark.anyone


def test_the_tables_of_the_page_are_what_the_simulator_says():
    """Those that take a second; `scripts/bench fleet --write` makes all of them."""
    there = {m[1]: m[0] for m in TABLE.finditer(PAGE.read_text())}
    quick = ["sizes", "shards", "streams"]
    assert set(there) == {*quick, "fill", "flood", "poison", "failure", "moves"}
    assert {name: there[name] for name in quick} == tables(BUILD / "tests/bench/fleetsim", *quick)
    assert not [name for name, table in there.items() if "**seed" in table]


# ---- the map ----

PIN = ":".join(["AB"] * 32)


@pytest.fixture
def fleet(tmp_path):
    f = Fleet(tmp_path / "fleet")
    f.cli("init", f.path)
    return f


def test_cells_and_tenants_are_put_into_a_signed_map(fleet):
    fleet.cli("add", "a", "https://a.example:8443", "--pin", PIN)
    fleet.cli("add", "b", "https://b.example")
    fleet.cli("assign", "acme", "a")
    fleet.cli("assign", "--from", "-", stdin="beta b\ngamma b moving\n")
    assert "nothing was signed" in fleet.cli("show", ok=False)
    assert "serial 1" in fleet.cli("sign")
    assert fleet.rows("show") == [{"cell": "a", "url": "https://a.example:8443", "tenants": 1, "moving": 0, "pin": "ab" * 32},
                                  {"cell": "b", "url": "https://b.example", "tenants": 2, "moving": 1, "pin": None}]
    assert fleet.rows("show", "gamma") == [{"tenant_id": "gamma", "cell": "b", "moving": True, "url": "https://b.example"}]
    assert "does not name delta" in fleet.cli("show", "delta", ok=False)
    fleet.cli("assign", "gamma", "a")
    fleet.cli("forget", "beta")
    assert "the draft says something else" in fleet.cli("show") and fleet.rows("show", "gamma")[0]["cell"] == "b"
    fleet.cli("remove", "b")
    fleet.cli("change", "a", "https://other.example")
    assert "serial 2" in fleet.cli("sign")
    assert fleet.rows("show") == [{"cell": "a", "url": "https://other.example", "tenants": 2, "moving": 0, "pin": None}]
    assert "serial 2" in fleet.cli("verify", fleet.path / "map", "--key", fleet.path / "map.pub")


def test_the_map_is_signed_as_others_sign(fleet):
    """Ed25519, by another implementation; and one that it signed is taken."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    fleet.cli("add", "a", "https://a.example")
    fleet.cli("sign")
    text, _, signature = (fleet.path / "map").read_bytes().rpartition(b"signature ")
    public = base64.b64decode((fleet.path / "map.pub").read_text().split()[2])
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature), text)
    secret = base64.b64decode((fleet.path / "map.key").read_text().split()[2])
    own = text.replace(b"serial 1", b"serial 9")
    (fleet.path / "map").write_bytes(own + b"signature " + base64.b64encode(Ed25519PrivateKey.from_private_bytes(secret[:32]).sign(own)) + b"\n")
    assert "serial 9" in fleet.cli("verify", fleet.path / "map", "--key", fleet.path / "map.pub")
    assert "serial 10" in fleet.cli("sign")


def test_a_map_that_was_changed_cut_or_has_expired_is_refused_in_words(fleet, tmp_path):
    fleet.cli("add", "a", "https://a.example")
    fleet.cli("assign", "acme", "a")
    fleet.cli("sign")
    whole, key = (fleet.path / "map").read_bytes(), fleet.path / "map.pub"
    for text, why in [(whole.replace(b"acme", b"acmf"), "was changed since"), (whole[:-20], "was cut"), (whole.rpartition(b"signature")[0], "is not signed"),
                      (b"", "it is empty"), (b"\0" * 100, "no map")]:
        (tmp_path / "other").write_bytes(text)
        assert why in fleet.cli("verify", tmp_path / "other", "--key", key, ok=False)
    other = Fleet(tmp_path / "second")
    other.cli("init", other.path)
    assert "not signed by this key" in fleet.cli("verify", fleet.path / "map", "--key", other.path / "map.pub", ok=False)
    (fleet.path / "map").write_bytes(whole[:-20])
    assert "was cut" in fleet.cli("sign", ok=False), "its serial cannot be known, so no successor is guessed"


def test_the_key_is_for_its_owner_alone(fleet):
    key = fleet.path / "map.key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    assert "there are keys already" in fleet.cli("init", fleet.path, ok=False) and key.read_bytes() == before
    key.chmod(0o640)
    assert "others may read" in fleet.cli("sign", ok=False)
    key.chmod(0o600)
    fleet.cli("sign")


def test_operators_at_once_lose_nothing(fleet):
    fleet.cli("add", "a", "https://a.example")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: fleet.cli(*(["sign"] if i % 8 == 7 else ["assign", f"t{i}", "a"])), range(48)))
    assert f"serial {48 // 8 + 1}" in fleet.cli("sign")
    assert fleet.rows("show")[0]["tenants"] == 48 - 48 // 8


def test_what_cells_refuses(fleet):
    assert "did you mean 'sign'" in fleet.cli("sgn", ok=False)
    assert "no name of a cell" in fleet.cli("add", "A", "https://h", ok=False)
    assert "no https://" in fleet.cli("add", "a", "http://h", ok=False)
    assert "no cell a" in fleet.cli("assign", "t", "a", ok=False)
    fleet.cli("add", "a", "https://h")
    before = (fleet.path / "draft").read_bytes()
    assert "-:2: a line is TENANT CELL" in fleet.cli("assign", "--from", "-", stdin="t a\nu\n", ok=False)
    assert (fleet.path / "draft").read_bytes() == before, "all of the file, or nothing"
    assert "--days is 1 to" in fleet.cli("sign", "--days", "0", ok=False)


# ---- the front, before homes ----

class TwoCells:
    """acme in the first home, beta in the second, and a front of both."""

    def __init__(self, mongo, path):
        self.sites = [Site(mongo, settings(fronts='("127.0.0.1")')), Site(mongo, http='http = { listen = "127.0.0.1"; requests_per_s = -1; };')]
        self.fleet = Fleet(path / "fleet")
        self.fleet.cli("init", self.fleet.path)
        certificate = ssl.PEM_cert_to_DER_cert((self.sites[1].home.path / "keys/gateway.crt").read_text())
        self.pin = hashlib.sha256(certificate).hexdigest()
        self.fleet.sign(("add", "one", self.sites[0].url), ("add", "two", self.sites[1].url, "--pin", self.pin), ("assign", "acme", "one"),
                        ("assign", "beta", "two"))
        self.front = Front(self.fleet, path / "front", "--domain", "data.example").start()
        self.tokens = {"acme": self.sites[0].of(), "beta": self.sites[1].of(tenant="beta")}

    def ask(self, tenant, method, target, body=None, token=None, **headers):
        return self.front.ask(method, target, body, Host=headers.pop("Host", f"{tenant}.data.example"),
                              **({"Authorization": f"Bearer {token or self.tokens[tenant]}"} | headers))

    def close(self):
        try:
            self.front.stop()
        finally:
            self.front.kill()
            for site in self.sites:
                site.cleanup()


@pytest.fixture(scope="module")
def two(mongo, tmp_path_factory):
    t = TwoCells(mongo, tmp_path_factory.mktemp("two"))
    yield t
    t.close()


def test_each_tenant_reaches_his_own_cell(two):
    for tenant, site in zip(["acme", "beta"], two.sites):
        made = two.ask(tenant, "PUT", f"/v1/tenants/{tenant}/datasets/data/files/a.csv", b"v\n1\n2\n")
        assert made.status == 201, made
        assert [f["tenant_id"] for f in site.home.rows("files")] == [tenant]
        assert two.ask(tenant, "GET", "/v1/whoami").doc["tenant_id"] == tenant
        assert two.ask(tenant, "GET", f"/v1/tenants/{tenant}/files/{made.doc['file_id']}").status == 200
        assert two.ask(tenant, "GET", "/").status == 200
    assert two.ask("acme", "GET", "/v1/tenants/acme/files", Host="data.example").status == 200, "the path alone says it, too"
    assert two.ask("acme", "GET", "/v1/whoami", Host="data.example", Simbdp_Tenant="acme").status == 200


def test_tokens_of_one_tenant_open_nothing_of_another(two):
    assert two.ask("beta", "GET", "/v1/tenants/beta/files", token=two.tokens["acme"]).status == 401
    for wrong in [("acme", "/v1/tenants/beta/files"), ("beta", "/v1/tenants/acme/files")]:
        assert two.ask(wrong[0], "GET", wrong[1]).status == 421, wrong
    known, unknown = (two.front.ask("GET", f"/v1/tenants/{t}/files", Host="data.example", Authorization="Bearer x") for t in ("acme", "nobody"))
    assert known.status == unknown.status == 401 and known.doc["detail"] == unknown.doc["detail"], "who is there is not told to strangers"


def test_what_is_the_providers_is_not_reached_through_the_front(two):
    operator = two.sites[0].of("operator", None)
    assert two.sites[0].ask("GET", "/v1/platform", operator).status == 200
    for target in ["/metrics", "/v1/platform", "/v1/platform/events", "/v1/audit", "/v1/audit/verification"]:
        assert two.ask("acme", "GET", target, token=operator).status == 404, target
    assert two.ask("acme", "POST", "/v1/tenants/acme:suspend", b"", token=operator).status == 404


def test_a_browser_stays_logged_in(two):
    two.sites[0].user("page.user")
    made = two.front.ask("POST", "/v1/session", f'{{"user": "page.user", "password": "{PASSWORD}"}}', Host="acme.data.example", Origin="http://acme.data.example",
                         Content_Type="application/json")
    assert made.status == 200, made
    cookie = made.headers["Set-Cookie"].partition(";")[0]
    assert two.front.ask("GET", "/v1/whoami", Host="acme.data.example", Cookie=cookie).doc["account"] == "page.user"
    assert two.front.ask("GET", "/v1/whoami", Host="beta.data.example", Cookie=cookie).status == 401
    gone = two.front.ask("DELETE", "/v1/session", Host="acme.data.example", Cookie=cookie, Origin="http://acme.data.example")
    assert gone.status == 204
    assert two.front.ask("DELETE", "/v1/session", Host="acme.data.example", Cookie=cookie, Origin="http://beta.data.example").status in (401, 403)


def test_large_uploads_messages_and_resumable_ones_pass(two):
    rows = b"v\n" + b"".join(b"%d\n" % i for i in range(400_000))
    made = two.ask("beta", "PUT", "/v1/tenants/beta/datasets/data/files/large.csv", rows)
    assert made.status == 201 and made.doc["size_bytes"] == len(rows), made
    lines = b"".join(b'{"n": %d}\n' % i for i in range(20_000))
    sent = two.ask("acme", "POST", "/v1/tenants/acme/streams/events/messages", iter([lines[:100_000], lines[100_000:]]), Content_Type="application/x-ndjson")
    assert sent.status == 200 and sent.body.count(b"\n") >= 1, sent
    offer = {"Tus-Resumable": "1.0.0", "Upload-Length": str(len(rows)), "Upload-Metadata": "filename " + base64.b64encode(b"r.csv").decode() + ",dataset " + base64.b64encode(b"data").decode()}
    begun = two.ask("acme", "POST", "/v1/tenants/acme/uploads", b"", **offer)
    assert begun.status == 201, begun
    at = begun.headers["Location"]
    for offset in (0, 1_000_000):
        part = two.ask("acme", "PATCH", at, rows[offset:1_000_000 if offset == 0 else None], **{"Tus-Resumable": "1.0.0", "Upload-Offset": str(offset),
                                                                                               "Content-Type": "application/offset+octet-stream"})
        assert part.status == 204, part
    assert part.headers["Upload-Offset"] == str(len(rows))


def test_events_come_as_they_happen(two):
    with two.front.wire() as w:
        w.send(f"GET /v1/tenants/beta/events HTTP/1.1\r\nHost: beta.data.example\r\nAuthorization: Bearer {two.tokens['beta']}\r\n\r\n")
        assert w.answer().kind == "text/event-stream"
        two.ask("beta", "PUT", "/v1/tenants/beta/datasets/data/files/event.csv", b"v\n7\n")
        while b"event.csv" not in (line := w.line()):
            assert line


def test_a_connection_is_kept_and_serves_several_tenants(two):
    with two.front.wire() as w:
        for tenant in ["acme", "beta", "beta", "acme"]:
            w.send(f"GET /v1/whoami HTTP/1.1\r\nHost: {tenant}.data.example\r\nAuthorization: Bearer {two.tokens[tenant]}\r\n\r\n")
            assert w.answer().doc["tenant_id"] == tenant


def test_whose_a_request_is_the_front_says(two):
    """By http.fronts; nobody else is believed, and a front believes no client."""
    first, second = two.sites
    user, other = first.user("by.front"), second.user("by.front", tenant="beta")

    def seen(site, user, name, wire, *fields):
        token, id_ = site.token(user)
        with wire as w:
            w.send(f"GET /v1/whoami HTTP/1.1\r\nHost: {name}.data.example\r\nAuthorization: Bearer {token}\r\n" + "".join(f"{f}\r\n" for f in fields) + "\r\n")
            assert w.answer().status == 200
        return next(t["used_from"] for t in site.home.rows("token", "list", user) if t["token_id"] == id_)
    assert seen(first, user, "acme", two.front.wire(source="127.0.0.9"), "X-Forwarded-For: 10.9.9.9") == "127.0.0.9"
    assert seen(second, other, "beta", two.front.wire(source="127.0.0.9")) == "127.0.0.1", "it has no http.fronts"
    assert seen(first, user, "acme", first.wire(source="127.0.0.8"), "X-Forwarded-For: 10.9.9.9") == "127.0.0.8", "no front"
    for forged in [["X-Forwarded-For: 10.9.9.9", "X-Forwarded-For: 10.9.9.8"], ["X-Forwarded-For: 10.9.9.9, 10.9.9.8"], ["X-Forwarded-For: evil"], []]:
        assert seen(first, user, "acme", first.wire(source="127.0.0.1"), *forged) == "127.0.0.1", forged


def test_a_front_is_named_by_its_address(two):
    conf = two.sites[0].home.path / "conf/mysimbdp.conf"
    before = conf.read_text()
    conf.write_text(before.replace('fronts = ("127.0.0.1")', 'fronts = ("front.example")'))
    r = two.sites[0].home.cli("check", check=False)
    conf.write_text(before)
    assert r.returncode == 1 and """key 'http.fronts': "front.example" is no address""" in r.stdout + r.stderr, r


def test_while_a_tenant_is_moving_he_is_told_to_come_again(two):
    path = "/v1/tenants/acme/files"
    two.fleet.sign(("assign", "acme", "one", "--moving"))
    until(lambda: two.ask("acme", "GET", path).status == 503, what="the new map")
    told = two.ask("acme", "GET", path)
    assert (told.code, told.headers["Retry-After"]) == ("moving", "5")
    assert two.ask("beta", "GET", "/v1/tenants/beta/files").status == 200
    two.fleet.sign(("assign", "acme", "one"))
    until(lambda: two.ask("acme", "GET", path).status == 200, what="the new map")


def test_a_cell_with_another_certificate_is_not_spoken_to(two):
    wrong = "0" * 64
    two.fleet.sign(("change", "two", two.sites[1].url, "--pin", wrong))
    until(lambda: two.ask("beta", "GET", "/v1/tenants/beta/files").status == 503 and any("is not the one that the map pins" in line for line in two.front.said("cell")),
          what="the new map, and the log")
    two.fleet.sign(("change", "two", two.sites[1].url, "--pin", two.pin))
    until(lambda: two.ask("beta", "GET", "/v1/tenants/beta/files").status == 200, what="the new map")


def test_the_front_speaks_tls(two, tmp_path):
    keys = two.sites[1].home.path / "keys"
    front = Front(two.fleet, tmp_path / "tls")
    (line,) = blocks_below("docs/scale-out.md", "The front: one name for all cells")
    for there, here in [("/srv/cells", two.fleet.path), ("/var/lib/simbdp-cells", front.path), ("0.0.0.0:443", "127.0.0.1:0"), ("/etc/cells.pem", keys / "gateway.crt"),
                        ("/etc/cells.key", keys / "gateway.key"), ("simbdp-cells ", f"{BUILD}/simbdp-cells ")]:
        line = line.replace(there, str(here))
    front.args = shlex.split(line.replace("\\\n", ""))
    context = ssl.create_default_context(cafile=keys / "gateway.crt")
    with front:
        with Wire("127.0.0.1", front.port, context) as w:
            for tenant in ["acme", "beta"]:
                w.send(f"GET /v1/tenants/{tenant}/files HTTP/1.1\r\nHost: {tenant}.data.example.com\r\nAuthorization: Bearer {two.tokens[tenant]}\r\n\r\n")
                assert w.answer().status == 200
        with front.wire() as plain:
            plain.send("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert b"200" not in plain.rest()


def test_what_the_front_refuses_to_start_with(fleet, tmp_path):
    fleet.cli("sign")
    for options, why in [(["--idle-s", "0"], "out of its range"), (["--more"], "not known"), (["--certificate", "x"], "belong together"), (["--listen", "0.0.0.0:0"], "without TLS")]:
        args = Front(fleet, tmp_path / "front", *options).args
        if "--listen" in options:
            args = [a for i, a in enumerate(args) if i not in (args.index("--listen"), args.index("--listen") + 1)]
        r = subprocess.run(args, capture_output=True, text=True)
        assert r.returncode == 2 and why in r.stderr, (options, r)


def test_the_front_has_no_rights(fleet, tmp_path):
    """Of release programs: sanitizers cannot be under the filter."""
    fleet.sign(("add", "a", "http://127.0.0.1:1"), ("assign", "acme", "a"))
    front = Front(fleet, tmp_path / "front")
    front.args[0] = RELEASE / "simbdp-cells"
    with front:
        has = dict(re.findall(r"(\w+):\s+(\S+)", (ROOT / f"/proc/{front.process.pid}/status").read_text()))
        assert (has["CapEff"], has["CapPrm"], has["NoNewPrivs"], has["Seccomp"]) == ("0" * 16, "0" * 16, "1", "2")
        assert front.ask("GET", "/v1/tenants/acme/files").status == 503 and front.ask("GET", "/readyz").status == 200
        fleet.sign(("assign", "acme", "a", "--moving"))
        until(lambda: front.ask("GET", "/v1/tenants/acme/files").code == "moving", what="the new map, which is noted in its directory")


# ---- all cells at once ----

@pytest.fixture
def tokens(two, tmp_path):
    at = tmp_path / "tokens"
    at.mkdir()
    for cell, site in zip(["one", "two"], two.sites):
        (at / cell).write_text(site.of("operator", None) + "\n")
        (at / cell).chmod(0o600)
    return at


def all_rows(fleet, *args, code=0):
    r = subprocess.run([BUILD / "mysimbdp", "cells", *map(str, args), "--json"], env={**os.environ, "MYSIMBDP_CELLS": str(fleet.path)}, capture_output=True, text=True)
    assert r.returncode == code, r
    return [json.loads(line) for line in r.stdout.splitlines()], r.stderr


def tables_of(out):
    """The page; rows of its first table and of its last."""
    page = out.read_text()
    assert stat.S_IMODE(out.stat().st_mode) == 0o640
    found = [[[html.unescape(re.sub(r"<[^>]*>", "", cell)) for cell in re.findall(r"<td[^>]*>(.*?)</td>", row)] for row in body.splitlines()]
             for body in re.findall(r"<tbody>\n(.*?)</tbody>", page, re.S)]
    return page, found[0], found[-1]


def test_stats_and_files_of_all_cells(two, tokens):
    names = {}
    for tenant in ["acme", "beta"]:
        made = two.ask(tenant, "PUT", f"/v1/tenants/{tenant}/datasets/data/files/all-{tenant}.csv", b"v\n1\n2\n" + tenant.encode() + b"\n")
        assert made.status == 201, made
        names[tenant] = made.doc["file_id"]
    rows, said = all_rows(two.fleet, "files", "--tokens", tokens)
    found = {(f["cell"], f["tenant_id"], f["file_id"]) for f in rows}
    assert {("one", "acme", names["acme"]), ("two", "beta", names["beta"])} <= found and said == ""
    assert [f["received_at"] for f in rows] == sorted(f["received_at"] for f in rows)
    assert {f["tenant_id"] for f in all_rows(two.fleet, "files", "--tokens", tokens, "--tenant", "beta")[0]} == {"beta"}
    assert len(all_rows(two.fleet, "files", "--tokens", tokens, "--limit", "1", "--since", "1h")[0]) == 2
    assert all_rows(two.fleet, "files", "--tokens", tokens, "--state", "vanished")[0] == []
    rows, said = all_rows(two.fleet, "stats", "--tokens", tokens)
    of = {(r["cell"], r["tenant_id"]): r for r in rows}
    assert of["one", "acme"]["map_says"] == "one" and of["one", "beta"]["map_says"] == "two", "each home has both: what the map says otherwise is shown"
    out = tokens.parent / "cells.html"
    two.fleet.cli("page", "--tokens", tokens, "--out", out)
    page, cells, tenants = tables_of(out)
    assert "2 of 2 answer" in page and [row[:4] for row in cells] == [["one", "answers", "open", "up"], ["two", "answers", "open", "up"]]
    assert {(row[0], row[1], row[6]) for row in tenants} >= {("one", "acme", ""), ("one", "beta", "two"), ("two", "beta", "")}
    assert all(f'<a rel=noreferrer href="{site.url}">' in page for site in two.sites) and "<script" not in page
    assert set(of["two", "beta"]) == {"cell", "tenant_id", "running", "refused_day", "files", "bytes", "rows", "messages", "cpu_s", "instance_s", "map_says"} and said == ""


def test_cells_that_hang_lie_or_are_gone_hold_up_nobody(two, tokens, tmp_path):
    hangs, lies, wrong, gone = FakeCell(lambda head: None), FakeCell(lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n\x1b[31mevil"), FakeCell(), FakeCell()
    wrong.says = lambda head: b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n"
    body = b'{"machine": {"tenants": [{"tenant_id": "\\u001b[2Jacme", "running": "many", "month": 7}, 5]}}'
    gone.close()
    fleet = Fleet(tmp_path / "fleet")
    fleet.cli("init", fleet.path)
    fleet.sign(("add", "one", two.sites[0].url), ("add", "two", two.sites[1].url, "--pin", two.pin), ("add", "pinned", two.sites[1].url, "--pin", "0" * 64),
               *[("add", name, cell.url) for name, cell in [("hangs", hangs), ("lies", lies), ("wrong", wrong), ("gone", gone), ("open", hangs), ("none", hangs)]])
    for name in ["pinned", "hangs", "lies", "wrong", "gone", "open"]:
        (tokens / name).write_text("sbt_secret\n")
        (tokens / name).chmod(0o644 if name == "open" else 0o600)
    began = time.monotonic()
    rows, said = all_rows(fleet, "stats", "--tokens", tokens, "--deadline-s", "3", code=1)
    assert time.monotonic() - began < 20
    assert {r["cell"] for r in rows} == {"one", "two", "wrong"} and {"acme", "beta"} <= {r["tenant_id"] for r in rows if r["cell"] == "two"}
    for name, why in [("hangs", "does not answer in time"), ("lies", "no JSON object"), ("gone", "cannot connect"), ("pinned", "is not the one that the map pins"),
                      ("open", "others may read its token"), ("none", "its token")]:
        assert re.search(rf"^mysimbdp cells: {name}: .*{why}", said, re.M), (name, said)
    assert "sbt_secret" not in said and "\x1b" not in said
    body = b'{"monitor": {"rows": [{"tenant_id": "<b>acme", "app": "a\\"<img src=x>", "state": "stalled", "why": "&lt;<script>", "ready": 1e300}]}, "machine": {"tenants": [{"tenant_id": "<script>alert(1)</script>"}]}}'
    out = tmp_path / "cells.html"
    said = fleet.cli("page", "--tokens", tokens, "--out", out, "--deadline-s", "3", ok=False)
    page, cells, tenants = tables_of(out)
    assert "3 of 9 answer" in page and [row[0] for row in cells] == sorted(row[0] for row in cells) and len(cells) == 9, page
    assert {row[0]: row[1] for row in cells}["wrong"] == "batchmgr does not answer" and "does not answer in time" in {row[0]: row[1] for row in cells}["hangs"]
    assert "<script" not in page and "<img" not in page and ["wrong", "<script>alert(1)</script>"] in [row[:2] for row in tenants] and "sbt_secret" not in page
    shown = subprocess.run([BUILD / "mysimbdp", "cells", "stats", "--tokens", tokens, "--deadline-s", "1"], env={**os.environ, "MYSIMBDP_CELLS": str(fleet.path)}, capture_output=True, text=True)
    assert "\x1b" not in shown.stdout + shown.stderr and "acme" in shown.stdout
    for cell in (hangs, lies, wrong):
        cell.close()
