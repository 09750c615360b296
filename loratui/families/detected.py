"""What detection answers with, and the reading of folders that its rules share. Torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from loratui.errors import BaseModelError, Problem
from loratui.weights.header import Header, read_header

Layout = Literal["diffusers", "original", "unknown"]


@dataclass(frozen=True, slots=True)
class Detected:
    """What a base is.

    Attributes:
        family: its name in `families.spec`, or empty when it cannot be trained.
        layout: diffusers folder, or single file in the original layout.
        prediction: `epsilon`, `v_prediction` or `flow`; a guess for single SD2 files (`problems` says so).
        stated: whether the base itself says what it predicts.
        problems: why it cannot be trained (errors), and what to mind (warnings).
        parameters: weights of the denoiser.
        bytes: size of all weights on disk.
        latent_factor: px per latent px.
        what: the model in words, also when it cannot be trained.
    """

    family: str = ""
    layout: Layout = "unknown"
    prediction: str = ""
    stated: bool = False
    problems: tuple[Problem, ...] = field(default=())
    parameters: int = 0
    bytes: int = 0
    latent_factor: int = 8
    what: str = ""

    @property
    def ok(self) -> bool:
        """Whether it can be trained."""
        return bool(self.family) and not any(p.severity == "error" for p in self.problems)


def refused(code: str, message: str, advice: str, what: str = "", layout: Layout = "unknown") -> Detected:
    """A base that cannot be trained, and why."""
    problem = Problem("model.base", code, "error", message, advice=advice)
    return Detected(layout=layout, problems=(problem,), what=what)


def json_of(path: Path) -> dict[str, Any]:
    """A JSON object; empty where the file holds something else.

    Raises:
        BaseModelError: missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BaseModelError(
            f"{path} is missing.", "Download the base model again, it is incomplete."
        ) from error
    except (OSError, ValueError) as error:
        raise BaseModelError(f"{path} cannot be read: {error}.", "Download the base model again.") from error
    return found if isinstance(found, dict) else {}


def component(folder: Path) -> list[Header]:
    """Headers of the weights of one part.

    Raises:
        BaseModelError: there are none.
    """
    for stem in ("diffusion_pytorch_model", "model"):
        for variant in ("", ".fp16", ".bf16", ".non_ema"):
            if (folder / f"{stem}{variant}.safetensors").is_file():
                return [read_header(folder / f"{stem}{variant}.safetensors")]
            index = folder / f"{stem}.safetensors.index{variant}.json"
            if index.is_file():
                shards = sorted(set((json_of(index).get("weight_map") or {}).values()))
                return [read_header(folder / str(name)) for name in shards]
    if list(folder.glob("*.bin")) or list(folder.glob("*.ckpt")):
        raise BaseModelError(
            f"{folder} holds only pickled weights.",
            "Convert them to .safetensors: opening a pickle can run code.",
        )
    raise BaseModelError(
        f"{folder} holds no .safetensors weights.", "Download the base model again, it is incomplete."
    )


def count(header: Header, prefix: str) -> int:
    """Numbers in the tensors whose name starts so."""
    total = 0
    for name, info in header.tensors.items():
        if name.startswith(prefix):
            n = 1
            for side in info.shape:
                n *= side
            total += n
    return total
