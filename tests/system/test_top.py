"""`mysimbdp top` on terminals: curves, the view of one app, widths, and who is away."""
import contextlib
import os
import re
import signal
import subprocess

import pytest
from harness import BUILD, until
from test_listing import SGR, on_terminal
from test_monitor import STREAM, Load, WORK, configure, platform, wait_top, worker  # noqa: F401 (platform is a fixture)
from test_words import Terminal
from wire import Peer

pytestmark = pytest.mark.once

BLOCKS = "▁▂▃▄▅▆▇█"


class Screen:
    """`top` on a screen of that size; tmux is the terminal."""

    def __init__(self, home, columns, lines, *args, **env):
        self.home, self.columns, self.lines = home, columns, lines
        self.env = {**home.env, "TERM": "xterm-256color", "SHELL": "/bin/sh", "LANG": "C.UTF-8", "LC_ALL": "C.UTF-8", **env}
        self.socket = str(home.base / f"tmux-{columns}x{lines}")
        # tmux says what terminal it is by TERM of its own
        self.tmux("-u", "-f", "/dev/null", "new-session", "-d", "-x", str(columns), "-y", str(lines),
                  f"{BUILD}/mysimbdp top {' '.join(args)}; echo LEFT; read line")

    def tmux(self, *args):
        return subprocess.run(["tmux", "-S", self.socket, *args], env=self.env, capture_output=True, text=True, check=True).stdout

    def keys(self, *keys):
        self.tmux("send-keys", *keys)

    def shown(self, *args):
        return self.tmux("capture-pane", "-p", *args)

    def until(self, test, what):
        def look():
            s = self.shown()
            lines = s.splitlines()
            assert len(lines) <= self.lines and all(len(line) <= self.columns for line in lines), s
            return s if test(s) else None
        return until(look, self.home.base, what=lambda: what + ":\n" + self.shown())

    def resize(self, columns, lines):
        self.columns, self.lines = max(columns, self.columns), max(lines, self.lines)  # while it is drawn anew
        self.tmux("resize-window", "-x", str(columns), "-y", str(lines))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            self.tmux("kill-server")


def curve_of(line, blocks=BLOCKS):
    return sum(c in blocks for c in line)


def line_of(screen, text):
    return next((line for line in screen.splitlines() if text in line), "")


def test_curves_and_one_app(platform):
    configure(platform, WORK, 'app = "quiet"; stream = "events"; exec = "work.py"; max_instances = 1;')
    worker(platform)
    platform.up()
    platform.cli("app", "stop", "acme/quiet")
    with Load(platform, 40):
        wait_top(platform, lambda r: r["instances"] >= 2 and r["reporting"] >= 2, app="work")
        with Screen(platform, 80, 24) as t:
            # what was before it began is the monitor's to tell: each of four figures has a curve
            s = t.until(lambda s: "acme/work" in s and curve_of(line_of(s, "acme/work")) >= 4, "curves of an app")
            assert ">" in line_of(s, "sorted by") or line_of(s, "acme/work")[0] in "> ", s
            t.keys("Down")
            t.until(lambda s: line_of(s, "acme/quiet").startswith(">") and not line_of(s, "acme/work").startswith(">"), "the next row selected")
            t.keys("i")
            t.until(lambda s: "acme/quiet" not in s, "no longer there")
            t.keys("i")
            t.until(lambda s: line_of(s, "acme/quiet").startswith(">"), "it stays selected")
            t.keys("Up", "Enter")
            run = platform.rows("app", "list")
            run = next(a for a in run if a["app"] == "work")["run_ids"][0]
            s = t.until(lambda s: all(word in s for word in ("limits: 0 to 8 instances", "ARRIVALS /s", "INSTANCE ", run, "running")), "the view of one app")
            assert sum(curve_of(line) > 0 for line in s.splitlines()) >= 3, s
            assert "acme/work" in s.splitlines()[0]
            s = t.until(lambda s: re.search(run + r" running +\d+[sm] +[0-2] +[0-9.]+ +\d+% +\d+%", s), "what an instance does")
            t.keys("End")
            t.until(lambda s: "DECISIONS" in s and re.search(r"\d\d:\d\d:\d\d  \d+ -> \d+  \w+", s), "decisions with reasons")
            # streammgr goes and comes
            os.kill(platform.pids("streammgr")[0], signal.SIGSTOP)
            t.keys("Home")
            t.until(lambda s: "limits: " in s, "keys while a program hangs")
            os.kill(platform.pids("streammgr")[0], signal.SIGCONT)
            t.resize(200, 60)
            s = t.until(lambda s: "DECISIONS" in s and "BACKLOG" in s and sum(curve_of(line) > 20 for line in s.splitlines()) >= 6, "all of it on a large screen")
            t.keys("Escape")
            t.until(lambda s: "AVG ms" in s and "acme/quiet" in s and curve_of(line_of(s, "acme/work")) > 10, "the board, wide")
            t.resize(40, 10)
            t.columns, t.lines = 200, 60
            t.until(lambda s: "AVG ms" not in s and "/work" in s and max(map(len, s.splitlines())) <= 40, "the board, narrow")
            t.keys("Enter")
            t.until(lambda s: "limits:" in s and max(map(len, s.splitlines())) <= 40, "one app, narrow")
            t.keys("q")
            t.until(lambda s: "STATE" in s, "back")
            # the monitor goes; what was known stays, curves too, and keys are obeyed
            t.resize(80, 24)
            t.until(lambda s: curve_of(line_of(s, "acme/work")) >= 8, "a while of curves")
            monitor = platform.pids("monitor")[0]
            os.kill(monitor, signal.SIGSTOP)
            t.until(lambda s: "the monitor does not answer since" in s and curve_of(line_of(s, "acme/work")) >= 4, "a monitor that hangs")
            t.keys("s")
            t.until(lambda s: "sorted by in_per_s" in s, "a key meanwhile")
            os.kill(monitor, signal.SIGKILL)
            t.until(lambda s: platform.pids("monitor") not in ([], [monitor]) and "does not answer" not in s and "is down" not in s and "went away" not in s and curve_of(line_of(s, "acme/work")) >= 8,
                    "the next monitor's board, with the curves of the last one's time")
            t.keys("q")
            t.until(lambda s: "LEFT" in s, "the end")


