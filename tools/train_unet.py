"""Train the demo's U-Net and text encoder on drawn scenes and their captions."""

from __future__ import annotations

import json
import math
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from captions import caption
from export_base import load_tokenizer, new_text_encoder, new_unet, sd15_scheduler
from safetensors.torch import load_file, save_file
from scenes import Scene, draw, random_scene
from torch import Tensor
from train_codec import load_codec, to_tensor, update_ema

EMA_EVERY = 4
SNR_FLOOR = 0.1
DECAY_FROM = 0.6
SIZES = ((64, 64, 1.0), (80, 48, 0.05), (48, 80, 0.05))


def shard_scenes(width_px: int, height_px: int, shard: int, n: int) -> list[Scene]:
    """Return a shard's scenes, the same each time."""
    rng = random.Random(f"{width_px}x{height_px}/{shard}")
    return [random_scene(rng, width_px, height_px) for _ in range(n)]


def cache_latents(work: Path, shards: int, n: int = 2000) -> None:
    """Draw and encode `shards` shards of `n` square scenes, and a twentieth as many of the other sizes."""
    codec = load_codec(work).to(memory_format=torch.channels_last)  # five times faster here than contiguous
    for width_px, height_px, share in SIZES:
        for shard in range(max(1, round(shards * share))):
            path = work / f"latents_{width_px}x{height_px}_{shard:03}.safetensors"
            if path.exists():
                continue
            latents = []
            images = [draw(s) for s in shard_scenes(width_px, height_px, shard, n)]
            for i in range(0, n, 16):
                batch_BCHW = to_tensor(images[i : i + 16]).contiguous(memory_format=torch.channels_last)
                with torch.no_grad():
                    latents.append(codec.encode(batch_BCHW).latent_dist.mode().contiguous())
            latents_BCHW = torch.cat(latents)
            save_file({"latents": latents_BCHW.to(torch.float16).contiguous()}, path)
            print(path.name, f"std {latents_BCHW.std():.3f}", flush=True)
    first = load_file(work / "latents_64x64_000.safetensors")["latents"].float()
    (work / "scaling.json").write_text(json.dumps({"scaling_factor": round(1 / first.std().item(), 5)}))


class Pool:
    """All cached latents of one size with the scenes they show."""

    def __init__(self, work: Path, width_px: int, height_px: int, scale: float) -> None:
        paths = sorted(work.glob(f"latents_{width_px}x{height_px}_*.safetensors"))
        latents, self.scenes = [], []
        for path in paths:
            part = load_file(path)["latents"]
            latents.append(part)
            self.scenes += shard_scenes(width_px, height_px, int(path.stem[-3:]), len(part))
        self.latents_BCHW = (torch.cat(latents).float() * scale).contiguous()

    def batch(self, rng: random.Random, size: int) -> tuple[Tensor, list[str]]:
        """Return latents_BCHW and captions, one in ten of them empty."""
        rows = [rng.randrange(len(self.scenes)) for _ in range(size)]
        texts = ["" if rng.random() < 0.1 else caption(self.scenes[i], rng) for i in rows]
        return self.latents_BCHW[rows], texts


def scaling_factor(work: Path) -> float:
    """Return the factor that gives latents unit standard deviation."""
    return float(json.loads((work / "scaling.json").read_text())["scaling_factor"])


def save(path: Path, **modules: dict[str, Tensor]) -> None:
    """Write several state dicts into one safetensors file, whole or not at all."""
    flat = {f"{m}.{k}": v.contiguous() for m, d in modules.items() for k, v in d.items()}
    save_file(flat, path.with_suffix(".tmp"))
    path.with_suffix(".tmp").replace(path)


