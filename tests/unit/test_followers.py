"""Runs followed to other programs: what arrives there, once each, and no secret on the way.

TensorBoard's files are really read back. W&B and Trackio are fakes with the same calls.
"""

from __future__ import annotations

import http.server
import json
import logging
import struct
import sys
import threading
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from app_kit import HOSTILE, RunWriter, picture

from loratui.cli import main
from loratui.errors import LockedError, MissingPackageError, RequestError
from loratui.followers import spec
from loratui.followers.figures import figures_of
from loratui.followers.loop import follow, only_one
from loratui.runs.directory import RunDir


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("STATE", "CONFIG", "CACHE"):
        monkeypatch.setenv(f"LORATUI_{name}", str(tmp_path / name.lower()))


def a_run(root: Path, steps: int = 20, ended: bool = True) -> RunWriter:
    writer = RunWriter(root)
    writer.run.config_path.write_text('[run]\nproject = "/home/secret"\n[optimizer]\nlr = 1e-4\n')
    writer.alive()
    writer.write("state", state="running")
    writer.steps(1, steps)
    writer.write("validation", step=steps, loss=0.5)
    folder = writer.run.samples_dir / "s"
    folder.mkdir(parents=True)
    picture(folder / "0.png", (24, 16))
    writer.write("sample", step=steps, index=0, prompt="sks" + HOSTILE, seed=1, path="samples/s/0.png")
    writer.write("sample", step=steps, index=1, prompt="x", seed=1, path="../../../etc/passwd")
    if ended:
        writer.write("state", state="finished")
    return writer


def records(folder: Path) -> Iterator[Any]:
    """Events of all files of a folder in order: length, its CRC, bytes, their CRC (TFRecord)."""
    from tensorboardX.crc32c import crc32c
    from tensorboardX.proto.event_pb2 import Event

    def masked(data: bytes) -> int:
        value = crc32c(data)
        return (((value >> 15) | (value << 17)) + 0xA282EAD8) & 0xFFFFFFFF

    for path in sorted(folder.glob("events.out.tfevents.*")):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            assert struct.unpack_from("<I", data, at + 8)[0] == masked(data[at : at + 8])
            body = data[at + 12 : at + 12 + length]
            assert struct.unpack_from("<I", data, at + 12 + length)[0] == masked(body)
            at += 16 + length
            yield Event.FromString(body)


