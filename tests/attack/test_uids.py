"""Homes of one host: no uid is of two of them, whatever is started, copied or moved."""
import json
import pathlib
import shutil
import subprocess

import pytest
from harness import BUILD

pytestmark = pytest.mark.needs_root
REGISTRY = pathlib.Path("/var/lib/mysimbdp/uids")


def block(home):
    return json.loads((home.path / "state/uids.json").read_text())["uid_base"]


def test_two_homes_share_no_uid(make_home):
    homes = [make_home() for _ in range(2)]
    uids = []
    for home in homes:
        home.tenant()
        home.up()
        home.drop("x.csv", "a\n1\n")
        assert home.wait_file()["state"] == "ingested"
        (tenant,) = home.rows("tenant", "list")
        inspectors = {pathlib.Path(f"/proc/{p}").stat().st_uid for p in home.pids("simbdp-inspect")}
        assert inspectors == {block(home)}
        assert tenant["uid"] == block(home) + 1 and (home.path / "staging/acme/data").stat().st_gid == tenant["uid"]
        uids.append(block(home))
        (said,) = [r for r in map(json.loads, home.cli("doctor", "--json").stdout.splitlines()) if r["subject"] == "uids of this home"]
        assert said["status"] == "ok" and str(block(home)) in said["reason"]
    assert abs(uids[0] - uids[1]) >= 65536
    for home, base in zip(homes, uids):
        assert json.loads((REGISTRY / str(base)).read_text())["home"] == str(home.path)
    assert REGISTRY.stat().st_mode & 0o7777 == 0o700


def test_a_copy_does_not_run_with_its_originals_uids(make_home):
    home, other = make_home(), make_home()
    home.tenant()
    home.cli("check")
    shutil.rmtree(other.path)
    subprocess.run(["cp", "-a", str(home.path), str(other.path)], check=True)
    for verb in ("check", "up", "doctor"):
        r = other.cli(verb, check=False)
        assert r.returncode != 0 and "is a copy of" in r.stdout + r.stderr and "platform.uid_base" in r.stdout + r.stderr
    home.cli("check")
    conf = other.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("platform = {", f"platform = {{ uid_base = {block(home)};"))
    other.cli("check")  # shared knowingly


def test_a_moved_home_keeps_its_uids_and_existing_tenants_theirs(make_home):
    home = make_home(platform="uid_base = 71000;")
    home.tenant()
    home.up()
    home.down()
    conf = home.path / "conf/mysimbdp.conf"
    conf.write_text(conf.read_text().replace("uid_base = 71000;", ""))
    home.tenant("beta")
    home.up()
    assert {t["tenant_id"]: t["uid"] for t in home.rows("tenant", "list")} == {"acme": 71001, "beta": block(home) + 1}
    home.down()
    before = block(home)
    moved = home.path.with_name("moved")
    home.path.rename(moved)
    r = subprocess.run([BUILD / "mysimbdp", "check", "--home", moved], capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    assert json.loads((REGISTRY / str(before)).read_text())["home"] == str(moved)
