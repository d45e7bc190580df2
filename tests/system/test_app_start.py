"""Instances that a person starts and stops, with arguments of their own."""
import json
import os
import signal
import subprocess

import pytest

from harness import Mongo, runner_of, until
from test_streammgr import LOAD, app, configure, platform, publish, said, script, streammgr_answers, wait_app

ECHO = "#!/bin/sh\necho \"$*\"\ncase $1 in end) exit $2;; esac\nexec tail -f /dev/null\n"


def started(home, *args):
    """The run id that `app start` answers with. Soon after a start, MongoDB may not have been looked at yet: then it waits for that."""
    r = home.cli("app", "start", "acme/store", *args, check=False)
    assert r.returncode == 0, r
    run, = r.stdout.split()
    assert len(run) == 26 and not r.stderr, r
    return run


def says(home, run, text):
    until(lambda: home.cli("logs", run, check=False).stdout == text, home.path / "runs", what=lambda: f"{text!r}: {home.cli('logs', run).stdout!r}")


def wait_database(home, state="up"):
    until(lambda: home.control({"op": "status"})["database"] == state, home.path / "logs", every=0.02, what=f"MongoDB {state}")


def test_a_start_answers_with_an_instance(platform):
    configure(platform, 'app = "store"; exec = "echo.sh"; args = ("of", "conf"); max_instances = 4;')
    script(platform, "echo.sh", ECHO)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    plain = started(platform)
    says(platform, plain, "of conf\n")
    assert started(platform) == plain, "there is one already"
    platform.cli("tenant", "suspend", "acme")
    wait_app(platform, lambda a: not a["run_ids"])
    r = platform.cli("app", "start", "acme/store")
    assert r.stdout == "" and "no instance yet: the tenant is suspended" in r.stderr
    r = platform.cli("app", "start", "acme/store", "--", "x", check=False)
    assert r.returncode == 1 and "cannot be started now: the tenant is suspended" in r.stderr


def test_instances_with_arguments_of_their_own(platform):
    configure(platform, 'app = "store"; exec = "echo.sh"; args = ("of", "conf"); max_instances = 4;')
    script(platform, "echo.sh", ECHO)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    plain = started(platform)
    fast, slow = started(platform, "--", "--fast", "two words"), started(platform, "--slow")
    for run, text in ((plain, "of conf\n"), (fast, "--fast two words\n"), (slow, "--slow\n")):
        says(platform, run, text)
    a = app(platform)
    assert (a["instances"], a["desired"], a["by_hand"]) == (1, 1, 2) and sorted(a["run_ids"]) == sorted([plain, fast, slow]), a
    assert {k["id"]: (k["run_id"], k["args"]) for k in a["asks"]} == {fast: (fast, ["--fast", "two words"]), slow: (slow, ["--slow"])}
    # they are within the agreement, and the count is what is left of it
    r = platform.cli("app", "scale", "acme/store", "3", check=False)
    assert r.returncode == 1 and "max_instances of acme/store is 4, and 2 of them are there by hand" in r.stderr
    platform.cli("app", "scale", "acme/store", "2")
    wait_app(platform, lambda a: a["running"] == 2)
    r = platform.cli("app", "start", "acme/store", "--", "x", check=False)
    assert r.returncode == 1 and "2 instances that are scaled and 2 by hand" in r.stderr
    platform.cli("app", "scale", "acme/store", "1")
    # nobody who is scaled down is one of them, and what is rolled out neither replaces nor counts them
    plain, = set(wait_app(platform, lambda a: a["instances"] == 1 and not a["draining"])["run_ids"]) - {fast, slow}
    script(platform, "echo.sh", ECHO + "\n# another\n")
    wait_app(platform, lambda a: plain not in a["run_ids"] and a["instances"] == 1 and {fast, slow} < set(a["run_ids"]))
    # one that ends by itself has ended
    ended = started(platform, "--", "end", "3")
    wait_app(platform, lambda a: ended not in a["run_ids"])
    row, = platform.rows("runs", ended)
    assert (row["outcome"], row["exit_code"]) == ("failed", 3)
    assert (app(platform)["by_hand"], app(platform)["restarts"]) == (2, 0)
    # and so has one that is stopped; streammgr's own end is none
    os.kill(platform.pids("streammgr")[0], signal.SIGKILL)
    until(lambda: streammgr_answers(platform), platform.path / "state", what="streammgr")
    assert {fast, slow} < set(app(platform)["run_ids"])
    assert "no other comes" in platform.cli("stop", fast).stdout
    a = wait_app(platform, lambda a: fast not in a["run_ids"])
    assert (a["by_hand"], a["instances"]) == (1, 1)
    # `down` is no end, either: another has its arguments, and is known by the id that was given
    platform.down()
    platform.up()
    again = wait_app(platform, lambda a: a["asks"] and a["asks"][0]["run_id"] and a["instances"] == 1)["asks"][0]
    assert again["id"] == slow != again["run_id"] and again["args"] == ["--slow"]
    says(platform, again["run_id"], "--slow\n")
    platform.cli("stop", slow)
    wait_app(platform, lambda a: again["run_id"] not in a["run_ids"] and a["by_hand"] == 0)
    wait_database(platform)
    last = started(platform, "--", "last")
    platform.cli("app", "stop", "acme/store")
    a = wait_app(platform, lambda a: not a["run_ids"])
    assert (a["state"], a["by_hand"]) == ("stopped", 0)
    assert platform.rows("runs", last)[0]["outcome"] == "ok"
    alone = started(platform, "--", "alone")  # which does not start the app
    says(platform, alone, "alone\n")
    assert (app(platform)["state"], app(platform)["run_ids"]) == ("stopped", [alone])


