"""Consistent runs may be consistently wrong: stability of repeated runs, next to correctness.

"Consistency Amplifies: How Behavioral Variance Shapes Agent Accuracy" (arXiv 2603.25764). A task is
run several times; its coefficient of variation is std / mean of the numbers of steps, and the
report's is the mean over tasks. The divergence step is the first at which not all runs act alike.
"Consistently wrong" are tasks in which all runs fail with the same labelled misreading. The first
version has 10 tasks of 5 runs, so intervals are wide and always shown. Nothing passes for being
consistent.

Departure: the sample CV is multiplied by 1 + 1/(4k) for k runs (Sokal and Rohlf), since std is too
small in few runs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from consistent_gen.errors import InputError
from consistent_gen.language.models import LanguageModel, Message
from consistent_gen.persona.asking import asked
from consistent_gen.persona.measurement import MeasuredItem, Measurement, PersonaReport
from consistent_gen.persona.persona import Persona
from consistent_gen.persona.scripted import Scripted
from consistent_gen.persona.statistics import mean, share

Quadrant: TypeAlias = Literal[
    "consistent and right", "consistent and wrong", "varied and right", "varied and wrong"
]
Check: TypeAlias = Callable[[str], tuple[bool, str]]  # of an answer: right, and else the misreading
MAX_STEPS = 40


@dataclass(frozen=True)
class AgentTask:
    """Something that takes steps. check: of the final answer."""

    id: str
    text: str
    check: Check


@dataclass(frozen=True)
class TaskRun:
    """One run. finished: whether an answer came within `MAX_STEPS`; misreading: "" where right."""

    actions: tuple[str, ...]
    right: bool
    misreading: str = ""
    finished: bool = True


def run_task(model: LanguageModel, persona: Persona | None, task: AgentTask) -> TaskRun:
    """The model says one action after the other until it says "ANSWER: ..."."""
    rule = 'Say your next single action in a few words. When you are done, say "ANSWER:" and it.'
    messages = [Message("user", f"{task.text}\n{rule}")]
    if persona is not None:
        messages.insert(0, Message("system", persona.prompt()))
    actions: list[str] = []
    for _ in range(MAX_STEPS):
        reply = model.chat(messages, max_tokens=64).strip()
        head, found, answer = reply.partition("ANSWER:")
        if found:
            right, misreading = task.check(answer.strip())
            return TaskRun((*actions, head.strip() or "answer"), right, misreading)
        actions.append(" ".join(reply.lower().split()))
        messages += [Message("assistant", reply or "-"), Message("user", "Done. Go on.")]
    return TaskRun(tuple(actions), False, "no answer", finished=False)


def divergence_step(runs: Sequence[TaskRun]) -> int | None:
    """The first step, from 1, whose action differs between runs; None where all are alike."""
    longest = max(len(run.actions) for run in runs)
    for step in range(longest):
        if len({run.actions[step] if step < len(run.actions) else None for run in runs}) > 1:
            return step + 1
    return None


def variation(runs: Sequence[TaskRun]) -> float:
    """std / mean of the numbers of steps, corrected for few runs."""
    steps = np.array([len(run.actions) for run in runs], float)
    return float(steps.std(ddof=1) / steps.mean() * (1.0 + 1.0 / (4.0 * len(steps))))


def quadrant(runs: Sequence[TaskRun]) -> Quadrant:
    """Consistent: all runs come out alike, right or with one same misreading. Right: most are."""
    right = sum(run.right for run in runs) * 2 > len(runs)
    alike = all(run.right for run in runs) or (
        not any(run.right for run in runs) and len({run.misreading for run in runs}) == 1
    )
    if alike:
        return "consistent and right" if right else "consistent and wrong"
    return "varied and right" if right else "varied and wrong"


def stability(subject: str, runs: Mapping[str, Sequence[TaskRun]]) -> PersonaReport:
    """The report on runs by task: "variation", "divergence step", "accuracy", "consistent and
    wrong" (of all tasks) and the shares of the other quadrants. Accuracy always stands
    beside stability.

    Raises:
        InputError: a task with fewer than two runs.
    """
    few = sorted(id for id, some in runs.items() if len(some) < 2)
    if few or not runs:
        raise InputError(f"stability needs two runs or more of each task; see {', '.join(few)}")
    tasks = list(runs.items())
    cv = {id: variation(some) for id, some in tasks}
    diverge = {id: divergence_step(some) for id, some in tasks}
    right = {id: sum(r.right for r in some) / len(some) for id, some in tasks}
    unfinished = sum(not r.finished for _, some in tasks for r in some)
    places = {id: quadrant(some) for id, some in tasks}
    items = tuple(
        MeasuredItem(id, cv[id], why=f"{places[id]}; diverges at {diverge[id]}") for id in runs
    )
    spread, accuracy = mean(list(cv.values())), mean(list(right.values()))
    apart = mean([float(step) for step in diverge.values() if step is not None])
    measured = [
        Measurement("variation", spread.value, spread.low, spread.high, spread.n, unfinished,
                    direction="none", unit="std / mean of steps", items=items,
                    note=f"accuracy is {accuracy.value:.2f}"),
        Measurement("divergence step", apart.value, apart.low, apart.high, apart.n,
                    len(tasks) - apart.n, direction="none",
                    note="tasks whose runs are all alike have none"),
        Measurement("accuracy", accuracy.value, accuracy.low, accuracy.high, accuracy.n),
    ]  # fmt: skip
    for name in ("consistent and wrong", "consistent and right", "varied and right",
                 "varied and wrong"):  # fmt: skip
        found = share(sum(place == name for place in places.values()), len(tasks))
        direction: Literal["lower", "none"] = "lower" if name == "consistent and wrong" else "none"
        measured.append(Measurement(name, found.value, found.low, found.high, found.n,
                                    direction=direction))  # fmt: skip
    return PersonaReport(subject, tuple(measured))


def passes(report: PersonaReport, least_accuracy: float) -> bool:
    """Whether runs are good enough: by accuracy alone, whatever their stability."""
    return report["accuracy"].low >= least_accuracy


def run_stability(
    model: LanguageModel, persona: Persona | None, tasks: Sequence[AgentTask], *, runs: int = 5
) -> PersonaReport:
    """Each task so often, each time anew."""
    done = {task.id: [run_task(model, persona, task) for _ in range(runs)] for task in tasks}
    return stability(model.name, done)


# What is planted.


@dataclass(frozen=True)
class StepWorker:
    """Does steps until it answers; their number varies by `cv` about `steps`.

    wrong: tasks (by their text) of which the answer is always the same wrong one.
    """

    cv: float
    steps: int = 12
    wrong: frozenset[str] = frozenset()

    def __call__(self, messages: Sequence[Message], draw: random.Random) -> str | None:
        text = messages[0].content if messages[0].role == "user" else messages[1].content
        task = text.partition("\n")[0]
        if not task.startswith("Task "):
            return None
        done = sum(message.role == "assistant" for message in messages)
        if done == 0 or not asked(messages).startswith("Done"):
            length = max(round(draw.gauss(self.steps, self.cv * self.steps)), 1)
            return f"plan {length}" if length > 1 else self._answer(task)
        planned = next(m.content for m in messages if m.content.startswith("plan "))
        return f"step {done}" if done + 1 < int(planned.split()[1]) else self._answer(task)

    def _answer(self, task: str) -> str:
        return f"ANSWER: {'seven' if task in self.wrong else 'eight'}"


def scripted_tasks(count: int) -> list[AgentTask]:
    """Numbered tasks whose answer is eight."""
    return [
        AgentTask(f"t{i}", f"Task {i}: count the legs of a spider.",
             lambda answer: (answer == "eight", "" if answer == "eight" else answer))
        for i in range(count)
    ]  # fmt: skip


def recover(seed: int, parameter: float) -> Measurement:
    """The variation of runs whose numbers of steps vary so much."""
    model = Scripted(StepWorker(parameter), seed=seed)
    return run_stability(model, None, scripted_tasks(20))["variation"]


def recover_wrong(seed: int, parameter: float) -> Measurement:
    """The share of tasks that are consistently wrong."""
    rng = np.random.default_rng(seed)
    tasks = scripted_tasks(40)
    wrong = frozenset(t.text for t in tasks if rng.random() < parameter)
    report = run_stability(Scripted(StepWorker(0.1, 3, wrong), seed=seed), None, tasks, runs=3)
    return report["consistent and wrong"]
