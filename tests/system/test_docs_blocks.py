"""Every code block of README, CONTRIBUTING and docs/ is run as it stands there, in order, in an empty directory that has a checkout's folders;
or it is read by whatever reads such a thing. docs_blocks.py says how, and which blocks are run by other tests."""
import json
import os
import re
import shutil
import subprocess

import pytest
import zmq

from docs_blocks import BY_CURL, ELSEWHERE, PAGES, Page, blocks
from harness import BUILD, ROOT, until
from web import settings

pytestmark = pytest.mark.anyone

ALL = [*PAGES, ROOT / "CONTRIBUTING.md"]
RUN = {"README.md", "tenant-guide.md", "tenant-streams.md", "wire.md", "reports.md", "operations.md", "metrics.md", "CONTRIBUTING.md"}
# Pictures, by how they begin. Nothing else may be text.
PICTURES = {
    "README.md": [" tenant   "],
    "architecture.md": ["mysimbdp up\n ├"],
    "files.md": ["            commit row", "src (plain, gz, zst)"],
    "gateway.md": ["server.c (libmicrohttpd)", "batchmgr, streammgr, keepers"],
    "messages.md": ["publisher ──PUBLISH", "starting --claimed"],
}
LANGUAGES = {"sh", "c", "python", "conf", "usage", "console", "cron", "sshd_config", "text"}


@pytest.mark.parametrize("page", ALL, ids=lambda p: p.name)
def test_each_block_has_a_test_that_runs_it(page):
    """Those of conf, usage and cron are all taken by the tests below; pages that have others are in RUN, and exhausted there."""
    there = blocks(page.relative_to(ROOT))
    assert {b.language for b in there} <= LANGUAGES
    pictures = PICTURES.get(page.name, [])
    texts = [b for b in there if b.language == "text"]
    assert len(texts) == len(pictures) and all(b.text.startswith(p) for b, p in zip(texts, pictures)), f"text is for pictures, which are listed above: {texts}"
    assert (page.name in RUN) == any(b.language in ("sh", "c", "python") and not b.is_elsewhere for b in there)
    assert not [b for b in there if b.language in ("console", "sshd_config") and not b.is_elsewhere]


def test_blocks_that_other_tests_run_are_there_and_run_there():
    for (page, heading), test in ELSEWHERE.items():
        assert any(b.heading == heading and b.is_elsewhere for b in blocks(f"docs/{page}")), (page, heading)
        assert f'"docs/{page}", "{heading}"' in (ROOT / test).read_text(), (test, page, heading)


CONF = [pytest.param(b, id=f"{b.page}-{b.heading}") for page in ALL for b in blocks(page.relative_to(ROOT)) if b.language == "conf"]


@pytest.mark.parametrize("block", CONF)
def test_a_configuration_is_one(home, block):
    files = {"# conf/profiles.conf": "conf/profiles.conf", "datasets": "conf/tenants/acme.conf"}
    (home.path / next((file for start, file in files.items() if block.text.startswith(start)), "conf/mysimbdp.conf")).write_text(block.text.replace("10.0.0.5", "127.0.0.1"))  # an address of this host
    r = home.cli("check")
    assert "warning" not in r.stdout.replace("/usr/local/bin/page", ""), r.stdout


