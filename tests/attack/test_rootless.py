"""A home that an ordinary user started, with subordinate ids: tenants are kept apart as with root. Each runs in a mount namespace
with accounts and ranges of its own, as a user that this machine does not have."""
import json
import os
import pathlib
import shutil
import signal
import subprocess

import pytest
from harness import BUILD, Home, runner_of, temp_dir, until
import test_image as image
from test_walls import (  # noqa: F401  what holds with root holds here
    app, echo, gate, run, test_a_relay_is_nobody_ends_with_its_run_and_is_replaced, test_a_run_sees_its_own_room_and_nothing_else,
    test_basic_is_what_it_was, test_instances_and_checkers_have_walls_too, test_namespaces_mounts_keys_and_rare_calls_are_refused,
    test_network_of_a_profile, test_only_the_platform_is_reachable_and_what_is_refused_is_counted,
    test_what_a_run_makes_in_shared_tables_is_its_own_and_goes_with_it)

pytestmark = pytest.mark.needs_root
COUNT = 65536
UID, SUBUID = 1400000000 + os.getpid(), 1500000000 + os.getpid() % 7000 * COUNT  # of this session alone


@pytest.fixture(scope="module")
def place():
    """Programs that everybody can reach, and files to put over those of /etc."""
    at = temp_dir()
    for name in ("passwd", "group"):
        shutil.copy(f"/etc/{name}", at / name)
    with open(at / "passwd", "a") as f:
        f.write(f"rootless:x:{UID}:{UID}::{at}/user:/bin/sh\n")
    for name in ("subuid", "subgid"):
        (at / name).write_text(f"somebody:100000:65536\nrootless:{SUBUID}:{COUNT}\n")
    (at / "user").mkdir()
    os.chown(at / "user", UID, UID)
    (at / "build").mkdir()
    for name in ("mysimbdp", "batchmgr", "streammgr", "monitor", "broker", "desk", "simbdp-run", "simbdp-keeper", "simbdp-webhook", "simbdp-warden", "simbdp-relay", "simbdp-mongo", "simbdp-load", "simbdp-pipe", "simbdp-publish",
                 "simbdp-image", "simbdp-inspect", "simbdp-appstore", "simbdp-unpack", "simbdp-remote", "simbdp-backup", "simbdp-move", "simbdp-mongodump", "embedded-mongo"):
        source = BUILD / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, at / "build" / name)
    yield at
    shutil.rmtree(at, ignore_errors=True)


def command(place, mounts):
    """What a command begins with, to be the user's where `mounts` (target: source) are in place."""
    binds = " && ".join(f"mount --bind {source} {target}" for target, source in mounts.items())
    return ["unshare", "--mount", "sh", "-c", f'{binds} && exec setpriv --reuid={UID} --regid={UID} --clear-groups env HOME={place}/user "$@"', "sh"]


class Rootless(Home):
    all_walls = True

    def __init__(self, mongo, place, **kw):
        self.programs = place / "build"
        self.mounts_of_etc = {f"/etc/{name}": place / name for name in ("passwd", "subuid", "subgid")}
        self.place = place
        super().__init__(mongo, **kw)

    @property
    def as_user(self):
        """The user's from here on, also what the test wrote."""
        for directory, _, files in os.walk(self.base) if hasattr(self, "base") else ():
            for path in (directory, *(os.path.join(directory, f) for f in files)):
                try:
                    if os.lstat(path).st_uid == 0:
                        os.lchown(path, UID, UID)
                except FileNotFoundError:  # the platform is at work
                    pass
        return command(self.place, self.mounts_of_etc)

    def profiles(self, **values):
        super().profiles(**{**values, "cgroup": ""})

    def drop(self, name, content, tenant="acme", dataset="data"):
        """As the user does, into the directory that is his."""
        target = self.path / "staging" / tenant / dataset / name
        temp = target.with_name(f".{name}")
        temp.write_text(content)
        os.chown(temp, UID, UID)
        temp.rename(target)

    def uid_of(self, tenant):
        return next(t["uid"] for t in self.rows("tenant", "list") if t["tenant_id"] == tenant)



