"""Other people's clients, each from an environment of its own that ``make clients`` makes: one round trip of each kind."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.serving import MODELS, free_port, serving

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent.parent / ".venv-clients"
SCRIPTS = sorted(path.name.removesuffix("_roundtrip.py") for path in HERE.glob("*_roundtrip.py"))
WORDS = """
@foretell.model(inputs={"text": "BYTES[1]"}, outputs={"back": "BYTES[1]"})
def model(arrays):
    return {"back": arrays["text"]}
"""


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A server's addresses, by door."""
    port = free_port()
    models = {"double": MODELS["double"], "words": WORDS}
    with serving(tmp_path_factory.mktemp("clients"), "--grpc-port", str(port), models=models) as served:
        yield {"rest": f"http://127.0.0.1:{served.port}", "grpc": f"127.0.0.1:{port}"}


@pytest.mark.parametrize("door", ["rest", "grpc"])
@pytest.mark.parametrize("name", SCRIPTS)
def test_a_client_that_people_have_works_unchanged(name: str, door: str, request: pytest.FixtureRequest) -> None:
    if not (ENVIRONMENTS / name / ".made").exists():
        pytest.skip(f"there is no environment with {name}: make clients")
    address = request.getfixturevalue("addresses")[door]
    python, script = ENVIRONMENTS / name / "bin/python", HERE / f"{name}_roundtrip.py"
    run = subprocess.run([str(python), str(script), door, address], capture_output=True, text=True, timeout=120)
    print(run.stdout)
    assert run.returncode == 0, run.stdout + run.stderr[-3000:]
