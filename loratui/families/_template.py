"""TEMPLATE of a flow family: copy to `families/NAME.py`, and answer each question for your model.

What there is to write, besides this file, is one line: its name in `NAMES` of `families/spec.py`.

1. The head below, TOML in comments as in inline script metadata (PEP 723), is read as text by menus,
   detection, plan and `loratui verify`, which never import this file: `spec.FamilySpec` says what keys mean.
   `pipelines` and `marks` are what detection goes by, `unlike` what lookalikes hold besides; marks are full
   names of tensors: take such as every layout of its files has. `[layers]` is what the targets mean, `idle`
   which of them get no gradient in the last block (where a stream ends unread), `files` the form that the
   model's users load. Count `parameters` and `blocks` on diffusers' class under `torch.device("meta")`;
   `others` is codec and text encoders; `[[captions]]`, one for each encoder, is what `encode_captions` gives.
2. `[names]` (`spec.LayerNames`): the kinds of blocks with their counts in the largest true model, the forms
   of names that each program reads (`weights.layouts.Names`), and a line for each layer. Take them from the
   original's code and from ComfyUI's and diffusers' converters. Where the original has diffusers' names,
   both columns say the same.
3. `[configs]` (`spec.Packaged`): settings of the true model's diffusers folder, as they are.
4. For a text encoder that is neither CLIP nor T5 (nor in `chat_text.py`) a new file like `qwen_text.py`; for
   a codec that is no AutoencoderKL one like `qwen_vae.py`, its original names in `layouts/` (`load_vae` takes
   another class with the same names). `t5_text.load_tokenizer` reads the tokenizer of any of them.
5. `tests/tiny_families/NAME.py`: a random base of few numbers, most of them in its blocks; the velocity of
   one sample, written with nothing but the pipeline's own pieces; `original` gives its tensors the original's
   names; `codec_tensors(folder)` where single files of the codec are not latent diffusion's; `VARIANTS` names
   flags of `make` and `pipeline` for a second model of other inputs. The fixture `tiny_NAME` is there by it.
6. `presets/NAME*.toml` with their sources, of which `loratui new` takes `NAME-character`; for distilled bases
   `NAME-turbo...`. A line in README's table of families, one in CHANGELOG.md, and `make pictures` for the
   table of presets.

Then `pytest tests/contract -k NAME` proves the maths, learning, samples, resume and keys,
tests/unit/test_families_flow_files.py the files, and tests/contract/test_one_file_a_family.py that nothing
else has to know of it. See `sd3.py` for a whole one, and `qwen.py` for one with a codec and a text encoder of
its own.

The trainer calls, in this order: `load` once; `encode_pictures` and `encode_captions` while the caches fill,
each under no_grad, for what is not in them yet; `target_modules` and `kohya_name` when the network is put
in, `blocks` for swapping, compiling and quantising; `size_condition` for each sample and `predict` for each
batch; `pipeline`, `pipeline_inputs`, `pipeline_latents`, `decode_latents` for each picture that is drawn;
`metadata` at each save. Text encoders in `LazyModules` are read when the first caption is missing from the
cache, and let go of behind it: reach for `parts.text_encoders[key]` in `encode_batch` and nowhere else.
Memory is estimated with fake tensors, which have shapes and no values: `int(mask.sum())` and `if mask.all()`
fail there (and wait for the device elsewhere): decide by shapes, or ask `original.lengths`.

Shape suffixes: B batch, C channels, H and W latent height and width, L tokens, D features.
"""

# /// family
# title = "Template"
# resolution = 1024
# latent_factor = 8
# blocks = 28
# notes = "rectified flow, T5 alone"
# flow = true
# patch = 2
# files = "peft"
# networks = ["lora"]
# trains_text = false
# pipelines = ["TemplatePipeline"]
# marks = ["blocks.0.attn.qkv.weight"]
# parameters = 6_000_000_000
# others = 4_800_000_000
#
# [[captions]]
# tokens = 512
# width = 4096
# inputs = ["context_embedder.weight", "txt_in.weight"]
#
# [layers]
# attention = [".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0"]
# mlp = [".ff.net.0.proj", ".ff.net.2"]
# more = [".norm1.linear"]
#
# [names]
# blocks = { transformer_blocks = 28 }
# forms = { diffusers = ["peft", "kohya"], comfyui = ["peft", "original", "kohya"] }
# table = """
# transformer_blocks.{n}.attn.to_q     blocks.{n}.attn.qkv  0/3
# transformer_blocks.{n}.attn.to_k     blocks.{n}.attn.qkv  1/3
# transformer_blocks.{n}.attn.to_v     blocks.{n}.attn.qkv  2/3
# transformer_blocks.{n}.attn.to_out.0 blocks.{n}.attn.proj
# transformer_blocks.{n}.ff.net.0.proj blocks.{n}.mlp.0
# transformer_blocks.{n}.ff.net.2      blocks.{n}.mlp.2
# transformer_blocks.{n}.norm1.linear  blocks.{n}.mod
# """
#
# [configs]
# model_index = '''
# {"_class_name": "TemplatePipeline"}
# '''
# scheduler = '''
# {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000, "shift": 3.0}
# '''
# vae = '''
# {"_class_name": "AutoencoderKL", "latent_channels": 16, "scaling_factor": 0.3611, "shift_factor": 0.1159}
# '''
# ///

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from loratui.families import clip_unet, encoders, original, sources, t5_text
from loratui.families.clip_unet import load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.loading import identity
from loratui.families.original import Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import row_of

