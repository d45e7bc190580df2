"""The command line: listings with exactly the keys the design names, working with the programs down."""
import json
import os
import re
import subprocess

import pytest
from harness import BUILD, IS_ROOT, until

FILE_KEYS = ("file_id tenant_id dataset file_name size_bytes content_hash state reason detail attempts rows_parsed rows_loaded "
             "rows_rejected rows_repaired quality received_at started_at ended_at run_id").split()
RUN_KEYS = ("run_id tenant_id app kind instance_id attempt state outcome exit_code signal limit forced error started_at ended_at "
            "wall_s cpu_s max_rss_bytes node network_refused").split()
STATS_KEYS = ("tenant_id files ingested rejected duplicate quarantined bytes rows rows_rejected rows_repaired avg_ingestion_s p50_s p95_s p99_s "
              "bytes_per_s messages messages_refused messages_dead avg_message_ms run_s cpu_s instance_s").split()
STAMP = re.compile(r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$")


def test_listings_have_exactly_their_keys_and_work_with_the_programs_down(home):
    home.tenant(limits="max_rows = 3;")
    home.up()
    home.drop("x.csv", "a,b\n1,2\n3\n")
    home.drop("y.csv", "a,b\n" + "1,2\n" * 4)
    home.wait_files(2)
    home.down()
    files = home.rows("files")
    runs = home.rows("runs")
    stats = home.rows("stats")
    assert [list(f) for f in files] == [FILE_KEYS] * 2
    assert [list(r) for r in runs] == [RUN_KEYS]
    assert [list(s) for s in stats] == [STATS_KEYS] * 2 and [s["tenant_id"] for s in stats] == ["acme", None]
    done, refused = sorted(files, key=lambda f: f["file_name"])
    assert STAMP.match(done["received_at"]) and STAMP.match(done["ended_at"]) and STAMP.match(runs[0]["started_at"])
    assert (done["rows_parsed"], done["rows_loaded"], done["rows_rejected"]) == (2, 1, 1)
    assert done["quality"]["rows"] == 2 and re.match("^[0-9a-f]{64}$", done["content_hash"])
    assert refused["started_at"] is None and refused["run_id"] is None and refused["reason"] == "max_rows"
    assert (stats[1]["files"], stats[1]["ingested"], stats[1]["rejected"], stats[1]["rows"], stats[1]["bytes"]) == (2, 1, 1, 1, 10)
    assert home.rows("files", "--state", "rejected") == [refused] and home.rows("files", done["file_id"]) == [done]
    assert home.rows("files", "--since", "1h") == files and home.rows("files", "--since", "2099-01-01") == []
    reject = home.rows("rejects", done["file_id"])
    assert list(reject[0]) == ["line", "byte_offset", "column", "type", "message", "raw"]
    assert (reject[0]["line"], reject[0]["byte_offset"], reject[0]["raw"]) == (3, 8, "3")
    for args in (["files"], ["runs"], ["stats"], ["rejects", done["file_id"]], ["logs", runs[0]["run_id"]], ["tenant", "list"]):
        assert home.cli(*args).returncode == 0
    lines = [json.loads(line) for line in (home.path / "logs/tenants/acme/ingest.jsonl").read_text().splitlines()]
    assert {line["status"] for line in lines} == {"ingested", "rejected"} and len(lines) == 2


def test_exit_codes(home):
    assert home.cli("frobnicate", check=False).returncode == 2
    assert home.cli("files", "--nonsense", check=False).returncode == 2
    assert home.cli("upload", "acme", check=False).returncode == 2
    r = home.cli("status", check=False)
    assert r.returncode == 1 and "mysimbdp up" in r.stderr
    assert home.cli("files", "nosuchid", check=False).returncode == 1
    assert home.cli("retry", "nosuchid", check=False).returncode == 1
    for verb in ("init up down check status tenant upload files runs logs rejects retry stats stop app queue dead publish doctor preview run reload top advise").split():
        assert home.cli(verb, "--help").stdout.startswith("usage: mysimbdp " + verb)
    for program in ("batchmgr", "streammgr", "monitor", "broker", "desk", "simbdp-run", "simbdp-warden", "simbdp-load", "simbdp-inspect", "simbdp-pipe"):
        assert "usage: " in subprocess.run([BUILD / program, "--help"], capture_output=True, text=True, check=True).stdout


def test_upload(home):
    home.tenant()
    home.up()
    a, b = home.base / "a.csv", home.base / "b.csv"
    a.write_text("a\n1\n")
    b.write_text("a\n2\n")
    out = home.rows("upload", "acme", "data", a, b)
    assert [list(x) for x in out] == [["file_id", "file_name"]] * 2
    files = home.wait_files(2)
    assert {f["file_id"] for f in files} == {x["file_id"] for x in out} and {f["file_name"] for f in files} == {"a.csv", "b.csv"}
    for args, text in ((["nobody", "data", a], "no tenant"), (["acme", "nodata", a], "no dataset"),
                       (["acme", "data", home.base / "none.csv"], "No such file"), (["acme", "data", a, "--app", "zip"], "no app")):
        r = home.cli("upload", *args, check=False)
        assert r.returncode == 1 and text in r.stderr, r.stderr
    assert list((home.path / "staging/.incoming").iterdir()) == []


def test_an_upload_that_breaks_off_leaves_nothing(home):
    import socket
    home.tenant()
    home.up()
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(home.socket_path())
        s.sendall(json.dumps({"op": "upload_begin", "tenant_id": "acme", "dataset": "data", "name": "x.csv", "size": 8}).encode() + b"\n")
        slot = json.loads(s.makefile().readline())
        open(slot["path"], "w").write("a,b\n1,")
    incoming = home.path / "staging/.incoming"
    until(lambda: not list(incoming.iterdir()), incoming, what="the clean-up")
    assert home.files() == [] and home.control({"op": "status"})["unfinished"] == 0


def test_a_named_app_takes_the_file(home):
    home.tenant(apps='{ app = "first"; exec = "builtin:load"; }, { app = "second"; exec = "misbehave"; pattern = "never"; }')
    home.up()
    x = home.base / "x.csv"
    x.write_text("do,arg\nprint,hello\n")
    home.cli("upload", "acme", "data", x, "--app", "second", "--wait")
    run = home.rows("runs")[0]
    assert run["app"] == "second" and home.log_of(run["run_id"]) == "hello\n"


def test_logs_follow(home):
    home.tenant(exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    home.do("print,before", f"gate,{gate}", "print,after")
    run = home.wait_running()[0]
    p = subprocess.Popen([BUILD / "mysimbdp", "logs", run["run_id"], "-f"], env=home.env, stdout=subprocess.PIPE, text=True)
    assert p.stdout.readline() == "before\n"
    gate.touch()
    assert p.stdout.readline() == "after\n"
    assert p.wait(timeout=30) == 0
    p.stdout.close()


def test_retry_of_a_tenant(home):
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    gate = home.base / "gate"
    for i in range(3):
        home.do(f"print,{i}", f"read,{gate}", "exit,1", name=f"{i}.csv")
    home.wait_files(3)
    home.install("acme", "/bin/true", "misbehave")
    assert home.cli("retry", "--tenant", "acme").stdout == "3 files are tried again\n"
    home.wait_files(3, lambda f: f["state"] == "ingested")


def test_retry_of_what_is_still_being_filed(home):
    home.tenant(exec_="misbehave", retry="attempts = 1;")
    home.up()
    there = home.path / "quarantine/acme"
    there.touch(exist_ok=False)
    home.do("exit,1", name="x.csv")
    f = home.wait_file(file_name="x.csv")
    until(lambda: "cannot file" in (home.path / "logs/batchmgr.log").read_text(), what="it to stay in work/")
    home.install("acme", "/bin/true", "misbehave")
    assert home.cli("retry", "--tenant", "acme").stdout == "1 file is tried again\n"
    home.cli("retry", f["file_id"])
    there.unlink()
    assert home.wait_file(state="ingested")["file_id"] == f["file_id"]


def test_twin_keys_are_a_reject_and_not_a_dead_connection(home):
    home.tenant(fmt="json")
    home.up()
    home.drop("x.json", '{"a":1,"a":2}\n{"a":3}\n')
    f = home.wait_file(file_name="x.json")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 1, 1)
    assert "twice" in home.rows("rejects", f["file_id"])[0]["message"]


def test_priorities_within_a_tenant(home):
    home.tenant(concurrency=1, apps='{ app = "low"; exec = "misbehave"; pattern = "low*"; }, '
                                    '{ app = "high"; exec = "misbehave"; pattern = "high*"; priority = 5; }')
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="low-first.csv")
    home.wait_running()
    for i in range(3):
        home.do(f"print,low{i}", name=f"low{i}.csv")
    for i in range(3):
        home.do(f"print,high{i}", name=f"high{i}.csv")
    until(lambda: len(home.files(state="queued")) == 6, home.path / "state")
    gate.touch()
    home.wait_files(7)
    assert [r["app"] for r in home.rows("runs")] == ["low"] + ["high"] * 3 + ["low"] * 3


