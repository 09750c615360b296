"""BLIP (Li et al. 2022): one sentence, on its own or going on from given words."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from loratui.captioners.place import Place, load_processor, load_transformers, place, to_device
from loratui.captioners.protocol import Said, Source
from loratui.captioners.spec import BlipOptions
from loratui.captioners.squeeze import Squeeze


class Blip:
    """A loaded BLIP."""

    first_batch = 8

    def __init__(
        self, model: Any, image_processor: Any, tokenizer: Any, options: BlipOptions, where: Place
    ) -> None:
        self.model = model
        self.pixels = Squeeze(image_processor)
        self.tokenizer = tokenizer
        self.options = options
        self.where = where

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """pixel_values_CHW: resized to the model's square (bicubic), 0 to 1, CLIP's mean and deviation."""
        return self.pixels(image)

    def caption(self, prepared: list[torch.Tensor]) -> list[Said]:
        """One sentence for each picture."""
        options = self.options
        inputs: dict[str, Any] = {"pixel_values": torch.stack(prepared)}
        if options.prompt:
            words = self.tokenizer([options.prompt] * len(prepared), return_tensors="pt")
            inputs |= {key: words[key] for key in _WORDS if key in words}
        arguments = generation(options)
        if options.sampling == "nucleus":
            torch.manual_seed(options.seed)
        with torch.inference_mode():
            tokens = self.model.generate(**to_device(inputs, self.where), **arguments)
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [Said(without_prompt(text, options.prompt)) for text in texts]

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()


_WORDS = ("input_ids", "attention_mask")


def generation(options: BlipOptions) -> dict[str, Any]:
    """Arguments of `generate`; `max_new_tokens` always, without it BLIP ends after 20."""
    arguments: dict[str, Any] = {
        "max_new_tokens": options.max_new_tokens,
        "min_new_tokens": min(options.min_new_tokens, options.max_new_tokens),
        "repetition_penalty": options.repetition_penalty,
    }
    if options.sampling == "nucleus":
        return arguments | {"do_sample": True, "top_p": options.top_p, "num_beams": 1}
    return arguments | {"do_sample": False, "num_beams": options.beams}


def without_prompt(text: str, prompt: str) -> str:
    """What the model added: its output begins with the prompt, cased and spaced as its tokenizer does."""
    text = text.strip()
    wanted = "".join(prompt.split()).casefold()
    if not wanted:
        return text
    taken = 0
    for position, letter in enumerate(text):
        if letter.isspace():
            continue
        if taken == len(wanted):
            return text[position:].strip()
        if letter.casefold() != wanted[taken]:
            return text
        taken += 1
    return "" if taken == len(wanted) else text


def load(options: BlipOptions, source: Source) -> Blip:
    """Load BLIP.

    Raises:
        BaseModelError: weights or files of the processor are missing or damaged.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, BlipForConditionalGeneration

    where = place(options)
    image_processor = load_processor(AutoImageProcessor, source)
    tokenizer = load_processor(AutoTokenizer, source)
    model = load_transformers(BlipForConditionalGeneration, source, where)
    return Blip(model, image_processor, tokenizer, options, where)
