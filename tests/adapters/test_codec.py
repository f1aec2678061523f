"""Files in and out, and a sentence for everything that can be wrong with one."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from consistent_gen.adapters.adapter import Adapter
from consistent_gen.adapters.codec import dump, load_adapter, save_adapter
from consistent_gen.adapters.references import CharacterRef, Feature, FeatureSpec, read_features
from consistent_gen.checkpoints import load_tensors, save_tensors
from consistent_gen.cli import main
from consistent_gen.errors import CheckpointError, InputError, UnknownNameError
from tests.adapters.toys import SYSTEM_NAMES, noise, small, small_unet, somebody
from tests.every_run import or_slow


@pytest.fixture(scope="module")
def unet() -> Any:
    return small_unet()


# What a file does not say, or says only of published sizes.
SWITCHES: dict[str, dict[str, Any]] = {
    "ip_adapter_plus": {"patches": 5},
    "ip_adapter_full_face": {"patches": 5},
    "faceid_plus": {"patches": 5, "version": 1},
    "pulid": {"patches": 5},
    "consistent_id": {"patches": 5, "order": "semantic"},
    "storymaker": {"patches": 5},
}


def saved(adapter: Adapter, folder: Path) -> Path:
    path = folder / f"{adapter.name}.safetensors"
    save_adapter(path, adapter)
    return path


@pytest.mark.parametrize("dtype", or_slow([torch.float32, torch.bfloat16], [torch.float32]))
@pytest.mark.parametrize("name", SYSTEM_NAMES)
def test_what_is_loaded_is_dumped(name: str, dtype: torch.dtype, unet: Any, tmp_path: Path) -> None:
    """Keys, shapes, formats and bytes; the projector may be in another format than the rest."""
    adapter = small(name, unet)
    adapter.projector.to(dtype)
    path = saved(adapter, tmp_path)
    again = load_adapter(path, unet, **SWITCHES.get(name, {}))
    assert type(again) is type(adapter)
    before, after = load_tensors(path), dump(again)
    assert before.keys() == after.keys()
    assert all(t.dtype == after[k].dtype and torch.equal(t, after[k]) for k, t in before.items())
    if dtype == torch.float32 and name != "faceid_plus":  # that one is loaded as version 1
        mia = [somebody(adapter, 1)]
        with torch.no_grad():
            one, two = adapter.identities(mia).cond, again.identities(mia).cond
            assert torch.allclose(one, two, atol=1e-5)


def test_both_spellings_of_consistent_id(unet: Any, tmp_path: Path) -> None:
    adapter = small("consistent_id", unet)
    theirs = {k.replace("image_proj.", "image_proj_model."): t for k, t in dump(adapter).items()}
    theirs["unet.conv_in.weight"] = torch.zeros(1)  # of a raw checkpoint of training
    path = tmp_path / "raw.safetensors"
    save_tensors(path, theirs)
    again = load_adapter(path, unet, patches=5)
    assert dump(again).keys() == theirs.keys() - {"unet.conv_in.weight"}


def wrong(path: Path, unet: Any, **switches: Any) -> str:
    """The one line that loading this file ends with."""
    with pytest.raises(CheckpointError) as caught:
        load_adapter(path, unet, **switches)
    text = str(caught.value)
    assert str(path) in text and "\n" not in text
    return text


def test_a_file_that_lacks_tensors(unet: Any, tmp_path: Path) -> None:
    for name in ("storymaker", "consistent_id", "faceid"):
        tensors = dump(small(name, unet))
        lost = [key for key in tensors if key.endswith("to_out_lora.up.weight")][-1]
        path = tmp_path / f"{name}.safetensors"
        save_tensors(path, {key: tensor for key, tensor in tensors.items() if key != lost})
        text = wrong(path, unet)
        assert f"lacks 1 of {len(tensors)} tensors, such as {lost}: it is cut short" in text
    path.write_bytes(path.read_bytes()[:-100])
    assert "damaged or cut short" in wrong(path, unet)


def test_a_foreign_file(unet: Any, tmp_path: Path) -> None:
    path = tmp_path / "lora.safetensors"
    save_tensors(path, {"lora_unet_down.up.weight": torch.zeros(2, 2)})
    assert "of no adapter that is known here; nearest is" in wrong(path, unet)
    photomaker = {"id_encoder.fuse_module.mlp1.fc1.weight": torch.zeros(2),
                  "lora_weights.x": torch.zeros(2)}  # fmt: skip
    save_tensors(path, photomaker)
    assert "no adapter that is known here" in wrong(path, unet)
    tensors = {k: t for k, t in dump(small("pulid", unet)).items() if "latents" not in k}
    save_tensors(path, tensors)
    assert "nearest is PuLID, which has id_adapter.latents" in wrong(path, unet)


def test_a_file_with_more_than_its_system_has(unet: Any, tmp_path: Path) -> None:
    path = tmp_path / "more.safetensors"
    save_tensors(path, dump(small("faceid", unet)) | {"image_proj.extra": torch.zeros(2)})
    assert "looks like IP-Adapter-FaceID" in wrong(path, unet)
    assert "image_proj.extra" in wrong(path, unet)


def test_another_base_model(unet: Any, tmp_path: Path) -> None:
    path = saved(small("faceid", unet), tmp_path)
    from diffusers import UNet2DConditionModel

    narrow = UNet2DConditionModel(
        sample_size=8, in_channels=4, out_channels=4, block_out_channels=(32, 64),
        layers_per_block=1, down_block_types=("CrossAttnDownBlock2D",) * 2,
        up_block_types=("CrossAttnUpBlock2D",) * 2, attention_head_dim=(2, 4), norm_num_groups=8,
        cross_attention_dim=32,
    )  # fmt: skip
    text = wrong(path, narrow)
    assert "IP-Adapter-FaceID for a model that reads 64 wide" in text
    assert "its tokens are 64 wide, the model reads 32" in text
    # As wide, with more layers.
    assert "for a model that reads 64 wide with" in wrong(path, small_unet(xl=True))


def test_shapes_and_formats_that_nothing_has(unet: Any, tmp_path: Path) -> None:
    """One line for every odd file: no size, number or format in it is believed."""
    path = tmp_path / "odd.safetensors"

    def said(tensors: dict[str, Tensor]) -> str:
        save_tensors(path, tensors)
        return wrong(path, unet)

    flat = {"image_proj.proj.weight": torch.zeros(4), "image_proj.norm.weight": torch.zeros(2)}
    assert "shapes that this never has" in said(flat)
    empty = {"image_proj.proj.weight": torch.zeros(4, 2), "image_proj.norm.weight": torch.zeros(0)}
    assert "shapes that this never has" in said(empty)
    good = dump(small("faceid", unet))
    for number in ("9" * 5000, "²", "-1", "77777"):
        assert "IP-Adapter-FaceID" in said(good | {f"ip_adapter.{number}.x": torch.zeros(1)})
    key = "ip_adapter.1.to_k_ip.weight"
    assert "number format I8" in said(good | {key: good[key].to(torch.int8)})
    turned = good | {key: good[key].T.contiguous()[:, :3]}
    assert f"whose {key} is (64, 3)" in said(turned)


def test_a_pickle_is_refused_and_the_remedy_named(unet: Any, tmp_path: Path) -> None:
    path = tmp_path / "ip-adapter.bin"
    torch.save({"image_proj": {}}, path)
    assert f"consistent-gen weights convert {path}" in wrong(path, unet)
    assert "is missing" in wrong(tmp_path / "none.safetensors", unet)


def test_a_system_and_switches_by_name(unet: Any, tmp_path: Path) -> None:
    path = saved(small("faceid_plus", unet), tmp_path)
    assert "it is not StoryMaker; nearest is IP-Adapter-FaceID-Plus" in wrong(
        path, unet, system="storymaker"
    )
    with pytest.raises(UnknownNameError, match="did you mean 'storymaker'"):
        load_adapter(path, unet, system="storymakr")
    with pytest.raises(InputError, match="has no such switch: colour"):
        load_adapter(path, unet, colour="red")
    with pytest.raises(InputError, match="no cross-attention layers"):
        load_adapter(path, torch.nn.Linear(2, 2))


# Features: what a character lacks.


def test_another_encoder_is_refused(unet: Any) -> None:
    adapter = small("faceid", unet)
    mia = somebody(adapter, 1)
    feature = Feature(value=noise((1, 16), 1), encoder="dlib/resnet-128")
    with pytest.raises(InputError, match="was read by dlib/resnet-128, and IP-Adapter-FaceID was"):
        adapter.identities([CharacterRef(name="Mia", features={"identity": feature})])
    with pytest.raises(InputError, match="'Mia' lacks 'identity'"):
        adapter.identities([CharacterRef(name="Mia")])
    short = Feature(value=noise((1, 8), 1), encoder=adapter.features[0].encoder)
    with pytest.raises(InputError, match=r"has the shape \(1, 8\)"):
        adapter.identities([CharacterRef(name="Mia", features={"identity": short})])
    with pytest.raises(InputError, match="no character"):
        adapter.identities([])
    with pytest.raises(InputError, match="mask for character 1"):
        adapter.identities([mia], masks={1: torch.ones(4, 4)})


def test_encoders_read_what_is_missing() -> None:
    spec = FeatureSpec(name="identity", shape=(4,), encoder="here/one")
    other = FeatureSpec(name="face", shape=(2, 4), encoder="there/two")

    def one(character: CharacterRef, spec: FeatureSpec) -> Feature:
        return Feature(value=torch.ones(1, *spec.shape), encoder=spec.encoder)

    read = read_features(CharacterRef(name="Mia"), [spec], {"here/one": one})
    assert read.features["identity"].encoder == "here/one"
    assert read_features(read, [spec], {}) == read
    with pytest.raises(InputError, match="nothing here reads 'face'"):
        read_features(read, [spec, other], {"here/one": one})


# Pickles become safetensors.


def pickled(adapter: Adapter, folder: Path, **more: Any) -> tuple[Path, dict[str, Tensor]]:
    tensors = dump(adapter)
    nested: dict[str, Any] = dict(more)
    for key, tensor in tensors.items():
        top, _, rest = key.partition(".")
        nested.setdefault(top, {})[rest] = tensor.detach()
    path = folder / "published.bin"
    torch.save(nested, path)
    return path, tensors


def test_a_published_pickle_is_converted(
    unet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, tensors = pickled(small("storymaker", unet), tmp_path, epoch=3)
    assert main(["weights", "convert", str(path)]) == 2  # nobody is asked here
    told = capsys.readouterr()
    assert "StoryMaker" in told.out and "must not be used commercially" in told.out
    assert "--accept-licence" in told.err
    out = path.with_suffix(".safetensors")
    assert not out.exists()
    assert main(["weights", "convert", str(path), "--accept-licence"]) == 0
    told = capsys.readouterr()
    assert told.out.index("commercially") < told.out.index("tensors:")
    assert "note: epoch is no tensor" in told.err
    again = load_tensors(out)
    assert again.keys() == tensors.keys()
    assert all(torch.equal(tensor, again[key]) for key, tensor in tensors.items())
    load_adapter(out, unet, patches=5)
    assert main(["weights", "convert", str(path), "--accept-licence"]) == 2
    assert "is there already" in capsys.readouterr().err


class Terminal(io.StringIO):
    """Somebody who types an answer."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("answer", "code"), [("n", 1), ("", 1), ("Yes", 0)])
