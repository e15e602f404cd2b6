"""What opens buckets and servers, with the credentials of the usual places.

The environment and the machine's own role are read by obstore. It does not read the profiles that ``aws configure``
writes, so that is done here: keys as they stand, and ways to sign in (roles, single sign-on, commands) with boto3.
"""

from __future__ import annotations

import os
from configparser import Error as IniError
from configparser import RawConfigParser
from datetime import timedelta
from pathlib import Path
from typing import Any

from scmodelforge._errors import DataError
from scmodelforge._optional import require
from scmodelforge.data.sources._remote_config import RemoteConfig
from scmodelforge.data.sources._url import RemoteUrl

__all__ = ["open_store"]

_CONNECT_SECONDS = 10.0
#: With one of these, obstore signs in by itself.
_AWS_SIGN_IN = (
    "AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)  # fmt: skip
#: Entries of a profile that say how to sign in, beside the keys themselves.
_WAYS_IN = ("role_arn", "sso_session", "sso_start_url", "credential_process", "source_profile", "login_session")


def open_store(url: RemoteUrl, settings: RemoteConfig, *, prefix: str | None = None) -> Any:
    """Return the object of obstore that reads a file's bucket, or the file itself if it lies on a plain server.

    Parameters
    ----------
    url
        The file's address.
    settings
        The settings.
    prefix
        Folder in the bucket that paths begin from.

    Raises
    ------
    DataError
        If the credentials' files are not readable or name no way to sign in.
    ImportError
        If obstore is not installed.
    """
    store = require("obstore", extra="cloud", why="Reading remote files").store
    common = {"client_options": _client(settings, url), "retry_config": _retries(settings)}
    if url.scheme == "s3":
        return store.S3Store(url.host, prefix=prefix, **_s3(settings, url), **common)
    if url.scheme == "gs":
        return store.GCSStore(url.host, prefix=prefix, **_gcs(settings), **common)
    return store.HTTPStore.from_url(url.url, **common)


def _client(settings: RemoteConfig, url: RemoteUrl) -> dict[str, Any]:
    return {
        "allow_http": url.in_bucket or url.scheme == "http",  # of a bucket the endpoint says whether it is http
        "connect_timeout": timedelta(seconds=min(_CONNECT_SECONDS, settings.timeout)),
        "timeout": timedelta(seconds=settings.timeout),
    }


def _retries(settings: RemoteConfig) -> dict[str, Any]:
    pauses = {"init_backoff": timedelta(milliseconds=100), "max_backoff": timedelta(seconds=15), "base": 2}
    # a request is signed once; a signature lasts for five minutes
    return {"max_retries": settings.retries, "retry_timeout": timedelta(minutes=4), "backoff": pauses}


def _gcs(settings: RemoteConfig) -> dict[str, Any]:
    options: dict[str, Any] = {"skip_signature": True} if settings.anonymous else {}
    return options if settings.endpoint is None else {**options, "base_url": settings.endpoint}


def _s3(settings: RemoteConfig, url: RemoteUrl) -> dict[str, Any]:
    name = os.environ.get("AWS_PROFILE") or os.environ.get("AWS_DEFAULT_PROFILE")
    profile = _profile(name or "default")
    if name and not profile and not settings.anonymous:
        msg = f"{url}: no profile '{name}' (AWS_PROFILE) in {' or '.join(map(str, _files()))}; correct the name."
        raise DataError(msg)
    options: dict[str, Any] = {}
    endpoint = settings.endpoint or (
        None if _is_set("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT") else profile.get("endpoint_url")
    )
    region = settings.region or (None if _is_set("AWS_REGION", "AWS_DEFAULT_REGION") else profile.get("region"))
    if endpoint:
        options["endpoint" if not _is_set("AWS_ENDPOINT_URL_S3") else "aws_endpoint_url_s3"] = endpoint
    if region:
        options["region"] = region
    if settings.anonymous:
        return {**options, "skip_signature": True}
    if _is_set(*_AWS_SIGN_IN) or os.environ.get("AWS_SKIP_SIGNATURE", "").lower() in ("1", "true"):
        return options
    return {**options, **_sign_in(name or "default", profile, url)}


def _sign_in(name: str, profile: dict[str, str], url: RemoteUrl) -> dict[str, Any]:
    keys = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
    if all(profile.get(key) for key in keys[:2]):
        return {key.removeprefix("aws_"): profile[key] for key in keys if profile.get(key)}
    way = next((way for way in _WAYS_IN if way in profile), None)
    if way is not None:
        return {"credential_provider": _boto3_provider(name, way, url)}
    if os.environ.get("AWS_EC2_METADATA_DISABLED", "").lower() == "true":
        raise DataError(no_credentials(url))
    return {}


def no_credentials(url: RemoteUrl) -> str:
    """Return the message for a bucket whose credentials are nowhere to be found."""
    if url.scheme == "gs":
        where = "set GOOGLE_APPLICATION_CREDENTIALS to a file of credentials, or sign in with gcloud"
    else:
        where = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE to a profile of ~/.aws"
    return f"{url}: no credentials were found; {where}. For a public bucket set data.remote.anonymous: true."


def _boto3_provider(name: str, way: str, url: RemoteUrl) -> Any:
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
        from obstore.auth.boto3 import Boto3CredentialProvider
    except ImportError as error:
        msg = f"{url}: profile '{name}' signs in by {way}, which needs boto3. Install it with: pip install boto3"
        raise DataError(msg) from error
    try:
        return Boto3CredentialProvider(boto3.Session(profile_name=name))
    except (BotoCoreError, ValueError) as error:
        kind = type(error).__name__
    msg = f"{url}: profile '{name}' does not sign in by {way} ({kind}); try: aws sts get-caller-identity"
    raise DataError(msg)


def _profile(name: str) -> dict[str, str]:
    """Return the entries of a profile; those of the file of credentials win."""
    found: dict[str, str] = {}
    credentials, config = _files()
    for path, section in ((config, name if name == "default" else f"profile {name}"), (credentials, name)):
        parser = RawConfigParser(strict=False)
        try:
            parser.read(path, encoding="utf-8")
        except (IniError, UnicodeDecodeError, OSError) as error:
            reason = type(error).__name__  # the error's words may quote a key
        else:
            found.update(parser[section] if parser.has_section(section) else {})
            continue
        msg = f"{path} cannot be read ({reason}); sections such as [default] with lines 'name = value' are needed."
        raise DataError(msg)
    return found


def _files() -> tuple[Path, Path]:
    """Return the files with credentials and with all else."""
    folder = Path.home() / ".aws"
    return (
        Path(os.environ.get("AWS_SHARED_CREDENTIALS_FILE") or folder / "credentials").expanduser(),
        Path(os.environ.get("AWS_CONFIG_FILE") or folder / "config").expanduser(),
    )


def _is_set(*names: str) -> bool:
    return any(os.environ.get(name) for name in names)