@pytest.fixture
def make_home(mongo, place):
    homes = []

    def make(mongo=mongo, **kw):
        homes.append(Rootless(mongo, place, **kw))
        return homes[-1]
    yield make
    for h in homes:
        h.cleanup()


def two_tenants(home, apps=("attack", "attack"), **profile):
    home.profiles(**{"rlimits": "", "mounts": "", **profile})
    for name, exec_ in zip(("acme", "other"), apps):
        home.tenant(name, exec_=exec_, retry="attempts = 1;")
    return home.up()


@pytest.fixture
def walled(make_home):
    return two_tenants(make_home())


def host_uid(pid):
    return pathlib.Path(f"/proc/{pid}").stat().st_uid


def space_of(pid):
    return os.readlink(f"/proc/{pid}/ns/user")


def subordinate(uid):
    return SUBUID + uid - 1


def is_left(home):
    """Processes of tenants, whatever became of their environment."""
    uids = {subordinate(t["uid"]) for t in home.rows("tenant", "list")}
    found = []
    for p in pathlib.Path("/proc").iterdir():
        try:
            if p.name.isdigit() and p.stat().st_uid in uids:
                found.append(int(p.name))
        except OSError:
            pass
    return found


HOLD = """open("secret", "w").write("42")
print("holding", flush=True)
signal.pause()
"""


def start_holding(home, tenant, script=HOLD):
    """A run that stays: its id, and its app's process."""
    app(home, script, tenant)
    home.drop("hold.csv", "a\n1\n", tenant)
    r = until(lambda: next((r for r in home.rows("runs", "--state", "running", "--tenant", tenant) if r["kind"] == "batch" and "holding" in home.log_of(r["run_id"])), None),
              home.path / "state", what="the run")
    return r["run_id"], home.marked(r["run_id"])


def test_tenants_have_uids_of_their_own_and_reach_nothing_of_one_another(walled):
    theirs, (holder,) = start_holding(walled, "other")
    f, r, tried = run(walled, f'''
home = {str(walled.path)!r}
for path in ("runs/{theirs}/app/secret", "runs/{theirs}/log", "apps/other/attack", "staging/other", "state/ledger.db", "keys", "conf/tenants/other.conf"):
    attempt("read " + path, lambda: os.stat(home + "/" + path))
attempt("kill", os.kill, {holder}, 9)
attempt("root", os.setresuid, 0, 0, 0)
attempt("theirs", os.setresuid, *[{walled.uid_of("other")}] * 3)
tried["uid"] = os.getuid()
tell()
''')
    assert f["state"] == "ingested", f
    refused = {k: v for k, v in tried.items() if k.startswith("read ")}
    assert len(refused) == 7 and set(refused.values()) == {"ENOENT"}
    assert (tried["kill"], tried["root"], tried["theirs"]) == ("ESRCH", "EPERM", "EPERM")
    assert tried["uid"] == walled.uid_of("acme") != walled.uid_of("other")
    assert host_uid(holder) == subordinate(walled.uid_of("other")) and (walled.path / f"runs/{theirs}/app/secret").stat().st_uid == host_uid(holder)
    assert {host_uid(p) for p in walled.pids("simbdp-warden") + walled.pids("mysimbdp")} == {UID}
    assert {host_uid(p) for p in walled.pids("batchmgr") + walled.pids("streammgr")} & {0, UID} == set()
    assert {host_uid(p) for p in walled.pids("simbdp-inspect")} & {0, UID} == set()


def test_an_image_is_the_root_there_too(make_home):
    home = make_home()
    home.profiles(rlimits="", mounts="")
    (home.path / "apps/acme").mkdir(exist_ok=True)
    image.layout(home.path / "apps/acme/img", *image.base('tried who "cat /etc/who"; tried write "touch /x"', [image.link("tmp", "/etc")]))
    image.tenant(home)
    home.up()
    f, tried, said = image.run(home, "x.csv")
    assert f["state"] == "ingested" and tried["who"] == "image" and "Read-only" in tried["write"], said


