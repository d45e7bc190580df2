"""A tenant's side of mysimbdp's gateway: delivering files from anywhere, following them, and asking what they came to.

    import simbdp

    client = simbdp.Client("https://data.example.com:8443", open("token").read())
    taken = client.upload("2026-01-31.csv", "readings")
    file = client.wait(taken["file_id"], timeout=600)
    print(file["state"], file["rows_loaded"])
    for reject in client.rejects(file["file_id"]):
        print(reject["line"], reject["message"])

What is sent and answered is described by docs/openapi.yaml, which the gateway serves as /v1/openapi.yaml: results are its JSON
objects as they come. This file and simbdp_http.py beside it, Python 3.7 or newer with its standard library: libsimbdp is not needed.
A client may be used by several threads at once.

What is tried again: whatever was answered 429, 503 or 507 with Retry-After (503 and 507 also without), when as much is left of
`patience`; a question whose connection broke; and an upload whose content can be read again, and start_instance, which go by the
same Idempotency-Key, so that they are done once. Other orders (retry, delete, stop, run_app) are not repeated after a connection
broke: they may have been carried out."""
import datetime
import io
import json
import os
import time
import uuid
from typing import Any, BinaryIO, Callable, Dict, Iterable, Iterator, List, Optional, Union
from urllib.parse import quote

from simbdp_http import ApiError, Body, Event, Own, Transport

__all__ = ["ApiError", "Client", "Event", "FINAL_STATES"]

#: A file in one of these states stays in it, unless it is retried.
FINAL_STATES = frozenset({"ingested", "rejected", "duplicate", "vanished", "quarantined"})

_POLL, _MAX_POLL = 0.1, 5.0

_Json = Dict[str, Any]
_Time = Union[str, datetime.datetime]
_Path = Union[str, bytes, "os.PathLike[Any]"]


