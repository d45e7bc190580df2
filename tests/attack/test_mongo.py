"""The embedded MongoDB against its tenants and strangers: each attack as it was found, and what others see of it."""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import resource
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import threading
import time
import zlib

import bson
import pymongo
import pytest

from harness import RELEASE, ROOT, Mongo, until

pytestmark = pytest.mark.anyone

SECRETS = {"acme": "a" * 32, "quiet": "b" * 32, "other": "c" * 32}


@pytest.fixture
def server(tmp_path):
    m = Mongo(tmp_path / "mongo", jvm=["-Dsimbdp.commandMs=8000"])
    with open(m.dir / "access", "a") as f:
        for name, secret in SECRETS.items():
            f.write(f"simbdp_{name} {secret} {name}\n")
    m.tenants = {n: pymongo.MongoClient(m.url_of("simbdp_" + n, s, n)) for n, s in SECRETS.items()}
    yield m
    for c in m.tenants.values():
        c.close()
    m.stop()


def refused(f, *args, code=None, **kw):
    with pytest.raises(pymongo.errors.OperationFailure) as e:
        f(*args, **kw)
    assert code is None or e.value.code == code, e.value.details
    return str(e.value)


def msg(doc, flags=0, op=2013, more=b""):
    body = struct.pack("<I", flags) + b"\0" + bson.encode(doc) + more if op == 2013 else doc
    return struct.pack("<iiii", 16 + len(body), 7, 0, op) + body


def receive(s):
    def take(n):
        data = b""
        while len(data) < n:
            part = s.recv(n - len(data))
            if not part:
                return None
            data += part
        return data
    head = take(4)
    return head and bson.decode(take(struct.unpack("<i", head)[0] - 4)[17:])


def memory_of(pid):
    """Resident bytes."""
    return int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


PIPELINES = {
    "merge in facet": [{"$facet": {"x": [{"$merge": {"into": {"db": "quiet", "coll": "rows"}}}]}}],
    "merge in lookup": [{"$lookup": {"from": "rows", "as": "x", "pipeline": [{"$merge": {"into": {"db": "quiet", "coll": "rows"}}}]}}],
    "merge": [{"$merge": {"into": {"db": "quiet", "coll": "rows"}}}],
    "out": [{"$out": {"db": "quiet", "coll": "rows"}}],
    "lookup from": [{"$lookup": {"from": {"db": "quiet", "coll": "rows"}, "localField": "_id", "foreignField": "_id", "as": "x"}}],
    "facet in facet": [{"$facet": {"x": [{"$facet": {"y": [{"$out": {"db": "quiet", "coll": "new"}}]}}]}}],
}


@pytest.mark.parametrize("attack", PIPELINES)
def test_no_pipeline_leaves_its_database(server, attack):
    acme, quiet = server.tenants["acme"].acme, server.tenants["quiet"].quiet
    quiet.rows.insert_one({"_id": 1, "mine": True})
    acme.rows.insert_one({"_id": 1, "mine": False})
    try:
        found = list(acme.rows.aggregate(PIPELINES[attack]))
        assert all(d.get("x") in ([], None) for d in found), found
    except pymongo.errors.OperationFailure:
        pass
    assert list(quiet.rows.find()) == [{"_id": 1, "mine": True}] and quiet.list_collection_names() == ["rows"]


def test_other_databases_do_not_exist(server):
    acme = server.tenants["acme"]
    server.tenants["quiet"].quiet.rows.insert_one({"_id": 1})
    for f in (acme.quiet.rows.find_one, acme.quiet.list_collection_names, lambda: acme.drop_database("quiet"),
              lambda: acme.quiet.rows.insert_one({}), lambda: acme.admin.rows.insert_one({}), lambda: acme.local.rows.find_one(),
              lambda: acme.admin.command("renameCollection", "quiet.rows", to="acme.rows"),
              lambda: acme.admin.command({"renameCollection": "acme.rows", "to": "quiet.more"})):
        refused(f)
    assert acme.list_database_names() in ([], ["acme"])
    acme.acme.rows.insert_one({})
    acme.drop_database("acme")
    server.client.acme2.rows.insert_one({})  # its name begins with the other's
    acme.drop_database("acme")
    assert server.tenants["quiet"].quiet.rows.count_documents({}) == 1 and server.client.acme2.rows.count_documents({}) == 1


