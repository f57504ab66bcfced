"""``foretell bench`` on real servers: our own, and some that no load generator should trust."""

import base64
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

import foretell
from foretell.bench import target
from foretell.bench.load import Load
from foretell.bench.network import Address, Sockets
from foretell.bench.session import EXAMPLE, Report, Wanted, bench
from foretell.bench.sweep import Step
from foretell.cli import cli
from foretell.errors import ForetellError, Unavailable
from foretell.modes.http.examples import picture
from tests.serving import Served, free_port, serving

pytestmark = pytest.mark.clocked

FIVE_MS = """
@foretell.model(inputs={"x": "FP32"}, outputs={"y": "FP32"})
def model(arrays):
    time.sleep(0.005)
    return {"y": arrays["x"]}
"""


def nothing(step: Step) -> None: ...


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with serving(tmp_path_factory.mktemp("bench"), "--grpc-port", "0") as running:
        yield running


def measure(served: Served, model: str = "double", **wanted: object) -> Report:
    return bench(Wanted(where=f"http://127.0.0.1:{served.port}", model=model, seconds=0.4, **wanted), nothing)  # type: ignore[arg-type]


def run(*words: str) -> Result:
    return CliRunner().invoke(cli, ["bench", *words])


@pytest.mark.parametrize("protocol", ["json", "binary"])
def test_clients_are_all_answered_over_http(served: Served, protocol: str) -> None:
    before = served.count("double", "ok")
    figures = measure(served, clients=4, protocol=protocol, rows=3).figures
    assert figures is not None
    assert figures.good == figures.sent > 50
    assert served.count("double", "ok") - before >= figures.good


def test_clients_are_all_answered_over_grpc(served: Served) -> None:
    report = bench(Wanted(where=f"http://{served.grpc}", model="double", clients=4, seconds=0.4, protocol="grpc"), nothing)
    assert report.figures is not None
    assert report.figures.good == report.figures.sent > 50


def test_a_message_larger_than_every_window_goes_over_grpc(served: Served) -> None:
    wanted = Wanted(where=f"http://{served.grpc}", model="double", clients=1, seconds=0.4, protocol="grpc", rows=60_000)
    report = bench(wanted, nothing)
    assert report.figures is not None
    assert report.figures.good == report.figures.sent > 0


def test_an_open_load_sends_every_request(served: Served) -> None:
    figures = measure(served, rate=200.0).figures
    assert figures is not None
    assert figures.good == figures.sent == pytest.approx(80, abs=40)


def test_texts_are_made_for_a_model_that_takes_them(served: Served) -> None:
    figures = measure(served, "text", clients=1).figures
    assert figures is not None
    assert not figures.outcomes


def test_the_rows_of_a_file_are_sent(served: Served, tmp_path: Path) -> None:
    np.save(tmp_path / "rows.npy", np.ones((10, 2), np.float32))
    (tmp_path / "rows.json").write_text('[{"x": [1, 2]}, {"x": [3, 4]}]')
    for name in ("rows.npy", "rows.json"):
        figures = measure(served, clients=1, data=tmp_path / name).figures
        assert figures is not None
        assert figures.good == figures.sent > 0


def test_rows_that_the_model_refuses_are_told_before_anything_is_measured(served: Served, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"x": [1, 2, 3]}]')
    with pytest.raises(ForetellError, match=r"'400'.*the server said: .*\[\?, 2\]"):
        measure(served, clients=1, data=tmp_path / "rows.json")


