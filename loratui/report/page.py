"""A run as one web page that needs nothing else: no script, no address, every picture inside.

Everything that comes from outside goes through `html.escape`; a content security policy in the page forbids
the browser to load anything from anywhere, so that a mistake here would still fetch nothing.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from html import escape
from pathlib import Path

from loratui.report.facts import RunFacts, shortened
from loratui.report.pictures import Progress, data_url, spread
from loratui.report.svg import loss_svg
from loratui.runs.plain import clean
from loratui.runs.sheet import long_title, title

SIDE_PX = 640
_MOST_PICTURES = 400
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
_STYLE = """
:root { color-scheme: light dark; --paper: #fbfbfa; --ink: #22252a; --pale: #70757d; --line: #d8dade;
  --accent: #2f6fde; --held: #c2571a; }
@media (prefers-color-scheme: dark) { :root { --paper: #16181b; --ink: #e4e6e9; --pale: #9298a1;
  --line: #34383e; --accent: #76a5ff; --held: #f0a35e; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1.5rem 4rem; max-width: 1280px; background: var(--paper);
  color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .2rem; overflow-wrap: anywhere; }
h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.pale, th, figcaption, svg text { color: var(--pale); }
table { border-collapse: collapse; } td, th { padding: .15rem .9rem .15rem 0; text-align: left;
  vertical-align: top; font-weight: normal; }
.sheet { overflow-x: auto; } .sheet td { padding: 0 .5rem .6rem 0; }
.sheet th { padding: .4rem .5rem .3rem 0; }
.sheet tr.prompt th { max-width: 60rem; white-space: normal; color: var(--ink); }
.sheet img { display: block; width: 160px; height: auto; border-radius: 4px; }
.sheet a { text-decoration: none; color: inherit; } .note { max-width: 160px; font-size: .8rem; }
.star { color: var(--held); }
.sheet a.shown:target { position: fixed; inset: 0; z-index: 2; display: flex; align-items: center;
  justify-content: center; background: rgb(0 0 0 / .85); }
.sheet a.shown:target img { width: auto; height: auto; max-width: 96vw; max-height: 96vh; min-width: 40vmin; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: var(--line); } .raw { fill: var(--accent); stroke: var(--accent); opacity: .2; }
.smooth, .held { fill: none; stroke: var(--accent); stroke-width: 2; } .held { stroke: var(--held); }
pre { overflow-x: auto; padding: .8rem 1rem; border: 1px solid var(--line); border-radius: 6px;
  font-size: .85rem; }
"""


def page(
    facts: RunFacts, side: int = SIDE_PX, now: float | None = None, progress: Progress | None = None
) -> str:
    """The page.

    Args:
        facts: of the run.
        side: px of a picture's longer side at most.
        now: unix time written at its end.
        progress: told (done, of) for pictures.
    """
    name = _e(facts.state.name or facts.run.name)
    stamp = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() if now is None else now))
    parts = [
        "<!DOCTYPE html>", '<html lang="en">', "<head>", '<meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer">',
        f"<title>{name}</title>", f"<style>{_STYLE}</style>", "</head>", "<body>",
        f"<h1>{name}</h1>", f'<p class="pale">{_e(facts.run.id)}</p>', _summary(facts),
        *_loss(facts), *_samples(facts, side, progress), *_dataset(facts), *_settings(facts),
        f'<p class="pale">Written by loratui on {_e(stamp)}.</p>', "</body>", "</html>", "",
    ]  # fmt: skip
    return "\n".join(parts)


def _e(value: object) -> str:
    """Anything as text in HTML: nothing a browser or a terminal would obey, quotes included."""
    return escape(clean(str(value), keep_newlines=True), quote=True)


def _rows(rows: Iterable[tuple[str, object]]) -> str:
    cells = [
        f"<tr><th>{_e(label)}</th><td>{_e(value)}</td></tr>"
        for label, value in rows
        if value not in {"", None}
    ]
    return "<table>\n" + "\n".join(cells) + "\n</table>"


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _summary(facts: RunFacts) -> str:
    state = facts.state
    loss = state.loss_smooth if state.loss_smooth is not None else state.loss
    took = max(0.0, state.updated_at - state.created_at)
    hours, rest = divmod(int(took), 3600)
    rows: list[tuple[str, object]] = [
        ("state", f"{state.state}{f': {state.reason}' if state.reason else ''}"),
        ("base", shortened(state.base)), ("family", state.family), ("preset", state.preset),
        ("steps", f"{state.step:,} of {state.steps:,}" if state.steps else ""),
        ("loss", _figure(loss)), ("best loss", _figure(state.best_loss)),
        ("validation loss", _figure(state.val_loss)),
        ("scores", ", ".join(f"{name} {value:.3f}" for name, value in state.scores.items())),
        ("took", f"{hours}:{rest // 60:02d}:{rest % 60:02d}" if state.created_at else ""),
        ("device", state.device),
        ("file", state.exported),
        ("checked", ", ".join(f"{name} {a}/{b} keys" for name, (a, b) in state.verified.items())),
    ]  # fmt: skip
    return _rows(rows)


def _loss(facts: RunFacts) -> list[str]:
    drawn = loss_svg(facts.curves)
    if not drawn:
        return []
    said = "Shaded: the loss of each step. Line: its mean."
    if len(facts.curves.validation):
        said += " Orange: on pictures held back."
    return ["<h2>Loss</h2>", drawn, f'<p class="pale">{said}</p>']


def _samples(facts: RunFacts, side: int, progress: Progress | None) -> list[str]:
    sheet = facts.sheet
    if not sheet.columns:
        return []
    most = max(2, _MOST_PICTURES // max(1, len(sheet.lines)))
    places = spread(len(sheet.columns), most)
    head = "".join(f"<th>{_e(title(sheet.columns[i]))}</th>" for i in places)
    out = ["<h2>Samples</h2>"]
    if len(places) < len(sheet.columns):
        out.append(f'<p class="pale">{len(places)} of {len(sheet.columns)} rounds, evenly spread.</p>')
    out += ['<div class="sheet">', '<table id="samples">', f"<tr>{head}</tr>"]
    done, total = 0, len(places) * len(sheet.lines)
    for row, (_, prompt, seed) in enumerate(sheet.lines):
        words = f'{row + 1}. {_e(prompt)} <span class="pale">seed {_e(seed)}</span>'
        out.append(f'<tr class="prompt"><th colspan="{len(places)}">{words}</th></tr>')
        cells = []
        for number in places:
            cells.append(_cell(facts, number, row, side))
            done += 1
            if progress is not None:
                progress(done, total)
        out.append(f"<tr>{''.join(cells)}</tr>")
    return [*out, "</table>", "</div>"]


def _cell(facts: RunFacts, column: int, row: int, side: int) -> str:
    sample = facts.sheet.at(column, row)
    if sample is None:
        return "<td></td>"
    url = data_url(facts.run.path / sample.path, side)
    if not url:
        return '<td class="pale">cannot be read</td>'
    name = f"p{column}-{row}"
    alt = _e(f"{long_title(facts.sheet.columns[column])}: {sample.prompt}")
    picture = f'<a class="shown" id="{name}" href="#samples"><img src="{url}" alt="{alt}"></a>'
    mark = facts.marks.get(sample.path)
    under = f'<a class="pale" href="#{name}">enlarge</a>'
    if mark is not None:
        star = '<span class="star">★</span> ' if mark.favourite else ""
        under = f'<div class="note">{star}{_e(mark.note)}</div>{under}'
    return f"<td>{picture}{under}</td>"


def _dataset(facts: RunFacts) -> list[str]:
    data = facts.dataset
    if not data.pictures:
        return []
    rows: list[tuple[str, object]] = [
        ("pictures", f"{data.pictures:,}"), ("captioned", f"{data.captioned:,}"),
        ("held back", data.held or ""), ("of the class", data.regularisation or ""),
        ("buckets", ", ".join(f"{name}: {count}" for name, count in data.buckets)),
        ("parts of captions", ", ".join(f"{name} ({count})" for name, count in data.tags)),
    ]  # fmt: skip
    captions = [f"<tr><th>{_e(Path(name).name)}</th><td>{_e(text)}</td></tr>" for name, text in data.captions]
    more = data.pictures - len(data.captions)
    out = [
        "<h2>Data</h2>",
        _rows(rows),
        "<details><summary>captions</summary>",
        "<table>",
        *captions,
        "</table>",
    ]
    if more > 0:
        out.append(f'<p class="pale">and {more:,} more</p>')
    return [*out, "</details>"]


def _settings(facts: RunFacts) -> list[str]:
    if not facts.settings:
        return []
    return ["<h2>Settings</h2>", f"<pre>{_e(facts.settings)}</pre>"]
