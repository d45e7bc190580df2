"""The loader: types and rules, keys, and a database that misbehaves."""
import json
import os
import pathlib
import subprocess
import threading

import pytest

from harness import BUILD, RELEASE, json_lines, until
from scripted import CLOSE, Scripted

pytestmark = pytest.mark.anyone

COLUMNS = '''columns = ( { name = "station"; type = "string"; required = true; regex = "^[A-Z]{3}$"; },
  { name = "time"; type = "datetime"; required = true; max_age_days = 36500; }, { name = "celsius"; type = "double"; min = -90.0; max = 60.0; as = "temperature.celsius"; },
  { name = "kind"; enum = ("a", "b"); }, { name = "source"; value = "acme"; as = "meta.source"; }, { name = "n"; type = "int"; value = "7"; } );'''
HEADER = "station,time,celsius,kind,extra\n"


def dataset(home, text, limits="", tenant="acme"):
    conf = home.path / f"conf/tenants/{tenant}.conf"
    home.tenant(tenant, limits=limits)
    conf.write_text(conf.read_text().replace('collection = "data";', f'collection = "data"; {text}'))


# -- formats

def test_every_ending_of_a_format_is_taken(make_home):
    home = make_home()
    home.tenant("acme", limits="")
    conf = home.path / "conf/tenants/acme.conf"
    text = conf.read_text()
    home.up()
    home.drop("tabs.tsv", "a\tb\n1\t2\n")
    home.drop("UPPER.CSV", "a,b\n3,4\n")
    home.drop("x.txt", "a,b\n5,6\n")
    done = {f["file_name"]: f for f in home.wait_files(3)}
    assert {n: f["state"] for n, f in done.items()} == {"tabs.tsv": "ingested", "UPPER.CSV": "ingested", "x.txt": "rejected"}, done
    assert done["x.txt"]["reason"] == "format" and '"txt" is not a format' in done["x.txt"]["detail"]
    assert sorted((d["a"], d["b"]) for d in home.docs()) == [(1, 2), (3, 4)]
    conf.write_text(text.replace('format = "csv";', 'format = "json";'))
    home.control({"op": "reload"})
    home.drop("x.jsonl", '{"a":5,"b":6}\n')
    home.drop("x.ndjson", '{"a":7,"b":8}\n')
    done = {f["file_name"]: f for f in home.wait_files(5)}
    assert done["x.jsonl"]["state"] == done["x.ndjson"]["state"] == "ingested", done
    assert sorted((d["a"], d["b"]) for d in home.docs()) == [(1, 2), (3, 4), (5, 6), (7, 8)]


# -- types and rules (f05, f06)

