"""The power goes below what is done by one call and then answered: backups and restores, versions and images of apps, configurations,
accounts (tests/fault/badfs/). What was acknowledged is there, whole; what was not is in nobody's way."""
import json
import os
import shutil
import stat
import subprocess

import pytest
from baddisk import BadDisk, cuts, how_often, power_off, until_cut
from harness import RELEASE
from images import directory, entry, layer, layout

pytestmark = [pytest.mark.needs_root, pytest.mark.anyone]


def said(home, *args, **kw):
    """None unless it was done."""
    r = home.cli(*args, check=False, timeout=30, **kw)
    return r.stdout if r.returncode == 0 else None


def sync_all(path):
    os.setxattr(path, "user.syncfs", b"1")


# ---- backups

@how_often(5, 60)
def test_backups(home, badfs, syncfs, n):
    """A point that was told is whole, and can be restored; nothing that is left of others is in its way."""
    home.programs = RELEASE  # sanitizers want to be loaded first
    home.tenant()
    home.up()
    to = home.base / "backup"
    to.mkdir(mode=0o700)
    disk = BadDisk(badfs, to, journal=1)
    home.env.update(syncfs)
    known = []
    try:
        for i in cuts(disk, n):
            def act(done, i=i):
                (home.path / "conf/templates").mkdir(exist_ok=True)
                (home.path / f"conf/templates/t{i}.{done}.conf").write_text(f"# {i} {done}\n" * 3000)
                r = said(home, "backup", to, "--json")
                return json.loads(r.splitlines()[-1])["point"] if r else None
            known += until_cut(disk, act)
            disk.power_back()
            r = home.cli("backup", to, "--verify", check=False)
            assert r.returncode == 0 or not known, r.stdout + r.stderr
            assert not known or set(known) <= {p["point"] for p in home.rows("backup", to, "--list")}
    finally:
        disk.remove()


def tree(top):
    """Of each name below it: what it is, and what it has."""
    def of(p):
        mode = p.lstat().st_mode
        return mode, os.readlink(p) if stat.S_ISLNK(mode) else p.read_bytes() if stat.S_ISREG(mode) else None
    return {str(p.relative_to(top)): of(p) for p in top.rglob("*")}


# What is another one in each restored home: its uids, and when it was.
OF_ITS_OWN = {"state/restored.json", "state/uids.json", "state/ledger.db"}


@how_often(6, 60)
def test_restored_homes(home, badfs, syncfs, n):
    """One that was told is as the backup has it; one that was not is none, and restoring it again makes it one."""
    home.programs = RELEASE
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n" + "1\n" * 1000)
    home.wait_file(file_name="a.csv")
    home.cli("backup", home.base / "backup", "--files")
    home.down()
    over = home.base / "disk"
    over.mkdir()
    home.cli("restore", home.base / "backup", home.base / "like")
    like = {k: v for k, v in tree(home.base / "like").items() if k not in OF_ITS_OWN}
    disk = BadDisk(badfs, over)
    home.env.update(syncfs)

    def restore(to):
        return home.cli("restore", home.base / "backup", to, check=False, timeout=60)

    def is_whole(to):
        files = [f["file_name"] for f in map(json.loads, home.cli("files", "--home", to, "--json").stdout.splitlines())]
        found = {k: v for k, v in tree(to).items() if k not in OF_ITS_OWN}
        assert found == like and files == ["a.csv"], set(found.items()) ^ set(like.items())
    try:
        for i in cuts(disk, n):
            def act(done, i=i):
                r = restore(over / f"home{i}.{done}")
                return over / f"home{i}.{done}" if r.returncode == 0 else None
            told = until_cut(disk, act)
            disk.power_back()
            last = over / f"home{i}.{len(told)}"
            r = restore(last)
            assert r.returncode == 0 or (last / "state/home.json").exists(), r.stderr
            for to in [*told, last]:
                is_whole(to)
                shutil.rmtree(to)
            assert not list(over.iterdir())
            sync_all(over)
    finally:
        disk.remove()


