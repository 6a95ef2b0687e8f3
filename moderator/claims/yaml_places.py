"""YAML that remembers where each value stands, so that errors name file and line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import jsonschema_rs
import yaml

from moderator.errors import RULE_FIELD, RULE_SYNTAX, UNREADABLE, ModeratorError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Schema:
    """A JSON Schema (2020-12): told fast whether it holds, and in words where it does not.

    jsonschema-rs answers some twenty times as fast as jsonschema (1 s less at every start, for
    the shipped pack), which names the breach that matters most.
    """

    def __init__(self, body: dict[str, Any]) -> None:
        self._body = body
        self._quick = jsonschema_rs.Draft202012Validator(body)

    def breach(self, data: Any) -> Any:
        """A `jsonschema.ValidationError`, or None."""
        try:
            if self._quick.is_valid(data):
                return None
        except (ValueError, TypeError):
            pass  # YAML knows more than JSON: dates, keys that are numbers
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import best_match

        return best_match(Draft202012Validator(self._body).iter_errors(data))


class PlacedYaml:
    """One YAML document: `data`, and the line of every path into it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            text = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ModeratorError(UNREADABLE, path=path, reason=error) from None
        try:
            loader = _Loader(text)
            try:
                self._root = loader.get_single_node()
                self.data: Any = (
                    loader.construct_document(self._root) if self._root is not None else None
                )
            finally:
                loader.dispose()
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            mark = getattr(error, "problem_mark", None)
            line = mark.line + 1 if mark is not None else 1
            reason = getattr(error, "problem", None) or str(error).splitlines()[0]
            raise ModeratorError(RULE_SYNTAX, place=f"{path}:{line}", reason=reason) from None

    def mapping(self) -> dict[str, Any]:
        if not isinstance(self.data, dict):
            raise ModeratorError(
                RULE_FIELD, place=f"{self.path}:1", reason="the file is not a mapping of fields"
            )
        return self.data

    def place(self, keys: Iterable[str | int] = (), *, of_key: bool = False) -> str:
        """`path:line` of the value under `keys` (or of its key), as near as it exists."""
        node = self._root
        line = 1 if node is None else node.start_mark.line + 1
        for key in keys:
            child = None
            if isinstance(node, yaml.MappingNode):
                for key_node, value_node in node.value:
                    if key_node.value == str(key):
                        child = value_node
                        line = (key_node if of_key else value_node).start_mark.line + 1
            elif isinstance(node, yaml.SequenceNode) and isinstance(key, int):
                child = node.value[key]
                line = child.start_mark.line + 1
            if child is None:
                break
            node = child
        return f"{self.path}:{line}"

    def validate(self, schema: Schema) -> None:
        """Raise LM-204 for the first breach of the schema, with line and a suggestion."""
        error = schema.breach(self.data)
        if error is None:
            return
        path = list(error.absolute_path)
        if error.validator == "additionalProperties" and isinstance(error.instance, dict):
            known = list(error.schema.get("properties", {}))
            for name in error.instance:
                if name not in known:
                    near = difflib.get_close_matches(str(name), known, n=1)
                    hint = (
                        f"; did you mean '{near[0]}'?"
                        if near
                        else f"; there are {', '.join(known)}"
                    )
                    raise ModeratorError(
                        RULE_FIELD,
                        place=self.place([*path, name], of_key=True),
                        reason=f"'{name}' is not a field{hint}",
                    )
        where = ".".join(str(part) for part in path)
        reason = f"{where}: {error.message}" if where else error.message
        raise ModeratorError(RULE_FIELD, place=self.place(path), reason=reason)
