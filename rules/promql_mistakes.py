"""Where a PromQL text is wrong, and how to say it. Here: the parser's complaints, in our words and with their places.

The parser tells no places; but it can be asked about parts of the text. A syntax error is at the first token that no
continuation makes right; an error of types is in the smallest part that is refused for the same reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import promql_parser

from rules.promql_tokens import (
    AGGREGATIONS,
    BRACKETS,
    MATCHES,
    ExpressionError,
    Token,
    why_no_duration,
    without_quotes,
)

_OPERATORS = frozenset({"+", "-", "*", "/", "%", "^", "==", "!=", ">", "<", ">=", "<=", "and", "or", "unless", "atan2"})
_MODIFIERS = frozenset({"[", "{", "offset", "@"})
_OF_TYPES = re.compile(
    "expected type|expected at|expected [0-9]|wrong number of arg|no arguments for|no grouping|must not occur"
    "|only allowed|can only be used|must use BOOL|not allowed in binary|set multiple times|set twice|at least one"
    "|must be preceded|must contain only"
)
_COMPARISONS = frozenset({"==", "!=", ">", "<", ">=", "<="})
_EXAMPLES = {"matrix": "a[1m]", "vector": "a", "scalar": "1", "string": '"a"'}
_KINDS = {"matrix": "a range, as x[5m] is", "vector": "series", "scalar": "a number", "string": "a string"}
_WORDS = {
    "no arguments": "{0}() takes an argument, as in {0}(x)",
    "subquery is only": "a range with a step, such as [5m:1m], stands after an expression of series",
    "ranges only": "a range such as [5m] stands right after a selector: after other expressions write [5m:]",
    "set twice": "the metric is named twice: before the braces and within",
    "must use BOOL": "a comparison of two numbers is written {0} bool",
    "can only be used on comparison": "bool stands only after a comparison, and not after {0}",
    "not allowed in binary scalar": "{0} joins series, not numbers: write for example x > 3 {0} y > 5",
    "must contain only": "{0} takes series and numbers, not ranges or strings: write for example rate(x[5m]) > 3",
    "unary": "{0} takes series or a number, not a range or string",
    "no grouping": "{0} takes no group_left or group_right: it never makes one element of two",
    "offset may not": "offset stands once",
    "@ <timestamp> may not": "@ stands once",
    "must be preceded": "{0} stands right after a selector or a range: after other expressions write [5m:1m] {0}",
    "at least one non-empty": 'a selector needs a metric, or one matcher that does not match "": {{site=~".+"}}',
}
"""By a part of the parser's complaint; {0} is the operator or function."""
_WHERE = {
    **dict.fromkeys(("group_left", "group_right"), "group_left and group_right stand after on(...) or ignoring(...)"),
    **dict.fromkeys(
        ("on", "ignoring", "bool"), "on, ignoring and bool stand after an operator, as in a > bool on(site) b"
    ),
    **dict.fromkeys(
        ("anchored", "smoothed"),
        'anchored and smoothed are experiments of Prometheus: leave them out; a metric is written {"anchored"}',
    ),
    **dict.fromkeys(("=", "=~", "!~"), "= =~ !~ stand within braces, before a string; numbers are compared with == !="),
}
"""Where words stand that often are elsewhere"""
_TAKES = {
    **dict.fromkeys(("by", "without", "on", "ignoring"), "it takes labels in parentheses, as in by(site)"),
    **dict.fromkeys(("=", "!=", "=~", "!~"), "it takes a string within braces, and a number or series elsewhere"),
    "{": 'matchers are written as in {site="ams"}',
    "@": "it takes seconds since 1970, start() or end()",
    "offset": "it takes a duration such as 5m",
    "[": "it takes a duration such as 5m",
}
"""What follows"""
_INNER = {
    "{": ("", '"1"', '= "1"', 'a = "1"'),
    "[": ("", "1"),
    "(": ("", "a", "1", "(a)", "()", "(a) a", "(a) (a)"),
}
"""What may follow the beginning of a text, before its innermost bracket is closed"""
_AFTER = ("", "(a)", "a")
"""and after it is closed: `on (` wants another operand, `sum by (` an argument."""


def explained(tokens: list[Token], parts: list[str], complaint: str) -> ExpressionError:
    """The error to raise where the parser refused `parts`, the tokens' texts, with its complaint."""
    if not _OF_TYPES.search(complaint):
        return _misplaced(tokens, _first_wrong(tokens, parts))
    first, last = _culprit(tokens, parts, complaint)
    place = _operator(tokens, parts, first, last, complaint)
    if "must contain only" in complaint and (words := _of_text(tokens, place)):
        return ExpressionError(words, tokens[place].start)
    argument = _argument(tokens, parts, first, last, complaint) or place
    return ExpressionError(_worded(complaint, tokens[place]), tokens[argument].start)


