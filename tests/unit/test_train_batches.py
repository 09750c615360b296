"""Order and draws are functions of the seed alone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loratui.dataset.buckets import place
from loratui.train.batches import Batches, Draws
from loratui.train.samples import Picture


class FakeCache:
    """Latents that tell which picture and mirroring they are of."""

    def latents(self, picture: Picture, flip: bool = False):
        width, height = picture.bucket.size
        mean = torch.full((4, height // 8, width // 8), float(picture.hash) + (0.5 if flip else 0.0))
        return mean, torch.zeros_like(mean)

    def mask(self, picture: Picture, flip: bool, size: tuple[int, int]):
        return torch.full(size, float(picture.hash))

    def condition(self, caption: str, keep: bool = True):
        return {"prompt_embeds": torch.tensor([[float(len(caption))]])}


def pictures() -> list[Picture]:
    sizes = [(64, 64)] * 5 + [(96, 64)] * 4
    return [
        Picture(Path(f"{n}.png"), f"{n}.png", str(n), "x" * (n + 1), 1 + n % 2, place(*size, size))
        for n, size in enumerate(sizes)
    ]


def batches(**changes) -> Batches:
    settings = {
        "seed": 7, "batch_size": 2, "accumulation": 1, "repeats": 1, "flip": False, "caption_dropout": 0.0,
        "timesteps": 1000, "device": torch.device("cpu"),
    }  # fmt: skip
    return Batches(pictures(), FakeCache(), **(settings | changes))


def test_an_epoch_holds_every_picture_as_often_as_it_repeats() -> None:
    stream = batches(repeats=3)
    for epoch in range(2):
        seen = Counter(n for batch in stream.order(epoch) for n in batch)
        assert seen == {n: 3 * (1 + n % 2) for n in range(9)}
        assert len(stream.order(epoch)) == stream.per_epoch
    assert batches(repeats=3).order(0) != batches(repeats=3).order(1)


def test_a_batch_is_of_one_bucket() -> None:
    stream = batches()
    for batch in stream.order(0):
        assert len({stream.pictures[n].bucket.size for n in batch}) == 1


def test_any_step_can_be_asked_for_in_any_order() -> None:
    forwards, backwards = batches(flip=True, caption_dropout=0.3), batches(flip=True, caption_dropout=0.3)
    one = [forwards.at(step, 0) for step in range(20)]
    two = [backwards.at(step, 0) for step in reversed(range(20))][::-1]
    for a, b in zip(one, two, strict=True):
        assert a.pictures == b.pictures and a.epoch == b.epoch
        assert torch.equal(a.x0_BCHW, b.x0_BCHW) and torch.equal(a.eps_BCHW, b.eps_BCHW)
        assert torch.equal(a.t_B, b.t_B) and torch.equal(a.offset_BC, b.offset_BC)
        assert torch.equal(a.condition["prompt_embeds"], b.condition["prompt_embeds"])


def test_turning_an_option_on_leaves_the_noise_alone() -> None:
    plain, busy = batches().at(5, 0), batches(flip=True, caption_dropout=0.9).at(5, 0)
    assert torch.equal(plain.eps_BCHW, busy.eps_BCHW)
    assert torch.equal(plain.t_B, busy.t_B)


def test_accumulation_splits_a_step_without_changing_its_draws() -> None:
    whole, parts = batches(batch_size=4), batches(batch_size=2, accumulation=2)
    times = dict(enumerate(whole.at(0, 0).t_B.tolist()))
    split = {2 * micro + n: t for micro in range(2) for n, t in enumerate(parts.at(0, micro).t_B.tolist())}
    common = times.keys() & split.keys()
    assert len(common) >= 2
    assert {k: times[k] for k in common} == {k: split[k] for k in common}


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_caption_dropout_share(share: float) -> None:
    stream = batches(caption_dropout=share)
    lengths = [
        v for step in range(300) for v in stream.at(step, 0).condition["prompt_embeds"].flatten().tolist()
    ]
    assert lengths.count(0.0) / len(lengths) == pytest.approx(share, abs=0.05)


def test_flip_share_and_timestep_range() -> None:
    stream = batches(flip=True)
    drawn = [stream.at(step, 0) for step in range(300)]
    flips = [float(x.flatten()[0]) % 1 == 0.5 for b in drawn for x in b.x0_BCHW]
    assert sum(flips) / len(flips) == pytest.approx(0.5, abs=0.07)
    times = torch.cat([b.t_B for b in drawn])
    assert 0 <= int(times.min()) < 20 and 980 < int(times.max()) <= 999


def test_noise_is_normal_and_fresh_each_step() -> None:
    stream = batches()
    noise = torch.cat([stream.at(step, 0).eps_BCHW.flatten() for step in range(50)])
    assert abs(float(noise.mean())) < 0.02 and float(noise.std()) == pytest.approx(1.0, abs=0.02)
    assert not torch.equal(stream.at(0, 0).eps_BCHW[0, 0], stream.at(1, 0).eps_BCHW[0, 0, :8, :8])


@pytest.mark.parametrize(
    ("draws", "same"),
    [
        (Draws(low=200, high=400), {"eps_BCHW", "x0_BCHW", "offset_BC"}),
        (Draws(bias="content"), {"eps_BCHW", "x0_BCHW", "offset_BC"}),
        (Draws(multires_iterations=6), {"x0_BCHW", "t_B", "offset_BC"}),
        (Draws(perturbation=0.1), {"eps_BCHW", "x0_BCHW", "t_B", "offset_BC"}),
        (Draws(masked=True), {"eps_BCHW", "x0_BCHW", "t_B", "offset_BC"}),
    ],
)
def test_each_option_draws_by_itself_and_the_same_again(draws: Draws, same: set[str]) -> None:
    plain, one, two = batches().at(5, 0), batches(draws=draws).at(5, 0), batches(draws=draws).at(5, 0)
    for name in ("eps_BCHW", "x0_BCHW", "t_B", "offset_BC"):
        assert torch.equal(getattr(one, name), getattr(two, name))
        assert torch.equal(getattr(one, name), getattr(plain, name)) == (name in same), name
    assert (one.seen_BCHW is not None) == (draws.perturbation > 0)
    assert (one.mask_BHW is not None) == draws.masked


def test_timestep_ranges_and_biases() -> None:
    def times(draws: Draws) -> torch.Tensor:
        stream = batches(draws=draws)
        return torch.cat([stream.at(step, 0).t_B for step in range(300)])

    ranged = times(Draws(low=200, high=400))
    assert int(ranged.min()) in range(200, 210) and int(ranged.max()) in range(390, 400)
    content, style = times(Draws(bias="content")).double(), times(Draws(bias="style")).double()
    assert float(content.mean()) == pytest.approx(750, abs=40)  # 1 - E[u^3] = 3/4
    assert float(style.mean()) == pytest.approx(250, abs=40)


def test_multires_noise_keeps_its_deviation_and_has_more_of_the_coarse() -> None:
    def draw(draws: Draws) -> torch.Tensor:
        stream = batches(draws=draws)
        return torch.cat([stream.at(s, 0).eps_BCHW[:, :, :8, :8] for s in range(60)])

    plain, multi = draw(Draws()), draw(Draws(multires_iterations=6, multires_discount=0.5))
    assert float(multi.std()) == pytest.approx(1.0, abs=0.03)
    coarse = [torch.nn.functional.avg_pool2d(x, 4).var().item() for x in (plain, multi)]
    assert coarse[1] > 2 * coarse[0]


def test_weights_of_pictures_reach_the_batch() -> None:
    assert batches().at(0, 0).weight_B is None
    weighted = [replace(p, weight=0.5 + n) for n, p in enumerate(pictures())]
    stream = Batches(
        weighted, FakeCache(), seed=7, batch_size=2, accumulation=1, repeats=1, flip=False,
        caption_dropout=0.0, timesteps=1000, device=torch.device("cpu"),
    )  # fmt: skip
    for step in range(4):
        batch = stream.at(step, 0)
        assert batch.weight_B.tolist() == [p.weight for p in batch.pictures]
