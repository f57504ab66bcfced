"""Which hosts this server may call: those that the operator listed, by exact match, at addresses that are everybody's."""

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, urlsplit

from foretell.errors import Denied, Invalid, Setup

PORTS = {"http": 80, "https": 443}
LONGEST_URL = 2048
_LISTED = re.compile(r"(?P<host>\[[0-9a-fA-F:.]+\]|[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?)(:(?P<port>\d{1,5}))?")
_TARGET = re.compile(r"[!-~]*")  # nothing that could end a line


@dataclass(frozen=True)
class Hosts:
    """``listed``: host and port, None for the port of the scheme. An address that is not global must be listed as such."""

    listed: frozenset[tuple[str, int | None]] = frozenset()

    @classmethod
    def parse(cls, text: str) -> "Hosts":
        """``hooks.example.com, 127.0.0.1:9000``. Raises Setup ``wrong_setting``."""
        found = set()
        for part in filter(None, map(str.strip, text.split(","))):
            match = _LISTED.fullmatch(part)
            if match is None:
                raise Setup("wrong_setting", f"jobs.webhook_hosts holds {part!r}: write each host as HOST or HOST:PORT")
            found.add((match["host"].strip("[]").lower(), int(match["port"]) if match["port"] else None))
        return cls(frozenset(found))

    def check(self, url: str) -> SplitResult:
        """The address taken apart, if it may be called. Raises Invalid ``wrong_webhook`` or Denied ``host_not_listed``."""
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError:
            raise _wrong() from None
        plain = len(url) <= LONGEST_URL and _TARGET.fullmatch(url) and not parts.fragment
        if not plain or parts.scheme not in PORTS or not host or parts.username is not None or parts.password is not None:
            raise _wrong()
        is_usual = port in (None, PORTS[parts.scheme])
        if not ((host, port) in self.listed or (is_usual and (host, None) in self.listed)):
            text = "the host of the webhook is not listed: have the operator add it to the setting jobs.webhook_hosts"
            raise Denied("host_not_listed", text)
        return parts

    async def resolve(self, url: SplitResult) -> tuple[str, int]:
        """The one address and port that is called. Raises OSError when there is none, or one that is not global."""
        host, port = url.hostname or "", url.port or PORTS[url.scheme]
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(_address(each) for each in found))
        if not addresses or not (_is_address(host) or all(map(is_global, addresses))):
            raise OSError("the host has an address that is not global")
        return addresses[0], port


def is_global(address: str) -> bool:
    """Whether an address is reachable by everybody: not loopback, private, link-local, metadata or multicast."""
    parsed = ipaddress.ip_address(address)
    mapped = parsed.ipv4_mapped or parsed.sixtofour if isinstance(parsed, ipaddress.IPv6Address) else None
    plain = mapped or parsed
    is_nat64 = isinstance(parsed, ipaddress.IPv6Address) and parsed in ipaddress.ip_network("64:ff9b::/96")
    return plain.is_global and not plain.is_multicast and not is_nat64


def _address(found: Any) -> str:
    return str(found[4][0]).partition("%")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _wrong() -> Invalid:
    text = "a webhook is an address like https://hooks.example.com/path, without a user, a fragment or blanks"
    return Invalid("wrong_webhook", text)
