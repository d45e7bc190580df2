"""A MongoDB that does as a test says: it keeps documents by _id, and a script may have each insert go wrong in its own way."""
import socket
import struct
import threading

import bson

CLOSE = object()


class Scripted:
    """script(command, documents) is called for every insert and update; it gives None (store them), a reply, or CLOSE."""

    def __init__(self, script=None):
        self.script = script or (lambda command, documents: None)
        self.replies = {}  # command name -> reply, for commands that are neither insert, update nor find
        self.documents = {}
        self.commands = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"mongodb://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.connections = set()
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.listener.close()
        for c in list(self.connections):
            c.close()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            self.connections.add(c)
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    @staticmethod
    def read(c, n):
        data = b""
        while len(data) < n:
            chunk = c.recv(n - len(data))
            if not chunk:
                raise OSError("closed")
            data += chunk
        return data

    def serve(self, c):
        try:
            while True:
                length, request, _, op = struct.unpack("<iiii", self.read(c, 16))
                body = self.read(c, length - 16)
                if op == 2004:
                    self.reply(c, request, self.hello(), query=True)
                    continue
                answer = self.message(body)
                if answer is CLOSE:
                    break
                if isinstance(answer, bytes):
                    c.sendall(answer)
                else:
                    self.reply(c, request, answer)
        except (OSError, struct.error):
            pass
        finally:
            self.connections.discard(c)
            c.close()

    @staticmethod
    def hello():
        return {"ismaster": True, "isWritablePrimary": True, "maxBsonObjectSize": 16 << 20, "maxMessageSizeBytes": 48000000, "maxWriteBatchSize": 100000,
                "minWireVersion": 0, "maxWireVersion": 8, "ok": 1.0}

    @staticmethod
    def reply(c, request, document, query=False):
        data = bson.encode(document)
        if query:
            data = struct.pack("<iqii", 0, 0, 0, 1) + data
            c.sendall(struct.pack("<iiii", 16 + len(data), 1, request, 1) + data)
        else:
            data = struct.pack("<iB", 0, 0) + data
            c.sendall(struct.pack("<iiii", 16 + len(data), 1, request, 2013) + data)

    def message(self, body):
        at = 4
        command, documents = None, []
        while at < len(body):
            kind = body[at]
            size = struct.unpack_from("<i", body, at + 1)[0]
            if kind == 0:
                command = bson.decode(body[at + 1:at + 1 + size])
            else:
                end = body.index(b"\0", at + 5)
                documents += bson.decode_all(body[end + 1:at + 1 + size])
            at += 1 + size
        return self.answer(next(iter(command)), command, documents)

    def answer(self, name, command, documents):
        with self.lock:
            self.commands.append(name)
            if name in ("isMaster", "ismaster", "hello"):
                return self.hello()
            if name == "insert":
                documents += command.get("documents", [])
                answer = self.script(command, documents)
                return answer if answer is not None else self.insert(documents)
            if name == "update":
                answer = self.script(command, command["updates"])
                for u in command["updates"] if answer is None else []:
                    self.documents[u["q"]["_id"]] = u["u"]
                return answer if answer is not None else {"ok": 1.0, "n": len(command["updates"])}
            if name == "find" and command["find"] == "simbdp_home":  # the mark that a home left: it is there
                return {"ok": 1.0, "cursor": {"id": bson.Int64(0), "ns": "d.c", "firstBatch": [{"_id": "mark", "n": bson.Int64(1 << 40)}]}}
            if name == "find":
                wanted = command["filter"]["_id"]["$in"]
                return {"ok": 1.0, "cursor": {"id": bson.Int64(0), "ns": "d.c", "firstBatch": [{"_id": i} for i in wanted if i in self.documents]}}
        return self.replies.get(name, {"ok": 1.0, "version": "0.0-scripted"})

    def insert(self, documents):
        errors = []
        for i, d in enumerate(documents):
            if d["_id"] in self.documents:
                errors.append({"index": i, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: _id_ dup key: { : x }"})
            else:
                self.documents[d["_id"]] = d
        answer = {"ok": 1.0, "n": len(documents) - len(errors)}
        if errors:
            answer["writeErrors"] = errors
        return answer
