# ruff: noqa: E501, SIM905
"""Tiny captioners with random weights, saved by the libraries' true classes, and pictures for them."""

from __future__ import annotations

import csv
import json
import shutil
import string
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

WORDS = """
a an the of on in with and red green blue yellow white black grey cat dog robot tree house sky photo picture
small large round square background standing sitting light dark image describe what does show caption is
""".split()
TAGS = (
    ("general", 9), ("sensitive", 9), ("1girl", 0), ("solo", 0), ("long_hair", 0), (">_<", 0), ("blue_sky", 0),
    ("tree", 0), ("hatsune_miku", 4), ("red_robot", 4),
)  # fmt: skip
CLIP_MEAN = np.array([0.48145466, 0.4578275, 0.40821073], dtype=np.float32)
CLIP_STD = np.array([0.26862954, 0.26130258, 0.27577711], dtype=np.float32)


def pictures(folder: Path, count: int, side: int = 40) -> list[Path]:
    """Pictures of random blocks, all different, sides from `side` up."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    out = []
    for i in range(count):
        blocks = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        path = folder / f"{i:03d}.png"
        Image.fromarray(blocks).resize((side + i % 7 * 3, side + i % 5 * 4), Image.Resampling.NEAREST).save(
            path
        )
        out.append(path)
    return out


def project(root: Path, count: int, trigger: str = "sks robot") -> Any:
    """A project with some uncaptioned pictures."""
    from loratui.project import Project

    pictures(root / "dataset", count)
    return Project.create(root, "demo", trigger)


def _bert_tokenizer() -> Any:
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", *WORDS, *string.ascii_lowercase]
    words += ["##" + c for c in string.ascii_lowercase]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(words))}
    inner = Tokenizer(models.WordPiece(vocab, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer(lowercase=True)
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.decoder = decoders.WordPiece()
    pair = [("[CLS]", vocab["[CLS]"]), ("[SEP]", vocab["[SEP]"])]
    inner.post_processor = processors.TemplateProcessing(single="[CLS] $A [SEP]", special_tokens=pair)
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]",
        mask_token="[MASK]", bos_token="[DEC]",
    )  # fmt: skip


def _byte_tokenizer(extra: tuple[str, ...] = (), template: str = "", **named: Any) -> Any:
    """A byte-level tokenizer with `<s>`, `</s>` and `<pad>`."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {w: i for i, w in enumerate(["<s>", "<pad>", "</s>", "<unk>", *letters])}
    inner = Tokenizer(models.BPE(vocab, [], unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    made = PreTrainedTokenizerFast(
        tokenizer_object=inner,
        pad_token="<pad>",
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        **named,
    )
    made.add_tokens(list(extra), special_tokens=True)
    if template:
        made.chat_template = template
    return made


def blip(folder: Path) -> Path:
    """A BLIP of 24 px."""
    import torch
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

    torch.manual_seed(1)
    tokenizer = _bert_tokenizer()
    ids = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = BlipConfig(
        text_config={**small, "vocab_size": len(tokenizer), "encoder_hidden_size": 16, "max_position_embeddings": 64, **ids},
        vision_config={**small, "image_size": 24, "patch_size": 8},
        projection_dim=16, image_text_hidden_size=16,
    )  # fmt: skip
    BlipForConditionalGeneration(config).save_pretrained(folder)
    BlipImageProcessor(size={"height": 24, "width": 24}).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def blip2(folder: Path) -> Path:
    """A BLIP-2 with an OPT."""
    import torch
    from transformers import Blip2Config, Blip2ForConditionalGeneration, BlipImageProcessor

    torch.manual_seed(2)
    tokenizer = _byte_tokenizer(("<image>",))
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config={**small, "image_size": 24, "patch_size": 8},
        qformer_config={**small, "encoder_hidden_size": 16, "vocab_size": 40},
        text_config={
            "model_type": "opt", "vocab_size": len(tokenizer), "hidden_size": 16, "ffn_dim": 32,
            "num_hidden_layers": 1, "num_attention_heads": 2, "word_embed_proj_dim": 16,
            "max_position_embeddings": 128, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
        },
        num_query_tokens=4, image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )  # fmt: skip
    Blip2ForConditionalGeneration(config).save_pretrained(folder)
    from transformers import Blip2Processor

    processor = BlipImageProcessor(size={"height": 24, "width": 24})
    Blip2Processor(processor, tokenizer, num_query_tokens=4).save_pretrained(folder)
    return folder


def _open_clip(folder: Path, config: dict[str, Any], suffix: str = ".safetensors") -> Path:
    import open_clip
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    preprocess = {"mean": CLIP_MEAN.tolist(), "std": CLIP_STD.tolist(), "interpolation": "bicubic"}
    (folder / "open_clip_config.json").write_text(
        json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}), encoding="utf-8"
    )
    name = f"tiny-{folder.name}-{abs(hash(str(folder))) % 10**8}"
    entry = folder.parent / f"{name}.json"
    entry.write_text(json.dumps(config), encoding="utf-8")
    open_clip.add_model_config(entry)
    torch.manual_seed(3)
    model = open_clip.create_model(name)
    state = {k: v.contiguous().clone() for k, v in model.state_dict().items()}
    if suffix == ".safetensors":
        save_file(state, str(folder / "open_clip_model.safetensors"))
    else:
        torch.save(state, folder / "open_clip_pytorch_model.bin")
    return folder


