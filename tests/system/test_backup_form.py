"""mysimbdp backup and restore: as a stream, where one may be, and what is in it."""
import hashlib
import io
import json
import os
import pathlib
import re
import struct
import subprocess
import tarfile

import pytest
from backups import at, backup, points, sound, restore  # noqa: F401 (restore: a fixture)
from harness import until


# ---- as a stream

def stream(home, *args):
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "backup", "-", *args], env=home.env, capture_output=True, timeout=120)
    assert r.returncode == 0, r.stderr.decode()
    return r.stdout, r.stderr.decode()


def test_a_backup_as_a_stream(home, restore):
    home.tenant()
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    data, said = stream(home, "--files")
    assert "files and directories" in said
    names = tarfile.open(fileobj=io.BytesIO(data)).getnames()
    assert names[0] == "backup.json" and names[-1].startswith("points/") and len(set(names)) == len(names)
    home.down()
    other = restore(home, where="-", data=data)
    assert [f["file_name"] for f in other.files()] == ["a.csv"] and len(list(other.path.glob("done/acme/data/*/a.csv"))) == 1
    assert not (other.path / ".restore").exists()


@pytest.mark.parametrize("cut", ["empty", "half", "point", "noise", "other"])
def test_a_stream_that_was_cut_restores_nothing(home, cut):
    home.tenant()
    data, _ = stream(home)
    tar = tarfile.open(fileobj=io.BytesIO(data))
    end = tar.getmembers()[-1]
    bad = {"empty": b"", "half": data[:len(data) // 2], "point": data[:end.offset], "noise": os.urandom(100000),
           "other": data[:end.offset_data] + data[end.offset_data:].replace(b'"bytes":', b'"bytez":', 1)}[cut]
    to = home.base / "new"
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "restore", "-", to], env=home.env, input=bad, capture_output=True, timeout=60)
    assert r.returncode == 1 and re.search(b"no whole backup|damaged", r.stderr), r.stderr
    assert not (to / "state/home.json").exists()
    r = subprocess.run([*home.as_user, home.program("mysimbdp"), "restore", "-", to], env=home.env, input=data, capture_output=True, timeout=60)
    assert r.returncode == 0, r.stderr


# ---- refused

