"""The models, each trained once."""

from pathlib import Path

import pytest

from tests.optimize.quantize.models import MODELS, unscaled_cancer


class Models:
    """A model and its rows by name, made when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, tuple[Path, Path]] = {}

    def __call__(self, name: str) -> tuple[Path, Path]:
        if name not in self.made:
            self.made[name] = {**MODELS, "unscaled": unscaled_cancer}[name](self.folder)
        return self.made[name]


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return Models(tmp_path_factory.mktemp("models"))
