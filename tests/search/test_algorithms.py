import random
from contextlib import closing

import pytest

from sparsevit3d.errors import InputError
from sparsevit3d.search import loop
from sparsevit3d.search.algorithms import Evolution, RandomSearch, Settings, UniformSearch
from sparsevit3d.search.budget import Budget, Limit
from sparsevit3d.search.front import Front, pareto_front
from sparsevit3d.search.journal import Journal
from sparsevit3d.swin.plan import RATIO_GRID, SparsityPlan, every_plan, kept_count

DEPTHS = (2, 2, 6, 2)
ALGORITHMS = (Evolution, RandomSearch, Front)


def cost(plan):
    """A cheap stand-in for MACs: the share of windows kept."""
    kept = [1 - ratio for stage in plan.ratios for ratio in stage]
    return sum(kept) / len(kept)


def within(most):
    return Budget(Limit("kept", most, cost))


def score(plan):
    """Known best: prune the first stages, keep the last."""
    return sum(
        ratio * weight
        for stage, weight in zip(plan.ratios, (3, 2, -1, -3), strict=False)
        for ratio in stage
    )


def run(algorithm, by=score):
    asked = []
    while plans := algorithm.ask():
        asked += plans
        # told in any order
        algorithm.tell(
            {plan: by(plan) for plan in random.Random(len(asked)).sample(plans, len(plans))}
        )
    return asked


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_every_plan_meets_the_budget_and_none_comes_twice(kind):
    settings = Settings(20, 5, 6)
    algorithm = kind(DEPTHS, within(0.6), settings)
    asked = run(algorithm)
    assert len(asked) == len(set(asked)) == settings.evaluations == 20 + 5 * 15
    assert all(cost(plan) <= 0.6 for plan in asked)
    assert algorithm.best == max(asked, key=score)


@pytest.mark.parametrize("depths", [(2,), (1, 2, 3), (2, 2, 18, 2)])
@pytest.mark.parametrize("kind", ALGORITHMS)
def test_any_depths(kind, depths):
    asked = run(kind(depths, within(0.8), Settings(5, 2, 3)), by=lambda plan: -cost(plan))
    assert len(asked) == len(set(asked)) > 0
    for plan in asked:
        plan.check(depths)


def test_generations_improve_on_the_first_population():
    evolution = Evolution(DEPTHS, within(0.7), Settings(20, 5, 8), seed=3)
    asked = run(evolution)
    assert score(evolution.best) > max(map(score, asked[:20]))


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_the_same_seed_asks_the_same_in_whatever_order_it_is_told(kind):
    def order_of(seed):
        return run(kind(DEPTHS, within(0.6), seed=seed))

    assert order_of(7) == order_of(7)
    assert order_of(7) != order_of(8)


def test_the_best_ever_seen_is_kept_through_bad_generations():
    evolution = Evolution(DEPTHS, within(0.9), Settings(6, 2, 4))
    first = evolution.ask()
    evolution.tell(dict.fromkeys(first, 1.0) | {first[3]: 2.0})
    while plans := evolution.ask():
        evolution.tell(dict.fromkeys(plans, 0.0))
    assert evolution.best == first[3]


@pytest.mark.parametrize("kind", [*ALGORITHMS, UniformSearch])
def test_an_impossible_budget_names_the_cheapest_cost(kind):
    with pytest.raises(
        InputError, match=r"budget of 0\.1 kept. The cheapest, 0\.8\|.*, costs 0\.2"
    ):
        kind(DEPTHS, within(0.1))
    with pytest.raises(InputError, match="nan"):
        kind(DEPTHS, within(float("nan")))


@pytest.mark.parametrize("kind", [*ALGORITHMS, UniformSearch])
def test_a_tight_budget_ends_with_what_there_is(kind):
    """Only the cheapest plan of all is allowed, which hardly any draw meets: one question, no
    endless rejection.
    """
    for depths in ((2,), DEPTHS):
        cheapest = SparsityPlan.uniform(RATIO_GRID[-1], depths)
        algorithm = kind(depths, within(cost(cheapest) + 1e-9), Settings(4, 2, 3))
        assert run(algorithm) == [cheapest]
        assert algorithm.best == cheapest


def test_several_limits_hold_together_and_the_first_to_break_spares_the_rest():
    asked = []

    def milliseconds(plan):
        asked.append(plan)
        return 10 * cost(plan)

    budget = Budget(Limit("kept", 0.6, cost), Limit("ms", 5.0, milliseconds))
    plans = run(Evolution(DEPTHS, budget, Settings(10, 3, 4)))
    assert all(10 * cost(plan) <= 5 for plan in plans)
    assert len(asked) == len(set(asked))
    assert all(cost(plan) <= 0.6 for plan in asked)
    assert budget.costs(plans[0]) == {"kept": cost(plans[0]), "ms": 10 * cost(plans[0])}


