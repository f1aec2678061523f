"""POST /v1/stories/ideas: a story to edit and draw, limits, problems."""

from __future__ import annotations

import httpx
import pytest

from consistent_gen.client import ApiError, Client
from consistent_gen.client.types import FEWEST_IDEA_FRAMES, MAX_IDEA, MOST_IDEA_FRAMES, IdeaIn
from consistent_gen.story.ideas import plots, reading
from tests.services.web.hand import Hand

ROUTE = "/v1/stories/ideas"


def test_limits_are_those_of_the_command_line() -> None:
    assert (reading.MAX_IDEA, plots.FEWEST_FRAMES, plots.MOST_FRAMES) == (
        MAX_IDEA, FEWEST_IDEA_FRAMES, MOST_IDEA_FRAMES,
    )  # fmt: skip


def test_an_idea_is_a_story_that_draws_as_written(alice: Client, hand: Hand) -> None:
    wish = IdeaIn(idea="a shy fox finds a balloon", frames=5, seed=3)
    found = alice.write_story(wish)
    assert len(found.story.frames) == 5 and found.story.seed == 3
    assert all(frame.caption for frame in found.story.frames)
    assert alice.write_story(wish) == found != alice.write_story(IdeaIn(idea=wish.idea, frames=5))
    checked = alice.check_story(found.story.model_copy(update={"words": "strict"}))
    assert checked.problems == [] and not checked.changed
    accepted = alice.create_story(found.story.model_copy(update={"steps": 2}))
    assert alice.wait(accepted.job).state == "succeeded"


def test_what_cannot_be_drawn_is_told(alice: Client) -> None:
    found = alice.write_story(IdeaIn(idea="a dragon who wants to fly"))
    assert any("dragon" in notice for notice in found.notices)


def test_every_owner_may_ask_and_nothing_is_ordered(alice: Client, bob: Client) -> None:
    before = [line.id for line in bob.stories().stories]
    assert bob.write_story(IdeaIn(idea="a rainy day")).story.title == "A rainy day"
    assert [line.id for line in bob.stories().stories] == before


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ({"idea": ""}, "idea"),
        ({"idea": "?!"}, "idea: an idea is a sentence"),
        ({"idea": "http://example.org"}, "addresses are not read"),
        ({"idea": "x" * (MAX_IDEA + 1)}, "idea"),
        ({"idea": "a fox", "frames": 25}, "frames"),
        ({"idea": "a fox", "frames": 1}, "frames"),
        ({"idea": "a fox", "seed": -1}, "seed"),
        ({"idea": "a\u0000fox"}, "control character"),
        ({"ideas": "a fox"}, "did you mean 'idea'?"),
        ({}, "idea"),
    ],
)
def test_refusals_are_problems_in_words(
    raw: httpx.Client, body: dict[str, object], says: str
) -> None:
    answer = raw.post(ROUTE, json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_a_key_is_needed(raw: httpx.Client, alice: Client) -> None:
    with Client(alice.url) as nobody, pytest.raises(ApiError) as refused:
        nobody.write_story(IdeaIn(idea="a fox"))
    assert refused.value.status == 401


def test_the_schema_has_the_route(raw: httpx.Client) -> None:
    schema = raw.get("/openapi.json").json()
    operation = schema["paths"][ROUTE]["post"]
    assert operation["operationId"] == "write_story" and "422" in operation["responses"]
    assert schema["components"]["schemas"]["IdeaIn"]["properties"]["frames"]["maximum"] == 24
