"""Users, tokens and the audit log, by the command line. Hashes are checked with hashlib and libsodium itself; nothing of the platform
has to run, but where a tenant is purged."""
import base64
import ctypes
import hashlib
import json
import os
import pty
import pwd
import re
import select
import signal
import sqlite3
import subprocess
import termios
import time

import pytest
from harness import until

ME = pwd.getpwuid(os.getuid()).pw_name
PASSWORD = "correct horse battery"
USER_KEYS = "name role tenant_id state tokens created_at password_at disabled_at".split()
TOKEN_KEYS = "user created_at token_id tenant_id state verbs datasets expires_at used_at used_from revoked_at note".split()
AUDIT_KEYS = "seq ts who from what tenant_id subject outcome prev hash".split()
TOKEN = re.compile(r"sbt_([0-9a-z]{12})_([A-Za-z0-9_-]{43})\n")


def is_password(home, user, password):
    """By libsodium, of what the database keeps."""
    sodium = ctypes.CDLL("libsodium.so.23")
    assert sodium.sodium_init() >= 0
    db = sqlite3.connect(home.path / "state/accounts.db")
    ((kept,),) = db.execute("SELECT password FROM users WHERE name=?", (user,)).fetchall()
    db.close()
    assert kept.startswith("$argon2id$")
    text = password.encode()
    return sodium.crypto_pwhash_str_verify(kept.encode(), text, ctypes.c_ulonglong(len(text))) == 0


def add(home, name, *args, password=PASSWORD, **kw):
    return home.cli("user", "add", name, *args, input=password + "\n", **kw)


def audit(home, *args):
    return [(r["what"], r["tenant_id"], r["subject"], r["outcome"]) for r in home.rows("audit", *args)]


def refused(r, *words, code=1):
    assert r.returncode == code and all(w in r.stderr for w in words) and not r.stdout, r


@pytest.mark.anyone
def test_init_makes_an_operator(home, tmp_path):
    out = home.cli("init", tmp_path / "fresh").stdout
    (password,) = re.findall(r"the user operator has the password ([0-9a-z]{26}), not shown again; `mysimbdp user passwd operator`", out)
    home.path = tmp_path / "fresh"
    home.env["MYSIMBDP_HOME"] = str(home.path)
    (user,) = home.rows("user", "list")
    assert list(user) == USER_KEYS and (user["name"], user["role"], user["tenant_id"], user["state"]) == ("operator", "operator", None, "active")
    assert is_password(home, "operator", password) and not is_password(home, "operator", password[:-1])
    assert audit(home) == [("init", None, "operator", "ok")]
    assert {oct((home.path / p).stat().st_mode & 0o7777) for p in ("state/accounts.db", "keys/gateway.ticket", "logs/audit.jsonl", "state/audit.head")} == {"0o600"}
    assert home.cli("init", home.path, check=False).returncode == 1 and len(home.rows("user", "list")) == 1


@pytest.mark.anyone
def test_users(home):
    home.tenant()
    assert add(home, "ann", "--role", "tenant-writer", "--tenant", "acme").stdout == "user ann: tenant-writer of acme\n"
    assert is_password(home, "ann", PASSWORD)
    secret = home.base / "secret"
    secret.write_text("another password\n")
    assert home.cli("user", "add", "bob", "--role=operator", "--password-file", secret).stdout == "user bob: operator\n"
    assert [(u["name"], u["role"], u["tenant_id"]) for u in home.rows("user", "list")] == [
        ("ann", "tenant-writer", "acme"), ("bob", "operator", None), ("operator", "operator", None)]
    assert "tenant-writer" in home.cli("user", "list").stdout
    home.cli("user", "passwd", "ann", "--password-file", secret)
    assert is_password(home, "ann", "another password") and is_password(home, "bob", "another password")
    home.cli("user", "passwd", "ann", input=PASSWORD)  # without an end of line
    assert is_password(home, "ann", PASSWORD)
    home.cli("user", "disable", "ann")
    assert [u["state"] for u in home.rows("user", "list")] == ["disabled", "active", "active"]
    home.cli("user", "enable", "ann")
    home.cli("user", "remove", "bob")
    assert [u["state"] for u in home.rows("user", "list")] == ["active", "active"]
    assert audit(home)[1:] == [("user_add", "acme", "ann", "ok"), ("user_add", None, "bob", "ok"), ("user_passwd", "acme", "ann", "ok"), ("user_passwd", "acme", "ann", "ok"),
                               ("user_disable", "acme", "ann", "ok"), ("user_enable", "acme", "ann", "ok"), ("user_remove", None, "bob", "ok")]


