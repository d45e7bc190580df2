"""A MongoDB that is not the home's own: it is known again, and one that was emptied, set back, or is another one gets no loads."""
import contextlib
import shutil

import pytest
from harness import Mongo, json_lines, until
from scripted import Scripted

pytestmark = pytest.mark.anyone

EVENTS = {"database_emptied", "database_another", "database_older", "database_unmarked", "database_again"}


@pytest.fixture
def outside(make_home, tmp_path):
    """A home whose MongoDB is another's: its server, and the home."""
    server = Mongo(tmp_path / "mongo")
    home = make_home(mongo=server)
    home.tenant()
    try:
        yield server, home
    finally:
        home.cleanup()
        server.stop()


def told(home):
    return [(e["event"], e["tenant"]) for e in json_lines(home.path / "logs/batchmgr.log") if e["event"] in EVENTS]


def waits_for(home, tenant="acme"):
    (t,) = [t for t in home.control({"op": "status"})["tenants"] if t["tenant_id"] == tenant]
    return t["waits_for"] or ""


def data_of(server):
    return server.dir / "data"


@contextlib.contextmanager
def stopped(server):
    server.client.close()
    server.kill()
    yield
    server.start()


def empty(server, kept):
    shutil.rmtree(data_of(server))


def set_back(server, kept):
    shutil.rmtree(data_of(server))
    shutil.copytree(kept, data_of(server))


def another_homes(server, kept):
    """The same, and another home's mark is there."""
    shutil.rmtree(data_of(server))
    server.start()
    for name in server.others:
        server.client[name].simbdp_home.insert_one({"_id": "0" * 26, "n": 7})
    server.client.close()
    server.kill()


DAMAGE = [(empty, "database_emptied", "lost what it had"), (set_back, "database_older", "is older than"), (another_homes, "database_another", "is another one than")]


@pytest.mark.parametrize("damage, event, text", DAMAGE)
def test_a_mongodb_that_is_not_the_one_of_a_tenant_gets_no_loads(outside, damage, event, text):
    server, home = outside
    server.others = [home.db_of["acme"]]
    home.up()
    home.drop("a.csv", "v\n1\n")
    a = home.wait_file(file_name="a.csv")
    home.down()
    with stopped(server):
        older = shutil.copytree(data_of(server), home.base / "older")
    home.up()  # counts
    home.drop("b.csv", "v\n2\n")
    home.wait_file(file_name="b.csv")
    (mark,) = home.docs(collection="simbdp_home")
    assert told(home) == [] and mark["n"] >= 2
    with stopped(server):
        kept = shutil.copytree(data_of(server), home.base / "kept")
        damage(server, older)
    until(lambda: text in waits_for(home), home.path / "logs", what=lambda: f"the reason: {waits_for(home)!r}")
    assert "verify --accept" in waits_for(home) and f"127.0.0.1:{server.port}/{home.db_of['acme']}" in waits_for(home) and server.SECRET not in waits_for(home)
    home.drop("c.csv", "v\n3\n")
    (c,) = home.wait_files(1, lambda f: f["file_name"] == "c.csv" and f["state"] == "queued")[-1:]
    assert text in home.cli("status").stdout
    r = home.cli("doctor", check=False)
    assert r.returncode == 1 and text in r.stdout
    r = home.cli("verify", check=False)
    assert r.returncode == 1 and "database changed" in r.stdout and text in r.stdout and ("2 things" if damage is set_back else "3 things") in r.stdout
    assert told(home) == [(event, "acme")]
    home.down()
    home.up()  # not forgotten
    until(lambda: told(home) == [(event, "acme")] * 2, home.path / "logs", what="the words again")
    assert text in waits_for(home)
    with stopped(server):  # put back: it goes on by itself, and nothing was charged
        set_back(server, kept)
    c = home.wait_file(file_name="c.csv")
    assert c["state"] == "ingested" and c["attempts"] == 1 and sorted(d["v"] for d in home.docs()) == [1, 2, 3]
    assert told(home) == [(event, "acme")] * 2 + [("database_again", "acme")]
    with stopped(server):
        damage(server, older)
    until(lambda: text in waits_for(home), home.path / "logs", what="the reason once more")
    home.drop("d.csv", "v\n4\n")
    home.cli("tenant", "suspend", "acme")
    home.cli("tenant", "resume", "acme")
    (d,) = home.wait_files(1, lambda f: f["file_name"] == "d.csv" and f["state"] == "queued")[-1:]
    if damage is empty:  # either way
        home.down()
        assert "the databases of tenants" in home.cli("verify", "--accept", check=False).stdout
        home.up()
    else:
        home.cli("verify", "--accept", "--tenant", "acme")
    assert home.wait_file(file_name="d.csv")["state"] == "ingested"
    assert a["file_id"] in home.cli("verify", check=False).stdout or damage is set_back
    assert told(home)[3:] == [(event, "acme")] and len(home.docs(collection="simbdp_home")) == (2 if damage is not empty else 1)
    r = home.cli("verify", "--accept", "--tenant", "acme", check=False)
    assert r.returncode == 1 and "nothing is wrong" in r.stderr
    assert home.cli("verify", "--tenant", "acme", check=False).returncode == 2


