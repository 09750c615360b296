"""The header of a .safetensors file, read and checked without loading a tensor.

Layout: 8 bytes little-endian length N, N bytes of JSON, then the tensors' bytes. Offsets in the JSON
count from the end of the header.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from loratui.errors import WeightsError

MAX_HEADER_BYTES = 100 * 1024 * 1024
DTYPE_BITS: dict[str, int] = {
    "F64": 64, "I64": 64, "U64": 64, "C64": 64, "F32": 32, "I32": 32, "U32": 32,
    "F16": 16, "BF16": 16, "I16": 16, "U16": 16,
    "F8_E5M2": 8, "F8_E4M3": 8, "F8_E8M0": 8, "F8_E4M3FNUZ": 8, "F8_E5M2FNUZ": 8, "I8": 8, "U8": 8, "BOOL": 8,
    "F4": 4, "F6_E2M3": 6, "F6_E3M2": 6,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """Where one tensor lies: `start` and `end` are byte offsets in the file."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Header:
    """The checked header of one file."""

    path: Path
    tensors: dict[str, TensorInfo]
    metadata: dict[str, str]
    data_start: int
    size: int

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor, None when it is not in the file."""
        info = self.tensors.get(name)
        return info.shape if info is not None else None


def read_header(path: Path) -> Header:
    """Read and check a header.

    Raises:
        WeightsError: not there, not a safetensors file, truncated, or damaged; the message says which.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(8)
            length = int.from_bytes(head, "little")
            foreign = head[:4] == b"PK\x03\x04"  # a zip, whose first bytes may look like a length
            if foreign or len(head) < 8 or not 2 <= length <= MAX_HEADER_BYTES:
                raise WeightsError(f"{path} is not a .safetensors file.", _format_advice(head))
            raw = file.read(length)
    except FileNotFoundError as error:
        raise WeightsError(f"{path} does not exist.", "Check the path.") from error
    except IsADirectoryError as error:
        raise WeightsError(
            f"{path} is a folder, not a file.", "Name the .safetensors file itself."
        ) from error
    except OSError as error:
        raise WeightsError(
            f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
        ) from error
    if len(raw) < length:
        raise _truncated(path, size, 8 + length)
    try:
        entries = json.loads(raw)
        if not isinstance(entries, dict):
            raise ValueError("the header is not an object")
        metadata = entries.pop("__metadata__", None) or {}
        tensors = {name: _tensor(name, entry, 8 + length) for name, entry in entries.items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path} has a damaged header: {str(error)[:120] or type(error).__name__}.",
            "Copy or download it again.",
        ) from error
    end = max((info.end for info in tensors.values()), default=8 + length)
    if end > size:
        raise _truncated(path, size, end)
    return Header(path, tensors, {str(k): str(v) for k, v in metadata.items()}, 8 + length, size)


def _tensor(name: str, entry: dict[str, object], base: int) -> TensorInfo:
    shape = tuple(int(n) for n in entry["shape"])  # type: ignore[attr-defined]
    start, end = (int(n) for n in entry["data_offsets"])  # type: ignore[attr-defined]
    dtype = str(entry["dtype"])
    if min((*shape, start), default=0) < 0 or end < start:
        raise ValueError(f"impossible offsets or shape of {name}")
    count = 1
    for n in shape:
        count *= n
    if dtype not in DTYPE_BITS:
        raise ValueError(f"unknown dtype {dtype} of {name}")
    if (count * DTYPE_BITS[dtype] + 7) // 8 != end - start:
        raise ValueError(f"size of {name} does not fit its shape")
    return TensorInfo(dtype, shape, base + start, base + end)


def _truncated(path: Path, size: int, wanted: int) -> WeightsError:
    return WeightsError(
        f"{path} is truncated: {size:,} bytes of at least {wanted:,}.",
        "Copy or download it again; the transfer broke off.",
    )


def _format_advice(head: bytes) -> str:
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return (
            "It looks like a pickled checkpoint, which can run code when opened: `loratui convert FILE`"
            " writes it as .safetensors without running it."
        )
    if head.startswith(b"version "):
        return "It looks like a Git LFS pointer: fetch the real file with `git lfs pull`."
    if head.startswith((b"<!DOC", b"<html")):
        return "It looks like a web page: the download was answered with a page instead of the file."
    return "Use a .safetensors file."


def encode(tensors: dict[str, tuple[str, tuple[int, ...], bytes]], metadata: dict[str, str]) -> bytes:
    """The bytes of a .safetensors file.

    Args:
        tensors: name -> (dtype as in the header, shape, little-endian data).
        metadata: text metadata, left out when empty.
    """
    order = sorted(
        tensors, key=lambda n: (-DTYPE_BITS[tensors[n][0]], n)
    )  # wide ones first: all stay aligned
    entries: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    offset = 0
    for name in order:
        dtype, shape, data = tensors[name]
        entries[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    raw = json.dumps(entries, ensure_ascii=False, separators=(",", ":")).encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join([len(raw).to_bytes(8, "little"), raw, *(tensors[name][2] for name in order)])


def fingerprint(path: Path, samples: int = 64, block: int = 1 << 16) -> str:
    """A content hash that costs milliseconds: the header and evenly spaced blocks of the tensors' bytes.

    Good enough to tell checkpoints apart (another fine-tune differs nearly everywhere), which is all the
    caches need; it does not depend on name or modification time, so copies share their caches.
    """
    digest = hashlib.sha256()
    size = path.stat().st_size
    digest.update(size.to_bytes(8, "little"))
    with path.open("rb") as file:
        head = file.read(8)
        digest.update(head)
        digest.update(file.read(min(int.from_bytes(head, "little"), 1 << 24)))
        start = file.tell()
        if size - start <= samples * block:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
        else:
            for i in range(samples):
                file.seek(start + (size - start - block) * i // (samples - 1))
                digest.update(file.read(block))
    return digest.hexdigest()
