"""The function of `examples/lambda_rag`, against the real Chroma behind the real proxy.

Secrets Manager is moto's, and Bedrock a stand-in; boto3 is led to both as in Lambda, by its
environment.
"""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from chroma_stack.emulator.moto_server import MotoServer
from tests.host.bedrock import Bedrock
from tests.host.chroma_servers import ChromaServer
from tests.host.lambda_function import start_function
from tests.host.programs import free_port
from tests.host.proxy import Proxy
from tests.host.test_credential import run

DOCUMENTS = [
    {"id": "opening", "text": "The shop opens at nine and closes at six."},
    {"id": "parking", "text": "Bicycles are parked in the yard behind the house."},
    {"id": "returns", "text": "Goods are taken back within thirty days with the receipt."},
]


@pytest.fixture(scope="module")
def aws() -> Iterator[MotoServer]:
    with MotoServer() as server:
        yield server


@pytest.fixture(scope="module")
def bedrock() -> Iterator[Bedrock]:
    bedrock = Bedrock()
    yield bedrock
    bedrock.close()


class Instance:
    """A proxy whose credential is in Secrets Manager, as on the instance."""

    def __init__(self, aws: MotoServer, proxy: Proxy) -> None:
        self.proxy = proxy
        self._secrets = aws.client("secretsmanager")
        name = f"chroma-{uuid.uuid4()}"
        self.secret = self._secrets.create_secret(Name=name, SecretString="value-0")["ARN"]
        proxy.settings |= {"AUTH_SECRET": self.secret, "REGION": aws.region}
        tools = Path(sys.executable).parent
        proxy.environment |= aws.environment | {"PATH": f"{tools}:{proxy.environment['PATH']}"}
        self.take_up()
        proxy.start()

    def rotate(self, value: str) -> None:
        """What an owner does: write another credential."""
        self._secrets.put_secret_value(SecretId=self.secret, SecretString=value)

    def take_up(self) -> None:
        """What the instance does every minute."""
        taken = run(self.proxy, "credential")
        assert taken.returncode == 0, taken.stderr


@pytest.fixture(scope="module")
def instance(aws: MotoServer, chroma: ChromaServer, make_proxy: Callable[..., Proxy]) -> Instance:
    return Instance(aws, make_proxy(chroma.address))


@pytest.fixture
def changed(aws: MotoServer, chroma: ChromaServer, make_proxy: Callable[..., Proxy]) -> Instance:
    """One of the test's own, for another credential."""
    return Instance(aws, make_proxy(chroma.address))


@pytest.fixture
def start(
    aws: MotoServer, bedrock: Bedrock, instance: Instance, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., ModuleType]:
    """Starts the function for an instance, with further variables."""

    def start(instance: Instance = instance, **variables: str) -> ModuleType:
        where = {"url": instance.proxy.url, "secret": instance.secret, **variables}
        return start_function(monkeypatch, aws, bedrock, **where)

    return start


@pytest.fixture
def call(start: Callable[..., ModuleType]) -> Callable[..., Any]:
    """Calls one function with the members of an event."""
    function = start()
    return lambda **event: function.handler(event, None)


@pytest.fixture
def collection() -> str:
    """The name of a collection that is not there."""
    return f"documents-{uuid.uuid4()}"


def test_a_question_is_answered_from_the_documents_nearest_to_it(
    call: Callable[..., Any], collection: str, bedrock: Bedrock
) -> None:
    added = call(add=DOCUMENTS, collection=collection)
    assert added == {"collection": collection, "added": 3}
    question = "When is the shop open, and when does it close, at six?"
    given = call(question=question, collection=collection, n_results=2)
    assert len(given["sources"]) == 2
    nearest, next_one = given["sources"]
    assert (nearest["id"], nearest["text"]) == (DOCUMENTS[0]["id"], DOCUMENTS[0]["text"])
    assert nearest["distance"] < next_one["distance"]
    # The stand-in answers with what it was asked.
    for told in (question, nearest["text"], next_one["text"]):
        assert told in given["answer"]
    [task] = bedrock.conversations[-1]["system"]
    assert "from the documents alone" in task["text"]


def test_without_a_number_three_documents_are_asked_for(
    call: Callable[..., Any], collection: str
) -> None:
    call(add=[*DOCUMENTS, {"id": "other", "text": "Something else."}], collection=collection)
    assert len(call(question="When?", collection=collection)["sources"]) == 3


def test_a_document_with_an_id_that_is_there_takes_its_place(
    call: Callable[..., Any], collection: str
) -> None:
    call(add=DOCUMENTS, collection=collection)
    call(add=[{"id": "opening", "text": "The shop is closed."}], collection=collection)
    sources = call(question="The shop?", collection=collection, n_results=9)["sources"]
    assert [it["id"] for it in sources if "shop" in it["text"]] == ["opening"]
    assert sources[0]["text"] == "The shop is closed."
    assert len(sources) == 3