def test_what_is_not_on_the_lists_is_refused_by_name(server):
    acme = server.tenants["acme"].acme
    for command in ("eval", "mapReduce", "copydb", "shutdown", "createUser", "fsync", "setParameter", "triggerInternalException"):
        assert command in refused(acme.command, command, code=59)
    refused(acme.command, "serverStatus", code=13)
    assert "$changeStream" in refused(lambda: list(acme.rows.aggregate([{"$changeStream": {}}])))
    assert "$geoNear" in refused(lambda: list(acme.rows.aggregate([{"$facet": {"x": [{"$geoNear": {}}]}}])))


def test_cursors_are_of_one_user_and_cannot_be_guessed(server):
    quiet, acme = server.tenants["quiet"].quiet, server.tenants["acme"].acme
    quiet.rows.insert_many([{"_id": i} for i in range(300)])
    acme.rows.insert_one({})
    ids = []
    for _ in range(3):
        reply = quiet.command("find", "rows", batchSize=10)
        ids.append(reply["cursor"]["id"])
    assert all(i > 2**32 for i in ids) and len(set(ids)) == 3
    for i in [*range(1, 20), *ids]:
        refused(acme.command, {"getMore": bson.Int64(i), "collection": "rows"}, code=43)
        assert acme.command({"killCursors": "rows", "cursors": [bson.Int64(i)]})["cursorsKilled"] == []
    assert len(quiet.command({"getMore": bson.Int64(ids[0]), "collection": "rows", "batchSize": 500})["cursor"]["nextBatch"]) == 290
    for _ in range(400):  # only so many are kept
        quiet.command("find", "rows", batchSize=10)
    refused(quiet.command, {"getMore": bson.Int64(ids[1]), "collection": "rows"}, code=43)


def test_a_secret_is_never_shown_and_has_to_be_right(server):
    """Who listens in the server's place learns nothing that opens it, and cannot pass for it."""
    with socket.create_server(("127.0.0.1", 0)) as fake:
        seen = bytearray()

        def pump(a, b):
            try:
                while data := a.recv(65536):
                    seen.extend(data)
                    b.sendall(data)
            except OSError:
                pass
            b.close()

        def listen():
            while True:
                c, _ = fake.accept()
                real = socket.create_connection(("127.0.0.1", server.port))
                for pair in ((c, real), (real, c)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

        t = threading.Thread(target=listen, daemon=True)
        t.start()
        url = server.url_of("simbdp_acme", SECRETS["acme"], "acme").replace(str(server.port), str(fake.getsockname()[1]))
        with pymongo.MongoClient(url, serverSelectionTimeoutMS=8000) as client:
            client.acme.command("ping")
            client.acme.rows.find_one()
        assert b"simbdp_acme" in seen and SECRETS["acme"].encode() not in seen
    for user, secret in (("simbdp_acme", SECRETS["quiet"]), ("nobody", SECRETS["acme"]), ("simbdp", "x" * 32)):
        with pymongo.MongoClient(server.url_of(user, secret, "acme")) as client:
            assert "no such user, or not its secret" in refused(client.acme.rows.find_one, code=18)


def test_strangers_may_greet_and_no_more(server):
    with pymongo.MongoClient(f"mongodb://127.0.0.1:{server.port}/") as c:
        c.admin.command("ping")
        for f in (lambda: c.admin.command("serverStatus"), c.list_database_names, c.x.y.find_one, lambda: c.x.y.insert_one({}),
                  lambda: c.x.command("create", "made"), lambda: c.admin.command("hostInfo")):
            refused(f, code=13)
    assert not (server.dir / "data/x.mv").exists()
    # A large message of somebody unknown is not waited for.
    before = memory_of(server.process.pid)
    held = []
    for _ in range(60):
        s = socket.create_connection(("127.0.0.1", server.port))
        s.sendall(struct.pack("<iiii", 47_000_000, 1, 0, 2013))
        try:
            s.sendall(b"x" * 1_000_000)
        except OSError:
            pass
        held.append(s)
    server.tenants["quiet"].quiet.rows.insert_one({})
    assert memory_of(server.process.pid) - before < 60 << 20
    for s in held:
        s.close()


def test_connections_that_do_not_say_who_they_are_give_way(server):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 8192)), hard))
    held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4600)]
    with pymongo.MongoClient(server.url_of("simbdp_quiet", SECRETS["quiet"], "quiet"), serverSelectionTimeoutMS=5000) as c:
        c.quiet.rows.insert_one({})
    closed = 0
    for s in held[:400]:
        s.settimeout(20)
        closed += s.recv(1) == b""
    assert closed == 400
    held[-1].setblocking(False)
    with pytest.raises(BlockingIOError):
        held[-1].recv(1)
    held[-1].settimeout(20)
    assert held[-1].recv(1) == b"", "and the others when they had their time"
    for s in held:
        s.close()


