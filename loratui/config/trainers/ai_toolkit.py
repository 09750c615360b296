"""ai-toolkit (Ostris): its YAML job files, read and written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loratui.config.toml import value_text
from loratui.config.trainers.report import Folder, Imported, Ledger, Line, shown
from loratui.config.trainers.rows import Row, read_rows, write_rows

TRAINER = "ai-toolkit"
_DTYPES = {
    "bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16", "float16": "fp16", "fp32": "fp32", "float32": "fp32",
    "float": "fp32",
}  # fmt: skip
_OPTIMIZERS = {
    "adamw": "adamw", "adamw8bit": "adamw8bit", "lion": "lion", "lion8bit": "lion8bit",
    "adafactor": "adafactor", "prodigy": "prodigy", "dadaptation": "dadaptation", "came": "came",
    "schedule_free": "schedule_free", "muon": "muon",
}  # fmt: skip
_NEAR_OPTIMIZERS = {
    "adam": "adamw", "adam8bit": "adamw8bit", "prodigy8bit": "prodigy", "automagic": "adamw",
    "prodigyopt": "prodigy", "ademamix8bit": "adamw8bit", "automagic2": "adamw",
}  # fmt: skip
_SCHEDULES = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine",
    "cosine_with_restarts": "cosine", "polynomial": "polynomial", "rex": "rex",
}  # fmt: skip
_SAMPLERS = {"ddim": "ddim", "euler": "euler", "euler_a": "euler_a", "dpmsolver++": "dpmpp_2m"}

_QTYPES = (
    ("float8", "fp8"), ("fp8", "fp8"), ("int8", "int8"), ("int4", "nf4"), ("nf4", "nf4"),
)  # fmt: skip
"""Part of a `qtype` -> ours, the first that fits."""
_WRITTEN_QTYPES = {"fp8": "qfloat8", "int8": "qint8"}

ROWS: tuple[Row, ...] = (
    Row("model.name_or_path", "model.base"),
    Row("model.vae_path", "model.vae"),
    Row("model.assistant_lora_path", "model.adapter"),
    Row("network.dropout", "network.dropout"),
    Row("network.lokr_factor", "network.factor"),
    Row("network.pretrained_lora_path", "network.start_from"),
    Row("save.dtype", "saving.dtype", _DTYPES),
    Row("save.save_every", "saving.every"),
    Row("train.batch_size", "data.batch_size"),
    Row("train.steps", "optimizer.steps"),
    Row("train.lr", "optimizer.lr"),
    Row("train.dtype", "memory.precision", _DTYPES),
    Row("train.gradient_checkpointing", "memory.gradient_checkpointing"),
    Row("train.max_grad_norm", "optimizer.max_grad_norm"),
    Row("train.noise_offset", "objective.noise_offset"),
    Row("train.min_snr_gamma", "objective.min_snr_gamma"),
    Row("train.snr_gamma", "objective.min_snr_gamma", spare=True),
    Row("train.reg_weight", "data.reg_weight"),
    Row(
        "train.content_or_style", "objective.timestep_bias",
        {"balanced": "none", "content": "content", "style": "style"},
    ),
    Row("train.train_text_encoder", "network.text_encoder"),
    Row("model.compile", "memory.compile"),
    Row("sample.sampler", "samples.sampler", _SAMPLERS),
    Row("sample.sample_every", "samples.every"),
    Row("sample.width", "samples.width"),
    Row("sample.height", "samples.height"),
    Row("sample.neg", "samples.negative"),
    Row("sample.seed", "samples.seed"),
    Row("sample.guidance_scale", "samples.guidance"),
    Row("sample.sample_steps", "samples.steps"),
)  # fmt: skip
DATASET_ROWS: tuple[Row, ...] = (
    Row("caption_dropout_rate", "data.caption_dropout"),
    Row("shuffle_tokens", "data.shuffle_captions"),
    Row("token_dropout_rate", "data.tag_dropout"),
    Row("keep_tokens", "data.keep_tokens"),
    Row("flip_x", "data.flip"),
    Row("buckets", "data.bucketing"),
)
_DEFAULTS: Mapping[str, tuple[str, Any]] = {
    "train.steps": ("optimizer.steps", 1000),
    "train.lr": ("optimizer.lr", 1e-6),
    "train.dtype": ("memory.precision", "fp32"),
    "train.gradient_checkpointing": ("memory.gradient_checkpointing", True),
    "sample.sample_every": ("samples.every", 100),
    "save.save_every": ("saving.every", 1000),
}
_KNOWN: Mapping[str, str] = {
    "job": "", "type": "", "meta.name": "", "meta.version": "",
    "training_folder": "results go to the run directory",
    "performance_log_every": "", "device": "", "sqlite_db_path": "", "network.type": "",
    "network.transformer_only": "",
    "network.network_kwargs": "patterns go into network.ranks and network.rates",
    "network.all_layers": "", "network.split_multistage_loras": "", "network.old_lokr_format": "",
    "save.save_format": "files are safetensors always", "save.push_to_hub": "nothing is sent anywhere",
    "save.hf_repo_id": "nothing is sent anywhere", "save.hf_private": "", "logging": "",
    "logging.log_every": "",
    "logging.use_ui_logger": "", "logging.use_wandb": "runs are logged to their own journal",
    "logging.project_name": "", "logging.run_name": "", "logging.verbose": "",
    "train.noise_scheduler": "the base says which noise schedule it has",
    "train.timestep_type": "belongs to flow models", "train.linear_timesteps": "belongs to flow models",
    "train.skip_first_sample": "samples are always drawn before the first step",
    "train.force_first_sample": "samples are always drawn before the first step",
    "train.disable_sampling": "", "train.train_unet": "",
    "train.xformers": "torch's fused attention is used always",
    "train.sdp": "torch's fused attention is used always",
    "train.attention_backend": "torch's fused attention is used always",
    "train.unload_text_encoder": "text encoders leave the device once their texts are cached",
    "train.cache_text_embeddings": "texts are cached whenever the settings allow it",
    "train.bypass_guidance_embedding": "belongs to FLUX", "train.loss_type": "",
    "train.ema_config.use_feedback": "", "train.ema_config.param_multiplier": "",
    "train.diff_output_preservation": "prior preservation with pictures is here: data.reg_dir",
    "train.diff_output_preservation_multiplier": "", "train.diff_output_preservation_class": "",
    "train.blank_prompt_preservation": "not here", "train.blank_prompt_preservation_multiplier": "",
    "train.do_differential_guidance": "not here", "train.switch_boundary_every": "", "train.free_u": "",
    "train.single_item_batching": "not here", "train.weight_jitter": "not here", "train.do_cfg": "not here",
    "train.inverted_mask_prior": "not here", "train.adapter_lr": "", "train.refiner_lr": "",
    "model.quantize": "", "model.quantize_te": "text encoders leave the device once their texts are cached",
    "model.qtype": "", "model.qtype_te": "",
    "model.low_vram": "set memory.blocks_to_swap or memory.base_weights",
    "model.arch": "the family is read from the base", "model.is_flux": "the family is read from the base",
    "model.is_v3": "the family is read from the base", "model.dtype": "",
    "model.model_kwargs": "", "model.layer_offloading": "set memory.blocks_to_swap",
    "model.layer_offloading_transformer_percent": "set memory.blocks_to_swap",
    "model.layer_offloading_text_encoder_percent": "",
    "model.te_name_or_path": "", "model.use_text_encoder_1": "", "model.use_text_encoder_2": "",
    "model.extras_name_or_path": "", "model.unet_path": "",
    "sample.walk_seed": "", "sample.fps": "", "sample.num_frames": "", "sample.format": "samples are PNG",
    "sample.ext": "samples are PNG", "sample.network_multiplier": "", "sample.guidance_rescale": "",
    "sample.sample_start_step": "", "sample.refiner_start_at": "",
}  # fmt: skip
_DATASET_KNOWN: Mapping[str, str] = {
    "folder_path": "", "dataset_path": "", "caption_ext": "captions are read from .txt and .caption",
    "cache_latents": "latents are always cached", "cache_latents_to_disk": "latents are always cached",
    "cache_text_embeddings": "texts are cached whenever the settings allow it", "num_repeats": "",
    "is_reg": "",
    "default_caption": "", "trigger_word": "",
    "mask_path": "masks lie beside the pictures here: NAME-masklabel.png",
    "mask_min_value": "", "invert_mask": "not here", "alpha_mask": "", "flip_y": "not here",
    "network_weight": "not here", "loss_multiplier": "not here", "random_crop": "",
    "random_scale": "not here", "scale": "not here", "control_path": "not here", "num_frames": "",
    "shrink_video_to_frames": "", "do_i2v": "", "fps": "", "bucket_tolerance": "", "type": "",
    "enable_ar_bucket": "", "prior_reg": "not here", "caption_type": "", "replacements": "not here",
    "square_crop": "not here", "augments": "not here", "shuffle_augmentations": "not here",
    "control_path_1": "not here", "control_path_2": "not here", "control_path_3": "not here",
    "do_audio": "", "audio_normalize": "", "audio_preserve_pitch": "", "fast_image_size": "",
}  # fmt: skip


def read(table: Mapping[str, Any], path: Path, where: Callable[[str], str] = lambda key: "") -> Imported:
    """A job file as settings: its first process of the kind that trains."""
    config = _mapping(table.get("config"))
    listed = config.get("process")
    processes = [p for p in listed if isinstance(p, dict)] if isinstance(listed, list) else []
    index = next((i for i, p in enumerate(processes) if "train" in p or "network" in p), 0)
    process = processes[index] if processes else {}
    prefix = f"config.process.{index}"
    given = {k: v for k, v in _flat(process).items() if not k.startswith("datasets")}
    ledger = Ledger(given, lambda key: where(f"{prefix}.{key}"))
    _network(ledger)
    _optimizer(ledger)
    _accumulation(ledger)
    read_rows(ledger, ROWS)
    _model(ledger)
    _quantised(ledger)
    _ema(ledger)
    _samples(ledger)
    _text(ledger)
    if "save.max_step_saves_to_keep" in ledger:
        ledger.take(
            "save.max_step_saves_to_keep",
            "saving.keep",
            max(2, int(ledger.number("save.max_step_saves_to_keep", 2))),
        )
    _loss(ledger)
    trigger = ledger.text("trigger_word")
    if trigger:
        ledger.fine("trigger_word", "the project's trigger")
    for key, (ours, value) in _DEFAULTS.items():
        ledger.default(key, ours, value)
    ledger.default("network.linear", "network.rank", 4)
    ledger.rest(_KNOWN, [row.key for row in ROWS])
    lines, folders = list(ledger.lines), []
    listed = process.get("datasets")
    for number, dataset in enumerate(listed if isinstance(listed, list) else []):
        if isinstance(dataset, dict):
            found = _dataset(dataset, f"{prefix}.datasets.{number}", where, ledger.values, number == 0)
            lines += found[0].lines
            folders.append(found[1])
    name = config.get("name")
    if isinstance(name, str) and name:
        try:
            ledger.also("saving.name", name)
        except ValueError:
            name = ""
    kept = tuple(f for f in folders if f.path)
    return Imported(
        TRAINER, path, ledger.values, tuple(lines), kept, trigger, name if isinstance(name, str) else ""
    )


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _flat(values: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    """Nested tables as dotted keys; the tables that are values themselves stay."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        whole = path in {"train.optimizer_params", "train.lr_scheduler_params", "network.network_kwargs"}
        if isinstance(value, dict) and value and depth < 6 and not whole:
            flat |= _flat(value, f"{path}.", depth + 1)
        else:
            flat[path] = value
    return flat


