"""Planted bugs still find the places that they change."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.mutants import MUTANTS, ROOT, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_its_place_is_there_once(mutant: Mutant) -> None:
    for file, text, _ in mutant.edits:
        assert (ROOT / file).read_text(encoding="utf-8").count(text) == 1, (file, text)
    assert (ROOT / mutant.test.partition("::")[0]).exists()


def test_no_two_have_one_name() -> None:
    assert max(Counter(mutant.name for mutant in MUTANTS).values()) == 1