def clip(folder: Path, suffix: str = ".safetensors") -> Path:
    """A CLIP of 32 px with the standard tokenizer."""
    return _open_clip(folder, {
        "embed_dim": 16,
        "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16},
        "text_cfg": {"context_length": 77, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    }, suffix)  # fmt: skip


def coca(folder: Path) -> Path:
    """A CoCa of 32 px."""
    return _open_clip(folder, {
        "embed_dim": 16,
        "vision_cfg": {
            "image_size": 32, "layers": 1, "width": 32, "patch_size": 16, "head_width": 16,
            "attentional_pool": True, "attn_pooler_heads": 2, "attn_pooler_queries": 8, "output_tokens": True,
        },
        "text_cfg": {
            "context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1, "embed_cls": True,
            "output_tokens": True,
        },
        "multimodal_cfg": {
            "context_length": 40, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1,
        },
        "custom_text": True,
    })  # fmt: skip


def wd(folder: Path, side: int = 16, batch: int | str = "batch") -> Path:
    """A tagger whose scores are the sigmoid of a linear map of the mean colour."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(parents=True, exist_ok=True)
    count = len(TAGS)
    rng = np.random.default_rng(5)
    weight = (rng.normal(size=(3, count)) / 60).astype(np.float32)
    nodes = [
        helper.make_node("ReduceMean", ["input"], ["mean"], axes=[1, 2], keepdims=0),
        helper.make_node("MatMul", ["mean", "weight"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes, "tagger",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [batch, side, side, 3])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [batch, count])],
        [numpy_helper.from_array(weight, "weight")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(folder / "model.onnx"))
    with open(folder / "selected_tags.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["tag_id", "name", "category", "count"])
        writer.writerows([i, name, category, 100] for i, (name, category) in enumerate(TAGS))
    np.save(folder / "weight.npy", weight)
    return folder


def florence2(folder: Path) -> Path:
    """A Florence-2 of 64 px."""
    import torch
    from transformers import (
        CLIPImageProcessor,
        Florence2Config,
        Florence2ForConditionalGeneration,
        Florence2Processor,
    )

    torch.manual_seed(4)
    named = {"image_token": "<image>"}
    tokenizer = _byte_tokenizer(("<image>", "<loc_0>", "<loc_1>"), extra_special_tokens=named)
    config = Florence2Config(
        vision_config={
            "embed_dim": [8, 8, 8, 8], "num_heads": [2, 2, 2, 2], "num_groups": [2, 2, 2, 2],
            "depths": [1, 1, 1, 1], "window_size": 2, "projection_dim": 16, "max_position_embeddings": 8,
            "max_temporal_embeddings": 4,
        },
        text_config={
            "model_type": "bart", "vocab_size": len(tokenizer), "d_model": 16, "encoder_layers": 1,
            "decoder_layers": 1, "encoder_attention_heads": 2, "decoder_attention_heads": 2, "encoder_ffn_dim": 32,
            "decoder_ffn_dim": 32, "max_position_embeddings": 256, "bos_token_id": 0, "pad_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 2, "forced_eos_token_id": 2,
        },
        image_token_id=tokenizer.image_token_id,
    )  # fmt: skip
    model = Florence2ForConditionalGeneration(config)
    model.save_pretrained(folder)
    images = CLIPImageProcessor(
        size={"height": 64, "width": 64}, do_center_crop=False, image_mean=[0.485, 0.456, 0.406],
        image_std=[0.229, 0.224, 0.225],
    )  # fmt: skip
    images.image_seq_length = 5
    Florence2Processor(images, tokenizer).save_pretrained(folder)
    return folder


CHAT = (
    "{% for m in messages %}{{ '<s>' + m['role'] + ': ' }}{% if m['content'] is string %}{{ m['content'] }}"
    "{% else %}{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ IMAGE }}{% else %}{{ p['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{ '</s>' }}{% endfor %}{% if add_generation_prompt %}{{ 'assistant: ' }}"
    "{% endif %}"
)


def joycaption(folder: Path) -> Path:
    """A Llava with a SigLIP eye."""
    import torch
    from transformers import LlavaConfig, LlavaForConditionalGeneration, LlavaProcessor, SiglipImageProcessor

    torch.manual_seed(5)
    tokenizer = _byte_tokenizer(("<image>",), CHAT.replace("IMAGE", "'<image>'"))
    small = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlavaConfig(
        vision_config={"model_type": "siglip_vision_model", **small, "image_size": 24, "patch_size": 8},
        text_config={
            "model_type": "llama", **small, "vocab_size": len(tokenizer), "num_key_value_heads": 2,
            "max_position_embeddings": 1024, "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"), vision_feature_select_strategy="full",
        image_seq_length=9,
    )  # fmt: skip
    LlavaForConditionalGeneration(config).save_pretrained(folder)
    images = SiglipImageProcessor(size={"height": 24, "width": 24})
    LlavaProcessor(
        images,
        tokenizer,
        patch_size=8,
        vision_feature_select_strategy="full",
        chat_template=tokenizer.chat_template,
    ).save_pretrained(folder)
    return folder


def qwen_vl(folder: Path) -> Path:
    """A Qwen2.5-VL."""
    import torch
    from transformers import (
        Qwen2_5_VLConfig,
        Qwen2_5_VLForConditionalGeneration,
        Qwen2VLImageProcessor,
    )

    torch.manual_seed(6)
    image = "'<|vision_start|><|image_pad|><|vision_end|>'"
    extra = ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")
    tokenizer = _byte_tokenizer(extra, CHAT.replace("IMAGE", image))
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in extra}
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 1, "max_position_embeddings": 1024,
            "rope_parameters": {"rope_type": "default", "mrope_section": [1, 1, 2], "rope_theta": 10000.0},
            "bos_token_id": 0, "eos_token_id": 2, "pad_token_id": 1,
        },
        vision_config={
            "depth": 2, "hidden_size": 16, "intermediate_size": 32, "num_heads": 2, "out_hidden_size": 16,
            "patch_size": 14, "window_size": 28, "fullatt_block_indexes": [1],
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    Qwen2_5_VLForConditionalGeneration(config).save_pretrained(folder)
    images = Qwen2VLImageProcessor(min_pixels=28 * 28, max_pixels=56 * 56)
    images.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


MAKERS = {
    "blip": blip, "blip2": blip2, "clip": clip, "coca": coca, "wd": wd, "florence2": florence2,
    "joycaption": joycaption, "qwen-vl": qwen_vl,
}  # fmt: skip


def in_hub_cache(folder: Path, cache: Path, repo: str) -> Path:
    """The same files as the Hub's cache lays them out."""
    root = cache / ("models--" + repo.replace("/", "--"))
    snapshot = root / "snapshots" / "0123456789abcdef0123456789abcdef01234567"
    blobs = root / "blobs"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(snapshot.name, encoding="utf-8")
    for number, path in enumerate(sorted(p for p in folder.iterdir() if p.is_file())):
        shutil.copy(path, blobs / f"{number:040x}")
        (snapshot / path.name).symlink_to(Path("../../blobs") / f"{number:040x}")
    return snapshot