def _network(ledger: Ledger) -> None:
    kind = ledger.text("network.type").lower()
    if kind in {"lora", "lokr", "dora"}:
        ledger.take("network.type", "network.kind", kind)
    elif kind == "locon":
        ledger.take("network.type", "network.kind", "lora")
    elif kind:
        ledger.take("network.type", "network.kind", "lora", f"{kind} is not here")
    for key in ("network.linear", "network.rank"):
        if key in ledger:
            ledger.take(key, "network.rank")
    for key in ("network.linear_alpha", "network.alpha"):
        if key in ledger:
            ledger.take(key, "network.alpha")
    if "network.linear_alpha" not in ledger:
        ledger.default("network.alpha", "network.alpha", 1.0)
    if ledger.number("network.conv") > 0:
        ledger.take("network.conv", "network.conv_rank")
        ledger.also("network.target", "full+conv")
        if "network.conv_alpha" in ledger:
            ledger.take("network.conv_alpha", "network.conv_alpha")
    else:
        ledger.also("network.target", "full")
    if "network.lokr_full_rank" in ledger:
        if ledger.truth("network.lokr_full_rank") and kind == "lokr":
            ledger.ignore("network.lokr_full_rank", "the factors have the rank that network.rank says")
        else:
            ledger.ignore("network.lokr_full_rank")


