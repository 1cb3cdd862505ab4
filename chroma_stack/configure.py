"""``python -m chroma_stack.configure key=value …``: the settings that every command uses.

They are kept in one place, under ``context`` in ``cdk.json``, and checked before they are written.
What ``-c key=value`` gives to ``cdk`` instead holds for that command only; the app says so, and says
what changed since the last command in the same folder, since a forgotten setting may open a server.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import aws_cdk as cdk

from chroma_stack import context
from chroma_stack.auth import AuthMode
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting
from chroma_stack.tls import TlsMode

KEPT = Path("cdk.json")
"""Where the CDK command line looks for context, too."""

LAST = Path(".last-settings.json")
"""The settings of the last command in this folder, by the stack's name; not for git."""

_BY_KEY: Mapping[str, Setting] = {it.key: it for it in context.SETTINGS if it.key}


def kept() -> dict[str, str]:
    """The settings in ``cdk.json``, as text."""
    return context.settings_among(_read(KEPT).get("context", {}))


def keep(changes: Mapping[str, str]) -> None:
    """Write settings into ``cdk.json``, which is otherwise left as it is.

    :param changes: their values by their keys; an empty value removes the setting.
    :raises SettingError: when the settings would then be refused; nothing is written.
    """
    content = _read(KEPT)
    before = content.get("context", {})
    values = {key: it for key, it in {**before, **changes}.items() if changes.get(key) != ""}
    _check(values, [key for key, value in changes.items() if value or key not in before])
    content["context"] = values
    if not values:
        del content["context"]
    _write(KEPT, content)


def report(stack: cdk.Stack, assembly: Path) -> None:
    """Print which settings hold for this command only, and what changed since the last one; then
    note those of this one for the next.

    :param stack: the stack that the settings made.
    :param assembly: the folder of the synthesised app.
    """
    # While the answer of a look-up is missing, the command line runs the app once more.
    if json.loads((assembly / "manifest.json").read_text()).get("missing"):
        return
    now, last = _given(stack), _of_last(stack)
    for line in _lines(now, kept(), last):
        print(line, file=sys.stderr)
    visible = {key: "" if _BY_KEY[key].hidden else it for key, it in now.items()}
    # A folder that cannot be written to is no reason to make no template.
    with contextlib.suppress(OSError):
        _write(LAST, {**_all_of_last(), stack.node.id: visible})


def _lines(
    now: Mapping[str, str], file: Mapping[str, str], last: Mapping[str, str] | None
) -> Iterator[str]:
    if once := [key for key in now if now[key] != file.get(key)]:
        arguments = " ".join(_argument(key, now[key]) for key in once)
        yield f"{arguments}: for this command only. To keep it: make set ARGS='{arguments}'"
    if last is None:
        return
    changed = [key for key in _BY_KEY if last.get(key) != now.get(key)]
    weaker = [key for key in changed if _is_weaker(key, last, now)]
    if weaker:
        yield f"WARNING: less protected than by the last command here: {_changes(weaker, last, now)}"
    if others := [key for key in changed if key not in weaker]:
        yield f"Changed since the last command here: {_changes(others, last, now)}"


def _given(stack: cdk.Stack) -> dict[str, str]:
    return context.settings_among(stack.node.root.node.get_all_context())


def _all_of_last() -> dict[str, Any]:
    with contextlib.suppress(OSError, ValueError):
        return dict(json.loads(LAST.read_text()))
    return {}


def _of_last(stack: cdk.Stack) -> dict[str, str] | None:
    last = _all_of_last().get(stack.node.id)
    if not isinstance(last, dict):
        return None
    # What is hidden is not in the file, so that it never counts as a change.
    given = _given(stack)
    return {
        k: given.get(k, "") if _BY_KEY[k].hidden else v for k, v in last.items() if k in _BY_KEY
    }


def _networks(text: str) -> list[ipaddress.IPv4Network]:
    networks = [ipaddress.IPv4Network(it.strip()) for it in text.split(",") if it.strip()]
    return list(ipaddress.collapse_addresses(networks))


def _wider(before: str, now: str) -> bool:
    return not all(
        any(network.subnet_of(allowed) for allowed in _networks(before))
        for network in _networks(now)
    )


def _to_port_22(values: Mapping[str, str]) -> str:
    """The networks that reach it, which takes a key pair."""
    return values.get("sshCidr", values["allowedCidr"]) if "keyName" in values else ""


_TLS_BY_PROTECTION = [mode.value for mode in (TlsMode.OFF, TlsMode.OPTIONAL, TlsMode.REQUIRED)]

