"""Both codecs: published examples, round trips, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from consistent_gen.errors import InputError, LimitError
from consistent_gen.memory.data.operations import (
    Add,
    Delete,
    NoOp,
    Op,
    Update,
    decode_json,
    decode_lines,
    encode_json,
    encode_lines,
    salvage_lines,
)

# Lines in the published form, with paths as long and values as odd as listeners write them.
PUBLISHED = """ADD(1_Biological_Characteristics.Physiological_Status.Age, "Turned 34 in May")
UPDATE(4_Identity_Characteristics.Social_Identity.Job, "Nurse; was a florist until 2023")
DELETE(5_Behavioral_Characteristics.Lifestyle.Diet, None)
ADD(3_Personality_Characteristics.Core_Personality.MBTI, "says "INFP", not sure (took it once)")
NO_OP()
"""

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\n\r"), max_size=60)
paths = st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_ ]{0,8}[A-Za-z0-9]", fullmatch=True),
                 min_size=1, max_size=4).map(".".join)  # fmt: skip
ids = st.lists(st.from_regex(r"t[0-9a-f]{4}", fullmatch=True), max_size=3).map(tuple)
times = st.none() | st.datetimes(timezones=st.just(UTC))


def test_published_lines_read_as_operations() -> None:
    ops = decode_lines(PUBLISHED, evidence=("t1",))
    assert [op.name for op in ops] == ["ADD", "UPDATE", "DELETE", "ADD", "NO_OP"]
    first, fourth = ops[0], ops[3]
    assert isinstance(first, Add) and first.value == "Turned 34 in May"
    assert first.target == "1_Biological_Characteristics.Physiological_Status.Age"
    assert first.evidence == ("t1",)
    assert isinstance(fourth, Add) and fourth.value == 'says "INFP", not sure (took it once)'


def test_published_lines_round_trip() -> None:
    ops = decode_lines(PUBLISHED)
    assert decode_lines(encode_lines(ops)) == ops
    assert decode_json(encode_json(ops)) == ops


@given(st.lists(st.builds(Add, target=paths, value=words)
                | st.builds(Update, target=paths, value=words)
                | st.builds(Delete, target=paths) | st.just(NoOp())))  # fmt: skip
def test_lines_round_trip(ops: list[Op]) -> None:
    assert decode_lines(encode_lines(ops)) == tuple(ops)


@given(st.lists(
    st.builds(Add, target=words, value=words, kind=st.sampled_from(["core", "fact", "habit"]),
              evidence=ids, reason=words, at=times, until=times,
              fields=st.dictionaries(words, words | st.integers() | st.booleans()))
    | st.builds(Update, target=words, value=st.none() | words, evidence=ids, at=times,
                correction=st.booleans())
    | st.builds(Delete, target=words, kind=st.just("concept"), evidence=ids, at=times)
    | st.builds(NoOp, reason=words)))  # fmt: skip
def test_json_round_trips(ops: list[Op]) -> None:
    assert decode_json(encode_json(ops)) == tuple(ops)


@pytest.mark.parametrize("line", [
    'REMOVE(a.b, "x")', "ADD(a.b)", "ADD(a.b, x)", 'ADD(a.b, "x"', 'DELETE(a.b, "old")',
    "NO_OP(now)", "add a dog", '{"op": "ADD"}', 'ADD(, "x")',
])  # fmt: skip
def test_a_bad_line_is_an_error_with_its_number(line: str) -> None:
    with pytest.raises(InputError, match=r"^line 2: "):
        decode_lines(f"NO_OP()\n{line}")


def test_salvage_keeps_good_lines_and_reports_bad_ones() -> None:
    found = salvage_lines('Sure! Here:\nADD(a.b, "x")\n```')
    assert [op.name for op in found.ops] == ["ADD"]
    assert [p[:7] for p in found.problems] == ["line 1:", "line 3:"]


@pytest.mark.parametrize(("text", "says"), [
    ("nonsense", "JSON"),
    ("[]", "one object"),
    ('{"ops": [], "note": 1}', "one object"),
    ('{"ops": [{"op": "ADD", "value": "x", "valu": 1}]}', "did you mean 'value'"),
    ('{"ops": [{"op": "PUT"}]}', "unknown \"op\""),
    ('{"ops": [{"op": "UPDATE", "value": "x"}]}', "lacks target"),
    ('{"ops": [{"op": "ADD", "value": 3}]}', "expected a string"),
    ('{"ops": [{"op": "ADD", "value": "x", "kind": "turn"}]}', "unknown 'kind'"),
    ('{"ops": [{"op": "ADD", "value": "x", "at": "2026-01-01"}]}', "time zone"),
    ('{"ops": [{"op": "ADD", "value": "x", "at": "soon"}]}', "ISO 8601"),
    ('{"ops": [{"op": "ADD", "value": "x", "evidence": "t1"}]}', "list of turn ids"),
    ('{"ops": [{"op": "ADD", "value": "x", "value": "y"}]}', "twice"),
    ('{"ops": [{"op": "ADD", "value": "x", "fields": {"a": NaN}}]}', "NaN"),
    ('{"ops": [{"op": "DELETE", "target": "a", "correction": 1}]}', "true or false"),
    ("[" * 100_000, "JSON"),
])  # fmt: skip
def test_json_is_strict(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        decode_json(text)


def test_input_is_bounded() -> None:
    with pytest.raises(LimitError):
        decode_json(" " * 1_000_001)


def test_lines_refuse_what_they_cannot_say() -> None:
    for op in (Add(target="a", value="x\ny"), Add(kind="fact", value="x"),
               Add(target="a, b", value="x"), Update(target="a", value=None)):  # fmt: skip
        with pytest.raises(InputError):
            encode_lines([op])


def test_times_keep_their_moment() -> None:
    (op,) = decode_json('{"ops":[{"op":"ADD","value":"x","at":"2026-01-01T10:00:00+02:00"}]}')
    assert isinstance(op, Add) and op.at == datetime(2026, 1, 1, 8, tzinfo=UTC)