def test_concurrency_and_capacity_bite(make_home):
    home = make_home(platform="capacity = { cpus = 3; };")
    home.profiles(cpus=1.0)
    home.tenant("one", exec_="misbehave", concurrency=2)
    home.tenant("two", exec_="misbehave", concurrency=9)
    home.up()
    gate = home.base / "gate"
    for i in range(4):
        home.do(f"print,{i}", f"gate,{gate}", name=f"{i}.csv", tenant="one")
        home.do(f"print,{i}", f"gate,{gate}", name=f"{i}.csv", tenant="two")
    home.wait_running(3)
    until(lambda: len(home.files(state="queued")) == 5, home.path / "state")
    running = [r["tenant_id"] for r in home.rows("runs")]
    assert len(running) == 3 and running.count("one") <= 2  # 3 cpus; which files were there first is chance
    waits = {t["tenant_id"]: t["waits_for"] for t in home.control({"op": "status"})["tenants"]}
    assert set(waits.values()) <= {"capacity", "concurrency"}
    gate.touch()
    home.wait_files(8)


def test_weights_share_the_machine(make_home):
    home = make_home(platform="capacity = { cpus = 1; };")
    home.profiles(cpus=1.0)
    home.tenant("heavy", exec_="misbehave", tenant="weight = 3;")
    home.tenant("light", exec_="misbehave")
    home.tenant("first", exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="first.csv", tenant="first")
    home.wait_running()
    for i in range(30):
        home.do(f"print,{i}", name=f"{i}.csv", tenant="heavy")
        home.do(f"print,{i}", name=f"{i}.csv", tenant="light")
    until(lambda: len(home.files(state="queued")) == 60, home.path / "state")
    gate.touch()
    home.wait_files(61, timeout=120)
    first = [r["tenant_id"] for r in home.rows("runs")][1:25]
    assert 12 <= first.count("heavy") <= 24 and first.count("light") >= 1