def test_an_emptied_one_is_noticed_before_anything_is_loaded_and_streams_wait(outside):
    server, home = outside
    home.streams("s", name="beta")
    conf = home.path / "conf/tenants/beta.conf"
    conf.write_text(conf.read_text().replace('stream = "s";', 'stream = "s"; exec = "/bin/cat";').replace("streams = (", f'mongo_url = "{server.url}"; streams = (', 1))
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    until(lambda: "beta" in (home.path / "state/mongo.marks").read_text(), home.path / "state", what="the mark of beta")
    home.down()
    with stopped(server):
        empty(server, None)
    home.up()
    home.drop("b.csv", "v\n2\n")
    until(lambda: len(told(home)) == 2, home.path / "logs", what="the words")
    assert sorted(told(home)) == [("database_emptied", "acme"), ("database_emptied", "beta")] and home.count() == 0
    until(lambda: "lost what it had" in (home.rows("app", "list")[0]["reason"] or ""), home.path / "logs", what="why there is no instance")


def test_a_password_that_changes_makes_no_other_and_another_place_is_another(outside, tmp_path):
    server, home = outside
    conf = home.path / "conf/tenants/acme.conf"
    text = conf.read_text()
    conf.write_text(f'mongo_url = "{server.url}"; ' + text)
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    conf.write_text(f'mongo_url = "{server.url}&appName=other"; ' + text)
    home.reload()
    home.drop("b.csv", "v\n2\n")
    home.wait_file(file_name="b.csv")
    assert len(home.docs(collection="simbdp_home")) == 1
    other = Mongo(tmp_path / "other")
    try:
        conf.write_text(f'mongo_url = "{other.url}"; ' + text)
        home.reload()
        home.drop("c.csv", "v\n3\n")
        home.wait_file(file_name="c.csv")
        assert [d["v"] for d in other.client[home.db_of["acme"]].data.find()] == [3] and told(home) == []
        conf.write_text(f'mongo_url = "{server.url}"; ' + text)
        home.reload()
        home.drop("d.csv", "v\n4\n")
        home.wait_file(file_name="d.csv")
        assert home.count() == 3 and told(home) == []
        home.cli("tenant", "remove", "acme", "--purge")
        assert "acme" not in (home.path / "state/mongo.marks").read_text()
    finally:
        home.cleanup()
        other.stop()


@pytest.mark.parametrize("text", [None, "", "{", '{"marks":[{"tenant":1},3,{"id":"x"}]}'])
def test_marks_that_went_are_made_again(outside, text):
    _, home = outside
    home.up()
    home.drop("a.csv", "v\n1\n")
    home.wait_file(file_name="a.csv")
    home.down()
    marks = home.path / "state/mongo.marks"
    marks.unlink()
    if text is not None:
        marks.write_text(text)
    home.up()
    home.drop("b.csv", "v\n2\n")
    assert home.wait_file(file_name="b.csv")["state"] == "ingested"
    assert "acme" in marks.read_text() and ("state/mongo.marks is damaged" in (home.path / "logs/batchmgr.log").read_text()) == (text in ("", "{"))


def test_who_may_not_write_a_mark_goes_on_without_and_is_told_once(make_home):
    home = make_home()
    home.tenant()

    server = Scripted()
    server.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
    server.replies["findAndModify"] = {"ok": 0.0, "code": 13, "codeName": "Unauthorized", "errmsg": "not authorized to execute findAndModify"}
    home.env["MONGO_URL"] = server.url
    try:
        home.up()
        for name in ("a.csv", "b.csv"):
            home.drop(name, f"v\n{name}\n")
            assert home.wait_file(file_name=name)["state"] == "ingested"
        assert told(home) == [("database_unmarked", "acme")] and len(server.documents) == 2
        assert "not authorized" in (home.path / "logs/batchmgr.log").read_text() and waits_for(home) == ""
    finally:
        home.cleanup()
        server.stop()


def test_a_tenants_own_user_is_asked_and_one_that_is_refused_holds_nothing_up(make_home):
    """The server makes users and then takes none of them: what is wrong is for the loader to say."""
    home = make_home()
    home.tenant()
    server = Scripted()
    home.env["MONGO_URL"] = server.url
    try:
        home.up()
        home.drop("a.csv", "v\n1\n")
        (f,) = home.wait_files(1, lambda f: f["attempts"] or f["state"] == "waiting")
        assert "simbdp_acme:" in (home.path / "state/databases.json").read_text() and told(home) == [("database_unmarked", "acme")] and server.documents == {}
    finally:
        home.cleanup()
        server.stop()


def test_what_cannot_be_looked_at_is_waited_for_with_the_reason(make_home):
    home = make_home()
    home.tenant()
    server = Scripted()
    server.replies["createUser"] = {"ok": 0.0, "code": 13, "errmsg": "not authorized"}
    server.replies["findAndModify"] = {"ok": 0.0, "code": 11600, "errmsg": "interrupted at shutdown"}
    home.env["MONGO_URL"] = server.url
    try:
        home.up()
        home.drop("a.csv", "v\n1\n")
        until(lambda: "is being looked at: interrupted at shutdown" in waits_for(home), home.path / "logs", what=lambda: f"the reason: {waits_for(home)!r}")
        assert [f["state"] for f in home.files()] in (["queued"], ["received"], []) and server.documents == {}
        server.replies["findAndModify"] = {"ok": 1.0}
        assert home.wait_file(file_name="a.csv")["state"] == "ingested" and told(home) == []
    finally:
        home.cleanup()
        server.stop()
