"""`optimizer.options`: further keyword arguments, written `key=value` with Python's literals."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from typing import Any

from loratui.errors import ConfigError

_WORDS = {"true": True, "false": False, "none": None}


def parse(options: Iterable[str]) -> dict[str, Any]:
    """Keyword arguments by name; `betas=(0.9, 0.99)`, `decouple=true`.

    Raises:
        ValueError: one has no `=`, no name or no literal; the message names it, without a full stop.
    """
    found: dict[str, Any] = {}
    for option in options:
        key, equals, text = (part.strip() for part in option.partition("="))
        if not equals or not key.isidentifier():
            raise ValueError(f"{option!r} is not of the form key=value")
        if text.lower() in _WORDS:
            found[key] = _WORDS[text.lower()]
            continue
        try:
            found[key] = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            raise ValueError(f"{text!r} is no number, text in quotes, true, false, none or (a, b)") from None
    return found


def make(kind: Callable[..., Any], groups: Any, options: dict[str, Any], **arguments: Any) -> Any:
    """Call an optimizer class; the user's options win over `arguments`.

    Raises:
        ConfigError: it does not take one of them, or not that value.
    """
    try:
        return kind(groups, **(arguments | options))
    except (TypeError, ValueError, AssertionError, NotImplementedError, RuntimeError) as error:
        name = getattr(kind, "__name__", str(kind))
        raise ConfigError(f"{name} refuses its settings: {error}", "See optimizer.options.") from error
