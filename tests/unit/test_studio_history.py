"""The undo history: one door, every byte back, conflicts kept, pins obeyed, across restarts."""

from __future__ import annotations

import os
import stat
import tempfile
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratui.dataset.batch import load, plan
from loratui.dataset.edit_parse import parse_operation
from loratui.errors import DatasetError, LockedError
from loratui.project.history import Actor, FileChange, History, NoteChange, from_batch
from loratui.project.history_log import HistoryLog, blob_data, blob_line, digest, pack, unpack
from loratui.project.provenance import IMPORTED, provenance

HAND, BATCH = Actor("hand"), Actor("batch", "add")


def change(path: Path, after: bytes | None) -> FileChange:
    return FileChange(path, path.read_bytes() if path.exists() else None, after)


def files(root: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted(root.iterdir()) if p.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "a.txt").write_bytes("caf\xe9\r\n".encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(b"\xef\xbb\xbfsks, cat")
    return tmp_path


def test_undo_and_redo_across_restarts(root: Path) -> None:
    before = files(root)
    changes = [change(root / "a.txt", b"x"), change(root / "b.txt", None), change(root / "c.txt", b"new")]
    outcome = History(root).commit(changes, BATCH, "add x")
    after = files(root)
    assert outcome.entry == 1 and len(outcome.written) == 3
    assert after == {"a.txt": b"x", "c.txt": b"new"}
    assert History(root).undo().label == "add x"
    assert files(root) == before
    assert History(root).undo().entry == 0
    History(root).redo()
    assert files(root) == after
    assert History(root).redo().entry == 0
    assert [(e.undoes, e.redoes) for e in History(root).entries()] == [(0, 0), (1, 0), (0, 1)]


def test_a_new_step_forgets_what_could_be_redone(root: Path) -> None:
    history = History(root)
    history.commit([change(root / "a.txt", b"1")], BATCH)
    history.undo()
    history.commit([change(root / "a.txt", b"2")], BATCH)
    assert history.can_redo() is None and history.redo().entry == 0
    assert (root / "a.txt").read_bytes() == b"2"


def test_a_file_changed_outside_is_a_conflict_and_stays(root: Path) -> None:
    history = History(root)
    planned = [change(root / "a.txt", b"mine"), change(root / "b.txt", b"mine")]
    (root / "a.txt").write_bytes(b"theirs")
    outcome = history.commit(planned, BATCH)
    assert [(c.expected, c.found, c.wanted) for c in outcome.conflicts] == [
        ("caf\xe9\r\n".encode("cp1252"), b"theirs", b"mine")
    ]
    assert files(root) == {"a.txt": b"theirs", "b.txt": b"mine"}
    (root / "b.txt").write_bytes(b"theirs too")
    undone = history.undo()
    assert undone.conflicts[0].found == b"theirs too" and not undone.written
    assert files(root)["b.txt"] == b"theirs too"


def test_hand_edits_are_pinned_and_undo_unpins(root: Path) -> None:
    history = History(root)
    history.commit([change(root / "a.txt", b"by hand")], HAND)
    assert history.pinned() == {root / "a.txt"}
    outcome = history.commit([change(root / "a.txt", b"batch"), change(root / "b.txt", b"batch")], BATCH)
    assert outcome.left == ((root / "a.txt", "pinned by hand"),)
    assert files(root) == {"a.txt": b"by hand", "b.txt": b"batch"}
    told = history.commit([change(root / "a.txt", b"batch")], BATCH, include_pinned=True)
    assert len(told.written) == 1 and history.pinned() == {root / "a.txt"}
    for _ in range(3):
        history.undo()
    assert not History(root).pinned()


def test_notes_are_steps_too(root: Path) -> None:
    history = History(root)
    picture = root / "a.png"
    history.commit([], HAND, "stars", notes=[NoteChange(picture, "stars", 4)])
    history.commit(
        [], HAND, "stars", notes=[NoteChange(picture, "stars", 2), NoteChange(picture, "kind", "prose")]
    )
    assert History(root).note(picture, "stars") == 2 and History(root).notes("kind") == {picture: "prose"}
    history.undo()
    assert history.note(picture, "stars") == 4 and history.note(picture, "kind") is None
    history.undo()
    assert history.note(picture, "stars", 0) == 0
    assert history.commit([], HAND, notes=[NoteChange(picture, "stars", None)]).entry == 0


def test_a_batch_edit_goes_through_the_door(root: Path) -> None:
    pictures = [root / "a.png", root / "b.png", root / "c.png"]
    for picture in pictures:
        picture.write_bytes(b"")
    before = files(root)
    batch = plan(parse_operation("add", ["dog"]), load(pictures))
    History(root).commit(from_batch(batch), BATCH, batch.label)
    assert (root / "c.txt").read_bytes() == b"dog\n"
    assert (root / "a.txt").read_bytes() == "caf\xe9, dog\r\n".encode("cp1252")
    assert History(root).edited() == {root / "a.txt", root / "b.txt", root / "c.txt"}
    History(root).undo()
    assert files(root) == before and not History(root).edited()


def test_restore_to_any_point(root: Path) -> None:
    history = History(root)
    states = [files(root)]
    for text in (b"1", b"2", b"3"):
        history.commit([change(root / "a.txt", text), change(root / f"{text.decode()}.txt", text)], BATCH)
        states.append(files(root))
    history.undo()
    states.append(files(root))
    for entry, state in enumerate(states):
        history.restore(entry)
        assert files(root) == state, entry
    history.restore(1, only=root / "a.txt")
    assert files(root)["a.txt"] == b"1" and "2.txt" in files(root)
    with pytest.raises(DatasetError):
        history.restore(99)


def test_the_history_of_one_file(root: Path) -> None:
    history = History(root)
    captioner = Actor("captioner", "wd", {"threshold": 0.35})
    history.commit([change(root / "c.txt", b"cat, dog")], captioner, "caption")
    history.commit([change(root / "c.txt", b"cat, sks")], BATCH, "edit")
    steps = history.of(root / "c.txt")
    assert [(s.before, s.after) for s in steps] == [(None, b"cat, dog"), (b"cat, dog", b"cat, sks")]
    assert steps[0].entry.actor == {"kind": "captioner", "name": "wd", "threshold": 0.35}
    origins = provenance(history, root / "c.txt")
    assert {tag: origin.entry for tag, origin in origins.items()} == {"cat": 1, "sks": 2}
    history.undo()
    assert {t: o.entry for t, o in provenance(history, root / "c.txt").items()} == {"cat": 1, "dog": 1}
    history.commit([change(root / "b.txt", b"sks, cat, 4k")], BATCH)
    assert provenance(history, root / "b.txt")["sks"] == IMPORTED
    assert provenance(history, root / "b.txt")["4k"].entry == 4


def test_two_histories_see_each_other(root: Path) -> None:
    one, two = History(root), History(root)
    one.commit([change(root / "a.txt", b"1")], BATCH)
    two.commit([change(root / "a.txt", b"2")], BATCH)
    assert one.undo().label == "" and (root / "a.txt").read_bytes() == b"1"
    one.refresh()
    two.refresh()
    assert [e.id for e in one.entries()] == [e.id for e in two.entries()] == [1, 2, 3]


def test_threads_take_turns(root: Path) -> None:
    history = History(root)

    def work(name: str) -> None:
        for i in range(5):
            history.commit([change(root / f"{name}.txt", b"%d" % i)], BATCH)

    threads = [threading.Thread(target=work, args=(f"t{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [e.id for e in History(root).entries()] == list(range(1, 21))
    assert History(root).log.bad_lines == 0


def test_a_held_lock_is_named(root: Path) -> None:
    from filelock import FileLock

    history = History(root, timeout=0.05)
    history.folder.mkdir(parents=True)
    with FileLock(str(history.folder / "lock")), pytest.raises(LockedError):
        history.commit([change(root / "a.txt", b"1")], BATCH)


def test_modes_and_links_stay(root: Path) -> None:
    (root / "a.txt").chmod(0o640)
    (root / "deep").mkdir()
    (root / "deep" / "real.txt").write_bytes(b"real")
    (root / "link.txt").symlink_to("deep/real.txt")
    history = History(root)
    outcome = history.commit([change(root / "a.txt", b"x"), change(root / "link.txt", b"y")], BATCH)
    assert len(outcome.written) == 2
    assert stat.S_IMODE((root / "a.txt").stat().st_mode) == 0o640
    assert (root / "link.txt").is_symlink() and (root / "deep" / "real.txt").read_bytes() == b"y"
    history.undo()
    assert (root / "deep" / "real.txt").read_bytes() == b"real"


def test_sources_outside_the_project_need_to_be_named(tmp_path: Path) -> None:
    outside = tmp_path / "pictures"
    outside.mkdir()
    (tmp_path / "project").mkdir()
    planned = [change(outside / "a.txt", b"x")]
    outcome = History(tmp_path / "project").commit(planned, BATCH)
    assert outcome.left[0][1] == "lies outside the project and its sources" and not files(outside)
    History(tmp_path / "project", [outside]).commit(planned, BATCH)
    assert files(outside) == {"a.txt": b"x"}
    History(tmp_path / "project", [outside]).undo()
    assert not files(outside)


def test_a_foreign_log_cannot_write_elsewhere(tmp_path: Path) -> None:
    root = tmp_path / "project"
    (root / ".loratui" / "history").mkdir(parents=True)
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"after")
    (root / "script.sh").write_bytes(b"after")
    (root / "out").symlink_to(tmp_path)
    lines: list[dict[str, object]] = [
        {"k": "begin", "id": 1, "t": 0, "actor": {"kind": "batch"}, "label": ""},
        blob_line(b"evil"),
        blob_line(b"after"),
    ]
    for name in ("../victim.txt", str(victim), "out/victim.txt", "script.sh"):
        lines.append({"k": "file", "id": 1, "p": name, "b": digest(b"evil"), "a": digest(b"after")})
    log = root / ".loratui" / "history" / "log.jsonl"
    for last in ([], [{"k": "done", "id": 1}]):
        log.write_bytes(b"".join(pack(x) for x in [*lines, {"k": "ready", "id": 1, "n": 4}, *last]))
        history = History(root)
        history.recover(resume=False)
        outcome = history.undo()
        assert len(outcome.left) in (0, 3)
        assert victim.read_bytes() == b"after" and (root / "script.sh").read_bytes() == b"after"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes everywhere")
def test_a_read_only_folder_says_so(root: Path) -> None:
    (root / "data").mkdir()
    (root / "data" / "a.txt").write_bytes(b"x")
    (root / "data").chmod(0o555)
    try:
        outcome = History(root).commit([change(root / "data" / "a.txt", b"y")], BATCH)
        assert outcome.left[0][1] == "its folder is read-only"
    finally:
        (root / "data").chmod(0o755)


def test_names_that_are_not_utf8(root: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(root) + b"/n\xff\n[b]\x1b.txt"))
    history = History(root)
    history.commit([FileChange(path, None, b"x")], BATCH)
    assert History(root).entries()[0].files[0].path == path.name
    History(root).undo()
    assert not path.exists()


@given(st.binary(max_size=3000))
def test_contents_come_back(data: bytes) -> None:
    assert blob_data(blob_line(data)) == data


def test_lines_know_when_they_are_damaged() -> None:
    line = pack({"k": "done", "id": 1})[:-1]
    assert unpack(line) == {"k": "done", "id": 1}
    for i in range(len(line)):
        assert unpack(line[:i] + bytes([line[i] ^ 1]) + line[i + 1 :]) is None
        assert unpack(line[:i]) is None


NAMES = ["a.txt", "b.txt", "c.caption"]
contents = st.one_of(st.none(), st.binary(max_size=12))
edit = st.dictionaries(st.sampled_from(NAMES), contents, min_size=1)
action = st.one_of(
    edit.map(lambda e: ("edit", e)),
    edit.map(lambda e: ("edit", e)),
    st.just(("undo", None)),
    st.just(("redo", None)),
    st.integers(0, 8).map(lambda n: ("restore", n)),
    st.just(("reopen", None)),
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.sampled_from(NAMES), st.binary(max_size=12)), st.lists(action, max_size=10))
def test_any_sequence_then_undo_gives_every_byte_back(start: dict[str, bytes], actions: list[tuple]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name, data in start.items():
            (root / name).write_bytes(data)
        history = History(root)
        states: dict[int, dict[str, bytes]] = {0: files(root)}
        undo: list[dict[str, bytes]] = []
        redo: list[dict[str, bytes]] = []
        for kind, value in actions:
            before = files(root)
            if kind == "edit":
                outcome = history.commit([change(root / n, d) for n, d in value.items()], BATCH)
                if outcome.entry:
                    undo.append(before)
                    redo.clear()
            elif kind == "undo":
                outcome = history.undo()
                assert bool(outcome.entry) == bool(undo)
                if undo:
                    redo.append(before)
                    assert files(root) == undo.pop()
            elif kind == "redo":
                outcome = history.redo()
                assert bool(outcome.entry) == bool(redo)
                if redo:
                    undo.append(before)
                    assert files(root) == redo.pop()
            elif kind == "restore" and value in states:
                outcome = history.restore(value)
                assert files(root) == states[value]
                if outcome.entry:
                    undo.append(before)
                    redo.clear()
            elif kind == "reopen":
                history = History(root)
                continue
            else:
                continue
            assert not outcome.conflicts and not outcome.left
            if outcome.entry:
                states[outcome.entry] = files(root)
        while history.undo().entry:
            pass
        assert files(root) == start
        fresh = HistoryLog(history.log.path)
        fresh.refresh()
        assert not fresh.bad_lines and not fresh.pending()
