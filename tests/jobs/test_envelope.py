"""What a job is kept in."""

from hypothesis import given, settings
from hypothesis import strategies as st

from foretell.jobs.envelope import pack, unpack


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(st.text(max_size=9), st.integers(-(2**53), 2**53) | st.text(max_size=9) | st.none()), st.binary(max_size=99)
)
def test_an_envelope_gives_back_what_was_put_in(head: dict[str, object], body: bytes) -> None:
    head = {key.encode("utf-8", "replace").decode(): value for key, value in head.items() if not isinstance(value, str)}
    assert unpack(pack(head, body)) == (head, body)


@given(st.binary(max_size=40))
@settings(max_examples=100, deadline=None)
def test_what_is_no_envelope_is_refused(packed: bytes) -> None:
    try:
        head, body = unpack(packed)
    except ValueError:
        return
    assert isinstance(head, dict)
    assert packed.endswith(body)
