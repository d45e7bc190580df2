"""What somebody could do who has taken over the gateway: its keepers, told what it never says. They answer who shows a ticket, and a ticket is
given to who logs in."""
import contextlib
import json
import os
import struct

import pytest

from harness import until
from keepers import ALERT, ALIVE, AUDIT, CONF, FIGURES, LOG, LOGIN, PEM, QUERY, ROTATE, STORE, TENANTS, Keeper
from web import Site, settings

pytestmark = pytest.mark.anyone
NEVER = "01kdv6y6q3p8sxkq2n4ft5w7za"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    conf = s.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('{ app = "slow"; ', '{ app = "slow"; env = ( { name = "X"; value = "SECRET"; } ); ') + 'allow = ("apps", "datasets");\n')
    s.home.reload()
    yield s
    s.cleanup()


def keeper_of(site, program):
    k = Keeper(site.home, program)
    assert k.ask(CONF)[0] == 0
    return k


@pytest.fixture
def keeper(site):
    with contextlib.closing(keeper_of(site, "gateway")) as k:
        yield k


@pytest.fixture
def store(site):
    with contextlib.closing(keeper_of(site, "store")) as k:
        yield k


def journals(site):
    return sorted((p, p.stat().st_size) for p in (site.home.path / "logs/tenants").rglob("*.jsonl") if "stream" in p.name or "scaling" in p.name)


def log_in(keeper, token):
    head, _ = keeper.question(LOGIN, {"scheme": "bearer", "token": token, "address": "192.0.2.1"})
    return head["ticket"]


def forged(ticket):
    """What is like a ticket and is none: bits turned, parts cut off or added."""
    yield from ("", "x", "." * 200, "a" * 5000, ticket[:-1], ticket + "0", ticket[1:], ticket.upper(), "\0" + ticket)
    for i in range(0, len(ticket), 7):
        yield ticket[:i] + chr(ord(ticket[i]) ^ 1) + ticket[i + 1:]


def test_who_shows_no_ticket_is_told_nothing(site, keeper, store):
    f = site.wait(site.put("kept.csv", b"v,w\n1,a\n").doc["file_id"])["file_id"]
    ticket = log_in(keeper, site.of())
    head, body = keeper.question(QUERY, {"ticket": ticket, "tenant_id": "acme", "query": "file", "params": {"file_id": f}})
    assert head["status"] == 200 and json.loads(body)["file_id"] == f
    deployer = log_in(keeper, site.of("tenant-deployer"))
    for wrong in forged(ticket):
        for query in ("file", "files", "agreement", "bill", "events", "log"):
            head, body = keeper.question(QUERY, {"ticket": wrong, "tenant_id": "acme", "query": query, "params": {"file_id": f}})
            assert (head["status"], head["code"], body) == (401, "unauthorized", ""), (wrong, query)
        assert keeper.question(LOGIN, {"scheme": "ticket", "ticket": wrong})[0]["error"] == "unauthorized"
    for wrong in forged(deployer):
        for verb in ("check", "push", "activate", "rollback", "remove", "check_configuration", "configure"):
            answer, _ = store.question(STORE, {"verb": verb, "ticket": wrong, "tenant_id": "acme", "app": "load", "spool": NEVER, "version": "0" * 16})
            assert (answer["ok"], answer["code"]) == (False, "unauthorized"), (wrong, verb)


def test_a_ticket_is_for_its_own_tenant_and_role(site, keeper, store):
    tickets = {(role, tenant): log_in(keeper, site.of(role, tenant)) for role in ("tenant-reader", "tenant-deployer") for tenant in ("acme", "beta")}
    for (_, tenant), ticket in tickets.items():
        for asked in ("acme", "beta", "", "nobody", "../acme", "%"):
            head, body = keeper.question(QUERY, {"ticket": ticket, "tenant_id": asked, "query": "files", "params": {}})
            assert (head["status"] == 200) == (asked == tenant), (tenant, asked, body)
    for (role, tenant), ticket in tickets.items():
        for verb in ("check", "push", "configure", "rollback"):
            answer, _ = store.question(STORE, {"verb": verb, "ticket": ticket, "tenant_id": "acme", "app": "nothing", "spool": NEVER})
            code = "not_found" if tenant != "acme" or role != "tenant-deployer" else {"configure": "spool"}.get(verb, "no_app")
            assert not answer["ok"] and answer["code"] == code, (role, tenant, verb, answer)


