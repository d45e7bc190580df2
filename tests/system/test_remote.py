"""mysimbdp --url …: the tenants' command line over HTTP, against the whole platform; against a server that does as a test says where the
platform would not."""
import contextlib
import csv
import fcntl
import hashlib
import io
import json
import os
import pty
import random
import re
import select
import signal
import ssl
import struct
import subprocess
import tarfile
import termios

import pytest

from cutting_proxy import Proxy
from fake_server import Server, answer, cut, events, problem, read_body
from harness import BUILD, until
from web import Site, settings

pytestmark = pytest.mark.anyone

ROWS = "v,w\n1,a\n2,b\n"
ME = {"account": "ann", "role": "tenant-writer", "tenant_id": "acme", "token_id": "t", "verbs": ["read", "upload"]}


# ---- whose machine it is

class Machine:
    """A user of another machine: a home directory, a token, and the program."""

    def __init__(self, tmp_path, url, token=None, *options):
        self.dir, self.url, self.options = tmp_path, url, options
        self.token_file = tmp_path / "token"
        if token:
            self.token_file.write_text(token + "\n")
            self.token_file.chmod(0o600)
            self.options += ("--token-file", str(self.token_file))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MYSIMBDP_", "XDG_", "http_proxy", "https_proxy"))}
        self.env["HOME"] = str(tmp_path)

    def command(self, *args):
        return [str(BUILD / "mysimbdp"), *(("--url", self.url) if self.url else ()), *self.options, *map(str, args)]

    def start(self, *args, **kw):
        return subprocess.Popen(self.command(*args), env=self.env, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)

    def run(self, *args, code=0, env=None, **kw):
        r = subprocess.run(self.command(*args), env={**self.env, **(env or {})}, cwd=self.dir, capture_output=True, text=True, timeout=120, **kw)
        assert code is None or r.returncode == code, f"{args}: {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r

    def rows(self, *args, **kw):
        return [json.loads(line) for line in self.run(*args, "--json", **kw).stdout.splitlines()]

    def file(self, name, text=ROWS):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def state_files(self):
        directory = self.dir / ".local/state/mysimbdp/uploads"
        return sorted(directory.iterdir()) if directory.exists() else []


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(tls=True))
    yield s
    s.cleanup()


@pytest.fixture
def machine(site, tmp_path):
    return Machine(tmp_path, site.url, site.of(), "--ca", str(site.home.path / "keys/gateway.crt"))


@pytest.fixture(scope="module")
def open_site(mongo):
    """Without TLS: what goes over the wire can be cut at a byte that is known."""
    s = Site(mongo, settings())
    yield s
    s.cleanup()


@pytest.fixture
def proxy(open_site):
    p = Proxy(open_site.port)
    yield p
    p.stop()


@pytest.fixture
def cut_off(open_site, proxy, tmp_path):
    return Machine(tmp_path, proxy.url(), open_site.of())


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()


@pytest.fixture
def at_server(server, tmp_path):
    return Machine(tmp_path, server.url, "sbt_x_y", "--tenant", "acme")


def wide_rows(n_bytes, seed=1):
    """CSV of about so many bytes, of which no two parts are alike."""
    r = random.Random(seed)
    out = io.StringIO()
    out.write("v,w\n")
    while out.tell() < n_bytes:
        out.write(f"{r.randrange(10 ** 9)},{r.getrandbits(1600):x}\n")
    return out.getvalue()


# ---- who is spoken to

def test_whoami_over_tls(site, machine):
    (me,) = machine.rows("whoami")
    assert (me["tenant_id"], me["role"]) == ("acme", "tenant-writer")
    assert "acme" in machine.run("whoami").stdout


def test_a_certificate_that_nobody_vouches_for(site, machine, tmp_path):
    """Neither without --ca nor with another's certificate is anything sent."""
    other = tmp_path / "other.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", tmp_path / "key.pem", "-out", other, "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    for ca in ((), ("--ca", other)):
        r = Machine(tmp_path, site.url, site.of()).run("files", *ca, code=1)
        assert "is not trusted" in r.stderr and "--ca FILE" in r.stderr, r.stderr
        assert site.of() not in r.stderr
    assert "cannot read the certificate" in Machine(tmp_path, site.url, None, "--ca", "/nowhere").run("files", code=1).stderr


def test_a_certificate_for_another_name(site, tmp_path):
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key, "-out", cert, "-days", "2",
                    "-subj", "/CN=elsewhere.example", "-addext", "subjectAltName=DNS:elsewhere.example"], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    s = Server(context)
    r = Machine(tmp_path, s.url, "sbt_x_y", "--ca", str(cert), "--retry-for", "2s").run("files", code=1)
    s.stop()
    assert s.asked == [] and "error:" in r.stderr


@pytest.mark.parametrize("url, why", [("http://example.com", "in the open"), ("http://127.example.com", "in the open"), ("ftp://h", "https://"), ("https://u:p@h", "without user"), ("https://h/?x=1", "without user"), ("", "no URL")])
def test_urls_that_make_no_sense(tmp_path, url, why):
    r = subprocess.run([str(BUILD / "mysimbdp"), "--url", url, "files"], capture_output=True, text=True, env={"HOME": str(tmp_path)})
    assert r.returncode == 2 and why in r.stderr, r.stderr


def test_http_is_not_sent_to_a_proxy_of_the_environment(server, at_server):
    server.script = [answer(ME)]
    at_server.rows("whoami", env={"http_proxy": "http://127.0.0.1:1", "ALL_PROXY": "http://127.0.0.1:1"})
    assert server.asked[0].headers["Authorization"] == "Bearer sbt_x_y"


# ---- tokens

def test_a_token_file_that_others_may_read(machine, server):
    for mode in (0o640, 0o604, 0o660):
        machine.token_file.chmod(mode)
        r = machine.run("files", code=1)
        assert "is open to others" in r.stderr and "chmod 600" in r.stderr
    machine.token_file.chmod(0o400)
    machine.run("files")


def test_token_files_that_are_none(machine):
    for text, why in (("", "is empty"), ("two words\n", "holds no token"), ("\x1b[31mred", "holds no token")):
        machine.token_file.write_text(text)
        assert why in machine.run("files", code=1).stderr
    machine.token_file.unlink()
    assert "cannot read the token" in machine.run("files", code=1).stderr
    machine.token_file.mkdir()
    assert "cannot read the token" in machine.run("files", code=1).stderr


