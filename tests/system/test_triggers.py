"""When files run, and with whom: triggers, groups, checkers, secrets."""
import json
import os
import stat
import time

import pytest
from harness import change, until

pytestmark = pytest.mark.once

JOIN = r"""#!/bin/sh
# one JSON line a row of every input, into SIMBDP_OUTPUT_DIR
[ "$(ls "$SIMBDP_INPUT_DIR" | wc -l)" -gt 1 ] && [ -s /dev/stdin ] && exit 9
for f in "$SIMBDP_INPUT_DIR"/*; do
    grep -q bad "$f" && exit ${BAD_EXIT:-65}
    grep -q slow "$f" && [ ! -e "$GATE" ] && exec cat "$GATE.fifo"
    awk -F, 'NR > 1 { printf "{\"v\":%d}\n", $1 }' "$f"
done >"$SIMBDP_OUTPUT_DIR/all.json"
ls "$SIMBDP_INPUT_DIR"
cat "$SIMBDP_INPUT_FILES"
"""


def script(home, name, text, tenant="acme"):
    path = home.path / "apps" / tenant / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def joined(home, group="max_files = 10; max_wait_ms = 300;", batch="", retry="attempts = 2; backoff_ms = 10; max_backoff_ms = 20;", **kw):
    home.tenant(exec_="join", batch=f'output = "dir"; group = {{ {group} }}; {batch}', retry=retry, **kw)
    script(home, "join", JOIN)
    return home


def held(home, n):
    return until(lambda: (lambda f: f if len(f) == n else None)(home.files(state="queued", reason="trigger")), home.path / "state",
                 what=f"{n} held files")


def runs_of(home):
    return {f["file_name"]: f["run_id"] for f in home.files()}


def test_manual_waits_for_run(home):
    home.tenant(batch='trigger = "manual";')
    home.up()
    for i in range(3):
        home.drop(f"m{i}.csv", f"v\n{i}\n")
    files = held(home, 3)
    assert {f["detail"] for f in files} == {"waits for `mysimbdp run acme/app`"} and home.rows("runs") == []
    status = home.control({"op": "status"})
    assert status["held"] == 3 and status["tenants"][0]["held"] == 3
    home.kill_batchmgr()
    assert len(held(home, 3)) == 3 and home.rows("runs") == []
    assert home.cli("run", "acme/app").stdout == "3 files go\n"
    home.wait_files(3)
    assert {f["state"] for f in home.files()} == {"ingested"} and sorted(d["v"] for d in home.docs()) == [0, 1, 2]
    assert home.cli("run", "acme/app").stdout == "0 files go\n"
    home.drop("later.csv", "v\n9\n")
    held(home, 1)


def test_run_says_what_is_wrong(home):
    home.tenant()
    home.up()
    for args, code, says in ((["nobody/app"], 1, "no tenant"), (["acme/none"], 1, "no batch app"), (["acme"], 2, "TENANT/APP"), ([], 2, "few")):
        r = home.cli("run", *args, check=False)
        assert r.returncode == code and says in r.stderr, r.stderr


def test_a_released_file_waits_for_its_retry_only(home):
    home.tenant(exec_="misbehave", batch='trigger = "manual";', retry="attempts = 2; backoff_ms = 10; max_backoff_ms = 10;")
    home.up()
    home.do("until,2", name="x.csv")
    held(home, 1)
    home.cli("run", "acme/app")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 2)


@pytest.mark.anyone
def test_cron_runs_what_waits_at_the_minute(home):
    home.tenant(batch='trigger = "cron: * * * * *"; timezone = "Europe/Vienna";')
    home.up()
    if time.time() % 60 > 55:  # not across the minute
        until(lambda: time.time() % 60 < 50, what="the next minute")
    home.drop("c1.csv", "v\n1\n")
    home.drop("c2.csv", "v\n2\n")
    f = held(home, 2)[0]
    assert f["detail"].startswith("waits for the trigger of app app at ") and f["detail"].endswith(":00.000Z")
    home.wait_files(2, timeout=75)
    for r in home.rows("runs"):
        assert r["outcome"] == "ok" and float(r["started_at"][17:23]) < 10
    assert len(home.docs()) == 2


def test_a_time_that_passed_while_it_was_down_is_made_up_for(home):
    home.tenant(batch='trigger = "cron: @yearly";')
    home.up()
    home.drop("old.csv", "v\n1\n")
    home.drop("new.csv", "v\n2\n")
    held(home, 2)
    home.down()
    with change(home.path / "state/ledger.db") as db:
        db.execute("UPDATE files SET received_at=received_at-400*86400000 WHERE name='old.csv'")
    home.up()
    assert home.wait_file(file_name="old.csv")["state"] == "ingested"
    assert [f["file_name"] for f in held(home, 1)] == ["new.csv"]


