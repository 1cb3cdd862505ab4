"""What clients do over TLS and say when it fails, and the code of the page on it."""

from __future__ import annotations

import datetime
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import moto
import pytest
import trustme

from tests.host.chroma_servers import (
    CURRENT,
    LAST_PYTHON,
    VERSIONS,
    ChromaServer,
    javascript_client,
    python_with_chroma,
    python_with_libraries,
)
from tests.host.haproxys import AMAZON_LINUX, haproxy
from tests.host.programs import program
from tests.host.proxy import Proxy

HERE = Path(__file__).parent
PAGE = (HERE.parents[1] / "docs" / "tls.md").read_text()
TOKEN = "test-token"

Start = Callable[..., Proxy]


@pytest.fixture(scope="module")
def start(
    tmp_path_factory: pytest.TempPathFactory, chroma_servers: dict[str, ChromaServer]
) -> Iterator[Start]:
    """A function that starts a proxy, of Amazon Linux's release, in front of a Chroma."""
    proxys: list[Proxy] = []

    def start(version: str = CURRENT, certificate: Path | None = None, **options: str) -> Proxy:
        folder = tmp_path_factory.mktemp("proxy")
        address = chroma_servers[version].address
        release = haproxy(AMAZON_LINUX)
        proxys.append(Proxy(folder, address, credential=TOKEN, program=release, **options))
        if certificate:
            shutil.copy(certificate, proxys[-1].certificate)
        return proxys[-1].start()

    yield start
    for proxy in proxys:
        proxy.stop()


@pytest.fixture(scope="module")
def proxys(start: Start) -> dict[str, Proxy]:
    """In front of each Chroma, with plain HTTP and TLS."""
    return {version: start(version) for version in VERSIONS}


@dataclass(frozen=True)
class Authorities:
    """Certificates that a client has reasons not to trust."""

    wrong: str
    """The certificate of an authority that has issued nothing."""

    missing: str
    no_pem: str
    ca: str
    """The certificate of the authority of these two:"""

    other_name: Path
    expired: Path


@pytest.fixture(scope="module")
def authorities(tmp_path_factory: pytest.TempPathFactory) -> Authorities:
    folder = tmp_path_factory.mktemp("authorities")
    ca, wrong = trustme.CA(), trustme.CA()
    found = Authorities(
        wrong=str(folder / "wrong.pem"),
        missing=str(folder / "missing.pem"),
        no_pem=str(folder / "no.pem"),
        ca=str(folder / "ca.pem"),
        other_name=folder / "other-name.pem",
        expired=folder / "expired.pem",
    )
    wrong.cert_pem.write_to_path(found.wrong)
    ca.cert_pem.write_to_path(found.ca)
    Path(found.no_pem).write_text("The server writes the certificate here when it starts.\n")
    other = ca.issue_cert("chroma.example.com")
    expired = ca.issue_cert(
        "127.0.0.1",
        not_before=datetime.datetime(2020, 1, 1),
        not_after=datetime.datetime(2021, 1, 1),
    )
    other.private_key_and_cert_chain_pem.write_to_path(str(found.other_name))
    expired.private_key_and_cert_chain_pem.write_to_path(str(found.expired))
    return found


def environment(**variables: object) -> dict[str, str]:
    """That of the tests without what says whom to trust."""
    whom = re.compile(r"SSL_CERT_|CURL_CA_|REQUESTS_CA_|NODE_EXTRA_CA_|CHROMA_")
    kept = {name: value for name, value in os.environ.items() if not whom.match(name)}
    return kept | {name: str(value) for name, value in variables.items()}


class Python:
    """A running client. It takes a second to import its library."""

    def __init__(self, version: str, folder: Path) -> None:
        self._errors = folder / "errors"
        with self._errors.open("w") as errors:
            self._process = subprocess.Popen(
                [str(python_with_chroma(version)), str(HERE / "clients" / "tls_client.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                cwd=folder,
                env=environment(),
            )

    def says(self, proxy: Proxy, *ways: dict[str, Any]) -> list[Any]:
        """What came of each way to call: what the client `shown`, and its first `cause`."""
        assert self._process.stdin
        assert self._process.stdout
        job = {"host": "127.0.0.1", "port": proxy.port, "token": TOKEN, "ways": ways}
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._errors.read_text()
        return list(json.loads(line))

    def close(self) -> None:
        self._process.communicate(timeout=30)


@pytest.fixture(scope="module")
def pythons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Python]]:
    running = {it: Python(it, tmp_path_factory.mktemp("python")) for it in VERSIONS}
    yield running
    for python in running.values():
        python.close()


