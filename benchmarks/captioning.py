"""How much of a model's own speed a caption run keeps: `python benchmarks/captioning.py`.

Two sides in turn, on the same loaded BLIP (the sizes of the base model, random weights, a fixed number of
words): the bare loop over pixels that are prepared in memory, and a run's own loop, which decodes and
prepares picture files ahead of the model and writes captions through the history as they come. Prints images
a second of each round and the share the run keeps; `--small` takes a smaller model, `--json` prints JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import string
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

BATCH = 8
WORDS = 12


def tokenizer() -> Any:
    """A word-piece tokenizer of letters: what is said does not matter here."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *string.ascii_lowercase]
    words += ["##" + c for c in string.ascii_lowercase]
    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", bos_token="[DEC]",
    )  # fmt: skip


def captioner(small: bool) -> Any:
    """A BLIP as loratui loads it, with random weights."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    from loratui.captioners.blip import Blip
    from loratui.captioners.place import place
    from loratui.captioners.spec import BlipOptions

    torch.manual_seed(0)
    side = 224 if small else 384
    sizes = {"num_hidden_layers": 4, "hidden_size": 384, "intermediate_size": 1536} if small else {}
    heads = {"num_attention_heads": 6} if small else {}
    ids = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    words = {"encoder_hidden_size": 384} if small else {}
    config = BlipConfig(
        text_config={**sizes, **heads, **words, **ids}, vision_config={**sizes, **heads, "image_size": side}
    )
    options = BlipOptions(beams=1, min_new_tokens=WORDS, max_new_tokens=WORDS, device="cpu", batch_size=BATCH)
    model = BlipForConditionalGeneration(config).eval()
    processor = BlipImageProcessorPil(size={"height": side, "width": side})
    return Blip(model, processor, tokenizer(), options, place(options))


def pictures(folder: Path, count: int) -> list[Path]:
    """Photograph-like JPEGs of 1024 x 768."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(1)
    out = []
    for number in range(count):
        rough = rng.integers(0, 256, (12, 16, 3), dtype=np.uint8)
        path = folder / f"{number:04d}.jpg"
        Image.fromarray(rough).resize((1024, 768), Image.Resampling.BICUBIC).save(path, quality=90)
        out.append(path)
    return out


def bare(model: Any, prepared: list[Any]) -> float:
    """Images a second of the model alone."""
    began = time.perf_counter()
    for start in range(0, len(prepared), BATCH):
        model.caption(prepared[start : start + BATCH])
    return len(prepared) / (time.perf_counter() - began)


def run(model: Any, root: Path, paths: list[Path]) -> float:
    """Images a second of a run's loop, everything written when the clock stops."""
    from loratui.caption.engine import BatchSize, Engine, Picture
    from loratui.caption.results import Results
    from loratui.caption.settings import CaptionSettings
    from loratui.caption.writing import Style, Writer
    from loratui.dataset.tokens import count_tokens
    from loratui.project.history import Actor, History

    folder = Path(tempfile.mkdtemp(dir=root))
    chosen = [Picture(i, path, path.name) for i, path in enumerate(paths)]
    results = Results(folder, write=True)
    history = History(root)
    style = Style(CaptionSettings(mode="replace"), "sks robot", count_tokens())
    actor = Actor("captioner", "blip", {"run": folder.name})
    writer = Writer(results, dict(enumerate(chosen)), history, actor, style)
    engine = Engine({"blip": model}, {"blip": BatchSize(BATCH)})
    began = time.perf_counter()
    writer.start()
    for answers in engine.run(chosen, lambda: True):
        writer.put(answers)
    writer.finish()
    took = time.perf_counter() - began
    assert len(results.by_index) == len(paths)
    results.close()
    return len(paths) / took


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=48, help="pictures a round")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each side")
    parser.add_argument("--small", action="store_true", help="a smaller model")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    import torch

    from loratui.dataset.pixels import open_rgb

    model = captioner(args.small)
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        paths = pictures(root / "dataset", args.images)
        prepared = [model.prepare(open_rgb(path)) for path in paths]
        bare(model, prepared[:BATCH])  # warm
        sides: dict[str, list[float]] = {"bare": [], "run": []}
        cpu: dict[str, list[float]] = {"bare": [], "run": []}
        for number in range(args.rounds):
            for side in ("bare", "run") if number % 2 == 0 else ("run", "bare"):  # neither is always first
                began = time.process_time()
                made_s = bare(model, prepared) if side == "bare" else run(model, root, paths)
                sides[side].append(made_s)
                cpu[side].append((time.process_time() - began) / len(paths))
            if not args.json:
                print(f"bare {sides['bare'][-1]:6.3f}  run {sides['run'][-1]:6.3f} images/s", flush=True)
    medians = {name: statistics.median(values) for name, values in sides.items()}
    share = medians["run"] / medians["bare"]
    seconds = {name: statistics.median(values) for name, values in cpu.items()}
    if args.json:
        print(
            json.dumps(
                {"images_s": medians, "share": share, "cpu_s": seconds, "threads": torch.get_num_threads()}
            )
        )
    else:
        print(
            f"the run keeps {share:.3f} of the bare loop ({torch.get_num_threads()} threads, batch {BATCH})"
        )
        spent = ", ".join(f"{name} {value:.3f} s" for name, value in seconds.items())
        print(f"CPU a picture, decoding and writing included: {spent}")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
