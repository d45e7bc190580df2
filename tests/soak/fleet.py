"""The tenants of a soak: what they are configured as, what they deliver, and what therefore has to be in MongoDB.

Each row has the serial number of its file and its place in it (f, i), each message its number (n): what is lost or there twice has a name."""
import contextlib
import os
import random
import subprocess
import sys
import threading

from harness import RELEASE, ROOT

sys.path.insert(0, str(ROOT / "clientlib/python"))
os.environ["SIMBDP_LIBRARY"] = str(RELEASE / "clientlib/libsimbdp.so.1")
import simbdp  # noqa: E402
from simbdp_client import ApiError, Client  # noqa: E402

RETRY = "retry = { attempts = 1000; backoff_ms = 50; max_backoff_ms = 1000; };"
LIMIT_ROWS = 2000
SCRIPTS = {
    "copy.sh": "#!/bin/sh\nawk -F, 'NR > 1 { printf \"{\\\"f\\\":%d,\\\"i\\\":%d}\\n\", $1, $2 }'\n",
    "dir.sh": "#!/bin/sh\ncat \"$SIMBDP_INPUT_DIR\"/* | awk -F, '/^[0-9]/ { printf \"{\\\"f\\\":%d,\\\"i\\\":%d}\\n\", $1, $2 }' >\"$SIMBDP_OUTPUT_DIR/o.json\"\n",
    "rows.py": "#!/usr/bin/python3\nimport simbdp\nsimbdp.main(lambda run: run.ingest_file(row=lambda doc: {**doc, 'by': 'rows'}))\n",
    "messages.py": "#!/usr/bin/python3\nimport simbdp\nsimbdp.main(lambda run: run.ingest_stream(row=lambda doc: {**doc, 'by': 'messages'}))\n",
    "lines.sh": "#!/bin/sh\nwhile IFS= read -r line; do printf '%s\\n' \"$line\"; done\n",
}
FILE_APPS = {  # name -> an app that takes the tenant's files
    "load": f'{{ app = "load"; exec = "builtin:load"; profile = "small"; {RETRY} }}',
    "stdout": f'{{ app = "stdout"; exec = "copy.sh"; output = "stdout"; profile = "small"; {RETRY} }}',
    "dir": f'{{ app = "dir"; exec = "dir.sh"; output = "dir"; profile = "small"; group = {{ max_files = 3; max_wait_ms = 500; }}; {RETRY} }}',
    "python": f'{{ app = "python"; exec = "rows.py"; profile = "small"; {RETRY} }}',
}
STREAM_APPS = {
    "load": ("builtin:load", ""),
    "python": ("messages.py", ""),
    "stdout": ("lines.sh", 'output = "stdout";'),
}
# Twenty of them: (app for files, app for messages).
KINDS = [("load", None)] * 4 + [("stdout", None)] * 2 + [("dir", None), ("python", None)] + [(None, "load")] * 5 + [(None, "python"), (None, "stdout")] + \
    [("load", "load")] * 4 + [("stdout", "load")]


class Tenant:
    """One that stays for the whole time."""

    def __init__(self, number, kind, seed):
        self.name = f"t{number:02d}"
        self.files, self.stream = kind
        self.rng = random.Random(f"{seed}/{self.name}")
        self.concurrency, self.weight, self.lease_ms = 2, 1, 10000
        self.expected = {}  # file name -> (states that are right, rows that are stored)
        self.fresh = []     # serial numbers that were delivered since the last check
        self.stored = 0     # rows in all that have to be there
        self.sent = self.checked = 0  # messages that were confirmed, and up to which they were looked at
        self.client = self.publisher = self.thread = None
        self.trouble = []

    def conf(self):
        text = f'concurrency = {self.concurrency}; weight = {self.weight}; limits = {{ max_rows = {LIMIT_ROWS}; }};\n'
        text += 'retention = { on_success = "delete"; on_failure = "delete"; logs_days = 0; };\n'
        text += 'datasets = ( { name = "rows"; format = "csv"; columns = ( { name = "f"; type = "int"; }, { name = "i"; type = "int"; } ); },\n' \
                '  { name = "messages"; format = "json"; } );\n'
        if self.files:
            text += f"batch = ( {FILE_APPS[self.files]} );\n"
        if self.stream:
            exec_, more = STREAM_APPS[self.stream]
            text += f'streams = ( {{ name = "events"; lease_ms = {self.lease_ms}; max_deliveries = 250; }} );\n' \
                    f'stream_apps = ( {{ app = "consume"; stream = "events"; exec = "{exec_}"; {more} dataset = "messages"; profile = "consumer";\n' \
                    '  min_instances = 1; max_instances = 2; } );\n'
        return text


