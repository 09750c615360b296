"""Rules across settings: combinations that cannot work, and ones that are known to disappoint."""

from __future__ import annotations

from loratui.config.memory_checks import check_compiler, check_memory
from loratui.config.patterns import parse
from loratui.config.schema import NetworkConfig, ObjectiveConfig, RunConfig
from loratui.errors import Problem
from loratui.optim.options import parse as parse_options
from loratui.optim.spec import optimizer_spec
from loratui.weights.networks import NETWORKS, OPTIONAL, network_spec

LATENT_FACTOR = 8
"""Sides of every picture are multiples of this many px, for every family here."""


def check(config: RunConfig) -> list[Problem]:
    """Errors and warnings about settings that are each fine alone."""
    return [
        *_buckets(config), *_device(config), *check_memory(config), *_training(config),
        *_network(config.network), *_samples(config),
    ]  # fmt: skip


def check_device(config: RunConfig, cuda: bool) -> list[Problem]:
    """What `check` cannot know before the machine is looked at.

    Args:
        config: the settings.
        cuda: whether this machine has a CUDA device.
    """
    device, found = config.memory.device, check_compiler(config)
    if device == "auto" and not cuda:
        return [*found, *_needs_cuda(config, "this machine has no CUDA device")]
    if device.startswith("cuda") and not cuda:
        return [
            *found,
            _error(
                "memory.device",
                "no-cuda",
                f"{device} is asked for and this machine has no CUDA device.",
                "Set memory.device to cpu or auto, or see `loratui doctor`.",
            ),
        ]
    return found


def _error(path: str, code: str, message: str, advice: str = "") -> Problem:
    return Problem(path, code, "error", message, advice=advice)


def _warning(path: str, code: str, message: str, advice: str = "") -> Problem:
    return Problem(path, code, "warning", message, advice=advice)


def _buckets(config: RunConfig) -> list[Problem]:
    data = config.data
    found: list[Problem] = []
    step = data.bucket_step
    if step % LATENT_FACTOR:
        found.append(
            _error("data.bucket_step", "not-divisible", f"{step} px is not a multiple of {LATENT_FACTOR}.")
        )
        return found
    sides = [("data.resolution", data.resolution)]
    if data.bucketing:
        sides += [("data.min_bucket", data.min_bucket), ("data.max_bucket", data.max_bucket)]
    for path, side in sides:
        if side % step:
            below, above = side // step * step, (side // step + 1) * step
            near = f"{below} or {above}" if below else f"{above}"
            found.append(
                _error(
                    path,
                    "not-divisible",
                    f"{side} px is not a multiple of data.bucket_step {step}.",
                    f"Use {near}.",
                )
            )
    if data.bucketing and data.min_bucket > data.resolution:
        message = f"{data.min_bucket} px is above data.resolution {data.resolution}."
        found.append(_error("data.min_bucket", "bucket-range", message, "Make it smaller."))
    if data.bucketing and data.max_bucket < data.resolution:
        message = f"{data.max_bucket} px is below data.resolution {data.resolution}."
        found.append(_error("data.max_bucket", "bucket-range", message, "Make it larger."))
    return found


def _needs_cuda(config: RunConfig, why: str) -> list[Problem]:
    advice = "Use bf16 or fp32."
    if config.memory.precision == "fp16":
        return [_error("memory.precision", "fp16-needs-cuda", f"fp16 needs CUDA, and {why}.", advice)]
    if config.memory.base_precision == "fp16":
        return [_error("memory.base_precision", "fp16-needs-cuda", f"fp16 needs CUDA, and {why}.", advice)]
    return []


def _device(config: RunConfig) -> list[Problem]:
    device = config.memory.device
    kind, _, index = device.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (index and (kind != "cuda" or not index.isdecimal())):
        return [
            _error(
                "memory.device",
                "bad-device",
                f"{device!r} is not a device.",
                "Use auto, cpu, cuda or cuda:N.",
            )
        ]
    return _needs_cuda(config, "the device is the CPU") if kind == "cpu" else []


