"""A Debian with systemd and pure cgroup v2, in qemu: the packages' unit, runs' groups and limits, `up` killed, a reload, a backup.

By emulation, since tests run in machines that have no other: ten minutes each. `guest.sh` is what the guest does; its output comes back on a
second disk."""
import json
import pathlib
import shutil
import subprocess
import tarfile

import pytest
from harness import RELEASE, ROOT
from packages import PACKAGES, built

pytestmark = [pytest.mark.soak, pytest.mark.needs_root, pytest.mark.anyone, pytest.mark.timeout(5400)]
UNIT = """[Unit]
After=multi-user.target
[Service]
Type=oneshot
ExecStart=/guest.sh
TimeoutStartSec=infinity
"""
MIRROR = "http://deb.debian.org/debian"


def make_root(path, backports):
    """A Debian 12 with the packages; with backports, its systemd is one that has DelegateSubgroup=."""
    subprocess.run(["debootstrap", "--variant=minbase", "--include=ca-certificates,init-system-helpers,systemd,systemd-sysv,dbus,procps", "bookworm", str(path)],
                   check=True, capture_output=True)
    (path / "etc/apt/sources.list").write_text(f"deb {MIRROR} bookworm main\ndeb {MIRROR} bookworm-backports main\n")
    shutil.copy("/etc/resolv.conf", path / "etc")
    (path / "packages").mkdir()
    for name in ("mysimbdp", "mysimbdp-embedded-mongo"):
        shutil.copy(max(PACKAGES.glob(f"{name}_*.deb"), key=lambda p: p.stat().st_mtime), path / "packages")
    newer = "apt-get install -y -q -t bookworm-backports systemd systemd-sysv udev" if backports else "true"
    script = f"""mount -t proc proc {path}/proc && exec chroot {path} sh -ec '
        apt-get update -q; {newer}
        apt-get install -y -q --no-install-recommends /packages/*.deb linux-image-cloud-amd64 initramfs-tools
        systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer systemd-networkd-wait-online.service'"""
    r = subprocess.run(["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                       env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"})
    assert r.returncode == 0, r.stdout[-2000:] + r.stderr[-2000:]
    shutil.copy(RELEASE / "tenants/misbehave", path / "misbehave")
    shutil.copy(ROOT / "tests/system/guest.sh", path / "guest.sh")
    (path / "guest.sh").chmod(0o755)
    (path / "etc/fstab").write_text("/dev/vda / ext4 defaults 0 1\n")
    (path / "etc/systemd/system/guest.service").write_text(UNIT)
    wants = path / "etc/systemd/system/graphical.target.wants"
    wants.mkdir(exist_ok=True)
    (wants / "guest.service").symlink_to("../guest.service")


def boot(root, where):
    """What the guest's steps said, by name: their exit code and their output."""
    disk, out = where / "disk", where / "out"
    subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", str(root), str(disk), "3G"], check=True)
    with open(out, "wb") as f:
        f.truncate(256 << 20)
    drive = "format=raw,if=virtio,cache=unsafe,file="
    with open(where / "console", "wb") as console:
        subprocess.run(["qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "3072", "-nographic", "-no-reboot", "-nic", "none",
                        "-kernel", str(next((root / "boot").glob("vmlinuz-*"))), "-initrd", str(next((root / "boot").glob("initrd.img-*"))),
                        "-append", "root=/dev/vda rw console=ttyS0 random.trust_cpu=on panic=-1 mitigations=off", "-device", "virtio-rng-pci",
                        "-drive", drive + str(disk), "-drive", drive + str(out)], stdin=subprocess.DEVNULL, stdout=console, stderr=console, check=True, timeout=3600)
    with tarfile.open(out) as tar:
        tar.extractall(where / "said")
    said = where / "said"
    return {p.stem: (int(p.read_text()), (said / p.stem).read_text(), (said / f"{p.stem}.err").read_text()) for p in said.glob("*.rc")}


@pytest.fixture(scope="module", params=[252, 254])
def guest(request, tmp_path_factory):
    for tool in ("qemu-system-x86_64", "debootstrap"):
        if not shutil.which(tool):
            pytest.skip(f"nothing to install from: {tool} is not here")
    built()
    where = pathlib.Path(tmp_path_factory.mktemp("systemd"))
    make_root(where / "root", request.param > 252)
    yield request.param, boot(where / "root", where)
    shutil.rmtree(where, ignore_errors=True)


def test_runs_are_limited_and_outlive_up_on_systemd_with_pure_cgroup_v2(guest):
    version, said = guest
    assert {name: said[name] for name in said if said[name][0]} == {}, "every step ended with 0"
    host = said["host"][1]
    assert f"systemd {version}" in host and "cgroup2fs" in host
    doctor = [line for line in said["doctor"][1].splitlines() if "cgroup." in line]
    assert len(doctor) == 4 and all(line.startswith("enforced") for line in doctor), doctor
    groups = dict(line.split(" ", 1) for line in said["groups"][1].splitlines() if line.split(" ", 1)[0] in ("unit", "up", "run"))
    delegated = version >= 254  # a service below its own group, beside which runs have theirs
    assert groups["up"] == groups["unit"] + ("/supervisor" if delegated else "")
    assert groups["run"].startswith((groups["unit"] if delegated else "") + "/mysimbdp-"), groups
    limits = {tuple(line.split()[:2]): line.split()[2:] for line in said["groups"][1].splitlines()}
    assert limits["memory.max", groups["run"]] == ["67108864"] and limits["cpu.max", groups["run"]] == ["30000", "100000"]
    assert limits["memory.oom.group", groups["run"]] == ["1"]
    assert limits["pids.max", groups["run"]] == ["14"], "the run's init and its relay are not the tenant's"
    rows = [json.loads(line) for line in said["limits"][1].splitlines()]
    ends = {r["file_name"]: (r["state"], r["reason"]) for r in rows if "file_name" in r}
    assert ends == {"hang.csv": ("running", None), "leak.csv": ("quarantined", "oom"), "fork.csv": ("quarantined", "limit"),
                    "daemon.csv": ("ingested", None), "hog.csv": ("quarantined", "oom")}, ends
    assert 25 <= int(said["cpu"][1]) <= 33, "of 30 % of a CPU"
    waited = said["waited"][1]
    runs = [json.loads(line) for line in waited.splitlines() if line.startswith("{")]
    assert all(r[key] >= 0 for r in runs for key in ("waited_cpu_s", "waited_memory_s", "waited_io_s", "throttled_s")), waited
    assert {(r["app"], r["outcome"]) for r in runs} == {("app", "oom"), ("app", "limit"), ("app", "ok"), ("hog", "oom")}, waited
    assert sum(r["waited_memory_s"] for r in runs if r["outcome"] == "oom") > 0, "what met its memory limit waited for memory"
    assert [line.split()[:2] for line in waited.splitlines() if " avg10=" in line] == [["cpu", "some"], ["memory", "some"], ["io", "some"]], waited
    assert int(waited.split("throttled_usec ")[1].split()[0]) > 5e6, "of 12 s at 30 % of a CPU"
    assert "went on" not in waited, "ended as a whole"
    assert any("what runs wait for" in line and line.startswith("ok") for line in said["doctor"][1].splitlines())
    before, after = (line.split()[1:] for line in said["killed"][1].splitlines()[:2])
    assert before == after and len(before) == 2, "runs outlive an up that was killed"
    assert "left: \n" in said["stopped"][1] and "ActiveState=inactive" in said["stopped"][1] and "Result=success" in said["stopped"][1]
