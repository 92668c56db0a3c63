"""Docstrings as the reference shows them: what numpydoc lets one leave out is put in, for the reader of a page."""

import re
from typing import Any

from griffe import Alias, Docstring, Extension, Module, Object

# Several parameters, attributes or results in one line, and what is said of all of them.
_TOGETHER = re.compile(r"^(\w+(?:, \w+)+)( : .*)?\n((?:    .*\n?)*)", re.MULTILINE)


class CompleteDocstrings(Extension):
    """Give each name of a list its own entry, with its own default, and methods the docstrings of those they override."""

    def on_package(self, *, pkg: Module, **kwargs: Any) -> None:
        """Look at a package that is loaded."""
        self._complete(pkg)

    def _complete(self, thing: Object | Alias) -> None:
        if thing.is_alias:
            return
        if thing.docstring:
            thing.docstring.value = _TOGETHER.sub(_each, thing.docstring.value)
        for member in thing.members.values():
            self._complete(member)
            if thing.is_class and not member.is_alias and not member.docstring and not member.name.startswith("_"):
                _inherit(thing, member)


def _each(found: re.Match[str]) -> str:
    names, kind, text = found.groups(default="")
    return "".join(f"{name}{kind}\n{text.rstrip()}\n" for name in names.split(", "))


def _inherit(owner: Any, member: Any) -> None:
    """Take the docstring of the nearest class above that says what the member does."""
    for above in owner.mro():
        told = above.members.get(member.name)
        if told is not None and told.docstring:
            text = _TOGETHER.sub(_each, told.docstring.value)
            member.docstring = Docstring(text, parent=member, parser=told.docstring.parser)
            return
