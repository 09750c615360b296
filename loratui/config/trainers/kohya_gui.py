"""kohya_ss (the GUI by bmaltais): its JSON, which names many arguments of sd-scripts otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from loratui.config.trainers import sd_scripts
from loratui.config.trainers.report import Imported, Line, shown

TRAINER = "kohya_ss"
_RENAMED = {
    "optimizer": "optimizer_type",
    "epoch": "max_train_epochs",
    "max_resolution": "resolution",
    "lr_warmup_steps": "lr_warmup_steps",
    "sdxl_cache_text_encoder_outputs": "cache_text_encoder_outputs",
    "sdxl_no_half_vae": "no_half_vae",
    "caption_extension": "caption_extension",
    "lora_network_weights": "network_weights",
}
"""GUI key -> argument of sd-scripts, where only the name differs."""
_KINDS = {
    "standard": ("networks.lora", ""),
    "kohya locon": ("networks.lora", ""),
    "kohya dylora": ("networks.dylora", ""),
    "lora-fa": ("networks.lora_fa", ""),
    "flux1": ("networks.lora", ""),
    "lycoris/locon": ("lycoris.kohya", "locon"),
    "lycoris/loha": ("lycoris.kohya", "loha"),
    "lycoris/lokr": ("lycoris.kohya", "lokr"),
    "lycoris/dylora": ("lycoris.kohya", "dylora"),
    "lycoris/ia3": ("lycoris.kohya", "ia3"),
    "lycoris/glora": ("lycoris.kohya", "glora"),
    "lycoris/boft": ("lycoris.kohya", "boft"),
    "lycoris/diag-oft": ("lycoris.kohya", "diag-oft"),
    "lycoris/native fine-tuning": ("lycoris.kohya", "full"),
}
_NETWORK_ARGUMENTS = {
    "conv_dim": "conv_dim", "conv_alpha": "conv_alpha", "rank_dropout": "rank_dropout",
    "module_dropout": "module_dropout", "factor": "factor", "decompose_both": "decompose_both",
    "use_tucker": "use_tucker", "dora_wd": "dora_wd", "loraplus_lr_ratio": "loraplus_lr_ratio",
    "loraplus_unet_lr_ratio": "loraplus_unet_lr_ratio",
}  # fmt: skip
_STANDARD = {"rank_dropout", "module_dropout", "loraplus_lr_ratio", "loraplus_unet_lr_ratio"}
_MARK = "network_args"
_ZERO_IS_UNSET = {
    "max_train_steps", "max_train_epochs", "epoch", "unet_lr", "save_every_n_steps", "sample_every_n_steps",
    "save_every_n_epochs", "sample_every_n_epochs", "save_last_n_steps", "save_last_n_epochs",
    "multires_noise_iterations", "scale_weight_norms", "min_snr_gamma", "noise_offset", "ip_noise_gamma",
    "network_dropout", "clip_skip", "vae_batch_size", "lr_scheduler_num_cycles", "lr_scheduler_power",
    "adaptive_noise_scale", "max_data_loader_n_workers", "caption_dropout_every_n_epochs",
    "save_last_n_steps_state",
    "save_last_n_epochs_state", "seed",
}  # fmt: skip
_GUI = "belongs to the GUI"
_KNOWN: Mapping[str, str] = {
    **dict.fromkeys(
        ("model_list", "train_data_dir_list", "LyCORIS_preset", "save_as_bool", "training_preset",
         "stop_text_encoder_training_pct", "folders", "tool", "lora_network_weights_file", "headless",
         "use_wandb", "loss_plots"), _GUI),
    **dict.fromkeys(
        ("num_cpu_threads_per_process", "main_process_port", "gpu_ids", "multi_gpu", "num_processes",
         "num_machines", "extra_accelerate_launch_args", "accelerate_extra_args", "dynamo_mode",
         "dynamo_use_dynamic", "dynamo_use_fullgraph", "accelerator"),
        "the launch is the trainer's own here"),
    **dict.fromkeys(
        ("down_lr_weight", "mid_lr_weight", "up_lr_weight", "block_lr_zero_threshold", "block_dims",
         "block_alphas", "conv_block_dims", "conv_block_alphas", "block_lr"),
        "write patterns into network.ranks and network.rates"),
    **dict.fromkeys(
        ("constrain", "rescaled", "train_norm", "bypass_mode", "unit", "use_scalar", "rank_dropout_scale",
         "full_matrix", "rs_lora", "train_on_input"), "an option of LyCORIS that is not here"),
    "epoch": "max_train_steps or max_train_epochs counts",
    "additional_parameters": "",
    "noise_offset_type": "",
    "stop_text_encoder_training": "",
    "lr_warmup": "",
    "enable_bucket": "",
    "dataset_config": "`loratui import` reads it",
    "save_last_n_steps": "",
    "log_tracker_config": "",
    "max_train_epochs": "",
    "LoRA_type": "",
    "sdxl": "",
    "model_prediction_type": "", "timestep_sampling": "", "guidance_scale": "", "discrete_flow_shift": "",
    "split_mode": "", "train_blocks": "", "t5xxl": "", "clip_l": "", "ae": "",
    "metadata_author": "", "metadata_description": "",
}  # fmt: skip


def read(given: Mapping[str, Any], path: Path, where: Callable[[str], str] = lambda key: "") -> Imported:
    """A JSON of kohya_ss as settings."""
    arguments: dict[str, Any] = {}
    spelled: dict[str, str] = {}

    def enter(name: str, key: str, value: Any) -> None:
        if name not in arguments or arguments[name] in (None, ""):
            arguments[name], spelled[name] = value, key

    extras: dict[str, str] = {}
    kind = str(given.get("LoRA_type", "")).strip()
    module, algorithm = _KINDS.get(kind.lower(), (kind, "")) if kind else ("", "")
    wanted = set(_NETWORK_ARGUMENTS)  # the GUI greys out the others and does not pass them
    if module != "lycoris.kohya":
        wanted = _STANDARD | ({"conv_dim", "conv_alpha"} if kind.lower() == "kohya locon" else set())
    elif algorithm != "lokr":
        wanted -= {"factor", "decompose_both"}
    for key, value in given.items():
        if key in _NETWORK_ARGUMENTS and (key not in wanted or value in (0, False, "0", "", None)):
            continue
        if value in ("", None) and key != "sample_prompts":
            enter(_RENAMED.get(key, key), key, value)
        elif key == "LoRA_type":
            enter("network_module", key, module)
        elif key in _NETWORK_ARGUMENTS:
            extras[_NETWORK_ARGUMENTS[key]] = str(value)
        elif key in _ZERO_IS_UNSET and value in (0, "0", 0.0):
            enter(key, key, "")
        elif key == "lr_warmup":
            _warmup(given, enter)
        elif key == "max_train_epochs":
            enter("max_train_epochs", key, value)
        elif key in {"xformers", "sdpa"}:
            enter("xformers", key, value)
        elif key == "text_encoder_lr" and _zero(value):
            enter("text_encoder_lr", key, 0)
        elif key not in _RENAMED:
            enter(key, key, value)
    # the GUI works the steps out from `epoch` only where neither steps nor epochs are given
    counted = any(not _zero(given.get(key) or 0) for key in ("max_train_steps", "max_train_epochs"))
    for key, name in _RENAMED.items():
        value = given.get(key)
        if value in ("", None) or (key in _ZERO_IS_UNSET and _zero(value)):
            continue
        enter("epoch" if key == "epoch" and counted else name, key, value)
    _network_arguments(given, algorithm, extras, enter)
    _noise(given, arguments, enter)
    text = str(arguments.pop("sample_prompts", "") or "")
    if text:
        enter("sample_prompts", "sample_prompts", " ")
    found = sd_scripts.read(arguments, path, where, spelled, TRAINER, (_KNOWN, given, text))
    return replace(found, lines=tuple(_own_lines(found.lines, given, extras, where)))


def _own_lines(
    lines: Iterable[Line], given: Mapping[str, Any], extras: Mapping[str, str], where: Callable[[str], str]
) -> Iterator[Line]:
    """The report with a line for each of the GUI's network options in place of the one for all of them."""
    left: set[str] = set()
    for line in lines:
        if line.key == "LyCORIS_preset" and str(given.get("LoRA_type", "")).startswith("LyCORIS"):
            yield replace(line, kind="taken", to="network.target", result=str(given[line.key]), why="")
        elif line.key == _MARK:
            left = set(line.why.removeprefix("left out: ").split(", ")) if line.why else set()
        else:
            yield line
    for key in _NETWORK_ARGUMENTS:
        if key not in given:
            continue
        place = where(key)
        if key in extras and key not in left:
            ours = {"use_tucker": "tucker", "conv_dim": "conv_rank", "loraplus_lr_ratio": "lora_plus",
                    "loraplus_unet_lr_ratio": "lora_plus", "dora_wd": "kind"}.get(key, key)  # fmt: skip
            yield Line("taken", key, shown(given[key]), f"network.{ours}", shown(given[key]), where=place)
        else:
            why = "does not belong to this kind of network" if key in extras else ""
            yield Line("ignored", key, shown(given[key]), why=why, where=place)


