"""Versions of apps (programs/appstore): what is taken and what is refused, which is executed, and what a kill leaves. The same over HTTP is in
test_gateway_apps.py."""
import fcntl
import hashlib
import io
import json
import os
import re
import signal
import stat
import subprocess
import tarfile
import zipfile

import pytest
from harness import ROOT, until

pytestmark = pytest.mark.once

POINTS = re.findall(r"X\((app_\w+)\)", (ROOT / "lib/base/crash.h").read_text())
GONE = re.findall(r"X\((gone_\w+)\)", (ROOT / "lib/base/crash.h").read_text())
SCRIPT = b"#!/bin/sh\necho '{\"v\": \"%s\"}'\n"
APP = '{ app = "say"; exec = "say"; output = "stdout"; }'


def script(word):
    return SCRIPT % word.encode()


def version_of(data):
    return hashlib.sha256(data).hexdigest()[:16]


def member(name, data=b"", mode=0o755, **more):
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), mode
    for k, v in more.items():
        setattr(info, k, v)
    return info, data


def tar(*members, mode="w:gz"):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode, format=tarfile.PAX_FORMAT) as t:
        for info, data in members:
            t.addfile(info, io.BytesIO(data))
    return out.getvalue()


def zipped(**files):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        for name, data in files.items():
            z.writestr(name, data)
    return out.getvalue()


def store(home, verb, *args, tenant="acme", app="say", check=True, env=None):
    p = subprocess.run([home.program("simbdp-appstore"), "--home", str(home.path), verb, tenant, app, *map(str, args)], capture_output=True, text=True,
                       env=env or home.env)
    assert p.returncode in (0, 1), p
    doc = json.loads(p.stdout)
    assert doc["ok"] == (p.returncode == 0), doc
    assert not check or doc["ok"], doc
    return doc


def push(home, data, *args, check=True, **kw):
    path = home.path / "up"
    path.write_bytes(data)
    doc = store(home, "push", path, *args, check=check, **kw)
    return doc.get("pushed", doc)


def provide(home, data):
    """As the provider puts an executable there."""
    path = home.path / "apps/acme/say"
    path.write_bytes(data)
    path.chmod(0o755)


def versions(home, app="say"):
    return {v["version"]: v for v in store(home, "list", app=app)["versions"]}


def tree(home, version, app="say"):
    return home.path / "apps/acme/.versions" / app / version


def left_over(home):
    """What an upload left: of its work, and of versions that are none."""
    of_app = home.path / "apps/acme/.versions/say"
    return [p.name for p in (home.path / "state/appstore").glob("*/*")] + [p.name for p in of_app.glob(".new-*")]


def said(home, name):
    """What the app printed for a file of that name, by what was stored."""
    home.drop(name, f"v\n{name}\n")
    f = home.wait_file(file_name=name)
    assert f["state"] == "ingested", (f, home.log_of(f["run_id"]))
    return [d["v"] for d in home.docs() if d.get("v")][-1]


@pytest.fixture
def home(home):
    home.tenant(apps=APP)
    return home


def test_an_executable(home):
    v = push(home, script("one"))
    assert (v["version"], v["state"], v["active"], v["files"], v["reason"]) == (version_of(script("one")), "ready", False, 1, None), v
    path = tree(home, v["version"]) / "say"
    assert path.read_bytes() == script("one") and stat.S_IMODE(path.stat().st_mode) == 0o755 and path.stat().st_uid == os.geteuid()
    assert left_over(home) == []
    assert store(home, "push", home.path / "up")["again"], "the same bytes are the same version"


