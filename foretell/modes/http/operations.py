"""What each route is for, what it reads and gives, and how it may refuse: the words of the OpenAPI document and the page."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from foretell.modes.http.schemas import COUNT, TEXT, Schema, inferred_schema, predictions_schema, refer
from foretell.tensors import Signature

JSON = "application/json"
BINARY = "application/octet-stream"
ROWS = "Rows and media"
PROTOCOL = "Open Inference Protocol"
TENSORFLOW = "TensorFlow Serving"
OTHERS = "TorchServe, SageMaker, Vertex"
SERVER = "Server"
JOBS = "Jobs"
PAGES = "Pages"
TAGS = {
    ROWS: "For people and programs without tensors: an object a row, a table, a picture, a text.",
    PROTOCOL: "Tensors, as clients of KServe, Triton and MLServer speak them.",
    TENSORFLOW: "As its REST clients speak it.",
    OTHERS: "What these platforms call.",
    JOBS: "Requests that are answered later, and work over files.",
    SERVER: "Health, metrics and what the server is.",
    PAGES: "The page for people and what it is made of.",
}

MEANINGS = {
    400: "The caller's input is at fault.",
    401: "No admin key, or a wrong one.",
    403: "Not allowed: a foreign `Host`, or administration where it is off.",
    404: "No such model, version or route.",
    408: "The request did not come whole in time.",
    409: "The state that a job is in does not allow it.",
    413: "The body is over the limit.",
    415: "A content type or encoding that is not spoken here.",
    422: "The idempotency key was used before, with another request.",
    429: "A queue is full: try again later.",
    431: "The headers are over the limit.",
    500: "The model or the server made a mistake; the log has more under the `error_id`.",
    503: "Not ready: loading, draining, or stopped.",
    504: "The deadline passed.",
}

Answers = Callable[[Signature | None], Mapping[str, Schema | None]]
"""The schemas of a good answer by media type, of one model or of any; None is one that is not described."""

ABSENT = (404, 503)
ASKED = (400, 408, 413, 415, 429, 500, 503, 504)


@dataclass(frozen=True)
class Operation:
    """One route.

    ``body`` names what it reads, in ``bodies``. ``by_model``: each model has an entry of its own too, with its schemas.
    ``unready``: what a 503 holds instead of an error. ``admin``: it wants the server's key. ``timed``: it tells its times on
    request.
    """

    method: str
    path: str
    tag: str
    summary: str
    gives: str
    answers: Answers
    refusals: tuple[int, ...] = ()
    about: str = ""
    body: str = ""
    status: int = 200
    by_model: bool = False
    unready: Schema | None = None
    admin: bool = False
    timed: bool = False


def page(path: str, tag: str, summary: str, schema: Schema, *, kind: str = JSON, **more: Any) -> Operation:
    """A route that is read."""
    return Operation("GET", path, tag, summary, "As asked.", fixed(schema, kind), **more)


def door(
    path: str, tag: str, summary: str, answers: Answers, *, refusals: tuple[int, ...] = (), timed: bool = True, **more: Any
) -> Operation:
    """A route that asks a model."""
    return Operation("POST", path, tag, summary, "The answer.", answers, (*ASKED, *refusals), timed=timed, **more)


def fixed(schema: Schema | None, kind: str = JSON) -> Answers:
    """Answers that are the same for every model."""
    return lambda signature: {kind: schema}


def nothing(signature: Signature | None) -> Mapping[str, Schema | None]:
    """An answer without a body."""
    return {}


def struct(**properties: Schema) -> Schema:
    """An object with these properties, all of them there."""
    return {"type": "object", "required": list(properties), "properties": properties}


def listed(schema: Schema) -> Schema:
    return {"type": "array", "items": schema}


def _predictions(signature: Signature | None) -> Mapping[str, Schema | None]:
    rows = listed({"type": "object"}) if signature is None else predictions_schema(signature)
    return {JSON: struct(model_name=TEXT, model_version=TEXT, predictions=rows)}


def _inferred(signature: Signature | None) -> Mapping[str, Schema | None]:
    return {JSON: inferred_schema(signature), BINARY: None}


YES: Schema = {"type": "boolean"}
MODEL_READY = struct(name=TEXT, ready=YES)
METADATA = struct(
    name=TEXT,
    versions=listed(TEXT),
    platform=TEXT,
    inputs=listed(refer("TensorMetadata")),
    outputs=listed(refer("TensorMetadata")),
)
LIST: Schema = {"type": "array"}
GENERATED = fixed(struct(model_name=TEXT, model_version=TEXT))
HEALTH = struct(status={"enum": ["Healthy", "Unhealthy"]})
CONFIG = struct(name=TEXT, platform=TEXT, backend=TEXT, max_batch_size=COUNT, input=listed({}), output=listed({}))
STATE: Schema = {"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]}
STATISTICS = struct(model_stats=listed(struct(name=TEXT, version=TEXT)))
STATUS = struct(
    model_version_status=listed(struct(version=TEXT, state=TEXT, status=struct(error_code=TEXT, error_message=TEXT)))
)
SIGNATURE = struct(
    model_spec=struct(name=TEXT, signature_name=TEXT, version=TEXT), metadata=struct(signature_def={"type": "object"})
)

READY_ABOUT = "503 while models load and while the server stops: for load balancers."
ROW_ABOUT = (
    "An object is one row, a list of objects is several; for a model with one input a row may be its bare value. Also read: "
    "`application/x-ndjson`; `text/csv` where every input is one value; and for a model of one picture or one text `image/*`, "
    "`text/plain` or `application/octet-stream`, the body being the file itself. Such a model takes its file without a content "
    "type too, unless it begins as JSON. The answer has one prediction for each row."
)
PUT_ABOUT = "The same as by POST, for `curl -T FILE`."
ONLY_ABOUT = "For a server with one model, or one that is named `default`."
INFER_ABOUT = (
    "`data` is flat in row-major order, or nested. A datatype other than the model's own is taken when every value converts "
    "without loss. The parameter `timeout`, in microseconds, shortens the time that the answer may take. Binary tensors stand "
    "behind the JSON, whose length the header `Inference-Header-Content-Length` then gives."
)
GENERATE_ABOUT = "The inputs are the keys of the body; other keys are parameters. The outputs are the keys of the answer."
STREAM_ABOUT = (
    "As `generate`, the answer coming as server-sent events. What fails after the first piece is told by an event `error`."
)
ADMIN_ABOUT = "Wants the server's admin key as `authorization: Bearer KEY`; without one set, administration is off."
JOB = struct(id=TEXT, kind=TEXT, state={"enum": ["waiting", "running", "done", "failed", "cancelled"]}, created_at=TEXT)
JOB_ABOUT = "A request's is for who knows its id; one over files wants the server's admin key."
TENSORFLOW_ABOUT = (
    '`{"instances": [...]}` holds rows, answered with `predictions`; `{"inputs": ...}` holds columns, answered with '
    '`outputs`. Bytes that are not text are `{"b64": "..."}`.'
)
EXAMPLES_ABOUT = "Each of the `examples` is an object of features; what all share may stand in `context`."


def _server() -> Iterable[Operation]:
    live, ready = struct(live=YES), struct(ready=YES)
    about = struct(name=TEXT, version=TEXT, extensions=listed(TEXT))
    yield page("/v2/health/live", SERVER, "Is the process alive?", live)
    yield page("/v2/health/ready", SERVER, "Are all models ready?", ready, about=READY_ABOUT, refusals=(503,), unready=ready)
    yield page("/v2", SERVER, "What is this server, and which extensions does it speak?", about)
    yield page("/metrics", SERVER, "Metrics for Prometheus", {"type": "string"}, kind="text/plain")


def _models() -> Iterable[Operation]:
    model, streamed = "/v2/models/{model}", fixed(None, "text/event-stream")
    infer, generate, stream = (f"{model}/{verb}" for verb in ("infer", "generate", "generate_stream"))
    yield door(infer, PROTOCOL, "Ask the tensors of a model", _inferred, body="infer", about=INFER_ABOUT, by_model=True)
    yield door(generate, PROTOCOL, "Ask one row of a model", GENERATED, body="generate", about=GENERATE_ABOUT)
    summary = "Ask one row of a model, piece by piece"
    yield door(stream, PROTOCOL, summary, streamed, body="generate", about=STREAM_ABOUT, timed=False)
    yield page("/v2/models", PROTOCOL, "Which models are there?", listed(struct(name=TEXT, version=TEXT, ready=YES)))
    yield page(model, PROTOCOL, "What does a model take and give?", METADATA, refusals=ABSENT)
    yield page(model + "/ready", PROTOCOL, "Is a model ready?", MODEL_READY, refusals=ABSENT, unready=MODEL_READY)
    yield page(model + "/config", PROTOCOL, "How is a model served?", CONFIG, refusals=ABSENT)
    yield page(model + "/stats", PROTOCOL, "What has a model done?", STATISTICS, refusals=ABSENT)
    yield page("/v2/models/stats", PROTOCOL, "What have all models done?", STATISTICS)


def _repository() -> Iterable[Operation]:
    path, summary = "/v2/repository", "Which models are known, ready or not?"
    index = fixed(listed(struct(name=TEXT, version=TEXT, state=STATE, reason=TEXT)))
    yield Operation("POST", path + "/index", PROTOCOL, summary, "The models.", index, (400, 408, 413), body="index")
    for verb in ("load", "unload"):
        route, summary = f"{path}/models/{{model}}/{verb}", f"{verb.capitalize()} a model"
        refusals = (400, 401, 403, 404, 408, 413, 429, 500)
        yield Operation(
            "POST", route, PROTOCOL, summary, "Done.", nothing, refusals, about=ADMIN_ABOUT, body="options", admin=True
        )


def _rows() -> Iterable[Operation]:
    path, summary = "/predict/{model}", "Ask the rows of a model"
    yield door(path, ROWS, summary, _predictions, about=ROW_ABOUT, body="rows", by_model=True)


def _tensorflow() -> Iterable[Operation]:
    model = "/v1/models/{model}"
    predicted = fixed({"anyOf": [struct(predictions=LIST), struct(outputs={})]})
    results = fixed(struct(results=LIST))
    summary = "Ask a model in rows or columns"
    yield door(model + ":predict", TENSORFLOW, summary, predicted, about=TENSORFLOW_ABOUT, body="instances")
    yield door(model + ":classify", TENSORFLOW, "Classes with their scores", results, about=EXAMPLES_ABOUT, body="classify")
    yield door(model + ":regress", TENSORFLOW, "One number a row", results, about=EXAMPLES_ABOUT, body="regress")
    yield page(model, TENSORFLOW, "The state of a model's versions", STATUS, refusals=ABSENT)
    yield page(model + "/metadata", TENSORFLOW, "The signature of a model", SIGNATURE, refusals=ABSENT)


def _others() -> Iterable[Operation]:
    path, summary = "/predictions/{model}", "Ask the rows of a model (TorchServe)"
    yield page("/ping", OTHERS, "Is the server ready? (TorchServe, SageMaker)", HEALTH, refusals=(503,), unready=HEALTH)
    posted = door(path, OTHERS, summary, _predictions, about=ROW_ABOUT, body="rows")
    yield posted
    yield replace(posted, method="PUT", about=PUT_ABOUT)
    path, summary = "/invocations", "Ask the rows of the only model (SageMaker)"
    yield door(path, OTHERS, summary, _predictions, about=ONLY_ABOUT, body="only", refusals=(404,))


def _vertex() -> Iterable[Operation]:
    """At the paths that the platform says: found by the names of their functions."""
    rows = fixed(struct(predictions=listed({"type": "object"})))
    summary = "Ask the rows of the only model (Vertex)"
    yield page("ping", OTHERS, "Is the server ready? (Vertex)", HEALTH, refusals=(503,), unready=HEALTH)
    yield door("nameless", OTHERS, summary, rows, about=ONLY_ABOUT, body="vertex", refusals=(404,))


def _pages() -> Iterable[Operation]:
    examples = "A body that a model answers, to be sent to one of its doors as it is"
    yield Operation("GET", "/", PAGES, "Leads to the page", "See `Location`.", nothing, status=307)
    yield page("/docs", PAGES, "The page for people", {"type": "string"}, kind="text/html")
    yield Operation("GET", "/docs/{name}", PAGES, "A file of the page", "The file.", _page_files, (404,))
    yield Operation("GET", "/docs/examples/{model}/{door}", PAGES, examples, "The body.", _example_bodies, ABSENT)
    yield page("/openapi.json", PAGES, "All routes, in OpenAPI 3.1", {"type": "object"})


def _page_files(signature: Signature | None) -> Mapping[str, Schema | None]:
    return {"text/css": {"type": "string"}, "text/javascript": {"type": "string"}}


def _example_bodies(signature: Signature | None) -> Mapping[str, Schema | None]:
    return {JSON: {}, "image/png": None, "text/plain": {"type": "string"}}


def _jobs() -> Iterable[Operation]:
    path, one = "/jobs", "/jobs/{id}"
    job = fixed(JOB)
    admin: dict[str, Any] = {"admin": True, "about": ADMIN_ABOUT}
    keeping = (400, 401, 403, 404, 408, 409, 413, 422, 429, 503)
    listing = fixed(struct(jobs=listed(JOB), after={"type": ["string", "null"]}))
    yield Operation("POST", path, JOBS, "Answer the rows of files", "Accepted.", job, keeping, body="job", status=202, **admin)
    yield Operation("GET", path, JOBS, "Which jobs are there?", "The newest first.", listing, (400, 401, 404, 503), **admin)
    finding = (401, 404, 503)
    yield Operation("GET", one, JOBS, "How far is a job?", "The job.", job, finding, about=JOB_ABOUT)
    yield Operation("DELETE", one, JOBS, "Cancel a job", "The job.", job, finding, about=JOB_ABOUT)
    yield Operation("POST", one + "/cancel", JOBS, "Cancel a job, by POST", "The job.", job, finding, about=JOB_ABOUT)
    summary = "The answer of a request, as it would have come at once; the report of a job over files"
    about = f"{JOB_ABOUT} 202 until there is one, with the job. `Prefer: wait=10` waits up to so many seconds for it."
    any_answer = fixed(None, "*/*")
    yield Operation("GET", one + "/result", JOBS, summary, "As it would have come.", any_answer, (*finding, 409), about=about)
    summary = "Answer the rows that failed once more"
    yield Operation("POST", one + "/retry", JOBS, summary, "A new job.", job, (*finding, 400, 409, 429), status=202, **admin)
    lines = fixed(struct(lines=listed(struct(at=TEXT, text=TEXT))))
    yield Operation("GET", one + "/logs", JOBS, "What a job has said", "The newest lines.", lines, finding, **admin)


PARTS = (_rows, _models, _repository, _tensorflow, _others, _vertex, _jobs, _server, _pages)
OPERATIONS: Mapping[str, Operation] = {f"{each.method} {each.path}": each for part in PARTS for each in part()}
"""By method and path, versions and labels left out of it."""
