"""Is the pair reward worth its training? Beside similarities that nobody trained for it.

`python -m benchmarks.pair_reward [table] [checks] [agreement] [vectors] [--out FILE.json]`; without
a name all four:
- table: on held-out identities, pairs of true pictures (the same identity or, by the truth, one
  that agrees by at most 0.8) and of drawn ones (`benchmarks.pair_families`, labelled by the judge's
  factors: agreement above 0.872, which 95 of 100 true pairs reach, is the same somebody, below 0.8
  somebody else, between them nobody says), each apart: accuracy at the threshold that is best on
  such pairs of training identities (`drawn_accuracy_by_true`: on their true pairs), and the area
  under the curve; Kendall's tau of four candidates against a reference by the truth, as rank
  vectors and as the published script computes it; how much the score drops before another
  background.
- checks: what a reward must pass before it may be trained on.
- agreement: SCIR's filter over the pair reward and the photo features.
- vectors: methods of drawing as metric vectors, with tolerances from repeats and the front.
Drawings are kept in `--keep`, and rows of the same settings in `--out`, so a run that was stopped
goes on, and `--measures pair_network` costs that one only. 40 stories of 8 steps by two methods
with two seeds take 4 minutes at 57 denoiser rows/s.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table

from benchmarks.consistency_drawing import (
    DrawingSettings,
    PictureStore,
    draw_missing,
    draw_stories,
    parse_candidate,
)
from benchmarks.consistency_stories import FRAMES, make_story
from benchmarks.identity import Rgb, read
from benchmarks.pair_families import drawn_families
from consistent_gen.checkpoints import read_json, weights_folder, write_json
from consistent_gen.encoders.judge import Judge
from consistent_gen.models import load_backbone
from consistent_gen.rewards import contrast, pareto, ranking
from consistent_gen.rewards.agreeing import agreed
from consistent_gen.rewards.base import ImageSet, Picture, mean
from consistent_gen.rewards.baselines import (
    ColorHistogram,
    PixelDistance,
    photo_consistency,
    reader_cosine,
)
from consistent_gen.rewards.looking import Looker
from consistent_gen.rewards.pair_network import PairNetworkReward
from consistent_gen.rewards.pairs import MatrixReward, mean_pair
from consistent_gen.rewards.photo_features import PhotoFeatures
from consistent_gen.rewards.sight import agreement, main_sights
from consistent_gen.rewards.story_world import (
    BackgroundDiversity,
    PromptMatching,
    ReaderAlignment,
    ReaderConsistency,
    Views,
)
from consistent_gen.runtime import frame_seed, tune_allocator, versions
from consistent_gen.training.pair_sets import CELLS, FAMILY, GRIDS, PairSets, true_agreements
from consistent_gen.world.naming import read_prompt
from consistent_gen.world.palette import HUES, hue_anchors
from consistent_gen.world.scene import render
from consistent_gen.world.spec import ACCESSORIES, INDOOR, PLACES, sample_frame, sample_identity

Floats = NDArray[np.floating[Any]]
PARTS = ("table", "checks", "agreement", "vectors")
# Of the judge's agreement: what 95 of 100 true pairs of a training identity reach, and what nobody
# takes for the same.
SAME, OTHER = 0.872, 0.80
METHODS = ("vanilla", "head_start")
STORY_SEED = 1
DRAWN_SEED = 10  # of the families that are drawn; another one when a network was chosen by these
NAMES = {
    "pair_network": "pair reward",
    "reader_consistency": "reader's factors",
    "reader_cosine": "reader's features, cosine",
    "photo_consistency": "EfficientNet features, cosine",
    "color_histogram": "colour histogram",
    "pixel_l2": "pixel L2",
}


def measures(folder: Path | None) -> dict[str, MatrixReward]:
    """Everything that is compared. folder: of the pair network's weights, None for the shipped."""
    looker = Looker()
    every: list[MatrixReward] = [
        PairNetworkReward(folder),
        ReaderConsistency(Views(looker)),
        reader_cosine(looker),
        photo_consistency(PhotoFeatures()),
        ColorHistogram(),
        PixelDistance(),
    ]
    return {reward.name: reward for reward in every}


def matrix(reward: MatrixReward, pictures: Sequence[Picture]) -> Floats:
    """How alike pictures are, n n."""
    return reward.matrix(ImageSet(pictures=tuple(pictures)))


# Pairs with labels.


