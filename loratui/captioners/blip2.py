"""BLIP-2 (Li et al. 2023): a query transformer before an OPT or T5 language model."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from loratui.captioners.place import Place, load_processor, load_transformers, place, to_device
from loratui.captioners.protocol import Said, Source
from loratui.captioners.spec import Blip2Options
from loratui.captioners.squeeze import Squeeze


class Blip2:
    """A loaded BLIP-2."""

    first_batch = 4

    def __init__(self, model: Any, processor: Any, options: Blip2Options, where: Place) -> None:
        self.model = model
        self.processor = processor
        self.pixels = Squeeze(processor.image_processor)
        self.options = options
        self.where = where

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """pixel_values_CHW: resized to the model's square (bicubic), 0 to 1, CLIP's mean and deviation."""
        return self.pixels(image)

    def caption(self, prepared: list[torch.Tensor]) -> list[Said]:
        """One sentence for each picture."""
        options = self.options
        # one place for each query of the picture, then the prompt, the same for all: nothing needs padding
        places = [self.model.config.image_token_id] * self.model.config.num_query_tokens
        words = self.processor.tokenizer(options.prompt).input_ids or [
            self.model.config.text_config.bos_token_id
        ]
        ids = torch.tensor([[*places, *words]] * len(prepared))
        inputs: dict[str, Any] = {
            "pixel_values": torch.stack(prepared),
            "input_ids": ids,
            "attention_mask": torch.ones_like(ids),
        }
        arguments: dict[str, Any] = {
            "max_new_tokens": options.max_new_tokens,
            "min_new_tokens": min(options.min_new_tokens, options.max_new_tokens),
            "repetition_penalty": options.repetition_penalty,
        }
        if options.sampling == "nucleus":
            torch.manual_seed(options.seed)
            arguments |= {"do_sample": True, "top_p": options.top_p, "num_beams": 1}
        else:
            arguments |= {"do_sample": False, "num_beams": options.beams}
        with torch.inference_mode():
            tokens = self.model.generate(**to_device(inputs, self.where), **arguments)
        prompt_ids = inputs["input_ids"]
        length = prompt_ids.shape[1]
        if tokens.shape[1] > length and torch.equal(tokens[:, :length].cpu(), prompt_ids.cpu()):
            tokens = tokens[:, length:]
        texts = self.processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)
        prompt = options.prompt.strip()
        return [Said(text.strip().removeprefix(prompt).strip() if prompt else text.strip()) for text in texts]

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()


def load(options: Blip2Options, source: Source) -> Blip2:
    """Load BLIP-2.

    Raises:
        BaseModelError: weights or files of the processor are missing or damaged.
    """
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

    where = place(options)
    processor = load_processor(Blip2Processor, source)
    model = load_transformers(Blip2ForConditionalGeneration, source, where, options.quantize)
    return Blip2(model, processor, options, where)
