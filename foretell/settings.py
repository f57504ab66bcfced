"""Every setting, once: this dataclass tree gives the file keys, the FORETELL_* names, the flags and docs/settings.md."""

import json
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from foretell.errors import Setup
from foretell.plugins import did_you_mean

Section = TypeVar("Section")
PREFIX = "FORETELL_"


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
        True, "Answer small infer requests straight from the parser; the answers are the same without it."
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
    workers: int = setting(0, "Chunks computed side by side; 0 takes one per core.", least=0)


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
    log: LogSettings = field(default_factory=LogSettings)


@dataclass(frozen=True)
class Key:
    """One setting as users meet it: ``http.port`` in a file's ``[http]``, ``FORETELL_HTTP_PORT``, ``--http-port``.

    ``verb`` is the command that has the flag; a ``secret`` has none, and its value is not shown.
    """

    name: str
    type: type
    default: Any
    help: str
    least: float | None = None
    most: float | None = None
    choices: tuple[str, ...] = ()
    verb: str = "serve"
    secret: bool = False

    @property
    def section(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def env(self) -> str:
        return PREFIX + self.name.replace(".", "_").upper()

    @property
    def flag(self) -> str:
        """With its section in front, but for a section that one verb has to itself."""
        name = self.name.rpartition(".")[2] if self.section == self.verb else self.name
        return "--" + name.replace(".", "-").replace("_", "-")

    @property
    def expected(self) -> str:
        """The values that are allowed, in words: ``a whole number from 0 to 65535``."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        return "a text" if self.default == "" else _TYPE_WORDS[self.type] + self.limits

    @property
    def limits(self) -> str:
        """``" from 0 to 65535"``, ``" of at least 1"``, or nothing."""
        if self.least is None or self.most is None:
            return "" if self.least is None else f" of at least {self.least:g}"
        return f" from {self.least:g} to {self.most:g}"

    @property
    def shown_default(self) -> str:
        """The default as a person reads it; bytes with their MiB or KiB."""
        if self.default == "":
            return "none"
        if self.name.endswith("_bytes") and self.default:
            size, unit = (self.default // 2**20, "MiB") if self.default % 2**20 == 0 else (self.default // 2**10, "KiB")
            return f"{self.default} = {size} {unit}"
        return (
            str(self.default).lower() if self.type is bool else f"{self.default:g}" if self.type is float else str(self.default)
        )

    def read(self, value: object, origin: str, *, text: bool = False) -> Any:
        """``value`` in this setting's type and limits; ``text`` also reads numbers and booleans written as text.

        Raises Setup ``wrong_setting``, naming setting, origin, expected and got.
        """
        import msgspec

        try:
            read: Any = msgspec.convert(value, self.type, strict=not text)
        except msgspec.ValidationError:
            raise self._refusal(value, origin) from None
        if not self._allows(read):
            raise self._refusal(value, origin)
        return read

    def _allows(self, value: Any) -> bool:
        if isinstance(value, str):
            return value in self.choices if self.choices else bool(value.strip()) or value == self.default
        if isinstance(value, float) and not math.isfinite(value):
            return False
        return (self.least is None or value >= self.least) and (self.most is None or value <= self.most)

    def _refusal(self, got: object, origin: str) -> Setup:
        shown = "something else" if self.secret else repr(got)[:80]
        message = f"setting {self.name} takes {self.expected}, but {origin} says {shown}"
        return Setup("wrong_setting", message, setting=self.name, origin=origin, expected=self.expected, got=shown)


_TYPE_WORDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text that is not empty",
}

_SERVICE_LINK = re.compile(r"\w*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")


def walk(tree: type = Settings, prefix: str = "", verb: str = "serve") -> Iterator[Key]:
    """Every setting of a dataclass tree, in the order of the source."""
    for item in fields(tree):
        name, meta, kind = prefix + item.name, item.metadata, item.type
        assert isinstance(kind, type)
        if is_dataclass(kind):
            yield from walk(kind, f"{name}.", meta.get("verb", verb))
        else:
            limits = {limit: meta[limit] for limit in ("least", "most", "choices", "secret")}
            yield Key(name, kind, item.default, meta["help"], verb=verb, **limits)


def load_settings(
    file: Path | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, object] | None = None
) -> tuple[Settings, dict[str, str]]:
    """The settings, and for each key where its value comes from: flags win over FORETELL_*, the file, the defaults.

    ``flags`` has dotted keys (``http.port``); None is a flag that was not given. A value that something stronger replaces
    is checked all the same. Raises Setup: ``missing_file``, ``unknown_setting`` or ``wrong_setting``.
    """
    keys = {key.name: key for key in walk()}
    values: dict[str, object] = {name: key.default for name, key in keys.items()}
    origins = dict.fromkeys(keys, "default")
    for layer in (_from_file(keys, file), _from_environ(keys, environ or {}), _from_flags(keys, flags or {})):
        for name, value, origin in layer:
            values[name], origins[name] = value, origin
    return _build(Settings, values), origins


def override(part: Section, changes: Mapping[str, object], where: str) -> Section:
    """One section of the settings with some values replaced, as by a model's ``[engine]`` table.

    ``where`` names the source for the refusal. Raises Setup ``unknown_setting`` or ``wrong_setting``.
    """
    keys = {key.name: key for key in walk(type(part))}
    for name in changes:
        if name not in keys:
            raise _unknown(name, keys, where)
    read = {name: keys[name].read(value, where) for name, value in changes.items()}
    return replace(part, **read)  # type: ignore[type-var]  # every section is a dataclass


def write_toml(settings: Settings, origins: Mapping[str, str]) -> str:
    """Every setting, with where its value comes from as a comment: a file that ``load_settings`` reads again."""
    lines, section = [], ""
    for key in walk():
        if key.section != section:
            section = key.section
            lines += ["", f"[{section}]"]
        name = key.name.rpartition(".")[2]
        value = json.dumps(getattr(getattr(settings, section) if section else settings, name))
        origin = origins[key.name] if origins[key.name].isprintable() else repr(origins[key.name])
        is_hidden = key.secret and value != '""'
        lines.append(f"# {name} is set, and not shown: {origin}" if is_hidden else f"{f'{name} = {value}':<40} # {origin}")
    return "\n".join(lines)


def _from_file(keys: Mapping[str, Key], file: Path | None) -> Iterator[tuple[str, Any, str]]:
    if file is None:
        return
    for name, value in _flatten(_read_toml(file), {key.section for key in keys.values()} - {""}, file):
        if name not in keys:
            raise _unknown(name, keys, str(file))
        yield name, keys[name].read(value, str(file)), str(file)


def _from_environ(keys: Mapping[str, Key], environ: Mapping[str, str]) -> Iterator[tuple[str, Any, str]]:
    by_env = {key.env: key for key in keys.values()}
    for env in sorted(environ):
        if not env.startswith(PREFIX) or _is_service_link(env, environ[env]):
            continue
        if env not in by_env:
            raise _unknown(env, by_env, "the environment")
        yield by_env[env].name, by_env[env].read(environ[env], env, text=True), env


def _from_flags(keys: Mapping[str, Key], flags: Mapping[str, object]) -> Iterator[tuple[str, Any, str]]:
    for name, value in flags.items():
        if name not in keys or keys[name].secret:
            raise _unknown(name, keys, "the command line")
        if value is not None:
            yield name, keys[name].read(value, keys[name].flag, text=True), keys[name].flag


def _is_service_link(env: str, value: str) -> bool:
    """Kubernetes puts variables of this form into every pod beside a Service whose name starts with ``foretell``."""
    is_address = value.startswith(("tcp://", "udp://", "sctp://"))
    return bool(_SERVICE_LINK.fullmatch(env)) or (env.endswith("_PORT") and is_address)


def _read_toml(file: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Setup("missing_file", f"the settings file {file} cannot be read ({error.strerror}): correct --config") from error
    except (ValueError, RecursionError) as error:  # not TOML, or not UTF-8
        raise Setup("wrong_setting", f"the settings file {file} is not valid TOML: {error}") from error


def _flatten(tables: Mapping[str, Any], sections: set[str], file: Path) -> Iterator[tuple[str, Any]]:
    """Each value with its dotted name. A table that is no section is yielded too, so that its name is refused."""
    for name, value in tables.items():
        if isinstance(value, dict) and (value or name in sections):
            yield from ((f"{name}.{key}", inner) for key, inner in value.items())
        elif name in sections:
            raise Setup("wrong_setting", f"{file} gives {name} a value, but it is a section: write its settings below [{name}]")
        else:
            yield name, value


def _unknown(name: str, known: Mapping[str, object], where: str) -> Setup:
    words = set(re.split("[_.]", name))
    longer = [each for each in known if words <= set(re.split("[_.]", each))]
    near = f": did you mean {' or '.join(map(repr, longer))}?" if 0 < len(longer) < 4 else did_you_mean(name, known)
    return Setup("unknown_setting", f"there is no setting {name!r} ({where}){near}", setting=name)


def _build(tree: type[Section], values: Mapping[str, object], prefix: str = "") -> Section:
    parts = {
        item.name: _build(item.type, values, f"{prefix}{item.name}.") if is_dataclass(item.type) else values[prefix + item.name]  # type: ignore[arg-type]
        for item in fields(tree)  # type: ignore[arg-type]
    }
    return tree(**parts)
