"""What the provider sees of the machine (GET /v1/platform, `machine`): tenants' shares, refusals and bills, runs with their use and limits,
disks, programs. Compared with what the kernel, the command line and os.statvfs say."""
import datetime
import json
import os
import signal

import pytest

from harness import HAS_CGROUPS, IS_ROOT, until
from web import Site, settings

pytestmark = pytest.mark.anyone
BUSY = """#!/usr/bin/python3
import sys, time
sys.stdin.read()
hog = b"x" * (30 << 20)
while True:
    time.process_time()
"""


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(), ready=False)
    conf = s.home.path / "conf/tenants/acme.conf"
    conf.write_text('weight = 3;' + conf.read_text().replace('{ app = "slow"; exec = "misbehave";', '{ app = "slow"; exec = "busy.py";'))
    (s.home.path / "conf/tenants/beta.conf").write_text('weight = 1;' + (s.home.path / "conf/tenants/beta.conf").read_text())
    program = s.home.path / "apps/acme/busy.py"
    program.write_text(BUSY)
    program.chmod(0o755)
    s.up()
    yield s
    s.cleanup()


def platform(site):
    return site.ask("GET", "/v1/platform", site.of("operator", None)).doc


def age(m, run):
    return (datetime.datetime.fromisoformat(m["at"][:-1]) - datetime.datetime.fromisoformat(run["started_at"][:-1])).total_seconds()


def machine(site, test, what):
    def passes():
        m = platform(site)["machine"]
        return m if m and test(m) else None
    return until(passes, site.home.path / "logs", what=what)


def tenant(m, name="acme"):
    return next(t for t in m["tenants"] if t["tenant_id"] == name)


def test_what_a_run_uses_and_may(site):
    f = site.put("busy.csv", b"v\n1\n", dataset="slow").doc["file_id"]
    until(lambda: site.get(f"files/{f}").doc["state"] == "running", what="the run")
    run = site.get(f"files/{f}").doc["run_id"]

    def it_works(m):
        (r,) = [r for r in m["runs"] if r["run_id"] == run] or [None]
        return r and (not IS_ROOT or not HAS_CGROUPS or (r["cpu_s"] or 0) > 1) and r
    m = machine(site, it_works, "what the run uses")
    r = it_works(m)
    assert (r["tenant_id"], r["app"], r["step"], r["max_age_s"]) == ("acme", "slow", "app", 60) and 0 < age(m, r) < 60
    if IS_ROOT and HAS_CGROUPS:
        assert 30 << 20 < r["memory_bytes"] <= 256 << 20 == r["max_memory_bytes"]
        assert 1 <= r["pids"] <= r["max_pids"] and 64 <= r["max_pids"] <= 66
        assert 0 < r["cpus"] <= os.cpu_count() and r["cpu_s"] <= age(m, r) * 1.2
        t = tenant(m)
        assert t["cpu_s"] >= r["cpu_s"] * 0.9 and t["cpu_share"] == pytest.approx(t["cpu_s"] / (m["cpus"] * m["window_s"]), abs=1e-4) and t["memory_bytes"] >= r["memory_bytes"]
        assert tenant(m, "beta")["cpu_share"] < t["cpu_share"]
    assert tenant(m)["running"] >= 1 and tenant(m)["weight_share"] == 0.75 and tenant(m, "beta")["weight_share"] == 0.25
    assert site.ask("POST", f"/v1/tenants/acme/runs/{run}:stop", site.of("tenant-deployer")).status == 200
    site.wait(f)
    m = machine(site, lambda m: run not in [r["run_id"] for r in m["runs"]] and tenant(m)["cpu_s"] > 1, "its end, with its CPU time in what the tenant used lately")