def test_every_verb_works_from_outside(make_home):
    home = two_tenants(make_home(), apps=("builtin:load", "builtin:load"))
    source = home.base / "x.csv"
    source.write_text("a,b\n1,2\n")
    home.cli("upload", "acme", "data", source, "--wait")
    assert home.count() == 1
    home.tenant("other", exec_="attack", retry="attempts = 1;")
    app(home, "print('so be it', flush=True)\nsys.exit(65)\n", "other")
    home.cli("reload")
    home.drop("y.csv", "a\n1\n", "other")
    f = home.wait_file(tenant_id="other")
    assert f["state"] == "quarantined" and "so be it" in home.log_of(f["run_id"])
    app(home, "open('result.json', 'w').write('{}')\n", "other")
    home.cli("retry", f["file_id"])
    until(lambda: home.files(tenant_id="other", state="ingested"), home.path / "state", what="the retried file")
    assert {t["tenant_id"] for t in home.rows("stats")} == {"acme", "other", None}
    home.cli("tenant", "suspend", "acme")
    home.cli("tenant", "resume", "acme")
    for verb in ("check", "status", "runs", "rejects"):
        home.cli(verb, *([f["file_id"]] if verb == "rejects" else []))
    home.cli("tenant", "remove", "other", "--purge")
    left = [p for p in home.path.rglob("*") if "other" in p.parts[len(home.path.parts):]]
    assert not left and not home.files(tenant_id="other")
    home.down()
    assert home.files()[0]["state"] == "ingested", "listings work with the programs down"


def test_the_embedded_mongodb_has_a_subordinate_uid(make_home, place):
    home = make_home(own_mongo=True)
    home.tenant()
    home.up()
    home.cli("upload", "acme", "data", place / "passwd", "--wait", check=False)
    (server,) = [p for p in home.pids("java", "EmbeddedMongo")]
    assert SUBUID < host_uid(server) < SUBUID + COUNT


def test_doctor_and_init_say_what_there_is(make_home, place):
    home = make_home()
    said = home.cli("init", home.base / "another").stdout
    assert f"{COUNT} subordinate uids" in said and "allow_missing_limits = true" in said
    rows = {r["subject"]: r for r in map(json.loads, home.cli("doctor", "--json", check=False).stdout.splitlines())}
    assert rows["isolation of tenants"]["status"] == "ok" and str(SUBUID) in rows["isolation of tenants"]["reason"]
    assert rows["small: isolation = full"]["status"] == rows["small: network"]["status"] == "enforced"
    assert str(json.loads((home.path / "state/uids.json").read_text())["uid_base"]) in rows["uids of this home"]["reason"]