_WEAKER: Mapping[str, Callable[[Mapping[str, str], Mapping[str, str]], bool]] = {
    "allowedCidr": lambda last, now: _wider(last["allowedCidr"], now["allowedCidr"]),
    "keyName": lambda last, now: _wider(_to_port_22(last), _to_port_22(now)),
    "sshCidr": lambda last, now: _wider(_to_port_22(last), _to_port_22(now)),
    "auth": lambda last, now: now["auth"] == AuthMode.NONE.value != last["auth"],
    "tls": lambda last, now: (
        _TLS_BY_PROTECTION.index(now["tls"]) < _TLS_BY_PROTECTION.index(last["tls"])
    ),
    "deletionProtection": lambda last, now: (
        now.get("deletionProtection", "").lower()
        != "true"
        == last.get("deletionProtection", "").lower()
    ),
}
"""Whether one set of settings protects less than another, by the setting that decides it."""


def _is_weaker(key: str, last: Mapping[str, str], now: Mapping[str, str]) -> bool:
    defaults = {it.key: it.default for it in _BY_KEY.values() if it.default}
    # A file of other hands may hold anything.
    with contextlib.suppress(ValueError):
        return key in _WEAKER and _WEAKER[key]({**defaults, **last}, {**defaults, **now})
    return True


def _changes(keys: Sequence[str], last: Mapping[str, str], now: Mapping[str, str]) -> str:
    return ", ".join(f"{key}: {_in_words(key, last)} → {_in_words(key, now)}" for key in keys)


def _in_words(key: str, values: Mapping[str, str]) -> str:
    setting = _BY_KEY[key]
    if key not in values:
        return f"{setting.default} (default)" if setting.default else f"({setting.without})"
    return _brief(setting, values[key])


def _brief(setting: Setting, value: str) -> str:
    """The value, unless it is none for a line of a log."""
    return value if value.isprintable() and len(value) <= 200 and not setting.hidden else "…"


def _argument(key: str, value: str) -> str:
    value = _brief(_BY_KEY[key], value)
    return f'{key}="{value}"' if " " in value else f"{key}={value}"


def _read(file: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(file.read_text()))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise SettingError(str(file), "", f"a JSON object ({error})") from None


def _write(file: Path, content: Mapping[str, Any]) -> None:
    # Beside it first: what is interrupted leaves the old file.
    file = file.resolve()
    beside = file.with_name(f"{file.name}.new")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    beside.replace(file)


def _check(values: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Refuse what the app would refuse, and keys that are no settings."""
    # Any environment will do: nothing is looked up here.
    os.environ.setdefault("CDK_DEFAULT_ACCOUNT", "123456789012")
    os.environ.setdefault("CDK_DEFAULT_REGION", "us-east-1")
    context.chroma_stack(cdk.App(context=dict(values)))
    for key in keys:
        if key not in _BY_KEY:
            raise SettingError(
                key, values.get(key, ""), "there is no such setting; make settings lists all"
            )


def _show() -> None:
    values = kept()
    for section, settings in context.SECTIONS.items():
        print(section)
        for setting in settings:
            if setting.key:
                default = setting.default or setting.without
                value = _in_words(setting.key, values)
                more = f" (default: {default})" if setting.key in values else ""
                print(f"  {setting.key} = {value}{more}\n      {setting.meaning} {setting.note}")


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep the settings that are given, or show all.

    :param arguments: those of the command. Default: the process's own.
    """
    parser = argparse.ArgumentParser(
        prog="python -m chroma_stack.configure",
        description="Keeps settings in cdk.json. Without any: shows all of them.",
    )
    parser.add_argument("settings", nargs="*", metavar="key=value", help="key= removes the setting")
    given: list[str] = parser.parse_args(arguments).settings
    for argument in given:
        if "=" not in argument:
            parser.error(f"{argument!r} is refused: key=value, or key= to remove it")
    if not KEPT.exists():
        parser.error("there is no cdk.json in this folder")
    try:
        if not given:
            _show()
            return
        before = kept()
        changes = {key: value for key, _, value in (it.partition("=") for it in given)}
        keep(changes)
    except SettingError as error:
        sys.exit(f"Error: {error}")
    after = kept()
    for key in changes:
        if key in _BY_KEY:
            print(f"{key}: {_in_words(key, before)} → {_in_words(key, after)}")
    print("Kept in cdk.json. It takes effect with: npx cdk deploy")


if __name__ == "__main__":
    main()