def test_the_licence_is_asked_about(
    answer: str, code: int, unet: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, _ = pickled(small("faceid", unet), tmp_path)
    out = tmp_path / "elsewhere.safetensors"
    monkeypatch.setattr("sys.stdin", Terminal(f"{answer}\n"))
    assert main(["weights", "convert", str(path), "--out", str(out)]) == code
    assert out.exists() == (code == 0)
    assert main(["weights", "convert", str(path), "--out", str(tmp_path / "x.bin")]) == 2


class Trap:
    """What runs when a reader obeys a pickle."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "run")


def test_a_pickle_with_more_than_tensors_is_not_run(
    unet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run.txt"
    path, _ = pickled(small("faceid", unet), tmp_path, trap=Trap(run))
    assert main(["weights", "convert", str(path), "--accept-licence"]) == 2
    assert "holds more than tensors" in capsys.readouterr().err
    assert not run.exists() and not path.with_suffix(".safetensors").exists()


def test_what_cannot_be_converted(
    unet: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def told(path: Path) -> str:
        new = str(tmp_path / "new.safetensors")
        assert main(["weights", "convert", str(path), "--out", new, "--accept-licence"]) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1
        return error

    assert "is missing" in told(tmp_path / "none.bin")
    path, _ = pickled(small("faceid", unet), tmp_path)
    path.write_bytes(path.read_bytes()[:1000])
    assert "is cut short" in told(path)
    torch.save({"x": torch.zeros(2)}, path)
    assert "no adapter that is known here" in told(path)
    torch.save([torch.zeros(2)], path)
    assert "expected named tensors" in told(path)
    itself: dict[str, Any] = {"x": torch.zeros(2)}
    itself |= dict.fromkeys("abcdefgh", itself)
    torch.save(itself, path)
    assert "no published file is like that" in told(path)
    torch.save({"image_proj": {"norm.weight": torch.zeros(1).expand(10**9)}}, path)
    assert "no published file is like that" in told(path)
    assert "is a safetensors file already" in told(saved(small("faceid", unet), tmp_path))
    import zipfile

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "nothing")
    assert "not one that torch wrote" in told(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", "nothing" * 100)
    assert "compressed entries" in told(path)
