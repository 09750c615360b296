"""From what captioners say to one caption: template, trigger, blacklist, length, what was there before."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from loratui.caption.cleaning import clean_prose, clean_tag
from loratui.caption.settings import CaptionSettings, Mode
from loratui.captioners.protocol import Said, Tag
from loratui.dataset.tags import fold, matches, split
from loratui.errors import Problem

_FIELD = re.compile(r"\{([^{}]*)\}")
_PART = re.compile(r"(?P<name>[A-Za-z0-9-]+)(?:\.(?P<facet>[\w-]+))?(?::(?P<most>\d{1,4}))?")
_OWN = ("trigger", "class")
_EMPTY = re.compile(r"\s*,(?:\s*,)+")
_KEPT = 2.0
"""Confidence of what is never dropped to make a caption shorter."""
_PROSE = 1.5


@dataclass(frozen=True, slots=True)
class Composed:
    """A caption as it is to be written.

    Attributes:
        text: with all lines; empty when nothing was said.
        reason: why the picture's caption stays as it is, else empty.
        dropped: tags left out so that it fits.
    """

    text: str
    reason: str = ""
    dropped: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Part:
    """A run of text with how sure it is; several of one field are joined by commas."""

    text: str
    sure: float
    field: int


def check_template(settings: CaptionSettings, names: Iterable[str]) -> list[Problem]:
    """What is wrong with the template of a run with these captioners."""
    found: list[Problem] = []
    known = [*names]
    template = settings.template
    for inside in _FIELD.findall(template):
        match = _PART.fullmatch(inside)
        name = match["name"] if match else inside
        if match is None or (name not in known and name not in _OWN):
            there = ", ".join("{" + n + "}" for n in (*_OWN, *known))
            message = f"{{{inside}}} is no part of this run."
            found.append(Problem("template", "bad-template", "error", message, advice=f"There are: {there}."))
    if re.search(r"[{}]", _FIELD.sub("", template)):
        found.append(Problem("template", "bad-template", "error", "a brace has no partner."))
    if template and not any(m and m["name"] in known for m in map(_PART.fullmatch, _FIELD.findall(template))):
        found.append(Problem("template", "bad-template", "error", "it names no captioner of this run."))
    return found


def compose(
    said: Mapping[str, Said],
    settings: CaptionSettings,
    trigger: str = "",
    before: str = "",
    count: Callable[[str], int] | None = None,
) -> Composed:
    """The caption of one picture.

    Args:
        said: captioner -> its answer, in the order of the run.
        settings: of the run.
        trigger: of the project.
        before: the caption that is there, lines parted by `\\n`.
        count: counts CLIP tokens.
    """
    before = before.strip()
    if settings.mode == "missing" and before:
        return Composed(before, "has a caption already")
    cleaned = {name: _cleaned(answer, settings) for name, answer in said.items()}
    if not any(answer.text or answer.tags for answer in cleaned.values()):
        return Composed(before, "the model said nothing")
    cleaned = _strongest(cleaned, settings.max_tags)
    old = before.split("\n") if before and settings.mode in {"append", "prepend"} else []
    templates = _templates(settings, list(said))
    adds_lines = len(templates) > 1 or settings.lines
    bases = [""] if adds_lines or not old else old
    lines: list[str] = []
    dropped: list[str] = []
    for template in templates:
        for base in bases:
            line, gone = _line(template, cleaned, settings, trigger, base, count)
            dropped += gone
            if line and line not in lines:
                lines.append(line)
    if adds_lines and old:
        fresh = [line for line in lines if line not in old]
        lines = [*old, *fresh] if settings.mode == "append" else [*fresh, *old]
    text = "\n".join(lines)
    return Composed(text, "already so" if text == before else "", tuple(dict.fromkeys(dropped)))


def _templates(settings: CaptionSettings, names: list[str]) -> list[str]:
    if settings.template:
        return [t for t in settings.template.replace("\\n", "\n").split("\n") if t.strip()]
    fields = ["{" + name + "}" for name in names]
    return fields if settings.lines else [", ".join(fields)]


def _cleaned(answer: Said, settings: CaptionSettings) -> Said:
    """The answer without what must not be written."""
    text = clean_prose(answer.text)
    for pattern in settings.blacklist:
        inner = re.escape(pattern).replace(r"\*", r"\w*").replace(r"\?", r"\w")
        if text and inner:
            text = re.sub(rf"(?<!\w){inner}(?!\w)", "", text, flags=re.IGNORECASE)
    text = _tidy(text)
    tags: list[Tag] = []
    seen: set[str] = set()
    for tag in answer.tags:
        name = clean_tag(tag.text)
        key = fold(name)
        if not name or key in seen or any(matches(pattern, name) for pattern in settings.blacklist):
            continue
        seen.add(key)
        tags.append(replace(tag, text=name))
    return Said(text, tuple(tags))


def _strongest(said: dict[str, Said], most: int) -> dict[str, Said]:
    """Of all tags only the surest `most`, in their order."""
    if not most:
        return said
    ranked = sorted((t.confidence for s in said.values() for t in s.tags), reverse=True)
    if len(ranked) <= most:
        return said
    room = most
    line = ranked[most - 1]
    above = sum(c > line for c in ranked)
    at_line = room - above
    out: dict[str, Said] = {}
    for name, answer in said.items():
        kept: list[Tag] = []
        for tag in answer.tags:
            if tag.confidence > line:
                kept.append(tag)
            elif tag.confidence == line and at_line > 0:
                at_line -= 1
                kept.append(tag)
        out[name] = replace(answer, tags=tuple(kept))
    return out


def _line(
    template: str,
    said: Mapping[str, Said],
    settings: CaptionSettings,
    trigger: str,
    base: str,
    count: Callable[[str], int] | None,
) -> tuple[str, list[str]]:
    """One line of a caption that fits, and the tags that had to go."""
    named = {fold(t) for t in split(base)}
    parts = _parts(template, said, settings, trigger, named)
    dropped: list[str] = []
    text = _joined(parts, settings, trigger, base)
    while count is not None and settings.max_tokens and count(text) > settings.max_tokens:
        weakest = min(range(len(parts)), key=lambda i: (parts[i].sure, -i), default=-1)
        if weakest < 0 or parts[weakest].sure >= _KEPT:
            break
        part = parts[weakest]
        words = part.text.split()
        if part.sure >= _PROSE and len(words) > 1:
            parts[weakest] = replace(part, text=" ".join(words[:-1]).rstrip(",;:"))
        else:
            dropped.append(part.text)
            del parts[weakest]
        text = _joined(parts, settings, trigger, base)
    return text, dropped


def _parts(
    template: str, said: Mapping[str, Said], settings: CaptionSettings, trigger: str, named: set[str]
) -> list[_Part]:
    """The template as parts; a tag that stands in the caption already, or in another field, comes once."""
    parts: list[_Part] = []
    at = 0
    for number, match in enumerate(_FIELD.finditer(template)):
        literal = template[at : match.start()]
        if literal:
            parts.append(_Part(literal, _KEPT, -1))
        at = match.end()
        part = _PART.fullmatch(match[1])
        if part is None:
            continue
        if part["name"] in _OWN:
            parts.append(_Part(trigger if part["name"] == "trigger" else settings.class_word, _KEPT, number))
            continue
        answer = said.get(part["name"])
        if answer is None:
            continue
        most = int(part["most"] or 0)
        if answer.text and not part["facet"]:
            words = answer.text.split()
            text = " ".join(words[:most]) if most else answer.text
            parts.append(_Part(text, _PROSE, number))
        tags = [t for t in answer.tags if not part["facet"] or t.facet == part["facet"]]
        for tag in _top(tags, most):
            key = fold(tag.text)
            if key not in named:
                named.add(key)
                parts.append(_Part(tag.text, min(1.0, tag.confidence), number))
    if template[at:]:
        parts.append(_Part(template[at:], _KEPT, -1))
    return parts


def _top(tags: list[Tag], most: int) -> list[Tag]:
    if not most or len(tags) <= most:
        return tags
    kept = sorted(range(len(tags)), key=lambda i: (-tags[i].confidence, i))[:most]
    return [tags[i] for i in sorted(kept)]


def _joined(parts: list[_Part], settings: CaptionSettings, trigger: str, base: str) -> str:
    out: list[str] = []
    last = -1
    for part in parts:
        if part.field >= 0 and part.field == last:
            out.append(", ")
        out.append(part.text)
        last = part.field
    text = _tidy("".join(out))
    text = _with_base(text, base, settings.mode)
    text = _with_trigger(text, settings, trigger)
    for extra, front in ((settings.prefix, True), (settings.suffix, False)):
        extra = clean_prose(extra)
        if extra and not (text.startswith(extra) if front else text.endswith(extra)):
            text = _glued(extra, text) if front else _glued(text, extra)
    return text


def _with_base(text: str, base: str, mode: Mode) -> str:
    if not base:
        return text
    if not text:
        return base
    return _glued(base, text) if mode == "append" else _glued(text, base)


def _glued(first: str, second: str) -> str:
    if not first or not second:
        return first or second
    if first.endswith((",", ";", ":")):
        return f"{first} {second}"
    if first.endswith((".", "!", "?")):
        return f"{first} {second}"
    return f"{first}, {second}"


def _with_trigger(text: str, settings: CaptionSettings, trigger: str) -> str:
    trigger = clean_prose(trigger)
    if not trigger or not settings.insert_trigger or _mentions(text, trigger):
        return text
    word = clean_prose(settings.class_word)
    if word and not fold(trigger).endswith(fold(word)):
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, flags=re.IGNORECASE)
        if found:
            return f"{text[: found.start()]}{trigger} {text[found.start() :]}"
        trigger = f"{trigger} {word}"
    elif word:
        found = re.search(rf"(?<!\w){re.escape(word)}(?!\w)", text, flags=re.IGNORECASE)
        if found:
            return f"{text[: found.start()]}{trigger}{text[found.end() :]}"
    return _glued(trigger, text)


def _mentions(text: str, trigger: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(fold(trigger))}(?!\w)", fold(text)) is not None


def _tidy(text: str) -> str:
    """Without empty places between commas, doubled spaces and commas at the ends."""
    text = re.sub(r"[ \t]+", " ", text)
    text = re.sub(r"\s+([,.;:!?])", r"\1", text)
    text = _EMPTY.sub(",", text)
    return text.strip(" ,;")
