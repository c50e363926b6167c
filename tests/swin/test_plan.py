import json
import random
from collections import Counter
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsevit3d import SparseSwin
from sparsevit3d.swin.plan import (
    RATIO_GRID,
    PlanError,
    SparsityPlan,
    cross_plans,
    kept_count,
    mutate_plan,
    pairs_per_stage,
    sample_plan,
)
from tests.support.networks import plans

DEPTHS = (2, 2, 6, 2)


@settings(max_examples=50)
@given(plan=plans)
def test_text_file_and_checkpoint_agree(plan, tmp_path_factory):
    folder = tmp_path_factory.mktemp("plan")
    assert SparsityPlan.parse(str(plan)) == plan

    plan.save(folder / "plan.json", budget=0.6)
    assert SparsityPlan.load(folder / "plan.json") == plan
    assert json.loads((folder / "plan.json").read_text()) == {"plan": str(plan), "budget": 0.6}

    depths = [2 * len(stage) for stage in plan.ratios]
    arguments = {
        "embed_dims": 4,
        "depths": depths,
        "num_heads": [1] * len(depths),
        "window_size": 2,
        "out_indices": (),
    }
    torch.save(SparseSwin(**arguments, plan=str(plan)).state_dict(), folder / "weights.pth")
    other = SparseSwin(**arguments)
    other.load_state_dict(torch.load(folder / "weights.pth", weights_only=True))
    assert other.plan == (None if plan.is_dense else plan)


def test_text_is_short():
    assert str(SparsityPlan.parse("0.30|0|0.1,.2,0.2|0.0")) == "0.3|0|0.1,0.2,0.2|0"


def test_ratios_fall_only_where_the_plan_says_that_they_may():
    plan = SparsityPlan.parse("falling:0.3|0|0.5,0.2,0.2|0")
    assert plan.ratios[2] == (0.5, 0.2, 0.2)
    assert plan.falls
    assert str(plan) == "falling:0.3|0|0.5,0.2,0.2|0"
    with pytest.raises(PlanError, match="unless the plan begins with 'falling:'"):
        SparsityPlan(plan.ratios)
    # it may, but does not: the same plan as without the word
    rising = SparsityPlan.parse("falling:0.3|0|0.2,0.2,0.5|0")
    assert rising == SparsityPlan.parse("0.3|0|0.2,0.2,0.5|0")
    assert str(rising) == "0.3|0|0.2,0.2,0.5|0"


def test_uniform_has_a_ratio_for_each_pair():
    assert SparsityPlan.uniform(0.6, DEPTHS).ratios == ((0.6,), (0.6,), (0.6, 0.6, 0.6), (0.6,))
    assert pairs_per_stage((1, 3)) == (1, 2)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0.3|x|0|0", ["stage 1", "pair 0", "'x' is not a number"]),
        ("0.3|0|0.1,,0.2|0", ["stage 2", "pair 1", "not a number"]),
        ("0.3|0|0.1,nan,0.2|0", ["stage 2", "pair 1", "outside [0, 1)"]),
        ("1|0|0|0", ["stage 0", "pair 0", "outside [0, 1)"]),
        ("0|-0.1|0|0", ["stage 1", "pair 0", "outside [0, 1)"]),
        ("0|0|0.4,0.4,0.2|0", ["stage 2", "pair 2", "0.2 falls below 0.4"]),
        ("", ["stage 0", "pair 0", "not a number"]),
        ("falling:", ["stage 0", "pair 0", "not a number"]),
        ("falling:0|1.5|0|0", ["stage 1", "pair 0", "outside [0, 1)"]),
    ],
)
def test_bad_text_is_refused_by_stage_pair_and_rule(text, words):
    with pytest.raises(PlanError) as error:
        SparsityPlan.parse(text)
    assert all(word in str(error.value) for word in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0|0|0,0,0", "3 stages. The network has 4"),
        ("0|0|0,0|0", "stage 2 has 2 pairs. The network has 3"),
    ],
)
def test_a_plan_of_another_network_is_refused(text, words):
    with pytest.raises(PlanError, match=words):
        SparsityPlan.parse(text).check(DEPTHS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"plan": 3}', '{"plan": "2|0"}'])
def test_a_bad_file_is_refused_by_name(content, tmp_path):
    path = tmp_path / "plan.json"
    path.write_text(content)
    with pytest.raises(PlanError, match=r"plan\.json"):
        SparsityPlan.load(path)
    with pytest.raises(PlanError, match="no such plan file"):
        SparsityPlan.load(tmp_path / "none.json")


@given(st.integers(1, 2000), st.integers(0, 99))
def test_kept_count_is_exact(windows, hundredths):
    assert kept_count(windows, hundredths / 100) == max(
        1, int(windows * (1 - Fraction(hundredths, 100)))
    )


def test_kept_count_where_floats_fail():
    assert [kept_count(10, ratio) for ratio in (0.7, 0.8, 0.9, 0.99)] == [3, 2, 1, 1]


def test_search_operations_stay_in_the_space():
    rng = random.Random(0)
    parents = [sample_plan(rng, DEPTHS) for _ in range(50)]
    for plan in [mutate_plan(rng, one, 0.5) for one in parents] + [
        cross_plans(rng, one, parents[0]) for one in parents
    ]:
        plan.check(DEPTHS)
        assert all(ratio in RATIO_GRID for stage in plan.ratios for ratio in stage)


def test_every_sequence_is_drawn_equally_often():
    rng = random.Random(1)
    counts = Counter(sample_plan(rng, (6,)).ratios for _ in range(16500))
    assert len(counts) == 165  # as many non-decreasing sequences of 3 ratios as there are
    assert max(counts.values()) < 2 * min(counts.values())
