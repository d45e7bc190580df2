"""The power goes, below the file system: at a flush that is chosen, what was not synced is gone, or any part of it (tests/fault/badfs/).
What was acknowledged is there, once; every program starts."""
import base64
import contextlib
import http.client
import json
import os
import random
import shutil
import subprocess
import threading

import pymongo
import pytest
from baddisk import BadDisk, how_often, power_off
from harness import FINAL, Mongo, temp_dir, until
from web import Site
from wire import Refused, peer

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]

STREAM = "acme/events"


class PowerGone(Exception):
    pass


def alive(disk, receive):
    """Waits for an answer as long as there is power, and a moment longer: it may be on its way."""
    def until_cut(timeout=20):
        was_cut, got = False, None
        while got is None and not was_cut and timeout > 0:
            was_cut = disk.is_cut()
            got = receive(0.1)
            timeout -= 0.1
        if got is None and was_cut:
            raise PowerGone
        return got
    return until_cut


# ---- the broker

class Witness:
    """Knows what was confirmed, and by which id each message was delivered."""

    def __init__(self):
        self.confirmed, self.sent, self.ids, self.acked = set(), 0, {}, set()
        self.asked = set()  # acknowledgements that nobody answered: they may be on the disk

    def note(self, message):
        number = int(message.body[:8])
        assert self.ids.setdefault(number, (message.epoch, message.seq)) == (message.epoch, message.seq), "as another one, it is stored twice"
        return number

    def work(self, home, disk, rng):
        """Until the power goes."""
        with peer(home) as p, contextlib.suppress(Refused, PowerGone):
            p.receive = alive(disk, p.receive)
            p.subscribe(STREAM, "consume", messages=50)
            while True:
                numbers = range(self.sent, self.sent + rng.randrange(1, 40))
                self.sent = numbers[-1] + 1
                size = rng.choice((20, 300, 3000))
                p.publish(STREAM, [f"{n:08}".encode().ljust(size, b".") for n in numbers])
                self.confirmed |= set(numbers)
                got, p.delivered = p.delivered, []
                numbers = {self.note(m) for m in got}
                if got:
                    self.asked |= numbers
                    p.ack(got)
                    self.acked |= numbers
                    self.asked -= numbers

    def check(self, home):
        """All that was confirmed and not acknowledged comes again, as the same messages."""
        seen = set()
        with peer(home) as p:
            p.subscribe(STREAM, "consume", messages=100000, size=1 << 30)
            while not self.confirmed - self.acked - self.asked <= seen:
                got = p.take(1, timeout=20)
                assert got, f"lost: {sorted(self.confirmed - self.acked - self.asked - seen)[:20]}"
                seen |= {self.note(m) for m in got}
                p.ack(got)
            self.acked |= seen


def cut_broker(home, disk, witness, at, **how):
    disk.set(cut_at=disk.get("n_syncs") + at, **how)
    witness.work(home, disk, random.Random(at))
    disk.wait_cut()
    power_off(home)
    disk.power_back()
    home.broker()
    witness.check(home)


@how_often(9, 150)
@pytest.mark.parametrize("journal", [0, 1])
def test_the_broker(home, on_disk, journal, n):
    home.streams(("events", "max_messages_per_s = -1; max_bytes_per_s = -1L; lease_ms = 2000;"))
    disk = on_disk(home, journal=journal)
    home.broker()
    witness = Witness()
    for i in range(n):
        at = 1 + i % 25
        cut_broker(home, disk, witness, at, after=at % 2, keep_seed=(i + 1) * (i % 3 > 0))
    assert "messages_lost" not in (home.base / "broker.err").read_text()


# ---- a whole home

