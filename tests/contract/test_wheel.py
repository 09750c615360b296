"""The wheel alone is enough: presets, demo model, key tables and configs travel in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the unpacked wheel, as pip would lay it out."""
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder / "dist")],
        cwd=ROOT, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert built.returncode == 0, built.stderr
    (wheel,) = (folder / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run(site: Path, *argv: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"} | {"PYTHONPATH": str(site)}
    done = subprocess.run(
        [sys.executable, "-P", *argv], cwd=site.parent, env=env, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_code_is_the_wheels(site: Path) -> None:
    where = run(site, "-c", "import loratui; print(loratui.__file__)")
    assert Path(where.strip()).is_relative_to(site)


def test_presets_are_found(site: Path) -> None:
    names = {row["name"] for row in json.loads(run(site, "-m", "loratui", "presets", "--json"))}
    assert names == {p.stem for p in (ROOT / "presets").glob("*.toml")}


def test_every_data_file_travels(site: Path) -> None:
    kinds = {".json", ".txt", ".tsv", ".png", ".safetensors", ".tcss", ".toml"}
    data = {p.relative_to(ROOT) for p in (ROOT / "loratui").rglob("*") if p.suffix in kinds and p.is_file()}
    assert len(data) > 40
    missing = [p for p in data if not (site / p).is_file()]
    assert not missing


def test_the_demo_weights_are_small(site: Path) -> None:
    weights = sum(p.stat().st_size for p in (site / "loratui" / "demo").rglob("*.safetensors"))
    assert weights <= 32 * 1024 * 1024
