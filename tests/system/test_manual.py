"""The manual pages and the shells' completion: all of it is there, formats without a warning, and a shell offers what the verbs take."""
import json
import os
import pty
import re
import select
import shutil
import sqlite3
import subprocess
import time

import pytest

from harness import BUILD, ROOT

pytestmark = pytest.mark.anyone


def say(*args, env=None):
    env = env or {k: v for k, v in os.environ.items() if not k.startswith("MYSIMBDP_")}
    return subprocess.run([BUILD / args[0], *map(str, args[1:])], capture_output=True, text=True, check=True, env=env, timeout=60).stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """What `meson install` makes of it."""
    root = tmp_path_factory.mktemp("installed")
    env = {**os.environ, "MESON_INSTALL_DESTDIR_PREFIX": str(root), "SOURCE_DATE_EPOCH": "1700000000"}
    subprocess.run(["/usr/bin/python3", ROOT / "docs/man/make.py", "--install", "--programs", BUILD, "--version", "1.2.3", "--man", "man", "--bash", "bash", "--zsh", "zsh", "--fish", "fish"],
                   env=env, check=True, capture_output=True, timeout=300)
    return root


@pytest.fixture(scope="module")
def shown(installed):
    """name → what a person sees of a page, on one line."""
    pages = {}
    for page in sorted((installed / "man").glob("man*/*")):
        r = subprocess.run(["man", "--warnings=w", "-l", page], capture_output=True, text=True, timeout=60, env={**os.environ, "MANWIDTH": "1000", "LC_ALL": "C.UTF-8", "MANROFFOPT": "-c", "GROFF_NO_SGR": "1"})
        assert r.returncode == 0 and not r.stderr, f"{page}: {r.stderr}"
        pages[page.name] = " ".join(re.sub(r".\x08", "", r.stdout).replace("‐\n", "").split())
    return pages


def verbs_of(program):
    return re.findall(r"^  (\S+) +(.*)$", say(program, "help").split("\n\n", 2)[1], re.M)


def usage_of(program, verb):
    """The arguments of a verb, and the rest of its help."""
    usage, text = say(program, verb, "--help").split("[--home HOME]\n" if program == "mysimbdp" else "[--url URL | --profile NAME]\n", 1)
    return " ".join(usage.split(" ", 3)[3].split()), text


def test_every_verb_has_a_page_with_all_its_text(shown):
    for verb, _ in verbs_of("mysimbdp"):
        page = shown[f"mysimbdp-{verb}.1"]
        args, text = usage_of("mysimbdp", verb)
        for part in args.split(" | "):
            assert part in page, (verb, part)
        for line in text.replace("`", "").splitlines()[1:]:
            assert " ".join(line.split()) in page, (verb, line)
        assert f"mysimbdp-{verb}(1)" in shown["mysimbdp.1"]
    for verb, what in verbs_of("simbdp-remote"):
        assert what[1:] in shown["simbdp-remote.1"] and all(part in shown["simbdp-remote.1"] for part in usage_of("simbdp-remote", verb)[0].split(" | ")), verb


def test_every_key_has_its_text(shown):
    pages = {"conf/mysimbdp.conf": "mysimbdp.conf.5", "conf/profiles.conf": "profiles.conf.5", "conf/tenants/<tenant>.conf": "tenant.conf.5"}
    keys = [json.loads(line) for line in say("mysimbdp", "explain", "--json").splitlines()]
    for k in keys:
        page = shown[pages[k["file"]]]
        assert f"{k['key']} {k['help']}".replace("`", "") in " ".join(page.split()), k["key"]
        if k["type"] not in ("group", "list"):
            assert f"Example: {k['example']}" in page, k["key"]
            assert k["default"] is None or k["default"] in page, k["key"]
    assert len(keys) > 150


def test_every_program_has_a_page(shown):
    programs = {p.stem for p in BUILD.glob("*.p") if (BUILD / p.stem).is_file()}
    assert {"mysimbdp", "batchmgr", "simbdp-run"} <= programs
    assert not {p for p in programs if not any(f"{p}.{section}" in shown for section in (1, 8))}
    for name, page in shown.items():
        assert "NAME" in page and "SYNOPSIS" in page and "DESCRIPTION" in page and "1.2.3 2023-11-14" in page, name


def test_pages_refer_to_pages(shown):
    ours = {f"{name[:-2]}({name[-1]})" for name in shown}
    for name, page in shown.items():
        see = page.rpartition("SEE ALSO")[2]
        assert {r for r in re.findall(r"[\w.-]+\([158]\)", see)} <= ours | {f"{name[:-2].upper()}({name[-1]})"}, name


def test_mandoc_finds_nothing(installed):
    if not shutil.which("mandoc"):
        return  # man (above) is always there
    for page in sorted((installed / "man").glob("man*/*")):
        r = subprocess.run(["mandoc", "-T", "lint", "-W", "warning", page], capture_output=True, text=True)
        assert r.returncode == 0, r.stdout


