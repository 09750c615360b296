"""Lists of labels by facet: those shipped here and the user's own, one label a line. Torch-free."""

from __future__ import annotations

from pathlib import Path

from loratui.caption.cleaning import clean_tag
from loratui.errors import ConfigError
from loratui.paths import config_dir

SHIPPED = Path(__file__).parent / "labels"
FACETS = ("medium", "subject", "setting", "lighting", "colour", "composition", "style", "quality", "mood")
LONGEST = 120
"""Characters of one label; longer lines are no labels."""


def labels_dir() -> Path:
    """Where users put lists of their own: `NAME.txt` is the facet NAME, in place of a shipped one."""
    return config_dir() / "labels"


def read_labels(facets: tuple[str, ...] = (), own: Path | None = None) -> dict[str, tuple[str, ...]]:
    """Facet -> its labels, in the order asked for; all of them, the user's last, when none are named.

    Args:
        facets: which ones; empty for all.
        own: a model's own folder of lists, `order.txt` naming them in order: they come in place of those
            shipped, for a model that knows no others. Without that file the folder does not count.

    Raises:
        ConfigError: a facet that is not there, or a list that cannot be read.
    """
    files = {name: SHIPPED / f"{name}.txt" for name in FACETS}
    try:
        if own is not None and (own / "order.txt").is_file():
            files = {name: own / f"{name}.txt" for name in read_list(own / "order.txt")}
        else:
            files |= {p.stem: p for p in sorted(labels_dir().glob("*.txt"))}
    except OSError as error:
        raise ConfigError(f"{labels_dir()} cannot be read: {error.strerror}.", "Check its mode.") from error
    unknown = [name for name in facets if name not in files]
    if unknown:
        raise ConfigError(
            f"There is no facet {unknown[0]!r}.",
            f"There are: {', '.join(files)}. A list {labels_dir() / (unknown[0] + '.txt')} would make one.",
        )
    return {name: read_list(files[name]) for name in facets or files}


def read_list(path: Path) -> tuple[str, ...]:
    """The labels of one file: a line each, `#` begins a comment, repeats count once.

    Raises:
        ConfigError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The labels in {path} cannot be read: {error}.", "Mend or remove the file."
        ) from error
    lines = (clean_tag(line.split("#", 1)[0]) for line in text.splitlines())
    return tuple(dict.fromkeys(line for line in lines if line and len(line) <= LONGEST))