def test_retention(make_home):
    home = make_home(platform="rescan_ms = 200;")
    home.tenant("gone", tenant='retention = { on_success = "delete"; on_failure = "delete"; };', limits="max_rows = 1;")
    home.tenant("kept", tenant='retention = { on_failure = "archive"; };', limits="max_rows = 1;")
    home.tenant("short", tenant="retention = { files_days = 0; };")
    home.up()
    for t in ("gone", "kept", "short"):
        home.drop("ok.csv", "a\n1\n", t)
        home.drop("bad.csv", "a\n1\n2\n", t)
    home.wait_files(6)
    until(lambda: not list((home.path / "work").iterdir()), home.path / "work")
    assert not (home.path / "done/gone").exists() and not (home.path / "quarantine/gone").exists()
    assert len(list((home.path / "done/kept/data").iterdir())) == 2
    until(lambda: not list((home.path / "done/short/data").iterdir()), home.path / "done", what="files_days = 0")
    if IS_ROOT:
        assert os.stat(home.path / "staging/kept").st_mode & 0o7777 == 0o750
        assert os.stat(home.path / "staging/kept/data").st_mode & 0o7777 == 0o1770


def test_words_that_are_none_say_what_may_have_been_meant(home):
    home.tenant()
    home.up()
    for args, code, words in ((("fiels",), 2, ["did you mean 'files'?"]), (("files", "--state", "ingsted"), 2, ["did you mean 'ingested'?", "quarantined"]),
                              (("files", "--tenant", "acem"), 1, ["no tenant acem", "did you mean 'acme'?"]), (("runs", "--tenant", "other"), 1, ["no tenant other"]),
                              (("stats", "--tenant", "acem"), 1, ["no tenant acem", "did you mean 'acme'?"]),
                              *((verb, 1, ["no tenant acem", "did you mean 'acme'?"]) for verb in (
                                  ("queue", "list", "--tenant", "acem"), ("dead", "list", "acem"), ("dead", "list", "acem/s"), ("app", "list", "--tenant", "acem"),
                                  ("top", "--once", "--tenant", "acem"))),
                              (("queue", "list"), 0, ["no queues"]), (("dead", "list", "acme"), 0, ["no dead letters"]), (("app", "list"), 0, ["no stream apps"]),
                              (("files",), 0, ["no files yet"]), (("runs", "--tenant", "acme"), 0, ["no runs like this"])):
        r = home.cli(*args, check=False)
        assert r.returncode == code and all(w in r.stderr for w in words) and not r.stdout.strip().endswith("?"), (args, r)
    assert "did you mean" not in home.cli("files", "--tenant", "nothing-like-it", check=False).stderr
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("database =", "databse ="))
    r = home.cli("check", check=False)
    assert "acme.conf:1: unknown key 'databse' (did you mean 'database'?)" in r.stdout + r.stderr


