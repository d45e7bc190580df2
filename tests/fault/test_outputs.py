"""What an app leaves behind: on stdout, in its output directory, and loaded from there in a step of its own."""
import json
import os
import signal
import subprocess

import pytest
from harness import BUILD, FINAL, Mongo, until
from test_runs import misbehave, outcome


def test_output_dir_mode(make_home):
    home = make_home()
    home.tenant(exec_="misbehave", batch='output = "dir";', retry="attempts = 1;")
    home.up()
    f, r = outcome(home, "out,a.json", "out,b.json", name="x.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 2) and home.count() == 2
    ids = sorted(d["_id"] for d in home.docs())
    assert all(len(i) == 24 for i in ids) and ids[0][:16] == ids[1][:16]
    assert [int.from_bytes(i[16:], "big") for i in ids] == [0, len('{"from":"dir"}\n')]
    f, r = outcome(home, "out,a.json", "link,x", "print,1", name="y.csv")
    assert f["state"] in FINAL


def test_a_loading_step_is_resumed_and_the_app_not_run_again(misbehave):
    home = misbehave(batch='output = "stdout";', retry="attempts = 3; backoff_ms = 10; max_backoff_ms = 20;")
    marker = home.base / "ran"
    marker.mkdir()
    marker.chmod(0o777)
    app = home.path / "apps/acme/misbehave"
    app.unlink()
    app.write_text(f'#!/bin/sh\necho run >> {marker}/count\nfor i in $(seq 20000); do echo "{{\\"n\\":$i}}"; done\n')
    app.chmod(0o755)
    home.do("x", name="x.csv")
    loader = until(lambda: home.pids("simbdp-load"), home.path / "runs", every=0.01, what="the loader")
    os.kill(loader[0], signal.SIGKILL)
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 20000), [(r["outcome"], r["error"], r["limit"], r["signal"]) for r in home.rows("runs")]
    assert (marker / "count").read_text() == "run\n"
    assert sorted(d["n"] for d in home.docs()) == list(range(1, 20001))


def test_the_runner_works_alone_on_a_spec_file(tmp_path):
    """The contract for cluster schedulers: a spec in, a result out, nobody to acknowledge."""
    spec = {"v": 1, "run_id": "r1", "step": "app", "tenant": "t", "app": "a", "home": str(tmp_path), "dir": str(tmp_path / "r1"),
            "runtime": str(tmp_path), "claim": "r1", "tag": "0", "exec": "/bin/sh", "stdin_path": "", "output": "stdout",
            "uid": -1, "gid": -1, "wall_s": 10, "grace_s": 1, "output_bytes": 4096, "cpu_s": -1, "as_bytes": -1, "nofile": 64,
            "nproc": -1, "fsize_bytes": -1, "core_bytes": 0, "stack_bytes": -1, "cg_cpu_pct": -1, "cg_memory_bytes": -1,
            "cg_pids": -1, "builtin": False, "args": ["-c", "echo $GREETING; echo told >&2; exit 65"],
            "env": [{"name": "GREETING", "value": "hello"}], "files": [{"name": "note", "value": "x"}]}
    path = tmp_path / "spec.json"
    path.write_text(json.dumps(spec))
    assert subprocess.run([BUILD / "simbdp-run", path], timeout=30).returncode == 0
    result = json.loads((tmp_path / "r1/result.json").read_text())
    assert (result["v"], result["outcome"], result["exit_code"]) == (1, "data_error", 65)
    assert (tmp_path / "r1/output.part/stdout").read_text() == "hello\n" and (tmp_path / "r1/log").read_text() == "told\n"
    again = subprocess.run([BUILD / "simbdp-run", path], timeout=30, capture_output=True, text=True)
    assert again.returncode == 1 and "claimed" in again.stderr  # the fence
    path.write_text(json.dumps({**spec, "v": 2}))
    assert "version 2" in subprocess.run([BUILD / "simbdp-run", path], timeout=30, capture_output=True, text=True).stderr


def test_csv_on_stdout_is_loaded_too(make_home):
    home = make_home()
    home.tenant(exec_="upper", batch='output = "stdout";')
    script = home.path / "apps/acme/upper"
    script.write_text("#!/bin/sh\ntr a-z A-Z\n")
    script.chmod(0o755)
    home.up()
    home.drop("x.csv", "name,n\nann,1\nbob,2\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 2)
    assert sorted((d["NAME"], d["N"]) for d in home.docs()) == [("ANN", 1), ("BOB", 2)]


def test_retry_runs_a_repaired_app_again_and_replaces_what_it_loaded(make_home):
    home = make_home()
    home.tenant(exec_="tool", batch='output = "stdout";', limits="max_rejects = 0;")
    tool = home.path / "apps/acme/tool"
    tool.write_text("#!/bin/sh\necho something is wrong\n")
    tool.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["reason"]) == ("quarantined", "max_rejects")
    tool.write_text("#!/bin/sh\necho '{\"n\":1}'\n")
    home.cli("retry", f["file_id"])
    home.wait_files(1, lambda f: f["state"] == "ingested")
    assert [d["n"] for d in home.docs()] == [1]
    tool.write_text("#!/bin/sh\necho '{\"n\":2}'\n")  # another version; the same file again replaces its rows
    again = home.base / "x.csv"
    again.write_text("a\n1\n")
    home.cli("upload", "acme", "data", again, "--force", "--wait")
    assert [d["n"] for d in home.docs()] == [2]


@pytest.mark.needs_root
def test_a_kept_output_is_loaded_when_there_is_room_again(make_home, tmp_path):
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    runs = home.mount_tmpfs("runs", "32m")
    home.tenant(exec_="tool", batch='output = "stdout";', retry="attempts = 1; backoff_ms = 50; max_backoff_ms = 100;")
    tool = home.path / "apps/acme/tool"
    tool.write_text("#!/bin/sh\ncat >/dev/null\nwhile ! [ -e $SIMBDP_APP_DIR/go ]; do :; done\necho '{\"a\": 1}'\n".replace("$SIMBDP_APP_DIR", str(home.path / "apps/acme")))
    tool.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    (r,) = home.wait_running()
    mongo.kill()
    (home.path / "apps/acme/go").touch()
    home.wait_files(1, lambda f: f["reason"] == "database_down")
    def full():
        st = os.statvfs(runs)
        return subprocess.run(["mount", "-o", f"remount,nr_inodes={st.f_files - st.f_ffree}", str(runs)], stderr=subprocess.DEVNULL).returncode == 0
    until(full, runs, what="no inode to be left")  # what goes meanwhile is another try's
    mongo.start()
    until(lambda: "cannot make runs/" in (home.path / "logs/batchmgr.log").read_text(), home.path / "logs", what="the failed mkdir")
    assert home.files()[0]["state"] != "quarantined"
    subprocess.run(["mount", "-o", "remount,nr_inodes=100000", str(runs)], check=True)
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"], f["attempts"]) == ("ingested", 1, 1)
    assert all(r["state"] == "ended" for r in home.rows("runs"))
    home.cleanup()
    mongo.stop()
