"""docs/compatibility.md, the formats that no home's start looks at: each as a newer version would have left it, and where there is one, as an
older one did. It is refused with what it is, nothing is changed, and the rest goes on. Databases, streams and backups: test_migrations.py."""
import base64
import json
import os
import signal
import struct
import subprocess

import pytest
from harness import BUILD, until
from test_load import load
from test_migrations import contents
from test_runs import misbehave  # noqa: F401 (a fixture)
from web import Site, settings
from wire import PING, PONG, REFUSED, Peer, header

pytestmark = pytest.mark.anyone


def log(home, program, event=None):
    lines = [json.loads(line) for line in (home.path / f"logs/{program}.log").read_text().splitlines() if line.startswith("{")]
    return [x["msg"] for x in lines if event in (None, x["event"])]


def newer(path, has='"v":1', wants='"v":2'):
    text = path.read_text()
    assert text.count(has) == 1, text[:200]
    path.write_text(text.replace(has, wants))
    return path


# ---- runs


@pytest.mark.parametrize("version", [0, 2, 10 ** 12])
def test_a_run_spec_of_another_version_starts_nothing(tmp_path, version):
    spec = {"v": version, "run_id": "r1", "step": "app", "tenant": "t", "app": "a", "home": str(tmp_path), "dir": str(tmp_path / "r1"), "runtime": str(tmp_path), "claim": "r1", "tag": "0",
            "exec": "/bin/sh", "stdin_path": "", "output": "stdout", "args": ["-c", f"touch {tmp_path}/started"], "env": [], "files": []}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    r = subprocess.run([BUILD / "simbdp-run", tmp_path / "spec.json"], timeout=30, capture_output=True, text=True)
    assert r.returncode == 1 and f"run spec has version {version}; this program knows 1" in r.stderr, r.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["spec.json"]


def test_a_result_of_a_newer_runner_is_none_and_the_file_is_tried_again(misbehave):
    """As after going back to an older version while a run went on."""
    home = misbehave(retry="attempts = 1; backoff_ms = 20;")
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="x.csv")
    run = home.wait_running()[0]
    pid = home.batchmgr_pid()
    os.kill(pid, signal.SIGSTOP)
    gate.touch()
    result = home.path / "runs" / run["run_id"] / "result.json"
    until(result.exists, result.parent, what="the result")
    text = newer(result).read_text()
    os.kill(pid, signal.SIGKILL)
    f = home.wait_file(file_name="x.csv")
    first = home.rows("runs", run["run_id"])[0]
    assert (f["state"], first["outcome"], len(home.rows("runs"))) == ("ingested", "lost", 2), (f, first)
    assert "of another version" in first["error"] and len(log(home, "batchmgr", "result")) == 1
    assert f["attempts"] == 1, "the lost one was free"
    assert "run result has version 2; this program knows 1" in log(home, "batchmgr", "result")
    assert result.read_text() == text


@pytest.mark.parametrize("version", [1, 3])
def test_a_job_of_another_version_loads_nothing(mongo, tmp_path, version):
    code, result, rejects, err = load(tmp_path, mongo, "v\n1\n", version=version)
    assert (code, result, rejects) == (78, {}, []) and f"job.json is of version {version}; this program knows 2" in err, err
    assert mongo.client.d.c.count_documents({}) == 0


# ---- configurations


def test_a_configuration_that_a_newer_version_kept_is_passed_over(home):
    home.tenant()
    home.up()
    entry = home.path / "state/configurations/00000001"
    assert [p.name for p in sorted(entry.parent.iterdir())] == [entry.name]
    text = newer(entry).read_text()
    assert [(h["number"], h["state"], h["what"]) for h in home.rows("history", "list")] == [(1, "newer", None)]
    for verb in (("show", "1"), ("diff", "1"), ("rollback", "1")):
        r = home.cli("history", *verb, check=False)
        assert r.returncode == 1 and "00000001 is of a newer version of mysimbdp" in r.stderr and "remove" not in r.stderr, r.stderr
    home.tenant("beta")
    home.cli("reload")
    assert [(h["number"], h["state"]) for h in home.rows("history", "list")] == [(1, "newer"), (2, "kept")]
    assert entry.read_text() == text


def configured(home):
    return {k: v for k, v in contents(home).items() if k.startswith(("conf/", "state/configurations/"))}


