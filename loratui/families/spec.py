"""What menus, detection and the plan need to know of a family, without importing it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Layers = Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class FamilySpec:
    """A light row of the family table.

    Attributes:
        name: the name used in configs and on the command line (`sd15`).
        title: for people.
        module: dotted module that implements it (torch inside); loaded only in a job.
        resolution: the resolution the base was trained at, in px.
        latent_factor: picture px per latent px.
        blocks: how many modules `Family.blocks` finds in a base of true size.
        notes: one line on what to mind.
        flow: it predicts the velocity of a rectified flow, not noise: see `train.flow`.
        patch: latent px per side of a token; bucket sides are multiples of latent_factor * patch.
        files: form of the files a run exports, `kohya` or `peft`.
        networks: the types of network that it trains; empty for all.
        trains_text: its text encoders, or some of them, can be trained, and get new tokens.
        pipelines: `_class_name` in model_index.json of its diffusers folders; the classic families have
            rules of their own in `families.detect`.
        marks: tensors that all of its files hold, without prefix.
        unlike: tensors that another family's files hold beside the same marks.
        layers: network.target -> ends of the names of diffusers' layers that get an update.
        idle: ends of the names of layers of the last block whose output goes nowhere: they get no update.
        distilled: pattern of the names of its bases that are distilled to few steps without guidance, and
            are trained with a training adapter under them; empty for none.
        wide: activations overflow fp16.
        parameters: numbers of the denoiser of the (smallest) true model; 0 where a table counts them.
        others: numbers of codec and text encoders.
    """

    name: str
    title: str
    module: str
    resolution: int
    latent_factor: int
    blocks: int
    notes: str = ""
    flow: bool = False
    patch: int = 1
    files: Literal["kohya", "peft"] = "kohya"
    networks: tuple[str, ...] = ()
    trains_text: bool = True
    pipelines: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    unlike: tuple[str, ...] = ()
    layers: Layers = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    distilled: str = ""
    wide: bool = False
    parameters: int = 0
    others: int = 0

    @property
    def side_px(self) -> int:
        """What the sides of every bucket are multiples of."""
        return self.latent_factor * self.patch


def _targets(attention: tuple[str, ...], mlp: tuple[str, ...], more: tuple[str, ...]) -> Layers:
    """The three targets of transformers, each with the one before; they have no convolutions."""
    return {
        "attention": attention, "attention+mlp": attention + mlp, "full": attention + mlp + more,
        "full+conv": attention + mlp + more,
    }  # fmt: skip


_JOINT = (
    ".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0",
    ".attn.add_q_proj", ".attn.add_k_proj", ".attn.add_v_proj", ".attn.to_add_out",
)  # fmt: skip
# In the original, q, k, v and the MLP of a single block are one matrix: they are trained as one.
_SINGLE = (".proj_mlp", ".proj_out")
_JOINT_MLP = (".ff.net.0.proj", ".ff.net.2", ".ff_context.net.0.proj", ".ff_context.net.2")

FAMILIES: tuple[FamilySpec, ...] = (
    FamilySpec("sd15", "Stable Diffusion 1.x", "loratui.families.sd15", 512, 8, 38, "epsilon, CLIP ViT-L/14"),
    FamilySpec(
        "sd2",
        "Stable Diffusion 2.x",
        "loratui.families.sd2",
        768,
        8,
        38,
        "v-prediction at 768 px, OpenCLIP ViT-H/14",
    ),
    FamilySpec(
        "sdxl",
        "Stable Diffusion XL",
        "loratui.families.sdxl",
        1024,
        8,
        87,
        "epsilon or v-prediction, two text encoders, told of sizes and crops; the refiner is refused",
    ),
    FamilySpec(
        "sd3",
        "Stable Diffusion 3 and 3.5",
        "loratui.families.sd3",
        1024,
        8,
        24,
        "rectified flow; CLIP-L, CLIP-G and T5, without T5 where the base has none",
        flow=True,
        patch=2,
        files="peft",
        networks=("lora",),
        trains_text=False,
        pipelines=("StableDiffusion3Pipeline",),
        marks=("joint_blocks.0.x_block.attn.qkv.weight", "y_embedder.mlp.0.weight"),
        layers=_targets(
            (*_JOINT, ".attn2.to_q", ".attn2.to_k", ".attn2.to_v", ".attn2.to_out.0"),
            _JOINT_MLP,
            (".norm1.linear", ".norm1_context.linear"),
        ),
        parameters=2_028_328_000,
        others=5_700_000_000,
    ),
    FamilySpec(
        "flux",
        "FLUX.1",
        "loratui.families.flux",
        1024,
        8,
        57,
        "rectified flow; dev is told a guidance; schnell is made for 4 steps, which training undoes",
        flow=True,
        patch=2,
        networks=("lora",),
        pipelines=("FluxPipeline",),
        marks=(
            "double_blocks.0.img_attn.qkv.weight",
            "double_blocks.0.img_mod.lin.weight",
            "vector_in.in_layer.weight",
        ),
        layers=_targets(
            (*_JOINT, *_SINGLE),
            _JOINT_MLP,
            (".norm1.linear", ".norm1_context.linear", ".norm.linear"),
        ),
        distilled="schnell",
        parameters=11_901_408_320,
        others=4_970_000_000,
    ),
    FamilySpec(
        "flux2",
        "FLUX.2",
        "loratui.families.flux2",
        1024,
        8,
        25,
        "rectified flow; of klein (Qwen3) train the base, not the one distilled to 4 steps; dev (Mistral) is"
        " told a guidance",
        flow=True,
        patch=2,
        networks=("lora",),
        trains_text=False,
        pipelines=("Flux2KleinPipeline", "Flux2Pipeline"),
        marks=("double_blocks.0.img_attn.qkv.weight", "double_stream_modulation_img.lin.weight"),
        layers=_targets(
            (*_JOINT, ".attn.to_qkv_mlp_proj", ".attn.to_out"),
            (".ff.linear_in", ".ff.linear_out", ".ff_context.linear_in", ".ff_context.linear_out"),
            (),
        ),
        distilled=r"klein(?!.*base)",
        parameters=3_875_544_576,
        others=3_198_000_000,
    ),
    FamilySpec(
        "chroma",
        "Chroma",
        "loratui.families.chroma",
        1024,
        8,
        57,
        "rectified flow; FLUX.1 schnell without its distillation, T5 alone, a negative prompt",
        flow=True,
        patch=2,
        files="peft",
        networks=("lora",),
        trains_text=False,
        pipelines=("ChromaPipeline",),
        marks=("distilled_guidance_layer.in_proj.weight", "double_blocks.0.img_attn.qkv.weight"),
        layers=_targets((*_JOINT, *_SINGLE), _JOINT_MLP, ()),
        parameters=8_900_000_000,
        others=4_850_000_000,
    ),
    FamilySpec(
        "qwen",
        "Qwen-Image",
        "loratui.families.qwen",
        1024,
        8,
        60,
        "rectified flow; Qwen2.5-VL alone, a negative prompt; its edit models are another family",
        flow=True,
        patch=2,
        files="peft",
        networks=("lora",),
        trains_text=False,
        pipelines=("QwenImagePipeline",),
        marks=("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight", "img_in.weight"),
        # of the edit model 2511 and of the layered one
        unlike=("__index_timestep_zero__", "time_text_embed.addition_t_embedding.weight"),
        layers=_targets(
            _JOINT,
            (".img_mlp.net.0.proj", ".img_mlp.net.2", ".txt_mlp.net.0.proj", ".txt_mlp.net.2"),
            (".img_mod.1", ".txt_mod.1"),
        ),
        # the last block's text is not read any more
        idle=(".attn.add_q_proj", ".attn.to_add_out", ".txt_mlp.net.0.proj", ".txt_mlp.net.2"),
        parameters=20_430_401_088,
        others=8_420_000_000,
    ),
    FamilySpec(
        "zimage",
        "Z-Image",
        "loratui.families.zimage",
        1024,
        8,
        34,
        "rectified flow, Qwen3, a negative prompt; Turbo is trained with a training adapter (model.adapter)",
        flow=True,
        patch=2,
        files="peft",
        networks=("lora",),
        trains_text=False,
        pipelines=("ZImagePipeline",),
        marks=("layers.0.adaLN_modulation.0.weight", "cap_pad_token", "x_pad_token"),
        unlike=("siglip_pad_token",),
        layers=_targets(
            (".attention.to_q", ".attention.to_k", ".attention.to_v", ".attention.to_out.0"),
            (".feed_forward.w1", ".feed_forward.w2", ".feed_forward.w3"),
            (".adaLN_modulation.0",),
        ),
        distilled=r"(?<!de)(?<!de[-_ .])turbo",
        wide=True,
        parameters=6_154_908_736,
        others=4_010_000_000,
    ),
)


def family_spec(name: str) -> FamilySpec | None:
    """The row of `name`, or None."""
    return next((f for f in FAMILIES if f.name == name), None)
