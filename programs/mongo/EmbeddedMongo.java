import io.netty.buffer.Unpooled;
import io.netty.channel.Channel;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.channel.socket.nio.NioDomainSocketChannel;
import io.netty.channel.socket.nio.NioSocketChannel;
import java.io.FileInputStream;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.StandardProtocolFamily;
import java.net.UnixDomainSocketAddress;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.HashMap;
import java.util.Map;
import java.util.Set;

/**
 * The embedded MongoDB of a home: mongo-java-server on its H2 file store, made durable and given walls.
 *
 *   EmbeddedMongo --home HOME --port PORT|inherited --data DIRECTORY --users FILE [--socket-dir DIRECTORY] [--leash FD]
 *
 * A client's way: Acceptor takes it in, Connection reads its messages, MessageCheck looks through each, Users knows who sends it, CommandPolicy
 * says whether the command may be, a Worker executes it within bounds, on a Database of those in Databases.
 *
 * "inherited": stdin is the listening socket (its owner keeps it, so nobody else can have the port while this starts again).
 * --socket-dir: it also listens at DIRECTORY/<port>.sock, where runs' relays connect. Anybody on the machine can connect to the port, and when
 *   connections come faster than they are accepted, the kernel drops everybody's. Those who may enter the directory are not held up by that.
 * --leash: it ends when that descriptor, the read end of a pipe, does.
 *
 * Exit codes: 0 stopped by SIGTERM or its leash; 2 usage; 3 the data cannot be used; 98 the port is in use.
 */
public final class EmbeddedMongo {
    private static final int BACKLOG = 4096;

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
        return c.bind(new InetSocketAddress("127.0.0.1", Integer.parseInt(port)), BACKLOG);
    }

    /** The directory is ours alone to write to: what lies there is of an earlier start. */
    private static ServerSocketChannel unixListener(Path directory, int port) throws IOException {
        Path at = directory.resolve(port + ".sock");
        try (DirectoryStream<Path> old = Files.newDirectoryStream(directory, "*.sock")) {
            for (Path p : old) Files.delete(p);
        }
        ServerSocketChannel c = ServerSocketChannel.open(StandardProtocolFamily.UNIX).bind(UnixDomainSocketAddress.of(at), BACKLOG);
        Files.setPosixFilePermissions(at, PosixFilePermissions.fromString("rwxrwxrwx"));
        return c;
    }

    private static Channel channelOf(SocketChannel c, boolean tcp) {
        if (!tcp) return new NioDomainSocketChannel(c);
        NioSocketChannel channel = new NioSocketChannel(c);
        channel.config().setTcpNoDelay(true);
        return channel;
    }

    public static void main(String[] args) throws Exception {
        Map<String, String> opt = new HashMap<>();
        for (int i = 0; i + 1 < args.length; i += 2) opt.put(args[i], args[i + 1]);
        String leash = opt.remove("--leash"), socketDir = opt.remove("--socket-dir");
        if (!opt.keySet().equals(Set.of("--home", "--port", "--data", "--users"))) {
            System.err.println("usage: EmbeddedMongo --home HOME --port PORT|inherited --data DIRECTORY --users FILE [--socket-dir DIRECTORY] [--leash FD]");
            System.exit(2);
        }
        if (leash != null) endWith(leash);
        Databases databases = null;
        Users users = null;
        try {
            users = new Users(Path.of(opt.get("--users")));
            databases = new Databases(Path.of(opt.get("--data")));
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot open " + opt.get("--data") + ": " + e.getMessage()
                    + "; restore the file from a backup, or move it away to start empty");
            System.exit(3);
        }
        ServerSocketChannel listener = null, unix = null;
        int port = 0;
        try {
            listener = listener(opt.get("--port"));
            port = ((InetSocketAddress) listener.getLocalAddress()).getPort();
            if (socketDir != null) unix = unixListener(Path.of(socketDir), port);
        } catch (Exception e) {
            System.err.println("embedded MongoDB: cannot listen on " + (port == 0 ? "127.0.0.1:" + opt.get("--port") : socketDir) + ": " + e.getMessage());
            System.exit(98);
        }
        Worker.watch(databases::tick, databases::relieve);
        Databases d = databases;
        Users a = users;
        ServerCommands serverCommands = new ServerCommands();
        for (ServerSocketChannel l : unix == null ? new ServerSocketChannel[] {listener} : new ServerSocketChannel[] {unix, listener}) {
            NioEventLoopGroup strangers = new NioEventLoopGroup(2);
            Set<Connection> newcomers = Connection.newcomers();
            boolean tcp = l == listener;
            new Acceptor(l, (c, said) -> {
                Channel channel = channelOf(c, tcp);
                channel.pipeline().addLast(new Connection(d, serverCommands, a, newcomers, Unpooled.copiedBuffer(said)));
                strangers.register(channel).addListener(f -> {
                    if (!f.isSuccess()) channel.unsafe().closeForcibly();
                });
            }).start();
        }
        System.err.println("embedded MongoDB: ready on 127.0.0.1:" + port);
    }
}
