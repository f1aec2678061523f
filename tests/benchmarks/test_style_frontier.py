"""The frontier of the style policies: what cannot be beaten, and whom it is read of."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from benchmarks.style_frontier import frontier, main, sweep, users_of
from consistent_gen.memory.talk.style_policy import StylePolicy, measure_policy


def test_the_ends_of_the_frontier_and_its_order(tmp_path: Path) -> None:
    own, other = "hey dude gonna lol!!!", "I would appreciate clarification regarding it."
    turns = {"turns": [{"text": text} for text in (own, other) * 4]}
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(turns), encoding="utf-8")
    (tmp_path / "b.txt").write_text(f"{own}\n{other}\n\nalone\n", encoding="utf-8")
    users = users_of(sorted(tmp_path.iterdir()))
    assert [len(user) for user in users] == [8, 2]  # one turn alone has no stability
    settings = frontier(users)
    assert len(settings) == len(list(sweep()))
    best = {one.policy for one in settings if one.best}
    assert {"static", "uncapped"} <= best
    for one in settings:
        if not one.best:
            assert any(
                o.measures["synchrony"] >= one.measures["synchrony"]
                and o.measures["stability"] >= one.measures["stability"]
                for o in settings if o.best
            ), one  # fmt: skip
    out = tmp_path / "out.json"
    assert main([str(tmp_path), "--out", str(out)]) == 0
    assert json.loads(out.read_text())["flip"] == 0.3333


def test_a_flip_of_any_dimension_counts() -> None:
    calm, lively = (0.5,) * 8, (0.5,) * 4 + (0.9,) + (0.5,) * 3
    uncapped = StylePolicy(name="uncapped", start=calm)
    assert measure_policy(uncapped, [lively, calm]).register_flips == 1
    assert measure_policy(StylePolicy(name="cap", kappa=0.3), [lively]).register_flips == 0
