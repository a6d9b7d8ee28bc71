"""Refusal of bad input: a verb ends with one message, not with a page of traceback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.types import RunMode


class RefusedError(Exception):
    """Bad input of one job of a multirun, whose other jobs go on. Its text is the whole message."""


@contextmanager
def refusal(verb: str) -> Iterator[None]:
    """End the program if bad input is met inside: exit code 1, and `verb: message` on stderr.

    Bad input is what raises ValueError or OSError, also if Hydra raises it while it builds an
    object from the configuration. In a multirun only the job ends, see
    `autoddpm.launch.failed_jobs`. HYDRA_FULL_ERROR=1 shows the traceback instead, as for Hydra's
    own errors.

    Raises RefusedError in a multirun, else SystemExit.
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