def test_where_a_backup_may_not_be(home, make_home):
    home.tenant()
    for name, mode in (("open", 0o755), ("group", 0o750)):
        (home.base / name).mkdir()
        (home.base / name).chmod(mode)
        r = backup(home, where=home.base / name, check=False)
        assert r.returncode == 1 and "chmod 0700" in r.stderr, r.stderr
    full = home.base / "full"
    full.mkdir(mode=0o700)
    (full / "x").touch()
    r = backup(home, where=full, check=False)
    assert r.returncode == 1 and "neither empty nor a backup" in r.stderr
    for where in (home.path / "backup", home.path / "state/x", home.path):
        r = backup(home, where=where, check=False)
        assert r.returncode == 1 and "lies in the home itself" in r.stderr, (where, r.stderr)
    backup(home)
    r = backup(make_home(), where=at(home), check=False)
    assert r.returncode == 1 and f"has backups of {home.path}" in r.stderr
    for path in [at(home), *at(home).rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    for args in (("--list", "--verify"), ("--keep", "0"), ("--keep", "x"), ("--rate", "0"), ("--list", "--files"), ("--point", "x")):
        assert home.cli("backup", at(home), *args, check=False).returncode == 2, args
    assert home.cli("backup", "-", "--keep", "1", check=False).returncode == 2
    r = home.cli("backup", at(home), "--verify", "--point", "20200101T000000.000Z", check=False)
    assert r.returncode == 1 and "has no point" in r.stderr
    r = home.cli("restore", home.base / "nothing", home.base / "new", check=False)
    assert r.returncode == 1 and not (home.base / "new").exists()


def test_two_at_once(home):
    """One works; the other says so, and changes nothing."""
    home.tenant()
    backup(home)
    (home.path / "apps/acme/large").write_bytes(os.urandom(8 << 20))
    slow = subprocess.Popen([*home.as_user, home.program("mysimbdp"), "backup", at(home), "--rate", "1M"], env=home.env, stdout=subprocess.PIPE, text=True)
    try:
        until(lambda: (at(home) / "unfinished").exists(), at(home), what="the first one")
        r = backup(home, check=False)
        assert r.returncode == 1 and "another backup" in r.stderr
        r = home.cli("restore", at(home), home.base / "new", check=False)
        assert r.returncode == 1 and "works on" in r.stderr and not (home.base / "new").exists()
        assert slow.poll() is None, "--rate holds it back"
    finally:
        slow.kill()
        slow.communicate()
    backup(home)
    sound(home)


def test_without_a_home_that_ever_ran(home, restore):
    backup(home)
    other = restore(home)
    assert (other.path / "conf/mysimbdp.conf").read_text() == (home.path / "conf/mysimbdp.conf").read_text()
    home.path.rename(home.base / "was")
    other.up()


# ---- what is in it

def test_only_what_changed_takes_room(home):
    home.tenant()
    (home.path / "apps/acme/large").write_bytes(os.urandom(5 << 20))
    first = backup(home)
    assert first["fresh_bytes"] > 5 << 20
    assert backup(home)["fresh_bytes"] < 100_000
    with open(home.path / "apps/acme/large", "r+b") as f:
        f.seek(3 << 20)
        f.write(b"x")
    assert backup(home)["fresh_bytes"] < (1 << 20) + 100_000
    assert len(points(home)) == 3
    (home.path / "apps/acme/large").unlink()
    backup(home, "--keep", "2")
    assert len(points(home)) == 2
    backup(home, "--keep", "1")
    assert sum(p.stat().st_size for p in (at(home) / "objects").glob("*/*")) < 100_000
    sound(home)


def test_modes_links_and_names_are_as_they_were(home, restore):
    home.tenant()
    apps = home.path / "apps/acme"
    (apps / "sub").mkdir(mode=0o750)
    (apps / "sub/app").write_text("#!/bin/sh\n")
    (apps / "sub/app").chmod(0o4755)
    (apps / "link").symlink_to("sub/app")
    (apps / "away").symlink_to("/etc/passwd")
    os.mkfifo(apps / "pipe")
    odd = os.fsencode(apps) + b"/100%\xff \n\xc3\xa9"
    pathlib.Path(os.fsdecode(odd)).write_text("odd")
    (apps / "empty").touch()
    backup(home)
    other = restore(home)
    there = other.path / "apps/acme"
    assert (there / "sub").stat().st_mode & 0o7777 == 0o750
    assert (there / "sub/app").stat().st_mode & 0o7777 == 0o755, "setuid bits are for the provider to give again"
    assert os.readlink(there / "link") == "sub/app" and os.readlink(there / "away") == "/etc/passwd"
    assert pathlib.Path(os.fsdecode(os.fsencode(there) + b"/100%\xff \n\xc3\xa9")).read_text() == "odd"
    assert not (there / "pipe").exists() and (there / "empty").stat().st_size == 0
    assert int((there / "sub/app").stat().st_mtime) == int((apps / "sub/app").stat().st_mtime)


def frame(data):
    """A frame of zstd (RFC 8878) with one raw block."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(data)) + struct.pack("<I", 1 | len(data) << 3)[:3] + data


def forged(where, entries):
    """A backup that somebody made up."""
    def put(data):
        name = hashlib.blake2b(data, digest_size=32).hexdigest()
        (where / "objects" / name[:2]).mkdir(parents=True, exist_ok=True)
        (where / "objects" / name[:2] / name[2:]).write_bytes(frame(data))
        return name
    lines = []
    for e in entries:
        e = {"mode": 0o755, "uid": os.getuid(), "gid": os.getgid(), **e}
        if "data" in e:
            data = e.pop("data")
            e |= {"size": len(data), "mtime_ns": 0, "pieces": [put(data)] if data else []}
        lines.append(json.dumps(e))
    name = "20260101T000000.000Z"
    head = {"v": 1, "point": name, "at": 1, "done": 2, "home": "/x", "host": "h", "version": "0", "uid_base": -1, "files": False, "mode": 0o755, "uid": os.getuid(),
            "gid": os.getgid(), "entries": len(lines), "bytes": 0, "notes": [], "list": [put("".join(line + "\n" for line in lines).encode())]}
    text = json.dumps(head, separators=(",", ":"))[:-1].encode()
    (where / "points").mkdir(parents=True, exist_ok=True)
    (where / "points" / name).write_bytes(text + b',"check":"' + hashlib.blake2b(text, digest_size=32).hexdigest().encode() + b'"}\n')
    (where / "backup.json").write_text('{"v":1,"home":"/x"}\n')
    where.chmod(0o700)


HOME_JSON = {"path": "state/home.json", "type": "file", "data": b'{"version": 1}\n'}
STATE = {"path": "state", "type": "dir", "mode": 0o700}


@pytest.mark.parametrize("entries", [
    [{"path": "../out", "type": "file", "data": b"x"}],
    [{"path": "/tmp/out", "type": "file", "data": b"x"}],
    [{"path": "conf/../../out", "type": "file", "data": b"x"}],
    [{"path": "apps", "type": "dir"}, {"path": "apps/up", "type": "link", "to": "../.."}, {"path": "apps/up/out", "type": "file", "data": b"x"}],
    [{"path": "apps", "type": "link", "to": ".."}, {"path": "apps/out", "type": "file", "data": b"x"}],
    [{"path": "state/x", "type": "link", "to": "../../out"}, {"path": "state/x", "type": "file", "data": b"x"}],
    [{"path": "state/x", "type": "file", "data": b"x"}, {"path": "state/x", "type": "file", "data": b"y"}],
    [{"path": "conf%2F..%2F..%2Fout", "type": "file", "data": b"x"}],
    [{"path": "bin", "type": "dir"}], [{"path": ".restoring", "type": "file", "data": b"x"}], [{"path": "", "type": "dir"}],
    [{"path": "state/%00x", "type": "file", "data": b"x"}], [{"path": "state/x", "type": "pipe"}], [{"path": "state/x", "type": "file", "uid": -1, "data": b"x"}],
    [{"path": "state/x", "type": "file", "size": 5, "mtime_ns": 0, "pieces": []}], [{"path": "state/x", "type": "file", "size": 1, "mtime_ns": 0, "pieces": ["../../../etc/passwd"]}],
], ids=range(16))
def test_a_list_that_somebody_made_up_leads_nowhere(home, entries):
    where, to = home.base / "forged", home.base / "to/new"
    to.parent.mkdir()
    forged(where, [STATE, *entries, HOME_JSON])
    r = home.cli("restore", where, to, check=False)
    assert r.returncode == 1, r.stdout
    assert not (to / "state/home.json").exists() and list(to.parent.iterdir()) == [to] and not pathlib.Path("/tmp/out").exists()
    assert not (home.base / "out").exists()


def test_what_the_forger_of_these_tests_makes_is_restored_when_it_is_right(home):
    """Or the test before would show nothing."""
    where, to = home.base / "forged", home.base / "new"
    forged(where, [STATE, {"path": "conf", "type": "dir"}, {"path": "conf/a%25b", "type": "file", "data": b"x"}, HOME_JSON])
    home.cli("restore", where, to)
    assert (to / "conf/a%b").read_bytes() == b"x"
