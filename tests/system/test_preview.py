"""The reader, through `mysimbdp preview`: against Python's csv and json, on tables written in any dialect, and on dirt."""
import csv
import gzip
import io
import json
import os
import random
import subprocess

import pytest

from harness import BUILD, DATA, ROOT

pytestmark = pytest.mark.anyone

ENV = {**os.environ, "ASAN_OPTIONS": "detect_leaks=1:quarantine_size_mb=8:handle_sigill=1", "LSAN_OPTIONS": f"suppressions={ROOT / 'tests/lsan.supp'}:print_suppressions=0"}
ENV.pop("MYSIMBDP_HOME", None)


def preview(path, *args, stdin=None):
    r = subprocess.run([BUILD / "mysimbdp", "preview", str(path), *map(str, args)], capture_output=True, env=ENV, input=stdin, timeout=120)
    assert r.returncode in (0, 1, 2), r.stderr.decode()
    return r.returncode, r.stdout.decode(), r.stderr.decode()


def table(path, *args):
    code, out, err = preview(path, "--to", "csv", *args)
    rows = list(csv.reader(io.StringIO(out, newline=""), strict=True))
    assert all(line.startswith('"') for line in out.split("\n")[:1] if line)
    return code, rows, err


def docs(path, *args):
    code, out, err = preview(path, "--to", "json", *args)
    return code, [json.loads(line) for line in out.splitlines()], err


# -- tables written in any dialect come back the same

WORDS = ["", "a", "Wien", "7", "007", "+49", "3.14", "-0", "1e5", "true", "NA", "x y", " lead", "trail ", "ü", "日本", "😀", "it's", "a-b", "2024-01-01", "10:30", "%"]


def random_table(rng, specials, columns):
    def cell():
        kind = rng.random()
        if kind < 0.7:
            return rng.choice(WORDS)
        return "".join(rng.choice(specials + ["a", "b", " ", "1"]) for _ in range(rng.randrange(1, 12)))
    rows = [[f"h{i}" for i in range(columns)]]
    for _ in range(rng.randrange(1, 40)):
        row = [cell() for _ in range(columns)]
        if not any(row) or (columns == 1 and not row[0].strip()):
            row[0] = "x"
        rows.append(row)
    return rows


def written(rows, delimiter, quote, escape, line_end, rng):
    lines = []
    for row in rows:
        cells = []
        for c in row:
            if quote and (delimiter in c or quote in c or escape in c or "\n" in c or "\r" in c or c.startswith(delimiter[0]) or rng.random() < 0.1
                          or any(c.endswith(delimiter[:k]) for k in range(1, len(delimiter)))):
                body = c.replace(quote, quote * 2) if escape == quote else c.replace(escape, escape * 2).replace(quote, escape + quote)
                c = quote + body + quote
            cells.append(c)
        lines.append(delimiter.join(cells))
    return line_end.join(lines) + (line_end if rng.random() < 0.7 else "")


ENCODINGS = {"utf-8": "utf-8", "utf-8 with a BOM": "utf-8-sig", "utf-16le": "utf-16-le", "utf-16be": "utf-16-be", "utf-16": "utf-16", "latin-1": "latin-1",
             "windows-1252": "cp1252"}


@pytest.mark.parametrize("seed", range(60))
def test_what_was_written_is_read(tmp_path, seed):
    rng = random.Random(seed)
    delimiter = rng.choice([",", ";", "\t", "|", "||", "::", "~|~", "^", "\x1f", " "])
    quote = rng.choice(['"', '"', "'"])
    escape = rng.choice([quote, quote, "\\"])
    line_end = rng.choice(["\n", "\r\n", "\r"])
    encoding = rng.choice(list(ENCODINGS))
    rows = random_table(rng, [delimiter, quote, escape, "\n", delimiter[0], line_end], rng.randrange(2, 9))
    if line_end == "\r":  # a lone LF is data there, and the other way round
        rows = [[c.replace("\n", "\r") for c in r] for r in rows]
    if encoding in ("latin-1", "windows-1252"):
        rows = [[c.encode(ENCODINGS[encoding], "replace").decode(ENCODINGS[encoding]) for c in r] for r in rows]
    text = written(rows, delimiter, quote, escape, line_end, rng)
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode(ENCODINGS[encoding]))
    options = ["--delimiter", delimiter, "--quote", quote, "--escape", escape, "--skip-rows", 0, "--header-rows", 1, "--ragged", "reject"]
    if encoding != "utf-8 with a BOM":
        options += ["--encoding", encoding]
    code, got, err = table(path, *options)
    assert got == [[c for c in r] for r in rows], (options, err)
    assert code == 0
    code, got, _ = docs(path, "--types", "all-string", *options)
    assert [list(d.values()) for d in got] == rows[1:]