def test_reload_changes_the_trigger(home):
    home.tenant(batch='trigger = "manual";')
    home.up()
    home.drop("x.csv", "v\n1\n")
    held(home, 1)
    home.tenant()
    assert home.reload()["ok"]
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["reason"]) == ("ingested", None)


@pytest.mark.parametrize("batch, says", [
    ('trigger = "cron: 61 * * * *";', "minute 61 is not in 0 to 59"), ('trigger = "sometimes";', "arrival, manual, or cron"),
    ('trigger = "cron: @daily"; timezone = "Mars/Base";', "no time zone"), ('output = "stdout"; group = { max_files = 2; };', "one file a run"),
    ('checker = "../x";', "key 'batch.checker'"), ('secrets = ( { name = "a/b"; file = "x"; } );', "key 'secrets.name'"),
    ('secrets = ( { name = "a"; file = "../../etc/passwd"; } );', "key 'secrets.file'"), ("group = { max_files = 0; };", "max_files")])
def test_config_errors(home, batch, says):
    home.tenant(exec_="misbehave", batch=batch)
    r = home.cli("check", check=False)
    assert r.returncode == 1 and says in r.stderr and "acme.conf:" in r.stderr


def test_a_group_is_one_run(home):
    joined(home, "max_files = 3; max_wait_ms = 60000;")
    home.up()
    home.drop("a.csv", "v\n1\n2\n")
    home.drop("b b.csv", "v\n3\n")
    home.drop("b_b.csv", "v\n4\n")  # the same safe name
    home.wait_files(3)
    files = home.files()
    (run,) = home.rows("runs")
    assert {f["state"] for f in files} == {"ingested"} and {f["run_id"] for f in files} == {run["run_id"]}
    assert {f["rows_loaded"] for f in files} == {None}  # counted for the run
    assert sorted(d["v"] for d in home.docs()) == [1, 2, 3, 4]
    *names, first, second, third = home.log_of(run["run_id"]).splitlines()
    inputs = [json.loads(line) for line in (first, second, third)]
    assert sorted(names) == sorted(i["name"] for i in inputs) and len(set(names)) == 3
    assert sorted(i["original_name"] for i in inputs) == ["a.csv", "b b.csv", "b_b.csv"]
    assert sorted(i["file_id"] for i in inputs) == sorted(f["file_id"] for f in files)
    assert all(home.rows("runs", "--file", f["file_id"]) == [run] for f in files)
    stats = home.rows("stats", "--tenant", "acme")[0]
    assert (stats["rows"], stats["ingested"]) == (4, 3)
    until(lambda: not list((home.path / "work").iterdir()), home.path / "work", what="an empty work/")


def test_a_group_does_not_wait_for_ever(home):
    joined(home, "max_files = 100; max_wait_ms = 400;")
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\n2\n")
    home.wait_files(2)
    assert len(home.rows("runs")) == 1
    first = home.files()[0]
    assert float(first["started_at"][17:23]) - float(first["received_at"][17:23]) % 60 >= 0.3 or first["started_at"][14:16] != first["received_at"][14:16]


def test_without_a_wait_a_run_takes_what_is_queued(home):
    joined(home, "max_files = 4;", concurrency=1)
    home.env["GATE"] = "x"
    home.up()
    home.cli("tenant", "suspend", "acme")
    home.cli("tenant", "resume", "acme")
    for i in range(9):
        home.drop(f"f{i}.csv", f"v\n{i}\n")
    home.wait_files(9)
    sizes = sorted(list(runs_of(home).values()).count(r["run_id"]) for r in home.rows("runs"))
    assert sum(sizes) == 9 and max(sizes) <= 4 and len(sizes) < 9
    assert sorted(d["v"] for d in home.docs()) == list(range(9))


def test_only_files_of_one_dataset_share_a_run(home):
    joined(home, "max_files = 10;", batch='trigger = "manual";')
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace("datasets = (", 'datasets = ( { name = "other"; format = "csv"; collection = "data"; }, '))
    home.up()
    for i in range(4):
        home.drop(f"d{i}.csv", f"v\n{i}\n")
        home.drop(f"o{i}.csv", f"v\n{10 + i}\n", dataset="other")
    held(home, 8)
    home.cli("run", "acme/app")
    home.wait_files(8)
    by = runs_of(home)
    assert len({by[f"d{i}.csv"] for i in range(4)}) == 1 and len({by[f"o{i}.csv"] for i in range(4)}) == 1 and len(set(by.values())) == 2


