"""A TCP proxy that cuts connections, or stops in the middle, as a test says."""
import contextlib
import socket
import threading


class Proxy:
    """Passes on to a port of this host. `cuts`: how many bytes each of the next connections may send before it is reset; behind its
    end: all. `stall_at`: after so many bytes of one connection no more of it are read, and `stalled` is set; release() resets those."""

    def __init__(self, port):
        self.port, self.cuts, self.stall_at = port, [], None
        self.stalled, self.lock, self.n_cut = threading.Event(), threading.Lock(), 0
        self.held = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0.2)
        self.ended = threading.Event()
        threading.Thread(target=self.accept, daemon=True).start()

    def url(self, scheme="http"):
        return f"{scheme}://127.0.0.1:{self.listener.getsockname()[1]}"

    def release(self):
        while self.held:
            self.reset(*self.held.pop())

    def stop(self):
        self.ended.set()
        self.release()
        self.listener.close()

    def accept(self):
        while not self.ended.is_set():
            with contextlib.suppress(OSError):
                client, _ = self.listener.accept()
                threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        with self.lock:
            allowed = self.cuts.pop(0) if self.cuts else None
        try:
            server = socket.create_connection(("127.0.0.1", self.port))
        except OSError:
            self.reset(client)
            return
        client.setblocking(True)
        threading.Thread(target=self.back, args=(server, client), daemon=True).start()
        sent = 0
        with contextlib.suppress(OSError):
            while piece := client.recv(16384):
                if allowed is not None and sent + len(piece) > allowed:
                    server.sendall(piece[:allowed - sent])
                    with self.lock:
                        self.n_cut += 1
                    self.reset(client, server)
                    return
                if self.stall_at is not None and sent + len(piece) > self.stall_at:
                    self.held.append((client, server))
                    self.stalled.set()
                    return
                server.sendall(piece)
                sent += len(piece)
        for s in (server, client):
            with contextlib.suppress(OSError):
                s.close()

    @staticmethod
    def reset(*sockets):
        for s in sockets:
            with contextlib.suppress(OSError):
                s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                s.shutdown(socket.SHUT_RD)
                s.close()

    def back(self, server, client):
        with contextlib.suppress(OSError):
            while piece := server.recv(65536):
                client.sendall(piece)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_WR)
