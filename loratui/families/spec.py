"""What menus, detection and the plan need to know of a family, without importing it.

It is the data at the head of the family's file (`families.heading`); `NAMES` says which families there are.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import msgspec

from loratui.families.heading import read_heading

NAMES = (
    "sd15",
    "sd2",
    "sdxl",
    "sd3",
    "flux",
    "flux2",
    "chroma",
    "qwen",
    "zimage",
)
"""The families, one a line: each is a file of this folder. Files are detected in this order."""
SMALL = 1_000_000_000
"""Numbers up to which a text encoder is held, and its captions are cached, in fp32."""


@dataclass(frozen=True, slots=True)
class Layers:
    """Ends of the names of diffusers' layers that get an update, by what `network.target` counts them to.

    Attributes:
        attention: of the target of that name.
        mlp: what `attention+mlp` has besides.
        more: what `full` has besides; transformers have no convolutions.
    """

    attention: tuple[str, ...]
    mlp: tuple[str, ...]
    more: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LayerNames:
    """Names of a transformer's layers, in diffusers and in the original; `weights.layouts` makes them whole.

    Attributes:
        blocks: kind of block (what stands before `.{n}` in diffusers' names) -> how many the largest true
            model has, in the order in which they run.
        forms: program -> the forms of names that it reads: see `weights.layouts.Names`.
        table: a line for each layer: diffusers' name, the original's and, where the original has several as
            one matrix, part/parts; `{n}` is the block's number.
        mlp_ratios: outputs for each input of the MLPs' first matrices, where nothing else tells the family's
            files from those of another with the same names.
        turned: a layer of the last block whose shift and scale diffusers has the other way around.
    """

    blocks: dict[str, int]
    forms: dict[str, tuple[str, ...]]
    table: str
    mlp_ratios: tuple[int, ...] = ()
    turned: str = ""


@dataclass(frozen=True, slots=True)
class Packaged:
    """Settings of the true model for what single files do not tell, as its diffusers folder has them: JSON.

    Attributes:
        model_index: of the pipeline.
        scheduler: of its scheduler.
        vae: of its codec.
    """

    model_index: str
    scheduler: str
    vae: str


@dataclass(frozen=True, slots=True)
class CaptionPart:
    """What the cache holds of a caption from one of its encoders: features of tokens, for the disk it takes.

    Attributes:
        tokens: how many, filling included; at most so many where there is none.
        width: features of a token in the true model.
        inputs: names, in diffusers and in the original, of the denoiser's matrix that takes the features:
            its columns are their number in a base of another size.
        around: where filling is not kept, the tokens of the chat that are, and of the end; -1 with filling.
        unguided: tokens in bases that have no input for a guidance, where they are others; else 0.
        fp32: the encoder is held in fp32 even when it is of true size; large ones are in bf16.
    """

    tokens: int
    width: int
    inputs: tuple[str, ...] = ()
    around: int = -1
    unguided: int = 0
    fp32: bool = False


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A light row of the family table; what is not said here is a key of the same name in the file's head.

    Attributes:
        name: the name used in configs and on the command line (`sd15`), which is the file's.
        title: for people.
        module: dotted module that implements it (torch inside); loaded only in a job. Not in the head.
        resolution: the resolution the base was trained at, in px.
        latent_factor: picture px per latent px.
        blocks: how many modules `Family.blocks` finds in the smallest base of true size; a base's own
            headers count for more, see `weights.base_layers`.
        notes: one line on what to mind.
        flow: it predicts the velocity of a rectified flow, not noise: see `train.flow`.
        patch: latent px per side of a token; bucket sides are multiples of latent_factor * patch.
        files: form of the files a run exports, `kohya` or `peft`.
        networks: the types of network that it trains; empty for all.
        trains_text: its text encoders, or some of them, can be trained, and get new tokens.
        pipelines: `_class_name` in model_index.json of its diffusers folders; the classic families have
            rules of their own in `families.detect`.
        marks: tensors that all of its files hold, without prefix.
        unlike: tensors that another family's files hold beside the same marks.
        layers: network.target -> ends of the names of diffusers' layers that get an update; in the head a
            table of what each target adds to the one before, see `Layers`.
        idle: ends of the names of layers of the last block whose output goes nowhere: they get no update.
        distilled: pattern of the names of its bases that are distilled to few steps without guidance, and
            are trained with a training adapter under them; empty for none. Their presets are named
            `NAME-turbo...`.
        larger: word -> numbers of the denoiser from which a base is of a larger kind that trains by settings
            of its own: its presets are named `NAME-WORD...`.
        wide: activations overflow fp16.
        parameters: numbers of the denoiser of the (smallest) true model; 0 where a table counts them.
        others: numbers of codec and text encoders.
        captions: what the cache holds of a caption.
        optional: folders of text encoders that single files may lack: the model does without.
        text_by_tensor: a tensor in single files -> the class of the text encoder of those that hold it, where
            that is another than `configs.model_index` says.
        names: names of its layers; None for the classic families, which have tables of their own.
        configs: packaged settings; None for the classic families, which have them in `configs/`.
    """

    name: str
    title: str
    module: str
    resolution: int
    latent_factor: int
    blocks: int
    notes: str = ""
    flow: bool = False
    patch: int = 1
    files: Literal["kohya", "peft"] = "kohya"
    networks: tuple[str, ...] = ()
    trains_text: bool = True
    pipelines: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    layers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    distilled: str = ""
    larger: Mapping[str, int] = field(default_factory=dict)
    wide: bool = False
    parameters: int = 0
    others: int = 0
    captions: tuple[CaptionPart, ...] = ()
    optional: tuple[str, ...] = ()
    text_by_tensor: Mapping[str, str] = field(default_factory=dict)
    names: LayerNames | None = None
    configs: Packaged | None = None

    @property
    def side_px(self) -> int:
        """What the sides of every bucket are multiples of."""
        return self.latent_factor * self.patch

    @property
    def most_blocks(self) -> int:
        """How many blocks the largest true model has."""
        return max(self.blocks, sum(self.names.blocks.values()) if self.names is not None else 0)

    @property
    def latent_channels(self) -> int:
        """Channels of the true model's latents; codecs made for video call them otherwise."""
        vae = self.packaged("vae") if self.configs is not None else {}
        return int(vae.get("latent_channels") or vae.get("z_dim") or 4)

    @property
    def kinds(self) -> tuple[str, ...]:
        """Words for bases of this family that have presets of their own, `NAME-WORD...`."""
        return (*(["turbo"] if self.distilled else []), *self.larger)

    def packaged(self, part: Literal["model_index", "scheduler", "vae"]) -> dict[str, Any]:
        """Packaged settings of one part."""
        assert self.configs is not None, f"{self.name} has no packaged settings in its file"
        found: dict[str, Any] = json.loads(getattr(self.configs, part))
        return found


_INSIDE: dict[str, type] = {"layers": Layers, "names": LayerNames, "configs": Packaged}


def read_spec(path: Path) -> FamilySpec:
    """The row that the head of a family's file says.

    Raises:
        ValueError: it has no head, or a key is unknown, missing or of another type; names file and key.
    """
    given = read_heading(path)
    inside = [(given.get(key), kind) for key, kind in _INSIDE.items()]
    captions = given.get("captions")
    inside += [(part, CaptionPart) for part in (captions if isinstance(captions, list) else ())]
    for table, kind in [(given, FamilySpec), *inside]:
        known = {f.name for f in fields(kind)} - ({"name", "module"} if kind is FamilySpec else set())
        unknown = sorted(set(table) - known) if isinstance(table, dict) else []
        if unknown:
            raise ValueError(f"{path.name}: the key `{unknown[0]}` in its head is unknown")
    stem = path.stem
    try:
        if "layers" in given:
            given["layers"] = _targets(msgspec.convert(given["layers"], Layers))
        return msgspec.convert({**given, "name": stem, "module": f"loratui.families.{stem}"}, FamilySpec)
    except msgspec.ValidationError as error:
        raise ValueError(f"{path.name}: its head does not fit: {error}") from error


def _targets(layers: Layers) -> dict[str, tuple[str, ...]]:
    """The targets of transformers, each with the one before."""
    mlp = layers.attention + layers.mlp
    full = mlp + layers.more
    return {"attention": layers.attention, "attention+mlp": mlp, "full": full, "full+conv": full}


FAMILIES: tuple[FamilySpec, ...] = tuple(read_spec(Path(__file__).parent / f"{name}.py") for name in NAMES)


def family_spec(name: str) -> FamilySpec | None:
    """The row of `name`, or None."""
    return next((f for f in FAMILIES if f.name == name), None)


def row_of(name: str) -> FamilySpec:
    """The row of a family that there is."""
    return next(f for f in FAMILIES if f.name == name)
