"""An archive in an S3 bucket, or in a store that speaks S3.

Promises: `put_if_absent` is PutObject with `If-None-Match: *` (S3 User Guide, "How to prevent object overwrites with
conditional writes"); each call ends within bounded time (connect 5 s, read 30 s, three attempts); errors name the
bucket and the key, and never show credentials or the server's own message, which may repeat a key id.

boto3 repeats a conditional PUT whose answer was lost and then reports 412 for its own success: ObjectExists may mean
this caller's own object. The log settles that by reading back.
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from boto3.exceptions import Boto3Error, RetriesExceededError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
    ProfileNotFound,
    ResponseStreamingError,
)
from botocore.exceptions import ConnectionError as EndpointError

from recovery.archive.store import HeldBack, ObjectInfo, check_key
from recovery.config import S3Settings
from recovery.errors import (
    ConfigError,
    ObjectArchived,
    ObjectExists,
    ObjectNotFound,
    RowbackError,
    StoreError,
    StoreFull,
    StoreNotConditional,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from mypy_boto3_s3.client import S3Client

CONNECT_TIMEOUT_S = 5
READ_TIMEOUT_S = 30
ATTEMPTS = 3
_PART_BYTES = 16 * 1024 * 1024
_TRANSFER = TransferConfig(multipart_threshold=_PART_BYTES, multipart_chunksize=_PART_BYTES, max_concurrency=4)

# Error codes: Amazon S3 API Reference, "Error responses"; HEAD answers have no body, so their code is the status.
_NOT_FOUND = frozenset({"NoSuchKey", "404", "NotFound"})
_EXISTS = frozenset({"PreconditionFailed", "412"})
_FULL = frozenset({"QuotaExceeded", "InsufficientStorage", "XMinioStorageFull", "507"})
_PASSING = frozenset(
    {"ConditionalRequestConflict", "OperationAborted", "SlowDown", "RequestTimeout", "RequestTimeoutException",
     "InternalError", "ServiceUnavailable", "Throttling", "ThrottlingException", "TooManyRequests"}
)  # fmt: skip
# HeadObject's x-amz-storage-class and x-amz-archive-status. GLACIER_IR is read like any other.
_ARCHIVE_TIERS = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE_ACCESS", "DEEP_ARCHIVE_ACCESS"})
_HINTS = {
    "NoSuchBucket": "Create the bucket, or correct `root` under [archive] in rowback.toml.",
    "InvalidAccessKeyId": "The store doesn't know this access key: check AWS_ACCESS_KEY_ID or the profile.",
    "SignatureDoesNotMatch": "The secret key isn't the access key's: check AWS_SECRET_ACCESS_KEY or the profile.",
    "ExpiredToken": "The temporary credentials have expired: renew them.",
    "InvalidToken": "The session token isn't valid: check AWS_SESSION_TOKEN or renew the credentials.",
    "RequestTimeTooSkewed": "This machine's clock is wrong: set it, for example with NTP.",
    "PermanentRedirect": "The bucket is in another region: set `region` under [archive.s3].",
    "AuthorizationHeaderMalformed": "The bucket is in another region: set `region` under [archive.s3].",
    "KMS.NotFoundException": "The KMS key doesn't exist in the bucket's region: check `kms_key_id` under [archive.s3].",
    "KMS.DisabledException": "Enable the KMS key of `kms_key_id`.",
}
_CUT = (EndpointError, HTTPClientError, ResponseStreamingError, IncompleteReadError)
_DENIED_HINT = (
    "Allow the credentials in use s3:GetObject, s3:PutObject, s3:DeleteObject and s3:AbortMultipartUpload on the "
    "objects, s3:ListBucket on the bucket, and kms:GenerateDataKey and kms:Decrypt if a KMS key is set; for --thaw "
    "s3:RestoreObject."
)


class S3Store:
    """prefix: without slashes at its ends; "" is the whole bucket. Credentials come from boto3's usual chain."""

    def __init__(self, bucket: str, prefix: str, settings: S3Settings) -> None:
        self.bucket = bucket
        self.url = f"s3://{bucket}/{prefix}" if prefix else f"s3://{bucket}"
        self._prefix = f"{prefix}/" if prefix else ""
        self._settings = settings
        self._sse: dict[str, Any] = (
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": settings.kms_key_id} if settings.kms_key_id else {}
        )
        with self._errors("open", ""):
            self._client = _client(settings)

    def get(self, key: str) -> bytes:
        name = self._name(key)
        with self._errors("read", key):
            for attempt in range(1, ATTEMPTS + 1):
                try:
                    return self._client.get_object(Bucket=self.bucket, Key=name)["Body"].read()
                except _CUT:  # botocore retries the request, but not the reading of the body
                    if attempt == ATTEMPTS:
                        raise
                    time.sleep(0.2 * attempt)
        raise AssertionError("unreachable")

    def put(self, key: str, body: bytes) -> None:
        name = self._name(key)
        with self._errors("write", key):
            self._client.put_object(Bucket=self.bucket, Key=name, Body=body, **self._sse)

    def put_if_absent(self, key: str, body: bytes) -> None:
        name = self._name(key)
        with self._errors("write", key):
            self._client.put_object(Bucket=self.bucket, Key=name, Body=body, IfNoneMatch="*", **self._sse)

    def upload(self, key: str, path: Path) -> None:
        name = self._name(key)
        try:
            path.open("rb").close()
        except OSError as error:
            raise _local_error("read", path, error) from error
        with self._errors("write", key):
            self._client.upload_file(str(path), self.bucket, name, ExtraArgs=self._sse, Config=_TRANSFER)

    def download(self, key: str, path: Path) -> None:
        name = self._name(key)
        try:  # s3transfer writes to a temporary name beside `path`, renames at the end and cleans up after a failure
            with self._errors("read", key):
                self._client.download_file(self.bucket, name, str(path), Config=_TRANSFER)
        except OSError as error:
            raise _local_error("write", path, error) from error

    def stat(self, key: str) -> ObjectInfo | None:
        name = self._name(key)
        try:
            with self._errors("look up", key):
                head = self._client.head_object(Bucket=self.bucket, Key=name)
        except ObjectNotFound:
            return None
        return ObjectInfo(key, head["ContentLength"], head["LastModified"].astimezone(UTC))

    def list(self, prefix: str, start_after: str = "") -> Iterator[ObjectInfo]:
        after: dict[str, Any] = {"StartAfter": self._prefix + start_after} if start_after else {}
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket, Prefix=self._prefix + prefix, **after
        )
        with self._errors("list", prefix):
            for page in pages:
                for item in page.get("Contents", ()):
                    name = item["Key"]
                    if not name.endswith("/"):  # consoles create empty "folder" objects
                        key = name[len(self._prefix) :]
                        yield ObjectInfo(key, item["Size"], item["LastModified"].astimezone(UTC))

    def delete(self, key: str) -> None:
        name = self._name(key)
        with contextlib.suppress(ObjectNotFound), self._errors("delete", key):
            self._client.delete_object(Bucket=self.bucket, Key=name)

    def held_back(self, key: str) -> HeldBack | None:
        name = self._name(key)
        try:
            with self._errors("look up", key):
                head: Any = self._client.head_object(Bucket=self.bucket, Key=name)
        except ObjectNotFound:
            return None
        tier = head.get("ArchiveStatus") or head.get("StorageClass", "STANDARD")
        copy = head.get("Restore", "")
        if tier not in _ARCHIVE_TIERS or 'ongoing-request="false"' in copy:
            return None
        return HeldBack(key, tier, 'ongoing-request="true"' in copy)

    def thaw(self, key: str, days: int, tier: str) -> None:
        found = self.held_back(key)
        if found is None or found.asked:
            return
        how: Any = {"GlacierJobParameters": {"Tier": tier}}
        if found.tier in ("GLACIER", "DEEP_ARCHIVE"):  # Intelligent-Tiering moves the object itself and takes no Days
            how["Days"] = days
        with self._errors("ask for", key):
            try:
                self._client.restore_object(Bucket=self.bucket, Key=self._name(key), RestoreRequest=how)
            except ClientError as error:
                if error.response.get("Error", {}).get("Code") != "RestoreAlreadyInProgress":
                    raise

    def _name(self, key: str) -> str:
        return check_key(self._prefix + key) if key else check_key(key)

    @contextlib.contextmanager
    def _errors(self, verb: str, key: str) -> Iterator[None]:
        try:
            yield
        except RowbackError:
            raise
        except ClientError as error:
            raise self._answered(verb, key, error) from error
        except Boto3Error as error:  # upload_file wraps the ClientError
            cause = error.__cause__ or error.__context__
            raise (
                self._answered(verb, key, cause) if isinstance(cause, ClientError) else self._failed(verb, key, error)
            ) from error
        except BotoCoreError as error:
            raise self._failed(verb, key, error) from error

    def _answered(self, verb: str, key: str, error: ClientError) -> StoreError:
        """The error of an HTTP answer."""
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        what = f"can't {verb} `{key}` in `{self.url}`: the store answers `{code or status}`"
        if code in _NOT_FOUND:
            return ObjectNotFound(
                f"there is no object `{key}` in `{self.url}`", hint="Check the archive's root, tenant and server name."
            )
        if code in _EXISTS or status == 412:
            return ObjectExists(
                f"there is an object `{key}` in `{self.url}` already",
                hint="Another writer was faster: read it, and build on it.",
            )
        if code == "InvalidObjectState" and verb == "read":
            return ObjectArchived(
                f"object `{key}` in `{self.url}` lies in an archive tier and can't be read",
                hint="Ask for it with `rowback restore --thaw`, or with the store's own tools, and try again.",
            )
        if code in _FULL or status == 507:
            return StoreFull(what, hint="Free some space or raise the bucket's quota; nothing was lost.")
        if code == "NotImplemented" or status == 501:
            return StoreNotConditional(
                what, hint="Use a store that honours `If-None-Match: *` (Amazon S3, MinIO, Ceph RGW, R2)."
            )
        if code in _PASSING or status in (409, 429) or status >= 500:
            return StoreUnavailable(what, hint="The store is overloaded or out of order: try again later.")
        if code in _HINTS:
            return StoreError(what, hint=_HINTS[code])
        if status in (401, 403):
            return StoreError(what, hint=_DENIED_HINT)
        return StoreError(what, hint="Look the code up in the store's documentation, and check root and [archive.s3].")

    def _failed(self, verb: str, key: str, error: Exception) -> StoreError:
        """The error of a request that got no answer."""
        endpoint = re.sub(r"//[^/@]*@", "//", self._settings.endpoint_url or "")  # in case it holds a password
        place = f" of endpoint `{endpoint}`" if endpoint else ""
        what = f"can't {verb} `{key}` in `{self.url}`{place}" if key else f"can't {verb} `{self.url}`{place}"
        if isinstance(error, NoCredentialsError | PartialCredentialsError | CredentialRetrievalError | ProfileNotFound):
            return StoreError(
                f"{what}: there are no usable credentials",
                hint="Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, or run under a role.",
            )
        if isinstance(error, (*_CUT, RetriesExceededError)):  # unreachable, timed out, cut, TLS
            return StoreUnavailable(
                f"{what}: no whole answer ({type(error).__name__})",
                hint="Check the network, `endpoint_url` and `region` under [archive.s3], then try again.",
            )
        return StoreError(f"{what}: {type(error).__name__}", hint="Check root and the settings under [archive.s3].")


def _client(settings: S3Settings) -> S3Client:
    endpoint = settings.endpoint_url
    config = Config(
        connect_timeout=CONNECT_TIMEOUT_S,
        read_timeout=READ_TIMEOUT_S,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=32,
        # Compatible stores seldom have a DNS name per bucket, and many don't know the newer trailing checksums.
        s3={"addressing_style": "path" if endpoint else "auto"},
        request_checksum_calculation="when_required" if endpoint else "when_supported",
        response_checksum_validation="when_required" if endpoint else "when_supported",
    )
    try:
        session = boto3.session.Session()
        region = settings.region or session.region_name or ("us-east-1" if endpoint else None)
        return session.client("s3", region_name=region, endpoint_url=endpoint, config=config)
    except ValueError as error:
        raise ConfigError(
            "`endpoint_url` is not an endpoint's address",
            hint="Set `endpoint_url` under [archive.s3] to something like `https://minio.example:9000`.",
        ) from error


def _local_error(verb: str, path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"can't {verb} the local file `{path}`: {(error.strerror or str(error)).lower()}",
        hint="Check the folder's free space and permissions.",
    )
