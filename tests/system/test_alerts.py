"""Who is told of alerts: webhooks (signed, repeated, grouped), silences, the dead man's switch."""
import contextlib
import datetime
import hashlib
import hmac
import http.server
import json
import os
import signal
import ssl
import subprocess
import threading

import pytest
from harness import until
from test_monitor import STREAM, configure, log, wait_top
from wire import Peer

pytestmark = pytest.mark.anyone

SECRET = b"correct horse\x01battery"


class Receiver:
    """An HTTP server that answers as `script` says: a status for each call, the last one for all further ones."""

    def __init__(self, *script, tls=None, headers=()):
        self.script, self.calls, self.lock, self.headers = list(script) or [204], [], threading.Lock(), dict(headers)
        self.go_on = threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                with outer.lock:
                    status = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                    outer.calls.append((self.headers, body, json.loads(body)))
                if status == "hang":
                    outer.go_on.wait(60)
                    return
                self.send_response(status)
                for name, value in outer.headers.items() if status >= 300 else ():
                    self.send_header(name, value)
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"ok")

            def log_message(self, *_):
                pass
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.server.server_port}/hooks/T0/secret"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()

    def alerts(self):
        """(alert, app, state) of what was accepted or not, in the order in which it came."""
        with self.lock:
            return [(a["alert"], a["app"], a["state"]) for _, _, body in self.calls for a in body.get("alerts", [])]

    def alive(self):
        with self.lock:
            return [body for _, _, body in self.calls if body["state"] == "alive"]


