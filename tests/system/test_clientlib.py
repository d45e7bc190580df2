"""libsimbdp, in C and Python: as an app under the platform, and by hand."""
import ctypes
import json
import os
import re
import subprocess
import sys
import zipfile

import pytest

from harness import RELEASE, ROOT

pytestmark = pytest.mark.anyone

LIBRARY = RELEASE / "clientlib/libsimbdp.so.1"
READINGS = "station,time,fahrenheit\n" + "".join(f"S{i:03d},2024-01-{i % 28 + 1:02d} 00:00,{i / 2}\n" for i in range(400))
DATASET = """
database = "%s"; limits = { max_rejects = 10; };
datasets = ( { name = "data"; format = "csv"; collection = "readings"; key = ("station", "time");
  columns = ( { name = "station"; type = "string"; required = true; regex = "^[A-Z0-9]{3,8}$"; }, { name = "time"; type = "datetime"; required = true; },
              { name = "fahrenheit"; type = "double"; min = -130.0; max = 300.0; } ); } );
batch = ( { app = "load"; exec = "%s"; retry = { attempts = 5; backoff_ms = 20; max_backoff_ms = 100; }; } );
"""


def tenant(home, exe):
    home.tenant()
    (home.path / "conf/tenants/acme.conf").write_text(DATASET % (home.db_of["acme"], exe))
    home.install("acme", RELEASE / "tenants/stations_load")
    home.install("acme", ROOT / "tenants/stations/stations.py")
    home.install("acme", ROOT / "clientlib/python/simbdp.py")  # python looks beside the script
    home.install("acme", LIBRARY, "libsimbdp.so.1")
    home.profiles(rlimits="nofile = 256;")


