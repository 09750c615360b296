"""sd-scripts' crops, colours and lines of captions, and what it does to hold the base."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratui.config.trainers.report import Ledger

SAID = {
    "data.crop", "data.face_near", "data.face_far", "data.caption_lines", "data.colour_jitter",
    "memory.base_weights", "memory.compile",
}  # fmt: skip
KEYS = (
    "color_aug", "random_crop", "face_crop_aug_range", "fp8_base", "fp8_base_unet", "torch_compile",
    "blocks_to_swap",
)  # fmt: skip
COLOURS = 0.1
"""`color_aug` there: the hue by 8 of 180 steps, or the gamma by 5 %, of a third of the samples."""


def read(ledger: Ledger) -> None:
    """Enter the keys of pictures and captions."""
    if ledger.truth("color_aug"):
        ledger.take("color_aug", "data.colour_jitter", COLOURS, "about as strong")
    face = _range(ledger.get("face_crop_aug_range"))
    if "face_crop_aug_range" in ledger and face is None:
        ledger.wrong("face_crop_aug_range", "wants two numbers, such as 2.0,4.0")
    elif face is not None:
        ledger.take("face_crop_aug_range", "data.crop", "face")
        ledger.also("data.face_near", face[0])
        ledger.also("data.face_far", face[1])
        if ledger.truth("random_crop"):
            ledger.ignore("random_crop", "crops go by the face")
    elif ledger.truth("random_crop"):
        ledger.take("random_crop", "data.crop", "random")
    # A random line of a caption goes with wildcards there, else the first one is read.
    if ledger.truth("enable_wildcard"):
        ledger.also("data.caption_lines", "random")
    elif "enable_wildcard" in ledger:
        ledger.also("data.caption_lines", "first")
    else:
        ledger.default("enable_wildcard", "data.caption_lines", "first")


def read_memory(ledger: Ledger) -> None:
    """Enter the keys of the base's weights."""
    for key in ("fp8_base", "fp8_base_unet"):
        if ledger.truth(key):
            ledger.take(key, "memory.base_weights", "fp8")
    if ledger.truth("torch_compile"):
        ledger.take("torch_compile", "memory.compile", True)
    if ledger.number("blocks_to_swap") > 0:
        why = "blocks of other models are counted otherwise there"
        ledger.take("blocks_to_swap", "memory.blocks_to_swap", ledger.number("blocks_to_swap"), why)


def write(values: Mapping[str, Any], arguments: dict[str, Any], general: dict[str, Any]) -> list[str]:
    """Put the settings into arguments and dataset keys; returns what they cannot say."""
    unsaid = []
    if values["data.crop"] == "random":
        general["random_crop"] = True
    elif values["data.crop"] == "face":
        near = values["data.face_near"]
        if near:
            general["face_crop_aug_range"] = f"{near:g},{max(near, values['data.face_far']):g}"
        else:
            unsaid.append("data.crop = face: sd-scripts crops about a face only with a range")
    if values["data.colour_jitter"]:
        general["color_aug"] = True
        if values["data.colour_jitter"] != COLOURS:
            unsaid.append(f"data.colour_jitter = {values['data.colour_jitter']:g}: there it has one strength")
    if values["data.caption_lines"] == "random":
        general["enable_wildcard"] = True
        if not values["data.wildcards"]:
            unsaid.append("data.wildcards = false: there they are read where a line is drawn")
    if values["memory.base_weights"] == "fp8":
        arguments["fp8_base"] = True
    elif values["memory.base_weights"] != "full":
        unsaid.append(f"memory.base_weights = {values['memory.base_weights']}: sd-scripts has fp8 only")
    if values["memory.compile"]:
        arguments["torch_compile"] = True
    # it caches one version of a picture, or none
    arguments["cache_latents"] = not general.keys() & {"random_crop", "face_crop_aug_range", "color_aug"}
    return unsaid


def _range(value: Any) -> tuple[float, float] | None:
    """`"2.0,4.0"` or `[2.0, 4.0]`."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or len(parts) != 2:
        return None
    try:
        low, high = sorted(float(part) for part in parts)
    except (TypeError, ValueError):
        return None
    return (low, high) if 0 < low <= high <= 100 else None