class Fleet:
    """All of them, in a home."""

    def __init__(self, home, seed, n=len(KINDS)):
        self.home, self.seed = home, seed
        self.serial = 0
        step = len(KINDS) / n
        self.tenants = [Tenant(i, KINDS[int(i * step)], seed) for i in range(n)]
        self.by_file = [t for t in self.tenants if t.files]
        self.by_stream = [t for t in self.tenants if t.stream]
        self.quiet = threading.Event()
        self.opening = threading.Lock()
        self.counts = {"files": 0, "rows": 0, "messages": 0, "refused": 0, "uploads": 0, "commands": 0}

    def install(self):
        for t in self.tenants:
            apps = self.home.path / f"apps/{t.name}"
            apps.mkdir(exist_ok=True)
            for name, text in SCRIPTS.items():
                (apps / name).write_text(text)
                (apps / name).chmod(0o755)
            for path in (ROOT / "clientlib/python/simbdp.py", RELEASE / "clientlib/libsimbdp.so.1"):
                target = apps / path.name
                target.write_bytes(path.read_bytes())
                target.chmod(0o755)
            self.write(t)

    def write(self, t):
        path = self.home.path / f"conf/tenants/{t.name}.conf"
        new = path.with_name(f".{t.name}.new")
        new.write_text(t.conf())
        new.rename(path)

    def open_accounts(self, url):
        """Tenants that deliver over HTTP have a token."""
        for t in self.by_file[::3]:
            self.home.cli("user", "add", f"w-{t.name}", "--role", "tenant-writer", "--tenant", t.name, input="correct horse battery\n")
            (token,) = self.home.rows("token", "add", f"w-{t.name}")
            t.client = Client(url, token["token"], tenant=t.name, tries=50, patience=240.0)

    # -- files

    def content(self, t, serial):
        """(the file, states that are right, rows stored, rows refused)"""
        what = t.rng.random()
        n = t.rng.choice([1, 10, 50, 100, 200, 400])
        if what < 0.03 and t.files != "dir":
            n = LIMIT_ROWS + 1
            return self.rows(serial, n), {"rejected"}, 0
        if what < 0.10 and t.files == "load":  # a row in ten is none
            lines = [f"{serial},{i}" if i % 10 else f"{serial},none-{i}" for i in range(n)]
            return "f,i\n" + "\n".join(lines) + "\n", {"ingested"} if n > 1 else {"ingested", "rejected"}, n - (n + 9) // 10
        return self.rows(serial, n), {"ingested"}, n

    @staticmethod
    def rows(serial, n):
        return "f,i\n" + "".join(f"{serial},{i}\n" for i in range(n))

    def deliver(self):
        """The next file, of some tenant's; dropped, uploaded by the command line, or over HTTP."""
        self.serial += 1
        t = random.Random(f"{self.seed}/file/{self.serial}").choice(self.by_file)
        text, states, n = self.content(t, self.serial)
        name = f"f{self.serial:06d}.csv"
        t.expected[name] = (states, n)
        t.fresh.append(self.serial)
        t.stored += n
        self.counts["files"] += 1
        self.counts["rows"] += n
        self.counts["refused"] += states == {"rejected"}
        way = t.rng.random()
        if t.client and way < 0.6:
            self.upload(t, name, text)
        elif way > 0.9:
            self.command(t, name, text)
        else:
            self.home.drop(name, text, t.name, "rows")
            if way > 0.8 and states == {"ingested"}:  # the same bytes again
                t.expected[f"again-{name}"] = t.expected[name] = ({"ingested", "duplicate"}, n)
                self.home.drop(f"again-{name}", text, t.name, "rows")

    def upload(self, t, name, text):
        path = self.home.base / name
        path.write_text(text)
        try:
            t.client.upload(path, "rows", name)
            self.counts["uploads"] += 1
        except (ApiError, OSError) as e:
            t.trouble.append(f"upload of {name}: {e!r}")
        path.unlink()

    def command(self, t, name, text):
        """Said again until it is done: what came of one whose answer was lost is a duplicate then."""
        path = self.home.base / name
        path.write_text(text)
        for _ in range(60):
            if self.home.cli("upload", t.name, "rows", path, check=False).returncode == 0:
                break
            self.quiet.wait(1)
            t.expected[name] = (t.expected[name][0] | {"duplicate"}, t.expected[name][1])
        else:
            t.trouble.append(f"upload of {name} never came through")
        self.counts["commands"] += 1
        path.unlink()

    # -- messages

    def open_publisher(self, t):
        with self.opening:
            os.environ.update(ZMQ_STREAM_ENDPOINT=self.home.endpoint, SIMBDP_TENANT_ID=t.name)
            return simbdp.Publisher("events")

    def publish(self, t, per_s):
        """Until the fleet is quiet. Some messages are confirmed one by one, some in bursts."""
        try:
            if t.publisher is None or t.rng.random() < 0.2:
                if t.publisher:
                    t.publisher.close()
                t.publisher = self.open_publisher(t)
            while not self.quiet.is_set():
                n = t.rng.choice([1, 5, 20, 60])
                for i in range(n):
                    t.publisher.publish(f'{{"n":{t.sent + i}}}')
                t.publisher.flush()
                t.sent += n
                self.counts["messages"] += n
                self.quiet.wait(n / per_s * t.rng.uniform(0.5, 1.5))
        except simbdp.Error as e:
            t.trouble.append(f"publishing: {e}")

    def start(self, per_s):
        self.quiet.clear()
        for t in self.by_stream:
            t.thread = threading.Thread(target=self.publish, args=(t, per_s), daemon=True)
            t.thread.start()

    def stop(self, timeout):
        """Tenants whose publisher did not come to its end in time."""
        self.quiet.set()
        late = []
        for t in self.by_stream:
            t.thread.join(timeout)
            if t.thread.is_alive():
                late.append(t.name)
        return late

    def close(self):
        for t in self.by_stream:
            if t.publisher and not (t.thread and t.thread.is_alive()):
                t.publisher.close()
                t.publisher = None


def run_quietly(*argv, **kw):
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(argv, capture_output=True, text=True, check=False, **kw)
    return None
