"""Pack what a GPU machine without a network needs of the data: one file, data/packed.npz.

AUTODDPM_DATA=DIR python experiments/gpu/pack.py [FILE [PIXELS]]   (needs ixi/, and ixi_stroke built
by src.prepare)
"""

import sys
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.utils import instantiate

from autoddpm.data.store import build_store
from autoddpm.datasets.packed import write_packed

CONF = Path(__file__).resolve().parents[2] / "conf"


def main(path: str = "data/packed.npz", size: str = "128") -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("evaluate", ["+experiment=ixi_stroke"])
    sources = {name: instantiate(source)() for name, source in cfg.data.sources.items()}
    stores = {
        name: build_store(name, records, int(size), cfg.paths.prepared)
        for name, records in sources.items()
    }
    written = write_packed(stores, path)
    print(f"{written}: {written.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main(*sys.argv[1:])
