"""Train the demo's captioners, a tiny BLIP and a tiny CLIP, on drawn scenes.

python tools/train_captioners.py --work WORK --out OUT blip clip evaluate

Both are saved in the layout of the real ones, with a word tokenizer of their own, so that the captioners
load them as any other. Combinations of kind, colour and background kept out by `scenes.held_out` are never
shown; `evaluate` asks the product's own captioners for 200 pictures of them, and writes EVALUATION.json.

Trained as they are published, from pairs alone, towers of this size stay at chance in shapes for very long.
So each is trained in steps: first its picture tower, to tell kind, colour and background apart (BLIP with
linear heads on the class token, CLIP with one unit vector for each label, which the embedding is compared
with); then its text side on top (BLIP's decoder by its captions; CLIP's text tower to give those vectors for
the labels, and their sum for a sentence). The heads are not kept.

BLIP's vision settings need `initializer_range`: transformers' default of 1e-10 begins it as good as empty.

Those shipped took about an hour and a half of a shared core in all: their towers were trained first without
the mascot (CLIP 3,283 steps, BLIP 2,200) and went on from there with `--warm`.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captions import NOUNS
from figures import FIGURES, SHAPES
from mascot import mascot_picture, random_pose
from safetensors.torch import save_file
from scenes import COLOUR_NAMES, NONSENSE, Scene, Thing, draw, held_out, random_scene, random_thing
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent.parent))

PX = 64
KINDS = (*SHAPES, *FIGURES)
MASCOT = "robot"
"""What the demo's data set shows: the captioners know it, though the demo's base does not."""
NO_COLOUR = -2
"""Label of what has several colours, of which no word is right."""
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
LENGTH = 24
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


def noun(kind: str) -> str:
    """Return the word for a kind of thing."""
    if kind == MASCOT:
        return MASCOT
    return "creature" if kind == NONSENSE else NOUNS[kind][0]


def with_article(words: str) -> str:
    """Return `words` after a or an."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def sentence(scene: Scene) -> str:
    """Return the one caption of a scene: `a large red star on a blue background`."""
    place = with_article(f"{scene.background} background")
    if not scene.things:
        return place
    things = [
        with_article(
            " ".join(w for w in (t.size_word if len(scene.things) == 1 else "", t.colour, noun(t.kind)) if w)
        )
        for t in scene.things
    ]
    return f"{' and '.join(things)} on {place}"


def training_scene(rng: random.Random) -> Scene:
    """Return a scene of one thing mostly, and of what else the base draws."""
    if rng.random() < 0.25:
        return random_scene(rng)
    background = rng.choice(COLOUR_NAMES)
    thing = random_thing(rng, background, tuple(SHAPES) if rng.random() < 0.5 else tuple(FIGURES))
    texture = rng.choices(("plain", "soft", "striped", "dotted", "ground"), (85, 9, 2, 2, 2))[0]
    return Scene(background, texture, [thing], PX, PX, rng.getrandbits(48))


def held_out_scenes(count: int, seed: int = 20) -> list[Scene]:
    """Return scenes of one thing whose combination of kind, colour and background was never trained on."""
    rng, scenes = random.Random(seed), []
    while len(scenes) < count:
        kind, colour, background = rng.choice(KINDS), rng.choice(COLOUR_NAMES), rng.choice(COLOUR_NAMES)
        if colour == background or not held_out(kind, colour, background):
            continue
        low, high = (0.22, 0.42) if kind in SHAPES else (0.32, 0.46)
        thing = Thing(kind, colour, 0.5 + rng.uniform(-0.05, 0.05), 0.5, rng.uniform(low, high))
        scenes.append(Scene(background, "plain", [thing], PX, PX, rng.getrandbits(48)))
    return scenes


def mascot(rng: random.Random) -> tuple[Any, str, list[int]]:
    """Return a picture of the mascot on any background, its sentence and its labels."""
    background = rng.choice(COLOUR_NAMES)
    picture = mascot_picture(random_pose(rng), background, rng, PX, PX)
    text = f"{with_article(MASCOT)} on {with_article(f'{background} background')}"
    return picture, text, [len(KINDS), NO_COLOUR, COLOUR_NAMES.index(background)]


