"""Pack what a GPU machine without a network needs of the data: one file, data/packed.npz.

    AUTODDPM_DATA=DIR python experiments/gpu/pack.py [FILE] [--train] [--pixels 32] [--every 9]

Needs ixi/, and ixi_stroke as `src.prepare` builds it. --train: only what a training needs, rounded
to half precision, a third of the size, to travel beside weights to go on from (data.test=[]).
--pixels, --every: fewer pixels, and each ninth slice, to rehearse.
"""

import argparse
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from numpy.typing import NDArray

from autoddpm.data.store import Store, build_store
from autoddpm.datasets.packed import PackedStore, write_packed

CONF = Path(__file__).resolve().parents[2] / "conf"


def chosen(store: Store, rows: NDArray[np.bool_], name: str, half: bool = False) -> PackedStore:
    """Some slices of a store: other data, whose hash has a name added."""
    index = store.index[rows].reset_index(drop=True)
    hash_ = f"{store.hash}-{name}"
    few = PackedStore(store.folder, hash_, index, store.modalities, store.preparation)
    images = store.images[rows].astype(np.float16 if half else np.float32)
    few.__dict__ |= {"images": images, "lesions": store.lesions[rows]}  # as the cached properties
    return few


def every(store: Store, step: int) -> Store:
    if step == 1:
        return store
    return chosen(store, np.arange(len(store.index)) % step == 0, f"every-{step}")


def to_train(store: Store) -> Store:
    return chosen(store, (store.index["split"] != "test").to_numpy(), "train-half", half=True)


def main(arguments: argparse.Namespace) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", ["+experiment=ixi_stroke"])
    names = ["ixi"] if arguments.train else list(cfg.data.sources)
    stores = {}
    for name in names:
        source = instantiate(cfg.data.sources[name])()
        store = build_store(name, source, arguments.pixels, cfg.paths.prepared)
        store = every(store, arguments.every)
        stores[name] = to_train(store) if arguments.train else store
    written = write_packed(stores, arguments.file)
    counts = ", ".join(f"{len(store.index)} slices of {name}" for name, store in stores.items())
    print(f"{written}: {counts}, {written.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Pack slices for a machine without a network")
    parser.add_argument("file", nargs="?", default="data/packed.npz")
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--every", type=int, default=1)
    main(parser.parse_args())
