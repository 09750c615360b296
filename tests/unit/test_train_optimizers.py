"""Optimizers: each moves, each resumes exactly from any step, each is refused where it cannot work."""

from __future__ import annotations

import copy
import importlib.util
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from loratui.config.checks import check
from loratui.config.schema import OptimizerConfig, RunConfig
from loratui.errors import ConfigError, RunError
from loratui.optim import OPTIMIZERS, optimizer_settings
from loratui.optim.options import parse
from loratui.train.checkpoint import Checkpoints, Snapshot, _flatten_optimizer, load, restore_optimizer
from loratui.train.schedule import lr_factor

ON_CPU = [s for s in OPTIMIZERS if not s.cuda]


def settings(name: str, **changes) -> OptimizerConfig:
    spec = next(s for s in OPTIMIZERS if s.name == name)
    options = ("min_8bit_size=0",) if "8bit" in name else ()
    given = {
        "name": name, "lr": 1.0 if spec.adaptive else 1e-3, "options": options,
        "other": "Adan" if name == "other" else "",
    }  # fmt: skip
    return OptimizerConfig(**(given | changes))


def problem(config: OptimizerConfig):
    """Two matrices, a kernel and a vector in two groups, drawn from a seed; and the optimizer over them."""
    random = torch.Generator().manual_seed(3)
    shapes = [(8, 24), (24, 8), (8, 6, 3, 3), (24,)]
    parameters = [torch.nn.Parameter(torch.randn(s, generator=random)) for s in shapes]
    groups = [
        {"name": "unet", "lr": config.lr, "params": parameters[:2]},
        {"name": "te", "lr": config.lr, "params": parameters[2:]},
    ]
    optimizer = optimizer_settings(config).build(groups)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    if hasattr(optimizer, "train") and "schedule" in type(optimizer).__name__.lower():
        optimizer.train()
    return parameters, optimizer


def one_step(config: OptimizerConfig, parameters, optimizer, step: int) -> None:
    random = torch.Generator().manual_seed(1000 + step)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] * lr_factor(config, step, 60)
    for p in parameters:
        p.grad = p.detach() * 0.1 + torch.randn(p.shape, generator=random) * 0.1
    optimizer.step()


@pytest.mark.parametrize("name", [s.name for s in ON_CPU])
def test_resume_from_any_of_60_steps_is_exact(name: str, tmp_path: Path) -> None:
    """From each step, one step on ends in the same bytes of weights and state: so all later ones do."""
    config = settings(name, schedule="constant" if name == "schedule_free" else "cosine", warmup_steps=4)
    parameters, optimizer = problem(config)
    begun = [p.detach().clone() for p in parameters]
    kept = []
    for step in range(60):
        one_step(config, parameters, optimizer, step)
        kept.append((copy.deepcopy(optimizer.state_dict()), [p.detach().clone() for p in parameters]))
    assert all(not torch.equal(a, b) for a, b in zip(begun, parameters, strict=True))
    checkpoints = Checkpoints(tmp_path, 100)
    for step in range(1, 60):
        state, weights = kept[step - 1]
        saved = checkpoints.save(Snapshot(step=step, lora={"w": weights[0]}, optimizer=state))
        again, fresh = problem(config)
        with torch.no_grad():
            for p, w in zip(again, weights, strict=True):
                p.copy_(w)
        restore_optimizer(fresh, load(saved.path).optimizer)
        one_step(config, again, fresh, step)
        for mine, theirs in zip(again, kept[step][1], strict=True):
            assert torch.equal(mine, theirs), f"{name} after step {step + 1}"
        same_state(fresh.state_dict(), kept[step][0])


def same_state(one: dict, two: dict) -> None:
    (tensors, plain), (others, other_plain) = _flatten_optimizer(one), _flatten_optimizer(two)
    assert tensors.keys() == others.keys()
    for key, value in tensors.items():
        assert value.dtype == others[key].dtype and torch.equal(value, others[key]), key
    mine, theirs = plain[0], other_plain[0]
    assert repr(mine["groups"]) == repr(theirs["groups"])  # repr: a NaN is equal to none
    assert repr(sorted(mine["plain"].items())) == repr(sorted(theirs["plain"].items()))


@pytest.mark.parametrize("name", ["adamw8bit", "lion8bit"])
def test_8_bit_states_are_8_bit(name: str) -> None:
    config = settings(name)
    parameters, optimizer = problem(config)
    one_step(config, parameters, optimizer, 0)
    assert optimizer.state[parameters[0]]["state1"].dtype == torch.uint8


def test_muon_takes_matrices_and_adamw_the_rest() -> None:
    config = settings("muon")
    parameters, optimizer = problem(config)
    before = parameters[0].detach().clone()
    one_step(config, parameters, optimizer, 9)
    names = [g["name"] for g in optimizer.param_groups]
    assert names == ["unet", "te", "te vectors"]
    assert "momentum_buffer" in optimizer.state[parameters[2]] and "exp_avg" in optimizer.state[parameters[3]]
    # an orthogonal update: all singular values of the step nearly alike
    spread = torch.linalg.svdvals(parameters[0].detach() - before * (1 - config.lr * config.weight_decay))
    assert float(spread.min() / spread.max()) > 0.5


