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


def bench_fleet(only, write):
    subprocess.run(["ninja", "-C", str(ROOT / "build"), "tests/bench/fleetsim"], check=True, stdout=subprocess.DEVNULL)
    made = tables(ROOT / "build/tests/bench/fleetsim", *([only] if only else []))
    print("\n".join(made.values()), end="")
    if write:
        PAGE.write_text(TABLE.sub(lambda m: made.get(m[1], m[0]), PAGE.read_text()))
