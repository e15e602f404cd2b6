"""What obstore says when a request fails, in one line without what must stay secret.

Its own words hold the whole address, and with it the signature of a presigned one, so none of them are passed on.
"""

from __future__ import annotations

import re

from scmodelforge._errors import DataError
from scmodelforge.data.sources._stores import no_credentials
from scmodelforge.data.sources._url import RemoteUrl

__all__ = ["MissingObjectError", "failure", "is_other_range", "no_ranges", "was_changed"]

_STATUS = re.compile(r"status(?: code)?: (\d{3})\b")
_CODE = re.compile(r"<Code>(\w{1,60})</Code>")
_DENIED = {
    "s3": (
        "Check the credentials (AWS_ACCESS_KEY_ID, AWS_PROFILE), that they may read the bucket, and the region "
        "(data.remote.region); a public bucket needs data.remote.anonymous: true."
    ),
    "gs": (
        "Check the credentials (GOOGLE_APPLICATION_CREDENTIALS) and that they may read the bucket; a public bucket "
        "needs data.remote.anonymous: true."
    ),
    "https": "Check that the address may be read; a presigned one has run out or is of another file.",
}
_STATUS_WORDS = {429: "too many requests", 500: "an internal error", 503: "that it is overloaded"}


class MissingObjectError(DataError):
    """A remote file that is not there."""


def failure(error: Exception, url: RemoteUrl, *, name: str, retries: int, timeout: float) -> DataError:
    """Return what is raised instead of an error of obstore.

    Parameters
    ----------
    error
        The error.
    url
        The file's address.
    name
        What messages call the file.
    retries, timeout
        The settings, for what is to be changed.
    """
    text = str(error)
    found = _STATUS.search(text)
    status = int(found[1]) if found else None
    code = _CODE.search(text)
    told = f"{status}{f' {code[1]}' if code else ''}"
    asked = f"{name} cannot be read: {url}"
    if "/computeMetadata/" in text or "169.254." in text or "metadata.google" in text:
        return DataError(no_credentials(url))
    if type(error).__name__ == "PreconditionError":
        return was_changed(name, url)
    if status == 404 or isinstance(error, FileNotFoundError):
        return MissingObjectError(f"{asked} is not there (404). {_where(url, code[1] if code else '')}")
    if status in (401, 403):
        return DataError(f"{asked} is refused ({told}). {_DENIED['https' if not url.in_bucket else url.scheme]}")
    if status == 416:
        return DataError(f"{name} is empty (0 bytes), or shorter than when it was opened: {url}; upload it again.")
    if type(error).__name__ == "NotSupportedError":
        return no_ranges(name, url)
    if "BareRedirect" in text or status in (301, 307, 308):
        return DataError(f"{asked} is in another region; set data.remote.region, or AWS_REGION, to the bucket's.")
    if status is not None:
        words = _STATUS_WORDS.get(status)
        tried = f" {retries + 1} times" if status >= 429 else ""
        meaning = f", {words}," if words else ""
        return DataError(f"{asked} was answered{tried} with status {told}{meaning} by the server; {_ADVICE}")
    return DataError(f"{asked} {_broken(text, url, retries=retries, timeout=timeout)}")


_CHECK = "Check the address, data.remote.endpoint and the network."
_ADVICE = "check its state and the address, and try again later, or with a larger data.remote.retries."


def is_other_range(error: Exception) -> bool:
    """Return whether an error of obstore is that bytes of another range came than were asked for."""
    return "UnexpectedRange" in str(error)


def was_changed(name: str, url: RemoteUrl) -> DataError:
    """Return the error for a file that is another one than when it was opened."""
    return DataError(
        f"{name} was changed while it was being read: {url} has another ETag, size or time than when it was opened. "
        "Start again, and leave the file as it is."
    )


def no_ranges(name: str, url: RemoteUrl) -> DataError:
    """Return the error for a server that gives whole files only."""
    return DataError(
        f"{name} cannot be read in parts: the server of {url} gives whole files only, and no ranges of bytes. "
        "Download it, or put it on a server or into a bucket that supports ranges."
    )


def _where(url: RemoteUrl, code: str) -> str:
    if code == "NoSuchBucket":
        return f"There is no bucket '{url.host}'; check its name, and data.remote.endpoint if it is not Amazon's."
    return f"Check {'the bucket and ' if url.in_bucket else ''}the path."


def _broken(text: str, url: RemoteUrl, *, retries: int, timeout: float) -> str:
    """Return the end of the message for a request without an answer."""
    if "dns error" in text:
        server = "the server" if url.in_bucket else f"'{url.host}'"
        return f"cannot be reached: the name of {server} is not known. {_CHECK}"
    if "TimedOut" in text or "timed out" in text:
        return (
            f"gave no answer within {timeout:g} s, asked {retries + 1} times; check the network, or raise "
            "data.remote.timeout."
        )
    if "kind: Connect," in text:
        return (
            "cannot be reached: no connection to the server. Check the address, data.remote.endpoint and the network."
        )
    if "kind: Interrupted" in text or "kind: Body" in text or "kind: Decode" in text:
        return (
            f"broke off {retries + 1} times before all bytes had come; check the network, and try again later, or with "
            "a larger data.remote.retries."
        )
    return "failed in a way that is not known; check the address, the credentials and the network."
