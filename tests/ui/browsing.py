"""What the browser tests need: the server as a process, a browser that notices every fault."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SHOTS = ROOT / "out" / "ui"
CHROMIUM = "/usr/bin/chromium"
PATIENCE_S = 300.0  # a machine may be busy with other things
VIEWS = {"wide": (1280, 900), "narrow": (390, 844)}
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
