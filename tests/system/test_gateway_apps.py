"""Versions of apps over HTTP: uploading, activating, going back, and who may. What archives may hold is in test_appstore.py."""
import base64
import hashlib
import json
import os
import pathlib
import signal

import pytest

from harness import until
from test_appstore import member, script, tar, version_of
from web import Site, settings

pytestmark = pytest.mark.anyone

APPS = '{ app = "say"; exec = "say"; output = "stdout"; datasets = ("data"); }, { app = "other"; exec = "builtin:load"; }'
STREAM = '''streams = ( { name = "events"; } );
stream_apps = ( { app = "tell"; stream = ""; exec = "tell"; profile = "small"; min_instances = 1; max_instances = 2; } );'''


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(), ready=False)
    s.home.tenant("acme", apps=APPS, tenant='allow = ("apps"); max_app_bytes = 1000000L;')
    path = pathlib.Path(s.home.path / "conf/tenants/acme.conf")
    path.write_text(path.read_text() + STREAM)
    s.home.install("acme", "/bin/true", "say")
    s.home.install("acme", "/bin/true", "tell")
    s.up()
    yield s
    s.cleanup()


def push(site, data, app="say", token=None, activate=False, **headers):
    return site.ask("PUT", f"/v1/tenants/acme/apps/{app}/versions" + ("?activate=1" if activate else ""), token or site.of("tenant-deployer"), data, **headers)


def post(site, what, token=None):
    return site.post(f"apps/{what}", token or site.of("tenant-deployer"))


def words(site):
    return {d["v"] for d in site.home.mongo.client[site.home.db_of["acme"]]["data"].find({})}


def run(site, name):
    f = site.wait(site.put(name, f"v\n{name}\n").doc["file_id"])
    assert f["state"] == "ingested", (f, site.home.log_of(f["run_id"]))


def test_from_upload_to_roll_back(site):
    one, two = script("http-one"), tar(member("app/say", script("http-two")), member("app/x", b"1", 0o644))
    a = push(site, one)
    assert (a.status, a.doc["state"], a.doc["active"], a.doc["by"], a.doc["version"]) == (201, "ready", False, "tenant-deployer.acme", version_of(one)), a
    assert a.headers["Location"] == f"/v1/tenants/acme/apps/say/versions/{version_of(one)}"
    assert site.get(a.headers["Location"].split("acme/")[1]).doc["sha256"] == hashlib.sha256(one).hexdigest()
    assert push(site, one).status == 200, "the same bytes"
    b = post(site, f"say/versions/{version_of(one)}:activate")
    assert (b.status, b.doc) == (200, {"app": "say", "version": version_of(one), "previous": None})
    run(site, "one.csv")
    assert "http-one" in words(site)
    assert push(site, two, activate=True).doc["active"]
    run(site, "two.csv")
    assert "http-two" in words(site)
    c = post(site, "say:rollback")
    assert (c.status, c.doc["version"], c.doc["previous"]) == (200, version_of(one), version_of(two)), c
    assert post(site, "say:rollback").code == "state"
    listed = site.get("apps/say/versions").doc
    assert listed["active"] == version_of(one) and {v["version"] for v in listed["versions"]} == {version_of(one), version_of(two)}
    assert site.ask("DELETE", f"/v1/tenants/acme/apps/say/versions/{version_of(one)}", site.of("tenant-deployer")).code == "state"
    assert site.ask("DELETE", f"/v1/tenants/acme/apps/say/versions/{version_of(two)}", site.of("tenant-deployer")).status == 200
    assert site.get(f"apps/say/versions/{version_of(two)}").status == 404
    assert site.spooled() == []
    audit = [json.loads(line) for line in (site.home.path / "logs/audit.jsonl").read_text().splitlines()]
    done = [(r["what"], r["subject"], r["outcome"]) for r in audit if r["what"].startswith("app_")]
    assert ("app_push", f"say/{version_of(one)}", "ok") in done and ("app_rollback", f"say/{version_of(one)}", "ok") in done and ("app_rollback", "say/", "state") in done


def test_instances_are_replaced(site):
    """A stream app's one by one, without a reload."""
    code = b"#!/bin/sh\ntrap 'exit 0' TERM\necho %s > mine\nwhile :; do /bin/sleep 1 & wait $!; done\n"

    def minds(word):
        return any((p / "app/mine").exists() and (p / "app/mine").read_text() == word + "\n" and not (p / "result.json").exists() for p in (site.home.path / "runs").iterdir())
    assert push(site, code % b"first", app="tell", activate=True).doc["active"]
    until(lambda: minds("first"), site.home.path / "runs", what="an instance of the first version")
    assert push(site, code % b"second", app="tell", activate=True).doc["active"]
    (old,) = [p.name for p in (site.home.path / "runs").iterdir() if (p / "app/mine").exists()]
    a = site.ask("DELETE", f"/v1/tenants/acme/apps/tell/versions/{version_of(code % b'first')}", site.of("tenant-deployer"))
    assert (a.status, a.code, old in a.doc["detail"]) == (409, "in_use", True), a
    until(lambda: minds("second") and not minds("first"), site.home.path / "runs", timeout=60, what="one of the second version alone")
    until(lambda: site.ask("DELETE", f"/v1/tenants/acme/apps/tell/versions/{version_of(code % b'first')}", site.of("tenant-deployer")).status == 200, what="nobody uses it")