def test_orders_are_an_operators(site, keeper, store):
    """Nobody else's ticket suspends a tenant or has the audit log read, none that is forged, and none of an operator's that is limited."""
    operator = log_in(keeper, site.of("operator", None))
    limited = log_in(keeper, site.token("operator.all", "--verbs", "read,deploy")[0])
    for verb in ("suspend", "resume", "verify_audit"):
        for wrong in forged(operator):
            answer, _ = store.question(STORE, {"verb": verb, "ticket": wrong, "tenant_id": "acme", "address": "192.0.2.1"})
            assert (answer["ok"], answer["code"]) == (False, "unauthorized"), (verb, wrong)
        for ticket in (limited, *(log_in(keeper, site.of(role)) for role in ("tenant-reader", "tenant-deployer"))):
            answer, _ = store.question(STORE, {"verb": verb, "ticket": ticket, "tenant_id": "acme", "address": "192.0.2.1"})
            assert (answer["ok"], answer["code"]) == (False, "not_found"), (verb, answer)
    for tenant in ("", "nobody", "../acme", "--help", "acme --purge"):
        answer, _ = store.question(STORE, {"verb": "suspend", "ticket": operator, "tenant_id": tenant, "address": "192.0.2.1"})
        assert (answer["ok"], answer["code"]) == (False, "not_found"), (tenant, answer)
    assert not site.get("agreement").doc["suspended"]


def test_figures_are_an_operators(site, keeper):
    """Of all tenants: nobody else's ticket opens them, and none that is forged."""
    operator, others = log_in(keeper, site.of("operator", None)), [log_in(keeper, site.of(role)) for role in ("tenant-reader", "tenant-deployer")]
    head, body = keeper.question(FIGURES, {"ticket": operator, "format": "text"})
    assert head["status"] == 200 and 'mysimbdp_up{program="broker"} 1' in body
    for ticket in others:
        head, body = keeper.question(FIGURES, {"ticket": ticket, "format": "text"})
        assert (head["status"], head["code"], body) == (403, "forbidden", "")
    for wrong in forged(operator):
        head, body = keeper.question(FIGURES, {"ticket": wrong, "format": "text"})
        assert (head["status"], head["code"], body) == (401, "unauthorized", "")


def test_a_ticket_ends_with_what_it_stands_for(site, keeper):
    token, token_id = site.token(site.user("leaves"))
    ticket = log_in(keeper, token)
    question = {"ticket": ticket, "tenant_id": "acme", "query": "files", "params": {}}
    assert keeper.question(QUERY, question)[0]["status"] == 200
    site.home.cli("token", "revoke", token_id)
    assert keeper.question(QUERY, question)[0]["status"] == 401
    # An upload that was under way is recorded all the same, and by whose word.
    assert keeper.question(AUDIT, {"ticket": ticket, "account": "operator", "what": "upload", "tenant_id": "acme", "subject": "x", "outcome": "ok", "address": "192.0.2.1"})[0]["added"]
    assert site.home.rows("audit", "--limit", "1")[0]["who"] == "operator (as the gateway says)"
    assert not keeper.question(AUDIT, {"ticket": ticket, "what": "audit_head", "outcome": "ok"})[0]["added"], "the log's own records"
    site.home.cli("audit", "--verify")


