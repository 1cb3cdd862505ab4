"""Guessing the credential: 20 wrong ones a minute from one address, and no lock for the right one."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import httpx
import pytest

from tests.host.proxy import Proxy, header
from tests.host.recorder import Recorder

GUARDED = "/api/v2/tenants/default_tenant"


@pytest.fixture
def proxy(recorder: Recorder, make_proxy: Callable[..., Proxy]) -> Proxy:
    return make_proxy(recorder.address).start()


def guess(client: httpx.Client, proxy: Proxy, count: int) -> Counter[int]:
    """The statuses that so many different wrong credentials get."""
    return Counter(
        client.get(proxy.url + GUARDED, headers=header("token", f"guess-{n}")).status_code
        for n in range(count)
    )


def from_address(address: str) -> httpx.Client:
    return httpx.Client(transport=httpx.HTTPTransport(local_address=address), timeout=30)


def test_20_wrong_credentials_are_refused_and_more_are_limited(proxy: Proxy) -> None:
    with httpx.Client() as client:
        assert guess(client, proxy, 50) == {401: 20, 429: 30}
        answer = client.get(proxy.url + GUARDED, headers=proxy.wrong)
        assert answer.status_code == 429
        assert answer.json()["error"] == "RateLimitError"
        assert answer.headers["Retry-After"] == "60"


def test_the_right_credential_passes_whatever_others_at_the_address_do(proxy: Proxy) -> None:
    with httpx.Client() as client:
        guess(client, proxy, 50)
        for _ in range(50):
            assert client.get(proxy.url + GUARDED, headers=proxy.right).status_code == 200


def test_other_addresses_have_their_own_count(proxy: Proxy) -> None:
    with from_address("127.0.0.2") as guesser, from_address("127.0.0.3") as other:
        guess(guesser, proxy, 50)
        assert other.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_requests_without_a_credential_are_no_guesses(proxy: Proxy) -> None:
    with httpx.Client() as client:
        for _ in range(50):
            assert client.get(proxy.url + GUARDED).status_code == 401
            assert client.get(proxy.url + "/api/v2/heartbeat").status_code == 200
        assert client.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_right_credentials_are_no_guesses(proxy: Proxy) -> None:
    with httpx.Client() as client:
        for _ in range(50):
            client.get(proxy.url + GUARDED, headers=proxy.right)
        assert client.get(proxy.url + GUARDED, headers=proxy.wrong).status_code == 401


def test_the_limit_ends(proxy: Proxy) -> None:
    with httpx.Client() as client:
        started = time.monotonic()
        guess(client, proxy, 30)
        wrong = proxy.wrong
        while client.get(proxy.url + GUARDED, headers=wrong).status_code == 429:
            assert time.monotonic() - started < 90
            time.sleep(1)
        assert time.monotonic() - started < 75
