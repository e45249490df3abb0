"""What is refused by the words of a PromQL text alone: limits, calls, experiments of upstream. Not here: grammar."""

from __future__ import annotations

from rules.functions_known import why_refused
from rules.promql_tokens import BRACKETS, MATCHES, ExpressionError, Token, why_no_duration

MAX_DEPTH = 100
MAX_OPERATORS = 1_000
TOO_DEEP = f"the expression is nested deeper than {MAX_DEPTH} levels: split it into several rules"
TOO_MANY = f"the expression has more than {MAX_OPERATORS} parts: split it with recording rules"

_COMPUTED = "computed durations are an experiment of Prometheus: write the duration itself, e.g. 5m"
_ALTERNATIVES = 'matchers joined by "or" are not supported: write one selector each, joined by "or" outside the braces'
_LITERAL = frozenset({"[", "{"})
_POWER, _SIGN = 6, 7
_LABELS_FOLLOW = frozenset({"by", "without", "on", "ignoring"})
_LEVELS = {"or": 0, "and": 1, "unless": 1, "+": 3, "-": 3, "*": 4, "/": 4, "%": 4, "atan2": 4, "^": 6} | dict.fromkeys(
    ("==", "!=", ">", "<", ">=", "<="), 2
)
_END = Token("operator", "", 0)


def refuse(tokens: list[Token]) -> None:
    """Raises ExpressionError at the first token that begins something that is not evaluated.

    The parser takes seconds over a deep text, and ends the whole process over a deeper one; so depth is limited here.
    """
    groups = [_Group("")]
    before, operators = _END, 0
    for token, after in zip(tokens, [*tokens[1:], _END], strict=True):
        kind, text, start = token
        inside = groups[-1].bracket
        if (kind == "word" or text == "(" or inside in _LITERAL) and (why := _why(token, before, after, inside)):
            raise ExpressionError(why, start)
        if kind in ("operator", "keyword"):
            operators += text not in "()[]{},:"
            _nest(groups, token, before)
            if len(groups) > MAX_DEPTH + 1 or groups[-1].depth >= MAX_DEPTH:
                raise ExpressionError(TOO_DEEP, start)
        before = token
    if operators > MAX_OPERATORS:
        raise ExpressionError(TOO_MANY)


def _nest(groups: list[_Group], token: Token, before: Token) -> None:
    """Follows an operator, which may open or close a group."""
    text = token.text
    if text in BRACKETS:
        groups.append(_Group(text))
    elif text in ")]}" and len(groups) > 1:
        closed = groups.pop()
        groups[-1].enclose(closed.depth)
    elif text == ",":
        groups[-1].comma()
    elif (level := _LEVELS.get(text.lower())) is not None:
        groups[-1].operator(_SIGN if text in "+-" and not before.ends_operand else level)


class _Group:
    """What stands between two brackets, and how deep a tree it makes at least."""

    def __init__(self, bracket: str) -> None:
        self.bracket = bracket
        self.depth = 0
        self._chains = [0] * 8
        """By level: the depth of what stands left of the next operator of that level"""
        self._operand = 0
        """The depth of what was last in brackets"""

    def enclose(self, depth: int) -> None:
        self._operand = depth
        self.depth = max(self.depth, depth)

    def comma(self) -> None:
        self._chains, self._operand = [0] * 8, 0

    def operator(self, level: int) -> None:
        if level >= _POWER:  # they group to the right
            self._chains[level] += 1
        else:
            self._chains[level] = max(self._operand, *self._chains[level:]) + 1
        self._chains[level + 1 :] = [0] * (7 - level)
        self._operand = 0
        self.depth = max(self.depth, self._chains[level])


def _why(token: Token, before: Token, after: Token, inside: str) -> str | None:
    """Why the token may not stand `inside` its innermost bracket, between those before and after."""
    kind, text, _ = token
    if inside == "[":
        computed = kind in ("word", "keyword") or (kind == "operator" and text in "+-*/%^(")
        return _duration(before, token) if computed else None
    if kind == "word" and inside != "{":
        return _call(token, before, after)
    if kind == "keyword" and inside == "{":
        return _ALTERNATIVES if token.key == "or" and after.text not in MATCHES else None
    return _COMPUTED if text == "(" and before.key == "offset" else None


def _duration(before: Token, token: Token) -> str:
    if words := why_no_duration(before, token):
        return words
    if token.text in ("-", "+") and before.text in ("[", ":"):
        return "a range goes back from the instant of evaluation, and has no sign: write for example [5m]"
    return _COMPUTED


def _call(token: Token, before: Token, after: Token) -> str | None:
    """Why the word may not stand where it does, if it calls a function."""
    name = token.text
    if after.text == "(":
        other = (name in ("start", "end") and before.text == "@") or before.key in _LABELS_FOLLOW
        return None if other else why_refused(name)
    if name in ("limitk", "limit_ratio") and after.key in ("by", "without"):
        return why_refused(name)
    return None