def test_a_tenant_has_so_many_connections(server):
    clients = []
    try:
        with pytest.raises(pymongo.errors.PyMongoError, match="simbdp_acme has 400 connections"):
            for _ in range(450):
                c = pymongo.MongoClient(server.url_of("simbdp_acme", SECRETS["acme"], "acme"), maxPoolSize=1, connect=False)
                clients.append(c)
                c.acme.rows.find_one()
        server.tenants["quiet"].quiet.rows.insert_one({})
        assert len(clients) >= 390
    finally:
        for c in clients:
            c.close()


@pytest.mark.timing
def test_a_query_without_end_is_ended(server):
    """Nested lookups; and a pattern that backtracks for ever, which asks nobody whether it may."""
    acme, quiet = server.tenants["acme"].acme, server.tenants["quiet"].quiet
    acme.rows.insert_many([{"n": 1, "t": "a" * 60 + "!"} for i in range(2000)])
    nested = [{"$lookup": {"from": "rows", "localField": "n", "foreignField": "n", "as": "x"}}, {"$unwind": "$x"}]
    results = {}

    def run(name, f):
        try:
            results[name] = list(f())
        except pymongo.errors.OperationFailure as e:
            results[name] = e.code

    server.client.other.rows.insert_one({"t": "a" * 60 + "!"})
    regex = pymongo.MongoClient(server.url_of("simbdp_other", SECRETS["other"], "other"))
    fs = {"lookup": lambda: acme.rows.aggregate(nested * 4 + [{"$count": "n"}]),
          "pattern": lambda: regex.other.rows.find({"t": {"$regex": "^(a+)+\\1b$"}})}
    threads = [threading.Thread(target=run, args=i) for i in fs.items()]
    for t in threads:
        t.start()
    slowest = 0
    while any(t.is_alive() for t in threads):
        t0 = time.monotonic()
        quiet.rows.insert_one({})
        slowest = max(slowest, time.monotonic() - t0)
    assert slowest < 5 and results["lookup"] in (50, 146) and results["pattern"] == 50, (slowest, results)
    for db in (acme, regex.other):
        assert db.rows.insert_one({"it": "goes on"}).acknowledged
    regex.close()


def nested(depth):
    d = b"\x05\0\0\0\0"
    for _ in range(depth):
        d = struct.pack("<i", len(d) + 8) + b"\x03a\0" + d + b"\0"
    return d


