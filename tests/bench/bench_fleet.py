"""The tables of docs/scale-out.md, by fleetsim: arithmetic and simulation, the same on every machine."""
import pathlib
import re
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs/scale-out.md"
TABLE = re.compile(r"<!-- fleetsim (\w+) -->\n.*?<!-- end -->\n", re.S)


def tables(fleetsim, *names):
    text = "".join(subprocess.run([fleetsim, name], check=True, capture_output=True, text=True).stdout for name in names) if names else \
        subprocess.run([fleetsim], check=True, capture_output=True, text=True).stdout
    return {m[1]: m[0] for m in TABLE.finditer(text)}


def bench_map():
    """What a map costs on this machine; not a part of the page."""
    subprocess.run(["ninja", "-C", str(ROOT / "build"), "tests/bench/map_cost"], check=True, stdout=subprocess.DEVNULL)
    for tenants, cells in [(1000, 10), (100_000, 1000), (1_000_000, 10_000)]:
        print(subprocess.run([ROOT / "build/tests/bench/map_cost", str(tenants), str(cells)], check=True, capture_output=True, text=True).stdout, end="")


def bench_fleet(only, write):
    if only == "map":
        return bench_map()
    subprocess.run(["ninja", "-C", str(ROOT / "build"), "tests/bench/fleetsim"], check=True, stdout=subprocess.DEVNULL)
    made = tables(ROOT / "build/tests/bench/fleetsim", *([only] if only else []))
    print("\n".join(made.values()), end="")
    if write:
        PAGE.write_text(TABLE.sub(lambda m: made.get(m[1], m[0]), PAGE.read_text()))
