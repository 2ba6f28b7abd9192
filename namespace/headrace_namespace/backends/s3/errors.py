"""What S3 means by its error answers, as one table.

A `Fault` is the answer as it came; `Fault.error` says it in headrace's words. Stores that only
look like S3, and what stands in front of them, are told apart by whether they send S3's own XML.
"""

from __future__ import annotations

import http.client
import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from xml.etree import ElementTree

from headrace_namespace.backends.slow_down import SlowDown
from headrace_namespace.errors import (
    AccessRefused,
    ClockSkewed,
    CredentialsRefused,
    HeadraceError,
    NameTooLong,
    NotFound,
    ReadOnly,
    StoreAnswerWrong,
    StoreFull,
    StoreMissing,
    StoreTimeout,
    StoreUnavailable,
)

#: S3's error documents have about 500 bytes; a page of HTML is not read further.
MOST_BODY_BYTES = 16 << 10

#: Code -> kind, sentence, hint. The sentences know `bucket` and `endpoint`.
_TABLE: dict[str, tuple[type[HeadraceError], str, str | None]] = {
    "NoSuchBucket": (
        StoreMissing,
        "the bucket {bucket!r} does not exist at {endpoint}",
        "check the mount's url, endpoint_url and region",
    ),
    "InvalidBucketName": (
        StoreMissing,
        "{endpoint} can have no bucket of the name {bucket!r}",
        "check the mount's url",
    ),
    "NoSuchKey": (NotFound, "the object does not exist", None),
    "NoSuchVersion": (NotFound, "this version of the object does not exist", None),
    "InvalidAccessKeyId": (
        CredentialsRefused,
        "{endpoint} does not know the access key",
        "check key_env, profile, credentials_file or AWS_ACCESS_KEY_ID, whichever you use, and "
        "that it belongs to this store",
    ),
    "SignatureDoesNotMatch": (
        CredentialsRefused,
        "{endpoint} says that the secret key does not fit the access key",
        "check secret_env, profile, credentials_file or AWS_SECRET_ACCESS_KEY, whichever you use",
    ),
    "ExpiredToken": (
        CredentialsRefused,
        "the session token has expired",
        "log in again, or renew what token_env names",
    ),
    "InvalidToken": (
        CredentialsRefused,
        "{endpoint} does not accept the session token",
        "key, secret and token must come from one log-in",
    ),
    "AccessDenied": (
        AccessRefused,
        "{endpoint} refuses access to the bucket {bucket!r}",
        "these credentials need {needs} there",
    ),
    "InvalidObjectState": (
        AccessRefused,
        "the object lies in an archive from which it cannot be read",
        "restore it first",
    ),
    "MethodNotAllowed": (
        ReadOnly,
        "{endpoint} lets nobody write this",
        "write to the store that it is a copy of",
    ),
    "EntityTooLarge": (StoreFull, "the object is larger than {endpoint} allows", None),
    "QuotaExceeded": (
        StoreFull,
        "the bucket {bucket!r} has no room left within its quota",
        "delete something, or ask for a larger quota",
    ),
    "NoSuchUpload": (
        StoreAnswerWrong,
        "{endpoint} has given up the upload before it was whole",
        "begin it again; a lifecycle rule of the bucket may end uploads too early",
    ),
    # Damaged on its way: what is sent again may arrive whole.
    "BadDigest": (StoreUnavailable, "what arrived at {endpoint} is not what was sent", None),
    "KeyTooLongError": (NameTooLong, "the key is longer than {endpoint} allows", None),
    "KeyTooLong": (NameTooLong, "the key is longer than {endpoint} allows", None),
    "SlowDown": (SlowDown, "{endpoint} asks for fewer requests", None),
    "TooManyRequests": (SlowDown, "{endpoint} asks for fewer requests", None),
    "ServiceUnavailable": (SlowDown, "{endpoint} is busy", None),
    "InternalError": (StoreUnavailable, "{endpoint} failed on its own side", None),
    "OperationAborted": (StoreUnavailable, "{endpoint} gave up the request", None),
    "RequestTimeout": (StoreTimeout, "{endpoint} waited too long for the request", None),
}
_SAME_AS = {
    "TokenRefreshRequired": "ExpiredToken",
    "RequestExpired": "ExpiredToken",
    "AllAccessDisabled": "AccessDenied",
    "AccountProblem": "AccessDenied",
    "XAmzContentSHA256Mismatch": "BadDigest",
    "XMinioStorageFull": "QuotaExceeded",
    "EntityTooLargeError": "EntityTooLarge",
    "RequestLimitExceeded": "SlowDown",
    "Throttling": "SlowDown",
}
#: What a status says where no code came with it.
_BY_STATUS = {
    401: "InvalidAccessKeyId",
    403: "AccessDenied",
    404: "NoSuchKey",
    408: "RequestTimeout",
    429: "SlowDown",
    500: "InternalError",
    502: "InternalError",
    503: "ServiceUnavailable",
    504: "RequestTimeout",
    413: "EntityTooLarge",
    507: "QuotaExceeded",
}
#: These say that the bucket lies in another region than the request was signed for.
_MOVED = ("AuthorizationHeaderMalformed", "PermanentRedirect", "TemporaryRedirect")
#: The permissions that each kind of request takes.
READS, WRITES, DELETES = "s3:GetObject and s3:ListBucket", "s3:PutObject", "s3:DeleteObject"
_REGION = re.compile(r"[a-z0-9-]{1,64}")