CONF = """
database = "acme"; concurrency = 4; limits = {{ formats = ("csv", "json"); }};
datasets = ( {{ name = "data"; format = "csv"; }}, {{ name = "out"; format = "csv"; }}, {{ name = "dir"; format = "csv"; }}, {{ name = "messages"; format = "json"; }} );
batch = ( {{ app = "load"; exec = "builtin:load"; datasets = ("data"); {retry} }},
  {{ app = "out"; exec = "tool"; args = ("out"); output = "stdout"; datasets = ("out"); {retry} }},
  {{ app = "dir"; exec = "tool"; args = ("dir"); output = "dir"; datasets = ("dir"); {retry} }} );
streams = ( {{ name = "events"; max_messages_per_s = -1; max_bytes_per_s = -1L; }} );
stream_apps = ( {{ app = "consume"; stream = "events"; exec = "builtin:load"; dataset = "messages"; min_instances = 1; max_instances = 1; }} );
"""
TOOL = """#!/bin/sh
if [ "$1" = dir ]; then tr a-z A-Z > "$SIMBDP_OUTPUT_DIR/rows.csv"; else tr a-z A-Z; fi
"""
FIRST = 10_000_000
KINDS = {"data": "v", "out": "V", "dir": "V", "messages": "v"}


class Platform:
    """A home with its own MongoDB on a disk, and who sends to it: rows are numbers, none of them twice."""

    def __init__(self, site, disk, seed):
        self.site, self.home, self.disk, self.rng = site, site.home, disk, random.Random(seed)
        self.files, self.sent, self.number = {}, {kind: set() for kind in KINDS}, FIRST
        self.dropped = {}  # by name: of those nobody said that they are on the disk, until the ledger knows their contents
        self.unsynced = set()
        self.known = {kind: set() for kind in KINDS}  # acknowledged
        self.trouble = []

    def rows(self, n):
        numbers = list(range(self.number, self.number + n))
        self.number += n
        return numbers

    def file(self, kind):
        numbers = self.rows(self.rng.choice((1, 20, 500)))
        self.sent[kind] |= set(numbers)
        return numbers, ("v\n" + "".join(f"{n}\n" for n in numbers)).encode()

    def put(self, kind):
        numbers, text = self.file(kind)
        answer = self.site.put(f"p{numbers[0]}.csv", text, dataset=kind)
        if answer.status == 201:
            self.known[kind] |= set(numbers)
            self.files[answer.doc["file_id"]] = numbers

    def resume(self, kind):
        numbers, text = self.file(kind)
        metadata = ", ".join(f"{k} {base64.b64encode(v.encode()).decode()}" for k, v in (("filename", f"t{numbers[0]}.csv"), ("dataset", kind)))
        tus = {"Tus_Resumable": "1.0.0"}
        made = self.site.post("uploads", Upload_Length=str(len(text)), Upload_Metadata=metadata, **tus)
        if made.status != 201:
            return
        at, half = made.headers["Location"], len(text) // 2
        for offset, part in ((0, text[:half]), (half, text[half:])):
            answer = self.site.ask("PATCH", at, "", part, Upload_Offset=str(offset), Content_Type="application/offset+octet-stream", **tus)
        if answer.status == 204 and answer.headers["Content-Location"]:
            self.known[kind] |= set(numbers)
            self.files[answer.headers["Content-Location"].rpartition("/")[2]] = numbers

    def upload(self, kind):
        numbers, text = self.file(kind)
        path = self.home.base / f"u{numbers[0]}.csv"
        path.write_bytes(text)
        r = self.home.cli("upload", "acme", kind, path, check=False, timeout=30)
        if r.returncode == 0:
            self.known[kind] |= set(numbers)

    def drop(self, kind):
        numbers, text = self.file(kind)
        self.dropped[f"d{numbers[0]}.csv"] = kind, numbers
        self.home.drop(f"d{numbers[0]}.csv", text, dataset=kind)

    def look(self, _):
        for f in self.home.files():
            if f["content_hash"] and f["file_name"] in self.dropped:
                kind, numbers = self.dropped.pop(f["file_name"])
                self.known[kind] |= set(numbers)

    def publish(self, _):
        numbers = self.rows(self.rng.choice((1, 50)))
        self.sent["messages"] |= set(numbers)
        with peer(self.home) as p:
            p.receive = alive(self.disk, p.receive)
            p.publish(STREAM, [b'{"v": %d}' % n for n in numbers])
        self.known["messages"] |= set(numbers)

    def work(self):
        """Until the power goes: a sender at a time has no answer, then."""
        while not self.disk.is_cut():
            act = self.rng.choice((self.put, self.resume, self.upload, self.drop, self.drop, self.look, self.publish, self.publish))
            with contextlib.suppress(OSError, AssertionError, http.client.HTTPException, Refused, PowerGone, subprocess.TimeoutExpired):
                act(self.rng.choice(("data", "out", "dir")))

    def cut(self, at, **how):
        self.disk.set(cut_at=self.disk.get("n_syncs") + at, **how)

        def off():  # with all programs, so that nobody waits for an answer
            self.disk.process.wait()
            power_off(self.home)
        t = threading.Thread(target=off)
        t.start()
        self.work()
        t.join()
        self.unsynced |= set(self.dropped)  # what is known of them from here on is known of what is left of them
        self.dropped.clear()

    def stored(self):
        url = json.loads((self.home.path / "state/endpoints.json").read_text())["mongo_url"]
        with contextlib.closing(pymongo.MongoClient(url)) as client:
            return {kind: [d[field] for d in client.acme[kind].find({}, {field: 1, "_id": 0})] for kind, field in KINDS.items()}

    def is_settled(self):
        live = [f for f in self.home.files() if f["state"] not in FINAL]
        queue = self.home.queue()
        return not live and not queue["ready"] and not queue["leased"]

    def check(self):
        until(self.is_settled, self.home.path / "state", timeout=120, what=lambda: f"all to be done: {[f for f in self.home.files() if f['state'] not in FINAL]} {self.home.queue()}")
        bad = [f for f in self.home.files() if f["state"] not in ("ingested", "duplicate") and f["file_name"] not in self.unsynced]
        assert not bad, bad
        states = {f["file_id"]: f["state"] for f in self.home.files()}
        assert not set(self.files) - set(states), "files that were acknowledged are not known"
        for kind, found in self.stored().items():
            found = [n for n in found if n >= FIRST]  # others are what is left of a file that nobody had synced
            assert len(found) == len(set(found)), f"{kind}: stored twice: {sorted(n for n in set(found) if found.count(n) > 1)[:20]}"
            assert self.known[kind] <= set(found), f"{kind}: lost: {sorted(self.known[kind] - set(found))[:20]}"
            assert set(found) <= self.sent[kind]
        assert not self.home.queue()["dead"]


