"""A page in a headless Chromium."""

import contextlib
import io
import shutil
import threading
import time

import numpy as np
from PIL import Image

from phalanx.viewer.server import close

LOADING = 180_000
"""Time that a page may take on a busy machine without a GPU [ms]."""


@contextlib.contextmanager
def page_at(port):
    """The page that this machine serves at `port`."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "google-chrome", "chromium-browser")
    installed = next(filter(None, map(shutil.which, names)), None)
    options = ["--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--no-sandbox"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=installed, args=options, timeout=LOADING
        )
        page = browser.new_page(viewport={"width": 640, "height": 480})
        page.set_default_timeout(LOADING)
        page.goto(f"http://127.0.0.1:{port}")
        yield page
        browser.close()


@contextlib.contextmanager
def running(view):
    """A view, while it runs in a thread of its own; its server is closed at the end."""
    thread = threading.Thread(target=view.run)
    thread.start()
    try:
        yield view
    finally:
        view.stopped.set()
        thread.join()
        close(view.server)


def page_of(server):
    """The page of a viser server."""
    return page_at(server.get_port())


def choose(page, label, option):
    """Choose from a drop-down list of viser's panel."""
    row = page.get_by_text(label, exact=True).locator("xpath=ancestor::*[.//input][1]")
    row.locator("input").first.click()
    page.get_by_role("option", name=option).click()


def wait_for(condition, seconds=LOADING / 1000):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def pixels(png):
    """(height, width, 3) of a screenshot."""
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