def test_a_token_that_is_wrong(site, machine):
    token, token_id = site.token(site.user("revoked"))
    machine.token_file.write_text(token)
    machine.run("files")
    site.home.cli("token", "revoke", token_id)
    r = machine.run("files", code=1)
    assert "error: Who are you?" in r.stderr and "(unauthorized, request 0" in r.stderr and "--token-file" in r.stderr
    assert token not in r.stderr


def test_a_token_that_may_less(site, machine):
    machine.token_file.write_text(site.of("tenant-reader"))
    r = machine.run("upload", machine.file("no.csv"), "--dataset", "data", code=1)
    assert "(forbidden, request" in r.stderr and "whoami" in r.stderr
    assert site.rows("no.csv") == []


def test_a_token_for_uploads_alone(site, machine):
    """It may not read the agreement: then only the gateway says what it says."""
    machine.token_file.write_text(site.token(site.user("uploader"), "--verbs", "upload")[0])
    machine.run("upload", machine.file("only.csv", "v\n55\n"), "--dataset", "data")
    until(lambda: site.rows("only.csv"), site.home.path / "state", what="the file")


def test_an_operator_says_which_tenant(site, machine):
    machine.token_file.write_text(site.of("operator", None))
    assert "--tenant" in machine.run("files", code=2).stderr
    machine.run("files", "--tenant", "acme")
    assert "(not_found" in machine.run("files", "--tenant", "nobody", code=1).stderr


# ---- files

def test_upload_and_follow(site, machine):
    """As the command line of the home has it."""
    (done,) = machine.rows("upload", machine.file("first.csv"), "--dataset", "data", "--wait")
    assert (done["state"], done["rows_loaded"], done["file_name"]) == ("ingested", 2, "first.csv")
    (local,) = site.home.rows("files", done["file_id"])
    (listed,) = [f for f in machine.rows("files") if f["file_id"] == done["file_id"]]
    (one,) = machine.rows("files", done["file_id"])
    assert listed == local == one
    assert machine.rows("files", "--dataset", "small") == [] and machine.rows("files", "--state", "quarantined") == []
    assert [f["file_id"] for f in machine.rows("files", "--limit", "1")] == [done["file_id"]]
    (story,) = machine.rows("file", done["file_id"])
    assert {e["event"] for e in story["story"]} >= {"received", "ended"} and story["runs"]
    text = machine.run("file", done["file_id"]).stdout
    assert "story:" in text and "runs:" in text and "ingested: 2 rows" in text
    run_id = story["runs"][0]["run_id"]
    assert machine.rows("runs", "--file", done["file_id"]) == site.home.rows("runs", "--file", done["file_id"])
    assert machine.rows("run", run_id)[0]["outcome"] == "ok"
    assert machine.run("logs", run_id).stdout == machine.run("logs", run_id, "-f").stdout
    table = machine.run("files").stdout.splitlines()
    assert table[0].split()[:3] == ["file_id", "tenant_id", "dataset"] and any("first.csv" in line and "2 rows" in line for line in table)


def test_ids_may_be_shortened(site, machine):
    (done,) = machine.rows("upload", machine.file("short.csv", "v\n77\n"), "--dataset", "data", "--wait")
    whole = done["file_id"]
    assert machine.rows("file", whole[:20])[0]["file_id"] == whole == machine.rows("files", whole[:10] + ".." + whole[-6:])[0]["file_id"]
    assert "is no id" in machine.run("file", "x", code=1).stderr
    assert "none of the newest" in machine.run("file", "zzzzzzzz", code=1).stderr
    assert "(not_found" in machine.run("file", "0" * 26, code=1).stderr


def test_rejects(site, machine):
    (done,) = machine.rows("upload", machine.file("bad.csv", "v\n1\nnone\n"), "--dataset", "strict", "--wait")
    assert (done["state"], done["rows_rejected"]) == ("ingested", 1)
    (row,) = machine.rows("rejects", done["file_id"])
    assert (row["line"], row["raw"]) == (3, "none")
    assert "line 3, byte " in machine.run("rejects", done["file_id"]).stdout
    assert machine.run("rejects", done["file_id"], "--csv").stdout.splitlines()[0] == "line,byte_offset,column,type,message,raw,repaired"
    machine.run("rejects", done["file_id"], "--csv", "--json", code=2)


def test_rejected_is_a_failure_and_can_be_deleted(site, machine):
    (done,) = machine.rows("upload", machine.file("worse.csv", "v\na\nb\nc\n"), "--dataset", "strict", "--wait", code=1)
    assert done["state"] == "rejected"
    assert machine.rows("retry", done["file_id"]) == [{"n": 1}]
    site.home.wait_file(file_id=done["file_id"])
    assert machine.run("delete", done["file_id"]).stdout == "1 file is removed\n"
    assert "(state, " in machine.run("retry", machine.rows("upload", machine.file("fine.csv", "v\n88\n"), "--dataset", "data", "--wait")[0]["file_id"], code=1).stderr
    assert machine.rows("retry", "--all")[0]["n"] >= 0


def test_a_directory_and_several_files(site, machine):
    for i in range(6):
        machine.file(f"many/{'deep/' * (i % 2)}m{i}.csv", f"v\n{1000 + i}\n")
    for name in (".hidden.csv", "half.csv.part"):
        machine.file(f"many/{name}")
    (machine.dir / "many/link.csv").symlink_to(machine.dir / "many/m0.csv")
    alone = machine.file("alone.csv", "v\n2000\n")
    done = machine.rows("upload", "many", alone, "--dataset", "data", "--parallel", "3", "--wait")
    assert sorted(d["file_name"] for d in done) == ["alone.csv", *(f"m{i}.csv" for i in range(6))]
    assert {d["state"] for d in done} == {"ingested"}
    again = machine.run("upload", "many", "--dataset", "data", "--wait")
    assert again.stdout.count(" duplicate") == 6
    assert again.stderr.startswith("6 of 6 files sent"), "one line where no terminal is"


def test_what_cannot_be_sent(site, machine):
    os.mkfifo(machine.dir / "pipe.csv")
    r = machine.run("upload", "gone.csv", "pipe.csv", machine.file("ok.csv", "v\n99\n"), "--dataset", "data", code=1)
    assert "gone.csv: No such file" in r.stderr and "pipe.csv: it is not a regular file" in r.stderr and "ok.csv" in r.stdout
    assert "--dataset" in machine.run("upload", "ok.csv", code=2).stderr


