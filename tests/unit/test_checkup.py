"""What doctor finds: each state that needs attention is made here, and each is found."""

from __future__ import annotations

import json
import os
import sys
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from app_kit import project

from loratui.checkup import interpreter, machine, surroundings
from loratui.checkup.finding import Check
from loratui.runs.lock import FileLock
from loratui.ui.app import LoratuiApp
from loratui.ui.screens.doctor import DoctorDialog

GOOD = {
    "python": "3.12.1",
    "packages": dict.fromkeys(interpreter.NEEDED, "1.0")
    | {"torch": "2.10.0+cu128", "torchvision": "0.25.0+cu128"}
    | dict.fromkeys(interpreter.OPTIONAL, ""),
    "cuda": True,
    "broken": "",
    "device": "RTX 4090, compute 8.9, CUDA 12.8, bf16",
}


@pytest.fixture
def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Check]]:
    """An interpreter elsewhere, with torch, that answers the probe with what a test says."""

    def ask(**changes: Any) -> list[Check]:
        answer, fake = json.dumps({**GOOD, **changes}), tmp_path / "python"
        (tmp_path / "answer").write_text(answer)
        # the first question of `job_python` is for missing packages, the second is the probe
        fake.write_text(
            f"#!/bin/sh\ncase \"$2\" in *find_spec*) echo 3 12;; *) cat '{tmp_path / 'answer'}';; esac\n"
        )
        fake.chmod(0o755)
        monkeypatch.setenv("LORATUI_PYTHON", str(fake))
        return interpreter.training()

    return ask


def attention(checks: list[Check]) -> list[tuple[str, str]]:
    """Name and advice of what needs attention."""
    return [(c.name, c.advice) for c in checks if c.level == "attention"]


def test_the_interpreter_that_has_torch_is_asked_and_named(answering: Callable[..., list[Check]]) -> None:
    """LORATUI_PYTHON is found, asked, and said to be what names it; optional packages are listed."""
    checks = answering()
    assert attention(checks) == []
    assert [c.name for c in checks] == ["training", "device", "optional"]
    assert "named by LORATUI_PYTHON" in checks[0].detail and "torch 2.10.0" in checks[0].detail
    assert "RTX 4090" in checks[1].detail and "bitsandbytes (8-bit" in checks[2].detail


def test_what_is_wrong_with_torch_is_said(answering: Callable[..., list[Check]]) -> None:
    """Missing packages, torch that breaks, and a torchvision of another torch or another device."""
    lacking = GOOD["packages"] | {"peft": ""}  # type: ignore[operator]
    assert [n for n, _ in attention(answering(packages=lacking))] == ["packages"]
    ((name, advice),) = attention(answering(broken="RuntimeError: operator torchvision::nms does not exist"))
    assert name == "torch" and "pip install -U torch torchvision" in advice
    wrong = GOOD["packages"] | {"torchvision": "0.24.1"}  # type: ignore[operator]
    assert "torchvision==0.25.*" in attention(answering(packages=wrong))[0][1]
    wrong = GOOD["packages"] | {"torchvision": "0.25.0+cpu"}  # type: ignore[operator]
    assert "same index" in attention(answering(packages=wrong))[0][1]


@pytest.mark.parametrize(
    ("torch", "vision", "good"),
    [("2.5.1", "0.20.1", True), ("2.14.1", "0.29.1", True), ("2.5.1+cu124", "0.20.1", True), ("", "", True),
     ("2.5.1", "0.21.0", False), ("2.9.0+cpu", "0.24.0+cu128", False)],
)  # fmt: skip
def test_which_torchvision_belongs_to_which_torch(torch: str, vision: str, good: bool) -> None:
    """As their release notes pair them."""
    assert (interpreter.fits(torch, vision) == "") is good


def test_an_app_without_torch_says_where_to_name_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answering: Callable[..., list[Check]]
) -> None:
    """`jobs.python` of the settings is found, too; one that is not there is an error with advice."""
    answering()
    fake = os.environ.pop("LORATUI_PYTHON")
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text(f'[jobs]\npython = "{fake}"\n')
    assert "jobs.python of the settings" in interpreter.training()[0].detail
    (tmp_path / "config.toml").write_text('[jobs]\npython = "/nowhere/python"\n')
    ((name, advice),) = attention(interpreter.training())
    assert name == "training" and "LORATUI_PYTHON" in advice


