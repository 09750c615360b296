"""`python -m loratui.jobs.unpickle SOURCE TARGET DTYPE`: a pickled checkpoint to .safetensors.

A process of its own, with a limit on its memory. Writes one JSON object, {"tensors": n} or
{"error": message, "advice": text}. Imports no torch.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path


def main() -> int:
    """Convert; exit 0, or 1 with the error printed."""
    from loratui.errors import LoratuiError
    from loratui.weights.tensors import NAMES, Entry, decode, encode_array, write

    source, target, dtype = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    limit_memory(source)
    try:
        from loratui.weights.pickled import Pickled, read_pickled

        floats = {"F16", "BF16", "F32", "F64"}

        def entry(tensor: Pickled) -> Entry:
            if tensor.dtype not in floats or (not dtype and tensor.dtype != "F64"):
                return Entry(tensor.dtype, tensor.shape, lambda: tensor.data)
            kind = dtype or "fp32"
            values = decode(tensor.data, tensor.dtype, tensor.shape)
            return Entry(NAMES[kind], tensor.shape, lambda: encode_array(values, kind))

        entries = {name: entry(tensor) for name, tensor in read_pickled(source)}
        write(target, entries, {"format": "pt"}, hashed=False)
    except LoratuiError as error:
        tell({"error": error.message, "advice": error.advice})
        return 1
    except MemoryError:
        tell({"error": f"{source} does not fit in memory.", "advice": "It is larger than it says."})
        return 1
    tell({"tensors": len(entries)})
    return 0


def tell(answer: dict[str, object]) -> None:
    """Write the answer to stdout."""
    sys.stdout.write(json.dumps(answer))


def limit_memory(source: Path) -> None:
    """Allow four times the file and 2 GiB: what a checkpoint that is one can need."""
    most = 4 * source.stat().st_size + (2 << 30)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


if __name__ == "__main__":
    sys.exit(main())