def _zero(value: Any) -> bool:
    try:
        return float(value) == 0
    except (TypeError, ValueError, OverflowError):
        return False


def _warmup(given: Mapping[str, Any], enter: Callable[[str, str, Any], None]) -> None:
    """A percentage of all steps; `lr_warmup_steps`, where it is set, wins."""
    if "lr_warmup_steps" in given and not _zero(given["lr_warmup_steps"]) and given["lr_warmup_steps"] != "":
        enter("lr_warmup", "lr_warmup", "")
        return
    try:
        percent = float(given["lr_warmup"])
    except (TypeError, ValueError, OverflowError):
        enter("lr_warmup_steps", "lr_warmup", given["lr_warmup"])
        return
    enter(
        "lr_warmup_steps", "lr_warmup", percent / 100 if 0 < percent < 100 else 0 if percent <= 0 else percent
    )


def _network_arguments(
    given: Mapping[str, Any],
    algorithm: str,
    extras: Mapping[str, str],
    enter: Callable[[str, str, Any], None],
) -> None:
    items = [f"algo={algorithm}"] if algorithm else []
    preset = str(given.get("LyCORIS_preset") or "")
    if algorithm and preset:
        items.append(f"preset={preset}")
    items += [f"{key}={value}" for key, value in extras.items()]
    if items:
        enter(_MARK, _MARK, items)


def _noise(
    given: Mapping[str, Any], arguments: dict[str, Any], enter: Callable[[str, str, Any], None]
) -> None:
    """`noise_offset_type` chooses which of two groups counts; the other keeps what was last typed."""
    kind = str(given.get("noise_offset_type", "")).lower()
    drop = ("multires_noise_iterations", "multires_noise_discount") if kind == "original" else ()
    if kind == "multires":
        drop = ("noise_offset", "adaptive_noise_scale")
    for key in drop:
        if key in arguments:
            arguments[key] = ""
