"""What the fuzz tests share: how much is tried, damage to files, and the one property of a reader.

`AUTODDPM_FUZZ=50` tries 50 times as much, with other random numbers at each call.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

TIMES = int(os.environ.get("AUTODDPM_FUZZ", "1"))
Result = TypeVar("Result")


def examples(number: int) -> settings:
    """So many examples; the same at each call, unless more are asked for."""
    return settings(
        max_examples=number * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )


def or_refused(read: Callable[[], Result], *paths: Path) -> Result | None:
    """What a reader gives. None if it refuses, with an error of the house that names a file."""
    try:
        return read()
    except (ValueError, OSError) as error:
        if not any(str(path) in str(error) for path in paths):
            raise AssertionError(f"names no file: {error!r}") from error
    return None


@st.composite
def damage(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Nothing, a cut at any byte, or other bytes in any place, more often near the beginning."""
    kind = draw(st.sampled_from(["none", "cut", "bytes", "header"]))
    at, value = draw(st.floats(0, 1, exclude_max=True)), draw(st.binary(min_size=1, max_size=4))

    def damaged(content: bytes) -> bytes:
        place = int(at * (min(len(content), 352) if kind == "header" else len(content)))
        if kind == "none":
            return content
        if kind == "cut":
            return content[:place]
        return content[:place] + value + content[place + len(value) :]

    return damaged


def any_json(*leaves: Any) -> st.SearchStrategy[Any]:
    """Any value that JSON can hold, and its extremes."""
    plain = st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.floats(),
        st.text(max_size=4),
        st.sampled_from([*leaves, 10**400, -1, 0, "", [], {}]),
    )
    return st.recursive(
        plain,
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=4,
    )


def places(tree: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths to every value in nested containers, the whole among them."""
    inner = (
        tree.items()
        if isinstance(tree, dict)
        else enumerate(tree)
        if isinstance(tree, list)
        else ()
    )
    return [at, *(place for key, value in inner for place in places(value, (*at, key)))]


def replaced(tree: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of nested containers with another value in one place."""
    if not place:
        return value
    copy = list(tree) if isinstance(tree, list) else dict(tree)
    copy[place[0]] = replaced(tree[place[0]], place[1:], value)
    return copy