@pytest.fixture
def site(mongo):
    s = Site(mongo, ready=False)
    s.home.env.pop("MONGO_URL")  # its MongoDB is on the disk, too
    (s.home.path / "conf/tenants/beta.conf").unlink()
    (s.home.path / "conf/tenants/acme.conf").write_text(CONF.format(retry="retry = { attempts = 3; backoff_ms = 20; max_backoff_ms = 100; };"))
    tool = s.home.path / "apps/acme/tool"
    tool.write_text(TOOL)
    tool.chmod(0o755)
    yield s
    s.cleanup()


@how_often(1, 20)
def test_a_whole_home(site, on_disk, n):
    disk = on_disk(site.home)
    seed = int(os.environ.get("SIMBDP_SEED", 1))
    p = Platform(site, disk, seed)
    site.up()
    site.of()
    for i in range(n):
        p.cut(p.rng.randrange(1, 150), after=i % 2, keep_seed=(seed * 1000 + i) * (i % 3 != 1))
        disk.power_back()
        site.up()
        p.check()


# ---- streammgr

def test_the_book_of_instances(home, on_disk):
    """What it had not synced is gone, which is no reason not to start; the sandbox sees no id of the boot to tell it by."""
    home.streams("events")
    (home.path / "conf/tenants/acme.conf").write_text((home.path / "conf/tenants/acme.conf").read_text().replace('stream = "events"; }', 'stream = "events"; exec = "builtin:load"; dataset = "data"; }') + 'datasets = ( { name = "data"; format = "json"; } );\n')
    disk = on_disk(home)
    home.up()
    home.cli("app", "scale", "acme/consume", "1")
    until(lambda: home.rows("app", "list")[0]["instances"] == 1, home.path / "state", what="an instance")
    fd = os.open(home.path / "state/streams.mark", os.O_RDONLY)  # of which the kernel may have thought first
    os.fsync(fd)
    os.close(fd)
    disk.cut_now()
    power_off(home)
    disk.power_back()
    home.up()
    until(lambda: home.rows("app", "list")[0]["instances"] == 1, home.path / "state", what="the instance that was asked for")
    home.cli("app", "stop", "acme/consume")
    disk.cut_now()
    power_off(home)
    disk.power_back()
    home.up()
    (app,) = home.rows("app", "list")
    assert app["desired"] == 0 and app["state"] == "stopped", app


