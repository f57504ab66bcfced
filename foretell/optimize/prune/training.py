"""Training after a cut: the graph's own operators in torch, its weights taught to answer as the original did, and by labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its own documentation's name

from foretell.errors import Setup
from foretell.evidence.case import Case
from foretell.optimize.prune.graph import Graph, attributes
from foretell.tensors import Array

BATCH_ROWS = 64
RATE = 1e-3
LABELS = 0.3
"""The share that labels have in what is learned."""
Values = dict[str, Any]


def train(graph: Graph, case: Case, epochs: int, seed: int, masks: Mapping[str, Array] | None = None) -> Graph:
    """The graph with trained weights; where a mask is false they stay 0. Raises Setup ``unsupported_graph``."""
    check_trainable(graph, case)
    torch.manual_seed(seed)
    fixed = {name for node in graph.nodes if node.op_type == "BatchNormalization" for name in node.input[3:5]}
    weights = {name: torch.from_numpy(np.array(array)) for name, array in graph.weights.items()}
    taught = {name: each.requires_grad_() for name, each in weights.items() if _is_taught(each) and name not in fixed}
    kept = {name: torch.from_numpy(np.array(mask)) for name, mask in (masks or {}).items()}
    rows = {name: torch.from_numpy(np.array(array)) for name, array in case.fit.rows.items()}
    loss = _loss(case)
    optimizer = torch.optim.Adam(taught.values(), RATE)
    count = len(case.fit)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs * -(-count // BATCH_ROWS))
    for _ in range(epochs):
        for chosen in torch.randperm(count).split(BATCH_ROWS):
            optimizer.zero_grad()
            answers = run(graph, {**weights, **{name: each[chosen] for name, each in rows.items()}})
            loss(answers, chosen).backward()
            optimizer.step()
            schedule.step()
            with torch.no_grad():
                for name, mask in kept.items():
                    weights[name].mul_(mask)
    return graph.with_weights({name: each.detach().numpy() for name, each in taught.items()})


def check_trainable(graph: Graph, case: Case) -> None:
    """That torch can run the graph, and that there is something to learn. Raises Setup ``unsupported_graph``."""
    unknown = sorted(
        {node.op_type for node in graph.nodes if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS}
    )
    if unknown:
        raise Setup("unsupported_graph", f"training knows no operator {', '.join(unknown)}: leave out --epochs")
    if case.reading.scored is None:
        raise Setup(
            "unsupported_graph", "the model gives classes without scores, from which nothing is learned: leave out --epochs"
        )


def run(graph: Graph, values: Values) -> Values:
    for node in graph.nodes:
        given = [values[name] if name else None for name in node.input]
        made = OPERATORS[node.op_type](given, attributes(node), node)
        made = made if isinstance(made, list | tuple) else [made]
        values.update(zip(node.output, made, strict=False))
    return values


def _is_taught(tensor: Any) -> bool:
    return bool(tensor.is_floating_point() and tensor.numel() > 1)


def _loss(case: Case) -> Callable[[Values, Any], Any]:
    """By the original's scores or numbers; of classes also by the labels, if there are any."""
    name = case.reading.scored
    assert name is not None
    wanted = torch.from_numpy(np.array(case.answers(case.original, case.fit.rows)[name]))
    if not case.reading.order or wanted.ndim != 2 or wanted.shape[1] < 2:
        spread = wanted.float().var().clamp_min(1e-12)
        return lambda answers, chosen: ((answers[name] - wanted[chosen]) ** 2).mean() / spread
    whole = bool((wanted >= 0).all() and torch.allclose(wanted.sum(1), torch.ones(len(wanted)), atol=1e-3))
    soft = wanted if whole else wanted.softmax(1)
    labelled = case.fit.labels is not None and not case.metric.own
    truth = torch.from_numpy(case.reading.encode(case.fit.labels)) if labelled and case.fit.labels is not None else None

    def loss(answers: Values, chosen: Any) -> Any:
        logs = answers[name].clamp_min(1e-7).log() if whole else answers[name].log_softmax(1)
        from_original = -(soft[chosen] * logs).sum(1).mean()
        return from_original if truth is None else (1 - LABELS) * from_original + LABELS * F.nll_loss(logs, truth[chosen])

    return loss


def _ints(given: Sequence[Any], at: int, options: Mapping[str, Any], name: str) -> list[int] | None:
    """A list of numbers that is an input in newer operator sets, an attribute in older ones."""
    if at < len(given) and given[at] is not None:
        return [int(each) for each in given[at].reshape(-1).tolist()]
    return options.get(name)


