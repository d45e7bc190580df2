"""Broker and monitor against whoever reaches their sockets: strangers, tenants that flood, and bytes that are not ZMTP."""
import ctypes
import ctypes.util
import hashlib
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest
import zmq
from zmq.utils import z85

from harness import until
from wire import ACK, CONFIRM, DELIVER, PUBLISH, REFUSED, SUBSCRIBE, Peer, header

pytestmark = pytest.mark.anyone

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def ready(kind=b"DEALER"):
    body = b"\5READY" + b"\x0bSocket-Type" + struct.pack(">I", len(kind)) + kind
    return bytes([4, len(body)]) + body


def frame(body, more=False):
    return (bytes([more, len(body)]) if len(body) < 256 else bytes([2 | more]) + struct.pack(">Q", len(body))) + body


def connect(endpoint):
    s = socket.socket(socket.AF_UNIX)
    s.settimeout(10)
    s.connect(endpoint.removeprefix("ipc://"))
    return s


def shake(endpoint, kind=b"DEALER"):
    s = connect(endpoint)
    s.sendall(GREETING + ready(kind))
    got = b""
    while len(got) < 66 or len(got) < 66 + got[65]:
        part = s.recv(4096)
        assert part, got
        got += part
    return s


def is_ended(s):
    s.settimeout(20)
    try:
        while s.recv(65536):
            pass
    except (ConnectionResetError, BrokenPipeError):
        pass
    return True


def memory_of(pid):
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def descriptors_of(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.fixture
def home(make_home):
    h = make_home()
    h.streams("events")
    h.streams("events", name="quiet")
    h.up()
    h.endpoints = {p: json.loads((h.path / "state/endpoints.json").read_text())[p]["ipc"] for p in ("broker", "monitor")}
    yield h
    with Peer(h.endpoints["broker"]) as p:  # whatever was done: it serves
        assert p.publish("quiet/events", [b"x"])[1] == 1
    assert all(len(h.pids(p)) == 1 for p in ("broker", "monitor"))


def as_uid(uid, code, *args):
    return subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", code, *args],
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


MANY = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, resource.getrlimit(resource.RLIMIT_NOFILE)[1:] * 2)
open_ones = []
for i in range(int(sys.argv[2])):
    try:
        s = socket.socket(socket.AF_UNIX)
        s.connect(sys.argv[1])
    except OSError as e:
        break
    open_ones.append(s)
n = 0
for s in open_ones:
    s.settimeout(5)
    try:
        n += s.recv(1) != b''
    except OSError:
        pass
