"""The folder of a drawn story: filled beside its place, put there at the end, or not at all.

A folder that is already there keeps every file that is not ours; ours (those that its report.json
names, and page.png, index.html, report.json) are replaced together. When anything fails, the
earlier result is as it was. A file of somebody else's under one of our names is never overwritten.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from consistent_gen.errors import InputError, OutputError
from consistent_gen.story.yaml_tree import shown

FRAMES = "frames"
PAGE, WEB_PAGE, REPORT = "page.png", "index.html", "report.json"
SCHEMA = "consistent_gen.story_report/1"
MAX_REPORT_BYTES = 8 << 20

_FRAME_PATH = re.compile(r"frames/[0-9]{2,4}(\.large)?\.png")


def frame_path(index: int) -> str:
    """Where the picture of frame `index` lies in a story's folder, with a forward slash."""
    return f"{FRAMES}/{index:02d}.png"


def enlarged_path(index: int) -> str:
    """Where the enlarged picture of frame `index` lies, where there is one."""
    return f"{FRAMES}/{index:02d}.large.png"


@contextlib.contextmanager
def story_folder(out: str | Path) -> Iterator[Path]:
    """Give an empty folder to draw into; its files take their place in `out` if the block succeeds.

    Raises:
        InputError: see `check_folder`; raised before the block runs.
        OutputError: the disk is full, or one of our files' names is taken by a folder.
    """
    target = Path(out)
    check_folder(target)
    made = _make(target)
    try:
        with _staging(target) as staging:
            yield staging
            _publish(staging, target)
            made = []
    finally:
        _remove_empty(made)


def check_folder(out: str | Path) -> None:
    """Refuse a place that `story_folder` would refuse, without touching it.

    Raises:
        InputError: `out` is a file or below one, or somebody else's files stand where ours go.
    """
    target = Path(out)
    try:
        target.stat()  # says what exists() keeps to itself: a name too long, a NUL in it
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError(
            f"{shown(str(out))} cannot be a folder: {reason}", source="--out"
        ) from None
    standing = next(p for p in (target, *target.absolute().parents) if p.exists())
    if not standing.is_dir():
        raise InputError(f"{standing} is a file; expected a folder", source="--out")
    if not os.access(standing, os.W_OK | os.X_OK):
        raise InputError(f"{standing} is not writable", source="--out")
    stranger = _stranger(target)
    if stranger is not None:
        message = f"{stranger} is there and belongs to no earlier story; choose another folder"
        raise InputError(message, source="--out")


def _make(target: Path) -> list[Path]:
    """Make `target` and its parents; returns the folders that were not there, innermost first."""
    made: list[Path] = []
    try:
        for folder in reversed([p for p in (target, *target.parents) if not p.exists()]):
            folder.mkdir(exist_ok=True)
            made.insert(0, folder)
    except OSError as error:
        _remove_empty(made)
        message = f"{target} cannot be made: {error.strerror}"
        raise InputError(message, source="--out") from None
    return made


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:  # innermost first; a folder that somebody filled meanwhile stays
        with contextlib.suppress(OSError):
            folder.rmdir()


def _stranger(target: Path) -> Path | None:
    """Something in `target` that stands where our files go and that no earlier story put there."""
    ours = set(earlier_files(target))
    for name in (REPORT, PAGE, WEB_PAGE):
        if (target / name).is_dir() or ((target / name).exists() and name not in ours):
            return target / name
    frames = target / FRAMES
    if frames.exists() and not frames.is_dir():
        return frames
    names = (f"{FRAMES}/{path.name}" for path in sorted(frames.glob("*.png")))
    return next((target / n for n in names if _FRAME_PATH.fullmatch(n) and n not in ours), None)


@contextlib.contextmanager
def _staging(target: Path) -> Iterator[Path]:
    try:
        place = Path(tempfile.mkdtemp(prefix=".drawing-", dir=target))
    except OSError as error:
        message = f"{target} cannot be written: {error.strerror}"
        raise InputError(message, source="--out") from None
    try:
        (place / FRAMES).mkdir()
        yield place
    except OSError as error:
        raise OutputError(f"{target} cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(place, ignore_errors=True)


def _publish(staging: Path, target: Path) -> None:
    """Swap the new files in, the report last; undo every step when one fails."""
    new = [p.relative_to(staging).as_posix() for p in sorted(staging.glob(f"{FRAMES}/*.png"))]
    new += [name for name in (PAGE, WEB_PAGE, REPORT) if (staging / name).exists()]
    # The report goes first and comes last: a folder with one is complete.
    old = [name for name in earlier_files(target) if (target / name).is_file()]
    kept = staging / "earlier"
    (kept / FRAMES).mkdir(parents=True)
    (target / FRAMES).mkdir(exist_ok=True)
    moved: list[tuple[Path, Path]] = []
    try:
        for name in old:
            _move(target / name, kept / name, moved)
        for name in new:
            _move(staging / name, target / name, moved)
    except BaseException:
        for source, destination in reversed(moved):
            destination.replace(source)
        raise


def _move(source: Path, destination: Path, moved: list[tuple[Path, Path]]) -> None:
    source.replace(destination)
    moved.append((source, destination))


def earlier_files(target: Path) -> list[str]:
    """The files of an earlier story in `target`, by its report; none without a report of ours."""
    report = target / REPORT
    try:
        if report.stat().st_size > MAX_REPORT_BYTES:
            return []
        found = json.loads(report.read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            return []
        paths = [str(frame["path"]) for frame in found["frames"]]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return []
    frames = [path for path in paths if _FRAME_PATH.fullmatch(path)]
    large = [enlarged_path(index) for index in range(len(frames))]
    return [REPORT, *frames, *large, PAGE, WEB_PAGE]
