"""Scans as scanners and converters write them, and weights for them, all small."""

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from conftest import compose_config, single_thread
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from omegaconf import OmegaConf
from scipy.spatial.transform import Rotation

from autoddpm.models.model import Trained
from autoddpm.models.trained import build_model
from autoddpm.models.weights_file import write_weights

SHAPE, SPACING = (40, 48, 16), (1.2, 0.9375, 0.9375)  # right, front, up
SLICES = "5:10"
STEPS = {"n4": False, "brain_mask": "nonzero", "register": False, "window": "volume"}
LESION = (26, 17, 7)  # no axis like another


def affine_of(degrees: tuple[float, float, float] = (6, -4, 8)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", degrees, degrees=True).as_matrix() @ np.diag(
        SPACING
    )
    affine[:3, 3] = [4, -7, 5] - affine[:3, :3] @ (np.array(SHAPE) / 2)
    return affine


def head(seed: int = 0, lesion: bool = True) -> np.ndarray:
    """(X, Y, Z) float32: a textured ellipsoid of 300 to 700, air of 0, and a spot of 100."""
    rng = np.random.default_rng(seed)
    at = np.indices(SHAPE) - np.array(SHAPE)[:, None, None, None] / 2 + 0.5
    inside = np.linalg.norm(at / np.array([17, 21, 10])[:, None, None, None], axis=0) < 1
    waves = np.sin(at[0] / 4 + rng.uniform(0, 6)) * np.cos(at[1] / 5 + rng.uniform(0, 6))
    data = np.where(inside, 450 + 120 * waves + rng.normal(0, 10, SHAPE), 0)
    if lesion:
        spot = np.linalg.norm(
            (np.indices(SHAPE) - np.array(LESION)[:, None, None, None])
            * np.array(SPACING)[:, None, None, None],
            axis=0,
        )
        data = np.where(spot < 3, 100, data)
    return data.clip(0).astype(np.float32)


def as_axes(data: np.ndarray, affine: np.ndarray, axes: str) -> nibabel.Nifti1Image:
    image = nibabel.Nifti1Image(data, affine)
    return image.as_reoriented(ornt_transform(io_orientation(affine), axcodes2ornt(axes)))


def write_scan(path: Path, seed: int = 0, axes: str = "PSR", **header: Any) -> Path:
    """A scan of `head`; .mgz by its name.

    scaled: int16 with a slope. differing: another qform than sform. healthy: without the spot.
    """
    image = as_axes(head(seed, not header.get("healthy")), affine_of(), axes)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.name.endswith(".mgz"):
        nibabel.save(nibabel.MGHImage(np.asarray(image.dataobj), image.affine), path)
        return path
    if header.get("scaled"):
        image = nibabel.Nifti1Image(
            (2 * np.asarray(image.dataobj)).astype(np.int16), image.affine, image.header
        )
        image.header.set_data_dtype(np.int16)
        image.header.set_slope_inter(0.5, 0)
    if header.get("differing"):
        other = image.affine.copy()
        other[:3, 3] += 3
        image.header.set_qform(other, "scanner")
        image.header.set_sform(image.affine, "aligned")
    nibabel.save(image, path)
    return path


def write_small_weights(
    path: Path,
    model: str = "restoration",
    size: int = 32,
    preparation: dict | None = None,
    **more: Any,
) -> Path:
    """A weights file of a tiny random network that changes what it sees."""
    tiny = [
        "model.unet.channels=[8,8]",
        "model.unet.attention_levels=[false,false]",
        "model.unet.num_head_channels=8",
        "model.unet.norm_num_groups=4",
    ]
    cfg = compose_config("train", f"model={model}", *(tiny if model == "restoration" else [])).model
    config = OmegaConf.to_container(cfg, resolve=True)
    config.pop("objective", None)
    with single_thread():
        torch.manual_seed(0)
        built = build_model(config)
        for values in built.parameters():
            if not values.any():
                torch.nn.init.normal_(values, std=0.02)
    stated = (
        {"slices": SLICES, "steps": STEPS, "modality": "T1"} if preparation is None else preparation
    )
    data = {"hash": "", "size": size, "train_subjects": [], "preparation": stated or None}
    trained = Trained(built, config, data, 0, path, "", **more)
    write_weights(trained, path)
    return path
