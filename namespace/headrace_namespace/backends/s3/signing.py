"""Who we are to S3: the one file that knows botocore.

botocore finds credentials wherever AWS's own tools do (profile, role, SSO, container, instance,
and the process's own AWS_* variables), renews them, signs requests and knows AWS's hosts. Importing
it takes 150 ms, so this file is imported with the first request and not at all for other stores.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import Protocol

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, ReadOnlyCredentials, SharedCredentialProvider
from botocore.exceptions import BotoCoreError, HTTPClientError, ProfileNotFound
from botocore.regions import EndpointResolver
from botocore.session import Session

from headrace_namespace.backends.s3.options import S3Options
from headrace_namespace.endpoint import Endpoint
from headrace_namespace.errors import ConfigError, CredentialsRefused, StoreUnavailable

_NONE_HINT = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or give profile, key_env "
    "with secret_env, or credentials_file in the mount's options, or anon = true for a public "
    "bucket"
)

#: Whether this thread is signing a request of ours.
_SIGNING = threading.local()


def _not_ours(record: logging.LogRecord) -> bool:
    return not getattr(_SIGNING, "now", False)


# botocore logs each request that it signs, at DEBUG, with the object's name in it: policy may keep
# that name off every disk, and a log is one. Other users of botocore in the process keep theirs.
logging.getLogger("botocore.auth").addFilter(_not_ours)


class _Auth(S3SigV4Auth):
    """Signs for a payload that is known by its hash, so that it need not be at hand."""

    def __init__(self, credentials: ReadOnlyCredentials, region: str, payload_hash: str) -> None:
        super().__init__(credentials, "s3", region)
        self._payload_hash = payload_hash

    def payload(self, request: AWSRequest) -> str:
        return self._payload_hash


class _HasFrozen(Protocol):
    def get_frozen_credentials(self) -> ReadOnlyCredentials: ...


class Signer:
    """Signs requests as the options say, with credentials that renew themselves. Thread-safe."""

    def __init__(self, options: S3Options) -> None:
        self._options = options
        self._session = Session(profile=options.profile)
        self._lock = threading.Lock()
        self._credentials: _HasFrozen | None = None
        if options.endpoint is None:
            self._refuse_configured_endpoint()

    def region(self) -> str:
        """The region to begin with: from the options, the profile, else us-east-1."""
        if self._options.region is not None:
            return self._options.region
        if self._options.keys is not None or self._options.credentials_file is not None:
            return "us-east-1"
        try:
            return str(self._session.get_config_variable("region") or "us-east-1")
        except ProfileNotFound as error:
            raise self._unknown_profile(error) from error

    def endpoint(self, region: str) -> Endpoint:
        """AWS's own endpoint in a region."""
        resolver = EndpointResolver(self._session.get_data("endpoints"))
        found = resolver.construct_endpoint("s3", region)
        if not found:
            raise ConfigError(f"AWS has no region {region!r}", hint="set endpoint_url or region")
        return Endpoint("https", found["hostname"], 443)

    def signed(
        self, method: str, url: str, headers: Mapping[str, str], region: str, payload_hash: str
    ) -> dict[str, str]:
        """The headers that make a request ours; none where the mount is anonymous.

        Of `headers` only the host, Content-MD5 and the x-amz headers are signed, as S3 demands:
        gateways on the way may change others. `payload_hash` is the body's SHA-256 in hex, or
        UNSIGNED-PAYLOAD. Raises CredentialsRefused where there are no credentials.
        """
        if self._options.anon:
            return {}
        to_sign = {name: text for name, text in headers.items() if _is_signed(name)}
        request = AWSRequest(method=method, url=url, headers=to_sign)
        credentials = self._frozen()
        _SIGNING.now = True
        try:
            _Auth(credentials, region, payload_hash).add_auth(request)
        finally:
            _SIGNING.now = False
        return {name: value for name, value in request.headers.items() if name not in to_sign}

    def _frozen(self) -> ReadOnlyCredentials:
        try:
            with self._lock:
                if self._credentials is None:
                    self._credentials = self._find()
            return self._credentials.get_frozen_credentials()
        except HTTPClientError as error:
            raise StoreUnavailable(f"the credentials could not be fetched: {error}") from error
        except ProfileNotFound as error:
            raise self._unknown_profile(error) from error
        except BotoCoreError as error:
            raise CredentialsRefused(f"no credentials: {error}", hint=_NONE_HINT) from error

    def _find(self) -> _HasFrozen:
        options = self._options
        found: _HasFrozen | None
        if options.keys is not None:
            return Credentials(options.keys.key, options.keys.secret, options.keys.token)
        if options.credentials_file is not None:
            profile = options.profile or "default"
            found = SharedCredentialProvider(options.credentials_file, profile).load()
            if found is None:
                raise CredentialsRefused(
                    f"{options.credentials_file} has no credentials for the profile {profile!r}"
                )
            return found
        found = self._session.get_credentials()
        if found is None:
            raise CredentialsRefused("no credentials were found", hint=_NONE_HINT)
        return found

    def _refuse_configured_endpoint(self) -> None:
        """A profile may name an endpoint; going to AWS instead would be the wrong store."""
        if self._options.keys is not None or self._options.credentials_file is not None:
            return
        try:
            url = self._session.get_scoped_config().get("endpoint_url")
        except ProfileNotFound as error:
            raise self._unknown_profile(error) from error
        if url:
            raise ConfigError(
                f"{self._options.profile_place}: the AWS profile names an endpoint_url, which "
                "would be part of the store's name",
                hint=f'write endpoint_url = "{url}" in the mount\'s options',
            )

    def _unknown_profile(self, error: ProfileNotFound) -> ConfigError:
        return ConfigError(
            f"{self._options.profile_place}: {error}",
            hint="`aws configure list-profiles` shows those that there are; AWS_PROFILE may name "
            "one too",
        )


def _is_signed(name: str) -> bool:
    lower = name.lower()
    return lower in ("host", "content-md5") or lower.startswith("x-amz-")
