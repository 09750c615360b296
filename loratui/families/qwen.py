"""Qwen-Image: rectified flow, Qwen2.5-VL alone, 1024 to 1328 px (Wu et al. 2025, arXiv:2508.02324).

A transformer of double blocks. The caption stands in a chat whose system message asks for a description; the
encoder's states of that message are cut off. Text is attended to without its filling, and has places behind
the picture's. The codec is that of a video model. Samples use a negative prompt, a space where there is none.
"""

# /// family
# title = "Qwen-Image"
# resolution = 1024
# latent_factor = 8
# blocks = 60
# notes = "rectified flow; Qwen2.5-VL alone, a negative prompt; its edit models are another family"
# flow = true
# patch = 2
# files = "peft"
# networks = ["lora"]
# trains_text = false
# pipelines = ["QwenImagePipeline"]
# marks = ["transformer_blocks.0.img_mod.1.weight", "txt_norm.weight", "img_in.weight"]
# # of the edit model 2511 and of the layered one
# unlike = ["__index_timestep_zero__", "time_text_embed.addition_t_embedding.weight"]
# # the last block's text is not read any more
# idle = [".attn.add_q_proj", ".attn.to_add_out", ".txt_mlp.net.0.proj", ".txt_mlp.net.2"]
# parameters = 20_430_401_088
# others = 8_420_000_000
#
# [[captions]]
# tokens = 1024
# around = 5
# width = 3584
# inputs = ["txt_in.weight"]
#
# [layers]
# attention = [
#     ".attn.to_q", ".attn.to_k", ".attn.to_v", ".attn.to_out.0", ".attn.add_q_proj", ".attn.add_k_proj",
#     ".attn.add_v_proj", ".attn.to_add_out",
# ]
# mlp = [".img_mlp.net.0.proj", ".img_mlp.net.2", ".txt_mlp.net.0.proj", ".txt_mlp.net.2"]
# more = [".img_mod.1", ".txt_mod.1"]
#
# [names]
# blocks = { transformer_blocks = 60 }
# forms = { diffusers = ["peft", "original", "kohya"], comfyui = ["peft", "original", "kohya"] }
# table = """
# transformer_blocks.{n}.attn.to_q          transformer_blocks.{n}.attn.to_q
# transformer_blocks.{n}.attn.to_k          transformer_blocks.{n}.attn.to_k
# transformer_blocks.{n}.attn.to_v          transformer_blocks.{n}.attn.to_v
# transformer_blocks.{n}.attn.to_out.0      transformer_blocks.{n}.attn.to_out.0
# transformer_blocks.{n}.attn.add_q_proj    transformer_blocks.{n}.attn.add_q_proj
# transformer_blocks.{n}.attn.add_k_proj    transformer_blocks.{n}.attn.add_k_proj
# transformer_blocks.{n}.attn.add_v_proj    transformer_blocks.{n}.attn.add_v_proj
# transformer_blocks.{n}.attn.to_add_out    transformer_blocks.{n}.attn.to_add_out
# transformer_blocks.{n}.img_mlp.net.0.proj transformer_blocks.{n}.img_mlp.net.0.proj
# transformer_blocks.{n}.img_mlp.net.2      transformer_blocks.{n}.img_mlp.net.2
# transformer_blocks.{n}.txt_mlp.net.0.proj transformer_blocks.{n}.txt_mlp.net.0.proj
# transformer_blocks.{n}.txt_mlp.net.2      transformer_blocks.{n}.txt_mlp.net.2
# transformer_blocks.{n}.img_mod.1          transformer_blocks.{n}.img_mod.1
# transformer_blocks.{n}.txt_mod.1          transformer_blocks.{n}.txt_mod.1
# """
#
# [configs]
# model_index = '''
# {
#   "_class_name": "QwenImagePipeline",
#   "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
#   "text_encoder": ["transformers", "Qwen2_5_VLForConditionalGeneration"],
#   "tokenizer": ["transformers", "Qwen2Tokenizer"],
#   "transformer": ["diffusers", "QwenImageTransformer2DModel"],
#   "vae": ["diffusers", "AutoencoderKLQwenImage"]
# }
# '''
# scheduler = '''
# {
#   "_class_name": "FlowMatchEulerDiscreteScheduler",
#   "base_image_seq_len": 256,
#   "base_shift": 0.5,
#   "max_image_seq_len": 8192,
#   "max_shift": 0.9,
#   "num_train_timesteps": 1000,
#   "shift": 1.0,
#   "shift_terminal": 0.02,
#   "time_shift_type": "exponential",
#   "use_dynamic_shifting": true
# }
# '''
# vae = '''
# {
#   "_class_name": "AutoencoderKLQwenImage",
#   "attn_scales": [],
#   "base_dim": 96,
#   "dim_mult": [1, 2, 4, 4],
#   "dropout": 0.0,
#   "latents_mean": [
#     -0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508,
#     0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921
#   ],
#   "latents_std": [
#     2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743,
#     3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.916
#   ],
#   "num_res_blocks": 2,
#   "temperal_downsample": [false, true, true],
#   "z_dim": 16
# }
# '''
# ///

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.transformers.transformer_qwenimage import QwenImageTransformer2DModel
from torch import Tensor, nn

