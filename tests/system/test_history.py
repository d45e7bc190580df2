"""The configurations that were accepted: what a reload would change, who had which one taken, and the way back."""
import hashlib
import json
import os
import pwd
import signal
import subprocess
import threading

import pytest

from harness import BUILD, until

pytestmark = pytest.mark.anyone

STREAMS = 'streams = ( { name = "events"; } );\nstream_apps = ( { app = "store"; stream = "events"; exec = "builtin:load"; dataset = "data"; } );\n'


def entries(home):
    return home.rows("history", "list")


def changes(home, *args):
    return {(c["file"].split("/")[-1], c["key"]): c for c in home.rows(*(args or ("check", "--diff")))}


def edit(home, path, old, new):
    """In place, as an editor does; the old text."""
    file = home.path / path
    before = file.read_text()
    assert old in before, before
    file.write_text(before.replace(old, new))
    return before


def files(home):
    """path → bytes of what is read as configuration."""
    conf = home.path / "conf"
    return {str(p.relative_to(conf)): p.read_bytes() for p in [conf / "mysimbdp.conf", conf / "profiles.conf", *conf.glob("tenants/*.conf")]}


@pytest.fixture
def running(home):
    home.tenant("acme", tenant="weight = 2; # two\n")
    (home.path / "conf/tenants/acme.conf").open("a").write("# the end\n" + STREAMS)
    home.up()
    return home


def test_what_a_reload_would_change(running):
    home = running
    assert changes(home) == {}
    assert "nothing would change" in home.cli("check", "--diff").stdout
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 5;")
    edit(home, "conf/tenants/acme.conf", STREAMS, "")
    edit(home, "conf/mysimbdp.conf", "min_free_inodes = 0L;", 'min_free_inodes = 0L; listen = "127.0.0.1"; otlp = { url = "http://me:geheim@127.0.0.1:1"; };')
    home.tenant("best")
    said = changes(home)
    weight = said.pop(("acme.conf", "weight"))
    assert (weight["old"], weight["new"], weight["takes_effect"], weight["tenant_id"]) == ("2", "5", "reload", "acme") and "compete" in weight["help"]
    listen = said.pop(("mysimbdp.conf", "platform.listen"))
    assert (listen["old"], listen["new"], listen["takes_effect"]) == ('""', '"127.0.0.1"', "start")
    assert said.pop(("mysimbdp.conf", "platform.otlp.url"))["new"] == '"http://me:***@127.0.0.1:1"'
    assert said.pop(("best.conf", ""))["change"] == "added"
    gone = said.pop(("acme.conf", "streams events"))
    assert gone["change"] == "removed" and "refused" in gone["effect"]
    assert "finish what they hold" in said.pop(("acme.conf", "stream_apps store"))["effect"]
    assert not said
    text = home.cli("check", "--diff").stdout
    assert "  weight: 2 -> 5\n" in text and "6 changes: 5 on `mysimbdp reload`, 1 when" in text and "geheim" not in text
    # An error is told as ever, and nothing is compared.
    edit(home, "conf/tenants/acme.conf", "weight", "wieght")
    r = home.cli("check", "--diff", check=False)
    assert r.returncode == 1 and "acme.conf:1" in r.stderr and "->" not in r.stdout


def test_what_was_said_of_what_is_taken_out_is_true(running):
    """Streams, their apps, batch apps, datasets and tenants, taken out while they are in use."""
    home = running
    home.cli("publish", "acme/events", input='{"v":1}\n')
    until(lambda: home.queue("store")["acked"] == 1, home.path / "logs", what="the message")
    home.tenant("late")
    home.cli("reload")
    home.tenant("acme", tenant="weight = 2;", apps='{ app = "other"; exec = "builtin:load"; datasets = ("none"); }')
    edit(home, "conf/tenants/acme.conf", '\ndatasets = (', '\ndatasets = ( { name = "none"; }, ')
    (home.path / "conf/tenants/late.conf").unlink()
    said = changes(home)
    assert {k for k, c in said.items() if c["change"] == "removed"} == {("acme.conf", "batch app"), ("acme.conf", "streams events"), ("acme.conf", "stream_apps store"), ("late.conf", "")}
    home.cli("reload")
    r = home.cli("publish", "acme/events", input='{"v":2}\n', check=False)
    assert r.returncode == 1, "publishing is refused"
    until(lambda: all(r["state"] == "ended" for r in home.rows("runs") if r["kind"] == "stream"), home.path / "logs", what="its instances ended")
    assert {r["outcome"] for r in home.rows("runs") if r["kind"] == "stream"} == {"ok"}
    home.drop("x.csv", "v\n1\n")
    assert (lambda f: (f["state"], f["reason"]))(home.wait_file(file_name="x.csv")) == ("rejected", "no_app")
    home.drop("y.csv", "v\n1\n", tenant="late")
    home.cli("reload")
    assert not home.files(file_name="y.csv") and (home.path / "staging/late/data/y.csv").exists()


