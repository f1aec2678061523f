"""A story's folder is filled as a whole or not at all, and nobody else's files are touched."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from consistent_gen.errors import InputError, OutputError
from consistent_gen.story.output import SCHEMA, check_folder, frame_path, story_folder


def fill(folder: Path, frames: int, mark: str) -> None:
    for index in range(frames):
        (folder / frame_path(index)).write_text(mark)
    for name in ("page.png", "index.html"):
        (folder / name).write_text(mark)
    report = {"schema": SCHEMA, "frames": [{"path": frame_path(i)} for i in range(frames)]}
    (folder / "report.json").write_text(json.dumps(report | {"mark": mark}))


def write(out: Path, frames: int, mark: str) -> None:
    with story_folder(out) as folder:
        fill(folder, frames, mark)


def snapshot(folder: Path) -> dict[str, bytes | None]:
    if not folder.exists():
        return {}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


NAMES = {"frames", "frames/00.png", "frames/01.png", "page.png", "index.html", "report.json"}


def test_a_new_folder_appears_with_its_parents(tmp_path: Path) -> None:
    write(tmp_path / "a" / "b", 2, "new")
    assert set(snapshot(tmp_path / "a" / "b")) == NAMES


def test_an_earlier_story_is_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, 5, "old")
    (out / "notes.txt").write_text("mine")
    (out / "frames" / "sketch.jpg").write_text("mine")
    write(out, 2, "new")
    found = snapshot(out)
    assert set(found) == NAMES | {"notes.txt", "frames/sketch.jpg"}
    assert found["notes.txt"] == b"mine" and found["frames/sketch.jpg"] == b"mine"
    assert found["frames/01.png"] == b"new" and b"new" in (found["report.json"] or b"")


@pytest.mark.parametrize("stop", [RuntimeError, KeyboardInterrupt, SystemExit, OSError])
@pytest.mark.parametrize("earlier", [True, False])
def test_a_failure_leaves_the_folder_as_it_was(
    stop: type[BaseException], earlier: bool, tmp_path: Path
) -> None:
    out = tmp_path / "deep" / "out"
    if earlier:
        write(out, 3, "old")
    before = snapshot(tmp_path)
    expected = OutputError if stop is OSError else stop
    with pytest.raises(expected), story_folder(out) as folder:
        fill(folder, 1, "new")
        raise stop("halfway")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("survivors", range(9))
def test_a_failing_swap_is_undone(
    survivors: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever rename fails, the earlier story is back (5 moves put it away, 4 of 5 bring new)."""
    write(tmp_path / "out", 2, "old")
    before = snapshot(tmp_path)
    real, left = Path.replace, [survivors]

    def replace(self: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] == -1:
            raise OSError(28, "No space left on device")
        return real(self, target)

    with pytest.raises(OutputError, match="No space left"), story_folder(tmp_path / "out") as new:
        fill(new, 2, "new")
        monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.undo()
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize("name", ["page.png", "index.html", "report.json", "frames/00.png"])
def test_files_of_another_origin_are_never_overwritten(name: str, tmp_path: Path) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    before = snapshot(tmp_path)
    with pytest.raises(InputError, match="belongs to no earlier story"):
        write(tmp_path, 1, "new")
    assert snapshot(tmp_path) == before


@pytest.mark.parametrize(
    "report", ["", "[]", "{", '{"schema": 1}', "[" * 9999, '{"schema": "x", "frames": 3}']
)
def test_a_foreign_report_is_not_ours(report: str, tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text(report)
    with pytest.raises(InputError, match="belongs to no earlier story"):
        check_folder(tmp_path)


def test_a_report_cannot_name_files_outside(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write(out, 1, "old")
    (tmp_path / "00.png").write_text("mine")
    paths = ["../00.png", "frames/../../00.png", str(tmp_path / "00.png"), "frames/00.png"]
    report = {"schema": SCHEMA, "frames": [{"path": p} for p in paths]}
    (out / "report.json").write_text(json.dumps(report))
    write(out, 1, "new")
    assert (tmp_path / "00.png").read_text() == "mine"


def test_places_that_cannot_be_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for place in ("file", "file/below", "file/far/below"):
        with pytest.raises(InputError, match="is a file; expected a folder"):
            check_folder(tmp_path / place)
    for place in ("a\0b", "x" * 5000):
        with pytest.raises(InputError, match="cannot be a folder"):
            check_folder(tmp_path / place)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="not writable"):
        check_folder(tmp_path / "out")
