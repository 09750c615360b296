"""Which settings stand under which heading of the form; every setting stands somewhere."""

from __future__ import annotations

from loratui.config.docs import FieldInfo, field_table
from loratui.ui.widgets.form_rows import Group

_BASIC = (
    "optimizer.steps", "optimizer.epochs", "data.repeats", "data.batch_size", "data.resolution",
    "optimizer.lr", "network.kind", "network.rank", "network.alpha", "network.text_encoder",
    "saving.name", "samples.every", "saving.every", "model.base", "model.family", "model.vae",
    "model.text", "model.clip_skip", "model.adapter",
)  # fmt: skip
_SECTIONS = ("data", "network", "optimizer", "objective", "memory", "samples", "saving")


def form_lines() -> list[FieldInfo | Group]:
    """All settings under their headings: what most people change first, then by section."""
    table = field_table()
    lines: list[FieldInfo | Group] = [Group("Basic"), *(table[path] for path in _BASIC)]
    for section in _SECTIONS:
        rest = [i for p, i in table.items() if i.section == section and p not in _BASIC]
        lines += [Group(section.capitalize()), *rest]
    return lines
