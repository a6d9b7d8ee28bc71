"""Records of settings: what tells two results apart."""

import json
from collections.abc import Sequence
from functools import partial

import pytest

from autoddpm.settings import describe, is_plain


class Part:
    def __init__(self, times: Sequence[object] = (), t: int = 1, other: object = None) -> None:
        self.times, self.t, self.other = times, t, other


def test_a_record_holds_plain_values_and_lists_of_them():
    record = describe(Part((250, 500), other=object()))
    assert record == {"name": "Part", "times": [250, 500], "t": 1}
    assert json.loads(json.dumps(record)) == record


def test_an_empty_list_is_recorded_too():
    assert describe(Part(()))["times"] == []
    assert describe(Part((1,))) != describe(Part(()))


def test_a_word_is_no_list():
    assert describe(Part("abc"))["times"] == "abc"
    assert is_plain("abc")
    assert not is_plain(None)
    assert not is_plain({"a": 1})


def test_a_list_of_anything_else_is_refused_by_name():
    with pytest.raises(
        ValueError, match="Part: its setting times is a tuple, which no record holds"
    ):
        describe(Part((1, object())))


def test_a_setting_that_is_not_kept_is_refused_by_name():
    class Forgets:
        def __init__(self, t: int) -> None: ...

    with pytest.raises(ValueError, match="Forgets must keep its setting t"):
        describe(Forgets(1))


def test_a_function_has_its_name_and_its_arguments():
    assert describe(partial(sorted, reverse=True)) == {"name": "sorted", "reverse": True}
