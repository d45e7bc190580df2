"""What an operator has over HTTP: tenants suspended and resumed as by the command line, the audit log, the platform's figures as they change; and who
has not."""
import datetime
import json
import os
import signal
from urllib.parse import urlencode

import pytest

from harness import json_lines, until
from web import Events, Site, settings
from test_monitor import WORK, worker

pytestmark = pytest.mark.anyone


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(), ready=False)
    conf = s.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + f"stream_apps = ( {{ {WORK.replace('max_instances', 'min_instances = 1; max_instances')} }} );\n")
    worker(s.home)
    s.home.profiles(cpus=0.01, rlimits="nofile = 256;")
    s.up()
    yield s
    s.cleanup()


@pytest.fixture(autouse=True)
def resumed(site):
    yield
    for tenant in ("acme", "beta"):
        site.home.cli("tenant", "resume", tenant)


def order(site, verb, tenant="acme", token=None, **kw):
    return site.ask("POST", f"/v1/tenants/{tenant}:{verb}", token or site.of("operator", None), **kw)


def tenant_of(site, name="acme"):
    doc = site.ask("GET", "/v1/platform", site.of("operator", None)).doc
    return next(t for t in doc["batchmgr"]["tenants"] if t["tenant_id"] == name)


def instances(site):
    return site.get("instances?app=work").doc


def records(site, what):
    return [r for r in json_lines(site.home.path / "logs/audit.jsonl") if r["what"] == what]


def test_suspended_and_resumed(site):
    """Files that wait, a run that goes on, instances, messages: each as `mysimbdp tenant suspend` has it."""
    home = site.home
    until(lambda: len(instances(site)["instances"]) == 1, home.path / "logs", what="an instance")
    held = site.put("held.csv", b"v,w\n800,a\n", dataset="held").doc["file_id"]
    until(lambda: tenant_of(site)["held"] == 1, home.path / "state", what="it waits for its trigger")
    goes_on = site.put("goes_on.csv", b"do,arg\nhang,\n", dataset="slow").doc["file_id"]
    home.wait_running()
    a = order(site, "suspend")
    assert (a.status, a.doc) == (200, {"tenant_id": "acme", "state": "suspended"})
    assert tenant_of(site)["state"] == "suspended" and site.get("agreement").doc["suspended"]
    assert [f["state"] for f in home.files(file_id=goes_on)] == ["running"], "what runs goes on"
    a = site.put("refused.csv", b"v,w\n1,a\n")
    assert (a.status, a.code) == (403, "suspended")
    a = site.post("streams/events/messages", body=b"{}\n", described=False, Content_Type="application/x-ndjson")
    assert b"suspended" in a.body, a
    until(lambda: not instances(site)["instances"], home.path / "logs", what="its instances end")
    home.drop("waits.csv", "v,w\n801,a\n")
    assert site.post("apps/held:run").status == 200
    until(lambda: "suspended" in (tenant_of(site)["waits_for"] or ""), home.path / "logs", what="why it waits")
    assert [f["state"] for f in home.files(file_id=held)] == ["queued"] and home.files(file_name="waits.csv") == []
    a = order(site, "resume")
    assert (a.status, a.doc) == (200, {"tenant_id": "acme", "state": "active"})
    assert home.wait_file(file_name="waits.csv")["state"] == "ingested" == site.wait(held)["state"]
    until(lambda: len(instances(site)["instances"]) == 1, home.path / "logs", what="an instance again")
    (f,) = home.files(file_id=goes_on)
    assert f["state"] == "running"
    site.post(f"runs/{f['run_id']}:stop")
    home.wait_file(file_id=goes_on)


