"""Settings of an object, as they were given to its constructor: the record of a result."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

PLAIN = (bool, int, float, str)


def is_plain(value: Any) -> bool:
    """Whether a setting is recorded as it is: a plain value, or a sequence of plain values."""
    if isinstance(value, PLAIN):
        return True
    return isinstance(value, Sequence) and all(isinstance(one, PLAIN) for one in value)


def describe(thing: Any) -> dict[str, Any]:
    """Name and plain settings of a detector or of a part of one, which tell two results apart.

    A sequence of plain values is recorded as a list, as JSON has it.

    Raises ValueError as `arguments`.
    """
    if inspect.isfunction(thing) or hasattr(thing, "func"):
        return {"name": getattr(thing, "func", thing).__name__, **getattr(thing, "keywords", {})}
    settings = arguments(thing)
    plain = {
        name: value if isinstance(value, PLAIN) else list(value)
        for name, value in settings.items()
        if is_plain(value)
    }
    return {"name": type(thing).__name__, **plain}


def arguments(thing: object) -> dict[str, Any]:
    """The values of the arguments that an object was made with, by name.

    Raises ValueError if an object does not keep an argument of its constructor as an attribute of
    the same name. Raises it too if a setting is a mapping, or a sequence of what is not plain.
    """
    names = inspect.signature(type(thing)).parameters
    if lost := [name for name in names if not hasattr(thing, name)]:
        raise ValueError(
            f"{type(thing).__name__} must keep its setting {lost[0]} as an attribute: two results "
            "that differ in it would pass for the same"
        )
    found = {name: getattr(thing, name) for name in names}
    for name, value in found.items():
        if isinstance(value, (Sequence, Mapping)) and not is_plain(value):
            raise ValueError(
                f"{type(thing).__name__}: its setting {name} is a {type(value).__name__}, which "
                "no record holds; a setting is a number, a text, a list of these, or an object "
                "with such settings"
            )
    return found


def lacking(thing: object, interface: type) -> list[str]:
    """Names that a protocol promises and an object does not have."""
    promised = {*interface.__annotations__, *vars(interface)}
    return sorted(
        name for name in promised if not name.startswith("_") and not hasattr(thing, name)
    )
