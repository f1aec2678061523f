"""Scores of pictures. The same callable serves as metric and as reward.

`base` says what a reward is. Rewards of story-world pictures are in `story_world`, of any pictures
in `baselines` and `pairwise`; `aggregators` make one advantage of several, `statistics` and
`pareto` say how sure and how good a system is. Each reward has a card (`docs/scores.md`).
"""

from consistent_gen.rewards.index import REWARDS

__all__ = ["REWARDS"]
