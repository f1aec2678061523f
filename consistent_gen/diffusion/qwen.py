"""Qwen-Image: packed latents, joint blocks, guidance by a second call, a language model's text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from consistent_gen.diffusion.flux import PackedSeam, packed, unpacked
from consistent_gen.diffusion.readers import PromptReader
from consistent_gen.diffusion.seam import Conditioning, mentions
from consistent_gen.errors import CheckpointError, InputError

LONG = 512  # tokens of a prompt, and of what stands behind it, that the network reads
SIDE = 128  # cells of the latents that it was trained for, which its config does not say
WORDS = "encoder_hidden_states_mask"  # of what is added to a row: which tokens are no padding, [t]
# Of its network's config, what other models of the family are told beside the text.
_TOLD = ("guidance_embeds", "use_additional_t_cond", "use_layer3d_rope")


class QwenSeam(PackedSeam):
    """Called as FLUX.1 is, with the shapes of pictures in place of positions.

    A prompt stands in a longer text whose beginning the model does not read; prompts of one batch
    are padded to the longest, and in the engine to a length that all have.
    """

    def check_parts(self, pipe: Any, name: str, inpaints: bool) -> None:
        """See `Seam`."""
        if pipe.tokenizer is None or pipe.text_encoder is None:
            raise InputError(f"a {name} without its text encoder cannot find a subject's words")
        self.check_channels(pipe, name, 4 * int(pipe.vae.config.z_dim))

    def grid(self, sample: Tensor, kwargs: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`."""
        shapes = kwargs["img_shapes"][0]  # of one row: a picture's, or those of several
        _, height, width = shapes[0] if isinstance(shapes, list) else shapes
        return int(height), int(width)

    def raw_latent(self, vae: Any, picture: Tensor) -> Tensor:
        """See `Seam`; its autoencoder takes films, of which a picture is the first."""
        found: Tensor = vae.encode(picture[:, :, None]).latent_dist.mode()[0, :, 0].float()
        return found

    def decoded_latent(self, vae: Any, z: Tensor) -> Tensor:
        """See `Seam`."""
        found: Tensor = vae.decode(z[None, :, None].to(vae.dtype)).sample[:, :, 0]  # 1 c 1 h w
        return found

    def guide(self, cond: Tensor, uncond: Tensor, scale: float) -> Tensor:
        """See `Seam`; each token is then as long as it was with the prompt."""
        guided = packed(super().guide(cond, uncond, scale)[None])  # 1 n 4c
        length = packed(cond[None]).norm(dim=-1, keepdim=True)
        guided = guided * (length / guided.norm(dim=-1, keepdim=True))
        height, width = (side // self.packs for side in cond.shape[-2:])
        return unpacked(guided, height, width)[0]

    def tokens(
        self, pipe: Any, prompt: str, subject: str, options: Mapping[str, Any]
    ) -> tuple[int, ...]:
        """See `Seam`: in the prompt's part of the text."""
        before, template = int(pipe.prompt_template_encode_start_idx), pipe.prompt_template_encode
        length = int(pipe.tokenizer_max_length) + before
        text = template.format(prompt)
        found = mentions(pipe, pipe.tokenizer, text, subject, length)
        after = len(pipe.tokenizer(template.format("")).input_ids) - before
        whole = len(pipe.tokenizer(text, truncation=True, max_length=length).input_ids)
        last = min(whole - after, before + int(options.get("max_sequence_length") or LONG))
        return tuple(i - before for i in found if before <= i < last)

    def check_config(self, config: Mapping[str, Any]) -> None:
        """See `Seam`."""
        if told := [name for name in _TOLD if config.get(name)]:
            raise CheckpointError(
                f"its transformer has {told[0]}, as those of other models of the family; expected "
                "the one of Qwen-Image, which is told the text alone"
            )

    def made_channels(self, config: Mapping[str, Any]) -> int:
        """See `Seam`."""
        return int(config["z_dim"])

    def cell_pixels(self, config: Mapping[str, Any]) -> int:
        """See `Seam`."""
        return int(2 ** len(config["temperal_downsample"]))

    def token_cells(self, config: Mapping[str, Any]) -> int:
        """See `Seam`; its `patch_size` says what packing has done already."""
        return self.packs

    def default_cells(self, config: Mapping[str, Any]) -> tuple[int, int]:
        """See `Seam`."""
        return SIDE, SIDE

    def recommended(self, config: Mapping[str, Any]) -> dict[str, float]:
        """See `Seam`."""
        return super().recommended(config) | {"steps": 50, "guidance": 4.0}

    def text_length(self, config: Mapping[str, Any]) -> int | None:
        """See `Seam`."""
        return LONG

    def readers(
        self, tokenizers: Sequence[Any | None], length: int | None = None
    ) -> tuple[PromptReader, ...]:
        """See `Seam`: what stands behind the prompt takes a part of the length."""
        tokenizer: Any = tokenizers[0]
        _, after = _around()
        return (PromptReader(tokenizer, 0, (length or LONG) - len(tokenizer(after).input_ids)),)

    @torch.inference_mode()
    def conditioning(
        self,
        parts: Any,
        prompt: str,
        size: tuple[int, int],
        guidance: float,
        *,
        negative: bool = False,
    ) -> Conditioning:
        """See `Seam`."""
        before, after = _around()
        ids = parts.tokenizer(before + prompt + after, return_tensors="pt").input_ids
        unread = len(parts.tokenizer(before).input_ids)
        found = parts.text_encoder(
            input_ids=ids.to(parts.device), output_hidden_states=True, use_cache=False
        )
        states = found.hidden_states[-1][0, unread:][:LONG].to(parts.dtype)  # t c
        words = torch.arange(LONG, device=parts.device) < len(states)
        return Conditioning(F.pad(states, (0, 0, 0, LONG - len(states))), {WORDS: words})

    def predict(
        self,
        model: Any,
        latents: Tensor,
        timesteps: Tensor,
        tokens: Tensor,
        added: Mapping[str, Tensor],
    ) -> Tensor:
        """See `Seam`."""
        height, width = (side // self.packs for side in latents.shape[-2:])
        found = model(
            hidden_states=packed(latents), timestep=timesteps.to(latents.dtype) / 1000,
            encoder_hidden_states=tokens, img_shapes=[[(1, height, width)]] * len(latents),
            return_dict=False, **added,
        )[0]  # fmt: skip
        return unpacked(found, height, width)


@cache
def _around() -> tuple[str, str]:
    """What stands before and behind a prompt, as diffusers' pipeline says it."""
    from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline

    make: Any = QwenImagePipeline
    before, after = make(None, None, None, None, None).prompt_template_encode.split("{}")
    return before, after
