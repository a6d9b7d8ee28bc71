"""The one LightningDataModule, for every data set."""

import hashlib
import json
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from autoddpm.data.integrity import (
    check_healthy,
    check_records,
    check_separate,
    first_few,
    leaks_between,
)
from autoddpm.data.order import EvaluationOrder, Rows, TrainingOrder
from autoddpm.data.preprocess import VERSION
from autoddpm.data.sample import Batch, Record
from autoddpm.data.store import COLUMNS, Store, build_store

log = logging.getLogger(__name__)

Source = Callable[[], list[Record] | Store]
Role = Literal["train", "calibrate", "test"]

#: Which split of its sources a role uses.
SPLIT_OF: dict[Role, str] = {"train": "train", "calibrate": "val", "test": "test"}


class SliceDataset(Dataset[Batch]):
    """Samples of several stores, sorted by id; `dataset[rows, epochs]` is a whole Batch.

    stores: of the same modalities, size and dimensions.
    split: which samples of theirs.
    """

    def __init__(self, stores: Sequence[Store], split: str) -> None:
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
        self.stores = stores
        self.where = list(zip(table["store"].tolist(), table["row"].tolist(), strict=True))
        self.index = table[list(COLUMNS)]

    def __len__(self) -> int:
        return len(self.where)

    def images(self) -> NDArray[np.float32]:
        """All images, (N, C, *space). There must be some."""
        return np.stack([self.stores[store].images[at] for store, at in self.where])

    def __getitem__(self, rows_and_epochs: Rows) -> Batch:
        rows, epochs = rows_and_epochs
        places = [self.where[row] for row in rows]
        image = np.stack([self.stores[store].images[at] for store, at in places])
        lesion = np.stack([self.stores[store].lesions[at] for store, at in places])
        ids = self.index["id"].iloc[list(rows)].tolist()
        return Batch(torch.from_numpy(image), torch.from_numpy(lesion), ids, torch.tensor(epochs))


class SliceLoader(DataLoader[Batch]):
    """A loader whose place is a function of the trainer's progress.

    Lightning is told that there is nothing to save.
    """

    def state_dict(self) -> dict[str, int]:
        return {}

    def load_state_dict(self, state: dict[str, int]) -> None: ...