def _optimizer(ledger: Ledger) -> None:
    from loratui.optim.options import parse

    word = ledger.text("train.optimizer").lower()
    if word in _OPTIMIZERS:
        ledger.take("train.optimizer", "optimizer.name", _OPTIMIZERS[word])
    elif word:
        near = _NEAR_OPTIMIZERS.get(word, "adamw")
        ledger.take("train.optimizer", "optimizer.name", near, "the nearest that is here")
    params = ledger.get("train.optimizer_params")
    if isinstance(params, dict):
        options, left = [], []
        for key, value in params.items():
            if key in {"weight_decay", "eps"}:
                ledger.also(f"optimizer.{key}", value)
            elif key == "betas" and isinstance(value, list):
                for number, ours in zip(value, ("optimizer.beta1", "optimizer.beta2"), strict=False):
                    ledger.also(ours, number)
            else:
                option = f"{key}={tuple(value) if isinstance(value, list) else value!r}"
                try:
                    parse([option])
                    options.append(option)
                except ValueError:
                    left.append(str(key))
        why = f"left out: {', '.join(left)}" if left else ""
        if options or why:
            ledger.take("train.optimizer_params", "optimizer.options", options, why)
        else:
            ledger.fine("train.optimizer_params", "taken into weight_decay, beta1, beta2 and eps")
    word = ledger.text("train.lr_scheduler").lower()
    if word in _SCHEDULES:
        ledger.take("train.lr_scheduler", "optimizer.schedule", _SCHEDULES[word])
    elif word:
        ledger.take("train.lr_scheduler", "optimizer.schedule", "constant", "not among the schedules here")
    params = ledger.get("train.lr_scheduler_params")
    if isinstance(params, dict):
        left = []
        for key, value in params.items():
            if key in {"num_warmup_steps", "warmup_steps"}:
                ledger.also("optimizer.warmup_steps", value)
            elif key == "power" and word == "polynomial":
                ledger.also("optimizer.power", value)
            elif key == "num_cycles" and word == "cosine_with_restarts":
                ledger.also("optimizer.cycles", value)
            else:
                left.append(str(key))
        if left:
            ledger.ignore("train.lr_scheduler_params", f"left out: {', '.join(left)}")
        else:
            ledger.fine("train.lr_scheduler_params", "")
    if "train.unet_lr" in ledger:
        ledger.take("train.unet_lr", "optimizer.lr")
        if "train.lr" in ledger:
            ledger.fine("train.lr", "unet_lr is the rate of the U-Net")


