"""What a job over files is to do: as its submitter tells it, checked, and as its process is told."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from foretell.errors import Conflict, Invalid
from foretell.jobs.envelope import pack, unpack
from foretell.jobs.job import Job
from foretell.jobs.places import Places
from foretell.request import LOW

Count = Annotated[int, msgspec.Meta(ge=1, le=10**9)]
Share = Annotated[int, msgspec.Meta(ge=0, le=10**12)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]


class FilesOrder(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """``map``: input -> column. ``batch_rows``: rows of a mini-batch. ``max_errors``: more bad rows end the job.

    ``only``: a file of errors, whose rows alone are answered; ``attempt``: how often that has been done.
    ``retries``: tries after the first for what may pass. ``concurrency``: how much is answered side by side. The rest is as
    `foretell predict` has it.
    """

    model: Name
    input: str
    output: str
    version: Name | None = None
    map: dict[str, str] = msgspec.field(default_factory=dict)
    batch_rows: Count | None = None
    max_errors: Share | None = None
    retries: Annotated[int, msgspec.Meta(ge=0, le=100)] | None = None
    concurrency: Annotated[int, msgspec.Meta(ge=1, le=256)] = 1
    keep: list[str] = msgspec.field(default_factory=list)
    where: Annotated[str, msgspec.Meta(max_length=10_000)] = ""
    limit: Count | None = None
    sample: Annotated[float, msgspec.Meta(gt=0, le=1)] = 1.0
    restart: bool = False
    only: str = ""
    attempt: Annotated[int, msgspec.Meta(ge=0, le=1000)] = 0
    priority: Annotated[int, msgspec.Meta(ge=1, le=3)] = LOW

    @classmethod
    def read(cls, told: Mapping[str, Any]) -> "FilesOrder":
        """Raises Invalid ``wrong_job``, naming the field."""
        try:
            return msgspec.convert(told, cls)
        except msgspec.ValidationError as error:
            text = str(error).replace("Object", "it", 1)
            raise Invalid("wrong_job", f"the job cannot be read: {text}: send model, input and output") from error

    @property
    def fingerprint(self) -> str:
        """The same for the same order."""
        return hashlib.sha256(msgspec.json.encode(self, order="sorted")).hexdigest()

    @staticmethod
    def shown(spec: bytes) -> dict[str, Any]:
        """The order of a job as it is shown."""
        order: dict[str, Any] = unpack(spec)[0]["order"]
        return order


@dataclass(frozen=True)
class Orders:
    """Makes specs of orders, and of specs what a process is told. ``find`` gives the version of a model, or raises Missing.

    ``known``: what every process is told besides: where the models are.
    """

    places: Places
    find: Callable[[str, str | None], str]
    known: Mapping[str, Any] = field(default_factory=dict)

    def spec(self, order: FilesOrder, webhook: str | None) -> bytes:
        """The spec of a job. Raises what its model or its paths are refused for."""
        checked = msgspec.structs.replace(
            order,
            version=self.find(order.model, order.version),
            input=self.places.check(order.input),
            output=self.places.check_output(order.output),
            only=self.places.check(order.only) if order.only else "",
        )
        return pack({"order": msgspec.to_builtins(checked), "webhook": webhook})

    def told(self, job: Job) -> Mapping[str, Any]:
        """What the process of a job is told. One that has begun is taken up again, even if it was to begin anew."""
        order = {**self.shown(job), **({"restart": False} if job.progress else {})}
        self.places.check(order["input"])
        self.places.check_output(order["output"])
        places = {"folders": [str(each) for each in self.places.folders], "prefixes": list(self.places.prefixes)}
        return {**self.known, "job": job.id, "order": order, "places": places}

    def again(self, job: Job) -> FilesOrder:
        """An order over the rows that failed in a job: their answers go beside its own. Raises Conflict ``no_failed_rows``."""
        report = unpack(job.result)[0] if job.result else {}
        if not report:
            raise Conflict("no_failed_rows", "the job came to no report, and so to no rows that failed: submit it again")
        if not report.get("failed") or not report.get("errors"):
            raise Conflict("no_failed_rows", "no row of this job failed")
        order = FilesOrder.read(self.shown(job))
        number = order.attempt + 1
        output = _beside(order.output, f".retry{order.attempt}", f".retry{number}")
        return msgspec.structs.replace(order, output=output, only=report["errors"], attempt=number, restart=True)

    def shown(self, job: Job) -> dict[str, Any]:
        return FilesOrder.shown(job.spec)


def _beside(output: str, before: str, mark: str) -> str:
    """``answers.retry1.csv`` for ``answers.csv``, ``answers.retry1/`` for a folder; the mark replaces the one before."""
    folder, slash, name = output.rstrip("/").rpartition("/")
    stem, dot, suffix = name.rpartition(".")
    if output.endswith("/") or not stem:
        return f"{folder}{slash}{name.removesuffix(before)}{mark}/"
    return f"{folder}{slash}{stem.removesuffix(before)}{mark}{dot}{suffix}"