def node_says(proxy: Proxy, *, ssl: bool = True, **variables: object) -> str:
    """What the JavaScript client reports."""
    ways = [{"Authorization": f"Bearer {TOKEN}"}]
    job = json.dumps({"host": "127.0.0.1", "port": proxy.port, "ssl": ssl, "ways": ways})
    said = subprocess.run(
        [program("node"), str(HERE / "js" / "client.mjs")],
        input=job,
        capture_output=True,
        text=True,
        cwd=javascript_client(),
        env=environment(**variables),
        timeout=120,
    )
    assert said.returncode == 0, said.stderr
    [result] = json.loads(said.stdout)
    return str(result)


def run(command: list[str], cwd: Path, **variables: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=cwd,
        env=environment(**variables),
        stdin=subprocess.DEVNULL,
        timeout=120,
    )


def what_node_finds(proxy: Proxy, **variables: object) -> str:
    """What the page's command prints, which shows what the JavaScript client does not."""
    command = here(snippet("## What does each error mean?", ""), proxy)
    return run(shlex.split(command), proxy.folder, **variables).stdout.strip()


def curl_says(proxy: Proxy, *options: str) -> str:
    url = f"{proxy.https_url}/api/v2/heartbeat"
    said = run(["curl", "--silent", "--show-error", *options, url], proxy.folder)
    return said.stdout + said.stderr


@pytest.mark.parametrize("version", VERSIONS)
def test_a_python_client_is_served_with_the_file_of_the_authority(
    pythons: dict[str, Python], proxys: dict[str, Proxy], version: str
) -> None:
    verify = {"verify": str(proxys[version].ca)}
    ways = [{**verify, "provider": True}, {**verify, "async": True}]
    assert pythons[version].says(proxys[version], *ways) == [{"shown": "served"}] * 2
    assert {line["tls"] for line in proxys[version].log_lines()} == {"TLSv1.3"}


def test_with_that_file_the_client_0_6_3_drops_the_headers_it_was_given(
    pythons: dict[str, Python],
    proxys: dict[str, Proxy],
) -> None:
    [old] = pythons[LAST_PYTHON].says(proxys[LAST_PYTHON], {"verify": str(proxys[LAST_PYTHON].ca)})
    assert old["shown"].startswith("AuthorizationError: Unauthorized: ")
    [new] = pythons[CURRENT].says(proxys[CURRENT], {"verify": str(proxys[CURRENT].ca)})
    assert new["shown"] == "served"
    way = {"environment": {"SSL_CERT_FILE": str(proxys[LAST_PYTHON].ca)}}
    [old] = pythons[LAST_PYTHON].says(proxys[LAST_PYTHON], way)
    assert old["shown"] == "served"


@pytest.mark.parametrize("version", VERSIONS)
def test_python_clients_trust_the_file_that_their_environment_names(
    pythons: dict[str, Python], proxys: dict[str, Proxy], authorities: Authorities, version: str
) -> None:
    ca = str(proxys[version].ca)
    synchronous = {"provider": True}
    untold, told = {"async": True}, {"async": True, "verify": True}
    right, wrong, httpx, requests = (
        {"environment": {"CHROMA_SERVER_SSL_VERIFY": ca}},
        {"environment": {"CHROMA_SERVER_SSL_VERIFY": authorities.wrong}},
        {"environment": {"SSL_CERT_FILE": ca}},
        {"environment": {"REQUESTS_CA_BUNDLE": ca}},
    )
    ways = [synchronous | right, untold | right, synchronous | httpx, told | httpx]
    ways += [synchronous | wrong, untold | wrong, synchronous | requests, told | requests]
    said = pythons[version].says(proxys[version], *ways)
    assert said[:4] == [{"shown": "served"}] * 4
    assert ["CERTIFICATE_VERIFY_FAILED" in it["cause"] for it in said[4:]] == [True] * 4


