"""What user data does first: run the owner's commands, and fetch, verify and unpack the program."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

from chroma_stack import program
from chroma_stack.emulator.moto_server import MotoServer
from tests.host.programs import HOST

INSTANCE = "i-0123456789abcdef0"

SCRIPT = """\
. "$HOST/fetch-program"
sleep() { SECONDS=$((SECONDS + $1)); }
run_before
fetch_program
echo "handed over" >>"$CALLS"
"""

# The folder `answers` has the outcome of each call for parameters, in their order: the last one holds for
# good. An answer is cut down to the names that are asked for.
AWS = """\
aws() {
    echo "aws $*" >>"$CALLS"
    [[ $2 == get-parameters ]] || return 0
    local asked=" $* " code=0 name value
    set -- "$ANSWERS"/*
    if [[ $1 == *.error ]]; then
        cat "$1" >&2
        code=254
    else
        while IFS=$'\\t' read -r name value; do
            [[ $asked != *" $name "* ]] || printf '%s\\t%s\\n' "$name" "$value"
        done <"$1"
    fi
    (($# == 1)) || rm "$1"
    return "$code"
}
"""


class Instance:
    """An instance whose user data runs, below a folder."""

    def __init__(self, root: Path, part: int = 4096) -> None:
        self.root = root
        self.unpacked = root / "program"
        self.answers = root / "answers"
        for folder in (self.unpacked, self.answers):
            folder.mkdir()
        text = program.encoded()
        starts = range(0, len(text), part)
        self.parameters = {
            f"CFN-Program{number}-0123456789AB": text[start : start + part]
            for number, start in enumerate(starts)
        }
        settings = {
            "STACK": "Chroma",
            "GROUP": "Group",
            "REGION": MotoServer.region,
            "PROGRAM": " ".join(self.parameters),
            "PROGRAM_SHA256": hashlib.sha256(text.encode()).hexdigest(),
        }
        (root / "settings").write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        (root / "instance-id").write_text(f"{INSTANCE}\n")
        (root / "calls").touch()

    def answer(self, parameters: dict[str, str], number: int = 9) -> None:
        """What Systems Manager answers, after those with lower numbers."""
        lines = [f"{name}\t{value}\n" for name, value in parameters.items()]
        (self.answers / str(number)).write_text("".join(lines))

    def refuse(self, error: str, number: int = 9) -> None:
        """What it says when it refuses."""
        (self.answers / f"{number}.error").write_text(f"{error}\n")

    def run(self, account: MotoServer | None = None) -> str:
        """What is said.

        :param account: what the real command line calls; without it the answers are those given.
        """
        path, script, environment = "/usr/bin:/bin", SCRIPT, {}
        if account:
            path, environment = f"{Path(sys.executable).parent}:{path}", account.environment
        else:
            script = SCRIPT.replace("sleep()", f"{AWS}sleep()")
        done = subprocess.run(
            ["bash", "-c", script],
            env={
                **environment,
                "PATH": path,
                "HOST": str(HOST),
                "SETTINGS": f"{self.root}/settings",
                "INSTANCE_ID_FILE": f"{self.root}/instance-id",
                "PROGRAM_FOLDER": str(self.unpacked),
                "CONFIGURATION": str(self.root),
                "CALLS": f"{self.root}/calls",
                "ANSWERS": str(self.answers),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
        )
        self.calls = (self.root / "calls").read_text().splitlines()
        return done.stdout

    @property
    def failure(self) -> str:
        """The reason in the stack's events; another instance is asked for, and nothing unpacked."""
        first, second, *counted, replaced = [it for it in self.calls if "get-parameters" not in it]
        assert ["-tags" in it for it in counted] == [True, True]
        assert second.endswith(f"--status FAILURE --unique-id {INSTANCE}")
        assert "set-instance-health" in replaced
        assert list(self.unpacked.iterdir()) == []
        reason = re.sub(".*--status FAILURE --unique-id ", "", first)
        assert len(reason) <= 64
        return reason


@pytest.fixture
def instance(tmp_path: Path) -> Instance:
    return Instance(tmp_path)


def test_the_owners_first_commands_run_before_the_fetch_with_their_environment(
    instance: Instance,
) -> None:
    hostile = "$(touch x) `a` 'b' \"c\" \\ ; & é ="
    (instance.root / "environment").write_text(f"MINE={hostile}\nOTHER=two words\n")
    (instance.unpacked / "before").write_text('printf "%s|%s\\n" "$MINE" "$OTHER" >>"$CALLS"\n')
    instance.answer(instance.parameters)
    instance.run()
    assert instance.calls[0] == f"{hostile}|two words"
    assert "get-parameters" in instance.calls[1]


def test_a_failed_command_of_the_owners_fails_the_boot_at_once(instance: Instance) -> None:
    before = instance.unpacked / "before"
    before.write_text("echo one\ncat nothing | true\necho two\n")
    instance.answer(instance.parameters)
    said = instance.run()
    before.unlink()
    assert instance.failure == "a command of user_data_before failed"
    assert "one\n" in said
    assert "two\n" not in said
    assert not [it for it in instance.calls if "get-parameters" in it]


def test_every_file_of_the_program_is_unpacked(instance: Instance) -> None:
    instance.answer(instance.parameters)
    said = instance.run()
    assert instance.calls[-1] == "handed over", said
    got = {file.name: file.read_text() for file in instance.unpacked.iterdir()}
    assert got == {name: program.text(name) for name in program.FILES}


def test_scripts_are_executable_and_nothing_else_is(instance: Instance) -> None:
    instance.answer(instance.parameters)
    instance.run()
    for file in instance.unpacked.iterdir():
        is_script = file.read_bytes().startswith(b"#!")
        assert file.stat().st_mode & 0o777 == (0o755 if is_script else 0o644), file.name


def test_the_order_in_which_parameters_are_answered_means_nothing(instance: Instance) -> None:
    instance.answer(dict(reversed(instance.parameters.items())))
    instance.run()
    assert instance.calls[-1] == "handed over"


def test_ten_parameters_at_most_are_asked_for_at_once(tmp_path: Path) -> None:
    instance = Instance(tmp_path, part=800)
    names = list(instance.parameters)
    assert len(names) > 20
    instance.answer(dict(reversed(instance.parameters.items())))
    said = instance.run()
    assert instance.calls[-1] == "handed over", said
    calls = [it for it in instance.calls if "get-parameters" in it]
    asked = [re.findall(r"CFN-\S+", call) for call in calls]
    assert asked == [names[start : start + 10] for start in range(0, len(names), 10)]


def test_when_one_call_fails_all_are_made_again(tmp_path: Path) -> None:
    instance = Instance(tmp_path, part=1200)
    instance.answer(instance.parameters, 1)
    instance.refuse("An error occurred (ThrottlingException)", 2)
    instance.answer(instance.parameters)
    said = instance.run()
    assert instance.calls[-1] == "handed over", said
    assert said.count("retrying after: An error occurred (ThrottlingException)") == 1
    calls = -(-len(instance.parameters) // 10)
    assert len([it for it in instance.calls if "get-parameters" in it]) == 2 + calls


def test_the_real_command_line_fetches_it(tmp_path: Path) -> None:
    instance = Instance(tmp_path, part=1200)
    with MotoServer() as account:
        for name, value in instance.parameters.items():
            account.client("ssm").put_parameter(Name=name, Value=value, Type="String")
        said = instance.run(account)
    assert instance.calls == ["handed over"], said
    assert {it.name for it in instance.unpacked.iterdir()} == set(program.FILES)


def test_a_permission_that_comes_late_is_waited_for(instance: Instance) -> None:
    """IAM is eventually consistent."""
    for number in (1, 2):
        instance.refuse("An error occurred (AccessDeniedException)", number)
    instance.answer(instance.parameters)
    said = instance.run()
    assert instance.calls[-1] == "handed over"
    assert said.count("retrying after: An error occurred (AccessDeniedException)") == 1


def test_a_parameter_that_comes_late_is_waited_for(instance: Instance) -> None:
    first, *_ = instance.parameters.items()
    instance.answer(dict([first]), 1)
    instance.answer(instance.parameters)
    instance.run()
    assert instance.calls[-1] == "handed over"


def test_a_fetch_that_goes_on_failing_is_reported(instance: Instance) -> None:
    instance.refuse("An error occurred (AccessDeniedException)")
    said = instance.run()
    assert instance.failure == "program not fetched from Parameter Store"
    assert "the last error was: An error occurred (AccessDeniedException)" in said
    assert len([it for it in instance.calls if "get-parameters" in it]) > 10


def test_a_missing_endpoint_is_named(instance: Instance) -> None:
    instance.refuse('Connect timeout on endpoint URL: "https://ssm.us-east-1.amazonaws.com/"')
    said = instance.run()
    assert instance.failure == "no way to ssm.us-east-1.amazonaws.com"
    assert "VPC endpoint" in said


@pytest.mark.parametrize("change", ["missing", "changed", "shortened"])
def test_a_program_that_is_not_the_one_deployed_never_runs(instance: Instance, change: str) -> None:
    name = list(instance.parameters)[-1]
    value = instance.parameters[name]
    match change:
        case "missing":
            del instance.parameters[name]
        case "changed":
            instance.parameters[name] = value[::-1]
        case "shortened":
            instance.parameters[name] = value[:-5]
    instance.answer(instance.parameters)
    instance.run()
    assert instance.failure == "program in Parameter Store is not the one deployed"
