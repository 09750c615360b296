"""Random FLUX.2 bases of two double and two single blocks: klein with Qwen3, dev with Mistral 3."""

from __future__ import annotations

import json
from pathlib import Path

import tiny_kit as kit
import torch
from safetensors.torch import load_file

VARIANTS = ("dev",)
"""Flags of `make` and `pipeline`: see tests/tiny_kit.py."""
QWEN = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for message in messages %}{% set text = message.content[0].text %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]"
    "{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"
)


def make(folder: Path, seed: int = 0, dev: bool = False) -> Path:
    """Save it as a diffusers folder."""
    from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
    from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel

    torch.manual_seed(seed)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=2, num_single_layers=2, attention_head_dim=32, num_attention_heads=1,
        joint_attention_dim=24, timestep_guidance_channels=32, axes_dims_rope=(8, 8, 8, 8),
        guidance_embeds=dev,
    )  # fmt: skip
    kit.shake(transformer)
    transformer.save_pretrained(folder / "transformer")
    torch.manual_seed(seed)
    codec = AutoencoderKLFlux2(
        block_out_channels=(32, 32), layers_per_block=1, norm_num_groups=32, sample_size=16,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
        latent_channels=4,
    )  # fmt: skip
    codec.bn.running_mean.normal_(0.0, 0.3)
    codec.bn.running_var.uniform_(0.5, 2.0)
    codec.save_pretrained(folder / "vae")
    torch.manual_seed(seed + 7)
    (mistral if dev else qwen)(folder)
    kit.scheduler(folder / "scheduler", shift=3.0, use_dynamic_shifting=True, base_shift=0.5, max_shift=1.15,
                  base_image_seq_len=256, max_image_seq_len=4096)  # fmt: skip
    kit.index(folder, "flux2")
    if dev:
        index = json.loads((folder / "model_index.json").read_text())
        del index["is_distilled"]
        index |= {
            "_class_name": "Flux2Pipeline", "tokenizer": ["transformers", "PixtralProcessor"],
            "text_encoder": ["transformers", "Mistral3ForConditionalGeneration"],
        }  # fmt: skip
        (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def qwen(folder: Path) -> None:
    """Qwen3 of 29 layers, of which 27 are taken, with its head; its tokenizer of bytes."""
    from transformers.models.qwen2.tokenization_qwen2 import Qwen2Tokenizer
    from transformers.models.qwen3.configuration_qwen3 import Qwen3Config
    from transformers.models.qwen3.modeling_qwen3 import Qwen3ForCausalLM

    config = Qwen3Config(
        hidden_size=8, intermediate_size=16, num_hidden_layers=29, num_attention_heads=1, head_dim=8,
        num_key_value_heads=1, vocab_size=280, rope_theta=1e6, bos_token_id=None, eos_token_id=None,
    )  # fmt: skip
    encoder = Qwen3ForCausalLM(config).eval()
    kit.shake(encoder, 0.2)
    encoder.save_pretrained(folder / "text_encoder")
    found = Qwen2Tokenizer(vocab=alphabet(), merges=[])
    found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    found.chat_template = QWEN
    found.save_pretrained(folder / "tokenizer")


def mistral(folder: Path) -> None:
    """Mistral 3 of 32 layers, of which 30 are taken, with vision tower and head; a processor of bytes."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers.models.mistral3.configuration_mistral3 import Mistral3Config
    from transformers.models.mistral3.modeling_mistral3 import Mistral3ForConditionalGeneration
    from transformers.models.pixtral.image_processing_pixtral import PixtralImageProcessor
    from transformers.models.pixtral.processing_pixtral import PixtralProcessor
    from transformers.tokenization_utils_tokenizers import PreTrainedTokenizerFast

    config = Mistral3Config(
        text_config={
            "model_type": "mistral", "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 32,
            "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 128, "vocab_size": 280,
            "rope_theta": 1e9, "rms_norm_eps": 1e-5, "sliding_window": None,
        },
        vision_config={
            "model_type": "pixtral", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "head_dim": 8, "image_size": 28, "patch_size": 14,
        },
    )  # fmt: skip
    encoder = Mistral3ForConditionalGeneration(config).eval()
    kit.shake(encoder, 0.2)
    encoder.save_pretrained(folder / "text_encoder")
    tokenizer = Tokenizer(models.BPE(vocab=alphabet(), merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    marks = ["[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "[IMG]", "[IMG_BREAK]", "[IMG_END]"]
    found = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        additional_special_tokens=marks, padding_side="left",
    )  # fmt: skip
    processor = PixtralProcessor(PixtralImageProcessor(), found, chat_template=MISTRAL)
    processor.save_pretrained(folder / "tokenizer")


def alphabet() -> dict[str, int]:
    """A vocabulary of bytes."""
    from tokenizers.pre_tokenizers import ByteLevel

    return {letter: n for n, letter in enumerate(sorted(ByteLevel.alphabet()))}


def pipeline(dev: bool = False):
    """The pipeline's class, to load files with."""
    from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline
    from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline

    return Flux2Pipeline if dev else Flux2KleinPipeline


def velocity(pipe, call, caption: str, noisy_CHW, sigma: float, guidance: float):
    """One sample's velocity: the pipeline encodes, packs and unpacks, `call` is the transformer."""
    embeds, text_ids = pipe.encode_prompt(caption, device=torch.device("cpu"))
    patches = pipe._patchify_latents(noisy_CHW[None])
    ids = pipe._prepare_latent_ids(patches)
    guided = pipe.transformer.config.guidance_embeds
    output = call(
        hidden_states=pipe._pack_latents(patches), encoder_hidden_states=embeds.to(noisy_CHW),
        timestep=torch.tensor([sigma], dtype=noisy_CHW.dtype), txt_ids=text_ids, img_ids=ids,
        guidance=torch.tensor([guidance], dtype=noisy_CHW.dtype) if guided else None,
    )  # fmt: skip
    return pipe._unpatchify_latents(pipe._unpack_latents_with_ids(output, ids))[0]


def arguments(pipe, prompt: str, guidance: float) -> dict:
    """The call of the pipeline for a prompt."""
    return {"prompt": prompt, "guidance_scale": guidance}


def codec_tensors(folder: Path) -> dict:
    """The codec's tensors as the original's file has them: some convolutions within encoder and decoder."""
    from loratui.families.layouts import ldm

    modules = ldm.vae_modules(json.loads((folder / "vae" / "config.json").read_text()))
    inside = {"quant_conv": "encoder.quant_conv", "post_quant_conv": "decoder.post_quant_conv"}
    found = {}
    for name, tensor in load_file(folder / "vae" / "diffusion_pytorch_model.safetensors").items():
        module, _, leaf = ldm.vae_original_name(name, modules).rpartition(".")
        found[f"{inside.get(module, module)}.{leaf}"] = tensor
    return found


def original(tensors: dict) -> dict:
    """diffusers' tensors as the original's file has them."""
    left, found = dict(tensors), {}
    for n in range(2):
        a, b = f"transformer_blocks.{n}.attn.", f"double_blocks.{n}."
        found[f"{b}img_attn.qkv.weight"] = kit.fuse(left, [f"{a}to_{x}" for x in "qkv"], "weight")
        found[f"{b}txt_attn.qkv.weight"] = kit.fuse(left, [f"{a}add_{x}_proj" for x in "qkv"], "weight")
    words = (
        ("single_transformer_blocks.", "single_blocks."), ("transformer_blocks.", "double_blocks."),
        (".attn.to_out.0.", ".img_attn.proj."), (".attn.to_add_out.", ".txt_attn.proj."),
        (".attn.to_qkv_mlp_proj.", ".linear1."), (".attn.to_out.", ".linear2."),
        (".ff.linear_in.", ".img_mlp.0."), (".ff.linear_out.", ".img_mlp.2."),
        (".ff_context.linear_in.", ".txt_mlp.0."), (".ff_context.linear_out.", ".txt_mlp.2."),
        ("time_guidance_embed.timestep_embedder", "time_in"), ("proj_out.", "final_layer.linear."),
        ("time_guidance_embed.guidance_embedder", "guidance_in"), (".linear_1.", ".in_layer."),
        (".linear_2.", ".out_layer."), ("context_embedder.", "txt_in."), ("x_embedder.", "img_in."),
        ("_modulation_img.linear", "_modulation_img.lin"), ("_modulation_txt.linear", "_modulation_txt.lin"),
        ("stream_modulation.linear", "stream_modulation.lin"),
        (".attn.norm_added_q.weight", ".txt_attn.norm.query_norm.scale"),
        (".attn.norm_added_k.weight", ".txt_attn.norm.key_norm.scale"),
    )  # fmt: skip
    for name, tensor in left.items():
        if name == "norm_out.linear.weight":
            found["final_layer.adaLN_modulation.1.weight"] = kit.swap(tensor)
            continue
        for ours, theirs in words:
            name = name.replace(ours, theirs)
        start = ".norm." if "single" in name else ".img_attn.norm."
        name = name.replace(".attn.norm_q.weight", f"{start}query_norm.scale")
        found[name.replace(".attn.norm_k.weight", f"{start}key_norm.scale")] = tensor
    return found
