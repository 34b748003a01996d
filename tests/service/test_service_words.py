"""What is wrong with a request for a job, in words for whoever has made it."""

from __future__ import annotations

from typing import Any

import pytest

from gristmill.service.submission.wishes import WrongWish, wish_of, wish_of_form

GOOD: dict[str, Any] = {"job": "wordcount", "inputs": ["/in"], "output": "/out"}


@pytest.mark.parametrize(
    ("wrong", "field", "words"),
    [
        ({"input": "/in"}, "input", "There is no such field. Did you mean inputs?"),
        ({"colour": "red"}, "colour", "There is no such field."),
        ({"reducers": 3}, "reducers", "It belongs into options."),
        ({"options": {"reducer": 3}}, "options.reducer", "There is no such field. Did you mean reducers?"),
        ({"options": {"reducers": 0}}, "options.reducers", "It must be greater than or equal to 1."),
        ({"options": {"split_size": []}}, "options.split_size", "It must be text. Or: It must be a whole number."),
        ({"options": {"overwrite": "perhaps"}}, "options.overwrite", "It must be true or false."),
        ({"priority": "1e9"}, "priority", "It must be a whole number."),
        ({"name": "n" * 300}, "name", "It must have at most 200 characters."),
        ({"inputs": "/in"}, "inputs", "It must be a list."),
        ({"output": ""}, "output", "It is empty."),
    ],
)
def test_each_wrong_field_is_told_in_words(wrong: dict[str, Any], field: str, words: str) -> None:
    with pytest.raises(WrongWish) as refused:
        wish_of({**GOOD, **wrong})
    assert refused.value.fields == {field: words}


def test_fields_of_a_form_likewise() -> None:
    with pytest.raises(WrongWish) as refused:
        wish_of_form([("job", "wordcount"), ("inputs", "/in"), ("output", "/out"), ("redcers", "2")])
    assert refused.value.fields == {"redcers": "There is no such field. Did you mean reducers?"}