def test_a_failed_group_is_retried_file_by_file(home):
    joined(home, "max_files = 3; max_wait_ms = 60000;")
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\nbad\n")
    home.drop("c.csv", "v\n3\n")
    home.wait_files(3)
    files = {f["file_name"]: f for f in home.files()}
    assert {n: f["state"] for n, f in files.items()} == {"a.csv": "ingested", "b.csv": "quarantined", "c.csv": "ingested"}
    assert len({f["run_id"] for f in files.values()}) == 3 and len(home.rows("runs")) == 4
    assert (files["a.csv"]["attempts"], files["b.csv"]["attempts"]) == (1, 1)  # what the group said was nobody's fault yet
    assert sorted(d["v"] for d in home.docs()) == [1, 3]


def test_attempts_of_a_group_count_for_each_file(home):
    joined(home, "max_files = 2; max_wait_ms = 60000;", batch='env = ( { name = "BAD_EXIT"; value = "3"; } );')
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\nbad\n")
    home.wait_files(2)
    files = {f["file_name"]: (f["state"], f["reason"], f["attempts"]) for f in home.files()}
    assert files == {"a.csv": ("ingested", None, 2), "b.csv": ("quarantined", "failed", 2)}
    assert [d["v"] for d in home.docs()] == [1]


def test_groups_of_the_built_in_loader_keep_files_apart(home, tmp_path):
    home.tenant(batch='trigger = "manual"; group = { max_files = 10; };')
    home.up()
    texts = {f"g{i}.csv": f"v,w\n{i},a\n{i + 10},b\n" + ("broken\n" if i == 2 else "") for i in range(3)}
    for name, text in texts.items():
        home.drop(name, text)
    held(home, 3)
    home.cli("run", "acme/app")
    home.wait_files(3)
    (run,) = home.rows("runs")
    assert sorted(d["v"] for d in home.docs()) == [0, 1, 2, 10, 11, 12]
    rejects = home.rows("rejects", home.files(file_name="g2.csv")[0]["file_id"])
    assert [r["message"].split(":")[0] for r in rejects] == ["g2.csv"]
    path = tmp_path / "g1.csv"
    path.write_text(texts["g1.csv"])
    home.cli("upload", "acme", "data", path, "--force")
    held(home, 1)
    home.cli("run", "acme/app")
    home.wait_files(4)
    assert sorted(d["v"] for d in home.docs()) == [0, 1, 2, 10, 11, 12]


def test_rows_of_a_group_cannot_be_replaced_alone(home, tmp_path):
    joined(home, "max_files = 2; max_wait_ms = 60000;")
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.drop("b.csv", "v\n2\n")
    home.wait_files(2)
    path = tmp_path / "again.csv"
    path.write_text("v\n1\n")
    home.cli("upload", "acme", "data", path)
    assert home.wait_file(file_name="again.csv")["state"] == "duplicate"
    home.cli("upload", "acme", "data", path, "--force")
    home.wait_files(4)
    f = home.files(file_name="again.csv")[1]
    assert (f["state"], f["reason"]) == ("rejected", "group") and len(home.docs()) == 2


def test_a_group_whose_loading_was_interrupted_goes_on_together(make_home, tmp_path):
    from harness import Mongo
    mongo = Mongo(tmp_path / "mongo")
    home = joined(make_home(mongo=mongo), "max_files = 2; max_wait_ms = 60000;")
    gate = home.base / "gate"
    os.mkfifo(f"{gate}.fifo")
    os.chmod(f"{gate}.fifo", 0o666)
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('exec = "join";', f'exec = "join"; env = ( {{ name = "GATE"; value = "{gate}"; }} );'))
    script(home, "join", JOIN.replace("exec cat", "cat"))
    home.up()
    home.drop("a.csv", "v\n1\nslow\n")
    home.drop("b.csv", "v\n2\n")
    run = home.wait_running()[0]
    mongo.kill()
    with open(f"{gate}.fifo", "w"):
        gate.touch()
    until(lambda: home.files(state="waiting", reason="database_down") or home.control({"op": "status"})["database"] == "down",
          home.path / "state", what="the outage to be seen")
    home.kill_batchmgr()
    mongo.start()
    home.wait_files(2, timeout=90)
    assert {f["state"] for f in home.files()} == {"ingested"}
    assert sorted(d["v"] for d in mongo.client[home.db_of["acme"]]["data"].find()) == [0, 1, 2]
    started = [r for r in home.rows("runs") if "all.json" or r]
    assert run["run_id"] in {r["run_id"] for r in started}
    home.cleanup()
    mongo.stop()


