"""`meson install` below a prefix, without the source tree; and what a service manager is told."""
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import tempfile

import pytest
from docs_blocks import blocks_below
from harness import BUILD, RELEASE, until

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNITS = ("mysimbdp@.service", "mysimbdp-backup@.service", "mysimbdp-backup@.timer", "simbdp-cells.service")


@pytest.fixture(scope="module")
def prefix(tmp_path_factory):
    if not (RELEASE / "build.ninja").exists():
        pytest.skip("nothing to install from: this is a copy of the programs")
    to = tmp_path_factory.mktemp("root")
    subprocess.run(["meson", "install", "-C", str(RELEASE), "--no-rebuild", "--destdir", str(to)], check=True, capture_output=True)
    tmp = pathlib.Path(tempfile.gettempdir())
    for above in (to, *(p for p in to.parents if p.is_relative_to(tmp) and p != tmp)):
        above.chmod(0o755)
    moved = to / "elsewhere"  # what is installed finds itself wherever it lies
    (to / "usr/local").rename(moved)
    return moved


def test_programs_lie_beside_one_another_and_people_find_one(prefix):
    link = prefix / "bin/mysimbdp"
    assert os.readlink(link) == "../libexec/mysimbdp/mysimbdp" and [p.name for p in (prefix / "bin").iterdir()] == ["mysimbdp"]
    built = {p.name for p in RELEASE.iterdir() if p.is_file() and os.access(p, os.X_OK) and p.read_bytes()[:4] == b"\x7fELF"}
    installed = {p.name for p in (prefix / "libexec/mysimbdp").iterdir() if p.is_file()}
    assert installed == built, installed ^ built
    for name in ("share/mysimbdp/profiles.conf", "share/mysimbdp/prometheus/rules.yml", "share/mysimbdp/grafana/mysimbdp.json", "share/doc/mysimbdp/operations.md"):
        assert (prefix / name).is_file(), name


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_the_commands_of_the_page(tmp_path):
    """Of what is committed, with what was fetched before (docs/install.md)."""
    if not (ROOT / "build/embedded-mongo").exists():
        pytest.skip("nothing to install from: this is a copy of the programs")
    (commands,) = blocks_below("docs/install.md", "`meson install`")
    setup, *rest = commands.splitlines(keepends=True)
    assert re.match(r"scripts/setup +# or: .* and scripts/setup --fetch\n", setup)
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, tmp_path / "tree"], check=True)
    for have in ("embedded-mongo", "uplot"):
        shutil.copytree(ROOT / "build" / have, tmp_path / "tree/build" / have)
    r = subprocess.run(["bash", "-ec", "scripts/setup --fetch\n" + "".join(rest)], cwd=tmp_path / "tree", env={**os.environ, "DESTDIR": str(tmp_path / "root")}, capture_output=True, text=True)
    assert r.returncode == 0, r.stdout[-3000:] + r.stderr[-3000:]
    said = subprocess.run([tmp_path / "root/opt/mysimbdp/bin/mysimbdp", "--help"], capture_output=True, text=True, timeout=60)
    assert said.returncode == 0 and "usage: mysimbdp" in said.stdout


@pytest.mark.needs_root
def test_a_home_runs_without_the_source_tree(prefix, tmp_path):
    """In a mount namespace where the tree that it was built in is empty."""
    home = prefix.parent / "home"
    script = f"""
        mount --make-rprivate / && mount -t tmpfs none {ROOT} || exit 99
        cd / && export PATH={prefix}/bin:/usr/bin:/bin MYSIMBDP_HOME={home} && unset MONGO_URL
        mysimbdp init {home} >/dev/null && mysimbdp tenant add acme >/dev/null || exit 1
        printf 'datasets = ( {{ name = "d"; format = "csv"; collection = "d"; }} ); batch = ( {{ app = "load"; exec = "builtin:load"; }} );' > {home}/conf/tenants/acme.conf
        mkfifo {home}.said; mysimbdp up > {home}.said 2>{home}.err & exec 3<{home}.said; read -r line <&3
        printf 'a,b\\n1,2\\n' > {home}.csv
        mysimbdp upload acme d {home}.csv --wait; r=$?; mysimbdp doctor; mysimbdp verify || r=$?
        mysimbdp down; wait; exit $r"""
    r = subprocess.run(["unshare", "-m", "bash", "-c", script], capture_output=True, text=True, timeout=300)
    logs = "".join(p.read_text() for p in home.glob("logs/*.log")) if r.returncode else ""
    assert r.returncode == 0, r.stdout + r.stderr + logs[-4000:]
    assert "ingested" in r.stdout and str(ROOT) not in r.stdout
    shutil.rmtree(home)


