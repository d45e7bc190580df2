"""A collector of OpenTelemetry's: takes OTLP/HTTP as JSON. All that comes is read by the official definitions (of PyPI, pinned:
tests/data/otlp.txt), in which there is no field that they do not have."""
import base64
import gzip
import http.server
import json
import os
import pathlib
import sys
import threading

PACKAGES = pathlib.Path(os.environ["SIMBDP_BUILD"]).parent / "build/otlp" if "SIMBDP_BUILD" in os.environ else pathlib.Path(__file__).parents[2] / "build/otlp"
SIGNALS = {"/v1/traces": "traces", "/v1/metrics": "metrics", "/v1/logs": "logs"}
IDS = {"traceId": 32, "spanId": 16, "parentSpanId": 16}


def definitions():
    """The requests' messages by path, and their parser; None where the packages are not there."""
    if not (PACKAGES / ".complete").exists():
        return None
    sys.path.insert(0, str(PACKAGES))
    try:
        from google.protobuf import json_format  # pylint: disable=import-outside-toplevel
        from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest  # pylint: disable=import-outside-toplevel
        from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest  # pylint: disable=import-outside-toplevel
        from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest  # pylint: disable=import-outside-toplevel
    finally:
        sys.path.remove(str(PACKAGES))
    return json_format, {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest, "/v1/logs": ExportLogsServiceRequest}


DEFINITIONS = definitions()


def in_base64(value):
    """OTLP's JSON has ids as hex digits, where proto3's mapping has base64 (opentelemetry.io/docs/specs/otlp, JSON Protobuf Encoding)."""
    if isinstance(value, list):
        return [in_base64(v) for v in value]
    if not isinstance(value, dict):
        return value
    for key, n in IDS.items():
        assert key not in value or (len(value[key]) == n and value[key] == value[key].lower()), value
    return {k: base64.b64encode(bytes.fromhex(v)).decode() if k in IDS else in_base64(v) for k, v in value.items()}


def read(path, doc):
    """By the official definitions; raises where it is not of them."""
    if not DEFINITIONS:
        return None
    json_format, requests = DEFINITIONS
    return json_format.ParseDict(in_base64(doc), requests[path](), ignore_unknown_fields=False)


def value_of(v):
    (kind, value), = v.items()
    return int(value) if kind == "intValue" else value


def attributes(of):
    keys = [a["key"] for a in of.get("attributes", [])]
    assert len(keys) == len(set(keys)), keys
    return {a["key"]: value_of(a["value"]) for a in of.get("attributes", [])}


class Collector:
    """`script`: what is answered to each request, then the last one for all further ones: a status, or (status, headers, JSON object)."""

    def __init__(self, *script, port=0, tls=None):
        self.script, self.calls, self.lock, self.wrong, self.go_on = list(script) or [200], [], threading.Lock(), [], threading.Event()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                raw = gzip.decompress(body) if self.headers["Content-Encoding"] == "gzip" else body
                doc = json.loads(raw)
                with outer.lock:
                    answer = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                    status, headers, said = answer if isinstance(answer, tuple) else (answer, {}, {})
                    try:
                        assert self.headers["Content-Type"] == "application/json" and self.path in SIGNALS, self.path
                        read(self.path, doc)
                    except Exception as e:  # pylint: disable=broad-except
                        outer.wrong.append((e, doc))
                    outer.calls.append((self.path, self.headers, doc, status))
                if status == "hang":
                    outer.go_on.wait(60)
                    return
                text = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(text)))
                for name, value in headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

        self.server = Server(("127.0.0.1", port), Handler)
        if tls:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.go_on.set()
        self.server.shutdown()
        self.server.server_close()
        assert kind or not self.wrong, f"what the official definitions do not have: {self.wrong[0]}"

    def taken(self, signal):
        """The documents of that signal which were accepted, in order."""
        with self.lock:
            return [(headers, doc) for path, headers, doc, status in self.calls if SIGNALS.get(path) == signal and status == 200]

    def _of(self, signal, outer, inner, items):
        found = []
        for _, doc in self.taken(signal):
            for resource in doc[outer]:
                of = attributes(resource["resource"])
                assert of["service.name"] == "mysimbdp" and of["service.version"], of
                found += [item for scope in resource[inner] for item in scope[items]]
        return found

    def spans(self, **where):
        return [s for s in self._of("traces", "resourceSpans", "scopeSpans", "spans") if all(s.get(k) == v for k, v in where.items())]

    def metrics(self):
        return self._of("metrics", "resourceMetrics", "scopeMetrics", "metrics")

    def logs(self):
        return self._of("logs", "resourceLogs", "scopeLogs", "logRecords")
