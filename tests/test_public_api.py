"""What users may rely on. A change here is a change for them: say so in the changelog."""

import importlib.metadata
import re

import pytest

import foretell
from foretell.codes import CODES

PUBLIC = {
    "Datatype",
    "ForetellError",
    "Pipeline",
    "Signature",
    "TensorSpec",
    "__version__",
    "load",
    "model",
    "open_pipeline",
    "steps",
}


def test_the_public_names_are_these() -> None:
    assert set(foretell.__all__) == PUBLIC


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_every_public_name_loads_and_says_what_it_is(name: str) -> None:
    assert getattr(foretell, name).__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Pipelin'"):
        foretell.Pipelin  # noqa: B018 - the access is what is tested


def test_the_version_is_that_of_the_package() -> None:
    assert foretell.__version__ == importlib.metadata.version("foretell")
    assert re.fullmatch(r"\d+\.\d+\.\d+", foretell.__version__)


def test_codes_are_only_ever_added() -> None:
    assert {"wrong_shape", "wrong_dtype", "missing_input", "unknown_model", "queue_full", "deadline_passed", "internal"} <= set(
        CODES
    )
