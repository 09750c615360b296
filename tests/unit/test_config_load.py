"""Settings: conversion, every problem at once with its place, rules across fields, help."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratui.config.checks import check, check_device
from loratui.config.docs import docs, field_table, json_schema, section_docs
from loratui.config.load import as_dict, assemble, build, load_run, settings_of, suggest
from loratui.config.presets import load_preset, parse_set, resolve
from loratui.config.run import RunInfo
from loratui.config.schema import RANGES, SHORT_NAMES, RunConfig
from loratui.config.toml import key_lines, quote, read_toml
from loratui.config.write import append_table, run_text, update_toml, write_run
from loratui.errors import ConfigError


def problems(error: pytest.ExceptionInfo[ConfigError]) -> dict[str, str]:
    return {p.path: str(p) for p in error.value.problems}


def test_every_field_has_help_and_every_table_names_real_fields() -> None:
    table = field_table()
    assert all(len(text) > 5 and text.endswith(".") for text in docs().values()), docs()
    assert all(section_docs().values())
    assert set(SHORT_NAMES.values()) <= set(table)
    assert set(RANGES) <= set(table)
    numbers = {path for path, info in table.items() if info.kind in {"int", "float", "ints"}}
    assert numbers == set(RANGES), "each number has a range"
    assert table["network.target"].choices == ("attention", "attention+mlp", "full", "full+conv")
    assert table["samples.prompts"].kind == "list"


def test_the_defaults_pass_their_own_rules() -> None:
    assert build([]) == RunConfig()
    assert [p for p in check(RunConfig()) if p.severity == "error"] == []


def test_all_problems_come_at_once_with_did_you_mean() -> None:
    wrong = {
        "lr": "abc", "network.rnk": "8", "learning_rate": "1", "data.flip": "maybe", "saving.keep": "1",
        "alpha": "0", "optimizer": "adam", "seed": "1.5", "data.caption_dropout": "nan", "zzz": "1",
        "samples.nope": "1",
    }  # fmt: skip
    with pytest.raises(ConfigError) as caught:
        resolve(load_preset("demo"), wrong)
    found = problems(caught)
    assert len(caught.value.problems) == len(wrong)
    assert "Did you mean `network.rank`?" in found["network.rnk"]
    assert "Did you mean `lr`?" in found["learning_rate"]
    assert "wants a number, not 'abc'" in found["optimizer.lr"]
    assert "true or false" in found["data.flip"]
    assert "from 2" in found["saving.keep"]
    assert "above 0" in found["network.alpha"]
    assert "adamw" in found["optimizer.name"]
    assert "whole number" in found["objective.seed"]
    assert "not nan" in found["data.caption_dropout"]
    assert "Sections are: model" in found["zzz"]
    assert "[samples] has: prompts" in found["samples.nope"]
    assert all(text.startswith("--set: ") for text in found.values())


@pytest.mark.parametrize(
    ("key", "near"),
    [
        ("ran", "rank"),
        ("resolutoin", "resolution"),
        ("optimiser.lr", "optimizer.lr"),
        ("network.learning_rate", "lr"),
        ("max_train_steps", "steps"),
        ("bucket_step", "data.bucket_step"),
        ("qqqqqq", ""),
    ],
)
def test_suggestions(key: str, near: str) -> None:
    assert suggest(key) == near


def test_texts_of_set_become_the_type_of_their_field() -> None:
    config = resolve(
        None,
        {
            "lr": "3e-4",
            "rank": "8",
            "steps": "1e3",
            "data.flip": "yes",
            "precision": "FP32",
            "samples.prompts": '["a", "b"]',
            "alpha": "8",
            "batch_size": "1_0",
        },
    )
    assert config.optimizer.lr == 3e-4
    assert (config.network.rank, config.network.alpha, type(config.network.alpha)) == (8, 8.0, float)
    assert config.optimizer.steps == 1000
    assert config.data.flip is True
    assert config.data.batch_size == 10
    assert config.memory.precision == "fp32"
    assert config.samples.prompts == ("a", "b")


def test_asking_for_epochs_turns_the_presets_steps_off() -> None:
    preset = load_preset("demo")
    assert resolve(preset, {}).optimizer.steps == 600
    assert resolve(preset, {"epochs": "3"}).optimizer.steps == 0
    assert resolve(preset, {"epochs": "3", "steps": "7"}).optimizer.steps == 7


@pytest.mark.parametrize(
    ("values", "path", "text"),
    [
        ({"resolution": "500"}, "data.resolution", "Use 448 or 512"),
        ({"data.bucket_step": "20"}, "data.bucket_step", "multiple of 8"),
        ({"data.min_bucket": "768"}, "data.min_bucket", "above the resolution"),
        ({"data.max_bucket": "256"}, "data.max_bucket", "below the resolution"),
        ({"memory.device": "cpu", "precision": "fp16"}, "memory.precision", "fp16 needs CUDA"),
        ({"memory.device": "gpu"}, "memory.device", "auto, cpu, cuda"),
        ({"memory.device": "cuda:x"}, "memory.device", "auto, cpu, cuda"),
        ({"steps": "10", "optimizer.warmup_steps": "10"}, "optimizer.warmup_steps", "shorter"),
        ({"samples.width": "100"}, "samples.width", "Use 104"),
    ],
)
def test_rules_across_fields(values: dict[str, str], path: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        resolve(None, values)
    assert text in problems(caught)[path]


def test_fp16_without_a_gpu_is_refused_only_where_it_would_be_used() -> None:
    half = resolve(None, {"precision": "fp16"})
    assert [p.code for p in check_device(half, cuda=False)] == ["fp16-needs-cuda"]
    assert check_device(half, cuda=True) == []
    assert check_device(resolve(None, {"precision": "bf16"}), cuda=False) == []
    assert [p.code for p in check_device(resolve(None, {"memory.device": "cuda"}), cuda=False)] == ["no-cuda"]


def test_warnings_do_not_stop() -> None:
    config = resolve(None, {"lr": "1", "alpha": "999"})
    assert {p.code for p in check(config)} == {"lr-high", "alpha-high"}


def test_set_wants_key_and_value() -> None:
    assert parse_set(["a=b=c", " lr = 1 "]) == {"a": "b=c", "lr": "1"}
    with pytest.raises(ConfigError) as caught:
        parse_set(["lr", "=3", "x=1"])
    assert len(caught.value.problems) == 2


def test_a_run_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    config = resolve(
        load_preset("demo"), {"lr": "1.234e-5", "samples.prompts": '["a \\"b\\"", "c\\u001b]52;"]'}
    )
    info = RunInfo(id="x", name='odd "name"\n\x1b', project="/a b/ü", steps=400, epochs=3, score="demo")
    write_run(tmp_path / "run.toml", info, config)
    assert load_run(tmp_path) == (info, config)
    assert load_run(tmp_path / "run.toml") == (info, config)
    assert b"\x1b" not in (tmp_path / "run.toml").read_bytes()


def test_an_older_app_reads_the_run_of_a_newer_one(tmp_path: Path) -> None:
    text = run_text(RunInfo(id="x"), RunConfig())
    newer = text.replace("[network]\n", "[network]\nfuture = 3\n").replace(
        "[run]\n", '[run]\ncolour = "red"\n'
    )
    (tmp_path / "run.toml").write_text(newer + "\n[unheard]\nof = 1\n")
    assert load_run(tmp_path) == (RunInfo(id="x"), RunConfig())


def test_a_damaged_run_file_is_one_clear_error(tmp_path: Path) -> None:
    for text in ("[run]\nsteps = 'x'\n", "", "run = 3", "[run]\nid = \n", "\xff"):
        (tmp_path / "run.toml").write_bytes(text.encode("latin-1"))
        with pytest.raises(ConfigError) as caught:
            load_run(tmp_path)
        assert "run.toml" in caught.value.message
    with pytest.raises(ConfigError, match="does not exist"):
        load_run(tmp_path / "none.toml")


ANYTHING = st.text() | st.integers() | st.floats() | st.booleans() | st.lists(st.text())


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # other jobs may hold the machine
@given(st.dictionaries(st.sampled_from(sorted(field_table())), ANYTHING))
def test_any_values_are_built_or_refused_with_their_paths(values: dict[str, object]) -> None:
    try:
        config = resolve(None, values)
    except ConfigError as error:
        assert error.problems
        assert all(p.path in field_table() for p in error.problems)
    else:
        for path, value in as_dict(config).items():
            info = field_table()[path]
            if info.kind == "float":
                assert math.isfinite(value)
            if info.minimum is not None:
                assert all(one >= info.minimum for one in (value if isinstance(value, tuple) else (value,)))


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_quoted_text_reads_back(text: str) -> None:
    import tomllib

    assert tomllib.loads(f"a = {quote(text)}")["a"] == text


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ConfigError, match="not UTF-8"):
        quote("a\udcffb")


def test_lines_of_keys() -> None:
    text = """# comment
