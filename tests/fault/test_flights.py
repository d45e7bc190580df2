"""The year of flights, loaded whole. Beside test_load.py, whose programs are sanitized: a third of a million rows take those minutes."""
import datetime
import functools

import pytest

from harness import DATA

pytestmark = pytest.mark.anyone


def test_the_year_of_flights_in_one_command(home):
    """Every row in MongoDB equals, typed, what an independent reading of the file gives."""
    if not (DATA / "flights.csv").exists():
        pytest.skip("no sample data")
    words, when = {"carrier", "tailnum", "origin", "dest"}, "time_hour"
    home.tenant("acme", limits="")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; csv = { null = ("", "NA"); }; columns = ( { name = "time_hour"; type = "datetime"; required = true; }, { name = "tailnum"; type = "string"; } );'))
    home.profiles(wall_s=300)
    home.up()
    home.cli("upload", "acme", "data", DATA / "flights.csv", "--wait", timeout=600)
    f = home.files()[0]
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 336776, 0), f
    time_of = functools.lru_cache(None)(lambda v: datetime.datetime.strptime(v, "%Y-%m-%dT%H:%M:%SZ"))
    places, at = {}, 0  # rows are told apart by where they start: the last bytes of _id
    with open(DATA / "flights.csv", "rb") as source:
        for line in source:
            places[at] = line.decode().rstrip("\n")
            at += len(line)
    names = places.pop(0).split(",")
    for month in range(1, 13, 3):  # a year at once is too much for the embedded server's memory
        for doc in home.mongo.client[home.db_of["acme"]]["data"].find({"month": {"$gte": month, "$lt": month + 3}}):
            row = dict(zip(names, places.pop(int.from_bytes(doc.pop("_id")[16:], "big")).split(",")))
            expected = {k: None if v == "NA" else v if k in words else time_of(v) if k == when else int(v)
                        for k, v in row.items()}
            assert doc == expected and [type(v) for v in doc.values()] == [type(v) for v in expected.values()] and list(doc) == names
    assert not places and f["quality"]["by_column"]["dep_time"]["nulls"] == 8255