@pytest.fixture
def platform(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    home.plain = (home.path / "conf/mysimbdp.conf").read_text()
    return home


def settings(home, alerts, webhooks):
    (home.path / "conf/mysimbdp.conf").write_text(home.plain.replace("platform = {", f"platform = {{ alerts = ( {', '.join(alerts)} ); webhooks = ( {', '.join(webhooks)} );", 1))


def alert(name, when, more='webhook = "ops";'):
    return f'{{ name = "{name}"; when = "{when}"; {more} }}'


def webhook(receiver, more="", name="ops"):
    return f'{{ name = "{name}"; url = "{receiver.url}"; {more} }}'


def publish(home, n=10):
    with Peer(home.endpoint) as p:
        p.publish(STREAM, [b"{}"] * n)


def settle(home, app="idle", n=10):
    with Peer(home.endpoint) as p:
        p.subscribe(STREAM, app)
        p.ack(p.take(n))


def test_a_call_is_signed_and_repeated(platform):
    secret = platform.base / "secret"
    secret.write_bytes(SECRET + b"\n")
    secret.chmod(0o600)
    with Receiver(503, 500, 200) as r:
        settings(platform, [alert("many", "ready > 5")], [webhook(r, f'secret_file = "{secret}";')])
        configure(platform, 'app = "idle"; stream = "events";')
        platform.up()
        publish(platform)
        until(lambda: len(r.calls) == 3, platform.path / "logs", what=lambda: f"three tries: {r.calls}")
        for headers, body, _ in r.calls:
            wanted = hmac.new(SECRET, headers["Mysimbdp-Timestamp"].encode() + b"." + body, hashlib.sha256).hexdigest()
            assert headers["Mysimbdp-Signature"] == "v1=" + wanted and headers["Content-Type"] == "application/json"
            assert abs(int(headers["Mysimbdp-Timestamp"]) - datetime.datetime.now().timestamp()) < 60
        assert len({headers["Mysimbdp-Delivery"] for headers, _, _ in r.calls}) == 1, "the same call"
        doc = r.calls[-1][2]
        assert doc["webhook"] == "ops" and doc["state"] == "alerts" and doc["group"] == "many" and doc["dropped"] == 0
        (a,) = doc["alerts"]
        assert a["alert"] == "many" and a["state"] == "firing" and a["tenant_id"] == "acme" and a["app"] == "idle" and a["rows"][0]["ready"] == 10 and a["runbook_url"] is None
        settle(platform)
        until(lambda: r.alerts()[-1] == ("many", "idle", "over"), platform.path / "logs", what="its end")
        words = [x["msg"] for x in log(platform, "webhook")]
        assert any("ops cannot be told: it answered 503; it is tried again" in w for w in words) and any("ops can be told again" in w for w in words), words
        assert not any("hooks/T" in line for f in (platform.path / "logs").glob("*.log") for line in f.read_text().splitlines()), "the URL is a secret"
        # What no repetition helps is not repeated, and said; the next call says how many were lost.
        r.script[:] = [400, 200]
        publish(platform)
        until(lambda: any("refuses a call" in x["msg"] and "400" in x["msg"] for x in log(platform)), platform.path / "logs", what="a refusal")
        n = len(r.calls)
        settle(platform)
        until(lambda: len(r.calls) > n, platform.path / "logs", what="the next call")
        assert r.calls[-1][2]["dropped"] == 1 and r.alerts()[-1] == ("many", "idle", "over")
        assert any("1 alerts could not be told" in x["msg"] for x in log(platform, "webhook_dropped"))
        # It is started again when it ends, and tells what fires once more.
        publish(platform)
        until(lambda: r.alerts()[-1] == ("many", "idle", "firing"), platform.path / "logs", what="the alert")
        n = len(r.calls)
        (pid,) = platform.pids("simbdp-webhook")
        os.kill(pid, signal.SIGKILL)
        until(lambda: len(r.calls) > n and platform.pids("simbdp-webhook") != [pid], platform.path / "logs", what="what fires, once more")
        assert r.alerts()[-1] == ("many", "idle", "firing") and r.calls[-1][0]["Mysimbdp-Signature"]
        # Without its secret nothing is told: an unsigned call would be nobody's.
        secret.unlink()
        platform.cli("reload")
        assert any("secret" in x["msg"] and "it is not called" in x["msg"] for x in log(platform)), log(platform)
    for bad, why in (('url = "ftp://x/"', "no http:// or https:// URL"), ('url = "https:///x"', "no http"), ('url = "http://a b/"', "no http"),
                     ('url = "http://a/"; secret_file = "s"', "no absolute path"), ('url = "http://a/"; ca_file = "s"', "no absolute path")):
        settings(platform, [alert("many", "ready > 5")], [f'{{ name = "ops"; {bad}; }}'])
        res = platform.cli("check", check=False)
        assert res.returncode == 1 and why in res.stderr, res.stderr
    settings(platform, [alert("many", "ready > 5", 'webhook = "nobody";')], [])
    assert 'there is no webhook "nobody"' in platform.cli("check", check=False).stderr


def test_alerts_of_a_group_are_one_call(platform):
    with Receiver() as r, Receiver() as other:
        settings(platform, [alert("many", "ready > 5", 'webhook = "ops"; group = "lag";'), alert("more", "ready > 6", 'webhook = "ops"; group = "lag";'),
                            alert("alone", "ready > 7"), alert("else", "ready > 8", 'webhook = "other";')],
                 [webhook(r, "group_s = 3;"), webhook(other, name="other")])
        configure(platform, 'app = "a"; stream = "events";', 'app = "b"; stream = "events";')
        platform.up()
        publish(platform)
        until(lambda: len(r.calls) == 2 and len(other.alerts()) == 2, platform.path / "logs", what=lambda: f"a call for each group: {r.alerts()}, {other.alerts()}")
        by_group = {doc["group"]: sorted((a["alert"], a["app"]) for a in doc["alerts"]) for _, _, doc in r.calls}
        assert by_group == {"lag": [("many", "a"), ("many", "b"), ("more", "a"), ("more", "b")], "alone": [("alone", "a"), ("alone", "b")]}
        assert {a for a, _, _ in other.alerts()} == {"else"}


def test_silences(platform):
    out = platform.base / "told"
    out.mkdir()
    hook = platform.base / "hook"
    hook.write_text(f"#!/bin/sh\nexec cat > {out}/$$\n")
    hook.chmod(0o755)

    def commands():
        return sorted(json.loads(f.read_text())["state"] for f in out.iterdir() if f.stat().st_size)
    with Receiver() as r:
        settings(platform, [alert("many", "ready > 5", f'webhook = "ops"; command = "{hook}";'), alert("acme", "ready > 1000000")], [webhook(r)])
        configure(platform, 'app = "idle"; stream = "events";', 'app = "b"; stream = "events";')
        platform.cli("alerts", "silence", "acme/idle", "--for", "2h", "--why", "we know")
        platform.up()
        publish(platform)
        until(lambda: r.alerts() == [("many", "b", "firing")], platform.path / "logs", what="the app that is not silenced")
        until(lambda: any("many: nobody is told" in x["msg"] for x in log(platform, "alert_silenced")), platform.path / "logs", what="the silence")
        assert {(x["alert"], x["app"], x["state"]) for x in platform.rows("alerts")} == {("many", "b", "firing"), ("many", "idle", "silenced")}
        wait_top(platform, lambda row: row["alerts"] == ["many"], app="idle")
        (s,) = platform.rows("alerts", "silences")
        assert s["tenant_id"] == "acme" and s["app"] == "idle" and s["alert"] is None and s["why"] == "we know" and s["by"]
        # Taken back: what still fires is told now; and its end.
        platform.cli("alerts", "unsilence", s["silence_id"])
        until(lambda: ("many", "idle", "firing") in r.alerts(), platform.path / "logs", what="what fires and is no longer silenced")
        until(lambda: commands() == ["firing", "firing"], out, what="the commands")
        # It ends by itself, too.
        until_ = (datetime.datetime.utcnow() + datetime.timedelta(seconds=6)).strftime("%Y-%m-%dT%H:%M:%SZ")
        settle(platform, "idle")
        until(lambda: ("many", "idle", "over") in r.alerts(), platform.path / "logs", what="the end")
        platform.cli("alerts", "silence", "many", "--for", until_)
        n = len(r.calls)
        with Peer(platform.endpoint) as p:
            p.publish(STREAM, [b"{}"] * 10)
        until(lambda: len(r.calls) > n, platform.path / "logs", what="what fires when the silence is over")
        assert r.alerts()[n:] == [("many", "idle", "firing")] and platform.rows("alerts", "silences") == []
        # What began and ended in silence, nobody hears of.
        platform.cli("alerts", "silence", "acme/idle", "--for", "1h", "--alert", "many")
        settle(platform, "idle")
        until(lambda: ("many", "idle", "over") in r.alerts()[n:], platform.path / "logs", what="the end of what was told is told")
        n, silenced = len(r.calls), len(log(platform, "alert_silenced"))
        publish(platform)
        until(lambda: len(log(platform, "alert_silenced")) > silenced, platform.path / "logs", what="the silence")
        settle(platform, "idle")
        settle(platform, "b", 30)
        until(lambda: r.alerts()[-1] == ("many", "b", "over"), platform.path / "logs", what="the end")
        assert not any(app == "idle" for _, app, _ in r.alerts()[n:])
    for args, why in ((["silence", "acme", "--for", "2h"], "is an alert and a tenant"), (["silence", "none", "--for", "2h"], "no alert and no tenant"),
                      (["silence", "acme/none", "--for", "2h"], "has no stream app"), (["silence", "many", "--for", "soon"], "how long"),
                      (["silence", "many"], "how long"), (["silence", "acme/idle", "--alert", "x", "--for", "1h"], "no alert"), (["unsilence"], "what?"),
                      (["list", "x"], "takes no argument"), (["list", "--for", "1h"], "are for"), (["shout"], "unknown")):
        res = platform.cli("alerts", *args, check=False)
        assert res.returncode == 2 and why in res.stderr, res.stderr
    assert platform.cli("alerts", "unsilence", "nonsense", check=False).returncode == 1
    platform.down()
    (platform.path / "state/silences.json").write_text("{")
    res = platform.cli("alerts", "silences", check=False)
    assert res.returncode == 1 and "remove it to begin anew" in res.stderr + res.stdout, res


def test_the_dead_mans_switch(platform):
    with Receiver() as r:
        settings(platform, [], [webhook(r, "alive_s = 1;")])
        configure(platform, 'app = "idle"; stream = "events";')
        platform.up()
        until(lambda: len(r.alive()) >= 2, platform.path / "logs", what="calls while all is well")
        assert r.alive()[0]["every_s"] == 1 and r.alive()[0]["webhook"] == "ops"
        pid = platform.pids("streammgr")[0]
        os.kill(pid, signal.SIGSTOP)
        try:
            # It answers no more for five seconds, then the calls end: a state that lasts, seen by the clock of the receiver alone.
            def quiet():
                n = len(r.alive())
                return not threading.Event().wait(3.5) and len(r.alive()) == n
            until(quiet, platform.path / "logs", what="silence, when streammgr hangs")
        finally:
            os.kill(pid, signal.SIGCONT)
        n = len(r.alive())
        until(lambda: len(r.alive()) > n, platform.path / "logs", what="calls when all is well again")


def test_who_does_not_answer_holds_nothing_up(platform):
    with Receiver("hang") as slow, Receiver() as r:
        settings(platform, [alert("many", "ready > 5", 'webhook = "slow";'), alert("more", "ready > 6")],
                 [webhook(slow, "timeout_s = 1; retry_s = 3;", "slow"), webhook(r)])
        configure(platform, 'app = "idle"; stream = "events";')
        platform.up()
        publish(platform)
        until(lambda: r.alerts() == [("more", "idle", "firing")], platform.path / "logs", what="the other webhook")
        dropped = until(lambda: log(platform, "webhook_dropped"), platform.path / "logs", what="its end")
        assert "webhook slow: 1 alerts could not be told" in dropped[0]["msg"] and 2 <= len(slow.calls) <= 4
        assert any("slow cannot be told" in x["msg"] and "timed out" in x["msg"].lower() for x in log(platform)), log(platform)
        (pid,) = platform.pids("simbdp-webhook")
        settle(platform)
        until(lambda: len(slow.calls) > len(dropped) + 1, platform.path / "logs", what="a call that hangs")
        platform.down()
        assert platform.pids("simbdp-webhook") == [] and not os.path.exists(f"/proc/{pid}")


def test_a_receiver_shows_who_it_is(platform):
    key, cert = platform.base / "key.pem", platform.base / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=here", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(cert, key)
    with Receiver(tls=tls) as r, contextlib.ExitStack() as at_end:
        settings(platform, [alert("many", "ready > 5"), alert("more", "ready > 6", 'webhook = "known";')], [webhook(r), webhook(r, f'ca_file = "{cert}";', "known")])
        configure(platform, 'app = "idle"; stream = "events";')
        at_end.callback(platform.down)
        platform.up()
        publish(platform)
        until(lambda: r.alerts() == [("more", "idle", "firing")], platform.path / "logs", what="who is vouched for")
        until(lambda: any("ops cannot be told" in x["msg"] and "certificate" in x["msg"] for x in log(platform)), platform.path / "logs", what="who is not")
        assert r.alerts() == [("more", "idle", "firing")]
