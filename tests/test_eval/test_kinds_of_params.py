"""Whatever a benchmark writes into ``Record.params`` is said to be a setting, what is scored, or what came out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import scmodelforge
from scmodelforge.eval.kinds_of_params import OUTCOMES, SCOPE, SETTINGS, TOLD, is_told, must_match

KINDS = {"SETTINGS": SETTINGS, "SCOPE": SCOPE, "OUTCOMES": OUTCOMES, "TOLD": TOLD}
#: What dicts that end up in params are called in the code.
_CALLED = {"params", "facts", "settings", "about", "how", "unseen", "num_groups", "left_out"}
#: Facts that stand inside one entry, the ``network`` of gene_network_inference.
_WITHIN = {"edges.py", "matching.py"}


def named(node: ast.AST) -> bool:
    if isinstance(node, ast.Attribute):
        return node.attr in _CALLED
    if isinstance(node, ast.Subscript):
        return named(node.value)
    return isinstance(node, ast.Name) and node.id in _CALLED


def keys(node: ast.AST | None) -> Iterator[str]:
    """Return the names in all dicts of an expression, but not those within their values."""
    if isinstance(node, ast.Dict):
        for key in node.keys:
            if isinstance(key, ast.Constant) and isinstance(key.value, str):
                yield key.value
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        yield from keys(node.left)
        yield from keys(node.right)
    elif isinstance(node, ast.IfExp):
        yield from keys(node.body)
        yield from keys(node.orelse)


def written(tree: ast.AST) -> Iterator[str]:
    """Return the names that code puts into params."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword) and node.arg in _CALLED:
            yield from keys(node.value)
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if named(target):
                    yield from keys(node.value)
                    if isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Constant):
                        yield str(target.slice.value)
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and named(node.left):
            yield from keys(node.right)
        elif isinstance(node, ast.FunctionDef) and node.name in {"facts", "_params", "_known"}:
            for each in ast.walk(node):
                yield from keys(each.value) if isinstance(each, ast.Return) else ()


def found() -> dict[str, list[str]]:
    root = Path(scmodelforge.__file__).parent
    files = [*(root / "eval").rglob("*.py"), root / "workflows" / "scored_cells.py"]
    files += [root / "workflows" / "label_transfer.py"]
    where: dict[str, list[str]] = {}
    for file in files:
        if file.name not in _WITHIN:
            for name in written(ast.parse(file.read_text())):
                where.setdefault(name, []).append(file.name)
    return where


def test_every_name_is_of_one_kind():
    known = frozenset().union(*KINDS.values())
    there = found()
    assert {name: files for name, files in there.items() if name not in known and not is_told(name)} == {}
    assert {"num_duplicates", "labels_in_pieces", "num_train", "unseen_labels", "layer", "fdr"} <= set(there)


def test_no_name_is_of_two_kinds():
    for (one, ours), (other, theirs) in combinations(KINDS.items(), 2):
        assert ours & theirs == set(), (one, other)


def test_what_is_not_known_must_match():
    assert must_match("of_a_plugin", "m")
    assert must_match("k", "m")
    assert not must_match("converged", "m")