def test_every_verb_tells_all_errors_of_the_configuration(home, tmp_path):
    home.tenant()
    home.up()
    conf, bad = home.path / "conf/tenants/acme.conf", tmp_path / "bad.conf"
    good = conf.read_text()
    bad.write_text("weight = 0;\nconcurency = 2;\n")
    errors = ("key 'weight'", "unknown key 'concurency' (did you mean 'concurrency'?)")
    r = home.cli("tenant", "add", "other", "--from", bad, check=False)
    assert r.returncode == 1 and all(f"conf/tenants/other.conf:{i + 1}: {e}" in r.stderr for i, e in enumerate(errors)), r.stderr
    assert not (home.path / "conf/tenants/other.conf").exists()
    conf.write_text(bad.read_text())
    for verb in ("reload",), ("doctor",), ("tenant", "list"):
        r = home.cli(*verb, check=False)
        assert r.returncode == 1 and all(f"acme.conf:{i + 1}: {e}" in " ".join((r.stdout + r.stderr).split()) for i, e in enumerate(errors)), (verb, r)
    found = [json.loads(line) for line in home.cli("doctor", "--json", check=False).stdout.splitlines()]
    assert [f["status"] for f in found] == ["failed"] * 2 and all(e in f["reason"] for e, f in zip(errors, found))
    conf.write_text(good)
    home.reload()


def test_suspend_and_resume(home):
    home.tenant()
    home.up()
    home.cli("tenant", "suspend", "acme")
    home.drop("x.csv", "a\n1\n")
    assert home.cli("upload", "acme", "data", home.path / "conf/profiles.conf", check=False).returncode == 1
    home.kill_batchmgr()
    assert home.control({"op": "status"})["tenants"][0]["state"] == "suspended" and not home.files()
    home.cli("tenant", "resume", "acme")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


@pytest.mark.large
@pytest.mark.soak
@pytest.mark.anyone
@pytest.mark.timeout(1200)
def test_ten_thousand_small_files_over_three_tenants_and_a_quiet_one(home):
    n = 10000
    slots = 20  # 2 cores or more, 0.1 requested by each run
    home.profiles(cpus=round(os.cpu_count() / slots, 3))
    for t in ("one", "two", "three", "quiet"):
        home.tenant(t, exec_="misbehave", retry="attempts = 1;", concurrency=slots)
    home.up()
    for i in range(n):
        if i == n // 2:
            home.do("print,quiet", name="q.csv", tenant="quiet")
        home.do(f"print,{i}", "exit,65" if i % 10 == 0 else "exit,0", name=f"{i}.csv", tenant=("one", "two", "three")[i % 3])
    files = home.wait_files(n + 1, timeout=600)
    runs = home.rows("runs")
    assert len(files) == n + 1 and len(runs) == n + 1 and len({r["run_id"] for r in runs}) == n + 1
    assert sum(f["state"] == "quarantined" for f in files) == n // 10 and sum(f["state"] == "ingested" for f in files) == n * 9 // 10 + 1
    assert {f["attempts"] for f in files} == {1}
    q = next(f for f in files if f["tenant_id"] == "quiet")
    start = next(r["started_at"] for r in runs if r["tenant_id"] == "quiet")
    between = [r for r in runs if q["received_at"] < r["started_at"] < start and r["tenant_id"] != "quiet"]
    # One service slot is as many as run at once; some more start while the file is still claimed and inspected.
    assert len(between) <= slots * 3 // 2, f"{len(between)} runs of the flood started between the quiet file's arrival and its start"
