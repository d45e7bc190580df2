"""What must be right before anything starts, and what is said when it is not."""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import sqlite3
import subprocess
import time

import pymongo
import pytest
from harness import BUILD, IS_ROOT, RELEASE, change, until

STREAM = 'streams = ( { name = "s"; } ); stream_apps = ( { app = "a"; stream = "s"; %s } );'
BAD = [
    ("unknown key", "tenant", "concurency = 2;", ["acme.conf:1", "concurency"]),
    ("wrong type", "tenant", 'weight = "2";', ["acme.conf:1", "weight", "integer", "the string", "write 2"]),
    ("out of range", "tenant", "weight = 0;", ["acme.conf:1", "weight", "from 1 to 1000"]),
    ("over 32 bits", "tenant", "\nlimits = { max_file_bytes = 10000000000; };", ["acme.conf:2", "L"]),
    ("syntax", "tenant", "weight = ;", ["acme.conf:1", "syntax"]),
    ("no stream", "tenant", 'stream_apps = ( { app = "a"; stream = "x"; } );', ["acme.conf:1", "stream_apps.stream", '"x"']),
    ("bad choice", "tenant", 'retention = { on_success = "burn"; };', ["acme.conf:1", "on_success", "archive|delete"]),
    ("no profile", "tenant", 'batch = ( { app = "a"; exec = "x"; profile = "huge"; } );', ["acme.conf:1", "huge"]),
    ("no dataset", "tenant", 'batch = ( { app = "a"; exec = "x"; datasets = ("d"); } );', ["acme.conf:1", '"d"']),
    ("exec outside", "tenant", 'batch = ( { app = "a"; exec = "../../x"; } );', ["acme.conf:1", "exec"]),
    ("reserved env", "tenant", 'batch = ( { app = "a"; exec = "x"; env = ( { name = "LD_PRELOAD"; value = "x"; } ); } );',
     ["acme.conf:1", "LD_PRELOAD"]),
    ("stream app's exec", "tenant", STREAM % 'exec = "builtin:save";', ["acme.conf:1", "stream_apps.exec", "builtin:load"]),
    ("stream app's profile", "tenant", STREAM % 'exec = "x"; profile = "huge";', ["acme.conf:1", "stream_apps.profile", "huge"]),
    ("stream app's dataset", "tenant", STREAM % 'exec = "x"; dataset = "d";', ["acme.conf:1", "stream_apps.dataset", '"d"']),
    ("stream app without dataset", "tenant", STREAM % 'exec = "builtin:load";', ["acme.conf:1", "stream_apps.dataset", "needs a dataset"]),
    ("stream app's output", "tenant", STREAM % 'exec = "x"; output = "stdout";', ["acme.conf:1", "stream_apps.dataset", "needs a dataset"]),
    ("stream app's key conflict", "tenant", 'datasets = ( { name = "d"; format = "csv"; key = ("a"); on_key_conflict = "replace"; } );'
     + STREAM % 'exec = "builtin:load"; dataset = "d";', ["acme.conf:1", "stream_apps.dataset", "replace"]),
    ("stream app's args", "tenant", 'datasets = ( { name = "d"; format = "csv"; } );' + STREAM % 'exec = "builtin:load"; dataset = "d"; args = ("x");',
     ["acme.conf:1", "stream_apps.args", "no use"]),
    ("stream app's env", "tenant", STREAM % 'exec = "x"; env = ( { name = "LD_PRELOAD"; value = "x"; } );', ["acme.conf:1", "LD_PRELOAD"]),
    ("stream app's secrets", "tenant", STREAM % 'exec = "x"; secrets = ( { name = "a"; file = "../x"; } );', ["acme.conf:1", "secrets.file"]),
    ("stream app's instances", "tenant", STREAM % 'exec = "x"; min_instances = 3; max_instances = 2;', ["acme.conf:1", "min_instances", "max_instances 2"]),
    ("stream app's drain", "tenant", STREAM % 'drain_s = -1;', ["acme.conf:1", "drain_s"]),
    ("stream app's scale", "tenant", STREAM % 'scale = { utilisation = 2.0; };', ["acme.conf:1", "utilisation"]),
    ("missing key", "tenant", 'batch = ( { app = "a"; } );', ["acme.conf:1", "exec", "missing"]),
    ("platform", "platform", "rescan_ms = 1;", ["mysimbdp.conf:1", "rescan_ms"]),
    ("scratch without walls", "profiles", 'profiles = ( { name = "small"; isolation = "basic"; scratch = "memory"; } );',
     ["profiles.conf:1", "profiles.scratch", "isolation"]),
    ("scratch without limits", "profiles", 'profiles = ( { name = "small"; scratch = "memory"; scratch_bytes = -1; } );',
     ["profiles.conf:1", "profiles.scratch", "scratch_bytes"]),
    ("profile", "profiles", 'profiles = ( { name = "small"; wall_s = "x"; } );', ["profiles.conf:1", "wall_s"]),
]


