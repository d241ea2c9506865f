"""The bearer token: where it comes from, and when it is read again."""

import re

from .errors import LOG, TokenError

LARGEST_CHARACTERS = 1 << 16  # the server takes no more than 64 KiB of headers


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
        except Exception as error:  # It is the caller's function: a stream or a lease must survive whatever it raises.
            raise TokenError(f"the token function failed: {error!r}") from error

    def has_changed(self, used):
        """Whether there is another token than the one that was refused."""
        if self._path is not None:
            try:
                self._cached = self._read_file()
            except TokenError as error:
                # The kubelet may be writing it. The former one stays, and the next 401 leads here again.
                LOG.warning("%s", error)
        return self.current() != used

    def _read_file(self):
        try:
            with open(self._path, encoding="utf-8") as file:
                token = file.read(LARGEST_CHARACTERS)
        except (OSError, UnicodeError) as error:
            raise TokenError(f"the token file {self._path} cannot be read: {error!r}") from error
        if not token.strip():
            raise TokenError(f"the token file {self._path} is empty")
        return _checked(token, f"token file {self._path}")


def _checked(token, what):
    if token is not None and not isinstance(token, str):
        raise TokenError(f"the {what} is no string")
    token = (token or "").strip()
    # The message does not quote the token: it is a secret.
    if re.search("[^\x21-\x7e]", token):
        raise TokenError(f"the {what} has characters that no header may have")
    return token