def test_colours_locales_and_terminals(platform):
    configure(platform, WORK)
    worker(platform)
    platform.tenant("files", exec_="misbehave")
    platform.up()
    platform.do("hang", tenant="files")
    with Peer(platform.endpoint) as p:
        p.publish(STREAM, [b"{}"])
    wait_top(platform, lambda r: r["instances"] == 1, app="work")
    with Screen(platform, 80, 24) as t:
        s = t.until(lambda s: "FILES OF TENANT" in s and re.search(r"arrivals .*settled .*unfinished .*running", s) and curve_of(line_of(s, "unfinished ")) >= 2, "curves of a tenant's files")
        assert "\x1b[7m" in t.shown("-e")
    with Screen(platform, 81, 24, LANG="C", LC_ALL="C") as t:
        s = t.until(lambda s: "acme/work" in s and curve_of(line_of(s, "acme/work")[25:], "_.:-=+*#") >= 2, "curves in ASCII")
        assert not curve_of(s) and s.isascii()
    for no, coloured in (("", True), ("1", False)):
        with Screen(platform, 82 + coloured, 24, NO_COLOR=no) as t:
            t.until(lambda s: " OK " in s and "acme/work" in s or ">OK" in s, "the board")
            assert bool(re.search(r"\x1b\[(\d+;)*3[0-7]m", t.shown("-e"))) == coloured, t.shown("-e")
    # a terminal whose cursor cannot be moved gets lines, again and again
    for term in ("dumb", "no-such-terminal"):
        platform.env["TERM"] = term
        t = Terminal(platform, "top", both=True)
        t.until(r"(?s)\d\dT\d\d:\d\d:\d\d.*acme/work.*\d\dT\d\d:\d\d:\d\d")
        t.process.terminate()
        t.end()
        shown = t.shown.replace("\r", "") if term == "dumb" else SGR.sub("", t.shown.replace("\r", ""))
        assert "\x1b" not in shown and max(map(len, shown.splitlines())) <= 80
    assert "acme/work" in on_terminal(platform, "top", "--once")


def test_a_terminal_that_goes_ends_it(platform):
    configure(platform, WORK)
    platform.up()
    platform.env["TERM"] = "xterm"
    t = Terminal(platform, "top", both=True)
    t.until("acme/work")
    t.process.send_signal(signal.SIGSTOP)
    os.close(t.fd)
    t.process.send_signal(signal.SIGCONT)
    assert t.process.wait(10) is not None
