import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.Iterator;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.function.BiConsumer;

/**
 * Accepts connections, on a thread of its own, and hands each on when its client has sent something. A client that opens connections as fast as it
 * can and says nothing costs no more than that. Where connections are accepted more slowly than they come, the kernel drops everybody's, and a client
 * tries again after a second, then two, then four.
 */
final class Acceptor extends Thread {
    private static final int SILENT = 4096, TURN = 1024;
    private static final long SILENT_NS = 10_000_000_000L, LOOK_MS = 500, RETRY_MS = 20;

    private final ServerSocketChannel listener;
    private final BiConsumer<SocketChannel, ByteBuffer> next;
    private final Selector selector = Selector.open();
    private final Map<SelectionKey, Long> silent = new LinkedHashMap<>(); // connections that have said nothing, and since when; oldest first
    private final ByteBuffer said = ByteBuffer.allocate(MessageCheck.MAX_GREETING);

    /** next gets a connection, which is non-blocking, and its first bytes. */
    Acceptor(ServerSocketChannel listener, BiConsumer<SocketChannel, ByteBuffer> next) throws IOException {
        super(null, null, "acceptor", 0, false);
        this.listener = listener;
        this.next = next;
        listener.configureBlocking(false);
        listener.register(selector, SelectionKey.OP_ACCEPT);
    }

    private static void close(SelectionKey k) {
        k.cancel();
        try { k.channel().close(); } catch (IOException e) { /* it is gone */ }
    }

    private void accept() throws IOException {
        SocketChannel c;
        for (int i = 0; i < TURN && (c = listener.accept()) != null; i++) {
            c.configureBlocking(false);
            silent.put(c.register(selector, SelectionKey.OP_READ), System.nanoTime());
            if (silent.size() > SILENT) dropFirst();
        }
    }

    private void dropFirst() {
        Iterator<SelectionKey> i = silent.keySet().iterator();
        close(i.next());
        i.remove();
    }

    private void hear(SelectionKey k) {
        if (silent.remove(k) == null) return;
        try {
            SocketChannel c = (SocketChannel) k.channel();
            if (c.read(said.clear()) <= 0) {
                close(k);
                return;
            }
            k.cancel();
            next.accept(c, said.flip());
        } catch (IOException | RuntimeException e) {
            close(k);
        }
    }

    @Override public void run() {
        for (;;) {
            try {
                selector.select(LOOK_MS);
                for (Iterator<SelectionKey> i = selector.selectedKeys().iterator(); i.hasNext(); i.remove()) {
                    SelectionKey k = i.next();
                    if (k.channel() == listener) accept();
                    else hear(k);
                }
                for (long now = System.nanoTime(); !silent.isEmpty() && now - silent.values().iterator().next() > SILENT_NS;) dropFirst();
            } catch (IOException | RuntimeException | OutOfMemoryError e) { // no descriptor, no memory: the oldest gives way
                if (!silent.isEmpty()) dropFirst();
                try { Thread.sleep(RETRY_MS); } catch (InterruptedException x) { /* go on */ }
            }
        }
    }
}
