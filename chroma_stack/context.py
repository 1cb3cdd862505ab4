"""Context values, all of them text on the command line, become a stack."""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import aws_cdk as cdk

from chroma_stack import (
    alarms,
    auth,
    backups,
    container_network,
    dashboard,
    image,
    instance,
    maintenance,
    monitoring,
    network,
    protection,
    schedule,
    stack,
    storage,
    tls,
    tracing,
    users,
    version,
)
from chroma_stack.errors import SettingError
from chroma_stack.settings import Setting, flag
from chroma_stack.stack import DEFAULT_STACK_NAME, ChromaStack

SECTIONS: Mapping[str, tuple[Setting, ...]] = {
    "Stack": stack.SETTINGS,
    "Server": (
        *instance.SETTINGS,
        *version.SETTINGS,
        *image.SETTINGS,
        *container_network.SETTINGS,
    ),
    "Data": storage.SETTINGS,
    "Backups": backups.SETTINGS,
    "Network": network.SETTINGS,
    "Authentication": (*auth.SETTINGS, *users.SETTINGS),
    "TLS": tls.SETTINGS,
    "Monitoring": (*monitoring.SETTINGS, *alarms.SETTINGS, *dashboard.SETTINGS),
    "Traces": tracing.SETTINGS,
    "Maintenance": (*maintenance.SETTINGS, *schedule.SETTINGS, *protection.SETTINGS),
}
"""All settings, by the headings of the documentation and of CloudFormation's console."""

SETTINGS = [setting for settings in SECTIONS.values() for setting in settings]

_BY_KEY = {setting.key: setting for setting in SETTINGS if setting.key}

_MADE_BY: Mapping[str, Callable[..., Any]] = {
    "auth": auth.from_settings,
    "monitoring": monitoring.from_settings,
    "tls": tls.from_settings,
    "tracing": tracing.from_settings,
    "users": users.from_settings,
}
"""What makes an option of several settings, by their ``field``."""


def chroma_stack(app: cdk.App) -> ChromaStack:
    """The stack that the app's context describes.

    :param app: the app.
    :raises SettingError: when a value is refused, under its context key, or a key is neither
        ours nor the CDK's.
    """
    given: Mapping[str, Any] = app.node.get_all_context()
    for key in given:
        _refuse_unknown(key)
    texts = settings_among(given)
    try:
        options = _options(texts)
        name = options.pop("stack_name", DEFAULT_STACK_NAME)
        if "vpc_id" in options:
            # For the look-up, which is the only thing that needs an environment.
            options["env"] = cdk.Environment(
                account=os.environ.get("CDK_DEFAULT_ACCOUNT"),
                region=os.environ.get("CDK_DEFAULT_REGION"),
            )
        return ChromaStack(app, name, **options)
    except SettingError as error:
        raise error.named(_key(error.name, texts)) from None


def settings_among(values: Mapping[str, Any]) -> dict[str, str]:
    """The settings among context values, as text.

    :param values: the context values by their keys.
    """
    return {key: text(_BY_KEY[key], values[key]) for key in _BY_KEY if values.get(key) is not None}


def _options(texts: Mapping[str, str]) -> dict[str, Any]:
    """The options of the stack, typed."""
    options: dict[str, Any] = {}
    fields: dict[str, dict[str, Any]] = {}
    for key, text in texts.items():
        setting = _BY_KEY[key]
        if setting.field:
            fields.setdefault(setting.option, {})[setting.field] = setting.value(text)
        else:
            options[setting.option] = setting.value(text)
    return options | {option: _MADE_BY[option](**given) for option, given in fields.items()}


def _key(name: str, texts: Mapping[str, str]) -> str:
    """The context key by which the user gave what the code calls by another name."""
    keys = [*texts, *_BY_KEY]  # one that was given, if possible
    names = (key for key in keys if name == (_BY_KEY[key].field or _BY_KEY[key].option))
    return next(names, name)


def text(setting: Setting, value: Any) -> str:
    """The value as on the command line; ``cdk.json`` may hold numbers, lists and objects too."""
    if isinstance(value, bool) and setting.parse is flag:
        return str(value)
    if isinstance(value, list) and setting.several:
        return ",".join(text(setting, part) for part in value)
    if isinstance(value, dict) and setting.field == "headers":
        return json.dumps(value)
    if isinstance(value, dict) and setting.option == "users":
        return ",".join(f"{name}:{access}" for name, access in value.items())
    if isinstance(value, bool | list | dict):
        raise SettingError(setting.key, "…" if setting.hidden else value, "one text")
    return str(value)


def _refuse_unknown(key: str) -> None:
    """Refuse a key that nothing would read, such as ``cidr``, which somebody relies on. The CDK's
    own have a colon (look-ups, ``aws:cdk:…``), or begin with ``@`` (feature flags)."""
    if key in _BY_KEY or ":" in key or key.startswith("@"):
        return
    names = _other_names()
    plain = re.sub("[^a-z0-9]", "", key.lower())
    # Those in which the word itself occurs, else those of a similar spelling.
    close = [name for name in names if len(plain) > 2 and plain in name]
    # Not those of three letters, which are near to anything.
    long = [name for name in names if len(name) > 3]
    close = close or difflib.get_close_matches(plain, long, cutoff=0.55)
    if plain in names:
        close = [plain]
    meant = list(dict.fromkeys(names[name] for name in close))[:3]
    hint = f"perhaps {' or '.join(meant)} is meant" if meant else "docs/settings.md lists all keys"
    # The value may be a credential.
    raise SettingError(key, "…", f"there is no such key; {hint}")


def _other_names() -> dict[str, str]:
    """The keys by what they may be called, in small letters and digits: also as parameters of
    the published template and in the construct."""
    names = {key.lower(): key for key in _BY_KEY}
    names |= {"ssl": "tls", "https": "tls"}
    names |= {"chromaserverauthprovider": "auth", "chromaserverauthcredentials": "authSecretArn"}
    for key, setting in _BY_KEY.items():
        for name in (setting.parameter, setting.field or setting.option):
            names.setdefault(name.lower().replace("_", ""), key)
    del names[""]
    return names