# ---- files

@pytest.mark.parametrize("how", ["drop", "upload"])
def test_a_file_that_is_known_is_there(home, on_disk, how):
    """Its sender need not have synced it, and its way into work/ is as durable as the row that says that it is there."""
    home.tenant(batch='trigger = "manual";')
    disk = on_disk(home)
    home.up()
    text = "v\n" + "".join(f"{i}\n" for i in range(3000))
    if how == "upload":
        (home.base / "x.csv").write_text(text)
        home.cli("upload", "acme", "data", home.base / "x.csv")
    else:
        home.drop("x.csv", text)
    (f,) = home.wait_files(1, lambda f: f["reason"] == "trigger")
    disk.cut_now()
    power_off(home)
    disk.power_back()
    home.up()
    home.wait_files(1, lambda f: f["reason"] == "trigger")
    home.cli("run", "acme/app")
    assert home.wait_file(file_id=f["file_id"])["rows_loaded"] == 3000 and home.count() == 3000


@pytest.mark.parametrize("output", [pytest.param("stdout", marks=pytest.mark.soak), "dir"])
def test_an_output_that_is_kept_is_whole(make_home, on_disk, tmp_path, output):
    """The app has synced nothing; what it made is loaded after the power cut, and it does not run again."""
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    home.tenant(exec_="tool", batch=f'output = "{output}";', retry="attempts = 1; backoff_ms = 50; max_backoff_ms = 100;")
    ran = home.base / "ran"
    ran.mkdir()
    ran.chmod(0o777)
    os.mkfifo(ran / "go")
    (ran / "go").chmod(0o666)
    tool = home.path / "apps/acme/tool"
    tool.write_text(f"""#!/bin/sh
echo once >> {ran}/count
read go < {ran}/go
if [ {output} = dir ]; then tr a-z A-Z > "$SIMBDP_OUTPUT_DIR/rows.csv"; else tr a-z A-Z; fi
""")
    tool.chmod(0o755)
    disk = on_disk(home)
    home.up()
    home.drop("x.csv", "v\n" + "".join(f"{i}\n" for i in range(3000)))
    home.wait_running()
    mongo.kill()
    (ran / "go").write_text("go\n")
    home.wait_files(1, lambda f: f["reason"] == "database_down")
    disk.cut_now()
    power_off(home)
    disk.power_back()
    mongo.start()
    home.up()
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 3000), f
    assert (ran / "count").read_text() == "once\n" and home.count() == 3000
    power_off(home)
    home.cleanup()
    mongo.stop()


# ---- the embedded MongoDB, alone

@how_often(3, 60)
def test_the_embedded_mongodb(badfs, n):
    base = temp_dir()
    (base / "data").mkdir()
    disk = BadDisk(badfs, base / "data", journal=1)
    server, known, number = Mongo(base), {}, 0
    try:
        for i in range(n):
            disk.set(cut_at=disk.get("n_syncs") + 1 + 2 * i % 40, after=i % 2, keep_seed=i)
            client = pymongo.MongoClient(server.url, serverSelectionTimeoutMS=2000, socketTimeoutMS=5000)
            with contextlib.suppress(pymongo.errors.PyMongoError):
                while not disk.is_cut():
                    at = f"acme{number % 2}", "data"
                    client[at[0]][at[1]].insert_many([{"_id": number + k, "text": "x" * (number % 700)} for k in range(20)])
                    known.update(dict.fromkeys(range(number, number + 20), at))
                    number += 20
            number += 20  # of the last try nothing is known
            disk.wait_cut()
            client.close()
            server.client.close()
            server.kill()
            disk.power_back()
            server.start()
            for at in set(known.values()):
                found = [d["_id"] for d in server.client[at[0]][at[1]].find({}, {"_id": 1})]
                assert {k for k, v in known.items() if v == at} <= set(found) and len(found) == len(set(found))
    finally:
        server.stop()
        disk.remove()
        shutil.rmtree(base)