def test_what_tenants_are_refused_and_pay(site):
    site.wait(site.put("good.csv", b"v,w\n1,a\n2,b\n").doc["file_id"])
    site.wait(site.put("bad.csv", b"v,w\nx,1\ny,2\n", dataset="strict").doc["file_id"])
    (line,) = [r for r in site.home.rows("stats", "--since", "31d") if r.get("tenant_id") == "acme"]
    month = site.get("bills/" + platform(site)["machine"]["at"][:7], site.of()).doc
    m = machine(site, lambda m: tenant(m)["month"]["files"] == month["files"] and tenant(m)["refused_hour"], "the sums")
    for key, value in tenant(m)["month"].items():
        assert value == pytest.approx(month[key], abs=0.5), key
    assert tenant(m)["month"]["rows"] <= line["rows"]
    failed = len(site.get("files?state=rejected").doc["files"]) + len(site.get("files?state=quarantined").doc["files"])
    assert tenant(m)["refused_hour"] == tenant(m)["refused_day"] == failed >= 1
    assert tenant(m, "beta")["refused_day"] == 0 and tenant(m, "beta")["month"]["files"] == 0


def test_rates_of_the_last_minutes(site):
    for i in range(3):
        site.wait(site.put(f"rate{i}.csv", f"v,w\n{i},a\n{i},b\n".encode()).doc["file_id"])
    (t,) = [t for t in platform(site)["batchmgr"]["tenants"] if t["tenant_id"] == "acme"]
    assert 3 / 300 < t["files_per_s"] < 10 and 6 / 300 < t["rows_per_s"] < 20
    (t,) = [t for t in platform(site)["batchmgr"]["tenants"] if t["tenant_id"] == "beta"]
    assert t["files_per_s"] == t["rows_per_s"] == 0


def test_disks_are_as_statvfs_has_them(site):
    m = machine(site, lambda m: m["disks"], "disks")
    places = [p for d in m["disks"] for p in d["places"]]
    assert [d["place"] for d in m["disks"]] == [d["places"][0] for d in m["disks"]] and m["disks"][0]["place"] == "home"
    assert sorted(places) == sorted(["home", "staging", "work", "runs", "state", "logs", "done", "quarantine"])
    home = next(d for d in m["disks"] if "home" in d["places"])
    v = os.statvfs(site.home.path)
    assert home["size_bytes"] == v.f_blocks * v.f_frsize and abs(home["free_bytes"] - v.f_bavail * v.f_frsize) < 1 << 30
    assert home["pauses_below_bytes"] == 0 and home["low"] is False
    conf = site.home.path / "conf/mysimbdp.conf"
    before = conf.read_text()
    conf.write_text(before.replace("min_free_bytes = 0L", f"min_free_bytes = {home['size_bytes']}L"))
    site.home.cli("reload")
    try:
        m = machine(site, lambda m: any(d["low"] for d in m["disks"]), "a disk that is low")
        until(lambda: platform(site)["batchmgr"]["intake"] == "paused: disk low", what="the intake")
    finally:
        conf.write_text(before)
        site.home.cli("reload")
    machine(site, lambda m: not any(d["low"] for d in m["disks"]), "the disk")


def test_how_programs_are(site):
    m = machine(site, lambda m: {"batchmgr", "broker", "gateway", "monitor", "streammgr"} <= {p["program"] for p in m["programs"]}, "programs")
    by = {p["program"]: p for p in m["programs"]}
    assert all(p["runs"] and p["use"]["processes"] == 1 and p["use"]["memory_bytes"] > 1 << 20 and p["use"]["cpu_s"] >= 0 for p in m["programs"])
    assert by["gateway"]["helpers"]["processes"] >= 6, "its keepers"
    assert by["monitor"]["restarts"] == 0 and by["monitor"]["ended"] is None
    fds = by["broker"]["use"]["descriptors"]
    assert fds is None or 5 < fds < by["broker"]["use"]["max_descriptors"]
    pid = platform(site)["monitor"] and json.loads((site.home.path / "state/programs.json").read_text())["programs"]
    os.kill(next(p["pid"] for p in pid if p["program"] == "monitor"), signal.SIGKILL)
    m = machine(site, lambda m: any(p["program"] == "monitor" and p["restarts"] == 1 and p["runs"] for p in m["programs"]), "its restart")
    (again,) = [p for p in m["programs"] if p["program"] == "monitor"]
    assert again["ended"] == "signal 9" and again["ended_at"] and again["started_at"] > by["monitor"]["started_at"]
