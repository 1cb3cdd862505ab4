"""Guessing the credential: 20 wrong ones a minute from one address, and no lock for the right one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.host.door import Door, header
from tests.host.recorder import Recorder

GUARDED = "/api/v2/tenants/default_tenant"


@pytest.fixture
def door(recorder: Recorder, make_door: Callable[..., Door]) -> Door:
    return make_door(recorder.address).start()


def guess(client: httpx.Client, door: Door, count: int) -> Counter[int]:
    """The statuses that so many different wrong credentials get."""
    return Counter(
        client.get(door.url + GUARDED, headers=header("token", f"guess-{n}")).status_code
        for n in range(count)
    )


def from_address(address: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=30)


def test_20_wrong_credentials_are_refused_and_more_are_limited(door: Door) -> None:
    with httpx.Client() as client:
        assert guess(client, door, 50) == {401: 20, 429: 30}
        answer = client.get(door.url + GUARDED, headers=door.wrong)
        assert answer.status_code == 429
        assert answer.json()["error"] == "RateLimitError"
        assert answer.headers["Retry-After"] == "60"


def test_the_right_credential_passes_whatever_others_at_the_address_do(door: Door) -> None:
    with httpx.Client() as client:
        guess(client, door, 50)
        for _ in range(50):
            assert client.get(door.url + GUARDED, headers=door.right).status_code == 200


def test_other_addresses_have_their_own_count(door: Door) -> None:
    with from_address("127.0.0.2") as guesser, from_address("127.0.0.3") as other:
        guess(guesser, door, 50)
        assert other.get(door.url + GUARDED, headers=door.wrong).status_code == 401


def test_requests_without_a_credential_are_no_guesses(door: Door) -> None:
    with httpx.Client() as client:
        for _ in range(50):
            assert client.get(door.url + GUARDED).status_code == 401
            assert client.get(door.url + "/api/v2/heartbeat").status_code == 200
        assert client.get(door.url + GUARDED, headers=door.wrong).status_code == 401


def test_right_credentials_are_no_guesses(door: Door) -> None:
    with httpx.Client() as client:
        for _ in range(50):
            client.get(door.url + GUARDED, headers=door.right)
        assert client.get(door.url + GUARDED, headers=door.wrong).status_code == 401


def test_the_limit_ends(door: Door) -> None:
    with httpx.Client() as client:
        started = time.monotonic()
        guess(client, door, 30)
        wrong = door.wrong
        while client.get(door.url + GUARDED, headers=wrong).status_code == 429:
            assert time.monotonic() - started < 90
            time.sleep(1)
        assert time.monotonic() - started < 75
