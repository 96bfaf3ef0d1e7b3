"""The mutants of one module, as JSON: ``python tools/mutants.py watchdog_lambda/_engine/clock.py``.

Cosmic Ray makes them. Left out are those that say nothing: in annotations, in what is for type
checkers only, and those that compile to the very code that was there. Runs in an environment of its
own (``.nox/mutation``), for Cosmic Ray brings some forty packages.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import CodeType
from typing import Any, Final

import parso
from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

Position = tuple[tuple[int, int], tuple[int, int]]

_COMPARISONS: Final = (
    *("Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt"),
    *("Eq_NotEq", "NotEq_Eq", "Is_IsNot", "IsNot_Is"),
)
_ARITHMETIC: Final = (
    *("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "Mod_Mul"),
    *("BitOr_BitAnd", "BitAnd_BitOr", "LShift_RShift"),
)
OPERATORS: Final = (
    *(f"ReplaceComparisonOperator_{change}" for change in _COMPARISONS),
    *(f"ReplaceBinaryOperator_{change}" for change in _ARITHMETIC),
    "ReplaceUnaryOperator_Delete_Not",
    "ReplaceUnaryOperator_USub_UAdd",
    "AddNot",
    "ReplaceTrueWithFalse",
    "ReplaceFalseWithTrue",
    "ReplaceAndWithOr",
    "ReplaceOrWithAnd",
    "ReplaceBreakWithContinue",
    "ReplaceContinueWithBreak",
    "ExceptionReplacer",
    "NumberReplacer",
    "RemoveDecorator",
    "ZeroIterationForLoop",
)
"""Cosmic Ray's; of the pairs that replace each other those that a mistake would look like."""


class RemoveStatement(Operator):  # type: ignore[misc] # Cosmic Ray is untyped
    """A call, an assignment, a ``raise`` or a ``return`` in a function goes.

    Cosmic Ray has none of the kind, and a forgotten line is what a race is made of.
    """

    KINDS = ("expr_stmt", "atom_expr", "return_stmt", "raise_stmt", "del_stmt")

    def mutation_positions(self, node: Any) -> Iterator[Position]:
        if node.type != "simple_stmt" or not _is_in_function(node):
            return
        [statement, *_] = node.children
        if statement.type in self.KINDS:
            yield statement.start_pos, statement.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        del index  # there is one
        old = node.children[0]
        new = parso.parse("pass").children[0]
        new.prefix = old.get_first_leaf().prefix
        node.children[0] = new
        return node

    @classmethod
    def examples(cls) -> tuple[Any, ...]:
        return ()


class _Undeclared(ast.NodeTransformer):
    """Takes out annotations of what has no value."""

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        return ast.Pass() if node.value is None else node


def essence(source: str) -> object:
    """What of a module's code has an effect: equal for two that do the same."""
    tree = _Undeclared().visit(ast.parse(source))
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            node.test, node.body, node.orelse = ast.Constant(None), [ast.Pass()], []
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "TYPE_CHECKING":
            node.value = ast.Constant(None)
        elif isinstance(node, ast.Compare) and ast.unparse(node.left) == "sys.version_info":
            # Another version's branch does not run here; dev.py interpreters has it run.
            node.ops, node.comparators = [ast.Eq()], [ast.Constant(None)]
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
        elif isinstance(node, ast.FunctionDef):
            node.returns = None
    return _of(compile(ast.unparse(tree), "", "exec", dont_inherit=True))


def _of(code: CodeType) -> object:
    constants = [_of(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts]
    names = (code.co_names, code.co_varnames, code.co_freevars, code.co_flags)
    return code.co_name, code.co_code, code.co_exceptiontable, names, constants


def mutants(path: Path) -> Iterator[dict[str, object]]:
    """Each with the place, what was there, what is there now, and the whole source."""
    source = path.read_text(encoding="utf-8")
    original = essence(source)
    owners = _owners(ast.parse(source))
    for name in (*OPERATORS, RemoveStatement.__name__):
        own = name == RemoveStatement.__name__
        operator = RemoveStatement() if own else get_operator(f"core/{name}")()
        places = [
            start
            for node in ast_nodes(get_ast(source))
            for start, _ in operator.mutation_positions(node)
        ]
        for occurrence, (line, _) in enumerate(places):
            mutated = mutate_code(source, operator, occurrence)
            try:
                if mutated is None or essence(mutated) == original:
                    continue
            except SyntaxError:
                continue
            was, becomes = _change(source.splitlines(), mutated.splitlines())
            if "*," in was and becomes == was.replace("*,", "/,"):
                continue  # no multiplication, but where a function's named arguments begin
            yield {
                "operator": name,
                "line": line,
                "owner": owners.get(line, ""),
                "was": was,
                "becomes": becomes,
                "source": mutated,
            }


def _owners(tree: ast.Module) -> dict[int, str]:
    """Line -> the qualified name of the innermost function or class around it."""
    owners: dict[int, str] = {}

    def descend(node: ast.AST, name: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = name
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                inner = f"{name}.{child.name}".lstrip(".")
                first = min([child.lineno, *(d.lineno for d in child.decorator_list)])
                owners.update(dict.fromkeys(range(first, (child.end_lineno or first) + 1), inner))
            descend(child, inner)

    descend(tree, "")
    return owners


def _change(before: list[str], after: list[str]) -> tuple[str, str]:
    """The lines that differ, without what they have in common with their neighbours."""
    start = 0
    while start < min(len(before), len(after)) and before[start] == after[start]:
        start += 1
    end = 0
    while end < min(len(before), len(after)) - start and before[-1 - end] == after[-1 - end]:
        end += 1
    return tuple(  # type: ignore[return-value]
        " ".join(line.strip() for line in lines[start : len(lines) - end])
        for lines in (before, after)
    )


def _is_in_function(node: Any) -> bool:
    while node is not None and node.type != "classdef":
        if node.type in {"funcdef", "lambdef"}:
            return True
        node = node.parent
    return False


if __name__ == "__main__":
    json.dump([mutant for path in sys.argv[1:] for mutant in mutants(Path(path))], sys.stdout)
