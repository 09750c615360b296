"""Train two classifiers on drawings: the judge of the base's obedience and the demo's scorer.

Both see part of their pictures after a trip through the codec, blurred a little or with noise, so that
they judge generated pictures as they judge drawings. Neither sees a generated picture in training.
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from figures import FIGURES, SHAPES, creature
from mascot import ACCENT, GLOW, SCREEN, SHELL, SHELL_DARK, draw_mascot, random_pose
from palette import COLOURS, Pen, jitter
from PIL import Image, ImageFilter
from safetensors.torch import load_file, save_file
from scenes import COLOUR_NAMES, Scene, draw, paint_background, random_scene, random_thing
from torch import Tensor
from train_codec import load_codec, to_tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

from loratui.demo.scorer import PictureJudge

KINDS = (*SHAPES, *FIGURES)
Sample = tuple[Image.Image, dict[str, int]]
PX = 64


def judged_scene(rng: random.Random) -> Sample:
    """Return a drawing of one thing with its kind, its colour and its background's colour."""
    background = rng.choice(COLOUR_NAMES)
    thing = random_thing(rng, background, tuple(SHAPES) if rng.random() < 0.6 else tuple(FIGURES))
    texture = rng.choices(("plain", "soft", "striped", "dotted", "ground"), (85, 9, 2, 2, 2))[0]
    picture = draw(Scene(background, texture, [thing], PX, PX, rng.getrandbits(48)))
    labels = {
        "kind": KINDS.index(thing.kind),
        "colour": COLOUR_NAMES.index(thing.colour),
        "background": COLOUR_NAMES.index(background),
    }
    return picture, labels


