"""docs/backbones.md, made from the contract by `python -m consistent_gen.pipeline.docs_page`."""

from __future__ import annotations

from consistent_gen.diffusion.families import BACKBONES, seam_of
from consistent_gen.pipeline.contract import (
    OPTIONS,
    PIPELINES,
    REFUSED,
    SCHEDULERS,
    drawn_by_engine,
    lora_by_engine,
    offload_by_engine,
)

HEAD = """\
# Backbones

Made from `consistent_gen.pipeline.contract` by
`python -m consistent_gen.pipeline.docs_page > docs/backbones.md`; a test holds the two together and
tests draw with every class that shares, on diffusers' own classes at tiny size. What is not listed
is refused: a pipeline that calls its denoiser otherwise would draw pictures that look well and
share nothing.

`share` is `consistent_gen.share(pipe, ...)`; "engine" is `load_backbone`, story files, the command
line and the server, which read folders of these classes.

- LoRA, textual inversion, IP-Adapter and FreeU: whatever is loaded into the pipeline acts, in
  `share`. Another weight, another adapter or another UNet or transformer than when the anchors
  were drawn is refused by name. The IP-Adapter of Stable Diffusion 3 is refused.
- Textual inversion in the engine: teach it to a pipeline (`load_textual_inversion`) and save that
  as a folder. A prompt that says a word of several vectors by the first alone is refused, with what
  to write. A file of one that is given as a LoRA is refused in a line.
- LoRA in the engine: `loras:` of a story file, `--lora FILE[=WEIGHT]` and `load_backbone(...,
  loras=...)` take .safetensors files of diffusers, kohya and, for FLUX.1, XLabs, as diffusers' own
  conversions read them (Stable Diffusion 3: of diffusers alone; PixArt: none, since diffusers knows
  no keys for them), with layers in what denoises and in CLIP text encoders. A file of another kind
  (DoRA, LoHa, LoKr, Control-LoRA, ...), for another model, or with a layer that would not act is
  refused in a line. They need `peft` (extra `lora`). Pictures name each file by its hash and its
  weight, and `replay` and `redraw` want the same files. A server has its own (`engine.loras`,
  [serving](serving.md)), and a story that it is sent may name those.
- Offloading: model by model and layer by layer (accelerate's hooks), in `share`; in the engine by
  `--offload model|sequential` or `load_backbone(..., offload=...)`, with the same pictures. A
  network is copied to the device each time when another one was called before it (`model`), or a
  layer at a time at every step (`sequential`). A server does it by `engine.offload`.
- Device maps of a pipeline or of one of its networks (accelerate's hooks) act in `share`. The
  engine draws on one device and takes none; a server has a worker for each device.
- Quantised weights: in `share` and in folders as diffusers and transformers load them by their own
  configs, where the package that unpacks them is installed (tried: quanto with 8 bits, on a CPU);
  where it is not, the folder is refused in a line. A folder that lacks a weight is refused, too:
  the libraries would draw with random numbers in its place.
- Where a folder is asked for, the id of a model on the Hugging Face hub ("owner/name") means what
  was fetched from there before (`hf download owner/name`), in the local cache; nothing is
  fetched while stories are drawn.
- Folders of half precision (`*.fp16.safetensors`, `*.bf16.safetensors`) load as they are. A
  checkpoint in a single file is not read, since diffusers fetches its configs and tokenizers over
  the network; the refusal says with which command a folder is made of it.
- `torch.compile`: a UNet or transformer, block or forward function that is compiled is refused,
  since what is compiled cannot look at other frames. Compile the parts without attention:

  ```python
  for part in pipe.unet.modules():  # or pipe.transformer.modules()
      if type(part).__name__ in ("FeedForward", "ResnetBlock2D"):
          part.compile()
  ```

- Transformers have no grids of several sizes and no up blocks: methods act in joint and single
  blocks, in the last 70 % of the layers unless their window says otherwise (`style_aligned`: in
  all). Under rotary embeddings, what is read of anchors stands to the right of the frame, each
  anchor a picture's width further, so that equal places of two pictures do not attract each other.
- Masks of characters come from how image tokens look at the words: in Stable Diffusion 3 at those
  of CLIP and T5, in FLUX.1 at those of T5, which reads `prompt_2` if there is one, in PixArt at
  those of T5 in the prompt as it is cleaned, in Qwen-Image at those of the prompt's part of what
  its language model reads. Padding is left out. Give `masks` to `anchor` where yours are better.
- FLUX.1 Kontext, in `share`: its own `image` (of the story or of a frame) is read as always; only
  the picture that is drawn is shared, and only its tokens read other frames. In the engine, method
  `references` gives it the characters' pictures, and the other methods share its attention.
- FLUX.2 Klein, in the engine alone: frames are given the characters' pictures (method `references`,
  which a story has that names none), each in a place of its own, and read nothing else of each
  other. A folder whose `model_index.json` says `is_distilled` has no guidance and four steps.
- Guidance: FLUX.1-dev is told a number (`guidance_scale`), "schnell" has none; with
  `true_cfg_scale` above 1 and a `negative_prompt` each step has a second call, and methods act in
  both as they do in a UNet.
- In the engine, Stable Diffusion 3 and PixArt are guided as a UNet is; Qwen-Image too, and each
  token is then as long as it was with the prompt (its pipeline's `true_cfg_scale`); FLUX.1 is told
  `guidance` as a number ("dev") or has none ("schnell"). Where a story or an option says what a
  model cannot act on, it is refused in a line (see below). `scheduler: ddim` is Euler's step, by
  which diffusers samples these models, on the schedule of the folder, shifted by the picture's size
  where the folder says so; `dpm` is DPM-Solver++ of second order on the same schedule.
- In the engine, T5 reads 256 tokens of a prompt (Stable Diffusion 3, "schnell"), 512 ("dev"), 120
  (PixArt-alpha) or 300 (PixArt-sigma), and the language model of Qwen-Image 512 with the 5 behind
  the prompt; a longer prompt is refused. All prompts of Qwen-Image and PixArt are padded to that
  length, and padding is left out of attention. PixArt reads lower case, and pictures have the size
  that is asked for, as its pipelines draw without `clean_caption` and `use_resolution_binning`. A
  folder of Stable Diffusion 3 may be without T5.
- A ControlNet of Stable Diffusion 3 samples the latent of its control picture from no seed; in a
  story the mean stands for it, so that a frame is always the same.
- Saved characters open where the weights of the UNet (a fingerprint of them), the scheduler, the
  options (pictures by content), LoRA and IP-Adapter scales and FreeU are the same. Anchors that
  were made from `pictures` or `masks` are loaded with the same, which the file does not hold.
- Models of few steps: every window of a method has a step at least, with the first step where
  there is but one; `head_start`, which looks for characters in earlier steps, needs two.
"""
TAIL = """\
"Of each frame" are options that `frame(..., name=...)` takes; all others hold for a story and are
given to `share`.
"""