def test_it_may_be_repeated_and_is_recorded(site):
    before = len(records(site, "tenant_suspend"))
    for _ in range(2):
        assert order(site, "suspend", "beta").doc["state"] == "suspended"
    home = site.home
    home.cli("tenant", "suspend", "beta")
    for _ in range(2):
        assert order(site, "resume", "beta").doc["state"] == "active"
    added = records(site, "tenant_suspend")[before:]
    assert [(r["who"], r["from"], r["tenant_id"], r["outcome"]) for r in added[:2]] == [("operator.all", "127.0.0.1", "beta", "ok")] * 2
    assert added[2]["from"] == "local" and len(added) == 3 and added[2]["who"] != "operator.all"
    assert home.cli("tenant", "suspend", "nobody", check=False).returncode == 1
    assert records(site, "tenant_suspend")[-1]["outcome"] == "not_found"
    assert json.loads(home.cli("tenant", "suspend", "beta", "--json").stdout) == {"ok": True, "tenant_id": "beta", "state": "suspended"}
    home.cli("audit", "--verify")


def test_who_may(site):
    """Nobody of a tenant's, by whatever role; an operator whose token is limited may not, either."""
    for role in ("tenant-reader", "tenant-writer", "tenant-deployer"):
        for verb in ("suspend", "resume"):
            a = order(site, verb, token=site.of(role))
            assert (a.status, a.code) == (403, "forbidden"), a
            a = order(site, verb, "beta", token=site.of(role))
            assert (a.status, a.code) == (404, "not_found"), a
    limited = site.token(site.user("limited.op", "operator", None), "--verbs", "read,run,deploy")[0]
    assert (order(site, "suspend", token=limited).status, tenant_of(site)["state"]) == (403, "active")
    for tenant in ("nobody", "Acme", "acme:suspend", "a" * 300):
        a = order(site, "suspend", tenant)
        assert (a.status, a.code) == (404, "not_found"), (tenant, a)
    assert site.ask("GET", "/v1/tenants/acme:suspend", site.of("operator", None), described=False).status == 405


def kill_one(site, program):
    (pid,) = until(lambda: len(p := site.home.pids(f"/{program}")) == 1 and p, site.home.path / "logs", what=program)
    os.kill(pid, signal.SIGKILL)
    until(lambda: site.home.pids(f"/{program}") not in ([pid], []), site.home.path / "logs", what=f"another {program}")


def test_it_holds_over_restarts(site):
    assert order(site, "suspend").status == 200
    for program in ("batchmgr", "broker", "streammgr", "gateway"):
        kill_one(site, program)
    site.wait_well()
    until(lambda: site.get("agreement").status == 200 and site.ask("GET", "/readyz", None).status == 200, site.home.path / "logs", what="all are back")
    assert tenant_of(site)["state"] == "suspended" and site.put("refused.csv", b"v,w\n1,a\n").code == "suspended"
    until(lambda: not instances(site)["instances"], site.home.path / "logs", what="no instance")
    assert order(site, "resume").doc["state"] == "active"
    assert site.wait(site.put("taken.csv", b"v,w\n802,a\n").doc["file_id"])["state"] == "ingested"


def test_an_order_outlives_the_gateway(site):
    """The gateway is killed while batchmgr does not answer: it is carried out whole, and recorded, and may be asked for again."""
    (pid,) = site.home.pids("/batchmgr")
    before = len(records(site, "tenant_suspend"))
    os.kill(pid, signal.SIGSTOP)
    try:
        with site.wire() as w:
            w.send(f"POST /v1/tenants/beta:suspend HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer {site.of('operator', None)}\r\n\r\n")
            until(lambda: site.home.pids("/mysimbdp", "suspend"), site.home.path / "logs", what="it is being carried out")
            kill_one(site, "gateway")
    finally:
        os.kill(pid, signal.SIGCONT)
    until(lambda: len(records(site, "tenant_suspend")) == before + 1, site.home.path / "logs", what="the record")
    site.wait_well()
    assert until(lambda: tenant_of(site, "beta")["state"] == "suspended", site.home.path / "logs", what="it holds")
    assert order(site, "suspend", "beta").status == 200


