"""Least squares behind a cut: what could be computed from the others costs nothing."""

import numpy as np

from foretell.optimize.prune.cut import find_groups
from foretell.optimize.prune.fit import order
from foretell.optimize.prune.graph import Graph
from foretell.optimize.prune.magnitude import choose_masks, mask, schedule
from foretell.optimize.prune.plan import apart, make_thinner
from foretell.optimize.prune.readers import find_readers, sample
from foretell.tensors import Arrays
from tests.optimize.prune.test_cut import dense_chain, residual_net

DICE = np.random.default_rng(1)
ROWS = {"x": DICE.normal(size=(300, 6)).astype(np.float32)}
IMAGES = {"x": DICE.normal(size=(120, 2, 4, 4)).astype(np.float32)}


def silent(text: str, done: float) -> None:
    return None


def doubled() -> Graph:
    """Of 10 units behind a Relu, 5 are another's times 2."""
    whole = dense_chain([6, 10, 3], add=False)
    weight, bias = whole.weights["w0"].copy(), whole.weights["b0"].copy()
    weight[:, 5:], bias[5:] = weight[:, :5] * 2, bias[:5] * 2
    return whole.with_weights({"w0": weight, "b0": bias})


def test_units_that_others_can_stand_in_for_go_first_and_leave_the_answers_as_they_were() -> None:
    whole = doubled()
    thinner = make_thinner(whole, find_groups(whole)[0], ROWS, 0, False, silent)
    assert thinner.plans[0].order.loss(5) < 1e-3
    assert thinner.plans[0].order.loss(4) > 10 * thinner.plans[0].order.loss(5)
    thin = thinner.thin([5])
    assert thin.weights["w0"].shape == (6, 5)
    assert apart(whole.answer(ROWS), thin.answer(ROWS)) < 1e-4


def test_fitting_the_layers_behind_a_cut_is_much_better_than_the_cut_alone() -> None:
    from foretell.optimize.prune.cut import cut

    whole = residual_net(8, 8, 3)
    groups, _ = find_groups(whole)
    thinner = make_thinner(whole, groups, IMAGES, 0, False, silent)
    counts = [6 for _ in thinner.plans]
    bare, left = whole, [plan.group for plan in thinner.plans]
    for at, plan in enumerate(thinner.plans):
        bare, left = cut(bare, left, at, plan.order.kept(6))
    before = whole.answer(IMAGES)
    assert apart(before, thinner.thin(counts).answer(IMAGES)) < 0.7 * apart(before, bare.answer(IMAGES))


def test_a_smaller_share_of_the_cost_keeps_fewer_units() -> None:
    whole = residual_net(8, 8, 3)
    thinner = make_thinner(whole, find_groups(whole)[0], IMAGES, 0, True, silent)
    kept = [sum(thinner.counts(share)) for share in (1.0, 0.7, 0.4, 0.1)]
    assert kept == sorted(kept, reverse=True)
    assert kept[0] == sum(plan.group.units for plan in thinner.plans)
    assert min(thinner.counts(0.01)) >= 1


def test_the_order_is_the_same_each_time() -> None:
    whole = dense_chain([6, 12, 3], add=True)
    (group,), readers = find_groups(whole)[0], find_readers(whole)
    orders = [order(group, readers[1:], whole, _taken(whole, ROWS)) for _ in range(2)]
    assert orders[0].units.tolist() == orders[1].units.tolist()
    assert sorted(orders[0].units.tolist()) == list(range(12))
    assert (np.diff(orders[0].losses) >= 0).all()


def test_the_schedule_rises_quickly_and_ends_where_it_is_to() -> None:
    found = schedule(0.9, 4)
    assert found == sorted(found)
    assert found[-1] == 0.9
    assert found[0] > 0.9 / 4


def test_weights_at_zero_are_made_up_for_by_the_others() -> None:
    whole = dense_chain([6, 40, 3], add=False)
    readers = find_readers(whole)
    masks = choose_masks(whole, 0.5)
    assert np.mean(np.concatenate([each.reshape(-1) for each in masks.values()])) == 0.5
    bare = whole.with_weights({name: np.where(stays, whole.weights[name], 0) for name, stays in masks.items()})
    fitted = mask(whole, masks, ROWS, sample(whole, readers, ROWS, 0, answers=True), 0)
    assert all((fitted.weights[name][~np.asarray(stays)] == 0).all() for name, stays in masks.items())
    before = whole.answer(ROWS)
    assert apart(before, fitted.answer(ROWS)) < 0.7 * apart(before, bare.answer(ROWS))


def _taken(whole: Graph, rows: Arrays) -> Arrays:
    return sample(whole, find_readers(whole), rows, 0)
