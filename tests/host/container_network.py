"""The network between the proxy and Chroma as the instance has it, without Docker.

A network namespace in place of the container, and a bridge of this computer's that leads nowhere else.
Making it takes root; without, a server of the tests is on loopback.
"""

from __future__ import annotations

import os
import secrets
import shutil
import subprocess

from chroma_stack import container_network


class ContainerNetwork:
    """A bridge and a namespace with an address on it, until it is closed."""

    def __init__(self) -> None:
        name = f"chroma{secrets.randbits(24):06x}"
        # Of the range that no network routes, as the default is.
        where = f"198.{secrets.choice((18, 19))}.{secrets.randbelow(256)}.{secrets.randbelow(32) * 8}/29"
        network = container_network.parse(where)
        settings = container_network.host_settings(network)
        self.address = settings["CONTAINER_ADDRESS"]
        self.command = ["ip", "netns", "exec", name]
        """What a command is run with to be inside."""

        self._bridge, self._namespace = name, name
        outside, inside = f"{name}o", f"{name}i"
        for arguments in (
            f"netns add {name}",
            f"link add {name} type bridge",
            f"addr add {settings['CONTAINER_GATEWAY']}/{network.prefixlen} dev {name}",
            f"link add {outside} type veth peer name {inside} netns {name}",
            f"link set {outside} master {name} up",
            f"link set {name} up",
            f"-n {name} addr add {self.address}/{network.prefixlen} dev {inside}",
            f"-n {name} link set {inside} up",
            f"-n {name} link set lo up",
        ):
            subprocess.run(["ip", *arguments.split()], check=True)

    @staticmethod
    def if_possible() -> ContainerNetwork | None:
        """One, where this computer lets us make it."""
        if os.geteuid() != 0 or shutil.which("ip") is None:
            return None
        return ContainerNetwork()

    def close(self) -> None:
        """Take it away; nothing may run inside any more."""
        subprocess.run(["ip", "link", "del", self._bridge], check=True)
        subprocess.run(["ip", "netns", "del", self._namespace], check=True)
