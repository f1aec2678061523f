"""`consistent-gen models` and `consistent-gen version`: what is there to draw with."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from consistent_gen import __version__
from consistent_gen.errors import CheckpointError
from consistent_gen.models import BACKBONES, DEFAULT_MODEL


def add_commands(commands: Any) -> None:
    """Add `models` and `version` to the commands of `consistent-gen`."""
    models = commands.add_parser(
        "models",
        help="list the models that can be drawn with",
        description="List the shipped models and the families of model folders that can be loaded.",
    )
    models.add_argument("--model", metavar="DIR", help="a model folder, for --words")
    models.add_argument(
        "--words", action="store_true", help="print the words that the model knows, one per line"
    )
    models.set_defaults(run=run_models)
    version = commands.add_parser(
        "version",
        help="print the versions of this program and what it runs on",
        description="Print the version of this program, of Python and of the libraries in use.",
    )
    version.set_defaults(run=run_version)


def run_models(options: argparse.Namespace) -> int:
    """List models, or the words of one."""
    if options.words:
        _print_words(options.model)
    else:
        _print_models()
    return 0


def _print_words(path: str | None) -> None:
    from consistent_gen.cli.progress import load_model

    words = load_model(path).vocabulary()
    if words is None:
        print("this model reads any word")
    else:
        print("\n".join(sorted(words)))


def _print_models() -> None:
    from consistent_gen.checkpoints import read_manifest, weights_root

    try:
        root = weights_root()
        folders = sorted(p for p in root.iterdir() if (p / "model_index.json").is_file())
    except (CheckpointError, OSError):
        root, folders = Path(), []
    shipped = {e.path: e for e in _manifest(root, read_manifest).values()} if folders else {}
    if not folders:
        print("no model is installed")
    for folder in folders:
        entry = shipped.get(folder.name)
        facts = f"  {entry.bytes / 1e6:.0f} MB  {entry.licence}" if entry else ""
        default = "  (default)" if folder.name == DEFAULT_MODEL else ""
        print(f"{folder.name}{facts}  {folder}{default}")
    print(
        f"--model DIR takes any safetensors folder in diffusers format of: {', '.join(BACKBONES)}"
    )


def _manifest(root: Path, read: Any) -> Any:
    try:
        return read(root)
    except CheckpointError:
        return {}


def run_version(options: argparse.Namespace) -> int:
    """Print versions, one per line."""
    from consistent_gen.runtime import versions

    found = {"consistent-gen": __version__, **versions()}
    for name, version in found.items():
        print(f"{name} {version}")
    return 0
