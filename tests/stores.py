"""A real S3 server on loopback, for tests: moto's, in a process of its own, with a bucket called lake."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

SERVER = """
import sys
from moto.server import ThreadedMotoServer
import boto3
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{port}", region_name="us-east-1")
client.create_bucket(Bucket="lake")
print(f"port {port}", flush=True)
sys.stdin.read()
"""
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


@contextmanager
def s3(log: Path) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    """Its address and its process; it ends with the block."""
    environment = {**os.environ, **CREDENTIALS}
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-c", SERVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as server,
    ):
        assert server.stdout is not None
        try:
            found = re.fullmatch(r"port (\d+)\n", server.stdout.readline())
            assert found, log.read_text()
            yield f"http://127.0.0.1:{found[1]}", server
        finally:
            server.kill()


def point_at(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let clients of S3 in this process go there."""
    for name, value in {**CREDENTIALS, "AWS_ENDPOINT_URL": address, "AWS_ALLOW_HTTP": "true"}.items():
        monkeypatch.setenv(name, value)
