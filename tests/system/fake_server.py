"""A server that does as a test says, mostly badly."""
import http.server
import json
import socket
import threading
import types


class Server:
    """Each request is answered by the next of `script`, a callable on the handler; behind its end, by 200 and {}."""

    def __init__(self, context=None):
        self.script, self.asked, self.connections, self.lock = [], [], 0, threading.Lock()
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def setup(self):
                super().setup()
                with server.lock:
                    server.connections += 1

            def handle_expect_100(self):
                return True  # the script says what is answered

            def handle_any(self):
                server.serve(self)

            do_GET = do_PUT = do_POST = do_DELETE = do_PATCH = do_HEAD = handle_any

            def log_message(self, *_):
                pass

        class Listener(http.server.ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_):
                pass

            def get_request(self):
                sock, address = super().get_request()
                return (context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False) if context else sock), address

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http{'s' if context else ''}://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def stop(self):
        self.http.shutdown()
        self.http.server_close()

    def serve(self, h):
        h.record = types.SimpleNamespace(command=h.command, path=h.path, headers=h.headers, body=None)
        with self.lock:
            self.asked.append(h.record)
            act = self.script.pop(0) if self.script else answer({})
        act(h)

    def keys(self):
        return [h.headers["Idempotency-Key"] for h in self.asked]


def read_body(h):
    """Reads what was sent, after the 100 that it waits for."""
    if h.headers["Expect"]:
        h.send_response_only(100)
        h.end_headers()
    if h.headers["Transfer-Encoding"] == "chunked":
        h.record.body = b""
        while n := int(h.rfile.readline(), 16):
            h.record.body += h.rfile.read(n)
            assert h.rfile.readline() == b"\r\n"
        assert h.rfile.readline() == b"\r\n"
    else:
        h.record.body = h.rfile.read(int(h.headers["Content-Length"] or 0))


def answer(doc, status=200, read=True, kind="application/json", text=None, close=False, **headers):
    body = json.dumps(doc).encode() if text is None else text.encode()

    def act(h):
        if read:
            read_body(h)
        h.send_response(status)
        for name, value in {"Content-Type": kind, "X-Request-Id": "rq-1", "Content-Length": str(len(body)), **headers}.items():
            h.send_header(name.replace("_", "-"), value)
        h.end_headers()
        if h.command != "HEAD":
            h.wfile.write(body)
        if close:
            h.close_connection = True
    return act


def problem(status, code, detail=None, **kw):
    return answer({"type": "about:blank", "title": "A title", "status": status, "detail": detail, "code": code, "request_id": "rq-of-document"}, status,
                  kind="application/problem+json", **kw)


def events(*pieces, end=b"0\r\n\r\n"):
    """A stream of events in chunks; end: what ends it."""
    def act(h):
        read_body(h)
        h.send_response(200)
        h.send_header("Content-Type", "text/event-stream")
        h.send_header("Transfer-Encoding", "chunked")
        h.end_headers()
        for piece in pieces:
            data = piece if isinstance(piece, bytes) else piece.encode()
            h.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
            h.wfile.flush()
        h.wfile.write(end)
        h.close_connection = True
    return act


def cut(h):
    """Ends the connection without a word."""
    h.close_connection = True
    h.connection.close()


def cut_after(n):
    """Reads so many bytes of the body, then resets the connection."""
    def act(h):
        h.rfile.read(n)
        h.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        cut(h)
    return act


def short(h):
    """Less than its Content-Length says."""
    read_body(h)
    h.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{"account": "an')
    cut(h)


def garbage(h):
    read_body(h)
    h.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    cut(h)
