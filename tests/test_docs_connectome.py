"""What the page on connectomes says runs, and its names are those of the package."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import yaml

from scmodelforge.config.connectome import load_connectome_config
from scmodelforge.config.connectome_sections import ConnectomeFile
from scmodelforge.config.given import GivenSettings
from scmodelforge.config.messages import nested_section
from scmodelforge.config.section import Section
from scmodelforge.connectome import get_connectome_model, list_baselines, list_connectome_models, read_regions
from scmodelforge.connectome.splits import STRATEGIES
from tests.test_connectome.runs import SMALL, regions_file, says

PAGE = (Path(__file__).parents[1] / "docs" / "connectome.md").read_text()


def test_its_first_code_runs(capsys):
    code = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[0]
    exec(code, {})
    assert "pearson_r" in capsys.readouterr().out


def test_its_model_is_trained_saved_and_asked(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first, *others = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    model = next(code for code in others if "CrossAttentionGene2VecModel(" in code)
    exec(f"{first}\n{model}", {})
    assert "([8, 4, 33, 32]) ['GENE00', 'GENE01', 'GENE02']" in capsys.readouterr().out
    assert (tmp_path / "planted_model" / "model.safetensors").is_file()


def test_its_table_has_every_model():
    assert all(f"| `{name}` | `{get_connectome_model(name).__name__}` |" in PAGE for name in list_connectome_models())


def test_its_table_has_every_baseline():
    table = PAGE[PAGE.index("| name | knows") :]
    rows = table[: table.index("\n\n")]
    named = re.findall(r"`(\w+)`", rows)
    full = {f"kronecker_ridge{name}" if name.startswith("_") else name for name in named}
    assert set(list_baselines()) <= full


def test_its_table_has_every_strategy():
    assert all(f"| `{strategy}` |" in PAGE for strategy in STRATEGIES)


def keys_of(section: type[Section], path: str = "") -> list[str]:
    """Return the names of all settings of a section and of those below it."""
    below = {name: nested_section(field.annotation) for name, field in section.model_fields.items()}
    return [key for name, each in below.items() for key in ([name] if each is None else keys_of(each, name))]


def test_its_commands_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    exec(next(code for code in blocks if 'savez(\n    "atlas.npz"' in code), {})
    assert read_regions("atlas.npz", "fc").pairs().num_regions == 60
    block = next(
        code for code in re.findall(r"^```bash\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if " plot " in code
    )
    for line in block.splitlines():
        words = shlex.split(line)
        assert words[:2] == ["scmodelforge", "connectome"]
        small = [each for setting in SMALL for each in ("--set", setting)] if words[2] in ("train", "baselines") else []
        planted = [] if "data.path=atlas.npz" in words else ["--set", "data.planted.num_regions=24"]
        says(*words[2:], *small, *(planted if small else []))
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"connectome", "atlas"}
    assert (tmp_path / "predicted.csv").is_file()
    says("train", "--resume", "runs/atlas")


def test_its_table_of_the_folder_has_every_file(tmp_path):
    regions_file(tmp_path / "atlas.npz")
    given = [f"data.path={tmp_path / 'atlas.npz'}", "data.target=fc", f"output.run_dir={tmp_path / 'run'}"]
    says("train", *(word for each in (*SMALL, *given) for word in ("--set", each)))
    names = {path.name for path in (tmp_path / "run").iterdir()} - {"sessions.jsonl"}
    table = PAGE[PAGE.index("| in the folder of a run |") :]
    assert all(f"`{name}" in table[: table.index("\n\n")] for name in names)


def test_its_settings_file_is_valid_and_the_text_names_every_key():
    code = next(each for each in re.findall(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL))
    load_connectome_config(GivenSettings(yaml.safe_load(code), Path("page.yaml")))
    runs = PAGE[PAGE.index("## Runs") : PAGE.index("## Coordinates")]
    assert all(re.search(rf"\b{key}\b", runs) for key in keys_of(ConnectomeFile))