def scalars(folder: Path) -> dict[str, dict[int, float]]:
    """Tag -> step -> value, as TensorBoard shows it: a file takes back what it begins before."""
    found: dict[str, dict[int, float]] = {}
    for event in records(folder):
        if event.HasField("session_log"):
            found = {t: {s: v for s, v in points.items() if s < event.step} for t, points in found.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def test_tensorboard_files_are_read_back(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    writer = a_run(tmp_path / "p")
    assert main(["follow", str(writer.run.path), "--to", "tensorboard"]) == 0
    folder = tmp_path / "p" / "tensorboard" / writer.run.id
    found = scalars(folder)
    assert found["loss/train"] == pytest.approx({n: 0.1 + 1 / n for n in range(1, 21)}, rel=1e-6)
    assert found["lr/unet"][7] == pytest.approx(1e-4) and found["loss/validation"] == {20: 0.5}
    pictures = [v for e in records(folder) for v in e.summary.value if v.HasField("image")]
    assert len(pictures) == 1 and (pictures[0].image.width, pictures[0].image.height) == (24, 16)
    texts = [v.tensor.string_val[0] for e in records(folder) for v in e.summary.value if v.HasField("tensor")]
    assert any(b"lr = 1e-4" in text for text in texts)
    # followed again, and the run resumed meanwhile: every step stands once, with its newest value
    writer.write("opened", attempt=1, from_step=10)
    for step in range(11, 14):
        writer.write("step", step=step, loss=9.0, lr=1e-4)
    writer.write("state", state="finished")
    assert main(["follow", str(writer.run.path), "--to", "tensorboard"]) == 0
    again = scalars(folder)["loss/train"]
    assert sorted(again) == list(range(1, 14)) and again[12] == 9.0 and again[9] == pytest.approx(0.1 + 1 / 9)


def test_tensorboard_itself_reads_them(tmp_path: Path) -> None:
    pytest.importorskip("tensorboardX")
    module = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    writer = a_run(tmp_path / "p")
    for _ in range(2):
        assert (
            main(["follow", str(writer.run.path), "--to", "tensorboard", "--logdir", str(tmp_path / "tb")])
            == 0
        )
    seen = module.EventAccumulator(str(tmp_path / "tb"))
    seen.Reload()
    assert [p.step for p in seen.Scalars("loss/train")] == list(range(1, 21))
    assert len(seen.Tags()["images"]) == 1


class FakeTracker(types.ModuleType):
    """The calls of wandb and trackio that are used, and what was said to them."""

    def __init__(self, name: str, kept: dict[str, Any]) -> None:
        super().__init__(name)
        self.summary, self.logged, self.begun, self.ended = kept, [], [], []
        self.__spec__ = types.SimpleNamespace(name=name)  # type: ignore[assignment]

    def init(self, **given: Any) -> Any:
        self.begun.append(given)
        return self

    def log(self, found: dict[str, Any], step: int | None = None) -> None:
        self.logged.append((step, found))
        self.summary.update(found)

    def define_metric(self, *given: Any, **named: Any) -> None:
        pass

    def finish(self, **given: Any) -> None:
        self.ended.append(given)

    @staticmethod
    def Image(path: str, caption: str = "") -> str:
        return f"image of {Path(path).name}"


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_get_each_event_once(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer, kept = a_run(tmp_path / "p", ended=False), {}
    writer.write("state", state="failed", reason="x")
    first = FakeTracker(name, kept)
    monkeypatch.setitem(sys.modules, name, first)
    assert main(["follow", str(writer.run.path), "--to", name, "--project", "mine"]) == 0
    assert first.begun[0]["project"] == "mine" and writer.run.id in first.begun[0].values()
    assert first.begun[0]["config"] == {"optimizer.lr": 1e-4}  # no path of this machine
    losses = [f["loss/train"] for _, f in first.logged if "loss/train" in f]
    assert len(losses) == 20 and losses[4] == pytest.approx(0.3)
    assert sum("image of 0.png" in f.values() for _, f in first.logged) == 1
    assert not any("passwd" in str(f) for _, f in first.logged) and len(first.ended) == 1
    if name == "wandb":
        assert first.ended == [{"exit_code": 1}] and kept["state"] == "failed"
    writer.steps(21, 22)
    writer.write("state", state="finished")
    second = FakeTracker(name, kept)
    monkeypatch.setitem(sys.modules, name, second)
    assert main(["follow", str(writer.run.path), "--to", name]) == 0
    assert len([f for _, f in second.logged if "loss/train" in f]) == 2


def test_messages_go_to_the_users_addresses_and_show_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    pytest.importorskip("apprise")
    got: list[dict[str, Any]] = []

    class Door(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *given: Any) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Door)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    caplog.set_level(logging.DEBUG)
    try:
        old = a_run(tmp_path / "old")
        config = tmp_path / "config"
        config.mkdir()
        door = f"json://user:hunter2@127.0.0.1:{server.server_port}/"
        (config / "apprise.txt").write_text(f"# mine\n{door}\n")
        assert main(["follow", str(old.run.path), "--to", "apprise"]) == 0
        assert got == [], "what was over before is no news"
        writer = a_run(tmp_path / "p", ended=False)
        thread = threading.Timer(0.3, lambda: writer.write("state", state="failed", reason="CUDA" + HOSTILE))
        from loratui.followers.apprise import open_run

        made = open_run(writer.run, {})
        made._since = 0.0
        thread.start()
        follow(writer.run, made, poll_s=0.05)
        assert [m["message"].split(":")[0] for m in got] == [
            "robot has drawn its first sample",
            "robot has failed",
        ]
        assert "\x1b" not in got[1]["message"]
        server.shutdown()
        server.server_close()
        made._send("x", made._before)
        assert made.failed == 1
    finally:
        server.server_close()
    (config / "apprise.txt").write_text("nonsense://token-hunter2\n")
    assert main(["follow", str(old.run.path), "--to", "apprise"]) == 2
    said = capsys.readouterr()
    assert "does not understand address 1" in said.err
    assert "hunter2" not in said.out + said.err + caplog.text


def test_what_is_missing_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = a_run(tmp_path / "p")
    monkeypatch.setattr(spec.importlib.util, "find_spec", lambda name: None)
    for name in ("tensorboard", "wandb", "trackio", "apprise"):
        with pytest.raises(MissingPackageError, match="not installed") as caught:
            spec.open_follower(name, writer.run, {})
        assert "pip install" in caught.value.advice
    with pytest.raises(RequestError, match="no 'nothing'"):
        spec.check("nothing", {})
    with pytest.raises(RequestError, match="takes no --logdir"):
        spec.check("wandb", {"logdir": "x"})
    with only_one(writer.run, "tensorboard"), pytest.raises(LockedError, match="already"):
        only_one(RunDir(writer.run.path), "tensorboard")


def test_odd_events_give_no_figures() -> None:
    odd = [
        {"kind": "step", "loss": "nan?", "lr": {"a": None}, "epoch": True},
        {"kind": "quarters", "loss": 3}, {"kind": "scored", "scores": []}, {"kind": "validation"}, {},
    ]  # fmt: skip
    assert [figures_of(event) for event in odd] == [{}] * 5
    assert figures_of({"kind": "scored", "scores": {"robot": 0.9}}) == {"scores/robot": 0.9}