@pytest.mark.parametrize("kind", ["tar", "tar.gz", "tar.zst", "zip", "directory"])
def test_an_archive(home, kind):
    members = [member("parts", type=tarfile.DIRTYPE), member("say", script("x")), member("parts/a.txt", b"A", 0o640)]
    if kind == "directory":
        members = [member("app/" + i.name, d, i.mode, type=i.type) for i, d in members]
    data = tar(*members, mode="w" if kind in ("tar", "tar.zst") else "w:gz")
    if kind == "tar.zst":
        data = subprocess.run(["zstd", "-q"], input=data, capture_output=True, check=True).stdout
    if kind == "zip":
        data = zipped(**{"say": script("x"), "parts/a.txt": b"A"})
    v = push(home, data)
    assert (v["state"], v["files"], v["bytes"]) == ("ready", 3, len(script("x")) + 1), v
    at = tree(home, v["version"])
    assert (at / "parts/a.txt").read_bytes() == b"A" and stat.S_IMODE((at / "parts/a.txt").stat().st_mode) == 0o644
    assert stat.S_IMODE((at / "say").stat().st_mode) == 0o755, "also of a zip, which has no modes: it begins as an executable does"
    assert left_over(home) == []


@pytest.mark.parametrize("members,code,words", [
    ([member("../say", script("x"))], "archive", "'..'"),
    ([member("a/../../say", script("x"))], "archive", "'..'"),
    ([member("/say", script("x"))], "archive", "absolute"),
    ([member("say", script("x")), member("l", type=tarfile.SYMTYPE, linkname="/etc/passwd")], "archive", "link"),
    ([member("say", script("x")), member("l", type=tarfile.LNKTYPE, linkname="say")], "archive", "link"),
    ([member("say", type=tarfile.SYMTYPE, linkname="/bin/sh")], "archive", "link"),
    ([member("say", script("x")), member("d", type=tarfile.CHRTYPE, devmajor=1, devminor=3)], "archive", "neither a file nor a directory"),
    ([member("say", script("x")), member("d", type=tarfile.BLKTYPE)], "archive", "neither a file nor a directory"),
    ([member("say", script("x")), member("d", type=tarfile.FIFOTYPE)], "archive", "neither a file nor a directory"),
    ([member("say", script("x"), 0o4755)], "archive", "setuid"),
    ([member("say", script("x"), 0o2755)], "archive", "setuid"),
    ([member("say", script("x")), member("say", script("y"))], "archive", "twice"),
    ([member("say", script("x")), member("say/a", b"")], "archive", "twice"),
    ([member("say", script("x")), member("a\nb", b"")], "archive", "control character"),
    ([member("say", script("x")), member("n" * 256, b"")], "archive", "255"),
    ([member("say", script("x")), member("/".join("d" * 40), b"")], "archive", "parts"),
    ([member("other", script("x"))], "no_exec", "no file say"),
    ([member("say", b"just text", 0o644)], "no_exec", "no executable file"),
    ([member("say/x", script("x"))], "no_exec", "no executable file"),
    ([member("say", script("x")), member(".python/evil.py", b"")], "archive", ".python"),
    ([], "archive", "empty"),
])
def test_what_is_refused(home, members, code, words):
    data = tar(*members)
    answer = push(home, data, check=False)
    assert (answer.get("code"), words in answer.get("error", "")) == (code, True), answer
    v = versions(home)[version_of(data)]
    assert v["state"] == "refused" and words in v["reason"]
    assert not tree(home, v["version"]).exists() and left_over(home) == []
    assert store(home, "activate", v["version"], check=False)["code"] == "state"


@pytest.mark.parametrize("data,words", [(b"", "neither an executable"), (b"MZ\x90", "neither an executable"), (b"\x1f\x8b" + bytes(50), "unpacking it"),
                                        (b"PK\x03\x04" + bytes(50), "unpacking it"), (tar(member("say", script("x")))[:-20], "unpacking it")])
def test_no_archive(home, data, words):
    answer = push(home, data, check=False)
    assert answer["code"] == "archive" and words in answer["error"], answer
    assert left_over(home) == []