# ---- syntax


def _first_wrong(tokens: list[Token], parts: list[str]) -> int:
    """The number of the first token after which nothing makes the text right; `len(tokens)`: it only is too short."""
    right, wrong = 0, len(tokens) + 1
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if _can_go_on(tokens, parts, middle):
            right = middle
        else:
            wrong = middle
    return right


def _can_go_on(tokens: list[Token], parts: list[str], n: int) -> bool:
    """Whether some continuation of the first n tokens is an expression."""
    unclosed: list[str] = []
    for token in tokens[:n]:
        if token.text in BRACKETS:
            unclosed.append(token.text)
        elif token.text in BRACKETS.values() and (not unclosed or BRACKETS[unclosed.pop()] != token.text):
            return False
    begun = " ".join(parts[:n])
    innermost = BRACKETS[unclosed[-1]] if unclosed else ""
    outer = " ".join(BRACKETS[b] for b in reversed(unclosed[:-1]))
    return any(
        _is_grammatical(f"{begun} {inner} {innermost} {after} {outer}")
        for inner in _INNER[unclosed[-1] if unclosed else "("]
        for after in (_AFTER if unclosed else _AFTER[:1])
    )


def _is_grammatical(text: str) -> bool:
    complaint = _complaint(text)
    return not complaint or _OF_TYPES.search(complaint) is not None


def _complaint(text: str) -> str:
    """Why the parser refuses the text; empty if it does not."""
    try:
        promql_parser.parse(text)
    except ValueError as error:
        return str(error)
    except RecursionError:
        return ""
    return ""


def _misplaced(tokens: list[Token], wrong: int) -> ExpressionError:
    if wrong == len(tokens):
        return _unfinished(tokens)
    token, before = tokens[wrong], tokens[wrong - 1] if wrong else None
    if before and before.text in MATCHES and token.kind != "operator":
        is_all = wrong + 1 < len(tokens) and tokens[wrong + 1].text in (",", "}")
        return without_quotes(tokens[wrong - 2], before, token if is_all else None, token.start)
    if before and wrong > 1 and tokens[wrong - 2].key in ("[", ":", "offset"):
        words = why_no_duration(before, token)
        if words:
            return ExpressionError(words, token.start)
    return ExpressionError(_why_misplaced(token, before), token.start)


def _unfinished(tokens: list[Token]) -> ExpressionError:
    unclosed: list[Token] = []
    for token in tokens:
        if token.text in BRACKETS:
            unclosed.append(token)
        elif token.text in BRACKETS.values():
            unclosed.pop()
    last = tokens[-1]
    if unclosed and last.key not in _OPERATORS:
        bracket = unclosed[-1]
        return ExpressionError(f"{bracket.text} is never closed: {BRACKETS[bracket.text]} is missing", bracket.start)
    return ExpressionError(f"the expression ends after {last.text}: something must follow", last.start)


def _why_misplaced(token: Token, before: Token | None) -> str:
    text, after = token.text, before.key if before else ""
    if text.lower() in _WHERE:
        return _WHERE[text.lower()]
    if before is None:
        return f"an expression cannot begin with {text}"
    if text in BRACKETS.values():
        return f"unexpected {text} after {before.text}"
    if after in _TAKES:
        return f"{text} cannot follow {after}: {_TAKES[after]}"
    if token.kind != "operator" and before.ends_operand:
        return f"{text} cannot follow {before.text}: an operator is missing, or a comma"
    return f'{text} cannot follow {before.text}: write for example temperature{{site="ams"}} > 30'


# ---- types


def _culprit(tokens: list[Token], parts: list[str], complaint: str) -> tuple[int, int]:
    """The smallest part, tokens [first, last), that is refused with the same complaint."""
    for first, last in sorted(set(_parts(tokens)), key=lambda part: part[1] - part[0]):
        if _complaint(" ".join(parts[first:last])) == complaint:
            return first, last
    return 0, len(tokens)


def _parts(tokens: list[Token]) -> Iterator[tuple[int, int]]:
    """What stands in brackets or between commas, and calls with their arguments."""
    begun: list[int] = []
    for i, token in enumerate(tokens):
        if token.text in BRACKETS:
            begun += [i, i + 1]
        elif token.text == "," and begun:
            yield begun.pop(), i
            begun.append(i + 1)
        elif token.text in BRACKETS.values():
            yield begun.pop(), i
            bracket = begun.pop()
            yield _head(tokens, bracket), i + 1