# ---- apps

@how_often(6, 60)
def test_versions_of_apps(home, on_disk, syncfs, n):
    """One that was told to be there, or to be active, is; one that was told to be removed is not; and what was cut off is done when it is asked for again."""
    home.programs = RELEASE
    home.tenant(apps='{ app = "say"; exec = "say"; output = "stdout"; }')
    disk = on_disk(home)
    told = {"there": {}, "active": None}  # there: by version, its text

    def store(*args):
        p = subprocess.run([home.program("simbdp-appstore"), "--home", home.path, args[0], "acme", "say", *args[1:]], capture_output=True, text=True, env={**home.env, **syncfs}, check=False)
        doc = json.loads(p.stdout) if p.stdout else {}
        return doc if doc.get("ok") else None

    def replace(number):
        """By a new one; of those before that, one goes."""
        path = home.base / "up"
        path.write_text(f"#!/bin/sh\necho {number}\n" + f"# {number}\n" * 2000)
        doc = store("push", path)
        if not doc:
            return None
        version, before = doc["pushed"]["version"], told["active"]
        told["there"][version] = path.read_text()
        told["active"] = None  # until it is known which
        if not store("activate", version):
            return None
        told["active"] = version
        text = told["there"].pop(before, None)
        if text and store("remove", before) is None:
            return None
        if text:
            told["removed"].add(before)
        return True

    for i in cuts(disk, n):
        told["removed"] = set()
        until_cut(disk, lambda done, i=i: replace(f"{i} {done}"))
        disk.power_back()
        found = store("list")
        assert found, "it can be listed"
        there = {v["version"]: v for v in found["versions"]}
        assert {there.get(v, {}).get("state") for v in told["there"]} <= {"ready"}, "what was pushed is there"
        assert found["version"] == (told["active"] or found["version"]) and not told["removed"] & set(there)
        for version in (v for v in there if there[v]["state"] == "ready"):
            text = (home.path / f"apps/acme/.versions/say/{version}/say").read_text()
            assert text == told["there"].get(version, text) and text.endswith(text.splitlines()[-1] + "\n") and text.count("\n") == 2002
        for version in set(there) - {found["version"]}:
            store("remove", version)
        told.update(there={}, active=None)
        assert replace(f"{i} again"), "and now it is done"
        kept = {p.name for p in (home.path / "apps/acme/.versions/say").iterdir()}
        assert not [name for name in kept if ".new-" in name or (name.endswith(".tmp") and name != "active.json.tmp")], kept
        assert not list((home.path / "state/appstore/acme.say").iterdir())


@how_often(5, 40)
def test_images_of_apps(home, on_disk, syncfs, n):
    """What has an image's name is all of that image; one that was cut off is unpacked when it is asked for again."""
    home.programs = RELEASE
    home.profiles(mounts="", rlimits="")
    home.tenant(exec_="/app", batch='image = "img";')
    disk = on_disk(home)
    made = {}  # by digest: what is in it
    images = home.path / "state/images/acme"

    def put(number):
        text = f"#!/bin/sh\necho {number}\n".encode()
        rest = [(f"more/{k}", f"{number} {k}\n".encode() * 50) for k in range(20)]
        digest = layout(home.path / "apps/acme/img", layer(directory("more"), entry("app", text, 0o755), *(entry(name, data) for name, data in rest)))
        sync_all(home.path)
        made[digest] = {"app": text, **dict(rest)}
        return digest

    def unpack():
        p = subprocess.run([*home.as_user, home.program("simbdp-image"), "--home", home.path, "acme", "img"], capture_output=True, text=True, env={**home.env, **syncfs}, check=False, timeout=60)
        return json.loads(p.stdout) if p.stdout else {"root": None, "why": p.stderr}

    def is_whole(digest):
        root = images / digest
        return made[digest] == {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}

    for i in cuts(disk, n):
        last = []

        def act(done, i=i, last=last):
            try:
                last[:] = [put(f"{i} {done}")]
            except OSError:
                return disk.wait_cut()
            return unpack()["root"] and last[0]
        told = until_cut(disk, act)
        power_off(home)
        disk.power_back()
        there = {p.name for p in images.iterdir() if not p.name.startswith(".")} if images.exists() else set()
        assert set(told[-1:]) <= there, "what was told is there"
        assert all(is_whole(digest) for digest in there)
        shutil.rmtree(home.path / "apps/acme/img", ignore_errors=True)
        shutil.rmtree(home.path / "apps/acme/img.new", ignore_errors=True)
        digest = put(f"{i} {len(told)}")
        said = unpack()
        assert said["root"] == str(images / digest) and is_whole(digest), said
        assert not [p for p in images.iterdir() if p.name.startswith(".unpack")]