def test_one_order_of_a_tenant_at_a_time(site):
    """Uploads of apps do not keep it from its place, nor does another tenant's."""
    (pid,) = site.home.pids("/batchmgr")
    operator = site.of("operator", None)
    os.kill(pid, signal.SIGSTOP)
    try:
        with site.wire() as w:
            w.send(f"POST /v1/tenants/beta:suspend HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nAuthorization: Bearer {operator}\r\n\r\n")
            until(lambda: site.home.pids("/mysimbdp", "suspend"), site.home.path / "logs", what="it is being carried out")
            a = order(site, "resume", "beta", operator)
            assert (a.status, a.code) == (503, "busy") and int(a.headers["Retry-After"]) > 0
            os.kill(pid, signal.SIGCONT)
            assert w.answer("POST").doc["state"] == "suspended"
    finally:
        os.kill(pid, signal.SIGCONT)
    assert order(site, "resume", "beta", operator).doc["state"] == "active"


def test_from_the_command_line(site):
    key = site.home.base / "operator.token"
    key.write_text(site.of("operator", None) + "\n")
    key.chmod(0o600)
    run = lambda *args, check=True: site.home.cli("--url", site.url, "--token-file", key, "tenant", *args, check=check)
    assert run("suspend", "beta").stdout == "tenant beta is suspended\n"
    assert json.loads(run("resume", "beta", "--json").stdout) == {"tenant_id": "beta", "state": "active"}
    refused = run("suspend", "nobody", check=False)
    assert refused.returncode == 1 and "nothing here" in refused.stderr
    assert run("add", "gamma", check=False).returncode == 2


# -- the audit log

def audit(site, token=None, **query):
    return site.ask("GET", "/v1/audit" + ("?" + urlencode(query) if query else ""), token or site.of("operator", None))


def pages(site, **query):
    found, cursor = [], None
    while True:
        a = audit(site, **query, **({"cursor": cursor} if cursor else {}))
        assert a.status == 200, a
        found += a.doc["records"]
        cursor = a.doc["next"]
        if not cursor:
            return found


def test_the_audit_log_newest_first(site):
    for i in range(3):
        site.user(f"noted{i}", "tenant-reader", "beta")
    order(site, "suspend", "beta")
    lines = json_lines(site.home.path / "logs/audit.jsonl")
    keys = ("seq", "ts", "who", "from", "what", "tenant_id", "subject", "outcome")
    expected = [{k: r[k] for k in keys} for r in reversed(lines)]
    assert pages(site) == expected and pages(site, limit=2) == expected
    assert pages(site, tenant="beta", limit=1) == [r for r in expected if r["tenant_id"] == "beta"]
    assert pages(site, who="operator.", what="suspend") == [r for r in expected if "operator." in r["who"] and "suspend" in r["what"]] != []
    assert pages(site, what="nothing like that") == []
    for wrong in ({"cursor": "x"}, {"cursor": "1"}, {"cursor": "1.99999999999"}, {"cursor": "-1.5"}, {"cursor": "9" * 40 + ".1"}):
        a = audit(site, **wrong)
        assert (a.status, a.code) == (400, "parameter"), a
    assert audit(site, limit=0).status == 400 and audit(site, limit=1001).status == 400
    for role in ("tenant-reader", "tenant-deployer"):
        for path in ("/v1/audit", "/v1/audit/verification"):
            assert site.ask("GET", path, site.of(role)).status in (403, 404)


def test_whether_the_audit_log_is_whole(site):
    verified = lambda: site.ask("GET", "/v1/audit/verification", site.of("operator", None))
    path = site.home.path / "logs/audit.jsonl"
    (told,) = site.home.rows("audit", "--verify")
    a = verified()
    assert (a.status, a.doc) == (200, {"whole": True, "records": told["records"], "first": 1, "last": told["head"]["seq"], "hash": told["head"]["hash"], "detail": None})
    whole = path.read_bytes()
    try:
        path.write_bytes(whole.replace(b'"what":"user_add"', b'"what":"user_mad"', 1))
        a = verified()
        assert a.status == 200 and not a.doc["whole"] and "record" in a.doc["detail"] and a.doc["hash"] is None, a
    finally:
        path.write_bytes(whole)
    assert verified().doc["whole"]


