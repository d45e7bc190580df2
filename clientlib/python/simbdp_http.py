"""HTTP for simbdp_client.py: one request, its answer or the error, and another try where that makes sense. Bodies are streamed."""
import base64
import hashlib
import hmac
import http.client
import io
import ipaddress
import json
import os
import random
import select
import socket
import ssl
from typing import Any, BinaryIO, Callable, Dict, Iterator, List, NamedTuple, Optional, Tuple
from urllib.parse import quote, urlencode, urlsplit

_PIECE = 1 << 16
_ASK_FIRST = 1 << 18  # a body of so many bytes is only sent once the server says that it may come
_CONTINUE_S = 2.0  # which a server that does not know of that never says
_MAX_ANSWER = 64 << 20
_SILENCE_S = 45.0  # of a stream of events, in which a comment comes every 15 s
_FIRST_PAUSE, _MAX_PAUSE = 0.25, 15.0
_BROKEN = (OSError, http.client.HTTPException)
_BUSY = frozenset({429, 503, 507})
_BETWEEN = frozenset({502, 504})  # said by a proxy: the request may have arrived


class ApiError(Exception):
    """The gateway refused, or could not be asked.

    status:       of HTTP; 0: there was no answer (code "unreachable"), or none that can be read (code "bad_answer")
    code:         what programs go by; docs/openapi.yaml lists them ("http_502" and the like: what a proxy said)
    detail:       for people
    request_id:   to be named to the provider; None where there is none
    retry_after:  seconds after which it may be different; None: it was not said"""

    def __init__(self, status: int, code: str, detail: str = "", request_id: Optional[str] = None, retry_after: Optional[float] = None):
        text = "%s %s" % (status, code) if status else code
        super().__init__(text + (": " + detail if detail else "") + (" (request %s)" % request_id if request_id else ""))
        self.status, self.code, self.detail = status, code, detail
        self.request_id, self.retry_after = request_id, retry_after

    def __reduce__(self) -> Tuple[Any, ...]:
        return ApiError, (self.status, self.code, self.detail, self.request_id, self.retry_after)


# ---- connections

class Pinned(http.client.HTTPSConnection):
    """Speaks to whoever shows the one certificate: what is in it (names, dates, issuer) does not matter."""

    def __init__(self, *args: Any, fingerprint: bytes, **kw: Any):
        super().__init__(*args, **kw)
        self._fingerprint = fingerprint

    def connect(self) -> None:
        super().connect()
        shown = hashlib.sha256(self.sock.getpeercert(True) or b"").digest()
        if not hmac.compare_digest(shown, self._fingerprint):
            self.close()
            raise ssl.SSLCertVerificationError("the server's certificate is another one: its SHA-256 is " + _colons(shown))


class Rest:
    """A socket of which `said` was read already, as http.client.HTTPResponse takes it."""

    def __init__(self, sock: socket.socket, said: bytes):
        self._file, self._said = sock.makefile("rb", buffering=0), said

    def makefile(self, *_: Any) -> BinaryIO:
        rest = self

        class Raw(io.RawIOBase):
            def readable(self) -> bool:
                return True

            def readinto(self, into: Any) -> Optional[int]:
                if not rest._said:
                    return rest._file.readinto(into)
                n = min(len(into), len(rest._said))
                into[:n], rest._said = rest._said[:n], rest._said[n:]
                return n

            def close(self) -> None:
                rest._file.close()
                super().close()

        return io.BufferedReader(Raw())


def _colons(digest: bytes) -> str:
    return ":".join("%02X" % b for b in digest)


def _digest_of(fingerprint: str) -> bytes:
    text = fingerprint.strip()
    if text[:7].lower() in ("sha256:", "sha-256"):
        text = text[7:]
    try:
        raw = bytes.fromhex(text.replace(":", "").replace(" ", ""))
    except ValueError:
        raw = b""
    if len(raw) != 32:
        raise ValueError("a fingerprint is the SHA-256 of a certificate: 32 bytes in hex, as AB:CD:…")
    return raw


