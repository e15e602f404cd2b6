"""What goes wrong between this machine and the hub, in one line with a way out."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from scmodelforge._errors import DataError
from scmodelforge.hub.addresses import HubRepository
from scmodelforge.hub.tokens import LOG_IN, without_token

__all__ = ["explained", "on_the_hub"]

#: Packages whose errors mean that a request got no answer; which one it is depends on the version of the client.
_NETWORK = frozenset({"httpcore", "httpcore2", "httpx", "httpx2", "requests", "urllib3"})
_UNAUTHORISED, _FORBIDDEN, _TOO_MANY, _SERVER = 401, 403, 429, 500


@contextmanager
def on_the_hub(
    repository: HubRepository, unreachable: Callable[[str], str], *, token: str | bool | None = None
) -> Iterator[None]:
    """Turn what the hub, the network or the disk refuse in a block into one line.

    Parameters
    ----------
    repository
        What is asked for.
    unreachable
        Makes the message for a hub that gives no answer of the reason.
    token
        The token that is sent, as the hub's client takes it; it is in no message.

    Raises
    ------
    DataError
        If anything of the kind happens; other errors stay what they are.
    """
    try:
        yield
    except DataError:
        raise
    except Exception as problem:
        text = explained(problem, repository, unreachable, token=token)
        if text is None:
            raise
        raise DataError(text) from problem


def explained(
    problem: BaseException,
    repository: HubRepository,
    unreachable: Callable[[str], str],
    *,
    token: str | bool | None = None,
) -> str | None:
    """Return the line for an error of the hub's client, ``None`` if it is none of the kind."""
    text = _line(problem, repository, unreachable)
    return None if text is None else without_token(text, token)


def _line(problem: BaseException, repository: HubRepository, unreachable: Callable[[str], str]) -> str | None:
    from huggingface_hub import errors

    if isinstance(problem, errors.HFValidationError):
        return f"hf://{repository.repo_id}: no name of a repository ({_first_line(problem).rstrip('.')}); correct it."
    chain = list(_chain(problem))
    answered = [each for each in chain if getattr(each, "response", None) is not None]
    refused = next((each for each in answered if isinstance(each, errors.HfHubHTTPError)), None)
    if refused is not None:
        return _refusal(refused, repository)
    lost = [each for each in chain if _is_of_network(each)]
    if any(isinstance(each, errors.OfflineModeIsEnabled) for each in chain):
        return unreachable("HF_HUB_OFFLINE is set")
    if lost:
        return unreachable(f"the hub gave no answer ({_first_line(lost[-1])})")
    if type(problem).__module__ == "hf_xet":
        said = _first_line(problem)
        return f"hf://{repository.repo_id}: where the hub keeps files refuses this ({said}); try again, or {LOG_IN}."
    if isinstance(problem, errors.LocalEntryNotFoundError):
        return unreachable("only this machine was looked on")
    return _on_disk(problem, repository)


def _is_of_network(problem: BaseException) -> bool:
    # What the client uploads by (hf_xet) has Python's own errors, without a number.
    is_own = isinstance(problem, ConnectionError | TimeoutError)
    return is_own or type(problem).__module__.partition(".")[0] in _NETWORK


def _refusal(problem: BaseException, repository: HubRepository) -> str:
    from huggingface_hub import errors

    name, page = f"hf://{repository.repo_id}", f"https://huggingface.co/{repository.repo_id}"
    if isinstance(problem, errors.GatedRepoError):
        return f"{name}: its owners grant access; ask for it on {page}, then {LOG_IN}."
    if isinstance(problem, errors.RevisionNotFoundError):
        slash = "; a slash in the name of a branch is written %2F" if repository.folder else ""
        return f"{name}: no revision '{repository.revision or 'main'}'; its branches and commits are on {page}{slash}."
    if isinstance(problem, errors.RepositoryNotFoundError):
        no = f"{name}: there is no such repository, or you may not read it"
        if problem.response.status_code in (_UNAUTHORISED, _FORBIDDEN):
            return f"{no}; the hub asks for a token ({problem.response.status_code}): {LOG_IN}, or correct the name."
        return f"{no}; correct the name, or {LOG_IN}."
    assert isinstance(problem, errors.HfHubHTTPError)
    status = problem.response.status_code
    if status == _UNAUTHORISED:
        return f"{name}: the hub does not know your token (401); {LOG_IN} to one that is valid."
    if status == _FORBIDDEN:
        said = problem.response.headers.get("X-Error-Message") or _first_line(problem)
        return f"{name}: your token gives no right to do this (403: {said}); {LOG_IN} to one with it."
    if status == _TOO_MANY or status >= _SERVER:
        return f"{name}: the hub is busy or out of order (status {status}); try again later."
    return f"{name}: the hub refuses this (status {status}: {_first_line(problem)}); see {page}."


def _on_disk(problem: BaseException, repository: HubRepository) -> str | None:
    if not isinstance(problem, OSError):
        return None
    name = f"hf://{repository.repo_id}"
    if problem.errno == errno.ENOSPC:
        return f"{name}: the disk is full; make room, or set HF_HOME to a folder on another disk. Nothing half is used."
    if problem.errno is not None:
        where = f" {problem.filename}" if problem.filename else ""
        return f"{name}: cannot write{where} ({problem.strerror}); set HF_HOME to a folder you may write to."
    if "Consistency check failed" in str(problem):
        return f"{name}: a file did not arrive whole; repeat the command, it goes on from there."
    return None


def _chain(problem: BaseException | None) -> Iterator[BaseException]:
    while problem is not None:
        yield problem
        problem = problem.__cause__


def _first_line(problem: BaseException) -> str:
    lines = str(problem).strip().splitlines()
    return lines[0] if lines else type(problem).__name__
