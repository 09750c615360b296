"""The command line as scripts use it: JSON on stdout alone, exit codes, what needs no training."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from loratui.cli import main
from loratui.project.demo import make_demo

RECORDED = next((Path(__file__).parent.parent / "data" / "recorded_run").iterdir())


@pytest.fixture(autouse=True)
def own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LORATUI_CONFIG", str(tmp_path / "config"))
    monkeypatch.setenv("LORATUI_STATE", str(tmp_path / "state"))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make_demo(tmp_path / "demo").root


@pytest.fixture
def recorded(project: Path) -> Path:
    shutil.copytree(RECORDED, project / "runs" / RECORDED.name)
    return project / "runs" / RECORDED.name


def run_json(capsys: pytest.CaptureFixture[str], *argv: object, code: int = 0) -> Any:
    """The one JSON document that a command prints."""
    assert main([*map(str, argv), "--json"]) == code
    return json.loads(capsys.readouterr().out)


def process(*argv: object, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "loratui", *map(str, argv)], capture_output=True, text=True, timeout=120,
        env={**os.environ, **env}, check=False,
    )  # fmt: skip


def test_help_lists_every_command_and_each_has_its_own() -> None:
    from loratui.cli.shell import COMMAND, build_parser

    _, commands = build_parser()
    assert all(map(COMMAND.fullmatch, commands)), "a folder of this name would open the app"
    wanted = (
        "demo new import scan plan train runs status attach pause resume stop save sample export verify "
        "presets families config doctor replay get"
    )
    assert set(commands) >= set(wanted.split())
    text = process("--help").stdout
    for name, parser in commands.items():
        assert f"\n    {name}" in text
        assert len(parser.format_help()) > 80


def test_help_is_quick_and_light() -> None:
    times = []
    for _ in range(3):
        started = time.perf_counter()
        assert process("--help").returncode == 0
        times.append(time.perf_counter() - started)
    code = "import sys; from loratui.cli import main; main(['--version']); print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    heavy = {
        "torch",
        "numpy",
        "PIL",
        "textual",
        "rich",
        "tomlkit",
        "msgspec",
        "psutil",
        "platformdirs",
        "subprocess",
    }
    assert heavy.isdisjoint(loaded)
    assert min(times) < 1.5, "0.1 s on a machine with nothing else to do"


def test_scan(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "scan", project)
    assert (found["images"], found["problems"]) == (16, [])
    assert found["buckets"][0].keys() >= {"width", "height", "images"}
    (project / "dataset" / "01.png").write_bytes(b"broken")
    (project / "dataset" / "02.txt").unlink()
    found = run_json(capsys, "scan", project)
    assert found["images"] == 15
    rows = {(p["path"], p["code"], p["severity"]) for p in found["problems"]}
    assert rows == {
        ("dataset/01.png", "corrupt-image", "error"),
        ("dataset/02.png", "missing-caption", "warning"),
    }
    assert all(p["message"] for p in found["problems"])
    assert run_json(capsys, "scan", project / "dataset")["images"] == 15, "any folder of pictures"


def test_plan(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run_json(capsys, "plan", project, "--preset", "demo", "--set", "epochs=3", "--set", "rank=4")
    assert found.keys() >= {"images", "steps", "epochs", "buckets", "memory", "config"}
    assert (found["images"], found["steps"], found["epochs"]) == (16, 12, 3)
    assert found["config"]["network"]["rank"] == 4
    assert found["family"] == "sd15"
    assert main(["plan", str(project)]) == 0
    text = capsys.readouterr().out
    assert "600 steps" in text
    assert "150 epochs" in text


def test_new_import_and_plan_of_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(3):
        Image.new("RGB", (100, 80)).save(tmp_path / f"{number}.png")
        (tmp_path / f"{number}.txt").write_text("sks cat")
    (tmp_path / "in").mkdir()
    for path in list(tmp_path.glob("[0-9].*")):
        path.rename(tmp_path / "in" / path.name)
    found = run_json(
        capsys, "new", tmp_path / "p", "--base", "demo", "--trigger", "sks cat", "--images", tmp_path / "in"
    )
    assert (found["images"], found["family"], found["preset"]) == (3, "sd15", "demo")
    assert len(list((tmp_path / "in").iterdir())) == 6, "--images copies"
    shutil.make_archive(str(tmp_path / "more"), "zip", tmp_path / "in")
    Image.new("RGB", (64, 64)).save(tmp_path / "in" / "extra.png")
    assert run_json(capsys, "import", tmp_path / "more.zip", tmp_path / "p")["present"] == 3
    assert run_json(capsys, "import", tmp_path / "in", tmp_path / "p")["images"] == 1
    assert run_json(capsys, "plan", tmp_path / "p")["images"] == 4


def test_lists(capsys: pytest.CaptureFixture[str]) -> None:
    presets = run_json(capsys, "presets")
    assert {"demo", "sd15-character"} <= {p["name"] for p in presets}
    assert run_json(capsys, "presets", "demo")["values"]["optimizer.steps"] == 600
    assert {f["name"] for f in run_json(capsys, "families")} >= {"sd15", "sd2", "sdxl", "sd3", "flux"}
    assert run_json(capsys, "families", "sd15")["resolution"] == 512
    schema = run_json(capsys, "config", "schema")
    assert schema["properties"]["optimizer"]["properties"]["lr"]["type"] == "number"
    assert main(["config", "schema"]) == 0
    assert "lr (optimizer" not in capsys.readouterr().err


def test_a_recorded_run(recorded: Path, project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = run_json(capsys, "runs", project)
    assert [r["id"] for r in rows] == [recorded.name]
    assert rows[0].keys() >= {"name", "state", "step", "steps", "loss"}
    state = run_json(capsys, "status", recorded)
    wanted = {"state", "step", "steps", "loss", "lr", "eta_s", "checkpoints", "samples", "reason", "advice"}
    assert state.keys() >= wanted
    assert isinstance(state["lr"], float)
    assert state["step"] > 0
    assert run_json(capsys, "status", recorded.parent.parent)["id"] == recorded.name
    assert main(["status", str(recorded), "--short"]) == 0
    assert str(state["step"]) in capsys.readouterr().out
    assert main(["attach", str(recorded)]) in {0, 1}
    assert recorded.name in capsys.readouterr().out
    for request in ("pause", "stop", "save", "sample"):
        assert "error" in run_json(capsys, request, recorded, code=2), "it ended long ago"
    assert list((recorded / "control").glob("*")) == [] if (recorded / "control").exists() else True


def test_runs_are_named_from_inside_the_project(
    recorded: Path, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(project)
    for name in ("last", recorded.name, recorded.name[:12]):
        assert run_json(capsys, "status", name)["id"] == recorded.name
    assert run_json(capsys, "status")["id"] == recorded.name
    assert "Did you mean" in run_json(capsys, "status", recorded.name + "x", code=2)["advice"]


def test_hostile_text_never_reaches_the_terminal_raw(project: Path, recorded: Path) -> None:
    evil = "\x1b]52;c;aGFjaw==\x07\x9b31m\u202e"
    (project / "loratui.toml").write_text(
        (project / "loratui.toml").read_text().replace('name = "demo"', f"name = {json.dumps(evil)}")
    )
    name = f"a{evil}\n.png"
    (project / "dataset" / name).write_bytes(b"broken")
    Path(os.fsdecode(os.fsencode(project / "dataset") + b"/x\xff")).mkdir()
    Path(os.fsdecode(os.fsencode(project / "dataset") + b"/x\xff/b\xfe.png")).write_bytes(b"broken")
    commands = [
        ("scan", project), ("scan", project, "--json"), ("plan", project), ("runs", project), (evil, "x"),
        ("status", evil),
        ("train", project, "--set", f"{evil}=1"), ("presets", evil), ("export", evil), ("verify", evil),
        ("new", project.parent / evil, "--base", evil), ("import", evil, project), ("get", evil), (evil,),
        ("plan", project, "--set", f"lr={evil}"), ("scan", project.parent / evil), ("config", evil),
        ("families", evil),
    ]  # fmt: skip
    for command in commands:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main([*map(str, command)])
        text = out.getvalue() + err.getvalue()
        assert "Unexpected" not in text, text
        assert not {c for c in text if c != "\n" and (ord(c) < 32 or 127 <= ord(c) < 160)}, command
        assert "\u202e" not in text
    # the same through real pipes, with a locale that is not UTF-8 too
    for env in ({}, {"PYTHONIOENCODING": "ascii"}):
        done = process("scan", project, **env)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout + done.stderr


def test_verify_and_export_of_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    name = "lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_q"
    file = tmp_path / "a.safetensors"
    save_file(
        {
            f"{name}.lora_down.weight": np.ones((2, 1280), np.float32),
            f"{name}.lora_up.weight": np.ones((1280, 2), np.float32),
            f"{name}.alpha": np.array(2, np.float32),
        },
        file,
    )
    found = run_json(capsys, "verify", file)
    assert found.keys() >= {"family", "format", "rank", "matched", "problems"}
    assert (found["family"], found["format"], found["rank"]) == ("sd15", "kohya", 2)
    assert found["matched"]["comfyui"] == [1, 1]
    done = run_json(capsys, "export", file, "--format", "peft", "--out", tmp_path / "b.safetensors")
    assert done["matched"]["diffusers"] == [1, 1]
    assert run_json(capsys, "verify", tmp_path / "b.safetensors", code=1)["format"] == "peft", (
        "ComfyUI drops it"
    )
    taken = run_json(capsys, "export", file, "--out", tmp_path / "b.safetensors", code=2)
    assert "exists already" in taken["error"]


def test_a_closed_pipe_is_quiet(project: Path) -> None:
    command = f"{sys.executable} -m loratui config schema | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stderr == ""


def test_the_app_needs_a_terminal(project: Path) -> None:
    done = process(project)
    assert done.returncode == 2
    assert "needs a terminal" in done.stderr
    assert process("replay", RECORDED).returncode == 2


def test_version() -> None:
    assert process("--version").stdout.startswith("loratui ")


def test_doctor_reports_and_says_what_to_do(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from loratui import checkup

    monkeypatch.setattr(
        checkup, "training", lambda: [checkup.Check("training", "attention", "none", "Install it.")]
    )
    found = run_json(capsys, "doctor", code=1)
    assert not found["ok"]
    assert {"app", "training", "gpu", "disk", "terminal"} <= {c["name"] for c in found["checks"]}
    assert main(["doctor"]) == 1
    assert "Install it." in capsys.readouterr().out


def test_doctor_asks_the_jobs_own_interpreter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from loratui import checkup

    fake = tmp_path / "python"
    answer = {
        "python": "3.99",
        "packages": {"torch": "2.14"},
        "cuda": False,
        "broken": "OSError: no libtorch\nmore",
    }
    fake.write_text(f"#!/bin/sh\necho '{json.dumps(answer)}'\n".replace("\\n", " "))
    fake.chmod(0o755)
    monkeypatch.setattr("loratui.runs.launch.job_python", lambda: str(fake))
    first, broken = checkup.training()
    assert (first.level, "torch 2.14" in first.detail) == ("ok", True)
    assert (broken.level, "no libtorch" in broken.detail) == ("attention", True)
