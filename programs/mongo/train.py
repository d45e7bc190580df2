"""train.py JARS WORK: has the embedded MongoDB in JARS started and used, in WORK, so that it leaves JARS/EmbeddedMongo.jsa."""
import pathlib
import socket
import subprocess
import sys

import pymongo

jars, work = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
secret = "0" * 32
(work / "data").mkdir()
(work / "sockets").mkdir()
(work / "users").write_text(f"train {secret} *\n")
listener = socket.create_server(("127.0.0.1", 0))
port = listener.getsockname()[1]
options = [o for o in (jars / "jvm.options").read_text().split() if "SharedArchiveFile" not in o]
server = subprocess.Popen(
    ["java", *options, "-XX:ArchiveClassesAtExit=new.jsa", "-cp", "EmbeddedMongo.jar",
     "EmbeddedMongo", "--home", str(work), "--port", "inherited", "--data", str(work / "data"), "--users", str(work / "users"), "--socket-dir", str(work / "sockets")],
    cwd=jars, stdin=listener, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
line = server.stderr.readline()
assert "ready" in line, line + server.stderr.read()
with pymongo.MongoClient(f"mongodb://train:{secret}@127.0.0.1:{port}/?authSource=admin&authMechanism=SCRAM-SHA-256") as client:
    rows = client.train.rows
    rows.create_index("n", unique=True)
    rows.insert_many([{"_id": bytes([i]) * 16, "n": i, "text": "x", "at": 1.5} for i in range(100)])
    rows.update_one({"n": 1}, {"$set": {"text": "y"}}, upsert=True)
    rows.replace_one({"_id": bytes([2]) * 16}, {"n": 2}, upsert=True)
    rows.delete_many({"n": {"$gt": 90}})
    assert len(list(rows.find({"n": {"$gte": 2}}).sort("n", -1).limit(10))) == 10
    assert rows.count_documents({}) == 91 and list(rows.aggregate([{"$group": {"_id": None, "n": {"$sum": "$n"}}}]))
    client.train.list_collection_names()
server.terminate()
assert server.wait(timeout=60) in (0, 143), server.stderr.read()
(jars / "new.jsa").rename(jars / "EmbeddedMongo.jsa")
