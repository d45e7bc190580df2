"""How far something is that takes long: a bar on a terminal, a line in a log, nothing where it is to be quiet."""
import fcntl
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import termios

import pytest

from harness import BUILD, ROOT, until
from test_listing import SGR
from test_words import Terminal

pytestmark = pytest.mark.once


def columns_of(text):
    return len(text) + sum(c in "漢字" for c in text)


def resize(terminal, columns):
    fcntl.ioctl(terminal.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


@pytest.fixture
def gated(home):
    """A platform whose app waits for a gate; gives a file that has it wait."""
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    gates = []

    def make(name="x.csv"):
        gates.append(home.base / f"gate{len(gates)}")
        x = home.base / name
        x.write_text(f"do,arg\ngate,{gates[-1]}\n")
        return x, gates[-1]
    yield make
    for g in gates:
        g.touch()


def test_a_log_gets_a_line_of_what_lasts(home, gated):
    x, gate = gated()
    err = home.base / "err"
    with open(err, "w") as f:
        p = subprocess.Popen([BUILD / "mysimbdp", "upload", "acme", "data", x, "--wait"], env=home.env, stdout=subprocess.PIPE, stderr=f, text=True)
    until(lambda: err.read_text(), home.base, what="the line")
    gate.touch()
    assert re.fullmatch(r"\w+ ingested\n", p.communicate()[0]) and p.returncode == 0
    assert err.read_text() == "x.csv: running app app\n", "once, and of nothing that took no time"
    # what takes no time says nothing
    x.write_text("do,arg\nprint,a\n")
    assert home.cli("upload", "acme", "data", x, "--wait").stderr == ""
    # nor does anything that is to be quiet, or whose rows a program reads
    for args in (("--quiet",), ("--json",), ("--output", "json")):
        y, gate = gated("y.csv")
        t = Terminal(home, "upload", "acme", "data", y, "--wait", *args)
        home.wait_running()
        gate.touch()
        code, out = t.end()
        assert code == 0 and t.shown == "" and (args == ("--quiet",) or json.loads(out)["state"] == "ingested"), (args, t.shown, out)


def test_the_line_fits_and_is_cleared(home, gated):
    name = "漢字" * 20 + ".csv"
    x, gate = gated(name)
    t = Terminal(home, "upload", "acme", "data", x, "--wait")
    t.until(r"running app app \d+ s")
    assert "漢字…" in t.shown and "\ufffd" not in t.shown, t.shown
    assert all(columns_of(line) < 80 for line in t.shown.split("\r"))
    resize(t, 20)
    before = len(t.shown)
    t.until(r"running app app [1-9]\d* s|\r漢字漢字漢[^\r]{0,12}\r")
    until(lambda: t.read(0.1) and False or re.search(r"\r[^\r]{5,}\r", t.shown[before + 300:]), every=0, what="it is drawn anew")
    assert all(columns_of(line.rstrip(" ")) < 20 for line in t.shown[before + 300:].split("\r")[1:-1]), t.shown[before:]
    resize(t, 80)
    for sig in (signal.SIGINT, signal.SIGTERM):
        x, _ = gated(f"by{int(sig)}.csv")
        s = Terminal(home, "upload", "acme", "data", x, "--wait")
        s.until(r"by\d+.csv: ")
        s.process.send_signal(sig)
        s.end()
        assert s.process.returncode == -sig and re.search(r"\r +\r$", s.shown), s.shown[-200:]
    gate.touch()
    assert t.end()[0] == 0 and re.search(r"\r +\r$", t.shown)


def test_preview_of_a_large_file(home):
    rng = random.Random(1)
    x = home.base / "large.csv"
    line = "".join(f"{rng.random()},{rng.random()},text\n" for _ in range(1000))
    with open(x, "w") as f:
        f.write("a,b,c\n")
        for _ in range(300):
            f.write(line)
    t = Terminal(home, "preview", x)
    t.until(r"\rlarge.csv: reading \[#* *\] +\d+% \d+\.\d MB")
    code, out = t.end()
    assert code == 0 and "300000 rows" in out and re.search(r"\r +\r$", t.shown)
    with open(x) as f:  # of a pipe it is not known how much comes
        p = subprocess.Popen(["cat"], stdin=f, stdout=subprocess.PIPE)
        assert "300000 rows" in subprocess.run([BUILD / "mysimbdp", "preview", "-"], stdin=p.stdout, env=home.env, capture_output=True, text=True, check=True).stdout
        p.stdout.close()
        p.wait()
    t = Terminal(home, "preview", x, "--quiet")
    assert t.end()[0] == 0 and t.shown == ""
    t = Terminal(home, "preview", x, "--to", "json", both=True)  # rows are on the same terminal
    t.until('"text"')
    t.process.terminate()
    t.end()
    assert "reading" not in t.shown


def test_purge(home):
    """It says what it is at, while a run that does not want to end has its grace."""
    home.profiles(grace_s=6)
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    home.do("deaf")
    home.wait_running()
    t = Terminal(home, "tenant", "remove", "acme", "--purge")
    t.until(r"\racme: its runs end \d+ s")
    code, out = t.end()
    assert code == 0 and out == "tenant acme and everything it had are gone\n" and re.search(r"\r +\r$", t.shown)


def test_bars_of_scripts(tmp_path):
    """scripts/bar.sh, which scripts/setup and scripts/demo source."""
    script = tmp_path / "script"
    script.write_text(f'set -euo pipefail\nquiet=${{1:-}}\n. {ROOT}/scripts/bar.sh\ntrap bar_clear EXIT\nsay "one"\nfor i in 0 3 7 9; do bar "lädt" $i 7; done\nbar_clear\n'
                      'echo output\nsay "two"\nbar_while "waits" sh -c "read -r line <$2; exit 3" || echo "code $?"\nbar x 1 0\n')
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)

    def run(*args, terminal):
        main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 60, 0, 0))
        out = side if terminal else subprocess.PIPE
        p = subprocess.Popen(["bash", script, *args, fifo], stdout=out, stderr=side if terminal else subprocess.STDOUT,
                             env={**os.environ, "TERM": "xterm", "LC_ALL": "C.UTF-8", "NO_COLOR": ""})
        os.close(side)
        shown = b""
        with open(fifo, "w") as f:  # it waits for this line
            if terminal:
                while not re.search(rb"waits \d+ s", shown) and not (args[0] and p.poll() is None and shown.endswith(b"output\r\n")):
                    shown += os.read(main, 65536)
            f.write("go\n")
        try:
            while piece := (os.read(main, 65536) if terminal else p.stdout.read()):
                shown += piece
        except OSError:
            pass
        os.close(main)
        assert p.wait() == 0
        if not terminal:
            p.stdout.close()
        return shown.decode().replace("\r\n", "\n")
    shown = run("", terminal=True)
    assert "\x1b[1m== one\x1b[0m\n" in shown and "\rlädt [########            ]  42% 3 of 7" in shown and "100% 7 of 7" in shown, shown
    assert all(columns_of(SGR.sub("", line)) <= 60 for line in re.split(r"[\r\n]", shown)) and "\ufffd" not in shown
    assert re.search(r"\r +\routput\n", shown) and "code 3\n" in shown and re.search(r"x \d s *\r\r +\r$", shown), shown
    assert run("", terminal=False) == "== one\noutput\n== two\ncode 3\n"
    assert run("1", terminal=True) == run("1", terminal=False) == "output\ncode 3\n"
