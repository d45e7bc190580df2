"""libsimbdp without memory: allocations of its own refused, one by one, in every call (tests/memory/memory.c). Each with
SIMBDP_ALL, as scripts/test --all says; otherwise every seventh."""
import gzip
import json
import os
import subprocess

import pytest
from harness import BUILD, ROOT

MEMORY = BUILD / "tests/memory/memory"
pytestmark = pytest.mark.anyone

COLUMNS = [{"name": "station", "type": "string", "required": True, "regex": "^[A-Z0-9]{2,8}$", "enum": ["S1", "S2", "S3", "S4", "S5", "S6"]},
           {"name": "celsius", "type": "double", "min": -90.0, "as": "temperature.degrees.celsius"},
           {"name": "source", "value": "hand", "as": "temperature.source"}, {"name": "extra", "type": "json"}]
SCHEMAS = {
    "inferred": {},
    "rules": {"format": "csv", "csv": {"delimiter": ",", "null": ["-", "none"], "damaged": "repair"}, "columns": COLUMNS},
    "keys": {"format": "csv", "columns": COLUMNS, "key": ["station"], "on_key_conflict": "reject"},
    "replace": {"format": "csv", "columns": COLUMNS, "key": ["station"], "on_key_conflict": "replace"},
}
CSV = ("station,celsius,celsius,,extra with a name that is longer than what a key of the plan has room for\n"
       + "".join(f"S{i},{i}.5,{i},\"quoted, {i}\",x{i}\n" for i in range(1, 7)) + "S1,1\n\"bad\"cell,2,,\n")
KEYED = "station,celsius,extra\n" + "".join(f'S{i},{i}.5,"{{""n"": [{i}]}}"\n' for i in range(1, 7)) + "S1,7,{}\nS2,warm,{}\n"
JSON = "".join(json.dumps({"station": f"S{i}", "celsius": i / 2, "extra": {"in": [i, None, "t"]}}) + "\n" for i in range(1, 7)) + "[1]\n{\"n\": nan}\n"


def play(mongo, scenario, **env):
    mongo.client.drop_database("memory")
    r = subprocess.run([MEMORY, scenario, "1" if os.environ.get("SIMBDP_ALL") else "7"], env={**os.environ, "MONGO_URL": mongo.url, "MONGO_DATABASE": "memory", "SIMBDP_TENANT_ID": "acme",
                                               "TSAN_OPTIONS": f"suppressions={ROOT / 'tests/tsan.supp'}", **env},
                       capture_output=True, text=True, timeout=300)
    assert r.returncode == 0, r.stdout + r.stderr[-4000:]
    first, last = r.stdout.splitlines()[-2:]
    n = int(first.split()[1])
    assert n >= 8 and last.endswith("all after each too")
    return n


@pytest.mark.parametrize("name, file", [("inferred", "a.csv"), ("rules", "a.csv.gz"), ("keys", "k.csv"), ("replace", "k.csv"), ("inferred", "a.json"),
                                        ("inferred", "latin.csv")])
def test_files(mongo, tmp_path, name, file):
    text = {"a.json": JSON, "k.csv": KEYED}.get(file, CSV if name == "rules" else CSV.replace("celsius,celsius", "celsius,fahrenheit"))
    data = text.replace("quoted", "qu\u00f6ted").encode("latin-1" if file == "latin.csv" else "utf-8")
    (tmp_path / file).write_bytes(gzip.compress(data) if file.endswith(".gz") else data)
    play(mongo, "file", FILE=str(tmp_path / file), SCHEMA=json.dumps(SCHEMAS[name]), SIMBDP_RESULT_FILE=str(tmp_path / "result.json"))


def test_the_inputs_of_a_run(mongo, tmp_path):
    (tmp_path / "a.csv").write_text(KEYED)
    line = {"path": str(tmp_path / "a.csv"), "original_name": "a.csv", "prefix": "00" * 16, "schema": json.dumps(SCHEMAS["rules"]), "collection": "rows",
            "delete_prefixes": ["11" * 16, "22" * 16], "max_rejects": 100}
    (tmp_path / "inputs").write_text(json.dumps(line) + "\n" + json.dumps({**line, "original_name": "b.csv"}) + "\n")
    play(mongo, "file", SIMBDP_INPUT_FILES=str(tmp_path / "inputs"), SIMBDP_RESULT_FILE=str(tmp_path / "result.json"))


def test_rows(mongo, tmp_path):
    play(mongo, "rows")
    schema = json.dumps({"key": ["i"], "columns": [{"name": "i", "unique": True}]})
    play(mongo, "store", SIMBDP_SCHEMA=schema, SIMBDP_RESULT_FILE=str(tmp_path / "result.json"))


@pytest.mark.parametrize("delivery", ["exactly_once", "at_most_once"])
def test_streams(home, mongo, tmp_path, delivery):
    home.streams(("events", "max_deliveries = 250; lease_ms = 60000; max_messages_per_s = -1; max_bytes_per_s = -1L;"))
    home.broker()
    env = {"ZMQ_STREAM_ENDPOINT": home.endpoint, "SIMBDP_STREAM": "events", "SIMBDP_APP": "consume", "SIMBDP_DATASET": "data", "SIMBDP_DELIVERY": delivery,
           "ZMQ_MONITOR_ENDPOINT": f"ipc://{tmp_path}/nobody", "SIMBDP_RESULT_FILE": str(tmp_path / "result.json")}
    play(mongo, "publish", **env)
    play(mongo, "consume", **env)
