"""Fixtures that several folders of tests share; its place makes `train_kit` importable too."""

from __future__ import annotations

from pathlib import Path

import pytest


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


@pytest.fixture(scope="session")
def tiny_sd3(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random SD3 base as a diffusers folder."""
    return _tiny("sd3", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_flux(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random FLUX.1 dev base as a diffusers folder."""
    return _tiny("flux", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_chroma(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Chroma base as a diffusers folder."""
    return _tiny("chroma", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen-Image base as a diffusers folder."""
    return _tiny("qwen", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_zimage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Z-Image base as a diffusers folder."""
    return _tiny("zimage", tmp_path_factory)


@pytest.fixture(scope="session")
def tiny_flux2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random FLUX.2 klein base as a diffusers folder."""
    return _tiny("flux2", tmp_path_factory)


def _tiny(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import tiny_kit

    return tiny_kit.tiny(name).make(tmp_path_factory.mktemp(name) / "base")
