"""Pickled checkpoints: numbers come out, and nothing that a file says is ever run."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from loratui.cli import main


def convert(path: Path, *words: str) -> int:
    return main(["convert", str(path), "--out", str(path.with_suffix(".safetensors")), "--force", *words])


def test_the_numbers_come_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    big = torch.randn(6, 8)
    state = OrderedDict(
        half=torch.randn(3, 4).half(), bf=torch.randn(5).bfloat16(), view=big[1:4, ::2], transposed=big.T,
        whole=torch.arange(7), scalar=torch.tensor(2.5), empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.randn(2, 2)), double=torch.randn(3, dtype=torch.float64),
    )  # fmt: skip
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": state, "epoch": 3, "global_step": 4}, path)
    assert convert(path, "--json") == 0
    assert json.loads(capsys.readouterr().out)["tensors"] == 9
    found = load_file(tmp_path / "model.safetensors")
    assert found.keys() == state.keys()
    for name, tensor in state.items():
        wanted = tensor.detach().float() if name == "double" else tensor.detach()
        assert torch.equal(found[name], wanted) and found[name].dtype == wanted.dtype, name
    assert convert(path, "--dtype", "fp16") == 0
    assert load_file(tmp_path / "model.safetensors")["double"].dtype == torch.float16
    assert load_file(tmp_path / "model.safetensors")["whole"].dtype == torch.int64


class Evil:
    """Pickles as a call."""

    def __init__(self, function, *args) -> None:
        self.call = (function, args)

    def __reduce__(self):
        return self.call


def evil_pickles(marker: Path) -> dict[str, bytes]:
    import builtins
    import os
    import subprocess

    code = f"open({str(marker)!r}, 'w').close()"
    made = {
        "system": Evil(os.system, f"touch {marker}"),
        "popen": Evil(os.popen, f"touch {marker}"),
        "exec": Evil(builtins.exec, code),
        "eval": Evil(builtins.eval, f"open({str(marker)!r}, 'w')"),
        "subprocess": Evil(subprocess.call, ["touch", str(marker)]),
        "open": Evil(builtins.open, str(marker), "w"),
        "nested": {"state_dict": {"a": [1, (2, Evil(os.system, f"touch {marker}"))]}},
        "in_key": {("k", Evil(builtins.exec, code)): 1},
        "getattr": Evil(builtins.getattr, "", "join"),
        "import": Evil(builtins.__import__, "antigravity"),
        "mkdir": Evil(os.mkdir, str(marker)),
        "path": Evil(Path.touch, marker),
    }
    found = {name: pickle.dumps(value, protocol=2 + n % 4) for n, (name, value) in enumerate(made.items())}
    # Written by hand, opcode by opcode.
    command = f"touch {marker}".encode()
    found |= {
        "global": b"cos\nsystem\n(V" + command + b"\ntR.",
        "posix": b"cposix\nsystem\n(V" + command + b"\ntR.",
        "inst": b"(V" + command + b"\nios\nsystem\n.",
        "obj": b"(cos\nsystem\nV" + command + b"\no.",
        "newobj": b"\x80\x02cos\nsystem\nV" + command + b"\n\x85\x81.",
        "stack_global": b"\x80\x04\x8c\x02os\x8c\x06system\x93V" + command + b"\n\x85R.",
        "dotted": b"\x80\x04\x8c\x08builtins\x8c\x0ddict.__class__\x93.",
        "rebuild_alias": b"\x80\x04\x8c\x0ctorch._utils\x8c\x04sys2\x93.",
        "build": b"ccollections\nOrderedDict\n(tRcos\nsystem\nb.",
        "storage_call": b"ctorch\nFloatStorage\n(V" + command + b"\ntR.",
    }  # fmt: skip
    return found


def test_malicious_pickles_run_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    marker = tmp_path / "executed"
    files = evil_pickles(marker)
    assert len(files) >= 20
    for name, data in files.items():
        path = tmp_path / f"{name}.ckpt"
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", data)
        assert convert(path) == 2, name
        assert not path.with_suffix(".safetensors").exists()
        assert not marker.exists(), f"{name} was executed"
        said = capsys.readouterr().err
        assert "Traceback" not in said
    # The test can fail: what they ask for does happen when the plain unpickler is used.
    pickle.loads(files["system"])  # noqa: S301 - made above
    assert marker.exists()


@pytest.mark.parametrize("how", ["cut", "no_pickle", "legacy", "not_zip", "missing_storage", "beyond"])
def test_damaged_files_are_named(how: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.ckpt"
    tensor = torch.randn(40, 40)
    torch.save({"a": tensor}, path, _use_new_zipfile_serialization=how != "legacy")
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "not_zip":
        path.write_bytes(b"\x80\x02}q\x00.")
    elif how != "legacy":
        with zipfile.ZipFile(path) as old:
            entries = {n: old.read(n) for n in old.namelist()}
        with zipfile.ZipFile(tmp_path / "n.ckpt", "w") as new:
            for name, content in entries.items():
                if (how == "no_pickle" and name.endswith("data.pkl")) or (
                    how == "missing_storage" and "/data/" in name
                ):
                    continue
                new.writestr(name, content[:100] if how == "beyond" and "/data/" in name else content)
        path = tmp_path / "n.ckpt"
    assert convert(path) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said and len(said.splitlines()) <= 4
    assert not path.with_suffix(".safetensors").exists()


def test_a_bomb_ends_at_the_memory_limit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A few bytes that ask for 64 GiB."""
    bomb = b"\x80\x04}\x8c\x01a" + b"\x8e" + (64 << 30).to_bytes(8, "little") + b"xxxx" + b"s."
    path = tmp_path / "b.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", bomb)
    assert convert(path) == 2
    assert "Traceback" not in capsys.readouterr().err
