"""Rules across `[optimizer]` and `[objective]`: rates, schedules, weightings, noise."""

from __future__ import annotations

from loratui.config.finding import error, warning
from loratui.config.schema import ObjectiveConfig, OptimizerConfig, RunConfig
from loratui.errors import Problem
from loratui.optim.options import parse as parse_options
from loratui.optim.spec import OptimizerSpec, optimizer_spec

_USUAL_LR = {"lion": 3e-5, "lion8bit": 3e-5}
"""Lion takes a third of AdamW's rate (optim/spec.py says so, after its authors)."""
_LOW_LR = 1e-7


def usual_lr(spec: OptimizerSpec) -> float:
    """A learning rate to begin with."""
    return 1.0 if spec.adaptive else _USUAL_LR.get(spec.name, 1e-4)


def check_learning(config: RunConfig) -> list[Problem]:
    """Errors and warnings about how it learns."""
    found: list[Problem] = []
    optimizer = config.optimizer
    if optimizer.steps and optimizer.warmup_steps >= optimizer.steps:
        path, steps = "optimizer.warmup_steps", optimizer.steps
        message = f"{optimizer.warmup_steps} steps of warm-up are not less than the run's {steps} steps."
        fix = {path: steps // 10}
        found.append(error(path, "warmup-too-long", message, "Make the warm-up shorter.", fix))
    spec = optimizer_spec(optimizer.name)
    if spec is not None:
        found += _optimizer(optimizer, spec)
        found += _adaptive(config, spec) if spec.adaptive else _rate(optimizer, spec)
        found += _averaging(config, spec) if spec.averaging else []
        if spec.cuda and config.memory.device == "cpu":
            message, fix8 = f"{spec.title} needs CUDA.", {"optimizer.name": "adamw8bit"}
            found.append(error("optimizer.name", "needs-cuda", message, "Take adamw8bit.", fix8))
    text_lr = config.network.text_lr
    if config.network.text_encoder and text_lr > optimizer.lr and not (spec and spec.adaptive):
        message = f"the text encoder would learn {text_lr / optimizer.lr:.2g} times as fast as the U-Net."
        fix_text = {"network.text_lr": optimizer.lr / 2}
        advice = "Half of optimizer.lr is usual."
        found.append(warning("network.text_lr", "text-lr-high", message, advice, fix_text))
    return found + _objective(config.objective)


def _optimizer(optimizer: OptimizerConfig, spec: OptimizerSpec) -> list[Problem]:
    """What goes with the chosen optimizer and schedule."""
    found: list[Problem] = []
    try:
        parse_options(optimizer.options)
    except ValueError as wrong:
        found.append(error("optimizer.options", "bad-option", f"{wrong}."))
    if (optimizer.name == "other") != bool(optimizer.other):
        message = "names the class of optimizer.name = other; set both or neither."
        fix = {"optimizer.other": ""} if optimizer.other else {"optimizer.name": "adamw"}
        found.append(error("optimizer.other", "other-optimizer", message, "", fix))
    if optimizer.cycles > 1 and optimizer.schedule != "cosine":
        message = f"restarts belong to the cosine, not to {optimizer.schedule}."
        fix_one = {"optimizer.cycles": 1}
        found.append(error("optimizer.cycles", "no-cycles", message, "Set it to 1.", fix_one))
    if optimizer.max_grad_norm > 100:
        message = f"{optimizer.max_grad_norm:g} clips nothing."
        fix_norm = {"optimizer.max_grad_norm": 1.0}
        found.append(warning("optimizer.max_grad_norm", "clips-nothing", message, "1 is usual.", fix_norm))
    return found


def _adaptive(config: RunConfig, spec: OptimizerSpec) -> list[Problem]:
    found: list[Problem] = []
    optimizer, network = config.optimizer, config.network
    fix: dict[str, object] = {"optimizer.lr": 1.0}
    if optimizer.lr < 0.1:
        message = f"{spec.title} finds its own rate and multiplies it by {optimizer.lr:g}."
        found.append(warning("optimizer.lr", "lr-low", message, "Set optimizer.lr to 1.", fix))
    elif optimizer.lr > 3:
        message = f"{spec.title} finds its own rate, and {optimizer.lr:g} times that is too fast."
        found.append(warning("optimizer.lr", "lr-high", message, "Set optimizer.lr to 1.", fix))
    if network.lora_plus != 1.0 or network.rates or (network.text_encoder and not _one_rate(config)):
        message = f"{spec.title} estimates one learning rate for all."
        advice = "Set network.text_lr to optimizer.lr, network.lora_plus to 1, and clear network.rates."
        fix = {"network.lora_plus": 1.0, "network.rates": ()}
        if network.text_encoder:
            fix |= {"network.text_lr": optimizer.lr, "network.text_lr_2": 0.0}
        found.append(error("optimizer.name", "one-rate", message, advice, fix))
    return found


def _rate(optimizer: OptimizerConfig, spec: OptimizerSpec) -> list[Problem]:
    """A learning rate far from what the optimizer is used with."""
    if optimizer.name == "other":
        return []
    usual = usual_lr(spec)
    fix, advice = {"optimizer.lr": usual}, f"{usual:g} is usual."
    if optimizer.lr > 0.01:
        message = f"{optimizer.lr:g} is far above what {spec.title} stands (1e-5 to 1e-3 is usual)."
        return [warning("optimizer.lr", "lr-high", message, advice, fix)]
    if optimizer.name in _USUAL_LR and optimizer.lr > 3e-4:
        message = f"{spec.title} moves every weight by the whole rate, and {optimizer.lr:g} is too fast."
        return [warning("optimizer.lr", "lr-high", message, advice, fix)]
    if optimizer.lr < _LOW_LR:
        message = f"with {optimizer.lr:g} {spec.title} learns next to nothing."
        return [warning("optimizer.lr", "lr-low", message, advice, fix)]
    return []


def _averaging(config: RunConfig, spec: OptimizerSpec) -> list[Problem]:
    """Schedule-free optimizers have their own average."""
    found: list[Problem] = []
    if config.optimizer.schedule != "constant":
        message, fix = f"{spec.title} takes the place of a schedule.", {"optimizer.schedule": "constant"}
        found.append(error("optimizer.schedule", "no-schedule", message, "Set it to constant.", fix))
    if config.network.scale_norm:
        message = f"{spec.title} averages the weights, which shrinking them would undo."
        zero = {"network.scale_norm": 0.0}
        found.append(error("network.scale_norm", "averaged", message, "Set it to 0.", zero))
    if config.objective.ema_decay:
        message, none = f"{spec.title} averages the weights itself.", {"objective.ema_decay": 0.0}
        found.append(error("objective.ema_decay", "averaged", message, "Set it to 0.", none))
    return found


def _one_rate(config: RunConfig) -> bool:
    rates = {config.network.text_lr, config.network.text_lr_2 or config.network.text_lr}
    return rates == {config.optimizer.lr}


def _objective(objective: ObjectiveConfig) -> list[Problem]:
    """Weightings that exclude each other, and timesteps that leave nothing."""
    found: list[Problem] = []
    if objective.min_snr_gamma and objective.weighting != "none":
        message = f"min-SNR and {objective.weighting} both weigh the timesteps."
        fix: dict[str, object] = {"objective.weighting": "none"}
        found.append(error("objective.weighting", "two-weightings", message, "Keep one of them.", fix))
    if objective.timestep_min >= objective.timestep_max:
        message = f"{objective.timestep_min} is not below objective.timestep_max {objective.timestep_max}."
        fix = {"objective.timestep_min": 0}
        found.append(error("objective.timestep_min", "no-timesteps", message, "Make it smaller.", fix))
    if objective.zero_terminal_snr and objective.prediction == "epsilon":
        message = "the noise that was added tells nothing of the picture where all is noise."
        fix = {"objective.zero_terminal_snr": False}
        advice = "Train v_prediction, or turn it off."
        found.append(error("objective.zero_terminal_snr", "zero-snr-epsilon", message, advice, fix))
    if objective.multires_iterations and objective.noise_offset:
        message = "multiresolution noise and noise offset both change the noise's low frequencies."
        fix = {"objective.noise_offset": 0.0}
        found.append(warning("objective.noise_offset", "two-noises", message, "Keep one of them.", fix))
    elif objective.noise_offset > 0.2:
        fix = {"objective.noise_offset": 0.05}
        message = "above 0.2 washes colours out."
        found.append(warning("objective.noise_offset", "noise-offset-high", message, "0.05 is usual.", fix))
    if 0 < objective.min_snr_gamma < 1:
        message = f"{objective.min_snr_gamma:g} leaves next to nothing of the clean timesteps."
        fix = {"objective.min_snr_gamma": 5.0}
        found.append(warning("objective.min_snr_gamma", "min-snr-low", message, "5 is usual.", fix))
    return found
