"""Settings that nothing reads are refused."""

import pytest
from omegaconf import OmegaConf

from autoddpm.launch.known_keys import refuse_unknown_keys

GROUP = {
    "name": "x",
    "steps": {"_target_": "autoddpm.preparation.cutting.Steps", "slices": 3},
}


def test_settings_that_are_read_are_accepted() -> None:
    refuse_unknown_keys("preparation", OmegaConf.create(GROUP), ("name", "steps", "exclude"))


@pytest.mark.parametrize(
    ("more", "words"),
    [
        (
            {"exlcude": ["x"]},
            r"unknown setting preparation\.exlcude; preparation has exclude, name",
        ),
        (
            {"steps": {"slice": 3}},
            r"unknown setting preparation\.steps\.slice; .* has brain_mask, ",
        ),
    ],
)
def test_a_setting_that_nothing_reads_is_refused(more: dict[str, object], words: str) -> None:
    group = OmegaConf.merge(OmegaConf.create(GROUP), more)
    with pytest.raises(ValueError, match=words):
        refuse_unknown_keys("preparation", group, ("name", "steps", "exclude"))
