# SPDX-License-Identifier: Apache-2.0
"""An S3 client that shares nothing with Sluice's, and a proxy that counts and spoils."""
import datetime
import hashlib
import hmac
import http.client
import http.server
import random
import re
import select
import threading
import time
import urllib.parse
import xml.etree.ElementTree

NAMESPACE = "{http://s3.amazonaws.com/doc/2006-03-01/}"


class S3Client:
    def __init__(self, endpoint, access_key, secret_key):
        self.host = endpoint.split("//")[1]
        self.access_key, self.secret_key = access_key, secret_key

    def call(self, method, bucket, key=b"", query=None, body=b"", headers=None, status=200):
        key = key.encode() if isinstance(key, str) else key
        path = f"/{bucket}" + (f"/{urllib.parse.quote_from_bytes(key, safe='/-._~')}" if key else "")
        query = "&".join(f"{urllib.parse.quote(k, safe='-._~')}={urllib.parse.quote(v, safe='-._~')}"
                         for k, v in sorted((query or {}).items()))
        now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        payload = hashlib.sha256(body).hexdigest()
        signed = {"host": self.host, "x-amz-content-sha256": payload, "x-amz-date": now, **(headers or {})}
        names = ";".join(sorted(signed))
        canonical = "\n".join([method, path, query, *(f"{n}:{signed[n]}" for n in sorted(signed)), "", names, payload])
        scope = f"{now[:8]}/us-east-1/s3/aws4_request"
        text = "\n".join(["AWS4-HMAC-SHA256", now, scope, hashlib.sha256(canonical.encode()).hexdigest()])
        secret = b"AWS4" + self.secret_key.encode()
        for part in (now[:8], "us-east-1", "s3", "aws4_request"):
            secret = hmac.new(secret, part.encode(), hashlib.sha256).digest()
        signature = hmac.new(secret, text.encode(), hashlib.sha256).hexdigest()
        signed["Authorization"] = (f"AWS4-HMAC-SHA256 Credential={self.access_key}/{scope}, SignedHeaders={names}, "
                                   f"Signature={signature}")
        connection = http.client.HTTPConnection(self.host, timeout=60)
        connection.request(method, path + (f"?{query}" if query else ""), body=body, headers=signed)
        answer = connection.getresponse()
        data = answer.read()
        connection.close()
        assert answer.status == status, f"{method} {path}: {answer.status} {data[:300]}"
        return data, {n.lower(): v for n, v in answer.getheaders()}

    def make_bucket(self, bucket):
        self.call("PUT", bucket)

    def put(self, bucket, key, body, **headers):
        self.call("PUT", bucket, key, body=body, headers={n.replace("_", "-"): v for n, v in headers.items()})

    def get(self, bucket, key):
        return self.call("GET", bucket, key)[0]

    def head(self, bucket, key):
        return self.call("HEAD", bucket, key)[1]

    def keys(self, bucket, prefix=""):
        """All keys below the prefix, as bytes, with their sizes."""
        found, token = {}, None
        while True:
            query = {"list-type": "2", "prefix": prefix, "encoding-type": "url"}
            if token:
                query["continuation-token"] = token
            root = xml.etree.ElementTree.fromstring(self.call("GET", bucket, query=query)[0])
            is_encoded = root.findtext(NAMESPACE + "EncodingType") == "url"  # not every server does as it is asked
            for item in root.iter(NAMESPACE + "Contents"):
                key = item.find(NAMESPACE + "Key").text
                key = urllib.parse.unquote_to_bytes(key.replace("+", "%20")) if is_encoded else key.encode()
                found[key] = int(item.find(NAMESPACE + "Size").text)
            if root.find(NAMESPACE + "IsTruncated").text != "true":
                return found
            token = root.find(NAMESPACE + "NextContinuationToken").text

    def tags(self, bucket, key):
        told = self.call("GET", bucket, key, query={"tagging": ""})[0]
        root = xml.etree.ElementTree.fromstring(told or b"<Tagging/>")  # Ceph's way to say: none
        return {tag.findtext(NAMESPACE + "Key"): tag.findtext(NAMESPACE + "Value") or ""
                for tag in root.iter(NAMESPACE + "Tag")}

    def uploads(self, bucket):
        """How many unfinished multipart uploads there are."""
        return self.call("GET", bucket, query={"uploads": ""})[0].count(b"<Upload>")


def part_of(method, path):
    """(object, number) of a request that sends a part of an upload, or None."""
    number = re.search(r"partNumber=(\d+)", path) if method == "PUT" else None
    return (path.split("?")[0], int(number[1])) if number else None


