"""CoCa (Yu et al. 2022) of open_clip: one sentence, word by word.

Its own `generate` does not work beside transformers 5; a greedy loop over the model is all it takes.
"""

from __future__ import annotations

import re
from typing import Any

import torch
from PIL import Image

from loratui.captioners.open_clip_models import Loaded, load_open_clip
from loratui.captioners.place import Place, place
from loratui.captioners.protocol import Said, Source
from loratui.captioners.spec import CocaOptions
from loratui.errors import BaseModelError

_MARKS = re.compile(r"<(?:start|end)_of_text>|<\|(?:start|end)oftext\|>")


class Coca:
    """A loaded CoCa."""

    first_batch = 8

    def __init__(self, loaded: Loaded, options: CocaOptions, where: Place) -> None:
        self.loaded = loaded
        self.options = options
        self.where = where
        tokenizer = loaded.tokenize
        self.start, self.end = (_special(tokenizer, key) for key in ("sot_token_id", "eot_token_id"))
        self.padding = int(getattr(loaded.model, "pad_id", 0))
        self.longest = int(getattr(loaded.model.text, "context_length", 77)) - 1

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """pixels_CHW: the model's own resize, crop, mean and deviation."""
        pixels: torch.Tensor = self.loaded.preprocess(image)
        return pixels

    def caption(self, prepared: list[torch.Tensor]) -> list[Said]:
        """One sentence for each picture."""
        pixels_BCHW = torch.stack(prepared).to(self.where.device, self.where.dtype)
        with torch.inference_mode():
            tokens_BL = self._greedy(pixels_BCHW)
        return [Said(self._text(row)) for row in tokens_BL.tolist()]

    def _greedy(self, pixels_BCHW: torch.Tensor) -> torch.Tensor:
        model, options = self.loaded.model, self.options
        latent, embs = model._encode_image(pixels_BCHW)
        batch = pixels_BCHW.shape[0]
        tokens_BL = torch.full((batch, 1), self.start, dtype=torch.long, device=pixels_BCHW.device)
        ended_B = torch.zeros(batch, dtype=torch.bool, device=pixels_BCHW.device)
        never = [t for t in {self.start, self.padding} if t != self.end]
        for written in range(min(options.max_new_tokens, self.longest - 1)):
            out = model(None, tokens_BL, image_latent=latent, image_embs=embs, output_labels=False)
            logits_BV = out["logits"][:, -1].float()
            logits_BV[:, never] = -torch.inf
            if written < options.min_new_tokens:
                logits_BV[:, self.end] = -torch.inf
            if options.repetition_penalty != 1.0:
                seen = logits_BV.gather(1, tokens_BL)
                weaker = torch.where(
                    seen > 0, seen / options.repetition_penalty, seen * options.repetition_penalty
                )
                logits_BV.scatter_(1, tokens_BL, weaker)
            next_B = logits_BV.argmax(-1)
            next_B = torch.where(ended_B, torch.full_like(next_B, self.padding), next_B)
            tokens_BL = torch.cat([tokens_BL, next_B[:, None]], dim=1)
            ended_B |= next_B == self.end
            if bool(ended_B.all()):
                break
        return tokens_BL

    def _text(self, tokens: list[int]) -> str:
        body = tokens[1:]
        if self.end in body:
            body = body[: body.index(self.end)]
        return _MARKS.sub("", self.loaded.tokenize.decode(body)).strip(" .")

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()


def _special(tokenizer: Any, key: str) -> int:
    """The start or end token, of open_clip's own tokenizer or of one of the Hub."""
    if hasattr(tokenizer, key):
        return int(getattr(tokenizer, key))
    inner = tokenizer.tokenizer
    names = ("bos_token_id", "cls_token_id") if key == "sot_token_id" else ("eos_token_id", "sep_token_id")
    found = next(
        (getattr(inner, name, None) for name in names if getattr(inner, name, None) is not None), None
    )
    if found is None:
        raise BaseModelError(f"The tokenizer has no {key}.", "Choose a CoCa model with a CLIP tokenizer.")
    return int(found)


def load(options: CocaOptions, source: Source) -> Coca:
    """Load CoCa.

    Raises:
        BaseModelError: the weights are missing or damaged, or the model writes no text.
    """
    where = place(options)
    loaded = load_open_clip(source, options.architecture, where)
    if not hasattr(loaded.model, "text_decoder"):
        raise BaseModelError(
            f"{source.weights or source.folder} is a CLIP that writes no text.",
            "Use the captioner `clip` with it.",
        )
    return Coca(loaded, options, where)
