"""Settings from their sources: argv wins over the environment, that over the file, that over the defaults."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from relay.discovery.files import read_regular
from relay.primitives.errors import UsageError
from relay.settings.model import Settings
from relay.settings.options import BY_TOML_KEY, OPTIONS, Option

CONFIG_NAME: Final = "pyrelay.toml"
MAX_CONFIG: Final = 1 << 20  # bytes
_PREFIX: Final = "PYRELAY_"
_TESTS: Final = "PYRELAY_TEST_"  # set for the test suite, not for the daemon
# Kubernetes tells every pod of a Service called pyrelay: PYRELAY_SERVICE_HOST=..., PYRELAY_PORT=tcp://...
_SERVICE_LINK: Final = re.compile(
    r"PYRELAY_(.+_)?(SERVICE_(HOST|PORT(_.+)?)|PORT_\d+_(TCP|UDP|SCTP)(_.+)?)=.*"
    r"|PYRELAY_(.+_)?PORT=(tcp|udp|sctp)://.*"
)


def environment() -> Mapping[str, str]:
    """The process's environment: the one place that reads it."""
    return os.environ


def load_settings(argv: Mapping[str, str], env: Mapping[str, str] | None = None) -> Settings:
    """Merge all sources into Settings.

    Args:
        argv: option name to its text, as given on the command line.
        env: environment variables; the process's own by default.

    Raises:
        UsageError: a value, key or file that is wrong; the text names its source and what is expected.
    """
    env = environment() if env is None else env
    given: dict[str, Any] = {}
    from_env = _from_environment(env)
    from_argv = {
        name: _parse(option, argv[name], f"--{name}") for option in OPTIONS if (name := option.name) in argv
    }
    first = {**from_env, **from_argv}
    datadir = _datadir(first, env)
    config, required = _config_path(first, datadir)
    given.update(_from_file(config, required=required))
    given.update(first)
    if "datadir" not in first and "datadir" in given:
        datadir = given["datadir"]
    values = {option.attribute: _default(option) for option in OPTIONS}
    values.update({option.attribute: given[option.name] for option in OPTIONS if option.name in given})
    values["datadir"] = datadir.absolute()
    values["config"] = config if config.exists() else None
    return Settings(**values)


def default_datadir(env: Mapping[str, str]) -> Path:
    """The XDG data folder's /pyrelay."""
    base = env.get("XDG_DATA_HOME", "")
    if base.startswith("/"):
        return Path(base) / "pyrelay"
    try:
        return Path.home() / ".local" / "share" / "pyrelay"
    except RuntimeError:
        raise UsageError("no home folder is known for the data: give --datadir DIR") from None


def _datadir(first: Mapping[str, Any], env: Mapping[str, str]) -> Path:
    found = first.get("datadir")
    return found if isinstance(found, Path) else default_datadir(env)


def _config_path(first: Mapping[str, Any], datadir: Path) -> tuple[Path, bool]:
    given = first.get("config")
    return (given, True) if isinstance(given, Path) else (datadir / CONFIG_NAME, False)


def _from_environment(env: Mapping[str, str]) -> dict[str, Any]:
    known = {option.variable: option for option in OPTIONS}
    found = {}
    for variable, text in env.items():
        if not variable.startswith(_PREFIX) or variable.startswith(_TESTS):
            continue
        if _SERVICE_LINK.fullmatch(f"{variable}={text}"):
            continue
        option = known.get(variable)
        if option is None:
            raise UsageError(f"{variable}: no such setting{_suggestion(variable, list(known))}")
        found[option.name] = _parse(option, text, variable)
    return found


def _from_file(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        content = read_regular(path, MAX_CONFIG + 1)
    except (FileNotFoundError, NotADirectoryError):  # a data folder that is none is told of when it is used
        if required:
            raise UsageError(f"--config {path}: there is no such file") from None
        return {}
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    if len(content) > MAX_CONFIG:
        raise UsageError(f"{path}: larger than {MAX_CONFIG} bytes, so no configuration of pyrelay")
    try:
        document = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text: {error.reason} at byte {error.start}") from None
    except (ValueError, RecursionError) as error:  # TOMLDecodeError; numbers of thousands of digits
        raise UsageError(f"{path}: not TOML: {error}") from None
    return _from_document(document, path)


def _from_document(document: Mapping[str, Any], path: Path) -> dict[str, Any]:
    found = {}
    for key, value in _flatten(document):
        option = BY_TOML_KEY.get(key)
        if option is None or option.name == "config":
            raise UsageError(f"{path}: {key}: no such setting{_suggestion(key, list(BY_TOML_KEY))}")
        where = f"{path}: {key}"
        found[option.name] = _parse(option, _text_of(option, value, where), where)
    return found


def _flatten(document: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in document.items():
        if isinstance(value, dict):
            found += _flatten(value, f"{prefix}{key}.")
        else:
            found.append((prefix + key, value))
    return found


def _text_of(option: Option, value: Any, where: str) -> str:  # noqa: ANN401 - whatever TOML holds
    """Bring a value of TOML to the form that flags have; a text is that form for every option."""
    if isinstance(value, str):
        return value
    if option.is_switch and isinstance(value, bool):
        return "true" if value else "false"
    if option.is_number and type(value) is int:
        return str(value)
    if option.is_list and isinstance(value, list) and all(type(each) in (str, int) for each in value):
        return ",".join(str(each) for each in value)
    raise UsageError(f"{where}: expected {_expected(option)}")


def _expected(option: Option) -> str:
    if option.is_switch:
        return "true or false"
    if option.is_number:
        return "a whole number"
    return 'an array, such as ["a", "b"]' if option.is_list else 'a text: "..."'


def _parse(option: Option, text: str, where: str) -> Any:  # noqa: ANN401 - the option's own type
    try:
        return option.parse(text)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from None


def _default(option: Option) -> Any:  # noqa: ANN401 - the option's own type
    return None if option.default is None else option.parse(option.default)


def _suggestion(word: str, known: list[str]) -> str:
    switch = [f"{word}.enabled"] if f"{word}.enabled" in known else []  # the table's own switch, as in [http]
    close = switch or difflib.get_close_matches(word, known, n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""
