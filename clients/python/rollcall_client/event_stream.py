"""The format of Server-Sent Events. `answers` parses their content."""

import collections
import re

Block = collections.namedtuple("Block", "event data id")  # data and id are None if the block has none


class EventParser:
    """Parses text/event-stream by the rules of WHATWG HTML, section 9.2.6. `retry`, in milliseconds, takes effect when it is
    read. All other fields take effect at the empty line that ends their block, so an incomplete block has no effect."""

    def __init__(self):
        self.retry = None
        self.pending_bytes = 0  # of the incomplete block
        self._pieces, self._is_first, self._is_after_cr = [], True, False
        self._event, self._data, self._id = "", [], None

    def feed(self, piece):
        """Yields the blocks that end in these bytes and have data or an id."""
        for line in self._lines(piece):
            if line:
                self._take_field(line)
                continue
            block = Block(self._event or "message", "\n".join(self._data) if self._data else None, self._id)
            self._event, self._data, self._id, self.pending_bytes = "", [], None, 0
            if block.data is not None or block.id is not None:
                yield block

    def _lines(self, piece):
        if self._is_after_cr and piece.startswith(b"\n"):
            piece = piece[1:]
        # A CR at the end of a piece ends the line at once. An LF after it belongs to the same line end.
        self._is_after_cr = piece.endswith(b"\r")
        self.pending_bytes += len(piece)
        *ends, rest = re.split(b"\r\n|\r|\n", piece)
        for end in ends:
            # Pieces are joined once for each line, so a long line costs linear time.
            line = b"".join([*self._pieces, end])
            self._pieces = []
            if self._is_first and line.startswith(b"\xef\xbb\xbf"):
                line = line[3:]
            self._is_first = False
            yield line.decode(errors="replace")
        self._pieces.append(rest)

    def _take_field(self, line):
        # A comment is a line with an empty field name.
        field, _, value = line.partition(":")
        value = value[1:] if value.startswith(" ") else value
        if field == "data":
            self._data.append(value)
        elif field == "event":
            self._event = value
        elif field == "id" and "\0" not in value:
            self._id = value
        elif field == "retry" and re.fullmatch("[0-9]+", value):
            # Python refuses to convert thousands of digits.
            self.retry = int(value) if len(value) < 10 else 10**9
