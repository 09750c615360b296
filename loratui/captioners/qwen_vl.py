"""Qwen-VL (2, 2.5 and 3): a vision language model that takes pictures at their own shape."""

from __future__ import annotations

from loratui.captioners.instruct import Instruct
from loratui.captioners.place import load_processor, load_transformers, place
from loratui.captioners.protocol import Source
from loratui.captioners.spec import QwenOptions


def load(options: QwenOptions, source: Source) -> Instruct:
    """Load a Qwen-VL.

    Raises:
        BaseModelError: weights or files of the processor are missing or damaged.
    """
    from transformers import AutoModelForImageTextToText, AutoProcessor

    where = place(options)
    processor = load_processor(AutoProcessor, source, pil=False)
    model = load_transformers(AutoModelForImageTextToText, source, where, options.quantize)
    return Instruct(model, processor, options, where)