@pytest.mark.parametrize("seed", range(40))
def test_the_sniffer_finds_it(tmp_path, seed):
    """Tables as people have them: what is sniffed reads the same as what is told."""
    rng = random.Random(1000 + seed)
    delimiter = rng.choice([",", ";", "\t", "|", "||", "~|~"])
    line_end = rng.choice(["\n", "\r\n", "\r"])
    encoding = rng.choice(["utf-8", "utf-8-sig", "utf-16", "latin-1", "cp1252"])
    names = ["station", "city", "celsius", "count", "note"][:rng.randrange(2, 6)]
    rows = [names]
    for i in range(rng.randrange(5, 60)):
        rows.append([rng.choice(["VIE", "LNZ", "GRZ"]), rng.choice(["Wien", "Köln", "São Paulo", "Málaga"]), f"{rng.uniform(-20, 40):.1f}", str(rng.randrange(1000)),
                     rng.choice(["ok", f"a{delimiter}b", 'he said "no"', "it's", "two words"])][:len(names)])
    preamble = rng.randrange(3)
    text = "".join(f"Report {i} of the month{line_end}" for i in range(preamble)) + written(rows, delimiter, '"', '"', line_end, rng)
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode("utf-16" if encoding == "utf-16" else encoding))
    code, got, err = table(path)
    assert got == rows, (delimiter, line_end, encoding, preamble, err)
    assert code == 0


# -- against Python's csv, on files cut and mixed up

@pytest.mark.parametrize("seed", range(40))
def test_mutated_files_against_pythons_csv(tmp_path, seed):
    """Where Python's strict reader takes a whole file with even rows, so do we, and the same; else we say so."""
    rng = random.Random(2000 + seed)
    rows = random_table(rng, [",", '"', "\n"], rng.randrange(2, 6))
    text = list(written(rows, ",", '"', '"', "\n", rng))
    for _ in range(rng.randrange(3)):
        at = rng.randrange(len(text))
        rng.choice([lambda: text.pop(at), lambda: text.insert(at, rng.choice(',"\nx')), lambda: text.__setitem__(at, rng.choice(',"\nx'))])()
    text = "".join(text)
    path = tmp_path / "t.csv"
    path.write_bytes(text.encode())
    code, got, err = table(path, "--delimiter", ",", "--quote", '"', "--skip-rows", 0, "--header-rows", 1)
    try:
        expected = [r for r in csv.reader(io.StringIO(text, newline=""), strict=True) if r]
    except csv.Error:
        expected = None
    if expected and len({len(r) for r in expected}) == 1 and len(set(expected[0])) == len(expected[0]) and expected[0] not in expected[1:] \
            and all(expected[0]) and all(c.strip() == c for c in expected[0]) and "\n" not in "".join(expected[0]) and '"' not in text.replace('""', "").split("\n")[0][1:-1].replace('","', ""):
        assert got == expected, text
        assert code == 0
    elif expected is None or len({len(r) for r in expected}) != 1:
        assert code == 1


def test_json_against_python(tmp_path):
    rng = random.Random(3)

    def value(depth):
        kinds = [lambda: rng.randrange(-2**63, 2**63), lambda: rng.uniform(-1e6, 1e6), lambda: rng.choice([True, False, None]), lambda: rng.choice(WORDS) + rng.choice(['"', "\\", "\n", ""]),
                 lambda: 10.0 ** rng.randrange(-300, 300), lambda: float(rng.randrange(10**6))]
        if depth < 4:
            kinds += [lambda: [value(depth + 1) for _ in range(rng.randrange(4))], lambda: {f"k{i}": value(depth + 1) for i in range(rng.randrange(4))}]
        return rng.choice(kinds)()
    rows = [{f"f{i}": value(0) for i in range(rng.randrange(1, 6))} for _ in range(500)]
    for name, text in (("l.json", "\n".join(json.dumps(r, ensure_ascii=rng.random() < 0.5) for r in rows)), ("a.json", json.dumps(rows, indent=1)),
                       ("m.json", "[" + ",\n".join(json.dumps(r) for r in rows) + "]"), ("p.json", "\n".join(json.dumps(r, indent=rng.choice([None, 0, 1, 4])) for r in rows)),
                       ("c.json", "".join(json.dumps(r, indent=rng.choice([None, 2])) for r in rows))):
        (tmp_path / name).write_text(text)
        code, got, err = docs(tmp_path / name)
        assert code == 0, err
        assert got == rows