def test_a_file_without_the_models_input_is_refused_by_name(served: Served, tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text('[{"z": 1}]')
    with pytest.raises(ForetellError, match=r"rows\.json.*'x'"):
        measure(served, clients=1, data=tmp_path / "rows.json")


DIGITS = Path(foretell.__file__).parent / "demo" / "models" / "digits"


@pytest.fixture(scope="module")
def digits() -> Iterator[str]:
    """The demo's model of pictures."""
    with target.served(str(DIGITS), "json") as (address, _):
        yield f"http://{address}"


@pytest.mark.parametrize("protocol", ["json", "binary"])
def test_a_model_of_pictures_is_sent_the_servers_own_example(digits: str, protocol: str) -> None:
    report = bench(Wanted(where=digits, clients=1, seconds=0.4, protocol=protocol, rows=2), nothing)
    assert report.figures is not None
    assert report.figures.good == report.figures.sent > 0
    assert report.rows == EXAMPLE


@pytest.mark.parametrize("protocol", ["json", "binary"])
def test_a_model_of_pictures_is_sent_those_of_a_file(digits: str, protocol: str, tmp_path: Path) -> None:
    (tmp_path / "ring.png").write_bytes(picture())
    (tmp_path / "rings.json").write_text(json.dumps([{"image": {"b64": base64.b64encode(picture()).decode()}}]))
    for name in ("ring.png", "rings.json"):
        wanted = Wanted(where=digits, rate=50.0, seconds=0.4, protocol=protocol, data=tmp_path / name)
        figures = bench(wanted, nothing).figures
        assert figures is not None
        assert figures.good == figures.sent > 0


def test_a_rate_above_what_the_server_can_do_is_said_so_with_what_to_type(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine-max-batch-rows", "1", models={"five": FIVE_MS}) as server:
        result = run(f"http://127.0.0.1:{server.port}", "--rate", "600", "--seconds", "0.5", "--plot", str(tmp_path / "p.png"))
    assert result.exit_code == 3
    assert "of 600 requests/s asked for" in result.stdout
    assert "the server did not keep up" in result.stdout
    assert "--sweep" in result.stdout


def test_a_bound_that_no_rate_can_keep_shows_no_nan_and_blames_no_generator(tmp_path: Path) -> None:
    with serving(tmp_path, models={"five": FIVE_MS}) as server:
        result = run(f"http://127.0.0.1:{server.port}", "--slo-ms", "0.01", "--seconds", "0.3")
    assert result.exit_code == 3
    assert "nan" not in result.output
    assert "generator was the limit" not in result.output
    assert "allow more than 0.01 ms with --slo-ms" in result.stdout


@pytest.mark.parametrize("together", [True, False])
def test_the_rates_of_a_sweep_are_printed_once_to_one_place(served: Served, together: bool) -> None:
    line = [sys.executable, "-m", "foretell", "bench", f"http://127.0.0.1:{served.port}", "double", "--seconds", "0.1"]
    error = subprocess.STDOUT if together else subprocess.PIPE
    done = subprocess.run([*line, "--slo-ms", "0.001"], stdout=subprocess.PIPE, stderr=error, text=True, check=False)
    assert "asked/s" in done.stdout
    assert " requests/s  p99 " not in done.stdout
    assert together or " requests/s  p99 " in done.stderr


def test_a_server_with_several_models_asks_for_a_name_and_lists_them(served: Served) -> None:
    result = run(f"http://127.0.0.1:{served.port}")
    assert result.exit_code == 1
    assert "double, slow, text" in result.stderr


def test_the_knee_of_a_model_of_200_requests_a_second_is_found(tmp_path: Path) -> None:
    with serving(tmp_path, "--engine-max-batch-rows", "1", models={"five": FIVE_MS}) as server:
        wanted = Wanted(where=f"http://127.0.0.1:{server.port}", seconds=1.0, slo_s=0.2)
        report = bench(wanted, nothing)
    assert report.sweep is not None
    assert report.sweep.knee is not None
    assert report.sweep.knee.rate == pytest.approx(200, rel=0.15)


def test_a_path_is_served_for_the_time_and_the_report_is_json(tmp_path: Path) -> None:
    (tmp_path / "five.py").write_text("import time\nimport foretell\n" + FIVE_MS)
    result = run(f"{tmp_path}/five.py:model", "--clients", "2", "--seconds", "0.4", "--json")
    assert result.exit_code in (0, 3), result.stderr
    report = json.loads(result.stdout)
    assert report["figures"]["latency_s"]["p50"] >= 0.005
    assert report["wanted"]["clients"] == 2


def test_offline_of_a_path_runs_in_this_process(tmp_path: Path) -> None:
    (tmp_path / "five.py").write_text("import time\nimport foretell\n" + FIVE_MS)
    result = run(f"{tmp_path}/five.py:model", "--scenario", "offline", "--seconds", "0.3")
    assert result.exit_code == 0, result.stderr
    assert "samples/s" in result.stdout


def test_two_kinds_of_load_exclude_each_other() -> None:
    assert "exclude each other" in run("model.onnx", "--rate", "5", "--clients", "5").stderr


@pytest.mark.parametrize("fixed", [("--arrivals", "constant"), ("--rows", "8")])
def test_what_a_scenario_fixes_cannot_be_chosen(fixed: tuple[str, str]) -> None:
    result = run("model.onnx", "--scenario", "server", *fixed)
    assert result.exit_code == 2
    assert f"leave {fixed[0]} out" in result.stderr


@pytest.mark.parametrize("where", ["https://127.0.0.1:1", "ftp://x", "http://", "http://h/path", "http://h:port"])
def test_a_url_that_cannot_be_measured_is_refused_in_a_sentence(where: str) -> None:
    result = run(where, "m", "--clients", "1")
    assert result.exit_code == 1
    assert "http://127.0.0.1:8000" in result.stderr


def test_a_port_where_nobody_listens_is_told() -> None:
    result = run(f"http://127.0.0.1:{free_port()}", "m", "--clients", "1")
    assert result.exit_code == 1
    assert "what to do" in result.stderr


def test_a_path_without_a_model_is_told() -> None:
    result = run("nowhere.onnx")
    assert result.exit_code == 1
    assert "nowhere.onnx" in result.stderr


def test_a_plot_of_an_unknown_kind_is_refused_before_anything_runs() -> None:
    result = run("nowhere.onnx", "--plot", "knee.gif")
    assert "wrong_target" in result.stderr


@contextmanager
def rude(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server that does with each connection as it likes. It has ended, with all its threads and connections, at the end."""
    listening = socket.create_server(("127.0.0.1", 0))
    answering: list[tuple[socket.socket, threading.Thread]] = []

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            thread = threading.Thread(target=_answer, args=(answer, connection), daemon=True)
            answering.append((connection, thread))
            thread.start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield listening.getsockname()[1]
    finally:
        with listening:
            listening.shutdown(socket.SHUT_RDWR)
            accepting.join()  # only then are all connections known: one accepted later would be closed by nobody
        for connection, thread in answering:
            with suppress(OSError):  # it is closed already
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()


def _answer(answer: Callable[[socket.socket], None], connection: socket.socket) -> None:
    with connection, suppress(OSError):
        answer(connection)


def hang_up(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.close()


def garbage(connection: socket.socket) -> None:
    while connection.recv(100_000):
        connection.sendall(b"\x00\xffSSH-2.0-nonsense\r\n\r\n" * 50)


def endless_head(connection: socket.socket) -> None:
    connection.recv(1000)
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"x-more: " + b"y" * 10_000 + b"\r\n")


def too_much(connection: socket.socket) -> None:
    while connection.recv(100_000):
        connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}{}{}")


def silence(connection: socket.socket) -> None:
    while connection.recv(100_000):
        continue


def chunked(connection: socket.socket) -> None:
    while connection.recv(100_000):
        connection.sendall(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        connection.sendall(b"0\r\n\r\n")


def slow_head(connection: socket.socket) -> None:
    while connection.recv(100_000):
        for part in (b"HTTP/1.1 2", b"00 OK\r\nContent-Le", b"ngth: 5\r\n\r", b"\nab", b"cde"):
            connection.sendall(part)


def last_answer(connection: socket.socket) -> None:
    connection.recv(100_000)
    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\ncontent-length: 2\r\n\r\n{}")
    connection.close()


def load_on(port: int, longest_s: float = 0.3) -> Load:
    from functools import partial

    from foretell.bench.http1 import HttpLink, write_request

    address = Address("127.0.0.1", port)
    request = write_request(str(address), "/", b"{}", {})
    return Load(Sockets(address, partial(HttpLink, [request], bytearray(2**16))), longest_s)


@pytest.mark.parametrize("answer", [hang_up, garbage, endless_head, too_much, silence])
def test_a_server_that_gives_no_answer_ends_the_load_within_bounds(answer: Callable[[socket.socket], None]) -> None:
    with rude(answer) as port, pytest.raises(Unavailable, match="in a row came to nothing"):
        load_on(port).run_closed(120, 60.0)  # it ends long before: as soon as so many were lost


def test_a_server_that_goes_away_is_told_with_what_was_answered_before() -> None:
    answers = iter(range(5))

    def goes_away(connection: socket.socket) -> None:
        while connection.recv(100_000) and next(answers, None) is not None:
            connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        connection.shutdown(socket.SHUT_RDWR)

    with rude(goes_away) as port, pytest.raises(Unavailable, match=r"5 requests were answered well, then .* lower --rate"):
        load_on(port).run_open([0.002 * each for each in range(1000)], 2.0)


@pytest.mark.parametrize("answer", [chunked, slow_head, last_answer])
def test_answers_in_chunks_in_parts_and_on_connections_that_end_are_good(answer: Callable[[socket.socket], None]) -> None:
    with rude(answer) as port:
        samples = load_on(port, 5.0).run_closed(2, 0.3)
    assert len(samples.took) > 5
    assert not samples.failed


@pytest.mark.parametrize("answer", [hang_up, garbage])
def test_a_url_of_no_model_server_is_told_in_a_sentence(answer: Callable[[socket.socket], None]) -> None:
    with rude(answer) as port:
        result = run(f"http://127.0.0.1:{port}", "m", "--clients", "1")
    assert result.exit_code == 1
    assert result.stderr.startswith("foretell: ")