def _head(tokens: list[Token], bracket: int) -> int:
    """Where the call begins whose arguments begin at the bracket: `sum by (x) (` begins at sum."""
    first = bracket
    if first and tokens[first - 1].text == ")":
        while first and tokens[first].key not in ("by", "without"):
            first -= 1
    if first and (tokens[first - 1].kind == "word" or tokens[first - 1].key in AGGREGATIONS):
        return first - 1
    return bracket


def _operator(tokens: list[Token], parts: list[str], first: int, last: int, complaint: str) -> int:
    """The operator of the part whose operands make up the complaint; where the part begins, if it is a call."""
    if "argument" in complaint or "in call to" in complaint or "aggregat" in complaint:
        return first
    found, depth = first, 0
    for i in range(first, last):
        token = tokens[i]
        if depth == 0 and i > first and (token.key in _OPERATORS or token.key in _MODIFIERS):
            if _complaint(" ".join(parts[first:i])) == complaint:
                break
            if _is_meant(token, tokens[i - 1], complaint):
                found = i
        depth += (token.text in BRACKETS) - (token.text in BRACKETS.values())
    return found


def _argument(tokens: list[Token], parts: list[str], first: int, last: int, complaint: str) -> int | None:
    """Where the argument of a call begins that is of the wrong type: the parser's complaint is about the first one.

    It looks at the arguments of functions from the left, and at those of aggregations from the right.
    """
    wanted = re.match(r"expected type (\w+) in (call to function|aggregation)", complaint)
    begins = _arguments(tokens, first, last)
    if wanted is None or not begins:
        return None
    right = _EXAMPLES[wanted[1]]
    for begin, end in begins if wanted[2] == "aggregation" else reversed(begins):
        parts = [*parts[:begin], right, *[""] * (end - begin - 1), *parts[end:]]
        if _complaint(" ".join(parts[first:last])) != complaint:
            return begin
    return None


def _arguments(tokens: list[Token], first: int, last: int) -> list[tuple[int, int]]:
    """The arguments, tokens [begin, end), of the call that ends before `last`."""
    depth, ends = 0, [last - 1]
    for i in range(last - 1, first, -1):
        text = tokens[i].text
        if text == "," and depth == 1:
            ends.append(i)
        depth += (text in BRACKETS.values()) - (text in BRACKETS)
        if depth == 0:
            return list(zip([i + 1, *(comma + 1 for comma in ends[:0:-1])], ends[::-1], strict=True))
    return []


def _of_text(tokens: list[Token], place: int) -> str | None:
    """What to write instead of the comparison of a series with a string."""
    sign, before, after = tokens[place].text, tokens[place - 1], tokens[min(place + 1, len(tokens) - 1)]
    if sign not in _COMPARISONS or "string" not in (before.kind, after.kind):
        return None
    text = (after if after.kind == "string" else before).text
    series = next((t.text for t in (before, after) if t.kind == "word"), "x")
    if re.fullmatch(r"-?[0-9.]+", text[1:-1]):
        return f"a number stands without quotes: {series} {sign} {text[1:-1]}"
    number = 0 if sign == "!=" else 1
    return (
        f"series are numbers, and a text is a label of theirs: write for example {series}{{state={text}}} == {number}"
    )


def _is_meant(token: Token, before: Token, complaint: str) -> bool:
    """Whether the complaint may be about the operator or modifier."""
    unary = token.key in ("+", "-") and not before.ends_operand
    if complaint.startswith("unary") or unary:
        return complaint.startswith("unary") and unary
    modifier = any(
        words in complaint for words in ("ranges only", "subquery", "preceded", "multiple times", "set twice")
    )
    return token.key in (_MODIFIERS if modifier or "at least one" in complaint else _OPERATORS)


def _worded(complaint: str, place: Token) -> str:
    """The parser's complaint in the words of the README."""
    if m := re.fullmatch(r"expected type (\w+) in (?:call to function '(\w+)'|\w+ expression), got (\w+)", complaint):
        wanted, function, got = m.groups()
        return f"{function or place.key}() takes {_KINDS[wanted]} there, not {_KINDS[got]}"
    if m := re.search(r"expected(?: (at \w+))? ([0-9]+)(?: arg.*)?, got ([0-9]+)$", complaint):
        limit, wanted, got = m.groups()
        many = f"{limit or ''} {wanted} argument{'s' * (wanted != '1')}".lstrip()
        return f"{place.key}() takes {many}, not {got}"
    return next((words.format(place.key) for part, words in _WORDS.items() if part in complaint), complaint)