bare = 1
[data]
resolution = 64
"bucket_step" = 8
list = [
  "[x]",
  "resolution = 3",
]
text = '''
flip = true
'''
[samples]
  every=3
[[sources]]
path = "a"
[[sources]]
path = "b"
a.b = 1
"""
    lines = key_lines(text)
    assert lines["bare"] == 2
    assert lines["data.resolution"] == 4
    assert lines["data.bucket_step"] == 5
    assert "data.flip" not in lines
    assert lines["samples.every"] == 14
    assert (lines["sources.0.path"], lines["sources.1.path"], lines["sources.1.a.b"]) == (16, 18, 19)


def test_the_line_of_broken_toml_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("a = 1\nb = = 2\n")
    with pytest.raises(ConfigError, match=r"a\.toml:2"):
        read_toml(path)
    path.write_bytes(b"a = 1\n\nc = '\xff'\n")
    with pytest.raises(ConfigError, match=r"a\.toml:3.*UTF-8"):
        read_toml(path)


def test_changing_a_file_keeps_its_comments(tmp_path: Path) -> None:
    path = tmp_path / "a.toml"
    path.write_text("# top\n[project]\nname = 'a'  # mine\nbase = 'x'\n")
    update_toml(path, {"project.name": "b", "project.base": None, "new.deep.key": 3})
    text = path.read_text()
    assert "# top" in text
    assert "# mine" in text
    assert read_toml(path).data == {"project": {"name": "b"}, "new": {"deep": {"key": 3}}}
    append_table(path, "sources", {"path": "a"})
    append_table(path, "sources", {"path": "b", "repeats": 2})
    assert read_toml(path).data["sources"] == [{"path": "a"}, {"path": "b", "repeats": 2}]


def test_json_schema_knows_every_setting() -> None:
    schema = json_schema()
    names = {f"{s}.{k}" for s, part in schema["properties"].items() for k in part["properties"]}
    assert names == set(field_table())
    assert schema["properties"]["network"]["properties"]["alpha"]["exclusiveMinimum"] == 0


def test_assemble_is_the_inverse_of_as_dict() -> None:
    config = resolve(load_preset("sd15-style"), {})
    assert assemble(as_dict(config)) == config
    assert build(settings_of(as_dict(config))) == config
