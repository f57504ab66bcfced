"""What a door refuses before it looks at the rows."""

from foretell.errors import (
    Denied,
    ForetellError,
    HeadersTooLarge,
    Invalid,
    Missing,
    Stalled,
    TooLarge,
    Unauthenticated,
    Unsupported,
    WrongVerb,
)

DOORS: dict[str, tuple[type[ForetellError], str, str]] = {
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
        "Send the server's key as `authorization: Bearer KEY`; on the command line, --key-file FILE.",
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
}
