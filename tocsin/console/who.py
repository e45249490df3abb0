"""Who looks at the console, and the way out.

Not here: how it is found out (`tocsin.http.access`).
"""

from __future__ import annotations

from nicegui import ui

from tocsin.console.parts import Text, box
from tocsin.http.access import LOCAL, principal_of


def way_out() -> None:
    """The button that logs out; nothing where nobody has had to log in."""
    principal = principal_of(ui.context.client.request.scope)
    if principal is None or principal == LOCAL:
        return
    with box("way-out", tag="form").props("method=post action=/logout"):
        button = Text(f"Log out {principal.name}", tag="button")
        button.props["title"] = f"{principal.name}, {principal.role}"
        button.props("type=submit")