def help_of(command):
    """What the program, or its verb, says of itself; the words of the line that are left."""
    words = command.split()
    line = [str(BUILD / words[0]), words[1]] if words[0] == "mysimbdp" else [str(ROOT / words[0])]
    r = subprocess.run([*line, "--help"], capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, (command, r.stderr)
    return r.stdout, words[len(line):]


def unknown_of(usage):
    """Options and words of lines of usage that `--help` does not have; words in capitals stand for others."""
    for line in usage.splitlines():
        if line.startswith(" "):
            continue
        command, _, text = line.partition("   ") if "   " in line else line.partition("  ")
        said, words = help_of(command)
        wanted = [w for word in words for w in re.split(r"[|\[\]]", word)] + re.findall(r"(?<![\w-])--\w[\w-]*", text)
        for w in wanted:
            if w and not w.isupper() and not w.isdigit() and w != "-" and not re.search(rf"(?<![\w-]){re.escape(w)}(?![\w-])", said):
                yield command, w


@pytest.mark.parametrize("page", [p for p in ALL if any(b.language == "usage" for b in blocks(p.relative_to(ROOT)))], ids=lambda p: p.name)
def test_usage_is_what_help_says(page):
    usage = [b.text for b in blocks(page.relative_to(ROOT)) if b.language == "usage"]
    assert usage and list(unknown_of("".join(usage))) == []


def test_usage_that_help_does_not_have_is_found():
    assert list(unknown_of("scripts/setup --asan   builds\nscripts/setup --rsan   builds\nscripts/lint   --fix: mends; --mend\nmysimbdp backup DIR [--slow]   backs up\n")) == [
        ("scripts/setup --rsan", "--rsan"), ("scripts/lint", "--mend"), ("mysimbdp backup DIR [--slow]", "--slow")]


def test_contributing_names_all_scripts():
    """Those that people start."""
    named = set(re.findall(r"^scripts/(\w+)", "".join(b.text for b in blocks("CONTRIBUTING.md") if b.language == "usage"), re.M))
    by_others = {"embed", "install-embedded-mongo", "demo-cluster"}  # meson, scripts/demo
    shown_in_readme = {"demo"}
    assert named == {p.name for p in (ROOT / "scripts").iterdir() if p.is_file() and os.access(p, os.X_OK)} - by_others - shown_in_readme


def test_tests_under_threadsanitizer_are_those_that_there_are():
    """CONTRIBUTING.md: what it starts takes minutes; what it selects is looked at."""
    (block,) = [b.text for b in blocks("CONTRIBUTING.md") if b.language == "sh"]
    setup, meson, pytest_line = block.splitlines()
    assert list(unknown_of(setup + "\n")) == [] and meson == "meson test -C build-tsan"
    r = subprocess.run(["sh", "-c", pytest_line.replace("build-tsan", "build").replace("-n 3 --dist loadgroup", "-p no:cacheprovider")], cwd=ROOT, capture_output=True, text=True,
                       env={**os.environ, "PYTEST_ADDOPTS": "--collect-only -qq", "PWD": str(ROOT)}, timeout=120)
    files = dict(re.findall(r"^(tests/[\w/.]+): (\d+)$", r.stdout, re.M))
    assert r.returncode == 0 and len(files) > 50 and sum(map(int, files.values())) > 1000, r.stdout[-2000:] + r.stderr
    (left_out,) = re.findall(r"--deselect (\S+)", pytest_line)
    assert (ROOT / left_out).exists() and left_out not in files


def test_a_line_for_cron_is_one_and_works(home):
    """Its five fields, a user, and a command for sh."""
    ((line,),) = [b.text.splitlines() for page in ALL for b in blocks(page.relative_to(ROOT)) if b.language == "cron"]
    minute, hour, day, month, weekday, user, command = line.split(None, 6)
    assert 0 <= int(minute) < 60 and 0 <= int(hour) < 24 and (day, month, weekday, user) == ("*", "*", "*", "root")
    command = command.replace("/var/backups", f"{home.base}/backups").replace("/srv/acme", str(home.path)).replace("/var/log", str(home.base))
    (home.base / "backups").mkdir()
    assert "%" not in command, "cron takes it for the end of a line"
    r = subprocess.run(["/bin/sh", "-c", command], env={"PATH": f"{BUILD}:/usr/bin:/bin", "ASAN_OPTIONS": home.env["ASAN_OPTIONS"]}, capture_output=True, text=True, timeout=120)
    log = (home.base / "mysimbdp-backup.log").read_text()
    assert r.returncode == 0 and not r.stdout and home.rows("backup", home.base / "backups/acme", "--list"), r.stderr + log


def test_the_readme(make_home):
    home = make_home()
    subprocess.run(["rm", "-rf", home.path], check=True)  # it makes its own
    with Page("README.md", home) as page:
        the_readme(home, page)


def the_readme(home, page):
    page.start()
    page.run_shell()
    files = {f["file_name"]: (f["state"], f["rows_loaded"]) for f in home.files()}
    assert files == {"readings.csv": ("ingested", 2), "readings2.csv": ("ingested", 2)}, page.said()
    queue = until(lambda: next((q for q in home.rows("queue", "list") if q["app"] == "store" and q["acked"] + q["dead"] == 2), None), home.path / "logs", what="both messages")
    assert (queue["acked"], queue["dead"]) == (1, 1)
    for word in ("columns (2)", "VIE", "2 rows, 0 rejected", "2 messages confirmed", "convert", "acme/store"):
        assert word in page.said(), page.said()
    page.type("mysimbdp down")
    page.end()


def test_the_tenants_guide(home):
    """Its apps are built, deployed and used."""
    home.tenant()
    home.profiles(rlimits="nofile = 256;")
    (home.path / "apps/acme").mkdir(exist_ok=True)
    with Page("docs/tenant-guide.md", home, "docs/tenant-streams.md") as page:
        page.start()
        page.run_shell()
        page.end()
    apps = home.path / "apps/acme"
    assert {p.name for p in apps.iterdir()} == {"shop", "load", "load.py", "simbdp.py", "libsimbdp.so.1", "celsius.sh", "consume", "consume.py", "publish.py"}
    database = home.db_of["acme"]
    (home.path / "conf/tenants/acme.conf").write_text(f'database = "{database}"; streams = ( {{ name = "events"; }} );\n'
        'datasets = ( { name = "c"; format = "csv"; }, { name = "py"; format = "csv"; }, { name = "consumed"; format = "json"; }, { name = "celsius"; format = "json"; } );\n'
        'batch = ( { app = "load"; exec = "load"; datasets = ("c"); }, { app = "load-py"; exec = "load.py"; datasets = ("py"); } );\n'
        'stream_apps = ( { app = "consume"; stream = "events"; exec = "consume"; dataset = "consumed"; }, { app = "consume-py"; stream = "events"; exec = "consume.py"; dataset = "consumed"; },\n'
        '  { app = "celsius"; stream = "events"; exec = "celsius.sh"; output = "stdout"; dataset = "celsius"; } );\n')
    home.up()
    for name in ("c", "py"):
        home.drop(f"{name}.csv", "v\n1\n2\n", dataset=name)
        f = home.wait_file(file_name=f"{name}.csv")
        assert (f["state"], f["rows_loaded"]) == ("ingested", 2), f
    assert {d["source"] for d in home.docs(collection="c")} == {"load.c"} and {d["source"] for d in home.docs(collection="py")} == {"acme"}
    env = {**os.environ, "ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_TENANT_ID": "acme"}
    r = subprocess.run(["/usr/bin/python3", apps / "publish.py"], env=env, capture_output=True, text=True, timeout=60)
    assert r.returncode == 0, r.stderr
    until(lambda: home.count(collection="consumed") == 2 and home.queue("celsius")["acked"] + home.queue("celsius")["dead"] == 1, home.path / "logs", what="the message, taken by all")
    assert {json.loads(d["text"])["station"] for d in home.docs(collection="consumed")} == {"OSL"}


GUIDE = '''
datasets = ( { name = "trips"; format = "csv"; collection = "trips"; }, { name = "readings"; format = "csv"; collection = "readings"; }, { name = "broken"; format = "csv"; } );
batch = ( { app = "trips"; exec = "builtin:load"; datasets = ("trips"); }, { app = "clean"; exec = "clean.sh"; output = "stdout"; trigger = "manual"; datasets = ("readings"); },
  { app = "broken"; exec = "broken.sh"; datasets = ("broken"); retry = { attempts = 1; }; }, { app = "load"; exec = "load.py"; trigger = "manual"; },
  { app = "convert"; exec = "convert"; trigger = "manual"; } );
streams = ( { name = "events"; } );
stream_apps = ( { app = "store"; stream = "events"; exec = "builtin:load"; dataset = "trips"; max_instances = 3; },
  { app = "watch"; stream = ""; exec = "watch.sh"; max_instances = 3; } );
'''


def guide_home(make_home):
    """With all that the guide's blocks name: a file that failed ($FILE_ID, its run $RUN_ID), and a dead letter ($DEAD_ID)."""
    home = make_home(platform=settings(tls=True))
    home.tenant("acme")
    home.profiles(rlimits="nofile = 256;")
    (home.path / "conf/tenants/acme.conf").write_text(f'database = "{home.db_of["acme"]}"; concurrency = 4; allow = ("apps", "datasets", "streams"); max_own_instances = 3;\n{GUIDE}')
    for app in ("clean.sh", "load.py", "convert"):
        home.install("acme", "/bin/true", app)
    for app, does in (("broken.sh", "echo what it printed; exit 1"), ("watch.sh", "exec sleep 600")):
        path = home.path / "apps/acme" / app
        path.write_text(f"#!/bin/sh\n{does}\n")
        path.chmod(0o755)
    home.up()
    home.drop("failed.csv", "v\n1\n", dataset="broken")
    failed = home.wait_file(file_name="failed.csv")
    assert failed["state"] == "quarantined"
    (home.base / "lines").write_text("no JSON\nneither\n")
    home.cli("publish", "acme/events", str(home.base / "lines"))
    dead = until(lambda: (d := home.rows("dead", "list")) and len(d) == 2 and d, home.path / "logs", what="two dead letters")
    home.cli("user", "add", "dora", "--role", "tenant-deployer", "--tenant", "acme", input="correct horse battery\n")
    (token,) = home.rows("token", "add", "dora")
    url = json.loads((home.path / "state/endpoints.json").read_text())["gateway"]["http"]
    return home, url, token["token"], {"FILE_ID": failed["file_id"], "RUN_ID": failed["run_id"], "DEAD_ID": f'{dead[0]["seq"]}.store'}


# What shows something until somebody ends it: when a line is there. Something happens until then.
WATCHED = """mysimbdp() { case " $* " in *" --watch "*|" events -f ") watched "$@" ;; *) command mysimbdp "$@" ;; esac; }
watched() {
    coproc W { exec mysimbdp "$@"; }
    local pid=$W_PID line
    until read -t 1 -r line <&"${W[0]}"; do printf 'again\n%s\n' "$RANDOM" >again.csv; command mysimbdp upload again.csv --dataset trips; done >/dev/null 2>&1
    echo "$1 showed: $line"; kill "$pid"; wait "$pid" 2>/dev/null || [ $? = 143 ]
}
"""


def test_the_tenants_guide_from_your_own_machine(make_home):
    home, url, token, ids = guide_home(make_home)
    with Page("docs/tenant-guide.md", home, of=lambda b: (f"docs/{b.page}", b.heading) == ("docs/tenant-guide.md", "From your own machine"), typed=token + "\n") as page:
        shutil.copy(home.path / "keys/gateway.crt", page.dir)
        for name, text in (("more.csv", "a,b\n1,2\n"), ("trips/one.csv", "a,b\n3,4\n"), ("messages.ndjson", '{"m":1}\n{"m":2}\n'), ("convert/convert", "#!/bin/sh\nexit 0\n"), ("first", "#!/bin/sh\n")):
            (page.dir / name).parent.mkdir(exist_ok=True)
            (page.dir / name).write_text(text)
        for name in ("convert/convert", "first"):
            (page.dir / name).chmod(0o755)
        page.start(URL=url, MYSIMBDP_HOME=None, PATH=f"{BUILD}:/usr/bin:/bin", **ids)
        setup, rest = page.todo[0].text.split("mysimbdp whoami", 1)
        page.type(setup)
        page.type("mysimbdp app push convert first --activate\n" + WATCHED)
        page.todo[0].text = "mysimbdp whoami" + rest
        page.run_shell()
        page.end()
        said = page.said()
    for word in ("tenant-deployer", "2 of 2 files sent", "what it printed", "files showed: ", "events showed: ", "2 messages confirmed", "2 dead letters", "before it: "):
        assert word in said, (word, said)


def test_the_tenants_guide_with_nothing_but_curl(make_home):
    """What curl shows of an app and a file, from the upload to the bill; of streams; of what a tenant configures itself."""
    home, url, token, ids = guide_home(make_home)
    with Page("docs/tenant-guide.md", home, "docs/tenant-streams.md", of=lambda b: b.heading in BY_CURL) as page:
        shutil.copy(home.path / "keys/gateway.crt", page.dir)
        for name, text in (("trips.csv", "a,b\n1,2\n"), ("messages.ndjson", '{"a":1}\n{"a":2}\n'), ("load.py", "#!/usr/bin/python3\n"), ("words.txt", "w\n"), ("requirements.txt", "")):
            (page.dir / name).write_text(text)
        (page.dir / "load.py").chmod(0o755)
        page.start(API=f"{url}/v1/tenants/acme", TOKEN=token, PATH="/usr/bin:/bin", MYSIMBDP_HOME="/nowhere", **ids)
        page.type('curl -sS --fail-with-body --cacert gateway.crt -H "Authorization: Bearer $TOKEN" -T load.py "$API/apps/load/versions?activate=1"')  # one that may be gone back to
        page.run_shell()
        page.end()
        said = page.said()
    for word in ('"active":true', '"reason":"trigger"', '"state":"ingested"', '"rows_rejected":1', "cleaning readings", "LNZ", "what it printed"):
        assert word in said, (word, said)
    assert sorted(d["station"] for d in home.docs(collection="readings")) == ["GRZ", "VIE"]


def test_the_wire_page(home, tmp_path):
    """What its programs do when the broker dies is in tests/fault/test_streams.py."""
    page = Page("docs/wire.md", home)
    publisher, consumer = page.next("python"), page.next("python")
    page.end()
    home.streams("events")
    home.broker()
    c = subprocess.Popen(["/usr/bin/python3", consumer, home.endpoint, "acme/events", "consume"], stdout=subprocess.PIPE, text=True)
    r = subprocess.run(["/usr/bin/python3", publisher, home.endpoint, "acme/events"], input="one\ntwo\n", text=True, timeout=60)
    assert r.returncode == 0 and [c.stdout.readline() for _ in range(2)] == ["one\n", "two\n"]
    c.kill()
    c.wait()


def test_the_page_of_reports(home, tmp_path):
    page = Page("docs/reports.md", home)
    report = page.next("python")
    page.end()
    with zmq.Context() as context, context.socket(zmq.PULL) as socket:
        socket.bind(f"ipc://{tmp_path}/monitor.ipc")
        env = {**os.environ, "ZMQ_MONITOR_ENDPOINT": f"ipc://{tmp_path}/monitor.ipc", "SIMBDP_APP": "load", "SIMBDP_TENANT_ID": "acme"}
        p = subprocess.Popen(["/usr/bin/python3", "-i", report], env=env, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        got = socket.recv_json() if socket.poll(60000) else None
        p.communicate()
    assert got == {"metrics": {"processing_rate": 120, "average_ingestion_time": 0.008}, "origin": {"streaming_app_id": "load", "tenant_id": "acme"}}


def test_the_page_of_operations(make_home):
    """Accounts, and a backup on its way elsewhere (age is not installed here)."""
    home = make_home()
    home.tenant()
    home.up()
    with Page("docs/operations.md", home, typed="correct horse battery\n") as page:
        page.program("age", '[ "$1" = -r ] && [ "$2" = age1example ] && exec cat')
        page.start(PATH=f"{page.dir}:{BUILD}:/usr/bin:/bin", KEY="age1example")
        accounts, revoke = page.todo[0].text.split("mysimbdp token revoke", 1)
        page.type(accounts)
        (token,) = home.rows("token", "list", "ann")
        page.todo[0].text = f'TOKEN_ID={token["token_id"]}; mysimbdp token revoke{revoke}'
        page.run_shell()
        page.end()
        said = page.said()
    for word in ("tenant-writer", "nightly export", "token_revoke"):
        assert word in said, (word, said)
    assert (token["verbs"], token["datasets"]) == (["read", "upload"], ["data"]) and home.rows("token", "list", "ann")[0]["revoked_at"]
    with open(home.base / "empty/home.tar.age", "rb") as tar:
        home.cli("restore", "-", home.base / "again", stdin=tar)
    assert (home.base / "again/state/home.json").exists()


def test_the_page_of_figures(make_home):
    home = make_home()
    with Page("docs/metrics.md", home, typed="correct horse battery\n") as page:
        page.start(PATH=f"{BUILD}:/usr/bin:/bin")
        page.run_shell()
        page.end()
    assert [t["verbs"] for t in home.rows("token", "list", "prometheus")] == [["admin"]]
