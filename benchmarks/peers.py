"""Other people's own code beside ours: the same stories, seeds and shapes, in one stock pipeline.

    python -m benchmarks.peers --style-aligned DIR --story-diffusion DIR --consistory DIR

DIR is a checkout of each (github.com/google/style-aligned, HVision-NKU/StoryDiffusion,
NVlabs/consistory); whoever has none leaves it out. Nothing of theirs is kept here: the classes that
attend are taken from their files as they are and run on the shipped model; the loop around
ConsiStory's, which is written for SDXL alone, is told again here, step by step as theirs. It needs
scikit-image and einops.

- consistency: C* by the judge of stories of five frames under two seeds, both ways at published
  settings in a pipeline of diffusers, and the difference with its 95 % bootstrap interval over
  stories.
- cost: CPU seconds a frame (anchors included) of stories of 4, 8 and 16 frames, the ways in turns,
  the median of `--repeats`, and the memory that an added frame takes; use an idle machine.

What had to be chosen, since the model has grids of 16, 8 and 4 where SDXL has 64 and 32:
StoryDiffusion's attends on 16 and 8; ConsiStory's finds masks on 8, injects on 16 and matches the
features of the first upward block at the step nearest to t = 261.
"""

from __future__ import annotations

import argparse
import ast
import ctypes
import gc
import random
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks import consistency_scores as scores
from benchmarks.consistency_stories import FRAMES, BenchmarkStory, make_story
from consistent_gen import share
from consistent_gen.checkpoints import read_json, weights_folder, write_json
from consistent_gen.encoders.judge import Judge
from consistent_gen.errors import InputError
from consistent_gen.runtime import frame_seed, generator, tune_allocator, versions
from consistent_gen.world.captions import words_of

GRIDS = (16, 8, 4)
MASK_GRID, INJECTED_GRID = 8, 16
FEATURES_AT = 261  # the timestep whose features ConsiStory matches
GUIDANCE = 4.0
LENGTHS = (4, 8, 16)

# A way of drawing a story: prompts, their seeds and the subject's noun to pictures n h w 3.
Draw = Callable[[Any, Sequence[str], Sequence[int], str], np.ndarray]


def taken(path: Path, names: Sequence[str], around: Mapping[str, Any]) -> dict[str, Any]:
    """The classes and functions `names` of somebody's file, run in a namespace of `around`.

    Raises:
        InputError: the file is not there, or lacks one of them.
    """
    if not path.is_file():
        raise InputError(f"{path} is not there; give the folder of a checkout")
    tree = ast.parse(path.read_text())
    wanted = [node for node in tree.body if getattr(node, "name", None) in names]
    missing = set(names) - {node.name for node in wanted}  # type: ignore[attr-defined]
    if missing:
        raise InputError(f"{path} has no {', '.join(sorted(missing))}; another version of it?")
    space: dict[str, Any] = {"torch": torch, "nn": nn, "F": F, "np": np, **around}
    code = "from __future__ import annotations\n" + "\n".join(ast.unparse(n) for n in wanted)
    exec(compile(code, str(path), "exec"), space)
    return space


# Where the model's grids leave a choice, ours is set as theirs is.
CHOSEN: dict[str, dict[str, Any]] = {"consistory": {"watched": (MASK_GRID**2, MASK_GRID**2)}}


def ours(method: str, steps: int) -> Draw:
    """A method at its published settings, through `share`."""

    def draw(pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str) -> np.ndarray:
        options = {"num_inference_steps": steps, "guidance_scale": GUIDANCE, "output_type": "np"}
        with share(pipe, method, settings=CHOSEN.get(method, {}), **options) as story:
            count = story.run.recipe.anchors
            hero = story.anchor(prompts[:count], seeds[:count], noun)
            rest = story.frames(prompts[count:], seeds[count:], [hero])
        return as_pictures([*hero.images, *rest])

    return draw


def drawn(pipe: Any, prompts: Sequence[str], seeds: Sequence[int], steps: int) -> np.ndarray:
    """Pictures of a plain call: with whatever attends in the pipeline now."""
    found = pipe(
        list(prompts), generator=[generator(seed, "latent") for seed in seeds],
        num_inference_steps=steps, guidance_scale=GUIDANCE, output_type="np",
    )  # fmt: skip
    return as_pictures(found.images)


def as_pictures(images: Sequence[np.ndarray]) -> np.ndarray:
    """Floats in [0, 1] as n h w 3, uint8."""
    return np.stack([(np.asarray(image) * 255.0).round().astype(np.uint8) for image in images])


