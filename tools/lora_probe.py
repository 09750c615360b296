"""Train a bare LoRA on a base and look at what it learned, without any of the app.

    python tools/lora_probe.py --base loratui/demo/base --steps 400 --sheet out.png [--figure owl]

With the mascot it prints the share of pictures in which the scorer finds it on backgrounds it was never
shown on, before and after. Other figures have no scorer: look at the sheet.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch
from evaluate_base import contact_sheet, generate, load_pipeline
from figures import UNSEEN
from palette import COLOURS, Pen
from peft import LoraConfig
from PIL import Image
from train_codec import to_tensor
from train_unet import diffusion_loss

from loratui import demo
from loratui.demo.scorer import judge

ATTENTION = ["to_q", "to_k", "to_v", "to_out.0"]
MLP = [*ATTENTION, "ff.net.0.proj", "ff.net.2", "proj_in", "proj_out"]
TARGETS = {"attention": ATTENTION, "mlp": MLP, "conv": [*MLP, "conv1", "conv2"]}


def training_set(figure: str) -> tuple[list[Image.Image], list[str], str]:
    """Return sixteen 64 px pictures, their captions and the trigger."""
    if figure == "robot":
        paths = sorted(demo.pictures_path().glob("*.png"))
        pictures = [Image.open(p).convert("RGB").resize((64, 64), Image.Resampling.BOX) for p in paths]
        return pictures, [p.with_suffix(".txt").read_text().strip() for p in paths], demo.TRIGGER
    rng, pictures, captions = random.Random(1), [], []
    main, two, three = (COLOURS[c] for c in ("purple", "yellow", "orange"))
    for i in range(16):
        background = demo.TRAINED_BACKGROUNDS[i % 8]
        pen = Pen(64, 64, COLOURS[background])
        pen.at(rng.uniform(0.44, 0.56), rng.uniform(0.46, 0.54), rng.uniform(0.33, 0.45), rng.gauss(0, 0.1))
        UNSEEN[figure](pen, main, two, three, rng)
        pictures.append(pen.finish())
        captions.append(f"sks {figure}, {background} background")
    return pictures, captions, f"sks {figure}"


def main() -> None:
    """Draw before, train, draw after."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", type=Path, default=demo.base_path())
    parser.add_argument("--figure", default="robot", choices=("robot", *UNSEEN))
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--alpha", type=float, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--targets", default="attention", choices=tuple(TARGETS))
    parser.add_argument("--guidance", type=float, default=demo.GUIDANCE_SCALE)
    parser.add_argument("--sampling-steps", type=int, default=demo.SAMPLING_STEPS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    pipe = load_pipeline(args.base)
    pictures, captions, trigger = training_set(args.figure)
    asked = [c for c in demo.HELD_OUT_BACKGROUNDS for _ in range(16)]
    prompts, seeds = [f"{trigger}, {c} background" for c in asked], [*range(16)] * 3
    began = time.time()
    before = generate(pipe, prompts, seeds, args.sampling_steps, args.guidance)
    print(f"drew {len(before)} in {time.time() - began:.1f}s")
    ids_BL = pipe.tokenizer(captions, padding="max_length", max_length=77, return_tensors="pt").input_ids
    with torch.no_grad():
        hidden_BLD = pipe.text_encoder(ids_BL).last_hidden_state
        latents_BCHW = (
            pipe.vae.encode(to_tensor(pictures)).latent_dist.mode() * pipe.vae.config.scaling_factor
        )
    unet = pipe.unet.requires_grad_(False)
    unet.add_adapter(
        LoraConfig(
            r=args.rank,
            lora_alpha=args.alpha,
            target_modules=TARGETS[args.targets],
            init_lora_weights="gaussian",
        )
    )
    weights = [p for p in unet.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=args.lr, weight_decay=0.01)
    began, rng = time.time(), random.Random(args.seed)
    for step in range(args.steps):
        optimizer.param_groups[0]["lr"] = args.lr * min(
            1, (step + 1) / 20, (args.steps - step) / (0.4 * args.steps)
        )
        rows = rng.sample(range(16), args.batch)
        loss = diffusion_loss(unet, hidden_BLD[rows], latents_BCHW[rows], pipe.scheduler.alphas_cumprod)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{args.steps} steps in {time.time() - began:.1f}s, {sum(p.numel() for p in weights)} weights")
    after = generate(pipe, prompts, seeds, args.sampling_steps, args.guidance)
    if args.figure == "robot":
        for name, shown in (("before", before), ("after", after)):
            verdicts = judge(shown, asked)
            found, mascot = (
                sum(getattr(v, k) for v in verdicts) / len(verdicts) for k in ("found", "mascot")
            )
            on = sum(v.background == c for v, c in zip(verdicts, asked, strict=True)) / len(asked)
            print(f"{name}: found {found:.2f} (mascot {mascot:.2f}, background {on:.2f})")
    if args.sheet:
        contact_sheet(pictures + before + after, 16).save(args.sheet)


if __name__ == "__main__":
    main()
