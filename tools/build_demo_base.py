"""Build the demo's base pipeline, scorer and figures from nothing but drawings, on a CPU.

    python tools/build_demo_base.py --work WORK codec tokenizer latents unet judge scorer export evaluate

Stages run in the given order (all of them without an argument) and continue where they stopped.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))


def main() -> None:
    """Run the chosen stages."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder for data and checkpoints")
    parser.add_argument("--codec-steps", type=int, default=3000)
    parser.add_argument("stages", nargs="+")
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for stage in args.stages:
        if stage == "codec":
            from train_codec import train_codec

            train_codec(args.work, args.codec_steps)


if __name__ == "__main__":
    main()
