"""Who is on a slice, by the names of files."""

import pytest
from test_slice_folder import files, table

from autoddpm.data.integrity import check_records
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.datasets.subjects import subjects_of

UNDERSTOOD = {
    "sub-01_z080": "sub-01",
    "sub-01_ses-2_T1w_12": "sub-01",
    "sub-A7/anat/z080": "sub-A7",
    "data/sub-03": "sub-03",
    "p1_z080": "p1",
    "p1-slice-80": "p1",
    "p1_Slice80_T1": "p1",
    "site/p1_sl12": "p1",
    "IXI012-HH-1211-T1_z095": "IXI012-HH-1211-T1",
    "p1 ax 3": "p1",
}


def test_the_subject_before_a_slice_s_number_is_understood(caplog) -> None:
    assert subjects_of(list(UNDERSTOOD), "mine") == list(UNDERSTOOD.values())
    assert "mine: by their names 10 slices are of 5 subjects, such as sub-01_z080" in caplog.text
    assert "data.sources.mine.index=FILE" in caplog.text


def test_a_split_by_names_puts_no_head_into_two(tmp_path) -> None:
    names = [f"sub-{s:02d}_z{z:03d}.png" for s in range(8) for z in range(80, 84)]
    records = slice_folder(files(tmp_path, *names), split={"train": 0.5, "val": 0.5})
    check_records({"mine": records})
    assert len({record.subject for record in records}) == 8
    assert len({(record.subject, record.split) for record in records}) == 8


@pytest.mark.parametrize(
    "keys",
    [
        ["p001_12", "p001_13", "p002_12"],
        ["p1/080", "p1/081", "p2/080"],
        ["080_p1", "081_p1", "080_p2"],
        ["a1", "a2", "b1"],
        ["p1_s1", "p1_s2", "p2_s1"],
        ["01-1", "01-2", "02-1"],
    ],
)
def test_names_that_may_be_of_one_person_are_asked_for(keys: list[str]) -> None:
    with pytest.raises(ValueError, match=r"differ in a number alone: .* columns file and subject"):
        subjects_of(keys, "mine")


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["p1_l", "p1_r", "p2_l", "p2_r"], "a side"),
        (["p1-Left", "p1-Right", "p2-Left"], "a side"),
        (["smith_2020-01-31", "smith_2021-03-04", "jones_2020-01-31"], "a date"),
        (["smith_20200131_T1", "smith_20210304_T1", "jones_20200131_T1"], "a date"),
    ],
)
def test_sides_and_dates_may_be_of_one_person(keys: list[str], what: str) -> None:
    with pytest.raises(ValueError, match=f"differ in {what} alone: .* columns file and subject"):
        subjects_of(keys, "mine")


def test_a_pattern_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"mine: the pattern .* no regular expression"):
        subjects_of(["a"], "mine", "(")


def test_names_of_which_none_is_like_another_are_subjects() -> None:
    for names in (
        ["p001", "p002", "p003"],
        ["a", "b"],
        ["p1_90", "p2_91", "p3_92"],
        ["a_l", "b_r"],
    ):
        assert subjects_of(names, "mine") == names


def test_a_number_is_nobody_s_name(tmp_path) -> None:
    names = ("000.png", "slice_001.png", "IMG-2.png")
    both = {
        source: slice_folder(files(tmp_path / source, *names), name=source)
        for source in ("healthy", "test")
    }
    check_records(both)
    subjects = [{record.subject for record in records} for records in both.values()]
    assert not subjects[0] & subjects[1]
    assert len(subjects[0]) == 3


def test_words_for_anybody_are_not_asked_about() -> None:
    keys = ["healthy_001", "healthy_002", "lesion_001", "test/01", "test/02", "train/01"]
    assert subjects_of(keys, "mine") == [f"mine/{key}" for key in keys]


def test_a_pattern_says_the_subject() -> None:
    assert subjects_of(["p001_12", "p001_13"], "mine", "p([0-9]+)_") == ["001", "001"]
    assert subjects_of(["x-7", "y_8"], "mine", "(x)-7|(y)_8") == ["x", "y"]
    assert subjects_of(["p001_12"], "mine", "p[0-9]+") == ["p001"]
    with pytest.raises(ValueError, match=r"mine: q1 does not match .* columns file and subject"):
        subjects_of(["p001_12", "q1"], "mine", "p([0-9]+)_")


def test_a_csv_is_believed_before_any_name(tmp_path) -> None:
    folder = files(tmp_path / "i", "p001_12.png", "p001_13.png", "p002_12.png")
    rows = ["p001_12.png,x", "p001_13.png,y", "p002_12.png,z"]
    index = table(tmp_path / "x.csv", "file,subject", *rows)
    assert [r.subject for r in slice_folder(folder, index=index)] == ["x", "y", "z"]
