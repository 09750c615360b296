r"""The loss of denoising diffusion, in the papers' notation.

q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)                    Ho et al. 2020, eq. 4
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps
v   = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0                         Salimans & Ho 2022, section 4 and app. D
SNR(t) = abar_t / (1 - abar_t)                                        Kingma et al. 2021, eq. 2
min-SNR: the weight min(SNR, gamma) on the x_0 loss, which is         Hang et al. 2023, section 3.4
    min(SNR, gamma) / SNR on eps,  min(SNR, gamma) / (SNR + 1) on v
noise offset: eps + o * n with one n ~ N(0, 1) per sample and channel  Guttenberg 2023
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from loratui.config.schema import ObjectiveConfig


@dataclass(frozen=True, slots=True)
class Objective:
    """Turns latents and draws into what the denoiser sees, and its answer into a loss.

    Attributes:
        alphas_cumprod_T: abar_t for t = 0 .. T-1, in the precision the loss is computed in.
        prediction: `epsilon` or `v_prediction`.
        min_snr_gamma: 0 for no weighting.
        noise_offset: 0 for none.
    """

    alphas_cumprod_T: Tensor
    prediction: str
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0

    @classmethod
    def from_config(cls, config: ObjectiveConfig, alphas_cumprod_T: Tensor, prediction: str) -> Objective:
        """The objective of a run on a base."""
        return cls(alphas_cumprod_T, prediction, config.min_snr_gamma, config.noise_offset)

    def to(self, device: torch.device) -> Objective:
        """The same with its table on the device."""
        return Objective(
            self.alphas_cumprod_T.to(device), self.prediction, self.min_snr_gamma, self.noise_offset
        )

    def noise(self, eps_BCHW: Tensor, offset_BC: Tensor) -> Tensor:
        """eps with the noise offset added."""
        if self.noise_offset == 0.0:
            return eps_BCHW
        return eps_BCHW + self.noise_offset * offset_BC[:, :, None, None]

    def diffuse(self, x0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """x_t."""
        a, s = self._scales(t_B)
        return a * x0_BCHW + s * eps_BCHW

    def target(self, x0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """What the denoiser should answer: eps, or v."""
        if self.prediction == "epsilon":
            return eps_BCHW
        a, s = self._scales(t_B)
        return a * eps_BCHW - s * x0_BCHW

    def weights(self, t_B: Tensor) -> Tensor:
        """Min-SNR weight of each sample, [B]."""
        if self.min_snr_gamma <= 0.0:
            return torch.ones_like(t_B, dtype=self.alphas_cumprod_T.dtype)
        abar_B = self.alphas_cumprod_T[t_B]
        snr_B = abar_B / (1.0 - abar_B)
        clamped_B = snr_B.clamp(max=self.min_snr_gamma)
        if self.prediction == "epsilon":
            # abar_T = 0 (zero terminal SNR) would be 0/0: the limit of the weight there is 1.
            return torch.where(snr_B > 0, clamped_B / snr_B.clamp_min(1e-20), torch.ones_like(snr_B))
        return clamped_B / (snr_B + 1.0)

    def loss(self, answer_BCHW: Tensor, target_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Mean over the batch of the weighted squared error, in the precision of the target."""
        error_B = (answer_BCHW.to(target_BCHW.dtype) - target_BCHW).square().mean(dim=(1, 2, 3))
        return (self.weights(t_B) * error_B).mean()

    def _scales(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        abar_B111 = self.alphas_cumprod_T[t_B][:, None, None, None]
        return abar_B111.sqrt(), (1.0 - abar_B111).sqrt()
