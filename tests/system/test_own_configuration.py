"""What tenants configure themselves (lib/conf/own.h): `mysimbdp tenant configure`, and PUT configuration over HTTP."""
import hashlib
import pathlib

import pytest

from harness import until
from web import Site, settings

pytestmark = pytest.mark.anyone

OWN = 'datasets = ( { name = "mine"; format = "csv"; collection = "mine"; } );\nbatch = ( { app = "mine"; exec = "builtin:load"; datasets = ("mine"); profile = "small"; } );\n'
ALLOW = 'allow = ("apps", "datasets", "streams"); max_own_instances = 3; max_streams = 2;'
CONSUMER = 'stream_apps = ( { app = "c%d"; stream = "own"; exec = "builtin:load"; dataset = "data"; max_instances = %d; } );'


@pytest.fixture
def home(home):
    home.tenant(tenant=ALLOW)
    home.tenant("beta")
    return home


def configure(home, text, *options, tenant="acme"):
    path = home.base / "own.conf"
    path.write_text(text)
    return home.cli("tenant", "configure", tenant, str(path), *options, check=False)


def test_a_dataset_and_an_app_of_its_own(home):
    home.up()
    assert configure(home, OWN).returncode == 0
    home.drop("a.csv", "v\n1\n", dataset="mine")
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    assert home.count(collection="mine") == 1
    assert home.rows("tenant", "show", "acme")[0]["datasets"] == ["data", "mine"]
    assert configure(home, "").returncode == 0, "an empty one takes all of it back"
    assert home.rows("tenant", "show", "acme")[0]["datasets"] == ["data"]


@pytest.mark.parametrize("text,words", [
    ("datasets = (", "line 1"),
    ('datasets = ( { name = "a"; format = "csv"; },\n { name = "../x"; format = "csv"; } );', "line 2: key 'datasets.name'"),
    ('datasets = ( { name = "data"; format = "csv"; } );', "stands twice"),
    ('batch = ( { app = "app"; exec = "x"; profile = "small"; } );', "stands twice"),
    ('concurrency = 100;', "unknown key 'concurrency'"),
    ('allow = ("apps");', "unknown key 'allow'"),
    ('mongo_url = "mongodb://else";', "unknown key 'mongo_url'"),
    ('limits = { max_file_bytes = 1; };', "unknown key 'limits'"),
    ('batch = ( { app = "a"; exec = "/bin/sh"; profile = "small"; } );', "key 'batch.exec'"),
    ('batch = ( { app = "a"; exec = "../beta/x"; profile = "small"; } );', "key 'batch.exec'"),
    ('batch = ( { app = "a"; exec = "x"; checker = "/bin/true"; profile = "small"; } );', "key 'batch.checker'"),
    ('batch = ( { app = "a"; exec = "x"; image = "/"; profile = "small"; } );', "key 'batch.image'"),
    ('batch = ( { app = "a"; exec = "x"; profile = "small"; secrets = ( { name = "s"; file = "/etc/shadow"; } ); } );', "key 'secrets.file'"),
    ('batch = ( { app = "a"; exec = "x"; profile = "small"; secrets = ( { name = "s"; file = "../beta/s"; } ); } );', "key 'secrets.file'"),
    ('batch = ( { app = "a"; exec = "x"; profile = "large"; } );', "no profile \"large\""),
    ('batch = ( { app = "a"; exec = "x"; profile = "small"; env = ( { name = "LD_PRELOAD"; value = "x"; } ); } );', "reserved"),
    ('streams = ( { name = "s"; max_message_bytes = 1000000; } );', "key 'streams.max_message_bytes'"),
    ('streams = ( { name = "s"; retention_s = -1; } );', "key 'streams.retention_s'"),
    ('streams = ( { name = "a"; }, { name = "b"; },\n{ name = "c"; } );', "line 2: key 'max_streams': there are 3 streams, and the agreement has 2"),
    ('streams = ( { name = "own"; } );\n' + CONSUMER % (1, 4), "max_own_instances = 3"),
    ('@include "/etc/shadow"', "@include"),
    ('# @include "/etc/shadow"', "@include"),
    ("datasets = (" + ", ".join(['{ name = "n"; format = "csv"; }'] * 250) + ");", "more than 200"),
    ("#" * 70000, "more than"),
], ids=lambda v: v[-40:] if isinstance(v, str) else None)
def test_what_is_refused(home, text, words):
    """And nothing changes."""
    assert configure(home, OWN).returncode == 0
    p = configure(home, text)
    assert p.returncode == 1 and words in p.stderr and str(home.path) not in p.stderr, p
    assert (home.path / "conf/own/acme.conf").read_text() == OWN
    assert [x.name for x in (home.path / "conf/own").iterdir()] == ["acme.conf"]
    assert home.cli("check").returncode == 0


def test_all_errors_are_told(home):
    p = configure(home, 'batch = ( { app = "a"; exec = "/x"; profile = "small"; },\n{ app = "b"; exec = "/y"; profile = "none"; } );')
    assert "line 1: key 'batch.exec'" in p.stderr and "line 2: key 'batch.exec'" in p.stderr and "line 2: key 'batch.profile'" in p.stderr, p.stderr