def test_the_agreement_is_looked_at_first(site, machine):
    """Nothing of these is sent: the gateway would have counted it."""
    before = site.home.rows("audit")
    r = machine.run("upload", machine.file("big.csv", "v\n" + "1\n" * 1000), machine.file("a.xls"), "--dataset", "small", code=1)
    assert "big.csv: it has 2002 bytes; 1000 are agreed (max_file_bytes" in r.stderr and "a.xls: the dataset takes no files with this ending (format" in r.stderr
    assert "did you mean 'data'" in machine.run("upload", "big.csv", "--dataset", "dato", code=1).stderr
    r = machine.run("upload", machine.file("one.csv", "v\n1\n"), machine.file("two.csv", "v\n2\n"), "--dataset", "few", code=1)
    assert "one.csv" in r.stdout and "two.csv: no more files are agreed for today" in r.stderr
    assert len(site.home.rows("audit")) - len(before) <= 1
    assert site.rows("big.csv") == [] == site.rows("two.csv")


def test_names_and_texts_are_shown_plainly(site, machine):
    name = "\x1b[31mrot ä.csv"
    site.home.drop(name, "v\n3\n")
    (f,) = until(lambda: site.rows(name), site.home.path / "state", what="the file")
    for args in (("files",), ("file", f["file_id"])):
        out = machine.run(*args).stdout
        assert "\x1b" not in out and "\\x1b[31mrot ä.csv" in out, out
    r = machine.run("upload", machine.file(name), "--dataset", "data", code=1)
    assert "\x1b" not in r.stderr and "\\x1b[31mrot ä.csv: it cannot be sent under this name" in r.stderr


def test_what_the_server_says_is_shown_plainly(server, at_server):
    server.script = [problem(404, "not_found", "\x1b]0;owned\x07 \u009b31m")]
    r = at_server.run("files", code=1)
    assert r.stderr.startswith("error: A title: \\x1b]0;owned\\x07 \\xc2\\x9b31m (not_found, request rq-of-document)\n")
    server.script = [answer(None, 500, text="<h1>\x1b[31m</h1>", kind="text/html")]
    r = at_server.run("files", code=1)
    assert "\x1b" not in r.stderr and "HTTP 500" in r.stderr


def test_watch(site, machine):
    """It tells of changes, as the gateway tells what happens, and ends when nobody reads it any more."""
    files = machine.start("files", "--watch", "--json", "--dataset", "data")
    runs = machine.start("runs", "--watch")
    uploaded = []

    def one_more():
        uploaded.append(f"watched{len(uploaded)}.csv")
        machine.run("upload", machine.file(uploaded[-1], f"v\n{5000 + len(uploaded)}\n"), "--dataset", "data", "--wait")

    def told(p):  # what was there at its first look is no change
        one_more()
        return select.select([p.stdout], [], [], 2)[0]
    until(lambda: told(files), what="a change")
    f = json.loads(files.stdout.readline())
    assert f["file_name"] in uploaded and f["dataset"] == "data" and f["state"] in {"received", "queued", "running", "ingested"}
    until(lambda: told(runs), what="a change of a run")
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d  [0-9a-z]{26}  (starting|running|ok) +acme/\w+\n", runs.stdout.readline())
    for p in (files, runs):
        p.stdout.close()
        until(lambda p=p: one_more() or p.poll() is not None, what="its end")
        assert p.returncode == 0, p.stderr.read()
        p.stderr.close()


def test_watch_and_logs_without_streams_of_events(server, at_server):
    """Where the account has as many as it may, they ask again and again; each question is one that the server was asked."""
    refused = problem(429, "event_streams", "many are open")
    one = {"file_id": "01" + "a" * 24, "state": "running", "dataset": "data", "file_name": "x.csv"}
    server.script = [refused, answer({"files": [one], "next": None}), answer({"files": [{**one, "state": "ingested"}], "next": None}), problem(403, "forbidden", "no")]
    r = at_server.run("files", "--watch", code=1)
    assert re.search(r"  ingested +data/x.csv\n$", r.stdout) and r.stdout.count("\n") == 1 and "forbidden" in r.stderr



