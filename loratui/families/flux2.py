"""FLUX.2 klein and dev: rectified flow, a language model as text encoder, 1024 px (Black Forest Labs 2025).

A transformer of double and single blocks whose modulations are shared by all blocks of a kind. klein (4B and
9B) takes three layers of Qwen3, and its undistilled base a negative prompt; dev takes three of Mistral Small
3 and is distilled from guidance, whose value is one more input. Text has places of its own, and the model
attends to its filling. Latents are normalised by the codec's batch statistics, which differ by the place in
a patch of 2 x 2, the size of a token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_flux2 import AutoencoderKLFlux2
from diffusers.models.transformers.transformer_flux2 import Flux2Transformer2DModel
from diffusers.pipelines.flux2.system_messages import SYSTEM_MESSAGE
from torch import Tensor, nn

from loratui.errors import BaseModelError
from loratui.families import chat_text, original, sources, t5_text
from loratui.families.clip_unet import UNET_KEY, load_vae
from loratui.families.emphasis import Spoken, words
from loratui.families.layouts import flux as packing
from loratui.families.layouts import flux2 as layout
from loratui.families.loading import CONFIGS, identity, read_json
from loratui.families.original import Shapes, Tensors
from loratui.families.protocol import Condition, LazyModules, Parts, Size
from loratui.families.spec import family_spec
from loratui.weights.layouts import Names, names_of

MARK = "double_stream_modulation_img.lin.weight"
QWEN3 = chat_text.qwen3("text_encoder", "tokenizer", (9, 18, 27))
MISTRAL = chat_text.mistral("text_encoder", "tokenizer", (10, 20, 30), SYSTEM_MESSAGE)
TOKENS = 512


class Flux2:
    """See `families.protocol.Family` for what each method promises."""

    name = "flux2"
    empty = ""

    def load(
        self, base: Path, dtype: torch.dtype, prediction: str = "auto", vae: Path | None = None,
        text: Sequence[Path] = (),
    ) -> Parts:  # fmt: skip
        """Load a folder or a single file, with the text encoder from elsewhere where it has none."""
        denoiser, base_hash, scheduler = original.transformer(
            base, Flux2Transformer2DModel, MARK, infer, convert, dtype, CONFIGS / "flux2"
        )
        index = read_json(base / "model_index.json") if base.is_dir() else {}
        distilled = bool(index.get("is_distilled"))
        codec, vae_identity = load_vae(
            vae or (base / "vae" if base.is_dir() else base), CONFIGS / "flux2", AutoencoderKLFlux2
        )
        chat = MISTRAL if denoiser.config.guidance_embeds else QWEN3
        place, folder = sources.find(chat.part, base, text)
        check_width(chat, place, denoiser.config.joint_attention_dim)
        return Parts(
            denoiser=denoiser,
            vae=codec,
            text_encoders=LazyModules({"chat": lambda: chat_text.load_encoder(chat, place)}),
            tokenizers={"chat": t5_text.load_tokenizer(folder)},
            scheduler=scheduler,
            prediction="flow",
            latent_factor=2 ** (len(codec.config.block_out_channels) - 1),
            latent_channels=codec.config.latent_channels,
            vae_identity=vae_identity,
            text_identity=identity([], original.place_identity(place, folder), chat.layers),
            base_hash=base_hash,
            patch=2,
            extras={"distilled": distilled},
        )

    def encode_pictures(self, parts: Parts, pixels_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the normalised latents."""
        posterior = parts.vae.encode(pixels_BCHW).latent_dist
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *posterior.mean.shape[2:])
        return (posterior.mean - mean_CHW) / deviation_CHW, posterior.std / deviation_CHW

    def decode_latents(self, parts: Parts, latents_BCHW: Tensor) -> Tensor:
        """Pixels of such latents."""
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *latents_BCHW.shape[2:])
        pixels: Tensor = parts.vae.decode(latents_BCHW * deviation_CHW + mean_CHW, return_dict=False)[0]
        return pixels

    def encode_captions(self, parts: Parts, captions: Sequence[Spoken]) -> list[Condition]:
        """Hidden states of three layers, filling included: the model attends to it."""
        return original.alone(self.encode_batch, parts, captions)

    def encode_batch(self, parts: Parts, captions: Sequence[Spoken]) -> Condition:
        """The same as a batch; never with gradients."""
        chat = MISTRAL if parts.denoiser.config.guidance_embeds else QWEN3
        texts = [words(caption) for caption in captions]
        encoder, tokenizer = parts.text_encoders["chat"], parts.tokenizers["chat"]
        return {"prompt_embeds": chat_text.stacked_states(chat, encoder, tokenizer, texts, TOKENS)}

    def size_condition(self, original: Size, crop: Size, target: Size) -> Condition:
        """Nothing: it knows no sizes."""
        return {}

    def predict(self, parts: Parts, noisy_BCHW: Tensor, timesteps_B: Tensor, condition: Condition) -> Tensor:
        """The velocity."""
        dtype, device = noisy_BCHW.dtype, noisy_BCHW.device
        height, width = noisy_BCHW.shape[2:]
        text_BLD = condition["prompt_embeds"].to(dtype)
        guided = parts.denoiser.config.guidance_embeds
        output_BLD = parts.denoiser(
            hidden_states=packing.pack(noisy_BCHW),
            encoder_hidden_states=text_BLD,
            timestep=timesteps_B / 1000,
            guidance=torch.full_like(timesteps_B, parts.guidance) if guided else None,
            img_ids=layout.image_ids(height, width, device),
            txt_ids=layout.text_ids(text_BLD.shape[1], device),
            return_dict=False,
        )[0]
        return packing.unpack(output_BLD, height, width)

    def pipeline(self, parts: Parts, sampler: str) -> Any:
        """The pipeline of klein or of dev over these parts, for embeddings."""
        given: dict[str, Any] = {
            "transformer": parts.denoiser, "vae": parts.vae, "text_encoder": None, "tokenizer": None,
            "scheduler": original.flow_scheduler(sampler, parts.scheduler),
        }  # fmt: skip
        if parts.denoiser.config.guidance_embeds:
            from diffusers.pipelines.flux2.pipeline_flux2 import Flux2Pipeline as Pipeline
        else:
            from diffusers.pipelines.flux2.pipeline_flux2_klein import Flux2KleinPipeline as Pipeline

            given["is_distilled"] = parts.extras["distilled"]
        pipeline: Any = Pipeline(**given)
        pipeline.set_progress_bar_config(disable=True)
        return pipeline

    def pipeline_inputs(
        self, parts: Parts, prompt: Condition, negative: Condition, guidance: float
    ) -> dict[str, Any]:
        """Embeddings and guidance; dev has no negative prompt."""
        found: dict[str, Any] = {
            "prompt_embeds": prompt["prompt_embeds"][None].float(), "guidance_scale": guidance,
        }  # fmt: skip
        if parts.denoiser.config.guidance_embeds:
            return found
        if parts.extras["distilled"]:
            return found | {"guidance_scale": 1.0}
        return found | {"negative_prompt_embeds": negative["prompt_embeds"][None].float()}

    def pipeline_latents(self, parts: Parts, latents: Tensor, width: int, height: int) -> Tensor:
        """dev's tokens, or klein's latents, which its pipeline gives without their normalisation."""
        if latents.dim() == 3:
            side = parts.side_px
            return packing.unpack(latents, 2 * (height // side), 2 * (width // side))
        mean_CHW, deviation_CHW = layout.statistics(parts.vae, *latents.shape[2:])
        return (latents - mean_CHW) / deviation_CHW

    def target_modules(self, denoiser: nn.Module, target: str) -> list[str]:
        """Layers of double and single blocks; `full` has no more, as modulations are outside of blocks."""
        spec = family_spec(self.name)
        assert spec is not None
        return original.layers_of(denoiser, spec.layers[target])

    def blocks(self, denoiser: Any) -> list[nn.Module]:
        """The double blocks, then the single ones."""
        return [*denoiser.transformer_blocks, *denoiser.single_transformer_blocks]

    def text_modules(self, encoder: nn.Module) -> list[str]:
        """None: language models are not trained."""
        return []

    def kohya_name(self, network: nn.Module, key: str, module: str) -> str:
        """The original's name of the matrix that holds the layer."""
        return f"{UNET_KEY}_" + names(network).parts[module].original.replace(".", "_")

    def metadata(self, parts: Parts) -> dict[str, str]:
        """Version and architecture as musubi-tuner names them."""
        config = parts.denoiser.config
        size = "9b" if config.num_attention_heads * config.attention_head_dim >= 4096 else "4b"
        model = "dev" if config.guidance_embeds else f"klein-{size}"
        return {
            "ss_base_model_version": "flux_2_" + model.replace("-", "_"),
            "ss_v2": "False",
            "modelspec.architecture": f"Flux.2-{model}/lora",
            **original.structure_metadata(self.name, counts(parts.denoiser)),
        }


def check_width(chat: chat_text.Chat, place: sources.Place, wanted: int) -> None:
    """Refuse a text encoder of another size than the transformer's.

    Raises:
        BaseModelError: its features do not fit.
    """
    found = len(chat.layers) * chat_text.width(place)
    if found != wanted:
        raise BaseModelError(
            f"The {chat.part.title} text encoder makes {found} features and the transformer takes {wanted}.",
            "klein 4B goes with Qwen3-4B, klein 9B with Qwen3-8B, dev with Mistral Small 3.",
        )


def counts(denoiser: Any) -> dict[str, int]:
    """Blocks of each kind."""
    config = denoiser.config
    return {"transformer_blocks": config.num_layers, "single_transformer_blocks": config.num_single_layers}


def names(denoiser: Any) -> Names:
    """Its layers' names in the original."""
    return names_of("flux2", original.stated(counts(denoiser)))


def infer(tensors: Tensors) -> dict[str, Any]:
    """Settings of a transformer from the tensors of an original-layout file."""
    width, channels = tensors["img_in.weight"].shape
    norm = "double_blocks.0.img_attn.norm.query_norm."
    head = tensors[f"{norm}scale" if f"{norm}scale" in tensors else f"{norm}weight"].shape[0]
    return {
        "patch_size": 1,
        "in_channels": channels,
        "num_layers": original.count_blocks(tensors, "double_blocks."),
        "num_single_layers": original.count_blocks(tensors, "single_blocks."),
        "attention_head_dim": head,
        "num_attention_heads": width // head,
        "joint_attention_dim": tensors["txt_in.weight"].shape[1],
        "timestep_guidance_channels": tensors["time_in.in_layer.weight"].shape[1],
        "mlp_ratio": tensors["double_blocks.0.img_mlp.2.weight"].shape[1] / width,
        "axes_dims_rope": (head // 4,) * 4,
        "guidance_embeds": "guidance_in.in_layer.weight" in tensors,
    }


def convert(tensors: Tensors, shapes: Shapes) -> Tensors:
    """Tensors of an original-layout file under diffusers' names."""
    double, single = (original.count_blocks(tensors, f"{kind}_blocks.") for kind in ("double", "single"))
    blocks = {"transformer_blocks": double, "single_transformer_blocks": single}
    others = {**layout.ENDS, **layout.norms(double, single)}
    parts = names_of("flux2", original.stated(blocks)).parts
    return original.by_names(tensors, shapes, parts, others, ("norm_out.linear",))


FAMILY = Flux2()
