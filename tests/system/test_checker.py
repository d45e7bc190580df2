"""A checker of a stream app: it sees the messages first, and what it does not let pass is a dead letter."""
import json

import pytest
from harness import until
from test_consume import dead_letters, load, settled, stop, stop_itself, stream  # noqa: F401 (stream: a fixture)
from test_streammgr import LOAD, configure, publish, script, wait_app

pytestmark = pytest.mark.anyone

STREAM = "acme/events"
ODD = 'while read -r line; do n=${line##*:}; n=${n%\\}}; if [ $((n % 2)) = 1 ]; then echo ok; else echo "reject: $n is even"; fi; done'


def checker(home, text, name="check"):
    path = home.base / name
    path.write_text("#!/bin/sh\n" + text + "\n")
    path.chmod(0o755)
    return str(path)


def numbers(*n):
    return [b'{"station":"OSL","n":%d}' % i for i in n]


def stored(home):
    return sorted(d["n"] for d in home.db.data.find())


def test_what_it_refuses_is_a_dead_letter(stream):
    stream.peer.publish("acme/events", numbers(*range(600)))
    p = load(stream, "--checker", checker(stream, f"echo x >>{stream.base}/starts; {ODD}"))
    settled(stream, dead=300)
    stop(p)
    assert stored(stream) == list(range(1, 600, 2))
    assert dead_letters(stream)['{"station":"OSL","n":4}'] == "checker: 4 is even"
    assert len((stream.base / "starts").read_text().split()) < 60, "it was started for many messages at once"
    quality, = json.loads((stream.base / "result.json").read_text())["quality"]
    assert (quality["rows"], quality["rejects"], quality["rejects_by_rule"]) == (300, 300, [{"rule": "checker", "n": 300}])


def test_lines_are_escaped_and_reasons_are_made_fit_to_be_read(stream):
    bodies = [b'{"station":"OSL",\n"n":1}', b'{"station":"OSL","n":2}', b'{"station":"OSL","n":3}']
    stream.peer.publish("acme/events", bodies)
    p = load(stream, "--checker", checker(stream, """while read -r line; do case $line in *'"n":1}') printf 'ok\\r\\n';; *2*) printf 'reject \\033[2J%0900d\\n' 7;; *) echo reject;; esac; done"""))
    settled(stream, dead=2)
    stop(p)
    assert stored(stream) == [1]
    reasons = dead_letters(stream)
    assert reasons[bodies[2].decode()] == "the checker refuses it"
    assert reasons[bodies[1].decode()].startswith("checker: ?[2J0000") and len(reasons[bodies[1].decode()]) < 220


def test_a_checker_before_a_command(stream):
    stream.peer.publish("acme/events", numbers(*range(200)))
    p = load(stream, "--checker", checker(stream, ODD), "--output", "stdout", "--", "cat")
    settled(stream, dead=100)
    stop(p)
    assert stored(stream) == list(range(1, 200, 2))


BROKEN = {"dies": ("kill -9 $$", "ends by signal 9"), "fails": ("exit 3", "exits with 3"), "hangs": ("exec tail -f /dev/null", "within 1 s (checker_s)"),
          "lingers": ("tail -f /dev/null & while read -r line; do echo ok; done", "within 1 s (checker_s)"), "babbles": ("echo ok; echo ok; while read -r l; do echo ok; done", "lines for 1 message"),
          "is silent": (":", "prints 0 lines for 1 message"), "talks nonsense": ("while read -r l; do echo okay; done", '"okay", which is neither'),
          "floods": ("head -c 2000000 /dev/zero", "more than"), "prints half a word": ("printf rej", '"rej", which is neither')}


