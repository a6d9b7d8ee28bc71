"""Speed of the data's way: each step of `src.prepare` for a volume, and slices a second from the
store to a network."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from autoddpm.data.datamodule import SliceDataModule
from autoddpm.data.sample import Record
from autoddpm.preparation.correction import brain_mask, n4
from autoddpm.preparation.geometry import interpolate_slice
from autoddpm.preparation.registration import register
from autoddpm.preparation.template import template
from autoddpm.preparation.volume import Source, read_volume

PAPER_GFLOP, H100_TFLOPS = 3 * 186, 800  # a training slice of the paper's network at 128 px; bf16


def volumes_a_minute() -> dict[str, float]:
    """One process, one volume of IXI's size (256 x 256 x 150), made from the template."""
    affine = template().affine @ np.diag([1.2, 0.94, 0.94, 1.0])
    shape = (150, 240, 200)
    index = np.linalg.inv(template().affine) @ affine
    planes = [
        interpolate_slice(template().data, np.eye(4), np.eye(4), index, shape[:2], z)
        for z in range(shape[2])
    ]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii.gz"
        nibabel.save(
            nibabel.Nifti1Image((1000 * np.stack(planes, -1)).astype(np.int16), affine), path
        )
        volume = read_volume(Source(path))
        brain = brain_mask(volume, "deepbet")  # once, so that its model is loaded
        to_source = register(volume, brain)
        steps: dict[str, Callable[[], object]] = {
            "read": lambda: read_volume(Source(path)),
            "N4": lambda: n4(volume),
            "brain mask (deepbet)": lambda: brain_mask(volume, "deepbet"),
            "affine registration": lambda: register(volume, brain),
            "cut one slice": lambda: interpolate_slice(
                volume.data, volume.affine, to_source, template().affine, (197, 233), 95
            ),
        }
        return {name: 60 / _seconds(step) for name, step in steps.items()}


def loader_slices_a_second(slices: int = 512, batch: int = 16) -> float:
    """From a store at 128 px to batches, in this process, as training reads them."""
    with tempfile.TemporaryDirectory() as folder:
        records = random_slices(Path(folder), slices, 128)
        data = SliceDataModule(
            {"bench": lambda: records}, ["bench"], [], [], 128, Path(folder) / "store", batch
        )
        data.setup()
        loader = data.train_dataloader()
        return slices / _seconds(lambda: [None for _ in loader])


def random_slices(folder: Path, count: int, size: int) -> list[Record]:
    """PNG files of noise, to train on."""
    rng, records = np.random.default_rng(0), []
    for number in range(count):
        path = folder / f"{number:04d}.png"
        Image.fromarray(rng.integers(0, 255, (size, size), dtype=np.uint8)).save(path)
        records.append(Record(f"bench/{number:04d}", str(number), "train", {"T1": path}))
    return records


def h100_needs() -> float:
    """Training slices a second of the paper's network if an H100 ran at its full speed: more it can
    never ask for."""
    return 1e3 * H100_TFLOPS / PAPER_GFLOP


def _seconds(work: Callable[[], object], repeats: int = 3) -> float:
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]
