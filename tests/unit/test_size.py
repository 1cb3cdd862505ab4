"""What a number of vectors needs: the answer of ``python -m chroma_stack.size``, and its refusals."""

from __future__ import annotations

import gzip
import io
import itertools
import json
import math
import re
import shlex
import subprocess
import sys
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any

import boto3
import moto
import pytest
from botocore.stub import Stubber

from chroma_stack import storage
from chroma_stack.size import command, costs, live, model
from chroma_stack.size.answer import Growth
from chroma_stack.size.errors import Refused
from chroma_stack.size.instances import TYPES, choices, next_larger, worth_it
from chroma_stack.size.model import GIB, MIB, Collection, divided
from tests.unit.synthesis import launch, properties, template

ROOT = Path(__file__).parents[2]
PLANNED = ["--vectors", "2M", "--dimensions", "1536"]


@pytest.fixture
def size(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command: its exit code, what it prints, and its errors."""

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            command.main(arguments)
        said = capsys.readouterr()
        code = ended.value.code
        return (code, said.out, said.err) if isinstance(code, int) else (1, said.out, str(code))

    return run


def answer(size: Any, *arguments: str) -> dict[str, Any]:
    code, out, _ = size(*arguments, "--json")
    assert code == 0
    return dict(json.loads(out))


def host_memory() -> ModuleType:
    """The program that keeps Chroma within its memory on the instance."""
    loader = SourceFileLoader("host_memory", str(ROOT / "chroma_stack" / "host" / "memory"))
    module = module_from_spec(spec_from_loader("host_memory", loader))  # type: ignore[arg-type]
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("more", ["vectors", "dimensions", "id_bytes", "neighbours"])
@pytest.mark.parametrize("vectors", [1, 999, 65536, 1_000_000])
def test_twice_of_anything_needs_more_memory(vectors: int, more: str) -> None:
    few = {"vectors": vectors, "dimensions": 384, "id_bytes": 36, "neighbours": 16}
    many = {**few, more: 2 * few[more]}
    assert Collection(**many).index() > Collection(**few).index()


def test_links_take_memory_and_disk() -> None:
    few, many = (Collection(vectors=20_000, dimensions=128, neighbours=it) for it in (16, 64))
    links = 20_000 * 2 * 48 * 4
    assert many.index() - few.index() == pytest.approx(links, rel=0.02)
    assert model.disk([many]).index - model.disk([few]).index == links


def test_memory_never_falls_while_vectors_are_added() -> None:
    sizes = [Collection(vectors=it, dimensions=8).index() for it in range(0, 70_000, 111)]
    assert all(before <= after for before, after in itertools.pairwise(sizes))


def test_a_record_is_at_least_its_vector_and_links() -> None:
    assert Collection(vectors=1000, dimensions=1536).index() > 1000 * (4 * 1536 + 4 * 32)


def test_many_small_collections_need_more_than_a_large_one() -> None:
    one, many = divided(100_000, 384, 1), divided(100_000, 384, 30)
    assert sum(it.vectors for it in many) == 100_000
    assert model.settled(many) - model.settled(one) > 29 * model.LOCKS * 0.8


def test_numbers_in_json_need_more_than_base64() -> None:
    held = divided(10_000, 1536, 1)
    assert model.writing(held) > model.writing(held, base64=True) > model.settled(held)


@pytest.mark.parametrize(
    ("dimensions", "vectors", "document_bytes", "mebibytes"),
    [
        (1536, 5_000, 0, 358),
        (1536, 10_000, 0, 417),
        (1536, 20_000, 0, 470),
        (384, 20_000, 0, 190),
        (384, 10_000, 2_000, 187),
    ],
)
def test_numbers_in_json_are_counted_with_the_most_that_was_measured(
    dimensions: int, vectors: int, document_bytes: int, mebibytes: float
) -> None:
    held = divided(vectors, dimensions, 1)
    assert model.writing(held, document_bytes=document_bytes) > mebibytes * MIB


def test_the_hosts_part_is_that_of_the_hosts_own_program() -> None:
    memory = host_memory()
    assert (memory.RESERVE, memory.MONITORING) == (model.RESERVE, model.MONITORING)
    assert memory.MARGIN == model.MARGIN
    source = (ROOT / "chroma_stack" / "host" / "memory").read_text()
    assert f"total // {model.RESERVE_PART})" in source
    assert f"most // {model.MARGIN_PART})" in source


@pytest.mark.parametrize("gib", [2, 8, 64])
def test_less_is_left_for_chroma_than_the_instance_has(gib: int) -> None:
    visible = gib * GIB * model.VISIBLE
    assert model.available(gib) <= visible - model.RESERVE - model.MONITORING - model.MARGIN
    assert model.available(gib, monitoring=False) > model.available(gib)


def test_no_memory_is_left_for_chroma_on_an_instance_of_one_gib() -> None:
    assert model.available(1) == 0


def test_the_rule_of_chromas_makers_is_theirs() -> None:
    assert model.gib_by_chromas_rule(divided(245_000, 1024, 1)) == pytest.approx(2)
    assert model.gib_by_chromas_rule(divided(490_000, 512, 7)) == pytest.approx(2)


def test_the_volume_has_room_for_each_index_three_times_and_a_tenth_more() -> None:
    disk = model.disk(divided(1_000_000, 768, 1), document_bytes=500)
    assert disk.gib() * GIB * 0.9 > 3 * 1_000_000 * 4 * 768 + 1_000_000 * 500 * 2
    assert disk.index > 1_000_000 * 4 * 768


def instance_types_of_ec2() -> dict[str, Any]:
    """As EC2 described them when moto was released."""
    [file] = (Path(moto.__file__).parent / "ec2" / "resources").glob("instance_types.json*")
    text = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    return dict(json.loads(text))


def test_the_types_of_the_table_are_those_of_ec2() -> None:
    described = instance_types_of_ec2()
    for it in TYPES:
        ec2 = described[it.name]
        assert ec2["VCpuInfo"]["DefaultVCpus"] == it.vcpu, it.name
        assert ec2["MemoryInfo"]["SizeInMiB"] == it.gib * 1024, it.name
        assert ec2["BurstablePerformanceSupported"] == (it.baseline is not None), it.name
        architecture = {"x86-64": "x86_64", "arm64": "arm64"}[it.architecture]
        assert ec2["ProcessorInfo"]["SupportedArchitectures"] == [architecture], it.name


def test_the_choice_is_the_cheapest_of_each_kind_with_enough_memory() -> None:
    offered = choices(TYPES, 1.5 * GIB)
    assert [it.name for it in offered] == ["t4g.medium", "m7g.medium", "t3.medium", "m7i.large"]
    assert offered == sorted(offered, key=lambda it: it.price)


def test_a_burstable_type_that_saves_nothing_is_not_offered() -> None:
    assert all(it.baseline is None for it in choices(TYPES, 10 * GIB))


def test_a_burstable_type_costs_as_much_more_as_aws_charges_beyond_its_baseline() -> None:
    [small] = [it for it in TYPES if it.name == "t3.small"]
    assert small.surplus() == pytest.approx(2 * 0.8 * 0.05 * 730)


def test_the_next_type_is_larger_and_there_is_none_after_the_largest() -> None:
    [small] = [it for it in TYPES if it.name == "t4g.small"]
    following = next_larger(TYPES, small)
    assert following is not None
    assert following.name == "t4g.medium"
    [largest] = [it for it in TYPES if it.name == "r8g.48xlarge"]
    assert next_larger(TYPES, largest) is None


def test_a_type_is_not_worth_it_beside_a_cheaper_one_with_as_much_memory() -> None:
    names = {it.name for it in worth_it(TYPES)}
    assert {"t3.small", "r7i.large"} <= names
    assert not {"t3.xlarge", "m7i.xlarge", "m7i.12xlarge"} & names


def test_the_default_server_costs_what_the_readme_says(size: Any) -> None:
    result = answer(size, "--vectors", "100k", "--dimensions", "384")
    [small] = [it for it in result["instances"] if it["type"] == "t3.small"]
    assert properties(template(), "AWS::EC2::Volume")["Size"] == result["volume"]["gib"]
    assert launch(template())["InstanceType"] == "t3.small"
    [said] = re.findall(r"\| together \| .* \| \$(.+) \|", (ROOT / "README.md").read_text())
    without_snapshots = small["everything_month"] - small["snapshot_month"]
    assert without_snapshots == pytest.approx(float(said), abs=0.011)


def test_what_is_known_of_volumes_is_what_the_construct_knows() -> None:
    assert storage.DEFAULT_VOLUME_SIZE.to_gibibytes() == costs.DEFAULT_VOLUME
    assert storage.DEFAULT_IOPS == costs.DEFAULT_IOPS
    assert storage.DEFAULT_THROUGHPUT == costs.DEFAULT_THROUGHPUT
    assert storage.LARGEST_VOLUME_GIB == model.LARGEST_VOLUME


def test_neither_the_cdk_nor_boto3_nor_matplotlib_is_loaded_for_an_answer() -> None:
    loaded = (
        "import sys; from chroma_stack.size import command; "
        "sys.exit(str({'aws_cdk', 'boto3', 'matplotlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", loaded], capture_output=True, text=True, cwd=ROOT)
    assert done.stderr.strip() == "set()"


def test_everything_has_a_snapshot_of_all_data_in_it(size: Any) -> None:
    code, out, _ = size(*PLANNED, "--document-bytes", "2000")
    result = answer(size, *PLANNED, "--document-bytes", "2000")
    data = (2 * result["disk"]["index"] + result["disk"]["database"]) / GIB
    assert code == 0
    assert data > 50
    for it in result["instances"]:
        assert it["snapshot_month"] == pytest.approx(0.05 * data, abs=0.01)
        rows = costs.server(it["type"], volume=result["volume"]["gib"], used=data)
        assert it["everything_month"] == pytest.approx(costs.total(rows), abs=0.01)
        assert it["everything_month"] > costs.total(rows[:-2]) + 0.05 * 50
    assert f"{0.05 * data:.2f}  snapshots, at least one of all data, {data:.1f} GiB: $0.05" in out


def test_the_answer_says_of_which_day_the_price_of_the_instance_is(size: Any) -> None:
    _, out, _ = size(*PLANNED)
    day = costs.LIST["instances"]["date"]
    assert day < costs.LIST["date"]
    assert f"list prices, of instances on {day} and of the rest on {costs.LIST['date']}" in out
    assert f"instance, r7i.xlarge: $0.2646 an hour on {day}" in out
    assert answer(size, *PLANNED)["prices"]["instances_date"] == day


def test_more_throughput_costs_more() -> None:
    rows = {it.what: it.month for it in costs.server("r7i.xlarge", volume=500, throughput=250)}
    assert rows["its 250 MiB a second"] == pytest.approx(5)
    faster = costs.server("r7i.xlarge", volume=500, iops=6000)
    assert {it.what: it.month for it in faster}["its 6,000 IOPS"] == pytest.approx(15)


DEPLOYED = [
    ["--vectors", "300k", "--dimensions", "768", "--growth", "3%/week"],
    ["--vectors", "250M", "--dimensions", "1024"],
]
"""Every setting that an answer may have is in these: burstable types and Graviton, a volume that
grows, and one with more throughput."""


@pytest.mark.parametrize("planned", DEPLOYED, ids=" ".join)
def test_every_line_that_deploys_makes_a_template_of_that_size(
    size: Any, planned: list[str]
) -> None:
    result = answer(size, *planned)
    assert result["instances"]
    for it in result["instances"]:
        words = shlex.split(it["deploy"])
        assert words[:3] == ["npx", "cdk", "deploy"]
        given = dict(word.split("=") for word in words[3:] if word != "-c")
        assert given == it["settings"]
        made = template(**given)
        assert launch(made)["InstanceType"] == it["type"]
        volume = properties(made, "AWS::EC2::Volume")
        assert volume["Size"] == result["volume"]["gib"]
        assert volume.get("Throughput", 125) == result["volume"]["throughput"]


def test_what_is_offered_has_the_memory_that_is_needed(size: Any) -> None:
    result = answer(size, *PLANNED)
    assert result["memory"]["settled"] < result["memory"]["writing"]
    for it in result["instances"]:
        assert result["memory"]["writing"] <= it["memory_for_chroma"] < it["gib"] * GIB
    assert {it["architecture"] for it in result["instances"]} == {"x86-64", "arm64"}


def test_the_text_has_what_the_json_has(size: Any) -> None:
    code, out, err = size(*PLANNED, "--growth", "10%/month")
    result = answer(size, *PLANNED, "--growth", "10%/month")
    assert (code, err) == (0, "")
    for it in result["instances"]:
        assert it["deploy"] in out
        assert f"{it['everything_month']:,.2f}" in out
    assert f"{result['memory']['writing'] / GIB:,.1f} GiB  while records are added" in out
    assert f"{result['memory']['instance_gib_by_chromas_rule']:,.1f} GiB  for the instance" in out


def test_growth_ends_when_the_memory_does(size: Any) -> None:
    result = answer(size, *PLANNED, "--growth", "10%/month")
    for it in result["instances"]:
        last = it["enough_for"]
        assert last["vectors"] == pytest.approx(2e6 * 1.1 ** last["periods"], rel=0.01)
        for vectors, enough in ((last["vectors"], True), (last["vectors"] * 1.01, False)):
            needed = model.writing(divided(round(vectors), 1536, 1))
            assert (needed <= it["memory_for_chroma"]) == enough
        assert last["then"] in {other.name for other in TYPES}
        assert int(it["settings"]["maxVolumeSize"]) > int(it["settings"]["volumeSize"])


def test_ten_percent_a_month_double_in_seven_months() -> None:
    assert math.floor(Growth(rate=0.1, period="month").periods(2)) == 7


def test_what_no_instance_has_ends_with_what_remains(size: Any) -> None:
    code, out, err = size("--vectors", "1B", "--dimensions", "3072")
    assert (code, err) == (1, "")
    assert "several servers" in out
    assert "Chroma Cloud" in out
    assert "cdk deploy" not in out
    code, out, _ = size("--vectors", "1B", "--dimensions", "3072", "--json")
    assert code == 1
    assert json.loads(out)["instances"] == []


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("2M", 2_000_000),
        ("500k", 500_000),
        ("1.5m", 1_500_000),
        ("1e6", 1_000_000),
        ("1,000", 1000),
        ("7", 7),
        ("2b", 2_000_000_000),
    ],
)
def test_numbers_may_be_short(size: Any, text: str, count: int) -> None:
    _, out, _ = size("--vectors", text, "--dimensions", "2", "--json")
    assert json.loads(out)["vectors"] == count


REFUSED = [
    ([], "--vectors and --dimensions are needed, or --server"),
    (["--vectors", "5"], "--vectors and --dimensions are needed, or --server"),
    (["--vectors", "0", "--dimensions", "2"], "--vectors 0 is refused"),
    (["--vectors", "1.5", "--dimensions", "2"], "--vectors 1.5 is refused"),
    (["--vectors", "many", "--dimensions", "2"], "--vectors many is refused"),
    (["--vectors", "-5", "--dimensions", "2"], "--vectors -5 is refused"),
    (["--vectors", "2e13", "--dimensions", "2"], "--vectors 2e13 is refused"),
    (["--vectors", "nan", "--dimensions", "2"], "--vectors nan is refused"),
    (["--vectors", "5", "--dimensions", "70k"], "--dimensions 70k is refused"),
    ([*PLANNED, "--collections", "0"], "--collections 0 is refused"),
    (["--vectors", "5", "--dimensions", "2", "--collections", "6"], "there are only 5 vectors"),
    ([*PLANNED, "--document-bytes", "long"], "--document-bytes long is refused"),
    ([*PLANNED, "--sync-threshold", "1"], "--sync-threshold 1 is refused"),
    ([*PLANNED, "--growth", "10%"], "--growth 10% is refused"),
    ([*PLANNED, "--growth", "0%/month"], "--growth 0%/month is refused"),
    ([*PLANNED, "--growth", "5%/day"], "--growth 5%/day is refused"),
    ([*PLANNED, "--region", "eu-central-1"], "--live asks the AWS price list for others"),
    ([*PLANNED, "--plot", "picture.pdf"], "--plot picture.pdf is refused"),
    ([*PLANNED, "--server", "http://127.0.0.1:1"], "--vectors 2M is refused beside --server"),
    (["--server", "127.0.0.1:8000"], "--server 127.0.0.1:8000 is refused"),
    (["--server", "ftp://127.0.0.1"], "--server ftp://127.0.0.1 is refused"),
    (["--server", "http://127.0.0.1:port"], "--server http://127.0.0.1:port is refused"),
    (["--server", "http://127.0.0.1:1", "--growth", "5%"], "--growth 5% is refused"),
    (
        ["--server", "http://127.0.0.1:1", "--credential-file", "/nowhere"],
        "--credential-file /nowhere cannot be read: No such file",
    ),
    (["--server", "https://127.0.0.1:1", "--ca", "/nowhere"], "--ca /nowhere is refused"),
]


@pytest.mark.parametrize(("arguments", "sentence"), REFUSED)
def test_a_mistake_is_refused_with_a_sentence(
    size: Any, arguments: list[str], sentence: str
) -> None:
    code, out, err = size(*arguments)
    assert (code, out) == (2, "")
    said = err.strip().splitlines()[-1]
    assert said.startswith("python -m chroma_stack.size: error: ")
    assert sentence in said
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("auth", "credential", "sentence"),
    [
        ("token", "two\nlines", "--auth token needs a credential of one line of ASCII"),
        ("x-chroma-token", "schlüssel", "--auth x-chroma-token needs a credential of one line"),
        ("basic", "password", "--auth basic needs a credential like USER:PASSWORD"),
        ("token", " \n", "is refused: the credential is empty"),
    ],
)
def test_a_credential_that_cannot_be_one_is_refused_and_not_printed(
    size: Any, tmp_path: Path, auth: str, credential: str, sentence: str
) -> None:
    file = tmp_path / "credential"
    file.write_text(credential)
    asked = ["--server", "http://127.0.0.1:1", "--auth", auth, "--credential-file", str(file)]
    code, out, err = size(*asked)
    assert (code, out) == (2, "")
    assert sentence in err
    assert credential.strip() == "" or credential not in err


def test_a_credential_may_come_from_standard_input(
    size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("schlüssel\n"))
    _, _, err = size("--server", "http://127.0.0.1:1", "--credential-file", "-")
    assert "--auth token needs a credential of one line of ASCII" in err


def test_a_line_end_in_the_environment_is_no_part_of_the_credential(
    size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(command.CREDENTIAL, "sEcReT\n")
    code, _, err = size("--server", "http://127.0.0.1:1")
    assert code == 1
    assert err.startswith("Error: http://127.0.0.1:1 does not answer: ")


def test_a_server_that_does_not_answer_is_named(size: Any) -> None:
    code, out, err = size("--server", "http://127.0.0.1:1")
    assert (code, out) == (1, "")
    assert err.startswith("Error: http://127.0.0.1:1 does not answer: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("option", "library"),
    [(["--live"], "boto3"), (["--plot", "vectors.png"], "matplotlib")],
    ids=["live", "plot"],
)
def test_what_an_option_needs_and_is_not_installed_is_named(
    size: Any, monkeypatch: pytest.MonkeyPatch, option: list[str], library: str
) -> None:
    monkeypatch.delitem(sys.modules, "chroma_stack.size.picture", raising=False)
    monkeypatch.delattr("chroma_stack.size.picture", raising=False)
    for name in (library, "matplotlib.axes", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    sentence = f"Error: {option[0]} needs {library}, which the package's extra 'size' installs"
    assert size(*PLANNED, *option) == (1, "", sentence)


def test_an_interruption_ends_without_a_traceback(
    size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "offers", interrupted)
    assert size(*PLANNED) == (130, "", "")


def test_who_reads_only_the_beginning_gets_no_traceback() -> None:
    line = f"{sys.executable} -m chroma_stack.size {shlex.join(PLANNED)} | head -1"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout == "2,000,000 vectors of 1,536 dimensions in 1 collection\n"
    assert done.stderr == ""


def test_the_picture_is_a_png(size: Any, tmp_path: Path) -> None:
    file = tmp_path / "vectors.png"
    code, out, _ = size(*PLANNED, "--plot", str(file))
    assert code == 0
    assert f"The picture is {file}." in out
    assert file.read_bytes().startswith(b"\x89PNG\r\n")


def test_a_picture_that_cannot_be_written_is_an_error_of_one_line(
    size: Any, tmp_path: Path
) -> None:
    code, _, err = size(*PLANNED, "--plot", str(tmp_path / "none" / "a.png"))
    assert code == 1
    assert err.endswith("cannot be written: No such file or directory")


def product(price: float, unit: str, **attributes: str) -> str:
    """One of the price list's products, as AWS documents it:
    https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_pricing_GetProducts.html
    """
    dimension = {"unit": unit, "pricePerUnit": {"USD": f"{price:.10f}"}}
    terms = {
        "OnDemand": {"SKU.JRTCKXETXF": {"priceDimensions": {"SKU.JRTCKXETXF.6YS6": dimension}}}
    }
    return json.dumps({"product": {"attributes": attributes}, "terms": terms})


def stubbed(*pages: list[str], one_answer: bool = True) -> Any:
    """A client that answers with these pages, of one answer or each for itself."""
    client = boto3.client(
        "pricing", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b"
    )
    stub = Stubber(client)
    for number, page in enumerate(pages):
        more = {"NextToken": str(number)} if one_answer and number + 1 < len(pages) else {}
        stub.add_response("get_products", {"FormatVersion": "aws_v1", "PriceList": page, **more})
    stub.activate()
    return client


def test_the_price_list_is_read_to_its_last_page() -> None:
    client = stubbed(
        [
            product(0.024, "Hrs", instanceType="t3.small"),
            product(0, "Hrs", instanceType="a1.large"),
        ],
        [product(0.0192, "Hrs", instanceType="t4g.small")],
    )
    assert live.instances(client, "eu-central-1") == {"t3.small": 0.024, "t4g.small": 0.0192}


def test_a_volume_has_one_price() -> None:
    assert live.gib_month(stubbed([product(0.0952, "GB-Mo")]), "eu-central-1") == 0.0952
    with pytest.raises(Refused, match="has 2 prices for gp3"):
        live.gib_month(stubbed([product(1, "GB-Mo"), product(2, "GB-Mo")]), "eu-central-1")


def test_a_region_that_the_price_list_does_not_know_is_refused() -> None:
    with pytest.raises(Refused, match="--region mars-1: the AWS price list has no instances"):
        live.instances(stubbed([]), "mars-1")


def test_live_prices_are_those_of_the_answer(size: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    types = [("r7i.xlarge", 0.3), ("x9.large", 9)]
    instances = [product(price, "Hrs", instanceType=name) for name, price in types]
    client = stubbed(instances, [product(0.1, "GB-Mo")], one_answer=False)
    monkeypatch.setattr(boto3, "client", lambda name, region_name: client)
    result = answer(size, *PLANNED, "--region", "eu-central-1", "--live")
    [only] = result["instances"]
    assert only["month"] == pytest.approx(0.3 * 730)
    assert result["prices"]["region"] == "eu-central-1"
    assert (result["prices"]["date"], result["prices"]["instances_date"]) == (None, None)
    assert "for the rest us-east-1" in result["prices"]["source"]


def test_a_live_price_has_not_the_day_of_the_list(
    size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    instances = [product(0.3, "Hrs", instanceType="r7i.xlarge")]
    client = stubbed(instances, [product(0.1, "GB-Mo")], one_answer=False)
    monkeypatch.setattr(boto3, "client", lambda name, region_name: client)
    _, out, _ = size(*PLANNED, "--live")
    assert "instance, r7i.xlarge: $0.3 an hour\n" in out


def test_live_without_credentials_is_an_error_of_one_line(
    size: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nowhere")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    code, _, err = size(*PLANNED, "--live")
    assert code == 1
    assert err == "Error: --live: Unable to locate credentials"


def test_a_small_server_is_predicted_in_mebibytes() -> None:
    assert 60 * MIB < model.settled(divided(100, 8, 1)) < 70 * MIB