@pytest.mark.timing
def test_nesting_wedges_nobody(server):
    acme, quiet = server.tenants["acme"].acme, server.tenants["quiet"].quiet
    deep = bson.raw_bson.RawBSONDocument(nested(3000))
    assert "nested deeper than 100" in refused(acme.rows.insert_one, {"d": deep})
    acme.rows.insert_one({"_id": 1})
    # Deeper by each update, which no message shows.
    with pytest.raises(pymongo.errors.PyMongoError):
        for i in range(400):
            acme.rows.update_one({"_id": 1}, {"$set": {".".join(["a"] * 90): {"n": i}}})
            list(acme.rows.aggregate([{"$project": {"a": {"b": {"c": {"d": {"e": "$$ROOT"}}}}}}, {"$out": "rows"}]))
    refused(acme.rows.update_one, {"_id": 1}, {"$set": {".".join(["a"] * 5000): 1}})
    quiet.rows.insert_one({})
    assert acme.rows.insert_one({}).acknowledged and acme.rows.count_documents({}) >= 1
    quiet.client.close()
    server.client.close()
    server.kill()
    server.start()
    assert quiet.rows.count_documents({}) == 1 and acme.rows.count_documents({}) >= 1


def raw(server, name="acme", proof=None):
    """A socket on which `name` is known: SCRAM-SHA-256 by hand."""
    def ask(what, payload):
        s.sendall(msg({what: 1, "mechanism": "SCRAM-SHA-256", "payload": payload, "options": {"skipEmptyExchange": True}, "$db": "admin"}))
        return receive(s)

    def mac(key, text):
        return hmac.new(key, text, hashlib.sha256).digest()

    s = socket.create_connection(("127.0.0.1", server.port))
    s.settimeout(60)
    user = f"simbdp_{name}".encode()
    first = ask("saslStart", b"n,,n=" + user + b",r=mine")["payload"]
    nonce, salt, rounds = (part[2:] for part in first.split(b","))
    key = mac(hashlib.pbkdf2_hmac("sha256", SECRETS.get(name, "").encode(), base64.b64decode(salt), int(rounds)), b"Client Key")
    last = b"c=biws,r=" + nonce
    signature = mac(hashlib.sha256(key).digest(), b",".join((b"n=" + user, b"r=mine", first, last)))
    answer = ask("saslContinue", last + b",p=" + (proof or base64.b64encode(bytes(a ^ b for a, b in zip(key, signature)))))
    return s, answer


