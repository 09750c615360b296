"""Rules across settings: combinations that cannot work, and ones that are known to disappoint."""

from __future__ import annotations

from loratui.config.colours import read_colour
from loratui.config.finding import error, info, warning
from loratui.config.learning_checks import check_learning
from loratui.config.memory_checks import check_compiler, check_memory
from loratui.config.network_checks import check_network
from loratui.config.schema import RunConfig
from loratui.errors import Problem

LATENT_FACTOR = 8
"""Sides of every picture are multiples of this many px, for every family here."""


def check(config: RunConfig) -> list[Problem]:
    """Errors and warnings about settings that are each fine alone."""
    return [
        *_buckets(config), *_device(config), *check_memory(config), *check_learning(config),
        *_captions(config), *_versions(config), *check_network(config.network), *_samples(config),
    ]  # fmt: skip


def check_device(config: RunConfig, cuda: int) -> list[Problem]:
    """What `check` cannot know before the machine is looked at.

    Args:
        config: the settings.
        cuda: how many CUDA devices this machine has.
    """
    device, processes, found = config.memory.device, config.memory.processes, check_compiler(config)
    if device in {"auto", "cuda"} and 0 < cuda < processes:
        message = f"{processes} processes need a GPU each, and this machine has {cuda}."
        advice = f"Use {cuda}, or memory.device = cpu."
        found.append(error("memory.processes", "few-gpus", message, advice, {"memory.processes": cuda}))
    if device == "auto" and not cuda:
        return [*found, *_needs_cuda(config, "this machine has no CUDA device")]
    if device.startswith("cuda") and not cuda:
        message = f"{device} is asked for and this machine has no CUDA device."
        advice = "Set memory.device to cpu or auto, or see `loratui doctor`."
        return [*found, error("memory.device", "no-cuda", message, advice, {"memory.device": "auto"})]
    return found