def on_terminal(command, env, cwd):
    """What it writes to a terminal of 80 columns."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    p = subprocess.Popen(command, env=env, cwd=cwd, stdin=subprocess.DEVNULL, stdout=side, stderr=side)
    os.close(side)
    said = b""
    with contextlib.suppress(OSError):  # it says EIO at the end
        while piece := os.read(main, 65536):
            said += piece
    os.close(main)
    return p.wait(), said.decode()


def test_progress_on_a_terminal(open_site, proxy, cut_off):
    """A line for each file that is under way and one for all; what is printed stands above them, and they are gone at the end."""
    for i in range(3):
        cut_off.file(f"t/shown{i}.csv", wide_rows(6 << 20, seed=10 + i))
    code, said = on_terminal(cut_off.command("upload", "t", "--dataset", "data", "--wait"), {**cut_off.env, "TERM": "xterm"}, cut_off.dir)
    assert code == 0
    assert re.search(r"  shown\d[.]csv: sending \[[# ]{20}\] +\d+%", said) and re.search(r"of 3 files sent \[", said)
    screen = ""
    for part in re.split(r"(\x1b\[\d+A\r\x1b\[J)", said):
        up = re.fullmatch(r"\x1b\[(\d+)A\r\x1b\[J", part)
        screen = "".join(screen.splitlines(True)[:-int(up[1])]) if up else screen + part.replace("\r\n", "\n")
    assert "\x1b" not in screen and re.fullmatch(r"(\w{26} ingested: \d+ rows\n){3}", screen), screen


# ---- how rows are printed

SGR = re.compile(r"\x1b\[\d+m")


def test_outputs(site, machine):
    """As on the provider's machine: --output, colours, and 80 columns that hold every line."""
    name = "f" * 28 + "漢字" + "g" * 28 + ".csv"
    (good,) = machine.rows("upload", machine.file(name, "v\n77001\n"), "--dataset", "data", "--wait")
    evil = "\x1b]52;c;eA==\x07" + name[14:]  # which no upload may have
    site.home.drop(evil, "v,w\n1\n" + "z" * 200 + ",2\n")
    bad = site.home.wait_file(file_name=evil)
    terminal = {**machine.env, "TERM": "xterm"}

    def csv_of(*args):
        return list(csv.DictReader(io.StringIO(machine.run(*args, "--output", "csv").stdout)))
    files = machine.rows("files")
    assert machine.run("files", "--output", "json").stdout == machine.run("files", "--json").stdout
    told = csv_of("files")
    assert [r["file_id"] for r in told] == [f["file_id"] for f in files] and "why" not in told[0]
    for row, f in zip(told, files):
        assert row["state"] == f["state"] and row["received_at"] == f["received_at"] and row["size_bytes"] == str(f["size_bytes"])
        assert row["file_name"] == f["file_name"].replace("\x1b", "\\x1b").replace("\x07", "\\x07")
    assert {r["forced"] for r in csv_of("runs") if r["state"] == "ended"} <= {"true", "false"}
    assert csv_of("files", "--state", "vanished") == [] and machine.run("files", "--state", "vanished", "--output", "csv").stdout.startswith("file_id,")
    for verb in (["queue", "list"], ["dead", "list", "events"], ["apps"], ["app", "list"], ["app", "instances"], ["profile", "list"]):
        assert machine.run(*verb, "--output", "csv").stdout.count("\n") >= 1, verb
    wide = machine.run("files", "--output", "wide").stdout
    assert "content_hash" in wide.splitlines()[0] and name in wide
    for args, words in ((["files", "--output", "xml"], "table, wide, json or csv"), (["whoami", "--output", "csv"], "verbs that list"),
                        (["files", "--json", "--output", "csv"], "cannot both be"), (["files", "--watch", "--output", "csv"], "--watch")):
        assert words in machine.run(*args, code=2).stderr
    _, shown = on_terminal(machine.command("files"), terminal, machine.dir)
    assert "\x1b[32mingested" in shown and re.search("f+…g*", shown) and "\x1b]" not in shown and "\x07" not in shown
    assert on_terminal(machine.command("files"), {**terminal, "NO_COLOR": "1"}, machine.dir)[1] == SGR.sub("", shown)
    (run,) = machine.rows("runs", "--file", good["file_id"])
    for verb in (["files"], ["files", bad["file_id"]], ["file", bad["file_id"]], ["file", good["file_id"]], ["runs"], ["run", run["run_id"]], ["rejects", bad["file_id"]],
                 ["whoami"], ["agreement"], ["usage"], ["bill", "2026-01"], ["queue", "list"], ["queue", "show", "events"], ["dead", "list", "events"], ["apps"],
                 ["app", "list"], ["app", "instances"], ["app", "versions", "load"], ["help"], ["upload", "--help"], ["app", "--help"], ["filez"], ["retry", "0" * 26]):
        _, shown = on_terminal(machine.command(*verb), terminal, machine.dir)
        plain = SGR.sub("", shown).replace("\r\n", "\n")
        assert plain and "\x1b" not in plain and "\x07" not in plain and "\ufffd" not in plain, (verb, plain)
        long = [line for line in plain.splitlines() if len(line) + sum(c in "漢字" for c in line) > 80]
        assert not long, (verb, long)


# ---- the rest of what is asked

def test_agreement_usage_bill_and_apps(site, machine):
    (agreement,) = machine.rows("agreement")
    assert agreement["tenant_id"] == "acme" and "small" in [d["dataset"] for d in agreement["datasets"]]
    text = machine.run("agreement").stdout
    assert "dataset small" in text and "max_file_bytes 1000" in text and "stream events" in text
    assert machine.rows("usage")[0]["tenant_id"] == "acme" and "files_today" in machine.run("usage").stdout
    month = machine.rows("usage")[0]["day"][:7]
    assert machine.rows("bill", month)[0]["month"] == month and "avg_ingestion_s" in machine.run("bill", month).stdout
    assert "(parameter, " in machine.run("bill", "soon", code=1).stderr
    assert {a["app"] for a in machine.rows("apps")} >= {"load", "held", "slow"}
    assert "manual" in machine.run("app", "list").stdout


def test_run_and_stop(site, machine):
    held = machine.rows("upload", machine.file("held.csv", "v\n4\n"), "--dataset", "held")[0]["file_id"]
    until(lambda: site.home.files(file_id=held)[0]["state"] == "queued", site.home.path / "state", what="queued")
    assert machine.run("app", "run", "held").stdout == "1 files go\n"
    assert site.home.wait_file(file_id=held)["state"] == "ingested"
    slow = machine.rows("upload", machine.file("slow.csv", "action\nhang\n"), "--dataset", "slow")[0]["file_id"]
    run_id = until(lambda: [r for r in machine.rows("runs", "--file", slow) if r["state"] == "running"], site.home.path / "state", what="the run")[0]["run_id"]
    machine.run("stop", run_id)
    assert site.home.wait_file(file_id=slow)["reason"] == "stopped"


def test_usage_errors(tmp_path, machine):
    assert "no verb \"filez\" over HTTP (did you mean 'files'?)" in machine.run("filez", code=2).stderr
    assert "unknown option" in machine.run("files", "--nonsense", code=2).stderr
    assert "there are:" in machine.run("files", "--state", "ingsted", code=2).stderr
    assert "--home" in machine.run("files", "--home", "/x", code=2).stderr
    assert "no duration" in machine.run("files", "--retry-for", "5", code=2).stderr
    assert "usage: mysimbdp upload PATH" in machine.run("upload", "--help").stdout
    alone = Machine(tmp_path, None)
    assert "Give --url URL" in alone.run("whoami", code=2).stderr
    assert "whoami" in machine.run("help").stdout


# ---- bad lines, and a platform that is busy

def test_a_small_upload_that_is_cut_is_one_file(open_site, proxy, cut_off):
    """Twice in the middle of its body, once after all of it: the answer is lost."""
    path = cut_off.file("cut.csv", wide_rows(300_000))
    cut_off.run("whoami")
    proxy.cuts = [2000, 2000, 2000, 100_000, 200_000]
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and proxy.n_cut >= 3
    assert len(open_site.rows("cut.csv")) == 1


