"""The findings of an audit gathered by their kind, in plain words: what to do, and the edit that mends it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratui.dataset.audit import Finding
from loratui.dataset.edit_parse import parse_operation
from loratui.dataset.edits import Operation
from loratui.errors import DatasetError, Severity

_TITLES: dict[str, str] = {
    "animated": "animations",
    "blurry": "blurred pictures",
    "caption-bom": "byte order marks",
    "caption-not-utf8": "captions not in UTF-8",
    "corrupt-image": "pictures that cannot be decoded",
    "dark": "dark pictures",
    "duplicate-tags": "tags said twice",
    "empty-caption": "empty captions",
    "fused-token": "words fused with the trigger",
    "identical-captions": "captions all the same",
    "light": "very light pictures",
    "long-caption": "unusually long captions",
    "low-information": "pictures that show little",
    "missing-caption": "no caption",
    "near-duplicate": "pictures that look the same",
    "odd-aspect": "very long or tall pictures",
    "short-caption": "unusually short captions",
    "similar-captions": "captions much alike",
    "similar-pictures": "pictures that look alike",
    "small-image": "small for their bucket",
    "tiny-face": "tiny faces",
    "too-many-tokens": "captions too long to be read",
    "trigger-missing": "trigger missing",
    "trigger-misspelt": "trigger misspelt",
    "trigger-position": "trigger at another place",
}
_ADVICE: dict[str, str] = {
    "animated": "Only the first frame is trained on. Throw those away whose first frame shows little.",
    "blurry": "Look at each: what is blurred is learned blurred. Throw away what is out of focus.",
    "dark": "Look at each; keep them when the style is dark.",
    "empty-caption": "Write a caption or let a captioner do it.",
    "fused-token": "The trigger will mean this, too. Right for what always belongs to it: then remove the "
    "word, and the trigger alone says it. Wrong for the rest: find pictures without it.",
    "identical-captions": "Say in each caption what is different in its picture.",
    "light": "Look at each; keep them when the style is light.",
    "long-caption": "Look whether they say what others leave out.",
    "low-information": "Look at each; throw away what is empty.",
    "missing-caption": "Write a caption or let a captioner do it.",
    "near-duplicate": "What is there twice is learned twice as strongly. Keep the proposed one, throw away "
    "the others, unless they differ in what matters.",
    "odd-aspect": "Much of them is cut off by their bucket. Crop them by hand.",
    "short-caption": "Look whether they leave out what others say.",
    "similar-captions": "Look whether the pictures differ in more than the captions say.",
    "similar-pictures": "Look at them side by side; a series of nearly the same picture counts too much.",
    "small-image": "They are enlarged and teach softness. Find larger ones or train at less resolution.",
    "tiny-face": "A face of so few px teaches no likeness. Crop closer (C, then f takes the face) or add "
    "pictures from nearer; some whole figures are right.",
    "too-many-tokens": "What comes after 75 tokens is not read by CLIP. Put what matters first, or shorten.",
    "trigger-misspelt": "Look whether it is meant. If so, rename it to the trigger.",
    "trigger-position": "Some trainers keep the first tags in place when they shuffle; put it first in all.",
}
_FIX_ADVICE: dict[str, str] = {
    "caption-bom": "The fix writes them again without the mark.",
    "caption-not-utf8": "The fix writes them again as UTF-8.",
    "duplicate-tags": "The fix keeps the first of each.",
    "trigger-missing": "The fix adds it in front of tags; prose is left to a person.",
    "trigger-position": "The fix moves it to the front of tags; prose is left to a person.",
}


@dataclass(frozen=True, slots=True)
class Trouble:
    """All findings of one code.

    Attributes:
        code: short name.
        severity: of the worst.
        findings: the worst first.
        paths: the pictures of all, each once, in the order of the findings.
        fix: the edit that mends them, as `loratui edit` takes it; empty when a person must decide.
    """

    code: str
    severity: Severity
    findings: tuple[Finding, ...]
    paths: tuple[str, ...]
    fix: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """What it is, in a few words."""
        return _TITLES.get(self.code, self.code.replace("-", " "))

    @property
    def advice(self) -> str:
        """What to do about it; says when no fix is safe."""
        if self.fix:
            return _FIX_ADVICE.get(self.code, "The fix shows what it would change first.")
        known = _ADVICE.get(self.code, "They are left out of a training. Replace them or throw them away.")
        return f"{known} No fix is safe: a person decides."

    def operation(self, trigger: str = "") -> Operation:
        """The edit that mends it.

        Raises:
            DatasetError: none is safe.
        """
        if not self.fix:
            raise DatasetError(f"There is no safe fix for {self.code}.", self.advice)
        name, *arguments = self.fix
        return parse_operation(name, arguments, trigger)


def by_code(findings: Sequence[Finding]) -> list[Trouble]:
    """Findings gathered by code, the worst first, then those of most pictures."""
    gathered: dict[str, list[Finding]] = {}
    for finding in findings:
        gathered.setdefault(finding.code, []).append(finding)
    order: dict[Severity, int] = {"error": 0, "warning": 1, "info": 2}
    out = []
    for code, found in gathered.items():
        worst = sorted(found, key=lambda f: (order[f.severity], -f.share))
        fixes = {f.fix for f in found}
        fix = worst[0].fix if len(fixes) == 1 else ()
        paths = tuple(dict.fromkeys(path for f in worst for path in f.paths))
        out.append(Trouble(code, worst[0].severity, tuple(worst), paths, fix))
    return sorted(out, key=lambda t: (order[t.severity], -len(t.paths), t.code))