@pytest.mark.parametrize("limit,data,code", [
    ("max_app_bytes = 100000L;", tar(member("say", script("x")), member("zeros", bytes(200000))), "max_app_bytes"),
    ("max_app_bytes = 100000L;", script("x" * 100001), "max_app_bytes"),
    ("max_app_files = 10L;", tar(member("say", script("x")), *[member(f"f{i}") for i in range(10)]), "max_app_files"),
    ("max_app_files = 10L;", tar(member("say", script("x")), member("/".join("abcdefghijk")[0:21], b"")), "max_app_files"),
])
def test_limits(home, limit, data, code):
    home.tenant(apps=APP, tenant=limit)
    answer = push(home, data, check=False)
    assert answer["code"] in (code, "archive") and ("more than" in answer["error"]), answer
    assert left_over(home) == []


def test_a_bomb_takes_no_more_than_allowed(home):
    """4 GiB of zeros in 4 MB."""
    home.tenant(apps=APP, tenant="max_app_bytes = 50000000L;")
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as z:
        z.writestr("say", script("x"))
        with z.open("zeros", "w", force_zip64=True) as f:
            for _ in range(512):
                f.write(bytes(1 << 20))
    answer = push(home, out.getvalue(), check=False)
    assert "more than" in answer["error"] and left_over(home) == [], answer


def test_versions_that_are_kept(home):
    home.tenant(apps=APP, tenant="max_app_versions = 2;")
    a, b = push(home, script("a"))["version"], push(home, script("b"), "--activate")["version"]
    assert push(home, script("c"), check=False)["code"] == "max_app_versions"
    assert store(home, "remove", b, check=False)["code"] == "state", "it is active"
    store(home, "remove", a)
    assert push(home, script("c"))["state"] == "ready"
    assert set(versions(home)) == {b, version_of(script("c"))} and not tree(home, a).exists()


def test_which_version_is_executed(home):
    provide(home, script("bare"))
    home.up()
    assert said(home, "0.csv") == "bare", "what the provider put into apps/ counts until a version is activated"
    a, b = push(home, script("a"))["version"], push(home, script("b"))["version"]
    assert said(home, "1.csv") == "bare", "an upload alone changes nothing"
    assert store(home, "activate", a) | {"ok": 1} == {"ok": 1, "app": "say", "version": a, "previous": None}
    assert said(home, "2.csv") == "a"
    assert store(home, "activate", b)["previous"] == a
    assert said(home, "3.csv") == "b"
    assert store(home, "rollback")["version"] == a
    assert said(home, "4.csv") == "a"
    assert store(home, "rollback", check=False)["code"] == "state", "there is no earlier one"
    assert store(home, "activate", "0" * 16, check=False)["code"] == "not_found"


def test_what_lies_beside_it(home):
    """SIMBDP_APP_DIR is the version's."""
    text = b'#!/bin/sh\nprintf \'{"v": "%s"}\\n\' "$(cat $SIMBDP_APP_DIR/parts/word) $SIMBDP_APP_VERSION"\n'
    data = tar(member("say", text), member("parts/word", b"beside", 0o644))
    push(home, data, "--activate")
    home.up()
    assert said(home, "1.csv") == "beside " + version_of(data)


def wheel(name, code):
    out = io.BytesIO()
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(out, "w") as z:
        z.writestr(f"{name}.py", code)
        z.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        z.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        z.writestr(f"{info}/RECORD", "")
    return out.getvalue()


def python_app(requirements, *more):
    code = b"#!/usr/bin/python3\nimport json, wordy\nprint(json.dumps({'v': wordy.WORD}))\n"
    return tar(member("say", code), member("requirements.txt", requirements, 0o644), *more)


def test_python_with_requirements(home):
    home.up()
    v = push(home, python_app(b"./wheels/wordy-1.0-py3-none-any.whl\n", member("wheels/wordy-1.0-py3-none-any.whl", wheel("wordy", "WORD = 'installed'"))),
             "--activate")
    assert v["python"] and v["state"] == "ready", v
    assert said(home, "1.csv") == "installed"


