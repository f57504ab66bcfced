"""The admin key: off without one, and only the whole key opens."""

import pytest

from foretell.errors import Denied, Unauthenticated
from foretell.security import check_admin


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
