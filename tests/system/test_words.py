"""What people read: reasons in words, the last words of an app, and how far an upload is."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios

import pytest

from harness import BUILD, IS_ROOT, json_lines, until

pytestmark = pytest.mark.once


class Terminal:
    """A command whose stderr (and stdout, if `both`) is a terminal of that width."""

    def __init__(self, home, *args, columns=80, both=False):
        self.fd, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        # Where the tests run in the background their children would ignore SIGINT, and without a TERM there are no colours.
        self.process = subprocess.Popen([BUILD / "mysimbdp", *map(str, args)], env={"TERM": "xterm", **home.env}, stdout=slave if both else subprocess.PIPE,
                                        stderr=slave, text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
        os.close(slave)
        self.shown = ""

    def read(self, seconds):
        try:
            if select.select([self.fd], [], [], seconds)[0]:
                self.shown += os.read(self.fd, 65536).decode(errors="replace")
                return True
        except OSError:  # nobody has the other end any more
            pass
        return False

    def until(self, pattern):
        until(lambda: self.read(0.05) and False or re.search(pattern, self.shown), every=0.01, what=lambda: f"{pattern}: {self.shown[-400:]!r}")

    def end(self):
        """The exit code and what it printed on stdout (with `both`: on the terminal)."""
        out = self.process.stdout.read() if self.process.stdout else None
        while self.process.poll() is None or self.read(0):
            self.read(0.05)
        if self.process.stdout:
            self.process.stdout.close()
        os.close(self.fd)
        return self.process.returncode, self.shown.replace("\r\n", "\n") if out is None else out


def test_what_an_app_printed_last_is_in_the_detail(home):
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    home.do("complain,Traceback:", "print,not this", "complain,KeyError: 'price'", "exit,1", name="a.csv")
    f = home.wait_file(file_name="a.csv")
    assert f["reason"] == "failed" and f["detail"].endswith("failed, exit code 1: it printed last: KeyError: 'price'"), f["detail"]
    assert home.rows("runs")[0]["error"] == "it printed last: KeyError: 'price'"
    home.do("complain,only a warning", name="b.csv")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested" and home.rows("runs")[1]["error"] is None
    home.tenant(apps='{ app = "rows"; exec = "misbehave"; output = "stdout"; retry = { attempts = 1; }; }')
    home.reload()
    home.do("complain,why", "rows,3", "exit,1", name="c.csv")
    assert home.wait_file(file_name="c.csv")["detail"].endswith(": it printed last: why")


def test_rows_that_were_not_stored_are_told_everywhere(home):
    home.tenant(limits="max_rows = 6;")
    home.up()
    x = home.base / "x.csv"
    x.write_text("a,b\n1,2\n3\n4\n5\n6\n7,8\n")
    r = home.cli("upload", "acme", "data", x, "--wait")
    (f,) = home.files()
    assert r.stdout == f"{f['file_id']} ingested: 2 rows, 4 rejected\n" and "\r" not in r.stderr
    assert f["detail"] == f"2 rows, 4 rejected; `mysimbdp rejects {f['file_id']}` lists them" and "2 rows, 4 rejected\n" in home.cli("files").stdout
    assert json_lines(home.path / "logs/tenants/acme/ingest.jsonl")[0]["detail"] == f["detail"]
    x.write_text("a,b\n1,2\n")
    assert home.cli("upload", "acme", "data", x, "--wait").stdout.endswith(" ingested: 1 rows\n")


def test_upload_waits_and_says_how_it_went(home):
    home.tenant(exec_="misbehave", retry="attempts = 1;", limits="max_rows = 3;")
    home.up()
    x = home.base / "x.csv"
    for text, code, words in (("do,arg\nexit,1\n", 1, r"quarantined: the app failed: run \w+, attempt 1: failed, exit code 1"), ("do,arg\nprint,a\n", 0, "ingested"),
                              ("do,arg\nprint,a\n", 0, r"duplicate: same content as file \w+"), ("do,arg\n" + "print,a\n" * 4, 1, "rejected: max_rows: more than 3 rows")):
        x.write_text(text)
        r = home.cli("upload", "acme", "data", x, "--wait", check=False)
        assert r.returncode == code and re.fullmatch(rf"\w+ {words}\n", r.stdout), r
    x.write_text("do,arg\nexit,2\n")
    (answer,) = [r for r in [home.cli("upload", "acme", "data", x, "--wait", "--json", check=False)] if r.returncode == 1]
    f = home.files()[-1]
    assert [f[k] for k in ("file_id", "file_name", "state", "reason", "detail", "rows_loaded", "rows_rejected")] == list(json.loads(answer.stdout).values())


def test_upload_shows_the_whole_way(home):
    home.tenant(exec_="misbehave")
    home.up()
    gates = [home.base / f"gate{i}" for i in range(2)]
    x = home.base / "x.csv"
    x.write_text('do,arg\ngate,{}\nresult,{{"rows_loaded":2,"rows_rejected":1}}\ngate,{}\nprint,a\n'.format(*gates))
    t = Terminal(home, "upload", "acme", "data", x, "--wait")
    t.until(r"\rx.csv: copying \[#{20}\] 100% 0.0 MB")
    t.until(r"\rx.csv: running app app \d+ s")
    gates[0].touch()
    t.until(r"\rx.csv: running app app \[#{15} {5}\]  75% 3 rows")
    gates[1].touch()
    code, out = t.end()
    assert code == 0 and re.fullmatch(r"\w+ ingested: 2 rows, 1 rejected\n", out), out
    assert t.shown.endswith(" \r") and "\n" not in t.shown and all(len(line) < 80 for line in t.shown.split("\r"))


def test_an_upload_that_waits_ends_with_the_platform(home):
    home.tenant(exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    x = home.base / "x.csv"
    x.write_text(f"do,arg\ngate,{gate}\n")
    t = Terminal(home, "upload", "acme", "data", x, "--wait")
    t.until("running app app")
    home.down()
    code, out = t.end()
    assert code == 1 and "the platform went down" in t.shown and "next `mysimbdp up`" in t.shown and not out
    home.up()
    gate.touch()
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_tables_fit_the_terminal(home):
    home.tenant("acme-of-the-long-name", exec_="misbehave", retry="attempts = 1;")
    home.up()
    for name in ("a.csv", 'quote"and\\tab\t.csv', "漢字" * 30 + ".csv"):
        home.do("complain," + "why it failed " * 9 + "END", "exit,1", name=name, tenant="acme-of-the-long-name")
    files = home.wait_files(3)
    for verb, full in (("files", "END"), ("runs", "END"), ("stats", "instance_s"), ("status", "acme-of-the-long-name"), ("tenant", "display_name"), ("app", ""), ("queue", ""), ("doctor", "unlimited")):
        args = [verb, "list"] if verb in ("tenant", "app", "queue") else [verb]
        for columns in (80, 60, 132):
            code, shown = Terminal(home, *args, columns=columns, both=True).end()
            shown = re.sub(r"\x1b\[\d+m", "", shown)  # colours, which take no room
            lines = shown.splitlines()
            wide = [line for line in lines if len(line) + sum(c in "漢字" for c in line) > columns]
            assert not wide or verb == "status" and all(": " in line for line in wide), (verb, columns, wide)
            if columns == 80 and verb in ("files", "runs"):
                assert "\\\"" not in shown and f"left out: " in lines[-1] + lines[-2] and [n for n in ("state", "outcome") if n in lines[0]], shown
                short = [line.split()[0] for line in lines[1:4]]  # which a verb takes as well
                assert all(10 <= len(i) <= 16 for i in short) and [home.rows(verb, i) for i in short] == [[row] for row in home.rows(verb)], shown
        piped = home.cli(*args, check=False).stdout
        assert full in piped and "\r" not in piped and "\x1b" not in piped and "left out" not in piped
    (run, *_) = home.rows("runs")
    assert home.rows("runs", "--file", files[0]["file_id"][:10] + ".." + files[0]["file_id"][-4:]) == home.rows("runs", "--file", files[0]["file_id"]) != []
    assert home.cli("logs", run["run_id"][:-1], check=False).stdout == home.cli("logs", run["run_id"]).stdout != ""
    same = files[0]["file_id"][:4]  # of this day
    for args in (["files", same], ["rejects", same], ["retry", same], ["logs", same], ["stop", same], ["runs", same]):
        r = home.cli(*args, check=False)
        assert r.returncode == 1 and f"several ids are like {same}" in r.stderr, r
    listing = home.cli("files").stdout
    assert 'quote"and\\tab\\x09.csv' in listing and all(f["file_id"] in listing for f in files)


def test_up_warns_of_what_doctor_would(home):
    home.tenant(apps='{ app = "gone"; exec = "not-there"; secrets = ( { name = "s"; file = "none"; } ); }')
    home.up()
    err = home.base / "up.err"
    until(lambda: f"mysimbdp up: warning: acme: gone: {home.path}/apps/acme/not-there: No such file or directory" in err.read_text() and
          f"mysimbdp up: warning: acme: secret s: {home.path}/keys/acme/none; put the file there" in err.read_text(), home.base, what=err.read_text)
    assert all(" warning: " in line for line in err.read_text().splitlines() if line.startswith("mysimbdp up")), err.read_text()


@pytest.mark.skipif(not IS_ROOT, reason="without root, runs have the home's uid")
@pytest.mark.parametrize("isolation", ["full", "basic"])
@pytest.mark.parametrize("exec_", ["builtin:load", "misbehave"])
def test_a_home_that_tenants_cannot_reach_charges_no_file(home, exec_, isolation):
    if isolation == "full" and not home.all_walls:
        pytest.skip("no walls here")
    home.profiles(isolation=isolation)
    home.tenant(exec_=exec_, retry="attempts = 1; backoff_ms = 20; max_backoff_ms = 100;")
    home.base.chmod(0o700)
    home.up()
    assert f"mysimbdp up: warning: tenants' apps cannot reach a home below {home.base} (mode 700)" in (home.base / "up.err").read_text()
    home.drop("x.csv", "do,arg\nprint,a\n")
    (f,) = until(lambda: len(home.rows("runs")) >= 3 and home.files(state="waiting"), home.path / "state", what=lambda: f"three tries: {home.files()}")
    assert (f["reason"], f["attempts"]) == ("not_started", 0) and f"{home.base} is closed to others; `chmod o+x {home.base}`" in f["detail"], f
    assert home.control({"op": "status"})["parked_apps"] == []
    home.base.chmod(0o755)
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1)


@pytest.mark.parametrize("first", ["#!/bin/sh", "#!/usr/bin/env sh"])
def test_crlf_in_a_script_is_named(home, first):
    home.tenant(exec_="dos.sh", retry="attempts = 1;")
    script = home.path / "apps/acme/dos.sh"
    script.write_bytes(f"{first}\r\necho hello\r\n".encode())
    script.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = until(lambda: next(iter(home.files(reason="exec_error") or home.files(reason="failed")), None), home.path / "state", what=lambda: home.files())
    assert "its lines end with CRLF" in f["detail"] and "sed -i 's/\\r$//'" in f["detail"], f
    r = home.cli("doctor", check=False)
    assert r.returncode == 1 and re.search(r"failed +reach +acme: app +its first line ends with CRLF", r.stdout) and f"`sed -i 's/\\r$//' {script}`" in r.stdout
    until(lambda: "warning: acme: app: its first line ends with CRLF" in (home.base / "up.err").read_text(), home.base, what="the warning")


def test_the_file_that_cannot_be_read_is_blamed(home):
    home.tenant(exec_="misbehave")
    home.up()
    home.down()
    for name, other in (("streams.db", "ledger.db"), ("ledger.db", "streams.db")):
        db = home.path / "state" / name
        whole = db.read_bytes()
        db.write_bytes(b"no database" * 1000)
        for verb in ("files", "runs", "stats"):
            r = home.cli(verb, check=False)
            assert r.returncode == 1 and f"state/{name}: " in r.stderr and other not in r.stderr, r
        db.write_bytes(whole)
    assert home.cli("files").returncode == 0


def test_check_finds_addresses_that_nothing_can_listen_on(home):
    conf = home.path / "conf/mysimbdp.conf"
    for listen, why in (("127.0.0.1:5555", '"127.0.0.1:5555" is not an address'), ("tcp://127.0.0.1", "is not an address"), ("300.1.1.1", "is not an address"), ("[::1", "is not an address"),
                        ("::zz", "is not an address"), ("192.0.2.77", 'nothing can listen on "192.0.2.77" of this host: '), ("no-such-host.invalid", "nothing can listen on")):
        conf.write_text(f'platform = {{ listen = "{listen}"; }};\n')
        r = home.cli("check", check=False)
        assert r.returncode == 1 and why in r.stderr and f"{conf}: key 'platform.listen': " in r.stderr, r
    for listen in ("127.0.0.1", "*", "localhost"):
        conf.write_text(f'platform = {{ listen = "{listen}"; }};\n')
        assert home.cli("check").stdout.startswith("ok: ")


@pytest.mark.parametrize("make, why", [
    ("mkdir d", "'d' in SIMBDP_OUTPUT_DIR is a directory; only regular files"),
    ("mkfifo p", "'p' in SIMBDP_OUTPUT_DIR is a pipe"),
    ("ln -s /etc/passwd l", "'l' in SIMBDP_OUTPUT_DIR is a symbolic link"),
    ("echo >a.json; ln a.json b.json", ".json' in SIMBDP_OUTPUT_DIR is a hard link"),
    (r"echo '{}' >$(printf 'a\377\033.json')", r"the name of the output file 'a\xff\x1b.json' is not UTF-8"),
    ("i=0; while [ $i -le 10000 ]; do : >$i.json; i=$((i + 1)); done", "SIMBDP_OUTPUT_DIR holds more than 10000 files; write fewer"),
    ("cd ..; mkdir result.json", "(SIMBDP_RESULT_FILE is a directory; it has to be"),
    ("cd ..; head -c 70000 /dev/zero >result.json", "(SIMBDP_RESULT_FILE is of more than 64 KiB; it has to be"),
    ("cd ..; ln -s /etc/passwd result.json", "(SIMBDP_RESULT_FILE is a symbolic link; it has to be"),
    ("cd ..; echo '{' >result.json", "the result file cannot be read: "),
    ("""cd ..; echo '{"rows_parsed":7}' >result.json""", "the result file says rows_parsed 7, the inspection counted 1"),
], ids=["directory", "pipe", "symlink", "hard link", "bytes", "many", "result directory", "result size", "result symlink", "result cut", "result"])
def test_the_cause_is_told_of_output_that_cannot_be_taken(home, make, why):
    home.profiles(rlimits="")
    home.tenant(apps='{ app = "app"; exec = "out.sh"; output = "dir"; retry = { attempts = 1; }; }')
    script = home.path / "apps/acme/out.sh"
    script.write_text(f"#!/bin/sh\ncd \"$SIMBDP_OUTPUT_DIR\" || exit 1\n{make}\n")
    script.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file(file_name="x.csv")
    assert f["state"] == "quarantined" and why in f["detail"], f
