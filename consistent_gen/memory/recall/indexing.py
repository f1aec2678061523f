"""Keeping vectors up to date. Vectors are derived data: text is the truth, and all of this can
be run again at any time, after a crash as well."""

from __future__ import annotations

from collections.abc import Callable

from consistent_gen.language.embedders import TextEmbedder
from consistent_gen.memory.data.records import Kind, Record
from consistent_gen.memory.data.store import Store
from consistent_gen.memory.data.tree_schema import COMPACT

TEXT_ROLE = "text"
IMAGE_ROLE = "image"
TEXT_KINDS: tuple[Kind, ...] = ("turn", "core", "fact", "episode", "habit", "concept")
_BATCH = 128


def index_text(
    store: Store, embedder: TextEmbedder, *, progress: Callable[[int], None] | None = None
) -> int:
    """Embed every live record that has no vector in the embedder's space; returns how many.

    The first embedder of a memory becomes the one that answers. A later, different one only
    fills its space: `change_embedder` switches.
    """
    store.create_space(embedder.space, embedder.dimensions)
    done, seen = 0, set[str]()
    while records := store.without_vector(embedder.space, TEXT_KINDS, limit=_BATCH):
        # A record that is retired while we embed gets no vector and may be listed again.
        fresh = [record for record in records if record.id not in seen]
        if not fresh:
            break
        seen.update(record.id for record in fresh)
        vectors = embedder.text([embedding_text(record) for record in fresh])
        ids = [record.id for record in fresh]
        store.put_vectors(embedder.space, list(zip(ids, vectors, strict=True)))
        done += len(fresh)
        if progress is not None:
            progress(done)
    if store.active_space(TEXT_ROLE) is None:
        store.switch_space(TEXT_ROLE, embedder.space)
    return done


def change_embedder(
    store: Store, embedder: TextEmbedder, *, progress: Callable[[int], None] | None = None
) -> int:
    """Re-embed into the embedder's space, then switch, then drop the old space.

    Until the switch the old space answers; an interrupted run goes on where it stopped.
    """
    old = store.active_space(TEXT_ROLE)
    done = index_text(store, embedder, progress=progress)
    if old != embedder.space:
        store.switch_space(TEXT_ROLE, embedder.space)
        if old is not None:
            store.drop_space(old)
    return done


def embedding_text(record: Record) -> str:
    """What of a record is embedded: its words, with the name or the leaf it stands under.

    A leaf value alone ("Oslo") says too little to be found by a question, so the line that
    explains its leaf ("where they live now") goes with it.
    """
    label = record.label if record.kind in ("core", "habit", "concept", "episode") else ""
    leaf = label.rpartition(".")[2].replace("_", " ")
    line = COMPACT.leaves.get(label, "") if record.kind == "core" else ""
    return ". ".join(part for part in (leaf, line, record.text, " ".join(record.keywords)) if part)
