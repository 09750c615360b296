"""Pictures of the class in general, drawn by the base before the training (DreamBooth's prior preservation).

The manifest names them with the seed of each. What lies in their folder already is kept, so that an
interrupted run goes on where it was and the next run of the same settings draws nothing. When all are there,
their hashes go into the manifest, and from then on they are pictures like any others.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from loratui.config.schema import RunConfig
from loratui.errors import JobError
from loratui.families.emphasis import plain, read
from loratui.families.protocol import Family, Parts
from loratui.train.adapter import Adapter
from loratui.train.cache import Cache, Progress
from loratui.train.checkpoint import write_atomic
from loratui.train.device import Placement
from loratui.train.preview import Preview, Request, write_picture
from loratui.train.ranks import Ranks
from loratui.train.samples import Picture, read_manifest

_WHAT = "drawing class pictures"


def undrawn(pictures: Sequence[Picture]) -> list[Picture]:
    """Pictures of a manifest that the base is to draw, each once."""
    return list({p.path: p for p in pictures if p.seed is not None}.values())


def draw(
    manifest: Path, config: RunConfig, family: Family, parts: Parts, adapter: Adapter, cache: Cache,
    placement: Placement, progress: Progress, ranks: Ranks,
) -> list[Picture]:  # fmt: skip
    """Draw what is missing with the bare base, complete the manifest, and read it again.

    Args:
        manifest: of the run; its pictures say what to draw.
        config: prompt and sampler.
        family, parts, adapter, cache, placement: of the run, on the device; the adapter is switched off.
        progress: told how far it is.
        ranks: the processes that share the work.

    Raises:
        JobError: a picture came out black.
        SaveError: one could not be written.
    """
    wanted = ranks.mine(undrawn(read_manifest(manifest)))
    todo = [picture for picture in wanted if not picture.path.exists()]
    negative, prompt = config.samples.negative, config.data.reg_prompt
    if todo and not adapter.trains_text:
        texts = [read(text) if config.samples.weights else text for text in (negative, prompt)]
        cache.fill([], texts, False, progress)
    preview = Preview(family, parts, adapter, cache, placement, config.samples.weights)
    with adapter.scaled_off():
        for done, picture in enumerate(todo):
            progress(_WHAT, done, len(todo))
            _one(preview, picture, config)
        progress(_WHAT, len(todo), len(todo))
    ranks.barrier()
    ranks.once(lambda: _complete(manifest))
    return read_manifest(manifest)


def _one(preview: Preview, picture: Picture, config: RunConfig) -> None:
    samples, (width, height) = config.samples, picture.size
    assert picture.seed is not None
    request = Request(
        config.data.reg_prompt, samples.negative, picture.seed, width, height, samples.steps,
        samples.guidance, samples.sampler,
    )  # fmt: skip
    image = preview.draw([request])[0]
    if image.getbbox() is None:
        raise JobError(
            f"The base drew a black picture for {config.data.reg_prompt!r}.",
            "Its VAE may fail: name a working one with model.vae; or set data.reg_generate to 0.",
        )
    picture.path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(picture.path.with_suffix(".txt"), (plain(config.data.reg_prompt) + "\n").encode())
    write_picture(picture.path, image, request, {"class": True, "base": preview.parts.base_hash})


def _complete(manifest: Path) -> None:
    """Put the hashes of drawn pictures in the place of their seeds."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in manifest.read_text("ascii").splitlines()]
    for row in rows:
        if row.pop("seed", None) is not None:
            row["hash"] = hashlib.sha256(Path(row["path"]).read_bytes()).hexdigest()
    text = "".join(json.dumps(row, separators=(",", ":")) + "\n" for row in rows)
    write_atomic(manifest, text.encode("ascii"))
