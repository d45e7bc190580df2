"""Images as the root of runs: made here of what is on the machine, good ones, damaged ones, and ones that want out."""
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import tarfile
import time

import pytest
from harness import FINAL, ROOT, has_ended, until
from images import directory, entry, layer, layout, link, program
from test_programs import status, table, uid_of

pytestmark = pytest.mark.needs_root

POINTS = re.findall(r"X\((image_\w+)\)", (ROOT / "lib/base/crash.h").read_text())


def base(text="true", more=()):
    """Layers with a shell and a few programs, and /app, which does `text`."""
    script = "#!/bin/sh\ntried() { echo \"TRIED $1\" $(eval \"$2\" 2>&1); }\n" + text + "\n"
    files = [e for name in ("sh", "cat", "ls", "sleep", "stat", "touch") for e in program(name)]
    return layer(directory("bin"), directory("etc"), *files), layer(entry("app", script.encode(), 0o755), entry("etc/who", b"image\n"), *more)


@pytest.fixture
def acme(make_home):
    home = make_home()
    home.profiles(mounts="", rlimits="")
    home.apps = home.path / "apps/acme"
    home.apps.mkdir(exist_ok=True)
    return home


def tenant(home, image="img", exec_="/app", batch="", tenant_=""):
    home.tenant(exec_=exec_, batch=f'image = "{image}"; {batch}', tenant=tenant_, retry="attempts = 1;")


def run(home, name):
    home.drop(name, f"a,b\n{name},1\n")
    f = home.wait_file(file_name=name)
    said = home.log_of(f["run_id"])
    return f, dict(line[6:].split(" ", 1) for line in said.splitlines() if line.startswith("TRIED ")), said


def waits(home, name, n=1):
    """The file that waits because its app is parked, and why."""
    home.drop(name, f"a,b\n{name},1\n")

    def parked():
        found = home.files(file_name=name, state="waiting")
        return found and found[0]["reason"] == "exec_error" and found[0]
    return until(parked, home.path / "state", what=lambda: home.files())


def events(home, event, log="batchmgr"):
    return [e for e in map(json.loads, (home.path / f"logs/{log}.log").read_text().splitlines()) if e.get("event") == event]


def tree(home):
    path = home.path / "state/images/acme"
    return sorted(p.name for p in path.iterdir() if not p.name.startswith(".")) if path.exists() else []


def test_a_run_has_the_image_as_its_root_and_changes_nothing_of_it(acme):
    digest = layout(acme.apps / "img", *base(r'''
tried who "cat /etc/who"; tried host "cat /etc/debian_version"; tried root "ls /"
for p in /x /etc/x /bin/x /app; do tried "write:$p" "touch $p"; done
for p in /tmp/x /var/tmp/x /dev/shm/x x; do tried "write:$p" "touch $p && echo good"; done
tried input "cat $SIMBDP_INPUT_DIR/*"; tried self "cat /proc/self/comm"; tried home "ls $HOME/../../.."
tried apps "ls %s"; tried hosts "cat /etc/hosts"; tried run "ls /run"; tried null "cat /dev/null && echo good"
''' % acme.apps, [link("tmp", "/etc"), link("var", "../../../../var"), entry("run", b"a file"), link("dev", "/"), link("etc/hosts", "/etc/shadow"),
                  entry("bin/su", b"#!/bin/sh\n", 0o4755), directory("proc", 0)]))
    tenant(acme, "img:v1")
    acme.up()
    f, tried, said = run(acme, "one.csv")
    assert f["state"] == "ingested", (f, said)
    assert tried["who"] == "image" and "No such file" in tried["host"]
    assert set(tried["root"].split()) >= {"app", "bin", "dev", "etc", "proc", "run", "sys", "tmp", "var"} and "home" not in tried["root"]
    assert all("Read-only" in tried[f"write:{p}"] or "denied" in tried[f"write:{p}"] for p in ("/x", "/etc/x", "/bin/x", "/app")), tried
    assert all(tried[f"write:{p}"] == "good" for p in ("/tmp/x", "/var/tmp/x", "/dev/shm/x", "x")), tried
    assert tried["input"].startswith("a,b") and tried["self"] == "cat" and tried["home"].split() == ["apps", "bin", "runs", "work"] and tried["run"] == f"mysimbdp-{pathlib.Path(acme.socket_path()).parent.name[-16:]}"
    assert "img" in tried["apps"] and "localhost" in tried["hosts"] and tried["null"] == "good"
    kept = acme.path / "state/images/acme" / digest
    assert tree(acme) == [digest] and kept.stat().st_uid == kept.stat().st_gid > 65536 and (kept / "tmp").is_symlink()
    assert not (kept / "etc/x").exists() and not pathlib.Path("/etc/x").exists() and (acme.path / "state").stat().st_mode & 0o077 == 0
    assert run(acme, "two.csv")[0]["state"] == "ingested" and len(events(acme, "image_unpacked")) == 1, "it is unpacked once"


