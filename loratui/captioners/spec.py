"""What menus, the command line and a launch need to know of a captioner, without importing it.

Each captioner is one row of `CAPTIONERS`. Its options are a frozen dataclass; the docstring under each field
is the help that `loratui captioners NAME` and the form show; `--set key=value` is checked against its type.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Precision = Literal["auto", "bf16", "fp16", "fp32"]
Output = Literal["prose", "tags"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What every captioner takes."""

    model: str = ""
    """Folder, weight file or Hub id; empty takes the captioner's own default."""
    batch_size: int = 0
    """Pictures per pass; 0 finds one that fits. Halved by itself whenever memory runs out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TorchOptions(Options):
    """What every captioner that runs on torch takes."""

    device: str = "auto"
    """`auto`, `cpu`, `cuda` or `cuda:N`."""
    precision: Precision = "auto"
    """Number format of the weights; `auto` is bf16 (or fp16) on CUDA and fp32 on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlipOptions(TorchOptions):
    """BLIP."""

    prompt: str = ""
    """Words the caption goes on from, such as `a photo of`; they are taken off the result again."""
    sampling: Literal["beams", "nucleus"] = "beams"
    """Search for the likeliest caption, or draw one at random."""
    beams: int = 3
    """Beams of the search; 1 is greedy."""
    min_new_tokens: int = 5
    """Shortest caption in tokens."""
    max_new_tokens: int = 40
    """Longest caption in tokens."""
    top_p: float = 0.9
    """Share of probability that nucleus sampling draws from."""
    repetition_penalty: float = 1.1
    """Above 1 keeps the model from repeating itself."""
    seed: int = 0
    """Seed of nucleus sampling."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoBlipOptions(BlipOptions):
    """The demo's BLIP."""

    min_new_tokens: int = 1
    """Shortest caption in tokens."""
    max_new_tokens: int = 22
    """Longest caption in tokens."""
    repetition_penalty: float = 1.0
    """Above 1 keeps the model from repeating itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blip2Options(BlipOptions):
    """BLIP-2."""

    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Hold the weights in 8 or 4 bits; needs bitsandbytes and a CUDA device."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipOptions(TorchOptions):
    """CLIP."""

    architecture: str = ""
    """open_clip architecture of a bare weight file, such as `ViT-L-14`; folders bring their own."""
    method: Literal["tags", "best", "fast"] = "tags"
    """tags: labels above the threshold; fast: the best labels of each facet; best: a chain of labels that
    together fit best."""
    facets: tuple[str, ...] = ()
    """Facets to describe, in order; empty takes all: medium, subject, setting, lighting, colour, composition,
    style, quality, mood, and the user's own lists."""
    top_k: int = 3
    """Most labels of one facet."""
    threshold: float = 0.15
    """Least probability of a label within its facet, 0 to 1 (tags)."""
    preselect: int = 64
    """Labels that `best` chooses from."""
    phrases: int = 12
    """Most labels that `best` chains."""
    wording: str = "a photo of {}"
    """Sentence that a label of the facet `subject` is put in before it is compared; `{}` is the label."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoClipOptions(ClipOptions):
    """The demo's CLIP."""

    facets: tuple[str, ...] = ()
    """Facets to describe, in order; empty takes all of its own: shape, colour, background."""
    top_k: int = 1
    """Most labels of one facet."""
    threshold: float = 0.5
    """Least probability of a label within its facet, 0 to 1 (tags)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CocaOptions(TorchOptions):
    """CoCa."""

    architecture: str = ""
    """open_clip architecture of a bare weight file, such as `coca_ViT-L-14`."""
    max_new_tokens: int = 40
    """Longest caption in tokens."""
    min_new_tokens: int = 4
    """Shortest caption in tokens."""
    repetition_penalty: float = 1.0
    """Above 1 keeps the model from repeating itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WdOptions(Options):
    """WD tagger."""

    device: str = "auto"
    """`auto`, `cpu` or `cuda` (with onnxruntime-gpu)."""
    general_threshold: float = 0.35
    """Least confidence of a general tag, 0 to 1."""
    character_threshold: float = 0.85
    """Least confidence of a character tag, 0 to 1."""
    mcut: bool = False
    """Cut each category at its largest gap in confidence instead of at the thresholds."""
    rating: bool = False
    """Also write the likeliest rating tag."""
    characters_first: bool = True
    """Character tags before the general ones."""
    spaces: bool = True
    """Write `long hair`, not `long_hair`; faces such as `>_<` stay."""
    top_k: int = 0
    """Most tags; 0 for all above the thresholds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Florence2Options(TorchOptions):
    """Florence-2."""

    task: Literal["caption", "detailed", "more-detailed", "objects"] = "detailed"
    """How much to say: one sentence, some, a paragraph; or the names of the objects found, as tags."""
    beams: int = 3
    """Beams of the search; 1 is greedy."""
    max_new_tokens: int = 256
    """Longest answer in tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class InstructOptions(TorchOptions):
    """A model that follows an instruction."""

    instruction: str = "Write a descriptive caption for this image in one paragraph."
    """What to ask of the model."""
    system: str = ""
    """System prompt; empty for none."""
    max_new_tokens: int = 256
    """Longest answer in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest word each time; higher draws at random."""
    top_p: float = 0.9
    """Share of probability that is drawn from."""
    max_pixels: int = 1048576
    """Larger pictures are scaled down to this many px (width times height)."""
    quantize: Literal["none", "8bit", "4bit"] = "none"
    """Hold the weights in 8 or 4 bits; needs bitsandbytes and a CUDA device."""
    seed: int = 0
    """Seed of random answers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JoyOptions(InstructOptions):
    """JoyCaption."""

    system: str = "You are a helpful image captioner."
    """System prompt; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QwenOptions(InstructOptions):
    """Qwen-VL."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiOptions(Options):
    """A server that speaks OpenAI's chat API."""

    endpoint: str = ""
    """Address of the server, such as http://127.0.0.1:8000/v1; empty is off: pictures are sent nowhere."""
    key_env: str = ""
    """Environment variable that holds the key; the key itself is never written down."""
    instruction: str = "Write a descriptive caption for this image in one sentence."
    """What to ask of the model."""
    system: str = ""
    """System prompt; empty for none."""
    max_new_tokens: int = 256
    """Longest answer in tokens."""
    temperature: float = 0.0
    """0 takes the likeliest word each time."""
    max_side: int = 1024
    """Longer side of the picture that is sent, in px."""
    timeout_s: float = 120.0
    """Seconds to wait for one answer."""
    retries: int = 2
    """Times a failed request is made again."""
    kind: Output = "prose"
    """Whether the answer is prose or a list of tags."""


