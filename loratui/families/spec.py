"""What menus and the plan need to know of a family, without importing it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A light row of the family table.

    Attributes:
        name: the name used in configs and on the command line (`sd15`).
        title: for people.
        module: dotted module that implements it (torch inside); loaded only in a job.
        resolution: the resolution the base was trained at, in px.
        latent_factor: picture px per latent px, the divisor of every bucket side.
        blocks: how many modules `Family.blocks` finds in a base of true size.
        notes: one line on what to mind.
    """

    name: str
    title: str
    module: str
    resolution: int
    latent_factor: int
    blocks: int
    notes: str = ""


FAMILIES: tuple[FamilySpec, ...] = (
    FamilySpec("sd15", "Stable Diffusion 1.x", "loratui.families.sd15", 512, 8, 38, "epsilon, CLIP ViT-L/14"),
    FamilySpec(
        "sd2",
        "Stable Diffusion 2.x",
        "loratui.families.sd2",
        768,
        8,
        38,
        "v-prediction at 768 px, OpenCLIP ViT-H/14",
    ),
    FamilySpec(
        "sdxl",
        "Stable Diffusion XL",
        "loratui.families.sdxl",
        1024,
        8,
        87,
        "epsilon or v-prediction, two text encoders, told of sizes and crops; the refiner is refused",
    ),
)


def family_spec(name: str) -> FamilySpec | None:
    """The row of `name`, or None."""
    return next((f for f in FAMILIES if f.name == name), None)
