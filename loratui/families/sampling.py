"""Samplers by name and the diffusers pipeline over parts that are already loaded."""

from __future__ import annotations

from typing import Any

from loratui.families.protocol import Condition, Parts


def make_scheduler(sampler: str, config: dict[str, Any]) -> Any:
    """A fresh scheduler with the base's own noise schedule.

    Args:
        sampler: `ddim`, `euler`, `euler_a` or `dpmpp_2m`.
        config: the base's scheduler config; its class does not matter.
    """
    settings = {k: v for k, v in config.items() if not k.startswith("_") and k != "skip_prk_steps"}
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
    return Scheduler.from_config(settings)


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


def embeddings(prompt: Condition, negative: Condition) -> dict[str, Any]:
    """Keyword arguments of that pipeline for one prompt."""
    return {
        "prompt_embeds": prompt["prompt_embeds"][None],
        "negative_prompt_embeds": negative["prompt_embeds"][None],
    }