@pytest.mark.parametrize("how", BROKEN)
def test_one_that_a_message_breaks_costs_that_message_only(stream, how):
    does, says = BROKEN[how]
    stream.peer.publish("acme/events", numbers(*range(20)) + [b'{"station":"OSL","n":-1}'] + numbers(*range(20, 40)))
    text = f'all=$(cat); case $all in *-1*) printf "%s\\n" "$all" | {{ {does}; }}; exit $?;; esac; printf "%s\\n" "$all" | while read -r l; do echo ok; done'
    if how == "dies":
        text = text.replace("| {", "| (").replace("; };", ");").replace("kill -9 $$", 'cat >/dev/null') .replace("exit $?", "kill -9 $$")
    p = load(stream, "--checker", checker(stream, text), "--checker-s", "1")
    settled(stream, dead=1)
    stop(p)
    assert stored(stream) == list(range(40))
    letter, = stream.rows("dead", "list", STREAM)
    assert letter["message"] == '{"station":"OSL","n":-1}' and letter["deliveries"] == 3, letter
    assert letter["reason"].startswith(f"acme/consume: the checker {stream.base}/check ") and says in letter["reason"], letter["reason"]


@pytest.mark.parametrize("how", BROKEN)
def test_one_that_is_broken_acknowledges_and_loses_nothing(stream, how):
    stream.peer.publish("acme/events", numbers(*range(15)))
    p = load(stream, "--checker", checker(stream, BROKEN[how][0]), "--checker-s", "1")
    err = stop_itself(p, 1)
    assert f"acme/consume: the checker {stream.base}/check" in err and BROKEN[how][1] in err and "10 messages in a row" in err and "mend the checker" in err, err
    assert stored(stream) == [] and stream.queue()["acked"] == 0 and stream.queue()["dead"] == 0
    p = load(stream, "--checker", checker(stream, "while read -r l; do echo ok; done"))
    settled(stream, dead=0)
    stop(p)
    assert stored(stream) == list(range(15))


def test_one_that_is_not_there_or_asks_for_patience_is_charged_nothing(stream):
    stream.peer.publish("acme/events", numbers(*range(10)))
    for text, code, word in (("exit 75", 75, ""), (None, 1, "acme/consume: the checker: cannot start /no-such-program")):
        assert word in stop_itself(load(stream, "--checker", checker(stream, text) if text else "/no-such-program"), code)
        assert (stream.queue()["ready"], stream.queue()["dead"]) == (10, 0)
    p = load(stream, "--checker", checker(stream, "cat >/dev/null; exit 65"))  # of many it says nothing; alone it refuses
    settled(stream, dead=10)
    stop(p)
    assert set(dead_letters(stream).values()) == {"the checker refuses it"}


def test_killed_while_it_is_checked_nothing_is_acknowledged(stream):
    stream.peer.publish("acme/events", numbers(*range(5)))
    p = load(stream, "--checker", checker(stream, f"echo >{stream.base}/began; exec tail -f /dev/null"), "--checker-s", "3600")
    until((stream.base / "began").exists, stream.base, what="the checker")
    assert stream.queue()["acked"] == 0
    p.kill()
    p.communicate()
    p = load(stream, "--checker", checker(stream, "while read -r l; do echo ok; done"))
    settled(stream, dead=0)
    stop(p)
    assert stored(stream) == list(range(5))


# ---- as an agreement has it

@pytest.fixture
def platform(home):
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    return home


CHECKED = LOAD.replace('dataset = "data";', 'dataset = "data"; checker = "bin/check";')


