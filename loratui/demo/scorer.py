"""An independent judge of the demo: is the mascot in the picture, and on which background?

The weights come from drawings only (`tools/train_judges.py`): the mascot in every pose, size and place
on every background, against plain shapes, other figures, and cut-up, half-hidden and blurred mascots.
It never sees a generated picture while it is trained. Importing this module imports torch.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor, nn

from loratui.demo import RESOLUTION_PX, scorer_path


class PictureJudge(nn.Module):
    """A small convolutional network with one linear head per question.

    Args:
        heads: number of answers for each question's name.
        widths: channels after each of the five convolutions.
    """

    def __init__(self, heads: dict[str, int], widths: tuple[int, ...] = (24, 48, 64, 96, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for i, width in enumerate(widths):
            stride = 1 if i == 1 else 2
            layers += [nn.Conv2d(channels, width, 3, stride, 1, bias=False), nn.BatchNorm2d(width), nn.SiLU()]
            channels = width
        self.trunk = nn.Sequential(*layers)
        self.heads = nn.ModuleDict({name: nn.Linear(2 * channels, n) for name, n in heads.items()})

    def forward(self, pictures_BCHW: Tensor) -> dict[str, Tensor]:
        """Return logits_BN for each question about pictures in [-1, 1]."""
        features_BCHW = self.trunk(pictures_BCHW)
        features_BD = torch.cat([features_BCHW.mean(dim=(2, 3)), features_BCHW.amax(dim=(2, 3))], dim=1)
        return {name: head(features_BD) for name, head in self.heads.items()}


@dataclass(frozen=True)
class Verdict:
    """What the scorer sees in one picture.

    Attributes:
        mascot: whether the mascot is there.
        background: the name of the background's colour.
        found: the mascot is there and the background is the one asked for.
        confidence: probability of the mascot, 0 to 1.
    """

    mascot: bool
    background: str
    found: bool
    confidence: float


def to_batch(pictures: list[Image.Image]) -> Tensor:
    """Return pictures_BCHW in [-1, 1] at the size that the judge was trained on."""
    side = (RESOLUTION_PX, RESOLUTION_PX)
    arrays = [
        np.asarray(p.convert("RGB").resize(side, Image.Resampling.BOX), dtype=np.float32) for p in pictures
    ]
    return torch.from_numpy(np.stack(arrays) / 127.5 - 1).permute(0, 3, 1, 2).contiguous()


@cache
def load_scorer(folder: Path) -> tuple[PictureJudge, tuple[str, ...]]:
    """Return the scorer in a folder and the names of the background colours it tells apart."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    net = PictureJudge(config["heads"], tuple(config["widths"]))
    net.load_state_dict({k: v.float() for k, v in load_file(folder / "scorer.safetensors").items()})
    return net.eval().requires_grad_(False), tuple(config["backgrounds"])


def judge(pictures: list[Image.Image], backgrounds: list[str], folder: Path | None = None) -> list[Verdict]:
    """Say of each picture whether it shows the mascot on the background asked for.

    Args:
        pictures: pictures of any size; they are shrunk to the base's 64 px.
        backgrounds: the colour's name asked for, one per picture.
        folder: the scorer's folder, the bundled one by default.

    Raises:
        ValueError: the two lists differ in length, or a colour has no such name.
    """
    if len(pictures) != len(backgrounds):
        raise ValueError(f"{len(pictures)} pictures but {len(backgrounds)} backgrounds: give one for each.")
    net, names = load_scorer(folder or scorer_path())
    unknown = sorted(set(backgrounds) - set(names))
    if unknown:
        raise ValueError(f"The scorer knows no background {', '.join(unknown)}; it knows {', '.join(names)}.")
    if not pictures:
        return []
    logits = net(to_batch(pictures))
    shares = logits["mascot"].softmax(-1)[:, 1].tolist()
    seen = [names[i] for i in logits["background"].argmax(-1).tolist()]
    return [
        Verdict(share > 0.5, name, share > 0.5 and name == asked, share)
        for share, name, asked in zip(shares, seen, backgrounds, strict=True)
    ]


def score(pictures: list[Image.Image], backgrounds: list[str]) -> list[bool]:
    """Return, for each picture, whether both the mascot and the named background are found."""
    return [verdict.found for verdict in judge(pictures, backgrounds)]
