import de.bwaldvogel.mongo.bson.BinData;
import de.bwaldvogel.mongo.bson.Document;
import de.bwaldvogel.mongo.exception.MongoServerError;
import de.bwaldvogel.mongo.exception.MongoServerException;
import de.bwaldvogel.mongo.wire.MongoWireProtocolHandler;
import de.bwaldvogel.mongo.wire.MongoWireReplyEncoder;
import de.bwaldvogel.mongo.wire.message.ClientRequest;
import de.bwaldvogel.mongo.wire.message.MessageHeader;
import de.bwaldvogel.mongo.wire.message.MongoMessage;
import de.bwaldvogel.mongo.wire.message.MongoQuery;
import de.bwaldvogel.mongo.wire.message.MongoReply;
import io.netty.buffer.ByteBuf;
import io.netty.buffer.Unpooled;
import io.netty.channel.ChannelFuture;
import io.netty.channel.ChannelFutureListener;
import io.netty.channel.ChannelHandlerContext;
import io.netty.channel.ChannelInboundHandlerAdapter;
import io.netty.channel.nio.NioEventLoopGroup;
import io.netty.util.concurrent.ScheduledFuture;
import java.util.ArrayDeque;
import java.util.Iterator;
import java.util.HashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

/**
 * The connection of a client. Until the client has proved who it is, it may greet in small messages, for a while, and gives way when too many others
 * are in the same state. After that one message at a time is taken, when its user's share of memory has room for all of it.
 */
final class Connection extends ChannelInboundHandlerAdapter {
    private static final int UNIDENTIFIED = 1024, OF_TENANT = 400, OF_PLATFORM = 4000;
    private static final int OP_MSG = 2013;
    private static final long IDENTIFY_S = 10, MESSAGE_S = 60, DECODED_TENANT = 384L << 20;
    private static final long SMALL = 64 << 10, UNREAD_TENANT = 96 << 20, UNREAD_PLATFORM = 384 << 20, UNREAD = Math.min(768L << 20, Runtime.getRuntime().maxMemory() / 2);
    private static final AtomicInteger ids = new AtomicInteger();
    private static final Map<String, Integer> connections = new HashMap<>();   // connections by user; guarded by its lock
    private static final Map<String, NioEventLoopGroup> loops = new HashMap<>(); // each user's event loop, while there is a connection: who floods, floods his own

    /** Room for messages that are coming in, in bytes. Who finds no room waits; first come, first served. */
    static final class Room {
        private final int size;
        private int free;
        private final ArrayDeque<Runnable> waiting = new ArrayDeque<>();
        Room(int size) { this.size = this.free = size; }

        /** Calls r when it has got n bytes of room: at once, or later on another thread. */
        void take(int n, Runnable r) {
            synchronized (this) {
                if (!waiting.isEmpty() || free < Math.min(n, size)) {
                    waiting.add(() -> take(n, r));
                    return;
                }
                free -= n;
            }
            r.run();
        }

        void give(int n) {
            Runnable[] next;
            synchronized (this) {
                free += n;
                next = waiting.toArray(Runnable[]::new);
                waiting.clear();
            }
            for (Runnable r : next) r.run();
        }
    }

    private static final Room everybodys = new Room((int) Math.min(384L << 20, Runtime.getRuntime().maxMemory() / 4));
    private static final Map<String, Room> rooms = new HashMap<>();

    private static synchronized Room roomOf(Users.User u) {
        return rooms.computeIfAbsent(u.name(), n -> new Room(u.isPlatform() ? 192 << 20 : 96 << 20));
    }

    private static final class Decoder extends MongoWireProtocolHandler {
        ClientRequest message(ChannelHandlerContext ctx, ByteBuf b) throws Exception { return decode(ctx, b); }
    }

    private static final class ReplyEncoder extends MongoWireReplyEncoder {
        void reply(MongoReply r, ByteBuf b) { encode(null, r, b); }
    }

    /** Bytes of replies that each user has not read yet; guarded by its lock. "" is the sum of all users. */
    private static final Map<String, Long> unread = new HashMap<>();

    /** Whether a reply of n bytes may be kept for u until it is read. */
    private static boolean mayWait(Users.User u, int n) {
        synchronized (unread) {
            long his = unread.getOrDefault(u.name(), 0L), all = unread.getOrDefault("", 0L);
            if (n > SMALL && (his + n > (u.isPlatform() ? UNREAD_PLATFORM : UNREAD_TENANT) || all + n > UNREAD)) return false;
            unread.put(u.name(), his + n);
            unread.put("", all + n);
            return true;
        }
    }

