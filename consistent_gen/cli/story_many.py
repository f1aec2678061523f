"""`consistent-gen story --many`: a folder of story files into a folder of finished stories.

The artifact of a story is a folder as `consistent-gen story` makes it, with one more file: which
task made it, and the hashes of what that wrote. It appears by rename. So what was drawn from the
same file, pictures, model and options is known again, and what somebody changed since, such as a
frame that was drawn again by hand, is never replaced.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import (
    SECOND_STAGE,
    atomic_dir,
    file_sha256,
    folder_sha256,
    write_json,
)
from consistent_gen.cli.many import entries_of, list_failed, work
from consistent_gen.cli.story import check_options, drawn, overrides_of
from consistent_gen.errors import ConsistentGenError, InputError
from consistent_gen.models.folders import find_folder
from consistent_gen.story.output import earlier_files
from consistent_gen.story.plan import check_names, loras_of
from consistent_gen.story.script import load_story

SUFFIXES = (".yaml", ".yml")
RECORD = "many.json"
SCHEMA = "consistent_gen.many/1"
# Options that say where and by whom, and so leave no trace in what is drawn.
TRACELESS = {"run", "file", "many", "out", "processes", "ray", "model", "lora", "offload"}


@dataclass(frozen=True)
class StoryTask:
    """One story. key: the hash of all that decides what is drawn. options: of the command."""

    name: str
    file: Path
    key: str
    options: argparse.Namespace
    needs: tuple[str, ...] = ()

    def done(self, root: Path) -> bool:
        """Whether the story lies in `root`, whole, as drawn by such a task or changed since."""
        record = _record(root / self.name)
        if record is None or record["key"] != self.key:
            return False
        return all((root / self.name / path).is_file() for path in record["files"])

    def make(self, root: Path) -> None:
        """Draw it.

        Raises:
            ConsistentGenError: it cannot be drawn, or what lies in its place is not ours.
        """
        place = root / self.name
        record = _record(place)
        if record is None and place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise InputError(f"{place} is there and was not drawn by --many; move it away")
        if record is not None and (by_hand := changed(place)):
            raise InputError(
                f"{place / by_hand[0]} was changed since it was drawn, and the story or an option "
                "is another one now; move the folder away to have it drawn anew"
            )
        with atomic_dir(place) as new:
            if record is not None:  # what somebody laid beside our files stays
                ours = {str(place / path) for path in (RECORD, *record["files"])}
                shutil.copytree(place, new, ignore=_ignoring(ours), dirs_exist_ok=True)
            drawn(self.options, self.file, new, _model, lambda _: nullcontext(), self._tell)
            made = [path for path in earlier_files(new) if (new / path).is_file()]
            files = {path: file_sha256(new / path) for path in made}
            write_json(new / RECORD, {"schema": SCHEMA, "key": self.key, "files": files})

    def _tell(self, line: str) -> None:
        print(f"{self.name}: {line}", file=sys.stderr)


def run(options: argparse.Namespace) -> int:
    """Draw what is missing; 0, or 1 if some stories could not be drawn."""
    check_options(options)
    tasks, refused = story_tasks(options)
    root = Path(options.out)
    failed = work(tasks, refused, root, options)
    for task in tasks:
        if task.name not in failed and changed(root / task.name):
            print(f"note: {task.name} was changed since it was drawn; left so", file=sys.stderr)
    count = len(tasks) + len(refused)
    there = count - len(failed)
    what = "story is" if count == 1 else "stories are"
    print(f"{there} of {count} {what} in {root}", file=sys.stderr)
    return list_failed(failed)


def story_tasks(options: argparse.Namespace) -> tuple[list[StoryTask], dict[str, str]]:
    """The tasks of a folder's story files, and name -> what is wrong with a file that has none.

    Raises:
        InputError: there is no such folder, no story in it, or two of one name.
        CheckpointError: the model's folder is missing.
    """
    files = [file for file in entries_of(options.many) if file.suffix.lower() in SUFFIXES]
    if not files:
        told = f"no story files; expected files named {' or '.join(SUFFIXES)}"
        raise InputError(told, source=options.many)
    names = [file.stem for file in files]
    if twice := {name for name in names if names.count(name) > 1}:
        raise InputError(f"two story files are called {min(twice)!r}", source=options.many)
    kept = argparse.Namespace(**{k: v for k, v in vars(options).items() if k != "run"})
    model = _model_hashes(options.model)
    tasks, refused = [], {}
    for file in files:
        try:
            key = _key(file, model, options)
        except ConsistentGenError as error:
            refused[file.stem] = str(error)
            continue
        tasks.append(StoryTask(file.stem, file.absolute(), key, kept))
    return tasks, refused


def changed(place: Path) -> list[str]:
    """Our files of a story that are there and not as they were drawn."""
    record = _record(place)
    files: Mapping[str, str] = {} if record is None else record["files"]
    there = [path for path in files if (place / path).is_file()]
    return [path for path in there if file_sha256(place / path) != files[path]]


def _key(file: Path, model: list[str], options: argparse.Namespace) -> str:
    story = load_story(file)
    check_names(story, overrides_of(options))
    pictures = [
        _content(file.parent / one)
        for character in story.characters.values()
        for one in character.references
        if isinstance(one, str)
    ]
    loras = [
        (_content(Path(one.path)), one.weight)
        for one in loras_of(story, overrides_of(options), file.parent)
    ]
    told = {name: value for name, value in vars(options).items() if name not in TRACELESS}
    said: list[Any] = [SCHEMA, file.stem, file_sha256(file), pictures, model, told]
    said += [loras] if loras else []
    text = json.dumps(said, sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _content(picture: Path) -> str:
    try:
        return file_sha256(picture) if picture.is_file() else ""
    except OSError:
        return ""  # drawing says what is wrong with it


def _model_hashes(model: str | None) -> list[str]:
    folder = find_folder(model)
    second = folder / SECOND_STAGE
    return [folder_sha256(one) for one in (folder, second) if one == folder or second.is_dir()]


@functools.lru_cache(maxsize=1)
def _model(*said: Any) -> Any:
    """The model, once in a process as long as stories are drawn with the same LoRA files."""
    from consistent_gen.cli.progress import load_model

    return load_model(*said, silent=True)


def _record(place: Path) -> dict[str, Any] | None:
    """Which task drew a story, and name -> hash of what it wrote; None where none says so."""
    try:
        found = json.loads((place / RECORD).read_text(encoding="utf-8"))
        if found["schema"] != SCHEMA:
            return None
        files = {str(path): str(digest) for path, digest in found["files"].items()}
        if any(Path(path).is_absolute() or ".." in Path(path).parts for path in files):
            return None
        return {"key": str(found["key"]), "files": files}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None


def _ignoring(paths: set[str]) -> Callable[[str, list[str]], list[str]]:
    return lambda folder, names: [name for name in names if str(Path(folder, name)) in paths]
