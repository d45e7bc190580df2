"""The programs' log beside logs/: the host's syslog or journald, played by a datagram socket."""
import json
import os
import re
import signal
import socket
import struct

import pytest
from harness import until
from wire import Peer

pytestmark = pytest.mark.anyone

RECORD = re.compile(rb"<(\d+)>1 (\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (\S+) mysimbdp (\d+) (\S{1,32}) \[mysimbdp@32473((?: \w+=\"(?:[^\"\\\]]|\\[\"\\\]])*\")*)\] (.*)", re.S)


class Receiver:
    """A socket that is read when the test wants to."""

    def __init__(self, path):
        self.path, self.records = path, []
        path.unlink(missing_ok=True)
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        self.socket.bind(str(path))
        path.chmod(0o666)
        self.socket.setblocking(False)

    def read(self):
        while True:
            try:
                self.records.append(self.parse(self.socket.recv(65536)))
            except BlockingIOError:
                return self.records

    def parse(self, data):
        m = RECORD.fullmatch(data)
        assert m, data
        fields = dict(re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', m[6].decode()))
        return {"priority": int(m[1]), "pid": int(m[4]), "event": m[5].decode(), "msg": m[7].decode(), "tenant": None, "run": None, **fields}

    def close(self):
        self.socket.close()
        self.path.unlink()


class Journal(Receiver):
    def parse(self, data):
        fields = {}
        while data:
            line, _, rest = data.partition(b"\n")
            if b"=" in line:
                key, _, value = line.partition(b"=")
                data = rest
            else:
                (n,) = struct.unpack("<Q", rest[:8])
                key, value, data = line, rest[8:8 + n], rest[9 + n:]
            fields[key.decode()] = value.decode()
        assert re.fullmatch(r"[A-Z_]+", "".join(fields)) and fields["SYSLOG_IDENTIFIER"] == "mysimbdp", fields
        return {"priority": int(fields["PRIORITY"]), "event": fields["SIMBDP_EVENT"], "msg": fields["MESSAGE"], "program": fields["SIMBDP_PROGRAM"],
                "tenant": fields.get("SIMBDP_TENANT"), "run": fields.get("SIMBDP_RUN")}


@pytest.fixture
def place(home):
    home.base.chmod(0o711)
    home.plain = (home.path / "conf/mysimbdp.conf").read_text()
    return home.base / "log.sock"


def settings(home, log, path):
    (home.path / "conf/mysimbdp.conf").write_text(home.plain.replace("platform = {", f'platform = {{ log = "{log}"; log_socket = "{path}";', 1))


def lines(home, program):
    return [json.loads(line) for line in (home.path / f"logs/{program}.log").read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("log, kind, warn", [("syslog", Receiver, 28), ("journald", Journal, 4)])
def test_the_hosts_log_has_what_the_files_have(home, place, log, kind, warn):
    r = kind(place)
    settings(home, log, place)
    home.tenant("acme", tenant='streams = ( { name = "events"; } ); stream_apps = ( { app = "idle"; stream = "events"; } );')
    home.up()
    home.drop("x.csv", "a,b\n1,2\n")
    file = home.wait_file()
    ended = until(lambda: [x for x in r.read() if x["tenant"] == "acme" and x["run"]], home.path / "logs", what="a run in the host's log")
    assert ended[0]["run"] in {x["run_id"] for x in home.rows("runs")} and file["state"] == "ingested"
    programs = {"batchmgr", "broker", "monitor", "streammgr"}
    assert programs <= {x["program"] for x in r.read()}, "each of them"
    for program in programs:
        here = [(x["event"], x["msg"], x.get("tenant")) for x in lines(home, program)]
        there = [(x["event"], x["msg"], x["tenant"]) for x in r.read()]
        assert set(here) - set(there) == set(), "each line"
    # The receiver goes: nothing waits, and nothing is missing in the files.
    r.close()
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text() + "nonsense = 1;\n")
    programs = {"broker", "monitor", "streammgr"}

    def each_says_something():
        for pid in [pid for program in programs for pid in home.pids(program)]:
            os.kill(pid, signal.SIGHUP)
    each_says_something()
    for program in programs:
        until(lambda p=program: any(x["event"] == "log_dropped" and "does not take" in x["msg"] for x in lines(home, p)), home.path / "logs", what=f"what {program} says of it")
    with Peer(home.endpoint) as p:
        p.publish("acme/events", [b"{}"])
    # Another one comes: it is found, and told how many it missed.
    r = kind(place)

    def told():
        each_says_something()
        again = {x["program"] for x in r.read() if x["event"] == "log_dropped" and "did not take" in x["msg"]}
        return programs - {"streammgr"} <= again  # a manager has a mount namespace without the path, as root
    until(told, home.path / "logs", what=lambda: f"what was dropped: {[(x['program'], x['msg']) for x in r.records]}")
    assert all(x["priority"] == warn for x in r.read() if x["event"] == "log_dropped")
    r.close()


def test_a_receiver_that_reads_nothing_holds_nothing_up(home, place):
    """Its queue is full from the first lines on."""
    r = Receiver(place)
    settings(home, "syslog", place)
    home.tenant("acme")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.setblocking(False)
        s.connect(str(place))
        with pytest.raises(BlockingIOError):
            while True:
                s.send(b"<14>1 - - mysimbdp 1 - [mysimbdp@32473] full")
    home.up()
    home.drop("x.csv", "a,b\n1,2\n")
    assert home.wait_file()["state"] == "ingested"
    home.down()
    r.close()


def test_a_socket_that_is_none(home, place):
    settings(home, "syslog", "log.sock")
    res = home.cli("check", check=False)
    assert res.returncode == 1 and "key 'log_socket'" in res.stderr and "absolute path" in res.stderr
    settings(home, "syslog", "/" + "x" * 120)
    assert "at most 107 bytes" in home.cli("check", check=False).stderr
    settings(home, "papyrus", place)
    res = home.cli("check", check=False)
    assert res.returncode == 1 and "papyrus" in res.stderr