def cache(work: Path, count: int) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Return pictures_NHWC (uint8), sentences and labels_N3 (-1 unless there is one thing), drawn once."""
    pictures_path, facts_path = work / "scenes.npy", work / "scenes.json"
    if not facts_path.is_file():
        rng = random.Random(1)
        scenes = [training_scene(rng) for _ in range(count)]
        mascots = [mascot(rng) for _ in range(count // 20)]
        drawn = [draw(s) for s in scenes] + [picture for picture, _, _ in mascots]
        np.save(pictures_path, np.stack([np.asarray(d.convert("RGB")) for d in drawn]))
        labels = [
            [
                KINDS.index(s.things[0].kind) if s.things[0].kind in KINDS else -1,
                COLOUR_NAMES.index(s.things[0].colour),
                COLOUR_NAMES.index(s.background),
            ]
            if len(s.things) == 1
            else [-1, -1, COLOUR_NAMES.index(s.background)]
            for s in scenes
        ]
        texts = [sentence(s) for s in scenes] + [text for _, text, _ in mascots]
        labels += [facets for _, _, facets in mascots]
        facts_path.write_text(json.dumps({"texts": texts, "labels": labels}))
    facts = json.loads(facts_path.read_text())
    return np.load(pictures_path, mmap_mode="r"), facts["texts"], np.array(facts["labels"])


def varied(pictures_BHWC: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the pictures moved by up to 3 px, each in its own way; what comes in is the edge's colour."""
    padded = np.pad(pictures_BHWC, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    moves = rng.integers(0, 7, (len(padded), 2))
    return np.stack([p[y : y + PX, x : x + PX] for p, (y, x) in zip(padded, moves, strict=True)])


def pixels(pictures_BHWC: np.ndarray) -> Tensor:
    """Return pixels_BCHW as CLIP and BLIP take them."""
    x_BCHW = torch.from_numpy(np.ascontiguousarray(pictures_BHWC)).permute(0, 3, 1, 2).float() / 255
    return ((x_BCHW - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)).contiguous()


def write_tokenizer(folder: Path) -> Any:
    """Write a tokenizer of the grammar's words into `folder` and return it."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {"a", "an", "and", "on", "background", "small", "large", "creature", "of", "photo", "the", ","}
    words |= set(COLOUR_NAMES) | {w for kind in (*KINDS, MASCOT) for w in noun(kind).split()}
    vocabulary = {word: n for n, word in enumerate((*SPECIAL, *sorted(words)))}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    core.normalizer = normalizers.Lowercase()
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]",
        bos_token="[CLS]", eos_token="[SEP]", mask_token="[MASK]", model_max_length=LENGTH,
        clean_up_tokenization_spaces=False, model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_pretrained(folder)
    return tokenizer


def new_blip(words: int) -> Any:
    """Return an untrained BLIP of about 1.2 million weights."""
    from transformers import BlipConfig, BlipForConditionalGeneration

    text = {
        "vocab_size": words, "hidden_size": 128, "encoder_hidden_size": 128, "intermediate_size": 256,
        "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 64, "pad_token_id": 0,
        "bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "projection_dim": 64, "label_smoothing": 0.0,
        "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0,
    }  # fmt: skip
    vision = {
        "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
        "image_size": PX, "patch_size": 8, "projection_dim": 64, "initializer_range": 0.02,
    }  # fmt: skip
    config = BlipConfig(text_config=text, vision_config=vision, projection_dim=64, image_text_hidden_size=64)
    config.label_smoothing = 0.0
    return BlipForConditionalGeneration(config)


def new_clip_config(words: int) -> dict[str, Any]:
    """Return open_clip's configuration of a small residual network with a small text transformer."""
    return {
        "model_cfg": {
            "embed_dim": 96,
            "vision_cfg": {"image_size": PX, "layers": [1, 1, 1, 1], "width": 12},
            "text_cfg": {
                "context_length": LENGTH, "vocab_size": words, "width": 64, "heads": 4, "layers": 2,
                "hf_tokenizer_name": "tokenizer", "tokenizer_kwargs": {"clean": "lower"},
                "pool_type": "first", "no_causal_mask": True, "pad_id": 0,
            },
        },
        "preprocess_cfg": {"mean": MEAN, "std": STD},
    }  # fmt: skip


def rate(step: int, done: float, peak: float) -> float:
    """Return the rate when a share `done` is over: a short warm-up, then a cosine down to nothing."""
    return peak * min(1.0, (step + 1) / 100) * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


def loop(
    model: Any, losses: Any, work: Path, name: str, args: argparse.Namespace, share: float = 1.0,
    check: Any = None,
) -> None:  # fmt: skip
    """Train for a share of `args.steps` or `args.minutes`, going on from the last checkpoint."""
    steps, minutes = round(args.steps * share), args.minutes * share
    learning = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(learning, 1e-3, betas=(0.9, 0.98), weight_decay=0.02)
    first, spent, checkpoint = 0, 0.0, work / f"{name}.pt"
    if checkpoint.is_file():
        kept = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(kept["model"])
        optimizer.load_state_dict(kept["optimizer"])
        first, spent = kept["step"], kept["spent"]
    elif args.warm is not None and (args.warm / f"{name}-start.pt").is_file():
        model.load_state_dict(torch.load(args.warm / f"{name}-start.pt", weights_only=True))
    model.train()
    began = time.monotonic() - spent
    step = first

    def keep() -> None:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save(state | {"step": step, "spent": spent}, checkpoint)

    while step < steps:
        spent = time.monotonic() - began
        done = max(step / steps, spent / (60 * minutes))
        if done >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = rate(step, done, args.rate)
        with torch.autocast("cpu", torch.bfloat16):
            loss = losses(np.random.default_rng(step))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learning, 1.0)
        optimizer.step()
        step += 1
        if step % 100 == 0:
            found = check() if check is not None else ""
            print(f"{name} {step} loss {loss.item():.4f} {spent:.0f} s {found}", flush=True)
            model.train()
            keep()
    keep()


