"""The quality of what stream apps read: the figures that files have, kept by app and UTC day."""
import contextlib
import datetime
import json
import os
import signal
import sqlite3

import pytest
from harness import RELEASE, until
from test_consume import python, settled, start, stop, stream  # noqa: F401 (stream: a fixture)
from test_retention import leap  # noqa: F401 (a fixture)
from test_streammgr import LOAD, configure, publish, script, wait_app

pytestmark = pytest.mark.anyone

COLUMNS = ('columns = ( { name = "station"; type = "string"; regex = "^[A-Z]{3}$"; }, { name = "celsius"; type = "double"; max = 60.0; }, '
           '{ name = "when"; type = "datetime"; } );')


@pytest.fixture
def platform(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    return home


def columns(home, text=COLUMNS, more=""):
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('name = "data"; format = "json";', f'name = "data"; format = "json"; {text}') + more)


def today():
    return datetime.datetime.now(datetime.timezone.utc).date().isoformat()


def day(home, app="store"):
    """Today's line; the one before, should the day have changed since."""
    return ([r for r in home.rows("stats", "--streams") if r["app"] == app] or [{"quality": None}])[-1]


def wait_messages(home, n, app="store"):
    """Until so many messages are counted in all."""
    def counted():
        rows = [r for r in home.rows("stats", "--streams") if r["app"] == app and r["quality"]]
        return rows if sum(r["quality"]["messages"] for r in rows) >= n else None
    rows = until(counted, home.path / "state", what=lambda: f"{n} messages: {home.rows('stats', '--streams')}")
    assert sum(r["quality"]["messages"] for r in rows) == n
    return rows[-1]


def rows_of(*numbers):
    return [json.dumps({"station": f"{'ABC'[i % 3]}XY", "celsius": i / 2 if i % 5 else None, "when": f"2026-01-{1 + i % 20:02}T00:00:00Z", "n": i}).encode() for i in numbers]


def test_a_stream_has_the_figures_that_a_file_of_the_same_rows_has(platform):
    configure(platform, LOAD)
    columns(platform, more='batch = ( { app = "load"; exec = "builtin:load"; } );\n')
    platform.up()
    good = rows_of(*range(40))
    bad = [b'{"station":"abc"}', b'{"station":"OSL","celsius":99}', b"no json"]
    platform.drop("same.json", b"\n".join([*good, *bad]) + b"\n")
    file = platform.wait_file(file_name="same.json")["quality"]
    publish(platform, *good[:20], b"\n".join(good[20:]), *bad)
    found = wait_messages(platform, 24)
    until(lambda: day(platform)["rows"] == 40, platform.path / "logs/tenants/acme", what="what the broker counts")
    row = day(platform)
    assert (row["tenant_id"], row["app"], row["stream"], row["messages"], row["messages_dead"]) == ("acme", "store", "events", 21, 3) and row["day"] in (found["day"], today())
    quality = found["quality"]
    assert (quality["rows"], quality["rejects"], quality["columns"]) == (40, 3, 4)
    for q in (file, quality):
        q["by_column"]["when"].pop("newest_age_s")
    for name, column in file["by_column"].items():
        assert abs(column["distinct"] - quality["by_column"][name].pop("distinct")) <= 1, name
        column.pop("distinct")
    assert quality["rejects_by_rule"] == file["rejects_by_rule"] == {"regex": 1, "max": 1, "json": 1}
    assert quality["by_column"] == file["by_column"]
    shape = quality["by_column"]["celsius"].pop("histogram")
    assert sum(shape["counts"]) == 32 and shape["from"] <= 0.5 and 19.5 < shape["to"] and quality["by_column"]["when"]["histogram"]["from"] <= "2026-01-01T00:00:00.000Z"
    assert quality["by_column"]["celsius"] == {"type": "double", "values": 32, "nulls": 8, "rejects": 0, "min": 0.5, "max": 19.5}
    table = platform.cli("stats", "--streams").stdout
    assert "refused for" in table and "regex 1, max 1, json 1" in table.replace("  ", " "), table
    assert platform.rows("stats", "--streams", "--since", "2100-01-01T00:00:00Z") == []


