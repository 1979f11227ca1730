"""A real Chromium for tests: Debian's, driven by Playwright, with a new profile a page."""

import contextlib
import shutil
import threading
import time
from pathlib import Path

import uvicorn
from playwright.sync_api import sync_playwright

DESKTOP = {"width": 1200, "height": 900}
PHONE = {"width": 375, "height": 740}


def program():
    """Debian's Chromium, None where it is missing."""
    return shutil.which("chromium")


@contextlib.contextmanager
def chromium():
    """The browser; no sandbox, since tests may run as root and load our own pages only."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program(), args=["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        )
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def opened(browser, **options):
    """A page in a profile of its own, and the list of what went wrong in it: console, script, requests."""
    context = browser.new_context(**{"viewport": DESKTOP, **options})
    page = context.new_page()
    wrong = []
    page.on("console", lambda said: wrong.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("requestfailed", lambda request: wrong.append(f"{request.url}: {request.failure}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    try:
        yield page, wrong
    finally:
        context.close()


@contextlib.contextmanager
def served(application):
    """The application on a port of loopback; its URL without a final slash."""
    server = uvicorn.Server(
        uvicorn.Config(application, host="127.0.0.1", port=0, log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until = time.monotonic() + 30
        while not server.started and time.monotonic() < until:
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        thread.join()


ACCESSIBILITY = (Path(__file__).parent / "accessibility.js").read_text()
"""What is wrong with a page for people who do not see it, or see it badly (WCAG 2.2, level AA)."""