@contextmanager
def own_processors(unet: Any) -> Iterator[None]:
    """The pipeline's processors are put back afterwards."""
    before = unet.attn_processors
    try:
        yield
    finally:
        unet.set_attn_processor(before)


# StyleAligned, as its SDXL notebook sets it.


def style_aligned(folder: Path, steps: int) -> Draw:
    """All frames in one call, each of which reads the first."""
    import einops
    from diffusers.models import attention_processor

    names = (
        "StyleAlignedArgs", "expand_first", "concat_first", "calc_mean_std", "adain",
        "DefaultAttentionProcessor", "SharedAttentionProcessor", "_get_switch_vec",
        "init_attention_processors", "register_shared_norm", "Handler",
    )  # fmt: skip
    around = {
        "nnf": F, "einops": einops, "attention_processor": attention_processor, "T": Tensor,
        "dataclass": dataclass, "__name__": __name__,
    }  # fmt: skip
    theirs = taken(folder / "sa_handler.py", names, around)
    settings = theirs["StyleAlignedArgs"](
        share_group_norm=False, share_layer_norm=False, share_attention=True, adain_queries=True,
        adain_keys=True, adain_values=False,
    )  # fmt: skip

    def draw(pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str) -> np.ndarray:
        with own_processors(pipe.unet):
            theirs["Handler"](pipe).register(settings)
            return drawn(pipe, prompts, seeds, steps)

    return draw


# StoryDiffusion, as its predictor sets it.


def story_diffusion(folder: Path, steps: int) -> Draw:
    """Four frames that read each other, then each other frame with what they left."""
    names = ("SpatialAttnProcessor2_0",)
    theirs = taken(folder / "predict.py", names, {"random": random})
    masks = taken(folder / "utils" / "gradio_utils.py", ("cal_attn_mask_xl",), {})
    theirs["cal_attn_mask_xl"] = masks["cal_attn_mask_xl"]
    side = 16 * GRIDS[0]  # of a picture whose finest grid is ours
    theirs.update(sa32=0.5, sa64=0.5, height=side, width=side)

    def begin(count: int) -> None:
        theirs["attn_count"] = theirs["cur_step"] = 0
        theirs["mask1024"], theirs["mask4096"] = masks["cal_attn_mask_xl"](
            count + 1, count, 0.5, 0.5, side, side, device="cpu", dtype=torch.float32
        )

    def draw(pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str) -> np.ndarray:
        count = min(4, len(prompts) - 1)
        random.seed(seeds[0])
        torch.manual_seed(seeds[0])
        with own_processors(pipe.unet):
            found = dict(pipe.unet.attn_processors)
            # The coarsest upward block has a grid that SDXL has not.
            places = [
                name
                for name in found
                if name.startswith(("up_blocks.1", "up_blocks.2")) and ".attn1." in name
            ]
            for name in places:
                found[name] = theirs["SpatialAttnProcessor2_0"](
                    id_length=count, device="cpu", dtype=torch.float32
                )
            theirs["total_count"] = len(places)
            pipe.unet.set_attn_processor(found)
            theirs["write"] = True
            begin(count)
            pictures = [drawn(pipe, prompts[:count], seeds[:count], steps)]
            theirs["write"] = False
            for prompt, seed in zip(prompts[count:], seeds[count:], strict=True):
                begin(count)
                pictures.append(drawn(pipe, [prompt], [seed], steps))
        return np.concatenate(pictures)

    return draw


# ConsiStory, as its runner sets it (two anchors, then each other frame).