def _accumulation(ledger: Ledger) -> None:
    for key in ("train.gradient_accumulation", "train.gradient_accumulation_steps"):
        if key in ledger:
            if ledger.number(key, 1) < 0:
                ledger.ignore(key, "a whole epoch at once is not here")
            elif "optimizer.accumulation" in ledger.values and ledger.number(key, 1) == 1:
                ledger.fine(key, "")
            else:
                ledger.take(key, "optimizer.accumulation")


def _model(ledger: Ledger) -> None:
    for key, family in (("model.is_xl", "sdxl"), ("model.is_v2", "sd2")):
        if key in ledger:
            if ledger.truth(key):
                ledger.take(key, "model.family", family)
            else:
                ledger.ignore(key)
    if "model.is_v_pred" in ledger:
        if ledger.truth("model.is_v_pred"):
            ledger.take("model.is_v_pred", "objective.prediction", "v_prediction")
        else:
            ledger.ignore("model.is_v_pred")
    arch = ledger.text("model.arch").split(":")[0].lower()
    if arch in {"sd1", "sd15", "sd2", "sdxl"}:
        ledger.take("model.arch", "model.family", "sd15" if arch in {"sd1", "sd15"} else arch)


def _quantised(ledger: Ledger) -> None:
    """`quantize: true` with a `qtype` of quanto or torchao."""
    word = ledger.text("model.qtype").lower()
    if not ledger.truth("model.quantize"):
        if word:
            ledger.ignore("model.qtype", "nothing is quantised")
        return
    form = next((ours for part, ours in _QTYPES if part in word), "" if word else "fp8")
    if not form:
        ledger.ignore("model.quantize", f"{word} is not here: set memory.base_weights")
        ledger.ignore("model.qtype")
        return
    ledger.take("model.quantize", "memory.base_weights", form)
    if word:
        why = "the 4-bit form here" if form == "nf4" and word != "nf4" else ""
        ledger.take("model.qtype", "memory.base_weights", form, why)


