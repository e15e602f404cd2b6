"""The settings of a run, those that differ from the defaults first, and where it was made."""

from __future__ import annotations

from typing import Any

import yaml

from scmodelforge._errors import UserError
from scmodelforge.config.parts import PARTS
from scmodelforge.config.schema import RunConfig
from scmodelforge.report.text import number, without_places
from scmodelforge.workflows.run_record import RunRecord

__all__ = ["all_settings", "as_yaml", "changed_settings", "checkpoint_rows", "environment"]


def changed_settings(run: RunRecord) -> list[tuple[str, str]]:
    """Return the settings that differ from the defaults: path in the file, value."""
    defaults = _defaults(run.settings)
    found = [
        (name, value)
        for name, value in _flat(run.settings)
        if not (name in defaults and defaults[name] == value) and not name.startswith("output.")
    ]
    return [(name, without_places(_shown(value))) for name, value in found]


def all_settings(run: RunRecord) -> str:
    """Return all settings as YAML, without folders of this machine."""
    return as_yaml(run.settings)


def as_yaml(settings: dict[str, Any]) -> str:
    """Return settings, or other facts, as YAML, without folders of this machine."""
    text: str = yaml.safe_dump(_cleaned(settings), sort_keys=False, allow_unicode=True, width=100)
    return text


def environment(run: RunRecord) -> list[tuple[str, str]]:
    """Return where and with what the run was made."""
    facts = run.facts
    git = facts.get("git")
    revision = "not in a git repository"
    if git:
        state = {True: ", with changes that are not committed", False: ", without changes"}.get(git.get("dirty"), "")
        revision = f"{git.get('revision')}{state}"
    elif "git" not in facts:
        revision = "not recorded"
    packages = ", ".join(f"{name} {version}" for name, version in facts.get("packages", {}).items())
    rows = [
        ("started", facts.get("created")),
        ("command", without_places(str(facts.get("command", "")))),
        ("git revision of the working directory", revision),
        ("scModelForge", facts.get("scmodelforge_version")),
        ("Python", facts.get("python")),
        ("torch", facts.get("torch")),
        ("platform", facts.get("platform")),
        ("device", facts.get("device")),
        ("processes", facts.get("processes")),
        ("precision", facts.get("precision")),
        ("packages", packages),
        ("hash of the settings", facts.get("config_hash")),
        ("hash of the split", facts.get("split_hash")),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "")]


def checkpoint_rows(run: RunRecord) -> list[list[str]]:
    """Return step, epoch, validation loss and role of each checkpoint."""
    exported = run.exported[0].step if run.exported else None
    rows = []
    for each in run.checkpoints:
        roles = [(each.is_best, "best"), (each.is_last, "last"), (each.step == exported, "exported")]
        role = ", ".join(text for is_so, text in roles if is_so)
        rows.append([f"{each.step:,}", "-" if each.epoch is None else str(each.epoch), number(each.val_loss, 5), role])
    return rows


def _defaults(settings: dict[str, Any]) -> dict[str, Any]:
    """Return the defaults of a run with the same parts; without those of parts that plugins would bring."""
    found = RunConfig().to_dict()
    for name, part in PARTS.items():
        section = settings.get(name)
        try:
            own = part.section_class(part.name_in(section)) if isinstance(section, dict) else None
            if own is not None:
                fields = own.model_fields.items()
                found[name] = {key: info.get_default(call_default_factory=True) for key, info in fields}
        except (UserError, ImportError):
            continue
    return dict(_flat(found))


def _flat(values: Any, path: str = "") -> list[tuple[str, Any]]:
    if hasattr(values, "model_dump"):
        values = values.model_dump(mode="json")
    if not isinstance(values, dict) or not values:
        return [(path, values)]
    return [pair for key, value in values.items() for pair in _flat(value, f"{path}.{key}" if path else str(key))]


def _cleaned(value: Any) -> Any:
    if isinstance(value, dict):
        return {without_places(str(key)): _cleaned(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_cleaned(each) for each in value]
    return without_places(value) if isinstance(value, str) else value


def _shown(value: Any) -> str:
    return (
        yaml.safe_dump(value, default_flow_style=True, width=10_000, allow_unicode=True).removesuffix("...\n").strip()
    )