def test_f05_columns_rules_and_nesting(home):
    dataset(home, COLUMNS)
    home.up()
    rows = ["VIE,2024-01-01T00:00:00Z,21.5,a,007", "LNZ,2024-01-02 10:00,,b,8",  # good
            "vie,2024-01-01,1,a,1", ",2024-01-01,1,a,1", "GRZ,yesterday,1,a,1", "GRZ,2024-01-01,hot,a,1", "GRZ,2024-01-01,60.1,a,1", "GRZ,2024-01-01,-90.5,a,1",
            "GRZ,2024-01-01,1,c,1", "GRZ,1850-01-01,1,a,1", "GRZ,2024-01-01,60,a,1"]
    home.drop("x.csv", HEADER + "\n".join(rows) + "\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_parsed"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 11, 3, 8), f
    docs = sorted(home.docs(), key=lambda d: d["station"])
    for d in docs:
        d.pop("_id")
    assert docs[2] == {"station": "VIE", "time": docs[2]["time"], "temperature": {"celsius": 21.5}, "kind": "a", "extra": "007", "meta": {"source": "acme"}, "n": 7}
    assert list(docs[2])[:3] == ["station", "time", "temperature"] and docs[2]["time"].isoformat() == "2024-01-01T00:00:00"
    assert docs[1]["temperature"] == {"celsius": None} and docs[0]["extra"] == 1
    rejects = home.rows("rejects", f["file_id"])
    at = [len(HEADER)]
    for r in rows:
        at.append(at[-1] + len(r) + 1)
    assert [(r["line"], r["byte_offset"], r["column"], r["type"]) for r in rejects] == [
        (4, at[2], 1, None), (5, at[3], 1, None), (6, at[4], 2, "datetime"), (7, at[5], 3, "double"), (8, at[6], 3, None), (9, at[7], 3, None), (10, at[8], 4, None),
        (11, at[9], 2, None)]
    assert [r["raw"] for r in rejects] == rows[2:10]
    for r, word in zip(rejects, ["does not match", "required", "expected datetime", 'expected double, got "hot"', "above max 60", "below min -90", "none of the allowed", "days old"]):
        assert word in r["message"]
    q = f["quality"]
    assert q["rejects_by_rule"] == {"regex": 1, "required": 1, "type": 2, "max": 1, "min": 1, "enum": 1, "max_age_days": 1}
    c = q["by_column"]
    assert (c["celsius"]["nulls"], c["celsius"]["min"], c["celsius"]["max"], c["celsius"]["type"], c["celsius"]["rejects"]) == (1, 21.5, 60, "double", 3)
    assert c["station"]["distinct"] == 3 and c["time"]["newest_age_s"] > 0 and c["time"]["max"] == "2024-01-02T10:00:00.000Z"
    assert c["extra"]["type"] == "mixed" and c["extra"]["types"] == {"string": 1, "int": 2} and c["extra"]["changed_at_line"] == 3
    assert q["dialect"]["delimiter"] == "," and q["dialect"]["confidence"] > 0.5


def test_f06_rules_count_before_a_row_is_written(home):
    dataset(home, 'columns = ( { name = "n"; type = "int"; max = 10.0; } );', limits="max_rejects = 2;")
    home.up()
    home.drop("bad.csv", "n,s\n1,a\n11,b\n12,c\nx,d\n2,e\n")
    f = home.wait_file(file_name="bad.csv")
    assert (f["state"], f["reason"], f["run_id"]) == ("rejected", "max_rejects", None) and "line 5" in f["detail"]
    assert f["quality"]["rejects_by_rule"] == {"max": 2, "type": 1}
    home.drop("ok.csv", "n,s\n1,a\n11,b\n12,c\n2,e\n")
    f = home.wait_file(file_name="ok.csv")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 2, 2)
    assert home.count() == 2


