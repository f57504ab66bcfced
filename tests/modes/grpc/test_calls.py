"""What comes beside a message: who asks, with which credentials, and how the request is found again."""

from typing import Any, cast

import grpc
import pytest

from foretell.modes.grpc.calls import Context, Metadata, authorization_of, caller_of, marks_of
from tests.modes.grpc.asking import Channel, refused

LOAD = "/inference.GRPCInferenceService/RepositoryModelLoad"


class Peer:
    """A context that knows its peer only."""

    def __init__(self, name: str) -> None:
        self.name = name

    def peer(self) -> str:
        return self.name


def caller(peer: str, header: str = "", metadata: Metadata = ()) -> str:
    return caller_of(cast(Context, cast(Any, Peer(peer))), metadata, header)


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:10.0.0.7:40000", "10.0.0.7"),
        ("ipv6:%5B::1%5D:40000", "::1"),
        ("ipv6:[fe80::1]:40000", "fe80::1"),
        ("unix:", "unix:"),
    ],
)
def test_a_caller_is_its_address_without_the_port(peer: str, address: str) -> None:
    assert caller(peer) == address


def test_a_trusted_proxy_names_the_caller_and_only_once() -> None:
    assert caller("ipv4:1.2.3.4:5", "x-caller", [("x-caller", "ann")]) == "ann"
    assert caller("ipv4:1.2.3.4:5", "x-caller", [("x-caller", "ann"), ("x-caller", "bob")]) == "1.2.3.4"
    assert caller("ipv4:1.2.3.4:5", "", [("x-caller", "ann")]) == "1.2.3.4"


def test_marks_are_kept_if_they_can_be_given_back() -> None:
    sent: Metadata = [
        ("x-request-id", "7"),
        ("traceparent", "00-a"),
        ("other", "x"),
        ("x-request-id", "l" * 300),
        ("x-request-id", b"8"),
    ]
    assert marks_of(sent) == [(b"x-request-id", b"7"), (b"traceparent", b"00-a")]


def test_the_same_credentials_twice_are_one_and_two_that_differ_are_none() -> None:
    assert authorization_of([("authorization", "Bearer k"), ("authorization", "Bearer k")]) == "Bearer k"
    assert authorization_of([("authorization", "Bearer k"), ("authorization", "Bearer z")]) == "Bearer k, Bearer z"


@pytest.mark.parametrize("order", [1, -1])
def test_a_good_key_beside_another_is_refused(channel: Channel, order: int) -> None:
    both = [("authorization", "Bearer hunter2"), ("authorization", "Bearer guess")][::order]
    answer = refused(channel, LOAD, b"\x12\x04none", metadata=both)
    assert (answer.status, answer.code) == (grpc.StatusCode.UNAUTHENTICATED, "wrong_key")


@pytest.mark.parametrize("value", ["", "c" * 257, "a\nb", "\u202e"])
def test_a_caller_whose_name_is_not_sensible_is_its_address(value: str) -> None:
    assert caller("ipv4:10.0.0.7:5000", "x-caller", [("x-caller", value)]) == "10.0.0.7"
