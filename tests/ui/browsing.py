"""What the browser tests need: the server as a process, a browser that notices every fault."""

from __future__ import annotations

import contextlib
import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import pytest

from consistent_gen.client import Client

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "out" / "ui"
CHROMIUM = "/usr/bin/chromium"
MARKS = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"needs {CHROMIUM}"),
]
PATIENCE_S = 120.0  # a machine may be busy with other things
VIEWS = {"wide": (1280, 900), "narrow": (390, 844)}
CUT_OFF = ("console: AbortError", "console: Unexpected error Connection errored out")
# Everything that can be focused or pressed needs a name, and pictures an alt text.
NAMELESS = """() => [...document.querySelectorAll(
  'button, input:not([type=hidden]):not([type=file]), select, textarea, [role=tab], img')]
  .filter((node) => node.checkVisibility({ checkVisibilityCSS: true }))
  .filter((node) => node.tagName === 'IMG' ? !node.hasAttribute('alt') : !(
    node.getAttribute('aria-label') || node.getAttribute('aria-labelledby') || node.title
    || node.innerText?.trim() || node.querySelector('img[alt]:not([alt=""])')
    || node.labels?.length || node.closest('label')?.innerText.trim()))
  .map((node) => node.outerHTML.slice(0, 200))"""


class Served:
    """`python -m services.serve` with its data in a folder of the test."""

    def __init__(self, data: Path, *more: str) -> None:
        environ = dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "services.serve", "--port", "0", "--data", str(data), *more],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=ROOT, env=environ,
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self.url = self._wait(r"ready at (http://\S+)")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.log.append(line)
            self._lines.put(line)

    def _wait(self, pattern: str) -> str:
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end and self._process.poll() is None:
            try:
                found = re.search(pattern, self._lines.get(timeout=0.2))
            except queue.Empty:
                continue
            if found:
                return found[1]
        self.stop()
        raise AssertionError(f"the server did not get ready:\n{''.join(self.log[-40:])}")

    def stop(self) -> None:
        """End the process and everything it holds."""
        self._process.terminate()
        try:
            self._process.wait(60)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join(10)
        if self._process.stdout is not None:
            self._process.stdout.close()


class Faults:
    """Console errors, exceptions, bad answers and requests to elsewhere, of every page."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.found: list[str] = []

    def watch(self, page: Any) -> None:
        """Note whatever goes wrong on a page from now on."""
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.found.append(f"exception: {error}"))
        page.on("response", self._response)
        page.on("request", self._request)

    def _console(self, message: Any) -> None:
        if message.type == "error":
            self.found.append(f"console: {message.text[:300]}")

    def _response(self, response: Any) -> None:
        if response.status >= 400:
            self.found.append(f"{response.status} {response.url}")

    def _request(self, request: Any) -> None:
        if not request.url.startswith((self.url, "data:", "blob:")):
            self.found.append(f"asks elsewhere: {request.url}")


class Visit:
    """A browser on the studio at `url`, and the page that is open; `log` are lines of the server's
    log where it is a process of its own.
    """

    view = (1280, 800)

    def __init__(self, url: str, browser: Any, log: list[str]) -> None:
        self.log = log
        self.client = Client(url)
        self.faults = Faults(url)
        size = {"width": self.view[0], "height": self.view[1]}
        self.page = browser.new_context(viewport=size, color_scheme="light").new_page()
        self.page.set_default_timeout(1000 * PATIENCE_S)
        self.faults.watch(self.page)
        self.page.goto(url)
        self.wait("#script .cast-card")

    def wait(self, selector: str) -> None:
        """Wait until something is to be seen. Its element is not handed out: it may be replaced at
        any moment, so what comes next names it once more and finds the one that stands there then.
        """
        self.page.wait_for_selector(selector)

    def keep_typing(self, selector: str, text: str) -> None:
        """Fill a field until the text stays: one that has just been opened gets its first value a
        moment later, sooner than anybody types.
        """
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            self.page.fill(selector, text)
            self.page.wait_for_timeout(1000)
            if self.page.input_value(selector) == text:
                return
        raise AssertionError(f"{selector} does not keep what is typed")

    def reload(self) -> None:
        """Load the page anew. What the page that is left says about its cut connection is no fault:
        whether it gets to say it depends on whether an answer was on its way.
        """
        before = len(self.faults.found)
        self.page.reload()
        left = [fault for fault in self.faults.found[before:] if not fault.startswith(CUT_OFF)]
        self.faults.found[before:] = left

    def until(self, condition: str) -> None:
        """Wait until JavaScript is true."""
        self.page.wait_for_function(condition)

    def tab(self, name: str) -> None:
        """Open a tab."""
        self.page.get_by_role("tab", name=name, exact=True).click()

    def press(self, name: str) -> None:
        """Press the button of that name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def says(self, words: str) -> None:
        """Wait until the line above the board says so."""
        self.wait(f"#status >> text={words}")

    def steps(self, count: int) -> None:
        """Draw with so many steps from now on."""
        box = self.page.locator("#steps input[type=number]")
        if not box.count():
            self.page.get_by_role("button", name="Style and settings").click()
        box.fill(str(count))
        box.press("Tab")

    def say(self, words: str) -> None:
        """Say something to the assistant."""
        box = self.page.locator("#say textarea")
        box.fill(words)
        box.press("Enter")

    def bring_in(self, file: Path) -> None:
        """Import a story file."""
        with self.page.expect_file_chooser() as chooser:
            self.press("Import")
        chooser.value.set_files(file)

    def prompts(self) -> list[str]:
        """What the scenes say."""
        found: list[str] = self.page.eval_on_selector_all(
            "#script .scene-card textarea", "nodes => nodes.map(node => node.value)"
        )
        return found

    @property
    def title(self) -> str:
        """What the story on the desk is called."""
        return str(self.page.input_value("#story-title input, #story-title textarea"))

    def titled(self, title: str) -> None:
        """Wait until the story is called so."""
        field = "document.querySelector('#story-title input, #story-title textarea')"
        self.until(f"{field}.value === '{title}'")

    def saved(self) -> None:
        """Wait until the server has what was typed."""
        self.until("sessionStorage.getItem('studio-unsaved') === null")

    def shoot(self, name: str) -> None:
        """The page as it is."""
        SHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=str(SHOTS / f"{name}.png"))


Visitor = TypeVar("Visitor", bound=Visit)


@contextlib.contextmanager
def visiting(kind: type[Visitor], data: Path) -> Iterator[Visitor]:
    """A visitor of that kind, on a server of its own, until it leaves."""
    served = Served(data)
    try:
        with visiting_at(kind, served.url, served.log) as visitor:
            yield visitor
    finally:
        served.stop()


@contextlib.contextmanager
def visiting_at(kind: type[Visitor], url: str, log: list[str] | None = None) -> Iterator[Visitor]:
    """A visitor of that kind, on a server that runs, until it leaves."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visitor = kind(url, browser, [] if log is None else log)
        try:
            yield visitor
        finally:
            browser.close()
            visitor.client.close()
