"""Somebody with the gateway's uid and nothing else: hands files in and asks through the sockets that are its own."""
import json
import os
import random
import socket
import subprocess

from harness import IS_ROOT

INSIDE = r"""
import json, os, socket, sys
runtime, spool, tests = sys.argv[1:]
sys.path.insert(0, tests)
kept = []
def connect(program):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(os.path.join(runtime, program))
    return s
def answers(s, n):
    lines, got = s.makefile(), []
    try:
        while len(got) < n and (line := lines.readline()):
            got.append(json.loads(line))
    except ConnectionError:
        pass
    return got + [None] * (n - len(got))
def ask(program, *requests):
    with connect(program) as s:
        s.sendall(b"".join(json.dumps(r).encode() + b"\n" for r in requests))
        return answers(s, len(requests))
def put(name, text):
    fd = os.open(os.path.join(spool, name), os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    os.write(fd, text.encode())
    os.fsync(fd)
    os.close(fd)
def at(name):
    return os.path.join(spool, name)
for line in sys.stdin:
    try:
        exec(json.loads(line), globals())
        print(json.dumps({"value": globals().pop("value", None)}), flush=True)
    except Exception as e:
        print(json.dumps({"raised": type(e).__name__, "why": str(e)}), flush=True)
"""
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def new_id():
    return "".join(random.choices(ALPHABET, k=26))


def uid_of(home):
    """The gateway's; without root it has none of its own."""
    return json.loads((home.path / "state/uids.json").read_text())["uid_base"] + 61444 if IS_ROOT else os.geteuid()


class Gateway:
    """For a home that has run once. Closed by the end of the test's `with`."""

    def __init__(self, home):
        self.home, self.uid = home, uid_of(home)
        self.spool = home.path / "staging/.gateway"
        as_it = ["setpriv", f"--reuid={self.uid}", f"--regid={self.uid}", "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--inh-caps=-all"] if IS_ROOT else []
        self.process = subprocess.Popen([*as_it, "/usr/bin/python3", "-c", INSIDE, str(home.runtime()), str(self.spool), os.path.dirname(__file__)],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd="/", env={"PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stdin.close()
        self.process.wait(timeout=60)
        self.process.stdout.close()

    def do(self, code):
        """Runs it as the gateway; what it calls `value`."""
        self.process.stdin.write(json.dumps(code) + "\n")
        self.process.stdin.flush()
        answer = json.loads(self.process.stdout.readline())
        if "raised" in answer:
            raise RuntimeError(f"{answer['raised']}: {answer['why']}")
        return answer["value"]

    def ask(self, request, program="batchmgr"):
        return self.ask_all(request, program=program)[0]

    def ask_all(self, *requests, program="batchmgr"):
        """All at once on one connection. None for each that is not answered any more."""
        return self.do(f"value = ask({program + '.gateway.sock'!r}, *{list(requests)!r})")

    def put(self, text, name=None):
        """A whole file in the spool; its name."""
        name = name or new_id()
        self.do(f"put({name!r}, {text!r})")
        return name

    def request(self, spool, text, name="f.csv", **more):
        return {"op": "hand_in", "tenant_id": "acme", "dataset": "data", "name": name, "size": len(text), "spool": spool, "account": "ann", **more}

    def hand_in(self, text, name="f.csv", **more):
        return self.ask(self.request(self.put(text), text, name, **more))

    def check(self, name="f.csv", **more):
        return self.ask({"op": "upload_check", "tenant_id": "acme", "dataset": "data", "name": name, **more})

    def spooled(self):
        return sorted(self.do("value = os.listdir(spool)"))


def connect(home, program):
    """As who runs the tests: root, or the home's user."""
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(60)
    s.connect(str(home.runtime() / program))
    return s