print('greeted', n, flush=True)
"""


@pytest.mark.needs_root
@pytest.mark.parametrize("program", ["broker", "monitor"])
def test_a_stranger_gets_no_connection(home, program):
    pid, = home.pids(program)
    before = memory_of(pid)
    for _ in range(3):
        out, _ = as_uid(4711, MANY, home.endpoints[program].removeprefix("ipc://"), "8000").communicate()
        assert out == "greeted 0\n", out
    assert home.pids(program) == [pid] and memory_of(pid) - before < 32 << 20 and descriptors_of(pid) < 100
    assert len(re.findall('"event":"refused"', (home.path / f"logs/{program}.log").read_text())) < 10


@pytest.mark.needs_root
@pytest.mark.parametrize("program", ["broker", "monitor"])
def test_a_tenant_has_so_many_connections(home, program):
    pid, = home.pids(program)
    uid = next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")
    flood = as_uid(uid, MANY, home.endpoints[program].removeprefix("ipc://"), "21000")
    most = 0
    while flood.poll() is None:
        most = max(most, descriptors_of(pid))
    out = flood.stdout.read()
    assert int(out.split()[-1]) >= 200 and 200 < most < 700 and home.pids(program) == [pid], (out, most)
    until(lambda: descriptors_of(pid) < 100, home.path, what="its connections to end")


def test_endless_frames_end_their_connection(home):
    pid, = home.pids("broker")
    before = memory_of(pid)
    s = shake(home.endpoints["broker"])
    with pytest.raises(OSError):
        for _ in range(2000):
            s.sendall(frame(b"x" * 60000, more=True) * 10)
    assert memory_of(pid) - before < 32 << 20
    s = shake(home.endpoints["broker"])
    with pytest.raises(OSError):
        while True:
            s.sendall(frame(b"", more=True) * 1000)
    s = shake(home.endpoints["broker"])  # announced, never sent
    s.sendall(b"\x02" + struct.pack(">Q", 1 << 62))
    assert is_ended(s)


def test_partial_messages_are_bounded_over_connections(home):
    """Two hundred connections, each a megabyte into a message."""
    pid, = home.pids("broker")
    before = memory_of(pid)
    held = [shake(home.endpoints["broker"]) for _ in range(200)]
    for s in held:
        s.setblocking(False)
        try:
            s.sendall(b"\x03" + struct.pack(">Q", 1_400_000))
            for _ in range(16):
                s.sendall(b"x" * 65536)
        except OSError:
            pass
    with Peer(home.endpoints["broker"]) as p:
        assert p.publish("quiet/events", [b"x"])[1] == 1
    assert memory_of(pid) - before < 64 << 20
    for s in held:
        s.close()


def test_answers_that_nobody_reads_are_bounded(home):
    pid, = home.pids("broker")
    before = memory_of(pid)
    held = []
    for _ in range(50):
        s = shake(home.endpoints["broker"])
        s.setblocking(False)
        held.append(s)
        ping = frame(struct.pack("<BBHI", 1, 1, 0, 1))
        try:
            for _ in range(200):
                s.sendall(ping * 500)
        except OSError:
            pass
    assert memory_of(pid) - before < 150 << 20
    for s in held:
        s.close()


@pytest.mark.parametrize("program", ["broker", "monitor"])
def test_bytes_that_are_not_zmtp(home, program):
    endpoint, rng = home.endpoints[program], hashlib.sha256(b"zmtp")
    good = GREETING + ready(b"DEALER" if program == "broker" else b"PUSH") + frame(b"hello")
    for hello in (b"GET / HTTP/1.1\r\n\r\n", b"\x01\x00", b"\xff" + bytes(8) + b"\x7f\x01", b"\xff" + bytes(8) + b"\x7f\x02" + bytes(60), bytes(300),
                  GREETING.replace(b"NULL", b"PLAIN"[:4] + b"") [:12] + b"PLAIN" + bytes(15) + bytes(32) + ready(), GREETING + frame(b"no handshake"),
                  GREETING + ready(b"SUB"), GREETING + ready(b"X" * 200), GREETING + b"\x04\x06\5READY", GREETING + b"\x04\x14\5READY\xff" + b"a" * 13):
        s = connect(endpoint)
        s.sendall(hello)
        assert is_ended(s), hello
    for n in range(300):
        rng.update(b"x")
        bad = bytearray(good)
        for i in range(n % 6 + 1):
            bad[rng.digest()[i] % len(bad)] = rng.digest()[i + 8]
        with connect(endpoint) as s:
            try:
                s.sendall(bytes(bad[:len(bad) - n % 3]))
                s.settimeout(0.005)
                s.recv(100)
            except OSError:
                pass


def test_who_says_nothing_is_not_waited_for(home):
    held = [connect(home.endpoints["broker"]) for _ in range(400)]
    with Peer(home.endpoints["broker"]) as p:
        assert p.publish("acme/events", [b"x"])[1] == 1
    assert all(is_ended(s) for s in held)


def test_a_byte_at_a_time_is_as_good_as_all_at_once(home):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(home.endpoints["broker"].removeprefix("ipc://"))
        s.settimeout(10)
        for b in GREETING + ready() + b"\x04\x0b\4PING\0\x64abcd" + frame(struct.pack("<BBHI", 1, 1, 0, 77)):
            s.sendall(bytes([b]))
        got = b""
        while b"\4PONGabcd" not in got or struct.pack("<BBHI", 1, 64, 0, 77) not in got:
            got += s.recv(4096)


@pytest.mark.needs_root
def test_reports_without_number_cost_their_sender(home):
    uid = next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")
    code = ("import sys, zmq, time\nc = zmq.Context(); s = c.socket(zmq.PUSH); s.linger = 0; s.connect(sys.argv[1]); t = time.monotonic(); n = 0\n"
            "while time.monotonic() - t < 4:\n    try:\n        s.send(b'{' * 2000, zmq.DONTWAIT); n += 1\n    except zmq.Again:\n        s.poll(100, zmq.POLLOUT)\nprint(n)\n")
    pid, = home.pids("monitor")

    def cpu():
        return sum(map(int, pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13])) / os.sysconf("SC_CLK_TCK")

    before, size = cpu(), (home.path / "logs/monitor.log").stat().st_size
    out, _ = as_uid(uid, code, home.endpoints["monitor"]).communicate()
    assert cpu() - before < 2, f"{cpu() - before} s for {out}"
    assert (home.path / "logs/monitor.log").stat().st_size - size < 20000


class Quiet:
    """Another tenant meanwhile: publishes a message, gets it, and so on; how long each took."""

    def __init__(self, endpoint, **options):
        self.endpoint, self.options, self.took, self.refused, self.over = endpoint, options, [], None, threading.Event()
        self.stream = b"events" if options else b"quiet/events"
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        assert self.refused is None and self.took, self.refused

    def run(self):
        with Peer(self.endpoint, **self.options) as p:
            p.send(header(SUBSCRIBE, 1, 1), self.stream, b"consume", struct.pack("<IQ", 100, 1 << 20))
            while not self.over.is_set():
                began, body, left = time.monotonic(), os.urandom(8), {CONFIRM, DELIVER}
                p.send(header(PUBLISH, 0, 2), self.stream, b"", struct.pack("<I", 8), body)
                while left:
                    verb, _, _, frames = p.receive(100) or (REFUSED, 0, 0, "nothing came")
                    if verb == REFUSED:
                        self.refused = frames
                        return
                    for m in p.messages(frames) if verb == DELIVER else []:
                        p.send(header(ACK, 1, 0), struct.pack("<QQ", m.seq, m.seq))
                        left -= {DELIVER} if m.body == body else set()
                    left -= {verb} - {DELIVER}
                self.took.append(time.monotonic() - began)


# Sends argv[3] for ever, over and over, on so many connections; reads what comes back, or not.
FLOOD = """
import select, socket, sys, time
sys.path[:0] = sys.argv[5:]
from test_zmtp import shake
data, socks = bytes.fromhex(sys.stdin.read()), {}
poll = select.epoll()
for _ in range(int(sys.argv[2])):
    try:
        s = shake(sys.argv[1], sys.argv[3].encode())
    except OSError:  # what an earlier flood sent is not read yet, and its connections count
        continue
    s.setblocking(False)
    poll.register(s, select.EPOLLOUT | (select.EPOLLIN if sys.argv[4] == "reads" else 0))
    socks[s.fileno()] = [s, 0]
