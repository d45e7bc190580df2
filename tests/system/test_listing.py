"""How verbs print rows: for people, for programs, on a terminal; and events over all programs and tenants."""
import csv
import fcntl
import io
import json
import os
import pty
import re
import select
import shutil
import signal
import struct
import subprocess
import termios

from harness import BUILD, until
from test_words import Terminal
from wire import Peer

SGR = re.compile(r"\x1b\[(\d+)m")


def on_terminal(home, *args, columns=80, **env):
    """What a terminal of that width gets."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    p = subprocess.Popen([BUILD / "mysimbdp", *args], env={**home.env, "TERM": "xterm", **env}, stdout=slave, stderr=subprocess.DEVNULL)
    os.close(slave)
    text = b""
    while True:
        try:
            got = os.read(master, 65536)
        except OSError:
            break
        if not got:
            break
        text += got
    os.close(master)
    assert p.wait() == 0
    return text.decode().replace("\r\n", "\n")


def rows_of_csv(home, *args):
    return list(csv.DictReader(io.StringIO(home.cli(*args, "--output", "csv").stdout)))


def test_outputs_events_and_colours(home):
    home.tenant(limits="max_rows = 2;")
    home.tenant("other")
    home.up()
    home.drop("x.csv", "a,b\n1,2\n3\n")
    home.drop('say "hi", \x1b[31m.csv', "a\n" + "1\n" * 3)
    home.drop("o.csv", "a\n1\n", tenant="other")
    files = sorted(home.wait_files(3), key=lambda f: f["file_id"])

    # csv: the same rows as JSON, whole, and nothing that a terminal obeys
    assert [json.loads(x) for x in home.cli("files", "--output", "json").stdout.splitlines()] == home.rows("files")
    told = rows_of_csv(home, "files")
    assert [r["file_id"] for r in told] == [f["file_id"] for f in files] and "why" not in told[0]
    assert list(told[0]) == list(files[0])
    for row, f in zip(told, files):
        assert row["received_at"] == f["received_at"] and row["state"] == f["state"] and row["size_bytes"] == str(f["size_bytes"])
        assert row["run_id"] == (f["run_id"] or "") and json.loads(row["quality"] or "null") == f["quality"]
    assert {r["file_name"].replace("\\x1b", "\x1b") for r in told} == {f["file_name"] for f in files}
    assert [r["forced"] for r in rows_of_csv(home, "runs")] == ["false"] * len(home.rows("runs"))
    assert rows_of_csv(home, "files", "--state", "vanished") == []
    assert home.cli("files", "--state", "vanished", "--output", "csv").stdout.startswith("file_id,tenant_id,")
    x = next(f for f in files if f["file_name"] == "x.csv")
    reject, = rows_of_csv(home, "rejects", x["file_id"])
    assert (reject["line"], reject["byte_offset"], reject["raw"], reject["repaired"]) == ("3", "8", "3", "")
    for verb in (["stats"], ["tenant", "list"], ["queue", "list"], ["app", "list"], ["audit"], ["explain"]):
        assert home.cli(*verb, "--output", "csv").stdout.count("\n") >= 1, verb
    # wide: what JSON alone had, in a table that nothing cuts
    head, *lines = home.cli("files", "--output", "wide").stdout.splitlines()
    assert "content_hash" in head and "detail" in head and "quality" not in head and x["content_hash"] in "".join(lines)
    assert x["content_hash"] in on_terminal(home, "files", "--output", "wide")
    for args, words in ((["files", "--output", "xml"], "table, wide, json or csv"), (["status", "--output", "csv"], "verbs that list"),
                        (["files", "--json", "--output", "csv"], "cannot both be")):
        r = home.cli(*args, check=False)
        assert r.returncode == 2 and words in r.stderr, r

    # colours: of states, on terminals, unless NO_COLOR says no; 80 columns hold each line
    shown = on_terminal(home, "files", NO_COLOR="")
    assert "\x1b[31mrejected" in shown and "\x1b[32mingested" in shown and set(SGR.findall(shown)) == {"0", "31", "32"}
    plain = on_terminal(home, "files", NO_COLOR="1")
    assert "\x1b" not in plain and plain == SGR.sub("", shown) == on_terminal(home, "files", TERM="dumb")
    assert "\x1b" not in home.cli("files").stdout
    assert "\x1b[32mok" in on_terminal(home, "runs")
    for verb in (["files"], ["runs"], ["events"], ["top", "--once"], ["describe", "x.csv"], ["explain"]):
        assert max(len(line) for line in on_terminal(home, *verb, NO_COLOR="1").splitlines()) <= 80, verb

    # events: of all tenants, by time; filters; what is new as it comes
    events = home.rows("events")
    for tenant in ("acme", "other"):  # each one's own order is kept, and between them the earlier comes first
        assert [e for e in events if e["tenant_id"] == tenant] == home.rows("events", "--tenant", tenant) != []
    assert all(a["ts"] <= b["ts"] for a, b in zip(events, events[1:]) if a["tenant_id"] != b["tenant_id"])
    verdicts = home.rows("events", "--types", "file.verdict")
    assert {(e["event"], e["tenant_id"], e["file_name"]) for e in verdicts} == {("file.verdict", f["tenant_id"], f["file_name"]) for f in files}
    assert {e["event"].split(".")[0] for e in home.rows("events", "--types", "run", "--tenant", "other")} == {"run"}
    assert home.rows("events", "--limit", "2") == events[-2:] and home.rows("events", "--since", "2099-01-01") == []
    assert home.rows("events", "--since", events[3]["ts"]) == [e for e in events if e["ts"] >= events[3]["ts"]]
    line = home.cli("events", "--types", "file.verdict", "--tenant", "other").stdout
    assert re.match(r"2\d{3}-\d\d-\d\dT\d\d:\d\d:\d\d  file\.verdict +other dataset=data file_id=\w+ ", line), line
    r = home.cli("events", "--types", "file.verdit", check=False)
    assert r.returncode == 2 and "did you mean 'file.verdict'?" in r.stderr
    follower = subprocess.Popen([BUILD / "mysimbdp", "events", "-f", "--types", "file.verdict", "--output", "json"], env=home.env, stdout=subprocess.PIPE, text=True)
    older = subprocess.Popen([BUILD / "mysimbdp", "events", "-f", "--since", "1h", "--types", "file.verdict", "--json"], env=home.env, stdout=subprocess.PIPE, text=True)
    before = [json.loads(older.stdout.readline()) for _ in verdicts]
    assert before == verdicts
    n = 0

    def deliver():
        nonlocal n
        n += 1
        home.drop(f"new{n}.csv", f"a\n{n + 100}\n", tenant="other")
        return bool(select.select([follower.stdout], [], [], 2)[0])

    until(deliver, every=0, what="an event that is new")
    new = json.loads(follower.stdout.readline())
    assert new["tenant_id"] == "other" and new["file_name"].startswith("new") and new["state"] == "ingested"
    assert json.loads(older.stdout.readline())["file_name"] == "new1.csv"
    for p in (follower, older):
        p.kill()
        p.wait()
        p.stdout.close()


def test_watch(home):
    """Files and runs as they change, a line a change; on a terminal in colour, and within its width."""
    home.tenant(limits="max_rows = 2;")
    home.tenant("other")
    home.up()
    home.drop("before.csv", "a\n1\n")
    home.wait_files(1)
    name = "x" * 60 + ".csv"
    watchers = {key: subprocess.Popen([BUILD / "mysimbdp", *args, "--watch"], env=home.env, stdout=subprocess.PIPE, text=True)
                for key, args in {"files": ["files"], "json": ["files", "--json", "--tenant", "acme"], "runs": ["runs"]}.items()}
    n = 0

    def one_more():
        nonlocal n
        n += 1
        home.drop(f"{n}{name}", f"a\n{n + 1000}\n")
        home.drop(f"{n}.csv", f"a\n{n}\n", tenant="other")

    def told(p):  # what was there at its first look is no change
        one_more()
        return bool(select.select([p.stdout], [], [], 3)[0])

    for p in watchers.values():
        until(lambda p=p: told(p), every=0, what="a change")
    line = watchers["files"].stdout.readline()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d  [0-9a-z]{26}  (received|queued|running|ingested) +(acme|other)/data/\d+(x{60})?\.csv", line), line
    row = json.loads(watchers["json"].stdout.readline())
    assert row["tenant_id"] == "acme" and list(row) == list(home.rows("files")[0])
    while row["state"] != "ingested":
        row = json.loads(watchers["json"].stdout.readline())
    assert re.match(r"\S+  [0-9a-z]{26}  (starting|running|ok) +(acme|other)/app\n", watchers["runs"].stdout.readline())
    for p in watchers.values():
        p.stdout.close()
        until(lambda p=p: p.poll() is not None or (one_more(), False)[1], every=0.5, what="its end")
        assert p.returncode in (0, -signal.SIGPIPE)
    terminal = Terminal(home, "files", "--watch", both=True)
    until(lambda: (one_more(), terminal.read(1), name[:12] in terminal.shown)[2], every=0, what="a change on a terminal")
    terminal.process.terminate()
    terminal.end()
    assert "\x1b[" in terminal.shown and "…" in terminal.shown and max(len(x) for x in SGR.sub("", terminal.shown).splitlines()) <= 80
    for args, words in ((["files", "--watch", "--limit", "3"], "--limit"), (["runs", "--watch", "--output", "csv"], "csv"), (["files", "--watch", "x"], "too many")):
        r = home.cli(*args, check=False)
        assert r.returncode == 2 and words in r.stderr, r


NAME = "n" * 30 + "-x"                    # as long as ids of tenants, apps, datasets, streams may be
FILE = "f" * 28 + "漢字" + "g" * 28 + ".csv"  # 64 characters
SENTENCE = "what is wrong with this row is said at length, " * 3


def columns_of(text):
    return len(text) + sum(c in "漢字" for c in text)


def test_everything_fits_80_columns(home):
    """Each verb that prints, on a home of long names, on a terminal of 80 columns (and fewer)."""
    home.profiles(cpus=0.01)
    home.db_of[NAME] = NAME
    conf = home.path / f"conf/tenants/{NAME}.conf"
    conf.write_text(f"""database = "{NAME}"; display_name = "{NAME} {NAME} {NAME}";