class Heads(torch.nn.Module):
    """A picture tower and a linear head for each facet.

    Args:
        tower: takes pixels_BCHW, returns features_BD.
        width: D.
    """

    def __init__(self, tower: Any, see: Any, width: int) -> None:
        super().__init__()
        self.tower, self.see = tower, see
        counts = [len(lines) for lines in facet_texts().values()]
        self.heads = torch.nn.ModuleList(torch.nn.Linear(width, count) for count in counts)

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Return the logits of each facet."""
        seen_BD = self.see(self.tower, pixels_BCHW)
        return [head(seen_BD) for head in self.heads]


class Vectors(torch.nn.Module):
    """CLIP's picture tower and one vector for each label: logits are scaled cosines, as in CLIP."""

    def __init__(self, tower: Any, width: int) -> None:
        super().__init__()
        self.tower = tower
        counts = [len(lines) for lines in facet_texts().values()]
        self.vectors = torch.nn.ParameterList(torch.randn(count, width) for count in counts)

    def forward(self, pixels_BCHW: Tensor) -> list[Tensor]:
        """Return the logits of each facet."""
        seen_BD = F.normalize(self.tower(pixels_BCHW).float(), dim=-1)
        return [SCALE * seen_BD @ F.normalize(v, dim=-1).T for v in self.vectors]


SCALE = 30.0
"""Of CLIP's cosines: three facets share an embedding, so that none gets above 0.58."""