class Quiet:
    """Another tenant meanwhile; how long each of its writes took."""

    def __init__(self, server, connect=False):
        self.server, self.connect, self.took, self.over = server, connect, [], threading.Event()
        self.thread = threading.Thread(target=self.run)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()
        self.took.sort()
        assert self.took, "another tenant's writes failed"

    def run(self):
        while not self.over.is_set():
            began = time.monotonic()
            if self.connect:
                with pymongo.MongoClient(self.server.url_of("simbdp_quiet", SECRETS["quiet"], "quiet")) as c:
                    c.quiet.meanwhile.insert_one({})
            else:
                self.server.tenants["quiet"].quiet.meanwhile.insert_one({})
            self.took.append(time.monotonic() - began)

    def median(self):
        return self.took[len(self.took) // 2]


def flood(sockets, data, seconds):
    """Sends data for ever on all, and reads what comes; in a process of its own."""
    pid = os.fork()
    if pid:
        return pid
    poll, at, ends = select.epoll(), {}, time.monotonic() + seconds
    for s in sockets:
        s.setblocking(False)
        poll.register(s, select.EPOLLIN | select.EPOLLOUT)
        at[s.fileno()] = [s, 0]
    while time.monotonic() < ends:
        for fd, what in poll.poll(0.1):
            s, n = at[fd]
            try:
                if what & select.EPOLLIN and not s.recv(1 << 20):
                    poll.unregister(fd)
                    continue
                at[fd][1] = (n + s.send(data[n:])) % len(data)
            except BlockingIOError:
                pass
            except OSError:
                poll.unregister(fd)
    os._exit(0)


@pytest.mark.timing
def test_who_floods_waits_for_himself(server):
    acme = server.tenants["acme"].acme
    acme.rows.insert_one({})
    sockets = [raw(server)[0] for _ in range(150)]
    strangers = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(50)]
    wrong = msg({"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": b"n,,n=simbdp_acme,r=x", "$db": "admin"}) \
        + msg({"saslContinue": 1, "payload": b"c=biws,r=x,p=AAAA", "$db": "admin"})
    found, spin = {}, [subprocess.Popen(["/usr/bin/python3", "-c", "while True: pass"]) for _ in range(4)]
    with Quiet(server) as quiet:  # while others use the machine, and nobody the server
        until(lambda: len(quiet.took) > 200, server.dir, what="writes")
    usual = max(quiet.median(), 0.004)
    for p in spin:
        p.kill()
        p.wait()
    for name, who, data, connects in (("pings", sockets, msg({"ping": 1, "$db": "admin"}), False), ("hellos", sockets, msg({"ismaster": 1, "$db": "admin"}), False),
                                      ("finds", sockets, msg({"find": "rows", "$db": "acme"}), False), ("lists", sockets, msg({"listDatabases": 1, "$db": "admin"}), False),
                                      ("what is refused", sockets, msg({"eval": 1, "$db": "acme"}), False), ("wrong proofs", strangers, wrong, False),
                                      ("wrong proofs before ours", strangers, wrong, True)):
        with Quiet(server, connects) as quiet:
            os.waitpid(flood(who, data * 200, 1.5), 0)
        found[name] = (len(quiet.took), quiet.median(), quiet.took[-1])
    for s in sockets + strangers:
        s.close()
    # A busy machine holds some of them up, not most.
    assert statistics.median(median for _, median, _ in found.values()) < 15 * usual, (usual, found)
    assert all(n > 1 and median < 0.6 and worst < 4 for n, median, worst in found.values()), (usual, found)


@pytest.mark.timing
def test_replies_that_nobody_reads_are_bounded(server):
    acme = server.tenants["acme"].acme
    for _ in range(2):
        acme.rows.insert_many([{"s": "x" * 1_000_000} for _ in range(20)])
    held, before = [raw(server)[0] for _ in range(25)], memory_of(server.process.pid)
    with Quiet(server) as quiet:
        for s in held:
            s.sendall(msg({"find": "rows", "batchSize": 40, "$db": "acme"}))
        for s in held:
            s.setblocking(False)

        def refused_ones():
            return [s for s in select.select(held, [], [], 0)[0] if struct.unpack("<i", s.recv(4, socket.MSG_PEEK))[0] < 1000]

        until(lambda: len(refused_ones()) >= 20, server.dir, what="answers")
    for s in refused_ones():
        assert "wait to be read" in receive(s)["errmsg"]
    assert memory_of(server.process.pid) - before < 400 << 20
    assert quiet.median() < 0.1 and quiet.took[-1] < 5, quiet.took[-5:]
    for s in held:
        s.close()
    until(lambda: acme.rows.count_documents({}) == 40 and len(list(acme.rows.find())) == 40, server.dir, what="room again")


def test_proofs_that_are_none(server):
    good, answer = raw(server)
    assert answer["ok"]
    for name, proof in (("acme", b"AAAA"), ("acme", b""), ("acme", base64.b64encode(bytes(32))), ("acme", base64.b64encode(bytes(64))), ("acme", b"%%%"),
                        ("nobody", None), ("other", base64.b64encode(hashlib.sha256(b"x").digest()))):
        s, answer = raw(server, name, proof or None if name == "nobody" else proof or b"=")
        assert (answer["ok"], answer["code"]) == (0, 18), (name, proof, answer)
        s.close()
    # On a connection that is somebody's, nobody else becomes known; a played back proof is of another nonce.
    for first in (b"n,,n=simbdp_quiet,r=x", b"n,a=simbdp_quiet,n=simbdp_acme,r=x", b"p=tls-unique,,n=simbdp_acme,r=x", b"n,,r=x", b"n,,n=simbdp_acme", b"", b"\xff" * 50):
        good.sendall(msg({"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": first, "$db": "admin"}))
        assert receive(good)["code"] == 18, first
    good.sendall(msg({"find": "meanwhile", "$db": "quiet"}))
    assert receive(good)["code"] == 13
    good.close()
    salts = set()
    for name in ("acme", "acme", "nobody", "nobody"):  # who is no user is told from one by nothing, the salt neither
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(msg({"saslStart": 1, "mechanism": "SCRAM-SHA-256", "payload": f"n,,n=simbdp_{name},r=x".encode(), "$db": "admin"}))
            salts.add(receive(s)["payload"].split(b",")[1])
    assert len(salts) == 2