def test_a_rollback_that_a_newer_version_left_half_done_is_its_to_end(home):
    home.tenant()
    home.up()
    (home.path / "state/configurations/swap").write_text('{"v":2,"steps":[]}\n')
    before = configured(home)
    for verb in (("reload",), ("history", "rollback", "1"), ("tenant", "add", "beta")):
        r = home.cli(*verb, check=False)
        assert r.returncode == 1 and "a rollback by a newer version of mysimbdp was cut short; install that version again" in r.stderr, r.stderr
    home.down()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "a rollback by a newer version" in r.stderr, r.stderr
    assert configured(home) == before


@pytest.mark.parametrize("path,text", [("conf/mysimbdp.conf", "platform = { warp = 9; };"), ("conf/profiles.conf", 'profiles = ( { name = "small"; warp = 9; } );'),
                                       ("conf/tenants/acme.conf", "concurrency = 1;\nwarp = 9;")])
def test_a_key_of_a_newer_version_is_refused_by_name(home, path, text):
    home.tenant()
    (home.path / path).write_text(text)
    def without_bin():
        return {k: v for k, v in contents(home).items() if not k.startswith("bin/")}  # what the programs bring along
    before = without_bin()
    for verb in ("check", "up"):
        r = home.cli(verb, check=False)
        assert r.returncode == 1 and f"{path}:{text.count(chr(10)) + 1}: " in r.stderr and "unknown key" in r.stderr and "warp" in r.stderr, r.stderr
    assert without_bin() == before


# ---- what has no number


def test_fields_that_are_not_known_are_ignored(home):
    """In the files of state/, which belong to the home's version."""
    home.tenant()
    home.up()
    home.cli("alerts", "silence", "acme", "--for", "2h")
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.down()
    changed = []
    for path in (home.path / "state").rglob("*.json"):
        doc = json.loads(path.read_text())
        if isinstance(doc, dict):
            path.write_text(json.dumps({"of_a_newer_version": {"x": [1, None]}, **doc}))
            changed.append(path.name)
    assert {"home.json", "silences.json", "programs.json"} <= set(changed), changed
    home.up()
    assert [s["tenant_id"] for s in home.rows("alerts", "silences")] == ["acme"]
    home.drop("b.csv", "v\n2\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"
    assert home.control({"op": "status", "of_a_newer_version": {"x": [1]}})["ok"]
    r = home.control({"op": "of_a_newer_version"})
    assert not r["ok"] and r["error"], r


def test_what_a_newer_version_told_a_collector_is_not_guessed(home):
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", 'platform = { otlp = { url = "http://127.0.0.1:9"; };', 1))
    (home.path / "state/otlp.json").write_text('{"v":2}\n')
    home.up()
    until(lambda: any("otlp.json is of another version; what happened before now is not exported" in m for m in log(home, "monitor", "otlp")), home.path / "logs", what="what is said")


# ---- wires


def test_a_frame_of_a_newer_version_is_refused(home):
    home.streams("events")
    home.broker()
    with Peer(home.endpoint) as p:
        p.send(struct.pack("<BBHI", 2, PING, 0, 7))
        verb, _, _, frames = p.receive()
        assert verb == REFUSED and b"version" in b"".join(frames), frames
        p.send(header(PING, request=8))
        assert p.receive()[0] == PONG, "the connection goes on"


def test_another_version_of_http_is_not_there(mongo, tmp_path):
    site = Site(mongo, settings())
    try:
        assert site.ask("GET", "/v2/tenants/acme/files", described=False).status == 404
        a_newer_upload(site)
    finally:
        site.cleanup()


def a_newer_upload(site):
    """One that goes on is begun again."""
    def name(text):
        return base64.b64encode(text.encode()).decode()
    made = site.ask("POST", "/v1/tenants/acme/uploads", Tus_Resumable="1.0.0", Upload_Length="4", Upload_Metadata=f"filename {name('n.csv')},dataset {name('data')}")
    at = made.headers["Location"].removeprefix(site.url)
    assert site.ask("HEAD", at, Tus_Resumable="1.0.0").status == 200
    (description,) = (site.home.path / "staging/.gateway").rglob("*.json")
    site.home.down()
    newer(description)
    site.up()
    assert site.ask("HEAD", at, Tus_Resumable="1.0.0").status == 404
    assert any("is no upload that can be gone on with; removed" in m for m in log(site.home, "gateway", "resumable"))
    assert site.put("n.csv", b"v\n1\n").status == 201
