"""Train the demo's autoencoder on drawings of many kinds (64 px, f4, 16x16x4 latents).

Stages write plain safetensors into the work folder and pick up where they stopped.
"""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file, save_file
from scenes import CODEC_KINDS, UNSEEN_KINDS, CodecKind, random_drawing
from torch import Tensor

PX = 64


def new_codec() -> AutoencoderKL:
    """Return an untrained AutoencoderKL with 16x16x4 latents for 64 px."""
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(32, 64, 64),
        layers_per_block=1,
        latent_channels=4,
        norm_num_groups=16,
        sample_size=PX,
    )


def to_tensor(images: list[Image.Image]) -> Tensor:
    """Return pictures_BCHW in [-1, 1]."""
    array = np.stack([np.asarray(i, dtype=np.float32) for i in images])
    return torch.from_numpy(array / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


def update_ema(ema: dict[str, Tensor], model: torch.nn.Module, decay: float) -> None:
    """Move the running mean of the weights towards `model`."""
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            ema[name].lerp_(value, 1 - decay)


def psnr(codec: AutoencoderKL, kind: CodecKind, n: int = 64, seed: int = 7) -> float:
    """Return the mean PSNR in dB of redrawing `n` drawings of a kind, pixel values in [0, 1]."""
    rng = random.Random(seed)
    pictures_BCHW = to_tensor([kind(rng, PX) for _ in range(n)])
    with torch.no_grad():
        again_BCHW = codec.decode(codec.encode(pictures_BCHW).latent_dist.mode()).sample.clamp(-1, 1)
    error_B = ((pictures_BCHW - again_BCHW) / 2).square().mean(dim=(1, 2, 3)).clamp_min(1e-8)
    return float((-10 * error_B.log10()).mean())


def measure(codec: AutoencoderKL) -> dict[str, dict[str, float]]:
    """Return the PSNR for each kind it was trained on and each it never saw."""
    return {
        "seen": {k: round(psnr(codec, f), 2) for k, (f, _) in CODEC_KINDS.items()},
        "unseen": {k: round(psnr(codec, f), 2) for k, f in UNSEEN_KINDS.items()},
    }


def train_codec(work: Path, steps: int = 3000, batch: int = 16, peak_lr: float = 1e-3) -> None:
    """Train until `steps`, saving codec.safetensors (the running mean) every 250 steps."""
    torch.manual_seed(0)
    codec = new_codec()
    state_path, ema_path = work / "codec_state.safetensors", work / "codec.safetensors"
    start = 0
    ema = {k: v.clone() for k, v in codec.state_dict().items()}
    if state_path.exists():
        codec.load_state_dict(load_file(state_path))
        ema = load_file(ema_path)
        start = json.loads((work / "codec_step.json").read_text())["step"]
    optimizer = torch.optim.AdamW(codec.parameters(), lr=peak_lr, weight_decay=1e-4, fused=True)
    rng, began = random.Random(1000 + start), time.time()
    for step in range(start, steps):
        progress = step / steps
        lr = (
            peak_lr
            * min(1, (step - start + 1) / 100)
            * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))
        )
        optimizer.param_groups[0]["lr"] = lr
        pictures_BCHW = to_tensor([random_drawing(rng, PX) for _ in range(batch)])
        with torch.autocast("cpu", torch.bfloat16):
            posterior = codec.encode(pictures_BCHW).latent_dist
            again_BCHW = codec.decode(posterior.sample()).sample
        error = again_BCHW.float() - pictures_BCHW
        kl = posterior.kl().float().mean() / posterior.mean[0].numel()
        loss = error.abs().mean() + 4 * error.square().mean() + 1e-4 * kl
        loss.backward()
        torch.nn.utils.clip_grad_norm_(codec.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        update_ema(ema, codec, min(0.998, (1 + step) / (20 + step)))
        if step % 50 == 0:
            print(
                f"codec {step} loss {loss.item():.4f} kl {kl.item():.2f} {time.time() - began:.0f}s",
                flush=True,
            )
        if (step + 1) % 250 == 0 or step + 1 == steps:
            save_file({k: v.contiguous() for k, v in codec.state_dict().items()}, state_path)
            save_file({k: v.contiguous() for k, v in ema.items()}, ema_path)
            (work / "codec_step.json").write_text(json.dumps({"step": step + 1}))
    codec.load_state_dict(ema)
    print(json.dumps(measure(codec), indent=1), flush=True)


def load_codec(work: Path) -> AutoencoderKL:
    """Return the trained codec in fp32, not trainable."""
    codec = new_codec()
    codec.load_state_dict(load_file(work / "codec.safetensors"))
    return codec.eval().requires_grad_(False)
