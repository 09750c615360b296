"""[data]: how pictures and captions become batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from loratui.config.colours import WHITE, Paper, read_colour


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """How pictures and captions become batches."""

    resolution: int = 512
    """Training resolution in px: buckets have about this value squared in area."""
    also_at: tuple[int, ...] = ()
    """Other resolutions in px, such as 768 and 1024: each picture is trained at each of them, too."""
    upscale: Literal["needed", "always", "never"] = "needed"
    """Small pictures: enlarged to the lowest resolution but taken to no higher one (needed), enlarged to
    every resolution (always), or put into smaller buckets of their own (never)."""
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
    background: str = "white"
    """Colour behind transparent pixels: a name such as white, grey or black, or `#rrggbb`."""
    flip: bool = False
    """Mirror pictures at random; leave off for faces, text and anything asymmetric."""
    crop: Literal["centre", "random", "face"] = "centre"
    """What of a picture that is larger than its bucket is kept: its middle, a part that differs from sample
    to sample (random), or what is around the face. A crop made by hand stays as it is."""
    face_near: float = 0.0
    """With crop = face: the closest cut, its shorter side in face sizes; 0 keeps as much as it can."""
    face_far: float = 0.0
    """With crop = face: the widest cut, as face_near; each version of a picture lies between the two."""
    colour_jitter: float = 0.0
    """Vary brightness, contrast and saturation by up to this share, and the hue by a quarter of it of the
    colour circle; 0.1 is gentle, 0 is off. It blurs what captions say of colours."""
    variants: int = 4
    """Versions of a picture that crop = random, closer faces and colour_jitter make: each is encoded once
    and kept in the cache. The first has its own colours and the middle, or the widest cut."""
    cache: Literal["disk", "memory"] = "disk"
    """Where encoded pictures and captions are kept: on disk for later runs too, or in main memory alone,
    made anew at each start; what lies on disk already is read either way."""
    caption_dropout: float = 0.0
    """Share of samples trained with an empty caption, 0 to 1."""
    shuffle_captions: bool = False
    """Shuffle the tags of a caption anew for each sample. Captions are then encoded at each step."""
    caption_lines: Literal["all", "first", "random"] = "all"
    """Captions of several lines: joined to one (all), the first, or one drawn for each sample (random)."""
    keep_tokens: int = 0
    """Tags at the start that are neither shuffled nor dropped; 1 keeps a trigger first."""
    separator: str = ","
    """What stands between tags."""
    keep_tokens_separator: str = ""
    """Text such as `|||`: what stands before it is kept, instead of counting; it is taken out."""
    secondary_separator: str = ""
    """Text such as `;;;` between tags that stay together; it becomes the separator at the end."""
    tag_dropout: float = 0.0
    """Share of tags left out, anew for each sample, 0 to 1."""
    wildcards: bool = False
    """Read `{red|blue}` as one of the two, anew for each sample; `{{` and `}}` are braces."""
    token_warmup_steps: int = 0
    """Begin with few tags and reach all of them after so many steps; 0 has all from the start."""
    token_warmup_min: int = 1
    """Tags that the token warm-up begins with, beside the kept ones."""
    max_tokens: Literal["75", "150", "225"] = "75"
    """Tokens of a caption that are read; above 75 in windows of 75, as A1111 and ComfyUI do."""
    reg_dir: str = ""
    """Folder of pictures of the class in general (regularisation pictures), so that the class keeps its
    looks: relative to the project; kohya `N_class` folders and captions count. Empty for none."""
    reg_weight: float = 1.0
    """Weight of the loss on those pictures (prior preservation)."""
    reg_generate: int = 0
    """Draw so many pictures of the class with the base itself, before the training, instead of reg_dir; no
    more than are seen in an epoch. They go to a folder `class` in the project and serve the next runs too."""
    reg_prompt: str = ""
    """What those pictures show, such as `a photo of a dog`: the class without the trigger. Drawn with the
    samples' negative, steps, guidance and sampler, at data.resolution."""

    @property
    def resolutions(self) -> tuple[int, ...]:
        """All training resolutions in px, the lowest first."""
        return tuple(sorted({self.resolution, *self.also_at}))

    @property
    def versions(self) -> int:
        """How many versions of each picture are trained on, mirroring aside."""
        closer = self.crop == "face" and self.face_near > 0
        return self.variants if self.crop == "random" or closer or self.colour_jitter > 0 else 1

    @property
    def paper(self) -> Paper:
        """The background as red, green, blue, 0 to 255; white where it cannot be read."""
        return read_colour(self.background) or WHITE


SHORT_NAMES: dict[str, str] = {
    "batch_size": "batch_size",
    "resolution": "resolution",
}
RANGES: dict[str, tuple[float | None, float | None]] = {
    "resolution": (8, 8192),
    "also_at": (8, 8192),
    "batch_size": (1, 4096),
    "repeats": (1, 100000),
    "bucket_step": (8, 1024),
    "min_bucket": (8, 8192),
    "max_bucket": (8, 16384),
    "face_near": (0, 100),
    "face_far": (0, 100),
    "colour_jitter": (0, 1),
    "variants": (2, 1000),
    "caption_dropout": (0, 1),
    "keep_tokens": (0, 1000),
    "tag_dropout": (0, 1),
    "token_warmup_steps": (0, 10_000_000),
    "token_warmup_min": (0, 1000),
    "reg_weight": (0, 100),
    "reg_generate": (0, 100_000),
}
POSITIVE: frozenset[str] = frozenset()
CHOICES: dict[str, tuple[str, ...]] = {}