def _training(config: RunConfig) -> list[Problem]:
    found: list[Problem] = []
    optimizer, network = config.optimizer, config.network
    if optimizer.steps and optimizer.warmup_steps >= optimizer.steps:
        message = (
            f"{optimizer.warmup_steps} steps of warm-up are not less than the run's {optimizer.steps} steps."
        )
        found.append(
            _error("optimizer.warmup_steps", "warmup-too-long", message, "Make the warm-up shorter.")
        )
    found += _optimizer(config)
    if network.alpha > 4 * network.rank:
        message = f"alpha {network.alpha:g} with rank {network.rank} multiplies the update by more than 4."
        found.append(_warning("network.alpha", "alpha-high", message, "Use at most the rank, or a lower lr."))
    if config.data.caption_dropout > 0.5:
        share = f"{config.data.caption_dropout:.0%}"
        found.append(
            _warning(
                "data.caption_dropout",
                "dropout-high",
                f"{share} of the captions are never seen.",
                "0.1 is usual.",
            )
        )
    found += _objective(config.objective)
    if config.objective.noise_offset > 0.2:
        found.append(
            _warning(
                "objective.noise_offset",
                "noise-offset-high",
                "above 0.2 washes colours out.",
                "0.05 is usual.",
            )
        )
    return found


def _optimizer(config: RunConfig) -> list[Problem]:
    """What goes with the chosen optimizer and schedule."""
    found: list[Problem] = []
    optimizer, network = config.optimizer, config.network
    spec = optimizer_spec(optimizer.name)
    if spec is None:
        return found
    try:
        parse_options(optimizer.options)
    except ValueError as error:
        found.append(_error("optimizer.options", "bad-option", f"{error}."))
    if (optimizer.name == "other") != bool(optimizer.other):
        message = "names the class of optimizer.name = other; set both or neither."
        found.append(_error("optimizer.other", "other-optimizer", message))
    if spec.adaptive:
        if optimizer.lr < 0.1:
            message = f"{spec.title} finds its own rate and multiplies it by {optimizer.lr:g}."
            found.append(_warning("optimizer.lr", "lr-low", message, "Set optimizer.lr to 1."))
        if network.lora_plus != 1.0 or network.rates or (network.text_encoder and not _one_rate(config)):
            message = f"{spec.title} estimates one learning rate for all."
            advice = "Set network.text_lr to optimizer.lr, network.lora_plus to 1, and clear network.rates."
            found.append(_error("optimizer.name", "one-rate", message, advice))
    elif optimizer.lr > 0.01 and optimizer.name != "other":
        message = f"{optimizer.lr:g} is far above what {spec.title} stands (1e-5 to 1e-3 is usual)."
        found.append(_warning("optimizer.lr", "lr-high", message))
    if spec.averaging:
        if optimizer.schedule != "constant":
            message = f"{spec.title} takes the place of a schedule."
            found.append(_error("optimizer.schedule", "no-schedule", message, "Set it to constant."))
        if network.scale_norm:
            message = f"{spec.title} averages the weights, which shrinking them would undo."
            found.append(_error("network.scale_norm", "averaged", message, "Set it to 0."))
        if config.objective.ema_decay:
            message = f"{spec.title} averages the weights itself."
            found.append(_error("objective.ema_decay", "averaged", message, "Set it to 0."))
    if spec.cuda and config.memory.device == "cpu":
        advice = "Take adamw8bit."
        found.append(_error("optimizer.name", "needs-cuda", f"{spec.title} needs CUDA.", advice))
    if optimizer.cycles > 1 and optimizer.schedule != "cosine":
        message = f"restarts belong to the cosine, not to {optimizer.schedule}."
        found.append(_error("optimizer.cycles", "no-cycles", message, "Set it to 1."))
    return found


