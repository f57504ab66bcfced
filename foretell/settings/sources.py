"""The settings from all their sources: flags win over the environment, a file, the defaults."""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from foretell.errors import Setup
from foretell.plugins import did_you_mean
from foretell.settings.keys import PREFIX, Key, walk
from foretell.settings.tree import Settings

Section = TypeVar("Section")
_SERVICE_LINK = re.compile(r"\w*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)")


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
