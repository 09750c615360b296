"""What is said where parts of a flow family's base are missing: each of them, at once, before it is read.

The bases are single files of a few marks: whatever reads their weights first fails otherwise than here.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import tiny_kit
import torch
from safetensors.torch import save_file

from loratui.config.schema import ModelConfig, RunConfig
from loratui.errors import BaseModelError, Problem
from loratui.families import encoders
from loratui.families.protocol import load_family
from loratui.families.spec import row_of
from loratui.project.project import Project
from loratui.project.start import find_base

Pairs = set[tuple[str, str]]


@dataclass
class Case:
    """A family's folder, and a file with its marks alone."""

    name: str
    folder: Path
    file: Path

    @property
    def encoders(self) -> list[str]:
        """Folders of the encoders that a file cannot do without."""
        return sorted(p.name for p in self.folder.glob("text_encoder*") if p.name not in self.optional)

    @property
    def optional(self) -> tuple[str, ...]:
        return row_of(self.name).optional

    def tokenizer(self, encoder: str) -> str:
        """Its tokenizer's folder; empty where one is packaged."""
        kind = json.loads((self.folder / encoder / "config.json").read_text())["model_type"]
        return "" if kind.startswith("clip") else encoder.replace("text_encoder", "tokenizer")

    def lacks(self, encoders: list[str], tokenizers: list[str]) -> Pairs:
        """Codes and folders of what is missing."""
        known = {("no-encoder", encoder) for encoder in encoders}
        return known | {("no-tokenizer", t) for e in tokenizers if (t := self.tokenizer(e))}


def variants() -> list[tuple[str, str]]:
    return [*((name, "") for name in tiny_kit.ORIGINAL), *tiny_kit.VARIANTS]


@pytest.fixture(params=variants(), ids=lambda case: "-".join(filter(None, case)))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Case:
    name, flag = request.param
    if flag:
        folder = tiny_kit.tiny(name).make(tmp_path / "base", **{flag: True})
    else:
        folder = request.getfixturevalue(f"tiny_{name}")
    file = tmp_path / "model.safetensors"
    marks = [*row_of(name).marks, *(row_of(name).text_by_tensor if flag else ())]
    save_file({mark: torch.zeros(2, 2) for mark in marks}, file)
    return Case(name, folder, file)


def said(case: Case, vae: Path | None, *text: Path) -> Pairs:
    """Code and folder of each finding; each says where and what to do, and loading says all of them."""
    found = encoders.missing(row_of(case.name), case.file, vae, text)
    if found:
        with pytest.raises(BaseModelError) as error:
            load_family(case.name).load(case.file, torch.float32, vae=vae, text=text)
        assert all(p.message in error.value.message and p.advice in error.value.advice for p in found)
    return {(p.code, folder_of(p)) for p in found}


def folder_of(problem: Problem) -> str:
    assert problem.severity == "error"
    assert problem.path in problem.advice
    return problem.message.split("(")[1].split(")")[0] if "(" in problem.message else ""


def only(case: Case, target: Path, *parts: str) -> Path:
    """A folder with some parts of the base and nothing else."""
    for part in parts:
        shutil.copytree(case.folder / part, target / part)
    return target


def test_the_base_alone(case: Case) -> None:
    everything = case.lacks(case.encoders, case.encoders)
    assert said(case, None) == everything | {("no-vae", "")}
    assert said(case, case.folder) == everything


def test_with_one_encoder_named(case: Case, tmp_path: Path) -> None:
    """By its folder in one of diffusers', and where its tokenizer is beside it."""
    for encoder in case.encoders:
        others = [e for e in case.encoders if e != encoder]
        bare = only(case, tmp_path / f"{encoder}-bare", encoder)
        assert said(case, case.folder, bare) == case.lacks(others, case.encoders)
        if tokenizer := case.tokenizer(encoder):
            both = only(case, tmp_path / f"{encoder}-both", encoder, tokenizer)
            assert said(case, case.folder, both) == case.lacks(others, others)


def test_encoders_without_their_tokenizers(case: Case, tmp_path: Path) -> None:
    """An optional encoder needs its tokenizer, too, once it is there."""
    present = [*case.encoders, *(p for p in case.optional if (case.folder / p).is_dir())]
    named = only(case, tmp_path / "encoders", *present)
    assert said(case, case.folder, named) == case.lacks([], present)
    assert said(case, case.folder, named, case.folder) == set()


def test_a_folder_that_names_an_encoder_and_has_none(case: Case, tmp_path: Path) -> None:
    copy = shutil.copytree(case.folder, tmp_path / "copy")
    last = sorted(copy.glob("text_encoder*"))[-1]
    shutil.rmtree(last)
    with pytest.raises(BaseModelError, match=rf"\({last.name}\) is missing") as error:
        load_family(case.name).load(copy, torch.float32)
    assert str(copy) in error.value.message and "tokenizer" not in error.value.message