@pytest.mark.parametrize("columns, header, word", [
    ('columns = ( { name = "a"; required = true; } );', "b,c", "lacks the required column 'a'; it has 'b', 'c'"),
    ('columns = ( { name = "a"; }, { name = "x"; } );', "b,c", "none of the configured columns"),
    ('key = ("k");', "b,c", "lacks the key column 'k'"),
    ('columns = ( { name = "b"; as = "c"; } );', "b,c", "stored as the field 'c'"),
    ('columns = ( { name = "b"; as = "c.d"; } );', "b,c", "within one another"),
    ("", "_id,c", "'_id', which the platform sets"),
])
def test_a_schema_that_contradicts_the_header(home, columns, header, word):
    dataset(home, columns)
    home.up()
    home.drop("x.csv", f"{header}\n1,2\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["reason"]) == ("rejected", "columns") and word in f["detail"], f


@pytest.mark.parametrize("text, word", [
    ('columns = ( { name = "a"; }, { name = "a"; } );', "stands twice"), ('columns = ( { name = "a"; regex = "("; } );', "regex"),
    ('columns = ( { name = "a"; type = "float"; } );', "expected a string, one of"), ('columns = ( { name = "a"; type = "string"; min = 1; } );', "only numbers"),
    ('columns = ( { name = "a"; as = "_id"; } );', "_id"), ('columns = ( { name = "a"; min = 3.0; max = 2.0; } );', "above max"),
    ('columns = ( { name = "a"; value = "x"; type = "int"; } );', "not of the column's type"), ('on_key_conflict = "replace";', "needs a key"),
    ('csv = { delimiter = ""; };', "delimiter"), ('csv = { encoding = "ebcdic"; };', "encoding"), ('csv = { quote = "xx"; };', "quote"),
    ('columns = ( { name = "a"; as = "x"; }, { name = "b"; as = "x.y"; } );', "one field"), ('columns = ( { name = "a"; as = "x..y"; } );', "names with")])
def test_config_errors_of_datasets_name_file_and_line(home, text, word):
    dataset(home, text)
    r = home.cli("check", check=False)
    assert r.returncode == 1 and word in r.stderr and "acme.conf:2" in r.stderr, r.stderr


def test_every_csv_key(home):
    dataset(home, '''csv = { delimiter = "||"; quote = "'"; escape = "\\\\"; encoding = "windows-1252"; line_end = "any"; skip_rows = 1; header_rows = 0; footer_rows = 1;
                     ragged = "keep_extra"; null = ("-"); }; columns = ( { name = "a"; type = "string"; }, { name = "b"; type = "decimal"; }, { name = "c"; type = "bool"; },
                     { name = "d"; type = "date"; }, { name = "e"; type = "json"; }, { name = "f"; type = "long"; } );''')
    home.up()
    home.drop("x.csv", "# preamble\n'it\\'s || \x80'||1.10||yes||31.12.2023||{\"k\":[1]}||9000000000||more\r-||-||-||-||-||-\r\n-||-||-||-||-||-\n\nend of file\n".encode("latin-1"))
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 3, 0), f
    docs = sorted(home.docs(), key=lambda d: d["a"] is None)
    assert docs[0]["a"] == "it's || \u20ac" and str(docs[0]["b"]) == "1.10" and docs[0]["c"] is True and docs[0]["d"].isoformat() == "2023-12-31T00:00:00"
    assert docs[0]["e"] == {"k": [1]} and docs[0]["f"] == 9000000000 and docs[0]["_extra"] == ["more"]
    assert all(docs[1][k] is None for k in "abcdef")


DIRT = b'id,,name,id\n1,a,"x"y,9\n2,b\n3,c,"d ""e""",8,more,7\n4,"f\ng",h,6\n5,\xff,i,5\n6,"never,j,4\n7,k,l,3\n'


def test_damaged_rows_are_repaired_counted_and_listed(home):
    dataset(home, 'csv = { damaged = "repair"; };')
    home.up()
    home.drop("x.csv", DIRT)
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_parsed"], f["rows_loaded"], f["rows_rejected"], f["rows_repaired"]) == ("ingested", 7, 6, 1, 4), f
    docs = sorted(home.docs(), key=lambda d: d["id"])
    ids = [d.pop("_id") for d in docs]
    assert docs == [{"id": 1, "column_2": "a", "name": '"x"y', "id_4": 9}, {"id": 2, "column_2": "b", "name": None, "id_4": None},
                    {"id": 3, "column_2": "c", "name": 'd "e"', "id_4": 8, "_extra": ["more", "7"]}, {"id": 4, "column_2": "f\ng", "name": "h", "id_4": 6},
                    {"id": 6, "column_2": '"never', "name": "j", "id_4": 4}, {"id": 7, "column_2": "k", "name": "l", "id_4": 3}]
    at = {n: DIRT.index(b"\n%d," % n) + 1 for n in range(1, 8)}
    assert [int.from_bytes(i[16:], "big") for i in ids] == [at[n] for n in (1, 2, 3, 4, 6, 7)]  # a row's identity: content, and where it stands
    header, *rows = home.rows("rejects", f["file_id"])
    assert (header["line"], header["byte_offset"], header["repaired"], header["raw"]) == (1, 0, "header", None)
    assert "column 2 has no name: read as 'column_2'" in header["message"] and "column 4, 'id', is named like another: read as 'id_4'" in header["message"]
    assert [(r["line"], r["byte_offset"], r["column"], r.get("repaired")) for r in rows] == [
        (2, at[1], 3, "quote"), (3, at[2], 3, "ragged"), (4, at[3], 5, "ragged"), (7, at[5], 2, None), (8, at[6], 2, "quote")]
    assert rows[0]["raw"] == '1,a,"x"y,9' and rows[0]["message"] == "a stray quote is text" and "(2 of 4): those that are missing are null" in rows[1]["message"]
    text = home.cli("rejects", f["file_id"]).stdout
    assert "line 2, byte 12, column 3: repaired: a stray quote is text\n" in text and "line 7, byte 62, column 2: not valid UTF-8" in text, text
    q = f["quality"]
    assert (q["rejects"], q["rows_repaired"], q["repaired_by_rule"], q["rejects_by_rule"]) == (1, 4, {"quote": 2, "ragged": 2}, {"encoding": 1})
    assert q["header_repaired"] == header["message"]
    assert [s["rows_repaired"] for s in home.rows("stats")] == [4, 4]
    line, = json_lines(home.path / "logs/tenants/acme/ingest.jsonl")
    assert (line["rows_rejected"], line["rows_repaired"]) == (1, 4)
    result = json.loads((home.path / f"runs/{f['run_id']}/result.json").read_text())
    assert json.loads(result["app_result"])["rows_repaired"] == 4


