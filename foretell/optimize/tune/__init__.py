"""``foretell tune``: the runtime, precision, threads, workers and batches with which a model is served best on this machine."""

from foretell.optimize.tune.objective import Objective
from foretell.optimize.tune.report import Report
from foretell.optimize.tune.tune import Wanted, tune

__all__ = ["Objective", "Report", "Wanted", "tune"]