@pytest.mark.parametrize("exe", ["stations_load", "stations.py"])
def test_the_sample_apps(home, exe):
    tenant(home, exe)
    home.up()
    text = READINGS + "TRIAL1,2024-01-01 00:00,10\nS999,2024-01-01 00:00,\nS998,2024-01-01 00:00,warm\n"
    home.drop("a.csv", text)
    f = home.wait_file(file_name="a.csv")
    assert (f["state"], f["rows_parsed"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 403, 400, 2), f
    docs = {d["station"]: d for d in home.docs(collection="readings")}
    assert len(docs) == 400 and docs["S100"]["celsius"] == 10.0 and "fahrenheit" not in docs["S100"]
    assert docs["S100"]["time"].isoformat() == "2024-01-17T00:00:00"
    rejects = home.rows("rejects", f["file_id"])
    assert [(r["line"], r["message"]) for r in rejects] == [(403, "fahrenheit is no number"),
                                                             (404, "column 'fahrenheit': expected double, got \"warm\"")]
    # the same rows in another file meet the key; a forced upload replaces its own rows
    home.drop("b.csv", READINGS + "S500,2024-01-01 00:00,50\n")
    f = home.wait_file(file_name="b.csv")
    assert (f["state"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 1, 400)
    (home.base / "a.csv").write_text(text)
    home.cli("upload", "acme", "data", home.base / "a.csv", "--force", "--wait", check=False)
    assert home.count(collection="readings") == 401


def test_killed_apps_store_every_row_once(home):
    """The app kills itself while its rows are on their way, twice, and then gets through."""
    tenant(home, "killed.py")
    script = """#!/usr/bin/python3
import os, signal, simbdp
run = simbdp.open()
seen = 0
def row(doc):
    global seen
    seen += 1
    if seen == 9000 * run.attempt and run.attempt < 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return doc
run.ingest_file(row=row)
run.finish()
"""
    source = home.base / "killed.py"
    source.write_text(script)
    home.install("acme", source)
    home.up()
    home.drop("big.csv", "station,time,fahrenheit\n" + "".join(f"S{i:05d},2024-01-01 00:00,{i % 100}\n" for i in range(30000)))
    f = home.wait_file(file_name="big.csv")
    assert (f["state"], f["attempts"], f["rows_loaded"], f["rows_rejected"]) == ("ingested", 3, 30000, 0), f
    assert len({d["station"] for d in home.docs(collection="readings")}) == home.count(collection="readings") == 30000


def by_hand(mongo, database, **env):
    return {**os.environ, "MONGO_URL": mongo.url, "MONGO_DATABASE": database, "SIMBDP_LIBRARY": str(LIBRARY),
            "PYTHONPATH": str(ROOT / "clientlib/python"), **env}


def python(mongo, tmp_path, text, **env):
    script = tmp_path / "app.py"
    script.write_text("import simbdp\n" + text)
    return subprocess.run(["/usr/bin/python3", str(script)], env=by_hand(mongo, "byhand", SIMBDP_RESULT_FILE=str(tmp_path / "result.json"), **env),
                          capture_output=True, text=True, cwd=tmp_path, timeout=60)


def test_rows_one_by_one(mongo, tmp_path):
    mongo.client.drop_database("byhand")
    r = python(mongo, tmp_path, """
import datetime, decimal
with simbdp.open() as run:
    run.set_collection("rows")
    for i in range(5000):
        run.store({"n": i, "big": 2**40, "f": 0.5, "when": datetime.datetime(2024, 1, 1), "d": decimal.Decimal("1.10"), "in": {"l": [1, None]}})
    result = run.finish()
print(result)
""")
    assert r.returncode == 0, r.stderr
    rows = list(mongo.client.byhand.rows.find().sort("n"))
    assert len(rows) == 5000 and rows[7]["big"] == 2**40 and str(rows[7]["d"]) == "1.10" and rows[7]["in"] == {"l": [1, None]}
    assert rows[7]["when"].isoformat() == "2024-01-01T00:00:00"
    assert json.loads((tmp_path / "result.json").read_text())["rows_parsed"] is None


def test_what_goes_wrong_is_said(mongo, tmp_path):
    mongo.client.drop_database("byhand")
    assert "MONGO_DATABASE is not set" in python(mongo, tmp_path, "simbdp.main(lambda run: None)", MONGO_DATABASE="").stderr
    (tmp_path / "bad.csv").write_text("a,b\n1,2\nx,3\n")
    r = python(mongo, tmp_path, 'simbdp.main(lambda run: run.ingest_file("bad.csv", {"columns": [{"name": "c", "required": True}]}))')
    assert r.returncode == 65 and "lacks the required column 'c'" in r.stderr
    assert "lacks the required" in json.loads((tmp_path / "result.json").read_text())["error"]
    r = python(mongo, tmp_path, 'simbdp.main(lambda run: run.ingest_file("bad.csv", {"columns": [{"name": "c", "regex": "("}]}))')
    assert r.returncode == 78 and "columns 1: key 'regex'" in r.stderr
    r = python(mongo, tmp_path, 'simbdp.main(lambda run: run.ingest_file("none.csv"))')
    assert r.returncode == 1 and "none.csv" in r.stderr
    r = python(mongo, tmp_path, 'simbdp.main(lambda run: run.ingest_file("bad.csv", row=lambda d: 1/0))')
    assert r.returncode == 1 and "ZeroDivisionError" in r.stderr
    r = python(mongo, tmp_path, 'simbdp.main(lambda run: run.ingest_file("bad.csv"))', MONGO_URL="mongodb://127.0.0.1:1/")
    assert r.returncode == 75
    # a row is checked before it is stored, and a file without the platform is told apart by its content
    r = python(mongo, tmp_path, '''
run = simbdp.open()
for bad in ({"_id": 1}, {"x": 2**70}, [1]):
    try:
        run.store(bad)
        print("stored", bad)
    except ValueError:
        pass
(tmp := __import__("pathlib").Path("same.csv")).write_text("a\\n1\\n2\\n")
run.ingest_file("same.csv"); run.ingest_file("same.csv")
print(run.finish())
''')
    assert "stored" not in r.stdout and mongo.client.byhand.rows.count_documents({}) == 2, r.stdout + r.stderr


def pkg_config(*args, **env):
    return subprocess.run(["pkg-config", *args], env={**os.environ, **env}, capture_output=True, text=True, check=True).stdout.split()


def test_a_program_in_c_against_the_tree_and_the_installed_library(mongo, tmp_path):
    """What a tenant has: a header, pkg-config, the shared and the static library."""
    if not (RELEASE / "build.ninja").exists():
        pytest.skip("nothing to install from: this is a copy of the programs")
    subprocess.run(["meson", "install", "-C", str(RELEASE), "--no-rebuild", "--destdir", str(tmp_path / "root")], check=True, capture_output=True)
    pc = next((tmp_path / "root").rglob("simbdp.pc"))
    shared = pkg_config("--cflags", "--libs", "simbdp", PKG_CONFIG_PATH=str(pc.parent), PKG_CONFIG_SYSROOT_DIR=str(tmp_path / "root"))
    tree = pkg_config("--cflags", "--libs", "simbdp", PKG_CONFIG_PATH=str(RELEASE / "meson-uninstalled"))
    lib = next((tmp_path / "root").rglob("libsimbdp.so.1"))
    include = next((tmp_path / "root").rglob("simbdp.h")).parent
    source = tmp_path / "app.c"
    source.write_text("""
#include <simbdp.h>
#include <stdio.h>
#include <string.h>
int main(void)
{
    char error[SIMBDP_ERROR_BYTES];
    struct simbdp *run;
    struct simbdp_result result = {.size = sizeof result};
    if (simbdp_open(&run, error, sizeof error))
        return puts(error), 1;
    for (int i = 0; i < 10; i++) {
        struct simbdp_row *row = simbdp_row_new(run);
        const char *text;
        double d;
        int64_t n;
        if (simbdp_row_set_int(row, "n", i) || simbdp_row_set_string(row, "s", "x", 1) || simbdp_row_set_double(row, "n", i + 0.5) ||
            simbdp_row_set_bool(row, "b", 1) || simbdp_row_set_null(row, "z") || simbdp_row_set_datetime(row, "t", 86400000) ||
            simbdp_row_get_double(row, "n", &d) || d != i + 0.5 || simbdp_row_get_int(row, "n", &n) != SIMBDP_NOT_FOUND ||
            simbdp_row_get_string(row, "s", &text, NULL) || strcmp(text, "x") || simbdp_row_remove(row, "z") ||
            simbdp_row_remove(row, "z") != SIMBDP_NOT_FOUND || simbdp_row_set_int(row, "_id", 1) != SIMBDP_USAGE ||
            simbdp_row_set_string(row, "s", "\\xff", 1) != SIMBDP_USAGE || simbdp_row_type(row, "t") != SIMBDP_DATETIME)
            return 2;
        if (simbdp_row_set_number(row, i / 2) || simbdp_row_store(row)) /* each number twice: one row each */
            return puts(simbdp_error(run)), 3;
    }
    int code = simbdp_finish(run, &result);
    if (simbdp_finish(run, NULL) != SIMBDP_USAGE)
        return 4;
    simbdp_close(run);
    printf("%d %lld\\n", code, (long long)result.rows_loaded);
    return 0;
}
""")
    for kind in ("shared", "tree", "static"):
        mongo.client.drop_database("byhand")
        flags = shared if kind == "shared" else tree if kind == "tree" else \
            [f"-I{include}", str(next((tmp_path / "root").rglob("libsimbdp.a"))),
             *pkg_config("--libs", "libmongoc-1.0", "libsodium", "zlib", "libzstd", "libpcre2-8", "libzmq"), "-lm", "-lpthread"]
        subprocess.run(["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic", str(source), "-o", str(tmp_path / kind), *flags], check=True)
        r = subprocess.run([str(tmp_path / kind)], env=by_hand(mongo, "byhand", LD_LIBRARY_PATH=str(lib.parent)), capture_output=True, text=True)
        assert (r.returncode, r.stdout) == (0, "0 10\n"), r.stdout + r.stderr
        assert mongo.client.byhand.rows.count_documents({}) == 5


def test_the_abi_is_the_recorded_one():
    """Symbols of the shared library and the layout of what a caller allocates; a change of either is a new version."""
    out = subprocess.run(["nm", "-D", "--defined-only", "--with-symbol-versions", str(LIBRARY)], capture_output=True, text=True, check=True).stdout
    symbols = sorted(line.split()[2] for line in out.splitlines() if " A " not in line)
    assert symbols == (ROOT / "clientlib/simbdp.symbols").read_text().split()
    sys.path.insert(0, str(ROOT / "clientlib/python"))
    import simbdp
    assert ctypes.sizeof(simbdp._Result) == 40 + 1024
    out = subprocess.run(["nm", "-g", "--defined-only", str(RELEASE / "clientlib/libsimbdp.a")], capture_output=True, text=True, check=True).stdout
    assert all(line.split()[-1].startswith("simbdp_") for line in out.splitlines() if len(line.split()) == 3)


def test_an_install_below_a_prefix_is_found_by_its_pkg_config_file(tmp_path):
    if not (RELEASE / "build.ninja").exists():
        pytest.skip("nothing to install from: this is a copy of the programs")
    subprocess.run(["meson", "setup", str(tmp_path / "b"), str(ROOT), f"--prefix={tmp_path}/opt", "--libdir=lib", "-Dtests=false"], check=True, capture_output=True)
    text = (tmp_path / "b/meson-private/simbdp.pc").read_text()
    (tmp_path / "simbdp.pc").write_text(text)
    flags = pkg_config("--cflags", "--libs", "simbdp", PKG_CONFIG_PATH=str(tmp_path))
    assert {f"-I{tmp_path}/opt/include", f"-L{tmp_path}/opt/lib", "-lsimbdp"} <= set(flags) and str(ROOT) not in str(flags)


def test_the_module_is_two_files(tmp_path):
    for file in (ROOT / "clientlib/python/simbdp.py", LIBRARY):
        subprocess.run(["cp", str(file), str(tmp_path)], check=True)
    (tmp_path / "app.py").write_text("import simbdp; print(simbdp.version(), simbdp._lib()._name)")
    r = subprocess.run(["/usr/bin/python3", str(tmp_path / "app.py")], env={"PATH": os.environ["PATH"]}, cwd="/", capture_output=True, text=True)
    assert r.stdout.split() == ["0.1.0", str(tmp_path / "libsimbdp.so.1")], r.stdout + r.stderr


def test_pip_installs_from_the_tree(tmp_path):
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    source = tmp_path / "clientlib/python"  # a copy: building writes beside the sources
    source.parent.mkdir()
    subprocess.run(["cp", "-r", str(ROOT / "clientlib/python"), str(source)], check=True)
    (tmp_path / "build/clientlib").mkdir(parents=True)
    subprocess.run(["cp", str(LIBRARY), str(tmp_path / "build/clientlib")], check=True)
    r = subprocess.run(["/usr/bin/python3", "-m", "pip", "install", "--no-build-isolation", "--no-deps", "--target", str(tmp_path / "site"), str(source)],
                       env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    r = subprocess.run(["/usr/bin/python3", "-c", "import simbdp; print(simbdp.version(), simbdp._lib()._name)"], cwd=tmp_path,
                       env={"PYTHONPATH": str(tmp_path / "site"), "PATH": os.environ["PATH"]}, capture_output=True, text=True)
    assert r.stdout.split()[0] == "0.1.0" and "site" in r.stdout, r.stdout + r.stderr
    r = subprocess.run(["/usr/bin/python3", "-m", "pip", "wheel", "-q", "--no-build-isolation", "--no-deps", "-w", str(tmp_path / "wheels"), str(source)],
                       env=env, capture_output=True, text=True)
    assert r.returncode == 0, r.stderr
    wheel, = (tmp_path / "wheels").iterdir()
    assert re.fullmatch(r"simbdp-0.1.0-py3-none-linux_\w+[.]whl", wheel.name)
    assert {"simbdp.py", "simbdp_client.py", "simbdp_http.py", "libsimbdp.so.1"} <= set(zipfile.ZipFile(wheel).namelist())
