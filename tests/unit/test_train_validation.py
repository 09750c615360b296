"""Validation: who is held back, and that its loss depends on the weights alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import train_kit as kit

from loratui.dataset.buckets import place
from loratui.train.samples import Picture
from loratui.train.validation import split


def pictures(count: int) -> list[Picture]:
    bucket = place(64, 64, (64, 64))
    return [Picture(Path(f"{n}.png"), f"{n}.png", f"{n:064d}", "c", 1, bucket) for n in range(count)]


@pytest.mark.parametrize(
    ("count", "share", "held"), [(20, 0.0, 0), (20, 0.1, 2), (20, 0.01, 1), (1, 0.5, 0), (2, 0.9, 1)]
)
def test_a_share_is_held_back(count: int, share: float, held: int) -> None:
    trained, kept = split(pictures(count), share, 1)
    hashes = sorted(p.hash for p in [*trained, *kept])
    assert len(kept) == held and hashes == [p.hash for p in pictures(count)]
    assert split(pictures(count), share, 1) == (trained, kept)


def test_the_choice_is_the_seeds_and_more_pictures_change_little() -> None:
    one, two = split(pictures(20), 0.2, 1)[1], split(pictures(20), 0.2, 2)[1]
    assert one != two
    more = split(pictures(21), 0.2, 1)[1]
    assert len({p.hash for p in one} & {p.hash for p in more}) >= 3


def test_the_curve_of_a_run(tmp_path: Path, tiny_sd15: Path) -> None:
    """Held pictures are never trained on; at rate 0 the curve is flat to the last bit, else it is not."""
    curves = {}
    for name, lr in (("still", 1e-30), ("moving", 1e-2)):
        config = kit.tiny_config(
            objective__validation_share=0.3, objective__validation_every=2, optimizer__lr=lr,
            network__dropout=0.2, optimizer__weight_decay=0.0, optimizer__steps=5,
        )  # fmt: skip
        run = kit.make_run(tmp_path, tiny_sd15, config, name)
        seen = set()

        def watch(context, seen=seen):
            from loratui.train import batches

            at = batches.Batches.at

            def spy(self, step, micro):
                batch = at(self, step, micro)
                seen.update(p.rel for p in batch.pictures)
                return batch

            monkey.setattr(batches.Batches, "at", spy)

        with pytest.MonkeyPatch.context() as monkey:
            events = kit.run_job_here(run, tweak=watch)
        found = [e for e in events if e["kind"] == "validation"]
        assert [e["step"] for e in found] == [0, 2, 4, 5]
        assert len(seen) == 3  # of five pictures
        curves[name] = [e["loss"] for e in found]
    assert len(set(curves["still"])) == 1 and len(set(curves["moving"])) == 4
    assert curves["still"][0] == curves["moving"][0]


def test_validation_leaves_the_training_alone(tmp_path: Path, tiny_sd15: Path) -> None:
    def losses(every: int) -> list[float]:
        config = kit.tiny_config(
            objective__validation_share=0.3, objective__validation_every=every, network__dropout=0.2
        )
        run = kit.make_run(tmp_path, tiny_sd15, config, f"every-{every}")
        return [e["loss"] for e in kit.run_job_here(run) if e["kind"] == "step"]

    assert losses(1) == losses(1000)
