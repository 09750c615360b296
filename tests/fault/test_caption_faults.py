"""Captioning under attack: SIGKILL at any moment, a full disk, damaged pictures and weights, hostile answers.

A server on this machine counts what is asked of the model, so "nothing done twice" is seen from outside: a
picture may be asked again only when the kill came before its answer was on the disk.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.server
import json
import os
import random
import shutil
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.results import Results
from loratui.caption.start import prepare_captions, start_captions
from loratui.cli.shell import run as loratui
from loratui.errors import RequestError
from loratui.project.history import History
from loratui.runs.launch import resume
from loratui.runs.state import ENDED
from loratui.runs.status import status, wait

HOSTILE = "\x1b]0;x\x07<b>**answer**</b>\n[@click=app.quit]of[/]\u202e {}"


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def server() -> Iterator[tuple[str, Counter[str]]]:
    """Answers by what is in the picture, with escape codes, markup and line breaks; counts each picture."""
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            picture = body["messages"][0]["content"][1]["image_url"]["url"]
            name = hashlib.sha256(picture.encode()).hexdigest()[:12]
            asked[name] += 1
            time.sleep(0.01)
            data = json.dumps({"choices": [{"message": {"content": HOSTILE.format(name)}}]}).encode()
            with contextlib.suppress(OSError):  # who asked may be dead
                self.send_response(200)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1", asked
    made.shutdown()
    made.server_close()


def kill_and_resume(
    project: Any, endpoint: str, asked: Counter[str], kills: int, seed: int, longest_s: float
) -> None:
    """Kill a run so many times at random moments, let it end, and count."""
    count = len(list((project.root / "dataset").glob("*.png")))
    dice = random.Random(seed)
    plan = prepare_captions(project, ["openai-api"], {"endpoint": endpoint, "model": "m", "retries": 0})
    run = start_captions(project, plan)
    killed = 0
    for _ in range(kills):
        time.sleep(dice.uniform(0.0, longest_s))
        state = status(run)
        if state.state in ENDED:
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(state.pid, signal.SIGKILL)
        killed += 1
        history = History(project.root)
        for path in (project.root / "dataset").glob("*.txt"):  # whole or not there, at any moment
            text = path.read_text()
            assert text.startswith("sks robot, answer of ") and text.endswith("\n"), (path, text)
        history.recover()
        deadline = time.monotonic() + 10
        while status(run).state not in ENDED and time.monotonic() < deadline:
            time.sleep(0.02)
        resume(run)
    ended = wait(run)
    assert ended.state == "finished", (ended.state, ended.reason)
    texts = [p.read_text().strip() for p in sorted((project.root / "dataset").glob("*.txt"))]
    assert len(texts) == count and len(set(texts)) == count  # each its own, none lost
    assert all(text.isprintable() and "[" not in text and "<" not in text for text in texts)
    assert Results(run.path).counts() == {"written": count}
    # a batch of one is in flight when the kill comes, and what the writer holds for half a second
    again = sum(n - 1 for n in asked.values())
    lines = (run.path / "results.jsonl").read_text().splitlines()
    said = Counter(json.loads(line)["i"] for line in lines if json.loads(line)["kind"] == "said")
    assert set(said.values()) == {1}, "a model was asked about a picture whose answer was on the disk"
    assert len(asked) == count and again <= killed * 64
    written: Counter[str] = Counter()
    for entry in History(project.root).entries():
        written.update(record.path for record in entry.files)
    assert set(written.values()) == {1}, "a caption was written twice"
    assert killed >= min(3, kills)


def test_kill_9_at_random_moments(tmp_path: Path, server: tuple[str, Counter[str]]) -> None:
    project = kit.project(tmp_path / "p", 200)
    kill_and_resume(project, *server, kills=4, seed=1, longest_s=1.0)


@pytest.mark.long
@pytest.mark.parametrize("seed", [2, 3])
def test_kill_9_at_20_random_moments(tmp_path: Path, server: tuple[str, Counter[str]], seed: int) -> None:
    project = kit.project(tmp_path / "p", 700)
    kill_and_resume(project, *server, kills=20, seed=seed, longest_s=1.5)


@pytest.mark.parametrize("count", [40, pytest.param(1000, marks=pytest.mark.long)])
def test_a_corrupt_picture_in_the_middle(
    count: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is named, and costs no other picture; a file that lies about what it is comes after the launch."""
    project = kit.project(tmp_path / "p", count)
    broken = project.root / "dataset" / f"{count // 2:03d}.png"
    whole = broken.read_bytes()
    at = whole.index(b"IDAT") + 8
    broken.write_bytes(whole[:at] + b"\0" * 40 + whole[at + 40 :])
    tagger = kit.wd(tmp_path / "wd")
    code = loratui(["caption", str(project.root), "--model", f"wd={tagger}", "--wait", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 0 and answer["state"] == "finished", answer
    assert (answer["written"], answer["failed"]) == (count - 1, 1)
    results = Results(Path(answer["run"])).by_index
    (failed,) = (r for r in results.values() if r.state == "failed")
    assert failed.rel.endswith(broken.name) and "cannot be decoded" in failed.reason
    assert len(list((project.root / "dataset").glob("*.txt"))) == count - 1


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The history refuses a line; the run says so, what was written stays, and a resume does the rest."""
    from loratui.caption.engine import BatchSize, Engine
    from loratui.caption.settings import CaptionSettings
    from loratui.caption.writing import Style, Writer, written_by
    from loratui.captioners.protocol import Said
    from loratui.errors import DatasetError
    from loratui.project.history import Actor
    from loratui.project.history_log import HistoryLog

    project = kit.project(tmp_path / "p", 12)
    plan = prepare_captions(project, [f"wd={kit.wd(tmp_path / 'wd')}"])
    folder = tmp_path / "run"
    folder.mkdir()

    class Speaker:
        first_batch = 1
        asked = 0

        def prepare(self, image: Any) -> Any:
            return image

        def caption(self, prepared: list[Any]) -> list[Said]:
            self.asked += len(prepared)
            return [Said(f"number {self.asked}") for _ in prepared]

        def free(self) -> None:
            """Nothing."""

    full = False
    append = HistoryLog.append

    def refusing(self: HistoryLog, lines: Any) -> None:
        if full:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, lines)

    monkeypatch.setattr(HistoryLog, "append", refusing)

    def attempt(speaker: Speaker, stop_after: int) -> None:
        nonlocal full
        results = Results(folder, write=True)
        history = History(project.root)
        pictures = {p.index: p for p in plan.pictures}
        style = Style(CaptionSettings(), "sks")
        writer = Writer(results, pictures, history, Actor("captioner", "x", {"run": "r"}), style)
        try:
            written = written_by(history, "r")
            assert len(written) == sum(r.state == "written" for r in results.by_index.values())
            writer.write([r for r in results.by_index.values() if r.state == "said"])
            rest = [p for p in plan.pictures if p.index not in results.by_index]
            writer.start()
            engine = Engine({"x": speaker}, {"x": BatchSize(1)})
            for number, answers in enumerate(engine.run(rest, lambda: True)):
                if number == stop_after:
                    time.sleep(1.2)  # what came so far is written
                    full = True
                writer.put(answers)
            writer.finish()
        finally:
            results.close()

    first, second = Speaker(), Speaker()
    with pytest.raises(DatasetError, match="No space left"):
        attempt(first, 5)
    there = {p.name: p.read_text() for p in (project.root / "dataset").glob("*.txt")}
    assert 1 <= len(there) <= 6 and all(t.startswith("sks, number ") for t in there.values())
    full = False
    attempt(second, -1)
    after = {p.name: p.read_text() for p in (project.root / "dataset").glob("*.txt")}
    assert len(after) == 12 and there.items() <= after.items()
    assert second.asked <= 12 - len(there)
    entries = [r.path for e in History(project.root).entries() for r in e.files]
    assert len(entries) == len(set(entries)) == 12  # nothing written twice


def test_weights_that_cannot_be_right_change_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Cut off, of another kind, without some tensors: said before or at the start, no caption touched."""
    from safetensors.torch import load_file, save_file

    project = kit.project(tmp_path / "p", 2)
    blip = kit.blip(tmp_path / "blip")
    cut = shutil.copytree(blip, tmp_path / "cut")
    weights = next(cut.glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:-200])
    for model in (f"blip={cut}", f"florence2={blip}", f"wd={blip}"):
        with pytest.raises(RequestError) as error:
            prepare_captions(project, [model])
        assert error.value.advice, model
    part = shutil.copytree(blip, tmp_path / "part")
    weights = next(part.glob("*.safetensors"))
    state = load_file(str(weights))
    state.pop(next(k for k in sorted(state) if "query" in k or "qkv" in k))
    save_file(state, str(weights), metadata={"format": "pt"})
    code = loratui(["caption", str(project.root), "--model", f"blip={part}", "--wait", "--json"])
    answer = json.loads(capsys.readouterr().out)
    assert code == 1 and answer["state"] == "failed"
    assert "lacks 1 of the model's weights" in answer["reason"] and "whole model" in answer["advice"]
    assert not list((project.root / "dataset").glob("*.txt"))
