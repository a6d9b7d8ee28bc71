"""A check that data and settings go with a trained model."""

from collections.abc import Iterable, Mapping
from typing import Any

from autoddpm.models.model import Trained


def check_compatible(
    trained: Trained, size: int, test_subjects: Iterable[str], given: Mapping[str, Any]
) -> None:
    """Refuse data or settings that do not go with a trained model.

    size: of the data's slices.
    test_subjects: none of them may have been trained on.
    given: `model` and `noise` as asked for in the configuration, each None if the checkpoint's own
        is to be used.

    Raises ValueError, naming what differs.
    """
    path, data = trained.path, trained.data
    if data["size"] != size:
        raise ValueError(
            f"{path} was trained at {data['size']} px, these slices have {size}: set "
            f"data.size={data['size']}"
        )
    if leaked := sorted(set(data["train_subjects"]) & set(test_subjects)):
        raise ValueError(
            f"{path} was trained on {len(leaked)} of the test subjects ({', '.join(leaked[:3])}): "
            "test on others, or train without them"
        )
    if given.get("noise") and given["noise"] != trained.config.get("noise"):
        raise ValueError(
            f"{path} was trained with noise {trained.config.get('noise')}, asked for was "
            f"{given['noise']}: leave `noise` out"
        )
    for key, value in (given.get("model") or {}).items():
        if key != "objective" and value is not None and value != trained.config.get(key):
            raise ValueError(
                f"{path} has another {key} than `model` asks for: {trained.config.get(key)} "
                f"against {value}. Leave `model` out: it comes with the checkpoint"
            )


def check_same_images(part: Trained, trained: Trained) -> None:
    """Refuse a detector's second network that sees other images than its first.

    Raises ValueError, naming what differs.
    """
    for name in ("channels", "dimensions"):
        its, first = (getattr(one.model, name) for one in (part, trained))
        if its != first:
            raise ValueError(
                f"{part.path} was trained on images of {name} = {its}, {trained.path} on {first}: "
                "a detector's networks must see the same images"
            )
