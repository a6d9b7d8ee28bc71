"""What the `configs/inference.json` of a MONAI Bundle names: a slice in, its map out."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from autoddpm.data.image_file import read_image, stem, write_picture
from autoddpm.data.preprocess import preprocess
from autoddpm.detectors.detector import Detector, detect_images
from autoddpm.models.model import Model
from autoddpm.models.trained import laid_out


class MapNetwork(nn.Module):
    """A detector as a network: from slices to their anomaly maps.

    model: the weights' own; `models/model.pt` of a bundle is its state, under `model.`.
    detector: made with this model.
    """

    def __init__(self, model: Model, detector: Detector) -> None:
        super().__init__()
        self.model, self.detector = cast(nn.Module, model), detector

    @torch.no_grad()
    def forward(self, image: Tensor) -> Tensor:
        """Map slices: (B, 1, H, W) float32 in [0, 1], higher is more anomalous.

        image: (B, C, H, W) float32 in [0, 1]. A slice's noise is of its own content.

        Raises ValueError as `autoddpm.detectors.detector.detect_images`.
        """
        return detect_images(self.detector, image.as_subclass(Tensor)).anomaly_map


def loaded(network: nn.Module, weights: str | Path, device: str | torch.device) -> nn.Module:
    """A network with the weights of a file, frozen, on a device.

    No code in the file is run.

    Raises FileNotFoundError or RuntimeError if the file is missing, or of another network.
    """
    network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return laid_out(network).to(device)


class ReadSlice:
    """A transform of MONAI's kind: the file of a slice becomes what the network sees.

    size: pixels a side of the network's slices.
    window: divide each slice by its 98th percentile. False for slices that are in [0, 1].
    """

    def __init__(self, size: int, window: bool = True) -> None:
        self.size, self.window = size, window

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Replace `image`, the path of a PNG, NPY or NIfTI slice, by (1, size, size) float32.

        The path is kept as `file`.

        Raises ValueError that names the file if it is no slice, or not in [0, 1] as it should be.
        """
        path = Path(item["image"])
        try:
            image = read_image(path)
            if not self.window and (image.min() < 0 or image.max() > 1):
                raise ValueError(
                    f"reaches from {image.min():g} to {image.max():g}; these weights know slices "
                    "that were divided by their scan's 98th percentile and clipped, in [0, 1]"
                )
            seen = preprocess(image, None, self.size, self.window).image
        except ValueError as error:
            named = str(error) if str(path) in str(error) else f"{path}: {error}"
            raise ValueError(named) from error
        return {**item, "image": torch.from_numpy(seen)[None], "file": str(path)}


class WriteMap:
    """A transform of MONAI's kind: a map goes to NAME_map.npy, its mask to NAME_mask.png.

    folder: is made if it is not there.
    threshold: of the mask; a pixel above it is flagged.
    """

    def __init__(self, folder: str | Path, threshold: float) -> None:
        self.folder, self.threshold = Path(folder), threshold

    def __call__(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Write `pred`, (1, H, W), by the name of `file`. The item stays as it is.

        Raises ValueError if there is such a file already.
        """
        values = item["pred"].as_subclass(Tensor)[0].cpu().numpy().astype(np.float32)
        self.folder.mkdir(parents=True, exist_ok=True)
        name = stem(Path(item["file"]))
        place = self.folder / f"{name}_map.npy"
        if place.exists():
            raise ValueError(f"{place}: is there already; name another output_dir")
        np.save(place, values)
        write_picture(self.folder / f"{name}_mask.png", values > self.threshold)
        return dict(item)