MARK = "blocks.0.attn.qkv.weight"
"""A tensor of the original layout; the prefix of a single file is found by it."""
TEXT = t5_text.part("text_encoder", "tokenizer")
"""What `sources` looks for: a folder of the base, or what `model.text` names. Language models (Qwen3,
Mistral) are in `families/chat_text.py`; where one kind comes in several sizes, compare its width with the
transformer's before it is read."""
TOKENS = 512


class Template:
    """See `families.protocol.Family` for what each method promises.

    Attributes:
        name: as in the row.
        empty: the caption that stands for none: what the model was trained on, or is sampled with, where
            there is no text. Mostly "", sometimes " ".
    """

    name = "template"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Read what is at `base`, from the disk alone.

        In: `base` is a diffusers folder or a .safetensors file in the original layout, of everything or of
        the transformer alone; `dtype` is the transformer's, fp32, bf16 or fp16; `vae` and `text` are what the
        user's settings name beside it. `prediction` says nothing to a flow.
        Out: everything frozen, in eval mode, on the CPU; codec in fp32; text encoders not read yet.
        """
        kind: Any = None  # diffusers' class of the transformer
        # Out of diffusers.loaders.single_file_utils, or `original.by_names`.
        convert: Any = None
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, kind, MARK, infer, convert, dtype, self.name
        )
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), row_of(self.name).packaged("vae")
        )
        place, folder = sources.find(TEXT, base, text)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"t5": lambda: t5_text.load_encoder(place)}),
            tokenizers={"t5": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            # What diffusers' pipeline calls vae_scale_factor; this is an AutoencoderKL's.
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(place, folder)),
            base_hash=base_hash,
            patch=2,
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """In: pixels [B, 3, H * factor, W * factor], fp32, -1..1, on the codec's device.

        Out: mean and deviation of the latents [B, C, H, W], scaled and shifted so that they have a deviation
        of about 1: x_0 of the flow. Not packed: masks and noise lie over H and W. What is normalised by the
        place in a patch is so for odd sides, too.
        """
        return clip_unet.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """In: such latents, fp32. Out: pixels [B, 3, H * factor, W * factor] in about -1..1."""
        return clip_unet.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """In: captions, or prompts with weights of words. Out: one condition each, without batch axis.

        Each is encoded alone, so that its bits do not depend on its neighbours: they are in a cache. What is
        stored is what the disk will hold: leave filling out where a mask would hide it, and keep it where the
        model attends to it. Lengths may differ; `stack` fills up with zeros, and a mask of ones beside says
        where each one ends: call that `prompt_mask`, and `original.cut` instead of `alone` leaves out what
        it hides. Fill up to the length to which the pipeline does before you cut: other lengths give other
        last bits, and the test of the maths compares them.
        """
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same with a leading batch axis; with gradients where text encoders are trained."""
        texts = [words(caption) for caption in captions]
        encoder, tokenizer = parts.text_encoders["t5"], parts.tokenizers["t5"]
        return {"prompt_embeds": t5_text.last_hidden_states(encoder, tokenizer, texts, TOKENS)}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """In: (width, height) or (left, top) in px. Out: what the model is told of sizes; mostly nothing."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """In: x_t [B, C, H, W] in fp32 (float64 in the test), t = 1000 sigma as floats, a batched condition.

        Out: the velocity eps - x_0, [B, C, H, W]: turn the sign around if the model answers x_0 - eps. Some
        are told t / 1000, some t, some 1 - t / 1000: read the pipeline's loop, not the docstring.
        Packing, ids of places, masks and the guidance input (`parts.guidance`) belong here; so do lists
        instead of batches and an axis of frames. Bring conditions to the precision of `noisy_BCHW`; autocast
        does the rest.
        """
        output: Tensor = parts.denoiser(
            hidden_states=noisy_BCHW,
            encoder_hidden_states=condition["prompt_embeds"].to(noisy_BCHW.dtype),
            timestep=timesteps_B / 1000,
            return_dict=False,
        )[0]
        return output

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """Out: diffusers' pipeline over these very modules, without text encoders; a scheduler of its own.

        `original.flow_scheduler` raises ValueError for samplers that a flow does not have.
        """
        raise NotImplementedError

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """In: conditions without batch axis. Out: arguments of the pipeline's call for one picture.

        Tensors get a batch axis of 1, lists one entry, all in fp32: latents take their precision from them.
        Guidance goes in under the pipeline's name for it and by its count: what leaves the negative prompt
        out is 1 in most and 0 in some.
        """
        return {"prompt_embeds": prompt["prompt_embeds"][None].float(), "guidance_scale": guidance}

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """In: what the pipeline gives with output_type="latent". Out: [B, C, H, W] for `decode_latents`."""
        return latents

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """In: `network.target`. Out: names of linear layers; parts of one matrix in their order in it.

        A gradient must reach each of them: see `idle`.
        """
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target], spec.idle)

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """Out: the modules that hold nearly all weights, in the order in which they run."""
        return list(denoiser.transformer_blocks)

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """Out: layers of a text encoder that are trained; none where the row says `trains_text=False`."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """Out: the module's name in files: dotted for `files="peft"`, else the original's with underscores.

        Several modules of one name are one matrix in the file: they share their A.
        """
        return f"transformer.{module}"

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Out: what readers tell the family by; `structure_metadata` says of other counts of blocks."""
        counts = {"transformer_blocks": parts.denoiser.config.num_layers}
        return {
            "ss_base_model_version": self.name,
            "ss_v2": "False",
            "modelspec.architecture": f"{self.name}/lora",
            **original.structure_metadata(self.name, counts),
        }


def infer(tensors: Tensors) -> dict[str, Any]:
    """In: tensors of a single file, prefix removed. Out: settings of diffusers' class, by their shapes."""
    return {"num_layers": original.count_blocks(tensors, "transformer_blocks.")}


FAMILY = Template()
