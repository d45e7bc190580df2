"""The dashboard in Chromium, on a running platform: as a tenant and as the provider, with real files and messages."""
import os
import pathlib

import pytest

from browser import Browser, is_here
from web import PASSWORD, Site, settings

pytestmark = [pytest.mark.anyone, pytest.mark.skipif(not is_here(), reason="no browser here")]
PICTURES = os.environ.get("SIMBDP_PICTURES")


@pytest.fixture(scope="module")
def site(mongo):
    s = Site(mongo, settings())
    s.user("ann", "tenant-deployer")
    s.user("root.op", "operator", None)
    yield s
    s.cleanup()


@pytest.fixture(scope="module")
def chromium():
    b = Browser()
    yield b
    b.close()


@pytest.fixture
def browser(chromium, site):
    chromium.open(site.url)
    chromium.ask("POST", "/refresh")
    chromium.sees("Log in")
    yield chromium
    assert [m for m in chromium.complaints() if "401" not in m] == []
    chromium.js("""fetch('/v1/session', {method: 'DELETE', headers: {'X-Requested-With': 'page'}})""")
    chromium.ask("DELETE", "/cookie")


def picture(browser, name):
    if PICTURES:
        browser.picture(pathlib.Path(PICTURES) / f"{name}.png")


def log_in(browser, user, password=PASSWORD):
    browser.type("input[name=user]", user)
    browser.type("input[name=password]", password)
    browser.click("Log in")


def drop(browser, name, text):
    """As a person does who lets go of a file above the page."""
    browser.js("""const data = new DataTransfer(); data.items.add(new File([arguments[1]], arguments[0]));
        document.querySelector('.drop').dispatchEvent(new DragEvent('drop', {dataTransfer: data, bubbles: true, cancelable: true}))""", name, text)


def test_a_file_is_dropped_and_its_rejects_are_opened(site, browser):
    log_in(browser, "ann", "a wrong password")
    browser.sees("Who are you?", "#said")
    browser.js("document.querySelector('input[name=user]').value = ''")
    log_in(browser, "ann")
    browser.sees("ann of acme", "header")
    browser.sees("live", "#live")
    browser.js("document.querySelector('#into').value = 'strict'")
    drop(browser, "<b>first<i>.csv", "v,w\n1,a\nx,b\n3,c\n")
    browser.sees("ingested", ".virtual")
    assert browser.js("return document.querySelector('.virtual b')") is None, "a name became markup"
    picture(browser, "files")
    browser.click("<b>first<i>.csv")
    browser.sees("Story")
    browser.sees("column 'v'")
    assert browser.text("mark") == "x"
    picture(browser, "file")
    browser.js("location.hash = '#/t/acme/usage'")
    browser.sees("Files of strict")
    browser.click("Log out")
    browser.sees("You are logged out.")