def _gemm(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    one = given[0].T if options.get("transA") else given[0]
    other = given[1].T if options.get("transB") else given[1]
    found = options.get("alpha", 1.0) * (one @ other)
    return found if len(given) < 3 or given[2] is None else found + options.get("beta", 1.0) * given[2]


def _padded(given: Any, options: Mapping[str, Any], fill: float = 0.0) -> Any:
    pads = options.get("pads") or [0, 0, 0, 0]
    top, left, bottom, right = pads
    return F.pad(given, (left, right, top, bottom), value=fill) if any(pads) else given


def _conv(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    bias = given[2] if len(given) > 2 else None
    strides, dilations = options.get("strides", 1), options.get("dilations", 1)
    return F.conv2d(_padded(given[0], options), given[1], bias, strides, 0, dilations, options.get("group", 1))


def _batch_norm(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    taken, scale, bias, mean, variance = given
    return F.batch_norm(taken, mean, variance, scale, bias, False, 0.0, options.get("epsilon", 1e-5))


def _max_pool(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    strides, dilations = options.get("strides", 1), options.get("dilations", 1)
    padded = _padded(given[0], options, float("-inf"))
    return F.max_pool2d(padded, options["kernel_shape"], strides, 0, dilations, bool(options.get("ceil_mode", 0)))


def _average_pool(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    if any(options.get("pads", [])) and not options.get("count_include_pad"):
        raise Setup("unsupported_graph", "training knows no AveragePool that leaves out its padding: leave out --epochs")
    return F.avg_pool2d(_padded(given[0], options), options["kernel_shape"], options.get("strides", 1))


def _layer_norm(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    bias = given[2] if len(given) > 2 else None
    return F.layer_norm(given[0], given[1].shape, given[1], bias, options.get("epsilon", 1e-5))


def _reshape(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    wanted = [int(each) for each in given[1].tolist()]
    return given[0].reshape([given[0].shape[at] if size == 0 else size for at, size in enumerate(wanted)])


def _flatten(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    axis = options.get("axis", 1)
    return given[0].reshape(int(np.prod(given[0].shape[:axis])), -1)


def _reduce_mean(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    return given[0].mean(_ints(given, 1, options, "axes"), keepdim=bool(options.get("keepdims", 1)))


def _squeeze(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    axes = _ints(given, 1, options, "axes")
    return given[0].squeeze() if axes is None else given[0].squeeze(tuple(axes))


def _unsqueeze(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    found, axes = given[0], _ints(given, 1, options, "axes") or []
    for axis in sorted(each % (given[0].ndim + len(axes)) for each in axes):
        found = found.unsqueeze(axis)
    return found


def _gather(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    axis, places = options.get("axis", 0) % given[0].ndim, given[1]
    found = given[0].index_select(axis, places.reshape(-1) % given[0].shape[axis])
    return found.reshape(*given[0].shape[:axis], *places.shape, *given[0].shape[axis + 1 :])


def _split(given: Sequence[Any], options: Mapping[str, Any], node: Any) -> Any:
    axis = options.get("axis", 0)
    sizes = _ints(given, 1, options, "split") or given[0].shape[axis] // len(node.output)
    return given[0].split(sizes, axis)


def _simple(call: Callable[..., Any]) -> Callable[..., Any]:
    return lambda given, options, node: call(*given)


OPERATORS: Mapping[str, Callable[..., Any]] = {
    **{
        name: _simple(getattr(torch, name.lower()))
        for name in ["Relu", "Sigmoid", "Tanh", "Erf", "Exp", "Sqrt", "Neg", "Abs", "Add", "Sub", "Mul", "Div", "Pow", "MatMul"]
    },
    "Identity": _simple(lambda given: given),
    "Dropout": lambda given, options, node: given[0],
    "LeakyRelu": lambda given, options, node: F.leaky_relu(given[0], options.get("alpha", 0.01)),
    "Gelu": lambda given, options, node: F.gelu(given[0], approximate=options.get("approximate", b"none").decode()),
    "Clip": lambda given, options, node: torch.clamp(given[0], *(given[1:] or [options.get("min"), options.get("max")])),
    "Softmax": lambda given, options, node: given[0].softmax(options.get("axis", -1)),
    "LogSoftmax": lambda given, options, node: given[0].log_softmax(options.get("axis", -1)),
    "Concat": lambda given, options, node: torch.cat(list(given), options["axis"]),
    "Transpose": lambda given, options, node: given[0].permute(options.get("perm", list(range(given[0].ndim))[::-1])),
    "GlobalAveragePool": lambda given, options, node: given[0].mean(tuple(range(2, given[0].ndim)), keepdim=True),
    "Gemm": _gemm,
    "Conv": _conv,
    "BatchNormalization": _batch_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "LayerNormalization": _layer_norm,
    "Reshape": _reshape,
    "Flatten": _flatten,
    "ReduceMean": _reduce_mean,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Gather": _gather,
    "Split": _split,
}
