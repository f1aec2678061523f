from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from consistent_gen.attention.bank import AnchorBank, Export, Key
from consistent_gen.attention.roles import Source
from consistent_gen.errors import ConsistentGenError, LimitError

FOX, CAT = Source("fox"), Source("cat")
KEY: Key = (FOX, "layer", 3, "cond")
CPU = torch.device("cpu")


def export(anchor: int = 0, m: int = 5) -> Export:
    k, v = torch.ones(m, 2, 4), torch.zeros(m, 2, 4)
    return Export(anchor=anchor, tokens=torch.arange(m), k=k, v=v)


def test_exports_come_back_by_anchor() -> None:
    bank = AnchorBank()
    bank.put(KEY, export(1))
    bank.put(KEY, export(0))
    assert [e.anchor for e in bank.get(KEY, CPU)] == [0, 1]
    bank.put(KEY, replace(export(1), k=torch.full((5, 2, 4), 7.0)))
    assert len(bank) == 2
    assert float(bank.get(KEY, CPU)[1].k[0, 0, 0]) == 7.0


def test_bytes_are_those_of_its_tensors() -> None:
    bank = AnchorBank()
    bank.put(KEY, export())
    assert bank.bytes == 2 * 5 * 2 * 4 * 4
    bank.put_result(KEY, 0, torch.zeros(5, 8))
    assert bank.bytes == 3 * 5 * 2 * 4 * 4
    bank.put(KEY, export(0, m=2))
    assert bank.bytes == 2 * 2 * 2 * 4 * 4
    bank.drop(CAT)
    assert len(bank) == 1
    bank.drop(FOX)
    assert bank.bytes == len(bank) == 0


def test_a_missing_export_says_whose_and_where() -> None:
    with pytest.raises(ConsistentGenError, match="'fox' left nothing at step 4 of layer layer"):
        AnchorBank().get(KEY, CPU)


def test_a_limit_is_kept_with_both_numbers_in_the_message() -> None:
    bank = AnchorBank(limit_bytes=400)
    bank.put(KEY, export())
    with pytest.raises(LimitError, match=r"takes 0\.0 MB, and 0\.0 MB are allowed"):
        bank.put(KEY, export(1))
    small = AnchorBank(limit_bytes=2_000_000)
    with pytest.raises(LimitError, match=r"takes 3\.5 MB, and 2\.0 MB are allowed; use fewer"):
        small.promise([FOX], 3_500_000)
    small.promise([FOX], 2_000_000)


def test_what_is_promised_is_nobody_elses() -> None:
    """Until it is drawn; then what it did not use is free again."""
    bank = AnchorBank(limit_bytes=1000)
    bank.promise([FOX], 600)
    with pytest.raises(LimitError):
        bank.promise([CAT], 600)
    bank.put(KEY, export())
    with pytest.raises(LimitError):
        bank.promise([CAT], 600)
    bank.drawn(FOX)
    bank.promise([CAT], 600)
    bank.drop(CAT)
    bank.promise([Source("cat", frozenset({"cat", "fox"}))], 600)


def test_a_bank_elsewhere_gives_the_same() -> None:
    bank = AnchorBank(device=torch.device("meta"))
    bank.put(KEY, export())
    assert bank.get(KEY, torch.device("meta"))[0].k.device.type == "meta"
    assert bank.bytes == export().bytes
