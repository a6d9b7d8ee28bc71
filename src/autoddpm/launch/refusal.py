"""Bad input ends a verb with one message, not with a page of traceback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode


class RefusedError(Exception):
    """What `refusal` raises in a multirun, where the other jobs go on: its text is the whole
    message."""


@contextmanager
def refusal(verb: str) -> Iterator[None]:
    """End the program with exit code 1 and `verb: message` as the last thing on stderr if bad input
    is met inside.

    Bad input is what raises ValueError or OSError, also where Hydra was building an object from the
    configuration.
    In a multirun only the job ends: RefusedError, see `autoddpm.launch.failed_jobs`.
    HYDRA_FULL_ERROR=1 shows the traceback instead, as for Hydra's own errors.
    """
    try:
        yield
    except (ValueError, OSError, InstantiationException) as error:
        cause: BaseException | None = error
        while isinstance(cause, InstantiationException):  # one for each level of the configuration
            cause = cause.__cause__
        if os.environ.get("HYDRA_FULL_ERROR", "0") != "0" or not isinstance(
            cause, (ValueError, OSError)
        ):
            raise
        in_multirun = HydraConfig.get().mode == RunMode.MULTIRUN
        raise (RefusedError if in_multirun else SystemExit)(f"{verb}: {cause}") from error
