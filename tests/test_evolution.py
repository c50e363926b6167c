import json

import pytest

from sparsevit3d.plan import RATIO_GRID, SparsityPlan
from sparsevit3d.search.evolution import Evolution, SearchError, Settings
from sparsevit3d.search.run import Journal
from sparsevit3d.stages.files import ExperimentError

DEPTHS = (2, 2, 6, 2)


def cost(plan):
    """A cheap stand-in for MACs: the share of windows kept."""
    kept = [1 - ratio for stage in plan.ratios for ratio in stage]
    return sum(kept) / len(kept)


def score(plan):
    """Known best: prune the first stages, keep the last."""
    return sum(ratio * weight for stage, weight in zip(plan.ratios, (3, 2, -1, -3), strict=False) for ratio in stage)


def run(evolution):
    asked = []
    while (plan := evolution.ask()) is not None:
        asked.append(plan)
        evolution.tell(plan, score(plan))
    return asked


def test_every_plan_meets_the_budget_and_none_comes_twice():
    evolution = Evolution(DEPTHS, cost, 0.6, Settings(20, 5, 6))
    asked = run(evolution)
    assert len(asked) == len(set(asked)) == evolution.total == 20 + 5 * 15
    assert all(cost(plan) <= 0.6 for plan in asked)
    assert evolution.best == max(asked, key=score)


def test_generations_improve_on_the_first_population():
    evolution = Evolution(DEPTHS, cost, 0.7, Settings(20, 5, 8), seed=3)
    asked = run(evolution)
    assert score(evolution.best) > max(map(score, asked[:20]))


def test_the_same_seed_asks_the_same():
    assert run(Evolution(DEPTHS, cost, 0.6, seed=7)) == run(Evolution(DEPTHS, cost, 0.6, seed=7))
    assert run(Evolution(DEPTHS, cost, 0.6, seed=7)) != run(Evolution(DEPTHS, cost, 0.6, seed=8))


def test_an_impossible_budget_names_the_cheapest_cost():
    with pytest.raises(SearchError, match=r"0\.1.*cheapest costs 0\.2"):
        Evolution(DEPTHS, cost, 0.1)


def test_a_tight_budget_ends_with_what_there_is():
    """Only the cheapest plan of all is allowed: one question, no endless rejection."""
    evolution = Evolution((2,), cost, 1 - RATIO_GRID[-1] + 1e-9, Settings(4, 2, 3))
    assert run(evolution) == [SparsityPlan(((0.8,),))]


def test_a_budget_that_no_draw_meets_still_finds_the_cheapest_plan():
    cheapest = SparsityPlan.uniform(RATIO_GRID[-1], DEPTHS)
    evolution = Evolution(DEPTHS, cost, cost(cheapest), Settings(3, 2, 2))
    assert run(evolution)[0] == cheapest == evolution.best
    with pytest.raises(SearchError, match="nan"):
        Evolution(DEPTHS, cost, float("nan"))


@pytest.mark.parametrize("wrong", [(4, 5, 1), (4, 1, 1), (4, 2, 0)])
def test_settings_that_cannot_breed_are_refused(wrong):
    with pytest.raises(SearchError, match="parents <= population"):
        Settings(*wrong)


def test_the_journal_remembers_drops_a_torn_line_and_refuses_another_search(tmp_path):
    path, plan = tmp_path / "journal.jsonl", SparsityPlan.parse("0.5|0|0,0,0|0")
    Journal(path, {"budget": 0.6}).add(plan, {"mAP": 0.25})
    with path.open("a") as file:
        file.write('{"plan": "0.1|0|0,0')
    journal = Journal(path, {"budget": 0.6})
    assert journal.scores == {str(plan): {"mAP": 0.25}}
    journal.add(SparsityPlan.parse("0.1|0|0,0,0|0"), {"mAP": 0.5})
    assert [json.loads(line).get("plan") for line in path.read_text().splitlines()] == [None, str(plan), "0.1|0|0,0,0|0"]
    with pytest.raises(ExperimentError, match="budget differ"):
        Journal(path, {"budget": 0.7})