def test_who_had_which_configuration_taken(running):
    home = running
    first = files(home)
    assert [(e["number"], e["what"], e["tenants"]) for e in entries(home)] == [(1, "up", 1)]
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 5;")
    assert len(entries(home)) == 1, "it is not in force yet"
    home.cli("reload")
    home.cli("reload")
    home.cli("tenant", "add", "best")
    assert home.cli("completion", "words", "--", "history", "show", "").stdout == "1\t\n2\t\n3\t\n"
    assert [(e["number"], e["what"], e["state"]) for e in entries(home)] == [(1, "up", "kept"), (2, "reload", "kept"), (3, "tenant add best", "kept")]
    me = pwd.getpwuid(home.path.stat().st_uid).pw_name
    assert {e["who"] for e in entries(home)} == {me}
    shown = {line["path"].removeprefix("conf/"): line["text"].encode() for line in home.rows("history", "show", 1)}
    assert shown == first
    assert "# the end" in home.cli("history", "show", "1").stdout
    assert changes(home, "history", "diff", 1, 2).keys() == {("acme.conf", "weight")}
    assert changes(home, "history", "diff", 1).keys() == {("acme.conf", "weight"), ("best.conf", "")}
    # What is refused is not kept.
    edit(home, "conf/tenants/acme.conf", "weight = 5;", "weight = 0;")
    assert home.cli("reload", check=False).returncode == 1 and len(entries(home)) == 3
    edit(home, "conf/tenants/acme.conf", "weight = 0;", "weight = 7;")
    os.kill(home.up_process.pid, signal.SIGHUP)
    until(lambda: len(entries(home)) == 4, home.path / "state", what="what the signal asked for")
    assert entries(home)[3]["what"] == "SIGHUP" and entries(home)[3]["who"] == me
    home.down()
    edit(home, "conf/tenants/acme.conf", "weight = 7;", "weight = 8;")
    home.up()
    assert [e["what"] for e in entries(home)][4:] == ["up"]
    for args in (["history"], ["history", "show"], ["history", "show", "x"], ["history", "show", "0"], ["history", "list", "1"], ["history", "rollback", "1", "2"], ["history", "nothing"]):
        assert home.cli(*args, check=False).returncode == 2, args
    r = home.cli("history", "show", "77", check=False)
    assert r.returncode == 1 and "no configuration 77" in r.stderr


def test_there_and_back_again(running):
    home = running
    first = files(home)
    (home.path / "conf/tenants/acme.conf").chmod(0o600)
    edit(home, "conf/tenants/acme.conf", "weight = 2; # two", "weight = 5;")
    home.tenant("late")
    home.cli("reload")
    second = files(home)
    home.cli("history", "rollback", "1")
    assert files(home) == first, "each byte, so with all comments"
    assert (home.path / "conf/tenants/acme.conf").stat().st_mode & 0o777 == 0o600
    assert (home.path / "conf/tenants/late.conf.removed").read_bytes() == second["tenants/late.conf"]
    home.drop("x.csv", "v\n1\n", tenant="late")
    home.cli("reload")
    assert not home.files(file_name="x.csv")
    home.cli("history", "rollback", "2")
    assert files(home) == second
    assert home.wait_file(file_name="x.csv")["state"] == "ingested"
    home.cli("history", "rollback", "3")  # of the rollback
    assert files(home) == first
    assert [e["what"] for e in entries(home)] == ["up", "reload", "rollback to 1", "rollback to 2", "rollback to 3"]
    assert changes(home) == {}
    audit = [(a["what"], a["subject"], a["outcome"]) for a in home.rows("audit") if a["what"] == "configuration_rollback"]
    assert audit == [("configuration_rollback", n, "ok") for n in ("1", "2", "3")]
    home.down()
    r = home.cli("history", "rollback", "2")
    assert "when the platform is started" in r.stdout and files(home) == second and len(entries(home)) == 5
    home.up()
    assert [e["what"] for e in entries(home)][5:] == ["up"]