class SliceDataModule(LightningDataModule):
    """Healthy slices to train on and to calibrate thresholds on, and slices to test on.

    sources: functions by name that list a data set's records, or open a store of them. Only those
        that a role names are called.
    train: the sources to train on: their slices of split train.
    calibrate: the sources to calibrate thresholds on: their slices of split val.
    test: the sources to test on: their slices of split test.
    size: pixels a side.
    prepared: the folder of the stores.
    batch_size: training slices per process and step.
    eval_batch_size: slices per process and step of an evaluation.
    num_workers: processes that read.
    seed: of the training order.
    allow_leaks: only warn of nearly identical slices under two names in two roles.

    Training and calibration slices must be healthy (at most one lesion pixel), and nobody may be in
    two of the three roles. A record may hold a volume, or several modalities, if all do. What is
    said of slices is then true of volumes. `Trainer` must be made with
    `use_distributed_sampler=False`.
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
        least = {"size": (size, 1), "batch_size": (batch_size, 1), "num_workers": (num_workers, 0)}
        for name, (value, lowest) in least.items():
            if type(value) is not int or value < lowest:
                raise ValueError(
                    f"data.{name}={value}: must be a whole number of at least {lowest}"
                )
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
        self._stores: dict[str, Store] = {}
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
        if self._datasets:
            return
        self._stores = self._open()
        datasets = {
            role: SliceDataset([self._stores[name] for name in names], SPLIT_OF[role])
            for role, names in self.roles.items()
        }
        self._check(datasets)
        self._datasets = datasets

    def _open(self) -> dict[str, Store]:
        """The stores of all sources that a role names."""
        used = dict.fromkeys(name for names in self.roles.values() for name in names)
        listed = {name: self.sources[name]() for name in used}
        stores = {name: source for name, source in listed.items() if isinstance(source, Store)}
        records = {name: source for name, source in listed.items() if not isinstance(source, Store)}
        check_records(records)
        stores |= {
            name: build_store(name, source, self.size, self.prepared)
            for name, source in records.items()
        }
        for name, store in stores.items():
            if store.size != self.size:
                raise ValueError(
                    f"data.size={self.size}: {store.folder} has {store.size} pixels a side; set "
                    "data.size, or pack it anew"
                )
            first, other = next(iter(stores.items()))
            if _kind(store) != _kind(other):
                raise ValueError(
                    f"the source {first} has {_kind(other)}, {name} has {_kind(store)}; use "
                    "sources of one kind."
                )
        return stores

    def _check(self, datasets: Mapping[Role, SliceDataset]) -> None:
        """Refuse roles without slices, ill slices to train on, and leaks between roles."""
        for role, dataset in datasets.items():
            if self.roles[role] and not len(dataset):
                raise ValueError(
                    f"no slice to {role} on: {', '.join(self.roles[role])} has none of split "
                    f"{SPLIT_OF[role]}; name another source or correct its splits."
                )
        check_separate({role: dataset.index for role, dataset in datasets.items()})
        check_healthy("train", datasets["train"].index)
        check_healthy("calibrate", datasets["calibrate"].index)
        used = {role: dataset for role, dataset in datasets.items() if len(dataset)}
        leaks = leaks_between({role: (one.images(), one.index) for role, one in used.items()})
        if leaks and not self.allow_leaks:
            raise ValueError(
                f"{first_few([leak.text for leak in leaks])} Leave one of each two out, or put "
                "all slices of a person into one split: a csv with the columns file and subject, "
                "data.sources.NAME.index=FILE. Only if they are different people, say "
                "data.allow_leaks=true"
            )
        for leak in leaks:
            log.warning("allowed: %s", leak.text)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Of the channels, in their order."""
        self.setup()
        return next((store.modalities for store in self._stores.values()), ())

    @property
    def dimensions(self) -> int:
        """2 if the samples are slices, 3 if they are volumes."""
        self.setup()
        return next((store.dimensions for store in self._stores.values()), 2)

    def preparation(self) -> dict[str, Any] | None:
        """How the training slices were made from volumes: steps, slices, modality.

        None if a source to train on does not say, if two were made in different ways, or if there
        is none. Nobody can then make slices of another volume that are like these.
        """
        self.setup()
        said = [self._stores[name].preparation for name in self.roles["train"]]
        if not said or any(one is None or one != said[0] for one in said):
            return None
        return dict(said[0] or {})

    def index(self, role: Role) -> pd.DataFrame:
        """One row per slice of a role, sorted by id, with the columns of `Store.index`."""
        self.setup()
        return self._datasets[role].index

    def subjects(self, role: Role) -> list[str]:
        """The subjects of a role, each once, sorted."""
        return sorted(set(self.index(role)["subject"]))

    def hash(self, role: Role) -> str:
        """12 hex digits of a role's slices: ids, contents of the files, size, preprocessing."""
        rows = self.index(role)[["id", "sha256", "lesion_sha256"]].to_numpy().tolist()
        return hashlib.sha256(json.dumps([VERSION, self.size, rows]).encode()).hexdigest()[:12]

    def train_dataloader(self) -> SliceLoader:
        """The training stream, from where the attached trainer stands, or else from its start."""
        n = len(self.index("train"))
        if not n:
            raise ValueError("no source to train on; name one in `train`.")
        return self._loader(
            "train", TrainingOrder(n, self.batch_size, self.seed, self._batches_done)
        )

    def val_dataloader(self) -> SliceLoader | list[SliceLoader]:
        """The healthy slices to calibrate on; [], no validation to Lightning, if there are none."""
        return self.loader("calibrate") if len(self.index("calibrate")) else []

    def test_dataloader(self) -> SliceLoader:
        """The test slices."""
        return self.loader("test")

    def loader(self, role: Role, skip: Collection[str] = ()) -> SliceLoader:
        """This process's share of a role's slices, each once, in order of id.

        skip: ids that are left out.
        """
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


def _kind(store: Store) -> str:
    """Modalities and dimensions, in words."""
    return f"{'slices' if store.dimensions == 2 else 'volumes'} of {' + '.join(store.modalities)}"
