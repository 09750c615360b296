"""Reading and editing the text metadata of .safetensors files; tensors stay as they are, byte by byte."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from loratui.errors import WeightsError
from loratui.weights.header import read_header
from loratui.weights.tensors import Entry, write


def edit_metadata(
    path: Path, target: Path, put: Mapping[str, str], remove: Sequence[str] = (), strip: bool = False,
    thumbnail: Path | None = None,
) -> dict[str, str]:  # fmt: skip
    """Write a file with other metadata; its tensors stay as they are, byte by byte.

    Args:
        path: any .safetensors file.
        target: may be the same.
        put: keys to set.
        remove: keys to take away.
        strip: take all away first, but what says which model a LoRA is for.
        thumbnail: a picture to carry as `modelspec.thumbnail`, shrunk to 256 px.

    Returns:
        The metadata written.

    Raises:
        WeightsError: not readable, or the picture is not.
        SaveError: the target cannot be written.
    """
    header = read_header(path)
    kept = {k: v for k, v in header.metadata.items() if not strip or k in _ESSENTIAL}
    for key in remove:
        kept.pop(key, None)
    kept |= put
    if thumbnail is not None:
        kept["modelspec.thumbnail"] = _data_url(thumbnail)
    hashed = "sshs_model_hash" in kept
    kept.pop("sshs_model_hash", None)
    kept.pop("sshs_legacy_hash", None)
    write(target, {n: Entry.copy(header, n) for n in header.tensors}, kept, hashed=hashed)
    return read_header(target).metadata


_ESSENTIAL = frozenset({
    "ss_base_model_version", "ss_v2", "ss_network_module", "ss_network_dim", "ss_network_alpha",
    "modelspec.architecture", "modelspec.sai_model_spec", "loratui_structure", "sshs_model_hash",
    "sshs_legacy_hash", "format",
})  # fmt: skip
"""What readers need to know which model a file is for; it says nothing of how it was made."""


def _data_url(path: Path) -> str:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as picture:
            small = picture.convert("RGB")
            small.thumbnail((256, 256))
    except (OSError, UnidentifiedImageError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read as a picture: {error}.") from error
    data = io.BytesIO()
    small.save(data, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(data.getvalue()).decode()
