"""Every test that takes ``connect`` runs over both clients."""

import pytest

from tests.client.troubled import Connect, blocking, in_loop


@pytest.fixture(params=[blocking, in_loop])
def connect(request: pytest.FixtureRequest) -> Connect:
    made: Connect = request.param
    return made