@pytest.mark.parametrize("case,where,text,expected", BAD, ids=[b[0] for b in BAD])
def test_config_errors_name_file_line_key_and_what_is_allowed(home, case, where, text, expected):
    target = {"tenant": "conf/tenants/acme.conf", "platform": "conf/mysimbdp.conf", "profiles": "conf/profiles.conf"}[where]
    (home.path / target).write_text(f"platform = {{ {text} }};" if where == "platform" else text)
    for verb in ("check", "up"):
        r = home.cli(verb, check=False)
        assert r.returncode == 1
        for word in expected:
            assert word in r.stderr, r.stderr
    assert not (home.path / "state/ledger.db").exists() and home.pids("batchmgr") == []


def test_stream_apps_whose_executable_is_missing_are_warned_of(home):
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text('datasets = ( { name = "d"; format = "json"; } );' + STREAM % 'exec = "builtin:load"; dataset = "d";')
    assert home.cli("check").stdout == "ok: 1 tenants, 1 profiles\n"
    conf.write_text(STREAM % 'exec = "gone";')
    assert "apps/acme/gone does not exist yet" in home.cli("check").stdout


def test_check_lists_keys_and_accepts_what_init_and_add_write(make_home, tmp_path):
    home = make_home()
    fresh = tmp_path / "fresh"
    home.cli("init", fresh)
    home.cli("tenant", "add", "one", "--home", fresh)
    assert "ok: 1 tenants" in home.cli("check", "--home", fresh).stdout
    keys = home.cli("check", "--keys").stdout
    for key in ("writer_wait_s", "max_decompressed_bytes", "on_failure", "give_up_s", "cpu_pct"):
        assert f"{key}: " in keys
    assert home.cli("init", fresh, check=False).returncode == 1  # not empty
    assert home.cli("tenant", "add", "one", "--home", fresh, check=False).returncode == 1
    assert home.cli("tenant", "add", "Bad Name", "--home", fresh, check=False).returncode == 1


def test_a_home_of_a_newer_version_is_left_alone(home):
    (home.path / "state/home.json").write_text('{"version": 99}')
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "newer" in r.stderr and "99" in r.stderr


def test_no_home(home):
    r = home.cli("files", "--home", home.base, check=False)
    assert r.returncode == 1 and "mysimbdp init" in r.stderr


def test_a_ledger_of_a_newer_schema_or_damaged_starts_nothing(home):
    home.tenant()
    db = sqlite3.connect(home.path / "state/ledger.db")
    db.executescript("CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT); INSERT INTO meta VALUES('schema_version','9');")
    db.close()
    before = (home.path / "state/ledger.db").read_bytes()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "state/ledger.db is of a newer version of mysimbdp (9; this one knows up to 7)" in r.stderr
    assert (home.path / "state/ledger.db").read_bytes() == before
    (home.path / "state/ledger.db").write_bytes(b"this is no database, but it is long enough to be looked at" * 100)
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "ledger" in r.stderr and "backup" in r.stderr
    assert home.pids("batchmgr") == []


def older_ledger(home):
    """As version 2 had it, and without checksums."""
    path = home.path / "state/ledger.db"
    with contextlib.closing(sqlite3.connect(path)) as db:
        text = "\n".join(db.iterdump())
    path.unlink()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(text)
        for table, column in (("runs", "network_refused"), ("runs", "rows_repaired"), ("files", "rows_repaired"), ("runs", "rows_added"), ("files", "rows_added"), ("files", "trace")):
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
        db.execute("UPDATE meta SET value='2'")
        db.commit()
    assert path.read_bytes()[20] == 0


