"""The Containerfile, by podman as an ordinary user: the platform is up in it, a file goes through, and doctor says what it lacks there.

No image can be pulled here: Debian 12 is made by debootstrap, and imported under the name that the Containerfile has."""
import pwd
import re
import shutil
import subprocess

import pytest
from harness import IS_ROOT, ROOT, temp_dir, until

pytestmark = [pytest.mark.anyone, pytest.mark.soak, pytest.mark.needs_root]
USER = "simbdp-podman"
# crun knows no host that has cgroups of both versions: the second one is not seen there.
ALONE = 'for m in $(awk \'$3=="cgroup2" && $2!="/sys/fs/cgroup" {print $2}\' /proc/mounts); do umount "$m" || exit 1; done; exec "$@"'
TENANT = 'datasets = ( { name = "data"; format = "csv"; } ); batch = ( { app = "load"; exec = "builtin:load"; } );\n'


class Podman:
    def __init__(self, base):
        self.base = base
        try:
            pwd.getpwnam(USER)
            self.made = False
        except KeyError:
            subprocess.run(["useradd", "--no-create-home", USER], check=True)
            self.made = True
        self.home = base / "user"
        (self.home / "run").mkdir(parents=True, mode=0o700)
        subprocess.run(["chown", "-R", f"{USER}:{USER}", self.home], check=True)
        self.run("system", "migrate")

    def run(self, *args, check=True, timeout=600):
        command = ["unshare", "-m", "--propagation", "private", "sh", "-c", ALONE, "sh", "setpriv", f"--reuid={USER}", f"--regid={USER}", "--init-groups",
                   "podman", "--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none", *map(str, args)]
        r = subprocess.run(command, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": str(self.home), "XDG_RUNTIME_DIR": str(self.home / "run")}, cwd=self.home,
                           capture_output=True, text=True, timeout=timeout)
        assert not check or r.returncode == 0, f"podman {args}: {r.stdout}{r.stderr}"
        return r.stdout + r.stderr

    def close(self):
        self.run("system", "reset", "--force", check=False)
        self.run("system", "migrate", check=False)
        if self.made:
            subprocess.run(["userdel", USER], check=False)


@pytest.fixture
def podman():
    if not all(map(shutil.which, ("podman", "debootstrap", "crun", "newuidmap"))) or not IS_ROOT:
        pytest.skip("nothing to install from: podman or debootstrap is not here")
    packages = ROOT / "build/packages"
    if not any(packages.glob("mysimbdp_*.deb")):
        subprocess.run([ROOT / "scripts/packages"], check=True, capture_output=True)
    base = temp_dir()
    p = Podman(base)
    yield p
    p.close()
    shutil.rmtree(base)


def test_a_file_goes_through_in_a_container_of_an_ordinary_user(podman):
    tree, context = podman.base / "debian", podman.base / "context"
    subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(tree)], check=True, capture_output=True, cwd="/tmp")
    subprocess.run(["tar", "-C", tree, "--numeric-owner", "-cf", podman.base / "debian.tar", "."], check=True)
    (context / "build/packages").mkdir(parents=True)
    shutil.copy(ROOT / "Containerfile", context)
    for name in ("mysimbdp", "mysimbdp-embedded-mongo"):
        shutil.copy(max((ROOT / "build/packages").glob(f"{name}_*.deb")), context / "build/packages")
    podman.run("import", "-q", podman.base / "debian.tar", "docker.io/library/debian:12")
    podman.run("build", "--pull=never", "--isolation", "chroot", "--network", "host", "-t", "mysimbdp", context)
    podman.run("run", "-d", "--name", "one", "--cgroups=disabled", "--network", "none", "mysimbdp")

    def inside(*command, check=True):
        return podman.run("exec", "one", *command, check=check)
    until(lambda: "mysimbdp: ready" in podman.run("logs", "one"), what=lambda: podman.run("logs", "one"))
    assert inside("id", "-un").strip() == "simbdp"
    inside("sh", "-c", f"printf '%s' '{TENANT}' >$MYSIMBDP_HOME/conf/tenants/acme.conf && mysimbdp reload && printf 'v\\n1\\n2\\n' >/tmp/a.csv")
    inside("mysimbdp", "upload", "acme", "data", "/tmp/a.csv")
    until(lambda: '"state":"ingested"' in inside("mysimbdp", "files", "--json"), what="the file")
    said = inside("mysimbdp", "doctor", check=False)
    for limit, is_there in (("wall_s = ", "enforced"), ("rlimits.nofile = ", "enforced"), ("cgroup.memory_bytes", "absent"), ("isolation = full", "absent")):
        assert re.search(rf"^{is_there} +limit +small: {re.escape(limit)}", said, re.M), said
    podman.run("stop", "-t", "60", "one")
    assert podman.run("inspect", "one", "--format", "{{.State.ExitCode}}").strip().endswith("0")