@pytest.mark.anyone
def test_a_role_is_changed(home):
    home.tenant()
    add(home, "ann", "--role", "tenant-deployer", "--tenant", "acme")
    home.cli("user", "role", "ann", "--role", "tenant-reader")
    assert [u["role"] for u in home.rows("user", "list")] == ["tenant-reader", "operator"]
    refused(home.cli("user", "role", "ann", "--role", "operator", check=False), "remove the user and add another one")
    refused(home.cli("user", "role", "operator", "--role", "tenant-reader", check=False), "remove the user and add another one")
    refused(home.cli("user", "role", "nobody", "--role", "tenant-reader", check=False), "no user nobody")
    assert home.cli("user", "role", "ann", check=False).returncode == 2 and home.cli("user", "passwd", "ann", "--role", "operator", check=False).returncode == 2
    assert [(what, subject, outcome) for what, _, subject, outcome in audit(home)[2:]] == [
        ("user_role", "ann", "ok"), ("user_role", "ann", "refused"), ("user_role", "operator", "refused"), ("user_role", "nobody", "not_found")]


@pytest.mark.anyone
def test_users_that_there_cannot_be(home):
    home.tenant()
    add(home, "ann", "--role", "operator")
    before = home.rows("user", "list")
    writer = ("--role", "tenant-writer", "--tenant")
    long = home.base / "long"
    long.write_text("x" * 5000)
    refused(add(home, "ann", "--role", "operator", check=False), "the user ann exists")
    refused(add(home, "Ann", "--role", "operator", check=False), '"Ann" is no user\'s name')
    refused(add(home, "bob", "--role", "operator", "--tenant", "acme", check=False), "leave out the tenant")
    refused(add(home, "bob", "--role", "tenant-reader", check=False), "say which")
    refused(add(home, "bob", *writer, "acem", check=False), "no tenant acem")
    refused(add(home, "bob", *writer, "../acme", check=False), "no tenant")
    for password, why in ("12345678901", "12 characters"), ("ä" * 11, "12 characters"), ("", "12 characters"), ("two lines\nof text", "one line"), ("hidden\0behind it", "one line"):
        refused(add(home, "bob", *writer, "acme", password=password, check=False), why)
    refused(home.cli("user", "add", "bob", *writer, "acme", "--password-file", long, check=False), "at most 1024 bytes")
    refused(home.cli("user", "add", "bob", *writer, "acme", "--password-file", home.base / "none", check=False), "No such file")
    for verb in "disable", "enable", "remove", "passwd":
        refused(home.cli("user", verb, "nobody", input=PASSWORD, check=False), "no user nobody")
    assert home.rows("user", "list") == before
    outcomes = [(what, subject, outcome) for what, _, subject, outcome in audit(home)[2:]]
    assert outcomes[:4] == [("user_add", "ann", "exists"), ("user_add", "Ann", "refused"), ("user_add", "bob", "refused"), ("user_add", "bob", "refused")]
    assert outcomes[-4:] == [(f"user_{v}", "nobody", "not_found") for v in ("disable", "enable", "remove", "passwd")] and ("user_add", "bob", "failed") in outcomes


@pytest.mark.anyone
def test_words_that_are_none(home):
    for args, words in ((["user"], "too few"), (["user", "ad", "x"], "unknown: ad"), (["user", "add", "x"], "add takes --role"), (["user", "list", "x"], "wrong number"),
                        (["user", "add", "x", "--role", "operater"], "did you mean 'operator'?"), (["user", "enable", "x", "--role", "operator"], "--role is not for enable"),
                        (["user", "passwd", "x", "--tenant", "acme"], "--tenant is not for passwd"), (["user", "remove", "x", "--password-file", "y"], "--password-file is not for remove"),
                        (["user", "remove"], "wrong number"), (["user", "list", "--nonsense"], "unknown option"), (["token"], "too few"), (["token", "ad", "x"], "unknown: ad"),
                        (["token", "add"], "wrong number"), (["token", "add", "x", "--verbs", "read,uplod"], "did you mean 'upload'?"), (["token", "add", "x", "--verbs", ","], "names none"),
                        (["token", "add", "x", "--expires", "soon"], "is no time"), (["token", "list", "x", "--note", "y"], "are for add"), (["audit", "x"], "too many"),
                        (["audit", "--verify", "--since", "1d"], "all records"), (["audit", "--since", "soon"], "is no time"), (["audit", "--limit", "x"], "no number")):
        refused(home.cli(*args, check=False), words, code=2)
    for verb in "user", "token", "audit":
        assert home.cli(verb, "--help").stdout.startswith(f"usage: mysimbdp {verb}")
    assert len(audit(home)) == 1