def forge(home, number, **texts):
    """One that was accepted by an earlier version, say."""
    directory = home.path / "state/configurations"
    all_ = {**{f"conf/{k}": v for k, v in files(home).items()}, **{k: v.encode() for k, v in texts.items()}}
    head = json.dumps({"v": 1, "number": number, "at_ms": 1, "who": "me", "what": "reload", "files": [{"path": p, "bytes": len(t)} for p, t in sorted(all_.items())]}, separators=(",", ":"))
    body = head.encode() + b"\n" + b"".join(t for _, t in sorted(all_.items()))
    (directory / f"{number:08}").write_bytes(body + hashlib.blake2b(body, digest_size=32).hexdigest().encode() + b"\n")


def test_what_cannot_be_accepted_now_changes_nothing(running):
    home = running
    before = files(home)
    forge(home, 7, **{"conf/tenants/acme.conf": "wieght = 3;\n", "conf/tenants/more.conf": "weight = 0;\n"})
    r = home.cli("history", "rollback", "7", check=False)
    assert r.returncode == 1 and "configuration 7, conf/tenants/acme.conf:1" in r.stderr and "conf/tenants/more.conf:1" in r.stderr and "stays as it is" in r.stderr, r.stderr
    assert files(home) == before and not list((home.path / "state/configurations").glob(".read*"))
    # A program refuses it: there is no place for a tenant's files.
    forge(home, 8, **{"conf/tenants/late.conf": 'datasets = ( { name = "data"; } );\n'})
    (home.path / "staging/late").write_text("in the way")
    r = home.cli("history", "rollback", "8", check=False)
    assert r.returncode == 1 and "staging/late" in r.stderr, (r.stdout, r.stderr)
    assert files(home) == before and sorted(p.name for p in (home.path / "conf/tenants").iterdir()) == ["acme.conf"]
    r = home.cli("history", "rollback", "9", check=False)
    assert r.returncode == 1 and "no configuration 9" in r.stderr
    audit = [(a["subject"], a["outcome"]) for a in home.rows("audit") if a["what"] == "configuration_rollback"]
    assert audit == [("7", "refused"), ("8", "refused"), ("9", "not_found")]
    home.drop("x.csv", "v\n1\n")
    assert home.wait_file(file_name="x.csv")["state"] == "ingested", "what was in force is"


