"""Counts how a shadow's answers compare with those that were given."""

from foretell.comparison import Comparison
from foretell.observe.metrics.counts import Counter, Largest
from foretell.region import Region


class Comparisons:
    """Told of every comparison; ``tallies`` are its numbers. Model and version are those of the shadow."""

    def __init__(self, region: Region) -> None:
        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(region, f"foretell_shadow_{name}", text, ("model", "version", *labels))

        self.requests = counter("requests", "Copies of requests for a shadow, by what became of them.", "outcome")
        self.rows = counter("rows", "Rows of which both answers were compared.")
        self.differing = counter("differing_rows", "Rows with a value that differs.")
        self.deciding = counter("deciding_rows", "Rows whose answer decides for something else.")
        self.values = counter("values", "Floats that were compared.")
        self.difference = counter("difference", "Sum of the absolute differences of these.")
        text = "The largest of these differences since the start."
        self.largest = Largest(region, "foretell_shadow_largest_difference", text, ("model", "version"))
        counters = self.requests, self.rows, self.differing, self.deciding, self.values, self.difference
        self.tallies = (*counters, self.largest)

    def __call__(self, comparison: Comparison) -> None:
        key = (comparison.model, comparison.version)
        self.requests.add((*key, comparison.outcome))
        if comparison.rows:
            self.rows.add(key, comparison.rows)
            self.differing.add(key, comparison.differing)
            self.deciding.add(key, comparison.deciding)
            self.values.add(key, comparison.values)
            self.difference.add(key, comparison.difference)
            self.largest.see(key, comparison.largest)
