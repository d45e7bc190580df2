"""What README and docs/ name is there: paths, tests, modules, headings. Their code blocks are run by test_docs_blocks.py."""
import re
import subprocess
import tomllib

import pytest

from docs_blocks import PAGES
from harness import ROOT

pytestmark = pytest.mark.anyone

PATH = re.compile(r"(?<![\w/.{])((?:lib|programs|tests|scripts|docs|clientlib|tenants)/[\w./-]*\w)")
COMMENT = re.compile(r"/\*.*?\*/|^\s*#.*?$|\"\"\".*?\"\"\"", re.S | re.M)
SOURCES = [p for folder in ("lib", "programs", "clientlib", "tests", "scripts") for p in (ROOT / folder).rglob("*") if p.suffix in {".c", ".h", ".py", ".java", ".build"}]


def gone(text):
    """Paths of the repository that a text names and that are not there. A header or source may be named without its ending."""
    return [path for path in PATH.findall(text) if not (ROOT / path).exists() and not any((ROOT / f"{path}.{e}").exists() for e in "ch")]


def test_paths_that_docs_name_are_there():
    for page in [*PAGES, ROOT / "CONTRIBUTING.md"]:
        text = page.read_text()
        assert not gone(" ".join(re.findall(r"`([^`\n]+)`", text))), page
        targets = [t for t in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in t]
        for target in targets:
            name, _, anchor = target.partition("#")
            there = page.parent / name if name else page
            assert there.exists(), f"{page.name}: {target}"
            heads = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.*)$", there.read_text(), re.M)} if anchor else {anchor}
            assert anchor in heads, f"{page.name}: {target}"


def test_what_is_promised_of_damage_is_made_of_its_table_and_each_promise_has_tests():
    """docs/reliability.md is written by scripts/reliability, of docs/reliability.toml and the last results."""
    r = subprocess.run([ROOT / "scripts/reliability", "--check"], capture_output=True, text=True)
    assert r.returncode == 0, "run scripts/reliability: the page is not what it would write\n" + r.stderr
    table = tomllib.loads((ROOT / "docs/reliability.toml").read_text())
    without = [e["what"] for section in table["section"] for e in section["entry"] if not e["tests"]]
    assert not without


def test_tests_that_docs_name_are_there():
    """`path::test_begins_so…`, always with the path."""
    for page in PAGES:
        for where, name in re.findall(r"`([^`\n]*)::(test_[^`\n]*)`", page.read_text()):
            assert re.search(rf"def {re.escape(name.rstrip('…'))}{'' if name.endswith('…') else '[(]'}", (ROOT / where).read_text()), f"{page.name}: {where}::{name}"


def test_modules_that_the_ways_name_are_there():
    """docs/files.md and docs/messages.md call the modules of a program by name: **intake**."""
    for page, heading, end, program in (("files.md", "## The modules", "###", "batchmgr"), ("messages.md", "Two storeys", "The upper one", "broker/store"), ("messages.md", "The upper one", "###", "broker"),
                                        ("messages.md", "## streammgr", "```", "streammgr"), ("messages.md", "## monitor", "Nothing of it", "monitor"), ("isolation.md", "## Managers are not root", "What a manager", "warden")):
        part = (ROOT / "docs" / page).read_text().split(heading, 1)[1].split(end, 1)[0]
        names = re.findall(r"\*\*([a-z_]+)\*\*", part)
        assert len(names) > 3 and not [n for n in names if not (ROOT / "programs" / program / f"{n}.c").exists()], names


def test_paths_that_comments_name_are_there():
    missing = {str(p.relative_to(ROOT)): g for p in SOURCES if (g := gone("\n".join(COMMENT.findall(p.read_text()))))}
    assert not missing


def test_files_that_comments_name_are_there():
    """By their names alone: x.h."""
    names = {p.name for p in SOURCES} | {"sysexits.h"}
    called = {(str(p.relative_to(ROOT)), n) for p in SOURCES if p.suffix in {".c", ".h"}
              for c in re.findall(r"/\*.*?\*/", p.read_text(), re.S) for n in re.findall(r"(?<![\w/<\".-])([a-z_]+[.][ch])\b", c)}
    assert not {(where, n) for where, n in called if n not in names}


def test_every_page_is_linked_and_fits_a_screen():
    pages = "\n".join(p.read_text() for p in PAGES)
    for page in PAGES[1:]:
        assert f"{page.name}" in pages.replace(page.read_text(), ""), f"nobody links {page.name}"
    for page in PAGES:
        prose = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.S | re.M)
        wide = [line for line in prose.split("\n") if len(line) > 120 and not line.startswith(("|", "    "))]
        assert not wide, f"{page.name}: {wide[0]}"
