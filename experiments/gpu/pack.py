"""Pack what a GPU machine without a network needs of the data: one file, data/packed.npz.

    AUTODDPM_DATA=DIR python experiments/gpu/pack.py [FILE [PIXELS [EVERY]]]

Needs ixi/, and ixi_stroke as `src.prepare` builds it. EVERY=9 takes each ninth slice: to
rehearse.
"""

import sys
from pathlib import Path

import numpy as np
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from autoddpm.data.store import Store, prepare_store
from autoddpm.datasets.packed import PackedStore, write_packed

CONF = Path(__file__).resolve().parents[2] / "conf"


def every(store: Store, step: int) -> Store:
    if step == 1:
        return store
    rows = np.arange(0, len(store.index), step)
    index = store.index.iloc[rows].reset_index(drop=True)
    name = f"{store.hash}-every-{step}"
    return PackedStore(store.folder, name, index, store.images[rows], store.lesions[rows])


def main(path: str = "data/packed.npz", size: str = "128", step: str = "1") -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", ["+experiment=ixi_stroke"])
    stores = {}
    for name, source in cfg.data.sources.items():
        store = prepare_store(name, instantiate(source)(), int(size), cfg.paths.prepared)
        stores[name] = every(store, int(step))
    written = write_packed(stores, path)
    counts = ", ".join(f"{len(store.index)} slices of {name}" for name, store in stores.items())
    print(f"{written}: {counts}, {written.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
