"""Every setting, once: this dataclass tree gives the file keys, the FORETELL_* names, the flags and docs/settings.md."""

from dataclasses import dataclass, field
from typing import Any


def setting(
    default: Any,
    text: str,
    *,
    least: float | None = None,
    most: float | None = None,
    choices: tuple[str, ...] = (),
    secret: bool = False,
) -> Any:
    """A dataclass field with its default, its sentence for the docs and ``--help``, and its limits.

    A ``secret`` has no flag, since other users of a machine see command lines, and is never shown.
    """
    limits = {"least": least, "most": most, "choices": choices, "secret": secret}
    return field(default=default, repr=not secret, metadata={"help": text, **limits})


@dataclass(frozen=True)
class HttpSettings:
    """The HTTP door."""

    port: int = setting(8000, "Port to listen on; 0 takes a free one and prints it.", least=0, most=65535)
    max_request_bytes: int = setting(64 * 2**20, "Largest request body in bytes.", least=1)
    max_header_bytes: int = setting(64 * 2**10, "Largest total of a request's headers in bytes.", least=1024)
    compress_above_bytes: int = setting(
        64 * 2**10, "Larger answers are compressed for a client that accepts gzip or deflate.", least=0
    )
    keep_alive_s: float = setting(75.0, "Seconds an idle connection is kept open.", least=0)
    fast_lane: bool = setting(
        True, "Answer small JSON and binary tensors straight from the parser; the answers are the same without it."
    )
    caller_header: str = setting(
        "", "Header that names the caller, set by a proxy that is trusted; without one a caller is its address."
    )


@dataclass(frozen=True)
class GrpcSettings:
    """The gRPC door. Its largest message is `http.max_request_bytes`, its largest metadata `http.max_header_bytes`."""

    port: int = setting(-1, "Port to listen on; 0 takes a free one and prints it, -1 leaves gRPC off.", least=-1, most=65535)


@dataclass(frozen=True)
class AdminSettings:
    """Administration over the network: loading and unloading models."""

    key: str = setting(
        "", "Key that callers send as `authorization: Bearer KEY`; without one, administration is off.", secret=True
    )


@dataclass(frozen=True)
class EngineSettings:
    """Batching and queues, for each model; a model's pipeline.toml may override them in its own ``[engine]``."""

    max_batch_rows: int = setting(64, "Most rows in one call of the model.", least=1)
    max_wait_s: float = setting(
        0.0, "Longest time a request waits for others to share a batch; 0: only while the model is busy.", least=0, most=10
    )
    queue_rows: int = setting(4096, "Most rows that wait; more are refused with 429.", least=1)
    queue_bytes: int = setting(512 * 2**20, "Most bytes of inputs that wait; more are refused with 429.", least=1)
    inline_below_us: float = setting(
        200.0, "A model whose forward of one row takes less runs in the event loop, else in a thread.", least=0
    )
    threads: int = setting(
        1, "Threads of the runtime inside one forward; 0 takes an equal share of the CPUs for each worker.", least=0
    )
    queue_timeout_s: float = setting(0.0, "Longest time in the queue; 0: as long as the request may take in all.", least=0)
    execute_timeout_s: float = setting(0.0, "Longest time in the model; 0: as long as the request may take in all.", least=0)
    urgent: bool = setting(False, "Let callers ask to be first, with priority 1; anybody may ask to be last, with 3.")
    share_duplicates: bool = setting(False, "Compute requests with the same inputs, in flight at the same time, once.")
    cache_bytes: int = setting(0, "Bytes of answers that are kept to be given again for the same inputs; 0: none.", least=0)
    isolation: str = setting(
        "none", "Where the model lives: in the server, or in a process of its own.", choices=("none", "process")
    )


@dataclass(frozen=True)
class TimeoutSettings:
    """The longest that things may take, in seconds."""

    load_s: float = setting(300.0, "Loading and warming one model.", least=0.001)
    total_s: float = setting(30.0, "One request, from its last byte to its answer; a client may ask for less.", least=0.001)
    receive_s: float = setting(
        30.0,
        "A pause of a client: while it sends a body or reads an answer; and the headers of a request, whole.",
        least=0.001,
    )
    shutdown_s: float = setting(25.0, "Finishing what is in flight after SIGTERM.", least=0)
    drain_grace_s: float = setting(5.0, "Going on to accept after SIGTERM while balancers notice.", least=0)


@dataclass(frozen=True)
class SupervisorSettings:
    """The supervisor of the worker processes."""

    hang_s: float = setting(30.0, "A worker that gives no sign of life for so long is killed and replaced.", least=1)
    max_crashes: int = setting(5, "Crashes of one worker within a minute after which it is given up: FAILED.", least=1)
    max_requests: int = setting(0, "Requests after which a worker is replaced; 0: never.", least=0)
    max_rss_bytes: int = setting(0, "Memory above which a worker is replaced; 0: never.", least=0)