    private static void isRead(Users.User u, int n) {
        synchronized (unread) {
            unread.merge("", (long) -n, Long::sum);
            unread.computeIfPresent(u.name(), (k, v) -> v == n ? null : v - n);
        }
    }

    private final Set<Connection> unidentified;
    private final Databases databases;
    private final ServerCommands serverCommands;
    private final Users users;
    private final Decoder decoder = new Decoder();
    private ChannelHandlerContext ctx;
    private Users.User user; // null: not identified
    private Users.Scram scram;
    private ByteBuf rest, frame; // bytes that were read and not looked at; the message that is coming in
    private int length, taken;   // of it; of the rooms
    private boolean busy;        // a message waits for room, or its reply is not sent yet
    private boolean closed;
    private NioEventLoopGroup loop; // the event loop that the connection is to move to
    private ScheduledFuture<?> deadline;

    /** Connections that came in at one listener and have not proved who they are, oldest first. */
    static Set<Connection> newcomers() { return new LinkedHashSet<>(); }

    /** first: the bytes that the client has sent already. */
    Connection(Databases databases, ServerCommands serverCommands, Users users, Set<Connection> newcomers, ByteBuf first) {
        this.unidentified = newcomers;
        this.databases = databases;
        this.serverCommands = serverCommands;
        this.users = users;
        rest = first;
    }

    @Override public void channelActive(ChannelHandlerContext c) {
        ctx = c;
        Connection oldest = null;
        synchronized (unidentified) {
            unidentified.add(this);
            if (unidentified.size() > UNIDENTIFIED) {
                Iterator<Connection> i = unidentified.iterator();
                oldest = i.next();
                i.remove();
            }
        }
        if (oldest != null) oldest.ctx.close();
        expect(IDENTIFY_S);
        advance();
    }

    private void expect(long seconds) {
        relax();
        deadline = ctx.executor().schedule(() -> { ctx.close(); }, seconds, TimeUnit.SECONDS);
    }

    private void relax() {
        if (deadline != null) deadline.cancel(false);
        deadline = null;
    }

    @Override public void channelInactive(ChannelHandlerContext c) {
        if (closed) return;
        closed = true;
        relax();
        synchronized (unidentified) { unidentified.remove(this); }
        if (rest != null) rest.release();
        rest = null;
        if (!busy) drop();
        if (user == null) return;
        synchronized (connections) {
            if (connections.merge(user.name(), -1, Integer::sum) == 0) {
                connections.remove(user.name());
                loops.remove(user.name()).shutdownGracefully(0, 1, TimeUnit.SECONDS);
            }
        }
        if (!user.isPlatform()) databases.of(user.database()).closed(c.channel());
    }

    private void drop() {
        frame = null;
        if (taken == 0) return;
        int n = taken;
        taken = 0;
        everybodys.give(n);
        roomOf(user).give(n);
    }

    @Override public void exceptionCaught(ChannelHandlerContext c, Throwable cause) { c.close(); }

    @Override public void channelRead(ChannelHandlerContext c, Object msg) {
        ByteBuf in = (ByteBuf) msg;
        if (closed) {
            in.release();
            return;
        }
        rest = rest == null ? in : Unpooled.wrappedBuffer(rest, in);
        advance();
    }

    /** Handles the bytes that were read, until a message is complete or more bytes are needed. */
    private void advance() {
        while (!closed && !busy && rest != null) {
            if (frame == null && !begin()) break;
            if (busy) break; // waits for room
            int n = Math.min(rest.readableBytes(), length - frame.writerIndex());
            frame.writeBytes(rest, n);
            if (!rest.isReadable()) {
                rest.release();
                rest = null;
            }
            if (frame.writerIndex() == length) handle();
        }
        if (!closed) ctx.channel().config().setAutoRead(!busy);
    }

    private boolean begin() {
        if (rest.readableBytes() < 4) return false;
        length = rest.getIntLE(rest.readerIndex());
        if (length < 21 || length > (user == null ? MessageCheck.MAX_GREETING : MessageCheck.MAX_MESSAGE)) {
            ctx.close();
            return false;
        }
        if (user != null) expect(MESSAGE_S);
        if (length <= MessageCheck.MAX_GREETING) {
            frame = Unpooled.buffer(length, length);
            return true;
        }
        busy = true;
        Users.User u = user;
        int n = length;
        roomOf(u).take(n, () -> everybodys.take(n, () -> ctx.executor().execute(() -> {
            busy = false;
            taken = n;
            if (closed) {
                drop();
                return;
            }
            frame = Unpooled.buffer(MessageCheck.MAX_GREETING, n);
            expect(MESSAGE_S);
            advance();
        })));
        return true;
    }

