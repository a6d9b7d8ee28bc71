"""Bad input ends a verb with one message, not with a page of traceback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.errors import InstantiationException


@contextmanager
def refusal(verb: str) -> Iterator[None]:
    """End the program with exit code 1 and `verb: message` as the last thing on stderr if bad input is met inside.

    Bad input is what raises ValueError or OSError, also where Hydra was building an object from the configuration.
    HYDRA_FULL_ERROR=1 shows the traceback instead, as for Hydra's own errors.
    """
    try:
        yield
    except (ValueError, OSError, InstantiationException) as error:
        cause: BaseException | None = error
        while isinstance(cause, InstantiationException):  # one for each level of the configuration
            cause = cause.__cause__
        if os.environ.get("HYDRA_FULL_ERROR", "0") != "0" or not isinstance(cause, (ValueError, OSError)):
            raise
        raise SystemExit(f"{verb}: {cause}") from error
