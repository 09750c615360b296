"""A bare training loop as a program of its own, for `launch.py`: imports what it needs, maps the weights.

    python benchmarks/bare.py UNET_FOLDER DATA STEPS BATCH fp32|bf16 OUT

UNET_FOLDER is a diffusers U-Net, DATA a .safetensors file with `latents` and `text` of as many pictures. The
U-Net is built without weights and given those of its file, so nothing is loaded or initialised twice. LoRA of
rank 8 on q, k, v and out, fused AdamW, nothing logged; the LoRA is saved at the end. Prints the unix time at
which the first step was done.
"""

import json
import sys
import time
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from peft import LoraConfig, inject_adapter_in_model
from safetensors.torch import load_file, save_file


def main() -> None:
    """Command line."""
    folder, data, steps, batch, precision, out = sys.argv[1:]
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
    with torch.device("meta"):
        unet = UNet2DConditionModel.from_config(config)
    weights = load_file(Path(folder) / "diffusion_pytorch_model.safetensors")
    unet.load_state_dict({name: weights.pop(name).to(dtype) for name in list(weights)}, assign=True)
    unet.requires_grad_(False).eval()
    settings = LoraConfig(r=8, lora_alpha=8, target_modules=["to_q", "to_k", "to_v", "to_out.0"])
    inject_adapter_in_model(settings, unet)
    trained = {name: p for name, p in unet.named_parameters() if p.requires_grad}
    for parameter in trained.values():
        parameter.data = parameter.data.float()
    optimizer = torch.optim.AdamW(trained.values(), lr=1e-4, fused=True)
    pictures = load_file(data)
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    table = (1 - betas).cumprod(0)
    for step in range(int(steps)):
        chosen = torch.randint(len(pictures["latents"]), (int(batch),))
        x0, text = pictures["latents"][chosen], pictures["text"][chosen]
        eps, at = torch.randn_like(x0), torch.randint(1000, (int(batch),))
        abar = table[at][:, None, None, None]
        with torch.autocast("cpu", torch.bfloat16) if precision == "bf16" else nullcontext():
            answer = unet(abar.sqrt() * x0 + (1 - abar).sqrt() * eps, at, text).sample
        F.mse_loss(answer.float(), eps).backward()
        optimizer.step()
        optimizer.zero_grad()
        if step == 0:
            print(time.time(), flush=True)
    save_file({name: p.detach() for name, p in trained.items()}, out)


main()