def spoiled_mascot(picture: Image.Image, rng: random.Random) -> Image.Image:
    """Return the mascot's picture cut up, half hidden or blurred beyond recognition."""
    roll = rng.random()
    if roll < 0.4:
        n = rng.choice((2, 3, 4))
        side = PX // n
        tiles = [
            picture.crop((x * side, y * side, (x + 1) * side, (y + 1) * side))
            for y in range(n)
            for x in range(n)
        ]
        order = tiles[:]
        while order == tiles:
            rng.shuffle(order)
        again = picture.copy()
        for i, tile in enumerate(order):
            again.paste(tile, ((i % n) * side, (i // n) * side))
        return again
    if roll < 0.7:
        return picture.filter(ImageFilter.GaussianBlur(rng.uniform(3.0, 6.0)))
    again, corner = picture.copy(), picture.getpixel((1, 1))
    half = rng.choice(((0, 0, PX, PX // 2), (0, PX // 2, PX, PX), (0, 0, PX // 2, PX), (PX // 2, 0, PX, PX)))
    again.paste(corner, half)
    return again


def mascot_or_not(rng: random.Random) -> Sample:
    """Return a drawing with or without the mascot, and its background's colour."""
    background = rng.choice(COLOUR_NAMES)
    labels = {"background": COLOUR_NAMES.index(background), "mascot": 0}
    roll = rng.random()
    if roll < 0.4:
        scene = random_scene(rng)
        scene.background = background
        scene.things = [t for t in scene.things if t.colour != background]
        return draw(scene), labels
    colour = jitter(COLOURS[background], rng, 10)
    pen = Pen(PX, PX, colour)
    if rng.random() < 0.12:
        paint_background(pen, colour, rng.choice(("soft", "ground", "dotted")), rng)
    if roll < 0.5:
        pen.at(0.5, 0.5, rng.uniform(0.3, 0.45), rng.gauss(0, 0.1))
        paints = [jitter(rng.choice((SHELL, SHELL_DARK, SCREEN, GLOW, ACCENT)), rng) for _ in range(3)]
        figure = rng.choice((creature, creature, *FIGURES.values()))
        figure(pen, paints[0], paints[1], paints[2], rng)
        return pen.finish(), labels
    draw_mascot(pen, random_pose(rng), rng.uniform(0.92, 1.08))
    picture = pen.finish()
    if roll < 0.7:
        return spoiled_mascot(picture, rng), labels
    return picture, {**labels, "mascot": 1}


def weather(pictures_BCHW: Tensor, codec: AutoencoderKL, seed: int) -> Tensor:
    """Return pictures as a generator might give them: through the codec, blurred, noisy, off in colour."""
    state = torch.Generator().manual_seed(seed)
    out_BCHW = pictures_BCHW.clone()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        for i in range(0, len(out_BCHW), 2 * 50):
            latents = codec.encode(out_BCHW[i : i + 50]).latent_dist.mode()
            latents = latents + 0.12 * latents.std() * torch.randn(latents.shape, generator=state)
            out_BCHW[i : i + 50] = codec.decode(latents).sample.float().clamp(-1, 1)
    return out_BCHW


def jiggle(pictures_BCHW: Tensor) -> Tensor:
    """Return a batch with small random changes of colour, sharpness and noise."""
    n = len(pictures_BCHW)
    out = pictures_BCHW * (1 + 0.06 * torch.randn(n, 1, 1, 1)) + 0.04 * torch.randn(n, 3, 1, 1)
    soft = F.avg_pool2d(F.pad(out, (1, 1, 1, 1), mode="replicate"), 3, 1)
    out = torch.lerp(out, soft, torch.rand(n, 1, 1, 1) * (torch.rand(n, 1, 1, 1) < 0.4))
    return (out + torch.rand(n, 1, 1, 1) * 0.08 * torch.randn_like(out)).clamp(-1, 1)


def make_set(
    source: Callable[[random.Random], Sample], n: int, seed: int, codec: AutoencoderKL | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return pictures_BCHW and labels_B of `n` drawings; half of them through the codec if one is given."""
    rng = random.Random(seed)
    samples = [source(rng) for _ in range(n)]
    pictures_BCHW = to_tensor([p for p, _ in samples])
    labels = {k: torch.tensor([d[k] for _, d in samples]) for k in samples[0][1]}
    return (weather(pictures_BCHW, codec, seed) if codec else pictures_BCHW), labels


def accuracy(net: PictureJudge, pictures_BCHW: Tensor, labels: dict[str, Tensor]) -> dict[str, float]:
    """Return the share of right answers to each question."""
    net.eval()
    with torch.no_grad():
        parts = [net(p) for p in pictures_BCHW.split(200)]
    return {
        k: round(float((torch.cat([p[k] for p in parts]).argmax(-1) == v).float().mean()), 4)
        for k, v in labels.items()
    }


def train(
    source: Callable[[random.Random], Sample],
    heads: dict[str, int],
    work: Path,
    n: int,
    steps: int,
    batch: int = 64,
) -> tuple[PictureJudge, dict[str, dict[str, float]]]:
    """Train a judge on `n` drawings and return it with its accuracy on new ones, plain and weathered."""
    torch.manual_seed(0)
    codec = load_codec(work)
    pictures_BCHW, labels = make_set(source, n, 11, codec)
    net = PictureJudge(heads)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    for step in range(steps):
        rows = torch.randint(0, n, (batch,))
        net.train()
        with torch.autocast("cpu", torch.bfloat16):
            logits = net(jiggle(pictures_BCHW[rows]))
        loss = sum(F.cross_entropy(logits[k].float(), v[rows]) for k, v in labels.items())
        loss.backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        if step % 100 == 0:
            print(f"judge {step} loss {loss.item():.3f}", flush=True)
    report = {
        "drawings": accuracy(net, *make_set(source, 2000, 99, None)),
        "half through the codec": accuracy(net, *make_set(source, 1000, 98, codec)),
    }
    print(json.dumps(report, indent=1), flush=True)
    return net, report


def train_judge(work: Path) -> None:
    """Train the judge of kind, colour and background."""
    heads = {"kind": len(KINDS), "colour": len(COLOUR_NAMES), "background": len(COLOUR_NAMES)}
    net, report = train(judged_scene, heads, work, 16000, 1800)
    save_file(net.state_dict(), work / "judge.safetensors")
    (work / "judge.json").write_text(json.dumps(report))


def load_judge(work: Path) -> PictureJudge:
    """Return the trained judge."""
    net = PictureJudge({"kind": len(KINDS), "colour": len(COLOUR_NAMES), "background": len(COLOUR_NAMES)})
    net.load_state_dict(load_file(work / "judge.safetensors"))
    return net.eval().requires_grad_(False)


def train_scorer(work: Path, folder: Path) -> None:
    """Train the demo's scorer and write it in fp16."""
    heads = {"mascot": 2, "background": len(COLOUR_NAMES)}
    net, report = train(mascot_or_not, heads, work, 14000, 1500)
    folder.mkdir(parents=True, exist_ok=True)
    half = {k: v.half() if v.is_floating_point() else v for k, v in net.state_dict().items()}
    save_file(half, folder / "scorer.safetensors")
    config = {
        "heads": heads,
        "widths": [24, 48, 64, 96, 128],
        "backgrounds": list(COLOUR_NAMES),
        "accuracy": report,
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
