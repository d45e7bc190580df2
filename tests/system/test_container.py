"""The Containerfile, by podman as an ordinary user: the platform is up in it, a file goes through, and doctor says what it lacks there.

No image can be pulled here: Debian 12 is made by debootstrap, and imported under the name that the Containerfile has."""
import pwd
import re
import shlex
import shutil
import subprocess

import pytest
from docs_blocks import blocks_below
from harness import IS_ROOT, ROOT, temp_dir, until

pytestmark = [pytest.mark.anyone, pytest.mark.soak, pytest.mark.needs_root, pytest.mark.timeout(3600)]
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
    base = temp_dir()
    p = Podman(base)
    yield p
    p.close()
    shutil.rmtree(base)


def context_of(podman):
    """What is committed, and what was fetched before."""
    context = podman.base / "context"
    subprocess.run(["git", "clone", "-q", "--no-hardlinks", ROOT, context], check=True)
    for have in ("embedded-mongo", "uplot"):
        shutil.copytree(ROOT / "build" / have, context / "build" / have)
    return context


# What the page's commands have besides, since no cgroup, no network of its own and no kernel's mounts are to be had here.
HERE = {"build": ["--pull=never", "--isolation", "chroot", "--network", "host"], "run": ["--cgroups=disabled", "--network", "none"], "exec": []}


def test_a_file_goes_through_in_a_container_of_an_ordinary_user(podman):
    tree = podman.base / "debian"
    subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates", "bookworm", str(tree)], check=True, capture_output=True, cwd="/tmp")
    subprocess.run(["tar", "-C", tree, "--numeric-owner", "-cf", podman.base / "debian.tar", "."], check=True)
    podman.run("import", "-q", podman.base / "debian.tar", "docker.io/library/debian:12")
    (commands,) = blocks_below("docs/install.md", "In a container")
    (build, *build_args), (start, *start_args), (look, *look_args) = (shlex.split(line)[1:] for line in commands.splitlines())
    assert (build, start, look) == ("build", "run", "exec") and build_args.pop() == "."
    podman.run(build, *HERE[build], *build_args, context_of(podman), timeout=3000)
    podman.run(start, *HERE[start], *start_args)

    def inside(*command, check=True):
        return podman.run("exec", "mysimbdp", *command, check=check)
    until(lambda: "mysimbdp: ready" in podman.run("logs", "mysimbdp"), what=lambda: podman.run("logs", "mysimbdp"))
    assert inside("id", "-un").strip() == "simbdp"
    there = inside("sh", "-c", "for c in gcc cc javac make git dpkg-buildpackage; do command -v $c; done; echo all")
    assert there.strip() == "all", "what compiles stays in the first stage"
    size = int(podman.run("image", "inspect", "mysimbdp", "--format", "{{.Size}}").split()[-1])
    assert size < 520 << 20, f"{size >> 20} MiB"
    inside("sh", "-c", f"printf '%s' '{TENANT}' >$MYSIMBDP_HOME/conf/tenants/acme.conf && mysimbdp reload && printf 'v\\n1\\n2\\n' >/tmp/a.csv")
    inside("mysimbdp", "upload", "acme", "data", "/tmp/a.csv")
    until(lambda: '"state":"ingested"' in inside("mysimbdp", "files", "--json"), what="the file")
    said = podman.run(look, *look_args, check=False)
    for limit, is_there in (("wall_s = ", "enforced"), ("rlimits.nofile = ", "enforced"), ("cgroup.memory_bytes", "absent"), ("isolation = full", "absent")):
        assert re.search(rf"^{is_there} +limit +small: {re.escape(limit)}", said, re.M), said
    podman.run("stop", "-t", "60", "mysimbdp")
    assert podman.run("inspect", "mysimbdp", "--format", "{{.State.ExitCode}}").strip().endswith("0")
