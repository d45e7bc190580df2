"""libsimbdp for Python: storing rows in MongoDB from an app that mysimbdp runs, each row exactly once in effect.

    import simbdp

    def row(doc):                       # optional: sees every row before it is stored
        doc["celsius"] = round((doc.pop("fahrenheit") - 32) * 5 / 9, 2)
        return doc                      # or None: leave it out; or raise simbdp.Reject("why")

    simbdp.main(lambda run: run.ingest_file(row=row))

A stream app's messages come the same way, run.ingest_stream(row=row), or one by one:

    def work(run):
        for message in run.messages():  # until the platform asks the instance to go
            run.store({"text": message.text})
            message.done()              # or refuse("why"), or retry(delay_ms=1000)

and with simbdp.Publisher("events") as p: p.publish("...") for messages of one's own.

From anywhere else a tenant's programs talk to the gateway by simbdp.Client, which is the file simbdp_client.py beside this one.

The calls are those of simbdp.h, whose comments hold here, too. It is ctypes on the shared library, not an extension: nothing
is compiled, so one file works with every Python 3.7 or newer, also one that the platform's Debian does not package; without a
callback the rows never pass through Python at all, so nothing is slower for it. With one, rows travel as JSON text.

Values: int, float, str, bool, None, dict, list, datetime (aware, UTC) and decimal.Decimal."""
import collections
import ctypes
import ctypes.util
import datetime
import decimal
import json
import os
import signal
import sys
import threading
import typing

if typing.TYPE_CHECKING:
    from simbdp_client import FINAL_STATES, ApiError, Client, Event  # what __getattr__ below gives

__version__ = "0.1.0"
__all__ = ["Error", "Message", "Publisher", "Reject", "Result", "Run", "main", "open", "version"]

_ERROR_BYTES = 1024
_STORE, _SKIP, _REJECT = 0, 1, 2
_DATA, _MEMORY = -65, -71
_STEP_MS = 100

_OF_CLIENT = ("ApiError", "Client", "Event", "FINAL_STATES")

Result = collections.namedtuple("Result", "rows_parsed rows_loaded rows_rejected bytes")