def _ema(ledger: Ledger) -> None:
    key = "train.ema_config.ema_decay"
    if ledger.truth("train.ema_config.use_ema"):
        ledger.fine("train.ema_config.use_ema", "")
        if key in ledger:
            ledger.take(key, "objective.ema_decay")
        else:
            ledger.default(key, "objective.ema_decay", 0.999)
    else:
        for name in (key, "train.ema_config.use_ema"):
            if name in ledger or name == "train.ema_config.use_ema":
                ledger.ignore(name, "the average is off") if name in ledger else None


def _samples(ledger: Ledger) -> None:
    prompts = ledger.get("sample.prompts")
    items = ledger.get("sample.samples")
    if isinstance(items, list):
        texts = [i["prompt"] for i in items if isinstance(i, dict) and isinstance(i.get("prompt"), str)]
        ledger.take("sample.samples", "samples.prompts", [_trigger(t) for t in texts])
    if isinstance(prompts, list):
        ledger.take("sample.prompts", "samples.prompts", [_trigger(str(p)) for p in prompts])
    if ledger.truth("train.disable_sampling"):
        ledger.take("train.disable_sampling", "samples.every", 0)


def _trigger(text: str) -> str:
    return text.replace("[trigger]", "{trigger}")


def _text(ledger: Ledger) -> None:
    if "train.text_encoder_lr" in ledger:
        if ledger.truth("train.train_text_encoder"):
            ledger.take("train.text_encoder_lr", "network.text_lr")
        else:
            ledger.ignore("train.text_encoder_lr", "the text encoder is not trained")
    elif ledger.truth("train.train_text_encoder"):
        rate = ledger.number("train.lr", 1e-6)
        ledger.default("train.text_encoder_lr", "network.text_lr", rate)
    for key, ours in (
        ("train.min_denoising_steps", "objective.timestep_min"),
        ("train.max_denoising_steps", "objective.timestep_max"),
    ):
        if key in ledger:
            value = ledger.number(key)
            ledger.take(key, ours, min(1000, value + 1) if ours.endswith("max") else value)


def _loss(ledger: Ledger) -> None:
    word = ledger.text("train.loss_type").lower()
    if word in {"mse", "l2"}:
        ledger.take("train.loss_type", "objective.loss", "l2")
    elif word == "pseudo_huber":
        ledger.take("train.loss_type", "objective.loss", "huber", "the scale is objective.huber_c")
    elif word:
        ledger.ignore("train.loss_type", "not among the losses here")


