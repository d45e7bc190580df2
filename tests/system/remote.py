"""Whoever uses `mysimbdp --url …`: his machine, the platform it speaks to (with TLS; or cut at a byte that is known), and a server that does as a
test says where the platform would not."""
import io
import json
import os
import random
import subprocess

import pytest

from cutting_proxy import Proxy
from fake_server import Server, problem
from harness import BUILD
from web import Site, settings

ROWS = "v,w\n1,a\n2,b\n"
ME = {"account": "ann", "role": "tenant-writer", "tenant_id": "acme", "token_id": "t", "verbs": ["read", "upload"]}


class Machine:
    """A user of another machine: a home directory, a token, and the program."""

    def __init__(self, tmp_path, url, token=None, *options):
        self.dir, self.url, self.options = tmp_path, url, options
        self.token_file = tmp_path / "token"
        if token:
            self.token_file.write_text(token + "\n")
            self.token_file.chmod(0o600)
            self.options += ("--token-file", str(self.token_file))
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("MYSIMBDP_", "XDG_", "http_proxy", "https_proxy"))}
        self.env["HOME"] = str(tmp_path)

    def command(self, *args):
        return [str(BUILD / "mysimbdp"), *(("--url", self.url) if self.url else ()), *self.options, *map(str, args)]

    def start(self, *args, **kw):
        return subprocess.Popen(self.command(*args), env=self.env, cwd=self.dir, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **kw)

    def run(self, *args, code=0, env=None, **kw):
        r = subprocess.run(self.command(*args), env={**self.env, **(env or {})}, cwd=self.dir, capture_output=True, text=True, timeout=120, **kw)
        assert code is None or r.returncode == code, f"{args}: {r.returncode}\n{r.stdout}\n{r.stderr}"
        return r

    def rows(self, *args, **kw):
        return [json.loads(line) for line in self.run(*args, "--json", **kw).stdout.splitlines()]

    def file(self, name, text=ROWS):
        path = self.dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        return path

    def state_files(self):
        directory = self.dir / ".local/state/mysimbdp/uploads"
        return sorted(directory.iterdir()) if directory.exists() else []


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings(tls=True))
    yield s
    s.cleanup()


@pytest.fixture
def machine(site, tmp_path):
    return Machine(tmp_path, site.url, site.of(), "--ca", str(site.home.path / "keys/gateway.crt"))


@pytest.fixture(scope="module")
def open_site(mongo):
    """Without TLS: what goes over the wire can be cut at a byte that is known."""
    s = Site(mongo, settings())
    yield s
    s.cleanup()


@pytest.fixture
def proxy(open_site):
    p = Proxy(open_site.port)
    yield p
    p.stop()


@pytest.fixture
def cut_off(open_site, proxy, tmp_path):
    return Machine(tmp_path, proxy.url(), open_site.of())


@pytest.fixture
def server():
    s = Server()
    yield s
    s.stop()


@pytest.fixture
def at_server(server, tmp_path):
    return Machine(tmp_path, server.url, "sbt_x_y", "--tenant", "acme")


def wide_rows(n_bytes, seed=1):
    """CSV of about so many bytes, of which no two parts are alike."""
    r = random.Random(seed)
    out = io.StringIO()
    out.write("v,w\n")
    while out.tell() < n_bytes:
        out.write(f"{r.randrange(10 ** 9)},{r.getrandbits(1600):x}\n")
    return out.getvalue()


def busy(status, code, after=1):
    return problem(status, code, "wait", Retry_After=str(after))
