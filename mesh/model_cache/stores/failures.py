"""Errors of obstore as errors of a store, without a letter of what could be a secret.

Its errors quote the request's URL and the server's whole reply. S3 replies with the access key, the string that was
signed and the signature; a signed URL of Azure is a credential by itself. So only three things are taken out of them:
the HTTP status, the service's error code, and one of a few known causes.
"""

import re

from obstore.exceptions import (
    BaseError,
    InvalidPathError,
    PermissionDeniedError,
    UnauthenticatedError,
)

from mesh.model_cache.stores.store import StoreCorrupt, StoreCredentials, StoreError, StoreMissing, StoreTransient

_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})\b")
_CODE = re.compile(r"<Code>([A-Za-z]{1,40})</Code>")
_CAUSES = (
    ("Connection refused", "the connection is refused"),
    ("dns error", "its host name is not known"),
    ("certificate", "its certificate is not trusted"),
    ("kind: Timeout", "it gives no answer in time"),
    ("kind: Connect", "no connection can be made"),
)
# Where obstore asks for credentials before it can ask for the object: the metadata services of the clouds and STS.
_TOKENS = re.compile(r"TokenRequest|token request|169\.254\.\d|fd00:ec2|AssumeRole|/latest/(?:api|meta-data)")
# What obstore says of a service account of Google that it cannot read, before it has asked anybody.
_UNREADABLE = re.compile(r"GCP credential error|service account file|Error reading pem")
_BAD_CREDENTIALS = {
    "ExpiredToken",
    "InvalidToken",
    "TokenRefreshRequired",
    "AuthorizationHeaderMalformed",
    "AuthorizationQueryParametersError",
}


def failure(store: str, error: BaseError) -> StoreError:
    """The StoreError for an error of obstore; `store` is the URL of the settings."""
    text = str(error)
    found, coded = _STATUS.search(text), _CODE.search(text)
    status = int(found[1]) if found else 0
    code = coded[1] if coded else ""
    said = " ".join(part for part in (str(status or ""), code) if part)
    if isinstance(error, InvalidPathError):
        return StoreCorrupt(f"{store} lists a name that cannot be a file (an empty part, `..` or a control character).")
    if _TOKENS.search(text):
        return StoreCredentials(f"{store} needs credentials, and neither environment nor platform gives any.")
    if not status and _UNREADABLE.search(text):
        return StoreCredentials(f"{store} needs credentials, and those that the environment names cannot be read.")
    refused = isinstance(error, PermissionDeniedError | UnauthenticatedError) or status in (401, 403)
    if refused or code in _BAD_CREDENTIALS:
        return StoreCredentials(f"{store} refuses our credentials ({said or 'no reason given'}).")
    if status == 404:
        return StoreMissing(f"{store} does not exist ({said}).")
    if status and status < 500 and status not in (408, 429):
        return StoreError(f"{store} refuses the request ({said}).")
    if status:
        return StoreTransient(f"{store} is in trouble ({said}).")
    cause = next((words for sign, words in _CAUSES if sign in text), "the connection broke or the reply makes no sense")
    return StoreTransient(f"{store} cannot be read: {cause}.")
