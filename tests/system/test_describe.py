"""describe: what is known of one thing, and why it is not further."""
import subprocess

from harness import BUILD

APPS = ('{ app = "later"; exec = "builtin:load"; pattern = "later*"; trigger = "cron: 0 0 1 1 *"; }, '
        '{ app = "app"; exec = "misbehave"; }')


def told(home, what):
    """The object, and the reasons as one text; what people read says the same."""
    row, = home.rows("describe", what)
    text = home.cli("describe", what).stdout
    for reason in row["why"]:
        assert reason in text.replace("\n" + " " * 21, " "), text
    return row, "; ".join(row["why"])


def test_each_kind_of_thing_and_why_it_is_not_further(home):
    home.tenant(apps=APPS, tenant='display_name = "Acme Sensors";', concurrency=1)
    home.tenant("other")
    home.up()
    gate = home.base / "gate"
    home.do(f"gate,{gate}", name="first.csv")
    run = home.wait_running()[0]
    home.do("print,x", name="second.csv")
    home.drop("later.csv", "a\n1\n")
    home.wait_files(3, lambda f: f["state"] in ("queued", "running"))
    first, why = told(home, "first.csv")
    assert (first["what"], first["state"], first["run_id"], first["app"]) == ("file", "running", run["run_id"], "app")
    assert [e["event"] for e in first["story"]][-1] == "started" and run["run_id"] in why
    assert told(home, first["file_id"])[0]["file_id"] == first["file_id"]
    second, why = told(home, "second.csv")
    assert second["state"] == "queued" and "scheduler" in why and "concurrency" in why
    later, why = told(home, "later.csv")
    assert "trigger of app later" in why and "-01-01T00:00:00" in why and "scheduler" not in why
    one, why = told(home, run["run_id"])
    assert (one["what"], one["file_name"], one["file_state"], one["state"]) == ("run", "first.csv", "running", "running")
    assert "may take 60 s (wall_s)" in why
    app, why = told(home, "acme/app")
    assert (app["what"], app["exec"], app["files"]) == ("app", "misbehave", {"queued": 1, "running": 1})
    assert app["last_runs"][0]["run_id"] == run["run_id"] and app["limits"]["wall_s"] == 60 and "concurrency" in why
    app, why = told(home, "acme/later")
    assert app["next_at"] and "mysimbdp run acme/later" in why
    tenant, why = told(home, "acme")
    assert (tenant["what"], tenant["display_name"], tenant["running"], tenant["concurrency"]) == ("tenant", "Acme Sensors", 1, 1)
    assert [a["app"] for a in tenant["apps"]] == ["later", "app"] and "concurrency" in why
    home.cli("tenant", "suspend", "acme")
    assert "tenant acme is suspended" in told(home, "second.csv")[1]
    home.cli("tenant", "resume", "acme")
    gate.touch()
    home.wait_file(file_name="second.csv")
    ended = told(home, run["run_id"])
    assert ended[0]["outcome"] == "ok" and ended[1] == ""
    assert "nothing is known that holds it up" in home.cli("describe", run["run_id"]).stdout
    assert told(home, "other")[1] == ""
    for nothing in ("nothing.csv", "acme/none", "nobody/app", "01"):
        r = home.cli("describe", nothing, check=False)
        assert r.returncode == 1 and f"nothing is called {nothing}" in r.stderr, r
    home.down()
    assert "the platform does not run" in told(home, "later.csv")[1]


def test_a_stream_app_and_what_was_refused(home):
    home.tenant(limits="max_rows = 1;")
    conf = home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + 'streams = ( { name = "s"; } ); stream_apps = ( { app = "a"; stream = "s"; exec = "nothing-there"; } );\n')
    home.up()
    subprocess.run([BUILD / "mysimbdp", "publish", "acme/s"], input="{}\n", text=True, env=home.env, check=True, capture_output=True)
    home.drop("x.csv", "a\n1\n2\n")
    home.wait_file(file_name="x.csv")
    refused, why = told(home, "x.csv")
    assert refused["state"] == "rejected" and "max_rows" in why and "mysimbdp retry" in why
    app, why = told(home, "acme/a")
    assert app["queue"]["stream"] == "s" and app["instances"]["max_instances"] == 1
    home.down()
    assert "streammgr does not answer" in told(home, "acme/a")[1]
