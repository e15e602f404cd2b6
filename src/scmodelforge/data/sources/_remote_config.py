"""Settings of files that lie on another machine: ``data.remote``."""

from __future__ import annotations

import re

from pydantic import Field, field_validator

from scmodelforge.config.schema import Section
from scmodelforge.data._byte_sizes import parse_bytes

__all__ = ["RemoteConfig"]

_SMALLEST_CACHE = 64 << 20


class RemoteConfig(Section):
    """How files of ``s3://``, ``gs://`` and ``https://`` are read. Credentials are never settings.

    They come from where the tools of each service look: the environment (``AWS_ACCESS_KEY_ID``, ...;
    ``GOOGLE_APPLICATION_CREDENTIALS``), the profile ``AWS_PROFILE`` in ``~/.aws``, or the machine's own role.
    """

    cache: str | None = None
    """Folder in which parts that were read are kept for the next pass or run; ``None`` keeps none."""
    cache_size: int | str = "20GB"
    """Most bytes of the cache, as a number or as text such as ``500MB``, ``20GB`` or ``1TiB``; the parts used longest
    ago go first."""
    max_in_flight: int = Field(32, gt=0, le=256)
    """Requests under way at a time, over all threads of a process."""
    retries: int = Field(6, ge=0, le=100)
    """How often a request that failed for a passing reason is sent again, after ever longer pauses."""
    timeout: float = Field(60.0, gt=0)
    """Seconds that a request may take; it is sent again then."""
    anonymous: bool = False
    """Send no credentials, as public buckets need that are read without an account."""
    endpoint: str | None = None
    """Server for ``s3://`` (else ``AWS_ENDPOINT_URL``) and ``gs://`` instead of Amazon's and Google's."""
    region: str | None = None
    """Region of the ``s3://`` buckets; ``None`` is ``AWS_REGION``, the profile's, or us-east-1."""

    @property
    def cache_bytes(self) -> int:
        """``cache_size`` in bytes."""
        return parse_bytes(self.cache_size)

    @field_validator("cache_size")
    @classmethod
    def _size_is_known(cls, size: int | str) -> int | str:
        if parse_bytes(size) < _SMALLEST_CACHE:
            msg = f"'{size}' is less than 64MiB, which is the smallest cache"
            raise ValueError(msg)
        return size

    @field_validator("endpoint")
    @classmethod
    def _endpoint_is_a_url(cls, endpoint: str | None) -> str | None:
        if endpoint is not None and not re.fullmatch(r"https?://[^/@?#\s]+(/[^@?#\s]*)?", endpoint):
            msg = "the server's address is needed, such as https://s3.example.org:9000, without name and password"
            raise ValueError(msg)
        return endpoint
