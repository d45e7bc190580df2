#!/usr/bin/env python3
"""Makes the manual pages and the shells' completion scripts from what the programs say of themselves: --help, `mysimbdp explain` and
`mysimbdp completion`. So no page can say something else than the program.

usage: make.py --programs DIRECTORY --version V --man DIRECTORY [--bash DIRECTORY --zsh DIRECTORY --fish DIRECTORY] [--install]
--install: below $MESON_INSTALL_DESTDIR_PREFIX, as meson calls it. The page's date is $SOURCE_DATE_EPOCH, or today."""
import argparse
import datetime
import json
import os
import pathlib
import re
import subprocess
import sys

# What each program is in one line; the rest is what it says itself. Those of section 8 are started by others.
PROGRAMS = {
    "simbdp-load": (1, "loads files and messages of a tenant into MongoDB"),
    "simbdp-pipe": (1, "hands the messages of a stream to a command, a line each"),
    "simbdp-publish": (1, "puts lines into a stream"),
    "batchmgr": (8, "takes files in, runs the tenants' batch apps, keeps the ledger"),
    "broker": (8, "keeps the tenants' streams of messages"),
    "desk": (8, "answers tenants on the provider's machine"),
    "gateway": (8, "HTTP for tenants"),
    "monitor": (8, "decides how many instances of stream apps run, and raises alerts"),
    "streammgr": (8, "runs instances of the tenants' stream apps"),
    "simbdp-backup": (8, "copies a home into a backup, and out of it"),
    "simbdp-appstore": (8, "keeps versions of apps that tenants uploaded"),
    "simbdp-cells": (8, "HTTP in front of the cells of a fleet"),
    "simbdp-image": (8, "unpacks images of apps"),
    "simbdp-inspect": (8, "reads what tenants sent and tells what it holds"),
    "simbdp-keeper": (8, "does for broker, monitor and gateway what they may not do themselves"),
    "simbdp-move": (8, "takes a tenant out of a home, and into one"),
    "simbdp-mongodump": (8, "copies documents of a MongoDB into a directory, and out of it"),
    "simbdp-mongo": (8, "starts the embedded MongoDB of a home"),
    "simbdp-relay": (8, "passes on connections out of a run's network"),
    "simbdp-run": (8, "runs one step of one run"),
    "simbdp-slurm": (8, "runs batch apps as jobs of a Slurm cluster"),
    "simbdp-unpack": (8, "unpacks an archive that a tenant sent"),
    "simbdp-warden": (8, "starts programs for a manager, and refuses the rest"),
    "simbdp-webhook": (8, "tells webhooks of alerts"),
    "simbdp-kafka": (8, "the broker's way to Kafka"),
}
# file of `mysimbdp explain`, page, what it is
FILES = [
    ("conf/mysimbdp.conf", "mysimbdp.conf", "the provider's settings of a mysimbdp home"),
    ("conf/profiles.conf", "profiles.conf", "named sets of limits for runs of a mysimbdp home"),
    ("conf/tenants/<tenant>.conf", "tenant.conf", "the agreement with a tenant of mysimbdp: limits, datasets, apps, streams"),
]
ENVIRONMENT = [
    ("MYSIMBDP_HOME", "the home, where --home is not given"),
    ("MYSIMBDP_URL, MYSIMBDP_TOKEN_FILE, MYSIMBDP_CA, MYSIMBDP_PROFILE", "a gateway that is asked over HTTP instead (simbdp-remote(1))"),
    ("MONGO_URL", "the MongoDB, where platform.mongo_url does not name one"),
    ("NO_COLOR", "states are not coloured"),
    ("SIMBDP_DEBUG", "set to 1 for `mysimbdp up`: all programs log lines of level debug, too"),
]


