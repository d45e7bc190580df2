"""Every code block of README and docs/, run as it stands there: in order, in an empty directory that has a checkout's folders.

A block whose first two lines hold a comment with a file's name is that file; sh is run, all blocks of a page by one shell; conf is a
home's configuration. What cannot be run (a picture, a whole test run, what nobody types) is marked as text: no other block is left out."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import tomllib

import pytest
import zmq

from harness import ROOT, until
from web import settings

pytestmark = pytest.mark.anyone

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FILE = re.compile(r"^(?:#|/\*) ([a-z_]+[.](?:c|py|sh))\b", re.M)


def blocks(page):
    """(language, text) of each fenced block."""
    found, fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text(), re.S | re.M), page.read_text().count("```")
    assert len(found) * 2 == fences, f"{page.name}: a fence is not closed, or not at the beginning of its line"
    return found


def file_of(text):
    return FILE.search("\n".join(text.split("\n", 2)[:2]))


class Page:
    """The blocks of a page (or of some, one after the other), and which of them were run. Those for a machine that has nothing but curl
    ($API) are another machine's."""

    def __init__(self, name, home, *more, by_curl=False):
        self.home, self.todo = home, [b for n in (name, *more) for b in blocks(ROOT / n) if b[0] != "text" and ("$API" in b[1]) == by_curl]
        self.dir = home.base / "empty"
        self.dir.mkdir()
        for folder in ("build", "clientlib", "scripts", "tenants"):
            (self.dir / folder).symlink_to(ROOT / folder)
        self.log = self.dir / ".said"
        self.shell, self.marks = None, 0

    def start(self, **env):
        keep = {k: v for k, v in self.home.env.items() if k != "MONGO_URL"}
        self.shell = subprocess.Popen(["bash", "-eu"], cwd=self.dir, env={**keep, "MYSIMBDP_HOME": str(self.home.path), **env}, stdin=subprocess.PIPE,
                                      stdout=open(self.log, "w"), stderr=subprocess.STDOUT, text=True)

    def said(self):
        return self.log.read_text(errors="replace")

    def wait(self, word):
        until(lambda: word in self.said() or self.shell.poll() is not None, self.dir, timeout=180, what=lambda: f"{word}: {self.said()}")
        assert word in self.said(), self.said()

    def type(self, text):
        """As a person does: goes on when the prompt is there again."""
        self.marks += 1
        part = self.dir / f".block{self.marks}"
        part.write_text(text)
        self.shell.stdin.write(f". {part} </dev/null; echo '<<{self.marks}>>'\n")
        self.shell.stdin.flush()
        self.wait(f"<<{self.marks}>>")

    def next(self, language):
        """The next block, which has to be of that language; a file is written."""
        is_, text = self.todo.pop(0)
        assert is_ == language, f"a block of {is_} comes before one of {language}: {text}"
        name = file_of(text)
        if name:
            (self.dir / name[1]).write_text(text)
            return self.dir / name[1]
        return text

    def run_shell(self):
        """All blocks up to the end: files are written, commands typed."""
        while self.todo:
            language, text = self.todo[0]
            text = self.next(language)
            if isinstance(text, pathlib.Path):
                continue
            assert language == "sh", f"what is to be done with this block of {language}? {text}"
            before, background, after = text.partition("up &")
            self.type(before + background + (after.split("\n", 1)[0] if background else ""))
            if background:
                self.wait("mysimbdp: ready")
                self.type(after.split("\n", 1)[1])

    def end(self):
        assert self.todo == [], "not run"
        if self.shell:
            self.shell.communicate(timeout=60)
            assert self.shell.returncode == 0, self.said()

    def __enter__(self):
        return self

    def __exit__(self, *failure):
        if failure[0] and self.shell and self.shell.poll() is None:
            self.home.cli("down", check=False)
            self.shell.kill()
            self.shell.wait()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_each_page_has_a_test_that_runs_its_blocks(page):
    languages = {language for language, _ in blocks(page)}
    assert languages <= {"sh", "c", "python", "conf", "text"}, "what cannot be run is text"
    runnable = languages - {"text"}
    assert (page.name in RUN) == bool(runnable), f"{page.name}: {runnable}"


PATH = re.compile(r"(?<![\w/.{])((?:lib|programs|tests|scripts|docs|clientlib|tenants)/[\w./-]*\w)")
COMMENT = re.compile(r"/\*.*?\*/|^\s*#.*?$|\"\"\".*?\"\"\"", re.S | re.M)
SOURCES = [p for folder in ("lib", "programs", "clientlib", "tests", "scripts") for p in (ROOT / folder).rglob("*") if p.suffix in {".c", ".h", ".py", ".java", ".build"}]


def gone(text):
    """Paths of the repository that a text names and that are not there. A header or source may be named without its ending."""
    return [path for path in PATH.findall(text) if not (ROOT / path).exists() and not any((ROOT / f"{path}.{e}").exists() for e in "ch")]


