"""Florence-2 (Xiao et al. 2023), transformers' own class: captions of three lengths, or names of objects."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from loratui.captioners.place import Place, load_processor, load_transformers, place, to_device
from loratui.captioners.protocol import Said, Source, Tag
from loratui.captioners.spec import Florence2Options
from loratui.captioners.squeeze import Squeeze

TASKS = {
    "caption": "<CAPTION>",
    "detailed": "<DETAILED_CAPTION>",
    "more-detailed": "<MORE_DETAILED_CAPTION>",
    "objects": "<OD>",
}


class Florence2:
    """A loaded Florence-2."""

    first_batch = 4

    def __init__(self, model: Any, processor: Any, options: Florence2Options, where: Place) -> None:
        self.model = model
        self.processor = processor
        self.pixels = Squeeze(processor.image_processor)
        self.options = options
        self.where = where

    def prepare(self, image: Image.Image) -> tuple[torch.Tensor, tuple[int, int]]:
        """pixel_values_CHW: the model's square (bicubic), ImageNet's mean and deviation; and the size."""
        return self.pixels(image), image.size

    def caption(self, prepared: list[tuple[torch.Tensor, tuple[int, int]]]) -> list[Said]:
        """What the task asks for, for each picture."""
        task = TASKS[self.options.task]
        pixels = torch.stack([p for p, _ in prepared])
        # the processor turns the task into its sentence and puts the picture's places in; pixels are ready
        sentences = self.processor._construct_prompts([task] * len(prepared))
        tokens = self.processor.num_image_tokens
        places = [f"{self.processor.image_token * tokens}{self._bos()}{s}{self._eos()}" for s in sentences]
        words = self.processor.tokenizer(places, return_tensors="pt", padding=True, add_special_tokens=False)
        inputs = to_device({"pixel_values": pixels, **words}, self.where)
        with torch.inference_mode():
            out = self.model.generate(
                **inputs,
                max_new_tokens=self.options.max_new_tokens,
                num_beams=self.options.beams,
                do_sample=False,
            )
        # places of boxes are special tokens: only prose can do without them
        prose = self.options.task != "objects"
        texts = self.processor.tokenizer.batch_decode(out, skip_special_tokens=prose)
        return [self._said(text, size) for text, (_, size) in zip(texts, prepared, strict=True)]

    def _bos(self) -> str:
        return self.processor.tokenizer.bos_token or ""

    def _eos(self) -> str:
        return self.processor.tokenizer.eos_token or ""

    def _said(self, text: str, size: tuple[int, int]) -> Said:
        task = TASKS[self.options.task]
        if self.options.task != "objects":
            return Said(text.strip())
        answer = self.processor.post_process_generation(text=text, task=task, image_size=size)[task]
        if isinstance(answer, dict):
            names = dict.fromkeys(str(label).strip() for label in answer.get("labels", ()))
            return Said(tags=tuple(Tag(name, facet="object") for name in names if name))
        return Said(str(answer))

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()


def load(options: Florence2Options, source: Source) -> Florence2:
    """Load Florence-2.

    Raises:
        BaseModelError: weights or files of the processor are missing or damaged.
    """
    from transformers import Florence2ForConditionalGeneration, Florence2Processor

    where = place(options)
    processor = load_processor(Florence2Processor, source)
    model = load_transformers(Florence2ForConditionalGeneration, source, where)
    return Florence2(model, processor, options, where)
