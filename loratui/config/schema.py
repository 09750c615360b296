"""The settings of a training run: frozen dataclasses, a docstring under each field.

The docstrings are the help text of the form and of `loratui train --help-config`; they give units.
Torch-free. A resolved `RunConfig` is what run.toml holds and what the trainer obeys.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from loratui.weights.networks import NETWORKS

Precision = Literal["bf16", "fp16", "fp32"]
Schedule = Literal["constant", "linear", "cosine"]
Target = Literal["attention", "attention+mlp", "full", "full+conv"]
Sampler = Literal["ddim", "euler", "euler_a", "dpmpp_2m"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The base checkpoint."""

    base: str = ""
    """Diffusers folder, single .safetensors file, Hub id, or `demo` for the bundled model."""
    family: str = "auto"
    """Model family (`loratui families`); `auto` reads it from the checkpoint."""
    vae: str = ""
    """Another VAE to use instead of the base's own: folder or .safetensors file; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """How pictures and captions become batches."""

    resolution: int = 512
    """Training resolution in px: buckets have about this value squared in area."""
    batch_size: int = 1
    """Pictures per forward pass and process."""
    repeats: int = 1
    """How often each picture counts in an epoch; multiplies a kohya folder's own repeats."""
    bucketing: bool = True
    """Group pictures by aspect ratio; off crops all to a square."""
    bucket_step: int = 64
    """Bucket sides are multiples of this many px."""
    min_bucket: int = 256
    """Shortest bucket side in px."""
    max_bucket: int = 1024
    """Longest bucket side in px."""
    flip: bool = False
    """Mirror pictures at random; leave off for faces, text and anything asymmetric."""
    caption_dropout: float = 0.0
    """Share of samples trained with an empty caption, 0 to 1."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkConfig:
    """The LoRA itself."""

    kind: str = "lora"
    """Network type: lora, dora, loha, lokr or oft. Everything loads a lora; not so the others."""
    rank: int = 16
    """Rank r of the update: two matrices of r columns and r rows per layer. OFT has none."""
    alpha: float = 16.0
    """The update is scaled by alpha / rank."""
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
    init: Literal["default", "gaussian", "orthogonal"] = "default"
    """How A begins (B begins at zero): Kaiming uniform, gaussian of deviation 1 / rank; orthogonal gives both
    rows of one orthogonal matrix whose product is zero."""
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
    """Step after which the text encoders learn no more; 0 never stops them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    """Steps, learning rate and the rule of the update."""

    name: str = "adamw"
    """Optimizer."""
    lr: float = 1e-4
    """Peak learning rate."""
    steps: int = 0
    """Optimizer steps; 0 derives them from epochs."""
    epochs: int = 10
    """Passes over the repeated data set; used when steps is 0."""
    accumulation: int = 1
    """Forward passes per optimizer step."""
    schedule: Schedule = "constant"
    """Learning rate after the warm-up."""
    warmup_steps: int = 0
    """Steps over which the learning rate rises from 0."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    beta1: float = 0.9
    """Decay of the first moment."""
    beta2: float = 0.999
    """Decay of the second moment."""
    eps: float = 1e-8
    """Added to the denominator."""
    max_grad_norm: float = 1.0
    """Clip the gradient norm to this; 0 turns clipping off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectiveConfig:
    """What the loss is."""

    seed: int = 42
    """Seed of order, noise, timesteps, dropout and flips."""
    min_snr_gamma: float = 0.0
    """Min-SNR loss weighting (Hang et al. 2023); 5 is usual, 0 turns it off."""
    noise_offset: float = 0.0
    """Per-channel offset added to the noise; about 0.05 lets pictures be darker or brighter."""
    prediction: Literal["auto", "epsilon", "v_prediction"] = "auto"
    """What the U-Net predicts; `auto` reads it from the base."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryConfig:
    """Precision and the trades of speed for memory."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    precision: Precision = "bf16"
    """Autocast precision; the LoRA and its optimizer are fp32 always. fp16 needs CUDA."""
    base_precision: Literal["auto", "bf16", "fp16", "fp32"] = "auto"
    """Precision the frozen base is held in; `auto` follows precision."""
    gradient_checkpointing: bool = False
    """Recompute activations in the backward pass: less memory, about 1.3 times slower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplesConfig:
    """Pictures drawn during training."""

    prompts: tuple[str, ...] = ()
    """Prompts; `{trigger}` stands for the project's trigger. Empty takes the project's."""
    negative: str = ""
    """Negative prompt."""
    every: int = 250
    """Draw samples each so many steps, and at step 0; 0 never."""
    steps: int = 20
    """Sampler steps."""
    guidance: float = 7.0
    """Classifier-free guidance scale."""
    sampler: Sampler = "ddim"
    """Sampler."""
    seed: int = 1
    """Seed of the first prompt; the next ones count up."""
    width: int = 0
    """Width in px; 0 takes data.resolution."""
    height: int = 0
    """Height in px; 0 takes data.resolution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SavingConfig:
    """Checkpoints and the exported file."""

    every: int = 250
    """Write a checkpoint each so many steps; the last step always."""
    keep: int = 3
    """Checkpoints kept, newest first; at least 2."""
    name: str = ""
    """Stem of the exported file; empty takes the project's name."""
    dtype: Literal["fp16", "bf16", "fp32"] = "fp16"
    """Precision of the exported file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunConfig:
    """All settings of one run."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    saving: SavingConfig = field(default_factory=SavingConfig)


