"""A proxy that lies, to see whether the audit finds out.

Usage: liar.py LIE ENGINE_PORT       prints the port it listens on and serves until it is killed

  honest       passes everything on: the audit must acquit
  lost         answers the twentieth commit with the engine's words without asking the engine: an acknowledgement of nothing
  doubled      sends the twentieth reservation once more under another key and commits it: units sold that nobody asked for
  withheld     refuses every tenth reservation as sold out, truthfully in form and falsely in substance
  forgetful    answers a repeated reservation with another receipt than the first time
  hurried      refuses every tenth reservation for now and does not say when to come back
  sleepy       dawdles five seconds over each reservation: no lie, but more than the generator has users for, which voids
"""

import http.client
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LIES = ("honest", "lost", "doubled", "withheld", "forgetful", "hurried", "sleepy")
lie, engine_port = (sys.argv[1:3] + ["", ""])[:2]
if lie not in LIES or not engine_port.isdigit():
    sys.exit(__doc__)

lock = threading.Lock()
counts = {}
granted = {}  # items by reservation


def counted(what):
    with lock:
        counts[what] = counts.get(what, 0) + 1
        return counts[what]


def passed_on(method, path, headers, body):
    connection = http.client.HTTPConnection("127.0.0.1", int(engine_port), timeout=30)
    try:
        connection.request(method, path, body=body or None, headers=headers)
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


def problem(status, code, **more):
    body = {"type": f"/problems/{code}", "title": code, "status": status, "code": code, **more}
    return status, {"Content-Type": "application/problem+json"}, json.dumps(body).encode()


class Liar(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        headers = {name: value for name, value in self.headers.items() if name.lower() not in ("host", "connection")}
        status, told, said = self.lie_about(headers, body)
        self.send_response(status)
        for name, value in told.items():
            if name.lower() not in ("connection", "content-length", "transfer-encoding", "date", "server"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(said)

    def lie_about(self, headers, body):
        is_reservation = self.command == "POST" and self.path == "/v1/reservations"
        number = counted(self.path.split("/")[-1] if self.command == "POST" else self.command)
        if lie == "withheld" and is_reservation and number % 10 == 0:
            item = json.loads(body)["items"][0]
            return problem(409, "insufficient_stock", items=[{"sku": item["sku"], "requested": item["quantity"], "available": 0}])
        if lie == "sleepy" and is_reservation:
            time.sleep(5)
        if lie == "hurried" and is_reservation and number % 10 == 0:
            return problem(503, "overloaded", retryable=True)
        if lie == "lost" and self.path.endswith("/commit") and number == 20:
            held = granted.get(self.path.split("/")[3], {})
            return 200, {"Content-Type": "application/json"}, json.dumps({**held, "state": "committed"}).encode()
        status, told, said = passed_on(self.command, self.path, headers, body)
        if is_reservation and status == 201:
            held = json.loads(said)
            granted[held["id"]] = held
            if lie == "doubled" and number == 20:
                _, _, twin = passed_on("POST", self.path, {**headers, "Idempotency-Key": "the-liars-own"}, body)
                path = f"/v1/reservations/{json.loads(twin)['id']}/commit"
                passed_on("POST", path, {"Idempotency-Key": "the-liars-sale"}, b"")
            if lie == "forgetful" and "idempotent-replayed" in {name.lower() for name in told}:
                said = json.dumps({**held, "receipt": "another"}).encode()
        return status, told, said

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = answer


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512


server = Server(("127.0.0.1", 0), Liar)
print(server.server_address[1], flush=True)
server.serve_forever()