@pytest.mark.parametrize("allow,text,what", [
    ("", OWN, "(allow)"), ('allow = ("apps");', OWN, "have datasets of its own"), ('allow = ("datasets");', OWN, "have apps of its own"),
    ('allow = ("apps", "datasets");', 'streams = ( { name = "s"; } );', "have streams of its own"),
])
def test_only_what_is_allowed(home, allow, text, what):
    """`allow` of the tenant."""
    home.tenant(tenant=allow)
    p = configure(home, text)
    assert p.returncode == 1 and what in p.stderr, p
    assert configure(home, OWN, tenant="beta").returncode == 1, "nor another tenant"


def test_profiles_of_its_own_apps(home):
    """own_profiles; without it those of the provider's apps."""
    other = 'batch = ( { app = "a"; exec = "x"; profile = "other"; } );'
    path = home.path / "conf/profiles.conf"
    path.write_text(path.read_text().replace("profiles = (", 'profiles = ( { name = "other"; },', 1))
    assert "profile \"other\"" in configure(home, other).stderr
    home.tenant(tenant=ALLOW + 'own_profiles = ("other");')
    assert configure(home, other).returncode == 0
    assert "profile \"small\"" in configure(home, OWN).stderr


def test_a_stream_and_an_app_of_its_own(home):
    assert configure(home, 'streams = ( { name = "own"; retention_s = 60; } );\n' + CONSUMER % (1, 3)).returncode == 0
    home.up()
    assert home.rows("app", "list")[0]["app"] == "c1"


def test_what_does_not_fit_any_more_is_left_out(home):
    """The provider changed his file: he is told, and nothing of his is kept from working by what a tenant wrote."""
    home.up()
    assert configure(home, OWN).returncode == 0
    home.tenant(tenant=ALLOW, apps='{ app = "mine"; exec = "builtin:load"; }')
    assert "stands twice" in home.cli("check").stdout
    home.reload()
    home.drop("a.csv", "v\n1\n")
    assert home.wait_file(file_name="a.csv")["state"] == "ingested"
    assert home.rows("tenant", "show", "acme")[0]["datasets"] == ["data"]


def test_two_at_once(home):
    """if_match: who read an older one is told so."""
    tag = hashlib.sha256(OWN.encode()).hexdigest()
    assert configure(home, OWN, "--if-match=").returncode == 0
    assert configure(home, "", "--if-match=").returncode == 1
    assert configure(home, "", "--if-match", "0" * 64).returncode == 1
    assert configure(home, "", "--if-match", tag).returncode == 0


def test_purged_with_its_tenant(home):
    home.up()
    assert configure(home, OWN).returncode == 0
    home.cli("tenant", "remove", "acme", "--purge")
    assert not (home.path / "conf/own/acme.conf").exists()


# ---- over HTTP

@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(), ready=False)
    path = pathlib.Path(s.home.path / "conf/tenants/acme.conf")
    path.write_text(path.read_text() + 'allow = ("apps", "datasets");')
    s.up()
    yield s
    s.cleanup()


def put(site, text, role="tenant-deployer", tenant="acme", **headers):
    return site.ask("PUT", "/v1/tenants/acme/configuration", site.of(role, tenant), text, **headers)


def test_over_http(site):
    assert (a := site.get("configuration")).status == 200 and a.body == b"" and a.headers["ETag"] is None
    a = put(site, OWN, If_None_Match="*")
    assert a.status == 200 and a.doc["sha256"] == hashlib.sha256(OWN.encode()).hexdigest() and a.headers["ETag"] == f'"{a.doc["sha256"]}"', a
    got = site.get("configuration")
    assert got.body == OWN.encode() and got.headers["ETag"] == a.headers["ETag"]
    f = until(lambda: (u := site.put("own.csv", b"v\n1\n", dataset="mine")).status == 201 and u, what="the new dataset")
    assert site.wait(f.doc["file_id"])["state"] == "ingested"
    assert {a["app"] for a in site.get("apps").doc["apps"]} >= {"mine", "load"}
    assert put(site, "", If_Match='"' + "0" * 64 + '"').code == "precondition"
    assert put(site, OWN, If_None_Match="*").code == "precondition"
    assert put(site, "", If_Match="nonsense").code == "bad_request"
    bad = put(site, 'batch = ( { app = "x"; exec = "/bin/sh"; } );')
    assert (bad.status, bad.code) == (422, "configuration") and "line 1: key 'batch.exec'" in bad.doc["detail"], bad
    assert site.get("configuration").body == OWN.encode()
    assert put(site, b"\0").code == "configuration"
    assert put(site, "#" * 70000).code == "too_large"
    assert put(site, "", If_Match=got.headers["ETag"]).status == 200
    until(lambda: site.put("gone.csv", b"v\n1\n", dataset="mine").code == "no_dataset", what="the dataset gone")
    assert site.get("agreement").doc["own"] | {"x": 1} == {"allow": ["apps", "datasets"], "profiles": [], "max_instances": 4, "max_app_bytes": 268435456,
                                                          "max_app_files": 10000, "max_app_versions": 20, "max_app_build_s": 300, "error": None, "x": 1}


def test_who_may(site):
    assert put(site, "", "tenant-writer").code == "forbidden"
    assert put(site, "", "tenant-deployer", "beta").status == 404
    assert site.get("configuration", site.of("tenant-reader")).status == 200
    assert site.get("configuration", site.of("tenant-reader", "beta")).status == 404
    assert site.ask("PUT", "/v1/tenants/beta/configuration", site.of("tenant-deployer", "beta"), "").code == "not_allowed"
    site.wait_spool()
