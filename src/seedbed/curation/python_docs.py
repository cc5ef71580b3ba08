"""The documentation that every Python carries: the embedded default source, `--python-docs`.

The language topics of `pydoc_data`, and by parsing (never importing) the standard library's source the docstring of
every module, class, function and method, with its qualified name and signature.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator
from pathlib import Path

from .documents import Document, Piece, Pieces, Rejection

PYTHON_DOCS = "--python-docs"
SOURCE = "python"

_SKIPPED_FOLDERS = {"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"}
_UNDERLINE = re.compile(r'^[*=~\-"^]{3,}\n', re.MULTILINE)
_Function = (ast.FunctionDef, ast.AsyncFunctionDef)


def library_files(root: Path | None = None) -> Iterator[tuple[str, Path]]:
    """(module name, file) of the standard library's source without its tests, in order of the names of the files."""
    root = root or Path(sysconfig.get_paths()["stdlib"])
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and name.isidentifier())
        for name in sorted(names):
            stem, suffix = os.path.splitext(name)
            if suffix == ".py" and stem.isidentifier():
                parts = [*Path(folder).relative_to(root).parts, *([] if stem == "__init__" else [stem])]
                yield ".".join(parts), Path(folder, name)


def read_python_docs(root: Path | None = None) -> Pieces:
    """Topics first, then modules in the order of their files; about nine thousand documents."""
    yield from _topics()
    seen: dict[str, int] = {}
    for module, path in library_files(root):
        for piece in _module_documents(module, path):
            copies = seen[piece.id] = seen.get(piece.id, 0) + 1
            if copies > 1 and isinstance(piece, Document):
                piece = Document(f"{piece.id}#{copies}", piece.text, piece.title, piece.source, piece.metadata)
            yield piece


def describe_python() -> str:
    """What the documents depend on beside the files: the version of the Python that runs."""
    return f"{sys.implementation.name} {sys.version.split()[0]}"


def _topics() -> Iterator[Document]:
    from pydoc_data.topics import topics

    for label, text in sorted(topics.items()):
        metadata = {"kind": "topic", "name": label}
        yield Document(f"{SOURCE}/topics/{label}", _UNDERLINE.sub("", text), label, f"{SOURCE}/topics", metadata)


def _module_documents(module: str, path: Path) -> Iterator[Piece]:
    source = f"{SOURCE}/{module}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in the library's own strings are not the user's affair
            tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        yield Rejection(source, source, "", "unreadable", f"not readable as Python ({type(error).__name__})")
        return
    yield from _document(tree, module, "module", source)
    yield from _members(tree, module, "function", source)


def _members(parent: ast.AST, prefix: str, function_kind: str, source: str) -> Iterator[Document]:
    """Classes and functions below `parent`, also those under `if`, `try` and `with`, not those inside functions."""
    for node in ast.iter_child_nodes(parent):
        if isinstance(node, _Function):
            name = f"{prefix}.{node.name}"
            yield from _document(node, name, function_kind, source)
        elif isinstance(node, ast.ClassDef):
            name = f"{prefix}.{node.name}"
            yield from _document(node, name, "class", source)
            yield from _members(node, name, "method", source)
        elif isinstance(node, ast.stmt | ast.ExceptHandler):
            yield from _members(node, prefix, function_kind, source)


def _document(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
    name: str,
    kind: str,
    source: str,
) -> Iterator[Document]:
    docstring = ast.get_docstring(node, clean=False)
    cleaned = inspect.cleandoc(docstring) if docstring else ""
    if cleaned:
        metadata = {"kind": kind, "name": name}
        yield Document(f"{SOURCE}/{name}", f"{name}{_signature(node, kind)}\n\n{cleaned}", name, source, metadata)


def _signature(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, kind: str) -> str:
    if isinstance(node, ast.Module):
        return ""
    if isinstance(node, ast.ClassDef):
        return _constructor_signature(node)
    decorators = {decorator.id for decorator in node.decorator_list if isinstance(decorator, ast.Name)}
    if kind == "method" and decorators & {"property", "cached_property"}:
        return ""
    arguments = node.args
    if kind == "method" and "staticmethod" not in decorators:
        arguments = _without_first(arguments)
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"({ast.unparse(arguments)}){returns}"


def _constructor_signature(node: ast.ClassDef) -> str:
    for member in node.body:
        if isinstance(member, _Function) and member.name == "__init__":
            return f"({ast.unparse(_without_first(member.args))})"
    return ""


def _without_first(arguments: ast.arguments) -> ast.arguments:
    """Without `self` or `cls`, which callers do not write."""
    positional, plain = arguments.posonlyargs, arguments.args
    if positional:
        positional = positional[1:]
    else:
        plain = plain[1:]
    defaults = arguments.defaults[-(len(positional) + len(plain)) :] if positional or plain else []
    return ast.arguments(
        posonlyargs=positional,
        args=plain,
        vararg=arguments.vararg,
        kwonlyargs=arguments.kwonlyargs,
        kw_defaults=arguments.kw_defaults,
        kwarg=arguments.kwarg,
        defaults=defaults,
    )