def test_another_image_is_another_root_and_another_version_of_the_rows(acme):
    def build(version):
        return layout(acme.apps / "img", *base('IFS=; while read -r line; do :; done; echo "{\\"v\\": %d}"' % version))
    first = build(1)
    tenant(acme, batch='output = "stdout";')
    acme.up()
    f, _, said = run(acme, "x.csv")
    assert f["state"] == "ingested" and [d["v"] for d in acme.docs()] == [1], said
    second = build(2)
    again = acme.base / "x.csv"
    again.write_text("a,b\nx.csv,1\n")
    acme.cli("upload", "acme", "data", again, "--force")
    until(lambda: [d["v"] for d in acme.docs()] == [2], acme.path / "state", what="the rows of the other image, in the place of the first's")
    assert tree(acme) == sorted([first, second]) and len(events(acme, "image_unpacked")) == 2


def test_an_image_made_as_the_guide_says(acme):
    """The commands of docs/tenant-guide.md, for programs that are on this machine."""
    guide = (ROOT / "docs/tenant-guide.md").read_text()
    commands = re.search(r"```sh\n(umoci init.*?)```", guide, re.S).group(1).replace("/usr/bin/jq", "/bin/cat")
    subprocess.run(["bash", "-euc", commands], cwd=acme.base, env=acme.env, check=True, capture_output=True)
    (acme.apps / "mine").write_text("#!/bin/sh\ncat >/dev/null && cat /etc/os-release || echo TRIED other root\n")
    (acme.apps / "mine").chmod(0o755)
    tenant(acme, "shop", "mine")
    acme.up()
    f, tried, said = run(acme, "x.csv")
    assert f["state"] == "ingested" and tried == {"other": "root"}, said


def test_a_directory_is_a_root_as_it_is(acme):
    home = acme
    layout(home.base / "img", *base('tried who "cat /etc/who"; tried write "touch /x"'))
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{home.base}/img:v1", home.apps / "root"], check=True, capture_output=True)
    (home.apps / "link").symlink_to("root")
    tenant(home, "root")
    home.up()
    f, tried, said = run(home, "x.csv")
    assert f["state"] == "ingested" and tried["who"] == "image" and "Read-only" in tried["write"], said
    assert tree(home) == [] and sorted(p.name for p in (home.apps / "root").iterdir()) == ["app", "bin", "etc", "lib", "lib64"]
    tenant(home, "link")
    home.reload()
    assert "no part of which may be a link" in waits(home, "y.csv")["detail"], "what a tenant can bend is not followed"
    tenant(home, "../other")
    assert "without '..'" in home.cli("check", check=False).stderr