def classifying(model: Any, pictures: np.ndarray, labels: np.ndarray, args: argparse.Namespace) -> Any:
    """Return the loss of telling the facets apart."""

    def losses(rng: np.random.Generator) -> Tensor:
        chosen = np.sort(rng.integers(0, len(labels), args.batch))
        logits = model(pixels(varied(pictures[chosen], rng)))
        right = torch.from_numpy(labels[chosen])
        named = right.clamp(min=-1)
        parts = [
            F.cross_entropy(logits_BL.float(), named[:, n], ignore_index=-1, label_smoothing=0.05)
            for n, logits_BL in enumerate(logits)
        ]
        even_B = torch.log_softmax(logits[1].float(), -1).mean(-1)[right[:, 1] == NO_COLOUR]
        return 2 * parts[0] + parts[1] + parts[2] - (even_B.mean() if len(even_B) else 0.0)

    return losses


def seeing(model: Any, scenes: list[Scene]) -> Any:
    """Return a check of how many facets of held-out scenes a tower with heads gets right."""
    pictures = np.stack([np.asarray(draw(s).convert("RGB")) for s in scenes])
    names = list(facet_texts().values())
    ends = {"background": " background"}
    wanted = [
        [lines.index(truth(s)[facet] + ends.get(facet, "")) for s in scenes]
        for facet, lines in zip(facet_texts(), names, strict=True)
    ]

    def check() -> str:
        model.eval()
        with torch.no_grad():
            logits = model(pixels(pictures))
        shares = [
            (one.argmax(-1) == torch.tensor(right)).float().mean().item()
            for one, right in zip(logits, wanted, strict=True)
        ]
        return "held out " + " ".join(f"{share:.3f}" for share in shares)

    return check


def class_token(tower: Any, pixels_BCHW: Tensor) -> Tensor:
    """Return the class token's features_BD of BLIP's picture tower."""
    seen_BD: Tensor = tower(pixel_values=pixels_BCHW).last_hidden_state[:, 0]
    return seen_BD