def test_units_are_what_systemd_understands(prefix, tmp_path):
    if not shutil.which("systemd-analyze"):
        pytest.skip("nothing to install from: systemd-analyze is not here")
    for unit in UNITS:
        text = next(prefix.rglob(unit)).read_text()
        assert not re.search("@[a-z]+@", text)
        text = re.sub(r"(?m)^(Exec\w+=)\S+", r"\1/bin/true", text)
        text = re.sub(r"(?m)^Documentation=.*\n", "", text)
        (tmp_path / unit).write_text(text)
        r = subprocess.run(["systemd-analyze", "verify", "--man=no", str(tmp_path / unit)], capture_output=True, text=True)
        # Of systemd 254; before, it is ignored (docs/install.md).
        complaints = [line for line in r.stderr.splitlines() if str(tmp_path) in line and "DelegateSubgroup" not in line]
        assert not complaints, r.stderr


def test_the_fronts_unit_gives_it_little(prefix, tmp_path):
    """It runs as a user of its own that is not root, and systemd has little to say against the rest (of 10, where 10 is all)."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("nothing to install from: systemd-analyze is not here")
    text = next(prefix.rglob("simbdp-cells.service")).read_text()
    program = re.search(r"(?m)^ExecStart=(\S+)", text)[1]
    assert program.endswith("/libexec/mysimbdp/simbdp-cells") and "DynamicUser=yes" in text and "User=root" not in text
    unit = tmp_path / "simbdp-cells.service"
    unit.write_text(re.sub(r"(?m)^Documentation=.*\n", "", text))
    r = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", str(unit)], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout.splitlines()[-1:] + r.stderr.splitlines()
    # What it says it takes on its command line is what it takes.
    given = set(re.findall(r"--[a-z-]+", re.search(r"(?ms)^ExecStart=(.*?[^\\])$", text)[1]))
    known = subprocess.run([prefix / "libexec/mysimbdp/simbdp-cells", "--help"], capture_output=True, text=True, check=True).stdout
    assert given and all(f"{option} " in known for option in given), given


class Manager:
    """The socket of a service manager."""

    def __init__(self, name):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(name)
        self.socket.settimeout(60)
        self.heard = []

    def close(self):
        self.socket.close()

    def is_quiet(self, seconds):
        """Nothing new comes for so long."""
        self.socket.settimeout(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                self.socket.recv(4096)
        self.socket.settimeout(seconds)
        try:
            self.socket.recv(4096)
        except TimeoutError:
            return True
        finally:
            self.socket.settimeout(60)
        return False

    def wait_for(self, word):
        while not any(word in said for said in self.heard):
            self.heard.append(self.socket.recv(4096).decode())


@pytest.mark.parametrize("abstract", [False, True])
def test_a_service_manager_hears_when_it_is_ready_that_it_lives_and_when_it_stops(home, tmp_path, abstract):
    name = f"@simbdp-test-{os.getpid()}-{tmp_path.name}"[:90] if abstract else str(tmp_path / "notify")
    with contextlib.closing(Manager("\0" + name[1:] if abstract else name)) as manager:
        process = subprocess.Popen([BUILD / "mysimbdp", "up"], env={**home.env, "NOTIFY_SOCKET": name, "WATCHDOG_USEC": "200000"},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            manager.wait_for("READY=1")
            assert "STATUS=ready" in manager.heard[-1]
            manager.heard.clear()
            for _ in range(3):
                manager.wait_for("WATCHDOG=1")
                manager.heard.clear()
            for program in ("batchmgr", "broker"):
                for pid in home.pids(program):
                    environment = pathlib.Path(f"/proc/{pid}/environ").read_bytes()
                    assert b"NOTIFY_SOCKET" not in environment and b"WATCHDOG" not in environment
            # One that hangs is not heard of.
            os.kill(process.pid, signal.SIGSTOP)
            until(lambda: pathlib.Path(f"/proc/{process.pid}/stat").read_text().split()[2] == "T")
            assert manager.is_quiet(0.5)
            os.kill(process.pid, signal.SIGCONT)
            manager.wait_for("WATCHDOG=1")
        finally:
            os.kill(process.pid, signal.SIGCONT)
            process.terminate()
            assert process.wait(timeout=60) == 0
        manager.wait_for("STOPPING=1")


@pytest.mark.parametrize("name", ["/nowhere/at/all", "relative", "@", "/" + "x" * 200])
def test_a_manager_that_is_not_there_stops_nothing(home, name):
    process = subprocess.Popen([BUILD / "mysimbdp", "up"], env={**home.env, "NOTIFY_SOCKET": name}, stdout=subprocess.PIPE, text=True)
    try:
        assert "ready" in process.stdout.readline()
        assert json.loads(home.cli("status", "--json").stdout)
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
        process.stdout.close()
