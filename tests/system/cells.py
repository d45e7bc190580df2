"""A fleet: its map, a front of it, and cells that are only pretended."""
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import threading

from harness import BUILD, LIBC, until
from web import Answer, Wire


class Fleet:
    """A directory of `mysimbdp cells`."""

    def __init__(self, path):
        self.path = path

    def cli(self, *args, ok=True, stdin=None):
        r = subprocess.run([BUILD / "mysimbdp", "cells", *map(str, args)], env={**os.environ, "MYSIMBDP_CELLS": str(self.path)}, input=stdin,
                           capture_output=True, text=True)
        assert (r.returncode == 0) == ok, (args, r)
        return r.stdout if ok else r.stderr

    def rows(self, *args):
        return [json.loads(line) for line in self.cli(*args, "--json").splitlines()]

    def sign(self, *changes):
        for change in changes:
            self.cli(*change)
        self.cli("sign")


def die_with_parent():
    LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: also of a pytest that was killed nothing stays


class Front:
    """simbdp-cells on a port of its own; `with` ends it, whatever happened."""

    def __init__(self, fleet, path, *options, key=None):
        self.fleet, self.path = fleet, path
        path.mkdir(exist_ok=True)
        self.log = path / "log"
        self.args = [BUILD / "simbdp-cells", "--map", fleet.path / "map", "--key", key or fleet.path / "map.pub", "--state", path, "--listen", "127.0.0.1:0", *map(str, options)]
        self.process = None

    def start(self, ok=True):
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.args, stdin=subprocess.DEVNULL, stderr=log, preexec_fn=die_with_parent)
        until(lambda: self.said("ready") or self.process.poll() is not None, self.path, what=lambda: self.log.read_text())
        assert ok == bool(self.said("ready")), self.log.read_text()
        if ok:
            self.port = int(self.said("ready")[-1].rpartition(":")[2])
        return self

    def __enter__(self):
        return self if self.process else self.start()

    def __exit__(self, kind, *_):
        (self.kill if kind else self.stop)()

    def said(self, event):
        return [line["msg"] for line in map(json.loads, self.log.read_text().splitlines()) if line["event"] == event]

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            assert self.process.wait(timeout=60) == 0, self.log.read_text()

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def wire(self, **kw):
        return Wire("127.0.0.1", self.port, **kw)

    def raw(self, text, method="GET"):
        """What is answered to these bytes on a connection of their own."""
        with self.wire() as w:
            w.try_send(text)
            return w.answer(method)

    def ask(self, method, target, body=None, **headers):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            c.request(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
            return Answer(c.getresponse())
        finally:
            c.close()


class FakeCell:
    """Takes whatever comes on a port, keeps it, and answers with what `says` gives: bytes, or None to say nothing. A connection stays
    open until the other side, or `close`, ends it."""

    def __init__(self, says=None):
        self.says = says or (lambda head: b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(self.name), self.name))
        self.name = b"cell"
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.requests, self.bytes, self.connections = [], b"", []
        self.changed = threading.Condition()
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.socket.accept()
            except OSError:
                return
            with self.changed:
                self.connections.append(connection)
                self.changed.notify_all()
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        try:
            while piece := connection.recv(65536):
                with self.changed:
                    self.bytes += piece
                    self.changed.notify_all()
                data += piece
                while b"\r\n\r\n" in data:
                    head, _, rest = data.partition(b"\r\n\r\n")
                    length = next((int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0)
                    if b"transfer-encoding: chunked" in head.lower():
                        if b"0\r\n\r\n" not in rest:
                            break
                        length = rest.index(b"0\r\n\r\n") + 5
                    if len(rest) < length:
                        break
                    with self.changed:
                        self.requests.append((head, rest[:length]))
                        self.changed.notify_all()
                    data = rest[length:]
                    if (answer := self.says(head)) is not None:
                        connection.sendall(answer)
        except OSError:
            pass

    def wait(self, test):
        with self.changed:
            assert self.changed.wait_for(test, timeout=60)

    def close(self):
        with contextlib.suppress(OSError):
            self.socket.shutdown(socket.SHUT_RDWR)  # who waits in accept() would keep it open
        self.socket.close()
        for connection in self.connections:
            connection.close()