class Typist:
    """Somebody at a terminal."""

    def __init__(self, home, *args):
        self.fd, self.slave = pty.openpty()
        self.process = subprocess.Popen([*home.as_user, home.program("mysimbdp"), *args], env=home.env, stdin=self.slave, stdout=self.slave, stderr=self.slave,
                                        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # who runs us in the background has it ignored
        self.shown = ""

    def until(self, text):
        while text not in self.shown:
            assert select.select([self.fd], [], [], 60)[0], self.shown
            self.shown += os.read(self.fd, 4096).decode()

    def type(self, text):
        os.write(self.fd, text.encode())

    def end(self):
        code = self.process.wait(timeout=60)
        while select.select([self.fd], [], [], 0)[0]:
            self.shown += os.read(self.fd, 4096).decode()
        echoes = bool(termios.tcgetattr(self.slave)[3] & termios.ECHO)
        os.close(self.fd)
        os.close(self.slave)
        return code, self.shown, echoes


@pytest.mark.anyone
def test_a_password_is_typed_unseen(home):
    t = Typist(home, "user", "add", "ann", "--role", "operator")
    t.until("password of ann, at least 12 characters: ")
    t.type(PASSWORD + "\n")
    t.until("again: ")
    t.type(PASSWORD + "\n")
    code, shown, echoes = t.end()
    assert code == 0 and PASSWORD not in shown and "user ann: operator" in shown and echoes and is_password(home, "ann", PASSWORD)
    t = Typist(home, "user", "passwd", "ann")
    t.until(": ")
    t.type("the first password\n")
    t.until("again: ")
    t.type("the other password\n")
    code, shown, echoes = t.end()
    assert code == 1 and "two passwords" in shown and echoes and is_password(home, "ann", PASSWORD)
    t = Typist(home, "user", "passwd", "ann")
    t.until(": ")
    assert not termios.tcgetattr(t.slave)[3] & termios.ECHO
    t.process.send_signal(signal.SIGINT)
    code, shown, echoes = t.end()
    assert code == -signal.SIGINT and echoes
    t = Typist(home, "user", "passwd", "nobody")  # who is not asked
    code, shown, echoes = t.end()
    assert code == 1 and "password of" not in shown


@pytest.mark.anyone
def test_tokens(home):
    home.tenant()
    add(home, "ann", "--role", "tenant-writer", "--tenant", "acme")
    r = home.cli("token", "add", "ann", "--verbs", "read,upload", "--datasets", "data", "--expires", "30d", "--note", "nightly job")
    token_id, secret = TOKEN.fullmatch(r.stdout).groups()
    assert r.stderr.startswith(f"token {token_id} of ann, until 20") and "not shown again" in r.stderr and secret not in r.stderr
    (row,) = home.rows("token", "list")
    assert list(row) == TOKEN_KEYS
    assert {k: row[k] for k in ("user", "token_id", "tenant_id", "state", "verbs", "datasets", "used_at", "revoked_at", "note")} == {
        "user": "ann", "token_id": token_id, "tenant_id": "acme", "state": "active", "verbs": ["read", "upload"], "datasets": ["data"], "used_at": None, "revoked_at": None, "note": "nightly job"}
    assert 29.9 * 86400 < time.mktime(time.strptime(row["expires_at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.mktime(time.strptime(row["created_at"][:19], "%Y-%m-%dT%H:%M:%S")) < 30.1 * 86400
    db = sqlite3.connect(home.path / "state/accounts.db")
    assert db.execute("SELECT secret FROM tokens").fetchall() == [(hashlib.blake2b(base64.urlsafe_b64decode(secret + "="), digest_size=32).digest(),)]
    db.close()
    (other,) = home.rows("token", "add", "operator")
    assert list(other) == ["token_id", "token", "expires_at"] and other["expires_at"] is None and other["token"].split("_")[1] == other["token_id"]
    assert [t["token_id"] for t in home.rows("token", "list", "ann")] == [token_id] and len(home.rows("token", "list")) == 2
    assert [u["tokens"] for u in home.rows("user", "list")] == [1, 1]
    home.cli("token", "revoke", token_id)
    home.cli("token", "revoke", other["token"])  # who found one has no more than its text
    assert [t["state"] for t in home.rows("token", "list")] == ["revoked"] * 2 and [u["tokens"] for u in home.rows("user", "list")] == [0, 0]
    assert audit(home)[2:] == [("token_add", "acme", f"{token_id} of ann", "ok"), ("token_add", None, f"{other['token_id']} of operator", "ok"),
                               ("token_revoke", "acme", f"{token_id} of ann", "ok"), ("token_revoke", None, f"{other['token_id']} of operator", "ok")]
    home.cli("user", "remove", "ann")
    assert [t["token_id"] for t in home.rows("token", "list")] == [other["token_id"]]
    for path in home.path.rglob("*"):  # a secret is nowhere
        assert not path.is_file() or not {secret.encode(), other["token"].encode()} & {m for m in (secret.encode(), other["token"].encode()) if m in path.read_bytes()}, path


@pytest.mark.anyone
def test_tokens_that_there_cannot_be(home):
    home.tenant()
    add(home, "ann", "--role", "tenant-reader", "--tenant", "acme")
    refused(home.cli("token", "add", "nobody", check=False), "no user nobody")
    refused(home.cli("token", "add", "ann", "--verbs", "read,upload", check=False), "tenant-reader, does not allow: upload")
    refused(home.cli("token", "add", "ann", "--datasets", "dta", check=False), "no dataset dta", "did you mean 'data'?")
    refused(home.cli("token", "add", "ann", "--expires", "2020-01-01", check=False), "expired already")
    refused(home.cli("token", "add", "ann", "--note", "x" * 201, check=False), "at most 200 bytes")
    refused(home.cli("token", "revoke", "nosuchtoken", check=False), "no token nosuchtoken")
    refused(home.cli("token", "revoke", "some secret that was pasted here", check=False), "no token")
    refused(home.cli("token", "list", "nobody", check=False), "no user nobody")
    assert home.rows("token", "list") == [] and home.cli("token", "list").stderr == "no tokens\n"
    assert audit(home)[2:] == [("token_add", None, "nobody", "not_found"), *[("token_add", "acme", "ann", "refused")] * 4, ("token_revoke", None, "nosuchtoken", "not_found"),
                               ("token_revoke", None, None, "not_found")]


@pytest.mark.anyone
def test_the_audit_log(home):
    home.tenant()
    add(home, "ann", "--role", "tenant-writer", "--tenant", "acme")
    home.cli("token", "add", "ann", "--note", "x")
    rows = home.rows("audit")
    assert [list(r) for r in rows] == [AUDIT_KEYS] * 3 and [r["seq"] for r in rows] == [1, 2, 3] and {(r["who"], r["from"]) for r in rows} == {(ME, "local")}
    log = home.path / "logs/audit.jsonl"
    lines = log.read_text().splitlines()
    prev = "0" * 64
    for line in lines:  # by another program than wrote it
        text, found = line[:-75], json.loads(line)
        assert line == f'{text},"hash":"{found["hash"]}"}}' and found["prev"] == prev
        prev = hashlib.blake2b(text.encode(), digest_size=32).hexdigest()
        assert prev == found["hash"]
    assert home.cli("audit", "--verify").stdout == f"3 records, none is missing or was changed; the head: 3 {prev}\n"
    assert home.rows("audit", "--verify") == [{"ok": True, "records": 3, "first": 1, "head": {"seq": 3, "hash": prev}}]
    assert audit(home, "--tenant", "acme") == audit(home)[1:] and audit(home, "--since", "2099-01-01") == [] and audit(home, "--since", "1h") == audit(home)
    assert [r["seq"] for r in home.rows("audit", "--limit", "2")] == [2, 3]
    r = home.cli("audit", "--limit", "1")
    assert "token_add" in r.stdout and "user_add" not in r.stdout and "newest 1" in r.stderr
    assert "user_add" in home.cli("audit").stdout and "no records like this" in home.cli("audit", "--tenant", "other").stderr
    for change, why in ((lines[:1] + lines[2:], "1 are missing"), (lines[:2], "1 behind it are missing"), ([lines[0], lines[1].replace('"ok"', '"no"'), lines[2]], "was changed"), ([], "3 behind it")):
        log.write_text("".join(f"{line}\n" for line in change))
        refused(home.cli("audit", "--verify", check=False), why)
        told = json.loads(home.cli("audit", "--verify", "--json", check=False).stdout)
        assert not told["ok"] and why in told["error"]
    log.write_text("".join(f"{line}\n" for line in lines) + '{"seq":4,"ts"')  # as a crash leaves it
    home.cli("audit", "--verify")
    assert len(audit(home)) == 3 and "1 lines are no records" in home.cli("audit").stderr
    home.cli("user", "disable", "ann")
    assert audit(home)[3][0] == "audit_cut" and audit(home)[4][0] == "user_disable" and "5 records" in home.cli("audit", "--verify").stdout


@pytest.mark.anyone
def test_what_cannot_be_recorded_is_not_done(home):
    before = home.rows("user", "list")
    log = home.path / "logs/audit.jsonl"
    log.unlink()
    log.mkdir()
    refused(add(home, "ann", "--role", "operator", check=False), "nothing was changed, since it cannot be recorded", "audit.jsonl")
    refused(home.cli("user", "remove", "operator", check=False), "nothing was changed")
    refused(home.cli("token", "add", "operator", check=False), "nothing was changed")
    assert home.rows("user", "list") == before


@pytest.mark.anyone
def test_many_at_once(home):
    """Each is there, and so is its record."""
    running = [subprocess.Popen([*home.as_user, home.program("mysimbdp"), "user", "add", f"user{i}", "--role", "operator"], env=home.env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
               for i in range(6)]
    for p in running:
        p.stdin.write(PASSWORD.encode())
        p.stdin.close()
    assert [p.wait(timeout=60) for p in running] == [0] * 6
    assert len(home.rows("user", "list")) == 7
    assert sorted(subject for what, _, subject, _ in audit(home) if what == "user_add") == [f"user{i}" for i in range(6)]
    assert "7 records" in home.cli("audit", "--verify").stdout


def test_a_tenant_takes_its_users_along(home):
    home.tenant("gone")
    home.tenant("stays")
    for name, tenant in ("ann", "gone"), ("bob", "gone"), ("cat", "stays"):
        add(home, name, "--role", "tenant-reader", "--tenant", tenant)
        home.cli("token", "add", name)
    r = home.cli("tenant", "remove", "gone", "--purge", check=False)
    assert r.returncode == 1 and len(home.rows("user", "list")) == 4  # nothing runs: nothing was begun
    home.up()
    home.cli("tenant", "remove", "gone", "--purge")
    assert [u["name"] for u in home.rows("user", "list")] == ["cat", "operator"] and [t["user"] for t in home.rows("token", "list")] == ["cat"]
    assert audit(home)[-1] == ("tenant_purge", "gone", "2 users", "ok") and home.rows("audit")[-1]["who"] == ME
    refused(add(home, "dan", "--role", "tenant-reader", "--tenant", "gone", check=False), "tenant gone was removed")


def test_a_purge_that_is_cut_short_leaves_no_users(home):
    """batchmgr goes on with it by itself; a later tenant of that name must not have them."""
    home.tenant("gone")
    add(home, "ann", "--role", "tenant-reader", "--tenant", "gone")
    home.up(SIMBDP_CRASH_AT="purge_files", SIMBDP_CRASH_ONCE=str(home.base / "crashed"))
    r = home.cli("tenant", "remove", "gone", "--purge", check=False)
    assert r.returncode == 1 and (home.base / "crashed").exists()
    assert [u["name"] for u in home.rows("user", "list")] == ["operator"] and audit(home)[-1] == ("tenant_purge", "gone", "1 user", "begun")
    until(lambda: not (home.path / "conf/tenants/gone.conf").exists(), home.path / "conf/tenants", what="the rest to go")


@pytest.mark.anyone
def test_a_new_tenant_has_no_earlier_ones_users(home):
    home.tenant("gone")
    add(home, "ann", "--role", "tenant-reader", "--tenant", "gone")
    conf = home.path / "conf/tenants/gone.conf"
    aside = conf.with_name("gone.conf.removed")
    conf.rename(aside)
    assert home.cli("tenant", "add", "gone").returncode == 0 and len(home.rows("user", "list")) == 2  # it is the same one
    conf.unlink()
    aside.unlink()
    home.cli("tenant", "add", "gone")
    assert [u["name"] for u in home.rows("user", "list")] == ["operator"] and audit(home)[-1] == ("tenant_add", "gone", "1 user", "users_removed")