def true_pairs(
    world: PairSets, families: Sequence[int], reward: MatrixReward
) -> tuple[Floats, NDArray[np.bool_]]:
    """Scores of pairs inside families, and whether they show the same somebody; pairs of identities
    that agree by more than OTHER and are not the same are left to the ranking.
    """
    scores, labels = [], []
    for family in families:
        s = matrix(reward, family_pictures(world, family))
        agree = true_agreements(world, family)
        for i, j in combinations(range(FAMILY), 2):
            same = i // CELLS == j // CELLS
            if same or agree[i // CELLS, j // CELLS] <= OTHER:
                scores.append(s[i, j])
                labels.append(same)
    return np.array(scores), np.array(labels)


@cache
def family_pictures(world: PairSets, family: int) -> tuple[Picture, ...]:
    """The cells of a family, as the world draws them."""
    return tuple(np.asarray(world.picture(family * FAMILY + i).rgb) for i in range(FAMILY))


def threshold(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """Where the mean accuracy of both labels is best: halfway between two scores, since what tells
    training pairs apart may lie anywhere between them.
    """
    known = np.unique(scores[np.isfinite(scores)])
    edges = (known[1:] + known[:-1]) / 2.0 if len(known) > 1 else known
    found = [accuracy(scores, labels, edge) for edge in edges]
    return float(edges[int(np.argmax(found))])


def accuracy(scores: Floats, labels: NDArray[np.bool_], least: float) -> float:
    """Mean over both labels of the share that is called rightly; what has no score is not."""
    said = np.nan_to_num(scores, nan=-np.inf) >= least
    return float(np.mean([(said[labels]).mean(), (~said[~labels]).mean()]))


def area(scores: Floats, labels: NDArray[np.bool_]) -> float:
    """The area under the curve: the chance that a same pair scores above another one."""
    known = np.isfinite(scores)
    positive, negative = scores[known & labels], scores[known & ~labels]
    order = ranking.ranks([*positive, *negative])
    n, m = len(positive), len(negative)
    return float((order[:n].sum() - n * (n - 1) / 2) / (n * m))


def tau(world: PairSets, families: Sequence[int], reward: MatrixReward) -> dict[str, float]:
    """Four candidates (one of each grid) against a reference of the first grid."""
    found: dict[str, list[float]] = {"tau": [], "rho": [], "as_published": [], "first_and_last": []}
    for family in families:
        shown = family_pictures(world, family)
        rng = random.Random(f"candidates {family}")
        candidates = [grid * CELLS + 1 + rng.randrange(CELLS - 1) for grid in range(GRIDS)]
        rng.shuffle(candidates)
        s = matrix(reward, [shown[0], *(shown[i] for i in candidates)])[0, 1:]
        truth = [float(true_agreements(world, family)[0, i // CELLS]) for i in candidates]
        s = np.nan_to_num(s, nan=-1.0)  # who has no score is ranked last
        known = {
            "tau": ranking.kendall(list(s), truth),
            "rho": ranking.spearman(list(s), truth),
            "as_published": ranking.kendall_of_order_lists(list(s), truth),
            "first_and_last": ranking.top_and_bottom(list(s), truth),
        }
        for name, value in known.items():
            found[name].append(0.0 if value is None else value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def moved(world: PairSets, families: Sequence[int]) -> list[tuple[Picture, Picture, Picture]]:
    """a, b of the same somebody, and b before another place under the same weather."""
    found = []
    for family in families:
        first = family * FAMILY
        frame = world.frame(first + 1)
        rng = random.Random(f"moved {family}")
        inside = frame.place in INDOOR
        places = [p for p in PLACES if p not in (frame.place, "moon") and (p in INDOOR) == inside]
        other = replace(frame, place=rng.choice(places))
        a, b = family_pictures(world, family)[:2]
        found.append((a, b, np.asarray(render(other).rgb)))
    return found


def background_drop(
    reward: MatrixReward, trios: Sequence[tuple[Picture, Picture, Picture]]
) -> float:
    """Mean of s(a, b) - s(a, b before another background)."""
    drops = []
    for a, b, c in trios:
        s = matrix(reward, [a, b, c])
        drops.append(s[0, 1] - s[0, 2])
    return float(np.nanmean(drops))


# Drawn pictures.


def drawn_stories(options: argparse.Namespace, method: str, seed: int) -> list[NDArray[np.uint8]]:
    """FRAMES pictures of each story."""
    backbone = load_backbone(None)
    candidate = parse_candidate(method, backbone)
    settings = DrawingSettings(steps=options.steps, guidance=4.0)
    stories = [make_story(n, style_diverse=False, seed=7) for n in range(options.stories)]
    identity = {
        "pair reward": 1, "model": backbone.sha256, "label": candidate.label,
        "settings": vars(settings), "story": repr(stories[0]),
    }  # fmt: skip
    store = PictureStore(options.keep, f"pair-{candidate.label}", identity)
    wanted = [(story, frame_seed(seed, story.number)) for story in stories]
    draw_missing(store, wanted, partial(_drawn, backbone, candidate, settings), together=4)
    return [store.get(story.number, frame_seed(seed, story.number)).pictures for story in stories]


def _drawn(backbone: Any, candidate: Any, settings: DrawingSettings, part: Sequence[Any]) -> Any:
    return draw_stories(backbone, part, candidate, settings)


def judged_pairs(
    sets: Mapping[str, Sequence[Sequence[Rgb]]],
) -> list[tuple[str, int, int, int, bool]]:
    """(way of drawing, family, picture, picture, same) of all pairs inside families that the judge
    calls clearly one thing or the other.
    """
    judge = Judge.load(weights_folder("judge"))
    found = []
    for method, families in sets.items():
        for number, pictures in enumerate(families):
            sights = main_sights(read(judge, pictures), judge.schema)
            for i, j in combinations(range(len(sights)), 2):
                value = agreement(sights[i], sights[j])
                if value is not None and (value >= SAME or value <= OTHER):
                    found.append((method, number, i, j, value >= SAME))
    return found


def drawn_scores(
    reward: MatrixReward,
    sets: Mapping[str, Sequence[Sequence[Rgb]]],
    pairs: Sequence[tuple[str, int, int, int, bool]],
) -> Floats:
    """The scores of the judged pairs."""
    wanted = dict.fromkeys((method, number) for method, number, *_ in pairs)
    s = {key: matrix(reward, list(sets[key[0]][key[1]])) for key in wanted}
    return np.array([s[method, number][i, j] for method, number, i, j, _ in pairs])


# The parts of the benchmark.


Drawn = dict[str, list[list[Rgb]]]  # by method, the pictures of each family


def _drawn(
    world: PairSets, families: Sequence[int], options: argparse.Namespace
) -> tuple[Drawn, list[tuple[str, int, int, int, bool]]]:
    """Families as the model draws them, and their pairs that the judge calls clearly."""
    drawn = drawn_families(
        world, families, keep=options.keep, steps=options.steps, dtype=options.dtype
    )
    return drawn, judged_pairs(drawn)


def table(options: argparse.Namespace, rewards: Mapping[str, MatrixReward]) -> dict[str, Any]:
    """Accuracy, area, tau and drop of every measure."""
    train, held_out = PairSets("train", seed=3), PairSets("held_out")
    families = range(options.families)
    count = options.drawn or options.families
    (learnt, learnt_pairs), (drawn, pairs) = (
        _drawn(world, range(count), options)
        for world in (train, PairSets("held_out", seed=DRAWN_SEED))
    )
    labels = np.array([same for *_, same in pairs])
    learnt_labels = np.array([same for *_, same in learnt_pairs])
    trios = moved(held_out, families)
    found: dict[str, Any] = {
        "drawn_families": count,
        "drawn_pairs": len(pairs),
        "drawn_same": int(labels.sum()),
        "rows": {},
    }
    for name, reward in rewards.items():
        least = threshold(*true_pairs(train, families, reward))
        scores, same = true_pairs(held_out, families, reward)
        on_drawn = drawn_scores(reward, drawn, pairs)
        found["rows"][name] = {
            "true_accuracy": accuracy(scores, same, least),
            "true_area": area(scores, same),
            "drawn_accuracy": accuracy(
                on_drawn,
                labels,
                threshold(drawn_scores(reward, learnt, learnt_pairs), learnt_labels),
            ),
            "drawn_accuracy_by_true": accuracy(on_drawn, labels, least),
            "drawn_area": area(on_drawn, labels),
            **tau(held_out, families, reward),
            "background_drop": background_drop(reward, trios),
        }
    return found


def contrast_sets(count: int) -> list[tuple[list[Picture], list[Picture]]]:
    """References and responses of two characters that differ in one attribute, `count` times."""
    rng = random.Random("contrast pairs")
    found = []
    for number in range(count):
        who = replace(sample_identity(rng, held_out=True), top="shirt", pattern="plain")
        if number % 2:
            values = rng.sample([a for a in ACCESSORIES if a != "none"], 2)
            pair = [replace(who, accessory=value) for value in values]
        else:
            hues = rng.sample([degrees / 360.0 for degrees, _, _ in HUES.values()], 2)
            pair = [replace(who, top_hue=hue) for hue in hues]
        sides: list[list[Picture]] = []
        for _ in ("reference", "response"):
            frame = replace(sample_frame(rng, identities=(who,)), camera="medium")
            drawn = []
            for identity in pair:
                subject = replace(frame.subjects[0], identity=identity)
                drawn.append(np.asarray(render(replace(frame, subjects=(subject,))).rgb))
            sides.append(drawn)
        found.append((sides[0], sides[1]))
    return found


def checks(options: argparse.Namespace, rewards: Mapping[str, MatrixReward]) -> dict[str, Any]:
    """Contrast, symmetry, background and half size, for every measure."""
    held_out = PairSets("held_out")
    families = range(options.families)
    quadruples = contrast_sets(options.families)
    trios = moved(held_out, families)
    found: dict[str, Any] = {}
    for name, reward in rewards.items():

        def pair(a: Picture, b: Picture, reward: MatrixReward = reward) -> float | None:
            value = float(matrix(reward, [a, b])[0, 1])
            return value if np.isfinite(value) else None

        scores = np.array(
            [matrix(reward, [*references, *responses])[:2, 2:]
             for references, responses in quadruples]
        )  # fmt: skip
        response, instruction = contrast.response_and_instruction(scores)
        both = [(a, b) for a, b, _ in trios]
        strangers = [(a, trios[i - 1][1]) for i, (a, _, _) in enumerate(trios)]
        result = contrast.RewardChecks(
            response=response.right,
            instruction=instruction.right,
            asymmetry=contrast.asymmetry(pair, both[:20]),
            background=contrast.background_change(pair, both, [c for *_, c in trios]),
            scale=contrast.scale_correlation(pair, both + strangers, halved),
        )
        found[name] = {**vars(result), "failures": result.failures()}
    return found


def halved(picture: Picture) -> Picture:
    """A picture at half its size."""
    size = (picture.shape[1] // 2, picture.shape[0] // 2)
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX), np.uint8)


def agreement_of_judges(
    options: argparse.Namespace, rewards: Mapping[str, MatrixReward]
) -> dict[str, Any]:
    """Which of two candidates is more like the reference, by the pair reward and by photo features;
    how often both agree, and how often each is right where they do.
    """
    held_out = PairSets("held_out")
    chosen = ("pair_network", "photo_consistency")
    differences: dict[str, list[float | None]] = {name: [] for name in chosen}
    truth = []
    for family in range(options.families):
        shown = family_pictures(held_out, family)
        agree = true_agreements(held_out, family)
        for one, other in combinations(range(GRIDS), 2):
            trio = [shown[0], shown[one * CELLS + 1], shown[other * CELLS + 1]]
            truth.append(1 if agree[0, one] > agree[0, other] else -1)
            for name in chosen:
                s = matrix(rewards[name], trio)
                differences[name].append(float(s[0, 1] - s[0, 2]))
    kept = agreed(differences)
    right = [p == t for p, t in zip(kept.preferences, truth, strict=True) if p]
    alone = {
        name: float(np.mean([(d or 0.0) * t > 0 for d, t in zip(values, truth, strict=True)]))
        for name, values in differences.items()
    }
    return {
        "disagreement": kept.disagreement,
        "kept": sum(map(bool, kept.preferences)),
        "pairs": len(truth),
        "right_where_agreed": mean(map(float, right)),
        "right_alone": alone,
    }


def vectors(options: argparse.Namespace, rewards: Mapping[str, MatrixReward]) -> dict[str, Any]:
    """Methods as vectors of consistency, alignment, prompt matching and background diversity."""
    views, anchors = Views(), hue_anchors()
    others = (ReaderAlignment(views, read_prompt, anchors),
              PromptMatching(views, read_prompt, anchors), BackgroundDiversity(views))  # fmt: skip
    stories = [make_story(n, style_diverse=False, seed=7) for n in range(options.stories)]
    prompts = [tuple(r.prompt for r in story.requests(0, 1, 1.0)) for story in stories]
    samples: dict[str, dict[str, list[float]]] = {}
    repeats: dict[str, list[list[float]]] = {}
    for method in METHODS:
        for seed in (STORY_SEED, STORY_SEED + 1):
            values: dict[str, list[float]] = {}
            for drawn, words in zip(drawn_stories(options, method, seed), prompts, strict=True):
                item = ImageSet(pictures=tuple(drawn), prompts=words)
                pair = mean_pair(rewards["pair_network"].matrix(item))
                values.setdefault("pair_network", []).append(np.nan if pair is None else pair)
                for reward in others:
                    values.setdefault(reward.name, []).append(reward([item]).values[0])
            samples.setdefault(method, values)
            for name, column in values.items():
                repeats.setdefault(f"{method} {name}", []).append([float(np.nanmean(column))])
    metrics = list(samples[METHODS[0]])
    tolerances = {
        name: pareto.tolerance(
            [[row[0] for row in repeats[f"{method} {name}"]] for method in METHODS]
        )
        for name in metrics
    }
    # A story that some method or metric has no value for is left out for all.
    every = np.array([column for s in samples.values() for column in s.values()])
    kept = np.isfinite(every).all(0)
    clean = {m: {n: np.array(v)[kept].tolist() for n, v in s.items()} for m, s in samples.items()}
    standings = pareto.standings(clean)
    means = {s.name: s.values for s in standings}
    return {
        "tolerances": tolerances,
        "systems": {s.name: {**s.values, "on_front": s.on_front, "probability": s.probability}
                    for s in standings},
        "conflicts": [vars(c) for c in pareto.conflicts(means, tolerances)],
    }  # fmt: skip


DOES = {"table": table, "checks": checks, "agreement": agreement_of_judges, "vectors": vectors}


def print_table(found: Mapping[str, Any], console: Console) -> None:
    """One row per measure."""
    columns = list(next(iter(found["rows"].values())))
    shown = Table("measure", *(name.replace("_", " ") for name in columns))
    for name, row in found["rows"].items():
        shown.add_row(NAMES[name], *(f"{row[column]:.3f}" for column in columns))
    console.print(shown)


def main(argv: Sequence[str] | None = None) -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    parser.add_argument("--weights", type=Path, help="of the pair network (default: as shipped)")
    parser.add_argument("--measures", help="some of them, separated by commas (default: all)")
    parser.add_argument("--families", type=int, default=100, help="held-out, of 12 pictures each")
    parser.add_argument("--drawn", type=int, help="families that are drawn (default: as many)")
    parser.add_argument("--dtype", help="what draws them: float32 (default), bfloat16")
    parser.add_argument("--stories", type=int, default=40, help="of 5 frames, to draw")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--keep", type=Path, default=Path("out/pair_reward"))
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/pair_reward.json"))
    options = parser.parse_args(argv)
    tune_allocator()
    console = Console(width=150)
    rewards = measures(options.weights)
    if options.measures:
        chosen = options.measures.split(",")
        unknown = [name for name in chosen if name not in rewards]
        if unknown:
            raise SystemExit(f"no measure {unknown[0]!r}; known: {', '.join(rewards)}")
        rewards = {name: rewards[name] for name in chosen}
    report: dict[str, Any] = {
        "families": options.families,
        "stories": options.stories,
        "frames": FRAMES,
        "steps": options.steps,
        "versions": versions(),
    }
    report = {**earlier(options.out, report), **report}
    for name in options.parts or PARTS:
        report[name] = merged(report.get(name), DOES[name](options, rewards))
        if name == "table":
            print_table(report[name], console)
        else:
            console.print(name, report[name])
    write_json(options.out, report)


def earlier(path: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What a run with the same settings has written; nothing if there is none."""
    if not path.exists():
        return {}
    found: dict[str, Any] = read_json(path)
    return found if all(found.get(key) == value for key, value in settings.items()) else {}


def merged(before: Any, found: dict[str, Any]) -> dict[str, Any]:
    """New rows in the place of earlier ones, in the order of `NAMES`."""
    if not isinstance(before, dict):
        return found
    if "rows" in found:
        return {**found, "rows": merged(before.get("rows"), found["rows"])}
    if not found.keys() <= NAMES.keys():
        return found
    both = {**before, **found}
    return {name: both[name] for name in NAMES if name in both}


if __name__ == "__main__":
    main()
