"""JoyCaption: a Llava (SigLIP and Llama 3.1) trained to describe pictures for diffusion models."""

from __future__ import annotations

from loratui.captioners.instruct import Instruct
from loratui.captioners.place import load_processor, load_transformers, place
from loratui.captioners.protocol import Source
from loratui.captioners.spec import JoyOptions


def load(options: JoyOptions, source: Source) -> Instruct:
    """Load JoyCaption.

    Raises:
        BaseModelError: weights or files of the processor are missing or damaged.
    """
    from transformers import LlavaForConditionalGeneration, LlavaProcessor

    where = place(options)
    processor = load_processor(LlavaProcessor, source)
    model = load_transformers(LlavaForConditionalGeneration, source, where, options.quantize)
    return Instruct(model, processor, options, where, plain=True)