def test_a_missing_part_of_the_state_is_an_error() -> None:
    config = settings("prodigy")
    parameters, optimizer = problem(config)
    one_step(config, parameters, optimizer, 0)
    state = optimizer.state_dict()
    del state["param_groups"][0]["d"]
    with pytest.raises(RunError, match="d is missing"):
        restore_optimizer(problem(config)[1], state)
    with pytest.raises(RunError, match="does not fit"):
        restore_optimizer(problem(settings("muon"))[1], optimizer.state_dict())


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a=1", 1),
        ("b=(0.9, 0.99)", (0.9, 0.99)),
        ("c=true", True),
        ("d=None", None),
        ("e='x'", "x"),
        (" f = 1e-3 ", 1e-3),
    ],
)
def test_options_are_literals(text: str, value: object) -> None:
    assert list(parse([text]).values()) == [value]


@pytest.mark.parametrize("text", ["", "a", "=1", "a b=1", "a=__import__('os')", "a=b", "a=[x for x in y]"])
def test_what_is_no_literal_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"key=value|is no number"):
        parse([text])


def test_unknown_classes_and_options_are_refused_with_advice() -> None:
    with pytest.raises(ConfigError) as caught:
        problem(settings("other", other="adann"))
    assert "adan" in caught.value.advice
    with pytest.raises(ConfigError, match="backward"):
        problem(settings("other", other="SophiaH"))
    with pytest.raises(ConfigError, match="nonsense"):
        problem(settings("adamw", options=("nonsense=1",)))


def codes(**changes) -> set[str]:
    config = RunConfig()
    for dotted, value in changes.items():
        section, _, key = dotted.partition("__")
        config = replace(config, **{section: replace(getattr(config, section), **{key: value})})
    return {p.code for p in check(config)}


def test_rules_across_settings() -> None:
    assert not codes() & {"lr-low", "one-rate", "no-schedule", "bad-option", "other-optimizer", "no-cycles"}
    assert "lr-low" in codes(optimizer__name="prodigy")
    assert "lr-low" not in codes(optimizer__name="prodigy", optimizer__lr=1.0)
    assert "one-rate" in codes(optimizer__name="prodigy", optimizer__lr=1.0, network__text_encoder=True)
    assert "one-rate" not in codes(
        optimizer__name="prodigy", optimizer__lr=1.0, network__text_encoder=True, network__text_lr=1.0
    )
    assert "no-schedule" in codes(optimizer__name="schedule_free", optimizer__schedule="cosine")
    assert "bad-option" in codes(optimizer__options=("x",))
    assert "other-optimizer" in codes(optimizer__name="other") & codes(optimizer__other="Adan")
    assert "needs-cuda" in codes(optimizer__name="paged_adamw8bit", memory__device="cpu")
    assert "no-cycles" in codes(optimizer__cycles=2) and "no-cycles" not in codes(
        optimizer__cycles=2, optimizer__schedule="cosine"
    )


def test_rows_name_packages_that_exist_and_classes_that_load() -> None:
    for spec in OPTIMIZERS:
        assert not spec.module or importlib.util.find_spec(spec.module), spec.name
        assert optimizer_settings(OptimizerConfig(name=spec.name, other="Adan")), spec.name


def curve(schedule: str, **changes) -> list[float]:
    config = OptimizerConfig(schedule=schedule, **changes)
    return [lr_factor(config, step, 100) for step in range(101)]


def test_schedules_are_their_formulas() -> None:
    assert curve("constant") == [1.0] * 101
    for step, share in ((0, 0.0), (25, 0.25), (50, 0.5), (99, 0.99)):
        assert curve("linear")[step] == pytest.approx(1 - share)
        assert curve("cosine")[step] == pytest.approx((1 + math.cos(math.pi * share)) / 2)
        assert curve("polynomial", power=3)[step] == pytest.approx((1 - share) ** 3)
        assert curve("rex")[step] == pytest.approx((1 - share) / (0.5 + 0.5 * (1 - share)))
    wsd = curve("wsd", decay_share=0.2)
    assert (
        wsd[:80] == [1.0] * 80
        and wsd[80] == pytest.approx(1.0)
        and wsd[90] == pytest.approx(0.5)
        and wsd[99] == pytest.approx(0.05)
    )
    restarts = curve("cosine", cycles=4)
    assert restarts[0] == restarts[25] == restarts[50] == 1.0 and restarts[100] == 0.0
    assert restarts[24] == pytest.approx((1 + math.cos(math.pi * 0.96)) / 2)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "polynomial", "rex", "wsd"])
def test_warm_up_and_floor_hold_for_every_schedule(schedule: str) -> None:
    warm = curve(schedule, warmup_steps=10, lr_floor=0.1)
    assert warm[:10] == [pytest.approx((n + 1) / 11) for n in range(10)]
    assert warm[10] == 1.0 and min(warm[10:]) >= 0.1
    assert schedule == "constant" or warm[100] == pytest.approx(0.1)


def test_a_missing_package_is_said_before_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from loratui.errors import MissingPackageError
    from loratui.project import start
    from loratui.runs import launch

    real = importlib.util.find_spec
    monkeypatch.delenv("LORATUI_PYTHON", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "pytorch_optimizer" else real(n))
    config = RunConfig(optimizer=settings("lion"))
    (found,) = start._optimizer_package(config)
    assert found.severity == "error" and "pip install pytorch-optimizer" in found.advice
    with pytest.raises(MissingPackageError) as caught:
        launch.job_python("pytorch-optimizer")
    assert "pip install pytorch-optimizer" in caught.value.advice
    assert not start._optimizer_package(RunConfig()) and launch.job_python("bitsandbytes")
