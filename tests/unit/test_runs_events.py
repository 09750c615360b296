"""Lines of the journal: what is written comes back, and what is broken is seen."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from loratui.runs.events import decode_line, encode_line, read_events

numbers = st.one_of(st.integers(-(2**63), 2**63 - 1), st.floats())
json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), numbers, st.text(st.characters(exclude_categories=["Cs"]))),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abcd"), inner, max_size=3)
    ),
    max_leaves=8,
)


def same(a: object, b: object) -> bool:
    return json.dumps(a, sort_keys=True) == json.dumps(b, sort_keys=True)


@given(st.dictionaries(st.sampled_from(["step", "loss", "lr", "x"]), json_values))
def test_a_line_comes_back(fields: dict[str, object]) -> None:
    event = {"n": 1, "t": 1.5, "a": 1, "kind": "other", **fields}
    line = encode_line(event)
    assert line.endswith(b"\n") and line.count(b"\n") == 1
    back = decode_line(line[:-1])
    expected = json.loads(json.dumps(event), parse_constant=lambda c: str(float(c)))
    assert same(back, expected)


def test_the_crc_is_of_the_bytes_before_it_and_the_line_is_plain_json() -> None:
    line = encode_line({"n": 3, "t": 2.0, "a": 1, "kind": "log", "message": "ü"})
    body, crc = line.split(b',"crc":"')
    assert int(crc[:8], 16) == zlib.crc32(body)
    assert list(json.loads(line))[-1] == "crc"


def test_non_finite_measurements_come_back_as_numbers_and_words_stay_words() -> None:
    step = decode_line(encode_line({"kind": "step", "loss": math.nan, "lr": {"unet": math.inf}})[:-1])
    assert step is not None and math.isnan(step["loss"]) and step["lr"]["unet"] == math.inf
    prompt = decode_line(encode_line({"kind": "sample", "prompt": "nan"})[:-1])
    assert prompt is not None and prompt["prompt"] == "nan"


def test_scalars_paths_and_undecodable_names_are_welcome() -> None:
    class Scalar:
        def item(self) -> float:
            return 0.25

    event = {"kind": "x", "v": Scalar(), "p": Path("a/b"), "s": "\udcff", "big": 2**80, "t": (1, {2})}
    expected = {"kind": "x", "v": 0.25, "p": "a/b", "s": "\\udcff", "big": 2**80, "t": [1, [2]]}
    assert decode_line(encode_line(event)[:-1]) == expected


@given(st.data())
def test_any_changed_byte_is_seen(data: st.DataObject) -> None:
    line = bytearray(encode_line({"n": 1, "t": 1.0, "a": 1, "kind": "step", "step": 5, "loss": 0.125})[:-1])
    at = data.draw(st.integers(0, len(line) - 1))
    line[at] ^= data.draw(st.integers(1, 255))
    assert decode_line(bytes(line)) is None


def test_torn_end_waits_and_bad_middle_is_skipped_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = [encode_line({"n": n, "t": 1.0, "a": 1, "kind": "step", "step": n}) for n in range(1, 5)]
    lines[1] = lines[1].replace(b'"step":2', b'"step":9')
    path.write_bytes(b"".join(lines[:3]) + b"\0\xff junk\n" + lines[3][:20])
    first = read_events(path)
    assert [e["n"] for e in first.events] == [1, 3]
    assert first.bad_lines == 2
    with path.open("ab") as file:
        file.write(lines[3][20:])
    second = read_events(path, first.offset)
    assert [e["n"] for e in second.events] == [4] and second.bad_lines == 0
    assert read_events(path, second.offset).events == []
    assert read_events(tmp_path / "none").events == []


def test_bounded_reads_add_up(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"".join(encode_line({"n": n, "kind": "log", "message": "x" * n}) for n in range(200)))
    seen, offset = [], 0
    while (read := read_events(path, offset, max_bytes=64)).offset != offset:
        seen += [e["n"] for e in read.events]
        offset = read.offset
    assert seen == list(range(200))
