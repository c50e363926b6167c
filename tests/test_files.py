"""Files that a later call reads again: damage is told in one line that names the file."""

import json
import warnings

import pytest

from sparsevit3d.errors import InputError
from sparsevit3d.files import (
    add_seal,
    differences,
    parse_object,
    parse_sealed,
    read_json,
    read_or_drop,
    write_json,
    write_sealed,
)

DOCUMENT = {"share": 0.0689, "runs": [1, None], "of": {"two": 2, "one": float("nan")}}
DAMAGED = {
    "empty": b"",
    "cut off": b'{"share": 0.06',
    "a list": b"[1, 2]",
    "null": b"null",
    "binary": b"\x80\x02}q\x00.\xff\xfe",
    "nulls": b"\0" * 64,
    "deep": b"[" * 100_000,
    "trailing": b"{} {}",
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_a_damaged_file_is_named_in_one_line_with_the_remedy(content, tmp_path):
    path = tmp_path / "request.json"
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"request\.json: is damaged \(.+\)\. Remove it\.$"
    ) as told:
        read_json(path, "Remove it.")
    assert "\n" not in str(told.value)


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED.keys())
def test_what_can_be_found_out_again_is_dropped_with_a_warning(content, tmp_path):
    path = tmp_path / "cache.json"
    assert read_or_drop(path, "It is made anew.") is None  # none is there, and nothing is said
    path.write_bytes(content)
    with pytest.warns(UserWarning, match=r"cache\.json: is damaged \(.+\)\. It is made anew\.$"):
        assert read_or_drop(path, "It is made anew.") is None


def test_content_of_another_kind_is_damage_too(tmp_path):
    path = tmp_path / "provenance.json"
    write_json(path, {"other": 1})
    with pytest.raises(InputError, match="it lacks 'runs'"):
        read_json(path, "Remove it.", lambda text: parse_object(text)["runs"])
    with pytest.raises(InputError, match=r"is damaged \('int' object"):
        read_json(path, "Remove it.", lambda text: parse_object(text)["other"].items())


def test_a_file_that_cannot_be_opened_is_no_cache(tmp_path):
    with pytest.warns(UserWarning, match=r"cannot be read \(Is a directory\)\. It is made anew"):
        assert read_or_drop(tmp_path, "It is made anew.") is None


def test_a_seal_holds_for_every_digit(tmp_path):
    path = tmp_path / "sealed.json"
    write_sealed(path, DOCUMENT)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = read_or_drop(path, "It is made anew.", parse_sealed)
    assert json.dumps(found) == json.dumps(DOCUMENT)  # NaN is unequal to itself
    text = path.read_text()
    for one, other in [("0.0689", "0.9689"), ("NaN", "null"), ('"runs"', '"rums"'), ("[", "[2,")]:
        with pytest.raises(ValueError, match="not what was written"):
            parse_sealed(text.replace(one, other).encode())
    with pytest.raises(ValueError, match="it has no seal"):
        parse_sealed(json.dumps(DOCUMENT).encode())
    shuffled = dict(reversed(add_seal(DOCUMENT).items()))
    assert parse_sealed(json.dumps(shuffled).encode()).keys() == DOCUMENT.keys()


def test_differences_name_their_keys_and_both_values():
    one = {"model": {"depths": [2, 2], "window": 7}, "steps": [{"type": "Flip"}, {"type": "Fit"}]}
    other = json.loads(json.dumps(one))
    assert differences(one, other) == ""
    other["model"]["depths"] = [2, 6]
    other["steps"][1]["type"] = "Crop"
    assert differences(one, other) == (
        "its model.depths is [2, 2], not [2, 6] and its steps.1.type is Fit, not Crop"
    )
    assert differences({}, dict.fromkeys("abcde", 1)).endswith(
        "its c is none, not 1 and 2 more differ"
    )
    long = "x" * 100
    assert differences({"a": f"{long}1{long}"}, {"a": f"{long}2{long}"}) == (
        f"its a is ...{'x' * 20}1{'x' * 19}..., not ...{'x' * 20}2{'x' * 19}..."
    )
