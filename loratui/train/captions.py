"""What a sample's caption becomes before it is encoded: wildcards, dropped and shuffled tags, token warm-up.

Every choice is a function of the seed, the step and the sample, so a resume says the same words. The order is
sd-scripts': wildcards, then the fixed part, the warm-up, the shuffle, the dropped tags.
"""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

from loratui.config.schema import DataConfig
from loratui.train.stateless import seed_of

_WILDCARD = re.compile(r"\{\{|\}\}|\{([^{}|]*(?:\|[^{}|]*)+)\}")


@dataclass(frozen=True, slots=True)
class Variation:
    """How captions vary; see the fields of `DataConfig`."""

    seed: int
    shuffle: bool = False
    keep_tokens: int = 0
    separator: str = ","
    keep_separator: str = ""
    secondary_separator: str = ""
    tag_dropout: float = 0.0
    wildcards: bool = False
    warmup_steps: int = 0
    warmup_min: int = 1

    @classmethod
    def from_config(cls, config: DataConfig, seed: int) -> Variation:
        """That of a run."""
        return cls(
            seed, config.shuffle_captions, config.keep_tokens, config.separator or ",",
            config.keep_tokens_separator, config.secondary_separator, config.tag_dropout, config.wildcards,
            config.token_warmup_steps, config.token_warmup_min,
        )  # fmt: skip

    @property
    def varies(self) -> bool:
        """Whether one caption may become several: then there is nothing to encode ahead."""
        return self.shuffle or self.tag_dropout > 0 or self.wildcards or self.warmup_steps > 0

    @property
    def changes(self) -> bool:
        """Whether captions are touched at all."""
        return self.varies or bool(self.keep_separator or self.secondary_separator)

    def at(self, caption: str, step: int, slot: int) -> str:
        """The caption of a sample at a step."""
        if not self.changes:
            return caption
        dice = random.Random(seed_of(self.seed, "caption", step, slot))
        if self.wildcards:
            caption = _WILDCARD.sub(lambda m: _chosen(m, dice), caption)
        fixed, flexible = self._parts(caption)
        if self.warmup_steps and step < self.warmup_steps:
            least = min(self.warmup_min, len(flexible))
            flexible = flexible[: least + (len(flexible) - least) * step // self.warmup_steps]
        if self.shuffle:
            dice.shuffle(flexible)
        if self.tag_dropout > 0:
            flexible = [tag for tag in flexible if dice.random() >= self.tag_dropout]
        text = f"{self.separator.strip()} ".join([*fixed, *flexible])
        return text.replace(self.secondary_separator, self.separator) if self.secondary_separator else text

    def _parts(self, caption: str) -> tuple[list[str], list[str]]:
        """(fixed, flexible) tags: before the keep separator, else the first `keep_tokens`."""
        if self.keep_separator and self.keep_separator in caption:
            head, _, tail = caption.partition(self.keep_separator)
            return self._tags(head), self._tags(tail)
        tags = self._tags(caption)
        return tags[: self.keep_tokens], tags[self.keep_tokens :]

    def _tags(self, text: str) -> list[str]:
        return [tag.strip() for tag in text.split(self.separator) if tag.strip()]


def _chosen(match: re.Match[str], dice: random.Random) -> str:
    if match[1] is None:
        return str(match[0][0])  # {{ and }} are the braces themselves
    return str(dice.choice(match[1].split("|")))
