"""Files of a form, as browsers send it; and what other sites' pages have browsers send."""
import pytest

from harness import until
from web import Site, settings

pytestmark = pytest.mark.anyone

BOUNDARY = "------------b0undary"


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    yield s
    s.cleanup()


def form(*parts, end=True):
    body = b""
    for name, filename, data in parts:
        of_file = f'; filename="{filename}"' if filename is not None else ""
        body += f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"{of_file}\r\nContent-Type: text/csv\r\n\r\n'.encode() + data + b"\r\n"
    return body + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def post(site, body, dataset="data", fields="", token="", **headers):
    headers.setdefault("Content_Type", f"multipart/form-data; boundary={BOUNDARY}")
    return site.ask("POST", f"/v1/tenants/acme/datasets/{dataset}/files{fields}", token, body, **headers)


def test_files_of_a_form(site):
    large = b"v\n" + b"".join(b"%d\n" % i for i in range(200000))
    a = post(site, form(("f", "form-a.csv", b"v\n1\n"), ("f", "some/dir/form-b.csv", large), ("f", "", b""), ("g", "form-c.csv", b"")))
    assert a.status in (201, 207) and [(f["file_name"], f["status"], f["size_bytes"]) for f in a.doc["files"]][:2] == \
        [("form-a.csv", 201, 4), ("form-b.csv", 201, len(large))], a
    assert site.wait(a.doc["files"][0]["file_id"])["rows_loaded"] == 1
    assert site.wait(a.doc["files"][1]["file_id"])["rows_loaded"] == 200000
    site.wait_spool()


def test_each_is_answered_for(site):
    a = post(site, form(("f", "part-a.csv", b"v\n1\n"), ("f", "part.exe", b"MZ"), ("f", "part-b.csv", b"v\n2\n")))
    assert a.status == 207 and [(f["status"], f["code"]) for f in a.doc["files"]] == [(201, None), (422, "format"), (201, None)], a
    assert site.rows("part-a.csv") and site.rows("part-b.csv")
    site.wait_spool()


@pytest.mark.parametrize("body,code", [
    (form(("f", "cut.csv", b"v\n1\n"), end=False), "bad_request"),
    (form(("f", "cut.csv", b"v\n1\n"))[:-30], "bad_request"),
    (form(), "bad_request"),
    (form(("app", None, b"load")), "bad_request"),
    (form(*[("f", f"many{i}.csv", b"v\n") for i in range(33)]), "too_large"),
    (b"nothing of the kind", "bad_request"),
    (b"", "bad_request"),
])
def test_forms_that_are_none(site, body, code):
    a = post(site, body)
    assert a.code == code, a
    site.wait_spool()
    assert not site.rows("cut.csv") and not site.rows("many0.csv"), "all or nothing until the end of the form"


def test_before_its_first_byte(site):
    body = form(("f", "x.csv", b"v\n1\n"))
    assert post(site, body, dataset="nothing").code == "no_dataset"
    assert post(site, body, Content_Type="text/plain").code == "unsupported_media_type"
    assert post(site, body, Content_Type="multipart/form-data").code == "bad_request"
    assert post(site, body, token=site.of("tenant-reader")).code == "forbidden"
    assert post(site, body, token=site.of("tenant-writer", "beta")).status == 404
    assert post(site, body, fields="?app=none").code == "no_app"
    assert post(site, form(("f", "big.csv", b"v\n" + b"1\n" * 1000)), dataset="small").code == "max_file_bytes"
    site.wait_spool()


def test_a_client_that_goes_away(site):
    body = form(("f", "away.csv", b"v\n" + b"1\n" * 100000))
    with site.wire() as w:
        w.send(f"POST /v1/tenants/acme/datasets/data/files HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {site.of()}\r\n"
               f"Content-Type: multipart/form-data; boundary={BOUNDARY}\r\nContent-Length: {len(body)}\r\n\r\n")
        w.send(body[:100000])
        until(lambda: site.spooled(), site.home.path / "staging/.gateway", what="an upload")
    site.wait_spool()
    assert not site.rows("away.csv")


def test_a_page_of_another_site(site):
    """A browser sends its password with it; the page's Origin tells."""
    body = form(("f", "foreign.csv", b"v\n1\n"))
    for origin in ("https://evil.example", "null", f"http://{site.host}:1"):
        a = post(site, body, Origin=origin)
        assert (a.status, a.code) == (403, "forbidden"), a
        assert site.post("files:retry", Origin=origin).code == "forbidden"
        assert site.get("files", Origin=origin).status == 200, "nothing changes by that, and no page may read it"
    assert not site.rows("foreign.csv")
    assert post(site, form(("f", "own.csv", b"v\n1\n")), Origin=f"http://{site.host}:{site.port}").status == 201