def test_figures_outlive_instances_and_the_platform_and_none_counts_twice(platform):
    configure(platform, LOAD + "min_instances = 2; drain_s = 1;")
    platform.up(SIMBDP_CRASH_AT="instance_end_noted", SIMBDP_CRASH_ONCE=str(platform.base / "crashed"))
    wait_app(platform, lambda a: a["ready"] == 2)
    publish(platform, *rows_of(*range(100)))
    wait_messages(platform, 100)
    for pid in platform.pids("simbdp-load", "--stream"):
        os.kill(pid, signal.SIGKILL)
    until((platform.base / "crashed").exists, platform.base, what="a streammgr that dies between the end of an instance and what follows")
    until(lambda: len(platform.rows("runs", "--state", "ended")) == 2, platform.path / "state", what="the ends")
    wait_app(platform, lambda a: a["ready"] == 2)
    publish(platform, *rows_of(*range(100, 150)))
    wait_messages(platform, 150)
    platform.down()
    assert wait_messages(platform, 150)["quality"]["by_column"]["n"]["max"] == 149
    with contextlib.closing(sqlite3.connect(platform.path / "state/streams.db")) as db:
        assert {r for r, in db.execute("SELECT run_id FROM quality")} == {""}, "what ended is added up"
    platform.up()
    wait_app(platform, lambda a: a["ready"] == 2)
    publish(platform, *rows_of(*range(7)))
    wait_messages(platform, 157)
    platform.cli("tenant", "remove", "acme", "--purge")
    assert platform.rows("stats", "--streams") == []
    with contextlib.closing(sqlite3.connect(platform.path / "state/streams.db")) as db:
        assert db.execute("SELECT count(*) FROM quality").fetchone() == (0,)


def test_days_are_apart(platform):
    """What an instance read before midnight stays that day's: its result file has both."""
    configure(platform, LOAD)
    platform.up()
    publish(platform, *rows_of(0, 1))
    row = wait_messages(platform, 2)
    platform.down()
    with contextlib.closing(sqlite3.connect(platform.path / "state/streams.db")) as db:
        (text, number), = db.execute("SELECT quality, day FROM quality")
    kept = json.loads(text)
    assert kept["day"] == number == (datetime.date.fromisoformat(row["day"]) - datetime.date(1970, 1, 1)).days
    script(platform, "two.sh", "#!/bin/sh\ncat > \"$SIMBDP_RESULT_FILE\" <<'EOF'\n" + json.dumps({"quality": [{**kept, "day": number + k, "messages": 10 + k} for k in (1, 0, -1, -9)]}) + "\nEOF\nexec sleep 600\n")
    configure(platform, 'app = "two"; exec = "two.sh"; min_instances = 1;')
    platform.up()
    until(lambda: day(platform, "two")["quality"], platform.path / "state", what="a day")
    assert [r["quality"]["messages"] for r in platform.rows("stats", "--streams") if r["app"] == "two"] == [10], "neither days to come nor days before it began"


FORGED = {
    "fifo": 'rm -f "$SIMBDP_RESULT_FILE"; mkfifo "$SIMBDP_RESULT_FILE"',
    "link": 'ln -sf /etc/passwd "$SIMBDP_RESULT_FILE"',
    "directory": 'mkdir "$SIMBDP_RESULT_FILE"',
    "huge": 'head -c 1000000 /dev/zero > "$SIMBDP_RESULT_FILE"',
    "deep": 'printf \'{"quality":[{"day":1,"columns":%s\' "$(head -c 60000 /dev/zero | tr "\\0" "[")" > "$SIMBDP_RESULT_FILE"',
    "nonsense": 'd=$(($(date +%s) / 86400)); printf \'{"quality":[{"day":%d,"messages":-1,"rows":1e300,"columns":[{"name":"\\u001b[2J","types":{"int":9e18,"date":3},"ms_max":9e18,'
                '"registers":"ooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo~"}]}]}\' $d > "$SIMBDP_RESULT_FILE"',
}


