"""Settings of the server: file < environment < flags, typed, checked before anything starts.

A file is YAML with the groups below. A variable is ``CONSISTENT_GEN_<GROUP>_<FIELD>``, such as
``CONSISTENT_GEN_SERVER_PORT=7861``. A flag is ``group.field=value``.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints
from urllib.parse import urlsplit

import yaml

from consistent_gen import config
from consistent_gen.errors import InputError
from consistent_gen.language.endpoints import Endpoint
from consistent_gen.models import OFFLOADS
from consistent_gen.models.loras import LoraFile, lora_option
from consistent_gen.registry import unknown_name
from consistent_gen.runtime import DTYPES

PREFIX = "CONSISTENT_GEN_"
_ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:\d{1,5})?|https?://\[[0-9a-f:]+\](:\d{1,5})?")
MASK = "********"


def default_data_dir() -> Path:
    """``$XDG_DATA_HOME/consistent-gen``, or ``~/.local/share/consistent-gen``."""
    base = os.environ.get("XDG_DATA_HOME")
    return (Path(base) if base else Path.home() / ".local" / "share") / "consistent-gen"


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """Where to listen. ``public_url`` is what links in answers begin with, None for relative ones;
    a path in it is where the studio is, whether a proxy takes it off or leaves it on.

    ``trusted_proxies`` are addresses whose forwarding headers are believed. ``cors_origins`` are
    other sites whose pages may use /v1, with a key where keys are needed. ``drain_s`` bounds the
    time between SIGTERM and the end of the process.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    public_url: str | None = None
    trusted_proxies: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    drain_s: float = 20.0

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise ValueError(f"port is {self.port}; expected 0 (any free one) to 65535")
        _positive(self, "drain_s")
        for origin in self.cors_origins:
            if not _ORIGIN.fullmatch(origin):
                raise ValueError(
                    f"cors_origins has {origin!r}; expected addresses of sites such as "
                    "https://example.org, without a path and each by name"
                )

    @property
    def public_path(self) -> str:
        """The path of ``public_url`` without a slash at its end; empty for none."""
        return urlsplit(self.public_url or "").path.rstrip("/")

    @property
    def is_local(self) -> bool:
        """Whether only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False


@dataclass(frozen=True, kw_only=True)
class AuthSettings:
    """Who may call. With ``keys_file`` every call needs a key; without it anyone on this machine
    may call when ``anonymous`` is set. ``worker_token`` is what drawing processes show; empty means
    one is made at start. ``former_worker_token`` is taken as well, so that workers can be given a
    new one while others still draw.
    """

    keys_file: Path | None = None
    anonymous: bool = True
    worker_token: str = ""
    former_worker_token: str = ""

    def __post_init__(self) -> None:
        for name in ("worker_token", "former_worker_token"):
            if 0 < len(getattr(self, name)) < 16:
                raise ValueError(f"{name} is shorter than 16 characters; use a longer one")


@dataclass(frozen=True, kw_only=True)
class LimitSettings:
    """What one request may ask for, and how much may wait.

    ``size`` bounds a side in pixels, ``size_times`` the area as a multiple of the model's own: four
    times the area takes 2.5 times as long a step on the shipped model, 64 times the area 100 times,
    and while a step runs nobody else's frames go on.
    ``queue`` and ``queued_per_key`` count jobs that are not finished; ``running_per_key`` counts
    frames that are being drawn at once.
    """

    body_bytes: int = 20 << 20
    image_pixels: int = 32_000_000
    frames: int = 64
    steps: int = 150
    size: int = 2048
    size_times: float = 4.0
    queue: int = 256
    running_per_key: int = 16
    queued_per_key: int = 64

    def __post_init__(self) -> None:
        _positive(self, *(f.name for f in dataclasses.fields(self)))


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How frames are drawn. ``model`` is a model folder (None: the shipped one), ``bucket`` the
    rows of a denoiser call (None: measured at start), ``dtype`` the number format to compute in
    (None: see `runtime.dtype`), ``loras`` the LoRA files that act in all that is drawn, as FILE or
    FILE=WEIGHT, ``offload`` how weights wait on the CPU (see `models.load_backbone`),
    ``max_frames`` how many are drawn at once
    (but for users of whom nothing is drawn, see ``painting.capacity``), ``lease_s`` after how many
    seconds of silence a worker counts as dead.
    """

    model: Path | None = None
    bucket: int | None = None
    dtype: str | None = None
    loras: tuple[str, ...] = ()
    offload: str | None = None
    max_frames: int = 8
    preview_every: int = 5
    # For a machine that swaps, or has four times the processes that it has cores for: two calls of
    # a worker that end with its time-out of 10 s, and the pauses between, fit. A process that is
    # started again under its name is known to have died at once, so only one that nobody starts
    # again, or that was stopped, is waited for so long.
    lease_s: float = 30.0

    def __post_init__(self) -> None:
        _positive(self, "max_frames", "lease_s", *(() if self.bucket is None else ("bucket",)))
        if self.dtype is not None and self.dtype not in DTYPES:
            raise ValueError(f"dtype is {self.dtype!r}; expected {', '.join(DTYPES)}")
        if self.offload is not None and self.offload not in OFFLOADS:
            raise ValueError(f"offload is {self.offload!r}; expected {', '.join(OFFLOADS)}")
        if self.preview_every < 0:
            raise ValueError(f"preview_every is {self.preview_every}; expected 0 (none) or more")
        names = [Path(file.path).name for file in self.lora_files]
        if len(set(names)) < len(names):
            raise ValueError(
                "two of loras have one file name; a story could not say which it means"
            )

    @property
    def lora_files(self) -> tuple[LoraFile, ...]:
        """The LoRA files, each with the name by which stories mean it.

        Raises:
            InputError: a weight is out of range.
        """
        files = map(lora_option, self.loras)
        return tuple(dataclasses.replace(file, name=Path(file.path).name) for file in files)


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """Where things are kept. ``quota_bytes`` bounds all stored files, ``owner_quota_bytes`` those
    of one key. ``reserve_bytes`` of the disk are left free, so that there is always room to delete.
    ``retention_days`` None keeps things until they are deleted. A frame is tried ``max_attempts``
    times.
    """

    data_dir: Path = field(default_factory=default_data_dir)
    quota_bytes: int = 20 << 30
    owner_quota_bytes: int = 5 << 30
    reserve_bytes: int = 64 << 20
    retention_days: float | None = None
    max_attempts: int = 3

    def __post_init__(self) -> None:
        _positive(self, "quota_bytes", "owner_quota_bytes", "max_attempts")
        if self.reserve_bytes < 0:
            raise ValueError(f"reserve_bytes is {self.reserve_bytes}; expected 0 or more")
        if self.retention_days is not None:
            _positive(self, "retention_days")


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where jobs, stories and characters are kept. ``url`` is the address of a PostgreSQL database
    that several gateways may share (``postgresql://USER:PASSWORD@HOST/DATABASE``); None is a file
    of SQLite in ``storage.data_dir``, for one gateway. The password may be in ``PGPASSWORD``.
    """

    url: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.url is not None and not self.url.startswith(("postgresql://", "postgres://")):
            # What is there may hold a password.
            raise ValueError("url is not the address of a PostgreSQL database; expected "
                             "postgresql://USER:PASSWORD@HOST:PORT/DATABASE")  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrivacySettings:
    """``log_prompts`` writes prompts to the log (never pictures); ``strip_metadata`` leaves the
    parameters out of pictures.
    """

    log_prompts: bool = False
    strip_metadata: bool = False


@dataclass(frozen=True, kw_only=True)
class SafetySettings:
    """Whether uploads and drawings are checked for pornographic content (`services.safety`; a key
    may say otherwise for itself), and from which probability on they are not kept.
    """

    check: bool = False
    threshold: float = 0.8

    def __post_init__(self) -> None:
        if not 0.0 < self.threshold <= 1.0:
            raise ValueError(f"threshold is {self.threshold}; expected more than 0, 1 at most")


@dataclass(frozen=True, kw_only=True)
class TelemetrySettings:
    """What is told while the server runs: ``log_format`` is text or json, ``traces_url`` where
    OpenTelemetry spans are sent (OTLP over HTTP), None for nowhere.
    """

    log_format: str = "text"
    traces_url: str | None = None

    def __post_init__(self) -> None:
        if self.log_format not in ("text", "json"):
            raise ValueError(f"log_format is {self.log_format!r}; expected text or json")
        if self.traces_url is not None and urlsplit(self.traces_url).scheme not in (
            "http",
            "https",
        ):
            raise ValueError(
                f"traces_url is {self.traces_url!r}; expected an address such as "
                "http://collector:4318/v1/traces"
            )


@dataclass(frozen=True, kw_only=True)
class LanguageSettings:
    """Who speaks for the personas of the lab: ``model`` is ``card`` (the card's own lines, without
    a language model), ``qwen``, ``qwen-small``, ``smollm2``, ``transformers`` with ``folder``, or
    ``endpoint`` with ``url``, the model's ``name`` there and a ``key`` where it asks for one.
    """

    model: str = "card"
    folder: Path | None = None
    url: str = ""
    name: str = ""
    key: str = ""

    def __post_init__(self) -> None:
        known = ("card", "qwen", "qwen-small", "smollm2", "transformers", "endpoint")
        if self.model not in known:
            raise ValueError(f"model is {self.model!r}; expected {', '.join(known)}")
        if self.model == "transformers" and (self.folder is None or not self.folder.is_dir()):
            raise ValueError(f"folder is {self.folder}; a transformers model needs its folder")
        if self.model == "endpoint":
            if not self.name:
                raise ValueError("name is empty; say what the endpoint calls the model")
            Endpoint(url=self.url)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings of a server."""

    server: ServerSettings = field(default_factory=ServerSettings)
    auth: AuthSettings = field(default_factory=AuthSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    storage: StorageSettings = field(default_factory=StorageSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    privacy: PrivacySettings = field(default_factory=PrivacySettings)
    safety: SafetySettings = field(default_factory=SafetySettings)
    telemetry: TelemetrySettings = field(default_factory=TelemetrySettings)
    language: LanguageSettings = field(default_factory=LanguageSettings)

    @property
    def allows_anonymous(self) -> bool:
        """Whether a call without a key is served: on this machine only, and without a key file."""
        return self.auth.anonymous and self.auth.keys_file is None and self.server.is_local

    def check(self) -> None:
        """Refuse settings that fit one by one but not together.

        Raises:
            InputError: another host than this machine without keys; a key file that is missing;
                neither keys nor anonymous callers.
        """
        keys = self.auth.keys_file
        if keys is not None and not keys.is_file():
            raise InputError(f"auth.keys_file is {keys}, which is not a file; create a key first")
        if keys is None and not self.server.is_local:
            raise InputError(
                f"server.host is {self.server.host!r}, which other machines can reach, but "
                "auth.keys_file is not set; create a key file or listen on 127.0.0.1"
            )
        if keys is None and not self.auth.anonymous:
            raise InputError(
                "auth.anonymous is false and auth.keys_file is not set: nobody may call"
            )

    def shown(self) -> dict[str, Any]:
        """The settings as JSON values with secrets masked."""
        values = config.to_json(self)
        for part, name in (
            ("auth", "worker_token"), ("auth", "former_worker_token"), ("store", "url"),
            ("language", "key"),
        ):  # fmt: skip
            if values[part][name]:
                values[part][name] = MASK
        return values


def load_settings(
    file: str | Path | None = None,
    environ: Mapping[str, str] | None = None,
    overrides: Iterable[str] = (),
) -> Settings:
    """Settings from a YAML ``file``, then ``environ`` (None: none), then ``overrides``.

    ``overrides`` are ``"group.field=value"`` with a YAML value; later ones win. The result is not
    yet checked as a whole: call :meth:`Settings.check` before starting a server.

    Raises:
        InputError: a file that cannot be read, an unknown key or variable, a value out of range.
    """
    merged = {} if file is None else _read(Path(file))
    for group, name, value in _from_environ(environ or {}):
        inner = merged.setdefault(group, {})
        if isinstance(inner, dict):
            inner[name] = value
    return config.from_mapping(Settings, merged, overrides, source=file)


def _read(file: Path) -> dict[str, Any]:
    # Loading into the class checks the file by itself, so that its mistakes are told with its name.
    config.load(Settings, file)
    content = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    return {group: dict(fields) for group, fields in content.items()}


def _from_environ(environ: Mapping[str, str]) -> Iterable[tuple[str, str, Any]]:
    groups = get_type_hints(Settings)
    for variable, text in sorted(environ.items()):
        group, _, name = variable.removeprefix(PREFIX).lower().partition("_")
        if not variable.startswith(PREFIX) or group not in groups or not name:
            continue
        hints = get_type_hints(groups[group])
        if name not in hints:
            known = [f"{PREFIX}{group}_{key}".upper() for key in hints]
            raise unknown_name("variable", variable, known, source="environment")
        yield group, name, _value(variable, text, hints[name])


def _value(variable: str, text: str, hint: Any) -> Any:
    options = {hint} if get_origin(hint) is tuple else {hint, *get_args(hint)}
    # Text stays text: a token of digits only must not become a number.
    if options & {str, Path}:
        return None if not text and type(None) in options else text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise InputError(f"{variable} is {text!r}, which is not a YAML value") from None


def _positive(group: Any, *names: str) -> None:
    for name in names:
        if not getattr(group, name) > 0:
            raise ValueError(f"{name} is {getattr(group, name)}; expected more than 0")
