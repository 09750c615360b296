"""Build the demo's base pipeline, scorer and mascot from nothing but drawings, on a CPU.

    python tools/build_demo_base.py --work WORK [STAGE ...]

The stages are codec, tokenizer, latents, unet, judge, scorer, mascot, export and evaluate. They run in the
given order (all of them without one), and the long ones continue where they stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

TOOLS = Path(__file__).parent
sys.path.insert(0, str(TOOLS))

DEMO = TOOLS.parent / "loratui" / "demo"
STAGES = ("codec", "tokenizer", "latents", "unet", "judge", "scorer", "mascot", "export", "evaluate")


def export_stage(work: Path, base: Path) -> None:
    """Write the running means of the trained weights as a pipeline."""
    from export_base import export, load_tokenizer, new_text_encoder, new_unet, pipeline
    from safetensors.torch import load_file
    from train_codec import load_codec
    from train_unet import part, scaling_factor

    codec, tokenizer = load_codec(work), load_tokenizer(work / "tokenizer")
    codec.register_to_config(scaling_factor=scaling_factor(work))
    flat = load_file(work / "unet.safetensors")
    unet, text = new_unet(), new_text_encoder(tokenizer)
    unet.load_state_dict(part(flat, "ema_unet"))
    text.load_state_dict(part(flat, "ema_text"))
    export(pipeline(codec, text, tokenizer, unet), work / "tokenizer", base)


def run_stage(stage: str, args: argparse.Namespace) -> None:
    """Run one stage."""
    work, out = args.work, args.out
    if stage == "codec":
        from train_codec import train_codec

        train_codec(work, args.codec_steps)
    elif stage == "tokenizer":
        from train_tokenizer import build_tokenizer

        build_tokenizer(work / "tokenizer")
    elif stage == "latents":
        from train_unet import cache_latents

        cache_latents(work, args.shards)
    elif stage == "unet":
        from train_unet import train_unet

        train_unet(work, args.unet_seconds)
    elif stage == "judge":
        from train_judges import train_judge

        train_judge(work)
    elif stage == "scorer":
        from train_judges import train_scorer

        train_scorer(work, out / "scorer")
    elif stage == "mascot":
        from mascot import write_pictures

        write_pictures(out / "pictures")
    elif stage == "export":
        export_stage(work, out / "base")
    else:
        from evaluate_base import evaluate

        evaluate(work, out / "base")


def main() -> None:
    """Run the chosen stages."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--out", type=Path, default=DEMO, help="where base/, scorer/ and pictures/ go")
    parser.add_argument("--codec-steps", type=int, default=4300)
    parser.add_argument("--shards", type=int, default=20, help="shards of 2,000 drawings")
    parser.add_argument("--unet-seconds", type=float, default=4900, help="length of the U-Net's training")
    parser.add_argument("stages", nargs="*", choices=STAGES, default=STAGES, metavar="stage")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for stage in args.stages:
        print(f"== {stage}", flush=True)
        run_stage(stage, args)


if __name__ == "__main__":
    main()