    private void handle() {
        ByteBuf b = frame;
        frame = null;
        busy = true;
        if (user != null) relax();
        try {
            long heap = MessageCheck.check(b.array(), length);
            if (user != null && !user.isPlatform() && heap > DECODED_TENANT) throw new MessageCheck.Malformed("it takes too much memory");
            RawInsert documents = user == null ? null : RawInsert.of(b.array(), length);
            if (documents == null && length > MessageCheck.MAX_GREETING) {
                databaseOfMessage(b, heap);
                return;
            }
            ClientRequest r = decoder.message(ctx, documents == null ? b : documents.command());
            Document query = documentOf(r);
            if (documents != null) query.put("documents", documents);
            String command = query.keySet().iterator().next();
            if (CommandPolicy.GREETINGS.contains(CommandPolicy.lower(command))) reply(r, greet(CommandPolicy.lower(command), query));
            else if (user == null) reply(r, error(13, "Unauthorized", "authentication required: the URL has to name a user and its secret"));
            else dispatch(r, command, query);
        } catch (MessageCheck.Malformed e) {
            if (user == null) ctx.close();
            else reply(b.getIntLE(4), false, error(9, "FailedToParse", "the message is refused: " + e.getMessage()));
        } catch (Throwable e) { // whatever the decoder throws must not end anybody else's turn
            ctx.close();
            drop();
        }
    }

    /**
     * A large message is decoded only when it is its turn, and watched as a command is. A tenant has one database; for the platform "$db" tells which
     * database's turn that is.
     */
    private void databaseOfMessage(ByteBuf b, long heap) {
        Database d = user.isPlatform() ? null : databases.of(user.database());
        Runnable r = () -> {
            Worker w = Worker.current();
            w.begin(user, heap);
            try {
                ClientRequest m = decoder.message(ctx, b);
                w.settle();
                Document query = documentOf(m);
                String command = query.keySet().iterator().next();
                if (d != null) reply(m, d.command(ctx.channel(), user, m.getDatabaseName(), command, query));
                else ctx.executor().execute(() -> dispatch(m, command, query));
            } catch (Throwable e) {
                Database.settled(w);
                w.forget();
                ctx.close();
                ctx.executor().execute(this::drop);
            }
        };
        if (d != null) d.submit(r);
        else databases.execute(r);
    }

    private static Document documentOf(ClientRequest r) throws MessageCheck.Malformed {
        if (r instanceof MongoMessage m && m.getDocument().get("$db") instanceof String) return m.getDocument();
        if (r instanceof MongoQuery q && q.getCollectionName().equals("$cmd")) {
            Document d = q.getQuery();
            if (d.get("$query") instanceof Document inner) d = inner;
            if (!d.isEmpty()) return d;
        }
        throw new MessageCheck.Malformed("no command");
    }

    private void dispatch(ClientRequest r, String command, Document query) {
        try {
            String asked = r.getDatabaseName(), name = asked, lower = CommandPolicy.lower(command);
            if (lower.equals("listdatabases")) {
                reply(r, listDatabases());
                return;
            }
            if (name.equals("admin") && lower.equals("renamecollection")) name = ("" + query.get(command)).replaceFirst("\\..*", "");
            else if (name.equals("admin") && user.isPlatform()) {
                CommandPolicy.command(command, query, true);
                reply(r, serverCommands.handleCommand(ctx.channel(), name, command, query));
                return;
            }
            String database = user.isPlatform() ? name : user.database();
            Database d = databases.of(database);
            d.submit(() -> reply(r, d.command(ctx.channel(), user, asked, command, query)));
        } catch (MongoServerException e) {
            reply(r, Database.error(e));
        }
    }

    private Document listDatabases() {
        List<Document> all = (user.isPlatform() ? databases.names() : databases.exists(user.database()) ? Set.of(user.database()) : Set.<String>of()).stream()
                .map(n -> new Document("name", n).append("empty", false)).toList();
        return new Document("databases", all).append("ok", 1.0);
    }

    private static Document error(int code, String name, String message) { return Database.error(new MongoServerError(code, name, message)); }

    private Document greet(String command, Document query) {
        return switch (command) {
            case "saslstart", "saslcontinue" -> identify(command, query);
            case "ismaster", "hello" -> {
                Document d = serverCommands.handleCommand(ctx.channel(), "admin", "ismaster", query);
                if (query.containsKey("saslSupportedMechs")) d.put("saslSupportedMechs", List.of("SCRAM-SHA-256"));
                yield d;
            }
            case "whatsmyuri" -> new Document("you", String.valueOf(ctx.channel().remoteAddress())).append("ok", 1.0);
            case "buildinfo", "ping" -> serverCommands.handleCommand(ctx.channel(), "admin", command, query);
            default -> new Document("ok", 1.0);
        };
    }

