"""Shelves of things loaded by name."""

import pytest

from foretell.backends import BACKENDS
from foretell.errors import Setup
from foretell.plugins import Plugin, did_you_mean, load_plugin, needs_extra
from foretell.steps import STEPS

LARGE = ("keras", "torch")  # runtimes that the tests do not install
TABLE = {"join": Plugin("os.path:join"), "absent": Plugin("a_package_nobody_has:thing", "images")}


def test_a_plugin_is_the_named_attribute() -> None:
    import os.path

    assert load_plugin("thing", TABLE, "join") is os.path.join


def test_a_missing_package_says_what_to_type() -> None:
    with pytest.raises(Setup, match=r"pip install 'foretell\[images\]'") as caught:
        load_plugin("step", TABLE, "absent")
    assert caught.value.code == "missing_extra"
    assert "a_package_nobody_has" in caught.value.message


def test_an_unknown_name_says_the_near_one() -> None:
    with pytest.raises(Setup, match="did you mean 'join'"):
        load_plugin("thing", TABLE, "joyn")


def test_an_unknown_name_far_from_all_lists_all() -> None:
    assert did_you_mean("zzz", ["b", "a"]) == ": use one of a, b"


def test_a_missing_module_of_our_own_is_a_mistake_and_not_a_missing_extra() -> None:
    with pytest.raises(ModuleNotFoundError), needs_extra("step 'x'", "images"):
        raise ModuleNotFoundError("No module named 'foretell.gone'", name="foretell.gone")


def test_other_errors_pass_through() -> None:
    with pytest.raises(ValueError, match="as it was"), needs_extra("step 'x'", "images"):
        raise ValueError("as it was")


@pytest.mark.parametrize("name", BACKENDS)
def test_every_backend_on_the_shelf_loads(name: str) -> None:
    if name in LARGE:
        pytest.importorskip(name, reason=f"{name} is not installed: make runtimes")
    assert callable(load_plugin("backend", BACKENDS, name))


@pytest.mark.parametrize("name", STEPS)
def test_every_step_on_the_shelf_loads(name: str) -> None:
    assert load_plugin("step", STEPS, name).__name__ == name.partition(".")[2]