CHECK = r"""#!/bin/sh
grep -q forbidden && { echo "a forbidden word" >&2; exit 65; }
[ -n "$(grep -l wait "$SIMBDP_INPUT_DIR"/*)" ] && [ "$SIMBDP_ATTEMPT" -lt 2 ] && exit 4
exit 0
"""


def test_a_checker_sees_each_file_first(home):
    home.tenant(batch='checker = "check";', retry="attempts = 3; backoff_ms = 10; max_backoff_ms = 20;")
    script(home, "check", CHECK)
    home.up()
    home.drop("good.csv", "v\n1\n")
    home.drop("bad.csv", "v\nforbidden\n")
    home.drop("wait.csv", "v\nwait\n")
    home.wait_files(3)
    files = {f["file_name"]: f for f in home.files()}
    assert {n: (f["state"], f["reason"]) for n, f in files.items()} == {
        "good.csv": ("ingested", None), "bad.csv": ("rejected", "checker"), "wait.csv": ("ingested", None)}
    kinds = {n: [r["kind"] for r in home.rows("runs") if r["run_id"] in home.cli("runs", "--file", f["file_id"]).stdout] for n, f in files.items()}
    assert kinds["bad.csv"] == ["check"] and kinds["good.csv"] == ["check", "batch"] and kinds["wait.csv"] == ["check", "check", "batch"]
    assert "a forbidden word" in home.log_of(files["bad.csv"]["run_id"])
    assert "exit code 65" in files["bad.csv"]["detail"]
    assert {d["v"] for d in home.docs()} == {1, "wait"}
    assert (home.path / "quarantine/acme/data" / files["bad.csv"]["file_id"] / "bad.csv").exists()


def test_a_checker_runs_before_the_trigger_and_its_own_absence_parks(home):
    home.tenant(batch='checker = "check"; trigger = "manual";')
    home.up()
    home.drop("x.csv", "v\n1\n")
    until(lambda: home.files(reason="exec_error"), home.path / "state")
    script(home, "check", CHECK)
    held(home, 1)  # the executable is there now: it was checked, and waits
    home.cli("run", "acme/app")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


SHOW = r"""#!/bin/sh
cat >/dev/null
cd "$SIMBDP_SECRETS_DIR" || exit 7
for f in *; do stat -c '%n %a %U' "$f"; cat "$f"; done
echo x >token 2>/dev/null && [ "$(id -u)" != 0 ] && echo writable
exit 0
"""


def test_secrets_are_files_of_the_run_alone(home):
    home.tenant(exec_="show", batch='secrets = ( { name = "token"; file = "api"; }, { name = "raw"; file = "%s"; } );' % (home.base / "raw"))
    script(home, "show", SHOW)
    keys = home.path / "keys/acme"
    keys.mkdir(mode=0o700)
    (keys / "api").write_text("s3cret\n")
    (keys / "api").chmod(0o600)
    (home.base / "raw").write_bytes(b"a\0b\n")
    home.up()
    home.drop("x.csv", "v\n1\n")
    f = home.wait_file(file_name="x.csv")
    log = home.log_of(f["run_id"])
    assert f["state"] == "ingested" and "token 400 " in log and "raw 400 " in log and "s3cret\n" in log and "writable" not in log
    run = home.path / "runs" / f["run_id"]
    assert not (run / "secrets").exists()
    texts = [p.read_bytes() for p in run.rglob("*") if p.is_file() and p.name != "log"] + [(home.path / "logs/batchmgr.log").read_bytes()]
    assert not any(b"s3cret" in t for t in texts)
    assert stat.S_IMODE(keys.stat().st_mode) == 0o700


def test_a_missing_secret_is_named(home):
    home.tenant(exec_="show", batch='secrets = ( { name = "token"; file = "api"; } );')
    script(home, "show", SHOW)
    home.up()
    home.drop("x.csv", "v\n1\n")
    until(lambda: home.files(reason="exec_error"), home.path / "state")
    r = home.rows("runs")[0]
    assert r["outcome"] == "exec_error" and 'cannot read the secret "token"' in r["error"] and "keys/acme/api" in r["error"]
    assert r["wall_s"] == 0 and home.rows("stats", "--tenant", "acme")[0]["run_s"] == 0  # it never began
    (home.path / "keys/acme").mkdir()
    (home.path / "keys/acme/api").write_text("now")
    home.cli("retry", "--tenant", "acme")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
