"""Write the tables of `loratui verify` from the module lists of the reference trainer.

    python tools/build_key_tables.py tests/data/golden loratui/weights/tables

A row is: kohya name, input side of lora_down (with its kernel), output side of lora_up.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path


def main() -> None:
    """Write one table a family."""
    golden, tables = Path(sys.argv[1]), Path(sys.argv[2])
    tables.mkdir(parents=True, exist_ok=True)
    # SD2's residual blocks are SD1's, so the convolutions' rows serve both.
    for family, sources in {
        "sd15": ("sd15", "sd15_conv"),
        "sd2": ("sd2", "sd15_conv"),
        "sdxl": ("sdxl", "sdxl_conv"),
    }.items():
        rows: dict[str, str] = {}
        for source in sources:
            for line in (golden / f"{source}.tsv").read_text(encoding="utf-8").splitlines():
                name, down, up = line.split("\t")
                if source.removesuffix("_conv") != family and not re.search("resnets|samplers", name):
                    continue
                row = f"{name}\t{down.split('x', 1)[1]}\t{up.split('x')[0]}"
                assert rows.setdefault(name, row) == row, (name, "differs between sources")
        (tables / f"{family}.tsv").write_text(
            "\n".join(rows[n] for n in sorted(rows)) + "\n", encoding="utf-8"
        )


if __name__ == "__main__":
    main()
