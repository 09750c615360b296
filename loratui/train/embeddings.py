"""Words of textual-inversion files for drawing: added to tokenizers and text encoders, used by name."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from loratui.errors import WeightsError
from loratui.families.protocol import Parts
from loratui.train.tokens import FILE_KEYS, TokenEmbedding
from loratui.weights.embedding_files import open_embedding


class Embeddings:
    """New words in every text encoder of a base; `spell` puts them into a prompt."""

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._patterns: dict[str, tuple[re.Pattern[str], str]] = {}
        self._count = 0

    def add_file(self, path: Path, family: str) -> str:
        """Add an embedding file; returns the word that stands for it.

        Raises:
            WeightsError: it holds no embedding for this base.
        """
        found = open_embedding(path, family)
        tensors = load_file(path)
        self.add(found.word, {key: tensors[name] for key, name in found.keys.items()})
        return found.word

    def add_bundled(self, path: Path, word: str) -> bool:
        """Add the words that a LoRA file carries with it, in the trigger's place; whether there were any."""
        wanted = {name: key for key, name in FILE_KEYS.items() if key in self._parts.text_encoders}
        vectors = {
            wanted[name.rsplit(".", 1)[-1]]: tensor
            for name, tensor in load_file(path).items()
            if name.startswith("bundle_emb.") and name.rsplit(".", 1)[-1] in wanted
        }
        if not vectors:
            return False
        self.add(word, vectors)
        return True

    def add(self, word: str, vectors: Mapping[str, Tensor]) -> None:
        """Add a word; one that is there already gets these vectors.

        Args:
            word: as prompts have it.
            vectors: text encoder's key -> [N, D] or [D].

        Raises:
            WeightsError: their width is not the encoder's.
        """
        rows = {key: v.float().reshape(-1, v.shape[-1]) for key, v in vectors.items()}
        count = max(len(r) for r in rows.values())
        words = [f"<loratui-word-{self._count}-{n}>" for n in range(count)]
        self._count += 1
        for key, rows_ND in rows.items():
            encoder, tokenizer = self._parts.text_encoders[key], self._parts.tokenizers[key]
            base = encoder.get_input_embeddings()
            width = base.weight.shape[-1]
            if rows_ND.shape[-1] != width:
                raise WeightsError(
                    f"The embedding {word} is {rows_ND.shape[-1]} wide, the base's text encoder {width}.",
                    "It was trained on a base of another family.",
                )
            tokenizer.add_tokens(words, special_tokens=True)
            ids = tokenizer.convert_tokens_to_ids(words)
            ids, rows_ND = ids[: len(rows_ND)], rows_ND.to(base.weight.device)
            if isinstance(base, TokenEmbedding):  # words that were added before stay
                ids = [*base.ids_N.tolist(), *ids]
                rows_ND, base = torch.cat([base.rows.detach(), rows_ND]), base.base
            layer = TokenEmbedding(base, ids, rows_ND)
            encoder.set_input_embeddings(layer.requires_grad_(False))
        self._patterns[word] = (
            re.compile(rf"(?<!\w)(?:embedding:)?{re.escape(word)}(?!\w)", re.IGNORECASE),
            " ".join(words),
        )

    def forget(self, word: str) -> None:
        """Leave a word as the base knows it."""
        self._patterns.pop(word, None)

    def spell(self, text: str) -> str:
        """A prompt with the new words in it, the longest names first."""
        for name in sorted(self._patterns, key=len, reverse=True):
            pattern, words = self._patterns[name]
            text = pattern.sub(words.replace("\\", r"\\"), text)
        return text
