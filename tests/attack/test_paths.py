"""Root walks where a tenant may write: links, pipes and names that are put in its way lead nowhere and stop nothing."""
import os
import stat
import subprocess

import pytest
from harness import until

pytestmark = pytest.mark.needs_root


def uid_of(home, tenant="acme"):
    return next(t["uid"] for t in home.rows("tenant", "list") if t["tenant_id"] == tenant)


def as_tenant(home, script, tenant="acme", **kw):
    uid = uid_of(home, tenant)
    return subprocess.Popen(["/usr/bin/python3", "-c", script], user=uid, group=uid, extra_groups=[], stdout=subprocess.PIPE, text=True, **kw)


def facts(path):
    s = os.lstat(path)
    return s.st_uid, s.st_gid, s.st_mode, s.st_ino


def test_a_link_where_a_dataset_is_to_be_is_not_followed(make_home):
    home = make_home()
    home.tenant()
    home.tenant("other")
    home.up()
    r = as_tenant(home, f"import os; os.symlink({str(home.path / 'keys')!r}, {str(home.path / 'staging/acme/later')!r})")
    r.communicate()
    assert r.returncode != 0, "the tenant's own directory is the platform's to write"
    before = facts(home.path / "keys")
    os.symlink(home.path / "keys", home.path / "staging/acme/later")  # as an older version let a tenant do
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('datasets = ( {', 'datasets = ( { name = "later"; }, {'))
    assert home.reload()["ok"]
    assert facts(home.path / "keys") == before
    assert '"staging"' in (home.path / "logs/batchmgr.log").read_text()
    for tenant in ("acme", "other"):
        home.drop("x.csv", "a\n1\n", tenant)
        assert home.wait_file(file_name="x.csv", tenant_id=tenant)["state"] == "ingested", "everything else goes on"


def test_files_named_like_the_reason_stop_nothing(make_home):
    home = make_home()
    home.tenant()
    home.up()
    canary = home.base / "canary"
    canary.write_text("mine")
    before = facts(canary)
    places = home.path / "staging/acme/data"
    r = as_tenant(home, f"import os; os.mkfifo({str(places / 'reason.json')!r})")
    r.communicate()
    f = home.wait_file(file_name="reason.json")
    assert (f["state"], f["reason"]) == ("rejected", "not_regular")
    filed = home.path / "quarantine/acme/data" / f["file_id"]
    assert stat.S_ISREG(os.lstat(filed / "reason.json").st_mode) and "not_regular" in (filed / "reason.json").read_text()
    as_tenant(home, f"import os; os.symlink({str(canary)!r}, {str(places / 'reason.json')!r})").communicate()
    until(lambda: len(home.files(file_name="reason.json")) == 2, home.path / "state")
    until(lambda: all(f["state"] == "rejected" for f in home.files(file_name="reason.json")), home.path / "state")
    os.link(canary, places / "reason.json")
    until(lambda: len(home.files(file_name="reason.json")) == 3 and all(f["state"] == "rejected" for f in home.files(file_name="reason.json")), home.path / "state")
    assert facts(canary) == before and canary.read_text() == "mine"
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"


def test_output_that_is_exchanged_while_it_is_taken(make_home):
    """Another process of the tenant's, outside of the run, swaps the output directory for a link as soon as anything is done to it."""
    home = make_home()
    home.profiles(isolation="basic")
    (home.path / "apps/acme").mkdir(exist_ok=True)
    home.tenant(exec_="make", batch='output = "dir";', retry="attempts = 1;")
    gate, ready = home.base / "where", home.base / "ready"
    for fifo in (gate, ready):
        os.mkfifo(fifo)
        fifo.chmod(0o666)
    make = home.path / "apps/acme/make"
    make.write_text(f'#!/bin/sh\necho \'{{"n":1}}\' > "$SIMBDP_OUTPUT_DIR/a.json"\necho "$SIMBDP_OUTPUT_DIR" > {gate}\nread go < {ready}\n')
    make.chmod(0o755)
    home.up()
    target = home.path / "keys"
    before = facts(target), {p.name: facts(p) for p in target.iterdir()}
    swapper = as_tenant(home, f'''
import ctypes, os
libc = ctypes.CDLL(None)
while True:
    path = open({str(gate)!r}).readline().strip()
    fd = libc.inotify_init()
    libc.inotify_add_watch(fd, path.encode(), 0x4 | 0x20 | 0x800)
    libc.inotify_add_watch(fd, (path + "/a.json").encode(), 0x4)
    open({str(ready)!r}, "w").write("go\\n")
    os.read(fd, 4096)
    try:
        os.rename(path, path + ".mine")
        os.symlink({str(target)!r}, path)
    except OSError:
        pass
    os.close(fd)
''')
    try:
        for i in range(5):
            home.drop(f"{i}.csv", f"a\n{i}\n")
            f = home.wait_file(file_name=f"{i}.csv")
            assert f["state"] in ("ingested", "quarantined"), f
    finally:
        swapper.kill()
        swapper.communicate()
    assert (facts(target), {p.name: facts(p) for p in target.iterdir()}) == before