class Page:
    """Text in the macros of man(7)."""

    def __init__(self, name, section, what, made):
        self.name, self.section, self.lines = name, section, []
        self.line(f'.TH "{name.upper()}" "{section}" "{made.date}" "mysimbdp {made.version}" "mysimbdp"')
        self.head("NAME")
        self.text(f"{name} - {what.split(';')[0].rstrip('.')}")

    def line(self, line):
        self.lines.append(line)

    def head(self, title):
        self.line(f'.SH "{title}"')

    def paragraph(self):
        if not self.lines[-1].startswith((".SH", ".SS")):
            self.line(".PP")

    def text(self, *texts):
        for text in texts:
            self.line(escaped(text))

    def item(self, tag, *texts):
        self.line(".TP")
        self.line(tag)
        self.text(*texts)

    def block(self, lines):
        """As it stands."""
        self.paragraph()
        self.line(".nf")
        for line in lines:
            self.text(line)
        self.line(".fi")

    def write(self, directory):
        path = directory / f"man{self.section}" / f"{self.name}.{self.section}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(self.lines) + "\n")


def plain(text):
    """Characters of a text for roff."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("'", "\\(aq").replace("^", "\\(ha").replace("~", "\\(ti").replace("`", "\\(ga")
    return "".join(c if ord(c) < 128 else f"\\[u{ord(c):04X}]" for c in text)


def escaped(text):
    """A line of text; what stands in `backquotes` is bold."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        parts = [text.replace("`", "'")]
    line = "".join(plain(p) if i % 2 == 0 else f"\\fB{plain(p)}\\fR" for i, p in enumerate(parts))
    return "\\&" + line if line[:1] in (".", " ") or line.startswith("\\(aq") else line


def synopsis(text):
    """A usage text: what is typed as it stands is bold, what is put in its place italic."""
    return re.sub(r"[A-Z][A-Z_]*\b|[a-z]?--?[a-z][a-z-]*|[a-z][\w-]*|.", lambda m: m[0] if len(m[0]) < 2 and not m[0].isalpha() else
                  f"\\fI{plain(m[0])}\\fR" if m[0].isupper() else f"\\fB{plain(m[0])}\\fR", text)


def alternatives(args):
    """The ways to call a verb: what " | " outside of brackets separates."""
    found, depth = [[]], 0
    for token in args.split():
        if token == "|" and depth == 0:
            found.append([])
            continue
        depth += token.count("[") - token.count("]")
        found[-1].append(token)
    return [" ".join(f) for f in found]


def prose(page, text):
    """Paragraphs, and lines as they are where they are indented."""
    text = text.strip("\n")
    for paragraph in re.split(r"\n\n+", text[:1].upper() + text[1:]):
        for indented, lines in runs_of(paragraph.split("\n")):
            if indented:
                page.block(lines)
            else:
                page.paragraph()
                for line in lines:
                    if line.startswith("Exit: "):
                        page.line(".br")
                    page.text(line)


def runs_of(lines):
    """(whether they are indented, lines that follow one another)"""
    found = []
    for line in lines:
        indented = line.startswith("  ")
        if not found or found[-1][0] != indented:
            found.append((indented, []))
        found[-1][1].append(line)
    return found


class Maker:
    def __init__(self, programs, version, out):
        self.programs, self.version, self.out = programs, version, out
        at = int(os.environ.get("SOURCE_DATE_EPOCH") or datetime.datetime.now().timestamp())
        self.date = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y-%m-%d")
        self.names = []

    def ask(self, program, *args):
        env = {k: v for k, v in os.environ.items() if not k.startswith("MYSIMBDP_")}
        r = subprocess.run([self.programs / program, *args], stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, timeout=60)
        if r.returncode:
            sys.exit(f"make.py: {program} {' '.join(args)} gave {r.returncode}: {r.stderr}")
        return r.stdout

    def page(self, name, section, what):
        self.names.append((name, section))
        return Page(name, section, what, self)

    def end(self, page, *also):
        """Where to look next."""
        page.head("SEE ALSO")
        page.text(", ".join(f"`{name}`({section})" for name, section in also))
        page.write(self.out)

    def verbs_of(self, program, *options):
        """(verb, first line of its help) and what is said behind them."""
        usage, verbs, end = self.ask(program, *options, "help").split("\n\n", 2)
        return re.findall(r"^  (\S+) +(.*)$", verbs, re.M), end

    def verb(self, program, verb, *options):
        """Its arguments, and its help."""
        first, rest = re.match(r"usage: mysimbdp \S+ ?(.*?) \[--(?:home HOME|url URL \| --profile NAME)\]\n(.*)", self.ask(program, *options, verb, "--help"), re.S).groups()
        return " ".join(first.split()), rest

    def local_verbs(self):
        verbs, end = self.verbs_of("mysimbdp")
        for verb, what in verbs:
            args, text = self.verb("mysimbdp", verb)
            page = self.page(f"mysimbdp-{verb}", 1, what)
            self.synopsis(page, f"mysimbdp {verb}", args, "[--home HOME]")
            page.head("DESCRIPTION")
            prose(page, text)
            page.head("EXIT STATUS")
            page.text("0 done, 1 the thing asked for failed or was refused, 2 usage.")
            self.end(page, ("mysimbdp", 1), *[(p, 5) for _, p, _ in FILES][:1])
        return verbs, end

    def synopsis(self, page, command, args, common):
        page.head("SYNOPSIS")
        for i, one in enumerate(alternatives(args) or [""]):
            if i:
                page.line(".br")
            page.line(f"\\fB{plain(command)}\\fR {synopsis(one)} {synopsis(common)}".replace("  ", " "))

    def front(self, verbs, end):
        page = self.page("mysimbdp", 1, "a platform that ingests the files and messages of many tenants into MongoDB")
        self.synopsis(page, "mysimbdp", "VERB [ARGUMENTS]", "[--home HOME]")
        page.line(".br")
        page.line(f"\\fBmysimbdp\\fR {synopsis('--url URL | --profile NAME')} {synopsis('VERB [ARGUMENTS]')}")
        page.head("DESCRIPTION")
        page.text("A home is a directory that `mysimbdp init` makes; `mysimbdp up` runs all programs of it, and the other verbs are about what is in it.",
                  "Each verb has a page of its own: mysimbdp-VERB(1).")
        page.head("VERBS")
        for verb, what in verbs:
            page.item(f"\\fBmysimbdp\\-{plain(verb)}\\fR(1)", what.split(";")[0])
        page.head("COMMON")
        prose(page, end)
        page.head("ENVIRONMENT")
        for name, what in ENVIRONMENT:
            page.item(f"\\fB{plain(name)}\\fR", what)
        page.head("FILES")
        for file, name, what in FILES:
            page.item(f"\\fI{plain('HOME/' + file)}\\fR", f"{what}; `{name}`(5)")
        self.end(page, ("simbdp-remote", 1), *[(p, 5) for _, p, _ in FILES], *[(n, s) for n, (s, _) in sorted(PROGRAMS.items())])

    def remote(self):
        verbs, end = self.verbs_of("simbdp-remote")
        page = self.page("simbdp-remote", 1, "the verbs of mysimbdp over HTTP, from any machine")
        self.synopsis(page, "mysimbdp", "VERB [ARGUMENTS]", "[--url URL [--token-file F] [--ca FILE] | --profile NAME] [--tenant T]")
        page.head("DESCRIPTION")
        page.text("`mysimbdp` starts this program where a gateway is meant: with --url or --profile, or where the environment or a profile says so.")
        prose(page, end)
        page.head("VERBS")
        for verb, _ in verbs:
            args, text = self.verb("simbdp-remote", verb)
            page.line(f'.SS "{plain(verb)}"')
            for i, one in enumerate(alternatives(args) or [""]):
                if i:
                    page.line(".br")
                page.line(f"\\fBmysimbdp {plain(verb)}\\fR {synopsis(one)}".rstrip())
            prose(page, text)
        self.end(page, ("mysimbdp", 1))

    def program(self, name, section, what):
        page = self.page(name, section, what)
        lines = self.ask(name, "--help").rstrip("\n").split("\n")
        n = next((i for i, line in enumerate(lines) if not line.startswith(("usage: ", "       "))), len(lines))
        page.head("SYNOPSIS")
        page.line(".nf")
        for line in lines[:n]:
            page.text(line[7:])
        page.line(".fi")
        page.head("DESCRIPTION")
        prose(page, "\n".join(lines[n:]) or f"{what}.")
        self.end(page, ("mysimbdp", 1))

    def key(self, page, k):
        facts = [k["type"]]
        if k["choices"]:
            facts.append("one of " + ", ".join(f'"{c}"' for c in k["choices"]))
        if k["min"] is not None or k["max"] is not None:
            facts.append(f"{k['min']:g} to {k['max']:g}" if k["max"] is not None and k["min"] is not None else f"{k['min']} and more")
        if k["required"]:
            facts.append("required")
        elif k["default"] is not None:
            facts.append("default " + (f'"{k["default"]}"' if k["type"] in ("string", "strings") else k["default"]))
        facts.append("takes effect on `mysimbdp reload`" if k["takes_effect"] == "reload" else "takes effect when the platform is started again")
        page.item(f"\\fB{plain(k['key'])}\\fR", k["help"])
        page.line(".br")
        page.text("; ".join(facts) + ".")
        page.line(".br")
        page.text(f"Example: {k['example']}")

    def file(self, file, name, what, keys):
        page = self.page(name, 5, what)
        page.head("SYNOPSIS")
        page.line(f"\\fI{plain('HOME/' + file)}\\fR")
        page.head("DESCRIPTION")
        page.text("In the grammar of libconfig: `key = value;`, groups in { }, lists in ( ), # begins a comment.",
                  "Numbers over 32 bits end with L. Unknown keys and wrong types are errors, told with file and line.",
                  "`mysimbdp check` reads it as the programs do, `mysimbdp reload` makes a running platform take it, all or nothing.",
                  "A key stands in the groups before its dots; `mysimbdp explain KEY` says the same as this page.")
        if name == "tenant.conf":
            prose(page, "The file's name is the tenant's id. What the tenant may configure itself (`allow`) stands in HOME/conf/own/<tenant>.conf, "
                        "in the same form: datasets, batch, streams and stream_apps; `mysimbdp tenant configure` and the gateway write it.")
        page.head("KEYS")
        for k in keys:
            if k["type"] in ("group", "list"):
                page.line(f'.SS "{plain(k["key"])}"')
                page.text(k["help"] + (": a list ( { }, { } ) of groups." if k["type"] == "list" else ": a group { } of keys."))
            else:
                self.key(page, k)
        if name == "mysimbdp.conf":
            page.head("FIGURES OF ALERTS")
            page.text("`when` of platform.alerts is a condition over these, which are columns of `mysimbdp top`, too:")
            for figure, text in re.findall(r"^  (\S+) +(.*)$", self.ask("mysimbdp", "check", "--keys").split("columns of `mysimbdp top`", 1)[1], re.M):
                page.item(f"\\fB{plain(figure)}\\fR", text)
        self.end(page, ("mysimbdp", 1), ("mysimbdp-check", 1), ("mysimbdp-explain", 1), ("mysimbdp-reload", 1), *[(p, 5) for _, p, _ in FILES if p != name])

    def all(self):
        self.front(*self.local_verbs())
        self.remote()
        for name, (section, what) in PROGRAMS.items():
            self.program(name, section, what)
        keys = [json.loads(line) for line in self.ask("mysimbdp", "explain", "--json").splitlines()]
        for file, name, what in FILES:
            self.file(file, name, what, sorted_by_group([k for k in keys if k["file"] == file]))


def sorted_by_group(keys):
    """Keys of a group stand together behind its name: those that hold no others first."""
    holders = {k["key"] for k in keys if k["type"] in ("group", "list")}
    top = [k for k in keys if k["key"] not in holders and "." not in k["key"]]
    for group in (k for k in keys if k["key"] in holders):
        top += [group, *[k for k in keys if k["key"] not in holders and k["key"].rpartition(".")[0] == group["key"]]]
    return top


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--programs", type=pathlib.Path, required=True)
    p.add_argument("--version", required=True)
    p.add_argument("--man", type=pathlib.Path, required=True)
    for shell in ("bash", "zsh", "fish"):
        p.add_argument(f"--{shell}", type=pathlib.Path)
    p.add_argument("--install", action="store_true")
    o = p.parse_args()
    below = pathlib.Path(os.environ["MESON_INSTALL_DESTDIR_PREFIX"]) if o.install else pathlib.Path()
    maker = Maker(o.programs, o.version, below / o.man)
    maker.all()
    for shell, name in (("bash", "mysimbdp"), ("zsh", "_mysimbdp"), ("fish", "mysimbdp.fish")):
        directory = getattr(o, shell)
        if directory:
            (below / directory).mkdir(parents=True, exist_ok=True)
            (below / directory / name).write_text(maker.ask("mysimbdp", "completion", shell))
    print(f"{len(maker.names)} pages in {below / o.man}")


main()
