r"""The loss of denoising diffusion, in the papers' notation.

q(x_t | x_0) = N(sqrt(abar_t) x_0, (1 - abar_t) I)                    Ho et al. 2020, eq. 4
x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps
v   = sqrt(abar_t) eps - sqrt(1 - abar_t) x_0                         Salimans & Ho 2022, section 4 and app. D
SNR(t) = abar_t / (1 - abar_t)                                        Kingma et al. 2021, eq. 2
min-SNR: the weight min(SNR, gamma) on the x_0 loss, which is         Hang et al. 2023, section 3.4
    min(SNR, gamma) / SNR on eps,  min(SNR, gamma) / (SNR + 1) on v
noise offset: eps + o * n with one n ~ N(0, 1) per sample and channel  Guttenberg 2023
debiased: the weight 1 / sqrt(SNR) on eps                              Yu et al. 2023, eq. 13
P2: the weight 1 / (1 + SNR)^gamma on eps                              Choi et al. 2022, eq. 8
a weight w on eps is w abar_t on v, as eps - eps' = sqrt(abar_t) (v - v')
pseudo-Huber: 2 c (sqrt(d^2 + c^2) - c), c = c(t)                      Khrapov et al. 2024, eq. 4
multires noise: (eps + sum_i d^i up(n_i)) / its deviation               Whitaker 2023
input perturbation: x_t from eps + gamma xi, target from eps           Ning et al. 2023, eq. 9
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
        weighting, p2_gamma: `none`, `debiased` or `p2`.
        kind, huber_c, huber_schedule: `l2`, `huber` or `smooth_l1`, and where it turns straight.
        mask_floor, mask_normalize: see `ObjectiveConfig`.
    """

    alphas_cumprod_T: Tensor
    prediction: str
    min_snr_gamma: float = 0.0
    noise_offset: float = 0.0

    weighting: str = "none"
    p2_gamma: float = 1.0
    kind: str = "l2"
    huber_c: float = 0.1
    huber_schedule: str = "snr"
    mask_floor: float = 0.0
    mask_normalize: bool = True

    @classmethod
    def from_config(cls, config: ObjectiveConfig, alphas_cumprod_T: Tensor, prediction: str) -> Objective:
        """The objective of a run on a base."""
        return cls(
            alphas_cumprod_T, prediction, config.min_snr_gamma, config.noise_offset, config.weighting,
            config.p2_gamma, config.loss, config.huber_c, config.huber_schedule, config.mask_floor,
            config.mask_normalize,
        )  # fmt: skip

    def to(self, device: torch.device) -> Objective:
        """The same with its table on the device."""
        return replace(self, alphas_cumprod_T=self.alphas_cumprod_T.to(device))

    def noise(self, eps_BCHW: Tensor, offset_BC: Tensor) -> Tensor:
        """eps with the noise offset added."""
        if self.noise_offset == 0.0:
            return eps_BCHW
        return eps_BCHW + self.noise_offset * offset_BC[:, :, None, None]

    def diffuse(self, x0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """x_t."""
        a, s = self.scales(t_B)
        return a * x0_BCHW + s * eps_BCHW

    def target(self, x0_BCHW: Tensor, eps_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """What the denoiser should answer: eps, or v."""
        if self.prediction == "epsilon":
            return eps_BCHW
        a, s = self.scales(t_B)
        return a * eps_BCHW - s * x0_BCHW

    def weights(self, t_B: Tensor) -> Tensor:
        """Weight of each sample by its timestep, [B]."""
        if self.weighting != "none":
            return self._other_weights(t_B)
        if self.min_snr_gamma <= 0.0:
            return torch.ones_like(t_B, dtype=self.alphas_cumprod_T.dtype)
        abar_B = self.alphas_cumprod_T[t_B]
        snr_B = abar_B / (1.0 - abar_B)
        clamped_B = snr_B.clamp(max=self.min_snr_gamma)
        if self.prediction == "epsilon":
            # abar_T = 0 (zero terminal SNR) would be 0/0: the limit of the weight there is 1.
            return torch.where(snr_B > 0, clamped_B / snr_B.clamp_min(1e-20), torch.ones_like(snr_B))
        return clamped_B / (snr_B + 1.0)

    def _other_weights(self, t_B: Tensor) -> Tensor:
        abar_B = self.alphas_cumprod_T[t_B]
        snr_B = abar_B / (1.0 - abar_B)
        if self.weighting == "debiased":
            # sqrt(SNR) / (SNR + 1) on v is finite where all is noise; 1 / sqrt(SNR) on eps would not be.
            if self.prediction == "v_prediction":
                return snr_B.sqrt() / (snr_B + 1.0)
            return snr_B.clamp_min(1e-6).rsqrt()
        weight_B = (1.0 + snr_B) ** -self.p2_gamma
        return weight_B if self.prediction == "epsilon" else weight_B * abar_B

    def losses(
        self, answer_BCHW: Tensor, target_BCHW: Tensor, t_B: Tensor, mask_BHW: Tensor | None = None,
        weight_B: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """Weighted loss of each sample, [B], in the precision of the target.

        Args:
            answer_BCHW: the denoiser's output.
            target_BCHW: from `target`.
            t_B: timesteps.
            mask_BHW: 0 to 1; None for none.
            weight_B: of each picture; None for 1.
        """
        d_BCHW = answer_BCHW.to(target_BCHW.dtype) - target_BCHW
        error_BCHW = d_BCHW.square() if self.kind == "l2" else self._huber(d_BCHW, t_B)
        if mask_BHW is not None:
            mask_BHW = self.mask_floor + (1.0 - self.mask_floor) * mask_BHW.to(error_BCHW.dtype)
            if self.mask_normalize:
                mask_BHW = mask_BHW / mask_BHW.mean(dim=(1, 2), keepdim=True).clamp_min(1e-6)
            error_BCHW = error_BCHW * mask_BHW[:, None]
        losses_B = self.weights(t_B) * error_BCHW.mean(dim=(1, 2, 3))
        return losses_B if weight_B is None else losses_B * weight_B

    def loss(self, answer_BCHW: Tensor, target_BCHW: Tensor, t_B: Tensor) -> Tensor:
        """Mean of `losses` over the batch."""
        return self.losses(answer_BCHW, target_BCHW, t_B).mean()

    def _huber(self, d_BCHW: Tensor, t_B: Tensor) -> Tensor:
        c_B111 = self.huber_at(t_B).to(d_BCHW.dtype)[:, None, None, None]
        scale = 2.0 * c_B111 if self.kind == "huber" else 2.0
        return scale * ((d_BCHW.square() + c_B111.square()).sqrt() - c_B111)

    def huber_at(self, t_B: Tensor) -> Tensor:
        """Where pseudo-Huber turns straight, [B]."""
        abar_B = self.alphas_cumprod_T[t_B]
        if self.huber_schedule == "exponential":
            return self.huber_c ** (t_B.to(abar_B.dtype) / len(self.alphas_cumprod_T))
        if self.huber_schedule == "snr":
            # sigma = inf where all is noise: (1 + sigma)^-2 is 0 there
            sigma_B = ((1.0 - abar_B) / abar_B).sqrt()
            return (1.0 - self.huber_c) / (1.0 + sigma_B) ** 2 + self.huber_c
        return torch.full_like(abar_B, self.huber_c)

    def scales(self, t_B: Tensor) -> tuple[Tensor, Tensor]:
        """What x_0 and eps are multiplied by, [B, 1, 1, 1] each."""
        abar_B111 = self.alphas_cumprod_T[t_B][:, None, None, None]
        return abar_B111.sqrt(), (1.0 - abar_B111).sqrt()
