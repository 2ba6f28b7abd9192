"""How a bucket and a key of S3 become a host and a request line. Pure: asks nobody."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote

from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import InvalidPath, NameTooLong

Style = Literal["auto", "path", "virtual"]

#: S3's own limit, in UTF-8.
MAX_KEY_BYTES = 1024

_DNS_NAME = re.compile(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]")
_AWS_HOST = re.compile(r"s3[.-](?:.*\.)?amazonaws\.com(?P<china>\.cn)?")


def store_host(endpoint: Endpoint | None, region: str | None) -> str:
    """What names the store in identities; without an endpoint it is AWS, by its partition: AWS has
    many hosts for one set of buckets."""
    if endpoint is None:
        return "aws-cn" if region is not None and region.startswith("cn-") else "aws"
    aws = _AWS_HOST.fullmatch(endpoint.host)
    if aws is not None:
        return "aws-cn" if aws["china"] else "aws"
    return endpoint.authority + endpoint.base


@dataclass(frozen=True, slots=True)
class BucketAddress:
    """Where the requests for one bucket go: the endpoint with its host, and the path to keys."""

    endpoint: Endpoint
    base: str

    def target(self, key: str, query: Mapping[str, str]) -> str:
        """The request line's target; the empty key is the bucket itself."""
        path = f"{self.base}/{quote_key(key)}" if key else self.base or "/"
        return f"{path}?{quote_query(query)}" if query else path


def bucket_address(endpoint: Endpoint, bucket: str, style: Style, *, custom: bool) -> BucketAddress:
    """The address of `bucket`. `auto` is `path` for a custom endpoint or a name that no host has.

    A dot in a bucket's name counts as such: no certificate fits such a host.
    """
    if style == "auto":
        style = "path" if custom or not _DNS_NAME.fullmatch(bucket) else "virtual"
    if style == "path":
        return BucketAddress(endpoint, f"{endpoint.base}/{quote(bucket, safe='')}")
    virtual = Endpoint(endpoint.scheme, f"{bucket}.{endpoint.host}", endpoint.port, endpoint.base)
    return BucketAddress(virtual, endpoint.base)


def check_key(key: str) -> None:
    """Raise InvalidPath or NameTooLong where no bucket can hold `key`."""
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        raise InvalidPath("the name is not UTF-8, which S3 demands of every key") from None
    if size > MAX_KEY_BYTES:
        raise NameTooLong(f"the key has {size} bytes, and S3 allows {MAX_KEY_BYTES}")


def quote_key(key: str) -> str:
    """A key in a URL, every byte escaped that the signature escapes, so that both agree."""
    return quote(key, safe="/-_.~")


def quote_query(query: Mapping[str, str]) -> str:
    """A query string in the order and spelling of the signature."""
    return "&".join(f"{quote(k, safe='')}={quote(query[k], safe='')}" for k in sorted(query))
