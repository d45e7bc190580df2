"""docs/openapi.yaml against the running platform, by schemathesis (of PyPI, pinned: tests/data/schemathesis.txt): requests that the document
allows and such that it does not, for each route; each answer has to be one that the document has."""
import os
import re
import subprocess
import sys

import pytest

from harness import ROOT
from web import Site, settings

pytestmark = pytest.mark.anyone
PACKAGES = ROOT / "build/schemathesis"
CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,response_schema_conformance"
# It does not end (events), has bodies of types that schemathesis cannot make (uploads, messages), or is no JSON as it is said to be text (the document).
NOT_ASKED = r"/events$|/uploads/\{upload_id\}$|/messages$|/v1/openapi\.yaml$"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    conf = s.home.path / "conf/tenants/acme.conf"
    conf.write_text(conf.read_text() + 'allow = ("apps", "datasets", "streams");\n')
    s.home.reload()
    yield s
    s.cleanup()


def test_what_is_answered_is_what_is_written(site, tmp_path):
    """As who may do most, with names that exist."""
    if not PACKAGES.exists():
        pytest.skip("no clients of others")
    f = site.wait(site.put("one.csv", b"v,w\n1,a\n2,b\n").doc["file_id"])
    names = {"tenant": "acme", "dataset": "data", "app": "load", "stream": "events", "file_id": f["file_id"], "run_id": f["run_id"], "month": f["received_at"][:7]}
    (tmp_path / "schemathesis.toml").write_text("[parameters]\n" + "".join(f'"path.{k}" = "{v}"\n' for k, v in names.items()))
    r = subprocess.run([sys.executable, "-m", "schemathesis.cli", "run", ROOT / "docs/openapi.yaml", "--url", site.url, "-H", f"Authorization: Bearer {site.of('tenant-deployer')}", "--seed", "1", "--no-color",
                        "--request-timeout", "20", "--checks", CHECKS, "--phases", "examples,coverage,fuzzing", "--max-examples", "3", "--exclude-path-regex", NOT_ASKED],
                       cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(PACKAGES)}, capture_output=True, text=True, timeout=250, check=False)
    assert r.returncode == 0, r.stdout[-6000:] + r.stderr[-2000:]
    asked, cases = re.search(r"Tested: (\d+)", r.stdout), re.search(r"(\d+) generated, (\d+) passed", r.stdout)
    assert int(asked[1]) >= 42 and int(cases[1]) == int(cases[2]) > 1000, r.stdout[-3000:]
    assert site.is_well()