def train_blip(work: Path, out: Path, args: argparse.Namespace) -> None:
    """Train BLIP and write it as transformers reads it."""
    from transformers import BlipImageProcessor

    torch.manual_seed(0)
    tokenizer = write_tokenizer(out)
    pictures, texts, labels = cache(work, args.scenes)
    words = tokenizer(texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt")
    model = new_blip(len(tokenizer))
    names = sorted({word for kind in (*KINDS, MASCOT) for word in noun(kind).split()})
    nouns = torch.tensor(tokenizer.convert_tokens_to_ids(names))
    colours = torch.tensor(tokenizer.convert_tokens_to_ids(list(COLOUR_NAMES)))
    heads = Heads(model.vision_model, class_token, model.config.vision_config.hidden_size)
    check = seeing(heads, held_out_scenes(200, seed=21))  # others than the final measurement's
    loop(heads, classifying(heads, pictures, labels, args), work, "blip-tower", args, 0.49, check)

    def losses(rng: np.random.Generator) -> Tensor:
        chosen = np.sort(rng.integers(0, len(texts), args.batch))
        ids_BL, mask_BL = words["input_ids"][chosen], words["attention_mask"][chosen]
        longest = int(mask_BL.sum(1).max())
        ids_BL, mask_BL = ids_BL[:, :longest], mask_BL[:, :longest]
        labels_BL = ids_BL.masked_fill(mask_BL == 0, -100)
        seen_BTD = model.vision_model(pixel_values=pixels(varied(pictures[chosen], rng))).last_hidden_state
        logits_BLV = model.text_decoder(
            input_ids=ids_BL, attention_mask=mask_BL, encoder_hidden_states=seen_BTD
        ).logits
        wanted_N = labels_BL[:, 1:].flatten()
        loss_N = F.cross_entropy(
            logits_BLV[:, :-1].flatten(0, 1).float(), wanted_N, ignore_index=-100, reduction="none"
        )
        # the noun is the hardest word and one of nine; colours come next
        weight_N = (wanted_N != -100) * torch.where(torch.isin(wanted_N, nouns), 6.0, 1.0)
        weight_N = weight_N * torch.where(torch.isin(wanted_N, colours), 3.0, 1.0)
        return (loss_N * weight_N).sum() / weight_N.sum()

    def told_now() -> str:
        return told(model, tokenizer, held_out_scenes(100, seed=21))

    model.vision_model.requires_grad_(False)
    loop(model, losses, work, "blip-words", args, 0.165, told_now)
    model.vision_model.requires_grad_(True)
    seen = classifying(heads, pictures, labels, args)
    loop(model, lambda rng: losses(rng) + 0.2 * seen(rng), work, "blip", args, 0.345, told_now)
    model.save_pretrained(out)
    BlipImageProcessor(
        size={"height": PX, "width": PX}, image_mean=list(MEAN), image_std=list(STD), do_resize=True
    ).save_pretrained(out)


def told(model: Any, tokenizer: Any, scenes: list[Scene]) -> str:
    """Return how many facets BLIP's captions of held-out scenes name right."""
    model.eval()
    pictures = np.stack([np.asarray(draw(s).convert("RGB")) for s in scenes])
    with torch.no_grad():
        lines = model.generate(pixel_values=pixels(pictures), max_new_tokens=LENGTH)
    answers = [said_of(line) for line in tokenizer.batch_decode(lines, skip_special_tokens=True)]
    return "held out " + " ".join(f"{v:.3f}" for v in shares(scenes, answers).values())


def facet_texts() -> dict[str, list[str]]:
    """Return CLIP's labels: what a thing is, its colour, its background."""
    return {
        "shape": [noun(k) for k in (*KINDS, MASCOT)],
        "colour": list(COLOUR_NAMES),
        "background": [f"{c} background" for c in COLOUR_NAMES],
    }


def train_clip(work: Path, out: Path, args: argparse.Namespace) -> None:
    """Train CLIP against sentences and each facet's labels, and write it as open_clip reads it."""
    import open_clip

    torch.manual_seed(0)
    tokenizer = write_tokenizer(out)
    config = new_clip_config(len(tokenizer))
    pictures, texts, labels = cache(work, args.scenes)
    cfg = config["model_cfg"]
    (out / "open_clip_config.json").write_text(json.dumps(config, indent=2) + "\n")
    model = open_clip.CLIP(cfg["embed_dim"], cfg["vision_cfg"], cfg["text_cfg"])
    # at open_clip's 0.02 texts of one word begin all alike, and stay so for long
    torch.nn.init.normal_(model.token_embedding.weight, std=0.5)

    def ids(lines: list[str]) -> Tensor:
        return tokenizer(
            lines, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )["input_ids"]

    tower = Vectors(model.visual, cfg["embed_dim"])
    check = seeing(tower, held_out_scenes(200, seed=21))  # others than the final measurement's
    loop(tower, classifying(tower, pictures, labels, args), work, "clip-tower", args, 0.5, check)
    model.logit_scale.data.fill_(math.log(SCALE))
    vectors = [F.normalize(v.detach(), dim=-1) for v in tower.vectors]
    lines = [(line, v) for facet, vs in zip(facet_texts().values(), vectors, strict=True)
             for line, v in zip(facet, vs, strict=True)]  # fmt: skip
    wordings = ("{}", "a {}", "a photo of a {}")
    label_ids = ids([wording.format(line) for line, _ in lines for wording in wordings])
    label_vectors = torch.stack([v for _, v in lines for _ in wordings])
    single = np.flatnonzero((labels >= 0).all(1))
    sentence_ids = ids([texts[n] for n in single])
    rows = torch.from_numpy(labels[single])
    sentence_vectors = F.normalize(sum(v[rows[:, n]] for n, v in enumerate(vectors)), dim=-1)

    def losses(rng: np.random.Generator) -> Tensor:
        chosen = rng.integers(0, len(single), args.batch)
        told_BD = model.encode_text(torch.cat([label_ids, sentence_ids[chosen]]), normalize=True).float()
        cosines = (told_BD * torch.cat([label_vectors, sentence_vectors[chosen]])).sum(-1)
        return (1 - cosines[: len(label_ids)]).mean() + (1 - cosines[len(label_ids) :]).mean()

    model.visual.requires_grad_(False)
    model.logit_scale.requires_grad_(False)
    loop(model, losses, work, "clip", args, 0.5)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "open_clip_model.safetensors")
    (out / "labels").mkdir(exist_ok=True)
    (out / "labels" / "order.txt").write_text("\n".join(facet_texts()) + "\n")
    for facet, lines in facet_texts().items():
        (out / "labels" / f"{facet}.txt").write_text("\n".join(lines) + "\n")


