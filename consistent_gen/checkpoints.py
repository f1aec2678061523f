"""The only reader and writer of weight folders: safetensors, JSON, hashes, manifest.

Nothing here unpickles anything, and nothing is seen half-written: files and folders are made
beside their target under a temporary name and renamed into place.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from consistent_gen.errors import CheckpointError, OutputError

if TYPE_CHECKING:
    import torch
    from torch import nn

Network = TypeVar("Network", bound="nn.Module")

WEIGHTS_VARIABLE = "CONSISTENT_GEN_WEIGHTS"
SECOND_STAGE = "refiner"  # folder within a model's folder
MANIFEST = "manifest.json"
MANIFEST_SCHEMA = 1
_CHUNK_BYTES = 1 << 20
# As `tempfile` names what `atomic_file`, `atomic_dir` and `_swap_in` ask it for.
_LEFTOVER = re.compile(r"\.(?P<name>.+?)(?P<old>\.old)?\.[a-z0-9_]{8}(?P<suffix>\.[a-z0-9]+)?")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def weights_root() -> Path:
    """The folder that holds the weights shipped with the package.

    Looked for in this order: the variable ``CONSISTENT_GEN_WEIGHTS``, ``consistent_gen/_weights``
    (where a wheel carries them), ``weights`` beside the package (a checkout).

    Raises:
        CheckpointError: none of them is a folder.
    """
    package = Path(__file__).resolve().parent
    override = os.environ.get(WEIGHTS_VARIABLE)
    places = [Path(override)] if override else [package / "_weights", package.parent / "weights"]
    for place in places:
        if place.is_dir():
            return place
    raise CheckpointError(
        f"no weights folder at {' or '.join(map(str, places))}; "
        f"install the package again or let {WEIGHTS_VARIABLE} name the folder"
    )


def weights_folder(name: str) -> Path:
    """The folder of one shipped model, ``weights_root() / name``.

    Raises:
        CheckpointError: it is not there; the message lists the ones that are.
    """
    root = weights_root()
    folder = root / name
    if not folder.is_dir():
        there = sorted(child.name for child in root.iterdir() if child.is_dir())
        raise CheckpointError(
            f"no model {name!r} in {root}; there are: {', '.join(there) or 'none'}"
        )
    return folder


def write_json(path: str | Path, value: Any) -> None:
    """Write ``value`` as indented JSON with sorted keys, by rename.

    Equal values make equal bytes. NaN and infinity are refused, since JSON has no word for them.

    Raises:
        OutputError: the file cannot be written.
        ValueError: ``value`` holds NaN or infinity.
    """
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False)
    with atomic_file(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def read_json(path: str | Path) -> Any:
    """The value in a JSON file of a weights folder.

    Raises:
        CheckpointError: the file is missing or is not JSON.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path} is missing") from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read as JSON: {error}") from error


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to; rename it to ``path`` if the block succeeds.

    The temporary name keeps the suffix, since image writers choose their format by it. Parent
    folders are made. On any failure ``path`` is as it was and nothing is left behind.

    Raises:
        OutputError: the folder or the file cannot be written.
    """
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(
            prefix=f".{target.stem}.", suffix=target.suffix, dir=target.parent
        )
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(target)
    except OSError as error:
        raise _as_output_error(error, temporary, target) from error
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_dir(path: str | Path) -> Iterator[Path]:
    """Give an empty temporary folder; put it in the place of ``path`` if the block succeeds.

    A folder that was at ``path`` is replaced as a whole and restored if the swap fails. The
    temporary folder is a neighbour of ``path``, so the rename stays on one file system.

    Raises:
        OutputError: ``path`` is a file, or the place cannot be written.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise OutputError(f"{target} is a file; expected a folder or a free name")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise OutputError(f"cannot write {target}: {error.strerror or error}") from error
    try:
        yield temporary
        temporary.chmod(0o777 & ~_umask())
        _swap_in(temporary, target)
    except OSError as error:
        raise _as_output_error(error, temporary, target) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def clear_leftovers(folder: str | Path, names: Collection[str]) -> None:
    """Put right what killed writers of `atomic_file` and `atomic_dir` left in a folder: what is
    half made goes, and what was moved aside comes back where nothing has taken its place.

    names: of files (without suffix) and folders that nobody is writing now; others are not touched.
    """
    for place in sorted(Path(folder).iterdir()):
        found = _LEFTOVER.fullmatch(place.name)
        if found is None or found["name"] not in names:
            continue
        if not place.is_dir():
            if found["suffix"]:  # of a file of ours, never a hidden file without one
                place.unlink()
            continue
        aside, target = place / "old", Path(folder) / found["name"]
        if found["old"] and aside.is_dir() and not target.exists():
            aside.rename(target)
        shutil.rmtree(place)


