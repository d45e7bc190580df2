"""A home with a gateway, and those who talk to it: by http.client, and byte by byte. What is answered is compared with docs/openapi.yaml."""
import base64
import contextlib
import http.client
import json
import pathlib
import re
import select
import socket
import ssl
import time
import types
from urllib.parse import urlsplit

import jsonschema
import yaml

from harness import ROOT, Home, until

PASSWORD = "correct horse battery"
# Datasets: data takes csv; small 1000 bytes; few one file a day; held waits for `run`; slow runs until it is stopped.
ACME = """
database = "%(database)s"; concurrency = 4; limits = { formats = ("csv", "json"); };
datasets = ( { name = "data"; format = "csv"; collection = "data"; }, { name = "small"; format = "csv"; collection = "small"; limits = { max_file_bytes = 1000L; }; },
  { name = "few"; format = "csv"; collection = "few"; limits = { max_files_per_day = 1; }; }, { name = "held"; format = "csv"; collection = "held"; },
  { name = "strict"; format = "csv"; collection = "strict"; columns = ( { name = "v"; type = "int"; } ); limits = { max_rejects = 1; }; }, { name = "slow"; format = "csv"; },
  { name = "nobodys"; format = "csv"; } );
batch = ( { app = "load"; exec = "builtin:load"; datasets = ("data", "small", "few", "strict"); }, { app = "held"; exec = "builtin:load"; datasets = ("held"); trigger = "manual"; },
  { app = "slow"; exec = "misbehave"; datasets = ("slow"); } );
streams = ( { name = "events"; } );
"""


def settings(tls=False, **keys):
    """`platform.http` of the configuration."""
    return f'http = {{ listen = "127.0.0.1"; tls = {str(tls).lower()}; requests_per_s = -1; ' + "".join(f"{k} = {v}; " for k, v in keys.items()) + "};"


class Answer:
    def __init__(self, response):
        self.status, self.version = response.status, response.version
        self.headers = response.headers
        self.kind = response.headers.get_content_type() if response.headers["Content-Type"] else ""  # libmicrohttpd's own pages have none
        self.body = b"" if self.kind == "text/event-stream" else response.read()  # it has no end
        self.doc = json.loads(self.body) if self.body and self.kind.endswith("json") and not self.kind.endswith("x-ndjson") else None

    @property
    def code(self):
        return self.doc.get("code") if self.kind == "application/problem+json" and self.doc else None

    def __repr__(self):
        return f"<{self.status} {self.code or ''} {self.body[:300]!r}>"


class Stream:
    """What http.client reads an answer from: the next one finds what this one left."""

    def __init__(self, file):
        self.file = file

    def makefile(self, *_):
        return self

    def __getattr__(self, name):
        return getattr(self.file, name)

    def close(self):
        pass