def test_which_files_of_a_tokenizer_and_where(case: Case, tmp_path: Path) -> None:
    encoder = next(e for e in [*case.encoders, *case.optional] if case.tokenizer(e))
    named = only(case, tmp_path / "named", encoder)
    found = encoders.missing(row_of(case.name), case.file, case.folder, [named])
    [problem] = [p for p in found if p.code == "no-tokenizer"]
    part = next(p for p in encoders.text_parts(row_of(case.name), case.file) if p.folder == encoder)
    assert all(name in problem.message and name in problem.advice for name in part.files)
    assert "tokenizer.json" in part.files
    assert str(named / part.tokenizer) in problem.message
    (named / "tokenizer.json").write_text("{}")  # there, but nothing says whose
    found = encoders.missing(row_of(case.name), case.file, case.folder, [named])
    [problem] = [p for p in found if p.code == "no-tokenizer"]
    assert f"the tokenizer_config.json in {named} does not say" in problem.message


def test_named_places_of_no_use(case: Case, tmp_path: Path) -> None:
    """Not there, of another kind, cut off: each is said, whatever else is missing."""
    vae, text = tmp_path / "ae.safetensors", tmp_path / "encoder.gguf"
    cut, tokenizer = tmp_path / "cut.safetensors", tmp_path / "tokenizer.json"
    cut.write_bytes(case.file.read_bytes()[:-1])
    tokenizer.write_text("{}")
    found = encoders.missing(row_of(case.name), case.file, vae, [case.folder, text, cut, tokenizer])
    assert [(p.path, p.message.removeprefix(f"{tmp_path}/")) for p in found[:2]] == [
        ("model.vae", "ae.safetensors does not exist."),
        ("model.text", "encoder.gguf does not exist."),
    ]
    assert str(cut) in found[2].message and "does not exist" not in found[2].message
    assert found[3].message == f"{tokenizer} is neither a folder nor a .safetensors file."
    assert "the folder that it is in" in found[3].advice
    assert len(found) == 4


def test_an_encoder_without_weights(case: Case, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(case.folder, tmp_path / "copy"))
    last = sorted(copy.glob("text_encoder*"))[-1]
    for weights in last.glob("*.safetensors"):
        weights.unlink()
    [problem] = encoders.missing(row_of(case.name), case.file, case.folder, [copy])
    assert problem.message == f"{last} holds no .safetensors weights."


def test_one_clip_file_is_not_the_other(tmp_path: Path) -> None:
    """They have the same names and differ in width; the file of one does not stand for the other."""
    mark = "text_model.encoder.layers.0.layer_norm1.weight"
    files = {768: tmp_path / "clip_l.safetensors", 1280: tmp_path / "clip_g.safetensors"}
    for width, file in files.items():
        save_file({mark: torch.zeros(width)}, file)
    base = tmp_path / "base.safetensors"
    row = row_of("sd3")
    save_file({name: torch.zeros(2, 2) for name in row.marks}, base)
    for named, lacking in (([768], ["CLIP-G", "text_encoder_2"]), ([1280], ["CLIP-L", "text_encoder"])):
        found = encoders.missing(row, base, tmp_path, [files[n] for n in named])
        [problem] = found
        start = f"The {lacking[0]} text encoder ({lacking[1]}) is missing: "
        assert problem.message == f"{start}it is not in {base} or {files[named[0]]}."
    assert encoders.missing(row, base, tmp_path, list(files.values())) == []


def test_the_plan_says_them_before_the_run(case: Case, tmp_path: Path) -> None:
    """One finding for each; none of them once all is named."""
    project = Project.create(tmp_path / "project", str(case.file))
    config = RunConfig()
    everything = case.lacks(case.encoders, case.encoders) | {("no-vae", "")}

    def found(model: ModelConfig) -> Pairs:
        base, family, problems = find_base(project, replace(config, model=model))
        assert (base, family) == (case.file, case.name)
        parts = [p for p in problems if p.path in {"model.text", "model.vae"}]
        return {(p.code, folder_of(p)) for p in parts}

    assert found(ModelConfig()) == everything
    only(case, tmp_path / "named", case.encoders[0])
    lacking = case.lacks(case.encoders[1:], case.encoders)
    assert found(ModelConfig(vae=str(case.folder), text=("../named",))) == lacking
    assert found(ModelConfig(vae=str(case.folder), text=(str(case.folder),))) == set()


def test_a_file_that_changes_is_looked_at_again(case: Case, tmp_path: Path) -> None:
    """Headers are kept between plans."""
    row, named = row_of(case.name), tmp_path / "encoder.safetensors"
    part = encoders.text_parts(row, case.file)[0]
    save_file({"something.else": torch.zeros(4)}, named)
    before = {p.message for p in encoders.missing(row, case.file, case.folder, [named])}
    save_file({part.mark: torch.zeros(8)}, named)
    after = {p.message for p in encoders.missing(row, case.file, case.folder, [named])}
    assert any(f"{part.title} text encoder" in message for message in before)
    assert not any(f"{part.title} text encoder" in message for message in after)
