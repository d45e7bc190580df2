"""A replica set that does as a test says. Its members are servers of the real wire (scripted.py) that know which of them is the primary; what
the primary stores is on the others once a majority has it, and what it had not handed on when another one was elected is rolled back."""
import threading

import bson

from scripted import Scripted

NOT_PRIMARY = {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary", "errorLabels": ["RetryableWriteError"]}


class Member(Scripted):
    def __init__(self, replicas):
        self.replicas, self.concerns = replicas, []
        super().__init__()
        self.name = self.url.removeprefix("mongodb://").rstrip("/")

    def hello(self):
        r = self.replicas
        primary = r.primary is self
        return {**super().hello(), "ismaster": primary, "isWritablePrimary": primary, "secondary": not primary, "setName": "rs", "setVersion": 1, "electionId": bson.ObjectId(f"{r.term:024x}"),
                "hosts": [m.name for m in r.members], "me": self.name, **({"primary": r.primary.name} if r.primary else {})}

    def message(self, body):
        with self.replicas.lock:
            self.concerns += [body.count(b"writeConcern\0")] if b"insert\0" in body or b"update\0" in body else []
            return super().message(body)

    def answer(self, name, command, documents):
        if self.replicas.primary is not self and name in ("findAndModify", "createUser", "updateUser", "createIndexes", "delete", "drop", "find"):
            self.commands.append(name)
            return {**NOT_PRIMARY, "code": 13435, "codeName": "NotPrimaryNoSecondaryOk"} if name == "find" else NOT_PRIMARY
        return super().answer(name, command, documents)

    def insert(self, documents):
        """The primary's: durable when the others have them."""
        answer = super().insert(documents)
        for m in self.replicas.members:
            if m is not self:
                m.documents.update({d["_id"]: d for d in documents})
        return answer


class Replicas:
    """`script(replicas, command, documents)` is called for each insert that comes to the primary, as that of Scripted is."""

    def __init__(self, script=None, n=3):
        self.lock, self.term, self.primary, self.members = threading.RLock(), 1, None, []
        self.members = [Member(self) for _ in range(n)]
        for m in self.members:
            m.script = lambda command, documents, m=m: NOT_PRIMARY if self.primary is not m else script(self, command, documents) if script else None
        self.primary = self.members[0]
        self.url = f"mongodb://{','.join(m.name for m in self.members)}/?replicaSet=rs"

    def elect(self, who=None):
        """Another primary (None: none for now); what the old one kept to itself is gone."""
        with self.lock:
            others = [m for m in self.members if m is not self.primary]
            agreed = others[0].documents
            self.primary, self.term = who, self.term + 1
            for m in self.members:
                m.documents = dict(agreed)

    def next(self):
        return self.members[(self.members.index(self.primary) + 1) % len(self.members)]

    def keep(self, documents):
        """Stored by the primary alone."""
        Scripted.insert(self.primary, documents)

    def stop(self):
        for m in self.members:
            m.stop()
