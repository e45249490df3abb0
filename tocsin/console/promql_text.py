"""A PromQL expression in colours, as plain text in tags. Not here: what it means."""

from __future__ import annotations

from rules import ExpressionError
from rules.promql_tokens import scan
from tocsin.console.parts import Text, box

_MOST_TOKENS = 400


def promql(text: str, *, wrong_at: int | None = None, classes: str = "") -> None:
    """The text as it is written; `wrong_at`: the place of a mistake, which is marked."""
    with box(f"promql {classes}", tag="code"):
        for kind, part in pieces(text, wrong_at):
            Text(part, kind)


def pieces(text: str, wrong_at: int | None = None) -> list[tuple[str, str]]:
    """(kind, part) whose parts together are the text; kinds are those of tokens, `function`, `here`, or empty."""
    try:
        tokens = scan(text)
    except ExpressionError:
        tokens = []
    found: list[tuple[str, str]] = []
    end = 0
    for token, after in zip(tokens[:_MOST_TOKENS], [*tokens[1:], None], strict=False):
        if token.start > end:
            found.append(("", text[end : token.start]))
        is_call = token.kind == "word" and after is not None and after.text == "("
        found.append(("function" if is_call else token.kind, token.text))
        end = token.start + len(token.text)
    if end < len(text):
        found.append(("", text[end:]))
    return found if wrong_at is None else _marked(found, wrong_at, len(text))


def _marked(found: list[tuple[str, str]], place: int, length: int) -> list[tuple[str, str]]:
    """With the piece at that place marked; at the end of the text, with a space that is."""
    if place >= length:
        return [*found, ("here", " ")]
    marked: list[tuple[str, str]] = []
    at = 0
    for kind, part in found:
        inside = at <= place < at + len(part)
        if inside and not kind:  # between tokens, or a text that cannot be scanned: only the character
            cut = place - at
            marked += [("", part[:cut]), ("here", part[cut]), ("", part[cut + 1 :])]
        else:
            marked.append(("here" if inside else kind, part))
        at += len(part)
    return [(kind, part) for kind, part in marked if part]
