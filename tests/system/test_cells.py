"""Cells: the page about them (docs/scale-out.md)."""
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
