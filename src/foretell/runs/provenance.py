"""Provenance: the source of each setting of a published preset or part, and the reason where our value differs.

A table is a YAML file in `presets/provenance/`. It has these keys, all of them optional:

| key | content |
|---|---|
| `base` | a table whose rows are inherited, unless this table has a row for the same setting |
| `source` | papers and code; rows give a file of the code by its name alone |
| `same` | by place in the source: settings with the value of the source, which is also ours |
| `differs` | by place in the source: settings with both values, `theirs` and `ours`, and the reason, `why` |
| `ours` | by reason: settings that the source does not have, with our value |
| `unused` | by reason: settings, or sections, that have no effect |

Instead of a setting, a row may name a constant of the code (`tasks.cartpole:POLE_LENGTH`). In `differs`, it may also
describe a behaviour in words, which is not checked.
"""

import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib import import_module, resources
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel

from foretell.errors import UserError, nearest
from foretell.runs.docs import flow
from foretell.runs.parts import read_part
from foretell.runs.presets import resolve
from foretell.runs.trees import leaf_paths, value_at

TABLES = resources.files("foretell") / "presets" / "provenance"
_SHARED, _PARTS = "shared", "parts"


class Row(NamedTuple):
    """A row of a table, for one setting."""

    kind: Literal["same", "differs", "ours", "unused"]
    name: str
    """The path of the setting, a constant of the code, or a behaviour in words."""
    theirs: Any = None
    ours: Any = None
    where: str = ""
    """File or page of the source."""
    why: str = ""

    @property
    def is_checked(self) -> bool:
        """Whether the row is compared with a preset or a constant."""
        return self.kind != "unused" and " " not in self.name


class Table(NamedTuple):
    """A table, without inherited rows."""

    name: str
    base: str | None
    source: str
    rows: tuple[Row, ...]


def table_names() -> list[str]:
    """The presets and parts (`parts/NAME`) that have a table, in alphabetical order."""
    files = ((folder.name, file.name) for folder in TABLES.iterdir() if folder.is_dir() for file in folder.iterdir())
    names = (f"{folder}/{file.removesuffix('.yaml')}" for folder, file in files if file.endswith(".yaml"))
    return sorted(name for name in names if not name.startswith(f"{_SHARED}/"))


@cache
def read_table(name: str) -> Table:
    """The table of a preset or part. Raises `UserError` if there is none."""
    file = TABLES / f"{name}.yaml"
    if not file.is_file():
        raise UserError(f"'{name}' has no table of provenance{nearest(name, table_names())}")
    tree = yaml.safe_load(file.read_text())
    return Table(name, tree.get("base"), tree.get("source", ""), tuple(_rows(tree)))


def chain(name: str) -> list[Table]:
    """A table, its base, the base of that, and so on."""
    table = read_table(name)
    return [table, *(chain(table.base) if table.base else [])]


def rows_of(name: str) -> dict[str, Row]:
    """All rows of a table by name, including inherited ones."""
    return {row.name: row for table in reversed(chain(name)) for row in table.rows}


def departures(rows: Mapping[str, Row], leaves: Mapping[str, Any], own: Iterable[str] = ()) -> list[str]:
    """The faults of a table, one sentence each.

    Args:
        rows: the rows of the table, including inherited ones.
        leaves: the resolved settings, by path.
        own: names of rows whose settings must exist.
    """
    unused = tuple(row.name for row in rows.values() if row.kind == "unused")
    found = [f"{path} = {flow(value)} has no row" for path, value in leaves.items() if not _row_of(path, rows, unused)]
    for row in filter(lambda row: row.is_checked, rows.values()):
        if ":" not in row.name and row.name not in leaves:
            found += [f"there is no setting {row.name}"] if row.name in own else []
            continue
        value = _constant(row.name) if ":" in row.name else leaves[row.name]
        if not _equal(value, row.ours):
            found.append(f"{row.name} is {flow(_plain(value))}, not {flow(row.ours)} as the table says")
    same = (row for row in rows.values() if row.kind == "differs" and _equal(row.theirs, row.ours))
    return [*found, *(f"{row.name} does not differ" for row in same), *_without_reason(rows.values())]


def leaves_of(name: str) -> dict[str, Any]:
    """The settings that a table must cover: those of a preset or part, without agent and description."""
    if name.startswith(f"{_PARTS}/"):
        tree: Any = read_part(name.removeprefix(f"{_PARTS}/")).settings
    else:
        tree = resolve(name).model_dump(mode="json")
    # A mapping that a user fills, such as task.options, is one setting.
    paths = dict.fromkeys("task.options" if path.startswith("task.options.") else path for path in leaf_paths(tree))
    empty = [f"{section}.{key}" for section, keys in tree.items() if isinstance(keys, Mapping) for key in keys]
    paths |= dict.fromkeys(path for path in empty if value_at(tree, path) == {})
    return {path: value_at(tree, path) for path in paths if path not in ("agent", "description")}


