"""``foretell bench``: a load generator. What is measured is said in docs/bench.md, with what it cannot tell."""
