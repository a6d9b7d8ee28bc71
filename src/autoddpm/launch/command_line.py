"""The command line of a verb: paths of any name, pasteable lines, and errors in one line."""

import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

import hydra._internal.utils as hydras
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, Quote, QuotedString, Sweep
from hydra.errors import HydraException
from omegaconf import DictConfig, ListConfig, OmegaConf

from autoddpm.home import at_home
from autoddpm.launch.reasons import reason, traceback_wanted

#: Settings whose value is a path, whatever it looks like: a folder may be called 2024_10.
PATH_KEY = re.compile(r"\+{0,2}(paths\.\w+|checkpoint|begin_from|scan|out|hydra\.(run|sweep)\.dir)")
#: What Hydra's own grammar is left to refuse: lists, mappings and functions.
GRAMMAR = re.compile(r"[\[{=].*|[a-z]+\(.*\)", re.DOTALL)
#: A path of the home folder in a list or a mapping.
IN_BRACKETS = re.compile(r"(?<=[\[{,:\s])~/[^,\]}]*")
HELP = {"-h", "--help", "--hydra-help", "--info", "--cfg", "-c"}
FLAGS_OF_SWEEPS = {"-m", "--multirun", "hydra.mode=MULTIRUN"}


def command(verb: str) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Decorate the main function of a verb that `hydra.main` has made.

    Values are read by `understood`, and an error, Hydra's own too, ends the program with one line.
    """

    def decorated(main: Callable[[], Any]) -> Callable[[], Any]:
        @wraps(main)
        def run() -> Any:
            logging.getLogger("alembic").setLevel(logging.WARNING)  # of Optuna; MONAI imports it
            sys.argv = [sys.argv[0], *understood(sys.argv[1:])]
            if traceback_wanted():
                return main()
            try:
                with _hydras_errors():
                    return main()
            except Exception as error:
                if isinstance(error, BrokenPipeError) and HELP & set(sys.argv):
                    # The reader, such as `head`, has enough. The rest goes nowhere.
                    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                    raise SystemExit(0) from error
                paths = _given_paths(sys.argv[1:])
                raise SystemExit(f"{verb}: {reason(error, paths)}") from error

        return run

    return decorated


def understood(arguments: Sequence[str]) -> list[str]:
    """Arguments as Hydra reads them: `~` is the home folder, and other paths are quoted if need be.

    A value that names an existing file or folder is that one, also if it has a comma and the
    command sweeps.

    Raises SystemExit if `~NAME` is nobody's home.
    """
    sweeps = bool(FLAGS_OF_SWEEPS & set(arguments))
    # Behind an override Hydra would not know the flag.
    flags = [one for one in arguments if one in ("-m", "--multirun")]
    return flags + [
        _override(one, sweeps) if "=" in one and one[0] not in "-~" else one
        for one in arguments
        if one not in flags
    ]


def pasteable(key: str, value: object) -> str:
    """`KEY=VALUE` for a shell's line, whatever letters the value has."""
    text = str(value)
    parsed = _parsed(text)
    if type(parsed) is not str or parsed != text or "${" in text:
        text = _quoted(text.replace("${", "\\${"))
    return shlex.quote(f"{key}={text}")


def home_expanded(config: DictConfig) -> DictConfig:
    """Expand `~` in the strings of a configuration: of yaml files and of the environment.

    Returns the configuration itself, changed.
    """
    paths = config.get("paths", {})
    for key in paths:
        if _is_of_home(value := paths[key]):
            OmegaConf.update(config, f"paths.{key}", str(at_home(value)))
    for node, key, value in list(_strings(config)):
        node._set_item_impl(key, str(at_home(value)))
    return config


def _override(argument: str, sweeps: bool) -> str:
    key, value = argument.split("=", 1)
    try:
        return f"{key}={_value(value, bool(PATH_KEY.fullmatch(key)), sweeps)}"
    except ValueError as error:
        raise SystemExit(f"{key}={error}") from error


def _value(value: str, is_path: bool, sweeps: bool) -> str:
    if "${" in value:  # OmegaConf's, not a path
        return value
    parsed = _parsed(value)
    if isinstance(parsed, QuotedString):
        return _quoted(str(at_home(parsed.text))) if _is_of_home(parsed.text) else value
    if (type(parsed) is str and parsed == value) or value.lower() in ("", "null"):
        return value
    exists = _exists(value)
    if sweeps and not exists and isinstance(parsed, Sweep):
        return value
    if sweeps and not exists and len(parts := _parts(value)) > 1:
        return ",".join(_value(part, is_path, False) for part in parts)
    if isinstance(parsed, str):  # Hydra would strip or unescape it
        return _quoted(value) if exists else value
    if parsed is None and not exists and not is_path and value[0] in "[{":
        return IN_BRACKETS.sub(lambda found: _quoted(str(at_home(found[0].strip()))), value)
    if parsed is None:
        is_path |= exists or not GRAMMAR.fullmatch(value)
    elif isinstance(parsed, Sweep):
        is_path |= exists or "/" in value
    return _quoted(str(at_home(value)) if _is_of_home(value) else value) if is_path else value


def _exists(value: str) -> bool:
    return os.path.lexists(at_home(value)) if _is_of_home(value) else os.path.lexists(value)


def _parsed(value: str) -> Any:
    """What Hydra's grammar makes of a value. None if it is none."""
    try:
        override: Override = OverridesParser.create().parse_override(f"k={value}")
    except HydraException:
        return None
    return override._value


def _quoted(text: str) -> str:
    # A shell's line is quoted by ' once more, and is easier to read with " inside.
    quote = Quote.single if '"' in text else Quote.double
    return QuotedString(text=text, quote=quote).with_quotes()


def _parts(value: str) -> list[str]:
    """The values of a sweep: separated by commas outside of quotes and brackets."""
    return re.findall(r"(?:'(?:\\.|[^'])*'|\"(?:\\.|[^\"])*\"|\[[^\]]*\]|\{[^}]*\}|[^,])+", value)


def _is_of_home(value: object) -> bool:
    return isinstance(value, str) and bool(re.match(r"~(/|$|[a-z_][\w.-]*(/|$))", value))


def _strings(node: Any) -> Iterator[tuple[Any, Any, str]]:
    """The strings of nested containers that begin with `~`, each with its container and key."""
    if node._is_none() or node._is_missing() or node._is_interpolation():
        return
    keys = node.keys() if isinstance(node, DictConfig) else range(len(node))
    for key in keys:
        child = node._get_node(key)
        if isinstance(child, DictConfig | ListConfig):
            yield from _strings(child)
        elif child is not None and _is_of_home(child._value()):
            yield node, key, child._value()


def _given_paths(arguments: Sequence[str]) -> Mapping[str, str]:
    """The folders that the command line names, and where runs lie if it does not."""
    given = dict(one.split("=", 1) for one in arguments if one.startswith("paths.") and "=" in one)
    return {"paths.runs": "runs"} | {key: value.strip("'\"") for key, value in given.items()}


@contextmanager
def _hydras_errors() -> Iterator[None]:
    """Have Hydra raise its errors, instead of printing them in its own words."""
    before = hydras.run_and_report
    hydras.run_and_report = lambda func: func()
    try:
        yield
    finally:
        hydras.run_and_report = before
