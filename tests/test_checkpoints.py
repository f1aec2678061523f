from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest
import torch

from consistent_gen import checkpoints
from consistent_gen.checkpoints import (
    atomic_dir,
    atomic_file,
    describe,
    file_sha256,
    folder_sha256,
    load_tensors,
    read_json,
    read_manifest,
    save_tensors,
    verify_manifest,
    weights_folder,
    weights_root,
    write_json,
    write_manifest,
)
from consistent_gen.errors import CheckpointError, OutputError


def everything(folder: Path) -> dict[str, bytes | None]:
    """Every path below ``folder`` (hidden ones too) with its bytes; None for folders."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def test_json_round_trip_and_equal_bytes(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"b": [1, 2.5, None], "a": "ä"})
    write_json(tmp_path / "b.json", {"a": "ä", "b": [1, 2.5, None]})
    assert read_json(tmp_path / "a.json") == {"a": "ä", "b": [1, 2.5, None]}
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_json_refuses_nan_and_leaves_the_old_file(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", 1)
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "a.json", float("nan"))
    assert everything(tmp_path) == {"a.json": b"1\n"}


@pytest.mark.parametrize("content", [None, b"{", b"\xff"])
def test_read_json_names_the_file(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "model_index.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"model_index\.json"):
        read_json(path)


def test_atomic_file_keeps_the_suffix_and_makes_parents(tmp_path: Path) -> None:
    with atomic_file(tmp_path / "new" / "page.png") as temporary:
        assert temporary.suffix == ".png"
        temporary.write_bytes(b"x")
        assert not (tmp_path / "new" / "page.png").exists()
    assert everything(tmp_path) == {"new": None, "new/page.png": b"x"}
    plain = tmp_path / "plain"
    plain.touch()
    assert (tmp_path / "new" / "page.png").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("manager", [atomic_file, atomic_dir])
def test_a_failing_block_changes_nothing(tmp_path: Path, manager: object) -> None:
    target = tmp_path / "target"
    with pytest.raises(ZeroDivisionError), manager(target) as temporary:  # type: ignore[operator]
        where = temporary / "part" if temporary.is_dir() else temporary
        where.write_text("half")
        1 / 0  # noqa: B018
    assert everything(tmp_path) == {}


def test_atomic_dir_replaces_a_folder_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "model"
    for content in ({"a": b"1", "b": b"2"}, {"c": b"3"}):
        with atomic_dir(target) as temporary:
            for name, data in content.items():
                (temporary / name).write_bytes(data)
        assert everything(target) == content
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_atomic_dir_restores_the_old_folder_when_the_swap_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "model"
    with atomic_dir(target) as temporary:
        (temporary / "a").write_bytes(b"1")
    rename = Path.rename

    def refuse(self: Path, to: Path) -> Path:
        # The new folder holds "b"; moving anything else works as ever.
        if (self / "b").exists():
            raise OSError(errno.EIO, "the disk said no")
        return rename(self, to)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OutputError, match="the disk said no"), atomic_dir(target) as temporary:
        (temporary / "b").write_bytes(b"2")
    assert everything(tmp_path) == {"model": None, "model/a": b"1"}


def test_atomic_dir_does_not_replace_a_file(tmp_path: Path) -> None:
    (tmp_path / "model").write_text("precious")
    with pytest.raises(OutputError, match="is a file"), atomic_dir(tmp_path / "model"):
        pass
    assert (tmp_path / "model").read_text() == "precious"


def test_a_place_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for manager in (atomic_file, atomic_dir):
        with pytest.raises(OutputError, match="cannot write"), manager(tmp_path / "file" / "x"):
            pass


def test_an_input_error_inside_the_block_stays_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError), atomic_dir(tmp_path / "out"):
        (tmp_path / "no_such_input").read_bytes()


def test_no_room_inside_the_block_is_an_output_error(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="No room"), atomic_file(tmp_path / "out"):
        raise OSError(errno.ENOSPC, "No room", "elsewhere")


def test_tensors_round_trip_bit_for_bit(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    tensors = {
        "half": torch.randn(3, 4, generator=generator).half(),
        "transposed": torch.randn(3, 4, generator=generator).T,
        "count": torch.tensor(7),
    }
    save_tensors(tmp_path / "a.safetensors", tensors, {"made_by": "test"})
    loaded = load_tensors(tmp_path / "a.safetensors")
    assert loaded.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded[name].dtype == tensor.dtype
        assert torch.equal(loaded[name], tensor)


def test_damaged_missing_and_unsafe_files_are_refused(tmp_path: Path) -> None:
    good = tmp_path / "a.safetensors"
    save_tensors(good, {"x": torch.zeros(100)})
    good.write_bytes(good.read_bytes()[:-40])
    with pytest.raises(CheckpointError, match="damaged"):
        load_tensors(good)
    with pytest.raises(CheckpointError, match="missing"):
        load_tensors(tmp_path / "b.safetensors")
    pickled = tmp_path / "model.bin"
    pickled.write_bytes(pickle.dumps({"x": 1}))
    with pytest.raises(CheckpointError, match=r"not a \.safetensors"):
        load_tensors(pickled)


def test_folder_hash_sees_names_and_contents_but_not_cards(tmp_path: Path) -> None:
    model = tmp_path / "m"
    (model / "unet").mkdir(parents=True)
    (model / "unet" / "config.json").write_text("{}")
    first = folder_sha256(model)
    (model / "README.md").write_text("card")
    (model / ".cache").mkdir()
    (model / ".cache" / "x").touch()
    assert folder_sha256(model) == first
    (model / "unet" / "config.json").write_text("{ }")
    changed = folder_sha256(model)
    (model / "unet" / "config.json").rename(model / "config.json")
    assert len({first, changed, folder_sha256(model)}) == 3


@pytest.mark.parametrize("make", [False, True])
def test_hash_of_no_model(tmp_path: Path, make: bool) -> None:
    if make:
        (tmp_path / "m").mkdir()
    with pytest.raises(CheckpointError, match="not a folder with model files"):
        folder_sha256(tmp_path / "m")


def a_manifest(root: Path) -> None:
    (root / "model").mkdir()
    (root / "model" / "config.json").write_text("{}")
    (root / "reader.safetensors").write_bytes(b"1234")
    made = {"licence": "Apache-2.0", "command": "consistent-gen train", "scores": {"accuracy": 0.5}}
    paths = {"model": "model", "reader": "reader.safetensors"}
    write_manifest(root, {name: describe(root, path, **made) for name, path in paths.items()})


def test_manifest_round_trip(tmp_path: Path) -> None:
    a_manifest(tmp_path)
    entries = read_manifest(tmp_path)
    assert entries["reader"].bytes == 4
    assert entries["reader"].sha256 == file_sha256(tmp_path / "reader.safetensors")
    assert entries["model"].sha256 == folder_sha256(tmp_path / "model")
    assert entries["model"].scores == {"accuracy": 0.5}
    assert verify_manifest(tmp_path) == []


def test_manifest_tells_what_differs(tmp_path: Path) -> None:
    a_manifest(tmp_path)
    (tmp_path / "reader.safetensors").write_bytes(b"4321")
    (tmp_path / "model" / "config.json").write_text("longer")
    content, size = verify_manifest(tmp_path)[::-1]
    assert "reader" in content and "other content" in content
    assert "6 bytes" in size and "says 2" in size
    (tmp_path / "reader.safetensors").unlink()
    assert "is missing" in verify_manifest(tmp_path)[1]


@pytest.mark.parametrize(
    "content", [[], {"schema": 2}, {"schema": 1}, {"schema": 1, "models": {"a": {"path": "x"}}}]
)
def test_what_is_not_a_manifest(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / "manifest.json", content)
    with pytest.raises(CheckpointError, match=r"manifest\.json"):
        read_manifest(tmp_path)


def test_weights_folder_by_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(checkpoints.WEIGHTS_VARIABLE, str(tmp_path))
    (tmp_path / "storyworld").mkdir()
    assert weights_root() == tmp_path
    assert weights_folder("storyworld") == tmp_path / "storyworld"
    with pytest.raises(CheckpointError, match="there are: storyworld"):
        weights_folder("storyword")
    monkeypatch.setenv(checkpoints.WEIGHTS_VARIABLE, str(tmp_path / "none"))
    with pytest.raises(CheckpointError, match=checkpoints.WEIGHTS_VARIABLE):
        weights_root()


def test_weights_lie_in_the_wheel_or_beside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(checkpoints.WEIGHTS_VARIABLE, raising=False)
    package = tmp_path / "consistent_gen"
    package.mkdir()
    monkeypatch.setattr(checkpoints, "__file__", str(package / "checkpoints.py"))
    with pytest.raises(CheckpointError, match="_weights"):
        weights_root()
    (tmp_path / "weights").mkdir()
    assert weights_root() == tmp_path / "weights"
    (package / "_weights").mkdir()
    assert weights_root() == package / "_weights"


def test_reading_the_mask_of_permissions_changes_it_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not Path("/proc/self/status").exists():
        pytest.skip("the system does not tell")
    before = os.umask(0o027)
    try:
        monkeypatch.setattr(os, "umask", lambda mask: pytest.fail("the mask was changed"))
        assert checkpoints._umask() == 0o027
    finally:
        monkeypatch.undo()
        os.umask(before)
