"""sd-scripts' optimizer, learning rate, schedule and length."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratui.config.trainers.kohya_network import arguments_of
from loratui.config.trainers.report import Ledger

SAID = {
    "optimizer.name", "optimizer.options", "optimizer.lr", "optimizer.steps", "optimizer.epochs",
    "optimizer.schedule", "optimizer.cycles", "optimizer.power", "optimizer.decay_share",
    "optimizer.lr_floor", "optimizer.warmup_steps", "optimizer.weight_decay", "optimizer.beta1",
    "optimizer.beta2", "optimizer.eps", "optimizer.max_grad_norm",
}  # fmt: skip
NAMES = {
    "adamw": "adamw", "adamw8bit": "adamw8bit", "pagedadamw8bit": "paged_adamw8bit", "lion": "lion",
    "lion8bit": "lion8bit", "adafactor": "adafactor", "prodigy": "prodigy", "dadaptation": "dadaptation",
    "dadaptadam": "dadaptation", "adamwschedulefree": "schedule_free", "came": "came", "muon": "muon",
}  # fmt: skip
"""`optimizer_type` in lower case -> ours."""
_NEAR = {
    "adam": "adamw", "adamw_bnb_8bit": "adamw8bit", "pagedadamw": "adamw", "pagedadamw32bit": "adamw",
    "pagedlion8bit": "lion8bit", "dadaptadampreprint": "dadaptation", "dadaptadagrad": "dadaptation",
    "dadaptadan": "dadaptation", "dadaptadanip": "dadaptation", "dadaptlion": "dadaptation",
    "dadaptsgd": "dadaptation", "sgdnesterov": "adamw", "sgdnesterov8bit": "adamw8bit",
    "prodigyplusschedulefree": "prodigy", "radamschedulefree": "schedule_free",
}  # fmt: skip
"""Optimizers that are not here -> the nearest that is."""
_WRITTEN = {ours: theirs for theirs, ours in {
    "AdamW": "adamw", "AdamW8bit": "adamw8bit", "PagedAdamW8bit": "paged_adamw8bit", "Lion": "lion",
    "Lion8bit": "lion8bit", "AdaFactor": "adafactor", "Prodigy": "prodigy", "DAdaptAdam": "dadaptation",
    "AdamWScheduleFree": "schedule_free", "CAME": "came", "Muon": "muon",
}.items()}  # fmt: skip
SCHEDULES = {
    "constant": "constant", "constant_with_warmup": "constant", "linear": "linear", "cosine": "cosine",
    "cosine_with_restarts": "cosine", "cosine_with_min_lr": "cosine", "polynomial": "polynomial",
    "warmup_stable_decay": "wsd", "rex": "rex",
}  # fmt: skip
_OWN = {"weight_decay": "optimizer.weight_decay", "eps": "optimizer.eps"}
_DEFAULT_STEPS = 1600  # of --max_train_steps


def read(ledger: Ledger) -> None:
    """Enter everything about the update."""
    _length(ledger)
    _optimizer(ledger)
    _rate(ledger)
    _schedule(ledger)
    _warmup(ledger)
    if "max_grad_norm" in ledger:
        ledger.take("max_grad_norm", "optimizer.max_grad_norm")


def _length(ledger: Ledger) -> None:
    """Epochs win over steps there too."""
    if "max_train_epochs" in ledger and ledger.number("max_train_epochs") > 0:
        ledger.take("max_train_epochs", "optimizer.epochs")
        ledger.also("optimizer.steps", 0)
        if "max_train_steps" in ledger:
            ledger.ignore("max_train_steps", "the epochs count")
        return
    if "max_train_steps" in ledger and ledger.number("max_train_steps") > 0:
        ledger.take("max_train_steps", "optimizer.steps")
    elif "max_train_steps" not in ledger:
        ledger.default("max_train_steps", "optimizer.steps", _DEFAULT_STEPS)


def _optimizer(ledger: Ledger) -> None:
    for key, name in (("use_8bit_adam", "adamw8bit"), ("use_lion_optimizer", "lion")):
        if ledger.truth(key):
            ledger.take(key, "optimizer.name", name)
    name = "adamw"
    if "optimizer_type" in ledger:
        word = ledger.text("optimizer_type").rpartition(".")[2].lower()
        if word in NAMES:
            name = NAMES[word]
            ledger.take("optimizer_type", "optimizer.name", name)
        elif word in _NEAR:
            name = _NEAR[word]
            ledger.take("optimizer_type", "optimizer.name", name, "the nearest that is here")
        else:
            ledger.take("optimizer_type", "optimizer.name", "adamw", "not among the optimizers here")
    if "optimizer_args" not in ledger:
        return
    options: list[str] = []
    for key, text in arguments_of(ledger.get("optimizer_args")).items():
        if key in _OWN:
            ledger.also(_OWN[key], text)
        elif key == "betas" and name not in {"came", "lion8bit"}:
            parts = text.strip("()[] ").split(",")
            for part, ours in zip(parts, ("optimizer.beta1", "optimizer.beta2"), strict=False):
                ledger.also(ours, part.strip())
        else:
            option = f"{key}={text}"
            if _parses(option):
                options.append(option)
    if options:
        ledger.take("optimizer_args", "optimizer.options", options)
    else:
        ledger.fine("optimizer_args", "taken into weight_decay, beta1, beta2 and eps")


def _parses(option: str) -> bool:
    from loratui.optim.options import parse

    try:
        parse([option])
    except ValueError:
        return False
    return True


def _rate(ledger: Ledger) -> None:
    """`unet_lr` wins over `learning_rate`, which is then the text encoder's."""
    if "unet_lr" in ledger and ledger.number("unet_lr") > 0:
        ledger.take("unet_lr", "optimizer.lr")
        if "learning_rate" in ledger:
            ledger.fine("learning_rate", "unet_lr is the rate of the U-Net")
    elif "learning_rate" in ledger and not ledger.done("learning_rate"):
        ledger.take("learning_rate", "optimizer.lr")


