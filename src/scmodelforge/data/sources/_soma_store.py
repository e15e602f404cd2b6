"""Where a SOMA experiment lies, which version of the Census it is, and its tables opened once in each process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from scmodelforge._errors import ConfigError, DataError, nearest
from scmodelforge._optional import require

__all__ = ["OpenStore", "Place", "StorePool", "locate", "one_line"]

_MIB = 1 << 20
#: What a thread that reads may hold, beside what it returns. The packages' own defaults are gigabytes.
_BOUNDS = {"soma.init_buffer_bytes": str(16 * _MIB), "sm.mem.total_budget": str(128 * _MIB)}
#: A read of an array without duplicates first merges the bounds of its tiles, in threads of TileDB. In TileDB 2.30
#: (tiledbsoma 2.3.0) such a thread may still free what it merged (``MergeUnit::~MergeUnit``, called by
#: ``SparseGlobalOrderReader``) when the read has ended and its memory is gone: a segmentation fault now and then on a
#: busy machine, also where tiledbsoma alone opens and reads. 0 leaves this merge out; what is read stays the same.
_WITHOUT_MERGE = {"sm.query.sparse_global_order.preprocess_tile_merge": "0"}
_READING = {**_BOUNDS, **_WITHOUT_MERGE}
#: The bucket of the public Census is read without an account; other buckets with the one the environment names.
_PUBLIC = "s3://cellxgene-census-public"
_ANONYMOUS = {"vfs.s3.no_sign_request": "true", "vfs.s3.region": "us-west-2"}
_DEFAULT_VERSION, _DEFAULT_ORGANISM = "stable", "homo_sapiens"
_REASON_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Place:
    """A SOMA experiment.

    Attributes
    ----------
    uri
        Where it lies.
    tiledb_config
        How TileDB reads it; nothing in it is secret.
    name
        What messages call it.
    identity
        What tells its version from others, wherever it lies.
    notes
        Lines for the user.
    """

    uri: str
    tiledb_config: dict[str, str]
    name: str
    identity: dict[str, str | None]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class OpenStore:
    """The open tables of an experiment and the open matrix; without the experiment they would be closed."""

    experiment: Any
    obs: Any
    var: Any
    x: Any


def locate(uri: str | None, *, version: str, organism: str, measurement: str) -> Place:
    """Find the experiment that the settings name.

    Parameters
    ----------
    uri
        A Census or an experiment; ``None`` for the public Census.
    version
        Version of the public Census.
    organism
        Experiment of a Census.
    measurement
        A measurement the experiment must have.

    Raises
    ------
    DataError
        If it cannot be reached or there is no such version, organism or measurement.
    ConfigError
        If a setting is given that is not for this kind of store.
    """
    soma = require("tiledbsoma", extra="census", why="Reading the CELLxGENE Census or another SOMA store")
    resolved = None
    if uri is None:
        root, resolved = _open_public(soma, version)
    else:
        if version != _DEFAULT_VERSION:
            msg = f"data.census_version ({version}) is for the public Census, and data.uri names a store; keep one."
            raise ConfigError(msg)
        root = _open_uri(soma, uri)
    with root:
        if isinstance(root, soma.Experiment):
            place = _single(root, uri or root.uri, organism)
        else:
            place = _of_census(soma, root, version=version, resolved=resolved, organism=organism)
        with _experiment(soma, place) as experiment:
            _member(experiment.ms, measurement, place.name, "measurement")
        return place


class StorePool:
    """An experiment that is opened when needed. A copy by pickle or fork opens it anew.

    Parameters
    ----------
    place
        Where it lies.
    measurement, layer
        The matrix to open.
    """

    def __init__(self, place: Place, *, measurement: str, layer: str) -> None:
        self._place, self._measurement, self._layer = place, measurement, layer
        self._processes: dict[int, _Process] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_processes": {}}

    @contextmanager
    def use(self) -> Iterator[OpenStore]:
        """Give the open tables and the matrix to any number of threads.

        Raises
        ------
        DataError
            If they cannot be opened, or if reading them fails.
        """
        soma = require("tiledbsoma", extra="census", why="Reading the CELLxGENE Census or another SOMA store")
        # TileDB's threads do not live on in a fork, and a lock may be held there for ever: an entry for each process
        process = self._processes.setdefault(os.getpid(), _Process())
        try:
            yield process.get(lambda: self._open(soma))
        except (soma.SOMAError, RuntimeError, OSError) as error:
            msg = f"{self._place.name} ({self._place.uri}) cannot be read: {one_line(error)}"
            raise DataError(msg) from error

    def close(self) -> None:
        """Let go of what this process has open; threads that read on keep it until they are done."""
        self._processes.pop(os.getpid(), None)

    def _open(self, soma: ModuleType) -> OpenStore:
        experiment = _experiment(soma, self._place)
        ms = _member(experiment.ms, self._measurement, self._place.name, "measurement")
        x = _member(ms.X, self._layer, f"{self._place.name}: measurement '{self._measurement}'", "layer")
        if not isinstance(x, soma.SparseNDArray):
            msg = (
                f"{self._place.name}: layer '{self._layer}' is a {x.soma_type}, and a SOMASparseNDArray is needed; "
                "write the matrix to the store as a sparse one."
            )
            raise DataError(msg)
        if experiment.obs.index_column_names != ("soma_joinid",):
            found = ", ".join(experiment.obs.index_column_names)
            msg = f"{self._place.name}: obs is indexed by {found}; an index by soma_joinid is needed."
            raise DataError(msg)
        return OpenStore(experiment, experiment.obs, ms.var, x)


class _Process:
    """The open store of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._store: OpenStore | None = None

    def get(self, opens: Any) -> OpenStore:
        with self._lock:
            if self._store is None:
                self._store = opens()
            return self._store


