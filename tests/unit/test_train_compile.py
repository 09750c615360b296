"""Compiled blocks: the same loss and gradients to rounding, and what cannot be is said before the run."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
import train_kit as kit

from loratui.config.checks import check, check_device
from loratui.errors import JobError
from loratui.families.protocol import load_family
from loratui.train import loop
from loratui.train.adapter import Adapter
from loratui.train.fit import compile_blocks


def test_what_cannot_be_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    both = kit.tiny_config(memory__compile=True, memory__blocks_to_swap=2)
    assert [p.code for p in check(both)] == ["compile-or-swap"]
    compiled = kit.tiny_config(memory__compile=True)
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert [p.code for p in check_device(compiled, cuda=True)] == ["no-compiler"]
    assert not check_device(kit.tiny_config(), cuda=True)
    monkeypatch.setattr(shutil, "which", lambda name: "/usr/bin/clang++" if name == "clang++" else None)
    assert not check_device(compiled, cuda=True)


def test_a_failing_compiler_is_named(
    tmp_path: Path, tiny_sd15: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from torch._inductor.exc import CppCompileError

    def step(t: object) -> None:
        raise CppCompileError(["g++", "x.cpp"], "no Python.h")

    monkeypatch.setattr(loop, "optimizer_step", step)
    with pytest.raises(JobError, match="compile failed") as found:
        kit.run_job_here(kit.make_run(tmp_path, tiny_sd15, kit.tiny_config()))
    assert "memory.compile = false" in found.value.advice


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="no compiler")
def test_a_compiled_block_agrees(tiny_sd15: Path) -> None:
    family, found = load_family("sd15"), []
    for compiled in (False, True):
        parts = family.load(tiny_sd15, torch.float32)
        adapter = Adapter(family, parts, kit.tiny_config().network, 1)
        blocks = [b for b in family.blocks(parts.denoiser) if hasattr(b, "attn1")][:1]
        if compiled:
            compile_blocks(blocks)
            assert blocks[0]._compiled_call_impl is not None
        torch.manual_seed(0)
        condition = {"prompt_embeds": torch.randn(1, 77, 32)}
        noisy, times = torch.randn(1, parts.latent_channels, 8, 8), torch.tensor([10])
        loss = family.predict(parts, noisy, times, condition).square().mean()
        loss.backward()
        found.append((loss.detach(), [p.grad for p in adapter.parameters()]))
    assert torch.allclose(found[0][0], found[1][0], rtol=1e-5)
    for plain, other in zip(found[0][1], found[1][1], strict=True):
        assert torch.allclose(plain, other, rtol=1e-3, atol=1e-5 * float(plain.abs().max()) + 1e-9)