RANGES: dict[str, tuple[float | None, float | None]] = {
    "batch_size": (0, 4096),
    "beams": (1, 32),
    "min_new_tokens": (0, 4096),
    "max_new_tokens": (1, 4096),
    "top_p": (0.01, 1),
    "repetition_penalty": (0.5, 5),
    "seed": (0, 2**31 - 1),
    "top_k": (0, 10000),
    "threshold": (0, 1),
    "preselect": (1, 4096),
    "phrases": (1, 256),
    "general_threshold": (0, 1),
    "character_threshold": (0, 1),
    "temperature": (0, 5),
    "max_pixels": (1024, 100_000_000),
    "max_side": (32, 16384),
    "timeout_s": (0.1, 3600),
    "retries": (0, 20),
}
"""Smallest and largest value of an option, both allowed; None for no bound."""

_HF = ("*.json", "*.txt", "*.model", "*.jinja", "*.safetensors")
_OPEN_CLIP = (
    "*.json",
    "*.txt",
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
)


@dataclass(frozen=True, slots=True)
class CaptionerSpec:
    """A light row of the table of captioners.

    Attributes:
        name: as `--model` takes it.
        title: for people.
        module: dotted module that implements it; loaded only in a job.
        options: its dataclass of options.
        output: prose or tags.
        default_model: Hub id that is used when no model is named; empty for none.
        also: other Hub ids that are known to work.
        model_types: values of `model_type` in config.json that it can load; empty when it has none.
        config: the file that tells a folder of this captioner's weights.
        weights: glob patterns of weight files, the first that matches is taken.
        files: what `loratui get` fetches of a repository.
        packages: import names it needs.
        memory_gib: rough memory of the default model with one picture, GiB.
        notes: one line on what to mind.
        bundled: folder below `loratui/demo/captioners` that its weights lie in; empty for all but the demo's.
    """

    name: str
    title: str
    module: str
    options: type[Options]
    output: Output
    default_model: str = ""
    also: tuple[str, ...] = ()
    model_types: tuple[str, ...] = ()
    config: str = "config.json"
    weights: tuple[str, ...] = ("*.safetensors",)
    files: tuple[str, ...] = _HF
    packages: tuple[str, ...] = ("torch", "transformers")
    memory_gib: float = 0.0
    notes: str = ""
    bundled: str = ""


