"""A bucket in memory that speaks as much of S3 as pyarrow does: uploads in parts, reads, lists, deletions."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


class Bucket:
    """What is in it, and what was asked.

    Attributes:
        objects: by name.
        parts: of uploads that are not complete, by upload and number.
        refused: names whose uploads are refused.
        url: for ``--out``.
    """

    def __init__(self, port: int) -> None:
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, dict[int, bytes]] = {}
        self.refused: str | None = None
        self.url = f"s3://bucket/exports?endpoint_override=127.0.0.1:{port}&scheme=http&region=us-east-1"


@contextmanager
def bucket() -> Iterator[Bucket]:
    """A server with one bucket, called ``bucket``."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.bucket = Bucket(server.server_address[1])  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.bucket  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    @property
    def bucket(self) -> Bucket:
        return self.server.bucket  # type: ignore[attr-defined]

    def log_message(self, *_: object) -> None:
        """Says nothing."""

    def _asked(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query, keep_blank_values=True).items()}
        return unquote(parts.path).removeprefix("/bucket").lstrip("/"), query

    def _answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b"".join(iter(self._piece, b""))
        else:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if "aws-chunked" not in self.headers.get("Content-Encoding", ""):
            return body
        found = b""
        while body:
            line, _, body = body.partition(b"\r\n")
            size = int(line.split(b";")[0], 16)
            if not size:
                break  # checksums are left
            found, body = found + body[:size], body[size + 2 :]
        return found

    def _piece(self) -> bytes:
        """The next piece of a body of unknown length; empty: it was the last."""
        size = int(self.rfile.readline(), 16)
        piece = self.rfile.read(size)
        self.rfile.readline()
        return piece

    def _missing(self) -> None:
        self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>", Content_Type="application/xml")

    def do_HEAD(self) -> None:
        name, _ = self._asked()
        if not name:
            self._answer(200)
        elif name in self.bucket.objects:
            size = str(len(self.bucket.objects[name]))
            self._answer(200, Content_Length=size, Last_Modified="Thu, 01 Jan 2026 00:00:00 GMT", ETag='"1"')
        else:
            self._missing()

    def do_GET(self) -> None:
        name, query = self._asked()
        if not name:
            self._list(query)
        elif (content := self.bucket.objects.get(name)) is None:
            self._missing()
        elif span := re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", "")):
            first, last = int(span[1]), min(int(span[2]), len(content) - 1)
            self._answer(206, content[first : last + 1], Content_Range=f"bytes {first}-{last}/{len(content)}")
        else:
            self._answer(200, content)

    def _list(self, query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter")
        found, folders = [], set()
        for name, content in sorted(self.bucket.objects.items()):
            rest = name[len(prefix) :]
            if not name.startswith(prefix):
                continue
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                found.append(
                    f"<Contents><Key>{escape(name)}</Key><Size>{len(content)}</Size>"
                    "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                )
        found += [f"<CommonPrefixes><Prefix>{escape(one)}</Prefix></CommonPrefixes>" for one in sorted(folders)]
        body = f"<ListBucketResult><IsTruncated>false</IsTruncated>{''.join(found)}</ListBucketResult>"
        self._answer(200, body.encode(), Content_Type="application/xml")

    def do_PUT(self) -> None:
        name, query = self._asked()
        body = self._body()
        if self.bucket.refused is not None and name.endswith(self.bucket.refused):
            self._answer(403, b"<Error><Code>AccessDenied</Code></Error>", Content_Type="application/xml")
            return
        if "uploadId" in query:
            self.bucket.parts[query["uploadId"]][int(query["partNumber"])] = body
        else:
            self.bucket.objects[name] = body
        self._answer(200, ETag='"1"')

    def do_POST(self) -> None:
        name, query = self._asked()
        body = self._body()
        if "uploads" in query:
            upload = str(len(self.bucket.parts))
            self.bucket.parts[upload] = {}
            answer = f"<InitiateMultipartUploadResult><UploadId>{upload}</UploadId></InitiateMultipartUploadResult>"
        elif "uploadId" in query:
            parts = self.bucket.parts.pop(query["uploadId"])
            self.bucket.objects[name] = b"".join(parts[number] for number in sorted(parts))
            answer = '<CompleteMultipartUploadResult><ETag>"1"</ETag></CompleteMultipartUploadResult>'
        else:  # a list of deletions
            for key in re.findall(r"<Key>([^<]+)</Key>", body.decode()):
                self.bucket.objects.pop(key, None)
            answer = "<DeleteResult></DeleteResult>"
        self._answer(200, answer.encode(), Content_Type="application/xml")

    def do_DELETE(self) -> None:
        name, _ = self._asked()
        self.bucket.objects.pop(name, None)
        self._answer(204)