# -- the platform's figures as they change

def merged(r, n=None):
    """What somebody has who read all of it, or n events, as /v1/platform has it; lists by what their elements are known by."""
    doc = {}
    for name, data, _ in r.named("platform", "change")[:n]:
        doc = {} if name == "platform" else doc
        for program, members in data.items():
            if program == "gone":
                continue
            if members is None:
                doc[program] = None
                continue
            doc[program] = doc.get(program) or {}
            for member, value in members.items():
                doc[program][member] = {**doc[program].get(member, {}), **keyed(value)} if is_list(value) else value
        for program, member, *key in data.get("gone", []):
            if key:
                del doc[program][member][key[0]]
            else:
                del doc[program][member]
    return doc


def is_list(value):
    return isinstance(value, list) and all(isinstance(r, dict) and key_of(r) for r in value)


def key_of(row):
    return "/".join(row[k] for k in ("tenant_id", "app", "run_id") if row.get(k) is not None) if row.get("tenant_id") else row.get("place") or row.get("program")


def keyed(rows):
    return {key_of(r): r for r in rows}


def sent_again(r):
    """What was sent although whoever reads had it already."""
    found = []
    for i, (name, data, _) in enumerate(r.named("platform", "change")):
        before = merged(r, i)
        for program, members in data.items() if name == "change" else ():
            for member, value in ((members or {}).items() if program != "gone" else ()):
                known = (before.get(program) or {}).get(member)
                found += [(program, member, k) for k, row in keyed(value).items() if (known or {}).get(k) == row] if is_list(value) else [(program, member)] * (known == value)
    return found


def follow(site, **kw):
    return Events(site, "/v1/platform/events", token=kw.pop("token", site.of("operator", None)), **kw)


def state_of(r, tenant):
    return ((merged(r).get("batchmgr") or {}).get("tenants", {}).get(tenant) or {}).get("state")


def test_figures_as_they_change(site):
    with follow(site) as r, follow(site, last="7") as also:
        assert r.status == 200
        r.until(lambda r: r.events, what="the beginning")
        also.until(lambda r: r.events, what="the beginning, whatever was known before")
        (kind, first, _), = r.events[:1]
        assert kind == "platform" and set(first) == set(site.ask("GET", "/v1/platform", site.of("operator", None)).doc) and state_of(r, "beta") == "active"
        order(site, "suspend", "beta")
        for reader in (r, also):
            reader.until(lambda r: state_of(r, "beta") == "suspended", what="the new state")
        changes = [d for _, d, _ in r.named("change") if "beta" in keyed((d.get("batchmgr") or {}).get("tenants", []))]
        assert len(changes) == 1 and sent_again(r) == [], "what does not change is not sent"
        assert not any("uid" in d.get("batchmgr", {}) or "started_at" in d.get("batchmgr", {}) for _, d, _ in r.named("change"))
        texts = lambda x: [json.dumps(d) for _, d, _ in x.named("change")]
        r.until(lambda r: texts(r)[-1] in texts(also) or also.pump() and False, what="the same for both")


def test_a_program_that_is_away_and_comes_back(site):
    with follow(site) as r:
        r.until(lambda r: merged(r).get("monitor"), what="the monitor")
        (pid,) = site.home.pids("/monitor")
        os.kill(pid, signal.SIGSTOP)
        try:
            r.until(lambda r: any("monitor" in d and d["monitor"] is None for _, d, _ in r.events), what="that it does not answer")
            assert merged(r)["batchmgr"]["database"] == "up", "nobody waits for it"
            a = site.ask("GET", "/v1/platform", site.of("operator", None))
            assert a.doc["monitor"] is None and a.doc["batchmgr"]
        finally:
            os.kill(pid, signal.SIGCONT)
        r.until(lambda r: (merged(r).get("monitor") or {}).get("rows"), what="all of it again")
        r.until(lambda r: set(merged(r)["monitor"]["rows"]) == {"acme/work"}, what="its apps")