@pytest.mark.parametrize("line, why", [
    ('{"a":1} 2', "behind the JSON object"), ('{"a":1},', "behind the JSON object"), ('{"a":12345678901234567890}', "64 bits"), ('{"a":9999999999999999999}', "out of range"), ('{"a":100000000000000000000000000}', "64 bits"),
    ('{"a":1,}', "malformed"), ('{"a":01}', "malformed"), ("{'a':1}", "malformed"), ('[1]', "not a JSON object"), ('{"a":tru}', "malformed"),
    ('{"a":1,"a":2}', "twice"), ('{"x":{"a":1,"a":2}}', "twice"), ('{"_id":1}', "'_id'"), ('{"a":"\\ud800"}', "malformed"), ('{"a":"', "malformed")])
def test_json_that_is_none(tmp_path, line, why):
    (tmp_path / "x.json").write_text(f'{{"ok":1}}\n{line}\n{{"ok":2}}\n')
    code, got, err = docs(tmp_path / "x.json")
    assert (code, got) == (1, [{"ok": 1}, {"ok": 2}])
    assert why in err and "line 2, byte 9" in err


# -- types and nulls

def test_inference_loses_nothing(tmp_path):
    cells = ["007", "+49123", "-0", "1e5", "1.50", "0.1", "12345678901234567890", "2147483648", "3", "true", "True", "2024-01-01", "", "NA", " 1", "1.", ".5", "0x10", "1_000", "٣", "--", "1,5"]
    path = tmp_path / "t.csv"
    path.write_text("v,w\n" + "".join(f'"{c}",x\n' if "," in c else f"{c},x\n" for c in cells))
    code, got, _ = docs(path)
    back = [d["v"] for d in got]
    assert back == ["007", "+49123", "-0", "1e5", 1.5, 0.1, "12345678901234567890", 2147483648, 3, True, "True", "2024-01-01", None, "NA", " 1", "1.", ".5", "0x10", "1_000", "٣", "--", "1,5"]
    assert [type(v) for v in back[4:9]] == [float, float, str, int, int]
    _, out, _ = preview(path)
    assert "mixed" in out and "changes its type at line 6" in out


def test_nulls_are_those_that_are_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("n,s\n1,NA\nNA,Wien\n,\n3,NULL\n")
    assert docs(path)[1] == [{"n": 1, "s": "NA"}, {"n": None, "s": "Wien"}, {"n": None, "s": None}, {"n": 3, "s": "NULL"}]  # NA among numbers only
    assert docs(path, "--types", "all-string")[1][1:3] == [{"n": "NA", "s": "Wien"}, {"n": "", "s": ""}]


# -- dialects by hand

def test_options(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b"x\ny\na#b\n1#'2#3'\n")
    assert docs(path, "--delimiter", "#", "--quote", "'", "--skip-rows", "2")[1] == [{"a": 1, "b": "2#3"}]
    assert docs(path, "--delimiter", "#", "--quote", "", "--skip-rows", "2", "--ragged", "keep_extra")[1] == [{"a": 1, "b": "'2", "_extra": ["3'"]}]
    path.write_bytes(b"1,2\n3\n4,5,6\n")
    assert table(path, "--no-header")[:2] == (1, [["column_1", "column_2"], ["1", "2"]])
    assert docs(path, "--no-header", "--ragged", "pad")[1] == [{"column_1": 1, "column_2": 2}, {"column_1": 3, "column_2": None}]
    code, got, _ = docs(path, "--no-header", "--ragged", "keep_extra")
    assert (code, got[2]) == (0, {"column_1": 4, "column_2": 5, "_extra": [6]})
    path.write_bytes(b"temp,wind\nC,m/s\n1,2\n")
    assert docs(path, "--header-rows", "2")[1] == [{"temp_C": 1, "wind_m/s": 2}]
    assert preview(path, "--header-rows", "x")[0] == 2
    assert preview(path, "--delimiter", "toolongdelimiter")[0] == 2
    assert preview(path, "--nonsense")[0] == 2
    assert preview(tmp_path / "none.csv")[0] == 1
    assert preview("-", "--to", "json", stdin=b"a,b\n1,2\n")[1] == '{"a":1,"b":2}\n'


