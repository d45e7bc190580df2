"""Debian packages in a clean root: installed, used, upgraded, removed, purged. Minutes, and the net: scripts/test --all."""
import json
import re
import shutil
import subprocess

import pytest

from docs_blocks import blocks_below
from harness import ROOT
from packages import PACKAGES, built

pytestmark = [pytest.mark.soak, pytest.mark.needs_root, pytest.mark.anyone, pytest.mark.timeout(3600)]
HOME = "/var/lib/mysimbdp/homes/main"  # docs/install.md
# A machine without systemd: `up` until it is ready.
SYSTEMCTL = f"""#!/bin/sh
[ "$*" = "enable --now mysimbdp@main" ] || exit 1
mkfifo /ready; MYSIMBDP_HOME={HOME} mysimbdp up >/ready 2>/err & exec 3</ready; read -r line <&3; rm /ready
"""


class Clean:
    """A Debian of its own, in a mount namespace of its own each time something runs there."""

    def __init__(self, path):
        self.path = path
        subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates,debconf,init-system-helpers", "bookworm", str(path)],
                       check=True, capture_output=True)
        self.script("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
        (path / "etc/apt/apt.conf.d/50test").write_text('APT::Get::Assume-Yes "true"; APT::Install-Recommends "false";\n')
        (path / "packages").mkdir()

    def script(self, name, text):
        (self.path / name).write_text(text)
        (self.path / name).chmod(0o755)

    def run(self, script, check=True, timeout=1200):
        enter = f"""
            mount --make-rprivate / && mount --bind {self.path} {self.path} && cd {self.path} || exit 99
            mount --rbind /proc proc && mount --rbind /sys sys && mount --rbind /dev dev && cp /etc/resolv.conf etc/ || exit 99
            mkdir -p old && pivot_root . old && umount -l /old && exec /bin/bash -c "$SCRIPT" """
        r = subprocess.run(["unshare", "-m", "bash", "-c", enter], capture_output=True, text=True, timeout=timeout, stdin=subprocess.DEVNULL,
                           env={"SCRIPT": script, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"})
        assert not check or r.returncode == 0, r.stdout[-4000:] + r.stderr[-4000:]
        return r

    def bring(self, where):
        for old in (self.path / "packages").iterdir():
            old.unlink()
        for deb in where.glob("*.deb"):
            shutil.copy(deb, self.path / "packages")


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """The packages, and the same ones under a later version: (version, where they are) of both."""
    built()
    first = (ROOT / "debian/changelog").read_text().split("(", 1)[1].split(")", 1)[0]
    second, later = first + "+later", tmp_path_factory.mktemp("later")
    for deb in PACKAGES.glob(f"*_{first}_*.deb"):
        tree = tmp_path_factory.mktemp("deb") / "tree"
        subprocess.run(["dpkg-deb", "-R", str(deb), str(tree)], check=True)
        control = tree / "DEBIAN/control"
        control.write_text(control.read_text().replace(f"Version: {first}\n", f"Version: {second}\n").replace(f"(= {first})", f"(= {second})"))
        subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(tree), str(later / deb.name.replace(f"_{first}_", f"_{second}_"))], check=True, capture_output=True)
    return (first, PACKAGES), (second, later)


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    if not shutil.which("debootstrap"):
        pytest.skip("nothing to install from: debootstrap is not here")
    path = tmp_path_factory.mktemp("debian") / "root"
    yield Clean(path)
    shutil.rmtree(path.parent, ignore_errors=True)


def test_lintian_finds_nothing(versions):
    if not shutil.which("lintian"):
        pytest.skip("nothing to install from: lintian is not here")
    changes = next(PACKAGES.glob(f"*_{versions[0][0]}_*.changes"))
    r = subprocess.run(["lintian", "--allow-root", "--fail-on", "error,warning", str(changes)], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout


def use(clean, tenant):
    """A tenant's file, from `up` to `down`, with the embedded MongoDB of the package."""
    return clean.run(f"""
        set -e
        cd /; mysimbdp tenant add {tenant} >/dev/null
        printf 'datasets = ( {{ name = "d"; format = "csv"; collection = "d"; }} ); batch = ( {{ app = "load"; exec = "builtin:load"; }} );' > {HOME}/conf/tenants/{tenant}.conf
        mkfifo /said; mysimbdp up > /said 2>/err & exec 3</said; read -r line <&3
        printf 'a,b\\n1,{tenant}\\n' > /f.csv
        mysimbdp upload {tenant} d /f.csv --wait >/dev/null
        mysimbdp verify >&2
        mysimbdp files --json
        mysimbdp down >&2; wait; rm -f /said""".replace("mysimbdp ", "MYSIMBDP_HOME=" + HOME + " mysimbdp "))


def test_installed_used_upgraded_removed_and_purged(clean, versions):
    clean.bring(versions[0][1])
    (commands,) = blocks_below("docs/install.md", "Debian 12 packages")
    packages, install, *start = commands.splitlines(keepends=True)
    assert packages.split()[0] == "scripts/packages"
    clean.run("apt-get update -q && mkdir /tree /tree/build && ln -s /packages /tree/build/packages && cd /tree && " + install)
    clean.run("apt-get install -y -q --no-install-recommends "
              "/packages/libsimbdp1_*.deb /packages/libsimbdp-dev_*.deb /packages/python3-simbdp_*.deb gcc libc6-dev pkg-config procps")
    # Nothing runs, nothing is to be started at boot.
    assert clean.run("ls /etc/systemd/system/*.wants | grep mysimbdp; ls -A /var/lib/mysimbdp/homes", check=False).stdout.strip() == ""
    clean.script("usr/bin/systemctl", SYSTEMCTL)
    said = clean.run("set -e; " + "".join(start) + f"MYSIMBDP_HOME={HOME} mysimbdp down; rm /usr/bin/systemctl").stdout
    assert re.search(r"^batchmgr: pid \d+", said, re.M), said
    files = [json.loads(line) for line in use(clean, "acme").stdout.splitlines()]
    assert [f["state"] for f in files] == ["ingested"], files
    clean.run("""printf '#include <simbdp.h>\\nint main(void) { char e[SIMBDP_ERROR_BYTES]; struct simbdp *r; return simbdp_open(&r, e, sizeof e) == 0; }' > /a.c
              gcc -Wall -Werror -o /a /a.c $(pkg-config --cflags --libs simbdp) && /a && python3 -c 'import simbdp; assert simbdp.version()'""")
    # Upgraded: what was there is known, and more comes.
    clean.bring(versions[1][1])
    clean.run("apt-get install -y -q --no-install-recommends /packages/*.deb")
    assert clean.run("dpkg-query -W -f '${Version}' mysimbdp").stdout == versions[1][0]
    files = [json.loads(line) for line in use(clean, "beta").stdout.splitlines()]
    assert sorted((f["tenant_id"], f["state"]) for f in files) == [("acme", "ingested"), ("beta", "ingested")], files
    # Removed: the programs are gone, the data is not.
    clean.run("apt-get remove -y -q mysimbdp mysimbdp-embedded-mongo")
    assert not (clean.path / "usr/bin/mysimbdp").exists() and not (clean.path / "usr/libexec/mysimbdp").exists()
    assert (clean.path / HOME[1:] / "state/ledger.db").exists()
    # Purged: not without a word, and the word may be yes.
    clean.run("dpkg --purge mysimbdp-embedded-mongo; dpkg --purge mysimbdp")
    assert (clean.path / HOME[1:] / "state/ledger.db").exists()
    clean.bring(versions[1][1])
    clean.run("apt-get install -y -q --no-install-recommends /packages/mysimbdp_*.deb")
    clean.run("echo 'mysimbdp mysimbdp/purge-homes boolean true' | debconf-set-selections; dpkg --purge mysimbdp")
    assert not (clean.path / "var/lib/mysimbdp").exists()
