"""`python -m loratui.jobs.estimate RUN WIDTH HEIGHT`: the memory of a training, from fake tensors.

Started by `loratui.project.estimating`; the answer is one JSON object on stdout.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict

from loratui.runs.directory import RunDir


def main() -> None:
    """Estimate, and say what came of it on stdout."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no answer
    sys.stdout = sys.stderr
    from loratui.config.load import load_run
    from loratui.errors import LoratuiError
    from loratui.train.imagined import imagine

    try:
        info, config = load_run(RunDir(sys.argv[1]).config_path)
        answer = {"answer": asdict(imagine(info, config, (int(sys.argv[2]), int(sys.argv[3]))))}
    except LoratuiError as error:
        answer = {"error": error.message, "advice": error.advice}  # type: ignore[dict-item]
    except Exception as error:
        import traceback

        traceback.print_exc()
        first = next(iter(str(error).strip().splitlines()), "")
        answer = {"error": f"{type(error).__name__}: {first}"[:300]}  # type: ignore[dict-item]
    out.write(json.dumps(answer) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
