"""[network]: the LoRA itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratui.weights.networks import NETWORKS

Target = Literal["attention", "attention+mlp", "full", "full+conv"]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The LoRA itself."""

    kind: str = "lora"
    """Network type: lora, dora, loha, lokr or oft. Everything loads a lora; not so the others."""
    rank: int = 16
    """Rank r of the update: two matrices of r columns and r rows per layer. OFT has none."""
    alpha: float = 16.0
    """The update is scaled by alpha / rank."""
    start_from: str = ""
    """LoRA or DoRA file (kohya or PEFT) to go on from instead of from nothing; same layers and ranks."""
    target: Target = "attention"
    """Which layers get an update: attention, attention+mlp, full (projections too), or full+conv
    (the convolutions and time projections of the residual blocks too, as LoCon does)."""
    conv_rank: int = 0
    """Rank of the update of 3x3 convolutions with target full+conv; 0 takes rank."""
    conv_alpha: float = 0.0
    """Numerator of their scale conv_alpha / conv_rank; 0 takes alpha."""
    ranks: tuple[str, ...] = ()
    """Other ranks by pattern, such as `down_blocks.0=4` or `attn2=32`: a regular expression searched in the
    module's name; the last that fits wins, alpha scales along, rank 0 leaves the module out."""
    rates: tuple[str, ...] = ()
    """Learning rates by pattern, as a multiple of the usual one, such as `mid_block=0.5` or `attn1=0`."""
    rank_stabilized: bool = False
    """Scale by alpha / sqrt(rank) instead of alpha / rank (rsLoRA): for high ranks."""
    init: Literal["default", "gaussian", "orthogonal", "eva", "pissa", "olora", "loftq"] = "default"
    """How A and B begin. default: Kaiming uniform, B zero. gaussian: deviation 1 / rank, B zero. orthogonal:
    rows of one orthogonal matrix, product zero. eva: the main directions of what each layer sees in the first
    batches, B zero. pissa, olora: the largest part of the base's own weights, by SVD or QR. loftq: what
    quantising took from the base. With the last three, files have twice the rank: they hold the way from
    there to what was trained."""
    init_rounds: int = 0
    """pissa: rounds of a fast approximation (peft's pissa_niter_N; 4 is usual), 0 decomposes in full: exact,
    and minutes for a large base on the CPU."""
    lora_plus: float = 1.0
    """Learning rate of B over that of A (LoRA+); 16 is usual, 1 turns it off."""
    scale_norm: float = 0.0
    """After each step, shrink updates whose norm is above this; about 1 is usual, 0 turns it off."""
    tucker: bool = False
    """LoHa and LoKr: factor 3x3 convolutions over their kernel too; smaller files."""
    factor: int = -1
    """LoKr: size of the smaller Kronecker factor; -1 takes the one nearest to the square root."""
    decompose_both: bool = False
    """LoKr: low rank for the smaller factor as well."""
    block_size: int = 32
    """OFT: side of the orthogonal blocks; divides the layer's width, else the nearest that does is taken."""
    dropout: float = 0.0
    """Dropout on the input of the update, 0 to 1. LoRA and DoRA."""
    rank_dropout: float = 0.0
    """Share of the update's rows left out at each step, 0 to 1. LoHa and LoKr."""
    module_dropout: float = 0.0
    """Share of modules whose update is left out at each step, 0 to 1. LoHa and LoKr; blocks with OFT."""
    text_encoder: bool = False
    """Train the text encoders too. Captions are then encoded anew at each step."""
    text_lr: float = 0.0
    """Learning rate of the text encoder; 0 takes half of optimizer.lr."""
    text_lr_2: float = 0.0
    """Learning rate of SDXL's second text encoder; 0 takes text_lr."""
    text_stop: int = 0
    """Step after which text encoders and new tokens learn no more; 0 never stops them."""
    tokens: int = 0
    """New tokens that stand for the trigger and whose embeddings are trained (textual inversion), beside the
    network (pivotal tuning) or alone with tokens_only; 4 is usual, 0 for none."""
    tokens_only: bool = False
    """Train the new tokens alone, without a network: the result is an embedding file."""
    token_init: str = ""
    """Words whose embeddings the new tokens begin with, such as `person`; empty begins at random."""
    token_lr: float = 0.0
    """Learning rate of the new tokens; 0 takes optimizer.lr."""

    @property
    def trains_text(self) -> bool:
        """Whether what captions are encoded to changes during the training."""
        return self.text_encoder or self.tokens > 0


SHORT_NAMES: dict[str, str] = {
    "rank": "rank",
    "alpha": "alpha",
    "network": "kind",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "rank": (1, 4096),
    "alpha": (0, None),
    "conv_rank": (0, 4096),
    "conv_alpha": (0, None),
    "init_rounds": (0, 100),
    "lora_plus": (0.001, 1000),
    "scale_norm": (0, 1000),
    "factor": (-1, 4096),
    "block_size": (2, 4096),
    "rank_dropout": (0, 0.99),
    "module_dropout": (0, 0.99),
    "text_lr": (0, 100),
    "text_lr_2": (0, 100),
    "text_stop": (0, 10_000_000),
    "tokens": (0, 64),
    "token_lr": (0, 100),
    "dropout": (0, 0.99),
}
POSITIVE: frozenset[str] = frozenset({"alpha"})
CHOICES: dict[str, tuple[str, ...]] = {"kind": tuple(n.name for n in NETWORKS)}
