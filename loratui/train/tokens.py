"""Textual inversion: new words whose embeddings are learned, in place of the trigger.

Gal et al. 2022, arXiv:2208.01618. The base's own embeddings stay as they are: a few rows are added beside
them, and captions and prompts are spelled with the new words where they have the trigger. With a network
trained at the same time it is pivotal tuning.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from loratui.config.schema import NetworkConfig
from loratui.errors import ConfigError
from loratui.families.protocol import Parts
from loratui.train.stateless import generator

FILE_KEYS = {"lora_te": "emb_params", "lora_te1": "clip_l", "lora_te2": "clip_g"}
"""What A1111 and ComfyUI call the vectors for an encoder in an embedding file."""


class TokenEmbedding(nn.Module):  # type: ignore[misc]
    """A frozen embedding with trained rows for some token numbers."""

    def __init__(self, base: nn.Embedding, ids: Sequence[int], rows_ND: Tensor) -> None:
        super().__init__()
        self.base = base
        self.register_buffer("ids_N", torch.tensor(ids, device=rows_ND.device), persistent=False)
        self.rows = nn.Parameter(rows_ND)

    @property
    def weight(self) -> Tensor:
        """The base's own rows, for code that asks for their type or device."""
        return self.base.weight

    def forward(self, ids_BL: Tensor) -> Tensor:
        """Embeddings of token numbers, [B, L, D]."""
        old_BLD = self.base(ids_BL.clamp_max(self.base.num_embeddings - 1))
        is_new_BLN = ids_BL[..., None] == self.ids_N
        new_BLD = self.rows[is_new_BLN.int().argmax(-1)].to(old_BLD.dtype)
        return torch.where(is_new_BLN.any(-1, keepdim=True), new_BLD, old_BLD)


class Tokens:
    """The new words of a training, in every text encoder.

    Attributes:
        trigger: what they stand for.
        words: as the tokenizers know them.
        rows: text encoder's key -> their embeddings, [N, D].
    """

    def __init__(self, parts: Parts, trigger: str, config: NetworkConfig, seed: int) -> None:
        """Add the words to tokenizers and encoders.

        Raises:
            ConfigError: there is no trigger to stand for, or the words to begin with mean nothing.
        """
        if not trigger.strip():
            raise ConfigError("There is no trigger that new tokens could stand for.", "Give the project one.")
        self.trigger = trigger.strip()
        self.words = [f"<loratui-token-{n}>" for n in range(config.tokens)]
        self.name = re.sub(r"[^A-Za-z0-9_-]+", "-", self.trigger).strip("-") or "tokens"
        self.rows: dict[str, nn.Parameter] = {}
        self._pattern = re.compile(rf"(?<!\w){re.escape(self.trigger)}(?!\w)", re.IGNORECASE)
        self._off = False
        for key, encoder in parts.text_encoders.items():
            tokenizer = parts.tokenizers[key]
            base = encoder.get_input_embeddings()
            beginning = start(base.weight, tokenizer, config.token_init, len(self.words), seed, key)
            tokenizer.add_tokens(self.words, special_tokens=True)
            ids = tokenizer.convert_tokens_to_ids(self.words)
            assert len(set(ids)) == len(self.words), "each word is a token of its own"
            layer = TokenEmbedding(base, ids, beginning.to(base.weight.device))
            encoder.set_input_embeddings(layer)
            self.rows[key] = layer.rows

    def spell(self, text: str) -> str:
        """A caption or prompt with the new words for the trigger; as it is while the network is off."""
        return text if self._off else self._pattern.sub(" ".join(self.words), text)

    def switch(self, on: bool) -> None:
        """Whether `spell` uses the new words."""
        self._off = not on

    def tensors(self) -> dict[str, Tensor]:
        """The rows under the names that A1111 reads inside LoRA files; fp32 copies on the CPU."""
        return {
            f"bundle_emb.{self.name}.{FILE_KEYS[key]}": rows.detach().to("cpu", copy=True).float()
            for key, rows in self.rows.items()
        }

    def embedding_file(self) -> dict[str, Tensor]:
        """The rows as a file of embeddings has them."""
        return {FILE_KEYS[key]: rows.detach().to("cpu", copy=True).float() for key, rows in self.rows.items()}

    def check_captions(self, captions: Sequence[str]) -> None:
        """Refuse captions that would never teach the words anything.

        Raises:
            ConfigError: none has the trigger.
        """
        if not any(self._pattern.search(caption) for caption in captions):
            raise ConfigError(
                f"No caption holds the trigger {self.trigger!r}, so the new tokens would never be seen.",
                "Put it into the captions: `loratui edit DIR trigger-first`.",
            )


def start(table: Tensor, tokenizer: Any, words: str, count: int, seed: int, key: str) -> Tensor:
    """First values of new rows: the embeddings of `words` in turn, else random ones as large as any.

    Raises:
        ConfigError: the words are no tokens.
    """
    random = generator(seed, "tokens", key)
    table_VD = table.detach().float().cpu()
    noise_ND = torch.randn(count, table_VD.shape[1], generator=random)
    if not words.strip():
        return table_VD.mean(0) + noise_ND * table_VD.std()
    ids = tokenizer(words, add_special_tokens=False).input_ids
    if not ids:
        raise ConfigError(f"network.token_init {words!r} holds no token.", "Give a word such as person.")
    rows_ND = table_VD[[ids[n % len(ids)] for n in range(count)]].clone()
    # A word that serves twice needs to come apart.
    repeated = torch.tensor([n >= len(ids) for n in range(count)])
    rows_ND[repeated] += 0.01 * table_VD.std() * noise_ND[repeated]
    return rows_ND
