"""What tests of `mysimbdp backup` and `restore` share."""
import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time

import pytest
from harness import ROOT, until
from wire import Peer

POINTS = re.findall(r"^\s+X\((\w+)\)", (ROOT / "lib/base/crash.h").read_text(), re.M)
BACKUP_POINTS = [p for p in POINTS if p.startswith("backup_")]
RESTORE_POINTS = [p for p in POINTS if p.startswith("restore_")]


def at(home):
    """Where its backups go."""
    return home.base / "backup"


def backup(home, *args, where=None, **kw):
    r = home.cli("backup", where or at(home), "--json", *args, **kw)
    return json.loads(r.stdout.splitlines()[-1]) if r.returncode == 0 else r


def points(home, where=None):
    return [p["point"] for p in home.rows("backup", where or at(home), "--list")]


def sound(home, *args, where=None):
    r = home.cli("backup", where or at(home), "--verify", *args, check=False)
    assert r.returncode == 0, r.stdout + r.stderr
    assert "can be restored" in r.stdout


@pytest.fixture
def restore(make_home):
    """Restores a home's backup as another home, of the same MongoDB."""
    def make(home, *args, where=None, data=None):
        other = make_home()
        shutil.rmtree(other.path)
        other.db_of = home.db_of
        r = subprocess.run([*other.as_user, other.program("mysimbdp"), "restore", str(where or at(home)), str(other.path), "--json", *map(str, args)],
                           env=other.env, capture_output=True, timeout=120, input=data)
        assert r.returncode == 0, r.stderr.decode()
        other.restored = json.loads(r.stdout)
        return other
    return make


def gone(home):
    """The first one is no more: killed as by a power cut, and its place empty."""
    if home.up_process:
        os.killpg(home.up_process.pid, signal.SIGKILL)
        home.up_process.wait()
        home.up_process.stdout.close()
        home.up_process = None
        for name in ("batchmgr", "streammgr", "broker", "monitor", "desk", "simbdp-run", "simbdp-load", "simbdp-inspect", "simbdp-warden", "simbdp-keeper", "simbdp-relay"):
            for pid in home.pids(name):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        until(lambda: not home.pids("simbdp-"), home.base, what="the end of all its programs")
    home.path.rename(home.base / "was")


def both(home):
    """A tenant with files, and with a stream whose messages are rows of the same collection."""
    home.db_of["acme"] = f"acme_{home.base.name.replace('-', '_')}"
    (home.path / "conf/tenants/acme.conf").write_text(f'''database = "{home.db_of["acme"]}"; concurrency = 4;
datasets = ( {{ name = "data"; format = "csv"; collection = "data"; }}, {{ name = "rows"; format = "json"; collection = "rows"; }} );
batch = ( {{ app = "app"; exec = "builtin:load"; datasets = ("data"); retry = {{ attempts = 3; backoff_ms = 20; max_backoff_ms = 100; }}; }} );
streams = ( {{ name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; }} );
stream_apps = ( {{ stream = "events"; app = "store"; exec = "builtin:load"; dataset = "rows"; }} );
''')
    (home.path / "apps/acme").mkdir()


def drained(home):
    q = home.queue("store")
    return q["ready"] + q["leased"] == 0


class Flow(threading.Thread):
    """Files as fast as they are taken, and messages, until it is stopped; what was confirmed when."""

    def __init__(self, home):
        super().__init__()
        self.home, self.ended, self.files, self.messages, self.failed = home, threading.Event(), [], [], None

    def run(self):
        try:
            with Peer(self.home.endpoint) as p:
                i = 0
                while not self.ended.wait(0.1):
                    p.publish("acme/events", [json.dumps({"n": i * 20 + k}).encode() for k in range(20)])
                    self.messages.append((time.time(), [i * 20 + k for k in range(20)]))
                    if len(os.listdir(self.home.path / "work")) < 8:
                        self.home.drop(f"f{i}.csv", f"v\n{i}\n")
                        self.files.append((time.time(), f"f{i}.csv", i))
                    i += 1
        except Exception as e:  # noqa: BLE001
            self.failed = e

    def stop(self):
        self.ended.set()
        self.join()
        assert not self.failed, self.failed


def seconds(point):
    return time.mktime(time.strptime(point["at"][:19], "%Y-%m-%dT%H:%M:%S")) - time.timezone + float(point["at"][19:-1])