def test_a_large_upload_over_a_line_that_is_cut_again_and_again(open_site, proxy, cut_off):
    """No connection lives for the first piece: pieces shrink until they get through, and nothing is there twice."""
    path = cut_off.file("large.csv", wide_rows(10 << 20))
    proxy.cuts = [3000, 900_000, 700_000, 400_000, 300_000, 300_000, 300_000, 300_000, 2_000_000, 900_000]
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and proxy.n_cut >= 6
    (f,) = open_site.rows("large.csv")
    assert f["size_bytes"] == path.stat().st_size and cut_off.state_files() == []


def test_a_kill_in_the_middle_of_a_large_upload(open_site, proxy, cut_off):
    """Another start goes on where it was: it sends the rest alone."""
    path = cut_off.file("killed.csv", wide_rows(12 << 20, seed=2))
    proxy.stall_at = 6 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    p.send_signal(signal.SIGKILL)
    p.communicate()
    proxy.release()
    assert len(cut_off.state_files()) == 1
    proxy.stall_at, before = 11 << 20, proxy.stalled
    before.clear()
    (done,) = cut_off.rows("upload", path, "--dataset", "data", "--wait")
    assert done["state"] == "ingested" and not before.is_set(), "all of it was sent again"
    assert len(open_site.rows("killed.csv")) == 1 and cut_off.state_files() == []


def test_two_do_not_send_one_file(proxy, cut_off):
    path = cut_off.file("twice.csv", wide_rows(9 << 20, seed=3))
    proxy.stall_at = 4 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    assert "another mysimbdp is sending this file" in cut_off.run("upload", path, "--dataset", "data", code=1).stderr
    p.kill()
    p.communicate()


def test_a_file_that_is_changed_while_it_is_sent(open_site, proxy, cut_off):
    path = cut_off.file("changed.csv", wide_rows(9 << 20, seed=4))
    proxy.stall_at = 4 << 20
    p = cut_off.start("upload", path, "--dataset", "data")
    assert proxy.stalled.wait(60)
    with path.open("ab") as f:
        f.write(b"1,2\n")
    proxy.stall_at = None
    proxy.release()
    out, err = p.communicate(timeout=60)
    assert p.returncode == 1 and "was changed while it was sent" in err, err
    assert open_site.rows("changed.csv") == [] and cut_off.state_files() == []


def test_a_killed_gateway_is_waited_for(open_site, cut_off, proxy):
    pid = open_site.pid()
    path = cut_off.file("over.csv", wide_rows(10 << 20, seed=5))
    proxy.stall_at = 5 << 20
    p = cut_off.start("upload", path, "--dataset", "data", "--wait", "--json")
    assert proxy.stalled.wait(60)
    os.kill(pid, signal.SIGKILL)
    proxy.stall_at = None
    proxy.release()
    out, err = p.communicate(timeout=120)
    assert p.returncode == 0 and json.loads(out)["state"] == "ingested", err
    open_site.wait_well()


def busy(status, code, after=1):
    return problem(status, code, "wait", Retry_After=str(after))


def test_busy_is_tried_again(server, at_server):
    server.script = [busy(429, "rate"), busy(503, "unavailable"), answer({"files": [], "next": None})]
    r = at_server.run("files")
    assert len(server.asked) == 3 and "(rate" not in r.stdout


def test_busy_for_longer_than_anybody_waits(server, at_server):
    server.script = [busy(429, "max_files_per_day", 3600)]
    r = at_server.run("files", code=1)
    assert len(server.asked) == 1 and "not before 3600 s from now" in r.stderr and "usage" in r.stderr
    server.script = [problem(429, "max_files_per_day")]
    at_server.run("files", code=1)
    assert len(server.asked) == 2, "without Retry-After waiting does not help"


def test_an_order_that_may_have_arrived_is_not_given_twice(server, at_server):
    server.script = [lambda h: (read_body(h), cut(h))]
    r = at_server.run("retry", "--all", code=1)
    assert len(server.asked) == 1 and "cannot reach" in r.stderr
    server.script = [busy(503, "unavailable"), answer({"n": 2})]
    assert at_server.run("retry", "--all").stdout == "2 files are tried again\n"


def test_answers_that_are_none(server, at_server):
    for text in ("[1", "", "nonsense"):
        server.script = [answer(None, text=text)]
        assert "is not what a gateway says" in at_server.run("whoami", code=1).stderr
    server.script = [answer(None, 302, Location="http://127.0.0.1:1/")]
    assert "HTTP 302" in at_server.run("whoami", code=1).stderr


# ---- messages