@pytest.mark.parametrize("spool", ["", "..", "../../keys/gateway.key", "/etc/passwd", "resumable", NEVER, "01kdv6y6q3p8sxkq2n4ft5w7zb", "01kdv6y6q3p8sxkq2n4ft5w7zc", "01kdv6y6q3p8sxkq2n4ft5w7zd"])
def test_what_is_no_upload_becomes_no_version(site, keeper, store, spool):
    """A link, a directory, a file with a second name: of what the gateway may put into its spool a regular file alone is opened."""
    at = site.home.path / "staging/.gateway"
    secret = site.home.path / "keys/gateway.ticket"
    for name, make in ((NEVER, lambda p: None), ("01kdv6y6q3p8sxkq2n4ft5w7zb", lambda p: p.symlink_to(secret)), ("01kdv6y6q3p8sxkq2n4ft5w7zc", lambda p: p.mkdir()),
                       ("01kdv6y6q3p8sxkq2n4ft5w7zd", lambda p: os.link(secret, p))):
        if not os.path.lexists(at / name):
            make(at / name)
    ticket = log_in(keeper, site.of("tenant-deployer"))
    for verb in ("push", "configure"):
        answer, _ = store.question(STORE, {"verb": verb, "ticket": ticket, "tenant_id": "acme", "app": "slow", "spool": spool})
        assert not answer["ok"] and answer["code"] == "spool", answer
    assert secret.stat().st_size == 32 and not list((site.home.path / "apps/acme").glob(".versions/*/*"))


def test_the_configuration_is_told_without_secrets(site, keeper, store):
    for k in (keeper, store):
        code, text = k.ask(CONF)
        assert code == 0 and "acme" in text and "SECRET" not in text and "mongodb://" not in text
        assert {t["id"] for t in json.loads(k.ask(TENANTS)[1])["tenants"]} == {"acme", "beta"}


@pytest.mark.parametrize("program", ["gateway", "store"])
def test_what_is_no_question_for_it_ends_it(site, program):
    before = journals(site)
    others = [LOG, ROTATE, ALERT, ALIVE, 77, 1 << 31, *((STORE,) if program == "gateway" else (LOGIN, QUERY, AUDIT, PEM))]
    garbage = [(op, b"{}") for op in others] + [(STORE if program == "store" else QUERY, text) for text in (b"", b"{", b"\xff\xfe", b"null", b"{" * 50000, b"x" * 140000)]
    for op, text in garbage:
        k = keeper_of(site, program)
        try:
            k.socket.send(struct.pack("<IIQ64s", op, 0, 0, b"acme") + text)
        except OSError:  # more than a packet may have
            k.close()
            continue
        assert k.ends(), (op, text[:20])
    assert before == journals(site)


def test_strange_questions_are_answered(keeper, site):
    ticket = log_in(keeper, site.of())
    for doc in ({}, {"ticket": 5}, {"ticket": ticket}, {"ticket": ticket, "tenant_id": ["acme"]}, {"ticket": ticket, "tenant_id": "acme", "query": {}}, {"ticket": ticket, "tenant_id": "acme", "query": "nonsense"},
                {"ticket": ticket, "tenant_id": "acme", "query": "log", "params": {"run_id": "../../keys", "from": "-1"}},
                {"ticket": ticket, "tenant_id": "acme", "query": "files", "params": {"limit": 1 << 62, "cursor": "x" * 5000}}, {"ticket": ticket, "tenant_id": "acme", "query": "files", "params": {str(i): i for i in range(5000)}}):
        head, body = keeper.question(QUERY, doc)
        assert head["status"] in (400, 401, 404) and body == "", (doc, head)
    for doc in ({}, {"scheme": "ticket"}, {"scheme": "bearer"}, {"scheme": "basic", "user": "x" * 60000, "password": ""}, {"scheme": "magic", "token": "x"}, {"scheme": "bearer", "token": "sbt_" + "x" * 60000}):
        assert keeper.question(LOGIN, {**doc, "address": "192.0.2.77"})[0]["error"] in ("unauthorized", "slow_down"), doc
    assert keeper.question(QUERY, {"ticket": ticket, "tenant_id": "acme", "query": "agreement", "params": {}})[0]["status"] == 200
    until(lambda: site.is_well(), site.home.path / "logs", what="the gateway")
