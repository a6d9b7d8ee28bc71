"""Tables that people write: every line is used, or the table is refused by name."""

import json
from pathlib import Path

import pytest
from fuzzed import any_json, damage, examples, or_refused, places, replaced
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from autoddpm.data.sample import SPLITS
from autoddpm.datasets.atlas import atlas_volumes
from autoddpm.datasets.fastmri_plus import COLUMNS, read_annotations
from autoddpm.datasets.ixi import NO_T1, ixi_volumes
from autoddpm.datasets.slice_folder import slice_folder
from autoddpm.preparation.exclusion import leave_out
from autoddpm.preparation.folder import NEEDED, prepared
from autoddpm.preparation.volume import RawVolume, Source

NAMES = ["müller", "b 2", "c,3", "d;4"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tables")
    (folder / "slices").mkdir()
    for name in NAMES:
        Image.new("L", (16, 16)).save(folder / "slices" / f"{name}.png")
    return folder


@st.composite
def csv_files(draw: st.DrawFn, lines: list[list[str]]) -> tuple[bytes, bool]:
    """The lines in some dialect and encoding, and whether they are whole."""
    separator, end = draw(st.sampled_from(",;\t")), draw(st.sampled_from(["\n", "\r\n", "\r"]))
    is_quoted, after = draw(st.booleans()), draw(st.sampled_from(["", "", separator, end, " "]))
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))

    def cell(text: str) -> str:
        needs = is_quoted or any(mark in text for mark in ',;\t" ')
        return '"' + text.replace('"', '""') + '"' if needs else text

    text = end.join(separator.join(map(cell, line)) + after for line in lines)
    harm, stray = draw(damage()), draw(st.sampled_from(["", "", '"', "\0", "\x85", separator]))
    place = draw(st.integers(0, len(text)))
    whole = text.encode(encoding)
    content = harm((text[:place] + stray + text[place:]).encode(encoding, "replace"))
    return content, content == whole and encoding != "cp1252" and after != " "


INDEX = [["file", "subject"], *([f"{name}.png", f"s {name}"] for name in NAMES)]


@examples(100)
@given(made=csv_files(INDEX))
def test_an_index_lists_each_of_its_slices_or_is_refused(folder, made):
    content, is_whole = made
    path = folder / "index.csv"
    path.write_bytes(content)
    records = or_refused(lambda: slice_folder(folder / "slices", index=path), path, folder)
    assert records is not None or not is_whole
    if is_whole:
        assert {record.subject for record in records} == {f"s {name}" for name in NAMES}
    if records is not None and content.count(b".png") == len(NAMES):
        assert len(records) == len(NAMES)


@examples(100)
@given(made=csv_files([["path"], *([f"slices/{name}.png"] for name in NAMES)]))
def test_a_list_of_slices_is_whole_or_refused(folder, made):
    content, is_whole = made
    path = folder / "list.csv"
    path.write_bytes(content)
    records = or_refused(lambda: slice_folder(path), path, folder)
    assert not is_whole or len(records or []) == len(NAMES)


@examples(80)
@given(made=csv_files([["subject", "reason"], ["a", "moved, a lot"], ["b", ""], ["c", "ä"]]))
def test_an_exclusion_names_each_subject_or_is_refused(folder, made):
    content, is_whole = made
    path = folder / "exclude.csv"
    path.write_bytes(content)
    volumes = [RawVolume(name, name, "train", Source(path)) for name in "abcd"]
    marked = or_refused(lambda: leave_out(volumes, str(path)), path, Path("preparation.exclude"))
    assert marked is not None or not is_whole
    if is_whole:
        assert [bool(volume.excluded) for volume in marked] == [True, True, True, False]


BOX = ["file_brain_AXT1_200_1", "3", "No", "1", "2", "3", "4", "Mass"]


@examples(80)
@given(made=csv_files([list(COLUMNS), BOX, [*BOX[:1], "", "Yes", *[""] * 4, "Normal variant"]]))
def test_annotations_are_whole_or_refused(folder, made):
    content, is_whole = made
    path = folder / "brain.csv"
    path.write_bytes(content)
    table = or_refused(lambda: read_annotations(path), path)
    assert table is not None or not is_whole
    if table is not None:
        local = table[table["study_level"] != "Yes"]
        assert all(int(value) >= 0 for value in local["slice"])
    if is_whole:
        assert len(table) == 2


@examples(80)
@given(
    place=st.integers(0, 6),
    made=csv_files([list(NEEDED), *([n, n, "test", f"slices/{n}.png", "", "", ""] for n in NAMES)]),
    harm=damage(),
    value=any_json("all", "1:", "deepbet", {"slices": 3}),
    data=st.data(),
)
def test_a_prepared_folder_is_whole_or_refused(folder, place, made, harm, value, data):
    content, is_whole = made
    stored = {"modality": "T1", "steps": {"n4": True, "slices": 95, "window": "slice"}}
    changed = replaced(stored, data.draw(st.sampled_from(places(stored))), value)
    index, about = folder / "index.csv", folder / "preparation.json"
    index.write_bytes(content)
    about.write_bytes(harm(json.dumps(changed if place else stored).encode()))
    records = or_refused(lambda: prepared(folder, "set"), index, about, folder)
    if records is not None:
        assert {record.split for record in records} <= set(SPLITS)
        assert len(records) == len(NAMES) or not is_whole


WORDS = st.lists(
    st.sampled_from(["IXI012", "-HH-1211", "-T1", "_t1", "-T2", "sub-r001s001", "_ses-1", "_T1w"]),
    min_size=1,
    max_size=4,
)


@examples(60)
@given(
    names=st.lists(WORDS.map("".join), max_size=5, unique_by=str.upper),
    suffix=st.sampled_from([".nii", ".nii.gz", ".NII.GZ"]),
)
def test_each_file_of_a_cohort_is_used_or_named(tmp_path_factory, names, suffix):
    raw = tmp_path_factory.mktemp("raw")
    for name in names:
        (raw / f"{name}{suffix}").write_bytes(b"")
    for volumes_of in (ixi_volumes, atlas_volumes):
        volumes = or_refused(lambda: volumes_of(raw), raw)  # noqa: B023 (called at once)
        if volumes is not None:
            others = [n for n in names if volumes_of is ixi_volumes and NO_T1.fullmatch(n + suffix)]
            assert len(volumes) + len(others) == len(names)
