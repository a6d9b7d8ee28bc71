"""Refusal of bad input: a verb ends with one message, not with a page of traceback."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode

from autoddpm.launch.known_keys import refuse_added_settings
from autoddpm.launch.reasons import known_reason, reason, traceback_wanted


class RefusedError(Exception):
    """Bad input of one job of a multirun, whose other jobs go on. Its text is the whole message."""


@contextmanager
def refusal(verb: str, paths: Mapping[str, object] | None = None) -> Iterator[None]:
    """End the program if bad input is met inside: exit code 1, and `verb: message` on stderr.

    Settings that the command line adds and nothing reads are refused first.

    Bad input is what raises ValueError or OSError, and what a library refuses in a way that
    `known_reason` knows. In a multirun only the job ends, see `autoddpm.launch.failed_jobs`.
    HYDRA_FULL_ERROR=1 shows the traceback instead, as for Hydra's own errors.

    paths: of the configuration, so that a message names the setting of a folder.

    Raises RefusedError in a multirun, else SystemExit.
    """
    try:
        refuse_added_settings()
        yield
    except Exception as error:
        named = {f"paths.{key}": str(value) for key, value in (paths or {}).items() if value}
        in_multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        # An error that is not known is logged with its traceback by a multirun.
        said = known_reason(error, named) if in_multirun else reason(error, named)
        if traceback_wanted() or said is None:
            raise
        raise (RefusedError if in_multirun else SystemExit)(f"{verb}: {said}") from error