def _dataset(
    given: Mapping[str, Any], prefix: str, where: Callable[[str], str], values: dict[str, Any], first: bool
) -> tuple[Ledger, Folder]:
    """One entry of `datasets`: the first sets what a run has once."""
    ledger = Ledger(
        given,
        lambda key: where(f"{prefix}.{key.removeprefix('datasets.')}"),
        {k: f"datasets.{k}" for k in given},
    )
    resolution = ledger.get("resolution")
    sides = resolution if isinstance(resolution, list) else [resolution] if resolution is not None else []
    sides = [s for s in sides if isinstance(s, int) and not isinstance(s, bool) and s > 0]
    if "resolution" in ledger:
        if len(sides) > 1:
            largest, *lower = sorted(set(sides), reverse=True)
            ledger.take("resolution", "data.resolution", largest)
            ledger.also("data.also_at", tuple(sorted(lower)))
        elif sides:
            ledger.take("resolution", "data.resolution", sides[0])
        else:
            ledger.wrong("resolution", "wants a number of px, or a list of them")
    read_rows(ledger, DATASET_ROWS)
    if ledger.truth("random_crop"):
        ledger.take("random_crop", "data.crop", "random")
    if ledger.truth("alpha_mask"):
        ledger.take(
            "alpha_mask",
            "objective.masked",
            True,
            "the alpha channel becomes the mask of a picture in the Dataset room",
        )
    if "flip_x" in ledger and "flip_y" in ledger and ledger.truth("flip_y"):
        ledger.ignore("flip_y", "pictures are mirrored sideways only")
    ledger.rest(_DATASET_KNOWN, [row.key for row in DATASET_ROWS])
    for key, value in ledger.values.items():
        if first or key not in values:
            values[key] = value
    if not first:
        ledger.lines = [_second(line, ledger.values, values) for line in ledger.lines]
    repeats = given.get("num_repeats", 1)
    regularisation = given.get("is_reg") is True
    path = str(given.get("folder_path") or given.get("dataset_path") or "")
    if regularisation and path:
        values["data.reg_dir"] = path
    count = repeats if isinstance(repeats, int) and not isinstance(repeats, bool) and repeats > 0 else 1
    return ledger, Folder(path, count, str(given.get("default_caption") or ""), regularisation)


def _second(line: Line, own: Mapping[str, Any], values: Mapping[str, Any]) -> Line:
    """A line of a further data set: what differs from the first is not taken."""
    if not line.to or own.get(line.to) == values.get(line.to):
        return line
    why = f"differs from the first data set's {shown(values[line.to])}; a run here has one value"
    return Line("ignored", line.key, line.value, why=why, where=line.where)


# --- writing ----------------------------------------------------------------------------------------------