def test_a_forged_result_file_harms_nobody(platform):
    apps = [f'app = "{name}"; exec = "{name}.sh"; min_instances = 1;' for name in FORGED]
    for name, command in FORGED.items():
        script(platform, f"{name}.sh", f"#!/bin/sh\n{command}\nexec sleep 600\n")
    configure(platform, LOAD, *apps)
    platform.up()
    pid = platform.pids("streammgr")
    wait_app(platform, lambda a: a["ready"] == 1, "nonsense")
    publish(platform, *rows_of(1, 2, 3))
    wait_messages(platform, 3)
    until(lambda: day(platform, "nonsense")["quality"], platform.path / "state", what="what can be made of it")
    quality = day(platform, "nonsense")["quality"]
    assert quality["messages"] == 0 and quality["rows"] >= 0 and quality["by_column"]["\x1b[2J"]["values"] <= 2 * 2**53
    assert "\x1b" not in platform.cli("stats", "--streams").stdout
    assert {r["app"] for r in platform.rows("stats", "--streams")} == {"store", "nonsense"} and platform.pids("streammgr") == pid


def test_figures_of_ever_other_members_are_bounded(platform):
    configure(platform, LOAD)
    platform.up()
    publish(platform, *[json.dumps({f"member{i:04}_{k}": "x" * 100 for k in range(4)}).encode() for i in range(500)], json.dumps({"n" * 3000: 1}).encode())
    quality = wait_messages(platform, 501)["quality"]
    assert quality["rows"] == 501 and 30 < quality["columns"] <= 256
    run, = wait_app(platform, lambda a: a["instances"] == 1)["run_ids"]
    assert (platform.path / "runs" / run / "app/result.json").stat().st_size < 64 << 10
    assert platform.count() == 501


def test_the_structure_only_has_no_figures(platform):
    configure(platform, LOAD)
    columns(platform, 'inspect = "structure";')
    platform.up()
    publish(platform, *rows_of(1, 2, 3))
    until(lambda: day(platform).get("rows") == 3, platform.path / "logs/tenants/acme", what="what the broker counts")
    platform.down()
    assert [r["quality"] for r in platform.rows("stats", "--streams")] == [None]


def written(home, n):
    """The days of the result file, once there are so many messages in all."""
    def look():
        path = home.base / "result.json"
        days = json.loads(path.read_text()).get("quality", []) if path.exists() else []
        return days if sum(d["messages"] for d in days) == n else None
    return until(look, home.base, what=f"{n} messages in the result file")


def test_libsimbdp_counts_what_it_reads_and_writes_it_while_it_waits(stream):
    p = python(stream, "simbdp.main(lambda run: run.ingest_stream())")
    stream.peer.publish("acme/events", [b'{"station":"OSL","celsius":1.5}', b'{"station":"TRD"}', b'{"station":"x"}', b""])
    settled(stream, dead=2)
    day, = written(stream, 4)
    assert (day["rows"], day["rejects"], {c["name"] for c in day["columns"]}) == (2, 2, {"station", "celsius"})
    assert {r["rule"]: r["n"] for r in day["rejects_by_rule"]} == {"regex": 1, "empty": 1}
    stop(p)
    assert written(stream, 4) == [day]


def test_an_instance_that_lives_for_days_has_each_of_them(stream, leap):
    leap(0)
    p = start(stream, RELEASE / "simbdp-load", "--stream", **leap.env)
    for days, n in ((0, 3), (1, 2), (3, 4)):
        leap(days)
        stream.peer.publish("acme/events", [b'{"station":"OSL"}'] * n)
        settled(stream, dead=0)
    days = written(stream, 9)
    stop(p)
    first = days[-1]["day"]
    assert [(d["day"] - first, d["messages"]) for d in days] == [(3, 4), (1, 2), (0, 3)]


def test_commands_count_alike(platform):
    script(platform, "cat.sh", "#!/bin/sh\nexec cat\n")
    configure(platform, LOAD, 'app = "printed"; exec = "cat.sh"; output = "stdout"; dataset = "data";')
    columns(platform)
    platform.up()
    publish(platform, *rows_of(*range(30)), b'{"station":"abc"}')
    qualities = [wait_messages(platform, 31, app)["quality"] for app in ("store", "printed")]
    assert qualities[0]["by_column"] == qualities[1]["by_column"] and qualities[0]["rejects_by_rule"] == qualities[1]["rejects_by_rule"] == {"regex": 1}
