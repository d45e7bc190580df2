"""libsimbdp for Python: storing rows in MongoDB from an app that mysimbdp runs, each row exactly once in effect.

    import simbdp

    def row(doc):                       # optional: sees every row before it is stored
        doc["celsius"] = round((doc.pop("fahrenheit") - 32) * 5 / 9, 2)
        return doc                      # or None: leave it out; or raise simbdp.Reject("why")

    simbdp.main(lambda run: run.ingest_file(row=row))

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
import sys

__version__ = "0.1.0"
__all__ = ["Error", "Reject", "Result", "Run", "main", "open", "version"]

_ERROR_BYTES = 1024
_STORE, _SKIP, _REJECT = 0, 1, 2

Result = collections.namedtuple("Result", "rows_parsed rows_loaded rows_rejected bytes")


class Error(Exception):
    """A call failed. `code` is one of simbdp.h's, `exit_code` what the app should exit with."""

    def __init__(self, code, text):
        super().__init__(text)
        self.code = code
        self.exit_code = _lib().simbdp_exit_code(code)


class Reject(Exception):
    """Raised by a row callback: the row is counted as rejected, with this text."""


class _Result(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("rows_parsed", ctypes.c_int64), ("rows_loaded", ctypes.c_int64),
                ("rows_rejected", ctypes.c_int64), ("bytes", ctypes.c_int64), ("error", ctypes.c_char * _ERROR_BYTES)]


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
            ("simbdp_finish", i, [p, ctypes.POINTER(_Result)])):
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


class Run:
    """One run; made by open(). Leaving a `with` block finishes it, unless an exception ends the block."""

    def __init__(self):
        self._run = ctypes.c_void_p()
        error = ctypes.create_string_buffer(_ERROR_BYTES)
        code = _lib().simbdp_open(ctypes.byref(self._run), error, _ERROR_BYTES)
        if code:
            self._run = None
            raise Error(code, error.value.decode(errors="replace"))
        self.finished = False

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

    def ingest_file(self, path=None, schema=None, row=None):
        """Reads, checks and stores a file, or all inputs of the run. schema: dict or JSON text. row: a callback."""
        lib, failure = _lib(), []

        def on_row(handle, _):
            try:
                if failure:
                    return _SKIP
                doc = row(_from_json(lib.simbdp_row_json(handle)))
                if doc is None:
                    return _SKIP
                text = _to_json(doc)
                if lib.simbdp_row_set_json(handle, text, len(text)):
                    raise ValueError(f"the callback gave what is no row: {text[:200]!r}")
                return _STORE
            except Reject as e:
                lib.simbdp_row_reject(handle, str(e).encode())
                return _REJECT
            except BaseException as e:  # goes on its way once the library has returned
                failure.append(e)
                return _SKIP

        if schema is not None and not isinstance(schema, str):
            schema = json.dumps(schema)
        code = lib.simbdp_ingest_file(self._run, None if path is None else os.fsencode(path), None if schema is None else schema.encode(),
                                      _ROW_FN(on_row) if row else _ROW_FN(), None)
        if failure:
            raise failure[0]
        self._check(code)

    def store(self, doc, number=None):
        """Stores one row. number: what tells it apart in every run of the app; default: rows are counted."""
        lib, text = _lib(), _to_json(doc)
        handle = lib.simbdp_row_new(self._run)
        code = lib.simbdp_row_set_json(handle, text, len(text))
        if code == 0 and number is not None:
            code = lib.simbdp_row_set_number(handle, number)
        if code:
            lib.simbdp_row_free(handle)
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


def open():
    """Opens the run that the environment describes."""
    return Run()


def main(work):
    """Opens the run, calls work(run), finishes, and exits with the code that the platform understands."""
    try:
        run = open()
    except Error as e:
        print(f"simbdp: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
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
