"""Schemas and the tree: the published layout, the compact schema, fast and agentic reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory.data.operations import Add, Batch
from consistent_gen.memory.data.records import Record, Turn
from consistent_gen.memory.data.store import AsOf, Hit, Store
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema, read_tree_schema
from consistent_gen.memory.recall.tree import PersonaTree

# Branches and leaf counts of the published schema (arXiv 2601.05171); leaf names are ours.
PUBLISHED = {
    "1_Biological_Characteristics": {"Physical_Appearance": 17, "Physiological_Status": 25,
                                     "Dynamic_Expressions": 9, "Biological_Rhythms": 9},
    "2_Psychological_Characteristics": {"Cognitive_Abilities": 12, "Thinking_Patterns": 12,
                                        "Psychological_State": 8, "Self_Perception": 11},
    "3_Personality_Characteristics": {"Core_Personality": 6, "Emotional_Characteristics": 7,
                                      "Attitudinal_Tendencies": 8, "Coping_with_Adversity": 6},
    "4_Identity_Characteristics": {"Life_Beliefs": 8, "Motivations_and_Goals": 5,
                                   "Social_Identity": 35, "Family_System": 12, "Life_Course": 7},
    "5_Behavioral_Characteristics": {
        "Behavioral_Habits": 9, "Lifestyle": 20, "Social_Interactions": 16,
        "Interests_and_Skills": 6, "Resource_Management": 7, "Digital_Behavior": 14,
        "Material_Security": 10, "Coping_Capacity": 4, "Knowledge_Base": 7,
        "Social_Engagement": 3, "Safety_and_Protection": 8, "Cross_Cultural_Adaptation": 4},
}  # fmt: skip


@pytest.fixture
def published(tmp_path: Path) -> Path:
    tree: dict[str, dict[str, dict[str, object]]] = {}
    for root, branches in PUBLISHED.items():
        for branch, count in branches.items():
            # Half of the leaves one level deeper, as the published tree has depth four.
            leaves: dict[str, object] = {f"Leaf_{n}": "" for n in range(count // 2)}
            leaves["More"] = {f"Leaf_{n}": "" for n in range(count // 2, count)}
            tree.setdefault(root, {})[branch] = leaves
    path = tmp_path / "human_tree_en.json"
    path.write_text(json.dumps(tree, indent=2))
    return path


def edit(store: Store, *ops: Add) -> None:
    store.apply(Batch(ops=ops, author="user"))


def test_the_published_layout_has_305_leaves(published: Path) -> None:
    tree_schema = read_tree_schema(published)
    assert len(tree_schema.leaves) == 305 and tree_schema.name == "human_tree_en"
    roots = [sum(leaf.startswith(f"{root}.") for leaf in tree_schema.leaves) for root in PUBLISHED]
    assert roots == [60, 43, 27, 67, 108]
    assert max(leaf.count(".") + 1 for leaf in tree_schema.leaves) == 4
    leaf = "5_Behavioral_Characteristics.Lifestyle.More.Leaf_12"
    assert (
        tree_schema.knows(leaf)
        and not tree_schema.knows(leaf + "x")
        and not tree_schema.knows(leaf + ".x")
    )


def test_a_store_takes_the_published_schema(
    published: Path, opened: Callable[..., Store], tmp_path: Path
) -> None:
    tree_schema = read_tree_schema(
        published, open_branches=frozenset({"5_Behavioral_Characteristics"})
    )
    store = opened(tmp_path, tree_schema=tree_schema)
    path = "1_Biological_Characteristics.Physical_Appearance.Leaf_0"
    edit(store, Add(target=path, value="tall"), Add(target="Identity.Home", value="x"),
         Add(target="5_Behavioral_Characteristics.Chess", value="plays"))  # fmt: skip
    tree = PersonaTree(store, tree_schema)
    assert list(tree.leaves()) == [path, "5_Behavioral_Characteristics.Chess"]
    full = json.loads(tree.full())
    assert full["1_Biological_Characteristics"]["Physical_Appearance"]["Leaf_0"] == "tall"
    assert json.dumps(full).count('""') == 304


@pytest.mark.parametrize("text", [
    "", "[]", "{}", '{"a": 1}', '{"a": {}}', '{"a": null}', '{"a.b": ""}', '{"a": {"": ""}}',
    '{"a": "", "a": ""}', '{"a": ["b"]}', '{"' + '": {"'.join("abcdefghij") + '": ""' + "}" * 10,
    "[" * 100_000,
])  # fmt: skip
def test_other_layouts_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.json").write_text(text)
    with pytest.raises(InputError):
        read_tree_schema(tmp_path / "t.json")


def test_schema_files_are_bounded_and_open_branches_checked(
    published: Path, tmp_path: Path
) -> None:
    (tmp_path / "big.json").write_text(" " * (1024**2 + 1))
    with pytest.raises(LimitError):
        read_tree_schema(tmp_path / "big.json")
    with pytest.raises(InputError, match="no such"):
        read_tree_schema(tmp_path / "none.json")
    with pytest.raises(InputError, match="not a branch"):
        read_tree_schema(published, open_branches=frozenset({"Nowhere"}))


def test_the_compact_schema_is_small_and_explained() -> None:
    assert 35 <= len(COMPACT.leaves) <= 48
    assert all(COMPACT.leaves.values()) and all(path.count(".") == 1 for path in COMPACT.leaves)
    assert all(any(p.startswith(f"{b}.") for p in COMPACT.leaves) for b in COMPACT.open_branches)


def test_open_branches_go_four_deep() -> None:
    tree_schema = TreeSchema("t", {"A.b": "", "C.d": ""}, frozenset({"A"}))
    for path, known in (("A.x", True), ("A.x.y.z", True), ("A.x.y.z.q", False), ("C.x", False),
                        ("A", False), ("A.b.c", False), ("A. x", False), ("A.x;y", False),
                        ("A.日本", True)):  # fmt: skip
        assert tree_schema.knows(path) is known, path


def test_fast_reading_is_the_filled_leaves(lite: Store, clock: Callable) -> None:
    tree = PersonaTree(lite)
    assert json.loads(tree.fast()) == {} and tree.value("Identity.Home") == ""
    edit(lite, Add(target="Likes.Food", value="ramen"), Add(target="Identity.Home", value="Oslo"))
    assert json.loads(tree.fast()) == {"Identity": {"Home": "Oslo"}, "Likes": {"Food": "ramen"}}
    assert list(json.loads(tree.fast())) == ["Identity", "Likes"], "in the order of the schema"
    before = clock()
    clock.advance(days=1)
    edit(lite, Add(target="Identity.Home", value="Rome"))
    assert tree.value("Identity.Home") == "Rome"
    past = PersonaTree(lite, as_of=AsOf(world=before + timedelta(hours=1)))
    assert past.value("Identity.Home") == "Oslo"
    assert PersonaTree(lite, persona="other").leaves() == {}


def test_a_listener_sees_filled_leaves_and_likely_empty_ones(lite: Store) -> None:
    edit(lite, Add(target="Identity.Name", value="Ann"))
    shown = json.loads(PersonaTree(lite).for_listener("I started a new job as a nurse", limit=5))
    assert shown["Identity"]["Name"] == "Ann" and shown["Work"]["Job"] == ""
    assert sum(len(leaves) for leaves in shown.values()) == 6

    def by_length(chunk: str, described: Sequence[str]) -> list[float]:
        return [float("allergies" in line) for line in described]

    shown = json.loads(PersonaTree(lite).for_listener("x", similarity=by_length, limit=1))
    assert shown == {"Identity": {"Name": "Ann"}, "Body": {"Health": ""}}


def test_agentic_reading_asks_several_queries_and_ranks(lite: Store) -> None:
    ids = lite.record([Turn(text=f"{w} talk") for w in ("tea", "cat", "job", "sea")]).ids
    asked: list[str] = []

    def rewrite(tree: str, question: str) -> list[str]:
        assert json.loads(tree) == {} and question == "what?"
        return ["tea", " cat ", "", "tea cat", "sea"]

    def search(query: str, limit: int) -> Sequence[Hit]:
        asked.append(query)
        return lite.full_text(query, limit=limit)

    found = PersonaTree(lite).agentic("what?", rewrite, search)
    assert asked == ["tea", "cat", "tea cat"] == list(found.queries)
    assert {r.id for r in found.records} == set(ids[:2])

    def rerank(question: str, records: Sequence[Record]) -> list[float]:
        return [float("cat" in r.text) for r in records]

    found = PersonaTree(lite).agentic("what?", rewrite, search, rerank=rerank)
    assert [r.text for r in found.records] == ["cat talk", "tea talk"]
    assert PersonaTree(lite).agentic("job", lambda *_: [], search).queries == ("job",)