def test_who_may(site):
    data = script("who")
    for role in ("tenant-reader", "tenant-writer"):
        a = push(site, data, token=site.of(role))
        assert (a.status, a.code) == (403, "forbidden"), (role, a)
        assert post(site, "say:rollback", site.of(role)).status == 403
    assert push(site, data, token=site.of("tenant-deployer", "beta")).status == 404, "another tenant's"
    assert push(site, data, token=site.of("operator", None)).status == 201
    assert site.get("apps/say/versions", site.of("tenant-reader")).status == 200
    assert site.get("apps/say/versions", site.of("tenant-reader", "beta")).status == 404


def test_what_the_provider_does_not_allow(site):
    """`allow` of the tenant."""
    path = pathlib.Path(site.home.path / "conf/tenants/acme.conf")
    text = path.read_text()
    path.write_text(text.replace('allow = ("apps");', ""))
    site.home.cli("reload")
    try:
        until(lambda: (a := push(site, script("no"))).code == "not_allowed" and a.status == 403, what="refused")
        assert post(site, f"say/versions/{'0' * 16}:activate").code == "not_allowed"
        assert push(site, script("no"), token=site.of("operator", None)).status == 201, "the provider may"
    finally:
        path.write_text(text)
        site.home.cli("reload")
    until(lambda: push(site, script("yes")).status in (200, 201), what="allowed again")


def test_what_is_refused(site):
    for data, code, status in ((b"text", "archive", 422), (tar(member("../say", script("x"))), "archive", 422), (tar(member("x", b"")), "no_exec", 422)):
        a = push(site, data)
        assert (a.code, a.status) == (code, status), a
    assert push(site, script("x"), app="other").code == "no_app"
    assert push(site, script("x"), app="nothing").code == "no_app"
    assert push(site, script("x"), app="No.App").code == "no_app"
    assert site.get("apps/nothing/versions").status == 404
    assert site.get("apps/say/versions/..%2f..%2fx").status == 400
    assert post(site, f"say/versions/{'0' * 16}:activate").status == 404
    assert post(site, "say/versions/nothing:activate").status == 404
    site.wait_spool()


def test_what_is_too_large(site):
    assert push(site, bytes(1000001)).code == "max_app_bytes", "before its first byte"
    a = push(site, iter([bytes(500000)] * 3))
    assert (a.status, a.code) == (413, "max_app_bytes"), "while it comes"
    a = push(site, tar(member("say", script("x")), member("zeros", bytes(2000000))))
    assert (a.status, a.code) in ((413, "max_app_bytes"), (422, "archive")), a
    site.wait_spool()


def test_digest(site):
    data = script("digest")
    wrong = base64.b64encode(hashlib.sha256(b"else").digest()).decode()
    assert push(site, data, Content_Digest=f"sha-256=:{wrong}:").code == "digest"
    right = base64.b64encode(hashlib.sha256(data).digest()).decode()
    assert push(site, data, Content_Digest=f"sha-256=:{right}:").status == 201


def test_a_client_that_goes_away(site):
    with site.wire() as w:
        w.send(f"PUT /v1/tenants/acme/apps/say/versions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.of('tenant-deployer')}\r\nContent-Length: 100000\r\n\r\n#!/bin/sh\n")
        until(lambda: len(site.spooled()) == 1, site.home.path / "staging/.gateway", what="an upload")
    site.wait_spool()


def test_a_keeper_that_is_killed(site):
    """The store's: the gateway begins anew, and nothing of an upload is left."""
    before = site.pid()
    (keeper,) = site.home.pids("simbdp-keeper", "store")
    os.kill(keeper, signal.SIGKILL)
    until(lambda: site.home.pids("/gateway") not in ([], [before]) and site.is_well(), site.home.path / "logs", what="another gateway")
    assert push(site, script("after")).status == 201


def test_suspended(site):
    site.home.cli("tenant", "suspend", "acme")
    try:
        until(lambda: push(site, script("suspended")).code == "suspended", what="refused")
    finally:
        site.home.cli("tenant", "resume", "acme")
    until(lambda: push(site, script("resumed")).status in (200, 201), what="taken")
