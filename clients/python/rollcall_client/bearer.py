"""The bearer token: its source, and when it is read again."""

import re

from .errors import LOG, TokenError

MAX_CHARACTERS = 1 << 16  # the server accepts at most 64 KiB of headers


class BearerToken:
    """A string, a function that returns the current one, or a file, which is read again after a 401."""

    def __init__(self, token, path):
        if token is not None and path is not None:
            raise ValueError("give either token or token_file")
        self._source, self._path, self._cached = token, path, None

    def current(self):
        if self._path is None:
            return _checked(self._call_source() if callable(self._source) else self._source, "token")
        if self._cached is None:
            self._cached = self._read_file()
        return self._cached

    def _call_source(self):
        try:
            return self._source()
        except Exception as error:  # The caller's function can raise anything, and a stream or a lease must continue.
            raise TokenError(f"the token function failed: {error!r}") from error

    def has_changed(self, used):
        """Reads the token again, and returns whether it differs from the refused one."""
        if self._path is not None:
            try:
                self._cached = self._read_file()
            except TokenError as error:
                # The kubelet may be writing the file. The former token stays in use until the next 401.
                LOG.warning("%s", error)
        return self.current() != used

    def _read_file(self):
        try:
            with open(self._path, encoding="utf-8") as file:
                token = file.read(MAX_CHARACTERS)
        except (OSError, UnicodeError) as error:
            raise TokenError(f"the token file {self._path} cannot be read: {error!r}") from error
        if not token.strip():
            raise TokenError(f"the token file {self._path} is empty")
        return _checked(token, f"token file {self._path}")


def _checked(token, what):
    if token is not None and not isinstance(token, str):
        raise TokenError(f"the {what} is not a string")
    token = (token or "").strip()
    # The message does not quote the token, because it is a secret.
    if re.search("[^\x21-\x7e]", token):
        raise TokenError(f"the {what} has characters that are not allowed in a header")
    return token
