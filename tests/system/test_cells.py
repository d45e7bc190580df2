"""Cells: the page about them (docs/scale-out.md), and the map that says which tenant is in which."""
import base64
import concurrent.futures
import json
import os
import subprocess
import sys

import pytest

from harness import BUILD, ROOT

sys.path.insert(0, str(ROOT / "tests" / "bench"))
from bench_fleet import PAGE, TABLE, tables  # noqa: E402

pytestmark = pytest.mark.anyone


def test_the_tables_of_the_page_are_what_the_simulator_says():
    """Those that take a second; `scripts/bench fleet --write` makes all of them."""
    there = {m[1]: m[0] for m in TABLE.finditer(PAGE.read_text())}
    quick = ["sizes", "shards", "failure", "streams"]
    assert set(there) == {*quick, "fill", "flood", "poison", "moves"}
    assert {name: there[name] for name in quick} == tables(BUILD / "tests/bench/fleetsim", *quick)
    assert not [name for name, table in there.items() if "**seed" in table]


# ---- the map ----

PIN = ":".join(["AB"] * 32)


class Fleet:
    """A directory of `mysimbdp cells`."""

    def __init__(self, path):
        self.path = path

    def cli(self, *args, ok=True, stdin=None):
        r = subprocess.run([BUILD / "mysimbdp", "cells", *map(str, args)], env={**os.environ, "MYSIMBDP_CELLS": str(self.path)}, input=stdin,
                           capture_output=True, text=True)
        assert (r.returncode == 0) == ok, (args, r)
        return r.stdout if ok else r.stderr

    def rows(self, *args):
        return [json.loads(line) for line in self.cli(*args, "--json").splitlines()]


@pytest.fixture
def fleet(tmp_path):
    f = Fleet(tmp_path / "fleet")
    f.cli("init", f.path)
    return f


def test_cells_and_tenants_are_put_into_a_signed_map(fleet):
    fleet.cli("add", "a", "https://a.example:8443", "--pin", PIN)
    fleet.cli("add", "b", "https://b.example")
    fleet.cli("assign", "acme", "a")
    fleet.cli("assign", "--from", "-", stdin="beta b\ngamma b moving\n")
    assert "nothing was signed" in fleet.cli("show", ok=False)
    assert "serial 1" in fleet.cli("sign")
    assert fleet.rows("show") == [{"cell": "a", "url": "https://a.example:8443", "tenants": 1, "moving": 0, "pin": "ab" * 32},
                                  {"cell": "b", "url": "https://b.example", "tenants": 2, "moving": 1, "pin": None}]
    assert fleet.rows("show", "gamma") == [{"tenant_id": "gamma", "cell": "b", "moving": True, "url": "https://b.example"}]
    assert "does not name delta" in fleet.cli("show", "delta", ok=False)
    fleet.cli("assign", "gamma", "a")
    fleet.cli("forget", "beta")
    assert "the draft says something else" in fleet.cli("show") and fleet.rows("show", "gamma")[0]["cell"] == "b"
    fleet.cli("remove", "b")
    fleet.cli("change", "a", "https://other.example")
    assert "serial 2" in fleet.cli("sign")
    assert fleet.rows("show") == [{"cell": "a", "url": "https://other.example", "tenants": 2, "moving": 0, "pin": None}]
    assert "serial 2" in fleet.cli("verify", fleet.path / "map", "--key", fleet.path / "map.pub")


def test_the_map_is_signed_as_others_sign(fleet):
    """Ed25519, by another implementation; and one that it signed is taken."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
    fleet.cli("add", "a", "https://a.example")
    fleet.cli("sign")
    text, _, signature = (fleet.path / "map").read_bytes().rpartition(b"signature ")
    public = base64.b64decode((fleet.path / "map.pub").read_text().split()[2])
    Ed25519PublicKey.from_public_bytes(public).verify(base64.b64decode(signature), text)
    secret = base64.b64decode((fleet.path / "map.key").read_text().split()[2])
    own = text.replace(b"serial 1", b"serial 9")
    (fleet.path / "map").write_bytes(own + b"signature " + base64.b64encode(Ed25519PrivateKey.from_private_bytes(secret[:32]).sign(own)) + b"\n")
    assert "serial 9" in fleet.cli("verify", fleet.path / "map", "--key", fleet.path / "map.pub")
    assert "serial 10" in fleet.cli("sign")


def test_a_map_that_was_changed_cut_or_has_expired_is_refused_in_words(fleet, tmp_path):
    fleet.cli("add", "a", "https://a.example")
    fleet.cli("assign", "acme", "a")
    fleet.cli("sign")
    whole, key = (fleet.path / "map").read_bytes(), fleet.path / "map.pub"
    for text, why in [(whole.replace(b"acme", b"acmf"), "was changed since"), (whole[:-20], "was cut"), (whole.rpartition(b"signature")[0], "is not signed"),
                      (b"", "it is empty"), (b"\0" * 100, "no map")]:
        (tmp_path / "other").write_bytes(text)
        assert why in fleet.cli("verify", tmp_path / "other", "--key", key, ok=False)
    other = Fleet(tmp_path / "second")
    other.cli("init", other.path)
    assert "not signed by this key" in fleet.cli("verify", fleet.path / "map", "--key", other.path / "map.pub", ok=False)
    (fleet.path / "map").write_bytes(whole[:-20])
    assert "was cut" in fleet.cli("sign", ok=False), "its serial cannot be known, so no successor is guessed"


def test_the_key_is_for_its_owner_alone(fleet):
    key = fleet.path / "map.key"
    assert key.stat().st_mode & 0o777 == 0o600
    before = key.read_bytes()
    assert "there are keys already" in fleet.cli("init", fleet.path, ok=False) and key.read_bytes() == before
    key.chmod(0o640)
    assert "others may read" in fleet.cli("sign", ok=False)
    key.chmod(0o600)
    fleet.cli("sign")


def test_operators_at_once_lose_nothing(fleet):
    fleet.cli("add", "a", "https://a.example")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: fleet.cli(*(["sign"] if i % 8 == 7 else ["assign", f"t{i}", "a"])), range(48)))
    assert f"serial {48 // 8 + 1}" in fleet.cli("sign")
    assert fleet.rows("show")[0]["tenants"] == 48 - 48 // 8


def test_what_cells_refuses(fleet):
    assert "did you mean 'sign'" in fleet.cli("sgn", ok=False)
    assert "no name of a cell" in fleet.cli("add", "A", "https://h", ok=False)
    assert "no https://" in fleet.cli("add", "a", "http://h", ok=False)
    assert "no cell a" in fleet.cli("assign", "t", "a", ok=False)
    fleet.cli("add", "a", "https://h")
    before = (fleet.path / "draft").read_bytes()
    assert "-:2: a line is TENANT CELL" in fleet.cli("assign", "--from", "-", stdin="t a\nu\n", ok=False)
    assert (fleet.path / "draft").read_bytes() == before, "all of the file, or nothing"
    assert "--days is 1 to" in fleet.cli("sign", "--days", "0", ok=False)
