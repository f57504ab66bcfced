"""How many answers a second a server gives within the objective: clients are added for as long as it holds.

Each client waits for its answer before it asks again, so that a server that is too slow is seen at once and drowns in nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from foretell.bench.figures import Figures
from foretell.optimize.tune.objective import Objective

MOST_CLIENTS = 512
STEPS = 6
LONGEST_STEP = 6.0
NEAR = 0.97
"""How near to the bound the next load is meant to come."""
FLAT = 1.03
"""More clients that bring less than this bring nothing."""


@dataclass
class Climb:
    """The loads that were tried, by their number of clients; of one number the last counts. ``answered``: in all of them."""

    objective: Objective
    tried: dict[int, Figures] = field(default_factory=dict)
    answered: int = 0

    def add(self, clients: int, figures: Figures) -> None:
        self.tried[clients] = figures
        self.answered += figures.good

    @property
    def best(self) -> int | None:
        """The clients that brought most answers within the objective."""
        met = [clients for clients, figures in self.tried.items() if self.objective.met_by(figures)]
        return max(met, key=lambda clients: self.tried[clients].rate, default=None)

    @property
    def shown(self) -> int:
        """The best, or the lightest load where nothing met the objective."""
        return self.best or min(self.tried)


def climb(load: Callable[[int, float], Figures], objective: Objective, seconds: float, first: int, steps: int = STEPS) -> Climb:
    """Loads of ``seconds`` in all, from ``first`` clients up or down; what time is left goes to the best once more.

    ``load`` runs so many clients for so many seconds; ``steps`` are the loads.
    """
    found = Climb(objective)
    step_s = seconds / steps
    clients: int | None = first
    left = steps
    while clients is not None and left > 1:
        found.add(clients, load(clients, step_s))
        left -= 1
        clients = _next(found, clients)
    found.add(found.shown, load(found.shown, left * step_s))
    return found


def _next(found: Climb, clients: int) -> int | None:
    """The number of clients to try after this one; None when others are of no use."""
    met = {each: figures.rate for each, figures in found.tried.items() if found.objective.met_by(figures)}
    bad = min((each for each in found.tried if each not in met), default=None)
    good = max((each for each in met if bad is None or each < bad), default=None)
    if bad is None:
        before = max((rate for each, rate in met.items() if each != clients), default=0.0)
        wanted = _aimed(found, clients * 1.5, clients * LONGEST_STEP) if met[clients] > before * FLAT else None
    elif good is None:
        wanted = _aimed(found, max(bad / LONGEST_STEP, 1.0), max(bad * 0.8, 1.0))
    else:
        wanted = _aimed(found, good + 0.15 * (bad - good), bad - 0.15 * (bad - good))
    return wanted if wanted and wanted <= MOST_CLIENTS and wanted not in found.tried else None


def _aimed(found: Climb, least: float, most: float) -> int:
    """Where a straight line through the last two latencies nearly meets the bound, within limits.

    Through one alone it is drawn as if half of that were the time of one client.
    """
    (few, low_s), (many, high_s) = sorted([(0, 0.0), (0, 0.0), *_points(found)])[-2:]
    if few == 0:
        few, low_s = 1, high_s / 2
    slope = (high_s - low_s) / (many - few) if many > few else 0.0
    aim = few + (NEAR * found.objective.bound_s - low_s) / slope if slope > 0 else most
    return round(min(max(aim, least), most))


def _points(found: Climb) -> list[tuple[int, float]]:
    """The last two loads that were answered at all, with what is bounded."""
    return [(clients, found.objective.of(figures)) for clients, figures in found.tried.items() if figures.good][-2:]
