"""`${NAME}` and `${NAME:-default}` in the values of the configuration; `$${` stands for a plain `${`.

Substitution happens in parsed values, never in YAML text, so that no value of a variable can change the structure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_REFERENCE = re.compile(r"\$\$\{|\$\{(?P<inside>[^}]*)\}?")
_INSIDE = re.compile(r"(?P<name>[A-Za-z_][A-Za-z0-9_]*)(?::-(?P<default>.*))?", re.DOTALL)


def substitute(text: str, env: Mapping[str, str], complain: Callable[[str, int], None]) -> str:
    """The text with its references replaced.

    `complain(message, offset)` is called for each one that is malformed or not set; it stands unchanged in the result.
    """

    def value(found: re.Match[str]) -> str:
        if found["inside"] is None:
            return "${"
        reference = _INSIDE.fullmatch(found["inside"]) if found[0].endswith("}") else None
        if reference is None:
            right = "write ${NAME} or ${NAME:-default}, or $${ for the characters"
            complain(f"{found[0]!r} is no reference: {right}", found.start())
            return found[0]
        name, default = reference["name"], reference["default"]
        if env.get(name) or (name in env and default is None):
            return env[name]
        if default is None:
            right = f"set it, or write ${{{name}:-default}}"
            complain(f"the environment variable {name} is not set: {right}", found.start())
            return found[0]
        return default

    return _REFERENCE.sub(value, text)
