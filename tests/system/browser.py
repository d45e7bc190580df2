"""Debian's Chromium, headless, by the WebDriver protocol (W3C) over plain HTTP: nothing but the standard library."""
import base64
import http.client
import json
import shutil
import socket
import subprocess
import tempfile

from harness import until

ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


def is_here():
    return bool(shutil.which("chromedriver") and shutil.which("chromium"))


class Browser:
    def __init__(self, width=1200, height=900):
        self.dir = tempfile.mkdtemp(prefix="simbdp-browser-")
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            self.port = s.getsockname()[1]
        self.driver = subprocess.Popen(["chromedriver", f"--port={self.port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.wait_for(lambda: self.alive(), "chromedriver")
        args = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", f"--user-data-dir={self.dir}", f"--window-size={width},{height}"]
        caps = {"browserName": "chrome", "goog:chromeOptions": {"args": args, "binary": shutil.which("chromium")}, "goog:loggingPrefs": {"browser": "ALL"}}
        self.session = ""
        self.session = "/session/" + self.ask("POST", "/session", {"capabilities": {"alwaysMatch": caps}})["sessionId"]

    def alive(self):
        try:
            socket.create_connection(("127.0.0.1", self.port)).close()
            return True
        except OSError:
            return False

    def ask(self, method, path, body=None):
        c = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        c.request(method, self.session + path, body=json.dumps(body if body is not None else {}) if method == "POST" else None, headers={"Content-Type": "application/json"})
        doc = json.loads(c.getresponse().read())["value"]
        c.close()
        if isinstance(doc, dict) and "error" in doc:
            raise AssertionError(f"{doc['error']}: {doc['message'][:500]}")
        return doc

    @staticmethod
    def wait_for(fn, what, timeout=30):
        """What fn gives, as soon as it is true."""
        return until(fn, timeout=timeout, every=0.05, what=what)

    def open(self, url):
        self.ask("POST", "/url", {"url": url})

    def js(self, script, *args):
        return self.ask("POST", "/execute/sync", {"script": script, "args": list(args)})

    def js_async(self, script, *args):
        return self.ask("POST", "/execute/async", {"script": script, "args": list(args)})

    def find(self, css):
        return self.ask("POST", "/element", {"using": "css selector", "value": css})[ELEMENT]

    def type(self, css, text):
        self.ask("POST", f"/element/{self.find(css)}/value", {"text": text})

    def text(self, css="body"):
        return self.js("const e = document.querySelector(arguments[0]); return e ? e.innerText : ''", css)

    def sees(self, text, css="body", timeout=30):
        return self.wait_for(lambda: text in self.text(css), lambda: f"{text!r} in {css}: {self.text(css)[:2000]}", timeout)

    def click(self, text, css="button, a"):
        """The first that is shown and has this text."""
        def one():
            return self.js("""const e = [...document.querySelectorAll(arguments[1])].find((x) => x.innerText.trim() === arguments[0] && x.offsetParent !== null && !x.disabled);
                if (e) e.click(); return !!e""", text, css)
        self.wait_for(one, f"{css} {text!r}")

    def prefers(self, scheme):
        """light or dark, as who looks has set it"""
        self.ask("POST", "/goog/cdp/execute", {"cmd": "Emulation.setEmulatedMedia", "params": {"features": [{"name": "prefers-color-scheme", "value": scheme}]}})

    def complaints(self):
        """What the console has of errors: scripts that failed, what the policy refused."""
        return [m["message"] for m in self.ask("POST", "/se/log", {"type": "browser"}) if m["level"] == "SEVERE"]

    def picture(self, path):
        path.write_bytes(base64.b64decode(self.ask("GET", "/screenshot")))

    def close(self):
        try:
            self.ask("DELETE", "")
        except (AssertionError, OSError):
            pass
        self.driver.terminate()
        self.driver.wait()
        shutil.rmtree(self.dir, ignore_errors=True)
