"""sd-scripts (kohya-ss): arguments of train_network.py and sdxl_train_network.py, and the dataset TOML.

Names and defaults are those of its argument parser and of its dataset config; what it does with them is in
the comments where ours differs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loratui.config.toml import value_text
from loratui.config.trainers import kohya_network as network
from loratui.config.trainers import kohya_optimizer as optimizer
from loratui.config.trainers import kohya_pictures as pictures
from loratui.config.trainers.prompts import prompts_text
from loratui.config.trainers.report import Folder, Imported, Ledger
from loratui.config.trainers.rows import Row, read_rows, write_rows

TRAINER = "sd-scripts"
_PRECISION = {"no": "fp32", "fp16": "fp16", "bf16": "bf16"}
_SAVED = {"float": "fp32", "fp16": "fp16", "bf16": "bf16"}
_SAMPLERS = {
    "ddim": "ddim", "euler": "euler", "euler_a": "euler_a", "dpmsolver++": "dpmpp_2m", "k_euler": "euler",
    "k_euler_a": "euler_a",
}  # fmt: skip

DATASET_ROWS: tuple[Row, ...] = (
    Row("enable_bucket", "data.bucketing"),
    Row("min_bucket_reso", "data.min_bucket"),
    Row("max_bucket_reso", "data.max_bucket"),
    Row("bucket_reso_steps", "data.bucket_step"),
)
SUBSET_ROWS: tuple[Row, ...] = (
    Row("shuffle_caption", "data.shuffle_captions"),
    Row("keep_tokens", "data.keep_tokens"),
    Row("keep_tokens_separator", "data.keep_tokens_separator"),
    Row("secondary_separator", "data.secondary_separator"),
    Row("caption_separator", "data.separator"),
    Row("caption_dropout_rate", "data.caption_dropout"),
    Row("caption_tag_dropout_rate", "data.tag_dropout"),
    Row("enable_wildcard", "data.wildcards"),
    Row("flip_aug", "data.flip"),
    Row("token_warmup_min", "data.token_warmup_min"),
)
ROWS: tuple[Row, ...] = (
    Row("pretrained_model_name_or_path", "model.base"),
    Row("vae", "model.vae"),
    Row("clip_skip", "model.clip_skip"),
    Row("reg_data_dir", "data.reg_dir"),
    Row("prior_loss_weight", "data.reg_weight"),
    Row("gradient_accumulation_steps", "optimizer.accumulation"),
    Row("gradient_checkpointing", "memory.gradient_checkpointing"),
    Row("mixed_precision", "memory.precision", _PRECISION),
    Row("seed", "objective.seed"),
    Row("min_snr_gamma", "objective.min_snr_gamma"),
    Row("loss_type", "objective.loss", {"l2": "l2", "huber": "huber", "smooth_l1": "smooth_l1"}),
    Row("huber_c", "objective.huber_c"),
    Row(
        "huber_schedule", "objective.huber_schedule",
        {"snr": "snr", "constant": "constant", "exponential": "exponential"},
    ),
    Row("noise_offset", "objective.noise_offset"),
    Row("multires_noise_iterations", "objective.multires_iterations"),
    Row("multires_noise_discount", "objective.multires_discount"),
    Row("ip_noise_gamma", "objective.input_perturbation"),
    Row("zero_terminal_snr", "objective.zero_terminal_snr"),
    Row("min_timestep", "objective.timestep_min"),
    Row("max_timestep", "objective.timestep_max"),
    Row("masked_loss", "objective.masked"),
    Row("output_name", "saving.name"),
    Row("save_every_n_steps", "saving.every"),
    Row("save_precision", "saving.dtype", _SAVED),
    Row("sample_every_n_steps", "samples.every"),
    Row("sample_sampler", "samples.sampler", _SAMPLERS),
)  # fmt: skip
DEFAULTS: Mapping[str, tuple[str, Any]] = {
    "network_dim": ("network.rank", 4),
    "network_alpha": ("network.alpha", 1.0),
    "enable_bucket": ("data.bucketing", False),
    "mixed_precision": ("memory.precision", "fp32"),
    "multires_noise_discount": ("objective.multires_discount", 0.3),
}
_SPEED = "how pictures are read here is the trainer's own choice"
_LOG = "runs are logged to their own journal"
KNOWN: Mapping[str, str] = {
    **dict.fromkeys(
        ("max_data_loader_n_workers", "persistent_data_loader_workers", "vae_batch_size", "lowram",
         "highvram",
         "dataset_class", "disable_mmap_load_safetensors", "skip_cache_check"), _SPEED),
    **dict.fromkeys(
        ("logging_dir", "log_with", "log_prefix", "log_tracker_name", "log_tracker_config", "wandb_run_name",
         "wandb_api_key", "log_config", "console_log_level", "console_log_file", "console_log_simple"), _LOG),
    **dict.fromkeys(
        ("huggingface_repo_id", "huggingface_repo_type", "huggingface_path_in_repo", "huggingface_token",
         "huggingface_repo_visibility", "save_state_to_huggingface", "resume_from_huggingface",
         "async_upload"),
        "nothing is sent anywhere"),
    **dict.fromkeys(
        ("metadata_title", "metadata_author", "metadata_description", "metadata_license", "metadata_tags",
         "training_comment", "no_metadata"), "`loratui metadata` writes it into the file"),
    **dict.fromkeys(
        ("save_state", "save_state_on_train_end", "save_last_n_epochs_state", "save_last_n_steps_state"),
        "every checkpoint here can be resumed from"),
    **dict.fromkeys(
        ("resume", "initial_epoch", "initial_step", "skip_until_initial_step"),
        "its state cannot be read here; --set start_from=FILE goes on from a LoRA"),
    **dict.fromkeys(
        ("ddp_timeout", "ddp_gradient_as_bucket_view", "ddp_static_graph", "deepspeed", "zero_stage",
         "num_processes", "num_machines"), "processes are chosen at the start of a run"),
    **dict.fromkeys(
        ("full_fp16", "full_bf16"), "the LoRA is trained in fp32, whatever the base is"),
    "dynamo_backend": "blocks are compiled by torch's own inductor",
    "color_aug": "", "random_crop": "", "torch_compile": "", "blocks_to_swap": "",
    "caption_dropout_every_n_epochs": "captions are dropped by share only",
    "noise_offset_random_strength": "the strength is not random here",
    "ip_noise_gamma_random_strength": "the strength is not random here",
    "adaptive_noise_scale": "the noise offset does not follow the latents here",
    "scale_v_pred_loss_like_noise_pred": "the loss of v-prediction is not scaled",
    "v_pred_like_loss": "there is no such loss here",
    "huber_scale": "the Huber loss is not scaled here",
    "weighted_captions": "captions are read as they stand, without weights",
    "caption_extension": "captions are read from .txt and .caption",
    "caption_extention": "captions are read from .txt and .caption",
    "output_dir": "results go to the run directory",
    "output_config": "",
    "config_file": "",
    "cache_info": "",
    "in_json": "`loratui import` reads it",
    "dataset_config": "",
    "save_model_as": "files are safetensors always",
    "save_n_epoch_ratio": "checkpoints are counted in steps",
    "sample_at_first": "samples are always drawn before the first step",
    "tokenizer_cache_dir": "",
    "debug_dataset": "",
    "base_weights": "merge them first: `loratui merge`",
    "base_weights_multiplier": "merge them first: `loratui merge`",
    "no_half_vae": "the VAE is run in fp32 where fp16 is known to fail",
    "conditioning_data_dir": "masks lie beside the pictures here: NAME-masklabel.png",
    "fp8_base": "", "fp8_base_unet": "",
    "mem_eff_attn": "torch's own attention is used",
    "v_parameterization": "",
    "network_multiplier": "",
    "validation_seed": "",
    "resize_interpolation": "pictures are scaled with Lanczos",
    "skip_image_resolution": "",
    "custom_attributes": "",
    "caption_prefix": "write it into the captions: `loratui edit DIR prefix`",
    "caption_suffix": "write it into the captions: `loratui edit DIR suffix`",
    "alpha_mask": "",
    "is_reg": "",
    "class_tokens": "",
    "image_dir": "",
    "num_repeats": "",
    "batch_size": "",
    "metadata_file": "`loratui import` reads it",
}  # fmt: skip


SPECIAL = (
    "resolution", "train_batch_size", "network_module", "network_args", "network_dim", "network_alpha",
    "network_dropout", "network_weights", "scale_weight_norms", "dim_from_weights", "network_train_unet_only",
    "network_train_text_encoder_only", "text_encoder_lr", "unet_lr", "learning_rate", "optimizer_type",
    "optimizer_args", "use_8bit_adam", "use_lion_optimizer", "lr_scheduler", "lr_scheduler_type",
    "lr_scheduler_args", "lr_scheduler_num_cycles", "lr_scheduler_power", "lr_scheduler_min_lr_ratio",
    "lr_scheduler_timescale", "lr_decay_steps", "lr_warmup_steps", "max_grad_norm", "max_train_steps",
    "max_train_epochs", "token_warmup_step", "v2", "sdxl", "v_parameterization", "cache_latents",
    "cache_latents_to_disk", "cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk", "xformers",
    "sdpa", "max_token_length", "save_every_n_epochs", "sample_every_n_epochs", "save_last_n_steps",
    "save_last_n_epochs", "sample_prompts", "debiased_estimation_loss", "train_data_dir", "validation_split",
    "bucket_no_upscale",
)  # fmt: skip
"""Keys that are read by functions, not by rows."""


def read(
    given: Mapping[str, Any],
    path: Path,
    where: Callable[[str], str] = lambda key: "",
    spelled: Mapping[str, str] | None = None,
    trainer: str = TRAINER,
    beside: tuple[Mapping[str, str], Mapping[str, Any], str] | None = None,
) -> Imported:
    """Arguments of train_network.py as settings.

    Args:
        given: argument -> value; the sections of its config file are flattened away.
        path: the file they came from.
        where: `file:line` of an argument.
        spelled: argument -> key as the file spells it.
        trainer: what to call it in the report.
        beside: further keys without counterpart, the file's own keys, and the sample prompts it holds.
    """
    more, original, prompts = beside or ({}, {}, "")
    ledger = Ledger(given, where, spelled, original)
    _resolution(ledger)
    batch(ledger, "train_batch_size")
    network.read(ledger)
    optimizer.read(ledger)
    read_rows(ledger, (*ROWS, *DATASET_ROWS, *SUBSET_ROWS))
    _token_warmup(ledger)
    _upscale(ledger)
    pictures.read(ledger)
    pictures.read_memory(ledger)
    _family(ledger)
    _attention(ledger)
    _saving(ledger)
    _prompts(ledger, path, prompts)
    _max_tokens(ledger)
    for key in ("cache_latents", "cache_latents_to_disk"):
        if key in ledger:
            ledger.fine(key, "latents are always cached")
    if ledger.truth("debiased_estimation_loss"):
        ledger.take("debiased_estimation_loss", "objective.weighting", "debiased")
    for key, (ours, value) in DEFAULTS.items():
        ledger.default(key, ours, value)
    named: list[Folder] = []
    if "train_data_dir" in ledger:
        named.append(Folder(ledger.text("train_data_dir")))
        ledger.fine("train_data_dir", "`loratui import` takes its N_name folders")
    ledger.rest(
        {**KNOWN, **more},
        [*SPECIAL, *pictures.KEYS, *(row.key for row in (*ROWS, *DATASET_ROWS, *SUBSET_ROWS))],
    )
    name = str(ledger.values.get("saving.name", ""))
    return Imported(trainer, path, ledger.values, tuple(ledger.lines), tuple(named), "", name)


def read_dataset(table: Mapping[str, Any], path: Path, where: Callable[[str], str]) -> Imported:
    """A dataset TOML as settings: `[general]`, then the first of `[[datasets]]`, then its first subset.

    Lower levels win there; here the settings are of the whole run, so that of further data sets and subsets
    only what agrees with the first is taken.
    """
    flat: dict[str, Any] = {}
    places: dict[str, str] = {}
    odd: list[tuple[str, str, Any]] = []
    folders: list[Folder] = []

    def enter(values: Mapping[str, Any], prefix: str, wins: bool) -> None:
        for key, value in values.items():
            if key in {"subsets", "image_dir", "num_repeats", "class_tokens", "is_reg"}:
                continue
            if key in flat and not wins and flat[key] != value:
                odd.append((key, f"{prefix}.{key}", value))
                continue
            flat[key] = value
            places[key] = where(f"{prefix}.{key}")

    enter(_mapping(table.get("general")), "general", True)
    for index, dataset in enumerate(_list(table.get("datasets"))):
        enter(dataset, f"datasets.{index}", index == 0)
        for number, subset in enumerate(_list(dataset.get("subsets"))):
            enter(subset, f"datasets.{index}.subsets.{number}", index == number == 0)
            folders.append(
                Folder(
                    str(subset.get("image_dir", "")),
                    max(1, int(subset["num_repeats"])) if isinstance(subset.get("num_repeats"), int) else 1,
                    str(subset.get("class_tokens") or ""),
                    subset.get("is_reg") is True,
                )
            )
    flat |= {key: value for key, value in table.items() if key not in {"general", "datasets"}}
    ledger = Ledger(flat, lambda key: places.get(key, where(key)))
    _resolution(ledger)
    batch(ledger, "batch_size")
    read_rows(ledger, (*DATASET_ROWS, *SUBSET_ROWS))
    _token_warmup(ledger)
    pictures.read(ledger)
    if "validation_split" in ledger:
        ledger.take("validation_split", "objective.validation_share")
    if ledger.truth("alpha_mask"):
        ledger.take(
            "alpha_mask",
            "objective.masked",
            True,
            "the alpha channel becomes the mask of a picture in the Dataset room",
        )
    ledger.default("enable_bucket", "data.bucketing", False)
    _upscale(ledger)
    ledger.rest(KNOWN, [*pictures.KEYS, *(row.key for row in (*DATASET_ROWS, *SUBSET_ROWS))])
    lines = list(ledger.lines)
    from loratui.config.trainers.report import Line, shown

    for key, place, value in odd:
        why = f"differs from the first part's {shown(flat[key])}; a run here has one value"
        lines.append(Line("ignored", place, shown(value), why=why, where=where(place) if place else key))
    return Imported(TRAINER, path, ledger.values, tuple(lines), tuple(f for f in folders if f.path))


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Mapping[str, Any]]:
    return [v for v in value if isinstance(v, dict)] if isinstance(value, list) else []


def batch(ledger: Ledger, key: str) -> None:
    """Enter the batch size."""
    if key in ledger:
        ledger.take(key, "data.batch_size")


def _resolution(ledger: Ledger) -> None:
    """`512`, `"512,768"` or `[512, 768]`: width and height, whose area the buckets have."""
    if "resolution" not in ledger:
        return
    value = ledger.get("resolution")
    parts = value.replace("x", ",").split(",") if isinstance(value, str) else value
    parts = parts if isinstance(parts, list) else [parts]
    try:
        sides = [int(float(part)) for part in parts]
    except (TypeError, ValueError, OverflowError):
        sides = []
    if len(sides) == 1 or (len(sides) == 2 and sides[0] == sides[1]):
        ledger.take("resolution", "data.resolution", sides[0])
    elif len(sides) == 2 and min(sides) > 0:
        side = round((sides[0] * sides[1]) ** 0.5 / 64) * 64
        ledger.take(
            "resolution", "data.resolution", side, "a square of about the same area; buckets do the rest"
        )
    else:
        ledger.wrong("resolution", "wants one number, or width and height")


def _upscale(ledger: Ledger) -> None:
    key = "bucket_no_upscale"
    if key in ledger:
        ledger.take(key, "data.upscale", "never" if ledger.truth(key) else "needed")


def _token_warmup(ledger: Ledger) -> None:
    if "token_warmup_step" not in ledger:
        return
    steps = ledger.number("token_warmup_step")
    total = ledger.values.get("optimizer.steps", 0)
    if 0 < steps < 1:  # a share of all steps there
        if total:
            ledger.take(
                "token_warmup_step",
                "data.token_warmup_steps",
                round(steps * total),
                "a share of the steps there",
            )
        else:
            ledger.ignore("token_warmup_step", "a share of the steps, which are counted in epochs here")
    elif not ledger.done("token_warmup_step"):
        ledger.take("token_warmup_step", "data.token_warmup_steps", steps)


def _family(ledger: Ledger) -> None:
    """Which base: read from the checkpoint here; v-prediction may be said."""
    for key, family in (("v2", "sd2"), ("sdxl", "sdxl")):
        if key in ledger:
            if ledger.truth(key):
                ledger.take(key, "model.family", family)
            else:
                ledger.ignore(key)
    if ledger.truth("v_parameterization"):
        ledger.take("v_parameterization", "objective.prediction", "v_prediction")
    for key in ("cache_text_encoder_outputs", "cache_text_encoder_outputs_to_disk"):
        if key in ledger:
            ledger.fine(key, "texts are cached whenever the settings allow it")


def _attention(ledger: Ledger) -> None:
    for key in ("xformers", "sdpa"):
        if key in ledger:
            ledger.fine(key, "torch's fused attention is used always")


def _max_tokens(ledger: Ledger) -> None:
    if "max_token_length" in ledger:
        ledger.take("max_token_length", "data.max_tokens", ledger.text("max_token_length"))


def _saving(ledger: Ledger) -> None:
    """Saving and sampling in epochs become steps only in the plan, so they are said and left out."""
    for key, other in (("save_every_n_epochs", "saving.every"), ("sample_every_n_epochs", "samples.every")):
        if key in ledger and ledger.number(key) > 0:
            ledger.ignore(key, f"counted in steps here: set {other}")
    for key in ("save_last_n_steps", "save_last_n_epochs"):
        if key in ledger and ledger.number(key) > 0:
            ledger.ignore(key, "how many are kept is counted in checkpoints here: set saving.keep")


def _prompts(ledger: Ledger, path: Path, text: str) -> None:
    """A prompt file named by the config, or the text that the file itself holds."""
    from loratui.config.trainers.prompts import apply_prompts, read_prompts

    if "sample_prompts" not in ledger and not text:
        return
    source = ledger.text("sample_prompts")
    file = path.parent / source if source else path
    try:
        found = read_prompts(file) if not text and source and len(source) < 1024 and file.is_file() else None
    except (OSError, ValueError):
        found = None
    if found is None and text:
        from loratui.config.trainers.prompts import parse_prompts

        found = parse_prompts(text)
    if found is None:
        ledger.ignore("sample_prompts", "the prompt file is not there; give prompts in samples.prompts")
        return
    values = apply_prompts(found)
    prompts = values.pop("samples.prompts", ())
    if prompts:
        ledger.take("sample_prompts", "samples.prompts", prompts)
        for key, value in values.items():
            ledger.also(key, value)
    else:
        ledger.ignore("sample_prompts", "it holds no prompt")


# --- writing ----------------------------------------------------------------------------------------------


def write(values: Mapping[str, Any], family: str = "") -> tuple[dict[str, Any], dict[str, Any], list[str]]:
    """Settings as arguments and as a dataset TOML, and what could not be said there.

    Args:
        values: dotted path -> value, of every setting.
        family: family of the base; `sdxl` wants sdxl_train_network.py.

    Returns:
        Arguments; `[general]` keys of the dataset TOML; one line for each setting that it has no key for.
    """
    arguments: dict[str, Any] = write_rows(values, ROWS)
    general: dict[str, Any] = write_rows(values, (*DATASET_ROWS, *SUBSET_ROWS))
    general["resolution"] = values["data.resolution"]
    general["batch_size"] = values["data.batch_size"]
    general["enable_bucket"] = values["data.bucketing"]
    if values["data.upscale"] == "never":
        general["bucket_no_upscale"] = True
    if values["data.token_warmup_steps"]:
        general["token_warmup_step"] = values["data.token_warmup_steps"]
    if values["objective.validation_share"]:
        general["validation_split"] = values["objective.validation_share"]
    if values["data.max_tokens"] != "75":
        arguments["max_token_length"] = int(values["data.max_tokens"])
    if family == "sd2":
        arguments["v2"] = True
    if values["objective.prediction"] == "v_prediction":
        arguments["v_parameterization"] = True
    if values["objective.weighting"] == "debiased":
        arguments["debiased_estimation_loss"] = True
    network.write(values, arguments)
    optimizer.write(values, arguments)
    arguments["save_model_as"] = "safetensors"
    unsaid = pictures.write(values, arguments, general)
    arguments["sdpa"] = True
    return arguments, general, [*unsaid, *_unsaid(values)]


def _unsaid(values: Mapping[str, Any]) -> list[str]:
    """Settings that differ from our default and that sd-scripts has no key for."""
    from loratui.config.docs import field_table

    said = {row.ours for row in (*ROWS, *DATASET_ROWS, *SUBSET_ROWS) if not row.spare}
    said |= network.SAID | optimizer.SAID | pictures.SAID | {
        "data.resolution", "data.upscale", "data.batch_size", "data.token_warmup_steps", "data.max_tokens",
        "model.family",
        "objective.prediction", "objective.validation_share", "samples.prompts", "samples.negative",
        "samples.seed", "samples.width", "samples.height", "samples.steps", "samples.guidance",
        "memory.device", "data.repeats",
    }  # fmt: skip
    if values["objective.weighting"] == "debiased":
        said.add("objective.weighting")
    return [
        f"{path} = {value_text(values[path])}: sd-scripts has no such setting"
        for path, info in field_table().items()
        if path not in said and values[path] != info.default
    ]


def config_text(arguments: Mapping[str, Any], unsaid: list[str], script: str) -> str:
    """The config file for `--config_file`."""
    lines = [
        "# Settings for sd-scripts, written by loratui:",
        f"#   accelerate launch {script} --config_file THIS",
    ]
    lines += [f"# {text}" for text in unsaid]
    return (
        "\n".join([*lines, "", *(f"{key} = {value_text(value)}" for key, value in arguments.items())]) + "\n"
    )


def dataset_text(general: Mapping[str, Any], folders: list[Folder]) -> str:
    """The dataset TOML for `--dataset_config`."""
    lines = ["# Data set for sd-scripts, written by loratui.", "[general]", 'caption_extension = ".txt"']
    top = {k: v for k, v in general.items() if k not in {"resolution", "batch_size", "validation_split"}}
    lines += [f"{key} = {value_text(value)}" for key, value in top.items()]
    lines += ["", "[[datasets]]"]
    lines += [
        f"{k} = {value_text(general[k])}"
        for k in ("resolution", "batch_size", "validation_split")
        if k in general
    ]
    for folder in folders:
        lines += [
            "",
            "  [[datasets.subsets]]",
            f"  image_dir = {value_text(folder.path)}",
            f"  num_repeats = {folder.repeats}",
        ]
        if folder.caption:
            lines.append(f"  class_tokens = {value_text(folder.caption)}")
        if folder.regularisation:
            lines.append("  is_reg = true")
    return "\n".join(lines) + "\n"


def prompt_file(values: Mapping[str, Any]) -> str:
    """The sample prompts as its text file, empty without any."""
    return prompts_text(values)
