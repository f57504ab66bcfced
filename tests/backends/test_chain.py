"""Several models as one: in the order of the data, checked where they meet."""

import numpy as np
import pytest

from foretell.backends import is_thread_safe
from foretell.backends.chain import Link, chain
from foretell.errors import Setup
from foretell.tensors import Arrays, Signature, TensorSpec
from foretell.testing import FakeBackend

X = TensorSpec.parse("x", "FP32[2]")
ROWS: Arrays = {"x": np.array([[1, 2], [3, 4]], np.float32)}


def double(*, rows: bool = True, x: str = "FP32[2]", y: str = "FP32[2]") -> FakeBackend:
    return FakeBackend(signature=signature(rows=rows, x=x, y=y))


def signature(*, rows: bool = True, x: str = "FP32[2]", y: str = "FP32[2]") -> Signature:
    return Signature((TensorSpec.parse("x", x),), (TensorSpec.parse("y", y),), rows)


def link(takes: str, gives: str, model: FakeBackend | None = None) -> Link:
    return Link(f"{takes} to {gives}", model or FakeBackend(), {"x": takes}, {"y": gives})


def refusal(*words: str, links: list[Link], whole: Signature | None = None) -> None:
    with pytest.raises(Setup) as caught:
        chain(links, whole or signature(), "the chain")
    assert caught.value.code == "broken_config"
    for word in words:
        assert word in caught.value.message


def test_links_run_in_the_order_of_their_data() -> None:
    model = chain([link("b", "y"), link("a", "b"), link("x", "a")], signature(), "the chain")
    assert model.forward(ROWS)["y"].tolist() == [[15, 23], [31, 39]]


def test_a_tensor_may_go_to_several_links_and_out_as_well() -> None:
    def add(inputs: Arrays) -> Arrays:
        return {"sum": np.add(inputs["left"], inputs["right"])}

    both = Signature(
        (TensorSpec.parse("left", "FP32[2]"), TensorSpec.parse("right", "FP32[2]")), (TensorSpec.parse("sum", "FP32[2]"),)
    )
    last = Link("add", FakeBackend(add, both), {"left": "a", "right": "x"}, {"sum": "total"})
    whole = Signature((X,), (TensorSpec.parse("total", "FP32[2]"), TensorSpec.parse("a", "FP32[2]")))
    answers = chain([last, link("x", "a")], whole, "the chain").forward(ROWS)
    assert list(answers) == ["total", "a"]
    assert answers["total"].tolist() == [[4, 7], [10, 13]]


def test_closing_it_closes_its_models() -> None:
    models = [FakeBackend(), FakeBackend()]
    model = chain([link("x", "a", models[0]), link("a", "y", models[1])], signature(), "the chain")
    model.close()
    assert [each.closed for each in models] == [True, True]
    assert not is_thread_safe(model)


def test_models_with_rows_may_stand_in_a_chain_without() -> None:
    whole = signature(rows=False, x="FP32[?, 2]", y="FP32[?, 2]")
    assert chain([link("x", "y")], whole, "the chain").forward(ROWS)["y"].shape == (2, 2)
    refusal("has no row axis", links=[link("x", "y", double(rows=False))])


@pytest.mark.parametrize(
    ("links", "words"),
    [
        ([link("x", "a")], ["the chain: nothing makes the tensor 'y'", "x, a"]),
        ([link("z", "y")], ["z to y: nothing makes the tensor 'z'"]),
        ([link("x", "y"), link("x", "y")], ["tensor 'y' is made a second time"]),
        ([link("x", "x"), link("x", "y")], ["tensor 'x' is made a second time"]),
        ([link("b", "a"), link("a", "b"), link("x", "y")], ["b to a", "there is a circle"]),
        ([link("y", "y")], ["there is a circle"]),
        ([link("x", "a"), link("a", "y", double(x="FP32[3]"))], ["made as FP32 [?, 2], but taken as FP32 [?, 3]"]),
        ([link("x", "a"), link("a", "y", double(x="INT64[2]"))], ["made as FP32 [?, 2], but taken as INT64"]),
        ([link("x", "y", double(y="FP32"))], ["the chain: tensor 'y' is made as FP32 [?], but taken as FP32 [?, 2]"]),
        ([Link("one", FakeBackend(), {"wrong": "x"}, {"y": "y"})], ["one: the model takes x, but mapped are wrong"]),
        ([Link("one", FakeBackend(), {}, {"y": "y"})], ["one: the model takes x, but mapped are "]),
        ([Link("one", FakeBackend(), {"x": "x"}, {"wrong": "y"})], ["one: the model gives y, but mapped are wrong"]),
        ([Link("one", FakeBackend(), {"x": "x"}, {})], ["one: the model gives y, but mapped are none"]),
    ],
)
def test_what_does_not_fit_together_is_named(links: list[Link], words: list[str]) -> None:
    refusal(*words, links=links)