def save_tensors(
    path: str | Path,
    tensors: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Write named tensors (any shape and number format) as one safetensors file, by rename."""
    from safetensors.torch import save_file

    ready = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_file(path) as temporary:
        save_file(ready, temporary, metadata=dict(metadata or {}))


def load_tensors(path: str | Path, device: str | torch.device = "cpu") -> dict[str, torch.Tensor]:
    """Read every tensor of a safetensors file.

    Raises:
        CheckpointError: the file is missing, is not safetensors, or is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    source = Path(path)
    if source.suffix != ".safetensors":
        raise CheckpointError(
            f"{source} is not a .safetensors file; other formats can run code when they are read"
        )
    if not source.is_file():
        raise CheckpointError(f"{source} is missing")
    try:
        return load_file(source, device=str(device))
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{source} is damaged: {error}") from error


def save_network(
    folder: str | Path, network: nn.Module, told: Mapping[str, Any], dtype: torch.dtype
) -> None:
    """Write the weights of a network of ours as `dtype`, and what it is made with: `told`, with its
    "kind", as config.json.
    """
    write_json(Path(folder) / "config.json", told)
    tensors = {name: tensor.to(dtype) for name, tensor in network.state_dict().items()}
    save_tensors(Path(folder) / "model.safetensors", tensors)


def load_network(
    folder: str | Path, kind: str, make: Callable[[dict[str, Any]], Network]
) -> Network:
    """Read what `save_network` wrote, as float32, ready to answer.

    make: the network with weights of chance, of what config.json says.

    Raises:
        CheckpointError: the folder is missing, damaged, or holds another kind of network.
    """
    config = read_json(Path(folder) / "config.json")
    if not isinstance(config, dict) or config.get("kind") != kind:
        found = config.get("kind") if isinstance(config, dict) else type(config).__name__
        raise CheckpointError(f"{folder} holds a {found!r}; expected a {kind!r}")
    tensors = load_tensors(Path(folder) / "model.safetensors")
    try:
        network = make(config)
        network.load_state_dict({name: tensor.float() for name, tensor in tensors.items()})
    except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
        what = str(error).splitlines()[0]
        raise CheckpointError(f"{folder} does not fit its config.json: {what}") from None
    return network.eval()


def file_sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def folder_sha256(path: str | Path) -> str:
    """Hex SHA-256 that names a model folder: relative paths and contents of its files.

    Markdown and hidden files do not count, so that mending a model card leaves the name alone.

    Raises:
        CheckpointError: the folder is missing or holds nothing that counts.
    """
    folder = Path(path)
    files = model_files(folder)
    if not files:
        raise CheckpointError(f"{folder} is not a folder with model files")
    digest = hashlib.sha256()
    for relative in files:
        digest.update(f"{relative}\0{file_sha256(folder / relative)}\n".encode())
    return digest.hexdigest()


def model_files(folder: str | Path) -> list[str]:
    """Sorted relative POSIX paths of the files that make up a model folder.

    A second stage in it (`SECOND_STAGE`) is a model of its own, with a name of its own: pictures
    that the first one drew alone stay pictures of the same model.
    """
    root = Path(folder)
    found = []
    for file in root.rglob("*"):
        relative = file.relative_to(root)
        hidden = any(part.startswith((".", "__pycache__")) for part in relative.parts)
        if relative.parts[0] == SECOND_STAGE:
            continue
        if file.is_file() and not hidden and file.suffix != ".md":
            found.append(relative.as_posix())
    return sorted(found)


@dataclass(frozen=True, kw_only=True)
class ManifestEntry:
    """One model of the weights folder: what it weighs, where it comes from, how good it is."""

    path: str  # folder or file, relative to the weights folder
    bytes: int
    sha256: str  # folder_sha256 of a folder, file_sha256 of a file
    licence: str  # SPDX name
    command: str  # what made it
    scores: Mapping[str, Any] = field(default_factory=dict)


def describe(
    root: str | Path, path: str, *, licence: str, command: str, scores: Mapping[str, Any]
) -> ManifestEntry:
    """The manifest entry of ``root / path`` as it lies on disk now."""
    place = Path(root) / path
    size, sha256 = _measure(place)
    return ManifestEntry(
        path=path, bytes=size, sha256=sha256, licence=licence, command=command, scores=scores
    )


def write_manifest(root: str | Path, entries: Mapping[str, ManifestEntry]) -> None:
    """Write ``manifest.json`` into the weights folder ``root``; keys are the models' names."""
    models = {name: asdict(entry) for name, entry in entries.items()}
    write_json(Path(root) / MANIFEST, {"schema": MANIFEST_SCHEMA, "models": models})


def read_manifest(root: str | Path) -> dict[str, ManifestEntry]:
    """The entries of ``manifest.json`` in the weights folder ``root``.

    Raises:
        CheckpointError: the manifest is missing, of another schema, or misses a field.
    """
    source = Path(root) / MANIFEST
    content = read_json(source)
    if not isinstance(content, dict) or content.get("schema") != MANIFEST_SCHEMA:
        raise CheckpointError(f"{source}: expected an object with schema {MANIFEST_SCHEMA}")
    try:
        return {name: ManifestEntry(**entry) for name, entry in content["models"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"{source} is not a manifest: {error}") from error


def verify_manifest(root: str | Path) -> list[str]:
    """What differs between the manifest and the files, one sentence each; empty if all agree."""
    faults = []
    for name, entry in sorted(read_manifest(root).items()):
        place = Path(root) / entry.path
        if not place.exists():
            faults.append(f"{name}: {entry.path} is missing")
            continue
        size, sha256 = _measure(place)
        if size != entry.bytes:
            faults.append(f"{name}: {entry.path} has {size} bytes, the manifest says {entry.bytes}")
        elif sha256 != entry.sha256:
            faults.append(f"{name}: {entry.path} has other content than the manifest says")
    return faults


def _measure(place: Path) -> tuple[int, str]:
    if place.is_dir():
        size = sum((place / relative).stat().st_size for relative in model_files(place))
        return size, folder_sha256(place)
    if place.is_file():
        return place.stat().st_size, file_sha256(place)
    raise CheckpointError(f"{place} is missing")


def _swap_in(temporary: Path, target: Path) -> None:
    if not target.exists():
        temporary.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    try:
        target.rename(aside / "old")
        try:
            temporary.rename(target)
        except OSError:
            (aside / "old").rename(target)
            raise
    except OSError:
        # rmdir and not rmtree: should the old folder be stuck in there, it must survive.
        with contextlib.suppress(OSError):
            aside.rmdir()
        raise
    shutil.rmtree(aside, ignore_errors=True)


def _as_output_error(error: OSError, temporary: Path, target: Path) -> Exception:
    # The caller's block may fail for reasons of its own, such as an input that is missing; only
    # what concerns the place of writing becomes an OutputError.
    ours = error.filename is None or str(error.filename).startswith(str(temporary))
    if error.errno is None or not (ours or error.errno in _NO_ROOM):
        return error
    return OutputError(f"cannot write {target}: {error.strerror}")


def _umask() -> int:
    # By asking the system where it tells: setting the mask to read it changes it for a moment for
    # all threads, and what one of them creates then is open to others or closed to its own group.
    with contextlib.suppress(OSError, ValueError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    mask = os.umask(0o022)
    os.umask(mask)
    return mask
