"""docs/ as a site (scripts/site): mkdocs warns of nothing, each page is in it, and a browser is sent nowhere else."""
import re
import subprocess

import pytest
from harness import ROOT

pytestmark = [pytest.mark.anyone, pytest.mark.once]
needs_mkdocs = pytest.mark.skipif(not (ROOT / "build/mkdocs/.complete").exists(), reason="no clients of others: setup could not fetch mkdocs")
LOADS = re.compile(r"<(?:script|img|iframe|source|video|link)\b[^>]*?\b(?:src|href)=[\"']?((?:https?:)?//[^\"' >]*)", re.I)


@needs_mkdocs
def test_the_site_is_built_without_a_warning_and_loads_nothing_from_elsewhere(tmp_path):
    site = tmp_path / "site"
    r = subprocess.run(["/usr/bin/python3", "-m", "mkdocs", "build", "--strict", "--site-dir", str(site)], cwd=ROOT, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT / "build/mkdocs")},
                       capture_output=True, text=True, timeout=120)
    assert r.returncode == 0 and "WARNING" not in r.stderr, r.stderr
    pages = {p.stem for p in (ROOT / "docs").glob("*.md")}
    assert pages <= {p.stem for p in site.glob("*.html")}
    for page in site.rglob("*.html"):
        assert not LOADS.findall(page.read_text()), page.name
    for style in site.rglob("*.css"):
        assert not re.findall(r"url\([\"']?(?:https?:)?//|@import", style.read_text()), style.name


def test_every_page_is_in_the_menu():
    menu = re.findall(r"^ +- [^:]+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M)
    assert sorted(menu) == sorted(p.name for p in (ROOT / "docs").glob("*.md"))
