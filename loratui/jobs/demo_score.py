"""The demo's before and after: does the picture show the mascot on a background it was never trained on?

Part of the train job when run.toml says `score = "demo"`; alone, `python -m loratui.jobs.demo_score RUN`
scores the newest checkpoint of a run again.
"""

from __future__ import annotations

from typing import Any

from loratui.jobs._main import run_job


def score(training: Any) -> dict[str, float]:
    """Draw 3 backgrounds x 16 seeds with the bare base and with the LoRA, judge them, write `scored`.

    Args:
        training: assembled, with the adapter as it is to be judged.

    Returns:
        Shares of pictures with mascot and background, `before` and `after`.
    """
    from loratui.demo import score_prompts
    from loratui.demo.scorer import score as judge

    journal = training.journal
    prompts = score_prompts()
    total = 2 * len(prompts)
    hits = {"before": 0, "after": 0}
    done = 0
    for when in hits:
        for prompt, background in prompts:
            journal.write("progress", what="scoring", done=done, total=total)
            if when == "before":
                with training.adapter.scaled_off():
                    pictures = draw(training, prompt)
            else:
                pictures = draw(training, prompt)
            hits[when] += sum(judge(pictures, [background] * len(pictures)))
            done += 1
    journal.write("progress", what="scoring", done=total, total=total)
    asked = total // 2 * len(pictures)
    scores = {when: round(n / asked, 4) for when, n in hits.items()}
    journal.write("scored", scores=scores)
    return scores


def draw(training: Any, prompt: str) -> list[Any]:
    """Pictures of one prompt, one for each seed of the score, with the adapter as it is."""
    from loratui.demo import GUIDANCE_SCALE, RESOLUTION_PX, SAMPLING_STEPS, SCORE_SEEDS
    from loratui.train.preview import Request

    side = RESOLUTION_PX
    requests = [
        Request(prompt, "", seed, side, side, SAMPLING_STEPS, GUIDANCE_SCALE, "ddim") for seed in SCORE_SEEDS
    ]
    pictures: list[Any] = training.preview.draw(requests)
    return pictures


def main(context: Any) -> None:
    """Score the newest checkpoint of a run.

    Args:
        context: of the job shell.
    """
    from loratui.train.assemble import assemble

    score(assemble(context))


if __name__ == "__main__":
    run_job(main)
