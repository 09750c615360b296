"""The settings of a caption run that belong to no single captioner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Mode = Literal["missing", "replace", "append", "prepend"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionSettings:
    """How what models say becomes captions."""

    mode: Mode = "missing"
    """missing: only pictures without a caption; replace: all; append, prepend: add to what is there.
    Captions edited by hand are left alone always."""
    template: str = ""
    r"""Where each part goes, such as `{trigger}, {blip}, {wd:12}`: captioners by name, a number for the most
    tags (words of prose), `{clip.style}` for one facet, `{class}`; `\n` begins another caption.
    Empty joins all."""
    prefix: str = ""
    """Text that every caption begins with."""
    suffix: str = ""
    """Text that every caption ends with."""
    insert_trigger: bool = True
    """Put the project's trigger in, unless the caption or the template has it."""
    class_word: str = ""
    """What the trigger is one of, such as `dog`: its first mention in prose becomes `TRIGGER dog`."""
    blacklist: tuple[str, ...] = ()
    """Tags never written, with wildcards; words of prose that are cut out."""
    max_tags: int = 0
    """Most tags of all captioners together, the surest are kept; 0 for no limit."""
    max_tokens: int = 75
    """Longest caption in CLIP tokens: the least certain tags go first, then the end of prose; 0 for no
    limit."""
    lines: bool = False
    """Each captioner's caption on a line of its own, for trainers that draw one of several."""
    workers: int = 0
    """Threads that decode pictures ahead of the model; 0 chooses."""


RANGES: dict[str, tuple[float | None, float | None]] = {
    "max_tags": (0, 10000),
    "max_tokens": (0, 4096),
    "workers": (0, 64),
}
"""Smallest and largest value of a setting, both allowed."""
