"""Tenants on the provider's machine, by their own uid: the read verbs and retry, through desk.sock."""
import contextlib
import datetime
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess

import pytest

from harness import until

pytestmark = pytest.mark.needs_root
FAILS = "#!/bin/sh\nprintf 'first\\033[31m\\n'\necho second\nexit 3\n"


def uid_of(home, tenant):
    return next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == tenant)


@pytest.fixture
def home(make_home):
    home = make_home()
    home.tenant("acme")
    home.tenant("beta", exec_="fails", retry="attempts = 1;")
    (home.base / "fails").write_text(FAILS)
    home.install("beta", home.base / "fails")
    home.up()
    home.uid = {t: uid_of(home, t) for t in ("acme", "beta")}
    return home


def user(home, tenant, *args, check=True, uid=None):
    uid = uid or home.uid[tenant]
    r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", home.program("mysimbdp"), *map(str, args)], env=home.env,
                       capture_output=True, timeout=120, check=False)
    assert not check or r.returncode == 0, (args, r)
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def provider(home, *args):
    r = home.cli(*args, check=False)
    return r.returncode, r.stdout, r.stderr


@contextlib.contextmanager
def as_uid(uid):
    """The credentials that a socket connects with are the effective ones."""
    os.setegid(uid)
    os.seteuid(uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


def connect(home, uid):
    path = str(pathlib.Path(home.socket_path()).with_name("desk.sock"))
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(30)
    with as_uid(uid):
        s.connect(path)
    return s


def answer(s):
    """Head and body."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := s.recv(65536):
            data += chunk
    head, _, body = data.partition(b"\n")
    return (json.loads(head), body) if head else None


def ask(home, uid, line):
    with connect(home, uid) as s:
        with contextlib.suppress(BrokenPipeError):
            s.sendall(line if isinstance(line, bytes) else json.dumps(line).encode() + b"\n")
        return answer(s)


def short(file_id):
    """As tables may show it; ids that were made together differ at their end."""
    return f"{file_id[:4]}..{file_id[-3:]}"


def deliver(home):
    """Of acme one that is stored, with a rejected row, and one that is refused; of beta one that fails."""
    home.drop("x.csv", "a,b\n1,2\n3\n")
    home.drop("y.csv", "")
    home.drop("z.csv", "a,b\n1,2\n", tenant="beta")
    return {f["file_name"]: f for f in home.wait_files(3)}


def test_the_same_output_as_the_providers(home):
    f = deliver(home)
    x, z = f["x.csv"]["file_id"], f["z.csv"]["file_id"]
    assert [f[n]["state"] for n in ("x.csv", "y.csv", "z.csv")] == ["ingested", "rejected", "quarantined"]
    run = home.rows("runs", "--file", z)[0]["run_id"]
    for more in ([], ["--json"]):
        for tenant, verb in (("acme", "files"), ("acme", "runs"), ("beta", "files"), ("beta", "runs")):
            of_provider = provider(home, verb, "--tenant", tenant, *more)
            assert of_provider[1] and user(home, tenant, verb, *more) == user(home, tenant, verb, "--tenant", tenant, *more) == of_provider
        for args in (["files", x], ["files", short(x)], ["files", "--state", "rejected", "--tenant", "acme"], ["files", "--dataset", "data", "--tenant", "acme"],
                     ["files", "--limit", "1", "--tenant", "acme"], ["files", "--since", "1h", "--tenant", "acme"], ["runs", "--file", x], ["rejects", x]):
            of_provider = provider(home, *args, *more)
            assert of_provider[1] and user(home, "acme", *args, *more) == of_provider, args
        assert user(home, "beta", "runs", run, *more) == provider(home, "runs", run, *more)
    assert user(home, "beta", "logs", run) == provider(home, "logs", run) == (0, "first\\x1b[31m\nsecond\n", "")
    assert user(home, "beta", "logs", "-f", "--raw", run)[1] == "first\x1b[31m\nsecond\n"
    assert user(home, "acme", "files", "--state", "running") == (0, "", "no files like this\n")
    assert user(home, "acme", "files", "--state", "nosuch", check=False)[0] == 2


def test_retry_is_for_ones_own_files(home):
    f = deliver(home)
    z = f["z.csv"]["file_id"]
    code, _, err = user(home, "acme", "retry", z, check=False)
    assert code == 1 and z in err
    assert user(home, "acme", "retry", "--tenant", "beta", check=False) == (1, "", "mysimbdp retry: there is no tenant beta\n")
    assert len(home.rows("runs", "--file", z)) == 1
    user(home, "beta", "retry", z)
    until(lambda: len([r for r in home.rows("runs", "--file", z) if r["state"] == "ended"]) == 2, home.path / "state", what="the second run")
    until(lambda: home.rows("files", z)[0]["state"] == "quarantined", home.path / "state", what="its end")
    assert user(home, "beta", "retry", "--tenant", "beta")[1] == "1 file is tried again\n"
    until(lambda: len([r for r in home.rows("runs", "--file", z) if r["state"] == "ended"]) == 3, home.path / "state", what="the third run")


def test_nothing_of_another_tenants_and_nothing_of_the_providers(home):
    f = deliver(home)
    x, run = f["x.csv"]["file_id"], f["x.csv"]["run_id"]
    for args in (["files", x], ["files", short(x)], ["runs", run], ["logs", run], ["rejects", x]):
        code, out, err = user(home, "beta", *args, check=False)
        assert (code, out) == (1, "") and "y.csv" not in err, args
    assert user(home, "beta", "runs", "--file", x, check=False)[1] == ""
    assert user(home, "beta", "files", "--tenant", "acme", check=False) == (1, "", "mysimbdp files: there is no tenant acme\n")
    assert user(home, "beta", "files", "--tenant", "nosuch", check=False) == (1, "", "mysimbdp files: there is no tenant nosuch\n")
    for args in (["status"], ["tenant", "list"], ["stop", run], ["down"], ["upload", "acme", "data", "/etc/hostname"], ["stats"], ["check"], ["up"]):
        code, out, err = user(home, "beta", *args, check=False)
        assert (code, out) == (1, "") and "this verb is the provider's" in err, (args, err)
    code, out, err = user(home, "beta", "files", check=False, uid=65534)
    assert (code, out) == (1, "") and "neither" in err
    for op in ("versions", "configuration", "events", "stop", "upload_check", "status", "drain", ""):
        assert ask(home, home.uid["acme"], {"op": op, "params": {}, "run_id": run})[0]["status"] == 403


def test_what_is_agreed_used_and_paid(home):
    deliver(home)
    month = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m")
    agreed, = [json.loads(line) for line in user(home, "acme", "agreement", "--json")[1].splitlines()]
    assert agreed["tenant_id"] == "acme" and [d["dataset"] for d in agreed["datasets"]] == ["data"]
    assert "dataset data" in user(home, "acme", "agreement")[1]
    used = json.loads(user(home, "acme", "usage", "--json")[1])
    assert (used["tenant_id"], used["files_today"]["used"]) == ("acme", 1), "what was refused does not count"
    assert "files_today" in user(home, "acme", "usage")[1]
    bill = json.loads(user(home, "beta", "bill", month, "--json")[1])
    assert (bill["tenant_id"], bill["month"], bill["files"]) == ("beta", month, 1)
    assert "files" in user(home, "beta", "bill", month)[1]
    assert user(home, "beta", "bill", "soon", check=False)[0] == 1
    assert ask(home, home.uid["beta"], {"op": "bill", "tenant_id": "acme", "params": {"month": month}})[0]["status"] == 404
    code, _, err = provider(home, "usage")
    assert code == 1 and "for a tenant" in err
    line, = [x for x in home.cli("status").stdout.splitlines() if x.startswith("desk:")]
    assert f"pid {home.pids('desk')[0]}," in line and " served, 0 refused" in line, line
    assert user(home, "acme", "files", check=False, uid=65534)[0] == 1
    assert " 1 refused" in home.cli("status").stdout


def test_a_run_is_not_served(make_home):
    home = make_home()
    (home.base / "asks").write_text("#!/usr/bin/python3\nimport os, socket\ns = socket.socket(socket.AF_UNIX)\n"
                                    "s.connect(os.path.dirname(os.environ['ZMQ_MONITOR_ENDPOINT'][6:]) + '/desk.sock')\n"
                                    "print(s.recv(1000))\n")  # it is told without having been heard
    home.tenant(exec_="asks", retry="attempts = 1;")
    home.install("acme", home.base / "asks")
    home.up()
    home.drop("x.csv", "a\n1\n")
    run = home.wait_file()["run_id"]
    assert '"status":403,"code":"stranger"' in home.cli("logs", run).stdout


def test_whatever_is_sent_others_are_served(home):
    acme, beta = home.uid["acme"], home.uid["beta"]
    pid, = home.pids("desk")
    for line in (b"\n", b"{}\n", b"[]\n", b"\0" * 100 + b"\n", b"{" * 60000 + b"\n", b'{"a":' * 9000 + b"1" + b"}" * 9000 + b"\n", b"x" * (1 << 20), b'{"op":7}\n',
                 b'{"op":"files","params":[]}\n', b'{"op":"files","params":{"limit":1e300}}\n', b'{"op":"files","params":{"nosuch":1}}\n',
                 b'{"op":"log","params":{"run_id":"../../../etc/passwd"}}\n', b'{"op":"ids","params":{"of":"file","begin":"%%%%%%"}}\n',
                 b'{"op":"retry","file_id":"../x"}\n', b'{"op":"retry","file_id":7,"tenant_id":"beta"}\n'):
        got = ask(home, acme, line)
        assert got is None or got[0]["status"] in (200, 400, 403, 404), (line[:50], got)
    until(lambda: not pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text(), what="the end of all that was asked")
    held = [connect(home, acme) for _ in range(4)]
    assert ask(home, acme, {"op": "files"})[0] == {"status": 503, "code": "busy", "bytes": 0}
    assert ask(home, beta, {"op": "files"})[0]["status"] == 200
    for s in held:
        s.close()
    until(lambda: ask(home, acme, {"op": "files"})[0]["status"] == 200, what="a free place")
    for _ in range(300):  # it is gone before it is looked at
        s = connect(home, acme)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()
    until(lambda: ask(home, acme, {"op": "files"})[0]["status"] == 200, what="a free place")
    assert home.pids("desk")[0] == pid


def test_a_desk_that_is_killed_is_there_again(home):
    deliver(home)
    home.kill("desk")
    until(lambda: user(home, "acme", "files", check=False)[0] == 0, home.path / "state", what="the next desk")
    batchmgr = home.batchmgr_pid()
    os.kill(batchmgr, signal.SIGSTOP)
    try:
        assert len(user(home, "acme", "files", "--json")[1].splitlines()) == 2  # nobody else is needed for that
    finally:
        os.kill(batchmgr, signal.SIGCONT)