def write(
    values: Mapping[str, Any], folders: list[Folder], name: str, trigger: str = "", family: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """Settings as a job file, and what it has no key for.

    Args:
        values: dotted path -> value, of every setting.
        folders: where the pictures lie.
        name: of the job.
        trigger: the project's trigger.
        family: of the base.
    """
    process: dict[str, Any] = {"type": "sd_trainer", "training_folder": "output", "device": "cuda:0"}
    if trigger:
        process["trigger_word"] = trigger
    for key, value in write_rows(values, ROWS).items():
        section, _, leaf = key.partition(".")
        process.setdefault(section, {})[leaf] = value
    network = process.setdefault("network", {})
    kind = values["network.kind"]
    network |= {"type": kind, "linear": values["network.rank"], "linear_alpha": values["network.alpha"]}
    if values["network.target"] == "full+conv":
        network["conv"] = values["network.conv_rank"] or values["network.rank"]
        network["conv_alpha"] = values["network.conv_alpha"] or values["network.alpha"]
    if kind == "lokr":
        network["lokr_full_rank"] = False
    train = process.setdefault("train", {})
    _write_train(values, train)
    model = process.setdefault("model", {})
    if family:
        model["arch"] = {"sd15": "sd1"}.get(family, family)
    if values["objective.prediction"] == "v_prediction":
        model["is_v_pred"] = True
    if values["memory.base_weights"] in _WRITTEN_QTYPES:
        model |= {"quantize": True, "qtype": _WRITTEN_QTYPES[values["memory.base_weights"]]}
    process.setdefault("save", {})["max_step_saves_to_keep"] = values["saving.keep"]
    sample = process.setdefault("sample", {})
    if values["samples.prompts"]:
        sample["prompts"] = [p.replace("{trigger}", "[trigger]") for p in values["samples.prompts"]]
    sample["walk_seed"] = True  # seeds count up here
    shared = write_rows(values, DATASET_ROWS) | {
        "resolution": sorted({values["data.resolution"], *values["data.also_at"]}),
        "caption_ext": "txt",
    }
    shared["buckets"] = values["data.bucketing"]
    if values["data.crop"] == "random":
        shared["random_crop"] = True
    process["datasets"] = [_folder(folder, shared) for folder in folders]
    job = {"job": "extension", "config": {"name": name, "process": [process]}, "meta": {"name": "[name]"}}
    return job, _unsaid(values)


def _write_train(values: Mapping[str, Any], train: dict[str, Any]) -> None:
    names = {ours: theirs for theirs, ours in _OPTIMIZERS.items()}
    train["optimizer"] = names.get(values["optimizer.name"], "adamw")
    params: dict[str, Any] = {"weight_decay": values["optimizer.weight_decay"]}
    if values["optimizer.name"] in {"adamw", "adamw8bit", "prodigy", "dadaptation", "schedule_free", "muon"}:
        params |= {
            "betas": [values["optimizer.beta1"], values["optimizer.beta2"]],
            "eps": values["optimizer.eps"],
        }
    train["optimizer_params"] = params
    schedule = values["optimizer.schedule"]
    restarts = schedule == "cosine" and values["optimizer.cycles"] > 1
    train["lr_scheduler"] = (
        "cosine_with_restarts" if restarts else schedule if schedule in _SCHEDULES else "constant"
    )
    scheduled: dict[str, Any] = {}
    if restarts:
        scheduled["num_cycles"] = values["optimizer.cycles"]
    if schedule == "polynomial":
        scheduled["power"] = values["optimizer.power"]
    if values["optimizer.warmup_steps"]:
        scheduled["num_warmup_steps"] = values["optimizer.warmup_steps"]
    if scheduled:
        train["lr_scheduler_params"] = scheduled
    train["gradient_accumulation"] = values["optimizer.accumulation"]
    train["gradient_checkpointing"] = values["memory.gradient_checkpointing"]
    train["min_denoising_steps"] = values["objective.timestep_min"]
    train["max_denoising_steps"] = values["objective.timestep_max"] - 1
    if values["network.text_encoder"]:
        train["text_encoder_lr"] = values["network.text_lr"] or values["optimizer.lr"] / 2
    if values["objective.ema_decay"]:
        train["ema_config"] = {"use_ema": True, "ema_decay": values["objective.ema_decay"]}
    train["loss_type"] = "pseudo_huber" if values["objective.loss"] == "huber" else "mse"


def _folder(folder: Folder, shared: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"folder_path": folder.path, **shared}
    if folder.repeats != 1:
        found["num_repeats"] = folder.repeats
    if folder.caption:
        found["default_caption"] = folder.caption
    if folder.regularisation:
        found["is_reg"] = True
    return found


SAID = {
    "network.kind", "network.rank", "network.alpha", "network.target", "network.conv_rank",
    "network.conv_alpha", "network.text_lr", "optimizer.name", "optimizer.weight_decay", "optimizer.beta1",
    "optimizer.beta2", "optimizer.eps", "optimizer.schedule", "optimizer.cycles", "optimizer.power",
    "optimizer.warmup_steps", "optimizer.accumulation", "objective.timestep_min", "objective.timestep_max",
    "objective.ema_decay", "objective.prediction", "objective.loss", "saving.keep", "saving.name",
    "samples.prompts", "data.resolution", "data.also_at", "data.repeats", "data.bucketing", "model.family",
    "memory.device",
}  # fmt: skip


def _unsaid(values: Mapping[str, Any]) -> list[str]:
    from loratui.config.docs import field_table

    said = SAID | {row.ours for row in (*ROWS, *DATASET_ROWS)}
    if values["data.crop"] == "random":
        said |= {"data.crop"}
    if values["memory.base_weights"] in _WRITTEN_QTYPES:
        said |= {"memory.base_weights"}
    return [
        f"{path} = {value_text(values[path])}: ai-toolkit has no such setting"
        for path, info in field_table().items()
        if path not in said and values[path] != info.default
    ]
