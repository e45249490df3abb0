"""Who looks at the console, and what he may do there: for buttons that change something, and the way out.

Not here: how it is found out (`tocsin.http.access`).
"""

from __future__ import annotations

from nicegui import ui

from tocsin.console.parts import Text, box
from tocsin.http.access import LOCAL, Role, principal_of, role_of


def may_change() -> bool:
    """Whether whoever has opened this page is an operator. Ask when the button is made, and again when it is pressed."""
    return role_of(ui.context.client.request.scope) is Role.OPERATOR


def way_out() -> None:
    """The button that logs out; nothing where nobody has had to log in."""
    principal = principal_of(ui.context.client.request.scope)
    if principal is None or principal == LOCAL:
        return
    with box("way-out", tag="form").props("method=post action=/logout"):
        button = Text(f"Log out {principal.name}", tag="button")
        button.props["title"] = f"{principal.name}, {principal.role}"
        button.props("type=submit")
