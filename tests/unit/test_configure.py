"""Settings are kept in ``cdk.json``; what is given for one command, and what it loosens, is said."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path

import aws_cdk as cdk
import pytest

from chroma_stack import configure, context

FLAGS = {"@aws-cdk/core:anything": True}
REST = {"app": ".venv/bin/python app.py", "versionReporting": False}


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ``cdk.json`` with what is not ours, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CDK_DEFAULT_ACCOUNT", "123456789012")
    monkeypatch.setenv("CDK_DEFAULT_REGION", "us-east-1")
    made = tmp_path / "cdk.json"
    made.write_text(json.dumps({**REST, "context": FLAGS}))
    return made


def command(**once: str) -> list[str]:
    """The lines that ``cdk synth -c key=value …`` prints about the settings, in this folder."""
    given = json.loads(Path("cdk.json").read_text()).get("context", {})
    app = cdk.App(context={**given, **once})
    stack = context.chroma_stack(app)
    printed = io.StringIO()
    with contextlib.redirect_stderr(printed):
        configure.report(stack, Path(app.synth().directory))
    return printed.getvalue().splitlines()


def test_a_setting_that_is_kept_holds_for_every_later_command() -> None:
    configure.main(["allowedCidr=203.0.113.0/24", "volumeSize=40"])
    configure.main(["chromaVersion=1.5.8"])
    assert configure.kept() == {
        "allowedCidr": "203.0.113.0/24",
        "volumeSize": "40",
        "chromaVersion": "1.5.8",
    }
    assert command() == []


def test_users_are_kept_and_a_user_that_cannot_be_is_not(file: Path) -> None:
    configure.main(["users=search:read,ingest:write"])
    assert configure.kept() == {"users": "search:read,ingest:write"}
    with pytest.raises(SystemExit, match=r"users='admin' is refused: .*not admin or chroma"):
        configure.main(["users=search:read,admin:read"])
    assert configure.kept() == {"users": "search:read,ingest:write"}
    assert command(users="search:admin")[-1] == (
        "users=search:admin: for this command only. To keep it: make set ARGS='users=search:admin'"
    )


def test_the_rest_of_cdk_json_stays_as_it_is(file: Path) -> None:
    before = file.read_text()
    configure.main(["instanceType=t3.medium"])
    assert json.loads(file.read_text()) == {
        **REST,
        "context": {**FLAGS, "instanceType": "t3.medium"},
    }
    configure.main(["instanceType="])
    assert json.loads(file.read_text()) == json.loads(before)
    assert list(file.parent.glob("cdk.json*")) == [file]


def test_the_cdk_json_of_this_project_comes_back_to_the_byte(file: Path) -> None:
    ours = (Path(__file__).parents[2] / "cdk.json").read_text()
    file.write_text(ours)
    configure.main(["instanceType=t3.medium"])
    configure.main(["instanceType="])
    assert file.read_text() == ours


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["volumeSize=40", "instanceType=t3.nano"], "instanceType='t3.nano' is refused: .*2 GiB"),
        (["volumeSize=40", "alowedCidr=10.0.0.0/8"], "allowedCidr"),
        (["volumeSize=40", "colour=red"], "colour=.* is refused"),
        (["volumeSize=40", "colour="], "colour=.* is refused"),
        (["volumeSize=40", "sshCidr=10.0.0.0/8"], "only together with keyName"),
    ],
)
def test_nothing_is_written_when_something_is_refused(
    file: Path, arguments: list[str], sentence: str
) -> None:
    before = file.read_text()
    with pytest.raises(SystemExit, match=sentence):
        configure.main(arguments)
    assert file.read_text() == before


def test_a_misspelt_key_can_be_removed(file: Path) -> None:
    file.write_text(json.dumps({"context": {"alowedCidr": "10.0.0.0/8"}}))
    configure.main(["alowedCidr="])
    assert json.loads(file.read_text()) == {}


def test_an_argument_that_is_no_setting_is_refused(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        configure.main(["t3.small"])
    assert "key=value" in capsys.readouterr().err
    file.unlink()
    with pytest.raises(SystemExit):
        configure.main(["instanceType=t3.small"])
    assert "no cdk.json" in capsys.readouterr().err


def test_a_vpc_can_be_kept_without_credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CDK_DEFAULT_ACCOUNT")
    monkeypatch.delenv("CDK_DEFAULT_REGION")
    configure.main(["vpcId=vpc-0123456789abcdef0"])
    assert configure.kept() == {"vpcId": "vpc-0123456789abcdef0"}


def test_the_settings_are_shown_with_value_default_and_meaning(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure.main(["volumeSize=40", "otelCollectionEndpoint=collector.example"])
    configure.main(["otelCollectionHeaders=key=geheim"])
    configure.main([])
    shown = capsys.readouterr().out
    assert "volumeSize = 40 (default: 24)\n      Size of the data volume" in shown
    assert "instanceType = t3.small (default)\n" in shown
    assert "geheim" not in shown
    for setting in context.SETTINGS:
        assert not setting.key or f"  {setting.key} = " in shown


def test_a_setting_given_by_c_is_said_to_hold_for_this_command_only() -> None:
    configure.main(["volumeSize=40"])
    [line] = command(instanceType="t3.medium", allowedCidr="10.0.0.0/8, 192.0.2.0/24")
    assert "for this command only" in line
    assert (
        """make set ARGS='instanceType=t3.medium allowedCidr="10.0.0.0/8, 192.0.2.0/24"'""" in line
    )
    assert "volumeSize" not in line


def test_one_that_is_kept_with_the_same_value_is_not() -> None:
    configure.main(["volumeSize=40"])
    assert command(volumeSize="40") == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({"allowedCidr": "203.0.113.0/24"}, {}),
        ({"allowedCidr": "203.0.113.0/24"}, {"allowedCidr": "203.0.112.0/23"}),
        ({"allowedCidr": "203.0.113.0/24"}, {"allowedCidr": "203.0.113.0/24,192.0.2.1/32"}),
        ({}, {"auth": "none"}),
        ({"auth": "basic"}, {"auth": "none"}),
        ({}, {"keyName": "ops"}),
        ({}, {"tls": "off"}),
        ({"tls": "required"}, {"tls": "optional"}),
        ({"tls": "required"}, {}),
        ({"deletionProtection": "true"}, {}),
        ({"deletionProtection": "True"}, {"deletionProtection": "false"}),
        (
            {"keyName": "ops", "sshCidr": "192.0.2.0/31"},
            {"keyName": "ops", "sshCidr": "192.0.2.0/30"},
        ),
    ],
)
def test_weaker_settings_than_those_of_the_last_command_are_pointed_out(
    before: dict[str, str], now: dict[str, str]
) -> None:
    command(**before)
    [key] = {key for key in {**before, **now} if before.get(key) != now.get(key)}
    [line] = [line for line in command(**now) if "less protected" in line]
    assert f"{key}: " in line
    assert [line for line in command(**now) if "less protected" in line] == []


@pytest.mark.parametrize(
    ("before", "now"),
    [
        ({}, {"allowedCidr": "203.0.113.0/24"}),
        ({"allowedCidr": "203.0.112.0/23"}, {"allowedCidr": "203.0.113.0/24"}),
        ({"allowedCidr": "10.0.0.0/9,10.128.0.0/9"}, {"allowedCidr": "10.0.0.0/8"}),
        ({"auth": "none"}, {"auth": "none"}),
        ({"auth": "token"}, {"auth": "basic"}),
        ({}, {"tls": "required"}),
        ({"tls": "off"}, {"tls": "optional"}),
        ({}, {"deletionProtection": "true"}),
        ({"keyName": "ops"}, {"keyName": "ops", "sshCidr": "192.0.2.1/32"}),
        ({}, {"stackName": "Another", "auth": "none"}),
    ],
)
def test_settings_that_protect_as_much_are_not(before: dict[str, str], now: dict[str, str]) -> None:
    command(**before)
    assert not any("less protected" in line for line in command(**now))


def test_a_setting_of_the_last_command_that_is_gone_is_named() -> None:
    command(volumeSize="40")
    [line] = command()
    assert line.endswith("volumeSize: 40 → 24 (default)")


def test_a_damaged_note_of_the_last_command_is_no_obstacle(file: Path) -> None:
    (file.parent / ".last-settings.json").write_text("{")
    assert command() == []
    (file.parent / ".last-settings.json").write_text('{"ChromaStack": {"allowedCidr": "x"}}')
    assert any("less protected" in line for line in command())


def test_a_value_that_is_kept_out_of_messages_is_kept_out_of_the_note(file: Path) -> None:
    lines = command(otelCollectionEndpoint="collector.example", otelCollectionHeaders="key=geheim")
    lines += command()
    assert "geheim" not in str(lines) + (file.parent / ".last-settings.json").read_text()


def test_a_run_that_waits_for_a_look_up_is_not_the_last_command() -> None:
    command(auth="basic")
    command(auth="none", vpcId="default")
    assert any("less protected" in line for line in command(auth="none"))
