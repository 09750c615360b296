"""Rules about settings against the pictures and captions that are there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING

from loratui.config.finding import info, warning
from loratui.config.schema import RunConfig
from loratui.dataset.scan import Scan
from loratui.errors import Problem
from loratui.plan.captions import BYTES_A_TOKEN
from loratui.plan.steps import BucketPlan

if TYPE_CHECKING:
    from loratui.project.project import Project

_FEW_IMAGES = 12
_HIGH_RANK, _FEW_FOR_HIGH_RANK = 64, 20
"""Ranks seen in the wild reach 64 and 128 for styles with many pictures; characters take 16 to 32."""
_MANY_VIEWS = 1000
_SIDED = re.compile(
    r"\b(left|right|asymmetric\w*|eyepatch|side[- ]?ponytail|text|logo|letters?)\b", re.IGNORECASE
)
"""Words that a mirrored picture makes untrue."""
_PARTS = ("left", "right", "asymmetric", "eyepatch", "ponytail", "text", "logo", "letter")
"""One of them stands in each: looking for these first takes a fifth of the time."""


def check_pictures(
    project: Project, config: RunConfig, scan: Scan, buckets: Sequence[BucketPlan], steps: int
) -> list[Problem]:
    """What speaks against training these pictures with these settings."""
    return [
        *_count(scan, config, steps), *_sizes(scan, buckets, config), *_captions(project, scan),
        *_sides(scan, config), *_shuffled(project, scan, config), *_masks(scan, config),
        *_crowded(project, scan, config),
    ]  # fmt: skip


def check_class(config: RunConfig, scan: Scan, used: int, drawn: int) -> list[Problem]:
    """What is drawn before the training, and what is asked for in vain.

    Args:
        config: settings.
        scan: the project's own pictures.
        used: pictures of the class that are trained on.
        drawn: of these, those that are not there yet.
    """
    asked = config.data.reg_generate
    found: list[Problem] = []
    if drawn:
        message = f"the base draws {drawn} pictures of the class before the first step."
        found.append(info("data.reg_generate", "class-drawn", message, "They serve the next runs, too."))
    if scan.pictures and asked > used:
        message = f"{asked} pictures of the class are asked for; {used} are enough, one for each of yours."
        found.append(info("data.reg_generate", "class-surplus", message, "", {"data.reg_generate": used}))
    return found


def _count(scan: Scan, config: RunConfig, steps: int) -> list[Problem]:
    found: list[Problem] = []
    count, rank = len(scan.pictures), config.network.rank
    if 0 < count < _FEW_IMAGES:
        message = f"{count} pictures are few: 15 to 30 are usual for a character, 20 to 50 for a style."
        found.append(warning("data", "few-images", message))
    ranked = config.network.kind in {"lora", "dora"} and not config.network.tokens_only
    if 0 < count < _FEW_FOR_HIGH_RANK and rank >= _HIGH_RANK and ranked:
        message = f"rank {rank} has room to learn {count} pictures by heart."
        fix = {"network.rank": 16, "network.alpha": config.network.alpha * 16 / rank}
        advice = "8 to 32 are usual for so few."
        found.append(warning("network.rank", "rank-high", message, advice, fix))
    views = steps * config.data.batch_size * config.optimizer.accumulation / count if count else 0
    if views > _MANY_VIEWS:
        message = f"each picture is seen {views:,.0f} times; 50 to 300 are usual."
        found.append(warning("optimizer.steps", "many-views", message, "Train fewer steps."))
    return found


def _sizes(scan: Scan, buckets: Sequence[BucketPlan], config: RunConfig) -> list[Problem]:
    found: list[Problem] = []
    count = len(scan.pictures)
    small = sum(1 for p in scan.problems if p.code == "small-image")
    if small:
        message = f"{small} of {count} pictures are enlarged at least twice to fill their bucket."
        found.append(warning("data.resolution", "small-images", message, "Use a lower resolution."))
    batch = config.data.batch_size
    short = sum(1 for b in buckets if b.repeated < batch)
    if batch > 1 and short and len(buckets) > 1:
        message = f"{short} of {len(buckets)} buckets hold fewer pictures than a batch of {batch}."
        found.append(info("data.batch_size", "thin-buckets", message))
    return found


def _captions(project: Project, scan: Scan) -> list[Problem]:
    found: list[Problem] = []
    count = len(scan.pictures)
    bare = sum(1 for p in scan.pictures if not p.caption)
    if bare:
        message = f"{bare} of {count} pictures have no caption."
        advice = (
            "They are trained with the trigger alone."
            if project.trigger
            else "Write captions, or set a trigger."
        )
        found.append(warning("captions", "missing-captions", message, advice))
    trigger = project.trigger.strip().casefold()
    without = (
        sum(1 for p in scan.pictures if p.caption and trigger not in p.caption.casefold()) if trigger else 0
    )
    if without:
        message = f"{without} of {count} captions lack the trigger {project.trigger!r}."
        found.append(warning("captions", "trigger-missing", message))
    return found


def _sides(scan: Scan, config: RunConfig) -> list[Problem]:
    """Mirroring, and captions that say which side."""
    if not config.data.flip:
        return []
    words: dict[str, int] = {}
    for picture in scan.pictures:
        if word := _sided(picture.caption):
            words[word] = words.get(word, 0) + 1
    if not words:
        return []
    named = ", ".join(sorted(words, key=lambda w: -words[w])[:3])
    count = sum(words.values())
    message = f"{count} captions speak of what mirroring makes untrue: {named}."
    return [warning("data.flip", "flip-sides", message, "Leave flip off.", {"data.flip": False})]


@lru_cache(maxsize=50_000)
def _sided(caption: str) -> str:
    """The first word of a caption that mirroring makes untrue; kept, as each change asks again."""
    folded = caption.casefold()
    for part in _PARTS:
        if part in folded:
            match = _SIDED.search(caption)
            return match[0].casefold() if match else ""
    return ""


def _shuffled(project: Project, scan: Scan, config: RunConfig) -> list[Problem]:
    """A trigger in front that shuffling would move or drop."""
    data, trigger = config.data, project.trigger.strip().casefold()
    kept = data.keep_tokens or data.keep_tokens_separator
    if not trigger or kept or not (data.shuffle_captions or data.tag_dropout):
        return []
    first = sum(1 for p in scan.pictures if p.caption.casefold().startswith(trigger))
    if not first:
        return []
    message = f"{first} captions begin with the trigger, and nothing keeps it there."
    advice, fix = "Set data.keep_tokens to 1.", {"data.keep_tokens": 1}
    return [warning("data.keep_tokens", "trigger-shuffled", message, advice, fix)]


def _crowded(project: Project, scan: Scan, config: RunConfig) -> list[Problem]:
    """New tokens that push the end of captions out; lengths by their bytes, as no tokenizer is asked."""
    tokens, read = config.network.tokens, int(config.data.max_tokens)
    trigger = project.trigger.strip()
    if not tokens or not trigger:
        return []
    added = tokens - len(trigger.encode("utf-8", "replace")) / BYTES_A_TOKEN
    lengths = [len(p.caption.encode("utf-8", "replace")) / BYTES_A_TOKEN + added for p in scan.pictures]
    longer = sum(length > read for length in lengths)
    if not longer:
        return []
    some = f"about {longer} of {len(lengths)} captions"
    message = f"with {tokens} new tokens, {some} exceed the {read} tokens that are read."
    wide = next((size for size in (150, 225) if size > read and max(lengths) <= size), 0)
    if wide:
        fix = {"data.max_tokens": str(wide)}
        return [warning("network.tokens", "captions-cut", message, f"Set data.max_tokens to {wide}.", fix)]
    return [warning("network.tokens", "captions-cut", message, "Take fewer tokens, or shorten captions.")]


def _masks(scan: Scan, config: RunConfig) -> list[Problem]:
    """Masks that no loss weighs, and a masked loss without masks."""
    masks, count = sum(1 for p in scan.pictures if p.mask is not None), len(scan.pictures)
    if config.objective.masked and not masks and count:
        message, fix = "no picture has a mask.", {"objective.masked": False}
        return [warning("objective.masked", "no-masks", message, "Turn it off, or add masks.", fix)]
    if masks and not config.objective.masked:
        message = f"{masks} of {count} pictures have a mask, and the loss does not weigh it."
        fix = {"objective.masked": True}
        return [info("objective.masked", "masks-unused", message, "Set it to true to use them.", fix)]
    return []
