"""A soak: twenty tenants deliver for an hour while things happen to the platform. In rounds: first it is disturbed, then left alone; then
everything that was sent must be there, once. Half of the time the platform's programs live on, and what they take must not grow; in
the other half they are killed and upgraded, too."""
import collections
import json
import os
import pathlib
import random
import shutil
import threading
import time

import pymongo
from chaos import Chaos, Visitor, two_copies
from fleet import KINDS, Fleet
from harness import FINAL, Home, until
from sample import LONG, Sampler, disk, growth, look

SETTLE_S = 300
PROFILES = """profiles = ( { name = "small"; wall_s = 120; grace_s = 1; output_bytes = 1048576L; requests = { cpus = 0.1; memory_bytes = 16777216L; };
  rlimits = { nofile = 256; }; mounts = ( %(mounts)s ); %(cgroup)s isolation = "%(isolation)s"; },
  { name = "consumer"; wall_s = -1; grace_s = 2; output_bytes = 1048576L; requests = { cpus = 0.02; memory_bytes = 16777216L; };
  rlimits = { nofile = 256; }; mounts = ( %(mounts)s ); %(cgroup)s isolation = "%(isolation)s"; } );
"""


class Soak:
    def __init__(self, minutes, seed, tenants=len(KINDS), per_s=4.0, files_per_s=1.0, other=None, log=print):
        self.seconds, self.seed, self.log = minutes * 60, seed, log
        self.per_s, self.files_per_s = per_s, files_per_s
        self.rng = random.Random(f"{seed}/soak")
        self.home = Home(own_mongo=True, platform='http = { listen = "127.0.0.1"; tls = false; requests_per_s = -1; };')
        self.copies = two_copies(self.home, other)
        self.fleet = Fleet(self.home, seed, tenants)
        self.chaos = Chaos(self.home, self.fleet, seed, self.copies)
        self.sampler = Sampler(self.home, 5 if minutes > 5 else 1)
        self.rounds, self.broken, self.visits, self.stuck = [], [], 0, False
        self.lost = self.twice = self.messages_lost = self.messages_twice = 0
        self.began = time.monotonic()

    # -- the whole

    def run(self):
        self.prepare()
        try:
            for part in ("steady", "kills"):
                self.part(part)
            if not self.stuck:
                self.at_the_end()
        except BaseException as e:
            self.broken.append(f"the soak itself: {e!r}")
            raise
        finally:
            self.fleet.quiet.set()
            self.sampler.stop()
            self.chaos.leap(0)
            self.fleet.close()
        return self.result()

    def prepare(self):
        (self.home.path / "conf/profiles.conf").write_text(PROFILES % {
            "mounts": f'"{self.home.base}:rw"', "isolation": "full" if self.home.all_walls else "basic",
            "cgroup": "cgroup = { memory_bytes = 268435456L; pids = 64; };" if os.geteuid() == 0 else ""})
        self.fleet.install()
        self.home.up(**self.chaos.env)
        self.fleet.open_accounts(json.loads((self.home.path / "state/endpoints.json").read_text())["gateway"]["http"])
        until(lambda: all((self.home.path / f"staging/{t.name}/rows").is_dir() for t in self.fleet.tenants), self.home.path / "staging", what="the staging directories")
        self.began = self.chaos.began = self.sampler.began = time.monotonic()
        self.sampler.start()

    def part(self, part):
        end = self.began + self.seconds * (0.5 if part == "steady" else 1)
        self.sampler.part = part
        before = self.residents()
        while time.monotonic() < end and not self.stuck:
            left = end - time.monotonic()
            self.round(part, min(100.0, max(8.0, left - 10)))
            if part == "steady":
                self.same_programs(before)
        self.sampler.part = ""

    def round(self, part, seconds):
        r = {"part": part, "began_s": round(time.monotonic() - self.began)}
        acts = len(self.chaos.done)
        self.fleet.start(self.per_s)
        visitor = Visitor(self.chaos, self.visits)
        self.visits += 1
        visit = threading.Thread(target=visitor.visit, daemon=True)
        visit.start()
        over = threading.Event()
        chaos = threading.Thread(target=self.disturb, args=(part, over), daemon=True)
        chaos.start()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.fleet.deliver()
            self.fleet.quiet.wait(min(self.rng.expovariate(self.files_per_s), 5 / self.files_per_s))
        over.set()
        chaos.join(SETTLE_S)
        if chaos.is_alive():
            self.stuck = True
            self.broken.append(f"what was done after {self.chaos.done[-1:]} does not come to its end; up.err: {(self.home.base / 'up.err').read_text()[-500:]}")
        if self.rng.random() < 0.7:
            self.chaos.leap(0)
        late = self.fleet.stop(30 if self.stuck else SETTLE_S)
        visit.join(SETTLE_S)
        self.broken += [f"publisher of {name} is not confirmed" for name in late] + visitor.trouble + (["a visitor does not come to an end"] if visit.is_alive() else [])
        for t in self.fleet.tenants:
            self.broken += [f"{t.name}: {w}" for w in t.trouble]
            t.trouble.clear()
        self.broken += self.chaos.broken
        self.chaos.broken.clear()
        calm = time.monotonic()
        if self.stuck:
            return
        self.settle()
        r["settled_after_s"] = round(time.monotonic() - calm, 1)
        self.check()
        r.update(seconds=round(time.monotonic() - self.began) - r["began_s"], acts=len(self.chaos.done) - acts, files=self.fleet.counts["files"], rows=self.fleet.counts["rows"],
                 messages=self.fleet.counts["messages"], lost=self.lost + self.messages_lost, twice=self.twice + self.messages_twice, disk=disk(self.home),
                 broken=len(self.broken))
        self.sampler.take()
        self.rounds.append(r)
        self.log(f"{r['began_s']:5d} s  {part:6}  {r['acts']:3d} acts, settled in {r['settled_after_s']:5.1f} s; so far {r['files']} files, {r['rows']} rows, {r['messages']} messages; "
                 f"lost {r['lost']}, twice {r['twice']}" + (f"; BROKEN {self.broken[-1][:300]}" if self.broken else ""))

    def disturb(self, part, over):
        low, high = (4, 10) if part == "steady" else (2, 7)
        while not over.wait(self.chaos.rng.uniform(low, high)):
            self.chaos.act(part)

    # -- what is looked at

    def residents(self):
        return {(program, pid) for program, pid, *_ in look(self.home) if program.startswith(tuple(x for x in LONG if x not in ("java", "simbdp-keeper"))) or program == "MongoDB"}

    def same_programs(self, before):
        """Nobody killed them, so nobody may have gone. (Keepers come and go with connections.)"""
        gone = before - self.residents()
        if gone:
            self.broken.append(f"ended by themselves: {sorted(gone)}")
            before -= gone

    def pending(self):
        """What is still to be done, in a few words; nothing: it is settled."""
        try:
            files = collections.defaultdict(list)
            for f in self.home.rows("files", "--limit", "0"):
                files[f["tenant_id"]].append(f)
            for t in self.fleet.by_file:
                names = {f["file_name"] for f in files[t.name]}
                missing = [n for n in t.expected if n not in names]
                open_ = [(f["file_name"], f["state"], f["reason"]) for f in files[t.name] if f["state"] not in FINAL]
                if missing or open_:
                    return f"{t.name}: not in the ledger: {missing[:5]}; not final: {open_[:5]}"
            self.files = files
            waiting = [(q["tenant_id"], q["ready"], q["leased"]) for q in self.home.rows("queue", "list") if q["ready"] + q["leased"]]
            if waiting:
                return f"messages: {waiting}"
            runs = [r["run_id"] for r in self.home.rows("runs", "--state", "running") if r["kind"] != "stream"]
            return f"runs: {runs[:5]}" if runs else ""
        except AssertionError as e:
            return str(e)[:500]

    def settle(self):
        try:
            until(lambda: not self.pending(), self.home.path / "state", timeout=SETTLE_S, every=1, what="all to be done")
        except AssertionError:
            self.broken.append(f"not settled after {SETTLE_S} s: {self.pending()}")

    def database(self):
        return pymongo.MongoClient(json.loads((self.home.path / "state/endpoints.json").read_text())["mongo_url"], retryReads=True)

    def check(self):
        with self.database() as client:
            for t in self.fleet.tenants:
                if t.files:
                    self.check_files(t, client[t.name].rows)
                if t.stream:
                    self.check_messages(t, client[t.name].messages)
        for q in self.home.rows("queue", "list"):
            if q["dead"]:
                self.broken.append(f"{q['tenant_id']}: {q['dead']} dead letters")
        left = [p.name for p in (self.home.path / "work").iterdir()]
        if left:
            until(lambda: not list((self.home.path / "work").iterdir()), self.home.path / "work", what="an empty work/")

    def check_files(self, t, rows):
        states = collections.defaultdict(list)
        for f in self.files[t.name]:
            states[f["file_name"]].append(f["state"])
        for name, (right, _) in t.expected.items():
            same = states[name] + states[f"again-{name}"] if not name.startswith("again-") else []  # which of the two came first is not said
            if not set(states[name]) <= right or same.count("ingested") > 1 or ("rejected" not in right and same and "ingested" not in same):
                self.broken.append(f"{t.name}: {name} is {states[name]} {same}, not {sorted(right)}")
        wanted = {int(name.split(".")[0].removeprefix("f")): n for name, (_, n) in t.expected.items() if name.startswith("f")}
        seen = collections.Counter((d["f"], d["i"]) for d in rows.find({"f": {"$gte": t.fresh[0]}}, {"_id": 0, "f": 1, "i": 1})) if t.fresh else {}
        by_file = collections.Counter(f for f, _ in seen)
        missing = {f: n - by_file[f] for f, n in wanted.items() if n > by_file[f]}
        more = sum(n - 1 for n in seen.values()) + sum(n - wanted.get(f, 0) for f, n in by_file.items() if n > wanted.get(f, 0))
        n = rows.count_documents({})
        if missing or more or n != t.stored:
            self.broken.append(f"{t.name}: rows missing {dict(list(missing.items())[:5])}, too many {more}; {n} of {t.stored} in all")
            self.lost += sum(missing.values())
            self.twice += more
            t.stored = n  # so that it is told once
        t.expected.clear()
        t.fresh.clear()

    def check_messages(self, t, rows):
        sent = t.sent
        seen = collections.Counter(d["n"] for d in rows.find({"n": {"$gte": t.checked}}, {"_id": 0, "n": 1}))
        lost = [i for i in range(t.checked, sent) if i not in seen]
        twice = [i for i, n in seen.items() if n > 1]
        n = rows.count_documents({})
        if lost or twice or n != sent:
            self.broken.append(f"{t.name}: messages lost {lost[:5]}, twice {twice[:5]}, {n} of {sent} in all")
        self.messages_lost += len(lost)
        self.messages_twice += len(twice)
        t.checked = sent

    def at_the_end(self):
        """All of it once more, and what the platform says of itself."""
        self.chaos.leap(0)
        for args in (("verify", "--json"), ("audit", "--verify"), ("doctor", "--json")):
            r = self.home.cli(*args, check=False, timeout=600)
            if r.returncode != 0:
                self.broken.append(f"{' '.join(args)}: {r.returncode} {r.stdout[-1500:]}{r.stderr[-500:]}")
        with self.database() as client:
            for t in self.fleet.by_stream:
                seen = collections.Counter(d["n"] for d in client[t.name].messages.find({}, {"_id": 0, "n": 1}))
                if len(seen) != t.sent or max(seen.values(), default=1) > 1:
                    self.broken.append(f"{t.name}: at the end {len(seen)} of {t.sent} messages, at most {max(seen.values())} times")
        r = self.home.cli("down", check=False, timeout=300)
        if r.returncode != 0 or self.home.up_process.wait(timeout=60) != 0:
            self.broken.append(f"down: {r.stdout}{r.stderr}")
        self.home.up_process.stdout.close()
        self.home.up_process = None
        if self.home.remains():
            self.broken.append(f"left behind: {[str(p) for p in self.home.remains()][:10]}")
        asserts = [line for line in (self.home.base / "up.err").read_text().splitlines() if "Assertion" in line or "assert" in line]
        self.broken += asserts[:3]
        for log in (self.home.path / "logs").glob("*.log"):
            bad = [line for line in log.read_text().splitlines() if '"event":"state"' in line and '"level":"error"' in line]
            self.broken += [f"impossible move: {line[:300]}" for line in bad[:3]]

    def result(self):
        grown = growth(self.sampler.samples, "steady")
        judged = self.seconds >= 1200
        for program, row in grown.items():
            row["flat"] = is_flat(program, row)
            if judged and not row["flat"]:
                self.broken.append(f"{program} is not flat: {row['memory_kib']['per_hour']} KiB, {row['descriptors']['per_hour']} descriptors, {row['threads']['per_hour']} threads an hour")
        return {"seed": self.seed, "seconds": round(time.monotonic() - self.began), "tenants": len(self.fleet.tenants), "visitors": self.visits, "sent": self.fleet.counts,
                "lost": {"rows": self.lost, "messages": self.messages_lost}, "twice": {"rows": self.twice, "messages": self.messages_twice},
                "acts": self.chaos.counts, "kills": self.kills(), "slowest_to_settle_s": max((r["settled_after_s"] for r in self.rounds), default=0),
                "programs": grown, "flatness_judged": judged, "rounds": self.rounds, "done": self.chaos.done, "broken": self.broken}

    def kills(self):
        return dict(collections.Counter(detail.rsplit(" ", 1)[0] for _, what, detail in self.chaos.done if what in ("kill_program", "kill_run")))

    def keep_or_remove(self):
        self.home.keep |= bool(self.broken)
        self.home.cleanup()


