"""mysimbdp --url …: the tenants' command line over HTTP, against the whole platform; against a server that does as a test says where the
platform would not. Bad lines are in test_remote_lines.py; streams, events and apps in test_remote_streams.py."""
import contextlib
import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import ssl
import struct
import subprocess
import termios

import pytest

from fake_server import Server, answer, problem
from harness import BUILD, until
from remote import ME, Machine, wide_rows, site, machine, open_site, proxy, cut_off, server, at_server  # noqa: F401 (fixtures)

pytestmark = pytest.mark.anyone


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
