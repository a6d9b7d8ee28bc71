"""The one LightningDataModule, for every data set."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from autoddpm.data.checks import check_healthy, check_records, check_separate, first_few
from autoddpm.data.integrity import leaks_between
from autoddpm.data.order import EvaluationOrder, Rows, TrainingOrder
from autoddpm.data.preprocess import VERSION
from autoddpm.data.sample import Batch, SliceRecord
from autoddpm.data.store import COLUMNS, Store, prepare_store

log = logging.getLogger(__name__)

Source = Callable[[], list[SliceRecord] | Store]
Role = Literal["train", "calibrate", "test"]

#: Which split of its sources a role uses.
SPLIT_OF: dict[Role, str] = {"train": "train", "calibrate": "val", "test": "test"}


class SliceDataset(Dataset[Batch]):
    """Slices of several stores, sorted by id; `dataset[rows, epochs]` is a whole Batch."""

    def __init__(self, stores: Sequence[Store], split: str, size: int) -> None:
        parts = [
            store.index[store.index["split"] == split].assign(store=i)
            for i, store in enumerate(stores)
        ]
        table = (
            pd.concat(parts).reset_index(names="row")
            if parts
            else pd.DataFrame(columns=[*COLUMNS, "store", "row"])
        )
        table = table.sort_values("id", ignore_index=True)
        self.stores, self.size = stores, size
        self.where = list(zip(table["store"].tolist(), table["row"].tolist(), strict=True))
        self.index = table[list(COLUMNS)]

    def __len__(self) -> int:
        return len(self.where)

    def images(self) -> NDArray[np.float32]:
        """All images, (N, size, size)."""
        if not self.where:
            return np.empty((0, self.size, self.size), np.float32)
        return np.stack([self.stores[store].images[at] for store, at in self.where])

    def __getitem__(self, rows_and_epochs: Rows) -> Batch:
        rows, epochs = rows_and_epochs
        image = torch.empty(len(rows), 1, self.size, self.size)
        lesion = torch.empty(len(rows), 1, self.size, self.size, dtype=torch.bool)
        for i, row in enumerate(rows):
            store, at = self.where[row]
            image[i, 0] = torch.from_numpy(self.stores[store].images[at].copy())
            lesion[i, 0] = torch.from_numpy(self.stores[store].lesions[at].copy())
        return Batch(
            image, lesion, self.index["id"].iloc[list(rows)].tolist(), torch.tensor(epochs)
        )


class SliceLoader(DataLoader[Batch]):
    """A loader whose place is a function of the trainer's progress: Lightning is told that there is
    nothing to save."""

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None: ...


class SliceDataModule(LightningDataModule):
    """Healthy slices to train on and to calibrate thresholds on, and slices to test on, from any
    sources.

    sources: functions that list a data set's slices, or open a store of them, by name; only those
        that a role names are called.
    train, calibrate, test: which sources are used for it: of them the slices of split train, val
        and test. Training and calibration slices must be healthy (at most one lesion pixel), and
        nobody may be in two of the three.
    size: pixels a side.  prepared: the folder of the prepared stores.
    batch_size: training slices a process and step.  eval_batch_size: slices a process when
        evaluating.
    seed: of the training order.  allow_leaks: only warn of nearly identical slices under two names
        in two roles.

    `Trainer` must be made with `use_distributed_sampler=False`.
    """

    allow_zero_length_dataloader_with_multiple_devices = (
        True  # fewer slices than processes: some have none
    )

    def __init__(
        self,
        sources: Mapping[str, Source],
        train: Sequence[str],
        calibrate: Sequence[str],
        test: Sequence[str],
        size: int,
        prepared: str | Path,
        batch_size: int = 16,
        eval_batch_size: int = 16,
        num_workers: int = 0,
        seed: int = 0,
        allow_leaks: bool = False,
    ) -> None:
        super().__init__()
        self.allow_leaks = allow_leaks
        self.sources = dict(sources)
        self.roles: dict[Role, list[str]] = {
            "train": list(train),
            "calibrate": list(calibrate),
            "test": list(test),
        }
        self.size, self.prepared = size, Path(prepared)
        self.batch_size, self.eval_batch_size = batch_size, eval_batch_size
        self.num_workers, self.seed = num_workers, seed
        self._datasets: dict[Role, SliceDataset] = {}
        if unknown := sorted(
            {name for names in self.roles.values() for name in names} - set(self.sources)
        ):
            raise ValueError(
                f"unknown source {unknown[0]!r}; the sources are {', '.join(self.sources)}."
            )

    def prepare_data(self) -> None:
        """Check every source and build the stores that are not there; called on one process."""
        self.setup()

    def setup(self, stage: str | None = None) -> None:
        """Open the stores; every check is done here, before anything is trained or tested."""
        self._datasets = self._datasets or self._open()

    def _open(self) -> dict[Role, SliceDataset]:
        used = dict.fromkeys(name for names in self.roles.values() for name in names)
        listed = {name: self.sources[name]() for name in used}
        stores = {name: source for name, source in listed.items() if isinstance(source, Store)}
        records = {name: source for name, source in listed.items() if not isinstance(source, Store)}
        check_records(records)
        stores |= {
            name: prepare_store(name, slices, self.size, self.prepared)
            for name, slices in records.items()
        }
        if wrong := [
            f"{store.folder} has {store.size}"
            for store in stores.values()
            if store.size != self.size
        ]:
            raise ValueError(
                f"data.size={self.size}: {wrong[0]} pixels a side; set data.size, or pack it anew"
            )
        datasets = {
            role: SliceDataset([stores[name] for name in names], SPLIT_OF[role], self.size)
            for role, names in self.roles.items()
        }
        for role, dataset in datasets.items():
            if self.roles[role] and not len(dataset):
                raise ValueError(
                    f"no slice to {role} on: {', '.join(self.roles[role])} has none of split "
                    f"{SPLIT_OF[role]}; "
                    f"name another source or correct its splits."
                )
        check_separate({role: dataset.index for role, dataset in datasets.items()})
        check_healthy("train", datasets["train"].index)
        check_healthy("calibrate", datasets["calibrate"].index)
        leaks = leaks_between(
            {role: (dataset.images(), dataset.index) for role, dataset in datasets.items()}
        )
        if leaks and not self.allow_leaks:
            raise ValueError(
                f"{first_few([leak.text for leak in leaks])} Leave one of each two out, or, if "
                "they are different "
                "people, say data.allow_leaks=true"
            )
        for leak in leaks:
            log.warning("allowed: %s", leak.text)
        return datasets

    def index(self, role: Role) -> pd.DataFrame:
        """One row a slice of "train", "calibrate" or "test", sorted by id, with the columns of
        `Store.index`."""
        self.setup()
        return self._datasets[role].index

    def subjects(self, role: Role) -> list[str]:
        """The subjects of "train", "calibrate" or "test", each once, sorted."""
        return sorted(set(self.index(role)["subject"]))

    def hash(self, role: Role) -> str:
        """12 hex digits of the role's slices: their ids, the contents of their files, the size and
        preprocessing."""
        rows = self.index(role)[["id", "sha256", "lesion_sha256"]].to_numpy().tolist()
        return hashlib.sha256(json.dumps([VERSION, self.size, rows]).encode()).hexdigest()[:12]

    def train_dataloader(self) -> SliceLoader:
        """The training stream, from where the attached trainer stands (from its start without a
        trainer)."""
        n = len(self.index("train"))
        if not n:
            raise ValueError("no source to train on; name one in `train`.")
        return self._loader(
            "train", TrainingOrder(n, self.batch_size, self.seed, self._batches_done)
        )

    def val_dataloader(self) -> SliceLoader | list[SliceLoader]:
        """The healthy slices to calibrate on, or [] if there are none, which Lightning takes for no
        validation."""
        return self.loader("calibrate") if len(self.index("calibrate")) else []

    def test_dataloader(self) -> SliceLoader:
        """The test slices."""
        return self.loader("test")

    def loader(self, role: Role, skip: Collection[str] = ()) -> SliceLoader:
        """This process's share of a role's slices, each once, in order of id, without those whose
        id is in `skip`."""
        done = set(skip)
        rows = [row for row, id in enumerate(self.index(role)["id"]) if id not in done]
        return self._loader(role, EvaluationOrder(rows, self.eval_batch_size))

    def _loader(self, role: Role, order: TrainingOrder | EvaluationOrder) -> SliceLoader:
        return SliceLoader(
            self._datasets[role],
            sampler=order,
            batch_size=None,  # the order yields whole batches
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def _batches_done(self) -> int:
        # Not global_step * accumulate_grad_batches: Lightning also steps on an epoch's last,
        # incomplete accumulation.
        if self.trainer is None:
            return 0
        return self.trainer.fit_loop.epoch_loop.batch_progress.total.processed  # type: ignore[attr-defined]