def _schedule(ledger: Ledger) -> None:
    if "lr_scheduler_type" in ledger:
        word = ledger.text("lr_scheduler_type").rpartition(".")[2].lower()
        if word.startswith("rex"):
            ledger.take("lr_scheduler_type", "optimizer.schedule", "rex")
        else:
            ledger.ignore("lr_scheduler_type", "a class of its own, which is not here")
    if "lr_scheduler_args" in ledger:
        ledger.ignore("lr_scheduler_args", "arguments of a schedule that is not here")
    word = ledger.text("lr_scheduler").lower()
    if "lr_scheduler" in ledger and "optimizer.schedule" not in ledger.values:
        if word in SCHEDULES:
            ledger.take("lr_scheduler", "optimizer.schedule", SCHEDULES[word])
        else:
            why = {"adafactor": "Adafactor's own schedule is not here", "inverse_sqrt": "not here"}.get(
                word, ""
            )
            ledger.take(
                "lr_scheduler", "optimizer.schedule", "constant", why or "not among the schedules here"
            )
    elif "lr_scheduler" in ledger:
        ledger.ignore("lr_scheduler", "lr_scheduler_type wins")
    if "lr_scheduler_num_cycles" in ledger:
        if word == "cosine_with_restarts":
            ledger.take("lr_scheduler_num_cycles", "optimizer.cycles")
        else:
            ledger.ignore("lr_scheduler_num_cycles", "only cosine_with_restarts has cycles")
    if "lr_scheduler_power" in ledger:
        if word == "polynomial":
            ledger.take("lr_scheduler_power", "optimizer.power")
        else:
            ledger.ignore("lr_scheduler_power", "only polynomial has a power")
    elif word == "polynomial":
        ledger.default("lr_scheduler_power", "optimizer.power", 1.0)
    if "lr_scheduler_min_lr_ratio" in ledger:
        ledger.take("lr_scheduler_min_lr_ratio", "optimizer.lr_floor")
    if "lr_scheduler_timescale" in ledger:
        ledger.ignore("lr_scheduler_timescale", "belongs to a schedule that is not here")
    _decay(ledger, word)