def _objective(objective: ObjectiveConfig) -> list[Problem]:
    """Weightings that exclude each other, and timesteps that leave nothing."""
    found: list[Problem] = []
    if objective.min_snr_gamma and objective.weighting != "none":
        message = f"min-SNR and {objective.weighting} both weigh the timesteps."
        found.append(_error("objective.weighting", "two-weightings", message, "Keep one of them."))
    if objective.timestep_min >= objective.timestep_max:
        message = f"{objective.timestep_min} is not below objective.timestep_max {objective.timestep_max}."
        found.append(_error("objective.timestep_min", "no-timesteps", message, "Make it smaller."))
    if objective.zero_terminal_snr and objective.prediction == "epsilon":
        message = "the noise that was added tells nothing of the picture where all is noise."
        advice = "Train v_prediction, or turn it off."
        found.append(_error("objective.zero_terminal_snr", "zero-snr-epsilon", message, advice))
    if objective.multires_iterations and objective.noise_offset:
        message = "multiresolution noise and noise offset both change the noise's low frequencies."
        found.append(_warning("objective.noise_offset", "two-noises", message, "Keep one of them."))
    return found


def _one_rate(config: RunConfig) -> bool:
    rates = {config.network.text_lr, config.network.text_lr_2 or config.network.text_lr}
    return rates == {config.optimizer.lr}


def _network(network: NetworkConfig) -> list[Problem]:
    """Settings that the chosen network type has, and what to know of its files."""
    found: list[Problem] = []
    if network.start_from and network.kind not in {"lora", "dora"}:
        message = "only LoRA and DoRA can go on from a file."
        found.append(_error("network.start_from", "no-start", message, "Resume the run instead."))
    for key in ("ranks", "rates"):
        try:
            parse(getattr(network, key))
        except ValueError as error:
            advice = "Write such as attn2=0.5; the part before = is a regular expression."
            found.append(_error(f"network.{key}", "bad-pattern", f"{error}.", advice))
    spec = network_spec(network.kind)
    if spec is None:
        return found
    default = NetworkConfig()
    for key in sorted(OPTIONAL - spec.options):
        if getattr(network, key) != getattr(default, key):
            fits = ", ".join(n.name for n in NETWORKS if key in n.options)
            message = f"{spec.title} has no {key}."
            found.append(_error(f"network.{key}", "not-of-network", message, f"It belongs to: {fits}."))
    if network.init == "orthogonal" and (network.rank % 2 or network.conv_rank % 2):
        found.append(_error("network.init", "odd-rank", "orthogonal needs an even rank.", "Make it even."))
    if network.kind == "oft" and network.target == "full+conv":
        message = "OFT turns no 3x3 convolution: peft's does not leave the base as it was."
        found.append(_error("network.target", "oft-convolutions", message, "Use full."))
    if spec.note:
        found.append(_warning("network.kind", "not-everywhere", spec.note))
    if network.tokens_only and not network.tokens:
        found.append(_error("network.tokens", "no-tokens", "tokens_only with no tokens.", "Set it to 4."))
    if network.tokens_only and network.text_encoder:
        message = "tokens_only trains nothing but the new tokens."
        found.append(_error("network.text_encoder", "tokens-only", message, "Leave it off."))
    if not network.tokens and (network.token_init or network.token_lr):
        message = "the tokens' settings do nothing without tokens."
        found.append(_warning("network.tokens", "tokens-off", message, "Set it to 4."))
    trains_text = network.text_encoder or network.tokens
    if not trains_text and (network.text_lr or network.text_lr_2 or network.text_stop):
        message = "the text encoder's settings do nothing while it is not trained."
        found.append(_warning("network.text_encoder", "text-off", message, "Set it to true."))
    return found


def _samples(config: RunConfig) -> list[Problem]:
    found: list[Problem] = []
    for key in ("width", "height"):
        side = getattr(config.samples, key)
        if side % LATENT_FACTOR:
            message = f"{side} px is not a multiple of {LATENT_FACTOR}."
            found.append(_error(f"samples.{key}", "not-divisible", message, f"Use {side // 8 * 8 + 8}."))
    steps = config.optimizer.steps
    if steps and config.samples.every > steps:
        message = f"the run ends at step {steps}, so only the first and no later samples are drawn."
        found.append(_warning("samples.every", "samples-rare", message))
    return found