class Proxy:
    """HTTP, one request after the other on each connection; the Host header passes unchanged, so
    that signatures stay valid. `busy`, `cut`, `flip`, `late` are per mille of the requests; `lie` of those whose success is told
    in the body: it says that they failed."""

    def __init__(self, upstream_port):
        self.busy = self.cut = self.flip = self.late = self.lie = 0
        self.region = None  # that requests have to be signed for; others are sent there
        self.lose_ends = 0  # so many ends of uploads reach the server, and their answers nobody
        self.flees = False  # and find it elsewhere then
        self.redirected = 0
        self.expire_after = None  # parts; then only requests with the accepted key are served
        self.accepted_key = ("no such key", "")
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.parts_limit = float("inf")  # of an upload's parts no more than these go on, until it is raised
        self.requests, self.bytes_up, self.bytes_down, self.spoilt = 0, 0, 0, 0
        self.chance = random.Random(1)
        self.put = {}  # (path, part number) -> how often it was sent whole
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            rbufsize = 1 << 20

            def log_message(self, *arguments):
                pass

            def answer(self, status, text, headers=None):
                self.send_response(status)
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text if self.command != "HEAD" else b"")

            def serve(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                what = proxy.count(self.command, self.path, len(body))
                if proxy.is_expired(self.headers.get("Authorization", "")):
                    self.answer(400, b"<Error><Code>ExpiredToken</Code><Message>they were good once</Message></Error>")
                    return
                if not proxy.may_go_on(self.command, self.path, self.connection):
                    self.close_connection = True
                    return
                region = proxy.elsewhere(self.headers.get("Authorization", ""))
                if region:
                    self.answer(301, b"<Error><Code>PermanentRedirect</Code><Message>go there</Message></Error>",
                                {"x-amz-bucket-region": region})
                    return
                if what == "busy":
                    self.answer(503, b"<Error><Code>SlowDown</Code><Message>spoilt</Message></Error>")
                    return
                if what == "late":
                    time.sleep(0.2)
                if what == "lie":
                    self.answer(200, b"<Error><Code>InternalError</Code><Message>a lie</Message></Error>")
                    return
                upstream = http.client.HTTPConnection("127.0.0.1", upstream_port, timeout=120)
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() != "connection":
                        upstream.putheader(name, value)
                upstream.endheaders(body)
                answer = upstream.getresponse()
                data = answer.read()
                upstream.close()
                if proxy.loses_end(self.command, self.path):
                    self.close_connection = True
                    return
                self.send_response_only(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                        self.send_header(name, value)
                length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
                self.send_header("Content-Length", length or "0")
                self.end_headers()
                if what == "flip" and self.command == "GET" and len(data) > 100 and answer.status < 300:
                    data = bytearray(data)
                    data[50] ^= 1
                if what == "cut" and len(data) > 1:
                    data = data[:len(data) // 2]
                    self.close_connection = True
                self.wfile.write(data)
                with proxy.lock:
                    proxy.bytes_down += len(data)

            do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = serve

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass  # a client that went away

        self.server = Server(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def is_expired(self, authorization):
        with self.lock:
            return (self.expire_after is not None and len(self.put) >= self.expire_after
                    and f"Credential={self.accepted_key[0]}/" not in authorization)

    def limit_parts(self, limit=float("inf")):
        with self.lock:
            self.parts_limit = limit
            self.changed.notify_all()

    def wait_parts(self, n, timeout):
        """Until so many came."""
        with self.lock:
            assert self.changed.wait_for(lambda: len(self.put) >= n, timeout), f"only {len(self.put)} parts, not {n}"

    def may_go_on(self, method, path, connection):
        """Waits, if it is a part beyond the limit. Is the client still there?"""
        part = part_of(method, path)
        with self.lock:
            if part is None or list(self.put).index(part) < self.parts_limit:
                return True
            self.changed.wait_for(lambda: list(self.put).index(part) < self.parts_limit)
        readable, _, _ = select.select([connection], [], [], 0)
        return not readable  # it asks nothing more before it is answered: that would be its end

    def loses_end(self, method, path):
        with self.lock:
            loses = method == "POST" and "uploadId=" in path and self.lose_ends > 0
            self.lose_ends -= loses
        return loses

    def elsewhere(self, authorization):
        """The region that the request is sent to; None: it is right here."""
        with self.lock:
            if self.region is None or f"/{self.region}/s3/" in authorization:
                return None
            told = self.region
            self.redirected += 1
            if self.flees:
                self.region = f"region-{self.redirected}"
            return told

    def count(self, method, path, n_bytes):
        with self.lock:
            self.requests += 1
            self.bytes_up += n_bytes
            part = part_of(method, path)
            if part:
                self.put[part] = self.put.get(part, 0) + 1
                self.changed.notify_all()
            die = self.chance.randrange(1000)
            lie = self.lie if method == "POST" and "uploadId=" in path else 0
            for what, share in (("busy", self.busy), ("cut", self.cut), ("flip", self.flip), ("late", self.late),
                                ("lie", lie)):
                if die < share:
                    self.spoilt += 1
                    return what
                die -= share
        return None

    def stop(self):
        self.limit_parts()
        self.server.shutdown()
        self.server.server_close()