from loratui.families import encoders, original, qwen_text, qwen_vae, sources, t5_text
from loratui.families.emphasis import Spoken, words
from loratui.families.layouts import flux as layout
from loratui.families.loading import identity
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size, stack
from loratui.families.spec import row_of

MARK = "transformer_blocks.0.img_mod.1.weight"
TEXT = qwen_text.part("text_encoder", "tokenizer")
TOKENS = 1024
CHAT = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text,"
    " spatial relationships of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
"""What the model was trained with around each caption (Wu et al. 2025, figure 7)."""
BEFORE = 34
"""Tokens of it before the caption."""


class QwenImage:
    """See `families.protocol.Family` for what each method promises."""

    name = "qwen"
    empty = " "

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with text encoder and codec from elsewhere where it has none."""
        encoders.check(self.name, base, vae, text)
        denoiser, base_hash, scheduler = original.transformer(
            base, QwenImageTransformer2DModel, MARK, infer, convert, dtype, self.name
        )
        place = vae or (base / "vae" if base.is_dir() else base)
        codec, vae_identity = qwen_vae.load_vae(place, row_of(self.name).packaged("vae"))
        encoder, folder = sources.find(TEXT, base, text)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"qwen": lambda: qwen_text.load_encoder(encoder)}),
            tokenizers={"qwen": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** len(codec.config.temperal_downsample),
            latent_channels=codec.config.z_dim,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(encoder, folder), CHAT),
            base_hash=base_hash,
            patch=2,
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each channel shifted and scaled by its own."""
        return qwen_vae.encode_pictures(parts, pixels_BCHW)

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        return qwen_vae.decode_latents(parts, latents_BCHW)

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Hidden states of the caption and of what follows it in the chat, and a mask of ones."""
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch, shorter ones filled up with zeros; never with gradients."""
        encoder, tokenizer = parts.text_encoders["qwen"], parts.tokenizers["qwen"]
        found = []
        for caption in captions:
            whole_LD = qwen_text.last_hidden_states(
                encoder, tokenizer, CHAT.format(words(caption)), TOKENS + BEFORE
            )
            text_LD = whole_LD[BEFORE:]
            found.append({"prompt_embeds": text_LD, "prompt_mask": text_LD.new_ones(len(text_LD))})
        return stack(found, found[0]["prompt_embeds"].device)

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        batch, _, height, width = noisy_BCHW.shape
        # One caption has no filling; without a mask the attention is quicker, and is the pipeline's own.
        mask_BL = condition["prompt_mask"].bool() if batch > 1 else None
        output_BLD = parts.denoiser(
            hidden_states=layout.pack(noisy_BCHW),
            encoder_hidden_states=condition["prompt_embeds"].to(noisy_BCHW.dtype),
            encoder_hidden_states_mask=mask_BL,
            timestep=timesteps_B / 1000,
            img_shapes=[[(1, height // 2, width // 2)]] * batch,
            return_dict=False,
        )[0]
        return layout.unpack(output_BLD, height, width)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """A QwenImagePipeline over these parts, for embeddings."""
        from diffusers.pipelines.qwenimage.pipeline_qwenimage import QwenImagePipeline

        pipeline = QwenImagePipeline(
            transformer=parts.denoiser,
            scheduler=original.flow_scheduler(sampler, parts.scheduler),
            vae=parts.vae,
            text_encoder=None,
            tokenizer=None,
        )
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings, masks and guidance, which is the pipeline's true one: the model is told none."""
        return {
            "prompt_embeds": prompt["prompt_embeds"][None].float(),
            "prompt_embeds_mask": prompt["prompt_mask"][None].long(),
            "negative_prompt_embeds": negative["prompt_embeds"][None].float(),
            "negative_prompt_embeds_mask": negative["prompt_mask"][None].long(),
            "true_cfg_scale": guidance,
        }

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """Tokens as latents."""
        side = parts.side_px
        return layout.unpack(latents, 2 * (height // side), 2 * (width // side))

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of the blocks; in the last one none that only the text's way out of it would pass."""
        spec = row_of(self.name)
        return original.layers_of(denoiser, spec.layers[target], spec.idle)

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The double blocks."""
        return list(denoiser.transformer_blocks)

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: Qwen2.5-VL is not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """PEFT's dotted name, which diffusers and ComfyUI read."""
        return f"transformer.{module}"

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture, as musubi-tuner names them."""
        return {
            "ss_base_model_version": "qwen_image",
            "ss_v2": "False",
            "modelspec.architecture": "Qwen-Image/lora",
            **original.structure_metadata(
                self.name, {"transformer_blocks": parts.denoiser.config.num_layers}
            ),
        }


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of a single file."""
    width, channels = tensors["img_in.weight"].shape
    head = tensors["transformer_blocks.0.attn.norm_q.weight"].shape[0]
    return {
        "patch_size": 2,
        "in_channels": channels,
        "out_channels": tensors["proj_out.weight"].shape[0] // 4,
        "num_layers": original.count_blocks(tensors, "transformer_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": tensors["txt_in.weight"].shape[1],
        "axes_dims_rope": (head // 8, 7 * head // 16, 7 * head // 16),
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """The transformer's tensors of a single file: the original has diffusers' names."""
    return {name: tensors[name] for name in shapes}


FAMILY = QwenImage()
