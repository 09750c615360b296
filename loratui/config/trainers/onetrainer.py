"""OneTrainer (Nerogar): its JSON presets and config.json, read."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from loratui.config.trainers.report import Folder, Imported, Ledger, Line
from loratui.config.trainers.rows import Row, read_rows
from loratui.families.spec import family_spec

TRAINER = "onetrainer"
_FAMILIES = {
    "STABLE_DIFFUSION_15": "sd15", "STABLE_DIFFUSION_20": "sd2", "STABLE_DIFFUSION_20_BASE": "sd2",
    "STABLE_DIFFUSION_21": "sd2", "STABLE_DIFFUSION_21_BASE": "sd2", "STABLE_DIFFUSION_XL_10_BASE": "sdxl",
}  # fmt: skip
_DTYPES = {
    "float_32": "fp32", "float_16": "fp16", "bfloat_16": "bf16", "tfloat_32": "fp32",
}  # fmt: skip
_OPTIMIZERS = {
    "ADAMW": "adamw", "ADAMW_8BIT": "adamw8bit", "LION": "lion", "LION_8BIT": "lion8bit", "CAME": "came",
    "ADAFACTOR": "adafactor", "PRODIGY": "prodigy", "DADAPT_ADAM": "dadaptation", "MUON": "muon",
    "SCHEDULE_FREE_ADAMW": "schedule_free",
}  # fmt: skip
_NEAR = {
    "ADAM": "adamw", "ADAM_8BIT": "adamw8bit", "PRODIGY_PLUS_SCHEDULE_FREE": "prodigy", "CAME_8BIT": "came",
    "DADAPT_LION": "dadaptation", "DADAPT_SGD": "dadaptation", "DADAPT_ADAN": "dadaptation",
    "DADAPT_ADA_GRAD": "dadaptation", "ADAMW_ADV": "adamw", "PRODIGY_ADV": "prodigy", "LION_ADV": "lion",
}  # fmt: skip
_WEIGHTS = {"FLOAT_8": "fp8", "FLOAT_W8A8": "fp8", "INT_W8A8": "int8", "NFLOAT_4": "nf4"}
_SCHEDULES = {
    "CONSTANT": "constant", "LINEAR": "linear", "COSINE": "cosine", "COSINE_WITH_RESTARTS": "cosine",
    "COSINE_WITH_HARD_RESTARTS": "cosine", "REX": "rex",
}  # fmt: skip
ROWS: tuple[Row, ...] = (
    Row("base_model_name", "model.base"),
    Row("batch_size", "data.batch_size"),
    Row("aspect_ratio_bucketing", "data.bucketing"),
    Row("epochs", "optimizer.epochs"),
    Row("gradient_accumulation_steps", "optimizer.accumulation"),
    Row("learning_rate", "optimizer.lr"),
    Row("learning_rate_min_factor", "optimizer.lr_floor"),
    Row("clip_grad_norm", "optimizer.max_grad_norm"),
    Row("train_dtype", "memory.precision", _DTYPES),
    Row("output_dtype", "saving.dtype", _DTYPES),
    Row("dropout_probability", "network.dropout"),
    Row("lora_alpha", "network.alpha"),
    Row("lora_model_name", "network.start_from"),
    Row("offset_noise_weight", "objective.noise_offset"),
    Row("perturbation_noise_weight", "objective.input_perturbation"),
    Row("rescale_noise_scheduler_to_zero_terminal_snr", "objective.zero_terminal_snr"),
    Row("masked_training", "objective.masked"),
    Row("unmasked_weight", "objective.mask_floor"),
    Row("normalize_masked_area_loss", "objective.mask_normalize"),
    Row("vae.model_name", "model.vae"),
)
_DEFAULTS: Mapping[str, tuple[str, Any]] = {
    "epochs": ("optimizer.epochs", 100),
    "learning_rate": ("optimizer.lr", 3e-6),
    "learning_rate_warmup_steps": ("optimizer.warmup_steps", 200),
    "lora_alpha": ("network.alpha", 1.0),
    "train_dtype": ("memory.precision", "fp16"),
}
_OTHER_PARTS = (
    "prior.", "transformer.", "unconditional_transformer.", "text_encoder_3.", "text_encoder_4.",
    "effnet_encoder.", "decoder.", "decoder_text_encoder.", "decoder_vqgan.", "cloud.", "secrets.",
    "optimizer_defaults", "quantization.", "embedding.", "vae.", "text_encoder.", "text_encoder_2.", "unet.",
    "optimizer.",
)  # fmt: skip
_KNOWN: Mapping[str, str] = {
    **dict.fromkeys(
        ("__version", "training_method", "debug_mode", "debug_dir", "workspace_dir", "cache_dir",
         "tensorboard",
         "tensorboard_expose", "tensorboard_port", "tensorboard_always_on", "continue_last_backup",
         "include_train_config", "prevent_overwrites", "output_model_format", "frames", "only_cache",
         "clear_cache_before_training", "caching_threads", "dataloader_threads", "latent_caching",
         "train_device", "temp_device",
         "prefetch_next_batch", "async_offloading", "fallback_train_dtype", "enable_autocast_cache",
         "weight_dtype", "sample_image_format", "sample_video_format", "sample_audio_format",
         "samples_to_tensorboard", "non_ema_sampling", "backup_before_save", "save_filename_prefix",
         "rolling_backup", "rolling_backup_count", "backup_after", "backup_after_unit", "image_caching",
         "text_caching", "lora_weight_dtype", "embedding_weight_dtype", "bundle_additional_embeddings",
         "lora_decompose_norm_epsilon", "lora_decompose_output_axis", "attention_mechanism",
         "enable_activation_offloading", "layer_offload_fraction", "output_model_destination",
         "concept_file_name", "concepts",
         "sample_definition_file_name", "samples", "sample_skip_first", "save_skip_first",
         "loss_weight_strength",
         "ema_update_step_interval", "ema_decay", "noising_weight", "noising_bias",
         "dynamic_timestep_shifting",
         "timestep_shift", "mse_strength", "vb_loss_strength", "vae_weight_dtype", "compile",
         "layer_filter_preset", "layer_filter_regex", "additional_embeddings", "embedding_learning_rate",
         "custom_conditioning_image", "custom_learning_rate_scheduler", "validate_after_unit",
         "validate_after",
         "text_encoder_sequence_length", "text_encoder_2_sequence_length", "text_encoder_2_layer_skip",
         "text_encoder_3_layer_skip", "text_encoder_4_layer_skip", "multi_gpu", "device_indexes",
         "gradient_reduce_precision", "fused_gradient_reduce", "async_gradient_reduce",
         "async_gradient_reduce_buffer", "huber_delta", "cep_gamma", "generalized_offset_noise",
         "oft_block_share",
         "dora_oft", "oft_scaled", "oft_clipped_norm", "oft_cans", "preserve_embedding_norm",
         "stop_training_after",
         "lokr_weight_decompose", "lokr_dora_on_output", "lokr_full_matrix", "lokr_vec_trick"), ""),
    "unmasked_probability": "masks are used at every step",
    "masked_prior_preservation_weight": "not here",
    "force_circular_padding": "not here",
    "mae_strength": "not among the losses here",
    "log_cosh_strength": "not among the losses here",
    "huber_strength": "losses are not mixed here: set objective.loss = huber",
    "loss_scaler": "losses are not scaled here",
    "learning_rate_scaler": "learning rates are not scaled here",
    "scheduler_params": "arguments of a schedule that is not here",
    "layer_filter": "patterns go into network.ranks: PATTERN=0 leaves a module out",
    "validation": "set objective.validation_share",
    "sample_after": "", "sample_after_unit": "", "save_every": "", "save_every_unit": "",
    "timestep_distribution": "",
}  # fmt: skip


def read(
    table: Mapping[str, Any],
    path: Path,
    where: Callable[[str], str] = lambda key: "",
    concepts: list[Mapping[str, Any]] | None = None,
) -> Imported:
    """A config as settings.

    Args:
        table: the JSON.
        path: its file.
        where: `file:line` of a key.
        concepts: what its concept file holds, where that was found.
    """  # fmt: skip
    given = _flat(table)
    ledger = Ledger(given, where)
    family = ledger.text("model_type")
    if family in _FAMILIES:
        ledger.take("model_type", "model.family", _FAMILIES[family])
    elif family:
        ledger.ignore("model_type", "not among the families here yet; the family is read from the base")
    if ledger.text("training_method") not in {"", "LORA"}:
        ledger.ignore("training_method", "only LoRA training is here")
    _network(ledger)
    _optimizer(ledger)
    _rate(ledger)
    read_rows(ledger, ROWS)
    _resolution(ledger)
    _objective(ledger)
    _text(ledger)
    _memory(ledger, _FAMILIES.get(family, ""))
    _every(ledger, "sample_after", "samples.every")
    _every(ledger, "save_every", "saving.every")
    destination = ledger.text("output_model_destination")
    name = Path(destination.replace("\\", "/")).stem if destination else ""
    if name:
        ledger.take("output_model_destination", "saving.name", name)
    for key, (ours, value) in _DEFAULTS.items():
        ledger.default(key, ours, value)
    unused = {k: "" for k in given if k.startswith(_OTHER_PARTS)}
    ledger.rest({**_KNOWN, **unused}, [row.key for row in ROWS])
    inside = table.get("concepts")
    listed = inside if isinstance(inside, list) else concepts or []
    shown = _pictures(listed, ledger.values)
    lines = (*ledger.lines, *shown)
    return Imported(TRAINER, path, ledger.values, lines, tuple(_folders(listed)), "", name)


def _flat(values: Mapping[Any, Any], prefix: str = "", depth: int = 0) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        path = f"{prefix}{key}"
        if isinstance(value, dict) and value and depth < 4 and path != "optimizer_defaults":
            flat |= _flat(value, f"{path}.", depth + 1)
        else:
            flat[path] = value
    return flat


def _folders(concepts: list[Any]) -> list[Folder]:
    found = []
    for concept in concepts:
        if not isinstance(concept, dict) or concept.get("enabled") is False:
            continue
        path = concept.get("path")
        if isinstance(path, str) and path:
            kind = str(concept.get("type", concept.get("concept_type", "")))
            repeats = concept.get("balancing", concept.get("repeats", 1))
            count = int(repeats) if isinstance(repeats, (int, float)) and 1 <= repeats < 1e6 else 1
            found.append(Folder(path, count, "", "PRIOR" in kind.upper()))
    return found


def _network(ledger: Ledger) -> None:
    kind = ledger.text("peft_type").upper()
    names = {"LORA": "lora", "LOHA": "loha", "LOKR": "lokr", "OFT_2": "oft", "OFT": "oft"}
    decompose = ledger.truth("lora_decompose")
    if kind in names:
        ours = "dora" if decompose and kind == "LORA" else names[kind]
        why = "the OFT here is PEFT's: it turns the input and loads in PEFT alone" if ours == "oft" else ""
        ledger.take("peft_type", "network.kind", ours, why)
    elif kind:
        ledger.take("peft_type", "network.kind", "lora", f"{kind} is not here")
    elif decompose:
        ledger.also("network.kind", "dora")
    if "lora_decompose" in ledger:
        ledger.fine("lora_decompose", "DoRA") if decompose else ledger.ignore("lora_decompose")
    if kind == "LOKR" and "lokr_dim" in ledger:
        ledger.take("lokr_dim", "network.rank")
        if "lora_rank" in ledger:
            ledger.ignore("lora_rank", "lokr_dim counts")
    else:
        if "lora_rank" in ledger:
            ledger.take("lora_rank", "network.rank")
        if "lokr_dim" in ledger:
            ledger.ignore("lokr_dim")
    lokr = (
        ("lokr_decompose_both", "network.decompose_both"), ("lokr_decompose_factor", "network.factor"),
        ("lokr_use_tucker", "network.tucker"),
    )  # fmt: skip
    for key, ours in lokr:
        if key in ledger:
            ledger.take(key, ours) if kind == "LOKR" else ledger.ignore(key)
    if "oft_block_size" in ledger:
        if kind.startswith("OFT"):
            ledger.take("oft_block_size", "network.block_size")
        else:
            ledger.ignore("oft_block_size")
    preset = ledger.text("layer_filter_preset").lower()
    targets = {"full": "full+conv", "attn-mlp": "attention+mlp", "attn-only": "attention"}
    if kind.startswith("OFT"):
        targets["full"] = "full"
    if preset in targets:
        ledger.take("layer_filter_preset", "network.target", targets[preset])
    else:
        ledger.also("network.target", targets["full"])


def _optimizer(ledger: Ledger) -> None:
    word = ledger.text("optimizer.optimizer").upper()
    if not word and isinstance(ledger.get("optimizer"), str):
        word = ledger.text("optimizer").upper()  # configs of old versions
        ledger.fine("optimizer", "") if word in _OPTIMIZERS else None
        if word in _OPTIMIZERS:
            ledger.also("optimizer.name", _OPTIMIZERS[word])
    elif word in _OPTIMIZERS:
        ledger.take("optimizer.optimizer", "optimizer.name", _OPTIMIZERS[word])
    elif word:
        ledger.take(
            "optimizer.optimizer", "optimizer.name", _NEAR.get(word, "adamw"), "the nearest that is here"
        )
    for key in ("weight_decay", "beta1", "beta2", "eps"):
        name = f"optimizer.{key}"
        if name in ledger:
            ledger.take(name, name)
    if "optimizer.d_coef" in ledger and word == "PRODIGY":
        ledger.take(
            "optimizer.d_coef", "optimizer.options", [f"d_coef={ledger.number('optimizer.d_coef', 1.0):g}"]
        )


def _rate(ledger: Ledger) -> None:
    if "unet.learning_rate" in ledger:
        ledger.take("unet.learning_rate", "optimizer.lr")
        if "learning_rate" in ledger:
            ledger.fine("learning_rate", "unet.learning_rate is the rate of the U-Net")
    word = ledger.text("learning_rate_scheduler").upper()
    if word in _SCHEDULES:
        ledger.take("learning_rate_scheduler", "optimizer.schedule", _SCHEDULES[word])
    elif word:
        ledger.take(
            "learning_rate_scheduler", "optimizer.schedule", "constant", "not among the schedules here"
        )
    if "learning_rate_cycles" in ledger:
        cycles = ledger.number("learning_rate_cycles", 1)
        if word.endswith("RESTARTS") and cycles == int(cycles):
            ledger.take("learning_rate_cycles", "optimizer.cycles")
        elif cycles == 1:
            ledger.fine("learning_rate_cycles", "")
        else:
            ledger.ignore("learning_rate_cycles", "only a cosine with restarts has whole cycles")
    if "learning_rate_warmup_steps" in ledger:
        steps = ledger.number("learning_rate_warmup_steps")
        if 0 < steps <= 1:  # a share of all steps there
            ledger.ignore(
                "learning_rate_warmup_steps", "a share of the steps, and the run is counted in epochs"
            )
        else:
            ledger.take("learning_rate_warmup_steps", "optimizer.warmup_steps", round(steps))
    ledger.also("optimizer.steps", 0)  # the length is in epochs there


def _resolution(ledger: Ledger) -> None:
    if "resolution" not in ledger:
        return
    parts = [part for part in ledger.text("resolution").replace("x", ",").split(",") if part.strip()]
    try:
        sides = [int(part) for part in parts]
    except ValueError:
        ledger.wrong("resolution", "wants a number of px")
        return
    if len(sides) > 1:
        ledger.take("resolution", "data.resolution", max(sides), "the largest of them")
    else:
        ledger.take("resolution", "data.resolution", sides[0] if sides else 0)


def _objective(ledger: Ledger) -> None:
    word = ledger.text("loss_weight_fn").upper()
    strength = ledger.number("loss_weight_strength", 5.0)
    if word == "MIN_SNR_GAMMA":
        ledger.take("loss_weight_fn", "objective.min_snr_gamma", strength)
    elif word == "DEBIASED_ESTIMATION":
        ledger.take("loss_weight_fn", "objective.weighting", "debiased")
    elif word == "P2":
        ledger.take("loss_weight_fn", "objective.weighting", "p2")
        ledger.also("objective.p2_gamma", strength)
    elif word == "CONSTANT":
        ledger.fine("loss_weight_fn", "all timesteps count the same")
    elif word:
        ledger.ignore("loss_weight_fn", "not among the weightings here")
    for key, prediction in (("force_v_prediction", "v_prediction"), ("force_epsilon_prediction", "epsilon")):
        if ledger.truth(key):
            ledger.take(key, "objective.prediction", prediction)
        elif key in ledger:
            ledger.ignore(key)
    for key, ours in (
        ("min_noising_strength", "objective.timestep_min"),
        ("max_noising_strength", "objective.timestep_max"),
    ):
        if key in ledger:  # a share of the 1,000 timesteps there
            ledger.take(key, ours, round(ledger.number(key) * 1000))
    if ledger.text("ema").upper() in {"GPU", "CPU"}:
        ledger.take("ema", "objective.ema_decay", ledger.number("ema_decay", 0.999))
        if ledger.number("ema_update_step_interval", 1) != 1:
            ledger.ignore("ema_update_step_interval", "the average follows every step here")
    elif "ema" in ledger:
        ledger.ignore("ema")
    distribution = ledger.text("timestep_distribution").upper()
    if distribution not in {"", "UNIFORM"}:
        ledger.ignore("timestep_distribution", "timesteps are drawn evenly, or with objective.timestep_bias")
    elif distribution:
        ledger.fine("timestep_distribution", "timesteps are drawn evenly")


def _text(ledger: Ledger) -> None:
    trained = [ledger.truth(f"{part}.train") for part in ("text_encoder", "text_encoder_2")]
    if "text_encoder.train" in ledger:
        ledger.take("text_encoder.train", "network.text_encoder", trained[0])
    if trained[1] and not trained[0]:
        ledger.ignore("text_encoder_2.train", "both text encoders are trained, or none")
    elif "text_encoder_2.train" in ledger:
        ledger.fine("text_encoder_2.train", "with the first one")
    if trained[0]:
        if "text_encoder.learning_rate" in ledger:
            ledger.take("text_encoder.learning_rate", "network.text_lr")
        else:
            ledger.default(
                "text_encoder.learning_rate", "network.text_lr", ledger.number("learning_rate", 3e-6)
            )
        if trained[1] and "text_encoder_2.learning_rate" in ledger:
            ledger.take("text_encoder_2.learning_rate", "network.text_lr_2")
        if ledger.text("text_encoder.stop_training_after_unit").upper() == "STEP":
            ledger.take("text_encoder.stop_training_after", "network.text_stop")
        elif "text_encoder.stop_training_after" in ledger:
            ledger.ignore("text_encoder.stop_training_after", "counted in steps here: set network.text_stop")
    if "text_encoder_layer_skip" in ledger:
        ledger.take(
            "text_encoder_layer_skip", "model.clip_skip", 1 + ledger.number("text_encoder_layer_skip")
        )


def _memory(ledger: Ledger, family: str) -> None:
    value = ledger.get("gradient_checkpointing", ledger.get("unet.gradient_checkpointing"))
    key = "gradient_checkpointing" if "gradient_checkpointing" in ledger else "unet.gradient_checkpointing"
    if key in ledger:
        word = str(value).upper()
        offloaded = word == "CPU_OFFLOADED"
        why = "activations stay on the device" if offloaded else ""
        ledger.take(key, "memory.gradient_checkpointing", offloaded or word in {"ON", "TRUE", "1"}, why)
        _offload(ledger, family if offloaded else "")
    if ledger.truth("compile"):
        ledger.take("compile", "memory.compile", True)
    word = ledger.text("unet.weight_dtype").upper()
    if word in _WEIGHTS:
        why = "" if word in {"FLOAT_8", "NFLOAT_4"} else "products are not in 8 bits here"
        ledger.take("unet.weight_dtype", "memory.base_weights", _WEIGHTS[word], why)


def _offload(ledger: Ledger, family: str) -> None:
    """The share of layers in main memory as blocks; it counts there with offloaded checkpointing alone."""
    share, spec = ledger.number("layer_offload_fraction"), family_spec(family)
    if 0 < share <= 1 and spec is not None:
        ledger.take(
            "layer_offload_fraction", "memory.blocks_to_swap", round(share * spec.blocks),
            "a share of the layers there, blocks here",
        )  # fmt: skip


def _pictures(concepts: list[Any], values: dict[str, Any]) -> list[Line]:
    """What the first concept that is trained on says of its pictures and captions."""
    first = next((c for c in concepts if isinstance(c, dict) and c.get("enabled") is not False), {})
    given = {k: v for k, v in _flat(first, "concepts.").items() if k.startswith(_CONCEPT)}
    ledger = Ledger(given)
    if ledger.truth("concepts.image.enable_crop_jitter"):
        ledger.take("concepts.image.enable_crop_jitter", "data.crop", "random")
    read_rows(ledger, _CONCEPT_ROWS)
    strengths = {}
    for what in ("brightness", "contrast", "saturation", "hue"):
        if ledger.truth(f"concepts.image.enable_random_{what}"):
            strengths[what] = ledger.number(f"concepts.image.random_{what}_max_strength")
    if strengths:
        strongest = max(strengths, key=lambda what: strengths[what])
        ledger.take(
            f"concepts.image.random_{strongest}_max_strength", "data.colour_jitter",
            min(1.0, strengths[strongest]), "one strength for all of them here",
        )  # fmt: skip
    ledger.default("concepts.text.prompt_source", "data.caption_lines", "random")
    values.update(ledger.values)
    return ledger.lines


_CONCEPT = ("concepts.image.", "concepts.text.")
_CONCEPT_ROWS: tuple[Row, ...] = (
    Row("concepts.image.enable_random_flip", "data.flip"),
    Row("concepts.text.enable_tag_shuffling", "data.shuffle_captions"),
    Row("concepts.text.keep_tags_count", "data.keep_tokens"),
    Row("concepts.text.tag_delimiter", "data.separator"),
)


def _every(ledger: Ledger, key: str, ours: str) -> None:
    unit = ledger.text(f"{key}_unit").upper()
    if unit == "STEP" and ledger.number(key) > 0:
        ledger.take(key, ours)
    elif unit == "NEVER" and ours == "samples.every":
        ledger.take(f"{key}_unit", ours, 0)
    elif unit and key in ledger and ledger.number(key) > 0 and unit != "NEVER":
        ledger.ignore(key, f"counted in {unit.lower()}s; steps count here: set {ours}")
