"""Delivery by OpenSSH's internal-sftp, set up as docs/operations.md says, word for word."""
import os
import shutil
import socket
import subprocess

import pytest

from docs_blocks import blocks_below
from harness import BUILD, free_port, until

pytestmark = pytest.mark.needs_root
SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")


class Server:
    """sshd in a mount namespace of its own, with an /etc of its own, which the guide's commands set up."""

    def __init__(self, home, tenant):
        (commands,), (settings,) = (blocks_below("docs/operations.md", "Delivery by SFTP", language) for language in ("sh", "sshd_config"))
        self.at, self.port, self.tenant = home.base / "ssh", free_port(), tenant
        self.at.mkdir()
        for name in ("host", "key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.at / name], check=True)
        shutil.copytree("/etc", self.at / "etc", symlinks=True)
        users = self.at / "etc/passwd"
        if "\nsshd:" not in users.read_text():
            users.write_text(users.read_text() + "sshd:x:64999:65534::/run/sshd:/usr/sbin/nologin\n")
        shutil.copy(self.at / "key.pub", self.at / f"{tenant}.pub")
        (self.at / "setup.sh").write_text(commands)
        (self.at / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {self.at}/host\nPidFile none\nUsePAM yes\nPasswordAuthentication no\n"
            f"Subsystem sftp /usr/lib/openssh/sftp-server\n{settings}")
        script = f"""set -e
mount --make-rprivate /
mount -t tmpfs -o mode=755 none /srv; mount -t tmpfs -o mode=755 none /run; mount --bind {self.at}/etc /etc
mkdir -p /run/sshd; cd {self.at}
PATH={BUILD}:/usr/sbin:/usr/bin:/sbin:/bin bash -e setup.sh
exec {SSHD} -D -e -f {self.at}/config"""
        self.log = self.at / "log"
        self.process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script], env=home.env, stdout=open(self.log, "w"), stderr=subprocess.STDOUT)
        until(self.listens, self.at, what=lambda: f"sshd: {self.log.read_text()}")

    def listens(self):
        assert self.process.poll() is None, self.log.read_text()
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def command(self, program, *args):
        return [program, "-F", "none", "-i", str(self.at / "key"), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
                "-o", "LogLevel=ERROR", "-o", f"Port={self.port}", *args]

    def sftp(self, *lines):
        """Whether all went well; what was printed."""
        r = subprocess.run(self.command("sftp", "-b", "-", f"{self.tenant}@127.0.0.1"), input="\n".join(lines) + "\n", capture_output=True, text=True, timeout=60, check=False)
        return r.returncode == 0, r.stdout + r.stderr

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=60)


@pytest.fixture
def served(make_home):
    if not SSHD:
        pytest.skip("no sshd here")
    home = make_home()
    for tenant in ("acme", "beta"):
        home.tenant(tenant)
    home.up()
    server = Server(home, "acme")
    yield home, server
    server.stop()


def put(served, name, text):
    path = served[0].base / name
    path.write_text(text)
    return path


def test_a_file_is_taken_when_it_has_its_name(served):
    home, server = served
    x = put(served, "x.csv", "a,b\n1,2\n")
    ok, out = server.sftp(f"put {x} data/x.csv.part", "ls data")
    assert ok and "data/x.csv.part" in out, (out, server.log.read_text())
    home.drop("later.csv", "a,b\n3,4\n")
    assert home.wait_file(file_name="later.csv")["state"] == "ingested"
    assert [f["file_name"] for f in home.files()] == ["later.csv"] and (home.path / "staging/acme/data/x.csv.part").exists()
    ok, out = server.sftp("rename data/x.csv.part data/x.csv")
    assert ok, out
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["tenant_id"], f["rows_loaded"]) == ("ingested", "acme", 1)
    assert os.stat(home.path / "staging/acme").st_mode & 0o7777 == 0o750 and os.stat(home.path / "staging/acme/data").st_mode & 0o7777 == 0o1770


def test_there_is_nothing_else(served):
    home, server = served
    x = put(served, "x.csv", "a,b\n1,2\n")
    for line, shown in (("ls -1 /", ["/staging"]), ("ls -1 /staging", ["/staging/data"]), ("ls -1 /staging/../..", ["/staging"])):
        ok, out = server.sftp(line)
        assert ok and [s.replace("/staging/../../", "/") for s in out.splitlines() if not s.startswith("sftp>")] == shown, (line, out)
    for line in ("cd /staging/../../beta", "cd /etc", f"put {x} /x.csv", f"put {x} /staging/x.csv", "mkdir /staging/other", f"ls {home.path}", "ls /staging/beta",
                 "rmdir /staging/data", "rename /staging/data /staging/other"):
        ok, out = server.sftp(line)
        assert not ok, (line, out)
    r = subprocess.run(server.command("ssh", "acme@127.0.0.1", "id"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert "uid=" not in r.stdout
    r = subprocess.run(server.command("ssh", "-W", f"127.0.0.1:{server.port}", "acme@127.0.0.1"), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False)
    assert r.returncode and "SSH-" not in r.stdout
