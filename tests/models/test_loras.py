"""LoRA files in the loader: what they add, and what of them is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from consistent_gen.attention.layers import find_sites
from consistent_gen.checkpoints import file_sha256, load_tensors, save_tensors
from consistent_gen.errors import CheckpointError, ConsistentGenError, InputError, LimitError
from consistent_gen.models import load_backbone
from consistent_gen.models.backbone import Backbone
from consistent_gen.models.loras import LoraFile, lora_option
from consistent_gen.models.tiny import build_tiny
from consistent_gen.models.tiny_transformers import Kind, build_tiny_transformer
from tests.every_run import or_slow
from tests.models.lora_toys import diffusers_file, kohya_file, parts_of, trained
from tests.models.stock import stock_pipeline

WORDS = ["a red fox", "a cat"]


@pytest.fixture(scope="module")
def file(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    copy = load_backbone(tiny_folder, device="cpu")
    layers = trained(parts_of(copy, "text_encoder"))
    return diffusers_file(tmp_path_factory.mktemp("loras") / "hat.safetensors", layers)


def predicted(model: Backbone) -> torch.Tensor:
    """One call of a UNet, text included."""
    shape = (2, *model.latent_shape(128, 128))
    x = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return model.denoise(x, torch.tensor([500, 100]), model.encode_prompt(WORDS))


def by_diffusers(folder: Path, *files: tuple[Path, float]) -> torch.Tensor:
    """The same with `load_lora_weights` and `set_adapters` of diffusers' own pipeline."""
    pipe = stock_pipeline(folder)
    for number, (file, _) in enumerate(files):
        pipe.load_lora_weights(str(file), adapter_name=f"n{number}")
    pipe.set_adapters([f"n{i}" for i in range(len(files))], [weight for _, weight in files])
    ids = pipe.tokenizer(WORDS, padding="max_length", max_length=24, return_tensors="pt").input_ids
    x = torch.randn((2, 16, 16, 16), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        return pipe.unet(x, torch.tensor([500, 100]), pipe.text_encoder(ids)[0]).sample


@pytest.mark.slow  # a frame with one file is held to diffusers' own in `engine/test_loras`
@pytest.mark.filterwarnings("ignore:Already found a `peft_config`")  # of diffusers' own
def test_layers_act_as_in_diffusers_own_pipeline(
    tiny: Backbone, tiny_folder: Path, file: Path, tmp_path: Path
) -> None:
    """In both forms, with weights, with alphas in a header, and two at once in either order."""
    second = trained(parts_of(load_backbone(tiny_folder, device="cpu")), seed=1)
    told = {"unet.r": 3, "unet.lora_alpha": 6, "unet.target_modules": ["to_q", "to_k", "to_v"]}
    told |= {"unet.rank_pattern": {"to_k": 2}, "unet.alpha_pattern": {"attn1.to_v": 5}}
    told["unet.target_modules"] = [*told["unet.target_modules"], "to_out.0", "conv1"]
    other = diffusers_file(tmp_path / "other.safetensors", second)
    save_tensors(other, load_tensors(other), {"lora_adapter_metadata": json.dumps(told)})
    files = [LoraFile(path=file, weight=0.7), LoraFile(path=other, weight=-0.5)]
    model = load_backbone(tiny_folder, device="cpu", loras=files)
    found, expected = predicted(model), by_diffusers(tiny_folder, (file, 0.7), (other, -0.5))
    assert (found - expected).abs().max() <= 1e-4
    assert (found - predicted(tiny)).abs().max() > 1e-2
    turned = load_backbone(tiny_folder, device="cpu", loras=files[::-1])
    assert torch.equal(predicted(turned), found)
    assert turned.sha256 == model.sha256 and turned.loras == model.loras


def test_kohya_files_keep_every_alpha(tiny_folder: Path, tmp_path: Path) -> None:
    """Of text encoders, too, where diffusers' loader loses those that differ: so by arithmetic."""
    layers = trained(parts_of(load_backbone(tiny_folder, device="cpu"), "text_encoder"))
    alphas = (1.0, 4.0)
    file = kohya_file(tmp_path / "k.safetensors", layers, alphas)
    model = load_backbone(tiny_folder, device="cpu", loras=[LoraFile(path=file, weight=0.5)])
    for part, own in layers.items():
        names = sorted({key.partition(".lora_")[0] for key in own})
        for number, name in enumerate(names):
            layer: Any = parts_of(model, "text_encoder")[part].get_submodule(name)
            a, b = (own[f"{name}.lora_{which}.weight"] for which in "AB")
            scale = 0.5 * alphas[number % 2] / len(a)
            delta = scale * torch.einsum("or,ri->oi", b.flatten(1), a.flatten(1))
            (adapter,) = layer.lora_A
            assert torch.allclose(layer.get_delta_weight(adapter).flatten(1), delta, atol=1e-5)


def test_weight_0_is_no_lora_and_yet_is_checked(
    tiny: Backbone, tiny_folder: Path, file: Path, tmp_path: Path
) -> None:
    model = load_backbone(tiny_folder, device="cpu", loras=[LoraFile(path=file, weight=0)])
    assert (model.loras, model.sha256) == ((), tiny.sha256)
    assert torch.equal(predicted(model), predicted(tiny))
    foreign = tmp_path / "x.safetensors"
    save_tensors(foreign, {"weight": torch.zeros(2)})
    with pytest.raises(CheckpointError, match="is no LoRA"):
        load_backbone(tiny_folder, device="cpu", loras=[LoraFile(path=foreign, weight=0)])


def test_a_model_has_another_name_with_a_lora_and_the_same_layers(
    tiny: Backbone, tiny_folder: Path, file: Path
) -> None:
    one, half = (
        load_backbone(tiny_folder, device="cpu", loras=[LoraFile(path=file, weight=weight)])
        for weight in (1.0, 0.5)
    )
    assert len({tiny.sha256, one.sha256, half.sha256}) == 3
    assert one.folder_sha256 == tiny.folder_sha256 == tiny.sha256
    assert one.loras[0].sha256 == file_sha256(file)
    assert find_sites(one.denoiser) == find_sites(tiny.denoiser)
    assert not any(p.requires_grad for p in one.denoiser.parameters())


@pytest.mark.parametrize("kind", or_slow(["xl", "sd3", "flux-schnell", "qwen", "klein"], ["sd3"]))
def test_every_family_takes_them_in_denoiser_and_text(kind: str, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    transformer: Kind = kind  # type: ignore[assignment]
    build_tiny(folder, xl=True) if kind == "xl" else build_tiny_transformer(folder, transformer)
    clip = ["text_encoder", "text_encoder_2"]
    texts = {"flux-schnell": clip[:1], "qwen": [], "klein": []}.get(kind, clip)
    layers = trained(parts_of(load_backbone(folder, device="cpu"), *texts))
    file = diffusers_file(tmp_path / "l.safetensors", layers)
    model = load_backbone(folder, device="cpu", loras=[file])
    pipe = stock_pipeline(folder)
    pipe.load_lora_weights(str(file), adapter_name="x")
    inputs = torch.tensor([[1, 4, 5, 2]])
    for part, network in parts_of(model, *texts).items():
        theirs = dict(getattr(pipe, part).named_modules())
        adapted = [(n, m) for n, m in network.named_modules() if hasattr(m, "lora_A")]
        assert {n for n, m in theirs.items() if hasattr(m, "lora_A")} == {n for n, _ in adapted}
        for name, module in adapted:
            deltas = [m.get_delta_weight(next(iter(m.lora_A))) for m in (module, theirs[name])]
            assert torch.allclose(*deltas, atol=1e-6), name
        if part != model.seam.part:
            with torch.inference_mode():
                ours, stock = (n(inputs)[0] for n in (network, getattr(pipe, part)))
            assert torch.allclose(ours, stock, atol=1e-5)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-200])


