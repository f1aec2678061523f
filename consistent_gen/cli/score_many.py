"""`consistent-gen score --many`: the scores of every folder in a folder, a JSON file each.

A file holds what `consistent-gen score --json` prints, and the hash of all that decided it, so that
folders that did not change since are not scored again.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import MANIFEST, file_sha256, folder_sha256, weights_root
from consistent_gen.checkpoints import write_json as write
from consistent_gen.cli.many import entries_of, list_failed, work
from consistent_gen.cli.score import SCHEMA, scores_of
from consistent_gen.errors import InputError
from consistent_gen.story.output import FRAMES, REPORT

# Options that say where and by whom, and so leave no trace in scores.
TRACELESS = {"run", "folder", "many", "out", "processes", "ray", "json"}


@dataclass(frozen=True)
class ScoreTask:
    """One folder of pictures. key: the hash of all that decides its scores. options: of the
    command.
    """

    name: str
    folder: Path
    key: str
    options: argparse.Namespace
    needs: tuple[str, ...] = ()

    def done(self, root: Path) -> bool:
        """Whether the scores are in `root`."""
        found = read_scores(root / f"{self.name}.json")
        return found is not None and found.get("key") == self.key

    def make(self, root: Path) -> None:
        """Score it.

        Raises:
            ConsistentGenError: no picture can be read, or somebody else's file is in the place.
        """
        place = root / f"{self.name}.json"
        if place.exists() and read_scores(place) is None:
            raise InputError(f"{place} is there and holds no scores; move it away")
        found = scores_of(self.options, self.folder)
        write(place, {"schema": SCHEMA, "key": self.key, **found.plain()})


def run(options: argparse.Namespace) -> int:
    """Score what is missing and print a line a folder; 0, or 1 if some could not be scored."""
    tasks = score_tasks(options)
    root = Path(options.out)
    failed = work(tasks, {}, root, options)
    found = {
        task.name: read_scores(root / f"{task.name}.json")
        for task in tasks
        if task.name not in failed
    }
    if options.json:
        print(json.dumps({"schema": SCHEMA, "folders": found, "failed": failed}, indent=2))
    else:
        for name, scores in found.items():
            print(f"{name}: {_line(scores or {})}")
    return list_failed(failed)


def score_tasks(options: argparse.Namespace) -> list[ScoreTask]:
    """The tasks of the folders in a folder; of a finished story its frames are scored.

    Raises:
        InputError: there is no such folder, none in it, or a file that an option names is missing.
        CheckpointError: the weights are missing.
    """
    folders = [folder for folder in entries_of(options.many) if folder.is_dir()]
    if not folders:
        raise InputError("no folders in it; to score the folder itself leave out --many",
                         source=options.many)  # fmt: skip
    kept = argparse.Namespace(**{k: v for k, v in vars(options).items() if k != "run"})
    told = {name: value for name, value in vars(options).items() if name not in TRACELESS}
    given = [*options.reference, *([options.prompts] if options.prompts else [])]
    common = [SCHEMA, told, [_content(Path(path)) for path in given], _networks(options.model)]
    tasks = []
    for folder in folders:
        is_story = (folder / REPORT).is_file() and (folder / FRAMES).is_dir()
        pictures = folder / FRAMES if is_story else folder
        there = [
            [path.name, _content(path)] for path in sorted(pictures.iterdir()) if path.is_file()
        ]
        text = json.dumps([folder.name, there, common], sort_keys=True)
        key = hashlib.sha256(text.encode()).hexdigest()
        tasks.append(ScoreTask(folder.name, pictures.absolute(), key, kept))
    return tasks


def _content(path: Path) -> str:
    try:
        return file_sha256(path)
    except OSError as error:
        return f"cannot be read: {error.strerror}"  # scoring says so, too


def _networks(model: str | None) -> list[str]:
    """What names the networks that may look: the manifest of the shipped ones, and a folder's."""
    manifest = weights_root() / MANIFEST
    named = [file_sha256(manifest)] if manifest.is_file() else []
    return [*named, *([] if model is None else [folder_sha256(model)])]


def read_scores(place: Path) -> dict[str, Any] | None:
    """The scores in a file, None if there are none."""
    try:
        found = json.loads(place.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found.get("schema") == SCHEMA else None


def _line(scores: dict[str, Any]) -> str:
    values = {name: value for name, value in scores["values"].items() if value is not None}
    told = ", ".join(f"{name} {value:.3f}" for name, value in values.items())
    return f"{told or 'no score applies'} (backend {scores['backend']})"