def test_a_ledger_of_version_1_is_brought_up_to_date(home):
    home.tenant()
    home.up()
    home.drop("old.csv", "a\n1\n")
    home.wait_files(1)
    before = [{**f, "rows_repaired": None} for f in home.files()]
    home.down()
    older_ledger(home)
    db = sqlite3.connect(home.path / "state/ledger.db")
    for index in ("files_stored", "files_filed", "files_failed", "runs_kept", "runs_live"):
        db.execute(f"DROP INDEX {index}")
    for table, columns in (("tenants", ["purging"]), ("files", ["released_at", "checked", "solo", "group_n", "expired"]),
                           ("runs", ["n_files", "rows_parsed", "rows_loaded", "rows_rejected", "pruned"])):
        for column in columns:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    db.execute("UPDATE meta SET value='1'")
    db.commit()
    db.close()
    home.up()
    assert home.files() == before
    home.drop("again.csv", "a\n1\n")
    home.drop("new.csv", "a\n2\n")
    home.wait_files(3)
    assert {f["file_name"]: f["state"] for f in home.files()} == {"old.csv": "ingested", "again.csv": "duplicate", "new.csv": "ingested"}
    db = sqlite3.connect(home.path / "state/ledger.db")
    assert db.execute("SELECT value FROM meta").fetchall() == [("7",)]
    db.close()


def test_a_ledger_of_version_2_and_a_book_of_its_time_are_brought_up_to_date(home):
    home.streams("s")
    home.tenant("beta")
    home.up()
    home.drop("old.csv", "a\n1\n", "beta")
    before = [{**f, "rows_repaired": None} for f in home.wait_files(1)], [{**r, "network_refused": None} for r in home.rows("runs")]
    home.down()
    older_ledger(home)
    with change(home.path / "state/streams.db") as db:
        db.execute("ALTER TABLE instances DROP COLUMN network_refused")
        db.execute("INSERT INTO instances(run_id, tenant, app, generation, attempt, state, started_at) VALUES('old', 'acme', 'a', 1, 1, 'ended', 1)")
    home.up()
    assert (home.path / "state/ledger.db").read_bytes()[20] == 4, "checksums"
    runs = home.rows("runs")
    assert (home.files(), [r for r in runs if r["run_id"] != "old"]) == before
    assert [r["network_refused"] for r in runs if r["run_id"] == "old"] == [None]
    home.drop("new.csv", "a\n2\n", "beta")
    home.wait_files(2)
    assert [r["network_refused"] for r in home.rows("runs", "--tenant", "beta")] == [None, 0 if IS_ROOT else None]


def test_two_ups_on_one_home(home):
    home.up()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "another up already works on" in r.stderr
    assert home.control({"op": "status"})["ok"]


def test_what_is_asked_of_a_program_that_starts_is_answered_once_it_runs(home):
    home.tenant()
    home.up()
    for program, *args in (("monitor", "top", "--once", "--json"), ("broker", "queue", "list", "--json"), ("broker", "dead", "list", "--json"),
                           ("streammgr", "app", "list", "--json"), ("batchmgr", "retry", "--tenant", "acme"), ("batchmgr", "reload"), ("broker", "reload")):
        for _ in range(2):
            home.kill(program)
            assert home.cli(*args).stderr == "", (program, args)
    home.drop("x.csv", "a\n1\n")
    (home.base / "y.csv").write_text("a\n2\n")
    home.kill("batchmgr")
    assert home.cli("upload", "acme", "data", home.base / "y.csv").stderr == ""
    home.wait_files(2)


def test_listings_of_a_store_that_starts_do_not_stop_it(home):
    """The broker's store has one user: listings of a home that is down and `up` take turns."""
    home.up()
    home.down()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        listings = [pool.submit(home.cli, "queue", "list", "--json", check=False) for _ in range(12)]
        home.up()
        assert [f.result().stderr for f in listings] == [""] * 12
    assert home.rows("queue", "list") == []


def test_a_program_that_cannot_start_is_named_to_who_asks_it(home):
    home.up()
    conf = home.path / "conf/mysimbdp.conf"
    good = conf.read_text()
    conf.write_text("platform = {")
    home.kill("monitor")
    began = time.monotonic()
    r = home.cli("top", "--once", check=False)
    assert r.returncode == 1 and "monitor is down" in r.stderr and "logs/monitor.log" in r.stderr and 5 < time.monotonic() - began < 30
    conf.write_text(good)
    home.cli("top", "--once")


def test_several_homes_do_not_disturb_each_other(make_home):
    one, two = make_home(), make_home()
    for h in (one, two):
        h.tenant()
        h.up()
        h.drop("x.csv", f"a\n{h.path}\n")
    assert one.wait_file()["state"] == "ingested" and two.wait_file()["state"] == "ingested"
    two.down()
    assert one.control({"op": "status"})["ok"] and one.count() == 1


def test_a_missing_mongodb_is_named_and_files_wait(make_home):
    home = make_home()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    home.env["MONGO_URL"] = f"mongodb://127.0.0.1:{port}/"
    home.tenant()
    home.up()
    home.drop("x.csv", "a\n1\n")
    until(lambda: home.files(state="queued"), home.path / "state")
    status = home.control({"op": "status"})
    assert status["database"] == "down" and str(port) in status["database_error"]
    assert not home.rows("runs")
    home.kill_batchmgr()
    assert home.files()[0]["state"] == "queued"


