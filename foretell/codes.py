"""Every stable code, once: its class of error, what it means and what to do. docs/errors.md is made from this table."""

from foretell.errors import (
    Broken,
    Busy,
    Cancelled,
    Denied,
    ForetellError,
    HeadersTooLarge,
    Invalid,
    Late,
    Missing,
    Setup,
    Stalled,
    TooLarge,
    Unauthenticated,
    Unavailable,
    Unsupported,
    WrongVerb,
)

CODES: dict[str, tuple[type[ForetellError], str, str]] = {
    # code: (class, what it means, what to do). docs/errors.md is made from this table; a test keeps it complete.
    # -- the caller's input
    "invalid_json": (
        Invalid,
        "The body is not the JSON that this route reads.",
        "Send one valid JSON document of the documented form.",
    ),
    "invalid_http": (
        Invalid,
        "What came is not an HTTP/1.1 request.",
        "Use an HTTP client, and check that no proxy alters the request.",
    ),
    "invalid_body": (
        Invalid,
        "The body cannot be read as its content type says.",
        "Check the body against the Content-Type header.",
    ),
    "missing_input": (
        Invalid,
        "An input that the model needs was not sent.",
        "Send every input that `foretell inspect` lists.",
    ),
    "unknown_input": (
        Invalid,
        "An input was sent that the model does not have.",
        "Use the names that `foretell inspect` lists.",
    ),
    "duplicate_input": (Invalid, "An input was sent twice.", "Send each input once."),
    "unknown_output": (
        Invalid,
        "An output was asked for that the model does not have.",
        "Ask for the outputs that `foretell inspect` lists.",
    ),
    "unknown_parameter": (Invalid, "A request parameter has a value that cannot be used.", "Correct or remove the parameter."),
    "unknown_datatype": (
        Invalid,
        "A tensor names a datatype that does not exist.",
        "Use one of the Open Inference datatypes, in capitals.",
    ),
    "wrong_dtype": (
        Invalid,
        "A tensor's datatype does not convert without loss to what the model takes.",
        "Send the datatype that `foretell inspect` lists.",
    ),
    "wrong_shape": (
        Invalid,
        "A tensor's shape does not fit the model, or its data does not fill its shape.",
        "Send the shape that `foretell inspect` lists.",
    ),
    "wrong_rows": (
        Invalid,
        "The inputs of one request have different numbers of rows, or none.",
        "Send the same number of rows, at least one, in every input.",
    ),
    "lossy_value": (
        Invalid,
        "A value cannot be held in the tensor's datatype without loss.",
        "Send a value in the datatype's range.",
    ),
    "refused_value": (
        Invalid,
        "A value fails a check of this pipeline.",
        "Correct the value; the message names row and input.",
    ),
    "bad_image": (
        Invalid,
        "An image cannot be decoded or is larger than this pipeline allows.",
        "Send a PNG, JPEG or WebP within the pixel limit.",
    ),
    "bad_text": (Invalid, "A text is not valid UTF-8.", "Encode the text as UTF-8."),
    "bad_row": (Invalid, "A row does not fit the model.", "Send an object with the columns that `foretell inspect` lists."),
    # -- doors
    "foreign_host": (
        Denied,
        "The Host header names another machine, and the server listens on loopback only.",
        "Call it by 127.0.0.1 or localhost, or serve on an address with `--host`.",
    ),
    "foreign_origin": (
        Denied,
        "A page of another site asked to administer this server.",
        "Send the request without an `Origin` header, or from a page of this server.",
    ),
    "admin_off": (
        Denied,
        "Administration over the network is off.",
        "Set `FORETELL_ADMIN_KEY` on the server, and send it as `authorization: Bearer KEY`.",
    ),
    "wrong_key": (
        Unauthenticated,
        "The request has no admin key, or a wrong one.",
        "Send the server's key as `authorization: Bearer KEY`.",
    ),
    "unknown_model": (
        Missing,
        "No model of that name is served here.",
        "List the models at `/v2/models` or on the `/docs` page.",
    ),
    "unknown_version": (
        Missing,
        "The model is served, but not in that version.",
        "Leave out the version, or use one that the model's metadata lists.",
    ),
    "unknown_label": (
        Missing,
        "The model is served, but no version of it has that label.",
        "Use one of the labels that the answer names, or a version's number.",
    ),
    "unknown_route": (Missing, "There is nothing at this path.", "See `/docs` for the routes."),
    "wrong_verb": (WrongVerb, "The path exists, but not with this HTTP verb.", "Use a verb from the `Allow` header."),
    "body_too_large": (
        TooLarge,
        "The body is larger than `http.max_request_bytes`.",
        "Send fewer rows a request, or have the operator raise the setting.",
    ),
    "headers_too_large": (
        HeadersTooLarge,
        "The headers are larger than `http.max_header_bytes`.",
        "Send fewer or shorter headers.",
    ),
    "request_stalled": (
        Stalled,
        "The request did not come whole: nothing of its body came for `timeouts.receive_s`, or its headers took longer.",
        "Send it without pauses; over a slow network, have the operator raise `timeouts.receive_s`.",
    ),
    "unsupported_content_type": (
        Unsupported,
        "This route does not read that content type.",
        "Use one of the content types that the answer names.",
    ),
    "unsupported_encoding": (
        Unsupported,
        "The body is encoded in a way that is not read here.",
        "Send the body plain, or with `Content-Encoding` gzip or deflate.",
    ),
    "refused_request": (
        Invalid,
        "The model's process crashed twice while it computed this request.",
        "Do not send it again; give it to the operator: the model cannot take it.",
    ),
    # -- load and time
    "queue_full": (Busy, "The model's queue is full.", "Try again after `Retry-After` seconds."),
    "overloaded": (
        Busy,
        "By the time that the model takes, the answer would come too late: it was not begun.",
        "Try again after `Retry-After` seconds, or allow more time.",
    ),
    "being_changed": (
        Busy,
        "The model is being loaded or unloaded at this moment.",
        "Try again after `Retry-After` seconds.",
    ),
    "not_ready": (
        Unavailable,
        "The model is loading, or the server is starting or stopping.",
        "Try again after `Retry-After` seconds.",
    ),
    "model_crashed": (
        Unavailable,
        "The process that the model has to itself ended while it computed this request.",
        "Try again after `Retry-After` seconds: another process is being started.",
    ),
    "model_given_up": (
        Unavailable,
        "The process that the model has to itself crashed again and again, and is not started any more.",
        "Have the operator correct the model and load it again: the log says how its process ended.",
    ),
    "deadline_passed": (Late, "The answer could not be given in time.", "Allow more time, or send fewer rows."),
    "unreachable": (
        Unavailable,
        "The client cannot reach the server, or the server hung up before its whole answer came.",
        "Check the address, and that the server runs: the client has tried again already.",
    ),
    "cancelled": (
        Cancelled,
        "The caller went away before the answer.",
        "Nothing to do: the work was not done or its answer was dropped.",
    ),
    # -- the model
    "model_failed": (
        Broken,
        "The model raised an error on this input.",
        "Give the error id to the operator: the log has the details.",
    ),
    "step_failed": (
        Broken,
        "A step of the pipeline raised an error on this input.",
        "Give the error id to the operator: the log has the details.",
    ),
    "wrong_output": (
        Broken,
        "The model's output does not have one row for each input row.",
        "Have the operator check the model's batch axis.",
    ),
    "internal": (Broken, "The server made a mistake.", "Give the error id to the operator: the log has the details."),
    "foreign_answer": (
        Broken,
        "The client got an answer that is not foretell's; its exception is of the class of the answer's status.",
        "Check the address, and what stands between client and server.",
    ),
    # -- setting up
    "untrusted_server": (
        Setup,
        "The client does not trust the server's certificate.",
        "Correct the certificate, or give the client a context that knows its issuer: `Options(tls=...)`.",
    ),
    "missing_extra": (
        Setup,
        "A package that this feature needs is not installed.",
        "Run the `pip install` line of the message.",
    ),
    "unknown_setting": (Setup, "A setting does not exist.", "Correct the name; `foretell serve --print-config` lists all."),
    "wrong_setting": (
        Setup,
        "A setting has a value that cannot be used.",
        "Correct the value as the message says; docs/settings.md gives each type and limit.",
    ),
    "missing_file": (Setup, "A file that was named does not exist.", "Correct the path."),
    "unknown_format": (
        Setup,
        "The path is not a model that can be loaded.",
        "Name an .onnx file, a folder of models, or `app.py:pipeline`.",
    ),
    "broken_model": (Setup, "The model file cannot be loaded.", "Export the model again, and check its format."),
    "broken_code": (
        Setup,
        "Python code that was named cannot be run, or what is named in it is not a model.",
        "Correct the code that the message names.",
    ),
    "untrusted_model": (
        Setup,
        "The model's format can run any code when it is loaded.",
        "Export to ONNX, or set `trust = true` for this model.",
    ),
    "outside_folder": (
        Setup,
        "A model names a file outside its own folder, or a link.",
        "Put a real copy of the file into the model's folder.",
    ),
    "incomplete": (
        Setup,
        "The model's files are not all there yet, or were written while they were read.",
        "Finish copying, then load it again; docs/repository.md shows how to put a model there in one step.",
    ),
    "wrong_checksum": (
        Setup,
        "The model's files are not those that its SHA256SUMS lists.",
        "Copy them again, or if they are right, write the list anew: `sha256sum * > SHA256SUMS` in their folder.",
    ),
    "over_memory": (
        Setup,
        "The model needs more memory than `repository.memory_bytes` leaves for it.",
        "Raise the setting, remove a pin, or export a smaller model.",
    ),
    "broken_pipeline": (
        Setup,
        "The steps and the model do not fit together, or pipeline.toml cannot be read.",
        "Correct the key or the step that the message names; docs/steps.md lists every step with its options.",
    ),
    "broken_config": (
        Setup,
        "A configuration written for another server cannot be read, or does not fit its model.",
        "Correct the line that the message names.",
    ),
    "unsupported_config": (
        Setup,
        "A configuration written for another server asks for something that is not done here.",
        "Do as the message says; docs/repository.md lists what is read.",
    ),
    "wrong_conversion": (
        Setup,
        "A converted model does not answer as its original does: nothing was written.",
        "Compare on rows of your own with `--rows`; raise `--tolerance` if the difference in the message is good enough.",
    ),
    "wrong_provider": (
        Setup,
        "A model is to run on a provider that is not there, or that did not take it.",
        "Install the runtime that has the provider, or name others in `[model] providers`.",
    ),
    "wrong_name": (
        Setup,
        "A model's name holds characters that are not allowed, or two models share one.",
        "Rename it, or pass `--name`.",
    ),
    "workers_failed": (
        Setup,
        "No worker process could be started, or kept alive, and none is started any more.",
        "Read in the log how they ended: the lines before name each crash; `--workers 0` serves without a supervisor.",
    ),
    "no_shared_memory": (
        Setup,
        "The system gives processes no memory that they could share.",
        "Allow `memfd_create`, or free room in the folder for temporary files (`TMPDIR`); `--workers 0` needs none.",
    ),
    "wrong_address": (
        Setup,
        "The address cannot be listened on.",
        "Free the port or choose another with `--http-port` or `--grpc-port`.",
    ),
    "unknown_suffix": (
        Setup,
        "A file of rows or answers has a suffix that is not known.",
        "Use .csv, .ndjson, .parquet or .npy; images come as a folder.",
    ),
    "missing_column": (
        Setup,
        "The rows lack a column that the model needs, or it is of another kind.",
        "Rename or convert the column, or pass `--map INPUT=COLUMN`.",
    ),
    "broken_file": (Setup, "A file of rows cannot be read.", "Check the file; the message has the reader's own words."),
    "wrong_target": (Setup, "The answers cannot be written to that file.", "Name another file, as the message says."),
}


def tell(error: ForetellError) -> str:
    """The sentence for a caller over the network: that of ``Setup`` names files, and is told by its code if not ``whole``."""
    if not isinstance(error, Setup) or error.whole:
        return error.message
    _, meaning, cure = CODES[error.code]
    return f"{meaning} {cure}"