# ---- configurations

def configured(home):
    return {str(p.relative_to(home.path)): p.read_bytes() for p in [home.path / "conf/mysimbdp.conf", *home.path.glob("conf/tenants/*.conf")]}


@how_often(5, 60)
def test_rollbacks(home, on_disk, n):
    """The files are all of one configuration or all of the other, and those that were said to hold; the way back is open."""
    home.programs = RELEASE
    home.tenant("acme", tenant="weight = 2;")
    home.tenant("more", tenant="weight = 2;")
    home.up()
    texts = [configured(home)]
    for name, weight in (("acme", 5), ("late", 2)):
        home.tenant(name, tenant=f"weight = {weight};")
    (home.path / "conf/tenants/more.conf").unlink()
    with open(home.path / "conf/mysimbdp.conf", "a", encoding="utf-8") as f:
        f.write("# another one\n")
    home.cli("reload")
    texts.append(configured(home))
    home.down()
    disk = on_disk(home)
    is_now = 1

    def number(which):
        """Of the newest that is like that."""
        return max(int(p.name) for p in (home.path / "state/configurations").glob("0*") if (b"# another one" in p.read_bytes()) == bool(which))

    def roll(_):
        nonlocal is_now
        try:
            to = 1 - is_now
            done = said(home, "history", "rollback", number(to)) is not None
        except (OSError, ValueError):
            return disk.wait_cut()
        is_now = to if done else is_now
        return True if done else None
    for _ in cuts(disk, n):
        until_cut(disk, roll)
        power_off(home)
        disk.power_back()
        home.up()
        found = configured(home)
        assert found in (texts[is_now], texts[1 - is_now]), {k: found.get(k) for k in texts[0] | texts[1]}
        is_now = texts.index(found)
        assert ("late" in {t["tenant_id"] for t in home.rows("tenant", "list") if t["state"] == "active"}) == bool(is_now)
        assert roll(None) and configured(home) == texts[is_now]
        home.down()
        assert not [p.name for p in home.path.glob("conf/**/*") if p.name.endswith((".before", ".next", ".tmp"))]
        assert not list((home.path / "state/configurations").glob("swap*"))


# ---- accounts

@how_often(4, 60)
def test_accounts_and_the_audit_log(home, on_disk, n):
    home.tenant()
    disk = on_disk(home)
    known = {"users": [], "tokens": []}
    for i in cuts(disk, n):
        def act(done, i=i):
            name = f"user{i}.{done}"
            if said(home, "user", "add", name, "--role", "tenant-reader", "--tenant", "acme", input="correct horse battery\n") is None:
                return None
            known["users"].append(name)
            token = said(home, "token", "add", name, "--json")
            if token is not None:
                known["tokens"].append(json.loads(token)["token_id"])
            return name
        until_cut(disk, act)
        power_off(home)
        disk.power_back()
        assert set(known["users"]) <= {u["name"] for u in home.rows("user", "list")}
        assert set(known["tokens"]) <= {t["token_id"] for t in home.rows("token", "list")}
        r = home.cli("audit", "--verify", check=False)
        assert r.returncode == 0, r.stdout + r.stderr
        assert set(known["users"]) <= {a["subject"] for a in home.rows("audit", "--limit", "10000")}