def test_homes_of_one_user_share_no_uid(make_home, place):
    bases = []
    for _ in range(3):
        home = make_home()
        home.cli("doctor", check=False)
        bases.append(json.loads((home.path / "state/uids.json").read_text())["uid_base"])
    assert len({b // 64 for b in bases}) == 3
    assert {str(b) for b in bases} <= set(os.listdir(place / "user/.local/state/mysimbdp/uids"))


def test_a_second_start_takes_back_runs_and_instances(make_home):
    home = make_home()
    home.profiles(rlimits="", mounts="")
    (home.path / "apps/acme").mkdir()
    app(home, HOLD, name="consume")
    home.tenant(exec_="attack", retry="attempts = 1;", tenant="streams = ( { name = \"events\"; } ); "
                "stream_apps = ( { app = \"consume\"; stream = \"events\"; exec = \"consume\"; min_instances = 1; } );")
    home.up()
    run_id, (holder,) = start_holding(home, "acme")
    instance = until(lambda: next((r["run_id"] for r in home.rows("runs", "--state", "running") if r["kind"] == "stream"), None), home.path / "state",
                     what="the instance")
    (consumer,) = until(lambda: home.marked(instance), home.path / "state", what="its process")
    os.killpg(home.up_process.pid, signal.SIGKILL)
    home.up_process.wait()
    until(lambda: not home.pids("batchmgr") and not home.pids("streammgr"), home.path / "state", what="the end of the programs")
    home.up()
    assert space_of(home.pids("batchmgr")[0]) == space_of(holder) == space_of(runner_of(holder)), "nobody else could look at them"
    assert home.marked(run_id) == [holder]
    running = {r["run_id"] for r in home.rows("runs", "--state", "running")}
    assert running == {run_id, instance} and home.marked(instance) == [consumer]
    os.kill(runner_of(holder), signal.SIGKILL)
    until(lambda: not home.marked(run_id), home.path / "state", what="the end of what a dead runner left")
    until(lambda: home.rows("runs", run_id)[0]["outcome"] == "lost", home.path / "state", what="the run's end")
    home.down()
    assert is_left(home) == []


def test_programs_that_are_started_alone_share_a_namespace(make_home):
    home = make_home()
    home.tenant()
    broker, batchmgr = home.broker(), home.batchmgr()
    try:
        until(lambda: (home.path / "state/databases.json").exists(), home.path / "state", what="batchmgr")
        assert space_of(broker.pid) == space_of(batchmgr.pid) != space_of(os.getpid())
    finally:
        batchmgr.terminate()
        assert batchmgr.wait(timeout=60) == 0


def test_an_end_leaves_nothing(make_home):
    home = two_tenants(make_home(), rlimits="nproc = 40;")
    run_id, marked = start_holding(home, "acme", """
for _ in range(5):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execve("/bin/sleep", ["sleep", "1000"], {})
        os._exit(0)
n = 0
try:
    while n < 1000:
        if os.fork() == 0:
            signal.pause()
        n += 1
except OSError as e:
    print("refused", e.errno, n, flush=True)
print("holding", flush=True)
signal.pause()
""")
    assert "refused 11" in home.log_of(run_id) and 30 < len(is_left(home)) <= 41
    home.cli("stop", run_id)
    assert home.wait_file(file_name="hold.csv")["reason"] == "stopped"
    assert is_left(home) == []


def test_a_home_that_had_no_ids_gets_them(make_home, place):
    home = make_home(own_mongo=True)
    given = dict(home.mounts_of_etc)
    home.mounts_of_etc.update({"/etc/subuid": "/dev/null"})
    home.profiles(isolation="basic")
    home.tenant()
    source = home.base / "x.csv"
    for row in ("1,2", "3,4"):
        home.up()
        source.write_text(f"a,b\n{row}\n")
        home.cli("upload", "acme", "data", source, "--wait")
        home.down()
        assert (home.path / "state/userns.json").exists() == (row == "3,4")
        home.mounts_of_etc = given
    assert [f["state"] for f in home.files()] == ["ingested"] * 2
    assert (home.path / "staging/acme/data").stat().st_gid == subordinate(home.uid_of("acme"))


def test_runs_that_began_with_one_uid_are_taken_back_first(make_home):
    home = make_home()
    given = dict(home.mounts_of_etc)
    home.mounts_of_etc.update({"/etc/subuid": "/dev/null"})
    home.profiles(isolation="basic")
    home.tenant(exec_="attack", retry="attempts = 1;")
    home.up()
    run_id, (holder,) = start_holding(home, "acme")
    home.down("--leave-runs")
    home.mounts_of_etc = given
    home.up()
    assert home.rows("runs", run_id)[0]["state"] == "running" and home.marked(run_id) == [holder]
    home.cli("stop", run_id)
    assert home.wait_file(file_name="hold.csv")["reason"] == "stopped"
    assert {space_of(p) for p in home.pids("batchmgr")} == {space_of(os.getpid())}
    home.down()
    home.up()
    assert (home.path / "staging/acme/data").stat().st_gid == subordinate(home.uid_of("acme"))


# -- refused

def test_a_host_whose_proc_is_masked_gives_uids_but_no_walls(make_home):
    """As containers do: then nobody but root may mount another."""
    home = make_home()
    home.mounts_of_etc.update({"/proc/version": "/dev/null"})
    rows = {r["subject"]: r for r in map(json.loads, home.cli("doctor", "--json", check=False).stdout.splitlines())}
    assert rows["isolation of tenants"]["status"] == "ok"
    assert rows["small: isolation = full"]["status"] == "absent" and "/proc" in rows["small: isolation = full"]["reason"]


def started(home):
    home.cli("doctor", check=False)
    return home


def test_a_home_needs_the_ids_that_it_was_started_with(make_home, place):
    home = started(make_home())
    other = place / "others"
    other.write_text(f"rootless:{SUBUID + COUNT}:{COUNT}\n")
    for file in (other, "/dev/null"):
        home.mounts_of_etc.update({"/etc/subuid": file, "/etc/subgid": file})
        r = home.cli("up", check=False)
        assert r.returncode == 1 and f"uids {SUBUID} to {SUBUID + COUNT - 1}" in r.stderr and "mysimbdp init" in r.stderr, r.stderr


def test_root_does_not_start_a_users_home_nor_a_user_roots(make_home, place):
    home = started(make_home())
    r = subprocess.run([BUILD / "mysimbdp", "up"], env=home.env, capture_output=True, text=True)
    assert r.returncode == 1 and f"without root by uid {UID}" in r.stderr
    (home.path / "state/userns.json").unlink()
    r = home.cli("up", check=False)
    assert r.returncode == 1 and "was run by root" in r.stderr


def refusal(home):
    """Why several tenants are not started, init's words, and doctor's."""
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("allow_missing_limits = true", "allow_missing_limits = false"))
    for name in ("acme", "other"):
        home.tenant(name)
    up = home.cli("up", check=False)
    assert up.returncode == 1 and "several tenants without root and without subordinate ids" in up.stderr
    doctor = next(r for r in map(json.loads, home.cli("doctor", "--json", check=False).stdout.splitlines()) if r["subject"] == "isolation of tenants")
    assert doctor["status"] == "absent" and doctor["remedy"]
    init = home.cli("init", home.base / "another").stdout
    assert doctor["reason"].split("and ", 1)[1].split(": all tenants")[0] in init and doctor["remedy"] in init
    return up.stderr, doctor["reason"], doctor["remedy"]


def test_no_subordinate_ids(make_home):
    home = make_home()
    home.mounts_of_etc.update({"/etc/subuid": "/dev/null"})
    up, reason, remedy = refusal(home)
    assert "rootless has no subordinate ids in /etc/subuid" in reason and "rootless has no" in up and "usermod --add-subuids" in remedy


def test_too_few_subordinate_ids(make_home, place):
    home = make_home()
    (place / "few").write_text(f"rootless:{SUBUID}:1000\n")
    home.mounts_of_etc.update({"/etc/subgid": place / "few"})
    _, reason, remedy = refusal(home)
    assert "1000 gids" in reason and "65536" in reason and "usermod" in remedy


def test_no_newuidmap(make_home):
    home = make_home()
    home.mounts_of_etc.update({"/usr/bin/newuidmap": "/dev/null"})
    _, reason, remedy = refusal(home)
    assert "newuidmap" in reason and "package uidmap" in remedy


# Everything is as outside, but that no user namespace can be made.
NO_FURTHER = """
import ctypes, os, sys
end, go = os.pipe()
if os.fork() == 0:
    os.close(go)
    os.read(end, 1)
    for name in ("uid_map", "gid_map"):
        open(f"/proc/{os.getppid()}/{name}", "w").write("0 0 4294967295")
    os._exit(0)
os.close(end)
ctypes.CDLL(None).unshare(0x10000000)
os.close(go)
os.wait()
open("/proc/sys/user/max_user_namespaces", "w").write("0")
os.execvp(sys.argv[1], sys.argv[1:])
"""


def test_no_user_namespaces(make_home, monkeypatch):
    home = make_home()
    before, as_user = ["/usr/bin/python3", "-c", NO_FURTHER], Rootless.as_user.fget
    monkeypatch.setattr(Rootless, "as_user", property(lambda h: before + as_user(h)))
    _, reason, remedy = refusal(home)
    assert "no user namespaces here" in reason and "sysctl -w user.max_user_namespaces" in remedy