class Error(Exception):
    """A call failed. `code` is one of simbdp.h's, `exit_code` what the app should exit with. Out of memory in the library is -71; the
    run has failed then, unless the call only read or changed a row."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code
        self.exit_code = _lib().simbdp_exit_code(code)


class Reject(Exception):
    """Raised by a row callback: the row is counted as rejected, with this text."""


class _Result(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("rows_parsed", ctypes.c_int64), ("rows_loaded", ctypes.c_int64),
                ("rows_rejected", ctypes.c_int64), ("bytes", ctypes.c_int64), ("error", ctypes.c_char * _ERROR_BYTES)]


class _Message(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("data", ctypes.c_void_p), ("bytes", ctypes.c_size_t), ("sequence", ctypes.c_int64),
                ("published_ms", ctypes.c_int64), ("deliveries", ctypes.c_int), ("traceparent", ctypes.c_char_p)]


_ROW_FN = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)
_loaded = None


def _candidates():
    here = os.path.dirname(os.path.abspath(__file__))
    yield os.environ.get("SIMBDP_LIBRARY")
    yield os.path.join(here, "libsimbdp.so.1")
    yield ctypes.util.find_library("simbdp")
    yield os.path.join(here, "..", "..", "build", "clientlib", "libsimbdp.so.1")  # in the source tree


def _lib():
    global _loaded
    if _loaded:
        return _loaded
    tried = []
    for path in _candidates():
        if not path:
            continue
        try:
            lib = ctypes.CDLL(path)
            break
        except OSError as e:
            tried.append(str(e))
    else:
        raise ImportError("libsimbdp.so.1 cannot be loaded; build it (scripts/setup) or name it in SIMBDP_LIBRARY: " + "; ".join(tried))
    p, s, i = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    for name, result, arguments in (
            ("simbdp_version", s, []), ("simbdp_exit_code", i, [i]), ("simbdp_open", i, [ctypes.POINTER(p), s, ctypes.c_size_t]),
            ("simbdp_close", None, [p]), ("simbdp_error", s, [p]), ("simbdp_tenant", s, [p]), ("simbdp_dataset", s, [p]),
            ("simbdp_run_id", s, [p]), ("simbdp_attempt", i, [p]), ("simbdp_n_inputs", ctypes.c_size_t, [p]),
            ("simbdp_input_path", s, [p, ctypes.c_size_t]), ("simbdp_input_name", s, [p, ctypes.c_size_t]),
            ("simbdp_set_collection", i, [p, s]), ("simbdp_ingest_file", i, [p, s, s, _ROW_FN, p]), ("simbdp_row_new", p, [p]),
            ("simbdp_row_store", i, [p]), ("simbdp_row_free", None, [p]), ("simbdp_row_set_number", i, [p, ctypes.c_int64]),
            ("simbdp_row_json", s, [p]), ("simbdp_row_set_json", i, [p, s, ctypes.c_size_t]), ("simbdp_row_reject", None, [p, s]),
            ("simbdp_finish", i, [p, ctypes.POINTER(_Result)]), ("simbdp_next", i, [p, i, ctypes.POINTER(_Message)]),
            ("simbdp_done", i, [p, ctypes.c_int64]), ("simbdp_refuse", i, [p, ctypes.c_int64, s]),
            ("simbdp_retry", i, [p, ctypes.c_int64, i, s]), ("simbdp_store_message", i, [p, _ROW_FN, p]),
            ("simbdp_ingest_stream", i, [p, _ROW_FN, p]), ("simbdp_stop", None, [p]),
            ("simbdp_publisher_open", i, [ctypes.POINTER(p), s, s, ctypes.c_size_t]),
            ("simbdp_publish", i, [p, s, ctypes.c_size_t, i]), ("simbdp_publish_traced", i, [p, s, ctypes.c_size_t, s, i]),
            ("simbdp_publisher_flush", i, [p, i]), ("simbdp_publisher_key", i, [p, s, ctypes.c_size_t]),
            ("simbdp_publisher_confirmed", ctypes.c_int64, [p]), ("simbdp_publisher_error", s, [p]),
            ("simbdp_publisher_close", None, [p])):
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    _loaded = lib
    return lib


def version():
    """The version of the library that is loaded."""
    return _lib().simbdp_version().decode()


def _from_json(text):
    def hook(o):
        if len(o) == 1:
            if isinstance(o.get("$date"), str):
                return datetime.datetime.strptime(o["$date"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=datetime.timezone.utc)
            if "$date" in o:
                ms = int(o["$date"]["$numberLong"]) if isinstance(o["$date"], dict) else int(o["$date"])
                return datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(milliseconds=ms)
            if "$numberDecimal" in o:
                return decimal.Decimal(o["$numberDecimal"])
        return o
    return json.loads(text, object_hook=hook)


def _default(value):
    if isinstance(value, datetime.datetime):
        if value.tzinfo is None:
            value = value.replace(tzinfo=datetime.timezone.utc)
        ms = (value - datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)) // datetime.timedelta(milliseconds=1)
        return {"$date": {"$numberLong": str(ms)}}
    if isinstance(value, datetime.date):
        return _default(datetime.datetime(value.year, value.month, value.day))
    if isinstance(value, decimal.Decimal):
        return {"$numberDecimal": str(value)}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def _to_json(doc):
    return json.dumps(doc, default=_default, ensure_ascii=False).encode()


class Message:
    """A stream's message. data: bytes; traceparent: text (W3C Trace Context), or None. Ends with done, refuse or retry; several may be held
    at once."""

    def __init__(self, run, raw):
        self._run = run
        self.data = ctypes.string_at(raw.data, raw.bytes)
        self.sequence, self.published_ms, self.deliveries = raw.sequence, raw.published_ms, raw.deliveries
        self.traceparent = raw.traceparent.decode() if raw.traceparent else None

    @property
    def text(self):
        return self.data.decode()

    def json(self):
        """The message as Extended JSON."""
        return _from_json(self.data)

    def done(self):
        """Acknowledged as soon as the rows stored so far are in the database."""
        self._run._check(_lib().simbdp_done(self._run._run, self.sequence))

    def refuse(self, why=""):
        """A dead letter at once."""
        self._run._check(_lib().simbdp_refuse(self._run._run, self.sequence, str(why).encode()))

    def retry(self, delay_ms=0, why=""):
        """Delivered again later, to any instance."""
        self._run._check(_lib().simbdp_retry(self._run._run, self.sequence, int(delay_ms), str(why).encode()))


class Publisher:
    """Messages into a stream of this tenant (default: SIMBDP_STREAM). Leaving a `with` block waits until all are confirmed."""

    def __init__(self, stream=None):
        self._p, self._key = ctypes.c_void_p(), b""
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = _lib().simbdp_publisher_open(ctypes.byref(self._p), None if stream is None else stream.encode(), error, _ERROR_BYTES)
        if code:
            self._p = None
            raise Error(code, error.value.decode(errors="replace"))

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None:
                self.flush()
        finally:
            self.close()

    def _check(self, code):
        if code:
            raise Error(code, _lib().simbdp_publisher_error(self._p).decode(errors="replace"))

    def publish(self, message, timeout_ms=-1, traceparent=None, key=None):
        """Adds a message: bytes, text, or what JSON can say (dict, list). Waits while too much is unconfirmed. traceparent: for who consumes
        it; what is none is left out. key: bytes or text; messages of one key are in order, from whichever publisher, also where the stream has
        several partitions."""
        key = key.encode() if isinstance(key, str) else bytes(key or b"")
        if key != self._key:
            self._check(_lib().simbdp_publisher_key(self._p, key, len(key)))
            self._key = key
        data = bytes(message) if isinstance(message, (bytes, bytearray, memoryview)) else message.encode() if isinstance(message, str) else _to_json(message)
        traceparent = traceparent.encode() if traceparent else None
        self._check(_lib().simbdp_publish_traced(self._p, data, len(data), traceparent, timeout_ms))

    def flush(self, timeout_ms=-1):
        """Waits until all is confirmed: durable."""
        self._check(_lib().simbdp_publisher_flush(self._p, timeout_ms))

    @property
    def confirmed(self):
        return _lib().simbdp_publisher_confirmed(self._p)

    def close(self):
        if self._p:
            _lib().simbdp_publisher_close(self._p)
            self._p = None

    def __del__(self):
        self.close()


class Run:
    """One run; made by open(). Leaving a `with` block finishes it, unless an exception ends the block."""

    def __init__(self):
        self._run = ctypes.c_void_p()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = _lib().simbdp_open(ctypes.byref(self._run), error, _ERROR_BYTES)
        if code:
            self._run = None
            raise Error(code, error.value.decode(errors="replace"))
        self.finished = self.stopped = False

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        try:
            if kind is None and not self.finished:
                self.finish()
        finally:
            self.close()

    def _check(self, code):
        if code:
            raise Error(code, _lib().simbdp_error(self._run).decode(errors="replace"))

    tenant = property(lambda self: _lib().simbdp_tenant(self._run).decode())
    dataset = property(lambda self: _lib().simbdp_dataset(self._run).decode())
    run_id = property(lambda self: _lib().simbdp_run_id(self._run).decode())
    attempt = property(lambda self: _lib().simbdp_attempt(self._run))

    @property
    def inputs(self):
        """[(path, name as delivered)] of this run's files."""
        lib = _lib()
        return [(os.fsdecode(lib.simbdp_input_path(self._run, i)), lib.simbdp_input_name(self._run, i).decode(errors="replace"))
                for i in range(lib.simbdp_n_inputs(self._run))]

    def set_collection(self, name):
        self._check(_lib().simbdp_set_collection(self._run, name.encode()))

    def _row_fn(self, row, failure):
        """`row` as the library calls it; an exception of it is put into `failure`."""
        lib = _lib()

        def on_row(handle, _):
            try:
                if failure:
                    return _SKIP
                text = lib.simbdp_row_json(handle)
                if text is None:
                    raise Error(_MEMORY, "out of memory")
                doc = row(_from_json(text))
                if doc is None:
                    return _SKIP
                text = _to_json(doc)
                code = lib.simbdp_row_set_json(handle, text, len(text))
                if code == _MEMORY:
                    raise Error(code, "out of memory")
                if code:
                    raise ValueError(f"the callback gave what is no row: {text[:200]!r}")
                return _STORE
            except Reject as e:
                lib.simbdp_row_reject(handle, str(e).encode())
                return _REJECT
            except BaseException as e:  # goes on its way once the library has returned
                failure.append(e)
                return _SKIP

        return _ROW_FN(on_row) if row else _ROW_FN()

    def ingest_file(self, path=None, schema=None, row=None):
        """Reads, checks and stores a file, or all inputs of the run. schema: dict or JSON text. row: a callback."""
        lib, failure = _lib(), []
        if schema is not None and not isinstance(schema, str):
            schema = json.dumps(schema)
        code = lib.simbdp_ingest_file(self._run, None if path is None else os.fsencode(path), None if schema is None else schema.encode(),
                                      self._row_fn(row, failure), None)
        if failure:
            raise failure[0]
        self._check(code)

    def next(self, timeout_ms=-1):
        """The next message of the stream, or None when none came in time or stop() was called."""
        # Waits in short steps: Python runs its signal handlers between them, not within.
        raw, left = _Message(size=ctypes.sizeof(_Message)), timeout_ms
        while True:
            step = _STEP_MS if left < 0 or left > _STEP_MS else left
            code = _lib().simbdp_next(self._run, step, ctypes.byref(raw))
            if code > 0:
                return Message(self, raw)
            self._check(code)
            if self.stopped or 0 <= left <= step:
                return None
            left = left - step if left > 0 else left

    def messages(self):
        """The stream's messages, one after the other, until stop()."""
        while True:
            message = self.next()
            if message is None:
                return
            yield message

    def store_message(self, row=None):
        """Reads the last message as rows of the dataset and stores them. Error with code -65: it is no good, and the app's to refuse."""
        failure = []
        code = _lib().simbdp_store_message(self._run, self._row_fn(row, failure), None)
        if failure:
            raise failure[0]
        self._check(code)

    def ingest_stream(self, row=None):
        """Stores every message's rows, acknowledges it, or refuses what is no good, until stop()."""
        for message in self.messages():
            try:
                self.store_message(row)
            except Error as e:
                if e.code != _DATA:
                    raise
                message.refuse(e)
            else:
                message.done()

    def stop(self):
        """Ends messages() and ingest_stream(), now and from now on. May be called by a signal handler and from other threads."""
        self.stopped = True
        _lib().simbdp_stop(self._run)

    def store(self, doc, number=None):
        """Stores one row. number: what tells it apart in every run of the app; default: rows are counted."""
        lib, text = _lib(), _to_json(doc)
        handle = lib.simbdp_row_new(self._run)
        if not handle:
            raise Error(_MEMORY, "out of memory")
        code = lib.simbdp_row_set_json(handle, text, len(text))
        if code == 0 and number is not None:
            code = lib.simbdp_row_set_number(handle, number)
        if code:
            lib.simbdp_row_free(handle)
            if code == _MEMORY:
                raise Error(code, "out of memory")
            raise ValueError(f"this is no row: {text[:200]!r}")
        self._check(lib.simbdp_row_store(handle))

    def finish(self):
        """Waits until everything is stored, writes the result. Raises Error with the first failure of the run."""
        result = _Result(size=ctypes.sizeof(_Result))
        self.finished = True
        self._check(_lib().simbdp_finish(self._run, ctypes.byref(result)))
        return Result(result.rows_parsed, result.rows_loaded, result.rows_rejected, result.bytes)

    def close(self):
        if self._run:
            _lib().simbdp_close(self._run)
            self._run = None

    def __del__(self):
        self.close()


def __getattr__(name):
    """The client is loaded when it is first asked for: an app that is only run needs neither it nor what it imports."""
    if name not in _OF_CLIENT:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import simbdp_client
    return getattr(simbdp_client, name)


def open():
    """Opens the run that the environment describes."""
    return Run()


def main(work):
    """Opens the run, calls work(run), finishes, and exits with the code that the platform understands. SIGTERM stops a stream app's run."""
    try:
        run = open()
    except Error as e:
        print(f"simbdp: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    if "SIMBDP_STREAM" in os.environ and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: run.stop())
    try:
        try:
            work(run)
        finally:
            run.finish()
        run.close()
    except Error as e:
        print(f"simbdp: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
    sys.exit(0)