def test_compressed_and_sniffed_formats(tmp_path):
    (tmp_path / "x.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n") + gzip.compress(b"3,4\n"))
    assert len(docs(tmp_path / "x.csv.gz")[1]) == 2
    (tmp_path / "noending").write_text('{"a":1}\n')
    assert docs(tmp_path / "noending")[1] == [{"a": 1}]
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 100000)[:-20])
    code, got, err = docs(tmp_path / "cut.csv.gz")
    assert code == 1 and "gzip data ends early" in err and len(got) > 0


@pytest.mark.parametrize("text, rows, header, footers", [
    ("a,b,c\n1,2,3\n4,5,6\nTotal: 2 rows\n", 2, 1, 1),
    ("a,b,c\n1,2,3\n\n(1 row)\n\n", 1, 1, 1),
    ("a,b,c\n1,2,3\n4\n", 1, 1, 0),             # a broken last row is none
    ("5,6,7\n1,2,3\n4,5,6\n", 3, 0, 0),
    ("country,2019,2020\nAT,1,2\nDE,3,4\n", 2, 1, 0),
    ("id,t,w\n,C,m/s\n1,20,3\n2,21,4\n", 2, 2, 0),
])
def test_headers_and_footers(tmp_path, text, rows, header, footers):
    path = tmp_path / "t.csv"
    path.write_text(text)
    _, out, _ = preview(path)
    assert f"header rows {header}  footer rows {footers}" in out, out
    assert len(docs(path)[1]) == rows


