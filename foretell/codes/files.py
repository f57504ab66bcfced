"""What is refused of rows in files and object stores."""

from foretell.errors import ForetellError, Setup, Unavailable

FILES: dict[str, tuple[type[ForetellError], str, str]] = {
    "changed_run": (
        Setup,
        "A run that was interrupted was one of another input, model or settings.",
        "Run it with what it was begun with, or begin anew with `--restart`: what had been done is thrown away.",
    ),
    "busy_target": (
        Setup,
        "Another run is writing these answers.",
        "Wait until it has ended, or name another file with `-o`.",
    ),
    "too_many_errors": (
        Setup,
        "More rows failed than `--max-errors` allows.",
        "Look at the reason that is told; go on by a higher `--max-errors`, or correct the rows and begin anew by `--restart`.",
    ),
    "wrong_filter": (
        Setup,
        "The expression of `--where` cannot be understood, or does not fit the rows.",
        'Write comparisons of columns with numbers or texts, joined by `and`, `or` and `not`, as in `--where "age > 30"`.',
    ),
    "wrong_keep": (
        Setup,
        "A column of `--keep` is not in the rows.",
        "Name columns that the rows have, with commas between, as in `--keep id,land`, or `*` for all of them.",
    ),
    "lost_store": (
        Unavailable,
        "An object store does not answer, or not as it should.",
        "Check the address, the credentials and the network, and run it again: what has been done is kept.",
    ),
}
