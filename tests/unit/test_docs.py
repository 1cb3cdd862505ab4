"""What the documentation says of the settings and the public names is what the code says."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import aws_cdk as cdk
import pytest
from aws_cdk.assertions import Template

from chroma_stack import ChromaServerOptions, ChromaStackOptions, __version__, configure
from chroma_stack.backups import DEFAULT_BACKUP_RETENTION
from chroma_stack.container_network import DEFAULT_CONTAINER_CIDR
from chroma_stack.context import SETTINGS
from chroma_stack.instance import DEFAULT_INSTANCE_TYPE
from chroma_stack.storage import DEFAULT_VOLUME_SIZE
from chroma_stack.version import DEFAULT_VERSION
from tests.unit import pages, reference
from tests.unit.synthesis import template

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("page", pages.PAGES, ids=lambda page: page.name)
def test_what_is_written_from_the_code_is_up_to_date(page: Path) -> None:
    assert page.read_text() == pages.PAGES[page](page.read_text()), "run make docs"


@pytest.mark.parametrize("name", reference.classes(), ids=lambda it: it.name)
def test_everything_public_is_explained(name: reference.Class) -> None:
    assert name.text
    assert name.members
    for member in name.members:
        assert member.text or member.kind == "constructor", member.name
        assert member.type or member.kind != "property", member.name
        for parameter in member.parameters:
            assert parameter.text, f"{member.name}: {parameter.name}"
            assert parameter.type, f"{member.name}: {parameter.name}"


@pytest.mark.parametrize("name", reference.classes(), ids=lambda it: it.name)
def test_every_parameter_that_may_be_left_out_says_what_it_is_then(name: reference.Class) -> None:
    for member in name.members:
        for parameter in member.parameters:
            says = re.search(r"\bDefault\b.*: ", parameter.text) is not None
            assert says or not parameter.has_default, f"{member.name}: {parameter.name}"


@pytest.mark.parametrize("options", [ChromaServerOptions, ChromaStackOptions])
def test_every_option_says_what_holds_when_it_is_left_out(options: type) -> None:
    [documented] = [it for it in reference.classes() if it.name == options.__name__]
    assert documented.members
    for member in documented.members:
        assert re.search(r"\bDefault:\s.+\.$", member.text, re.DOTALL), member.name


def test_the_defaults_in_words_are_those_of_the_code() -> None:
    [options] = [it for it in reference.classes() if it.name == "ChromaServerOptions"]
    texts = {member.name: member.text for member in options.members}
    for name, default in {
        "instance_type": f"``{DEFAULT_INSTANCE_TYPE.to_string()}``",
        "version": str(DEFAULT_VERSION),
        "container_cidr": f"``{DEFAULT_CONTAINER_CIDR}``",
        "volume_size": f"{DEFAULT_VOLUME_SIZE.to_gibibytes()} GiB",
        "backup_retention": f"{DEFAULT_BACKUP_RETENTION.to_days()} days",
    }.items():
        assert f"Default: {default}" in " ".join(texts[name].split()), name


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda page: page.name,
)
def test_every_link_to_a_page_and_every_setting_named_exists(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link
    kept = " ".join(re.findall(r'make set ARGS="([^"]*)"', text))
    for key in re.findall(r"(?:-c |\b)(\w+)=", " ".join(re.findall(r"-c \w+=", text)) + kept):
        assert key in {setting.key for setting in SETTINGS} | {"key"}, key


def test_following_the_readme_in_order_never_opens_what_was_narrowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ROOT / "README.md").read_text()
    shutil.copy(ROOT / "cdk.json", tmp_path)
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r'(?m)^make set ARGS="([^"]*)"', text)
    assert len(commands) > 3
    for arguments in commands:
        secret = "arn:aws:secretsmanager:us-east-1:123456789012:secret:traces-a1b2c3"
        configure.main(arguments.replace("=ARN", f"={secret}").split())
        assert configure.kept()["allowedCidr"] == "203.0.113.0/24"


@pytest.mark.parametrize(
    "page",
    [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))],
    ids=lambda page: page.name,
)
def test_no_page_gives_a_setting_for_one_deployment_that_should_stay(page: Path) -> None:
    for block in re.findall(r"(?ms)^ *```\n(.*?)^ *```", page.read_text()):
        assert not re.search("cdk deploy.* -c ", block), block


PAGES_WITH_COMMANDS = [
    *(path for path in ROOT.glob("*.md")),
    *(path for path in (ROOT / "docs").glob("*.md")),
    *(path for path in (ROOT / "examples").glob("*/README.md")),
]


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_of_a_page_means_the_same_in_bash_and_zsh_and_powershell(page: Path) -> None:
    for block in re.findall(r"(?ms)^ *```\n(.*?)^ *```", page.read_text()):
        for line in block.splitlines():
            # What runs on the instance has a shell that is known.
            if re.match(r" *(aws|cdk|curl|make|npx|pip|--)", line) and "│" not in block:
                assert unquoted(line) == "", line


def test_the_commands_among_the_outputs_do_so_too() -> None:
    for name, output in template(users="search:read").to_json()["Outputs"].items():
        if name.endswith("Command"):
            parts = output["Value"]["Fn::Join"][1]
            command = "".join(it if isinstance(it, str) else "REFERENCE" for it in parts)
            assert unquoted(command) == "", name


@pytest.mark.parametrize("page", PAGES_WITH_COMMANDS, ids=lambda page: str(page.relative_to(ROOT)))
def test_whoever_takes_a_snapshot_is_told_how_to_wait_for_it(page: Path) -> None:
    for taken in page.read_text().split("aws ec2 create-snapshot")[1:]:
        assert taken.splitlines()[1].strip().startswith("aws ec2 wait snapshot-completed")


def test_what_the_commands_of_operation_ask_for_is_among_the_outputs() -> None:
    text = (ROOT / "docs" / "operations.md").read_text()
    for name in re.findall("stack, `(\\w+)` and `(\\w+)`;", text)[0]:
        assert name in template().to_json()["Outputs"]


def unquoted(command: str) -> str:
    """What of a command means something else in another shell: patterns and comments of zsh, and
    lists of PowerShell."""
    outside = re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
    return "".join(re.findall(r"[\[\]*?{},#]", outside))


def test_the_readme_warns_of_the_open_port_before_its_first_deployment() -> None:
    text = (ROOT / "README.md").read_text()
    assert 0 < text.index("open to the whole internet") < text.index("npx cdk deploy")


def test_every_output_that_a_page_names_exists() -> None:
    for page in PAGES_WITH_COMMANDS:
        if "examples" not in page.parts:
            for name in re.findall(r"\boutput `(\w+)`", page.read_text()):
                outputs = template(users="search:read").to_json()["Outputs"]
                assert name in outputs, f"{page.name}: {name}"


def test_the_providers_of_chroma_have_their_full_names_in_the_documentation() -> None:
    text = (ROOT / "docs" / "template.md").read_text()
    for name in ("token_authn.TokenAuthentication", "basic_authn.BasicAuthentication"):
        assert f"chromadb.auth.{name}ServerProvider" in text


def test_the_readme_says_how_to_install_the_construct_before_it_is_used() -> None:
    text = (ROOT / "README.md").read_text()
    wheel = f"pip install dist/chroma_stack-{__version__}-py3-none-any.whl"
    assert 0 < text.index("make dist") < text.index(wheel) < text.index("ChromaServer(")


def test_the_readmes_example_pays_for_no_nat_gateway() -> None:
    text = (ROOT / "README.md").read_text()
    [example] = re.findall(r"(?s)```python\n([^`]*ChromaServer\(.*?)```", text)
    names: dict[str, Any] = {}
    exec(example, names)
    made = Template.from_stack(names["SearchStack"](cdk.App(), "Search"))
    made.resource_count_is("AWS::EC2::NatGateway", 0)
    made.resource_count_is("AWS::EC2::EIP", 1)