def test_weak_delimiters(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("root:x:0:0:root:/root:/bin/sh\n" + "".join(f"u{i}:x:{i}:{i}:user {i}:/home/u{i}:/bin/sh\n" for i in range(5)))
    assert len(docs(path)[1][0]) == 7
    path.write_text("t\n10:30\n11:45\n12:00:01\n")
    assert docs(path)[1] == [{"t": "10:30"}, {"t": "11:45"}, {"t": "12:00:01"}]
    path.write_text("text\nsome words here\nand here more\nno more words\n")
    assert docs(path)[1][0] == {"text": "some words here"}
    path.write_text("")
    assert "the file is empty" in preview(path)[1]


def test_several_tables_in_one_file(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,c\n1,2,3\n4,5,6\n\nx,y\n7,8\n9,10\n\na,b,c\n11,12,13\n")
    code, got, err = docs(path)
    assert (code, [d["a"] for d in got]) == (1, [1, 4, 11]) and err.count("fewer cells") == 3 and "the header row again" in err


def test_dirt_costs_its_own_rows(tmp_path):
    path = tmp_path / "t.csv"
    content = b'a,b,c\n1,2,3\n4;5;6\n"7"x,8,9\n10,"never closed,11\n12,13,14\n15,16\n17,18,19,20\n\xff,22,23\n24,\x00,25\na,b,c\n"two\nlines",26,27\n28,29,30'
    path.write_bytes(content)
    at = [0]
    for line in content.split(b"\n"):
        at.append(at[-1] + len(line) + 1)
    code, got, err = docs(path)
    assert code == 1
    assert [d["a"] for d in got] == [1, 12, "two\nlines", 28]
    wanted = {3: ", column 2: fewer cells than the header has columns (1 of 3); it seems to be delimited by ';'",
              4: ", column 1: characters behind a closing quote", 5: ", column 2: a quote is opened and never closed",
              7: ", column 3: fewer cells", 8: ", column 4: more cells", 9: ", column 1: not valid UTF-8 (byte 0xff)",
              10: ", column 2: a NUL byte", 11: ": the header row again"}
    for n, w in wanted.items():
        assert f"line {n}, byte {at[n - 1]}{w}" in err, (w, err)
    assert '    "7"x,8,9\n       ^' in err
    assert err.endswith("12 rows, 8 rejected\n")


def test_damage_is_repaired(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(b'a,b,a\n1,2,3\n4,"never closed,5\n6,7\n8,9,10,11\n"12"x,13,14\n\xff,15,16\na,b,a\n')
    code, got, err = docs(path)
    assert (code, got) == (1, []) and "the header names column 'a' twice" in err and "csv.damaged" in err
    code, got, err = docs(path, "--damaged", "repair")
    assert code == 1 and got == [{"a": 1, "b": 2, "a_3": 3}, {"a": 4, "b": '"never closed', "a_3": 5}, {"a": 6, "b": 7, "a_3": None},
                                 {"a": 8, "b": 9, "a_3": 10, "_extra": ["11"]}, {"a": '"12"x', "b": 13, "a_3": 14}, {"a": "a", "b": "b", "a_3": "a"}]
    assert err.startswith("header at line 1 repaired: column 3, 'a', is named like another: read as 'a_3'\nrepaired\nline 3, byte 12, column 2: a stray quote is text\n")
    assert '    4,"never closed,5\n      ^\n' in err and "line 4, byte 30, column 3: fewer cells" in err and "line 5, byte 34, column 4: more cells" in err
    assert err.endswith("7 rows, 1 rejected, 4 repaired\n") and "rejects\nline 7" in err
    code, out, _ = preview(path, "--damaged", "repair")
    assert "  header at line 1 repaired: column 3" in out and "\nrepaired\nline 3" in out and "7 rows, 1 rejected, 4 repaired\n" in out
    path.write_bytes(path.read_bytes().replace(b"\xff", b"17"))
    assert preview(path, "--damaged", "repair")[0] == 0
    assert preview(path, "--damaged", "drop")[0] == 2


def test_quotes_over_the_whole_window_are_repaired(tmp_path):
    """A quote that is not closed within what may be held."""
    path = tmp_path / "t.csv"
    path.write_text('a,b\n1,"open\n' + ("2," + "x" * 9000 + "\n") * 2000 + "3,three\n")
    code, rows, _ = table(path, "--damaged", "repair")
    assert code == 0 and rows[1] == ["1", '"open'] and rows[2] == ["2", "x" * 9000] and rows[-1] == ["3", "three"] and len(rows) == 2003


def test_huge_fields(tmp_path):
    path = tmp_path / "t.csv"
    big = "x" * (5 << 20) + '""' + "y\n" * 1000
    path.write_text(f'a,b\n1,"{big}"\n2,ok\n')
    code, got, _ = docs(path)
    assert code == 0 and len(got[0]["b"]) == len(big) - 1 and got[1] == {"a": 2, "b": "ok"}
    path.write_text("a,b\n1," + "z" * (17 << 20) + "\n2,ok\n")
    code, got, err = docs(path)
    assert code == 1 and got == [{"a": 2, "b": "ok"}] and "longer than max_row_bytes" in err


def test_a_dataset_of_a_home(home, tmp_path):
    home.tenant()
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; columns = ( { name = "t"; type = "double"; max = 60.0; as = "temp.c"; }, '
                                             '{ name = "d"; type = "datetime"; }, { name = "src"; value = "acme"; } );'))
    path = tmp_path / "t.csv"
    path.write_text("s,t,d\nVIE,21.5,2024-03-01 12:00:00+01:00\nLNZ,99,2024-03-01\nGRZ,warm,2024-03-01\n")
    r = home.cli("preview", path, "--tenant", "acme", "--dataset", "data", "--to", "json", check=False)
    assert r.returncode == 1
    assert r.stdout == '{"s":"VIE","temp":{"c":21.5},"d":{"$date":"2024-03-01T11:00:00.000Z"},"src":"acme"}\n'
    assert "99 is above max 60" in r.stderr and 'expected double, got "warm"' in r.stderr
    assert home.cli("preview", path, "--tenant", "nobody", "--dataset", "data", check=False).returncode == 1


def test_the_year_of_flights(tmp_path):
    """Every row, typed, against an independent reading."""
    if not (DATA / "flights.csv").exists():
        pytest.skip("no sample data")
    words = {"carrier", "tailnum", "origin", "dest", "time_hour"}
    out = tmp_path / "out.jsonl"
    with open(out, "wb") as f:
        subprocess.run([BUILD / "mysimbdp", "preview", str(DATA / "flights.csv"), "--to", "json"], stdout=f, check=True, env=ENV)
    n = 0
    with open(DATA / "flights.csv", newline="") as f, open(out) as g:
        for expected, line in zip(csv.DictReader(f), g):
            typed = {k: v if k in words else None if v == "NA" else int(v) for k, v in expected.items()}
            assert json.loads(line) == typed
            n += 1
        assert g.readline() == ""
    assert n == 336776
