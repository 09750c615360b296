"""Write CLIP's tokenizer files from the BPE table that open_clip bundles.

    python tools/build_tokenizer_files.py loratui/families/configs/clip_tokenizer

256 byte symbols, the same with `</w>`, 48,894 merges and two marks make 49,408 entries: what SD1.x, SD2.x
and SDXL use. The result is committed so that a single-file base needs neither network nor open_clip.
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import sys
from pathlib import Path

MERGES = 49152 - 256 - 2


def byte_symbols() -> list[str]:
    """The printable stand-ins of the 256 bytes, in CLIP's order."""
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAC + 1), *range(0xAE, 0xFF + 1)]
    moved = [b for b in range(256) if b not in kept]
    return [chr(b) for b in kept] + [chr(256 + n) for n in range(len(moved))]


def main() -> None:
    """Write vocab.json and merges.txt into the folder given."""
    out = Path(sys.argv[1])
    spec = importlib.util.find_spec("open_clip")
    assert spec is not None and spec.origin is not None, "install open_clip_torch"
    table = gzip.decompress((Path(spec.origin).parent / "bpe_simple_vocab_16e6.txt.gz").read_bytes()).decode(
        "utf-8"
    )
    merges = table.split("\n")[1 : MERGES + 1]
    symbols = byte_symbols()
    words = [*symbols, *(s + "</w>" for s in symbols), *("".join(m.split()) for m in merges)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    assert len(words) == len(set(words)) == 49408, len(words)
    out.mkdir(parents=True, exist_ok=True)
    vocab = {word: n for n, word in enumerate(words)}
    (out / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (out / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
