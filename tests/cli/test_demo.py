"""The demo's own files: damaged ones cost a step that is done again, and nothing else."""

import json

import pytest

from sparsevit3d.cli.demo import Clock, _once


@pytest.mark.parametrize("text", ["", "[]", "null", '{"1": "long"}', "\0"])
def test_a_damaged_clock_begins_anew(text, tmp_path):
    path = tmp_path / "seconds.json"
    with Clock(path).step("1 something"):
        pass
    whole = Clock(path).seconds
    assert whole.keys() == {"1"}
    path.write_text(text)
    with pytest.warns(UserWarning, match=r"seconds\.json: is damaged .*are not counted"):
        clock = Clock(path)
    with clock.step("2 something"):
        pass
    assert Clock(path).seconds.keys() == {"2"}


def test_a_damaged_result_is_made_again(tmp_path):
    checkpoint = tmp_path / "weights"
    checkpoint.write_text("weights")
    path = tmp_path / "score_dense.json"
    made = []

    def make():
        made.append(1)
        return {"mAP": 0.125 * len(made)}

    assert _once(path, checkpoint, make) == _once(path, checkpoint, make) == {"mAP": 0.125}
    path.write_text(path.read_text().replace("0.125", "0.925"))
    with pytest.warns(UserWarning, match=r"score_dense\.json: is damaged .*done again"):
        assert _once(path, checkpoint, make) == {"mAP": 0.25}
    path.write_text(json.dumps({"checkpoint": "unsealed"}))
    with pytest.warns(UserWarning, match="it has no seal"):
        assert _once(path, checkpoint, make) == {"mAP": 0.375}
