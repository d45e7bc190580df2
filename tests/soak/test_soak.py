"""A short soak, and that a soak finds what it looks for."""
import sys
import threading

import pytest
from harness import ROOT

sys.path.insert(0, str(ROOT / "tests/soak"))
from sample import floors, growth, slope  # noqa: E402
from soak import Soak, is_flat, table  # noqa: E402

pytestmark = pytest.mark.anyone


@pytest.mark.soak
@pytest.mark.slow
def test_a_minute_of_it():
    soak = Soak(1.2, 1, tenants=10, log=print)
    try:
        result = soak.run()
        assert not result["broken"], table(result)
        assert result["sent"]["rows"] > 500 and result["sent"]["messages"] > 200 and result["kills"], result["sent"]
    finally:
        soak.keep_or_remove()


class Spoilt(Soak):
    """Whose rows and messages somebody takes away, and doubles."""

    def check(self):
        with self.database() as client:
            some = ((t, client[t.name].rows.find_one({"f": {"$gte": t.fresh[0]}})) for t in self.fleet.by_file if t.fresh)
            t, row = next((t, row) for t, row in some if row)
            client[t.name].rows.delete_one({"_id": row["_id"]})
            t = next(t for t in self.fleet.by_stream if t.sent > t.checked)
            client[t.name].messages.insert_one({"n": t.checked})
        super().check()


@pytest.mark.soak
@pytest.mark.slow
def test_it_finds_what_is_lost_and_what_is_twice():
    soak = Spoilt(0.2, 1, tenants=5, log=print)
    try:
        result = soak.run()
        assert result["lost"] == {"rows": len(soak.rounds), "messages": 0} and result["twice"] == {"rows": 0, "messages": len(soak.rounds)}, table(result)
        assert "rows missing" in str(result["broken"]) and "promises are broken" in table(result)
        soak.broken.clear()
    finally:
        soak.keep_or_remove()


def life(grow_kib_per_s, noise=300, n=360):
    """Samples of a program, 5 s apart, whose memory is larger now and then."""
    return [(i * 5.0, "steady", "broker", 7, 1000 + int(grow_kib_per_s * i * 5) + (noise if i % 3 else 0), 40, 2) for i in range(n)]


def test_what_grows_is_told_from_what_is_larger_at_times():
    assert is_flat("broker", growth(life(0), "steady")["broker"])
    leaking = growth(life(2), "steady")["broker"]
    assert not is_flat("broker", leaking) and abs(leaking["memory_kib"]["per_hour"] - 7200) < 100
    warming = [(at, *rest[:3], rest[3] + (0 if at < 300 else 4000), *rest[4:]) for at, *rest in life(0)]
    assert is_flat("broker", growth(warming, "steady")["broker"]), "what a program takes once is no growth"
    fds = [(*s[:5], 40 + i // 30, 2) for i, s in enumerate(life(0))]
    assert not is_flat("broker", growth(fds, "steady")["broker"])
    assert growth(life(0), "kills") == {}


def test_slopes():
    assert slope([(0, 1), (1, 3), (2, 5)]) == (2.0, 0.0)
    assert slope([(0, 1), (1, 3)])[1] == float("inf")
    assert floors([(0, 5), (1, 4), (2, 9), (3, 8)], 2) == [(0.75, 4), (2.25, 8)]


class Stuck(Soak):
    """Whose platform does not come back."""

    def disturb(self, part, over):
        self.fleet.quiet.wait()
        threading.Event().wait()


@pytest.mark.soak
@pytest.mark.slow
def test_what_does_not_come_back_is_no_hang(monkeypatch):
    monkeypatch.setattr("soak.SETTLE_S", 2)
    soak = Stuck(0.1, 1, tenants=2, log=print)
    try:
        assert "does not come to its end" in str(soak.run()["broken"])
        soak.broken.clear()
    finally:
        soak.keep_or_remove()
