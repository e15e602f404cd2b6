"""Addresses of remote files: what of them may be shown, and which of them a pattern names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from glob import has_magic
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

from scmodelforge._errors import DataError

__all__ = ["COLLECTION", "RemoteUrl", "is_remote", "matches", "parse_url"]

#: How annbatch marks the root of a collection.
COLLECTION = "annbatch-preshuffled"
#: A member of an annbatch collection.
_MEMBER = re.compile(r"dataset_\d+")
_BUCKETS = ("s3", "gs")
_SCHEMES = (*_BUCKETS, "https", "http")
#: Beginnings of the names of query parameters that sign an address; what they hold is secret and changes.
_SIGNATURES = (
    "x-amz-", "x-goog-", "signature", "expires", "key-pair-id", "policy", "awsaccesskeyid", "googleaccessid", "token",
    "sig", "se", "st", "sp", "sv", "sr", "spr", "ske", "skoid", "sktid", "skt", "sks", "skv",
)  # fmt: skip
_WHOLE_NAMES = 4  # a parameter's name this short must be equal


@dataclass(frozen=True, slots=True, repr=False)
class RemoteUrl:
    """The address of a remote file. As text it is what may be shown: without the query, which may hold a signature.

    Attributes
    ----------
    url
        The address as written, with all it holds. Never shown.
    """

    url: str

    @property
    def scheme(self) -> str:
        """``s3``, ``gs``, ``https`` or ``http``."""
        return self.url.partition("://")[0].lower()

    @property
    def in_bucket(self) -> bool:
        """Whether the file lies in a bucket of an object store, and not on a plain server."""
        return self.scheme in _BUCKETS

    @property
    def host(self) -> str:
        """The bucket, or the server's name and port."""
        return self.url.partition("://")[2].partition("/")[0] if self.in_bucket else urlsplit(self.url).netloc

    @property
    def path(self) -> str:
        """What follows the bucket or the server, readable, without the first slash."""
        if self.in_bucket:
            return self.url.partition("://")[2].partition("/")[2]
        return unquote(urlsplit(self.url).path).lstrip("/")

    @property
    def parts(self) -> tuple[str, ...]:
        """Scheme, bucket or server, folders and file name."""
        return (f"{self.scheme}://", self.host, *(part for part in self.path.split("/") if part))

    @property
    def lasting(self) -> str:
        """The address without a signature: the same for the same file at any time. It may hold secrets; for hashes."""
        if self.in_bucket:
            return self.url
        split = urlsplit(self.url)
        kept = [(name, value) for name, value in parse_qsl(split.query, keep_blank_values=True) if not _signs(name)]
        return urlunsplit((split.scheme.lower(), split.netloc.lower(), split.path, urlencode(kept), ""))

    @property
    def is_pattern(self) -> bool:
        """Whether the path has ``*``, ``?`` or ``[``; in a server's address ``?`` begins the query."""
        return has_magic(self.path if self.in_bucket else urlsplit(self.url).path)

    @property
    def is_folder(self) -> bool:
        """Whether the path names a zarr store, by its end or as a member of a collection."""
        return self.path.endswith("/") or self.parts[-1].endswith(".zarr") or bool(_MEMBER.fullmatch(self.parts[-1]))

    def __str__(self) -> str:
        return f"{self.scheme}://{self.host}/{self.path}"

    def __repr__(self) -> str:
        return f"RemoteUrl('{self}')"

    def at(self, path: str) -> RemoteUrl:
        """Return the address of another file of the bucket."""
        return RemoteUrl(f"{self.scheme}://{self.host}/{path}")

    def within(self, path: str) -> RemoteUrl:
        """Return the address of a file in this folder; a query stays behind it."""
        if self.in_bucket:
            return self.at(f"{self.path.rstrip('/')}/{path}")
        split = urlsplit(self.url)
        return RemoteUrl(urlunsplit(split._replace(path=f"{split.path.rstrip('/')}/{quote(path)}")))


def is_remote(entry: str) -> bool:
    """Return whether an entry of ``data.paths`` is an address, and not a path on this machine."""
    return "://" in entry


def parse_url(entry: str) -> RemoteUrl:
    """Return an entry of ``data.paths`` as an address.

    Raises
    ------
    DataError
        If it is of an unknown kind, names no file, or holds a password.
    """
    url = RemoteUrl(entry.strip())
    if url.scheme not in _SCHEMES:
        listed = ", ".join(f"{scheme}://" for scheme in _SCHEMES)
        msg = f"data.paths: addresses that begin with '{url.scheme}://' are not read; {listed} and local paths are."
        raise DataError(msg)
    if not url.in_bucket and "@" in urlsplit(url.url).netloc:
        server = urlsplit(url.url).hostname
        msg = (
            f"data.paths: an address on {server} holds a name or password before '@', which would be copied into files "
            "and messages; remove it, and use a presigned address or a server that asks for none."
        )
        raise DataError(msg)
    if not url.host or not url.path:
        what = "a bucket and a path in it" if url.in_bucket else "a server and a path on it"
        msg = f"data.paths: '{url}' names no file; {what} are needed, such as {url.scheme}://lung/cells.h5ad."
        raise DataError(msg)
    return url


def matches(path: str, pattern: str) -> bool:
    """Return whether a path in a bucket matches a pattern: ``*`` stays within a folder, ``**`` is any folders."""
    return _match(path.split("/"), pattern.split("/"))


def _match(path: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern or not path:
        return not path and not pattern
    if pattern[0] == "**":
        return any(_match(path[skipped:], pattern[1:]) for skipped in range(len(path) + 1))
    return fnmatchcase(path[0], pattern[0]) and _match(path[1:], pattern[1:])


def _signs(name: str) -> bool:
    return any(
        name.lower() == known if len(known) <= _WHOLE_NAMES else name.lower().startswith(known) for known in _SIGNATURES
    )