def _is_here(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _is_stale(c: http.client.HTTPConnection) -> bool:
    """The server ended it meanwhile (or said what nobody asked for): seen before something is sent that cannot be sent twice."""
    try:
        if hasattr(select, "poll"):
            p = select.poll()
            p.register(c.sock, select.POLLIN)
            return bool(p.poll(0))
        return bool(select.select([c.sock], [], [], 0)[0])
    except (OSError, ValueError):
        return True


# ---- bodies

class Unsent(Exception):
    """The server reads no more of the body: it may have said why."""


class Own(Exception):
    """What the caller's file or callback raised, which is no failure of the connection's."""


class Body:
    """What is uploaded: from where the file object is, to its end."""

    def __init__(self, file: BinaryIO, progress: Optional[Callable[[int, Optional[int]], Any]]):
        self.file, self.progress = file, progress
        self.size: Optional[int] = None
        self.start: Optional[int] = None
        self.touched = False
        try:
            if file.seekable():
                self.start = file.tell()
                self.size = file.seek(0, os.SEEK_END) - self.start
                file.seek(self.start)
        except (AttributeError, OSError, ValueError):
            self.start = self.size = None

    def can_be_sent(self) -> bool:
        return self.start is not None or not self.touched

    @staticmethod
    def _own(call: Callable[..., Any], *args: Any) -> Any:
        try:
            return call(*args)
        except Exception as e:
            raise Own() from e

    def _read(self, n: int) -> bytes:
        self.touched = True
        data = self.file.read(n)
        if isinstance(data, str):
            raise TypeError("the file is open as text; open it with mode 'rb'")
        if not data and self.size is not None:
            raise ValueError("the file became shorter while it was read")
        return data

    def pieces(self) -> Iterator[bytes]:
        """As many bytes as `size` says: what somebody adds meanwhile is not sent."""
        left = self.size
        if self.start is not None:
            self._own(self.file.seek, self.start)
        while left is None or left:
            piece = self._own(self._read, _PIECE if left is None else min(_PIECE, left))
            if not piece:
                return
            if left is not None:
                left -= len(piece)
            yield piece

    def headers(self, digest: bool) -> Dict[str, str]:
        """What is said of it beforehand. A digest only of what can be read twice."""
        said = {"Transfer-Encoding": "chunked"} if self.size is None else {"Content-Length": str(self.size)}
        if digest and self.start is not None:
            h = hashlib.sha256()
            for piece in self.pieces():
                h.update(piece)
            said["Content-Digest"] = "sha-256=:%s:" % base64.b64encode(h.digest()).decode()
        if self.size is None or self.size >= _ASK_FIRST:
            said["Expect"] = "100-continue"
        return said

    def send(self, c: http.client.HTTPConnection) -> None:
        sent = 0
        for piece in self.pieces():
            self._send(c, piece if self.size is not None else b"%x\r\n%s\r\n" % (len(piece), piece))
            sent += len(piece)
            if self.progress:
                self._own(self.progress, sent, self.size)
        if self.size is None:
            self._send(c, b"0\r\n\r\n")

    @staticmethod
    def _send(c: http.client.HTTPConnection, data: bytes) -> None:
        try:
            c.send(data)
        except OSError as e:
            raise Unsent() from e


# ---- answers

class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status, self.headers = response.status, response.headers
        self.request_id: Optional[str] = self.headers.get("X-Request-Id")
        self.retry_after = _seconds(self.headers.get("Retry-After"))
        self.body = self._read(response)
        self._parsed: List[Any] = []

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        body = bytearray()
        for piece in iter(lambda: response.read(_PIECE), b""):
            body += piece
            if len(body) > _MAX_ANSWER:
                raise ApiError(0, "bad_answer", "the answer is too large", self.request_id)
        if response.length:
            raise http.client.IncompleteRead(bytes(body), response.length)
        return bytes(body)

    def is_error(self) -> bool:
        return not 200 <= self.status < 300

    def error(self) -> ApiError:
        doc = self._doc() if "json" in self.headers.get_content_type() else None
        if isinstance(doc, dict) and isinstance(doc.get("code"), str):
            return ApiError(self.status, doc["code"], str(doc.get("detail") or doc.get("title") or ""),
                            doc.get("request_id") or self.request_id, self.retry_after)
        said = self.body[:200].decode(errors="replace").strip()
        return ApiError(self.status, "http_%d" % self.status, said, self.request_id, self.retry_after)

    def _doc(self) -> Any:
        if not self._parsed:
            try:
                self._parsed.append(json.loads(self.body.decode()))
            except ValueError:
                self._parsed.append(None)
        return self._parsed[0]

    def _bad(self) -> ApiError:
        return ApiError(0, "bad_answer", "the answer (status %d) is not what the gateway says" % self.status, self.request_id)

    def json(self) -> Dict[str, Any]:
        doc = self._doc()
        if not isinstance(doc, dict):
            raise self._bad()
        return doc

    def rows(self, key: str) -> List[Dict[str, Any]]:
        """The array of objects that is so called."""
        rows = self.json().get(key)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self._bad()
        return rows


def _seconds(text: Optional[str]) -> Optional[float]:
    """A Retry-After: seconds, or a date, which nobody knows to be by the same clock."""
    if text is None:
        return None
    return float(text) if text.strip().isdigit() else _FIRST_PAUSE


# ---- events

class Event(NamedTuple):
    """name: as of docs/openapi.yaml; data: its JSON; id: what to begin behind it with."""
    name: str
    data: Dict[str, Any]
    id: str


class Blocks:
    """WHATWG's text/event-stream in pieces: name, data (None: there is none) and id of each block."""

    def __init__(self, last: Optional[str]):
        self.last = last
        self._rest, self._after_cr, self._name = b"", False, ""
        self._data: List[str] = []

    def feed(self, piece: bytes) -> Iterator[Tuple[str, Optional[str], Optional[str]]]:
        if self._after_cr and piece.startswith(b"\n"):  # of the same end of a line
            piece = piece[1:]
        self._after_cr = piece.endswith(b"\r") or (self._after_cr and not piece)
        self._rest += piece
        if len(self._rest) > _MAX_ANSWER:
            raise ApiError(0, "bad_answer", "an event is too large")
        if b"\n" not in piece and b"\r" not in piece:
            return
        *lines, self._rest = self._rest.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for line in lines:
            if line:
                self._field(line.decode(errors="replace"))
            else:
                yield self._name or "message", "\n".join(self._data) if self._data else None, self.last
                self._name, self._data = "", []

    def _field(self, line: str) -> None:
        name, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if name == "event":
            self._name = value
        elif name == "data":
            self._data.append(value)
        elif name == "id" and "\0" not in value:
            self.last = value


class Again(Exception):
    def __init__(self, error: ApiError):
        super().__init__()
        self.error = error


class Patience:
    """How often, and how long, one call may try."""

    def __init__(self, http: "Transport"):
        self._http, self._left, self._until, self._pause = http, http.tries - 1, http.clock() + http.patience, _FIRST_PAUSE

    def wait(self, error: ApiError) -> bool:
        """False: there is no other try."""
        pause = self._pause * random.uniform(0.5, 1.0) if error.retry_after is None else error.retry_after
        self._pause = min(2 * self._pause, _MAX_PAUSE)
        if self._left <= 0 or self._http.clock() + pause > self._until:
            return False
        self._left -= 1
        self._http.pause(pause)
        return True


class Transport:
    """Requests of one account to one server; simbdp_client.Client says what the arguments are."""

    def __init__(self, url: str, token: Optional[str], user: Optional[str], password: Optional[str], ca_file: Optional[str],
                 fingerprint: Optional[str], timeout: float, tries: int, patience: float, sleep: Callable[[float], Any],
                 clock: Callable[[], float]):
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username is not None:
            raise ValueError("the URL is https://HOST[:PORT]")
        if parts.scheme == "http" and not _is_here(parts.hostname):
            raise ValueError("http:// is for this host itself; elsewhere the token would cross the network in the open")
        if ca_file is not None and fingerprint is not None:
            raise ValueError("ca_file or fingerprint, not both")
        if parts.scheme == "http" and (ca_file is not None or fingerprint is not None):
            raise ValueError("http:// has no certificate")
        if tries < 1:
            raise ValueError("tries is at least 1")
        self.host, self.clock, self.pause, self.tries, self.patience = parts.hostname, clock, sleep, tries, patience
        self._port, self._prefix, self._timeout = parts.port, parts.path.rstrip("/"), timeout
        self._context, self._fingerprint = self._trust(parts.scheme, ca_file, fingerprint)
        self._authorization = self._login(token, user, password)
        self._idle: List[http.client.HTTPConnection] = []

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()

    @staticmethod
    def _trust(scheme: str, ca_file: Optional[str], fingerprint: Optional[str]) -> Tuple[Optional[ssl.SSLContext], Optional[bytes]]:
        if scheme == "http":
            return None, None
        context = ssl.create_default_context(cafile=ca_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if fingerprint is None:
            return context, None
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # Pinned looks at it instead
        return context, _digest_of(fingerprint)

    @staticmethod
    def _login(token: Optional[str], user: Optional[str], password: Optional[str]) -> str:
        if (token is None) == (user is None) or (user is None) != (password is None):
            raise ValueError("a token, or user and password")
        if token is None:
            if ":" in str(user):
                raise ValueError("a user's name has no colon")
            return "Basic " + base64.b64encode(("%s:%s" % (user, password)).encode()).decode()
        token = token.strip()
        if not token or not all(33 <= ord(c) < 127 for c in token):
            raise ValueError("this is no token")
        return "Bearer " + token

    # -- one request

    def _connect(self) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self.host, self._port, timeout=self._timeout)
        if self._fingerprint is None:
            return http.client.HTTPSConnection(self.host, self._port, timeout=self._timeout, context=self._context)
        return Pinned(self.host, self._port, timeout=self._timeout, context=self._context, fingerprint=self._fingerprint)

    def _connection(self) -> http.client.HTTPConnection:
        """One that is connected; who is at its other end was looked at."""
        while self._idle:
            try:
                c = self._idle.pop()
            except IndexError:  # another thread's now
                break
            if not _is_stale(c):
                return c
            c.close()
        c = self._connect()
        try:
            c.connect()
            c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            c.close()
            raise
        return c

    def _exchange(self, c: http.client.HTTPConnection, method: str, target: str, headers: Dict[str, str], body: Optional[Body]) -> Answer:
        """Sends it all, and reads the answer. The connection is kept for the next one, or ended."""
        try:
            c.putrequest(method, target, skip_accept_encoding=True)
            for name, value in headers.items():
                c.putheader(name, value)
            c.endheaders()
            answer = self._hear_first(c, method) if "Expect" in headers else None
            if answer is not None:
                c.close()  # it waits for a body that does not come
                return answer
            answer = self._finish(c, body)
        except BaseException:
            c.close()
            raise
        if c.sock is not None:
            self._idle.append(c)
        return answer

    @staticmethod
    def _finish(c: http.client.HTTPConnection, body: Optional[Body]) -> Answer:
        try:
            if body is not None:
                body.send(c)
            return Answer(c.getresponse())
        except Unsent as unsent:
            try:
                answer = Answer(c.getresponse())
            except _BROKEN:
                answer = None
            c.close()
            if answer is None or not answer.is_error():  # of a body that it did not read
                raise unsent.__cause__ or unsent
            return answer

    def _hear_first(self, c: http.client.HTTPConnection, method: str) -> Optional[Answer]:
        """After `Expect: 100-continue`. None: the body may come; else what was answered instead."""
        c.sock.settimeout(min(_CONTINUE_S, self._timeout))
        file = c.sock.makefile("rb", buffering=0)  # byte by byte: nothing is taken that is not for us
        try:
            line = file.readline(4096)
            if not line.split(b" ")[1:2] == [b"100"]:
                c.sock.settimeout(self._timeout)
                response = http.client.HTTPResponse(Rest(c.sock, line), method=method)  # type: ignore[arg-type]
                response.begin()
                return Answer(response)
            while line not in (b"\r\n", b"\n", b""):
                line = file.readline(4096)
        except socket.timeout:
            pass
        finally:
            file.close()
            if c.sock is not None:
                c.sock.settimeout(self._timeout)
        return None

    def _try(self, method: str, target: str, headers: Dict[str, str], body: Optional[Body], again: bool) -> Answer:
        sent = False
        try:
            c = self._connection()
            sent = True
            answer = self._exchange(c, method, target, headers, body)
        except ssl.SSLCertVerificationError:
            raise
        except _BROKEN as e:
            error = ApiError(0, "unreachable", "%s: %s" % (type(e).__name__, e))
            if again or not sent:
                raise Again(error) from e
            raise error from e
        if not answer.is_error():
            return answer
        error = answer.error()
        is_busy = answer.status in _BUSY and (answer.status != 429 or answer.retry_after is not None)
        if is_busy or (answer.status in _BETWEEN and again):
            raise Again(error)
        raise error

    def _pieces(self, target: str, headers: Dict[str, str]) -> Iterator[bytes]:
        """Of an answer that goes on and on; on a connection of its own. Again: it is to be asked for anew."""
        c: Optional[http.client.HTTPConnection] = None
        try:
            c = self._connect()
            c.connect()
            if c.sock is not None:
                c.sock.settimeout(max(self._timeout, _SILENCE_S))
            c.request("GET", target, headers=headers)
            response = c.getresponse()
            if response.status != 200:
                answer = Answer(response)
                if answer.is_error():
                    raise Again(answer.error()) if answer.status in _BUSY or answer.status in _BETWEEN else answer.error()
                return
            if response.headers.get_content_type() != "text/event-stream":
                raise ApiError(0, "bad_answer", "this is no stream of events", response.headers.get("X-Request-Id"))
            while True:
                piece = response.read1(_PIECE)
                if not piece:
                    raise Again(ApiError(0, "unreachable", "the stream of events ended"))
                yield piece
        except ssl.SSLCertVerificationError:
            raise
        except _BROKEN as e:
            raise Again(ApiError(0, "unreachable", "%s: %s" % (type(e).__name__, e))) from e
        finally:
            if c is not None:
                c.close()

    def follow(self, path: str, query: Optional[Dict[str, Any]] = None, last: Optional[str] = None) -> Iterator[Event]:
        """Events for as long as there are any, from behind `last` on, across whatever breaks. Ends with `end` where no more come."""
        fields = [(k, v) for k, v in (query or {}).items() if v is not None]
        target = self._prefix + path + ("?" + urlencode(fields, quote_via=quote, safe="") if fields else "")
        headers = {"Authorization": self._authorization, "User-Agent": "simbdp-python", "Accept": "text/event-stream"}
        patience = Patience(self)
        while True:
            blocks = Blocks(last)
            try:
                for piece in self._pieces(target, {**headers, "Last-Event-ID": last} if last else headers):
                    for name, data, last in blocks.feed(piece):
                        patience = Patience(self)
                        if data is None:
                            continue
                        event = self._event(name, data, last)
                        if name == "end":
                            self._ended(event)
                            return
                        yield event
                return
            except Again as e:
                if not patience.wait(e.error):
                    raise e.error from e.__cause__

    @staticmethod
    def _event(name: str, data: str, last: Optional[str]) -> Event:
        try:
            doc = json.loads(data)
        except ValueError:
            doc = None
        if not isinstance(doc, dict):
            raise ApiError(0, "bad_answer", "an event's data is no object")
        return Event(name, doc, last or "")

    @staticmethod
    def _ended(event: Event) -> None:
        reason = str(event.data.get("reason"))
        if reason in ("draining", "changed"):
            raise Again(ApiError(503, reason, "the gateway ended the stream"))
        if reason != "ended":
            raise ApiError(401 if reason == "unauthorized" else 0, reason, "the gateway ended the stream")

    def ask(self, method: str, path: str, query: Optional[Dict[str, Any]] = None, headers: Optional[Dict[str, str]] = None,
            body: Optional[Body] = None, again: Optional[bool] = None) -> Answer:
        """path: escaped. again: whether it may be sent twice; default: it is a GET."""
        fields = [(k, v) for k, v in (query or {}).items() if v is not None]
        target = self._prefix + path + ("?" + urlencode(fields, quote_via=quote, safe="") if fields else "")
        all_headers = {"Authorization": self._authorization, "User-Agent": "simbdp-python", "Accept": "application/json", **(headers or {})}
        patience = Patience(self)
        while True:
            try:
                return self._try(method, target, all_headers, body, method == "GET" if again is None else again)
            except Again as e:
                if not (body is None or body.can_be_sent()) or not patience.wait(e.error):
                    raise e.error from e.__cause__