SHORT_NAMES: dict[str, str] = {
    "base": "model.base",
    "steps": "optimizer.steps",
    "epochs": "optimizer.epochs",
    "batch_size": "data.batch_size",
    "lr": "optimizer.lr",
    "rank": "network.rank",
    "alpha": "network.alpha",
    "resolution": "data.resolution",
    "optimizer": "optimizer.name",
    "network": "network.kind",
    "seed": "objective.seed",
    "precision": "memory.precision",
    "save_every": "saving.every",
    "sample_every": "samples.every",
}
"""The everyday keys that `--set` also takes."""

RANGES: dict[str, tuple[float | None, float | None]] = {
    "data.resolution": (8, 8192),
    "data.batch_size": (1, 4096),
    "data.repeats": (1, 100000),
    "data.bucket_step": (8, 1024),
    "data.min_bucket": (8, 8192),
    "data.max_bucket": (8, 16384),
    "data.caption_dropout": (0, 1),
    "network.rank": (1, 4096),
    "network.alpha": (0, None),
    "network.conv_rank": (0, 4096),
    "network.conv_alpha": (0, None),
    "network.lora_plus": (0.001, 1000),
    "network.scale_norm": (0, 1000),
    "network.factor": (-1, 4096),
    "network.block_size": (2, 4096),
    "network.rank_dropout": (0, 0.99),
    "network.module_dropout": (0, 0.99),
    "network.text_lr": (0, 100),
    "network.text_lr_2": (0, 100),
    "network.text_stop": (0, 10_000_000),
    "network.dropout": (0, 0.99),
    "optimizer.lr": (0, 100),
    "optimizer.steps": (0, 10_000_000),
    "optimizer.epochs": (1, 1_000_000),
    "optimizer.accumulation": (1, 100_000),
    "optimizer.warmup_steps": (0, 10_000_000),
    "optimizer.weight_decay": (0, 10),
    "optimizer.beta1": (0, 0.9999999),
    "optimizer.beta2": (0, 0.9999999),
    "optimizer.eps": (0, 1),
    "optimizer.max_grad_norm": (0, None),
    "objective.seed": (0, 2**63 - 1),
    "objective.min_snr_gamma": (0, 1000),
    "objective.noise_offset": (0, 1),
    "samples.every": (0, 10_000_000),
    "samples.steps": (1, 1000),
    "samples.guidance": (0, 100),
    "samples.seed": (0, 2**63 - 1),
    "samples.width": (0, 8192),
    "samples.height": (0, 8192),
    "saving.every": (1, 10_000_000),
    "saving.keep": (2, 100_000),
}
"""Smallest and largest value of a number, both allowed; None for no bound."""

POSITIVE: frozenset[str] = frozenset({"network.alpha", "optimizer.lr", "optimizer.eps"})
"""Numbers that must be above zero."""

CHOICES: dict[str, tuple[str, ...]] = {
    "network.kind": tuple(n.name for n in NETWORKS),
    "optimizer.name": ("adamw",),
}
"""Values of text fields whose list grows with the tables of networks and optimizers."""


def choices(annotation: Any) -> tuple[str, ...]:
    """The values a Literal field takes, empty for other types."""
    return (
        tuple(str(v) for v in get_args(annotation))
        if getattr(annotation, "__origin__", None) is Literal
        else ()
    )