def test_true_in_the_environment_is_the_name_of_a_file_for_the_client_1_5_9(
    pythons: dict[str, Python], proxys: dict[str, Proxy]
) -> None:
    variables = {
        "CHROMA_SERVER_SSL_VERIFY": "True",
        "SSL_CERT_FILE": str(proxys[CURRENT].ca),
    }
    way = {"provider": True, "environment": variables}
    [new] = pythons[CURRENT].says(proxys[CURRENT], way)
    assert new["shown"].startswith("FileNotFoundError")
    [old] = pythons[LAST_PYTHON].says(proxys[LAST_PYTHON], way)
    assert old["shown"] == "served"


@pytest.mark.parametrize("version", VERSIONS)
def test_the_asynchronous_client_verifies_nothing_unless_it_is_told_to(
    pythons: dict[str, Python],
    proxys: dict[str, Proxy],
    authorities: Authorities,
    version: str,
) -> None:
    wrong_file = {"SSL_CERT_FILE": authorities.wrong}
    ways = [
        {"async": True, "environment": wrong_file},
        {"async": True, "environment": wrong_file, "verify": True},
        {"async": True, "verify": authorities.wrong},
    ]
    untold, *told = pythons[version].says(proxys[version], *ways)
    assert untold["shown"] == "served"
    for refused in told:
        assert refused["shown"].startswith("ConnectError: [SSL: CERTIFICATE_VERIFY_FAILED] ")


@pytest.mark.parametrize("version", VERSIONS)
def test_asynchronous_clients_of_one_loop_verify_what_the_first_one_does(
    pythons: dict[str, Python], proxys: dict[str, Proxy], authorities: Authorities, version: str
) -> None:
    untold: dict[str, Any] = {}
    wrong = {"verify": authorities.wrong}
    [first, second] = pythons[version].says(
        proxys[version], {"one_loop": [untold, wrong]}, {"one_loop": [wrong, untold]}
    )
    assert [it["shown"] for it in first] == ["served", "served"]
    assert ["CERTIFICATE_VERIFY_FAILED" in it["shown"] for it in second] == [True, True]


@pytest.mark.parametrize("version", VERSIONS)
def test_the_asynchronous_client_takes_the_credential_from_its_headers_only(
    pythons: dict[str, Python], proxys: dict[str, Proxy], version: str
) -> None:
    verify = {"async": True, "verify": str(proxys[version].ca)}
    headers, provider = pythons[version].says(proxys[version], verify, {**verify, "provider": True})
    assert headers["shown"] == "served"
    assert provider["shown"].startswith("AuthorizationError: Unauthorized: ")


@pytest.mark.parametrize("version", VERSIONS)
def test_python_clients_take_an_address_that_begins_with_https(
    pythons: dict[str, Python], proxys: dict[str, Proxy], version: str
) -> None:
    proxy = proxys[version]
    way = {"host": proxy.https_url, "ssl": False, "verify": str(proxy.ca)}
    ways = [{**way, "provider": True}, {**way, "async": True}]
    assert pythons[version].says(proxy, *ways) == [{"shown": "served"}] * 2


@pytest.fixture(scope="module")
def refused(authorities: Authorities, start: Start) -> dict[str, tuple[Proxy, str]]:
    """For each cause a proxy, and the file that the client is to verify it with."""
    right = start()
    return {
        "the authority is not known": (right, authorities.wrong),
        "the name is another": (start(certificate=authorities.other_name), authorities.ca),
        "it has expired": (start(certificate=authorities.expired), authorities.ca),
        "there is no TLS": (start(tls="off"), authorities.ca),
        "the file is missing": (right, authorities.missing),
        "the file is no PEM": (right, authorities.no_pem),
    }


@pytest.mark.parametrize("version", VERSIONS)
def test_what_python_says_of_a_certificate_is_further_up_in_the_traceback(
    pythons: dict[str, Python], refused: dict[str, tuple[Proxy, str]], version: str
) -> None:
    causes = {
        "the authority is not known": "unable to get local issuer certificate",
        "the name is another": "certificate is not valid for '127.0.0.1'",
        "it has expired": "certificate has expired",
        "there is no TLS": "WRONG_VERSION_NUMBER",
    }
    ways: list[dict[str, Any]] = []
    for proxy, verify in (refused[cause] for cause in causes):
        way = {"port": proxy.port, "verify": verify}
        ways += [{**way, "provider": True}, {**way, "async": True}]
    said = pythons[version].says(proxy, *ways)
    for cause, synchronous, asynchronous in zip(causes, said[::2], said[1::2], strict=True):
        assert synchronous["shown"] == (
            "ValueError: Could not connect to a Chroma server. Are you sure it is running?"
        )
        assert causes[cause] in synchronous["cause"]
        assert causes[cause] in asynchronous["shown"]
        assert asynchronous["shown"].startswith("ConnectError: ")


