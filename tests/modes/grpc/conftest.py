"""One server with both doors open, and a channel to it."""

from collections.abc import Iterator

import grpc
import pytest

from tests.modes.grpc.models import KEY, WHOLE
from tests.serving import Served, serving

LIMITS = ("--grpc-port", "0", "--engine-queue-rows", "4", "--http-max-request-bytes", "1000000")


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A real server; its queues hold few rows, so that they can be filled, and it has an admin key."""
    folder = tmp_path_factory.mktemp("grpc")
    (folder / "foretell.toml").write_text(f'[admin]\nkey = "{KEY}"\n')
    with serving(folder, *LIMITS, "--config", str(folder / "foretell.toml"), models=WHOLE) as served:
        yield served


@pytest.fixture
def channel(server: Served) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc, options=[("grpc.max_send_message_length", -1)]) as channel:
        yield channel