# What the engine draws: its name, its seam, and what of its network's config matters here.
_DRAWN: tuple[tuple[str, str, dict[str, bool]], ...] = (
    ("Stable Diffusion 1, 2, XL", "unet", {}),
    ("Stable Diffusion 3", "sd3", {}),
    ("FLUX.1-dev", "flux", {"guidance_embeds": True}),
    ("FLUX.1-schnell", "flux", {"guidance_embeds": False}),
    ("FLUX.1-Kontext-dev", "kontext", {"guidance_embeds": True}),
    ("FLUX.2-klein", "klein-distilled", {}),
    ("FLUX.2-klein-base", "klein", {}),
    ("Qwen-Image", "qwen", {}),
    ("PixArt-alpha, PixArt-sigma", "pixart", {}),
)
# What is said by another name, or by several.
_SAID = {
    "pictures": "`method: references`",
    "sharing": "every `method` but `references` and `vanilla`",
}


def page() -> str:
    """The text of docs/backbones.md."""
    rows = [
        "| pipeline | share | engine, story files | decided by | needs | of each frame |"
        " LoRA | offload | compile |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, entry in PIPELINES.items():
        needs = ", ".join(f"`{option}`" for option in entry.needs) or "nothing"
        own = ", ".join(f"`{option}`" for option in entry.of_frame) or "nothing"
        cells = (f"`{name}`", entry.share, drawn_by_engine(name), entry.pictures, needs, own)
        loras, offload = lora_by_engine(name), offload_by_engine(name)
        rows.append(f"| {' | '.join(cells)} | {loras} | {offload} | parts without attention |")
    for name in BACKBONES.keys() - PIPELINES.keys():
        rows.append(
            f"| `{name}` | {REFUSED[name]} | Y | words, pictures of characters | nothing | nothing "
            "| in the engine | in the engine | nothing is shared |"
        )
    unable = [
        f"| {model} | {_SAID.get(name, f'`{name}`')} | {reason} |"
        for model, seam, config in _DRAWN
        for name, reason in seam_of(seam).unable(config).items()
    ]
    refused = [
        f"| `{name}` | {reason} |" for name, reason in REFUSED.items() if name not in BACKBONES
    ]
    schedulers = [f"| `{name}` | {reason} |" for name, reason in SCHEDULERS.items()]
    options = [f"| `{name}` | {reason} |" for name, reason in OPTIONS.items()]
    parts = [
        HEAD, *rows, "", TAIL,
        "## What does nothing in the engine, and is refused\n",
        "| model | said in a story | why |", "|---|---|---|", *unable, "",
        "## Refused\n",
        "By `share`, and where a folder names it.\n",
        "| pipeline | why |", "|---|---|", *refused,
        "| any other | how it calls what denoises is not known |", "",
        "## Schedulers\n",
        "Each call's step and noise level are read from its timestep, so schedules of any length, "
        "of second order, and started in the middle are right. Transformers that predict a flow "
        "take `FlowMatchEulerDiscreteScheduler`, Stable Diffusion 3 also "
        "`FlowMatchHeunDiscreteScheduler`, and no other. For UNets and PixArt, refused are:\n",
        "| scheduler | why |", "|---|---|", *schedulers,
        "| `DPMSolverSDEScheduler` | its noise comes from no seed, unless made with "
        "`noise_sampler_seed` |",
        "| any with `timestep_type=\"continuous\"` | its timesteps are no places in a training "
        "schedule |", "",
        "## Options that a story cannot have\n", "| option | why |", "|---|---|", *options, "",
    ]  # fmt: skip
    return "\n".join(parts)


if __name__ == "__main__":
    print(page(), end="")