@pytest.mark.parametrize("version", VERSIONS)
def test_python_says_when_there_is_nothing_to_verify_with(
    pythons: dict[str, Python], refused: dict[str, tuple[Proxy, str]], version: str
) -> None:
    proxy, missing = refused["the file is missing"]
    _, no_pem = refused["the file is no PEM"]
    found = pythons[version].says(proxy, {"verify": missing}, {"verify": no_pem})
    assert found[0]["shown"].startswith("FileNotFoundError")
    assert "NO_CERTIFICATE_OR_CRL_FOUND" in found[1]["shown"]


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        ("the authority is not known", "unable to verify the first certificate"),
        ("the name is another", "Hostname/IP does not match certificate's altnames"),
        ("it has expired", "certificate has expired"),
        ("there is no TLS", "wrong version number"),
        ("the file is missing", "unable to verify the first certificate"),
        ("the file is no PEM", "unable to verify the first certificate"),
    ],
)
def test_what_the_javascript_client_does_not_say_a_command_does(
    refused: dict[str, tuple[Proxy, str]], cause: str, says: str
) -> None:
    proxy, verify = refused[cause]
    shown = node_says(proxy, NODE_EXTRA_CA_CERTS=verify)
    assert shown.startswith("ChromaConnectionError: Failed to connect to chromadb. ")
    assert says in what_node_finds(proxy, NODE_EXTRA_CA_CERTS=verify)


@pytest.mark.parametrize(
    ("cause", "says"),
    [
        ("the authority is not known", "(60) SSL certificate problem: unable to get local issuer"),
        ("the name is another", "(60) SSL: no alternative certificate subject name matches"),
        ("it has expired", "(60) SSL certificate problem: certificate has expired"),
        ("there is no TLS", "wrong version number"),
        ("the file is missing", "(77) error setting certificate file"),
        ("the file is no PEM", "(77) error setting certificate file"),
    ],
)
def test_what_curl_says_of_a_certificate(
    refused: dict[str, tuple[Proxy, str]], cause: str, says: str
) -> None:
    proxy, verify = refused[cause]
    assert says in curl_says(proxy, "--cacert", verify)


def test_the_javascript_client_is_served_with_the_file_of_the_authority(
    proxys: dict[str, Proxy],
) -> None:
    proxy = proxys[CURRENT]
    assert node_says(proxy, NODE_EXTRA_CA_CERTS=proxy.ca) == "served"
    assert what_node_finds(proxy, NODE_EXTRA_CA_CERTS=proxy.ca) == "trusted"


def test_plain_clients_are_told_that_tls_is_required(
    pythons: dict[str, Python], start: Start
) -> None:
    sentence = "This Chroma server takes TLS only"
    for version in VERSIONS:
        proxy = start(version, tls="required")
        verify = {"verify": str(proxy.ca), "provider": True}
        plain, plain_async, served = pythons[version].says(
            proxy, {"ssl": False, "provider": True}, {"ssl": False, "async": True}, verify
        )
        assert sentence in plain["shown"]
        assert sentence in plain_async["shown"]
        assert served["shown"] == "served"
    assert sentence in node_says(proxy, ssl=False)
    assert proxy.get("/api/v2/heartbeat").status_code == 426


def test_openssl_verifies_what_is_served(
    proxys: dict[str, Proxy], authorities: Authorities
) -> None:
    proxy = proxys[CURRENT]
    client = [program("openssl"), "s_client", "-connect", proxy.address, "-brief"]
    client += ["-verify_return_error", "-CAfile"]
    right = run([*client, str(proxy.ca)], proxy.folder)
    assert right.returncode == 0
    assert "Verification: OK" in right.stderr
    wrong = run([*client, authorities.wrong], proxy.folder)
    assert wrong.returncode != 0
    assert "unable to get local issuer certificate" in wrong.stderr