def test_the_scripts_are_sound(installed):
    assert (installed / "bash/mysimbdp").read_text() == say("mysimbdp", "completion", "bash")
    assert (installed / "zsh/_mysimbdp").read_text().startswith("#compdef mysimbdp\n")
    subprocess.run(["bash", "-n", installed / "bash/mysimbdp"], check=True)
    r = subprocess.run(["shellcheck", installed / "bash/mysimbdp"], capture_output=True, text=True)
    assert r.returncode == 0, r.stdout
    for shell, script in (("zsh", "zsh/_mysimbdp"), ("fish", "fish/mysimbdp.fish")):
        if shutil.which(shell):
            subprocess.run([shell, "-n", installed / script], check=True)
    r = subprocess.run([BUILD / "mysimbdp", "completion", "ksh"], capture_output=True, text=True)
    assert r.returncode == 2 and "ksh" in r.stderr


# ---- what is offered ----

def offered(home, *words, env=None):
    """word → what it is."""
    out = subprocess.run([BUILD / "mysimbdp", "completion", "words", "--", *map(str, words)], env=env or home.env, capture_output=True, text=True, check=True, timeout=60).stdout
    return dict(line.split("\t") if "\t" in line else (line, None) for line in out.splitlines())


def alternatives(args):
    """The ways to call a verb."""
    found, depth = [[]], 0
    for token in args.split():
        if token == "|" and not depth:
            found.append([])
            continue
        depth += token.count("[") - token.count("]")
        found[-1].append(token)
    return found


@pytest.mark.parametrize("program", ["mysimbdp", "simbdp-remote"])
def test_each_option_and_word_of_each_usage_is_offered(program, home):
    env = {**home.env, "MYSIMBDP_URL": "http://localhost"} if program == "simbdp-remote" else home.env
    verbs = verbs_of(program)
    first_words = offered(home, "", env=env)
    assert {v: first_words[v] for v, _ in verbs} == dict(verbs) and (program == "simbdp-remote" or len(first_words) == len(verbs))
    n, given = 0, ["--url", "http://localhost"] if program == "simbdp-remote" else []  # a verb of both programs is the home's unless that is said
    for verb, _ in verbs:
        args, _ = usage_of(program, verb)
        for form in alternatives(args):
            words = [w for w in form if not w.startswith(("[-", "-")) and re.fullmatch(r"[a-z|]+", w)]
            typed = words[:1] if form and form[0] == (words or [""])[0] else []
            for first in (typed[0].split("|") if typed else [None]):
                if first:
                    assert first in offered(home, *given, verb, ""), (verb, first)
                said = offered(home, *given, verb, *([first] if first else []), "-")
                options = {o for o in re.findall(r"(?<![\w-])--?[a-z][a-z-]*", " ".join(form))} - set(given)
                assert options <= said.keys(), (verb, first, options - said.keys())
                n += len(options)
                for option, values in re.findall(r"(--[a-z-]+) ((?:[a-z_-]+\|)+[a-z_-]+)", " ".join(form)):
                    assert values.split("|") == list(offered(home, *given, verb, *([first] if first else []), option, "")), option
    assert n > 40


def test_what_the_home_has_is_offered(home):
    home.tenant("acme", apps='{ app = "clean"; exec = "clean.sh"; output = "stdout"; datasets = ("data"); }', tenant='streams = ( { name = "events"; } ); stream_apps = ( { app = "store"; stream = "events"; } );')
    home.tenant("best")
    (home.path / "conf/own").mkdir(exist_ok=True)
    (home.path / "conf/own/acme.conf").write_text('datasets = ( { name = "own"; } );')
    assert list(offered(home, "tenant", "sh")) == ["show"]
    assert set(offered(home, "tenant", "show", "")) == set(offered(home, "files", "--tenant", "")) == {"acme", "best"}
    assert list(offered(home, "upload", "ac")) == ["acme"]
    assert set(offered(home, "upload", "acme", "")) == {"data", "own"}
    assert offered(home, "upload", "acme", "data", "") == {":files": None}
    assert "store" in offered(home, "upload", "acme", "data", "--app", "")
    assert set(offered(home, "run", "")) == {"acme/", "best/"}
    assert {"acme/clean", "acme/store"} <= set(offered(home, "run", "acme/"))
    assert set(offered(home, "app", "scale", "acme/")) == {"acme/store"} and set(offered(home, "app", "scale", "acme/store", "")) == {"auto"}
    assert set(offered(home, "publish", "acme/e")) == {"acme/events"}
    assert set(offered(home, "--home", home.path, "tenant", "show", "", env={**home.env, "MYSIMBDP_HOME": "/nonexistent"})) == {"acme", "best"}
    assert offered(home, "tenant", "show", "", env={**home.env, "MYSIMBDP_HOME": "/nonexistent"}) == {}
    assert offered(home, "app", "start", "acme/store", "--", "") == {}
    assert "platform.http.listen" in offered(home, "explain", "platform.http.l")
    assert set(offered(home, "user", "add", "x", "--role", "")) == {"tenant-reader", "tenant-writer", "tenant-deployer", "operator"}
    assert "quarantined" in offered(home, "files", "--state", "") and "draining" in offered(home, "runs", "--state", "")
    assert offered(home, "no-such-verb", "") == {} and offered(home, *["x"] * 100) == {}


