"""Samplers by name and the diffusers pipeline over parts that are already loaded."""

from __future__ import annotations

import inspect
from typing import Any

from loratui.families.protocol import Condition, Parts


def make_scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """A fresh scheduler with the base's own noise schedule.

    Args:
        sampler: `ddim`, `euler`, `euler_a` or `dpmpp_2m`.
        config: the base's scheduler config; its class does not matter.
    """
    if sampler == "ddim":
        from diffusers.schedulers.scheduling_ddim import DDIMScheduler as Scheduler
    elif sampler == "euler":
        from diffusers.schedulers.scheduling_euler_discrete import EulerDiscreteScheduler as Scheduler
    elif sampler == "euler_a":
        from diffusers.schedulers.scheduling_euler_ancestral_discrete import (
            EulerAncestralDiscreteScheduler as Scheduler,
        )
    elif sampler == "dpmpp_2m":
        from diffusers.schedulers.scheduling_dpmsolver_multistep import (
            DPMSolverMultistepScheduler as Scheduler,
        )
    else:
        raise ValueError(f"no sampler named {sampler}")
    known = inspect.signature(Scheduler.__init__).parameters
    return Scheduler.from_config({k: v for k, v in config.items() if k in known})


def stable_diffusion_pipeline(parts: Parts, sampler: str) -> Any:
    """A StableDiffusionPipeline over the parts, for embeddings: the text encoder may stay off the device."""
    from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion import StableDiffusionPipeline

    pipeline = StableDiffusionPipeline(
        vae=parts.vae,
        text_encoder=None,
        tokenizer=None,
        unet=parts.denoiser,
        scheduler=make_scheduler(sampler, parts.scheduler),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def stable_diffusion_xl_pipeline(parts: Parts, sampler: str) -> Any:
    """A StableDiffusionXLPipeline over the parts, for embeddings, without the visible watermarker."""
    from diffusers.pipelines.stable_diffusion_xl.pipeline_stable_diffusion_xl import StableDiffusionXLPipeline

    pipeline = StableDiffusionXLPipeline(
        vae=parts.vae,
        text_encoder=None,
        text_encoder_2=None,
        tokenizer=None,
        tokenizer_2=None,
        unet=parts.denoiser,
        scheduler=make_scheduler(sampler, parts.scheduler),
        add_watermarker=False,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def embeddings(prompt: Condition, negative: Condition) -> dict[str, Any]:
    """Keyword arguments of those pipelines for one prompt."""
    return {name: tensor[None] for name, tensor in prompt.items()} | {
        f"negative_{name}": tensor[None] for name, tensor in negative.items()
    }
