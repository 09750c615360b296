"""Large collections are sorted as `sorted` does it, and emptied."""

from __future__ import annotations

import random
from typing import Any

import pytest

from loratui.dataset.gently import let_go, sort_gently


@pytest.mark.parametrize("count", [0, 1, 100, 4001, 30_000])
@pytest.mark.parametrize("names", [1, 7, 100_000])
def test_the_order_is_that_of_sorted_and_equals_stay(count: int, names: int) -> None:
    rng = random.Random(count + names)
    items = [(f"{rng.randrange(names):06d}", place) for place in range(count)]
    assert sort_gently(iter(items), lambda item: item[0]) == sorted(items, key=lambda item: item[0])


@pytest.mark.parametrize("items", [list(range(5001)), dict.fromkeys(range(5001)), set(range(5001)), [], {}])
def test_let_go_empties(items: Any) -> None:
    let_go(items)
    assert not items