def test_a_new_credential_is_taken_up_when_the_proxy_refuses_the_old_one(
    start: Callable[..., ModuleType], changed: Instance, collection: str
) -> None:
    function = start(changed)
    function.handler({"add": DOCUMENTS, "collection": collection}, None)
    for value in ("value-1", "value-2"):
        changed.rotate(value)
        changed.take_up()
    refused = changed.proxy.get("/api/v2/auth/identity", {"Authorization": "Bearer value-0"})
    assert refused.status_code == 401
    assert function.handler({"question": "When?", "collection": collection}, None)["sources"]


def test_a_credential_that_the_machine_has_not_taken_up_yet_stops_nobody(
    start: Callable[..., ModuleType], changed: Instance, collection: str
) -> None:
    changed.rotate("value-1")
    added = start(changed).handler({"add": DOCUMENTS, "collection": collection}, None)
    assert added["added"] == 3


def test_the_credential_is_read_once_while_it_is_accepted(
    start: Callable[..., ModuleType], collection: str
) -> None:
    function = start()
    read: list[str] = []
    function.secrets_manager.meta.events.register(
        "before-call.secrets-manager.GetSecretValue", lambda model, **_: read.append(model.name)
    )
    function.handler({"add": DOCUMENTS, "collection": collection}, None)
    function.handler({"question": "When?", "collection": collection}, None)
    assert read == ["GetSecretValue"]


def test_a_missing_collection_is_told_in_words(call: Callable[..., Any], collection: str) -> None:
    with pytest.raises(Exception, match=f"^there is no collection {collection}: add documents"):
        call(question="When?", collection=collection)


def test_an_empty_collection_is_told_in_words(
    call: Callable[..., Any], chroma: ChromaServer, collection: str
) -> None:
    made = f"http://{chroma.address}/api/v2/tenants/default_tenant/databases/default_database"
    httpx.post(f"{made}/collections", json={"name": collection}).raise_for_status()
    with pytest.raises(Exception, match=f"^the collection {collection} is empty"):
        call(question="When?", collection=collection)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({}, "the event must have a question, or documents to add"),
        ({"question": " "}, "question must be a text"),
        ({"question": 7}, "question must be a text"),
        ({"question": "When?", "n_results": 0}, "n_results must be a whole number from 1 on"),
        ({"question": "When?", "n_results": "3"}, "n_results must be a whole number from 1 on"),
        ({"question": "When?", "collection": None}, "collection must be a name"),
        ({"add": []}, "add must be a list of documents"),
        ({"add": "text"}, "add must be a list of documents"),
        ({"add": [{"id": "a"}]}, "each document to add must have an id and a text"),
        ({"add": ["text"]}, "each document to add must have an id and a text"),
    ],
)
def test_an_event_that_makes_no_sense_is_refused_in_words(
    call: Callable[..., Any], event: dict[str, Any], words: str
) -> None:
    with pytest.raises(Exception, match=f"^{words}$"):
        call(**event)


def test_what_chroma_refuses_is_told_in_its_words(call: Callable[..., Any]) -> None:
    with pytest.raises(Exception, match=r"^Chroma answers 400: .*name"):
        call(add=DOCUMENTS, collection="no name/at all")


def test_a_slash_in_a_name_leads_nowhere_else(call: Callable[..., Any], collection: str) -> None:
    call(add=DOCUMENTS, collection=collection)
    with pytest.raises(Exception, match=r"^there is no collection|^Chroma answers 4"):
        call(question="When?", collection=f"x/../{collection}")


def test_a_wrong_credential_is_told_in_words(
    start: Callable[..., ModuleType], changed: Instance, collection: str
) -> None:
    for value in ("wrong-1", "wrong-2"):
        changed.rotate(value)
    with pytest.raises(Exception, match=r"^the Chroma server refuses the credential"):
        start(changed).handler({"add": DOCUMENTS, "collection": collection}, None)


def test_a_server_that_is_away_is_told_in_words(
    start: Callable[..., ModuleType], collection: str
) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(Exception, match=f"^the Chroma server at {url} does not answer"):
        start(url=url).handler({"add": DOCUMENTS, "collection": collection}, None)


def test_a_model_that_bedrock_does_not_offer_is_told_in_words(
    start: Callable[..., ModuleType], collection: str
) -> None:
    function = start(EMBEDDING_MODEL="amazon.none-v1:0")
    with pytest.raises(Exception, match=r"there is no model amazon\.none-v1:0"):
        function.handler({"add": DOCUMENTS, "collection": collection}, None)
