"""Every setting, once: this dataclass tree gives the file keys, the FORETELL_* names, the flags and docs/settings.md."""

from dataclasses import dataclass, field
from typing import Any


def setting(default: Any, text: str, *, least: float | None = None, most: float | None = None, choices: tuple[str, ...] = ()) -> Any:
    """A dataclass field with its default, its sentence for the docs and ``--help``, and its limits."""
    return field(default=default, metadata={"help": text, "least": least, "most": most, "choices": choices})


@dataclass(frozen=True)
class HttpSettings:
    """The HTTP door."""

    port: int = setting(8000, "Port to listen on; 0 takes a free one and prints it.", least=0, most=65535)
    max_request_bytes: int = setting(64 * 2**20, "Largest request body in bytes.", least=1)
    max_header_bytes: int = setting(64 * 2**10, "Largest total of a request's headers in bytes.", least=1024)
    keep_alive_s: float = setting(75.0, "Seconds an idle connection is kept open.", least=0)
    fast_lane: bool = setting(True, "Answer small infer requests straight from the parser; the answers are the same without it.")


@dataclass(frozen=True)
class EngineSettings:
    """Batching and queues, for each model; a model's pipeline.toml may override them in its own ``[engine]``."""

    max_batch_rows: int = setting(64, "Most rows in one call of the model.", least=1)
    max_wait_s: float = setting(0.0, "Longest time a request waits for others to share a batch; 0: only while the model is busy.", least=0, most=10)
    queue_rows: int = setting(4096, "Most rows that wait; more are refused with 429.", least=1)
    queue_bytes: int = setting(512 * 2**20, "Most bytes of inputs that wait; more are refused with 429.", least=1)
    inline_below_us: float = setting(200.0, "A model whose forward of one row takes less runs in the event loop, else in a thread.", least=0)
    threads: int = setting(1, "Threads of the runtime inside one forward; 0 takes all that the process may use.", least=0)


@dataclass(frozen=True)
class TimeoutSettings:
    """The longest that things may take, in seconds."""

    load_s: float = setting(300.0, "Loading and warming one model.", least=0.001)
    total_s: float = setting(30.0, "One request, from its last byte to its answer; a client may ask for less.", least=0.001)
    shutdown_s: float = setting(25.0, "Finishing what is in flight after SIGTERM.", least=0)
    drain_grace_s: float = setting(5.0, "Going on to accept after SIGTERM while balancers notice.", least=0)


@dataclass(frozen=True)
class PredictSettings:
    """``foretell predict``."""

    batch_rows: int = setting(8192, "Rows read, computed and written at a time.", least=1)
    workers: int = setting(0, "Chunks computed side by side; 0 takes one per core.", least=0)


@dataclass(frozen=True)
class LogSettings:
    """The log, on standard error."""

    level: str = setting("info", "Least severe line that is logged.", choices=("debug", "info", "warning", "error"))


@dataclass(frozen=True)
class Settings:
    """The whole tree."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 opens the server to the network.")
    http: HttpSettings = field(default_factory=HttpSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    predict: PredictSettings = field(default_factory=PredictSettings)
    log: LogSettings = field(default_factory=LogSettings)