def change(edit: Callable[[dict[str, torch.Tensor]], Any]) -> Callable[[Path], None]:
    def apply(file: Path) -> None:
        tensors = load_tensors(file)
        edit(tensors)
        save_file(tensors, file)

    return apply


QUERY = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (cut, "damaged"),
        (change(dict.clear), "is no LoRA"),
        (change(lambda t: t.update({"<hat>": torch.zeros(2, 32)})), "is a textual inversion"),
        (change(lambda t: t.pop(f"{QUERY}.lora_B.weight")), "lacks one of its two matrices"),
        (change(lambda t: t.update({f"{QUERY}.lora_A.weight": torch.zeros(3, 7)})),
         r"1 of its \d+ layers do not fit tiny; unet.*to_q maps 7 to 16 in the file and 16 to 16"),
        (change(lambda t: t.update({f"{QUERY}.dora_scale": torch.zeros(16)})), "holds a DoRA"),
        (change(lambda t: t.update({"unet.conv_in.lokr_w1": torch.zeros(2)})), "holds a LoKr"),
        (change(lambda t: t.update({"text_encoder_3.x.lora_A.weight": torch.zeros(2, 2)})),
         r"layers of text_encoder_3, which tiny lacks.*\(it can in unet, text_encoder\)"),
        (change(lambda t: t.update({"unet.norm.weight": torch.zeros(2)})), "no part of a LoRA"),
        (change(lambda t: t.update({"unet.a.lora_A.weight": torch.zeros(1, 1),
                                    "unet.a.lora_B.weight": torch.zeros(1, 1)})),
         "it has no layer unet.a"),
        (change(lambda t: t[f"{QUERY}.lora_A.weight"].fill_(float("nan"))), "not finite"),
    ],
)  # fmt: skip
def test_what_would_not_act_is_refused(
    tiny_folder: Path, file: Path, tmp_path: Path, damage: Callable[[Path], None], words: str
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    wrong.write_bytes(file.read_bytes())
    damage(wrong)
    with pytest.raises(CheckpointError, match=words) as told:
        load_backbone(tiny_folder, device="cpu", loras=[wrong])
    assert "\n" not in str(told.value) and str(wrong) in str(told.value)


def test_a_header_cannot_choose_what_is_built(
    tiny_folder: Path, file: Path, tmp_path: Path
) -> None:
    wrong = tmp_path / "wrong.safetensors"
    for told, words in (
        ("[", "no JSON object"),
        (json.dumps({"unet.use_dora": True}), "use_dora"),
        (json.dumps({"unet.lora_alpha": 3, "unet.alpha_pattern": {"(a+)+$": 1}}), "no alpha"),
    ):
        save_tensors(wrong, load_tensors(file), {"lora_adapter_metadata": told})
        with pytest.raises(CheckpointError, match=words):
            load_backbone(tiny_folder, device="cpu", loras=[wrong])


def test_files_of_another_family_and_files_that_are_none(
    tiny_folder: Path, file: Path, tmp_path: Path
) -> None:
    flux = build_tiny_transformer(tmp_path / "flux", "flux-schnell")
    with pytest.raises(CheckpointError, match=r"layers of unet, which flux lacks.*transformer"):
        load_backbone(flux, device="cpu", loras=[file])
    pickled = tmp_path / "a.pt"
    pickled.write_bytes(b"\x80\x04N.")
    cases: list[tuple[type[ConsistentGenError], Any, str]] = [
        (CheckpointError, [pickled], "other formats can run code"),
        (CheckpointError, [tmp_path / "none.safetensors"], "no LoRA file"),
        (LimitError, [LoraFile(path=file, weight=11)], "expected a number from -10 to 10"),
        (InputError, [LoraFile(path=file, weight=float("nan"))], "must be a number"),
        (InputError, [file, file], "given twice"),
        (LimitError, [file] * 9, "at most 8"),
    ]
    for kind, files, words in cases:
        with pytest.raises(kind, match=words):
            load_backbone(tiny_folder, device="cpu", loras=files)


def test_an_option_is_a_file_with_or_without_a_weight() -> None:
    assert lora_option("a/b.safetensors") == LoraFile(path="a/b.safetensors")
    assert lora_option("b=c.safetensors") == LoraFile(path="b=c.safetensors")
    assert lora_option("b=c.safetensors=-0.5") == LoraFile(path="b=c.safetensors", weight=-0.5)
    with pytest.raises(LimitError):
        lora_option("a.safetensors=99")


def test_a_family_whose_files_diffusers_cannot_read_takes_none(tmp_path: Path) -> None:
    folder = build_tiny_transformer(tmp_path / "m", "pixart")
    layers = trained({"transformer": load_backbone(folder, device="cpu").denoiser})
    file = diffusers_file(tmp_path / "l.safetensors", layers)
    with pytest.raises(CheckpointError, match=r"no keys that diffusers knows.*use `share`"):
        load_backbone(folder, device="cpu", loras=[file])