def part(flat: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return one state dict of a file that `save` wrote."""
    return {k[len(name) + 1 :]: v for k, v in flat.items() if k.startswith(name + ".")}


def flat_moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return AdamW's moments by parameter number."""
    state = optimizer.state_dict()["state"]
    return {f"{i}.{k}": v.float() for i, d in state.items() for k, v in d.items()}


def set_moments(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> None:
    """Put back what `flat_moments` returned."""
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in flat.items():
        i, name = key.split(".")
        state.setdefault(int(i), {})[name] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def diffusion_loss(
    unet: torch.nn.Module,
    hidden_BLD: Tensor,
    latents_BCHW: Tensor,
    alphas_T: Tensor,
    gamma: float = 5.0,
    floor: float = 0.0,
) -> Tensor:
    """Return the epsilon loss weighted by (min(SNR, gamma) + floor) / SNR.

    With floor 0 this is min-SNR (Hang et al. 2023), which all but ignores the noisiest steps. Those
    decide the colours of flat drawings, and a floor of 0.1 makes a small model listen to its prompt there.
    """
    noise_BCHW = torch.randn_like(latents_BCHW)
    timesteps_B = torch.randint(0, len(alphas_T), (len(latents_BCHW),))
    alpha_B111 = alphas_T[timesteps_B].view(-1, 1, 1, 1)
    noisy_BCHW = alpha_B111.sqrt() * latents_BCHW + (1 - alpha_B111).sqrt() * noise_BCHW
    with torch.autocast("cpu", torch.bfloat16):
        predicted_BCHW = unet(noisy_BCHW, timesteps_B, hidden_BLD).sample
    snr_B = (alpha_B111 / (1 - alpha_B111)).flatten()
    loss_B = F.mse_loss(predicted_BCHW.float(), noise_BCHW, reduction="none").mean(dim=(1, 2, 3))
    return (loss_B * (snr_B.clamp_max(gamma) + floor) / snr_B).mean()


def learning_rate(elapsed: float, step: int, peak: float) -> float:
    """Return the rate after a share `elapsed` of the time: warm-up, flat, then down to a hundredth."""
    late = min(1.0, max(0.0, (elapsed - DECAY_FROM) / (1 - DECAY_FROM)))
    decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * late))
    return peak * min(1.0, (step + 1) / 300) * decay


def train_unet(work: Path, seconds: float, batch: int = 32, peak_lr: float = 6e-4) -> None:
    """Train for `seconds` of wall time in all, the rate's decay tied to the clock; resumable."""
    torch.manual_seed(time.time_ns() % 2**31)
    tokenizer = load_tokenizer(work / "tokenizer")
    unet, text = new_unet(), new_text_encoder(tokenizer)
    path, progress_path = work / "unet.safetensors", work / "unet_progress.json"
    step, used = 0, 0.0
    parameters = [*unet.parameters(), *text.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=peak_lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    ema_unet = {k: v.clone() for k, v in unet.state_dict().items()}
    ema_text = {k: v.clone() for k, v in text.state_dict().items()}
    if path.exists():
        flat = load_file(path)
        unet.load_state_dict(part(flat, "unet"))
        text.load_state_dict(part(flat, "text"))
        ema_unet, ema_text = part(flat, "ema_unet"), part(flat, "ema_text")
        if moments := part(flat, "adam"):  # absent when a finished base is trained on
            set_moments(optimizer, moments)
        progress = json.loads(progress_path.read_text())
        step, used = progress["step"], progress["seconds"]
    pools = [Pool(work, w, h, scaling_factor(work)) for w, h, _ in SIZES]
    alphas_T, rng = sd15_scheduler().alphas_cumprod, random.Random(time.time_ns())
    began, recent, first = time.time() - used, [], step
    while time.time() - began < seconds:
        elapsed = (time.time() - began) / seconds
        optimizer.param_groups[0]["lr"] = learning_rate(elapsed, step - first, peak_lr)
        latents_BCHW, texts = rng.choices(pools, (92, 4, 4))[0].batch(rng, batch)
        ids_BL = tokenizer(
            texts, padding="max_length", truncation=True, max_length=77, return_tensors="pt"
        ).input_ids
        with torch.autocast("cpu", torch.bfloat16):
            hidden_BLD = text(ids_BL).last_hidden_state
        loss = diffusion_loss(unet, hidden_BLD, latents_BCHW, alphas_T, floor=SNR_FLOOR)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % EMA_EVERY == 0:
            decay = min(0.9985**EMA_EVERY, (1 + step) / (50 + step))
            update_ema(ema_unet, unet, decay)
            update_ema(ema_text, text, decay)
        recent.append(loss.item())
        done = time.time() - began >= seconds
        if step % 100 == 0:
            print(f"unet {step} loss {sum(recent) / len(recent):.4f} {time.time() - began:.0f}s", flush=True)
            recent = []
        if step % 500 == 0 or done:
            moments = flat_moments(optimizer)
            save(
                path,
                unet=unet.state_dict(),
                text=text.state_dict(),
                ema_unet=ema_unet,
                ema_text=ema_text,
                adam=moments,
            )
            progress_path.write_text(
                json.dumps({"step": step, "seconds": time.time() - began, "batch": batch})
            )