def test_an_executable_of_the_tenants_and_a_checker_run_in_the_image_too(acme):
    acme.profiles(rlimits="", more='network = ( "host" );')  # with a mount of the profile's that the home lies below
    layout(acme.apps / "img", *base(), tag="a")
    for name, code in (("mine", 0), ("no", 65)):
        (acme.apps / name).write_text(f"#!/bin/sh\necho TRIED who $(cat /etc/who)\necho TRIED names $(cat /etc/resolv.conf)\nexit {code}\n")
        (acme.apps / name).chmod(0o755)
    tenant(acme, exec_="mine")
    acme.up()
    f, tried, said = run(acme, "x.csv")
    assert f["state"] == "ingested" and tried["who"] == "image", said
    assert tried["names"] == " ".join(pathlib.Path("/etc/resolv.conf").read_text().split())
    tenant(acme, exec_="mine", batch='checker = "no";')
    acme.reload()
    f, tried, said = run(acme, "y.csv")
    assert (f["state"], f["reason"], tried["who"]) == ("rejected", "checker", "image"), said


@pytest.mark.parametrize("conf, why", [
    ('{ app = "x"; exec = "builtin:load"; image = "i"; }', "key 'batch.image': builtin:load needs the host's root"),
    ('{ app = "x"; exec = "x"; image = "i"; profile = "loose"; }', "key 'batch.image': profile \"loose\" has isolation = \"basic\""),
])
def test_what_cannot_have_an_image_is_told_with_its_line(acme, conf, why):
    text = (acme.path / "conf/profiles.conf").read_text()
    (acme.path / "conf/profiles.conf").write_text(text.replace("profiles = (", 'profiles = ( { name = "loose"; isolation = "basic"; },'))
    acme.tenant(apps=conf)
    r = acme.cli("check", check=False)
    assert r.returncode == 1 and why in r.stderr and "acme.conf:3" in r.stderr, r.stderr
    (acme.path / "conf/tenants/acme.conf").write_text(
        'datasets = ( { name = "d"; } ); streams = ( { name = "s"; } );\nstream_apps = ( { app = "x"; stream = "s"; exec = "x"; dataset = "d"; output = "stdout"; image = "i"; } );\n')
    assert "acme.conf:2: key 'stream_apps.image': an output mode" in acme.cli("check", check=False).stderr
    source = acme.base / "foreign.conf"
    source.write_text('datasets = ( { name = "d"; } ); batch = ( { app = "x"; exec = "x"; image = "/srv"; } );\n')
    (acme.path / "conf/tenants/acme.conf").unlink()
    assert "is a directory of this host" in acme.cli("tenant", "add", "acme", "--from", source, check=False).stderr


def test_a_missing_or_damaged_image_parks_its_app_until_it_is_another(acme):
    tenant(acme)
    acme.up()
    f = waits(acme, "x.csv")
    assert "there is no directory" in f["detail"] and f["attempts"] == 0 and events(acme, "app_parked")
    layout(acme.apps / "img", *base())
    until(lambda: acme.files(file_name="x.csv")[0]["state"] == "ingested", acme.path / "state", what="the image to be found")
    layout(acme.apps / "img", *base("exit 0"), tag="v2")
    blobs = acme.apps / "img/blobs/sha256"
    blob = max(blobs.iterdir(), key=lambda p: p.stat().st_size)
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.write_bytes(data)
    f = waits(acme, "y.csv")
    assert f"blob {blob.name} is damaged" in f["detail"] and f["attempts"] == 0 and len(tree(acme)) == 1
    blob.unlink()
    acme.cli("retry", "--tenant", "acme")
    until(lambda: any("cannot open its blobs" in e["msg"] for e in events(acme, "app_parked")), acme.path / "logs", what="the other reason")
    tenant(acme, "img:v9")
    acme.reload()
    until(lambda: any('0 images with the tag "v9"' in e["msg"] for e in events(acme, "app_parked")), acme.path / "logs", what="the other reason")
    layout(acme.apps / "img", *base("exit 0"), tag="v9")
    until(lambda: acme.files(file_name="y.csv")[0]["state"] == "ingested", acme.path / "state", what="the whole image to be found")
    assert not [p for p in (acme.path / "state/images/acme").iterdir() if p.name.startswith(".unpack")]


def outside(home):
    """What no image may touch: (path, content)."""
    canary = home.base / "canary"
    if not canary.exists():
        canary.write_text("as it was")
        canary.chmod(0o666)
    return canary


