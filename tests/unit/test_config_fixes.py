"""Every repair that a rule proposes repairs; rules about base and pictures see what they must."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from app_kit import project as make_project
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratui.cli import main
from loratui.config.checks import check, check_device
from loratui.config.docs import FieldInfo, field_table
from loratui.config.load import Setting, assemble, build, collect, mended, settings_of
from loratui.config.schema import POSITIVE, RunConfig
from loratui.config.toml import read_toml
from loratui.errors import ConfigError, Problem
from loratui.families.detect import Detected
from loratui.plan.family_checks import check_family
from loratui.project import Project
from loratui.project.start import assess


def _values(info: FieldInfo) -> st.SearchStrategy[Any]:
    if info.kind == "bool":
        return st.booleans()
    if info.kind == "choice":
        return st.sampled_from(info.choices)
    if info.kind == "int":
        return st.integers(int(info.minimum or 0), int(min(info.maximum or 4000, 4000)))
    if info.kind == "float":
        low = 1e-9 if info.path in POSITIVE else float(info.minimum or 0)
        high = float(min(info.maximum or 50.0, 50.0))
        return st.sampled_from([low, high, min(high, 1.0), min(high, 0.3)])
    if info.path == "memory.device":
        return st.sampled_from(["auto", "cpu", "cuda", "cuda:0", "tpu"])
    return st.just(info.default)


_CALM = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
_ANY = st.fixed_dictionaries({}, optional={path: _values(info) for path, info in field_table().items()})


@_CALM
@given(_ANY)
def test_repairs_repair(values: dict[str, Any]) -> None:
    """Applying what is proposed ends, in allowed values, with nothing proposed any more."""
    for _ in range(8):
        problems = check(assemble(values))
        changes = mended(problems)
        if not changes:
            break
        _, _, refused = collect([Setting(path, value) for path, value in changes.items()])
        assert not refused, refused
        values = {**values, **changes}
    assert not [p for p in check(assemble(values)) if p.fix]
    left = [p for p in check(assemble(values)) if p.severity == "error"]
    assert {p.code for p in left} <= {"bad-option", "bad-pattern"}, left


@_CALM
@given(_ANY, st.booleans())
def test_one_repair_takes_its_own_problem_away(values: dict[str, Any], cuda: bool) -> None:
    """The change of a problem, alone, removes that problem."""
    config = assemble(values)
    for problem in [*check(config), *check_device(config, cuda)]:
        if problem.fix:
            after = assemble({**values, **problem.fix})
            left = {(p.path, p.code, p.message) for p in [*check(after), *check_device(after, cuda)]}
            assert (problem.path, problem.code, problem.message) not in left


@pytest.mark.parametrize(
    ("given_value", "nearest"),
    [
        ({"network.rank": 0}, {"network.rank": 1}),
        ({"network.rank": "99999"}, {"network.rank": 4096}),
        ({"optimizer.lr": -1}, {"optimizer.lr": 1e-4}),
        ({"optimizer.schedule": "cosin"}, {"optimizer.schedule": "cosine"}),
        ({"optimizer.name": "AdamW8bits"}, {"optimizer.name": "adamw8bit"}),
        ({"data.flip": "perhaps"}, {}),
    ],
)
def test_refused_values_name_the_nearest_allowed_one(given_value: dict[str, Any], nearest: Any) -> None:
    """Out of range, or misspelt."""
    with pytest.raises(ConfigError) as caught:
        build(settings_of(given_value))
    (problem,) = [p for p in caught.value.problems if p.code == "bad-value"]
    assert problem.fix == nearest
    assert problem.as_dict().get("fix", {}) == nearest
    json.dumps(problem.as_dict())


def test_of_two_repairs_for_one_setting_the_error_comes_first() -> None:
    """Nothing is set twice."""
    one = Problem("a", "x", "warning", "m", fix={"a": 1, "b": 2})
    other = Problem("a", "y", "error", "m", fix={"a": 3})
    assert mended([one, other]) == {"a": 3}


def _codes(family: str, values: dict[str, Any], name: str = "base.safetensors", **found: Any) -> set[str]:
    detected = Detected(family=family, parameters=860_000_000, prediction="epsilon")
    base = Path(name)
    return {p.code for p in check_family(assemble(values), family, base, replace(detected, **found))}


def test_rules_about_the_base() -> None:
    """Resolution, clip skip and prediction against what was found."""
    assert _codes("sdxl", {"data.resolution": 512}) == {"resolution-off"}
    assert not _codes("sdxl", {"data.resolution": 512}, parameters=1_000_000)
    assert _codes("sdxl", {"data.resolution": 1024, "model.clip_skip": 2}) == {"clip-skip-off"}
    assert not _codes("sd15", {"model.clip_skip": 2})
    assert _codes("sd15", {}, "noobai-vpred.safetensors") == {"v-pred-by-name"}
    assert not _codes("sd15", {"objective.prediction": "v_prediction"}, "noobai-vpred.safetensors")
    assert _codes("sd15", {"objective.prediction": "v_prediction"}, stated=True) == {"wrong-prediction"}
    assert _codes("sd15", {"objective.zero_terminal_snr": True}) == {"zero-snr-epsilon"}
    assert not _codes("sd15", {"objective.zero_terminal_snr": True}, prediction="v_prediction")


def test_weights_in_prompts_of_flow_models_are_said_to_be_left_out() -> None:
    values = {"data.resolution": 1024, "data.bucket_step": 64, "samples.sampler": "euler"}
    for prompts, found in ((["a (red:1.2) fox"], True), (["a red fox"], False), ([r"a \(red\) fox"], False)):
        codes = _codes("sd3", {**values, "samples.prompts": prompts}, prediction="flow")
        assert ("weights-dropped" in codes) == found, prompts
    off = {**values, "samples.prompts": ["a (red:1.2) fox"], "samples.weights": False}
    assert "weights-dropped" not in _codes("sd3", off, prediction="flow")


def test_schnell_and_a_guidance_that_nobody_is_told(tmp_path: Path) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    plain, told = tmp_path / "flux1-schnell.safetensors", tmp_path / "flux1-dev.safetensors"
    save_file({"img_in.weight": np.zeros((2, 2), np.float32)}, plain)
    save_file({"guidance_in.in_layer.weight": np.zeros((2, 2), np.float32)}, told)
    values = {"data.resolution": 1024, "data.bucket_step": 64, "samples.sampler": "euler",
              "objective.guidance": 3.5}  # fmt: skip
    assert {"distilled", "guidance-not-told"} <= _codes("flux", values, str(plain), prediction="flow")
    assert not {"distilled", "guidance-not-told"} & _codes("flux", values, str(told), prediction="flow")


def _project_codes(root: Path, **overrides: Any) -> dict[str, Problem]:
    found = Project.open(root)
    dotted = {key.replace("__", "."): value for key, value in overrides.items()}
    return {p.code: p for p in assess(found, found.resolve(None, dotted)).problems}


def test_rules_about_the_pictures(tmp_path: Path) -> None:
    """Mirroring with sides in captions, a trigger that is shuffled, a high rank, masks."""
    root = make_project(tmp_path / "p", 6)
    (root / "dataset" / "01.txt").write_text("sks robot, red left arm")
    seen = _project_codes(root, data__flip=True, data__shuffle_captions=True, network__rank=128)
    assert "left" in seen["flip-sides"].message and seen["flip-sides"].fix == {"data.flip": False}
    assert seen["trigger-shuffled"].fix == {"data.keep_tokens": 1}
    assert seen["rank-high"].fix["network.rank"] == 16
    seen = _project_codes(root, data__shuffle_captions=True, data__keep_tokens=1, objective__masked=True)
    assert "no-masks" in seen and "flip-sides" not in seen and "trigger-shuffled" not in seen


def test_new_tokens_that_push_captions_out(tmp_path: Path) -> None:
    """`sks robot` is about two tokens, which the new ones take the place of."""
    root = make_project(tmp_path / "p", 3)
    text = root / "dataset" / "01.txt"
    text.write_text("sks robot, " + "x" * (4 * 60 - 11))  # about 60 tokens
    few = {"network__tokens": 16, "network__token_init": "person"}
    assert "captions-cut" not in _project_codes(root, **few)
    seen = _project_codes(root, **few | {"network__tokens": 18})["captions-cut"]
    assert "about 1 of 3 captions" in seen.message and seen.fix == {"data.max_tokens": "150"}
    many = few | {"network__tokens": 64, "data__max_tokens": "150"}
    assert "captions-cut" not in _project_codes(root, **many)
    text.write_text("sks robot, " + "x" * 4000)
    assert not _project_codes(root, **many)["captions-cut"].fix
    assert "captions-cut" not in _project_codes(root)
    alone = _project_codes(root, **few, network__tokens_only=True, network__rank=128)
    assert "rank-high" not in alone  # there is no rank


def test_plan_fix_prints_what_mends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What it prints, given back as --set, is a plan without those problems."""
    root = make_project(tmp_path / "p", 14)
    bad = ["--set", "data.resolution=70", "--set", "optimizer.schedule=cosin", "--set", "network.rank=9999"]
    assert main(["plan", str(root), *bad, "--fix", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["changes"]["optimizer.schedule"] == "cosine"
    assert answer["changes"]["data.resolution"] == 64
    assert {p["path"] for p in answer["mended"]} >= {"network.rank", "data.resolution", "optimizer.schedule"}
    again = [f"--set={path}={value}" for path, value in answer["changes"].items()]
    assert main(["plan", str(root), *bad, *again]) == 0
    assert main(["plan", str(root), *bad, "--fix"]) == 0
    assert "--set data.resolution=64" in capsys.readouterr().out


_ODD = ["a = " + "9" * 5000, "a = 0b" + "1" * 90000, "a = 1e99999", "[a\n", "a = 1\na = 2"]


@pytest.mark.parametrize("text", _ODD)
def test_odd_toml_is_a_clear_error_or_a_value(tmp_path: Path, text: str) -> None:
    """Numbers of thousands of digits, as Python refuses them."""
    path = tmp_path / "x.toml"
    path.write_text("# head\n" + text)
    try:
        read_toml(path)
    except ConfigError as error:
        assert error.problems[0].where.startswith(f"{path}:")


def test_defaults_have_nothing_to_repair() -> None:
    """A rule that minds the defaults is wrong, or they are."""
    assert [p for p in check(RunConfig()) if p.fix] == []