ends = time.monotonic() + 1.2
while time.monotonic() < ends:
    for fd, what in poll.poll(0.1):
        s, at = socks[fd]
        try:
            if what & select.EPOLLIN and not s.recv(1 << 20):
                poll.unregister(fd)
                continue
            socks[fd][1] = (at + s.send(data[at:])) % len(data)
        except BlockingIOError:
            pass
        except OSError:
            poll.unregister(fd)
"""


def request(*frames):
    return b"".join(frame(f, i + 1 < len(frames)) for i, f in enumerate(frames))


SUBSCRIBED = request(header(3, 1, 1), b"events", b"consume", struct.pack("<IQ", 10, 1000))
RANGES = b"".join(struct.pack("<QQ", 1000 * i + 1, 1000 * i + 900) for i in range(4096))
FLOODS = {  # program, connections, whether answers are read, what is sent
    "pings": ("broker", 200, "reads", request(header(1, 0, 1)) * 6000),
    "pings of one": ("broker", 1, "deaf", request(header(1, 0, 1)) * 6000),
    "empty messages": ("broker", 200, "reads", b"\0\0" * 60000),
    "commands": ("broker", 200, "reads", (b"\4\xc8\3FOO" + b"x" * 196) * 300),
    "PING with context": ("broker", 200, "deaf", (b"\4\x17\4PING\0\1" + b"x" * 16) * 3000),
    "small messages": ("broker", 200, "reads", request(header(2, 0, 1), b"events", b"", struct.pack("<I", 1), b"x") * 2000),
    "new publishers": ("broker", 50, "reads", b"".join(request(header(2, 0, 1), b"events", struct.pack("<QQ", i, 1), struct.pack("<I", 1), b"x")
                                                       for i in range(1, 2000))),
    "what is refused": ("broker", 200, "reads", request(header(2, 0, 1), b"nothing", b"", struct.pack("<I", 1), b"x") * 2000),
    "nobody reads": ("broker", 200, "deaf", request(header(2, 0, 1), b"nothing", b"", struct.pack("<I", 1), b"x") * 2000),
    "ranges": ("broker", 4, "reads", SUBSCRIBED + (request(header(5, 1, 1), RANGES) + request(header(7, 1, 1), RANGES)) * 10),
    "in and out": ("broker", 200, "reads", (SUBSCRIBED + request(header(4, 1, 1))) * 500),
    "many consumers": ("broker", 200, "reads", b"".join(request(header(3, i, 1), b"events", b"consume", struct.pack("<IQ", 10, 1000)) for i in range(64))
                       + request(header(2, 0, 1), b"events", b"", struct.pack("<I", 1), b"x") * 1000),
    "reports": ("monitor", 200, "deaf", frame(b"{" * 100) * 800),
    "empty reports": ("monitor", 200, "deaf", b"\0\0" * 60000),
}


@pytest.mark.timing
@pytest.mark.soak
@pytest.mark.needs_root
def test_a_tenant_that_floods_waits_for_itself(home):
    uid = next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == "acme")
    here = [str(pathlib.Path(__file__).parent), *(p for p in sys.path if p.endswith("tests/system"))]
    found = {}
    for name, (program, n, reads, data) in FLOODS.items():
        log = home.path / f"logs/{program}.log"
        before = log.stat().st_size
        p = subprocess.Popen(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "/usr/bin/python3", "-c", FLOOD,
                              home.endpoints[program], str(n), "DEALER" if program == "broker" else "PUSH", reads, *here],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        with Quiet(home.endpoints["broker"]) as quiet:
            out, _ = p.communicate(data.hex())
        assert p.returncode == 0, f"{name}: {out}"
        took = sorted(quiet.took)
        found[name] = (len(took), took[len(took) // 2], took[-1], log.stat().st_size - before)
    for name, (n, median, worst, logged) in found.items():
        assert n > 20 and median < 0.1 and worst < 1 and logged < 50000, found


sodium = ctypes.CDLL(ctypes.util.find_library("sodium"))


def box(text, nonce, public, secret):
    out = ctypes.create_string_buffer(len(text) + 16)
    assert len(nonce) == 24 and sodium.crypto_box_easy(out, text, ctypes.c_ulonglong(len(text)), nonce, public, secret) == 0
    return out.raw


def unbox(text, nonce, public, secret):
    out = ctypes.create_string_buffer(len(text) - 16)
    assert sodium.crypto_box_open_easy(out, text, ctypes.c_ulonglong(len(text)), nonce, public, secret) == 0
    return out.raw


class Curve:
    """A CURVE client by hand (rfc.zeromq.org/spec/26), of which any step can be done wrongly."""

    def __init__(self, endpoint, server, public, secret):
        self.server, self.public, self.secret, self.n = server, public, secret, 0
        self.mine, self.my_secret = ctypes.create_string_buffer(32), ctypes.create_string_buffer(32)
        sodium.crypto_box_keypair(self.mine, self.my_secret)
        host, port = endpoint.removeprefix("tcp://").rsplit(":", 1)
        self.s = socket.create_connection((host, int(port)))
        self.s.settimeout(20)
        self.s.sendall(GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32))
        self.take(64)

    def take(self, n):
        data = b""
        while len(data) < n:
            part = self.s.recv(n - len(data))
            if not part:
                raise ConnectionResetError
            data += part
        return data

    def frame(self):
        flags, = self.take(1)
        return self.take(struct.unpack(">Q", self.take(8))[0] if flags & 2 else self.take(1)[0])

    def send(self, body, flags=4):
        self.s.sendall((bytes([flags, len(body)]) if len(body) < 256 else bytes([flags | 2]) + struct.pack(">Q", len(body))) + body)

    def nonce(self):
        self.n += 1
        return struct.pack(">Q", self.n)

    def hello(self):
        n = self.nonce()
        self.send(b"\5HELLO\1\0" + bytes(72) + self.mine.raw + n + box(bytes(64), b"CurveZMQHELLO---" + n, self.server, self.my_secret))
        welcome = self.frame()
        plain = unbox(welcome[24:], b"WELCOME-" + welcome[8:24], self.server, self.my_secret)
        self.theirs, self.cookie = plain[:32], plain[32:]

    def initiate(self, metadata=b"\x0bSocket-Type\0\0\0\6DEALER", cookie=None, vouched=None, secret=None, n=None):
        r, n = os.urandom(16), n or self.nonce()
        vouch = box((vouched or self.mine.raw) + self.server, b"VOUCH---" + r, self.theirs, secret or self.secret)
        body = b"\x08INITIATE" + (cookie or self.cookie) + n + box(self.public + r + vouch + metadata, b"CurveZMQINITIATE" + n, self.theirs, self.my_secret)
        self.send(body)
        return body

    def shake(self, **how):
        self.hello()
        self.sent = self.initiate(**how)
        assert self.frame().startswith(b"\5READY")

    def message(self, text, flags=0, n=None):
        n = n or self.nonce()
        body = b"\x07MESSAGE" + n + box(bytes([flags]) + text, b"CurveZMQMESSAGEC" + n, self.theirs, self.my_secret)
        self.send(body, 0)
        return body

    def pong(self):
        self.message(header(1, 0, 77))
        while True:
            f = self.frame()
            if header(64, 0, 77) in unbox(f[16:], b"CurveZMQMESSAGES" + f[8:16], self.theirs, self.my_secret):
                return True


def test_curve_step_by_step(make_home):
    home = make_home(platform='listen = "127.0.0.1";')
    (public, secret), (other, _) = zmq.curve_keypair(), zmq.curve_keypair()
    home.streams("events", tenant=f'curve_keys = ("{public.decode()}");')
    home.streams("events", name="quiet", tenant=f'curve_keys = ("{other.decode()}");')
    home.up()
    e = json.loads((home.path / "state/endpoints.json").read_text())["broker"]
    server, public_key, secret_key, other_key, (_, wrong) = z85.decode(e["server_key"]), z85.decode(public), z85.decode(secret), z85.decode(other), map(
        z85.decode, zmq.curve_keypair())

    def client(public=public_key, shaken=False, **how):
        c = Curve(e["tcp"], server, public, secret_key)
        c.hello() if not shaken else c.shake(**how)
        return c

    good = client(shaken=True)
    assert good.pong()
    forged = b"\7User-Id\0\0\0\5quiet\x08Identity\0\0\0\5quiet\x08Resource\0\0\0\1/\x0bSocket-Type\0\0\0\6DEALER\x0bSocket-Type\0\0\0\3SUB"
    c = client(shaken=True, metadata=forged)  # what it says of itself is not believed
    c.message(header(8, 0, 9), 1)
    c.message(b"quiet/events")
    c.frame()
    answer = c.frame()
    assert b"auth" in unbox(answer[16:], b"CurveZMQMESSAGES" + answer[8:16], c.theirs, c.my_secret) and c.pong()
    once = client(shaken=True)
    steps = {
        "a cookie of another's": lambda c: c.initiate(cookie=good.cookie),
        "INITIATE played back": lambda c: c.send(good.sent),
        "a key that is vouched for by another": lambda c: c.initiate(secret=wrong),
        "the key of another, vouched for by ours": lambda c: (setattr(c, "public", other_key), c.initiate()),
        "a vouch for another connection": lambda c: c.initiate(vouched=good.mine.raw),
        "a nonce that was there": lambda c: c.initiate(n=struct.pack(">Q", 1)),
        "HELLO twice": lambda c: c.send(b"\5HELLO\1\0" + bytes(192)),
        "READY as if it were NULL": lambda c: c.send(ready()[2:]),
        "a message before INITIATE": lambda c: c.message(b"x"),
        "a frame that is no command": lambda c: c.send(b"x" * 50, 0),
        "64 kB of properties": lambda c: c.initiate(metadata=b"\1X\0\0\xff\0" + bytes(0xff00)),
        "a property longer than all": lambda c: c.initiate(metadata=b"\1X\x7f\xff\xff\xff"),
        "no properties": lambda c: c.initiate(metadata=b""),
        "a socket that cannot": lambda c: c.initiate(metadata=b"\x0bSocket-Type\0\0\0\3SUB"),
    }
    open_steps = {
        "a message played back": lambda c: c.send(c.message(header(1)), 0),
        "a nonce that goes back": lambda c: (c.message(header(1), n=struct.pack(">Q", 900)), c.message(header(1), n=struct.pack(">Q", 899))),
        "a message of another's": lambda c: c.send(once.message(header(1)), 0),
        "half a box": lambda c: c.send(b"\x07MESSAGE" + bytes(12), 0),
        "a box of nothing": lambda c: c.send(b"\x07MESSAGE" + c.nonce() + bytes(17), 0),
        "in the clear": lambda c: c.send(header(1), 0),
        "INITIATE once more": lambda c: c.send(c.sent),
        "an empty frame": lambda c: c.send(b"", 0),
    }
    for name, step in [*steps.items(), *open_steps.items()]:
        c = client(shaken=name in open_steps)
        step(c)
        assert is_ended(c.s), name
    for greeting in (GREETING, GREETING[:12] + b"PLAIN".ljust(20, b"\0") + bytes(32), GREETING[:12] + b"CURVEX".ljust(20, b"\0") + bytes(32)):
        with socket.create_connection((e["tcp"][6:].rsplit(":", 1)[0], int(e["tcp"].rsplit(":", 1)[1]))) as s:
            s.sendall(greeting + ready())
            assert is_ended(s), greeting
    assert good.pong() and once.pong()


def test_curve_keys_that_nobody_has(make_home):
    home = make_home(platform='listen = "127.0.0.1";')
    public, secret = zmq.curve_keypair()
    home.streams("events", tenant=f'curve_keys = ("{public.decode()}");')
    home.up()
    e = json.loads((home.path / "state/endpoints.json").read_text())["broker"]
    server = e["server_key"].encode()
    context, strangers = zmq.Context(), []
    for _ in range(100):
        p, s = zmq.curve_keypair()
        k = context.socket(zmq.DEALER)
        k.linger, k.curve_serverkey, k.curve_publickey, k.curve_secretkey, k.reconnect_ivl = 0, server, p, s, 1
        k.connect(e["tcp"])
        strangers.append(k)
    with Peer(e["tcp"], curve_serverkey=server, curve_publickey=public, curve_secretkey=secret) as p:
        for n in range(50):
            assert p.publish("events", [b"x" * n * 100])[1] == 1
    # A handshake by somebody who does not know the server's key, and one that is played back.
    host, port = e["tcp"].removeprefix("tcp://").rsplit(":", 1)
    for hello in (bytes(200), b"\5HELLO\1\0" + bytes(193), os.urandom(200)):
        with socket.create_connection((host, int(port))) as s:
            s.sendall(GREETING[:12] + b"CURVE".ljust(20, b"\0") + bytes(32) + b"\x04\xc8" + hello[:200])
            assert is_ended(s)
    for k in strangers:
        k.close()
    context.term()
    assert len(re.findall('"event":"refused"', (home.path / "logs/broker.log").read_text())) < 10
