"""What the shelf says of all pictures."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from loratui.dataset.index import Indexed
from loratui.dataset.rows import INFO, PictureRow
from loratui.ui.counting import totals

_CODES = st.sampled_from(["dark", "light", "blurred", "low-information", *sorted(INFO)[:1]])
_ROW = st.tuples(st.lists(_CODES, unique=True, max_size=3), st.integers(0, 2), st.booleans(), st.booleans())


def row(problems: list[str], dup: int, captioned: bool, broken: bool) -> PictureRow:
    words, code = "a dog" if captioned else "", "corrupt" if broken else ""
    known = Indexed("a.png", 1, 1, 64, 64, 1, code, "", "", ".txt", words, "utf-8", None, None, "ok")
    return PictureRow(known=known, rel="a.png", problems=tuple(problems), dup=dup)


@given(st.lists(_ROW, max_size=12))
def test_totals_are_those_of_a_picture_after_the_other(rows: list[tuple[list[str], int, bool, bool]]) -> None:
    (captioned, look, broken), calm = totals([row(*one) for one in rows])
    many = {
        code
        for code in ("dark", "light", "low-information")
        if sum(code in codes for codes, *_ in rows) * 2 > len(rows) > 4
    }
    assert calm == INFO | many
    assert captioned == sum(text and not code for _, _, text, code in rows)
    assert broken == sum(code for *_, code in rows)
    assert look + broken == sum(bool(dup or set(codes) - calm) for codes, dup, *_ in rows)