def test_a_user_that_is_no_more_is_let_in_no_more(server):
    s, answer = raw(server)
    assert answer["ok"]
    s.close()
    users = (server.dir / "access").read_text()
    (server.dir / "access.new").write_text(users.replace("simbdp_acme", "simbdp_gone"))
    os.rename(server.dir / "access.new", server.dir / "access")
    assert raw(server)[1]["code"] == 18 and raw(server, "quiet")[1]["ok"]


MESSAGES = {
    **{f"opcode {op}": struct.pack("<iiii", 44, 7, 0, op) + bytes(4) + b"quiet.rows\0" + bytes(13)
       for op in (1, 1000, 2001, 2002, 2005, 2006, 2007, 2010, 2011, 99, -1)},
    "compressed": struct.pack("<iiii", 16 + 9 + 60, 7, 0, 2012) + struct.pack("<iiB", 2013, 1 << 30, 2) + zlib.compress(bytes(1 << 15))[:60].ljust(60, b"\0"),
    "$db twice": msg({"find": "rows", "$db": "acme", "$dX": "quiet"}).replace(b"$dX", b"$db"),
    "$db twice, ours last": msg({"find": "rows", "$db": "quiet", "$dX": "acme"}).replace(b"$dX", b"$db"),
    **{f"$db {name!r}": msg({"find": "rows", "$db": name}) for name in (
        "quiet", "QUIET", "quiet.rows", "../quiet", "acme/../quiet", "acme\0quiet", "", "x" * 1000, "/etc/passwd", "local", "config", "admin", 1, None, ["quiet"], {"$ref": "quiet"})},
    "a query": struct.pack("<iiii", 16 + 28 + len(bson.encode({"find": "rows"})), 7, 0, 2004) + bytes(4) + b"quiet.$cmd".ljust(11, b"\0") + bytes(8)
    + bson.encode({"find": "rows"}) + b"\5\0\0\0\0",
    "to be forgotten": msg({"insert": "rows", "documents": [{}], "$db": "quiet"}, flags=2),
    "two bodies": msg({"find": "rows", "$db": "acme"}, more=b"\0" + bson.encode({"find": "rows", "$db": "quiet"})),
}