    private Document identify(String command, Document query) {
        try {
            if (user != null && (scram == null || command.equals("saslstart"))) throw new Users.Refused("this connection is identified already");
            if (command.equals("saslstart") && !"SCRAM-SHA-256".equals(query.get("mechanism")))
                throw new Users.Refused("the only mechanism is SCRAM-SHA-256");
            byte[] payload = query.get("payload") instanceof BinData d ? d.getData() : new byte[0], answer = new byte[0];
            boolean done = false;
            if (command.equals("saslstart")) {
                scram = users.new Scram();
                answer = scram.start(payload);
            } else if (scram == null) throw new Users.Refused("saslStart comes first");
            else if (user == null) {
                answer = scram.finish(payload);
                admit(scram.user());
            } else { // the empty exchange at the end of SCRAM
                scram = null;
                done = true;
            }
            return new Document("conversationId", 1).append("done", done).append("payload", new BinData(answer)).append("ok", 1.0);
        } catch (Users.Refused e) {
            scram = null;
            return error(18, "AuthenticationFailed", "authentication failed: " + e.getMessage());
        }
    }

    private void admit(Users.User u) throws Users.Refused {
        int max = u.isPlatform() ? OF_PLATFORM : OF_TENANT;
        synchronized (connections) {
            if (connections.getOrDefault(u.name(), 0) >= max) throw new Users.Refused(u.name() + " has " + max + " connections, which is all it may have");
            connections.merge(u.name(), 1, Integer::sum);
            loop = loops.computeIfAbsent(u.name(), n -> new NioEventLoopGroup(1));
        }
        synchronized (unidentified) { unidentified.remove(this); }
        user = u;
        relax();
    }

    private void goOn() {
        busy = false;
        advance();
    }

    /** Moves the connection from the strangers' event loop to its user's. */
    private void move() {
        NioEventLoopGroup to = loop;
        loop = null;
        ctx.channel().deregister().addListener(left -> to.register(ctx.channel()).addListener(f -> {
            if (f.isSuccess()) goOn();
            else {
                ctx.close();
                channelInactive(ctx); // it is in no event loop that would report its end
            }
        }));
    }

    /** From any thread. */
    private void reply(ClientRequest r, Document d) { reply(r.getHeader().getRequestID(), r instanceof MongoQuery, d); }

    /** The reply is encoded here, on the worker, and not in an event loop, which others share. */
    private ByteBuf encode(int request, boolean isQuery, Document d) {
        MessageHeader h = new MessageHeader(ids.incrementAndGet(), request);
        ByteBuf b = ctx.alloc().ioBuffer();
        try {
            if (isQuery) new ReplyEncoder().reply(new MongoReply(h, List.of(d), 0), b);
            else write(h, d, b);
            return b;
        } catch (Throwable t) {
            b.release();
            throw t;
        }
    }

    /** An OP_MSG without flags, of one section. */
    private static void write(MessageHeader h, Document d, ByteBuf b) {
        b.writeIntLE(0).writeIntLE(h.getRequestID()).writeIntLE(h.getResponseTo()).writeIntLE(OP_MSG).writeIntLE(0).writeByte(0);
        Bson.write(d, b);
        b.setIntLE(0, b.writerIndex());
    }

    private void reply(int request, boolean isQuery, Document d) {
        Users.User u = user;
        ByteBuf whole;
        boolean kept;
        try {
            whole = encode(request, isQuery, d);
            kept = u != null && mayWait(u, whole.readableBytes());
            if (u != null && !kept) {
                whole.release();
                whole = encode(request, isQuery, error(146, "ExceededMemoryLimit", "too many replies wait to be read; read them, or ask for less at once"));
            }
        } catch (Throwable t) { // a reply that cannot be encoded; memory ran out
            ctx.close();
            ctx.executor().execute(this::drop);
            return;
        }
        ByteBuf out = whole;
        int n = out.readableBytes();
        ctx.executor().execute(() -> {
            drop();
            ChannelFuture sent = ctx.writeAndFlush(out);
            if (u != null && !sent.isDone()) expect(MESSAGE_S);
            sent.addListener((ChannelFutureListener) f -> {
                if (kept) isRead(u, n);
                if (user != null && u != null) relax();
                if (!f.isSuccess()) ctx.close();
                if (loop != null) move();
                else goOn();
            });
        });
    }
}