def snippet(heading: str, language: str, number: int = 0) -> str:
    """A block of code of the page, after its heading."""
    section = PAGE.partition(f"\n{heading}\n")[2].partition("\n#")[0]
    blocks: list[tuple[str, str]] = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", section)
    return [code for found, code in blocks if found == language][number]


def here(code: str, proxy: Proxy) -> str:
    """The page's code, for this server."""
    shutil.copy(proxy.ca, proxy.folder / "chroma-ca.pem")
    code = code.replace("HOST", "localhost").replace("TOKEN", TOKEN)
    return code.replace("8000", str(proxy.port))


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("heading", ["### Python", "### Python, asynchronous"])
def test_the_pages_code_for_python_works(
    proxys: dict[str, Proxy], version: str, heading: str
) -> None:
    code = here(snippet(heading, "python"), proxys[version])
    done = run([str(python_with_chroma(version)), "-c", code], proxys[version].folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()


def test_the_pages_code_for_langchain_works(proxys: dict[str, Proxy]) -> None:
    code = here(snippet("### LangChain", "python"), proxys[CURRENT])
    done = run([str(python_with_libraries()), "-c", code], proxys[CURRENT].folder)
    assert done.returncode == 0, done.stderr
    assert "TLS protects" in done.stdout


def test_the_pages_code_for_llamaindex_works_and_its_own_parameters_need_the_environment(
    proxys: dict[str, Proxy],
) -> None:
    proxy = proxys[CURRENT]
    own = f"""
import os

for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CHROMA_SERVER_SSL_VERIFY"):
    chromadb.api.client.SharedSystemClient.clear_system_cache()
    os.environ[variable] = "{proxy.ca}"
    try:
        ChromaVectorStore(
            collection_name="documents",
            host="localhost",
            port={proxy.port},
            ssl=True,
            headers={{"Authorization": "Bearer {TOKEN}"}},
        )
        print(variable, "serves")
    except ValueError as error:
        print(variable, error)
    del os.environ[variable]
"""
    code = here(snippet("### LlamaIndex", "python"), proxy) + own
    done = run([str(python_with_libraries()), "-c", code], proxy.folder)
    assert done.returncode == 0, done.stderr
    page, requests, httpx, chroma = done.stdout.splitlines()
    assert page == "TLS"
    assert "Could not connect" in requests
    assert (httpx, chroma) == ("SSL_CERT_FILE serves", "CHROMA_SERVER_SSL_VERIFY serves")


def test_the_pages_code_for_javascript_works(proxys: dict[str, Proxy]) -> None:
    proxy, folder = proxys[CURRENT], javascript_client()
    app = proxy.folder / "app.mjs"
    app.write_text(here(snippet("### JavaScript", "js"), proxy))
    (proxy.folder / "node_modules").symlink_to(folder / "node_modules")
    command = snippet("### JavaScript", "")
    done = run(["bash", "-c", command], proxy.folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().isdigit()


def test_the_pages_commands_for_curl_work(proxys: dict[str, Proxy]) -> None:
    proxy = proxys[CURRENT]
    commands = here(snippet("### curl", ""), proxy)
    done = run(["bash", "-euc", commands], proxy.folder)
    assert done.returncode == 0, done.stderr
    assert "nanosecond heartbeat" in done.stdout
    assert '"tenant"' in done.stdout


def test_the_pages_commands_for_openssl_work(proxys: dict[str, Proxy]) -> None:
    proxy = proxys[CURRENT]
    shows = snippet("## How do I see what is served?", "")
    done = run(["bash", "-euc", here(shows, proxy)], proxy.folder)
    assert done.returncode == 0, done.stderr
    assert "Verification: OK" in done.stderr
    names = snippet("## How do I see what is served?", "", 1)
    assert "DNS:localhost" in run(["bash", "-euc", here(names, proxy)], proxy.folder).stdout


def test_the_pages_code_that_fetches_the_authority_writes_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    with moto.mock_aws():
        ssm = boto3.client("ssm")
        ssm.put_parameter(Name="PARAMETER", Type="String", Value="-----BEGIN CERTIFICATE-----\n")
        exec(snippet("## How do I make clients trust it?", "python"), {})
    assert Path("chroma-ca.pem").read_text() == "-----BEGIN CERTIFICATE-----\n"
