"""Somebody with an account takes the place in /tmp where a user's home has its sockets, before the home does or while it is down."""
import hashlib
import json
import os
import pathlib
import shutil
import subprocess

import pytest
from test_rootless import UID, Rootless, place  # noqa: F401

pytestmark = pytest.mark.needs_root
SQUATTER = UID + 1


class Plain(Rootless):
    """A user without subordinate ids and without XDG_RUNTIME_DIR."""

    all_walls = False

    def __init__(self, mongo, place, **kw):  # noqa: F811
        self.taken = []
        super().__init__(mongo, place, **kw)
        self.env.pop("XDG_RUNTIME_DIR", None)

    @property
    def as_user(self):
        super().as_user  # which makes the files the user's
        return ["setpriv", f"--reuid={UID}", f"--regid={UID}", "--clear-groups", "env", f"HOME={self.place}/user"]

    def squat(self, path, kind):
        """As the other account does; path is free."""
        self.taken.append(path)
        if kind == "link":  # to a directory of the user's, which he may not mean
            path.symlink_to(self.base)
        elif kind == "file":
            path.write_text("")
        else:
            path.mkdir(mode=0o777)
            path.chmod(0o777)
        os.lchown(path, SQUATTER, SQUATTER)

    def place_of_sockets(self):
        return pathlib.Path(json.loads((self.path / "state/endpoints.json").read_text())["batchmgr"]["ipc"]).parent

    def cleanup(self):
        super().cleanup()
        for path in self.taken:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)


@pytest.fixture
def home(mongo, place):  # noqa: F811
    h = Plain(mongo, place)
    h.tenant()
    yield h
    h.cleanup()


def serves(home):
    home.up()
    at = home.place_of_sockets()
    st = at.lstat()
    assert at.parent == pathlib.Path("/tmp") and (st.st_uid, st.st_mode & 0o7777) == (UID, 0o711) and not at.is_symlink()
    assert home.cli("status").stdout and (home.path / "state/runtime").stat().st_mode & 0o077 == 0
    home.down()
    return at


@pytest.mark.parametrize("kind", ["directory", "link", "file"])
def test_who_takes_the_place_of_sockets_stops_nobody(home, kind):
    tag = hashlib.blake2b(str(home.path).encode(), digest_size=8).hexdigest()
    known = pathlib.Path(f"/tmp/mysimbdp-{UID}-{tag}")  # what versions before had, which anybody can tell
    home.squat(known, kind)
    at = serves(home)
    assert at != known and tag not in at.name
    assert serves(home) == at, "it is kept"
    shutil.rmtree(at)  # as a reboot does: the name was to be seen, and is free
    home.squat(at, kind)
    again = serves(home)
    assert again not in (at, known)
    assert not known.is_dir() or known.is_symlink() or not list(known.iterdir())
    assert known.is_symlink() or not at.is_dir() or not list(at.iterdir())
    assert not [p for p in home.base.iterdir() if p.suffix in (".sock", ".ipc", ".lock")], "nothing went where the link led"


def test_a_copy_of_a_home_has_a_place_of_its_own(home):
    at = serves(home)
    shutil.copytree(home.path, home.base / "copy")
    home.path = home.base / "copy"
    home.env["MYSIMBDP_HOME"] = str(home.path)
    assert serves(home) != at


def test_sockets_of_an_earlier_version_stay_where_they_are(home):
    tag = hashlib.blake2b(str(home.path).encode(), digest_size=8).hexdigest()
    known = pathlib.Path(f"/tmp/mysimbdp-{UID}-{tag}")
    subprocess.run([*home.as_user, "mkdir", "-m", "711", str(known)], check=True)
    home.taken.append(known)
    (home.path / "state/runtime").unlink(missing_ok=True)
    assert serves_at(home) == known


def serves_at(home):
    home.up()
    at = home.place_of_sockets()
    home.down()
    return at
