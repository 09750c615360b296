"""Whether the matrices of a transformer's LoRA file fit the layers they are for.

With the base at hand each is held against the base's own layer; without it, against the same layer of the
other blocks, which all have one size but the last (its modulation is often shorter).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping

from loratui.weights.base_layers import BaseLayers
from loratui.weights.layouts import Names
from loratui.weights.transformers import places
from loratui.weights.verify import Module

_BLOCK = re.compile(r"(.*?)[._](\d+)[._](.*)")
Size = tuple[int, int]


def wrong_shapes(modules: Mapping[str, Module], names: Names, base: BaseLayers | None) -> list[str]:
    """Modules whose down and up do not fit, each with both sizes, in the file's order.

    Args:
        modules: of the file.
        names: of its family, at its count of blocks.
        base: layers of the base; None for none at hand.
    """
    own = {name: module.size for name, module in modules.items()}
    sizes = {name: size for name, size in own.items() if size is not None}
    if base is None:
        return _odd_ones(sizes)
    found = []
    for name, size in sizes.items():
        true = _of_base(places(name, names), base)
        if true is not None and true != size:
            found.append(_said(name, size, true))
    return found


def absent(modules: Mapping[str, Module], names: Names, base: BaseLayers) -> list[str]:
    """Modules for which the base has no layer; of text encoders that lie elsewhere nothing is said."""
    found = []
    for name in modules:
        layers = places(name, names)
        of_text = any(not layer.startswith("transformer.") for layer in layers)
        if not layers or (not of_text and _of_base(layers, base) is None):
            found.append(name)
    return found


def _of_base(layers: list[str], base: BaseLayers) -> Size | None:
    """(in, out) of the base's layers that one module of a file stands for."""
    if layers and not layers[0].startswith("transformer."):
        encoder, _, module = layers[0].partition(".")
        for name in (module, module.removeprefix("text_model.")):
            shape = base.text.get(f"{encoder}.{name}.weight")
            if shape is not None:
                return shape[1], shape[0]
        return None
    return base.sizes([layer.removeprefix("transformer.") for layer in layers])


def _odd_ones(sizes: Mapping[str, Size]) -> list[str]:
    """Modules that differ from what most blocks have in their place."""
    groups: dict[tuple[str, str], dict[int, str]] = {}
    for name in sizes:
        if match := _BLOCK.fullmatch(name):
            groups.setdefault((match[1], match[3]), {})[int(match[2])] = name
    last: dict[str, int] = {}
    for (kind, _), of in groups.items():
        last[kind] = max(last.get(kind, 0), *of)
    found = []
    for (kind, _), of in groups.items():
        usual, votes = Counter(sizes[name] for name in of.values()).most_common(1)[0]
        if 2 * votes <= len(of) or len(of) < 3:
            continue
        for n, name in of.items():
            size = sizes[name]
            if size != usual and not (n == last[kind] and size[0] == usual[0]):
                found.append(_said(name, size, usual))
    order = list(sizes)
    return sorted(found, key=lambda said: order.index(said.partition(" ")[0]))


def _said(name: str, size: Size, true: Size) -> str:
    return f"{name} ({size[0]} to {size[1]}, the model's is {true[0]} to {true[1]})"