def test_paths_that_docs_name_are_there():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text()
        assert not gone(" ".join(re.findall(r"`([^`\n]+)`", text))), page
        targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
        for target in targets:
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            heads = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", there.read_text(), re.M)} if anchor else {anchor}
            assert anchor in heads, f"{page.name}: {target}"


def test_what_is_promised_of_damage_is_made_of_its_table_and_each_promise_has_tests():
    """docs/reliability.md is written by scripts/reliability, of docs/reliability.toml and the last results."""
    r = subprocess.run([ROOT / "scripts/reliability", "--check"], capture_output=True, text=True)
    assert r.returncode == 0, "run scripts/reliability: the page is not what it would write\n" + r.stderr
    table = tomllib.loads((ROOT / "docs/reliability.toml").read_text())
    without = [e["what"] for section in table["section"] for e in section["entry"] if not e["tests"]]
    assert not without


def test_tests_that_docs_name_are_there():
    """`path::test_begins_so…`, always with the path."""
    for page in PAGES:
        for where, name in re.findall(r"`([^`\n]*)::(test_[^`\n]*)`", page.read_text()):
            assert re.search(rf"def {re.escape(name.rstrip('…'))}{'' if name.endswith('…') else '[(]'}", (ROOT / where).read_text()), f"{page.name}: {where}::{name}"


def test_modules_that_the_ways_name_are_there():
    """docs/files.md and docs/messages.md call the modules of a program by name: **intake**."""
    for page, heading, end, program in (("files.md", "## The modules", "###", "batchmgr"), ("messages.md", "Two storeys", "The upper one", "broker/store"), ("messages.md", "The upper one", "###", "broker"),
                                        ("messages.md", "## streammgr", "```", "streammgr"), ("messages.md", "## monitor", "Nothing of it", "monitor"), ("isolation.md", "## Managers are not root", "What a manager", "warden")):
        part = (ROOT / "docs" / page).read_text().split(heading, 1)[1].split(end, 1)[0]
        names = re.findall(r"\*\*([a-z_]+)\*\*", part)
        assert len(names) > 3 and not [n for n in names if not (ROOT / "programs" / program / f"{n}.c").exists()], names


def test_paths_that_comments_name_are_there():
    missing = {str(p.relative_to(ROOT)): g for p in SOURCES if (g := gone("\n".join(COMMENT.findall(p.read_text()))))}
    assert not missing


def test_files_that_comments_name_are_there():
    """By their names alone: x.h."""
    names = {p.name for p in SOURCES} | {"sysexits.h"}
    called = {(str(p.relative_to(ROOT)), n) for p in SOURCES if p.suffix in {".c", ".h"}
              for c in re.findall(r"/\*.*?\*/", p.read_text(), re.S) for n in re.findall(r"(?<![\w/<\".-])([a-z_]+[.][ch])\b", c)}
    assert not {(where, n) for where, n in called if n not in names}


def test_every_page_is_linked_and_fits_a_screen():
    pages = "\n".join(p.read_text() for p in PAGES)
    for page in PAGES[1:]:
        assert f"{page.name}" in pages.replace(page.read_text(), ""), f"nobody links {page.name}"
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
        wide = [line for line in prose.split("\n") if len(line) > 120 and not line.startswith(("|", "    "))]
        assert not wide, f"{page.name}: {wide[0]}"


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


def test_the_tenants_guide_with_nothing_but_curl(make_home):
    """What curl shows of an app and a file, from the upload to the bill."""
    home = make_home(platform=settings(tls=True))
    home.tenant("acme", apps='{ app = "clean"; exec = "clean.sh"; output = "stdout"; trigger = "manual"; datasets = ("readings"); }', tenant='allow = ("apps");')
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('"data"', '"readings"'))
    home.install("acme", "/bin/true", "clean.sh")
    home.up()
    home.cli("user", "add", "dora", "--role", "tenant-deployer", "--tenant", "acme", input="correct horse battery\n")
    (token,) = home.rows("token", "add", "dora")
    url = json.loads((home.path / "state/endpoints.json").read_text())["gateway"]["http"]
    with Page("docs/tenant-guide.md", home, by_curl=True) as page:
        shutil.copy(home.path / "keys/gateway.crt", page.dir)
        page.start(API=f"{url}/v1/tenants/acme", TOKEN=token["token"], PATH="/usr/bin:/bin", MYSIMBDP_HOME="/nowhere")
        page.run_shell()
        page.end()
        said = page.said()
    for word in ('"active":true', '"reason":"trigger"', '"state":"ingested"', '"rows_rejected":1', "cleaning readings", "LNZ"):
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
    home = make_home()
    page = Page("docs/operations.md", home)
    for _ in range(3):  # alerts, webhooks, a collector
        (home.path / "conf/mysimbdp.conf").write_text(page.next("conf"))
        r = home.cli("check")
        assert "warning" not in r.stdout.replace("/usr/local/bin/page", ""), r.stdout
    page.end()


RUN = {"README.md", "tenant-guide.md", "tenant-streams.md", "wire.md", "reports.md", "operations.md"}
