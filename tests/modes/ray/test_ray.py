"""What goes to a cluster and comes back, Ray Serve on a real one, and the application alone."""

import asyncio
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from click.testing import CliRunner

from foretell.asgi import Application, open_app
from foretell.cli import cli
from foretell.errors import Setup
from foretell.modes.ray import Factory, run
from foretell.modes.ray.actors import Actor
from tests.modes.ray.kills import run_through
from tests.modes.ray.nodes import SLOW, Nodes, two_nodes
from tests.serving import free_port

needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="ray is not installed: pip install 'foretell[ray]'")


@pytest.fixture(scope="module")
def nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nodes]:
    with two_nodes(tmp_path_factory.mktemp("home")) as nodes:
        yield nodes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "rows.csv").write_text("a,b\n1,2\n")
    return tmp_path


@needs_ray
def test_a_machine_and_a_driver_that_are_killed_cost_no_row_and_give_none_twice(tmp_path: Path, nodes: Nodes) -> None:
    run_through(tmp_path, nodes, 2)


SERVE = """
import sys
import ray
from ray import serve
from foretell.modes.ray import app

ray.init(sys.argv[1], log_to_driver=False)
serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[2])})
serve.run(app({"models": sys.argv[3]}))
print("ready", flush=True)
sys.stdin.read()
serve.shutdown()
"""


@needs_ray
def test_ray_serve_answers_with_the_same_application(folder: Path, nodes: Nodes) -> None:
    port, pipe = free_port(), subprocess.PIPE
    command = [sys.executable, "-c", SERVE, nodes.address, str(port), str(folder / "slow.py:model")]
    with subprocess.Popen(command, env=nodes.environ, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" in process.stdout  # Ray may say something of its own before
        body = json.dumps([{"x": [1, 2]}, {"x": [3, 4]}]).encode()
        wanted = urllib.request.Request(f"http://127.0.0.1:{port}/predict/slow", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(wanted, timeout=30) as reply:
            assert json.load(reply)["predictions"] == [{"y": 3.0}, {"y": 7.0}]
        process.communicate("")


# -- without a cluster


def refuse(text: str) -> object:
    raise Setup("wrong_setting", text)


def echo(before: str) -> object:
    return lambda piece: before + piece


def test_an_actor_makes_what_it_runs_from_names_and_tells_what_was_raised() -> None:
    answer = Actor("tests.modes.ray.test_ray:echo", '{"before": "a"}')({"piece": ["b"]})
    assert answer == {"answer": ["ab"], "refusal": [""]}
    told = Actor("tests.modes.ray.test_ray:refuse", '{"text": "no"}')({"piece": ["b"]})
    assert json.loads(told["refusal"][0]) == ["SETUP", "wrong_setting", "no"]


def test_nothing_to_do_needs_no_cluster() -> None:
    assert list(run(Factory("nowhere:f"), [])) == []


@needs_ray
@pytest.mark.parametrize(("address", "told"), [("here", "HOST:PORT"), ("127.0.0.1:{port}", "nobody listens")])
def test_a_cluster_that_is_not_there_is_told_at_once(address: str, told: str) -> None:
    address = address.format(port=free_port())
    program = f"""
from foretell.modes.ray import Cluster, Factory, run
from foretell.errors import ForetellError
try:
    list(run(Factory("f:f"), ["x"], Cluster({address!r})))
except ForetellError as error:
    print(error.code, error.message)
"""
    out = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60).stdout
    assert out.startswith("lost_cluster")
    assert told in out


def test_without_ray_the_command_line_says_what_to_install(folder: Path) -> None:
    program = "import sys; sys.modules['ray'] = None; from foretell.cli import main; sys.exit(main())"
    words = ["predict", "slow.py:model", "rows.csv", "-o", "answers.csv", "--engine", "ray"]
    result = subprocess.run([sys.executable, "-c", program, *words], cwd=folder, capture_output=True, text=True, timeout=60)
    assert result.returncode == 1
    assert "pip install 'foretell[ray]'" in result.stderr
    assert not list(folder.glob("*answers*"))


@pytest.mark.parametrize(
    ("words", "told"),
    [(["-o", "-", "--engine", "ray"], "in place of -"), (["-o", "a.csv", "--address", "h:1"], "--engine ray")],
)
def test_flags_that_do_not_go_together_are_refused(words: list[str], told: str) -> None:
    result = CliRunner().invoke(cli, ["predict", "model.onnx", "rows.csv", *words])
    assert result.exit_code == 2
    assert told in result.stderr


# -- the application for any ASGI host


async def live(application: Application) -> list[str]:
    """What an ASGI host does: start, one request, end."""
    come: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    told: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    living = asyncio.create_task(application({"type": "lifespan"}, come.get, told.put))  # type: ignore[arg-type]
    await come.put({"type": "lifespan.startup"})
    types = [str((await told.get())["type"])]
    sent: list[dict[str, object]] = []

    body: asyncio.Queue[dict[str, object]] = asyncio.Queue()
    await body.put({"type": "http.request", "body": b'[{"x": [1, 2]}]'})

    async def send(message: dict[str, object]) -> None:
        sent.append(message)

    headers = [(b"host", b"127.0.0.1"), (b"content-type", b"application/json")]
    scope = {"type": "http", "method": "POST", "path": "/predict/slow", "query_string": b"", "headers": headers, "client": None}
    await application(scope, body.get, send)  # type: ignore[arg-type]
    types.append(b"".join(message.get("body", b"") for message in sent).decode())  # type: ignore[misc]
    await come.put({"type": "lifespan.shutdown"})
    await living
    return [*types, str((await told.get())["type"])]


def test_the_application_loads_when_its_host_starts_it_and_closes_when_that_ends(folder: Path) -> None:
    said = asyncio.run(live(open_app(str(folder / "slow.py:model"))))
    assert (said[0], said[2]) == ("lifespan.startup.complete", "lifespan.shutdown.complete")
    assert json.loads(said[1])["predictions"] == [{"y": 3.0}]
