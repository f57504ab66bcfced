"""What is refused of work on a model itself: quantizing, pruning, distilling, tuning."""

from foretell.errors import ForetellError, Setup

OPTIMIZING: dict[str, tuple[type[ForetellError], str, str]] = {
    "unlabelled": (
        Setup,
        "The rows have no labels, or some have none, and the metric needs them.",
        "Name the column of labels with `--label`, or leave out `--metric` to compare with the original's own answers.",
    ),
    "too_few_rows": (Setup, "There are too few rows to choose or to judge by.", "Add rows that look like those of real use."),
    "unusable_rows": (
        Setup,
        "The rows cannot show how a model behaves: they hold NaN or infinities, never change, or are too many.",
        "Correct the rows as the message says; rows that look like those of real use are needed.",
    ),
    "wrong_metric": (
        Setup,
        "The metric does not fit what the model answers, or the labels.",
        "Choose another with `--metric`: accuracy, f1 and auc are for classes, rmse is for numbers.",
    ),
    "unsupported_graph": (
        Setup,
        "The model cannot be changed in the way that was asked.",
        "Do as the message says; docs/optimize.md lists what can be changed.",
    ),
    "larger_student": (
        Setup,
        "The student would be no smaller than its teacher.",
        "Give a smaller `--size`, or a smaller module.",
    ),
    "not_better": (
        Setup,
        "The changed model is not good enough to be written: nothing was.",
        "Read the reasons in the message; raise `--budget`, ask for something else with `--for`, or write it with `--force`.",
    ),
    "wrong_objective": (
        Setup,
        "The objective of a search cannot be read.",
        "Write a percentile and a time with `--slo`, as in `--slo p99=20ms`.",
    ),
    "unmet_objective": (
        Setup,
        "Nothing that was tried keeps to the objective, not even for one client at a time.",
        "Allow more time with `--slo`, or make the model smaller; the table that was written shows how near each came.",
    ),
    "short_budget": (
        Setup,
        "The time is too short for one look at each candidate.",
        "Give more `--seconds`, or leave fewer candidates with `--only`, `--workers`, `--threads` or `--batch-rows`.",
    ),
    "cannot_tune": (
        Setup,
        "The model cannot be searched: it is not one model, cannot be served here, or nothing of it is left to try.",
        "Do as the message says; `foretell inspect` shows whether a model can be served.",
    ),
}
