"""The keeper of a program, without that program: for tests that tell it what the program never says."""
import json
import os
import socket
import struct
import subprocess

from harness import BUILD

CONF, TENANTS, LOG, ROTATE, ALERT, LOGIN, QUERY, AUDIT, PEM, STORE, ALIVE, FIGURES = range(12)  # lib/front/keeper.h


class Keeper:
    """The keeper of a program, and that program's end of their socket in hands that it was not made for."""

    def __init__(self, home, program):
        self.socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(20)
        self.log = home.base / "keeper.err"
        self.process = subprocess.Popen([BUILD / "simbdp-keeper", program, "--home", home.path], stdin=theirs, stderr=open(self.log, "w"), env=home.env)
        theirs.close()

    def tell(self, op, index=0, generation=0, tenant=b"", text=b""):
        self.socket.send(struct.pack("<IIQ64s", op, index, generation, tenant) + text)

    def ask(self, op, text=b""):
        """(0, the answer's text), or (code, why not)."""
        self.tell(op, text=text)
        data, fds, _, _ = socket.recv_fds(self.socket, 4096, 1)
        code = struct.unpack("<i", data[:4])[0]
        if code:
            return code, data[4:].split(b"\0")[0].decode()
        with os.fdopen(fds[0]) as f:
            return code, f.read()

    def question(self, op, doc):
        """(head, body) of the answer to a JSON object."""
        code, text = self.ask(op, json.dumps(doc).encode())
        assert code == 0, text
        head, _, body = text.partition("\n")
        return json.loads(head), body

    def ends(self):
        return self.process.wait(20) == 0

    def close(self):
        self.socket.close()
        self.process.wait(20)