def test_requirements_that_cannot_be_had(home):
    home.up()
    answer = push(home, python_app(b"./wheels/nothing-1.0-py3-none-any.whl\n"), check=False)
    assert answer["code"] == "requirements" and "nothing-1.0" in answer["error"], answer
    assert left_over(home) == []


@pytest.mark.timing
def test_an_installation_that_takes_too_long(home):
    home.tenant(apps=APP, tenant="max_app_build_s = 3;")
    home.up()
    source = b"import select\nselect.select([], [], [], 600)\n"
    answer = push(home, python_app(b"./slow\n", member("slow/setup.py", source, 0o644)), check=False)
    assert answer["code"] == "max_app_build_s", answer
    assert left_over(home) == []


@pytest.mark.needs_root
def test_an_installation_is_the_tenants(home):
    """setup.py is code of the tenant's: it runs as the tenant, and sees neither keys nor other tenants."""
    home.up()
    code = f"import os\nraise SystemExit('uid %d, keys %s' % (os.getuid(), os.path.exists({str(home.path / 'keys')!r})))\n".encode()
    answer = push(home, python_app(b"./it\n", member("it/setup.py", code, 0o644)), check=False)
    uid = json.loads((home.path / "state/uids.json").read_text())["uid_base"]
    assert answer["code"] == "requirements" and re.search(r"uid (\d+), keys False", answer["error"]), answer
    assert uid < int(re.search(r"uid (\d+)", answer["error"])[1]) < uid + 61440


