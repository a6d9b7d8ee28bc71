"""What may be optimised, and where."""

import pytest

from autoddpm.launch.search import check_search, objective_value

KEYS = ["lesion/auprc", "lesion/max_dice", "healthy/fpr@healthy_fpr5"]
ROW = {
    "metrics": {"lesion/max_dice": 0.25, "lesion/auprc": None},
    "undefined": {"lesion/auprc": "no lesion"},
}


@pytest.mark.parametrize("sources", [["ixi_stroke"], ["phantom_tuning", "atlas"]])
def test_nothing_is_optimised_on_data_that_is_reported_on(sources):
    with pytest.raises(ValueError, match=f"objective=lesion/max_dice on {sources[-1]}.*worthless"):
        check_search("lesion/max_dice", sources, KEYS)
    check_search(None, sources, KEYS)


def test_tuning_data_is_there_to_choose_by():
    check_search("lesion/max_dice", ["phantom_tuning", "ixi_tuning"], KEYS)


def test_an_objective_that_is_no_metric_is_refused_at_once():
    with pytest.raises(
        ValueError, match=r"objective=lesion/dice: is no metric; there are .*max_dice"
    ):
        check_search("lesion/dice", ["ixi_tuning"], KEYS)
    check_search("healthy/fpr@healthy_fpr5/HH", ["ixi_tuning"], KEYS)


def test_the_objective_is_a_metric_of_the_row_and_defined():
    assert objective_value(ROW, "lesion/max_dice") == 0.25
    with pytest.raises(ValueError, match=r"objective=lesion/auprc.*\(no lesion\)"):
        objective_value(ROW, "lesion/auprc")
    with pytest.raises(
        ValueError, match=r"objective=dice: .*there are lesion/auprc, lesion/max_dice"
    ):
        objective_value(ROW, "dice")
