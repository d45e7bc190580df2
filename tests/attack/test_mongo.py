"""The embedded MongoDB against its tenants and strangers: each attack as it was found, and what others see of it."""
import base64
import hashlib
import hmac
import json
import os
import pathlib
import re
import shutil
import signal
import socket
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
    until(lambda: (s := home.control({"op": "status"}))["database"] == "down" and re.search("refuses to write.*simbdp_platform.mv", s["database_error"] or ""),
          home.path / "logs", what="the state of the database, with the file's name")
    home.drop("y.csv", "a\n2\n")
    store.write_bytes(kept)
    f = home.wait_file(file_name="y.csv")
    assert f["state"] == "ingested" and f["attempts"] <= 1