def test_two_uploads_at_once(home):
    """The second is told so, and nothing is mixed."""
    path = home.path / "apps/acme/.versions/say"
    push(home, script("first"))
    with open(path / ".build.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert push(home, script("second"), check=False)["code"] == "busy"
    assert push(home, script("second"))["state"] == "ready"


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(home, point):
    """Nothing that is not whole has a version's name; sent again, it is taken."""
    data = tar(member("say", script(point)))
    once = home.path / "crashed"
    (home.path / "up").write_bytes(data)
    p = subprocess.run([home.program("simbdp-appstore"), "--home", str(home.path), "push", "acme", "say", str(home.path / "up"), "--activate"], capture_output=True,
                       env={**home.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(once)})
    assert p.returncode == -signal.SIGKILL and once.exists(), p
    at = tree(home, version_of(data))
    assert not at.exists() or (at / "say").read_bytes() == script(point)
    v = push(home, data, "--activate")
    assert v["state"] == "ready" and v["active"], v
    assert left_over(home) == []


WAITS = b"""#!/bin/sh
: > begun
while [ ! -e go ]; do /bin/sleep 0.05; done
printf '{"v": "%s"}\\n' "$(cat $SIMBDP_APP_DIR/parts/word)"
"""


def test_a_version_that_a_run_executes(home):
    """It is not removed before that has ended, so the run finds what it had not read yet."""
    home.up()
    a = push(home, tar(member("say", WAITS), member("parts/word", b"whole", 0o644)), "--activate")["version"]
    home.drop("1.csv", "v\n1\n")
    until(lambda: list((home.path / "runs").glob("*/app/begun")), home.path / "logs", what="a run that has begun")
    (begun,) = (home.path / "runs").glob("*/app/begun")
    push(home, script("b"), "--activate")
    before = sorted(p.name for p in tree(home, "").iterdir())
    for _ in range(2):
        answer = store(home, "remove", a, check=False)
        assert answer["code"] == "in_use" and begun.parent.parent.name in answer["error"], answer
    assert sorted(p.name for p in tree(home, "").iterdir()) == before, "nothing of it is gone"
    (begun.parent / "go").touch()
    f = home.wait_file(file_name="1.csv")
    assert (f["state"], f["attempts"]) == ("ingested", 1), (f, home.log_of(f["run_id"]))
    assert [d["v"] for d in home.docs() if d.get("v")] == ["whole"]
    until(lambda: store(home, "remove", a, check=False)["ok"], what="the run is over")
    assert not tree(home, a).exists() and a not in versions(home) and left_over(home) == []


def test_a_version_that_goes_before_its_run_begins(home):
    """The run was decided on with it: it is tried again with the one that is active then, and its file is not charged with an attempt."""
    home.up()
    a, b = push(home, script("a"), "--activate")["version"], push(home, script("b"))["version"]
    assert said(home, "0.csv") == "a"
    spawner = home.spawner_of()
    os.kill(spawner, signal.SIGSTOP)
    try:
        home.drop("1.csv", "v\n1\n")
        until(lambda: len(home.rows("runs")) == 2, home.path / "logs", what="a run that is decided on")
        store(home, "activate", b)
        store(home, "remove", a)
    finally:
        os.kill(spawner, signal.SIGCONT)
    f = home.wait_file(file_name="1.csv")
    assert f["state"] == "ingested" and [d["v"] for d in home.docs() if d.get("v")] == ["a", "b"], f
    assert any(r["outcome"] == "lost" and a in (r["error"] or "") for r in home.rows("runs"))


@pytest.mark.parametrize("point", GONE)
def test_a_removal_that_is_killed(home, point):
    """It left all of it or nothing of that name, and is done with the next upload."""
    a = push(home, tar(member("say", script("a")), member("x", b"x")), "--activate")["version"]
    push(home, script("b"), "--activate")
    p = subprocess.run([home.program("simbdp-appstore"), "--home", str(home.path), "remove", "acme", "say", a], capture_output=True,
                       env={**home.env, "SIMBDP_CRASH_AT": point, "SIMBDP_CRASH_ONCE": str(home.path / "crashed")})
    assert p.returncode == -signal.SIGKILL, p
    assert a not in versions(home) and (not tree(home, a).exists() or (tree(home, a) / "x").read_bytes() == b"x")
    push(home, script("c"))
    assert not tree(home, a).exists() and left_over(home) == []


def test_a_version_whose_manifest_is_lost(home):
    """Uploaded again, it is whole, also for who uses it."""
    data = tar(member("say", script("a")), member("x", b"x"))
    a = push(home, data, "--activate")["version"]
    tree(home, a + ".json").write_text("{")
    (tree(home, a) / "x").unlink()
    assert push(home, data)["state"] == "ready"
    assert (tree(home, a) / "x").read_bytes() == b"x" and left_over(home) == []


def test_an_app_that_is_not_the_tenants_to_replace(home):
    home.tenant(apps='{ app = "say"; exec = "builtin:load"; }, { app = "abs"; exec = "/bin/true"; }')
    for app, words in (("say", "builtin:load"), ("abs", "/bin/true"), ("other", "no app")):
        answer = push(home, script("x"), app=app, check=False)
        assert answer["code"] == "no_app" and words in answer["error"], answer


def test_names_that_are_no_apps(home):
    for app in ("../x", "", "a/b", ".", "A"):
        assert push(home, script("x"), app=app, check=False)["code"] == "no_app"
    assert push(home, script("x"), tenant="../acme", check=False)["code"] == "not_found"


def test_a_damaged_store(home):
    """What is active cannot be read: nothing is run by mistake, and activating mends it."""
    provide(home, script("bare"))
    v = push(home, script("a"), "--activate")["version"]
    (tree(home, "active.json")).write_text("{")
    home.up()
    home.drop("1.csv", "v\n1\n")
    until(lambda: any("parked" in line for line in (home.path / "logs/batchmgr.log").read_text().splitlines()), home.path / "logs", what="parked")
    store(home, "activate", v)
    assert home.wait_file(file_name="1.csv")["state"] == "ingested"
    assert [d["v"] for d in home.docs()] == ["a"]
