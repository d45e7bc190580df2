#!/usr/bin/python3
"""The table and the plots of docs/scaling.md, from what scalesim prints:

    build/tests/bench/scalesim --seeds 30 --first-seed 31 --json > /tmp/scaling.jsonl
    tests/bench/scaling_report.py /tmp/scaling.jsonl docs

Prints the table as Markdown; writes docs/scaling-cost.svg (each policy: cost and time out of SLO) and docs/scaling-step.svg (what they do
when load rises tenfold). Needs nothing but Python."""
import json
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
POLICIES = ["ours", "threshold", "ds2", "keda", "hpa", "fixed", "oracle"]
COLOURS = {"ours": "#c0392b", "threshold": "#8e44ad", "ds2": "#2980b9", "keda": "#16a085", "hpa": "#d68910", "fixed": "#7f8c8d", "oracle": "#2c3e50"}
BEYOND = "database"  # more comes in than it takes: out of SLO whatever is done


def table(rows):
    by = {}
    for r in rows:
        by.setdefault(r["load"], {})[r["policy"]] = r
    print("| load | " + " | ".join(POLICIES) + " | ours: settling, overshoot, reversals, actions, peak, age p99 |")
    print("| --- |" + " --- |" * (len(POLICIES) + 1))
    for load, v in by.items():
        o = v["ours"]
        step = f"{o['settling_s']:.0f} s, {o['overshoot']:.1f}" if o["settling_s"] or o["overshoot"] else "–, –"
        print(f"| {load} | " + " | ".join(f"{v[p]['slo_s']:.1f} · {v[p]['cost']:.2f}" for p in POLICIES)
              + f" | {step}, {o['reversals']:.1f}, {o['actions']:.0f}, {o['peak_backlog']:.0f}, {o['age_p99_s']:.1f} s |")

    def means(p, loads):
        return sum(by[x][p]["slo_s"] for x in loads) / len(loads), sum(by[x][p]["cost"] for x in loads) / len(loads)
    some = [x for x in by if x != BEYOND]
    for name, loads in ((f"mean without {BEYOND}", some), ("mean of all", list(by))):
        print(f"| **{name}** | " + " | ".join("{:.1f} · {:.2f}".format(*means(p, loads)) for p in POLICIES) + " | |")
    return {p: means(p, some) for p in POLICIES}


def text(x, y, s, size=12, anchor="start", colour="#222"):
    return f'<text x="{x:.0f}" y="{y:.0f}" font-family="sans-serif" font-size="{size}" text-anchor="{anchor}" fill="{colour}">{s}</text>'


def line(points, colour, width=1.5, dash=""):
    return (f'<polyline fill="none" stroke="{colour}" stroke-width="{width}" stroke-dasharray="{dash}" points="'
            + " ".join(f"{x:.1f},{y:.1f}" for x, y in points) + '"/>')


def svg(path, width, height, parts):
    path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">\n'
                    f'<rect width="{width}" height="{height}" fill="white"/>\n' + "\n".join(parts) + "\n</svg>\n")


def plot_cost(means, path):
    most_cost, most_slo = max(c for _, c in means.values()) * 1.1, max(s for s, _ in means.values()) * 1.1

    def at(slo, cost):
        return 60 + (cost - 0.9) / (most_cost - 0.9) * 500, 300 - slo / most_slo * 260
    parts = [line([(60, 40), (60, 300), (580, 300)], "#222"), text(320, 335, "instance-seconds over the oracle's", anchor="middle"),
             text(60, 28, "seconds out of SLO a run")]
    for c in (1, 1.5, 2, 2.5):
        parts.append(text(at(0, c)[0], 316, f"{c}", 11, "middle"))
    for s in range(0, int(most_slo), 20):
        parts.append(text(52, at(s, 1)[1] + 4, str(s), 11, "end"))
    for p, (slo, cost) in means.items():
        x, y = at(slo, cost)
        parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{COLOURS[p]}"/>', text(x + 9, y + 4, p, colour=COLOURS[p])]
    svg(path, 620, 345, parts)


def plot_step(path):
    shown, parts = ["ours", "threshold", "ds2", "keda", "hpa"], []
    runs = {}
    for p in shown:
        out = subprocess.run([ROOT / "build/tests/bench/scalesim", "--timeline", "--load", "step10", "--policy", p, "--seeds", "1", "--first-seed", "31"],
                             capture_output=True, text=True, check=True).stdout
        runs[p] = [list(map(float, row.split(",")[3:])) for row in out.splitlines()]
    for k, (column, title, most) in enumerate(((2, "instances wanted (step10: 15 -> 150 -> 15 messages a second; one settles 10)", 33), (5, "age of the oldest message, s (SLO: 5)", 30))):
        top, bottom = 40 + k * 250, 240 + k * 250
        parts += [line([(50, top), (50, bottom), (690, bottom)], "#222"), text(50, top - 12, title)]
        for v in range(0, most, 10):
            parts.append(text(44, bottom - v / most * 200 + 4, str(v), 11, "end"))
        for t in range(0, 601, 100):
            parts.append(text(50 + t / 600 * 630, bottom + 15, f"{t} s", 11, "middle"))
        if k:
            parts.append(line([(50, bottom - 5 / most * 200), (690, bottom - 5 / most * 200)], "#999", 1, "4 3"))
        for p in shown:
            parts.append(line([(50 + r[0] / 600 * 630, bottom - min(r[column], most) / most * 200) for r in runs[p]], COLOURS[p], 2.5 if p == "ours" else 1.2))
    for i, p in enumerate(shown):
        parts.append(text(560, 60 + i * 16, p, colour=COLOURS[p]))
    svg(path, 720, 520, parts)


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    rows = [json.loads(row) for row in pathlib.Path(sys.argv[1]).read_text().splitlines()]
    docs = pathlib.Path(sys.argv[2])
    plot_cost(table(rows), docs / "scaling-cost.svg")
    plot_step(docs / "scaling-step.svg")


main()
