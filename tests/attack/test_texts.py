"""What tenants write and people read: nothing of it is obeyed by a terminal, and nothing of this host comes along."""
import pytest

ESCAPES = "\x1b]52;c;cm0gLXJmIC8=\x07\x1b[2J\x9b31m\u009b31m\u0085\x00\r\x7f\x08"


def harmless(text):
    return all(c in "\n\t" or (c >= " " and not "\x7f" <= c <= "\x9f") for c in text)


def test_what_a_run_prints_does_not_reach_the_terminal_as_commands(make_home):
    home = make_home()
    home.tenant(exec_="talk", retry="attempts = 1;")
    talk = home.path / "apps/acme/talk"
    talk.write_text(f"#!/usr/bin/python3\nimport os, sys\nsys.stdout.buffer.write({ESCAPES.encode()!r} + b'caf\\xc3\\xa9 \\xe2\\x82\\xac \\xff\\x9b' + "
                    "b'\\xe2\\x82\\xac' * 70000 + b' end\\n')\n"
                    "open(os.environ['SIMBDP_RESULT_FILE'], 'w').write('{\"message\": \"\\\\u001b[2Jlook\\\\u009b\"}')\nsys.exit(65)\n")
    talk.chmod(0o755)
    home.up()
    home.drop("x\u009b.csv", "a\n1\n")
    f = home.wait_file()
    text = home.cli("logs", f["run_id"]).stdout
    assert harmless(text) and "\\x1b]52;c;" in text and "\\xc2\\x9b31m" in text and "café €" in text and "\\xff\\x9b" in text
    assert text.count("€") == 70001 and text.endswith(" end\n")
    for args in (["files"], ["files", f["file_id"]], ["runs"], ["rejects", f["file_id"]]):
        r = home.cli(*args, check=False)
        assert harmless(r.stdout + r.stderr), args


def test_logs_raw_is_what_was_printed(make_home):
    home = make_home()
    home.tenant(exec_="talk")
    talk = home.path / "apps/acme/talk"
    talk.write_text("#!/bin/sh\nprintf 'a\\033[1mb'\n")
    talk.chmod(0o755)
    home.up()
    home.drop("x.csv", "a\n1\n")
    f = home.wait_file()
    assert home.cli("logs", "--raw", f["run_id"]).stdout == "a\x1b[1mb" and home.cli("logs", f["run_id"]).stdout == "a\\x1b[1mb"


@pytest.mark.parametrize("text, why", [
    ('@include "/etc/passwd"\n', "cannot @include"),
    ('  \t@include "/etc/passwd"\n', "cannot @include"),
    ('datasets = ( { name = "d"; } );\nbatch = ( { app = "a"; exec = "x"; secrets = ( { name = "s"; file = "/etc/shadow"; } ); } );\n', "is a file of this host"),
    ('streams = ( { name = "s"; } );\nstream_apps = ( { app = "a"; stream = "s"; exec = "x"; secrets = ( { name = "s"; file = "/etc/shadow"; } ); } );\n',
     "is a file of this host"),
])
def test_a_tenants_own_configuration_brings_no_file_of_the_host(make_home, text, why):
    home = make_home()
    conf = home.base / "theirs.conf"
    conf.write_text(text)
    r = home.cli("tenant", "add", "new", "--from", conf, check=False)
    assert r.returncode != 0 and why in r.stderr and "root:" not in r.stderr, r.stderr
    assert not (home.path / "conf/tenants/new.conf").exists()