def test_locks_are_tried_with_two_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that excludes nobody, as on a broken mount, is found out; nothing is left behind."""
    assert machine.locks(tmp_path).level == "ok" and not list(tmp_path.iterdir())
    path = tmp_path / "held.lock"
    lock = FileLock(path, "test")
    lock.acquire()
    assert machine._other(path) == "refused"
    lock.release()
    assert machine._other(path) == "taken"
    path.unlink()
    monkeypatch.setattr(machine, "_other", lambda _path: "taken")
    found = machine.locks(tmp_path)
    assert found.level == "attention" and "two processes" in found.detail and not list(tmp_path.iterdir())


def test_disk_memory_and_network_disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little of either needs attention; a network disk is a warning."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _p: usage(100 << 30, 99 << 30, 1 << 30))
    monkeypatch.setattr(machine, "file_system", lambda _p: "nfs4")
    found = {c.name: c.level for c in machine.disk(tmp_path / "not" / "there")}
    assert found == {"disk": "attention", "file system": "warning", "locks": "ok"}
    monkeypatch.setattr("psutil.virtual_memory", lambda: SimpleNamespace(available=1 << 30, total=8 << 30))
    assert machine.memory().level == "attention"


def test_nvml_that_fails_or_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cards with free memory and driver; a driver that does not answer."""
    nvml = SimpleNamespace(
        nvmlInit=lambda: None, nvmlShutdown=lambda: None, nvmlDeviceGetCount=lambda: 1,
        nvmlDeviceGetHandleByIndex=lambda i: i, nvmlDeviceGetName=lambda _h: b"RTX 3060",
        nvmlDeviceGetMemoryInfo=lambda _h: SimpleNamespace(free=11 << 30, total=12 << 30),
        nvmlSystemGetDriverVersion=lambda: "570.1",
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    assert machine.gpu() == Check("gpu", "ok", "RTX 3060, 11.0 of 12.0 GiB free (driver 570.1)")

    def broken(_handle: int) -> None:
        raise RuntimeError("GPU is lost")

    nvml.nvmlDeviceGetMemoryInfo = broken
    assert machine.gpu().level == "attention"


def test_tokens_are_told_of_and_never_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of variables and the file's place; a file that others can read is a warning."""
    monkeypatch.setenv("HF_TOKEN", "hf_secret1")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    (tmp_path / "token").write_text("hf_secret2")
    (tmp_path / "token").chmod(0o644)
    found = surroundings.tokens()
    assert found.level == "warning" and "chmod 600" in found.advice
    (tmp_path / "token").chmod(0o600)
    found = surroundings.tokens()
    assert found.level == "info" and "HF_TOKEN is set" in found.detail and "secret" not in str(found)


def test_settings_and_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong setting and a terminal that is too small or dumb."""
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path))
    (tmp_path / "config.toml").write_text("colour = 3\n")
    assert surroundings.settings().level == "attention"
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "70")
    assert surroundings.terminal("sixel").level == "attention"
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("LINES", "40")
    monkeypatch.setenv("COLORTERM", "truecolor")
    found = surroundings.terminal("sixel")
    assert found.level == "ok" and "pictures as sixel" in found.detail


async def test_the_dialog_shows_what_needs_attention_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the palette's action: the cursor stands on the worst, its advice below."""
    checks = [Check("app", "ok", "fine"), Check("torch", "attention", "broken", "Install the other one.")]
    monkeypatch.setattr("loratui.checkup.all_checks", lambda _folder, _graphics: checks)
    app = LoratuiApp(project(tmp_path / "p", 1))
    async with app.run_test(size=(80, 24)) as pilot:
        await app.run_action("app.doctor")
        for _ in range(100):
            await pilot.pause(0.02)
            if isinstance(app.screen, DoctorDialog) and app.screen.checks:
                break
        await pilot.pause(0.1)
        strips = app.screen._compositor.render_strips(app.size)
        shown = "\n".join(strip.text for strip in strips)
        assert "1 of 2 need attention" in shown and "Install the other one." in shown
        await pilot.press("escape")
        assert not isinstance(app.screen, DoctorDialog)