def test_a_start_waits_for_the_first_look(platform):
    """Right after `up`: nobody has said of MongoDB yet whether it may be used."""
    configure(platform, 'app = "store"; exec = "echo.sh"; max_instances = 4;')
    script(platform, "echo.sh", ECHO)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    wait_database(platform)
    batchmgr = platform.batchmgr_pid()
    told = platform.path / "state/databases.json"
    known = json.loads(told.read_text())
    assert known["acme"]["up"] and not known["acme"]["looking"], known
    os.kill(batchmgr, signal.SIGSTOP)
    try:
        fresh = told.with_name("databases.new")
        fresh.write_text(json.dumps({"acme": {**known["acme"], "up": False, "looking": True}}))
        os.chown(fresh, told.stat().st_uid, told.stat().st_gid)
        fresh.rename(told)
        asking = [subprocess.Popen([platform.program("mysimbdp"), "app", "start", "acme/store", *more], env=platform.env, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE, text=True) for more in ([], ["--", "a"])]
        with pytest.raises(subprocess.TimeoutExpired):
            asking[1].wait(1)
        fresh.write_text(json.dumps(known))
        os.chown(fresh, told.stat().st_uid, told.stat().st_gid)
        fresh.rename(told)
        for p in asking:
            out, err = p.communicate(timeout=30)
            assert p.returncode == 0 and len(out.strip()) == 26 and not err, (out, err)
    finally:
        os.kill(batchmgr, signal.SIGCONT)


def test_a_database_that_is_back_is_known_at_once(make_home, tmp_path):
    mongo = Mongo(tmp_path / "mongo")
    home = make_home(mongo=mongo)
    home.profiles(cpus=0.01, rlimits="nofile = 256;")
    configure(home, 'app = "store"; exec = "echo.sh"; max_instances = 8;')
    script(home, "echo.sh", ECHO)
    home.up()
    try:
        for n in range(3):
            wait_app(home, lambda a: a["state"] == "idle")
            mongo.kill()
            wait_app(home, lambda a: a["reason"] == "the database is down")
            r = home.cli("app", "start", "acme/store", "--", "x", check=False)
            assert r.returncode == 1 and "cannot be started now: the database is down" in r.stderr
            mongo.start()
            wait_database(home)
            started(home, "--", str(n))
    finally:
        home.cleanup()
        mongo.stop()