def test_ids_are_offered_although_nothing_runs(home):
    """And what a tenant called its file is shown, but nothing of it is taken for an answer or by a terminal."""
    home.tenant()
    home.up()
    home.drop("a\tb\n:files\x1b[31m.csv", "v\n1\n")
    f = home.wait_file()
    home.down()
    said = offered(home, "describe", f["file_id"][:5])
    assert set(said) == {f["file_id"], f["run_id"]} and "\x1b" not in said[f["file_id"]] and "acme/data ingested" in said[f["file_id"]]
    assert f["run_id"] in offered(home, "logs", "") and set(offered(home, "rejects", "zz")) == set()
    with sqlite3.connect(home.path / "state/ledger.db", isolation_level=None) as db:
        db.execute("PRAGMA locking_mode=EXCLUSIVE")
        db.execute("BEGIN EXCLUSIVE")
        began = time.monotonic()
        offered(home, "files", "")
        assert time.monotonic() - began < 10


def test_nothing_hangs_on_what_does_not_answer(home):
    home.tenant()
    conf = home.path / "conf/tenants/acme.conf"
    conf.unlink()
    os.mkfifo(conf)
    began = time.monotonic()
    r = subprocess.run([BUILD / "mysimbdp", "completion", "words", "--", "run", "acme/"], env=home.env, capture_output=True, timeout=60)
    assert r.stdout == b"" and time.monotonic() - began < 20


def test_verbs_of_a_gateway(home, tmp_path):
    env = {k: v for k, v in home.env.items() if k != "MYSIMBDP_HOME"} | {"XDG_CONFIG_HOME": str(tmp_path)}
    subprocess.run([BUILD / "mysimbdp", "profile", "add", "mine", "--url", "https://localhost:1"], env=env, check=True, capture_output=True)
    both = offered(home, "", env=env)
    assert {"whoami", "configure", "tenant", "files"} <= both.keys() and both["files"] == "what became of the files; --watch: each as its state changes, from now on"
    assert set(offered(home, "profile", "use", "", env=env)) == {"mine"} == set(offered(home, "--profile", "", env=env))
    assert "--watch" in offered(home, "files", "-", env=env)


BASH = r"""source "$1"
shift
COMP_WORDS=("$@")
COMP_CWORD=$(($# - 1))
_mysimbdp "$1"
printf '%s\n' "${COMPREPLY[@]}"
"""


def test_in_a_bash(home, installed):
    home.tenant("acme")
    home.tenant("best")

    def reply(*words):
        r = subprocess.run(["bash", "--norc", "-ic", BASH, "bash", installed / "bash/mysimbdp", BUILD / "mysimbdp", *words], env=home.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        return r.stdout.split()

    assert reply("tena") == ["tenant"]
    assert reply("tenant", "remove", "acme", "--pu") == ["--purge"]
    assert sorted(reply("tenant", "show", "")) == ["acme", "best"]
    assert reply("files", "--state", "=", "q") == ["queued", "quarantined"]
    assert len(reply("files", "--state", "=")) == 9
    assert reply("run", "best/") == ["best/app"]


def test_typed_in_a_bash(home, installed, tmp_path):
    """With its keys: one Tab completes, and after "acme/" no blank is in the way."""
    home.tenant("acme")
    rc = tmp_path / "rc"
    rc.write_text(f"PS1='> '; PATH={BUILD}:$PATH; bind 'set enable-bracketed-paste off'; bind 'set bell-style none'; source {installed}/bash/mysimbdp; touch '{tmp_path}/a file'\n")
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(tmp_path)
        os.execvpe("bash", ["bash", "--noprofile", "--rcfile", str(rc), "-i"], {**home.env, "TERM": "dumb"})
    said = ""

    def typed(keys, pattern):
        nonlocal said
        os.write(fd, keys.encode())
        deadline = time.monotonic() + 60
        while not re.search(pattern, said):
            assert time.monotonic() < deadline, (pattern, said)
            if select.select([fd], [], [], 0.2)[0]:
                said += os.read(fd, 65536).decode(errors="replace")
        said = ""

    typed("", r"> $")
    typed("mysimbdp ru\t", r"mysimbdp run")
    typed(" ac\t", r"acme/$")
    typed("a\t", r"app $")
    typed("\x15mysimbdp upload acme data a\t", r"a\\ file $")
    typed("\x15exit\r", "exit")
    os.waitpid(pid, 0)
    os.close(fd)
