"""Pages of the documentation site that are made from the code: settings, presets and commands."""

from collections.abc import Iterator
from pathlib import Path

from pydantic import BaseModel

from foretell import registry
from foretell.cli.parser import command_texts
from foretell.experiments.files import read_study, study_names
from foretell.runs.docs import attribute_docs, flow, type_name
from foretell.runs.parts import AXES, parts_by_axis
from foretell.runs.presets import describe, families, preset_names
from foretell.runs.schema import section_classes


def write(folder: Path) -> None:
    """Write those that are not yet as they should be."""
    for name, lines in {"settings": _settings(), "presets": _presets(), "commands": _commands()}.items():
        page, text = folder / f"{name}.md", "\n\n".join(lines) + "\n"
        if not page.exists() or page.read_text() != text:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(text)


def _settings() -> Iterator[str]:
    """Every section with every kind, once, and the agents that have it."""
    yield "# Settings"
    yield (
        "A preset is a tree of these settings; `--set section.name=value` changes one. `foretell show planner.cem` "
        "prints the same for one kind of a section, and `foretell show PRESET` prints all values of a preset."
    )
    sections: dict[str, dict[str, type[BaseModel]]] = {}
    users: dict[str, list[str]] = {}
    for agent, cls in registry.kinds("agent").items():
        for name, field in cls.model_fields.items():
            if classes := section_classes(field):
                sections.setdefault(name, {}).update(classes)
                users.setdefault(name, []).append(agent)
    for name, classes in sections.items():
        yield f"## {name}"
        yield f"Agents: {', '.join(f'`{agent}`' for agent in users[name])}."
        for kind, cls in classes.items():
            if kind:
                yield f"### {name}.kind: {kind}"
            yield from _section(cls)


def _section(cls: type[BaseModel]) -> Iterator[str]:
    """What a class of settings is, and a list of these."""
    yield " ".join((cls.__doc__ or "").split("\n\n")[0].split())
    docs = attribute_docs(cls)
    for name, field in cls.model_fields.items():
        if name != "kind":
            default = "" if field.is_required() else f" = `{flow(field.get_default(call_default_factory=True))}`"
            yield f"- **`{name}`** ({type_name(field)}){default}  \n  {docs.get(name, '')}"


def _presets() -> Iterator[str]:
    """Every preset, part and study with its description."""
    yield "# Presets, parts and studies"
    yield "`foretell train PRESET` trains a preset. Parts are added to its name: `pets/cartpole+de+ts1`."
    for family in families():
        yield f"## {family}"
        names = [name for name in preset_names() if name.startswith(f"{family}/")]
        yield "\n".join(f"- `{name}`: {describe(name)}" for name in names)
    yield "## Parts"
    yield "At most one part of each axis can be added to a preset."
    for axis, parts in parts_by_axis().items():
        yield f"### {axis}: {AXES[axis]}"
        yield "\n".join(f"- `+{part.name}`: {part.description}" for part in parts)
    yield "## Studies"
    yield "`foretell study NAME` makes all runs of one."
    yield "\n".join(f"- `{name}`: {read_study(name).description}" for name in study_names())


def _commands() -> Iterator[str]:
    """The help of every command."""
    yield "# Commands"
    yield "`foretell COMMAND --help` prints the same."
    for name, text in command_texts().items():
        yield f"## {name}"
        yield f"```text\n{text.rstrip()}\n```"
