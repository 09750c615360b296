"""What models that follow an instruction share: one chat turn with a picture, answered in batches."""

from __future__ import annotations

from typing import Any

import torch
from PIL import Image

from loratui.captioners.place import Place, to_device
from loratui.captioners.protocol import Said
from loratui.captioners.spec import InstructOptions
from loratui.errors import BaseModelError

_PADDED = frozenset({"input_ids", "attention_mask", "mm_token_type_ids", "token_type_ids"})
_SMALLEST_SIDE = 28


class Instruct:
    """A loaded model and its processor.

    Args:
        model: generates from what the processor makes.
        processor: of the model; its chat template words the turn.
        options: of the captioner.
        where: device and number format.
        plain: write the turn as text, for templates that put the picture in by themselves.
    """

    first_batch = 1

    def __init__(
        self, model: Any, processor: Any, options: InstructOptions, where: Place, plain: bool = False
    ) -> None:
        self.model = model
        self.processor = processor
        self.options = options
        self.where = where
        self.prompt = self._turn(plain)
        tokenizer = processor.tokenizer
        self.padding = (
            tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id or 0
        )

    def prepare(self, image: Image.Image) -> dict[str, torch.Tensor]:
        """Inputs of one picture: scaled down to `max_pixels`, the processor's own recipe, and the turn."""
        made = self.processor(
            images=[within(image, self.options.max_pixels)], text=[self.prompt], return_tensors="pt"
        )
        return {key: value for key, value in made.items() if isinstance(value, torch.Tensor)}

    def caption(self, prepared: list[dict[str, torch.Tensor]]) -> list[Said]:
        """One answer for each picture."""
        options = self.options
        inputs = collate(prepared, self.padding)
        arguments: dict[str, Any] = {"max_new_tokens": options.max_new_tokens, "pad_token_id": self.padding}
        if options.temperature > 0:
            torch.manual_seed(options.seed)
            arguments |= {"do_sample": True, "temperature": options.temperature, "top_p": options.top_p}
        else:
            arguments |= {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        with torch.inference_mode():
            out = self.model.generate(**to_device(inputs, self.where), **arguments)
        fresh = out[:, inputs["input_ids"].shape[1] :]
        texts = self.processor.tokenizer.batch_decode(fresh, skip_special_tokens=True)
        return [Said(text.strip()) for text in texts]

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()

    def _turn(self, plain: bool) -> str:
        """The chat with the picture's place in it, as the model was trained on it."""
        options = self.options
        parts: Any = [{"type": "image"}, {"type": "text", "text": options.instruction}]
        image_token = str(getattr(self.processor, "image_token", "") or "")
        try:
            text = self._rendered(options.instruction if plain else parts)
            if image_token and image_token not in text:
                text = self._rendered(f"{image_token}\n{options.instruction}")
        except (ValueError, TypeError) as error:
            raise BaseModelError(
                f"The model's chat template cannot be used: {error}.",
                "Fetch the whole model, with its template.",
            ) from error
        return text

    def _rendered(self, content: Any) -> str:
        system: Any = self.options.system
        if system and not isinstance(content, str):
            system = [{"type": "text", "text": system}]
        chat = [{"role": "system", "content": system}] if system else []
        chat.append({"role": "user", "content": content})
        return str(self.processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True))


def within(image: Image.Image, max_pixels: int) -> Image.Image:
    """The picture, scaled down to at most `max_pixels`, and up where a side is too short for any patch."""
    width, height = image.size
    factor = min(1.0, (max_pixels / (width * height)) ** 0.5)
    size = (max(_SMALLEST_SIDE, int(width * factor)), max(_SMALLEST_SIDE, int(height * factor)))
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def collate(prepared: list[dict[str, torch.Tensor]], padding: int) -> dict[str, torch.Tensor]:
    """Inputs of several pictures as one batch: words padded on the left, pixels one after another."""
    longest = max(one["input_ids"].shape[1] for one in prepared)
    out: dict[str, torch.Tensor] = {}
    for key in prepared[0]:
        parts = [one[key] for one in prepared]
        if key in _PADDED:
            fill = padding if key == "input_ids" else 0
            parts = [
                torch.nn.functional.pad(part, (longest - part.shape[1], 0), value=fill) for part in parts
            ]
        out[key] = torch.cat(parts)
    return out
