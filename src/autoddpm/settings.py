"""Settings of an object, as they were given to its constructor: the record of a result."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

PLAIN = (bool, int, float, str)


def describe(thing: Any) -> dict[str, Any]:
    """Name and plain settings of a detector or of a part of one, which tell two results apart.

    Raises ValueError if an object does not keep an argument of its constructor as an attribute of
    the same name.
    """
    if inspect.isfunction(thing) or hasattr(thing, "func"):
        return {"name": getattr(thing, "func", thing).__name__, **getattr(thing, "keywords", {})}
    settings = arguments(thing)
    plain = {name: value for name, value in settings.items() if isinstance(value, PLAIN)}
    return {"name": type(thing).__name__, **plain}


def arguments(thing: object) -> dict[str, Any]:
    """The values of the arguments that an object was made with, by name.

    Raises ValueError as `describe`, and if a setting is a list or a mapping.
    """
    names = inspect.signature(type(thing)).parameters
    if lost := [name for name in names if not hasattr(thing, name)]:
        raise ValueError(
            f"{type(thing).__name__} must keep its setting {lost[0]} as an attribute: two results "
            "that differ in it would pass for the same"
        )
    found = {name: getattr(thing, name) for name in names}
    for name, value in found.items():
        if isinstance(value, (Sequence, Mapping)) and not isinstance(value, str):
            raise ValueError(
                f"{type(thing).__name__}: its setting {name} is a {type(value).__name__}, which "
                "no record holds; a setting is a number, a text, or an object with such settings"
            )
    return found


def lacking(thing: object, interface: type) -> list[str]:
    """Names that a protocol promises and an object does not have."""
    promised = {*interface.__annotations__, *vars(interface)}
    return sorted(
        name for name in promised if not name.startswith("_") and not hasattr(thing, name)
    )
