"""From `make serve` to the first picture in a browser, step by step.

    python -m benchmarks.first_frame --out benchmarks/results/first_frame.json

What a visitor does: start the server, open its address, press Draw on the example story that is
filled in. The clock starts with the command. Needs the extra `dev` (Playwright) and Debian's
chromium; `make serve` has been run once before, so that nothing is installed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmarks.serving_load import ready_url

CHROMIUM = "/usr/bin/chromium"
PATIENCE_MS = 300_000
MOMENTS = {
    "page_s": "#script .cast-card",
    "preview_s": ".frame img.preview",
    "first_frame_s": ".frame img:not(.preview)",
}


@contextmanager
def made(data: str) -> Iterator[str]:
    """Run `make serve` with its data in that folder; gives the address when it is ready."""
    process = subprocess.Popen(
        ["make", "serve", f"SERVE_ARGS=--port 0 --data {data}"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        yield ready_url(process)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def measure() -> dict[str, Any]:
    """Seconds since the command at every moment."""
    from playwright.sync_api import sync_playwright

    found: dict[str, Any] = {"schema": 1}
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        began = time.monotonic()
        with made(folder) as url:
            found["ready_s"] = time.monotonic() - began
            page = browser.new_page()
            page.set_default_timeout(PATIENCE_MS)
            page.goto(url)
            for moment, selector in MOMENTS.items():
                page.wait_for_selector(selector)
                found[moment] = time.monotonic() - began
                if moment == "page_s":
                    page.click("#draw")
            page.wait_for_selector("#status >> text=scenes are drawn.")
            found["story_s"] = time.monotonic() - began
            browser.close()
    return {name: round(value, 2) for name, value in found.items()}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="write the figures to this JSON file")
    options = parser.parse_args(arguments)
    if not Path(CHROMIUM).exists():
        print(f"{CHROMIUM} is missing; on Debian: apt install chromium", file=sys.stderr)
        return 2
    found = measure()
    for name, seconds in found.items():
        if name != "schema":
            print(f"{name.removesuffix('_s').replace('_', ' '):<12}{seconds:>8.2f} s")
    if options.out is not None:
        from consistent_gen.checkpoints import write_json

        write_json(options.out, found)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