CAPTIONERS: tuple[CaptionerSpec, ...] = (
    CaptionerSpec(
        "blip", "BLIP", "loratui.captioners.blip", BlipOptions, "prose",
        default_model="Salesforce/blip-image-captioning-base",
        also=("Salesforce/blip-image-captioning-large",),
        model_types=("blip",), memory_gib=1.5, notes="one short sentence; fast, runs on a CPU",
    ),
    CaptionerSpec(
        "blip2", "BLIP-2", "loratui.captioners.blip2", Blip2Options, "prose",
        default_model="Salesforce/blip2-opt-2.7b",
        also=("Salesforce/blip2-flan-t5-xl",),
        model_types=("blip-2",), memory_gib=8.0, notes="one short sentence, of a larger language model",
    ),
    CaptionerSpec(
        "clip", "CLIP", "loratui.captioners.clip", ClipOptions, "tags",
        default_model="laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        also=("laion/CLIP-ViT-H-14-laion2B-s32B-b79K",),
        config="open_clip_config.json", weights=("*.safetensors", "*.bin", "*.pt", "*.pth"), files=_OPEN_CLIP,
        packages=("torch", "open_clip"), memory_gib=1.0,
        notes="labels by facet with probabilities; any open_clip model, and lists of your own",
    ),
    CaptionerSpec(
        "coca", "CoCa", "loratui.captioners.coca", CocaOptions, "prose",
        default_model="laion/mscoco_finetuned_CoCa-ViT-L-14-laion2B-s13B-b90k",
        also=("laion/CoCa-ViT-B-32-laion2B-s13B-b90k", "laion/CoCa-ViT-L-14-laion2B-s13B-b90k"),
        config="open_clip_config.json", weights=("*.safetensors", "*.bin", "*.pt", "*.pth"), files=_OPEN_CLIP,
        packages=("torch", "open_clip"), memory_gib=3.0, notes="one short sentence, of an open_clip model",
    ),
    CaptionerSpec(
        "wd", "WD tagger", "loratui.captioners.wd", WdOptions, "tags",
        default_model="SmilingWolf/wd-vit-tagger-v3",
        also=("SmilingWolf/wd-swinv2-tagger-v3", "SmilingWolf/wd-eva02-large-tagger-v3"),
        config="selected_tags.csv", weights=("model.onnx", "*.onnx"),
        files=("model.onnx", "selected_tags.csv", "*.json"), packages=("onnxruntime", "numpy"),
        memory_gib=1.0,
        notes="booru tags for drawn pictures; needs no torch",
    ),
    CaptionerSpec(
        "florence2", "Florence-2", "loratui.captioners.florence2", Florence2Options, "prose",
        default_model="florence-community/Florence-2-base",
        also=("florence-community/Florence-2-large",),
        model_types=("florence2",), memory_gib=1.5,
        notes="a sentence to a paragraph; takes the florence-community weights, which need no foreign code",
    ),
    CaptionerSpec(
        "joycaption", "JoyCaption", "loratui.captioners.joycaption", JoyOptions, "prose",
        default_model="fancyfeast/llama-joycaption-beta-one-hf-llava", model_types=("llava",),
        memory_gib=17.0,
        notes="long descriptions by instruction",
    ),
    CaptionerSpec(
        "qwen-vl", "Qwen-VL", "loratui.captioners.qwen_vl", QwenOptions, "prose",
        default_model="Qwen/Qwen2.5-VL-3B-Instruct",
        also=("Qwen/Qwen2.5-VL-7B-Instruct", "Qwen/Qwen3-VL-4B-Instruct", "Qwen/Qwen3-VL-8B-Instruct"),
        model_types=("qwen2_vl", "qwen2_5_vl", "qwen3_vl"),
        memory_gib=8.0, notes="descriptions by instruction",
    ),
    CaptionerSpec(
        "openai-api", "OpenAI-compatible server", "loratui.captioners.openai_api", ApiOptions, "prose",
        weights=(), files=(), packages=(),
        notes="a server you run yourself (vLLM, llama.cpp, Ollama); off until options.endpoint is set",
    ),
    CaptionerSpec(
        "demo-blip", "Demo BLIP", "loratui.captioners.blip", DemoBlipOptions, "prose",
        model_types=("blip",), files=(), memory_gib=0.1, bundled="blip",
        notes="bundled and tiny: one sentence about drawn scenes such as the demo's, to try captioning",
    ),
    CaptionerSpec(
        "demo-clip", "Demo CLIP", "loratui.captioners.clip", DemoClipOptions, "tags",
        config="open_clip_config.json", files=(), packages=("torch", "open_clip"), memory_gib=0.1,
        bundled="clip", notes="bundled and tiny: shape, colour and background of drawn scenes, as tags",
    ),
)  # fmt: skip


def captioner_spec(name: str) -> CaptionerSpec | None:
    """The row of `name`, or None."""
    return next((c for c in CAPTIONERS if c.name == name), None)


def known_models() -> dict[str, CaptionerSpec]:
    """Hub id -> the captioner that takes it."""
    return {hub_id: row for row in CAPTIONERS for hub_id in (row.default_model, *row.also) if hub_id}