def _buckets(config: RunConfig) -> list[Problem]:
    data = config.data
    found: list[Problem] = []
    if read_colour(data.background) is None:
        message = f"{data.background!r} is not a colour."
        advice = "Use a name such as white, grey or black, or #rrggbb."
        found.append(error("data.background", "bad-colour", message, advice, {"data.background": "white"}))
    step = data.bucket_step
    if step % LATENT_FACTOR:
        message = f"{step} px is not a multiple of {LATENT_FACTOR}."
        nearest = max(LATENT_FACTOR, step // LATENT_FACTOR * LATENT_FACTOR)
        fix = {"data.bucket_step": nearest}
        return [*found, error("data.bucket_step", "not-divisible", message, f"Use {nearest}.", fix)]
    lowest, highest = data.resolutions[0], data.resolutions[-1]
    sides = [("data.resolution", data.resolution)]
    if data.bucketing:
        sides += [("data.min_bucket", data.min_bucket), ("data.max_bucket", data.max_bucket)]
    for path, side in sides:
        if side % step:
            below, above = side // step * step, (side // step + 1) * step
            near = f"{below} or {above}" if below else f"{above}"
            message = f"{side} px is not a multiple of data.bucket_step {step}."
            fix = {path: below if below and side - below <= above - side else above}
            found.append(error(path, "not-divisible", message, f"Use {near}.", fix))
    for other in data.also_at:
        if other % step:
            message = f"{other} px is not a multiple of data.bucket_step {step}."
            kept = tuple(max(step, side // step * step) for side in data.also_at)
            found.append(error("data.also_at", "not-divisible", message, "", {"data.also_at": kept}))
            break
    if data.bucketing and data.min_bucket > lowest:
        message = f"{data.min_bucket} px is above the resolution {lowest}."
        fix = {"data.min_bucket": max(step, lowest // 2 // step * step)}
        found.append(error("data.min_bucket", "bucket-range", message, "Make it smaller.", fix))
    if data.bucketing and data.max_bucket < highest:
        message = f"{data.max_bucket} px is below the resolution {highest}."
        fix = {"data.max_bucket": min(16384, 2 * -(-highest // step) * step)}
        found.append(error("data.max_bucket", "bucket-range", message, "Make it larger.", fix))
    elif data.bucketing and data.max_bucket < 1.25 * highest:
        message = f"{data.max_bucket} px is hardly above the resolution: long pictures are made smaller."
        fix = {"data.max_bucket": min(16384, 2 * highest)}
        advice = "Twice the resolution is usual."
        found.append(info("data.max_bucket", "buckets-squat", message, advice, fix))
    return found


def _needs_cuda(config: RunConfig, why: str) -> list[Problem]:
    advice = "Use bf16 or fp32."
    for path, now, then in (
        ("memory.precision", config.memory.precision, "bf16"),
        ("memory.base_precision", config.memory.base_precision, "auto"),
    ):
        if now == "fp16":
            return [error(path, "fp16-needs-cuda", f"fp16 needs CUDA, and {why}.", advice, {path: then})]
    return []


def _device(config: RunConfig) -> list[Problem]:
    device = config.memory.device
    kind, _, index = device.partition(":")
    if kind not in {"auto", "cpu", "cuda"} or (index and (kind != "cuda" or not index.isdecimal())):
        message, advice = f"{device!r} is not a device.", "Use auto, cpu, cuda or cuda:N."
        return [error("memory.device", "bad-device", message, advice, {"memory.device": "auto"})]
    return _needs_cuda(config, "the device is the CPU") if kind == "cpu" else []


def _captions(config: RunConfig) -> list[Problem]:
    """What is done to captions, and what of it does nothing."""
    found: list[Problem] = []
    data = config.data
    if data.caption_dropout > 0.5:
        message = f"{data.caption_dropout:.0%} of the captions are never seen."
        fix = {"data.caption_dropout": 0.1}
        found.append(warning("data.caption_dropout", "dropout-high", message, "0.1 is usual.", fix))
    if data.tag_dropout > 0.5:
        message = f"{data.tag_dropout:.0%} of the tags are left out of each caption."
        fix = {"data.tag_dropout": 0.1}
        found.append(warning("data.tag_dropout", "dropout-high", message, "0.1 is usual.", fix))
    moved = data.shuffle_captions or data.tag_dropout or data.token_warmup_steps
    if data.keep_tokens and not moved:
        message = "nothing is shuffled or dropped, so there is nothing to keep in place."
        fix = {"data.keep_tokens": 0}
        found.append(info("data.keep_tokens", "nothing-shuffled", message, "Set it to 0.", fix))
    return found + _class_pictures(config)


def _class_pictures(config: RunConfig) -> list[Problem]:
    """Regularisation pictures, given or drawn."""
    found: list[Problem] = []
    data = config.data
    if (data.reg_dir or data.reg_generate) and not data.reg_weight:
        message = "the regularisation pictures cost time and count nothing."
        fix: dict[str, object] = {"data.reg_weight": 1.0}
        found.append(warning("data.reg_weight", "reg-off", message, "Set it to 1.", fix))
    if data.reg_dir and data.reg_generate:
        message = "pictures of the class are taken from a folder or drawn, not both."
        fix = {"data.reg_generate": 0}
        found.append(error("data.reg_generate", "reg-twice", message, "Clear one of them.", fix))
    if data.reg_generate and not data.reg_prompt.strip():
        message = "nothing says what the pictures of the class show."
        advice = "Set it to such as `a photo of a dog`: the class without the trigger."
        none = {"data.reg_generate": 0}
        found.append(error("data.reg_prompt", "no-reg-prompt", message, advice, none))
    elif data.reg_prompt.strip() and not data.reg_generate:
        message = "the prompt for pictures of the class does nothing while none are drawn."
        advice, fix = "Set data.reg_generate to such as 100.", {"data.reg_generate": 100}
        found.append(warning("data.reg_generate", "reg-prompt-off", message, advice, fix))
    return found


def _versions(config: RunConfig) -> list[Problem]:
    """Versions of pictures: crops and colours."""
    found: list[Problem] = []
    data = config.data
    if data.crop != "face" and (data.face_near or data.face_far):
        message = f"faces are not looked for with data.crop = {data.crop}."
        path = "data.face_near" if data.face_near else "data.face_far"
        advice = "Set data.crop to face."
        found.append(warning(path, "no-faces", message, advice, {"data.crop": "face"}))
    elif data.face_near and data.face_far and data.face_far < data.face_near:
        message = f"{data.face_far:g} face sizes are less than data.face_near {data.face_near:g}."
        fix: dict[str, object] = {"data.face_far": data.face_near, "data.face_near": data.face_far}
        found.append(error("data.face_far", "face-range", message, "Exchange the two.", fix))
    elif data.face_far and not data.face_near:
        message = "without data.face_near no cut is closer than the bucket."
        closer = {"data.face_near": min(2.0, data.face_far)}
        found.append(warning("data.face_far", "face-range", message, "Set data.face_near, too.", closer))
    if data.colour_jitter > 0.3:
        message = f"{data.colour_jitter:g} makes colours that the pictures do not have."
        fix = {"data.colour_jitter": 0.1}
        found.append(warning("data.colour_jitter", "jitter-high", message, "0.1 is gentle.", fix))
    if data.versions > 32:
        message = f"{data.versions} versions of each picture are encoded before the first step."
        fix = {"data.variants": 8}
        found.append(warning("data.variants", "many-variants", message, "4 to 16 are plenty.", fix))
    return found


def _samples(config: RunConfig) -> list[Problem]:
    found: list[Problem] = []
    for key in ("width", "height"):
        side = getattr(config.samples, key)
        if side % LATENT_FACTOR:
            above, path = side // LATENT_FACTOR * LATENT_FACTOR + LATENT_FACTOR, f"samples.{key}"
            message = f"{side} px is not a multiple of {LATENT_FACTOR}."
            found.append(error(path, "not-divisible", message, f"Use {above}.", {path: above}))
    steps = config.optimizer.steps
    if steps and config.samples.every > steps:
        message = f"the run ends at step {steps}, so only the first and no later samples are drawn."
        fix = {"samples.every": max(1, steps // 4)}
        found.append(warning("samples.every", "samples-rare", message, "", fix))
    return found