@dataclass(eq=False)
class Fault(Exception):
    """An answer that is not a success. `code` is None where no S3 document came with it."""

    status: int
    code: str | None
    detail: str
    html: bool
    region: str | None
    date: str | None
    retry_after: str | None
    #: The permissions that the request takes.
    needs: str = READS

    def region_instead_of(self, region: str) -> str | None:
        """The region that the bucket lies in, where the answer says that it is another."""
        moved = self.status in (301, 307) or self.code in _MOVED
        if not moved or self.region is None or self.region == region:
            return None
        # It becomes a part of a host's name and of a signature.
        return self.region if _REGION.fullmatch(self.region) else None

    def error(self, *, bucket: str, endpoint: str, region: str, now: float) -> HeadraceError:
        """The error that a user can act on; `now` is this machine's time."""
        if self.code == "RequestTimeTooSkewed":
            return ClockSkewed(
                f"{endpoint} refuses this machine's signatures: {self._skew(now)}",
                hint="set the clock right, by NTP for example",
            )
        if self.code in _MOVED or self.status in (301, 307):
            return self._moved(bucket, endpoint, region)
        code = _SAME_AS.get(self.code or "", self.code)
        if code not in _TABLE:
            # A page of HTML with "404" says that this is no S3, not that the object is missing.
            code = None if self.html and self.status == 404 else _BY_STATUS.get(self.status)
        if code is None and self.status == 405:
            code = "MethodNotAllowed"
        if code == "MethodNotAllowed" and self.needs == READS:
            code = None
        if code is None:
            return StoreAnswerWrong(
                f"{endpoint} answered {self._said()}, which means nothing to an S3 client",
                hint="check that endpoint_url leads to an S3 store" if self.code is None else None,
            )
        kind, sentence, hint = _TABLE[code]
        text = sentence.format(bucket=bucket, endpoint=endpoint)
        hint = hint.format(needs=self.needs) if hint is not None else None
        if code != self.code or kind in (StoreUnavailable, SlowDown):
            text += f" (it answered {self._said()})"
        if kind is SlowDown:
            return SlowDown(text, hint=hint, wait_seconds=self._wait_seconds(now))
        return kind(text, hint=hint)

    def _moved(self, bucket: str, endpoint: str, region: str) -> HeadraceError:
        where = f"in the region {self.region!r}" if self.region else "in another region"
        return AccessRefused(
            f"the bucket {bucket!r} lies {where}, {endpoint} was asked for {region!r}",
            hint=f'set region = "{self.region or "..."}" and leave endpoint_url to it',
        )

    def _said(self) -> str:
        kind = "a page of HTML" if self.html else self.code
        return " ".join(filter(None, [str(self.status), kind, self.detail]))

    def _skew(self, now: float) -> str:
        try:
            theirs = parsedate_to_datetime(self.date or "").timestamp()
        except ValueError:
            return "the clocks differ too much"
        ahead = "ahead of" if now > theirs else "behind"
        return f"its clock is {abs(now - theirs):.0f} s {ahead} the store's"

    def _wait_seconds(self, now: float) -> float:
        text = (self.retry_after or "").strip()
        if text.isdigit():
            return float(text[:9])
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except ValueError:
            return 0.0


def read_fault(response: http.client.HTTPResponse) -> Fault:
    """The fault in an answer, whose body is read as far as it matters."""
    body = response.read(MOST_BODY_BYTES)
    fields: dict[str, str] = {}
    # An entity cannot do harm in so few bytes, and S3's documents have none.
    if b"<!DOCTYPE" not in body and body.strip():
        try:
            root = ElementTree.fromstring(body)
            if _local(root.tag) == "Error":
                fields = {_local(child.tag): child.text or "" for child in root}
        except ElementTree.ParseError:
            fields = {}
    headers = response.headers
    html = body.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))
    return Fault(
        status=response.status,
        code=fields.get("Code") or None,
        detail=fields.get("Message", ""),
        html=html,
        region=headers.get("x-amz-bucket-region") or fields.get("Region") or None,
        date=headers.get("Date"),
        retry_after=headers.get("Retry-After"),
    )


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]
