"""The persona tree: a view over core records, and the two ways of reading it.

PersonaTree (Inside Out, arXiv 2601.05171). The tree is not a second store: its leaves are the core
records that hold at the asked moment, keyed by path. *Fast* reading puts the filled leaves into
the prompt. *Agentic* reading lets a model rewrite the question with the tree at hand, searches
with each rewriting, and ranks what came back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from consistent_gen.memory.data.records import CoreLeaf, Record
from consistent_gen.memory.data.store import AsOf, Hit, Store
from consistent_gen.memory.data.tree_schema import COMPACT, TreeSchema

# From the tree (JSON) and the question to a few search queries; usually a language model.
Rewrite: TypeAlias = Callable[[str, str], Sequence[str]]
# From a query and a number to hits, best first; usually a hybrid retriever.
Search: TypeAlias = Callable[[str, int], Sequence[Hit]]
# From the question and candidates to scores, larger is better; usually a cross-encoder.
Rerank: TypeAlias = Callable[[str, Sequence[Record]], Sequence[float]]

CANDIDATE_PATHS = 30
QUERIES = 3
HITS_PER_QUERY = 4
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Evidence:
    """What agentic reading found: the queries that were asked and the records, best first."""

    queries: tuple[str, ...]
    records: tuple[Record, ...]


class PersonaTree:
    """The tree of one memory, optionally as of another moment and for one persona."""

    def __init__(
        self,
        store: Store,
        tree_schema: TreeSchema = COMPACT,
        *,
        as_of: AsOf | None = None,
        persona: str = "default",
    ) -> None:
        self._store = store
        self._schema = tree_schema
        self._as_of = as_of
        self._persona = persona

    def leaves(self) -> dict[str, CoreLeaf]:
        """The filled leaves by path, in the order of the schema; those outside it last."""
        held = self._store.list("core", as_of=self._as_of, persona=self._persona)
        found = {leaf.path: leaf for leaf in held if isinstance(leaf, CoreLeaf)}
        ordered = [path for path in self._schema.leaves if path in found]
        return {p: found[p] for p in (*ordered, *sorted(set(found) - set(ordered)))}

    def value(self, path: str) -> str:
        """The value of a leaf, or the empty string."""
        leaf = self.leaves().get(path)
        return "" if leaf is None else leaf.text

    def fast(self) -> str:
        """Fast mode: the filled leaves as nested JSON."""
        return _nested({path: leaf.text for path, leaf in self.leaves().items()})

    def full(self) -> str:
        """The whole schema as nested JSON with empty strings for empty leaves (13 KB when
        published): what the published listener models were trained on."""
        filled = {path: leaf.text for path, leaf in self.leaves().items()}
        return _nested({**dict.fromkeys(self._schema.leaves, ""), **filled})

    def for_listener(
        self,
        chunk: str,
        *,
        similarity: Callable[[str, Sequence[str]], Sequence[float]] | None = None,
        limit: int = CANDIDATE_PATHS,
    ) -> str:
        """The filled leaves and the ``limit`` empty paths most likely to be written by ``chunk``.

        ``similarity(chunk, descriptions)`` scores the empty leaves; without it words are counted.
        """
        filled = {path: leaf.text for path, leaf in self.leaves().items()}
        empty = [path for path in self._schema.leaves if path not in filled]
        described = [f"{_words(path)} {self._schema.leaves[path]}" for path in empty]
        scores = (similarity or _shared_words)(chunk, described)
        ranked = sorted(zip(empty, scores, strict=True), key=lambda pair: -pair[1])[:limit]
        chosen = {path for path, _ in ranked}
        shown = {path: "" for path in self._schema.leaves if path in chosen}
        return _nested({**shown, **filled})

    def agentic(
        self, question: str, rewrite: Rewrite, search: Search, *, rerank: Rerank | None = None
    ) -> Evidence:
        """Agentic mode: up to three rewritten queries, four hits each, ranked together.

        Without ``rerank`` hits are fused by reciprocal rank over the queries (k = 60, Cormack et
        al., SIGIR 2009). A rewriter that returns nothing leaves the question itself as the query.
        """
        asked = [q.strip() for q in rewrite(self.fast(), question) if q.strip()][:QUERIES]
        queries = tuple(dict.fromkeys(asked)) or (question,)
        fused: dict[str, float] = {}
        for query in queries:
            for rank, hit in enumerate(search(query, HITS_PER_QUERY)[:HITS_PER_QUERY], start=1):
                fused[hit.id] = fused.get(hit.id, 0.0) + 1.0 / (60 + rank)
        ids = sorted(fused, key=lambda id: (-fused[id], id))
        records = self._store.get(ids, as_of=self._as_of)
        if rerank is not None and records:
            scores = rerank(question, records)
            ranked = sorted(zip(scores, records, strict=True), key=lambda pair: -pair[0])
            records = tuple(record for _, record in ranked)
        return Evidence(queries, records)


def _nested(leaves: Mapping[str, str]) -> str:
    tree: dict[str, Any] = {}
    for path, value in leaves.items():
        *branches, leaf = path.split(".")
        node = tree
        for branch in branches:
            node = node.setdefault(branch, {})
        node[leaf] = value
    return json.dumps(tree, ensure_ascii=False)


def _words(path: str) -> str:
    return _CAMEL.sub(" ", re.sub(r"[\d_.]+", " ", path)).strip()


def _shared_words(chunk: str, descriptions: Sequence[str]) -> list[float]:
    """Share of each description's words whose first five letters begin a word of the chunk."""
    stems = {word[:5] for word in re.findall(r"\w{3,}", chunk.casefold())}
    scores = []
    for description in descriptions:
        words = re.findall(r"\w{3,}", description.casefold())
        scores.append(sum(word[:5] in stems for word in words) / max(len(words), 1))
    return scores