def test_publish(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    text = "".join(f'{{"n":{i}}}\n' for i in range(12_000))
    assert m.rows("publish", "events", m.file("a.ndjson", text)) == [{"confirmed": 12_000, "unconfirmed": 0, "refused": 0, "deferred": 0}]
    assert m.run("publish", "events", input='{"n":1}\r\n\n{"n":2}').stdout == "2 messages confirmed\n"
    r = m.run("publish", "events", m.file("b.ndjson", '{"n":1}\n' + "x" * (2 << 20) + '\n{"n":2}\n'), code=1)
    assert re.search(r"b.ndjson:2: (refused: )?.*size", r.stderr) and "2 messages confirmed" in r.stdout
    assert "(not_found" in m.run("publish", "nothing", input="x\n", code=1).stderr


def test_publish_over_a_line_that_is_cut(open_site, proxy, cut_off):
    """Each is there once."""
    def one():
        return json.loads(open_site.post("streams/events/messages", body=b"x", described=False).body)["seq"]
    before = one()
    path = cut_off.file("c.ndjson", "".join(f'{{"n":{i},"pad":"{"x" * 200}"}}\n' for i in range(8000)))
    proxy.cuts = [100_000, 700_000, 1_100_000]
    assert cut_off.rows("publish", "events", path)[0]["confirmed"] == 8000 and proxy.n_cut >= 2
    assert one() - before == 8001


def test_publish_what_is_refused_for_a_while(server, at_server):
    lines = ['{"seq":1}', '{"seq":null,"error":"rate","retry_after_ms":50}', '{"seq":null,"error":"rate","retry_after_ms":50}', '{"seq":4}']
    server.script = [answer(None, text="\n".join(lines) + "\n", kind="application/x-ndjson"), answer(None, text='{"seq":5}\n{"seq":null,"known":true}\n', kind="application/x-ndjson")]
    (told,) = at_server.rows("publish", "events", input="a\nb\nc\nd\n")
    assert told == {"confirmed": 4, "unconfirmed": 0, "refused": 0, "deferred": 2}
    first, second = server.asked
    assert second.body == b"b\nc\n" and second.path == first.path.replace("number=1", "number=2")


# ---- logs

def test_logs_are_followed(server, at_server):
    def log(text, position, ended=False):
        return answer(None, text=text, kind="text/plain", X_Position=position, X_Ended=str(ended).lower())
    def piece(text, position, cut=False):
        return f"event: log\nid: {position}\ndata: {json.dumps({'text': text, 'cut': cut})}\n\n"
    run = "0" * 26
    # as the gateway tells it, over a connection that is lost, until it says that the run ended
    server.script = [log("one\n\x1b[31m", "5-a"), events("retry: 1000\n\n", piece("two\n\u00e4\u0000", "5-e"), end=b""),
                     events(piece("\x1b]52;c;x\x07three\n", "6-2", True), 'event: end\nid: 6-2\ndata: {"reason":"ended"}\n\n')]
    r = at_server.run("logs", run, "-f")
    assert r.stdout == "one\n\\x1b[31mtwo\n\u00e4\\x00\\x1b]52;c;x\\x07three\n"
    assert "trying again" in r.stderr and "connected again" in r.stderr and "some of it is gone" in r.stderr
    assert [(h.path.rpartition("/")[2], h.headers["Last-Event-ID"]) for h in server.asked] == [("log?tail=262144", None), ("log", "5-a"), ("log", "5-e")]
    # who comes again after the end has all of it
    server.script = [log("one\n", "5-4"), answer(None, 204, text="")]
    assert at_server.run("logs", run, "-f").stdout == "one\n"
    # asked again and again: where there may be no more streams, and for bytes as they are
    server.asked.clear()
    server.script = [log("one\n\x1b[31m", "5-a"), problem(429, "event_streams", "many", Retry_After="1"), log("", "5-a"), log("two\n", "5-e"), log("", "5-e", True)]
    assert at_server.run("logs", run, "-f").stdout == "one\n\\x1b[31mtwo\n"
    assert [h.path.rpartition("/")[2] for h in server.asked] == ["log?tail=262144", "log", "log?from=5-a", "log?from=5-a", "log?from=5-e"]
    server.script = [log("one\n\x1b[31m", "5-a"), log("two\n", "5-e", True)]
    assert at_server.run("logs", run, "-f", "--raw").stdout == "one\n\x1b[31mtwo\n"
    server.script = [log("\x1b[31m", "5-a", True)]
    assert at_server.run("logs", run, "--raw").stdout == "\x1b[31m"


# ---- streams, dead letters, the own configuration

def test_queue(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    (stream,) = [s for s in m.rows("queue", "list") if s["stream"] == "events"]
    assert "last_sequence" in stream and m.rows("queue", "show", "events")[0]["limits"] == stream["limits"]
    text = m.run("queue", "list").stdout
    assert re.search("^STREAM ", text, re.I) and "events" in text
    assert re.search(r"last_sequence +\d", m.run("queue", "show", "events").stdout)
    assert "(not_found" in m.run("queue", "show", "nothing", code=1).stderr
    assert "show takes a STREAM" in m.run("queue", "show", code=2).stderr
    assert m.rows("dead", "list", "events") == []
    assert m.run("configuration").stdout == "" and m.rows("configuration") == [{"text": ""}]


def letter(seq, app="store"):
    return {"id": f"{seq}.{app}", "app": app, "sequence": seq, "deliveries": 5, "reason": "no number", "published_at": None, "died_at": None,
            "bytes": 1, "text": f"text{seq}", "base64": None}


def test_dead_letters(server, at_server):
    def asked():
        return [(h.command, h.path.partition("/streams/")[2], h.body) for h in server.asked]
    server.script = [answer({"dead_letters": [letter(1)], "next": "c/1"}), answer({"dead_letters": [letter(2)], "next": None})]
    text = at_server.run("dead", "list", "events", "--app", "store").stdout
    assert "text1" in text and "text2" in text
    assert [a[1] for a in asked()] == ["events/dead-letters?limit=100&app=store", "events/dead-letters?limit=100&app=store&cursor=c%2F1"]
    server.asked.clear()
    server.script = [answer({"dead_letters": [letter(1), letter(2), letter(2, "other")], "next": None}), answer({"n": 2, "more": False})]
    assert at_server.run("dead", "drop", "events", "--seq", "2").stdout == "2 dead letters\n"
    command, path, body = asked()[1]
    assert (command, path, json.loads(body)) == ("DELETE", "events/dead-letters", {"ids": ["2.store", "2.other"]})
    server.asked.clear()
    server.script = [answer({"stream": "events", "dead_letters": 10_001}), *[answer({"n": 10_000, "more": True})] * 3]
    assert at_server.rows("dead", "replay", "events", "--all") == [{"n": 20_000}]  # not for ever, when all die again
    assert [a[:2] for a in asked()[1:]] == [("POST", "events/dead-letters:replay")] * 2
    server.script = [answer({"dead_letters": [], "next": None})]
    assert "no dead letter 7" in at_server.run("dead", "drop", "events", "--seq", "7", code=1).stderr
    for args in (["drop", "events"], ["drop", "events", "--all", "--seq", "1"], ["list", "events", "--all"], ["eat", "events"]):
        at_server.run("dead", *args, code=2)


def test_configure(server, at_server):
    tag = "ab" * 32
    server.script = [answer(None, text="a\n", kind="text/plain", ETag=f'"{tag}"')]
    assert at_server.rows("configuration") == [{"text": "a\n", "sha256": tag}]
    server.asked.clear()
    server.script = [answer({}, ETag=f'"{tag}"'), cut, answer({}, ETag=f'"{tag}"'), problem(412, "precondition"), cut]
    assert at_server.rows("configure", at_server.file("own.conf", "datasets = ();\n")) == [{"ok": True, "sha256": tag}]
    assert (server.asked[0].command, server.asked[0].body) == ("PUT", b"datasets = ();\n")
    assert "removed" in at_server.run("configure", "-", input="").stdout and len(server.asked) == 3
    assert "(precondition" in at_server.run("configure", "own.conf", "--if-match", tag, code=1).stderr
    assert server.asked[3].headers["If-Match"] == f'"{tag}"'
    at_server.run("configure", "own.conf", "--if-match", tag, code=1)  # it may have been taken: not sent twice
    assert len(server.asked) == 5
    assert "more than 65536 bytes" in at_server.run("configure", at_server.file("large.conf", "x" * 70_000), code=1).stderr


# ---- events

def test_events_go_on_after_a_cut(server, at_server):
    def event(n, name="file.queued"):
        return f'event: {name}\nid: i{n}\ndata: {{"ts":"2026-01-01T00:00:00.000Z","event":"{name}","tenant_id":"acme","file_id":"f{n}"}}\n\n'
    one, two = event(1), event(2)
    server.script = [events("retry: 2000\nid: i0\n\n", one[:20], one[20:], two[:-1], end=b""), problem(503, "draining"),
                     events(": quiet\n\n", two, end=b""), events('event: end\ndata: {"reason":"unauthorized"}\n\n')]
    r = at_server.run("events", "-f", "--types", "file", code=1)
    assert [line.split() for line in r.stdout.splitlines()] == [["2026-01-01T00:00:00", "file.queued", f"file_id=f{n}"] for n in (1, 2)]
    assert [h.headers["Last-Event-ID"] for h in server.asked] == [None, "i1", "i1", "i2"]
    assert {h.path.partition("/events")[2] for h in server.asked} == {"?types=file"} and server.asked[0].headers["Accept"] == "text/event-stream"
    assert r.stderr.count("trying again") == 2 and r.stderr.count("connected again") == 2 and "may not read" in r.stderr
    server.script = [problem(400, "parameter", detail="types: there is none")]
    assert "(parameter" in at_server.run("events", "-f", code=1).stderr
    assert "give -f" in at_server.run("events", code=2).stderr


def test_events_of_a_file(open_site, tmp_path):
    m = Machine(tmp_path, open_site.url, open_site.of())
    p = m.start("events", "-f", "--types", "file", "--json")
    try:
        n = 0

        def is_told():
            nonlocal n
            n += 1
            m.run("upload", m.file(f"e{n}.csv", f"v,w\n{n},e\n"), "--dataset", "data")
            return select.select([p.stdout], [], [], 1)[0]
        until(is_told, open_site.home.path / "state", what="an event")
        assert json.loads(p.stdout.readline())["event"].startswith("file.")
    finally:
        p.kill()
        p.communicate()


# ---- profiles

def test_profiles(site, machine, tmp_path):
    alone = Machine(tmp_path, None)
    ca = str(site.home.path / "keys/gateway.crt")
    assert "no profiles yet" in alone.run("profile", "list").stderr
    alone.run("profile", "add", "work", "--url", site.url, "--token-file", machine.token_file, "--ca", ca)
    alone.run("profile", "add", "other", "--url", "https://example.com")
    assert [(p["profile"], p["in_use"]) for p in alone.rows("profile", "list")] == [("work", True), ("other", False)]
    assert alone.rows("whoami")[0]["tenant_id"] == "acme"
    alone.run("files")
    alone.run("profile", "use", "other")
    assert "cannot reach https://example.com" in alone.run("files", "--retry-for", "1s", code=1).stderr
    assert alone.rows("whoami", "--profile", "work") == alone.rows("whoami", env={"MYSIMBDP_PROFILE": "work"})
    alone.run("profile", "remove", "other")
    assert "Give --url URL" in alone.run("whoami", code=2).stderr
    assert "no profile other" in alone.run("profile", "use", "other", code=1).stderr
    assert "not both" in machine.run("files", "--profile", "work", code=2).stderr
    assert "no name" in alone.run("profile", "add", "a b", "--url", "https://h", code=2).stderr


def test_a_file_of_profiles_that_others_may_write(tmp_path):
    """They would say where the token is sent."""
    alone = Machine(tmp_path, None)
    alone.run("profile", "add", "work", "--url", "https://127.0.0.1:1")
    config = tmp_path / ".config/mysimbdp/config"
    assert config.stat().st_mode & 0o777 == 0o600
    config.chmod(0o666)
    assert "can be written by others" in alone.run("whoami", code=1).stderr
    config.chmod(0o600)
    config.write_text("profiles = { work = { url = ")
    assert f"{config}:" in alone.run("whoami", code=1).stderr


def test_environment(site, machine):
    env = {"MYSIMBDP_URL": site.url, "MYSIMBDP_TOKEN_FILE": str(machine.token_file), "MYSIMBDP_CA": str(site.home.path / "keys/gateway.crt")}
    alone = Machine(machine.dir, None)
    assert alone.rows("whoami", env=env)[0]["tenant_id"] == "acme"
    alone.run("files", env=env)
    other = Server()
    m = Machine(machine.dir, other.url)
    m.run("whoami", env=env)
    other.stop()
    assert other.asked[0].headers["Authorization"] is None, "the token is for the other gateway"


def test_a_home_is_a_home(site, tmp_path):
    """With one given, and nothing said of a gateway, verbs are the home's."""
    alone = Machine(tmp_path, None)
    alone.run("profile", "add", "work", "--url", "https://127.0.0.1:1")
    assert alone.run("files", env={"MYSIMBDP_HOME": str(site.home.path)}).returncode == 0
    alone.run("files", "--home", site.home.path)


# ---- apps

def sent(record):
    return {m.name: m for m in tarfile.open(fileobj=io.BytesIO(record.body), mode="r:gz")}


VERSION = {"app": "load", "version": "1a2b", "state": "ready", "active": False, "bytes": 3, "files": 1}


def test_push_a_directory(server, at_server):
    at_server.file("app/run.sh", "#!/bin/sh\n").chmod(0o755)
    at_server.file("app/lib/data.txt", "x")
    at_server.file("app/.git/HEAD", "x")
    (at_server.dir / "app/link").symlink_to("run.sh")
    server.script = [answer({**VERSION, "active": True}, 201), answer(VERSION, 201)]
    assert at_server.run("app", "push", "load", "app", "--activate").stdout == "load 1a2b ready, active\n"
    (record,) = server.asked
    assert (record.command, record.path) == ("PUT", "/v1/tenants/acme/apps/load/versions?activate=true")
    assert record.headers["Content-Type"] == "application/gzip" and record.headers["Content-Digest"].startswith("sha-256=:")
    members = sent(record)
    assert sorted(members) == ["lib", "lib/data.txt", "link", "run.sh"]
    assert members["run.sh"].mode == members["link"].mode == 0o755 and members["link"].isreg() and {(m.uid, m.gid) for m in members.values()} == {(0, 0)}
    at_server.run("app", "push", "load", "app")
    assert server.asked[1].body == record.body, "the same files are the same bytes"
    for to, why in (("/etc/passwd", "leads out of it"), ("lib", "no file"), ("nowhere", "No such file")):
        (at_server.dir / "app/link").unlink()
        (at_server.dir / "app/link").symlink_to(to)
        assert why in at_server.run("app", "push", "load", "app", code=1).stderr
    assert len(server.asked) == 2


def test_push_a_file_and_wait_until_it_is_built(server, at_server):
    body = b"\x28\xb5\x2f\xfd"
    version = {**VERSION, "sha256": hashlib.sha256(body).hexdigest()}
    listed = {"app": "load", "active": None, "versions": [{**VERSION, "sha256": "0"}, {**version, "state": "building", "reason": None}]}
    failed = {"app": "load", "active": None, "versions": [{**version, "state": "failed", "reason": "no such package"}]}
    server.script = [busy(503, "busy"), answer({"app": "load", "state": "building"}, 202), answer(listed), answer(failed)]
    r = at_server.run("app", "push", "load", at_server.file("app.tar.zst", body), code=1)
    assert r.stdout == "load 1a2b failed: no such package\n"
    assert [h.command for h in server.asked] == ["PUT", "PUT", "GET", "GET"] and server.asked[0].headers["Content-Type"] == "application/zstd"
    server.script = [answer({"app": "load", "state": "building"}, 202)]
    assert "load building" in at_server.run("app", "push", "load", "app.tar.zst", "--no-wait").stdout
    assert "gone: No such file" in at_server.run("app", "push", "load", "gone", code=1).stderr
    os.mkfifo(at_server.file("dir/x").parent / "pipe")
    assert "dir/pipe is neither file" in at_server.run("app", "push", "load", "dir", code=1).stderr


def test_orders_about_apps(server, at_server):
    active = {"app": "load", "version": "2", "previous": "1"}
    for args, doc, target, out in (
            (("activate", "load", "2"), active, "POST apps/load/versions/2:activate", "load 2 is active; before it: 1\n"),
            (("remove", "load", "1"), active, "DELETE apps/load/versions/1", "it is removed\n"),
            (("rollback", "load"), active, "POST apps/load:rollback", "load 2 is active; before it: 1\n"),
            (("start", "load", "-x", "--", "b"), {"instance_id": "I"}, "POST apps/load/instances", "I\n"),
            (("start", "load"), {"instance_id": None, "reason": "later"}, "POST apps/load:start", ""),
            (("stop", "0" * 26), {"desired": 1}, f"POST instances/{'0' * 26}:stop", "it is being stopped\n"),
            (("stop", "load"), {"app": "load"}, "POST apps/load:stop", "it is being stopped\n"),
            (("scale", "load", "3"), {"app": "load"}, "POST apps/load:scale", "it is being scaled\n"),
            (("scale", "load", "auto"), {"app": "load"}, "POST apps/load:scale", "it is being scaled\n"),
            (("run", "load"), {"n": 3}, "POST apps/load:run", "3 files go\n")):
        server.asked.clear()
        server.script = [answer(doc)]
        assert at_server.run("app", *args).stdout == out
        assert f"{server.asked[0].command} {server.asked[0].path}" == target.replace(" ", " /v1/tenants/acme/")
        if args[0] == "scale":
            assert json.loads(server.asked[0].body) == {"count": {"3": 3, "auto": None}[args[2]]}
        if args[0] == "start" and len(args) > 2:
            assert json.loads(server.asked[0].body) == {"args": ["-x", "--", "b"]}
    # a start whose answer was lost is asked for again, by its key; what starts no other instance is not
    server.asked.clear()
    server.script = [cut, problem(503, "unavailable", Retry_After="0"), answer({"instance_id": "I"}, 201), answer({"instance_id": "J"}, 201)]
    assert [at_server.run("app", "start", "load", "-x").stdout for _ in range(2)] == ["I\n", "J\n"]
    key, again, third, other = server.keys()
    assert key == again == third != other and len(key) == len(other) == 32
    server.asked.clear()
    server.script = [cut]
    at_server.run("app", "start", "load", code=1)
    assert server.keys() == [None]
    server.script = [answer({"app": "load", "active": "2", "versions": [VERSION | {"created_at": "2026-01-31T12:00:00.000Z", "reason": None}]})]
    assert "1a2b" in at_server.run("app", "versions", "load").stdout
    server.script = [answer({"apps": [], "instances": [{"instance_id": "I", "app": "load", "state": "running", "args": ["-x"]}]})]
    assert re.search(r'I +load +running .*"-x"', at_server.run("app", "instances").stdout)
    for args in (("scale", "load", "many"), ("push", "load"), ("list", "x"), ("paint", "load"), (), ("stop", "I", "--activate")):
        assert at_server.run("app", *args, code=2)


def test_versions_of_a_real_app(site, machine):
    machine.token_file.write_text(site.of("tenant-deployer"))
    assert "(not_allowed, " in machine.run("app", "push", "slow", machine.file("one.sh", "#!/bin/sh\n"), code=1).stderr
    conf = site.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + 'allow = ("apps");\n')
    site.home.cli("reload")
    for i in (1, 2):
        script = machine.file("v/misbehave", f"#!/bin/sh\n# {i}\ncat > /dev/null\n")
        script.chmod(0o755)
        (pushed,) = machine.rows("app", "push", "slow", "v", "--activate")
        assert pushed["state"] == "ready" and pushed["active"]
    versions = machine.rows("app", "versions", "slow")
    assert len(versions) == 2 and [v["active"] for v in versions].count(True) == 1
    (old,) = [v["version"] for v in versions if not v["active"]]
    assert f"slow {old} is active" in machine.run("app", "rollback", "slow").stdout
    assert f"slow {pushed['version']} is active; before it: {old}" in machine.run("app", "activate", "slow", pushed["version"]).stdout
    machine.run("app", "remove", "slow", old)
    assert "(state, " in machine.run("app", "remove", "slow", pushed["version"], code=1).stderr
    assert "error: " in machine.run("app", "push", "nothing", "v", code=1).stderr
