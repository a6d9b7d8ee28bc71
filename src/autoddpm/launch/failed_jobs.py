"""Failed jobs of a multirun: a Hydra callback that notes them and lets the others go on."""

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
    """Writes failed.json into the folder of each job of a multirun that raised.

    Its content is {"error": message}. At the end it lists these jobs and exits with code 1. It
    works with any launcher. The next start of such a job, also as a single run, removes its
    failed.json.

    A folder that holds a finished row, metrics.json, keeps it and gets no failed.json: the row is
    good, the job is not.
    """

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Unpickle in a launcher's worker process: register resolvers and silence Lightning there.

        The worker does not import the verb's module, which does both in the first process.
        """
        from autoddpm.launch.names import register_resolvers
        from autoddpm.machine.progress import quiet_lightning  # late: torch takes seconds to import

        register_resolvers()
        quiet_lightning()
        self.__dict__.update(state)

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        # Jobs report by files, since they may run in other processes and on other machines.
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
        # Hydra's sweepers end at the first failure that they meet and do not report the others.
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
