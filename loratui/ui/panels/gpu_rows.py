"""GPUs as rows of text: a block each while there is room, else a line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.style import Style

from loratui.runs.gpus import HARMFUL, Gpu
from loratui.ui import figures, text
from loratui.ui.drawing import Row, meter, spark, whole
from loratui.ui.theme import Palette

LABEL = 9


def gpu_name(gpu: Gpu) -> str:
    """`GPU 0`, `GPU 0.1` for a slice."""
    return f"GPU {gpu.index}{f'.{gpu.slice}' if gpu.slice else ''}"


def gpu_rows(
    gpus: Sequence[Gpu],
    histories: Sequence[Sequence[float]],
    torch_memory: Mapping[str, object],
    width: int,
    height: int,
    colours: Palette,
) -> list[Row]:
    """The GPUs in at most `height` rows.

    Args:
        gpus: all of them.
        histories: how busy each was, 0 to 1, newest last.
        torch_memory: the newest `memory` event of the job: allocated_gib, reserved_gib, peak_gib.
        width: cells of a row.
        height: rows there are.
        colours: of the theme.
    """
    blocks: list[list[Row]] = []
    for at, gpu in enumerate(gpus):
        history = histories[at] if at < len(histories) else ()
        blocks.append(_block(gpu, history, torch_memory, width, colours, named=len(gpus) > 1))
    if sum(map(len, blocks)) <= height:
        return [row for block in blocks for row in block]
    lines = [gpu_line(gpu, width, colours) for gpu in gpus]
    if len(lines) > height:
        more = len(lines) - height + 1
        lines = [*lines[: height - 1], [(f"and {figures.plural(more, 'more GPU')}", colours.muted)]]
    return lines


def gpu_line(gpu: Gpu, width: int, colours: Palette) -> Row:
    """One GPU in one row."""
    lead: Row = [(gpu_name(gpu).ljust(LABEL), colours.muted)]
    if gpu.lost:
        return [*lead, (text.crop(f"lost: {text.plain(gpu.lost)}", width - LABEL), colours.red)]
    share, tint = _memory(gpu, colours)
    groups: list[Row] = [
        [
            *meter(share, max(4, min(24, width - LABEL - 60)), tint, colours.track),
            (f" {figures.gib(gpu.used_gib).rjust(5)}/{gpu.total_gib:.0f} G", colours.text),
        ]
    ]
    groups += _figures(gpu, colours)
    return [*lead, *whole(groups, width - LABEL, 2)]


def _block(
    gpu: Gpu,
    history: Sequence[float],
    torch_memory: Mapping[str, object],
    width: int,
    colours: Palette,
    named: bool,
) -> list[Row]:
    rows: list[Row] = []
    if named or gpu.slice:
        name = text.shorten(text.plain(gpu.name), max(8, width - LABEL))
        rows.append([(gpu_name(gpu).ljust(LABEL), colours.text), (name, colours.muted)])
    if gpu.lost:
        rows.append(
            [
                ("lost".ljust(LABEL), colours.red),
                (text.crop(text.plain(gpu.lost), width - LABEL), colours.red),
            ]
        )
        return rows
    share, tint = _memory(gpu, colours)
    words = f" {figures.gib(gpu.used_gib).rjust(5)} / {gpu.total_gib:.1f} G {figures.percent(share).rjust(5)}"
    bar = meter(share, max(4, width - LABEL - len(words)), tint, colours.track)
    rows.append([("memory".ljust(LABEL), colours.muted), *bar, (words, colours.text)])
    rows += _shares(gpu, torch_memory, width, colours)
    graph = spark(history, max(8, min(40, width - 50))) if history and gpu.busy is not None else ""
    groups = _figures(gpu, colours)
    if graph:
        groups[:1] = [[(graph, colours.accent), *groups[0]]]
    if groups:
        rows.append([("busy".ljust(LABEL), colours.muted), *whole(groups, width - LABEL)])
    if gpu.throttled:
        bad = any(word in HARMFUL for word in gpu.throttled)
        row: Row = [("limited".ljust(LABEL), colours.muted)]
        rows.append([*row, (f"by {', '.join(gpu.throttled)}", colours.amber if bad else colours.text)])
    return rows


def _shares(gpu: Gpu, torch_memory: Mapping[str, object], width: int, colours: Palette) -> list[Row]:
    """Whose the memory is, and what torch says of ours."""
    groups: list[Row] = []
    if gpu.ours_gib is not None:
        groups.append([("ours ", colours.muted), (figures.gib(gpu.ours_gib), colours.text)])
    others = gpu.others_gib
    if others is not None:
        tint = colours.amber if others > 0.5 and gpu.others else colours.text
        groups.append([("others ", colours.muted), (figures.gib(others), tint)])
    for key, name in (("peak_gib", "peak"), ("allocated_gib", "allocated"), ("reserved_gib", "reserved")):
        value = torch_memory.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool):
            groups.append([(f"{name} ", colours.muted), (figures.gib(float(value)), colours.text)])
    rows: list[Row] = []
    if groups:
        rows.append([(" " * LABEL, None), *whole(groups, width - LABEL, 2)])
    told: list[Row] = [
        [
            (text.crop(text.plain(t.name) or f"pid {t.pid}", 18), colours.amber),
            (f" {figures.gib(t.used_gib)}" if t.used_gib is not None else "", colours.text),
        ]
        for t in gpu.others[:4]
    ]
    if told:
        rows.append([("others".ljust(LABEL), colours.muted), *whole(told, width - LABEL, 2)])
    return rows


def _figures(gpu: Gpu, colours: Palette) -> list[Row]:
    """Busy, heat, power, clocks: what the driver tells of them."""
    groups: list[Row] = []
    if gpu.busy is not None:
        groups.append([(figures.percent(gpu.busy).rjust(6), colours.text)])
    if gpu.temperature_c is not None:
        hot = gpu.temperature_c >= 88 or any("thermal" in word for word in gpu.throttled)
        groups.append([(f"{gpu.temperature_c:.0f} °C", colours.red if hot else colours.text)])
    if gpu.power_w is not None:
        limit = f" / {gpu.power_limit_w:.0f}" if gpu.power_limit_w else ""
        groups.append([(f"{gpu.power_w:.0f}{limit} W", colours.text)])
    if gpu.clock_mhz is not None:
        groups.append([(f"{gpu.clock_mhz / 1000:.1f} GHz", colours.text)])
    if gpu.memory_mhz is not None:
        groups.append([(f"mem {gpu.memory_mhz / 1000:.1f} GHz", colours.muted)])
    return groups


def _memory(gpu: Gpu, colours: Palette) -> tuple[float, Style]:
    share = gpu.used_gib / gpu.total_gib if gpu.total_gib else 0.0
    return share, colours.red if share > 0.97 else colours.amber if share > 0.9 else colours.green