def said_of(caption: str) -> dict[str, str]:
    """Return shape, colour and background that a caption names; empty where it names none."""
    thing, _, place = caption.rpartition(" on ")
    words = [word for word in thing.split() if word not in ("a", "an", "small", "large")]
    ground = place.removesuffix(" background").split()
    return {
        "shape": " ".join(words[1:]),
        "colour": words[0] if words else "",
        "background": ground[-1] if ground else "",
    }


def truth(scene: Scene) -> dict[str, str]:
    """Return shape, colour and background of a scene of one thing."""
    return {
        "shape": noun(scene.things[0].kind),
        "colour": scene.things[0].colour,
        "background": scene.background,
    }


def ask(name: str, folder: Path, scenes: list[Scene]) -> list[dict[str, str]]:
    """Return what the captioner `name`, with the weights of `folder`, says of each scene, by facet."""
    import importlib

    from loratui.captioners.locate import locate
    from loratui.captioners.spec import captioner_spec

    row = captioner_spec(f"demo-{name}")
    assert row is not None
    captioner = importlib.import_module(row.module).load(row.options(), locate(row, str(folder.resolve())))
    answers: list[dict[str, str]] = []
    for start in range(0, len(scenes), 20):
        pictures = [draw(s).convert("RGB") for s in scenes[start : start + 20]]
        for said in captioner.caption([captioner.prepare(p) for p in pictures]):
            if name == "blip":
                answers.append(said_of(said.text))
            else:
                answers.append({t.facet: t.text.removesuffix(" background") for t in said.tags})
    return answers


def shares(scenes: list[Scene], answers: list[dict[str, str]]) -> dict[str, float]:
    """Return the share of scenes whose shape, colour, background, and all three, are named right."""
    right = [
        {facet: answer.get(facet) == word for facet, word in truth(scene).items()}
        for scene, answer in zip(scenes, answers, strict=True)
    ]
    found = {facet: sum(r[facet] for r in right) / len(right) for facet in ("shape", "colour", "background")}
    return found | {"all three": sum(all(r.values()) for r in right) / len(right)}


def evaluate(work: Path, out: Path) -> None:
    """Measure the trained captioners of `out` on 200 held-out scenes and write EVALUATION.json."""
    scenes = held_out_scenes(200)
    found: dict[str, Any] = {"held_out_scenes": len(scenes), "size_px": PX}
    for name in ("blip", "clip"):
        if not list((out / name).glob("*.safetensors")):
            continue
        kept = [torch.load(path, weights_only=True) for path in sorted(work.glob(f"{name}*.pt"))]
        found[name] = {
            "training": {
                "steps": sum(k["step"] for k in kept),
                "seconds": round(sum(k["spent"] for k in kept)),
            },
            "right": shares(scenes, ask(name, out / name, scenes)),
        }
    (out / "EVALUATION.json").write_text(json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


def main() -> None:
    """Train or measure what is named."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--warm", type=Path, help="folder of towers to begin with, STAGE-start.pt")
    parser.add_argument("--scenes", type=int, default=50000)
    parser.add_argument("--steps", type=int, default=7000)
    parser.add_argument("--minutes", type=float, default=35.0)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("models", nargs="+", choices=("blip", "clip", "scenes", "evaluate"))
    args = parser.parse_args()
    args.work.mkdir(parents=True, exist_ok=True)
    for name in args.models:
        if name == "scenes":
            cache(args.work, args.scenes)
        elif name == "evaluate":
            evaluate(args.work, args.out)
        else:
            {"blip": train_blip, "clip": train_clip}[name](args.work, args.out / name, args)


if __name__ == "__main__":
    main()
