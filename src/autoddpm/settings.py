"""Settings of an object, as they were given to its constructor: the record of a result."""

import inspect
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

    Raises ValueError as `describe`.
    """
    names = inspect.signature(type(thing)).parameters
    if lost := [name for name in names if not hasattr(thing, name)]:
        raise ValueError(
            f"{type(thing).__name__} must keep its setting {lost[0]} as an attribute: two results "
            "that differ in it would pass for the same"
        )
    return {name: getattr(thing, name) for name in names}
