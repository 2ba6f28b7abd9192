"""What a text of a configuration stands for: `${NAME}` for a variable, `~/` for the home.

The environment is given, never fetched.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Mapping
from pathlib import Path

from headrace_namespace.errors import ConfigError

_REFERENCE = re.compile(r"(\$?)\$\{([^{}]*)\}")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def expanded(text: str, environ: Mapping[str, str]) -> str:
    """The text with each `${NAME}` replaced by the variable's value, and `$${` by a plain `${`.

    Raises ValueError where a variable is not set, or where none can have such a name.
    """

    def value(match: re.Match[str]) -> str:
        escaped, name = match[1], match[2]
        if escaped:
            return match[0][1:]
        if not _VARIABLE.fullmatch(name):
            raise ValueError(f"{match[0]} does not name a variable; for a plain ${{ write $${{")
        if name not in environ:
            raise ValueError(f"the environment variable {name} is not set")
        return environ[name]

    return _REFERENCE.sub(value, text)


def home_folder(environ: Mapping[str, str]) -> Path:
    """The user's home. Raises ConfigError where this user has none."""
    home = environ.get("HOME")
    if not home:
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            raise ConfigError(
                f"HOME is not set, and user {os.getuid()} has no home folder",
                hint="set HOME, or name folder, key_file and state_folder under [cache]",
            ) from None
    return Path(home)
