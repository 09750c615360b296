"""From pictures to steps, as the trainer counts them.

    batches per epoch = sum over buckets of ceil(repeated pictures / batch size)
    steps             = ceil(epochs * batches per epoch / accumulation)

The last batch of a bucket is smaller when the pictures do not divide; none is dropped or filled up.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from loratui.config.schema import RunConfig
from loratui.dataset.scan import BucketCount


@dataclass(frozen=True, slots=True)
class BucketPlan:
    """One bucket in an epoch; sizes in px.

    Attributes:
        width: of the bucket.
        height: of the bucket.
        images: different pictures.
        repeated: each counted as often as it repeats.
        batches: forward passes.
        leftover: pictures in the last, smaller batch; 0 when all are full.
    """

    width: int
    height: int
    images: int
    repeated: int
    batches: int
    leftover: int


def bucket_plans(counts: Iterable[BucketCount], batch_size: int, repeats: int) -> tuple[BucketPlan, ...]:
    """Batches and leftovers of each bucket."""
    plans = []
    for count in counts:
        repeated = count.repeated * repeats
        batches = -(-repeated // batch_size)
        plans.append(
            BucketPlan(count.width, count.height, count.images, repeated, batches, repeated % batch_size)
        )
    return tuple(plans)


def steps_of(config: RunConfig, per_epoch: int) -> tuple[int, int]:
    """(steps, epochs) of a run: the given steps and the epochs they touch, or the steps of the given epochs.

    Args:
        config: `optimizer.steps` wins over `optimizer.epochs` unless it is 0.
        per_epoch: batches per epoch.
    """
    if per_epoch == 0:
        return 0, 0
    accumulation = config.optimizer.accumulation
    if config.optimizer.steps:
        steps = config.optimizer.steps
        return steps, -(-steps * accumulation // per_epoch)
    epochs = config.optimizer.epochs
    return -(-epochs * per_epoch // accumulation), epochs


def moments(every: int, steps: int) -> int:
    """How often something happens that is done each `every` steps and at the last; 0 never."""
    return 0 if every <= 0 or steps <= 0 else -(-steps // every)