@pytest.mark.parametrize("kind", ["messages", "names"])
def test_nothing_else_is_reached_by_any_name(server, kind):
    acme, quiet = server.tenants["acme"], server.tenants["quiet"].quiet
    quiet.rows.insert_one({"_id": "secret"})
    acme.acme.rows.insert_one({})
    if kind == "messages":
        for name, data in MESSAGES.items():
            s, _ = raw(server)
            s.sendall(struct.pack("<i", len(data)) + data[4:])
            s.shutdown(socket.SHUT_WR)
            seen = b""
            while part := s.recv(65536):
                seen += part
            assert b"secret" not in seen, (name, seen)
            s.close()
    else:
        a = acme.acme
        for f in (lambda: a["system.namespaces"].drop(), lambda: list(a.rows.aggregate([{"$out": "system.namespaces"}])), lambda: a.rows.rename("system.indexes"),
                  lambda: list(a.rows.aggregate([{"$facet": {"x": [{"$merge": {"into": {"db": "acme", "coll": "system.indexes"}}}]}}])),
                  lambda: list(a.rows.aggregate([{"$merge": "system.namespaces"}])), lambda: a.create_collection("system.users"),
                  lambda: a.command({"create": "a\0b"}), lambda: a.command({"create": "$cmd"}), lambda: a.command({"insert": None, "documents": [{}]}),
                  lambda: a.command({"insert": 5, "documents": [{}]}), lambda: a.command({"drop": "system.indexes"}), lambda: a.command("create", "")):
            refused(f, code=73)
        a.command("createIndexes", "rows", indexes=[{"key": {"x": 1}, "name": "x", "unique": True, "ns": "quiet.rows"}])
        refused(a.command, "createIndexes", "rows", indexes=[{"key": {f"a{i}": 1}, "name": f"i{i}"} for i in range(70)], code=67)
    assert sorted(p.name for p in (server.dir / "data").iterdir()) == ["acme.mv", "lock", "quiet.mv"]
    assert list(quiet.rows.find()) == [{"_id": "secret"}] and "x_1" not in quiet.rows.index_information()
    server.client.close()
    server.kill()
    server.start()
    assert acme.acme.rows.count_documents({}) == 1 and quiet.list_collection_names() == ["rows"]


def test_a_tenant_fills_its_own_share_of_the_disk(server):
    users = (server.dir / "access").read_text()
    (server.dir / "access.new").write_text(users.replace(f"{SECRETS['acme']} acme", f"{SECRETS['acme']} acme 100000000"))
    os.rename(server.dir / "access.new", server.dir / "access")
    acme, quiet, file = server.tenants["acme"].acme, server.tenants["quiet"].quiet, server.dir / "data/acme.mv"
    for _ in range(30):  # one document: what was before it is used again
        acme.one.replace_one({"_id": 1}, {"s": os.urandom(3_000_000)}, upsert=True)
    assert file.stat().st_size < 90_000_000
    with pytest.raises(pymongo.errors.PyMongoError, match="max_database_bytes is 100000000"):
        for _ in range(20):
            acme.rows.insert_many([{"s": os.urandom(1_000_000)} for _ in range(10)])
    for f in (lambda: acme.one.update_one({}, {"$set": {"x": 1}}), lambda: list(acme.rows.aggregate([{"$facet": {"a": [{"$out": "b"}]}}])), lambda: acme.create_collection("c")):
        assert "max_database_bytes" in refused(f, code=12501)
    assert file.stat().st_size < 125_000_000 and acme.one.find_one() and quiet.rows.insert_one({}).acknowledged
    acme.rows.delete_many({})
    assert file.stat().st_size < 60_000_000 and acme.rows.insert_one({}).acknowledged
    server.client.drop_database("acme")
    assert not file.exists()


def test_mutated_messages_are_taken_or_refused(tmp_path):
    """tests/fuzz/FuzzMongo.java: its corpus, and the same mutations each time; `scripts/fuzz mongo` goes on."""
    classes = f"{RELEASE}/embedded-mongo/EmbeddedMongo.jar:{RELEASE}/embedded-mongo/lib/*"
    fuzz = ROOT / "tests/fuzz"
    corpus = shutil.copytree(fuzz / "corpus/mongo", tmp_path / "corpus")
    subprocess.run(["javac", "-nowarn", "-cp", classes, "-d", tmp_path, fuzz / "FuzzMongo.java"], check=True)
    r = subprocess.run(["java", "-Xmx256m", "-cp", f"{tmp_path}:{classes}", "FuzzMongo", corpus, "100000"], capture_output=True, text=True)
    assert r.returncode == 0 and "100000 mutations" in r.stdout, r.stderr


