"""Sets of stories x systems x seeds, drawn and scored offline; goes on where it was stopped.

    python -m benchmarks.suite --quick --out out/suite
    python -m benchmarks.suite --set world:100 --set consistory.yaml:20 \\
        --system vanilla --system head_start --system "head_start best_of=4" --out out/suite

`--quick` is 20 stories of 5 frames, three methods, 8 steps: under 30 minutes on two idle cores.
Sets are those of `benchmarks.suite_sets`. Every drawing and every story's scores are files under
`--out`, named by all that decides them: a run that was stopped or killed goes on, another system or
more stories cost only themselves, and two runs give equal numbers. With several GPUs, put
`accelerate launch --num_processes N -m benchmarks.suite` in front: every process has one of its
own; `--ray auto` takes a whole Ray cluster, whose machines see `--out`. `results.json`,
`results.md` and `results.html` (one file, pictures in it) are written at the end; times stand in
`times.json`. Stories' seeds are made of `--seeds` and the story's number. Excess consistency C*
compares two drawings of a story, so it needs two seeds; the judge was never trained or selected
against.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks import suite_devices, suite_report
from benchmarks.suite_sets import read_set
from benchmarks.suite_tasks import DrawnSystem, SuitePlan, SuiteTask, tasks
from consistent_gen.bulk import Here, Workers, run
from consistent_gen.bulk.on_ray import RayWorkers
from consistent_gen.bulk.processes import Processes
from consistent_gen.checkpoints import atomic_file, write_json
from consistent_gen.draw_settings import DrawSettings
from consistent_gen.errors import ConsistentGenError, InputError

QUICK_SET, QUICK_STEPS = "world:20", 8
QUICK_SYSTEMS = ("vanilla", "head_start", "story_diffusion")


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="folder of artifacts and results")
    parser.add_argument("--quick", action="store_true", help="what is not said: the quick form")
    parser.add_argument("--set", action="append", default=[], dest="sets", metavar="SET")
    parser.add_argument("--system", action="append", default=[], dest="systems", metavar="SYSTEM")
    parser.add_argument("--seeds", default="1,2", help="separated by commas (default: 1,2)")
    parser.add_argument("--steps", type=int, default=None)
    parser.add_argument("--bucket", type=int, default=8, help="rows of a denoiser call")
    parser.add_argument("--model", default=None, help="a model folder (default: the shipped one)")
    parser.add_argument("--processes", type=int, default=2, help="of one thread each")
    parser.add_argument("--ray", metavar="ADDRESS", help="run on that Ray cluster, or on `local`")
    return parser.parse_args(argv)


def plan_of(options: argparse.Namespace) -> SuitePlan:
    """The plan that the command line asks for; what is to be told goes to stderr.

    Raises:
        InputError: a set, system or number that is none.
    """
    said = options.sets or ([QUICK_SET] if options.quick else [])
    systems = options.systems or (QUICK_SYSTEMS if options.quick else ())
    if not said:
        raise InputError("no set; give --set, such as --set world:20, or --quick")
    sets = {}
    for name in said:
        sets[name], told = read_set(name, options.model)
        for line in told:
            print(line, file=sys.stderr)
    if not systems and any(not entry.pictures for set_ in sets.values() for entry in set_):
        raise InputError("no system; give --system, such as --system head_start, or --quick")
    for label in systems:
        DrawnSystem.parse(label)
    seeds = [part.strip() for part in options.seeds.split(",")]
    if not all(seed.isdigit() for seed in seeds) or len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {options.seeds!r}: expected whole numbers such as 1,2")
    steps = options.steps or (QUICK_STEPS if options.quick else DrawSettings.steps)
    return SuitePlan(
        sets=sets, systems=tuple(systems), seeds=tuple(map(int, seeds)), steps=steps,
        bucket=options.bucket, model=options.model,
    )  # fmt: skip


def workers_of(options: argparse.Namespace) -> Workers:
    """Who runs the tasks of one machine, or of a Ray cluster."""
    if options.ray is not None:
        return RayWorkers(options.ray, options.processes)
    return Processes(options.processes) if options.processes > 1 else Here()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns 0, 1 if something could not be made, 2 for a mistake."""
    options = arguments(argv)
    try:
        plan = plan_of(options)
        found = tasks(plan)
    except ConsistentGenError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    root: Path = options.out
    root.mkdir(parents=True, exist_ok=True)
    try:
        return _run(plan, found, root, options)
    except ConsistentGenError as error:  # no such cluster
        print(error, file=sys.stderr)
        return error.exit_code


def _run(
    plan: SuitePlan, found: Sequence[SuiteTask], root: Path, options: argparse.Namespace
) -> int:
    started = time.perf_counter()

    def tell(task: SuiteTask, number: int, total: int) -> None:
        about = " ".join(str(part) for part in task.about.values())
        print(f"{number} of {total}: {task.kind} {about}", file=sys.stderr, flush=True)

    state = suite_devices.launched()
    if state is None:
        failed = run(found, root, workers_of(options), tell=tell)
    else:
        failed = suite_devices.run(found, root, state, tell=tell)
        if not state.is_main_process:  # one of them writes
            return 1 if failed else 0
    seconds = round(time.perf_counter() - started, 1)
    results = suite_report.results(plan, found, root, failed)
    write_json(root / "results.json", results)
    write_json(root / "times.json", {"seconds_of_this_run": seconds})
    for name, text in (
        ("results.md", suite_report.markdown(results)),
        ("results.html", suite_report.html(results, found, root)),
    ):
        with atomic_file(root / name) as place:
            place.write_text(text, encoding="utf-8")
    print(suite_report.markdown(results), end="")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
