"""How much of a model's own speed a caption run keeps: `python benchmarks/captioning.py`.

Two sides in turn, on the same loaded BLIP (random weights, a fixed number of words, batches of 8): the bare
loop over pixels that are prepared in memory, and a run's own loop, which decodes and prepares picture files
ahead of the model, writes captions through the history as they come and an event for each into a journal.

The model has the sizes of the base model of BLIP: a ViT-B/16 on 384 px and a BERT-base, 12 words; pictures
are JPEGs of 1024 x 768. `--px 224` makes it cheaper, so that the run's own work counts for more. Each pair
of rounds, one a side, gives a ratio; their median is printed with its 95 % interval, and where the time of
the run went. `--json` prints JSON.
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
    """A word-piece tokenizer of a BERT's size: what is said does not matter here, but that it is."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *string.ascii_lowercase]
    words += ["##" + c for c in string.ascii_lowercase]
    words += [f"word{i}" for i in range(30_524 - len(words))]  # as many as the model may say
    inner = Tokenizer(models.WordPiece({w: i for i, w in enumerate(words)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", bos_token="[DEC]",
    )  # fmt: skip


def captioner(side: int) -> Any:
    """A BLIP as loratui loads it, with random weights, for pictures of `side` px."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessorPil

    from loratui.captioners.blip import Blip
    from loratui.captioners.place import place
    from loratui.captioners.spec import BlipOptions

    torch.manual_seed(0)
    ids = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = BlipConfig(text_config=ids, vision_config={"image_size": side})
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


class Timed:
    """A captioner that adds up how long the model takes."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.first_batch = model.first_batch
        self.prepare = model.prepare
        self.free = model.free
        self.took = 0.0

    def caption(self, prepared: list[Any]) -> Any:
        """What the model says."""
        began = time.perf_counter()
        answers = self.model.caption(prepared)
        self.took += time.perf_counter() - began
        return answers


def run(model: Any, root: Path, paths: list[Path]) -> tuple[float, float]:
    """Images a second of a run's loop, everything written when the clock stops; and without the model, s."""
    from loratui.caption.engine import BatchSize, Engine, Picture
    from loratui.caption.results import Results
    from loratui.caption.settings import CaptionSettings
    from loratui.caption.writing import Style, Writer
    from loratui.dataset.tokens import count_tokens
    from loratui.jobs.caption import Progress
    from loratui.project.history import Actor, History
    from loratui.runs.directory import RunDir
    from loratui.runs.journal import Journal

    folder = Path(tempfile.mkdtemp(dir=root))
    chosen = [Picture(i, path, path.name) for i, path in enumerate(paths)]
    results = Results(folder, write=True)
    history = History(root)
    style = Style(CaptionSettings(mode="replace"), f"robot {folder.name}", count_tokens())
    actor = Actor("captioner", "blip", {"run": folder.name})
    timed = Timed(model)
    with Journal(RunDir(folder)) as journal:
        progress = Progress(journal, results)
        writer = Writer(results, dict(enumerate(chosen)), history, actor, style, progress.tell)
        engine = Engine({"blip": timed}, {"blip": BatchSize(BATCH)})
        began = time.perf_counter()
        progress.begin()
        writer.start()
        for answers in engine.run(chosen, lambda: True):
            writer.put(answers)
        writer.finish()
        took = time.perf_counter() - began
    assert results.counts() == {"written": len(paths)}, results.by_index[0]
    results.close()
    return len(paths) / took, took - timed.took


def interval(ratios: list[float]) -> tuple[float, float]:
    """Of the median: the 2.5th and the 97.5th percentile of 4,000 resamples."""
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(ratios, (4000, len(ratios))), axis=1)
    low, high = np.percentile(medians, (2.5, 97.5))
    return float(low), float(high)


def main() -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=16, help="pictures a round")
    parser.add_argument("--pairs", type=int, default=5, help="rounds of each side")
    parser.add_argument(
        "--seconds", type=float, default=0.0, help="as many pairs as fit into so many seconds"
    )
    parser.add_argument("--px", type=int, default=384, help="side of the model's pictures")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args()
    import torch

    from loratui.dataset.pixels import open_rgb

    model = captioner(args.px)
    bares: list[float] = []
    runs: list[float] = []
    outside: list[float] = []
    with tempfile.TemporaryDirectory() as made:
        root = Path(made)
        paths = pictures(root / "dataset", args.images)
        prepared = [model.prepare(open_rgb(path)) for path in paths]
        run(model, root, paths)  # warm: what is imported once, and the model
        began = time.monotonic()
        while len(runs) < args.pairs or time.monotonic() - began < args.seconds:
            for side in ("bare", "run") if len(runs) % 2 == 0 else ("run", "bare"):  # neither is always first
                if side == "bare":
                    bares.append(bare(model, prepared))
                    continue
                speed, rest = run(model, root, paths)
                runs.append(speed)
                outside.append(rest / args.images)
            if not args.json:
                print(f"bare {bares[-1]:6.3f}  run {runs[-1]:6.3f} images/s", flush=True)
    ratios = [mine / theirs for mine, theirs in zip(runs, bares, strict=True)]
    share, (low, high) = statistics.median(ratios), interval(ratios)
    facts = {
        "images_s": {"bare": statistics.median(bares), "run": statistics.median(runs)},
        "share": share, "interval": [low, high], "pairs": len(ratios),
        "outside_the_model_s": statistics.median(outside), "threads": torch.get_num_threads(),
        "px": args.px,
    }  # fmt: skip
    if args.json:
        print(json.dumps(facts))
    else:
        threads = torch.get_num_threads()
        print(
            f"the run keeps {share:.3f} of the bare loop (95 % interval {low:.3f} to {high:.3f}, "
            f"{len(ratios)} pairs, {args.images} pictures a round, {threads} threads, batch {BATCH})"
        )
        print(f"of a picture's time {facts['outside_the_model_s'] * 1e3:.1f} ms passed outside the model")
    return 0 if share >= 0.95 else 1


if __name__ == "__main__":
    raise SystemExit(main())