def test_the_checker_of_a_stream_app(platform):
    (platform.path / "keys/acme").mkdir()
    (platform.path / "keys/acme/token").write_text("-secret")
    configure(platform, CHECKED + 'env = ( { name = "WORD"; value = "even"; } ); secrets = ( { name = "t"; file = "token"; } );')
    script(platform, "bin/check", "#!/bin/sh\n" + ODD.replace("is even", "is $WORD$(cat $SIMBDP_SECRETS_DIR/t)$(cat $SIMBDP_APP_DIR/beside)"))
    (platform.path / "apps/acme/bin/beside").write_text("!")
    platform.up()
    publish(platform, *numbers(*range(20)))
    until(lambda: len(platform.rows("dead", "list", STREAM)) == 10 and platform.queue("store")["acked"] == 10, platform.path / "state", what="the messages")
    assert sorted(d["n"] for d in platform.docs()) == list(range(1, 20, 2))
    assert {d["reason"] for d in platform.rows("dead", "list", STREAM)} == {f"checker: {n} is even-secret!" for n in range(0, 20, 2)}
    quality = until(lambda: (lambda r: r[0]["quality"] if r and r[0]["quality"] and r[0]["quality"]["messages"] == 20 else None)(platform.rows("stats", "--streams")), platform.path / "state", what="figures")
    assert quality["rejects_by_rule"] == {"checker": 10} and quality["rows"] == 10


def test_what_a_checker_refuses_counts_for_max_reject_pct(platform):
    configure(platform, CHECKED, stream="max_reject_pct = 10.0;")
    script(platform, "bin/check", "#!/bin/sh\nwhile read -r l; do echo reject; done\n")
    platform.up()
    publish(platform, *numbers(*range(30)))
    until(lambda: platform.queue("store")["state"] != "active", platform.path / "state", what=lambda: f"the cut-off: {platform.queue('store')}")
    assert [l["reason"] for l in platform.stream_journal() if l["event"] == "cut_off"] == ["max_reject_pct"]


def test_an_app_whose_checker_is_broken_waits_until_it_is_mended(platform):
    configure(platform, CHECKED + "checker_s = 1;")
    script(platform, "bin/check", "#!/bin/sh\nexec tail -f /dev/null\n")
    platform.up()
    publish(platform, *numbers(*range(15)))
    run = until(lambda: next((r for r in platform.rows("runs", "--state", "ended") if r["outcome"] == "failed"), None), platform.path / "state", what="an end")
    assert "acme/store: the checker" in run["error"] and "bin/check does not answer within 1 s (checker_s), and so on 10 messages in a row" in run["error"], run
    assert run["error"] in platform.cli("runs").stdout
    assert platform.count() == 0 and platform.queue("store")["acked"] == 0
    script(platform, "bin/check", "#!/bin/sh\nwhile read -r l; do echo ok; done\n")
    until(lambda: platform.count() == 15, platform.path / "state", what=lambda: f"the rows: {platform.queue('store')}")


def test_a_checker_that_is_missing_parks_the_app_until_it_is_there(platform):
    configure(platform, CHECKED)
    assert "bin/check does not exist yet" in platform.cli("check").stdout
    platform.up()
    publish(platform, *numbers(1, 2, 3))
    a = wait_app(platform, lambda a: a["state"] == "parked", what="parked")
    assert "bin/check" in a["reason"], a
    script(platform, "bin/check", "#!/bin/sh\nwhile read -r l; do echo ok; done\n")
    until(lambda: platform.count() == 3, platform.path / "state", what="the rows")
    assert platform.queue("store")["dead"] == 0


@pytest.mark.parametrize("keys, says", [
    ('app = "x"; exec = "x.sh"; checker = "c";', "key 'stream_apps.checker': only builtin:load"),
    ('app = "x"; exec = "builtin:pipe"; args = ("--", "cat"); checker = "c";', "key 'stream_apps.checker': only builtin:load"),
    ('app = "x"; exec = "builtin:load"; dataset = "data"; checker = "../c";', "key 'stream_apps.checker'"),
    ('app = "x"; exec = "builtin:load"; dataset = "data"; checker = "c"; checker_s = 0;', "checker_s"),
    ('app = "x"; exec = "builtin:load"; dataset = "data"; env = ( { name = "A"; value = "b"; } );', "no use for it")])
def test_what_cannot_be_configured(platform, keys, says):
    configure(platform, keys)
    r = platform.cli("check", check=False)
    assert r.returncode == 1 and says in r.stdout + r.stderr
