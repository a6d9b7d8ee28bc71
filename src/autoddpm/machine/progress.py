"""Progress of a training or an evaluation, with the time that is left."""

import logging
import math
import warnings
from collections.abc import Callable
from typing import Any

from lightning import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, ProgressBar, Timer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 30.0  # without a terminal
TEXT_EVERY_S = 1.0  # on a terminal: a loss that is shown must be waited for


def quiet_lightning() -> None:
    """Silence Lightning's advertisements and its notes on its own internals."""
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", message=".*LeafSpec.*")
    warnings.filterwarnings("ignore", message=".*srun.*")
    warnings.filterwarnings("ignore", message=".*does not have many workers.*")


class TimeLeft(ProgressBar):
    """One bar over the whole of training or testing, with the time left.

    Plain lines replace the bar if there is no terminal.
    """

    def __init__(self) -> None:
        super().__init__()
        self._progress: Progress | None = None
        self._lines_at = 0.0
        self._timer: Timer | None = None

    def disable(self) -> None:
        """Do nothing: Lightning calls it on the processes that show nothing, all but the first."""

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
        self._timer = next((one for one in callbacks if isinstance(one, Timer)), None)
        total = trainer.estimated_stepping_batches
        self._start("train", None if math.isinf(total) else int(total), trainer.global_step)

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        def losses() -> str:
            found = {
                name: value
                for name, value in trainer.callback_metrics.items()
                if name.startswith("train/")
            }
            # float() waits for the device.
            return "  ".join(f"{name} {float(value):.4f}" for name, value in found.items())

        self._show(trainer.global_step, losses)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(getattr(pl_module, "title", "test"), int(sum(trainer.num_test_batches)), 0)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        *_: Any,
    ) -> None:
        self._show(batch_idx + 1, lambda: "batches")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def _start(self, title: str, total: int | None, done: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal or not self.trainer.is_global_zero,
            speed_estimate_period=300,
        )
        self._task = self._progress.add_task(title, total=total, completed=done, text="")
        self._first, self._began = done, self._progress.get_time()
        self._lines_at = self._texts_at = self._began
        self._progress.start()

    def _show(self, done: int, text: Callable[[], str]) -> None:
        if not self._progress:
            return
        now, task = self._progress.get_time(), self._progress.tasks[self._task]
        self._progress.update(self._task, completed=done)
        if not self._progress.disable and now - self._texts_at >= TEXT_EVERY_S:
            self._texts_at = now
            self._progress.update(self._task, text=text())
        if (
            self._progress.disable
            and self.trainer.is_global_zero
            and now - self._lines_at >= LINE_EVERY_S
            and done > self._first
        ):
            self._lines_at = now
            left = (now - self._began) / (done - self._first) * ((task.total or math.inf) - done)
            if self._timer is not None:  # of trainer.max_time
                left = min(left, max(0.0, self._timer.time_remaining() or 0.0))
            print(
                f"{task.description} {done}/{task.total or '-'}, "
                f"{left / 60:.1f} min left  {text()}",
                flush=True,
            )

    def _stop(self) -> None:
        if self._progress:
            self._progress.stop()
            self._progress = None
