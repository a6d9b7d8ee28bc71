"""What a file's name says that it is."""

import pytest

from autoddpm.data.names import no_scan


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("sub-01_FLAIR", "FLAIR"),
        ("p1_flair", "flair"),
        ("IXI012-HH-1211-T2", "T2"),
        ("BraTS_001_t1ce", "t1ce"),
        ("flair", "flair"),
        ("p1_seg", "mask"),
        ("seg", "mask"),
        ("p1-Lesion_Mask", "mask"),
        ("sub-01_dseg", "mask"),
    ],
)
def test_other_contrasts_and_masks_are_no_scans(name: str, word: str) -> None:
    assert word in no_scan(name, "T1w")


@pytest.mark.parametrize("name", ["p1", "sub-01_T1w", "p1_t1", "p1-PD", "t2_p1", "segmented"])
def test_any_other_name_may_be_of_a_scan(name: str) -> None:
    assert no_scan(name, "T1w") == ""


def test_the_wanted_contrast_is_none_of_the_others() -> None:
    assert no_scan("p1_T2", "T2w") == no_scan("p1_flair", "FLAIR") == ""
