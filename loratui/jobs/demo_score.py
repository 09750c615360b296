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
    from loratui.demo import GUIDANCE_SCALE, RESOLUTION_PX, SAMPLING_STEPS, SCORE_SEEDS, score_prompts
    from loratui.demo.scorer import score as judge
    from loratui.train.preview import Request

    journal = training.journal
    prompts = score_prompts()
    total = 2 * len(prompts)
    hits = {"before": 0, "after": 0}
    done = 0
    for when in hits:
        for prompt, background in prompts:
            journal.write("progress", what="scoring", done=done, total=total)
            requests = [
                Request(
                    prompt, "", seed, RESOLUTION_PX, RESOLUTION_PX, SAMPLING_STEPS, GUIDANCE_SCALE, "ddim"
                )
                for seed in SCORE_SEEDS
            ]
            if when == "before":
                with training.adapter.scaled_off():
                    pictures = training.preview.draw(requests)
            else:
                pictures = training.preview.draw(requests)
            hits[when] += sum(judge(pictures, [background] * len(pictures)))
            done += 1
    journal.write("progress", what="scoring", done=total, total=total)
    scores = {when: round(n / (len(prompts) * len(SCORE_SEEDS)), 4) for when, n in hits.items()}
    journal.write("scored", scores=scores)
    return scores


def main(context: Any) -> None:
    """Score the newest checkpoint of a run.

    Args:
        context: of the job shell.
    """
    from loratui.train.assemble import assemble

    score(assemble(context))


if __name__ == "__main__":
    run_job(main)