def _decay(ledger: Ledger, word: str) -> None:
    if "lr_decay_steps" not in ledger:
        return
    steps, total = ledger.number("lr_decay_steps"), ledger.values.get("optimizer.steps", 0)
    if word != "warmup_stable_decay":
        ledger.ignore("lr_decay_steps", "only warmup_stable_decay has it")
    elif 0 < steps < 1:
        ledger.take("lr_decay_steps", "optimizer.decay_share")
    elif total:
        ledger.take("lr_decay_steps", "optimizer.decay_share", min(1.0, steps / total))
    else:
        ledger.ignore("lr_decay_steps", "counted in steps, and the run is counted in epochs")


def _warmup(ledger: Ledger) -> None:
    if "lr_warmup_steps" not in ledger:
        return
    steps, total = ledger.number("lr_warmup_steps"), ledger.values.get("optimizer.steps", 0)
    if ledger.done("lr_warmup_steps"):
        return
    if 0 < steps < 1:  # a share of all steps there
        if total:
            ledger.take("lr_warmup_steps", "optimizer.warmup_steps", round(steps * total))
        else:
            ledger.ignore("lr_warmup_steps", "a share of the steps, and the run is counted in epochs")
    elif total and steps >= total:
        ledger.take("lr_warmup_steps", "optimizer.warmup_steps", total - 1, "longer than the run")
    else:
        ledger.take("lr_warmup_steps", "optimizer.warmup_steps", steps)


def write(values: Mapping[str, Any], arguments: dict[str, Any]) -> None:
    """Add the optimizer's arguments."""
    name = values["optimizer.name"]
    if name == "other":
        arguments["optimizer_type"] = f"pytorch_optimizer.{values['optimizer.other']}"
    else:
        arguments["optimizer_type"] = _WRITTEN[name]
    extra = [f"weight_decay={values['optimizer.weight_decay']!r}"]
    if name not in {"lion", "lion8bit", "adafactor", "came"}:
        extra.append(f"betas=({values['optimizer.beta1']!r}, {values['optimizer.beta2']!r})")
        extra.append(f"eps={values['optimizer.eps']!r}")
    extra += values["optimizer.options"]
    arguments["optimizer_args"] = [text.replace(", ", ",") for text in extra]
    arguments["learning_rate"] = values["optimizer.lr"]
    schedule = values["optimizer.schedule"]
    warm = values["optimizer.warmup_steps"]
    words = {"wsd": "warmup_stable_decay", "constant": "constant_with_warmup" if warm else "constant"}
    word = words.get(schedule, schedule)
    if schedule == "cosine" and values["optimizer.cycles"] > 1:
        word = "cosine_with_restarts"
        arguments["lr_scheduler_num_cycles"] = values["optimizer.cycles"]
    if schedule == "cosine" and values["optimizer.lr_floor"] and word == "cosine":
        word = "cosine_with_min_lr"
    if schedule == "rex":
        arguments["lr_scheduler_type"] = (
            "LoraEasyCustomOptimizer.RexAnnealingWarmRestarts.RexAnnealingWarmRestarts"
        )
    else:
        arguments["lr_scheduler"] = word
    if schedule == "polynomial":
        arguments["lr_scheduler_power"] = values["optimizer.power"]
    if schedule == "wsd":
        arguments["lr_decay_steps"] = values["optimizer.decay_share"]
    if values["optimizer.lr_floor"]:
        arguments["lr_scheduler_min_lr_ratio"] = values["optimizer.lr_floor"]
    if warm:
        arguments["lr_warmup_steps"] = warm
    if values["optimizer.steps"]:
        arguments["max_train_steps"] = values["optimizer.steps"]
    else:
        arguments["max_train_epochs"] = values["optimizer.epochs"]
    arguments["max_grad_norm"] = values["optimizer.max_grad_norm"]