def is_flat(program, row):
    """Growth that is more than the scatter of its figures and would matter in a day: of memory, 2 MiB or a tenth an hour (of the JVM,
    whose heap has a limit of its own, 48 MiB); of descriptors and threads, five an hour."""
    def grows(figure, at_most):
        return figure["per_hour"] > at_most and figure["error_per_hour"] is not None and figure["per_hour"] > 2 * figure["error_per_hour"]
    memory = row["memory_kib"]
    at_most = 48 << 10 if program == "MongoDB" else max(2 << 10, memory["warm"] / 10)
    return not grows(memory, at_most) and not grows(row["descriptors"], 5) and not grows(row["threads"], 5)


def table(result):
    """What a person reads at the end."""
    sent, lines = result["sent"], []
    lines += [f"{'':28} {'sent':>10} {'lost':>6} {'twice':>6}",
              f"{'rows of files':28} {sent['rows']:10d} {result['lost']['rows']:6d} {result['twice']['rows']:6d}",
              f"{'messages of streams':28} {sent['messages']:10d} {result['lost']['messages']:6d} {result['twice']['messages']:6d}",
              f"{sent['files']} files of {result['tenants']} tenants ({sent['refused']} refused as they should be), {result['visitors']} tenants that came and went, {result['seconds']} s; "
              f"all settled within {result['slowest_to_settle_s']} s", "what happened: " + ", ".join(f"{n} {what}" for what, n in sorted(result["acts"].items())), ""]
    lines += [f"{'program (first half)':24} {'memory, KiB: first':>18} {'warm':>8} {'last':>8} {'an hour':>16}  {'descriptors':>12} {'threads':>9}"]
    for program, row in result["programs"].items():
        m, d, t = row["memory_kib"], row["descriptors"], row["threads"]
        error = "" if m["error_per_hour"] is None else f"±{m['error_per_hour']:.0f}"
        verdict = ("flat" if row["flat"] else "GROWS") if result["flatness_judged"] else ""
        lines.append(f"{program:24} {m['first']:18d} {m['warm']:8d} {m['last']:8d} {m['per_hour']:+9.0f} {error:>6}  {d['warm']:5d} -> {d['last']:3d} {t['warm']:4d} -> {t['last']:2d}  {verdict}")
    if len(result["rounds"]) > 1:
        first, last = result["rounds"][0], result["rounds"][-1]
        lines += ["", f"{'directory':24} {'MiB after the first round':>26} {'last':>8}"]
        lines += [f"{name:24} {n / 2**20:26.1f} {last['disk'][name] / 2**20:8.1f}" for name, n in first["disk"].items()]
    lines += ["", *[f"BROKEN: {b}" for b in result["broken"][:20]]]
    lines.append(f"seed {result['seed']}: " + (f"{len(result['broken'])} promises are broken" if result["broken"] else "no promise is broken"))
    return "\n".join(lines)


def write(result, path):
    new = pathlib.Path(f"{path}.new")
    new.write_text(json.dumps(result, indent=1) + "\n")
    shutil.move(new, path)