@dataclass(frozen=True)
class RepositorySettings:
    """Which models are loaded, and when."""

    load: str = setting("*", "Models to load at the start, with commas between; * is all of them, none is none.")
    poll_s: float = setting(0.0, "Look so often for models that came, changed or went; 0: only when told to.", least=0)
    memory_bytes: int = setting(
        0, "Memory of all models above which the one not used for longest is taken out; 0: no limit.", least=0
    )


@dataclass(frozen=True)
class PredictSettings:
    """``foretell predict``."""

    batch_rows: int = setting(8192, "Most rows read, computed and written at a time; fewer where rows are large.", least=1)
    workers: int = setting(0, "Shards answered side by side; 0 takes one per core.", least=0)
    shard_rows: int = setting(0, "Most rows of a shard, which is committed at once; 0: as many as take some seconds.", least=0)
    max_errors: int = setting(-1, "Rows that may fail before the run stops; -1: any number.", least=-1)
    sample_rate_hz: int = setting(16_000, "Samples a second to which sounds are brought for a model that takes them.", least=1)
    row_timeout_s: float = setting(0.0, "Longest time for one row, which is set aside after it; 0: any time.", least=0)
    retries: int = setting(3, "Tries after the first for what may pass: a model or a store that does not answer.", least=0)
    price_per_hour: float = setting(0.0, "What an hour of this machine costs, for the report; 0: not known.", least=0)
    watts: float = setting(0.0, "What this machine draws at work, if it does not count energy itself; 0: not known.", least=0)


@dataclass(frozen=True)
class JobSettings:
    """Durable work: asynchronous requests, and jobs over files. Without a folder or a database to keep them, it is off."""

    state_folder: str = setting("", "Folder that keeps jobs and their results, on a local disk; it is made if it is not there.")
    database: str = setting("", "Database that keeps them instead: postgresql://HOST/NAME or redis://HOST/NUMBER.", secret=True)
    keep_s: float = setting(86400.0, "How long the result of a job is kept after its end.", least=1)
    max_stored_bytes: int = setting(
        16 * 2**20, "Largest request, and largest answer, that is kept; larger requests are refused with 413.", least=1024
    )
    waiting: int = setting(10_000, "Most jobs that wait; more are refused with 429.", least=1)
    least_free_bytes: int = setting(
        256 * 2**20, "Room that is left on the disk of the state folder: with less, no more jobs are taken.", least=0
    )
    requests_at_once: int = setting(16, "Asynchronous requests that one worker answers at a time.", least=1, most=1024)
    files_at_once: int = setting(1, "Jobs over files that one worker runs at a time, each in a process of its own.", least=0)
    attempts: int = setting(3, "How often a job is begun, before one that ends its worker each time is given up.", least=1)
    lease_s: float = setting(15.0, "A worker that gives no sign of life for so long loses its jobs to another.", least=0.5)
    poll_s: float = setting(0.5, "How often a worker looks for jobs that others left.", least=0.01)
    paths: str = setting(
        "", "Folders and bucket prefixes that jobs over files may read and write, with commas between; none: refused."
    )
    schedules: str = setting(
        "", "TOML file of schedules, which make jobs over files by the clock or for files that come; none: no schedules."
    )
    webhook_hosts: str = setting(
        "", "Hosts that may be told of the end of a job, as HOST or HOST:PORT, with commas between; none: refused."
    )
    webhook_secret: str = setting("", "What webhooks are signed with: whsec_ and 24 to 64 bytes in base64.", secret=True)


@dataclass(frozen=True)
class LogSettings:
    """The log, on standard error."""

    level: str = setting("info", "Least severe line that is logged.", choices=("debug", "info", "warning", "error"))
    format: str = setting("text", "Lines for people, or one JSON object a line.", choices=("text", "json"))
    requests: bool = setting(False, "Log a line for every request.")


@dataclass(frozen=True)
class Settings:
    """The whole tree."""

    host: str = setting("127.0.0.1", "Address to listen on; 0.0.0.0 opens the server to the network.")
    workers: int = setting(
        1, "Worker processes, each with all models; 0: serve from this process, with none to replace it.", least=0, most=256
    )
    http: HttpSettings = field(default_factory=HttpSettings)
    grpc: GrpcSettings = field(default_factory=GrpcSettings)
    admin: AdminSettings = field(default_factory=AdminSettings)
    engine: EngineSettings = field(default_factory=EngineSettings)
    timeouts: TimeoutSettings = field(default_factory=TimeoutSettings)
    supervisor: SupervisorSettings = field(default_factory=SupervisorSettings)
    repository: RepositorySettings = field(default_factory=RepositorySettings)
    predict: PredictSettings = field(default_factory=PredictSettings, metadata={"verb": "predict"})
    jobs: JobSettings = field(default_factory=JobSettings)
    log: LogSettings = field(default_factory=LogSettings)
