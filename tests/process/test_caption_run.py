"""Caption runs through the command line: captions, provenance, one undo step, resume after SIGKILL."""

from __future__ import annotations

import http.server
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import caption_kit as kit
import pytest

from loratui.caption.results import Results
from loratui.cli.shell import run as loratui
from loratui.project.history import Actor, FileChange, History
from loratui.runs.directory import RunDir
from loratui.runs.launch import resume
from loratui.runs.status import status, wait


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CACHE", "CONFIG"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


def caption(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    code = loratui(["caption", *arguments, "--json"])
    out = capsys.readouterr().out
    return code, json.loads(out)


def test_captions_with_provenance_and_one_undo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = kit.project(tmp_path / "p", 9)
    tagger = kit.wd(tmp_path / "wd")
    code, answer = caption(capsys, str(project.root), "--model", f"wd={tagger}", "--wait")
    assert code == 0 and answer["written"] == 9, answer
    texts = {p.name: p.read_text() for p in (project.root / "dataset").glob("*.txt")}
    assert len(texts) == 9 and all(t.startswith("sks robot") and "long hair" in t for t in texts.values())
    history = History(project.root)
    entry = history.of(project.root / "dataset" / "000.txt")[-1].entry
    assert (
        entry.actor["kind"] == "captioner"
        and entry.actor["name"] == "wd"
        and entry.actor["run"] == answer["id"]
    )
    assert len(history.undo().written) == 9
    assert not list((project.root / "dataset").glob("*.txt"))
    assert len(history.redo().written) == 9
    assert {p.name: p.read_text() for p in (project.root / "dataset").glob("*.txt")} == texts


def test_hand_edits_and_corrupt_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = kit.project(tmp_path / "p", 8)
    data = project.root / "dataset"
    History(project.root).commit([FileChange(data / "002.txt", None, b"mine\n")], Actor("hand"))
    whole = (data / "005.png").read_bytes()
    at = whole.index(b"IDAT") + 8
    (data / "005.png").write_bytes(whole[:at] + b"\0" * 40 + whole[at + 40 :])
    tagger = kit.wd(tmp_path / "wd")
    code, answer = caption(
        capsys,
        str(project.root),
        "--model",
        f"wd={tagger}",
        "--mode",
        "replace",
        "--wait",
        "--set",
        "batch_size=3",
    )
    assert code == 0 and answer["written"] == 6 and answer["failed"] == 1, answer
    assert answer["left_out"]["pinned"] == 1
    assert (data / "002.txt").read_text() == "mine\n" and not (data / "005.txt").exists()


def test_no_weights_says_where_and_how(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = kit.project(tmp_path / "p", 2)
    code, answer = caption(capsys, str(project.root), "--model", "blip")
    assert code == 2
    assert (
        "Salesforce/blip-image-captioning-base" in answer["error"]
        and str(tmp_path / "hub") in answer["error"]
    )
    assert "loratui get Salesforce/blip-image-captioning-base" in answer["advice"]
    assert str(tmp_path / "state") in answer["advice"]
    assert not list(project.runs_dir.glob("*"))


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """A server on this machine that answers slowly, with an escape code."""
    asked: list[dict[str, Any]] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            time.sleep(0.15)
            text = f"\x1b]0;x\x07**answer** number\n{len(asked)}"
            body = json.dumps({"choices": [{"message": {"content": text}}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: Any) -> None:
            """Quiet."""

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=made.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{made.server_address[1]}/v1", asked
    made.shutdown()
    made.server_close()


def test_a_killed_run_goes_on_and_asks_nothing_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], server: tuple[str, list[dict[str, Any]]]
) -> None:
    endpoint, asked = server
    project = kit.project(tmp_path / "p", 14)
    code, _ = caption(capsys, str(project.root), "--model", "openai-api")
    assert code == 2 and not asked  # off until it is configured
    options = ["--set", f"endpoint={endpoint}", "--set", "model=m"]
    code, answer = caption(capsys, str(project.root), "--model", "openai-api", *options)
    assert code == 0
    run = RunDir(Path(answer["run"]))
    deadline = time.monotonic() + 20
    while len(asked) < 7 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(status(run).pid, signal.SIGKILL)
    time.sleep(0.3)
    kept = len(Results(run.path).by_index)
    assert 0 < kept < 14
    before = len(asked)
    resume(run)
    state = wait(run)
    assert state.state == "finished", state.reason
    assert len(asked) - before == 14 - kept  # what was on the disk is not asked again
    texts = [p.read_text() for p in sorted((project.root / "dataset").glob("*.txt"))]
    assert len(texts) == 14 and all(t.startswith("sks robot, answer number ") for t in texts), texts
    assert Results(run.path).counts() == {"written": 14}


def test_only_what_a_filter_selects(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    project = kit.project(tmp_path / "p", 5)
    model = f"wd={kit.wd(tmp_path / 'wd')}"
    code, answer = caption(capsys, str(project.root), "--model", model, "--where", "name:00[", "--wait")
    assert code == 0 and answer["images"] == 0
    assert loratui(["caption", str(project.root), "--model", model, "--where", "shape:round"]) == 2
    err = capsys.readouterr().err
    lines = err.splitlines()
    at = next(i for i, line in enumerate(lines) if "^" in line)
    assert lines[at - 1].index("shape:round") == lines[at].index("^"), err
    assert not list((project.root / "dataset").glob("*.txt")) and not list(project.runs_dir.glob("*"))
    where = "name:001 OR name:003"
    code, answer = caption(capsys, str(project.root), "--model", model, "--where", where, "--wait")
    assert code == 0 and (answer["images"], answer["written"]) == (2, 2), answer
    assert sorted(p.name for p in (project.root / "dataset").glob("*.txt")) == ["001.txt", "003.txt"]
