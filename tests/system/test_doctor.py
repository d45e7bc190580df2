"""What `mysimbdp doctor` says is what was tried on this host, and names the remedy."""
import json
import subprocess

import pytest
from harness import BUILD, IS_ROOT
from scripted import Scripted


def findings(home, code, prefix=(), **env):
    r = subprocess.run([*prefix, BUILD / "mysimbdp", "doctor", "--json"], env={**home.env, **env}, capture_output=True, text=True, timeout=60)
    rows = [json.loads(line) for line in r.stdout.splitlines()]
    assert r.returncode == code, r.stdout + r.stderr
    assert all(set(row) == {"area", "subject", "status", "reason", "remedy"} for row in rows)
    assert all(row["remedy"] for row in rows if row["status"] in ("absent", "failed"))
    return {(row["area"], row["subject"]): row for row in rows}


def test_every_limit_of_every_profile_is_listed(home):
    home.profiles(rlimits="cpu_s = 5; nofile = 50;")
    home.tenant()
    home.up()
    found = findings(home, 0)
    limits = {s.split(": ")[1].split(" = ")[0]: row["status"] for (a, s), row in found.items() if a == "limit" and s.startswith("small")}
    assert set(limits) == {"wall_s", "grace_s", "output_bytes", "rlimits.cpu_s", "rlimits.as_bytes", "rlimits.nofile", "rlimits.nproc",
                           "rlimits.fsize_bytes", "rlimits.core_bytes", "rlimits.stack_bytes", "cgroup.cpu_pct", "cgroup.memory_bytes",
                           "cgroup.pids", "isolation", "network", "tmp_bytes", "tmp_inodes", "scratch_bytes", "scratch_inodes"}
    assert limits["rlimits.cpu_s"] == "enforced" and limits["rlimits.as_bytes"] == "unlimited"
    if IS_ROOT:
        assert limits["cgroup.memory_bytes"] == limits["isolation"] == limits["network"] == limits["tmp_bytes"] == "enforced"
        assert {r["status"] for (a, s), r in found.items() if a == "users"} == {"ok"}
    assert found["mongodb", "answers"]["status"] == "ok"
    assert "all is well" in home.cli("doctor").stdout


def test_what_cannot_be_reached_is_named(make_home):
    home = make_home()
    home.tenant(exec_="absent", batch='checker = "/etc/passwd"; secrets = ( { name = "token"; file = "nowhere"; } );',
                tenant='streams = ( { name = "events"; } ); stream_apps = ( { app = "consumer"; stream = "events"; exec = "gone"; } );')
    home.base.chmod(0o700)
    found = findings(home, 1)
    assert found["reach", "acme: consumer"]["status"] == "failed" and found["reach", "acme: app"]["status"] == "failed" and found["reach", "acme: secret token"]["status"] == "failed"
    assert "Permission denied" in found["reach", "acme: checker"]["reason"].replace("permission", "Permission")
    if IS_ROOT:
        row = found["reach", "acme: home"]
        assert row["status"] == "failed" and row["remedy"] == f"`chmod o+x {home.base}`"
    home.base.chmod(0o755)


@pytest.mark.needs_root
def test_a_host_without_cgroups(home):
    home.profiles(cgroup="memory_bytes = 268435456L; pids = 64; cpu_pct = 50;", rlimits="as_bytes = 1073741824L;")
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this host does not let us make a mount namespace")
    hide = ["unshare", "-m", "sh", "-c", 'umount -R /sys/fs/cgroup 2>/dev/null || mount -t tmpfs none /sys/fs/cgroup; exec "$@"', "x"]
    found = {s: r for (a, s), r in findings(home, 1, hide).items() if a == "limit"}
    assert found["small: cgroup.cpu_pct = 50"]["status"] == "absent" and "allow_missing_limits" in found["small: cgroup.pids = 64"]["remedy"]
    assert found["small: cgroup.memory_bytes = 268435456"]["status"] == "emulated"
    assert found["end of the whole tree"]["status"] == "emulated"


@pytest.mark.needs_root
def test_a_host_with_a_bare_v2_tree(home):
    """As in a container, or where systemd delegates nothing: which limits are missing is said, and the rest is used."""
    home.profiles(cgroup="memory_bytes = 268435456L; pids = 64; cpu_pct = 50;")
    bare = ["unshare", "-m", "sh", "-c", 'umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"', "x"]
    probe = subprocess.run([*bare, "cat", "/sys/fs/cgroup/cgroup.controllers"], capture_output=True, text=True)
    if probe.returncode or "memory" in probe.stdout.split():
        pytest.skip("this host does not let us make a mount namespace, or has controllers in its v2 tree")
    found = {s: r for (a, s), r in findings(home, 1, bare).items() if a == "limit"}
    for key in ("cpu_pct = 50", "memory_bytes = 268435456", "pids = 64"):
        row = found[f"small: cgroup.{key}"]
        assert row["status"] in ("absent", "emulated") and "controller" in row["reason"], row
    assert found["small: cgroup.cpu_pct = 50"]["status"] == "absent" and found["end of the whole tree"]["status"] == "enforced"


@pytest.mark.needs_root
def test_a_host_without_namespaces(home):
    """As in a container whose seccomp profile or capabilities forbid them."""
    forbid = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"]
    home.tenant()
    found = {s: r for (a, s), r in findings(home, 1, forbid).items() if a == "limit"}
    assert found["small: isolation = full"]["status"] == found["small: network"]["status"] == "absent"
    assert "Operation not permitted" in found["small: isolation = full"]["reason"] and "basic" in found["small: isolation = full"]["remedy"]


def test_databases_that_are_down_or_say_no(make_home):
    home = make_home()
    home.tenant()
    assert findings(home, 1, MONGO_URL="mongodb://127.0.0.1:1/")["mongodb", "answers"]["status"] == "failed"
    server = Scripted()
    server.replies["createUser"] = {"ok": 0.0, "errmsg": "not authorized", "code": 13}
    found = findings(home, 0, MONGO_URL=server.url)
    assert found["mongodb", "may create users"]["status"] == "emulated"
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("allow_shared_credentials = true", "allow_shared_credentials = false"))
    row = findings(home, 1, MONGO_URL=server.url)["mongodb", "may create users"]
    assert row["status"] == "failed" and row["reason"] == "not authorized"
    server.replies.clear()
    assert findings(home, 0, MONGO_URL=server.url)["mongodb", "may create users"]["status"] == "ok"
    server.stop()


def test_a_broken_configuration_is_the_first_thing_it_says(home):
    (home.path / "conf/profiles.conf").write_text("profiles = ( { name = 3; } );\n")
    found = findings(home, 1)
    assert list(found) == [("config", "files below conf/")] and "profiles.conf:1" in found["config", "files below conf/"]["reason"]


def test_low_disk_and_taken_ports(make_home):
    home = make_home(platform="")
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("min_free_bytes = 0L", "min_free_bytes = 9000000000000000000L"))
    import socket
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        (home.path / "state/mongo.port").write_text(f"{s.getsockname()[1]}\n")
        found = findings(home, 1)
    assert found["files", "state"]["status"] == "failed" and "min_free_bytes" in found["files", "state"]["remedy"]
    assert [r["status"] for (a, s_), r in found.items() if a == "sockets" and s_.startswith("port ")] == ["failed"]
