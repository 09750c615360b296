"""Any sequence of edits, by any operation on files of any style, then undo: every byte is as it was."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset.batch import load, plan, set_text
from loratui.dataset.edit_parse import OPERATIONS, parse_operation
from loratui.dataset.sidecar import read_caption
from loratui.project.history import Actor, FileChange, History, NoteChange, from_batch

ARGUMENTS: dict[str, list[tuple[str, ...]]] = {
    "add": [("long hair",), ("sks, b", "first"), ("x", "2")],
    "remove": [("a*",), ("sks", "?")],
    "replace": [("a", ""), ("é", "e"), (", ", "")],
    "re": [(r"(\w)\w*", r"\1"), ("[ab]", "中")],
    "rename": [("a*", "b"), ("sks", "日本")],
    "sort": [("name",), ("frequency", "1"), ("list", "{folder}/order.txt")],
    "dedupe": [()],
    "trigger-first": [(), ("b",), ("sks", "only-move")],
    "prefix": [("{trigger}, ",), ("é ",)],
    "suffix": [(", end",)],
    "spaces": [()],
    "strip": [()],
    "set": [("set to this, é",), ("{trigger}",)],
    "clear": [()],
    "imply": [("{folder}/rules.txt",)],
    "split-lines": [(), (", ",)],
    "join-lines": [(), (" ",)],
}
PICTURES = ["a.png", "b.jpg", "c.png", "d.png"]
TEXTS = [
    "",
    " ",
    "sks, a_b, a_b, >_<",
    "a, sks\nb, sks",
    "caf\xe9, A, a",
    "A cat is sitting on a bench in the park.",
]


def styled(text: str, encoding: str, newline: str, last: bool) -> bytes:
    """A text as some editor left it."""
    body = (text + "\n" * last).replace("\n", newline)
    return body.encode(encoding, "replace")


files = st.one_of(
    st.none(),
    st.binary(max_size=12),
    st.builds(
        styled,
        st.sampled_from(TEXTS),
        st.sampled_from(["utf-8", "utf-8-sig", "cp1252", "utf-16"]),
        st.sampled_from(["\n", "\r\n", "\r"]),
        st.booleans(),
    ),
)
operations = st.sampled_from(sorted(OPERATIONS)).flatmap(
    lambda name: st.tuples(st.just(name), st.sampled_from(ARGUMENTS[name]))
)
steps = st.one_of(
    st.tuples(st.just("batch"), operations, st.booleans()),
    st.tuples(st.just("batch"), operations, st.booleans()),
    st.tuples(st.just("hand"), st.sampled_from(PICTURES), st.sampled_from(TEXTS)),
    st.tuples(st.just("stars"), st.sampled_from(PICTURES), st.integers(0, 5)),
    st.tuples(st.sampled_from(["undo", "redo", "reopen"]), st.none(), st.none()),
)


def state(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.suffix in {".txt", ".caption"}}


def test_every_operation_is_tried() -> None:
    assert ARGUMENTS.keys() == OPERATIONS.keys()


@settings(max_examples=60, deadline=None)
@given(
    st.fixed_dictionaries(dict.fromkeys(PICTURES, files)),
    st.booleans(),
    st.lists(steps, min_size=1, max_size=8),
)
def test_any_edits_then_undo_leave_every_byte(
    start: dict[str, bytes | None], other_suffix: bool, doing: list[tuple]
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "dataset"
        folder.mkdir()
        (Path(name) / "order.txt").write_text("b\nsks\n")
        (Path(name) / "rules.txt").write_text("sks -> dog, animal\n-a_*\n")
        for number, (picture, raw) in enumerate(start.items()):
            (folder / picture).touch()
            if raw is not None:
                suffix = ".caption" if other_suffix and number % 2 else ".txt"
                (folder / picture).with_suffix(suffix).write_bytes(raw)
        before = state(folder)
        history = History(Path(name))
        entries = 0
        for kind, what, value in doing:
            if kind == "batch":
                operation, arguments = what
                filled = [a.replace("{folder}", name) for a in arguments]
                pictures = [folder / p for p in PICTURES]
                targets = load(pictures, history.pinned())
                batch = plan(parse_operation(operation, filled, "sks"), targets, value)
                outcome = history.commit(
                    from_batch(batch), Actor("batch", operation), batch.label, include_pinned=value
                )
                assert len(outcome.written) == len(batch.changes)
            elif kind == "hand":
                change = set_text(folder / what, value, read_caption(folder / what))
                outcome = history.commit([FileChange(change.path, change.raw, change.data)], Actor("hand"))
            elif kind == "stars":
                outcome = history.commit(
                    [], Actor("hand"), "stars", notes=[NoteChange(folder / what, "stars", value)]
                )
            elif kind == "reopen":
                history = History(Path(name))
                continue
            else:
                outcome = history.undo() if kind == "undo" else history.redo()
            assert not outcome.conflicts
            entries += bool(outcome.entry)
        history = History(Path(name))
        for _ in range(entries + 1):
            if not history.undo().entry:
                break
        assert state(folder) == before
        assert not history.pinned() and not history.notes("stars")