def test_a_killed_runner_is_no_end_of_what_was_asked_for(platform):
    configure(platform, 'app = "store"; exec = "echo.sh"; max_instances = 2;')
    script(platform, "echo.sh", ECHO)
    platform.up()
    wait_app(platform, lambda a: a["state"] == "idle")
    run = started(platform, "--", "mine")
    says(platform, run, "mine\n")
    os.kill(runner_of(platform.marked(run)[-1]), signal.SIGKILL)
    again = wait_app(platform, lambda a: a["asks"] and a["asks"][0]["run_id"] not in (None, run))["asks"][0]
    says(platform, again["run_id"], "mine\n")
    assert platform.rows("runs", run)[0]["outcome"] == "lost"
    os.kill(platform.marked(again["run_id"])[-1], signal.SIGKILL)
    wait_app(platform, lambda a: a["by_hand"] == 0 and not a["run_ids"])


def test_stop_of_one_instance_holds(platform):
    configure(platform, 'app = "store"; exec = "echo.sh"; min_instances = 2; max_instances = 4;', 'app = "load"; exec = "builtin:load"; dataset = "data";')
    script(platform, "echo.sh", ECHO)
    platform.up()
    platform.cli("app", "scale", "acme/store", "3")
    ids = wait_app(platform, lambda a: a["running"] == 3)["run_ids"]
    for left in (2, 1):  # also below min_instances: it is a person who says so
        said = platform.cli("stop", ids[left]).stdout
        assert f"acme/store has {left} instances from now on, was {left + 1}" in said, said
        a = wait_app(platform, lambda a: a["instances"] == left and not a["draining"])
        assert (a["run_ids"], a["desired"], a["pinned"]) == (ids[:left], left, True)
    os.kill(platform.pids("streammgr")[0], signal.SIGKILL)
    until(lambda: streammgr_answers(platform), platform.path / "state", what="streammgr")
    assert app(platform)["desired"] == 1, "it is in the book"
    assert "it is stopped until `mysimbdp app start acme/store`" in platform.cli("stop", ids[0]).stdout
    a = wait_app(platform, lambda a: not a["run_ids"])
    assert (a["state"], a["desired"]) == ("stopped", 0)
    started(platform)
    wait_app(platform, lambda a: a["running"] == 2)
    platform.cli("stop", app(platform)["run_ids"][0])
    platform.cli("app", "scale", "acme/store", "auto")
    wait_app(platform, lambda a: a["running"] == 2)
    # a message that waits wakes no other, either
    publish(platform, b'{"n":1}')
    until(lambda: platform.count() == 1, platform.path / "state", what="the row")
    platform.cli("stop", app(platform, "load")["run_ids"][0])
    wait_app(platform, lambda a: not a["run_ids"], "load")  # before that, the message may still be its
    publish(platform, b'{"n":2}')
    assert platform.queue("load")["ready"] == 1 and app(platform, "load")["state"] == "stopped"
    platform.cli("app", "start", "acme/load")
    until(lambda: platform.count() == 2, platform.path / "state", what="the other row")


def test_delivery_is_the_apps_to_choose(platform):
    configure(platform, LOAD, 'app = "fresh"; exec = "builtin:load"; dataset = "data"; delivery = "at_least_once";',
              'app = "env"; exec = "env.sh"; delivery = "at_most_once"; min_instances = 1;')
    script(platform, "env.sh", "#!/bin/sh\necho $SIMBDP_DELIVERY\nexec tail -f /dev/null\n")
    platform.up()
    publish(platform, b'{"n":1}')
    until(lambda: platform.count() == 2, platform.path / "state", what="a row of each")
    assert {type(d["_id"]).__name__ for d in platform.docs()} == {"bytes", "ObjectId"}
    says(platform, wait_app(platform, lambda a: a["running"] == 1, "env")["run_ids"][0], "at_most_once\n")
    configure(platform, LOAD + 'delivery = "twice";')
    r = platform.cli("check", check=False)
    assert r.returncode == 1 and "exactly_once" in r.stderr + r.stdout
