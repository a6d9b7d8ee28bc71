"""Running a detector over slices with a Lightning trainer."""

import time
from collections.abc import Callable

import torch
from lightning import LightningModule

from autoddpm.data.sample import Batch
from autoddpm.detectors.detector import Detection
from autoddpm.diffusion.ddpm import DDPM
from autoddpm.machine.batch_size import InParts
from autoddpm.runs.parts import MapFolder


class DetectionModule(LightningModule):
    """Tests with any detector: writes what it says of each batch to `maps`.

    A batch that does not fit into memory is detected in parts, see `InParts`.

    ddpm: the detector's model, named here so that Lightning moves it to the device. title: shown by the progress bar.
    """

    def __init__(
        self, detector: Callable[[Batch], Detection], ddpm: DDPM, maps: MapFolder, title: str = "test"
    ) -> None:
        super().__init__()
        self.detector, self.ddpm, self.maps, self.title = detector, ddpm, maps, title
        self.in_parts = InParts(detector)
        self.allow_zero_length_dataloader_with_multiple_devices = True  # fewer slices than processes

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        start = time.perf_counter()
        detection = self.in_parts(batch)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self.maps.write(batch, detection, time.perf_counter() - start)
