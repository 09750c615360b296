r"""The loss of rectified flow, in the papers' notation.

x_t = (1 - sigma) x_0 + sigma eps, sigma in 0 .. 1     Liu et al. 2022, eq. 1; Esser et al. 2024, eq. 2 and 13
v   = d x_t / d sigma = eps - x_0                       Lipman et al. 2023, eq. 23
sigmoid: sigma = 1 / (1 + exp(-(m + s n))), n ~ N(0, 1)  Esser et al. 2024, eq. 19
mode:    sigma = 1 - u - s (cos^2(pi u / 2) - 1 + u)     there, eq. 20, u uniform in 0 .. 1
shift:   sigma' = a sigma / (1 + (a - 1) sigma)          there, eq. 23; a = exp(mu), mu linear in tokens
weighted: u, with the weight exp(-2 (sigma - 1/2)^2) - exp(-1/2), divided by its mean, on each loss

Everywhere else in the trainer a timestep of such a model is t = 1000 sigma, a float.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from loratui.config.schema import ObjectiveConfig
from loratui.train.objective import Objective

STEPS = 1000
"""t = STEPS * sigma."""
_BELL_FLOOR = math.exp(-0.5)
_BELL_MEAN = math.sqrt(math.pi / 2.0) * math.erf(math.sqrt(0.5)) - _BELL_FLOOR


@dataclass(frozen=True, slots=True)
class FlowObjective(Objective):
    """`Objective` for models that predict the velocity; t is a float in 0 .. 1000.

    Attributes:
        alphas_cumprod_T: unused beyond its length, the count of timesteps.
        bell: weigh each loss by the bell curve.
    """

    bell: bool = False

    @classmethod
    def of(cls, config: ObjectiveConfig) -> FlowObjective:
        """The objective of a run."""
        return cls(
            torch.zeros(STEPS), "flow", noise_offset=config.noise_offset, kind=config.loss,
            huber_c=config.huber_c, huber_schedule=config.huber_schedule, mask_floor=config.mask_floor,
            mask_normalize=config.mask_normalize, bell=config.timestep_distribution == "weighted",
        )  # fmt: skip

    def target(self, x0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """The velocity."""
        return eps_BCHW - x0_BCHW

    def weights(self, t_B: Tensor) -> Tensor:
        """Ones, or the bell curve; its mean over uniform timesteps is 1."""
        if not self.bell:
            return torch.ones_like(t_B)
        return (torch.exp(-2.0 * (t_B / STEPS - 0.5).square()) - _BELL_FLOOR) / _BELL_MEAN

    def huber_at(self, t_B: Tensor) -> Tensor:
        """As with noise schedules, with noise and picture at sigma / (1 - sigma)."""
        sigma_B = t_B / STEPS
        if self.huber_schedule == "exponential":
            return self.huber_c**sigma_B
        if self.huber_schedule == "snr":
            return (1.0 - self.huber_c) * (1.0 - sigma_B).square() + self.huber_c
        return torch.full_like(sigma_B, self.huber_c)

    def scales(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """1 - sigma and sigma."""
        sigma_B111 = t_B[:, None, None, None] / STEPS
        return 1.0 - sigma_B111, sigma_B111


@dataclass(frozen=True, slots=True)
class Shift:
    """How far timesteps are moved towards noise.

    Attributes:
        fixed: a, the same for every picture.
        line: (tokens, mu) at two sizes where mu follows the picture's count of tokens, else None.
        exponential: a is exp(mu), not mu.
    """

    fixed: float = 1.0
    line: tuple[tuple[float, float], tuple[float, float]] | None = None
    exponential: bool = True

    @classmethod
    def of(cls, config: ObjectiveConfig, scheduler: Mapping[str, Any]) -> Shift:
        """That of a run: the settings', else what the base's scheduler samples with."""
        if config.shift > 0:
            return cls(config.shift)
        if config.shift_by_area or scheduler.get("use_dynamic_shifting"):
            low = float(scheduler.get("base_image_seq_len", 256)), float(scheduler.get("base_shift", 0.5))
            high = float(scheduler.get("max_image_seq_len", 4096)), float(scheduler.get("max_shift", 1.15))
            return cls(line=(low, high), exponential=scheduler.get("time_shift_type") != "linear")
        return cls(float(scheduler.get("shift") or 1.0))

    def at(self, tokens: float) -> float:
        """a for a picture of so many tokens."""
        if self.line is None:
            return self.fixed
        (x0, y0), (x1, y1) = self.line
        mu = y0 + (tokens - x0) * (y1 - y0) / (x1 - x0)
        return math.exp(mu) if self.exponential else mu


@dataclass(frozen=True, slots=True)
class FlowTimesteps:
    """How timesteps of a flow model are drawn; see the fields of `ObjectiveConfig`.

    Attributes:
        tokens_per_pixel: tokens of the denoiser for a latent pixel: 1 / 4 where it takes 2 x 2 as one.
        low, high: t is in low .. high.
    """

    distribution: str = "sigmoid"
    mean: float = 0.0
    std: float = 1.0
    mode_scale: float = 1.29
    bias: str = "none"
    shift: Shift = Shift()
    tokens_per_pixel: float = 0.25
    low: float = 0.0
    high: float = float(STEPS)

    @classmethod
    def of(cls, config: ObjectiveConfig, scheduler: Mapping[str, Any], patch: int) -> FlowTimesteps:
        """Those of a run on a base whose denoiser takes `patch` x `patch` latent pixels as a token."""
        named = config.timestep_distribution
        plain = "uniform" if config.timestep_bias != "none" else "sigmoid"
        return cls(
            plain if named == "auto" else named, config.sigmoid_mean, config.sigmoid_std, config.mode_scale,
            config.timestep_bias, Shift.of(config, scheduler), 1.0 / patch**2,
            float(config.timestep_min), float(config.timestep_max),
        )  # fmt: skip

    def draw(self, random: torch.Generator, height: int, width: int) -> float:
        """One timestep for latents of that size, from one draw of `random`."""
        if self.distribution == "sigmoid":
            n = float(torch.randn((), generator=random, dtype=torch.float64))
            sigma = 1.0 / (1.0 + math.exp(-(self.mean + self.std * n)))
        else:
            u = float(torch.rand((), generator=random, dtype=torch.float64))
            sigma = {"none": u, "content": 1.0 - u**3, "style": u**3}[self.bias]
            if self.distribution == "mode":
                sigma = 1.0 - u - self.mode_scale * (math.cos(math.pi * u / 2.0) ** 2 - 1.0 + u)
        a = self.shift.at(height * width * self.tokens_per_pixel)
        sigma = a * sigma / (1.0 + (a - 1.0) * sigma)
        return self.low + sigma * (self.high - self.low)