def test_a_limit_whose_cheapest_plan_prunes_least_is_met_by_it():
    """Where ranking costs more than it spares, as for latency in small stages."""
    dense = SparsityPlan.uniform(0, DEPTHS)
    budget = Budget(Limit("ms", 1.0, lambda plan: 1.0 if plan.is_dense else 2.0, dense))
    assert run(Evolution(DEPTHS, budget, Settings(4, 2, 2))) == [dense]
    with pytest.raises(
        InputError, match=r"budget of 0.5 ms. The cheapest, 0\|0\|0,0,0\|0, costs 1"
    ):
        Budget(Limit("ms", 0.5, lambda plan: 1.0 if plan.is_dense else 2.0, dense)).cheapest(DEPTHS)


def test_what_is_no_number_never_wins(tmp_path):
    with closing(Journal(tmp_path / "journal", {})) as journal:
        algorithm = Evolution(DEPTHS, within(0.7), Settings(4, 2, 2))
        first = Evolution(DEPTHS, within(0.7), Settings(4, 2, 2)).ask()[:3]

        def judge(plans):
            for plan in plans:
                yield plan, {"score": float("nan") if plan in first else 1.0}

        loop.run(algorithm, journal, judge, "score", None, lambda done, total, note: None)
    assert algorithm.best not in first


@pytest.mark.parametrize("kind", ALGORITHMS)
def test_ones_own_plans_come_first_and_fill_up_the_first_generation(kind):
    own = [SparsityPlan.uniform(0.5, DEPTHS), SparsityPlan.uniform(0.8, DEPTHS)]
    algorithm = kind(DEPTHS, within(0.6), Settings(6, 2, 2), start=[*own, own[0]])
    first = algorithm.ask()
    assert first[:2] == own
    assert len(set(first)) == 6
    algorithm.tell({plan: float(plan == own[1]) for plan in first})
    assert not set(algorithm.ask()) & set(own)
    assert algorithm.best == own[1]


def test_ones_own_plans_keep_to_the_budget_and_fit_in():
    dear = SparsityPlan.uniform(0.3, DEPTHS)
    with pytest.raises(
        InputError, match=r"plan 0.3\|.* costs 0.7 kept, and the budget is 0.6 kept"
    ):
        Evolution(DEPTHS, within(0.6), start=[dear])
    every = [SparsityPlan.uniform(step / 10, DEPTHS) for step in range(8)]
    with pytest.raises(InputError, match="8 plans to start with are more than a first generation"):
        Evolution(DEPTHS, within(1.0), Settings(4, 2, 2), start=every)
    with pytest.raises(ValueError, match="stage"):
        Evolution(DEPTHS, within(1.0), start=[SparsityPlan.parse("0.5|0.5")])


def test_uniform_search_tries_each_ratio_once():
    assert run(UniformSearch(DEPTHS, within(0.65))) == [
        SparsityPlan.uniform(step / 10, DEPTHS) for step in range(8, 3, -1)
    ]


def test_a_reduced_space_is_searched_to_its_end():
    """Twelve plans that the budget allows: all are found, and then it is over."""
    grid = (0.0, 0.4, 0.8)
    allowed = {plan for plan in every_plan((2, 2, 2), grid) if cost(plan) <= 0.6}
    asked = run(Evolution((2, 2, 2), within(0.6), Settings(8, 4, 20), grid=grid), by=cost)
    assert set(asked) == allowed
    assert len(asked) == len(allowed)


def test_the_front_holds_what_nobody_beats():
    front = Front(DEPTHS, within(1.0), Settings(24, 8, 8), seed=1)
    asked = run(front)
    found = front.front()
    assert found == pareto_front(
        {plan: score(plan) for plan in asked}, {plan: cost(plan) for plan in asked}
    )
    for plan in found:
        assert not any(cost(other) <= cost(plan) and score(other) > score(plan) for other in asked)
    costs = [cost(plan) for plan in found]
    assert costs == sorted(costs)
    assert len(found) > 3


@pytest.mark.parametrize("wrong", [(4, 5, 1), (4, 1, 1), (4, 2, 0)])
def test_settings_that_cannot_breed_are_refused(wrong):
    with pytest.raises(InputError, match="parents <= population"):
        Settings(*wrong)


@pytest.mark.parametrize("kind", [*ALGORITHMS, UniformSearch])
def test_plans_that_are_one_to_the_network_are_asked_for_once(kind):
    """Of three windows, 0.4 and 0.8 keep one."""

    def kept(plan):
        return tuple(kept_count(3, ratio) for stage in plan.ratios for ratio in stage)

    asked = run(kind((2, 2, 2), within(0.9), Settings(10, 4, 9), same=kept))
    assert len({kept(plan) for plan in asked}) == len(asked)