def test_a_damaged_one_harms_no_other(running):
    home = running
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 3;")
    home.cli("reload")
    first = home.path / "state/configurations/00000001"
    data = bytearray(first.read_bytes())
    data[len(data) // 2] ^= 0x20
    first.write_bytes(data)
    assert [(e["number"], e["state"], e["who"] is None) for e in entries(home)] == [(1, "damaged", True), (2, "kept", False)]
    r = home.cli("history", "rollback", "1", check=False)
    assert r.returncode == 1 and "00000001 is damaged" in r.stderr
    edit(home, "conf/tenants/acme.conf", "weight = 3;", "weight = 4;")
    assert changes(home).keys() == {("acme.conf", "weight")}
    (home.path / "state/configurations/00000002").write_bytes(b"")
    r = home.cli("check", "--diff", check=False)
    assert r.returncode == 1 and "00000002 is damaged" in r.stderr
    home.cli("reload")
    assert entries(home)[-1]["number"] == 3 and changes(home) == {}


@pytest.mark.needs_root
def test_a_full_disk(running):
    """The configuration holds although it cannot be kept; a rollback changes nothing."""
    home = running
    first = (home.path / "state/configurations/00000001").read_bytes()
    kept = home.mount_tmpfs("state/configurations", "64k")
    (kept / "00000001").write_bytes(first)
    with pytest.raises(OSError), open(kept / "filler", "wb", buffering=0) as f:
        while True:
            f.write(bytes(4096))
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 3;")
    r = home.cli("reload")
    assert "is not kept" in r.stderr and "No space" in r.stderr
    assert home.rows("tenant", "show", "acme")[0]["weight"] == 3 and [e["number"] for e in entries(home)] == [1]
    before = files(home)
    r = home.cli("history", "rollback", "1", check=False)
    assert r.returncode == 1 and "No space" in r.stderr and files(home) == before
    assert sorted(p.name for p in (home.path / "conf/tenants").iterdir()) == ["acme.conf"]


def test_a_rollback_that_is_killed_is_undone(running):
    """By the next verb, and by `up`: programs are held while the files are those of the other configuration."""
    home = running
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 3;")
    home.tenant("late")
    home.cli("reload")
    before = files(home)

    def killed():
        (manager,) = [home.batchmgr_pid()]
        os.kill(manager, signal.SIGSTOP)
        p = subprocess.Popen([*home.as_user, BUILD / "mysimbdp", "history", "rollback", "1"], env=home.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until(lambda: not (home.path / "conf/tenants/late.conf").exists() and (home.path / "state/configurations/swap").exists(), home.path / "conf/tenants", what="the files")
        assert files(home) != before
        p.kill()
        p.wait()
        os.kill(manager, signal.SIGCONT)
        assert (home.path / "conf/tenants/late.conf.before").exists()
    killed()
    r = home.cli("reload")
    assert "cut short" in r.stderr and files(home) == before
    assert sorted(p.name for p in (home.path / "conf/tenants").iterdir()) == ["acme.conf", "late.conf"]
    killed()
    home.down()
    home.up()
    assert files(home) == before and "cut short" in (home.base / "up.err").read_text()
    assert {t["tenant_id"]: t["state"] for t in home.rows("tenant", "list")} == {"acme": "active", "late": "active"}
    assert changes(home) == {}


def test_many_at_once(running):
    """Reloads, tenants that are added and rollbacks, side by side: one after the other, each whole."""
    home = running
    edit(home, "conf/tenants/acme.conf", "weight = 2;", "weight = 3;")
    home.cli("reload")
    results = []

    def call(*args):
        results.append((args, home.cli(*args, check=False)))
    jobs = [threading.Thread(target=call, args=args) for args in [("reload",)] * 4 + [("tenant", "add", f"t{i}") for i in range(4)] + [("history", "rollback", "1"), ("history", "rollback", "2")]]
    for j in jobs:
        j.start()
    for j in jobs:
        j.join()
    assert [(a, r.returncode, r.stderr) for a, r in results if r.returncode] == []
    home.cli("reload")
    kept = entries(home)
    assert [e["number"] for e in kept] == list(range(1, len(kept) + 1)) and {e["state"] for e in kept} == {"kept"}
    assert changes(home, "history", "diff", kept[-1]["number"]) == changes(home) == {}
    assert {e["what"] for e in kept} >= {"rollback to 1"} and not list((home.path / "conf/tenants").glob("*.before"))
    texts = {f"conf/{k}": v.decode() for k, v in files(home).items()}
    assert {line["path"]: line["text"] for line in home.rows("history", "show", kept[-1]["number"])} == texts


def test_a_purged_tenant_is_in_none(running):
    home = running
    home.tenant("late", tenant='display_name = "Unforgettable";')
    home.cli("reload")
    home.cli("tenant", "remove", "late", "--purge")
    kept = [p for p in (home.path / "state/configurations").iterdir()]
    assert len(kept) >= 2 and not [p for p in kept if b"Unforgettable" in p.read_bytes()]
    assert {e["state"] for e in entries(home)} == {"kept"} and changes(home) == {}
    home.cli("history", "rollback", "2")
    assert not (home.path / "conf/tenants/late.conf").exists()


def test_a_tenant_of_a_template(home):
    home.tenant("acme")
    templates = home.path / "conf/templates"
    templates.mkdir()
    (templates / "small.conf").write_text('# @TENANT@ has it small.\ndisplay_name = "Team @TENANT@"; weight = 7; # @TENANT@\ndatasets = ( { name = "data"; } );\n')
    assert "small" in home.cli("completion", "words", "--", "tenant", "add", "best", "--template", "").stdout
    home.cli("tenant", "add", "best", "--template", "small")
    assert (home.path / "conf/tenants/best.conf").read_text() == '# best has it small.\ndisplay_name = "Team best"; weight = 7; # best\ndatasets = ( { name = "data"; } );\n'
    assert home.rows("tenant", "show", "best")[0]["display_name"] == "Team best"
    r = home.cli("tenant", "add", "more", "--template", "none", check=False)
    assert r.returncode == 1 and "conf/templates/none.conf" in r.stderr and not (home.path / "conf/tenants/more.conf").exists()
    r = home.cli("tenant", "add", "more", "--template", "../x", check=False)
    assert r.returncode == 1 and "template" in r.stderr
    assert home.cli("tenant", "add", "more", "--template", "small", "--from", "/dev/null", check=False).returncode == 2
    (templates / "bad.conf").write_text("nonsense = 1;\n")
    r = home.cli("tenant", "add", "more", "--template", "bad", check=False)
    assert r.returncode == 1 and "nonsense" in r.stderr and not (home.path / "conf/tenants/more.conf").exists()