def test_garbage_ends_its_own_connection_only(server):
    good = msg({"ping": 1, "$db": "admin"})
    rng = hashlib.sha256(b"garbage")
    quiet = server.tenants["quiet"].quiet
    for n in range(400):
        rng.update(b"x")
        bad = bytearray(good)
        for i, byte in enumerate(rng.digest()[:n % 8 + 1]):
            bad[byte % len(bad)] = rng.digest()[i + 8]
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.settimeout(0.01)
            try:
                s.sendall(bytes(bad))
                s.recv(100)
            except OSError:
                pass
    lies = [b"\x05\xff\xff\xff\x7f", b"\x02a\0\xff\xff\xff\x7f", b"\x05a\0\xff\xff\xff\x7f\0", b"\x03a\0\xff\xff\xff\xff"]
    for lie in lies:
        doc = struct.pack("<i", len(lie) + 5) + lie + b"\0"
        with socket.create_connection(("127.0.0.1", server.port)) as s:
            s.sendall(struct.pack("<iiii", 21 + len(doc), 1, 0, 2013) + b"\0\0\0\0\0" + doc)
            s.settimeout(5)
            assert s.recv(10) == b""
    quiet.rows.insert_one({})


def test_one_damaged_file_is_one_databases(server):
    acme, quiet = server.tenants["acme"].acme, server.tenants["quiet"].quiet
    acme.rows.insert_one({})
    quiet.rows.insert_one({})
    server.kill()
    (server.dir / "data/acme.mv").write_bytes(os.urandom(20000))
    server.start()
    assert quiet.rows.count_documents({}) == 1
    with pytest.raises(pymongo.errors.PyMongoError, match="acme.mv.*restore"):  # which passes when it is restored: nobody's rows are at fault
        acme.rows.find_one()


@pytest.mark.needs_root
def test_the_port_is_the_homes_while_it_runs_and_the_server_a_user_of_its_own(make_home):
    home = make_home(own_mongo=True)
    home.tenant()
    home.up()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    java, = home.pids("java", "EmbeddedMongo")
    status = dict(line.split(":\t") for line in pathlib.Path(f"/proc/{java}/status").read_text().splitlines() if ":\t" in line)
    uid = int(status["Uid"].split()[0])
    assert uid >= 60000 and int(status["CapEff"], 16) == int(status["CapPrm"], 16) == 0
    assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"
    # Nothing of the home but its own is reached with its rights.
    seen = subprocess.run(["nsenter", "-t", str(java), "-m", "-S", str(uid), "-G", str(uid), "ls", "/tmp/data", home.path / "keys"],
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "acme" in seen.stdout and seen.stderr.startswith("ls: cannot access")
    port = int(json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"].rsplit("@127.0.0.1:", 1)[1].split("/")[0])
    os.kill(java, signal.SIGKILL)
    taken = 0
    while java in home.pids("java", "EmbeddedMongo") or not home.pids("java", "EmbeddedMongo"):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                s.listen()
                taken += 1
            except OSError:
                pass
    assert taken == 0
    home.drop("y.csv", "a\n2\n")
    until(lambda: all(f["state"] == "ingested" for f in home.files()) and len(home.files()) == 2, home.path / "state", what="the second file")


def test_a_server_that_refuses_writes_is_down_and_nobodys_fault(make_home):
    home = make_home(own_mongo=True)
    home.tenant()
    home.up()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    store = home.path / "state/mongo/simbdp_platform.mv"
    until(lambda: store.exists(), home.path / "state", what="the first write")
    kept = store.read_bytes()
    java, = home.pids("java", "EmbeddedMongo")
    os.kill(java, signal.SIGSTOP)
    store.write_bytes(b"no store" * 1000)
    os.kill(java, signal.SIGKILL)
    status = until(lambda: (s := home.control({"op": "status"}))["database"] == "down" and "refuses to write" in (s["database_error"] or "") and s,
                   home.path / "logs", what="the state of the database")
    assert "simbdp_platform.mv" in status["database_error"]
    home.drop("y.csv", "a\n2\n")
    store.write_bytes(kept)
    f = home.wait_file(file_name="y.csv")
    assert f["state"] == "ingested" and f["attempts"] <= 1