def test_no_mongodb_at_all_is_said(home):
    home.env.pop("MONGO_URL")
    lonely = home.base / "bin"
    lonely.mkdir()
    for name in ("mysimbdp", "batchmgr", "simbdp-run", "simbdp-warden", "simbdp-load", "simbdp-inspect"):
        shutil.copy(BUILD / name, lonely / name)
    r = subprocess.run([lonely / "mysimbdp", "up"], env=home.env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "scripts/setup" in r.stderr and "no MongoDB" in r.stderr


def test_a_url_that_may_not_make_users_is_refused_unless_shared(make_home):
    home = make_home()
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("allow_shared_credentials = true", "allow_shared_credentials = false"))
    home.tenant()
    home.up()
    status = until(lambda: (lambda s: s if "create users" in (s["database_error"] or "") else None)(home.control({"op": "status"})),
                   home.path / "state", what="the refusal")
    assert status["database"] == "down" and "allow_shared_credentials" in status["database_error"]


@pytest.fixture
def embedded(make_home):
    """A home with the embedded MongoDB that `up` starts itself."""
    home = make_home()
    home.env.pop("MONGO_URL")
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("allow_shared_credentials = true", "allow_shared_credentials = false"))
    return home


def test_the_embedded_mongodb_keeps_tenants_apart(embedded):
    home = embedded
    home.tenant(exec_="misbehave")
    home.tenant("other")
    home.up()
    home.drop("x.csv", "a\n1\n", "other")
    assert home.wait_file(tenant_id="other")["state"] == "ingested"
    home.do("env")
    f = home.wait_file(tenant_id="acme")
    url = next(line[len("env MONGO_URL="):] for line in home.log_of(f["run_id"]).splitlines() if line.startswith("env MONGO_URL="))
    mine = pymongo.MongoClient(url)
    mine[home.db_of["acme"]].t.insert_one({"x": 1})
    for action in (lambda: mine[home.db_of["other"]].data.find_one(), lambda: mine[home.db_of["other"]].data.insert_one({}),
                   lambda: mine.drop_database(home.db_of["other"]),
                   lambda: list(mine[home.db_of["acme"]].t.aggregate([{"$out": {"db": home.db_of["other"], "coll": "y"}}]))):
        with pytest.raises(pymongo.errors.OperationFailure):
            action()
    endpoints = json.loads((home.path / "state/endpoints.json").read_text())
    assert os.stat(home.path / "state/endpoints.json").st_mode & 0o777 == 0o600
    assert mine.list_database_names() == [home.db_of["acme"]]
    stranger = pymongo.MongoClient("mongodb://" + endpoints["mongo_url"].split("@")[1].split("/")[0])
    with pytest.raises(pymongo.errors.OperationFailure):
        stranger[home.db_of["acme"]].t.find_one()
    everything = pymongo.MongoClient(endpoints["mongo_url"])
    assert everything[home.db_of["other"]].data.count_documents({}) == 1
    home.down()
    assert not (home.path / "state/endpoints.json").exists()


def test_the_embedded_mongodb_loses_nothing_it_acknowledged(embedded):
    home = embedded
    home.tenant()
    home.up()
    url = json.loads((home.path / "state/endpoints.json").read_text())["mongo_url"]
    stored = 0
    for round_ in range(3):
        pid = home.pids("java")[0]
        client = pymongo.MongoClient(url, serverSelectionTimeoutMS=20000)
        for i in range(20):
            client.x.t.insert_many([{"r": round_, "i": i * 100 + k} for k in range(100)])
            stored += 100
        os.kill(pid, signal.SIGKILL)
        until(lambda: home.pids("java") not in ([pid], []), home.path / "state", what="the next MongoDB")
        assert pymongo.MongoClient(url, serverSelectionTimeoutMS=20000).x.t.count_documents({}) == stored
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"


def test_a_port_in_use_is_replaced_when_no_run_is_live(embedded):
    home = embedded
    home.tenant()
    home.up()
    home.down()
    port = int((home.path / "state/mongo.port").read_text())
    home.up()
    assert int((home.path / "state/mongo.port").read_text()) == port  # kept
    home.down()
    with socket.socket() as s:
        s.bind(("127.0.0.1", port))
        s.listen()
        home.up()
        assert int((home.path / "state/mongo.port").read_text()) != port
        home.down()


