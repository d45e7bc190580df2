"""A client of the broker on pyzmq alone, after docs/wire.md: the independent witness."""
import struct

import zmq

PING, PUBLISH, SUBSCRIBE, UNSUBSCRIBE, ACK, NACK, EXTEND = range(1, 8)
PONG, CONFIRM, REFUSED, SUBSCRIBED, DELIVER, DONE = range(64, 70)


def header(verb, consumer=0, request=0):
    return struct.pack("<BBHI", 1, verb, consumer, request)


def packed(traceparent):
    return bytes.fromhex(traceparent.replace("-", "")) if traceparent else bytes(26)


class Message:
    def __init__(self, seq, published_ms, deliveries, body, epoch=None, trace=None):
        self.seq, self.published_ms, self.deliveries, self.body, self.epoch = seq, published_ms, deliveries, body, epoch
        self.traceparent = "-".join((trace[:1].hex(), trace[1:17].hex(), trace[17:25].hex(), trace[25:].hex())) if trace and any(trace) else None

    def __repr__(self):
        return f"<{self.seq} x{self.deliveries} {self.body[:40]}>"


class Refused(Exception):
    def __init__(self, code, retry_after_ms, text):
        super().__init__(f"{code}: {text}")
        self.code, self.retry_after_ms, self.text = code, retry_after_ms, text


class Peer:
    """One connection. Answers come as (verb, consumer, request, frames)."""

    def __init__(self, endpoint, **options):
        self.context = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.linger = 0
        for name, value in options.items():
            setattr(self.socket, name, value)
        self.socket.connect(endpoint)
        self.request = 0
        self.delivered = []
        self.epochs = {}  # by consumer: of what is delivered to it next

    def close(self):
        self.socket.close()
        self.context.term()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def send(self, *frames):
        self.socket.send_multipart(frames)

    def receive(self, timeout=20):
        """The next answer but for probes; None when none comes."""
        while self.socket.poll(timeout * 1000):
            first, *rest = self.socket.recv_multipart()
            version, verb, consumer, request = struct.unpack("<BBHI", first)
            assert version == 1
            if verb == PONG and request == 0:
                continue
            if verb == SUBSCRIBED:
                self.epochs[consumer] = rest[0]
            return verb, consumer, request, rest
        return None

    def answer(self, request, timeout=20):
        """The answer to one request; deliveries on the way are kept for take()."""
        while True:
            got = self.receive(timeout)
            assert got, f"no answer to request {request}"
            verb, consumer, number, frames = got
            if verb == DELIVER:
                self.delivered += self.messages(frames, self.epochs[consumer])
            elif verb == REFUSED and number in (request, 0):  # others may be about what was sent to an earlier broker
                raise Refused(frames[0].decode(), struct.unpack("<I", frames[1])[0], frames[2].decode())
            elif number == request:
                return verb, frames

    @staticmethod
    def messages(frames, epoch=None):
        found, at = [], 0
        traces = frames[2] if len(frames) > 2 else b""
        assert len(frames) in (2, 3) and len(traces) in (0, len(frames[0]) // 24 * 26)
        for i, (seq, ms, deliveries, n) in enumerate(struct.iter_unpack("<QqII", frames[0])):
            found.append(Message(seq, ms, deliveries, frames[1][at:at + n], epoch, traces[i * 26:i * 26 + 26]))
            at += n
        assert at == len(frames[1])
        return found

    def next_request(self):
        self.request += 1
        return self.request

    def post(self, stream, bodies, publisher=0, number=0, traces=None, key=None):
        """Publishes without waiting; the request's number. traces: a traceparent for all, or for each its own or None; bytes: as they are."""
        r = self.next_request()
        ids = struct.pack("<QQ", publisher, number) if publisher else b""
        self.send(header(PUBLISH, 0, r), stream.encode(), ids, struct.pack(f"<{len(bodies)}I", *map(len, bodies)), b"".join(bodies),
                  *([] if traces is None else [traces] if isinstance(traces, bytes) else [packed(traces)] if isinstance(traces, str) else [b"".join(map(packed, traces))]),
                  *([] if key is None else [key] if traces is not None else [b"", key]))
        return r

    def publish(self, stream, bodies, publisher=0, number=0, traces=None, key=None):
        """(first sequence, stored, known)"""
        verb, frames = self.answer(self.post(stream, bodies, publisher, number, traces, key))
        assert verb == CONFIRM
        return struct.unpack("<QII", frames[0])

    def subscribe(self, stream, subscription, messages=1000, size=1 << 20, consumer=1, wants=None):
        r = self.next_request()
        self.send(header(SUBSCRIBE, consumer, r), stream.encode(), subscription.encode(), struct.pack("<IQ", messages, size),
                  *([] if wants is None else [struct.pack("<I", wants)]))
        verb, frames = self.answer(r)
        assert verb == SUBSCRIBED
        return frames[0], *struct.unpack("<II", frames[1])

    def take(self, n=1, timeout=20):
        """At least n messages, or fewer when no more come."""
        while len(self.delivered) < n:
            got = self.receive(timeout)
            if got is None:
                break
            assert got[0] in (DELIVER, SUBSCRIBED), got
            if got[0] == DELIVER:
                self.delivered += self.messages(got[3], self.epochs[got[1]])
        found, self.delivered = self.delivered, []
        return found

    def settle(self, verb, messages, *more, consumer=1):
        r = self.next_request()
        ranges = b"".join(struct.pack("<QQ", m.seq, m.seq) for m in messages)
        self.send(header(verb, consumer, r), ranges, *more)
        verb, frames = self.answer(r)
        assert verb == DONE
        return struct.unpack("<Q", frames[0])[0]

    def ack(self, messages, consumer=1):
        return self.settle(ACK, messages, consumer=consumer)

    def nack(self, messages, delay_ms=0, reason="", consumer=1):
        return self.settle(NACK, messages, struct.pack("<I", delay_ms), reason.encode(), consumer=consumer)

    def extend(self, messages, consumer=1):
        return self.settle(EXTEND, messages, consumer=consumer)


def peer(home, **options):
    return Peer(home.endpoint, **options)


def bodies(n, start=0, size=0):
    return [f"m{i}".encode().ljust(size, b".") for i in range(start, start + n)]
