"""pyproject.toml, constraints.txt and the files beside them fit together."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from consistent_gen.runtime import REPORTED_PACKAGES

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PIN = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*==[0-9][0-9a-z.]*")
# Tied to a CUDA build of torch, so one pin cannot serve every machine.
UNPINNED = {"xformers"}


def pins() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = (line.split("==") for line in lines if line and not line.startswith("#"))
    return {name: Version(version) for name, version in pairs}


def requirements() -> list[Requirement]:
    texts = [*PROJECT["dependencies"], *(text for extra in EXTRAS.values() for text in extra)]
    found = [Requirement(text) for text in texts]
    return [requirement for requirement in found if requirement.name != PROJECT["name"]]


def test_extras_that_build_on_others_name_real_ones() -> None:
    found = [Requirement(text) for extra in EXTRAS.values() for text in extra]
    named = {extra for r in found if r.name == PROJECT["name"] for extra in r.extras}
    assert named <= set(EXTRAS) and "serve" in named


def test_every_line_of_the_constraints_is_one_exact_public_version() -> None:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    bad = [line for line in lines if not line.startswith("#") and not PIN.fullmatch(line)]
    assert not bad
    names = [line.split("==")[0] for line in lines if not line.startswith("#")]
    assert len(names) == len(set(names))


def test_every_requirement_is_pinned_within_its_range() -> None:
    pinned = pins()
    for requirement in requirements():
        name = canonicalize_name(requirement.name)
        if name in UNPINNED:
            assert name not in pinned
        else:
            assert name in pinned, f"{requirement} is not in constraints.txt"
            assert requirement.specifier.contains(pinned[name]), f"{requirement}, {pinned[name]}"


def test_torch_is_pinned_and_torchvision_is_absent() -> None:
    assert pins()["torch"] == Version("2.13.0")
    assert "torchvision" not in pins()


def test_the_extras_are_those_promised() -> None:
    promised = {
        "client",
        "serve",
        "ui",
        "face",
        "xformers",
        "looks",
        "enlarge",
        "lora",
        "llm",
        "qwen",
        "local",
        "persona",
        "language",
        "encryption",
        "postgres",
        "photos",
        "provenance",
        "otel",
        "ray",
        "safety",
        "dev",
    }
    assert set(EXTRAS) == promised


def test_reported_packages_are_required_ones() -> None:
    required = {canonicalize_name(Requirement(text).name) for text in PROJECT["dependencies"]}
    assert set(REPORTED_PACKAGES) - {PROJECT["name"]} <= required


def test_licence_and_changelog_speak_of_this_version() -> None:
    import consistent_gen

    assert PROJECT["license"] == "Apache-2.0"
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "Apache License" in licence and "Version 2.0, January 2004" in licence
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert f"## [{consistent_gen.__version__}]" in changelog or "## [Unreleased]" in changelog