def one_line(error: BaseException) -> str:
    """Return what an error of TileDB says, in one line."""
    text = " ".join(str(error).partition("\nAt:\n")[0].removeprefix("SOMAError: ").split())  # then comes a traceback
    return text if len(text) <= _REASON_LENGTH else f"{text[:_REASON_LENGTH]} ..."


def _context(soma: ModuleType, config: dict[str, str]) -> Any:
    return soma.SOMATileDBContext(tiledb_config=dict(config))


def _experiment(soma: ModuleType, place: Place) -> Any:
    return soma.Experiment.open(place.uri, context=_context(soma, place.tiledb_config))


def _open_uri(soma: ModuleType, uri: str) -> Any:
    """Open a Census or an experiment by its place."""
    where = uri if "://" in uri else str(Path(uri).expanduser().absolute())
    config = {**_READING, **(_ANONYMOUS if where.startswith(_PUBLIC) else {})}
    needed = "the root of a Census or a SOMA experiment is needed"
    try:
        root = soma.open(where, context=_context(soma, config))
    except soma.DoesNotExistError as error:
        msg = f"data.uri: there is no SOMA store at '{uri}'; {needed}. Correct the path, or check the account's rights."
        raise DataError(msg) from error
    except (soma.SOMAError, RuntimeError, OSError, ValueError, TypeError) as error:
        msg = f"data.uri: '{uri}' cannot be opened: {one_line(error)}; {needed}."
        raise DataError(msg) from error
    if not isinstance(root, soma.Experiment) and not (isinstance(root, soma.Collection) and "census_data" in root):
        msg = f"data.uri: '{uri}' is a {root.soma_type} without 'census_data'; {needed}."
        root.close()
        raise DataError(msg)
    return root


def _open_public(soma: ModuleType, version: str) -> tuple[Any, str]:
    """Open a version of the public Census; return it and the date of the build it is."""
    census = require("cellxgene_census", extra="census", why="Reading the CELLxGENE Census")
    try:
        versions = census.get_census_version_directory()
        if version not in versions:
            names = list(versions)
            msg = (
                f"data.census_version: there is no Census '{version}'.{nearest(version, names)} "
                f"There are: {', '.join(names)}."
            )
            raise DataError(msg)
        build = str(versions[version]["release_build"])
        context = census.get_default_soma_context(tiledb_config=dict(_READING))
        return census.open_soma(census_version=build, context=context), build
    except (soma.SOMAError, RuntimeError, OSError) as error:  # requests' errors are OSErrors
        msg = (
            f"The public Census (data.census_version: {version}) cannot be reached: {one_line(error)}; check the "
            "network, or name a copy of it in data.uri."
        )
        raise DataError(msg) from error


def _of_census(soma: ModuleType, root: Any, *, version: str, resolved: str | None, organism: str) -> Place:
    key = organism.strip().lower().replace(" ", "_")
    build = resolved or _build_date(root)
    folder = root.uri.rstrip("/").rpartition("/")[2]
    label = f"census {build or folder}"
    experiment = _member(root["census_data"], key, label, "organism")
    if not isinstance(experiment, soma.Experiment):
        msg = f"{label}: '{key}' (data.organism) is a {experiment.soma_type}; a SOMAExperiment is needed."
        raise DataError(msg)
    notes: tuple[str, ...] = ()
    if resolved is not None and resolved != version:
        notes = (f"data.census_version '{version}' is {resolved} now; to stay with it, set data.census_version to it",)
    return Place(experiment.uri, _config_of(root), f"{label} {key}", {"census": build, "organism": key}, notes)


def _single(experiment: Any, uri: str, organism: str) -> Place:
    if organism != _DEFAULT_ORGANISM:
        msg = (
            f"data.organism ({organism}) chooses from a Census, and data.uri '{uri}' is a single experiment; "
            "leave it out."
        )
        raise ConfigError(msg)
    name = f"soma {uri.rstrip('/').rpartition('/')[2]}"
    notes = (f"{name} is a single experiment, not a Census: data.organism is not used",)
    return Place(experiment.uri, _config_of(experiment), name, {"census": None, "organism": None}, notes)


def _config_of(opened: Any) -> dict[str, str]:
    """Return the part of a store's configuration that opens it again."""
    config = opened.context.tiledb_config
    return {name: str(config[name]) for name in (*_READING, *_ANONYMOUS) if name in config}


def _build_date(root: Any) -> str | None:
    """Return the date of the build that a Census notes of itself."""
    if "census_info" not in root or "summary" not in root["census_info"]:
        return None
    table = root["census_info"]["summary"].read(column_names=["label", "value"]).concat().to_pydict()
    found = dict(zip(table["label"], table["value"], strict=True)).get("census_build_date")
    return None if found is None else str(found)


def _member(collection: Any, key: str, label: str, kind: str) -> Any:
    names = sorted(collection)
    if key not in names:
        msg = f"{label} has no {kind} '{key}' (data.{kind}).{nearest(key, names)} There are: {', '.join(names)}."
        raise DataError(msg)
    return collection[key]
