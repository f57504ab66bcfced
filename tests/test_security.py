"""The admin key: off without one, and only the whole key opens."""

import pytest

from foretell.codes import tell
from foretell.errors import Denied, Setup, Unauthenticated
from foretell.security import check_admin, told_whole


def test_without_a_key_administration_is_off_for_everyone() -> None:
    with pytest.raises(Denied) as caught:
        check_admin("", "Bearer ")
    assert caught.value.code == "admin_off"


@pytest.mark.parametrize("authorization", ["Bearer schlüssel", "bearer schlüssel", "BEARER  schlüssel "])
def test_the_key_opens(authorization: str) -> None:
    check_admin("schlüssel", authorization)


@pytest.mark.parametrize(
    "authorization", [None, "", "Bearer", "Bearer ", "Bearer schl", "Basic schlüssel", "schlüssel", "Bearer \udcff"]
)
def test_anything_else_does_not(authorization: str | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        check_admin("schlüssel", authorization)
    assert caught.value.code == "wrong_key"
    assert "schlüssel" not in caught.value.message


def test_a_holder_of_the_key_is_told_what_is_wrong_with_a_file_and_nobody_else() -> None:
    error = Setup("wrong_setting", "m/pipeline.toml: label 'x' points nowhere")
    assert "m/pipeline.toml" not in tell(error)
    with pytest.raises(Setup) as caught, told_whole():
        raise error
    assert tell(caught.value) == "m/pipeline.toml: label 'x' points nowhere"
