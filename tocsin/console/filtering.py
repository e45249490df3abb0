"""What one types into a page's filter: `severity=critical device=pump-* overheated`. Pure; not here: any table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

MOST_CHARACTERS = 500


@dataclass(frozen=True, slots=True)
class Term:
    """One word of a filter."""

    name: str
    """Empty: the word may stand anywhere."""
    value: str
    """Of a name, `*` and `?` stand for any characters."""
    wanted: bool = True

    def matches(self, fields: Mapping[str, str], text: str) -> bool:
        """Whatever the case."""
        pattern = self.value.lower()
        if not self.name:
            return (pattern in text) == self.wanted
        return fnmatchcase(fields.get(self.name, "").lower(), pattern) == self.wanted


@dataclass(frozen=True, slots=True)
class Filter:
    """All of its terms must hold; without any, everything passes."""

    terms: tuple[Term, ...] = ()

    def matches(self, fields: Mapping[str, str]) -> bool:
        """`fields`: what can be asked for by name; words without a name are looked for in all their values."""
        if not self.terms:
            return True
        text = "\n".join(fields.values()).lower()
        return all(term.matches(fields, text) for term in self.terms)


def parse_filter(text: str) -> Filter:
    """Words with `name=value`, `name!=value`, `word` or `-word`; values with spaces stand in double quotes."""
    return Filter(tuple(_term(word) for word in _words(text[:MOST_CHARACTERS])))


def _words(text: str) -> list[str]:
    words, quoted = [""], False
    for character in text:
        if character == '"':
            quoted = not quoted
        elif character.isspace() and not quoted:
            words.append("")
        else:
            words[-1] += character
    return [word for word in words if word]


def _term(word: str) -> Term:
    name, equals, value = word.partition("=")
    if equals and name:
        return Term(name.removesuffix("!"), value, not name.endswith("!"))
    if len(word) > 1 and word.startswith("-"):
        return Term("", word[1:], wanted=False)
    return Term("", word)
