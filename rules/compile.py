"""Syntax tree → operator tree."""

from __future__ import annotations

from collections.abc import Callable

from rules.arithmetic import FUNCTIONS, OPERATORS
from rules.matching import AndUnless, Keyed, Match, Or
from rules.operators import AgeFilter, Filter, Function, Leaf, Members, Nothing, Operator, Transform
from rules.promql import COMPARISON, SET, Binary, Call, Expression, ExpressionError, Number, Selector


class Compiled:
    """The operator tree of one expression."""

    def __init__(self, expression: Expression, members_of: Callable[[Selector], Members]) -> None:
        """Raises ExpressionError where the expression is a number, which has no elements."""
        self._members_of = members_of
        self.leaves: list[Leaf] = []
        """In the order of the text."""
        self.keyed: list[Keyed] = []
        self.top = self._build(expression)

    def _build(self, node: Expression) -> Operator:
        match node:
            case Selector():
                return self._leaf(node)
            case Call(function="age", argument=Selector() as selector):
                return self._leaf(selector, age=True)
            case Call():
                return self._call(node)
            case Binary(lhs=Number(value=constant), rhs=operand):
                function = OPERATORS[node.op]
                return self._with_constant(node, operand, lambda value: function(constant, value), constant)
            case Binary(lhs=operand, rhs=Number(value=constant)):
                function = OPERATORS[node.op]
                return self._with_constant(node, operand, lambda value: function(value, constant), constant)
            case Binary():
                return self._of_two(node)
        raise ExpressionError("the expression is a number: compare a series, e.g. temperature > 30")

    def _leaf(self, selector: Selector, *, age: bool = False) -> Leaf:
        leaf = Leaf(self._members_of(selector), age=age)
        self.leaves.append(leaf)
        return leaf

    def _call(self, node: Call) -> Operator:
        child = self._build(node.argument)
        if node.function == "clamp" and node.parameters[0] > node.parameters[1]:
            return Nothing(child)
        function = FUNCTIONS[node.function]
        return Transform(child, lambda value: function(value, *node.parameters))

    def _with_constant(self, node: Binary, operand: Expression, function: Function, constant: float) -> Operator:
        child = self._build(operand)
        filters = node.op in COMPARISON and not node.return_bool
        if filters and isinstance(child, Leaf) and child.timed:
            return AgeFilter(child, function, constant)
        return Filter(child, function) if filters else Transform(child, function)

    def _of_two(self, node: Binary) -> Operator:
        lhs, rhs = self._build(node.lhs), self._build(node.rhs)
        kind: type[Or | AndUnless | Match] = Or if node.op == "or" else AndUnless if node.op in SET else Match
        operator = kind(lhs, rhs, node)
        self.keyed.append(operator)
        return operator