HOSTILE = {
    "dots": lambda c: [entry("../" * 20 + str(c)[1:], b"bad"), entry("a/../../../x", b"bad")],
    "absolute": lambda c: [entry(str(c), b"bad")],
    "through a link": lambda c: [link("out", str(c.parent)), entry("out/canary", b"bad"), link("up", "../" * 20), entry("up" + str(c), b"bad")],
    "a link in its place": lambda c: [link("out", str(c)), entry("out", b"bad", 0o777)],
    "a hard link": lambda c: [link("hard", str(c), tarfile.LNKTYPE), entry("hard", b"bad")],
    "whiteouts": lambda c: [link("out", str(c.parent)), entry("out/.wh.canary"), entry(".wh..."), entry("../" * 20 + str(c.parent)[1:] + "/.wh.canary")],
    "an opaque root": lambda c: [link("out", str(c.parent)), entry("out/.wh..wh..opq"), entry(".wh..wh..opq")],
    "the root itself": lambda c: [link(".", str(c.parent)), entry("canary", b"bad")],
    "devices": lambda c: [entry("disk", type=tarfile.BLKTYPE, devmajor=254, devminor=0), entry("mem", type=tarfile.CHRTYPE, devmajor=1, devminor=1),
                          entry("su", b"\x7fELF", 0o6777), entry("pipe", type=tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_layers_touch_nothing_outside(acme, kind):
    canary = outside(acme)
    before = sorted(os.listdir("/")), sorted(os.listdir(acme.base)), canary.stat().st_ino
    tenant(acme)
    layers = base('tried su "stat -c %A:%u /su"; tried disk "cat /disk"; tried mem "cat /mem"')
    layout(acme.apps / "img", *layers, layer(*HOSTILE[kind](canary)))
    acme.up()
    acme.drop("x.csv", "a,b\n1,2\n")
    f = until(lambda: (lambda f: f and (f[0]["state"] in FINAL or f[0]["reason"] == "exec_error") and f[0])(acme.files()), acme.path / "state", what="an end")
    assert canary.read_text() == "as it was" and canary.stat().st_mode & 0o7777 == 0o666 and canary.stat().st_nlink == 1
    assert (sorted(os.listdir("/")), sorted(set(os.listdir(acme.base)) - {"up.err"}), canary.stat().st_ino) == before
    images = acme.path / "state/images/acme"
    assert not [p for p in images.iterdir() if p.name.startswith(".unpack")] and all(not p.is_symlink() for p in images.iterdir())
    for root in tree(acme):
        for path in (images / root).rglob("*"):
            assert path.is_symlink() or not (path.is_block_device() or path.is_char_device()), path
    if kind == "devices" and f["state"] == "ingested":
        said = acme.log_of(f["run_id"])
        assert "as it was" not in said and "TRIED disk\n" in said


def test_a_tree_without_end_and_bombs_are_bounded(acme):
    """max_image_files and max_image_bytes bite, whatever the layers look like."""
    deep = "/".join("d" * 3 for _ in range(1000)) + "/x"
    tenant(acme, tenant_="max_image_bytes = 6000000L; max_image_files = 400;")
    acme.up()
    for name, entries, why in (("many", [entry(f"many/{i}") for i in range(1000)], "max_image_files"),
                               ("deep", [entry(deep, b"x")], "max_image_files"),
                               ("big", [entry("big", bytes(20000000))], "max_image_bytes")):
        layout(acme.apps / "img", *base(), layer(*entries), tag=name)
        if name == "many":
            assert why in waits(acme, "x.csv")["detail"]
        else:
            until(lambda: why in acme.files()[0]["detail"] and len(events(acme, "app_parked")) > ("deep", "big").index(name) + 1,
                  acme.path / "state", what=lambda: f"{name} to be refused: {acme.files()}")
    layout(acme.apps / "img", *base("# " + os.urandom(4000000).hex()))
    until(lambda: "its blobs have more bytes than max_image_bytes" in acme.files()[0]["detail"] or "unpacked it has" in acme.files()[0]["detail"],
          acme.path / "state", what=lambda: acme.files())
    layout(acme.apps / "img", *base())
    until(lambda: acme.files()[0]["state"] == "ingested", acme.path / "state", what=lambda: acme.files())
    assert len(tree(acme)) == 1


def test_two_managers_unpack_it_once_and_a_new_image_replaces_instances(acme):

    def build(who):
        return layout(acme.apps / "img", *base('trap "exit 0" TERM; echo TRIED who $(cat /etc/who); sleep 1000 & wait'), layer(entry("etc/who", who)))
    acme.profiles(mounts="", cpus=0.01, rlimits="")
    first = build(b"first")
    acme.db_of["acme"] = f"acme_{acme.base.name.replace('-', '_')}"
    app = 'image = "img"; exec = "/app";'
    (acme.path / "conf/tenants/acme.conf").write_text(
        f'database = "{acme.db_of["acme"]}"; datasets = ( {{ name = "data"; }} ); batch = ( {{ app = "b"; image = "img"; exec = "/bin/ls"; }} );\n'
        f'streams = ( {{ name = "s"; }} ); stream_apps = ( {{ app = "s"; stream = "s"; {app} min_instances = 1; }} );\n')
    acme.up()
    acme.drop("x.csv", "a\n1\n")
    assert acme.wait_file()["state"] == "ingested"

    def running(not_=()):
        found = [r for r in acme.rows("runs", "--state", "running") if r["run_id"] not in not_]
        return len(found) == 1 and "TRIED" in acme.log_of(found[0]["run_id"]) and found[0]["run_id"]
    one = until(running, acme.path / "state", what=lambda: acme.rows("app", "list"))
    assert "TRIED who first" in acme.log_of(one) and tree(acme) == [first]
    assert len(events(acme, "image_unpacked") + events(acme, "image_unpacked", "streammgr")) == 1, "the other found it"
    second = build(b"second")
    two = until(lambda: running([one]), acme.path / "state", what=lambda: acme.rows("app", "list"))
    assert "TRIED who second" in acme.log_of(two) and tree(acme) == sorted([first, second])
    until(lambda: [r["run_id"] for r in acme.rows("runs", "--state", "running")] == [two], acme.path / "state", what="the old instance to go")
    (acme.apps / "img/index.json").write_text("{")
    reason = until(lambda: next((a["reason"] for a in acme.rows("app", "list") if a["state"] == "parked"), None), acme.path / "state", what="it to be parked")
    assert "its index.json" in reason and [r["run_id"] for r in acme.rows("runs", "--state", "running")] == [two], "what runs stays"
    build(b"third")
    until(lambda: running([one, two]), acme.path / "state", what=lambda: acme.rows("app", "list"))


def old(path):
    os.utime(path, (time.time() - 3600, time.time() - 3600))


def test_an_image_that_no_app_names_goes_once_no_run_has_it(acme):
    marks = acme.path / "state/images/acme"
    used = layout(acme.apps / "used", *base("sleep 1000"))
    left = layout(acme.apps / "left", *base("exit 0"))
    acme.tenant(apps='{ app = "u"; exec = "/app"; image = "used"; pattern = "u*"; }, { app = "l"; exec = "/app"; image = "left"; pattern = "l*"; }')
    acme.up()
    acme.drop("u.csv", "a\n1\n")
    run_id = acme.wait_running()[0]["run_id"]
    run(acme, "l.csv")
    assert tree(acme) == sorted([used, left])
    acme.tenant(apps='{ app = "u"; exec = "builtin:load"; pattern = "u*"; }')

    def sweep():
        acme.reload()
        return all((marks / f".unused-{d}").exists() for d in (used, left))
    until(sweep, marks, what="both to be seen unused")
    assert tree(acme) == sorted([used, left]), "not at once"
    old(marks / f".unused-{used}")
    old(marks / f".unused-{left}")
    until(lambda: acme.reload() and tree(acme) == [used], marks, what="the one without a run to go")
    acme.reload()
    acme.cli("stop", run_id)
    until(lambda: acme.reload() and tree(acme) == [], marks, what="the other to go")
    until(lambda: [p.name for p in marks.iterdir()] == [".lock"], marks, what="no mark to stay")
    tenant(acme, "left")
    acme.reload()
    assert run(acme, "again.csv")[0]["state"] == "ingested" and tree(acme) == [left], "it comes back with its app"


def test_many_images_in_a_row_do_not_stay(acme):
    layout(acme.apps / "img", *base())
    tenant(acme)
    acme.up()
    for i in range(9):
        layout(acme.apps / "img", *base(f"exit 0 # {i}"))
        assert run(acme, f"{i}.csv")[0]["state"] == "ingested"
    assert len(events(acme, "image_unpacked")) == 9 and len(tree(acme)) <= 6


@pytest.mark.parametrize("point", POINTS)
def test_killed_while_unpacking_nothing_half_is_used(acme, point):
    digest = layout(acme.apps / "img", *base('tried who "cat /etc/who"'))
    tenant(acme)
    acme.up(SIMBDP_CRASH_AT=point, SIMBDP_CRASH_ONCE=str(acme.base / "crashed"))
    f, tried, said = run(acme, "x.csv")
    assert f["state"] == "ingested" and tried["who"] == "image" and (acme.base / "crashed").exists(), said
    assert tree(acme) == [digest] and not [p for p in (acme.path / "state/images/acme").iterdir() if p.name.startswith(".unpack")]


def test_the_run_that_unpacks_ends_with_who_asked(acme):
    """batchmgr dies in the middle: the next one unpacks anew, and of the first nothing is left, no process and no file."""
    digest = layout(acme.apps / "img", *base("exit 0"), layer(*[entry(f"many/{i}", bytes(20000)) for i in range(8000)]))
    tenant(acme)
    acme.up()
    acme.drop("x.csv", "a\n1\n")
    (first,) = until(lambda: acme.pids("umoci"), every=0.01, what="umoci")
    base_uid, row = json.loads((acme.path / "state/uids.json").read_text())["uid_base"], table()["umoci"]
    s = until(lambda: (lambda s: s["Seccomp"] == "2" and s)(status(first)), every=0.01, what="its filter")
    assert (s["CapEff"], s["NoNewPrivs"], s["Uid"].split()) == ("0" * 16, "1", [str(uid_of(row["uid"], base_uid, None))] * 4)
    os.kill(acme.batchmgr_pid(), signal.SIGKILL)
    assert acme.wait_file()["state"] == "ingested" and tree(acme) == [digest]
    assert not acme.pids("umoci") and not [p for p in (acme.path / "state/images/acme").iterdir() if p.name.startswith(".unpack")]


def test_a_full_disk_leaves_no_half_image(acme):
    layout(acme.apps / "img", *base("exit 0"), layer(*[entry(f"many/{i}", os.urandom(40000)) for i in range(500)]))
    (acme.path / "state/images").mkdir()
    acme.mount_tmpfs("state/images", "12m")
    tenant(acme)
    acme.up()
    assert "No space left" in waits(acme, "x.csv")["detail"] and tree(acme) == []
    layout(acme.apps / "img", *base("exit 0"))
    until(lambda: acme.files()[0]["state"] == "ingested", acme.path / "state", what=lambda: acme.files())


def test_who_knows_a_digest_has_no_image_of_another_tenants(acme):
    """The index of another tenant's image is all that `spy` ships, and its own apps directory all that it can name."""
    layout(acme.apps / "img", *base('tried who "cat /etc/who"'))
    tenant(acme)
    spied = acme.path / "apps/spy"
    (spied / "img/blobs/sha256").mkdir(parents=True)
    for name in ("index.json", "oci-layout"):
        shutil.copy(acme.apps / "img" / name, spied / "img" / name)
    (spied / "way").symlink_to(acme.apps)
    acme.tenant("spy", apps='{ app = "a"; exec = "/app"; image = "img"; pattern = "a*"; }, { app = "b"; exec = "/app"; image = "way/img"; pattern = "b*"; }')
    acme.up()
    assert run(acme, "x.csv")[0]["state"] == "ingested"
    for name, why in (("a.csv", "cannot open its blobs/sha256/"), ("b.csv", "no part of which may be a link")):
        acme.drop(name, f"a\n{name}\n", "spy")
        found = until(lambda: [f for f in acme.files(tenant_id="spy", file_name=name) if f["state"] == "waiting"], acme.path / "state", what="it to wait")
        assert why in found[0]["detail"], found
    assert sorted(p.name for p in (acme.path / "state/images/spy").iterdir()) == [".lock"]


def test_without_umoci_it_is_told(acme):
    layout(acme.apps / "img", *base())
    tenant(acme)
    path = ":".join(p for p in os.environ["PATH"].split(":") if not pathlib.Path(p, "umoci").exists())
    acme.env["PATH"] = path
    checked = acme.cli("doctor", check=False).stdout
    assert "umoci" in checked and "apt-get install umoci" in checked
    assert "umoci" in acme.cli("check").stdout
    acme.up()
    assert "apt-get install umoci" in waits(acme, "x.csv")["detail"]


def test_what_is_purged_takes_its_images_along(acme):
    layout(acme.apps / "img", *base())
    tenant(acme)
    acme.up()
    run(acme, "x.csv")
    assert len(tree(acme)) == 1
    acme.cli("tenant", "remove", "acme", "--purge")
    until(lambda: not (acme.path / "state/images/acme").exists(), acme.path / "state/images", what="the tenant's images to go")


def many_tenants(home, n):
    """n tenants whose images take a while, each with a file that wants its own."""
    home.profiles(cpus=0.01, mounts="", rlimits="")
    first = home.base / "slow"
    layout(first, *base("exit 0"), layer(*[entry(f"many/{i}") for i in range(60000)]))
    names = [f"slow{i}" for i in range(n)]
    for name in names:
        (home.path / f"apps/{name}").mkdir()
        shutil.copytree(first, home.path / f"apps/{name}/img")
        home.tenant(name, apps='{ app = "a"; exec = "/app"; image = "img"; }')
    return names


PLACES, SPARE = max(2, os.cpu_count()), 4


def test_images_of_all_tenants_together_have_so_many_places(acme):
    names = many_tenants(acme, PLACES + SPARE + 3)
    acme.up()
    for name in names:
        acme.drop("x.csv", "a\n1\n", name)
    until(lambda: len([f for f in acme.files() if f["state"] == "queued"]) == len(names), acme.path / "state", what=acme.files)
    until(lambda: len(acme.pids("umoci")) == PLACES + SPARE, every=0.02, what="all places to be taken")
    going = {pathlib.Path(f"/proc/{p}/cmdline").read_bytes().split(b"\0")[3] for p in acme.pids("simbdp-image", " slow") if not has_ended(p)}
    assert len(going) == PLACES + SPARE and not events(acme, "image_unpacked"), going


def test_a_quiet_tenants_image_does_not_wait_for_slow_ones(acme):
    names = many_tenants(acme, PLACES)
    layout(acme.apps / "img", *base("exit 0"))
    tenant(acme)
    acme.up()
    for name in names:
        acme.drop("x.csv", "a\n1\n", name)
    slow = until(lambda: len(found := acme.pids("umoci")) == PLACES and found, every=0.02, what="all places to be taken")
    acme.drop("x.csv", "a\n1\n")
    until(lambda: acme.files(tenant_id="acme")[0]["state"] == "ingested" if acme.files(tenant_id="acme") else False, acme.path / "state", what=acme.files)
    assert [p for p in slow if not has_ended(p)], "they were not slow: the test says nothing"
    assert {f["state"] for f in acme.files() if f["tenant_id"] != "acme"} == {"queued"}
