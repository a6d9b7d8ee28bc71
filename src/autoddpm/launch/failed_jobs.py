"""A job of a multirun that fails says so in its folder and does not stop the others: a Hydra
callback."""

import logging
import shutil
import uuid
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig

from autoddpm.atomic import read_json, write_json
from autoddpm.launch.refusal import RefusedError
from autoddpm.runs.folder import forget_failure, write_failure

log = logging.getLogger(__name__)


class FailedJobs(Callback):
    """In a multirun, with any launcher: failed.json, {"error": message}, in the folder of each job
    that raised, and at the end a list of them and exit code 1. The next start of that job, of a
    single run too, removes its failed.json.

    A folder that holds a finished row, metrics.json, keeps it and gets no failed.json: the row is
    good, the job is not.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Arrive in a launcher's worker process, which does not run the verb's module: do here what
        that does."""
        from autoddpm.launch.names import register_resolvers
        from autoddpm.machine.progress import quiet_lightning  # late: torch takes seconds to import

        register_resolvers()
        quiet_lightning()
        self.__dict__.update(state)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # Jobs of other processes and machines tell this one by files, here and not in one another's
        # folders.
        self.notes = Path(config.hydra.sweep.dir).absolute() / f".failed-{uuid.uuid4().hex[:8]}"

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        forget_failure(Path(config.hydra.runtime.output_dir))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        if config.hydra.mode != RunMode.MULTIRUN or job_return.status != JobStatus.FAILED:
            return
        error, folder = job_return._return_value, Path(config.hydra.runtime.output_dir)
        refused = isinstance(error, RefusedError)
        message = str(error) if refused else f"{type(error).__name__}: {error}"
        log.error("%s: failed: %s", folder, message, exc_info=None if refused else error)
        write_failure(folder, message)
        self.notes.mkdir(parents=True, exist_ok=True)
        write_json(
            self.notes / f"{config.hydra.job.num}.json", {"folder": str(folder), "error": message}
        )
        # Hydra's sweepers end at the first failure that they meet, and say nothing of the others.
        job_return.status, job_return.return_value = JobStatus.COMPLETED, None

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        notes = [
            read_json(path)
            for path in sorted(self.notes.glob("[0-9]*.json"), key=lambda path: int(path.stem))
        ]
        shutil.rmtree(self.notes, ignore_errors=True)
        if notes:
            lines = [f"  {note['folder']}: {note['error']}" for note in notes]
            raise SystemExit(
                f"{len(notes)} failed; the same command computes what is missing:\n"
                + "\n".join(lines)
            )
