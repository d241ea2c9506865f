"""Answers, by name, that a replica never sends, or sends only when it fails. The client must continue after each of them."""

import socket

from scripted_server import answer, problem, reset

PAGE = "<html><body>502 Bad Gateway</body></html>"
HTML = {"Content_Type": "text/html"}


def stay_silent(connection):
    """Reads nothing and writes nothing until the client leaves."""
    connection.recv(1)


def send_slowly(connection):
    """Sends one byte at a time, so that no single read of the client waits for long."""
    try:
        for byte in b"HTTP/1.1 200 OK\r\nX-Filler: " + b"x" * 10_000:
            connection.sendall(bytes([byte]))
            connection.settimeout(0.02)
            try:
                if not connection.recv(1):
                    return
            except socket.timeout:
                pass
    except OSError:
        pass


# Slow answers are listed separately, because the client needs a short timeout for them.
SLOW = {"silence": stay_silent, "one byte every 20 ms": send_slowly}

MALFORMED = {
    "closed at once": b"",
    "reset": reset,
    "not HTTP": b"SSH-2.0-OpenSSH_9.2\r\n",
    "random bytes": bytes(range(128, 256)) * 8,
    "status line without a number": b"HTTP/1.1 OK\r\n\r\n",
    "status of four digits": b"HTTP/1.1 2000 OK\r\n\r\n",
    "HTTP/3 in the status line": b"HTTP/3 200 OK\r\n\r\n",
    "incomplete head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "head that never ends": b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: x\r\n" % n for n in range(200)) + b"\r\n",
    "header of 100 KiB": answer("200 OK", "{}", X_Long="x" * 100_000),
    "incomplete body": answer("200 OK", '{"expi', Content_Length=500),
    "incomplete chunks": answer("200 OK", b"5\r\n{\"a\":", Content_Length=None, Transfer_Encoding="chunked"),
    "chunk without a size": answer("200 OK", b"size\r\n{}\r\n", Content_Length=None, Transfer_Encoding="chunked"),
    "Content-Length that is not a number": answer("200 OK", "{", Content_Length="many"),
    "200 with HTML": answer("200 OK", PAGE, **HTML),
    "200 with nothing": answer("200 OK", ""),
    "200 with an empty object": answer("200 OK", "{}"),
    "200 with null": answer("200 OK", "null"),
    "200 with a list": answer("200 OK", "[]"),
    "200 with a string": answer("200 OK", '"ok"'),
    "200 with a number of 10,000 digits": answer("200 OK", "9" * 10_000),
    "200 with incomplete JSON": answer("200 OK", '{"renewAfterSeconds": 1'),
    "200 with JSON 100,000 lists deep": answer("200 OK", "[" * 100_000),
    "200 with bytes that are not UTF-8": answer("200 OK", b"\xff\xfe{}"),
    "200 with gzip": answer("200 OK", b"\x1f\x8b\x08\0\0\0\0\0", Content_Encoding="gzip"),
    "200 with members of other types": answer("200 OK", {"uid": 1, "lease": 2, "renewAfterSeconds": "3", "instances": 4}),
    "101": answer("101 Switching Protocols", Content_Length=None, Upgrade="websocket"),
    "204": answer("204 No Content", Content_Length=None),
    "206": answer("206 Partial Content", "{}"),
    "301": answer("301 Moved Permanently", PAGE, Location="https://login.example.com/", **HTML),
    "302": answer("302 Found", PAGE, Location="https://login.example.com/", **HTML),
    "400 with HTML": answer("400 Bad Request", PAGE, **HTML),
    "401": problem("401 Unauthorized", "unauthenticated", WWW_Authenticate="Bearer"),
    "403": problem("403 Forbidden", "forbidden"),
    "407": answer("407 Proxy Authentication Required", PAGE, **HTML),
    "418 with an empty problem": answer("418 I'm a teapot", ""),
    "429 with seconds": problem("429 Too Many Requests", "too-many-requests", Retry_After="1"),
    "429 with a date": problem("429 Too Many Requests", "too-many-requests", Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"),
    "500 with a list": answer("500 Internal Server Error", "[]"),
    "500 with members of other types": answer("500 Oh", {"type": 5, "detail": [], "errors": "none"}),
    "502": answer("502 Bad Gateway", PAGE, **HTML),
    "503 with a date": problem("503 Service Unavailable", "not-ready", Retry_After="Fri, 31 Dec 1999 23:59:59 GMT"),
    "503 with an invalid Retry-After": problem("503 Service Unavailable", "not-ready", Retry_After="soon"),
    "503 with an incomplete body": answer("503 Service Unavailable", "{", Content_Length=500),
    "504": answer("504 Gateway Timeout", PAGE, **HTML),
    "Rollcall-Index that is not a number": answer("200 OK", "", Rollcall_Index="²"),
}
