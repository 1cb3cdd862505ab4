"""The network between the proxy and Chroma's container, inside the instance."""

from __future__ import annotations

import ipaddress

from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting

DEFAULT_CONTAINER_CIDR = "198.18.0.0/29"
"""Of the range for benchmarks, which no network routes:
https://www.rfc-editor.org/rfc/rfc2544#appendix-C.2.2"""

_ALLOWED = f"an IPv4 network with a prefix from /16 to /29, such as {DEFAULT_CONTAINER_CIDR}"


def parse(container_cidr: str) -> ipaddress.IPv4Network:
    """The network.

    :raises SettingError: when it is none, or has the wrong size.
    """
    try:
        network = ipaddress.IPv4Network(container_cidr)
    except ValueError:
        raise SettingError("container_cidr", container_cidr, _ALLOWED) from None
    if not 16 <= network.prefixlen <= 29:
        raise SettingError("container_cidr", container_cidr, _ALLOWED)
    return network


def host_settings(network: ipaddress.IPv4Network) -> dict[str, str]:
    """What ``host/container-network`` and the proxy read: the first address is the
    instance's, the second the container's."""
    return {
        "CONTAINER_NETWORK": str(network),
        "CONTAINER_GATEWAY": str(network[1]),
        "CONTAINER_ADDRESS": str(network[2]),
    }


SETTINGS = (
    Setting(
        key="containerCidr",
        only="CloudFormation cannot compute addresses of a network that a parameter gives.",
        option="container_cidr",
        meaning="Range of the network between the proxy and Chroma inside the instance. Change "
        "it when clients, the collector or what your own commands call are in it.",
        default=DEFAULT_CONTAINER_CIDR,
        allowed=_ALLOWED,
        parse=str,
    ),
)