class ConsiStory:
    """Their processors, stores and injector in a loop of ours that takes theirs' steps."""

    def __init__(self, folder: Path, steps: int) -> None:
        from skimage import filters

        self.steps = steps
        general = taken(
            folder / "utils" / "general_utils.py",
            ("get_dynamic_threshold", "attn_map_to_binary", "gaussian_smooth", "cos_dist",
             "gen_nn_map", "cyclic_nn_map", "anchor_nn_map"),
            {"filters": filters},
        )  # fmt: skip
        attention = SimpleNamespace(
            ops=SimpleNamespace(memory_efficient_attention=memory_efficient_attention)
        )
        around = {**general, "defaultdict": defaultdict, "xformers": attention,
                  "USE_PEFT_BACKEND": True}  # fmt: skip
        stores = taken(
            folder / "consistory_utils.py", ("FeatureInjector", "AnchorCache", "QueryStore"), around
        )
        kept = taken(folder / "utils" / "ptp_utils.py", ("AttentionStore",), around)
        names = ("ConsistoryAttnStoreProcessor", "ConsistoryExtendedAttnXFormersAttnProcessor",
                 "register_extended_self_attn")  # fmt: skip
        theirs = taken(folder / "attention_processor.py", names, around)
        self.theirs = {**general, **stores, **kept, **theirs}

    def __call__(
        self, pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str
    ) -> np.ndarray:
        """Two anchors, and every other frame alone."""
        caches = [self.theirs["AnchorCache"](), self.theirs["AnchorCache"]()]
        with own_processors(pipe.unet):
            pictures = [self._story(pipe, prompts[:2], seeds[:2], noun, caches, first=True)]
            for cache in caches:
                cache.set_mode_inject()
            for prompt, seed in zip(prompts[2:], seeds[2:], strict=True):
                pictures.append(self._story(pipe, [prompt], [seed], noun, caches, first=False))
        return np.concatenate(pictures)

    def _story(
        self, pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str,
        caches: Sequence[Any], *, first: bool,
    ) -> np.ndarray:  # fmt: skip
        """A pass that shares, from which masks and features come, and one that injects too."""
        _, masks, features = self._pass(pipe, prompts, seeds, noun, caches[0], None)
        smooth = torch.stack([self.theirs["gaussian_smooth"](x) for x in features])
        if first:
            for cache in caches:
                cache.dift_cache, cache.anchors_last_mask = smooth, masks
            found = self.theirs["cyclic_nn_map"](smooth, masks, [INJECTED_GRID], "cpu")
        else:
            kept = caches[0]
            found = self.theirs["anchor_nn_map"](
                smooth, kept.dift_cache, masks, kept.anchors_last_mask, [INJECTED_GRID], "cpu"
            )
        injector = self.theirs["FeatureInjector"](
            *found, masks, inject_range_alpha=[(self.steps // 10, self.steps // 3, 0.8)],
            swap_strategy="min", inject_unet_parts=["up", "down"], dist_thr="dynamic",
        )  # fmt: skip
        injector.inject_res = [INJECTED_GRID]
        latents, *_ = self._pass(pipe, prompts, seeds, noun, caches[1], injector)
        with torch.no_grad():
            pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
        return as_pictures(pipe.image_processor.postprocess(pixels, output_type="np"))

    @torch.no_grad()
    def _pass(
        self, pipe: Any, prompts: Sequence[str], seeds: Sequence[int], noun: str, cache: Any,
        injector: Any,
    ) -> tuple[Tensor, dict[int, Tensor], Tensor]:  # fmt: skip
        """One trajectory: latents n c h w, masks by grid (n g*g), features n d h w."""
        unet, scheduler, steps = pipe.unet, pipe.scheduler, self.steps
        store = self._store(prompts, noun)
        self.theirs["register_extended_self_attn"](
            unet, store, {"extend_kv_unet_parts": ["up"], "t_range": [(1, steps)]}
        )
        embeds = pipe.encode_prompt(list(prompts), "cpu", 1, True)
        words = torch.cat([embeds[1], embeds[0]])
        shape = (1, unet.config.in_channels, GRIDS[0], GRIDS[0])
        noises = [torch.randn(shape, generator=generator(seed, "latent")) for seed in seeds]
        scheduler.set_timesteps(steps)
        latents = torch.cat(noises) * scheduler.init_noise_sigma
        queries = self.theirs["QueryStore"](
            t_range=[0, steps // 10], strength_start=0.9, strength_end=0.81836735
        )
        wanted = int((scheduler.timesteps - FEATURES_AT).abs().argmin())
        features, seen = latents, []
        hook = unet.up_blocks[0].register_forward_hook(lambda m, a, out: seen.append(out))
        for i, t in enumerate(scheduler.timesteps):
            store.curr_iter = i
            x = scheduler.scale_model_input(torch.cat([latents] * 2), t)
            if i <= steps // 10:
                queries.set_mode("cache")
                told = {"query_store": queries, "perform_extend_attn": False,
                        "record_attention": False}  # fmt: skip
                unet(x, t, words, cross_attention_kwargs=told)
                queries.set_mode("inject")
            told = {"query_store": queries, "perform_extend_attn": True, "record_attention": True,
                    "feature_injector": injector, "anchors_cache": cache}  # fmt: skip
            noise, text = unet(x, t, words, cross_attention_kwargs=told).sample.chunk(2)
            if i == wanted:
                features = seen[-1][len(prompts) :]
            predicted = noise + GUIDANCE * (text - noise)
            latents = scheduler.step(predicted, t, latents).prev_sample
            store.aggregate_last_steps_attention()
        hook.remove()
        return latents, store.last_mask, features

    def _store(self, prompts: Sequence[str], noun: str) -> Any:
        at = [1 + words_of(prompt).index(noun) for prompt in prompts]
        store = self.theirs["AttentionStore"](
            {"token_indices": torch.tensor([at]), "mask_dropout": 0.5,
             "attn_res": (MASK_GRID, MASK_GRID)}
        )  # fmt: skip
        store.ALL_RES = list(GRIDS)
        store.reset()
        return store


def memory_efficient_attention(
    q: Tensor, k: Tensor, v: Tensor, op: Any = None, scale: float | None = None
) -> Tensor:
    """xformers' function by torch's own, of b n d."""
    return F.scaled_dot_product_attention(q, k, v, scale=scale)


# What is measured.


def story_prompts(story: BenchmarkStory, seed: int) -> tuple[list[str], list[int], str]:
    """Prompts, seeds and the noun of a story."""
    requests = story.requests(seed, 1, 1.0)
    (use,) = requests[0].subjects
    noun = words_of(requests[0].prompt)[use.tokens[0] - 1]
    return [r.prompt for r in requests], [r.seed for r in requests], noun


def consistency(
    pipe: Any,
    ways: Mapping[str, Draw],
    stories: Sequence[BenchmarkStory],
    known: dict[str, dict[str, float]],
) -> Iterator[dict[str, dict[str, float]]]:
    """C* by way and story number, after every story; those in `known` are not drawn again."""
    judge = Judge.load(weights_folder("judge"))
    for story in stories:
        for name, draw in ways.items():
            row = known.setdefault(name, {})
            if str(story.number) in row:
                continue
            seen = []
            for seed in (1, 2):
                pictures = draw(pipe, *story_prompts(story, frame_seed(seed, story.number)))
                seen.append(scores.see(scores.read(judge, pictures)))
            row[str(story.number)] = scores.excess_consistency(*seen)
        yield known


def compared(known: Mapping[str, Mapping[str, float]], steps: int) -> dict[str, Any]:
    """The row of a table: C* by way, and the difference over the stories that both have drawn."""
    numbers = sorted(set.intersection(*(set(row) for row in known.values())), key=int)
    values = {way: [row[number] for number in numbers] for way, row in known.items()}
    return {
        **{way: scores.interval(found) for way, found in values.items()},
        "difference": scores.paired_interval(values["ours"], values["theirs"]),
        "stories": len(numbers), "steps": steps, "values": known,
    }  # fmt: skip


def costs(
    pipe: Any, ways: Mapping[str, Draw], repeats: int, lengths: Sequence[int] = LENGTHS
) -> dict[str, Any]:
    """CPU seconds a frame, and bytes at the peak, by way and number of frames; ways in turns."""
    story = make_story(0, style_diverse=False, seed=7)
    prompts, _, noun = story_prompts(story, 1)
    spent: dict[str, dict[str, list[float]]] = {n: {str(k): [] for k in lengths} for n in ways}
    peaks: dict[str, dict[str, float]] = {n: {} for n in ways}
    for repeat in range(repeats + 1):
        for count in lengths:
            many = [prompts[i % FRAMES] for i in range(count)]
            for name, draw in ways.items():
                with peak_of(peaks[name], str(count)) if repeat == 0 else nullcontext():
                    started = time.process_time()
                    draw(pipe, many, list(range(count)), noun)
                if repeat:  # the first round warms up
                    spent[name][str(count)].append((time.process_time() - started) / count)
    seconds = {n: {k: statistics.median(v) for k, v in row.items()} for n, row in spent.items()}
    whole = {n: {k: v * int(k) for k, v in row.items()} for n, row in seconds.items()}
    return {
        "seconds": seconds,
        "added_seconds": {n: per_added_frame(row) for n, row in whole.items()},
        "peak_bytes": peaks,
        "added_bytes": {n: per_added_frame(row) for n, row in peaks.items()},
    }


@contextmanager
def peak_of(peaks: dict[str, float], name: str) -> Iterator[None]:
    """How much memory of the process a block takes at its peak beyond what is there before; on
    Linux alone.
    """
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        yield
        return

    def kilobytes(key: str) -> int:
        line = next(line for line in status.read_text().splitlines() if line.startswith(key))
        return int(line.split()[1])

    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # or what is free already would hide what is taken
    reset.write_text("5")
    before = kilobytes("VmRSS")
    yield
    peaks[name] = 1024.0 * (kilobytes("VmHWM") - before)


def per_added_frame(taken: Mapping[str, float]) -> float | None:
    """What an added frame takes: the slope from the shortest to the longest story, of what each
    takes by its number of frames.
    """
    counts = sorted(map(int, taken))
    if len(counts) < 2:
        return None
    first, last = counts[0], counts[-1]
    return (taken[str(last)] - taken[str(first)]) / (last - first)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure what has a checkout."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("parts", nargs="*", choices=["consistency", "cost", []], default=[])
    parser.add_argument("--style-aligned", type=Path, metavar="DIR")
    parser.add_argument("--story-diffusion", type=Path, metavar="DIR")
    parser.add_argument("--consistory", type=Path, metavar="DIR")
    parser.add_argument("--stories", type=int, default=40)
    parser.add_argument("--first", type=int, default=0, help="number of the first story")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--frames", type=int, nargs="+", help=f"of costs, else {LENGTHS}")
    parser.add_argument("--resume", action="store_true", help="keep what --out has of stories")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/peers.json"))
    options = parser.parse_args(argv)
    from diffusers import StableDiffusionPipeline
    from diffusers.utils import logging

    logging.set_verbosity_error()  # their processors take different options of a call
    tune_allocator()
    torch.set_num_threads(1)
    pipe = StableDiffusionPipeline.from_pretrained(weights_folder("storyworld"))
    pipe.set_progress_bar_config(disable=True)
    peers = {
        "style_aligned": (style_aligned, options.style_aligned),
        "story_diffusion": (story_diffusion, options.story_diffusion),
        "consistory": (ConsiStory, options.consistory),
    }
    chosen = {name: make(folder, options.steps) for name, (make, folder) in peers.items() if folder}
    if not chosen:
        parser.error("give the folder of at least one checkout")
    result = read_json(options.out) if options.out.exists() else {}
    parts = options.parts or ["consistency", "cost"]
    console = Console()
    for name, theirs in chosen.items():
        ways = {"ours": ours(name, options.steps), "theirs": theirs}
        row = result.setdefault("rows", {}).setdefault(name, {})
        if "consistency" in parts:
            numbers = range(options.first, options.first + options.stories)
            stories = [make_story(n, style_diverse=False, seed=7) for n in numbers]
            known = row.get("consistency", {}).get("values", {}) if options.resume else {}
            for found in consistency(pipe, ways, stories, known):
                row["consistency"] = compared(found, options.steps)
                write_json(options.out, result)
        if "cost" in parts:
            lengths = LENGTHS if options.frames is None else options.frames
            row["cost"] = {"steps": options.steps} | costs(pipe, ways, options.repeats, lengths)
        result["versions"] = versions()
        write_json(options.out, result)
        show(console, name, row)


def show(console: Console, name: str, row: Mapping[str, Any]) -> None:
    """Print what was found of a method."""
    table = Table(title=name)
    for column in ("", "ours", "theirs", "difference"):
        table.add_column(column)
    if "consistency" in row:
        found = [row["consistency"][way] for way in ("ours", "theirs", "difference")]
        cells = [f"{v['mean']:.3f} ({v['lo']:.3f} to {v['hi']:.3f})" for v in found]
        table.add_row("C*", *cells)
    if "cost" in row:
        cost = row["cost"]
        spent = cost["seconds"]
        for count, seconds in spent["ours"].items():
            theirs = spent["theirs"][count]
            cells = [f"{seconds:.3f}", f"{theirs:.3f}", f"{seconds / theirs:.2f} times"]
            table.add_row(f"CPU seconds a frame of {count}", *cells)
        for what, unit, times in (
            ("added_seconds", "CPU seconds", 1.0),
            ("added_bytes", "MB", 1e-6),
        ):
            found = [cost[what][way] for way in ("ours", "theirs")]
            shown = ["" if value is None else f"{value * times:.3f}" for value in found]
            table.add_row(f"{unit} of an added frame", *shown, "")
    console.print(table)


if __name__ == "__main__":
    main()