def _time(value: _Time) -> str:
    if isinstance(value, str):
        return value
    if value.tzinfo is None:
        raise ValueError("a time without a time zone")
    return value.astimezone(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def _segment(text: Union[str, bytes]) -> str:
    return quote(text if isinstance(text, bytes) else os.fsencode(text), safe="")


def _key(given: Optional[str]) -> str:
    if given is None:
        return str(uuid.uuid4())
    if not (0 < len(given) < 256 and all(32 <= ord(c) < 127 for c in given)):
        raise ValueError("an idempotency_key is 1 to 255 characters of ASCII")
    return given


class Client:
    """A tenant's account at a gateway.

    url          https://HOST[:PORT]; http:// only to this host itself, since the token would cross the network in the open
    token        sbt_…; or user and password, by keyword
    ca_file      PEM file of who signs the server's certificate; default: whom this system trusts
    fingerprint  instead: the SHA-256 of the server's certificate as `mysimbdp status` prints it (AB:CD:…)
    tenant       the tenant's id; default: the account's own, which is asked for when it is first needed
    timeout      seconds that the server may be silent
    tries        how often a call is tried in all
    patience     seconds that a call may wait in all for a next try
    sleep, clock for tests"""

    def __init__(self, url: str, token: Optional[str] = None, ca_file: Optional[str] = None, *, fingerprint: Optional[str] = None,
                 user: Optional[str] = None, password: Optional[str] = None, tenant: Optional[str] = None, timeout: float = 60.0,
                 tries: int = 8, patience: float = 300.0, sleep: Callable[[float], Any] = time.sleep,
                 clock: Callable[[], float] = time.monotonic):
        self._http = Transport(url, token, user, password, ca_file, fingerprint, timeout, tries, patience, sleep, clock)
        self._tenant = tenant

    def __repr__(self) -> str:
        return "<simbdp.Client %s>" % self._http.host

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def close(self) -> None:
        """Ends connections that are idle. The client may still be used."""
        self._http.close()

    def _of_tenant(self, path: str) -> str:
        return "/v1/tenants/%s/%s" % (_segment(self.tenant), path)

    def _get(self, path: str, **query: Any) -> _Json:
        return self._http.ask("GET", self._of_tenant(path), query).json()

    def _order(self, method: str, path: str) -> int:
        doc = self._http.ask(method, self._of_tenant(path), headers={"Content-Length": "0"}).json()
        return int(doc.get("n", 1))

    def _of_app(self, app: str, rest: str) -> str:
        return self._of_tenant("apps/" + _segment(app)) + rest

    def _tell(self, method: str, path: str, doc: Optional[_Json] = None, key: Optional[str] = None) -> _Json:
        if doc is None:
            return self._http.ask(method, path, headers={"Content-Length": "0"}).json()
        body = Body(io.BytesIO(json.dumps(doc).encode()), None)
        headers = {"Content-Type": "application/json", **body.headers(False), **({} if key is None else {"Idempotency-Key": key})}
        return self._http.ask(method, path, None, headers, body, again=key is not None).json()

    def _pages(self, path: str, key: str, query: _Json, by: str = "cursor") -> Iterator[_Json]:
        return self._pages_of(self._of_tenant(path), key, query, by)

    def _pages_of(self, path: str, key: str, query: _Json, by: str = "cursor") -> Iterator[_Json]:
        seen = set()
        while True:
            page = self._http.ask("GET", path, query)
            yield from page.rows(key)
            cursor = page.json().get("next")
            if not cursor:
                return
            if cursor in seen:
                raise ApiError(0, "bad_answer", "the list goes in a circle")
            seen.add(cursor)
            query = {**query, by: cursor}

    # -- who

    @property
    def tenant(self) -> str:
        """The tenant whose files and runs these are."""
        if self._tenant is None:
            tenant = self.whoami().get("tenant_id")
            if not tenant:
                raise ValueError("an operator's account has no tenant of its own; say which: Client(…, tenant=…)")
            self._tenant = str(tenant)
        return self._tenant

    def whoami(self) -> _Json:
        """account, role, tenant_id, token_id, verbs."""
        return self._http.ask("GET", "/v1/whoami").json()

    # -- files

    def upload(self, file: Union[_Path, BinaryIO], dataset: str, name: Optional[str] = None, *, app: Optional[str] = None,
               force: bool = False, idempotency_key: Optional[str] = None, digest: bool = True,
               progress: Optional[Callable[[int, Optional[int]], Any]] = None) -> _Json:
        """Delivers a file. Gives file_id, file_name, size_bytes …; the file is durable then, and wait() says what becomes of it.

        file             a path, or an object that is open for reading bytes; it is sent from where it is to its end
        name             as it is to be called; default: the last part of its path
        app              that is to get it; default: the first one that takes such files
        force            also if the same bytes were ingested before; their rows are replaced
        idempotency_key  your name for this delivery: a second upload with it within 24 hours gives the first one's file.
                         Default: one that holds for the tries of this call
        digest           sends the SHA-256, so that what arrives damaged is refused. For that the file is read twice
        progress         called with (bytes sent, bytes in all or None); a new try begins at 0 again

        It is never read as a whole into memory. What cannot be read twice (a pipe) is sent without digest, and not tried again
        once some of it was sent."""
        if not hasattr(file, "read"):
            with open(file, "rb") as f:
                return self.upload(f, dataset, name or os.path.basename(os.fsdecode(file)), app=app, force=force,
                                   idempotency_key=idempotency_key, digest=digest, progress=progress)
        if name is None:
            known = getattr(file, "name", None)
            if not isinstance(known, (str, bytes)):
                raise ValueError("the file has no name; say which: upload(…, name=…)")
            name = os.path.basename(os.fsdecode(known))
        headers = {"Idempotency-Key": _key(idempotency_key), "Content-Type": "application/octet-stream"}
        path = self._of_tenant("datasets/%s/files/%s" % (_segment(dataset), _segment(name)))
        body = Body(file, progress)  # type: ignore[arg-type]
        try:
            headers.update(body.headers(digest))
            return self._http.ask("PUT", path, {"app": app, "force": "1" if force else None}, headers, body, again=True).json()
        except Own as e:
            raise (e.__cause__ or e) from None

    def files(self, *, dataset: Optional[str] = None, state: Optional[str] = None, since: Optional[_Time] = None,
              limit: int = 1000) -> Iterator[_Json]:
        """Files, newest first, page by page as they are asked for. limit: how many a page has."""
        return self._pages("files", "files", {"dataset": dataset, "state": state, "since": None if since is None else _time(since), "limit": limit})

    def file(self, file_id: str) -> _Json:
        """A file, with `story` (what happened to it) and `runs`."""
        return self._get("files/" + _segment(file_id))

    def wait(self, file_id: str, timeout: Optional[float] = None) -> _Json:
        """Waits until the file's state is final (FINAL_STATES), and gives it. TimeoutError after `timeout` seconds."""
        until, pause = None if timeout is None else self._http.clock() + timeout, _POLL
        while True:
            file = self.file(file_id)
            if file.get("state") in FINAL_STATES:
                return file
            left = pause if until is None else until - self._http.clock()
            if left <= 0:
                raise TimeoutError("file %s is %s after %s s" % (file_id, file.get("state"), timeout))
            self._http.pause(min(pause, left))
            pause = min(1.5 * pause, _MAX_POLL)

    def rejects(self, file_id: str, *, limit: int = 1000) -> Iterator[_Json]:
        """Rows of the file that were no good: line, byte_offset, column, type, message, raw, repaired. limit: how many a page has."""
        return self._pages("files/%s/rejects" % _segment(file_id), "rejects", {"limit": limit}, "offset")

    def retry(self, file_id: Optional[str] = None) -> int:
        """Has a quarantined or rejected file tried again; without an id, all of them. Gives how many."""
        return self._order("POST", "files:retry" if file_id is None else "files/%s:retry" % _segment(file_id))

    def delete(self, file_id: str) -> None:
        """Removes what is kept of a quarantined or rejected file. The ledger goes on knowing it."""
        self._order("DELETE", "files/" + _segment(file_id))

    # -- runs and apps

    def runs(self, *, file_id: Optional[str] = None, state: Optional[str] = None, since: Optional[_Time] = None,
             limit: int = 1000) -> Iterator[_Json]:
        """Runs, newest first; as files()."""
        return self._pages("runs", "runs", {"file_id": file_id, "state": state, "since": None if since is None else _time(since), "limit": limit})

    def run(self, run_id: str) -> _Json:
        """A run."""
        return self._get("runs/" + _segment(run_id))

    def log(self, run_id: str, tail: int = 65536) -> str:
        """What a run printed: the last `tail` bytes of it, at most 262144."""
        answer = self._http.ask("GET", self._of_tenant("runs/%s/log" % _segment(run_id)), {"tail": tail}, {"Accept": "text/plain"})
        return answer.body.decode(errors="replace")

    def follow_log(self, run_id: str, tail: int = 65536) -> Iterator[str]:
        """What a run prints, as it comes: the last `tail` bytes first, and an end when the run has ended."""
        for event in self._http.follow(self._of_tenant("runs/%s/log" % _segment(run_id)), {"tail": tail}):
            if event.name == "log":
                yield str(event.data.get("text", ""))

    def events(self, *, types: Optional[Iterable[str]] = None, last_event_id: Optional[str] = None) -> Iterator[Event]:
        """What happens to the tenant's files, runs, instances and streams, as it happens, for ever: Event(name, data, id).

        types          names ("run.ended"), or what is before their dot ("file"); default: all
        last_event_id  the id of the last event that you know: what came behind it is told first. "0": all that is kept

        A stream that breaks is opened again where it was, as often as `tries` and `patience` say without anything coming; no
        event is lost by that, and none comes twice. The event `gap` says that some are gone. It ends with an ApiError: 401 when the
        account or its token may not read any more."""
        if isinstance(types, str):
            raise TypeError("types is a list of names")
        query = {"types": None if types is None else ",".join(types)}
        return self._http.follow(self._of_tenant("events"), query, last_event_id)

    def stop(self, run_id: str) -> None:
        """Stops a run. Its file is quarantined (`stopped`)."""
        self._order("POST", "runs/%s:stop" % _segment(run_id))

    def apps(self) -> List[_Json]:
        """The tenant's apps."""
        return self._http.ask("GET", self._of_tenant("apps")).rows("apps")

    def run_app(self, app: str) -> int:
        """Starts a batch app with the files that wait for it. Gives how many."""
        return self._order("POST", "apps/%s:run" % _segment(app))

    # -- versions of apps, for who may deploy

    def push(self, app: str, file: Union[_Path, BinaryIO], *, activate: bool = False) -> _Json:
        """Uploads a version of an app: one executable, or a tar.gz, tar.zst, tar or zip. Gives version, state …; the state is
        `building` when its requirements.txt takes long, and version() says then what becomes of it."""
        if not hasattr(file, "read"):
            with open(file, "rb") as f:
                return self.push(app, f, activate=activate)
        body = Body(file, None)  # type: ignore[arg-type]
        try:
            headers = {"Content-Type": "application/octet-stream", **body.headers(True)}
            return self._http.ask("PUT", self._of_app(app, "/versions"), {"activate": "1" if activate else None}, headers, body, again=True).json()
        except Own as e:
            raise (e.__cause__ or e) from None

    def versions(self, app: str) -> _Json:
        """active (None: the executable is the provider's) and versions, newest first."""
        return self._http.ask("GET", self._of_app(app, "/versions")).json()

    def version(self, app: str, version: str) -> _Json:
        """One of them."""
        return self._http.ask("GET", self._of_app(app, "/versions/" + _segment(version))).json()

    def activate(self, app: str, version: str) -> _Json:
        """Runs that start from now on execute it. Gives version and previous."""
        return self._tell("POST", self._of_app(app, "/versions/%s:activate" % _segment(version)))

    def roll_back(self, app: str) -> _Json:
        """To the version that was active before."""
        return self._tell("POST", self._of_app(app, ":rollback"))

    def remove_version(self, app: str, version: str) -> None:
        """One that is not active."""
        self._tell("DELETE", self._of_app(app, "/versions/" + _segment(version)))

    def configuration(self) -> str:
        """What the tenant configures itself."""
        return self._http.ask("GET", self._of_tenant("configuration"), headers={"Accept": "text/plain"}).body.decode()

    def configure(self, text: str) -> None:
        """Replaces it, all or nothing. ApiError `configuration`: its detail has a line for each error."""
        body = Body(io.BytesIO(text.encode()), None)
        self._http.ask("PUT", self._of_tenant("configuration"), None, {"Content-Type": "text/plain", **body.headers(True)}, body, again=True)

    # -- instances of stream apps

    def history(self, app: str, since: Optional[_Time] = None) -> _Json:
        """What a stream app did in the last hours: figures of each ten seconds, and the decisions how many instances it should have.
        `since`: a time, or how long ago, like "1h"."""
        return self._http.ask("GET", self._of_app(app, "/history"), {"since": None if since is None else _time(since)}).json()

    def instances(self, app: Optional[str] = None) -> List[_Json]:
        """Those that there are now, of one app or of all."""
        return self._http.ask("GET", self._of_tenant("instances"), {"app": app}).rows("instances")

    def start_instance(self, app: str, args: Iterable[str] = (), *, idempotency_key: Optional[str] = None) -> _Json:
        """One more that stays, with arguments of its own. Gives its instance_id.

        idempotency_key  your name for this instance: a second start with it within 24 hours gives the first one's, also if that
                         has ended. Default: one that holds for the tries of this call"""
        return self._tell("POST", self._of_app(app, "/instances"), {"args": list(args)}, _key(idempotency_key))

    def stop_instance(self, instance_id: str) -> None:
        """One that was started by start_instance."""
        self._tell("POST", self._of_tenant("instances/%s:stop" % _segment(instance_id)))

    def start_app(self, app: str) -> None:
        """A stream app that was stopped."""
        self._tell("POST", self._of_app(app, ":start"))

    def stop_app(self, app: str) -> None:
        """Ends a stream app's instances, until it is started again."""
        self._tell("POST", self._of_app(app, ":stop"))

    def scale(self, app: str, count: Optional[int]) -> None:
        """So many instances; None: as many as the load needs."""
        self._tell("POST", self._of_app(app, ":scale"), {"count": count})

    # -- agreement

    def agreement(self) -> _Json:
        """What is allowed."""
        return self._get("agreement")

    def usage(self) -> _Json:
        """What is used of it."""
        return self._get("usage")

    def bill(self, month: Union[str, datetime.date]) -> _Json:
        """What a month ("2026-01", or a date in it) came to."""
        return self._get("bills/" + _segment(month if isinstance(month, str) else month.strftime("%Y-%m")))

    # -- for an operator

    def suspend(self) -> str:
        """Nothing of the tenant's is taken in or run from now on; what waits, waits. Gives its state."""
        return str(self._tell("POST", "/v1/tenants/%s:suspend" % _segment(self.tenant)).get("state"))

    def resume(self) -> str:
        """What waited goes on. Gives the tenant's state."""
        return str(self._tell("POST", "/v1/tenants/%s:resume" % _segment(self.tenant)).get("state"))

    def audit(self, *, who: Optional[str] = None, what: Optional[str] = None, tenant: Optional[str] = None, limit: int = 1000) -> Iterator[_Json]:
        """Who changed what, of all tenants, newest first: seq, ts, who, from, what, tenant_id, subject, outcome.

        who, what  records in which this is a part of it; tenant: records about it. limit: how many a page has"""
        return self._pages_of("/v1/audit", "records", {"who": who, "what": what, "tenant": tenant, "limit": limit})

    def verify_audit(self) -> _Json:
        """Whether a record is missing or was changed: whole, records, first, last, hash, detail (what is wrong)."""
        return self._http.ask("GET", "/v1/audit/verification").json()

    def platform(self) -> _Json:
        """What each program of the platform says of itself; None: it does not answer."""
        return self._http.ask("GET", "/v1/platform").json()

    def platform_events(self) -> Iterator[Event]:
        """The same as it changes, for ever: `platform` has all of it, also after a break; `change` what changed, and `gone`."""
        return self._http.follow("/v1/platform/events")