def test_the_machine_as_it_changes(site):
    """What the keeper knows comes with what the programs say; runs come and go one by one, disks and programs are known by name."""
    with follow(site) as r:
        r.until(lambda r: merged(r).get("machine"), what="the machine")
        r.until(lambda r: "broker" in merged(r)["machine"]["programs"], what="programs")
        assert "home" in merged(r)["machine"]["disks"] and set(merged(r)["machine"]["tenants"]) == {"acme", "beta"}
        f = site.put("machine.csv", b"do,arg\nhang,\n", dataset="slow").doc["file_id"]
        run = until(lambda: [x["run_id"] for x in site.home.rows("runs") if x["app"] == "slow" and x["state"] == "running"], site.home.path / "state", what="a run")[0]
        r.until(lambda r: f"acme/slow/{run}" in merged(r)["machine"]["runs"], what="its run")
        site.post(f"runs/{run}:stop")
        r.until(lambda r: f"acme/slow/{run}" not in merged(r)["machine"]["runs"], what="its end")
        site.home.wait_file(file_id=f)
        assert sent_again(r) == [], "what does not change is not sent"
        (pid,) = site.home.pids("/monitor")
        os.kill(pid, signal.SIGKILL)
        r.until(lambda r: merged(r)["machine"]["programs"]["monitor"]["ended"] == "signal 9", what="how it ended")


def test_who_logs_out_takes_the_machine_from_nobody(site):
    """The keeper is asked by the right of one who follows."""
    token, ident = site.token(site.user("goes.op", "operator", None))
    with follow(site) as stays, follow(site, token=token) as goes:
        for r in (stays, goes):
            r.until(lambda r: merged(r).get("machine"), what="the machine")
        site.home.cli("token", "revoke", ident)
        goes.to_end()
        n = len(stays.events)
        stays.until(lambda r: any("at" in (d.get("machine") or {}) for _, d, _ in r.events[n:]), what="the machine, later")
        assert merged(stays)["machine"]["at"]


def test_figures_come_once_a_second_at_most(site):
    """Whatever happens. monitor.at is of when it was asked: each event is of another time."""
    with follow(site) as r:
        r.until(lambda r: len([d for _, d, _ in r.named("change") if "at" in (d.get("monitor") or {})]) >= 5, what="five changes")
        times = [datetime.datetime.fromisoformat(d["monitor"]["at"].replace("Z", "+00:00")) for _, d, _ in r.named("change") if "at" in (d.get("monitor") or {})]
        assert all((b - a).total_seconds() > 0.5 for a, b in zip(times, times[1:])) and (times[-1] - times[0]).total_seconds() > 0.9 * (len(times) - 1), times


def test_who_may_follow_the_figures(site):
    for role in ("tenant-reader", "tenant-deployer"):
        with follow(site, token=site.of(role)) as r:
            assert r.status in (403, 404)
    token, ident = site.token(site.user("watches.op", "operator", None))
    with follow(site, token=token) as r:
        r.until(lambda r: r.events, what="the beginning")
        site.home.cli("token", "revoke", ident)
        r.to_end()
        assert r.events[-1][:2] == ("end", {"reason": "unauthorized"})


def test_a_gateway_that_stops_tells_who_follows(site):
    with follow(site) as r:
        r.until(lambda r: r.events, what="the beginning")
        (pid,) = site.home.pids("/gateway")
        os.kill(pid, signal.SIGTERM)
        r.to_end()
        assert r.events[-1][:2] == ("end", {"reason": "draining"})
    until(lambda: site.home.pids("/gateway") not in ([pid], []), site.home.path / "logs", what="another gateway")
    site.wait_well()
