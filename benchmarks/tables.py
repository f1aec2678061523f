"""docs/benchmarks.md from benchmarks/results: `python -m benchmarks.tables > docs/benchmarks.md`.

Every figure of the page comes out of a JSON file that a benchmark script wrote; a test holds the
page and the files together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.markdown import interval, table
from benchmarks.tables_identity import identity, identity_parts
from benchmarks.tables_memory import (
    memory_ablation,
    memory_operations,
    memory_pictures,
    memory_speed,
    memory_turns,
    style_frontier,
)
from benchmarks.tables_persona import (
    checks,
    information_grpo,
    measured,
    persona_lab,
    population,
    published,
    published_sets,
)
from consistent_gen.checkpoints import read_json

RESULTS = Path(__file__).parent / "results"

HEAD = """\
# Benchmarks

Made from `benchmarks/results/*.json` by `python -m benchmarks.tables > docs/benchmarks.md`; a test
holds the two together. Each section names the command that measures it. What a figure means on
which machine, and what was tried, stands in the [log](log.md).
"""


def page(folder: Path = RESULTS) -> str:
    """The text of docs/benchmarks.md, from the result files that exist."""
    sections = [
        render(read_json(folder / f"{name}.json"))
        for name, render in SECTIONS.items()
        if (folder / f"{name}.json").exists()
    ]
    return "\n".join([HEAD, *sections])


def _speed(result: Mapping[str, Any]) -> str:
    rows = [
        (
            f"{result['frames']} frames, {result['steps']} steps, guidance",
            f"{result['seconds']:.2f} s",
        ),
        ("denoiser rows per second", f"{result['unet_forwards_per_second']:.1f}"),
        ("GFLOP/s while drawing", f"{result['gflops']:.0f}"),
        ("GEMM peak of the same run, GFLOP/s", f"{result['gemm_peak_gflops']:.0f}"),
        ("share of the peak", f"{result['share_of_peak']:.1%}"),
    ]
    return "## Drawing speed\n\n`python -m benchmarks.speed`\n\n" + table(("", ""), rows)


def _default_story(result: Mapping[str, Any]) -> str:
    rows = [(n, way["size"], f"{way['seconds']:.2f} s") for n, way in result["ways"].items()]
    head = (
        "## The default story\n\n`python -m benchmarks.default_story`, planning, scores and files "
    )
    head += f"included; peak memory {result['peak_mib']:.0f} MiB.\n\n"
    return head + table(("4 frames", "size", "time"), rows)


def _model_card(result: Mapping[str, Any]) -> str:
    sets = result["sets"]
    names = list(next(iter(sets.values()))["reader"]["headline"])
    rows = []
    for label, entry in sets.items():
        for network in ("reader", "judge"):
            if network in entry:
                seen = entry[network]
                figures = [f"{seen['headline'][name]:.2f}" for name in names]
                rows.append((f"{label}, {network}", f"{seen['mean']:.3f}", *figures))
    head = "## What the story-world model draws\n\n`python -m benchmarks.model_card`\n\n"
    return head + table(("prompts", "mean", *names), rows)


def _sharing_cost(result: Mapping[str, Any]) -> str:
    rows = [
        (
            model, name, f"{row['flop_ratio']:.3f}", f"{row['flop_ratio_formula']:.3f}",
            f"{row['wall_ratio']:.2f}" if "wall_ratio" in row else "",
            f"{row['bank_bytes'] / 2**20:.1f}", f"{row['bank_bytes_predicted'] / 2**20:.1f}",
        )
        for model, methods in result["models"].items()
        for name, row in methods.items()
    ]  # fmt: skip
    rows += [
        (model, name, f"{row['flop_ratio']:.3f}", f"{row['flop_ratio_formula']:.3f}", "", "", "")
        for model, methods in result["full_size"].items()
        for name, row in methods.items()
    ]
    counts = result["frame_counts"]
    modes = [
        (
            model, name, *(f"{entry['bytes'] / 1e9:.2f}" for entry in row["modes"].values()),
            f"{row['modes']['hidden']['tflop']:.1f}", str(row["modes"]["replay"]["extra_calls"]),
            row["auto_24_gb"],
        )
        for model, methods in result.get("modes", {}).items()
        for name, row in methods.items()
    ]  # fmt: skip
    shown = [
        list(row["modes"]) for rows in result.get("modes", {}).values() for row in rows.values()
    ]
    memory = [
        (name, *(f"{peak:.0f}" for peak in row["peak_mb"]), f"{row['mb_per_frame']:.2f}")
        for name, row in result["memory"].items()
    ]
    columns = ("model", "method", "FLOP", "by formula", "wall", "bank MB", "predicted MB")
    return (
        "## What an added frame costs\n\n`python -m benchmarks.sharing_cost`, as ratios to a plain "
        "frame of the same run. Published networks are counted whole, on shapes alone; those timed "
        "have their widths, but one layer per block. A bank is predicted as if the character "
        "filled its pictures, so methods with masks take less; the last column is from an earlier "
        "version, which waited for the masks.\n\n"
        + table(columns, rows)
        + (_modes(shown[0], modes) if shown else "")
        + "\nPeak memory of a whole process, in MB, by frames of the story:\n\n"
        + table(("method", *map(str, counts), "per frame"), memory)
    )


def _modes(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    head = (
        "\nWhat one character's anchors take in each [memory mode](memory_modes.md) in GB, as if "
        "it filled its pictures (50 steps, half precision, guidance where it takes rows); what "
        "`hidden` projects again (TFLOP) and `replay` draws again (steps of one anchor) per added "
        "frame; and what `auto` takes on a card of 24 GB:\n\n"
    )
    return head + table(("model", "method", *names, "TFLOP", "steps", "24 GB"), rows)


def _consistency(title: str) -> Callable[[Mapping[str, Any]], str]:
    columns = (
        "alignment", "prompt_matching", "pose_diversity", "layout_diversity", "style_accuracy",
        "background_leak", "seconds_per_frame", "peak_mb_per_frame", "denoiser_calls",
    )  # fmt: skip

    def render(result: Mapping[str, Any]) -> str:
        methods = result["methods"]
        # A run without costs has no columns for them.
        known = [c for c in columns if all(c in entry for entry in methods.values())]
        rows = [
            (
                name,
                interval(entry["c_star"]),
                interval(entry["over_vanilla"]["c_star"]),
                *(f"{entry[column]:.3f}" for column in known),
            )
            for name, entry in methods.items()
        ]
        heads = ("method", "C*", "over vanilla", *(c.replace("_", " ") for c in known))
        stories, networks = len(result["seeds"]["stories"]), " and ".join(result["networks"])
        told = (
            f"`python -m benchmarks.consistency`: {stories} stories of 5 frames, "
            f"{result['settings']['steps']} steps, read by {networks}; real pictures have C* "
            f"{interval(result['truth']['c_star'])}.\n\n"
        )
        return f"## {title}\n\n{told}" + table(heads, rows)

    return render


def _pairs(result: Mapping[str, Any]) -> str:
    columns = ("c_star_alone", "c_star_together", "c_star_across", "loss", "swap_rate", "found")
    rows = [
        (name, *(interval(entry[column]) for column in columns))
        for name, entry in result["methods"].items()
    ]
    heads = ("method", *(column.replace("_", " ") for column in columns))
    stories, networks = len(result["seeds"]["stories"]), " and ".join(result["networks"])
    told = (
        f"`python -m benchmarks.consistency_pairs`: {stories} stories, 15 frames of two characters "
        f"together and of each alone, {result['settings']['steps']} steps, read by {networks}."
    )
    return f"## Two characters in one story\n\n{told}\n\n" + table(heads, rows)


def _persona(result: Mapping[str, Any]) -> str:
    found = result["results"]
    rows = [
        (
            name,
            *(interval(entry[f"recall@{k}"]) for k in (1, 5, 10)),
            f"{entry['stale_rate']:.2f}",
            f"{entry['tokens_mean']:.0f}",
        )
        for name, entry in found["memories"].items()
    ]
    facts = [
        ("state accuracy as of any time, gold operations", f"{found['state_accuracy']:.3f}"),
        ("junk rate", f"{found['junk_rate']:.3f}"),
        ("core writes by attacks", f"{found['attacks_written']} of {found['attacks']}"),
        ("forgotten facts still found", f"{found['forgotten_left']} of {found['forgotten']}"),
    ]
    columns = ("memory", "recall@1", "recall@5", "recall@10", "stale answers", "tokens")
    return (
        "## Persona memory: synthetic users\n\n`python -m benchmarks.persona synthetic`\n\n"
        + table(columns, rows)
        + "\n"
        + table(("", ""), facts)
    )


def _serving(result: Mapping[str, Any]) -> str:
    load = [
        (
            str(row["users"]), f"{row['frames_per_second']:.2f}", f"{row['p50_s']:.1f}",
            f"{row['p95_s']:.1f}", f"{row['p99_s']:.1f}", str(row["rejected"]),
        )
        for row in result["load"]
    ]  # fmt: skip
    policies = [
        (row["policy"], f"{row['frames_per_second']:.2f}", f"{row['p95_s']:.1f}")
        for row in result["policies"]
    ]
    identity, fairness, start = result["identity"], result["fairness"], result["start"]
    facts = [
        ("frames with equal bytes alone and in random company",
         f"{identity['identical']} of {identity['frames']}"),
        ("fairness ratio between a small and a large user", f"{fairness['ratio']:.2f}"),
        ("frames per second over one at a time", f"{result['speedup']['one at a time']:.2f}"),
        ("frames per second over whole requests", f"{result['speedup']['whole batches']:.2f}"),
        ("start to ready, to first frame",
         f"{start['ready_s']:.1f} s, {start['first_frame_s']:.1f} s"),
    ]  # fmt: skip
    return (
        f"## Serving\n\n`python -m benchmarks.serving`, {result['steps']} steps per frame\n\n"
        + table(("users", "frames/s", "p50 s", "p95 s", "p99 s", "rejected"), load)
        + "\n16 users at once:\n\n"
        + table(("batching", "frames/s", "p95 s"), policies)
        + "\n"
        + table(("", ""), facts)
    )


def _first_frame(result: Mapping[str, Any]) -> str:
    moments = [
        (name.removesuffix("_s").replace("_", " "), f"{seconds:.1f}")
        for name, seconds in result.items()
        if name.endswith("_s")
    ]
    return (
        "## From `make serve` to the first picture in a browser\n\n"
        "`python -m benchmarks.first_frame`, the example story that is filled in\n\n"
        + table(("", "seconds since the command"), moments)
    )


def _soak(result: Mapping[str, Any]) -> str:
    memory = result["memory"]
    did = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in result["did"].items())
    facts = [
        (
            "memory after warm-up, at the end, at most (MB)",
            f"{memory['first_mb']:.0f}, {memory['last_mb']:.0f}, {memory['peak_mb']:.0f}",
        ),
        ("growth", f"{memory['growth']:.1%}"),
        ("answers that nobody expected", str(len(result["surprises"]))),
        ("what happened", did),
    ]
    return (
        "## Serving for long\n\n`python -m benchmarks.soak`, "
        f"{result['users']} users, {result['minutes']:g} minutes\n\n" + table(("", ""), facts)
    )


def _chaos(result: Mapping[str, Any]) -> str:
    rows = []
    for run in result["runs"]:
        faults = ", ".join(f"{count} {name}" for name, count in run["faults"].items())
        done = run["states"].get("succeeded", 0)
        rows.append(
            (
                f"{run['store']}, {run['gateways']}", f"{done} of {run['stories']}",
                f"{run['frames'] - run['unequal']} of {run['frames']}", str(run["most_attempts"]),
                str(run["disordered_events"]), str(run["repeated_calls"]),
                f"{run['seconds']:.0f}", faults,
            )
        )  # fmt: skip
    columns = (
        "store, gateways", "stories drawn", "frames with equal bytes", "most attempts",
        "events out of order", "calls repeated", "seconds", "faults",
    )  # fmt: skip
    first = result["runs"][0]
    return (
        f"## Serving while processes die\n\n`python -m benchmarks.chaos`, {first['users']} users, "
        f"{first['workers']} drawing workers, leases of {first['lease_s']:g} s, a busy machine\n\n"
        + table(columns, rows)
    )


def _subject_encoder(result: Mapping[str, Any]) -> str:
    heads = {
        "retrieval": "nearest is right",
        "retrieval_with_twins": "among twins",
        "auc": "AUC",
        "auc_twins": "AUC against the twin",
    }
    rows = [(n, *(f"{v[h]:.3f}" for h in heads)) for n, v in result["views"].items()]
    places = result["views"]["subject encoder"]
    text = (
        "## Knowing a subject again\n\n"
        f"`python -m benchmarks.subject_encoder`, {result['groups']} held-out subjects in two "
        "views each, other pose, style and place; a twin differs in three factors\n\n"
        + table(("", *heads.values()), rows)
        + f"\nThe encoder's parts: {places['part_accuracy']:.1%} of cells right, mean overlap "
        f"{places['part_overlap']:.2f}. Its keypoints: {places['keypoint_error']:.1%} of the crop "
        "off.\n"
    )
    drawn = result.get("drawings")
    if drawn is None:
        return text
    return text + (
        f"\n{drawn['pictures']} pictures that the model drew; the judge calls {drawn['same']} of "
        "their pairs the same:\n\n"
        + table(("", "AUC"), [(name, f"{value:.3f}") for name, value in drawn["auc"].items()])
    )


def _pair_reward(result: Mapping[str, Any]) -> str:
    rows = result["table"]["rows"]
    columns = list(next(iter(rows.values())))
    cells = [(name, *(f"{row[column]:.3f}" for column in columns)) for name, row in rows.items()]
    head = (
        "## Do two pictures show the same somebody?\n\n`python -m benchmarks.pair_reward`, "
        f"{result['families']} held-out families of 12 true pictures, and "
        f"{result['table']['drawn_pairs']} pairs of drawn ones that the judge calls clearly, "
        f"{result['table']['drawn_same']} of them the same (`true` and `drawn`). Accuracy at the "
        "threshold that is best on such pairs of training identities (`drawn accuracy by true`: on "
        "their true pairs); tau and rho of four candidates against a "
        "reference, and tau as published, of order lists.\n\n"
    )
    text = head + table(("score", *(name.replace("_", " ") for name in columns)), cells)
    if "checks" not in result:
        return text
    names = ("response", "instruction", "asymmetry", "background", "scale")
    checked = [
        (
            name,
            *("n/a" if row[n] is None else f"{row[n]:.3f}" for n in names),
            "yes" if not row["failures"] else "no",
        )
        for name, row in result["checks"].items()
    ]
    told = (
        "\nContrast checks: right answers when two characters differ in one attribute, what "
        "changes with the order of the pictures, what a background costs, rank correlation with "
        "half size, and whether the score may be trained on:\n\n"
    )
    return text + told + table(("score", *names, "admitted"), checked)


def _planted_faults(result: Mapping[str, Any]) -> str:
    rows = [
        (
            fault,
            name,
            row["expected"],
            f"{row['mean_fall']:+.3f}",
            f"{row['share_that_fell']:.0%}",
            "yes" if row["as_expected"] else "no",
        )
        for fault, scores in result["faults"].items()
        for name, row in scores.items()
    ]
    head = (
        "## Planted faults\n\n`python -m benchmarks.planted_faults`, "
        f"{result['cases']} sets of three pictures for each fault, which one of them has. What was "
        "expected was written before these cases were drawn, after a pilot of twelve others.\n\n"
    )
    return head + table(("fault", "score", "expected", "mean fall", "fell", "as expected"), rows)


def _conversations(result: Mapping[str, Any]) -> str:
    total, asked = result["total"], result["total"]["questions"]
    rows = [
        ("facts that hold at the end, kept", f"{total['kept']} of {total['facts']}"),
        ("precision of what is stored", f"{total['precision']:.2f}"),
        ("facts that ended and are still there", f"{total['stale']} of {total['ended']}"),
        ("clauses that should not be kept, kept", f"{total['trapped']} of {total['traps']}"),
        *(
            (f"questions: {name}", f"{asked[name]:.2f}")
            for name in ("right", "stale", "wrong", "unknown")
        ),
        ("a turn's listening, 95th percentile", f"{total['listen_ms_p95']:.0f} ms"),
    ]
    return (
        "## Natural conversations\n\n`python -m benchmarks.conversations benchmarks/conversations "
        f"--words-only`, {len(result['each'])} conversations of 40 turns, "
        f"{total['listener']}, and "
        "the answerer that needs no language model. What four others gave, which its writer had "
        "not read, stands in [memory](memory.md#listening).\n\n" + table(("", ""), rows)
    )


def _boxes(result: Mapping[str, Any]) -> str:
    rows = [(name, interval({"mean": row["asked"], **row})) for name, row in
            result["rows"].items()]  # fmt: skip
    return (
        f"## Where characters stand\n\n`python -m benchmarks.boxes --method {result['method']}`, "
        f"{result['frames']} frames each: the same sentences and seeds without and with `boxes`, "
        "for two who shall stand the other way round than they are named, and for one who shall "
        "stand on a side. Share of frames in which the judge sees everybody who was asked for, "
        "where they were asked.\n\n" + table(("frames", "as asked"), rows)
    )


def _best_of(result: Mapping[str, Any]) -> str:
    names = ("c_star_judge", "c_star_reader", "alignment", "prompt_matching", "nothing_unasked")
    parts = [
        "## The best of four candidates\n\n`python -m benchmarks.suite` with `--set world:Nx4` and "
        f"`--steps {result['steps']}`. C* of the judge, which chose nothing, counts; differences "
        "are paired by story.\n"
    ]
    for one in result["runs"]:
        base, *_ = systems = one["systems"]
        rows = []
        for label, entry in systems.items():
            cells = [interval(entry[name]["mean"]) for name in names]
            over = "" if label == base else interval(entry["c_star_judge"]["over_first"])
            rows.append((label, over, *cells))
        head = f"{len(one['stories'])} stories of 4 frames, two seeds each:\n\n"
        columns = (
            "system",
            "C* of the judge over the first",
            *(n.replace("_", " ") for n in names),
        )
        parts.append(head + table(columns, rows))
    return "\n".join(parts)


def _peers(result: Mapping[str, Any]) -> str:
    drawn, cost, added = [], [], []
    columns = ("method", "frames", "s a frame, ours", "theirs", "times")
    for name, row in result["rows"].items():
        found = row["consistency"]
        ways = [interval(found[way]) for way in ("ours", "theirs", "difference")]
        drawn.append((name, str(found["stories"]), *ways))
        if "cost" not in row:
            continue
        spent = row["cost"]["seconds"]
        seconds, taken = row["cost"]["added_seconds"], row["cost"]["added_bytes"]
        added.append(
            (
                name, *(f"{seconds[way]:.3f}" for way in ("ours", "theirs")),
                f"{seconds['ours'] / seconds['theirs']:.2f}",
                *(f"{taken[way] / 1e6:.1f}" for way in ("ours", "theirs")),
            )
        )  # fmt: skip
        for count, ours in spent["ours"].items():
            theirs = spent["theirs"][count]
            cost.append((name, count, f"{ours:.3f}", f"{theirs:.3f}", f"{ours / theirs:.2f}"))
    return (
        "## Beside the methods' own code\n\n`python -m benchmarks.peers` with checkouts of the "
        "authors' repositories: the same stories, seeds and stock pipeline, published settings, "
        f"{next(iter(result['rows'].values()))['consistency']['steps']} steps. C* by the judge, "
        "the difference paired by story; CPU seconds a frame, anchors included; and what a frame "
        "adds to a story, by the slope from the shortest to the longest one, of seconds and of the "
        "memory's peak.\n\n"
        + table(("method", "stories", "C*, ours", "C*, theirs", "difference"), drawn)
        + "\n"
        + table(columns, cost)
        + "\n"
        + table(
            ("method", "s an added frame, ours", "theirs", "times", "MB, ours", "theirs"), added
        )
    )


def _strangers(result: Mapping[str, Any]) -> str:
    alive, metrics, half = (result[k] for k in ("keep_alive", "metrics_bytes", "half_open"))
    rows = [
        (
            "`GET /livez` over a kept connection, median and 95th percentile",
            f"{alive['ours']['p50_ms']:.2f} and {alive['ours']['p95_ms']:.2f} ms",
        ),
        (
            "the same of an application that does nothing else",
            f"{alive['bare']['p50_ms']:.2f} and {alive['bare']['p95_ms']:.2f} ms",
        ),
        (
            f"`/metrics` after {metrics['requests']:,} requests that nobody means",
            f"{metrics['after']:,} bytes, {metrics['before']:,} before",
        ),
        (
            f"a good request beside {half['connections']} half-open connections",
            f"{half['good_s']:.3f} s",
        ),
    ]
    return "## Strangers' connections\n\n`python -m benchmarks.strangers`\n\n" + table(
        ("", ""), rows
    )


SECTIONS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "speed": _speed,
    "default_story": _default_story,
    "model_card": _model_card,
    "consistency": _consistency("Consistency, one style per story"),
    "consistency_pairs": _pairs,
    "consistency_styles": _consistency("The same, another style per frame"),
    "best_of": _best_of,
    "peers": _peers,
    "pair_reward": _pair_reward,
    "planted_faults": _planted_faults,
    "sharing_cost": _sharing_cost,
    "subject_encoder": _subject_encoder,
    "identity": identity,
    "identity_parts": identity_parts,
    "boxes": _boxes,
    "persona_synthetic": _persona,
    "persona_population": population,
    "conversations_parser": _conversations,
    "persona_lab": persona_lab,
    "persona_apc": measured("APC statement by statement", "apc"),
    "persona_lmedr": measured("Released replies against their profiles", "lmedr"),
    "persona_checks": checks,
    "information_grpo": information_grpo,
    "persona_tables": published,
    "persona_published": published_sets,
    "memory_speed": memory_speed,
    "memory_turns": memory_turns,
    "memory_pictures": memory_pictures,
    "memory_ablation": memory_ablation,
    "memory_operations": memory_operations,
    "style_frontier": style_frontier,
    "serving": _serving,
    "first_frame": _first_frame,
    "soak": _soak,
    "chaos": _chaos,
    "strangers": _strangers,
}

if __name__ == "__main__":
    print(page(), end="")
