"""Qwen from packages: parts that are joined and checked, and the real model where it is there."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from consistent_gen.errors import CheckpointError, InputError, LimitError, OutputError
from consistent_gen.language.models import Message
from consistent_gen.language.packaged import (
    QWEN_FULL,
    QWEN_HALF,
    Parts,
    QwenSmall,
    cache_folder,
    joined,
)

WHOLE = [b"GGUF-first-", b"second-", b"third"]


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Parts:
    """Three packages on the path, whose parts make one small file."""
    for number, data in enumerate(WHOLE, 1):
        folder = tmp_path / "packages" / f"tiny_parts_{tmp_path.name}_{number}" / "data"
        folder.mkdir(parents=True)
        (folder.parent / "__init__.py").touch()
        (folder / f"part{number:02}.bin").write_bytes(data)
    monkeypatch.syspath_prepend(str(tmp_path / "packages"))
    data = b"".join(WHOLE)
    return Parts(
        title="tiny.gguf",
        prefix=f"tiny_parts_{tmp_path.name}_",
        count=3,
        version="1.2.3",
        size=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def test_parts_are_joined_once(
    parts: Parts, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = joined(parts, tmp_path / "cache")
    assert path.read_bytes() == b"".join(WHOLE)
    assert "joining 3 installed parts" in capsys.readouterr().err
    (tmp_path / "packages" / parts.packages[1] / "data" / "part02.bin").unlink()
    assert joined(parts, tmp_path / "cache") == path
    assert capsys.readouterr().err == ""


def test_a_file_that_is_no_longer_whole_is_joined_again(parts: Parts, tmp_path: Path) -> None:
    path = joined(parts, tmp_path)
    path.write_bytes(b"GGUF")
    assert joined(parts, tmp_path).read_bytes() == b"".join(WHOLE)
    path.write_bytes(b"x" * parts.size)
    assert joined(parts, tmp_path).read_bytes() == b"".join(WHOLE)


def test_missing_parts_are_named_as_pip_wants_them(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "packages" / parts.packages[2] / "data" / "part03.bin").unlink()
    name = parts.packages[2].replace("_", "-")
    with pytest.raises(InputError, match=f"1 of the 3 .* --no-deps {name}==1.2.3$"):
        joined(parts, tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_other_parts_than_expected_are_refused(parts: Parts, tmp_path: Path) -> None:
    (tmp_path / "packages" / parts.packages[0] / "data" / "part01.bin").write_bytes(b"GGUF-other")
    with pytest.raises(CheckpointError, match=r"expected .* reinstall"):
        joined(parts, tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_a_full_disk_is_said_before_anything_is_written(parts: Parts, tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"GB free, the model needs .* XDG_CACHE_HOME"):
        joined(replace(parts, size=10**18), tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_the_packages_are_the_pinned_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned = (Path(__file__).parents[2] / "constraints.txt").read_text(encoding="utf-8").split()
    for model in (QWEN_HALF, QWEN_FULL):
        assert set(model.requirements(model.packages).split()) <= set(pinned)
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert cache_folder() == Path("/somewhere/consistent-gen")


@pytest.mark.slow
def test_the_real_model_reads_offline() -> None:
    try:
        model = QwenSmall()
    except Exception as error:
        if importlib.util.find_spec("xllamacpp") is not None and not isinstance(error, InputError):
            raise
        pytest.skip(f"{error}")
    asked = [
        Message("system", "Answer in one word."),
        Message("user", "My dog is called Bramble. What is my dog called?"),
    ]
    reply = model.chat(asked, max_tokens=8)
    assert "Bramble" in reply and model.chat(asked, max_tokens=8) == reply
    long = [asked[0], Message("user", "word " * 4200), asked[1]]
    assert "Bramble" in model.chat(long, max_tokens=8)
    with pytest.raises(LimitError, match="at most 4,096"):
        model.chat([Message("user", "word " * 6000)], max_tokens=8)
    if sys.platform == "linux":  # a socket file only this user can open, and no port
        table = Path("/proc/net/tcp").read_text() + Path("/proc/net/tcp6").read_text()
        own = {os.readlink(f) for f in Path("/proc/self/fd").iterdir() if f.is_symlink()}
        listening = {f"socket:[{r.split()[9]}]" for r in table.splitlines() if " 0A " in r}
        assert not own & listening