def test_a_port_in_use_is_named_while_runs_are_live(embedded):
    home = embedded
    home.tenant(exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}")
    home.wait_running()
    home.down("--leave-runs")
    port = int((home.path / "state/mongo.port").read_text())
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind(("127.0.0.1", port))
        s.listen()
        r = home.cli("up", check=False)
        assert r.returncode == 1 and str(port) in r.stderr and "in use" in r.stderr
    gate.touch()
    home.up()
    assert home.wait_file()["state"] == "ingested"


@pytest.mark.needs_root
def test_no_cgroups_is_named_and_refused_unless_allowed(make_home):
    """In a mount namespace without /sys/fs/cgroup."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this host does not let us make a mount namespace")
    home = make_home()
    home.tenant()
    hide = ["unshare", "-m", "sh", "-c", f"umount -R /sys/fs/cgroup 2>/dev/null || mount -t tmpfs none /sys/fs/cgroup; exec {BUILD}/mysimbdp up"]
    r = subprocess.run(hide, env=home.env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 1 and "cannot enforce" in r.stderr and "cgroup.memory_bytes" in r.stderr and "allow_missing_limits" in r.stderr
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("allow_missing_limits = false", "allow_missing_limits = true"))
    home.up_process = subprocess.Popen(hide, env=home.env, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert "ready" in home.up_process.stdout.readline()
    home.tenant("tree", exec_="misbehave")
    home.reload()
    home.do("daemon", "fork,3", "print,x", tenant="tree")
    f = home.wait_file(tenant_id="tree")
    assert f["state"] == "ingested" and home.marked(f["run_id"]) == []  # the tree is ended without cgroups too
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file(tenant_id="acme")["state"] == "ingested"


@pytest.mark.needs_root
def test_an_unprivileged_user_has_a_working_home(mongo):
    """init as non-root says what is missing; one tenant works."""
    base = pathlib.Path(subprocess.run(["mktemp", "-d", "/tmp/simbdp-user-XXXXXX"], capture_output=True, text=True).stdout.strip())
    try:
        os.chown(base, 65534, 65534)
        env = {"PATH": os.environ["PATH"], "MYSIMBDP_HOME": f"{base}/home", "MONGO_URL": mongo.url, "HOME": str(base)}
        user = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(RELEASE / "mysimbdp")]
        out = subprocess.run([*user, "init", f"{base}/home"], env=env, capture_output=True, text=True, check=True).stdout
        assert "allow_missing_limits" in out
        subprocess.run([*user, "tenant", "add", "solo"], env=env, check=True, capture_output=True)
        conf = base / "home/conf/mysimbdp.conf"
        conf.write_text(conf.read_text().replace("allow_missing_limits", "allow_shared_credentials = true; allow_missing_limits"))
        up = subprocess.Popen([*user, "up"], env=env, stdout=subprocess.PIPE, text=True)
        assert "ready" in up.stdout.readline()
        (base / "x.csv").write_text("a\n1\n")
        r = subprocess.run([*user, "upload", "solo", "data", f"{base}/x.csv", "--wait"], env=env, capture_output=True, text=True)
        assert "ingested" in r.stdout, r.stderr
        # A file of somebody else's: no lease and no chown for us, so it is watched for two seconds and copied.
        (base / "home/staging/solo/data/theirs.csv").write_text("a\n2\n")
        listing = [*user, "files", "--json"]
        until(lambda: '"file_name":"theirs.csv","size_bytes":4' in (out := subprocess.run(listing, env=env, capture_output=True, text=True).stdout)
              and out.count('"state":"ingested"') == 2, base / "home/state", what="the copied file")
        archived = list((base / "home/done/solo/data").glob("*/theirs.csv"))
        assert archived[0].stat().st_uid == 65534 and not (base / "home/staging/solo/data/theirs.csv").exists()
        subprocess.run([*user, "down"], env=env, check=True)
        assert up.wait(timeout=30) == 0
        up.stdout.close()
    finally:
        mongo.client.drop_database("solo")
        shutil.rmtree(base)


def test_a_killed_up_takes_its_programs_along_and_the_next_one_goes_on(embedded):
    home = embedded
    home.tenant(exec_="misbehave")
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", "exit,6")
    run = home.wait_running()[0]
    home.up_process.kill()
    home.up_process.wait()
    home.up_process.stdout.close()
    home.up()  # at once: the programs of the killed one are still ending
    assert home.rows("runs", run["run_id"])[0]["state"] == "running" and len(home.pids("java")) == 1
    gate.touch()
    home.wait_file()
    assert home.rows("runs", run["run_id"])[0]["exit_code"] == 6
