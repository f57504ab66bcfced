"""What is refused of clusters."""

from foretell.errors import ForetellError, Unavailable

CLUSTERS: dict[str, tuple[type[ForetellError], str, str]] = {
    "lost_cluster": (
        Unavailable,
        "The Ray cluster cannot be reached, or failed in the middle.",
        "Check `--address`, and that the cluster runs with the same releases of Ray and foretell; then run it again: what has "
        "been done is kept.",
    ),
}
