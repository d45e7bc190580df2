import io.netty.buffer.Unpooled;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioSocketChannel;
import java.io.FileInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.file.Path;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * The embedded MongoDB of a home: mongo-java-server on its H2 file store, made durable and given walls.
 *
 *   EmbeddedMongo --home HOME --port PORT|inherited --data DIRECTORY --access FILE [--leash FD]
 *
 * Door takes clients in, Connection has what is asked of a client, Guard of a message, Database of a command, Worker of what a command may take, Access who is who.
 *
 * "inherited": stdin is the listening socket (its owner keeps it, so nobody else can have the port while this starts again).
 * --leash: it ends when that descriptor, the read end of a pipe, does.
 *
 * Exit codes: 0 stopped by SIGTERM or its leash; 2 usage; 3 the data cannot be used; 98 the port is in use.
 */
public final class EmbeddedMongo {
    /** Whoever started us holds the other end; when that closes, they are gone. */
    private static void endWith(String fd) {
        Thread t = new Thread(() -> {
            try (FileInputStream in = new FileInputStream("/proc/self/fd/" + fd)) {
                while (in.read() >= 0) { }
                System.exit(0);
            } catch (IOException e) {
                System.err.println("embedded MongoDB: --leash " + fd + ": " + e.getMessage());
                System.exit(2);
            }
        });
        t.setDaemon(true);
        t.start();
    }

    private static ServerSocketChannel listener(String port) throws IOException {
        if (port.equals("inherited")) {
            if (System.inheritedChannel() instanceof ServerSocketChannel c) return c;
            throw new IOException("stdin is no listening socket");
        }
        ServerSocketChannel c = ServerSocketChannel.open();
        return c.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(port)), 4096);
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> opt = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) opt.put(args[i], args[i + 1]);
        String leash = opt.remove("--leash");
        if (!opt.keySet().equals(Set.of("--home", "--port", "--data", "--access"))) {
            System.err.println("usage: EmbeddedMongo --home HOME --port PORT|inherited --data DIRECTORY --access FILE [--leash FD]");
            System.exit(2);
        }
        if (leash != null) endWith(leash);
        Databases databases = null;
        Access access = null;
        try {
            access = new Access(Path.of(opt.get("--access")));
            databases = new Databases(Path.of(opt.get("--data")));
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot open " + opt.get("--data") + ": " + e.getMessage()
                    + "; restore the file from a backup, or move it away to start empty");
            System.exit(3);
        }
        ServerSocketChannel listener = null;
        try {
            listener = listener(opt.get("--port"));
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot listen on 127.0.0.1:" + opt.get("--port") + ": " + e.getMessage());
            System.exit(98);
        }
        Worker.watch(databases::tick, databases::relieve);
        Databases d = databases;
        Access a = access;
        Lobby lobby = new Lobby();
        NioEventLoopGroup strangers = new NioEventLoopGroup(2);
        new Door(listener, (c, said) -> {
            NioSocketChannel channel = new NioSocketChannel(c);
            channel.config().setTcpNoDelay(true);
            channel.pipeline().addLast(new Connection(d, lobby, a, Unpooled.copiedBuffer(said)));
            strangers.register(channel).addListener(f -> {
                if (!f.isSuccess()) channel.unsafe().closeForcibly();
            });
        }).start();
        System.err.println("embedded MongoDB: ready on 127.0.0.1:" + ((InetSocketAddress) listener.getLocalAddress()).getPort());
    }
}
