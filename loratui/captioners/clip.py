"""CLIP (Radford et al. 2021) as an interrogator: which labels of each facet fit the picture, and how well.

Labels are embedded once and kept by a hash of the labels and of the weights that read them. A facet's
probabilities are the softmax of scaled cosines over its labels (the sigmoid for models with a bias, SigLIP).
`best` chains labels that fit better together than each alone.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from loratui.captioners.labels import read_labels
from loratui.captioners.open_clip_models import Loaded, load_open_clip
from loratui.captioners.place import Place, place
from loratui.captioners.protocol import Said, Source, Tag
from loratui.captioners.spec import ClipOptions
from loratui.errors import ConfigError
from loratui.files import replace_file
from loratui.paths import cache_dir

_TEXTS = 128
_log = logging.getLogger(__name__)


class Clip:
    """A loaded CLIP with its labels."""

    first_batch = 8

    def __init__(
        self, loaded: Loaded, labels: dict[str, tuple[str, ...]], options: ClipOptions, where: Place
    ) -> None:
        self.loaded = loaded
        self.options = options
        self.where = where
        self.labels = [(facet, label) for facet, names in labels.items() for label in names]
        self.spans: dict[str, slice] = {}
        for facet, names in labels.items():
            start = self.spans[list(self.spans)[-1]].stop if self.spans else 0
            self.spans[facet] = slice(start, start + len(names))
        self.scale = loaded.model.logit_scale.exp().float()
        bias = getattr(loaded.model, "logit_bias", None)
        self.bias = None if bias is None else bias.float()
        self.embeddings_LD = self._label_embeddings()

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """pixels_CHW: the model's own resize, crop, mean and deviation."""
        pixels: torch.Tensor = self.loaded.preprocess(image)
        return pixels

    def caption(self, prepared: list[torch.Tensor]) -> list[Said]:
        """Labels of each picture."""
        pixels_BCHW = torch.stack(prepared).to(self.where.device, self.where.dtype)
        with torch.inference_mode():
            images_BD = _unit(self.loaded.model.encode_image(pixels_BCHW))
            cosines_BL = images_BD @ self.embeddings_LD.T
            probabilities_BL = self._probabilities(cosines_BL)
            if self.options.method == "best":
                return [
                    Said(tags=self._chain(image_D, cosines_L, probabilities_L))
                    for image_D, cosines_L, probabilities_L in zip(
                        images_BD, cosines_BL, probabilities_BL, strict=True
                    )
                ]
            return [Said(tags=self._tags(row)) for row in probabilities_BL]

    def free(self) -> None:
        """Give cached memory back."""
        self.where.free()

    def _probabilities(self, cosines_BL: torch.Tensor) -> torch.Tensor:
        """Of each label within its facet."""
        logits_BL = cosines_BL * self.scale
        if self.bias is not None:
            return torch.sigmoid(logits_BL + self.bias)
        return torch.cat([logits_BL[:, span].softmax(-1) for span in self.spans.values()], dim=1)

    def _tags(self, probabilities_L: torch.Tensor) -> tuple[Tag, ...]:
        floor = self.options.threshold if self.options.method == "tags" else -1.0
        out: list[Tag] = []
        for facet, span in self.spans.items():
            values, indices = probabilities_L[span].topk(min(self.options.top_k, span.stop - span.start))
            for value, index in zip(values.tolist(), indices.tolist(), strict=True):
                if value >= floor:
                    out.append(Tag(self.labels[span.start + index][1], round(value, 4), facet))
        return tuple(out)

    def _chain(
        self, image_D: torch.Tensor, cosines_L: torch.Tensor, probabilities_L: torch.Tensor
    ) -> tuple[Tag, ...]:
        """Labels that make the sentence most like the picture, each the best to add; ends when none helps."""
        candidates = cosines_L.topk(min(self.options.preselect, len(self.labels))).indices.tolist()
        chain: list[int] = []
        best = -1.0
        while candidates and len(chain) < self.options.phrases:
            words = [self.labels[i][1] for i in chain]
            texts = [", ".join([*words, self.labels[i][1]]) for i in candidates]
            scores = self._embed(texts) @ image_D
            top = int(scores.argmax())
            if float(scores[top]) <= best:
                break
            best = float(scores[top])
            chain.append(candidates.pop(top))
        return tuple(
            Tag(self.labels[i][1], round(float(probabilities_L[i]), 4), self.labels[i][0]) for i in chain
        )

    def _embed(self, texts: Sequence[str]) -> torch.Tensor:
        """text_embeds_LD, each of length 1, fp32."""
        parts = []
        for start in range(0, len(texts), _TEXTS):
            ids = self.loaded.tokenize(list(texts[start : start + _TEXTS])).to(self.where.device)
            parts.append(_unit(self.loaded.model.encode_text(ids)))
        return torch.cat(parts)

    def _label_embeddings(self) -> torch.Tensor:
        """Embeddings of all labels, from the cache when labels and model are the same."""
        from safetensors.torch import load_file

        sentences = [
            self.options.wording.replace("{}", label)
            if facet == "subject" and "{}" in self.options.wording
            else label
            for facet, label in self.labels
        ]
        path = cache_dir() / "labels" / f"{self._key(sentences)}.safetensors"
        if path.is_file():
            try:
                kept: torch.Tensor = load_file(str(path))["embeddings"]
                if kept.shape[0] == len(sentences) and bool(torch.isfinite(kept).all()):
                    return kept.to(self.where.device)
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                _log.info("embeddings of labels are made again: %s", error)
            except Exception as error:  # safetensors has an error of its own
                _log.info("embeddings of labels are made again: %s", error)
        with torch.inference_mode():
            made = self._embed(sentences)
        _keep(path, made)
        return made

    def _key(self, sentences: Sequence[str]) -> str:
        """Name of these labels with this model: all that the embeddings are computed from, by content.

        The side that reads text is hashed as it was loaded, so nothing about a file (its name, size or
        times, which a copy may share with other weights) has to be believed.
        """
        digest = hashlib.sha256()
        for part in (self.loaded.recipe, str(self.where.dtype), str(len(sentences))):
            digest.update(part.encode("utf-8", "backslashreplace") + b"\0")
        for start in range(0, len(sentences), _TEXTS):  # as the model reads them: wording and tokenizer
            ids = self.loaded.tokenize(list(sentences[start : start + _TEXTS]))
            digest.update(str(tuple(ids.shape)).encode() + ids.contiguous().numpy().tobytes())
        for name, tensor in self.loaded.model.state_dict().items():
            if not name.startswith("visual."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
                flat = tensor.detach().cpu().contiguous().reshape(-1)
                digest.update(memoryview(flat.view(torch.uint8).numpy()))
        return digest.hexdigest()[:32]


def _unit(features: torch.Tensor) -> torch.Tensor:
    features = features.float()
    return features / features.norm(dim=-1, keepdim=True).clamp_min(1e-12)


def _keep(path: Path, embeddings: torch.Tensor) -> None:
    """Write the cache; a disk that refuses costs only time."""
    from safetensors.torch import save

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, save({"embeddings": embeddings.cpu().contiguous()}))
    except OSError as error:
        _log.info("embeddings of labels are not kept: %s", error)


def load(options: ClipOptions, source: Source) -> Clip:
    """Load CLIP and embed the labels.

    Raises:
        BaseModelError: the weights are missing, damaged or of another architecture.
        ConfigError: a facet that is not there, or lists without labels.
    """
    own = source.folder / "labels" if source.folder is not None else None
    lists = read_labels(options.facets, own)
    labels: dict[str, Any] = {facet: names for facet, names in lists.items() if names}
    if not labels:
        raise ConfigError("There are no labels.", "Put labels into the lists, one a line.")
    where = place(options)
    return Clip(load_open_clip(source, options.architecture, where), labels, options, where)