def test_what_is_repaired_keeps_its_identity(home):
    """Whichever way a file is read, its rows begin where they did; read again under the other, nothing is there twice."""
    text = b'id,name\n1,a\n2,"x"y\n3,b\n4\n5,"c\nd"\n'
    dataset(home, "")
    home.up()
    home.drop("x.csv", text)
    f = home.wait_file(file_name="x.csv")
    assert (f["rows_loaded"], f["rows_rejected"], f["rows_repaired"]) == (3, 2, 0), f
    before = {d["_id"][16:]: d["name"] for d in home.docs()}
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; csv = { damaged = "repair"; };'))
    home.cli("reload")
    ids = []
    for name in ("again.csv", "and-again.csv"):
        (home.base / name).write_bytes(text)
        home.cli("upload", "acme", "data", home.base / name, "--force")
        f = home.wait_file(file_name=name)
        assert (f["rows_loaded"], f["rows_rejected"], f["rows_repaired"]) == (5, 0, 2), f
        after = {d["_id"][16:]: d["name"] for d in home.docs()}
        ids.append({d["_id"] for d in home.docs()})
        assert len(ids[-1]) == 5 and before.items() <= after.items() and sorted(map(str, after.values())) == ['"x"y', "None", "a", "b", "c\nd"]
    assert ids[0] == ids[1]