def test_tenants_do_not_read_one_another(make_home):
    home = make_home()
    home.tenant()
    home.tenant("other")
    for path in ("conf", "conf/tenants", "apps", "apps/acme", "logs", "logs/tenants"):  # as versions before had them
        (home.path / path).chmod(0o755)
    home.install("acme", "/bin/true", "mine")
    home.up()
    home.drop("x.csv", "a\n1\n")
    assert home.wait_file()["state"] == "ingested"
    private = ["conf/tenants/acme.conf", "conf/mysimbdp.conf", "apps/acme/mine", "logs/tenants/acme/ingest.jsonl", "logs/batchmgr.log"]
    script = "import sys\nfor p in %r:\n    try:\n        print(p, len(open(p, 'rb').read()))\n    except OSError as e:\n        pass\n"
    for tenant, sees in (("other", set()), ("acme", {"apps/acme/mine", "logs/tenants/acme/ingest.jsonl"})):
        out, _ = as_tenant(home, script % [str(home.path / p) for p in private], tenant).communicate()
        assert {os.path.relpath(line.split()[0], home.path) for line in out.splitlines()} == sees, tenant


def test_what_the_provider_narrowed_stays(make_home):
    home = make_home()
    home.tenant()
    (home.path / "apps/acme").chmod(0o2770)
    os.chown(home.path / "apps/acme", -1, 12345)
    before = facts(home.path / "apps/acme")
    home.up()
    assert facts(home.path / "apps/acme") == before


def test_purge_is_true_however_deep(make_home):
    home = make_home()
    home.tenant()
    home.tenant("deep")
    home.up()
    home.drop("x.csv", "a\n1\n", "deep")
    home.wait_file(tenant_id="deep")
    script = f"import os\nos.chdir({str(home.path / 'staging/deep/data')!r})\nos.mkdir('.d'); os.chdir('.d')\n" \
             "for i in range(20000):\n    os.mkdir('d'); os.chdir('d')\nfor i in range(100): open(str(i), 'w').close()\n"
    assert as_tenant(home, script, "deep").wait() == 0
    home.cli("tenant", "remove", "deep", "--purge")
    left = [p for place in ("staging", "done", "quarantine", "apps", "keys", "logs/tenants") for p in (home.path / place).glob("deep*")]
    assert left == [] and [p.name for p in (home.path / "staging").iterdir()] != []
    home.drop("y.csv", "a\n1\n")
    assert home.wait_file(tenant_id="acme")["state"] == "ingested"


def test_rejects_follows_no_link(make_home):
    home = make_home()
    home.tenant(limits="max_rejects = 5;", tenant="")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text().replace('collection = "data";', 'collection = "data"; columns = ( { name = "a"; type = "long"; } );'))
    home.up()
    home.drop("x.csv", "a\n1\nnone\n")
    f = home.wait_file()
    assert "none" in home.cli("rejects", f["file_id"]).stdout
    kept = next((home.path / "runs" / f["run_id"]).rglob("rejects.jsonl"))
    secret = home.base / "secret"
    secret.write_text('{"line":1,"byte_offset":0,"message":"s3cret"}\n')
    kept.unlink()
    kept.symlink_to(secret)
    assert "s3cret" not in home.cli("rejects", f["file_id"]).stdout
