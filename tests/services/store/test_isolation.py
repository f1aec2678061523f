"""Whatever belongs to somebody else does not exist: same error, same words, nothing changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from consistent_gen.client.types import (
    LibraryCharacterIn,
    LibraryCharacterPatch,
    Quality,
    StoryPatch,
)
from services.errors import NotFound
from services.store.tables import tables
from tests.services.shop import Shop, ordered

QUALITY = Quality(width=1, height=1, sharpness=1.0, brightness=0.5, verdict="good", advice=[])
NOTHING = {
    "job": "job_000000000000000000000000",
    "story": "sto_000000000000000000000000",
    "artifact": "art_000000000000000000000000",
    "character": "chr_000000000000000000000000",
    "reference": "ref_000000000000000000000000",
}
CALLS: dict[str, Callable[[Shop, str, dict[str, str]], Any]] = {
    "job get": lambda s, who, ids: s.jobs.get(who, ids["job"]),
    "job cancel": lambda s, who, ids: s.jobs.cancel(who, ids["job"]),
    "job retry": lambda s, who, ids: s.jobs.retry(who, ids["job"]),
    "job events": lambda s, who, ids: s.jobs.events(who, ids["job"]),
    "job create": lambda s, who, ids: s.jobs.create(
        owner=who, kind="reroll", story=ids["story"], frames=ordered(1, version=9)
    ),
    "story get": lambda s, who, ids: s.stories.get(who, ids["story"]),
    "story patch": lambda s, who, ids: s.stories.patch(
        who, ids["story"], StoryPatch(revision=1, title="mine now")
    ),
    "story delete": lambda s, who, ids: s.stories.delete(who, ids["story"]),
    "story next": lambda s, who, ids: s.stories.next_version(who, ids["story"], 0),
    "artifact open": lambda s, who, ids: s.artifacts.open(who, ids["artifact"]),
    "artifact read": lambda s, who, ids: s.artifacts.read(who, ids["artifact"]),
    "artifact delete": lambda s, who, ids: s.artifacts.delete(who, ids["artifact"]),
    "character get": lambda s, who, ids: s.library.get(who, ids["character"]),
    "character patch": lambda s, who, ids: s.library.patch(
        who, ids["character"], LibraryCharacterPatch(name="mine now")
    ),
    "character delete": lambda s, who, ids: s.library.delete(who, ids["character"]),
    "character export": lambda s, who, ids: s.library.export(who, ids["character"]),
    "reference add": lambda s, who, ids: s.library.add_reference(
        who, ids["character"], ids["artifact"], QUALITY
    ),
    "reference remove": lambda s, who, ids: s.library.remove_reference(
        who, ids["character"], ids["reference"]
    ),
}


@pytest.fixture
def ids(shop: Shop) -> dict[str, str]:
    """One of everything, all of it alice's; bob has a story of his own."""
    job = shop.submit("alice", frames=2)
    shop.submit("bob", frames=1)
    character = shop.library.create("alice", LibraryCharacterIn(name="Mia", description="a fox"))
    artifact = shop.artifacts.put("alice", b"picture", "image/png")
    reference = shop.library.add_reference("alice", character.id, artifact.id, QUALITY)
    return {
        "job": job.id,
        "story": job.story,
        "artifact": artifact.id,
        "character": character.id,
        "reference": reference.id,
    }


def contents(shop: Shop) -> list[list[tuple[Any, ...]]]:
    names = [table.name for table in tables(shop.db.applied())]
    return [
        [tuple(dict(row).values()) for row in shop.db.rows(f"SELECT * FROM {t}")]
        for t in sorted(names)
    ]


@pytest.mark.parametrize("call", CALLS)
def test_others_things_are_not_there(shop: Shop, ids: dict[str, str], call: str) -> None:
    before = contents(shop)
    said = []
    for wanted in (ids, NOTHING):
        with pytest.raises(NotFound) as refused:
            CALLS[call](shop, "bob", wanted)
        said.append(refused.value.message)
    assert said[0] == said[1] and "alice" not in said[0]
    assert contents(shop) == before


@pytest.mark.parametrize("call", CALLS)
def test_the_calls_would_work_for_the_owner(shop: Shop, ids: dict[str, str], call: str) -> None:
    if call in ("artifact delete", "reference add"):
        shop.library.remove_reference("alice", ids["character"], ids["reference"])
        ids["artifact"] = shop.artifacts.put("alice", b"picture", "image/png").id
    CALLS[call](shop, "alice", ids)


def test_a_foreign_artifact_cannot_become_a_reference(shop: Shop, ids: dict[str, str]) -> None:
    mine = shop.library.create("bob", LibraryCharacterIn(name="Mia", description="a fox"))
    with pytest.raises(NotFound):
        shop.library.add_reference("bob", mine.id, ids["artifact"], QUALITY)


def test_lists_hold_only_ones_own(shop: Shop, ids: dict[str, str]) -> None:
    assert [job.id for job in shop.jobs.page("alice").jobs] == [ids["job"]]
    assert ids["job"] not in [job.id for job in shop.jobs.page("bob").jobs]
    assert ids["story"] not in [story.id for story in shop.stories.list("bob").stories]
    assert shop.library.list("bob").characters == [] and shop.jobs.page("carol").jobs == []
    assert shop.artifacts.used_bytes("bob") == 0