def test_json_with_rules(home):
    home.tenant(fmt="json")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', '''collection = "data"; columns = ( { name = "n"; type = "double"; required = true; as = "v.n"; },
      { name = "when"; type = "datetime"; }, { name = "in.deep"; type = "string"; as = "deep"; }, { name = "c"; value = "const"; } );'''))
    home.up()
    home.drop("x.json", '{"n":1,"when":"2024-01-01","in":{"deep":"x"},"o":[1]}\n{"n":"2.5","when":null}\n{"when":"2024-01-01"}\n{"n":"x"}\n{"n":1,"v":2}\n{"n":1,"in":{"deep":5}}\n')
    f = home.wait_file(file_name="x.json")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 2, 4), f
    docs = sorted(home.docs(), key=lambda d: d["v"]["n"])
    docs[0].pop("_id")
    assert docs[0] == {"when": docs[0]["when"], "in": {"deep": "x"}, "o": [1], "v": {"n": 1.0}, "deep": "x", "c": "const"}
    assert docs[0]["when"].year == 2024 and docs[1]["v"]["n"] == 2.5
    assert [r["line"] for r in home.rows("rejects", f["file_id"])] == [3, 4, 5, 6]


def test_figures_of_very_many_columns(home):
    """More than there are figures for, and names so long that the figures are too much to keep: the rows load all the same."""
    home.tenant()
    home.up()
    for name, length in (("wide", 3), ("huge", 900)):
        header = [f"{name}{i}".ljust(length, "_") for i in range(400)]
        home.drop(f"{name}.csv", ",".join(header) + "\n" + ",".join(str(i) for i in range(400)) + "\n")
        f = home.wait_file(file_name=f"{name}.csv")
        assert (f["state"], f["rows_loaded"], f["quality"]["columns"]) == ("ingested", 1, 400), f
        assert f["quality"]["by_column"] is None if name == "huge" else len(f["quality"]["by_column"]) == 256
    assert home.count() == 2


def test_inspection_of_the_structure_only(home):
    dataset(home, 'inspect = "structure"; columns = ( { name = "n"; type = "int"; } );', limits="max_rejects = 1;")
    home.up()
    home.drop("x.csv", "n\nx\ny\nz\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["state"], f["rows_rejected"], f["quality"]["rejects"]) == ("ingested", 3, 0) and "by_column" not in f["quality"]


# -- keys

def test_key_conflicts_are_rejected_kept_or_replaced(home):
    for tenant, mode in (("t-reject", "reject"), ("t-keep", "keep"), ("t-replace", "replace")):
        dataset(home, f'key = ("k"); on_key_conflict = "{mode}"; columns = ( {{ name = "k"; type = "int"; }} );', limits="max_rejects = 0;", tenant=tenant)
    home.up()
    results = {}
    for tenant in ("t-reject", "t-keep", "t-replace"):
        home.drop("1.csv", "k,v\n1,a\n2,b\n1,c\n", tenant=tenant)
        first = home.wait_file(tenant_id=tenant, file_name="1.csv")
        home.drop("2.csv", "k,v\n2,d\n3,e\n", tenant=tenant)
        second = home.wait_file(tenant_id=tenant, file_name="2.csv")
        assert first["state"] == second["state"] == "ingested", (first, second)
        results[tenant] = ([(f["rows_parsed"], f["rows_loaded"], f["rows_rejected"]) for f in (first, second)],
                           sorted((d["k"], d["v"]) for d in home.docs(tenant)))
        if tenant == "t-reject":
            reject = home.rows("rejects", first["file_id"])
            assert [(r["line"], r["type"], r["raw"]) for r in reject] == [(4, "key", "1,c")] and "there already" in reject[0]["message"]
    assert results == {"t-reject": ([(3, 2, 1), (2, 1, 1)], [(1, "a"), (2, "b"), (3, "e")]), "t-keep": ([(3, 2, 0), (2, 1, 0)], [(1, "a"), (2, "b"), (3, "e")]),
                       "t-replace": ([(3, 3, 0), (2, 2, 0)], [(1, "c"), (2, "d"), (3, "e")])}
    # a row without its key is none
    home.drop("3.csv", "k,v\n,x\n", tenant="t-keep")
    f = home.wait_file(tenant_id="t-keep", file_name="3.csv")
    assert (f["state"], f["reason"]) == ("rejected", "max_rejects") and "part of the key" in f["detail"]


def test_unique_columns_and_a_collection_that_cannot_have_them(home):
    dataset(home, 'columns = ( { name = "mail"; unique = true; as = "contact.mail"; } );')
    home.up()
    home.drop("x.csv", "mail,n\na@x,1\nb@x,2\na@x,3\n")
    f = home.wait_file(file_name="x.csv")
    assert (f["rows_loaded"], f["rows_rejected"]) == (2, 1) and home.count() == 2
    dataset(home, 'columns = ( { name = "n"; unique = true; } );')
    data = home.mongo.client[home.db_of["acme"]]["data"]
    data.drop_indexes()
    data.insert_many([{"n": 5}, {"n": 5}])
    home.cli("reload")
    home.drop("y.csv", "mail,n\nc@x,7\n")
    f = home.wait_file(file_name="y.csv")
    assert (f["state"], f["reason"]) == ("quarantined", "columns") and "unique index" in home.log_of(f["run_id"]), f


def test_keys_hold_for_what_apps_put_out(home):
    home.tenant(exec_="misbehave", batch='output = "stdout";')
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; key = ("n");'))
    home.up()
    home.do("rows,3", name="a.csv")
    first = home.wait_file(file_name="a.csv")
    home.do("rows,5", name="b.csv")
    second = home.wait_file(file_name="b.csv")
    assert first["state"] == second["state"] == "ingested", (first, second)
    assert len({d["n"] for d in home.docs()}) == home.count() == max(first["rows_loaded"], 5)


def test_another_spec_replaces_the_rows_of_the_old_one(home):
    """The columns change and the file comes again, forced: no row of the old reading stays."""
    dataset(home, "")
    home.up()
    home.drop("x.csv", "a,b\n1,2\n3,4\n")
    f = home.wait_file(file_name="x.csv")
    assert f["rows_loaded"] == 2
    dataset(home, 'columns = ( { name = "a"; type = "string"; } );')
    home.cli("reload")
    (home.base / "x.csv").write_text("a,b\n1,2\n3,4\n")
    home.cli("upload", "acme", "data", home.base / "x.csv", "--force", "--wait")
    assert sorted(d["a"] for d in home.docs()) == ["1", "3"]


# -- a database that misbehaves

def test_of_two_apps_on_one_dataset_the_later_one_replaces_the_rows(home):
    """The same executable, told apart by its environment alone: no row of the first app's stays, and none counts as stored that is not."""
    app = '{ app = "%s"; pattern = "%s*"; exec = "mark"; output = "stdout"; env = ( { name = "MARK"; value = "%s"; } ); }'
    home.tenant(apps=", ".join(app % (a, a, a) for a in ("one", "two")))
    script = home.path / "apps/acme/mark"
    script.write_text('#!/bin/sh\nsed 1d | while read -r n; do echo "{\\"n\\": $n, \\"mark\\": \\"$MARK\\"}"; done\n')
    script.chmod(0o755)
    home.up()
    for name in ("one.csv", "two.csv"):
        (home.base / name).write_text("n\n1\n2\n3\n")
    home.cli("upload", "acme", "data", home.base / "one.csv", "--wait")
    home.cli("upload", "acme", "data", home.base / "two.csv", "--force", "--wait")
    assert sorted((d["n"], d["mark"]) for d in home.docs()) == [(1, "two"), (2, "two"), (3, "two")]


def test_a_ledger_older_than_the_database_stores_nothing_twice(home):
    """state/ is put back; what came since is not known any more, comes again, and makes the same _ids."""
    home.tenant()
    home.up()
    home.drop("one.csv", "n\n1\n2\n")
    home.wait_file(file_name="one.csv")
    home.down()
    subprocess.run(["cp", "-a", home.path / "state", home.base / "copy"], check=True)
    home.up()
    home.drop("two.csv", "n\n3\n4\n")
    home.wait_file(file_name="two.csv")
    home.down()
    subprocess.run(["rm", "-rf", home.path / "state"], check=True)
    subprocess.run(["cp", "-a", home.base / "copy", home.path / "state"], check=True)
    home.cli("restored")
    home.up()
    assert [f["file_name"] for f in home.files()] == ["one.csv"]
    home.drop("two.csv", "n\n3\n4\n")
    f = home.wait_file(file_name="two.csv")
    assert (f["state"], f["rows_loaded"]) == ("ingested", 2), f
    assert sorted(d["n"] for d in home.docs()) == [1, 2, 3, 4]


def load(tmp_path, server, text, spec="{}", checkpoint=0, name="x.csv", build=BUILD, **kw):
    d = tmp_path / "run"
    d.mkdir(exist_ok=True)
    source = text if isinstance(text, pathlib.Path) else tmp_path / name
    if source != text:
        source.write_text(text)
    job = {"v": kw.get("version", 2), "tenant": "t", "dataset": "d", "database": "d", "collection": "c", "prefix": "00" * 16, "delete_prefixes": [], "checkpoint": checkpoint,
           "max_rejects": -1, "check_first": False, "spec": spec, "inputs": [{"path": str(source), "name": name}]}
    (d / "job.json").write_text(json.dumps(job))
    env = {**os.environ, "MONGO_URL": server.url, "SIMBDP_LOAD_JOB": str(d / "job.json"), "SIMBDP_RESULT_FILE": str(d / "result.json"), "MONGOC_DISABLE_SHM": "1"}
    p = subprocess.Popen([build / "simbdp-load", "--home", str(tmp_path)], env=env, cwd=d, stderr=subprocess.PIPE, text=True)
    if kw.get("background"):
        return p, d
    _, err = p.communicate(timeout=120)
    result = json.loads((d / "result.json").read_text()) if (d / "result.json").exists() else {}
    return p.returncode, result, json_lines(d / "rejects.jsonl"), err


@pytest.fixture
def scripted():
    servers = []

    def make(script=None):
        servers.append(Scripted(script))
        return servers[-1]
    yield make
    for s in servers:
        s.stop()


ROWS = "n,s\n" + "".join(f"{i},row {i}\n" for i in range(20000))


def test_a_server_that_refuses_single_documents(tmp_path, scripted):
    def script(command, documents):
        bad = [i for i, d in enumerate(documents) if d["n"] % 1000 == 7]
        good = [d for d in documents if d["n"] % 1000 != 7]
        answer = server.insert(good)
        return {**answer, "writeErrors": [{"index": i, "code": 121, "errmsg": "Document failed validation"} for i in bad]}
    server = scripted(script)
    code, result, rejects, err = load(tmp_path, server, ROWS)
    assert (code, result["rows_parsed"], result["rows_loaded"], result["rows_rejected"]) == (0, 20000, 19980, 20), err
    assert len(server.documents) == 19980
    first = rejects[0]
    assert (first["line"], first["byte_offset"], first["message"], first["raw"]) == (9, ROWS.index("7,row 7\n"), "Document failed validation", "7,row 7")


def test_a_server_that_dies_mid_batch(tmp_path, scripted):
    deaths = []

    def script(command, documents):
        if len(deaths) < 3:
            deaths.append(1)
            server.insert(documents[:len(documents) // 2])  # half of it is stored, and nobody hears of it
            return CLOSE
    server = scripted(script)
    code, result, rejects, err = load(tmp_path, server, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, 20000, []), err
    assert sorted(d["n"] for d in server.documents.values()) == list(range(20000)) and len(deaths) == 3


@pytest.mark.parametrize("answer", [
    {"ok": 0.0, "code": 10107, "codeName": "NotWritablePrimary", "errmsg": "not primary"}, {"ok": 0.0, "code": 189, "errmsg": "primary stepped down"},
    {"ok": 0.0, "code": 11600, "errmsg": "interrupted at shutdown"}, {"ok": 1.0, "n": 0, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}}])
def test_a_server_that_changes_its_primary(tmp_path, scripted, answer):
    seen = []

    def script(command, documents):
        seen.append(1)
        if len(seen) in (2, 3):
            return answer
    server = scripted(script)
    code, result, rejects, err = load(tmp_path, server, ROWS)
    assert (code, result["rows_loaded"], rejects) == (0, 20000, []), err
    assert len(server.documents) == 20000 and len(seen) > 3


def test_a_slow_server(tmp_path, scripted):
    pause = threading.Event()
    server = scripted(lambda command, documents: (pause.wait(0.3), None)[1])
    code, result, _, err = load(tmp_path, server, ROWS)
    assert (code, result["rows_loaded"]) == (0, 20000), err


def test_servers_that_say_no(tmp_path, scripted):
    code, result, _, err = load(tmp_path, scripted(lambda c, d: {"ok": 0.0, "code": 13, "errmsg": "not authorized on d"}), ROWS)
    assert code == 77 and result["reason"] == "database_refused" and "not authorized" in err
    code, result, _, err = load(tmp_path, scripted(lambda c, d: {"ok": 0.0, "code": 26, "errmsg": "no such thing"}), ROWS)
    assert code == 1 and "no such thing" in result["error"]
    code, result, _, err = load(tmp_path, scripted(lambda c, d: b"\xff" * 64), ROWS)  # for ever: given up after a while
    assert code == 75 and result["reason"] == "database_down", err


def test_a_retry_that_meets_its_own_keys(tmp_path, scripted):
    """Servers may name the key's index first when a row is there already, whole."""
    def script(command, documents):
        errors, n = [], 0
        for i, d in enumerate(documents):
            if any(e["n"] == d["n"] for e in server.documents.values()):
                errors.append({"index": i, "code": 11000, "errmsg": "E11000 duplicate key error collection: d.c index: simbdp_unique_n dup key: { : 1 }"})
            else:
                server.documents[d["_id"]] = d
        return {"ok": 1.0, "n": n, "writeErrors": errors}
    server = scripted(script)
    text = "n,s\n" + "".join(f"{i % 90},x\n" for i in range(100))
    spec = '{"key":["n"]}'
    for _ in range(2):
        code, result, rejects, err = load(tmp_path, server, text, spec)
        assert (code, result["rows_loaded"], result["rows_rejected"]) == (0, 90, 10), err
        assert [r["line"] for r in rejects] == list(range(92, 102))
    assert "createIndexes" in server.commands and "find" in server.commands


def test_documents_of_many_megabytes(tmp_path, scripted):
    server = scripted()
    sizes = [7 << 20, 7 << 20, 7 << 20, 100, 12 << 20]
    code, result, rejects, err = load(tmp_path, server, "n,s\n" + "".join(f"{i},{'x' * n}\n" for i, n in enumerate(sizes)))
    assert (code, result["rows_loaded"], rejects) == (0, 5, []), err
    assert sorted(len(d["s"]) for d in server.documents.values()) == sorted(sizes)


# -- large files (f07), into the sink that stores nothing

class NullSink:
    def __init__(self, directory):
        subprocess.run(["ninja", "-C", str(RELEASE), "bench"], check=True, capture_output=True)
        port = directory / "port"
        self.process = subprocess.Popen([RELEASE / "tests/bench/nullsink", port])
        until(lambda: port.exists() and port.read_text().endswith("\n"), directory, what="the sink")
        self.url = f"mongodb://127.0.0.1:{int(port.read_text())}/"

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def null_sink(tmp_path):
    if not (RELEASE / "build.ninja").exists():
        pytest.skip("the sink needs the build directory")
    s = NullSink(tmp_path)
    yield s
    s.stop()


def large_file(directory, blocks):
    """`blocks` MB of CSV, as zstd frames that repeat one; little on disk."""
    row = "123456,some text of a row,3.14159,2024-01-01T00:00:00Z,true,another cell with text,42\n"
    block = (row * ((1 << 20) // len(row))).encode()
    pack = lambda data: subprocess.run(["zstd", "-q", "-1", "-c"], input=data, capture_output=True, check=True).stdout  # noqa: E731
    path = directory / "large.csv.zst"
    frame = pack(block)
    with open(path, "wb") as f:
        f.write(pack(b"a,b,c,d,e,f,g\n"))
        for _ in range(blocks):
            f.write(frame)
    return path, block.count(b"\n") * blocks


def test_f07_large_files_take_flat_memory(tmp_path, null_sink):
    path, rows = large_file(tmp_path, 600)
    p, d = load(tmp_path, null_sink, path, name=path.name, build=RELEASE, background=True)
    peak = 0

    def ended():  # the peak only rises, so the last look at it is good enough
        nonlocal peak
        for line in pathlib.Path(f"/proc/{p.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                peak = int(line.split()[1])
        return p.poll() is not None
    until(ended, d, every=0.02, what="the end of the load")
    result = json.loads((d / "result.json").read_text())
    assert (p.returncode, result["rows_loaded"]) == (0, rows), p.stderr.read()
    assert 1000 < peak < 64 << 10, f"{peak} KiB"


def test_f07_progress_is_checkpointed_and_resumed(tmp_path, null_sink):
    path, rows = large_file(tmp_path, 300)
    p, d = load(tmp_path, null_sink, path, name=path.name, build=RELEASE, background=True)
    checkpoint = until(lambda: (d / "result.json").exists() and json.loads((d / "result.json").read_text())["checkpoint"], d, what="a checkpoint")
    p.kill()
    p.wait()
    code, result, _, err = load(tmp_path, null_sink, path, name=path.name, checkpoint=checkpoint, build=RELEASE)
    assert (code, result["rows_loaded"], result["rows_parsed"]) == (0, rows, rows), err
