"""The network between the proxy and the container, by its script with stand-ins for Docker and iptables."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.host.programs import HOST

SCRIPT = """\
exec 3>&1
. "$HOST/container-network"
docker() {
    if [[ $2 == inspect ]]; then
        [[ -n $RANGE ]] && echo "$RANGE"
    else
        echo "docker $*" >&3
    fi
}
iptables() {
    if [[ $2 == --check ]]; then
        [[ $RULES == present ]]
    else
        echo "iptables $*" >&3
    fi
}
main
"""
CREATE = (
    "docker network create --internal --opt com.docker.network.bridge.name=chroma0 "
    "--subnet 198.18.0.0/29 --gateway 198.18.0.1 chroma"
)
INSERT = "iptables --wait --insert INPUT --in-interface chroma0"


def calls(root: Path, existing: str, rules: str) -> list[str]:
    """What is called where a network with that range exists, and the rules do or do not."""
    (root / "settings").write_text(
        "REGION=eu-west-1\nCONTAINER_NETWORK=198.18.0.0/29\nCONTAINER_GATEWAY=198.18.0.1\n"
    )
    done = subprocess.run(
        ["bash", "-c", SCRIPT],
        env={
            "PATH": "/usr/bin:/bin",
            "HOST": str(HOST),
            "SETTINGS": f"{root}/settings",
            "RANGE": existing,
            "RULES": rules,
        },
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_the_network_is_internal_and_has_the_range_of_the_settings(tmp_path: Path) -> None:
    assert calls(tmp_path, existing="", rules="present") == [CREATE]


def test_a_network_of_another_range_is_made_anew(tmp_path: Path) -> None:
    made = calls(tmp_path, existing="10.9.0.0/24", rules="present")
    assert made == ["docker network rm chroma", CREATE]


def test_a_second_start_changes_nothing(tmp_path: Path) -> None:
    assert calls(tmp_path, existing="198.18.0.0/29", rules="present") == []


def test_the_container_reaches_the_relay_and_nothing_else_of_the_instance(tmp_path: Path) -> None:
    inserted = calls(tmp_path, existing="198.18.0.0/29", rules="absent")
    # Each is inserted before those that are there.
    assert list(reversed(inserted)) == [
        f"{INSERT} --match conntrack --ctstate ESTABLISHED --jump ACCEPT",
        f"{INSERT} --protocol tcp --dport 4317 --jump ACCEPT",
        f"{INSERT} --jump REJECT",
    ]
