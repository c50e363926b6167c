"""Names that a package keeps to itself, as a file of ours calls them."""

import ast


def private_names(path):
    """All attributes and imports with a leading underscore, but for names of the file's own."""
    tree = ast.parse(path.read_text())
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    found = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found |= {alias.name for alias in node.names}
            found |= set(node.module.split("."))
    return {name for name in found if name.startswith("_") and not name.startswith("__")} - own
