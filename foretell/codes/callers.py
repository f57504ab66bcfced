"""What is at fault in what a caller sent."""

from foretell.errors import ForetellError, Invalid

CALLERS: dict[str, tuple[type[ForetellError], str, str]] = {
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
    "bad_sound": (Invalid, "A sound cannot be decoded.", "Send a WAV, FLAC, Ogg or MP3 file."),
    "bad_text": (Invalid, "A text is not valid UTF-8.", "Encode the text as UTF-8."),
    "bad_row": (Invalid, "A row does not fit the model.", "Send an object with the columns that `foretell inspect` lists."),
}
