"""What keeps a command or a server from starting."""

from foretell.errors import ForetellError, Setup

SETUP: dict[str, tuple[type[ForetellError], str, str]] = {
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
    "wrong_target": (
        Setup,
        "The answers cannot be written there.",
        "Name another file, or make room or a folder for it: the message says which.",
    ),
}