def check(name: str) -> list[str]:
    """The faults of the table of a preset or part, one sentence each."""
    return departures(rows_of(name), leaves_of(name), [row.name for row in read_table(name).rows])


def shown(name: str) -> str:
    """A table in Markdown, without inherited rows."""
    table = read_table(name)
    source = textwrap.wrap(table.source, 120, break_long_words=False, break_on_hyphens=False)
    lines = [f"### {_heading(name)}", "", *source, *([""] if source else [])]
    if table.base:
        lines += [f"As {_linked(table.base)}, but for:" if table.rows else f"As {_linked(table.base)}.", ""]
    if table.rows:
        lines += ["| setting | source | ours | from | why |", "|---|---|---|---|---|", *map(_line, table.rows), ""]
    return "\n".join(lines)


def page() -> str:
    """The page of the documentation that shows all tables."""
    names = table_names()
    parts = [name for name in names if name.startswith(f"{_PARTS}/")]
    shared = sorted({table.name for name in names for table in chain(name)} - set(names))
    presets = [name for name in names if name not in parts]
    titled = (("Shared", shared), ("Presets", presets), ("Parts", parts))
    return "\n".join([_HEAD, *(line for title, group in titled for line in _section(title, group))]).rstrip() + "\n"


_HEAD = """# Provenance

These tables give the source of every setting of the presets and parts that follow a paper or released code. A test
compares the tables with the presets, and fails if they differ. Columns:

- *setting*: a setting of the preset. A name with a colon is a constant in our code.
- *source*: the value in the source. Empty: the source has no such constant.
- *ours*: the value of the preset, if it differs from the source.
- *from*: the file of the released code, or the section of the paper.
- *why*: the reason for a difference, or for a setting that the source does not have.

A table that begins with *As X* also has all rows of the table X, unless it has a row for the same setting. To change a
table, edit its file in `src/foretell/presets/provenance/`, then run `make provenance`.
"""


def _rows(tree: Mapping[str, Any]) -> Iterator[Row]:
    for where, settings in tree.get("same", {}).items():
        yield from (Row("same", name, value, value, where) for name, value in settings.items())
    for where, settings in tree.get("differs", {}).items():
        yield from (
            Row("differs", name, row["theirs"], row["ours"], where, row["why"]) for name, row in settings.items()
        )
    for why, settings in tree.get("ours", {}).items():
        yield from (Row("ours", name, None, value, "", why) for name, value in settings.items())
    for why, names in tree.get("unused", {}).items():
        yield from (Row("unused", name, why=why) for name in names)


def _row_of(path: str, rows: Mapping[str, Row], unused: tuple[str, ...]) -> bool:
    """Whether a setting has a row, or its section is unused."""
    return path in rows or any(path.startswith(f"{name}.") for name in unused)


def _without_reason(rows: Iterable[Row]) -> list[str]:
    return [f"{row.name} has no reason" for row in rows if row.kind != "same" and not row.why]


def _constant(name: str) -> Any:
    """A constant of the code, as `module:NAME`, or a value in it, as `module:NAME.attribute`, `.key` or `.0`."""
    module, _, path = name.partition(":")
    value: Any = import_module(f"foretell.{module}")
    for key in path.split("."):
        value = value[key] if isinstance(value, Mapping) else value[int(key)] if key.isdigit() else getattr(value, key)
    return value


def _equal(value: Any, other: Any) -> bool:
    """Whether two values are equal; `True` and 1 are not."""
    value, other = _plain(value), _plain(other)
    if isinstance(value, list) and isinstance(other, list):
        return len(value) == len(other) and all(map(_equal, value, other))
    return isinstance(value, bool) == isinstance(other, bool) and value == other


def _plain(value: Any) -> Any:
    """A value as plain YAML data."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return list(map(_plain, value)) if isinstance(value, tuple | list) else value


def _section(title: str, names: Iterable[str]) -> Iterator[str]:
    yield from (f"## {title}", "", *map(shown, names))


def _heading(name: str) -> str:
    """The heading of a table: its preset, its part (as `+part`), or the name of a shared table."""
    folder, _, rest = name.partition("/")
    return {_PARTS: f"`+{rest}`", _SHARED: f"{rest[0].upper()}{rest[1:]}"}.get(folder, f"`{name}`")


def _linked(name: str) -> str:
    anchor = re.sub(r"[^\w -]", "", _heading(name)).replace(" ", "-").lower()
    return f"[{_heading(name).strip('`')}](#{anchor})"


def _line(row: Row) -> str:
    theirs = "" if row.kind in ("ours", "unused") else _cell(row.theirs, row)
    ours = _cell(row.ours, row) if row.kind in ("ours", "differs") else ""
    name = f"`{row.name}`" if " " not in row.name else row.name
    return f"| {name} | {theirs} | {ours} | {row.where} | {row.why} |"


def _cell(value: Any, row: Row) -> str:
    return str(value) if " " in row.name or (isinstance(value, str) and " " in value) else f"`{flow(value)}`"


if __name__ == "__main__":
    print(page(), end="")
