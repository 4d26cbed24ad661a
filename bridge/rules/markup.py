"""XML into values, as templates can use them. Pure.

An element is a table of its attributes (`@name`) and of what stands in it, by name, several of one name as a list; its own
text beside them is `#text`. One that holds nothing but text is that text. The whole is a table with the root's name, as
`xmltodict` would have it, but with names bare of their namespace. No document type is read: no entity, no file, no bomb.
"""

from collections.abc import Iterator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from bridge.rules.payloads import MAX_DEPTH


def strict_xml(text: bytes) -> dict[str, Any]:
    """Return the value of an XML document; raise ValueError where it is none, has a document type, or nests too deep."""
    from defusedxml.ElementTree import fromstring  # here: few hooks get XML, and all would pay

    try:
        root = fromstring(text, forbid_dtd=True)
    except ParseError as exc:
        raise ValueError(str(exc)) from exc
    except ValueError as exc:
        raise ValueError("a document type or an encoding that is not read") from exc
    except LookupError as exc:
        raise ValueError("its encoding is not known here") from exc
    if _is_deep(root):
        raise ValueError(f"it nests deeper than {MAX_DEPTH} levels")
    return {_name(root.tag): _value(root)}


def _value(element: Element) -> Any:
    text = (element.text or "").strip()
    table: dict[str, Any] = {f"@{_name(name)}": value for name, value in element.attrib.items()}
    for name, inner in _children(element):
        if name not in table:
            table[name] = inner
        elif isinstance(table[name], list):
            table[name].append(inner)
        else:
            table[name] = [table[name], inner]
    if not table:
        return text
    return table | ({"#text": text} if text else {})


def _children(element: Element) -> Iterator[tuple[str, Any]]:
    for inner in element:
        yield _name(inner.tag), _value(inner)


def _name(tag: str) -> str:
    return tag.rpartition("}")[2]


def _is_deep(root: Element) -> bool:
    level, depth = [root], 0
    while level:
        depth += 1
        if depth > MAX_DEPTH:
            return True
        level = [inner for outer in level for inner in outer]
    return False
