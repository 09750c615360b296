"""Make the demo's CLIP tokenizer: CLIP's byte alphabet and merges learned from the captions.

It encodes any text: 256 byte characters, the same 256 with `</w>`, the merges, and the two specials.
"""

from __future__ import annotations

import json
import random
from pathlib import Path

from captions import NOUNS, caption
from scenes import COLOUR_NAMES, random_scene
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"


def byte_characters() -> list[str]:
    """Return the 256 printable stand-ins for bytes in CLIP's order."""
    keep = [*range(33, 127), *range(161, 173), *range(174, 256)]
    table = {b: chr(b) for b in keep}
    spare = 256
    for b in range(256):
        if b not in table:
            table[b] = chr(spare)
            spare += 1
    return [table[b] for b in keep] + [table[b] for b in range(256) if b not in keep]


def learn_merges(n_captions: int = 30000, size: int = 1500) -> list[tuple[str, str]]:
    """Return merges learned from captions in CLIP's manner (lower case, `</w>` ends a word)."""
    rng = random.Random(5)
    words = " ".join(w for names in NOUNS.values() for w in names).replace("{c}", "")
    lines = (
        [caption(random_scene(rng), rng) for _ in range(n_captions)]
        + [words] * 40
        + [" ".join(COLOUR_NAMES)] * 40
    )
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    learner.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Whitespace(), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=size, end_of_word_suffix="</w>", min_frequency=12, show_progress=False
    )
    learner.train_from_iterator(lines, trainer)
    merges = json.loads(learner.to_str())["model"]["merges"]
    return [tuple(m.split(" ")) if isinstance(m, str) else tuple(m) for m in merges]


def build_tokenizer(folder: Path) -> CLIPTokenizer:
    """Write vocab.json and merges.txt into `folder` and return the tokenizer saved beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = byte_characters()
    tokens = alphabet + [c + "</w>" for c in alphabet]
    merges = []
    for a, b in learn_merges():
        if a in tokens and b in tokens and a + b not in tokens:
            tokens.append(a + b)
            merges.append(f"{a} {b}")
    tokens += [START, END]
    (folder / "vocab.json").write_text(json.dumps({t: i for i, t in enumerate(tokens)}, ensure_ascii=False))
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n")
    tokenizer = CLIPTokenizer.from_pretrained(folder, model_max_length=77, pad_token=END, unk_token=END)
    tokenizer.save_pretrained(folder)
    return tokenizer