datasets = ( {{ name = "{NAME}"; format = "csv"; }} );
batch = ( {{ app = "{NAME}"; exec = "builtin:load"; datasets = ("{NAME}"); }},
          {{ app = "b{NAME[1:]}"; exec = "misbehave"; pattern = "bad*"; datasets = ("{NAME}"); retry = {{ attempts = 1; }}; }} );
streams = ( {{ name = "{NAME}"; }} );
stream_apps = ( {{ app = "s{NAME[1:]}"; stream = "{NAME}"; exec = "{'e' * 60}"; max_instances = 2; min_instances = 1; }} );
""")
    (home.path / "apps" / NAME).mkdir()
    (home.path / "apps" / NAME / ("e" * 60)).write_text(f"#!/bin/sh\necho {SENTENCE} >&2\nexit 3\n")
    (home.path / "apps" / NAME / ("e" * 60)).chmod(0o755)
    shutil.copy(BUILD / "tenants/misbehave", home.path / "apps" / NAME / "misbehave")
    main = home.path / "conf/mysimbdp.conf"
    main.write_text(main.read_text().replace("platform = {", f'platform = {{ alerts = ( {{ name = "a{NAME[1:]}"; when = "restarts >= 0"; }} );'))
    home.up()
    staging = home.path / f"staging/{NAME}/{NAME}"
    (home.base / "x").write_text("a,b\n1,2\n" + "z" * 300 + "\n4,5\n")
    os.rename(home.base / "x", staging / FILE)
    (home.base / "x").write_text(f"do,arg\ncomplain,{SENTENCE}\nexit,1\n")
    os.rename(home.base / "x", staging / f"bad{FILE[3:]}")
    good = home.wait_file(file_name=FILE)
    bad = home.wait_file(file_name=f"bad{FILE[3:]}")
    user = "u" * 60
    home.cli("user", "add", user, "--role", "tenant-deployer", "--tenant", NAME, input="a password that is long\n")
    home.cli("token", "add", user, "--note", "note " * 30, "--datasets", NAME)
    home.cli("alerts", "silence", NAME, "--for", "2h", "--why", SENTENCE)
    with Peer(home.endpoint) as p:
        p.publish(f"{NAME}/{NAME}", [b"x" * 200])
    until(lambda: [r for r in home.rows("top", "--once") if r.get("app") == "s" + NAME[1:] and r["alerts"]], home.path / "logs", what="the alert")
    verbs = [["files"], ["files", good["file_id"]], ["runs"], ["runs", bad["run_id"]], ["events"], ["stats"], ["stats", "--streams"], ["status"], ["clock"],
             ["tenant", "list"], ["user", "list"], ["token", "list"], ["audit"], ["app", "list"], ["queue", "list"], ["dead", "list"],
             ["alerts"], ["alerts", "silences"], ["rejects", good["file_id"]], ["top", "--once"], ["describe", NAME], ["describe", f"{NAME}/{NAME}"], ["describe", f"{NAME}/s{NAME[1:]}"],
             ["describe", f"{NAME}/b{NAME[1:]}"], ["describe", good["file_id"]], ["describe", bad["run_id"]], ["explain"], ["explain", "max_rejects"],
             ["check"], ["check", "--keys"], ["doctor"], ["verify"], ["preview", home.base / "long.csv"], ["help"], ["top", "--help"], ["audit", "--verify"],
             *([v, "--help"] for v in ("files", "user", "advise", "preview", "tenant", "events"))]
    (home.base / "long.csv").write_text(f"{'c' * 64},b\n{'v' * 200},2\n{'w' * 200}\n")
    wrong = {}
    for columns in (80, 60):
        for verb in verbs:
            t = Terminal(home, *verb, columns=columns, both=True)
            code, shown = t.end()
            assert code in (0, 1) and (shown or verb in (["stats", "--streams"], ["dead", "list"])), verb
            plain = SGR.sub("", shown)
            assert "\x1b" not in plain and "\ufffd" not in plain, (verb, plain)
            long = [line for line in plain.splitlines() if columns_of(line) > columns]
            if long and columns == 80:
                wrong[" ".join(map(str, verb))] = long
    assert not wrong, "\n".join(f"{v}: {lines[:3]}" for v, lines in wrong.items())
    # names keep their ends, and are whole where nothing is to be shortened
    assert re.search(r"f+…g*\.csv", on_terminal(home, "files"))
    for output in ("wide", "csv", "json"):
        assert FILE in on_terminal(home, "files", "--output", output)
    assert FILE in home.cli("files").stdout