class Wire:
    """A connection, byte by byte."""

    def __init__(self, host, port, context=None, source=None, timeout=60):
        self.sock = socket.create_connection((host, port), timeout=timeout, source_address=(source, 0) if source else None)
        if context:
            self.sock = context.wrap_socket(self.sock, server_hostname=host)
        self.file = self.sock.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.file.close()
        self.sock.close()

    def reset(self):
        """Ends it so that the other side sees an error."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())

    def try_send(self, data):
        """What the other side does not want any more is not sent."""
        with contextlib.suppress(OSError):
            self.send(data)

    def line(self):
        return self.file.readline()

    def answer(self, method="GET"):
        response = http.client.HTTPResponse(Stream(self.file), method=method)
        response.begin()
        return Answer(response)

    def rest(self):
        """All that comes until the other side ends it."""
        data = b""
        with contextlib.suppress(ConnectionResetError, ssl.SSLEOFError, BrokenPipeError):
            while piece := self.file.read(65536):
                data += piece
        return data

    def ended(self, within=0):
        """Whether the other side has ended it; waits so long for that."""
        if not select.select([self.sock], [], [], within)[0]:
            return False
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except ConnectionResetError:
            return True


class Site:
    """The home, its gateway, and accounts of its tenants `acme` and `beta`."""

    def __init__(self, mongo, http="", ready=True, rescan_ms=200, **env):
        self.home = Home(mongo, platform=(http or settings()) + f" rescan_ms = {rescan_ms};")
        self.home.tenant("beta")
        self.home.tenant("acme")
        (self.home.path / "conf/tenants/acme.conf").write_text(ACME % {"database": self.home.db_of["acme"]})
        self.home.install("acme", ROOT / "build/tenants/misbehave")
        self.home.profiles(rlimits="nofile = 256;")
        self.tokens = {}
        self.document = yaml.safe_load((ROOT / "docs/openapi.yaml").read_text())
        self.patterns = [(re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+?", re.escape(path)) + "$"), path) for path in self.document["paths"]]
        if ready:
            self.up(**env)

    def up(self, **env):
        self.home.up(**env)
        self.url = json.loads((self.home.path / "state/endpoints.json").read_text())["gateway"]["http"]
        parts = urlsplit(self.url)
        self.host, self.port, self.context = parts.hostname, parts.port, None
        if parts.scheme == "https":
            self.context = ssl.create_default_context(cafile=self.home.path / "keys/gateway.crt")

    def cleanup(self):
        self.home.cleanup()

    # -- accounts

    def user(self, name, role="tenant-writer", tenant="acme", password=PASSWORD):
        self.home.cli("user", "add", name, "--role", role, *(("--tenant", tenant) if tenant else ()), input=password + "\n")
        return name

    def token(self, user, *scope):
        """(its text, its id)"""
        (made,) = self.home.rows("token", "add", user, *scope)
        return made["token"], made["token_id"]

    def of(self, role="tenant-writer", tenant="acme"):
        """A token of an account of that role, which is made once."""
        key = role, tenant
        if key not in self.tokens:
            self.tokens[key] = self.token(self.user(f"{role}.{tenant or 'all'}", role, tenant))[0]
        return self.tokens[key]

    # -- asking

    def wire(self, **kw):
        return Wire(self.host, self.port, self.context, **kw)

    def login(self, token):
        if token is None:
            return {}
        if isinstance(token, tuple):
            return {"Authorization": "Basic " + base64.b64encode(":".join(token).encode()).decode()}
        return {"Authorization": f"Bearer {token}"}

    def ask(self, method, target, token="", body=None, source=None, described=True, **headers):
        """On a connection of its own. token: default: a writer of acme; None: nobody. Header names with _ for -."""
        kind = http.client.HTTPSConnection if self.context else http.client.HTTPConnection
        c = kind(self.host, self.port, timeout=60, source_address=(source, 0) if source else None, **({"context": self.context} if self.context else {}))
        headers = {**self.login(self.of() if token == "" else token), **{k.replace("_", "-"): v for k, v in headers.items()}}
        try:
            c.request(method, target, body, headers)
            answer = Answer(c.getresponse())
        finally:
            c.close()
        self.fits(method, target, answer, described)
        return answer

    def get(self, path, token="", tenant="acme", **kw):
        return self.ask("GET", f"/v1/tenants/{tenant}/{path}", token, **kw)

    def put(self, name, body, token="", tenant="acme", dataset="data", **kw):
        return self.ask("PUT", f"/v1/tenants/{tenant}/datasets/{dataset}/files/{name}", token, body, **kw)

    def post(self, path, token="", tenant="acme", body=b"", **kw):
        return self.ask("POST", f"/v1/tenants/{tenant}/{path}", token, body, **kw)

    def head_of(self, name, length=None, token="", dataset="data", **headers):
        """The beginning of an upload, for a Wire. length None: chunked."""
        fields = {"Host": self.host, **self.login(self.of() if token == "" else token), **{k.replace("_", "-"): v for k, v in headers.items()}}
        fields.update({"Transfer-Encoding": "chunked"} if length is None else {"Content-Length": length})
        return f"PUT /v1/tenants/acme/datasets/{dataset}/files/{name} HTTP/1.1\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + "\r\n"

    # -- what was answered

    def schema(self, schema, value):
        jsonschema.Draft202012Validator({**schema, "components": self.document["components"]}).validate(value)

    def resolve(self, node):
        while "$ref" in node:
            at = self.document
            for part in node["$ref"].removeprefix("#/").split("/"):
                at = at[part]
            node = at
        return node

    def fits(self, method, target, answer, described=True):
        """The answer is one that docs/openapi.yaml has for this request; where it is for no request at all, a problem."""
        assert re.fullmatch("[0-9a-hjkmnp-tv-z]{26}", answer.headers["X-Request-Id"] or ""), answer
        if answer.kind == "application/problem+json" and method != "HEAD":
            self.schema({"$ref": "#/components/schemas/Problem"}, answer.doc)
            assert (answer.doc["status"], answer.doc["request_id"]) == (answer.status, answer.headers["X-Request-Id"]), answer
        elif answer.status >= 400 and answer.body:
            assert answer.status == 503 and target == "/readyz", f"no problem document: {answer}"
        if (answer.status == 401) != bool(answer.headers.get_all("WWW-Authenticate")):
            raise AssertionError(f"WWW-Authenticate: {answer.headers}")
        path = target.partition("?")[0]
        suffix = ":" + path.rpartition(":")[2] if path.rpartition(":")[2] in ("retry", "stop", "run", "activate", "rollback", "start", "scale", "replay", "suspend", "resume") else ""
        found = [p for pattern, p in self.patterns if pattern.match(path) and p.endswith(suffix)]
        operation = self.document["paths"][found[0]].get(method.lower()) if found else None
        if not operation or not described:
            return
        response = self.resolve(operation["responses"].get(str(answer.status)) or operation["responses"]["default"])
        for name, header in response.get("headers", {}).items():
            header, value = self.resolve(header), answer.headers[name]
            assert value is not None or not header.get("required"), f"{method} {target}: {answer.status} without {name}"
            if value is not None and self.resolve(header["schema"]).get("type") == "integer":
                self.schema(header["schema"], int(value))
        if answer.body:
            content = response["content"].get(answer.kind)
            assert content, f"{method} {target}: {answer.status} with {answer.kind}"
            if answer.doc is not None:
                self.schema(content["schema"], answer.doc)

    # -- what there is

    def spooled(self):
        return sorted(p.name for p in (self.home.path / "staging/.gateway").iterdir() if p.name != "resumable")

    def wait_spool(self, n=0):
        return until(lambda: len(self.spooled()) == n, self.home.path / "staging/.gateway", what=lambda: f"{n} in the spool: {self.spooled()}")

    def rows(self, name, tenant="acme"):
        """Of the ledger."""
        return self.home.files(file_name=name, tenant_id=tenant)

    def wait(self, file_id):
        return self.home.wait_file(file_id=file_id)

    def pid(self):
        (pid,) = until(lambda: len(p := self.home.pids("/gateway")) == 1 and p, self.home.path / "logs", what="one gateway")
        return pid

    def is_well(self, **kw):
        with contextlib.suppress(OSError, http.client.HTTPException):
            return self.ask("GET", "/healthz", None, **kw).status == 200
        return False

    def wait_well(self):
        until(self.is_well, self.home.path / "logs", what="the gateway")

    def setting(self, **keys):
        """Changes keys of platform.http, and reloads."""
        path = pathlib.Path(self.home.path / "conf/mysimbdp.conf")
        text = path.read_text()
        for key, value in keys.items():
            assert re.search(rf"\b{key} = [^;]+;", text), key
            text = re.sub(rf"\b{key} = [^;]+;", f"{key} = {value};", text)
        path.write_text(text)
        self.home.cli("reload")


def parallel(calls):
    """The results of all, run at once by threads."""
    import threading
    results = [None] * len(calls)

    def run(i, call):
        try:
            results[i] = call()
        except BaseException as e:
            results[i] = e
    threads = [threading.Thread(target=run, args=pair) for pair in enumerate(calls)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    for r in results:
        if isinstance(r, BaseException):
            raise r
    return results


def facts(**kw):
    return types.SimpleNamespace(**kw)


def each_route(site, tenant, file_id="01kdv6y6q3p8sxkq2n4ft5w7za"):
    """(method, target, body) of each request that is described."""
    values = {"tenant": tenant, "dataset": "data", "name": "a.csv", "file_id": file_id, "run_id": file_id, "upload_id": file_id, "app": "load", "stream": "events", "month": "2026-01", "version": "0123456789abcdef",
              "instance_id": file_id}
    for path, item in site.document["paths"].items():
        for method in ("get", "head", "put", "post", "patch", "delete", "options"):
            if method in item:
                yield method.upper(), path.format(**values), b"v,w\n1,a\n2,b\n" if method in ("put", "patch") or path.endswith("messages") else None


class Events:
    """A stream of events, read byte by byte as WHATWG's description of the format says. `events`: (name, data, id). Not `opens`: begin() waits
    for the answer."""

    def __init__(self, site, target="/v1/tenants/acme/events", token="", last=None, accept="text/event-stream", opens=True):
        self.site, self.last, self.events, self.comments, self.retry, self.raw = site, last, [], 0, None, b""
        self.next_last = last
        fields = site.login(site.of() if token == "" else token)
        self.wire = site.wire()
        self.wire.send((f"GET {target} HTTP/1.1\r\nHost: x\r\n" + "".join(f"{k}: {v}\r\n" for k, v in fields.items()) + f"Accept: {accept}\r\n"
                        + (f"Last-Event-ID: {last}\r\n" if last is not None else "") + "\r\n").encode())
        self.sock, self.over = self.wire.sock, False
        self.rest, self.name, self.data, self.text = b"", "", [], b""
        if opens:
            self.begin()

    def begin(self):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = self.sock.recv(1)
            if not piece:
                break
            head += piece
        self.status = int(head.split()[1])
        self.head = head.decode()
        self.chunked = b"chunked" in head.lower()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.wire.close()

    def _feed(self, piece):
        """Chunks, then lines."""
        self.rest += piece
        while self.chunked:
            at = self.rest.find(b"\r\n")
            if at < 0:
                return
            n = int(self.rest[:at], 16)
            if len(self.rest) < at + 4 + n:
                return
            self.text += self.rest[at + 2:at + 2 + n]
            self.rest = self.rest[at + 4 + n:]
            if n == 0:
                self.over = True
                return

    def _line(self, line):
        if not line:
            if self.data:
                self.events.append((self.name or "message", json.loads("\n".join(self.data)), self.next_last))
            self.name, self.data, self.last = "", [], self.next_last
        elif line.startswith(":"):
            self.comments += 1
        else:
            field, _, value = line.partition(":")
            value = value[1:] if value.startswith(" ") else value
            if field == "event":
                self.name = value
            elif field == "data":
                self.data.append(value)
            elif field == "id" and "\0" not in value:
                self.next_last = value  # holds once the event is whole
            elif field == "retry":
                self.retry = int(value)

    def pump(self, timeout=0.25):
        """Reads what is there. False: it ended."""
        self.sock.settimeout(timeout)
        try:
            piece = self.sock.recv(65536)
        except (TimeoutError, socket.timeout, BlockingIOError):
            return True
        except OSError:
            piece = b""
        self.raw += piece
        self._feed(piece)
        *lines, self.text = re.split(rb"\r\n|\r|\n", self.text)
        for line in lines:
            self._line(line.decode())
        return bool(piece) and not self.over

    def until(self, test, timeout=60, what="events"):
        end = time.monotonic() + timeout
        while not test(self):
            assert time.monotonic() < end, f"no {what}: {self.events[-5:]}"
            if not self.pump():
                assert test(self), f"the stream ended without {what}: {self.events[-5:]}"
        return self

    def named(self, *names):
        return [e for e in self.events if e[0] in names]

    def of_file(self, file_id):
        return [e[0] for e in self.events if e[1].get("file_id") == file_id]

    def to_end(self, timeout=60):
        end = time.monotonic() + timeout
        while self.pump():
            assert time.monotonic() < end, f"it does not end: {self.events[-3:]}"
        return self
