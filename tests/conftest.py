"""Fixtures that several folders of tests share; its place makes `train_kit` importable too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from loratui.families.spec import FAMILIES


@pytest.fixture(scope="session")
def tiny_sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SD1.5-layout base as a diffusers folder: a few hundred thousand weights."""
    import train_kit

    return train_kit.tiny_base(tmp_path_factory.mktemp("sd15") / "base")


@pytest.fixture(scope="session")
def tiny_sd2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SD2-layout base (v-prediction, linear projections) as a diffusers folder."""
    import train_kit

    return train_kit.tiny_base(tmp_path_factory.mktemp("sd2") / "base", sd2=True, width=64, heads=(1, 2))


@pytest.fixture(scope="session")
def tiny_sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SDXL-layout base (two text encoders, sizes as conditions) as a diffusers folder."""
    import train_kit

    return train_kit.tiny_sdxl_base(tmp_path_factory.mktemp("sdxl") / "base")


def _tiny(name: str) -> Callable[[pytest.TempPathFactory], Path]:
    """A fixture of a flow family: its random base as a diffusers folder."""

    @pytest.fixture(scope="session", name=f"tiny_{name}")
    def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
        import tiny_kit

        return tiny_kit.tiny(name).make(tmp_path_factory.mktemp(name) / "base")

    return base


for _spec in FAMILIES:
    if _spec.flow:
        globals()[f"tiny_{_spec.name}"] = _tiny(_spec.name)
